"""Node runs that wait, held by no process: set aside, woken again, and the children that they wait for.

A waiting row says what it waits for; whoever brings that about makes it ``queued`` in one UPDATE, and it is
claimed like any other. A child is an execution; its end counts itself off at its parent in the same
transaction. The statements are plain SQL for the group committer, like those of ``store``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from django.contrib.auth import get_user_model

from executions import metering, states, store
from executions.context import Context, plan_of
from executions.drafts import node_event
from executions.errors import Child, NodeFailed, NodeWaits
from executions.models import Execution, NodeRun
from executions.planner import Plan, PlannedNode
from executions.runtime import Ready
from executions.store import EventDraft, Transaction, now_us
from recordings.blobs import read_blob
from recordings.events import RecordingEventType as Kind
from workflows import scopes
from workflows.errors import WorkflowError
from workflows.lifecycle import find_workflow
from workflows.models import Workflow
from workflows.registry import DONE, ERROR, ERROR_MESSAGE, EXECUTE

DEEPEST = scopes.DEEPEST
"""How many executions may run inside each other."""

_EXECUTION = Execution._meta.db_table
_NODE_RUN = NodeRun._meta.db_table
_QUEUE_NOW = "CASE WHEN substr(queue,1,8)='browser.' THEN 'browser' ELSE queue END"
"""The queue of a node that wakes: that of the process which held its page when it went to sleep may have gone since."""


# --------------------------------------------------------------------------- children


@dataclass(frozen=True, slots=True)
class ChildRow:
    """An execution to insert for a node; ``detached`` means that the node does not wait for its end.

    Such a one is a start like any other: it may have to wait (``held_by``), and has its workflow's own ``priority``.
    """

    id: UUID
    index: int
    workflow_id: UUID
    version_id: UUID
    plan: Plan
    scope: str = ""
    item: str = ""
    input: str = "{}"
    detached: bool = False
    priority: int | None = None
    held_by: str = ""
    concurrency_key: str = ""


Find = Callable[[Context, PlannedNode, str], tuple[UUID, UUID, Plan]]
"""Finds a workflow by name: its id, the id of its version, and the plan of that."""


def child_rows(
    context: Context, node: PlannedNode, children: Iterable[Child], find: Find | None = None
) -> list[ChildRow]:
    """Return the executions that ``node`` asks for. Their ids follow from parent, node and turn.

    Workflows are looked for among those of the owner, or by ``find``.

    Raises:
        NodeFailed: they would be nested too deep, or a workflow is not there or not active.
    """
    rows = [_child_row(context, node, child, find or subflow) for child in children]
    if len(rows) > 1 and rows[0].scope and rows[0].plan.uses_browser and not rows[0].plan.launches_browser:
        raise NodeFailed(
            f'the turns of "{node.name}" work on one page, so they cannot run at the same time; set Max Concurrency '
            "to 1 or open a browser inside of the loop", code="invalid_input", retryable=False,
        )  # fmt: skip
    if rows and context.depth >= DEEPEST:
        raise NodeFailed(
            f'"{node.name}" would run inside {context.depth} others; the limit is {DEEPEST} (does a workflow run itself?)',
            code="too_deep", retryable=False,
        )  # fmt: skip
    return rows


def _child_row(context: Context, node: PlannedNode, child: Child, find: Find) -> ChildRow:
    child_id = Child.id(context.id, node.index, child.index)
    if child.workflow:
        workflow_id, version_id, plan = find(context, node, child.workflow)
        return ChildRow(
            child_id, child.index, workflow_id, version_id, plan,
            input=store.to_json(context.redact(child.input)), detached=child.detached,
        )  # fmt: skip
    turn = {"Item": child.item, "Index": child.index, "Is Last": child.last, "Last": child.item, "Each": "execute"}
    item = store.to_json(context.redact({name: turn[name] for name in node.description.inside}))
    return ChildRow(
        child_id, child.index, context.workflow_id, context.version_id, context.plan.body(node.index),
        scope=node.node.id, item=item,
    )  # fmt: skip


def subflow(context: Context, node: PlannedNode, name: str) -> tuple[UUID, UUID, Plan]:
    owner = get_user_model().objects.get(pk=context.owner_id)
    try:
        workflow = find_workflow(owner, name)
    except WorkflowError as error:
        raise NodeFailed(f'"{node.name}": {error}', code="subflow", retryable=False) from error
    if workflow.owner_id != owner.pk:
        raise NodeFailed(f'"{node.name}": workflow "{name}" belongs to somebody else', code="subflow", retryable=False)
    if workflow.status != Workflow.Status.ACTIVE or workflow.version_id is None:
        raise NodeFailed(
            f'"{node.name}": workflow "{workflow.name}" is {workflow.status}; only an active one can be run',
            code="subflow", retryable=False,
        )  # fmt: skip
    return workflow.pk, workflow.version_id, plan_of(workflow.version_id)[0]


def _insert_children(tx: Transaction, context: Context, node: PlannedNode, rows: Sequence[ChildRow], now: int) -> None:
    parent, index, moment = tx.id(context.id), node.index, tx.time(now)
    for row in rows:
        of = (None, None, None) if row.detached else (parent, index, row.index)
        priority = context.priority if row.priority is None else row.priority
        reserved = None if context.reserved is None else metering.own_cost(row.plan)
        inserted = tx.run(
            f"INSERT INTO {_EXECUTION}(id, workflow_id, version_id, owner_id, trigger, status, input, phase_index,"
            " phase_count, node_count, seq, depth, cancel_requested, credits, error, error_code, error_node, queued_at,"
            " published_at, publish_count, touched_at, deliveries, priority, held_by, concurrency_key, parent_id,"
            " parent_node, child_index, scope, item, reserved)"
            " VALUES(?,?,?,?,'workflow','queued',?,-1,?,?,0,?,?,0,'','','',?,CASE WHEN ? THEN NULL ELSE {now} END,0,"
            "{now},0,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
            (tx.id(row.id), tx.id(row.workflow_id), tx.id(row.version_id), context.owner_id, row.input,
             len(row.plan.phases), row.plan.node_count, context.depth + 1, False, moment, bool(row.held_by), priority,
             row.held_by, row.concurrency_key, *of, row.scope, row.item, reserved),
        ).rowcount  # fmt: skip
        if reserved is not None and inserted:
            metering.reserve_child(tx, context, node, row.id, row.workflow_id, reserved)


def count_child(tx: Transaction, context: Context) -> None:
    """Tell the parent of an execution that ends in this transaction; wake it if it waits."""
    if context.parent is None:
        return
    parent_id, index = context.parent
    tx.run(
        f"UPDATE {_NODE_RUN} SET children_ended=children_ended+1, dispatched_at={{now}}, queue={_QUEUE_NOW},"
        " status=CASE WHEN status='waiting' AND wait_kind='children' THEN 'queued' ELSE status END"
        " WHERE execution_id=? AND node_index=?",
        (tx.id(parent_id), index),
    )
    _stir(tx, parent_id)


# --------------------------------------------------------------------------- aside and awake


def set_aside(
    tx: Transaction, context: Context, node: PlannedNode, claim: str, wait: NodeWaits, rows: Sequence[ChildRow],
    memory: Memory, now: int,
) -> str | None:  # fmt: skip
    """Let go of a claimed node run that waits, and insert its children.

    Returns the status that it has now: waiting, or queued when what it waits for has happened already; None when
    the claim was lost.
    """
    at_once = bool(rows) and all(row.detached for row in rows)
    status = tx.run(
        f"UPDATE {_NODE_RUN} SET status=CASE WHEN ? OR (? AND children_ended>?) THEN 'queued' ELSE 'waiting' END,"
        " wait_kind=?, wait_state=?, resume='', wake_at=CASE WHEN ? THEN {now}+? ELSE NULL END, claim='', worker='',"
        " lease_until=0, deliveries=0, attempt=attempt-1, dispatched_at={now}"
        " WHERE execution_id=? AND node_index=? AND claim=? AND status IN ('running','retrying') RETURNING status",
        (at_once, wait.kind == NodeRun.CHILDREN, memory.known, wait.kind, memory.encode(), wait.wake_s is not None,
         int((wait.wake_s or 0) * 1_000_000), tx.id(context.id), node.index, claim),
    ).fetchone()  # fmt: skip
    if status is None:
        return None
    _insert_children(tx, context, node, rows, now)
    rest(tx, context.id)
    return str(status[0])


def rest(tx: Transaction, execution_id: UUID) -> None:
    """Let a running execution wait, and its clock stand still, when all of its open nodes do."""
    key = tx.id(execution_id)
    tx.run(
        f"UPDATE {_EXECUTION} SET status='waiting', held_since={{now}} WHERE id=? AND status='running'"
        f" AND EXISTS(SELECT 1 FROM {_NODE_RUN} WHERE execution_id=? AND status='waiting')"
        f" AND NOT EXISTS(SELECT 1 FROM {_NODE_RUN} WHERE execution_id=? AND status IN ('queued','running','retrying'))",
        (key, key, key),
    )


def _stir(tx: Transaction, execution_id: UUID) -> None:
    """Let a waiting execution run, and its clock with it."""
    tx.run(
        f"UPDATE {_EXECUTION} SET status='running', deadline_at=deadline_at+({{now}}-held_since), held_since=NULL,"
        " touched_at={now} WHERE id=? AND status='waiting'",
        (tx.id(execution_id),),
    )


def pause(tx: Transaction, execution_id: UUID) -> bool:
    """Let a running or waiting execution start nothing more, and its clock stand still; return whether it did."""
    return bool(
        tx.run(
            f"UPDATE {_EXECUTION} SET held_since=CASE WHEN status='running' THEN {{now}} ELSE held_since END,"
            " status='paused' WHERE id=? AND status IN ('running','waiting') AND NOT cancel_requested",
            (tx.id(execution_id),),
        ).rowcount
    )


def unpause(tx: Transaction, execution_id: UUID) -> bool:
    """Let a paused execution run, or wait if that is all that its open nodes do; return whether it was paused."""
    released = tx.run(
        f"UPDATE {_EXECUTION} SET status='running', deadline_at=deadline_at+({{now}}-held_since), held_since=NULL,"
        " touched_at={now} WHERE id=? AND status='paused'",
        (tx.id(execution_id),),
    ).rowcount
    if released:
        rest(tx, execution_id)
    return bool(released)


def wake(tx: Transaction, execution_id: UUID, index: int, kind: str, resume: dict[str, Any], *, due: bool) -> bool:
    """Queue a waiting node run; return whether it waited for ``kind``. With ``due`` only if its time has come."""
    woken = tx.run(
        f"UPDATE {_NODE_RUN} SET status='queued', resume=?, wake_at=NULL, dispatched_at={{now}}, queue={_QUEUE_NOW}"
        " WHERE execution_id=? AND node_index=? AND status='waiting' AND wait_kind=?"
        + (" AND wake_at<={now}" if due else ""),
        (store.to_json(resume), tx.id(execution_id), index, kind),
    ).rowcount
    if woken:
        _stir(tx, execution_id)
    return bool(woken)


# --------------------------------------------------------------------------- what a node finds when it wakes


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept of a node that waits: its own ``state``, and how far its children are.

    ``active`` are the turns that were started and not yet seen to end, ``known`` how many ends were counted then.
    """

    state: Any = None
    collect: str = "none"
    active: tuple[int, ...] = ()
    ended: int = 0
    failed: tuple[dict[str, Any], ...] = ()
    known: int = 0
    workflow: str = ""
    """The id of the workflow that its children run."""

    def encode(self) -> str:
        """Return it as JSON text."""
        return store.to_json({name: getattr(self, name) for name in self.__slots__})


