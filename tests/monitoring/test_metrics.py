"""``/metrics``: what Prometheus gets, from every process the same, and at what cost."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from executions.models import BrowserSession, DeadLetter, Execution, NodeRun, WorkerLease
from executions.store import database_now_us
from monitoring import board, clients, metrics
from monitoring.counting import count_ended
from monitoring.history import BOUNDS_MS
from monitoring.models import Counter
from monitoring.tiles import known
from recordings.models import Blob, Recording
from tests.conftest import flush_redis, graph, node, wait_for
from tests.environment import ROOT
from tests.monitoring.conftest import login_cookie, sync
from tests.monitoring.test_server import WebServer
from workflows import schedules
from workflows.models import Schedule, Workflow

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.django_db]

GRAPH = graph([node("one", "json_transform", Input_JSON={}, Transform_Rules={"a": {"value": 1}})])
Samples = dict[tuple[str, str], float]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Begin and end with empty queues, and with nothing that this process remembers."""
    flush_redis()
    known.forget()
    yield
    flush_redis()
    known.forget()


@pytest.fixture
def workflow(make_workflow: Callable[..., Workflow]) -> Workflow:
    return make_workflow(GRAPH)


def read(text: str) -> Samples:
    """Return every value by its name and what its label says."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped() -> Samples:
    """Return what this process says now."""
    known.forget()
    answer = Client().get("/metrics")
    assert answer.status_code == 200, answer.content
    return read(answer.content.decode())


def execution(workflow: Workflow, status: str, *, seconds: float | None = None, **fields: Any) -> Execution:
    """Store an execution; with ``seconds`` it took so long and ended ten seconds ago."""
    end = timezone.now() - timedelta(seconds=10)
    ended = {} if seconds is None else {"finished_at": end, "queued_at": end - timedelta(seconds=seconds)}
    return Execution.objects.create(
        workflow=workflow, version_id=workflow.version_id or "", owner=workflow.owner, trigger="manual", status=status,
        touched_at=database_now_us() - 10_000_000, **{"queued_at": end, "credits": 2, **ended, **fields},
    )  # fmt: skip


def lease(queues: str, *, age_s: float = 0, slots: int = 8, **fields: Any) -> WorkerLease:
    return WorkerLease.objects.create(
        boot=uuid4().hex, hostname="h", pid=1, queues=queues, slots=slots, started_at=timezone.now(),
        beat_at=database_now_us() - round(age_s * 1_000_000), **fields,
    )  # fmt: skip


@pytest.fixture
def busy(workflow: Workflow, settings: Any) -> Workflow:
    """A day in the life of an installation, with at least one of everything that is measured."""
    settings.BROWSER_SLOTS = 4
    open_ones = [execution(workflow, status) for status in ("queued", "queued", "running", "paused", "waiting")]
    execution(workflow, "running", parent=open_ones[2], parent_node=0, child_index=0)
    for seconds in (0.01, 0.15, 0.2, 3, 9_999_999):
        execution(workflow, "completed", seconds=seconds)
    failed = execution(workflow, "failed", seconds=30)
    for number, code in enumerate(("timeout", "timeout", "network")):
        NodeRun.objects.create(
            execution=failed,
            phase_index=0,
            node_index=number,
            node_id="n",
            node_type="x",
            status="failed",
            error_code=code,
        )
    worker = lease("control,default,browser", age_s=4)
    lease("isolated", slots=2, disk_percent=30, memory_percent=60)
    lease("beat", slots=0, disk_percent=40, memory_percent=50)
    lease("control,default", age_s=100, disk_percent=99, memory_percent=99)
    NodeRun.objects.create(
        execution=open_ones[2], phase_index=0, node_index=0, node_id="n", node_type="x", status="running", claim="c",
        worker=worker.boot, lease_until=database_now_us() + 60_000_000,
    )  # fmt: skip
    BrowserSession.objects.create(
        execution=open_ones[2], boot=worker.boot, queue="q", status="live", opened_at=timezone.now()
    )
    schedules.set_schedule(workflow, "0 0 * * *", "UTC")
    Schedule.objects.update(next_run_at=timezone.now() - timedelta(seconds=90))
    DeadLetter.objects.create(kind="node", first_failed_at=timezone.now(), last_failed_at=timezone.now())
    for size in (1000, 234):
        Recording.objects.create(workflow_name="w", started_at=timezone.now(), file_size_bytes=size)
    Blob.objects.create(sha256="a" * 64, size_bytes=5000)
    count_ended()
    return workflow


@pytest.mark.row("S2-41")
@pytest.mark.row("S2-42")
@pytest.mark.row("S2-43")
@pytest.mark.row("S2-44")
def test_every_number_is_that_of_the_rows(busy: Workflow) -> None:
    found = scraped()

    assert {key: value for key, value in found.items() if "bucket" not in key[0]} == {
        ("flowbuilder_executions", "queued"): 2,
        ("flowbuilder_executions", "running"): 1,
        ("flowbuilder_executions", "paused"): 1,
        ("flowbuilder_executions", "waiting"): 1,
        ("flowbuilder_executions_ended_total", "completed"): 5,
        ("flowbuilder_executions_ended_total", "completed_with_errors"): 0,
        ("flowbuilder_executions_ended_total", "failed"): 1,
        ("flowbuilder_executions_ended_total", "cancelled"): 0,
        ("flowbuilder_execution_duration_seconds_count", ""): 6,
        ("flowbuilder_execution_duration_seconds_sum", ""): pytest.approx(10_000_032.36),
        ("flowbuilder_credits_total", ""): 12,
        ("flowbuilder_node_errors_total", "timeout"): 2,
        ("flowbuilder_node_errors_total", "network"): 1,
        ("flowbuilder_queue_messages", "control"): 0,
        ("flowbuilder_queue_messages", "default"): 0,
        ("flowbuilder_queue_messages", "browser"): 0,
        ("flowbuilder_queue_messages", "isolated"): 0,
        ("flowbuilder_workers", "worker"): 1,
        ("flowbuilder_workers", "isolated"): 1,
        ("flowbuilder_workers", "beat"): 1,
        ("flowbuilder_workers_silent", ""): 1,
        ("flowbuilder_worker_lease_age_seconds", ""): pytest.approx(9, abs=6),
        ("flowbuilder_worker_slots", ""): 10,
        ("flowbuilder_worker_slots_busy", ""): 1,
        ("flowbuilder_browser_slots", ""): 4,
        ("flowbuilder_browser_slots_busy", ""): 1,
        ("flowbuilder_disk_used_ratio", ""): 0.4,
        ("flowbuilder_memory_used_ratio", ""): 0.6,
        ("flowbuilder_schedule_lag_seconds", ""): pytest.approx(100, abs=12),
        ("flowbuilder_socket_clients", ""): 0,
        ("flowbuilder_redis_up", ""): 1,
        ("flowbuilder_dead_letters", ""): 1,
        ("flowbuilder_alerts_firing", "info"): 0,
        ("flowbuilder_alerts_firing", "warning"): 0,
        ("flowbuilder_alerts_firing", "critical"): 0,
        ("flowbuilder_recordings", ""): 2,
        ("flowbuilder_recording_bytes", ""): 1234,
        ("flowbuilder_blob_bytes", ""): 5000,
    }
    buckets = {le: value for (name, le), value in found.items() if name.endswith("_bucket")}
    assert len(buckets) == 17
    assert (buckets["0.05"], buckets["0.1"], buckets["0.2"], buckets["5.0"], buckets["50.0"]) == (1, 1, 3, 4, 5)
    assert (buckets["5000.0"], buckets["+Inf"]) == (5, 6)
    assert list(buckets.values()) == sorted(buckets.values())


def test_the_bounds_of_the_histogram_are_told_apart_when_counting() -> None:
    assert {bound * 1000 for bound in metrics.DURATIONS_S} <= set(BOUNDS_MS)


@pytest.mark.parametrize("filled", [False, True])
def test_prometheus_accepts_it(filled: bool, request: pytest.FixtureRequest) -> None:
    """Prometheus' own checker reads it; in CI it has to be there."""
    promtool = shutil.which("promtool") or ""
    if not promtool:
        message = "promtool was not found. Debian/Ubuntu: apt install prometheus"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    if filled:
        request.getfixturevalue("busy")
        Counter.objects.create(name="node_errors", label='quo"te\\ \n {}', value=1)

    answer = Client().get("/metrics")

    assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
    checked = subprocess.run([promtool, "check", "metrics"], input=answer.content, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_who_asks_for_openmetrics_gets_it(busy: Workflow) -> None:
    answer = Client().get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain"})

    assert answer["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.content.endswith(b"# EOF\n")


def test_the_table_in_the_documentation_is_what_is_served(busy: Workflow) -> None:
    document = (ROOT / "docs" / "monitoring.md").read_text()
    table = {
        name: (kind, label.strip("`"))
        for name, kind, label in re.findall(r"^\| `(flowbuilder_\w+)` \| (\w+) \| ?(\S*) ?\|", document, re.MULTILINE)
    }
    served = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            next((label for sample in family.samples for label in sample.labels), ""),
        )
        for family in text_string_to_metric_families(Client().get("/metrics").content.decode())
    }

    assert table == served
    used = set(re.findall(r"flowbuilder_[a-z_]+", document))
    assert used <= served.keys() | {"flowbuilder_execution_duration_seconds_bucket"}


