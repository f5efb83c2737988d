"""The Celery application."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")


class QoS(kombu_redis.QoS):
    """kombu's book of unacknowledged messages, except that a Redis that is full is like one that is away.

    Celery logs a ConnectionError and tries again later; any other error it takes for a bug and ends the worker.
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that was delivered."""
        with _full_is_away():
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Forget a message that is done."""
        with _full_is_away():
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Forget a message, or give it back to its queue."""
        with _full_is_away():
            super().reject(delivery_tag, requeue=requeue)


@contextmanager
def _full_is_away() -> Iterator[None]:
    try:
        yield
    except OutOfMemoryError as error:
        raise RedisConnectionError(f"Redis is full: {error}") from error


class Channel(kombu_redis.Channel):
    """kombu's channel, except that one whose connection is gone says so.

    When Redis goes away with messages to acknowledge or to give back, kombu 5.7 stumbles over the closed connection
    with an AttributeError, which Celery takes for a bug and ends the worker and all that it runs. A ConnectionError is
    logged, and the worker connects again.
    """

    QoS = QoS

    def _connparams(self, asynchronous: bool = False) -> Any:
        transport: Any = self.connection
        if transport is None or transport.client is None:
            raise RedisConnectionError("the connection of this channel was closed")
        return super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]


kombu_redis.Transport.Channel = Channel

app = Celery("flowbuilder")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.CELERY_DB_REUSE_MAX = 1000  # Celery's Django fixup closes the connection around every task otherwise
app.autodiscover_tasks()
app.autodiscover_tasks(related_name="beat")
app.autodiscover_tasks(related_name="prefork")
app.autodiscover_tasks(related_name="drain")
