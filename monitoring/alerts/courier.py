"""Takes messages to their channels, several at once, so that one that is slow keeps nobody else's waiting."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Final
from uuid import UUID

from django.db import connection

from executions import store
from monitoring.alerts import delivery, outbox
from monitoring.alerts.errors import Undelivered
from monitoring.alerts.outbox import Due
from monitoring.models import AlertMessage

logger = logging.getLogger(__name__)

PARALLEL: Final = 16
OF_ONE_OWNER: Final = 2
"""How many of one person are on their way at a time. Of one channel it is one, so that they arrive in order."""


class Courier:
    """The messages that this process has on their way, each in a thread of its own, which do not keep it from ending."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away: dict[UUID, Due] = {}

    @property
    def away(self) -> int:
        """Return how many messages are on their way."""
        with self._lock:
            return len(self._away)

    def send_due(self) -> int:
        """Send what is due, as far as there is room, and return how many were begun. One query."""
        with self._lock:
            away = list(self._away.values())
        room = PARALLEL - len(away)
        owners = Counter(one.owner_id for one in away)
        channels = {one.channel_id for one in away}
        if room <= 0:
            return 0
        full = [owner for owner, count in owners.items() if count >= OF_ONE_OWNER]
        begun = 0
        for one in outbox.due(store.database_now_us(), but_channels=channels, but_owners=full):
            if begun == room:
                break
            if owners[one.owner_id] >= OF_ONE_OWNER or one.channel_id in channels:
                continue
            owners[one.owner_id] += 1
            channels.add(one.channel_id)
            self._begin(one)
            begun += 1
        return begun

    def _begin(self, one: Due) -> None:
        with self._lock:
            self._away[one.id] = one
        threading.Thread(target=self._carry, args=(one,), name=f"alert message {one.id}", daemon=True).start()

    def _carry(self, one: Due) -> None:
        try:
            message = outbox.claim(one.id)
            if message is not None:
                carry(message)
        except Exception:
            logger.exception("the alert message %s could not be sent; it is tried again", one.id)
        finally:
            connection.close()
            with self._lock:
                del self._away[one.id]


def carry(message: AlertMessage) -> None:
    """Send a message that was claimed, and note what became of it."""
    try:
        if message.channel is None:
            raise Undelivered("its channel was deleted", final=True)
        if not message.channel.enabled:
            raise Undelivered("its channel is switched off", final=True)
        delivery.send(message.channel, message.content, message.pk)
    except Undelivered as error:
        outbox.missed(message, str(error), final=error.final)
        logger.warning("alert message %s to channel %s: %s", message.pk, message.channel_name, error)
    else:
        outbox.arrived(message)
