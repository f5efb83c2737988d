"""When workflows start by themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.db.models import F
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema, Status

from workflows import cron, schedules
from workflows.api.common import ERRORS, PageFilters, Text, count_of, visible
from workflows.limits import limits_of
from workflows.models import Schedule, Workflow
from workflows.shown import preview, schedule_json

router = Router(tags=["schedules"])


class ScheduleOut(Schema):
    """When a workflow starts by itself. ``next_run_at`` is empty while it is disabled or not active."""

    cron: str
    timezone: str
    enabled: bool
    next_run_at: datetime | None
    last_run_at: datetime | None


class ScheduleItem(ScheduleOut):
    """A schedule with its workflow."""

    workflow_id: UUID
    workflow_name: str


class SchedulePage(Schema):
    """One page of schedules; ``count`` is of all pages."""

    items: list[ScheduleItem]
    count: int


class ScheduleFilters(PageFilters):
    """Which schedules."""

    enabled: bool | None = None


class ScheduleIn(Schema):
    """Cron with five fields, read in an IANA zone."""

    cron: Annotated[Text, Field(max_length=cron.LENGTH_LIMIT)]
    timezone: Annotated[Text, Field(max_length=64)] = "UTC"
    enabled: bool = True


class PreviewFilters(Schema):
    """What to preview."""

    cron: str = Field(max_length=1000)
    timezone: str = Field("UTC", max_length=1000)
    count: int = Field(5, ge=1, le=50)


class Preview(Schema):
    """The schedule in words and its next instants (UTC), or what is wrong with it."""

    text: str
    next: list[datetime]
    error: str | None


@router.get("/schedules", response={200: SchedulePage, **ERRORS})
def list_schedules(request: HttpRequest, filters: Query[ScheduleFilters]) -> Any:
    """List schedules, the next one first, and those last that start nothing."""
    rows = Schedule.objects.filter(workflow__in=Workflow.objects.visible_to(request.user))
    if filters.enabled is not None:
        rows = rows.filter(enabled=filters.enabled)
    chosen = rows.select_related("workflow").order_by(F("next_run_at").asc(nulls_last=True), "pk")
    return {
        "items": [
            {**schedule_json(row), "workflow_id": row.workflow_id, "workflow_name": row.workflow.name}
            for row in chosen[filters.offset : filters.offset + filters.limit]
        ],
        "count": count_of(rows),
    }


@router.get("/workflows/{workflow_id}/schedule", response={200: ScheduleOut, **ERRORS})
def get_schedule(request: HttpRequest, workflow_id: UUID) -> Any:
    """Return the schedule of a workflow; 404 when it has none."""
    return schedule_json(get_object_or_404(Schedule, workflow=visible(request, workflow_id)))


@router.put("/workflows/{workflow_id}/schedule", response={200: ScheduleOut, **ERRORS})
def set_schedule(request: HttpRequest, workflow_id: UUID, body: ScheduleIn) -> Any:
    """Set when a workflow starts by itself; how often it may is asked when it is enabled."""
    workflow = visible(request, workflow_id)
    try:
        return schedule_json(schedules.set_schedule(workflow, body.cron, body.timezone, enabled=body.enabled))
    except ValueError as error:
        return Status(422, {"detail": str(error)})


@router.delete("/workflows/{workflow_id}/schedule", response={204: None, **ERRORS})
def clear_schedule(request: HttpRequest, workflow_id: UUID) -> Any:
    """Take the schedule of a workflow away."""
    schedules.clear_schedule(visible(request, workflow_id))
    return Status(204, None)


@router.get("/schedules/preview", response={200: Preview, **ERRORS})
def preview_schedule(request: HttpRequest, filters: Query[PreviewFilters]) -> Any:
    """Say a schedule in words and when it fires next; what is wrong with it is in ``error``."""
    shortest = limits_of(request.user.pk).minimum_interval_s
    return preview(filters.cron, filters.timezone, filters.count, shortest)
