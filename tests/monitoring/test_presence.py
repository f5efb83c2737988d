"""Who else follows an execution: over several web processes, without those who may not see it, and soon without those who left."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from executions.models import Execution
from monitoring import board, presence
from tests.monitoring.conftest import login_cookie, sync
from tests.monitoring.test_server import web  # noqa: F401 - a fixture
from tests.monitoring.test_shared_socket import MONITOR, Talk, kinds, talk  # noqa: F401 - a fixture

pytestmark = [pytest.mark.redis, pytest.mark.row("S1-35")]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Look more often than in real life."""
    monkeypatch.setattr(board, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.3)


async def watchers(told: Talk, run: Any) -> tuple[list[str], int]:
    """Return the others of whom the next message tells."""
    message = (await told.until("watchers", run))[-1]
    assert message.keys() == {"type", "execution_id", "names", "count"}
    return message["names"], message["count"]


async def settled() -> None:
    """Wait until whatever is to be told was told."""
    await asyncio.sleep(1)


def add_watcher(name: str) -> Any:
    """Add somebody who may see everything, by the permission."""
    user = get_user_model().objects.create_user(name, password=f"{name}-password")
    user.user_permissions.add(Permission.objects.get(codename="see_everything"))
    return user


# ------------------------------------------------------------------ one web process


async def test_two_people_see_each_other_and_not_themselves_until_one_leaves(make_run, talk):  # noqa: F811
    run, other = await sync(make_run), await sync(make_run)
    await sync(add_watcher, "oscar")
    async with talk() as alice:
        await alice.subscribe(run)
        await alice.subscribe(other)
        await settled()
        async with talk(user="oscar") as oscar:
            await oscar.subscribe(run, what="status")
            assert await watchers(alice, run) == (["oscar"], 1)
            assert await watchers(oscar, run) == (["alice"], 1)
        assert await watchers(alice, run) == ([], 0)
        assert not [message for message in alice.kept if message["type"] == "watchers"]


async def test_sockets_of_one_execution_tell_and_are_told_too(make_run, open_socket, talk):  # noqa: F811
    run = await sync(make_run)
    async with talk() as alice, open_socket(f"/ws/executions/{run.id}/status", user="root") as root:
        await alice.subscribe(run)
        assert (await root.until("watchers"))[-1] == {"type": "watchers", "names": ["alice"], "count": 1}
        assert await watchers(alice, run) == (["root"], 1)


async def test_somebody_alone_is_told_nothing_however_many_tabs_they_have(make_run, talk):  # noqa: F811
    run = await sync(make_run)
    async with talk() as first, talk() as second:
        await first.subscribe(run)
        await second.subscribe(run)
        await settled()
        await sync(run.finish)
        assert kinds(await first.until("end", run)) == ["hello", "status", "end"]
        assert kinds(await second.until("end", run)) == ["hello", "status", "end"]


async def test_somebody_with_two_tabs_counts_once_until_both_are_closed(make_run, talk):  # noqa: F811
    run = await sync(make_run)
    async with talk() as alice, talk(user="root") as first:
        await alice.subscribe(run)
        await first.subscribe(run)
        assert await watchers(alice, run) == (["root"], 1)
        async with talk(user="root") as second:
            await second.subscribe(run)
            assert await watchers(second, run) == (["alice"], 1)
        await settled()
        await first.say(type="unsubscribe", execution_id=run.id)
        assert await watchers(alice, run) == ([], 0)


async def test_of_many_twenty_are_named_by_name_and_all_are_counted(make_run, talk):  # noqa: F811
    run = await sync(make_run)
    people = [await sync(add_watcher, f"W{number:02}") for number in range(22)]
    guests = [presence_guest(person.pk) for person in people]
    async with talk() as alice:
        await alice.subscribe(run)
        await alice.until("hello", run)
        for guest in guests:
            presence.current_presence().join(run.id, guest)
        assert await watchers(alice, run) == ([f"W{number:02}" for number in range(20)], 22)
        await settled()
        assert guests[0].met.others(people[0].pk).names == ("alice", *(f"W{number:02}" for number in range(1, 20)))
        for guest in guests:
            presence.current_presence().leave(run.id, guest)
        assert await watchers(alice, run) == ([], 0)


def presence_guest(person: int) -> Any:
    class Guest:
        met: presence.Company

        def __init__(self) -> None:
            self.person = person

        def meet(self, company: presence.Company) -> None:
            self.met = company

    return Guest()


async def test_names_are_read_once_for_all_who_come_together_and_not_again_while_nobody_does(
    make_run,
    talk,  # noqa: F811
    monkeypatch,
):
    run = await sync(make_run)
    reads: list[int] = []
    permitted = presence.permitted

    def count(together):
        reads.append(len(together))
        return permitted(together)

    monkeypatch.setattr(presence, "permitted", count)
    monkeypatch.setattr(board, "PAUSE_SECONDS", 0.5)
    async with talk() as alice, talk(user="root") as root:
        await alice.subscribe(run)
        await alice.until("hello", run)
        for _ in range(20):
            await root.subscribe(run)
        assert await watchers(alice, run) == (["root"], 1)
        await sync(run.write, 50)
        assert await alice.seqs(run, 50) == list(range(1, 51))
        await settled()
    assert len(reads) <= 2


