"""Recordings in the database: the storage of the product, with the same face as those of files and memory."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import or_
from typing import Any, ParamSpec, TypeVar
from uuid import NAMESPACE_OID, UUID, uuid5

from asgiref.sync import sync_to_async
from django.db import IntegrityError, transaction
from django.db.models import Count, F, Max, Min, Q, QuerySet, Sum
from django.utils import timezone

from recordings.columns import columns_of, details_of, metadata_of, storable
from recordings.errors import RecordingError, RecordingNotFound
from recordings.events import RecordingEvent, RecordingMetadata, StateSnapshot, decode_json
from recordings.finding import replayer_of
from recordings.models import Event, Recording
from recordings.packing import finish_rows, keep_sealed
from recordings.recorder import seal_into
from recordings.removing import apply_policy, delete_recording, workflow_sizes
from recordings.replayer import ExecutionReplayer
from recordings.retention import RetentionPolicy, refuse_held
from recordings.rows import iter_events
from recordings.storage import (
    BATCH_EVENTS,
    SHORTEST_PREFIX,
    Events,
    RecordingQuery,
    RecordingStorage,
    Rows,
    Tags,
    as_query,
    changed_tags,
    copy_metadata,
)
from recordings.writing import FLUSH_SECONDS, RowWriter

Arguments = ParamSpec("Arguments")


Result = TypeVar("Result")


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


def _key_of(recording_id: str) -> UUID:
    try:
        return UUID(recording_id)
    except ValueError:
        return uuid5(NAMESPACE_OID, f"recording:{recording_id}")


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
        """Keep a recording, sealed, that is given in its parts and return its id; one with this id is replaced, if it is not on legal hold.

        An id that is no UUID becomes one, the same for the same id.

        Raises:
            RecordingError: the recording with this id is somebody else's, or that of an execution here.
        """
        recording = Recording(pk=_key_of(metadata.recording_id), **columns_of(metadata))
        if self.user is not None:
            recording.user_id = self.user.pk
        with tempfile.TemporaryFile() as file:
            seal_into(file, metadata, events, snapshots, workflow_id)
            recording.details = details_of(recording, metadata)
            with transaction.atomic():
                before = Recording.objects.select_for_update().filter(pk=recording.pk).first()
                if before is not None and (before.execution_id or not self._rows().filter(pk=before.pk).exists()):
                    raise RecordingError(f"there is another recording {recording.pk} already; it was left as it is")
                refuse_held(recording.pk, before.tags if before else (), "replaced")
                Event.objects.filter(execution_id=recording.pk).delete()
                recording.save(force_insert=before is None, force_update=before is not None)
                keep_sealed(recording, file, metadata.file_size_bytes or 0, metadata.checksum or "", {})
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
        return RowWriter(partial(self._begin, execution), finish_rows, flush_seconds=flush_seconds)

    def _begin(self, execution: RecordingMetadata | str) -> tuple[UUID, int]:
        if isinstance(execution, str):
            return self._go_on(execution)
        key = _key_of(execution.recording_id)
        begun = replace(copy_metadata(execution), completed_at=None, duration_seconds=None, success=None)
        recording = Recording(pk=key, written_at=timezone.now(), **columns_of(begun))
        if self.user is not None:
            recording.user_id = self.user.pk
        recording.details = details_of(recording, begun)
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
        Recording.objects.filter(pk=recording.pk).update(written_at=timezone.now())
        return recording.pk, recording.event_count

    def tag_sync(self, recording_id: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Tags:
        """Add and remove tags and return those that it has now."""
        with transaction.atomic():
            recording = self._find(recording_id, lock=True)
            if recording is None:
                raise RecordingNotFound(f'no recording "{recording_id}" in the database')
            recording.tags = changed_tags(recording.tags or [], add, remove)
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
            rows = rows.filter(tags__has_element=storable(tag))
        if query.any_tags:
            rows = rows.filter(reduce(or_, (Q(tags__has_element=storable(tag)) for tag in query.any_tags)))
        return rows

    def all_sync(self) -> Rows:
        """Return the metadata of all recordings, in any order."""
        return [metadata_of(row).to_dict() for row in self._rows().iterator(500)]
