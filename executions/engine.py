"""What happens next in an execution: open a phase, run its nodes, close it, open the next.

The engine decides and writes; ``tasks`` sends the messages that it answers with. Every move is one
compare-and-set, so duplicates and late callers find nothing to do.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from django.conf import settings

from executions import bursts, events, leases, reuse, runtime, states, steps, store, waits
from executions.context import Context, load_failures, load_results, load_session, load_variables
from executions.drafts import end_events, left_event, phase_event, set_apart, start_event, started_event
from executions.ending import (
    cancel_children,
    clean_up,
    ended,
    finish,
    insert_recording,
    keep_or_drop,
    load_or_give_up,
    settle,
)  # fmt: skip
from executions.errors import StaleTransition
from executions.failpoints import failpoint
from executions.models import BrowserSession, NodeRun, Phase
from executions.opening import DEFAULT_QUEUE, Dispatch, Opening, Work, dispatch_of, make_ready, prepare
from executions.outcomes import lay_aside, record, save_pages
from executions.runtime import Finished, Item, Ready, Waiting
from executions.steps import Claimed, Moved, Written
from executions.store import EventDraft, Job, NodeEnd, Transaction, now_us
from recordings.events import RecordingEventType as Kind
from workflows.limits import known_limits

logger = logging.getLogger(__name__)

LOCAL_SECONDS = 5.0
"""How long one task goes on with following phases before it sends a message instead."""

_LEASE_US = settings.LEASE_SECONDS * 1_000_000
_CLOSED_KEPT = 10_000
_closed: dict[tuple[UUID, int], None] = {}
_closed_lock = threading.Lock()


def closed_here(execution_id: UUID, phase: int) -> bool:
    """Return whether this process moved an execution on from ``phase``; it knows its last 10,000 moves."""
    return (execution_id, phase) in _closed


def _note_closed(execution_id: UUID, phase: int) -> None:
    with _closed_lock:
        _closed[execution_id, phase] = None
        if len(_closed) > _CLOSED_KEPT:
            del _closed[next(iter(_closed))]


# --------------------------------------------------------------------------- doors for tasks


def advance(execution_id: UUID, phase: int) -> Dispatch | None:
    """Open ``phase`` (the first is 0) if the one before it is closed; run what can run here.

    Returns the messages to send, or None. A call for a phase that is open already does nothing.
    """
    context = load_or_give_up(execution_id)
    if context is None:
        logger.warning("advance: there is no execution %s in this database", execution_id)
        leases.note_stale()
        return None
    if context.cancel_requested and context.status not in states.TERMINAL:
        settle(execution_id)
        return None
    if context.status not in (states.QUEUED, states.RUNNING) or context.phase_index != phase - 1:
        if phase == 0:  # the body of a chord comes late as a rule: who ended the last header went on already
            leases.note_stale()
        return None
    if phase > 0:
        if not Phase.objects.filter(execution_id=execution_id, index=phase - 1, open=0).exists():
            return None  # a chord ends with its messages; a node may wait for another attempt, or run elsewhere
        load_results(context, context.plan.phases[phase - 1])
        load_failures(context, phase)
    return _advance(context, phase, time.monotonic() + LOCAL_SECONDS)


def _advance(context: Context, phase: int, local_until: float) -> Dispatch | None:
    if phase == 0 and (longest_s := known_limits(context.owner_id).maximum_duration_s) is not None:
        context.longest_us = longest_s * 1_000_000
    if phase == 0 and context.records("record_inputs"):
        context.large_payload = set_apart(context, {"initial_context": context.redact(context.payload)})
    before = [left_event(context, phase - 1)] if phase > 0 else []
    opening = _prepare(context, phase, local_until)
    moved = store.committer.run(
        _step(context, phase, opening, before, lambda tx: _move(tx, context, phase, opening, before, 0)),
        context.turn_of_commit,
    )
    if moved is None:
        if phase == 0:
            leases.note_stale()
        settle(context.id)
        return None
    _note_closed(context.id, phase - 1)
    _announce(context, *moved, opening)
    failpoint("opened")
    return drive(opening.work) if opening.work is not None else opening.dispatch


def to_resume(execution_id: UUID) -> list[Dispatch]:
    """Return the messages that set an execution going which was paused: its queued nodes, or its next phase's."""
    context = load_or_give_up(execution_id)
    if context is None or context.status != states.RUNNING:
        return []
    phase = context.phase_index
    if Phase.objects.filter(execution_id=execution_id, index=phase, open=0).exists():
        opened = advance(execution_id, phase + 1)
        return [opened] if opened else []
    queued = NodeRun.objects.filter(execution_id=execution_id, phase_index=phase, status=states.QUEUED)
    indexes = list(queued.order_by("node_index").values_list("node_index", flat=True))
    if not indexes:
        return []
    messages = dispatch_of(context, phase, indexes).headers
    return [Dispatch(execution_id, phase, (message,), priority=context.priority) for message in messages]


