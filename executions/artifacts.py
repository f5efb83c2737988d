"""The files that nodes saved while an execution ran: screenshots, pages, network traffic and what nodes gave."""

from __future__ import annotations

from typing import Any

from executions import report
from executions.models import Execution
from recordings.events import RecordingEvent, RecordingEventType, decode_json
from recordings.finding import replayer_of
from recordings.inspection import positions_of
from recordings.models import Event, Recording


def artifacts(execution: Execution, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return a page of the files of ``execution``, oldest first, and how many there are. At most three queries.

    Only the events that saved a file are read, from their rows or from the sealed recording.

    Raises:
        RecordingError: the sealed recording is damaged or gone.
    """
    sealed = Recording.objects.filter(execution_id=execution.pk, events_removed_at__isnull=False).first()
    found, count = _of_rows(execution, limit, offset) if sealed is None else _of_sealed(sealed, limit, offset)
    names = report.node_names(execution)
    return [_artifact(execution, names, *saved) for saved in found], count


_Saved = tuple[int, float, str, dict[str, Any]]
"""Number, time (Unix seconds), node and data of an event that saved a file."""


def _of_rows(execution: Execution, limit: int, offset: int) -> tuple[list[_Saved], int]:
    rows = Event.objects.filter(execution_id=execution.pk, type=RecordingEventType.ARTIFACT.value).order_by("seq")
    page = rows.values_list("seq", "timestamp", "node_id", "data")[offset : offset + limit]
    return [(seq, at / 1_000_000, node_id, decode_json(data)) for seq, at, node_id, data in page], rows.count()


def _of_sealed(recording: Recording, limit: int, offset: int) -> tuple[list[_Saved], int]:
    with replayer_of(recording) as replayer:
        places = positions_of(recording, replayer, (RecordingEventType.ARTIFACT,))
        events: list[RecordingEvent] = [replayer.events[place] for place in places[offset : offset + limit]]
    return [(event.seq, event.timestamp, event.node_id or "", event.data) for event in events], len(places)


def _artifact(
    execution: Execution, names: dict[str, str], seq: int, at: float, node_id: str, data: dict[str, Any]
) -> dict[str, Any]:
    kind = str(data.get("content_type") or "application/octet-stream")
    return {
        "seq": seq,
        "timestamp": at,
        "node_id": node_id,
        "node_name": names.get(node_id, node_id),
        "kind": str(data.get("kind") or "file"),
        "name": str(data.get("file") or data.get("kind") or "file"),
        "content_type": kind,
        "image": kind.startswith("image/"),
        "size_bytes": int(data.get("size_bytes") or 0),
        "url": f"/api/v1/recordings/artifacts/{data.get('blob', '')}?execution={execution.pk}",
    }
