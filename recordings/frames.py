"""The bytes of a sealed recording: what is where, what protects it, and how to find it without an index.

Layout, version 2, little endian::

    header      "FBREC\\0" version(u16) crc32 of both
    head        chunk with JSON: what was known about the recording when writing began (may be absent)
    frame*      header(72 bytes) columns data keyframe; the three are zstd; up to 2,048 events or 1 MiB of JSON
    index       chunk: the headers of all frames, and JSON with metadata
    trailer     offset of the index(u64), SHA-256 of all before the trailer, crc32 of both, "FBREND\\0\\0"

A chunk is marker, length, crc32 of its body, crc32 of these. A frame's header names its number, its events, the
sizes and checksums of its parts, and closes with its own crc32. Markers begin with a byte that no UTF-8 text has;
with the crc32 behind them a frame is found wherever it lies, so a file that was cut, or lost its index, still
gives every frame that is whole.

*Columns* hold the short fields of all events of a frame side by side, with a table of their strings. *Data* is
one line of compact JSON per event. The *keyframe* of frame ``n`` leads to the state before it: either the whole
state, or the difference to the state before frame ``n - lowbit(n)``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import msgspec
import zstandard

from recordings.events import decode_json
from recordings.state import State

MAGIC = b"FBREC\0"
VERSION = 2
SUFFIX = ".fbrec"
DECODED_LIMIT_BYTES = 256 << 20
"""No part of a frame may grow beyond this when it is unpacked."""
LEVEL = 6
WORDS = zstandard.ZstdCompressionDict(
    b'"redaction_count":"credits_consumed":"trigger":"manual","workflow_version":1,"user_id":"workflow_uuid":'
    b'"execution_id":"tags":["event_count":"recursion_max_depth":"team_count":"node_count":"status":"completed",'
    b'{"metadata":{"recording_id":"","workflow_name":"","started_at":17.0,"completed_at":17.0,"duration_seconds":0.0,'
    b'"success":true,"error":null},"workflow_id":"","event_count":,"snapshots":[],"orphans":[]}'
    b'{"run":"","names":["workflow_start","phase_start","node_start","node_complete","node_error","log","phase_complete",'
    b'"workflow_complete"],"types":[0,1,2,1,2,1,2],"nodes":[-1,3,3,4,4,5,5,6,6,-1],"times":[17,0],"depths":0,"extras":[]}'
    b'{"initial_context":{}}\n{"inputs":{"url":"https://"},"node_type":"","attempt":1}\n{"name":"","node_type":"",'
    b'"outputs":{"Html":"},"duration_seconds":0.0,"error":null,"attempt":1,"status":"completed","credits":0}\n'
    b'{"final_state":{},"success":true,"error":null}',
    dict_type=zstandard.DICT_TYPE_RAWCONTENT,
)
"""Words that short recordings are made of. They belong to the format: other words are another version."""

HEADER = struct.Struct("<6sHI")
TRAILER = struct.Struct("<Q32sI8s")
END = b"FBREND\0\0"
_CHUNK = struct.Struct("<4sIII")
_FRAME = struct.Struct("<4sIIIIIQQIII16sI")
_INDEXED = struct.Struct("<IIIIIQQIII16sI")
FRAME_BYTES = _FRAME.size
CHUNK_BYTES = _CHUNK.size
_MARKERS = b"\xffFB"
HEAD, FRAME, INDEX = b"\xffFBh", b"\xffFBe", b"\xffFBi"
_BLOCK_BYTES = 1 << 20


class Source(Protocol):
    """Something that can be read at any place."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``offset`` on."""

    def close(self) -> None:
        """Give it back."""


class SealedFrame(NamedTuple):
    """A run of events in a sealed file.

    ``digest`` is over everything that the events say but when and in which run they happened: frames of any
    two files with equal types, nodes, data and metadata have equal digests.
    """

    offset: int
    number: int
    event_count: int
    columns_bytes: int
    data_bytes: int
    keyframe_bytes: int
    first_seq: int
    last_seq: int
    columns_crc: int
    data_crc: int
    keyframe_crc: int
    digest: bytes

    @property
    def end(self) -> int:
        """Return the offset of the first byte behind."""
        return self.offset + FRAME_BYTES + self.columns_bytes + self.data_bytes + self.keyframe_bytes

    @property
    def parts(self) -> tuple[tuple[str, int, int, int], ...]:
        """Return name, offset, length and crc32 of columns, data and keyframe."""
        columns = self.offset + FRAME_BYTES
        data = columns + self.columns_bytes
        return (
            ("columns", columns, self.columns_bytes, self.columns_crc),
            ("data", data, self.data_bytes, self.data_crc),
            ("state", data + self.data_bytes, self.keyframe_bytes, self.keyframe_crc),
        )

    def pack(self) -> bytes:
        """Return the header of the frame as it is in the file."""
        return _closed(_FRAME.pack(FRAME, *self[1:], 0))