# ------------------------------------------------------------------ who may


async def test_who_may_not_see_the_execution_any_more_hears_no_names_and_is_not_named(make_run, talk, people):  # noqa: F811
    run = await sync(make_run)
    await sync(add_watcher, "oscar")
    async with talk() as alice, talk(user="root") as root, talk(user="oscar") as oscar:
        await alice.subscribe(run)
        await root.subscribe(run)
        assert await watchers(alice, run) == (["root"], 1)
        assert await watchers(root, run) == (["alice"], 1)
        # The socket itself is looked at again within a minute only.
        await sync(Execution.objects.filter(pk=run.id).update, owner=people["bob"])
        await oscar.subscribe(run)

        assert await watchers(oscar, run) == (["root"], 1)
        assert await watchers(root, run) == (["oscar"], 1)
        assert await watchers(alice, run) == ([], 0)


async def test_who_is_refused_or_lost_the_execution_is_not_shown_to_anybody(make_run, talk, people, settings):  # noqa: F811
    settings.SOCKET_CHECK_SECONDS = 0.3
    run = await sync(make_run)
    async with talk(user="root") as root, talk() as alice, talk(user="bob") as bob:
        await root.subscribe(run)
        await bob.subscribe(run)
        assert (await bob.until("error"))[-1]["code"] == 1008
        await alice.subscribe(run)
        assert await watchers(root, run) == (["alice"], 1)

        await sync(Execution.objects.filter(pk=run.id).update, owner=people["bob"])
        assert (await alice.until("error", run))[-1]["code"] == 4403
        assert await watchers(root, run) == ([], 0)


def test_permission_is_that_of_lists_and_pages(make_run, people):
    run = make_run()
    oscar = add_watcher("oscar")
    gone = add_watcher("gone")
    gone.is_active = False
    gone.save()
    everybody = [*people.values(), oscar, gone]

    company = presence.permitted({run.id: frozenset(person.pk for person in everybody)})[run.id]

    may = [person for person in everybody if Execution.objects.visible_to(person).filter(pk=run.id)]
    assert {person.username for person in may} == {"alice", "root", "oscar"}
    assert company.everybody == {person.pk for person in may}
    assert company.others(people["bob"].pk) == presence.Others()
    assert company.others(oscar.pk) == presence.Others(("alice", "root"), 2)


# ------------------------------------------------------------------ several web processes


async def test_people_at_two_web_processes_see_each_other_until_one_process_is_killed(
    make_run,
    talk,  # noqa: F811
    web,  # noqa: F811
    live_redis,
    monkeypatch,
):
    run = await sync(make_run)
    cookie = await sync(login_cookie, "root")
    async with talk() as alice, web.connect(MONITOR, cookie) as root:
        await alice.subscribe(run)
        await root.send(json.dumps({"type": "subscribe", "execution_id": run.id}))
        assert await watchers(alice, run) == (["root"], 1)
        async with asyncio.timeout(30):
            while (message := json.loads(await root.recv()))["type"] != "watchers":
                pass
        assert (message["names"], message["count"]) == (["alice"], 1)

        await sync(web.kill)
        monkeypatch.setattr(board, "FORGET_SECONDS", 2)
        assert await watchers(alice, run) == ([], 0)
    with live_redis.client() as client:
        async with asyncio.timeout(30):
            while await sync(client.exists, presence.KEY):
                await asyncio.sleep(0.05)


async def test_who_followed_at_a_process_that_stops_is_gone_at_once_and_after_an_outage_everybody_is_there(
    make_run,
    talk,  # noqa: F811
    people,
    live_redis,
    monkeypatch,
):
    monkeypatch.setattr(board, "AGAIN_SECONDS", 0.5)
    run = await sync(make_run)
    oscar, elsewhere = await sync(add_watcher, "oscar"), presence.Presence()
    async with talk() as alice:
        await alice.subscribe(run)
        elsewhere.join(run.id, presence_guest(people["root"].pk))
        assert await watchers(alice, run) == (["root"], 1)
        await sync(live_redis.kill)
        presence.current_presence().join(run.id, presence_guest(oscar.pk))
        assert await watchers(alice, run) == (["oscar", "root"], 2)

        await sync(live_redis.start)
        with live_redis.client() as client:
            async with asyncio.timeout(30):
                while await sync(client.hlen, presence.KEY) < 2:
                    await asyncio.sleep(0.05)
        await elsewhere.close()
        # Between the start of Redis and the word of the other process nobody may have been there.
        while await watchers(alice, run) != (["oscar"], 1):
            pass
