"""Runs that become due together share one Chromium, also when no worker was there to take them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from executions.models import DeadLetter, Execution, WorkerLease
from executions.reconcile import reconcile
from executions.triggers import start_execution
from tests.conftest import graph, node, wait_for

RUNS = 6


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.browser
@pytest.mark.row("S2-50")
@pytest.mark.row("S2-51")
def test_due_runs_wait_for_the_first_worker_and_share_its_chromium(
    processes, alice, make_workflow, site_url, client
) -> None:
    page = graph([node("open", "launch_standard_browser", Website_URL=f"{site_url}/form.html")])
    workflow = make_workflow(page)
    due = datetime.now(UTC).replace(microsecond=0)
    for minute in range(RUNS):
        start_execution(workflow, by=None, trigger="scheduled", scheduled_for=due - timedelta(minutes=minute))
    for _ in range(5):  # with copies of the messages, as beat sends them while nobody comes
        Execution.objects.update(published_at=1)
        reconcile()
    assert Execution.objects.filter(status="queued").count() == RUNS

    processes.worker(FLOWBUILDER_LEASE_SECONDS="3")

    wait_for(lambda: Execution.objects.filter(status="completed").count() == RUNS, 60, "the end of all", processes.logs)
    wait_for(lambda: WorkerLease.objects.filter(pages=RUNS).exists(), 15, "the count of pages", processes.logs)
    lease = WorkerLease.objects.get()
    assert lease.chromium_starts == 1
    assert lease.browser_hit_rate == pytest.approx((RUNS - 1) / RUNS)
    assert not DeadLetter.objects.exists()
    client.force_login(alice)
    listed = client.get("/admin/executions/workerlease/").content.decode()
    assert "6, 83% without a start" in listed
