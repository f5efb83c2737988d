"""The events of an execution in order: from their rows while they are young, from the sealed file afterwards.

Readers ask for an execution and do not notice which of the two they read.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from recordings import sources
from recordings.blobs import file_path, read_blob
from recordings.errors import BlobMissing, RecordingNotFound
from recordings.events import (
    OMITTED,
    BlobReference,
    RecordingEvent,
    RecordingEventType,
    decode_json,
    encode_json,
    event_id,
    event_seq,
)
from recordings.export import atomic_write
from recordings.models import Event, Recording
from recordings.sealed import SealedRecording
from recordings.state import CHANGES_STATE, State
from recordings.writing import event_of_row, is_written

OUTPUTS_ELSEWHERE = {"$outputs": True}
"""What a ``node_complete`` row holds in the place of outputs that its node run stores."""


EDGES_ELSEWHERE = {"$edges": True}
"""What a ``workflow_start`` row holds in the place of the wires, which the version of the workflow knows."""


STATE_ELSEWHERE = {"$state": True}
"""What the last row of an execution holds in the place of its final state, which follows from the rows before."""


BLOBS = "$blobs"
"""Names the keys of an event row's data whose values are blobs; node code cannot set it."""


LARGEST_IN_STATE = 32 * 1024


LARGEST_FINAL_STATE = 1024 * 1024


PAGE_EVENTS = 250


CACHE_BYTES = 1 << 30


def load_rows(
    execution_id: UUID | str, after: int = 0, limit: int = PAGE_EVENTS, *, references: bool = False, ends: bool = True
) -> list[RecordingEvent]:
    """Return the event rows after number ``after``, outputs filled in. One query, and one for outputs.

    With ``references`` values that are a blob are a ``BlobReference``, and the blob is not read. The last event of an
    execution costs a look at all of its rows, for its final state, unless ``ends`` is False.
    """
    key = UUID(str(execution_id))
    name = str(key)
    rows = (
        Event.objects.filter(execution_id=key, seq__gt=after)
        .order_by("seq")
        .values_list("seq", "type", "timestamp", "node_id", "depth", "data")[:limit]
    )
    found = [(*columns, decode_json(data)) for *columns, data in rows]
    if found and is_written(found[0][-1]):
        return [event_of_row(key, *row) for row in found]
    events = [
        RecordingEvent(
            event_id=event_id(name, seq),
            event_type=RecordingEventType(kind),
            timestamp=timestamp / 1_000_000,
            workflow_id=name,
            node_id=node_id or None,
            data=data,
            metadata={"recursion_depth": depth},
            seq=seq,
        )
        for seq, kind, timestamp, node_id, depth, data in found
    ]
    _lift_omitted(events)
    _name_blobs(events)
    _fill_outputs(key, events)
    _fill_edges(key, events)
    if ends:
        _fill_final_state(key, events)
    return events if references else [_whole(event) for event in events]


def _lift_omitted(events: Iterable[RecordingEvent]) -> None:
    for event in events:
        event.metadata.update(event.data.pop(OMITTED, ()))


def _name_blobs(events: Iterable[RecordingEvent]) -> None:
    for event in events:
        for name in event.data.pop(BLOBS, ()):
            event.data[name] = BlobReference(event.data[name]["$blob"])


def _whole(event: RecordingEvent) -> RecordingEvent:
    """Return an event with the content of its blobs; of one that is gone with its name, and ``<key>_missing``."""
    named = {name: value for name, value in event.data.items() if type(value) is BlobReference}
    if not named:
        return event
    data = dict(event.data)
    for name, blob in named.items():
        try:
            data[name] = decode_json(read_blob(blob.sha256))
        except BlobMissing:
            data |= {name: {"$blob": blob.sha256}, f"{name}_missing": True}
    return event.with_data(data)


