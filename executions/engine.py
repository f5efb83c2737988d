"""What happens next in an execution: open a phase, run its nodes, close it, open the next.

The engine decides and writes; ``tasks`` sends the messages that it answers with. Every move is one
compare-and-set, so duplicates and late callers find nothing to do.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings

from executions import events, inputs, leases, runtime, states, store
from executions.context import Context, load_failures, load_results, load_session, note_result
from executions.drafts import End, end_events, node_event, phase_event, start_event, started_event
from executions.ending import finish, insert_recording, load_or_give_up, release, settle
from executions.errors import NodeInputError, StaleTransition
from executions.failpoints import failpoint
from executions.inputs import NodeResult
from executions.models import BrowserSession, NodeRun, Phase
from executions.planner import Header, PlannedNode, headers
from executions.runtime import Finished, Item, Noted, Ready, Resumed, Retrying, SessionOpened
from executions.store import EventDraft, NodeEnd, NodeRow, PhaseRow, Transaction, now_us
from recordings.database import save_blob
from recordings.events import RecordingEventType as Kind
from recordings.events import plain
from recordings.redaction import Redactor

logger = logging.getLogger(__name__)

EVENT_TYPE_CHARACTERS = 32
ERROR_CODE_CHARACTERS = 40
TRACEBACK_CHARACTERS = 4_000
LOCAL_SECONDS = 5.0
"""How long one task goes on with following phases before it sends a message instead."""

CONTROL_QUEUE, DEFAULT_QUEUE, BROWSER_QUEUE, ISOLATED_QUEUE = "control", "default", "browser", "isolated"
_LEASE_US = settings.LEASE_SECONDS * 1_000_000


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


@dataclass(slots=True)
class Opening:
    """What follows a phase: further phases (all skipped but the last), or the end."""

    target: int
    phases: list[PhaseRow]
    events: list[EventDraft]
    work: Work | None = None
    dispatch: Dispatch | None = None
    end: End | None = None


def dispatch_of(context: Context, phase: int, indexes: Sequence[int]) -> Dispatch:
    """Return the messages for queued node runs of one phase."""
    groups = headers(context.plan, indexes)
    return Dispatch(context.id, phase, tuple((group.indexes, _queue(context, group)) for group in groups))


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
        drafts.append(phase_event(Kind.PHASE_START, phase, len(phases[phase])))
        drafts.extend(skip_events)
        if runnable:
            return _open(context, phase, runnable, skipped, rows, drafts, local_until)
        rows.append(PhaseRow(phase, states.COMPLETED, 0, tuple(skipped)))
        drafts.append(phase_event(Kind.PHASE_COMPLETE, phase, len(skipped), status=states.COMPLETED))
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
        drafts.append(node_event(Kind.NODE_SKIPPED, node, {"reason": reason}))
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
    drafts.extend(start_event(context, item) for item in ready)
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


# --------------------------------------------------------------------------- doors for tasks


def advance(execution_id: UUID, phase: int) -> Dispatch | None:
    """Open ``phase`` (the first is 0) if the one before it is closed; run what can run here.

    Returns the messages to send, or None. A call for a phase that is open already does nothing.
    """
    context = load_or_give_up(execution_id)
    if context is None:
        logger.warning("advance: there is no execution %s in this database", execution_id)
        return None
    if context.cancel_requested:
        settle(execution_id)
        return None
    if context.status not in (states.QUEUED, states.RUNNING) or context.phase_index != phase - 1:
        return None
    if phase > 0:
        if not Phase.objects.filter(execution_id=execution_id, index=phase - 1, open=0).exists():
            return None  # a chord ends with its messages; a node may wait for another attempt, or run elsewhere
        load_results(context, context.plan.phases[phase - 1])
        load_failures(context, phase)
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
    context = load_or_give_up(execution_id)
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
        drafts = [start_event(context, item) for item in mine]
        base = store.bump(tx, execution_id, events=len(drafts))
        if base is None:
            raise StaleTransition("the execution ended while its nodes were claimed")
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
            return None, advance_after(context, work.phase, local_until)
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
                drafts.append(_note(context, item))
            case Retrying():
                drafts.extend(_retry(context, work, ready[item.index].planned, item))
            case Resumed():
                drafts.extend(_resume(context, work, ready[item.index], item))
            case SessionOpened():
                _save_session(context, item)
    return ends, drafts


def _note(context: Context, item: Noted) -> EventDraft:
    """Return what a node noted as an event that can be stored; keep its content without secrets, too."""
    event = item.event
    data = plain(event.data)
    if item.content is not None:
        content = item.content
        if item.content_type.startswith("text/") or "json" in item.content_type:
            content = Redactor(context.secrets).redact_bytes(content)
        data |= {"blob": save_blob(content, item.content_type, context.id), "size_bytes": len(content)}
    stored = msgspec.json.decode(store.encode_json(context.redact(data)))
    return EventDraft(store.to_column(event.type, EVENT_TYPE_CHARACTERS), event.timestamp, event.node_id, stored)


def _end(context: Context, node: PlannedNode, item: Finished) -> tuple[NodeEnd, EventDraft]:
    seconds = (item.ended_us - item.started_us) / 1_000_000
    data: dict[str, Any] = {"duration_seconds": seconds, "error": None, "attempt": item.attempt, "status": item.status}
    if item.status == states.COMPLETED:
        outputs, text, blob, problem = _store_outputs(context, node, item.outputs or {})
        if problem is None:
            note_result(context, node.index, states.COMPLETED, outputs)
            cost = node.description.credits
            end = NodeEnd(
                node.index, states.COMPLETED, item.started_us, item.ended_us, text, blob,
                credits=cost, attempt=item.attempt,
            )  # fmt: skip
            data["credits"] = cost
            shown = {"name": node.name, "node_type": node.node.type, "outputs": outputs, **data}
            data["outputs"] = {"$outputs": True}
            event = node_event(Kind.NODE_COMPLETE, node, data, item.ended_us)
            return end, EventDraft(event.type, event.timestamp, event.node_id, event.data, shown)
        item = Finished(
            item.index, states.FAILED, item.attempt, item.started_us, item.ended_us, error=problem, error_code="output"
        )
        data["status"] = states.FAILED
    error, code = context.error_text(item.error), store.to_column(item.error_code, ERROR_CODE_CHARACTERS)
    note_result(context, node.index, item.status, None, error, code)
    cost = node.description.credits if item.status == states.FAILED else 0
    data |= {"error": error, "error_class": code, "credits": cost}
    if item.traceback:
        data["traceback"] = store.to_column(str(context.redact(item.traceback))[-TRACEBACK_CHARACTERS:])
    kind = Kind.NODE_ERROR if item.status == states.FAILED else Kind.NODE_SKIPPED
    if kind is Kind.NODE_SKIPPED:
        data["reason"] = "the execution was cancelled"
    end = NodeEnd(
        node.index, item.status, item.started_us, item.ended_us,
        error=error, error_code=code, credits=cost, attempt=item.attempt,
    )  # fmt: skip
    return end, node_event(kind, node, data, item.ended_us)


def _store_outputs(
    context: Context, node: PlannedNode, outputs: dict[str, Any]
) -> tuple[dict[str, Any], str, str, str | None]:
    """Return outputs without secrets, their JSON text or else the blob that holds it, or the problem.

    The outputs are what the text says, so that the next node sees the same here and after a restart.
    """
    try:
        encoded = store.encode_json(context.redact(outputs))
        if len(encoded) > settings.OUTPUT_LIMIT_BYTES:
            limit = settings.OUTPUT_LIMIT_BYTES // 2**20
            return {}, "", "", f'the outputs of "{node.name}" have {len(encoded):,} bytes; the limit is {limit} MiB'
        stored = msgspec.json.decode(encoded)
    except (TypeError, ValueError, RecursionError) as error:
        return {}, "", "", f'an output of "{node.name}" is not JSON: {error}'
    if len(encoded) > settings.INLINE_OUTPUT_BYTES:
        return stored, "", save_blob(encoded, "application/json", context.id), None
    return stored, encoded.decode(), "", None


def _retry(context: Context, work: Work, node: PlannedNode, item: Retrying) -> list[EventDraft]:
    error, code = context.error_text(item.error), store.to_column(item.error_code, ERROR_CODE_CHARACTERS)
    wait_us = None if item.in_place else int(item.delay_s * 1_000_000)
    won = store.committer.run(
        lambda tx: store.retry_node(
            tx, context.id, node.index, work.claim, attempt=item.attempt, retry_us=wait_us, error=error
        ),
        context.id.hex,
    )
    if not won:
        return []
    data = {"attempt": item.attempt, "delay_seconds": item.delay_s, "error": error, "error_class": code}
    return [node_event(Kind.NODE_RETRY, node, data)]


def _resume(context: Context, work: Work, ready: Ready, item: Resumed) -> list[EventDraft]:
    won = store.committer.run(
        lambda tx: store.resume_node(tx, context.id, item.index, work.claim, item.attempt), context.id.hex
    )
    return [start_event(context, _with_attempt(ready, item.attempt))] if won else []


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
    counted = store.end_nodes(tx, context.id, work.claim, ends) if ends else []
    kept = drafts if len(counted) == len(ends) else _without(context, drafts, ends, counted)
    left = None
    if counted:
        critical = sum(_is_critical(context, end) for end in counted)
        cancelled = any(end.status == states.CANCELLED for end in counted)
        left, failed = store.count_ends(
            tx, context.id, work.phase, len(counted), critical, now, cancelled=cancelled
        ) or (None, 0)
        if left == 0:
            status = states.FAILED if failed else states.CANCELLED if cancelled else states.COMPLETED
            kept = [
                *kept,
                phase_event(Kind.PHASE_COMPLETE, work.phase, len(context.plan.phases[work.phase]), status=status),
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
    if not context.knows_failures:
        load_failures(context, work.phase + 1)
    credits = sum(end.credits for end in ends)
    failed = any(_is_critical(context, end) for end in ends)
    closing = phase_event(
        Kind.PHASE_COMPLETE, work.phase, len(context.plan.phases[work.phase]),
        status=states.FAILED if failed else states.COMPLETED,
    )  # fmt: skip
    opening = prepare(context, work.phase + 1, local_until=local_until)
    before = [*drafts, closing]

    def job(tx: Transaction) -> tuple[int, list[EventDraft]] | None:
        now = now_us()
        counted = store.end_nodes(tx, context.id, work.claim, ends)
        if len(counted) != len(ends):
            raise _LostClaim
        left = store.count_ends(
            tx, context.id, work.phase, len(ends), sum(_is_critical(context, end) for end in ends), now
        )
        if left is None or left[0] != 0:
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
        return None, (advance_after(context, work.phase, local_until) if left == 0 else None)
    failpoint("after-commit")
    _announce(context, *moved, opening)
    failpoint("opened")
    return opening.work, opening.dispatch


class _LostClaim(Exception):
    """The prepared step does not fit what the database holds; take the careful way."""


def advance_after(context: Context, phase: int, local_until: float) -> Dispatch | None:
    """Open the phase after ``phase``, whose last node somebody just ended."""
    failpoint("phase-closed")
    load_results(context, context.plan.phases[phase])
    load_failures(context, phase)
    if context.plan.uses_browser and not context.session_boot:
        load_session(context)
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
        began = min((draft.timestamp for draft in drafts), default=now)
        drafts.insert(0, started_event(context, began))
        base = store.open_execution(
            tx, context.id, phase=opening.target, events=len(drafts), now=now, deadline_us=context.deadline_us
        )
        if base is not None and opening.end is not None:
            last = end_events(context, opening.end, now)
            drafts += last
            finish(tx, context, opening.end, len(last), 0, now, source=opening.target)
    elif opening.end is None:
        base = store.move_execution(
            tx, context.id, source=phase - 1, target=opening.target, events=len(drafts), credits=credits
        )
    else:
        drafts += end_events(context, opening.end, now)
        base = finish(tx, context, opening.end, len(drafts), credits, now, source=phase - 1)
    if base is None:
        return None
    for row in opening.phases:
        store.insert_phase(tx, context.id, row, now, _LEASE_US)
    store.insert_events(tx, context.id, base, drafts, context.depth)
    if opening.end is not None:
        insert_recording(tx, context, opening.end, now)
    return base, drafts


def _announce(context: Context, base: int, drafts: Sequence[EventDraft], opening: Opening) -> None:
    """Push committed events and, at the end, give back what the execution held."""
    status = opening.end.status if opening.end else states.RUNNING
    events.push(context.id, base, drafts, status, context.depth)
    if opening.end is not None:
        release(context.id)
