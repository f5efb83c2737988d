"""Many readers of one execution through a real server: all get everything, soon, whoever does not read."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.environment import ROOT
from tests.monitoring.conftest import login_cookie, sync
from tests.monitoring.crowd import Crowd
from tests.monitoring.test_server import WebServer, web  # noqa: F401 - a fixture

pytestmark = [pytest.mark.redis]


def memory_mb(server: WebServer) -> float:
    """Return the resident memory of the server."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


class Watchers:
    """A crowd in a process of its own."""

    def __init__(self, server: WebServer, cookie: str, run: Any, count: int) -> None:
        self.command = [sys.executable, "-m", "tests.monitoring.crowd", server.host, cookie, run.id, str(count)]

    async def __aenter__(self) -> Watchers:
        self.process = await asyncio.create_subprocess_exec(*self.command, cwd=ROOT, stdout=subprocess.PIPE)
        await self._line()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def _line(self) -> bytes:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 100)
        assert line, "the crowd has gone"
        return line

    async def result(self) -> dict[str, Any]:
        """Return what the crowd saw."""
        found: dict[str, Any] = json.loads(await self._line())
        return found


def write(run: Any, seconds: float, batch: int = 10) -> None:
    """Write 100 events a second, then the end."""
    start = time.monotonic()
    for number in range(int(seconds * 100) // batch):
        run.write(batch)
        time.sleep(max(start + (number + 1) * batch / 100 - time.monotonic(), 0))
    run.finish()


async def test_fault_41_fifty_watchers_get_a_hundred_events_a_second_over_one_subscription(make_run, web, live_redis):  # noqa: F811
    run = await sync(make_run)
    async with Watchers(web, await sync(login_cookie, "alice"), run, 50) as watchers:
        assert await sync(live_redis.subscribers, run.id) == 1
        await sync(write, run, 2)
        result = await watchers.result()

    assert (result["complete"], result["last"], result["sockets"]) == (50, [201], 50)


@pytest.mark.slow
async def test_fault_41_five_hundred_watchers_get_a_hundred_events_a_second_within_half_a_second(make_run, web):  # noqa: F811
    run = await sync(make_run)
    before = memory_mb(web)
    async with Watchers(web, await sync(login_cookie, "alice"), run, 500) as watchers:
        await sync(write, run, 10)
        result = await watchers.result()
        grown = memory_mb(web) - before

    print(
        f"500 watchers: p50 {result['p50_ms']:.0f} ms, p95 {result['p95_ms']:.0f} ms, {grown:.0f} MB, load {os.getloadavg()[0]:.1f}"
    )
    assert (result["complete"], result["last"]) == (500, [1001])
    assert grown < 300
    assert result["p95_ms"] <= 500


@pytest.mark.row("S1-09")
async def test_fault_26_a_hundred_watchers_of_a_server_that_is_killed_go_on_where_they_were(make_run, web):  # noqa: F811
    run = await sync(make_run)
    async with Watchers(web, await sync(login_cookie, "alice"), run, 100) as watchers:
        await sync(run.write, 50)
        await sync(web.kill)
        await sync(run.write, 50, push=False)
        await sync(web.start)
        await sync(run.write, 50)
        await sync(run.finish)
        result = await watchers.result()

    assert (result["complete"], result["last"]) == (100, [151])
    assert result["sockets"] >= 200


async def flood(run: Any, crowd: Crowd, batches: int) -> float:
    """Write batches of 50 large entries as fast as it goes; return how old most (p95) are when the crowd has them, ms."""
    del crowd.ages[:]
    for _ in range(batches):
        last = (await sync(run.write, 50))[-1]
    while any(client.last < last for client in crowd.clients):
        await asyncio.sleep(0.05)
    return sorted(crowd.ages)[len(crowd.ages) * 95 // 100]


@pytest.mark.row("S1-16")
async def test_fault_40_who_does_not_read_costs_little_and_delays_nobody(make_run, web):  # noqa: F811
    """Five who read nothing and five who read about a frame a second, beside one who reads all of 12 MB."""
    run = await sync(make_run)
    run.pad = " " + "x" * 3000
    cookie = await sync(login_cookie, "alice")
    slow, fast = Crowd(web.host, cookie, run.id, 10), Crowd(web.host, cookie, run.id, 1)
    await slow.connect()
    await fast.connect()
    alone = await flood(run, fast, 20)
    while min(client.last for client in slow.clients) < 1000:
        await asyncio.sleep(0.05)
    before = memory_mb(web)
    for client in slow.clients[:5]:
        client.read(never=True)
    for client in slow.clients[5:]:
        client.read(every=1.0)

    beside = await flood(run, fast, 80)
    grown = memory_mb(web) - before
    behind = [client.last for client in slow.clients]
    print(
        f"p95 {beside:.0f} ms, {alone:.0f} ms before; ten slow readers cost {grown:.1f} MB and are at {behind} of 5000"
    )
    assert max(behind[:5]) < 2000
    assert max(behind) < 5000, "nobody was slow"
    assert beside <= max(500, 2 * alone)
    assert grown < 10, "a reader costs more than 1 MB"
    await sync(run.finish)
    result = await fast.wait()
    assert (result["complete"], result["last"], fast.clients[0].resyncs) == (1, [5001], 0)

    for client in slow.clients:
        client.read()
    result = await slow.wait()
    assert (result["complete"], result["last"]) == (10, [5001])
    assert all(client.resyncs or client.sockets > 1 for client in slow.clients)
