"""Recovery: real processes are killed at failpoints; each rule is shown to be what repairs the damage."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions.engine import LOCAL_SECONDS
from executions.models import BrowserSession, DeadLetter, Execution, LostWorker, NodeRun, WorkerLease
from executions.reconcile import forget_dead_workers
from executions.retry import restart_lost_pages, retry_execution
from executions.store import now_us
from executions.triggers import cancel_execution, start_execution
from recordings.models import Event
from tests.conftest import graph, node, statuses, test_environment, wait_for, wait_until_ended, wire
from tests.environment import ROOT
from tests.executions import worker_app
from tests.executions.snapshots import assert_snapshots
from tests.executions.test_engine import assert_numbered, transform

pytestmark = [pytest.mark.worker, pytest.mark.redis]

STUCK_SECONDS = 6
RECOVERY_SECONDS = 20
TEST_APP = "tests.executions.worker_app"


@pytest.fixture(autouse=True)
def periodic_reconcile(transactional_db):
    """The row of the beat admin, which the emptied test database lacks."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    PeriodicTask.objects.get_or_create(name="Reconcile", task="executions.reconcile", interval=interval)


@pytest.fixture
def fail_at(tmp_path):
    """Return environment variables that kill the first process which reaches a failpoint."""

    def arm(name: str) -> dict[str, str]:
        flag = tmp_path / f"failpoint-{name}"
        flag.touch()
        return {"FLOWBUILDER_FAILPOINT": f"{name}:{flag}"}

    return arm


def wait_for_death(process, processes):
    wait_for(lambda: process.poll() is not None, 40, "the death of the process", processes.logs)
    assert process.returncode == -signal.SIGKILL, processes.logs()


def recovers(processes, rule, ended, app="flowbuilder"):
    """Show that nothing happens with ``rule`` switched off, and that it repairs the damage when on."""
    crippled = processes.beat(app, FLOWBUILDER_RECONCILE_OFF=rule)
    deadline = time.monotonic() + STUCK_SECONDS
    while time.monotonic() < deadline:
        assert not ended(), f"it recovered without {rule}\n{processes.logs()}"
        time.sleep(0.2)
    crippled.terminate()
    crippled.wait(timeout=10)
    processes.beat(app)
    begun = time.monotonic()
    wait_for(ended, RECOVERY_SECONDS, f"the recovery by {rule}", processes.logs)
    print(f"recovery by {rule}: {time.monotonic() - begun:.1f} s including the start of beat")


def has_ended(process):
    return process.poll() is not None


def ends(execution):
    def check() -> bool:
        execution.refresh_from_db()
        return bool(execution.is_terminal)

    return check


def two_headers(*after):
    """A phase that needs two headers (so a chord), and what follows it."""
    waits = [node(f"wait{n}", "delay", Duration=1) for n in range(9)]
    return [transform("first", a=1), *waits, *after], [
        wire("first", "Done", w["id"], "Execute Condition") for w in waits
    ]


@pytest.mark.row("S2-16")
@pytest.mark.postgres
def test_a_start_that_was_stored_but_never_sent_is_sent(processes, alice, make_workflow, fail_at):
    make_workflow(graph([transform("one", a=1)]), name="lost start")
    code = (
        "from workflows.models import Workflow; from executions.triggers import start_execution;"
        "w = Workflow.objects.get(name='lost start'); start_execution(w, by=w.owner)"
    )
    caller = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", code],
        env={**test_environment(), **fail_at("start-committed")}, cwd=ROOT, check=False,
    )  # fmt: skip
    assert caller.returncode == -signal.SIGKILL
    execution = Execution.objects.get()
    processes.worker()

    recovers(processes, "resend_starts", ends(execution))

    assert execution.status == "completed"
    assert_numbered(execution)


@pytest.mark.parametrize(
    "point",  # fault 02 has the others, among more than one worker
    [
        pytest.param("after-claim", marks=pytest.mark.postgres),
        pytest.param("mid-node", marks=pytest.mark.slow),
        pytest.param("before-commit", marks=pytest.mark.slow),
    ],
)
def test_nodes_of_a_killed_worker_run_elsewhere(processes, alice, make_workflow, fail_at, point):
    nodes, edges = two_headers()
    workflow = make_workflow(graph(nodes, *edges))
    doomed = processes.worker(**fail_at(point))
    execution = start_execution(workflow, by=alice)
    wait_for_death(doomed, processes)
    processes.worker()

    recovers(processes, "requeue_dead", ends(execution))

    assert execution.status == "completed", execution.error
    assert set(statuses(execution).values()) == {"completed"}
    assert Event.objects.filter(execution_id=execution.pk, type="recovered").exists()
    completes = Event.objects.filter(execution_id=execution.pk, type="node_complete").values_list("node_id", flat=True)
    assert sorted(completes) == sorted(statuses(execution))
    assert_numbered(execution)


