"""What waits for a person: approvals, and dead letters."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema, Status

from executions import mailroom, report
from executions.api.runs import ExecutionStatus, decider
from executions.models import DeadLetter
from workflows.api.common import ERRORS, LARGEST, count_of

router = Router(tags=["executions"])


class Question(Schema):
    """An approval that waits for an answer: ``POST /executions/{execution_id}/approvals/{node_id}`` gives it.

    Whoever has the ``link`` may answer without a login.
    """

    execution_id: UUID
    workflow_name: str
    node_id: str
    title: str
    message: str
    since: str | None
    link: str | None


class Letter(Schema):
    """Something that was given up and waits for a person. ``payload`` is what was to be done."""

    id: int
    kind: Literal["start", "node", "schedule", "message"]
    status: Literal["open", "replayed", "discarded"]
    workflow: str | None
    execution_id: UUID | None
    node_id: str | None
    error: str
    deliveries: int
    first_failed_at: str
    last_failed_at: str
    age_seconds: int
    payload: Any
    replayed_as: UUID | None
    handled_by: str | None
    handled_at: str | None


class LetterPage(Schema):
    """One page of dead letters, newest first. ``next`` is the ``before`` of the page after it."""

    items: list[Letter]
    count: int
    next: int | None


class LetterFilters(Schema):
    """Which letters. ``before`` is the id of one: those with a smaller id are listed."""

    status: Literal["open", "replayed", "discarded"] | None = "open"
    kind: Literal["start", "node", "schedule", "message"] | None = None
    before: int = Field(LARGEST, ge=1, le=LARGEST)
    limit: int = Field(50, ge=1, le=200)


class Replay(Schema):
    """Whether the whole execution begins anew, instead of going on from the node that was given up."""

    whole: bool = False


class Replayed(Schema):
    """The execution that a letter became."""

    execution_id: UUID
    status: ExecutionStatus


@router.get("/approvals", response={200: list[Question], **ERRORS})
def list_approvals(request: HttpRequest) -> Any:
    """List the approvals that wait for you: the 20 oldest of your executions, and 20 of others.

    A token gets their links with the scope ``executions:run``.
    """
    shown = decider(request) is not None
    return [
        {
            "execution_id": found["execution"].pk,
            "workflow_name": found["execution"].workflow.name,
            "node_id": found["node_id"],
            "title": found["title"],
            "message": found["message"],
            "since": found["since"].isoformat() if found["since"] else None,
            "link": found["link"] if shown else None,
        }
        for found in report.questions(request.user)
    ]


@router.get("/dead-letters", response={200: LetterPage, **ERRORS})
def list_letters(request: HttpRequest, filters: Query[LetterFilters]) -> Any:
    """List what was given up in your executions and workflows."""
    rows = DeadLetter.objects.visible_to(request.user)
    if filters.status is not None:
        rows = rows.filter(status=filters.status)
    if filters.kind is not None:
        rows = rows.filter(kind=filters.kind)
    found = rows.filter(pk__lt=filters.before).select_related("workflow", "handled_by").order_by("-pk")
    page = list(found[: filters.limit + 1])
    items = page[: filters.limit]
    return {
        "items": [mailroom.describe(letter) for letter in items],
        "count": count_of(rows),
        "next": items[-1].pk if len(page) > len(items) else None,
    }


@router.get("/dead-letters/{letter_id}", response={200: Letter, **ERRORS})
def get_letter(request: HttpRequest, letter_id: int) -> Any:
    """Return one dead letter."""
    return mailroom.describe(_letter(request, letter_id))


@router.post("/dead-letters/{letter_id}/replay", response={202: Replayed, **ERRORS})
def replay(request: HttpRequest, letter_id: int, body: Replay) -> Any:
    """Do again what a letter gave up."""
    letter = _letter(request, letter_id)
    execution = mailroom.replay(letter, request.user, whole=body.whole)
    return Status(202, {"execution_id": execution.pk, "status": execution.status})


@router.post("/dead-letters/{letter_id}/discard", response={200: Letter, **ERRORS})
def discard(request: HttpRequest, letter_id: int) -> Any:
    """Mark a letter as not worth doing."""
    letter = _letter(request, letter_id)
    mailroom.discard(letter, request.user)
    return mailroom.describe(letter)


def _letter(request: HttpRequest, letter_id: int) -> DeadLetter:
    rows = DeadLetter.objects.visible_to(request.user).select_related("workflow", "execution", "handled_by")
    letter: DeadLetter = get_object_or_404(rows, pk=letter_id)
    return letter