def resumed(context: Context, items: Sequence[Ready]) -> list[Ready]:
    """Return ``items``, those that waited before with what they kept and what woke them. One query, if any may wait."""
    may_wait = [item.planned.index for item in items if item.planned.description.waits]
    if not may_wait:
        return list(items)
    rows = NodeRun.objects.filter(execution_id=context.id, node_index__in=may_wait).exclude(wait_kind="")
    found = {row.node_index: row for row in rows}
    return [_with_memory(context, item, found.get(item.planned.index)) for item in items]


def _with_memory(context: Context, item: Ready, row: NodeRun | None) -> Ready:
    if row is None:
        return item
    memory = Memory(**msgspec.json.decode(row.wait_state))
    resume: dict[str, Any] = msgspec.json.decode(row.resume) if row.resume else {"reason": row.wait_kind}
    began = row.started_at.timestamp() if row.started_at else datetime.now(UTC).timestamp()
    item = replace(item, started_us=int(began * 1_000_000))
    if row.wait_kind != NodeRun.CHILDREN:
        return awake(item, memory, resume)
    memory, events = _look_at_children(context, item.planned, memory, row.children_ended)
    results = _results(context, item.planned, memory.collect) if memory.collect != "none" else None
    return awake(item, memory, seen(memory, results), events)


