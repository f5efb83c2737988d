"""Live batches of events for everyone in this process who watches an execution.

The database is the truth and a push is only a hint. A process holds one channel of the channel layer,
one subscription per watched execution and one task that receives. What arrives within ``BATCH_SECONDS`` is put in
order, what is missing in between is read from the rows once for all, and every watcher gets the same batch.
A watcher that cannot keep up loses its queue, is told so, and reads the rows instead. Executions that
stay quiet are looked up in the database, so that a lost push delays a row and never loses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from channels.layers import get_channel_layer

from executions import report
from executions.events import group_name
from monitoring.rows import load_page, read
from monitoring.wire import Batch, batches, entry

logger = logging.getLogger(__name__)

QUEUE_BYTES: Final = 512 * 1024
"""Bytes of entries that may wait for one socket."""
PENDING_EVENTS: Final = 5000
"""Events of one execution that may wait to be put in order; more are dropped and read from the rows."""
BATCH_SECONDS: Final = 0.05
"""Least time between two batches of one execution."""
HEAD_SECONDS: Final = 0.2
"""Least time between two looks at the rows of executions that have news."""
CHECK_SECONDS: Final = 5.0
"""How long an execution may be quiet before its row is looked at."""
REDIS_SECONDS: Final = 3.0
"""How long one exchange with Redis may take before it counts as an outage."""
PROBE: Final = ("monitoring.probe", {"type": "probe"})
"""A message that nobody receives; sending it tells whether Redis answers."""


class Room:
    """How many bytes may wait for one socket, over all that it watches."""

    def __init__(self, limit: int = QUEUE_BYTES) -> None:
        self.limit = limit
        self.held = 0


class Watch:
    """One watcher's place in the feed; ``wake`` is called whenever something came.

    ``head`` is the newest look at the row. ``overflowed`` says that more came than there was room for: the queue
    was dropped and the rows must be read after ``resume()``. Without ``entries`` only heads come.
    """

    def __init__(self, room: Room, wake: Callable[[], None], *, entries: bool = True) -> None:
        self.entries = entries
        self.head: report.Head | None = None
        self.overflowed = False
        self._room = room
        self.wake = wake
        self._batches: deque[Batch] = deque()

    def offer(self, batch: Batch) -> None:
        """Queue ``batch``, or drop the whole queue when there is no room for it."""
        if not self.overflowed:
            if self._room.held + batch.size > self._room.limit:
                self.drop()
                self.overflowed = True
            else:
                self._batches.append(batch)
                self._room.held += batch.size
        self.wake()

    def notice(self, head: report.Head) -> None:
        """Tell the watcher how far the execution is according to the database."""
        self.head = head
        self.wake()

    def next(self) -> Batch | None:
        """Return and forget the oldest batch that waits, if any."""
        if not self._batches:
            return None
        batch = self._batches.popleft()
        self._room.held -= batch.size
        return batch

    def drop(self) -> None:
        """Forget all that waits."""
        self._room.held -= sum(batch.size for batch in self._batches)
        self._batches.clear()

    def resume(self) -> None:
        """Queue again after an overflow; call it before reading the rows."""
        self.overflowed = False


class _Topic:
    """The watchers of one execution and what came for them.

    ``heard_at`` is loop time of the last push or look, ``sent_at`` of the last batch; ``last`` is the number of the last
    entry that was handed out, None before the first. ``head`` is a look that waits until the entries before it are out.
    """

    __slots__ = ("head", "heard_at", "last", "pending", "sent_at", "subscribed", "task", "watches")

    def __init__(self, now: float) -> None:
        self.watches: set[Watch] = set()
        self.subscribed = False
        self.heard_at = now
        self.sent_at = 0.0
        self.last: int | None = None
        self.pending: dict[int, dict[str, Any]] = {}
        self.head: report.Head | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def sends_entries(self) -> bool:
        """Return whether anybody wants more than heads."""
        return any(watch.entries for watch in self.watches)


class Feed:
    """All watchers of one process (of one event loop, to be exact). Holds nothing while nobody watches."""

    def __init__(self, *, queue_bytes: int = QUEUE_BYTES, check_seconds: float = CHECK_SECONDS) -> None:
        self.queue_bytes = queue_bytes
        self.check_seconds = check_seconds
        self._lock = asyncio.Lock()
        self._topics: dict[str, _Topic] = {}
        self._channel: str | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._asked: set[str] = set()
        self._asking: asyncio.Task[None] | None = None
        self._answered_at = 0.0
        self._outage = False

    async def join(self, execution_id: str, watch: Watch) -> None:
        """Give ``watch`` a place among the watchers of ``execution_id``; batches are queued from now on.

        Works through an outage of Redis: then rows come by the look at quiet executions until the
        subscription, which is tried again every second, succeeds.
        """
        async with self._lock:
            topic = self._topics.setdefault(execution_id, _Topic(_now()))
            topic.watches.add(watch)
            first = not self._tasks
            if first:
                self._tasks = [asyncio.create_task(self._look())]
            if first or not self._outage:  # else every joiner would wait for a Redis that does not answer
                await self._subscribe(execution_id, topic)

    async def leave(self, execution_id: str, watch: Watch) -> None:
        """Take the place away; with the last watcher goes the subscription."""
        watch.drop()
        await asyncio.shield(self._leave(execution_id, watch))

    @property
    def watched(self) -> dict[str, int]:
        """Return how many watchers each execution has."""
        return {execution_id: len(topic.watches) for execution_id, topic in self._topics.items()}

    async def close(self) -> None:
        """Stop all tasks; watchers get nothing more."""
        async with self._lock:
            topics, self._topics = self._topics, {}
            for topic in topics.values():
                await _end(topic.task)
            await self._stop()

    async def _leave(self, execution_id: str, watch: Watch) -> None:
        async with self._lock:
            topic = self._topics.get(execution_id)
            if topic is None:
                return
            topic.watches.discard(watch)
            if topic.watches:
                return
            del self._topics[execution_id]
            await _end(topic.task)
            if topic.subscribed and self._channel is not None:
                try:
                    async with asyncio.timeout(REDIS_SECONDS):
                        await get_channel_layer().group_discard(group_name(execution_id), self._channel)
                except Exception as error:
                    logger.info("could not unsubscribe from execution %s: %s", execution_id, error)
            if not self._topics:
                await self._stop()

    async def _stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        self._channel = None
        self._asked.clear()
        asking, self._asking = self._asking, None
        for task in (*tasks, asking):
            await _end(task)

    # ----------------------------------------------------------------------- Redis

    async def _subscribe(self, execution_id: str, topic: _Topic) -> None:
        """Subscribe to the pushes of ``execution_id``; an outage is noted and tried again later."""
        if topic.subscribed:
            return
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                layer = get_channel_layer()
                if self._channel is None:
                    # A failed new_channel() leaves a queue behind in the layer; a failed send() does not.
                    await layer.send(*PROBE)
                    self._channel = await layer.new_channel()
                    self._tasks.append(asyncio.create_task(self._receive(self._channel)))
                await layer.group_add(group_name(execution_id), self._channel)
        except Exception as error:
            self._note_outage(error)
        else:
            topic.subscribed = True
            self._note_outage(None)

    def _note_outage(self, error: Exception | None) -> None:
        """Log once when Redis stops answering and once when it answers again."""
        if error is not None and not self._outage:
            logger.warning("live push is off, rows are read instead: Redis does not answer: %r", error)
        if error is None and self._outage:
            logger.warning("live push is on again")
        self._outage = error is not None

    async def _receive(self, channel: str) -> None:
        """Take what arrives on ``channel``, for ever."""
        while True:
            try:
                self._take(await get_channel_layer().receive(channel))
            except Exception:
                logger.exception("a pushed message could not be handed out")
                await asyncio.sleep(0.1)

    def _take(self, message: dict[str, Any]) -> None:
        """Keep what was pushed until its batch is due."""
        execution_id = str(message.get("execution_id"))
        topic = self._topics.get(execution_id)
        if topic is None:
            return
        logs, status = message["logs"], message["status"]
        topic.heard_at = _now()
        if topic.sends_entries:
            if len(topic.pending) + len(logs) <= PENDING_EVENTS:
                topic.pending.update((int(log["seq"]), log) for log in logs)
            self._hand_out_soon(execution_id, topic)
        if status in report.ENDED or any(not watch.entries for watch in topic.watches):
            self._ask(execution_id)

    # ----------------------------------------------------------------------- handing out

    def _hand_out_soon(self, execution_id: str, topic: _Topic) -> None:
        if topic.task is None or topic.task.done():
            topic.task = asyncio.create_task(self._hand_out(execution_id, topic))

    async def _hand_out(self, execution_id: str, topic: _Topic) -> None:
        """Give every watcher what came, in order and without a gap, and then the look at the row."""
        try:
            while topic.pending or topic.head:
                await asyncio.sleep(max(topic.sent_at + BATCH_SECONDS - _now(), 0))
                topic.sent_at = _now()
                await self._hand_out_pending(execution_id, topic)
                head, topic.head = topic.head, None
                if head is not None:
                    if topic.sends_entries:
                        await self._read_up_to(head.seq, execution_id, topic)
                    topic.last = max(topic.last or 0, head.seq)
                    for watch in topic.watches:
                        watch.notice(head)
        except Exception:
            logger.exception("events of execution %s could not be handed out", execution_id)
            topic.last = None

    async def _hand_out_pending(self, execution_id: str, topic: _Topic) -> None:
        pending, topic.pending = topic.pending, {}
        for batch in batches([entry(pending[seq]) for seq in sorted(pending) if seq > (topic.last or 0)]):
            await self._read_up_to(batch.first - 1, execution_id, topic)
            if batch.first > (topic.last or 0):
                await self._offer(batch, topic)

    async def _read_up_to(self, seq: int, execution_id: str, topic: _Topic) -> None:
        """Hand out the rows up to ``seq`` that no push brought."""
        while topic.last is not None and topic.last < seq:
            page, more = await read(load_page, UUID(execution_id), topic.last)
            for batch in batches(page):
                await self._offer(batch, topic)
            if not more:
                return

    async def _offer(self, batch: Batch, topic: _Topic) -> None:
        topic.last = batch.last
        for watch in topic.watches:
            if watch.entries:
                watch.offer(batch)
        await asyncio.sleep(0)  # whoever can send it does, before the next one needs room

    # ----------------------------------------------------------------------- looking at rows

    def _ask(self, execution_id: str) -> None:
        """Look at the row of ``execution_id`` soon; one query for all that are asked about."""
        self._asked.add(execution_id)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        while self._asked:
            await asyncio.sleep(max(self._answered_at + HEAD_SECONDS - _now(), 0))
            self._answered_at = _now()
            asked, self._asked = self._asked, set()
            await self._look_at_all([key for key in asked if key in self._topics])

    async def _look(self) -> None:
        """Every second: subscribe what is not yet, and look at the rows of quiet executions."""
        while True:
            await asyncio.sleep(min(1.0, self.check_seconds / 2))
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    await get_channel_layer().send(*PROBE)
                await self._subscribe_missing()
                if all(topic.subscribed for topic in self._topics.values()):
                    self._note_outage(None)
            except Exception as error:
                self._note_outage(error)
            now = _now()
            quiet = [key for key, topic in self._topics.items() if now - topic.heard_at >= self.check_seconds]
            await self._look_at_all(quiet)

    async def _subscribe_missing(self) -> None:
        for execution_id, topic in list(self._topics.items()):
            if not topic.subscribed:
                async with self._lock:
                    if self._topics.get(execution_id) is topic:
                        await self._subscribe(execution_id, topic)
                if not topic.subscribed:
                    return

    async def _look_at_all(self, execution_ids: Sequence[str]) -> None:
        for chunk in _chunks(execution_ids, 500):
            try:
                found = await read(report.heads, chunk)
            except Exception as error:
                logger.warning("could not look at the watched executions: %s", error)
                return
            for execution_id, head in found.items():
                topic = self._topics.get(execution_id)
                if topic is not None:
                    topic.heard_at = _now()
                    topic.head = head
                    self._hand_out_soon(execution_id, topic)


async def _end(task: asyncio.Task[None] | None) -> None:
    """Cancel ``task`` and wait until it has ended."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=REDIS_SECONDS)


def _chunks(items: Sequence[str], size: int) -> Iterable[list[str]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))


def _now() -> float:
    return asyncio.get_running_loop().time()


_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, Feed] = WeakKeyDictionary()


def current_feed() -> Feed:
    """Return the feed of the running event loop; a web process has exactly one."""
    loop = asyncio.get_running_loop()
    if loop not in _feeds:
        _feeds[loop] = Feed()
    return _feeds[loop]
