"""Every page of the admin says what keeps the installation from its work, as long as it does."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from executions.models import WorkerLease
from monitoring import health
from monitoring.health import (
    NO_BEAT,
    NO_WORKER,
    PATIENCE_SECONDS,
    REDIS_FULL,
    REDIS_SILENT,
    Trouble,
    check_redis,
    troubles,
)
from tests.monitoring.test_views import lease

pytestmark = [pytest.mark.redis, pytest.mark.django_db]

PAGES = ("/admin/", "/admin/monitoring/", "/admin/executions/execution/", "/admin/password_change/")


@pytest.fixture(autouse=True)
def everything_serves(live_redis: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a worker and a beat live, and every page ask Redis anew."""
    monkeypatch.setattr(health, "KEPT_SECONDS", 0)
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 30)
    monkeypatch.setattr(health, "_redis", health._Redis())
    lease()
    lease("beat")
    yield
    if live_redis.process is not None:
        live_redis.process.send_signal(signal.SIGCONT)


@pytest.fixture
def client(bob: Any) -> Client:
    """Return somebody who may use the admin and sees nothing of others."""
    found = Client()
    found.force_login(bob)
    return found


def told(client: Client, page: str = "/admin/") -> list[str]:
    """Return what a page says at its top, each as one text."""
    answer = client.get(page)
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    content = answer.content.decode()
    found = re.search(r'<main.*?<div class="adm-troubles" role="status" aria-label="[^"]+">(.*?)</div>', content, re.S)
    if not found:
        assert "adm-troubles" not in content
        return []
    assert content.index("adm-troubles") < content.index('<div id="content"')
    return [unescape(re.sub(r"<[^>]+>", "", line)).strip() for line in re.findall(r"<p.*?</p>", found[1], re.S)]


def said(*expected: Trouble) -> list[str]:
    """Return how pages write ``expected``."""
    return [f"{trouble.what} {trouble.advice}" for trouble in expected]


def test_a_page_says_nothing_while_everything_serves(client):
    assert [told(client, page) for page in PAGES] == [[]] * len(PAGES)


def test_every_page_says_that_redis_does_not_answer_until_it_does(client, live_redis):
    live_redis.kill()

    assert [told(client, page) for page in PAGES] == [said(REDIS_SILENT)] * len(PAGES)
    assert str(live_redis.port) not in client.get("/admin/").content.decode()

    live_redis.start()
    assert told(client) == []


def test_a_full_redis_is_said_until_there_is_room(client, live_redis):
    with live_redis.client() as redis:
        redis.set("ballast", "x" * 4_000_000)
        redis.config_set("maxmemory", 2_000_000)

        assert told(client) == said(REDIS_FULL)

        redis.delete("ballast")
        redis.config_set("maxmemory", 64_000_000)
        assert told(client) == []


def test_missing_workers_and_beats_are_said_until_they_live(client, settings):
    WorkerLease.objects.update(beat_at=int((time.time() - health.LIVE_SECONDS - 1) * 1_000_000))
    lease("isolated")  # it starts nothing

    assert told(client) == said(NO_WORKER, NO_BEAT)

    settings.NO_BEAT = True
    assert told(client) == said(NO_WORKER)
    lease()
    assert told(client) == []


def test_a_redis_that_hangs_costs_one_page_a_second_and_the_others_nothing(client, live_redis, monkeypatch):
    asked: list[float] = []

    def check(seconds: float) -> str:
        asked.append(seconds)
        return check_redis(seconds)

    monkeypatch.setattr(health, "KEPT_SECONDS", 600)
    monkeypatch.setattr(health, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(health, "check_redis", check)
    os.kill(live_redis.process.pid, signal.SIGSTOP)
    once: list[float] = []
    while not once or (min(once) >= PATIENCE_SECONDS + 4 and len(once) < 5):  # others share the machine
        monkeypatch.setattr(health, "_redis", health._Redis())
        begun = time.monotonic()
        assert told(client) == said(REDIS_SILENT)
        once.append(time.monotonic() - begun)

    assert PATIENCE_SECONDS <= min(once) < PATIENCE_SECONDS + 4, "one question, and the page"
    asked.clear()
    assert [told(client) for _ in range(10)] == [said(REDIS_SILENT)] * 10
    assert asked == []


def test_nobody_waits_while_another_thread_asks_redis(live_redis):
    live_redis.kill()

    with health._redis._asking:
        assert troubles() == []
    assert troubles() == [REDIS_SILENT]


def test_pages_ask_redis_once_in_a_while_and_the_database_once(client, live_redis, monkeypatch):
    monkeypatch.setattr(health, "KEPT_SECONDS", 600)
    with live_redis.client() as redis:
        redis.config_resetstat()

    with CaptureQueriesContext(connection) as queries:
        for page in PAGES:
            client.get(page)

    table = WorkerLease._meta.db_table
    assert sum(table in query["sql"] for query in queries) == len(PAGES)
    with live_redis.client() as redis:
        assert redis.info("commandstats")["cmdstat_info"]["calls"] == 1


def test_whoever_may_not_use_the_admin_is_told_nothing_and_nothing_is_asked(live_redis, django_user_model):
    live_redis.kill()
    anonymous, stranger = Client(), Client()
    stranger.force_login(django_user_model.objects.create(username="nobody"))

    for visitor in (anonymous, stranger):
        with CaptureQueriesContext(connection) as queries:
            page = visitor.get("/admin/login/?next=/admin/")
        assert page.status_code == 200
        assert b"adm-troubles" not in page.content
        assert not [query for query in queries if WorkerLease._meta.db_table in query["sql"]]
