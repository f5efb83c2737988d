"""Workflows: definitions, validation, status."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Field, Header, Query, Router, Schema, Status

from workflows import lifecycle, policy
from workflows.api.common import (
    ERRORS,
    LARGEST,
    FindingOut,
    Name,
    PageFilters,
    Problem,
    Refused,
    Text,
    answer_unless_known,
    count_of,
    etag,
    user_id,
    visible,
)
from workflows.api.schedules import ScheduleOut
from workflows.definition import Definition
from workflows.diff import compare
from workflows.models import Workflow, hashes
from workflows.shown import detail, findings_json, summary
from workflows.validation import Finding

router = Router(tags=["workflows"])

WorkflowStatus = Literal["draft", "active", "paused", "archived"]


class WorkflowSummary(Schema):
    """A workflow without its definition. ``version`` is the newest number, 0 before the first save.

    ``status_at`` is when it was last activated, paused, resumed, archived or brought back; ``status_reason`` says why it
    has its status, when nobody asked for it.
    """

    id: UUID
    name: str
    description: str
    status: WorkflowStatus
    status_at: datetime | None
    status_reason: str
    version: int
    active_version: int | None
    schedule: ScheduleOut | None
    updated_at: datetime


class WorkflowOut(WorkflowSummary):
    """A workflow with its settings and the definition of its newest version."""

    settings: dict[str, Any]
    definition: dict[str, Any]


class WorkflowPage(Schema):
    """One page of workflows; ``count`` is of all pages."""

    items: list[WorkflowSummary]
    count: int


class WorkflowFilters(PageFilters):
    """Which workflows. ``search`` is looked for in name and description, in any case; ``-`` sorts downwards."""

    status: WorkflowStatus | None = None
    search: Annotated[Text, Field(max_length=200)] = ""
    tag: Annotated[Text, Field(max_length=100)] = ""
    sort: Literal["name", "-name", "updated_at", "-updated_at", "created_at", "-created_at"] = "name"


class NewWorkflow(Schema):
    """A workflow to create; the definition may follow later."""

    name: Name
    description: Annotated[Text, Field(max_length=10_000)] = ""
    definition: dict[str, Any] | None = None


class Edit(Schema):
    """A new version. ``base_version`` is the number that the edit began from, unless the header If-Match says it.

    Name, description and settings stay when they are not given; ``settings``, tags among them, replace all there are.
    With ``base_version`` alone they are not replaced when they were changed since the newest version was made.
    """

    definition: dict[str, Any]
    base_version: int | None = Field(None, ge=0, le=LARGEST)
    name: Name | None = None
    description: Annotated[Text, Field(max_length=10_000)] | None = None
    settings: dict[str, Any] | None = None
    message: Annotated[Text, Field(max_length=500)] = ""


class Saved(Schema):
    """What was saved, and what is wrong with it."""

    id: UUID
    version: int
    findings: list[FindingOut]


class Conflict(Problem):
    """Why nothing was saved. Of a newer version: its number, who saved it, when, and what it changed since.

    ``changes`` has the form of ``GET /workflows/{workflow_id}/diff``.
    """

    version: int | None = None
    author: str | None = None
    saved_at: datetime | None = None
    changes: dict[str, Any] | None = None


class Unchecked(Schema):
    """A definition to check."""

    definition: dict[str, Any]


class Checked(Schema):
    """Everything that is wrong with a definition; empty when nothing is."""

    findings: list[FindingOut]


class Which(Schema):
    """The number of a version; the newest one unless given."""

    version: Annotated[int, Field(ge=1, le=LARGEST)] | None = None


class StatusOut(Schema):
    """The status after a transition; ``findings`` are warnings about what was activated."""

    status: WorkflowStatus
    active_version: int | None
    findings: list[FindingOut] = []


class Removed(Schema):
    """What became of a workflow: a workflow that has run is archived, others are deleted."""

    deleted: bool
    status: Literal["deleted", "archived"]


@router.get("/workflows", response={200: WorkflowPage, **ERRORS})
def list_workflows(request: HttpRequest, filters: Query[WorkflowFilters]) -> Any:
    """List workflows, by name unless ``sort`` says otherwise."""
    rows = Workflow.objects.visible_to(request.user)
    if filters.status:
        rows = rows.filter(status=filters.status)
    if filters.search:
        rows = rows.filter(Q(name__icontains=filters.search) | Q(description__icontains=filters.search))
    if filters.tag:
        rows = rows.filter(settings__has_tag=filters.tag)
    chosen = (
        rows.select_related("draft", "version", "schedule")
        .defer("draft__definition", "version__definition")
        .order_by(filters.sort, "pk")[filters.offset : filters.offset + filters.limit]
    )
    return {"items": [summary(workflow) for workflow in chosen], "count": count_of(rows)}


@router.post("/workflows", response={201: WorkflowOut, **ERRORS})
def create_workflow(request: HttpRequest, body: NewWorkflow) -> Any:
    """Create a workflow; it is a draft until it is activated."""
    try:
        with transaction.atomic():
            workflow = Workflow.objects.create(owner_id=user_id(request), name=body.name, description=body.description)
            if body.definition is not None:
                workflow.save_version(body.definition, author=request.user)
    except IntegrityError:
        return Status(409, {"detail": f'you already have a workflow "{body.name}"'})
    return Status(201, detail(workflow))


@router.post("/workflows/validate", response={200: Checked, **ERRORS})
def validate_definition(request: HttpRequest, body: Unchecked) -> Any:
    """Check a definition without saving it."""
    return {"findings": findings_json(lifecycle.check_json(body.definition, user_id(request)))}


@router.get("/workflows/{workflow_id}", response={200: WorkflowOut, 304: None, **ERRORS})
def get_workflow(request: HttpRequest, response: HttpResponse, workflow_id: UUID) -> Any:
    """Return a workflow with the definition of its newest version; 304 when it is as If-None-Match says.

    Its ETag begins with the number of the newest version: as If-Match of a PUT it says what the edit began from.
    """
    shown = detail(visible(request, workflow_id))
    return answer_unless_known(request, response, shown, _prefix(shown))


@router.put("/workflows/{workflow_id}", response={200: Saved, **ERRORS, 409: Conflict})
def save_workflow(
    request: HttpRequest,
    response: HttpResponse,
    workflow_id: UUID,
    body: Edit,
    if_match: Annotated[Text | None, Header(alias="If-Match", max_length=1000)] = None,
) -> Any:
    """Save a new version; errors in it are reported and kept, what is active goes on running.

    What the edit began from is said by ``base_version`` or by If-Match, which takes the ETag of GET. When a newer
    version exists, 409 says who saved it and what it changed. If-Match also sees another name, description or settings;
    with ``base_version`` alone, those given are not replaced (409) when they were changed since that version was made.
    """
    if body.base_version is None and if_match is None:
        missing = "base_version: Field required, unless the header If-Match brings the ETag of GET"
        return Status(422, {"detail": missing})
    definition = Definition.from_json(body.definition)
    policy.refuse(body.settings)
    seen = visible(request, workflow_id)
    try:
        with transaction.atomic():
            workflow = lifecycle.lock(seen, "edit")
            conflict = _conflict(workflow, body.base_version, if_match) or _undone(workflow, body, if_match)
            if conflict:
                return Status(409, conflict)
            if body.name is not None:
                workflow.name = body.name
            if body.description is not None:
                workflow.description = body.description
            if body.settings is not None:
                workflow.settings = body.settings
            workflow.save(update_fields=("name", "description", "settings", "updated_at"))
            version = workflow.save_version(body.definition, author=request.user, message=body.message)
    except IntegrityError:
        return Status(409, {"detail": f'there is another workflow "{body.name}"'})
    shown = detail(visible(request, workflow_id))
    response["ETag"] = etag(shown, _prefix(shown))
    findings = lifecycle.check_definition(definition, workflow.owner_id)
    return {"id": workflow.pk, "version": version.number, "findings": findings_json(findings)}


def _prefix(shown: dict[str, Any]) -> str:
    """Return how the ETag of a workflow begins: its newest version and a hash of what else a save replaces."""
    return etag([shown["name"], shown["description"], shown["settings"]], f"{shown['version']}.").strip('"') + "."


def _conflict(workflow: Workflow, base: int | None, if_match: str | None) -> dict[str, Any] | None:
    """Return why an edit that began from a version would undo somebody's work, or None when it would not."""
    newest = workflow.versions.select_related("author").order_by("-number").first()
    number, began = newest.number if newest else 0, base
    if if_match is not None and if_match.strip() != "*" and f'"{_prefix(detail(workflow))}' not in if_match:
        tag = re.search(r'"(\d{1,10})\.[0-9a-f]+\.[0-9a-f]+"', if_match, re.ASCII)
        if tag is None:
            return {
                "detail": f"If-Match is no ETag of version {number}; read the workflow again, it has the present one"
            }
        began = int(tag[1])
        if began == number:
            return {
                "detail": "name, description or settings were changed after you began; "
                "reload the workflow and make your changes again"
            }
    if began is None or began == number:
        return None
    if newest is None or began > number:
        return {"detail": f"there is no version {began} to begin from; the newest is {number}; reload the workflow"}
    author = newest.author.get_username() if newest.author else None
    old = workflow.versions.filter(number=began).first()
    return {
        "detail": (
            f"version {number} was saved by {author or 'somebody'} after you began from version {began}; "
            "reload the workflow and make your changes again"
        ),
        "version": number,
        "author": author,
        "saved_at": newest.created_at,
        "changes": compare(old.definition, newest.definition).to_json() if old else None,
    }


