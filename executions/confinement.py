"""What the kernel enforces on a process that runs isolated nodes, whatever the code in it does.

Memory, processor time, open files and the length of one attempt are limits of the kernel, so they hold even
while foreign code keeps the interpreter's lock. Plain Python; a process that was not confined pays a comparison.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

SPOILT_SECONDS = 0.5
"""How long a process may wait for its next node after one left something behind in it."""
CPU_POLL_SECONDS = 0.5
CPU_GRACE_SECONDS = 10
"""How much more processor time a node has before the kernel ends the process that could not end it itself."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may use: memory on top of what it has when it is confined, processor time per node."""

    memory_mb: int
    cpu_seconds: int
    files: int = 256
    file_mb: int | None = None


_limits: Limits | None = None
_spoilt = ""
_cpu_until = 0.0


def confine(limits: Limits, on_cpu: Callable[[], None]) -> None:
    """Put this process under ``limits`` for the rest of its life.

    ``on_cpu`` is called, in a thread of its own, when a node used up its processor time. Memory is enforced on Linux only.
    """
    global _limits
    _limits = limits
    memory = (_data_bytes() or 0) + limits.memory_mb * 2**20
    if Path("/proc/self/statm").exists():
        _lower(resource.RLIMIT_DATA, memory)
    _lower(resource.RLIMIT_NOFILE, limits.files)
    _lower(resource.RLIMIT_CORE, 0)
    if limits.file_mb is not None:
        _lower(resource.RLIMIT_FSIZE, limits.file_mb * 2**20)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_watch_cpu, args=(on_cpu,), name="cpu", daemon=True).start()


def limits() -> Limits | None:
    """Return what this process is confined to, or None."""
    return _limits


def begin() -> None:
    """Give the node that comes now its processor time; end the process if the last one left something behind.

    Raises:
        SystemExit: this process must not run another node.
    """
    if _limits is None:
        return
    if _spoilt:
        raise SystemExit(f"this process ends: {_spoilt}")
    global _cpu_until
    _cpu_until = time.process_time() + _limits.cpu_seconds
    seconds = int(_cpu_until) + CPU_GRACE_SECONDS
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds if hard < 0 else min(seconds, hard), hard))


@contextlib.contextmanager
def watched(seconds: float) -> Iterator[None]:
    """Let the kernel end this process if the block lasts longer; does nothing where nothing is confined."""
    if _limits is None:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, SPOILT_SECONDS if _spoilt else 0)


def spoil(reason: str) -> None:
    """Note that something of a node goes on in this process, which therefore ends before it runs another."""
    global _spoilt
    if _limits is not None and not _spoilt:
        logger.warning("this process ends after its node: %s", reason)
        _spoilt = reason


def _watch_cpu(on_cpu: Callable[[], None]) -> None:
    told = 0.0
    while True:
        time.sleep(CPU_POLL_SECONDS)
        until = _cpu_until
        if until not in (0.0, told) and time.process_time() > until:
            told = until
            on_cpu()


def _data_bytes() -> int | None:
    """Return how much private memory this process has now (the kernel's VmData), or None where it does not say."""
    try:
        fields = Path("/proc/self/statm").read_text().split()
    except OSError:
        return None
    return int(fields[5]) * resource.getpagesize()


def _lower(what: int, value: int) -> None:
    """Set a limit to at most ``value``; one that is lower already stays."""
    hard = resource.getrlimit(what)[1]
    value = value if hard < 0 else min(value, hard)
    resource.setrlimit(what, (value, value))
