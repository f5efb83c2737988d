"""Limits of starts: never more than allowed at once, in the right order, and never one lost."""

from __future__ import annotations

import base64
import json
import signal
import statistics
import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions import admission, reconcile
from executions.broker import LOST_MESSAGE_US, QUEUED_MESSAGE_US, broker
from executions.models import Execution, NodeRun, WorkerLease
from executions.store import database_now_us
from executions.triggers import cancel_execution, decide_approval, start_execution
from recordings.models import Event
from tests.conftest import WORKER, flush_redis, graph, node, test_environment, wait_for
from tests.environment import ROOT
from tests.executions.edge_nodes import run_here
from tests.executions.test_engine import assert_numbered, transform
from workflows import limits

pytestmark = [pytest.mark.redis]

QUICK = graph([transform("one", a=1)])


def slow(seconds):
    return graph([node("one", "delay", Duration=seconds)])


@pytest.fixture(autouse=True)
def periodic_reconcile(transactional_db):
    """The row of the beat admin, which the emptied test database lacks; and no memory of other tests."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    PeriodicTask.objects.get_or_create(name="Reconcile", task="executions.reconcile", interval=interval)
    admission._window = admission._Window()
    admission._due.clear()
    flush_redis()
    yield
    flush_redis()


@pytest.fixture
def fail_at(tmp_path):
    """Return environment variables that kill the first process which reaches a failpoint."""

    def arm(name: str) -> dict[str, str]:
        flag = tmp_path / f"failpoint-{name}"
        flag.touch()
        return {"FLOWBUILDER_FAILPOINT": f"{name}:{flag}"}

    return arm


def all_ended():
    return not Execution.objects.exclude(status__in=("completed", "failed", "cancelled")).exists()


def wait_for_all(processes, seconds=40):
    wait_for(all_ended, seconds, "the end of all executions", lambda: f"{held()}\n{processes.logs()}")


def held():
    return Counter(Execution.objects.values_list("status", "held_by"))


def most_at_once(**of):
    """Return the largest number of executions that ran at the same time, from the times of their nodes."""
    runs = NodeRun.objects.filter(**of, started_at__isnull=False).values_list("started_at", "finished_at")
    changes = sorted([(start, 1) for start, _ in runs] + [(end, -1) for _, end in runs], key=lambda c: (c[0], c[1]))
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def begin(execution):
    """Take a start from the broker as a worker would, without running it."""
    Execution.objects.filter(pk=execution.pk, status="queued", held_by="").update(
        status="running", started_at=datetime.now(UTC), phase_index=0
    )


def finish(execution, status="completed"):
    Execution.objects.filter(pk=execution.pk).update(status=status, finished_at=datetime.now(UTC))


# --------------------------------------------------------------------------- concurrency


@pytest.mark.worker
@pytest.mark.postgres
def test_two_at_once_of_ten_and_all_ten_complete(processes, alice, make_workflow):
    workflow = make_workflow(slow(0.2), settings={"concurrency": 2})
    executions = [start_execution(workflow, by=alice) for _ in range(10)]
    assert Counter(e.held_by for e in executions) == {"": 2, "concurrency": 8}
    processes.worker()

    wait_for_all(processes)  # no beat: whoever ends lets the next one go

    assert Counter(Execution.objects.values_list("status", flat=True)) == {"completed": 10}
    assert most_at_once() == 2
    # In what order they were let go; the worker begins with two at once in either order.
    order = sorted(Execution.objects.all(), key=lambda execution: (execution.admitted_at or 0, execution.queued_at))
    assert [executions.index(execution) for execution in order] == list(range(10))
    for execution in executions:
        assert_numbered(execution)
    waited = Event.objects.filter(execution_id=executions[-1].pk, type="log").earliest("seq")
    assert json.loads(waited.data)["message"] == "Waited for concurrency limit 2 of workflow test"
    assert not Event.objects.filter(execution_id=executions[0].pk, type="log", data__contains="Waited").exists()


@pytest.mark.worker
def test_the_limit_holds_and_nothing_is_lost_when_the_worker_is_killed(processes, alice, make_workflow):
    workflow = make_workflow(slow(0.5), settings={"concurrency": 2})
    doomed = processes.worker()
    for _ in range(10):
        start_execution(workflow, by=alice)
    wait_for(lambda: Execution.objects.filter(status="completed").count() >= 2, 20, "two ends", processes.logs)
    doomed.kill()
    doomed.wait()
    processes.worker()
    processes.beat()

    wait_for_all(processes)

    assert Counter(Execution.objects.values_list("status", flat=True)) == {"completed": 10}
    assert most_at_once() <= 2


@pytest.mark.worker
@pytest.mark.postgres
def test_starts_that_were_let_go_but_never_sent_are_sent(processes, alice, make_workflow, fail_at):
    workflow = make_workflow(slow(0.2), settings={"concurrency": 2})
    executions = [start_execution(workflow, by=alice) for _ in range(6)]
    doomed = processes.worker(**fail_at("admitted"))
    wait_for(lambda: doomed.poll() is not None, 15, "the death of the worker", processes.logs)
    assert doomed.returncode == -signal.SIGKILL
    assert Execution.objects.filter(status="queued", held_by="", published_at__isnull=False).exists()
    processes.worker()
    processes.beat()

    wait_for_all(processes)

    assert Counter(Execution.objects.values_list("status", flat=True)) == {"completed": 6}
    assert most_at_once() <= 2
    for execution in executions:
        assert_numbered(execution)


@pytest.mark.worker
def test_held_starts_outlive_their_starter_and_a_broker_that_forgot_everything(
    processes, alice, make_workflow, fail_at
):
    workflow = make_workflow(QUICK, name="limited", settings={"concurrency": 1})
    caller = in_shell("start_execution(w, by=w.owner)", **fail_at("start-committed"))
    assert caller.wait(timeout=30) == -signal.SIGKILL
    flush_redis()
    assert held() == {("queued", "concurrency"): 1}
    processes.worker()
    crippled = processes.beat(FLOWBUILDER_RECONCILE_OFF="admit_held")
    wait_for(lambda: WorkerLease.objects.filter(queues="beat").exists(), 20, "beat", processes.logs)
    time.sleep(2.5)
    assert held() == {("queued", "concurrency"): 1}, "it was let go without admit_held"
    crippled.terminate()
    crippled.wait(timeout=10)
    processes.beat()
    for _ in range(4):
        start_execution(workflow, by=alice)

    wait_for_all(processes)

    assert Counter(Execution.objects.values_list("status", flat=True)) == {"completed": 5}


def in_shell(code, **env):
    head = (
        "from workflows.models import Workflow; from executions.triggers import start_execution;"
        "from executions import admission; w = Workflow.objects.get(name='limited');"
    )
    return subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", head + code],
        env={**test_environment(), **env}, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.postgres
def test_processes_that_admit_at_once_never_exceed_the_limit(processes, alice, make_workflow):
    workflow = make_workflow(QUICK, name="limited", settings={"concurrency": 3})
    code = "[start_execution(w, by=w.owner) for _ in range(20)]; [admission.admit_waiting() for _ in range(20)]"
    starters = [in_shell(code) for _ in range(2)]
    most = ended = 0
    while any(starter.poll() is None for starter in starters):
        admitted = list(Execution.objects.filter(status="queued", held_by=""))
        most = max(most, len(admitted))
        if len(admitted) == 3 and ended < 20:
            finish(admitted[0])  # whoever looks first takes the place
            ended += 1
    assert {starter.returncode for starter in starters} == {0}
    assert most == 3
    assert ended > 3
    admission.admit_waiting()
    assert held() == {("completed", ""): ended, ("queued", ""): 3, ("queued", "concurrency"): 40 - ended - 3}
    assert workflow.executions.filter(admitted_at__isnull=False).count() == ended + 3


def test_held_starts_are_never_resent(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"concurrency": 1})
    first, second = (start_execution(workflow, by=alice) for _ in range(2))
    Execution.objects.update(published_at=None)

    assert reconcile.resend_starts() == 1

    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.publish_count, second.publish_count) == (1, 0)


def test_children_neither_wait_nor_count(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"concurrency": 1})
    first = start_execution(workflow, by=alice)
    child = Execution.objects.create(
        workflow=workflow, version=workflow.version, owner=alice, trigger="workflow", queued_at=datetime.now(UTC),
        parent=first, parent_node=0, child_index=0, status="running",
    )  # fmt: skip
    finish(first)

    assert start_execution(workflow, by=alice).held_by == ""
    assert child.status == "running"


def calls(name, **inputs):
    return graph([node("call", "subflow", Workflow=name, Inputs={"customer": "ann"}, **inputs)])


@pytest.mark.postgres
def test_a_workflow_that_is_started_with_wait_off_is_held_by_its_own_limits(alice, make_workflow):
    limited = make_workflow(QUICK, name="limited", settings={"concurrency": 1, "priority": "high"})
    by_key = make_workflow(QUICK, name="by key", settings={"concurrency_key": "{{ input.customer }}"})
    skips = make_workflow(QUICK, name="skips", settings={"overlap": "skip"})
    first = [start_execution(workflow, by=alice, input={"customer": "ann"}) for workflow in (limited, by_key, skips)]

    for workflow in (limited, by_key, skips):
        caller = make_workflow(calls(workflow.name, Wait=False), name=f"calls {workflow.name}")
        assert run_here(start_execution(caller, by=alice, priority="low").pk).status == "completed"

    ids = [execution.pk for execution in first]
    started = {e.workflow.name: e for e in Execution.objects.filter(trigger="workflow")}
    assert {name: (e.status, e.held_by, e.parent_id) for name, e in started.items()} == {
        "limited": ("queued", "concurrency", None), "by key": ("queued", "key", None),
        "skips": ("cancelled", "concurrency", None),
    }  # fmt: skip
    assert (started["limited"].priority, started["by key"].concurrency_key) == (0, "ann")
    assert started["limited"].published_at is None
    for execution in Execution.objects.filter(pk__in=ids):
        finish(execution)
    assert reconcile.admit_held() == 2
    assert [Execution.objects.get(pk=started[name].pk).held_by for name in ("limited", "by key")] == ["", ""]


def test_a_workflow_that_a_node_waits_for_is_not_held(alice, make_workflow):
    limited = make_workflow(QUICK, name="limited", settings={"concurrency": 1})
    start_execution(limited, by=alice)

    execution = run_here(start_execution(make_workflow(calls("limited"), name="caller"), by=alice).pk)

    assert (execution.status, execution.children.get().status) == ("completed", "completed")


def test_a_workflow_that_is_started_with_wait_off_waits_its_turn_for_the_queue(alice, make_workflow, monkeypatch):
    monkeypatch.setattr(settings, "START_WINDOW", 1)
    make_workflow(QUICK, name="called")
    start_execution(make_workflow(QUICK, name="fills the window"), by=alice)
    caller = start_execution(make_workflow(calls("called", Wait=False), name="caller"), by=alice)
    assert caller.held_by == "queue"

    assert run_here(caller.pk).status == "completed"

    assert Execution.objects.get(trigger="workflow").held_by == "queue"


@pytest.mark.worker
@pytest.mark.postgres
def test_workflows_started_with_wait_off_keep_to_their_limit_and_none_is_lost(processes, alice, make_workflow, fail_at):
    make_workflow(slow(0.2), name="limited", settings={"concurrency": 1})
    caller = make_workflow(calls("limited", Wait=False), name="caller")
    doomed = processes.worker(**fail_at("set-aside"))
    executions = [start_execution(caller, by=alice) for _ in range(5)]
    assert doomed.wait(20) == -signal.SIGKILL, processes.logs()
    processes.worker()
    processes.beat()

    def all_called():
        return Execution.objects.filter(trigger="workflow").count() == len(executions) and all_ended()

    wait_for(all_called, 40, "the end of all executions", lambda: f"{held()}\n{processes.logs()}")

    assert Counter(Execution.objects.values_list("status", flat=True)) == {"completed": 10}
    assert most_at_once(execution__workflow__name="limited") == 1


def only_message(queue):
    """Return the one message that the broker holds in a queue, of whatever priority."""
    client: Any = redis.Redis.from_url(settings.REDIS_URL)
    keys = [key for key in client.keys("*") if client.type(key) == b"list" and queue in key]
    (text,) = [text for key in keys for text in client.lrange(key, 0, -1)]
    return json.loads(text)


def woken_priority():
    """Return the priority of the one message about a node that the broker holds."""
    return only_message(b"default")["properties"]["priority"]


@pytest.mark.row("S2-15")
def test_the_start_message_holds_what_consumers_of_the_queue_may_want_to_know(alice, make_workflow):
    flush_redis()
    workflow = make_workflow(graph([node("one", "delay", Duration=0)]))

    execution = start_execution(workflow, by=alice, trigger="webhook", input={"secret": 1})

    arguments, keywords, _ = json.loads(base64.b64decode(only_message(b"control")["body"]))
    assert arguments == []
    assert keywords == {
        "execution_id": str(execution.pk), "workflow_id": str(workflow.pk), "user_id": str(alice.pk),
        "trigger": "webhook", "status": "queued", "queued_at": execution.queued_at.isoformat(),
    }  # fmt: skip


@pytest.mark.parametrize(("word", "number"), [("high", 0), ("low", 9)])
def test_nodes_that_wake_are_sent_with_the_priority_of_their_execution(alice, make_workflow, word, number):
    waits = [node("one", "delay", Duration=3600)]
    sleeper = run_here(start_execution(make_workflow(graph(waits), name="sleeps"), by=alice, priority=word).pk)
    asks = graph([node("ask", "approval", Title="May we?")])
    asker = run_here(start_execution(make_workflow(asks, name="asks"), by=alice, priority=word).pk)
    assert (sleeper.status, asker.status) == ("waiting", "waiting")
    flush_redis()

    NodeRun.objects.filter(execution=sleeper).update(wake_at=1)
    assert reconcile.wake_due() == 1
    assert woken_priority() == number

    flush_redis()
    assert decide_approval(asker.pk, 0, True, "", "alice")
    assert woken_priority() == number


def test_a_waiting_start_can_be_cancelled_and_frees_nothing(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"concurrency": 1})
    first, second, third = (start_execution(workflow, by=alice) for _ in range(3))
    cancel_execution(second, by="alice")

    second.refresh_from_db()
    assert second.status == "cancelled"
    finish(first)
    assert admission.admit_waiting() == 1
    third.refresh_from_db()
    assert (third.status, third.held_by) == ("queued", "")


def test_a_limit_that_is_taken_away_lets_everything_go(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"concurrency": 1})
    for _ in range(5):
        start_execution(workflow, by=alice)
    workflow.settings = {}
    workflow.save()

    assert admission.admit_waiting() == 4
    assert held() == {("queued", ""): 5}


@pytest.mark.parametrize(
    "bad", [{"concurrency": "many"}, {"rate": 7}, {"concurrency_key": "{{ nonsense"}, [], "x", None]
)
def test_settings_that_cannot_be_read_never_stop_a_start(alice, make_workflow, bad):
    workflow = make_workflow(QUICK, settings={})
    workflow.settings = bad

    assert start_execution(workflow, by=alice).held_by == ""


def test_people_and_programs_see_what_a_start_waits_for(client, alice, make_workflow):
    workflow = make_workflow(QUICK, name="Shop A", settings={"concurrency": 1})
    client.force_login(alice)
    for _ in range(2):
        answer = client.post(
            "/api/v1/executions",
            {"workflow_id": str(workflow.pk), "priority": "high"},
            content_type="application/json",
        )
        assert answer.status_code == 202, answer.content
    waiting = Execution.objects.get(held_by="concurrency")
    reason = "waits for concurrency limit 1 of workflow Shop A"

    shown = client.get(f"/api/v1/executions/{waiting.pk}").json()
    assert (shown["status"], shown["held_by"], shown["held_reason"]) == ("queued", "concurrency", reason)
    assert waiting.priority == 0
    assert reason[1:] in client.get("/admin/executions/execution/").content.decode()
    assert reason in client.get(f"/admin/executions/execution/{waiting.pk}/change/").content.decode()


# --------------------------------------------------------------------------- overlap


def test_skip_records_the_start_as_cancelled_with_the_reason(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"overlap": "skip"})
    first = start_execution(workflow, by=alice)
    second = start_execution(workflow, by=alice)

    assert (first.status, second.status, second.error_code) == ("queued", "cancelled", "overlap")
    assert second.error == "concurrency limit 1 of workflow test (overlap: skip)"
    assert Event.objects.filter(execution_id=second.pk, type="workflow_error").exists()
    assert_numbered(second)
    finish(first)
    assert start_execution(workflow, by=alice).status == "queued"


def test_buffer_one_keeps_only_the_newest_waiting_start(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"overlap": "buffer_one", "concurrency": 2})
    executions = [start_execution(workflow, by=alice) for _ in range(6)]
    for execution in executions:
        execution.refresh_from_db()

    assert [e.status for e in executions] == ["queued"] * 2 + ["cancelled"] * 3 + ["queued"]
    assert [e.held_by for e in executions if e.status == "queued"] == ["", "", "concurrency"]
    assert {e.error_code for e in executions if e.status == "cancelled"} == {"overlap"}
    finish(executions[0])
    assert admission.admit_waiting() == 1
    executions[-1].refresh_from_db()
    assert executions[-1].held_by == ""


@pytest.mark.worker
def test_cancel_other_ends_the_running_one_and_starts_the_new_one(processes, alice, make_workflow):
    workflow = make_workflow(slow(30), settings={"overlap": "cancel_other"})
    processes.worker()
    first = start_execution(workflow, by=alice)
    wait_for(lambda: first.node_runs.filter(status="running").exists(), 15, "the first one", processes.logs)
    second, third = (start_execution(workflow, by=alice) for _ in range(2))

    wait_for(lambda: third.node_runs.filter(status="running").exists(), 15, "the newest one", processes.logs)

    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.status, first.error_code) == ("cancelled", "overlap")
    assert (second.status, second.error_code, second.node_runs.count()) == ("cancelled", "overlap", 0)
    assert most_at_once(status="cancelled") == 1
    assert_numbered(first)
    cancel_execution(third, by="alice")


def at_work(execution):
    """Let a process hold a node of an execution, so that a cancellation waits for it."""
    begin(execution)
    NodeRun.objects.create(
        execution=execution, phase_index=0, node_index=0, node_id="one", node_type="delay", status="running", claim="c"
    )


def asked_to_stop():
    return set(Execution.objects.filter(cancel_requested=True).values_list("pk", flat=True))


def test_cancel_other_asks_no_more_to_stop_than_it_needs(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"overlap": "cancel_other", "concurrency": 3})
    first, second, _ = made = [start_execution(workflow, by=alice) for _ in range(3)]
    for execution in made:
        at_work(execution)

    start_execution(workflow, by=alice)
    assert asked_to_stop() == {first.pk}
    assert admission.admit_waiting() == 0, "the first one still stops"
    assert asked_to_stop() == {first.pk}
    start_execution(workflow, by=alice)
    assert asked_to_stop() == {first.pk, second.pk}


def test_cancel_other_stops_nobody_of_another_key(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"overlap": "cancel_other", "concurrency_key": "{{ input.c }}"})
    of_a, of_b = (start_execution(workflow, by=alice, input={"c": c}) for c in "ab")
    at_work(of_a)
    at_work(of_b)

    start_execution(workflow, by=alice, input={"c": "b"})

    assert asked_to_stop() == {of_b.pk}


def test_allow_all_has_no_limit(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"overlap": "allow_all", "concurrency": 1})

    assert {start_execution(workflow, by=alice).held_by for _ in range(3)} == {""}


def test_an_overlap_rule_of_a_key_leaves_other_keys_alone(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"overlap": "skip", "concurrency_key": "{{ input.c }}"})
    made = [start_execution(workflow, by=alice, input={"c": c}) for c in "aabab"]

    assert [e.status for e in made] == ["queued", "cancelled", "queued", "cancelled", "cancelled"]


# --------------------------------------------------------------------------- keys


@pytest.mark.worker
def test_each_key_has_its_own_limit_and_a_full_key_does_not_hold_up_the_others(processes, alice, make_workflow):
    settings = {"concurrency_key": "{{ input.customer }}", "key_concurrency": 1, "concurrency": 3}
    workflow = make_workflow(slow(0.15), settings=settings)
    for customer in "aaaaaabcbc":
        start_execution(workflow, by=alice, input={"customer": customer})
    assert Counter(Execution.objects.filter(held_by="").values_list("concurrency_key", flat=True)) == {
        "a": 1, "b": 1, "c": 1,
    }  # fmt: skip
    processes.worker()

    wait_for_all(processes)

    assert Counter(Execution.objects.values_list("status", flat=True)) == {"completed": 10}
    assert most_at_once() <= 3
    assert {most_at_once(execution__concurrency_key=key) for key in "abc"} == {1}


def test_starts_without_a_key_are_not_limited_by_it(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"concurrency_key": "{{ input.customer }}"})

    assert {start_execution(workflow, by=alice).held_by for _ in range(3)} == {""}


def test_waiting_starts_without_a_key_go_as_far_as_the_other_limit_allows(alice, make_workflow):
    keyed = {"concurrency_key": "{{ input.customer }}"}
    workflow = make_workflow(QUICK, settings={**keyed, "concurrency": 1})
    for _ in range(5):
        start_execution(workflow, by=alice)
    workflow.settings = {**keyed, "concurrency": 4}
    workflow.save()

    assert admission.admit_waiting() == 3


# --------------------------------------------------------------------------- rate


def assert_rate(moments, count, seconds):
    """No window of ``seconds`` holds more than ``count`` moments."""
    ordered = sorted(moments)
    for first, beyond in zip(ordered, ordered[count:], strict=False):
        assert (beyond - first).total_seconds() >= seconds, f"{count + 1} within {beyond - first}"


def test_starts_that_pile_up_without_a_worker_do_not_begin_all_at_once(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"rate": {"count": 2, "per_s": 60}})
    made = [start_execution(workflow, by=alice) for _ in range(5)]
    everything = Execution.objects.all()
    later = timedelta(seconds=90)
    everything.update(queued_at=F("queued_at") - later)
    everything.exclude(admitted_at=None).update(admitted_at=F("admitted_at") - later)

    assert admission.admit_waiting() == 0  # two unbegun ones are in the broker
    begin(made[0])
    begin(made[1])
    assert admission.admit_waiting() == 0
    assert 0 < (admission.admit_due() or 0) <= 60.01
    everything.exclude(started_at=None).update(started_at=F("started_at") - later)
    assert admission.admit_waiting() == 2


def test_of_several_limits_the_one_that_is_waited_for_is_named(alice, make_workflow):
    workflow = make_workflow(QUICK, settings={"concurrency": 2, "rate": {"count": 1, "per_s": 60}})
    made = [start_execution(workflow, by=alice) for _ in range(2)]
    assert [e.held_by for e in made] == ["", "rate"]


# --------------------------------------------------------------------------- priority


@pytest.mark.worker
def test_high_goes_before_normal_before_low_in_the_broker_and_while_held(processes, alice, make_workflow):
    workflow = make_workflow(QUICK)
    limited = make_workflow(slow(0.05), name="limited", settings={"concurrency": 1, "priority": "low"})
    words = ["low", "normal", "high", None, "high", "low"]
    free = [start_execution(workflow, by=alice, priority=word) for word in words]
    first = start_execution(limited, by=alice)
    waiting = [start_execution(limited, by=alice, priority=word) for word in words]
    assert [e.priority for e in free] == [9, 5, 0, 5, 0, 9]
    assert [first.priority, *(e.priority for e in waiting)] == [9, 9, 5, 0, 9, 0, 9]
    one_slot = [argument.replace("8", "1") for argument in WORKER]
    processes.start("-m", "celery", "-A", "flowbuilder", *one_slot)

    wait_for_all(processes)

    begun = list(Execution.objects.filter(workflow=workflow).order_by("started_at").values_list("priority", flat=True))
    assert begun == [0, 0, 5, 5, 9, 9]
    rest = Execution.objects.filter(pk__in=[e.pk for e in waiting]).order_by("started_at")
    assert list(rest.values_list("priority", flat=True)) == [0, 0, 5, 9, 9, 9]


@pytest.mark.parametrize("word", ["high", "normal", "low"])
def test_the_queue_is_seen_whatever_the_priority_of_its_messages(alice, make_workflow, word):
    broker.lost_before("control")  # the emptied Redis is new to it
    broker.emptied_at = 0
    assert patience_us() < 2 * LOST_MESSAGE_US
    start_execution(make_workflow(QUICK), by=alice, priority=word)
    assert patience_us() >= QUEUED_MESSAGE_US - 1_000_000


def patience_us():
    return database_now_us() - broker.lost_before("control")


# --------------------------------------------------------------------------- fairness


def test_starts_beyond_the_window_go_in_turns_between_owners(alice, bob, make_workflow, monkeypatch):
    monkeypatch.setattr(settings, "START_WINDOW", 10)
    of_alice, of_bob = make_workflow(QUICK), make_workflow(QUICK, name="bob's", owner=bob)
    for _ in range(100):
        start_execution(of_alice, by=alice)
    for _ in range(20):
        start_execution(of_bob, by=bob)
    assert held() == {("queued", ""): 10, ("queued", "queue"): 110}

    order = []
    while Execution.objects.filter(status="queued").exists():
        for execution in Execution.objects.filter(status="queued", held_by="").order_by("published_at")[:3]:
            begin(execution)
            order.append(execution.owner_id)
        admission.drain()
        assert Execution.objects.filter(status="queued", held_by="").count() <= 10

    shares = Counter(order[10:50])
    assert abs(shares[alice.pk] - shares[bob.pk]) <= 6, shares
    assert len(order) == 120


def test_who_has_least_in_the_broker_goes_first_of_those_whose_turn_it_is(alice, bob, make_workflow, monkeypatch):
    monkeypatch.setattr(settings, "START_WINDOW", 2)
    of_alice, of_bob = make_workflow(QUICK), make_workflow(QUICK, name="bob's", owner=bob)
    begun, _, older, younger = (
        start_execution(workflow, by=workflow.owner) for workflow in (of_alice, of_alice, of_alice, of_bob)
    )
    assert (older.held_by, younger.held_by) == ("queue", "queue")

    begin(begun)
    assert admission.drain() == 1

    assert list(Execution.objects.filter(held_by="queue")) == [older]


def test_starts_of_one_owner_leave_the_queue_by_their_priority(alice, make_workflow, monkeypatch):
    monkeypatch.setattr(settings, "START_WINDOW", 1)
    workflow = make_workflow(QUICK)
    begun, normal, high = (start_execution(workflow, by=alice, priority=word) for word in ("low", "normal", "high"))
    assert (normal.held_by, high.held_by) == ("queue", "queue")

    begin(begun)
    assert admission.drain() == 1

    assert list(Execution.objects.filter(held_by="queue")) == [normal]


@pytest.mark.worker
def test_a_flood_drains_completely_through_the_window(processes, alice, bob, make_workflow):
    of_alice, of_bob = make_workflow(QUICK), make_workflow(QUICK, name="bob's", owner=bob)
    for workflow, owner, count in ((of_alice, alice, 260), (of_bob, bob, 10)):
        for _ in range(count):
            start_execution(workflow, by=owner)
    assert Execution.objects.filter(held_by="").count() <= settings.START_WINDOW + settings.START_WINDOW // 8
    assert Execution.objects.filter(held_by="queue", owner=bob).count() == 10
    processes.worker()

    wait_for_all(processes)  # without beat

    assert set(Execution.objects.values_list("status", flat=True)) == {"completed"}
    order = list(Execution.objects.order_by("started_at").values_list("owner", flat=True))
    assert bob.pk not in order[:150]
    assert order[:245].count(bob.pk) == 10


def test_many_due_schedules_are_started_in_turns_between_owners(alice, django_user_model, make_workflow):
    from executions.beat import start_due
    from workflows import schedules
    from workflows.models import Schedule

    owners = [django_user_model.objects.create(username=f"user{n}") for n in range(3)]
    for owner, count in zip(owners, (30, 5, 5), strict=True):
        for n in range(count):
            schedules.set_schedule(make_workflow(QUICK, name=f"w{n}", owner=owner), "0 0 * * *")
    Schedule.objects.update(next_run_at=datetime.now(UTC) - timedelta(minutes=1))

    assert start_due() == 40

    order = list(Execution.objects.order_by("queued_at").values_list("owner", flat=True))
    assert Counter(order[:15]) == {owner.pk: 5 for owner in owners}


def test_an_ordinary_start_asks_at_most_one_small_question(alice, make_workflow, monkeypatch):
    monkeypatch.setattr(limits, "KNOWN_SECONDS", 3600)
    workflow = make_workflow(QUICK)
    start_execution(workflow, by=alice)
    execution = Execution(workflow=workflow, owner=alice)
    taken = []
    for _ in range(20):
        begun = time.process_time()
        with CaptureQueriesContext(connection) as queries:
            admission.place(execution, {}, {})
        taken.append(time.process_time() - begun)
        assert len(queries) == 0  # plain SQL is not captured; no ORM query is made
    assert statistics.median(taken) < 0.001


# --------------------------------------------------------------------------- retry storm


STORM_BURST, STORM_SECONDS, STORM_WINDOW = 5, 0.5, 2


@pytest.mark.worker
@pytest.mark.timeout(300)
@pytest.mark.parametrize("storm", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_fault_44_a_retry_storm_reaches_the_sink_at_most_at_the_configured_rate(
    processes, alice, make_workflow, httpserver, storm
):
    """60 executions (500 with --slow), at most 5 per half second, each tried twice against a target that is down.

    What the sink may see is counted in windows of two seconds, in which one more burst than the rate allows can begin.
    A window is as much longer as the slowest way from the admission to the sink took, so that a busy machine, on which
    some arrive late and close together, breaks no bound.
    """
    hits = []

    def down(request):
        from werkzeug import Response

        hits.append((time.time(), request.headers.get("Idempotency-Key", "")))
        return Response("down", status=503)

    httpserver.expect_request("/sink").respond_with_handler(down)
    policy = {"retries": 1, "backoff_s": 0.5, "jitter": True}
    call = node("call", "deliver_to_webhook", policy, Webhook_URL=httpserver.url_for("/sink"), Payload='{"a": 1}')
    workflow = make_workflow(graph([call]), settings={"rate": {"count": STORM_BURST, "per_s": STORM_SECONDS}})
    # A node that waits to try again keeps its slot.
    child = processes.start("-m", "celery", "-A", "flowbuilder", *WORKER, "-c", "32")
    wait_for(WorkerLease.objects.filter(pid=child.pid).exists, 90, "the worker", processes.logs)
    processes.beat()
    for _ in range(storm):
        start_execution(workflow, by=alice)

    wait_for_all(processes, 200)

    assert Counter(Execution.objects.values_list("status", flat=True)) == {"failed": storm}
    arrived: dict[str, list[float]] = {}
    for moment, key in sorted(hits):
        arrived.setdefault(key, []).append(moment)
    assert len(arrived) == storm
    assert {len(moments) for moments in arrived.values()} == {2}
    gaps = [second - first for first, second in arrived.values()]
    assert min(gaps) >= 0.25, "no backoff"
    assert max(gaps) - min(gaps) > 0.1, "no jitter"
    admitted = {str(row.pk): (row.admitted_at or 0) / 1_000_000 for row in Execution.objects.all()}
    assert_rate([datetime.fromtimestamp(moment, UTC) for moment in admitted.values()], STORM_BURST, STORM_SECONDS)
    assert_rate(Execution.objects.values_list("started_at", flat=True), STORM_BURST, STORM_SECONDS)
    late = max(first - admitted[key.partition(":")[0]] for key, (first, _) in arrived.items())
    allowed = STORM_BURST * ((STORM_WINDOW + late) / STORM_SECONDS + 1)
    firsts = most_within(STORM_WINDOW, [first for first, _ in arrived.values()])
    tries = most_within(STORM_WINDOW, [moment for moment, _ in hits])
    print(
        f"{firsts} first tries and {tries} in all, {late:.2f} s late; {allowed:.0f} and {2 * allowed:.0f} are allowed"
    )
    assert firsts <= allowed
    assert tries <= 2 * allowed


def most_within(seconds, moments):
    """Return how many of ``moments`` (seconds) the fullest window of so many seconds holds."""
    ordered = sorted(moments)
    return max(bisect_left(ordered, first + seconds) - place for place, first in enumerate(ordered))
