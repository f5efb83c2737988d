"""Who may open a socket and what they may see through it: origin, login, permission, close codes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.contrib import auth
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host
from django.utils.module_loading import import_string

from executions.models import Execution
from workflows import access

NORMAL: Final = 1000
BAD_MESSAGE: Final = 1003
NOT_PERMITTED: Final = 1008
FAULT: Final = 1011
NO_LONGER_PERMITTED: Final = 4403
TOO_MANY: Final = 4429

Application = Callable[[dict[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[Any]]


class Refused(Exception):
    """The socket, or one subscription of it, ends with ``code``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Sight:
    """What somebody may see: who they are, whether everything or their own, and which of the asked executions."""

    user: Any
    everything: bool
    executions: frozenset[UUID]


def look(session_key: str | None, execution_ids: Collection[UUID]) -> Sight | None:
    """Return what the login of a session may see, by the rows as they are now; None when there is no login.

    One query for all of ``execution_ids``, beside those for the session and its user.
    """
    if not session_key:
        return None
    request = HttpRequest()
    store: type[SessionBase] = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
    request.session = store(session_key)
    user = auth.get_user(request)
    if not user.is_authenticated:
        return None
    seen: set[UUID] = set()
    if execution_ids:
        seen.update(Execution.objects.visible_to(user).filter(pk__in=list(execution_ids)).values_list("pk", flat=True))
    return Sight(user, access.sees_everything(user), frozenset(seen))


class Allowance:
    """How much a client may say: ``BURST`` messages at once, and ``PER_SECOND`` in the long run."""

    BURST: Final = 500
    PER_SECOND: Final = 50

    def __init__(self) -> None:
        self._left = float(self.BURST)
        self._at = time.monotonic()

    def take(self) -> None:
        """Count one message.

        Raises:
            Refused: it is one too many.
        """
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self.PER_SECOND, self.BURST)
        self._at = now
        if self._left < 1:
            raise Refused(TOO_MANY, f"more than {self.PER_SECOND} messages a second")
        self._left -= 1


async def refuse(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """ASGI application that declines the handshake (HTTP 403)."""
    await send({"type": "websocket.close", "code": NOT_PERMITTED})


async def close_at_once(receive: Callable[..., Any], send: Callable[..., Any], code: int, reason: str) -> None:
    """Accept a handshake only to say why not: a code reaches the client only on an open socket."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": code, "reason": reason})


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
