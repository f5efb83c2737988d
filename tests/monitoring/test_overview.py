"""All executions over one socket: in full at first, then every change, and only of what somebody may see."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission
from django.utils import timezone

from executions.models import Execution, NodeRun
from monitoring import overview
from monitoring.feed import Room
from monitoring.overview import current_overview
from tests.conftest import graph, node
from tests.monitoring.conftest import sync
from workflows.models import Workflow

pytestmark = [pytest.mark.redis]


class Page:
    """What a page would show: the executions by id, as the messages so far say."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.shown: dict[str, dict[str, Any]] = {}
        self.statuses: dict[str, list[str]] = {}
        self.messages: list[dict[str, Any]] = []

    async def say(self, **content: Any) -> None:
        await self.socket.say(json.dumps(content))

    async def take(self, timeout: float = 30) -> dict[str, Any]:
        """Take the next message of the overview."""
        while True:
            message: dict[str, Any] = await self.socket.next(timeout)
            assert message["type"] != "closed", message
            if message["type"] == "overview":
                break
        self.messages.append(message)
        if message["full"]:
            self.shown.clear()
        for execution in message["executions"]:
            self.shown[execution["id"]] = execution
            self.statuses.setdefault(execution["id"], []).append(execution["status"])
        for execution_id in message["removed"]:
            del self.shown[execution_id]
        return message

    async def until(self, condition: Any) -> None:
        """Take messages until ``condition`` holds."""
        async with asyncio.timeout(30):
            while not condition():
                await self.take(30)


@pytest.fixture
async def look(open_socket, monkeypatch):
    monkeypatch.setattr(overview, "LOOK_SECONDS", 0.1)

    @asynccontextmanager
    async def opened(**options: Any):
        async with open_socket("/ws/monitor", **options) as socket:
            page = Page(socket)
            await page.say(type="overview", on=True)
            yield page

    yield opened
    assert current_overview().viewers == 0


@pytest.mark.row("S1-28")
async def test_everything_is_told_at_once_and_then_what_changes(make_run, look):
    old, run = await sync(make_run), await sync(make_run)
    await sync(old.finish)
    async with look() as page:
        first = await page.take()
        assert first["full"]
        assert {(item["id"], item["status"]) for item in first["executions"]} == {
            (old.id, "completed"),
            (run.id, "running"),
        }
        assert first["executions"][0]["id"] == run.id  # the newest first
        assert {"progress", "workflow_name", "duration_ms", "waiting"} <= first["executions"][0].keys()

        await sync(run.write, 3)
        await page.until(lambda: page.shown[run.id]["last_seq"] == 3)
        await sync(run.finish, "failed")
        await page.until(lambda: page.shown[run.id]["status"] == "failed")
        newer = await sync(make_run)
        await page.until(lambda: newer.id in page.shown)

    assert not any(message["full"] for message in page.messages[1:])
    assert page.statuses[old.id] == ["completed"]


async def test_what_began_and_ended_between_two_looks_is_told(make_run, look, monkeypatch):
    monkeypatch.setattr(overview, "ENDED_SHOWN", 2)
    async with look() as page:
        await page.take()
        runs = [await sync(make_run) for _ in range(5)]
        for run in runs:
            await sync(run.finish)
        await page.until(lambda: all("completed" in page.statuses.get(run.id, ()) for run in runs))
        await page.until(lambda: len(page.shown) == 2)

    assert page.shown.keys() == {run.id for run in runs[-2:]}


async def test_an_old_execution_that_ends_among_many_newer_ones_is_told(make_run, look, monkeypatch):
    monkeypatch.setattr(overview, "NEWEST", 3)
    old = await sync(make_run)
    async with look() as page:
        for _ in range(5):
            await sync((await sync(make_run)).finish)
        await page.until(lambda: len(page.shown) >= 4)
        await sync(old.finish, "cancelled")
        await page.until(lambda: "cancelled" in page.statuses[old.id])


async def test_an_execution_that_was_removed_goes(make_run, look):
    run = await sync(make_run)
    async with look() as page:
        await page.until(lambda: run.id in page.shown)
        await sync(lambda: Execution.objects.all().delete())
        await page.until(lambda: run.id not in page.shown)


async def test_fault_56_people_see_their_own_and_superusers_everything(make_run, look):
    mine, foreign = await sync(make_run, "alice"), await sync(make_run, "bob")
    async with look(user="alice") as alice, look(user="root") as root:
        await alice.take()
        await root.take()
        await sync(foreign.write, 1)
        await root.until(lambda: root.shown[foreign.id]["last_seq"] == 1)
        await sync(mine.write, 1)
        await alice.until(lambda: alice.shown[mine.id]["last_seq"] == 1)

        assert alice.shown.keys() == {mine.id}
        assert root.shown.keys() == {mine.id, foreign.id}


async def test_fault_56_who_may_not_see_everything_any_more_is_shown_their_own(make_run, look, people, settings):
    settings.SOCKET_CHECK_SECONDS = 0.3
    foreign = await sync(make_run, "alice")
    mine = await sync(make_run, "bob")
    see = await sync(Permission.objects.get, codename="see_everything")
    await sync(people["bob"].user_permissions.add, see)
    async with look(user="bob") as page:
        await page.until(lambda: page.shown.keys() == {mine.id, foreign.id})
        await sync(people["bob"].user_permissions.clear)
        await page.until(lambda: page.shown.keys() == {mine.id})
        assert page.messages[-1]["full"]


