"""What is kept of executions that have ended, what is removed, and that nothing is left behind.

Everything that belongs to an execution without recording goes the same way: a row of ``NotRecorded`` is the
reminder, and it is ticked off in the transaction that forgets its last blob.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import cast
from uuid import UUID

from django.db import transaction

from recordings.errors import RecordingError, RecordingNotFound
from recordings.models import NotRecorded, Recording

BY_HAND = "it was kept by hand"


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
        values = json.loads(row.recording)
        Recording.objects.create(
            **{
                **{name: _moment(value) if name.endswith("_at") else value for name, value in values.items()},
                "id": uuid.uuid4(),
                "node_count": row.node_count,
                "event_count": row.event_count,
                "credits": row.credits,
                "kept_because": BY_HAND,
            }
        )
        row.delete()
    return Recording.objects.get(execution_id=key)


def _execution_key(text: UUID | str) -> UUID:
    try:
        return UUID(str(text))
    except ValueError as error:
        raise RecordingNotFound(f'"{text!s:.80}" is not the id of an execution') from error


def _moment(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
