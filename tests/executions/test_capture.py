"""What the engine writes into recordings: with the transition that it tells of, in order, balanced, and complete."""

from __future__ import annotations

import json
import signal
from datetime import timedelta

import pytest
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions import engine, opening
from executions.models import Execution
from executions.store import datetime_to_us, now_us
from executions.triggers import cancel_execution, pause_execution, resume_execution, start_execution
from recordings.blobs import read_blob
from recordings.finding import open_replayer
from recordings.models import Event, Recording
from recordings.packing import seal
from recordings.rows import iter_events, open_sealed
from tests.conftest import graph, node, outputs, wait_for, wait_until_ended, wire
from tests.executions import edge_nodes, worker_app
from tests.executions.edge_nodes import gives
from tests.executions.test_engine import assert_numbered
from tests.executions.test_speed import worker  # noqa: F401 - a fixture
from workflows import credentials

pytestmark = [pytest.mark.redis, pytest.mark.postgres]
NODE_TYPES = (worker_app, edge_nodes)  # importing them registers their node types
APP = "tests.executions.worker_app"


@pytest.fixture(autouse=True)
def database(transactional_db):
    """Commit for real, as the engine does."""


def data_of(execution, *kinds):
    """Return (type, data) of the events of these types, in order."""
    rows = Event.objects.filter(execution_id=execution.pk, type__in=kinds).order_by("seq")
    return [(event.type, json.loads(event.data)) for event in rows]


def assert_balanced(execution):
    """Every child that was entered was left once, later, under the same name and depth."""
    open_children = {}
    for kind, data in data_of(execution, "recursion_enter", "recursion_exit"):
        named = (data["operation_type"], data["identifier"], data["depth"])
        if kind == "recursion_enter":
            assert data["execution_id"] not in open_children
            open_children[data["execution_id"]] = named
        else:
            assert open_children.pop(data["execution_id"]) == named
    assert open_children == {}


# --------------------------------------------------------------------------- retries


@pytest.mark.worker
@pytest.mark.parametrize(("point", "last"), [("retry-committed", "node_retry"), ("resume-committed", "node_start")])
def test_the_event_of_another_attempt_is_there_although_the_worker_was_killed_right_after_its_transition(
    processes, alice, make_workflow, tmp_path, point, last
):
    interval, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    PeriodicTask.objects.get_or_create(name="Reconcile", task="executions.reconcile", interval=interval)
    workflow = make_workflow(graph([node("flaky", "test_flaky", {"retries": 3, "backoff_s": 0.1}, Succeeds_On=3)]))
    flag = tmp_path / "armed"
    flag.touch()
    doomed = processes.worker(APP, FLOWBUILDER_FAILPOINT=f"{point}:{flag}")
    execution = start_execution(workflow, by=alice)
    wait_for(lambda: doomed.poll() == -signal.SIGKILL, 20, "the death of the worker", processes.logs)

    run = execution.node_runs.get()
    assert (run.status, run.attempt) == (("retrying", 1) if last == "node_retry" else ("running", 2))
    kinds = [event.type for event in Event.objects.filter(execution_id=execution.pk, node_id="flaky").order_by("seq")]
    assert kinds == ["node_start", "log", "node_retry", "node_start"][: 3 if last == "node_retry" else 4]

    processes.worker(APP)
    processes.beat(APP)
    wait_until_ended(execution, 40, processes.logs)
    assert execution.status == "completed"
    assert [data["attempt"] for _, data in data_of(execution, "node_retry")] == [1, 2]
    assert_numbered(execution)


# --------------------------------------------------------------------------- order


def test_times_never_run_backwards_in_phases_that_run_at_once(worker, run, monkeypatch):  # noqa: F811
    monkeypatch.setattr(
        opening, "BURST_SECONDS", 60
    )  # a busy machine leaves the rest to the ordinary way, by its clock
    nodes = [gives(f"n{index}", index) for index in range(6)]
    execution = run(nodes, *[wire(f"n{index}", "Done", "n5", "Execute Condition") for index in range(5)])

    events = list(Event.objects.filter(execution_id=execution.pk).order_by("seq"))
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)
    for run_ in execution.node_runs.all():
        start = next(e for e in events if (e.type, e.node_id) == ("node_start", run_.node_id))
        assert start.timestamp == round(run_.started_at.timestamp() * 1e6)


