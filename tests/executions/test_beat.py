"""Schedules on real beats: a due instant starts exactly one execution, however many beats there are."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions.beat import start_due
from executions.models import DeadLetter, Execution, WorkerLease
from executions.store import now_us
from tests.conftest import graph, node, wait_for
from tests.environment import ROOT
from workflows import schedules
from workflows.models import Schedule, Workflow

pytestmark = pytest.mark.postgres
CONSTANT = graph([node("one", "json_transform", Input_JSON={}, Transform_Rules={"a": {"value": 1}})])


def scheduled(workflow, instant=None):
    """Schedule ``workflow`` for ``instant``, and then not before half a day: no test runs into the next time."""
    cron = f"0 {(datetime.now(UTC).hour + 12) % 24} * * *"
    schedule = schedules.set_schedule(workflow, cron, "UTC")
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=instant or datetime.now(UTC).replace(microsecond=0))
    return schedule


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.row("S2-14")
@pytest.mark.row("S2-33")
def test_two_beats_start_due_workflows_once_each_and_on_time(processes, make_workflow):
    workflows = [make_workflow(CONSTANT, name=f"every day {number}") for number in range(20)]
    processes.beat()
    processes.beat()
    processes.worker()
    wait_for(lambda: WorkerLease.objects.filter(queues="beat").count() == 2, 30, "both beats", processes.logs)
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    instants = [first + timedelta(seconds=0.23 * number) for number in range(20)]  # nowhere near the same tick
    all_of_them = [scheduled(workflow, instant=instant) for workflow, instant in zip(workflows, instants, strict=True)]

    wait_for(
        lambda: Execution.objects.filter(status="completed").count() >= 20, 40, "what was scheduled", processes.logs
    )
    time.sleep(2.5)  # time for the other beat to start them, too

    executions = {execution.scheduled_for: execution for execution in Execution.objects.all()}
    assert Execution.objects.count() == len(executions) == 20
    assert sorted(executions) == instants
    assert {execution.trigger for execution in executions.values()} == {"scheduled"}
    late = sorted(execution.queued_at - instant for instant, execution in executions.items())
    assert timedelta(0) <= late[0] <= late[18] <= timedelta(seconds=2), [span.total_seconds() for span in late]
    for schedule, instant in zip(all_of_them, instants, strict=True):
        schedule.refresh_from_db()
        assert schedule.last_run_at >= instant
        assert schedule.next_run_at > instant + timedelta(hours=11)
        assert schedule.next_run_at.minute == 0


@pytest.mark.worker
@pytest.mark.redis
def test_a_beat_killed_between_claim_and_start_loses_no_instant(processes, make_workflow, tmp_path):
    instant = datetime.now(UTC).replace(microsecond=0)
    scheduled(make_workflow(CONSTANT), instant=instant)
    flag = tmp_path / "armed"
    flag.touch()
    doomed = processes.beat(FLOWBUILDER_FAILPOINT=f"schedule-claimed:{flag}")
    wait_for(lambda: doomed.poll() == -signal.SIGKILL, 20, "the death of beat", processes.logs)
    assert not Execution.objects.exists()
    processes.worker()
    processes.beat()

    wait_for(lambda: Execution.objects.filter(status="completed").exists(), 25, "the execution", processes.logs)

    assert Execution.objects.get().scheduled_for == instant


@pytest.mark.row("S2-16")
def test_one_bad_workflow_does_not_hold_up_the_others(transactional_db, make_workflow):
    broken = make_workflow(CONSTANT, name="broken")
    good = make_workflow(CONSTANT, name="good")
    past = datetime.now(UTC) - timedelta(minutes=1)
    scheduled(broken, instant=past)
    scheduled(good, instant=past + timedelta(seconds=1))
    broken.save_version(graph([node("x", "no_such_type")]), author=broken.owner)
    Workflow.objects.filter(pk=broken.pk).update(version=broken.draft)

    assert start_due() == 1

    assert Execution.objects.get().workflow == good
    assert "no_such_type" in DeadLetter.objects.get(kind="schedule").error
    assert start_due() == 0


@pytest.mark.row("S2-02b")
def test_paused_workflows_are_not_started(transactional_db, make_workflow):
    workflow = make_workflow(CONSTANT)
    scheduled(workflow, instant=datetime.now(UTC) - timedelta(minutes=1))
    Workflow.objects.filter(pk=workflow.pk).update(status=Workflow.Status.PAUSED)

    assert start_due() == 0


@pytest.mark.row("S0-34")
def test_the_system_jobs_are_periodic_tasks_after_migrate(tmp_path):
    path = tmp_path / "fresh.sqlite3"
    env = {**os.environ, "DATABASE_URL": f"sqlite:///{path}", "FLOWBUILDER_DATA_DIR": str(tmp_path)}

    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=ROOT, env=env, check=True)

    with contextlib.closing(sqlite3.connect(path)) as database:
        tasks = {row[0] for row in database.execute("SELECT task FROM django_celery_beat_periodictask WHERE enabled")}
    assert {"executions.reconcile", "recordings.seal", "recordings.purge_events", "recordings.retention"} <= tasks


@pytest.mark.worker
@pytest.mark.redis
def test_a_periodic_task_of_the_beat_admin_may_start_a_workflow(processes, make_workflow):
    make_workflow(CONSTANT, name="by hand")
    interval, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
    PeriodicTask.objects.create(
        name="mine", task="executions.start_workflow", interval=interval, kwargs='{"workflow": "by hand"}', one_off=True,
        queue="control",
    )  # fmt: skip
    before = now_us()
    processes.worker()
    processes.beat()

    wait_for(lambda: Execution.objects.filter(status="completed").exists(), 25, "the execution", processes.logs)

    assert Execution.objects.filter(published_at__gte=before).exists()
