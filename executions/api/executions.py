"""Executions: start, list, look, read the log, pause, resume, cancel, run again, decide approvals."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Header, Path, Query, Router, Schema, Status
from redis.exceptions import RedisError

from executions import report, states
from executions.api.runs import ExecutionStatus, NodeOut, PhaseOut, decider
from executions.errors import StartRefused
from executions.events import group_name, load_logs
from executions.models import Execution
from executions.retry import retry_execution
from executions.triggers import (
    cancel_execution,
    decide_approval,
    pause_execution,
    resume_execution,
    start_execution,
)
from recordings import keeping
from recordings.errors import RecordingError
from workflows import access
from workflows.api.common import ERRORS, Text, count_of
from workflows.models import Workflow, WorkflowVersion

logger = logging.getLogger(__name__)
router = Router()

SCAN_EVENTS = 10_000
"""Events that one filtered log request looks at; the answer says where to go on."""


class StartBody(Schema):
    """What to run. ``version`` is a number, ``"draft"`` for the newest saved one, or empty for the active one.

    ``trigger`` is what the execution is recorded as: pages that a person clicks say "manual", the builder "test". While the
    workflow is paused, its active version is started by "manual" only.
    ``priority`` is that of the workflow unless given.
    """

    workflow_id: UUID
    input: dict[str, Any] = Field(default_factory=dict)
    version: Annotated[int, Field(ge=1, le=2_147_483_647)] | Literal["draft"] | None = None
    trigger: Literal["api", "manual", "test"] = "api"
    priority: Literal["high", "normal", "low"] | None = None


class Started(Schema):
    """An execution that was accepted."""

    execution_id: UUID
    status: ExecutionStatus


class Progress(Schema):
    """Node runs that have ended, of all.

    ``percent`` is the share of its time that the execution is likely to have behind it, by how long nodes ran in earlier executions; a
    node that runs counts by what it has taken of that, 90 % of it at most. It is 100 when the execution has ended and never before; null
    when it failed or was cancelled.
    """

    done: int
    total: int
    percent: int | None


class Wait(Schema):
    """Something that an execution waits for. ``until`` is when the wait ends by itself.

    Of an approval, ``title`` and ``message`` are what is asked, and whoever has the ``link`` may answer without a
    login; it is shown to those who may decide, tokens need the scope ``executions:run``. Of children, ``done`` of ``total`` have ended.
    """

    node_id: str
    name: str
    node_type: str
    kind: Literal["timer", "approval", "children"]
    since: str | None
    until: str | None
    link: str | None
    title: str
    message: str
    done: int | None
    total: int | None


class Summary(Schema):
    """One execution, short. Times are ISO 8601 in UTC; ``duration_ms`` is from queued to the end.

    ``held_by`` names the limit that keeps a queued execution from starting; ``parent_id`` is the execution
    that started this one as a subflow or as a turn of a loop, ``retry_of_id`` the one that this runs again.
    """

    id: UUID
    workflow_id: UUID
    workflow_name: str
    version: int
    status: ExecutionStatus
    trigger: str
    queued_at: str
    started_at: str | None
    finished_at: str | None
    duration_ms: int | None
    credits: int
    error: str | None
    error_node: str | None
    error_node_name: str | None
    progress: Progress
    last_seq: int
    held_by: str | None
    held_reason: str | None
    parent_id: UUID | None
    retry_of_id: UUID | None
    waiting: list[Wait]


class SummaryPage(Schema):
    """One page of executions, newest first. ``next`` is the ``before`` of the page after it, empty on the last one.

    ``count`` is of all pages, and stops at 100,000.
    """

    items: list[Summary]
    count: int
    next: UUID | None


class Detail(Summary):
    """One execution with its phases, node runs and the definition that it ran. ``node_names`` are by node id.

    ``expected_ms`` is by node id, too: how long nodes are likely to run, the p50 of the last executions that completed.

    ``recording_note`` says why the recording was kept, or why there is none.

    ``loops`` names the loop around each node that is inside of one; ``scope`` is the loop whose body this
    execution is one turn of.
    """

    phases: list[PhaseOut]
    nodes: list[NodeOut]
    node_names: dict[str, str]
    expected_ms: dict[str, int]
    definition: dict[str, Any]
    recording_id: UUID | None
    recording_note: str | None
    scope: str | None
    loops: dict[str, str]


class Retry(Schema):
    """How much of an execution runs again: all of it, or what failed and what follows (the rest is taken over)."""

    from_failed: bool = False


class Decision(Schema):
    """What a person decided about an approval."""

    approved: bool
    comment: Annotated[Text, Field(max_length=2000)] = ""


class LogOut(Schema):
    """One event as the socket sends it, too. Long values in it are cut; the recording has them whole.

    ``level`` is debug, info, warning or error; ``status`` is that of the execution after the event, where it changed.
    """

    id: str
    execution_id: str
    seq: int
    event: str
    node_id: str | None
    step_name: str
    step_type: str
    input_data: Any
    output_data: Any
    duration_ms: int
    timestamp: str
    error_message: str | None
    level: str
    message: str
    attempt: int | None
    status: str | None
    data: dict[str, Any]


class LogPage(Schema):
    """Events in order. ``last_seq`` is the newest that exists; ``next_after`` where to go on, empty at the end."""

    logs: list[LogOut]
    last_seq: int
    next_after: int | None
    status: ExecutionStatus


class Kept(Schema):
    """The recording that an execution has now."""

    recording_id: UUID


class Streaming(Schema):
    """Where to watch."""

    streaming: bool
    socket: str


class ListFilters(Schema):
    """Which executions, and which page of them.

    Executions that others started (subflows, turns of loops) are listed by ``parent_id``, or with ``children``.
    ``before`` is the id of an execution: older ones are listed, as fast as the newest, whatever their number.
    """

    workflow_id: UUID | None = None
    parent_id: UUID | None = None
    children: bool = False
    status: ExecutionStatus | None = None
    trigger: Literal[states.TRIGGERS] | None = None  # type: ignore[valid-type]
    before: UUID | None = None
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=10_000)


class LogFilters(Schema):
    """Which events. ``after`` is exclusive; texts are looked for in any case."""

    after: int = Field(0, ge=0, le=2_147_483_647)
    limit: int = Field(1000, ge=1, le=1000)
    step_type: str = Field("", max_length=100)
    step_name: str = Field("", max_length=200)
    level: Literal["debug", "info", "warning", "error"] | None = None
    errors: bool = False

    @property
    def narrow(self) -> bool:
        """Return whether anything is filtered."""
        return bool(self.step_type or self.step_name or self.level or self.errors)

    def takes(self, log: dict[str, Any]) -> bool:
        """Return whether ``log`` passes."""
        return (
            (not self.step_type or self.step_type.lower() in str(log["step_type"]).lower())
            and (not self.step_name or self.step_name.lower() in str(log["step_name"]).lower())
            and (self.level is None or log["level"] == self.level)
            and (not self.errors or bool(log["error_message"]))
        )


@router.post("", response={202: Started, **ERRORS})
def start(
    request: HttpRequest,
    body: StartBody,
    idempotency_key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)] = None,
) -> Any:
    """Start a workflow.

    The same ``Idempotency-Key`` answers the execution that it started first, for as long as that one exists; with
    another workflow, version or input it is refused (422). Keys are of one user each. The execution belongs to the owner
    of the workflow and uses their credentials and credits, whoever starts it.
    """
    user: Any = request.user  # never anonymous: the API has asked for a login
    workflow = get_object_or_404(Workflow.objects.visible_to(user), pk=body.workflow_id)
    if not access.can(user, "change", workflow):
        return Status(
            403, {"detail": "you may see this workflow, but it belongs to somebody else and you may not start it"}
        )
    execution = start_execution(
        workflow,
        by=user,
        trigger=body.trigger,
        input=body.input,
        version=_version(workflow, body.version),
        idempotency_key=idempotency_key,
        priority=body.priority,
    )
    return Status(202, {"execution_id": execution.pk, "status": execution.status})


@router.get("", response={200: SummaryPage, **ERRORS})
def list_executions(request: HttpRequest, filters: Query[ListFilters]) -> Any:
    """List executions, newest first. The number of queries does not depend on the page."""
    rows = _visible(request)
    if filters.workflow_id is not None:
        rows = rows.filter(workflow=filters.workflow_id)
    if filters.status is not None:
        rows = rows.filter(status=filters.status)
    if filters.parent_id is not None:
        rows = rows.filter(parent=filters.parent_id)
    elif not filters.children:
        rows = rows.filter(parent=None)
    if filters.trigger is not None:
        rows = rows.filter(trigger=filters.trigger)
    count = count_of(rows)
    if filters.before is not None:
        rows = _older(rows, request, filters.before)
    found = report.for_summary(rows.order_by("-queued_at", "-pk"))
    page = list(found[filters.offset : filters.offset + filters.limit + 1])
    more = len(page) > filters.limit
    page = page[: filters.limit]
    return {"items": report.summaries(page, decider(request)), "count": count, "next": page[-1].pk if more else None}


def _older(rows: QuerySet[Execution], request: HttpRequest, before: UUID) -> QuerySet[Execution]:
    at = _visible(request).filter(pk=before).values_list("queued_at", flat=True).first()
    if at is None:
        raise Http404(f"no execution {before}")
    return rows.filter(Q(queued_at__lt=at) | Q(queued_at=at, pk__lt=before), queued_at__lte=at)


@router.get("/{execution_id}", response={200: Detail, **ERRORS})
def get_execution(request: HttpRequest, execution_id: UUID) -> Any:
    """Return one execution with its phases, node runs and definition."""
    rows = Execution.objects.visible_to(request.user)
    execution = get_object_or_404(rows.select_related("workflow", "version"), pk=execution_id)
    return report.detail(execution, decider(request))


@router.get("/{execution_id}/logs", response={200: LogPage, **ERRORS})
def logs(request: HttpRequest, execution_id: UUID, filters: Query[LogFilters]) -> Any:
    """Return events after ``after``, as the socket sends them; also long after the end of the execution.

    A page may end before ``limit`` where values are large; ``next_after`` says where to go on.
    """
    head = _head(request, execution_id)
    found, last = _read_logs(execution_id, filters)
    return {
        "logs": found,
        "last_seq": head.seq,
        "next_after": last if last < head.seq else None,
        "status": head.status,
    }


@router.post("/{execution_id}/cancel", response={202: Started, **ERRORS})
def cancel(request: HttpRequest, execution_id: UUID) -> Any:
    """Ask an execution to stop; its running nodes are cancelled within seconds."""
    execution = get_object_or_404(_visible(request), pk=execution_id)
    if not cancel_execution(execution, by=request.user.get_username()):
        return _refused(execution, "there is nothing to cancel")
    return _accepted(execution)


@router.post("/{execution_id}/pause", response={202: Started, **ERRORS})
def pause(request: HttpRequest, execution_id: UUID) -> Any:
    """Start no further node until it is resumed; nodes that run come to their end."""
    execution = get_object_or_404(_visible(request), pk=execution_id)
    if not pause_execution(execution, by=request.user.get_username()):
        return _refused(execution, "only a running or waiting execution can be paused")
    return _accepted(execution)


@router.post("/{execution_id}/resume", response={202: Started, **ERRORS})
def resume(request: HttpRequest, execution_id: UUID) -> Any:
    """Go on with a paused execution."""
    execution = get_object_or_404(_visible(request), pk=execution_id)
    if not resume_execution(execution, by=request.user.get_username()):
        return _refused(execution, "only a paused execution can be resumed")
    return _accepted(execution)


@router.post("/{execution_id}/retry", response={202: Started, **ERRORS})
def retry(
    request: HttpRequest,
    execution_id: UUID,
    body: Retry,
    idempotency_key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)] = None,
) -> Any:
    """Start a new execution with the version and the input of one that has ended; see ``from_failed``.

    The same ``Idempotency-Key`` answers the execution that it began first, as that of a start does.
    """
    user: Any = request.user
    execution = get_object_or_404(_visible(request).select_related("workflow", "version"), pk=execution_id)
    new = retry_execution(execution, user, from_failed=body.from_failed, idempotency_key=idempotency_key)
    return Status(202, {"execution_id": new.pk, "status": new.status})


@router.post("/{execution_id}/keep", response={200: Kept, **ERRORS})
def keep(request: HttpRequest, execution_id: UUID) -> Any:
    """Keep the recording of an execution that ended without one, while its events are there; may be called twice."""
    execution = get_object_or_404(_visible(request), pk=execution_id)
    try:
        return {"recording_id": keeping.keep(execution.pk).pk}
    except RecordingError as error:
        return Status(409, {"detail": str(error)})


@router.post("/{execution_id}/approvals/{node_id}", response={202: Started, **ERRORS})
def decide(
    request: HttpRequest, execution_id: UUID, node_id: Path[Annotated[Text, Field(max_length=200)]], body: Decision
) -> Any:
    """Approve or reject what the node ``node_id`` asks: its owner and those it names may. The first decision counts."""
    by, asked = request.user.get_username(), report.asked(execution_id, node_id)
    named = asked is not None and by in report.approvers(asked)
    execution = get_object_or_404(Execution if named else _visible(request), pk=execution_id)
    if not named and not access.can(request.user, "change", execution):
        return Status(403, {"detail": "you may see this execution, but only its owner and those it names may decide"})
    if asked is None or not decide_approval(execution_id, asked.node_index, body.approved, body.comment, by):
        return Status(409, {"detail": f'node "{node_id}" of execution {execution_id} does not wait for an approval'})
    return _accepted(execution)


def _accepted(execution: Execution) -> Any:
    execution.refresh_from_db(fields=("status",))
    return Status(202, {"execution_id": execution.pk, "status": execution.status})


def _refused(execution: Execution, why: str) -> Any:
    execution.refresh_from_db(fields=("status",))
    return Status(409, {"detail": f"execution {execution.pk} is {execution.status}; {why}"})


@router.post("/{execution_id}/start-streaming", response={202: Streaming, **ERRORS})
def start_streaming(request: HttpRequest, execution_id: UUID) -> Any:
    """Say at which socket to watch, and push the newest event once more.

    Every execution streams by itself from its first event on, so nothing has to be started. Sockets that
    are open and missed something notice it by the number of the pushed event and read what they lack.
    """
    head = _head(request, execution_id)
    if head.seq:
        newest, _ = load_logs(execution_id, head.seq - 1, 1)
        _push(execution_id, newest, head.status)
    return Status(202, {"streaming": True, "socket": f"/ws/executions/{execution_id}/logs"})


def _push(execution_id: UUID, newest: list[dict[str, Any]], status: str) -> None:
    message = {"type": "execution.events", "execution_id": str(execution_id), "logs": newest, "status": status}
    try:
        async_to_sync(get_channel_layer().group_send)(group_name(execution_id), message)
    except (RedisError, OSError) as error:
        logger.warning("execution %s could not be pushed; sockets read the rows instead: %s", execution_id, error)


def _visible(request: HttpRequest) -> QuerySet[Execution]:
    rows: QuerySet[Execution] = Execution.objects.visible_to(request.user)
    return rows


def _head(request: HttpRequest, execution_id: UUID) -> report.Head:
    if not _visible(request).filter(pk=execution_id).exists():
        raise Http404(f"no execution {execution_id}")
    head = report.head(execution_id)
    if head is None:
        raise Http404(f"no execution {execution_id}")
    return head


def _read_logs(execution_id: UUID, filters: LogFilters) -> tuple[list[dict[str, Any]], int]:
    """Return the logs that pass and the number of the last event that was looked at."""
    found: list[dict[str, Any]] = []
    last, looked_at = filters.after, 0
    while len(found) < filters.limit and looked_at < SCAN_EVENTS:
        wanted = 1000 if filters.narrow else filters.limit - len(found)
        page, more = load_logs(execution_id, last, wanted)
        for log in page:
            last = log["seq"]
            if filters.takes(log):
                found.append(log)
                if len(found) == filters.limit:
                    break
        looked_at += len(page)
        if not more or len(page) < wanted:
            break
    return found, last


def _version(workflow: Workflow, wanted: int | str | None) -> WorkflowVersion | None:
    """Return the version meant by a number or ``"draft"``; None means the active one."""
    if wanted is None:
        return None
    if wanted == "draft":
        if workflow.draft is None:
            raise StartRefused(f'workflow "{workflow.name}" has no saved version; save it first')
        return workflow.draft
    return get_object_or_404(workflow.versions, number=wanted)
