"""How long nodes are likely to run, from how long they ran before, and how far that says an execution is.

What is likely is the middle (p50) of the last completed executions of the same workflow. A process keeps it for a minute,
and for an execution that it looks at as long as that one runs, so that progress never goes back. A node that runs counts by
the time that it has taken of what is likely, up to ``RUNNING_SHARE``; one of which nothing is known counts when it has ended.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median_low
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from django.utils import timezone

from executions import states, store
from executions.models import Execution, NodeRun
from executions.planner import plan
from workflows.definition import Definition
from workflows.errors import WorkflowError
from workflows.models import WorkflowVersion

RUNS: Final = 20
"""How many executions are looked at, newest first."""
ROWS: Final = 20_000
"""About how many node runs one look reads: of large workflows it reads fewer executions, but always one."""
KEPT_SECONDS: Final = 60.0
WEIGHED_NODES: Final = 2_000
"""In an execution of more nodes each counts the same: which of them ended is read at every look."""
RUNNING_SHARE: Final = 0.9
"""The most of its weight that a node counts before it has ended, however long it runs."""
MOST: Final = 1_000
"""How many workflows, and how many executions, a process remembers."""

Key = TypeVar("Key")
Value = TypeVar("Value")
Where = tuple[UUID, str]
"""A workflow, or one version of it, and the id of the loop whose turns are meant, empty for the whole."""
Began = Mapping[int, datetime]
"""Since when the nodes of an execution that have begun and not ended run, by index."""
Members = tuple[tuple[int, str, str], ...]
"""Index, id and type of the nodes that run in some execution."""
Durations = Mapping[tuple[str, str], int]
"""Milliseconds, at least 1, by node id and node type."""

_TABLE: Final = Execution._meta.db_table


@dataclass(frozen=True, slots=True)
class Far:
    """What progress depends on: ``done`` of ``total`` node runs of an execution have ended."""

    id: UUID
    workflow: UUID
    version: UUID
    scope: str
    status: str
    done: int
    total: int


def durations(places: Collection[Where]) -> dict[Where, Durations]:
    """Return how long the nodes of each place are likely to run; empty where none is known. At most two queries.

    None for what this process has looked up within a minute.
    """
    found = {place: known for place in set(places) if (known := _lately.get(place)) is not None}
    for place, looked_up in _look_up([place for place in set(places) if place not in found]).items():
        _lately.put(place, looked_up)
        found[place] = looked_up
    return {place: found.get(place, {}) for place in places}


def _look_up(places: list[Where]) -> dict[Where, Durations]:
    runs = _last_runs(places)
    rows = NodeRun.objects.filter(execution__in=list(runs), status=states.COMPLETED, started_at__isnull=False)
    took: dict[Where, dict[tuple[str, str], list[int]]] = {}
    columns = ("execution_id", "node_id", "node_type", "started_at", "finished_at")
    for execution, node, kind, started, ended in rows.order_by().values_list(*columns) if runs else ():
        milliseconds = round((ended - started).total_seconds() * 1000)
        took.setdefault(runs[execution], {}).setdefault((node, kind), []).append(max(1, milliseconds))
    return {place: {node: median_low(some) for node, some in nodes.items()} for place, nodes in took.items()}


def _last_runs(places: list[Where]) -> dict[UUID, Where]:
    """Return the newest completed executions of each place, as many as ``ROWS`` allows."""
    if not places:
        return {}
    one = (
        f"SELECT * FROM (SELECT id, workflow_id, scope, node_count FROM {_TABLE} WHERE workflow_id=? AND scope=?"
        " AND status='completed' ORDER BY finished_at DESC LIMIT ?) newest"
    )
    parameters = [value for workflow, scope in places for value in (store.key(workflow), scope, RUNS)]
    rows = store.read(" UNION ALL ".join([one] * len(places)), parameters)
    left: dict[Where, int] = dict.fromkeys(places, ROWS // len(places))
    found = {}
    for key, workflow, scope, nodes in rows:
        place = (UUID(str(workflow)), scope)
        if left[place] > 0:
            found[UUID(str(key))] = place
            left[place] -= nodes
    return found


def percents(executions: Iterable[Far]) -> dict[UUID, int | None]:
    """Return how far each execution is in percent, by what its nodes are likely to take of the whole.

    A node that never ran weighs as much as the mean of the others. 100 is the end and nothing else; None is of
    executions that ended otherwise. At most five queries, one for those of which no more nodes ended than last time.
    """
    found: dict[UUID, int | None] = {}
    running = []
    for far in executions:
        if far.status in states.TERMINAL:
            found[far.id] = None if far.status in (states.FAILED, states.CANCELLED) else 100
        elif far.status == states.QUEUED:
            found[far.id] = 0
        else:
            running.append(far)
    watched = _watched(running)
    weighed = [far for far in running if watched[far.id].weights]
    ended = _ended([far for far in weighed if watched[far.id].done != far.done])
    for far in weighed:
        if watched[far.id].done != far.done:
            watched[far.id].weigh(far.done, ended.get(far.id, ()))
    moving = _moving([far.id for far in weighed])
    for far in running:
        watch = watched[far.id]
        found[far.id] = watch.look(moving.get(far.id, {})) if watch.weights else _share(far.done, far.total)
    return found


def moved(executions: Iterable[UUID]) -> dict[UUID, int]:
    """Return how far those of ``executions`` are that ``percents`` found weighed, by what has ended then and runs now.

    One query, none when there are none.
    """
    watched = {key: watch for key in executions if (watch := _watches.get(key)) is not None and watch.weights}
    moving = _moving(watched)
    return {key: watch.look(moving.get(key, {})) for key, watch in watched.items()}


@dataclass(slots=True)
class _Watch:
    """An execution that runs. ``weights`` are of its nodes by index, empty when each counts the same.

    ``likely`` is how many milliseconds they are likely to run, of those that ran before.
    """

    weights: Mapping[int, int] = field(default_factory=dict)
    likely: Mapping[int, int] = field(default_factory=dict)
    done: int = 0
    weight: int = 0
    percent: int = 0

    def weigh(self, done: int, ended: Iterable[int]) -> None:
        """Note that the nodes ``ended`` have ended, ``done`` in all."""
        self.done, self.weight = done, sum(self.weights.get(index, 0) for index in ended)

    def look(self, began: Began) -> int:
        """Return the percent now that the nodes of ``began`` run; never less than before."""
        now = timezone.now()
        weight = self.weight + sum(self._behind(index, now - since) for index, since in began.items())
        self.percent = max(self.percent, _share(int(weight), sum(self.weights.values())))
        return self.percent

    def _behind(self, index: int, elapsed: timedelta) -> float:
        """Return how many milliseconds of its weight a node that runs has behind it."""
        likely = self.likely.get(index, 0)
        return min(max(0.0, elapsed.total_seconds() * 1000), likely * RUNNING_SHARE)


def _share(part: int, whole: int) -> int:
    return min(99, part * 100 // whole) if whole else 0


def _watched(running: list[Far]) -> dict[UUID, _Watch]:
    found = {far.id: known for far in running if (known := _watches.get(far.id)) is not None}
    new = [far for far in running if far.id not in found]
    likely = durations({(far.workflow, far.scope) for far in new if far.total <= WEIGHED_NODES})
    members = _members({(far.version, far.scope) for far in new if likely.get((far.workflow, far.scope))})
    for far in new:
        nodes = members.get((far.version, far.scope), ())
        took = _known(nodes, likely.get((far.workflow, far.scope), {}))
        found[far.id] = _Watch(_weights(nodes, took), took)
        _watches.put(far.id, found[far.id])
    return found


def _known(members: Members, likely: Durations) -> dict[int, int]:
    """Return how long the nodes of an execution are likely to run, by index; of those that ran before."""
    return {index: ms for index, node, kind in members if (ms := likely.get((node, kind)))}


def _weights(members: Members, known: Mapping[int, int]) -> dict[int, int]:
    """Return the weight of every node that runs in an execution, by index; empty when none is known."""
    if not known:
        return {}
    mean = max(1, sum(known.values()) // len(known))
    return {index: known.get(index, mean) for index, _, _ in members}


def _members(parts: Collection[Where]) -> dict[Where, Members]:
    """Return the nodes that run in each of ``parts``, a version and a loop of it. One query, none for what is known.

    A version never changes, so this is never stale.
    """
    found = {part: known for part in parts if (known := _planned.get(part)) is not None}
    missing = [part for part in parts if part not in found]
    rows = WorkflowVersion.objects.filter(pk__in={version for version, _ in missing}) if missing else ()
    definitions = {version.pk: version.definition for version in rows}
    for version, scope in missing:
        found[version, scope] = _nodes_of(definitions.get(version, {}), scope)
        _planned.put((version, scope), found[version, scope])
    return found


def _nodes_of(definition: dict[str, Any], scope: str) -> Members:
    try:
        whole = plan(Definition.from_json(definition))
        part = whole.body(whole.positions[scope]) if scope else whole
    except (WorkflowError, KeyError):
        return ()
    nodes = (whole.nodes[index] for phase in part.phases for index in phase)
    return tuple((node.index, node.node.id, node.node.type) for node in nodes)


def _ended(executions: list[Far]) -> dict[UUID, list[int]]:
    """Return the indexes of the nodes of each execution that have ended."""
    found: dict[UUID, list[int]] = {}
    if executions:
        rows = NodeRun.objects.filter(execution__in=[far.id for far in executions], status__in=states.TERMINAL)
        for execution, index in rows.order_by().values_list("execution_id", "node_index"):
            found.setdefault(execution, []).append(index)
    return found


def _moving(executions: Collection[UUID]) -> dict[UUID, dict[int, datetime]]:
    """Return the nodes of each execution that run or wait, and since when."""
    found: dict[UUID, dict[int, datetime]] = {}
    if executions:
        rows = NodeRun.objects.filter(execution__in=list(executions), status__in=(states.RUNNING, states.WAITING))
        for execution, index, began in rows.order_by().values_list("execution_id", "node_index", "started_at"):
            if began is not None:
                found.setdefault(execution, {})[index] = began
    return found


class _Kept(Generic[Key, Value]):
    """The last ``MOST`` values that a process used, each for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, tuple[float, Value]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """Return the value of ``key``, or None when it is not known or too old."""
        with self._lock:
            until, value = self._values.get(key, (0.0, None))
            if time.monotonic() >= until:
                return None
            self._values.move_to_end(key)
            return value

    def put(self, key: Key, value: Value) -> None:
        """Keep ``value``; what was not used for the longest time goes."""
        with self._lock:
            self._values[key] = time.monotonic() + self._seconds, value
            self._values.move_to_end(key)
            if len(self._values) > MOST:
                self._values.popitem(last=False)


_lately: Final = _Kept[Where, Durations](KEPT_SECONDS)
_planned: Final = _Kept[Where, Members](math.inf)
_watches: Final = _Kept[UUID, _Watch](math.inf)
