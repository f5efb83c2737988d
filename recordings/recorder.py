"""Record what a run does, from any code and any thread, without slowing it down."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol
from uuid import uuid4

from recordings.events import (
    ENGINE_VERSION,
    RecordingEvent,
    RecordingEventType,
    RecordingMetadata,
    StateSnapshot,
    environment,
    event_id,
    has_long_text,
    left_out,
    plain,
    without_long_texts,
)
from recordings.export import atomic_write, write_json
from recordings.frames import VERSION
from recordings.redaction import Redactor
from recordings.sealed import SUFFIX, SealedWriter, write_sealed

logger = logging.getLogger(__name__)

_Raw = tuple[RecordingEventType, int, str | None, dict[str, Any], dict[str, Any]]
Type = RecordingEventType
SaveBlob = Callable[[bytes, str, str], str]
MAX_TEXT = 1 << 24
_VALUES = {
    Type.WORKFLOW_START: ("initial_context", "record_inputs"),
    Type.NODE_START: ("inputs", "record_inputs"),
    Type.NODE_COMPLETE: ("outputs", "record_outputs"),
    Type.WORKFLOW_COMPLETE: ("final_state", "record_outputs"),
    Type.WORKFLOW_ERROR: ("final_state", "record_outputs"),
    Type.TEAM_START: ("context", "record_inputs"),
    Type.TEAM_COMPLETE: ("final_output", "record_outputs"),
    Type.TEAM_MEMBER_START: ("inputs", "record_inputs"),
    Type.TEAM_MEMBER_COMPLETE: ("outputs", "record_outputs"),
}
"""Which data of an event are values that a recorder may be told to leave out, and by which switch."""


class EventWriter(Protocol):
    """What events are appended to while they happen: a ``SealedWriter`` or a ``recordings.writing.RowWriter``."""

    event_count: int

    def write(self, event: RecordingEvent, snapshot: StateSnapshot | None = None) -> None:
        """Add one event, and with a ``state_snapshot`` event its state."""

    def flush(self) -> None:
        """Make the events so far durable."""

    def close(self, metadata: RecordingMetadata, orphans: Iterable[StateSnapshot] = ()) -> str:
        """Make a complete recording and return its checksum."""


class OpensWriters(Protocol):
    """A storage that takes events while they happen: ``recordings.database.DatabaseRecordingStorage``."""

    def open_writer_sync(self, execution: RecordingMetadata) -> EventWriter:
        """Begin a recording."""


class ExecutionRecorder:
    """Collects the events of one run. May be shared by threads; one ``record_*`` call makes one event.

    Values are copied when they are recorded, so what happens to them later does not change the recording.
    With ``record_inputs`` or ``record_outputs`` off, hash and size of the values stay in the event's
    metadata, so that runs can still be compared. ``redactor`` keeps secrets out. A text of more than ``max_text``
    characters is recorded as a reference, ``{"$blob": sha256, "bytes": …, "preview": …}``; its bytes are kept only
    by ``save_blob(content, content_type, recording_id)``, such as ``recordings.blobs.save_blob``.
    """

    def __init__(
        self,
        workflow_name: str,
        workflow_id: str | None = None,
        record_inputs: bool = True,
        record_outputs: bool = True,
        record_state_snapshots: bool = False,
        compress: bool | None = None,
        tags: Sequence[str] | None = None,
        *,
        redactor: Redactor | None = None,
        max_text: int = MAX_TEXT,
        save_blob: SaveBlob | None = None,
    ) -> None:
        self.max_text = max_text
        self._save_blob = save_blob
        self.workflow_id = str(workflow_id or uuid4().hex)
        self.workflow_name = str(workflow_name)
        self.config = {
            "record_inputs": record_inputs,
            "record_outputs": record_outputs,
            "record_state_snapshots": record_state_snapshots,
            "compress": compress is None or compress,
        }
        self.metadata = RecordingMetadata(
            recording_id=uuid4().hex,
            workflow_name=self.workflow_name,
            started_at=_now(),
            tags=_checked_tags(tags or ()),
            engine_version=ENGINE_VERSION,
            env_fingerprint=environment(),
        )
        self.snapshots: list[StateSnapshot] = []
        self.path: Path | None = None
        """Where the recording was saved last."""
        self._append_gz = compress is True
        self._ahead: EventWriter | None = None
        self._ahead_seconds = 0.0
        self._ahead_due = False
        self._redactor = redactor
        self._lock = threading.RLock()
        self._raw: list[_Raw] = []
        self._events: list[RecordingEvent] = []
        self._recursion_depth = 0
        self._recursion_max_depth = 0

    @property
    def events(self) -> list[RecordingEvent]:
        """Return the events so far, in order."""
        with self._lock:
            for kind, microseconds, node_id, data, metadata in self._raw:
                seq = len(self._events) + 1
                self._events.append(
                    RecordingEvent(
                        event_id(self.workflow_id, seq),
                        kind,
                        microseconds / 1_000_000,
                        self.workflow_id,
                        node_id,
                        data,
                        metadata,
                        seq,
                    )
                )
            self._raw.clear()
            return self._events

    # ------------------------------------------------------------------ workflow and nodes

    def record_workflow_start(self, initial_context: dict[str, Any] | None = None) -> None:
        """Record that the run begins."""
        data, metadata = self._value("initial_context", initial_context, self.config["record_inputs"])
        self._add_deep(Type.WORKFLOW_START, None, data, metadata)

    def record_workflow_complete(
        self, final_state: dict[str, Any] | None, success: bool, error: str | None = None, **details: Any
    ) -> None:
        """Record that the run ended; ``details`` are further data of the event."""
        data, metadata = self._value("final_state", final_state, self.config["record_outputs"])
        data["success"], data["error"] = success, self._said(error)
        data.update(self._copy(details))
        with self._lock:
            moment = self._add_deep(Type.WORKFLOW_COMPLETE if success else Type.WORKFLOW_ERROR, None, data, metadata)
            self.metadata.completed_at = moment
            self.metadata.duration_seconds = moment - self.metadata.started_at
            self.metadata.success = success
            self.metadata.error = data["error"]

    def record_node_start(
        self, node_id: str, inputs: dict[str, Any] | None = None, node_type: str | None = None
    ) -> None:
        """Record that a node begins."""
        data, metadata = self._value("inputs", inputs, self.config["record_inputs"])
        data["node_type"] = node_type
        self._add_deep(Type.NODE_START, node_id, data, metadata)

    def record_node_complete(
        self,
        node_id: str,
        outputs: dict[str, Any] | None = None,
        duration_seconds: float | None = None,
        error: str | None = None,
    ) -> None:
        """Record that a node ended; with a text as ``error`` it failed."""
        data, metadata = self._value("outputs", outputs, self.config["record_outputs"])
        data["duration_seconds"], data["error"] = plain(duration_seconds), self._said(error)
        self._add_deep(Type.NODE_ERROR if error else Type.NODE_COMPLETE, node_id, data, metadata)

    # ------------------------------------------------------------------ teams

    def record_team_start(
        self, team_id: str, formation: str, member_count: int, context: dict[str, Any] | None = None
    ) -> None:
        """Record that a team begins."""
        kept, metadata = self._value("context", context, self.config["record_inputs"])
        data = {"formation": formation, "member_count": member_count, **kept}
        self._add_deep(Type.TEAM_START, team_id, data, metadata)

    def record_team_complete(
        self, team_id: str, final_output: Any = None, duration_seconds: float | None = None, success: bool = True
    ) -> None:
        """Record that a team ended, well or not."""
        data, metadata = self._value("final_output", final_output, self.config["record_outputs"], none=None)
        data["duration_seconds"], data["success"] = plain(duration_seconds), success
        self._add_deep(Type.TEAM_COMPLETE, team_id, data, metadata)

    def record_team_member_start(self, team_id: str, member_id: str, inputs: dict[str, Any] | None = None) -> None:
        """Record that a member of a team begins."""
        data, metadata = self._value("inputs", inputs, self.config["record_inputs"])
        self._add_deep(Type.TEAM_MEMBER_START, team_id, {"member_id": member_id, **data}, metadata)

    def record_team_member_complete(
        self,
        team_id: str,
        member_id: str,
        outputs: dict[str, Any] | None = None,
        duration_seconds: float | None = None,
        error: str | None = None,
    ) -> None:
        """Record that a member of a team ended."""
        data, metadata = self._value("outputs", outputs, self.config["record_outputs"])
        data = {
            "member_id": member_id,
            **data,
            "duration_seconds": plain(duration_seconds),
            "error": self._said(error),
        }
        self._add_deep(Type.TEAM_MEMBER_COMPLETE, team_id, data, metadata)

    def record_team_member_communication(self, team_id: str, from_member: str, to_member: str, message: Any) -> None:
        """Record a message from one member of a team to another."""
        data = {"from_member": from_member, "to_member": to_member, "message": self._copy(message)}
        self._add_deep(Type.TEAM_COMMUNICATION, team_id, data, {})

    # ------------------------------------------------------------------ recursion, snapshots, anything

    def record_recursion_enter(self, operation_type: str, identifier: str) -> None:
        """Record that a nested workflow, team or loop begins."""
        with self._lock:
            self._recursion_depth += 1
            self._recursion_max_depth = max(self._recursion_max_depth, self._recursion_depth)
            data = {"operation_type": operation_type, "identifier": identifier, "depth": self._recursion_depth}
            self._add_deep(Type.RECURSION_ENTER, None, data, {})

    def record_recursion_exit(self, operation_type: str, identifier: str) -> None:
        """Record that a nested workflow, team or loop ended."""
        with self._lock:
            data = {"operation_type": operation_type, "identifier": identifier, "depth": self._recursion_depth}
            self._add_deep(Type.RECURSION_EXIT, None, data, {})
            self._recursion_depth = max(self._recursion_depth - 1, 0)

    def record_state_snapshot(
        self, state: dict[str, Any], node_id: str | None = None, execution_stack: Sequence[str] | None = None
    ) -> None:
        """Record the whole state; does nothing unless ``record_state_snapshots`` is on."""
        if not self.config["record_state_snapshots"]:
            return
        kept = self._copy(state)
        with self._lock:
            identifier = uuid4().hex
            moment = self._add_deep(Type.STATE_SNAPSHOT, node_id, {"snapshot_id": identifier}, {})
            self.snapshots.append(
                StateSnapshot(
                    identifier,
                    moment,
                    self.workflow_id,
                    node_id,
                    kept,
                    self._recursion_depth,
                    list(execution_stack or []),
                )
            )

    def record_checkpoint(self, name: str, state_ref: Any = None, node_id: str | None = None) -> None:
        """Record that something can be resumed from here; ``state_ref`` says where its state is kept."""
        data = {"name": name, "state_ref": self._copy(state_ref)}
        self._add_deep(Type.CHECKPOINT, node_id, data, {})

    def tag(self, *tags: str) -> None:
        """Add tags to the recording; each is there once.

        Raises:
            ValueError: a tag is empty or not text.
        """
        given = _checked_tags(tags)
        with self._lock:
            self.metadata.tags = list(dict.fromkeys([*self.metadata.tags, *given]))

    def record_event(self, event_type: str | RecordingEventType, node_id: str | None = None, **data: Any) -> None:
        """Record an event of any type; a name of your own is kept as it is."""
        kind = event_type if isinstance(event_type, RecordingEventType) else RecordingEventType(event_type)
        self._add_deep(kind, node_id, self._copy(data), {})

    def record_as(
        self,
        event_type: str | RecordingEventType,
        timestamp_us: int,
        node_id: str | None,
        data: dict[str, Any],
        *,
        depth: int = 0,
        omitted: Mapping[str, Any] | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        """Record an event that an engine made, with its own time (microseconds since the epoch) and all its data.

        Inputs and outputs in it are kept as this recorder is told to keep them; ``omitted`` is what ``left_out`` says
        of those that the engine left out. ``depth`` is how many executions are around this one. ``state`` is the whole
        state that a ``state_snapshot`` event with ``snapshot_id`` stands for. The end of a workflow also sets the
        metadata, as ``record_workflow_complete`` does.
        """
        kind = event_type if isinstance(event_type, RecordingEventType) else RecordingEventType(event_type)
        name, switch = _VALUES.get(kind, ("", ""))
        rest = {key: value for key, value in data.items() if key != name}
        value, metadata = self._value(name, data[name], bool(self.config[switch])) if name in data else ({}, {})
        kept = {**value, **self._copy(rest)}
        with self._lock:
            metadata |= {**(omitted or {}), "recursion_depth": depth}
            self._recursion_max_depth = max(self._recursion_max_depth, depth)
            if state is not None:
                moment = timestamp_us / 1_000_000
                whole = self._copy(state)
                self.snapshots.append(
                    StateSnapshot(kept["snapshot_id"], moment, self.workflow_id, node_id, whole, depth)
                )
            self._raw.append((kind, timestamp_us, node_id, kept, metadata))
            if self._ahead is not None:
                self._flush_later()
            if kind in (Type.WORKFLOW_COMPLETE, Type.WORKFLOW_ERROR):
                self.metadata.completed_at = timestamp_us / 1_000_000
                self.metadata.duration_seconds = self.metadata.completed_at - self.metadata.started_at
                self.metadata.success = kind is Type.WORKFLOW_COMPLETE
                self.metadata.error = kept.get("error")

    def _value(self, name: str, value: Any, keep: bool, *, none: Any = ...) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return data with a copy of ``value``, or without it and metadata with its hash and size."""
        empty: Any = {} if none is ... else none
        if value is None or (type(value) is dict and not value):
            return {name: empty}, {}
        kept = self._copy(value)
        if keep:
            return {name: kept}, {}
        return {name: empty}, left_out(name, kept)

    def _said(self, error: Any) -> str | None:
        """Return the text of an error, which may be an exception."""
        found: str | None = self._redact(error if error is None or isinstance(error, str) else str(error))
        return found

    def _copy(self, value: Any) -> Any:
        """Return a copy of ``value`` as JSON, without secrets and without texts that are too long."""
        kept = self._redact(plain(value))
        if not has_long_text(kept, self.max_text):
            return kept
        return without_long_texts(kept, self.max_text, self._keep_blob)

    def _keep_blob(self, content: bytes) -> str:
        if self._save_blob is not None:
            return self._save_blob(content, "text/plain", self.metadata.recording_id)
        return hashlib.sha256(content).hexdigest()

    def _redact(self, value: Any) -> Any:
        return value if self._redactor is None else self._redactor.redact(value)

    def _add_deep(
        self, kind: RecordingEventType, node_id: str | None, data: dict[str, Any], metadata: dict[str, Any]
    ) -> float:
        with self._lock:
            microseconds = time.time_ns() // 1000
            metadata["recursion_depth"] = self._recursion_depth
            name = node_id if node_id is None or type(node_id) is str else str(node_id)
            self._raw.append((kind, microseconds, name, data, metadata))
            if self._ahead is not None:
                self._flush_later()
        return microseconds / 1_000_000

    # ------------------------------------------------------------------ while it runs

    def write_ahead(self, target: str | os.PathLike[str] | OpensWriters, flush_seconds: float = 1.0) -> None:
        """Write events to a new sealed file, or into a storage, while they happen; ``finalize`` completes it.

        They are there at most ``flush_seconds`` late, and survive the death of this process: of a file
        ``SealedRecording.recover(path)`` reads them, in the database they are an unfinished recording. When they cannot
        be written any more that is logged, and the run goes on.

        Raises:
            FileExistsError: there is such a file.
            RecordingError: the storage has a recording with this id.
            RuntimeError: this recorder writes ahead already.
        """
        with self._lock:
            if self._ahead is not None:
                raise RuntimeError("this recorder writes ahead already")
            if isinstance(target, str | os.PathLike):
                self._ahead = SealedWriter.create(target, self.workflow_id, self.metadata)
            else:
                self._ahead = target.open_writer_sync(self.metadata)
            self._ahead_seconds = flush_seconds
            self._flush_ahead()

    def _flush_later(self) -> None:
        if not self._ahead_due:
            self._ahead_due = True
            timer = threading.Timer(self._ahead_seconds, self._flush_ahead)
            timer.daemon = True
            timer.start()

    def _flush_ahead(self) -> None:
        with self._lock:
            self._ahead_due = False
            if self._ahead is None:
                return
            states = {snapshot.snapshot_id: snapshot for snapshot in self.snapshots}
            try:
                for event in self.events[self._ahead.event_count :]:
                    self._ahead.write(event, states.get(str(event.data.get("snapshot_id"))))
                self._ahead.flush()
            except Exception:  # a full disk or a database that is away must not end what is recorded
                self._ahead = None
                logger.exception("events of %s are no longer written ahead", self.workflow_name)

    def _end_ahead(self) -> None:
        self._flush_ahead()
        ahead, self._ahead = self._ahead, None
        try:
            if ahead is not None:
                ahead.close(self.metadata)
        except Exception:
            logger.exception("what was written ahead of %s is not complete", self.workflow_name)

    # ------------------------------------------------------------------ the end

    def finalize(self) -> RecordingMetadata:
        """Bring the metadata up to date and return it; may be called again."""
        with self._lock:
            metadata = self.metadata
            kinds = Counter([event.event_type for event in self._events])
            kinds.update([raw[0] for raw in self._raw])
            metadata.node_count = kinds[Type.NODE_COMPLETE] + kinds[Type.NODE_ERROR]
            metadata.team_count = kinds[Type.TEAM_START]
            metadata.recursion_max_depth = self._recursion_max_depth
            metadata.event_count = len(self._events) + len(self._raw)
            if self._redactor is not None:
                metadata.redaction_count = self._redactor.count
            if metadata.completed_at is None:
                metadata.completed_at = _now()
                metadata.duration_seconds = metadata.completed_at - metadata.started_at
            if self._ahead is not None:
                self._end_ahead()
            return metadata

    async def save(self, filepath: str | os.PathLike[str]) -> RecordingMetadata:
        """Save without holding up the event loop; see ``save_sync``."""
        return await asyncio.to_thread(self.save_sync, filepath)

    def save_sync(self, filepath: str | os.PathLike[str]) -> RecordingMetadata:
        """Finalize, write the file complete or not at all, and return the metadata with size and checksum.

        The name chooses the format: ``.fbrec`` sealed, ``.json.gz`` gzip, otherwise plain JSON. A recorder
        made with ``compress=True`` appends ``.gz`` to other names. ``path`` is where the file is.
        """
        path = Path(filepath)
        with self._lock:
            metadata = self.finalize()
            events, snapshots = list(self.events), list(self.snapshots)
        if path.suffix not in (SUFFIX, ".gz") and self._append_gz:
            path = path.with_name(f"{path.name}.gz")
        write_recording(path, metadata, events, snapshots, self.workflow_id)
        self.path = path
        return metadata


