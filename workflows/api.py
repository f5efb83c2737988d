"""HTTP door to workflows: node types, definitions, validation, status, schedules, names of credentials."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema, Status
from pydantic import AfterValidator

from workflows import cron, lifecycle, schedules
from workflows.definition import Definition
from workflows.errors import ActivationRefused, TransitionError
from workflows.models import Credential, Schedule, Workflow
from workflows.registry import NODE_REGISTRY, PALETTE_GROUPS, NodeDescription, Port, PortType, accepted_types, slug
from workflows.validation import Finding

router = Router()

LARGEST = 2_147_483_647
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _storable(text: str) -> str:
    if _UNSTORABLE.search(text):
        raise ValueError("must not contain a NUL character or half of a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_storable)]


class Problem(Schema):
    """What went wrong, for people."""

    detail: str


class FindingOut(Schema):
    """One thing that is wrong with a workflow."""

    code: str
    severity: Literal["error", "warning"]
    message: str
    node_id: str | None
    field: str | None
    hint: str
    edge_id: str | None


class Refused(Problem):
    """Why a workflow was refused; ``findings`` are its errors."""

    findings: list[FindingOut] = []


ERRORS: dict[int, Any] = dict.fromkeys((400, 401, 403, 404, 409, 422), Problem)


# ---------------------------------------------------------------------- node types


class PortOut(Schema):
    """A port of a node type."""

    name: str
    slug: str
    type: PortType


class OutputOut(PortOut):
    """An output. One that is ``inside`` exists once per turn of a loop: what it leads to is the loop's body."""

    inside: bool


class InputOut(PortOut):
    """An input. ``accepts`` are the output types that may be wired into it.

    A wire into one that ``returns`` leads from the body of a loop back to the loop, and is no circle.
    """

    required: bool
    default: Any
    options: list[str]
    handle: bool
    variant: str
    placeholder: str
    help: str
    min: float | None
    max: float | None
    accepts: list[PortType]
    takes_many: bool
    returns: bool


class NodeTypeOut(Schema):
    """What a node type takes and gives; ``credits`` is the cost of one finished run."""

    type: str
    label: str
    group: str
    credits: int
    summary: str
    effect: str
    start: bool
    subtitle: str
    inputs: list[InputOut]
    outputs: list[OutputOut]


def node_type_json(description: NodeDescription) -> dict[str, Any]:
    """Return a node type as the API and ``./flow nodes`` show it, implicit ports included."""
    return {
        "type": description.type,
        "label": description.label,
        "group": description.group,
        "credits": description.credits,
        "summary": description.summary,
        "effect": description.effect,
        "start": description.start,
        "subtitle": description.subtitle,
        "inputs": [_input_json(port) for port in description.all_inputs],
        "outputs": [
            {**_port_json(port), "inside": port.name in description.inside} for port in description.all_outputs
        ],
    }


def node_types() -> list[NodeDescription]:
    """Return all node types in the order of the palette."""
    order = {group: index for index, group in enumerate(PALETTE_GROUPS)}
    descriptions: list[NodeDescription] = [executor.description for executor in NODE_REGISTRY.values()]
    return sorted(descriptions, key=lambda found: order.get(found.group, len(order)))


def _port_json(port: Port) -> dict[str, Any]:
    return {"name": port.name, "slug": slug(port.name), "type": port.type}


def _input_json(port: Port) -> dict[str, Any]:
    return {
        **_port_json(port),
        "required": port.required,
        "default": port.default,
        "options": list(port.options),
        "handle": port.handle,
        "variant": port.variant,
        "placeholder": port.placeholder,
        "help": port.help,
        "min": port.min,
        "max": port.max,
        "accepts": list(accepted_types(port.type)) if port.handle else [],
        "takes_many": port.takes_many,
        "returns": port.returns,
    }


@router.get("/node-types", response={200: list[NodeTypeOut], **ERRORS}, tags=["node types"])
def list_node_types(request: HttpRequest) -> Any:
    """List every node type with its inputs and outputs, in palette order."""
    return [node_type_json(description) for description in node_types()]


