"""Periodic work on recordings: seal what has ended, remove rows that are sealed, let old ones go."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from recordings.database import DatabaseRecordingStorage, purge_rows, remove_unused_blobs, seal
from recordings.models import Recording
from recordings.retention import RetentionPolicy

logger = logging.getLogger(__name__)

SEAL_SECONDS = 20.0
SEAL_RECORDINGS = 500
PURGE_RECORDINGS = 200
PURGE_ROWS = 50_000
RETENTION_RECORDINGS = 200
RETENTION_SECONDS = 300.0
FAILED_DAYS_FACTOR = 3
"""Recordings of failed runs are kept this many times longer."""


@shared_task(name="recordings.seal")
def seal_finished() -> int:
    """Seal recordings of ended executions, the oldest first, for up to 20 seconds; return how many."""
    sealed, deadline = 0, time.monotonic() + SEAL_SECONDS
    waiting = Recording.objects.filter(sealed="", completed_at__isnull=False, execution_id__isnull=False)
    for recording in waiting.order_by("completed_at")[:SEAL_RECORDINGS]:
        if time.monotonic() > deadline:
            break
        try:
            sealed += seal(recording)
        except Exception:  # one bad recording must not hold up the others
            logger.exception("recording %s of execution %s was not sealed", recording.pk, recording.execution_id)
    return sealed


@shared_task(name="recordings.purge_events")
def purge_events() -> int:
    """Remove event rows of recordings that were sealed long enough ago; return how many rows."""
    before = timezone.now() - timedelta(seconds=settings.EVENT_GRACE_SECONDS)
    due = Recording.objects.filter(sealed_at__lt=before, events_removed_at=None).exclude(sealed="")
    removed = 0
    for recording in due.order_by("sealed_at")[:PURGE_RECORDINGS]:
        if removed >= PURGE_ROWS:
            break
        try:
            removed += purge_rows(recording, PURGE_ROWS - removed)
        except Exception:  # one bad recording must not hold up the others
            logger.exception("event rows of recording %s were not removed", recording.pk)
    return removed


def retention_policy() -> RetentionPolicy | None:
    """Return the policy of the settings, or None when recordings are kept for ever (``RECORDING_DAYS`` 0)."""
    days = settings.RECORDING_DAYS
    if days <= 0:
        return None
    return RetentionPolicy(max_age_days=days, max_age_days_failed=days * FAILED_DAYS_FACTOR)


@shared_task(name="recordings.retention")
def retention() -> int:
    """Remove recordings that are too old, for up to five minutes, and blobs that nobody needs; return how many."""
    policy, removed, deadline = retention_policy(), 0, time.monotonic() + RETENTION_SECONDS
    while policy is not None and time.monotonic() < deadline:
        batch = len(DatabaseRecordingStorage().expire(policy, RETENTION_RECORDINGS))
        removed += batch
        if batch < RETENTION_RECORDINGS:
            break
    remove_unused_blobs(timezone.now() - timedelta(days=1), RETENTION_RECORDINGS)
    return removed
