"""The numbers above the monitor: what gets done, how it goes, what waits and what is busy, as of this second."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import Count
from django.utils import timezone
from kombu.exceptions import OperationalError

from executions import states, store
from executions.models import BrowserSession, Execution, NodeRun, WorkerLease
from executions.opening import BROWSER_QUEUE
from monitoring import history
from monitoring.health import BEAT_QUEUES, ISOLATED_QUEUES, LIVE_SECONDS
from monitoring.queues import depths
from workflows import access

logger = logging.getLogger(__name__)

KNOWN_SECONDS: Final = 1.0
"""How long a process goes by the numbers that it found."""
PACE: Final = timedelta(minutes=5)
"""Over which time the throughput is taken."""
LATELY: Final = timedelta(hours=1)
"""Over which time success rate and p95 are taken."""
SETTLED: Final = timedelta(minutes=2)
"""After this time hardly anything is added to what ended."""
KEYS_KEPT: Final = 1000
"""How many findings are kept before those that are too old are let go."""


def tiles_for(user: Any) -> dict[str, Any]:
    """Return the numbers that ``user`` may see, at most a second old.

    ``throughput_per_minute`` is of the last five minutes, ``success_rate`` (0 to 1) and ``p95_ms`` (queued to ended) of
    the last hour, both None when nothing ended; ``credits_today`` since midnight in the zone of the installation.
    ``running``, ``pending`` and ``held`` (waiting or paused) count executions. All these are of the user's own
    executions, or of all with the permission to see everything.

    ``queues`` (messages that wait), ``slots``, ``browsers`` and ``workers`` are of the installation, for staff: others,
    and everybody while the broker does not answer, get no ``queues``, and others None for the rest. At most six
    queries; what one question found is kept for all who may see the same.
    """
    owner = None if access.sees_everything(user) else user.pk
    found = known.get(("executions", owner), KNOWN_SECONDS, lambda: _of_executions(owner))
    if not user.is_staff:
        return {**found, "queues": {}, "slots": None, "browsers": None, "workers": None}
    return {**found, **known.get(("installation", None), KNOWN_SECONDS, of_installation)}


def _of_executions(owner: Any) -> dict[str, Any]:
    now = store.us_to_datetime(store.database_now_us())
    executions = Execution.objects.open().filter(parent=None).order_by()
    if owner is not None:
        executions = executions.filter(owner=owner)
    open_now = dict(executions.values_list("status").annotate(Count("pk")))
    since = (now - PACE).replace(second=0, microsecond=0)
    lately = history.ended(now - LATELY, now, owner=owner)
    return {
        "throughput_per_minute": history.ended(since, now, owner=owner).runs / ((now - since).total_seconds() / 60),
        "success_rate": lately.success_rate,
        "p95_ms": lately.p95_ms,
        "running": open_now.get(states.RUNNING, 0),
        "pending": open_now.get(states.QUEUED, 0),
        "held": open_now.get(states.PAUSED, 0) + open_now.get(states.WAITING, 0),
        "credits_today": _credits_today(now, owner),
    }


def _credits_today(now: datetime, owner: Any) -> int:
    """Return what all cost that ended since midnight. The hours that are over are added up once a minute."""
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    hour = max(midnight, (now - SETTLED).replace(minute=0, second=0, microsecond=0))
    before: int = known.get(
        ("credits", owner, midnight, hour), 60, lambda: history.ended(midnight, hour, owner=owner).credits
    )
    return before + history.ended(hour, now, owner=owner).credits


def of_installation() -> dict[str, Any]:
    """Return ``queues``, ``slots``, ``browsers`` and ``workers`` as they are now; four queries."""
    now = store.database_now_us()
    leases = WorkerLease.objects.filter(beat_at__gte=now - LIVE_SECONDS * 1_000_000).exclude(queues=BEAT_QUEUES)
    workers = list(leases.values_list("queues", "slots"))
    hosts = sum(BROWSER_QUEUE in queues.split(",") for queues, _ in workers)
    held = NodeRun.objects.filter(status__one_of=(states.RUNNING, states.RETRYING), lease_until__gt=now).order_by()
    open_now = Execution.objects.open().order_by().values("pk")
    pages = BrowserSession.objects.filter(
        execution__in=open_now, status__in=(BrowserSession.OPENING, BrowserSession.LIVE)
    )
    return {
        "queues": _depths(),
        "slots": {"busy": held.values("claim").distinct().count(), "total": sum(slots for _, slots in workers)},
        "browsers": {"open": pages.count(), "limit": hosts * settings.BROWSER_SLOTS},
        "workers": sum(queues != ISOLATED_QUEUES for queues, _ in workers),
    }


def _depths() -> dict[str, int]:
    try:
        return depths()
    except OperationalError as error:
        logger.info("the queues cannot be counted: the broker does not answer: %s", error)
        return {}


@dataclass(slots=True)
class _Entry:
    """A number that is known until a moment (monotonic), and the lock of who finds it anew."""

    until: float = 0.0
    value: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Known:
    """What this process found lately. One thread looks for it; others wait for what that finds."""

    def __init__(self) -> None:
        self._entries: dict[tuple[Any, ...], _Entry] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...], seconds: float, find: Callable[[], Any]) -> Any:
        """Return what ``find()`` gives, at most ``seconds`` old."""
        with self._lock:
            if len(self._entries) >= KEYS_KEPT:
                self._forget_old()
            entry = self._entries.setdefault(key, _Entry())
        with entry.lock:
            if time.monotonic() >= entry.until:
                entry.value = find()
                entry.until = time.monotonic() + seconds
            return entry.value

    def forget(self) -> None:
        """Look anew at the next question."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def _forget_old(self) -> None:
        now = time.monotonic()
        self._entries = {key: entry for key, entry in self._entries.items() if entry.until > now or entry.lock.locked()}


known = Known()
