"""When each node of an execution was queued, began and ended, and which chain of nodes decided how long it took."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.db.models import Count, Q
from django.utils import timezone

from executions import report, states
from executions.context import plan_of
from executions.models import Execution, NodeRun
from executions.report import after_ms
from executions.store import us_to_datetime
from recordings.timing import NodeTimes, Outline, critical_path_of
from workflows.errors import WorkflowError

CHAIN_SHOWN: Final = 500
"""How many nodes of the critical path one answer names; its length is always complete."""
TURNS_SHOWN: Final = 100
"""How many child executions one answer has bars of; their numbers are always complete."""


def timeline(execution: Execution, limit: int, offset: int) -> dict[str, Any]:
    """Return a page of bars in the order in which nodes run, the critical path of all, and the first child executions.

    At most five queries.

    Times are milliseconds since the execution was queued. ``queued_ms`` of a bar is when the message for the node was
    sent, None when the process that opened the phase kept it for itself; ``now_ms`` is how old the execution is, or
    was at its end. What a retry took over has no times. Costs about 20 µs for each node run of the execution.
    """
    since = execution.queued_at
    names = report.node_names(execution)
    chain = critical_path(execution)
    critical = {node_id for node_id, _ in chain}
    runs = execution.node_runs.order_by("phase_index", "node_index", "iteration").defer("outputs")
    return {
        "queued_at": since.isoformat(timespec="milliseconds"),
        "now_ms": after_ms(since, execution.finished_at or timezone.now()),
        "started_ms": after_ms(since, execution.started_at),
        "finished_ms": after_ms(since, execution.finished_at),
        "items": [_bar(run, since, names, critical) for run in runs[offset : offset + limit]],
        "count": execution.node_runs.count(),
        "critical_ms": round(sum(seconds for _, seconds in chain) * 1000, 3),
        "critical_count": len(chain),
        "critical": [
            {"node_id": node_id, "name": names.get(node_id, node_id), "duration_ms": round(seconds * 1000, 3)}
            for node_id, seconds in chain[:CHAIN_SHOWN]
        ],
        **_turns(execution, names),
    }


def _turns(execution: Execution, names: dict[str, str]) -> dict[str, Any]:
    """Return the bars of the first child executions (turns of loops, subflows), and how many there are. Two queries."""
    children = execution.children.order_by()
    counted = children.aggregate(
        count=Count("pk"),
        ended=Count("pk", filter=Q(status__in=states.TERMINAL)),
        failed=Count("pk", filter=Q(status=states.FAILED)),
    )
    shown = children.order_by("parent_node", "child_index").select_related("workflow") if counted["count"] else ()
    nodes = [str(node.get("id")) for node in execution.version.definition.get("nodes", ())]
    return {
        "turns": [_turn(child, execution.queued_at, nodes, names) for child in shown[:TURNS_SHOWN]],
        "turn_count": counted["count"],
        "turns_ended": counted["ended"],
        "turns_failed": counted["failed"],
    }


def _turn(child: Execution, since: datetime, nodes: list[str], names: dict[str, str]) -> dict[str, Any]:
    place = -1 if child.parent_node is None else child.parent_node
    node_id = nodes[place] if 0 <= place < len(nodes) else ""
    return {
        "id": str(child.pk),
        "node_id": node_id,
        "name": names.get(node_id, node_id),
        "what": f"Turn {(child.child_index or 0) + 1}" if child.scope else child.workflow.name,
        "status": child.status,
        "queued_ms": after_ms(since, child.queued_at),
        "started_ms": after_ms(since, child.started_at),
        "finished_ms": after_ms(since, child.finished_at),
    }


def critical_path(execution: Execution) -> list[tuple[str, float]]:
    """Return the chain of nodes that took longest, with the seconds of each, as a recording's ``critical_path`` does.

    Of an execution that goes on it is that of the nodes which have ended. One query.
    """
    found = Outline(wires=_wires(execution))
    rows = execution.node_runs.order_by("phase_index", "node_index").exclude(status=states.SKIPPED)
    rows = rows.exclude(finished_at__lt=execution.queued_at)  # what a retry took over
    for node_id, phase, status, began, ended in rows.values_list(
        "node_id", "phase_index", "status", "started_at", "finished_at"
    ):
        times = NodeTimes(node_id, phase, began.timestamp() if began else 0.0, ended.timestamp() if ended else 0.0)
        times.status, times.runs = status, int(began is not None and ended is not None)
        times.seconds = max(0.0, times.ended - times.started) if times.runs else 0.0
        found.nodes[node_id] = times
    return critical_path_of(found)


def _wires(execution: Execution) -> list[tuple[str, str]]:
    try:
        return list(plan_of(execution.version_id, execution.scope)[0].edges())
    except WorkflowError:
        return []


def _bar(run: NodeRun, since: datetime, names: dict[str, str], critical: set[str]) -> dict[str, Any]:
    taken_over = run.finished_at is not None and run.finished_at < since
    began = None if taken_over else after_ms(since, run.started_at)
    queued = after_ms(since, us_to_datetime(run.dispatched_at)) if run.dispatched_at else None
    return {
        "node_id": run.node_id,
        "name": names.get(run.node_id, run.node_id),
        "type": run.node_type,
        "phase": run.phase_index,
        "status": run.status,
        "attempt": run.attempt,
        "queued_ms": queued if queued is None or began is None else min(queued, began),
        "started_ms": began,
        "finished_ms": None if taken_over else after_ms(since, run.finished_at),
        "critical": run.node_id in critical,
        "error": run.error.strip().partition("\n")[0][:500] or None,
    }
