"""Versions of workflows: what was saved when, what differs, going back; copies and files."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema, Status

from workflows import lifecycle, transfer
from workflows.api.common import (
    ERRORS,
    LARGEST,
    FindingOut,
    Name,
    PageFilters,
    Refused,
    Text,
    answer_unless_known,
    visible,
)
from workflows.api.workflows import WorkflowOut, WorkflowStatus
from workflows.diff import compare
from workflows.models import Workflow, WorkflowVersion
from workflows.shown import detail, findings_json

router = Router(tags=["versions"])

Number = Annotated[int, Field(ge=1, le=LARGEST)]


class VersionSummary(Schema):
    """A version without its definition. ``active`` is the one that runs, ``newest`` the one that is edited."""

    number: int
    message: str
    author: str | None
    created_at: datetime
    content_hash: str
    active: bool
    newest: bool


class VersionOut(VersionSummary):
    """A version with its definition."""

    definition: dict[str, Any]


class VersionPage(Schema):
    """One page of versions, newest first; ``count`` is of all pages."""

    items: list[VersionSummary]
    count: int


class DiffFilters(Schema):
    """Two versions, each a number, ``active`` or ``newest``."""

    old: Number | Literal["active", "newest"] = "active"
    new: Number | Literal["active", "newest"] = "newest"


class ChangeOut(Schema):
    """A value that differs. ``before`` or ``after`` is not there when the value came or went."""

    path: list[str | int]
    field: str
    change: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None


class ChangedNode(Schema):
    """A node that both versions have, and what differs in it."""

    id: str
    type: str
    label: str
    changes: list[ChangeOut]


class Moved(Schema):
    """A node that lies elsewhere on the canvas."""

    id: str
    before: Any = None
    after: Any = None


class DiffOut(Schema):
    """What differs between two versions; what looks like a typed-in secret is hidden.

    ``fields`` are changes outside the graph, such as the cron text and the settings.
    """

    old: int
    new: int
    same: bool
    summary: str
    added: list[dict[str, Any]]
    removed: list[dict[str, Any]]
    changed: list[ChangedNode]
    moved: list[Moved]
    edges_added: list[dict[str, Any]]
    edges_removed: list[dict[str, Any]]
    fields: list[ChangeOut]
    reordered: bool


class RestoreBody(Schema):
    """The number of the version to go back to."""

    version: Number


class CloneBody(Schema):
    """The name of the copy ("X (copy)" unless given) and the version that it is one of (the newest)."""

    name: Name | None = None
    version: Number | None = None


class ImportBody(Schema):
    """A file of an export. ``credentials`` says which of your own stands for each that the file ``requires``.

    ``draft`` keeps it from running at once, whatever status it has in the file.
    """

    definition: dict[str, Any]
    name: Name | None = None
    credentials: dict[Text, Text] = Field(default_factory=dict, max_length=500)
    draft: bool = False


class Imported(Schema):
    """What came of a file. The same name again makes a new version of that workflow."""

    id: UUID
    version: int
    status: WorkflowStatus
    findings: list[FindingOut]


class ExportFilters(Schema):
    """Which version; the newest unless given."""

    version: Number | None = None


@router.get("/workflows/{workflow_id}/versions", response={200: VersionPage, **ERRORS})
def list_versions(request: HttpRequest, workflow_id: UUID, page: Query[PageFilters]) -> Any:
    """List the versions of a workflow, newest first."""
    workflow = visible(request, workflow_id)
    rows = workflow.versions.order_by("-number")
    chosen = rows.select_related("author").defer("definition")[page.offset : page.offset + page.limit]
    return {"items": [_summary(workflow, version) for version in chosen], "count": rows.count()}


@router.get("/workflows/{workflow_id}/versions/{number}", response={200: VersionOut, 304: None, **ERRORS})
def get_version(request: HttpRequest, response: HttpResponse, workflow_id: UUID, number: Number) -> Any:
    """Return a version with its definition; 304 when it is as If-None-Match says."""
    workflow = visible(request, workflow_id)
    version = get_object_or_404(workflow.versions.select_related("author"), number=number)
    shown = {**_summary(workflow, version), "definition": version.definition}
    return answer_unless_known(request, response, shown, f"{number}.")


@router.get("/workflows/{workflow_id}/diff", response={200: DiffOut, **ERRORS})
def diff(request: HttpRequest, workflow_id: UUID, which: Query[DiffFilters]) -> Any:
    """Say what differs between two versions; unless told otherwise, what publishing would change."""
    workflow = visible(request, workflow_id)
    old, new = _named(workflow, which.old), _named(workflow, which.new)
    if old is None or new is None:
        missing = which.old if old is None else which.new
        return Status(409, {"detail": f'workflow "{workflow.name}" has no {missing} version; name two numbers'})
    return {"old": old.number, "new": new.number, **compare(old.definition, new.definition).to_json()}


@router.post("/workflows/{workflow_id}/restore", response={201: VersionSummary, **ERRORS})
def restore(request: HttpRequest, workflow_id: UUID, body: RestoreBody) -> Any:
    """Save what an older version holds as the newest one; what is active goes on running."""
    workflow = visible(request, workflow_id)
    get_object_or_404(workflow.versions, number=body.version)
    version = lifecycle.restore(workflow, body.version, request.user)
    return Status(201, _summary(workflow, version))


@router.post("/workflows/{workflow_id}/clone", response={201: WorkflowOut, **ERRORS})
def clone(request: HttpRequest, workflow_id: UUID, body: CloneBody) -> Any:
    """Make a draft of your own that does the same; its schedule is switched off."""
    workflow = visible(request, workflow_id)
    if body.version is not None:
        get_object_or_404(workflow.versions, number=body.version)
    copy = lifecycle.clone(workflow, request.user, body.name, number=body.version)
    return Status(201, detail(visible(request, copy.pk)))


@router.get("/workflows/{workflow_id}/export", response={200: dict[str, Any], **ERRORS})
def export(request: HttpRequest, workflow_id: UUID, filters: Query[ExportFilters]) -> Any:
    """Return a workflow as a file: no secrets, but a list ``requires`` of the credentials that it names."""
    workflow = visible(request, workflow_id)
    if filters.version is not None:
        get_object_or_404(workflow.versions, number=filters.version)
    return transfer.export(workflow, filters.version)


@router.post("/workflows/import", response={200: Imported, **ERRORS, 422: Refused})
def import_workflow(request: HttpRequest, body: ImportBody) -> Any:
    """Store a file as a workflow of yours. All or nothing is stored; errors in it are answered with 422."""
    workflow, version, findings = transfer.import_definition(
        request.user, body.definition, name=body.name, credentials=body.credentials or None, draft=body.draft
    )
    return {
        "id": workflow.pk,
        "version": version.number,
        "status": workflow.status,
        "findings": findings_json(findings),
    }


def _named(workflow: Workflow, wanted: int | str) -> WorkflowVersion | None:
    if isinstance(wanted, int):
        found: WorkflowVersion = get_object_or_404(workflow.versions, number=wanted)
        return found
    return workflow.version if wanted == "active" else workflow.draft


def _summary(workflow: Workflow, version: WorkflowVersion) -> dict[str, Any]:
    return {
        "number": version.number,
        "message": version.message,
        "author": version.author.get_username() if version.author else None,
        "created_at": version.created_at,
        "content_hash": version.content_hash,
        "active": version.pk == workflow.version_id,
        "newest": version.pk == workflow.draft_id,
    }
