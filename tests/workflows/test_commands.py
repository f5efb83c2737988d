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
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.conftest import graph, node, wire
from tests.environment import ROOT
from workflows.models import Schedule, Workflow, WorkflowVersion

pytestmark = pytest.mark.django_db

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

    usage = shell("workflows", **here)
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
