"""Messages that are lost, doubled, early or stale, and clocks that are wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from uuid import uuid4

import pytest

from executions import tasks
from executions.models import Execution, NodeRun
from executions.triggers import cancel_execution, publish_start
from recordings.models import Event
from tests.conftest import test_environment, wait_for
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
        "w = Workflow.objects.get(name='lost start'); start_execution(w, owner=w.owner)"
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
    assert len(stack.traces("copy")) >= 2 * 4 * len(executions)
    assert str(ghost) in stack.logs()
    assert "Traceback" not in stack.logs()
    check_invariants(stack, without=[cancelled])


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
