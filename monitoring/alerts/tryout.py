"""Trying a channel: one message that says that it is a test, and at once what became of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from monitoring.alerts import delivery
from monitoring.alerts.errors import AlertRefused, Undelivered
from monitoring.models import AlertChannel
from workflows import audit
from workflows.kinds import Problem
from workflows.models import AuditEntry

MOST: Final = 5
"""How often the channels of one person are tried within a minute."""
WITHIN: Final = timedelta(minutes=1)


def send(channel: AlertChannel) -> str:
    """Send a test message and return why it was not taken, empty when it was. Takes up to ``delivery.SECONDS``.

    Noted in the audit log, by which tries are counted, too.

    Raises:
        AlertRefused: the channels of its owner were tried ``MOST`` times within the last minute.
    """
    with transaction.atomic():
        # Holds the owner's row, so that two at once see each other's try.
        get_user_model()._default_manager.select_for_update(no_key=True).get(pk=channel.owner_id)
        tries = AuditEntry.objects.filter(kind="alert channel", verb="test", owner=channel.owner_id)
        if tries.filter(at__gt=timezone.now() - WITHIN).count() >= MOST:
            often = Problem(
                "", f"was tried too often: {MOST} test messages a minute are allowed; try again in a minute"
            )
            raise AlertRefused(f'channel "{channel.name}"', [often])
        audit.note("test", "alert channel", channel)
    try:
        delivery.send_test(channel)
    except Undelivered as error:
        return str(error)
    return ""
