"""What the status of a workflow means for its starts, and that no run changes it."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from executions import ending
from executions.beat import start_due
from executions.errors import StartRefused
from executions.models import Execution
from executions.retry import retry_execution
from executions.triggers import start_execution
from tests.conftest import graph, node
from workflows import lifecycle, schedules
from workflows.models import Schedule, Workflow

pytestmark = pytest.mark.django_db(transaction=True)
QUICK = graph([node("a", "json_transform", Input_JSON={}, Transform_Rules={"x": {"value": 1}})])


def due(workflow: Workflow) -> None:
    """Let the next instant of the schedule be past."""
    Schedule.objects.filter(workflow=workflow).update(next_run_at=timezone.now() - timedelta(seconds=1))


@pytest.mark.row("S2-02")
@pytest.mark.parametrize("trigger", ["scheduled", "webhook", "manual"])
def test_only_an_active_workflow_takes_starts_but_a_paused_one_by_hand(make_workflow: Any, trigger: str) -> None:
    workflow = make_workflow(QUICK)

    lifecycle.pause(workflow)
    refused = pytest.raises(StartRefused, match="is paused") if trigger != "manual" else contextlib.nullcontext()
    with refused:
        start_execution(workflow, by=workflow.owner, trigger=trigger)
    for move in (lifecycle.archive, lifecycle.unarchive):
        move(workflow)
        with pytest.raises(StartRefused, match=f"is {workflow.status}"):
            start_execution(workflow, by=workflow.owner, trigger=trigger)
    lifecycle.publish(workflow)
    with pytest.raises(StartRefused, match="is draft; only active"):
        start_execution(workflow, by=workflow.owner, trigger=trigger)
    lifecycle.activate(workflow)

    assert start_execution(workflow, by=workflow.owner, trigger=trigger).trigger == trigger


@pytest.mark.row("S2-02")
@pytest.mark.row("S2-02b")
def test_after_a_failed_run_the_next_instant_and_a_retry_start_the_active_workflow_again(make_workflow: Any) -> None:
    workflow = make_workflow(QUICK)
    schedules.set_schedule(workflow, "0 9 * * *")
    failed = []
    for count in (1, 2):
        due(workflow)
        assert start_due() == 1
        newest = Execution.objects.order_by("-queued_at")[0]
        assert (newest.trigger, Execution.objects.count()) == ("scheduled", count)
        assert ending.fail_unseen(newest.pk, "the shop is closed", "network")
        failed.append(newest)
        workflow.refresh_from_db()
        assert (workflow.status, workflow.schedule.enabled) == ("active", True)
        assert workflow.schedule.next_run_at > timezone.now()

    failed[0].refresh_from_db()
    again = retry_execution(failed[0], failed[0].owner, from_failed=False)

    assert (again.trigger, again.status, again.retry_of) == ("retry", "queued", failed[0])
    workflow.refresh_from_db()
    assert workflow.status == "active"


@pytest.mark.row("S2-02")
def test_a_start_takes_the_published_version_and_not_the_newest(make_workflow: Any) -> None:
    workflow = make_workflow(QUICK)
    first = workflow.version
    second = workflow.save_version({**QUICK, "vars": {"x": 2}}, author=workflow.owner)

    def started() -> Any:
        fresh = Workflow.objects.get(pk=workflow.pk)
        return start_execution(fresh, by=workflow.owner).version

    assert started() == first
    lifecycle.publish(workflow)
    assert started() == second
    lifecycle.publish(workflow, 1)
    assert started() == first
