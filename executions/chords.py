"""What Celery was given for each phase of an execution: header tasks, who took them, and the callback of the chord."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.db.models import Count, Max, Min, Q

from executions import report, states
from executions.models import Execution, Phase, WorkerLease
from executions.opening import CONTROL_QUEUE
from executions.report import after_ms
from executions.store import us_to_datetime

TASKS_SHOWN: Final = 50
"""How many tasks of one phase an answer names; their number is always complete."""
NODES_SHOWN: Final = 32
"""How many nodes of one task an answer names."""
CALLBACK: Final = "executions.advance"


@dataclass(slots=True)
class _Task:
    """Node runs of one phase that were taken together, or that nobody has taken yet."""

    phase: int
    claim: str
    worker: str
    queue: str
    sent: bool
    facts: dict[str, Any]
    nodes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def key(self) -> tuple[int, str, str, str, bool]:
        return (self.phase, self.claim, self.worker, self.queue, self.sent)

    @property
    def sent_again(self) -> bool:
        """Return whether a message was sent after somebody had taken the nodes: a process died, or they had to wait."""
        return self.sent and self.facts["most_deliveries"] > 1

    @property
    def way(self) -> str:
        """Return how the nodes came to their process."""
        if self.sent:
            return "message"
        if self.claim or self.facts["completed"] < self.facts["node_count"]:
            return "kept"
        return "at_once" if self.worker else "taken_over"


def chords(execution: Execution, limit: int, offset: int, *, name_workers: bool) -> dict[str, Any]:
    """Return a page of the phases of ``execution`` with their tasks. Five queries.

    Times are milliseconds since it was queued. With ``name_workers`` workers that still live are named by host and
    process, else by the id of their start only.
    """
    phases = list(execution.phases.order_by("index")[offset : offset + limit])
    tasks = _tasks(execution, phases)
    shown = [task for of_phase in tasks.values() for task in of_phase[:TASKS_SHOWN]]
    _name_nodes(execution, shown)
    boots = {task.worker for task in shown if task.worker}
    leases = WorkerLease.objects.filter(pk__in=boots) if name_workers else WorkerLease.objects.none()
    workers = {lease.boot: f"{lease.hostname}:{lease.pid}" for lease in leases}
    sent = None if execution.published_at is None else us_to_datetime(execution.published_at)
    return {
        "start": {
            "task": "executions.start",
            "sent_ms": after_ms(execution.queued_at, sent),
            "sent_again": execution.publish_count,
            "deliveries": execution.deliveries,
        },
        "items": [_phase(execution, phase, tasks.get(phase.index, []), workers) for phase in phases],
        "count": execution.phases.count(),
    }


def _tasks(execution: Execution, phases: Sequence[Phase]) -> dict[int, list[_Task]]:
    """Return the tasks of each of ``phases``, those that began first in front. One query."""
    rows = execution.node_runs.filter(phase_index__in=[phase.index for phase in phases]).order_by()
    rows = rows.exclude(status=states.SKIPPED)
    grouped = (
        rows.annotate(sent=Q(dispatched_at__gt=0))
        .values("phase_index", "claim", "worker", "queue", "sent")
        .annotate(
            node_count=Count("pk"),
            ended=Count("pk", filter=Q(status__in=states.TERMINAL)),
            completed=Count("pk", filter=Q(status=states.COMPLETED)),
            failed=Count("pk", filter=Q(status=states.FAILED)),
            most_deliveries=Max("deliveries"),
            most_attempts=Max("attempt"),
            dispatched=Min("dispatched_at"),
            began=Min("started_at"),
            finished=Max("finished_at"),
            first=Min("node_index"),
        )
        .order_by("phase_index", "first")
    )
    found: dict[int, list[_Task]] = {}
    for row in grouped:
        task = _Task(row["phase_index"], row["claim"], row["worker"], row["queue"], row["sent"], dict(row))
        found.setdefault(task.phase, []).append(task)
    return found


def _name_nodes(execution: Execution, tasks: Iterable[_Task]) -> None:
    """Give each task its first nodes. One query."""
    by_key = {task.key: task for task in tasks}
    runs = execution.node_runs.filter(phase_index__in={task.phase for task in by_key.values()})
    names = report.node_names(execution)
    rows = runs.exclude(status=states.SKIPPED).order_by("phase_index", "node_index")
    columns = ("phase_index", "claim", "worker", "queue", "dispatched_at", "node_id", "status", "attempt", "deliveries")
    for *key, dispatched, node_id, status, attempt, deliveries in rows.values_list(*columns).iterator():
        phase, claim, worker, queue = key
        task = by_key.get((phase, claim, worker, queue, dispatched > 0))
        if task is not None and len(task.nodes) < NODES_SHOWN:
            name = names.get(node_id, node_id)
            task.nodes.append(
                {"node_id": node_id, "name": name, "status": status, "attempt": attempt, "deliveries": deliveries}
            )


def _phase(execution: Execution, phase: Phase, tasks: list[_Task], workers: dict[str, str]) -> dict[str, Any]:
    """Return one phase. One header may be kept; sent again it looks like the others, so messages are counted at least."""
    again = sum(task.sent_again for task in tasks)
    messages = max(0, phase.header_count - (again > 0 or any(not task.sent for task in tasks)))
    return {
        "index": phase.index,
        "status": phase.status,
        "node_count": phase.node_count,
        "header_count": phase.header_count,
        "started_ms": after_ms(execution.queued_at, phase.started_at),
        "finished_ms": after_ms(execution.queued_at, phase.finished_at),
        "message_count": messages,
        "sent_again": again,
        "callback": {
            "task": CALLBACK,
            "phase": phase.index + 1,
            "queue": CONTROL_QUEUE,
            "done": phase.finished_at is not None,
        }
        if messages > 1
        else None,
        "tasks": [_task(execution, task, workers) for task in tasks[:TASKS_SHOWN]],
        "task_count": len(tasks),
    }


def _task(execution: Execution, task: _Task, workers: dict[str, str]) -> dict[str, Any]:
    facts, since = task.facts, execution.queued_at
    return {
        "way": task.way,
        "sent_again": task.sent_again,
        "claim": task.claim or None,
        "queue": task.queue or None,
        "worker": task.worker or None,
        "worker_name": workers.get(task.worker),
        "node_count": facts["node_count"],
        "ended": facts["ended"],
        "failed": facts["failed"],
        "deliveries": facts["most_deliveries"],
        "attempts": facts["most_attempts"],
        "sent_ms": after_ms(since, us_to_datetime(facts["dispatched"])) if task.sent else None,
        "started_ms": after_ms(since, facts["began"]),
        "finished_ms": after_ms(since, facts["finished"]) if facts["ended"] == facts["node_count"] else None,
        "nodes": task.nodes,
    }
