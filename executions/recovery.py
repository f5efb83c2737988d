"""What is done to node runs whose process is gone: give them to another, or fail them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db.models import Q

from executions import events, leases, states, store, waits
from executions.context import Context, load
from executions.drafts import node_event, phase_event
from executions.engine import advance_after
from executions.models import BrowserSession, NodeRun
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


def first_on_page(execution_id: UUID, claim: str) -> bool:
    """Return whether no node has worked on the page of an execution but those that are held under ``claim``.

    Nothing is lost with a page that only they know: whoever runs them again opens it anew. A node that failed, or
    that waits for its next attempt, has worked on it; so has a loop that began, whose turns work on it.
    """
    context = load(execution_id)
    if context is None or context.page_of != execution_id:
        return False
    runs, held = NodeRun.objects.filter(execution_id=execution_id), _held_under(claim)
    if runs.filter(held, queue__startswith=leases.PAGE_QUEUE).exists():
        return False  # the page was there when their phase was opened
    others = runs.filter(node_index__in=context.plan.page_users()).exclude(held)
    return not others.exclude(status=states.SKIPPED).exclude(status=states.QUEUED, deliveries=0).exists()


def _held_under(claim: str) -> Q:
    return Q(claim=claim, status__in=(states.RUNNING, states.RETRYING))


def reopen(
    execution_id: UUID, phase: int, claim: str, boot: str, reason: str, *, counts: bool = True
) -> Dispatch | None:
    """Give the nodes of a page that the process ``boot`` held under ``claim`` to another one, all of them together.

    Returns the messages to send, or None. The page, if there is one, is given up in the same transaction.
    """
    held = NodeRun.objects.filter(_held_under(claim), execution_id=execution_id, phase_index=phase).exclude(session="")
    indexes = list(held.order_by("node_index").values_list("node_index", flat=True))
    return requeue(execution_id, phase, indexes, [claim], reason, counts=counts, boot=boot) if indexes else None


def requeue(
    execution_id: UUID, phase: int, indexes: Sequence[int], claims: Sequence[str], reason: str, *,
    counts: bool = True, boot: str = "",
) -> Dispatch | None:  # fmt: skip
    """Give node runs of a process that ended to another one. Returns the messages to send, or None.

    ``counts`` says that the process was lost while it ran them, so that this delivery counts. With ``boot``, what
    that process holds of the page is given up, and whoever takes the nodes opens it anew.
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
        if boot:
            store.end_page(tx, execution_id, boot, BrowserSession.LOST, now_us())
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
    if boot and context.session_boot == boot:
        context.session_queue = ""
    now = sorted(index for index, at_once in freed.items() if at_once)
    return dispatch_of(context, phase, now, apart=counts) if now else None
