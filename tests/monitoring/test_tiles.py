"""The numbers above the monitor, each against rows that say what it has to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from executions import store
from executions.models import BrowserSession, Execution, NodeRun, WorkerLease
from monitoring import tiles
from monitoring.models import Total
from monitoring.tiles import tiles_for
from tests.conftest import flush_redis, graph, node

pytestmark = [pytest.mark.redis, pytest.mark.django_db, pytest.mark.row("S1-33")]

NOTHING = {
    "throughput_per_minute": 0.0, "success_rate": None, "p95_ms": None,
    "running": 0, "pending": 0, "held": 0, "credits_today": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Begin and end with empty queues, and with nothing that this process remembers."""
    flush_redis()
    tiles.known.forget()
    yield
    flush_redis()
    tiles.known.forget()


@pytest.fixture
def workflow(make_workflow: Callable[..., Any]) -> Any:
    return make_workflow(graph([node("wait", "delay", Duration=1)]))


def begin(workflow: Any, status: str, owner: Any = None, **fields: Any) -> Execution:
    """Store an execution that has this status now."""
    return Execution.objects.create(
        workflow=workflow, version=workflow.version, owner=owner or workflow.owner, trigger="manual",
        status=status, queued_at=timezone.now(), **fields,
    )  # fmt: skip


