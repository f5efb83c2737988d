"""Where the time of a run went: seconds per node, the critical path, the path that was taken."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol, runtime_checkable

from recordings.events import TYPE, VALUE, RecordingEvent
from recordings.events import RecordingEventType as Kind

STATUS_OF = {
    Kind.NODE_START: "running",
    Kind.NODE_COMPLETE: "completed",
    Kind.NODE_ERROR: "failed",
    Kind.NODE_RETRY: "retrying",
    Kind.NODE_SKIPPED: "skipped",
    Kind.NODE_WAITING: "waiting",
}
_TIMED = frozenset({Kind.NODE_COMPLETE, Kind.NODE_ERROR})
_WANTED = frozenset(kind.value for kind in (*STATUS_OF, Kind.WORKFLOW_START, Kind.PHASE_START))


@runtime_checkable
class _Sorted(Protocol):
    """Events that find those of some types without decoding the others."""

    def iter_of(self, kinds: Collection[str]) -> Iterator[RecordingEvent]: ...


@dataclass(slots=True)
class NodeTimes:
    """A node of a run. ``phase`` is None outside all phases; ``started`` and ``ended`` are Unix seconds."""

    node_id: str
    phase: int | None
    started: float
    ended: float
    name: str = ""
    status: str = "running"
    seconds: float = 0.0
    runs: int = 0


@dataclass(slots=True)
class Outline:
    """A run without its values: nodes in the order in which they appeared.

    ``wires`` are the edges of the workflow, where the recording has them; ``order`` the pairs of different nodes
    of which the second started next after the first.
    """

    nodes: dict[str, NodeTimes] = field(default_factory=dict)
    wires: list[tuple[str, str]] = field(default_factory=list)
    order: dict[tuple[str, str], None] = field(default_factory=dict)


def seconds_of(value: Any) -> float:
    """Return a recorded duration in seconds; 0.0 for what is not one."""
    if isinstance(value, dict) and value.get(TYPE) == "timedelta":
        value = value.get(VALUE)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    try:
        seconds = float(value)
    except OverflowError:
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0


def iter_of(events: Sequence[RecordingEvent], kinds: Collection[str]) -> Iterator[RecordingEvent]:
    """Iterate over the events of the types ``kinds``."""
    if isinstance(events, _Sorted):
        return events.iter_of(kinds)
    return (event for event in events if event.event_type._value_ in kinds)


def outline(events: Sequence[RecordingEvent]) -> Outline:
    """Return the nodes, edges and times of a run. Reads all events of nodes once; memory grows with nodes only."""
    found = Outline()
    phase: int | None = None
    before = None
    for event in iter_of(events, _WANTED):
        kind, node = event.event_type, event.node_id
        if kind is Kind.WORKFLOW_START:
            found.wires += [edge for edge in _edges(event.data.get("edges")) if edge not in found.wires]
        elif kind is Kind.PHASE_START:
            number = event.data.get("phase")
            phase = number if type(number) is int and number >= 0 else 0 if phase is None else phase + 1
        elif node is not None:
            _note(found.nodes, event, node, phase)
            if kind is Kind.NODE_START:
                if before is not None and before != node:
                    found.order[before, node] = None
                before = node
    return found


def _note(nodes: dict[str, NodeTimes], event: RecordingEvent, node_id: str, phase: int | None) -> None:
    seconds = seconds_of(event.data.get("duration_seconds")) if event.event_type in _TIMED else 0.0
    node = nodes.get(node_id)
    if node is None:
        node = nodes[node_id] = NodeTimes(node_id, phase, event.timestamp - seconds, event.timestamp)
    node.status = "cancelled" if event.data.get("status") == "cancelled" else STATUS_OF[event.event_type]
    node.seconds += seconds
    node.ended = max(node.ended, event.timestamp)
    node.runs += event.event_type in _TIMED
    name = event.data.get("name")
    if isinstance(name, str) and name:
        node.name = name


def _edges(value: Any) -> Iterator[tuple[str, str]]:
    """Yield ``(source, target)`` of pairs or of ``{"source": ..., "target": ...}``; anything else is passed over."""
    for edge in dict.fromkeys(_pairs(value)):
        if edge[0] != edge[1]:
            yield edge


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    for edge in value if isinstance(value, list | tuple) else ():
        if isinstance(edge, dict):
            edge = (edge.get("source"), edge.get("target"))
        if isinstance(edge, list | tuple) and len(edge) >= 2 and None not in edge[:2]:
            yield str(edge[0]), str(edge[1])


def durations(events: Sequence[RecordingEvent]) -> dict[str, float]:
    """Return the seconds of work of each node that ended, the longest first; all its runs, failed ones too."""
    nodes = (node for node in outline(events).nodes.values() if node.runs)
    return {node.node_id: node.seconds for node in sorted(nodes, key=lambda node: (-node.seconds, node.node_id))}


def critical_path(events: Sequence[RecordingEvent]) -> list[tuple[str, float]]:
    """Return the chain of nodes that decided how long the run took, each with its seconds of work.

    Over the edges of the workflow where the recording has them: the chain with the most seconds. Else over its
    phases: the longest node of each. Else by time: from the node that ended last back, each time, to the one that
    ended last before that one started.
    """
    return critical_path_of(outline(events))


def critical_path_of(found: Outline) -> list[tuple[str, float]]:
    """Return the critical path of an outline, as ``critical_path`` does."""
    nodes = [node for node in found.nodes.values() if node.runs]
    wires = [edge for edge in found.wires if edge[0] in found.nodes and edge[1] in found.nodes]
    if wires:
        return _longest_chain(found.nodes, wires)
    if any(node.phase is not None for node in nodes):
        nodes.sort(key=_phase)
        longest = (max(group, key=lambda node: node.seconds) for _, group in groupby(nodes, key=_phase))
        return [(node.node_id, node.seconds) for node in longest]
    return _chain_by_time(nodes)


def _phase(node: NodeTimes) -> int:
    return -1 if node.phase is None else node.phase


def _longest_chain(nodes: dict[str, NodeTimes], wires: Iterable[tuple[str, str]]) -> list[tuple[str, float]]:
    """Return the heaviest chain of edges; an edge back to a node that appeared earlier is a loop's, and left out."""
    rank = {node: place for place, node in enumerate(nodes)}
    into: dict[str, list[str]] = {}
    for source, target in wires:
        if rank[source] < rank[target]:
            into.setdefault(target, []).append(source)
    total: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for name, node in nodes.items():
        best = max(into.get(name, ()), key=total.__getitem__, default=None)
        before[name] = best
        total[name] = node.seconds + (0.0 if best is None else total[best])
    at: str | None = max((name for name, node in nodes.items() if node.runs), key=total.__getitem__, default=None)
    chain: list[tuple[str, float]] = []
    while at is not None:
        if nodes[at].runs:
            chain.append((at, nodes[at].seconds))
        at = before[at]
    return chain[::-1]


def _chain_by_time(nodes: list[NodeTimes]) -> list[tuple[str, float]]:
    nodes = sorted(nodes, key=lambda node: node.ended)
    ends = [node.ended for node in nodes]
    chain: list[tuple[str, float]] = []
    at = len(nodes) - 1
    while at >= 0:
        node = nodes[at]
        chain.append((node.node_id, node.seconds))
        at = min(bisect_right(ends, node.started), at) - 1
    return chain[::-1]


def path(events: Sequence[RecordingEvent]) -> list[str]:
    """Return the ids of the nodes in the order in which they started, once for every start."""
    return [event.node_id for event in iter_of(events, {Kind.NODE_START.value}) if event.node_id is not None]


def first_error(events: Sequence[RecordingEvent]) -> RecordingEvent | None:
    """Return the event of the first node that failed; of the run where no node did; None where nothing failed."""
    for kind in (Kind.NODE_ERROR, Kind.WORKFLOW_ERROR):
        for event in iter_of(events, {kind.value}):
            return event
    return None
