"""Bodies of requests, bounded before anything looks at them.

Django takes in a whole body before it asks anybody. Here one that is too large is answered when that is known, be it
by its header or while it comes in. At addresses that strangers know the bound is tighter, and a body that never ends
is not waited for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LARGEST_BYTES: Final = 1024 * 1024
"""The most that a body may have at addresses that strangers know."""
LARGEST_ELSEWHERE_BYTES: Final = 64 * 1024 * 1024
"""The same at all others, files included, unless workflows may be larger; each has a tighter bound of its own."""
BODY_SECONDS: Final = 20.0
"""How long a body may take to come in."""
LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 4 * LARGEST_BYTES
"""What is thrown away after a refusal, so that a sender who still writes comes to read it."""


def most_elsewhere() -> int:
    """Return how many bytes a body may have at addresses that only people know who are logged in."""
    return max(LARGEST_ELSEWHERE_BYTES, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def too_large_text(what: str = "the request") -> str:
    """Return what is said of a request that has more beside its files than Django takes, and the way out.

    The same bound holds for the files that commands read; ``what`` names one.
    """
    most, workflow = (size / 1024**2 for size in (settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.MAX_DEFINITION_BYTES))
    return (
        f"{what} is larger than {most:.3g} MB, the most that is taken; send less at once. A workflow may have "
        f"{workflow:.3g} MB as JSON (FLOWBUILDER_MAX_DEFINITION_BYTES): divide a larger one into subflows"
    )


class BoundedBodies:
    """Let requests through to ``app``: those to addresses that begin with ``prefix`` once their body is here."""

    def __init__(self, app: App, prefix: str) -> None:
        self.app, self.prefix = app, prefix

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer the request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        known = scope["path"].startswith(self.prefix)
        most = LARGEST_BYTES if known else most_elsewhere()
        if _declared(scope) > most:
            await _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(most), receive, send)
        elif known:
            await self._serve_whole(scope, receive, send)
        else:
            await self.app(scope, _Counted(receive, send), send)

    async def _serve_whole(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(receive, LARGEST_BYTES)
        except TimeoutError:
            await _refuse(
                HTTPStatus.REQUEST_TIMEOUT, f"the body took longer than {BODY_SECONDS:g} s", receive, send
            )  # fmt: skip
            return
        except OverflowError:
            await _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(LARGEST_BYTES), receive, send)
            return
        if body is not None:
            await self.app(scope, _replay(body, receive), send)


class _Counted:
    """What comes in for one request; when it is too much the sender is told, and the application that it left."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._bytes, self._most = 0, most_elsewhere()

    async def __call__(self) -> Message:
        message: Message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes <= self._most:
            return message
        await _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(self._most), self._receive, self._send)
        return {"type": "http.disconnect"}


def _too_large(most: int) -> str:
    return f"the body is larger than {most:,} bytes"


def _declared(scope: Message) -> int:
    """Return how many bytes the header announces; 0 when it says nothing that can be read."""
    found = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(found[0]) if found and found[0].isdigit() and len(found[0]) < 19 else 0


async def _read(receive: Receive, most: int) -> bytes | None:
    """Return the whole body, None when the sender left.

    Raises:
        OverflowError: it has more than ``most`` bytes.
    """
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        if size > most:
            raise OverflowError
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives ``body`` once, and then whatever comes."""
    todo: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return todo.pop() if todo else await receive()

    return again


async def _refuse(status: HTTPStatus, detail: str, receive: Receive, send: Send) -> None:
    """Answer, and end the connection."""
    text = json.dumps({"detail": detail}).encode()
    headers = [
        (b"content-type", b"application/json"), (b"content-length", str(len(text)).encode()), (b"connection", b"close"),
        (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": text, "more_body": True})
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            await _read(receive, LINGER_BYTES)
    except (TimeoutError, OverflowError):
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
