"""Recordings removed by hand or by a policy, with the blobs that nobody else needs."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import Coalesce, Length
from django.utils import timezone

from recordings import sources
from recordings.blobs import drop_references, remove_blobs
from recordings.models import Event, NotRecorded, Recording
from recordings.packing import PURGE_ROWS
from recordings.retention import RetentionPolicy, refuse_held

logger = logging.getLogger(__name__)

REMOVED_BY_HAND = "its recording was removed by hand"


REMOVED_BY_RETENTION = "its recording was removed by retention"


ROW_BYTES = 60
"""About what an event row takes beside its data."""


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
    needed = set(sources.OUTPUTS_NEEDED(execution_ids)) if sources.OUTPUTS_NEEDED is not None else set()
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
        if sources.RELEASE_OUTPUTS is not None:
            sources.RELEASE_OUTPUTS(execution_id)
        names = drop_references(execution_id)
        row.update(events_removed_at=timezone.now())
    return names
