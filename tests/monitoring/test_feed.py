"""The feed of a process: one subscription per execution, bounded queues, outages of Redis."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from monitoring.feed import Batch, Feed, Watch
from tests.monitoring.conftest import sync

pytestmark = [pytest.mark.redis]


async def numbers(watch: Watch, count: int, timeout: float = 8) -> list[int]:
    """Return the numbers of the next ``count`` pushed events."""
    found: list[int] = []
    async with asyncio.timeout(timeout):
        while len(found) < count:
            await watch.wait(1)
            found += [seq for batch in watch.take() for seq, _text in batch.frames]
    return found


@pytest.mark.row("S1-36b")
async def test_two_hundred_watchers_share_one_subscription_that_ends_with_the_last(make_run, live_redis, feed):
    run = await sync(make_run)

    async with AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(feed.watch(run.id)) for _ in range(200)]
        assert await sync(live_redis.subscribers, run.id) == 1
        await sync(run.write, 3)
        for watch in watches:
            assert await numbers(watch, 3) == [1, 2, 3]

    assert await sync(live_redis.subscribers, run.id) == 0
    assert feed.watched == {}


async def test_each_execution_gets_its_own_events_only(make_run, feed):
    first, second = await sync(make_run), await sync(make_run)

    async with feed.watch(first.id) as one, feed.watch(second.id) as two:
        await sync(first.write, 2)
        await sync(second.write, 1)

        assert await numbers(one, 2) == [1, 2]
        assert await numbers(two, 1) == [1]


async def test_a_message_is_made_once_for_all_watchers(make_run, feed):
    run = await sync(make_run)

    async with feed.watch(run.id) as one, feed.watch(run.id) as two:
        await sync(run.write, 1)
        await numbers(one, 0)
        await one.wait(5)
        await two.wait(5)

        assert one.take()[0].frames is two.take()[0].frames


def log(seq: int) -> dict[str, object]:
    return {"seq": seq, "event": "log"}


async def test_a_full_queue_is_dropped_and_marked_and_others_keep_theirs():
    slow, fast = Watch(limit=5), Watch(limit=5)

    for seq in range(1, 9):
        slow.offer(Batch([log(seq)], "running"))
        fast.offer(Batch([log(seq)], "running"))
        assert [batch.logs[0]["seq"] for batch in fast.take()] == [seq]

    assert slow.overflowed
    assert slow.take() == []
    assert not fast.overflowed


async def test_a_dropped_queue_takes_batches_again_after_resume():
    watch = Watch(limit=2)
    watch.offer(Batch([log(1), log(2), log(3)], "running"))
    assert watch.overflowed

    watch.resume()
    watch.offer(Batch([log(4)], "running"))

    assert [batch.logs[0]["seq"] for batch in watch.take()] == [4]


async def test_a_row_whose_push_was_lost_is_noticed(make_run, feed):
    run = await sync(make_run)

    async with feed.watch(run.id) as watch:
        await sync(run.write, 4, push=False)
        async with asyncio.timeout(5):
            while watch.head is None or watch.head.seq < 4:
                await watch.wait(1)

        assert (watch.head.status, watch.head.seq) == ("running", 4)


async def test_pushes_arrive_again_after_redis_was_killed_and_started(make_run, live_redis, feed, caplog):
    run = await sync(make_run)

    async with feed.watch(run.id) as watch:
        await sync(run.write, 1)
        assert await numbers(watch, 1) == [1]
        await sync(live_redis.kill)
        await asyncio.sleep(0.5)
        await sync(live_redis.start)
        await until_subscribed(live_redis, run.id)
        await sync(run.write, 1)

        assert await numbers(watch, 1) == [2]
        await asyncio.sleep(0.5)
    assert [caplog.text.count(text) for text in ("live push is off", "live push is on again")] == [1, 1]


async def test_watching_may_begin_while_redis_is_down(make_run, live_redis, feed, caplog):
    run = await sync(make_run)
    await sync(live_redis.kill)

    async with feed.watch(run.id) as watch:
        await sync(run.write, 1, push=False)
        async with asyncio.timeout(5):
            while watch.head is None or watch.head.seq < 1:
                await watch.wait(1)
        assert caplog.text.count("live push is off") == 1

        await sync(live_redis.start)
        await until_subscribed(live_redis, run.id)
        await sync(run.write, 1)
        assert await numbers(watch, 1) == [2]
    assert "live push is on again" in caplog.text


async def test_coming_and_going_a_hundred_times_leaves_nothing(make_run, live_redis, feed: Feed):
    run = await sync(make_run)
    async with feed.watch(run.id):
        before = len(asyncio.all_tasks())

    for _ in range(100):
        async with feed.watch(run.id):
            pass

    async with feed.watch(run.id):
        assert len(asyncio.all_tasks()) == before
        assert await sync(live_redis.subscribers, run.id) == 1


async def until_subscribed(live_redis, execution_id: str, timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if await sync(live_redis.subscribers, execution_id):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the feed did not subscribe again")
