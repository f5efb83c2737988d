"""Who else follows an execution: every web process tells the others.

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
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

import msgspec
import redis
from django.contrib.auth import get_user_model

from executions.models import Execution
from monitoring import board
from monitoring.rows import read
from workflows import access

logger = logging.getLogger(__name__)

KEY: Final = "flowbuilder:watchers"
SHOWN: Final = 20
"""How many others are named; of more only the number is told."""
LOOK_SECONDS: Final = 2.0
"""How often a process looks at what the others told while anybody follows anything here."""
Together = dict[str, frozenset[int]]
"""Keys of the users that follow an execution, by its id."""
NOBODY: Final = b""

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
        self._told: bytes | None = NOBODY
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
            self._told = None  # it may have been telling just now
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
            await asyncio.sleep(board.PAUSE_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_SECONDS - board.PAUSE_SECONDS)

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
        told = msgspec.json.encode({key: sorted(people) for key, people in here.items()}) if here else NOBODY
        again = told != NOBODY and now - self._told_at >= board.AGAIN_SECONDS
        tells = told != self._told or again
        try:
            found = await asyncio.to_thread(board.exchange, KEY, self._name, told if tells else None)
        except (redis.RedisError, OSError) as error:
            logger.debug("who follows executions is not told: %s", type(error).__name__)
            if now - self._heard_at > board.FORGET_SECONDS:
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


_presences: WeakKeyDictionary[asyncio.AbstractEventLoop, Presence] = WeakKeyDictionary()


def current_presence() -> Presence:
    """Return the presence of the running event loop; a web process has exactly one."""
    loop = asyncio.get_running_loop()
    if loop not in _presences:
        _presences[loop] = Presence()
    return _presences[loop]