def awake(item: Ready, memory: Memory, resume: dict[str, Any], exits: tuple[EventDraft, ...] = ()) -> Ready:
    """Return a node that waited with what it kept and what woke it; ``exits`` are events of children that ended."""
    return replace(item, state=memory.state, resume=resume, memory=memory, exits=exits)


def seen(memory: Memory, results: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Return what a node whose children ended finds in ``resume``."""
    found = {
        "reason": NodeRun.CHILDREN, "ended": memory.ended, "failed": list(memory.failed), "active": list(memory.active),
    }  # fmt: skip
    return found if results is None else found | {"results": results}


def _look_at_children(
    context: Context, node: PlannedNode, memory: Memory, counted: int
) -> tuple[Memory, tuple[EventDraft, ...]]:
    rows = list(
        Execution.objects.filter(
            parent_id=context.id, parent_node=node.index, child_index__in=memory.active, status__in=states.TERMINAL
        ).order_by("child_index")
    )
    ends = [
        ChildEnd(row.pk, row.child_index, row.status, row.error, row.error_code, store.datetime_to_us(row.finished_at))
        for row in rows
    ]
    return note_ends(node, replace(memory, known=counted), ends, context.depth)


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended, and when (microseconds)."""

    id: UUID
    index: int
    status: str
    error: str
    code: str
    ended_us: int


def note_ends(
    node: PlannedNode, memory: Memory, ends: Sequence[ChildEnd], depth: int
) -> tuple[Memory, tuple[EventDraft, ...]]:
    """Return the memory of a node after ``ends``, and their events; ``depth`` is that of the node's execution."""
    failed = [
        {"index": end.index, "error": end.error or f"was {end.status}", "code": end.code or end.status}
        for end in ends
        if end.status not in (states.COMPLETED, states.COMPLETED_WITH_ERRORS)
    ]
    gone = {end.index for end in ends}
    exits = tuple(_exit(node, end.id, end.index, end.status, depth, memory.workflow, end.ended_us) for end in ends)
    active = tuple(index for index in memory.active if index not in gone)
    return replace(memory, active=active, ended=memory.ended + len(ends), failed=(*memory.failed, *failed)), exits


def after(memory: Memory | None, wait: NodeWaits, rows: Sequence[ChildRow], state: Any) -> Memory:
    """Return what to keep of a node that waits (again)."""
    before = memory or Memory()
    active = (*before.active, *(row.index for row in rows if not row.detached))
    workflow = str(rows[0].workflow_id) if rows else before.workflow
    return replace(before, state=state, collect=wait.collect, active=active, workflow=workflow)


def _results(context: Context, node: PlannedNode, collect: str) -> list[dict[str, Any]]:
    """Return how children ended, in order: ``{"index", "id", "status", "value", "error"}``. Two queries."""
    children = Execution.objects.filter(
        parent_id=context.id, parent_node=node.index, status__in=states.TERMINAL
    ).order_by("child_index")
    chosen = list(children)[-1:] if collect == "last" else list(children)
    outputs = _outputs([child.pk for child in chosen])
    return [
        {
            "index": child.child_index, "id": str(child.pk), "status": child.status, "error": child.error,
            "code": child.error_code, "value": _value(context, node, child, outputs.get(child.pk, {})),
        }
        for child in chosen
    ]  # fmt: skip


def _outputs(execution_ids: Sequence[UUID]) -> dict[UUID, dict[int, dict[str, Any]]]:
    """Return what the node runs gave, by execution and node; one that failed gives its error."""
    found: dict[UUID, dict[int, dict[str, Any]]] = {}
    rows = NodeRun.objects.filter(
        execution_id__in=execution_ids, status__in=(states.COMPLETED, states.FAILED)
    ).values_list("execution_id", "node_index", "status", "outputs", "outputs_blob", "error")
    for execution_id, index, status, text, blob, error in rows:
        failed = status == states.FAILED
        found.setdefault(execution_id, {})[index] = (
            {ERROR: EXECUTE, ERROR_MESSAGE: error} if failed else msgspec.json.decode(read_blob(blob) if blob else text)
        )
    return found


def _value(context: Context, node: PlannedNode, child: Execution, outputs: dict[int, dict[str, Any]]) -> Any:
    plan = context.plan.body(node.index) if child.scope else plan_of(child.version_id)[0]
    return child_value(context.plan, node, plan, outputs)


def child_value(around: Plan, node: PlannedNode, plan: Plan, outputs: dict[int, dict[str, Any]]) -> Any:
    """Return what a child gives: the output that a wire names, else the outputs of the nodes that nothing follows.

    ``plan`` is the child's own, ``around`` that of ``node``, which started it.
    """
    if plan.scope is not None and node.index in around.results:
        source, output = around.results[node.index]
        return outputs.get(source, {}).get(output)
    return leaf_outputs(plan, outputs)


def leaf_outputs(plan: Plan, outputs: dict[int, dict[str, Any]]) -> Any:
    """Return the outputs of the one node that nothing follows, or by node id when several completed."""
    leaves = [node for node in plan.leaves() if _gives(node, outputs.get(node.index))]
    given = {
        node.node.id: {name: value for name, value in outputs[node.index].items() if name != DONE} for node in leaves
    }
    return next(iter(given.values())) if len(given) == 1 else given


def _gives(node: PlannedNode, given: dict[str, Any] | None) -> bool:
    """Return whether a node run has outputs: it completed, or it failed and hands on its error."""
    return given is not None and (given.keys() != {ERROR, ERROR_MESSAGE} or node.node.policy.on_error == "output")


def open_children(execution_id: UUID, index: int | None = None) -> list[UUID]:
    """Return the children of an execution (of one node of it) that have not ended. One query."""
    children = Execution.objects.filter(parent_id=execution_id).exclude(status__in=states.TERMINAL)
    if index is not None:
        children = children.filter(parent_node=index)
    return list(children.values_list("pk", flat=True))


def waiting_events(node: PlannedNode, wait: NodeWaits, rows: Sequence[ChildRow], depth: int) -> list[EventDraft]:
    """Return the events of a node that is set aside: the children that it starts, and that it waits."""
    now = now_us()
    entered = []
    for row in rows:
        data = {
            "execution_id": str(row.id),
            "index": row.index,
            "depth": depth + 1,
            "workflow_id": str(row.workflow_id),
        }
        named = _operation(node, str(row.workflow_id))
        entered.append(node_event(Kind.RECURSION_ENTER, node, {**named, **data, "detached": row.detached}, now))
        if row.detached:
            entered.append(_exit(node, row.id, row.index, "detached", depth, str(row.workflow_id), now))
    until = None if wait.wake_s is None else datetime.fromtimestamp(now / 1e6 + wait.wake_s, UTC)
    waited = {
        "kind": wait.kind, "status": states.WAITING, "until": until.isoformat(timespec="seconds") if until else None,
        "waits_for": _waits_for(wait, until),
    }  # fmt: skip
    return [*entered, node_event(Kind.NODE_WAITING, node, waited, now)]


def _operation(node: PlannedNode, workflow: str) -> dict[str, str]:
    """Return what kind of execution runs inside ``node``, and which: a turn of its body, or another workflow."""
    if node.description.inside:
        return {"operation_type": "loop", "identifier": node.node.id}
    return {"operation_type": "workflow", "identifier": workflow}


def _exit(
    node: PlannedNode, child: UUID, index: int | None, status: str, depth: int, workflow: str, timestamp: int
) -> EventDraft:  # fmt: skip
    data = {"execution_id": str(child), "index": index, "status": status, "depth": depth + 1}
    return node_event(Kind.RECURSION_EXIT, node, {**_operation(node, workflow), **data}, timestamp)


def exits_at_end(context: Context, item: Ready, status: str) -> list[EventDraft]:
    """Return the events of the children of a node that ends: of those that ended, and of those that it leaves."""
    memory = item.memory
    if not isinstance(memory, Memory) or not memory.active:
        return list(item.exits)
    left = states.RUNNING if status == states.COMPLETED else states.CANCELLED
    return [*item.exits, *_exits_of(context, item.planned, memory, dict.fromkeys(memory.active, (left, now_us())))]


def _exits_of(
    context: Context, node: PlannedNode, memory: Memory, ends: dict[int, tuple[str, int]]
) -> list[EventDraft]:
    return [
        _exit(node, Child.id(context.id, node.index, index), index, status, context.depth, memory.workflow, at)
        for index, (status, at) in sorted(ends.items())
    ]


def exits_of_open_nodes(tx: Transaction, context: Context, indexes: Sequence[int] = ()) -> dict[str, list[EventDraft]]:
    """Return, by node id, the events of the children that open nodes wait for and will not see end.

    ``indexes`` are the nodes that are meant, all without. Ask before they are ended, in the same transaction.
    """
    found: dict[str, list[EventDraft]] = {}
    if not context.plan.may_wait:
        return found
    now = now_us()
    rows = tx.run(
        f"SELECT node_index, wait_state FROM {_NODE_RUN} WHERE execution_id=? AND wait_kind='children'"
        " AND status IN ('queued','running','retrying','waiting')",
        (tx.id(context.id),),
    ).fetchall()
    for index, state in rows:
        memory = Memory(**msgspec.json.decode(state))
        if not memory.active or (indexes and index not in indexes):
            continue
        children = tx.run(
            f"SELECT child_index, status, finished_at FROM {_EXECUTION} WHERE parent_id=? AND parent_node=?"
            f" AND child_index IN ({store.marks(memory.active)})",
            (tx.id(context.id), index, *memory.active),
        ).fetchall()
        ends = {
            child: (status, store.datetime_to_us(at)) if status in states.TERMINAL else (states.CANCELLED, now)
            for child, status, at in children
        }
        node = context.plan.nodes[index]
        found[node.node.id] = _exits_of(context, node, memory, ends)
    return found


def _waits_for(wait: NodeWaits, until: datetime | None) -> str:
    if wait.kind == NodeRun.TIMER and until is not None:
        return f"until {until:%Y-%m-%d %H:%M:%S} UTC"
    if wait.kind == NodeRun.APPROVAL:
        return "for an approval" + (f", at the latest until {until:%Y-%m-%d %H:%M:%S} UTC" if until else "")
    return "for executions that it started"
