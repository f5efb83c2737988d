"""Live batches of events for everyone in this process who watches an execution.

The database is the truth and a push is only a hint. A process holds one channel of the channel layer,
one subscription per watched execution and one task that receives; batches are handed out in process.
A watcher that cannot keep up loses its queue, is told so, and reads the rows instead. Executions that
stay quiet are looked up in the database, so that a lost push delays a row and never loses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import msgspec
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer

from executions import report
from executions.events import group_name

logger = logging.getLogger(__name__)

QUEUE_LIMIT: Final = 1000
"""Events that may wait for one watcher."""
CHECK_SECONDS: Final = 5.0
"""How long an execution may be quiet before its row is looked at."""
REDIS_SECONDS: Final = 3.0
"""How long one exchange with Redis may take before it counts as an outage."""
PROBE: Final = ("monitoring.probe", {"type": "probe"})
"""A message that nobody receives; sending it tells whether Redis answers."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="monitoring-read")


async def read(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Return ``function(...)``, called in one of four database threads of this process."""
    in_thread = database_sync_to_async(function, thread_sensitive=False, executor=_readers)
    result: _T = await in_thread(*args, **kwargs)
    return result


STATUS_EVENTS: Final = frozenset({"cancel_requested", "recovered", "pause", "resume", "state_snapshot"})


def frame_type(event: str) -> str:
    """Return which kind of message an event is to clients: ``node``, ``status`` or ``log``."""
    if event.startswith("node_"):
        return "node"
    if event.startswith(("workflow_", "phase_")) or event in STATUS_EVENTS:
        return "status"
    return "log"


def frame(log: dict[str, Any]) -> tuple[int, str]:
    """Return ``(seq, JSON text)`` of the message that carries one ``ExecutionLog``."""
    return int(log["seq"]), msgspec.json.encode({"type": frame_type(log["event"]), **log}).decode()


class Batch:
    """Events that one commit wrote, in order, and the status of the execution after it."""

    def __init__(self, logs: Sequence[dict[str, Any]], status: str) -> None:
        self.logs = logs
        self.status = status

    @cached_property
    def frames(self) -> list[tuple[int, str]]:
        """Return the messages as ``(seq, JSON text)``; made once for all watchers."""
        return [frame(log) for log in self.logs]


class Watch:
    """One watcher's place in the feed.

    ``head`` is the newest look at the row, if the feed had to take one. ``overflowed`` says that more
    came than ``limit``: the queue was dropped and the rows must be read after ``resume()``.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.head: report.Head | None = None
        self.overflowed = False
        self._batches: deque[Batch] = deque()
        self._held = 0
        self._news = asyncio.Event()

    def offer(self, batch: Batch) -> None:
        """Queue ``batch``, or drop the whole queue when it would hold too much."""
        if not self.overflowed:
            if self._held + len(batch.logs) > self.limit:
                self.overflowed = True
                self._batches.clear()
                self._held = 0
            else:
                self._batches.append(batch)
                self._held += len(batch.logs)
        self._news.set()

    def notice(self, head: report.Head) -> None:
        """Tell the watcher how far the execution is according to the database."""
        self.head = head
        self._news.set()

    async def wait(self, timeout_seconds: float) -> bool:
        """Return True as soon as something came, False when nothing did within the time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(timeout_seconds, 0)):
                await self._news.wait()
        came = self._news.is_set()
        self._news.clear()
        return came

    def take(self) -> list[Batch]:
        """Return and forget the queued batches."""
        batches = list(self._batches)
        self._batches.clear()
        self._held = 0
        return batches

    def resume(self) -> None:
        """Queue again after an overflow; call it before reading the rows."""
        self.overflowed = False


class _Topic:
    """The watchers of one execution. ``heard_at`` is loop time of the last batch or look."""

    __slots__ = ("heard_at", "subscribed", "watches")

    def __init__(self, now: float) -> None:
        self.watches: set[Watch] = set()
        self.subscribed = False
        self.heard_at = now


class Feed:
    """All watchers of one process (of one event loop, to be exact). Holds nothing while nobody watches."""

    def __init__(self, *, queue_limit: int = QUEUE_LIMIT, check_seconds: float = CHECK_SECONDS) -> None:
        self.queue_limit = queue_limit
        self.check_seconds = check_seconds
        self._topics: dict[str, _Topic] = {}
        self._lock = asyncio.Lock()
        self._channel: str | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._outage = False

    @asynccontextmanager
    async def watch(self, execution_id: str) -> AsyncIterator[Watch]:
        """Give a place among the watchers of ``execution_id``; batches are queued from now on.

        Works through an outage of Redis: then rows come by the look at quiet executions until the
        subscription, which is tried again every second, succeeds.
        """
        watch = Watch(self.queue_limit)
        async with self._lock:
            topic = self._topics.setdefault(execution_id, _Topic(asyncio.get_running_loop().time()))
            topic.watches.add(watch)
            self._start()
            await self._subscribe(execution_id, topic)
        try:
            yield watch
        finally:
            await asyncio.shield(self._leave(execution_id, watch))

    @property
    def watched(self) -> dict[str, int]:
        """Return how many watchers each execution has."""
        return {execution_id: len(topic.watches) for execution_id, topic in self._topics.items()}

    async def close(self) -> None:
        """Stop all tasks; watchers get nothing more."""
        async with self._lock:
            self._topics.clear()
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
            if topic.subscribed and self._channel is not None:
                try:
                    async with asyncio.timeout(REDIS_SECONDS):
                        await get_channel_layer().group_discard(group_name(execution_id), self._channel)
                except Exception as error:
                    logger.info("could not unsubscribe from execution %s: %s", execution_id, error)
            if not self._topics:
                await self._stop()

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._look())]

    async def _stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        self._channel = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=REDIS_SECONDS)

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
        """Hand out what arrives on ``channel``, for ever."""
        while True:
            try:
                self._deliver(await get_channel_layer().receive(channel))
            except Exception:
                logger.exception("a pushed message could not be handed out")
                await asyncio.sleep(0.1)

    def _deliver(self, message: dict[str, Any]) -> None:
        topic = self._topics.get(str(message.get("execution_id")))
        if topic is None:
            return
        topic.heard_at = asyncio.get_running_loop().time()
        batch = Batch(message["logs"], message["status"])
        for watch in topic.watches:
            watch.offer(batch)

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
            try:
                now = asyncio.get_running_loop().time()
                quiet = [key for key, topic in self._topics.items() if now - topic.heard_at >= self.check_seconds]
                for chunk in _chunks(quiet, 500):
                    await self._look_at(chunk, now)
            except Exception as error:
                logger.warning("could not look at the watched executions: %s", error)

    async def _subscribe_missing(self) -> None:
        for execution_id, topic in list(self._topics.items()):
            if not topic.subscribed:
                async with self._lock:
                    if self._topics.get(execution_id) is topic:
                        await self._subscribe(execution_id, topic)
                if not topic.subscribed:
                    return

    async def _look_at(self, execution_ids: list[str], now: float) -> None:
        for execution_id, head in (await read(report.heads, execution_ids)).items():
            topic = self._topics.get(execution_id)
            if topic is not None:
                topic.heard_at = now
                for watch in topic.watches:
                    watch.notice(head)


def _chunks(items: Sequence[str], size: int) -> Iterable[list[str]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))


_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, Feed] = WeakKeyDictionary()


def current_feed() -> Feed:
    """Return the feed of the running event loop; a web process has exactly one."""
    loop = asyncio.get_running_loop()
    if loop not in _feeds:
        _feeds[loop] = Feed()
    return _feeds[loop]
