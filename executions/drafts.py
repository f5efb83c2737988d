"""The events that the engine writes about nodes, phases and executions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.conf import settings

from executions import states, store
from executions.context import Context
from executions.inputs import NodeResult
from executions.planner import PlannedNode
from executions.runtime import Ready
from executions.store import EventDraft, now_us
from recordings.events import OMITTED, left_out, plain, snapshot_id
from recordings.events import RecordingEventType as Kind
from recordings.rows import BLOBS, EDGES_ELSEWHERE, STATE_ELSEWHERE


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


def node_event(kind: Kind, node: PlannedNode, data: dict[str, Any], timestamp: int | None = None) -> EventDraft:
    full = {"name": node.name, "node_type": node.node.type, **data}
    return EventDraft(kind.value, timestamp or now_us(), node.node.id, full)


def omit(data: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return an event's data without the values of ``names``: only their hashes and sizes stay."""
    given = [name for name in names if data.get(name)]
    said: dict[str, Any] = {}
    for name in given:
        said |= left_out(name, plain(data[name]))
    return {**data, **{name: {} for name in given}, OMITTED: said} if given else data


def phase_event(kind: Kind, phase: int, node_count: int, **data: Any) -> EventDraft:
    return EventDraft(kind.value, now_us(), "", {"phase": phase, "node_count": node_count, **data})


def snapshot_event(execution_id: UUID, phase: int, nodes: Sequence[str], timestamp: int | None = None) -> EventDraft:
    """Return the event of the state at the end of a phase: ``nodes`` changed it, and their own events have the values."""
    data = {"snapshot_id": snapshot_id(str(execution_id), phase), "phase": phase, "nodes": list(nodes)}
    return EventDraft(Kind.STATE_SNAPSHOT.value, timestamp or now_us(), "", data)


def left_event(context: Context, phase: int) -> EventDraft:
    """Return the snapshot of a phase of which ``context`` knows how every node ended."""
    results, nodes = context.results, context.plan.nodes
    return snapshot_event(
        context.id,
        phase,
        [nodes[index].node.id for index in context.plan.phases[phase] if _changed(results.get(index))],
    )


def _changed(result: NodeResult | None) -> bool:
    return result is not None and result.status in (states.COMPLETED, states.FAILED)


def start_event(context: Context, item: Ready, began_us: int | None = None, queued_us: int = 0) -> EventDraft:
    data = {
        "inputs": context.redact(item.inputs), "attempt": item.attempt, "queued_seconds": queued_us / 1_000_000,
    }  # fmt: skip
    if item.resume is not None:
        data["resumed"] = True
    if not context.records("record_inputs", item.planned):
        data = omit(data, "inputs")
    draft = node_event(Kind.NODE_START, item.planned, data, began_us)
    return draft if item.large is None else replace(draft, data=draft.data | item.large, shown=draft.data)


def set_apart(context: Context, data: dict[str, Any]) -> dict[str, Any] | None:
    """Store the values of an event's data that are large as blobs; return what stands for them, None without any.

    Not inside a transaction of ``store``.
    """
    encoded = {key: store.encode_json(value) for key, value in data.items()}
    room = sum(map(len, encoded.values())) - settings.INLINE_OUTPUT_BYTES
    apart: dict[str, Any] = {}
    for key in sorted(encoded, key=lambda name: -len(encoded[name])):
        if room <= 0:
            break
        content = encoded[key]
        apart[key] = {"$blob": context.keep(content, "application/json"), "size_bytes": len(content)}
        room -= len(content)
    return {**apart, BLOBS: sorted(apart)} if apart else None


def kept_event(context: Context, node: PlannedNode) -> EventDraft:
    """Return the event of a node whose result a retry took over from its predecessor."""
    data = {
        "duration_seconds": 0, "error": None, "status": states.COMPLETED, "credits": 0, "kept": True,
        "outputs": {"$outputs": True},
    }  # fmt: skip
    if not context.records("record_outputs", node):
        outputs = context.results[node.index].outputs
        return node_event(Kind.NODE_COMPLETE, node, omit({**data, "outputs": outputs}, "outputs"))
    event = node_event(Kind.NODE_COMPLETE, node, data)
    return replace(event, shown={**event.data, "outputs": context.results[node.index].outputs})


def end_events(context: Context, end: End, now: int, since_us: int) -> list[EventDraft]:
    """Return the last event of an execution; since ``since_us`` its results were collected and its end was settled."""
    kind = Kind.WORKFLOW_COMPLETE if end.success else Kind.WORKFLOW_ERROR
    data = {
        "final_state": STATE_ELSEWHERE, "success": end.success, "error": end.error or None, "status": end.status,
        "duration_seconds": (now - context.queued_us) / 1_000_000, "failed_node": end.node_id or None,
        "collecting_seconds": max(0, now - since_us) / 1_000_000,
    }  # fmt: skip
    return [EventDraft(kind.value, now, "", data)]


def cleanup_event(seconds: float, closed: bool, now: int) -> EventDraft:
    """Return the event of a browser page that was given back, which took ``seconds``."""
    data = {"duration_seconds": round(seconds, 6), "what": "browser page", "closed": closed}
    return EventDraft(Kind.CLEANUP.value, now, "", data if closed else {**data, "level": "warning"})


def started_event(context: Context, now: int) -> EventDraft:
    """Return the first event of an execution; ``now`` is when it begins, not after any event that follows."""
    data = {
        "initial_context": context.redact(context.payload), "edges": EDGES_ELSEWHERE, "workflow": context.workflow_name,
        "version": context.version_number, "trigger": context.trigger, "phase_count": len(context.plan.phases),
        "node_count": context.plan.node_count, "queued_seconds": max(0, now - context.queued_us) / 1_000_000,
        "planning_seconds": round(context.planning_s, 6), "setup_seconds": round(context.setup_s, 6),
    }  # fmt: skip
    if not context.records("record_inputs"):
        data = omit(data, "initial_context")
    draft = EventDraft(Kind.WORKFLOW_START.value, now, "", data)
    return draft if context.large_payload is None else replace(draft, data=data | context.large_payload, shown=data)
