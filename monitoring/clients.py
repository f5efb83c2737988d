"""How many sockets are open: every web process tells the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from monitoring import board

logger = logging.getLogger(__name__)

KEY: Final = "flowbuilder:sockets"


class Clients:
    """Counts the sockets of this process, and lets one task tell the number when it changes and now and then."""

    def __init__(self) -> None:
        self.open = 0
        self._name = uuid.uuid4().hex
        self._changed = asyncio.Event()
        self._teller: asyncio.Task[None] | None = None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one socket while the block runs, which is on the event loop of the process."""
        self.open += 1
        self._tell_soon()
        try:
            yield
        finally:
            self.open -= 1
            self._tell_soon()

    async def close(self) -> None:
        """Take back the number of this process: it ends."""
        teller, self._teller = self._teller, None
        if teller is not None:
            teller.cancel()
            await asyncio.wait([teller])
            await self._tell(0)

    def _tell_soon(self) -> None:
        if self._teller is None or self._teller.done() or self._teller.get_loop() is not asyncio.get_running_loop():
            self._changed = asyncio.Event()
            self._teller = asyncio.create_task(self._keep_telling())
        self._changed.set()

    async def _keep_telling(self) -> None:
        """Tell until there is nothing to tell any more."""
        while True:
            self._changed.clear()
            told = self.open
            await self._tell(told)
            await asyncio.sleep(board.PAUSE_SECONDS)
            if not told and not self.open:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), board.AGAIN_SECONDS)

    async def _tell(self, count: int) -> None:
        try:
            await asyncio.to_thread(board.exchange, KEY, self._name, str(count).encode() if count else b"")
        except (redis.RedisError, OSError) as error:
            logger.debug("the number of sockets is not told: %s", type(error).__name__)


def total() -> int:
    """Return how many sockets all web processes have open, up to ten seconds ago. One round trip.

    Raises:
        redis.RedisError: Redis does not answer within a second.
    """
    return sum(map(int, board.exchange(KEY, "", None)))


clients = Clients()
