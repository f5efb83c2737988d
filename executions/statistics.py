"""How the executions of workflows went lately: for lists of workflows, by a fixed number of queries."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, OuterRef, Q, Subquery, Sum
from django.utils import timezone

from executions import states
from executions.models import Execution
from workflows.models import Workflow

DAYS = 30
"""How far statistics look back."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The executions of a workflow that ended within the last ``DAYS`` days.

    ``runs`` are those that people and triggers started and nobody cancelled; ``credits`` are what all of them cost,
    turns of loops and subflows included.
    """

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    credits: int = 0

    @property
    def runs(self) -> int:
        """Return how many ended by themselves."""
        return self.completed + self.failed

    @property
    def success_rate(self) -> int | None:
        """Return the share of ``runs`` that completed, in whole percent; 100 and 0 are exact, None is of no runs."""
        if not self.runs:
            return None
        share = round(self.completed * 100 / self.runs)
        if self.completed and self.failed:
            return min(max(share, 1), 99)
        return share


def of_workflows(keys: Collection[UUID], now: datetime | None = None) -> dict[UUID, Statistics]:
    """Return the statistics of each workflow of ``keys`` that has any. One query, answered from one index alone.

    The keys are not in that index, so nothing counts them.
    """
    since = (now or timezone.now()) - timedelta(days=DAYS)
    rows = (
        Execution.objects.filter(workflow__in=keys, finished_at__gte=since)
        .order_by()
        .values_list("workflow", "status")
        .annotate(runs=Count("workflow", filter=Q(parent=None)), cost=Sum("credits"))
    )
    return {key: _added(found) for key, found in _grouped(rows).items()}


def last_of_workflows(keys: Collection[UUID]) -> dict[UUID, Execution]:
    """Return the newest execution of each workflow of ``keys`` that a person or trigger started. Two queries."""
    newest = Execution.objects.filter(workflow=OuterRef("pk"), parent=None).order_by("-queued_at").values("pk")[:1]
    found = (
        Workflow.objects.filter(pk__in=keys).order_by().annotate(last=Subquery(newest)).values_list("last", flat=True)
    )
    rows = Execution.objects.filter(pk__in=[key for key in found if key]).only("workflow", "status", "queued_at")
    return {execution.workflow_id: execution for execution in rows}


def _grouped(rows: Iterable[tuple[UUID, str, int, int | None]]) -> dict[UUID, list[tuple[str, int, int]]]:
    found: dict[UUID, list[tuple[str, int, int]]] = {}
    for key, status, runs, cost in rows:
        found.setdefault(key, []).append((status, runs, cost or 0))
    return found


def _added(rows: list[tuple[str, int, int]]) -> Statistics:
    def count(*wanted: Any) -> int:
        return sum(runs for status, runs, _ in rows if status in wanted)

    return Statistics(
        completed=count(states.COMPLETED),
        failed=count(*states.FAILURES),
        cancelled=count(states.CANCELLED),
        credits=sum(cost for _, _, cost in rows),
    )
