"""The sockets through a real web server, with a real client: handshakes, crashes, many readers."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from executions.triggers import start_execution
from flowbuilder.stack import free_port
from tests.conftest import graph, node, test_environment, wire
from tests.environment import ROOT
from tests.monitoring.conftest import RedisServer, login_cookie, sync

pytestmark = [pytest.mark.redis]


class WebServer:
    """uvicorn with the product, which a test may kill and start again on the same port."""

    def __init__(self, redis_url: str, log: Path) -> None:
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.origin = f"http://{self.host}"
        self.log = log
        self.redis_url = redis_url
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "flowbuilder.asgi:application", "--port", str(self.port)],
                env={**test_environment(), "REDIS_URL": self.redis_url, "FLOWBUILDER_LOG_LEVEL": "INFO"},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                httpx.get(f"{self.origin}/", timeout=5)
                return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"the web server did not start:\n{self.log.read_text()}")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it with a signal and wait."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(20)

    def connect(self, path: str, cookie: str | None, origin: str | None = "") -> connect:
        """Return a connection of the websockets library; ``origin`` is the server's own unless given."""
        return connect(
            f"ws://{self.host}{path}",
            origin=self.origin if origin == "" else origin,  # type: ignore[arg-type]
            additional_headers={"Cookie": cookie} if cookie else {},
            proxy=None,
            max_queue=None,
        )


@pytest.fixture
def web(make_run: Callable[..., Any], live_redis: RedisServer, tmp_path: Path) -> Iterator[WebServer]:
    server = WebServer(live_redis.url, tmp_path / "web.log")
    server.start()
    yield server
    if server.process is not None and server.process.poll() is None:
        server.kill(signal.SIGTERM)


async def read_until_end(socket: ClientConnection) -> list[dict[str, Any]]:
    """Return all messages up to ``end``."""
    found: list[dict[str, Any]] = []
    async for text in socket:
        found.append(json.loads(text))
        if found[-1]["type"] == "end":
            break
    return found


async def test_handshakes_through_the_real_server(make_run, web):
    run = await sync(make_run)
    await sync(run.write, 2)
    await sync(run.finish)
    cookie = await sync(login_cookie, "alice")
    path = f"/ws/executions/{run.id}/logs"

    async with web.connect(path, cookie) as socket:
        found = await read_until_end(socket)
        await socket.wait_closed()
    assert [message["type"] for message in found] == ["hello", "log", "log", "status", "end"]
    assert socket.close_code == 1000

    for origin in ("http://evil.example", "null", None, f"http://127.0.0.1:{web.port + 1}"):
        with pytest.raises(InvalidStatus) as refusal:
            async with web.connect(path, cookie, origin):
                pass
        assert refusal.value.response.status_code == 403

    for address, code in (("/ws/executions/nonsense/logs", 1003), (path, 1008)):
        async with web.connect(address, None) as socket:
            await socket.wait_closed()
        assert socket.close_code == code

    with pytest.raises(InvalidStatus) as refusal:
        async with web.connect("/ws/elsewhere", cookie):
            pass
    assert refusal.value.response.status_code == 403

    await sync(web.kill, signal.SIGTERM)
    log = web.log.read_text()
    assert "Traceback" not in log
    assert "lifespan" not in log
    assert "Application shutdown complete" in log