# ---------------------------------------------------------------------- workflows


class ScheduleOut(Schema):
    """When a workflow starts by itself. ``next_run_at`` is empty while it is disabled or not active."""

    cron: str
    timezone: str
    enabled: bool
    next_run_at: datetime | None
    last_run_at: datetime | None


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


class PageFilters(Schema):
    """Which page."""

    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=1_000_000)


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


@router.get("/workflows", response={200: WorkflowPage, **ERRORS}, tags=["workflows"])
def list_workflows(request: HttpRequest, page: Query[PageFilters]) -> Any:
    """List your workflows by name."""
    rows = Workflow.objects.visible_to(request.user)
    chosen = (
        rows.select_related("draft", "version", "schedule")
        .defer("draft__definition", "version__definition")
        .order_by("name", "pk")[page.offset : page.offset + page.limit]
    )
    return {"items": [summary(workflow) for workflow in chosen], "count": rows.count()}


@router.post("/workflows", response={201: WorkflowOut, **ERRORS}, tags=["workflows"])
def create_workflow(request: HttpRequest, body: NewWorkflow) -> Any:
    """Create a workflow; it is a draft until it is activated."""
    try:
        with transaction.atomic():
            workflow = Workflow.objects.create(owner_id=_user_id(request), name=body.name, description=body.description)
            if body.definition is not None:
                workflow.save_version(body.definition, author=request.user)
    except IntegrityError:
        return Status(409, {"detail": f'you already have a workflow "{body.name}"'})
    return Status(201, detail(workflow))


@router.post("/workflows/validate", response={200: Checked, **ERRORS}, tags=["workflows"])
def validate_definition(request: HttpRequest, body: Unchecked) -> Any:
    """Check a definition without saving it."""
    return {
        "findings": findings_json(lifecycle.check_definition(Definition.from_json(body.definition), _user_id(request)))
    }


@router.get("/workflows/{workflow_id}", response={200: WorkflowOut, **ERRORS}, tags=["workflows"])
def get_workflow(request: HttpRequest, workflow_id: UUID) -> Any:
    """Return a workflow with the definition of its newest version."""
    return detail(_visible(request, workflow_id))


@router.put("/workflows/{workflow_id}", response={200: Saved, **ERRORS}, tags=["workflows"])
def save_workflow(request: HttpRequest, workflow_id: UUID, body: Edit) -> Any:
    """Save a new version; errors in it are reported and kept, what is active goes on running."""
    definition = Definition.from_json(body.definition)
    _visible(request, workflow_id)
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


@router.delete("/workflows/{workflow_id}", response={200: Removed, **ERRORS}, tags=["workflows"])
def delete_workflow(request: HttpRequest, workflow_id: UUID) -> Any:
    """Delete a workflow that never ran; archive one that has history."""
    workflow = _visible(request, workflow_id)
    deleted = lifecycle.delete(workflow)
    return {"deleted": deleted, "status": "deleted" if deleted else workflow.status}


@router.post("/workflows/{workflow_id}/activate", response={200: StatusOut, **ERRORS, 422: Refused}, tags=["workflows"])
def activate(request: HttpRequest, workflow_id: UUID) -> Any:
    """Make the newest version the one that runs; errors in it are answered with 422."""
    workflow = _visible(request, workflow_id)
    try:
        findings = lifecycle.activate(workflow)
    except ActivationRefused as error:
        return Status(422, {"detail": str(error), "findings": findings_json(error.findings)})
    except TransitionError as error:
        return Status(409, {"detail": str(error)})
    return _status(workflow, findings)


@router.post("/workflows/{workflow_id}/pause", response={200: StatusOut, **ERRORS}, tags=["workflows"])
def pause(request: HttpRequest, workflow_id: UUID) -> Any:
    """Stop scheduled and triggered starts; executions that run go on."""
    return _change(request, workflow_id, lifecycle.pause)


