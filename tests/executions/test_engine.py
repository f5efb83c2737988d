"""Whole executions on a real worker: order, data, branches, failures, retries, limits, cancellation."""

from __future__ import annotations

import json
import time

import pytest

from executions.models import Execution
from executions.triggers import cancel_execution, start_execution
from recordings.models import Event, Recording
from tests.conftest import graph, node, outputs, statuses, wait_for, wait_until_ended, wire

pytestmark = [pytest.mark.worker, pytest.mark.redis, pytest.mark.postgres]


def transform(node_id, policy=None, **rules):
    return node(
        node_id, "json_transform", policy, Input_JSON={}, Transform_Rules={k: {"value": v} for k, v in rules.items()}
    )


def events_of(execution):
    return list(Event.objects.filter(execution_id=execution.pk).order_by("seq"))


def assert_numbered(execution):
    """Every event has the next number, and the execution knows the last one."""
    numbers = [event.seq for event in events_of(execution)]
    execution.refresh_from_db()
    assert numbers == list(range(1, execution.seq + 1))


@pytest.mark.row("S2-20")
def test_a_chain_runs_in_order_and_hands_its_data_on(processes, alice, make_workflow):
    workflow = make_workflow(
        graph(
            [
                transform("one", price=7),
                node("two", "merge_data", Data_1="{{ nodes.one['Transformed JSON'] }}", Data_2={"b": 2}),
                node("three", "merge_data", Data_2="{{ input }}"),
            ],
            wire("two", "Merged Data", "three", "Data 1"),
        )
    )
    processes.worker()

    execution = wait_until_ended(start_execution(workflow, by=alice, input={"c": 3}), detail=processes.logs)

    assert execution.status == "completed", processes.logs()
    assert outputs(execution, "three")["Merged Data"] in ('{"price": 7, "b": 2, "c": 3}', {"price": 7, "b": 2, "c": 3})
    assert [event.type for event in events_of(execution) if event.type != "log"] == [
        "workflow_start", "phase_start", "node_start", "node_complete", "phase_complete", "state_snapshot",
        "phase_start", "node_start", "node_complete", "phase_complete", "state_snapshot",
        "phase_start", "node_start", "node_complete", "phase_complete", "state_snapshot", "workflow_complete",
    ]  # fmt: skip
    assert_numbered(execution)
    recording = Recording.objects.get(execution_id=execution.pk)
    assert (recording.status, recording.success, recording.node_count) == ("completed", True, 3)
    assert recording.event_count == execution.seq


@pytest.mark.row("S2-20")
def test_every_step_of_a_run_is_recorded_with_its_duration(processes, alice, make_workflow):
    workflow = make_workflow(
        graph(
            [node("first", "delay", Duration=0.3), node("side", "delay", Duration=0.1), transform("last", a=1)],
            wire("first", "Done", "last", "Execute Condition"),
            wire("side", "Done", "last", "Execute Condition"),
        )
    )
    processes.worker()

    execution = wait_until_ended(start_execution(workflow, by=alice), detail=processes.logs)

    whole = execution.duration_ms / 1000
    events = [(event.type, json.loads(event.data), event.timestamp / 1_000_000) for event in events_of(execution)]
    (start,) = [data for kind, data, _ in events if kind == "workflow_start"]
    assert 0 < start["planning_seconds"] < whole, "this worker had never planned it"
    assert 0 < start["setup_seconds"] < whole
    assert start["planning_seconds"] + start["setup_seconds"] <= whole
    ran = [data["duration_seconds"] for kind, data, _ in events if kind == "node_complete"]
    assert len(ran) == 3
    assert 0.3 <= max(ran) < whole
    opened = [at for kind, _, at in events if kind == "phase_start"]
    closed = [at for kind, _, at in events if kind == "phase_complete"]
    assert 0.3 <= closed[0] - opened[0] < whole, "what runs in a phase runs between its two events"
    (end,) = [data for kind, data, _ in events if kind == "workflow_complete"]
    assert end["status"] == "completed"
    assert end["duration_seconds"] == pytest.approx(whole, abs=0.01)
    assert 0 < end["collecting_seconds"] < whole - 0.3, "after the last node, not since the first"


@pytest.mark.row("S2-22")
def test_only_the_taken_branch_runs_and_the_other_is_skipped_to_its_end(processes, alice, make_workflow):
    workflow = make_workflow(
        graph(
            [
                node("check", "branch", Left_Value="{{ input.price }}", Operator="greater than", Right_Value="10"),
                transform("dear", kind="dear"),
                transform("cheap", kind="cheap"),
                node("after cheap", "merge_data", Data_2={}),
            ],
            wire("check", "True Path", "dear", "Execute Condition"),
            wire("check", "False Path", "cheap", "Execute Condition"),
            wire("cheap", "Transformed JSON", "after cheap", "Data 1"),
        )
    )
    processes.worker()

    execution = wait_until_ended(start_execution(workflow, by=alice, input={"price": 12}), detail=processes.logs)

    assert execution.status == "completed"
    assert statuses(execution) == {
        "check": "completed",
        "dear": "completed",
        "cheap": "skipped",
        "after cheap": "skipped",
    }
    assert_numbered(execution)


