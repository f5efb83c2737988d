"""Who else follows an execution: every web process tells the others in Redis, in one hash with a field for each process.

Redis holds keys of users only. Names, and who of them may see the execution, are read from the rows: once for all who
follow it in this process, and only when others follow it than before.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, cast
from weakref import WeakKeyDictionary

import msgspec
import redis
from django.conf import settings
from django.contrib.auth import get_user_model

from executions.models import Execution
from monitoring.rows import read
from workflows import access

logger = logging.getLogger(__name__)

KEY: Final = "flowbuilder:watchers"
SHOWN: Final = 20
"""How many others are named; of more only the number is told."""
PAUSE_SECONDS: Final = 1.0
"""Least time between two looks; all who come and go in between are one change."""
LOOK_SECONDS: Final = 2.0
"""How often a process looks at what the others told while anybody follows anything here."""
AGAIN_SECONDS: Final = 10.0
"""How often a process repeats what it told."""
FORGET_SECONDS: Final = 30
"""After so long without a word a process is gone, and those who followed there with it."""
REDIS_SECONDS: Final = 1.0

Together = dict[str, frozenset[int]]
"""Keys of the users that follow an execution, by its id."""
NOBODY: Final = b"{}"

# Times are those of Redis, so that no clock of a web process counts. Nothing to tell is an empty text.
_EXCHANGE: Final = """
local now, found = tonumber(redis.call('TIME')[1]), {}
if ARGV[2] == '{}' then redis.call('HDEL', KEYS[1], ARGV[1])
elseif ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
  redis.call('EXPIRE', KEYS[1], 2 * tonumber(ARGV[3]))
