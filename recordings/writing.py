"""Events of a program as rows of the database: written while it runs, read back as they were.

A row of the engine holds the data of its event. A row that is written here holds ``{WRITTEN: …, "data": …}``, so that
ids, times and names which the columns cannot hold come back too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, Self, TypeVar
from uuid import UUID

from django.db import IntegrityError, connection, connections, transaction
from django.utils import timezone

from recordings.errors import RecordingError
from recordings.events import (
    RecordingEvent,
    RecordingEventType,
    RecordingMetadata,
    StateSnapshot,
    encode_json,
    event_id,
)
from recordings.models import Event, Recording
from recordings.sealing import split_extra

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

WRITTEN = "$written"
FLUSH_EVENTS = 500
FLUSH_BYTES = 1 << 20
FLUSH_SECONDS = 1.0
_LONGEST_TYPE, _LONGEST_NODE, _DEEPEST = 32, 200, 2**15 - 1

Begin = Callable[[], tuple[UUID, int]]
"""``() -> (recording, the last seq it has)``: begin a recording, or find one that was not finished."""
End = Callable[[UUID, RecordingMetadata | None], str]
"""``(recording, metadata or None) -> checksum``: make the rows of a recording a sealed one."""


class RowWriter:
    """Appends events to a recording in the database while it runs; several are committed at once.

    What waits is written when there are ``flush_events`` of them or 1 MiB, when an event comes ``flush_seconds`` after
    the first that waits, and by ``flush``; from then on it survives the death of this process. ``close`` makes it a
    finished recording; until then it shows as unfinished, and ``open_writer`` with its id goes on with it. Works in a
    thread and a transaction of its own, so it may be used anywhere, also on an event loop, which waits for the commit.
    Not for several threads at once.
    """

    def __init__(
        self,
        begin: Begin,
        end: End,
        *,
        flush_events: int = FLUSH_EVENTS,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self._flush_events, self._flush_seconds = flush_events, flush_seconds
        self._waiting: list[Event] = []
        self._waiting_bytes = 0
        self._since = 0.0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="row-writer")
        self._stopped = False
        self._end = end
        try:
            self._key, self.event_count = self._call(begin)
        except BaseException:
            self._stop()
            raise
        self.recording_id = self._key.hex

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Flush what waits. Only ``close`` finishes the recording."""
        try:
            self.flush()
        finally:
            self._stop()

    def append(self, events: Iterable[RecordingEvent]) -> None:
        """Add events; see ``write``."""
        for event in events:
            self.write(event)

    def write(self, event: RecordingEvent, snapshot: StateSnapshot | None = None) -> None:
        """Add one event, and with a ``state_snapshot`` event its state; ``seq`` 0 means the next.

        Raises:
            ValueError: its ``seq`` is not the next.
            RecordingError: see ``flush``.
        """
        seq = self.event_count + 1
        if event.seq not in (0, seq):
            raise ValueError(f"event {event.seq} comes after event {seq - 1}; events are written without gaps")
        row = _row_of(self._key, event, seq, snapshot)
        self._since = self._since if self._waiting else time.monotonic()
        self._waiting.append(row)
        self._waiting_bytes += len(row.data)
        self.event_count = seq
        full = len(self._waiting) >= self._flush_events or self._waiting_bytes >= FLUSH_BYTES
        if full or time.monotonic() - self._since >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Commit the events that wait; when it returns they are durable. What could not be written waits on.

        Raises:
            RecordingError: the recording was removed or finished meanwhile, or somebody else writes it.
        """
        if self._waiting:
            self._call(_commit, self._key, self._waiting)
            self._waiting, self._waiting_bytes = [], 0

    def close(self, metadata: RecordingMetadata | None = None, orphans: Iterable[StateSnapshot] = ()) -> str:
        """Flush, finish the recording, seal it and return its checksum.

        Without ``metadata`` it ends as its events say: at the time of the last one, successful, failed or unknown.
        ``orphans``, snapshots that no event names, become events.

        Raises:
            RecordingError: see ``flush``.
        """
        for orphan in orphans:
            self.write(_event_of_orphan(orphan), orphan)
        self.flush()
        try:
            return self._call(self._end, self._key, metadata)
        finally:
            self._stop()

    def _call(self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self._thread.submit(function, *args, **kwargs).result()

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._call(connections.close_all)
            self._thread.shutdown()


def _commit(key: UUID, rows: list[Event]) -> None:
    connection.close_if_unusable_or_obsolete()
    try:
        with transaction.atomic():
            unfinished = Recording.objects.filter(pk=key, sealed="", completed_at=None)
            if not unfinished.update(event_count=rows[-1].seq, written_at=timezone.now()):
                raise RecordingError(f"recording {key} was removed or finished while its events were written")
            Event.objects.bulk_create(rows, batch_size=FLUSH_EVENTS)
    except IntegrityError as error:
        raise RecordingError(
            f"recording {key}: event {rows[0].seq} is there already; somebody else writes it"
        ) from error


# --------------------------------------------------------------------------- events and rows


def _row_of(key: UUID, event: RecordingEvent, seq: int, snapshot: StateSnapshot | None) -> Event:
    microseconds = round(event.timestamp * 1_000_000)
    depth, extra = split_extra(event, seq, microseconds, str(key))
    data, kind, node = event.data, event.event_type.value, event.node_id
    if snapshot is not None:
        data = {**data, "state": snapshot.state, "execution_stack": snapshot.execution_stack}
    if depth > _DEEPEST:
        depth, extra["m"] = -1, event.metadata
    if len(kind) > _LONGEST_TYPE or "\0" in kind:
        kind, extra["y"] = RecordingEventType.UNKNOWN.value, kind
    if node is not None and (not 0 < len(node) <= _LONGEST_NODE or not node.isprintable()):
        node, extra["n"] = None, node
    text = encode_json({WRITTEN: extra, "data": data}).decode()
    return Event(
        execution_id=key, seq=seq, type=kind, timestamp=microseconds, node_id=node or "", depth=depth, data=text
    )


def is_written(data: dict[str, Any]) -> bool:
    """Return whether this is the data of a row that was written here. The engine's rows have more keys than two."""
    return len(data) == 2 and WRITTEN in data


