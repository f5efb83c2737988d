"""What happens next in an execution: open a phase, run its nodes, close it, open the next.

The engine decides and writes; ``tasks`` sends the messages that it answers with. Every move is one
compare-and-set, so duplicates and late callers find nothing to do.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from uuid import UUID

from django.conf import settings

from executions import events, leases, runtime, states, store
from executions.context import Context, load_failures, load_results, load_session
from executions.drafts import end_events, phase_event, start_event, started_event
from executions.ending import finish, insert_recording, load_or_give_up, release, settle
from executions.errors import StaleTransition
from executions.failpoints import failpoint
from executions.models import NodeRun, Phase
from executions.opening import Dispatch, Opening, Work, make_ready, prepare
from executions.outcomes import record
from executions.runtime import Finished, Ready
from executions.store import EventDraft, NodeEnd, Transaction, now_us
from recordings.events import RecordingEventType as Kind

logger = logging.getLogger(__name__)

LOCAL_SECONDS = 5.0
"""How long one task goes on with following phases before it sends a message instead."""

_LEASE_US = settings.LEASE_SECONDS * 1_000_000


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
    ready = {node.index: make_ready(context, node) for node in nodes}

    def job(tx: Transaction) -> tuple[int, list[Ready], list[EventDraft]] | None:
        taken = store.claim_nodes(
            tx, execution_id, indexes, claim=claim, worker=leases.this_boot(), lease_us=_LEASE_US, now=now_us()
        )
        if not taken:
            return None
        mine = [ready[index].with_attempt(taken[index]) for index in indexes if index in taken]
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
        ends, drafts = record(context, work, ready, items)
        last = work.whole and remaining == 0
        if not ends and not drafts:
            continue
        failpoint("before-commit")
        if last:
            return _close(work, ends, drafts, local_until)
        if _write_part(work, ends, drafts) == 0:
            return None, advance_after(context, work.phase, local_until)
    return None, None


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
