"""Event rows become a sealed file, and go once it is there."""

from __future__ import annotations

import hashlib
import logging
import math
import tempfile
from datetime import datetime
from typing import IO, Any
from uuid import UUID

from django.db import transaction
from django.db.models import Max, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from recordings.blobs import read_blob, refer, write_early
from recordings.columns import columns_of, details_of, metadata_of
from recordings.errors import RecordingError
from recordings.events import RecordingEventType, RecordingMetadata, decode_json, encode_json
from recordings.finding import workflow_of_rows
from recordings.frames import VERSION
from recordings.models import Event, Recording
from recordings.patience import is_over
from recordings.rows import PAGE_EVENTS, load_rows, open_sealed
from recordings.sealed import SealedWriter
from recordings.storage import copy_metadata, with_tags
from recordings.writing import snapshot_of

logger = logging.getLogger(__name__)

SEALED_TYPE = "application/x-flowbuilder-recording"


PURGE_ROWS = 5_000


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
        return keep_sealed(recording, file, writer.size_bytes, checksum, values)


def keep_sealed(recording: Recording, file: IO[bytes], size: int, checksum: str, values: dict[str, Any]) -> bool:
    file.flush()
    file.seek(0)
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    write_early(sha256, file)
    with transaction.atomic():
        refer(sha256, file, size, SEALED_TYPE, recording.run_id)
        won = Recording.objects.filter(pk=recording.pk, sealed="").update(
            sealed=sha256, sealed_at=timezone.now(), checksum=checksum, file_size_bytes=size, **values
        )
        if not won:
            transaction.set_rollback(True)
    return bool(won)


def abandoned(before: datetime) -> QuerySet[Recording]:
    """Return the recordings of programs that neither finished them nor wrote anything since a moment."""
    open_ones = Recording.objects.filter(execution_id=None, sealed="", completed_at=None)
    quiet: QuerySet[Recording] = open_ones.annotate(last=Coalesce("written_at", "started_at")).filter(last__lt=before)
    return quiet


def finish_abandoned(before: datetime, until: float = math.inf) -> int:
    """Finish what ``abandoned`` finds as interrupted, until a time of the monotonic clock; return how many."""
    finished = 0
    for key in abandoned(before).order_by("started_at").values_list("pk", flat=True):
        if is_over(until):
            break
        try:
            finish_rows(key, None, quiet_since=before)
            finished += 1
        except Exception:  # one bad recording must not hold up the others
            logger.exception("recording %s, which nobody writes any more, was not finished", key)
    return finished


def finish_rows(key: UUID, metadata: RecordingMetadata | None, *, quiet_since: datetime | None = None) -> str:
    """Make the rows of a ``RowWriter`` a finished recording, seal it and return its checksum.

    With ``quiet_since`` only if nothing was written since then.

    Raises:
        RecordingError: there is no such recording any more.
    """
    rows = Recording.objects.all() if quiet_since is None else abandoned(quiet_since)
    with transaction.atomic():
        recording = rows.select_for_update().filter(pk=key, sealed="", completed_at=None).first()
        if recording is None:
            raise RecordingError(f"recording {key} was removed or finished while its events were written")
        ended = copy_metadata(metadata) if metadata is not None else _ended_as_rows_say(recording)
        ended.event_count = recording.event_count
        ended.tags = with_tags(recording.tags or [], ended.tags, ())
        ended.completed_at = ended.completed_at or timezone.now().timestamp()
        for name, value in (columns_of(ended) | {"user_id": recording.user_id}).items():
            setattr(recording, name, value)
        recording.written_at = None
        recording.details = details_of(recording, ended)
        recording.save()
    seal(recording)
    recording.refresh_from_db()
    return str(recording.checksum)


def _ended_as_rows_say(recording: Recording) -> RecordingMetadata:
    """Return the metadata of a recording whose writer does not say how the run ended."""
    metadata = metadata_of(recording)
    metadata.status = "interrupted"
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