@pytest.mark.row("S2-21")
def test_nodes_of_one_phase_run_at_the_same_time(processes, alice, make_workflow):
    workflow = make_workflow(graph([node(f"wait {n}", "delay", Duration=1) for n in range(12)]))
    processes.worker()
    started = time.monotonic()

    execution = wait_until_ended(start_execution(workflow, by=alice), detail=processes.logs)

    assert execution.status == "completed"
    assert time.monotonic() - started < 4
    assert execution.phases.get().header_count == 2
    assert_numbered(execution)


@pytest.mark.row("S2-26")
def test_a_failing_node_is_tried_again_and_then_fails_the_execution(processes, alice, make_workflow):
    broken = node(
        "broken", "read_property_from_json", {"retries": 2, "backoff_s": 0.1}, JSON="{}", Property_Name="missing"
    )
    workflow = make_workflow(
        graph([transform("first", a=1), broken], wire("first", "Done", "broken", "Execute Condition"))
    )
    processes.worker()

    execution = wait_until_ended(start_execution(workflow, by=alice), detail=processes.logs)

    run = execution.node_runs.get(node_id="broken")
    kinds = [event.type for event in events_of(execution) if event.node_id == "broken" and event.type != "log"]
    assert (execution.status, execution.error_node) == ("failed", "broken")
    assert "missing" in execution.error
    if run.error_code == "invalid_input":
        assert (run.attempt, kinds) == (1, ["node_start", "node_error"])
    else:
        assert run.attempt == 3
        assert kinds == ["node_start", "node_retry", "node_start", "node_retry", "node_start", "node_error"]
    assert_numbered(execution)


@pytest.mark.row("S2-28")
def test_a_tolerated_failure_gives_completed_with_errors(processes, alice, make_workflow):
    broken = node("broken", "read_property_from_json", {"on_error": "continue"}, JSON="{}", Property_Name="missing")
    workflow = make_workflow(
        graph(
            [broken, transform("reads nothing", a=1), node("needs it", "merge_data", Data_2={})],
            wire("broken", "Done", "reads nothing", "Execute Condition"),
            wire("broken", "Property Value", "needs it", "Data 1"),
        )
    )
    processes.worker()

    execution = wait_until_ended(start_execution(workflow, by=alice), detail=processes.logs)

    assert execution.status == "completed_with_errors"
    assert statuses(execution) == {"broken": "failed", "reads nothing": "completed", "needs it": "skipped"}
    assert_numbered(execution)


def test_a_node_that_takes_too_long_fails_with_its_limit(processes, alice, make_workflow):
    workflow = make_workflow(graph([node("slow", "delay", {"timeout_s": 0.3}, Duration=9)]))
    processes.worker()

    execution = wait_until_ended(start_execution(workflow, by=alice), detail=processes.logs)

    assert (execution.status, execution.error_code) == ("failed", "timeout")
    assert "0.3 s" in execution.error


def test_cancel_ends_a_running_execution_within_two_seconds(processes, alice, make_workflow):
    workflow = make_workflow(
        graph([node("slow", "delay", Duration=9), transform("next")], wire("slow", "Done", "next", "Execute Condition"))
    )
    processes.worker()
    execution = start_execution(workflow, by=alice)
    wait_for(lambda: execution.node_runs.filter(status="running").exists(), 10, "the running node", processes.logs)
    asked = time.monotonic()

    assert cancel_execution(execution, by="alice")

    wait_until_ended(execution, 5, processes.logs)
    assert time.monotonic() - asked <= 2
    assert execution.status == "cancelled"
    assert statuses(execution) == {"slow": "cancelled"}
    assert not cancel_execution(execution, by="alice")
    assert_numbered(execution)


def test_a_queued_execution_is_cancelled_without_a_worker(transactional_db, alice, make_workflow):
    execution = start_execution(make_workflow(graph([transform("one")])), by=alice)

    assert cancel_execution(execution, by="alice")

    execution.refresh_from_db()
    assert execution.status == "cancelled"
    assert Recording.objects.get(execution_id=execution.pk).status == "cancelled"


def test_two_hundred_executions_at_once_all_complete_with_gapless_events(processes, alice, make_workflow):
    chain = [transform(f"n{i}", v=i) for i in range(5)]
    edges = [wire(f"n{i}", "Done", f"n{i + 1}", "Execute Condition") for i in range(4)]
    workflow = make_workflow(graph(chain, *edges))
    processes.worker()

    executions = [start_execution(workflow, by=alice) for _ in range(200)]

    wait_for(
        lambda: not Execution.objects.exclude(status="completed").exists(),
        60,
        "the end of all executions",
        processes.logs,
    )
    for execution in executions:
        assert_numbered(execution)
