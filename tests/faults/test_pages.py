"""Workers that die or freeze while they open a page of the browser: nothing is lost with it, so it is opened elsewhere."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db.models import Q

from executions.models import BrowserSession, NodeRun, WorkerLease
from executions.triggers import start_execution
from recordings.models import Event
from tests.conftest import graph, node, wait_for, wire
from tests.faults.conftest import check_invariants, recovered, since
from tests.faults.test_workers import chromium_pids

pytestmark = [pytest.mark.worker, pytest.mark.redis, pytest.mark.browser]


class SlowSite(ThreadingHTTPServer):
    """A site that does not answer before it is told to, and knows with which cookies it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _SlowHandler)
        self.answers = threading.Event()
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/page"


class _SlowHandler(BaseHTTPRequestHandler):
    server: SlowSite

    def do_GET(self) -> None:
        """Answer /page with a cookie, once the site may."""
        if self.path == "/page":
            self.server.asked.append(self.headers.get("Cookie", ""))
            self.server.answers.wait(60)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Set-Cookie", "seen=1")
        self.end_headers()
        self.wfile.write(b"<title>slow</title><p>there")

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test output readable."""


@pytest.fixture
def slow_site() -> Iterator[SlowSite]:
    """Return a site that does not answer yet."""
    server = SlowSite()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.answers.set()
    server.shutdown()
    server.server_close()
    thread.join()


def opens(url: str, *others: dict[str, Any], wires: Any = ()) -> dict[str, Any]:
    """Return a page that is opened at ``url`` and read at last, after ``others``."""
    nodes = [node("open", "launch_standard_browser", Website_URL=url), *others, node("html", "get_html")]
    return graph(nodes, wire("open", "Web Page", "html", "Web Page"), *wires)


def is_opening(stack: Any, execution: Any, site: SlowSite) -> BrowserSession:
    """Wait until a worker has opened the page and asks the site; return its session."""
    part_of = Q(execution=execution) | Q(execution__parent=execution)
    held = BrowserSession.objects.filter(part_of, status="live")
    wait_for(lambda: held.exists() and site.asked, 60, "the page that opens", stack.logs)
    assert NodeRun.objects.get(part_of, node_id="open").status == "running"
    session: BrowserSession = held.get()
    return session


def end(stack: Any, child: Any) -> None:
    child.kill()
    child.wait()
    stack.workers.remove(child)


@pytest.mark.postgres
def test_a_page_whose_worker_is_killed_while_it_opens_is_opened_by_another(stack, make_workflow, slow_site):
    """Of one that was worked on before its worker died too much is lost."""
    workflow = make_workflow(opens(slow_site.url), name="opens", settings={"restart_browser_segment": 1})
    stack.beat()
    doomed = stack.worker()
    execution = start_execution(workflow, by=stack.alice)
    lost = is_opening(stack, execution, slow_site)
    stack.kill_at("page-opened")  # the next one, too
    stack.worker(wait=False)
    end(stack, doomed)
    died = time.monotonic()
    slow_site.answers.set()
    second = stack.dead_worker(40)
    recovered("page opened again by another worker", since(died))
    stack.worker(wait=False)
    stack.wait_ended([execution], 60)

    assert second.returncode == -signal.SIGKILL
    assert execution.status == "completed", execution.error
    runs = {run.node_id: run for run in NodeRun.objects.filter(execution=execution)}
    assert (runs["open"].deliveries, runs["open"].attempt, runs["html"].deliveries) == (3, 1, 1)
    session = BrowserSession.objects.get(execution=execution)
    assert (session.pk, session.status) == (lost.pk, "closed")
    assert runs["open"].worker == runs["html"].worker == session.boot != lost.boot
    assert set(slow_site.asked) == {""}, "the page is a new one"
    assert not execution.retries.exists()
    assert Event.objects.filter(execution_id=execution.pk, type="recovered", node_id="open").count() == 2
    wait_for(lambda: not chromium_pids(lost.profile_dir), 10, "the end of its Chromium", stack.logs)
    wait_for(lambda: not os.path.exists(lost.profile_dir), 10, "the end of its profile", stack.logs)

    never = node("never", "wait_for_element", Selector="#never")
    later = make_workflow(opens(slow_site.url, never, wires=[
        wire("open", "Web Page", "never", "Web Page"), wire("never", "Done", "html", "Execute Condition"),
    ]), name="later")  # fmt: skip
    worked_on = start_execution(later, by=stack.alice)
    looking = NodeRun.objects.filter(execution=worked_on, node_id="never", status="running")
    wait_for(looking.exists, 40, "the second node of the page", stack.logs)
    (last,) = stack.workers
    end(stack, last)
    stack.worker()
    stack.wait_ended([worked_on], 40)

    assert (worked_on.status, worked_on.error_code, worked_on.error_node) == ("failed", "session_lost", "never")
    check_invariants(stack, without=[worked_on])


@pytest.mark.postgres
def test_a_worker_that_froze_while_it_opened_a_page_loses_and_closes_it(stack, make_workflow, slow_site):
    pause = node("wait", "delay", Duration=100)
    workflow = make_workflow(opens(slow_site.url, pause, wires=[
        wire("open", "Done", "wait", "Execute Condition"), wire("wait", "Done", "html", "Execute Condition"),
    ]), name="freezes")  # fmt: skip
    stack.beat()
    frozen = stack.worker()
    execution = start_execution(workflow, by=stack.alice)
    lost = is_opening(stack, execution, slow_site)
    frozen.send_signal(signal.SIGSTOP)
    fell_asleep = time.monotonic()
    slow_site.answers.set()
    stack.worker()
    waits = NodeRun.objects.filter(execution=execution, node_id="wait", status="waiting")
    wait_for(waits.exists, 40, "the page of the other worker", stack.logs)
    recovered("page opened again, with a lease of 3 s", since(fell_asleep), 25)
    session = BrowserSession.objects.get(execution=execution)
    assert (session.status, session.closed_at) == ("live", None)
    assert session.boot != lost.boot
    assert os.path.exists(lost.profile_dir), "nobody may end the Chromium of a process that lives"
    before = Event.objects.filter(execution_id=execution.pk, type="node_complete").count()

    frozen.send_signal(signal.SIGCONT)

    wait_for(lambda: not os.path.exists(lost.profile_dir), 40, "the end of the page that nobody needs", stack.logs)
    assert frozen.poll() is None
    assert WorkerLease.objects.get(boot=lost.boot).busy == 0
    assert Event.objects.filter(execution_id=execution.pk, type="node_complete").count() == before
    session.refresh_from_db()
    assert (session.status, waits.count()) == ("live", 1)
    waits.update(wake_at=1)
    stack.wait_ended([execution], 40)
    assert execution.status == "completed", execution.error
    html = NodeRun.objects.get(execution=execution, node_id="html")
    assert html.worker == session.boot
    check_invariants(stack)


def test_a_page_that_a_stopped_worker_was_opening_in_a_turn_of_a_loop_is_opened_by_another(
    stack, make_workflow, slow_site
):
    page = opens(slow_site.url, node("loop", "loop_items", Items=[1]), wires=[
        wire("loop", "Each", "open", "Execute Condition"),
    ])  # fmt: skip
    execution = start_execution(make_workflow(page, name="turns"), by=stack.alice)
    leaving = stack.worker()
    lost = is_opening(stack, execution, slow_site)
    stack.worker()

    leaving.send_signal(signal.SIGQUIT)  # at once, where SIGTERM would let it finish

    wait_for(lambda: leaving.poll() is not None, 40, "the end of the worker", stack.logs)
    slow_site.answers.set()
    stack.wait_ended([execution], 40)
    assert execution.status == "completed", execution.error
    (turn,) = execution.children.all()
    opened = NodeRun.objects.get(execution=turn, node_id="open")
    assert (opened.status, opened.deliveries, opened.attempt) == ("completed", 1, 1), "a stop does not count"
    session = BrowserSession.objects.get()
    assert (session.execution_id, session.status, session.pk) == (turn.pk, "closed", lost.pk)
    assert session.boot == opened.worker != lost.boot
    check_invariants(stack)
