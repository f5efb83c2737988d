"""What happens next in an execution: open a phase, run its nodes, close it, recover, finish.

The engine decides and writes; ``tasks`` sends the messages that it answers with. Every move is one
compare-and-set, so duplicates and late callers find nothing to do.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from recordings.database import read_blob, save_blob
from recordings.redaction import Redactor

from executions import events, inputs, leases, runtime, states, store
from executions.errors import NodeFailed, NodeInputError
from executions.failpoints import failpoint
from executions.inputs import NodeResult, Sources
from executions.models import BrowserSession, Execution, NodeRun
from executions.planner import Header, Plan, PlannedNode, headers, plan
from executions.runtime import Facts, Finished, Item, Noted, Ready, Resumed, Retrying, SessionOpened
from executions.store import EventDraft, NodeEnd, NodeRow, PhaseRow, Transaction, now_us
from recordings.events import RecordingEventType as Kind
from workflows import credentials
from workflows.definition import Definition
from workflows.models import WorkflowVersion

logger = logging.getLogger(__name__)

LOCAL_SECONDS = 5.0
"""How long one task goes on with following phases before it sends a message instead."""

DEADLINE = "deadline"
CONTROL_QUEUE, DEFAULT_QUEUE, BROWSER_QUEUE, ISOLATED_QUEUE = "control", "default", "browser", "isolated"
_LEASE_US = settings.LEASE_SECONDS * 1_000_000


# --------------------------------------------------------------------------- what is known about an execution


@dataclass(slots=True)
class Context:
    """An execution as one task knows it. ``results`` grows as nodes end or are loaded."""

    id: UUID
    workflow_id: UUID
    workflow_name: str
    version_number: int
    owner_id: int
    trigger: str
    depth: int
    payload: Any
    settings: dict[str, Any]
    plan: Plan
    status: str
    phase_index: int
    cancel_requested: bool
    queued_us: int
    results: dict[int, NodeResult] = field(default_factory=dict)
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)
    session_boot: str = ""
    session_queue: str = ""
    secrets: set[str] = field(default_factory=set)

    @property
    def variables(self) -> dict[str, Any]:
        """Return what ``{{ vars.x }}`` reads: the workflow's own, then the installation's."""
        return {**self.plan.definition.vars, **settings.WORKFLOW_VARS}

    def facts(self) -> Facts:
        """Return what nodes may know."""
        return Facts(self.id, self.workflow_id, self.owner_id, bool(self.session_boot), self.variables)

    def sources(self) -> Sources:
        """Return where inputs come from."""
        return Sources(self.plan, self.results, self.payload, self.variables, self._secret)

    def redact(self, value: Any) -> Any:
        """Return ``value`` without any secret that this task resolved."""
        return Redactor(self.secrets).redact(value) if self.secrets else value

    def _secret(self, reference: str, name: str) -> str:
        value = credentials.resolve(self.owner_id, reference, name)
        self.secrets.add(value)
        return value


@lru_cache(maxsize=256)
def plan_of(version_id: UUID) -> tuple[Plan, int]:
    """Return the plan of a version and its number; a version never changes, so this is never stale."""
    version = WorkflowVersion.objects.get(pk=version_id)
    return plan(Definition.from_json(version.definition)), version.number


def load(execution_id: UUID) -> Context | None:
    """Return what the database knows about an execution, or None if there is none. One query."""
    row = (
        Execution.objects.filter(pk=execution_id)
        .values_list(
            "workflow_id", "workflow__name", "workflow__settings", "version_id", "owner_id", "trigger", "depth",
            "input", "status", "phase_index", "cancel_requested", "queued_at",
        )
        .first()
    )  # fmt: skip
    if row is None:
        return None
    the_plan, number = plan_of(row[3])
    context = Context(
        id=execution_id, workflow_id=row[0], workflow_name=row[1], settings=row[2] or {}, version_number=number,
        owner_id=row[4], trigger=row[5], depth=row[6], payload=json.loads(row[7]), plan=the_plan, status=row[8],
        phase_index=row[9], cancel_requested=row[10], queued_us=int(row[11].timestamp() * 1_000_000),
    )  # fmt: skip
    if the_plan.uses_browser and context.phase_index >= 0:
        _load_session(context)
    return context


def _load_session(context: Context) -> None:
    session = BrowserSession.objects.filter(execution_id=context.id).values_list("boot", "queue").first()
    if session is not None:
        context.session_boot, context.session_queue = session


def load_results(context: Context, indexes: Iterable[int]) -> None:
    """Load how the nodes ``indexes`` ended, with outputs, unless they are known already."""
    missing = [index for index in indexes if index not in context.results]
    if not missing:
        return
    rows = NodeRun.objects.filter(execution_id=context.id, node_index__in=missing).values_list(
        "node_index", "status", "outputs", "outputs_blob", "error", "error_code"
    )
    for index, status, text, blob, error, code in rows:
        outputs = None
        if status == states.COMPLETED:
            outputs = msgspec.json.decode(read_blob(blob) if blob else text)
        _note_result(context, index, status, outputs, error, code)


def _load_failures(context: Context, before: int) -> None:
    """Load the failed nodes of earlier phases, which decide the final status."""
    rows = NodeRun.objects.filter(execution_id=context.id, phase_index__lt=before, status=states.FAILED).values_list(
        "node_index", "error", "error_code"
    )
    for index, error, code in rows:
        _note_result(context, index, states.FAILED, None, error, code)


def _note_result(
    context: Context, index: int, status: str, outputs: dict[str, Any] | None, error: str = "", code: str = ""
) -> None:
    tolerated = status == states.FAILED and context.plan.nodes[index].node.policy.on_error == "continue"
    context.results[index] = NodeResult(status, outputs, tolerated)
    if status == states.FAILED:
        context.errors[index] = (error, code)


# --------------------------------------------------------------------------- what the engine answers


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Messages to send: the headers of one phase, each with its queue."""

    execution_id: UUID
    phase: int
    headers: tuple[tuple[tuple[int, ...], str], ...]


