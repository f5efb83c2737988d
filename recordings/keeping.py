"""What is kept of executions that have ended, what is removed, and that nothing is left behind.

Everything that belongs to an execution without recording goes the same way: a row of ``NotRecorded`` is the
reminder, and it is ticked off in the transaction that forgets its last blob.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from recordings.errors import RecordingError, RecordingNotFound
from recordings.finding import undropped
from recordings.models import NotRecorded, Recording
from recordings.patience import is_over
from recordings.removing import apply_policy, remove_leftovers, workflow_sizes
from recordings.retention import RetentionPolicy

BY_HAND = "it was kept by hand"
FAILED_DAYS_FACTOR = 3
"""Recordings of failed runs are kept this many times longer, unless a setting says how long."""

LEFTOVERS_AT_ONCE = 500

WORKFLOW_RETENTION: Callable[[], Mapping[UUID, Mapping[str, Any]]] | None = None
"""``() -> {workflow_id: its "retention" setting}`` of the workflows that have one; ``executions`` sets it."""

USER_RETENTION: Callable[[], Mapping[int, int]] | None = None
"""``() -> {user_id: how many recordings are kept}`` of the users for whom that is limited; ``executions`` sets it."""


def keep(execution_id: UUID | str) -> Recording:
    """Keep the recording of an execution whose events are still there, and return it; may be called twice.

    Raises:
        RecordingNotFound: nothing is known about such an execution, or it has not ended.
        RecordingError: it is too late, its events were removed.
    """
    key = _execution_key(execution_id)
    with transaction.atomic():
        row = NotRecorded.objects.select_for_update().filter(pk=key).first()
        if row is None:
            known = Recording.objects.filter(execution_id=key).first()
            if known is None:
                raise RecordingNotFound(f"execution {key} has not ended, or there is none: nothing to keep yet")
            return cast(Recording, known)
        if not row.recording:
            raise RecordingError(
                f"execution {key} cannot be kept any more: {row.reason}, and its events are gone"
                " (they stay for FLOWBUILDER_EVENT_GRACE_SECONDS after its end)"
            )
        recording = undropped(row)
        recording.kept_because = BY_HAND
        recording.save(force_insert=True)
        row.delete()
    return Recording.objects.get(execution_id=key)


def keepable(execution_id: UUID) -> bool:
    """Return whether an execution that has ended without recording can still be kept."""
    row = NotRecorded.objects.filter(pk=execution_id).first()
    return row is not None and bool(row.recording)


def purge_unrecorded(before: datetime, limit: int, until: float = math.inf) -> int:
    """Remove events and blobs of executions that ended without recording before a moment, the oldest first.

    At most about ``limit`` events, until a time of the monotonic clock. Returns how many events went.
    """
    removed = 0
    due = NotRecorded.objects.filter(events_removed_at=None, ended_at__lt=before).order_by("ended_at", "pk")
    keys = list(due.values_list("pk", flat=True))
    for start in range(0, len(keys), LEFTOVERS_AT_ONCE):
        if removed >= limit or is_over(until):
            break
        removed += remove_leftovers(keys[start : start + LEFTOVERS_AT_ONCE], limit - removed)
    return removed


def retention_policy(own: Mapping[str, Any] | None = None) -> RetentionPolicy:
    """Return the policy of this installation, or that of a workflow with the setting ``own``.

    A workflow takes over what it does not say itself, but for count and size: those are limits of its own.
    """
    rules: dict[str, Any] = dict(settings.RETENTION)
    if settings.RECORDING_DAYS > 0:
        rules.setdefault("max_age_days", settings.RECORDING_DAYS)
    if own is not None:
        rules = {key: value for key, value in rules.items() if key not in ("max_count", "max_size_gb")} | dict(own)
        if "max_age_days" in own and "max_age_days_failed" not in own:
            rules.pop("max_age_days_failed", None)
    if rules.get("max_age_days") is not None:
        rules.setdefault("max_age_days_failed", rules["max_age_days"] * FAILED_DAYS_FACTOR)
    return RetentionPolicy(**rules)


def apply_retention(*, dry_run: bool = False, until: float = math.inf) -> dict[str, Any]:
    """Remove what the settings do not keep, until a time of the monotonic clock; in a dry run only say what.

    Workflows with a ``retention`` setting are looked at by themselves, all others together; then users with a
    limit, whose failures count like all else. Returns the answer of ``apply_retention_policy`` over all of them;
    a dry run counts the size twice of what both would remove.
    """
    owns = WORKFLOW_RETENTION() if WORKFLOW_RETENTION is not None else {}
    others = Recording.objects.exclude(workflow_id__in=list(owns)) if owns else Recording.objects.all()
    parts = [(others, retention_policy())]
    parts += [(Recording.objects.filter(workflow_id=key), retention_policy(own)) for key, own in owns.items()]
    whole: dict[str, Any] = {
        "total_recordings": 0, "to_delete": 0, "total_size_bytes": 0, "deleted_ids": [], "candidate_ids": [],
    }  # fmt: skip
    kept: Counter[str] = Counter()
    for rows, policy in parts:
        answer = apply_policy(rows, policy, dry_run=dry_run, until=until)
        kept.update(answer["kept_by_rule"])
        for key in whole:
            whole[key] += answer[key]
    for user_id, most in (USER_RETENTION() if USER_RETENTION is not None else {}).items():
        policy = RetentionPolicy(max_count=most, keep_failed=False, tags_to_keep=retention_policy().tags_to_keep)
        answer = apply_policy(Recording.objects.filter(user_id=user_id), policy, dry_run=dry_run, until=until)
        known = set(whole["candidate_ids"])
        whole["candidate_ids"] += [key for key in answer["candidate_ids"] if key not in known]
        whole["deleted_ids"] += answer["deleted_ids"]
        whole["to_delete"] = len(whole["candidate_ids"])
        whole["total_size_bytes"] += answer["total_size_bytes"]
    return {**whole, "kept_by_rule": dict(kept)}


def sizes_by_workflow(user: Any = None) -> list[dict[str, Any]]:
    """Return ``workflow``, ``recordings`` and ``bytes`` of each workflow name, the greatest first; three queries.

    With ``user`` only of the recordings that the user may see. Events that are not sealed yet count about.
    """
    rows = Recording.objects.all() if user is None else Recording.objects.visible_to(user)
    found = workflow_sizes(rows).items()
    sizes = [{"workflow": name, "recordings": count, "bytes": size} for name, (count, size) in found]
    return sorted(sizes, key=lambda item: (-item["bytes"], item["workflow"]))


def grace_began() -> datetime:
    """Return the moment before which event rows are not needed any more."""
    return timezone.now() - timedelta(seconds=settings.EVENT_GRACE_SECONDS)


def _execution_key(text: UUID | str) -> UUID:
    try:
        return UUID(str(text))
    except ValueError as error:
        raise RecordingNotFound(f'"{text!s:.80}" is not the id of an execution') from error
