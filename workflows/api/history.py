"""What was spent, and who did what."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from workflows import credits
from workflows.api.account import CreditsOut
from workflows.api.common import ERRORS, Text, count_of, user_id
from workflows.models import AuditEntry

router = Router(tags=["account"])

LAST = 2**63 - 1


class EntryOut(Schema):
    """One transfer of credits. ``available_after`` is what was left to start with."""

    id: int
    at: datetime
    kind: str
    amount: int
    available_after: int
    execution_id: UUID | None
    workflow_id: UUID | None
    workflow_name: str | None
    actor: str | None
    note: str


class EntryPage(Schema):
    """One page of the ledger, newest first. ``next`` is the ``before`` of the page after it, empty on the last."""

    items: list[EntryOut]
    count: int
    next: int | None


class LineOut(Schema):
    """What was spent on a day, by a workflow or by an execution. ``key`` is the date or the id."""

    key: str
    name: str
    executions: int
    credits: int


class LinePage(Schema):
    """Lines of a report, and what they come to."""

    items: list[LineOut]
    credits: int


class AuditOut(Schema):
    """Who did what to what, and where they came in. ``detail`` depends on the verb, and never holds a secret."""

    id: int
    at: datetime
    actor: str
    door: str
    verb: str
    kind: str
    object_id: str
    object_name: str
    detail: dict[str, Any]


class AuditPage(Schema):
    """One page of the audit log, newest first. ``next`` is the ``before`` of the page after it, empty on the last."""

    items: list[AuditOut]
    count: int
    next: int | None


class PageBefore(Schema):
    """Which page: entries with an id smaller than ``before``."""

    before: int = Field(LAST, ge=1, le=LAST)
    limit: int = Field(50, ge=1, le=200)


class EntryFilters(PageBefore):
    """Which transfers."""

    kind: Literal["grant", "reserve", "charge", "refund", "correction"] | None = None
    execution_id: UUID | None = None


class ReportFilters(Schema):
    """What to add up, and of which days (UTC, both included)."""

    by: Literal["day", "workflow", "execution"] = "day"
    since: date | None = None
    until: date | None = None
    limit: int = Field(200, ge=1, le=1000)


class AuditFilters(PageBefore):
    """Which entries."""

    verb: Annotated[Text, Field(max_length=40)] = ""
    kind: Annotated[Text, Field(max_length=40)] = ""
    object_id: Annotated[Text, Field(max_length=64)] = ""


@router.get("/credits", response={200: CreditsOut | None, **ERRORS})
def get_credits(request: HttpRequest) -> Any:
    """Return your credits; null for people who are not metered."""
    return credits.account(request.user)


@router.get("/credits/entries", response={200: EntryPage, **ERRORS})
def list_entries(request: HttpRequest, filters: Query[EntryFilters]) -> Any:
    """List the transfers of your credits, newest first."""
    rows = credits.entries(request.user)
    if filters.kind:
        rows = rows.filter(kind=filters.kind)
    if filters.execution_id:
        rows = rows.filter(execution_id=filters.execution_id)
    return _page(rows, filters, _entry)


@router.get("/credits/report", response={200: LinePage, **ERRORS})
def report_credits(request: HttpRequest, filters: Query[ReportFilters]) -> Any:
    """Add up what you spent by day, workflow or execution."""
    lines = credits.report(request.user, filters.by, since=filters.since, until=filters.until, limit=filters.limit)
    return {"items": [line.to_json() for line in lines], "credits": sum(line.credits for line in lines)}


@router.get("/audit", response={200: AuditPage, **ERRORS})
def list_audit(request: HttpRequest, filters: Query[AuditFilters]) -> Any:
    """List what was done to things of yours, whoever did it, newest first."""
    rows = AuditEntry.objects.filter(owner_id=user_id(request)).select_related("actor")
    for name in ("verb", "kind", "object_id"):
        if wanted := getattr(filters, name):
            rows = rows.filter(**{name: wanted})
    return _page(rows, filters, _audit)


def _page(rows: Any, filters: PageBefore, shown: Any) -> dict[str, Any]:
    found = list(rows.filter(pk__lt=filters.before).order_by("-pk")[: filters.limit + 1])
    items = found[: filters.limit]
    following = items[-1].pk if len(found) > len(items) else None
    return {"items": [shown(row) for row in items], "count": count_of(rows), "next": following}


def _entry(row: Any) -> dict[str, Any]:
    return {
        "id": row.pk,
        "at": row.at,
        "kind": row.kind,
        "amount": row.amount,
        "available_after": row.available_after,
        "execution_id": row.execution_id,
        "workflow_id": row.workflow_id,
        "workflow_name": row.workflow.name if row.workflow else None,
        "actor": row.actor.get_username() if row.actor else None,
        "note": row.note,
    }


def _audit(row: Any) -> dict[str, Any]:
    names = ("at", "door", "verb", "kind", "object_id", "object_name", "detail")
    return {"id": row.pk, "actor": row.actor_name, **{name: getattr(row, name) for name in names}}
