"""Bodies of requests to addresses that strangers know: bounded in size and time before anything looks at them.

Django takes in a whole body before it asks anybody. Here one that is too large is answered when that is known, be it
by its header or while it comes in, and one that never ends is not waited for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LARGEST_BYTES: Final = 1024 * 1024
BODY_SECONDS: Final = 20.0
"""How long a body may take to come in."""
LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 4 * LARGEST_BYTES
"""What is thrown away after a refusal, so that a sender who still writes comes to read it."""


class BoundedBodies:
    """Let requests to addresses that begin with ``prefix`` through to ``app`` once their body is here."""

    def __init__(self, app: App, prefix: str) -> None:
        self.app, self.prefix = app, prefix

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer the request."""
        if scope["type"] != "http" or not scope["path"].startswith(self.prefix):
            await self.app(scope, receive, send)
            return
        if _declared(scope) > LARGEST_BYTES:
            await _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(), receive, send)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(receive, LARGEST_BYTES)
        except TimeoutError:
            await _refuse(
                HTTPStatus.REQUEST_TIMEOUT, f"the body took longer than {BODY_SECONDS:g} s", receive, send
            )  # fmt: skip
            return
        except OverflowError:
            await _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(), receive, send)
            return
        if body is not None:
            await self.app(scope, _replay(body, receive), send)


def _too_large() -> str:
    return f"the body is larger than {LARGEST_BYTES:,} bytes"


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
