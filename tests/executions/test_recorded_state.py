"""What a recording says of a run is what its node runs say, whoever reads it and wherever it is kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions.models import Execution
from executions.triggers import start_execution
from recordings.models import Event, Recording
from recordings.packing import purge_rows, seal
from recordings.rows import iter_events
from tests.conftest import graph, node, outputs, statuses, test_environment, wait_for, wait_until_ended, wire
from tests.environment import ROOT
from tests.executions import worker_app
from tests.executions.snapshots import assert_snapshots
from tests.executions.test_capture import assert_balanced
from tests.executions.test_engine import transform

pytestmark = [pytest.mark.worker, pytest.mark.redis, pytest.mark.postgres]

APP = "tests.executions.worker_app"
READ = """
import json
from recordings.finding import open_replayer
def states(replayer):
    return [[e.seq, e.event_type.value, e.node_id, replayer.get_state_at_event(e.event_id)] for e in replayer.events]
print(json.dumps([states(open_replayer(id)) for id in {ids!r}]))
"""


def states_read_elsewhere(*recordings):
    """Return (seq, type, node, state) of every event of each recording, read by another process."""
    ids = [str(recording.pk) for recording in recordings]
    result = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", READ.format(ids=ids)],
        env=test_environment(), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def seal_and_purge(recording):
    """Leave nothing of a recording but its sealed file."""
    if not recording.sealed:
        seal(recording)
    recording.refresh_from_db()
    assert recording.sealed
    purge_rows(recording, 100_000)
    assert not Event.objects.filter(execution_id=recording.execution_id).exists()


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


@pytest.mark.row("S0-04")
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
    execution = start_execution(workflow, by=alice)
    wait_for(lambda: doomed.poll() == -signal.SIGKILL, 20, "the death of the worker", processes.logs)
    processes.worker(APP)
    processes.beat(APP)
    wait_until_ended(execution, 40, processes.logs)
    assert (execution.status, execution.error_node) == ("failed", "fatal")
    assert statuses(execution)["not taken"] == "skipped"
    assert execution.node_runs.get(node_id="flaky").attempt == 2

    recording = Recording.objects.get(execution_id=execution.pk)
    assert_snapshots(execution)
    [before] = states_read_elsewhere(recording)
    assert_states_equal_node_runs(execution, before)

    seal_and_purge(recording)
    assert states_read_elsewhere(recording) == [before]


@pytest.mark.row("S0-01")
@pytest.mark.row("S0-37")
def test_every_ended_execution_has_a_recording_without_any_user_code(processes, alice, make_workflow):
    workflow = make_workflow(graph([transform("a", x=1), transform("b", x=2), transform("c", x=3)]))
    processes.worker()

    execution = wait_until_ended(start_execution(workflow, by=alice), detail=processes.logs)

    assert Execution.objects.count() == Recording.objects.count() == 1
    starts = Event.objects.filter(execution_id=execution.pk, type="node_start")
    assert {start.node_id for start in starts} == {"a", "b", "c"}
    assert all("inputs" in json.loads(start.data) for start in starts)


def assert_attempts_are_recorded(execution):
    """Every attempt of a node run has its start, every attempt but the last the event that says why it was repeated."""
    for run in execution.node_runs.exclude(attempt=0):
        events = Event.objects.filter(execution_id=execution.pk, node_id=run.node_id).order_by("seq")
        starts = [json.loads(event.data)["attempt"] for event in events if event.type == "node_start"]
        retries = [json.loads(event.data)["attempt"] for event in events if event.type == "node_retry"]
        assert set(starts) == set(range(1, run.attempt + 1)), run.node_id
        assert retries == list(range(1, run.attempt)), run.node_id


def _was_killed(process):
    return process.poll() == -signal.SIGKILL


@pytest.mark.timeout(240)
@pytest.mark.row("S0-04")
@pytest.mark.row("S0-43")
def test_loops_subflows_and_retries_are_recorded_as_they_ran_although_workers_were_killed(
    processes, alice, make_workflow, tmp_path
):
    interval, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    PeriodicTask.objects.get_or_create(name="Reconcile", task="executions.reconcile", interval=interval)
    flaky = {"retries": 3, "backoff_s": 0.1}
    make_workflow(
        graph([transform("deep", seen="{{ input.item }}"), node("deep flaky", "test_flaky", flaky, Succeeds_On=2)]),
        name="inner",
    )
    workflow = make_workflow(
        graph(
            [
                node("flaky", "test_flaky", flaky, Succeeds_On=3),
                node("loop", "loop_items", Items=["a", "b"], Max_Concurrency=2),
                node("turn", "test_flaky", flaky, Succeeds_On=2),
                node("sub", "subflow", Workflow="inner", Inputs={"item": "{{ nodes.loop.Item }}"}),
                transform("end", a=1),
            ],
            wire("flaky", "Done", "loop", "Execute Condition"),
            wire("loop", "Each", "turn", "Execute Condition"),
            wire("turn", "Done", "sub", "Execute Condition"),
            wire("loop", "Done", "end", "Execute Condition"),
        )
    )
    armed = tmp_path / "armed"
    armed.mkdir()
    for point in ("mid-node", "retry-committed"):
        (armed / point).touch()
    execution = start_execution(workflow, by=alice)
    processes.beat(APP)
    for _ in range(2):
        doomed = processes.worker(APP, FLOWBUILDER_FAILPOINT=f"*:{armed}")
        wait_for(partial(_was_killed, doomed), 25, "the death of a worker", processes.logs)
    assert sorted(path.name for path in armed.iterdir()) == ["mid-node.reached", "retry-committed.reached"]
    processes.worker(APP)
    wait_until_ended(execution, 60, processes.logs)

    assert execution.status == "completed", execution.error
    everyone = list(Execution.objects.all())
    assert sorted(one.depth for one in everyone) == [0, 1, 1, 2, 2]
    assert Event.objects.filter(type="recovered").exists()
    recordings = {one.pk: Recording.objects.get(execution_id=one.pk) for one in everyone}
    before = states_read_elsewhere(*recordings.values())
    for one, rows in zip(everyone, before, strict=True):
        assert [row[0] for row in rows] == list(range(1, one.seq + 1))
        assert_states_equal_node_runs(one, rows)
        assert_attempts_are_recorded(one)
        assert_balanced(one)
        assert_snapshots(one)
    for recording in recordings.values():
        seal_and_purge(recording)
    assert states_read_elsewhere(*recordings.values()) == before


@pytest.mark.row("S0-42")
def test_twenty_executions_on_four_workers_each_keep_their_own_events(processes, alice, make_workflow):
    workflow = make_workflow(
        graph(
            [
                transform("first", token="{{ input.token }}"),
                *[node(f"heavy{n}", "test_heavy", Read="{{ input.token }}") for n in range(3)],
                node("loop", "loop_items", Items=["{{ input.token }}"]),
                transform("turn", item="{{ nodes.loop.Item }}"),
            ],
            *[wire("first", "Done", f"heavy{n}", "Execute Condition") for n in range(3)],
            wire("heavy0", "Done", "loop", "Execute Condition"),
            wire("loop", "Each", "turn", "Execute Condition"),
        )
    )
    for _ in range(4):
        processes.worker(APP)
    tokens = [f"token-{number:02}-{'y' * (number + 1)}." for number in range(20)]
    executions = [start_execution(workflow, by=alice, input={"token": token}) for token in tokens]
    for execution in executions:
        wait_until_ended(execution, 60, processes.logs)

    pids = set()
    for execution, token in zip(executions, tokens, strict=True):
        assert execution.status == "completed", execution.error
        pids |= set(execution.node_runs.exclude(worker="").values_list("worker", flat=True))
        family = [execution, *execution.children.all()]
        assert len(family) == 2
        for one in family:
            events = list(iter_events(one.pk))
            assert [event.seq for event in events] == list(range(1, one.seq + 1))
            assert {event.workflow_id for event in events} == {str(one.pk)}
            text = json.dumps([event.data for event in events])
            assert token in text
            assert not [other for other in tokens if other != token and other in text]
            ends = {
                event.node_id: event.data["outputs"] for event in events if event.event_type.value == "node_complete"
            }
            assert ends == {name: outputs(one, name) for name in statuses(one)}
        starts = [event for event in iter_events(execution.pk) if event.event_type.value == "node_start"]
        assert any(event.data["queued_seconds"] > 0 for event in starts), "no node was taken from the queue"
    assert len(pids) == 4, "not every worker ran nodes"
