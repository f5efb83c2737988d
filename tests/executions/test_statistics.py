"""How the executions of workflows went lately."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from executions import statistics
from executions.models import Execution
from executions.statistics import Statistics
from tests.conftest import graph, node
from workflows.models import Workflow

pytestmark = [pytest.mark.django_db, pytest.mark.row("S2-11b")]


@pytest.fixture
def workflow(make_workflow: Any) -> Workflow:
    made: Workflow = make_workflow(graph([node("wait", "delay", Duration=1)]))
    return made


def ran(workflow: Workflow, status: str = "completed", days: float = 1, **fields: Any) -> Execution:
    """Store an execution that ended ``days`` ago."""
    assert workflow.version is not None
    end = timezone.now() - timedelta(days=days)
    values = {"trigger": "api", "queued_at": end, "finished_at": end, "credits": 3}
    return Execution.objects.create(
        workflow=workflow, version=workflow.version, owner=workflow.owner, status=status, **{**values, **fields}
    )


def test_what_ended_within_30_days_counts(workflow: Workflow) -> None:
    for status in ("completed", "completed", "failed", "completed_with_errors", "cancelled"):
        ran(workflow, status)
    ran(workflow, "failed", days=31)
    ran(workflow, "running", finished_at=None)

    found = statistics.of_workflows([workflow.pk])[workflow.pk]

    assert found == Statistics(completed=2, failed=2, cancelled=1, credits=15)
    assert (found.runs, found.success_rate) == (4, 50)


def test_turns_of_loops_cost_but_are_no_runs(workflow: Workflow) -> None:
    parent = ran(workflow)
    ran(workflow, "failed", parent=parent, parent_node=0, child_index=0)

    assert statistics.of_workflows([workflow.pk])[workflow.pk] == Statistics(completed=1, credits=6)
    assert statistics.last_of_workflows([workflow.pk]) == {workflow.pk: parent}


@pytest.mark.parametrize(
    ("completed", "failed", "rate"), [(0, 0, None), (3, 0, 100), (0, 3, 0), (999, 1, 99), (1, 999, 1), (2, 1, 67)]
)
def test_a_rate_is_whole_and_never_says_all_or_none_when_it_is_not(
    completed: int, failed: int, rate: int | None
) -> None:
    assert Statistics(completed=completed, failed=failed).success_rate == rate


def test_a_workflow_that_never_ran_has_no_statistics(workflow: Workflow) -> None:
    assert statistics.of_workflows([workflow.pk]) == {}
    assert statistics.last_of_workflows([workflow.pk]) == {}
    assert statistics.of_workflows([]) == {}
