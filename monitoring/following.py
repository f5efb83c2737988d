"""One execution for one socket: the rows first, then what happens live, every entry once and in order."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from executions import report
from monitoring import rows
from monitoring.doorway import FAULT, Refused
from monitoring.feed import Room, Watch
from monitoring.presence import Company, Others
from monitoring.wire import Batch, batches, message

logger = logging.getLogger(__name__)

Send = Callable[[str], Awaitable[None]]


class Line:
    """How a socket for one execution is spoken to: one message, one frame."""

    def __init__(self, send: Send) -> None:
        self.send = send

    async def batch(self, batch: Batch) -> None:
        """Send entries."""
        for entry in batch.entries:
            await self.send(entry.text)

    async def say(self, kind: str, **content: Any) -> None:
        """Send a control message."""
        await self.send(message(kind, **content))


class SharedLine(Line):
    """How one of many executions of a socket is spoken of: with its id, entries in frames of up to 64 kB."""

    def __init__(self, send: Send, execution_id: UUID) -> None:
        super().__init__(send)
        self._execution_id = str(execution_id)

    async def batch(self, batch: Batch) -> None:
        """Send entries."""
        await self.send(batch.text)

    async def say(self, kind: str, **content: Any) -> None:
        """Send a control message."""
        await self.send(message(kind, **{"execution_id": self._execution_id, **content}))


class Follower(ABC):
    """What a socket has of one execution, for ``person``. ``step`` sends the next piece, as much as is in memory at once."""

    def __init__(self, execution_id: UUID, line: Line, room: Room, wake: Callable[[Follower], None]) -> None:
        self.execution_id = execution_id
        self.watch = Watch(room, lambda: wake(self), entries=self.wants_entries)
        self.ended = False
        self.person = 0
        self._line = line
        self._others = Others()
        self._others_changed = False

    wants_entries = False

    async def hello(self, head: report.Head) -> None:
        """Say how far the execution is; to be called once, before the first step."""
        await self._line.say(
            "hello",
            execution_id=str(self.execution_id),
            status=head.status,
            last_seq=head.seq,
            progress=head.progress,
        )

    def meet(self, company: Company) -> None:
        """Take who follows the execution now."""
        others = company.others(self.person)
        if others != self._others:
            self._others, self._others_changed = others, True
            self.watch.wake()

    async def introduce(self) -> None:
        """Say who else follows, if others do than was said last; of somebody alone nothing is said."""
        if self._others_changed:
            self._others_changed = False
            await self._line.say("watchers", names=self._others.names, count=self._others.count)

    @abstractmethod
    async def step(self) -> bool:
        """Send the next piece; return whether there may be another one at once."""

    async def _end(self, head: report.Head) -> bool:
        self.ended = True
        await self._line.say("end", status=head.status)
        return False


class LogFollower(Follower):
    """Every entry after ``after``."""

    wants_entries = True

    def __init__(
        self, execution_id: UUID, line: Line, room: Room, wake: Callable[[Follower], None], after: int
    ) -> None:
        super().__init__(execution_id, line, room, wake)
        self._last = after
        self._behind = True
        self._final: report.Head | None = None

    async def hello(self, head: report.Head) -> None:
        """Say how far the execution is."""
        await super().hello(head)
        self._final = head if head.ended else None

    async def step(self) -> bool:
        """Send a page of rows, or a batch, or the end."""
        if self._behind:
            await self._send_rows()
            return True
        if self.watch.overflowed:
            await self._line.say("resync")
            self.watch.resume()
            self._behind = True
            return True
        batch = self.watch.next()
        if batch is not None:
            await self._follow(batch)
            return True
        head, self.watch.head = self.watch.head, None
        if head is not None:
            self._final = self._final or (head if head.ended else None)
            self._behind = head.seq > self._last
            return True
        return self._final is not None and await self._end(self._final)

    async def _send_rows(self) -> None:
        try:
            page, self._behind = await rows.read(rows.load_page, self.execution_id, self._last)
        except Exception:
            logger.exception("the events of execution %s after %d cannot be read", self.execution_id, self._last)
            raise Refused(FAULT, "its events cannot be read") from None
        await self._send(batches(page))

    async def _follow(self, batch: Batch) -> None:
        if batch.first > self._last + 1:  # the rows hold what is missing, and the batch, too
            self._behind = True
        elif batch.last > self._last:
            await self._send([batch.after(self._last)])

    async def _send(self, found: Sequence[Batch]) -> None:
        for batch in found:
            await self._line.batch(batch)
            self._last = batch.last


class StatusFollower(Follower):
    """Status and progress, whenever they changed."""

    _sent: report.Head | None = None

    async def hello(self, head: report.Head) -> None:
        """Say how far the execution is."""
        await super().hello(head)
        self._sent = head
        self.watch.head = self.watch.head or head

    async def step(self) -> bool:
        """Send the newest status, if it is another one, or the end."""
        head, self.watch.head = self.watch.head, None
        if head is None:
            return False
        sent, self._sent = self._sent, head
        if sent is None or (head.status, head.progress) != (sent.status, sent.progress):
            await self._line.say(
                "status_update",
                execution_id=str(self.execution_id),
                status=head.status,
                progress=head.progress,
                last_seq=head.seq,
            )
        return head.ended and await self._end(head)
