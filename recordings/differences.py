"""What differs: between two JSON values, and between two sequences of keys."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from typing import Any

from recordings.events import encode_json, preview

MOST_PER_VALUE = 1000
LONGEST_VALUE_BYTES = 64 << 10
_DEEPEST = 150


def value_diff(old: Any, new: Any) -> list[dict[str, Any]]:
    """Return the places where two JSON values differ, at most 1,000.

    Each is ``{"path": JSON pointer, "change": "added" | "removed" | "changed", "old": ..., "new": ...}``; a value
    of more than 64 KiB is shown as its preview. ``True`` is not ``1``; ``1.0`` is.
    """
    found: list[dict[str, Any]] = []
    _walk(old, new, "", 0, found)
    return found


def _walk(old: Any, new: Any, path: str, depth: int, found: list[dict[str, Any]]) -> None:
    if len(found) >= MOST_PER_VALUE:
        return
    if depth < _DEEPEST and isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            _part(old, new, key, f"{path}/{_pointer(key)}", depth, found)
        for key in new:
            if key not in old:
                _part(old, new, key, f"{path}/{_pointer(key)}", depth, found)
    elif depth < _DEEPEST and isinstance(old, list) and isinstance(new, list):
        mine, theirs = dict(enumerate(old)), dict(enumerate(new))
        for place in range(max(len(old), len(new))):
            _part(mine, theirs, place, f"{path}/{place}", depth, found)
    elif not _same(old, new):
        found.append({"path": path, "change": "changed", "old": _short(old), "new": _short(new)})


def _part(
    old: dict[Any, Any], new: dict[Any, Any], key: Any, path: str, depth: int, found: list[dict[str, Any]]
) -> None:
    if key in old and key in new:
        _walk(old[key], new[key], path, depth + 1, found)
    elif len(found) < MOST_PER_VALUE:
        change = "removed" if key in old else "added"
        found.append({"path": path, "change": change, "old": _short(old.get(key)), "new": _short(new.get(key))})


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, dict | list) or isinstance(new, dict | list):
        return type(old) is type(new) and encode_json(old, canonical=True) == encode_json(new, canonical=True)
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)


def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) <= LONGEST_VALUE_BYTES // 4:
        return value
    if isinstance(value, str | dict | list) and len(encode_json(value)) > LONGEST_VALUE_BYTES:
        return preview(value)
    return value


class Alignment:
    """Which item of one sequence is which of another.

    Equal beginnings and ends are taken as they are; between them the nth item of a key belongs to the nth of the
    same key. ``mates[i]`` is the place in the other sequence, or -1. ``moved`` are the places (in the first) that
    are not on the longest common subsequence. O(n log n) time, about 30 bytes an item.
    """

    def __init__(self, mine: array[int], theirs: array[int]) -> None:
        self.start, end = _common_ends(mine, theirs)
        stop, other_stop = len(mine) - end, len(theirs) - end
        shift = other_stop - stop
        self.mates = array("q", range(len(mine)))
        for place in range(stop, len(mine)):
            self.mates[place] = place + shift
        self._pair(mine, theirs, stop, other_stop)
        self.removed = [place for place in range(self.start, stop) if self.mates[place] < 0]
        paired = bytearray(len(theirs))
        for place in range(self.start, stop):
            if self.mates[place] >= 0:
                paired[self.mates[place]] = 1
        self.added = [place for place in range(self.start, other_stop) if not paired[place]]
        self.moved = _not_rising(self.mates, self.start, stop)

    def _pair(self, mine: array[int], theirs: array[int], stop: int, other_stop: int) -> None:
        places: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        for place in range(self.start, other_stop):
            places[theirs[place]].append(place)
        used: defaultdict[int, int] = defaultdict(int)
        nothing: array[int] = array("q")
        for place in range(self.start, stop):
            key = mine[place]
            found, number = places.get(key, nothing), used[key]
            self.mates[place] = found[number] if number < len(found) else -1
            used[key] = number + 1


def _common_ends(mine: array[int], theirs: array[int]) -> tuple[int, int]:
    """Return how many items are equal at the beginning and, of the rest, at the end."""
    shorter = min(len(mine), len(theirs))
    if mine[:shorter] == theirs[:shorter]:
        return shorter, 0
    start = next(place for place in range(shorter) if mine[place] != theirs[place])
    end = 0
    while end < shorter - start and mine[-1 - end] == theirs[-1 - end]:
        end += 1
    return start, end


def _not_rising(mates: array[int], start: int, stop: int) -> list[int]:
    """Return the places whose mates are not on the longest rising subsequence."""
    tails, at = array("q"), array("q")
    before = array("q", [-1]) * (stop - start)
    for place in range(start, stop):
        mate = mates[place]
        if mate < 0:
            continue
        length = len(tails) if not tails or mate > tails[-1] else bisect_left(tails, mate)
        if length == len(tails):
            tails.append(mate)
            at.append(place)
        else:
            tails[length], at[length] = mate, place
        before[place - start] = at[length - 1] if length else -1
    staying = bytearray(stop - start)
    place = at[-1] if at else -1
    while place >= 0:
        staying[place - start] = 1
        place = before[place - start]
    return [place for place in range(start, stop) if mates[place] >= 0 and not staying[place - start]]
