"""Rates as settings write them: ``600/min``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

UNITS: Final = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` requests in ``seconds``, and as many at once."""

    count: int
    seconds: int

    @property
    def each_ms(self) -> float:
        """Return after how many milliseconds there is room for one more."""
        return self.seconds * 1000 / self.count


@lru_cache
def read_rate(text: str) -> Rate | None:
    """Return the rate that ``600/min``, ``10/s`` or ``100/h`` names, None for ``off``.

    Raises:
        ValueError: it is something else.
    """
    if text.strip().lower() == "off":
        return None
    found = re.fullmatch(r"\s*([1-9][0-9]{0,8})\s*/\s*(s|min|h)\s*", text, re.ASCII)
    if not found:
        raise ValueError("must be a number per s, min or h, such as 600/min, or off")
    return Rate(int(found[1]), UNITS[found[2]])
