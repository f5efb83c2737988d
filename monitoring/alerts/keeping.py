"""How long it is known what was raised, and what queues and resources were like."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from executions import store
from monitoring.alerts.gauges import minute_of
from monitoring.models import Alert, Gauge

GAUGE_DAYS: Final = 8
ALERT_DAYS: Final = 90
"""How long alerts that are over are kept, with their messages."""


def thin() -> int:
    """Remove what is older than that and return how many rows went."""
    now = store.us_to_datetime(store.database_now_us())
    gauges, _ = Gauge.objects.filter(minute__lt=minute_of(now) - GAUGE_DAYS * 24 * 60).delete()
    alerts, _ = Alert.objects.filter(resolved_at__lt=now - timedelta(days=ALERT_DAYS)).delete()
    return gauges + alerts
