"""Beat: starts due workflows by compare-and-set, and runs the reconciler inside its own tick.

Any number of beats may run: a due instant belongs to whoever moves ``next_run_at`` first, and the
execution's UNIQUE(workflow, scheduled_for) is the second guard. A periodic task is sent by whoever
moves its ``last_run_at`` first.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, close_old_connections, transaction
from django.db.models import F
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from executions import letters, upper
from executions.errors import ExecutionError
from executions.failpoints import failpoint
from executions.machine import gauge as machine_gauge
from executions.models import WorkerLease
from executions.reconcile import admit_due, reconcile
from executions.store import committer, now_us
from executions.triggers import start_execution
from workflows import audit, schedules
from workflows.errors import InsufficientCredits, WorkflowError
from workflows.models import Schedule, Workflow

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 10.0
"""How long a beat waits at most before it asks a database again that did not answer."""
DUE_BATCH = 100
RECONCILE_TASK = "executions.reconcile"
OVERDUE_SECONDS = 4.0


@shared_task(name=RECONCILE_TASK)
def reconcile_now() -> None:
    """Run the reconciler once; beat does so inside its tick, without a message."""
    reconcile()


@shared_task(name="executions.start_workflow")
def start_workflow(workflow: str, input: Any = None) -> str:
    """Start the active version of a workflow, named by id or name; any periodic task may name this one.

    Returns the id of the execution.
    """
    try:
        found = Workflow.objects.select_related("version").get(pk=UUID(workflow))
    except (ValueError, Workflow.DoesNotExist):
        found = Workflow.objects.select_related("version").get(name=workflow)
    return str(start_execution(found, by=None, trigger="scheduled", input=input).pk)


class Backoff:
    """How long to wait after failures in a row: about twice as long each time, from a tick to ``LONGEST_WAIT_SECONDS``."""

    def __init__(self) -> None:
        self._wait = TICK_SECONDS

    def failed(self) -> float:
        """Return seconds to wait now, up to half less at random, so that many beats do not come back together."""
        wait, self._wait = self._wait, min(LONGEST_WAIT_SECONDS, self._wait * 2)
        return wait * random.uniform(0.5, 1.0)  # noqa: S311 - nobody gains from guessing it

    def worked(self) -> None:
        """Begin with a tick again."""
        self._wait = TICK_SECONDS


class WorkflowScheduler(DatabaseScheduler):
    """django-celery-beat's scheduler plus the due workflows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._backoff = Backoff()
        committer.patience_s = 0.0  # the reconciler comes again in two seconds; nobody waits for one row
        self._boot = uuid.uuid4().hex
        self._started = datetime.now(UTC)
        self._said_alive = float("-inf")
        self._reconciled = time.monotonic()
        self._ticked_above = float("-inf")

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Start what is due and return seconds until the next look."""
        try:
            with _ends_later(self._hurry):
                self._say_alive()
                start_due()
                remaining: float = super().tick(*args, **kwargs)
                self._reconcile_overdue()
                self._tick_above()
                held = admit_due()
                upcoming = _seconds_to_next()
        except DatabaseError as error:
            wait = self._backoff.failed()
            logger.error("the database does not answer, due workflows wait; next try in %.1f s: %s", wait, error)
            close_old_connections()
            return wait
        self._backoff.worked()
        return min(remaining, TICK_SECONDS, TICK_SECONDS if held is None else max(0.01, held), upcoming)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send a periodic task if no other beat did; the reconciler runs here, so that no queue can delay it."""
        if entry.task == RECONCILE_TASK:
            self._reconcile()
        elif self._claims(entry):
            super().apply_entry(entry, producer=producer)

    def _claims(self, entry: Any) -> bool:
        """Return whether ``entry``, which is due here, is still to be sent, and write that it was."""
        row = PeriodicTask.objects.filter(pk=entry.model.pk)
        try:
            sent = row.values_list("last_run_at", flat=True).first()
            if sent is not None and sent > entry.last_run_at and not entry.schedule.is_due(sent).is_due:
                return False
            moved = row.filter(last_run_at=sent).update(
                last_run_at=entry.model.last_run_at, total_run_count=F("total_run_count") + 1
            )
        except DatabaseError:
            self._schedule[entry.name], self._heap = entry, None  # it stays due
            raise
        finally:
            self._dirty.discard(entry.name)  # what this process remembers may be older than the row
        return bool(moved)

    def _reconcile(self) -> None:
        self._reconciled = time.monotonic()
        try:
            reconcile()
        except Exception:
            logger.exception("the reconciler failed; it runs again in two seconds")

    def _reconcile_overdue(self) -> None:
        """Run the reconciler although no row makes it due, unless somebody switched its row off.

        A clock that is behind, or jumped back, would hold the row up; and the row may have been deleted.
        """
        if time.monotonic() - self._reconciled < OVERDUE_SECONDS:
            return
        rows = list(PeriodicTask.objects.filter(task=RECONCILE_TASK).values_list("enabled", flat=True))
        if not rows or any(rows):
            self._reconcile()

    def _ensure_connected(self) -> Any:
        """Return the connection as it is, whether the broker is there or not; what is sent looks for it, for some seconds.

        Celery waits here until the broker is there, before the first tick goes on, and with it would wait what needs
        no broker: due workflows, the reconciler, alerts.
        """
        return self.connection

    def _hurry(self) -> None:
        """End waits for a broker that is away, so that the tick comes to its end."""
        self.app.amqp.Connection.gives_up = True

    def _tick_above(self) -> None:
        if time.monotonic() - self._ticked_above < TICK_SECONDS:
            return
        self._ticked_above = time.monotonic()
        for tick in upper.BEAT_TICKS:
            try:
                tick()
            except Exception:
                logger.exception("a part of beat's tick failed; it comes again in a second")

    def _say_alive(self) -> None:
        if time.monotonic() - self._said_alive < 2:
            return
        self._said_alive = time.monotonic()
        WorkerLease.objects.update_or_create(
            boot=self._boot,
            defaults={
                "hostname": socket.gethostname(),
                "pid": os.getpid(),
                "queues": "beat",
                "started_at": self._started,
                "beat_at": now_us(),
                **asdict(machine_gauge.read(Path(settings.DATA_DIR))),
            },
        )


