"""Phases and node runs of an execution: what ran, with what, and what came out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from ninja import Field, Path, Query, Router, Schema, Status

from executions import report, states
from executions.models import Execution
from recordings.errors import RecordingError
from workflows import tokens
from workflows.api.common import ERRORS, Text

router = Router()

# Named so that programs see which statuses there are.
ExecutionStatus = Literal[states.EXECUTION_STATUSES]  # type: ignore[valid-type]
PhaseStatus = Literal[states.PHASE_STATUSES]  # type: ignore[valid-type]
NodeStatus = Literal[states.NODE_RUN_STATUSES]  # type: ignore[valid-type]


def decider(request: HttpRequest) -> Any:
    """Return the user who gets the links of approvals that they may decide; None for a token that may decide nothing."""
    token = getattr(request, "token", None)
    return request.user if token is None or tokens.allows(token, "executions:run") else None


class PhaseOut(Schema):
    """Nodes that run at the same time."""

    index: int
    status: PhaseStatus
    node_count: int
    duration_ms: int | None


class NodeOut(Schema):
    """One node's run.

    ``cpu_seconds`` and ``peak_memory_bytes`` are what it used since a worker last took it; null where that cannot be told.
    """

    node_id: str
    name: str
    type: str
    status: NodeStatus
    attempt: int
    phase: int
    iteration: int
    duration_ms: int | None
    error: str | None
    error_code: str | None
    credits: int
    cpu_seconds: float | None
    peak_memory_bytes: int | None


class NodePage(Schema):
    """One page of node runs in the order in which they run; ``count`` is of all pages."""

    items: list[NodeOut]
    count: int


class NodeDetail(NodeOut):
    """One node's run with its values.

    ``inputs`` are those of its last attempt, as the recording has them: null where nothing was recorded yet, secrets
    as ``[REDACTED]``. ``outputs`` are what it gave, null while it has given nothing or when they were removed.
    """

    started_at: str | None
    finished_at: str | None
    inputs: dict[str, Any] | None
    outputs: dict[str, Any] | None


class OutputsOut(Schema):
    """What the nodes of an execution gave, by node id: of all that completed, whatever became of the execution."""

    execution_id: UUID
    workflow_id: UUID
    version: int
    status: ExecutionStatus
    error: str | None
    error_node: str | None
    outputs: dict[str, dict[str, Any]]


class NodeFilters(Schema):
    """Which node runs, and which page of them."""

    status: NodeStatus | None = None
    phase: int | None = Field(None, ge=0, le=2_147_483_647)
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=10_000)


@router.get("/{execution_id}/phases", response={200: list[PhaseOut], **ERRORS})
def list_phases(request: HttpRequest, execution_id: UUID) -> Any:
    """List the phases that were opened, in order."""
    return report.phases(_execution(request, execution_id))


@router.get("/{execution_id}/nodes", response={200: NodePage, **ERRORS})
def list_nodes(request: HttpRequest, execution_id: UUID, filters: Query[NodeFilters]) -> Any:
    """List the runs of nodes; those that have not begun have none."""
    execution = _execution(request, execution_id)
    rows = execution.node_runs.all()
    if filters.status is not None:
        rows = rows.filter(status=filters.status)
    if filters.phase is not None:
        rows = rows.filter(phase_index=filters.phase)
    page = rows.order_by("phase_index", "node_index", "iteration").defer("outputs")
    return {
        "items": report.node_runs(execution, page[filters.offset : filters.offset + filters.limit]),
        "count": rows.count(),
    }


@router.get("/{execution_id}/nodes/{node_id}", response={200: NodeDetail, **ERRORS})
def get_node(request: HttpRequest, execution_id: UUID, node_id: Path[Annotated[Text, Field(max_length=200)]]) -> Any:
    """Return the run of a node with its inputs and outputs."""
    execution = _execution(request, execution_id)
    run = execution.node_runs.filter(node_id=node_id).order_by("-iteration").first()
    if run is None:
        raise Http404(f"node {node_id} of execution {execution_id} has not run")
    try:
        return report.node_run(execution, run)
    except RecordingError as error:
        return Status(409, {"detail": str(error)})


@router.get("/{execution_id}/outputs", response={200: OutputsOut, **ERRORS})
def download_outputs(request: HttpRequest, execution_id: UUID) -> Any:
    """Download the outputs of all nodes that completed as a JSON file, also of an execution that failed or goes on.

    Outputs that were removed with their recording are not in it. Turns of loops and subflows are executions of their own.
    """
    execution = _execution(request, execution_id)
    name = f'attachment; filename="{execution.pk}-outputs.json"'
    return StreamingHttpResponse(
        _outputs_file(execution), content_type="application/json", headers={"Content-Disposition": name}
    )


async def _outputs_file(execution: Execution) -> AsyncIterator[bytes]:
    """Give the file piece by piece, so that memory holds the outputs of a few nodes only."""
    head = {
        "execution_id": execution.pk, "workflow_id": execution.workflow_id, "version": execution.version.number,
        "status": execution.status, "error": execution.error or None, "error_node": execution.error_node or None,
    }  # fmt: skip
    yield msgspec.json.encode(head)[:-1] + b',"outputs":{'
    parts, between = report.outputs_by_part(execution), b""
    while (part := await sync_to_async(_next)(parts)) is not None:
        if part:
            yield between + msgspec.json.encode(part)[1:-1]
            between = b","
    yield b"}}"


def _next(parts: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    return next(parts, None)


def _execution(request: HttpRequest, execution_id: UUID) -> Execution:
    rows = Execution.objects.visible_to(request.user).select_related("version")
    found: Execution = get_object_or_404(rows, pk=execution_id)
    return found
