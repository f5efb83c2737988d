"""How often somebody may ask: buckets in Redis that all web processes share.

A bucket of ``600/min`` holds 600 requests and fills again by ten a second. While Redis is away everything is let
through, because a limit that takes the product down with it protects nobody.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import time
import unicodedata
from functools import lru_cache
from typing import Any, Final

import redis
from django.conf import settings

from flowbuilder.rates import Rate

logger = logging.getLogger(__name__)

REDIS_SECONDS: Final = 0.5
"""How long one question may take before the request is let through."""
PAUSES_SECONDS: Final = (0.5, 5.0)
"""How long nothing is asked after Redis did not answer: at first, and at most after it did so again and again."""
LONGEST_NAME: Final = 254
"""Nobody has a longer user name, so what follows does not tell one try from another."""

# The time at which the bucket is full again is all that is kept (GCRA). Times are milliseconds of Redis.
_TAKE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local each, room = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + each
local wait = full - now - room
if wait > 0 then return {0, math.ceil(wait)} end
redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil(full - now) + 1)
return {1, 0}
"""
_GIVE_BACK: Final = """
local kept = redis.call('GET', KEYS[1])
if kept then redis.call('SET', KEYS[1], string.format('%.3f', kept - ARGV[1]), 'KEEPTTL') end
"""


def take(bucket: str, rate: Rate | None) -> int:
    """Take one from ``bucket``; return 0, or after how many seconds to come again. One round trip to Redis."""
    if rate is None:
        return 0
    answer = _ask(_TAKE, bucket, rate.each_ms, rate.seconds * 1000)
    return 0 if answer is None or answer[0] else max(1, math.ceil(answer[1] / 1000))


def give_back(bucket: str, rate: Rate | None) -> None:
    """Put back what ``take`` took, where only failures count."""
    if rate is not None:
        _ask(_GIVE_BACK, bucket, rate.each_ms)


class Attempts:
    """Tries of a password: by one address for one name, and ten times as many by one address. Only failures count."""

    def __init__(self, request: Any, name: str, rate: Rate | None) -> None:
        address = address_of(request)
        whose = hashlib.sha256(_folded(name).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        wide = Rate(rate.count * 10, rate.seconds) if rate else None
        self._buckets = ((f"login:{address}:{whose}", rate), (f"login:{address}", wide))

    def begin(self) -> int:
        """Count a try; return 0, or after how many seconds to come again."""
        return max(take(bucket, rate) for bucket, rate in self._buckets)

    def succeeded(self) -> None:
        """Take the try back."""
        for bucket, rate in self._buckets:
            give_back(bucket, rate)


def _folded(name: str) -> str:
    """Return the same text for all spellings that the login form takes for one user name."""
    return unicodedata.normalize("NFKC", name.strip()[:LONGEST_NAME]).casefold()


def address_of(request: Any) -> str:
    """Return who asks, as ``known_as`` does."""
    return known_as(request.META.get("REMOTE_ADDR") or "")


def known_as(text: str) -> str:
    """Return an address as limits count it: of IPv6 the network of 64 bits, which one machine has for itself."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class _Silence:
    """When Redis is not asked: twice as long each time that it does not answer, until it does."""

    def __init__(self) -> None:
        self._until, self._next = 0.0, PAUSES_SECONDS[0]

    @property
    def lasts(self) -> bool:
        """Return whether nothing is to be asked now."""
        return time.monotonic() < self._until

    def begin(self, error: Exception) -> None:
        """Note that Redis did not answer; who asked at the same time and learns it later lengthens nothing."""
        if self.lasts:
            return
        seconds, self._next = self._next, min(self._next * 2, PAUSES_SECONDS[1])
        self._until = time.monotonic() + seconds
        logger.warning("rates are not limited for %g s: Redis does not answer: %s", seconds, type(error).__name__)

    def end(self) -> None:
        """Note that Redis answered."""
        self._next = PAUSES_SECONDS[0]


silence = _Silence()


def _ask(script: str, bucket: str, *arguments: float) -> Any:
    """Return the answer of Redis, or None when it gave none, now or lately."""
    if silence.lasts:
        return None
    try:
        answer = _client(settings.REDIS_URL).eval(script, 1, f"flowbuilder:rate:{bucket}", *arguments)
    except (redis.RedisError, OSError) as error:
        silence.begin(error)
        return None
    silence.end()
    return answer


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
