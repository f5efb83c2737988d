"""What the index of the admin shows: counters, the newest executions, workflows, and what comes next.

Every number comes from the same rows as the lists. The number of queries does not grow with the rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, OuterRef, Q, Subquery, Sum
from django.db.models.functions import TruncDate
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from executions import report
from executions.admin import attach_node_names, cause, execution_url, states_word, trigger_word
from executions.models import Execution
from executions.states import CANCELLED, COMPLETED, COMPLETED_WITH_ERRORS, FAILED, PAUSED, QUEUED, RUNNING, WAITING
from monitoring.admin.words import alert_pill
from monitoring.alerts import inbox
from monitoring.models import Alert
from recordings.models import Recording
from workflows.admin.cells import EMPTY, due, duration, moment, status_pill
from workflows.models import Schedule, Workflow

DAYS = 14
"""How far the chart looks back, today included."""
ROWS = 8
"""Rows of each table."""
OPEN = (QUEUED, RUNNING, PAUSED, WAITING)
CHART_WIDTH, CHART_HEIGHT, GAP = 1000, 100, 10


def dashboard(user: Any, now: datetime) -> dict[str, Any]:
    """Return what the dashboard of ``user`` shows at ``now``: only rows that they may see."""
    everything = Execution.objects.visible_to(user)
    executions = everything.filter(parent=None)
    workflows = Workflow.objects.visible_to(user).exclude(status=Workflow.Status.ARCHIVED)
    days = _days(everything, timezone.localtime(now).date())
    return {
        "now": now,
        "days": DAYS,
        "today": days[-1],
        "chart": _bars(days),
        "chart_total": sum(day.total for day in days),
        **_open(executions),
        "recordings": Recording.objects.visible_to(user).aggregate(count=Count("pk"), size=Sum("file_size_bytes")),
        "workflow_count": workflows.aggregate(
            all=Count("pk"), active=Count("pk", filter=Q(status=Workflow.Status.ACTIVE))
        ),
        "questions": [{**found, "since": moment(found["since"], now)} for found in report.questions(user)],
        "alerts": [_alert(alert, now) for alert in inbox.newest(user, ROWS)],
        "recent": _recent(executions, now),
        "workflows": _workflows(workflows, now),
        "upcoming": _upcoming(workflows, now),
        "links": {
            "add": reverse("admin:workflows_workflow_add"),
            "workflows": reverse("admin:workflows_workflow_changelist"),
            "executions": reverse("admin:executions_execution_changelist"),
            "recordings": reverse("admin:recordings_recording_changelist"),
        },
    }


def _open(executions: Any) -> dict[str, Any]:
    """Return how many executions run, as the monitor counts them, and what is to be said of the others. One query."""
    found = dict(executions.filter(status__in=OPEN).order_by().values_list("status").annotate(Count("pk")))
    pending, held = found.get(QUEUED, 0), found.get(PAUSED, 0) + found.get(WAITING, 0)
    words = [f"{pending} pending" if pending else "", f"{held} waiting or paused" if held else ""]
    return {"running": found.get(RUNNING, 0), "open_note": ", ".join(filter(None, words))}


def _alert(alert: Alert, now: datetime) -> dict[str, Any]:
    return {
        "alert": alert,
        "url": reverse("admin:monitoring_alert_change", args=(alert.pk,)),
        "state": alert_pill(alert),
        "since": moment(alert.opened_at, now),
    }


def _recent(executions: Any, now: datetime) -> list[dict[str, Any]]:
    """Return the newest executions as rows. At most four queries."""
    rows = list(executions.select_related("workflow", "version").defer("version__definition", "input")[:ROWS])
    attach_node_names(rows)
    report.attach_waits(rows)
    return [
        {
            "execution": execution,
            "url": execution_url(execution),
            "status": status_pill(execution.status, states_word(execution.status)),
            "cause": cause(execution),
            "trigger": trigger_word(execution.trigger),
            "started": moment(execution.queued_at, now),
            "duration": duration(execution.duration_ms),
        }
        for execution in rows
    ]


def _workflows(workflows: Any, now: datetime) -> list[dict[str, Any]]:
    """Return the workflows that changed last as rows. One query."""
    last = Execution.objects.filter(workflow=OuterRef("pk")).order_by("-queued_at")
    rows = workflows.select_related("schedule").annotate(last_status=Subquery(last.values("status")[:1]))
    return [
        {
            "workflow": workflow,
            "url": reverse("admin:workflows_workflow_change", args=(workflow.pk,)),
            "status": status_pill(workflow.status, workflow.get_status_display()),
            "last": status_pill(workflow.last_status, states_word(workflow.last_status))
            if workflow.last_status
            else EMPTY,
            "next": _next(workflow, now),
        }
        for workflow in rows.order_by("-updated_at")[:ROWS]
    ]


def _next(workflow: Workflow, now: datetime) -> SafeString | str:
    schedule: Any = getattr(workflow, "schedule", None)
    fires = schedule is not None and schedule.enabled and workflow.status == Workflow.Status.ACTIVE
    return due(schedule.next_run_at, schedule.timezone, now) if fires else EMPTY


def _upcoming(workflows: Any, now: datetime) -> list[dict[str, Any]]:
    """Return the schedules that fire next as rows. One query."""
    schedules = (
        Schedule.objects.filter(workflow__in=workflows, workflow__status=Workflow.Status.ACTIVE, enabled=True)
        .filter(next_run_at__isnull=False)
        .select_related("workflow")
        .order_by("next_run_at")
    )
    return [
        {
            "schedule": schedule,
            "url": reverse("admin:workflows_workflow_change", args=(schedule.workflow_id,)),
            "when": due(schedule.next_run_at, schedule.timezone, now),
        }
        for schedule in schedules[:ROWS]
    ]


@dataclass(slots=True)
class Day:
    """The executions that were queued on one day."""

    date: date
    total: int = 0
    completed: int = 0
    failed: int = 0
    ended: int = 0
    credits: int = 0

    @property
    def success_rate(self) -> int | None:
        """Return the share of ended executions that completed, in percent, or None when none has ended.

        As in the monitor, what somebody cancelled does not count.
        """
        return None if not self.ended else self.completed * 100 // self.ended


def _days(executions: Any, today: date) -> list[Day]:
    """Return the last ``DAYS`` days, oldest first. One query.

    Subflows and turns of loops are no executions to count, but what they cost is.
    """
    days = {today - timedelta(days=ago): Day(today - timedelta(days=ago)) for ago in reversed(range(DAYS))}
    start = timezone.make_aware(datetime.combine(next(iter(days)), datetime.min.time()))
    rows = (
        executions.filter(queued_at__gte=start)
        .order_by()
        .annotate(day=TruncDate("queued_at"))
        .values_list("day", "status")
        .annotate(runs=Count("pk", filter=Q(parent=None)), cost=Sum("credits"))
    )
    for when, status, count, credits in rows:
        day = days.get(when)
        if day is None:
            continue
        day.total += count
        day.credits += credits or 0
        day.ended += count if status not in (*OPEN, CANCELLED) else 0
        day.completed += count if status == COMPLETED else 0
        day.failed += count if status in (FAILED, COMPLETED_WITH_ERRORS) else 0
    return list(days.values())


def _bars(days: Iterable[Day]) -> list[dict[str, Any]]:
    """Return one column of the chart per day: rectangles in a box of ``CHART_WIDTH`` by ``CHART_HEIGHT``."""
    days = list(days)
    top = max((day.total for day in days), default=0) or 1
    width = (CHART_WIDTH - GAP * (len(days) - 1)) / len(days)
    columns = []
    for index, day in enumerate(days):
        parts = (
            ("completed", day.completed),
            ("other", day.total - day.completed - day.failed),
            ("failed", day.failed),
        )
        y, rects = float(CHART_HEIGHT), []
        for name, count in parts:
            height = count / top * (CHART_HEIGHT - 4)
            if count:
                height = max(height, 2.0)
                y -= height
                rects.append({"name": name, "y": round(y, 2), "height": round(height, 2)})
        columns.append({"day": day, "x": round(index * (width + GAP), 2), "width": round(width, 2), "rects": rects})
    return columns