end
local told = redis.call('HGETALL', KEYS[1])
for place = 1, #told, 2 do
  local at, text = string.match(told[place + 1], '^(%d+) (.*)$')
  if not at or now - tonumber(at) > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], told[place])
  elseif told[place] ~= ARGV[1] then found[#found + 1] = text end
end
return found
"""
_decoder = msgspec.json.Decoder(dict[str, frozenset[int]])


@dataclass(frozen=True, slots=True)
class Others:
    """Whom somebody is shown: up to ``SHOWN`` names, and how many there are."""

    names: tuple[str, ...] = ()
    count: int = 0


@dataclass(frozen=True, slots=True)
class Company:
    """Who follows one execution and may see it. ``first`` are the first of them by name, one more than is shown."""

    everybody: frozenset[int]
    first: tuple[tuple[str, int], ...] = ()

    def others(self, person: int) -> Others:
        """Return whom ``person`` is shown: not themselves, and nobody at all when they may not see the execution."""
        if person not in self.everybody:
            return Others()
        names = tuple(name for name, key in self.first if key != person)
        return Others(names[:SHOWN], len(self.everybody) - 1)


class Guest(Protocol):
    """One socket that follows an execution, and whose it is."""

    person: int

    def meet(self, company: Company) -> None:
        """Take who follows now."""


class _Table:
    """Who follows one execution: the sockets of this process, and the people of all, as they were looked at last."""

    __slots__ = ("company", "guests", "people")

    def __init__(self) -> None:
        self.guests: set[Guest] = set()
        self.people: frozenset[int] = frozenset()
        self.company: Company | None = None


class Presence:
    """All who follow something in one process (of one event loop, to be exact). Does nothing while nobody does."""

    def __init__(self) -> None:
        self._name = uuid.uuid4().hex
        self._tables: dict[str, _Table] = {}
        self._elsewhere: Together = {}
        self._told = NOBODY
        self._told_at = self._heard_at = 0.0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def join(self, execution_id: str, guest: Guest) -> None:
        """Show ``guest`` who follows ``execution_id``, and the others that they do: now and whenever it changes."""
        table = self._tables.setdefault(execution_id, _Table())
        table.guests.add(guest)
        if table.company is not None:
            guest.meet(table.company)
        self._look_soon()

    def leave(self, execution_id: str, guest: Guest) -> None:
        """Show ``guest`` nobody any more, and nobody ``guest``."""
        table = self._tables.get(execution_id)
        if table is None or guest not in table.guests:
            return
        table.guests.remove(guest)
        if not table.guests:
            del self._tables[execution_id]
        self._look_soon()

    async def close(self) -> None:
        """Take back what this process told: it ends."""
        task, self._task = self._task, None
        self._tables.clear()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            self._told = b""  # it may have been telling just now
            await self._exchange({})

    def _look_soon(self) -> None:
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_looking())

    async def _keep_looking(self) -> None:
        """Look when somebody came or went, and now and then, until there is nobody and nothing to take back."""
        while self._tables or self._told != NOBODY:
            self._changed.clear()
            try:
                await self._look()
            except Exception:
                logger.exception("who follows executions could not be looked at; it is tried again in a moment")
            await asyncio.sleep(PAUSE_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_SECONDS - PAUSE_SECONDS)

    async def _look(self) -> None:
        """Give everybody the company of their execution if others follow it than before."""
        here = {key: frozenset(guest.person for guest in table.guests) for key, table in self._tables.items()}
        await self._exchange(here)
        together = {key: people | self._elsewhere.get(key, frozenset()) for key, people in here.items()}
        changed = {
            key: people
            for key, people in together.items()
            if key in self._tables and self._tables[key].people != people
        }
        several = {key: people for key, people in changed.items() if len(people) > 1}
        companies = await read(permitted, several) if several else {}
        for key, people in changed.items():
            table = self._tables.get(key)
            if table is not None:
                table.people, table.company = people, companies.get(key, Company(people))
                for guest in table.guests:
                    guest.meet(table.company)

    async def _exchange(self, here: Together) -> None:
        """Tell the other processes who follows here, if they do not know, and hear who follows there. One round trip."""
        now = asyncio.get_running_loop().time()
        told = msgspec.json.encode({key: sorted(people) for key, people in here.items()})
        again = told != NOBODY and now - self._told_at >= AGAIN_SECONDS
        tells = told != self._told or again
        try:
            found = await asyncio.to_thread(_ask, self._name, told if tells else b"", FORGET_SECONDS)
        except (redis.RedisError, OSError) as error:
            logger.debug("who follows executions is not told: %s", type(error).__name__)
            if now - self._heard_at > FORGET_SECONDS:
                self._elsewhere, self._told = {}, NOBODY
            return
        self._heard_at = now
        if tells:
            self._told, self._told_at = told, now
        self._elsewhere = _sum(found, here)


def permitted(together: Mapping[str, frozenset[int]]) -> dict[str, Company]:
    """Return who of those who follow each execution may see it, by the rows as they are now; three queries for all."""
    people = frozenset().union(*together.values())
    users = get_user_model()
    active = users.objects.filter(pk__in=people, is_active=True)
    names = dict(active.values_list("pk", users.USERNAME_FIELD))
    anything = access.who_sees_everything(people)
    owners = {str(key): owner for key, owner in Execution.objects.filter(pk__in=together).values_list("pk", "owner")}
    found = {}
    for key, following in together.items():
        may = [(names[one], one) for one in following if one in names and (one in anything or one == owners.get(key))]
        first = sorted(may, key=lambda pair: pair[0].casefold())[: SHOWN + 1]
        found[key] = Company(frozenset(one for _name, one in may), tuple(first))
    return found


def _sum(told: list[bytes], wanted: Mapping[str, Any]) -> Together:
    """Return what the other processes told of the executions in ``wanted``."""
    found: Together = {}
    for text in told:
        for key, people in _decoder.decode(text).items():
            if key in wanted:
                found[key] = found.get(key, frozenset()) | people
    return found


def _ask(*arguments: Any) -> list[bytes]:
    return cast(list[bytes], _client(settings.REDIS_URL).eval(_EXCHANGE, 1, KEY, *arguments))


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)


_presences: WeakKeyDictionary[asyncio.AbstractEventLoop, Presence] = WeakKeyDictionary()


def current_presence() -> Presence:
    """Return the presence of the running event loop; a web process has exactly one."""
    loop = asyncio.get_running_loop()
    if loop not in _presences:
        _presences[loop] = Presence()
    return _presences[loop]
