"""A workflow whose runs by themselves all fail is paused, where its settings ask for it, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from executions import context, ending, states
from executions.models import Execution
from tests.conftest import graph, node
from workflows import lifecycle, schedules
from workflows.models import AuditEntry, Workflow

pytestmark = pytest.mark.django_db(transaction=True)
QUICK = graph([node("a", "delay", Duration=0)])


@pytest.fixture
def workflow(make_workflow: Any) -> Any:
    return make_workflow(QUICK, name="shop", settings={"pause_after_failures": 3})


def run(workflow: Any, status: str = states.FAILED, trigger: str = "scheduled", **fields: Any) -> Execution:
    """Return an execution that failed just now, or one that has ended otherwise."""
    execution: Execution = Execution.objects.create(
        workflow=workflow, version=workflow.version, owner=workflow.owner, trigger=trigger, queued_at=timezone.now(),
        status=states.RUNNING if status == states.FAILED else status, **fields,
    )  # fmt: skip
    if status == states.FAILED:
        assert ending.fail_unseen(execution.pk, "the shop is closed", "network")
    return execution


def status_of(workflow: Workflow) -> str:
    workflow.refresh_from_db()
    return workflow.status


@pytest.mark.row("S2-02b")
def test_so_many_failures_in_a_row_pause_the_workflow_and_say_why(workflow: Any) -> None:
    schedules.set_schedule(workflow, "0 9 * * *")
    run(workflow)
    run(workflow)
    assert status_of(workflow) == "active"

    run(workflow)

    assert status_of(workflow) == "paused"
    assert workflow.status_reason == "3 runs in a row failed; the last error: the shop is closed"
    assert workflow.schedule.next_run_at is None
    entry = AuditEntry.objects.get(verb="pause")
    assert (entry.actor, entry.door, entry.detail["reason"]) == (None, "system", workflow.status_reason)


@pytest.mark.row("S2-02b")
def test_a_run_that_completes_begins_the_count_anew_and_cancelled_ones_do_not_count(workflow: Any) -> None:
    run(workflow)
    run(workflow)
    run(workflow, states.COMPLETED)
    run(workflow)
    run(workflow)
    run(workflow, states.CANCELLED)
    assert status_of(workflow) == "active"

    run(workflow)

    assert status_of(workflow) == "paused"


def test_what_people_start_does_not_count(workflow: Any) -> None:
    for trigger in ("manual", "api", "test", "retry", "manual"):
        run(workflow, trigger=trigger)
    run(workflow)
    run(workflow)
    run(workflow, trigger="manual")

    assert status_of(workflow) == "active"


def test_after_resume_the_count_begins_anew(workflow: Any) -> None:
    for _ in range(3):
        run(workflow)
    workflow.refresh_from_db()
    lifecycle.resume(workflow)
    assert workflow.status_reason == ""

    run(workflow)
    run(workflow)
    assert status_of(workflow) == "active"
    run(workflow)
    assert status_of(workflow) == "paused"


@pytest.mark.row("S2-02b")
@pytest.mark.parametrize("settings", [{}, {"pause_after_failures": "three"}, {"pause_after_failures": 0}])
def test_without_the_setting_no_failure_pauses_a_workflow_and_nothing_is_asked(
    make_workflow: Any, settings: dict[str, Any], django_assert_num_queries: Any
) -> None:
    workflow = make_workflow(QUICK, name="patient", settings=settings)
    for _ in range(5):
        last = run(workflow)

    assert status_of(workflow) == "active"
    known = context.load(last.pk, planned=False)
    assert known is not None
    with django_assert_num_queries(0):
        ending.pause_after_failures(known)


def test_a_failure_in_a_child_or_of_a_paused_workflow_changes_nothing(
    workflow: Any, django_assert_num_queries: Any
) -> None:
    parent = run(workflow, states.COMPLETED)
    for index in range(3):
        child = run(workflow, parent=parent, parent_node=0, child_index=index)
    known = context.load(child.pk, planned=False)
    assert known is not None
    with django_assert_num_queries(0):
        ending.pause_after_failures(known)
    assert status_of(workflow) == "active"
    lifecycle.pause(workflow)
    since = workflow.status_at

    for _ in range(3):
        run(workflow)

    assert (status_of(workflow), workflow.status_reason, workflow.status_at) == ("paused", "", since)


def test_a_run_that_completed_with_errors_is_one_that_failed(workflow: Any) -> None:
    run(workflow)
    run(workflow, states.COMPLETED_WITH_ERRORS)
    run(workflow)

    assert status_of(workflow) == "paused"
    assert workflow.status_reason == "3 runs in a row failed; the last error: the shop is closed"


def test_the_reason_says_so_when_the_last_run_completed_with_errors(workflow: Any) -> None:
    run(workflow)
    run(workflow)
    last = run(workflow, states.COMPLETED_WITH_ERRORS)
    known = context.load(last.pk, planned=False)
    assert known is not None

    ending.pause_after_failures(known)

    assert status_of(workflow) == "paused"
    assert workflow.status_reason.endswith("the last error: the run completed, but nodes of it failed")
