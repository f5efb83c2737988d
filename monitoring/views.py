"""Whether this installation is alive, and whether it can do its work: addresses for machines."""

from __future__ import annotations

import threading
import time
from typing import Final

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from monitoring.health import CHECKS, run

KNOWN_SECONDS: Final = 1.0
"""How long a process goes by what its checks found."""


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