@pytest.mark.row("S0-04")
@pytest.mark.postgres
def test_a_phase_whose_closer_was_killed_goes_on(processes, alice, make_workflow, fail_at):
    nodes, edges = two_headers(transform("last", a=1))
    workflow = make_workflow(graph(nodes, *edges, wire("wait0", "Done", "last", "Execute Condition")))
    doomed = processes.worker(**fail_at("phase-closed"))
    execution = start_execution(workflow, by=alice)
    wait_for_death(doomed, processes)
    processes.worker()

    recovers(processes, "advance_closed", ends(execution))

    assert execution.status == "completed"
    assert statuses(execution)["last"] == "completed"
    assert_numbered(execution)
    assert_snapshots(execution)


def test_queued_nodes_whose_message_was_never_sent_are_sent(processes, alice, make_workflow, fail_at):
    nodes, edges = two_headers()
    workflow = make_workflow(graph(nodes, *edges))
    doomed = processes.worker(**fail_at("before-publish"))
    execution = start_execution(workflow, by=alice)
    wait_for_death(doomed, processes)
    processes.worker()

    recovers(processes, "resend_queued", ends(execution))

    assert execution.status == "completed"
    assert_numbered(execution)


def test_a_planned_retry_survives_the_worker_that_planned_it(processes, alice, make_workflow):
    flaky = node("flaky", "test_flaky", {"retries": 1, "backoff_s": 90, "jitter": False}, Succeeds_On=2)
    execution = start_execution(make_workflow(graph([flaky])), by=alice)
    doomed = processes.worker(TEST_APP)
    wait_for(
        lambda: NodeRun.objects.filter(status="retrying", claim="").exists(), 20, "the planned retry", processes.logs
    )
    doomed.kill()
    doomed.wait()
    processes.worker(TEST_APP)
    NodeRun.objects.update(retry_at=now_us())  # the clock moves on

    recovers(processes, "send_due_retries", ends(execution), TEST_APP)

    assert (execution.status, execution.node_runs.get().attempt) == ("completed", 2)
    assert_numbered(execution)


@pytest.mark.row("S2-27b")
def test_the_deadline_ends_an_execution_even_without_any_worker(processes, alice, make_workflow):
    workflow = make_workflow(graph([node("slow", "delay", Duration=50)]), settings={"deadline_s": 2})
    doomed = processes.worker()
    execution = start_execution(workflow, by=alice)
    wait_for(lambda: execution.node_runs.filter(status="running").exists(), 10, "the running node", processes.logs)
    doomed.kill()
    doomed.wait()

    recovers(processes, "enforce_deadlines", ends(execution))

    assert (execution.status, execution.error_code) == ("failed", "deadline")
    assert "limit of 2 s" in execution.error
    assert_numbered(execution)


def test_a_cancelled_execution_of_a_dead_worker_ends(processes, alice, make_workflow):
    workflow = make_workflow(graph([node("slow", "delay", Duration=50)]))
    doomed = processes.worker()
    execution = start_execution(workflow, by=alice)
    wait_for(lambda: execution.node_runs.filter(status="running").exists(), 10, "the running node", processes.logs)
    doomed.kill()
    doomed.wait()
    assert cancel_execution(execution, by="alice")

    recovers(processes, "settle_cancelled", ends(execution))

    assert execution.status == "cancelled"
    assert_numbered(execution)


def test_the_lease_of_a_killed_worker_is_removed_and_its_loss_noted(processes):
    doomed, ending = processes.worker(), processes.worker()
    ending.terminate()
    doomed.kill()
    doomed.wait()
    ending.wait(timeout=60)

    recovers(processes, "forget_dead_workers", lambda: not WorkerLease.objects.exclude(queues="beat").exists())

    (lost,) = LostWorker.objects.all()
    assert (lost.pid, lost.hostname) == (doomed.pid, socket.gethostname())


