"""What one socket is sent, by one task, so that a slow client holds up nobody but itself."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import Final
from uuid import UUID

from django.conf import settings

from executions import report
from monitoring import doorway
from monitoring.doorway import Allowance, Refused, Sight
from monitoring.feed import Room, current_feed
from monitoring.following import Follower, Line, LogFollower, Send, SharedLine, StatusFollower
from monitoring.overview import Viewer, current_overview
from monitoring.presence import current_presence
from monitoring.rows import read
from monitoring.wire import Overview, Ping, Said, Subscribe, Unsubscribe, message

HEARTBEAT_SECONDS: Final = 30.0
SUBSCRIPTIONS: Final = 200
"""Executions that one socket may follow at a time."""
NO_SUCH: Final = "no such execution for this login"


class Serving(ABC):
    """One socket: whose it is, what it follows, and what is due by the clock.

    ``run`` returns when there is nothing more to send, or raises ``Refused``.
    """

    def __init__(self, session_key: str | None, send: Send) -> None:
        feed = current_feed()
        self._feed = feed
        self._presence = current_presence()
        self._send = send
        self._session_key = session_key
        self._room = Room(feed.queue_bytes)
        self._news = asyncio.Event()
        self._followers: dict[UUID, Follower] = {}
        self._new: list[Follower] = []
        self._ready: dict[Follower, None] = {}
        self._heartbeat_at = self._check_at = 0.0

    async def run(self) -> None:
        """Send everything that is asked for, until there is no more."""
        try:
            await self._open()
            while await self._obey():
                await self._keep_up()
                await self._begin()
                if not await self._work():
                    await self._wait()
        finally:
            for execution_id in list(self._followers):
                await self._drop(execution_id)

    async def _open(self) -> None:
        """Check what must be right before anything is followed."""
        now = _now()
        self._heartbeat_at = now + HEARTBEAT_SECONDS
        self._check_at = now + settings.SOCKET_CHECK_SECONDS

    @abstractmethod
    async def _obey(self) -> bool:
        """Do what the client said meanwhile; return whether there is anything to go on with."""

    @abstractmethod
    async def _refuse(self, execution_id: UUID | str, code: int, reason: str) -> None:
        """Tell why an execution is not followed, or not any more."""

    def _wake(self, follower: Follower) -> None:
        if follower.execution_id in self._followers:
            self._ready[follower] = None
            self._news.set()

    async def _wait(self) -> None:
        """Return when there is news, or something is due by the clock."""
        loop = asyncio.get_running_loop()
        alarm = loop.call_at(min(self._heartbeat_at, self._check_at), self._news.set)
        try:
            await self._news.wait()
        finally:
            alarm.cancel()
        self._news.clear()

    async def _keep_up(self) -> None:
        now = _now()
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
            await self._send(message("heartbeat"))
        if now >= self._check_at:
            self._check_at = now + settings.SOCKET_CHECK_SECONDS
            await self._check()

    async def _check(self) -> Sight:
        """Look again at who this is and what they may see; one query for all executions."""
        sight = await self._look(list(self._followers))
        if sight is None:
            raise Refused(doorway.NO_LONGER_PERMITTED, "the login has ended")
        for execution_id in self._followers.keys() - sight.executions:
            await self._drop(execution_id)
            await self._refuse(execution_id, doorway.NO_LONGER_PERMITTED, NO_SUCH)
        return sight

    async def _look(self, execution_ids: list[UUID]) -> Sight | None:
        return await read(doorway.look, self._session_key, execution_ids)

    async def _begin(self) -> None:
        """Begin with what was asked for meanwhile: permission for all, then a place in the feed, then the rows."""
        new, self._new = self._new, []
        if not new:
            return
        sight = await self._look([follower.execution_id for follower in new])
        seen = frozenset() if sight is None else sight.executions
        for follower in new:
            if follower.execution_id in seen:
                self._followers[follower.execution_id] = follower
                await self._feed.join(str(follower.execution_id), follower.watch)
        heads = await read(report.heads, [follower.execution_id for follower in new])
        for follower in new:
            execution_id = follower.execution_id
            head = heads.get(str(execution_id)) if execution_id in seen else None
            if head is None:
                await self._drop(execution_id)
                await self._refuse(execution_id, doorway.NOT_PERMITTED, NO_SUCH)
            else:
                await follower.hello(head)
                self._ready[follower] = None
                if sight is not None and not head.ended:
                    follower.person = sight.user.pk
                    self._presence.join(str(execution_id), follower)

    async def _work(self) -> bool:
        """Send one piece of every execution that has something; return whether there may be more at once."""
        ready, self._ready = self._ready, {}
        for follower in ready:
            if self._followers.get(follower.execution_id) is not follower:
                continue
            try:
                await follower.introduce()
                if await follower.step():
                    self._ready[follower] = None
                elif follower.ended:
                    await self._drop(follower.execution_id)
            except Refused as refusal:
                await self._drop(follower.execution_id)
                await self._refuse(follower.execution_id, refusal.code, str(refusal))
        return bool(ready)

    async def _drop(self, execution_id: UUID) -> None:
        follower = self._followers.pop(execution_id, None)
        if follower is not None:
            self._ready.pop(follower, None)
            self._presence.leave(str(execution_id), follower)
            await self._feed.leave(str(execution_id), follower.watch)


class Single(Serving):
    """A socket for one execution; it ends with it."""

    def __init__(self, session_key: str | None, send: Send, execution_id: UUID, after: int | None) -> None:
        """Send every entry after ``after``, or the status only when that is None."""
        super().__init__(session_key, send)
        line = Line(send)
        if after is None:
            self._new = [StatusFollower(execution_id, line, self._room, self._wake)]
        else:
            self._new = [LogFollower(execution_id, line, self._room, self._wake, after)]

    async def _obey(self) -> bool:
        return bool(self._followers or self._new)

    async def _refuse(self, execution_id: UUID | str, code: int, reason: str) -> None:
        raise Refused(code, reason)


class Shared(Serving):
    """A socket for as many executions as the client asks for."""

    def __init__(self, session_key: str | None, send: Send) -> None:
        super().__init__(session_key, send)
        self._said: deque[Said] = deque()
        self._overview = current_overview()
        self._viewer = Viewer(Room(self._feed.queue_bytes // 2), self._news.set)
        self._views = False

    async def run(self) -> None:
        """Send everything that is asked for, until the client goes or may not stay."""
        try:
            await super().run()
        finally:
            self._overview.leave(self._viewer)

    def hear(self, said: Said) -> None:
        """Do what the client says as soon as it can be sent the answer.

        Raises:
            Refused: it says more than it takes answers.
        """
        if len(self._said) == Allowance.BURST:
            raise Refused(doorway.TOO_MANY, "more messages than answers were taken")
        self._said.append(said)
        self._news.set()

    async def _open(self) -> None:
        await super()._open()
        if await self._look([]) is None:
            raise Refused(doorway.NOT_PERMITTED, "log in first")
        await self._send(message("hello"))

    async def _obey(self) -> bool:
        while self._said:
            match self._said.popleft():
                case Subscribe() as wish:
                    await self._subscribe(wish)
                case Unsubscribe(execution_id=name):
                    execution_id = _uuid(name)
                    self._new = [follower for follower in self._new if follower.execution_id != execution_id]
                    if execution_id is not None:
                        await self._drop(execution_id)
                case Ping():
                    await self._send(message("pong"))
                case Overview(on=on):
                    await self._view(on)
        return True

    async def _view(self, on: bool) -> None:
        self._overview.leave(self._viewer)
        self._views = on
        if on:
            await self._check()

    async def _check(self) -> Sight:
        sight = await super()._check()
        if self._views:
            self._overview.join(sight, self._viewer)
        return sight

    async def _work(self) -> bool:
        busy = await super()._work()
        text = self._viewer.next()
        if text is None:
            return busy
        await self._send(text)
        return True

    async def _subscribe(self, wish: Subscribe) -> None:
        execution_id = _uuid(wish.execution_id)
        if execution_id is None:
            await self._refuse(wish.execution_id, doorway.BAD_MESSAGE, "the execution id is not a UUID")
            return
        await self._drop(execution_id)
        self._new = [follower for follower in self._new if follower.execution_id != execution_id]
        if len(self._followers) + len(self._new) >= SUBSCRIPTIONS:
            await self._refuse(execution_id, doorway.NOT_PERMITTED, f"a socket follows {SUBSCRIPTIONS} executions")
            return
        line = SharedLine(self._send, execution_id)
        if wish.what == "status":
            self._new.append(StatusFollower(execution_id, line, self._room, self._wake))
        else:
            self._new.append(LogFollower(execution_id, line, self._room, self._wake, wish.after))

    async def _refuse(self, execution_id: UUID | str, code: int, reason: str) -> None:
        await self._send(message("error", execution_id=str(execution_id), code=code, reason=reason))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _now() -> float:
    return asyncio.get_running_loop().time()
