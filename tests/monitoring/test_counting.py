"""What ended is counted once, whatever dies, and whichever transaction is late."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from executions.models import Execution, NodeRun
from executions.store import database_now_us
from executions.triggers import start_execution
from monitoring import counting, history
from monitoring.counting import BATCH, FIRST_DAYS, LAG_US, bound_of, count_ended, thin
from monitoring.history import BEYOND_MS, BOUNDS_MS, Sums
from monitoring.models import Counted, Counter, NodeErrors, Total
from monitoring.tick import tick
from tests.conftest import graph, node, test_environment, wait_for
from tests.environment import ROOT
from workflows.models import Workflow

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

MINUTE_US = 60_000_000
GRAPH = graph([node("one", "json_transform", Input_JSON={}, Transform_Rules={"a": {"value": 1}})])


@pytest.fixture
def workflow(make_workflow: Callable[..., Workflow]) -> Workflow:
    return make_workflow(GRAPH)


def ended(
    workflow: Workflow,
    status: str = "completed",
    *,
    ago_s: float = 10,
    seconds: float = 1,
    count: int = 1,
    **fields: Any,
) -> list[Execution]:
    """Store executions that took ``seconds`` and ended so long ago by the clock of the database."""
    version = workflow.version
    assert version is not None
    at = database_now_us() - round(ago_s * 1_000_000)
    end = datetime.fromtimestamp(at / 1_000_000, UTC)
    values = {"trigger": "api", "owner": workflow.owner, "credits": 3, "queued_at": end - timedelta(seconds=seconds)}
    return Execution.objects.bulk_create(
        Execution(
            workflow=workflow, version=version, status=status, finished_at=end, touched_at=at,
            **{**values, **fields},
        )
        for _ in range(count)
    )  # fmt: skip


def now() -> datetime:
    return datetime.fromtimestamp(database_now_us() / 1_000_000, UTC)


def last_hour(**only: Any) -> Sums:
    return history.ended(now() - timedelta(hours=1), now() + timedelta(minutes=1), **only)


def counters(name: str) -> dict[str, int]:
    return dict(Counter.objects.filter(name=name).values_list("label", "value"))


def test_every_end_counts_once_by_status_time_and_cost(workflow: Workflow) -> None:
    ended(workflow, count=18)
    ended(workflow, "completed_with_errors")
    ended(workflow, "failed", seconds=50)
    ended(workflow, "cancelled", credits=0)
    Execution.objects.create(
        workflow=workflow, version_id=workflow.version_id or "", owner=workflow.owner, trigger="api", status="running",
        queued_at=now(), touched_at=database_now_us() - 10_000_000,
    )  # fmt: skip

    assert count_ended() == 21
    assert count_ended() == 0

    found = last_hour()
    assert (found.runs, found.completed, found.failed, found.cancelled, found.credits) == (21, 18, 2, 1, 60)
    assert found.by_status == {"completed": 18, "completed_with_errors": 1, "failed": 1, "cancelled": 1}
    assert found.durations == {1000: 20, 50_000: 1}
    assert found.duration_ms == 70_000
    assert found.success_rate == 0.9
    assert counters("ended") == found.by_status
    assert counters("lasted") == {"1000": 20, "50000": 1}
    assert counters("lasted_ms") == {"": 70_000}
    assert counters("credits") == {"": 60}


def test_children_cost_but_are_no_runs(workflow: Workflow) -> None:
    (parent,) = ended(workflow)
    for turn in range(3):
        ended(workflow, "failed", parent=parent, parent_node=0, child_index=turn)

    count_ended()

    found = last_hour()
    assert (found.runs, found.failed, found.credits) == (1, 0, 12)
    assert Total.objects.aggregate(Sum("children"))["children__sum"] == 3


def test_sums_are_of_one_owner_or_workflow_if_asked(
    make_workflow: Callable[..., Workflow], alice: Any, bob: Any
) -> None:
    ours, theirs = make_workflow(GRAPH, name="ours"), make_workflow(GRAPH, name="theirs", owner=bob)
    ended(ours, count=2)
    ended(theirs, "failed")

    count_ended()

    assert last_hour().runs == 3
    assert last_hour(owner=alice.pk).by_status == {"completed": 2}
    assert last_hour(owner=bob.pk).by_status == {"failed": 1}
    assert last_hour(workflow=ours.pk).runs == 2
    assert last_hour(workflow=ours.pk, owner=bob.pk) == Sums()
    assert last_hour(workflow=uuid4()) == Sums()


def failed_nodes(workflow: Workflow, *codes: str, **fields: Any) -> Execution:
    """Store an execution that failed, with a node that completed and one that failed with each of ``codes``."""
    (execution,) = ended(workflow, "failed", **fields)
    NodeRun.objects.bulk_create(
        NodeRun(
            execution=execution, phase_index=0, node_index=number, node_id=f"n{number}", node_type="x",
            status="failed" if code is not None else "completed", error_code=code or "",
        )
        for number, code in enumerate((None, *codes))
    )  # fmt: skip
    return execution


def test_nodes_that_failed_are_counted_by_code(workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    failed_nodes(workflow, "timeout", "timeout", "network", "")
    count_ended()
    monkeypatch.setattr(counting, "MAXIMUM_CODES", 3)
    failed_nodes(workflow, "network", "made_up", "also_made_up", ago_s=5)
    count_ended()

    found = history.node_errors(now() - timedelta(hours=1), now() + timedelta(minutes=1))
    assert found == {"timeout": 2, "network": 2, "other": 3}
    assert counters("node_errors") == found


def test_a_killed_counter_loses_nothing_and_doubles_nothing(workflow: Workflow, tmp_path: Any) -> None:
    ended(workflow, count=BATCH + 7)
    flag = tmp_path / "armed"
    flag.touch()
    program = "import django; django.setup(); from monitoring.counting import count_ended; print(count_ended())"
    environment = {**test_environment(), "FLOWBUILDER_FAILPOINT": f"counting:{flag}"}

    doomed = subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=False)

    assert doomed.returncode == -signal.SIGKILL
    assert last_hour().runs == 0  # it died before the commit
    assert wait_for(count_ended, 60, "the lock of the dead process") + count_ended() == BATCH + 7
    assert last_hour().runs == BATCH + 7


def test_what_a_late_transaction_commits_is_counted(workflow: Workflow) -> None:
    """One writes its end, another one ends and is counted, then the first commits."""
    written, commit = threading.Event(), threading.Event()

    def late() -> None:
        try:
            with transaction.atomic():
                ended(workflow, "failed", ago_s=0)
                written.set()
                commit.wait(60)
        finally:
            connection.close()

    ended(workflow, ago_s=0)
    thread = threading.Thread(target=late)
    thread.start()
    assert written.wait(30)
    if connection.vendor == "postgresql":  # SQLite lets nobody write meanwhile
        ended(workflow, ago_s=0)
        time.sleep(2 * LAG_US / 1_000_000)
        count_ended()
        assert last_hour().by_status.get("failed") is None
    commit.set()
    thread.join()

    expected = Execution.objects.count()
    wait_for(lambda: count_ended() is not None and last_hour().runs == expected, 60, "all ends")
    assert last_hour().failed == 1


def test_only_one_process_counts_at_a_time(workflow: Workflow) -> None:
    ended(workflow, count=50)
    count_ended()
    ended(workflow, count=50)

    def count() -> None:
        count_ended()
        connection.close()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count_ended()
    assert last_hour().runs == 100


def test_the_first_count_goes_back_eight_days(workflow: Workflow) -> None:
    ended(workflow, ago_s=(FIRST_DAYS + 1) * 86_400)
    ended(workflow, ago_s=(FIRST_DAYS - 1) * 86_400)

    assert count_ended() == 1


@pytest.mark.parametrize("ago_s", [0, 50])
def test_a_clock_that_went_back_neither_blinds_nor_doubles(workflow: Workflow, ago_s: float) -> None:
    """An end was counted by a clock one hour ahead; now the clock is right, and comes to that minute again."""
    ended(workflow, ago_s=-3600)
    future = database_now_us() + 3600 * 1_000_000
    Counted.objects.create(touched_at=future)
    Total.objects.create(
        minute=future // MINUTE_US, workflow_id=workflow.pk, owner_id=workflow.owner_id, status="completed",
        up_to_ms=1000, runs=1, children=0, credits=3, duration_ms=1000,
    )  # fmt: skip
    ended(workflow, "failed", ago_s=ago_s)
    time.sleep(LAG_US / 1_000_000)

    wait_for(lambda: count_ended() == 1, 60, "the end after the jump")

    assert last_hour().by_status == {"failed": 1}
    assert Total.objects.count() == 1
    assert Counted.objects.get().touched_at < database_now_us()


def test_nothing_new_costs_three_queries(workflow: Workflow, django_assert_num_queries: Any) -> None:
    ended(workflow)
    count_ended()
    with django_assert_num_queries(3):
        assert count_ended() == 0


def test_counting_reads_no_more_than_what_is_new(workflow: Workflow) -> None:
    """The index leads to it: also among many that were counted before."""
    ended(workflow, count=2000)
    while count_ended():
        pass
    if connection.vendor == "postgresql":  # SQLite would keep what it learns here for every later test
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {Execution._meta.db_table}")
    (place,) = Counted.objects.all()
    for rows in counting._after(place):
        plan = rows.values("id").explain()
        assert re.search(r"execution_counted.*touched_at ?[=>]", plan, re.DOTALL), plan
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan


def test_the_percentile_is_near_the_true_one() -> None:
    assert Sums().p95_ms is None
    lasted = [10 * number for number in range(1, 1001)]  # 10 ms to 10 s
    durations: dict[int, int] = {}
    for one in lasted:
        durations[bound_of(one)] = durations.get(bound_of(one), 0) + 1
    found = Sums(runs=1000, durations=durations).p95_ms
    assert found == pytest.approx(9500, rel=0.02)
    assert Sums(runs=1, durations={BEYOND_MS: 1}).p95_ms == 0
    assert bound_of(0) == bound_of(10) == 10
    assert bound_of(11) == 15
    assert bound_of(BOUNDS_MS[-1] + 1) == BEYOND_MS
    assert list(BOUNDS_MS) == sorted(set(BOUNDS_MS))


def test_minutes_say_what_ended_in_each(workflow: Workflow) -> None:
    ended(workflow, ago_s=600, count=2)
    ended(workflow, "failed", ago_s=60)
    count_ended()

    first, second = history.minutes(now() - timedelta(hours=1), now())

    assert (first.runs, first.completed, first.failed, first.credits) == (2, 2, 0, 6)
    assert (second.runs, second.completed, second.failed, second.credits) == (1, 0, 1, 3)
    assert timedelta(minutes=8) < second.at - first.at <= timedelta(minutes=10)  # a minute may end between the two
    assert first.at.second == 0


def test_old_minutes_become_hours_and_sums_stay(workflow: Workflow) -> None:
    Counted.objects.create(touched_at=database_now_us() - 20 * 86_400_000_000)
    hour = (database_now_us() // MINUTE_US - 12 * 24 * 60) // 60 * 60
    for minute in (hour + 1, hour + 2, hour + 59, hour + 60):
        ended(workflow, ago_s=database_now_us() / 1e6 - minute * 60 - 30)
        failed_nodes(workflow, "timeout", ago_s=database_now_us() / 1e6 - minute * 60 - 30)
    ended(workflow, ago_s=60)
    count_ended()
    since = now() - timedelta(days=30)
    before, errors = history.ended(since, now()), history.node_errors(since, now())

    assert thin() == 6
    assert thin() == 0

    assert history.ended(since, now()) == before
    assert history.node_errors(since, now()) == errors == {"timeout": 4}
    assert sorted(set(Total.objects.values_list("minute", flat=True)))[:2] == [hour, hour + 60]
    assert thin(database_now_us() + 500 * 86_400_000_000) > 0
    assert not Total.objects.exists()
    assert not NodeErrors.objects.exists()


@pytest.mark.worker
@pytest.mark.redis
def test_beat_counts_what_workers_end(processes: Any, workflow: Workflow) -> None:
    processes.beat()
    processes.worker()
    for _ in range(5):
        start_execution(workflow, by=workflow.owner, trigger="manual")

    wait_for(lambda: last_hour().completed == 5, 60, "five counted executions", processes.logs)

    assert last_hour(workflow=workflow.pk).credits == sum(Execution.objects.values_list("credits", flat=True))


def test_a_step_that_fails_does_not_keep_the_others(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("no")

    ended(workflow)
    monkeypatch.setattr("monitoring.tick.STEPS", (broken, count_ended))

    tick()

    assert last_hour().runs == 1
    assert "broken of monitoring failed" in caplog.text