def test_the_end_of_an_isolated_process_is_no_loss_and_old_losses_are_forgotten(transactional_db):
    started = datetime.now(UTC)
    for boot, queues in (("a" * 32, "isolated"), ("b" * 32, "control,default")):
        WorkerLease.objects.create(boot=boot, hostname="h", pid=1, queues=queues, started_at=started, beat_at=1)
    LostWorker.objects.create(boot="c" * 32, hostname="h", pid=2, lost_at=1)

    assert forget_dead_workers() == 2

    assert list(LostWorker.objects.values_list("boot", flat=True)) == ["b" * 32]


@pytest.mark.browser
def test_an_execution_whose_browser_died_with_its_worker_fails_with_the_reason(
    processes, alice, make_workflow, tmp_path, site_url
):
    """It dies with a message for its own queue: a task goes on by itself for five seconds only."""
    workflow = make_workflow(
        graph(
            [
                node("open", "launch_standard_browser", Website_URL=f"{site_url}/form.html"),
                node("wait", "delay", Duration=LOCAL_SECONDS + 1),
                node("html", "get_html"),
            ],
            wire("open", "Web Page", "html", "Web Page"),
            wire("open", "Done", "wait", "Execute Condition"),
            wire("wait", "Done", "html", "Execute Condition"),
        )
    )
    armed = tmp_path / "armed"
    doomed = processes.worker(FLOWBUILDER_FAILPOINT=f"before-publish:{armed}")
    execution = start_execution(workflow, by=alice)
    opened = execution.node_runs.filter(node_id="open", status="completed")
    wait_for(opened.exists, 20, "the page", processes.logs)
    armed.touch()
    wait_for_death(doomed, processes)
    assert execution.node_runs.get(node_id="html").status == "queued"
    processes.worker()

    recovers(processes, "fail_lost_sessions", ends(execution))

    assert (execution.status, execution.error_code, execution.error_node) == ("failed", "session_lost", "html")
    assert BrowserSession.objects.get().status == "lost"
    assert_numbered(execution)


@pytest.mark.browser
@pytest.mark.row("S2-25")
def test_an_execution_whose_page_died_is_run_again_where_its_workflow_allows_it(
    processes, alice, make_workflow, tmp_path, site_url
):
    """The new one keeps what the page has nothing to do with and begins where the page is opened."""
    nodes = [
        node("first", "merge_data", Data_1={"a": 1}, Data_2={}),
        node("open", "launch_standard_browser", Website_URL=f"{site_url}/form.html"),
        node("wait", "delay", Duration=LOCAL_SECONDS + 1),
        node("html", "get_html"),
    ]
    edges = (
        wire("first", "Done", "open", "Execute Condition"), wire("open", "Web Page", "html", "Web Page"),
        wire("open", "Done", "wait", "Execute Condition"), wire("wait", "Done", "html", "Execute Condition"),
    )  # fmt: skip
    workflow = make_workflow(graph(nodes, *edges), settings={"restart_browser_segment": 1})
    armed = tmp_path / "armed"
    doomed = processes.worker(FLOWBUILDER_FAILPOINT=f"before-publish:{armed}")
    execution = start_execution(workflow, by=alice)
    opened = execution.node_runs.filter(node_id="open", status="completed")
    wait_for(opened.exists, 20, "the page", processes.logs)
    armed.touch()
    wait_for_death(doomed, processes)
    processes.worker()

    recovers(processes, "restart_lost_pages", execution.retries.filter(status="completed").exists)

    execution.refresh_from_db()
    assert (execution.status, execution.error_code) == ("failed", "session_lost")
    again = execution.retries.get()
    assert (again.trigger, again.started_by) == ("retry", alice)
    ran = set(again.node_runs.filter(deliveries__gt=0).values_list("node_id", flat=True))
    assert ran == {"open", "wait", "html"}
    assert_numbered(again)


@pytest.mark.postgres
def test_a_lost_page_is_opened_again_as_often_as_the_workflow_says_and_not_by_two(alice, make_workflow, caplog):
    workflow = make_workflow(graph([transform("first", a=1)]), settings={"restart_browser_segment": 2})
    plain = make_workflow(graph([transform("first", a=1)]), name="plain")

    def loses_its_page(execution, minutes_ago=0):
        Execution.objects.filter(pk=execution.pk).update(
            status="failed", error_code="session_lost", touched_at=now_us() - minutes_ago * 60_000_000
        )
        return execution

    first = loses_its_page(start_execution(workflow, by=alice))
    loses_its_page(start_execution(plain, by=alice))
    loses_its_page(start_execution(workflow, by=alice), minutes_ago=20)

    assert restart_lost_pages() == 1
    assert restart_lost_pages() == 0, "there is one already"
    second = loses_its_page(first.retries.get())
    assert restart_lost_pages() == 1
    third = loses_its_page(second.retries.get())
    assert [restart_lost_pages(), restart_lost_pages()] == [0, 0]

    assert not third.retries.exists()
    assert caplog.text.count("is not run again: restart_browser_segment of its workflow is 2") == 1