def take(execution_id: UUID, phase: int, indexes: Sequence[int], sent_us: int = 0) -> Dispatch | None:
    """Claim queued node runs that a message names, run them, and go on. Returns messages to send, or None.

    ``sent_us`` is when the message was sent, so that the nodes' first events tell how long they were queued.
    """
    context = load_or_give_up(execution_id)
    if context is None:
        logger.warning("run_nodes: there is no execution %s in this database", execution_id)
        leases.note_stale()
        return None
    if context.cancel_requested and context.status not in states.TERMINAL:
        settle(execution_id)
        return None
    if context.status != states.RUNNING:
        leases.note_stale()
        return None
    local_until = time.monotonic() + LOCAL_SECONDS
    indexes = [index for index in indexes if 0 <= index < len(context.plan.nodes)]
    if not indexes:
        leases.note_stale()
        return None
    nodes = [context.plan.nodes[index] for index in indexes]
    load_results(context, {source for node in nodes for source in node.feeds})
    claim = uuid.uuid4().hex
    queued_us = max(0, now_us() - sent_us) if sent_us else 0
    failpoint("before-claim")
    ready = {item.planned.index: item for item in waits.resumed(context, [make_ready(context, n) for n in nodes])}

    def job(tx: Transaction) -> Claimed | None:
        attempts = store.claim_nodes(
            tx, execution_id, indexes, claim=claim, worker=leases.this_boot(), lease_us=_LEASE_US, now=now_us()
        )
        if not attempts:
            return None
        drafts = [
            start_event(context, ready[index].with_attempt(attempts[index]), None, queued_us)
            for index in sorted(attempts)
        ]
        base = store.bump(tx, execution_id, events=len(drafts))
        if base is None:
            raise StaleTransition("the execution ended while its nodes were claimed")
        store.insert_events(tx, execution_id, base, drafts, context.depth)
        return Claimed(base, attempts, drafts, store.open_nodes(tx, execution_id, phase))

    won = store.committer.run(_claiming(context, phase, claim, list(ready.values()), queued_us, job), execution_id.hex)
    if won is None:
        leases.note_stale()
        return None
    failpoint("after-claim")
    events.push(execution_id, won.base, won.drafts, states.RUNNING, context.depth)
    mine = [ready[index].with_attempt(won.attempts[index]) for index in indexes if index in won.attempts]
    whole = len(mine) == won.open
    return drive(Work(context, phase, claim, waits.resumed(context, mine), whole, local_until))


def _claiming(
    context: Context, phase: int, claim: str, nodes: list[Ready], queued_us: int, careful: Job[Claimed | None]
) -> Job[Claimed | None]:
    """Return the claim of queued nodes in the form that suits the database."""
    if not store.on_postgres() or any(item.planned.description.waits for item in nodes):
        return careful
    drafts = [start_event(context, item, None, queued_us) for item in nodes]
    return steps.Claim(
        careful, context.id, phase, drafts, context.depth, _may_repeat(nodes),
        [item.planned.index for item in nodes], claim, leases.this_boot(), now_us(), _LEASE_US,
    )  # fmt: skip


# --------------------------------------------------------------------------- running a header


def drive(work: Work) -> Dispatch | None:
    """Run claimed nodes and the phases after them as long as they fit here; return messages to send."""
    following: Work | None = work
    dispatch: Dispatch | None = None
    while following is not None:
        with leases.holding(following.claim, following.context.id):
            following, dispatch = _run(following)
    return dispatch


