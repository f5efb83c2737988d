"""The feed of a process: one subscription per execution, bounded queues, outages of Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from executions.report import Head
from monitoring import rows
from monitoring.feed import Feed, Room, Watch
from monitoring.wire import Batch, Entry
from tests.monitoring.conftest import sync

pytestmark = [pytest.mark.redis]


class Watcher(Watch):
    """A watch that tests wait for."""

    def __init__(self, limit: int = 100_000) -> None:
        self.news = asyncio.Event()
        self.seen: list[Batch] = []
        super().__init__(Room(limit), self.news.set)

    async def numbers(self, count: int, timeout: float = 30) -> list[int]:
        """Return the numbers of the next ``count`` pushed events."""
        found: list[int] = []
        async with asyncio.timeout(timeout):
            while len(found) < count:
                await self.news.wait()
                self.news.clear()
                while batch := self.next():
                    self.seen.append(batch)
                    found += [item.seq for item in batch.entries]
        return found

    async def head_of(self, seq: int, timeout: float = 30) -> Head:
        """Return the look at the row that found at least ``seq`` events."""
        async with asyncio.timeout(timeout):
            while self.head is None or self.head.seq < seq:
                await self.news.wait()
                self.news.clear()
        return self.head


@asynccontextmanager
async def watching(feed: Feed, execution_id: str, watch: Watcher | None = None) -> AsyncIterator[Watcher]:
    watch = watch or Watcher()
    await feed.join(execution_id, watch)
    try:
        yield watch
    finally:
        await feed.leave(execution_id, watch)


@pytest.mark.row("S1-36b")
async def test_two_hundred_watchers_share_one_subscription_that_ends_with_the_last(make_run, live_redis, feed):
    run = await sync(make_run)

    async with AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(watching(feed, run.id)) for _ in range(200)]
        assert await sync(live_redis.subscribers, run.id) == 1
        await sync(run.write, 3)
        for watch in watches:
            assert await watch.numbers(3) == [1, 2, 3]

    assert await sync(live_redis.subscribers, run.id) == 0
    assert feed.watched == {}


async def test_each_execution_gets_its_own_events_only(make_run, feed):
    first, second = await sync(make_run), await sync(make_run)

    async with watching(feed, first.id) as one, watching(feed, second.id) as two:
        await sync(first.write, 2)
        await sync(second.write, 1)

        assert await one.numbers(2) == [1, 2]
        assert await two.numbers(1) == [1]


async def test_a_batch_is_made_once_for_all_watchers(make_run, feed):
    run = await sync(make_run)

    async with watching(feed, run.id) as one, watching(feed, run.id) as two:
        await sync(run.write, 2)
        await one.numbers(2)
        await two.numbers(2)

    assert one.seen[0].text is two.seen[0].text


async def test_pushes_of_two_workers_that_cross_are_put_in_order(make_run, feed):
    feed.check_seconds = 60  # so that nothing but the pushes can bring them
    run = await sync(make_run)

    async with watching(feed, run.id) as watch:
        await sync(run.write, 1)
        assert await watch.numbers(1) == [1]
        await sync(run.rows, 6)
        for after, count in ((1, 2), (5, 2), (3, 2)):
            await sync(run.push, after, count)

        assert await watch.numbers(6) == [2, 3, 4, 5, 6, 7]


async def test_what_no_push_brought_is_read_once_for_all_watchers(make_run, feed, monkeypatch):
    feed.check_seconds = 60
    run = await sync(make_run)
    reads: list[int] = []

    def count(execution_id, after):
        reads.append(after)
        return rows.load_page(execution_id, after)

    monkeypatch.setattr("monitoring.feed.load_page", count)
    async with AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(watching(feed, run.id)) for _ in range(20)]
        await sync(run.write, 1)
        for watch in watches:
            await watch.numbers(1)
        await sync(run.write, 3, push=False)
        await sync(run.write, 1)
        for watch in watches:
            assert await watch.numbers(4) == [2, 3, 4, 5]

    assert reads == [1]


def batch(seq: int, size: int = 10) -> Batch:
    return Batch([Entry(seq, "x" * size, size)])


def queued(watch: Watch) -> list[int]:
    found = []
    while taken := watch.next():
        found.append(taken.first)
    return found


async def test_a_full_queue_is_dropped_and_marked_and_others_keep_theirs():
    slow, fast = Watcher(limit=100), Watcher(limit=100)

    for seq in range(1, 20):
        slow.offer(batch(seq))
        fast.offer(batch(seq))
        assert queued(fast) == [seq]

    assert slow.overflowed
    assert queued(slow) == []
    assert not fast.overflowed


async def test_a_dropped_queue_takes_batches_again_after_resume():
    watch = Watcher(limit=100)
    watch.offer(batch(1, 200))
    assert watch.overflowed

    watch.resume()
    watch.offer(batch(4))

    assert queued(watch) == [4]


async def test_what_one_socket_watches_shares_its_room():
    room = Room(100)
    one, two = Watch(room, lambda: None), Watch(room, lambda: None)
    one.offer(batch(1, 60))
    two.offer(batch(1, 60))
    assert (one.overflowed, two.overflowed) == (False, True)

    assert queued(one) == [1]
    two.resume()
    two.offer(batch(2, 60))
    two.drop()

    assert room.held == 0


async def test_a_row_whose_push_was_lost_is_noticed(make_run, feed):
    run = await sync(make_run)

    async with watching(feed, run.id) as watch:
        await sync(run.write, 4, push=False)

        assert (await watch.head_of(4)).status == "running"


async def test_pushes_arrive_again_after_redis_was_killed_and_started(make_run, live_redis, feed, caplog):
    run = await sync(make_run)

    async with watching(feed, run.id) as watch:
        await sync(run.write, 1)
        assert await watch.numbers(1) == [1]
        await sync(live_redis.kill)
        await asyncio.sleep(0.5)
        await sync(live_redis.start)
        await until_subscribed(live_redis, run.id)
        await sync(run.write, 1)

        assert await watch.numbers(1) == [2]
        await asyncio.sleep(0.5)
    assert [caplog.text.count(text) for text in ("live push is off", "live push is on again")] == [1, 1]


async def test_watching_may_begin_while_redis_is_down(make_run, live_redis, feed, caplog):
    run = await sync(make_run)
    await sync(live_redis.kill)

    async with watching(feed, run.id) as watch:
        await sync(run.write, 1, push=False)
        await watch.head_of(1)
        assert caplog.text.count("live push is off") == 1

        await sync(live_redis.start)
        await until_subscribed(live_redis, run.id)
        await sync(run.write, 1)
        assert await watch.numbers(1) == [2]
    assert "live push is on again" in caplog.text


async def test_coming_and_going_a_hundred_times_leaves_nothing(make_run, live_redis, feed: Feed):
    run = await sync(make_run)
    async with watching(feed, run.id):
        before = len(asyncio.all_tasks())

    for _ in range(100):
        async with watching(feed, run.id):
            pass

    async with watching(feed, run.id):
        assert len(asyncio.all_tasks()) == before
        assert await sync(live_redis.subscribers, run.id) == 1


async def until_subscribed(live_redis, execution_id: str, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if await sync(live_redis.subscribers, execution_id):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the feed did not subscribe again")
