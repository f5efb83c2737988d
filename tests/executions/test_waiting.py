"""What waits survives the death of whoever knew about it: real workers are killed around loops, delays and approvals."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
from django.db import connection, transaction
from django.db.models import F

from executions.models import Execution, NodeRun
from executions.store import now_us
from executions.triggers import cancel_execution, decide_approval, pause_execution, resume_execution, start_execution
from recordings.models import Event
from tests.conftest import graph, node, outputs, statuses, wait_for, wait_until_ended, wire
from tests.executions.test_engine import assert_numbered, events_of
from tests.executions.test_reconcile import TEST_APP, ends, fail_at, periodic_reconcile, recovers, wait_for_death

pytestmark = [pytest.mark.worker, pytest.mark.redis]
FIXTURES = (fail_at, periodic_reconcile)


def loop_over(count, *body, **inputs):
    nodes = [node("loop", "loop_items", Items=list(range(count)), **inputs), *body]
    return graph(nodes, wire("loop", "Each", body[0]["id"], "Execute Condition"))


def merged(node_id="body"):
    return node(node_id, "merge_data", Data_1={"turn": "{{ item }}"}, Data_2={})


def plain(node_id):
    return node(node_id, "merge_data", Data_1={}, Data_2={})


def is_waiting(execution, node_id):
    return lambda: NodeRun.objects.filter(execution=execution, node_id=node_id, status="waiting").exists()


@pytest.mark.row("S2-22")
@pytest.mark.postgres
def test_a_loop_of_a_hundred_turns_runs_on_one_worker_without_holding_a_slot(processes, alice, make_workflow):
    workflow = make_workflow(loop_over(100, merged()))
    processes.worker(FLOWBUILDER_WORKER_SLOTS="1")

    execution = wait_until_ended(start_execution(workflow, by=alice), 60, processes.logs)

    assert execution.status == "completed", execution.error
    given = outputs(execution, "loop")
    assert [result["Result"] for result in given["Results"]] == [{"turn": turn} for turn in range(100)]
    assert {child.status for child in execution.children.all()} == {"completed"}
    assert_numbered(execution)
    print(f"100 turns: {execution.duration_ms} ms")


@pytest.mark.parametrize(
    ("point", "inputs"),
    [pytest.param("set-aside", {}, marks=pytest.mark.postgres), ("after-commit", {"Max_Concurrency": 4})],
)
def test_a_loop_survives_the_death_of_its_worker(processes, alice, make_workflow, fail_at, point, inputs):
    workflow = make_workflow(loop_over(8, merged(), **inputs))
    doomed = processes.worker(**fail_at(point))
    execution = start_execution(workflow, by=alice)
    wait_for_death(doomed, processes)
    processes.worker()
    processes.beat()

    wait_until_ended(execution, 30, processes.logs)

    assert execution.status == "completed", execution.error
    assert [result["Result"]["turn"] for result in outputs(execution, "loop")["Results"]] == list(range(8))
    assert execution.children.count() == 8
    assert Event.objects.filter(execution_id__in=execution.children.values("pk"), type="node_complete").count() == 8
    assert_numbered(execution)


@pytest.mark.postgres
def test_a_long_delay_survives_the_worker_that_began_it(processes, alice, make_workflow):
    """Its time comes by the rule ``wake_due``; the clock is moved, because a minute is long for a test."""
    workflow = make_workflow(
        graph([node("wait", "delay", Duration=61), plain("end")], wire("wait", "Done", "end", "Execute Condition"))
    )
    first = processes.worker()
    execution = start_execution(workflow, by=alice)
    wait_for(is_waiting(execution, "wait"), 15, "the wait", processes.logs)
    first.kill()
    first.wait()
    processes.worker()
    NodeRun.objects.filter(execution=execution, node_id="wait").update(wake_at=1)

    recovers(processes, "wake_due", ends(execution))

    assert execution.status == "completed", execution.error
    assert_numbered(execution)


@pytest.mark.row("S2-25")
def test_cancelling_an_execution_cancels_what_runs_for_it(processes, alice, make_workflow):
    workflow = make_workflow(loop_over(3, node("slow", "delay", Duration=50), Max_Concurrency=2))
    processes.worker()
    execution = start_execution(workflow, by=alice)
    running = NodeRun.objects.filter(execution__parent=execution, status="running")
    wait_for(lambda: running.count() == 2, 15, "two turns", processes.logs)
    began = time.monotonic()

    assert cancel_execution(execution, "alice")

    everything = Execution.objects.exclude(status="cancelled")
    wait_for(lambda: not everything.exists(), 10, "the end of all", processes.logs)
    assert time.monotonic() - began < 5
    assert execution.children.count() == 2


def test_a_turn_that_fails_stops_the_turns_beside_it(processes, alice, make_workflow):
    check = node("check", "branch", Left_Value="{{ item }}", Operator="equals", Right_Value=0)
    definition = loop_over(
        2, check, node("stop", "stop_and_error", Message="no"), node("slow", "delay", Duration=50), Max_Concurrency=2
    )
    definition["edges"] += [
        wire("check", "True Path", "stop", "Execute Condition"),
        wire("check", "False Path", "slow", "Execute Condition"),
    ]
    processes.worker()

    execution = wait_until_ended(start_execution(make_workflow(definition), by=alice), 20, processes.logs)

    assert execution.status == "failed"
    assert "turn 1 of 2 failed: no" in execution.error
    slow = execution.children.get(child_index=1)
    wait_until_ended(slow, 10, processes.logs)
    assert slow.status == "cancelled"


def test_pause_lets_running_nodes_finish_and_resume_goes_on(processes, alice, make_workflow):
    nodes = [node("slow", "delay", Duration=2), plain("next")]
    workflow = make_workflow(graph(nodes, wire("slow", "Done", "next", "Execute Condition")))
    processes.worker()
    execution = start_execution(workflow, by=alice)
    wait_for(lambda: statuses(execution) == {"slow": "running"}, 15, "the first node", processes.logs)

    assert pause_execution(execution, "alice")
    wait_for(lambda: statuses(execution) == {"slow": "completed"}, 10, "its end", processes.logs)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        execution.refresh_from_db()
        assert (execution.status, statuses(execution)) == ("paused", {"slow": "completed"})
        time.sleep(0.2)
    assert resume_execution(execution, "alice")

    wait_until_ended(execution, 10, processes.logs)
    assert execution.status == "completed"
    assert_numbered(execution)


@pytest.mark.postgres
def test_an_approval_that_was_given_while_no_worker_ran_goes_on_with_the_next(processes, alice, make_workflow):
    workflow = make_workflow(
        graph([node("ask", "approval", Title="Go?"), plain("end")], wire("ask", "Approved", "end", "Execute Condition"))
    )
    first = processes.worker()
    execution = start_execution(workflow, by=alice)
    wait_for(is_waiting(execution, "ask"), 15, "the question", processes.logs)
    first.terminate()
    first.wait()

    assert decide_approval(execution.pk, 0, True, "yes", "alice")
    processes.worker()

    wait_until_ended(execution, 20, processes.logs)
    assert statuses(execution) == {"ask": "completed", "end": "completed"}


@pytest.mark.postgres
def test_what_a_node_logs_before_it_waits_is_written_before(processes, alice, make_workflow):
    processes.worker()

    execution = start_execution(make_workflow(graph([node("ask", "approval", Title="Go?")])), by=alice)

    wait_for(is_waiting(execution, "ask"), 15, "the question", processes.logs)
    found = [(event.type, event.timestamp) for event in events_of(execution)]
    assert [kind for kind, _ in found][-2:] == ["log", "node_waiting"], found
    assert [time for _, time in found] == sorted(time for _, time in found)


@pytest.mark.postgres
@pytest.mark.parametrize(("move", "kind"), [(pause_execution, "pause"), (cancel_execution, "cancel_requested")])
def test_the_time_of_an_event_is_taken_when_nobody_else_can_write_one(processes, alice, make_workflow, move, kind):
    processes.worker()
    execution = start_execution(make_workflow(graph([node("ask", "approval", Title="Go?")])), by=alice)
    wait_for(lambda: Execution.objects.get(pk=execution.pk).status == "waiting", 15, "the question", processes.logs)

    def run():
        move(execution, "alice")
        connection.close()

    mover = threading.Thread(target=run)
    with transaction.atomic():
        Execution.objects.filter(pk=execution.pk).update(seq=F("seq"))  # holds the row
        mover.start()
        time.sleep(0.5)
        held_until = now_us()
    mover.join()

    written = Event.objects.get(execution_id=execution.pk, type=kind)
    assert written.timestamp >= held_until


@pytest.mark.browser
@pytest.mark.row("S2-20")
@pytest.mark.postgres
def test_the_page_is_closed_with_the_last_node_that_can_work_on_it(processes, alice, make_workflow, site_url):
    nodes = [
        node("open", "launch_standard_browser", Website_URL=f"{site_url}/form.html"),
        node("loop", "loop_items", Items=["ada", "bob"]),
        node("fill", "fill_input", Selector="input >> nth=0", Value="{{ item }}"),
        node("ask", "approval", Title="Go on?"),
        plain("end"),
    ]
    edges = [
        wire("open", "Done", "loop", "Execute Condition"), wire("open", "Web Page", "fill", "Web Page"),
        wire("loop", "Each", "fill", "Execute Condition"), wire("loop", "Done", "ask", "Execute Condition"),
        wire("ask", "Approved", "end", "Execute Condition"),
    ]  # fmt: skip
    processes.worker(TEST_APP)
    execution = start_execution(make_workflow(graph(nodes, *edges)), by=alice)
    wait_for(is_waiting(execution, "ask"), 60, "the approval", processes.logs)

    assert execution.browser_sessions.get().status == "closed"
    kinds = [event.type for event in events_of(execution) if event.type not in ("artifact", "log")]
    last_turn = len(kinds) - kinds[::-1].index("recursion_exit")
    assert kinds[last_turn : last_turn + 2] == ["node_complete", "cleanup"], "after the loop, before what follows it"
    assert decide_approval(execution.pk, 3, True, "yes", "alice")

    wait_until_ended(execution, 20, processes.logs)

    assert execution.status == "completed", execution.error
    assert_numbered(execution)
    cleanup = json.loads(next(event.data for event in events_of(execution) if event.type == "cleanup"))
    assert cleanup["closed"]
    assert 0 < cleanup["duration_seconds"] < (execution.duration_ms or 0) / 1000
    assert not any(event.type == "cleanup" for child in execution.children.all() for event in events_of(child))


@pytest.mark.browser
@pytest.mark.row("S2-20")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_page_that_a_skipped_node_would_need_is_closed_before_the_end(
    processes, alice, make_workflow, site_url, stopped
):
    nodes, edges = browser_then(site_url, node("wait", "delay", Duration=2))
    nodes.append(node("check", "branch", Left_Value="1", Operator="equals", Right_Value="2"))
    edges += [
        wire("wait", "Done", "check", "Execute Condition"), wire("check", "True Path", "read", "Execute Condition"),
    ]  # fmt: skip
    processes.worker(TEST_APP)
    execution = start_execution(make_workflow(graph(nodes, *edges)), by=alice)
    running = NodeRun.objects.filter(execution=execution, node_id="wait", status="running")
    wait_for(running.exists, 60, "the open page", processes.logs)
    pid = execution.browser_sessions.get().chromium_pid or 0
    assert not any(event.type == "cleanup" for event in events_of(execution))
    if stopped:
        os.kill(pid, signal.SIGSTOP)

    try:
        wait_until_ended(execution, 20, processes.logs)
    finally:
        if stopped:
            os.kill(pid, signal.SIGCONT)

    assert execution.status == "completed", execution.error
    assert statuses(execution)["read"] == "skipped"
    *_, cleanup, end = events_of(execution)
    assert (cleanup.type, end.type) == ("cleanup", "workflow_complete")
    data = json.loads(cleanup.data)
    assert data["closed"] is not stopped
    assert 2 <= data["duration_seconds"] < 3 if stopped else 0 < data["duration_seconds"] < 2
    assert json.loads(end.data)["collecting_seconds"] < 0.5, "without the clean-up"


@pytest.mark.browser
def test_the_turns_of_a_loop_work_on_the_page_that_is_open_around_it(processes, alice, make_workflow, site_url):
    nodes = [
        node("open", "launch_standard_browser", Website_URL=f"{site_url}/form.html"),
        node("loop", "loop_items", Items=["ada", "bob"]),
        node("fill", "fill_input", Selector="input >> nth=0", Value="{{ item }}"),
        node("read", "get_html"),
    ]
    edges = [
        wire("open", "Done", "loop", "Execute Condition"), wire("open", "Web Page", "fill", "Web Page"),
        wire("loop", "Each", "fill", "Execute Condition"), wire("fill", "Web Page", "read", "Web Page"),
    ]  # fmt: skip
    processes.worker(TEST_APP)

    execution = wait_until_ended(start_execution(make_workflow(graph(nodes, *edges)), by=alice), 60, processes.logs)

    assert execution.status == "completed", execution.error
    assert len(outputs(execution, "loop")["Results"]) == 2
    assert execution.browser_sessions.count() == 1
    assert not any(child.browser_sessions.exists() for child in execution.children.all())


def browser_then(site_url, middle, *edges):
    """A page that is opened, something else, and a node that needs the page again."""
    nodes = [
        node("open", "launch_standard_browser", Website_URL=f"{site_url}/form.html"),
        middle,
        node("read", "get_html"),
    ]
    return nodes, [
        wire("open", "Done", middle["id"], "Execute Condition"),
        wire("open", "Web Page", "read", "Web Page"),
        *edges,
    ]


@pytest.mark.browser
def test_a_page_that_died_while_other_nodes_ran_fails_the_next_node_that_needs_it(
    processes, alice, make_workflow, site_url
):
    nodes, edges = browser_then(
        site_url, node("wait", "delay", Duration=61), wire("wait", "Done", "read", "Execute Condition")
    )
    first = processes.worker()
    execution = start_execution(make_workflow(graph(nodes, *edges)), by=alice)
    wait_for(is_waiting(execution, "wait"), 30, "the wait", processes.logs)
    first.kill()
    first.wait()
    processes.worker()
    processes.beat()
    wait_for(lambda: execution.browser_sessions.filter(status="lost").exists(), 15, "the loss", processes.logs)
    NodeRun.objects.filter(execution=execution, node_id="wait").update(wake_at=1)

    wait_until_ended(execution, 20, processes.logs)

    assert (execution.status, execution.error_code, execution.error_node) == ("failed", "session_lost", "read")


@pytest.mark.browser
def test_a_turn_whose_page_died_with_its_worker_fails_with_the_reason(processes, alice, make_workflow, site_url):
    loop = node("loop", "loop_items", Items=[1, 2])
    nodes, edges = browser_then(site_url, loop)
    nodes.append(node("look", "wait_for_element", Selector="#never", Visibility="visible"))
    edges = [*edges, wire("loop", "Each", "look", "Execute Condition"), wire("open", "Web Page", "look", "Web Page")]
    first = processes.worker()
    execution = start_execution(make_workflow(graph(nodes, *edges)), by=alice)
    looking = NodeRun.objects.filter(execution__parent=execution, node_id="look", status="running")
    wait_for(looking.exists, 30, "the turn", processes.logs)
    first.kill()
    first.wait()
    processes.beat()  # all of its rules look at the loop before anybody can run it
    failed = execution.children.filter(status="failed")
    wait_for(failed.exists, 20, "the end of the turn", processes.logs)
    processes.worker()

    wait_until_ended(execution, 20, processes.logs)

    assert (execution.status, execution.error_node, execution.error_code) == ("failed", "loop", "session_lost")
    assert "turn 1 of 2 failed" in execution.error
