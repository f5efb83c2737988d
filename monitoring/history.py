"""What ended in a span of time: how many executions, how they ended, how long they took, what they cost.

Everything is answered from the totals that ``counting`` writes, at a cost that does not depend on how many executions
there were. Times are those of the database. Totals are by the minute, and after eight days by the hour: a span begins
at the start of its first minute (hour) and a second or two pass before an end is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from django.db.models import QuerySet, Sum

from executions import states
from monitoring.models import NodeErrors, Total

_DECADE = (1, 1.5, 2, 3, 5, 7.5)
BOUNDS_MS: Final = tuple(int(10 * 10**power * step) for power in range(8) for step in _DECADE)
"""Durations are told apart by these upper bounds: 10 ms to about 9 days, each at most two thirds above the one before."""
BEYOND_MS: Final = 10**12
"""Stands for no bound."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What ended in a span. ``runs`` are all that people and triggers started; the parts are what became of them.

    ``failed`` are those in which something failed. ``credits`` are what all cost, turns of loops and subflows included.
    ``durations`` counts runs by the upper bound of their time from queued to ended, in milliseconds.
    """

    runs: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    credits: int = 0
    duration_ms: int = 0
    by_status: Mapping[str, int] = field(default_factory=dict)
    durations: Mapping[int, int] = field(default_factory=dict)

    @property
    def success_rate(self) -> float | None:
        """Return the share that completed of what nobody cancelled, 0 to 1; None when nothing of it ended."""
        ended = self.completed + self.failed
        return self.completed / ended if ended else None

    @property
    def p95_ms(self) -> int | None:
        """Return the time within which 95 % of the runs ended, to within a bucket; None without runs."""
        return self.percentile_ms(0.95)

    def percentile_ms(self, share: float) -> int | None:
        """Return the time within which ``share`` of the runs ended, read between the bounds of its bucket."""
        wanted = share * self.runs
        below, lower = 0, 0
        for bound in sorted(self.durations):
            count = self.durations[bound]
            if below + count >= wanted:
                return lower if bound == BEYOND_MS else round(lower + (bound - lower) * (wanted - below) / count)
            below, lower = below + count, bound
        return None


@dataclass(frozen=True, slots=True)
class Minute:
    """What ended in one minute; ``failed`` and ``completed`` as in ``Sums``."""

    at: datetime
    runs: int
    completed: int
    failed: int
    credits: int


def ended(since: datetime, until: datetime, *, owner: Any = None, workflow: UUID | None = None) -> Sums:
    """Return what ended from ``since`` up to ``until``, of one owner (a key) or workflow or of all. One query."""
    rows = (
        _between(Total, since, until, owner, workflow)
        .values_list("status", "up_to_ms")
        .annotate(Sum("runs"), Sum("credits"), Sum("duration_ms"))
    )
    by_status: dict[str, int] = {}
    durations: dict[int, int] = {}
    credits = duration = 0
    for status, up_to, runs, cost, lasted in rows:
        credits, duration = credits + cost, duration + lasted
        if runs:
            by_status[status] = by_status.get(status, 0) + runs
            durations[up_to] = durations.get(up_to, 0) + runs
    return Sums(
        runs=sum(by_status.values()),
        completed=by_status.get(states.COMPLETED, 0),
        failed=sum(by_status.get(status, 0) for status in states.FAILURES),
        cancelled=by_status.get(states.CANCELLED, 0),
        credits=credits,
        duration_ms=duration,
        by_status=by_status,
        durations=durations,
    )


def minutes(since: datetime, until: datetime, *, owner: Any = None, workflow: UUID | None = None) -> list[Minute]:
    """Return the minutes from ``since`` up to ``until`` in which something ended, the oldest first. One query.

    A week has 10,080 of them at most.
    """
    rows = (
        _between(Total, since, until, owner, workflow)
        .values_list("minute", "status")
        .annotate(Sum("runs"), Sum("credits"))
    )
    found: dict[int, dict[str, int]] = {}
    costs: dict[int, int] = {}
    for minute, status, runs, cost in rows:
        found.setdefault(minute, {})[status] = runs
        costs[minute] = costs.get(minute, 0) + cost
    return [
        Minute(
            at=datetime.fromtimestamp(minute * 60, UTC),
            runs=sum(ends.values()),
            completed=ends.get(states.COMPLETED, 0),
            failed=sum(ends.get(status, 0) for status in states.FAILURES),
            credits=costs[minute],
        )
        for minute, ends in sorted(found.items())
    ]


def node_errors(since: datetime, until: datetime, *, owner: Any = None, workflow: UUID | None = None) -> dict[str, int]:
    """Return how many nodes failed for good, by error code, in executions that ended in the span. One query."""
    rows = _between(NodeErrors, since, until, owner, workflow).values_list("code").annotate(Sum("count"))
    return dict(rows)


Rows = TypeVar("Rows", Total, NodeErrors)


def _between(model: type[Rows], since: datetime, until: datetime, owner: Any, workflow: UUID | None) -> QuerySet[Rows]:
    rows: QuerySet[Rows] = model._default_manager.filter(
        minute__gte=int(since.timestamp() // 60), minute__lt=until.timestamp() / 60
    ).order_by()
    if owner is not None:
        rows = rows.filter(owner_id=owner)
    return rows if workflow is None else rows.filter(workflow_id=workflow)
