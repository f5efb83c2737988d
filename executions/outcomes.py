"""What nodes did, as rows and events: ends, notes, retries, and the blobs and sessions that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from django.conf import settings

from executions import admission, events, leases, states, store, waits
from executions.context import Context, RecordSwitch, note_result
from executions.drafts import node_event, omit, set_apart, start_event
from executions.errors import NodeFailed, NodeWaits
from executions.failpoints import failpoint
from executions.models import Execution
from executions.opening import DEFAULT_QUEUE, Dispatch, Work
from executions.planner import PlannedNode
from executions.runtime import RECORDED_BY, Finished, Item, Noted, Ready, Resumed, Retrying, SessionOpened, Waiting
from executions.store import EventDraft, Job, NodeEnd, Transaction, now_us
from executions.waits import ChildRow
from recordings.events import OMITTED, line, plain
from recordings.events import RecordingEventType as Kind
from recordings.rows import BLOBS

EVENT_TYPE_CHARACTERS = 32
NODE_ID_CHARACTERS = 200
ERROR_CODE_CHARACTERS = 40
TRACEBACK_CHARACTERS = 4_000
LARGEST_VARIABLES = 256 * 1024
_TEAM_VALUES: dict[str, tuple[RecordSwitch, str]] = {
    Kind.TEAM_START.value: ("record_inputs", "context"),
    Kind.TEAM_MEMBER_START.value: ("record_inputs", "inputs"),
    Kind.TEAM_COMMUNICATION.value: ("record_outputs", "message"),
    Kind.TEAM_MEMBER_COMPLETE.value: ("record_outputs", "outputs"),
    Kind.TEAM_COMPLETE.value: ("record_outputs", "final_output"),
}
"""Which data of a team's event is a value that went into its node or came out of it."""


def record(
    context: Context, work: Work, ready: dict[int, Ready], items: Sequence[Item]
) -> tuple[list[NodeEnd], list[EventDraft]]:
    """Turn what happened into node ends and events; store blobs on the way."""
    ends: list[NodeEnd] = []
    drafts: list[EventDraft] = []
    for item in items:
        match item:
            case Finished():
                drafts.extend(waits.exits_at_end(context, ready[item.index], item.status))
                end, event = ended(context, ready[item.index].planned, item)
                ends.append(end)
                drafts.append(event)
            case Noted():
                drafts.append(noted(context, item))
            case Retrying():
                drafts = _retry(context, work, ready[item.index].planned, item, drafts)
            case Resumed():
                drafts = _resume(context, work, ready[item.index], item, drafts)
    return ends, drafts


def lay_aside(work: Work, items: Sequence[Item], ready: dict[int, Ready]) -> tuple[list[Item], Dispatch | None]:
    """Set aside the nodes among ``items`` that ask for it; return the other items and the messages to send.

    A node whose children cannot be started becomes one that failed.
    """
    others: list[Item] = []
    dispatch: Dispatch | None = None
    for item in items:
        if not isinstance(item, Waiting):
            others.append(item)
            continue
        try:
            rows = waits.child_rows(work.context, ready[item.index].planned, item.wait.children)
            rows = [admission.place_child(row, work.context.owner_id) if row.detached else row for row in rows]
            more = _set_aside(work, ready[item.index], item.wait, rows)
        except (NodeFailed, TypeError, ValueError, RecursionError) as error:
            code = error.code if isinstance(error, NodeFailed) else "output"
            began = ready[item.index].started_us or now_us()
            others.append(
                Finished(item.index, states.FAILED, item.attempt, began, now_us(), error=str(error), error_code=code)
            )
            continue
        dispatch = more.and_also(dispatch) if more else dispatch
    return others, dispatch


def _set_aside(work: Work, item: Ready, wait: NodeWaits, rows: Sequence[ChildRow]) -> Dispatch | None:
    context, node = work.context, item.planned
    memory = waits.after(item.memory, wait, rows, context.redact(wait.state))
    memory.encode()  # what is no JSON shows here, outside the transaction
    drafts = [*item.exits, *waits.waiting_events(node, wait, rows, context.depth)]

    def job(tx: Transaction) -> tuple[str, int | None] | None:
        status = waits.set_aside(tx, context, node, work.claim, wait, rows, memory, now_us())
        if status is None:
            return None
        store.add_tags(tx, context.id, context.tags)
        base = store.bump(tx, context.id, events=len(drafts))
        if base is not None:
            store.insert_events(tx, context.id, base, drafts, context.depth)
        return status, base

    won = store.committer.run(job, context.id.hex)
    if won is None:
        return None
    status, base = won
    if base is not None:
        events.push(context.id, base, drafts, states.RUNNING, context.depth)
    failpoint("set-aside")
    awake = status == states.QUEUED
    headers = (((node.index,), DEFAULT_QUEUE),) if awake else ()
    for row in rows:
        if row.detached:
            admission.send(Execution.objects.get(pk=row.id))
    starts = tuple(row.id for row in rows if not row.detached)
    return Dispatch(context.id, work.phase, headers, starts, context.priority, wakes=awake)


