"""What nodes, messages and rows do that nobody planned: an execution still ends, once, with the right status."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.db.models import F
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions import (
    beat,
    context,
    engine,
    letters,
    mailroom,
    reconcile,
    recovery,
    runtime,
    states,
    store,
    tasks,
    triggers,
)
from executions.beat import WorkflowScheduler, start_due
from executions.broker import broker, depths
from executions.errors import StartRefused
from executions.models import DeadLetter, Execution, NodeRun, WorkerLease
from executions.triggers import cancel_execution, start_execution
from flowbuilder.celery import app
from recordings.models import Event, Recording
from tests.conftest import flush_redis, graph, node, outputs, statuses, wait_for, wait_until_ended, wire
from tests.executions import edge_nodes
from tests.executions.edge_nodes import run_here
from tests.executions.test_engine import assert_numbered, events_of, transform
from workflows.errors import DefinitionError
from workflows.registry import NODE_REGISTRY

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture(autouse=True)
def database(transactional_db):
    """Commit for real, as the engine does."""


def start(make_workflow, alice, *nodes, edges=(), **fields):
    return start_execution(make_workflow(graph(list(nodes), *edges), **fields), by=alice)


# --------------------------------------------------------------------------- odd values


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("nul", "a\0b"),
        ("half a surrogate", "a\\ud800b"),
        ("nan", [None, None]),
        ("keys", {"1": "one"}),
        ("tuple", [1, 2]),
        ("decimal", 1.5),
    ],
)
def test_the_next_node_sees_an_odd_output_as_it_is_stored(alice, make_workflow, kind, stored):
    execution = start(
        make_workflow, alice, node("odd", "test_gives", Kind=kind), node("next", "test_gives"),
        edges=[wire("odd", "Value", "next", "Kind")],
    )  # fmt: skip

    execution = run_here(execution.pk)

    assert execution.status == "completed", execution.error
    assert outputs(execution, "odd")["Value"] == stored
    assert outputs(execution, "next")["Value"] == stored
    assert_numbered(execution)


@pytest.mark.parametrize(("kind", "why"), [("object", "not JSON"), ("deep", "not JSON"), ("huge", "limit is 16 MiB")])
def test_an_output_that_cannot_be_stored_fails_its_node(alice, make_workflow, kind, why):
    execution = run_here(start(make_workflow, alice, node("odd", "test_gives", Kind=kind)).pk)

    assert (execution.status, execution.error_code, execution.error_node) == ("failed", "output", "odd")
    assert why in execution.error
    assert_numbered(execution)


def test_a_large_output_goes_to_the_next_node_whole(alice, make_workflow):
    execution = start(
        make_workflow, alice, node("odd", "test_gives", Kind="big"), node("next", "test_gives"),
        edges=[wire("odd", "Value", "next", "Kind")],
    )  # fmt: skip

    execution = run_here(execution.pk)

    assert execution.status == "completed"
    assert {run.outputs for run in execution.node_runs.all()} == {""}


@pytest.mark.parametrize("kind", list(edge_nodes.FAILURES))
def test_an_odd_error_message_fails_the_execution_and_not_the_engine(alice, make_workflow, kind):
    execution = run_here(start(make_workflow, alice, node("odd", "test_fails", Kind=kind)).pk)

    assert (execution.status, execution.error_node) == ("failed", "odd")
    run = execution.node_runs.get()
    assert execution.error == run.error
    assert "\0" not in run.error
    assert len(run.error) <= 10_000
    assert Recording.objects.get(execution_id=execution.pk).error == run.error
    assert_numbered(execution)


def test_an_odd_error_message_between_attempts_does_not_stop_the_engine(alice, make_workflow, monkeypatch):
    monkeypatch.setitem(edge_nodes.FAILURES, "again", ("\0\ud800", "odd"))
    monkeypatch.setattr("executions.errors.NodeFailed.retryable", True)
    flaky = node("odd", "test_retries", {"retries": 1, "backoff_s": 0.01}, Kind="again")
    NODE_REGISTRY["test_retries"] = type(
        "Retries", (edge_nodes.EdgeNode,), {"run": _fail_retryable}, type="test_retries"
    )

    execution = run_here(start(make_workflow, alice, flaky).pk)

    assert (execution.status, execution.node_runs.get().attempt) == ("failed", 2)
    assert_numbered(execution)


async def _fail_retryable(self, node, env):
    raise ValueError("\0\ud800")


def test_events_that_no_json_can_hold_are_written_as_text(alice, make_workflow):
    execution = run_here(start(make_workflow, alice, node("talks", "test_talks")).pk)

    assert execution.status == "completed", execution.error
    said = next(event for event in events_of(execution) if event.type == "log")
    assert json.loads(said.data)["message"] == "nul \0 and half \\ud800"
    assert all(len(event.type) <= 32 for event in events_of(execution))
    assert_numbered(execution)


def test_a_payload_with_half_a_surrogate_starts(alice, make_workflow):
    workflow = make_workflow(graph([node("one", "test_gives", Kind="{{ input.a }}")]))

    execution = run_here(start_execution(workflow, by=alice, input={"a": "x\ud800"}).pk)

    assert outputs(execution, "one")["Value"] == "x\\ud800"


@pytest.mark.parametrize("payload", [{"a": object()}, {"a": edge_nodes.DEEP}])
def test_a_payload_that_is_not_json_is_refused(alice, make_workflow, payload):
    workflow = make_workflow(graph([transform("one", a=1)]))

    with pytest.raises(StartRefused, match="input"):
        start_execution(workflow, by=alice, input=payload)

    assert not Execution.objects.exists()


@pytest.mark.parametrize("key", ["k" * 201, "a\0b", "\ud800"])
def test_an_idempotency_key_that_no_column_holds_is_refused(alice, make_workflow, key):
    workflow = make_workflow(graph([transform("one", a=1)]))

    with pytest.raises(StartRefused, match="key"):
        start_execution(workflow, by=alice, idempotency_key=key)


def test_a_node_id_that_no_column_holds_is_refused(make_workflow):
    with pytest.raises(DefinitionError, match="201 characters"):
        make_workflow(graph([transform("n" * 201, a=1)]))


@pytest.mark.parametrize("limit", ["soon", -5, 1e40, [1], True])
def test_a_deadline_that_is_no_number_does_not_stop_the_execution(alice, make_workflow, limit):
    execution = run_here(start(make_workflow, alice, transform("one", a=1), settings={"deadline_s": limit}).pk)

    assert execution.status == "completed"


def test_secrets_at_the_cut_of_a_long_traceback_do_not_show(alice, make_workflow):
    from workflows import credentials

    secret = "s3cr3t" * 400
    credentials.save(alice, "login", "generic", {"password": secret})
    broken = node("odd", "test_tells", Kind={"$credential": "login", "field": "password"})
    NODE_REGISTRY["test_tells"] = type("Tells", (edge_nodes.EdgeNode,), {"run": _tell}, type="test_tells")

    execution = run_here(start(make_workflow, alice, broken).pk)

    assert execution.status == "failed"
    written = "".join(event.data for event in events_of(execution)) + execution.error + execution.node_runs.get().error
    assert "s3cr3t" not in written


async def _tell(self, node, env):
    env.log(f"it is {node.inputs['Kind']}", value=node.inputs["Kind"])
    await env.save_artifact("text", node.inputs["Kind"].encode(), content_type="text/plain")
    raise RuntimeError(node.inputs["Kind"] * 2)


# --------------------------------------------------------------------------- nodes that do not stop


@pytest.fixture
def in_the_end_it_stops(monkeypatch):
    """Let no stubborn node outlive its test."""
    monkeypatch.setattr(edge_nodes.Stubborn, "goes_on", True)
    yield
    edge_nodes.Stubborn.goes_on = False
    wait_for(lambda: not runtime._tasks, 30, "the end of the stubborn node")


@pytest.mark.usefixtures("in_the_end_it_stops")
def test_a_node_that_ignores_its_time_limit_is_left_behind(alice, make_workflow, monkeypatch):
    monkeypatch.setattr(runtime, "GRACE_SECONDS", 0.3)
    stubborn = node("stubborn", "test_stubborn", {"timeout_s": 0.2}, Kind=60)
    begun = time.monotonic()

    execution = run_here(start(make_workflow, alice, stubborn).pk)

    assert time.monotonic() - begun < 40
    assert (execution.status, execution.error_code) == ("failed", "timeout")


@pytest.mark.usefixtures("in_the_end_it_stops")
def test_a_node_that_ignores_cancellation_is_left_behind(alice, make_workflow, monkeypatch):
    monkeypatch.setattr(runtime, "GRACE_SECONDS", 0.3)
    execution = start(make_workflow, alice, node("stubborn", "test_stubborn", Kind=60))
    running = threading.Thread(target=_run_and_close, args=(execution.pk,))
    running.start()
    wait_for(lambda: NodeRun.objects.filter(status="running").exists(), 30, "the running node")
    assert cancel_execution(execution, by="alice")
    for _ in range(3):
        runtime.cancel(execution.pk)  # as the heartbeat does
        time.sleep(0.1)
    running.join(timeout=40)

    execution.refresh_from_db()
    assert execution.status == "cancelled"
    assert execution.phases.get().status == "cancelled"
    assert_numbered(execution)


def test_nodes_that_are_cancelled_before_their_first_step_end(alice, make_workflow):
    """The loop is slow on a busy machine: cancelling a task that did not begin runs nothing of it."""
    execution = start(make_workflow, alice, node("wait", "delay", Duration=100), transform("beside", a=1))
    over = threading.Event()

    def in_every_round_of_the_loop():
        runtime.cancel(execution.pk)
        if not over.is_set():
            runtime.loop().call_soon(in_every_round_of_the_loop)

    runtime.loop().call_soon_threadsafe(in_every_round_of_the_loop)
    running = threading.Thread(target=_run_and_close, args=(execution.pk,), daemon=True)
    running.start()
    running.join(timeout=60)
    over.set()

    assert not running.is_alive(), "the thread waits for nodes that never say that they ended"
    assert statuses(execution) == {"wait": "cancelled", "beside": "cancelled"}


def _run_and_close(execution_id):
    try:
        run_here(execution_id)
    finally:
        connection.close()


@pytest.mark.parametrize("kind", ["cancelled", "exit"])
def test_a_node_that_interrupts_itself_fails(alice, make_workflow, kind):
    execution = start(
        make_workflow, alice, node("odd", "test_interrupted", Kind=kind), transform("next", a=1),
        edges=[wire("odd", "Done", "next", "Execute Condition")],
    )  # fmt: skip

    execution = run_here(execution.pk)

    assert (execution.status, execution.error_node) == ("failed", "odd")
    assert statuses(execution) == {"odd": "failed"}
    assert run_here(start(make_workflow, alice, transform("again", a=1), name="again").pk).status == "completed"


def test_an_engine_that_breaks_stops_the_nodes_that_it_ran(alice, make_workflow, monkeypatch):
    """What nobody listens to any more would run beside its own second delivery."""
    nodes = [node("odd", "test_gives"), node("slow", "delay", Duration=30)]
    execution = start(make_workflow, alice, *nodes)

    def broken(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(engine, "record", broken)
    with pytest.raises(OSError, match="disk full"):
        run_here(execution.pk)

    wait_for(lambda: execution.pk not in runtime._tasks, 20, "the end of its coroutines")


@pytest.mark.row("S2-24")
def test_variables_reach_later_nodes_wherever_they_run_and_turns_of_loops(alice, make_workflow):
    NODE_REGISTRY["test_sets"] = type("Sets", (edge_nodes.EdgeNode,), {"run": _set_variable}, type="test_sets")
    nodes = [
        node("sets", "test_sets", Kind=7), node("again", "test_sets", Kind=8), node("reads", "test_gives", Kind="{{ vars.a }}"),
        node("loop", "loop_items", Items=[1]), node("turn", "test_gives", Kind="{{ vars.a }}"),
    ]  # fmt: skip
    edges = [
        wire("sets", "Done", "again", "Execute Condition"), wire("again", "Done", "reads", "Execute Condition"),
        wire("again", "Done", "loop", "Execute Condition"), wire("loop", "Each", "turn", "Execute Condition"),
    ]  # fmt: skip

    execution = run_here(start(make_workflow, alice, *nodes, edges=edges).pk)

    assert execution.status == "completed", execution.error
    assert outputs(execution, "sets")["Value"] == {"before": None, "now": 7}
    assert outputs(execution, "again")["Value"] == {"before": 7, "now": 8}
    assert outputs(execution, "reads")["Value"] == 8
    assert outputs(execution, "loop")["Results"] == [{"Value": 8}]


def test_a_start_that_a_process_with_a_fast_clock_sent_is_not_believed_for_an_hour(alice, make_workflow, monkeypatch):
    execution = start(make_workflow, alice, node("one", "test_gives", Kind=1))
    Execution.objects.filter(pk=execution.pk).update(published_at=store.database_now_us() + 3_600_000_000)
    sent: list[Execution] = []

    def publish(found: Execution) -> bool:
        sent.append(found)
        return True

    monkeypatch.setattr(triggers, "publish_start", publish)

    reconcile.resend_starts()
    reconcile.resend_starts()

    assert [found.pk for found in sent] == [execution.pk]


@pytest.mark.parametrize(("kind", "why"), [("object", "is not JSON"), ("huge", "the limit is 262,144")])
def test_a_variable_that_cannot_be_stored_fails_its_node(alice, make_workflow, kind, why):
    NODE_REGISTRY["test_sets"] = type("Sets", (edge_nodes.EdgeNode,), {"run": _set_variable}, type="test_sets")

    execution = run_here(start(make_workflow, alice, node("sets", "test_sets", Kind=kind)).pk)

    assert (execution.status, execution.error_code) == ("failed", "output")
    assert why in execution.error


async def _set_variable(self, node, env):
    before, kind = env.get_variable("a"), node.inputs["Kind"]
    value = edge_nodes.VALUES.get(kind, kind) if isinstance(kind, str) else kind
    env.set_variable("a", value)
    return {"Value": {"before": before, "now": env.get_variable("a") if isinstance(value, int) else None}}


# --------------------------------------------------------------------------- late, early and double messages


def test_a_message_for_nodes_that_the_plan_does_not_have_finds_nothing_to_do(alice, make_workflow):
    execution = start(make_workflow, alice, node("one", "test_gives", Kind=1))
    dispatch = engine.advance(execution.pk, 0)

    assert engine.take(execution.pk, 0, [7, -1]) is None
    assert run_here(execution.pk, dispatch).status == "completed"


@pytest.mark.parametrize(("row", "runs"), [("missing", True), ("enabled", True), ("disabled", False)])
def test_the_reconciler_runs_unless_somebody_switched_it_off(monkeypatch, row, runs):
    PeriodicTask.objects.filter(task="executions.reconcile").delete()
    if row != "missing":
        interval, _ = IntervalSchedule.objects.get_or_create(every=1, period="days")
        PeriodicTask.objects.create(name="r", task="executions.reconcile", interval=interval, enabled=row == "enabled")
    ran: list[bool] = []
    monkeypatch.setattr(beat, "reconcile", lambda: ran.append(True))

    scheduler = WorkflowScheduler(app=app)
    scheduler._reconciled -= 60
    scheduler._reconcile_overdue()

    assert bool(ran) is runs


def test_the_body_of_a_chord_does_not_pass_a_node_that_waits_for_its_next_attempt(alice, make_workflow):
    NODE_REGISTRY["test_once"] = type("Once", (edge_nodes.EdgeNode,), {"run": _fail_once}, type="test_once")
    flaky = node("flaky", "test_once", {"retries": 1, "backoff_s": 90, "jitter": False})
    execution = start(
        make_workflow, alice, flaky, transform("next", a=1), edges=[wire("flaky", "Done", "next", "Execute Condition")]
    )
    dispatch = engine.advance(execution.pk, 0)
    assert dispatch is not None
    assert engine.take(execution.pk, 0, dispatch.headers[0][0]) is None
    assert statuses(execution) == {"flaky": "retrying"}

    assert engine.advance(execution.pk, 1) is None

    execution.refresh_from_db()
    assert (execution.status, execution.phase_index) == ("running", 0)
    assert engine.take(execution.pk, 0, [0]) is None, "its time has not come"
    assert statuses(execution) == {"flaky": "retrying"}
    NodeRun.objects.update(retry_at=store.now_us() - 1_000_000)
    dispatch = engine.take(execution.pk, 0, [0])
    assert run_here(execution.pk, dispatch).status == "completed"
    assert statuses(execution) == {"flaky": "completed", "next": "completed"}
    assert_numbered(execution)


def test_an_attempt_that_failed_by_itself_is_no_delivery_that_killed_a_worker(alice, make_workflow):
    """Else a node that is tried often could not survive the loss of a single process."""
    NODE_REGISTRY["test_never"] = type("Never", (edge_nodes.EdgeNode,), {"run": _fail_retryable}, type="test_never")
    never = node("never", "test_never", {"retries": 5, "backoff_s": 90, "jitter": False})
    execution = start(make_workflow, alice, never)
    engine.advance(execution.pk, 0)

    for _ in range(reconcile.MAXIMUM_DELIVERIES):
        engine.take(execution.pk, 0, [0])
        NodeRun.objects.update(retry_at=store.now_us() - 1_000_000)

    run = execution.node_runs.get()
    assert (run.status, run.attempt, run.deliveries) == ("retrying", 3, 0)


@pytest.mark.parametrize("jitter", [False, True])
def test_each_pause_before_an_attempt_is_twice_the_one_before_up_to_an_hour(alice, make_workflow, jitter):
    NODE_REGISTRY["test_never"] = type("Never", (edge_nodes.EdgeNode,), {"run": _fail_retryable}, type="test_never")
    execution = start(
        make_workflow, alice, node("never", "test_never", {"retries": 5, "backoff_s": 900, "jitter": jitter})
    )
    engine.advance(execution.pk, 0)
    expected, spread = [900, 1800, 3600, 3600], []
    for pause in expected:
        before = store.database_now_us()
        engine.take(execution.pk, 0, [0])
        spread.append(((NodeRun.objects.get().retry_at or 0) - before) / 1_000_000 / pause)
        NodeRun.objects.update(retry_at=before)

    least, most = (0.5, 1.5) if jitter else (1.0, 1.0)
    assert least <= min(spread)
    assert max(spread) < most + 0.05  # it took a moment to fail
    assert (max(spread) - min(spread) > 0.05) is jitter


async def _fail_once(self, node, env):
    if node.attempt == 1:
        raise ValueError("not yet")
    return {"Value": node.attempt}


def test_every_message_twice_changes_nothing(alice, make_workflow):
    nodes = [transform("first", a=1), *[node(f"wait{n}", "delay", Duration=0.05) for n in range(9)], transform("last")]
    edges = [wire("first", "Done", f"wait{n}", "Execute Condition") for n in range(9)]
    edges += [wire(f"wait{n}", "Done", "last", "Execute Condition") for n in range(9)]
    execution = start(make_workflow, alice, *nodes, edges=edges)
    messages = [engine.advance(execution.pk, 0), engine.advance(execution.pk, 0)]
    while messages:
        message = messages.pop(0)
        if message is None:
            continue
        for indexes, _ in (*message.headers, *message.headers):
            messages.append(engine.take(execution.pk, message.phase, indexes))
            messages.append(engine.advance(execution.pk, message.phase))
            messages.append(engine.advance(execution.pk, message.phase + 1))

    execution.refresh_from_db()
    assert execution.status == "completed"
    completes = Event.objects.filter(execution_id=execution.pk, type="node_complete").values_list("node_id", flat=True)
    assert sorted(completes) == sorted(statuses(execution))
    assert Recording.objects.get(execution_id=execution.pk).event_count == execution.seq
    assert_numbered(execution)


def test_a_node_does_not_begin_when_its_execution_is_stopped_in_the_moment_of_its_claim(
    alice, make_workflow, monkeypatch
):
    execution = start(make_workflow, alice, node("held", "test_gives", Kind=1), node("next", "test_gives", Kind=2))
    engine.advance(execution.pk, 0)
    held = execution.node_runs.filter(node_id="held")
    held.update(status="running", claim="of another process", lease_until=store.database_now_us() + 60_000_000)

    def cancelled_meanwhile(point):
        if point == "before-claim":
            assert cancel_execution(execution, by="alice")

    monkeypatch.setattr(engine, "failpoint", cancelled_meanwhile)

    assert engine.take(execution.pk, 0, [1]) is None
    assert statuses(execution) == {"held": "running", "next": "queued"}


@pytest.mark.parametrize(("stop", "status"), [(cancel_execution, "cancelled"), (triggers.pause_execution, "paused")])
def test_an_execution_that_is_stopped_in_the_moment_of_its_end_does_not_complete(
    alice, make_workflow, monkeypatch, stop, status
):
    execution = start(make_workflow, alice, node("one", "test_gives", Kind=1))
    stopped: list[bool] = []

    def stopped_meanwhile(context):
        stopped.append(stop(execution, "alice"))
        return []

    monkeypatch.setattr(engine, "clean_up", stopped_meanwhile)

    assert run_here(execution.pk).status == status
    assert stopped[0]
    assert statuses(execution) == {"one": "completed"}
    if status == "paused":
        monkeypatch.undo()
        assert triggers.resume_execution(execution, "alice")
        execution.refresh_from_db()
        assert execution.status == "completed"
    assert_numbered(execution)


def test_a_cancellation_at_any_moment_gives_exactly_one_end(alice, make_workflow):
    names = [f"n{n}" for n in range(6)]
    edges = [wire(a, "Done", b, "Execute Condition") for a, b in itertools.pairwise(names)]
    workflow = make_workflow(graph([transform(name, a=1) for name in names], *edges))
    for moment in range(25):
        execution = start_execution(workflow, by=alice)
        running = threading.Thread(target=_run_and_close, args=(execution.pk,))
        running.start()
        time.sleep(0.002 * moment)
        cancel_execution(execution, by="alice")
        running.join(60)

        execution.refresh_from_db()
        last = events_of(execution)[-1]
        ends = [event for event in events_of(execution) if event.type in ("workflow_complete", "workflow_error")]
        assert execution.status in ("completed", "cancelled")
        assert [json.loads(end.data)["status"] for end in ends] == [execution.status]
        assert ends == [last]
        assert set(statuses(execution).values()) <= {"completed", "cancelled"}
        assert not execution.phases.filter(status="running").exists()
        assert Recording.objects.get(execution_id=execution.pk).status == execution.status
        assert_numbered(execution)


@pytest.mark.parametrize(("status", "attempts"), [("retrying", 2), ("running", 1)])
def test_an_attempt_that_its_worker_did_not_survive_does_not_count(alice, make_workflow, status, attempts):
    """Whoever takes the node next counts its own; one that was between two attempts keeps those that it had."""
    execution = start(make_workflow, alice, transform("one", a=1))
    engine.advance(execution.pk, 0)
    NodeRun.objects.update(status=status, claim="dead", attempt=2, deliveries=1)

    recovery.requeue(execution.pk, 0, [0], ["dead"], "its worker process died")

    assert NodeRun.objects.get().attempt == attempts


@pytest.mark.parametrize(("deliveries", "status"), [(1, "queued"), (2, "retrying")])
def test_what_lost_two_processes_waits_before_it_meets_a_third(alice, make_workflow, deliveries, status):
    execution = start(make_workflow, alice, transform("one", a=1))
    engine.advance(execution.pk, 0)
    NodeRun.objects.update(status="running", claim="dead", attempt=1, deliveries=deliveries)
    now = store.database_now_us()

    recovery.requeue(execution.pk, 0, [0], ["dead"], "its worker process died")

    run = execution.node_runs.get()
    assert (run.status, run.deliveries) == (status, deliveries)
    assert (run.retry_at or now) > now + 3_000_000 if deliveries == 2 else run.retry_at is None


def test_tolerated_failures_of_a_lost_process_close_their_phase_as_completed(alice, make_workflow):
    execution = start(make_workflow, alice, transform("one", {"on_error": "continue"}, a=1))
    engine.advance(execution.pk, 0)

    recovery.fail_lost(execution.pk, 0, [0], [""], error="gone", code="session_lost")

    execution.refresh_from_db()
    closed = next(event for event in events_of(execution) if event.type == "phase_complete")
    assert execution.status == "completed_with_errors"
    assert execution.phases.get().status == json.loads(closed.data)["status"] == "completed"


# --------------------------------------------------------------------------- rows that cannot be read


@pytest.fixture
def forgotten_type(alice, make_workflow):
    """An execution with a node type that no longer exists, as after an upgrade."""
    NODE_REGISTRY["test_gone"] = type("Gone", (edge_nodes.EdgeNode,), {"run": edge_nodes.Gives.run}, type="test_gone")
    execution = start(make_workflow, alice, node("gone", "test_gone"), name="gone")
    del NODE_REGISTRY["test_gone"]
    context.plan_of.cache_clear()
    return execution


def test_a_queued_execution_whose_node_type_is_gone_fails_with_the_reason(forgotten_type):
    tasks.start(str(forgotten_type.pk), "", "", "manual", "queued", "")

    forgotten_type.refresh_from_db()
    assert forgotten_type.status == "failed"
    assert "test_gone" in forgotten_type.error
    assert Recording.objects.get(execution_id=forgotten_type.pk).status == "failed"
    assert_numbered(forgotten_type)


def test_an_execution_whose_node_type_is_gone_can_be_cancelled(forgotten_type):
    assert cancel_execution(forgotten_type, by="alice")

    forgotten_type.refresh_from_db()
    assert forgotten_type.status == "cancelled"


def test_one_execution_that_cannot_be_read_does_not_hold_up_the_deadlines_of_others(
    forgotten_type, alice, make_workflow
):
    late = start(make_workflow, alice, transform("one", a=1))
    past = store.now_us() - 60_000_000
    Execution.objects.update(status="running", deadline_at=past, started_at="2026-01-01T00:00:00Z")

    reconcile.reconcile()

    late.refresh_from_db()
    forgotten_type.refresh_from_db()
    assert {late.status, forgotten_type.status} == {"failed"}


def test_a_node_given_up_twice_leaves_one_letter(alice, make_workflow, monkeypatch):
    execution = start(make_workflow, alice, transform("one", a=1))
    engine.advance(execution.pk, 0)
    for _ in range(2):
        reconcile._bury(execution.pk, 0, 0, "one", "", 3, "its worker process died")

    assert DeadLetter.objects.count() == 1


def test_what_is_given_up_again_after_somebody_handled_its_letter_is_a_letter_of_its_own(alice, make_workflow):
    execution = start(make_workflow, alice, transform("one", a=1))
    first = letters.keep("start", "it died", {}, execution_id=execution.pk)
    assert letters.keep("start", "it died", {}, execution_id=execution.pk) == first
    mailroom.discard(first, alice)

    again = letters.keep("start", "it died", {}, execution_id=execution.pk)

    assert again != first
    assert set(DeadLetter.objects.values_list("pk", "status")) == {(first.pk, "discarded"), (again.pk, "open")}


def test_an_instant_gives_each_workflow_its_own_execution_however_often_it_is_started(alice, make_workflow):
    instant = timezone.now()
    workflows = [make_workflow(graph([transform("one", a=1)]), name=f"workflow {number}") for number in range(3)]

    def started():
        return [start_execution(w, by=None, trigger="scheduled", scheduled_for=instant).pk for w in workflows]

    assert started() == started()
    assert Execution.objects.count() == 3


def test_starts_that_were_never_sent_do_not_wait_behind_those_that_were(alice, make_workflow, monkeypatch):
    monkeypatch.setattr(reconcile, "BATCH", 2)
    monkeypatch.setattr(broker, "lost_before", lambda queue: store.now_us() + 1_000_000)
    workflow = make_workflow(graph([transform("one", a=1)]))
    for _ in range(3):
        start_execution(workflow, by=alice)
    unsent = start_execution(workflow, by=alice)
    Execution.objects.exclude(pk=unsent.pk).update(publish_count=9)
    Execution.objects.filter(pk=unsent.pk).update(published_at=None)

    assert reconcile.resend_starts() == 1

    unsent.refresh_from_db()
    assert unsent.published_at is not None


def test_what_a_broker_that_lost_its_memory_held_is_sent_again_at_once(alice, make_workflow):
    flush_redis()
    delays = [node(f"wait{n}", "delay", Duration=1) for n in range(9)]
    workflow = make_workflow(graph(delays))
    reconcile.reconcile()  # notes that the broker is new
    opened = start_execution(workflow, by=alice)
    tasks.publish(engine.advance(opened.pk, 0))
    queued = start_execution(workflow, by=alice)
    assert (reconcile.resend_starts(), reconcile.resend_queued()) == (0, 0), "their messages are where they belong"

    flush_redis()
    start_execution(workflow, by=alice)
    tasks.run_nodes.apply_async(args=(str(queued.pk), 0, [0]), queue="default")  # neither queue is empty
    sent = (reconcile.resend_starts(), reconcile.resend_queued())

    assert sent == (2, 1)
    queued.refresh_from_db()
    assert queued.publish_count == 1
    assert (reconcile.resend_starts(), reconcile.resend_queued()) == (0, 0), "once is enough"


def test_half_an_hour_without_workers_leaves_one_message_of_each_start_and_node(alice, make_workflow):
    flush_redis()
    workflow = make_workflow(graph([node("wait", "delay", Duration=1)]))
    reconcile.reconcile()  # notes that the broker is new
    opened, queued = (start_execution(workflow, by=alice) for _ in range(2))
    tasks.publish(engine.advance(opened.pk, 0))
    begun = depths(["control", "default"])
    minute = 60_000_000

    for _ in range(30):
        broker.emptied_at -= minute
        Execution.objects.update(published_at=F("published_at") - minute)
        NodeRun.objects.update(dispatched_at=F("dispatched_at") - minute)
        reconcile.resend_starts()
        reconcile.resend_queued()

    assert depths(["control", "default"]) == begun
    WorkerLease.objects.create(
        boot="b" * 32, hostname="here", pid=1, queues="control,default", started_at=opened.queued_at,
        beat_at=store.now_us(),
    )  # fmt: skip
    assert (reconcile.resend_starts(), reconcile.resend_queued()) == (1, 1), "what a worker has lost is sent again"
    queued.refresh_from_db()
    assert queued.publish_count == 1


# --------------------------------------------------------------------------- beat


def test_a_beat_that_is_told_to_end_in_the_middle_of_a_tick_finishes_the_tick_first(monkeypatch):
    order = []

    def interrupted():
        os.kill(os.getpid(), signal.SIGTERM)
        order.append("the tick goes on")

    monkeypatch.setattr("executions.beat.start_due", interrupted)
    monkeypatch.setattr("django_celery_beat.schedulers.DatabaseScheduler.tick", lambda self: 1.0)
    monkeypatch.setattr(app.amqp.Connection, "gives_up", False)  # set for the rest of a process that ends
    scheduler = WorkflowScheduler(app=app, lazy=True)
    before = signal.signal(signal.SIGTERM, lambda number, frame: order.append("it ends"))
    try:
        scheduler.tick()
    finally:
        signal.signal(signal.SIGTERM, before)

    assert order == ["the tick goes on", "it ends"]
    assert vars(app.amqp.Connection)["gives_up"]


@pytest.fixture
def hourly(periodic_sent):
    """A periodic task that became due a moment ago."""
    PeriodicTask.objects.all().delete()
    interval, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    last = timezone.now() - timedelta(hours=1, seconds=1)
    return PeriodicTask.objects.create(
        name="hourly", task="executions.start_workflow", interval=interval, last_run_at=last
    )


@pytest.fixture
def periodic_sent(monkeypatch):
    """What beats send, by name."""
    sent: list[str] = []
    monkeypatch.setattr("celery.beat.Scheduler.apply_async", lambda self, entry, **more: sent.append(entry.name))
    return sent


def ticks(*beats):
    for _ in range(3):
        for each in beats:
            each.tick()


def test_two_beats_send_a_periodic_task_once(hourly, periodic_sent):
    ticks(WorkflowScheduler(app=app), WorkflowScheduler(app=app))

    stored = PeriodicTask.objects.get(name="hourly")
    assert periodic_sent == ["hourly"]
    assert stored.total_run_count == 1
    assert timezone.now() - stored.last_run_at < timedelta(minutes=1)


def test_a_beat_that_slept_leaves_what_another_one_sent_and_writes_no_older_time(hourly, periodic_sent):
    first, second = (WorkflowScheduler(app=app) for _ in range(2))
    ticks(first)
    sent = PeriodicTask.objects.get(name="hourly").last_run_at

    ticks(second)
    second.sync()

    assert periodic_sent == ["hourly"]
    assert PeriodicTask.objects.get(name="hourly").last_run_at == sent


def test_a_periodic_task_stays_due_while_the_database_does_not_answer(hourly, periodic_sent):
    failed: list[str] = []
    scheduler = WorkflowScheduler(app=app)

    def silent(execute, sql, params, many, context):
        if not failed and sql.startswith("UPDATE") and "periodictask" in sql:
            failed.append(sql)
            raise OperationalError("server closed the connection")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(silent):
        ticks(scheduler)

    assert failed
    assert periodic_sent == ["hourly"]


def test_a_row_that_breaks_in_an_unforeseen_way_does_not_hold_up_the_others(make_workflow, monkeypatch):
    from datetime import UTC, datetime, timedelta

    from tests.executions.test_beat import CONSTANT, scheduled

    past = datetime.now(UTC) - timedelta(minutes=1)
    broken, good = make_workflow(CONSTANT, name="broken"), make_workflow(CONSTANT, name="good")
    scheduled(broken, instant=past)
    scheduled(good, instant=past + timedelta(seconds=1))
    begin = start_execution

    def fragile(workflow, **options):
        if workflow.pk == broken.pk:
            raise RuntimeError("nobody thought of this")
        return begin(workflow, **options)

    monkeypatch.setattr("executions.beat.start_execution", fragile)

    assert start_due() == 1
    assert Execution.objects.get().workflow == good
    assert "nobody thought of this" in DeadLetter.objects.get(kind="schedule").error
    assert start_due() == 0


def test_beat_goes_on_when_the_database_does_not_answer(monkeypatch):
    from django.db import OperationalError

    from executions import beat
    from flowbuilder.celery import app

    def silent(*arguments, **options):
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(beat, "start_due", silent)
    monkeypatch.setattr("workflows.schedules.next_instant", silent)
    monkeypatch.setattr("django_celery_beat.schedulers.DatabaseScheduler.tick", silent)
    scheduler = WorkflowScheduler(app, lazy=True)

    assert 0 < scheduler.tick() <= beat.TICK_SECONDS


# --------------------------------------------------------------------------- workers that lose something


def test_the_thread_that_keeps_a_worker_alive_survives_what_it_calls(alice, make_workflow):
    """A page that does not close, or a lease row that is gone, must not end the renewals."""
    from executions import leases
    from executions.models import WorkerLease

    def hung(execution_id):
        raise TimeoutError("the page does not close")

    execution = start(make_workflow, alice, transform("one", a=1))
    run_here(execution.pk)
    worker = leases.WorkerProcess(
        queues="default", slots=1, on_cancel=hung, kept=lambda: {execution.pk}, on_end=hung, on_lost=hung
    )
    worker.start()
    try:
        time.sleep(leases.CANCEL_POLL_SECONDS * 1.5)
        WorkerLease.objects.all().delete()
        wait_for(lambda: WorkerLease.objects.filter(boot=worker.boot).exists(), 30, "the lease row")
        assert not leases.is_dead(worker.boot)
    finally:
        worker.stop()
    wait_for(lambda: leases.is_dead(worker.boot), 60, "the release of its lock")


def test_who_waits_for_a_process_to_let_go_of_its_nodes_goes_on_with_the_last_of_them():
    from executions import leases

    worker = leases.WorkerProcess(queues="default", slots=2, on_cancel=print, kept=set, on_end=print, on_lost=print)
    ends = {"first": threading.Event(), "last": threading.Event()}

    def hold(claim):
        with worker.holding(claim, uuid4()):
            ends[claim].wait(60)

    with ThreadPoolExecutor() as pool:
        held = [pool.submit(hold, claim) for claim in ends]
        wait_for(lambda: len(worker._claims) == 2, 30, "both claims")
        assert not worker.wait_until_free(0)
        free = pool.submit(worker.wait_until_free, 60)
        ends["first"].set()
        held[0].result(30)
        assert not worker.wait_until_free(0.01)
        ends["last"].set()
        assert free.result(30)
    assert not worker.holds_work


def test_a_worker_that_ends_says_that_it_tries_again_only_when_it_does(db, caplog):
    from executions import leases

    worker = leases.WorkerProcess(queues="default", slots=1, on_cancel=print, kept=set, on_end=print, on_lost=print)
    with connection.execute_wrapper(_unreachable):
        worker.stop()

    said = [record.getMessage() for record in caplog.records if record.name == "executions.leases"]
    assert ["tries again" in line for line in said] == [True, False]
    assert "its lease runs out by itself" in said[1]


def _unreachable(*given):
    raise OperationalError("the connection was cut")


@pytest.mark.parametrize("jumps_s", [3600, -3600])
def test_a_clock_that_jumps_neither_ends_nor_shortens_anything(alice, make_workflow, monkeypatch, jumps_s):
    """Leases begin anew, and deadlines move with a jump ahead; after one back they come later, and stay where they are."""
    execution = start(make_workflow, alice, transform("one", a=1))
    engine.advance(execution.pk, 0)
    jump = jumps_s * 1_000_000
    now = store.database_now_us()
    NodeRun.objects.update(status="running", claim="mine", worker="here", lease_until=now - jump)
    Execution.objects.update(deadline_at=now + 60_000_000 - jump)
    monkeypatch.setattr(reconcile, "_clock", (now - jump, time.monotonic_ns() // 1000))

    assert reconcile.enforce_deadlines() == 0, "a deadline is judged by the clock before the jump"
    reconcile.follow_clock()

    execution.refresh_from_db()
    assert execution.node_runs.get().lease_until > now
    left_s = ((execution.deadline_at or 0) - now) / 1_000_000
    assert abs(left_s - (60 if jumps_s > 0 else 3660)) < 40
    assert reconcile.follow_clock() == 0, "it jumped once"


def test_a_start_that_was_sent_again_has_time_to_arrive(alice, make_workflow, monkeypatch):
    """The more often it was sent, the longer, up to a minute."""
    monkeypatch.setattr(broker, "lost_before", lambda queue: store.now_us() + 1_000_000)
    monkeypatch.setattr(broker, "emptied_at", 0)
    execution = start(make_workflow, alice, transform("one", a=1))

    def sent_again(ago_s, before):
        ago = store.database_now_us() - ago_s * 1_000_000
        Execution.objects.filter(pk=execution.pk).update(published_at=ago, publish_count=before)
        return reconcile.resend_starts()

    assert [sent_again(10, before) for before in (2, 5, 9)] == [1, 0, 0]
    assert [sent_again(70, before) for before in (5, 9)] == [1, 1]


def test_a_reconciler_whose_clock_is_fast_leaves_living_workers_alone(alice, make_workflow, monkeypatch):
    from executions import leases

    execution = start(make_workflow, alice, transform("one", a=1))
    engine.advance(execution.pk, 0)
    worker = leases.WorkerProcess(queues="default", slots=1, on_cancel=print, kept=set, on_end=print, on_lost=print)
    worker.start()
    try:
        now = store.now_us()
        claim = partial(
            store.claim_nodes, execution_id=execution.pk, indexes=[0], claim="mine", worker=worker.boot,
            lease_us=15_000_000, now=now,
        )  # fmt: skip
        assert store.committer.run(claim) == {0: 1}
        an_hour_ahead = store.now_us() + 3600 * 1_000_000
        monkeypatch.setattr(store, "now_us", lambda: an_hour_ahead)

        assert reconcile.requeue_dead() == 0
    finally:
        worker.stop()


def test_what_is_kept_for_an_execution_that_was_deleted_is_given_back(alice, make_workflow):
    from executions import leases

    execution = start(make_workflow, alice, transform("one", a=1))
    gone = uuid4()
    ended: list[UUID] = []
    worker = leases.WorkerProcess(
        queues="default",
        slots=1,
        on_cancel=print,
        kept=lambda: {execution.pk, gone},
        on_end=ended.append,
        on_lost=print,
    )
    worker._release_ended()

    assert ended == [gone]


@pytest.mark.worker
def test_a_worker_whose_database_connections_were_cut_goes_on_alive(processes, alice, make_workflow):
    from executions import leases
    from executions.models import WorkerLease

    if connection.vendor != "postgresql":
        return  # a file has no connections that could be lost
    worker = processes.worker()
    workflow = make_workflow(graph([transform("one", a=1)]))
    wait_until_ended(start_execution(workflow, by=alice), detail=processes.logs)
    boot = WorkerLease.objects.get(pid=worker.pid).boot
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE pid<>pg_backend_pid() AND datname=current_database()"
        )
        assert cursor.fetchone()[0] >= 2
    wait_for(lambda: not leases.is_dead(boot), 5, "the lock of the worker", processes.logs)
    ended = 0
    for _ in range(24):
        execution = start_execution(workflow, by=alice)
        time.sleep(0.1)
        execution.refresh_from_db()
        ended += execution.status == states.COMPLETED
    assert ended >= 12, processes.logs()
    assert not leases.is_dead(boot)


# --------------------------------------------------------------------------- fencing


def test_only_the_holder_of_the_claim_ends_a_node_run_that_is_running_again(alice, make_workflow):
    execution = start(make_workflow, alice, transform("one", a=1))
    engine.advance(execution.pk, 0)

    def claim(name: str) -> dict[int, int]:
        return store.committer.run(
            lambda tx: store.claim_nodes(
                tx, execution.pk, [0], claim=name, worker=name, lease_us=15_000_000, now=store.now_us()
            )
        )

    def end(name: str) -> int:
        done = store.NodeEnd(0, states.COMPLETED, store.now_us(), store.now_us(), store.to_json({"by": name}))
        return len(store.committer.run(lambda tx: store.end_nodes(tx, execution.pk, name, [done])))

    assert claim("frozen") == {0: 1}
    store.committer.run(lambda tx: store.requeue_nodes(tx, execution.pk, [0], claims=["frozen"]))
    assert claim("successor") == {0: 1}

    assert end("frozen") == 0
    assert statuses(execution) == {"one": "running"}
    assert end("successor") == 1

    assert outputs(execution, "one") == {"by": "successor"}


def test_a_cut_connection_does_not_make_a_living_worker_look_dead(processes, alice, make_workflow):
    """Its lock is free until it connects again; whoever looks in that moment looks once more."""
    if settings.SQLITE:
        return  # a file has no connections that could be lost
    processes.worker()
    processes.beat()
    execution = start(make_workflow, alice, node("slow", "delay", Duration=12))
    wait_for(lambda: statuses(execution) == {"slow": "running"}, 15, "the node", processes.logs)

    for _ in range(3):
        cut_other_sessions()
        until = time.monotonic() + 3  # it holds its lock again before the next cut
        while time.monotonic() < until:
            reconcile.requeue_dead()
            time.sleep(0.02)

    wait_until_ended(execution, 30, processes.logs)
    assert execution.node_runs.get().deliveries == 1
    assert not Event.objects.filter(execution_id=execution.pk, type="recovered").exists()


@pytest.mark.skipif(settings.SQLITE, reason="a file has no connections that could be lost")
def test_a_worker_whose_idle_connections_were_cut_gives_up_its_lease_when_it_ends(processes):
    worker = processes.worker()
    wait_for(WorkerLease.objects.exists, 15, "its lease", processes.logs)
    cut_other_sessions()

    worker.terminate()
    worker.wait(timeout=30)

    assert not WorkerLease.objects.exists(), processes.logs()


def cut_other_sessions() -> None:
    """End every connection to the database but this one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE pid<>pg_backend_pid() AND datname=current_database()"
        )
