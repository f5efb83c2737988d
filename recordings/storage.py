"""Where recordings are kept: files or memory here, the database in ``recordings.database``."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import re
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, time
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec

from recordings.errors import InvalidRecording, RecordingError, RecordingNotFound, TooManyTags
from recordings.events import RecordingEvent, RecordingMetadata, StateSnapshot, copy_json, decode_json, encode_json
from recordings.export import atomic_write
from recordings.recorder import ExecutionRecorder, seal_into, write_recording
from recordings.replayer import ExecutionReplayer
from recordings.retention import RetentionPolicy, refuse_held
from recordings.sealed import SUFFIX, SealedRecording, is_sealed

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

Rows = list[dict[str, Any]]
Events = Iterator[RecordingEvent]
Tags = list[str]
Target = str | os.PathLike[str]

SHORTEST_PREFIX = 8
BATCH_EVENTS = 1000
MOST_TAGS = 50
"""Tags that a recording may have by what people and programs add to it."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
SORT_KEYS = frozenset(item.name for item in fields(RecordingMetadata) if item.name not in ("extra", "tags"))
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
SORT_ALIASES = {
    "duration": "duration_seconds",
    "size": "file_size_bytes",
    "events": "event_count",
    "nodes": "node_count",
    "workflow": "workflow_name",
    "date": "started_at",
}


class StorageBackend(Enum):
    """Where recordings can be kept."""

    FILE = "file"
    DATABASE = "database"
    POSTGRESQL = "postgresql"
    MONGODB = "mongodb"

    def open(self, **options: Any) -> RecordingStorage:
        """Return a storage of this kind.

        Raises:
            NotImplementedError: for MongoDB; subclass ``RecordingStorage`` to add one.
        """
        if self is StorageBackend.FILE:
            return FileRecordingStorage(**options)
        if self is StorageBackend.MONGODB:
            raise NotImplementedError(
                "recordings cannot be kept in MongoDB; write a subclass of recordings.storage.RecordingStorage"
            )
        from recordings.database import DatabaseRecordingStorage

        return DatabaseRecordingStorage(**options)


