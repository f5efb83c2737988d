"""The one event shape: log line, recording entry and live message are all this value.

Beside it: what a recording says about itself (``RecordingMetadata``), a recorded state
(``StateSnapshot``), and ``plain``, which turns any Python value into JSON that can be turned back.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache, lru_cache
from pathlib import Path, PurePath
from types import NoneType
from typing import Any, Self
from uuid import UUID

import msgspec

from recordings import shapes

ENGINE_VERSION = "0.1.0"

OMITTED = "$omitted"
"""Stands in the place of a value that was not recorded, and in an event row before the metadata that says so."""

MORE = "$more"
"""Where keys are kept that a newer version wrote beside those of the format."""


@cache
def environment() -> str:
    """Return what a recording says of where it was made: Python, machine, and (``p``) a digest of all packages with their versions."""
    python = f"{sys.implementation.name}-{platform.python_version()}-{sys.platform}-{platform.machine()}"
    packages = {path.stem for entry in sys.path if entry for path in Path(entry).glob("*.dist-info")}
    return f"{python}-p{hashlib.sha256(' '.join(sorted(packages)).encode()).hexdigest()[:8]}"


class RecordingEventType(Enum):
    """What happened. The value is the serialised name.

    A name from a newer version is no error: ``RecordingEventType("warp")`` is a member that only says
    its name, so that readers keep what they do not know.
    """

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
    NODE_WAITING = "node_waiting"
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
    TAG = "tag"
    ARTIFACT = "artifact"
    EXTERNAL_CALL = "external_call"
    CREDIT = "credit"
    CANCEL_REQUESTED = "cancel_requested"
    RECOVERED = "recovered"
    CLEANUP = "cleanup"
    PAUSE = "pause"
    RESUME = "resume"
    APPROVAL = "approval"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = object.__new__(cls)
        member._name_ = value.upper()
        member._value_ = value
        return cls._value2member_map_.setdefault(value, member)  # type: ignore[return-value]


@lru_cache(maxsize=4096)
def _id_prefix(execution_id: str) -> str:
    return hashlib.blake2b(execution_id.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


def event_id(execution_id: str, seq: int) -> str:
    """Return the 32-character id of event ``seq`` of an execution; the same arguments give the same id."""
    return f"{_id_prefix(execution_id)}{seq:08x}"


def snapshot_id(execution_id: str, phase: int) -> str:
    """Return the 32-character id of the snapshot that an execution takes when it leaves a phase."""
    return f"{_id_prefix(f'{execution_id}/phases')}{phase:08x}"


def event_seq(execution_id: str, identifier: str) -> int | None:
    """Return the ``seq`` that ``event_id`` made ``identifier`` from, or None when it belongs elsewhere."""
    prefix = _id_prefix(execution_id)
    if len(identifier) < 32 or not identifier.startswith(prefix):
        return None
    try:
        return int(identifier[24:], 16)
    except ValueError:
        return None


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
        """Return the JSON form: the seven keys of the recording format, and those of a newer one that were read."""
        metadata = self.metadata
        more = metadata.get(MORE)
        if type(more) is dict:
            metadata = {key: item for key, item in metadata.items() if key != MORE}
        result = {
            "event_id": self.event_id,
            "event_type": self.event_type.value,
            "timestamp": self.timestamp,
            "workflow_id": self.workflow_id,
            "node_id": self.node_id,
            "data": plain(self.data),
            "metadata": plain(metadata),
        }
        return result if type(more) is not dict else {**plain(more), **result}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], seq: int = 0) -> RecordingEvent:
        """Return the event of a JSON form; ``seq`` is its place in the recording, from 1.

        Raises:
            KeyError, TypeError, ValueError: a key is missing or of the wrong kind.
        """
        node_id = data.get("node_id")
        metadata = dict(data.get("metadata") or {})
        if more := shapes.unknown(data, shapes.EVENT_KEYS):
            metadata[MORE] = more
        return cls(
            event_id=str(data["event_id"]),
            event_type=RecordingEventType(str(data["event_type"])),
            timestamp=float(data["timestamp"]),
            workflow_id=str(data["workflow_id"]),
            node_id=None if node_id is None else str(node_id),
            data=dict(data.get("data") or {}),
            metadata=metadata,
            seq=seq,
        )

    def with_data(self, data: dict[str, Any]) -> RecordingEvent:
        """Return the same event with other data."""
        return dataclasses.replace(self, data=data)

    @staticmethod
    def _sanitize_data(value: Any) -> Any:
        return plain(value)


@dataclass(frozen=True, slots=True)
class BlobReference:
    """Stands in the data of an event for a JSON value that is stored as a blob."""

    sha256: str


@dataclass(slots=True)
class RecordingMetadata:
    """What a recording says about itself. Times are Unix seconds, ``success`` is None until it ended.

    ``node_count`` counts completions, errors included. ``checksum`` and ``file_size_bytes`` describe
    the stored form, as do ``format_version`` and ``codec`` (json, gzip, zstd). ``env_fingerprint`` names Python,
    the machine, and digests of packages and node types. Keys that this version does not know are kept in ``extra``.
    """

    recording_id: str
    workflow_name: str
    started_at: float
    completed_at: float | None = None
    duration_seconds: float | None = None
    success: bool | None = None
    error: str | None = None
    node_count: int = 0
    team_count: int = 0
    recursion_max_depth: int = 0
    event_count: int = 0
    file_size_bytes: int | None = None
    checksum: str | None = None
    tags: list[str] = field(default_factory=list)
    execution_id: str | None = None
    workflow_uuid: str | None = None
    workflow_version: int | None = None
    trigger: str | None = None
    status: str | None = None
    user_id: int | None = None
    credits_consumed: int | None = None
    parent_recording_id: str | None = None
    fork_event_id: str | None = None
    engine_version: str | None = None
    format_version: int | None = None
    codec: str | None = None
    env_fingerprint: str | None = None
    redaction_count: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the 14 keys of the format, further ones only where they are set."""
        result: dict[str, Any] = {}
        for name in _METADATA_FIELDS:
            value = getattr(self, name)
            if value is not None or name in _METADATA_KEYS:
                result[name] = list(value) if name == "tags" else value
        for name, value in self.extra.items():
            result.setdefault(name, value)
        return result

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RecordingMetadata:
        """Return the metadata of a JSON form; unknown keys go to ``extra``.

        Raises:
            ValueError: ``recording_id``, ``workflow_name`` or ``started_at`` is missing, or a value is of the
                wrong kind; the message names the key.
        """
        shapes.check(data, shapes.Metadata)
        known = {name: value for name, value in data.items() if name in _METADATA_NAMES}
        known["tags"] = list(known.get("tags") or [])
        extra = {name: value for name, value in data.items() if name not in _METADATA_NAMES}
        return cls(**known, extra=extra)


