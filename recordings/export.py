"""Recordings as files and texts: the JSON format, Graphviz, a summary for people."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from recordings import shapes
from recordings.drawings import to_dot as to_dot
from recordings.errors import DamagedRecording, InvalidRecording, RecordingNotFound
from recordings.events import (
    MORE,
    RecordingEvent,
    RecordingMetadata,
    StateSnapshot,
    decode_json,
    describe,
    encode_json,
    plain,
)
from recordings.snapshots import recorded

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED = ("checksum", "file_size_bytes")
_SIZE_TRIES = 64
JSON_VERSION = 1
JSON_LIMIT_BYTES = 1 << 29
"""The most JSON that a file may hold: it is read whole, and takes several times as much memory."""


class Readable(Protocol):
    """What exports need of a replayer."""

    metadata: RecordingMetadata
    events: Sequence[RecordingEvent]

    @property
    def snapshots(self) -> Sequence[StateSnapshot]:
        """Return the recorded snapshots."""


# --------------------------------------------------------------------------- files


def atomic_write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a file that appears under ``path`` complete, on disk, or not at all.

    Only its owner may read it: recordings hold what pages and people said.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_json(
    path: Path,
    metadata: RecordingMetadata,
    events: Iterable[RecordingEvent],
    snapshots: Iterable[StateSnapshot],
    *,
    compress: bool,
) -> None:
    """Write the JSON format and set in ``metadata`` what describes the stored form.

    The checksum is SHA-256 over metadata (without the two), events and snapshots, as compact JSON with
    sorted keys, one line each. Metadata is a gzip member of its own, so that it can be read alone.
    """
    event_text = _json_list(event.to_dict() for event in events)
    snapshot_text = _json_list(snapshot.to_dict() for snapshot in recorded(snapshots))
    metadata.format_version, metadata.codec = JSON_VERSION, "gzip" if compress else "json"
    metadata.checksum = _checksum(metadata.to_dict(), event_text, snapshot_text)
    pack = _gzip if compress else _as_is
    body = pack(b'"events":' + event_text + b',"snapshots":' + snapshot_text + b"}\n", 6)
    head = _sized_head(metadata, len(body), pack)
    atomic_write(path, lambda file: file.writelines((head, body)))


def _json_list(items: Iterable[Any]) -> bytes:
    return b"[" + b",\n".join(encode_json(item, canonical=True) for item in items) + b"]"


def _checksum(metadata: dict[str, Any], events: bytes, snapshots: bytes) -> str:
    signed = {key: value for key, value in metadata.items() if key not in _UNSIGNED}
    return hashlib.sha256(b"\n".join((encode_json(signed, canonical=True), events, snapshots))).hexdigest()


def _sized_head(metadata: RecordingMetadata, body_bytes: int, pack: Callable[[bytes, int], bytes]) -> bytes:
    """Return the first part of the file, which names the size of the file it is in."""
    size = body_bytes
    for attempt in range(_SIZE_TRIES):
        metadata.file_size_bytes = size
        text = b'{"metadata":' + encode_json(metadata.to_dict(), canonical=True) + b"," + b" " * (attempt // 8) + b"\n"
        # The size of a stored (level 0) member depends only on the length of its text, so it settles.
        head = pack(text, 6 if attempt < _SIZE_TRIES // 2 else 0)
        if len(head) + body_bytes == size:
            return head
        size = len(head) + body_bytes
    return head


def _gzip(content: bytes, level: int) -> bytes:
    return gzip.compress(content, level, mtime=0)


def _as_is(content: bytes, level: int) -> bytes:
    return content


class DictEvents(Sequence[RecordingEvent]):
    """The events of a JSON recording; each becomes a ``RecordingEvent`` when it is first asked for."""

    def __init__(self, raw: list[dict[str, Any]]) -> None:
        self._items: list[Any] = raw

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        """Return the event at a position, or a list for a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = index + len(self._items) if index < 0 else index
        item = self._items[place]
        if isinstance(item, dict):
            item = self._items[place] = RecordingEvent.from_dict(item, place + 1)
        return item

    def __iter__(self) -> Iterator[RecordingEvent]:
        """Iterate over the events."""
        for place in range(len(self._items)):
            yield self[place]

    def __eq__(self, other: object) -> bool:
        """Return whether the other holds equal events in the same order."""
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(mine == theirs for mine, theirs in zip(self, other, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]


def read_json(path: Path) -> tuple[RecordingMetadata, Sequence[RecordingEvent], list[StateSnapshot]]:
    """Read a JSON recording, gzip or not, and compare its checksum where it has one.

    Raises:
        RecordingNotFound: there is no such file.
        InvalidRecording: it is not a recording, or was changed or cut short.
    """
    content, size = _read(path)
    try:
        shapes.check_depth(content)
        whole = _decode(content)
        if not isinstance(whole, dict) or not isinstance(whole.get("metadata"), dict):
            raise InvalidRecording(f'{path}: not a recording: it must be a JSON object with the key "metadata"')
        return _parse(path, whole, size)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRecording(f"{path}: not a recording: not valid JSON ({error})") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidRecording):
            raise
        raise InvalidRecording(f"{path}: not a recording: {error}") from error


