"""``/healthz`` and ``/readyz``."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import RequestFactory

from executions.models import WorkerLease
from monitoring import views
from monitoring.views import healthz, readyz


def lease(queues: str = "default", age_seconds: float = 0) -> WorkerLease:
    return WorkerLease.objects.create(
        boot=uuid.uuid4().hex,
        hostname="here",
        pid=1,
        queues=queues,
        started_at=datetime.now(UTC),
        beat_at=int((time.time() - age_seconds) * 1_000_000),
    )


def ready() -> tuple[int, dict[str, bool]]:
    """Return the status of ``/readyz`` and which checks are good."""

    views._known.forget()
    response = readyz(RequestFactory().get("/readyz"))
    checks = json.loads(response.content)["checks"]
    return response.status_code, {name: check["ok"] for name, check in checks.items()}


@pytest.mark.row("S2-57")
def test_alive_needs_no_database():
    # No database mark: any query would fail.
    assert healthz(RequestFactory().get("/healthz")).status_code == 200


@pytest.mark.row("S2-57")
@pytest.mark.redis
@pytest.mark.django_db
def test_ready_when_everything_serves(live_redis):
    lease()
    lease("beat")

    assert ready() == (200, {"database": True, "redis": True, "worker": True, "beat": True})


@pytest.mark.row("S2-57")
@pytest.mark.redis
@pytest.mark.django_db
def test_not_ready_without_a_worker(live_redis):
    lease("beat")
    lease("isolated")  # it starts nothing
    lease(age_seconds=21)

    assert ready() == (503, {"database": True, "redis": True, "worker": False, "beat": True})


@pytest.mark.redis
@pytest.mark.django_db
def test_not_ready_without_beat_unless_none_is_wanted(live_redis, settings):
    lease()
    lease("beat", age_seconds=21)

    assert ready() == (503, {"database": True, "redis": True, "worker": True, "beat": False})
    settings.NO_BEAT = True
    assert ready() == (200, {"database": True, "redis": True, "worker": True})


@pytest.mark.redis
@pytest.mark.django_db
def test_not_ready_without_redis_and_no_address_is_told(live_redis):
    lease()
    lease("beat")
    live_redis.kill()

    assert ready() == (503, {"database": True, "redis": False, "worker": True, "beat": True})
    assert str(live_redis.port) not in readyz(RequestFactory().get("/readyz")).content.decode()


@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_not_ready_without_tables(live_redis):
    lease()
    lease("beat")
    table = WorkerLease._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        assert ready() == (503, {"database": True, "redis": True, "worker": False, "beat": False})
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")


@pytest.mark.redis
@pytest.mark.django_db
def test_many_questions_make_a_process_look_once(live_redis, django_assert_num_queries, monkeypatch):
    monkeypatch.setattr(views, "KNOWN_SECONDS", 3600)
    lease()
    lease("beat")
    assert ready()[0] == 200
    WorkerLease.objects.all().delete()

    with django_assert_num_queries(0):
        assert {readyz(RequestFactory().get("/readyz")).status_code for _ in range(20)} == {200}
    assert ready()[0] == 503


def test_both_only_answer_reads():
    for view in (healthz, readyz):
        assert view(RequestFactory().post("/")).status_code == 405
