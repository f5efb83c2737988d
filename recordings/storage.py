"""Where recordings are kept: files or memory here, the database in ``recordings.database``."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec

from recordings.errors import InvalidRecording, RecordingError, RecordingNotFound
from recordings.events import decode_json, encode_json
from recordings.export import atomic_write
from recordings.recorder import ExecutionRecorder
from recordings.replayer import ExecutionReplayer
from recordings.retention import RetentionPolicy
from recordings.sealed import SUFFIX, SealedRecording, write_sealed

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

Rows = list[dict[str, Any]]

SHORTEST_PREFIX = 8
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

    Dates and durations are inclusive; a naive date is in the local zone (in Django: ``TIME_ZONE``).
    ``recording_id`` may be a prefix of 8 characters or more. A recording must have all ``tags``. Values
    that are not known sort last in both directions and match no minimum or maximum.
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

    def __post_init__(self) -> None:
        """Check the values that have a fixed choice.

        Raises:
            ValueError: ``sort_order``, ``limit`` or ``offset`` is out of range.
        """
        if self.sort_order not in ("asc", "desc"):
            raise ValueError(f'sort_order is "{self.sort_order}"; it must be "asc" or "desc"')
        if self.offset < 0 or (self.limit is not None and self.limit < 0):
            raise ValueError("limit and offset must not be negative")
        self.sort_by = SORT_ALIASES.get(self.sort_by, self.sort_by)

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        """Return whether one metadata dict fits all rules but sorting and paging."""
        duration = metadata.get("duration_seconds")
        return (
            (self.workflow_name is None or metadata.get("workflow_name") == self.workflow_name)
            and (self.recording_id is None or matches_id(str(metadata.get("recording_id")), self.recording_id))
            and (self.start_date is None or metadata["started_at"] >= self.start_date.timestamp())
            and (self.end_date is None or metadata["started_at"] <= self.end_date.timestamp())
            and (self.success is None or metadata.get("success") is self.success)
            and (self.min_duration is None or (duration is not None and duration >= self.min_duration))
            and (self.max_duration is None or (duration is not None and duration <= self.max_duration))
            and (not self.tags or set(self.tags) <= set(metadata.get("tags") or ()))
        )

    def select(self, recordings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return those that match, sorted and cut to the page."""
        found = [dict(metadata) for metadata in recordings if self.matches(metadata)]
        known = [item for item in found if item.get(self.sort_by) is not None]
        unknown = [item for item in found if item.get(self.sort_by) is None]
        try:
            known.sort(key=lambda item: item[self.sort_by], reverse=self.sort_order == "desc")
        except TypeError:
            known.sort(key=lambda item: str(item[self.sort_by]), reverse=self.sort_order == "desc")
        stop = None if self.limit is None else self.offset + self.limit
        return [*known, *unknown][self.offset : stop]


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
    return {
        "total_recordings": len(items),
        "total_size_bytes": size,
        "total_size_mb": size / (1 << 20),
        "total_duration_seconds": sum(item.get("duration_seconds") or 0.0 for item in items),
        "success_count": outcomes[True],
        "failed_count": outcomes[False],
        "unfinished_count": outcomes[None],
        "workflow_counts": dict(Counter(item["workflow_name"] for item in items).most_common()),
        "oldest_recording": min(starts, default=None),
        "newest_recording": max(starts, default=None),
    }