def _fill_edges(execution_id: UUID, events: Sequence[RecordingEvent]) -> None:
    for event in events:
        if event.event_type is RecordingEventType.WORKFLOW_START and event.data.get("edges") == EDGES_ELSEWHERE:
            edges = sources.EDGE_SOURCE(execution_id) if sources.EDGE_SOURCE is not None else None
            event.data["edges"] = [list(edge) for edge in edges or ()]


def _fill_final_state(execution_id: UUID, events: Sequence[RecordingEvent]) -> None:
    for event in events:
        ends = event.event_type in (RecordingEventType.WORKFLOW_COMPLETE, RecordingEventType.WORKFLOW_ERROR)
        if ends and event.data.get("final_state") == STATE_ELSEWHERE:
            event.data["final_state"] = _state_before(execution_id, event.seq)


def _state_before(execution_id: UUID, seq: int) -> dict[str, Any]:
    return states_around(execution_id, seq - 1)[1]


def states_around(execution_id: UUID, seq: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the states before and after event ``seq``, by all rows up to it; two empty ones when the rows go right now.

    Each is at most 1 MiB: a large value is the name of the event that holds it.
    """
    state, after, room = State(), 0, LARGEST_FINAL_STATE
    before: dict[str, Any] = {}
    while after < seq:
        page = load_rows(execution_id, after, min(PAGE_EVENTS, seq - after), references=True, ends=False)
        if not page or page[0].seq != after + 1:
            return {}, {}  # the sealed file has it
        for event in page:
            if event.seq == seq:
                before = state.to_dict()
            if event.event_type in CHANGES_STATE:
                whole = _whole(event)
                room -= _shorten(whole, room)
                state.apply(whole)
        after = page[-1].seq
    return before, state.to_dict()


def _shorten(event: RecordingEvent, room: int) -> int:
    """Put a reference in the place of each large value of an event, and return how many bytes are left of it."""
    kept = 0
    for name in ("outputs", "initial_context"):
        values = event.data.get(name)
        if not isinstance(values, dict):
            continue
        short = {}
        for key, value in values.items():
            size = len(encode_json(value))
            fits = size <= min(LARGEST_IN_STATE, room - kept)
            short[key] = value if fits else {"$event": event.event_id, "value": f"{name}.{key}", "size_bytes": size}
            kept += size if fits else 0
        event.data[name] = short
    return kept


def _fill_outputs(execution_id: UUID, events: Iterable[RecordingEvent]) -> None:
    waiting = [event for event in events if event.data.get("outputs") == OUTPUTS_ELSEWHERE]
    if not waiting:
        return
    wanted = {event.node_id for event in waiting if event.node_id is not None}
    found: dict[str, Any] = {}
    if sources.OUTPUT_BLOBS is not None:
        found = {node: BlobReference(sha256) for node, sha256 in sources.OUTPUT_BLOBS(execution_id, wanted).items()}
    if sources.OUTPUT_SOURCE is not None and wanted - found.keys():
        found |= sources.OUTPUT_SOURCE(execution_id, wanted - found.keys())
    for event in waiting:
        outputs = found.get(event.node_id or "")
        event.data["outputs"] = {} if outputs is None else outputs
        if outputs is None:
            event.data["outputs_missing"] = True


def iter_events(execution_id: UUID | str, after_seq: int = 0, batch: int = PAGE_EVENTS) -> Iterator[RecordingEvent]:
    """Iterate over the events of an execution in order, from rows or from its sealed recording.

    Reads ``batch`` rows at a time; rows that are removed meanwhile are continued from the sealed file.
    """
    key = UUID(str(execution_id))
    while True:
        events = load_rows(key, after_seq, batch, references=True)
        if not events or events[0].seq != after_seq + 1:
            sealed = _sealed_of(key)
            if sealed is not None:
                with sealed:
                    yield from sealed.iter_events(after_seq)
                return
        yield from map(_whole, events)
        if len(events) < batch:
            return
        after_seq = events[-1].seq


def _sealed_of(run_id: UUID) -> SealedRecording | None:
    named = Q(execution_id=run_id) | Q(pk=run_id, execution_id=None)
    recording = Recording.objects.filter(named).exclude(sealed="").first()
    return None if recording is None else open_sealed(recording)


def open_sealed(recording: Recording) -> SealedRecording:
    """Open the sealed file of a recording; from a remote storage it is copied to a local cache first.

    Raises:
        BlobMissing: the file is gone.
        InvalidRecording: it is damaged.
    """
    name = f"recording {recording.pk}"
    path = file_path(recording.sealed)
    if path is None:
        path = _cached(recording.sealed)
    if not path.is_file():
        raise BlobMissing(f"{name}: its sealed file {recording.sealed[:12]}… is not in the storage")
    return SealedRecording.open(path, name, read_blob=read_blob)


def _cached(sha256: str) -> Path:
    directory = Path(settings.DATA_DIR) / "cache" / "sealed"
    path = directory / sha256
    if path.is_file():
        os.utime(path)
        return path
    content = read_blob(sha256)
    atomic_write(path, lambda file: file.write(content))
    kept = 0
    for other in sorted(directory.iterdir(), key=lambda item: item.stat().st_mtime, reverse=True):
        kept += other.stat().st_size
        if kept > CACHE_BYTES and other != path:
            other.unlink(missing_ok=True)
    return path


class RowEvents(Sequence[RecordingEvent]):
    """The events of an execution as a sequence, read by pages; continues in the sealed file if the rows go."""

    _KEPT_PAGES = 8

    def __init__(self, execution_id: UUID, count: int, workflow_id: str = "") -> None:
        self._execution_id = execution_id
        self._name = workflow_id or str(execution_id)
        self._by_engine = self._name == str(execution_id)
        self._count = count
        self._pages: OrderedDict[int, list[RecordingEvent]] = OrderedDict()
        self._sealed: SealedRecording | None = None

    def __len__(self) -> int:
        """Return the number of events when the sequence was made."""
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """Return the event at a position, or a list for a slice."""
        if isinstance(index, slice):
            return [self._at(position) for position in range(*index.indices(self._count))]
        position = index + self._count if index < 0 else index
        if not 0 <= position < self._count:
            raise IndexError(f"execution {self._name} has {self._count} events; there is none at {index}")
        return self._at(position)

    def __iter__(self) -> Iterator[RecordingEvent]:
        """Iterate over the events."""
        for position in range(self._count):
            yield self._at(position)

    def position_of(self, identifier: str) -> int | None:
        """Return the position of an event id, or None. Reads only what a program wrote under ids of its own."""
        seq = event_seq(self._name, identifier)
        if seq is not None or self._by_engine:
            return seq - 1 if seq is not None and 1 <= seq <= self._count else None
        return next((place for place, event in enumerate(self) if event.event_id == identifier), None)

    def positions_of_type(self, kind: str) -> list[int]:
        """Return the positions of the events of one type without reading their data."""
        self._sealed = self._sealed or _sealed_of(self._execution_id)
        if self._sealed is not None:
            return self._sealed.positions_of_type(kind)
        rows = Event.objects.filter(execution_id=self._execution_id, type=kind, seq__lte=self._count)
        return [seq - 1 for seq in rows.order_by("seq").values_list("seq", flat=True)]

    def _at(self, position: int) -> RecordingEvent:
        if self._sealed is not None:
            return self._sealed[position]
        number, place = divmod(position, PAGE_EVENTS)
        page = self._pages.get(number)
        if page is None:
            page = load_rows(self._execution_id, number * PAGE_EVENTS, PAGE_EVENTS, references=True)
            if not page or page[0].seq != number * PAGE_EVENTS + 1 or place >= len(page):
                self._sealed = _sealed_of(self._execution_id)
                if self._sealed is None:
                    raise RecordingNotFound(f"the events of execution {self._name} were removed")
                return self._sealed[position]
            self._pages[number] = page
            if len(self._pages) > self._KEPT_PAGES:
                self._pages.popitem(last=False)
        return _whole(page[place])
