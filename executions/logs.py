"""What every log line of this process is: about which execution and node, and without the secrets that were opened here.

Every log record of the process is made by us, so messages, tracebacks and stacks of any library are covered, and no
handler can be forgotten. A process that opened nothing pays nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from recordings.redaction import MASK, SHORTEST_INSIDE, forms

MOST = 2_000
"""How many secrets one process remembers; the one that was not used for the longest time goes first."""

_LONGEST_CHAIN = 20


class Known:
    """Secrets of this process. ``clean`` costs about 0.1 µs per character, however many there are."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._values: dict[str, None] = {}
        self._by_head: dict[str, list[str]] = {}
        """Every form of every secret, longest first, by its first characters."""
        self._lock = threading.Lock()

    def remember(self, values: Iterable[str]) -> None:
        """Keep ``values`` out of the log from now on."""
        with self._lock:
            for value in values:
                new = value not in self._values
                self._values.pop(value, None)
                self._values[value] = None
                if new:
                    self._by_head = _indexed(forms(value), self._by_head)
            if len(self._values) > self._most:
                for value in list(self._values)[: len(self._values) - self._most]:
                    del self._values[value]
                self._by_head = _indexed(form for value in self._values for form in forms(value))

    def clean(self, text: str) -> str:
        """Return ``text`` without secrets."""
        by_head = self._by_head
        if not by_head or not self._values:
            return MASK if text in self._values else text
        parts, done, place = [], 0, 0
        while place < len(text):
            found = by_head.get(text[place : place + SHORTEST_INSIDE])
            form = found and next((form for form in found if text.startswith(form, place)), None)
            if form:
                parts += [text[done:place], MASK]
                done = place = place + len(form)
            else:
                place += 1
        if not parts:
            return MASK if text in self._values else text
        return "".join([*parts, text[done:]])


def _indexed(more: Iterable[str], before: dict[str, list[str]] | None = None) -> dict[str, list[str]]:
    """Return a copy of an index with more forms, so that a thread that reads the old one is not disturbed."""
    index = {} if before is None else dict(before)
    for form in more:
        if len(form) >= SHORTEST_INSIDE:
            head = form[:SHORTEST_INSIDE]
            index[head] = sorted({*index.get(head, ()), form}, key=len, reverse=True)
    return index


known = Known()
remember = known.remember


class Record(logging.LogRecord):
    """A log record without the secrets of this process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.stack_info:
            self.stack_info = known.clean(self.stack_info)

    def getMessage(self) -> str:
        """Return the message."""
        return known.clean(super().getMessage())

    def __setattr__(self, name: str, value: Any) -> None:
        """Take the traceback as the formatter made it."""
        if name == "exc_text" and value:
            value = known.clean(value)
        super().__setattr__(name, value)


_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=MappingProxyType({}))


def about(**ids: str) -> None:
    """Let the lines of this context, and of the tasks that it starts, be about these things (``execution_id``...), too."""
    _about.set({**_about.get(), **ids})


def forget() -> None:
    """Let the lines of this context be about nothing."""
    _about.set({})


def ids() -> Mapping[str, str]:
    """Return what lines of this context are about."""
    return _about.get()


@contextmanager
def clean_errors() -> Iterator[None]:
    """Take the secrets out of an error that leaves the block: Celery sends its text to Redis, and logs it itself."""
    try:
        yield
    except Exception as error:
        seen: BaseException | None = error
        for _ in range(_LONGEST_CHAIN):
            if seen is None:
                break
            seen.args = tuple(known.clean(part) if isinstance(part, str) else part for part in seen.args)
            seen = seen.__cause__ or seen.__context__
        raise


def install() -> None:
    """Let every log record of this process be ours."""
    logging.setLogRecordFactory(Record)