@dataclass(slots=True)
class Work:
    """Claimed nodes to run in this task. ``whole`` means that they are all open nodes of the phase."""

    context: Context
    phase: int
    claim: str
    nodes: list[Ready]
    whole: bool


@dataclass(frozen=True, slots=True)
class End:
    """How an execution ends; ``node_id`` is the node that failed it."""

    status: str
    error: str = ""
    code: str = ""
    node_id: str = ""

    @property
    def success(self) -> bool:
        """Return whether it completed, with or without tolerated errors."""
        return self.status in (states.COMPLETED, states.COMPLETED_WITH_ERRORS)


@dataclass(slots=True)
class Opening:
    """What follows a phase: further phases (all skipped but the last), or the end."""

    target: int
    phases: list[PhaseRow]
    events: list[EventDraft]
    work: Work | None = None
    dispatch: Dispatch | None = None
    end: End | None = None


# --------------------------------------------------------------------------- opening phases


def prepare(context: Context, phase: int, *, local_until: float) -> Opening:
    """Decide what to open from ``phase`` on. Reads outputs of sources, writes nothing.

    Phases whose nodes are all skipped are passed over. The nodes of the phase to run are claimed at
    once when they fit one header that this process may run before ``local_until`` (monotonic seconds).
    """
    phases, drafts = context.plan.phases, []
    rows: list[PhaseRow] = []
    failed = _critical_failure(context)
    while failed is None and phase < len(phases):
        runnable, skipped, skip_events = _sift(context, phases[phase])
        drafts.append(_phase_event(Kind.PHASE_START, phase, len(phases[phase])))
        drafts.extend(skip_events)
        if runnable:
            return _open(context, phase, runnable, skipped, rows, drafts, local_until)
        rows.append(PhaseRow(phase, states.COMPLETED, 0, tuple(skipped)))
        drafts.append(_phase_event(Kind.PHASE_COMPLETE, phase, len(skipped), status=states.COMPLETED))
        phase += 1
    return Opening(phase, rows, drafts, end=_outcome(context, failed))


def _sift(context: Context, indexes: Sequence[int]) -> tuple[list[PlannedNode], list[NodeRow], list[EventDraft]]:
    """Split a phase into nodes that run and rows (with events) of those that are skipped."""
    nodes = [context.plan.nodes[index] for index in indexes]
    load_results(context, {source for node in nodes for source in node.needs})
    sources = context.sources()
    runnable, skipped, drafts = [], [], []
    for node in nodes:
        reason = inputs.skip_reason(node, sources)
        if not reason:
            runnable.append(node)
            continue
        context.results[node.index] = NodeResult(states.SKIPPED)
        skipped.append(NodeRow(node.index, node.node.id, node.node.type, states.SKIPPED))
        drafts.append(_node_event(Kind.NODE_SKIPPED, node, {"reason": reason}))
    return runnable, skipped, drafts


