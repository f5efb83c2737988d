"""How much a node run may log, and what is said of the rest, by a clock that the test moves."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.conf import settings

from executions import log_limits as module
from executions.events import load_logs
from executions.log_limits import Limits, Lines, weigh
from flowbuilder.rates import read_rate
from tests.conftest import node
from tests.executions.edge_nodes import EdgeNode

INFO, ERROR = {"message": "x", "level": "info"}, {"message": "x", "level": "error"}
WEIGHT = weigh(INFO)


class Clock:
    """A clock that stands still until it is told otherwise."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(clock):
    def make_lines(lines=1000, size=10**9, count=0, seconds=1.0):
        return Lines(Limits(lines, size, count, seconds), clock)

    return make_lines


def write(lines, data=INFO, times=1, size=100):
    """Write lines that are stored at once; return how many were taken, and what was told."""
    taken, told = 0, []
    for _ in range(times):
        weight, said = lines.take(data)
        told += [said] if said else []
        if weight:
            taken += 1
            lines.stored(weight, size)
    return taken, told


def test_what_is_over_the_number_of_lines_is_left_out_and_told_once(make):
    lines = make(lines=100)

    assert write(lines, times=250) == (100, [])
    told = lines.left_out()

    assert told == {
        "message": "150 lines left out: 100 lines of a node are kept (FLOWBUILDER_NODE_LOG_LINES)",
        "level": "warning", "left_out": 150,
    }  # fmt: skip
    assert lines.left_out() is None


def test_one_line_is_one_line(make):
    lines = make(lines=1)
    write(lines, times=2)

    assert lines.left_out()["message"].startswith("1 line left out: ")


def test_bytes_count_as_they_are_stored(make):
    lines = make(size=1000)

    assert write(lines, times=50, size=100) == (10, [])
    assert "40 lines left out: 0.000953674 MiB of the lines of a node are kept" in lines.left_out()["message"]


@pytest.mark.parametrize("data", [ERROR, {"level": "warning"}, {"error": "refused", "url": "http://a"}])
def test_warnings_and_errors_have_a_tenth_more(make, data):
    for lines in (make(lines=100), make(size=10_000), make(count=100)):
        assert write(lines, times=150)[0] == 100
        assert write(lines, data, times=150)[0] == 10
        assert write(lines, times=10)[0] == 0
        assert lines.left_out()["left_out"] == 50 + 140 + 10


def test_a_pace_is_kept_with_a_marker_for_each_burst(make, clock):
    lines = make(lines=10**6, count=600, seconds=60)
    assert write(lines, times=1000) == (600, [])

    clock.now += 0.5  # room for five, which is less than a second's worth
    assert write(lines, times=10) == (0, [])
    clock.now += 0.5
    taken, told = write(lines, times=100)

    assert (taken, [data["left_out"] for data in told]) == (10, [410])
    assert (
        told[0]["message"] == "410 lines left out: a node may log 600 lines in 60 seconds (FLOWBUILDER_NODE_LOG_RATE)"
    )
    assert lines.left_out()["left_out"] == 90
    clock.now += 3600
    assert write(lines, times=1000)[0] == 600


def test_errors_that_pass_do_not_end_a_burst(make, clock):
    lines = make(lines=10**6, count=100)
    write(lines, times=150)
    clock.now += 0.5

    assert write(lines, ERROR, times=20) == (20, [])
    clock.now += 1
    assert [data["left_out"] for data in write(lines)[1]] == [50]