@router.post("/workflows/{workflow_id}/resume", response={200: StatusOut, **ERRORS}, tags=["workflows"])
def resume(request: HttpRequest, workflow_id: UUID) -> Any:
    """Take starts again after a pause."""
    return _change(request, workflow_id, lifecycle.resume)


@router.post("/workflows/{workflow_id}/archive", response={200: StatusOut, **ERRORS}, tags=["workflows"])
def archive(request: HttpRequest, workflow_id: UUID) -> Any:
    """Put a workflow away; its history stays readable."""
    return _change(request, workflow_id, lifecycle.archive)


def _change(request: HttpRequest, workflow_id: UUID, move: Callable[[Workflow], None]) -> Any:
    workflow = _visible(request, workflow_id)
    try:
        move(workflow)
    except TransitionError as error:
        return Status(409, {"detail": str(error)})
    return _status(workflow)


def _status(workflow: Workflow, findings: Iterable[Finding] = ()) -> dict[str, Any]:
    active = workflow.version.number if workflow.version else None
    return {"status": workflow.status, "active_version": active, "findings": findings_json(findings)}


# ---------------------------------------------------------------------- schedules


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


@router.put("/workflows/{workflow_id}/schedule", response={200: ScheduleOut, **ERRORS}, tags=["schedules"])
def set_schedule(request: HttpRequest, workflow_id: UUID, body: ScheduleIn) -> Any:
    """Set when a workflow starts by itself."""
    workflow = _visible(request, workflow_id)
    try:
        return schedule_json(schedules.set_schedule(workflow, body.cron, body.timezone, enabled=body.enabled))
    except ValueError as error:
        return Status(422, {"detail": str(error)})


@router.delete("/workflows/{workflow_id}/schedule", response={204: None, **ERRORS}, tags=["schedules"])
def clear_schedule(request: HttpRequest, workflow_id: UUID) -> Any:
    """Take the schedule of a workflow away."""
    schedules.clear_schedule(_visible(request, workflow_id))
    return Status(204, None)


@router.get("/schedules/preview", response={200: Preview, **ERRORS}, tags=["schedules"])
def preview_schedule(request: HttpRequest, filters: Query[PreviewFilters]) -> Any:
    """Say a schedule in words and when it fires next; what is wrong with it is in ``error``."""
    return preview(filters.cron, filters.timezone, filters.count)


def preview(text: str, zone: str, count: int) -> dict[str, Any]:
    """Return words, next instants and what is wrong, for people who are typing a schedule."""
    shown: dict[str, Any] = {"text": "", "next": [], "error": None}
    try:
        shown["text"] = cron.describe(text)
        shown["next"] = cron.next_runs(text, zone, count)
        cron.check(text, zone, settings.MINIMUM_INTERVAL_SECONDS)
    except ValueError as error:
        shown["error"] = str(error)
    return shown


# ---------------------------------------------------------------------- credentials


class CredentialOut(Schema):
    """A credential by name. Its content is never shown."""

    id: UUID
    name: str
    kind: str


@router.get("/credentials", response={200: list[CredentialOut], **ERRORS}, tags=["credentials"])
def list_credentials(request: HttpRequest) -> Any:
    """List the names of your own credentials: those that your workflows can use."""
    return list(Credential.objects.filter(owner_id=_user_id(request)).order_by("name")[:1000])


# ---------------------------------------------------------------------- shapes


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


def schedule_json(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as the API shows it."""
    return {
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "enabled": schedule.enabled,
        "next_run_at": schedule.next_run_at,
        "last_run_at": schedule.last_run_at,
    }


def findings_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as the API shows them."""
    return [finding.to_json() for finding in findings]


def _visible(request: HttpRequest, workflow_id: UUID) -> Workflow:
    rows = Workflow.objects.visible_to(request.user).select_related("draft", "version", "schedule")
    workflow: Workflow = get_object_or_404(rows, pk=workflow_id)
    return workflow


def _user_id(request: HttpRequest) -> Any:
    return request.user.pk
