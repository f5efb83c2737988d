"""The calls of a run to other systems as an HTTP archive (HAR 1.2), which browsers and proxies can open."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Protocol

from recordings.events import RecordingEvent, RecordingEventType, RecordingMetadata

_HTTP = "HTTP/1.1"


class Archivable(Protocol):
    """What a HAR needs of a replayer."""

    metadata: RecordingMetadata

    @property
    def events(self) -> Iterable[RecordingEvent]:
        """Return the events in order."""


def to_har(recording: Archivable) -> str:
    """Return the ``external_call`` events as HAR text, in the order in which the calls ended.

    Addresses are without query and user, as they were recorded; headers and bodies are not recorded.
    A call that got no answer has status 0 and its error as ``_error``.
    """
    calls = [_entry(event) for event in recording.events if event.event_type is RecordingEventType.EXTERNAL_CALL]
    log = {
        "version": "1.2",
        "creator": {"name": "Flow Builder", "version": "1"},
        "comment": f"{recording.metadata.workflow_name}, recording {recording.metadata.recording_id}",
        "entries": calls,
    }
    return json.dumps({"log": log}, indent=2)


def _entry(event: RecordingEvent) -> dict[str, Any]:
    data = event.data
    seconds = _number(data.get("duration_seconds"))
    status, size = int(_number(data.get("status"))), int(_number(data.get("bytes")))
    entry = {
        "startedDateTime": datetime.fromtimestamp(event.timestamp - seconds, UTC).isoformat(timespec="milliseconds"),
        "time": round(seconds * 1000, 3),
        "request": {
            "method": str(data.get("method") or "GET"),
            "url": str(data.get("url") or ""),
            **_empty("queryString"),
            "bodySize": -1,
        },
        "response": {
            "status": status,
            "statusText": _phrase(status),
            **_empty(),
            "content": {"size": size, "mimeType": ""},
            "redirectURL": "",
            "bodySize": size,
        },
        "cache": {},
        "timings": {"send": 0, "wait": round(seconds * 1000, 3), "receive": 0},
        "comment": f"node {event.node_id}" if event.node_id else "",
    }
    if data.get("error"):
        entry["_error"] = str(data["error"])
    return entry


def _empty(*lists: str) -> dict[str, Any]:
    return {"httpVersion": _HTTP, "cookies": [], "headers": [], **{name: [] for name in lists}, "headersSize": -1}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _number(value: Any) -> float:
    """Return a finite number that is not negative; 0 for anything else, which a strange file may hold."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return max(0.0, float(value)) if known else 0.0
