"""Whether this installation is alive, whether it can do its work, and its numbers: addresses for machines."""

from __future__ import annotations

import ipaddress
import secrets
import threading
import time
from typing import Final

from django.conf import settings
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from monitoring.health import CHECKS, run
from monitoring.metrics import text

KNOWN_SECONDS: Final = 1.0
"""How long a process goes by what its checks found."""
FORWARDED: Final = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
"""Headers by which proxies say that they ask for somebody else."""


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 as long as this process answers at all."""
    return JsonResponse({"status": "alive"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when database, Redis, a worker and beat all serve, else 503; says which does not.

    What was found counts for a second, so that nobody who asks often makes the process look more often.
    """
    checks = {name: found for name, found in _known.checks().items() if name != "beat" or not settings.NO_BEAT}
    ready = all(check["ok"] for check in checks.values())
    response = JsonResponse(
        {"status": "ready" if ready else "not ready", "checks": checks}, status=200 if ready else 503
    )
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django logs every 503 as an error; this one is an answer
    return response


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer the metrics in the format of Prometheus, to who knows the token; without one, to who asks on this machine."""
    if settings.METRICS_TOKEN:
        if not _knows_token(request):
            return _plain(
                "The token of FLOWBUILDER_METRICS_TOKEN is missing or wrong.", 401, {"WWW-Authenticate": "Bearer"}
            )
    elif not _is_here(request):
        return _plain("Metrics are for this machine only. Set FLOWBUILDER_METRICS_TOKEN to ask from another one.", 403)
    try:
        content, content_type = text(request.headers.get("Accept", ""))
    except DatabaseError:
        return _plain("The database does not answer.", 503)
    return HttpResponse(content, content_type=content_type)


def _knows_token(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and secrets.compare_digest(
        token.strip().encode(), settings.METRICS_TOKEN.encode()
    )


def _is_here(request: HttpRequest) -> bool:
    """Return whether a program on this machine asks, and for itself: a proxy beside us asks for somebody else."""
    try:
        here = ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
    return here and not any(name in request.headers for name in FORWARDED)


def _plain(message: str, status: int, headers: dict[str, str] | None = None) -> HttpResponse:
    response = HttpResponse(f"{message}\n", status=status, content_type="text/plain; charset=utf-8", headers=headers)
    response._has_been_logged = True  # type: ignore[attr-defined]  # an answer, no error of ours
    return response


class _Known:
    """What this process found lately. Only one thread looks; others wait for what it finds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._checks: dict[str, dict[str, object]] = {}

    def checks(self) -> dict[str, dict[str, object]]:
        """Return the outcome of every check, at most ``KNOWN_SECONDS`` old."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._checks = {name: run(check) for name, check in CHECKS.items()}
                self._until = time.monotonic() + KNOWN_SECONDS
            return self._checks

    def forget(self) -> None:
        """Look anew at the next question."""
        self._until = 0.0


_known = _Known()
