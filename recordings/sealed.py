"""The sealed recording, ``.fbrec``: small, checked, and readable from any event on.

Layout::

    "FBREC\\0" version(u16)
    frame*      columns | data | keyframe    each zstd; up to 2,048 events or 1 MiB of JSON
    index       zstd JSON: metadata, one entry per frame with offsets and checksums
    trailer     index offset(u64) length(u32) crc32(u32), SHA-256 of all before it, "FBREND\\0\\0"

*Columns* hold the short fields of all events of a frame, side by side, so that paths and types can be read
without the data. *Data* is one line of compact JSON per event. A *keyframe* leads to the state after its
frame: either the whole state, or the difference to the keyframe ``n - lowbit(n)``, so that a state costs at
most log2(frames) differences plus a part of one frame. Opening reads trailer and index only.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Protocol, overload

import msgspec
import zstandard

from recordings.errors import DamagedRecording, InvalidRecording, RecordingNotFound, UnsupportedVersion
from recordings.events import (
    RecordingEvent,
    RecordingEventType,
    RecordingMetadata,
    StateSnapshot,
    decode_json,
    encode_json,
    event_id,
    event_seq,
)
from recordings.state import CHANGES_STATE, NODES, State

MAGIC = b"FBREC\0"
VERSION = 1
SUFFIX = ".fbrec"
FRAME_EVENTS = 2048
FRAME_BYTES = 1 << 20
LARGE_LINE_BYTES = 4096
"""Values of an event longer than this are not repeated in keyframes, which name the event instead."""

_HEADER = struct.Struct("<6sH")
_TRAILER = struct.Struct("<QII32s8s")
_END = b"FBREND\0\0"
_LEVEL = 6
_DECODED_LIMIT_BYTES = 1 << 30
_CACHED_FRAMES = 2
_NOTHING: dict[str, Any] = {}
_CHANGING = frozenset(kind.value for kind in CHANGES_STATE)
_COMPLETE = RecordingEventType.NODE_COMPLETE.value


class _Frame(msgspec.Struct, array_like=True):
    """Where a frame is and what protects it."""

    offset: int
    columns_bytes: int
    data_bytes: int
    keyframe_bytes: int
    count: int
    first_seq: int
    last_seq: int
    columns_crc: int
    data_crc: int
    keyframe_crc: int


class _Index(msgspec.Struct):
    metadata: dict[str, Any]
    workflow_id: str
    event_count: int
    frames: list[_Frame]
    snapshots: list[int] = []
    orphans: list[dict[str, Any]] = []


class _Columns(msgspec.Struct, omit_defaults=True):
    """The short fields of a frame. A column of equal values is that value."""

    names: list[str]
    types: list[int] | int
    nodes: list[int] | int
    times: list[int]
    depths: list[int] | int = -1
    seqs: list[int] | None = None
    extras: list[int] = []


class _Outputs(msgspec.Struct):
    """The part of a ``node_complete`` line that a state needs."""

    outputs: Any = None


_decode_outputs = msgspec.json.Decoder(_Outputs).decode
_decode_index = msgspec.json.Decoder(_Index).decode
_decode_columns = msgspec.json.Decoder(_Columns).decode


class _Pointer:
    """Stands in a keyframe for a value that is read from event ``seq``."""

    __slots__ = ("seq",)

    def __init__(self, seq: int) -> None:
        self.seq = seq


# --------------------------------------------------------------------------- writing


class SealedWriter:
    """Writes events to a sealed file, in bounded memory: one frame and two states at most.

    The same events and metadata always give the same bytes. ``seq`` of an event must rise; 0 means the next.
    """

    def __init__(self, file: IO[bytes], workflow_id: str, *, frame_events: int = FRAME_EVENTS) -> None:
        self._file = file
        self._workflow_id = workflow_id
        self._frame_events = frame_events
        self._digest = hashlib.sha256()
        self._compress = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress
        self._offset = 0
        self._frames: list[_Frame] = []
        self._snapshots: list[int] = []
        self._last_seq = 0
        self.event_count = 0
        self._whole = self._state = State()
        self._pieces: list[State] = []
        self._pending: tuple[bytes, bytes, list[int]] | None = None
        self._begin_frame()
        self._put(_HEADER.pack(MAGIC, VERSION))

    def write(self, event: RecordingEvent, snapshot: StateSnapshot | None = None) -> None:
        """Add one event, and with a ``state_snapshot`` event its state.

        Raises:
            ValueError: the event's ``seq`` is not higher than the one before.
        """
        seq = event.seq or self._last_seq + 1
        if seq <= self._last_seq:
            raise ValueError(f"event {seq} comes after event {self._last_seq}; events are sealed in order")
        if self._lines and (len(self._lines) >= self._frame_events or self._size >= FRAME_BYTES):
            self._end_frame(last=False)
        line = encode_json(event.data)
        microseconds = round(event.timestamp * 1_000_000)
        self._times.append(microseconds)
        self._types.append(self._name(event.event_type.value))
        self._nodes.append(-1 if event.node_id is None else self._name(event.node_id))
        self._seqs.append(seq)
        self._lines.append(line)
        self._size += len(line)
        depth, extra = _split_extra(event, seq, microseconds, self._workflow_id)
        self._depths.append(depth)
        if snapshot is not None:
            extra["s"] = snapshot.to_dict()
            self._snapshots.append(seq)
        if extra:
            self._extras.append(len(self._lines) - 1)
            self._extra_lines.append(encode_json(extra))
            self._size += len(self._extra_lines[-1])
            line = line + self._extra_lines[-1]
        self._state.apply(event, snapshot, instead=_Pointer(seq) if len(line) > LARGE_LINE_BYTES else None)
        self._last_seq = seq
        self.event_count += 1

    def close(self, metadata: RecordingMetadata, orphans: Iterable[StateSnapshot] = ()) -> str:
        """Write index and trailer and return the checksum. The file stays open.

        ``orphans`` are snapshots that no event names.
        """
        if self._lines:
            self._end_frame(last=True)
        described = metadata.to_dict()
        described["checksum"] = described["file_size_bytes"] = None
        index = _Index(
            metadata=described,
            workflow_id=self._workflow_id,
            event_count=self.event_count,
            frames=self._frames,
            snapshots=self._snapshots,
            orphans=[snapshot.to_dict() for snapshot in orphans],
        )
        packed = self._compress(encode_json(msgspec.to_builtins(index)))
        offset = self._offset
        self._put(packed)
        digest = self._digest.digest()
        self._file.write(_TRAILER.pack(offset, len(packed), zlib.crc32(packed), digest, _END))
        self._offset += _TRAILER.size
        return digest.hex()

    @property
    def size_bytes(self) -> int:
        """Return how many bytes were written."""
        return self._offset

    def _begin_frame(self) -> None:
        self._names: dict[str, int] = {}
        self._types: list[int] = []
        self._nodes: list[int] = []
        self._times: list[int] = []
        self._depths: list[int] = []
        self._seqs: list[int] = []
        self._lines: list[bytes] = []
        self._extras: list[int] = []
        self._extra_lines: list[bytes] = []
        self._size = 0
        self._state = State(self._state.stack)

    def _name(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    def _put(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)
        self._offset += len(content)

    def _end_frame(self, *, last: bool) -> None:
        first, count = self._seqs[0], len(self._seqs)
        columns = _Columns(
            names=list(self._names),
            types=_column(self._types),
            nodes=_column(self._nodes),
            times=_differences(self._times),
            depths=_column(self._depths),
            seqs=None if self._seqs[-1] - first + 1 == count else _differences(self._seqs),
            extras=self._extras,
        )
        packed_columns = self._compress(encode_json(msgspec.to_builtins(columns)))
        packed_data = self._compress(b"\n".join([*self._lines, *self._extra_lines]))
        packed_keyframe = b"" if last else self._compress(self._keyframe())
        frame = _Frame(
            self._offset, len(packed_columns), len(packed_data), len(packed_keyframe), count, first, self._seqs[-1],
            zlib.crc32(packed_columns), zlib.crc32(packed_data), zlib.crc32(packed_keyframe),
        )  # fmt: skip
        self._frames.append(frame)
        for content in (packed_columns, packed_data, packed_keyframe):
            self._put(content)
        self._begin_frame()

    def _keyframe(self) -> bytes:
        """Return the keyframe after the frame that ends now, number ``len(frames) + 1``.

        ``_pieces`` are the differences of the last 1, 2, 4 … frames, as in a binary counter, so that the
        difference over ``lowbit(number)`` frames is at hand.
        """
        self._whole.merge(self._state)
        number, piece = len(self._frames) + 1, self._state
        while number % 2 == 0:
            earlier = self._pieces.pop()
            earlier.merge(piece)
            piece, number = earlier, number // 2
        self._pieces.append(piece)
        if len(piece) * 2 < len(self._whole):
            return encode_json(_pack_state(piece, reset=piece.reset))
        return encode_json(_pack_state(self._whole, reset=True))


def _split_extra(event: RecordingEvent, seq: int, microseconds: int, workflow_id: str) -> tuple[int, dict[str, Any]]:
    """Return the depth column and whatever of ``event`` the columns cannot say."""
    extra: dict[str, Any] = {}
    depth = -1
    metadata = event.metadata
    if metadata:
        found = metadata.get("recursion_depth")
        if len(metadata) == 1 and type(found) is int and found >= 0:
            depth = found
        else:
            extra["m"] = metadata
    if event.workflow_id != workflow_id:
        extra["w"] = event.workflow_id
    if event.event_id != event_id(event.workflow_id, seq):
        extra["i"] = event.event_id
    if event.timestamp != microseconds / 1_000_000:
        extra["t"] = event.timestamp
    return depth, extra


def _column(values: list[int]) -> list[int] | int:
    return values[0] if len(set(values)) == 1 else values


def _differences(values: list[int]) -> list[int]:
    return [values[0], *(later - earlier for earlier, later in pairwise(values))]


def _pack_state(state: State, *, reset: bool) -> dict[str, Any]:
    packed: dict[str, Any] = {"r": 1} if reset else {}
    for name, items in (("v", state.values), ("n", state.nodes)):
        plain = {key: item for key, item in items.items() if type(item) is not _Pointer}
        pointers = {key: item.seq for key, item in items.items() if type(item) is _Pointer}
        if plain:
            packed[name] = plain
        if pointers:
            packed[name + "p"] = pointers
    if state.errors:
        packed["e"] = state.errors
    if state.scopes:
        packed["s"] = {name: _pack_state(scope, reset=scope.reset) for name, scope in state.scopes.items()}
    if state.stack:
        packed["k"] = state.stack
    return packed


def _unpack_state(packed: dict[str, Any]) -> State:
    state = State(tuple((level, name) for level, name in packed.get("k", ())))
    state.reset = bool(packed.get("r"))
    state.scopes = {name: _unpack_state(inner) for name, inner in packed.get("s", {}).items()}
    state.values = {**packed.get("v", {}), **{key: _Pointer(seq) for key, seq in packed.get("vp", {}).items()}}
    state.nodes = {**packed.get("n", {}), **{key: _Pointer(seq) for key, seq in packed.get("np", {}).items()}}
    state.errors = packed.get("e", {})
    return state


def write_sealed(
    file: IO[bytes],
    metadata: RecordingMetadata,
    events: Iterable[RecordingEvent],
    snapshots: Iterable[StateSnapshot] = (),
    *,
    workflow_id: str = "",
    frame_events: int = FRAME_EVENTS,
) -> str:
    """Write a whole recording to ``file`` and return its checksum."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in snapshots}
    writer: SealedWriter | None = None
    for event in events:
        writer = writer or SealedWriter(file, workflow_id or event.workflow_id, frame_events=frame_events)
        snapshot = None
        if event.event_type is RecordingEventType.STATE_SNAPSHOT:
            snapshot = by_id.pop(str(event.data.get("snapshot_id")), None)
        writer.write(event, snapshot)
    writer = writer or SealedWriter(file, workflow_id, frame_events=frame_events)
    return writer.close(metadata, by_id.values())


