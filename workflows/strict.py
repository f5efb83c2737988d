"""Read JSON as strictly as it is stored, and say where it cannot be.

Python reads more than JSON is: it takes the last of two equal keys, and NaN. What every database stores is less
than JSON is: no NUL, no half of a surrogate pair. Both are told here with the path of the place.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from workflows.errors import DefinitionError

DEPTH_LIMIT: Final = 100
"""How deep values may be nested."""
NAMED: Final = 5
"""How many places one message names."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Controls that make text run in the other direction, so that a name looks like another one."""
_LEAVES = frozenset({str, int, float, bool, type(None)})
_PLAIN_KEY = re.compile(r"[\w$-]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def step(path: str, key: object) -> str:
    """Return the path of a member or an item: ``a.b``, ``a["b c"]`` or ``a[3]``."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    text = str(key)
    if not _PLAIN_KEY.fullmatch(text):
        return f"{path}[{json.dumps(text[:60], ensure_ascii=False)}]"
    return f"{path}.{text}" if path else text


def read_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        DefinitionError: it is no JSON, nested deeper than ``DEPTH_LIMIT``, repeats a key of an object, or has a
            number that cannot be kept; with line and column, or the path.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DefinitionError(f"not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise DefinitionError("not JSON, there is nothing in it")
    marks: list[Any] = []
    try:
        value = _decode(text, marks, None)
    except json.JSONDecodeError as error:
        raise DefinitionError(f"not JSON, {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise DefinitionError(f"values are nested deeper than {DEPTH_LIMIT}{_too_deep(text)}") from None
    except ValueError:  # a whole number with more digits than Python converts
        value = _decode(text, marks, _whole)
    if marks:
        places = list(_marked(value))
        more = f"; and {len(places) - NAMED} more" if len(places) > NAMED else ""
        path, problem = places[0]
        rest = "".join(f"; {where}: {what}" for where, what in places[1:NAMED])
        raise DefinitionError(f"{problem}{rest}{more}", path)
    return value


class _Repeated(dict[str, Any]):
    """An object with a key twice; ``keys_twice`` are those."""

    keys_twice: list[str]


class _NoNumber(str):
    """What stands where a number cannot be kept."""


def _decode(text: str, marks: list[Any], whole: Any) -> Any:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        counts = Counter(key for key, _ in pairs)
        repeated = _Repeated(found)
        repeated.keys_twice = [key for key, count in counts.items() if count > 1]
        marks.append(repeated)
        return repeated

    def constant(name: str) -> _NoNumber:
        marks.append(name)
        return _NoNumber(f"{name} is not a JSON value")

    def marked(digits: str) -> Any:
        value = whole(digits)
        if isinstance(value, _NoNumber):
            marks.append(value)
        return value

    return json.loads(
        text, object_pairs_hook=members, parse_constant=constant, parse_int=marked if whole is not None else None
    )


def _whole(digits: str) -> Any:
    try:
        return int(digits)
    except ValueError:
        return _NoNumber(f"a number of {len(digits.lstrip('-')):,} digits cannot be kept")


def _marked(value: Any) -> Iterator[tuple[str, str]]:
    stack: list[tuple[Any, str]] = [(value, "")]
    while stack:
        item, path = stack.pop()
        if isinstance(item, _NoNumber):
            yield path, str(item)
        elif isinstance(item, dict):
            if isinstance(item, _Repeated):
                for key in item.keys_twice:
                    yield step(path, key), "this key is there twice; keep one"
            stack.extend((child, step(path, key)) for key, child in reversed(item.items()))
        elif isinstance(item, list):
            stack.extend((child, step(path, index)) for index, child in reversed(list(enumerate(item))))


def _too_deep(text: str) -> str:
    """Return where a JSON text goes deeper than the limit."""
    bare = _QUOTED.sub(lambda found: " " * len(found.group()), text)
    depth = 0
    for found in re.finditer(r"[\[{\]}]", bare):
        depth += 1 if found.group() in "[{" else -1
        if depth > DEPTH_LIMIT:
            before = text[: found.start()]
            line = before.count("\n") + 1
            return f" at line {line} column {found.start() - before.rfind(chr(10))}"
    return ""


# ---------------------------------------------------------------------- what can be stored


def compact(value: Any) -> str | None:
    """Return ``value`` as JSON text without blanks, or None when it holds what cannot be stored. Quick: C code.

    A text that only looks like the escape of a NUL also gives None; ``unstorable`` then finds nothing.
    """
    if _is_deep(value):
        return None
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        return None
    if "\\u0000" in text or (not text.isascii() and _SURROGATE.search(text)):
        return None
    return text


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, Mapping | list | tuple) else []
    for _ in range(DEPTH_LIMIT):
        following: list[Any] = []
        for item in level:
            children = item.values() if isinstance(item, Mapping) else item
            following += [
                child for child in children if type(child) not in _LEAVES and isinstance(child, Mapping | list | tuple)
            ]
        if not following:
            return False
        level = following
    return True


def unstorable(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, problem) for everything in ``value`` that not every database stores."""
    stack: list[tuple[Any, str, int]] = [(value, path, 0)]
    while stack:
        item, where, depth = stack.pop()
        if isinstance(item, str):
            if problem := _text_problem(item):
                yield where, problem
        elif isinstance(item, float):
            if not math.isfinite(item):
                yield where, f"must be a finite number, not {item}"
        elif isinstance(item, Mapping | list | tuple):
            if depth >= DEPTH_LIMIT:
                yield where[:200], f"values are nested deeper than {DEPTH_LIMIT}"
            elif isinstance(item, Mapping):
                for key, child in item.items():
                    if isinstance(key, str) and (problem := _text_problem(key)):
                        yield where, f"the key {key!r:.60}: {problem}"
                    stack.append((child, step(where, key), depth + 1))
            else:
                stack.extend((child, step(where, index), depth + 1) for index, child in enumerate(item))


def refuse_nul(value: Any, path: str = "") -> None:
    """Check that ``value`` is JSON that every database stores.

    Raises:
        DefinitionError: a NUL character or half a surrogate pair in a text, a number that is not finite,
            or values nested deeper than ``DEPTH_LIMIT``.
    """
    if compact(value) is None:
        for where, problem in unstorable(value, path):
            raise DefinitionError(problem, where)


def _text_problem(text: str) -> str:
    if "\x00" in text:
        return f"text must not contain a NUL character (character {text.index(chr(0)) + 1})"
    if not text.isascii() and (found := _SURROGATE.search(text)):
        return f"text must not contain half of a surrogate pair (character {found.start() + 1})"
    return ""


def name_problem(text: str) -> str:
    """Return why a text cannot be a name, or an empty text: one that turns the direction of what follows it."""
    if text.isascii():
        return ""
    found = _TURNS.search(text)
    if found is None:
        return ""
    return f"must not contain the direction control U+{ord(found.group()):04X} (character {found.start() + 1})"
