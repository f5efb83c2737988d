"""One socket for many executions: what clients may say, and what they are told of each."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import asynccontextmanager
from typing import Any

import pytest
from django.contrib.sessions.models import Session

from executions.models import Execution
from monitoring import consumers, doorway, rows, serving, wire
from tests.monitoring.conftest import login_cookie, sync

pytestmark = [pytest.mark.redis]

MONITOR = "/ws/monitor"


class Talk:
    """A socket on ``/ws/monitor``: what came, by execution."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.kept: list[dict[str, Any]] = []

    async def say(self, **content: Any) -> None:
        await self.socket.say(json.dumps(content))

    async def subscribe(self, run: Any, **options: Any) -> None:
        await self.say(type="subscribe", execution_id=getattr(run, "id", run), **options)

    async def _frame(self, timeout: float) -> list[dict[str, Any]]:
        output = await self.socket.communicator.receive_output(timeout)
        if output["type"] == "websocket.close":
            self.socket.code = output["code"]
            return [{"type": "closed", "code": output["code"]}]
        assert len(output["text"].encode()) <= 65_536
        content = json.loads(output["text"])
        return content if isinstance(content, list) else [content]

    async def until(self, kind: str, run: Any = None, timeout: float = 30) -> list[dict[str, Any]]:
        """Return the messages (of ``run``, if given) up to and with the first one of type ``kind``; others are kept."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(timeout):
            while True:
                for place, message in enumerate(self.kept):
                    if run is None or message.get("execution_id") == run.id:
                        found.append(self.kept.pop(place))
                        break
                else:
                    self.kept += await self._frame(timeout)
                    continue
                if found[-1]["type"] == kind:
                    return found

    async def seqs(self, run: Any, count: int) -> list[int]:
        """Return the numbers of the next ``count`` entries of ``run``."""
        found: list[int] = []
        async with asyncio.timeout(30):
            while len(found) < count:
                mine = [m for m in self.kept if m.get("execution_id") == run.id and "seq" in m]
                if not mine:
                    self.kept += await self._frame(30)
                    continue
                self.kept.remove(mine[0])
                found.append(mine[0]["seq"])
        return found


@pytest.fixture
def talk(open_socket):
    @asynccontextmanager
    async def opened(**options: Any):
        async with open_socket(MONITOR, **options) as socket:
            yield Talk(socket)

    return opened


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


# ------------------------------------------------------------------ following


@pytest.mark.row("S1-28")
@pytest.mark.row("S1-36b")
async def test_one_socket_follows_many_executions_from_history_to_end(make_run, talk, feed):
    one, two = await sync(make_run), await sync(make_run)
    await sync(one.write, 3)
    async with talk() as told:
        assert await told.until("hello") == [{"type": "hello"}]
        await told.subscribe(one)
        await told.subscribe(two, after=0, what="logs")

        hello = (await told.until("hello", one))[0]
        assert hello == {
            "type": "hello",
            "execution_id": one.id,
            "status": "running",
            "last_seq": 3,
            "progress": {"done": 0, "total": 3, "percent": 0},
        }
        assert await told.seqs(one, 3) == [1, 2, 3]
        await sync(two.write, 2)
        await sync(one.write, 1)
        assert await told.seqs(two, 2) == [1, 2]
        assert await told.seqs(one, 1) == [4]

        await sync(one.finish)
        found = await told.until("end", one)
        assert found[-1] == {"type": "end", "execution_id": one.id, "status": "completed"}
        await sync(two.write, 1)
        assert await told.seqs(two, 1) == [3]
        assert feed.watched == {two.id: 1}
    assert feed.watched == {}


@pytest.mark.row("S1-15")
@asynccontextmanager
async def served(*said: wire.Said):
    """Yield a socket that heard all of ``said`` before it could do any of it, and what it was sent."""
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(text: str) -> None:
        await sent.put(json.loads(text))

    shared = serving.Shared((await sync(login_cookie, "alice")).partition("=")[2], send)
    for one in said:
        shared.hear(one)
    task = asyncio.create_task(shared.run())
    try:
        yield shared, sent
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_pong(sent):
    found: list[str] = []
    async with asyncio.timeout(30):
        while not found or found[-1] != "pong":
            found.append((await sent.get())["type"])
    return found


async def test_who_subscribes_twice_in_one_breath_follows_once(make_run, feed):
    run = await sync(make_run)
    async with served(wire.Subscribe(run.id), wire.Subscribe(run.id), wire.Ping()) as (shared, sent):
        await until_pong(sent)
        shared.hear(wire.Ping())
        assert (await until_pong(sent)).count("hello") == 1
        assert feed.watched == {run.id: 1}


async def test_who_subscribes_and_leaves_in_one_breath_follows_nothing(make_run, feed):
    run = await sync(make_run)
    async with served(wire.Subscribe(run.id), wire.Unsubscribe(run.id), wire.Ping()) as (shared, sent):
        assert await until_pong(sent) == ["hello", "pong"]
        shared.hear(wire.Ping())
        assert await until_pong(sent) == ["pong"]
        assert feed.watched == {}


async def test_who_takes_no_answers_may_not_go_on_asking(people, feed, monkeypatch):
    monkeypatch.setattr(doorway.Allowance, "BURST", 5)
    async with served(*[wire.Ping()] * 5) as (shared, _):
        with pytest.raises(doorway.Refused) as refused:
            shared.hear(wire.Ping())
    assert refused.value.code == 4429


async def test_a_subscription_goes_on_after_the_number_that_it_names(make_run, talk):
    run = await sync(make_run)
    await sync(run.write, 5)
    async with talk() as told:
        await told.subscribe(run, after=3)
        assert await told.seqs(run, 2) == [4, 5]
        await told.subscribe(run, after=1)
        assert await told.seqs(run, 4) == [2, 3, 4, 5]


async def test_entries_come_in_arrays_of_up_to_64_kilobytes(make_run, talk):
    run = await sync(make_run)
    await sync(run.write, 400)
    await sync(run.finish)
    async with talk() as told:
        await told.subscribe(run)
        frames: list[list[dict[str, Any]]] = []
        while not frames or frames[-1][-1]["type"] != "end":
            frames.append(await told._frame(10))

    entries = [frame for frame in frames if "seq" in frame[0]]
    assert [entry["seq"] for frame in entries for entry in frame] == list(range(1, 402))
    assert len(entries) <= 400 * 1000 // 65_536 + 2
    assert all(entry["execution_id"] == run.id for frame in entries for entry in frame)


async def test_unsubscribe_ends_one_and_leaves_the_others(make_run, talk, feed, live_redis):
    one, two = await sync(make_run), await sync(make_run)
    async with talk() as told:
        await told.subscribe(one)
        await told.subscribe(two)
        await told.until("hello", one)
        await told.until("hello", two)
        await told.say(type="unsubscribe", execution_id=one.id)
        await told.say(type="unsubscribe", execution_id=str(uuid.uuid4()))
        await told.say(type="ping")
        await told.until("pong")

        await sync(one.write, 1)
        await sync(two.write, 1)
        assert await told.seqs(two, 1) == [1]
        assert feed.watched == {two.id: 1}
        assert not [message for message in told.kept if message.get("execution_id") == one.id]


@pytest.mark.row("S1-02")
async def test_a_subscription_to_the_status_brings_changes_and_no_entries(make_run, talk):
    run = await sync(make_run, node_count=1)
    async with talk() as told:
        await told.subscribe(run, what="status")
        await told.until("hello", run)
        await sync(run.write, 5)
        await sync(run.end_node, "n1", 0)
        await sync(run.write, 1, kind="node_complete")
        update = (await told.until("status_update", run))[-1]
        assert (update["status"], update["progress"]) == ("running", {"done": 1, "total": 1, "percent": 99})
        await sync(run.finish)
        found = await told.until("end", run)

    assert kinds(found) == ["status_update", "end"]
    assert (found[0]["status"], found[0]["last_seq"]) == ("completed", 7)


async def test_an_execution_that_has_ended_is_told_and_ended(make_run, talk):
    run = await sync(make_run)
    await sync(run.finish, "failed")
    async with talk() as told:
        await told.subscribe(run)
        assert kinds(await told.until("end", run)) == ["hello", "status", "end"]
        await told.subscribe(run, what="status")
        assert kinds(await told.until("end", run)) == ["hello", "end"]


@pytest.mark.row("S1-13")
async def test_heartbeats_and_pongs(make_run, talk, monkeypatch):
    monkeypatch.setattr(serving, "HEARTBEAT_SECONDS", 0.3)
    async with talk() as told:
        assert kinds(await told.until("heartbeat")) == ["hello", "heartbeat"]
        await told.say(type="ping")
        assert (await told.until("pong"))[-1] == {"type": "pong"}


# ------------------------------------------------------------------ who may follow what


async def test_without_a_login_the_socket_is_closed_with_1008(people, talk):
    async with talk(user=None) as told:
        assert await told.until("closed") == [{"type": "closed", "code": 1008}]


async def test_the_origin_is_asked_here_too(people, open_socket):
    for origin in (None, "null", "http://evil.example"):
        async with open_socket(MONITOR, origin=origin, accepted=False):
            pass


async def test_fault_56_foreign_unknown_and_nonsensical_executions_are_refused_and_the_others_go_on(make_run, talk):
    mine, foreign = await sync(make_run, "alice"), await sync(make_run, "bob")
    async with talk() as told:
        for execution_id in (foreign.id, str(uuid.uuid4()), "nonsense"):
            await told.subscribe(execution_id)
            error = (await told.until("error"))[-1]
            assert (error["execution_id"], error["code"]) == (
                execution_id,
                1003 if execution_id == "nonsense" else 1008,
            )
        await told.subscribe(mine)
        await sync(foreign.write, 1)
        await sync(mine.write, 1)
        assert await told.seqs(mine, 1) == [1]
        assert not [message for message in told.kept if message.get("execution_id") == foreign.id]


async def test_fault_56_an_execution_that_somebody_else_has_now_is_followed_no_longer(
    make_run, talk, settings, people, feed
):
    settings.SOCKET_CHECK_SECONDS = 0.3
    given, kept = await sync(make_run), await sync(make_run)
    async with talk() as told:
        await told.subscribe(given)
        await told.subscribe(kept)
        await told.until("hello", given)
        await told.until("hello", kept)
        await sync(Execution.objects.filter(pk=given.id).update, owner=people["bob"])

        error = (await told.until("error", given))[-1]
        assert error["code"] == 4403
        await sync(given.write, 1)
        await sync(kept.write, 1)
        assert await told.seqs(kept, 1) == [1]
        assert feed.watched == {kept.id: 1}


async def test_fault_56_the_end_of_the_login_closes_the_socket(make_run, talk, settings):
    settings.SOCKET_CHECK_SECONDS = 0.3
    async with talk() as told:
        await told.until("hello")
        await sync(Session.objects.all().delete)
        assert (await told.until("closed"))[-1]["code"] == 4403


async def test_permission_for_many_executions_is_asked_together(make_run, talk, monkeypatch):
    runs = [await sync(make_run) for _ in range(30)]
    asked: list[int] = []
    look = doorway.look

    def count(key, execution_ids):
        asked.append(len(execution_ids))
        return look(key, execution_ids)

    async with talk() as told:
        await told.until("hello")
        monkeypatch.setattr(doorway, "look", count)
        for run in runs:
            await told.subscribe(run)
        for run in runs:
            await told.until("hello", run)
    assert sum(asked) == 30
    assert len(asked) < 30


# ------------------------------------------------------------------ limits and faults


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"type": "drop"}',
        '{"type": "subscribe"}',
        '{"type": "subscribe", "execution_id": 7}',
        '{"type": "subscribe", "execution_id": "x", "after": -1}',
        '{"type": "subscribe", "execution_id": "x", "after": 99999999999}',
        '{"type": "subscribe", "execution_id": "x", "what": "everything"}',
        '{"type": "overview", "on": "perhaps"}',
        '{"type": "ping", "pad": "' + "x" * consumers.MESSAGE_CHARACTERS + '"}',
    ],
)
@pytest.mark.row("S1-14")
async def test_a_message_that_cannot_be_read_closes_with_1003(people, talk, text):
    async with talk() as told:
        await told.until("hello")
        await told.socket.say(text)
        assert (await told.until("closed"))[-1]["code"] == 1003


async def test_a_socket_follows_a_bounded_number_of_executions(make_run, talk, monkeypatch):
    monkeypatch.setattr(serving, "SUBSCRIPTIONS", 2)
    runs = [await sync(make_run) for _ in range(3)]
    async with talk() as told:
        for run in runs:
            await told.subscribe(run)
        error = (await told.until("error"))[-1]
        assert (error["execution_id"], error["code"]) == (runs[2].id, 1008)
        await told.say(type="unsubscribe", execution_id=runs[0].id)
        await told.subscribe(runs[2])
        await told.until("hello", runs[2])


async def test_rows_that_cannot_be_read_end_one_subscription_and_leave_the_others(make_run, talk, monkeypatch, caplog):
    bad, good = await sync(make_run), await sync(make_run)
    load_page = rows.load_page

    def fail(execution_id, after):
        if str(execution_id) == bad.id:
            raise RuntimeError("the disk is gone")
        return load_page(execution_id, after)

    monkeypatch.setattr(rows, "load_page", fail)
    async with talk() as told:
        await told.subscribe(bad)
        await told.subscribe(good)
        assert (await told.until("error", bad))[-1]["code"] == 1011
        await sync(good.write, 1)
        assert await told.seqs(good, 1) == [1]
    assert bad.id in caplog.text


@pytest.mark.row("S1-36b")
async def test_a_hundred_sockets_leave_nothing_behind(make_run, talk, feed, live_redis):
    run, other = await sync(make_run), await sync(make_run)
    tasks: list[int] = []
    for _ in range(100):
        async with talk() as told:
            await told.subscribe(run)
            await told.subscribe(other, what="status")
            await told.until("hello", run)
        tasks.append(len(asyncio.all_tasks()))

    assert feed.watched == {}
    assert await sync(live_redis.subscribers, run.id) == 0
    assert tasks[-1] == tasks[0]


# ------------------------------------------------------------------ what is sent


def test_an_entry_that_does_not_fit_into_a_frame_is_cut_and_says_so():
    log = {
        "id": "x", "execution_id": "y", "seq": 7, "event": "log", "message": "\x01" * 70_000, "level": "info",
        "data": {"a": "b" * 100_000}, "step_name": {"odd": "x" * 100_000}, "attempt": 1,
    }  # fmt: skip

    entry = wire.entry(log)

    assert len(entry.text.encode()) == entry.size <= 65_534
    content = json.loads(entry.text)
    assert content["message"].endswith("… (70,000 characters)")
    assert (content["seq"], content["attempt"], content["data"]) == (7, 1, {"cut": True})


def test_batches_have_no_gaps_and_fit_into_frames():
    entries = [wire.Entry(seq, "x" * 1000, 1000) for seq in (*range(1, 101), *range(200, 301))]

    found = wire.batches(entries)

    assert [item for batch in found for item in batch.entries] == entries
    assert all(len(batch.text.encode()) == batch.size <= 65_536 for batch in found)
    assert all([item.seq for item in batch.entries] == list(range(batch.first, batch.last + 1)) for batch in found)
    assert len(found) == 4
    assert [item.seq for item in found[0].after(60).entries] == list(range(61, found[0].last + 1))