class Columns(msgspec.Struct, omit_defaults=True):
    """The short fields of a frame. A column of equal values is that value."""

    run: str
    names: list[str]
    types: list[int] | int
    nodes: list[int] | int
    times: list[int]
    depths: list[int] | int = -1
    seqs: list[int] | None = None
    extras: list[int] = []


class Index(msgspec.Struct):
    """What the end of the file says about all of it."""

    metadata: dict[str, Any]
    workflow_id: str
    event_count: int
    snapshots: list[int] = []
    orphans: list[dict[str, Any]] = []


decode_columns = msgspec.json.Decoder(Columns).decode
_decode_index = msgspec.json.Decoder(Index).decode


class Pointer:
    """Stands in a keyframe for a value that is read from event ``seq``."""

    __slots__ = ("seq",)

    def __init__(self, seq: int) -> None:
        self.seq = seq


# --------------------------------------------------------------------------- headers


def _closed(packed: bytes) -> bytes:
    """Return a header with the crc32 of its bytes in its last four."""
    return packed[:-4] + zlib.crc32(packed[:-4]).to_bytes(4, "little")


def _is_closed(packed: bytes) -> bool:
    return zlib.crc32(packed[:-4]) == int.from_bytes(packed[-4:], "little")


def file_header() -> bytes:
    """Return the first bytes of a file."""
    return _closed(HEADER.pack(MAGIC, VERSION, 0))


def read_header(packed: bytes) -> int | None:
    """Return the version that a file header names, or None when the header is damaged."""
    if len(packed) < HEADER.size:
        return None
    version = int(HEADER.unpack(packed)[1])
    return version if _is_closed(packed) or version == 1 else None  # the first version had no checksum here


def chunk(marker: bytes, body: bytes) -> bytes:
    """Return a chunk."""
    return _closed(_CHUNK.pack(marker, len(body), zlib.crc32(body), 0)) + body


def read_chunk(source: Source, offset: int, marker: bytes) -> bytes | None:
    """Return the body of a chunk, or None when there is no whole one at ``offset``."""
    packed = source.read(offset, CHUNK_BYTES)
    if len(packed) < CHUNK_BYTES or not packed.startswith(marker) or not _is_closed(packed):
        return None
    _, length, crc, _ = _CHUNK.unpack(packed)
    if length > source.size - offset:
        return None
    body = source.read(offset + CHUNK_BYTES, length)
    return body if len(body) == length and zlib.crc32(body) == crc else None


def read_frame(packed: bytes, offset: int) -> SealedFrame | None:
    """Return the frame whose header this is, or None when it is none."""
    if len(packed) < FRAME_BYTES or not packed.startswith(FRAME) or not _is_closed(packed):
        return None
    frame = SealedFrame(offset, *_FRAME.unpack(packed)[1:-1])
    return frame if _is_plausible(frame) else None


def _is_plausible(frame: SealedFrame) -> bool:
    return 0 < frame.event_count <= frame.last_seq - frame.first_seq + 1 and frame.first_seq > 0


def trailer(offset: int, digest: bytes) -> bytes:
    """Return the last bytes of a file."""
    crc = zlib.crc32(offset.to_bytes(8, "little") + digest)
    return TRAILER.pack(offset, digest, crc, END)


def read_trailer(packed: bytes) -> tuple[int, bytes] | None:
    """Return offset of the index and SHA-256 of the file, or None when the trailer is damaged."""
    if len(packed) < TRAILER.size:
        return None
    offset, digest, crc, end = TRAILER.unpack(packed)
    return (offset, digest) if end == END and crc == zlib.crc32(packed[:40]) else None


def pack_index(frames: Iterable[SealedFrame], described: bytes) -> bytes:
    """Return the body of the index. Markers are left out, so that a search does not find frames in it."""
    headers = b"".join(frame.pack()[len(FRAME) :] for frame in frames)
    return len(headers).to_bytes(4, "little") + headers + described


def unpack_index(body: bytes, end: int) -> tuple[list[SealedFrame], Index]:
    """Return frames and description of an index whose last frame ends at offset ``end``.

    Raises:
        ValueError: it contradicts itself or the file.
    """
    size, length = FRAME_BYTES - len(FRAME), int.from_bytes(body[:4], "little")
    headers = body[4 : 4 + length]
    if len(headers) != length or length % size:
        raise ValueError("the list of frames is cut")
    found = list(_INDEXED.iter_unpack(headers))
    at = end - sum(FRAME_BYTES + fields[2] + fields[3] + fields[4] for fields in found)
    frames: list[SealedFrame] = []
    seq = count = 0
    for number, fields in enumerate(found):
        frame = SealedFrame(at, *fields[:-1])
        if frame.number != number or frame.first_seq <= seq or at < HEADER.size or not _is_plausible(frame):
            raise ValueError(f"frame {number + 1} does not fit to the one before")
        frames.append(frame)
        at, seq, count = frame.end, frame.last_seq, count + frame.event_count
    index = _decode_index(inflate(body[4 + length :]))
    if count != index.event_count:
        raise ValueError(f"its frames have {count:,} events, but it says {index.event_count:,}")
    if any(not 0 < wanted <= seq for wanted in index.snapshots):
        raise ValueError("it names a snapshot that is not there")
    return frames, index


