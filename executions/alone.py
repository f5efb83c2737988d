"""Work that only one process does at a time, by a lock of the database or, with SQLite, of a file."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import connection

logger = logging.getLogger(__name__)

NUMBERS: Final = {"reconcile": 0x466C6F77, "monitoring": 0x466C6F78, "alerts": 0x466C6F79}
"""The advisory locks of PostgreSQL by name."""

_refused_since: dict[str, float] = {}


@contextmanager
def only_one(name: str) -> Iterator[bool]:
    """Hold the lock ``name``, one of ``NUMBERS``; yields False when another process has it.

    One that keeps it longer than a lease is frozen. Then we go on without it: what is done under such a lock must do no
    harm when two processes do it at once.
    """
    with _lock(name) as ours:
        if ours:
            _refused_since.pop(name, None)
            yield True
            return
        waited = time.monotonic() - _refused_since.setdefault(name, time.monotonic())
        frozen = waited > settings.LEASE_SECONDS
        if frozen:
            logger.warning("another process has kept the lock %s for %d s; going on without", name, waited)
        yield frozen


@contextmanager
def _lock(name: str) -> Iterator[bool]:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (NUMBERS[name],))
            ours = bool(cursor.fetchone()[0])
            try:
                yield ours
            finally:
                if ours:
                    cursor.execute("SELECT pg_advisory_unlock(%s)", (NUMBERS[name],))
        return
    handle = _lock_handle(name)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


@lru_cache
def _lock_handle(name: str) -> int:
    path = Path(settings.DATA_DIR) / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
