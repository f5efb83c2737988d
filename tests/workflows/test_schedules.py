"""Setting, finding and claiming schedules."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.conftest import graph, node
from workflows import schedules
from workflows.models import Schedule, Workflow

pytestmark = pytest.mark.django_db

DEFINITION = graph([node("a", "delay", Duration=1)])
DUE = datetime(2026, 3, 6, 9, 0, tzinfo=UTC)


@pytest.fixture
def workflow(make_workflow: Any) -> Workflow:
    made: Workflow = make_workflow(DEFINITION)
    return made


def make_due(workflow: Workflow, instant: datetime = DUE, cron: str = "0 * * * *") -> Schedule:
    schedule = schedules.set_schedule(workflow, cron)
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=instant)
    return Schedule.objects.select_related("workflow").get(pk=schedule.pk)


def test_setting_a_schedule_stores_it_as_written_and_computes_utc(workflow: Workflow) -> None:
    schedule = schedules.set_schedule(workflow, " 30   9 * *  1-5 ", "America/New_York")

    assert (schedule.cron, schedule.timezone) == ("30 9 * * 1-5", "America/New_York")
    assert schedule.next_run_at is not None
    local = schedule.next_run_at.astimezone(ZoneInfo("America/New_York"))
    assert (local.hour, local.minute) == (9, 30)
    assert schedules.set_schedule(workflow, "0 9 * * *", enabled=False).next_run_at is None
    assert Schedule.objects.count() == 1


@pytest.mark.row("S2-09")
@pytest.mark.parametrize(
    ("cron", "zone"), [("* * * * *", "UTC"), ("0 9 * *", "UTC"), ("0 9 * * *", "Mars"), ("0 0 30 2 *", "UTC")]
)
def test_a_bad_schedule_changes_nothing(workflow: Workflow, cron: str, zone: str) -> None:
    schedules.set_schedule(workflow, "0 9 * * *")

    with pytest.raises(ValueError, match=r"cron|zone"):
        schedules.set_schedule(workflow, cron, zone)

    assert Schedule.objects.get(workflow=workflow).cron == "0 9 * * *"


def test_clearing(workflow: Workflow) -> None:
    schedules.set_schedule(workflow, "0 9 * * *")

    assert schedules.clear_schedule(workflow)
    assert not schedules.clear_schedule(workflow)


def test_due_finds_what_is_due_active_and_enabled_oldest_first_and_bounded(make_workflow: Any) -> None:
    now = DUE + timedelta(minutes=1)
    made = [make_due(make_workflow(DEFINITION, name=f"w{i}"), DUE - timedelta(minutes=i)) for i in range(4)]
    later = make_due(make_workflow(DEFINITION, name="later"), now + timedelta(seconds=1))
    paused = make_due(make_workflow(DEFINITION, name="paused"))
    paused.workflow.pause()
    Schedule.objects.filter(pk=make_due(make_workflow(DEFINITION, name="off")).pk).update(enabled=False)

    assert schedules.due(now, 10) == made[::-1]
    assert schedules.due(now, 2) == [made[3], made[2]]
    assert later in schedules.due(now + timedelta(seconds=1), 10)
    assert schedules.next_instant() == DUE - timedelta(minutes=3)


@pytest.mark.row("S2-14")
def test_claiming_moves_on_once_and_answers_the_instant_to_one_caller_only(workflow: Workflow) -> None:
    first, second = make_due(workflow), Schedule.objects.select_related("workflow").get()
    now = DUE + timedelta(seconds=2)

    assert schedules.claim(first, now) == DUE
    assert schedules.claim(second, now) is None
    assert schedules.claim(first, now) is None

    stored = Schedule.objects.get()
    assert (stored.next_run_at, stored.last_run_at) == (DUE + timedelta(hours=1), now)


@pytest.mark.row("S2-14")
def test_several_missed_instants_count_as_one(workflow: Workflow) -> None:
    schedule = make_due(workflow)
    now = DUE + timedelta(hours=5, minutes=30)

    assert schedules.claim(schedule, now) == DUE
    assert Schedule.objects.get().next_run_at == DUE + timedelta(hours=6)


def test_what_is_not_due_or_was_paused_meanwhile_is_not_claimed(workflow: Workflow) -> None:
    schedule = make_due(workflow)

    assert schedules.claim(schedule, DUE - timedelta(seconds=1)) is None
    Workflow.objects.filter(pk=workflow.pk).update(status="paused")
    assert schedules.claim(schedule, DUE) is None


@pytest.mark.row("S2-16")
def test_an_invalid_cron_is_logged_and_not_tried_again(workflow: Workflow, caplog: pytest.LogCaptureFixture) -> None:
    schedule = make_due(workflow)
    Schedule.objects.filter(pk=schedule.pk).update(cron="broken")
    schedule.refresh_from_db()

    with caplog.at_level(logging.ERROR):
        assert schedules.claim(schedule, DUE) is None

    assert str(workflow.pk) in caplog.text
    assert schedules.due(DUE + timedelta(days=1), 10) == []


def test_looking_for_due_schedules_is_one_query_on_the_index(workflow: Workflow) -> None:
    make_due(workflow, timezone.now() + timedelta(days=1))

    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert schedules.due(timezone.now(), 100) == []

    assert len(queries) == 1
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {queries[0]['sql']}")
            plan = " ".join(str(row[-1]) for row in cursor.fetchall())
        assert "next_run_at" in plan


@pytest.mark.row("S2-14")
@pytest.mark.django_db(transaction=True)
def test_of_many_claimers_at_once_exactly_one_wins(workflow: Workflow) -> None:
    make_due(workflow)
    gate = threading.Barrier(6)
    won: list[datetime | None] = []

    def claim() -> None:
        try:
            mine = schedules.due(DUE, 1)[0]
            gate.wait()
            won.append(schedules.claim(mine, DUE))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(won, key=str) == [DUE, *[None] * 5]