def inflate(packed: bytes) -> bytes:
    """Return the content of a zstd frame.

    Raises:
        ValueError: it is none, or would grow beyond the limit.
    """
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= DECODED_LIMIT_BYTES:
            raise ValueError(f"would grow to {size:,} bytes")
        return zstandard.ZstdDecompressor(dict_data=WORDS).decompress(packed)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def head_metadata(body: bytes) -> dict[str, Any]:
    """Return the metadata that a head holds, {} when it holds none."""
    try:
        found = decode_json(inflate(body))
    except (msgspec.DecodeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# --------------------------------------------------------------------------- finding frames without an index


class Found(NamedTuple):
    """What a search met at ``offset``.

    ``what`` is a frame whose header is whole, the body of a head, the marker of an index or of the end, or
    None: the bytes up to ``end`` are lost.
    """

    offset: int
    end: int
    what: SealedFrame | bytes | None


def scan(source: Source) -> Iterator[Found]:
    """Search a file from its beginning to its end and yield everything in it, and every gap."""
    at = lost = HEADER.size if read_header(source.read(0, HEADER.size)) is not None else 0
    while at < source.size:
        found = _found_at(source, at)
        if found is None:
            following = _next_marker(source, at + 1)
            at = source.size if following is None else following
            continue
        if lost < at:
            yield Found(lost, at, None)
        if found.what is not None:
            yield found
        at = lost = found.end
    if lost < source.size:
        yield Found(lost, source.size, None)


def _found_at(source: Source, at: int) -> Found | None:
    packed = source.read(at, FRAME_BYTES)
    if packed.startswith(FRAME):
        frame = read_frame(packed, at)
        # after a damaged frame the next one is searched from its header on: bytes may have been lost or added
        return None if frame is None else Found(at, frame.end if _is_whole(source, frame) else at + FRAME_BYTES, frame)
    for marker in (HEAD, INDEX):
        body = read_chunk(source, at, marker) if packed.startswith(marker) else None
        if body is not None:
            return Found(at, at + CHUNK_BYTES + len(body), body if marker == HEAD else INDEX)
    if source.size - at == TRAILER.size and read_trailer(packed[: TRAILER.size]) is not None:
        return Found(at, source.size, END)
    return None


def _is_whole(source: Source, frame: SealedFrame, parts: int = 3) -> bool:
    return frame.end <= source.size and all(
        zlib.crc32(source.read(offset, length)) == crc for _, offset, length, crc in frame.parts[:parts]
    )


def is_readable(source: Source, frame: SealedFrame) -> bool:
    """Return whether columns and data of a frame have the checksums that its header names."""
    return _is_whole(source, frame, 2)


def _next_marker(source: Source, start: int) -> int | None:
    """Return where the next marker, or a trailer at the end, begins."""
    at = start
    while at < source.size:
        block = source.read(at, _BLOCK_BYTES + len(_MARKERS))
        place = block.find(_MARKERS)
        if place >= 0:
            return at + place
        at += _BLOCK_BYTES
    end = source.size - TRAILER.size
    return end if end >= start and source.read(end, TRAILER.size).endswith(END) else None


# --------------------------------------------------------------------------- states


def pack_state(state: State, *, reset: bool) -> dict[str, Any]:
    """Return the JSON form of a state or a difference; ``reset`` says that it is whole."""
    packed: dict[str, Any] = {"r": 1} if reset else {}
    for name, items in (("v", state.values), ("n", state.nodes)):
        plain = {key: item for key, item in items.items() if type(item) is not Pointer}
        pointers = {key: item.seq for key, item in items.items() if type(item) is Pointer}
        if plain:
            packed[name] = plain
        if pointers:
            packed[name + "p"] = pointers
    if state.errors:
        packed["e"] = state.errors
    if state.scopes:
        packed["s"] = {name: pack_state(scope, reset=scope.reset) for name, scope in state.scopes.items()}
    if state.stack:
        packed["k"] = state.stack
    return packed


def unpack_state(packed: dict[str, Any]) -> State:
    """Return the state of its JSON form."""
    state = State(tuple((level, name) for level, name in packed.get("k", ())))
    state.reset = bool(packed.get("r"))
    state.scopes = {name: unpack_state(inner) for name, inner in packed.get("s", {}).items()}
    state.values = {**packed.get("v", {}), **{key: Pointer(seq) for key, seq in packed.get("vp", {}).items()}}
    state.nodes = {**packed.get("n", {}), **{key: Pointer(seq) for key, seq in packed.get("np", {}).items()}}
    state.errors = packed.get("e", {})
    return state