_METADATA_FIELDS = tuple(item.name for item in dataclasses.fields(RecordingMetadata) if item.name != "extra")
_METADATA_NAMES = frozenset(_METADATA_FIELDS)
_METADATA_KEYS = frozenset(_METADATA_FIELDS[:14])


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """The whole state of an execution at one moment. ``timestamp`` equals that of its event."""

    snapshot_id: str
    timestamp: float
    workflow_id: str
    node_id: str | None
    state: dict[str, Any]
    recursion_depth: int = 0
    execution_stack: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the seven keys of the format."""
        return {
            "snapshot_id": self.snapshot_id,
            "timestamp": self.timestamp,
            "workflow_id": self.workflow_id,
            "node_id": self.node_id,
            "state": plain(self.state),
            "recursion_depth": self.recursion_depth,
            "execution_stack": list(self.execution_stack),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StateSnapshot:
        """Return the snapshot of a JSON form.

        Raises:
            KeyError, TypeError, ValueError: a key is missing or of the wrong kind.
        """
        node_id = data.get("node_id")
        return cls(
            snapshot_id=str(data["snapshot_id"]),
            timestamp=float(data["timestamp"]),
            workflow_id=str(data["workflow_id"]),
            node_id=None if node_id is None else str(node_id),
            state=dict(data["state"]),
            recursion_depth=int(data.get("recursion_depth") or 0),
            execution_stack=[str(item) for item in data.get("execution_stack") or []],
        )


# --------------------------------------------------------------------------- values to JSON and back

_SCALARS = frozenset({str, int, bool, NoneType})
_FAST_DEPTH = 24
DEPTH_LIMIT = 100
TYPE, VALUE = "$type", "value"


class _TooDeep(Exception):
    """The fast walk reached its limit: a cycle, or really deep."""


def plain(value: Any) -> Any:
    """Return a JSON-ready copy of ``value``.

    Tuples become lists and keys become text. What JSON does not have (dates, UUIDs, decimals, bytes,
    paths, sets, enums, dataclasses, NaN) becomes ``{"$type": ..., "value": ...}``, which ``restore`` turns
    back; anything else becomes its text. A cycle, or more than 100 levels, is cut and says so. The copy
    of a copy is equal to it.
    """
    try:
        return _plain(value, 0)
    except _TooDeep:
        return _plain_guarded(value, 0, frozenset())


def _plain(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if depth > _FAST_DEPTH:
        raise _TooDeep
    if kind is dict:
        return {
            (key if type(key) is str else _key(key)): (item if type(item) in _SCALARS else _plain(item, depth + 1))
            for key, item in value.items()
        }
    if kind is list or kind is tuple:
        return [item if type(item) in _SCALARS else _plain(item, depth + 1) for item in value]
    if kind is float and math.isfinite(value):
        return value
    return _plain_other(value, lambda inner: _plain(inner, depth + 1))


def _plain_guarded(value: Any, depth: int, path: frozenset[int]) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if id(value) in path:
        return "… (contains itself)"
    if depth > DEPTH_LIMIT:
        return f"… (more than {DEPTH_LIMIT} levels)"
    inside = path | {id(value)}
    if kind is dict:
        return {_key(key): _plain_guarded(item, depth + 1, inside) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_plain_guarded(item, depth + 1, inside) for item in value]
    return _plain_other(value, lambda inner: _plain_guarded(inner, depth + 1, inside))


def _key(key: Any) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return str(key)


def _plain_other(value: Any, inner: Any) -> Any:
    match value:
        case Enum():
            return {TYPE: "enum", "name": f"{type(value).__qualname__}.{value.name}", VALUE: inner(value.value)}
        case float():
            return float(value) if math.isfinite(value) else {TYPE: "float", VALUE: str(float(value))}
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case Mapping():
            return inner(dict(value))
        case datetime() | date() | time():
            return {TYPE: type(value).__name__, VALUE: value.isoformat()}
        case timedelta():
            return {TYPE: "timedelta", VALUE: value.total_seconds()}
        case UUID() | Decimal():
            return {TYPE: type(value).__name__.lower(), VALUE: str(value)}
        case bytes() | bytearray() | memoryview():
            return {TYPE: "bytes", VALUE: base64.b64encode(value).decode()}
        case PurePath():
            return {TYPE: "path", VALUE: str(value)}
        case set() | frozenset():
            return {TYPE: "set", VALUE: inner(sorted(value, key=lambda item: (type(item).__name__, str(item))))}
        case tuple() | list():
            return inner(list(value))
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
            return {TYPE: "dataclass", "name": type(value).__qualname__, VALUE: inner(fields)}
        case _:
            return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # somebody's __str__ is broken; recording must go on
        return f"<{type(value).__qualname__}: no text, {type(error).__name__}>"


BLOB = "$blob"
BLOB_PREVIEW = 1_000


def has_long_text(value: Any, limit: int) -> bool:
    """Return whether a JSON value holds a text of more than ``limit`` characters."""
    kind = type(value)
    if kind is str:
        return len(value) > limit
    if kind is not dict and kind is not list:
        return False
    for item in value.values() if kind is dict else value:
        inner = type(item)
        if inner is str:
            if len(item) > limit:
                return True
        elif (inner is dict or inner is list) and has_long_text(item, limit):
            return True
    return False


def without_long_texts(value: Any, limit: int, keep: Callable[[bytes], str]) -> Any:
    """Return a JSON value with ``{"$blob": sha256, "bytes": …, "preview": …}`` for texts over ``limit`` characters.

    ``keep`` gets the UTF-8 of each and returns its SHA-256.
    """
    if type(value) is dict:
        return {key: without_long_texts(item, limit, keep) for key, item in value.items()}
    if type(value) is list:
        return [without_long_texts(item, limit, keep) for item in value]
    if type(value) is not str or len(value) <= limit:
        return value
    content = value.encode("utf-8", "backslashreplace")
    return {BLOB: keep(content), "bytes": len(content), "preview": value[:BLOB_PREVIEW]}


_RESTORE: dict[str, Any] = {
    "float": float,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda seconds: timedelta(seconds=seconds),
    "uuid": UUID,
    "decimal": Decimal,
    "bytes": base64.b64decode,
    "path": Path,
    "set": lambda items: set(restore(items)),
}


def restore(value: Any) -> Any:
    """Return the Python value of a JSON value made by ``plain``.

    Enums and dataclasses come back as their value and their fields: naming a class in a recording must
    never import code.
    """
    if isinstance(value, dict):
        if TYPE in value and VALUE in value and len(value) <= 3:
            make = _RESTORE.get(value[TYPE])
            if make is not None:
                return make(value[VALUE])
            if value[TYPE] in ("enum", "dataclass"):
                return restore(value[VALUE])
        return {key: restore(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restore(item) for item in value]
    return value


_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode
decode_json = msgspec.json.Decoder().decode


def encode_json(value: Any, *, canonical: bool = False) -> bytes:
    """Return compact JSON of plain values; half surrogates, which UTF-8 cannot hold, become ``\\udXXX`` text."""
    encode = _encode_sorted if canonical else _encode
    try:
        return encode(value)
    except UnicodeEncodeError:
        return encode(_without_surrogates(value))


def left_out(name: str, value: Any) -> dict[str, Any]:
    """Return what the metadata of an event says of a plain value that is not recorded: its SHA-256 and size as JSON."""
    text = encode_json(value, canonical=True)
    return {f"{name}_sha256": hashlib.sha256(text).hexdigest(), f"{name}_bytes": len(text)}


def omissions(event: RecordingEvent) -> dict[str, dict[str, Any]]:
    """Return what stands for the values of an event that were not recorded, by the key of its data."""
    if len(event.metadata) < 2:
        return {}
    found = {}
    for key, sha256 in event.metadata.items():
        name = key.removesuffix("_sha256")
        if name != key:
            found[name] = {OMITTED: {"sha256": sha256, "bytes": event.metadata.get(f"{name}_bytes")}}
    return found


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value


def copy_json(value: Any) -> Any:
    """Return a deep copy of a JSON value."""
    if type(value) is dict:
        return {key: item if type(item) in _SCALARS else copy_json(item) for key, item in value.items()}
    if type(value) is list:
        return [item if type(item) in _SCALARS else copy_json(item) for item in value]
    return value


LEVELS = ("debug", "info", "warning", "error")
_LEVEL_BY_TYPE = {
    "state_snapshot": "debug",
    "node_error": "error",
    "workflow_error": "error",
    "node_retry": "warning",
    "cancel_requested": "warning",
    "recovered": "warning",
}
PREVIEW_CHARACTERS = 4_000
LINE_CHARACTERS = 65_536
"""The longest line of a log; what is longer is cut when it is stored, and says how long it was."""


_SHOWN_APART = frozenset({"inputs", "outputs", "initial_context", "final_state", "edges"})


def execution_log(event: RecordingEvent) -> dict[str, Any]:
    """Return ``event`` as the ``ExecutionLog`` that sockets and the API carry.

    Keys: id, execution_id, seq, event, node_id, step_name, step_type, input_data, output_data,
    duration_ms, timestamp (ISO 8601, UTC), error_message, level, message, attempt, status. A pure function of the
    event, so that history and live messages of one event are equal. Inputs and outputs are cut to a
    preview of 4,000 characters of text per value, messages and errors to 65,536.
    """
    data, kind = event.data, event.event_type._value_
    if omitted := omissions(event):
        data = data | omitted
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
        "input_data": _cut(data.get("inputs") or data.get("initial_context") or {}),
        "output_data": _cut(data.get("outputs") or {}),
        "duration_ms": 0 if duration is None else round(duration * 1000),
        "timestamp": datetime.fromtimestamp(event.timestamp, UTC).isoformat(timespec="milliseconds"),
        "error_message": line(error) or None,
        "level": data.get("level") or _LEVEL_BY_TYPE.get(kind, "info"),
        "message": line(data.get("message")) or describe(event),
        "attempt": data.get("attempt"),
        "status": data.get("status"),
        "data": {key: _cut(item) for key, item in data.items() if key not in _SHOWN_APART},
    }


def describe(event: RecordingEvent) -> str:
    """Return one line that says what happened, for people; its type where the data is not what it should be."""
    try:
        return _describe(event)
    except (AttributeError, TypeError, ValueError):
        return str(event.event_type.value).replace("_", " ")


def _describe(event: RecordingEvent) -> str:
    data = event.data
    name = data.get("name") or event.node_id or ""
    error = data.get("error") or ""
    match event.event_type._value_:
        case "workflow_start":
            version = f"v{data['version']}" if data.get("version") is not None else ""
            what = " ".join(str(part) for part in (data.get("workflow"), version) if part)
            return "Execution started" + (f": {what}" if what else "")
        case "workflow_complete":
            return "Execution " + str(data.get("status", "completed")).replace("_", " ")
        case "workflow_error":
            status = data.get("status", "failed")
            return f"Execution {status}" + (f": {error}" if error != status else "")
        case "phase_start":
            count = data.get("node_count", 0)
            return f"Phase {data.get('phase', 0) + 1} started: {count} node{'' if count == 1 else 's'}"
        case "phase_complete":
            return f"Phase {data.get('phase', 0) + 1} {data.get('status', 'completed')}"
        case "state_snapshot" if isinstance(data.get("phase"), int):
            count = len(data.get("nodes") or ())
            return f"State after phase {data['phase'] + 1}: {count} node{'' if count == 1 else 's'} changed it"
        case "node_start":
            attempt = data.get("attempt") or 1
            verb = "goes on" if data.get("resumed") else "started"
            return f"{name} {verb}" + (f", attempt {attempt}" if attempt > 1 else "")
        case "node_complete":
            return f"{name} completed"
        case "node_error":
            return f"{name} failed: {error}"
        case "node_retry":
            return f"{name} will be tried again in {data.get('delay_seconds', 0):.1f} s: {error}"
        case "node_skipped":
            verb = "cancelled" if data.get("status") == "cancelled" else "skipped"
            return f"{name} {verb}: {data.get('reason', '')}"
        case "node_waiting":
            return f"{name} waits {data.get('waits_for', '')}".rstrip()
        case "team_start" | "team_complete" | "team_member_start" | "team_member_complete" | "team_communication":
            return _describe_team(event.event_type._value_, name, data)
        case "recursion_enter" if isinstance(data.get("index"), int):
            return f"{name}: execution {data['index'] + 1} started"
        case "recursion_exit" if isinstance(data.get("index"), int):
            return f"{name}: execution {data['index'] + 1} {str(data.get('status', 'ended')).replace('_', ' ')}"
        case "recursion_enter" | "recursion_exit" if data.get("operation_type") and data.get("identifier"):
            verb = "entered" if event.event_type._value_ == "recursion_enter" else "left"
            return f"{str(data['operation_type']).capitalize()} {data['identifier']} {verb}"
        case "approval" if isinstance(data.get("approved"), bool):
            comment = f": {data['comment']}" if data.get("comment") else ""
            return f"{'Approved' if data['approved'] else 'Rejected'} by {data.get('by') or 'somebody'}{comment}"
        case "external_call" if data.get("url"):
            status = f": {data['status']}" if data.get("status") else ""  # a mail has none
            answer = f" failed: {error}" if error else status
            return f"{data.get('method', '')} {data['url']}{answer}".strip()
        case "pause":
            return f"Paused by {data.get('by', 'a user')}"
        case "resume":
            return f"Resumed by {data.get('by', 'a user')}"
        case "artifact":
            return f"{name}: {data.get('kind', 'file')} saved"
        case "cancel_requested":
            return f"Cancel requested by {data.get('by', 'a user')}"
        case "recovered":
            return f"Recovered: {data.get('reason', '')}"
        case "cleanup":
            return "The browser page did not close in time" if data.get("closed") is False else "Browser page closed"
        case "tag":
            return f"Tagged: {', '.join(data['tags'])}"
        case "log" if data.get("message"):
            return str(data["message"])
        case _:
            return str(event.event_type.value).replace("_", " ")


def _describe_team(kind: str, team: str, data: dict[str, Any]) -> str:
    who = f"{data.get('member_id', 'A member')} of {team}" if "member" in kind else f"Team {team}"
    if kind == "team_communication":
        said = data.get("message")
        text = "" if said is None else f": {said if isinstance(said, str) else encode_json(said).decode()}"
        return f"{data.get('from_member', '?')} to {data.get('to_member', '?')}{text}"
    if kind == "team_start":
        count = data.get("member_count")
        members = "" if count is None else f"{count} member{'' if count == 1 else 's'}"
        about = ", ".join(part for part in (members, data.get("formation")) if part)
        return f"{who} started" + (f": {about}" if about else "")
    if kind == "team_member_start":
        return f"{who} started"
    failed = data.get("error") or data.get("success") is False
    return f"{who} failed: {data['error']}" if data.get("error") else f"{who} {'failed' if failed else 'completed'}"


def line(value: Any) -> Any:
    """Return a text cut to ``LINE_CHARACTERS``, in which stands how long it was; of anything else a preview."""
    if not isinstance(value, str):
        return preview(value)
    if len(value) <= LINE_CHARACTERS:
        return value
    mark = f"… ({len(value):,} characters)"
    return value[: LINE_CHARACTERS - len(mark)] + mark


def preview(value: Any, limit: int = PREVIEW_CHARACTERS) -> Any:
    """Return ``value`` with every text cut to ``limit`` characters and lists to 50 items."""
    if isinstance(value, str):
        return value if len(value) <= limit else f"{value[:limit]}… ({len(value):,} characters)"
    if type(value) is dict or isinstance(value, Mapping):
        return {key: _cut(item, limit) for key, item in value.items()}
    if type(value) is list or isinstance(value, list | tuple):
        cut = [_cut(item, limit) for item in value[:50]]
        return cut if len(value) <= 50 else [*cut, f"… {len(value) - 50:,} more items"]
    return value


def _cut(value: Any, limit: int = PREVIEW_CHARACTERS) -> Any:
    """Return ``preview(value)``, at once where there is nothing to cut."""
    kind = type(value)
    if kind is str:
        return value if len(value) <= limit else preview(value, limit)
    return value if kind in _SCALARS or kind is float else preview(value, limit)
