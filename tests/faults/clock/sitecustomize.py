"""Loaded first by processes under libfaketime, whose clock_nanosleep refuses the sleep of Python 3.11 and later."""

import threading
import time
from typing import SupportsIndex


def sleep(seconds: SupportsIndex | float) -> None:
    """Wait as ``time.sleep`` does."""
    if float(seconds) > 0:
        threading.Event().wait(float(seconds))


time.sleep = sleep