def _run(work: Work) -> tuple[Work | None, Dispatch | None]:
    """Run one header to its end; return the next work of this task or messages to send."""
    context = work.context
    remaining = len(work.nodes)
    ready = {item.planned.index: item for item in work.nodes}
    follow: Dispatch | None = None
    failpoint("mid-node")
    for items in _waiting_last(reuse.run_header(context, work.nodes, work.claim)):
        save_pages(work, items)
        items, more = lay_aside(work, items, ready)
        follow = more.and_also(follow) if more else follow
        remaining -= sum(isinstance(item, Finished) for item in items)
        ends, drafts = record(context, work, ready, items)
        if remaining == 0:
            drafts += _give_page_back(work)
        last = work.whole and remaining == 0
        if not ends and not drafts:
            continue
        failpoint("before-commit")
        if last:
            following = _close(work, ends, drafts)
            _stop_children(context, ends)
            return following
        left = _write_part(work, ends, drafts)
        _stop_children(context, ends)
        if left == 0:
            last_dispatch = advance_after(context, work.phase, work.local_until)
            return None, last_dispatch.and_also(follow) if last_dispatch else follow
    return None, follow


def _waiting_last(header: Iterable[Sequence[Item]]) -> Iterator[Sequence[Item]]:
    """Yield what happened, the nodes that ask to be set aside apart: what they and others did before is written first."""
    for items in header:
        waiting = [item for item in items if isinstance(item, Waiting)]
        if len(waiting) < len(items):
            yield [item for item in items if not isinstance(item, Waiting)]
        if waiting:
            yield waiting


def _give_page_back(work: Work) -> list[EventDraft]:
    """Close the page with the last nodes that can work on it, whatever the execution does after them."""
    context = work.context
    if not runtime.holds_session(context.id):
        return []
    if not context.plan.last_on_page(work.phase, [item.planned.index for item in work.nodes]):
        return []
    return clean_up(context)


def _stop_children(context: Context, ends: Sequence[NodeEnd]) -> None:
    """Cancel what still runs for nodes that ended without waiting for it."""
    for end in ends:
        if end.status == states.FAILED and context.plan.nodes[end.node_index].description.waits:
            cancel_children(context.id, end.node_index, "the node that started it")


# --------------------------------------------------------------------------- ending a header


def _write_part(work: Work, ends: list[NodeEnd], drafts: list[EventDraft]) -> int | None:
    """Write ends that do not close the phase by themselves; return how many nodes are left, None for no ends."""
    context = work.context

    def job(tx: Transaction) -> Written:
        return _write_ends(tx, work, ends, drafts)

    left, base, kept = store.committer.run(_ending(work, ends, drafts, job), context.id.hex)
    if base is not None:
        events.push(context.id, base, kept, states.RUNNING, context.depth)
    if ends and left is None:
        _give_up_page(work)
    return left


def _give_up_page(work: Work) -> None:
    """Close the page that this process opened under a claim which it lost, unless it still is the execution's."""
    context = work.context
    if not any(item.planned.session for item in work.nodes) or not runtime.holds_session(context.page_of):
        return
    if not BrowserSession.objects.held(leases.this_boot()).filter(execution_id=context.page_of).exists():
        runtime.close_session(context.page_of, claim=work.claim)


def _ending(work: Work, ends: list[NodeEnd], drafts: list[EventDraft], careful: Job[Written]) -> Job[Written]:
    """Return the ends of nodes in the form that suits the database."""
    context = work.context
    if not ends or not _is_usual(ends) or context.tags or _may_wait(work) or not store.on_postgres():
        return careful
    return steps.Part(
        careful, context.id, work.phase, drafts, context.depth, _may_repeat(work.nodes), work.claim, ends,
        sum(end.credits for end in ends), now_us(), _closing(work),
    )  # fmt: skip


def _is_usual(ends: Sequence[NodeEnd]) -> bool:
    return all(end.status == states.COMPLETED and not end.variables for end in ends)


def _may_wait(work: Work) -> bool:
    """Return whether the phase has nodes that may be set aside, so that all that are left may be waiting."""
    plan = work.context.plan
    return any(plan.nodes[index].description.waits for index in plan.phases[work.phase])


