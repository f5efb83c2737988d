"""Recordings in the database: event rows while they are young, a sealed file afterwards, blobs beside both.

Readers ask for an execution and do not notice which of the two they read. What only the engine knows
comes through the callables that ``executions`` sets when it starts: ``OUTPUT_SOURCE``, ``OUTPUT_BLOBS``,
``ARTIFACT_POLICY``, ``OUTPUTS_NEEDED`` and ``RELEASE_OUTPUTS``.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import re
import shutil
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar, cast
from uuid import NAMESPACE_OID, UUID, uuid5

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage, storages
from django.db import IntegrityError, transaction
from django.db.models import Count, F, Max, Min, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, Length
from django.utils import timezone
from django.utils.deconstruct import deconstructible

from recordings.errors import BlobMissing, DamagedRecording, RecordingError, RecordingNotFound
from recordings.events import (
    OMITTED,
    BlobReference,
    RecordingEvent,
    RecordingEventType,
    RecordingMetadata,
    StateSnapshot,
    decode_json,
    encode_json,
    event_id,
    event_seq,
)
from recordings.export import atomic_write
from recordings.frames import VERSION
from recordings.models import SEE_EVERYTHING, Blob, BlobRef, Event, NotRecorded, Recording, StoredFile
from recordings.recorder import seal_into
from recordings.replayer import ExecutionReplayer
from recordings.retention import RetentionPolicy, refuse_held
from recordings.sealed import SealedRecording, SealedWriter
from recordings.state import CHANGES_STATE, State
from recordings.storage import (
    BATCH_EVENTS,
    SHORTEST_PREFIX,
    Events,
    RecordingQuery,
    RecordingStorage,
    Rows,
    Tags,
    as_query,
    copy_metadata,
    with_tags,
)
from recordings.writing import FLUSH_SECONDS, RowWriter, event_of_row, is_written, snapshot_of

logger = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

OUTPUT_SOURCE: Callable[[UUID, Collection[str]], Mapping[str, Any]] | None = None
"""``(execution_id, node_ids) -> {node_id: outputs}`` of completed node runs."""

OUTPUT_BLOBS: Callable[[UUID, Collection[str]], Mapping[str, str]] | None = None
"""``(execution_id, node_ids) -> {node_id: sha256}`` of those node runs whose outputs are a blob."""

ARTIFACT_POLICY: Callable[[Any, UUID], bool] | None = None
"""``(user, execution_id) -> may the user see files of this execution``, also before it has a recording."""

OUTPUTS_NEEDED: Callable[[Collection[UUID]], Collection[UUID]] | None = None
"""``execution_ids -> those whose outputs a running execution may still read``; nothing of them is removed yet."""

RELEASE_OUTPUTS: Callable[[UUID], None] | None = None
"""``execution_id -> None``: let no node run of this ended execution name a blob any more."""

REMOVED_BY_HAND = "its recording was removed by hand"
REMOVED_BY_RETENTION = "its recording was removed by retention"

EDGE_SOURCE: Callable[[UUID], list[tuple[str, str]] | None] | None = None
"""``execution_id -> (source, target) of the wires of what it runs``, or None when that cannot be planned any more."""

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

SEALED_TYPE = "application/x-flowbuilder-recording"
PAGE_EVENTS = 250
PURGE_ROWS = 5_000
SWEEP_BLOBS = 500
ROW_BYTES = 60
"""About what an event row takes beside its data."""
CACHE_BYTES = 1 << 30
LARGEST_INTEGER = 2**31 - 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOCK_TRIES = 5


# --------------------------------------------------------------------------- files and blobs


@deconstructible
class DatabaseFileStorage(Storage):
    """A Django storage whose files are rows of ``StoredFile``, so that several hosts need only the database.

    Meant for content-addressed names: saving a name that exists keeps what is there.
    """

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        content = StoredFile.objects.filter(pk=name).values_list("content", flat=True).first()
        if content is None:
            raise FileNotFoundError(f"no stored file {name}")
        return ContentFile(bytes(content), name=name)

    def _save(self, name: str, content: File[bytes]) -> str:
        content.seek(0)
        StoredFile.objects.bulk_create([StoredFile(name=name, content=content.read())], ignore_conflicts=True)
        return name

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """Return ``name``: equal names have equal content."""
        return name

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return StoredFile.objects.filter(pk=name).exists()

    def delete(self, name: str) -> None:
        """Remove a file if it is there."""
        StoredFile.objects.filter(pk=name).delete()

    def size(self, name: str) -> int:
        """Return the size in bytes.

        Raises:
            FileNotFoundError: there is no such file.
        """
        size = StoredFile.objects.filter(pk=name).values_list(Length("content"), flat=True).first()
        if size is None:
            raise FileNotFoundError(f"no stored file {name}")
        return int(size)

    def get_created_time(self, name: str) -> datetime:
        """Return when the file was saved.

        Raises:
            FileNotFoundError: there is no such file.
        """
        moment = StoredFile.objects.filter(pk=name).values_list("created_at", flat=True).first()
        if moment is None:
            raise FileNotFoundError(f"no stored file {name}")
        return moment


def save_blob(content: bytes, content_type: str, execution_id: UUID | str) -> str:
    """Store bytes for an execution and return their SHA-256; equal bytes are stored once.

    The file, its row and the reference are there together or not at all. May be called twice.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    _write_early(sha256, io.BytesIO(content))
    with transaction.atomic():
        _refer(sha256, io.BytesIO(content), len(content), content_type, UUID(str(execution_id)))
    return sha256


