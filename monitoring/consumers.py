"""The sockets at which people and programs watch an execution, and who may open them.

``/ws/executions/<id>/logs?after=SEQ`` sends every event after ``SEQ`` once and in order: rows first, then
live batches; wherever numbers do not follow each other the rows are read again. ``/ws/executions/<id>/status``
sends status and progress only. Both end with ``{"type": "end"}`` and close code 1000.

Close codes: 1003 the id or ``after`` is not one, 1008 unknown or not permitted, 1011 a fault of ours, 4403 not
permitted any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import msgspec
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib import auth
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host
from django.urls import re_path
from django.utils.module_loading import import_string

from executions import report
from executions.events import load_logs
from executions.models import Execution
from monitoring.feed import Watch, current_feed, frame, read

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 30.0
PAGE_ROWS: Final = 500
"""Rows read at once; more are read only when the client took these."""
STATUS_SECONDS: Final = 0.2
"""Least time between two status messages."""

NORMAL, BAD_ADDRESS, NOT_PERMITTED, FAULT, NO_LONGER_PERMITTED = 1000, 1003, 1008, 1011, 4403

Application = Callable[[dict[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[Any]]


class Refused(Exception):
    """The socket is closed with ``code``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def may_watch(session_key: str | None, execution_id: UUID) -> bool:
    """Return whether the session belongs to somebody who may see the execution, by the rows as they are now."""
    if not session_key:
        return False
    request = HttpRequest()
    store: type[SessionBase] = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
    request.session = store(session_key)
    user = auth.get_user(request)
    return user.is_authenticated and Execution.objects.visible_to(user).filter(pk=execution_id).exists()


def load_page(execution_id: UUID, after: int) -> tuple[list[tuple[int, str]], bool]:
    """Return up to ``PAGE_ROWS`` messages of the events after ``after``, as ``(seq, JSON text)``, and if there is more."""
    logs, more = load_logs(execution_id, after, PAGE_ROWS)
    return [frame(log) for log in logs], more


class ExecutionConsumer(AsyncWebsocketConsumer):
    """What both sockets do: check who it is, follow one execution, heartbeat, answer ``ping``, end.

    Everything is sent by one task, so that a slow client holds up nobody but itself.
    """

    # The feed has the process's only channel; none is made per socket.
    channel_layer_alias = ""

    execution_id: UUID
    after = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._task: asyncio.Task[None] | None = None
        self._heartbeat_at = 0.0
        self._permission_at = 0.0

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
        """Answer ``ping``; clients have nothing else to say."""
        if text_data is not None and text_data.strip() in ("ping", '{"type":"ping"}', '{"type": "ping"}'):
            await self._message(type="pong")

    async def disconnect(self, code: int) -> None:
        """Stop following."""
        await self._stop()

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _serve(self) -> None:
        code, reason = FAULT, "internal error"
        try:
            self._read_address()
            await self._check_permission()
            async with current_feed().watch(str(self.execution_id)) as watch:
                await self._follow(watch)
            code, reason = NORMAL, ""
        except Refused as refusal:
            code, reason = refusal.code, str(refusal)
        except OSError:
            return  # the client has gone
        except Exception:
            logger.exception("a socket on execution %s failed", getattr(self, "execution_id", "?"))
        try:
            await self.close(code, reason)
        except (OSError, RuntimeError):
            logger.debug("the client had gone before close code %s", code)

    async def _follow(self, watch: Watch) -> None:
        """Send everything until the execution has ended."""
        raise NotImplementedError

    def _read_address(self) -> None:
        text = self.scope["url_route"]["kwargs"]["execution_id"]
        try:
            self.execution_id = UUID(text)
        except ValueError:
            raise Refused(BAD_ADDRESS, "the execution id is not a UUID") from None
        after = parse_qs(self.scope.get("query_string", b"").decode("latin-1")).get("after", ["0"])[-1]
        if not (after.isascii() and after.isdigit() and len(after) <= 10):
            raise Refused(BAD_ADDRESS, "after must be a whole number from 0")
        self.after = int(after)

    async def _check_permission(self, code: int = NOT_PERMITTED) -> None:
        session = self.scope.get("session")
        key = None if session is None else session.session_key
        if not await read(may_watch, key, self.execution_id):
            raise Refused(code, "no such execution for this login")
        self._permission_at = _now() + settings.SOCKET_CHECK_SECONDS

    async def _head(self) -> report.Head:
        head = await read(report.head, self.execution_id)
        if head is None:
            raise Refused(NOT_PERMITTED, "no such execution for this login")
        return head

    async def _hello(self) -> report.Head:
        head = await self._head()
        await self._message(
            type="hello",
            execution_id=str(self.execution_id),
            status=head.status,
            last_seq=head.seq,
            progress=head.progress,
        )
        self._heartbeat_at = _now() + HEARTBEAT_SECONDS
        return head

    async def _keep_up(self) -> float:
        """Do what is due by the clock and return the seconds until something is due again."""
        now = _now()
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
            await self._message(type="heartbeat")
        if now >= self._permission_at:
            await self._check_permission(NO_LONGER_PERMITTED)
        return min(self._heartbeat_at, self._permission_at) - now

    async def _message(self, **content: Any) -> None:
        await self.send(text_data=msgspec.json.encode(content).decode())