def total(workflow: Any, ago: timedelta, *, owner: Any = None, **fields: Any) -> None:
    """Store what ended a while ago."""
    Total.objects.create(
        workflow_id=workflow.pk, owner_id=(owner or workflow.owner).pk,
        minute=int((timezone.now() - ago).timestamp() // 60),
        **{"status": "completed", "up_to_ms": 100, "runs": 0, "children": 0, "credits": 0, "duration_ms": 0, **fields},
    )  # fmt: skip


def at_noon(settings: Any) -> None:
    """Let the installation be where it is noon now."""
    ahead = 12 - timezone.now().hour
    settings.TIME_ZONE = f"Etc/GMT{-ahead:+d}" if ahead else "UTC"  # these names count backwards


def lease(boot: str, queues: str, slots: int, alive: bool = True) -> None:
    """Store the lease of a process that gave a sign of life now, or long ago."""
    now = store.database_now_us()
    WorkerLease.objects.create(
        boot=boot, hostname="here", pid=1, queues=queues, slots=slots, started_at=timezone.now(),
        beat_at=now if alive else now - 3_600_000_000,
    )  # fmt: skip


def test_an_installation_in_which_nothing_ran_shows_nothing(alice: Any) -> None:
    found = tiles_for(alice)

    assert found == {
        **NOTHING,
        "queues": {"control": 0, "default": 0, "browser": 0, "isolated": 0},
        "slots": {"busy": 0, "total": 0},
        "browsers": {"open": 0, "limit": 0},
        "workers": 0,
    }


def test_what_runs_and_waits_is_counted_without_children(alice: Any, workflow: Any) -> None:
    parent = begin(workflow, "running")
    for status in ("running", "queued", "queued", "queued", "paused", "waiting", "completed", "failed"):
        begin(workflow, status)
    begin(workflow, "running", parent=parent, parent_node=0, child_index=0)

    found = tiles_for(alice)

    assert (found["running"], found["pending"], found["held"]) == (2, 3, 2)


def test_what_ended_is_taken_over_its_own_time(alice: Any, workflow: Any) -> None:
    total(workflow, timedelta(minutes=2), runs=30, credits=5)
    total(workflow, timedelta(minutes=30), runs=60, up_to_ms=200)
    total(workflow, timedelta(minutes=31), runs=10, status="failed", up_to_ms=10_000)
    total(workflow, timedelta(minutes=90), runs=1000, status="failed", up_to_ms=50_000)

    found = tiles_for(alice)

    assert 5 <= found["throughput_per_minute"] <= 6  # five to six minutes, as their first one began
    assert found["success_rate"] == pytest.approx(0.9)
    assert 200 < found["p95_ms"] <= 10_000


def test_credits_are_those_since_midnight_where_the_installation_is(alice: Any, workflow: Any, settings: Any) -> None:
    at_noon(settings)
    total(workflow, timedelta(seconds=30), credits=1)
    total(workflow, timedelta(hours=3), credits=20)
    total(workflow, timedelta(hours=11), credits=300, children=3)
    total(workflow, timedelta(hours=14), credits=4000)

    assert tiles_for(alice)["credits_today"] == 321


def test_slots_browsers_queues_and_workers_are_those_of_living_processes(alice: Any, workflow: Any) -> None:
    lease("w1", "control,default,browser", 8)
    lease("w2", "control,default", 4)
    lease("iso", "isolated", 1)
    lease("beat", "beat", 0)
    lease("dead", "control,default,browser", 8, alive=False)
    soon = store.database_now_us() + 15_000_000
    running = begin(workflow, "running")
    for index, (claim, until) in enumerate((("a", soon), ("a", soon), ("b", soon), ("lost", 1))):
        NodeRun.objects.create(
            execution=running, phase_index=0, node_index=index, node_id=f"n{index}", node_type="delay",
            status="running", claim=claim, lease_until=until,
        )  # fmt: skip
    for execution, status in (
        (running, "live"),
        (begin(workflow, "waiting"), "closed"),
        (begin(workflow, "failed"), "live"),
    ):
        BrowserSession.objects.create(
            execution=execution, boot="w1", queue="browser.w1", status=status, opened_at=timezone.now()
        )
    for queue in ("default", "default", "browser.w1"):
        current_app.send_task("nothing", queue=queue)

    found = tiles_for(alice)

    assert found["queues"] == {"control": 0, "default": 2, "browser": 1, "isolated": 0}
    assert found["slots"] == {"busy": 2, "total": 13}
    assert found["browsers"] == {"open": 1, "limit": settings.BROWSER_SLOTS}
    assert found["workers"] == 2


def test_others_see_their_own_and_only_staff_the_installation(
    alice: Any, bob: Any, workflow: Any, django_user_model: Any, settings: Any
) -> None:
    at_noon(settings)
    begin(workflow, "running")
    begin(workflow, "running", owner=bob)
    total(workflow, timedelta(minutes=2), runs=10, credits=7)
    total(workflow, timedelta(minutes=2), runs=5, credits=1, owner=bob, status="failed")
    reader = django_user_model.objects.create(username="reader")
    reader.user_permissions.add(Permission.objects.get(codename="see_everything"))

    assert (tiles_for(alice)["running"], tiles_for(alice)["credits_today"]) == (2, 8)
    found = tiles_for(bob)
    assert (found["running"], found["credits_today"], found["success_rate"]) == (1, 1, 0.0)
    assert found["slots"] == {"busy": 0, "total": 0}
    found = tiles_for(reader)
    assert (found["running"], found["credits_today"]) == (2, 8)
    assert (found["queues"], found["slots"], found["browsers"], found["workers"]) == ({}, None, None, None)


def test_a_broker_that_is_away_leaves_the_other_numbers(
    alice: Any, workflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(workflow, "running")
    monkeypatch.setattr(current_app.conf, "broker_read_url", "redis+socket:///nowhere/redis.sock")

    found = tiles_for(alice)

    assert (found["queues"], found["running"]) == ({}, 1)


def test_who_may_see_the_same_costs_one_look(
    alice: Any, workflow: Any, django_user_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "KNOWN_SECONDS", 3600)
    second = django_user_model.objects.create(username="second", is_staff=True, is_superuser=True)
    with CaptureQueriesContext(connection) as first:
        tiles_for(alice)
    with CaptureQueriesContext(connection) as again:
        for _ in range(5):
            assert tiles_for(second) == tiles_for(alice)

    assert len(first) <= 12
    assert len(again) == 0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "KEYS_KEPT", 10)
    for number in range(100):
        tiles.known.get((number,), 0.0, int)

    assert len(tiles.known) <= 10