def read_blob(sha256: str) -> bytes:
    """Return the bytes of a blob.

    Raises:
        BlobMissing: there is none with this name, or its file is gone.
        DamagedRecording: its file was changed.
    """
    with open_blob(sha256) as file:
        content: bytes = file.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedRecording(f"blob {sha256[:12]}… was changed in its storage: its SHA-256 does not fit")
    return content


def open_blob(sha256: str) -> IO[bytes]:
    """Return an open file with the bytes of a blob, unchecked.

    Raises:
        BlobMissing: there is none with this name, or its file is gone.
    """
    if not _SHA256.fullmatch(sha256):
        raise BlobMissing(f'"{sha256[:80]}" is not the SHA-256 of a blob')
    try:
        return cast(IO[bytes], storages["blobs"].open(_blob_name(sha256)))
    except FileNotFoundError as error:
        raise BlobMissing(
            f"blob {sha256[:12]}… is not in the storage; it may have been removed by retention"
        ) from error


def _blob_name(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


def _file_path(sha256: str) -> Path | None:
    """Return where the ``blobs`` storage keeps the file, or None when that is no local file."""
    try:
        return Path(storages["blobs"].path(_blob_name(sha256)))
    except NotImplementedError:
        return None


def _write_early(sha256: str, file: IO[bytes]) -> None:
    """Write a local file before the transaction, so that no database lock waits for the disk."""
    path = _file_path(sha256)
    if path is not None and not path.exists():
        atomic_write(path, lambda target: shutil.copyfileobj(file, target))


def _refer(sha256: str, file: IO[bytes], size: int, content_type: str, execution_id: UUID) -> None:
    """Make sure of row, reference and file. Holds the row's lock, so that no removal comes between."""
    for _ in range(_LOCK_TRIES):
        Blob.objects.bulk_create(
            [Blob(sha256=sha256, size_bytes=size, content_type=content_type[:100])], ignore_conflicts=True
        )
        if Blob.objects.select_for_update().filter(pk=sha256).values_list("pk", flat=True).first():
            break  # otherwise a removal ended between the two statements
    else:
        raise RecordingError(f"blob {sha256[:12]}… could not be stored: it is removed again and again")
    BlobRef.objects.bulk_create([BlobRef(blob_id=sha256, execution_id=execution_id)], ignore_conflicts=True)
    name, path = _blob_name(sha256), _file_path(sha256)
    if path is not None:
        file.seek(0)
        _write_early(sha256, file)
    elif not storages["blobs"].exists(name):
        file.seek(0)
        storages["blobs"].save(name, File(file))


def drop_references(execution_id: UUID) -> list[str]:
    """Forget the blobs of an execution; return their names for ``remove_blobs``, once that is committed."""
    refs = BlobRef.objects.filter(execution_id=execution_id)
    names = list(refs.values_list("blob_id", flat=True))
    refs.delete()
    return names


def remove_blobs(sha256s: Iterable[str]) -> int:
    """Remove those blobs that nobody refers to, and return how many went; what fails is left to ``sweep_blobs``."""
    removed = 0
    for sha256 in sha256s:
        try:
            removed += _remove_blob(sha256)
        except Exception:  # one bad file must not hold up the others
            logger.exception("blob %s was not removed", sha256[:12])
    return removed


def sweep_blobs(before: datetime, until: float = math.inf) -> int:
    """Remove what crashes left behind before a moment: blobs without references, files without rows.

    Goes on until all are gone, or ``until`` on the monotonic clock; returns how many went.
    """
    removed, last = 0, ""
    while time.monotonic() < until:
        unused = Blob.objects.filter(refs=None, created_at__lt=before, pk__gt=last).order_by("pk")
        names = list(unused.values_list("pk", flat=True)[:SWEEP_BLOBS])
        if not names:
            break
        removed, last = removed + remove_blobs(names), names[-1]
    return removed + _sweep_files(before.timestamp(), until)


def _sweep_files(before: float, until: float) -> int:
    """Remove local files without a row, and unfinished ones; both come from processes that were killed."""
    some = _file_path("0" * 64)
    if some is None or not some.parent.parent.is_dir():
        return 0
    removed = 0
    for directory in sorted(some.parent.parent.iterdir()):
        if time.monotonic() > until:
            break
        if not directory.is_dir():
            continue
        old = [path for path in directory.iterdir() if path.stat().st_mtime < before]
        known = set(Blob.objects.filter(pk__in=[path.name for path in old]).values_list("pk", flat=True))
        for path in old:
            if _SHA256.fullmatch(path.name) and path.name not in known:
                removed += _remove_file(path)
            elif path.name.endswith(".tmp"):
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def _remove_file(path: Path) -> bool:
    """Remove a file without a row; its own row keeps away those who would store the same bytes now."""
    with transaction.atomic():
        Blob.objects.bulk_create([Blob(sha256=path.name, size_bytes=0)], ignore_conflicts=True)
        return _remove_blob(path.name)


def _remove_blob(sha256: str) -> bool:
    """Remove a blob without references. The file goes first, under the row's lock; see ``_refer``."""
    with transaction.atomic():
        if not Blob.objects.select_for_update().filter(pk=sha256).values_list("pk", flat=True).first():
            return False
        if BlobRef.objects.filter(blob_id=sha256).exists():
            return False
        storages["blobs"].delete(_blob_name(sha256))
        Blob.objects.filter(pk=sha256).delete()
    return True


# --------------------------------------------------------------------------- events


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
            edges = EDGE_SOURCE(execution_id) if EDGE_SOURCE is not None else None
            event.data["edges"] = [list(edge) for edge in edges or ()]


def _fill_final_state(execution_id: UUID, events: Sequence[RecordingEvent]) -> None:
    for event in events:
        ends = event.event_type in (RecordingEventType.WORKFLOW_COMPLETE, RecordingEventType.WORKFLOW_ERROR)
        if ends and event.data.get("final_state") == STATE_ELSEWHERE:
            event.data["final_state"] = _state_before(execution_id, event.seq)


def _state_before(execution_id: UUID, seq: int) -> dict[str, Any]:
    """Return the state after the rows before ``seq``; a large value is the name of the node output that holds it."""
    state, after, room = State(), 0, LARGEST_FINAL_STATE
    while after < seq - 1:
        page = load_rows(execution_id, after, min(PAGE_EVENTS, seq - 1 - after), references=True, ends=False)
        if not page or page[0].seq != after + 1:
            return {}  # the rows go right now; the sealed file has it
        for event in map(_whole, page):
            if event.event_type in CHANGES_STATE:
                room -= _shorten(event, room)
                state.apply(event)
        after = page[-1].seq
    return state.to_dict()


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
    if OUTPUT_BLOBS is not None:
        found = {node: BlobReference(sha256) for node, sha256 in OUTPUT_BLOBS(execution_id, wanted).items()}
    if OUTPUT_SOURCE is not None and wanted - found.keys():
        found |= OUTPUT_SOURCE(execution_id, wanted - found.keys())
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
    path = _file_path(recording.sealed)
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


# --------------------------------------------------------------------------- finding and opening


_METADATA_NAMES = frozenset(item.name for item in fields(RecordingMetadata)) - {"extra"}


def metadata_of(recording: Recording) -> RecordingMetadata:
    """Return the row of a recording in the form of the recording format."""
    metadata = _of_columns(recording)
    for name, value in (decode_json(recording.details) if recording.details else {}).items():
        if name in _METADATA_NAMES:
            setattr(metadata, name, value)
        else:
            metadata.extra[name] = value
    return metadata


def _of_columns(recording: Recording) -> RecordingMetadata:
    by_engine = recording.execution_id is not None
    return RecordingMetadata(
        recording_id=str(recording.pk) if by_engine else recording.pk.hex,
        workflow_name=recording.workflow_name,
        started_at=recording.started_at.timestamp(),
        completed_at=recording.completed_at.timestamp() if recording.completed_at else None,
        duration_seconds=recording.duration_seconds,
        success=recording.success,
        error=recording.error or None,
        node_count=recording.node_count,
        team_count=recording.team_count,
        recursion_max_depth=recording.recursion_max_depth,
        event_count=recording.event_count,
        file_size_bytes=recording.file_size_bytes,
        checksum=recording.checksum or None,
        tags=list(recording.tags or []),
        execution_id=str(recording.execution_id) if by_engine else None,
        workflow_uuid=str(recording.workflow_id) if recording.workflow_id else None,
        workflow_version=recording.version_number,
        trigger=recording.trigger or None,
        status=recording.status or None,
        user_id=recording.user_id,
        credits_consumed=recording.credits if by_engine else None,
    )


def find_recording(identifier: UUID | str, user: Any = None) -> Recording:
    """Return the recording with this id, or of this execution; a unique prefix of 8 characters is enough.

    With ``user`` only those that the user may see.

    Raises:
        RecordingNotFound: there is none, or it is somebody else's.
        RecordingError: the prefix is too short, or fits several.
    """
    text = str(identifier).replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", text):
        raise RecordingNotFound(f'"{identifier}" is not the id of a recording or execution')
    if len(text) < SHORTEST_PREFIX:
        raise RecordingError(f'"{identifier}" is too short: give at least {SHORTEST_PREFIX} characters of the id')
    span = (UUID(text.ljust(32, "0")), UUID(text.ljust(32, "f")))
    rows: QuerySet[Recording] = Recording.objects.all() if user is None else Recording.objects.visible_to(user)
    found = list(rows.filter(Q(pk__range=span) | Q(execution_id__range=span))[:2])
    if not found:
        missing = f'no recording or execution "{identifier}"; ./flow recordings list shows what there is'
        raise RecordingNotFound(_why_none(span, user) or missing)
    if len(found) > 1:
        raise RecordingError(f'"{identifier}" fits several recordings; give more characters of the id')
    return found[0]


def _why_none(span: tuple[UUID, UUID], user: Any) -> str:
    """Return why the one execution with an id in ``span`` has no recording, if there is one that ``user`` may see."""
    rows = list(NotRecorded.objects.filter(pk__range=span)[:2])
    if len(rows) != 1:
        return ""
    values = decode_json(rows[0].recording) if rows[0].recording else {}
    if user is not None and not user.has_perm(SEE_EVERYTHING) and values.get("user_id") != user.pk:
        return ""
    way_out = "; ./flow recordings keep keeps it while its events are there" if values else ""
    return f"execution {rows[0].pk} has no recording: {rows[0].reason}{way_out}"


def open_replayer(identifier: UUID | str) -> ExecutionReplayer:
    """Return a replayer of a recording by its id or that of its execution, also while it still runs.

    Raises:
        RecordingNotFound: nothing was recorded under this id.
    """
    try:
        key = UUID(str(identifier))
    except ValueError as error:
        raise RecordingNotFound(f'"{identifier}" is not the id of a recording or execution') from error
    recording = Recording.objects.filter(Q(pk=key) | Q(execution_id=key)).first()
    if recording is not None:
        return replayer_of(recording)
    last = Event.objects.filter(execution_id=key).aggregate(last=Max("seq"))["last"]
    if last is None:
        raise RecordingNotFound(_why_none((key, key), None) or f"nothing was recorded for {identifier}")
    dropped = NotRecorded.objects.filter(pk=key).exclude(recording="").first()
    if dropped is not None:
        return replayer_of(undropped(dropped))
    events = RowEvents(key, last)
    start = events[0]
    metadata = RecordingMetadata(
        recording_id=str(key),
        workflow_name=str(start.data.get("workflow") or ""),
        started_at=start.timestamp,
        event_count=last,
        execution_id=str(key),
        status="running",
    )
    return ExecutionReplayer(None, metadata, events)


def undropped(row: NotRecorded) -> Recording:
    """Return the recording, not saved, that an execution would have whose events are still there."""
    values = decode_json(row.recording)
    moments = {name: datetime.fromisoformat(value) for name, value in values.items() if name.endswith("_at") and value}
    counts = {"node_count": row.node_count, "event_count": row.event_count, "credits": row.credits}
    return Recording(**{**values, **moments, **counts, "execution_id": row.execution_id})


def replayer_of(recording: Recording) -> ExecutionReplayer:
    """Return a replayer of a recording, of its sealed file if there is one."""
    metadata = metadata_of(recording)
    if recording.sealed:
        sealed = open_sealed(recording)
        return ExecutionReplayer(None, metadata, sealed)
    count = Event.objects.filter(execution_id=recording.run_id).aggregate(last=Max("seq"))["last"] or 0
    return ExecutionReplayer(None, metadata, RowEvents(recording.run_id, count, workflow_of_rows(recording)))


def workflow_of_rows(recording: Recording) -> str:
    """Return the id that the event rows of a recording name as that of their execution."""
    first = load_rows(recording.pk, 0, 1) if recording.execution_id is None else []
    return first[0].workflow_id if first else str(recording.run_id)


# --------------------------------------------------------------------------- sealing


def seal(recording: Recording) -> bool:
    """Pack the event rows of a finished recording into its sealed file; return whether this call did it.

    May run several times and in several processes at once: the same rows make the same file, and one
    conditional UPDATE decides. A crash at any point leaves the rows, and the next call starts again.

    Raises:
        RecordingError: rows are missing.
    """
    if recording.sealed or recording.completed_at is None:
        return False
    with tempfile.TemporaryFile() as file:
        writer = SealedWriter(file, workflow_of_rows(recording), metadata_of(recording), read_blob=read_blob)
        after = teams = depth = 0
        while events := load_rows(recording.run_id, after, PAGE_EVENTS, references=True):
            for event in events:
                writer.write(event, snapshot_of(event) if recording.execution_id is None else None)
                teams += event.event_type is RecordingEventType.TEAM_START
                depth = max(depth, event.metadata.get("recursion_depth", 0))
            after = events[-1].seq
        if writer.event_count < recording.event_count or writer.event_count != after:
            raise RecordingError(
                f"recording {recording.pk}: only {writer.event_count} of its"
                f" {max(recording.event_count, after)} events are in the database; it cannot be sealed"
            )
        metadata = metadata_of(recording)
        metadata.event_count = writer.event_count
        metadata.team_count = max(metadata.team_count, teams)
        metadata.recursion_max_depth = max(metadata.recursion_max_depth, depth)
        stored = {"format_version": VERSION, "codec": "zstd"}
        metadata.format_version, metadata.codec = VERSION, "zstd"
        checksum = writer.close(metadata)
        values = {
            "details": encode_json({**decode_json(recording.details or "{}"), **stored}).decode(),
            "event_count": metadata.event_count,
            "team_count": metadata.team_count,
            "recursion_max_depth": metadata.recursion_max_depth,
        }
        return _keep_sealed(recording, file, writer.size_bytes, checksum, values)


def _keep_sealed(recording: Recording, file: IO[bytes], size: int, checksum: str, values: dict[str, Any]) -> bool:
    file.flush()
    file.seek(0)
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    _write_early(sha256, file)
    with transaction.atomic():
        _refer(sha256, file, size, SEALED_TYPE, recording.run_id)
        won = Recording.objects.filter(pk=recording.pk, sealed="").update(
            sealed=sha256, sealed_at=timezone.now(), checksum=checksum, file_size_bytes=size, **values
        )
        if not won:
            transaction.set_rollback(True)
    return bool(won)


def _finish_rows(key: UUID, metadata: RecordingMetadata | None) -> str:
    """Make the rows of a ``RowWriter`` a finished recording, seal it and return its checksum."""
    with transaction.atomic():
        recording = Recording.objects.select_for_update().filter(pk=key, sealed="", completed_at=None).first()
        if recording is None:
            raise RecordingError(f"recording {key} was removed or finished while its events were written")
        ended = copy_metadata(metadata) if metadata is not None else _ended_as_rows_say(recording)
        ended.event_count = recording.event_count
        ended.tags = with_tags(recording.tags or [], ended.tags, ())
        ended.completed_at = ended.completed_at or timezone.now().timestamp()
        for name, value in (_columns_of(ended) | {"user_id": recording.user_id}).items():
            setattr(recording, name, value)
        recording.details = _details_of(recording, ended)
        recording.save()
    seal(recording)
    recording.refresh_from_db()
    return str(recording.checksum)


def _ended_as_rows_say(recording: Recording) -> RecordingMetadata:
    """Return the metadata of a recording whose writer does not say how the run ended."""
    metadata = metadata_of(recording)
    last = next(iter(load_rows(recording.pk, recording.event_count - 1, 1)), None)
    if last is not None:
        metadata.completed_at = last.timestamp
        metadata.duration_seconds = last.timestamp - metadata.started_at
        ends = {RecordingEventType.WORKFLOW_COMPLETE: True, RecordingEventType.WORKFLOW_ERROR: False}
        metadata.success, metadata.error = ends.get(last.event_type), last.data.get("error")
        metadata.status = None if metadata.success is not None else "interrupted"
    done = (RecordingEventType.NODE_COMPLETE.value, RecordingEventType.NODE_ERROR.value)
    metadata.node_count = Event.objects.filter(execution_id=recording.pk, type__in=done).count()
    return metadata


def purge_rows(recording: Recording, limit: int) -> int:
    """Remove event rows of a sealed recording, at most about ``limit``, and return how many.

    The sealed file is read and checked first. If it does not hold what the rows hold, and they are all there, it is
    given up and the recording will be sealed anew from its rows.
    """
    if not recording.sealed:
        return 0
    rows = Event.objects.filter(execution_id=recording.run_id)
    last = rows.aggregate(last=Max("seq"))["last"] or 0
    if not last and recording.execution_id is None:  # it was kept sealed
        Recording.objects.filter(pk=recording.pk).update(events_removed_at=timezone.now())
        return 0
    try:
        with open_sealed(recording) as sealed:
            sealed.verify().check()
            complete = len(sealed) >= last
    except RecordingError as error:
        if rows.count() < max(last, recording.event_count):
            logger.error("%s; too few of its event rows are left to seal it again", error)
            return 0
        logger.error("%s; it will be sealed again", error)
        complete = False
    if not complete:
        Recording.objects.filter(pk=recording.pk, sealed=recording.sealed, events_removed_at=None).update(
            sealed="", sealed_at=None
        )
        return 0
    removed = 0
    while removed < limit:
        batch = list(rows.order_by("seq").values_list("pk", flat=True)[:PURGE_ROWS])
        if not batch:
            Recording.objects.filter(pk=recording.pk).update(events_removed_at=timezone.now())
            break
        Event.objects.filter(pk__in=batch).delete()
        removed += len(batch)
    return removed


# --------------------------------------------------------------------------- the storage

_COLUMNS = {
    "recording_id": "pk",
    "workflow_name": "workflow_name",
    "started_at": "started_at",
    "completed_at": "completed_at",
    "duration_seconds": "duration_seconds",
    "success": "success",
    "error": "error",
    "node_count": "node_count",
    "team_count": "team_count",
    "recursion_max_depth": "recursion_max_depth",
    "event_count": "event_count",
    "file_size_bytes": "file_size_bytes",
    "status": "status",
    "trigger": "trigger",
    "credits_consumed": "credits",
    "workflow_version": "version_number",
    "workflow_uuid": "workflow_id",
    "user_id": "user_id",
    "checksum": "checksum",
    "execution_id": "execution_id",
}
_OF_THE_ROW = frozenset({"checksum", "file_size_bytes", "tags"})
"""What the row alone knows: it changes after a recording was saved."""


def _key_of(recording_id: str) -> UUID:
    try:
        return UUID(recording_id)
    except ValueError:
        return uuid5(NAMESPACE_OID, f"recording:{recording_id}")


def _columns_of(metadata: RecordingMetadata) -> dict[str, Any]:
    """Return the columns of a recording that no execution of this installation made."""
    ended = metadata.completed_at
    return {
        "workflow_name": _storable(metadata.workflow_name)[:200],
        "workflow_id": _uuid(metadata.workflow_uuid),
        "version_number": _small(metadata.workflow_version),
        "user_id": metadata.user_id,
        "trigger": _storable(metadata.trigger or "")[:16],
        "status": _storable(metadata.status or {True: "completed", False: "failed", None: ""}[metadata.success])[:24],
        "success": metadata.success,
        "error": _storable(metadata.error or ""),
        "tags": [_storable(tag) for tag in metadata.tags],
        "started_at": datetime.fromtimestamp(metadata.started_at, UTC),
        "completed_at": None if ended is None else datetime.fromtimestamp(ended, UTC),
        "duration_seconds": metadata.duration_seconds,
        "node_count": _small(metadata.node_count),
        "team_count": _small(metadata.team_count),
        "recursion_max_depth": _small(metadata.recursion_max_depth),
        "event_count": _small(metadata.event_count),
        "credits": _small(metadata.credits_consumed or 0),
    }


def _details_of(recording: Recording, metadata: RecordingMetadata) -> str:
    """Return what the columns do not give back: further keys, unknown ones, long names, exact times."""
    shown, wanted = _of_columns(recording).to_dict(), metadata.to_dict()
    keys = (shown.keys() | wanted.keys()) - _OF_THE_ROW
    owner = {"user_id"} if recording.user_id is not None else set()
    details = {key: wanted.get(key) for key in sorted(keys - owner) if shown.get(key) != wanted.get(key)}
    return encode_json(details).decode() if details else ""


def _storable(text: str) -> str:
    """Return text that every database takes: without NUL and half surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _small(number: int | None) -> int | None:
    return None if number is None else max(0, min(number, LARGEST_INTEGER))


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None


class DatabaseRecordingStorage(RecordingStorage):
    """The recordings of this installation; with ``user`` only those that the user may see."""

    takes_owners = False

    def __init__(self, user: Any = None) -> None:
        self.user = user

    async def _call(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        return await sync_to_async(function)(*args, **kwargs)

    def keep_sync(
        self,
        metadata: RecordingMetadata,
        events: Iterable[RecordingEvent],
        snapshots: Sequence[StateSnapshot],
        workflow_id: str,
    ) -> str:
        """Keep a recording, sealed, that is given in its parts and return its id; one with this id is replaced.

        An id that is no UUID becomes one, the same for the same id.

        Raises:
            RecordingError: the recording with this id is somebody else's, or that of an execution here.
        """
        recording = Recording(pk=_key_of(metadata.recording_id), **_columns_of(metadata))
        if self.user is not None:
            recording.user_id = self.user.pk
        with tempfile.TemporaryFile() as file:
            seal_into(file, metadata, events, snapshots, workflow_id)
            recording.details = _details_of(recording, metadata)
            with transaction.atomic():
                before = Recording.objects.select_for_update().filter(pk=recording.pk).first()
                if before is not None and (before.execution_id or not self._rows().filter(pk=before.pk).exists()):
                    raise RecordingError(f"there is another recording {recording.pk} already; it was left as it is")
                Event.objects.filter(execution_id=recording.pk).delete()
                recording.save(force_insert=before is None, force_update=before is not None)
                _keep_sealed(recording, file, metadata.file_size_bytes or 0, metadata.checksum or "", {})
        return metadata_of(recording).recording_id

    async def open_writer(self, execution: RecordingMetadata | str, flush_seconds: float = FLUSH_SECONDS) -> RowWriter:
        """Begin a recording, or go on with one that was not finished; see ``open_writer_sync``."""
        return await self._call(self.open_writer_sync, execution, flush_seconds)

    def open_writer_sync(self, execution: RecordingMetadata | str, flush_seconds: float = FLUSH_SECONDS) -> RowWriter:
        """Begin a recording whose events are appended while it runs, or go on with one that was not finished.

        ``execution`` is what is known about the run that begins, such as ``recorder.metadata``, or the id of a recording.
        ``ExecutionRecorder.write_ahead(storage)`` does all of it.

        Raises:
            RecordingNotFound: there is no recording with this id.
            RecordingError: it was finished, or there is one with the id of the run that begins.
        """
        return RowWriter(partial(self._begin, execution), _finish_rows, flush_seconds=flush_seconds)

    def _begin(self, execution: RecordingMetadata | str) -> tuple[UUID, int]:
        if isinstance(execution, str):
            return self._go_on(execution)
        key = _key_of(execution.recording_id)
        begun = replace(copy_metadata(execution), completed_at=None, duration_seconds=None, success=None)
        recording = Recording(pk=key, **_columns_of(begun))
        if self.user is not None:
            recording.user_id = self.user.pk
        recording.details = _details_of(recording, begun)
        try:
            with transaction.atomic():
                recording.save(force_insert=True)
        except IntegrityError as error:
            raise RecordingError(f"there is a recording {key} already; give its id to go on with it") from error
        return key, 0

    def _go_on(self, recording_id: str) -> tuple[UUID, int]:
        recording = self._find(recording_id)
        if recording is None:
            raise RecordingNotFound(f'no recording "{recording_id}" in the database')
        if recording.execution_id or recording.sealed or recording.completed_at:
            raise RecordingError(f"recording {recording.pk} is complete, or an execution writes it")
        return recording.pk, recording.event_count

    def tag_sync(self, recording_id: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Tags:
        """Add and remove tags and return those that it has now."""
        with transaction.atomic():
            recording = self._find(recording_id, lock=True)
            if recording is None:
                raise RecordingNotFound(f'no recording "{recording_id}" in the database')
            recording.tags = with_tags(recording.tags or [], add, remove)
            recording.save(update_fields=["tags"])
        return list(recording.tags)

    def iter_events_sync(self, recording_id: str, after_seq: int = 0, batch: int = BATCH_EVENTS) -> Events:
        """Iterate over the events after number ``after_seq``, reading about ``batch`` of them at a time."""
        recording = self._find(recording_id)
        if recording is None or recording.sealed or batch < 1:
            return super().iter_events_sync(recording_id, after_seq, batch)
        return iter_events(recording.run_id, after_seq, batch)

    def load_sync(self, recording_id: str) -> ExecutionReplayer:
        """Return a replayer."""
        recording = self._find(recording_id)
        if recording is None:
            raise RecordingNotFound(f'no recording "{recording_id}" in the database')
        return replayer_of(recording)

    def delete_sync(self, recording_id: str) -> bool:
        """Remove a recording, its events and the blobs that only it needed; return whether there was one."""
        recording = self._find(recording_id)
        return recording is not None and delete_recording(recording)

    def get_metadata_sync(self, recording_id: str) -> dict[str, Any] | None:
        """Return the metadata of one recording, or None."""
        recording = self._find(recording_id)
        return None if recording is None else metadata_of(recording).to_dict()

    def _find(self, recording_id: str, *, lock: bool = False) -> Recording | None:
        """Return the recording with this whole id, or of this execution."""
        key = _key_of(recording_id)
        rows = self._rows().select_for_update() if lock else self._rows()
        return rows.filter(Q(pk=key) | Q(execution_id=key)).first()

    def list_sync(self, query: RecordingQuery | None = None, **filters: Any) -> Rows:
        """Return metadata dicts, newest first unless the query says otherwise.

        Sorting by a key without a column reads the details of every row that fits otherwise.
        """
        wanted = as_query(query, filters)
        column = _COLUMNS.get(wanted.sort_by)
        if column is None:
            return self._sorted_by_detail(wanted)
        direction = F(column).desc if wanted.sort_order == "desc" else F(column).asc
        rows = self._filtered(wanted).order_by(direction(nulls_last=True), "pk")
        stop = None if wanted.limit is None else wanted.offset + wanted.limit
        return [metadata_of(row).to_dict() for row in rows[wanted.offset : stop]]

    def _sorted_by_detail(self, query: RecordingQuery) -> Rows:
        found = [
            {"recording_id": str(key), query.sort_by: decode_json(details).get(query.sort_by) if details else None}
            for key, details in self._filtered(query).order_by().values_list("pk", "details").iterator(2000)
        ]
        order = RecordingQuery(
            sort_by=query.sort_by, sort_order=query.sort_order, limit=query.limit, offset=query.offset
        )
        keys = [item["recording_id"] for item in order.select(found)]
        rows = {str(row.pk): row for row in self._rows().filter(pk__in=keys)}
        return [metadata_of(rows[key]).to_dict() for key in keys if key in rows]

    def get_storage_stats_sync(self) -> dict[str, Any]:
        """Return totals."""
        rows = self._rows()
        totals = rows.aggregate(
            total=Count("pk"),
            seconds=Sum("duration_seconds"),
            good=Count("pk", filter=Q(success=True)),
            bad=Count("pk", filter=Q(success=False)),
            oldest=Min("started_at"),
            newest=Max("started_at"),
        )
        sizes = workflow_sizes(rows)
        size = sum(taken for _, taken in sizes.values())
        return {
            "total_recordings": totals["total"],
            "total_size_bytes": size,
            "total_size_mb": size / (1 << 20),
            "total_duration_seconds": totals["seconds"] or 0.0,
            "success_count": totals["good"],
            "failed_count": totals["bad"],
            "unfinished_count": totals["total"] - totals["good"] - totals["bad"],
            "workflow_counts": {name: count for name, (count, _) in sizes.items()},
            "workflow_sizes": {name: taken for name, (_, taken) in sizes.items()},
            "oldest_recording": totals["oldest"].timestamp() if totals["oldest"] else None,
            "newest_recording": totals["newest"].timestamp() if totals["newest"] else None,
        }

    def apply_retention_policy_sync(self, policy: RetentionPolicy, dry_run: bool = False) -> dict[str, Any]:
        """Remove what the policy does not keep; in a dry run only say what."""
        return apply_policy(self._rows(), policy, dry_run=dry_run)

    def _rows(self) -> QuerySet[Recording]:
        rows: QuerySet[Recording] = (
            Recording.objects.all() if self.user is None else Recording.objects.visible_to(self.user)
        )
        return rows

    def _filtered(self, query: RecordingQuery) -> QuerySet[Recording]:
        rows = self._rows()
        if query.workflow_name is not None:
            rows = rows.filter(workflow_name=query.workflow_name)
        if query.recording_id is not None:
            text = query.recording_id.replace("-", "").lower()
            if len(text) < SHORTEST_PREFIX or not re.fullmatch(r"[0-9a-f]{1,32}", text):
                return rows.none()
            span = (UUID(text.ljust(32, "0")), UUID(text.ljust(32, "f")))
            rows = rows.filter(Q(pk__range=span) | Q(execution_id__range=span))
        for lookup, moment in (("started_at__gte", query.start_date), ("started_at__lte", query.end_date)):
            if moment is not None:
                rows = rows.filter(**{lookup: timezone.make_aware(moment) if timezone.is_naive(moment) else moment})
        if query.success is not None:
            rows = rows.filter(success=query.success)
        if query.min_duration is not None:
            rows = rows.filter(duration_seconds__gte=query.min_duration)
        if query.max_duration is not None:
            rows = rows.filter(duration_seconds__lte=query.max_duration)
        for tag in query.tags or ():
            rows = rows.filter(tags__has_element=_storable(tag))
        if query.any_tags:
            rows = rows.filter(reduce(or_, (Q(tags__has_element=_storable(tag)) for tag in query.any_tags)))
        return rows

    def all_sync(self) -> Rows:
        """Return the metadata of all recordings, in any order."""
        return [metadata_of(row).to_dict() for row in self._rows().iterator(500)]


# --------------------------------------------------------------------------- removing

_RUN = Coalesce("execution_id", "pk")


def apply_policy(
    rows: QuerySet[Recording], policy: RetentionPolicy, *, dry_run: bool = False, until: float = math.inf
) -> dict[str, Any]:
    """Remove what ``policy`` does not keep of ``rows``, until a time of the monotonic clock; in a dry run only say what.

    Returns the answer of ``apply_retention_policy``. Needs about half a kilobyte of memory per recording.
    """
    plan = policy.plan(_measured(rows))
    deleted = []
    for identifier in () if dry_run else plan.delete:
        if time.monotonic() > until:
            break
        recording = Recording.objects.filter(pk=UUID(identifier)).first()
        try:
            if recording is not None and delete_recording(recording, REMOVED_BY_RETENTION):
                deleted.append(identifier)
        except Exception:  # one bad recording must not hold up the others
            logger.exception("recording %s was not removed", identifier)
    return plan.to_dict(deleted)


def _measured(rows: QuerySet[Recording]) -> Iterator[dict[str, Any]]:
    """Give what a policy looks at, of each recording."""
    young = unsealed_sizes(rows)
    columns = ("pk", "execution_id", "started_at", "success", "tags", "file_size_bytes")
    for key, execution_id, started_at, success, tags, size in rows.order_by().values_list(*columns).iterator(2000):
        yield {
            "recording_id": key.hex if execution_id is None else str(key),
            "started_at": started_at.timestamp(),
            "success": success,
            "tags": tags,
            "file_size_bytes": size if size is not None else young.get(execution_id or key, 0),
        }


def unsealed_sizes(rows: QuerySet[Recording]) -> dict[UUID, int]:
    """Return about how many bytes the events of those recordings take that are not sealed yet, by ``run_id``."""
    waiting = rows.filter(file_size_bytes=None).order_by().values(run=_RUN)
    events = Event.objects.filter(execution_id__in=waiting).order_by().values_list("execution_id")
    return {
        key: size + count * ROW_BYTES
        for key, size, count in events.annotate(size=Sum(Length("data")), count=Count("pk"))
    }


def workflow_sizes(rows: QuerySet[Recording]) -> dict[str, tuple[int, int]]:
    """Return how many recordings and about how many bytes each workflow has, the most recordings first."""
    young = unsealed_sizes(rows)
    waiting = rows.filter(file_size_bytes=None).annotate(run=_RUN)
    extra: Counter[str] = Counter()
    for key, name in waiting.values_list("run", "workflow_name"):
        extra[name] += young.get(key, 0)
    totals = rows.order_by().values_list("workflow_name").annotate(count=Count("pk"), size=Sum("file_size_bytes"))
    return {
        name: (count, (size or 0) + extra[name])
        for name, count, size in totals.order_by("-count", "workflow_name")
    }  # fmt: skip


def delete_recording(recording: Recording, reason: str = REMOVED_BY_HAND) -> bool:
    """Remove a recording, its events and the blobs that only it needed; return whether this call did it.

    Raises:
        RecordingProtected: it is on legal hold.
    """
    names: list[str] = []
    with transaction.atomic():
        row = Recording.objects.select_for_update().filter(pk=recording.pk).first()
        if row is None:
            return False
        refuse_held(row.pk, row.tags)
        if row.execution_id is None:
            Event.objects.filter(execution_id=row.pk).delete()
            names = drop_references(row.pk)
        else:
            values = {"reason": reason, "ended_at": row.completed_at or timezone.now(), "events_removed_at": None}
            NotRecorded.objects.update_or_create(execution_id=row.execution_id, defaults={**values, "recording": ""})
        Recording.objects.filter(pk=row.pk).delete()
    if row.execution_id is None:
        remove_blobs(names)
    else:
        remove_leftovers([row.execution_id])
    return True


def remove_leftovers(execution_ids: Sequence[UUID], limit: float = math.inf) -> int:
    """Remove events and blobs of executions without recording, at most about ``limit`` events; return how many.

    What a running execution may still read stays for another time. A crash at any point leaves the rest for
    the next call.
    """
    needed = set(OUTPUTS_NEEDED(execution_ids)) if OUTPUTS_NEEDED is not None else set()
    removed = 0
    for key in execution_ids:
        if removed >= limit or key in needed:
            continue
        if not NotRecorded.objects.filter(pk=key, events_removed_at=None).update(recording=""):
            continue  # it was kept in this moment
        rows = Event.objects.filter(execution_id=key).order_by("seq")
        while removed < limit and (batch := list(rows.values_list("pk", flat=True)[:PURGE_ROWS])):
            removed += Event.objects.filter(pk__in=batch).delete()[0]
        if removed < limit or not rows.exists():
            remove_blobs(_tick_off(key))
    return removed


def _tick_off(execution_id: UUID) -> list[str]:
    with transaction.atomic():
        row = NotRecorded.objects.select_for_update().filter(pk=execution_id, events_removed_at=None)
        if row.first() is None:
            return []
        if RELEASE_OUTPUTS is not None:
            RELEASE_OUTPUTS(execution_id)
        names = drop_references(execution_id)
        row.update(events_removed_at=timezone.now())
    return names
