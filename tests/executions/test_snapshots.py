"""Every execution keeps the state at the end of each phase, without storing a value twice."""

from __future__ import annotations

import json

import pytest

from executions.models import Execution, NodeRun
from executions.triggers import cancel_execution, start_execution
from monitoring.wire import frame_type
from recordings.events import execution_log
from recordings.models import Event
from tests.conftest import graph, node, wait_for, wait_until_ended, wire
from tests.executions import worker_app
from tests.executions.snapshots import assert_snapshots
from tests.executions.test_engine import events_of, transform

APP = worker_app.__name__


@pytest.mark.row("S0-04")
@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.postgres
def test_every_phase_ends_with_a_snapshot_however_the_run_went(processes, alice, make_workflow, tmp_path):
    waits = [node(f"wait{n}", "delay", Duration=0.05) for n in range(9)]
    failing = make_workflow(
        graph(
            [
                transform("first", big="x" * 40_000),
                node("tolerated", "test_flaky", {"on_error": "continue"}, Succeeds_On=9),
                node("check", "branch", Left_Value="1", Operator="equals", Right_Value="2"),
                transform("not taken", a=1),
                *waits,
                node("fatal", "test_flaky", Succeeds_On=9),
                transform("never", a=1),
            ],
            wire("first", "Done", "tolerated", "Execute Condition"),
            wire("first", "Done", "check", "Execute Condition"),
            wire("check", "True Path", "not taken", "Execute Condition"),
            *[wire("check", "Done", wait["id"], "Execute Condition") for wait in waits],
            wire("wait0", "Done", "fatal", "Execute Condition"),
            wire("fatal", "Done", "never", "Execute Condition"),
        ),
        name="failing",
    )
    looping = make_workflow(
        graph(
            [node("loop", "loop_items", Items=["a", "b"]), transform("turn", seen="{{ nodes.loop.Item }}")],
            wire("loop", "Each", "turn", "Execute Condition"),
        ),
        name="looping",
    )
    sleeping = make_workflow(
        graph(
            [transform("early", a=1), node("asleep", "delay", Duration=60)],
            wire("early", "Done", "asleep", "Execute Condition"),
        )
    )
    processes.worker(APP)
    failed, looped, cancelled = (start_execution(one, by=alice) for one in (failing, looping, sleeping))
    asleep = NodeRun.objects.filter(node_id="asleep", status="running")
    wait_for(asleep.exists, 20, "the node that sleeps", processes.logs)
    cancel_execution(cancelled, by="alice")
    for execution in (failed, looped, cancelled):
        wait_until_ended(execution, 30, processes.logs)

    assert [one.status for one in (failed, looped, cancelled)] == ["failed", "completed", "cancelled"]
    assert failed.phases.filter(header_count__gt=1).exists()
    assert {row.phase_index for row in failed.node_runs.all()} == {0, 1, 2, 3}
    assert Execution.objects.filter(parent=looped).count() == 2
    for number, execution in enumerate(Execution.objects.all()):
        assert_snapshots(execution, tmp_path / f"{number}.json")
    texts = [event.data for event in Event.objects.filter(type="state_snapshot")]
    assert len(texts) == 4 + 1 + 1 + 1 + 2
    assert max(map(len, texts)) < 400, "a snapshot holds values"
    _is_discreet(failed)


def _is_discreet(execution):
    """On the live pages a snapshot is one technical line that is no node, no log and no end."""
    from executions.events import load_events

    logs = [execution_log(event) for event in load_events(execution.pk)]
    shown = [log for log in logs if log["event"] == "state_snapshot"]
    assert {(log["level"], frame_type(log["event"]), log["node_id"]) for log in shown} == {("debug", "status", None)}
    assert [log["message"] for log in shown][:2] == [
        "State after phase 1: 1 node changed it", "State after phase 2: 2 nodes changed it",
    ]  # fmt: skip


@pytest.mark.row("S0-04")
@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_a_run_that_ends_before_its_first_phase_has_no_snapshot(alice, make_workflow):
    execution = start_execution(make_workflow(graph([transform("one", a=1)])), by=alice)
    cancel_execution(execution, by="alice")

    execution.refresh_from_db()
    assert execution.status == "cancelled"
    kinds = [event.type for event in events_of(execution)]
    assert "workflow_start" in kinds
    assert "state_snapshot" not in kinds
    assert json.loads(Event.objects.get(type="workflow_start").data)["phase_count"] == 1