def _may_repeat(nodes: Sequence[Ready]) -> bool:
    """Return whether it does no harm when nodes run again, because they change nothing outside."""
    return all(runtime.effect_of(item) in ("pure", "read") for item in nodes)


def _closing(work: Work, status: str = states.COMPLETED) -> EventDraft:
    return phase_event(Kind.PHASE_COMPLETE, work.phase, len(work.context.plan.phases[work.phase]), status=status)


def _write_ends(tx: Transaction, work: Work, ends: list[NodeEnd], drafts: list[EventDraft]) -> Written:
    context = work.context
    now = now_us()
    counted = store.end_nodes(tx, context.id, work.claim, ends) if ends else []
    kept = drafts if len(counted) == len(ends) else _without(context, drafts, ends, counted)
    _set_variables(tx, context, counted)
    store.add_tags(tx, context.id, context.tags)
    left = None
    if counted:
        critical = sum(_is_critical(context, end) for end in counted)
        cancelled = any(end.status == states.CANCELLED for end in counted)
        left, failed = store.count_ends(
            tx, context.id, work.phase, len(counted), critical, now, cancelled=cancelled
        ) or (None, 0)
        if left == 0:
            status = states.FAILED if failed else states.CANCELLED if cancelled else states.COMPLETED
            kept = [*kept, _closing(work, status)]
    if left and _may_wait(work):
        waits.rest(tx, context.id)
    if not kept:
        return left, None, []
    base = store.bump(tx, context.id, events=len(kept), credits=sum(end.credits for end in counted))
    if base is not None:
        store.insert_events(tx, context.id, base, kept, context.depth)
    return left, base, kept


def _set_variables(tx: Transaction, context: Context, ends: Sequence[NodeEnd]) -> None:
    changes = {key: value for end in ends for key, value in end.variables.items()}
    if changes:
        store.set_variables(tx, context.id, changes)


def _without(
    context: Context, drafts: list[EventDraft], ends: list[NodeEnd], counted: list[NodeEnd]
) -> list[EventDraft]:
    """Drop the events of ends that somebody else already wrote."""
    accepted = {end.node_index for end in counted}
    lost = {context.plan.nodes[end.node_index].node.id for end in ends if end.node_index not in accepted}
    return [draft for draft in drafts if draft.node_id not in lost]


def _is_critical(context: Context, end: NodeEnd) -> bool:
    return end.status == states.FAILED and context.plan.nodes[end.node_index].node.policy.on_error == "fail"


def _close(work: Work, ends: list[NodeEnd], drafts: list[EventDraft]) -> tuple[Work | None, Dispatch | None]:
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
    load_results(context, context.plan.phases[work.phase])
    closing = _closing(work, states.FAILED if failed else states.COMPLETED)
    before = [*drafts, closing, left_event(context, work.phase)]
    opening = _prepare(context, work.phase + 1, work.local_until)

    def job(tx: Transaction) -> Moved | None:
        now = now_us()
        counted = store.end_nodes(tx, context.id, work.claim, ends)
        if len(counted) != len(ends):
            raise _LostClaim
        _set_variables(tx, context, counted)
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
        moved = store.committer.run(
            _step(context, work.phase + 1, opening, before, job, work, ends), context.turn_of_commit
        )
    except _LostClaim:
        moved = None
    if moved is None:
        left = _write_part(work, ends, drafts)
        settle(context.id)
        return None, (advance_after(context, work.phase, work.local_until) if left == 0 else None)
    failpoint("after-commit")
    _note_closed(context.id, work.phase)
    _announce(context, *moved, opening)
    failpoint("opened")
    return opening.work, opening.dispatch


class _LostClaim(Exception):
    """The prepared step does not fit what the database holds; take the careful way."""


def advance_after(context: Context, phase: int, local_until: float) -> Dispatch | None:
    """Open the phase after ``phase``, whose last node somebody just ended."""
    failpoint("phase-closed")
    context.since_us = now_us()
    load_results(context, context.plan.phases[phase])
    if not context.knows_failures:
        load_failures(context, phase)
    load_variables(context)
    if context.plan.uses_browser and not (context.session_boot and context.plan.keeps_page(phase)):
        load_session(context)
    return _advance(context, phase + 1, local_until)


