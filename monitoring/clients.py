"""How many sockets are open: every web process tells the others in Redis, in one hash with a field for each process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import redis
from django.conf import settings

logger = logging.getLogger(__name__)

KEY: Final = "flowbuilder:sockets"
TELL_SECONDS: Final = 1.0
"""Least time between two words of one process."""
AGAIN_SECONDS: Final = 10.0
"""How often a process repeats its number while it has any socket open."""
FORGET_SECONDS: Final = 30
"""After so long without a word a process is gone, and its sockets with it."""
REDIS_SECONDS: Final = 1.0

# Times are those of Redis, so that no clock of a web process counts.
_TELL: Final = """
if ARGV[2] == '0' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. redis.call('TIME')[1])
return redis.call('EXPIRE', KEYS[1], ARGV[3])
"""
_TOTAL: Final = """
local now, total, told = tonumber(redis.call('TIME')[1]), 0, redis.call('HGETALL', KEYS[1])
for place = 1, #told, 2 do
  local count, at = string.match(told[place + 1], '^(%d+) (%d+)$')
  if not at or now - tonumber(at) > tonumber(ARGV[1]) then redis.call('HDEL', KEYS[1], told[place])
  else total = total + tonumber(count) end
end
return total
"""


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
            await asyncio.sleep(TELL_SECONDS)
            if not told and not self.open:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), AGAIN_SECONDS)

    async def _tell(self, count: int) -> None:
        try:
            await asyncio.to_thread(_ask, _TELL, self._name, count, 2 * FORGET_SECONDS)
        except (redis.RedisError, OSError) as error:
            logger.debug("the number of sockets is not told: %s", type(error).__name__)


def total() -> int:
    """Return how many sockets all web processes have open, up to ten seconds ago. One round trip.

    Raises:
        redis.RedisError: Redis does not answer within a second.
    """
    return int(_ask(_TOTAL, FORGET_SECONDS))


def _ask(script: str, *arguments: Any) -> Any:
    return _client(settings.REDIS_URL).eval(script, 1, KEY, *arguments)


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)


clients = Clients()
