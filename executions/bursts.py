"""Phases of nodes that cannot wait, run in memory and written later, together with what follows them.

Such nodes are light and pure: they compute. Nothing is lost when the process dies before the write, because
they may run again; what is saved is a transaction for every phase.
"""

from __future__ import annotations

from collections.abc import Sequence

from executions import leases, reuse, runtime, states
from executions.context import Context
from executions.drafts import start_event
from executions.opening import DEFAULT_QUEUE, Burst, make_ready
from executions.outcomes import ended, noted
from executions.planner import PlannedNode
from executions.runtime import Finished, Noted, Ready
from executions.store import EventDraft, NodeRow


def run(context: Context, nodes: Sequence[PlannedNode]) -> Burst | None:
    """Run the nodes of a phase here and now; None when one of them may wait, or did not complete.

    Then nothing has happened: the phase is opened in the ordinary way, and its nodes run again.
    """
    worker = leases.current
    if worker is None or worker.isolated or worker.draining:
        return None
    if not all(runtime.never_waits(node.node.type) for node in nodes):
        return None
    items = [make_ready(context, node) for node in nodes]
    if not all(runtime.effect_of(item) == "pure" and not reuse.wants(item) for item in items):
        return None
    before = dict(context.set_by_nodes)
    burst = _complete(context, items)
    if burst is None:
        context.set_by_nodes = before
        for node in nodes:
            context.results.pop(node.index, None)
            context.errors.pop(node.index, None)
    return burst


def _complete(context: Context, items: Sequence[Ready]) -> Burst | None:
    facts = context.facts()
    rows: list[NodeRow] = []
    events: list[EventDraft] = []
    credits = 0
    for item in items:
        happened = runtime.run_at_once(facts, item)
        if happened is None:
            return None
        began = next((what.started_us for what in happened if isinstance(what, Finished)), None)
        events.append(start_event(context, item, began))
        for what in happened:
            if isinstance(what, Noted):
                events.append(noted(context, what))
                if len(events) > runtime.ITEMS_TOGETHER:
                    return None
            elif isinstance(what, Finished):
                end, event = ended(context, item.planned, what)
                if end.status != states.COMPLETED or end.variables:
                    return None
                events.append(event)
                credits += end.credits
                node = item.planned.node
                rows.append(
                    NodeRow(
                        item.planned.index, node.id, node.type, states.COMPLETED, worker=leases.this_boot(),
                        queue=DEFAULT_QUEUE, outputs=end.outputs, outputs_blob=end.outputs_blob, credits=end.credits,
                        started_us=end.started_us, ended_us=end.ended_us, cpu_seconds=end.cpu_seconds,
                    )
                )  # fmt: skip
    return Burst(tuple(rows), tuple(events), credits)
