"""The sockets at which people and programs watch executions.

``/ws/executions/<id>/logs?after=SEQ`` sends every event after ``SEQ`` once and in order: rows first, then
live batches; wherever numbers do not follow each other the rows are read again. ``/ws/executions/<id>/status``
sends status and progress only. Both end with ``{"type": "end"}`` and close code 1000. ``/ws/monitor`` is one
connection for many executions.

Close codes: 1003 the id, ``after`` or a message cannot be read, 1008 unknown or not permitted, 1011 a fault of
ours, 4403 not permitted any more, 4429 too much.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Any, Final, cast
from urllib.parse import parse_qs
from uuid import UUID

from channels.generic.websocket import AsyncWebsocketConsumer
from django.urls import re_path

from monitoring.doorway import BAD_MESSAGE, FAULT, NORMAL, Allowance, Refused, refuse
from monitoring.serving import Serving, Shared, Single
from monitoring.wire import message, said

logger = logging.getLogger(__name__)

MESSAGE_CHARACTERS: Final = 4096
"""The longest text that a client may send."""


class WatchingConsumer(AsyncWebsocketConsumer, ABC):
    """What all sockets do: accept, send from one task, close with a code that says why."""

    # The feed has the process's only channel; none is made per socket.
    channel_layer_alias = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._task: asyncio.Task[None] | None = None
        self._allowance = Allowance()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one socket; nothing of it is left when this returns, however it ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stop()

    async def connect(self) -> None:
        """Accept first, because a close code reaches the client only on an open socket."""
        await self.accept()
        self._task = asyncio.create_task(self._serve())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take what the client says; what it may not say closes the socket."""
        try:
            self._allowance.take()
            if text_data is None or len(text_data) > MESSAGE_CHARACTERS:
                raise Refused(BAD_MESSAGE, f"a message is a text of up to {MESSAGE_CHARACTERS:,} characters")
            await self.hear(text_data)
        except Refused as refusal:
            await self._stop()
            await self._close(refusal.code, str(refusal))

    @abstractmethod
    async def hear(self, text: str) -> None:
        """Do what the client says.

        Raises:
            Refused: it may not.
        """

    async def disconnect(self, code: int) -> None:
        """Stop following."""
        await self._stop()

    @abstractmethod
    def serving(self) -> Serving:
        """Return what the socket is sent.

        Raises:
            Refused: its address cannot be read.
        """

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _serve(self) -> None:
        code, reason = FAULT, "internal error"
        try:
            await self.serving().run()
            code, reason = NORMAL, ""
        except Refused as refusal:
            code, reason = refusal.code, str(refusal)
        except OSError:
            return  # the client has gone
        except Exception:
            logger.exception("the socket %s failed", self.scope["path"])
        await self._close(code, reason)

    async def _close(self, code: int, reason: str) -> None:
        try:
            await self.close(code, reason)
        except (OSError, RuntimeError):
            logger.debug("the client had gone before close code %s", code)

    def _session_key(self) -> str | None:
        session = self.scope.get("session")
        return None if session is None else session.session_key

    async def _say(self, text: str) -> None:
        await self.send(text_data=text)


class ExecutionConsumer(WatchingConsumer):
    """A socket for one execution."""

    async def hear(self, text: str) -> None:
        """Answer ``ping``; clients have nothing else to say."""
        if text.strip() in ("ping", '{"type":"ping"}', '{"type": "ping"}'):
            await self._say(message("pong"))

    def _execution_id(self) -> UUID:
        try:
            return UUID(self.scope["url_route"]["kwargs"]["execution_id"])
        except ValueError:
            raise Refused(BAD_MESSAGE, "the execution id is not a UUID") from None

    def _after(self) -> int:
        after = parse_qs(self.scope.get("query_string", b"").decode("latin-1")).get("after", ["0"])[-1]
        if not (after.isascii() and after.isdigit() and len(after) <= 10):
            raise Refused(BAD_MESSAGE, "after must be a whole number from 0")
        return int(after)


class LogsConsumer(ExecutionConsumer):
    """Every event after ``?after=SEQ`` once, in order, without a gap."""

    def serving(self) -> Serving:
        """Return the entries of the execution in the address."""
        return Single(self._session_key(), self._say, self._execution_id(), self._after())


class StatusConsumer(ExecutionConsumer):
    """Status and progress, sent when they change; no log lines."""

    def serving(self) -> Serving:
        """Return the status of the execution in the address."""
        return Single(self._session_key(), self._say, self._execution_id(), None)


class MonitorConsumer(WatchingConsumer):
    """As many executions as the client asks for."""

    _shared: Shared

    async def connect(self) -> None:
        """Accept, and hear from now on."""
        self._shared = Shared(self._session_key(), self._say)
        await super().connect()

    def serving(self) -> Serving:
        """Return what the client asks for."""
        return self._shared

    async def hear(self, text: str) -> None:
        """Pass it on."""
        try:
            self._shared.hear(said(text))
        except ValueError as error:
            raise Refused(BAD_MESSAGE, str(error)) from None


websocket_urlpatterns = [
    re_path(r"^ws/executions/(?P<execution_id>[^/]+)/logs$", LogsConsumer.as_asgi()),
    re_path(r"^ws/executions/(?P<execution_id>[^/]+)/status$", StatusConsumer.as_asgi()),
    re_path(r"^ws/monitor$", MonitorConsumer.as_asgi()),
    re_path(r"", cast(Any, refuse)),
]