def test_what_waits_to_be_stored_is_bounded(make):
    lines = make(lines=10**6)
    weights = [lines.take(INFO)[0] for _ in range(module.WAITING_LINES + 500)]
    assert sum(map(bool, weights)) == module.WAITING_LINES

    for weight in weights[: module.WAITING_LINES // 2 - 1]:
        lines.stored(weight, 100)
    assert lines.take(INFO) == (0, None)
    lines.stored(WEIGHT, 100)
    lines.stored(WEIGHT, 100)
    weight, told = lines.take(INFO)

    assert weight == WEIGHT
    assert told["message"] == "501 lines left out: they came faster than they could be stored"


def test_long_lines_wait_only_until_they_are_too_many_characters(make):
    lines = make()
    long = {"message": "x" * module.WAITING_CHARACTERS}

    assert lines.take(long)[0] > module.WAITING_CHARACTERS
    assert lines.take(INFO) == (0, None)
    lines.stored(weigh(long), 65_000)
    assert lines.take(INFO)[1]["left_out"] == 1


def test_a_minute_of_nothing_but_lines_that_are_left_out_is_told(make, clock):
    lines = make(lines=1)
    write(lines, times=11)
    clock.now += 61

    assert [data["left_out"] for data in write(lines, times=5)[1]] == [11]
    assert lines.left_out()["left_out"] == 4


def test_nested_values_weigh_what_they_hold_and_end():
    endless: list[object] = []
    endless.append(endless)

    assert weigh({"rows": [{"a": "x" * 1000}] * 10}) > 10_000
    assert weigh({"endless": endless}) < 2 * 2**20
    assert weigh({}) > 0


def test_threads_lose_no_count(make):
    lines = make(lines=5000)
    threads = [threading.Thread(target=write, args=(lines, INFO, 5000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert lines.left_out()["left_out"] == 15_000


# --------------------------------------------------------------------------- in an execution


class Chatters(EdgeNode, type="test_chatters"):
    """Log so many lines without a pause, mark a file and a tag among them, and end as ``Kind`` says."""

    async def run(self, node, env):
        """Write them."""
        count, end = node.inputs["Kind"]
        for number in range(count):
            env.log(f"line {number}")
        env.tag("kept")
        await env.save_artifact("note", b"kept", content_type="text/plain", name="note.txt")
        if end == "waits":
            await asyncio.sleep(0)
        if end == "fails":
            raise ValueError("enough")
        return {"Value": count}


class Chats(EdgeNode, type="test_chats"):
    """Log so many lines and never wait."""

    async def run(self, node, env):
        """Write them."""
        for number in range(node.inputs["Kind"]):
            env.log(f"line {number}")
        return {"Value": 1}


@pytest.mark.redis
@pytest.mark.postgres
@pytest.mark.parametrize("end", ["waits", "fails"])
def test_a_run_keeps_so_many_lines_and_says_how_many_more_there_were(run, settings, end):
    settings.NODE_LOG_LINES = 50

    execution = run([node("n", "test_chatters", Kind=[80, end])])

    logs, _ = load_logs(execution.pk, 0, 1000)
    own = [log for log in logs if log["event"] == "log"]
    assert [log["message"] for log in own[:50]] == [f"line {number}" for number in range(50)]
    assert own[50]["data"]["left_out"] == 30
    assert len(own) == 51
    kinds = [log["event"] for log in logs]
    assert {"tag", "artifact"} <= set(kinds)
    assert kinds.index("node_error" if end == "fails" else "node_complete") == logs.index(own[50]) + 1
    assert [log["seq"] for log in logs] == list(range(1, len(logs) + 1))


@pytest.mark.redis
@pytest.mark.postgres
def test_attempts_share_what_a_node_may_log(run, settings):
    settings.NODE_LOG_LINES = 50

    execution = run([node("n", "test_chatters", {"retries": 2, "backoff_s": 0.01}, Kind=[40, "fails"])])

    own = [log for log in load_logs(execution.pk, 0, 1000)[0] if log["event"] == "log"]
    assert len([log for log in own if "left_out" not in log["data"]]) == 50
    assert [log["data"]["left_out"] for log in own if "left_out" in log["data"]] == [30, 40]


@pytest.mark.redis
@pytest.mark.postgres
@pytest.mark.parametrize("count", [40, 3000])
def test_nodes_that_never_wait_are_bounded_as_well(run, settings, count):
    settings.NODE_LOG_RATE = read_rate("2000/s")

    execution = run([node("n", "test_chats", Kind=count)])

    own = [log for log in load_logs(execution.pk, 0, 10_000)[0] if log["event"] == "log"]
    kept = [log for log in own if "left_out" not in log["data"]]
    assert len(kept) + sum(log["data"].get("left_out", 0) for log in own) == count
    assert min(count, 2000) <= len(kept) <= min(count, 2999)


def test_the_viewer_is_offered_more_lines_than_it_must_show():
    assert settings.NODE_LOG_LINES > 100_000
