"""When workflows start by themselves.

``next_run_at`` is set only while the schedule is enabled and the workflow active, so that looking for
due schedules reads nothing but the front of one index, however many schedules there are.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Min
from django.utils import timezone

from workflows import audit
from workflows import cron as crons
from workflows.limits import limits_of
from workflows.models import Schedule, Workflow

logger = logging.getLogger(__name__)

TURNS = 10
"""How many schedules are looked at for each that may start, so that an owner with many does not go first with all."""


def set_schedule(workflow: Workflow, cron: str, timezone: str = "UTC", enabled: bool = True) -> Schedule:
    """Give ``workflow`` this schedule and return it, with its next instant if the workflow is active.

    Raises:
        ValueError: the cron or the zone is not valid, or it is enabled and fires too often (``IntervalTooShort``).
    """
    cron = " ".join(crons.parse(cron).text.split())
    crons.check(cron, timezone, limits_of(workflow.owner_id).minimum_interval_s if enabled else 0)
    wanted: dict[str, Any] = {"cron": cron, "timezone": timezone, "enabled": enabled}
    with transaction.atomic():
        before = Schedule.objects.filter(workflow=workflow).values(*wanted).first()
        if before != wanted:
            Schedule.objects.update_or_create(workflow=workflow, defaults=wanted)
            audit.note("schedule", "workflow", workflow, **wanted, before=before)
        schedule = refresh(workflow)
    assert schedule is not None  # noqa: S101 - it was just stored
    return schedule


def clear_schedule(workflow: Workflow) -> bool:
    """Take the schedule away; return whether there was one."""
    with transaction.atomic():
        before = Schedule.objects.filter(workflow=workflow).values("cron", "timezone", "enabled").first()
        deleted, _ = Schedule.objects.filter(workflow=workflow).delete()
        if deleted:
            audit.note("unschedule", "workflow", workflow, before=before)
    return bool(deleted)


def refresh(workflow: Workflow, now: datetime | None = None) -> Schedule | None:
    """Compute the next instant anew, as after a change of the workflow's status; None without a schedule.

    Instants that passed while the workflow was not active are not made up for.
    """
    schedule = Schedule.objects.filter(workflow=workflow).first()
    if schedule is None:
        return None
    status = Workflow.objects.filter(pk=workflow.pk).values_list("status", flat=True).get()
    runs = schedule.enabled and status == Workflow.Status.ACTIVE
    schedule.next_run_at = _next(schedule, now or timezone.now()) if runs else None
    schedule.save(update_fields=("next_run_at",))
    schedule.workflow = workflow
    return schedule


def due(now: datetime, limit: int = 100) -> list[Schedule]:
    """Return up to ``limit`` schedules whose instant has come, in turns between owners, each longest waiting first.

    One query on the index of instants; the turns are taken among the ``TURNS`` that wait longest for each asked for.
    """
    found = (
        Schedule.objects.filter(next_run_at__lte=now, enabled=True, workflow__status=Workflow.Status.ACTIVE)
        .select_related("workflow")
        .order_by("next_run_at", "pk")[: limit * TURNS]
    )
    turns: Counter[int] = Counter()
    ordered: list[tuple[int, int, Schedule]] = []
    for position, schedule in enumerate(found):
        owner = schedule.workflow.owner_id
        ordered.append((turns[owner], position, schedule))
        turns[owner] += 1
    return [schedule for _, _, schedule in sorted(ordered)[:limit]]


def claim(schedule: Schedule, now: datetime) -> datetime | None:
    """Take the due instant of ``schedule``: return it to exactly one caller, None to all others.

    The schedule moves on to its first instant after ``now``; when several were missed they count as one.
    A cron that is no longer valid is logged and not tried again until it is edited.
    """
    instant = schedule.next_run_at
    if instant is None or instant > now:
        return None
    try:
        upcoming = _next(schedule, now)
    except ValueError as error:
        logger.error("schedule of workflow %s is skipped: %s", schedule.workflow_id, error)
        Schedule.objects.filter(pk=schedule.pk, next_run_at=instant).update(next_run_at=None)
        return None
    won = Schedule.objects.filter(
        pk=schedule.pk, next_run_at=instant, enabled=True, workflow__status=Workflow.Status.ACTIVE
    ).update(next_run_at=upcoming, last_run_at=now)
    if not won:
        return None
    schedule.next_run_at, schedule.last_run_at = upcoming, now
    return instant


def next_instant() -> datetime | None:
    """Return when the next schedule is due, or None if there is none."""
    earliest: datetime | None = Schedule.objects.filter(
        next_run_at__isnull=False, enabled=True, workflow__status=Workflow.Status.ACTIVE
    ).aggregate(earliest=Min("next_run_at"))["earliest"]
    return earliest


def _next(schedule: Schedule, after: datetime) -> datetime:
    return crons.get_next_run_date(schedule.cron, schedule.timezone, after)
