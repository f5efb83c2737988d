"""Whether this installation is alive, and whether it can do its work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import redis
from django.conf import settings
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from executions.models import WorkerLease

LIVE_SECONDS: Final = 20
"""A process whose last sign of life is older does not count."""
BEAT_QUEUES: Final = "beat"
"""What ``WorkerLease.queues`` says for the scheduler process."""
ISOLATED_QUEUES: Final = "isolated"
"""The same for a process that starts nothing and runs isolated nodes only."""


class NotReady(Exception):
    """A part that is needed does not serve; the message says which and what to do."""


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 as long as this process answers at all."""
    return JsonResponse({"status": "alive"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when database, Redis, a worker and beat all serve, else 503; says which does not."""
    checks = {name: _run(check) for name, check in CHECKS.items() if name != "beat" or not settings.NO_BEAT}
    ready = all(check["ok"] for check in checks.values())
    response = JsonResponse(
        {"status": "ready" if ready else "not ready", "checks": checks}, status=200 if ready else 503
    )
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django logs every 503 as an error; this one is an answer
    return response


def check_database() -> str:
    """Return what was found; raises when the database does not answer."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return connection.vendor


def check_redis() -> str:
    """Return what was found; raises when Redis does not answer within two seconds.

    Raises:
        NotReady: it is full and refuses messages.
    """
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2) as client:
        memory: Any = client.info("memory")
    limit = memory.get("maxmemory", 0)
    if 0 < limit <= memory["used_memory"]:
        raise NotReady(
            f"is full ({limit:,} bytes) and takes no messages; what is started now runs later. Raise its maxmemory"
        )
    return "answers"


def check_worker() -> str:
    """Return how many workers live that can start an execution.

    Raises:
        NotReady: none does.
    """
    count = _alive().exclude(queues__in=(BEAT_QUEUES, ISOLATED_QUEUES)).count()
    if not count:
        raise NotReady(f"no worker gave a sign of life for {LIVE_SECONDS} s")
    return f"{count} alive"


def check_beat() -> str:
    """Return how many schedulers live.

    Raises:
        NotReady: none does.
    """
    count = _alive().filter(queues=BEAT_QUEUES).count()
    if not count:
        raise NotReady(
            f"no scheduler (beat) gave a sign of life for {LIVE_SECONDS} s; set FLOWBUILDER_NO_BEAT=1 if none is wanted"
        )
    return f"{count} alive"


CHECKS: Final[dict[str, Callable[[], str]]] = {
    "database": check_database,
    "redis": check_redis,
    "worker": check_worker,
    "beat": check_beat,
}


def _alive() -> QuerySet[WorkerLease]:
    return WorkerLease.objects.filter(beat_at__gte=int((time.time() - LIVE_SECONDS) * 1_000_000))


def _run(check: Callable[[], str]) -> dict[str, object]:
    """Return the outcome of ``check``. Errors of drivers are named by class only: they tell addresses."""
    try:
        return {"ok": True, "detail": check()}
    except NotReady as error:
        return {"ok": False, "detail": str(error)}
    except Exception as error:
        return {"ok": False, "detail": type(error).__name__}
