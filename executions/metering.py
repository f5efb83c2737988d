"""What executions reserve when they start, and settle when they end; nothing for owners who are not metered.

An execution reserves what its own nodes can cost, in the transaction that inserts it, and settles in the one that
ends it. A turn of a loop and a subflow are executions, so each reserves and settles for itself; a loop therefore
takes more step by step, and never below zero. ``Execution.reserved`` is empty where nobody is metered, and does
not change while an execution runs, so that whoever ends it knows what to give back.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from executions import store
from executions.context import Context
from executions.errors import NodeFailed
from executions.models import Execution
from executions.planner import Plan, PlannedNode
from executions.store import Transaction, now_us
from workflows import credits
from workflows.errors import InsufficientCredits
from workflows.registry import cost_of

_EXECUTION = Execution._meta.db_table
_OPEN = "status IN ('queued','running','paused','waiting')"
START_PATIENCE_S = 30
"""How long a start waits for others of its owner that are being stored. Each takes some milliseconds."""


def own_cost(plan: Plan) -> int:
    """Return what the nodes of this scope cost together, disabled ones not: the most that its execution is charged."""
    return _cost(plan.nodes[index] for phase in plan.phases for index in phase)


def whole_cost(plan: Plan) -> int:
    """Return what one run costs as far as that is known before: each node once, those inside of loops, too."""
    return _cost(plan.nodes)


def _cost(nodes: Iterable[PlannedNode]) -> int:
    return cost_of((planned.node, planned.description) for planned in nodes)


def reserve_start(execution: Execution, name: str, plan: Plan) -> None:
    """Reserve for an execution that is inserted in this transaction, if its owner is metered.

    Else it costs one query by primary key, and none at all where nobody has an account.

    Raises:
        InsufficientCredits: the balance does not cover it.
    """
    if not credits.in_use():
        return
    with store.statements() as tx:
        now = now_us()
        if credits.balance(tx, execution.owner_id, now) is None:
            return
        if tx.postgres:
            tx.run(f"SET LOCAL lock_timeout = '{START_PATIENCE_S}s'")
        execution.reserved = own_cost(plan)
        _reserve(
            tx, execution.owner_id, execution.reserved, f'workflow "{name}"', execution.pk, execution.workflow_id, now,
            needs=whole_cost(plan),
        )  # fmt: skip


def reserve_child(
    tx: Transaction, context: Context, node: PlannedNode, child: UUID, workflow_id: UUID, amount: int
) -> None:
    """Reserve for an execution that a node of a metered one has just inserted.

    Raises:
        NodeFailed: the balance does not cover it; the transaction must not be committed.
    """
    what = f'"{node.name}": {"the next turn" if node.description.inside else "the workflow that it runs"}'
    try:
        _reserve(tx, context.owner_id, amount, what, child, workflow_id, now_us())
    except InsufficientCredits as error:
        raise NodeFailed(str(error), code=error.code, retryable=False) from error


def _reserve(
    tx: Transaction, owner_id: int, amount: int, what: str, execution_id: UUID, workflow_id: UUID, now: int,
    needs: int | None = None,
) -> None:  # fmt: skip
    if credits.reserve(
        tx, owner_id, amount, execution_id=execution_id, workflow_id=workflow_id, now=now, needs=needs
    ):  # fmt: skip
        return
    available, reserved = credits.balance(tx, owner_id, now) or (0, 0)
    running = tx.run(
        f"SELECT count(*) FROM {_EXECUTION} WHERE {_OPEN} AND owner_id=? AND reserved>0 AND id<>?",
        (owner_id, tx.id(execution_id)),
    ).fetchone()[0]
    raise InsufficientCredits(what, max(amount, needs or 0), available, reserved, int(running))


def settle(tx: Transaction, context: Context) -> None:
    """Settle an execution that has just been ended in this transaction; nothing for one that is not metered."""
    if context.reserved is None:
        return
    cost = tx.run(f"SELECT credits FROM {_EXECUTION} WHERE id=?", (tx.id(context.id),)).fetchone()[0]
    credits.settle(
        tx, context.owner_id, context.reserved, int(cost), execution_id=context.id, workflow_id=context.workflow_id,
        now=now_us(),
    )  # fmt: skip


def settle_deleted(instance: Execution, **kwargs: object) -> None:
    """Settle an execution whose row is about to be deleted before it has ended (a receiver of ``pre_delete``)."""
    if instance.reserved is None:
        return
    with store.statements() as tx:
        row = tx.run(
            f"UPDATE {_EXECUTION} SET status='cancelled' WHERE id=? AND {_OPEN} RETURNING credits",
            (tx.id(instance.pk),),
        ).fetchone()
        if row is not None:
            credits.settle(
                tx, instance.owner_id, instance.reserved, int(row[0]), execution_id=instance.pk,
                workflow_id=instance.workflow_id, now=now_us(),
            )  # fmt: skip