def event_of_row(
    key: UUID, seq: int, kind: str, timestamp: int, node_id: str, depth: int, data: dict[str, Any]
) -> RecordingEvent:
    """Return the event that was written as a row."""
    extra = data[WRITTEN]
    workflow_id = extra.get("w", str(key))
    return RecordingEvent(
        event_id=extra.get("i") or event_id(workflow_id, seq),
        event_type=RecordingEventType(extra.get("y", kind)),
        timestamp=extra["t"] if "t" in extra else timestamp / 1_000_000,
        workflow_id=workflow_id,
        node_id=extra.get("n", node_id or None),
        data=data["data"],
        metadata={"recursion_depth": depth} if depth >= 0 else extra.get("m", {}),
        seq=seq,
    )


def snapshot_of(event: RecordingEvent) -> StateSnapshot | None:
    """Return the state that was written with an event, if there was one."""
    data = event.data
    if event.event_type is not RecordingEventType.STATE_SNAPSHOT or not isinstance(data.get("state"), dict):
        return None
    return StateSnapshot.from_dict(
        {
            **data,
            "snapshot_id": data.get("snapshot_id") or event.event_id,
            "timestamp": event.timestamp,
            "workflow_id": event.workflow_id,
            "node_id": event.node_id,
            "recursion_depth": event.metadata.get("recursion_depth"),
        }
    )


def _event_of_orphan(snapshot: StateSnapshot) -> RecordingEvent:
    return RecordingEvent(
        f"snapshot-{snapshot.snapshot_id}"[:200],
        RecordingEventType.STATE_SNAPSHOT,
        snapshot.timestamp,
        snapshot.workflow_id,
        snapshot.node_id,
        {"snapshot_id": snapshot.snapshot_id},
    )
