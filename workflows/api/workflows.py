"""Workflows: definitions, validation, status."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status

from workflows import lifecycle
from workflows.api.common import (
    ERRORS,
    LARGEST,
    FindingOut,
    PageFilters,
    Refused,
    Text,
    findings_json,
    user_id,
    visible,
)
from workflows.api.schedules import ScheduleOut, schedule_json
from workflows.definition import Definition
from workflows.errors import ActivationRefused, TransitionError
from workflows.models import Schedule, Workflow
from workflows.validation import Finding

router = Router(tags=["workflows"])


class WorkflowSummary(Schema):
    """A workflow without its definition. ``version`` is the newest number, 0 before the first save."""

    id: UUID
    name: str
    description: str
    status: str
    version: int
    active_version: int | None
    schedule: ScheduleOut | None
    updated_at: datetime


class WorkflowOut(WorkflowSummary):
    """A workflow with the definition of its newest version."""

    definition: dict[str, Any]


class WorkflowPage(Schema):
    """One page of workflows by name; ``count`` is of all pages."""

    items: list[WorkflowSummary]
    count: int


class NewWorkflow(Schema):
    """A workflow to create; the definition may follow later."""

    name: Annotated[Text, Field(min_length=1, max_length=200)]
    description: Annotated[Text, Field(max_length=10_000)] = ""
    definition: dict[str, Any] | None = None


class Edit(Schema):
    """A new version. ``base_version`` is the number that the edit began from; 409 if a newer one exists."""

    definition: dict[str, Any]
    base_version: int = Field(ge=0, le=LARGEST)
    name: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    description: Annotated[Text, Field(max_length=10_000)] | None = None
    message: Annotated[Text, Field(max_length=500)] = ""


class Saved(Schema):
    """What was saved, and what is wrong with it."""

    id: UUID
    version: int
    findings: list[FindingOut]


class Unchecked(Schema):
    """A definition to check."""

    definition: dict[str, Any]


class Checked(Schema):
    """Everything that is wrong with a definition; empty when nothing is."""

    findings: list[FindingOut]


class StatusOut(Schema):
    """The status after a transition; ``findings`` are warnings about what was activated."""

    status: str
    active_version: int | None
    findings: list[FindingOut] = []


class Removed(Schema):
    """What became of a workflow: a workflow that has run is archived, others are deleted."""

    deleted: bool
    status: str


@router.get("/workflows", response={200: WorkflowPage, **ERRORS})
def list_workflows(request: HttpRequest, page: Query[PageFilters]) -> Any:
    """List your workflows by name."""
    rows = Workflow.objects.visible_to(request.user)
    chosen = (
        rows.select_related("draft", "version", "schedule")
        .defer("draft__definition", "version__definition")
        .order_by("name", "pk")[page.offset : page.offset + page.limit]
    )
    return {"items": [summary(workflow) for workflow in chosen], "count": rows.count()}


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


@router.get("/workflows/{workflow_id}", response={200: WorkflowOut, **ERRORS})
def get_workflow(request: HttpRequest, workflow_id: UUID) -> Any:
    """Return a workflow with the definition of its newest version."""
    return detail(visible(request, workflow_id))


@router.put("/workflows/{workflow_id}", response={200: Saved, **ERRORS})
def save_workflow(request: HttpRequest, workflow_id: UUID, body: Edit) -> Any:
    """Save a new version; errors in it are reported and kept, what is active goes on running."""
    definition = Definition.from_json(body.definition)
    visible(request, workflow_id)
    try:
        with transaction.atomic():
            workflow = Workflow.objects.select_for_update().get(pk=workflow_id)
            newest = workflow.versions.order_by("-number").values_list("number", flat=True).first() or 0
            if body.base_version != newest:
                reason = (
                    f"version {newest} was saved after you began from version {body.base_version}; "
                    "reload the workflow and make your changes again"
                )
                return Status(409, {"detail": reason})
            if workflow.status == Workflow.Status.ARCHIVED:
                return Status(409, {"detail": f'workflow "{workflow.name}" is archived; it cannot be edited'})
            if body.name is not None:
                workflow.name = body.name
            if body.description is not None:
                workflow.description = body.description
            workflow.save(update_fields=("name", "description", "updated_at"))
            version = workflow.save_version(body.definition, author=request.user, message=body.message)
    except IntegrityError:
        return Status(409, {"detail": f'there is another workflow "{body.name}"'})
    findings = lifecycle.check_definition(definition, workflow.owner_id)
    return {"id": workflow.pk, "version": version.number, "findings": findings_json(findings)}


@router.delete("/workflows/{workflow_id}", response={200: Removed, **ERRORS})
def delete_workflow(request: HttpRequest, workflow_id: UUID) -> Any:
    """Delete a workflow that never ran; archive one that has history."""
    workflow = visible(request, workflow_id)
    deleted = lifecycle.delete(workflow)
    return {"deleted": deleted, "status": "deleted" if deleted else workflow.status}


@router.post("/workflows/{workflow_id}/activate", response={200: StatusOut, **ERRORS, 422: Refused})
def activate(request: HttpRequest, workflow_id: UUID) -> Any:
    """Make the newest version the one that runs; errors in it are answered with 422."""
    workflow = visible(request, workflow_id)
    try:
        findings = lifecycle.activate(workflow)
    except ActivationRefused as error:
        return Status(422, {"detail": str(error), "findings": findings_json(error.findings)})
    except TransitionError as error:
        return Status(409, {"detail": str(error)})
    return _status(workflow, findings)


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


def _change(request: HttpRequest, workflow_id: UUID, move: Callable[[Workflow], None]) -> Any:
    workflow = visible(request, workflow_id)
    try:
        move(workflow)
    except TransitionError as error:
        return Status(409, {"detail": str(error)})
    return _status(workflow)


def _status(workflow: Workflow, findings: Iterable[Finding] = ()) -> dict[str, Any]:
    active = workflow.version.number if workflow.version else None
    return {"status": workflow.status, "active_version": active, "findings": findings_json(findings)}


def summary(workflow: Workflow) -> dict[str, Any]:
    """Return a workflow as lists show it."""
    schedule: Schedule | None = getattr(workflow, "schedule", None)
    return {
        "id": workflow.pk,
        "name": workflow.name,
        "description": workflow.description,
        "status": workflow.status,
        "version": workflow.draft.number if workflow.draft else 0,
        "active_version": workflow.version.number if workflow.version else None,
        "schedule": schedule_json(schedule) if schedule else None,
        "updated_at": workflow.updated_at,
    }


def detail(workflow: Workflow) -> dict[str, Any]:
    """Return a workflow as its page shows it."""
    definition = workflow.draft.definition if workflow.draft else {"nodes": [], "edges": []}
    return {**summary(workflow), "definition": definition}
