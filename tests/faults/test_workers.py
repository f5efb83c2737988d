"""Workers that are killed, frozen, or asked to stop, at every stage of a node's life."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from executions.models import BrowserSession, NodeRun, WorkerLease
from executions.triggers import cancel_execution, start_execution
from recordings.models import Event
from tests.conftest import graph, node, wait_for, wire
from tests.faults.conftest import LEASE, check_invariants, recovered, redis_client, since

pytestmark = [pytest.mark.worker, pytest.mark.redis]

STAGES = {
    "before-claim": "before claim",
    "after-claim": "after claim",
    "in-node": "mid node",
    "before-commit": "after effect, before commit",
    "before-ack": "after commit, before ack",
    "phase-closed": "in join",
}


@pytest.mark.postgres
def test_fault_02_a_worker_killed_at_any_stage_is_replaced_by_the_one_that_lives(stack):
    workflow = stack.workflow()
    stack.beat()
    stack.worker(wait=False)
    stack.worker()
    for point, stage in STAGES.items():
        stack.kill_at(point)
        execution = stack.start(workflow)
        stack.dead_worker()
        died = time.monotonic()
        stack.worker(wait=False)  # the one for the next stage
        stack.wait_ended([execution])
        recovered(f"02 worker killed {stage}", since(died))
    check_invariants(stack)


@pytest.mark.timeout(240)
def test_fault_03_a_worker_that_comes_later_takes_up_what_the_dead_ones_left(stack):
    comes_later(stack, 0)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fault_03_a_worker_that_comes_a_minute_later_takes_up_what_the_dead_ones_left(stack):
    comes_later(stack, 60)


def comes_later(stack, seconds):
    """Kill a worker at every stage, wait ``seconds`` with nobody alive but beat, and start another one."""
    workflow = stack.workflow()
    executions = []
    for point in STAGES:
        stack.kill_at(point)
    for _ in STAGES:
        stack.worker(wait=False)
    for _ in STAGES:
        executions.append(stack.start(workflow))
        stack.dead_worker(60)
        wait_for(lambda: waiting_workers() <= len(stack.workers), 20, "Redis to see that it is dead", stack.logs)
    assert not stack.workers
    died = time.monotonic()
    stack.beat()
    wait_for(lambda: not NodeRun.objects.filter(status="running").exists(), 20, "the dead ones' nodes", stack.logs)
    time.sleep(max(0.0, seconds - since(died)))
    before = len(stack.traces("begin"))
    stack.worker()
    booted = time.monotonic()

    wait_for(lambda: len(stack.traces("begin")) > before, 5, "the first node of the new worker", stack.logs)

    recovered(f"03 a worker started {seconds} s later begins", since(booted), 5)
    stack.wait_ended(executions)
    check_invariants(stack)


def waiting_workers():
    """Return how many workers wait for messages, as Redis sees it, which may give the next one to one that just died."""
    found: Any = redis_client().info("clients")
    return found["blocked_clients"]


def frozen_while_it_works(stack, execution, node_id):
    """Freeze the worker that runs ``node_id`` and return it."""
    key = f"{execution.pk}:{node_id}:0"
    begun = wait_for(
        lambda: [trace for trace in stack.traces("begin") if trace.key == key], 20, "the node", stack.logs
    )  # fmt: skip
    worker = next(child for child in stack.workers if child.pid == begun[0].pid)
    worker.send_signal(signal.SIGSTOP)
    return worker


def thaws_without_harm(stack, execution, frozen):
    """Wake the frozen worker; what it still writes is refused, and it is a good worker afterwards."""
    last = execution.seq
    old = WorkerLease.objects.get(pid=frozen.pid)
    frozen.send_signal(signal.SIGCONT)
    awake = WorkerLease.objects.filter(pid=frozen.pid, beat_at__gt=old.beat_at, busy=0)
    wait_for(awake.exists, 20, "the end of its nodes, late or stopped", stack.logs)
    for child in [child for child in stack.workers if child is not frozen]:
        child.kill()
        child.wait()
        stack.workers.remove(child)
    following = stack.start(stack.single("after the thaw"))
    stack.wait_ended([following])

    assert {trace.pid for trace in stack.traces("effect", following)} == {frozen.pid}
    execution.refresh_from_db()
    assert execution.seq == last, "the late writer was heard"


@pytest.mark.postgres
def test_fault_05_and_06_a_frozen_worker_loses_its_nodes_for_good_and_a_slow_one_keeps_them(stack):
    workflow = stack.workflow(seconds=1.5)
    stack.beat()
    stack.worker()
    execution = stack.start(workflow)
    frozen = frozen_while_it_works(stack, execution, "middle1")
    fell_asleep = time.monotonic()
    stack.worker()
    slow = stack.start(stack.single("slow", seconds=9))  # three times the lease

    stack.wait_ended([execution], 40)
    recovered("05 worker frozen, with a lease of 3 s", since(fell_asleep))
    stack.wait_ended([slow])
    thaws_without_harm(stack, execution, frozen)

    assert len(stack.traces("begin", slow)) == 1
    assert Event.objects.filter(
        execution_id=execution.pk, type="recovered", data__contains="stopped answering"
    ).exists()
    check_invariants(stack)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_fault_05_and_06_at_full_length(stack):
    """A freeze of 60 s with the usual lease of 15 s, and a node of five minutes."""
    usual = dict.fromkeys(LEASE, "15")
    workflow = stack.workflow(seconds=1.5)
    stack.beat(**usual)
    stack.worker(**usual)
    execution = stack.start(workflow)
    frozen = frozen_while_it_works(stack, execution, "middle1")
    fell_asleep = time.monotonic()
    stack.worker(**usual)
    slow = stack.start(stack.single("slow", seconds=300))
    stack.wait_ended([execution], 40)
    recovered("05 worker frozen, with a lease of 15 s", since(fell_asleep), 25)
    time.sleep(max(0.0, 60 - since(fell_asleep)))
    stack.wait_ended([slow], 320)
    thaws_without_harm(stack, execution, frozen)

    assert len(stack.traces("begin", slow)) == 1
    check_invariants(stack)


def chromium_pids(profile):
    """Return the processes whose command line names ``profile``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if profile.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.browser
