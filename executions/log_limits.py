"""How much a node run may write into its log: what is left out is counted, and a line says how much it was.

Three things are bounded: lines and bytes of the whole run, lines in some time, and what waits in the memory of the
process until it is written. The counting is done before a line becomes an event, so that one which is left out costs
next to nothing. Warnings and errors have a tenth of each bound more, for themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

WAITING_LINES: Final = 20_000
"""Lines of one node run that may wait until they are written; they take about half a KB each."""
WAITING_CHARACTERS: Final = 32 * 1024 * 1024
"""Characters of one node run that may wait; the line with which they become more is still taken."""
TELL_SECONDS: Final = 60.0
"""How long lines may be left out before a line says so, when none is taken meanwhile."""
PREFERRED: Final = ("warning", "error", "critical")
"""Levels of lines that are left out last."""
_LINE_CHARACTERS = 64
"""What every line weighs, besides its texts."""
_VALUE_CHARACTERS = 8
_LARGEST_TREE = 1024 * 1024
"""Where weighing nested values ends, which may contain themselves."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one node run may write: lines and bytes in all, and ``count`` lines in ``seconds`` (0: at any pace)."""

    lines: int
    bytes: int
    count: int = 0
    seconds: float = 1.0


class Lines:
    """The lines of one node run. A node may write from several threads, and another one stores them."""

    __slots__ = (
        "_bytes", "_clock", "_held_back", "_left_out", "_limits", "_lock", "_reason", "_since", "_taken", "_tokens",
        "_tokens_at", "_waiting", "_weight",
    )  # fmt: skip

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock, self._lock = limits, clock, threading.Lock()
        self._taken = self._bytes = self._waiting = self._weight = 0
        self._tokens, self._tokens_at = float(limits.count), clock()
        self._held_back = False
        """Whether lines without a preferred level are left out until there is room for more than a few."""
        self._left_out, self._since, self._reason = 0, 0.0, ""

    def take(self, data: Mapping[str, Any]) -> tuple[int, dict[str, Any] | None]:
        """Return what a line with ``data`` weighs, 0 if it is left out, and what is to be written before it, if anything."""
        preferred = _is_preferred(data)
        with self._lock:
            now = self._clock()
            reason = self._refusal(preferred, now)
            if reason:
                self._held_back = True
                self._since = self._since if self._left_out else now
                self._left_out, self._reason = self._left_out + 1, reason
                return 0, self._told() if now - self._since >= TELL_SECONDS else None
            told = self._told() if self._left_out and not self._held_back else None
            weight = weigh(data)
            self._taken += 1
            self._tokens -= 1
            self._waiting += 1
            self._weight += weight
            return weight, told

    def stored(self, weight: int, size: int) -> None:
        """Note that a line of ``weight`` was taken off the queue and has ``size`` bytes as it is stored."""
        with self._lock:
            self._waiting -= 1
            self._weight -= weight
            self._bytes += size

    def left_out(self) -> dict[str, Any] | None:
        """Return the data of a line about those that were left out since the last one, None when there were none."""
        with self._lock:
            return self._told() if self._left_out else None

    def _refusal(self, preferred: bool, now: float) -> str:
        """Return which limit keeps a line from being taken now, empty if none does."""
        limits = self._limits
        if self._taken >= _most(limits.lines, preferred):
            return "lines"
        if self._bytes >= _most(limits.bytes, preferred):
            return "bytes"
        again = self._held_back and not preferred
        part = 2 if again else 1
        lines, characters = _most(WAITING_LINES, preferred) // part, _most(WAITING_CHARACTERS, preferred) // part
        if self._waiting >= lines or self._weight >= characters:
            return "waiting"
        if limits.count and self._tokens_now(now) < self._tokens_needed(preferred, again):
            return "rate"
        self._held_back = self._held_back and preferred
        return ""

    def _tokens_now(self, now: float) -> float:
        limits = self._limits
        more = (now - self._tokens_at) * limits.count / limits.seconds
        self._tokens, self._tokens_at = min(float(limits.count), self._tokens + more), now
        return self._tokens

    def _tokens_needed(self, preferred: bool, again: bool) -> float:
        """Return how many lines there must be room for: after a pause those of a second, or a marker would follow each."""
        limits = self._limits
        if preferred:
            return 1 - limits.count // 10
        return max(1.0, limits.count / max(limits.seconds, 1.0)) if again else 1.0

    def _told(self) -> dict[str, Any]:
        count, self._left_out = self._left_out, 0
        message = f"{count:,} {'line' if count == 1 else 'lines'} left out: {self._why()}"
        return {"message": message, "level": "warning", "left_out": count}

    def _why(self) -> str:
        limits = self._limits
        match self._reason:
            case "lines":
                return f"{limits.lines:,} lines of a node are kept (FLOWBUILDER_NODE_LOG_LINES)"
            case "bytes":
                return f"{limits.bytes / 2**20:g} MiB of the lines of a node are kept (FLOWBUILDER_NODE_LOG_MB)"
            case "rate":
                every = "a second" if limits.seconds == 1 else f"{limits.seconds:g} seconds"
                return f"a node may log {limits.count:,} lines in {every} (FLOWBUILDER_NODE_LOG_RATE)"
            case _:
                return "they came faster than they could be stored"


def _most(limit: int, preferred: bool) -> int:
    return limit + limit // 10 if preferred else limit


def _is_preferred(data: Mapping[str, Any]) -> bool:
    error = data.get("error")
    return data.get("level") in PREFERRED or (isinstance(error, str) and error != "")


def weigh(data: Mapping[str, Any]) -> int:
    """Return about how many characters a line holds; nested values count until they are large enough."""
    weight = _LINE_CHARACTERS
    nested: list[Any] = []
    for value in data.values():
        if isinstance(value, str | bytes):
            weight += len(value)
        else:
            nested.append(value)
    return weight + _weigh_tree(nested) if nested else weight


def _weigh_tree(nested: list[Any]) -> int:
    weight = 0
    while nested and weight < _LARGEST_TREE:
        value = nested.pop()
        weight += _VALUE_CHARACTERS
        if isinstance(value, str | bytes):
            weight += len(value)
        elif isinstance(value, dict):
            nested.extend(value)
            nested.extend(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            nested.extend(value)
    return weight