def _open(
    context: Context, phase: int, runnable: list[PlannedNode], skipped: list[NodeRow],
    rows: list[PhaseRow], drafts: list[EventDraft], local_until: float,
) -> Opening:  # fmt: skip
    groups = headers(context.plan, [node.index for node in runnable])
    claimed = len(groups) == 1 and _runs_here(context, groups[0]) and time.monotonic() < local_until
    claim = uuid.uuid4().hex if claimed else ""
    queue_of = {index: _queue(context, group) for group in groups for index in group.indexes}
    node_rows = [
        NodeRow(
            node.index, node.node.id, node.node.type, states.RUNNING if claimed else states.QUEUED,
            claim=claim, worker=leases.this_boot() if claimed else "", session=node.session, queue=queue_of[node.index],
        )
        for node in runnable
    ]  # fmt: skip
    rows.append(PhaseRow(phase, states.RUNNING, len(groups), (*skipped, *node_rows)))
    if not claimed:
        messages = tuple((group.indexes, _queue(context, group)) for group in groups)
        return Opening(phase, rows, drafts, dispatch=Dispatch(context.id, phase, messages))
    ready = [_ready(context, node) for node in runnable]
    drafts.extend(_start_event(context, item) for item in ready)
    return Opening(phase, rows, drafts, work=Work(context, phase, claim, ready, whole=True))


def _runs_here(context: Context, group: Header) -> bool:
    if leases.current is None or group.kind == "isolated":
        return False
    return group.kind != "browser" or runtime.holds_session(context.id)


def _queue(context: Context, group: Header) -> str:
    if group.kind == "browser":
        return context.session_queue or BROWSER_QUEUE
    return ISOLATED_QUEUE if group.kind == "isolated" else DEFAULT_QUEUE


def _ready(context: Context, node: PlannedNode, attempt: int = 1) -> Ready:
    try:
        return Ready(node, inputs.resolve(node, context.sources()), attempt)
    except NodeInputError as problem:
        return Ready(node, dict(node.node.inputs), attempt, problem)


def _critical_failure(context: Context) -> int | None:
    failed = [index for index in context.errors if not context.results[index].tolerated]
    return min(failed) if failed else None


def _outcome(context: Context, failed: int | None) -> End:
    if failed is None:
        return End(states.COMPLETED_WITH_ERRORS if context.errors else states.COMPLETED)
    error, code = context.errors[failed]
    return End(states.FAILED, error, code, context.plan.nodes[failed].node.id)


# --------------------------------------------------------------------------- events


def _node_event(kind: Kind, node: PlannedNode, data: dict[str, Any], timestamp: int | None = None) -> EventDraft:
    full = {"name": node.name, "node_type": node.node.type, **data}
    return EventDraft(kind.value, timestamp or now_us(), node.node.id, full)


def _phase_event(kind: Kind, phase: int, node_count: int, **data: Any) -> EventDraft:
    return EventDraft(kind.value, now_us(), "", {"phase": phase, "node_count": node_count, **data})


def _start_event(context: Context, item: Ready) -> EventDraft:
    data = {"inputs": context.redact(item.inputs), "attempt": item.attempt}
    return _node_event(Kind.NODE_START, item.planned, data)


def _end_events(context: Context, end: End, now: int) -> list[EventDraft]:
    kind = Kind.WORKFLOW_COMPLETE if end.success else Kind.WORKFLOW_ERROR
    data = {
        "final_state": {}, "success": end.success, "error": end.error or None, "status": end.status,
        "duration_seconds": (now - context.queued_us) / 1_000_000, "failed_node": end.node_id or None,
    }  # fmt: skip
    return [EventDraft(kind.value, now, "", data)]


# --------------------------------------------------------------------------- doors for tasks


def advance(execution_id: UUID, phase: int) -> Dispatch | None:
    """Open ``phase`` (the first is 0) if the one before it is closed; run what can run here.

    Returns the messages to send, or None. A call for a phase that is open already does nothing.
    """
    context = load(execution_id)
    if context is None:
        logger.warning("advance: there is no execution %s in this database", execution_id)
        return None
    if context.cancel_requested:
        settle(execution_id)
        return None
    if context.status not in (states.QUEUED, states.RUNNING) or context.phase_index != phase - 1:
        return None
    if phase > 0:
        load_results(context, context.plan.phases[phase - 1])
        _load_failures(context, phase)
    return _advance(context, phase, time.monotonic() + LOCAL_SECONDS)


def _advance(context: Context, phase: int, local_until: float) -> Dispatch | None:
    opening = prepare(context, phase, local_until=local_until)
    moved = store.committer.run(lambda tx: _move(tx, context, phase, opening, [], 0), context.id.hex)
    if moved is None:
        settle(context.id)
        return None
    _announce(context, *moved, opening)
    failpoint("opened")
    return _drive(opening.work, local_until) if opening.work is not None else opening.dispatch


