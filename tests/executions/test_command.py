"""``./flow executions``: what it prints, what it refuses and with which exit code."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from executions.models import Execution, NodeRun, WorkerLease
from executions.store import database_now_us
from executions.triggers import start_execution
from tests.conftest import graph, node, test_environment, wait_for, wire
from tests.environment import ROOT
from tests.executions.edge_nodes import run_here
from workflows.policy import PRIORITIES

pytestmark = [pytest.mark.django_db(transaction=True)]

RESULT_KEYS = {"execution_id", "status", "duration_ms", "credits", "phases", "nodes", "outputs", "recording_id"}
NODE_KEYS = {"node_id", "type", "status", "attempt", "duration_ms", "error"}


def call(*arguments: str) -> tuple[str, str, int]:
    """Call the command in this process; return what it wrote to stdout and stderr, and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("executions", *arguments, stdout=out, stderr=err)
    except CommandError as error:
        return out.getvalue(), str(error), error.returncode
    except SystemExit as end:
        return out.getvalue(), err.getvalue(), int(end.code or 0)
    return out.getvalue(), err.getvalue(), 0


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start ``./flow executions`` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "manage.py", "executions", *arguments],
        cwd=ROOT, env=test_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, preexec_fn=_hear_interrupts, **options,
    )  # fmt: skip


