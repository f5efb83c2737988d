"""Processor time that says something about the code and not about the machine: it is told in that of a reference loop."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from typing import Any

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
