"""The one event shape: log line, recording entry and live message are all this value."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any


class RecordingEventType(Enum):
    """What happened. The value is the serialised name; readers keep names that they do not know."""

    WORKFLOW_START = "workflow_start"
    WORKFLOW_COMPLETE = "workflow_complete"
    WORKFLOW_ERROR = "workflow_error"
    PHASE_START = "phase_start"
    PHASE_COMPLETE = "phase_complete"
    NODE_START = "node_start"
    NODE_COMPLETE = "node_complete"
    NODE_ERROR = "node_error"
    NODE_RETRY = "node_retry"
    NODE_SKIPPED = "node_skipped"
    TEAM_START = "team_start"
    TEAM_COMPLETE = "team_complete"
    TEAM_MEMBER_START = "team_member_start"
    TEAM_MEMBER_COMPLETE = "team_member_complete"
    TEAM_COMMUNICATION = "team_communication"
    RECURSION_ENTER = "recursion_enter"
    RECURSION_EXIT = "recursion_exit"
    STATE_SNAPSHOT = "state_snapshot"
    CHECKPOINT = "checkpoint"
    LOG = "log"
    ARTIFACT = "artifact"
    EXTERNAL_CALL = "external_call"
    CREDIT = "credit"
    CANCEL_REQUESTED = "cancel_requested"
    RECOVERED = "recovered"
    PAUSE = "pause"
    RESUME = "resume"
    APPROVAL = "approval"
    UNKNOWN = "unknown"


def event_id(execution_id: str, seq: int) -> str:
    """Return the 32-character id of event ``seq`` of an execution; the same arguments give the same id."""
    return hashlib.blake2b(f"{execution_id}:{seq}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class RecordingEvent:
    """One thing that happened.

    ``timestamp`` is Unix seconds (UTC). ``workflow_id`` is the id of the execution. ``data`` is
    JSON-ready. ``seq`` numbers the events of an execution from 1; 0 means not numbered yet.
    """

    event_id: str
    event_type: RecordingEventType
    timestamp: float
    workflow_id: str
    node_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    seq: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the seven keys of the recording format."""
        return {
            "event_id": self.event_id,
            "event_type": self.event_type.value,
            "timestamp": self.timestamp,
            "workflow_id": self.workflow_id,
            "node_id": self.node_id,
            "data": self.data,
            "metadata": self.metadata,
        }


LEVELS = ("debug", "info", "warning", "error")
_LEVEL_BY_TYPE = {
    "node_error": "error",
    "workflow_error": "error",
    "node_retry": "warning",
    "cancel_requested": "warning",
    "recovered": "warning",
}
PREVIEW_CHARACTERS = 4_000


def execution_log(event: RecordingEvent) -> dict[str, Any]:
    """Return ``event`` as the ``ExecutionLog`` that sockets and the API carry.

    Keys: id, execution_id, seq, event, node_id, step_name, step_type, input_data, output_data,
    duration_ms, timestamp (ISO 8601, UTC), error_message, level, message, attempt, status. A pure function of the
    event, so that history and live messages of one event are equal. Inputs and outputs are cut to a
    preview of 4,000 characters of text per value.
    """
    data, kind = event.data, event.event_type.value
    duration = data.get("duration_seconds")
    error = data.get("error")
    return {
        "id": event.event_id,
        "execution_id": event.workflow_id,
        "seq": event.seq,
        "event": kind,
        "node_id": event.node_id,
        "step_name": data.get("name") or event.node_id or kind.split("_")[0],
        "step_type": data.get("node_type") or kind,
        "input_data": preview(data.get("inputs") or data.get("initial_context") or {}),
        "output_data": preview(data.get("outputs") or data.get("final_state") or {}),
        "duration_ms": 0 if duration is None else round(duration * 1000),
        "timestamp": datetime.fromtimestamp(event.timestamp, UTC).isoformat(timespec="milliseconds"),
        "error_message": error or None,
        "level": data.get("level") or _LEVEL_BY_TYPE.get(kind, "info"),
        "message": data.get("message") or describe(event),
        "attempt": data.get("attempt"),
        "status": data.get("status"),
        "data": preview({k: v for k, v in data.items() if k not in ("inputs", "outputs", "initial_context", "final_state")}),
    }


def describe(event: RecordingEvent) -> str:
    """Return one line that says what happened, for people."""
    data = event.data
    name = data.get("name") or event.node_id or ""
    error = data.get("error") or ""
    match event.event_type:
        case RecordingEventType.WORKFLOW_START:
            return f"Execution started: {data.get('workflow', '')} v{data.get('version', '?')}"
        case RecordingEventType.WORKFLOW_COMPLETE:
            return "Execution " + str(data.get("status", "completed")).replace("_", " ")
        case RecordingEventType.WORKFLOW_ERROR:
            return f"Execution {data.get('status', 'failed')}: {error}"
        case RecordingEventType.PHASE_START:
            count = data.get("node_count", 0)
            return f"Phase {data.get('phase', 0) + 1} started: {count} node{'' if count == 1 else 's'}"
        case RecordingEventType.PHASE_COMPLETE:
            return f"Phase {data.get('phase', 0) + 1} {data.get('status', 'completed')}"
        case RecordingEventType.NODE_START:
            attempt = data.get("attempt") or 1
            return f"{name} started" + (f", attempt {attempt}" if attempt > 1 else "")
        case RecordingEventType.NODE_COMPLETE:
            return f"{name} completed"
        case RecordingEventType.NODE_ERROR:
            return f"{name} failed: {error}"
        case RecordingEventType.NODE_RETRY:
            return f"{name} will be tried again in {data.get('delay_seconds', 0):.1f} s: {error}"
        case RecordingEventType.NODE_SKIPPED:
            return f"{name} skipped: {data.get('reason', '')}"
        case RecordingEventType.ARTIFACT:
            return f"{name}: {data.get('kind', 'file')} saved"
        case RecordingEventType.CANCEL_REQUESTED:
            return f"Cancel requested by {data.get('by', 'a user')}"
        case RecordingEventType.RECOVERED:
            return f"Recovered: {data.get('reason', '')}"
        case _:
            return event.event_type.value.replace("_", " ")


def preview(value: Any, limit: int = PREVIEW_CHARACTERS) -> Any:
    """Return ``value`` with every text cut to ``limit`` characters and lists to 50 items."""
    if isinstance(value, str):
        return value if len(value) <= limit else f"{value[:limit]}… ({len(value):,} characters)"
    if isinstance(value, Mapping):
        return {key: preview(item, limit) for key, item in value.items()}
    if isinstance(value, list | tuple):
        cut = [preview(item, limit) for item in value[:50]]
        return cut if len(value) <= 50 else [*cut, f"… {len(value) - 50:,} more items"]
    return value