# --------------------------------------------------------------------------- reading


class _Source(Protocol):
    size: int

    def read(self, offset: int, length: int) -> bytes: ...

    def close(self) -> None: ...


class _PathSource:
    """Positioned reads of a file; several threads may read at once."""

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError as error:
            raise RecordingNotFound(f"no recording at {path}") from error
        self.size = os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close() if hasattr(self, "_descriptor") else None


class _BytesSource:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]

    def close(self) -> None:
        self._content = b""


class _Loaded:
    """A frame in memory: its columns, its lines once they were asked for, and the events made of them."""

    __slots__ = ("columns", "events", "lines", "seqs", "times")

    def __init__(self, columns: _Columns, seqs: Sequence[int], times: list[int]) -> None:
        self.columns = columns
        self.seqs = seqs
        self.times = times
        self.lines: list[bytes] | None = None
        self.events: dict[int, RecordingEvent] = {}


class SealedRecording(Sequence[RecordingEvent]):
    """A sealed recording that is open for reading: a sequence of events that decodes what is asked for.

    Holds two frames at most. May be read by several threads.
    """

    def __init__(self, source: _Source, name: str) -> None:
        self._source = source
        self._name = name
        self._lock = threading.RLock()
        self._cache: OrderedDict[int, _Loaded] = OrderedDict()
        self._base: tuple[int, State] | None = None
        index, self.checksum = self._read_index()
        self._frames = index.frames
        self._first_seqs = [frame.first_seq for frame in index.frames]
        self._starts = [0]
        for frame in index.frames:
            self._starts.append(self._starts[-1] + frame.count)
        self._snapshot_seqs = index.snapshots
        self._orphans = index.orphans
        self.workflow_id = index.workflow_id
        try:
            self.metadata = RecordingMetadata.from_dict(index.metadata)
        except TypeError as error:
            raise DamagedRecording(f"{name}: the index has no usable metadata: {error}") from error
        self.metadata.checksum = self.checksum
        self.metadata.file_size_bytes = source.size

    @classmethod
    def open(cls, source: str | os.PathLike[str] | bytes, name: str = "") -> SealedRecording:
        """Open a file or bytes. Reads only trailer and index.

        Raises:
            RecordingNotFound: there is no such file.
            InvalidRecording: it is not a sealed recording, of a newer version, or damaged.
        """
        if isinstance(source, bytes):
            return cls._open(_BytesSource(source), name or "recording")
        return cls._open(_PathSource(Path(source)), name or str(source))

    @classmethod
    def _open(cls, source: _Source, name: str) -> SealedRecording:
        try:
            return cls(source, name)
        except BaseException:
            source.close()
            raise

    def _read_index(self) -> tuple[_Index, str]:
        header = self._source.read(0, _HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(MAGIC):
            raise InvalidRecording(
                f'{self._name}: not a sealed recording: it does not begin with "FBREC"; is it a JSON recording?'
            )
        version = _HEADER.unpack(header)[1]
        if version != VERSION:
            raise UnsupportedVersion(
                f"{self._name}: format version {version}; this program reads version {VERSION}: update Flow Builder"
            )
        size = self._source.size
        trailer = self._source.read(max(size - _TRAILER.size, 0), _TRAILER.size)
        if size < _HEADER.size + _TRAILER.size or not trailer.endswith(_END):
            raise DamagedRecording(f"{self._name}: cut short: the end of the file ({size:,} bytes) is missing")
        offset, length, crc, digest, _ = _TRAILER.unpack(trailer)
        if offset + length != size - _TRAILER.size:
            raise DamagedRecording(f"{self._name}: the trailer points outside the file")
        packed = self._source.read(offset, length)
        if zlib.crc32(packed) != crc:
            raise DamagedRecording(f"{self._name}: the index is damaged: its checksum does not fit")
        try:
            return _decode_index(_inflate(packed)), digest.hex()
        except (msgspec.DecodeError, zstandard.ZstdError, ValueError) as error:
            raise DamagedRecording(f"{self._name}: the index cannot be read: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> SealedRecording:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    # ------------------------------------------------------------------ events

    def __len__(self) -> int:
        """Return the number of events."""
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> RecordingEvent: ...

    @overload
    def __getitem__(self, index: slice) -> list[RecordingEvent]: ...

    def __getitem__(self, index: int | slice) -> RecordingEvent | list[RecordingEvent]:
        """Return the event at a position, or a list for a slice."""
        if isinstance(index, slice):
            return [self._event_at(position) for position in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"{self._name} has {len(self)} events; there is none at {index}")
        return self._event_at(position)

    def __iter__(self) -> Iterator[RecordingEvent]:
        """Iterate over all events, a frame at a time."""
        return self.iter_events()

    def iter_events(self, after_seq: int = 0) -> Iterator[RecordingEvent]:
        """Iterate over the events with a higher ``seq``, a frame at a time."""
        number = max(bisect_right(self._first_seqs, after_seq) - 1, 0)
        if number >= len(self._frames):
            return iter(())
        return self.iter_range(self._starts[number] + bisect_right(self._load(number).seqs, after_seq), len(self))

    def iter_range(self, start: int, stop: int) -> Iterator[RecordingEvent]:
        """Iterate over the events at positions ``start`` to ``stop`` - 1, a frame at a time."""
        number = bisect_right(self._starts, start) - 1
        while start < stop and number < len(self._frames):
            first, end = self._starts[number], min(self._starts[number + 1], stop)
            frame = self._load(number, lines=True)
            made, places = frame.events, range(start - first, end - first)
            if len(made) == len(frame.seqs):
                yield from map(made.__getitem__, places)
            else:
                for place in places:
                    yield made.get(place) or self._event(frame, place)
            start, number = end, number + 1

    def iter_path(self) -> Iterator[tuple[str, str | None]]:
        """Iterate over ``(event type, node id)`` of all events without reading their data."""
        for number in range(len(self._frames)):
            columns = self._load(number).columns
            names: list[str | None] = [*columns.names, None]
            for place in range(self._frames[number].count):
                yield names[_at(columns.types, place)] or "", names[_at(columns.nodes, place)]

    def iter_lines(self, start: int, stop: int) -> Iterator[tuple[str, str | None, bytes, dict[str, Any]]]:
        """Iterate over ``(event type, node id, data, metadata)`` without decoding ``data``, which is JSON.

        ``metadata`` is empty where it is only a depth.
        """
        number = bisect_right(self._starts, start) - 1
        while start < stop and number < len(self._frames):
            first, end = self._starts[number], min(self._starts[number + 1], stop)
            frame = self._load(number, lines=True)
            columns, lines = frame.columns, frame.lines or ()
            names: list[str | None] = [*columns.names, None]
            for place in range(start - first, end - first):
                extra = self._extra(frame, place) if columns.extras else _NOTHING
                kind, node = names[_at(columns.types, place)], names[_at(columns.nodes, place)]
                yield kind or "", node, lines[place], extra.get("m", _NOTHING)
            start, number = end, number + 1

    def iter_of(self, kinds: Collection[str]) -> Iterator[RecordingEvent]:
        """Iterate over the events of the types ``kinds``; frames that have none are not decoded."""
        for number, start in enumerate(self._starts[:-1]):
            columns = self._load(number).columns
            wanted = {place for place, name in enumerate(columns.names) if name in kinds}
            for place in range(self._frames[number].count) if wanted else ():
                if _at(columns.types, place) in wanted:
                    yield self._event_at(start + place)

    def position_of(self, identifier: str) -> int | None:
        """Return the position of an event id, or None. O(log n) unless the ids are foreign."""
        seq = event_seq(self.workflow_id, identifier)
        if seq is not None:
            position = self.position_of_seq(seq)
            if position is not None and self._event_at(position).event_id == identifier:
                return position
        for number in range(len(self._frames)):
            frame = self._load(number)
            if not frame.columns.extras:
                continue
            for place in frame.columns.extras:
                if self._event(self._load(number, lines=True), place).event_id == identifier:
                    return self._starts[number] + place
        return None

    def position_of_seq(self, seq: int) -> int | None:
        """Return the position of the event with this ``seq``, or None."""
        number = bisect_right(self._first_seqs, seq) - 1
        if number < 0 or seq > self._frames[number].last_seq:
            return None
        seqs = self._load(number).seqs
        place = bisect_right(seqs, seq) - 1
        return self._starts[number] + place if seqs[place] == seq else None

    def positions_of_node(self, node_id: str) -> list[int]:
        """Return the positions of a node's events without reading their data."""
        found: list[int] = []
        for number in range(len(self._frames)):
            columns = self._load(number).columns
            if node_id not in columns.names:
                continue
            wanted, start = columns.names.index(node_id), self._starts[number]
            found.extend(
                start + place for place in range(self._frames[number].count) if _at(columns.nodes, place) == wanted
            )
        return found

    @property
    def snapshots(self) -> list[StateSnapshot]:
        """Return all recorded snapshots; reads the frames that hold one."""
        found = []
        for seq in self._snapshot_seqs:
            position = self.position_of_seq(seq)
            snapshot = None if position is None else self.snapshot_at(position)
            if snapshot is not None:
                found.append(snapshot)
        return [*found, *(StateSnapshot.from_dict(item) for item in self._orphans)]

    def snapshot_at(self, position: int) -> StateSnapshot | None:
        """Return the snapshot that was recorded with the event at ``position``."""
        return self._snapshot(*self._locate(position))

    def _snapshot(self, frame: _Loaded, place: int) -> StateSnapshot | None:
        state = self._extra(frame, place).get("s")
        return None if state is None else StateSnapshot.from_dict(state)

    def state_at(self, position: int) -> dict[str, Any]:
        """Return the state after the event at ``position``. O(log n + one frame)."""
        number = bisect_right(self._starts, position) - 1
        state = self._state_before(number)
        frame = self._load(number, lines=True)
        lines, names, types, nodes = frame.lines or (), frame.columns.names, frame.columns.types, frame.columns.nodes
        changing = {place for place, name in enumerate(names) if name in _CHANGING}
        completes = names.index(_COMPLETE) if _COMPLETE in names else -1
        for place in range(position - self._starts[number] + 1):
            kind = types if isinstance(types, int) else types[place]
            if kind == completes and not state.stack:
                node = _at(nodes, place)
                if node >= 0:
                    state.complete(names[node], _decode_outputs(lines[place]).outputs)
            elif kind in changing:
                state.apply(self._event(frame, place), self._snapshot(frame, place))
        self._resolve(state)
        return state.to_dict()

    def _state_before(self, number: int) -> State:
        """Return the state before frame ``number``: keyframes from the last whole one on."""
        with self._lock:
            if self._base is not None and self._base[0] == number:
                return self._base[1].copy()
        chain: list[State] = []
        at = number
        while at > 0:
            chain.append(self._keyframe(at - 1))
            if chain[-1].reset:
                break
            at -= at & -at
        state = State()
        for piece in reversed(chain):
            state.merge(piece)
        with self._lock:
            self._base = (number, state)
        return state.copy()

    def _keyframe(self, number: int) -> State:
        frame = self._frames[number]
        offset = frame.offset + frame.columns_bytes + frame.data_bytes
        raw = self._chunk(number, "state", offset, frame.keyframe_bytes, frame.keyframe_crc)
        return _unpack_state(decode_json(raw))

    def _resolve(self, state: State) -> None:
        """Replace pointers by the values that they name."""
        for items, name in ((state.values, None), (state.nodes, NODES)):
            for key, item in items.items():
                if type(item) is _Pointer:
                    items[key] = self._value(item.seq, key, name)
        for scope in state.scopes.values():
            self._resolve(scope)

    def _value(self, seq: int, key: str, section: str | None) -> Any:
        position = self.position_of_seq(seq)
        if position is None:
            raise DamagedRecording(f"{self._name}: a state needs event {seq}, which is not there", first_seq=seq)
        event = self._event_at(position)
        snapshot = self.snapshot_at(position)
        if event.event_type is RecordingEventType.NODE_COMPLETE:
            outputs = event.data.get("outputs") or {}
            return outputs if section == NODES else outputs.get(key)
        if event.event_type is RecordingEventType.WORKFLOW_START:
            return (event.data.get("initial_context") or {}).get(key)
        whole = snapshot.state if snapshot is not None else event.data.get("state") or {}
        return (whole.get(section) or {}).get(key) if section else whole.get(key)

    # ------------------------------------------------------------------ checks

    def verify(self) -> None:
        """Read everything and compare every checksum.

        Raises:
            DamagedRecording: something does not fit; ``first_seq`` and ``last_seq`` name the events.
        """
        for number, frame in enumerate(self._frames):
            self._load(number, lines=True)
            if frame.keyframe_bytes:
                self._keyframe(number)
        digest, offset, end = hashlib.sha256(), 0, self._source.size - _TRAILER.size
        while offset < end:
            content = self._source.read(offset, min(1 << 20, end - offset))
            if not content:
                raise DamagedRecording(f"{self._name}: cut short while it was read, at byte {offset:,}")
            digest.update(content)
            offset += len(content)
        if digest.hexdigest() != self.checksum:
            raise DamagedRecording(f"{self._name}: the checksum of the whole file does not fit")

    # ------------------------------------------------------------------ frames

    def _locate(self, position: int) -> tuple[_Loaded, int]:
        number = bisect_right(self._starts, position) - 1
        return self._load(number, lines=True), position - self._starts[number]

    def _event_at(self, position: int) -> RecordingEvent:
        return self._event(*self._locate(position))

    def _event(self, frame: _Loaded, place: int) -> RecordingEvent:
        found = frame.events.get(place)
        if found is None:
            found = frame.events[place] = self._make_event(frame, place)
        return found

    def _make_event(self, frame: _Loaded, place: int) -> RecordingEvent:
        columns, seq = frame.columns, frame.seqs[place]
        node, depth = _at(columns.nodes, place), _at(columns.depths, place)
        extra = self._extra(frame, place) if columns.extras else _NOTHING
        workflow_id = extra.get("w", self.workflow_id)
        metadata = extra.get("m", {})
        lines = frame.lines or ()
        return RecordingEvent(
            event_id=extra.get("i") or event_id(workflow_id, seq),
            event_type=RecordingEventType(columns.names[_at(columns.types, place)]),
            timestamp=extra["t"] if "t" in extra else frame.times[place] / 1_000_000,
            workflow_id=workflow_id,
            node_id=None if node < 0 else columns.names[node],
            data=decode_json(lines[place]),
            metadata={"recursion_depth": depth} if depth >= 0 else metadata,
            seq=seq,
        )

    def _extra(self, frame: _Loaded, place: int) -> dict[str, Any]:
        extras = frame.columns.extras
        at = bisect_right(extras, place) - 1
        if at < 0 or extras[at] != place or frame.lines is None:
            return {}
        found: dict[str, Any] = decode_json(frame.lines[len(frame.seqs) + at])
        return found

    def _load(self, number: int, *, lines: bool = False) -> _Loaded:
        with self._lock:
            loaded = self._cache.get(number)
            if loaded is not None and (loaded.lines is not None or not lines):
                self._cache.move_to_end(number)
                return loaded
        frame = self._frames[number]
        if loaded is None:
            loaded = self._read_columns(number, frame)
        if lines and loaded.lines is None:
            offset = frame.offset + frame.columns_bytes
            loaded.lines = self._chunk(number, "data", offset, frame.data_bytes, frame.data_crc).split(b"\n")
            if len(loaded.lines) != frame.count + len(loaded.columns.extras):
                raise self._damaged(number, "data", "the number of lines does not fit")
        with self._lock:
            self._cache[number] = loaded
            while len(self._cache) > _CACHED_FRAMES:
                self._cache.popitem(last=False)
        return loaded

    def _read_columns(self, number: int, frame: _Frame) -> _Loaded:
        raw = self._chunk(number, "columns", frame.offset, frame.columns_bytes, frame.columns_crc)
        try:
            columns = _decode_columns(raw)
        except msgspec.DecodeError as error:
            raise self._damaged(number, "columns", str(error)) from error
        seqs: Sequence[int] = (
            range(frame.first_seq, frame.last_seq + 1) if columns.seqs is None else _sums(columns.seqs)
        )
        times = _sums(columns.times)
        if len(seqs) != frame.count or len(times) != frame.count:
            raise self._damaged(number, "columns", "the number of events does not fit")
        return _Loaded(columns, seqs, times)

    def _chunk(self, number: int, part: str, offset: int, length: int, crc: int) -> bytes:
        packed = self._source.read(offset, length)
        if len(packed) != length or zlib.crc32(packed) != crc:
            raise self._damaged(number, part, "the checksum does not fit")
        try:
            return _inflate(packed)
        except (zstandard.ZstdError, ValueError) as error:
            raise self._damaged(number, part, str(error)) from error

    def _damaged(self, number: int, part: str, reason: str) -> DamagedRecording:
        frame = self._frames[number]
        return DamagedRecording(
            f"{self._name}: events {frame.first_seq:,} to {frame.last_seq:,} are damaged"
            f" ({part} of frame {number + 1} of {len(self._frames)}: {reason})",
            first_seq=frame.first_seq,
            last_seq=frame.last_seq,
        )


def _at(column: list[int] | int, place: int) -> int:
    return column if isinstance(column, int) else column[place]


def _sums(differences: list[int]) -> list[int]:
    total, result = 0, []
    for difference in differences:
        total += difference
        result.append(total)
    return result


def _inflate(packed: bytes) -> bytes:
    size = zstandard.frame_content_size(packed)
    if not 0 <= size <= _DECODED_LIMIT_BYTES:
        raise ValueError(f"would grow to {size:,} bytes")
    return zstandard.ZstdDecompressor().decompress(packed)
