"""What the page of an execution shows of its inside: times, tasks, states, files."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from django.http import Http404, HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema, Status

from executions.api.runs import ExecutionStatus, NodeStatus, PhaseStatus
from executions.artifacts import artifacts
from executions.chords import chords
from executions.models import Execution
from executions.moments import moment
from executions.timeline import timeline
from recordings.errors import RecordingError, RecordingNotFound
from workflows import access
from workflows.api.common import ERRORS

router = Router()


class Bar(Schema):
    """When one node was queued, began and ended, in milliseconds since the execution was queued.

    ``queued_ms`` is null when no message was sent for the node; ``critical`` says that it is on the critical path.
    """

    node_id: str
    name: str
    type: str
    phase: int
    status: NodeStatus
    attempt: int
    queued_ms: float | None
    started_ms: float | None
    finished_ms: float | None
    critical: bool
    error: str | None


class CriticalNode(Schema):
    """A node of the critical path."""

    node_id: str
    name: str
    duration_ms: float


class Turn(Schema):
    """When a child execution was queued, began and ended: ``what`` is the turn of a loop, or the workflow of a subflow."""

    id: str
    node_id: str
    name: str
    what: str
    status: ExecutionStatus
    queued_ms: float
    started_ms: float | None
    finished_ms: float | None


class TimelineOut(Schema):
    """A page of bars, and the chain of nodes that took longest: its first 500, and how many and how long it is.

    ``turns`` are the first 100 child executions, in the order of nodes and turns; the counts are of all.
    Times are milliseconds since ``queued_at``; ``now_ms`` is the age of the execution, at its end if it has ended.
    """

    queued_at: str
    now_ms: float
    started_ms: float | None
    finished_ms: float | None
    items: list[Bar]
    count: int
    critical: list[CriticalNode]
    critical_count: int
    critical_ms: float
    turns: list[Turn]
    turn_count: int
    turns_ended: int
    turns_failed: int


class TaskNode(Schema):
    """A node of a task."""

    node_id: str
    name: str
    status: NodeStatus
    attempt: int
    deliveries: int


class TaskOut(Schema):
    """Nodes of one phase that were taken together; without a ``claim`` those that nobody holds.

    ``way`` says how they came to their process: by a message, kept by the process that opened the phase, run at once
    before anything was written, or taken over from the execution that this one is a retry of. ``worker`` is the id of the start
    of the worker, ``worker_name`` its host and process while it lives, for those who may see all executions.
    ``nodes`` are the first 32. ``sent_again`` says that a message followed after somebody had already taken the nodes: a
    process died, or they had to wait.
    """

    way: Literal["message", "kept", "at_once", "taken_over"]
    sent_again: bool
    claim: str | None
    queue: str | None
    worker: str | None
    worker_name: str | None
    node_count: int
    ended: int
    failed: int
    deliveries: int
    attempts: int
    sent_ms: float | None
    started_ms: float | None
    finished_ms: float | None
    nodes: list[TaskNode]


class CallbackOut(Schema):
    """The body of a chord: the task that opens ``phase``. ``done`` says that this phase is closed."""

    task: str
    phase: int
    queue: str
    done: bool


class ChordOut(Schema):
    """What was made of one phase: header tasks of which ``message_count`` were sent; a chord when these are several.

    ``sent_again`` are tasks whose message followed later; then ``message_count`` is what was sent before, at least.
    ``tasks`` are the first 50; after a worker died or a node was tried again they may be more than headers.
    """

    index: int
    status: PhaseStatus
    node_count: int
    header_count: int
    message_count: int
    sent_again: int
    started_ms: float | None
    finished_ms: float | None
    callback: CallbackOut | None
    tasks: list[TaskOut]
    task_count: int


class StartMessage(Schema):
    """The message that started the execution; null times and zeros for one that another execution started."""

    task: str
    sent_ms: float | None
    sent_again: int
    deliveries: int


class CeleryOut(Schema):
    """A page of phases in order. Times are milliseconds since the execution was queued."""

    start: StartMessage
    items: list[ChordOut]
    count: int


class StateEntry(Schema):
    """One entry of a state. Texts are JSON, or text as it is, of at most about 2,000 characters."""

    key: str
    label: str
    text: str
    change: Literal["", "added", "changed", "removed"]
    was: str


class StatePart(Schema):
    """A part of a state: its first 200 entries, those that the event changed in front, and how many there are."""

    name: Literal["values", "nodes", "errors", "nested"]
    entries: list[StateEntry]
    count: int


class MomentOut(Schema):
    """One event and the state after it. The time is Unix seconds."""

    seq: int
    last_seq: int
    event_type: str
    timestamp: float
    node_id: str | None
    node_name: str | None
    parts: list[StatePart]


class ArtifactOut(Schema):
    """A file that a node saved; ``url`` downloads it. The time is Unix seconds."""

    seq: int
    timestamp: float
    node_id: str
    node_name: str
    kind: str
    name: str
    content_type: str
    image: bool
    size_bytes: int
    url: str


class ArtifactPage(Schema):
    """One page of files, oldest first; ``count`` is of all pages."""

    items: list[ArtifactOut]
    count: int


class BarPage(Schema):
    """Which bars."""

    limit: int = Field(200, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=100_000)


class ChordPage(Schema):
    """Which phases."""

    limit: int = Field(20, ge=1, le=50)
    offset: int = Field(0, ge=0, le=100_000)


class FilePage(Schema):
    """Which files."""

    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=100_000)


class Moment(Schema):
    """After which event."""

    seq: int = Field(ge=1, le=2_147_483_647)


@router.get("/{execution_id}/timeline", response={200: TimelineOut, **ERRORS})
def get_timeline(request: HttpRequest, execution_id: UUID, page: Query[BarPage]) -> Any:
    """Return when each node was queued, began and ended, and the critical path."""
    return timeline(_execution(request, execution_id), page.limit, page.offset)


@router.get("/{execution_id}/celery", response={200: CeleryOut, **ERRORS})
def get_celery(request: HttpRequest, execution_id: UUID, page: Query[ChordPage]) -> Any:
    """Return the tasks of each phase: headers, callback, claims, deliveries, workers."""
    names = access.sees_everything(request.user)
    return chords(_execution(request, execution_id), page.limit, page.offset, name_workers=names)


@router.get("/{execution_id}/state", response={200: MomentOut, **ERRORS})
def get_state(request: HttpRequest, execution_id: UUID, wanted: Query[Moment]) -> Any:
    """Return the state after event number ``seq``, also while the execution runs; long values are cut."""
    execution = _execution(request, execution_id)
    try:
        return moment(execution, wanted.seq)
    except RecordingNotFound as error:
        raise Http404(str(error)) from error
    except RecordingError as error:
        return Status(409, {"detail": str(error)})


@router.get("/{execution_id}/artifacts", response={200: ArtifactPage, **ERRORS})
def list_artifacts(request: HttpRequest, execution_id: UUID, page: Query[FilePage]) -> Any:
    """List the files that nodes saved: screenshots, pages, network traffic."""
    execution = _execution(request, execution_id)
    try:
        items, count = artifacts(execution, page.limit, page.offset)
    except RecordingError as error:
        return Status(409, {"detail": str(error)})
    return {"items": items, "count": count}


def _execution(request: HttpRequest, execution_id: UUID) -> Execution:
    rows = Execution.objects.visible_to(request.user).select_related("version").defer("input")
    found: Execution = get_object_or_404(rows, pk=execution_id)
    return found
