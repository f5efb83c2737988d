"""Conditions in CEL, the Common Expression Language: ``last.count < 10 && index < 5``.

An expression reads the values that it is given and nothing else; it has no loops and no side effects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from workflows.errors import TemplateError

LONGEST = 2_000
"""Characters of one expression."""

_PLACE = re.compile(r"ERROR: <input>:(?P<line>\d+):(?P<column>\d+): (?P<problem>[^\n]*)")
_TOKEN = re.compile(r"(?:mismatched input|extraneous input|token recognition error at:|at input) ('[^']*')")
_WALKS = re.compile(r"\.\s*(?:all|exists|exists_one|filter|map)\s*\(")


def check(text: str) -> None:
    """Check that ``text`` is an expression.

    Raises:
        TemplateError: it is not, it is too long, or it walks over lists more than once (which could take for ever).
    """
    _program(text)


def constant(text: str) -> bool | None:
    """Return whether the expression is true or false whatever it is given, or None when that is not known."""
    try:
        program = _program(text)
        return None if program.variables() else holds(text, {})
    except TemplateError:
        return None


def holds(text: str, values: Mapping[str, Any]) -> bool:
    """Return whether the expression is true for ``values``. Time grows with the longest list that it walks over.

    Raises:
        TemplateError: it cannot be read, names something that is not there, or is neither true nor false.
    """
    try:
        result = _program(text).execute(dict(values))
    except KeyError as error:
        raise TemplateError(f'"{text}": there is no {error}; has(…) asks whether it is there') from None
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise TemplateError(f'"{text}": {error}') from None
    if not isinstance(result, bool):
        raise TemplateError(f'"{text}" is {type(result).__name__}, neither true nor false; compare it with something')
    return result


@lru_cache(maxsize=512)
def _program(text: str) -> Any:
    import cel  # takes 0.2 s, because it brings a shell of its own

    if len(text) > LONGEST:
        raise TemplateError(f"the condition has {len(text):,} characters; the limit is {LONGEST:,}")
    if len(_WALKS.findall(text)) > 1:
        raise TemplateError(f'"{text}" walks over lists more than once; do that in a node and compare its output')
    try:
        return cel.compile(text)
    except ValueError as error:
        raise _unreadable(text, str(error)) from None


def _unreadable(text: str, reason: str) -> TemplateError:
    """Return the error for a text that does not compile: what is wrong in one line, and at which character."""
    found = _PLACE.search(reason)
    if found is None:
        return TemplateError(f"is no condition (CEL): {reason.partition(': ERROR: ')[2] or reason}")
    line, column = int(found["line"]), int(found["column"])
    before = text.split("\n")[: line - 1]
    position = min(sum(len(part) + 1 for part in before) + column - 1, len(text))
    token = _TOKEN.search(found["problem"])
    problem = found["problem"] if token is None else f"unexpected {token[1]}"
    if position >= len(text.rstrip()):
        problem = "something is missing at the end"
    return TemplateError(f"is no condition (CEL): {problem}", position)