def _undone(workflow: Workflow, edit: Edit, if_match: str | None) -> dict[str, Any] | None:
    """Return why an edit that names only a version would undo another name, description or settings, or None.

    Versions do not number them, so what was changed since the version was made may be unknown to whoever began from it.
    """
    if if_match is not None:
        return None
    seen, now = workflow.seen_with_draft, hashes(workflow)
    lost = [
        field
        for field in now
        if getattr(edit, field) not in (None, getattr(workflow, field)) and seen.get(field, now[field]) != now[field]
    ]
    if not lost:
        return None
    return {
        "detail": f"{' and '.join(lost)} changed since version {edit.base_version} was made; reload the workflow, make your "
        "changes again, and bring the ETag of GET as If-Match"
    }


@router.delete("/workflows/{workflow_id}", response={200: Removed, **ERRORS})
def delete_workflow(request: HttpRequest, workflow_id: UUID) -> Any:
    """Delete a workflow that never ran; archive one that has history."""
    workflow = visible(request, workflow_id)
    deleted = lifecycle.delete(workflow)
    return {"deleted": deleted, "status": "deleted" if deleted else workflow.status}


@router.post("/workflows/{workflow_id}/activate", response={200: StatusOut, **ERRORS, 422: Refused})
def activate(request: HttpRequest, workflow_id: UUID, body: Which | None = None) -> Any:
    """Make the newest version (or another) the one that runs, and take starts; errors in it are answered with 422."""
    return _run(request, workflow_id, lifecycle.activate, body)


