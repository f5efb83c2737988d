"""HTTP door to recordings: what there is, and the files that runs left behind."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import FileResponse, Http404, HttpRequest, HttpResponseBase
from ninja import Field, Query, Router, Schema

from recordings import database
from recordings.database import find_recording, metadata_of, open_blob
from recordings.errors import RecordingError
from recordings.models import BlobRef, Recording

router = Router(tags=["recordings"])

ATTACHMENT_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, max-age=3600",
}
_EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "text/html": ".html",
    "text/plain": ".txt",
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    database.SEALED_TYPE: ".fbrec",
}


class Problem(Schema):
    """What went wrong, for people."""

    detail: str


class RecordingOut(Schema):
    """What a recording says about itself. Times are Unix seconds."""

    recording_id: str
    execution_id: str | None = None
    workflow_name: str
    workflow_uuid: str | None = None
    workflow_version: int | None = None
    trigger: str | None = None
    status: str | None = None
    started_at: float
    completed_at: float | None
    duration_seconds: float | None
    success: bool | None
    error: str | None
    node_count: int
    team_count: int
    recursion_max_depth: int
    event_count: int
    credits_consumed: int | None = None
    file_size_bytes: int | None
    checksum: str | None
    tags: list[str]


class RecordingsOut(Schema):
    """One page of recordings, newest first, and how many there are in all."""

    items: list[RecordingOut]
    count: int


class RecordingFilters(Schema):
    """Which recordings to list."""

    workflow_id: UUID | None = None
    success: bool | None = None
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=1_000_000)


ERRORS: dict[int, Any] = dict.fromkeys((400, 401, 403, 404, 422), Problem)


@router.get("", response={200: RecordingsOut, **ERRORS}, url_name="recordings")
def list_recordings(request: HttpRequest, filters: Query[RecordingFilters]) -> dict[str, Any]:
    """List the recordings that the user may see, newest first."""
    rows = Recording.objects.visible_to(request.user)
    if filters.workflow_id is not None:
        rows = rows.filter(workflow_id=filters.workflow_id)
    if filters.success is not None:
        rows = rows.filter(success=filters.success)
    page = rows.order_by("-started_at", "pk")[filters.offset : filters.offset + filters.limit]
    return {"items": [metadata_of(row).to_dict() for row in page], "count": rows.count()}


@router.get("/artifacts/{sha256}", response={200: None, **ERRORS}, url_name="artifact")
def artifact(request: HttpRequest, sha256: str, execution: UUID) -> HttpResponseBase:
    """Download a file of an execution. It is never shown in the browser: it may be a hostile page."""
    reference = BlobRef.objects.filter(blob_id=sha256, execution_id=execution).select_related("blob").first()
    if reference is None or not _may_see(request.user, execution):
        raise Http404
    try:
        file = open_blob(sha256)
    except RecordingError as error:
        raise Http404 from error
    kind = reference.blob.content_type
    name = f"{sha256[:12]}{_EXTENSIONS.get(kind.partition(';')[0].strip(), '.bin')}"
    return FileResponse(file, as_attachment=True, filename=name, content_type=kind, headers=ATTACHMENT_HEADERS)


@router.get("/{recording_id}", response={200: RecordingOut, **ERRORS}, url_name="recording")
def get_recording(request: HttpRequest, recording_id: UUID) -> dict[str, Any]:
    """Return one recording, by its own id or that of its execution."""
    try:
        return metadata_of(find_recording(recording_id, request.user)).to_dict()
    except RecordingError as error:
        raise Http404 from error


def _may_see(user: Any, execution_id: UUID) -> bool:
    if database.ARTIFACT_POLICY is not None and database.ARTIFACT_POLICY(user, execution_id):
        return True
    return bool(Recording.objects.visible_to(user).filter(execution_id=execution_id).exists())
