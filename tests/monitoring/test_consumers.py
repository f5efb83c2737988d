"""The sockets: every row once and in order, who may watch, and how a socket ends."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.db import InterfaceError, OperationalError

from executions.events import group_name
from executions.models import Execution
from monitoring import consumers, doorway, rows, serving
from tests.monitoring.conftest import HOST, ORIGIN, login_cookie, sync, websocket_scope

pytestmark = [pytest.mark.redis]

NOBODY = "00000000-0000-4000-8000-000000000000"


def logs(run, after: int | None = None) -> str:
    return f"/ws/executions/{run.id}/logs" + ("" if after is None else f"?after={after}")


# ------------------------------------------------------------------ rows and pushes


@pytest.mark.row("S1-01")
async def test_history_comes_first_then_what_happens_live(make_run, open_socket):
    run = await sync(make_run)
    await sync(run.write, 5)

    async with open_socket(logs(run)) as socket:
        hello = await socket.next()
        assert (hello["type"], hello["status"], hello["last_seq"]) == ("hello", "running", 5)
        assert await socket.seqs(5) == [1, 2, 3, 4, 5]

        await sync(run.write, 3)
        assert await socket.seqs(3) == [6, 7, 8]


@pytest.mark.row("S1-15")
async def test_after_names_the_last_event_that_the_client_has(make_run, open_socket):
    run = await sync(make_run)
    await sync(run.write, 5)

    async with open_socket(logs(run, after=3)) as socket:
        await socket.until("hello")
        assert await socket.seqs(2) == [4, 5]


@pytest.mark.row("S1-15")
async def test_events_written_while_history_is_read_come_once_and_in_order(make_run, open_socket, monkeypatch):
    run = await sync(make_run)
    monkeypatch.setattr(rows, "PAGE_ROWS", 7)
    await sync(run.write, 100)
    stop = threading.Event()

    def write() -> int:
        count = 100
        while not stop.is_set() and count < 400:
            count = run.write(3)[-1]
        run.finish()
        return count + 1

    writer = asyncio.create_task(sync(write))
    async with open_socket(logs(run)) as socket:
        found = await socket.until("end", timeout=60)
    stop.set()
    last = await writer

    assert [message["seq"] for message in found if "seq" in message] == list(range(1, last + 1))


async def test_history_goes_on_after_a_page_that_ends_because_its_values_are_large(make_run, open_socket, monkeypatch):
    monkeypatch.setattr(rows, "PAGE_BYTES", 0)
    run = await sync(make_run)
    await sync(run.write, 5)

    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        assert await socket.seqs(5) == [1, 2, 3, 4, 5]


async def test_a_push_that_skips_numbers_makes_the_rows_be_read(make_run, open_socket, feed):
    feed.check_seconds = 60  # so that nothing but the push can bring them
    run = await sync(make_run)
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        await sync(run.write, 4, push=False)

        await sync(run.write, 1)

        assert await socket.seqs(5) == [1, 2, 3, 4, 5]


async def test_a_lost_push_delays_a_row_and_does_not_lose_it(make_run, open_socket):
    run = await sync(make_run)
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")

        await sync(run.write, 4, push=False)

        assert await socket.seqs(4) == [1, 2, 3, 4]


async def test_pushes_in_the_wrong_order_and_twice_are_sent_in_order_and_once(make_run, open_socket, feed):
    feed.check_seconds = 60  # so that nothing but the push can bring them
    run = await sync(make_run)
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        await sync(run.write, 4, push=False)

        await sync(run.push, 2, 2)
        await sync(run.push, 0, 2)
        await sync(run.push, 0, 4)
        await sync(run.write, 1)

        assert await socket.seqs(5) == [1, 2, 3, 4, 5]
        assert await socket.quiet(0.3)


async def test_rows_arrive_while_redis_is_down(make_run, open_socket, live_redis):
    run = await sync(make_run)
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        await sync(live_redis.kill)

        await sync(run.write, 3, push=False)

        assert await socket.seqs(3) == [1, 2, 3]


# ------------------------------------------------------------------ frames


@pytest.mark.row("S1-06")
@pytest.mark.row("S1-07")
async def test_every_entry_has_the_fields_of_an_execution_log_live_and_from_history(make_run, open_socket):
    run = await sync(make_run)
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        await sync(run.write, 1)
        live = await socket.next()
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        history = await socket.next()

    assert live == history
    assert live["type"] == "log"
    assert (live["execution_id"], live["seq"], live["step_name"]) == (run.id, 1, "Read products")
    assert live["level"] in ("debug", "info", "warning", "error")
    assert isinstance(live["seq"], int)
    assert isinstance(live["duration_ms"], int)
    assert {"id", "step_type", "input_data", "output_data", "timestamp", "error_message", "message"} <= set(live)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("node_start", "node"),
        ("node_retry", "node"),
        ("workflow_start", "status"),
        ("phase_complete", "status"),
        ("cancel_requested", "status"),
        ("recovered", "status"),
        ("state_snapshot", "status"),
        ("log", "log"),
        ("artifact", "log"),
    ],
)
async def test_the_type_of_an_entry_says_what_it_is_about(make_run, open_socket, event, kind):
    run = await sync(make_run)
    await sync(run.write, 1, kind=event)

    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        message = await socket.next()

    assert (message["type"], message["event"]) == (kind, event)


async def test_hello_counts_the_node_runs_that_have_ended(make_run, open_socket):
    run = await sync(make_run, node_count=3)
    await sync(run.end_node, "a", 0)
    await sync(run.end_node, "b", 1, status="skipped")
    await sync(run.end_node, "c", 2, status="running")

    async with open_socket(logs(run)) as socket:
        assert (await socket.next())["progress"] == {"done": 2, "total": 3, "percent": 66}


@pytest.mark.row("S1-13")
async def test_heartbeat_and_pong_are_messages_without_a_number(make_run, open_socket, monkeypatch):
    monkeypatch.setattr(serving, "HEARTBEAT_SECONDS", 0.3)
    run = await sync(make_run)
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")

        assert await socket.next() == {"type": "heartbeat"}
        assert await socket.next() == {"type": "heartbeat"}
        await socket.say("ping")
        assert {"type": "pong"} in await socket.until("pong")


@pytest.mark.parametrize("path", ["/ws/monitor", "logs"])
async def test_a_client_that_never_stops_talking_is_closed_with_4429(make_run, open_socket, monkeypatch, path):
    monkeypatch.setattr(doorway.Allowance, "PER_SECOND", 0)
    monkeypatch.setattr(doorway.Allowance, "BURST", 20)
    run = await sync(make_run)
    async with open_socket(logs(run) if path == "logs" else path) as socket:
        await socket.until("hello")
        for _ in range(21):
            await socket.say("ping")
        found = await socket.until("closed")
    assert socket.code == 4429
    assert len([message for message in found if message["type"] == "pong"]) <= 20


def test_who_was_silent_for_long_may_not_say_more_at_once_for_it(monkeypatch):
    monkeypatch.setattr(doorway.Allowance, "PER_SECOND", 0.01)
    monkeypatch.setattr(doorway.Allowance, "BURST", 20)
    allowance = doorway.Allowance()
    allowance._at -= 36_000
    for _ in range(20):
        allowance.take()
    with pytest.raises(doorway.Refused):
        allowance.take()


def test_the_heartbeat_is_every_thirty_seconds_and_permission_every_minute(settings):
    assert (serving.HEARTBEAT_SECONDS, settings.SOCKET_CHECK_SECONDS) == (30, 60)


# ------------------------------------------------------------------ the end


@pytest.mark.row("S1-11")
async def test_a_finished_execution_sends_its_rows_then_end_then_closes_with_1000(make_run, open_socket):
    run = await sync(make_run)
    await sync(run.write, 2)
    await sync(run.finish)

    async with open_socket(logs(run)) as socket:
        kinds = [message["type"] for message in await socket.until("closed")]

    assert kinds == ["hello", "log", "log", "status", "end", "closed"]
    assert socket.code == 1000


@pytest.mark.parametrize("push", [True, False])
async def test_an_execution_that_ends_while_watched_ends_the_socket(make_run, open_socket, push):
    run = await sync(make_run)
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        await sync(run.write, 2)
        await sync(run.finish, "failed", push=push)

        found = await socket.until("closed")

    assert [message["seq"] for message in found if "seq" in message] == [1, 2, 3]
    assert found[-2] == {"type": "end", "status": "failed"}
    assert socket.code == 1000


async def test_the_last_push_may_overtake_earlier_ones(make_run, open_socket):
    run = await sync(make_run)
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        await sync(run.write, 3, push=False)
        await sync(run.finish)
        found = await socket.until("closed")

    assert [message["seq"] for message in found if "seq" in message] == [1, 2, 3, 4]


async def test_nothing_of_a_socket_is_left_after_it_was_closed(make_run, open_socket, feed, live_redis):
    run = await sync(make_run)
    for _ in range(5):
        async with open_socket(logs(run)) as socket:
            await socket.until("hello")

    assert feed.watched == {}
    assert await sync(live_redis.subscribers, run.id) == 0


# ------------------------------------------------------------------ slow readers


async def test_a_slow_reader_gets_resync_and_every_row_and_holds_up_nobody(make_run, open_socket, feed):
    from flowbuilder.asgi import application

    feed.queue_bytes = 10_000
    run = await sync(make_run)
    gate = asyncio.Event()
    received: list[dict[str, Any]] = []
    inbox: asyncio.Queue[dict] = asyncio.Queue()

    async def send(message: dict) -> None:
        if received:
            await gate.wait()  # a client that does not read: the server's send() does not return
        received.append(message)

    headers = [
        (b"host", HOST.encode()),
        (b"origin", ORIGIN.encode()),
        (b"cookie", (await sync(login_cookie, "alice")).encode()),
    ]
    slow = asyncio.create_task(application(websocket_scope(logs(run), headers), inbox.get, send))
    await inbox.put({"type": "websocket.connect"})
    async with open_socket(logs(run)) as fast:
        await fast.until("hello")
        while feed.watched.get(run.id) != 2:
            await asyncio.sleep(0.02)
        for _ in range(10):
            await sync(run.write, 10)
            await fast.seqs(10)

        gate.set()
        await sync(run.finish)
        await fast.until("end")
    async with asyncio.timeout(30):
        while received[-1]["type"] != "websocket.close":
            await asyncio.sleep(0.02)
    await inbox.put({"type": "websocket.disconnect", "code": 1000})
    await slow

    messages = [json.loads(message["text"]) for message in received if message["type"] == "websocket.send"]
    assert {"type": "resync"} in messages
    assert [message["seq"] for message in messages if "seq" in message] == list(range(1, 102))


# ------------------------------------------------------------------ who may watch


@pytest.mark.row("S1-14")
@pytest.mark.parametrize("path", ["not-a-uuid/logs", "123/status", f"{NOBODY}/logs?after=-1", f"{NOBODY}/logs?after=x"])
async def test_a_bad_address_is_closed_with_1003(people, open_socket, path):
    async with open_socket(f"/ws/executions/{path}") as socket:
        await socket.until("closed")
    assert socket.code == 1003


@pytest.mark.row("S1-14")
async def test_an_unknown_execution_is_closed_with_1008(people, open_socket):
    async with open_socket(f"/ws/executions/{uuid.uuid4()}/logs") as socket:
        assert [message["type"] for message in await socket.until("closed")] == ["closed"]
    assert socket.code == 1008


@pytest.mark.row("S1-14")
@pytest.mark.parametrize("user", ["bob", None])
@pytest.mark.parametrize("kind", ["logs", "status"])
async def test_nobody_but_the_owner_may_watch(make_run, open_socket, user, kind):
    run = await sync(make_run, "alice")
    await sync(run.write, 1)
    async with open_socket(f"/ws/executions/{run.id}/{kind}", user=user) as socket:
        assert [message["type"] for message in await socket.until("closed")] == ["closed"]
    assert socket.code == 1008


async def test_a_superuser_may_watch_everything(make_run, open_socket):
    run = await sync(make_run, "alice")
    async with open_socket(logs(run), user="root") as socket:
        assert (await socket.next())["type"] == "hello"


@pytest.mark.row("S1-14")
async def test_a_fault_of_ours_is_closed_with_1011(make_run, open_socket, monkeypatch, caplog):
    run = await sync(make_run)

    def fail(*args: object) -> None:
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(rows, "load_page", fail)
    async with open_socket(logs(run)) as socket:
        await socket.until("closed")

    assert socket.code == 1011
    assert run.id in caplog.text


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
async def test_a_read_that_the_database_failed_for_an_instant_is_tried_again(make_run, open_socket, monkeypatch, error):
    run = await sync(make_run)
    await sync(run.write, 3)
    load_page, calls = rows.load_page, []

    def fail_twice(*args: Any) -> Any:
        calls.append(args)
        if len(calls) <= 2:
            raise error("the database system is starting up")
        return load_page(*args)

    monkeypatch.setattr(rows, "load_page", fail_twice)
    monkeypatch.setattr(rows, "READ_AGAIN_SECONDS", (0.01, 0.01))
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        assert await socket.seqs(3) == [1, 2, 3]
        await sync(run.write, 1)
        assert await socket.seqs(1) == [4]


async def test_a_database_that_stays_away_ends_the_socket_with_1011(make_run, open_socket, monkeypatch):
    run = await sync(make_run)

    def fail(*args: object) -> None:
        raise OperationalError("the database system is shutting down")

    monkeypatch.setattr(rows, "load_page", fail)
    monkeypatch.setattr(rows, "READ_AGAIN_SECONDS", (0.01, 0.01))
    async with open_socket(logs(run)) as socket:
        await socket.until("closed")

    assert socket.code == 1011


async def _open_then(open_socket, run, change) -> Any:
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        await sync(change)
        await socket.until("closed")
        return socket.code


async def test_fault_56_logging_out_closes_an_open_socket(make_run, open_socket, settings):
    settings.SOCKET_CHECK_SECONDS = 0.3
    run = await sync(make_run)
    assert await _open_then(open_socket, run, lambda: Session.objects.all().delete()) == 4403


async def test_fault_56_a_socket_is_looked_at_again_and_again(make_run, open_socket, settings, monkeypatch):
    settings.SOCKET_CHECK_SECONDS = 0.1
    looks: list[Any] = []
    look = doorway.look

    def noted(*arguments: Any) -> Any:
        looks.append(arguments)
        return look(*arguments)

    monkeypatch.setattr(doorway, "look", noted)
    run = await sync(make_run)
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        async with asyncio.timeout(30):
            while len(looks) < 4:
                await asyncio.sleep(0.05)
        await sync(Session.objects.all().delete)
        await socket.until("closed")
    assert socket.code == 4403


async def test_fault_56_locking_a_user_out_closes_an_open_socket(make_run, open_socket, settings):
    settings.SOCKET_CHECK_SECONDS = 0.3
    run = await sync(make_run)
    assert await _open_then(open_socket, run, lambda: get_user_model().objects.update(is_active=False)) == 4403


async def test_fault_56_a_new_password_closes_sockets_of_older_logins(make_run, open_socket, settings):
    settings.SOCKET_CHECK_SECONDS = 0.3
    run = await sync(make_run)

    def change() -> None:
        alice = get_user_model().objects.get(username="alice")
        alice.set_password("another-password")
        alice.save()

    assert await _open_then(open_socket, run, change) == 4403


async def test_fault_56_giving_the_execution_to_somebody_else_closes_the_socket(
    make_run, open_socket, settings, people
):
    settings.SOCKET_CHECK_SECONDS = 0.3
    run = await sync(make_run)
    assert await _open_then(open_socket, run, lambda: Execution.objects.update(owner=people["bob"])) == 4403


@pytest.mark.parametrize("kind", ["logs", "status"])
async def test_fault_56_taking_the_permission_to_see_everything_away_closes_the_socket(
    make_run, open_socket, settings, people, kind
):
    settings.SOCKET_CHECK_SECONDS = 0.3
    run = await sync(make_run, "alice")
    see = await sync(Permission.objects.get, codename="see_everything")
    await sync(people["bob"].user_permissions.add, see)

    async with open_socket(f"/ws/executions/{run.id}/{kind}", user="bob") as socket:
        await socket.until("hello")
        await sync(people["bob"].user_permissions.clear)
        await socket.until("closed")
    assert socket.code == 4403


async def test_fault_56_the_permission_to_change_everything_alone_shows_nothing(make_run, open_socket, people):
    run = await sync(make_run, "alice")
    change = await sync(Permission.objects.get, codename="change_everything")
    await sync(people["bob"].user_permissions.add, change)

    async with open_socket(logs(run), user="bob") as socket:
        assert [message["type"] for message in await socket.until("closed")] == ["closed"]
    assert socket.code == 1008


def test_fault_56_every_socket_has_a_rule_and_the_login_that_it_names():
    from flowbuilder import policy

    found = {str(pattern.pattern): pattern.callback for pattern in consumers.websocket_urlpatterns}

    assert found.keys() == policy.SOCKETS.keys()
    for pattern, serve in found.items():
        consumer = getattr(serve, "consumer_class", None)
        checked = isinstance(consumer, type) and issubclass(consumer, consumers.WatchingConsumer)
        assert checked is (policy.SOCKETS[pattern] == policy.PERSON), pattern
        assert checked or serve is doorway.refuse, pattern


# ------------------------------------------------------------------ origins


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "http://evil.example",
        "http://127.0.0.1:9999",
        "http://127.0.0.1",
        "https://127.0.0.1:8123",
        "http://127.0.0.1:8123.evil.example",
        "http://evil.example@127.0.0.1:8123",
        "http://127.0.0.1:8123/path",
        "http://localhost:8123",
        "http://127.0.0.1:notaport",
        "file://127.0.0.1:8123",
    ],
)
async def test_another_origin_is_declined_in_the_handshake(make_run, open_socket, origin):
    run = await sync(make_run)
    async with open_socket(logs(run), origin=origin, accepted=False):
        pass


async def handshake(headers: list[tuple[bytes, bytes]], scheme: str = "ws") -> bool:
    """Return whether an application behind the middleware gets to see the handshake."""
    seen = []

    async def application(scope, receive, send):
        seen.append(scope)

    scope = {**websocket_scope("/ws", headers), "scheme": scheme}
    communicator = ApplicationCommunicator(doorway.OriginMiddleware(application), scope)
    await communicator.wait(30)
    return bool(seen)


async def test_fault_73_who_has_as_many_sockets_open_as_they_may_gets_4429_until_one_closes(
    make_run, open_socket, settings
):
    settings.USER_SOCKETS = 2
    run = await sync(make_run)
    async with open_socket(logs(run)) as first:
        async with open_socket(logs(run)):
            for path in (logs(run), "/ws/monitor"):
                async with open_socket(path) as extra:
                    assert [message["type"] for message in await extra.until("closed")] == ["closed"]
                assert extra.code == 4429
            async with open_socket("/ws/monitor", user="bob") as other:
                await other.until("hello")
        async with open_socket(logs(run)) as third:
            await third.until("hello")
        await first.until("hello")


async def test_fault_73_an_address_that_opens_sockets_too_often_is_declined_before_its_session_is_looked_up(
    make_run, open_socket, settings, live_redis, monkeypatch
):
    settings.API_RATE = "3/h"
    run = await sync(make_run)
    for _ in range(3):
        async with open_socket(logs(run)) as socket:
            await socket.until("hello")

    looked_up: list[Any] = []
    monkeypatch.setattr("channels.auth.get_user", looked_up.append)
    async with open_socket(logs(run), accepted=False):
        assert looked_up == []


async def test_default_ports_and_letter_case_do_not_matter(settings):
    settings.ALLOWED_HOSTS = ["flow.example"]
    assert await handshake([(b"host", b"flow.example"), (b"origin", b"http://flow.example:80")])
    assert await handshake([(b"host", b"Flow.Example:443"), (b"origin", b"https://flow.example")], scheme="wss")
    assert not await handshake([(b"host", b"flow.example"), (b"origin", b"https://flow.example")])


async def test_a_host_that_is_not_ours_is_declined_even_when_the_origin_says_the_same(settings):
    settings.ALLOWED_HOSTS = ["flow.example"]
    assert not await handshake([(b"host", b"rebound.example"), (b"origin", b"http://rebound.example")])


async def test_two_origins_are_declined():
    host = (b"host", HOST.encode())
    assert not await handshake([host, (b"origin", ORIGIN.encode()), (b"origin", b"http://evil.example")])
    assert not await handshake([(b"origin", ORIGIN.encode())])


async def test_an_origin_that_the_operator_trusts_is_let_in(settings):
    settings.CSRF_TRUSTED_ORIGINS = ["https://flow.example"]
    assert await handshake([(b"host", b"127.0.0.1:8000"), (b"origin", b"https://flow.example")])


@pytest.mark.parametrize("path", ["/ws/nothing", "/ws/executions/", "/", f"/ws/executions/{NOBODY}/logs/"])
async def test_an_unknown_path_is_declined(people, open_socket, path):
    async with open_socket(path, accepted=False):
        pass


# ------------------------------------------------------------------ status only


@pytest.mark.row("S1-02")
async def test_the_status_socket_sends_changes_of_status_and_progress_and_nothing_else(make_run, open_socket):
    run = await sync(make_run, node_count=1)
    async with open_socket(f"/ws/executions/{run.id}/status") as socket:
        hello = await socket.next()
        assert (hello["status"], hello["progress"]) == ("running", {"done": 0, "total": 1, "percent": 0})

        await sync(run.write, 5)
        await sync(run.end_node, "n1", 0)
        await sync(run.write, 1, kind="node_complete")
        update = (await socket.until("status_update"))[-1]
        assert (update["status"], update["progress"]) == ("running", {"done": 1, "total": 1, "percent": 99})

        await sync(run.finish)
        found = await socket.until("closed")

    assert [message["type"] for message in found] == ["status_update", "end", "closed"]
    assert (found[0]["status"], found[0]["last_seq"]) == ("completed", 7)
    assert socket.code == 1000


async def test_a_push_for_nobody_does_no_harm(make_run, open_socket, feed):
    run, other = await sync(make_run), await sync(make_run)
    async with open_socket(logs(run)) as socket:
        await socket.until("hello")
        await get_channel_layer().group_send(group_name(run.id), {"type": "execution.events", "execution_id": other.id})
        await get_channel_layer().group_send(group_name(run.id), {"type": "execution.events", "execution_id": run.id})

        await sync(run.write, 1)

        assert await socket.seqs(1) == [1]