@router.post("/workflows/{workflow_id}/publish", response={200: StatusOut, **ERRORS, 422: Refused})
def publish(request: HttpRequest, workflow_id: UUID, body: Which | None = None) -> Any:
    """Make the newest version (or another) the one that runs; what is paused stays so, a draft takes no starts yet."""
    return _run(request, workflow_id, lifecycle.publish, body)


@router.post("/workflows/{workflow_id}/pause", response={200: StatusOut, **ERRORS})
def pause(request: HttpRequest, workflow_id: UUID) -> Any:
    """Stop scheduled and triggered starts; executions that run go on."""
    return _change(request, workflow_id, lifecycle.pause)


@router.post("/workflows/{workflow_id}/resume", response={200: StatusOut, **ERRORS})
def resume(request: HttpRequest, workflow_id: UUID) -> Any:
    """Take starts again after a pause."""
    return _change(request, workflow_id, lifecycle.resume)


@router.post("/workflows/{workflow_id}/archive", response={200: StatusOut, **ERRORS})
def archive(request: HttpRequest, workflow_id: UUID) -> Any:
    """Put a workflow away; its history stays readable."""
    return _change(request, workflow_id, lifecycle.archive)


@router.post("/workflows/{workflow_id}/unarchive", response={200: StatusOut, **ERRORS})
def unarchive(request: HttpRequest, workflow_id: UUID) -> Any:
    """Bring an archived workflow back as a draft."""
    return _change(request, workflow_id, lifecycle.unarchive)


def _run(
    request: HttpRequest, workflow_id: UUID, move: Callable[[Workflow, int | None], list[Finding]], which: Which | None
) -> Any:
    workflow = visible(request, workflow_id)
    number = which.version if which else None
    if number is not None:
        get_object_or_404(workflow.versions, number=number)
    return _status(workflow, move(workflow, number))


def _change(request: HttpRequest, workflow_id: UUID, move: Callable[[Workflow], None]) -> Any:
    workflow = visible(request, workflow_id)
    move(workflow)
    return _status(workflow)


def _status(workflow: Workflow, findings: Iterable[Finding] = ()) -> dict[str, Any]:
    active = workflow.version.number if workflow.version else None
    return {"status": workflow.status, "active_version": active, "findings": findings_json(findings)}
