"""The sealed recording, ``.fbrec``: small, checked, and readable from any event on.

``recordings.frames`` describes the bytes, ``recordings.sealing`` writes them. Opening reads index and trailer
only; an event costs one frame, a state at most log2(frames) keyframes and a part of one frame.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, overload

import msgspec

from recordings.errors import BlobMissing, DamagedRecording, InvalidRecording, RecordingNotFound, UnsupportedVersion
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
from recordings.frames import (
    END,
    FRAME_BYTES,
    HEAD,
    HEADER,
    INDEX,
    MAGIC,
    SUFFIX,
    TRAILER,
    VERSION,
    Columns,
    Found,
    Index,
    Pointer,
    SealedFrame,
    Source,
    decode_columns,
    head_metadata,
    inflate,
    is_readable,
    read_chunk,
    read_header,
    read_trailer,
    scan,
    unpack_index,
    unpack_state,
)
from recordings.sealing import FRAME_EVENTS, SealedWriter, write_sealed
from recordings.state import CHANGES_STATE, NODES, State

__all__ = [
    "FRAME_EVENTS", "MAGIC", "SUFFIX", "VERSION", "DamagedRange", "SealedFrame", "SealedRecording", "SealedWriter",
    "Verification", "is_sealed", "write_sealed",
]  # fmt: skip

_CACHED_FRAMES = 2
_NOTHING: dict[str, Any] = {}
_CHANGING = frozenset(kind.value for kind in CHANGES_STATE)
_COMPLETE = RecordingEventType.NODE_COMPLETE.value
_SNAPSHOT = RecordingEventType.STATE_SNAPSHOT.value


class _Outputs(msgspec.Struct):
    """The part of a ``node_complete`` line that a state needs."""

    outputs: Any = None


_decode_outputs = msgspec.json.Decoder(_Outputs).decode


@dataclass(frozen=True, slots=True)
class DamagedRange:
    """Bytes that cannot be trusted, and the events that are lost with them.

    ``first_seq`` is None where no event is lost: what is damaged can be had from elsewhere in the file.
    ``last_seq`` is None where nobody knows how many were to follow.
    """

    first_seq: int | None
    last_seq: int | None
    offset: int
    size_bytes: int
    part: str
    reason: str

    def __str__(self) -> str:
        """Return it as words."""
        if self.first_seq is None:
            events = "no event is lost"
        elif self.last_seq is None:
            events = f"events from {self.first_seq:,} on are lost"
        else:
            events = f"events {self.first_seq:,} to {self.last_seq:,} are damaged"
        return f"{events} ({self.part}, {self.size_bytes:,} bytes at byte {self.offset:,}: {self.reason})"


@dataclass(frozen=True, slots=True)
class Verification:
    """What a look at every byte found: all that is damaged, and the ranges of ``seq`` that can be read."""

    name: str
    damaged: tuple[DamagedRange, ...]
    intact: tuple[tuple[int, int], ...]
    event_count: int

    @property
    def ok(self) -> bool:
        """Return whether nothing is damaged."""
        return not self.damaged

    def check(self) -> None:
        """Pass where all is well.

        Raises:
            DamagedRecording: something is damaged; the message has every range, the numbers are of the first.
        """
        if self.ok:
            return
        ranges = "; ".join(str(item) for item in self.damaged)
        intact = ", ".join(f"{first:,} to {last:,}" for first, last in self.intact) or "none"
        lost = next((item for item in self.damaged if item.first_seq is not None), self.damaged[0])
        raise DamagedRecording(
            f"{self.name}: {ranges}; intact events: {intact}",
            first_seq=lost.first_seq,
            last_seq=lost.last_seq,
            damaged=self.damaged,
            intact=self.intact,
        )


def is_sealed(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a sealed recording, or was one before its beginning was damaged.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        if file.read(len(MAGIC)).startswith(MAGIC[:5]) or Path(path).suffix == SUFFIX:
            return True
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - len(END), 0))
        return file.read() == END


# --------------------------------------------------------------------------- reading


class _PathSource:
    """Positioned reads of a file; several threads may read at once."""

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError as error:
            raise RecordingNotFound(f"no recording at {path}") from error
        about = os.fstat(self._descriptor)
        if not stat.S_ISREG(about.st_mode):
            self.close()
            raise RecordingNotFound(f"no recording at {path}: it is not a file")
        self.size = about.st_size

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

    def __init__(self, columns: Columns, seqs: Sequence[int], times: list[int]) -> None:
        self.columns = columns
        self.seqs = seqs
        self.times = times
        self.lines: list[bytes] | None = None
        self.events: dict[int, RecordingEvent] = {}


class SealedRecording(Sequence[RecordingEvent]):
    """A sealed recording that is open for reading: a sequence of events that decodes what is asked for.

    Holds two frames at most. May be read by several threads. ``read_blob`` gives the JSON of values that are
    kept outside; without it, or when a blob is gone, ``data`` has ``{"$blob": sha256}`` and ``<name>_missing``.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        frames: list[SealedFrame],
        index: Index,
        checksum: str | None,
        read_blob: Callable[[str], bytes] | None = None,
    ) -> None:
        self._source = source
        self._name = name
        self._read_blob = read_blob
        self._lock = threading.RLock()
        self._cache: OrderedDict[int, _Loaded] = OrderedDict()
        self._base: tuple[int, State] | None = None
        self.checksum = checksum
        self.damaged: tuple[DamagedRange, ...] = ()
        self._frames = frames
        self._places = {frame.number: place for place, frame in enumerate(frames)}
        self._first_seqs = [frame.first_seq for frame in frames]
        self._starts = [0]
        for frame in frames:
            self._starts.append(self._starts[-1] + frame.event_count)
        self._snapshot_seqs: list[int] | None = index.snapshots
        self._orphans = index.orphans
        self.workflow_id = index.workflow_id
        try:
            self.metadata = RecordingMetadata.from_dict(index.metadata)
        except (TypeError, ValueError) as error:
            raise DamagedRecording(f"{name}: the index has no usable metadata: {error}") from error
        self.metadata.checksum = checksum
        self.metadata.file_size_bytes = source.size

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str] | bytes,
        name: str = "",
        *,
        read_blob: Callable[[str], bytes] | None = None,
    ) -> SealedRecording:
        """Open a file or bytes. Reads only header, trailer and index.

        Raises:
            RecordingNotFound: there is no such file.
            InvalidRecording: it is not a sealed recording, of another version, or damaged; ``recover`` may help.
        """
        opened, shown = _source_of(source), name or _name_of(source)
        try:
            frames, index, checksum = _read_index(opened, shown)
            return cls(opened, shown, frames, index, checksum, read_blob)
        except BaseException:
            opened.close()
            raise

    @classmethod
    def recover(
        cls,
        source: str | os.PathLike[str] | bytes,
        name: str = "",
        *,
        read_blob: Callable[[str], bytes] | None = None,
    ) -> SealedRecording:
        """Open what is left of a file that was cut short, never closed, or damaged; reads all of it.

        The result has the events of every frame that is whole; ``damaged`` says what is not there.

        Raises:
            RecordingNotFound: there is no such file.
            InvalidRecording: no event of a sealed recording is in it, or it is of another version.
        """
        opened, shown = _source_of(source), name or _name_of(source)
        try:
            left = _salvage(opened, shown)
            recording = cls(opened, shown, left.frames, left.index, None, read_blob)
            recording.damaged = tuple(left.damaged)
            recording._snapshot_seqs = left.snapshots
            return recording
        except BaseException:
            opened.close()
            raise

    @property
    def frames(self) -> Sequence[SealedFrame]:
        """Return the frames, each with ``first_seq``, ``last_seq`` and the ``digest`` of what its events say."""
        return tuple(self._frames)

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
            for place in range(self._frames[number].event_count):
                yield names[_at(columns.types, place)] or "", names[_at(columns.nodes, place)]

    def iter_lines(self, start: int, stop: int) -> Iterator[tuple[str, str | None, bytes, dict[str, Any]]]:
        """Iterate over ``(event type, node id, data, metadata)`` without decoding ``data``, which is JSON.

        ``metadata`` is empty where it is only a depth. Data that names blobs is read whole.
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
                line = encode_json(self._event(frame, place).data) if "b" in extra else lines[place]
                yield kind or "", node, line, extra.get("m", _NOTHING)
            start, number = end, number + 1

    def frames_between(self, start: int, stop: int) -> Iterator[tuple[int, slice]]:
        """Iterate over the frames that hold positions ``start`` to ``stop`` - 1: number, and places in the frame."""
        number = bisect_right(self._starts, start) - 1
        while start < stop and number < len(self._frames):
            first, end = self._starts[number], min(self._starts[number + 1], stop)
            yield number, slice(start - first, end - first)
            start, number = end, number + 1

    def outline_of(self, number: int) -> tuple[list[str], list[str | None], list[int]]:
        """Return event types and node ids of a frame, and the places that have a further line in its data."""
        columns, count = self._load(number).columns, self._frames[number].event_count
        names: list[Any] = [*columns.names, None]
        types = [columns.types] * count if isinstance(columns.types, int) else columns.types
        nodes = [columns.nodes] * count if isinstance(columns.nodes, int) else columns.nodes
        return [names[item] for item in types], [names[item] for item in nodes], columns.extras

    def data_of(self, number: int) -> bytes:
        """Return the data of a frame: a line of JSON for each event, then the further lines; nothing is kept."""
        return self._part(number, 1)

    def iter_of(self, kinds: Collection[str]) -> Iterator[RecordingEvent]:
        """Iterate over the events of the types ``kinds``; frames that have none are not decoded."""
        for number, start in enumerate(self._starts[:-1]):
            columns = self._load(number).columns
            wanted = {place for place, name in enumerate(columns.names) if name in kinds}
            for place in range(self._frames[number].event_count) if wanted else ():
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
                if self._extra(self._load(number, lines=True), place).get("i") == identifier:
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
                start + place
                for place in range(self._frames[number].event_count)
                if _at(columns.nodes, place) == wanted
            )
        return found

    def positions_of_type(self, kind: str) -> list[int]:
        """Return the positions of the events of one type without reading their data."""
        found: list[int] = []
        for number, start in enumerate(self._starts[:-1]):
            columns = self._load(number).columns
            wanted = columns.names.index(kind) if kind in columns.names else -1
            if wanted < 0:
                continue
            if isinstance(columns.types, int):
                found += range(start, self._starts[number + 1]) if columns.types == wanted else ()
            else:
                found += [start + place for place, name in enumerate(columns.types) if name == wanted]
        return found

    @property
    def snapshots(self) -> list[StateSnapshot]:
        """Return all snapshots that hold a whole state; reads the frames that hold one."""
        found = []
        for seq in self._seqs_with_snapshot():
            position = self.position_of_seq(seq)
            snapshot = None if position is None else self.snapshot_at(position)
            if snapshot is not None:
                found.append(snapshot)
        return [*found, *(StateSnapshot.from_dict(item) for item in self._orphans)]

    def _seqs_with_snapshot(self) -> list[int]:
        if self._snapshot_seqs is None:  # recovered without an index
            self._snapshot_seqs = []
            for number in range(len(self._frames)):
                frame = self._load(number, lines=True)
                self._snapshot_seqs += [frame.seqs[at] for at in frame.columns.extras if "s" in self._extra(frame, at)]
        return self._snapshot_seqs

    def snapshot_at(self, position: int) -> StateSnapshot | None:
        """Return the snapshot that was recorded with the event at ``position``."""
        return self._snapshot(*self._locate(position))

    def _snapshot(self, frame: _Loaded, place: int) -> StateSnapshot | None:
        state = self._extra(frame, place).get("s")
        return None if state is None else StateSnapshot.from_dict(state)

    def state_at(self, position: int) -> dict[str, Any]:
        """Return the state after the event at ``position``. O(log n + one frame)."""
        place = bisect_right(self._starts, position) - 1
        state = self._state_before(place)
        self._advance(state, place, position - self._starts[place] + 1)
        self._resolve(state)
        return state.to_dict()

    def _advance(self, state: State, number: int, count: int) -> None:
        """Apply the first ``count`` events of a frame."""
        frame = self._load(number, lines=True)
        names, types, nodes = frame.columns.names, frame.columns.types, frame.columns.nodes
        changing = {place for place, name in enumerate(names) if name in _CHANGING}
        completes = names.index(_COMPLETE) if _COMPLETE in names else -1
        snapshots = names.index(_SNAPSHOT) if _SNAPSHOT in names else -1
        extras = set(frame.columns.extras)
        for place in range(count):
            kind = types if isinstance(types, int) else types[place]
            if kind not in changing or (kind == snapshots and place not in extras and not _has_state(frame, place)):
                continue
            if kind != completes or state.stack:
                state.apply(self._event(frame, place), self._snapshot(frame, place))
                continue
            node = _at(nodes, place)
            outside = self._extra(frame, place).get("k") if place in extras else None
            if node < 0:
                continue
            if outside is not None:
                state.complete(names[node], dict.fromkeys(outside), instead=Pointer(frame.seqs[place]))
            else:
                state.complete(names[node], self._outputs(frame, place))

    def _outputs(self, frame: _Loaded, place: int) -> Any:
        try:
            return _decode_outputs((frame.lines or ())[place]).outputs
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._unreadable(frame.seqs[place], error) from error

    def _state_before(self, place: int) -> State:
        """Return the state before a frame: keyframes from the last whole one on.

        A keyframe that is damaged is made again from the frame before it.
        """
        number = self._frames[place].number
        with self._lock:
            if self._base is not None and self._base[0] == number:
                return self._base[1].copy()
        chain: list[State] = []
        state, at = State(), number
        while at > 0:
            try:
                chain.append(self._keyframe(at))
            except DamagedRecording:
                state = self._replayed(at, place)
                break
            if chain[-1].reset:
                break
            at -= at & -at
        for piece in reversed(chain):
            state.merge(piece)
        with self._lock:
            self._base = (number, state)
        return state.copy()

    def _replayed(self, number: int, wanted: int) -> State:
        """Return the state before frame ``number``, from the events of the frame before it."""
        before = self._places.get(number - 1)
        if before is None:
            seq = self._frames[wanted].first_seq
            raise DamagedRecording(
                f"{self._name}: the state at event {seq:,} cannot be known: events before it are lost", first_seq=seq
            )
        state = self._state_before(before)
        self._advance(state, before, self._frames[before].event_count)
        return state

    def _keyframe(self, number: int) -> State:
        place = self._places.get(number)
        if place is None:
            raise DamagedRecording(f"{self._name}: frame {number + 1} is lost")
        raw = self._part(place, 2)
        try:
            return unpack_state(decode_json(raw))
        except (msgspec.DecodeError, AttributeError, TypeError, ValueError, RecursionError) as error:
            raise self._damaged(place, "state", str(error)) from error

    def _resolve(self, state: State) -> None:
        """Replace pointers by the values that they name; reads each event once."""
        read: dict[int, tuple[RecordingEvent, StateSnapshot | None]] = {}
        for items, name in ((state.values, None), (state.nodes, NODES)):
            for key, item in items.items():
                if type(item) is Pointer:
                    if item.seq not in read:
                        read[item.seq] = self._named(item.seq)
                    items[key] = _value_of(*read[item.seq], key, name)
        for scope in state.scopes.values():
            self._resolve(scope)

    def _named(self, seq: int) -> tuple[RecordingEvent, StateSnapshot | None]:
        position = self.position_of_seq(seq)
        if position is None:
            raise DamagedRecording(f"{self._name}: a state needs event {seq:,}, which is not there", first_seq=seq)
        event = self._event_at(position)
        outputs = event.data.get("outputs")
        if event.data.get("outputs_missing") and isinstance(outputs, dict) and "$blob" in outputs:
            sha256 = str(outputs["$blob"])
            raise BlobMissing(f"{self._name}: the outputs of event {seq:,} are blob {sha256[:12]}…, which is not here")
        return event, self.snapshot_at(position)

    # ------------------------------------------------------------------ checks

    def verify(self) -> Verification:
        """Read every byte anew, compare every checksum, decode every event, and return all that is damaged.

        Blobs are not part of the file; ``read_blob`` checks each when it is read.
        """
        damaged = [*self.damaged, *(self._check_ends() if self.checksum is not None else ())]
        intact: list[tuple[int, int]] = []
        for number, frame in enumerate(self._frames):
            found = list(self._check_frame(number, frame))
            damaged.extend(found)
            if not any(item.first_seq is not None for item in found):
                intact.append((frame.first_seq, frame.last_seq))
        if self.checksum is not None:
            damaged.extend(self._check_file(bool(damaged)))
        return Verification(self._name, tuple(damaged), _joined(intact, self._frames), self._count(intact))

    def _count(self, intact: list[tuple[int, int]]) -> int:
        firsts = {first for first, _ in intact}
        return sum(frame.event_count for frame in self._frames if frame.first_seq in firsts)

    def _check_ends(self) -> Iterator[DamagedRange]:
        """Look at what is around the frames."""
        try:
            _read_index(self._source, self._name)
        except InvalidRecording as error:
            yield DamagedRange(None, None, 0, self._source.size, "header, index or trailer", str(error))
        start, end = HEADER.size, self._frames[0].offset if self._frames else HEADER.size
        if end > start and read_chunk(self._source, start, HEAD) is None:
            yield DamagedRange(None, None, start, end - start, "head", "the checksum does not fit")

    def _check_frame(self, number: int, frame: SealedFrame) -> Iterator[DamagedRange]:
        if self._source.read(frame.offset, FRAME_BYTES) != frame.pack():
            yield DamagedRange(None, None, frame.offset, FRAME_BYTES, "header", "it differs from the index")
        try:
            loaded = self._read_lines(number, self._read_columns(number, frame))
            for place in range(frame.event_count):
                self._make_event(loaded, place, self._extra(loaded, place), blobs=False)
        except DamagedRecording as error:
            yield self._range(frame, error)
        if frame.number:
            try:
                self._keyframe(frame.number)
            except DamagedRecording:
                _, offset, size, _ = frame.parts[2]
                yield DamagedRange(None, None, offset, size, "state", "the checksum does not fit")

    def _range(self, frame: SealedFrame, error: DamagedRecording) -> DamagedRange:
        size = frame.end - frame.offset
        return DamagedRange(
            frame.first_seq, frame.last_seq, frame.offset, size, f"frame {frame.number + 1}", error.reason or str(error)
        )

    def _check_file(self, found: bool) -> Iterator[DamagedRange]:
        digest, offset, end = hashlib.sha256(), 0, self._source.size - TRAILER.size
        while offset < end:
            content = self._source.read(offset, min(1 << 20, end - offset))
            if not content:
                yield DamagedRange(None, None, offset, end - offset, "file", "cut short while it was read")
                return
            digest.update(content)
            offset += len(content)
        if digest.hexdigest() != self.checksum and not found:
            yield DamagedRange(None, None, 0, end, "file", "the checksum of the whole file does not fit")

    # ------------------------------------------------------------------ frames

    def _locate(self, position: int) -> tuple[_Loaded, int]:
        number = bisect_right(self._starts, position) - 1
        return self._load(number, lines=True), position - self._starts[number]

    def _event_at(self, position: int) -> RecordingEvent:
        return self._event(*self._locate(position))

    def _event(self, frame: _Loaded, place: int) -> RecordingEvent:
        found = frame.events.get(place)
        if found is None:
            extra = self._extra(frame, place) if frame.columns.extras else _NOTHING
            found = self._make_event(frame, place, extra)
            if "b" not in extra:  # a frame may name more blobs than the memory holds
                frame.events[place] = found
        return found

    def _make_event(self, frame: _Loaded, place: int, extra: dict[str, Any], *, blobs: bool = True) -> RecordingEvent:
        columns, seq = frame.columns, frame.seqs[place]
        node, depth = _at(columns.nodes, place), _at(columns.depths, place)
        workflow_id = extra.get("w", self.workflow_id)
        metadata = extra.get("m", {})
        try:
            data = decode_json((frame.lines or ())[place])
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._unreadable(seq, error) from error
        if type(data) is not dict:
            raise self._unreadable(seq, TypeError("its data is not an object"))
        if "b" in extra and blobs:
            self._fill(data, extra["b"])
        return RecordingEvent(
            event_id=extra.get("i") or event_id(workflow_id, seq),
            event_type=RecordingEventType(columns.names[_at(columns.types, place)]),
            timestamp=extra["t"] if "t" in extra else frame.times[place] / 1_000_000,
            workflow_id=workflow_id,
            node_id=None if node < 0 else columns.names[node],
            data=data,
            metadata={"recursion_depth": depth} if depth >= 0 else metadata,
            seq=seq,
        )

    def _fill(self, data: dict[str, Any], blobs: dict[str, str]) -> None:
        """Put values that are blobs into the data of an event."""
        for name, sha256 in blobs.items():
            try:
                if self._read_blob is None:
                    raise BlobMissing(sha256)
                data[name] = decode_json(self._read_blob(sha256))
            except BlobMissing:
                data[name] = {"$blob": sha256}
                data[f"{name}_missing"] = True

    def _extra(self, frame: _Loaded, place: int) -> dict[str, Any]:
        extras = frame.columns.extras
        at = bisect_right(extras, place) - 1
        if at < 0 or extras[at] != place or frame.lines is None:
            return {}
        try:
            found = decode_json(frame.lines[len(frame.seqs) + at])
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._unreadable(frame.seqs[place], error) from error
        if type(found) is not dict:
            raise self._unreadable(frame.seqs[place], TypeError("its second line is not an object"))
        return found

    def _unreadable(self, seq: int, error: Exception) -> DamagedRecording:
        return DamagedRecording(
            f"{self._name}: event {seq:,} is damaged: {error}",
            first_seq=seq,
            last_seq=seq,
            reason=f"event {seq}: {error}",
        )

    def _load(self, number: int, *, lines: bool = False) -> _Loaded:
        with self._lock:
            loaded = self._cache.get(number)
            if loaded is not None and (loaded.lines is not None or not lines):
                self._cache.move_to_end(number)
                return loaded
        if loaded is None:
            loaded = self._read_columns(number, self._frames[number])
        if lines:
            self._read_lines(number, loaded)
        with self._lock:
            self._cache[number] = loaded
            while len(self._cache) > _CACHED_FRAMES:
                self._cache.popitem(last=False)
        return loaded

    def _read_columns(self, number: int, frame: SealedFrame) -> _Loaded:
        raw = self._part(number, 0)
        try:
            columns = decode_columns(raw)
            seqs: Sequence[int] = (
                range(frame.first_seq, frame.last_seq + 1) if columns.seqs is None else _sums(columns.seqs)
            )
            loaded = _Loaded(columns, seqs, _sums(columns.times))
            _check_columns(frame, loaded)
        except (msgspec.DecodeError, ValueError) as error:
            raise self._damaged(number, "columns", str(error)) from error
        if columns.run != self.workflow_id:
            raise self._damaged(number, "columns", f'they are of run "{columns.run[:80]}"')
        return loaded

    def _read_lines(self, number: int, loaded: _Loaded) -> _Loaded:
        if loaded.lines is None:
            lines = self._part(number, 1).split(b"\n")
            if len(lines) != len(loaded.seqs) + len(loaded.columns.extras):
                raise self._damaged(number, "data", "the number of lines does not fit")
            loaded.lines = lines
        return loaded

    def _part(self, number: int, which: int) -> bytes:
        part, offset, length, crc = self._frames[number].parts[which]
        packed = self._source.read(offset, length)
        if len(packed) != length or zlib.crc32(packed) != crc:
            raise self._damaged(number, part, "the checksum does not fit")
        try:
            return inflate(packed)
        except ValueError as error:
            raise self._damaged(number, part, str(error)) from error

    def _damaged(self, number: int, part: str, reason: str) -> DamagedRecording:
        frame = self._frames[number]
        return DamagedRecording(
            f"{self._name}: events {frame.first_seq:,} to {frame.last_seq:,} are damaged"
            f" ({part} of frame {frame.number + 1}, bytes {frame.offset:,} to {frame.end:,}: {reason})",
            first_seq=frame.first_seq,
            last_seq=frame.last_seq,
            reason=f"{part}: {reason}",
        )


def _has_state(frame: _Loaded, place: int) -> bool:
    """Return whether the line of a ``state_snapshot`` may hold a state of its own."""
    return frame.lines is not None and b'"state"' in frame.lines[place]


def _at(column: list[int] | int, place: int) -> int:
    return column if isinstance(column, int) else column[place]


def _sums(differences: list[int]) -> list[int]:
    return list(accumulate(differences))


def _value_of(event: RecordingEvent, snapshot: StateSnapshot | None, key: str, section: str | None) -> Any:
    """Return what ``event`` gave to the state under ``key``, or under ``section``."""
    if event.event_type is RecordingEventType.NODE_COMPLETE:
        outputs = event.data.get("outputs") or {}
        return outputs if section == NODES else outputs.get(key)
    if event.event_type is RecordingEventType.WORKFLOW_START:
        return (event.data.get("initial_context") or {}).get(key)
    whole = snapshot.state if snapshot is not None else event.data.get("state") or {}
    return (whole.get(section) or {}).get(key) if section else whole.get(key)


def _check_columns(frame: SealedFrame, loaded: _Loaded) -> None:
    """Compare the columns of a frame with its header and with each other.

    Raises:
        ValueError: they do not fit.
    """
    columns, count, names = loaded.columns, frame.event_count, len(loaded.columns.names)
    for column in (loaded.seqs, loaded.times, columns.types, columns.nodes, columns.depths):
        if not isinstance(column, int) and len(column) != count:
            raise ValueError("the number of events does not fit")
    types = (columns.types,) if isinstance(columns.types, int) else columns.types
    nodes = (columns.nodes,) if isinstance(columns.nodes, int) else columns.nodes
    if not (min(types) >= 0 and max(types) < names and min(nodes) >= -1 and max(nodes) < names):
        raise ValueError("a name is missing")
    if loaded.seqs[0] != frame.first_seq or loaded.seqs[-1] != frame.last_seq:
        raise ValueError("the numbers of the events do not fit")
    if not isinstance(loaded.seqs, range) and any(a >= b for a, b in pairwise(loaded.seqs)):
        raise ValueError("the numbers of the events do not rise")
    if columns.extras and (columns.extras[-1] >= count or columns.extras != sorted(set(columns.extras))):
        raise ValueError("the further lines do not fit")


def _joined(ranges: list[tuple[int, int]], frames: list[SealedFrame]) -> tuple[tuple[int, int], ...]:
    """Join the ranges of frames that follow each other."""
    following = {a.last_seq: b.first_seq for a, b in pairwise(frames) if b.number == a.number + 1}
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and following.get(joined[-1][1]) == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return tuple(joined)


# --------------------------------------------------------------------------- opening


def _source_of(source: str | os.PathLike[str] | bytes) -> Source:
    return _BytesSource(source) if isinstance(source, bytes) else _PathSource(Path(source))


def _name_of(source: str | os.PathLike[str] | bytes) -> str:
    return "recording" if isinstance(source, bytes) else str(source)


def _check_header(source: Source, name: str) -> None:
    header = source.read(0, HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise InvalidRecording(
            f'{name}: not a sealed recording: it does not begin with "FBREC" (byte 0); is it a JSON recording, or damaged?'
        )
    version = read_header(header)
    if version is None:
        raise DamagedRecording(f"{name}: the header is damaged (bytes 0 to {HEADER.size})")
    if version > VERSION:
        raise UnsupportedVersion(
            f"{name}: format version {version}; this program reads version {VERSION}: update Flow Builder"
        )
    if version < VERSION:
        raise UnsupportedVersion(
            f"{name}: format version {version} was never released; this program reads version {VERSION}:"
            " record the run again"
        )


def _read_index(source: Source, name: str) -> tuple[list[SealedFrame], Index, str]:
    """Return frames, description and checksum of a complete file.

    Raises:
        InvalidRecording: it is not one; the message says what is left of it.
    """
    _check_header(source, name)
    size = source.size
    at = size - TRAILER.size
    packed = source.read(max(at, 0), TRAILER.size)
    if at < HEADER.size or not packed.endswith(END):
        reason = f"cut short, or never closed: the end of the file is missing at byte {size:,}"
        raise _unopened(source, name, reason)
    found = read_trailer(packed)
    if found is None:
        raise _unopened(source, name, f"the trailer is damaged at byte {at:,}")
    offset, digest = found
    body = read_chunk(source, offset, INDEX)
    if body is None:
        raise _unopened(source, name, f"the index is damaged at byte {offset:,}")
    try:
        frames, index = unpack_index(body, offset)
    except (msgspec.DecodeError, ValueError) as error:
        raise _unopened(source, name, f"the index at byte {offset:,} cannot be read: {error}") from error
    return frames, index, digest.hex()


# --------------------------------------------------------------------------- what is left of a damaged file


@dataclass
class _Left:
    """What is left of a file."""

    index: Index
    frames: list[SealedFrame] = field(default_factory=list)
    damaged: list[DamagedRange] = field(default_factory=list)
    snapshots: list[int] | None = None


def _unopened(source: Source, name: str, reason: str) -> DamagedRecording:
    """Return an error that says which events a damaged file still has, and how to read them."""
    try:
        left = _salvage(source, "")
    except InvalidRecording:
        left = _Left(Index({}, "", 0))
    ranges = _joined([(frame.first_seq, frame.last_seq) for frame in left.frames], left.frames)
    shown = ", ".join(f"{first:,} to {last:,}" for first, last in ranges)
    advice = f"events {shown} are intact: SealedRecording.recover(path) reads them"
    lost = next((item for item in left.damaged if item.first_seq is not None), None)
    return DamagedRecording(
        f"{name}: {reason}; {advice if ranges else 'no event of it can be read'}",
        first_seq=lost.first_seq if lost else None,
        last_seq=lost.last_seq if lost else None,
        damaged=tuple(left.damaged),
        intact=ranges,
    )


def _salvage(source: Source, name: str) -> _Left:
    """Find every frame whose events are whole, by the index if there is one, otherwise by a search.

    Raises:
        InvalidRecording: nothing of a sealed recording of this version is there.
    """
    header = source.read(0, HEADER.size)
    version = read_header(header) if header.startswith(MAGIC) else None
    if version is not None and version != VERSION:
        _check_header(source, name)
    found = _indexed(source, source.size - TRAILER.size)
    left = _left_by_index(source, *found) if found else _left_by_search(source)
    if version is None:
        if not left.frames:
            raise InvalidRecording(f"{name}: not a sealed recording: nothing of one is in it")
        left.damaged.insert(0, DamagedRange(None, None, 0, HEADER.size, "header", "it is not as it was written"))
    left.index.metadata |= {"event_count": sum(frame.event_count for frame in left.frames), "recovered": True}
    return left


def _indexed(source: Source, at: int) -> tuple[list[SealedFrame], Index] | None:
    found = read_trailer(source.read(at, TRAILER.size)) if at > 0 else None
    return None if found is None else _index_at(source, found[0])


def _index_at(source: Source, offset: int) -> tuple[list[SealedFrame], Index] | None:
    body = read_chunk(source, offset, INDEX)
    try:
        return None if body is None else unpack_index(body, offset)
    except (msgspec.DecodeError, ValueError):
        return None


def _left_by_index(source: Source, frames: list[SealedFrame], index: Index) -> _Left:
    left = _Left(index)
    for frame in frames:
        if is_readable(source, frame):
            left.frames.append(frame)
        else:
            left.damaged.append(_lost(frame, "the checksum does not fit"))
    left.snapshots = _there(index.snapshots, left.frames)
    return left


def _left_by_search(source: Source) -> _Left:
    """Return what a search finds. An index without its trailer tells all but where the frames are."""
    met = list(scan(source))
    left = _sorted_out(source, met)
    for item in met:
        found = _index_at(source, item.offset) if item.what == INDEX else None
        if found is not None:
            there = {frame.number for frame in left.frames}
            left.index = found[1]
            left.snapshots = _there(found[1].snapshots, left.frames)
            reason = "it is damaged, or bytes were added or lost before it"
            left.damaged = [
                DamagedRange(None, None, item.end, source.size - item.end, "trailer", reason),
                *(_lost(frame, "it is not whole") for frame in found[0] if frame.number not in there),
            ]
    return left


def _there(seqs: list[int], frames: list[SealedFrame]) -> list[int]:
    return [seq for seq in seqs if any(frame.first_seq <= seq <= frame.last_seq for frame in frames)]


def _sorted_out(source: Source, met: list[Found]) -> _Left:
    """Sort what a search met. Numbers of frames tell which are missing in between."""
    left = _Left(Index({}, "", 0))
    number, seq, gap = -1, 0, source.size
    for item in met:
        if isinstance(item.what, SealedFrame):
            frame, run = item.what, _run_of(source, item.what)
            left.index.workflow_id = left.index.workflow_id or run or ""
            if frame.number <= number or frame.first_seq <= seq or (run is not None and run != left.index.workflow_id):
                left.damaged.append(
                    DamagedRange(None, None, item.offset, FRAME_BYTES, "frame", "it does not belong here")
                )
                continue
            if frame.number > number + 1:
                lost = f"frames {number + 2:,} to {frame.number:,}"
                start = min(gap, item.offset)
                size = item.offset - start
                left.damaged.append(DamagedRange(seq + 1, frame.first_seq - 1, start, size, lost, "they are not there"))
            if run is None:
                reason = "cut short" if frame.end > source.size else "the checksum does not fit"
                left.damaged.append(_lost(frame, reason))
            else:
                left.frames.append(frame)
            number, seq, gap = frame.number, frame.last_seq, source.size
        elif item.what is None:
            gap = min(gap, item.offset)
            if number < 0:
                left.damaged.append(
                    DamagedRange(None, None, item.offset, item.end - item.offset, "head", "it is damaged")
                )
        elif item.what not in (INDEX, END):
            left.index.metadata = head_metadata(item.what)
    gap = min(gap, left.frames[-1].end if left.frames and left.frames[-1].number == number else gap)
    reason = "the file was cut short, or never closed"
    left.damaged.append(DamagedRange(seq + 1, None, gap, source.size - gap, "end", reason))
    if not left.index.metadata:
        left.index.metadata = {
            "recording_id": left.index.workflow_id or "unknown",
            "workflow_name": "",
            "started_at": 0.0,
        }
    return left


def _run_of(source: Source, frame: SealedFrame) -> str | None:
    """Return the run that the events of a frame belong to, or None when they cannot be read."""
    if not is_readable(source, frame):
        return None
    _, offset, length, _ = frame.parts[0]
    try:
        return decode_columns(inflate(source.read(offset, length))).run
    except (msgspec.DecodeError, ValueError):
        return None


def _lost(frame: SealedFrame, reason: str) -> DamagedRange:
    size = frame.end - frame.offset
    return DamagedRange(frame.first_seq, frame.last_seq, frame.offset, size, f"frame {frame.number + 1}", reason)
