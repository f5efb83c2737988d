"""How long periodic work goes on: until its time is up, or its process is told to end."""

from __future__ import annotations

import threading
import time

_ending = threading.Event()


def end() -> None:
    """Let the periodic work of this process finish the piece it has begun, and leave the rest to the next time."""
    _ending.set()


def is_over(until: float) -> bool:
    """Return whether work that may take ``until`` a time of the monotonic clock begins nothing more."""
    return _ending.is_set() or time.monotonic() > until
