"""Every request and socket has an id, which its answer carries and the log lines name that it causes."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import uuid4

from executions import logs

Application = Callable[[dict[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[Any]]

HEADER: Final = b"x-request-id"
_SENSIBLE: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    """Take the id that a proxy gave in ``X-Request-ID``, if it is a plain word of at most 64 characters, else make one."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Serve the request; the answer has the id as a header."""
        if scope["type"] not in ("http", "websocket"):
            await self.application(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        request_id = given if _SENSIBLE.fullmatch(given) else uuid4().hex.encode()
        logs.forget()  # a connection serves one request after another in the same task
        logs.about(request_id=request_id.decode())

        async def send_named(message: dict[str, Any]) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message = {**message, "headers": [*message.get("headers", ()), (HEADER, request_id)]}
            await send(message)

        await self.application(scope, receive, send_named)