def test_fault_35_a_cancellation_at_any_stage_ends_the_execution_within_five_seconds(stack, make_workflow, site_url):
    # A point that holds an acknowledgement does not hold the execution, which must not end before it is cancelled.
    workflow = stack.workflow(seconds=4)
    stack.worker(wait=False)
    queued = stack.start(workflow)
    assert cancel_execution(queued, by="alice")
    queued.refresh_from_db()
    assert queued.status == "cancelled"  # nobody runs it: at once, and without beat

    stack.beat()
    profile = browses_and_is_cancelled(stack, make_workflow, site_url)
    for point, stage in STAGES.items():
        with stack.held_at(point) as reached:
            execution = stack.start(workflow)
            reached()
            asked = time.monotonic()
            assert cancel_execution(execution, by="alice")
        stack.wait_ended([execution])
        assert since(asked) <= 5, f"cancelled {stage}: it took {since(asked):.1f} s"
        assert execution.status == "cancelled", stage

    wait_for(lambda: not chromium_pids(profile) and not os.path.exists(profile), 20, "the end of Chromium", stack.logs)
    check_invariants(stack, "cancelled")


def browses_and_is_cancelled(stack, make_workflow, site_url):
    """Cancel an execution with an open page, see the page closed, and return the profile of its Chromium."""
    nodes = [
        node("open", "launch_standard_browser", Website_URL=f"{site_url}/form.html"),
        node("wait", "delay", Duration=50),
        node("html", "get_html"),
    ]
    wires = [
        wire("open", "Done", "wait", "Execute Condition"),
        wire("wait", "Done", "html", "Execute Condition"),
        wire("open", "Web Page", "html", "Web Page"),
    ]
    execution = start_execution(make_workflow(graph(nodes, *wires), name="browsing"), by=stack.alice)
    waits = NodeRun.objects.filter(execution=execution, node_id="wait", status="running")
    wait_for(waits.exists, 60, "the open page", stack.logs)
    session = BrowserSession.objects.get(execution=execution)
    assert chromium_pids(session.profile_dir)
    asked = time.monotonic()
    assert cancel_execution(execution, by="alice")
    stack.wait_ended([execution])
    ended = since(asked)
    closed = BrowserSession.objects.filter(execution=execution, status="closed")
    wait_for(closed.exists, 5, "the closed page", stack.logs)
    print(f"ended {ended:.2f} s and its page was gone {since(asked):.2f} s after it was cancelled")
    assert since(asked) <= 2
    assert execution.status == "cancelled"
    return session.profile_dir