def take(execution_id: UUID, phase: int, indexes: Sequence[int]) -> Dispatch | None:
    """Claim queued node runs that a message names, run them, and go on. Returns messages to send, or None."""
    context = load(execution_id)
    if context is None:
        logger.warning("run_nodes: there is no execution %s in this database", execution_id)
        return None
    if context.cancel_requested:
        settle(execution_id)
        return None
    if context.status != states.RUNNING:
        return None
    local_until = time.monotonic() + LOCAL_SECONDS
    nodes = [context.plan.nodes[index] for index in indexes]
    load_results(context, {source for node in nodes for source in node.needs})
    claim = uuid.uuid4().hex
    failpoint("before-claim")
    ready = {node.index: _ready(context, node) for node in nodes}

    def job(tx: Transaction) -> tuple[int, list[Ready], list[EventDraft]] | None:
        taken = store.claim_nodes(
            tx, execution_id, indexes, claim=claim, worker=leases.this_boot(), lease_us=_LEASE_US, now=now_us()
        )
        if not taken:
            return None
        mine = [_with_attempt(ready[index], taken[index]) for index in indexes if index in taken]
        drafts = [_start_event(context, item) for item in mine]
        base = store.bump(tx, execution_id, events=len(drafts))
        if base is None:
            raise NodeFailed("the execution ended while its nodes were claimed")
        store.insert_events(tx, execution_id, base, drafts, context.depth)
        return base, mine, drafts

    won = store.committer.run(job, execution_id.hex)
    if won is None:
        return None
    base, mine, drafts = won
    failpoint("after-claim")
    events.push(execution_id, base, drafts, states.RUNNING, context.depth)
    whole = _is_whole(context, phase, len(mine))
    return _drive(Work(context, phase, claim, mine, whole), local_until)


def _with_attempt(item: Ready, attempt: int) -> Ready:
    """Return ``item`` with the number of its attempt."""
    return Ready(item.planned, item.inputs, attempt, item.problem)


def _is_whole(context: Context, phase: int, count: int) -> bool:
    """Return whether ``count`` claimed nodes are all of the phase that is still open."""
    return (
        NodeRun.objects.filter(
            execution_id=context.id,
            phase_index=phase,
            status__in=(states.QUEUED, states.RUNNING, states.RETRYING, states.WAITING),
        ).count()
        == count
    )


# --------------------------------------------------------------------------- running a header


def _drive(work: Work | None, local_until: float) -> Dispatch | None:
    """Run claimed nodes and the phases after them as long as they fit here; return messages to send."""
    dispatch: Dispatch | None = None
    while work is not None:
        with leases.holding(work.claim, work.context.id):
            work, dispatch = _run(work, local_until)
    return dispatch


def _run(work: Work, local_until: float) -> tuple[Work | None, Dispatch | None]:
    """Run one header to its end; return the next work of this task or messages to send."""
    context = work.context
    remaining = len(work.nodes)
    ready = {item.planned.index: item for item in work.nodes}
    failpoint("mid-node")
    for items in runtime.run_header(context.facts(), work.nodes):
        remaining -= sum(isinstance(item, Finished) for item in items)
        ends, drafts = _record(context, work, ready, items)
        last = work.whole and remaining == 0
        if not ends and not drafts:
            continue
        failpoint("before-commit")
        if last:
            return _close(work, ends, drafts, local_until)
        if _write_part(work, ends, drafts) == 0:
            return None, _advance_after(context, work.phase, local_until)
    return None, None


def _record(
    context: Context, work: Work, ready: dict[int, Ready], items: Sequence[Item]
) -> tuple[list[NodeEnd], list[EventDraft]]:
    """Turn what happened into node ends and events; store blobs and browser sessions on the way."""
    ends: list[NodeEnd] = []
    drafts: list[EventDraft] = []
    for item in items:
        match item:
            case Finished():
                end, event = _end(context, ready[item.index].planned, item)
                ends.append(end)
                drafts.append(event)
            case Noted():
                if item.content is not None:
                    save_blob(item.content, item.content_type, context.id)
                event = item.event
                drafts.append(EventDraft(event.type, event.timestamp, event.node_id, context.redact(event.data)))
            case Retrying():
                drafts.extend(_retry(context, work, ready[item.index].planned, item))
            case Resumed():
                drafts.extend(_resume(context, work, ready[item.index], item))
            case SessionOpened():
                _save_session(context, item)
    return ends, drafts


