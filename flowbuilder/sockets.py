"""What every socket passes before anybody looks at it: how often one address opens any, and how many somebody has open."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from django.conf import settings

from flowbuilder import throttle
from flowbuilder.rates import read_rate
from monitoring.clients import clients
from monitoring.doorway import TOO_MANY, Application, close_at_once, refuse


class SocketRate:
    """Decline the handshake (HTTP 403) of an address that opens sockets too often, before its session is looked up."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Serve the socket or decline it."""
        rate = read_rate(settings.API_RATE)
        wait = 0 if rate is None else await asyncio.to_thread(throttle.take, f"socket:{_address(scope)}", rate)
        if wait:
            await refuse(scope, receive, send)
        else:
            await self.application(scope, receive, send)


class OpenSockets:
    """Close at once, with 4429, the socket of whoever has as many open at this process as they may."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Serve the socket or close it."""
        user = scope["user"]
        whose = f"user:{user.pk}" if user.is_authenticated else f"address:{_address(scope)}"
        if self._open[whose] >= settings.USER_SOCKETS:
            await close_at_once(receive, send, TOO_MANY, f"{settings.USER_SOCKETS} sockets are open")
            return
        self._open[whose] += 1
        try:
            with clients.counted():
                await self.application(scope, receive, send)
        finally:
            self._open[whose] -= 1
            if not self._open[whose]:
                del self._open[whose]


def _address(scope: dict[str, Any]) -> str:
    """Return who asks. A server on a unix socket names no client."""
    return throttle.known_as((scope.get("client") or ("",))[0])
