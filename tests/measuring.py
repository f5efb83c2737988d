"""Times that say something about the code and not about the machine, and how sure one can be of them.

Processor time is told in that of a reference loop; two sides that took turns are told by the ratios of their pairs.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

REFERENCE_US = 1000.0
"""What ``_reference`` takes on the machine that the documents name, with nothing else to do."""
_ROUNDS = 163


def reference_us(work: Callable[[], object], rounds: int = 30) -> float:
    """Return what ``work`` takes in microseconds of the machine that the documents name; best of ``rounds``.

    Work and reference loop take turns, each in processor time of this thread, so that a machine that is slow or busy
    changes both alike. Garbage waits until the end.
    """
    taken: list[float] = []
    reference: list[float] = []
    gc.disable()
    try:
        for _ in range(rounds):
            reference.append(_thread_us(_reference))
            taken.append(_thread_us(work))
    finally:
        gc.enable()
    return min(taken) / min(reference) * REFERENCE_US


def _thread_us(work: Callable[[], object]) -> float:
    began = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - began) / 1000


def _reference() -> None:
    """Do what work on events is made of: dictionaries, calls, texts and JSON."""
    kept: list[tuple[str, dict[str, Any]]] = []
    for number in range(_ROUNDS):
        event = {"id": f"run-{number}", "node": "node", "data": {"text": "lorem ipsum " * 8, "numbers": [number, 0.5]}}
        kept.append(_read(json.dumps(event)))
    kept.sort(key=lambda item: item[0])


def _read(text: str) -> tuple[str, dict[str, Any]]:
    event = json.loads(text)
    return str(event["id"]), {key: value for key, value in event.items() if key != "id"}


class Ratio(NamedTuple):
    """The median of the ratios of pairs, and the bounds within which it truly is, 19 times of 20."""

    median: float
    low: float
    high: float

    def verdict(self, budget: float) -> str:
        """Say whether ``budget`` is kept, or that so few or so unquiet pairs cannot tell."""
        if self.high <= budget:
            return "kept"
        return "exceeded" if self.low > budget else "not decided: more pairs or a quieter machine would tell"


def ratio_of_pairs(ours: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return how one side compares with the other, from runs that took turns.

    What disturbs the machine disturbs neighbours alike, and a median does not mind the few that it does not. The
    bounds are two of the ratios themselves, by their rank, so nothing is assumed of how they spread.
    """
    ratios = sorted(a / b for a, b in zip(ours, others, strict=True))
    count = len(ratios)
    away = math.ceil(0.98 * math.sqrt(count))
    below, above = max(0, (count - 1) // 2 - away), min(count - 1, count // 2 + away)
    return Ratio(*(round(value, 4) for value in (statistics.median(ratios), ratios[below], ratios[above])))


def processor_ns(pids: Iterable[int]) -> dict[str, int]:
    """Return the nanoseconds of processor time of each thread of these processes so far; of Linux, by its path."""
    taken = {}
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                taken[str(thread)] = int(thread.read_text().split()[0])
            except OSError:  # it has just ended
                continue
    return taken


def processor_ns_since(before: dict[str, int], pids: Iterable[int]) -> int:
    """Return what the threads of these processes have taken since ``before``; new ones count from their begin."""
    return sum(taken - before.get(thread, 0) for thread, taken in processor_ns(pids).items())
