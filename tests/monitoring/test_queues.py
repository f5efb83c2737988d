"""How much work waits is read from the broker that the workers use."""

from __future__ import annotations

from typing import Any

import pytest
from celery import current_app
from kombu.exceptions import OperationalError

from executions.models import WorkerLease
from monitoring.queues import QUEUES, depths
from tests.conftest import flush_redis

pytestmark = [pytest.mark.redis, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def empty_broker() -> Any:
    """Begin and end with queues that hold nothing."""
    flush_redis()
    yield
    flush_redis()


def test_messages_of_every_priority_are_counted_and_those_for_a_page_belong_to_the_browsers() -> None:
    WorkerLease.objects.create(boot="b1", hostname="here", pid=1, beat_at=0, started_at="2026-01-01T00:00Z")
    assert depths() == dict.fromkeys(QUEUES, 0)
    for queue, priority in (("default", 0), ("default", 5), ("default", 9), ("browser", 5), ("browser.b1", 5)):
        current_app.send_task("nothing", queue=queue, priority=priority)

    assert depths() == {"control": 0, "default": 3, "browser": 2, "isolated": 0}


def test_a_broker_that_is_away_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_app.conf, "broker_read_url", "redis+socket:///nowhere/redis.sock")

    with pytest.raises(OperationalError):
        depths()
