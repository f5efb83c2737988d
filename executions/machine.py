"""How full the machine of this process is: its disk with the data directory, and its memory. Plain Python."""

from __future__ import annotations

import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fullness:
    """What is in use, in percent; None where it is not known."""

    disk_percent: float | None = None
    memory_percent: float | None = None


class Gauge:
    """What was found at the last look. A disk that hangs keeps nobody waiting: each look is in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found = Fullness()

    def read(self, folder: Path) -> Fullness:
        """Return what was found lately, nothing at first, and look anew at the disk that holds ``folder``."""
        if self._lock.acquire(blocking=False):
            try:
                threading.Thread(target=self._look, args=(folder,), name="machine", daemon=True).start()
            except RuntimeError:  # a confined process may have no room for another thread
                self._lock.release()
        return self._found

    def _look(self, folder: Path) -> None:
        try:
            self._found = look(folder)
        finally:
            self._lock.release()


gauge = Gauge()
"""That of this process."""


def look(folder: Path) -> Fullness:
    """Return what is in use now, of the disk that holds ``folder`` and of memory."""
    return Fullness(_disk(folder), _memory())


def share(used: float, total: float) -> float | None:
    """Return how much that is in percent, at most 100; None when there is nothing to use."""
    return min(100.0, used * 100 / total) if total else None


def _disk(folder: Path) -> float | None:
    with suppress(OSError):
        found = shutil.disk_usage(folder)
        return share(found.used, found.used + found.free)
    return None


def _memory() -> float | None:
    """Return how much of this machine's memory is in use, or of what this container may have where that is scarcer.

    None where the kernel is not Linux.
    """
    shares = [found for found in (_memory_of_machine(), memory_of_container()) if found is not None]
    return max(shares, default=None)


def _memory_of_machine() -> float | None:
    found = _lines(Path("/proc/meminfo"))
    total = found.get("MemTotal:", 0)
    return share(total - found.get("MemAvailable:", 0), total)


def memory_of_container(group: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the share without what the kernel gives back at once; None without a limit."""
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):
        return None
    return share(used - _lines(group / "memory.stat").get("inactive_file", 0), limit)


def _lines(path: Path) -> dict[str, int]:
    """Return the numbers of a file of the kernel by their names; empty when there is no such file."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
