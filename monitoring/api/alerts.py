"""The inbox of alerts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema
from ninja.errors import HttpError

from monitoring.alerts import inbox
from monitoring.api.shapes import Kind, Severity
from monitoring.models import Alert
from workflows.api.common import ERRORS, PageFilters, count_of

router = Router()

MESSAGES_SHOWN = 100


class AlertOut(Schema):
    """Something that a rule found to be too much; ``key`` names which, where a rule watches several.

    ``value`` is the newest one, in the unit of the kind. What it says of its rule and workflow stays when they go.
    ``reason`` says why it was resolved when it was not because the value fell.
    """

    id: UUID
    rule_id: UUID | None
    rule_name: str
    kind: Kind
    severity: Severity
    workflow_id: UUID | None
    workflow_name: str
    key: str
    status: Literal["firing", "resolved"]
    value: float
    threshold: float
    message: str
    opened_at: datetime
    last_seen_at: datetime
    told_at: datetime | None
    resolved_at: datetime | None
    reason: str
    acknowledged_at: datetime | None
    acknowledged_by: str | None

    @staticmethod
    def resolve_acknowledged_by(alert: Alert) -> str | None:
        """Return the name of who takes care of it."""
        return None if alert.acknowledged_by is None else alert.acknowledged_by.get_username()


class MessageOut(Schema):
    """What was or will be said to a channel. Withheld is what nobody was to hear any more; ``error`` is the last one."""

    id: UUID
    channel_id: UUID | None
    channel_name: str
    event: Literal["firing", "resolved"]
    status: Literal["waiting", "sent", "failed", "withheld"]
    attempts: int
    error: str
    created_at: datetime
    sent_at: datetime | None


class AlertDetail(AlertOut):
    """An alert with its newest messages, 100 at most."""

    messages: list[MessageOut]

    @staticmethod
    def resolve_messages(alert: Alert) -> Any:
        """Return its newest messages."""
        return alert.messages.order_by("-created_at", "event")[:MESSAGES_SHOWN]


class AlertPage(Schema):
    """One page of alerts, newest first."""

    items: list[AlertOut]
    count: int


class AlertFilters(PageFilters):
    """Which alerts. ``new`` are those that fire and that nobody takes care of."""

    state: Literal["firing", "new", "acknowledged", "resolved"] | None = None
    severity: Severity | None = None
    kind: Kind | None = None
    rule_id: UUID | None = None
    workflow_id: UUID | None = None


@router.get("/alerts", response={200: AlertPage, **ERRORS})
def list_alerts(request: HttpRequest, filters: Query[AlertFilters]) -> Any:
    """List the alerts of your rules, newest first."""
    rows = _alerts(request)
    if filters.state is not None:
        rows = rows.filter(inbox.STATES[filters.state])
    chosen = filters.model_dump(include={"severity", "kind", "rule_id", "workflow_id"}, exclude_none=True)
    rows = rows.filter(**chosen)
    return {"items": list(rows[filters.offset : filters.offset + filters.limit]), "count": count_of(rows)}


@router.get("/alerts/{alert_id}", response={200: AlertDetail, **ERRORS})
def get_alert(request: HttpRequest, alert_id: UUID) -> Any:
    """Return one alert and what was said about it."""
    return get_object_or_404(_alerts(request), pk=alert_id)


@router.post("/alerts/{alert_id}/acknowledge", response={200: AlertOut, **ERRORS})
def acknowledge(request: HttpRequest, alert_id: UUID) -> Any:
    """Say that you take care of an alert; 409 when it is over or somebody does already."""
    alert = get_object_or_404(_alerts(request), pk=alert_id)
    if not inbox.acknowledge(alert, request.user):
        raise HttpError(409, "the alert is over, or somebody takes care of it already")
    return alert


def _alerts(request: HttpRequest) -> Any:
    return Alert.objects.visible_to(request.user).select_related("acknowledged_by")
