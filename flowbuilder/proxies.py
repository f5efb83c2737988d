"""Who asks, when a proxy in front of us asks for them.

The server must leave ``X-Forwarded-For`` alone (``uvicorn --no-proxy-headers``): by itself it believes every program on
the same machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class ClientAddresses:
    """Take the client's address and scheme from ``X-Forwarded-For`` and ``X-Forwarded-Proto`` of ``trusted`` proxies.

    Of a chain of them it is the last address that is no proxy of ours: what stands before it anybody may have written.
    """

    def __init__(self, app: Any, trusted: Sequence[str]) -> None:
        self.app = ProxyHeadersMiddleware(app, list(trusted)) if trusted else app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        await self.app(scope, receive, send)
