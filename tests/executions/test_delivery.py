"""A webhook whose worker dies after the receiver answered, and before that was written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions.triggers import start_execution
from flowbuilder.stack import free_port
from tests.conftest import graph, node, wait_for, wait_until_ended
from tests.environment import ROOT

pytestmark = [pytest.mark.worker, pytest.mark.redis]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[str]:
    """Run the demo site and return the address of its sink."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/sink"
    site = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "flowbuilder.demo.site:application", "--port", str(port), "--log-level", "warning"],
        cwd=ROOT, env={**os.environ, "FLOWBUILDER_DEMO_LEDGER": str(tmp_path / "ledger.jsonl")},
    )  # fmt: skip

    def serves() -> bool:
        try:
            return httpx.get(url).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(serves, 15, "the demo site")
    yield url
    site.terminate()
    site.wait(timeout=10)


def test_a_result_whose_worker_died_after_the_answer_reaches_the_receiver_once(
    processes, alice, make_workflow, sink, tmp_path
):
    interval, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    PeriodicTask.objects.get_or_create(name="Reconcile", task="executions.reconcile", interval=interval)
    flag = tmp_path / "armed"
    flag.touch()
    workflow = make_workflow(graph([node("send", "deliver_to_webhook", Webhook_URL=sink, Payload='{"a": 1}')]))
    doomed = processes.worker(FLOWBUILDER_FAILPOINT=f"before-commit:{flag}")
    execution = start_execution(workflow, by=alice)
    wait_for(lambda: doomed.poll() == -signal.SIGKILL, 20, "the death of the worker", processes.logs)
    kept = httpx.get(sink, params={"execution": str(execution.pk)}).json()
    assert len(kept) == 1, "the receiver had answered before the worker died"
    processes.worker()
    processes.beat()

    wait_until_ended(execution, 30, processes.logs)

    run = execution.node_runs.get()
    assert (execution.status, run.deliveries) == ("completed", 2)
    assert httpx.get(sink, params={"execution": str(execution.pk)}).json() == kept
    assert "repeated" in json.loads(run.outputs)["Response Body"], "the second request carried the same key"
    assert kept[0]["headers"]["idempotency-key"] == f"{execution.pk}:send:0"