@contextmanager
def _ends_later(hurry: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM and SIGINT wait for the end of the block, and call ``hurry`` when one comes.

    Celery's handler writes to the database wherever it interrupts; in the middle of a statement, whose connection is
    locked, it would wait for itself for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        came.append(number)
        hurry()

    handlers = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def start_due(now: datetime | None = None) -> int:
    """Start every workflow that is due and return how many were started. One bad row never blocks the rest."""
    moment = now or datetime.now(UTC)
    started = 0
    for schedule in schedules.due(moment, DUE_BATCH):
        try:
            started += _start(schedule, moment)
        except (OperationalError, InterfaceError):
            raise  # the database does not answer; the instant stays due
        except InsufficientCredits as error:
            _skip(schedule, moment, error)
        except (ExecutionError, WorkflowError) as error:
            _give_up(schedule, moment, error)
        except Exception as error:
            logger.exception("schedule %s broke", schedule.pk)
            _give_up(schedule, moment, error)
    return started


def _start(schedule: Schedule, moment: datetime) -> bool:
    """Claim the instant and start its execution in one transaction, so that neither is lost without the other."""
    workflow = schedule.workflow
    with transaction.atomic():
        instant = schedules.claim(schedule, moment)
        if instant is None:
            return False
        failpoint("schedule-claimed")
        start_execution(workflow, by=None, trigger="scheduled", scheduled_for=instant)
    return True


def _skip(schedule: Schedule, moment: datetime, error: InsufficientCredits) -> None:
    """Pass over an instant for which the owner has no credits, and say so in the audit log; the schedule goes on."""
    with transaction.atomic():
        instant = _pass_over(schedule, moment)
        if instant is not None:
            audit.note("skipped", "workflow", schedule.workflow, due=instant.isoformat(), reason=str(error))
            logger.warning('workflow "%s" was due at %s and is passed over: %s', schedule.workflow, instant, error)


def _pass_over(schedule: Schedule, moment: datetime) -> datetime | None:
    """Claim an instant without starting anything; return it, or None when somebody else has it."""
    stored = Schedule.objects.select_related("workflow").filter(pk=schedule.pk).first()  # the claim was rolled back
    return schedules.claim(stored, moment) if stored else None


def _give_up(schedule: Schedule, moment: datetime, error: Exception) -> None:
    """Pass over an instant whose execution cannot be started, and leave a note for a person."""
    instant = _pass_over(schedule, moment)
    if instant is None:
        return
    logger.error('workflow "%s" was due at %s but could not be started: %s', schedule.workflow.name, instant, error)
    letters.keep(
        "schedule",
        str(error) or repr(error),
        {"workflow_id": str(schedule.workflow_id), "scheduled_for": instant.isoformat()},
        workflow_id=schedule.workflow_id,
    )


def _seconds_to_next() -> float:
    upcoming = schedules.next_instant()
    if upcoming is None:
        return TICK_SECONDS
    return max(0.05, (upcoming - datetime.now(UTC)).total_seconds())
