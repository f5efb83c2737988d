"""Recordings found by id, prefix or execution, and opened for replay, also while they still run."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Max, Q, QuerySet

from recordings.columns import metadata_of
from recordings.errors import RecordingError, RecordingNotFound
from recordings.events import RecordingMetadata, decode_json
from recordings.models import SEE_EVERYTHING, Event, NotRecorded, Recording
from recordings.replayer import ExecutionReplayer
from recordings.rows import RowEvents, load_rows, open_sealed
from recordings.storage import SHORTEST_PREFIX


def find_recording(identifier: UUID | str, user: Any = None) -> Recording:
    """Return the recording with this id, or of this execution; a unique prefix of 8 characters is enough.

    With ``user`` only those that the user may see.

    Raises:
        RecordingNotFound: there is none, or it is somebody else's.
        RecordingError: the prefix is too short, or fits several.
    """
    text = str(identifier).replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", text):
        raise RecordingNotFound(f'"{identifier}" is not the id of a recording or execution')
    if len(text) < SHORTEST_PREFIX:
        raise RecordingError(f'"{identifier}" is too short: give at least {SHORTEST_PREFIX} characters of the id')
    span = (UUID(text.ljust(32, "0")), UUID(text.ljust(32, "f")))
    rows: QuerySet[Recording] = Recording.objects.all() if user is None else Recording.objects.visible_to(user)
    found = list(rows.filter(Q(pk__range=span) | Q(execution_id__range=span))[:2])
    if not found:
        missing = f'no recording or execution "{identifier}"; ./flow recordings list shows what there is'
        raise RecordingNotFound(_why_none(span, user) or missing)
    if len(found) > 1:
        raise RecordingError(f'"{identifier}" fits several recordings; give more characters of the id')
    return found[0]


def _why_none(span: tuple[UUID, UUID], user: Any) -> str:
    """Return why the one execution with an id in ``span`` has no recording, if there is one that ``user`` may see."""
    rows = list(NotRecorded.objects.filter(pk__range=span)[:2])
    if len(rows) != 1:
        return ""
    values = decode_json(rows[0].recording) if rows[0].recording else {}
    if user is not None and not user.has_perm(SEE_EVERYTHING) and values.get("user_id") != user.pk:
        return ""
    way_out = "; ./flow recordings keep keeps it while its events are there" if values else ""
    return f"execution {rows[0].pk} has no recording: {rows[0].reason}{way_out}"


def open_replayer(identifier: UUID | str) -> ExecutionReplayer:
    """Return a replayer of a recording by its id or that of its execution, also while it still runs.

    Raises:
        RecordingNotFound: nothing was recorded under this id.
    """
    try:
        key = UUID(str(identifier))
    except ValueError as error:
        raise RecordingNotFound(f'"{identifier}" is not the id of a recording or execution') from error
    recording = Recording.objects.filter(Q(pk=key) | Q(execution_id=key)).first()
    if recording is not None:
        return replayer_of(recording)
    last = Event.objects.filter(execution_id=key).aggregate(last=Max("seq"))["last"]
    if last is None:
        raise RecordingNotFound(_why_none((key, key), None) or f"nothing was recorded for {identifier}")
    dropped = NotRecorded.objects.filter(pk=key).exclude(recording="").first()
    if dropped is not None:
        return replayer_of(undropped(dropped))
    events = RowEvents(key, last)
    start = events[0]
    metadata = RecordingMetadata(
        recording_id=str(key),
        workflow_name=str(start.data.get("workflow") or ""),
        started_at=start.timestamp,
        event_count=last,
        execution_id=str(key),
        status="running",
    )
    return ExecutionReplayer(None, metadata, events)


def undropped(row: NotRecorded) -> Recording:
    """Return the recording, not saved, that an execution would have whose events are still there."""
    values = decode_json(row.recording)
    moments = {name: datetime.fromisoformat(value) for name, value in values.items() if name.endswith("_at") and value}
    counts = {"node_count": row.node_count, "event_count": row.event_count, "credits": row.credits}
    return Recording(**{**values, **moments, **counts, "execution_id": row.execution_id})


def replayer_of(recording: Recording) -> ExecutionReplayer:
    """Return a replayer of a recording, of its sealed file if there is one."""
    metadata = metadata_of(recording)
    if recording.sealed:
        sealed = open_sealed(recording)
        return ExecutionReplayer(None, metadata, sealed)
    count = Event.objects.filter(execution_id=recording.run_id).aggregate(last=Max("seq"))["last"] or 0
    return ExecutionReplayer(None, metadata, RowEvents(recording.run_id, count, workflow_of_rows(recording)))


def workflow_of_rows(recording: Recording) -> str:
    """Return the id that the event rows of a recording name as that of their execution."""
    first = load_rows(recording.pk, 0, 1) if recording.execution_id is None else []
    return first[0].workflow_id if first else str(recording.run_id)
