"""Periodic work on what was counted."""

from __future__ import annotations

import logging

from celery import shared_task

from monitoring import counting

logger = logging.getLogger(__name__)


@shared_task(name="monitoring.thin")
def thin() -> int:
    """Add up old minutes by the hour and remove very old hours; return how many rows went."""
    removed = counting.thin()
    logger.info("totals: %d rows were added up or removed", removed)
    return removed
