"""Recordings removed by hand or by a policy, with the blobs that nobody else needs."""

from __future__ import annotations

import logging
import math
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
from recordings.patience import is_over
from recordings.retention import HOLD_TAG, RetentionPolicy, refuse_held

logger = logging.getLogger(__name__)

REMOVED_BY_HAND = "its recording was removed by hand"


REMOVED_BY_RETENTION = "its recording was removed by retention"


ROW_BYTES = 60
"""About what an event row takes beside its data."""


TOGETHER = 100
"""How many recordings are removed in one transaction; their files go while nobody else can write to SQLite."""


_RUN = Coalesce("execution_id", "pk")


def apply_policy(
    rows: QuerySet[Recording], policy: RetentionPolicy, *, dry_run: bool = False, until: float = math.inf
) -> dict[str, Any]:
    """Remove what ``policy`` does not keep of ``rows``, until a time of the monotonic clock; in a dry run only say what.

    Returns the answer of ``apply_retention_policy``. Needs about half a kilobyte of memory per recording.
    """
    plan = policy.plan(_measured(rows))
    deleted: list[str] = []
    for start in range(0, 0 if dry_run else len(plan.delete), TOGETHER):
        if is_over(until):
            break
        deleted += _delete_planned(plan.delete[start : start + TOGETHER])
    return plan.to_dict(deleted)


def _delete_planned(identifiers: Sequence[str]) -> list[str]:
    try:
        return _deleted(identifiers)
    except Exception:  # one bad recording must not hold up the others
        if len(identifiers) > 1:
            return [found for identifier in identifiers for found in _delete_planned([identifier])]
        logger.exception("recording %s was not removed", identifiers[0])
        return []


def _deleted(identifiers: Sequence[str]) -> list[str]:
    gone = set(delete_recordings([UUID(identifier) for identifier in identifiers], REMOVED_BY_RETENTION))
    return [identifier for identifier in identifiers if UUID(identifier) in gone]


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
    if delete_recordings([recording.pk], reason):
        return True
    tags = Recording.objects.filter(pk=recording.pk).values_list("tags", flat=True).first()
    refuse_held(recording.pk, tags)
    return False


def delete_recordings(keys: Sequence[UUID], reason: str) -> list[UUID]:
    """Remove recordings in one transaction, those on legal hold excepted; return which this call removed.

    Their events and blobs follow in further ones; what a crash leaves of them is found by the nightly job.
    """
    with transaction.atomic():
        locked = Recording.objects.select_for_update().filter(pk__in=keys).order_by("pk")
        rows = [row for row in locked if HOLD_TAG not in (row.tags or ())]
        gone = [row.pk for row in rows]
        programs = [row.pk for row in rows if row.execution_id is None]
        Event.objects.filter(execution_id__in=programs).delete()
        names = drop_references(programs)
        reasons = [
            NotRecorded(execution_id=row.execution_id, reason=reason, ended_at=row.completed_at or timezone.now())
            for row in rows
            if row.execution_id is not None
        ]
        columns = ("reason", "ended_at", "events_removed_at", "recording")
        NotRecorded.objects.bulk_create(
            reasons, update_conflicts=True, unique_fields=("execution_id",), update_fields=columns
        )
        Recording.objects.filter(pk__in=gone).delete()
    if names:
        remove_blobs(names)
    remove_leftovers([row.pk for row in reasons])
    return gone


def remove_leftovers(execution_ids: Sequence[UUID], limit: float = math.inf) -> int:
    """Remove events and blobs of executions without recording, at most about ``limit`` events; return how many.

    What a running execution may still read stays for another time. A crash at any point leaves the rest for
    the next call.
    """
    needed = set(sources.OUTPUTS_NEEDED(execution_ids)) if sources.OUTPUTS_NEEDED is not None else set()
    free = [key for key in execution_ids if key not in needed]
    removed = 0
    for start in range(0, len(free), TOGETHER):
        if removed >= limit:
            break
        due = NotRecorded.objects.filter(pk__in=free[start : start + TOGETHER], events_removed_at=None)
        due.update(recording="")  # from now on none of them can be kept; what was kept a moment ago is not among them
        keys = list(due.values_list("pk", flat=True))
        rows = Event.objects.filter(execution_id__in=keys).order_by("execution_id", "seq")
        while removed < limit and (batch := list(rows.values_list("pk", flat=True)[:PURGE_ROWS])):
            removed += Event.objects.filter(pk__in=batch).delete()[0]
        if removed < limit or not rows.exists():
            remove_blobs(_tick_off(keys))
    return removed


def _tick_off(execution_ids: Sequence[UUID]) -> list[str]:
    with transaction.atomic():
        rows = NotRecorded.objects.select_for_update().filter(pk__in=execution_ids, events_removed_at=None)
        keys = [row.pk for row in rows.order_by("pk")]
        if sources.RELEASE_OUTPUTS is not None:
            sources.RELEASE_OUTPUTS(keys)
        names = drop_references(keys)
        NotRecorded.objects.filter(pk__in=keys).update(events_removed_at=timezone.now())
    return names
