"""What an execution looks like to people and programs: one description for API, command line and sockets.

Reads rows and changes nothing. The number of queries of each function does not grow with the execution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from executions import states
from executions.events import outputs_of
from executions.models import Execution, NodeRun
from recordings.models import Recording
from workflows.definition import Definition
from workflows.errors import DefinitionError
from workflows.models import WorkflowVersion
from workflows.registry import NODE_REGISTRY

ENDED = states.TERMINAL
"""Statuses after which nothing more happens."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far an execution is. ``seq`` numbers its last event; ``done`` of ``total`` node runs have ended."""

    status: str
    seq: int
    done: int
    total: int

    @property
    def ended(self) -> bool:
        """Return whether the status is final."""
        return self.status in ENDED

    @property
    def progress(self) -> dict[str, int]:
        """Return ``{"done", "total"}`` as it is sent to clients."""
        return {"done": self.done, "total": self.total}


def with_progress(executions: QuerySet[Execution]) -> QuerySet[Any]:
    """Return ``executions`` with ``done``, the number of node runs that have ended, on every row."""
    ended = (
        NodeRun.objects.filter(execution=OuterRef("pk"), status__in=states.TERMINAL)
        .order_by()
        .values("execution")
        .annotate(count=Count("pk"))
        .values("count")
    )
    return executions.annotate(done=Coalesce(Subquery(ended, output_field=IntegerField()), 0))


def for_summary(executions: QuerySet[Execution]) -> QuerySet[Any]:
    """Return ``executions`` with all that ``summary`` reads, in one query."""
    return with_progress(executions).select_related("workflow", "version").defer("version__definition", "input")


def heads(execution_ids: Iterable[UUID | str]) -> dict[str, Head]:
    """Return how far each execution is, by id as text; unknown ids are left out. One query."""
    rows = with_progress(Execution.objects.filter(pk__in=list(execution_ids)).order_by()).values_list(
        "pk", "status", "seq", "done", "node_count"
    )
    return {str(pk): Head(status, seq, done, max(total, done)) for pk, status, seq, done, total in rows}


def head(execution_id: UUID | str) -> Head | None:
    """Return how far one execution is, or None when there is none. One query."""
    return heads([execution_id]).get(str(execution_id))


def summaries(executions: Iterable[Execution]) -> list[dict[str, Any]]:
    """Return the short form of each of ``executions``, which must come from ``for_summary``. At most one more query."""
    page = list(executions)
    failed = {execution.version_id for execution in page if execution.error_node}
    rows = WorkflowVersion.objects.filter(pk__in=failed).values_list("pk", "definition") if failed else ()
    names = {pk: _names(definition) for pk, definition in rows}
    return [summary(execution, names.get(execution.version_id)) for execution in page]


def summary(execution: Execution, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the short form of ``execution``, which must come from ``for_summary``. No query.

    ``names`` are what people call its nodes; without them a failed node is called by its id.
    """
    done = int(getattr(execution, "done", 0))
    return {
        "id": str(execution.pk),
        "workflow_id": str(execution.workflow_id),
        "workflow_name": execution.workflow.name,
        "version": execution.version.number,
        "status": execution.status,
        "trigger": execution.trigger,
        "queued_at": _iso(execution.queued_at),
        "started_at": _iso(execution.started_at),
        "finished_at": _iso(execution.finished_at),
        "duration_ms": execution.duration_ms,
        "credits": execution.credits,
        "error": execution.error or None,
        "error_node": execution.error_node or None,
        "error_node_name": (names or {}).get(execution.error_node, execution.error_node) or None,
        "progress": {"done": done, "total": max(execution.node_count, done)},
        "last_seq": execution.seq,
    }


def detail(execution: Execution) -> dict[str, Any]:
    """Return the long form of ``execution``: summary, phases, node runs, definition, recording. Four queries."""
    definition = execution.version.definition
    names = _names(definition)
    runs = execution.node_runs.order_by("phase_index", "node_index", "iteration").defer("outputs")
    return {
        **summary(execution, names),
        "phases": phases(execution),
        "nodes": [_node(run, names) for run in runs],
        "node_names": names,
        "definition": definition,
        "recording_id": recording_id(execution),
    }


def result(execution: Execution) -> dict[str, Any]:
    """Return what a finished execution gave, as ``executions run --json`` prints it. Outputs are complete."""
    definition = execution.version.definition
    names = _names(definition)
    runs = list(execution.node_runs.order_by("phase_index", "node_index", "iteration").defer("outputs"))
    return {
        "execution_id": str(execution.pk),
        "workflow": execution.workflow.name,
        "version": execution.version.number,
        "status": execution.status,
        "duration_ms": execution.duration_ms,
        "credits": execution.credits,
        "error": execution.error or None,
        "error_node": execution.error_node or None,
        "phases": len(phases(execution)),
        "nodes": [_node(run, names) for run in runs],
        "outputs": outputs_of(execution.pk, {run.node_id for run in runs}),
        "recording_id": recording_id(execution),
    }


def phases(execution: Execution) -> list[dict[str, Any]]:
    """Return the phases of ``execution`` that were opened, in order. One query."""
    return [
        {
            "index": phase.index,
            "status": phase.status,
            "node_count": phase.node_count,
            "duration_ms": _milliseconds(phase.started_at, phase.finished_at),
        }
        for phase in execution.phases.order_by("index")
    ]


def recording_id(execution: Execution) -> str | None:
    """Return the id of the recording of ``execution``, or None while it has none. One query."""
    found = Recording.objects.filter(execution_id=execution.pk).values_list("pk", flat=True).first()
    return None if found is None else str(found)


def _node(run: NodeRun, names: dict[str, str]) -> dict[str, Any]:
    return {
        "node_id": run.node_id,
        "name": names.get(run.node_id, run.node_id),
        "type": run.node_type,
        "status": run.status,
        "attempt": run.attempt,
        "phase": run.phase_index,
        "iteration": run.iteration,
        "duration_ms": run.duration_ms,
        "error": run.error or None,
        "error_code": run.error_code or None,
        "credits": run.credits,
    }


def _names(definition: dict[str, Any]) -> dict[str, str]:
    """Return the name that people read for each node: its own label, else that of its type."""
    try:
        nodes = Definition.from_json(definition).nodes
    except DefinitionError:
        return {}
    types = {kind: executor.description.label for kind, executor in NODE_REGISTRY.items()}
    return {node.id: node.label or types.get(node.type, node.id) for node in nodes}


def _iso(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="milliseconds")


def _milliseconds(start: datetime | None, end: datetime | None) -> int | None:
    return None if start is None or end is None else round((end - start).total_seconds() * 1000)
