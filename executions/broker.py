"""What can be known about messages that were sent and did not arrive yet, or never will."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from celery import current_app
from kombu import Exchange, Producer, Queue

from executions import store
from executions.models import WorkerLease

logger = logging.getLogger(__name__)

_SECOND = 1_000_000
LOST_MESSAGE_US = 2 * _SECOND
"""A message is taken for lost after this time when its queue is empty."""
QUEUED_MESSAGE_US = 10 * _SECOND
"""The same while its queue still holds messages, which may be the one that we look for."""
SILENT_US = 30 * _SECOND
"""How long a worker is silent before it counts as away."""
KEPT_QUEUES = ("control", "default", "browser")
"""Queues that wait for a worker while there is none. The isolated worker is begun by sending again."""
SENTINEL = "sentinel"
"""A queue with one message that nobody takes: when that is gone, so is everything that was sent before."""

PATIENCE_SECONDS = 2
"""How long one exchange with the broker may take for who only looks."""
_LIMITS: dict[str, Any] = {
    "connect_timeout": PATIENCE_SECONDS,
    "transport_options": {"socket_timeout": PATIENCE_SECONDS, "socket_connect_timeout": PATIENCE_SECONDS},
}

_sentinel = Queue(SENTINEL, Exchange(SENTINEL), routing_key=SENTINEL)


class Broker:
    """What this process saw of the broker. ``emptied_at`` is when it was found to have lost all (database time), or 0."""

    def __init__(self) -> None:
        self.emptied_at = 0

    def lost_before(self, queue: str) -> int:
        """Return the moment (microseconds, database time) before which messages in ``queue`` are taken for lost."""
        now = store.database_now_us()
        try:
            with current_app.connection_for_write(**_LIMITS) as connection:
                connection.ensure_connection(max_retries=0)
                channel: Any = connection.default_channel
                self._look_for_sentinel(channel, now)
                waiting = _count(channel, queue)
        except Exception:  # it is away, or knows no such queue
            waiting = 0
        if waiting and not _is_served(queue, now):
            return self.emptied_at  # what is in it stays there: nobody takes it
        return max(self.emptied_at, now - (QUEUED_MESSAGE_US if waiting else LOST_MESSAGE_US))

    def _look_for_sentinel(self, channel: Any, now: int) -> None:
        _sentinel(channel).declare()
        if channel.queue_declare(SENTINEL, durable=True, auto_delete=False).message_count:
            return
        Producer(channel).publish({}, exchange=SENTINEL, routing_key=SENTINEL, serializer="json")
        self.emptied_at = now
        logger.info("the broker has lost what it held, or is new; what was sent before is sent again")


def _is_served(queue: str, now: int) -> bool:
    """Return whether a worker is alive that takes from ``queue``; true for every other kind of queue."""
    rows = WorkerLease.objects.filter(beat_at__gte=now - SILENT_US).values_list("queues", flat=True)
    return queue not in KEPT_QUEUES or any(queue in queues.split(",") for queues in rows)


def depths(queues: Iterable[str]) -> dict[str, int]:
    """Return how many messages wait in each of ``queues``; a queue that does not exist holds none. One connection.

    Raises:
        kombu.exceptions.OperationalError: the broker does not answer.
    """
    found = {}
    with current_app.connection_for_read(**_LIMITS) as connection:
        connection.ensure_connection(max_retries=0)
        channel = connection.channel()
        for queue in queues:
            try:
                found[queue] = _count(channel, queue)
            except connection.channel_errors:  # RabbitMQ knows no such queue, and closed the channel
                found[queue], channel = 0, connection.channel()
    return found


def _count(channel: Any, queue: str) -> int:
    """Return how many messages of any priority a queue holds.

    On Redis a passive declaration finds no queue at all: it looks for one without our prefix.
    """
    if hasattr(channel, "_size"):
        return int(channel._size(queue))
    return int(channel.queue_declare(queue, passive=True).message_count)


broker = Broker()