def test_what_a_person_ran_again_does_not_count_as_a_page_that_was_opened_again(alice, make_workflow):
    workflow = make_workflow(graph([transform("first", a=1)]), settings={"restart_browser_segment": 1})
    lost = {"status": "failed", "error_code": "session_lost"}
    first = start_execution(workflow, by=alice)
    Execution.objects.update(**lost, touched_at=now_us() - 20 * 60_000_000)
    first.refresh_from_db()
    by_hand = retry_execution(first, alice, from_failed=False)
    Execution.objects.filter(pk=by_hand.pk).update(**lost, touched_at=now_us())

    assert restart_lost_pages() == 1

    assert by_hand.retries.exists()


@pytest.mark.row("S2-17")
def test_a_node_that_kills_every_worker_is_given_up_after_three(processes, alice, make_workflow):
    assert worker_app.KillWorker.description.type == "test_kill_worker"
    execution = start_execution(make_workflow(graph([node("poison", "test_kill_worker")])), by=alice)
    processes.beat(TEST_APP)
    for _ in range(3):
        victim = processes.worker(TEST_APP)
        wait_for(partial(has_ended, victim), 40, "the death of the worker", processes.logs)
    processes.worker(TEST_APP)

    wait_until_ended(execution, RECOVERY_SECONDS, processes.logs)

    assert (execution.status, execution.error_code) == ("failed", "poison")
    letter = DeadLetter.objects.get()
    assert (letter.deliveries, letter.node_id, letter.status) == (3, "poison", "open")
    assert_numbered(execution)


@pytest.mark.row("S2-18")
def test_a_frozen_worker_loses_its_node_and_stops_what_it_still_does_when_it_wakes(processes, alice, make_workflow):
    quick = {"FLOWBUILDER_LEASE_SECONDS": "3"}
    nodes = [node("slow", "delay", Duration=20), node("quick", "delay", Duration=1)]
    execution = start_execution(make_workflow(graph(nodes)), by=alice)
    frozen = processes.worker(**quick)
    wait_for(lambda: execution.node_runs.filter(status="running").count() == 2, 10, "the nodes", processes.logs)
    wait_for(lambda: WorkerLease.objects.get(pid=frozen.pid).busy == 1, 10, "its sign of life", processes.logs)
    frozen.send_signal(signal.SIGSTOP)
    processes.worker(**quick)
    processes.beat(**quick)
    wait_for(lambda: execution.node_runs.get(node_id="slow").deliveries == 2, 15, "the second delivery", processes.logs)

    frozen.send_signal(signal.SIGCONT)

    wait_for(lambda: WorkerLease.objects.get(pid=frozen.pid).busy == 0, 8, "the first one to let go", processes.logs)
    assert execution.node_runs.get(node_id="slow").status == "running"
    assert cancel_execution(execution, "alice")
    wait_until_ended(execution, 10, processes.logs)
    ends = Event.objects.filter(execution_id=execution.pk, type__in=("node_complete", "node_skipped"))
    assert sorted(ends.values_list("node_id", flat=True)) == ["quick", "slow"]
    assert_numbered(execution)


def test_a_beat_that_froze_in_the_middle_of_its_work_does_not_stop_the_other(processes, alice, make_workflow, tmp_path):
    quick = {"FLOWBUILDER_LEASE_SECONDS": "3"}
    (tmp_path / "point").write_text("hold")
    processes.beat(**quick, FLOWBUILDER_FAILPOINT=f"reconciling:{tmp_path / 'point'}")
    wait_for((tmp_path / "point.reached").exists, 20, "the beat that holds the lock", processes.logs)
    doomed = processes.worker(**quick)
    execution = start_execution(make_workflow(graph([node("slow", "delay", Duration=1)])), by=alice)
    wait_for(lambda: execution.node_runs.filter(status="running").exists(), 10, "the node", processes.logs)
    doomed.kill()
    doomed.wait()
    processes.worker(**quick)
    processes.beat(**quick)

    wait_until_ended(execution, 20, processes.logs)

    assert execution.status == "completed"
