"""Dead letters: what was given up and waits for a person, written down here and removed when it is old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings

from executions import store
from executions.models import DeadLetter

ERROR_CHARACTERS = 4_000
PURGE_BATCH = 1_000


def keep(
    kind: str, error: str, payload: dict[str, Any], *, workflow_id: UUID | None = None,
    execution_id: UUID | None = None, node_id: str = "", deliveries: int = 1,
) -> DeadLetter:  # fmt: skip
    """Store an open letter and return it; the open one that an execution or its node already has is returned instead."""
    now = datetime.now(UTC)
    values = {
        "workflow_id": workflow_id, "deliveries": deliveries, "payload": store.to_column(store.to_json(payload)),
        "error": store.to_column(error, ERROR_CHARACTERS), "first_failed_at": now, "last_failed_at": now,
    }  # fmt: skip
    if execution_id is None:
        return DeadLetter.objects.create(kind=kind, **values)
    letter, _ = DeadLetter.objects.get_or_create(
        kind=kind, execution_id=execution_id, node_id=node_id, status=DeadLetter.OPEN, defaults=values
    )
    return letter


def purge(now: datetime | None = None) -> int:
    """Remove letters older than ``FLOWBUILDER_DEAD_LETTER_DAYS``, open or not; return how many. 0 days keep all."""
    if settings.DEAD_LETTER_DAYS <= 0:
        return 0
    before = (now or datetime.now(UTC)) - timedelta(days=settings.DEAD_LETTER_DAYS)
    removed = 0
    while True:
        batch = list(DeadLetter.objects.filter(last_failed_at__lt=before).values_list("pk", flat=True)[:PURGE_BATCH])
        if not batch:
            return removed
        removed += DeadLetter.objects.filter(pk__in=batch).delete()[0]