def _prepare(context: Context, phase: int, local_until: float) -> Opening:
    """Return what follows; before an end, the execution gives back what it holds here."""
    opening = prepare(context, phase, local_until=local_until, at_once=bursts.run)
    if opening.end is not None:
        opening.events += clean_up(context)
    return opening


def _step(
    context: Context, phase: int, opening: Opening, before: list[EventDraft], careful: Job[Moved | None],
    work: Work | None = None, ends: Sequence[NodeEnd] = (),
) -> Job[Moved | None]:  # fmt: skip
    """Return the move from ``phase - 1`` along ``opening`` in the form that suits the database."""
    end = opening.end
    unusual = end is not None and (
        not end.success or context.parent is not None or context.plan.may_wait or context.reserved is not None
    )
    if (
        unusual
        or context.tags
        or (end is not None and context.tagged)
        or not store.on_postgres()
        or not _is_usual(ends)
    ):
        return careful
    now = now_us()
    running = [*(work.nodes if work else ()), *opening.begun]
    recording, dropped = (None, "") if end is None else keep_or_drop(context, end, now)
    return steps.Move(
        careful, context.id, phase - 1, _events_of_move(context, phase, opening, before, now), context.depth,
        end is None and _may_repeat(running),
        opening.reached(phase - 1), states.RUNNING if end is None else end.status, now,
        work.claim if work else "", ends, sum(item.credits for item in ends) + opening.credits, context.deadline_us,
        _LEASE_US, opening.phases, opening.completed, recording, dropped,
    )  # fmt: skip


def _move(
    tx: Transaction, context: Context, phase: int, opening: Opening, before: list[EventDraft], credits: int
) -> Moved | None:
    """Move the execution from ``phase - 1`` along ``opening``.

    Returns the number before the first event and the events, or None when the execution has moved on or
    was cancelled.
    """
    now = now_us()
    drafts = _events_of_move(context, phase, opening, before, now)
    credits += opening.credits
    base: int | None
    if phase == 0:
        base = store.open_execution(
            tx, context.id, phase=opening.reached(0), events=len(drafts), credits=opening.credits, now=now,
            deadline_us=context.deadline_us,
        )  # fmt: skip
        if base is not None and opening.end is not None:
            finish(tx, context, opening.end, 0, 0, now, source=opening.reached(0))
    elif opening.end is None:
        base = store.move_execution(
            tx, context.id, source=phase - 1, target=opening.target, events=len(drafts), credits=credits
        )
    else:
        at = opening.reached(phase - 1)
        base = finish(tx, context, opening.end, len(drafts), credits, now, source=phase - 1, at=at)
    if base is None:
        return None
    for row in opening.phases:
        store.insert_phase(tx, context.id, row, now, _LEASE_US)
    store.insert_events(tx, context.id, base, drafts, context.depth)
    store.add_tags(tx, context.id, context.tags)
    if opening.end is not None:
        insert_recording(tx, context, opening.end, now)
    return base, drafts


def _events_of_move(
    context: Context, phase: int, opening: Opening, before: list[EventDraft], now: int
) -> list[EventDraft]:
    drafts = [*before, *opening.events]
    if phase == 0:
        drafts.insert(0, started_event(context, min((draft.timestamp for draft in drafts), default=now)))
    if opening.end is not None:
        last = max((draft.timestamp for draft in drafts if draft.node_id), default=0)
        last = max(last, context.since_us)
        drafts += end_events(context, opening.end, now, last)
    return drafts


def _announce(context: Context, base: int, drafts: Sequence[EventDraft], opening: Opening) -> None:
    """Push committed events and, at the end, give back what the execution held."""
    status = opening.end.status if opening.end else states.RUNNING
    events.push(context.id, base, drafts, status, context.depth)
    if opening.end is not None:
        ended(context)
        opening.dispatch = wake_parent(context)


def wake_parent(context: Context) -> Dispatch | None:
    """Return the message for the node that an ended execution ran for, if its end woke that node."""
    if context.parent is None:
        return None
    parent, index = context.parent
    row = NodeRun.objects.filter(execution_id=parent, node_index=index, status=states.QUEUED)
    phase = row.values_list("phase_index", flat=True).first()
    if phase is None:
        return None
    return Dispatch(parent, phase, (((index,), DEFAULT_QUEUE),), priority=context.priority, wakes=True)