def noted(context: Context, item: Noted) -> EventDraft:
    """Return what a node noted as an event that can be stored; keep its content without secrets, too."""
    event = item.event
    data = plain(event.data)
    if item.content is not None:
        content = context.clean(item.content, item.content_type)
        data |= {"blob": context.keep(content, item.content_type), "size_bytes": len(content)}
    data.pop(BLOBS, None)
    data.pop(OMITTED, None)
    data = context.redact(data)
    if event.type == Kind.LOG.value:
        data["message"] = line(data.get("message"))  # after redaction, or half a secret might be left
    switch, name = _TEAM_VALUES.get(event.type, (None, ""))
    if switch is not None and not context.records(switch, context.plan.nodes[item.index]):
        data = omit(data, name)
    encoded = store.encode_json(data)
    if item.lines is not None:
        item.lines.stored(item.weight, len(encoded))
    stored = msgspec.json.decode(encoded)
    if event.type == Kind.TAG.value:
        context.tags.update(stored["tags"])
    apart = set_apart(context, stored) if len(encoded) > settings.INLINE_OUTPUT_BYTES else None
    own = event.node_id == context.plan.nodes[item.index].node.id  # else the name of a team, which may be anything
    kind, node_id = (
        store.to_column(str(context.redact(event.type)), EVENT_TYPE_CHARACTERS),
        store.to_column(event.node_id if own else str(context.redact(event.node_id)), NODE_ID_CHARACTERS),
    )
    if apart is not None:
        return EventDraft(kind, event.timestamp, node_id, stored | apart, stored)
    return EventDraft(kind, event.timestamp, node_id, stored)


def ended(context: Context, node: PlannedNode, item: Finished) -> tuple[NodeEnd, EventDraft]:
    """Return how a node ended, as its row and its event; ``context`` knows the result from here on."""
    seconds = (item.ended_us - item.started_us) / 1_000_000
    data: dict[str, Any] = {"duration_seconds": seconds, "error": None, "attempt": item.attempt, "status": item.status}
    if item.status == states.COMPLETED:
        outputs, text, blob, problem = _store_outputs(context, node, item.outputs or {})
        variables, unfit = _variables(context, node, item.variables) if item.variables else ({}, None)
        problem = problem or unfit
        if problem is None:
            context.set_by_nodes |= variables
            note_result(context, node.index, states.COMPLETED, outputs)
            cost = 0 if item.cached else node.description.credits
            if item.cached:
                data["cached"] = True
            end = NodeEnd(
                node.index, states.COMPLETED, item.started_us, item.ended_us, text, blob,
                credits=cost, attempt=item.attempt, variables=variables, **_used(item),
            )  # fmt: skip
            data["credits"] = cost
            if variables:
                data["variables"] = variables
            if not context.records("record_outputs", node):
                data = omit({**data, "outputs": outputs}, "outputs", "variables")
                return end, node_event(Kind.NODE_COMPLETE, node, data, item.ended_us)
            shown = {"name": node.name, "node_type": node.node.type, "outputs": outputs, **data}
            data["outputs"] = {"$outputs": True}
            event = node_event(Kind.NODE_COMPLETE, node, data, item.ended_us)
            return end, EventDraft(event.type, event.timestamp, event.node_id, event.data, shown)
        item = Finished(
            item.index, states.FAILED, item.attempt, item.started_us, item.ended_us, error=problem, error_code="output",
            used=item.used,
        )  # fmt: skip
        data["status"] = states.FAILED
    error, code = context.error_text(item.error), _code(context, item.error_code)
    note_result(context, node.index, item.status, None, error, code)
    charged = item.status == states.FAILED and node.node.policy.charge_on_failure
    cost = node.description.credits if charged else 0
    data |= {"outputs": {}, "error": error, "error_class": code, "credits": cost}
    if item.process:
        data["process"] = item.process
    if item.traceback:
        data["traceback"] = store.to_column(str(context.redact(item.traceback))[-TRACEBACK_CHARACTERS:])
    kind = Kind.NODE_ERROR if item.status == states.FAILED else Kind.NODE_SKIPPED
    if kind is Kind.NODE_SKIPPED:
        data["reason"] = "the execution was cancelled"
    end = NodeEnd(
        node.index, item.status, item.started_us, item.ended_us,
        error=error, error_code=code, credits=cost, attempt=item.attempt, **_used(item),
    )  # fmt: skip
    return end, node_event(kind, node, data, item.ended_us)