class LogsConsumer(ExecutionConsumer):
    """Every event after ``?after=SEQ`` once, in order, without a gap."""

    async def _follow(self, watch: Watch) -> None:
        # The watch is open already: what is written while the rows are read waits in its queue.
        status = (await self._hello()).status
        last = await self._send_rows(self.after)
        while True:
            if status in report.ENDED:
                head = await self._head()
                sent, last = last, await self._send_rows(last)
                if last >= head.seq or last == sent:
                    await self._message(type="end", status=head.status)
                    return
                continue
            await watch.wait(await self._keep_up())
            if watch.overflowed:
                await self._message(type="resync")
                watch.resume()
                last = await self._send_rows(last)
                status = (await self._head()).status
                continue
            for batch in watch.take():
                if status not in report.ENDED:  # a late batch does not bring an execution back
                    status = batch.status
                last = await self._send_frames(batch.frames, last)
            if watch.head is not None:
                head, watch.head = watch.head, None
                status = head.status
                if head.seq > last:
                    last = await self._send_rows(last)

    async def _send_frames(self, frames: list[tuple[int, str]], last: int) -> int:
        """Send what follows ``last``; where a number is missing, read the rows. Return the new last."""
        for seq, text in frames:
            if seq <= last:
                continue
            if seq != last + 1:
                last = await self._send_rows(last)
                if seq <= last:
                    continue
            await self.send(text_data=text)
            last = seq
        return last

    async def _send_rows(self, last: int) -> int:
        """Send all rows after ``last``, page by page, and return the new last."""
        while True:
            page, more = await read(load_page, self.execution_id, last)
            for seq, text in page:
                await self.send(text_data=text)
                last = seq
            if not more:
                return last
            await self._keep_up()


class StatusConsumer(ExecutionConsumer):
    """Status and progress, sent when they change; no log lines."""

    async def _follow(self, watch: Watch) -> None:
        head = await self._hello()
        sent = (head.status, head.done, head.total)
        while not head.ended:
            if not await watch.wait(await self._keep_up()):
                continue
            await asyncio.sleep(STATUS_SECONDS)
            watch.take()
            watch.resume()
            watch.head = None
            head = await self._head()
            if (head.status, head.done, head.total) != sent:
                sent = (head.status, head.done, head.total)
                await self._message(
                    type="status_update",
                    execution_id=str(self.execution_id),
                    status=head.status,
                    progress=head.progress,
                    last_seq=head.seq,
                )
        await self._message(type="end", status=head.status)


async def refuse(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """ASGI application that declines the handshake (HTTP 403)."""
    await send({"type": "websocket.close", "code": NOT_PERMITTED})


class OriginMiddleware:
    """Let a socket in only from a page of the very same origin: scheme, host and port.

    A missing, ``null`` or foreign origin is declined in the handshake, and so is a host that
    ``FLOWBUILDER_ALLOWED_HOSTS`` does not name. Origins in ``FLOWBUILDER_TRUSTED_ORIGINS`` are let in too,
    for a proxy that changes the host.
    """

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Serve the socket or decline it."""
        if same_origin(scope):
            await self.application(scope, receive, send)
        else:
            await refuse(scope, receive, send)


def same_origin(scope: dict[str, Any]) -> bool:
    """Return whether the ``Origin`` of a handshake is the address that it was sent to."""
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if len(origins) != 1 or len(hosts) != 1:
        return False
    if origins[0] in settings.CSRF_TRUSTED_ORIGINS:
        return True
    domain, _port = split_domain_port(hosts[0])
    if not domain or not validate_host(domain, settings.ALLOWED_HOSTS):
        return False
    scheme = "https" if scope.get("scheme") in ("wss", "https") else "http"
    origin = _origin(origins[0])
    return origin is not None and origin == _origin(f"{scheme}://{hosts[0]}")


def _origin(text: str) -> tuple[str, str, int] | None:
    """Return ``(scheme, host, port)``, or None when ``text`` is more or less than an http origin."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    if parts.path or parts.query or parts.fragment:
        return None
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _now() -> float:
    return asyncio.get_running_loop().time()


websocket_urlpatterns = [
    re_path(r"^ws/executions/(?P<execution_id>[^/]+)/logs$", LogsConsumer.as_asgi()),
    re_path(r"^ws/executions/(?P<execution_id>[^/]+)/status$", StatusConsumer.as_asgi()),
    re_path(r"", cast(Any, refuse)),
]
