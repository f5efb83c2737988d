"""The Celery application."""

import os
from typing import Any

from celery import Celery
from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")


class Channel(kombu_redis.Channel):
    """kombu's channel, except that one whose connection is gone says so.

    When Redis goes away with messages to acknowledge or to give back, kombu 5.7 stumbles over the closed connection
    with an AttributeError, which Celery takes for a bug and ends the worker and all that it runs. A ConnectionError is
    logged, and the worker connects again.
    """

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