def _end(context: Context, node: PlannedNode, item: Finished) -> tuple[NodeEnd, EventDraft]:
    seconds = (item.ended_us - item.started_us) / 1_000_000
    data: dict[str, Any] = {"duration_seconds": seconds, "error": None, "attempt": item.attempt, "status": item.status}
    if item.status == states.COMPLETED:
        outputs, text, blob, problem = _store_outputs(context, node, item.outputs or {})
        if problem is None:
            _note_result(context, node.index, states.COMPLETED, outputs)
            cost = node.description.credits
            end = NodeEnd(node.index, states.COMPLETED, text, blob, credits=cost, attempt=item.attempt)
            data["credits"] = cost
            shown = {"name": node.name, "node_type": node.node.type, "outputs": outputs, **data}
            data["outputs"] = {"$outputs": True}
            event = _node_event(Kind.NODE_COMPLETE, node, data, item.ended_us)
            return end, EventDraft(event.type, event.timestamp, event.node_id, event.data, shown)
        item = Finished(
            item.index, states.FAILED, item.attempt, item.started_us, item.ended_us, error=problem, error_code="output"
        )
        data["status"] = states.FAILED
    error = str(context.redact(item.error))
    _note_result(context, node.index, item.status, None, error, item.error_code)
    cost = node.description.credits if item.status == states.FAILED else 0
    data |= {"error": error, "error_class": item.error_code, "credits": cost}
    if item.traceback:
        data["traceback"] = context.redact(item.traceback)
    kind = Kind.NODE_ERROR if item.status == states.FAILED else Kind.NODE_SKIPPED
    if kind is Kind.NODE_SKIPPED:
        data["reason"] = "the execution was cancelled"
    end = NodeEnd(node.index, item.status, error=error, error_code=item.error_code, credits=cost, attempt=item.attempt)
    return end, _node_event(kind, node, data, item.ended_us)


def _store_outputs(
    context: Context, node: PlannedNode, outputs: dict[str, Any]
) -> tuple[dict[str, Any], str, str, str | None]:
    """Return outputs without secrets, their JSON text or else the blob that holds it, or the problem."""
    try:
        encoded = store.encode_json(context.redact(outputs))
    except (TypeError, ValueError, RecursionError) as error:
        return {}, "", "", f'an output of "{node.name}" is not JSON: {error}'
    if len(encoded) > settings.OUTPUT_LIMIT_BYTES:
        limit = settings.OUTPUT_LIMIT_BYTES // 2**20
        return {}, "", "", f'the outputs of "{node.name}" have {len(encoded):,} bytes; the limit is {limit} MiB'
    if len(encoded) > settings.INLINE_OUTPUT_BYTES:
        return context.redact(outputs), "", save_blob(encoded, "application/json", context.id), None
    return context.redact(outputs), encoded.decode(), "", None


def _retry(context: Context, work: Work, node: PlannedNode, item: Retrying) -> list[EventDraft]:
    error = str(context.redact(item.error))
    wait_us = None if item.in_place else int(item.delay_s * 1_000_000)
    won = store.committer.run(
        lambda tx: store.retry_node(
            tx, context.id, node.index, work.claim, attempt=item.attempt, retry_us=wait_us, error=error
        ),
        context.id.hex,
    )
    if not won:
        return []
    data = {"attempt": item.attempt, "delay_seconds": item.delay_s, "error": error, "error_class": item.error_code}
    return [_node_event(Kind.NODE_RETRY, node, data)]


def _resume(context: Context, work: Work, ready: Ready, item: Resumed) -> list[EventDraft]:
    won = store.committer.run(
        lambda tx: store.resume_node(tx, context.id, item.index, work.claim, item.attempt), context.id.hex
    )
    return [_start_event(context, _with_attempt(ready, item.attempt))] if won else []


def _save_session(context: Context, item: SessionOpened) -> None:
    worker = leases.current
    if worker is None:
        return
    BrowserSession.objects.update_or_create(
        execution_id=context.id,
        name=item.name,
        defaults={
            "boot": worker.boot,
            "queue": worker.queue,
            "status": BrowserSession.LIVE,
            "chromium_pid": item.chromium_pid,
            "chromium_started": item.chromium_started,
            "profile_dir": item.profile_dir,
            "opened_at": store.us_to_datetime(now_us()),
        },
    )
    context.session_boot, context.session_queue = worker.boot, worker.queue


# --------------------------------------------------------------------------- ending a header


