"""PostgreSQL that cuts its sessions, is away, or holds a row for somebody else. A file of SQLite knows none of these."""

from __future__ import annotations

import contextlib
import re
import time

import psycopg
import pytest
from django.db import connection, connections

from executions.models import Execution, WorkerLease
from tests.conftest import wait_for
from tests.environment import postgres_server
from tests.faults.conftest import check_invariants, recovered, since

pytestmark = [
    pytest.mark.worker,
    pytest.mark.redis,
    pytest.mark.postgres,
    pytest.mark.skipif(postgres_server is None, reason="about PostgreSQL; ./flow test runs it in its second part"),
]


@contextlib.contextmanager
def another_session():
    """Give a connection of somebody else to the test database."""
    settings = connection.settings_dict
    with psycopg.connect(dbname=settings["NAME"], user=settings["USER"], host=settings["OPTIONS"]["host"]) as other:
        yield other


def terminate_everybody(count_of_them):
    """Cut every session of the test database but those of this test; return how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        count_of_them.append(cursor.fetchone()[0])


def cut_sessions(stack, seconds):
    """Start executions one after another while every session is cut every two seconds."""
    workflow = stack.workflow(seconds=0.3)
    beat = stack.beat()
    stack.worker(wait=False)
    stack.worker()
    begun = time.monotonic()
    cut: list[int] = []
    executions = []
    while since(begun) < seconds:
        executions += [stack.start(workflow) for _ in range(2)]
        time.sleep(2)
        terminate_everybody(cut)
    over = time.monotonic()
    stack.wait_ended(executions, 60)
    recovered(f"20 every session cut {len(cut)} times", since(over))
    assert min(cut) >= 2, f"nobody was connected: {cut}"
    assert [process.poll() for process in (beat, *stack.workers)] == [None] * 3, stack.logs()
    check_invariants(stack)


def test_fault_20_sessions_that_are_cut_again_and_again_cost_nothing(stack):
    cut_sessions(stack, 8)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_fault_20_sessions_that_are_cut_for_two_minutes(stack):
    cut_sessions(stack, 120)


def waits_of_beat(stack):
    """Return the seconds that beat, which was started first, said it would wait for the database, in order."""
    return [float(found) for found in re.findall(r"due workflows wait; next try in ([\d.]+) s", stack.processes.log(0))]


@pytest.mark.row("S2-16")
def test_fault_21_a_server_that_is_away_for_twenty_seconds_pauses_the_work(stack):
    assert postgres_server is not None
    workflow = stack.workflow(seconds=1)
    beat = stack.beat()
    # A beat that has not begun yet ends when there is no database: whoever started it starts it again, but not here.
    wait_for(WorkerLease.objects.filter(queues="beat").exists, 30, "the first sign of life of beat", stack.logs)
    stack.worker(wait=False)
    stack.worker()
    executions = [stack.start(workflow) for _ in range(4)]
    wait_for(lambda: len(stack.traces("begin")) > 6, 20, "nodes at work", stack.logs)
    connections.close_all()
    postgres_server.stop()
    time.sleep(20)
    postgres_server.start()
    back = time.monotonic()
    executions.append(stack.start(workflow))
    stack.wait_ended(executions, 60)
    recovered("21 PostgreSQL away for 20 s", since(back), 30)

    assert [process.poll() for process in (beat, *stack.workers)] == [None] * 3, stack.logs()
    check_invariants(stack)
    away = waits_of_beat(stack)
    assert 4 <= len(away) <= 10, away
    assert all(0.45 <= wait / min(10, 2**turn) <= 1.05 for turn, wait in enumerate(away)), away
    wait_for(lambda: _cut_until_beat_waits(stack, len(away)), 20, "beat to miss the database again", stack.logs)
    assert waits_of_beat(stack)[len(away)] <= 1.05, "after a success it begins with short waits again"


def _cut_until_beat_waits(stack, known):
    terminate_everybody([])
    time.sleep(0.5)
    return len(waits_of_beat(stack)) > known


def test_fault_22_a_row_that_somebody_holds_stops_nobody_else(stack):
    holds_a_row(stack, 10)


@pytest.mark.slow
def test_fault_22_a_row_that_somebody_holds_for_thirty_seconds_stops_nobody_else(stack):
    holds_a_row(stack, 30)


def holds_a_row(stack, seconds):
    """Lock the row of a running execution for ``seconds`` in another session while others are started."""
    workflow = stack.workflow(seconds=0.5)
    stack.beat()
    stack.worker(wait=False)
    stack.worker()
    held = stack.start(workflow)
    with another_session() as other:
        with stack.held_at("before-commit") as reached:
            reached()
            other.execute("SELECT 1 FROM executions_execution WHERE id = %s FOR UPDATE", (held.pk,))
        locked = time.monotonic()
        slowest = 0.0
        while since(locked) < seconds:
            begun = time.monotonic()
            stack.wait_ended([stack.start(workflow)], 20)
            slowest = max(slowest, since(begun))
        held.refresh_from_db()
        assert held.status == "running"
        other.rollback()
    free = time.monotonic()
    stack.wait_ended([held], 30)
    recovered(f"22 an execution's row locked for {seconds} s", since(free))
    print(f"the slowest of the others took {slowest:.1f} s")

    assert slowest < 6, "others waited for the locked row"
    assert Execution.objects.count() >= 3
    check_invariants(stack)
