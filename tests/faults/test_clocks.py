"""Clocks that are wrong: leases, retries and deadlines are written and judged in the time of the database.

With PostgreSQL that is the server's clock, whatever the clocks of the workers say. With SQLite, which all
processes of one machine share, it is the clock of that machine: it may jump, but for all of them at once.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from django.db import connection

from recordings.models import Event
from tests.conftest import wait_for
from tests.faults.conftest import check_invariants, recovered, since

pytestmark = [pytest.mark.worker, pytest.mark.redis]


def libfaketime() -> str:
    """Return the library that gives a process another clock; in CI a missing one is a failure."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        message = "libfaketime was not found. Debian/Ubuntu: apt install faketime"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return str(found[0])


def clock(offset: str = "", file: Path | None = None) -> dict[str, str]:
    """Return the environment of a process whose clock differs by ``offset``, or by what ``file`` says at any moment."""
    chosen = {"FAKETIME": offset} if file is None else {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
    python_path = str(Path(__file__).parent / "clock")
    return {"LD_PRELOAD": libfaketime(), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": python_path, **chosen}


@pytest.mark.postgres
@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="about several machines; ./flow test runs it in its second part"
)
def test_fault_31_workers_whose_clocks_differ_neither_lose_nor_keep_work_too_long(stack):
    beat = stack.beat(**clock("-300s"))
    stack.worker(wait=False, **clock("+3600s"))
    stack.worker(wait=False, **clock("-3600s"))
    stack.worker()
    slow = [stack.start(stack.single(f"slow {number}", seconds=7)) for number in range(16)]  # all slots but a few
    wait_for(lambda: len({trace.pid for trace in stack.traces("begin")}) == 3, 30, "three workers at work", stack.logs)
    stack.wait_ended(slow, 40)

    assert [process.poll() for process in (beat, *stack.workers)] == [None] * 4, stack.logs()
    assert len(stack.traces("begin")) == len(slow), "a live worker was taken for dead"
    assert not Event.objects.filter(type="recovered").exists()

    execution = stack.start(stack.workflow(seconds=1))
    wait_for(lambda: stack.traces("begin", execution), 20, "the first node", stack.logs)
    for worker in stack.workers[:2]:
        worker.kill()
    died = time.monotonic()
    stack.wait_ended([execution])
    recovered("31 workers with clocks an hour off killed", since(died))
    check_invariants(stack)


def test_fault_31_a_clock_that_jumps_takes_no_work_from_the_living(stack, tmp_path):
    """The clock of the whole machine jumps forth and back while nodes run: each is started once.

    It jumps at the worst moment: when the rules have just looked at it and go on to judge by it.
    """
    file = tmp_path / "clock"
    file.write_text("+0")
    beat = stack.beat(**clock(file=file))
    worker = stack.worker(**clock(file=file))
    workflow = stack.single("slow", seconds=6)
    for jump in ("+3600s", "-3600s", "+0"):
        execution = stack.start(workflow)
        wait_for(lambda: stack.traces("begin", execution), 20, "the node", stack.logs)  # noqa: B023
        with stack.held_at("clock_followed") as reached:
            reached()
            (tmp_path / "next").write_text(jump)
            (tmp_path / "next").rename(file)
        stack.wait_ended([execution], 40)
        assert len(stack.traces("begin", execution)) == 1, f"started again after a jump of {jump}"
    assert [beat.poll(), worker.poll()] == [None, None], stack.logs()
    following = stack.start(stack.workflow())
    stack.wait_ended([following], 40)
    check_invariants(stack)