# --------------------------------------------------------------------------- recursion


@pytest.mark.row("S0-03")
def test_a_subflow_inside_a_loop_is_two_deep_and_every_event_says_how_deep_it_is(run, make_workflow):
    make_workflow(graph([gives("inner", 1)]), name="inner")
    execution = run(
        [node("loop", "loop_items", Items=["a", "b"]), node("sub", "subflow", Workflow="inner")],
        wire("loop", "Each", "sub", "Execute Condition"), name="outer",
    )  # fmt: skip

    assert execution.status == "completed", execution.error
    everyone = list(Execution.objects.all())
    assert sorted(one.depth for one in everyone) == [0, 1, 1, 2, 2]
    for one in everyone:
        assert_balanced(one)
        assert set(Event.objects.filter(execution_id=one.pk).values_list("depth", flat=True)) == {one.depth}
        deepest = 2 if one.depth < 2 else one.depth
        assert Recording.objects.get(execution_id=one.pk).recursion_max_depth == deepest
        assert {event.metadata["recursion_depth"] for event in iter_events(one.pk)} == {one.depth}
    entered = [data for _, data in data_of(execution, "recursion_enter")]
    assert [(data["operation_type"], data["identifier"], data["depth"]) for data in entered] == [
        ("loop", "loop", 1)
    ] * 2
    turn = next(one for one in everyone if one.depth == 1)
    [(_, inside)] = data_of(turn, "recursion_enter")
    inner = next(one for one in everyone if one.depth == 2)
    assert (inside["operation_type"], inside["identifier"], inside["depth"]) == ("workflow", str(inner.workflow_id), 2)

    recording = Recording.objects.get(execution_id=execution.pk)
    seal(recording)
    recording.refresh_from_db()
    assert recording.recursion_max_depth == 2


def test_a_detached_child_is_left_at_once(run, make_workflow):
    make_workflow(graph([node("slow", "delay", Duration=3600)]), name="slow")
    execution = run([node("sub", "subflow", Workflow="slow", Wait=False)])

    assert execution.status == "completed", execution.error
    assert_balanced(execution)
    assert [data["status"] for _, data in data_of(execution, "recursion_exit")] == ["detached"]
    assert Recording.objects.get(execution_id=execution.pk).recursion_max_depth == 1


def test_a_child_is_left_when_it_ended_and_not_when_that_was_seen(run, make_workflow):
    make_workflow(graph([node("slow", "delay", Duration=3600)]), name="slow")
    make_workflow(graph([gives("one", 1)]), name="quick")
    seen = run([node("sub", "subflow", Workflow="quick")], name="sees it")
    unseen = run([node("sub", "subflow", Workflow="slow")], name="is cancelled before")
    unseen.children.update(status="completed", finished_at=timezone.now() - timedelta(minutes=1))
    assert cancel_execution(unseen, by="alice")

    for execution in (seen, unseen):
        [left] = Event.objects.filter(execution_id=execution.pk, type="recursion_exit")
        assert left.timestamp == datetime_to_us(execution.children.get().finished_at)
        assert_balanced(execution)


def test_children_of_a_cancelled_execution_are_left_and_their_last_events_know_their_depth(run, make_workflow):
    make_workflow(graph([node("slow", "delay", Duration=3600)]), name="slow")
    execution = run(
        [node("loop", "loop_items", Items=["a", "b"], Max_Concurrency=2), node("sub", "subflow", Workflow="slow")],
        wire("loop", "Each", "sub", "Execute Condition"), name="outer",
    )  # fmt: skip
    assert execution.status == "waiting"
    assert pause_execution(execution, by="alice")
    assert resume_execution(execution, by="alice")
    cancel_execution(execution, by="alice")

    everyone = list(Execution.objects.all())
    assert {one.status for one in everyone} == {"cancelled"}
    assert len(everyone) == 5
    for one in everyone:
        assert_balanced(one)
        assert set(Event.objects.filter(execution_id=one.pk).values_list("depth", flat=True)) == {one.depth}


