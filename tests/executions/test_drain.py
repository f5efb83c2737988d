"""The end of worker processes: what runs ends or moves on, and nothing is lost, doubled or called a crash."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Count, QuerySet
from django.utils import timezone
from redis import Redis

from executions import reconcile, states
from executions.models import BrowserSession, Execution, NodeRun, WorkerLease
from executions.triggers import cancel_execution, start_execution
from recordings import tasks
from recordings.models import Event, Recording
from tests.conftest import graph, node, statuses, wait_for, wait_until_ended, wire
from tests.executions.test_engine import assert_numbered, transform

pytestmark = [pytest.mark.worker, pytest.mark.redis]


def runs_on(execution: Any, worker: Any):
    """Return a check whether a node of the execution runs in the process ``worker``."""

    def check() -> bool:
        boots = WorkerLease.objects.filter(pid=worker.pid).values("boot")
        return NodeRun.objects.filter(execution=execution, status="running", worker__in=boots).exists()

    return check


def ends_cleanly(worker: Any, seconds: float, processes: Any) -> None:
    """Wait for the end of a process, which must be a clean one."""
    wait_for(lambda: worker.poll() is not None, seconds, "the end of the worker", processes.logs)
    assert worker.returncode == 0, processes.logs()


def test_fault_07_a_worker_that_is_told_to_end_finishes_its_node_first(processes, alice, make_workflow):
    execution, short = (
        start_execution(
            make_workflow(
                graph(
                    [node("slow", "delay", Duration=seconds), transform("last", a=1)],
                    wire("slow", "Done", "last", "Execute Condition"),
                ),
                name=f"{seconds} s",
            ),
            by=alice,
        )
        for seconds in (6, 3)
    )
    leaving = processes.worker()
    wait_for(runs_on(execution, leaving), 10, "the running node", processes.logs)
    wait_for(runs_on(short, leaving), 10, "the other running node", processes.logs)

    leaving.send_signal(signal.SIGTERM)
    staying = processes.booting_worker()
    ends_cleanly(leaving, 12, processes)

    for ended in (execution, short):
        wait_until_ended(ended, 20, processes.logs)
        assert ended.status == "completed", ended.error
        assert ended.node_runs.filter(attempt=1, deliveries=1).count() == 2
        boots = dict(ended.node_runs.values_list("node_id", "worker"))
        assert boots["last"] == WorkerLease.objects.get(pid=staying.pid).boot != boots["slow"], "it began another phase"
        assert_numbered(ended)
    assert not Event.objects.filter(type="recovered").exists()


def test_a_burst_of_signals_ends_a_worker_all_the_same(processes):
    leaving = processes.worker()

    for _ in range(2_000):
        leaving.send_signal(signal.SIGTERM)

    wait_for(lambda: leaving.poll() is not None, 20, "the end of the worker", processes.logs)
    assert "this worker finishes what it runs" in processes.logs()


def test_a_worker_that_is_told_to_end_seals_no_further_recording(processes):
    """Sealing takes up to twelve seconds, cleaning up some minutes; whoever ends a worker kills it before."""
    leaving = processes.worker()
    unsealed = many_ended(600)
    tasks.seal_finished.delay()
    wait_for(lambda: unsealed.count() < 600, 20, "the first sealed recording", processes.logs)

    leaving.send_signal(signal.SIGTERM)
    ends_cleanly(leaving, 20, processes)

    assert unsealed.count() > 300, processes.logs()


def many_ended(count: int) -> QuerySet[Recording]:
    """Store recordings of executions that have ended; return those that are not sealed yet."""
    ids, now = [uuid.uuid4() for _ in range(count)], timezone.now()
    Event.objects.bulk_create(
        Event(execution_id=key, seq=seq, type="log", timestamp=seq, data='{"message": "a line"}')
        for key in ids
        for seq in range(1, 31)
    )
    Recording.objects.bulk_create(
        Recording(
            execution_id=key, workflow_name="shop", started_at=now, completed_at=now, status="completed",
            event_count=30, version_number=1,
        )
        for key in ids
    )  # fmt: skip
    return Recording.objects.filter(sealed="")


def test_fault_08_a_node_that_takes_too_long_is_handed_to_another_worker(processes, alice, make_workflow):
    workflow = make_workflow(graph([node("slow", "delay", Duration=55)]))
    leaving = processes.worker()
    execution = start_execution(workflow, by=alice)
    wait_for(runs_on(execution, leaving), 10, "the running node", processes.logs)

    for signals, patience in (
        ((signal.SIGTERM, signal.SIGTERM), "60"),
        ((signal.SIGQUIT,), "1"),
        ((signal.SIGTERM,), "1"),
    ):
        staying = processes.worker(FLOWBUILDER_DRAIN_SECONDS=patience)  # of the next round
        begun = time.monotonic()
        for number in signals:
            leaving.send_signal(number)
            time.sleep(0.1)
        wait_for(runs_on(execution, staying), 5, f"the node in another worker after {signals}", processes.logs)
        print(f"handed over after {signals}: {time.monotonic() - begun:.2f} s")
        ends_cleanly(leaving, 15, processes)
        run = execution.node_runs.get()
        assert (run.attempt, run.deliveries) == (1, 1), "handing over is no crash and no retry"
        leaving = staying

    reasons = Event.objects.filter(execution_id=execution.pk, type="recovered")
    assert ["its worker was stopped" in event.data for event in reasons] == [True] * 3
    assert cancel_execution(execution, by="alice")
    wait_until_ended(execution, 5, processes.logs)
    assert statuses(execution) == {"slow": "cancelled"}
    assert_numbered(execution)


def test_fault_09_three_workers_are_restarted_in_turn_under_load(processes, alice, make_workflow):
    nodes = [transform("first", a=1), node("wait", "delay", Duration=0.2), transform("last", a=1)]
    wires = [wire("first", "Done", "wait", "Execute Condition"), wire("wait", "Done", "last", "Execute Condition")]
    workflow = make_workflow(graph(nodes, *wires))
    workers = [processes.worker() for _ in range(3)]
    load = Load(workflow, alice, per_second=20)

    for old in workers:
        processes.worker()
        old.send_signal(signal.SIGTERM)
        ends_cleanly(old, 12, processes)
    count = load.stop()

    wait_for(lambda: not Execution.objects.exclude(status__in=states.TERMINAL).exists(), 20, "all ends", processes.logs)
    assert list(Execution.objects.values_list("status").annotate(n=Count("pk"))) == [("completed", count)]
    starts = Event.objects.filter(type="node_start").count()
    handed_over = Event.objects.filter(type="recovered")
    assert all("its worker was stopped" in event.data for event in handed_over)
    assert starts == 3 * count + len(handed_over), "no node starts twice unless it was handed over"
    print(f"{count} executions, {len(handed_over)} nodes handed over")
    unacked = Redis.from_url(settings.REDIS_URL).hlen("flowbuilder:unacked")
    assert unacked == 0, "every message was acknowledged or given back"


@pytest.mark.browser
def test_a_worker_keeps_its_pages_until_the_bound_and_then_says_why_they_are_gone(
    processes, alice, make_workflow, site_url
):
    def visit(name: str, *after: dict[str, Any]) -> Any:
        nodes = [
            node("open", "launch_standard_browser", Website_URL=f"{site_url}/form.html"),
            node("wait", "delay", Duration=1), *after, transform("beside", a=1),
        ]  # fmt: skip
        wires = [wire("open", "Done", "wait", "Execute Condition")]
        wires += [wire("wait", "Done", found["id"], "Execute Condition") for found in nodes[2:]]
        wires += [wire("open", "Web Page", found["id"], "Web Page") for found in after]
        return start_execution(make_workflow(graph(nodes, *wires), name=name), by=alice)

    leaving = processes.worker(FLOWBUILDER_DRAIN_SECONDS="8")
    never = node("never", "wait_for_element", Selector="#never", Timeout=50)
    quick, slow = visit("quick", node("html", "get_html")), visit("slow", never)
    for execution in (quick, slow):
        wait_for(execution.node_runs.filter(node_id="wait").exists, 30, "the open page", processes.logs)

    leaving.send_signal(signal.SIGTERM)
    processes.worker()
    ends_cleanly(leaving, 25, processes)

    wait_until_ended(quick, 5, processes.logs)
    wait_until_ended(slow, 5, processes.logs)
    assert (quick.status, quick.error) == ("completed", "")
    assert (slow.status, slow.error_code, slow.error_node) == ("failed", "session_lost", "never")
    assert "its worker was stopped" in slow.error
    assert not BrowserSession.objects.filter(status__in=("opening", "live")).exists()
    assert_numbered(quick)
    assert_numbered(slow)


def test_a_node_that_was_queued_for_a_lost_page_fails_with_the_reason(transactional_db, alice, make_workflow):
    nodes = [node("open", "launch_standard_browser", Website_URL="http://127.0.0.1:1/"), node("html", "get_html")]
    workflow = make_workflow(graph(nodes, wire("open", "Web Page", "html", "Web Page")))
    execution = start_execution(workflow, by=alice)
    now = execution.queued_at
    BrowserSession.objects.create(execution=execution, boot="b", queue="browser.b", status="lost", opened_at=now)
    execution.phases.create(index=0, status="completed", node_count=1, open=0, started_at=now)
    execution.phases.create(index=1, node_count=1, open=1, started_at=now)
    execution.node_runs.create(
        phase_index=0, node_index=0, node_id="open", node_type="launch_standard_browser", status="completed",
        outputs="{}",
    )  # fmt: skip
    execution.node_runs.create(
        phase_index=1, node_index=1, node_id="html", node_type="get_html", session="main", queue="browser.b",
    )  # fmt: skip
    Execution.objects.update(status="running", phase_index=1)

    assert reconcile.fail_lost_sessions() == 1

    execution.refresh_from_db()
    assert (execution.status, execution.error_code) == ("failed", "session_lost")


class Load:
    """Starts executions at a steady rate in a thread."""

    def __init__(self, workflow: Any, owner: Any, per_second: float) -> None:
        self._workflow, self._owner, self._pause = workflow, owner, 1 / per_second
        self._stop, self._count = threading.Event(), 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> int:
        """Return how many executions were started."""
        self._stop.set()
        self._thread.join()
        return self._count

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            start_execution(self._workflow, by=self._owner)
            self._count += 1
            due += self._pause
            time.sleep(max(0.0, due - time.monotonic()))
        connection.close()