def _write_part(work: Work, ends: list[NodeEnd], drafts: list[EventDraft]) -> int | None:
    """Write ends that do not close the phase by themselves; return how many nodes are left, None for no ends."""
    context = work.context

    def job(tx: Transaction) -> tuple[int | None, int | None, list[EventDraft]]:
        return _write_ends(tx, work, ends, drafts)

    left, base, kept = store.committer.run(job, context.id.hex)
    if base is not None:
        events.push(context.id, base, kept, states.RUNNING, context.depth)
    return left


def _write_ends(
    tx: Transaction, work: Work, ends: list[NodeEnd], drafts: list[EventDraft]
) -> tuple[int | None, int | None, list[EventDraft]]:
    context = work.context
    now = now_us()
    counted = store.end_nodes(tx, context.id, work.claim, ends, now) if ends else []
    kept = drafts if len(counted) == len(ends) else _without(context, drafts, ends, counted)
    left = None
    if counted:
        failed = sum(_is_critical(context, end) for end in counted)
        left = store.count_ends(tx, context.id, work.phase, len(counted), failed, now)
        if left == 0:
            status = states.FAILED if failed else states.COMPLETED
            kept = [
                *kept,
                _phase_event(Kind.PHASE_COMPLETE, work.phase, len(context.plan.phases[work.phase]), status=status),
            ]
    if not kept:
        return left, None, []
    base = store.bump(tx, context.id, events=len(kept), credits=sum(end.credits for end in counted))
    if base is not None:
        store.insert_events(tx, context.id, base, kept, context.depth)
    return left, base, kept


def _without(
    context: Context, drafts: list[EventDraft], ends: list[NodeEnd], counted: list[NodeEnd]
) -> list[EventDraft]:
    """Drop the events of ends that somebody else already wrote."""
    accepted = {end.node_index for end in counted}
    lost = {context.plan.nodes[end.node_index].node.id for end in ends if end.node_index not in accepted}
    return [draft for draft in drafts if draft.node_id not in lost]


def _is_critical(context: Context, end: NodeEnd) -> bool:
    return end.status == states.FAILED and context.plan.nodes[end.node_index].node.policy.on_error == "fail"


def _close(
    work: Work, ends: list[NodeEnd], drafts: list[EventDraft], local_until: float
) -> tuple[Work | None, Dispatch | None]:
    """Write the last ends of a phase and open what follows, in one transaction."""
    context = work.context
    if any(end.status == states.CANCELLED for end in ends):
        _write_part(work, ends, drafts)
        settle(context.id)
        return None, None
    opening = prepare(context, work.phase + 1, local_until=local_until)
    credits = sum(end.credits for end in ends)
    failed = any(_is_critical(context, end) for end in ends)
    closing = _phase_event(
        Kind.PHASE_COMPLETE, work.phase, len(context.plan.phases[work.phase]),
        status=states.FAILED if failed else states.COMPLETED,
    )  # fmt: skip
    before = [*drafts, closing]

    def job(tx: Transaction) -> tuple[int, list[EventDraft]] | None:
        now = now_us()
        counted = store.end_nodes(tx, context.id, work.claim, ends, now)
        if len(counted) != len(ends):
            raise _LostClaim
        left = store.count_ends(
            tx, context.id, work.phase, len(ends), sum(_is_critical(context, end) for end in ends), now
        )
        if left != 0:
            raise _LostClaim
        moved = _move(tx, context, work.phase + 1, opening, before, credits)
        if moved is None:
            raise _LostClaim
        return moved

    try:
        moved = store.committer.run(job, context.id.hex)
    except _LostClaim:
        moved = None
    if moved is None:
        left = _write_part(work, ends, drafts)
        settle(context.id)
        return None, (_advance_after(context, work.phase, local_until) if left == 0 else None)
    failpoint("after-commit")
    _announce(context, *moved, opening)
    failpoint("opened")
    return opening.work, opening.dispatch


class _LostClaim(Exception):
    """The prepared step does not fit what the database holds; take the careful way."""


def _advance_after(context: Context, phase: int, local_until: float) -> Dispatch | None:
    """Open the phase after ``phase``, whose last node somebody just ended."""
    failpoint("phase-closed")
    load_results(context, context.plan.phases[phase])
    _load_failures(context, phase)
    if context.plan.uses_browser and not context.session_boot:
        _load_session(context)
    return _advance(context, phase + 1, local_until)