def test_children_of_a_node_that_fails_while_they_run_are_left(run, make_workflow):
    make_workflow(
        graph(
            [gives("slow", 1), node("wait", "delay", Duration=3600)], wire("slow", "Done", "wait", "Execute Condition")
        ),
        name="slow",
    )
    execution = run(
        [node("loop", "loop_items", Items=["a", "b"], Max_Concurrency=2), node("check", "branch", Left_Value="{{ nodes.loop.Index }}", Operator="equals", Right_Value=1),
         node("sub", "subflow", Workflow="slow"), node("bad", "test_fails", Kind="nul")],
        wire("loop", "Each", "check", "Execute Condition"), wire("loop", "Index", "check", "Left Value"),
        wire("check", "True Path", "bad", "Execute Condition"), wire("check", "False Path", "sub", "Execute Condition"),
    )  # fmt: skip

    assert execution.status == "failed"
    assert_balanced(execution)
    assert sorted(data["status"] for _, data in data_of(execution, "recursion_exit")) == ["cancelled", "failed"]
    for one in Execution.objects.all():
        assert_balanced(one)


# --------------------------------------------------------------------------- what nodes record themselves


@pytest.mark.row("S0-31")
def test_node_code_records_teams_and_events_of_its_own(run):
    execution = run([node("crew node", "test_teams", Kind="lift")])

    assert execution.status == "completed", execution.error
    team = [event for event in iter_events(execution.pk) if event.node_id == "crew"]
    assert [event.event_type.value for event in team] == [
        "team_start", "team_member_start", "team_member_complete", "team_member_start", "team_member_complete",
        "team_communication", "team_complete",
    ]  # fmt: skip
    assert team[0].data["context"] == {"task": "lift"}
    assert (team[0].data["formation"], team[0].data["member_count"]) == ("sequential", 2)
    assert [team[1].data[key] for key in ("member_id", "inputs", "recorded_by")] == [
        "ann",
        {"said": "lift"},
        "crew node",
    ]
    assert [team[5].data[key] for key in ("from_member", "to_member", "message")] == ["ann", "ben", "hello"]
    assert [team[6].data[key] for key in ("final_output", "duration_seconds", "success")] == [
        {"said": "hello"},
        1.5,
        True,
    ]
    assert [data["name"] for _, data in data_of(execution, "checkpoint")] == ["half way"]
    assert [data["level"] for _, data in data_of(execution, "gauge")] == [7]


@pytest.mark.parametrize("kind", ["node_complete", "workflow_error", "state_snapshot", "recursion_enter", "artifact"])
def test_node_code_cannot_forge_events_of_the_engine(run, kind):
    execution = run([node("liar", "test_forges", Kind=kind)])

    assert (execution.status, execution.error_code) == ("failed", "invalid_input")
    assert f'env.record("{kind}"' in execution.error
    assert not [data for _, data in data_of(execution, kind) if "forged" in json.dumps(data)]


def test_every_call_to_another_system_is_an_event_without_its_query(run, settings):
    settings.EGRESS_ALLOW = []
    request = node(
        "call", "http_request", {"on_error": "continue"}, URL="http://127.0.0.1:9/a/path?token=very-secret#part"
    )
    execution = run([request])

    [(_, call)] = data_of(execution, "external_call")
    assert (call["method"], call["url"], call["status"], call["bytes"]) == ("GET", "http://127.0.0.1:9/a/path", None, 0)
    assert "not allowed" in call["error"]
    assert call["duration_seconds"] >= 0
    assert "very-secret" not in json.dumps(call)


# --------------------------------------------------------------------------- first and last events


def replayed(execution):
    """Return all events, read from rows and from the sealed recording; they are the same."""
    rows = list(iter_events(execution.pk))
    recording = Recording.objects.get(execution_id=execution.pk)
    seal(recording)
    recording.refresh_from_db()
    with open_sealed(recording) as sealed:
        assert [event.data for event in sealed] == [event.data for event in rows]
    return rows


def test_the_last_event_has_the_final_state_and_the_first_the_wires(run):
    execution = run(
        [gives("a", {"n": 1}), node("bad", "test_fails", {"on_error": "continue"}, Kind="nul"), gives("b", "two")],
        wire("a", "Value", "b", "Kind"), wire("a", "Done", "bad", "Execute Condition"), input={"who": "alice"},
    )  # fmt: skip
    assert execution.status == "completed_with_errors"

    events = replayed(execution)

    replayer = open_replayer(str(Recording.objects.get(execution_id=execution.pk).pk))
    state = events[-1].data["final_state"]
    assert state == replayer.get_state_at_event(events[-1].event_id)
    assert (state["who"], state["Value"], state["$nodes"]["a"]["Value"]) == ("alice", {"n": 1}, {"n": 1})
    assert "page said" in state["$errors"]["bad"]
    assert events[0].data["edges"] == [["a", "bad"], ["a", "b"]]
    assert next(event for event in events if event.event_type.value == "node_error").data["outputs"] == {}


