"""What this process has used so far, for whoever looks at a node that failed."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATM = Path("/proc/self/statm")
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


def usage() -> dict[str, float]:
    """Return ``cpu_seconds`` since the process began, ``memory_bytes`` now and ``peak_memory_bytes``; about 20 us.

    Memory is what is resident; where the system does not tell that of now, it is left out.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds, peak = round(used.ru_utime + used.ru_stime, 3), used.ru_maxrss * _PEAK_UNIT
    if not _STATM.exists():
        return {"cpu_seconds": seconds, "peak_memory_bytes": peak}
    now = int(_STATM.read_text().split()[1]) * resource.getpagesize()
    return {"cpu_seconds": seconds, "memory_bytes": now, "peak_memory_bytes": max(peak, now)}  # the peak is noted late
