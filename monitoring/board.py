"""What the web processes tell each other in Redis: for each subject one hash, with a field for each process.

What a process told is forgotten when it does not repeat it, so that one which was killed leaves nothing behind.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, cast

import redis
from django.conf import settings

PAUSE_SECONDS: Final = 1.0
"""Least time between two words of a process on one subject; all that changes in between is one change."""
AGAIN_SECONDS: Final = 10.0
"""How often a process repeats what it told."""
FORGET_SECONDS: Final = 30
"""After so long without a word a process is gone, and what it told with it."""
REDIS_SECONDS: Final = 1.0

# Times are those of Redis, so that no clock of a web process counts.
_EXCHANGE: Final = """
local now, found = tonumber(redis.call('TIME')[1]), {}
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1])
elseif ARGV[3] then
  redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[3])
  redis.call('EXPIRE', KEYS[1], 2 * tonumber(ARGV[2]))
end
local told = redis.call('HGETALL', KEYS[1])
for place = 1, #told, 2 do
  local at, text = string.match(told[place + 1], '^(%d+) (.*)$')
  if not at or now - tonumber(at) > tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], told[place])
  elseif told[place] ~= ARGV[1] then found[#found + 1] = text end
end
return found
"""


def exchange(key: str, name: str, word: bytes | None) -> list[bytes]:
    """Tell the others ``word`` as the process ``name``, and return what they told. One round trip.

    Empty takes back what was told; None only listens.

    Raises:
        redis.RedisError: Redis does not answer within a second.
    """
    words = () if word is None else (word,)
    client: Any = _client(settings.REDIS_URL)
    return cast(list[bytes], client.eval(_EXCHANGE, 1, key, name, FORGET_SECONDS, *words))


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