def _used(item: Finished) -> dict[str, Any]:
    used = item.used
    return {} if used is None else {"cpu_seconds": used.cpu_seconds, "peak_memory_bytes": used.peak_memory_bytes}


def _code(context: Context, code: str) -> str:
    """Return an error code as it may be stored; that of a node may be anything."""
    return store.to_column(str(context.redact(code)), ERROR_CODE_CHARACTERS)


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
        return stored, "", context.keep(encoded, "application/json"), None
    return stored, encoded.decode(), "", None


def _variables(context: Context, node: PlannedNode, given: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return the variables that a node set, without secrets and as JSON, or the problem with them."""
    try:
        encoded = store.encode_json(context.redact({**context.set_by_nodes, **given}))
        if len(encoded) > LARGEST_VARIABLES:
            return (
                {},
                f"the variables of the execution would have {len(encoded):,} bytes; the limit is {LARGEST_VARIABLES:,}",
            )
        stored = msgspec.json.decode(encoded)
    except (TypeError, ValueError, RecursionError) as error:
        return {}, f'a variable that "{node.name}" set is not JSON: {error}'
    names = {str(context.redact(str(key))) for key in given}
    return {name: stored[name] for name in names if name in stored}, None


def _retry(
    context: Context, work: Work, node: PlannedNode, item: Retrying, drafts: list[EventDraft]
) -> list[EventDraft]:
    event = retry_event(context, node, item)
    wait_us = None if item.in_place else int(item.delay_s * 1_000_000)

    def move(tx: Transaction) -> bool:
        return store.retry_node(
            tx, context.id, node.index, work.claim, attempt=item.attempt, retry_us=wait_us, error=event.data["error"]
        )

    left = _move_and_note(context, move, node.node.id, drafts, event)
    failpoint("retry-committed")
    return left


def _move_and_note(
    context: Context, move: Job[bool], node_id: str, drafts: list[EventDraft], event: EventDraft
) -> list[EventDraft]:
    """Make a move of one node and write ``event`` in the same transaction, after what the node noted before.

    Returns those of ``drafts`` that are still to be written: all of them when the node is not ours any more.
    """
    mine = [*(draft for draft in drafts if _is_of(draft, node_id)), event]

    def job(tx: Transaction) -> tuple[bool, int | None]:
        if not move(tx):
            return False, None
        store.add_tags(tx, context.id, context.tags)
        base = store.bump(tx, context.id, events=len(mine))
        if base is not None:
            store.insert_events(tx, context.id, base, mine, context.depth)
        return True, base

    won, base = store.committer.run(job, context.id.hex)
    if base is not None:
        events.push(context.id, base, mine, states.RUNNING, context.depth)
    return [draft for draft in drafts if not _is_of(draft, node_id)] if won else drafts


def _is_of(draft: EventDraft, node_id: str) -> bool:
    return node_id in (draft.node_id, draft.data.get(RECORDED_BY))


def retry_event(context: Context, node: PlannedNode, item: Retrying) -> EventDraft:
    """Return the event of an attempt that failed and is followed by another."""
    error, code = context.error_text(item.error), _code(context, item.error_code)
    data = {"attempt": item.attempt, "delay_seconds": item.delay_s, "error": error, "error_class": code}
    return node_event(Kind.NODE_RETRY, node, data)


def _resume(context: Context, work: Work, ready: Ready, item: Resumed, drafts: list[EventDraft]) -> list[EventDraft]:
    def move(tx: Transaction) -> bool:
        return store.resume_node(tx, context.id, item.index, work.claim, item.attempt)

    event = start_event(context, ready.with_attempt(item.attempt))
    left = _move_and_note(context, move, ready.planned.node.id, drafts, event)
    failpoint("resume-committed")
    return left


def save_pages(work: Work, items: Sequence[Item]) -> None:
    """Note which pages this process holds from now on; none that was opened under a claim which it has lost."""
    worker = leases.current
    if worker is None:
        return
    context = work.context
    for item in items:
        if isinstance(item, SessionOpened) and _save_page(context, work.claim, item, worker):
            context.session_boot, context.session_queue = worker.boot, worker.queue
            failpoint("page-opened")


def _save_page(context: Context, claim: str, item: SessionOpened, worker: leases.WorkerProcess) -> bool:
    page = {
        "name": item.name, "boot": worker.boot, "queue": worker.queue, "chromium_pid": item.chromium_pid,
        "chromium_started": item.chromium_started, "profile_dir": item.profile_dir,
    }  # fmt: skip
    opened = now_us()
    return store.committer.run(
        lambda tx: store.save_page(tx, context.id, item.index, claim, page, opened), context.id.hex
    )
