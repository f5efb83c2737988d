"""Reading rows for sockets, in threads of their own, a bounded piece at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar
from uuid import UUID

from channels.db import database_sync_to_async
from django.db import InterfaceError, OperationalError

from executions.events import PAGE_BYTES, iter_logs
from monitoring.wire import Entry, entry

logger = logging.getLogger(__name__)

READ_AGAIN_SECONDS: Final = (0.1, 0.4, 1.5, 3.0)
"""After which times a read that the database failed is tried again; then it has failed."""
PAGE_ROWS: Final = 500
"""Rows read at once; more are read only when the client took these."""
PAGE_ENTRY_BYTES: Final = 128 * 1024
"""Bytes of entries after which a page ends."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="monitoring-read")


async def read(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Return ``function(...)``, called in one of four database threads of this process.

    A database that restarts or is locked for a moment ends no socket: what it failed is called again.
    """
    in_thread = database_sync_to_async(function, thread_sensitive=False, executor=_readers)
    for pause in READ_AGAIN_SECONDS:
        try:
            result: _T = await in_thread(*args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            logger.info("a read is tried again in %s s: %s", pause, error)
            await asyncio.sleep(pause)
        else:
            return result
    last: _T = await in_thread(*args, **kwargs)
    return last


def load_page(execution_id: UUID, after: int) -> tuple[list[Entry], bool]:
    """Return the first entries after ``after``, and whether there may be more.

    A page has up to ``PAGE_ROWS`` entries; it ends after ``PAGE_ENTRY_BYTES`` of them, or when 16 MiB of values were read.
    """
    entries: list[Entry] = []
    read_bytes = entry_bytes = 0
    for log, size in iter_logs(execution_id, after):
        entries.append(entry(log))
        read_bytes += size
        entry_bytes += entries[-1].size
        if len(entries) == PAGE_ROWS or entry_bytes >= PAGE_ENTRY_BYTES or read_bytes > PAGE_BYTES:
            return entries, True
    return entries, False