def write_recording(
    path: Path,
    metadata: RecordingMetadata,
    events: Iterable[RecordingEvent],
    snapshots: Sequence[StateSnapshot],
    workflow_id: str,
) -> None:
    """Write a recording file, complete or not at all, and set checksum and size of ``metadata``.

    The name chooses the format: ``.fbrec`` sealed, ``.gz`` gzip JSON, otherwise plain JSON.
    """
    if path.suffix != SUFFIX:
        write_json(path, metadata, events, snapshots, compress=path.suffix == ".gz")
        return

    atomic_write(path, lambda file: seal_into(file, metadata, events, snapshots, workflow_id))


def seal_into(
    file: IO[bytes],
    metadata: RecordingMetadata,
    events: Iterable[RecordingEvent],
    snapshots: Sequence[StateSnapshot],
    workflow_id: str,
) -> None:
    """Write a sealed recording to an empty file and set in ``metadata`` what describes the stored form."""
    metadata.format_version, metadata.codec = VERSION, "zstd"
    metadata.checksum = write_sealed(file, metadata, events, snapshots, workflow_id=workflow_id)
    metadata.file_size_bytes = file.tell()


def _checked_tags(tags: Sequence[Any]) -> list[str]:
    """Return tags as a list, each once; what could be saved but not read again is refused.

    Raises:
        ValueError: they are one text, or one is empty or not text.
    """
    if isinstance(tags, str):
        raise ValueError(f"give the tags as a list, not as one text: [{tags!r}]")
    for tag in tags:
        if not isinstance(tag, str) or not tag.strip():
            raise ValueError(f"{tag!r} is not a tag: it must be text")
    return list(dict.fromkeys(tags))


def _now() -> float:
    return (time.time_ns() // 1000) / 1_000_000
