"""A recording as a row and as the metadata of the recording format, and what of either the other does not hold."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from recordings.events import RecordingMetadata, decode_json, encode_json
from recordings.models import Recording

LARGEST_INTEGER = 2**31 - 1


_METADATA_NAMES = frozenset(item.name for item in fields(RecordingMetadata)) - {"extra"}


def metadata_of(recording: Recording) -> RecordingMetadata:
    """Return the row of a recording in the form of the recording format."""
    metadata = of_columns(recording)
    for name, value in (decode_json(recording.details) if recording.details else {}).items():
        if name in _METADATA_NAMES:
            setattr(metadata, name, value)
        else:
            metadata.extra[name] = value
    return metadata


def of_columns(recording: Recording) -> RecordingMetadata:
    by_engine = recording.execution_id is not None
    return RecordingMetadata(
        recording_id=str(recording.pk) if by_engine else recording.pk.hex,
        workflow_name=recording.workflow_name,
        started_at=recording.started_at.timestamp(),
        completed_at=recording.completed_at.timestamp() if recording.completed_at else None,
        duration_seconds=recording.duration_seconds,
        success=recording.success,
        error=recording.error or None,
        node_count=recording.node_count,
        team_count=recording.team_count,
        recursion_max_depth=recording.recursion_max_depth,
        event_count=recording.event_count,
        file_size_bytes=recording.file_size_bytes,
        checksum=recording.checksum or None,
        tags=list(recording.tags or []),
        execution_id=str(recording.execution_id) if by_engine else None,
        workflow_uuid=str(recording.workflow_id) if recording.workflow_id else None,
        workflow_version=recording.version_number,
        trigger=recording.trigger or None,
        status=recording.status or None,
        user_id=recording.user_id,
        credits_consumed=recording.credits if by_engine else None,
    )


_OF_THE_ROW = frozenset({"checksum", "file_size_bytes", "tags"})
"""What the row alone knows: it changes after a recording was saved."""


def columns_of(metadata: RecordingMetadata) -> dict[str, Any]:
    """Return the columns of a recording that no execution of this installation made."""
    ended = metadata.completed_at
    return {
        "workflow_name": storable(metadata.workflow_name)[:200],
        "workflow_id": _uuid(metadata.workflow_uuid),
        "version_number": _small(metadata.workflow_version),
        "user_id": metadata.user_id,
        "trigger": storable(metadata.trigger or "")[:16],
        "status": storable(metadata.status or {True: "completed", False: "failed", None: ""}[metadata.success])[:24],
        "success": metadata.success,
        "error": storable(metadata.error or ""),
        "tags": [storable(tag) for tag in metadata.tags],
        "started_at": datetime.fromtimestamp(metadata.started_at, UTC),
        "completed_at": None if ended is None else datetime.fromtimestamp(ended, UTC),
        "duration_seconds": metadata.duration_seconds,
        "node_count": _small(metadata.node_count),
        "team_count": _small(metadata.team_count),
        "recursion_max_depth": _small(metadata.recursion_max_depth),
        "event_count": _small(metadata.event_count),
        "credits": _small(metadata.credits_consumed or 0),
    }


def details_of(recording: Recording, metadata: RecordingMetadata) -> str:
    """Return what the columns do not give back: further keys, unknown ones, long names, exact times."""
    shown, wanted = of_columns(recording).to_dict(), metadata.to_dict()
    keys = (shown.keys() | wanted.keys()) - _OF_THE_ROW
    owner = {"user_id"} if recording.user_id is not None else set()
    details = {key: wanted.get(key) for key in sorted(keys - owner) if shown.get(key) != wanted.get(key)}
    return encode_json(details).decode() if details else ""


def storable(text: str) -> str:
    """Return text that every database takes: without NUL and half surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _small(number: int | None) -> int | None:
    return None if number is None else max(0, min(number, LARGEST_INTEGER))


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
