"""kombu's Redis transport, mended where one bad moment of Redis, or one bad message, ends a worker and all that it runs.

``install`` puts it in the place of kombu's own.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

import kombu
from celery.app import amqp
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import base as virtual
from kombu.utils import json
from redis.connection import Connection as RedisConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, OutOfMemoryError, ReadOnlyError, ResponseError

RECONNECT_SECONDS = 3
"""How long a worker waits at most before it looks again for a broker that is away."""


class Connection(kombu.Connection):
    """kombu's connection, except that it is back soon however long the broker was away; kombu's pauses grow to 30 s.

    Once somebody sets ``gives_up``, no connection of this process waits for a broker that is away any more.
    """

    gives_up: ClassVar[bool] = False

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Return this connection once it is established."""
        pauses = {"interval_start": 1, "interval_step": 1, "interval_max": RECONNECT_SECONDS}
        return super().ensure_connection(*args, **{**pauses, **kwargs})

    def _ensure_connection(self, *args: Any, callback: Callable[[], None] | None = None, **kwargs: Any) -> Any:
        def look() -> None:
            if self.gives_up:
                raise OperationalError("the broker is away, and this process ends")
            if callback is not None:
                callback()

        return super()._ensure_connection(*args, callback=look, **kwargs)  # type: ignore[misc]


class AMQP(amqp.AMQP):
    """What Celery makes its connections with."""

    Connection = Connection
    BrokerConnection = Connection


class Message(virtual.Message):
    """kombu's message, except that what is none arrives as one without headers, for the consumer to refuse."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        super().__init__(payload if _is_envelope(payload, channel) else _wrapped(payload), channel=channel, **kwargs)


def _is_envelope(payload: Any, channel: Any) -> bool:
    """Return whether kombu can read ``payload``: keys and types of what it sends itself."""
    properties = payload.get("properties") if isinstance(payload, dict) else None
    if not isinstance(properties, dict) or not isinstance(properties.get("delivery_tag"), str):
        return False
    where = properties.get("delivery_info")
    body = payload.get("body")
    if not isinstance(where, dict) or not {"exchange", "routing_key"} <= where.keys():
        return False
    if not isinstance(payload.get("headers") or {}, dict) or not isinstance(body, str | None):
        return False
    try:
        channel.decode_body(body or "", properties.get("body_encoding"))
    except (ValueError, KeyError, TypeError):
        return False
    return True


def _wrapped(payload: Any) -> dict[str, Any]:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return {
        "body": base64.b64encode(text.encode("utf-8", "replace")).decode(),
        "headers": {},
        "content-type": "application/octet-stream",
        "content-encoding": "binary",
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": ""},
        },
    }


def _loads(text: str | bytes) -> Any:
    """Return what JSON says, or ``text`` itself when it is none; kombu would end the worker."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text if isinstance(text, str) else text.decode("utf-8", "replace")


class RedisRefuses(ResponseError, OSError):
    """Redis is there but takes nothing at the moment: it is full, cannot write its file, or is a replica just now.

    An OSError, because Celery logs such a one and tries again later; any other error it takes for a bug and ends the
    worker. Still a ResponseError, because redis-py then reads the rest of a pipeline's answers.
    """


def _refusing(base: type[RedisConnection]) -> type[RedisConnection]:
    """Return a class of connections like ``base`` that raises RedisRefuses for what Redis refuses for the moment."""

    class Refusing(base):  # type: ignore[valid-type, misc]
        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().read_response(*args, **kwargs)
            except ResponseError as error:
                passes = isinstance(error, OutOfMemoryError | ReadOnlyError | MasterDownError)
                if not passes and not str(error).startswith(("MISCONF", "NOREPLICAS")):
                    raise
                raise RedisRefuses(f"Redis takes nothing: {error}") from error

    return Refusing


class Channel(kombu_redis.Channel):
    """kombu's channel, except that one whose connection is gone says so, and that a Redis that is full is as one away.

    When Redis goes away with messages to acknowledge or to give back, kombu 5.7 stumbles over the closed connection
    with an AttributeError, which Celery takes for a bug and ends the worker and all that it runs. A ConnectionError is
    logged, and the worker connects again.
    """

    Message = Message

    def _connparams(self, asynchronous: bool = False) -> Any:
        transport: Any = self.connection
        if transport is None or transport.client is None:
            raise RedisConnectionError("the connection of this channel was closed")
        found = super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]
        return {**found, "connection_class": _refusing(found["connection_class"])}


def install() -> None:
    """Let every connection to Redis by kombu use what is above."""
    kombu_redis.Transport.Channel = Channel
    kombu_redis.loads = _loads  # type: ignore[attr-defined]