def _decode(content: bytes) -> Any:
    """Return the value of JSON text, also of what Python's ``json`` writes and no other parser takes.

    NaN and Infinity become what ``plain`` makes of them, half surrogates their escape as text.
    """
    text = content.removeprefix(codecs.BOM_UTF8)
    try:
        return decode_json(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            found = json.loads(text, parse_constant=_number, parse_float=_number)
        except ValueError:
            found = None
        if found is None:
            raise
        return decode_json(encode_json(found))


def _number(text: str) -> Any:
    return plain(float(text))


def _read(path: Path) -> tuple[bytes, int]:
    """Return the JSON text of a file, unpacked, and the size of the file."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            with gzip.open(file) if packed else file as source:
                content: bytes = source.read(JSON_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        raise RecordingNotFound(f"no recording at {path}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DamagedRecording(f"{path}: the gzip data is damaged or cut short: {error}") from error
    if len(content) > JSON_LIMIT_BYTES:
        raise InvalidRecording(
            f"{path}: it holds more than {JSON_LIMIT_BYTES:,} bytes of JSON; export such recordings as .fbrec"
        )
    return content, size


def _parse(
    path: Path, whole: dict[str, Any], size: int
) -> tuple[RecordingMetadata, Sequence[RecordingEvent], list[StateSnapshot]]:
    shapes.check(whole, shapes.Whole)
    events, snapshots = whole.get("events") or [], whole.get("snapshots") or []
    checksum = whole["metadata"].get("checksum")
    if checksum is not None and checksum != _checksum(whole["metadata"], _json_list(events), _json_list(snapshots)):
        raise DamagedRecording(f"{path}: the content was changed after it was saved: its checksum does not fit")
    metadata = RecordingMetadata.from_dict(whole["metadata"])
    metadata.file_size_bytes = size
    if more := shapes.unknown(whole, shapes.KEYS):
        metadata.extra[MORE] = more
    return metadata, DictEvents(events), [StateSnapshot.from_dict(item) for item in snapshots]


# --------------------------------------------------------------------------- for people


def clean(text: Any) -> str:
    """Return text without control characters, which a recorded page could use to write on the terminal."""
    return "".join(c if c.isprintable() or c == " " else "�" for c in str(text).replace("\n", "⏎"))


def human_bytes(count: int | float | None) -> str:
    """Return ``512.0B``, ``12.3KB``, ``2.3MB`` or ``1.0GB``; ``N/A`` for None."""
    if count is None:
        return "N/A"
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if abs(size) < 1024:
            return f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}GB"


def human_duration(seconds: float | None) -> str:
    """Return ``123ms``, ``15.2s`` or ``12m 34.0s``; ``N/A`` for None."""
    if seconds is None:
        return "N/A"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m {rest:.1f}s"


def human_time(timestamp: float | None) -> str:
    """Return ``2025-01-15 10:30:00`` in UTC; ``N/A`` for None."""
    if timestamp is None:
        return "N/A"
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")


def to_summary(recording: Readable) -> str:
    """Return header, counts and one line per event."""
    metadata = recording.metadata
    outcome = {True: "SUCCESS", False: "FAILED", None: "UNFINISHED"}[metadata.success]
    lines = [
        f"Recording: {clean(metadata.recording_id)}",
        f"Workflow: {clean(metadata.workflow_name)}",
        f"Status: {outcome}" + (f" ({clean(metadata.error)})" if metadata.error else ""),
        f"Started: {human_time(metadata.started_at)} UTC",
        f"Duration: {human_duration(metadata.duration_seconds)}",
        f"Nodes: {metadata.node_count}  Teams: {metadata.team_count}"
        f"  Max recursion depth: {metadata.recursion_max_depth}  Events: {metadata.event_count}",
        "",
        "Timeline:",
    ]
    start = metadata.started_at
    for event in recording.events:
        node = f" @ {clean(event.node_id)}" if event.node_id else ""
        what = f"{event.event_type.value}{node}  {clean(describe(event))}"
        lines.append(f"  +{event.timestamp - start:9.3f}s  {what}")
    return "\n".join(lines) + "\n"


def to_json(recording: Readable) -> str:
    """Return metadata, events and snapshots as indented JSON text, which can be loaded like a saved file."""
    events = [event.to_dict() for event in recording.events]
    snapshots = [snapshot.to_dict() for snapshot in recorded(recording.snapshots)]
    metadata = {**recording.metadata.to_dict(), "file_size_bytes": None}
    metadata["checksum"] = _checksum(metadata, _json_list(events), _json_list(snapshots))
    return json.dumps({"metadata": metadata, "events": events, "snapshots": snapshots}, indent=2, ensure_ascii=False)
