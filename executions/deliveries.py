"""Starts by webhooks: one execution for each signed request, however often it is sent, and to whom.

That a request was accepted is a row, written in the transaction of the start. Its constraints hold for all web
processes, and whatever becomes of Redis.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from executions import store
from executions.errors import KeyReused, Replayed, StartRefused
from executions.failpoints import failpoint
from executions.triggers import start_execution
from workflows.models import Webhook, WebhookDelivery
from workflows.webhooks import Signed

LONGEST_DELIVERY_ID: Final = 200
KEPT: Final = timedelta(days=7)
"""How long a delivery is remembered, which is longer than any signature is good."""


def start_once(webhook: Webhook, signed: Signed, payload: Any, *, delivery: str | None, test: bool) -> UUID:
    """Start what ``webhook`` is for and return its execution; a delivery that came before gives the one it started.

    A delivery that comes again is one with the same ``delivery`` and body, whether signed anew or not. ``test`` starts
    the newest version, as a test, whatever the status of the workflow; else it is the active one.

    Raises:
        Replayed: the same signature was accepted before, with another delivery id or without any.
        KeyReused: the delivery id was used for another body.
        StartRefused: the workflow takes no starts; the message says why.
        InsufficientCredits: the owner is metered, and has too few.
    """
    if delivery is not None:
        if not delivery or store.to_column(delivery, LONGEST_DELIVERY_ID) != delivery:
            raise StartRefused(f"a delivery id is a text of 1 to {LONGEST_DELIVERY_ID} characters, without NUL")
        delivery = f"{'test' if test else 'live'}:{delivery}"
    known = _known(webhook, signed, delivery)
    if known is None:
        try:
            known = _start(webhook, signed, payload, delivery, test)
        except IntegrityError:
            known = _known(webhook, signed, delivery)
            if known is None:
                raise
    failpoint("webhook-accepted")
    return known


def _start(webhook: Webhook, signed: Signed, payload: Any, delivery: str | None, test: bool) -> UUID:
    workflow = webhook.workflow
    if test and workflow.draft is None:
        raise StartRefused(f'workflow "{workflow.name}" has no version yet; save it first')
    with transaction.atomic():
        execution = start_execution(
            workflow, by=None, trigger="test" if test else "webhook", input=payload,
            version=workflow.draft if test else None,
        )  # fmt: skip
        WebhookDelivery.objects.create(
            webhook=webhook, nonce=signed.nonce, delivery=delivery, body_hash=signed.body_hash,
            execution_id=execution.pk, received_at=timezone.now(),
        )  # fmt: skip
    return execution.pk


def _known(webhook: Webhook, signed: Signed, delivery: str | None) -> UUID | None:
    """Return the execution that this delivery started before, None when it is new. At most two queries by indexes."""
    rows = WebhookDelivery.objects.filter(webhook=webhook)
    same = rows.filter(nonce=signed.nonce).first()
    if same is not None:
        if delivery is None or same.delivery != delivery:
            raise Replayed("this signed request was accepted before; sign each with the time at which it is sent")
        return same.execution_id
    again = rows.filter(delivery=delivery).first() if delivery is not None else None
    if again is not None and again.body_hash != signed.body_hash:
        raise KeyReused(f"the delivery id was used for another body, and started execution {again.execution_id}")
    return None if again is None else again.execution_id


def note_accepted(webhook: Webhook) -> None:
    """Count a request that was accepted, and forget deliveries that are older than ``KEPT``."""
    now = timezone.now()
    Webhook.objects.filter(pk=webhook.pk).update(accepted=F("accepted") + 1, last_received_at=now)
    WebhookDelivery.objects.filter(webhook=webhook, received_at__lt=now - KEPT).delete()


def note_refused(webhook: Webhook) -> None:
    """Count a request that was refused."""
    Webhook.objects.filter(pk=webhook.pk).update(refused=F("refused") + 1, last_received_at=timezone.now())
