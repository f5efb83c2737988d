"""Count the calls to the database of this process: a statement, or one statement for many rows, is one call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.db.backends.signals import connection_created

from executions import steps, store

_lock = threading.Lock()
_calls = 0
_installed = False


def calls() -> int:
    """Return how many calls were made since ``install``; BEGIN and COMMIT are not among them."""
    return _calls


def _count() -> None:
    global _calls
    with _lock:
        _calls += 1


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        _count()
        return function(*args, **kwargs)

    return call


def _wrapper(execute: Callable[..., Any], *args: Any) -> Any:
    _count()
    return execute(*args)


def _watch(connection: Any, **kwargs: Any) -> None:
    if _wrapper not in connection.execute_wrappers:
        connection.execute_wrappers.append(_wrapper)


def install() -> None:
    """Begin to count: what ``store`` and ``steps`` send, and everything that goes through Django. Twice is once."""
    global _installed
    if _installed:
        return
    _installed = True
    store.Transaction.run = _counted(store.Transaction.run)  # type: ignore[method-assign]
    store.Transaction.many = _counted(store.Transaction.many)  # type: ignore[method-assign]
    store.Transaction.insert = _counted(store.Transaction.insert)  # type: ignore[method-assign]
    store.read = _counted(store.read)
    vars(steps)["prepared"] = _counted(store.prepared)
    connection_created.connect(_watch, weak=False)
    if connection.connection is not None:
        _watch(connection)
