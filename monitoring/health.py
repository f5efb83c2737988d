"""What must serve for this installation to do its work, and what people read when something does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import redis
from django.conf import settings
from django.db import connection
from django.db.models import QuerySet

from executions.models import WorkerLease

LIVE_SECONDS: Final = 20
"""A process whose last sign of life is older does not count."""
BEAT_QUEUES: Final = "beat"
"""What ``WorkerLease.queues`` says for the scheduler process."""
ISOLATED_QUEUES: Final = "isolated"
"""The same for a process that starts nothing and runs isolated nodes only."""


class NotReady(Exception):
    """A part that is needed does not serve; the message says which and what to do."""


def check_database() -> str:
    """Return what was found; raises when the database does not answer."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return connection.vendor


def check_redis(seconds: float = 2) -> str:
    """Return what was found; raises when Redis does not answer within ``seconds``.

    Raises:
        NotReady: it is full and refuses messages.
    """
    used, limit = _redis_memory(seconds)
    if 0 < limit <= used:
        raise NotReady(
            f"is full ({limit:,} bytes) and takes no messages; what is started now runs later. Raise its maxmemory"
        )
    return "answers"


def redis_percent() -> float | None:
    """Return how much Redis uses of the memory that it may take; None without a limit, or when it does not answer."""
    try:
        used, limit = _redis_memory(PATIENCE_SECONDS)
    except (redis.RedisError, OSError):
        return None
    return min(100.0, used * 100 / limit) if limit else None


def _redis_memory(seconds: float) -> tuple[int, int]:
    """Return how many bytes Redis uses and how many it may, 0 for any number."""
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
        memory: Any = client.info("memory")
    return memory["used_memory"], memory.get("maxmemory", 0)


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


def run(check: Callable[[], str]) -> dict[str, object]:
    """Return the outcome of ``check``. Errors of drivers are named by class only: they tell addresses."""
    try:
        return {"ok": True, "detail": check()}
    except NotReady as error:
        return {"ok": False, "detail": str(error)}
    except Exception as error:
        return {"ok": False, "detail": type(error).__name__}


# --------------------------------------------------------------------------- for people


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that keeps the installation from its work: what it is, and what comes of it and mends it."""

    what: str
    advice: str


REDIS_SILENT: Final = Trouble(
    "Redis does not answer.",
    "What is started now is stored and runs once Redis is back; live pages stand still until then. Start Redis again, or"
    " see whether REDIS_URL is right: ./flow doctor tells.",
)
REDIS_FULL: Final = Trouble(
    "Redis is full and takes no messages.",
    "What is started now is stored and runs once there is room. Raise its maxmemory, or remove what others keep in it.",
)
NO_WORKER: Final = Trouble(
    "No worker is alive.",
    "What is started now is stored and waits for one. Start a worker: ./flow up does, docs/scaling.md says how to add more.",
)
NO_BEAT: Final = Trouble(
    "The scheduler (beat) is not running.",
    "Schedules start nothing, and nobody takes up what a lost process left behind. Start it again, or set"
    " FLOWBUILDER_NO_BEAT=1 if none is wanted.",
)

KEPT_SECONDS: Final = 3.0
"""How long an answer of Redis counts before a page asks again."""
PATIENCE_SECONDS: Final = 1.0
"""How long one page in ``KEPT_SECONDS`` may wait for a Redis that hangs."""


def troubles() -> list[Trouble]:
    """Return what is wrong now, for the pages of the admin. One query; Redis is asked every three seconds at most.

    Nobody waits for a question that another thread asks; they get what was known before.
    """
    queues = set(_alive().values_list("queues", flat=True))
    found = [_redis.trouble()]
    if not queues - {BEAT_QUEUES, ISOLATED_QUEUES}:
        found.append(NO_WORKER)
    if BEAT_QUEUES not in queues and not settings.NO_BEAT:
        found.append(NO_BEAT)
    return [trouble for trouble in found if trouble]


class _Redis:
    """What this process knows about the Redis of its settings."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._url, self._until = "", 0.0
        self._trouble: Trouble | None = None

    def trouble(self) -> Trouble | None:
        """Return what is wrong with it, if anything."""
        known = self._url == settings.REDIS_URL and time.monotonic() < self._until
        if not known and self._asking.acquire(blocking=False):
            try:
                self._trouble = self._ask()
                self._url, self._until = settings.REDIS_URL, time.monotonic() + KEPT_SECONDS
            finally:
                self._asking.release()
        return self._trouble

    @staticmethod
    def _ask() -> Trouble | None:
        try:
            check_redis(PATIENCE_SECONDS)
        except NotReady:
            return REDIS_FULL
        except (redis.RedisError, OSError):
            return REDIS_SILENT
        return None


_redis = _Redis()
