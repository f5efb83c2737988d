"""What a person does with a dead letter: read it, replay it, discard it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils.dateparse import parse_datetime

from executions import triggers
from executions.errors import LetterRefused
from executions.models import DeadLetter, Execution
from executions.retry import retry_execution
from workflows.models import Workflow


def replay(letter: DeadLetter, by: Any, *, whole: bool = False) -> Execution:
    """Do again what ``letter`` gave up, mark it as handled by the user ``by``, and return the new execution.

    A node's execution goes on from that node unless ``whole``; a start begins anew; a schedule starts its
    workflow now, for the instant that was missed.

    Raises:
        LetterRefused: somebody handled it before, or it is a message, which cannot be sent again.
        StartRefused: the execution cannot be started; the letter stays open.
    """
    with transaction.atomic():
        _handle(letter, DeadLetter.REPLAYED, by)
        match letter.kind:
            case "start":
                execution = retry_execution(_execution_of(letter), by, from_failed=False)
            case "node":
                execution = retry_execution(_execution_of(letter), by, from_failed=not whole)
            case "schedule":
                execution = _start_missed(letter, by)
            case _:
                raise LetterRefused(
                    f"dead letter {letter.pk} is a message that was none of ours and cannot be sent again;"
                    " mend what sent it, then discard the letter"
                )
        letter.replayed_as = execution
        letter.save(update_fields=("replayed_as",))
    return execution


def discard(letter: DeadLetter, by: Any) -> None:
    """Mark ``letter`` as not worth doing.

    Raises:
        LetterRefused: somebody handled it before.
    """
    _handle(letter, DeadLetter.DISCARDED, by)


def describe(letter: DeadLetter) -> dict[str, Any]:
    """Return ``letter`` as plain values; times are ISO text, ``age_seconds`` counts from the last failure."""
    return {
        "id": letter.pk,
        "kind": letter.kind,
        "status": letter.status,
        "workflow": letter.workflow.name if letter.workflow else None,
        "execution_id": str(letter.execution_id) if letter.execution_id else None,
        "node_id": letter.node_id or None,
        "error": letter.error,
        "deliveries": letter.deliveries,
        "first_failed_at": letter.first_failed_at.isoformat(),
        "last_failed_at": letter.last_failed_at.isoformat(),
        "age_seconds": max(0, round((datetime.now(UTC) - letter.last_failed_at).total_seconds())),
        "payload": json.loads(letter.payload),
        "replayed_as": str(letter.replayed_as_id) if letter.replayed_as_id else None,
        "handled_by": letter.handled_by.get_username() if letter.handled_by else None,
        "handled_at": letter.handled_at.isoformat() if letter.handled_at else None,
    }


def _handle(letter: DeadLetter, status: str, by: Any) -> None:
    now = datetime.now(UTC)
    changed = DeadLetter.objects.filter(pk=letter.pk, status=DeadLetter.OPEN).update(
        status=status, handled_by=by, handled_at=now
    )
    if not changed:
        raise LetterRefused(f"dead letter {letter.pk} was handled before: {_how(letter)}")
    letter.status, letter.handled_by, letter.handled_at = status, by, now


def _how(letter: DeadLetter) -> str:
    letter.refresh_from_db()
    who = letter.handled_by.get_username() if letter.handled_by else "somebody"
    became = f" as execution {letter.replayed_as_id}" if letter.replayed_as_id else ""
    return f"{letter.status}{became} by {who}"


def _execution_of(letter: DeadLetter) -> Execution:
    if letter.execution is None:
        raise LetterRefused(f"the execution of dead letter {letter.pk} does not exist any more; discard the letter")
    return letter.execution


def _start_missed(letter: DeadLetter, by: Any) -> Execution:
    payload = json.loads(letter.payload)
    workflow = Workflow.objects.filter(pk=payload["workflow_id"]).first()
    if workflow is None:
        raise LetterRefused(f"the workflow of dead letter {letter.pk} does not exist any more; discard the letter")
    return triggers.start_execution(
        workflow, by=by, trigger="scheduled", scheduled_for=parse_datetime(payload["scheduled_for"])
    )
