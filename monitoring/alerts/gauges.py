"""What queues and resources were like, minute by minute, so that a rule about them can be tried on last week."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from executions import store
from monitoring.alerts.measures import Look
from monitoring.models import Gauge

QUEUE: Final = "queue "
"""What the name of a gauge of a queue begins with; those of resources are their names."""


def note() -> None:
    """Write what there is, once a minute; later calls in the same minute, by any process, cost two queries."""
    look = Look(store.database_now_us())
    minute = minute_of(look.now)
    if Gauge.objects.filter(minute=minute).exists():
        return
    values = {f"{QUEUE}{name}": float(depth) for name, depth in (look.depths() or {}).items()}
    values |= {name: reading.value for name, reading in look.resources().items()}
    rows = [Gauge(minute=minute, name=name, value=value) for name, value in values.items()]
    Gauge.objects.bulk_create(rows, ignore_conflicts=True)


def minute_of(moment: datetime) -> int:
    """Return the whole minutes since 1970."""
    return int(moment.timestamp() // 60)