def test_a_scrape_costs_a_dozen_queries_however_much_there_is(busy: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    with CaptureQueriesContext(connection) as few:
        scraped()
    for number in range(30):
        execution(busy, "running")
        execution(busy, "failed", seconds=number)
        lease("control,default")
        Counter.objects.create(name="node_errors", label=f"code{number}", value=1)
    count_ended()
    known.forget()
    with CaptureQueriesContext(connection) as many:
        scraped()

    assert len(many) == len(few) <= 16

    monkeypatch.setattr(metrics, "KNOWN_SECONDS", 3600)
    scraped()
    with CaptureQueriesContext(connection) as again:
        assert Client().get("/metrics").status_code == 200
    assert len(again) == 0


def test_without_redis_the_rest_is_there(busy: Workflow, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    found = scraped()

    assert found["flowbuilder_redis_up", ""] == 0
    assert ("flowbuilder_socket_clients", "") not in found
    assert found["flowbuilder_executions", "queued"] == 2


def test_without_the_database_there_is_no_answer_that_could_be_believed(busy: Workflow) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {Counter._meta.db_table} RENAME TO elsewhere")

    answer = Client().get("/metrics")

    assert answer.status_code == 503
    assert answer.content == b"The database does not answer.\n"


# --------------------------------------------------------------------------- who may ask


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("192.0.2.7", {}, 403),
        ("", {}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}, 403),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.7"}, 403),
        ("127.0.0.1", {"X-Real-IP": "192.0.2.7"}, 403),
    ],
)
def test_without_a_token_only_this_machine_is_answered(address: str, headers: dict[str, str], status: int) -> None:
    assert Client(REMOTE_ADDR=address).get("/metrics", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        ("Basic right-token", 401),
        ("Bearer right-token", 200),
        ("bearer right-token", 200),
        ("Bearer rïght-token", 401),
    ],
)
def test_with_a_token_everybody_has_to_know_it(authorization: str | None, status: int, settings: Any) -> None:
    settings.METRICS_TOKEN = "right-token"
    headers = {} if authorization is None else {"Authorization": authorization}
    for address in ("127.0.0.1", "192.0.2.7"):
        answer = Client(REMOTE_ADDR=address).get("/metrics", headers=headers)
        assert answer.status_code == status
        assert status == 200 or answer["WWW-Authenticate"] == "Bearer"