@dataclass(slots=True)
class RecordingQuery:
    """Which recordings to list, and in which order. Everything is optional.

    Dates and durations are inclusive; a naive moment is in the local zone (in Django: ``TIME_ZONE``), and a
    ``date`` is its whole day. ``recording_id`` is the id of a recording or its execution, or the first 8
    characters or more, which may fit several. A recording must have all ``tags``, and one of ``any_tags``.
    ``sort_by`` is a key of the metadata, or ``duration``, ``size``, ``events``, ``nodes``, ``workflow``,
    ``date``. Values that are not known sort last in both directions and match no minimum or maximum.
    """

    workflow_name: str | None = None
    recording_id: str | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    success: bool | None = None
    min_duration: float | None = None
    max_duration: float | None = None
    tags: list[str] | None = None
    limit: int | None = None
    offset: int = 0
    sort_by: str = "started_at"
    sort_order: str = "desc"
    any_tags: list[str] | None = None

    def __post_init__(self) -> None:
        """Check the values that have a fixed choice, and make moments of dates.

        Raises:
            ValueError: ``sort_by``, ``sort_order``, ``limit`` or ``offset`` is out of range.
        """
        if self.sort_order not in ("asc", "desc"):
            raise ValueError(f'sort_order is "{self.sort_order}"; it must be "asc" or "desc"')
        if self.offset < 0 or (self.limit is not None and self.limit < 0):
            raise ValueError("limit and offset must not be negative")
        self.sort_by = SORT_ALIASES.get(self.sort_by, self.sort_by)
        if self.sort_by not in SORT_KEYS:
            raise ValueError(f'cannot sort by "{self.sort_by}"; choose one of {", ".join(sorted(SORT_KEYS))}')
        self.start_date = _moment(self.start_date, time.min)
        self.end_date = _moment(self.end_date, time.max)

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        """Return whether one metadata dict fits all rules but sorting and paging."""
        duration = metadata.get("duration_seconds")
        return (
            (self.workflow_name is None or metadata.get("workflow_name") == self.workflow_name)
            and (self.recording_id is None or self._names(metadata))
            and (self.start_date is None or metadata["started_at"] >= self.start_date.timestamp())
            and (self.end_date is None or metadata["started_at"] <= self.end_date.timestamp())
            and (self.success is None or metadata.get("success") is self.success)
            and (self.min_duration is None or (duration is not None and duration >= self.min_duration))
            and (self.max_duration is None or (duration is not None and duration <= self.max_duration))
            and self.fits_tags(metadata.get("tags") or ())
        )

    def fits_tags(self, tags: Iterable[str]) -> bool:
        """Return whether ``tags`` hold all that are wanted, and one of those of which one is wanted."""
        found = set(tags)
        return set(self.tags or ()) <= found and (not self.any_tags or not found.isdisjoint(self.any_tags))

    def _names(self, metadata: Mapping[str, Any]) -> bool:
        known = (metadata.get("recording_id"), metadata.get("execution_id"))
        return any(name is not None and matches_id(str(name), str(self.recording_id)) for name in known)

    def select(self, recordings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return those that match, sorted and cut to the page."""
        found = [dict(metadata) for metadata in recordings if self.matches(metadata)]
        found.sort(key=lambda item: str(item.get("recording_id")))
        known = [item for item in found if item.get(self.sort_by) is not None]
        unknown = [item for item in found if item.get(self.sort_by) is None]
        try:
            known.sort(key=lambda item: item[self.sort_by], reverse=self.sort_order == "desc")
        except TypeError:
            known.sort(key=lambda item: str(item[self.sort_by]), reverse=self.sort_order == "desc")
        stop = None if self.limit is None else self.offset + self.limit
        return [*known, *unknown][self.offset : stop]


def _moment(value: date | None, edge: time) -> datetime | None:
    """Return the moment that a date means; a day begins or ends at ``edge``."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.combine(value, edge)


def matches_id(identifier: str, wanted: str) -> bool:
    """Return whether ``wanted`` is the id, with or without dashes, or a prefix of 8 characters or more."""
    plain_id, plain_wanted = identifier.replace("-", "").lower(), wanted.replace("-", "").lower()
    return plain_id == plain_wanted or (len(plain_wanted) >= SHORTEST_PREFIX and plain_id.startswith(plain_wanted))


def as_query(query: RecordingQuery | None, filters: Mapping[str, Any]) -> RecordingQuery:
    """Return one query from the two ways to ask.

    Raises:
        TypeError: both are given, or a filter does not exist.
    """
    if query is not None and filters:
        raise TypeError("give a RecordingQuery or keyword filters, not both")
    unknown = set(filters) - {item.name for item in fields(RecordingQuery)}
    if unknown:
        raise TypeError(f"unknown filter: {', '.join(sorted(unknown))}")
    return query or RecordingQuery(**filters)


def statistics(recordings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return totals over metadata dicts. A recording that never ended counts as unfinished, not as failed."""
    items = list(recordings)
    size = sum(item.get("file_size_bytes") or 0 for item in items)
    starts = [item["started_at"] for item in items]
    outcomes = Counter(item.get("success") for item in items)
    sizes: Counter[str] = Counter()
    for item in items:
        sizes[item["workflow_name"]] += item.get("file_size_bytes") or 0
    return {
        "total_recordings": len(items),
        "total_size_bytes": size,
        "total_size_mb": size / (1 << 20),
        "total_duration_seconds": sum(item.get("duration_seconds") or 0.0 for item in items),
        "success_count": outcomes[True],
        "failed_count": outcomes[False],
        "unfinished_count": outcomes[None],
        "workflow_counts": dict(Counter(item["workflow_name"] for item in items).most_common()),
        "workflow_sizes": dict(sizes),
        "oldest_recording": min(starts, default=None),
        "newest_recording": max(starts, default=None),
    }


class RecordingStorage(ABC):
    """A place for recordings. Every method exists twice: ``async``, and with ``_sync`` at its end.

    A storage of your own needs the five abstract methods.
    """

    takes_owners = True
    """Whether ``import_file`` keeps the ``user_id`` that a file names."""

    async def _call(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        return await asyncio.to_thread(function, *args, **kwargs)

    async def save(self, recorder: ExecutionRecorder, filepath: Target | None = None) -> str:
        """Keep the recording and return its id; with ``filepath`` also write that file."""
        return await self._call(self.save_sync, recorder, filepath)

    async def keep(
        self,
        metadata: RecordingMetadata,
        events: Iterable[RecordingEvent],
        snapshots: Sequence[StateSnapshot],
        workflow_id: str,
    ) -> str:
        """Keep a recording that is given in its parts and return its id; one with this id is replaced."""
        return await self._call(self.keep_sync, metadata, events, snapshots, workflow_id)

    async def load(self, recording_id: str) -> ExecutionReplayer:
        """Return a replayer.

        Raises:
            RecordingNotFound: no such recording (a ``FileNotFoundError``).
        """
        return await self._call(self.load_sync, recording_id)

    async def delete(self, recording_id: str) -> bool:
        """Remove a recording; return whether there was one."""
        return await self._call(self.delete_sync, recording_id)

    async def all(self) -> Rows:
        """Return the metadata of all recordings, in any order."""
        return await self._call(self.all_sync)

    async def list(self, query: RecordingQuery | None = None, **filters: Any) -> Rows:
        """Return metadata dicts, newest first unless the query says otherwise."""
        return await self._call(self.list_sync, query, **filters)

    async def get_metadata(self, recording_id: str) -> dict[str, Any] | None:
        """Return the metadata of one recording, or None."""
        return await self._call(self.get_metadata_sync, recording_id)

    async def get_storage_stats(self) -> dict[str, Any]:
        """Return totals."""
        return await self._call(self.get_storage_stats_sync)

    async def apply_retention_policy(self, policy: RetentionPolicy, dry_run: bool = False) -> dict[str, Any]:
        """Remove what the policy does not keep; in a dry run only say what."""
        return await self._call(self.apply_retention_policy_sync, policy, dry_run)

    async def tag(self, recording_id: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Tags:
        """Add and remove tags and return those that it has now; see ``tag_sync``."""
        return await self._call(self.tag_sync, recording_id, add, remove)

    async def export(self, recording_id: str, path: Target) -> Path:
        """Write a recording to a file; see ``export_sync``."""
        return await self._call(self.export_sync, recording_id, path)

    async def import_file(self, path: Target) -> str:
        """Keep the recording of a file and return its id; see ``import_file_sync``."""
        return await self._call(self.import_file_sync, path)

    async def iter_events(
        self, recording_id: str, after_seq: int = 0, batch: int = BATCH_EVENTS
    ) -> AsyncIterator[RecordingEvent]:
        """Iterate over the events after number ``after_seq``, reading ``batch`` of them at a time."""
        events = await self._call(self.iter_events_sync, recording_id, after_seq, batch)
        while found := await self._call(_take, events, batch):
            for event in found:
                yield event

    @abstractmethod
    def keep_sync(
        self,
        metadata: RecordingMetadata,
        events: Iterable[RecordingEvent],
        snapshots: Sequence[StateSnapshot],
        workflow_id: str,
    ) -> str:
        """Keep a recording that is given in its parts and return its id; one with this id is replaced, if it is not on legal hold.

        Sets ``checksum`` and ``file_size_bytes`` of ``metadata`` to those of what is kept.
        """

    @abstractmethod
    def load_sync(self, recording_id: str) -> ExecutionReplayer:
        """Return a replayer."""

    @abstractmethod
    def delete_sync(self, recording_id: str) -> bool:
        """Remove a recording; return whether there was one."""

    @abstractmethod
    def all_sync(self) -> Rows:
        """Return the metadata of all recordings, in any order."""

    @abstractmethod
    def tag_sync(self, recording_id: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Tags:
        """Add and remove tags and return those that it has now.

        Raises:
            RecordingNotFound: no such recording.
        """

    def save_sync(self, recorder: ExecutionRecorder, filepath: Target | None = None) -> str:
        """Keep the recording and return its id; with ``filepath`` also write that file."""
        if filepath is not None:
            recorder.save_sync(filepath)
        metadata = recorder.finalize()
        return self.keep_sync(metadata, list(recorder.events), list(recorder.snapshots), recorder.workflow_id)

    def get_metadata_sync(self, recording_id: str) -> dict[str, Any] | None:
        """Return the metadata of one recording, or None."""
        return next((row for row in self.all_sync() if row["recording_id"] == recording_id), None)

    def list_sync(self, query: RecordingQuery | None = None, **filters: Any) -> Rows:
        """Return metadata dicts, newest first unless the query says otherwise."""
        return as_query(query, filters).select(self.all_sync())

    def get_storage_stats_sync(self) -> dict[str, Any]:
        """Return totals."""
        return statistics(self.all_sync())

    def apply_retention_policy_sync(self, policy: RetentionPolicy, dry_run: bool = False) -> dict[str, Any]:
        """Remove what the policy does not keep; in a dry run only say what."""
        plan = policy.plan(self.all_sync())
        deleted = [] if dry_run else [identifier for identifier in plan.delete if self.delete_sync(identifier)]
        return plan.to_dict(deleted)

    def export_sync(self, recording_id: str, path: Target) -> Path:
        """Write a recording to a file and return its path; ``.fbrec``, ``.json.gz`` or ``.json`` by its name.

        Sealed recordings stay in bounded memory; JSON is made in memory.

        Raises:
            RecordingNotFound: no such recording.
        """
        with self.load_sync(recording_id) as replayer:
            metadata = copy_metadata(replayer.metadata)
            write_recording(Path(path), metadata, replayer.events, replayer.snapshots, workflow_of(replayer))
        return Path(path)

    def import_file_sync(self, path: Target) -> str:
        """Keep the recording of a file of any format and return its id; importing it again changes nothing.

        The file is checked first.

        Raises:
            RecordingNotFound: there is no such file.
            InvalidRecording: it is not a recording, or it is damaged.
            RecordingError: another recording has this id.
        """
        with ExecutionReplayer.load(path) as replayer:
            replayer.verify()
            metadata = copy_metadata(replayer.metadata)
            if not self.takes_owners:
                metadata.user_id = None
            known = self._same(metadata.recording_id, replayer)
            return known or self.keep_sync(metadata, replayer.events, replayer.snapshots, workflow_of(replayer))

    def _same(self, recording_id: str, replayer: ExecutionReplayer) -> str | None:
        """Return the id if these events are here already, None if the id is free."""
        try:
            mine = self.load_sync(recording_id)
        except RecordingNotFound:
            return None
        try:
            if len(mine.events) == len(replayer.events) and all(map(_equal, mine.events, replayer.events)):
                return mine.metadata.recording_id
        finally:
            mine.close()
        raise RecordingError(f"there is a recording {recording_id} with other events already; delete it first")

    def iter_events_sync(self, recording_id: str, after_seq: int = 0, batch: int = BATCH_EVENTS) -> Events:
        """Iterate over the events after number ``after_seq``, reading about ``batch`` of them at a time.

        Raises:
            RecordingNotFound: no such recording; at once, not with the first event.
            ValueError: ``batch`` is less than 1.
        """
        if batch < 1:
            raise ValueError(f"batch must be 1 or more, not {batch}")
        return _after(self.load_sync(recording_id), after_seq)


def _after(replayer: ExecutionReplayer, after_seq: int) -> Events:
    events = replayer.events
    try:
        if isinstance(events, SealedRecording):
            yield from events.iter_events(after_seq)
        else:
            yield from (event for event in events if event.seq > after_seq)
    finally:
        replayer.close()


def _take(events: Events, count: int) -> list[RecordingEvent]:
    return list(islice(events, count))


def _equal(mine: RecordingEvent, other: RecordingEvent) -> bool:
    return mine.to_dict() == other.to_dict()


def copy_metadata(metadata: RecordingMetadata) -> RecordingMetadata:
    """Return a copy that can be changed."""
    return replace(metadata, tags=list(metadata.tags), extra=dict(metadata.extra))


def workflow_of(replayer: ExecutionReplayer) -> str:
    """Return the id of the execution that a recording tells of; empty when it has no events."""
    events = replayer.events
    if isinstance(events, SealedRecording):
        return events.workflow_id
    return events[0].workflow_id if len(events) else ""


def with_tags(tags: Iterable[str], add: Iterable[str], remove: Iterable[str]) -> Tags:
    """Return ``tags`` without ``remove`` and with ``add`` at the end, each once.

    Raises:
        ValueError: a tag is empty or not text.
    """
    if isinstance(add, str) or isinstance(remove, str):
        raise ValueError("give the tags as a list, not as one text")
    new, gone = list(add), set(remove)
    given: list[Any] = [*new]
    for tag in given:
        if not isinstance(tag, str) or not tag.strip():
            raise ValueError(f"{tag!r} is not a tag: it must be text")
    return list(dict.fromkeys([*(tag for tag in tags if tag not in gone), *new]))


def changed_tags(tags: Sequence[str], add: Iterable[str], remove: Iterable[str]) -> Tags:
    """Return what becomes of the tags of a recording when somebody changes them.

    Raises:
        ValueError: a tag cannot be stored.
        TooManyTags: there would be more than ``MOST_TAGS``, and more than before.
    """
    add = add if isinstance(add, str) else list(add)
    changed = with_tags(tags, add, remove)
    for tag in add:
        if _UNSTORABLE.search(tag):
            raise ValueError(f"{tag[:100]!r} is not a tag: it has a NUL character or half of a surrogate pair")
    if len(changed) > max(MOST_TAGS, len(tags)):
        raise TooManyTags(f"a recording has at most {MOST_TAGS} tags, these would be {len(changed)}; remove some first")
    return changed


# --------------------------------------------------------------------------- memory


@dataclass(slots=True)
class _Kept:
    metadata: dict[str, Any]
    content: bytes = field(repr=False)


class InMemoryRecordingStorage(RecordingStorage):
    """Keeps recordings in this process, sealed. For tests and short-lived tools."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recordings: dict[str, _Kept] = {}

    def keep_sync(
        self,
        metadata: RecordingMetadata,
        events: Iterable[RecordingEvent],
        snapshots: Sequence[StateSnapshot],
        workflow_id: str,
    ) -> str:
        """Keep a recording that is given in its parts and return its id; one with this id is replaced."""
        buffer = io.BytesIO()
        seal_into(buffer, metadata, events, snapshots, workflow_id)
        with self._lock:
            before = self._recordings.get(metadata.recording_id)
            refuse_held(metadata.recording_id, before.metadata["tags"] if before else (), "replaced")
            self._recordings[metadata.recording_id] = _Kept(copy_json(metadata.to_dict()), buffer.getvalue())
        return metadata.recording_id

    def load_sync(self, recording_id: str) -> ExecutionReplayer:
        """Return a replayer."""
        with self._lock:
            kept = self._recordings.get(recording_id)
            metadata = None if kept is None else RecordingMetadata.from_dict(copy_json(kept.metadata))
        if kept is None or metadata is None:
            raise RecordingNotFound(f'no recording "{recording_id}" in memory')
        return ExecutionReplayer(None, metadata, SealedRecording.open(kept.content, name=recording_id))

    def delete_sync(self, recording_id: str) -> bool:
        """Remove a recording; return whether there was one."""
        with self._lock:
            kept = self._recordings.get(recording_id)
            refuse_held(recording_id, kept.metadata["tags"] if kept else ())
            return self._recordings.pop(recording_id, None) is not None

    def get_metadata_sync(self, recording_id: str) -> dict[str, Any] | None:
        """Return the metadata of one recording, or None."""
        with self._lock:
            kept = self._recordings.get(recording_id)
            return None if kept is None else copy_json(kept.metadata)

    def all_sync(self) -> Rows:
        """Return the metadata of all recordings, in any order."""
        with self._lock:
            return [copy_json(kept.metadata) for kept in self._recordings.values()]

    def tag_sync(self, recording_id: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Tags:
        """Add and remove tags and return those that it has now."""
        with self._lock:
            kept = self._recordings.get(recording_id)
            if kept is None:
                raise RecordingNotFound(f'no recording "{recording_id}" in memory')
            kept.metadata["tags"] = changed_tags(kept.metadata["tags"], add, remove)
            return list(kept.metadata["tags"])

    def clear(self) -> None:
        """Remove all recordings."""
        with self._lock:
            self._recordings.clear()


# --------------------------------------------------------------------------- files


class FileRecordingStorage(RecordingStorage):
    """Keeps one file per recording in a directory, and an index that can be rebuilt from them.

    With a ``base_path`` whose last part is ``recordings`` the files are directly in it and ``index.json``
    in its parent; otherwise they are in ``<base>/recordings`` and the index is in ``<base>``. Where another program
    has an ``index.json`` there, that stays and the index is ``.index.json`` beside the recordings. Several
    processes may use one directory.
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str] = "./recordings",
        compress: bool = True,
        auto_create_dir: bool = True,
    ) -> None:
        self.base_path = Path(base_path)
        self.compress = compress
        self.auto_create_dir = auto_create_dir
        direct = self.base_path.name == "recordings"
        self.recordings_dir = self.base_path if direct else self.base_path / "recordings"
        self.index_file = (self.base_path.parent if direct else self.base_path) / "index.json"
        if _is_foreign(self.index_file):
            self.index_file = self.recordings_dir / ".index.json"
        if auto_create_dir:
            self.recordings_dir.mkdir(parents=True, exist_ok=True)

    def save_sync(self, recorder: ExecutionRecorder, filepath: Target | None = None) -> str:
        """Keep the recording, under ``filepath`` if one is given, and return its id."""
        if filepath is None:
            metadata = recorder.finalize()
            return self.keep_sync(metadata, list(recorder.events), list(recorder.snapshots), recorder.workflow_id)
        self._refuse_replacing(recorder.metadata.recording_id)
        metadata = recorder.save_sync(filepath)
        self._enter(metadata, recorder.path or Path(filepath))
        return metadata.recording_id

    def keep_sync(
        self,
        metadata: RecordingMetadata,
        events: Iterable[RecordingEvent],
        snapshots: Sequence[StateSnapshot],
        workflow_id: str,
    ) -> str:
        """Keep a recording that is given in its parts and return its id; one with this id is replaced, if it is not on legal hold.

        Written as gzip or plain JSON, as ``compress`` says; events of a sealed recording stay sealed.

        Raises:
            InvalidRecording: its id cannot be the name of a file.
        """
        identifier = metadata.recording_id
        if not _SAFE_ID.fullmatch(identifier):
            raise InvalidRecording(f'"{identifier[:80]}" cannot be an id here: use letters, digits, "-" and "_"')
        self._refuse_replacing(identifier)
        suffix = ".json.gz" if self.compress else ".json"
        path = self.recordings_dir / f"{identifier}{SUFFIX if isinstance(events, SealedRecording) else suffix}"
        write_recording(path, metadata, events, snapshots, workflow_id)
        self._enter(metadata, path)
        for other in self._own_paths(identifier):
            if other != path:
                other.unlink(missing_ok=True)
        return identifier

    def _refuse_replacing(self, recording_id: str) -> None:
        """Raise if the recording with this id is on legal hold. One that is new costs a look at the index."""
        known = self._read_index().get(recording_id)
        if known is None:
            there = (path for path in self._own_paths(recording_id) if path.is_file())
            known = next(filter(None, map(_described, there)), {})
        refuse_held(recording_id, known.get("tags"), "replaced")

    def _enter(self, metadata: RecordingMetadata, path: Path) -> None:
        with self._changed_index() as index:
            index[metadata.recording_id] = {**metadata.to_dict(), "filepath": str(path.absolute())}

    def tag_sync(self, recording_id: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Tags:
        """Add and remove tags and return those that it has now. The file is written anew."""
        with self._changed_index() as index:
            path = self._path(recording_id)
            if path is None:
                raise RecordingNotFound(f'no recording "{recording_id}" in {self.recordings_dir}')
            replayer = ExecutionReplayer.load(path)
            try:
                metadata = replayer.metadata
                tags = changed_tags(metadata.tags, add, remove)
                if tags != metadata.tags:
                    metadata.tags = tags
                    write_recording(path, metadata, replayer.events, replayer.snapshots, workflow_of(replayer))
            finally:
                replayer.close()
            index[recording_id] = {**metadata.to_dict(), "filepath": str(path.absolute())}
        return list(tags)

    def load_sync(self, recording_id: str) -> ExecutionReplayer:
        """Return a replayer."""
        path = self._path(recording_id)
        if path is None:
            raise RecordingNotFound(f'no recording "{recording_id}" in {self.recordings_dir}')
        return ExecutionReplayer.load(path)

    def delete_sync(self, recording_id: str) -> bool:
        """Remove a recording; return whether there was one."""
        path = self._path(recording_id)
        with self._changed_index() as index:
            refuse_held(recording_id, index.get(recording_id, {}).get("tags"))
            known = index.pop(recording_id, None) is not None
        for found in (*([path] if path is not None else ()), *self._own_paths(recording_id)):
            found.unlink(missing_ok=True)
        return known or path is not None

    def get_metadata_sync(self, recording_id: str) -> dict[str, Any] | None:
        """Return the metadata of one recording, or None."""
        path = self._path(recording_id)
        if path is None:
            return None
        entry = self._index().get(recording_id)
        return _describe(path) if entry is None else entry

    def rebuild_index(self) -> int:
        """Make the index anew from the files and return how many recordings it has."""
        with self._locked():
            found = [entry for path in self._files() if (entry := _described(path)) is not None]
            self._write_index({entry["recording_id"]: entry for entry in found})
        return len(found)

    async def cleanup_empty_files(self) -> int:
        """Remove what cannot be read any more; see ``cleanup_empty_files_sync``."""
        return await self._call(self.cleanup_empty_files_sync)

    def cleanup_empty_files_sync(self) -> int:
        """Remove files of which nothing can be read, and entries without a file; return how many.

        A file that somebody still writes stays, and so does one that was cut short but has whole events:
        ``SealedRecording.recover`` reads them.
        """
        with self._locked():
            index = self._read_index()
            paths = {Path(entry["filepath"]) for entry in index.values()} | {path.absolute() for path in self._files()}
            bad = {path for path in paths if _remove_if_useless(path)}
            self._write_index({key: item for key, item in index.items() if Path(item["filepath"]) not in bad})
        return len(bad)

    def _path(self, recording_id: str) -> Path | None:
        if not _SAFE_ID.fullmatch(recording_id):
            return None
        entry = self._index().get(recording_id)
        names = [] if entry is None else [Path(entry["filepath"])]
        return next((path for path in [*names, *self._own_paths(recording_id)] if path.is_file()), None)

    def _own_paths(self, recording_id: str) -> list[Path]:
        """Return where this storage may have put a recording."""
        if not _SAFE_ID.fullmatch(recording_id):
            return []
        return [self.recordings_dir / f"{recording_id}{suffix}" for suffix in (".json.gz", ".json", SUFFIX)]

    def all_sync(self) -> Rows:
        """Return the metadata of all recordings, in any order."""
        return list(self._index().values())

    def _files(self) -> list[Path]:
        if not self.recordings_dir.is_dir():
            return []
        endings = (".json", ".json.gz", SUFFIX)
        return sorted(
            path
            for path in self.recordings_dir.iterdir()
            if path.name.endswith(endings) and not path.name.startswith(".") and path != self.index_file
        )

    def _index(self) -> dict[str, dict[str, Any]]:
        """Return what the index says of the files that are there, and what the others say themselves."""
        known = {key: entry for key, entry in self._read_index().items() if Path(entry["filepath"]).is_file()}
        paths = {entry["filepath"] for entry in known.values()}
        for path in self._files():
            if str(path.absolute()) not in paths and (entry := _described(path)) is not None:
                known.setdefault(entry["recording_id"], entry)
        return known

    def _read_index(self) -> dict[str, dict[str, Any]]:
        try:
            content = decode_json(self.index_file.read_bytes())
            found: dict[str, dict[str, Any]] = content["recordings"]
            for entry in found.values():
                Path(entry["filepath"]), RecordingMetadata.from_dict(entry)
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
            return {}
        return found

    @contextmanager
    def _changed_index(self) -> Iterator[dict[str, dict[str, Any]]]:
        with self._locked():
            index = self._index()
            yield index
            self._write_index(index)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.index_file.parent.mkdir(parents=True, exist_ok=True)
        with (self.index_file.parent / ".index.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write_index(self, index: dict[str, dict[str, Any]]) -> None:
        moment = datetime.now(UTC).isoformat()
        content = encode_json({"recordings": index, "last_updated": moment})
        atomic_write(self.index_file, lambda file: file.write(content))


def _is_foreign(path: Path) -> bool:
    """Return whether somebody else's JSON is where an index would be; what is no JSON may be a damaged index."""
    try:
        content = decode_json(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return not isinstance(content, dict) or "recordings" not in content


def _describe(path: Path) -> dict[str, Any]:
    return {**ExecutionReplayer.load(path).metadata.to_dict(), "filepath": str(path.absolute())}


def _described(path: Path) -> dict[str, Any] | None:
    try:
        return _describe(path)
    except (RecordingError, OSError):
        return None


def _remove_if_useless(path: Path) -> bool:
    """Remove a file of which nothing can be read, unless it is being written; return whether it is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who begins the same file now waits, and looks again
            if _has_events(path):
                return False
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return True


def _has_events(path: Path) -> bool:
    try:
        with ExecutionReplayer.load(path) as replayer:
            replayer.verify()
        return True
    except InvalidRecording:
        return is_sealed(path) and _can_be_recovered(path)


def _can_be_recovered(path: Path) -> bool:
    try:
        with SealedRecording.recover(path) as left:
            return len(left) > 0
    except InvalidRecording:
        return False
