"""HTTP door to recordings: what there is, what happened, what differs, and the files that runs left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any, Literal
from uuid import UUID

from django.db.models import Q
from django.http import FileResponse, Http404, HttpRequest, HttpResponseBase
from ninja import Field, Query, Router, Schema
from ninja.errors import HttpError
from pydantic import AfterValidator, StringConstraints

from recordings import inspection, sources
from recordings.blobs import open_blob
from recordings.columns import metadata_of
from recordings.database import DatabaseRecordingStorage
from recordings.errors import InvalidRecording, RecordingError, TooManyTags
from recordings.events import RecordingEvent, encode_json
from recordings.finding import find_recording, replayer_of
from recordings.models import BlobRef, Recording
from recordings.packing import SEALED_TYPE

router = Router(tags=["recordings"])

ATTACHMENT_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, max-age=3600",
}
PAGE_BYTES = 16 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "text/html": ".html",
    "text/plain": ".txt",
    "application/json": ".json",
    "application/har+json": ".har",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    SEALED_TYPE: ".fbrec",
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
    """One page of recordings, newest first. ``next`` is the ``before`` of the page after it, empty on the last one.

    ``count`` is of all pages, and stops at 100,000.
    """

    items: list[RecordingOut]
    count: int
    next: UUID | None


class RecordingFilters(Schema):
    """Which recordings to list. ``before`` is the id of one: older ones are listed, however many there are."""

    workflow_id: UUID | None = None
    success: bool | None = None
    before: UUID | None = None
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=10_000)


class EventOut(Schema):
    """One event. The time is Unix seconds."""

    seq: int
    event_id: str
    event_type: str
    timestamp: float
    node_id: str | None
    data: dict[str, Any]
    metadata: dict[str, Any]


class EventsOut(Schema):
    """A page of events; ``next`` is the ``after`` of the next one, null at the end."""

    items: list[EventOut]
    count: int
    next: int | None


class EventPage(Schema):
    """Which events to list."""

    after: int = Field(0, ge=0, le=2_147_483_647)
    limit: int = Field(100, ge=1, le=500)


class StateOut(Schema):
    """The state after an event: flat keys, ``$nodes`` and ``$errors``."""

    event: EventOut
    state: dict[str, Any]


class ComparisonOut(Schema):
    """What differs between two recordings; numbers are the first minus the other. Paths end after 1,000 nodes.

    ``context_diff`` and ``final_state_diff`` are of what the runs were given and came to, ``state_diff`` of recorded states.
    ``left_out`` is how many differences of values are not told: they would be more than 8 MiB, or 1,000 of one node.
    """

    identical: bool
    metadata_diff: dict[str, Any]
    node_diff: dict[str, list[str]]
    path_diff: dict[str, Any]
    event_diff: Any = None
    input_diff: Any = None
    output_diff: Any = None
    context_diff: Any = None
    final_state_diff: Any = None
    state_diff: Any = None
    left_out: int = 0
    error_diff: Any = None
    status_diff: Any = None
    timing_diff: Any = None
    version_diff: Any = None


def _tag(text: str) -> str:
    """Return a tag as it is stored; what is blank for Python is more than what is so for the constraint."""
    if not text.strip():
        raise ValueError("must not be blank")
    if _UNSTORABLE.search(text):
        raise ValueError("must not contain a NUL character or half of a surrogate pair")
    return text.strip()


TagName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_tag)]


class TagsIn(Schema):
    """Tags to add and to remove. A recording with the tag ``legal-hold`` is never removed."""

    add: list[TagName] = Field(default_factory=list, max_length=50)
    remove: list[TagName] = Field(default_factory=list, max_length=50)


class TagsOut(Schema):
    """The tags that a recording has now."""

    tags: list[str]


class DownloadFormat(Schema):
    """The format of a copy; the first three can be imported again."""

    format: Literal["fbrec", "json.gz", "json", "html", "svg", "dot", "summary"] = "fbrec"


ERRORS: dict[int, Any] = dict.fromkeys((400, 401, 403, 404, 422), Problem)
READ_ERRORS: dict[int, Any] = {**ERRORS, 409: Problem}
"""Also 409: the recording is damaged."""
COMPARED_NODES = 1_000
COUNT_LIMIT = 100_000


@router.get("", response={200: RecordingsOut, **ERRORS}, url_name="recordings")
def list_recordings(request: HttpRequest, filters: Query[RecordingFilters]) -> dict[str, Any]:
    """List the recordings that the user may see, newest first."""
    rows = Recording.objects.visible_to(request.user)
    if filters.workflow_id is not None:
        rows = rows.filter(workflow_id=filters.workflow_id)
    if filters.success is not None:
        rows = rows.filter(success=filters.success)
    count = rows.order_by().values("pk")[:COUNT_LIMIT].count()
    if filters.before is not None:
        last = _visible(request, filters.before)
        older = Q(started_at__lt=last.started_at) | Q(started_at=last.started_at, pk__gt=last.pk)
        rows = rows.filter(older, started_at__lte=last.started_at)
    page = list(rows.order_by("-started_at", "pk")[filters.offset : filters.offset + filters.limit + 1])
    items = page[: filters.limit]
    following = items[-1].pk if len(page) > len(items) else None
    return {"items": [metadata_of(row).to_dict() for row in items], "count": count, "next": following}


@router.get("/artifacts/{sha256}", response={200: None, **ERRORS}, url_name="artifact")
def artifact(request: HttpRequest, sha256: str, execution: UUID) -> HttpResponseBase:
    """Download a file of an execution. It is never shown in the browser: it may be a hostile page."""
    if not _SHA256.fullmatch(sha256):
        raise Http404
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
    return metadata_of(_visible(request, recording_id)).to_dict()


@router.get("/{recording_id}/events", response={200: EventsOut, **READ_ERRORS}, url_name="recording_events")
def list_events(request: HttpRequest, recording_id: UUID, page: Query[EventPage]) -> dict[str, Any]:
    """List events in order, ``limit`` of them after event number ``after``, or fewer: a page ends after 16 MiB."""
    recording = _visible(request, recording_id)
    items, size = [], 0
    with _readable(), replayer_of(recording) as replayer:
        events = replayer.events
        for place in islice(range(page.after, len(events)), page.limit):
            event = events[place]
            items.append(_event(event))
            size += len(encode_json(event.data))
            if size > PAGE_BYTES:
                break
    last, count = page.after + len(items), len(events)
    return {"items": items, "count": count, "next": last if items and last < count else None}


@router.get("/{recording_id}/state", response={200: StateOut, **READ_ERRORS}, url_name="recording_state")
def state_at(
    request: HttpRequest, recording_id: UUID, event: Annotated[str, StringConstraints(max_length=64)]
) -> dict[str, Any]:
    """Return the state after an event, which is named by its number from 1 or by its id."""
    recording = _visible(request, recording_id)
    with _readable(), replayer_of(recording) as replayer:
        number = int(event) if event.isascii() and event.isdigit() and len(event) < 16 else None
        place = replayer.position_of(event) if number is None else number - 1
        if place is None or not 0 <= place < len(replayer.events):
            raise Http404
        return {"event": _event(replayer.events[place]), "state": replayer.get_state_at_position(place)}


@router.get(
    "/{recording_id}/compare/{other_id}", response={200: ComparisonOut, **READ_ERRORS}, url_name="recording_compare"
)
def compare(request: HttpRequest, recording_id: UUID, other_id: UUID) -> dict[str, Any]:
    """Compare two recordings: metadata, nodes, paths, inputs, outputs, errors, timing."""
    first, second = _visible(request, recording_id), _visible(request, other_id)
    with _readable(), replayer_of(first) as mine, replayer_of(second) as theirs:
        difference = mine.compare(theirs)
    return inspection.plain_comparison(difference, COMPARED_NODES)


@router.get("/{recording_id}/download", response={200: None, **READ_ERRORS}, url_name="recording_download")
def download(request: HttpRequest, recording_id: UUID, wanted: Query[DownloadFormat]) -> HttpResponseBase:
    """Download a copy of a recording."""
    recording = _visible(request, recording_id)
    with _readable():
        file = inspection.copy_of(recording, wanted.format)
    return FileResponse(
        file,
        as_attachment=True,
        filename=inspection.file_name(recording, wanted.format),
        content_type=inspection.DOWNLOADS[wanted.format],
        headers={**ATTACHMENT_HEADERS, "Cache-Control": "private, no-cache"},
    )


@router.post("/{recording_id}/tags", response={200: TagsOut, **ERRORS, 409: Problem}, url_name="recording_tags")
def change_tags(request: HttpRequest, recording_id: UUID, body: TagsIn) -> dict[str, Any]:
    """Add and remove tags.

    A recording has at most 50 tags; what would make more is refused (409).
    """
    recording = _visible(request, recording_id)
    storage = DatabaseRecordingStorage(request.user)
    try:
        return {"tags": storage.tag_sync(str(recording.pk), add=body.add, remove=body.remove)}
    except TooManyTags as error:
        raise HttpError(409, str(error)) from error


def _visible(request: HttpRequest, recording_id: UUID) -> Recording:
    try:
        return find_recording(recording_id, request.user)
    except RecordingError as error:
        raise Http404 from error


@contextmanager
def _readable() -> Iterator[None]:
    """Answer 409 when a recording is damaged, and 404 when its events are gone."""
    try:
        yield
    except InvalidRecording as error:
        raise HttpError(409, str(error)) from error
    except RecordingError as error:
        raise Http404 from error


def _event(event: RecordingEvent) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "event_id": event.event_id,
        "event_type": event.event_type.value,
        "timestamp": event.timestamp,
        "node_id": event.node_id,
        "data": event.data,
        "metadata": event.metadata,
    }


def _may_see(user: Any, execution_id: UUID) -> bool:
    if sources.ARTIFACT_POLICY is not None and sources.ARTIFACT_POLICY(user, execution_id):
        return True
    return bool(Recording.objects.visible_to(user).filter(execution_id=execution_id).exists())
