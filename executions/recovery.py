"""What the reconciler does to node runs whose process is gone: give them to another, or fail them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from executions import events, states, store, waits
from executions.context import Context, load
from executions.drafts import node_event, phase_event
from executions.engine import advance_after
from executions.opening import Dispatch, dispatch_of
from executions.store import EventDraft, Transaction, now_us
from recordings.events import RecordingEventType as Kind


def fail_lost(
    execution_id: UUID, phase: int, indexes: Sequence[int], claims: Sequence[str], *, error: str, code: str
) -> Dispatch | None:
    """Fail node runs that are held under the ``claims`` of a lost process (empty: by nobody), and go on.

    Returns messages to send, or None.
    """
    context = load(execution_id)
    if context is None:
        return None
    drafts: list[EventDraft] = []

    def job(tx: Transaction) -> tuple[int | None, int | None]:
        drafts.clear()
        now = now_us()
        exits = waits.exits_of_open_nodes(tx, context, indexes)
        failed = store.fail_nodes(tx, execution_id, phase, indexes, claims, error=error, error_code=code, now=now)
        if not failed:
            return None, None
        nodes = [context.plan.nodes[index] for index in failed]
        for node in nodes:
            drafts.extend(exits.get(node.node.id, ()))
            data = {"outputs": {}, "error": error, "error_class": code, "status": states.FAILED, "duration_seconds": 0}
            drafts.append(node_event(Kind.NODE_ERROR, node, data, now))
        critical = sum(node.node.policy.on_error == "fail" for node in nodes)
        left, in_all = store.count_ends(tx, execution_id, phase, len(failed), critical, now) or (None, 0)
        if left == 0:
            status = states.FAILED if in_all else states.COMPLETED
            drafts.append(phase_event(Kind.PHASE_COMPLETE, phase, len(context.plan.phases[phase]), status=status))
        base = store.bump(tx, execution_id, events=len(drafts))
        if base is not None:
            store.insert_events(tx, execution_id, base, drafts, context.depth)
        return left, base

    left, base = store.committer.run(job, execution_id.hex)
    if base is None:
        return None
    events.push(execution_id, base, drafts, states.RUNNING, context.depth)
    return advance_after(context, phase, 0.0) if left == 0 else None


def note(context: Context, drafts: Sequence[EventDraft]) -> bool:
    """Write events of an execution that goes on; return whether it still did."""

    def job(tx: Transaction) -> int | None:
        base = store.bump(tx, context.id, events=len(drafts))
        if base is not None:
            store.insert_events(tx, context.id, base, drafts, context.depth)
        return base

    base = store.committer.run(job, context.id.hex)
    if base is None:
        return False
    events.push(context.id, base, drafts, context.status, context.depth)
    return True


def requeue(
    execution_id: UUID, phase: int, indexes: Sequence[int], claims: Sequence[str], reason: str, *, counts: bool = True
) -> Dispatch | None:
    """Give node runs of a process that ended to another one. Returns the messages to send, or None.

    ``counts`` says that the process was lost while it ran them, so that this delivery counts.
    """
    context = load(execution_id)
    if context is None:
        return None
    drafts: list[EventDraft] = []

    def job(tx: Transaction) -> tuple[dict[int, bool], int | None]:
        drafts.clear()
        freed = store.requeue_nodes(tx, execution_id, indexes, claims=claims, counts=counts)
        if not freed:
            return {}, None
        for index in freed:
            drafts.append(node_event(Kind.RECOVERED, context.plan.nodes[index], {"reason": reason}))
        base = store.bump(tx, execution_id, events=len(drafts))
        if base is not None:
            store.insert_events(tx, execution_id, base, drafts, context.depth)
        return freed, base

    freed, base = store.committer.run(job, execution_id.hex)
    if base is None:
        return None
    events.push(execution_id, base, drafts, states.RUNNING, context.depth)
    now = [index for index, at_once in freed.items() if at_once]
    return dispatch_of(context, phase, now, apart=counts) if now else None