class RecordingStorage(ABC):
    """A place for recordings. Every method exists twice: ``async``, and with ``_sync`` at its end."""

    async def _call(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        return await asyncio.to_thread(function, *args, **kwargs)

    async def save(self, recorder: ExecutionRecorder, filepath: str | os.PathLike[str] | None = None) -> str:
        """Keep the recording and return its id."""
        return await self._call(self.save_sync, recorder, filepath)

    async def load(self, recording_id: str) -> ExecutionReplayer:
        """Return a replayer.

        Raises:
            RecordingNotFound: no such recording (a ``FileNotFoundError``).
        """
        return await self._call(self.load_sync, recording_id)

    async def delete(self, recording_id: str) -> bool:
        """Remove a recording; return whether there was one."""
        return await self._call(self.delete_sync, recording_id)

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

    @abstractmethod
    def save_sync(self, recorder: ExecutionRecorder, filepath: str | os.PathLike[str] | None = None) -> str:
        """Keep the recording and return its id."""

    @abstractmethod
    def load_sync(self, recording_id: str) -> ExecutionReplayer:
        """Return a replayer."""

    @abstractmethod
    def delete_sync(self, recording_id: str) -> bool:
        """Remove a recording; return whether there was one."""

    @abstractmethod
    def get_metadata_sync(self, recording_id: str) -> dict[str, Any] | None:
        """Return the metadata of one recording, or None."""

    @abstractmethod
    def _all(self) -> Rows:
        """Return the metadata of all recordings."""

    def list_sync(self, query: RecordingQuery | None = None, **filters: Any) -> Rows:
        """Return metadata dicts, newest first unless the query says otherwise."""
        return as_query(query, filters).select(self._all())

    def get_storage_stats_sync(self) -> dict[str, Any]:
        """Return totals."""
        return statistics(self._all())

    def apply_retention_policy_sync(self, policy: RetentionPolicy, dry_run: bool = False) -> dict[str, Any]:
        """Remove what the policy does not keep; in a dry run only say what."""
        plan = policy.plan(self._all())
        deleted = [] if dry_run else [identifier for identifier in plan.delete if self.delete_sync(identifier)]
        return plan.to_dict(deleted)


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

    def save_sync(self, recorder: ExecutionRecorder, filepath: str | os.PathLike[str] | None = None) -> str:
        """Keep the recording and return its id; with ``filepath`` also write that file."""
        if filepath is not None:
            recorder.save_sync(filepath)
        metadata, buffer = recorder.finalize(), io.BytesIO()
        metadata.checksum = write_sealed(
            buffer, metadata, list(recorder.events), list(recorder.snapshots), workflow_id=recorder.workflow_id
        )
        metadata.file_size_bytes = buffer.tell()
        with self._lock:
            self._recordings[metadata.recording_id] = _Kept(metadata.to_dict(), buffer.getvalue())
        return metadata.recording_id

    def load_sync(self, recording_id: str) -> ExecutionReplayer:
        """Return a replayer."""
        kept = self._recordings.get(recording_id)
        if kept is None:
            raise RecordingNotFound(f'no recording "{recording_id}" in memory')
        return ExecutionReplayer.from_sealed(SealedRecording.open(kept.content, name=recording_id))

    def delete_sync(self, recording_id: str) -> bool:
        """Remove a recording; return whether there was one."""
        with self._lock:
            return self._recordings.pop(recording_id, None) is not None

    def get_metadata_sync(self, recording_id: str) -> dict[str, Any] | None:
        """Return the metadata of one recording, or None."""
        kept = self._recordings.get(recording_id)
        return None if kept is None else dict(kept.metadata)

    def clear(self) -> None:
        """Remove all recordings."""
        with self._lock:
            self._recordings.clear()

    def _all(self) -> Rows:
        with self._lock:
            return [dict(kept.metadata) for kept in self._recordings.values()]


# --------------------------------------------------------------------------- files


class FileRecordingStorage(RecordingStorage):
    """Keeps one file per recording in a directory, and an index that can be rebuilt from them.

    With a ``base_path`` whose last part is ``recordings`` the files are directly in it and ``index.json``
    in its parent; otherwise they are in ``<base>/recordings`` and the index is in ``<base>``. Several
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
        if auto_create_dir:
            self.recordings_dir.mkdir(parents=True, exist_ok=True)

    def save_sync(self, recorder: ExecutionRecorder, filepath: str | os.PathLike[str] | None = None) -> str:
        """Keep the recording, under ``filepath`` if one is given, and return its id."""
        identifier = recorder.metadata.recording_id
        suffix = ".json.gz" if self.compress else ".json"
        target = self.recordings_dir / f"{identifier}{suffix}" if filepath is None else Path(filepath)
        metadata = recorder.save_sync(target)
        path = recorder.path or target
        with self._changed_index() as index:
            index[identifier] = {**metadata.to_dict(), "filepath": str(path.absolute())}
        return identifier

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
            known = index.pop(recording_id, None) is not None
        if path is not None:
            path.unlink(missing_ok=True)
        return known or path is not None

    def get_metadata_sync(self, recording_id: str) -> dict[str, Any] | None:
        """Return the metadata of one recording, or None."""
        found = self._index().get(recording_id)
        if found is not None:
            return found
        path = self._path(recording_id)
        return None if path is None else _describe(path)

    def rebuild_index(self) -> int:
        """Make the index anew from the files and return how many recordings it has."""
        with self._locked():
            index = self._scan()
            self._write_index(index)
        return len(index)

    async def cleanup_empty_files(self) -> int:
        """Remove what cannot be read any more; see ``cleanup_empty_files_sync``."""
        return await self._call(self.cleanup_empty_files_sync)

    def cleanup_empty_files_sync(self) -> int:
        """Remove files that are empty or damaged, and entries without a file; return how many."""
        removed = 0
        with self._changed_index() as index:
            for identifier, entry in list(index.items()):
                path = Path(entry["filepath"])
                if not _readable(path):
                    path.unlink(missing_ok=True)
                    del index[identifier]
                    removed += 1
            known = {entry["filepath"] for entry in index.values()}
            for path in self._files():
                if str(path.absolute()) not in known and not _readable(path):
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _path(self, recording_id: str) -> Path | None:
        if not recording_id.replace("-", "").replace("_", "").isalnum():
            return None
        entry = self._index().get(recording_id)
        names = [] if entry is None else [Path(entry["filepath"])]
        names += [self.recordings_dir / f"{recording_id}{suffix}" for suffix in (".json.gz", ".json", SUFFIX)]
        return next((path for path in names if path.is_file()), None)

    def _all(self) -> Rows:
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
        """Return the index; without a readable one, what the files say."""
        try:
            content = decode_json(self.index_file.read_bytes())
            found: dict[str, dict[str, Any]] = content["recordings"]
            if all("filepath" in entry and "started_at" in entry for entry in found.values()):
                return found
        except (OSError, msgspec.DecodeError, KeyError, TypeError, AttributeError):
            pass
        return self._scan()

    def _scan(self) -> dict[str, dict[str, Any]]:
        found = {}
        for path in self._files():
            try:
                entry = _describe(path)
            except (RecordingError, OSError):
                continue
            found[entry["recording_id"]] = entry
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


def _describe(path: Path) -> dict[str, Any]:
    return {**ExecutionReplayer.load(path).metadata.to_dict(), "filepath": str(path.absolute())}


def _readable(path: Path) -> bool:
    try:
        ExecutionReplayer.load(path).verify()
    except (InvalidRecording, RecordingNotFound):
        return False
    return True
