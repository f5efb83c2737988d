"""What one run of a node used: processor time and, where that can be told apart from others, memory.

Nodes share a process and its loop, so the time of each is taken step by step: of its coroutine, of the tasks that it
starts and of what it hands to a thread of the loop. Threads and processes of its own are not seen. A confined process runs
one node at a time, so what it used was that node. Plain Python; a step of a coroutine costs about 1 us more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from time import thread_time_ns
from typing import Any, Final

_PROC: Final = Path("/proc")
_TICK_SECONDS: Final = 1 / os.sysconf("SC_CLK_TCK")
_RESET_PEAK: Final = "5"
"""What makes the kernel count the most memory of a process anew (proc(5), clear_refs)."""


@dataclass(slots=True)
class Used:
    """What a node used so far. ``whole`` says that nothing of it is missing."""

    cpu_ns: int = 0
    whole: bool = True
    peak_memory_bytes: int | None = None

    @property
    def cpu_seconds(self) -> float | None:
        """Return the processor time, or None when it could not be told apart from that of others."""
        return self.cpu_ns / 1e9 if self.whole else None

    def reach(self, memory_bytes: int) -> None:
        """Note that its memory was as large as this."""
        self.peak_memory_bytes = max(memory_bytes, self.peak_memory_bytes or 0)


# --------------------------------------------------------------------------- nodes that share a process

_current: ContextVar[Used | None] = ContextVar("used", default=None)


def measured(work: Coroutine[Any, Any, Any], used: Used) -> Coroutine[Any, Any, Any]:
    """Return ``work`` as a coroutine whose steps count for ``used``."""
    return _Measured(work, used)


def count_for(used: Used) -> None:
    """Let what is started in this context, tasks and work of threads, count for ``used``."""
    _current.set(used)


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Let ``loop`` count what nodes start on it."""
    loop.set_task_factory(_make_task)
    loop.set_default_executor(_Threads(thread_name_prefix="asyncio"))


class _Measured(Coroutine[Any, Any, Any]):
    """A coroutine that notes the time of this thread which each of its steps takes.

    An object and not a generator: one that is cancelled before its first step ends the inner coroutine, too.
    """

    __slots__ = ("_used", "_work")

    def __init__(self, work: Coroutine[Any, Any, Any], used: Used) -> None:
        self._work, self._used = work, used

    def send(self, value: Any) -> Any:
        """Take the next step."""
        began = thread_time_ns()
        try:
            return self._work.send(value)
        finally:
            self._used.cpu_ns += thread_time_ns() - began

    def throw(self, *error: Any) -> Any:
        """Take the next step with an error."""
        began = thread_time_ns()
        try:
            return self._work.throw(*error)
        finally:
            self._used.cpu_ns += thread_time_ns() - began

    def close(self) -> None:
        """End it."""
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        """Return the steps."""
        return self

    def __iter__(self) -> _Measured:
        """Return the steps."""
        return self

    def __next__(self) -> Any:
        """Take the next step."""
        return self.send(None)


def _make_task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Future[Any]:
    used = _current.get()
    return asyncio.Task(work if used is None else measured(work, used), loop=loop, **options)


class _Threads(ThreadPoolExecutor):
    """The threads of a loop, for ``asyncio.to_thread``."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """Run ``work`` in a thread; its time counts for the node that asked."""
        used = _current.get()
        return super().submit(work, *args, **named) if used is None else super().submit(_timed, used, work, args, named)


def _timed(used: Used, work: Callable[..., Any], args: Any, named: Any) -> Any:
    began = thread_time_ns()
    try:
        return work(*args, **named)
    finally:
        used.cpu_ns += thread_time_ns() - began


# --------------------------------------------------------------------------- a process for one node


@contextlib.contextmanager
def whole_process(used: Used) -> Iterator[None]:
    """Count all that this process uses in the block, which is one node's alone.

    Memory is what was resident at most, the interpreter included; only where the kernel lets it be counted anew.
    """
    counted = _reset_peak()
    began = time.process_time_ns()
    before = used.cpu_ns
    try:
        yield
    finally:
        used.cpu_ns = before + time.process_time_ns() - began
        if counted and (peak := _peak_bytes()):
            used.reach(peak)


def _reset_peak() -> bool:
    try:
        (_PROC / "self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _peak_bytes() -> int | None:
    for line in (_PROC / "self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


# --------------------------------------------------------------------------- a browser


@dataclass(frozen=True, slots=True)
class Group:
    """What the processes of one group have used: processor time so far, with those that ended, and memory now.

    ``memory_bytes`` leaves out what they share with others.
    """

    cpu_ns: int
    memory_bytes: int


def group(leader: int) -> Group | None:
    """Return what the process group of ``leader`` has used, or None when there is none; a few milliseconds."""
    ticks = pages = found = 0
    for pid in filter(str.isdigit, os.listdir(_PROC)):
        try:
            fields = (_PROC / pid / "stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[2]) != leader:
                continue
            memory = (_PROC / pid / "statm").read_bytes().split()
        except OSError:
            continue
        found += 1
        ticks += sum(map(int, fields[11:15]))
        pages += max(0, int(memory[1]) - int(memory[2]))
    if not found:
        return None
    return Group(round(ticks * _TICK_SECONDS * 1e9), pages * resource.getpagesize())
