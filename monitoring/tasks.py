"""Periodic work on what was counted and raised."""

from __future__ import annotations

import logging

from celery import shared_task

from monitoring import counting
from monitoring.alerts import keeping

logger = logging.getLogger(__name__)


@shared_task(name="monitoring.thin")
def thin() -> int:
    """Add up old minutes by the hour, remove very old hours and alerts; return how many rows went."""
    totals, alerts = counting.thin(), keeping.thin()
    logger.info("totals: %d rows were added up or removed; alerts: %d rows were removed", totals, alerts)
    return totals + alerts
