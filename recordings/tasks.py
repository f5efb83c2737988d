"""Periodic work on recordings: seal what has ended, remove rows that are sealed, let old ones go."""

from __future__ import annotations

import logging
import random
import time
from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from recordings.blobs import sweep_blobs
from recordings.keeping import apply_retention, grace_began, purge_unrecorded
from recordings.models import Recording
from recordings.packing import finish_abandoned, purge_rows, seal
from recordings.patience import is_over

logger = logging.getLogger(__name__)

SEAL_SECONDS = 12.0
"""Less than its period, or the next one packs the same recordings beside it."""
SEAL_RECORDINGS = 500
PURGE_RECORDINGS = 200
PURGE_ROWS = 50_000
PURGE_SECONDS = 60.0
RETENTION_SECONDS = 300.0
ABANDONED = timedelta(days=1)
"""A program that wrote nothing for so long was killed, or hangs: its recording is finished as interrupted."""


@shared_task(name="recordings.seal")
def seal_finished() -> int:
    """Seal recordings of ended executions, the oldest first, for up to twelve seconds; return how many.

    Where two of these run at once, as two beats send two, each takes them in an order of its own and leaves out what
    the other has sealed.
    """
    sealed, deadline = 0, time.monotonic() + SEAL_SECONDS
    waiting = Recording.objects.filter(sealed="", completed_at__isnull=False)
    oldest = list(waiting.order_by("completed_at").values_list("pk", flat=True)[:SEAL_RECORDINGS])
    random.shuffle(oldest)
    for key in oldest:
        if is_over(deadline):
            break
        recording = waiting.filter(pk=key).first()
        if recording is None:
            continue
        try:
            sealed += seal(recording)
        except Exception:  # one bad recording must not hold up the others
            logger.exception("recording %s of execution %s was not sealed", recording.pk, recording.execution_id)
    return sealed


@shared_task(name="recordings.purge_events")
def purge_events() -> int:
    """Remove event rows that were sealed long enough ago, or whose execution is not kept; return how many rows."""
    before, deadline = grace_began(), time.monotonic() + PURGE_SECONDS
    due = Recording.objects.filter(sealed_at__lt=before, events_removed_at=None).exclude(sealed="")
    removed = 0
    for recording in due.order_by("sealed_at")[:PURGE_RECORDINGS]:
        if removed >= PURGE_ROWS or is_over(deadline):
            break
        try:
            removed += purge_rows(recording, PURGE_ROWS - removed)
        except Exception:  # one bad recording must not hold up the others
            logger.exception("event rows of recording %s were not removed", recording.pk)
    return removed + purge_unrecorded(before, PURGE_ROWS, deadline)


@shared_task(name="recordings.retention")
def retention() -> int:
    """Remove what the settings do not keep, and what crashes left behind, for up to eleven minutes; return how many.

    Recordings that killed programs left open are finished first.
    """
    now = timezone.now()
    finish_abandoned(now - ABANDONED, time.monotonic() + PURGE_SECONDS)
    result = apply_retention(until=time.monotonic() + RETENTION_SECONDS)
    logger.info("retention: %s", {key: value for key, value in result.items() if not key.endswith("_ids")})
    sweep_blobs(now - timedelta(days=1), time.monotonic() + RETENTION_SECONDS)
    return len(result["deleted_ids"])
