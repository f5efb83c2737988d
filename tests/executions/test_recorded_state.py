"""What a recording says of a run is what its node runs say, whoever reads it and wherever it is kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions.models import Execution
from executions.triggers import start_execution
from recordings.database import purge_rows, seal
from recordings.models import Event, Recording
from tests.conftest import graph, node, outputs, statuses, test_environment, wait_for, wait_until_ended, wire
from tests.environment import ROOT
from tests.executions import worker_app
from tests.executions.test_engine import transform

pytestmark = [pytest.mark.worker, pytest.mark.redis, pytest.mark.postgres]

APP = "tests.executions.worker_app"
READ = """
import json
from recordings.database import open_replayer
replayer = open_replayer({id!r})
print(json.dumps([[e.seq, e.event_type.value, e.node_id, replayer.get_state_at_event(e.event_id)] for e in replayer.events]))
"""


def states_read_elsewhere(recording):
    """Return (seq, type, node, state) of every event, read by another process."""
    result = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", READ.format(id=str(recording.pk))],
        env=test_environment(), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def assert_states_equal_node_runs(execution, rows):
    """At every event, the nodes that completed so far have exactly the outputs of their node runs, the failed their error."""
    runs = {run.node_id: run for run in execution.node_runs.all()}
    completed, failed = {}, {}
    for seq, kind, node_id, state in rows:
        if kind == "node_complete":
            completed[node_id] = outputs(execution, node_id)
            assert runs[node_id].status == "completed"
        if kind == "node_error":
            failed[node_id] = runs[node_id].error
            assert runs[node_id].status == "failed"
        assert state.get("$nodes", {}) == completed, f"event {seq}"
        assert {
            key: value["error"] if isinstance(value, dict) else value for key, value in state.get("$errors", {}).items()
        } == failed, f"event {seq}"
        for values in completed.values():
            assert set(values) <= set(state)
    assert set(completed) == {name for name, run in runs.items() if run.status == "completed"}
    assert set(failed) == {name for name, run in runs.items() if run.status == "failed"}
    skipped = {node_id for _, kind, node_id, _ in rows if kind == "node_skipped"}
    assert skipped == {name for name, run in runs.items() if run.status in ("skipped", "cancelled")}


@pytest.mark.row("S0-29")
@pytest.mark.row("S0-43")
def test_state_at_every_event_of_a_run_that_failed_retried_skipped_and_was_killed(
    processes, alice, make_workflow, tmp_path
):
    assert worker_app.Flaky.description.type == "test_flaky"
    interval, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    PeriodicTask.objects.get_or_create(name="Reconcile", task="executions.reconcile", interval=interval)
    waits = [node(f"wait{n}", "delay", Duration=1) for n in range(9)]
    workflow = make_workflow(
        graph(
            [
                transform("first", big="x" * 40_000),
                node("flaky", "test_flaky", {"retries": 3, "backoff_s": 0.2}, Succeeds_On=2),
                node("tolerated", "test_flaky", {"on_error": "continue"}, Succeeds_On=9),
                node("check", "branch", Left_Value="1", Operator="equals", Right_Value="2"),
                transform("not taken", a=1),
                *waits,
                node("fatal", "test_flaky", {"retries": 1, "backoff_s": 0.1}, Succeeds_On=9),
                transform("never", a=1),
            ],
            wire("first", "Done", "flaky", "Execute Condition"),
            wire("first", "Done", "tolerated", "Execute Condition"),
            wire("flaky", "Done", "check", "Execute Condition"),
            wire("check", "True Path", "not taken", "Execute Condition"),
            *[wire("check", "Done", wait["id"], "Execute Condition") for wait in waits],
            wire("wait0", "Done", "fatal", "Execute Condition"),
            wire("fatal", "Done", "never", "Execute Condition"),
        )
    )
    flag = tmp_path / "armed"
    flag.touch()
    doomed = processes.worker(APP, FLOWBUILDER_FAILPOINT=f"after-claim:{flag}")
    execution = start_execution(workflow, owner=alice)
    wait_for(lambda: doomed.poll() == -signal.SIGKILL, 20, "the death of the worker", processes.logs)
    processes.worker(APP)
    processes.beat(APP)
    wait_until_ended(execution, 40, processes.logs)
    assert (execution.status, execution.error_node) == ("failed", "fatal")
    assert statuses(execution)["not taken"] == "skipped"
    assert execution.node_runs.get(node_id="flaky").attempt == 2

    recording = Recording.objects.get(execution_id=execution.pk)
    before = states_read_elsewhere(recording)
    assert_states_equal_node_runs(execution, before)

    if not recording.sealed:
        seal(recording)
    recording.refresh_from_db()
    assert recording.sealed
    purge_rows(recording, 100_000)
    assert not Event.objects.filter(execution_id=execution.pk).exists()
    assert states_read_elsewhere(recording) == before


@pytest.mark.row("S0-01")
@pytest.mark.row("S0-37")
def test_every_ended_execution_has_a_recording_without_any_user_code(processes, alice, make_workflow):
    workflow = make_workflow(graph([transform("a", x=1), transform("b", x=2), transform("c", x=3)]))
    processes.worker()

    execution = wait_until_ended(start_execution(workflow, owner=alice), detail=processes.logs)

    assert Execution.objects.count() == Recording.objects.count() == 1
    starts = Event.objects.filter(execution_id=execution.pk, type="node_start")
    assert {start.node_id for start in starts} == {"a", "b", "c"}
    assert all("inputs" in json.loads(start.data) for start in starts)