def test_only_reading_is_answered() -> None:
    assert Client().post("/metrics").status_code == 405
    assert Client().head("/metrics").status_code == 200


# --------------------------------------------------------------------------- many processes


async def test_every_web_process_says_the_same_and_counts_the_sockets_of_all(
    make_run: Callable[..., Any], live_redis: Any, tmp_path: Path
) -> None:
    run = await sync(make_run)
    servers = [WebServer(live_redis.url, tmp_path / f"web{number}.log") for number in range(2)]
    await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
    path, cookie = f"/ws/executions/{run.id}/logs", await sync(login_cookie, "alice")

    def said(server: WebServer) -> Samples:
        return read(httpx.get(f"{server.origin}/metrics", timeout=30).text)

    async def all_say(count: int, *asked: WebServer) -> None:
        def agree() -> bool:
            return all(said(server)["flowbuilder_socket_clients", ""] == count for server in asked)

        await sync(wait_for, agree, 60, f"{count} sockets")

    try:
        async with servers[0].connect(path, cookie), servers[1].connect(path, cookie):
            async with servers[1].connect(path, cookie):
                await all_say(3, *servers)
                assert said(servers[0]) == said(servers[1])
            await all_say(2, *servers)
            await sync(servers[0].kill, signal.SIGTERM)  # takes its number back
            await all_say(1, servers[1])
    finally:
        for server in servers:
            if server.process is not None and server.process.poll() is None:
                await sync(server.kill)


async def test_a_process_that_ends_takes_back_a_number_that_it_told_a_moment_ago(
    live_redis: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(clients, "KEY", "sockets of this test")
    monkeypatch.setattr(board, "PAUSE_SECONDS", 3600)
    own = clients.Clients()
    with own.counted():
        await sync(wait_for, lambda: clients.total() == 1, 30, "its number")

    await own.close()

    with live_redis.client() as client:
        assert not client.exists(clients.KEY)


def test_sockets_of_a_process_that_was_killed_are_forgotten(live_redis: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(clients, "KEY", "sockets of this test")
    with live_redis.client() as client:
        now = client.time()[0]
        client.hset(clients.KEY, mapping={"lives": f"{now - 25} 2", "killed": f"{now - 31} 5", "nonsense": "many"})

        assert clients.total() == 2
        assert client.hkeys(clients.KEY) == ["lives"]
        client.delete(clients.KEY)