def _move(
    tx: Transaction, context: Context, phase: int, opening: Opening, before: list[EventDraft], credits: int
) -> tuple[int, list[EventDraft]] | None:
    """Move the execution from ``phase - 1`` along ``opening``.

    Returns the number before the first event and the events, or None when the execution has moved on or
    was cancelled.
    """
    now = now_us()
    drafts = [*before, *opening.events]
    base: int | None
    if phase == 0:
        drafts.insert(0, _started(context, now))
        deadline = int(context.settings.get("deadline_s") or settings.EXECUTION_DEADLINE_SECONDS) * 1_000_000
        base = store.open_execution(
            tx, context.id, phase=opening.target, events=len(drafts), now=now, deadline_us=deadline
        )
        if base is not None and opening.end is not None:
            last = _end_events(context, opening.end, now)
            drafts += last
            _finish(tx, context, opening.end, len(last), 0, now, source=opening.target)
    elif opening.end is None:
        base = store.move_execution(
            tx, context.id, source=phase - 1, target=opening.target, events=len(drafts), credits=credits
        )
    else:
        drafts += _end_events(context, opening.end, now)
        base = _finish(tx, context, opening.end, len(drafts), credits, now, source=phase - 1)
    if base is None:
        return None
    for row in opening.phases:
        store.insert_phase(tx, context.id, row, now, _LEASE_US)
    store.insert_events(tx, context.id, base, drafts, context.depth)
    if opening.end is not None:
        insert_recording(tx, context, opening.end, now)
    return base, drafts


def _started(context: Context, now: int) -> EventDraft:
    data = {
        "initial_context": context.redact(context.payload), "workflow": context.workflow_name,
        "version": context.version_number, "trigger": context.trigger, "phase_count": len(context.plan.phases),
        "node_count": len(context.plan.nodes), "queued_seconds": max(0, now - context.queued_us) / 1_000_000,
    }  # fmt: skip
    return EventDraft(Kind.WORKFLOW_START.value, now, "", data)


def _finish(
    tx: Transaction, context: Context, end: End, events_count: int, credits: int, now: int, source: int | None = None
) -> int | None:
    return store.finish_execution(
        tx, context.id, status=end.status, error=end.error, error_code=end.code, error_node=end.node_id,
        events=events_count, credits=credits, now=now, source=source,
    )  # fmt: skip


def insert_recording(tx: Transaction, context: Context, end: End, now: int) -> None:
    """Insert the recording of an execution that ends in this transaction; its counts come from its rows."""
    nodes, credits, count = store.totals(tx, context.id)
    store.insert_recording(
        tx,
        uuid.uuid4(),
        {
            "execution_id": context.id,
            "workflow_id": context.workflow_id,
            "workflow_name": context.workflow_name,
            "version_number": context.version_number,
            "user_id": context.owner_id,
            "trigger": context.trigger,
            "status": end.status,
            "success": end.success,
            "error": end.error,
            "tags": store.to_json(context.settings.get("tags") or []),
            "started_at": context.queued_us,
            "completed_at": now,
            "duration_seconds": (now - context.queued_us) / 1_000_000,
            "node_count": nodes,
            "team_count": 0,
            "recursion_max_depth": context.depth,
            "event_count": count,
            "credits": credits,
            "checksum": "",
            "sealed": "",
        },
    )


def _announce(context: Context, base: int, drafts: Sequence[EventDraft], opening: Opening) -> None:
    """Push committed events and, at the end, give back what the execution held."""
    status = opening.end.status if opening.end else states.RUNNING
    events.push(context.id, base, drafts, status, context.depth)
    if opening.end is not None:
        release(context.id, context.session_boot)


def release(execution_id: UUID, session_boot: str = "") -> None:
    """Close the browser session that an ended execution holds in this process."""
    if not session_boot:
        return
    runtime.close_session(execution_id)
    BrowserSession.objects.filter(execution_id=execution_id, boot=leases.this_boot()).update(
        status=BrowserSession.CLOSED, closed_at=store.us_to_datetime(now_us())
    )


# --------------------------------------------------------------------------- cancelling


def request_cancel(execution_id: UUID, by: str, *, code: str = "", error: str = "") -> bool:
    """Ask an execution to stop; return whether it was still possible. ``code`` "deadline" ends it as failed."""

    def job(tx: Transaction) -> int | None:
        base = store.mark_cancelled(tx, execution_id, code=code, error=error)
        if base is not None:
            store.insert_events(tx, execution_id, base, [draft])
        return base

    draft = EventDraft(Kind.CANCEL_REQUESTED.value, now_us(), "", {"by": by, "error": error or None})
    base = store.committer.run(job, execution_id.hex)
    if base is None:
        return False
    events.push(execution_id, base, [draft], states.RUNNING)
    settle(execution_id)
    return True


