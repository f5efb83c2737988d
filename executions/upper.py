"""What rooms above this one hang into it; they know us, we do not know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

BEAT_TICKS: Final[list[Callable[[], None]]] = []
"""Called about once a second by every beat, one after another in its only thread: each must be short."""