@pytest.mark.row("S1-09")
@pytest.mark.row("S1-15")
async def test_a_hundred_broken_sockets_and_a_killed_server_during_ten_thousand_logs_lose_nothing(make_run, web):
    run = await sync(make_run)
    cookie = await sync(login_cookie, "alice")
    total, breaks = 10_000, 0
    seen: list[int] = []
    dice = random.Random(7)

    def write() -> None:
        for _ in range(total // 50 - 1):
            run.write(50)
            time.sleep(0.01)
        run.write(49)
        run.finish()

    writer = asyncio.create_task(sync(write))
    async with asyncio.timeout(100):
        while not seen or seen[-1] < total:
            after = seen[-1] if seen else 0
            patience = dice.randint(1, 150) if breaks < 100 else total
            try:
                async with web.connect(f"/ws/executions/{run.id}/logs?after={after}", cookie) as socket:
                    async for text in socket:
                        message = json.loads(text)
                        if "seq" in message:
                            seen.append(message["seq"])
                            patience -= 1
                        if patience == 0:
                            breaks += 1
                            socket.transport.abort()
                            break
            except (OSError, ConnectionClosed, InvalidStatus):
                await asyncio.sleep(0.1)
            if breaks == 50 and seen:
                breaks += 1
                await sync(web.kill)
                await sync(web.start)
    await writer

    assert breaks >= 100
    assert seen == list(range(1, total + 1))


@pytest.mark.row("S1-36b")
async def test_two_hundred_sockets_are_one_subscription_and_all_get_everything(make_run, web, live_redis):
    run = await sync(make_run)
    cookie = await sync(login_cookie, "alice")

    async def watch() -> list[int]:
        async with web.connect(f"/ws/executions/{run.id}/logs", cookie) as socket:
            ready.append(json.loads(await socket.recv())["type"])
            return [message["seq"] for message in await read_until_end(socket) if "seq" in message]

    ready: list[str] = []
    async with asyncio.timeout(90):
        tasks = [asyncio.create_task(watch()) for _ in range(200)]
        while len(ready) < 200:
            await asyncio.sleep(0.05)
        assert await sync(live_redis.subscribers, run.id) == 1
        for _ in range(20):
            await sync(run.write, 5)
            await asyncio.sleep(0.05)
        await sync(run.finish)
        results = await asyncio.gather(*tasks)

    assert all(seqs == list(range(1, 102)) for seqs in results)
    while await sync(live_redis.subscribers, run.id):
        await asyncio.sleep(0.05)


async def test_a_stopping_server_tells_its_sockets_to_come_back(make_run, web):
    run = await sync(make_run)
    cookie = await sync(login_cookie, "alice")

    async with web.connect(f"/ws/executions/{run.id}/logs", cookie) as socket:
        await socket.recv()
        await sync(web.kill, signal.SIGTERM)
        await socket.wait_closed()

    assert socket.close_code == 1012


@pytest.mark.worker
async def test_a_real_run_arrives_complete_and_soon(make_workflow, alice, processes, tmp_path):
    names = [f"n{number}" for number in range(12)]
    wires = [wire(one, "Done", two, "Execute Condition") for one, two in pairwise(names)]
    definition = graph([node(name, "delay", Duration=0.05) for name in names], *wires)
    workflow = await sync(make_workflow, definition)
    await sync(processes.worker)
    server = WebServer(settings.REDIS_URL, tmp_path / "web.log")
    await sync(server.start)
    cookie = await sync(login_cookie, "alice")

    execution = await sync(start_execution, workflow, by=alice)
    lags: list[float] = []
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60), server.connect(f"/ws/executions/{execution.pk}/logs", cookie) as socket:
        async for text in socket:
            found.append(json.loads(text))
            if "timestamp" in found[-1]:
                lags.append(time.time() - datetime.fromisoformat(found[-1]["timestamp"]).timestamp())
            if found[-1]["type"] == "end":
                break
    rows = httpx.get(f"{server.origin}/api/v1/executions/{execution.pk}/logs", headers={"Cookie": cookie}).json()
    await sync(server.kill, signal.SIGTERM)

    entries = [{k: v for k, v in message.items() if k != "type"} for message in found if "seq" in message]
    assert [entry["seq"] for entry in entries] == list(range(1, rows["last_seq"] + 1))
    assert entries == rows["logs"]
    assert found[-1] == {"type": "end", "status": "completed"}
    assert len([entry for entry in entries if entry["event"] == "node_complete"]) == 12
    assert statistics.quantiles(lags, n=20)[-1] < 1.0, lags
