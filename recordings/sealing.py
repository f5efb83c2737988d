"""Write sealed recordings: append events, be killed at any moment, lose nothing that was flushed."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Self

import msgspec
import zstandard

from recordings.errors import BlobMissing
from recordings.events import (
    BlobReference,
    RecordingEvent,
    RecordingEventType,
    RecordingMetadata,
    StateSnapshot,
    decode_json,
    encode_json,
    event_id,
)
from recordings.frames import (
    DECODED_LIMIT_BYTES,
    HEAD,
    INDEX,
    LEVEL,
    WORDS,
    Columns,
    Index,
    Pointer,
    SealedFrame,
    chunk,
    file_header,
    pack_index,
    pack_state,
    trailer,
)
from recordings.snapshots import recorded
from recordings.state import State

FRAME_EVENTS = 2048
FRAME_DATA_BYTES = 1 << 20
LARGE_LINE_BYTES = 4096
"""Values of an event longer than this are not repeated in keyframes, which name the event instead."""
_DEFAULTS = frozenset(RecordingMetadata("", "", 0.0).to_dict()) - {"recording_id", "workflow_name", "started_at"}


class SealedWriter:
    """Appends events to a sealed file, in bounded memory: one frame and two states at most.

    Nothing that was written is changed again. A frame is written when it is full, or by ``flush``; from then
    on its events survive the death of this process, also without ``close``: see ``SealedRecording.recover``.
    The same events, metadata and flushes always give the same bytes. ``seq`` of an event must rise; 0 means
    the next. Not for several threads at once.
    """

    def __init__(
        self,
        file: IO[bytes],
        workflow_id: str,
        metadata: RecordingMetadata | None = None,
        *,
        frame_events: int = FRAME_EVENTS,
        read_blob: Callable[[str], bytes] | None = None,
    ) -> None:
        """Begin a file; ``metadata`` is what a file without an end will say about itself.

        ``read_blob`` gives the JSON behind a ``BlobReference`` in the data of an event.
        """
        self._file = file
        self._owned = False
        self._workflow_id = workflow_id
        self._frame_events = frame_events
        self._read_blob = read_blob
        self._digest = hashlib.sha256()
        self._compress = zstandard.ZstdCompressor(level=LEVEL, dict_data=WORDS, write_content_size=True).compress
        self._offset = 0
        self._frames: list[SealedFrame] = []
        self._snapshots: list[int] = []
        self._last_seq = 0
        self.event_count = 0
        self._whole = self._state = State()
        self._pieces: list[State] = []
        self._begin_frame()
        self._put(file_header())
        if metadata is not None:
            self._put(chunk(HEAD, self._compress(encode_json(_described(metadata)))))

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], workflow_id: str, metadata: RecordingMetadata | None = None
    ) -> SealedWriter:
        """Begin a new file that only its owner may read. Leaving ``with`` on an error keeps what was appended.

        The file stays locked until it is closed or this process dies; see ``is_being_written``.

        Raises:
            FileExistsError: there is such a file; nothing is overwritten.
        """
        writer = cls(os.fdopen(_create_locked(path), "wb"), workflow_id, metadata)
        writer._owned = True
        writer.flush()
        _sync_directory(Path(path).parent)
        return writer

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Flush what is there. Only ``close`` makes the file complete."""
        if not self._file.closed:
            self.flush()
            if self._owned:
                self._file.close()

    @property
    def size_bytes(self) -> int:
        """Return how many bytes were written."""
        return self._offset

    def append(self, events: Iterable[RecordingEvent]) -> None:
        """Add events; see ``write``."""
        for event in events:
            self.write(event)

    def write(self, event: RecordingEvent, snapshot: StateSnapshot | None = None) -> None:
        """Add one event, and with a ``state_snapshot`` event its state.

        Raises:
            ValueError: its ``seq`` is not higher than the one before, or it is too large.
        """
        seq = event.seq or self._last_seq + 1
        if seq <= self._last_seq:
            raise ValueError(f"event {seq} comes after event {self._last_seq}; events are sealed in order")
        if self._lines and (len(self._lines) >= self._frame_events or self._size >= FRAME_DATA_BYTES):
            self._end_frame()
        event, references = self._without_blobs(event)
        line = encode_json(event.data)
        microseconds = round(event.timestamp * 1_000_000)
        depth, extra = split_extra(event, seq, microseconds, self._workflow_id)
        if references:
            extra["b"] = {name: blob.sha256 for name, blob in references.items()}
        if snapshot is not None:
            extra["s"] = snapshot.to_dict()
        more = encode_json(extra) if extra else b""
        if len(line) + len(more) > DECODED_LIMIT_BYTES // 2:
            raise ValueError(
                f"event {seq} has {len(line) + len(more):,} bytes; at most {DECODED_LIMIT_BYTES // 2:,} can be sealed"
            )
        large: Pointer | None = Pointer(seq) if len(line) + len(more) > LARGE_LINE_BYTES else None
        if "outputs" in references:
            large, event = Pointer(seq), self._with_keys(event, references["outputs"], extra)
            more = encode_json(extra)
        self._times.append(microseconds)
        self._types.append(self._name(event.event_type.value))
        self._nodes.append(-1 if event.node_id is None else self._name(event.node_id))
        self._seqs.append(seq)
        self._lines.append(line)
        self._size += len(line) + len(more)
        self._depths.append(depth)
        if snapshot is not None:
            self._snapshots.append(seq)
        if extra:
            self._extras.append(len(self._lines) - 1)
            self._extra_lines.append(more)
        self._state.apply(event, snapshot, instead=large)
        self._last_seq = seq
        self.event_count += 1

    def flush(self, *, sync: bool = True) -> None:
        """Write the events that wait, as a frame of their own, and with ``sync`` wait for the disk.

        Costs about 100 bytes and a write to the disk; small frames compress less.
        """
        if self._lines:
            self._end_frame()
        self._file.flush()
        if sync:
            try:
                descriptor = self._file.fileno()
            except (AttributeError, io.UnsupportedOperation):
                return
            os.fsync(descriptor)

    def close(self, metadata: RecordingMetadata, orphans: Iterable[StateSnapshot] = ()) -> str:
        """Write index and trailer and return the checksum. A file that was given stays open.

        ``orphans`` are snapshots that no event names.
        """
        if self._lines:
            self._end_frame()
        index = Index(
            metadata=_described(metadata),
            workflow_id=self._workflow_id,
            event_count=self.event_count,
            snapshots=self._snapshots,
            orphans=[snapshot.to_dict() for snapshot in orphans],
        )
        offset = self._offset
        described = self._compress(encode_json(msgspec.to_builtins(index)))
        self._put(chunk(INDEX, pack_index(self._frames, described)))
        digest = self._digest.digest()
        self._put(trailer(offset, digest))
        if self._owned:
            self.flush()
            self._file.close()
        return digest.hex()

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

    def _without_blobs(self, event: RecordingEvent) -> tuple[RecordingEvent, Mapping[str, BlobReference]]:
        for value in event.data.values():
            if type(value) is BlobReference:
                break
        else:
            return event, {}
        references = {name: item for name, item in event.data.items() if type(item) is BlobReference}
        return event.with_data({name: item for name, item in event.data.items() if name not in references}), references

    def _with_keys(self, event: RecordingEvent, blob: BlobReference, extra: dict[str, Any]) -> RecordingEvent:
        """Note the names of outputs that are a blob, which the state needs; their values stay outside."""
        if self._read_blob is None:
            raise ValueError(
                f"the outputs of {event.node_id} are blob {blob.sha256[:12]}…, and nothing reads blobs here"
            )
        try:
            outputs = decode_json(self._read_blob(blob.sha256))
        except BlobMissing:  # the rest of the run is kept all the same
            outputs = None
        extra["k"] = list(outputs) if isinstance(outputs, dict) else []
        return event.with_data({**event.data, "outputs": dict.fromkeys(extra["k"])})

    def _end_frame(self) -> None:
        first, count = self._seqs[0], len(self._seqs)
        columns = Columns(
            run=self._workflow_id,
            names=list(self._names),
            types=_column(self._types),
            nodes=_column(self._nodes),
            times=_differences(self._times),
            depths=_column(self._depths),
            seqs=None if self._seqs[-1] - first + 1 == count else _differences(self._seqs),
            extras=self._extras,
        )
        data = b"\n".join([*self._lines, *self._extra_lines])
        parts = (
            self._compress(encode_json(msgspec.to_builtins(columns))),
            self._compress(data),
            self._compress(self._keyframe()) if self._frames else b"",
        )
        (a, b, c), (x, y, z) = map(len, parts), map(zlib.crc32, parts)
        frame = SealedFrame(
            self._offset, len(self._frames), count, a, b, c, first, self._seqs[-1], x, y, z, _digest(columns, data)
        )
        self._put(b"".join((frame.pack(), *parts)))
        if self._owned:
            self._file.flush()
        self._frames.append(frame)
        self._add_piece()
        self._begin_frame()

    def _add_piece(self) -> None:
        """Take the state of the frame that ended, number ``len(frames)``, into whole and pieces.

        ``_pieces`` are the differences of the last 1, 2, 4 … frames, as in a binary counter, so that the
        difference over ``lowbit(number)`` frames is at hand.
        """
        self._whole.merge(self._state)
        number, piece = len(self._frames), self._state
        while number % 2 == 0:
            earlier = self._pieces.pop()
            earlier.merge(piece)
            piece, number = earlier, number // 2
        self._pieces.append(piece)

    def _keyframe(self) -> bytes:
        """Return what leads to the state before the frame that ends now."""
        piece = self._pieces[-1]
        if len(piece) * 2 < len(self._whole):
            return encode_json(pack_state(piece, reset=piece.reset))
        return encode_json(pack_state(self._whole, reset=True))


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
    by_id = {snapshot.snapshot_id: snapshot for snapshot in recorded(snapshots)}
    writer: SealedWriter | None = None
    for event in events:
        writer = writer or SealedWriter(file, workflow_id or event.workflow_id, metadata, frame_events=frame_events)
        snapshot = None
        if event.event_type is RecordingEventType.STATE_SNAPSHOT:
            snapshot = by_id.pop(str(event.data.get("snapshot_id")), None)
        writer.write(event, snapshot)
    writer = writer or SealedWriter(file, workflow_id, metadata, frame_events=frame_events)
    return writer.close(metadata, by_id.values())


