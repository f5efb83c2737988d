"""``./flow workflows``, ``nodes`` and ``schedules`` as scripts see them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.conftest import graph, node, wire
from tests.environment import ROOT
from workflows import lifecycle, transfer
from workflows.models import Schedule, Workflow, WorkflowVersion

pytestmark = pytest.mark.django_db

VERBS = (
    "list", "show", "validate", "history", "import", "export", "templates", "activate", "publish", "pause", "resume",
    "archive", "unarchive", "delete", "versions", "diff", "restore", "clone",
)  # fmt: skip
GOOD = {"name": "shop", **graph([node("a", "delay", Duration=1)])}


def flow(*arguments: str) -> str:
    """Run a command in this process and return what it printed."""
    out, messages = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=messages)
    return out.getvalue()


@pytest.fixture
def save(tmp_path: Path) -> Any:
    def write(data: Any, name: str = "workflow.json") -> str:
        path = tmp_path / name
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return str(path)

    return write


@pytest.mark.row("S2-04")
def test_import_prints_id_and_version_and_the_same_name_is_a_new_version(alice: Any, save: Any) -> None:
    first = json.loads(flow("workflows", "import", save({**GOOD, "status": "active", "cron": "0 9 * * *"}), "--json"))
    again = json.loads(flow("workflows", "import", save({**GOOD, **graph([node("a", "delay", Duration=2)])}), "--json"))

    assert (first["name"], first["version"], first["status"], first["active_version"]) == ("shop", 1, "active", 1)
    assert again["id"] == first["id"]
    assert (again["version"], again["status"], again["active_version"]) == (2, "active", 1)
    assert Workflow.objects.get(pk=first["id"]).owner == alice


@pytest.mark.row("S2-04")
def test_the_sample_of_the_specification_makes_the_round_trip(alice: Any, sample: dict[str, Any], save: Any) -> None:
    text = flow("workflows", "import", save(sample))

    assert "Workflow Name: version 1, active, id " in text
    assert json.loads(flow("workflows", "export", "Workflow Name")) == sample
    assert list(json.loads(flow("workflows", "export", "Workflow Name"))) == list(sample)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ('{"name": "x", "nodes": [', "line 1 column"),
        ("\xff\xfe", "JSON"),
        ("[]", "a workflow is a JSON object"),
        ({"name": "x", "nodes": [{"id": "a"}]}, "nodes[0].type"),
        ({"name": "x", **graph([node("a", "nope")])}, 'node "a" has the type "nope", which does not exist'),
        ({"name": "x", **graph([node("a", "delay")])}, '"a" needs the input "Duration"'),
        (
            {
                "name": "x",
                **graph(
                    [node("a", "delay", Duration=1), node("b", "delay", Duration=1)],
                    wire("a", "Done", "b", "Execute Condition"),
                    wire("b", "Done", "a", "Execute Condition"),
                ),
            },
            '"a" -> "b" wait for each other',
        ),
        ({**GOOD, "name": ""}, "--name"),
    ],
)
def test_a_bad_file_names_the_place_and_stores_nothing(alice: Any, save: Any, data: Any, place: str) -> None:
    with pytest.raises(CommandError) as caught:
        flow("workflows", "import", save(data))

    assert place in str(caught.value)
    assert caught.value.returncode == 1
    assert Workflow.objects.count() == WorkflowVersion.objects.count() == Schedule.objects.count() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("workflows", "import", "/nowhere/x.json"), "/nowhere/x.json: No such file"),
        (("workflows", "import", "/"), "directory"),
        (("workflows", "show", "nope"), 'no workflow "nope"'),
        (("workflows", "export", "nope"), 'no workflow "nope"'),
        (("workflows", "validate", "nope.json"), "no such file"),
        (("workflows", "list", "--user", "nobody"), 'no user "nobody"'),
        (("nodes", "show", "brnch"), 'did you mean "branch"'),
    ],
)
def test_what_does_not_exist_is_named(alice: Any, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        flow(*arguments)

    assert message in str(caught.value)
    assert caught.value.returncode == 1


def test_without_a_superuser_the_message_says_what_to_do(db: None) -> None:
    with pytest.raises(CommandError, match="createsuperuser"):
        flow("workflows", "list")


def test_list_and_show(alice: Any, bob: Any, save: Any) -> None:
    assert "No workflows yet" in flow("workflows", "list")
    flow("workflows", "import", save({**GOOD, "status": "active", "cron": "0 9 * * 1-5"}))
    flow("workflows", "import", save({**GOOD, "name": "his"}), "--user", "bob")

    assert [one["name"] for one in json.loads(flow("workflows", "list", "--json"))] == ["his", "shop"]
    assert [one["name"] for one in json.loads(flow("workflows", "list", "--json", "--user", "bob"))] == ["his"]
    assert "0 9 * * 1-5 UTC" in flow("workflows", "list")
    shown = json.loads(flow("workflows", "show", "shop", "--json"))
    assert (shown["definition"]["nodes"], shown["findings"]) == (GOOD["nodes"], [])
    assert "Nothing is wrong." in flow("workflows", "show", shown["id"])


def test_validate_ends_with_one_when_there_are_errors(alice: Any, save: Any) -> None:
    assert "Nothing is wrong." in flow("workflows", "validate", save(GOOD))
    with pytest.raises(SystemExit) as caught:
        flow("workflows", "validate", save(graph([node("a", "nope")])), "--json")

    assert caught.value.code == 1


def test_export_of_an_older_version(alice: Any, save: Any) -> None:
    flow("workflows", "import", save(GOOD))
    flow("workflows", "import", save({**GOOD, **graph([node("a", "delay", Duration=2)])}))

    assert json.loads(flow("workflows", "export", "shop", "--number", "1")) == GOOD
    with pytest.raises(CommandError, match="no version 9"):
        flow("workflows", "export", "shop", "--number", "9")


def delays(seconds: int, **fields: Any) -> dict[str, Any]:
    """Return a workflow that waits."""
    return {"name": "shop", **graph([node("a", "delay", Duration=seconds)]), **fields}


def told(*arguments: str) -> Any:
    """Run a command with ``--json`` and return what it printed."""
    return json.loads(flow("workflows", *arguments, "--json"))


@pytest.mark.row("S2-02")
def test_every_move_by_name_or_id_says_where_the_workflow_stands(alice: Any, save: Any) -> None:
    made = told("import", save(delays(1)), "--message", "begun")
    told("import", save(delays(2)))
    steps = [
        (("activate", "shop", "1"), "active", 1),
        (("publish", made["id"]), "active", 2),
        (("publish", "shop", "1"), "active", 1),
        (("pause", "shop"), "paused", 1),
        (("resume", made["id"]), "active", 1),
        (("archive", "shop"), "archived", 1),
        (("unarchive", "shop"), "draft", 1),
        (("activate", "shop"), "active", 2),
    ]

    for arguments, status, runs in steps:
        shown = told(*arguments)
        assert (shown["id"], shown["status"], shown["active_version"], shown["version"]) == (
            made["id"],
            status,
            runs,
            2,
        )

    assert "shop: version 2, active, version 1 runs, id " in flow("workflows", "publish", "shop", "1")
    with pytest.raises(CommandError, match="is active; it cannot be resumed") as caught:
        flow("workflows", "resume", "shop")
    assert caught.value.returncode == 1
    with pytest.raises(CommandError, match="has no version 9"):
        flow("workflows", "activate", "shop", "9")


@pytest.mark.row("S2-11")
def test_versions_are_listed_compared_and_restored(alice: Any, save: Any) -> None:
    told("import", save(delays(1, status="active")), "--message", "begun")
    assert "version 1 -> version 1: nothing differs" in flow("workflows", "diff", "shop")
    told("import", save(delays(2)))

    assert [(one["number"], one["message"], one["author"], one["runs"], one["newest"]) for one in told("versions", "shop")] == [
        (2, "imported", "alice", False, True), (1, "begun", "alice", True, False)
    ]  # fmt: skip
    shown = told("diff", "shop")
    assert (shown["old"], shown["new"], shown["same"]) == ("version 1", "version 2", False)
    assert shown["changed"][0]["changes"][0] | {"path": None} == {
        "path": None, "field": "Duration", "change": "changed", "before": 1, "after": 2
    }  # fmt: skip
    assert "~ Duration: 2 -> 1" in flow("workflows", "diff", "shop", "2", "1")
    assert told("restore", "shop", "1")["version"] == 3
    assert told("diff", "shop", "1", "3")["same"]
    assert not told("diff", "shop", "2")["same"]
    assert "restored from version 1" in flow("workflows", "versions", "shop")


def test_diff_with_a_file_and_an_exit_code(alice: Any, save: Any) -> None:
    told("import", save(delays(1)))
    same, other = save(delays(1), "same.json"), save(delays(1, cron="0 9 * * *"), "other.json")

    assert "nothing differs" in flow("workflows", "diff", "shop", "--file", same, "--exit-code")
    assert '+ cron: "0 9 * * *"' in flow("workflows", "diff", "shop", "--file", other)
    with pytest.raises(SystemExit) as differs:
        flow("workflows", "diff", "shop", "1", "--file", other, "--exit-code")
    assert differs.value.code == 1
    for arguments, code, reason in (
        ((), 1, "no version of workflow .shop. runs yet"),
        (("1", "1", "--file", other), 2, "not to both"),
        (("1", "4"), 1, "has no version 4"),
        (("--file", save("{}", "empty.json")), 1, "nodes: the list of nodes is missing"),
    ):
        with pytest.raises(CommandError, match=reason) as caught:
            flow("workflows", "diff", "shop", *arguments)
        assert caught.value.returncode == code


def test_clone_and_delete(alice: Any, save: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told("import", save(delays(1, status="active", cron="0 9 * * *")))

    assert told("clone", "shop")["name"] == "shop (copy)"
    assert told("clone", "shop", "--name", "stall", "--number", "1")["status"] == "draft"
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(CommandError, match="say --yes") as caught:
        flow("workflows", "delete", "stall")
    assert caught.value.returncode == 2
    assert told("delete", "stall", "--yes")["deleted"]
    assert [one["name"] for one in told("list")] == ["shop", "shop (copy)"]
    assert [one["name"] for one in told("list", "--status", "draft")] == ["shop (copy)"]
    assert "No workflow is paused." in flow("workflows", "list", "--status", "paused")


@pytest.mark.row("S2-02")
def test_the_history_says_who_did_what_on_the_command_line(alice: Any, bob: Any, save: Any) -> None:
    told("import", save(delays(1, status="active")), "--user", "bob")
    told("pause", "shop")
    told("import", save(delays(1, name="other")))

    shown = told("history", "shop")
    assert [(one["verb"], one["who"], one["door"]) for one in shown] == [
        ("pause", "alice", "command"), ("activate", "bob", "command"), ("import", "bob", "command"),
        ("save", "bob", "command"), ("create", "bob", "command"),
    ]  # fmt: skip
    assert "command" in flow("workflows", "history", "shop", "--limit", "1")
    assert len(told("history", "--limit", "6")) == 6
    assert {one["workflow"] for one in told("history", "--user", "bob")} == {"shop"}
    with pytest.raises(CommandError, match="--limit must be"):
        flow("workflows", "history", "--limit", "0")


def test_who_may_only_look_changes_nothing(alice: Any, bob: Any, save: Any) -> None:
    told("import", save(delays(1, status="active")))
    bob.user_permissions.add(Permission.objects.get(codename="see_everything"))

    assert told("show", "shop", "--user", "bob")["status"] == "active"
    for arguments in (("pause",), ("activate",), ("publish",), ("archive",), ("delete", "--yes"), ("restore", "1")):
        with pytest.raises(CommandError, match="belongs to alice; you may see it, but not change it"):
            flow("workflows", arguments[0], "shop", *arguments[1:], "--user", "bob")

    assert told("clone", "shop", "--user", "bob")["name"] == "shop (copy)"
    assert Workflow.objects.get(owner=alice).status == "active"


def test_a_workflow_can_begin_from_a_template(alice: Any) -> None:
    templates = told("templates")
    assert {one["template"] for one in templates} == {*transfer.examples()}
    assert "demo-shop-http" in flow("workflows", "templates")
    assert next(one for one in templates if one["template"] == "admin-tasks")["credentials"] == ["admin-login"]

    made = told("import", "--template", "demo-shop-http", "--name", "mine")
    mapped = told("import", "--template", "admin-tasks", "--credential", "admin-login=own")

    assert (made["name"], made["status"], made["version"]) == ("mine", "draft", 1)
    assert told("versions", "mine")[0]["message"] == "from the template demo-shop-http"
    assert [one["name"] for one in told("export", mapped["id"])["requires"]] == ["own"]
    for arguments, reason in (
        (("--template", "nope"), "there is no template .nope.; there are: .*demo-shop"),
        (("--template", "demo-shop-http", "--name", "mine"), "already; give the new one a --name"),
        ((), "name a FILE or a --template"),
        (("--template", "admin-tasks", "--name", "x", "--credential", "own"), "must be PLACEHOLDER=NAME"),
    ):
        with pytest.raises(CommandError, match=reason):
            flow("workflows", "import", *arguments)


def test_show_says_why_a_workflow_was_paused(alice: Any, save: Any) -> None:
    told("import", save(delays(1, status="active")))
    lifecycle.pause(Workflow.objects.get(), "3 runs in a row failed")

    assert "UTC: 3 runs in a row failed" in flow("workflows", "show", "shop")
    assert told("show", "shop")["status_reason"] == "3 runs in a row failed"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_with_examples_and_prints_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call_command("workflows", verb, "--help")

    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"examples:\n  ./flow workflows {verb}" in text
    assert "--json" in text


def test_nodes(db: None) -> None:
    listed = json.loads(flow("nodes", "list", "--json"))
    shown = json.loads(flow("nodes", "show", "delay", "--json"))

    assert "delay" in {one["type"] for one in listed}
    assert {"Duration", "Execute Condition"} <= {port["name"] for port in shown["inputs"]}
    assert {"Done"} <= {port["name"] for port in shown["outputs"]}
    assert {"type", "required", "default"} <= set(shown["inputs"][0])
    assert shown["credits"] == 1
    assert "Duration" in flow("nodes", "show", "delay")
    assert "Delay" in flow("nodes", "list")


def test_schedules(alice: Any, save: Any) -> None:
    assert "No workflow has a schedule" in flow("schedules", "list")
    flow("workflows", "import", save({**GOOD, "status": "active", "cron": "0 9 * * 1-5"}))

    assert json.loads(flow("schedules", "list", "--json"))[0]["workflow"] == "shop"
    assert "0 9 * * 1-5" in flow("schedules", "list")
    text = flow("schedules", "preview", "30 2 * * *", "--tz", "Asia/Kolkata", "--count", "2")
    assert "Every day at 02:30" in text
    assert text.count("21:00 UTC") == 2
    assert text.count("02:30 IST") == 2
    with pytest.raises(SystemExit):
        flow("schedules", "preview", "0 9 * *")
    with pytest.raises(CommandError, match="--count"):
        flow("schedules", "preview", "0 9 * * *", "--count", "0")


@pytest.mark.parametrize(
    ("command", "verb"),
    [
        ("alerts", "ack"), ("credentials", "kinds"), ("credits", "show"), ("executions", "run"), ("nodes", "list"),
        ("recordings", "replay"), ("schedules", "preview"), ("tokens", "create"), ("workflows", "import"),
    ],
)  # fmt: skip
def test_without_a_verb_the_help_is_shown(command: str, verb: str) -> None:
    shown = flow(command)

    assert shown.startswith(f"usage: ./flow {command}")
    assert f"    {verb} " in shown


def shell(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person does, in its own process."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_on_the_command_line_errors_are_one_line_and_usage_is_two(tmp_path: Path) -> None:
    here = {"FLOWBUILDER_DATA_DIR": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path / 'x.sqlite3'}"}

    usage = shell("workflows", "lst", **here)
    unknown = shell("nodes", "show", "nope", **here)
    empty = shell("workflows", "list", **here)
    preview = shell("schedules", "preview", "*/2 * * * *", "--json", **here)
    helped = shell("workflows", "import", "--help", **here)

    assert usage.returncode == 2
    assert "usage: ./flow workflows" in usage.stderr
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith('error: there is no node type "nope"')
    assert unknown.stderr.count("\n") == 1
    assert empty.returncode == 3
    assert "run ./flow migrate or ./flow up" in empty.stderr
    assert preview.returncode == 1
    assert "the minimum is 5 minutes" in json.loads(preview.stdout)["error"]
    assert helped.returncode == 0
    assert "examples:\n  ./flow workflows import" in helped.stdout
    assert "\x1b[" not in helped.stdout + unknown.stderr
