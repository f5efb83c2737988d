"""The machines on which workers and the scheduler run: which is the fullest, as their processes tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from executions import store
from executions.models import WorkerLease
from monitoring.health import LIVE_SECONDS

RESOURCES: Final = ("disk", "memory")


@dataclass(frozen=True, slots=True)
class Fullest:
    """How much is in use where most is, in percent, and on which machine."""

    percent: float
    hostname: str


def fullest() -> dict[str, Fullest]:
    """Return for the disk and the memory where most of it is in use, of processes that live; without what is not known.

    One query.
    """
    since = store.database_now_us() - LIVE_SECONDS * 1_000_000
    rows = WorkerLease.objects.filter(beat_at__gte=since).values_list("hostname", "disk_percent", "memory_percent")
    found: dict[str, Fullest] = {}
    for hostname, *percents in rows:
        for name, percent in zip(RESOURCES, percents, strict=True):
            if percent is not None and (name not in found or percent > found[name].percent):
                found[name] = Fullest(percent, hostname)
    return found
