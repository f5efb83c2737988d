"""Who may open a page again whose process is gone, and what a process that lost it must leave alone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from executions import context, ending, engine, leases, opening, outcomes, reconcile, recovery, runtime, store, tasks
from executions.models import BrowserSession, Execution, NodeRun
from executions.runtime import SessionOpened
from executions.triggers import start_execution
from tests.conftest import graph, node, wire
from tests.executions.test_engine import transform

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]

URL = "http://127.0.0.1:1/"


@pytest.fixture
def visit(alice: Any, make_workflow: Any) -> Any:
    """Return an execution in its second phase: page nodes "a", "b" and "c", a loop whose turns work on the page."""
    nodes = [
        transform("first", a=1),
        *[node(name, "launch_standard_browser", Website_URL=URL) for name in "abc"],
        node("loop", "loop_items", Items=[1]),
        node("turn", "get_html"),
        node("after", "get_html"),
    ]
    wires = [wire("first", "Done", name, "Execute Condition") for name in ("a", "b", "c", "loop")]
    wires += [wire("loop", "Each", "turn", "Execute Condition"), wire("a", "Web Page", "after", "Web Page")]
    execution = start_execution(make_workflow(graph(nodes, *wires)), by=alice)
    now = execution.queued_at
    execution.phases.create(index=0, status="completed", node_count=1, open=0, started_at=now)
    execution.phases.create(index=1, node_count=4, open=4, started_at=now)
    BrowserSession.objects.create(execution=execution, boot="dead", queue="browser.dead", status="live", opened_at=now)
    Execution.objects.update(status="running", phase_index=1)
    return execution


def runs(execution: Any, node_id: str, status: str, claim: str = "", **fields: Any) -> Any:
    """Store a node run of the second phase."""
    known: Any = context.load(execution.pk)
    index = known.plan.positions[node_id]
    session = "" if node_id == "loop" else "main"
    return execution.node_runs.create(
        phase_index=1, node_index=index, node_id=node_id, node_type="t", status=status, claim=claim, session=session,
        worker="dead" if claim else "", **{"queue": "browser", "deliveries": 1, "attempt": 1, **fields},
    )  # fmt: skip


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("other", "fields", "first"),
    [
        ({"status": "running", "claim": "lost"}, {}, True),
        ({"status": "retrying", "claim": "lost"}, {}, True),
        ({"status": "queued"}, {"deliveries": 0}, True),
        ({"status": "skipped"}, {"deliveries": 0}, True),
        ({"status": "completed", "claim": "lost"}, {}, False),
        ({"status": "failed", "claim": "lost"}, {}, False),
        ({"status": "running", "claim": "another"}, {}, False),
        ({"status": "retrying"}, {"retry_at": 1}, False),
    ],
)
def test_a_node_is_the_first_on_its_page_while_no_other_has_begun(visit, other, fields, first):
    runs(visit, "a", "running", "lost")
    runs(visit, "b", **other, **fields)

    assert recovery.first_on_page(visit.pk, "lost") is first


def test_a_loop_that_began_a_page_that_was_there_and_one_of_others_are_not_first(visit):
    held = runs(visit, "a", "running", "lost")
    loop = runs(visit, "loop", "queued", deliveries=0)
    assert recovery.first_on_page(visit.pk, "lost")
    NodeRun.objects.filter(pk=loop.pk).update(status="waiting", deliveries=1)
    assert not recovery.first_on_page(visit.pk, "lost"), "its turns work on the page"
    NodeRun.objects.filter(pk=loop.pk).delete()
    NodeRun.objects.filter(pk=held.pk).update(queue="browser.dead")
    assert not recovery.first_on_page(visit.pk, "lost"), "the page was there when its phase was opened"
    turn = Execution.objects.create(
        workflow=visit.workflow, version=visit.version, owner=visit.owner, status="running", queued_at=timezone.now(),
        parent=visit, parent_node=4, scope="loop", item='{"item":1,"index":0}', trigger="workflow", depth=1,
    )  # fmt: skip
    turn.node_runs.create(phase_index=0, node_index=5, node_id="turn", node_type="t", status="running", claim="lost")
    assert not recovery.first_on_page(turn.pk, "lost"), "it works on a page that is not its own"


@pytest.mark.postgres
@pytest.mark.parametrize(("counts", "deliveries"), [(True, 1), (False, 0)])
def test_nodes_of_one_page_go_to_another_process_together_and_the_page_is_given_up(visit, counts, deliveries):
    """Not to the process that had it, and not in two messages, or two processes would open two pages."""
    for name in "ab":
        runs(visit, name, "running", "lost")
    runs(visit, "loop", "queued", deliveries=0)

    dispatch: Any = recovery.reopen(visit.pk, 1, "lost", "dead", "it died", counts=counts)

    assert dispatch.headers == (((1, 2), "browser"),)
    assert set(NodeRun.objects.filter(session="main").values_list("status", "deliveries", "attempt", "claim")) == {
        ("queued", deliveries, 0, "")
    }
    session = BrowserSession.objects.get()
    assert session.status == "lost"
    assert session.closed_at is not None
    assert recovery.reopen(visit.pk, 1, "lost", "dead", "it died") is None


@pytest.mark.postgres
def test_nodes_of_one_page_that_are_sent_again_stay_together(visit, monkeypatch):
    for name in "ab":
        runs(visit, name, "retrying", retry_at=1, deliveries=2)
    runs(visit, "loop", "retrying", retry_at=1, deliveries=2)
    BrowserSession.objects.update(status="lost")
    sent: list[Any] = []
    monkeypatch.setattr(tasks, "publish", sent.append)

    assert reconcile.send_due_retries() == 1

    (dispatch,) = sent
    assert dispatch.apart
    assert dispatch.headers == (((1, 2), "browser"), ((4,), "default"))


def saves(visit: Any, claim: str) -> None:
    """Tell that this process opened the page for the node "a" under ``claim``."""
    known: Any = context.load(visit.pk)
    here = opening.Work(known, 1, claim, [], False, time.monotonic())
    outcomes.save_pages(here, [SessionOpened(1, "main", 42, 43, "/profile")])


@pytest.fixture
def boot(monkeypatch: Any) -> str:
    """Make this process a worker without a thread and return its boot id."""
    worker = leases.WorkerProcess(queues="browser", slots=1, on_cancel=print, kept=set, on_end=print, on_lost=print)
    monkeypatch.setattr(leases, "current", worker)
    return worker.boot


@pytest.mark.postgres
def test_a_page_counts_only_under_a_claim_that_holds(visit, boot):
    runs(visit, "a", "running", "mine")
    BrowserSession.objects.update(status="lost", closed_at=timezone.now())

    saves(visit, "lost")
    session = BrowserSession.objects.get()
    assert (session.boot, session.status) == ("dead", "lost")
    saves(visit, "mine")
    session.refresh_from_db()
    assert (session.boot, session.status, session.closed_at) == (boot, "live", None)
    assert (session.queue, session.chromium_pid, session.chromium_started) == (f"browser.{boot}", 42, 43)
    BrowserSession.objects.all().delete()
    saves(visit, "mine")
    assert BrowserSession.objects.get().profile_dir == "/profile"


@pytest.mark.postgres
def test_a_page_that_was_opened_again_is_not_taken_for_the_lost_one(visit, boot, monkeypatch):
    stale = BrowserSession.objects.get()
    BrowserSession.objects.update(boot="new", queue="browser.new")

    reconcile.lose_session(stale, "its worker process died")
    assert BrowserSession.objects.get().status == "live"
    BrowserSession.objects.update(boot=boot, status="lost")
    monkeypatch.setattr(runtime, "holds_session", lambda execution_id: True)
    ending.release(visit.pk)
    assert BrowserSession.objects.get().status == "lost", "what is lost does not become closed"


@pytest.mark.postgres
def test_who_ends_a_phase_last_looks_who_has_the_page_by_then(visit):
    """It may have been opened by one process when this one looked, and by another one since."""
    known: Any = context.load(visit.pk)
    assert known.session_queue == "browser.dead"
    for name in ("a", "b", "c", "loop"):
        runs(visit, name, "completed", "done", outputs='{"Web Page":true,"Done":true}')
    visit.phases.filter(index=1).update(open=0, status="completed")
    BrowserSession.objects.update(boot="new", queue="browser.new")

    dispatch: Any = engine.advance_after(known, 1, time.monotonic())

    assert dispatch.headers == (((6,), "browser.new"),)


@pytest.mark.postgres
def test_the_reconciler_gives_the_first_nodes_of_a_page_away_and_fails_the_later_ones(visit, monkeypatch):
    sent: list[Any] = []
    monkeypatch.setattr(tasks, "publish", sent.append)
    for name in "ab":
        runs(visit, name, "running", "lost")

    assert reconcile.requeue_dead()
    assert [dispatch.headers for dispatch in sent if dispatch] == [(((1, 2), "browser"),)]
    NodeRun.objects.filter(node_id="a").update(status="completed", claim="again")
    NodeRun.objects.filter(node_id="b").update(status="running", claim="again", worker="new", deliveries=2)
    BrowserSession.objects.update(boot="new", queue="browser.new", status="live")
    reconcile.requeue_dead()

    b = NodeRun.objects.get(node_id="b")
    assert (b.status, b.error_code) == ("failed", "session_lost")


@pytest.mark.postgres
def test_a_first_node_that_cost_three_workers_their_life_is_given_up(visit):
    runs(visit, "a", "running", "lost", deliveries=3)

    reconcile.requeue_dead()

    a = NodeRun.objects.get(node_id="a")
    assert (a.status, a.error_code) == ("failed", "poison")


@pytest.fixture
def page(visit: Any, monkeypatch: Any) -> Any:
    """Return the name of a page that this process opened in Chromium for the execution."""
    monkeypatch.setattr(runtime, "_host", None)
    name = runtime.session_id(visit.pk)
    opening = runtime.browser_host().open(name)
    asyncio.run_coroutine_threadsafe(opening, runtime.loop()).result(30)
    yield name
    runtime.shut_down()


@pytest.mark.browser
def test_closing_the_page_of_a_lost_claim_leaves_that_of_a_later_one(visit, page, monkeypatch):
    monkeypatch.setitem(runtime._openers, page, "later")

    runtime.close_session(visit.pk, claim="lost")
    assert runtime.holds_session(visit.pk)
    runtime.close_session(visit.pk, claim="later")
    assert not runtime.holds_session(visit.pk)


@pytest.mark.browser
@pytest.mark.postgres
def test_a_connection_that_is_cut_while_a_page_closes_leaves_no_page_that_is_said_to_be_live(
    visit, page, boot, monkeypatch
):
    BrowserSession.objects.update(boot=boot)
    close = runtime.close_session

    def close_and_cut(execution_id: Any, **options: Any) -> bool:
        closed = close(execution_id, **options)
        if connection.vendor == "postgresql":
            connection.connection.pgconn.finish()
        return closed

    monkeypatch.setattr(runtime, "close_session", close_and_cut)

    assert ending.release(visit.pk)

    assert BrowserSession.objects.get().status == "closed"
    assert ending.kept() == set()


@pytest.mark.browser
@pytest.mark.postgres
def test_a_page_that_closed_while_the_database_was_away_is_noted_once_it_is_back(visit, page, boot, monkeypatch):
    BrowserSession.objects.update(boot=boot)
    end_page = store.end_page

    def away(*arguments: Any) -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr(store, "end_page", away)
    with pytest.raises(OperationalError, match="away"):
        ending.release(visit.pk)
    assert not runtime.holds_session(visit.pk)
    assert BrowserSession.objects.get().status == "live"
    monkeypatch.setattr(store, "end_page", end_page)
    Execution.objects.update(status="completed")

    worker = leases.WorkerProcess(
        queues="browser", slots=1, on_cancel=print, kept=ending.kept, on_end=ending.release, on_lost=print
    )
    worker._release_ended()

    assert BrowserSession.objects.get().status == "closed"
    assert ending.kept() == set()