def _hear_interrupts() -> None:
    """Undo what a shell does to whatever it runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments: str) -> tuple[str, str, int]:
    """Run ``./flow executions`` to its end."""
    process = start(*arguments)
    out, err = process.communicate(timeout=60)
    return out, err, process.returncode


@pytest.fixture
def sums(make_workflow: Any) -> Any:
    """A workflow of two phases whose result can be checked by eye."""
    definition = graph(
        [
            node("first", "json_transform", Input_JSON={"a": 1}, Transform_Rules={"twice": "$.a"}),
            node("second", "delay", Duration=0),
        ],
        wire("first", "Done", "second", "Execute Condition"),
    )
    return make_workflow(definition, name="sums")


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("run", "nothing"), 'no workflow', 1),
        (("run", "sums", "--input", "{"), "not JSON", 2),
        (("run", "sums", "--input", "[" * 100_000), "nested deeper", 2),
        (("run", "sums", "--input", "[1]"), "must be a JSON object", 2),
        (("run", "sums", "--input", "@/nowhere.json"), "cannot be read", 2),
        (("run", "sums", "--version", "new"), '"draft"', 2),
        (("run", "sums", "--user", "nobody"), 'no user "nobody"', 1),
        (("show", "nonsense"), 'no execution "nonsense"', 1),
        (("show", str(uuid.uuid4())), "no execution", 1),
        (("cancel", str(uuid.uuid4())), "no execution", 1),
        (("list", "--limit", "0"), "--limit", 2),
        (("list", "--workflow", "nothing"), "no workflow", 1),
    ],
)  # fmt: skip
def test_a_refusal_names_what_is_wrong_and_stores_nothing(sums, arguments, says, code):
    _out, error, status = call(*arguments)

    assert (status, says in error) == (code, True), error
    assert not Execution.objects.exists()


def test_an_unknown_workflow_is_one_line_on_stderr_and_exit_code_1(sums):
    out, error, code = run("run", "nothing")

    assert (out, code) == ("", 1)
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1


# ------------------------------------------------------------------ looking


def test_list_and_show_tell_about_executions_of_the_user(sums, alice, bob):
    now = datetime.now(UTC)
    execution = Execution.objects.create(
        workflow=sums, version=sums.version, owner=alice, trigger="manual", status="failed", node_count=2, credits=1,
        queued_at=now, finished_at=now + timedelta(milliseconds=1500), error="no such button", error_node="second",
    )  # fmt: skip
    NodeRun.objects.create(
        execution=execution, phase_index=0, node_index=0, node_id="first", node_type="json_transform",
        status="completed", attempt=1, outputs='{"Result": 1}', started_at=now, finished_at=now,
    )  # fmt: skip

    listed = json.loads(call("list", "--json")[0])
    shown = json.loads(call("show", str(execution.pk), "--json")[0])

    assert [(item["id"], item["status"]) for item in listed] == [(str(execution.pk), "failed")]
    assert set(shown) >= RESULT_KEYS
    assert (shown["duration_ms"], shown["error"], shown["outputs"]) == (
        1500,
        "no such button",
        {"first": {"Result": 1}},
    )
    assert "no such button" in call("list")[0]
    assert "1.5 s" in call("show", str(execution.pk))[0]
    assert json.loads(call("list", "--json", "--user", "bob")[0]) == []
    assert call("show", str(execution.pk), "--user", "bob")[2] == 1
    assert json.loads(call("list", "--json", "--status", "completed")[0]) == []


def test_an_empty_list_says_what_to_do_next(alice):
    assert "./flow executions run" in call("list")[0]


def test_cancel_stops_what_runs_and_refuses_what_has_ended(sums, alice):
    execution = Execution.objects.create(
        workflow=sums, version=sums.version, owner=alice, trigger="manual", status="queued", queued_at=datetime.now(UTC)
    )

    assert json.loads(call("cancel", str(execution.pk), "--json")[0])["status"] == "cancelled"
    _out, error, code = call("cancel", str(execution.pk))
    assert (code, "nothing to cancel" in error) == (1, True)


# ------------------------------------------------------------------ running, with a real worker


def test_retry_runs_again_what_failed_and_what_follows_or_all_of_it(make_workflow, alice, bob):
    broken = node("broken", "stop_and_error", Message="no")
    workflow = make_workflow(
        graph(
            [node("fine", "merge_data", Data_1={}, Data_2={}), broken],
            wire("fine", "Done", "broken", "Execute Condition"),
        )
    )
    execution = start_execution(workflow, by=alice)
    refused = call("retry", str(execution.pk), "--user", "alice")
    run_here(execution.pk)

    text, _, code = call("retry", str(execution.pk), "--user", "alice")
    printed, _, _ = call("retry", str(execution.pk), "--whole", "--json", "--user", "alice")

    assert (refused[0], refused[2]) == ("", 1)
    assert "has not ended" in refused[1] or "queued" in refused[1], refused[1]
    assert code == 0
    first, second = Execution.objects.filter(retry_of=execution).order_by("queued_at")
    assert text == f"execution {execution.pk} runs again as {first.pk}\n"
    assert json.loads(printed) == {
        "execution_id": str(second.pk), "status": "queued", "retry_of_id": str(execution.pk),
    }  # fmt: skip
    assert list(first.node_runs.values_list("node_id", flat=True)) == ["fine"]
    assert not second.node_runs.exists()
    assert json.loads(call("show", str(first.pk), "--json", "--user", "alice")[0])["retry_of_id"] == str(execution.pk)
    assert call("retry", str(execution.pk), "--user", "bob")[2] == 1


@pytest.mark.redis
@pytest.mark.worker
def test_run_prints_one_json_object_and_the_log_on_stderr(sums, processes):
    processes.worker()

    out, error, code = run("run", "sums", "--follow", "--json", "--input", '{"n": 1}')

    assert code == 0, error + processes.logs()
    result = json.loads(out)
    assert set(result) >= RESULT_KEYS
    assert all(set(item) >= NODE_KEYS for item in result["nodes"])
    assert (result["status"], result["phases"]) == ("completed", 2)
    assert [(item["node_id"], item["status"], item["attempt"]) for item in result["nodes"]] == [
        ("first", "completed", 1),
        ("second", "completed", 1),
    ]
    assert result["outputs"]["first"]["Result"] == {"twice": 1}
    assert set(result["outputs"]) == {"first", "second"}
    execution = Execution.objects.get(pk=result["execution_id"])
    assert (execution.input, execution.duration_ms) == ('{"n":1}', result["duration_ms"])
    assert result["recording_id"]
    lines = error.splitlines()
    assert "Execution started" in error
    assert "Execution completed" in lines[-1]
    assert sum("first started" in line or "started" in line for line in lines) >= 3


@pytest.mark.redis
@pytest.mark.worker
def test_a_paused_workflow_is_run_by_hand_and_a_note_says_so(sums, processes):
    sums.pause()
    processes.worker()

    out, error, code = run("run", "sums", "--json")

    assert (code, json.loads(out)["status"]) == (0, "completed"), error
    assert 'Workflow "sums" is paused: it runs because you ask' in error
    assert Execution.objects.get().trigger == "manual"


@pytest.mark.redis
@pytest.mark.worker
def test_run_fails_with_exit_code_1_when_the_workflow_does(make_workflow, processes):
    make_workflow(
        graph([node("bad", "json_transform", Input_JSON={"a": 1}, Transform_Rules={"x": "$..["})]), name="broken"
    )
    processes.worker()

    out, error, code = run("run", "broken", "--follow")

    assert code == 1, error
    assert "failed" in out
    assert "bad" in out


@pytest.mark.redis
@pytest.mark.worker
def test_ctrl_c_leaves_the_execution_running_and_exits_with_130(make_workflow, processes):
    make_workflow(graph([node("wait", "delay", Duration=20)]), name="long")
    processes.worker()
    process = start("run", "long", "--follow", start_new_session=True)
    assert process.stdout is not None
    assert "Execution started" in process.stdout.readline(), "it follows the log"

    os.killpg(process.pid, signal.SIGINT)
    _out, error = process.communicate(timeout=20)

    execution = Execution.objects.get()
    assert process.returncode == 130, error
    assert f"./flow executions cancel {execution.pk}" in error
    assert execution.status == "running"
    assert call("cancel", str(execution.pk))[2] == 0
    wait_for(lambda: Execution.objects.get().is_terminal, 15, "the cancellation", processes.logs)


@pytest.mark.redis
@pytest.mark.worker
def test_input_may_come_from_a_file_and_version_and_priority_may_be_chosen(sums, processes, tmp_path: Path):
    sums.save_version(graph([node("only", "delay", Duration=0)]), author=sums.owner)
    (tmp_path / "input.json").write_text('{"from": "file"}')
    processes.worker()

    file = f"@{tmp_path}/input.json"
    out, error, code = run("run", str(sums.pk), "--version", "draft", "--input", file, "--priority", "high", "--json")

    assert code == 0, error
    assert [item["node_id"] for item in json.loads(out)["nodes"]] == ["only"]
    execution = Execution.objects.get()
    assert (execution.input, execution.priority) == ('{"from":"file"}', PRIORITIES["high"])


# ------------------------------------------------------------------ pausing, resuming, deciding


@pytest.fixture
def asking(alice, make_workflow):
    """Return an execution that waits for an approval in each of two turns of a loop, and for one outside."""
    nodes = [
        node("ask", "approval", Title="Ship it?", Timeout=3600),
        node("loop", "loop_items", Items=["a", "b"], Max_Concurrency=2),
        node("turn", "approval", Title="{{ item }}?"),
    ]
    definition = graph(nodes, wire("loop", "Each", "turn", "Execute Condition"))
    return run_here(start_execution(make_workflow(definition, name="asks"), by=alice).pk)


def test_show_tells_what_is_waited_for_and_lists_the_children(asking):
    data = json.loads(call("show", str(asking.pk), "--json")[0])
    text = " ".join(call("show", str(asking.pk))[0].split())

    assert [(wait["node_id"], wait["kind"], wait["total"]) for wait in data["waiting"]] == [
        ("ask", "approval", None),
        ("loop", "children", 2),
    ]
    assert [(child["node_id"], child["index"], child["status"]) for child in data["children"]] == [
        ("loop", 0, "waiting"),
        ("loop", 1, "waiting"),
    ]
    assert "ask waits for approval until 20" in text
    assert f': "Ship it?" {settings.PUBLIC_URL}{data["waiting"][0]["link"]}' in text
    assert "loop waits for 2 of 2 child executions" in text
    assert f"{data['children'][1]['id']} loop turn 2 waiting" in text


def test_children_are_listed_only_when_asked_for(asking):
    listed = lambda *more: [item["id"] for item in json.loads(call("list", "--json", *more)[0])]  # noqa: E731

    assert listed() == [str(asking.pk)]
    assert len(listed("--children")) == 3


def test_pause_and_resume_do_so_once(asking):
    name = str(asking.pk)

    assert json.loads(call("pause", name, "--json")[0]) == {"execution_id": name, "status": "paused"}
    _out, error, code = call("pause", name)
    assert (code, "is paused; only a running or waiting" in error) == (1, True)
    assert "is resumed" in call("resume", name)[0]
    _out, error, code = call("resume", name)
    assert (code, "is waiting; only a paused" in error) == (1, True)


@pytest.mark.parametrize(("verb", "approved"), [("approve", True), ("reject", False)])
def test_a_decision_is_taken_once_with_its_comment(asking, alice, verb, approved):
    name = str(asking.pk)

    out, error, code = call(verb, name, "ask", "--comment", "as discussed", "--json")
    assert (code, json.loads(out)) == (0, {"execution_id": name, "node_id": "ask", "approved": approved}), error
    answer = json.loads(NodeRun.objects.get(execution=asking, node_id="ask").resume)
    assert (answer["approved"], answer["comment"], answer["by"]) == (approved, "as discussed", alice.get_username())
    _out, error, code = call(verb, name, "ask")
    assert (code, "does not wait for an approval; no node does" in error) == (1, True)


def test_a_wrong_node_is_answered_with_those_that_ask(asking):
    _out, error, code = call("approve", str(asking.pk), "loop")

    assert (code, "those that do: ask" in error) == (1, True)


def test_executions_of_others_are_not_there(asking, bob):
    for verb in (["pause"], ["resume"], ["approve", "ask"]):
        _out, error, code = call(verb[0], str(asking.pk), *verb[1:], "--user", bob.get_username())
        assert (code, "there is no execution" in error) == (1, True)


def test_workers_are_listed_with_what_they_do_and_when_they_were_heard():
    now = database_now_us()
    common = {"hostname": "host-a", "started_at": datetime(2026, 11, 22, 8, tzinfo=UTC)}
    WorkerLease.objects.create(
        boot="b1", pid=11, queues="control,default,browser", slots=8, busy=3, pages=7, chromium_starts=2, beat_at=now,
        disk_percent=41.6, **common,
    )  # fmt: skip
    WorkerLease.objects.create(boot="b2", pid=12, queues="beat", beat_at=now - 3_700_000_000, **common)

    shown, found = call("workers")[0], json.loads(call("workers", "--json")[0])

    assert [(item["pid"], item["queues"], item["busy"], item["slots"]) for item in found] == [
        (11, ["control", "default", "browser"], 3, 8),
        (12, ["beat"], 0, 0),
    ]
    assert found[0]["silent_seconds"] < 600 <= 3600 <= found[1]["silent_seconds"]
    assert (found[0]["disk_percent"], found[0]["memory_percent"]) == (41.6, None)
    assert "3 of 8" in shown
    assert "42 %" in shown
    assert "1 h ago" in shown


def test_no_worker_is_said_in_words():
    assert call("workers")[0].strip() == "no worker is alive; ./flow up starts one"
    assert json.loads(call("workers", "--json")[0]) == []
