"""The thread in which beat looks at rules and sends messages, beside its schedules, which never wait for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from monitoring.alerts import gauges
from monitoring.alerts.courier import Courier
from monitoring.alerts.evaluation import Evaluator

logger = logging.getLogger(__name__)

SEND_SECONDS: Final = 1.0
"""How often it is looked for messages that are due."""


class Watch(threading.Thread):
    """Looks at rules every ``FLOWBUILDER_ALERT_SECONDS`` and at the outbox every second, as long as the process lives."""

    def __init__(self) -> None:
        super().__init__(name="alerts", daemon=True)
        self._evaluator, self._courier = Evaluator(), Courier()

    def run(self) -> None:
        """Go on whatever happens."""
        looked = float("-inf")
        while True:
            time.sleep(min(SEND_SECONDS, settings.ALERT_SECONDS))
            if time.monotonic() - looked >= settings.ALERT_SECONDS:
                looked = time.monotonic()
                self._try(self._evaluator.look)
                self._try(gauges.note)
            self._try(self._courier.send_due)

    @staticmethod
    def _try(act: Callable[[], object]) -> None:
        try:
            act()
        except DatabaseError as error:
            logger.warning("alerts wait for the database: %s", error)
            connection.close()
        except Exception:
            logger.exception("alerts go on after an error")


def start(**kwargs: object) -> None:
    """Begin to watch in this process, which is beat."""
    Watch().start()