async def test_two_who_may_see_the_same_are_one_look(make_run, look, monkeypatch):
    run = await sync(make_run)
    looks: list[Any] = []
    find = overview.find

    def count(*args: Any) -> Any:
        looks.append(args[0])
        return find(*args)

    monkeypatch.setattr(overview, "find", count)
    monkeypatch.setattr(overview, "LOOK_SECONDS", 3600)
    async with look(user="alice") as one, look(user="alice") as two:
        await one.take()
        await two.take()
        assert one.shown == two.shown
        assert one.shown.keys() == {run.id}
        assert len(looks) == 1


async def test_off_means_off_and_nobody_looks_when_nobody_watches(make_run, look):
    run = await sync(make_run)
    async with look() as page:
        await page.take()
        await page.say(type="overview", on=False)
        await page.say(type="ping")
        await page.socket.until("pong")
        await sync(run.write, 1)
        assert await page.socket.quiet(0.5)
        assert current_overview().viewers == 0
        await page.say(type="overview", on=True)
        assert (await page.take())["full"]
    async with asyncio.timeout(30):
        while any("Overview._look" in repr(task) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.02)


async def test_an_overview_goes_on_after_a_look_that_failed(make_run, look, monkeypatch, caplog):
    run = await sync(make_run)
    find = overview.find
    failed: list[bool] = []

    def fail_once(*args: Any) -> Any:
        if not failed:
            failed.append(True)
            raise RuntimeError("the disk is gone")
        return find(*args)

    monkeypatch.setattr(overview, "find", fail_once)
    async with look() as page:
        await page.until(lambda: run.id in page.shown)
    assert "the disk is gone" in caplog.text


async def test_the_numbers_above_come_with_it(make_run, look):
    await sync(make_run)
    async with look() as page:
        first = await page.take()
    assert first["tiles"]["running"] == 1
    assert "throughput_per_minute" in first["tiles"]


@pytest.mark.postgres
def test_a_look_costs_the_same_number_of_queries_however_many_executions_there_are(
    make_run, people, django_assert_max_num_queries
):
    shown = [make_run(), make_run()]
    first = overview.find(people["alice"], {}, None)
    for number in range(30):
        make_run().finish("failed" if number % 2 else "completed", push=False)
    shown[0].finish(push=False)

    with django_assert_max_num_queries(24):
        found = overview.find(people["alice"], {UUID(item["id"]): mark for item, mark in first.changed}, first.newest)

    assert len(found.changed) == 31
    assert found.removed == []


@pytest.mark.row("S1-26")
def test_progress_is_told_while_one_long_step_writes_nothing(people):
    workflow = Workflow.objects.create(owner=people["alice"], name="long")
    workflow.version = workflow.save_version(graph([node("only", "delay", Duration=1)]), author=people["alice"])
    now = timezone.now()
    fields = {
        "workflow": workflow,
        "version": workflow.version,
        "owner": workflow.owner,
        "trigger": "api",
        "node_count": 1,
    }
    run = {"phase_index": 0, "node_index": 0, "node_id": "only", "node_type": "delay"}
    before = Execution.objects.create(**fields, status="completed", queued_at=now, finished_at=now)
    took = timedelta(seconds=100_000)
    NodeRun.objects.create(execution=before, **run, status="completed", started_at=now - took, finished_at=now)
    running = Execution.objects.create(**fields, status="running", queued_at=now)
    step = NodeRun.objects.create(execution=running, **run, status="running", started_at=now)

    def look(marks: dict[UUID, overview.Mark]) -> tuple[dict[UUID, overview.Mark], dict[str, int]]:
        found = overview.find(people["alice"], marks, None)
        told = {UUID(item["id"]): mark for item, mark in found.changed}
        return marks | told, {item["id"]: item["progress"]["percent"] for item, _mark in found.changed}

    marks, told = look({})
    assert told == {str(running.pk): 0, str(before.pk): 100}
    marks, told = look(marks)
    assert told == {}, "nothing changed"
    NodeRun.objects.filter(pk=step.pk).update(started_at=now - took * 0.305)
    marks, told = look(marks)
    assert told == {str(running.pk): 30}
    assert look(marks)[1] == {}


def scene_of(count: int) -> overview.Scene:
    scene = overview.Scene(None)
    for number in range(count):
        summary = {"id": str(number), "error": "x" * 20_000, "waiting": []}
        scene._shown[UUID(int=number)] = overview._encoded(summary)
    return scene


def test_no_message_is_longer_than_a_frame_and_only_the_first_is_full():
    texts = scene_of(300).whole()

    messages = [json.loads(text) for text, _size in texts]
    assert all(len(text.encode()) == size <= 65_536 for text, size in texts)
    assert [message["full"] for message in messages] == [True] + [False] * (len(messages) - 1)
    assert [item["id"] for message in messages for item in message["executions"]] == [str(n) for n in range(300)]


def test_a_viewer_that_does_not_read_gets_the_whole_again_and_holds_a_bounded_amount():
    scene, room = scene_of(1), Room(1000)
    viewer = overview.Viewer(room, lambda: None)
    viewer.offer(scene, ())
    assert viewer.next() == scene.whole()[0][0]
    for number in range(100):
        viewer.offer(scene, [(f"change {number}", 300)])
        assert room.held <= 1000

    assert viewer.next() is None
    viewer.offer(scene, ())
    assert viewer.next() == scene.whole()[0][0]
    assert room.held == 0
