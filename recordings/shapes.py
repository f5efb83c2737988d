"""What the parts of a JSON recording must look like, so that a strange file is refused in one place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Annotated, Any

import msgspec

DEPTH_LIMIT = 200
"""Levels of lists and objects within a recording; what ``events.plain`` writes has about 100."""

_Moment = Annotated[float, msgspec.Meta(ge=-62135596800, le=253402300799)]
_Seconds = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_PLACE = re.compile(r" - at `\$(.*)`$")
_STEP = re.compile(r"\[(\d+)\]|\.([^.\[]+)|\[\.\.\.\]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LEVEL = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class Metadata(msgspec.Struct):
    """The keys of ``RecordingMetadata``; others may be there too."""

    recording_id: _Identifier
    workflow_name: str
    started_at: _Moment
    completed_at: _Moment | None = None
    duration_seconds: _Seconds | None = None
    success: bool | None = None
    error: str | None = None
    node_count: _Count = 0
    team_count: _Count = 0
    recursion_max_depth: _Count = 0
    event_count: _Count = 0
    file_size_bytes: _Count | None = None
    checksum: str | None = None
    tags: list[str] | None = None
    execution_id: str | None = None
    workflow_uuid: str | None = None
    workflow_version: _Count | None = None
    trigger: str | None = None
    status: str | None = None
    user_id: int | None = None
    credits_consumed: _Count | None = None
    parent_recording_id: str | None = None
    fork_event_id: str | None = None
    engine_version: str | None = None
    format_version: _Count | None = None
    codec: str | None = None
    env_fingerprint: str | None = None
    redaction_count: _Count | None = None


class Event(msgspec.Struct):
    """The keys of an event."""

    event_id: _Identifier
    event_type: _Identifier
    timestamp: _Moment
    workflow_id: str | int
    node_id: str | int | None = None
    data: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class Snapshot(msgspec.Struct):
    """The keys of a snapshot."""

    snapshot_id: str
    timestamp: _Moment
    workflow_id: str | int
    state: dict[str, Any]
    node_id: str | int | None = None
    recursion_depth: _Count | None = None
    execution_stack: list[str] | None = None


class Whole(msgspec.Struct):
    """A JSON recording."""

    metadata: Metadata
    events: list[Event] | None = None
    snapshots: list[Snapshot] | None = None


KEYS = frozenset(Whole.__struct_fields__)
EVENT_KEYS = frozenset(Event.__struct_fields__)


def check(value: Any, shape: type[msgspec.Struct]) -> None:
    """Compare a JSON value with one of the shapes above.

    Raises:
        ValueError: it does not fit; the message begins with the place, as ``event 3: timestamp: …``.
    """
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _PLACE.search(text)
        path = _path(found[1]) if found else ""
        raise ValueError(f"{path}{text[: found.start()] if found else text}") from None


def _path(place: str) -> str:
    """Return ``.events[2].data`` as ``event 3: data: ``."""
    words: list[str] = []
    for index, name in _STEP.findall(place):
        if index and words and words[-1] in ("events", "snapshots"):
            words[-1] = f"{words[-1][:-1]} {int(index) + 1}"
        elif index or name:
            words.append(name or f"[{index}]")
    return "".join(f"{word}: " for word in words)


def check_depth(content: bytes) -> None:
    """Look whether JSON text is nested reasonably, before a parser meets it. Linear, and quick.

    Raises:
        ValueError: it has more than ``DEPTH_LIMIT`` levels.
    """
    if _levels(content) > DEPTH_LIMIT and _levels(_without_texts(content)) > DEPTH_LIMIT:
        raise ValueError(f"lists and objects are nested more than {DEPTH_LIMIT} levels deep")


def _levels(content: bytes) -> int:
    return max(accumulate(map(_LEVEL.__getitem__, content.translate(None, _NOT_BRACKETS))), default=0)


def _without_texts(content: bytes) -> bytes:
    return re.sub(rb'"(?:[^"\\]|\\.)*+"?', b"", content, flags=re.DOTALL)


def unknown(value: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return the entries of ``value`` that are not ``known``."""
    return {} if value.keys() <= known else {key: item for key, item in value.items() if key not in known}