def _described(metadata: RecordingMetadata) -> dict[str, Any]:
    """Return what a file says about itself: no checksum, no size, nothing that is as it always is."""
    usual = RecordingMetadata(metadata.recording_id, metadata.workflow_name, metadata.started_at).to_dict()
    left_out = {"checksum", "file_size_bytes"} | {
        name for name, value in metadata.to_dict().items() if usual.get(name, ...) == value and name in _DEFAULTS
    }
    return {name: value for name, value in metadata.to_dict().items() if name not in left_out}


def split_extra(event: RecordingEvent, seq: int, microseconds: int, workflow_id: str) -> tuple[int, dict[str, Any]]:
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


def _digest(columns: Columns, data: bytes) -> bytes:
    """Return 16 bytes that say what the events say, whenever and in whichever run."""
    said = (columns.names, columns.types, columns.nodes, columns.depths, columns.extras)
    return hashlib.blake2b(encode_json(said) + b"\n" + data, digest_size=16).digest()


def _column(values: list[int]) -> list[int] | int:
    return values[0] if len(set(values)) == 1 else values


def _differences(values: list[int]) -> list[int]:
    return [values[0], *(later - earlier for earlier, later in pairwise(values))]


def is_being_written(path: str | os.PathLike[str]) -> bool:
    """Return whether a living process has the file open that ``SealedWriter.create`` began.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _create_locked(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of a new file that is locked, and that nobody removed before it was."""
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