def test_a_large_value_of_the_final_state_names_the_event_that_has_it(run):
    execution = run([gives("big", "big"), gives("small", 7)], wire("big", "Done", "small", "Execute Condition"))

    events = replayed(execution)

    state = events[-1].data["final_state"]
    reference = state["$nodes"]["big"]["Value"]
    event = next(event for event in events if event.event_id == reference["$event"])
    assert (event.node_id, reference["value"], reference["size_bytes"]) == ("big", "outputs.Value", 200_002)
    assert len(event.data["outputs"]["Value"]) == 200_000
    assert state["Value"] == 7


def test_an_execution_that_ends_before_its_first_phase_says_what_it_was(alice, make_workflow):
    workflow = make_workflow(graph([gives("a", 1)]), name="never opened")
    execution = start_execution(workflow, by=alice, input={"who": "alice"})
    cancel_execution(execution, by="alice")

    kinds = [event.event_type.value for event in iter_events(execution.pk)]
    assert kinds == ["cancel_requested", "workflow_start", "workflow_error"]
    [(_, data)] = data_of(execution, "workflow_start")
    assert (data["workflow"], data["initial_context"]) == ("never opened", {"who": "alice"})


@pytest.mark.row("S0-05")
def test_the_time_in_the_queue_is_told_apart_from_the_time_at_work(alice, make_workflow):
    heavy = [node(name, "test_heavy") for name in ("one", "two")]
    execution = start_execution(make_workflow(graph(heavy)), by=alice)
    dispatch = engine.advance(execution.pk, 0)
    assert dispatch is not None
    for indexes, _ in dispatch.headers:
        engine.take(execution.pk, 0, indexes, now_us() - 3_000_000)
    execution.refresh_from_db()
    assert execution.status == "completed"

    starts = [data["queued_seconds"] for _, data in data_of(execution, "node_start")]
    assert len(starts) == 2
    assert all(3 <= seconds < 60 for seconds in starts)
    assert all(0.4 < data["duration_seconds"] < 60 for _, data in data_of(execution, "node_complete"))
    [(_, first)] = data_of(execution, "workflow_start")
    [(_, last)] = data_of(execution, "workflow_complete")
    assert first["queued_seconds"] >= 0
    assert last["duration_seconds"] >= 0.9


# --------------------------------------------------------------------------- large values


def test_values_that_are_too_large_for_a_row_are_stored_once_and_read_back(run):
    payload = {"text": "p" * 100_000}
    execution = run(
        [node("loud", "test_loud", Kind="{{ input.text }}"), gives("again", "{{ input.text }}")], input=payload
    )
    assert execution.status == "completed", execution.error

    assert max(len(event.data) for event in Event.objects.filter(execution_id=execution.pk)) < 40_000
    events = replayed(execution)
    found = {(event.event_type.value, event.node_id): event.data for event in events}
    assert found["workflow_start", None]["initial_context"] == payload
    assert found["node_start", "loud"]["inputs"]["Kind"] == payload["text"]
    assert found["mine", "loud"] == {
        "name": found["mine", "loud"]["name"],
        "node_type": "test_loud",
        "text": payload["text"],
        "few": 1,
    }
    assert found["log", "loud"]["message"] == "x" * 50_000
    assert found["log", "loud"]["numbers"] == list(range(20_000))
    assert found["forged", "loud"]["text"] == {"$blob": "0" * 64}
    assert not any("$blobs" in event.data for event in events)
    whole = read_blob(
        json.loads(Event.objects.get(execution_id=execution.pk, type="workflow_start").data)["initial_context"]["$blob"]
    )
    assert json.loads(whole) == payload


def test_the_id_of_a_file_is_that_of_the_bytes_that_are_stored(run, alice):
    credentials.save(alice, "login", "generic", {"password": "hunter2-and-more"})
    execution = run([node("keeps", "test_keeps", Kind={"$credential": "login", "field": "password"})])

    assert execution.status == "completed", execution.error
    assert read_blob(outputs(execution, "keeps")["Value"]) == b"***"
