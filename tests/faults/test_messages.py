"""Messages that are lost, doubled, early or stale, and clocks that are wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from uuid import uuid4

import pytest

from executions import tasks
from executions.models import Execution, NodeRun, WorkerLease
from executions.triggers import cancel_execution, publish_start
from recordings.models import Event, Recording
from tests.conftest import graph, node, test_environment, wait_for
from tests.environment import ROOT
from tests.faults.conftest import check_invariants, recovered, since

pytestmark = [pytest.mark.worker, pytest.mark.redis]


def test_fault_27_a_start_whose_sender_was_killed_is_rung_within_five_seconds(stack):
    workflow = stack.workflow("lost start")
    stack.beat()
    stack.worker()
    stack.kill_at("start-committed")
    code = (
        "import tests.faults.worker_app; from workflows.models import Workflow;"
        "from executions.triggers import start_execution;"
        "w = Workflow.objects.get(name='lost start'); start_execution(w, by=w.owner)"
    )
    sender = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", code],
        env={**test_environment(), **stack.env}, cwd=ROOT, check=False,
    )  # fmt: skip
    died = time.monotonic()
    assert sender.returncode == -signal.SIGKILL
    execution = Execution.objects.get()

    wait_for(lambda: stack.traces("begin"), 20, "the first node", stack.logs)

    recovered("27 killed between commit and publish", since(died), 5)
    stack.wait_ended([execution])
    assert execution.workflow == workflow
    check_invariants(stack)


@pytest.fixture
def everything_thrice(monkeypatch):
    """Send every message of this process three times; the workers do the same by ``FAULTS_COPIES``."""
    monkeypatch.setenv("FAULTS_COPIES", "3")


def test_fault_28_and_29_and_30_doubled_early_and_stale_messages_change_nothing(stack, everything_thrice):
    """Every message comes three times; some come before their time, some after."""
    workflow = stack.workflow(seconds=0.5)
    stack.beat()
    stack.worker(wait=False)
    stack.worker()
    executions = [stack.start(workflow) for _ in range(3)]
    for execution in executions:
        for _ in range(2):
            publish_start(execution)
    with stack.held_at("before-commit") as reached:
        early = stack.start(workflow)
        reached()
        for phase, indexes in ((1, [1]), (1, [1, 2, 3]), (2, [4])):
            tasks.run_nodes.si(str(early.pk), phase, indexes).set(queue="default").apply_async()  # 29: not open yet
        for phase in (1, 2, 3):
            tasks.advance.si(str(early.pk), phase).set(queue="control").apply_async()  # 29: the body before its header
        time.sleep(0.5)
    executions.append(early)
    stack.wait_ended(executions)
    cancelled = stack.start(stack.single("cancelled", seconds=20))
    wait_for(lambda: stack.traces("begin", cancelled), 20, "the node", stack.logs)
    assert cancel_execution(cancelled, by="alice")
    stack.wait_ended([cancelled])
    before = snapshot()

    ghost = uuid4()
    for execution_id in (early.pk, cancelled.pk, ghost):
        for phase in range(3):
            tasks.advance.si(str(execution_id), phase).set(queue="control").apply_async()
            tasks.run_nodes.si(str(execution_id), phase, [0, 1, 99]).set(queue="default").apply_async()
    publish_start(cancelled)
    last = stack.start(workflow)
    stack.wait_ended([last])
    time.sleep(1)

    after = snapshot(without=last)
    assert after == before
    assert {trace.key for trace in stack.traces("begin")} == {
        *(f"{run.execution_id}:{run.node_id}:0" for run in NodeRun.objects.exclude(status="skipped"))
    }
    effects = [trace.key for trace in stack.traces("effect")]
    assert len(effects) == len(set(effects)), "an effect happened twice"
    assert len(stack.traces("copy")) >= 2 * 3 * len(executions)
    assert str(ghost) in stack.logs()
    assert "Traceback" not in stack.logs()
    check_invariants(stack, without=[cancelled])


def test_fault_30_stale_messages_run_nothing_and_are_counted_where_operators_see_them(stack, admin_client):
    """Of executions that ended, were cancelled, were deleted, never were, or belong to a version before the active one."""
    versions = stack.single("versions")
    old = stack.start(versions)
    versions.save_version(graph([node("newer", "test_effect"), node("newest", "test_effect")]), author=stack.alice)
    versions.version = versions.draft
    versions.save()
    ended, new, deleted = stack.start(stack.workflow()), stack.start(versions), stack.start(stack.single("deleted"))
    cancelled = stack.start(stack.single("cancelled", seconds=20))
    stack.worker()
    stack.wait_ended([old, ended, new, deleted])
    assert {run.node_id for run in old.node_runs.all()} == {"only"}, "it ran another version than its own"
    assert {run.node_id for run in new.node_runs.all()} == {"newer", "newest"}
    wait_for(lambda: stack.traces("begin", cancelled), 20, "the node", stack.logs)
    assert cancel_execution(cancelled, by="alice")
    stack.wait_ended([cancelled])
    key = deleted.pk
    Recording.objects.filter(execution_id=key).delete()
    Event.objects.filter(execution_id=key).delete()
    Execution.objects.get(pk=key).delete()
    before, begun = snapshot(), len(stack.traces("begin"))

    never = Execution(
        pk=uuid4(), workflow=versions, version=versions.version, owner=stack.alice, queued_at=old.queued_at
    )
    deleted.pk = key
    stale = [old, ended, cancelled, deleted, never]
    for execution in stale:
        publish_start(execution)
        for phase in range(3):
            tasks.run_nodes.si(str(execution.pk), phase, [0, 1]).set(queue="default").apply_async()
        tasks.advance.si(str(execution.pk), 1).set(queue="control").apply_async()  # a late body, of no importance
    counted = 4 * len(stale) + 1  # but not when nobody knows the execution: the worker knows the deleted one

    wait_for(lambda: stale_messages() >= counted, 20, f"{counted} stale messages", stack.logs)

    assert (snapshot(), len(stack.traces("begin"))) == (before, begun)
    assert stale_messages() == counted
    assert f'stale_text">{counted}</td>' in admin_client.get("/admin/executions/workerlease/").content.decode()
    assert "Traceback" not in stack.logs()
    check_invariants(stack, without=[cancelled])


def stale_messages():
    return sum(WorkerLease.objects.values_list("stale", flat=True))


def snapshot(without=None):
    """Return everything that is stored about executions."""
    others = Execution.objects.all() if without is None else Execution.objects.exclude(pk=without.pk)
    keys = list(others.values_list("pk", flat=True))
    return (
        sorted(map(str, others.values_list("pk", "status", "seq", "credits"))),
        sorted(
            map(
                str,
                NodeRun.objects.filter(execution_id__in=keys).values_list(
                    "execution_id", "node_id", "status", "attempt", "deliveries"
                ),
            )
        ),
        Event.objects.filter(execution_id__in=keys).count(),
    )