def settle(execution_id: UUID) -> bool:
    """End an execution whose cancellation was requested, once no live process runs its nodes.

    Returns whether it ended now.
    """
    context = load(execution_id)
    if context is None or not context.cancel_requested or context.status in states.TERMINAL:
        return False
    code, reason = Execution.objects.filter(pk=execution_id).values_list("error_code", "error").get()
    status = states.FAILED if code == DEADLINE else states.CANCELLED
    drafts: list[EventDraft] = []

    def job(tx: Transaction) -> int | None:
        if store.count_held(tx, execution_id):
            return None
        return _end_all(tx, context, drafts, End(status, reason or "cancelled", code or "cancelled"))

    base = store.committer.run(job, execution_id.hex)
    if base is None:
        return False
    events.push(execution_id, base, drafts, status, context.depth)
    release(execution_id, context.session_boot)
    return True


def _end_all(tx: Transaction, context: Context, drafts: list[EventDraft], end: End) -> int | None:
    """Cancel what is open and end the execution; fill ``drafts`` and return the number before them."""
    drafts.clear()
    now = now_us()
    by_id = {node.node.id: node for node in context.plan.nodes}
    ended = store.end_open_nodes(tx, context.id, status=states.CANCELLED, error=end.error, error_code=end.code, now=now)
    for node_id in ended:
        data = {"reason": end.error, "status": states.CANCELLED}
        drafts.append(_node_event(Kind.NODE_SKIPPED, by_id[node_id], data, now))
    drafts.extend(_end_events(context, end, now))
    base = _finish(tx, context, end, len(drafts), 0, now)
    if base is not None:
        store.insert_events(tx, context.id, base, drafts, context.depth)
        insert_recording(tx, context, end, now)
    return base


# --------------------------------------------------------------------------- recovery


def fail_lost(execution_id: UUID, phase: int, indexes: Sequence[int], *, error: str, code: str) -> Dispatch | None:
    """Fail node runs that no live process holds, and go on. Returns messages to send, or None."""
    context = load(execution_id)
    if context is None:
        return None
    drafts: list[EventDraft] = []

    def job(tx: Transaction) -> tuple[int | None, int | None]:
        drafts.clear()
        now = now_us()
        failed = store.fail_nodes(tx, execution_id, phase, indexes, error=error, error_code=code, now=now)
        if not failed:
            return None, None
        nodes = [context.plan.nodes[index] for index in failed]
        for node in nodes:
            data = {"error": error, "error_class": code, "status": states.FAILED, "duration_seconds": 0}
            drafts.append(_node_event(Kind.NODE_ERROR, node, data, now))
        critical = sum(node.node.policy.on_error == "fail" for node in nodes)
        left = store.count_ends(tx, execution_id, phase, len(failed), critical, now)
        if left == 0:
            drafts.append(
                _phase_event(Kind.PHASE_COMPLETE, phase, len(context.plan.phases[phase]), status=states.FAILED)
            )
        base = store.bump(tx, execution_id, events=len(drafts))
        if base is not None:
            store.insert_events(tx, execution_id, base, drafts, context.depth)
        return left, base

    left, base = store.committer.run(job, execution_id.hex)
    if base is None:
        return None
    events.push(execution_id, base, drafts, states.RUNNING, context.depth)
    return _advance_after(context, phase, 0.0) if left == 0 else None


def requeue(
    execution_id: UUID, phase: int, indexes: Sequence[int], claims: Sequence[str], reason: str
) -> Dispatch | None:
    """Give node runs of a dead process to another one. Returns the messages to send, or None."""
    context = load(execution_id)
    if context is None:
        return None
    drafts: list[EventDraft] = []

    def job(tx: Transaction) -> tuple[list[int], int | None]:
        drafts.clear()
        freed = store.requeue_nodes(tx, execution_id, indexes, claims=claims)
        if not freed:
            return [], None
        for index in freed:
            drafts.append(_node_event(Kind.RECOVERED, context.plan.nodes[index], {"reason": reason}))
        base = store.bump(tx, execution_id, events=len(drafts))
        if base is not None:
            store.insert_events(tx, execution_id, base, drafts, context.depth)
        return freed, base

    freed, base = store.committer.run(job, execution_id.hex)
    if base is None:
        return None
    events.push(execution_id, base, drafts, states.RUNNING, context.depth)
    return dispatch_of(context, phase, freed)


def dispatch_of(context: Context, phase: int, indexes: Sequence[int]) -> Dispatch:
    """Return the messages for queued node runs of one phase."""
    groups = headers(context.plan, indexes)
    return Dispatch(context.id, phase, tuple((group.indexes, _queue(context, group)) for group in groups))
