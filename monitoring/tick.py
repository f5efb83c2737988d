"""What beat does for monitoring, again and again: in one process at a time, by a lock of the database."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from executions.alone import only_one
from monitoring.counting import count_ended

logger = logging.getLogger(__name__)

STEPS: Final[tuple[Callable[[], object], ...]] = (count_ended,)
"""In this order. Each is short: schedules wait for it."""


def tick() -> None:
    """Do every step once; nothing when another process is at it. A step that fails does not keep the others from theirs."""
    with only_one("monitoring") as ours:
        if not ours:
            return
        for step in STEPS:
            try:
                step()
            except Exception:
                logger.exception("%s of monitoring failed; the others go on", step.__name__)
