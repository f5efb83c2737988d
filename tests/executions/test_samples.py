"""What a node run used of processor and memory."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from executions import samples
from executions.models import Execution, NodeRun
from executions.nodes.base import Environment, NodeCall
from executions.samples import Used
from executions.triggers import cancel_execution, start_execution
from tests.conftest import graph, node, wait_for, wait_until_ended, wire
from tests.executions.edge_nodes import EdgeNode

pytestmark = pytest.mark.row("S2-43")

SECONDS = 0.1


def count() -> None:
    """Use processor time of this thread."""
    until = time.thread_time() + SECONDS
    while time.thread_time() < until:
        pass


async def count_later() -> None:
    """Use processor time in a step that is not the first."""
    await asyncio.sleep(0)
    count()


class CountsHere(EdgeNode, type="test_counts_here"):
    """Count in the steps of the node itself."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Count, wait, count; fail at the first attempt."""
        count()
        await asyncio.sleep(0.05)
        count()
        if node.attempt == 1:
            raise ValueError("not yet")
        return {"Value": 1}


class CountsElsewhere(EdgeNode, type="test_counts_elsewhere"):
    """Count in a task, in a thread, and in the thread of a task."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Count three times."""
        await asyncio.gather(count_later(), asyncio.to_thread(count), self._in_thread())
        return {"Value": 1}

    async def _in_thread(self) -> None:
        await asyncio.to_thread(count)


class CountsAtOnce(EdgeNode, type="test_counts_at_once"):
    """Count without ever waiting."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Count; fail at the first attempt."""
        count()
        if node.attempt == 1:
            raise ValueError("not yet")
        return {"Value": 1}


class Rests(EdgeNode, type="test_rests"):
    """Let others count."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Wait for as long as the others may need."""
        for _ in range(10):
            await asyncio.sleep(SECONDS)
        return {"Value": 1}


def seconds_of(execution: Execution) -> dict[str, float]:
    """Return what each node used of processor time; all of them say it."""
    runs = NodeRun.objects.filter(execution=execution).values_list("node_id", "cpu_seconds")
    known = {name: seconds for name, seconds in runs if seconds is not None}
    assert len(known) == len(runs)
    return known


@pytest.mark.django_db(transaction=True)
def test_nodes_that_run_beside_each_other_are_told_apart(run: Callable[..., Any]) -> None:
    again = {"retries": 1, "backoff_s": 0.01}
    gc.collect()  # else what other tests left may be cleared away at the expense of the node that rests
    execution = run([
        node("here", "test_counts_here", again), node("elsewhere", "test_counts_elsewhere"), node("rest", "test_rests"),
        node("at once", "test_counts_at_once", again),
    ])  # fmt: skip

    assert execution.status == "completed", execution.error
    used = seconds_of(execution)
    assert used["here"] >= 4 * SECONDS, "both attempts count"
    assert used["elsewhere"] >= 3 * SECONDS
    assert used["at once"] >= 2 * SECONDS
    assert 0 < used["rest"] < SECONDS
    assert set(NodeRun.objects.values_list("peak_memory_bytes", flat=True)) == {None}


@pytest.mark.django_db(transaction=True)
def test_nodes_that_fail_or_take_no_time_have_used_something_too(run: Callable[..., Any]) -> None:
    light = {"Input_JSON": {}, "Transform_Rules": {"a": {"value": 1}}}
    execution = run([node("one", "json_transform", **light), node("fails", "test_counts_here")])

    used = seconds_of(execution)
    assert used["fails"] >= 2 * SECONDS
    assert 0 < used["one"] < 5


async def test_a_task_that_is_cancelled_before_its_first_step_leaves_nothing_behind() -> None:
    begun = []

    async def work() -> None:
        begun.append(1)

    task = asyncio.get_running_loop().create_task(samples.measured(work(), Used()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert begun == []


async def test_errors_and_values_pass_through() -> None:
    used = Used()

    async def work() -> int:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except TimeoutError:
            count()
        return 7

    assert await samples.measured(work(), used) == 7
    assert used.cpu_seconds is not None
    assert used.cpu_seconds >= SECONDS


WHOLE = """
import time
from executions import samples
seen = []
for mebibytes in (80, 1):
    used = samples.Used()
    with samples.whole_process(used):
        memory = bytearray(b"1") * (mebibytes * 2**20)
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass
        del memory
    assert used.cpu_seconds >= 0.1, used
    seen.append(used.peak_memory_bytes)
assert seen[0] > 80 * 2**20 > seen[1] + 20 * 2**20, seen
"""


def test_the_peak_of_a_process_is_counted_anew_for_every_node() -> None:
    subprocess.run([sys.executable, "-c", WHOLE], check=True, timeout=60)


def test_a_group_of_processes_is_counted_with_those_that_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    shell = f"{sys.executable} -c '{burn}'; echo; exec cat"
    leader = subprocess.Popen(
        ["/bin/sh", "-c", shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert leader.stdout is not None
        leader.stdout.readline()
        group = samples.group(leader.pid)
    finally:
        leader.communicate()
    assert group is not None
    assert group.cpu_ns >= 0.2e9
    assert group.memory_bytes > 0
    assert samples.group(leader.pid) is None
    assert samples.group(os.getpgid(0)) is not None


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.browser
def test_a_page_that_is_alone_in_chromium_is_measured_and_one_of_several_is_not(
    processes: Any, alice: Any, make_workflow: Any, site_url: str
) -> None:
    def opens(page: str, name: str, *more: dict[str, Any]) -> Execution:
        wires = [wire("open", "Web Page", item["id"], "Web Page") for item in more]
        first = node("open", "launch_standard_browser", Website_URL=f"{site_url}/{page}")
        execution: Execution = start_execution(make_workflow(graph([first, *more], *wires), name=name), by=alice)
        return execution

    def used(execution: Execution) -> dict[str, tuple[float | None, int | None]]:
        runs = NodeRun.objects.filter(execution=execution)
        return {run.node_id: (run.cpu_seconds, run.peak_memory_bytes) for run in runs}

    processes.worker()

    alone = wait_until_ended(opens("busy.html", "alone", node("html", "get_html")), 60, processes.logs)
    assert alone.status == "completed", (alone.error, processes.logs())
    cpu, memory = used(alone)["open"]
    assert cpu is not None
    assert memory is not None
    assert cpu >= 0.5, "Chromium was started, and its page counted for a second"
    assert memory > 20 * 2**20
    cpu, memory = used(alone)["html"]
    assert cpu is not None
    assert memory is not None

    stays = opens("form.html", "stays", node("stay", "wait_for_element", Selector="#never", Timeout=100))
    wait_for(lambda: NodeRun.objects.filter(node_id="stay", status="running").exists(), 60, "a page", processes.logs)
    beside = wait_until_ended(opens("form.html", "beside", node("html", "get_html")), 60, processes.logs)
    assert beside.status == "completed", (beside.error, processes.logs())
    stays.refresh_from_db()
    assert stays.status == "running", stays.error
    assert used(beside) == {"open": (None, None), "html": (None, None)}
    assert cancel_execution(stays, by="alice")
    wait_until_ended(stays, 60, processes.logs)
