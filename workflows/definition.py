"""The graph of a workflow as frozen values, read from and written to the JSON of the builder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, Literal

from workflows.errors import DefinitionError
from workflows.strict import compact, name_problem, step, unstorable

OnError = Literal["fail", "continue", "output"]

LONGEST_ID = 200
"""How many characters the id of a node may have."""
LONGEST_CACHE_S = 30 * 86_400
MOST_UNSTORABLE = 100
"""How many texts and numbers that cannot be stored are named."""

ON_ERROR = ("fail", "continue", "output")
EDGE_KEYS = ("source", "target", "sourceHandle", "targetHandle")
NO_TEXT = "must be a text that is not empty"

RECORD_SWITCHES = ("record_inputs", "record_outputs")
"""Settings of a node and of a workflow: whether recordings hold the values, or only their hash and size."""


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """How one node is run. Times are seconds; ``timeout_s`` None means the default of its type.

    ``on_error`` says what a failure does: fail the execution, go on after it ("continue"), or go on along the
    node's Error output ("output"). ``retry_on`` are the error codes that are tried again; empty means every
    one that another attempt may mend. ``record_inputs`` and ``record_outputs`` say whether recordings hold the
    values; None means what the workflow says. ``unread`` names settings whose values cannot be read.
    ``cache_ttl_s`` is how long the result serves for other runs with the same inputs; 0 means that every run
    computes it. ``charge_on_failure`` says whether a run that fails costs the credits of its type.
    """

    timeout_s: float | None = None
    retries: int = 0
    backoff_s: float = 1.0
    jitter: bool = True
    on_error: OnError = "fail"
    retry_on: tuple[str, ...] = ()
    disabled: bool = False
    record_inputs: bool | None = None
    record_outputs: bool | None = None
    unread: tuple[str, ...] = ()
    cache_ttl_s: float = 0.0
    charge_on_failure: bool = True


_ORDINARY = NodePolicy()
POLICY_KEYS = frozenset(entry.name for entry in fields(NodePolicy)) - {"unread"}
"""What the ``data`` of a node may say about how it is run."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A place where JSON is not a workflow. ``path`` is for example ``nodes[3].data.retries``."""

    path: str
    message: str
    node_id: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One step on the canvas. ``inputs`` are as stored: literals, templates or credential references.

    ``data`` is all that the JSON says about it, ``inputs`` and unknown keys included.
    """

    id: str
    type: str
    inputs: Mapping[str, Any]
    position: tuple[float, float] = (0.0, 0.0)
    label: str = ""
    policy: NodePolicy = NodePolicy()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edge:
    """A wire from an output of ``source`` to an input of ``target``; handles are port names or slugs."""

    id: str
    source: str
    target: str
    source_handle: str
    target_handle: str


@dataclass(frozen=True, slots=True)
class Definition:
    """A whole workflow graph. ``raw`` is the JSON that it was read from, unknown keys included.

    Both ends of every edge in ``edges`` exist. Edges that lead to or from a node that is not there are
    kept in ``dangling``: validation warns about them and nothing runs along them.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    vars: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)
    dangling: tuple[Edge, ...] = ()
    size_bytes: int = 0
    """Of the JSON without blanks, as UTF-8."""

    @property
    def cron(self) -> str | None:
        """Return the schedule that the JSON carries, or None."""
        return self.raw.get("cron") or None

    @property
    def timezone(self) -> str:
        """Return the IANA zone in which ``cron`` is read."""
        return self.raw.get("timezone") or "UTC"

    @classmethod
    def from_json(cls, data: Any) -> Definition:
        """Return the graph that ``data`` describes. O(size).

        Raises:
            DefinitionError: naming the first place where ``data`` is not a workflow, and how many more there are.
        """
        definition, problems = cls.read(data)
        if problems:
            first, more = problems[0], len(problems) - 1
            raise DefinitionError(f"{first.message}{f' (and {more:,} more)' if more else ''}", first.path)
        return definition

    @classmethod
    def read(cls, data: Any) -> tuple[Definition, list[Problem]]:
        """Return what can be read of ``data``, and every place where it is not a workflow. Raises nothing.

        What has a problem is left out or stands at its default, so that the rest can be looked at in the same pass.
        """
        return _Reader().definition(data)

    def content_hash(self) -> str:
        """Return the SHA-256 (hex) of what the definition does or looks like; see the function of this name."""
        return content_hash(self.raw)

    def node(self, node_id: str) -> Node:
        """Return the node called ``node_id``; KeyError if there is none. O(nodes)."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)


def content_hash(data: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of the parts of a definition that change what it does or looks like.

    The order of keys and of edges, the ids of edges, and whether a number is written 1 or 1.0 do not count.
    """
    body = {key: _plain(data[key]) for key in ("nodes", "vars", "cron") if data.get(key)}
    if edges := data.get("edges"):
        body["edges"] = sorted(_canonical({**edge, "id": None}) for edge in edges)
    if settings := settings_of(data):
        body["settings"] = _plain(settings)
    if data.get("cron") and (data.get("timezone") or "UTC") != "UTC":
        body["timezone"] = data["timezone"]
    return hashlib.sha256(_canonical(body).encode()).hexdigest()


def settings_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the settings in a definition; ``tags`` at its top level are among them."""
    settings = data.get("settings")
    found = dict(settings) if isinstance(settings, Mapping) else {}
    tags = data.get("tags")
    if isinstance(tags, list) and tags and not found.get("tags"):
        found["tags"] = tags
    return found


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return a JSON value in which whole numbers are written without a point."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return value


class _Reader:
    """Reads one definition and collects what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.node_id: str | None = None
        """The node that is being read."""

    def wrong(self, path: str, message: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(path, message, self.node_id))

    def definition(self, data: Any) -> tuple[Definition, list[Problem]]:
        if not isinstance(data, Mapping):
            self.wrong("", f"a workflow is a JSON object, this is {'null' if data is None else _kind(data)}")
            return Definition((), ()), self.problems
        text = compact(data)
        if text is None:
            for path, message in islice(unstorable(data), MOST_UNSTORABLE):
                self.wrong(path, message)
            if any("deeper" in problem.message for problem in self.problems):
                return Definition((), ()), self.problems
            text = ""
        nodes: dict[str, Node] = {}
        for index, item in enumerate(self.list(data, "nodes")):
            self.node_id = None
            node = self.node(item, index)
            if node.id in nodes:
                self.wrong(f"nodes[{index}].id", f'the id "{node.id}" is used twice')
            else:
                nodes[node.id] = node
        self.node_id = None
        drawn = [edge for index, item in enumerate(self.list(data, "edges")) if (edge := self.edge(item, index))]
        edges = tuple(edge for edge in drawn if edge.source in nodes and edge.target in nodes)
        dangling = () if len(edges) == len(drawn) else tuple(
            edge for edge in drawn if edge.source not in nodes or edge.target not in nodes
        )  # fmt: skip
        variables = self.object(data.get("vars"), "vars")
        for name in variables:
            self.name(name, step("vars", name))
        for key in ("name", "description", "cron", "timezone", "status"):
            if data.get(key) is not None and not isinstance(data[key], str):
                self.wrong(key, f"must be a text, not {_kind(data[key])}")
                data = {**data, key: None}
        self.name(data.get("name"), "name")
        definition = Definition(
            nodes=tuple(nodes.values()), edges=edges, vars=variables, raw=data, dangling=dangling,
            size_bytes=len(text) if text.isascii() else len(text.encode()),
        )  # fmt: skip
        return definition, self.problems

    def node(self, item: Any, index: int) -> Node:
        path = f"nodes[{index}]"
        if not isinstance(item, Mapping):
            self.wrong(path, f"a node is an object, this is {_kind(item)}")
            return Node(path, "", {})
        node_id = item.get("id")
        if isinstance(node_id, str) and node_id:
            self.node_id = node_id
            if len(node_id) > LONGEST_ID:
                self.wrong(f"{path}.id", f"has {len(node_id):,} characters; the limit is {LONGEST_ID}")
            self.name(node_id, f"{path}.id")
        else:
            self.wrong(f"{path}.id", NO_TEXT)
            node_id = path
        data = self.object(item.get("data"), f"{path}.data")
        label = data.get("label") or ""
        if not isinstance(label, str):
            label = str(label)
        self.name(label, f"{path}.data.label")
        return Node(
            id=node_id,
            type=self.text(item, "type", path),
            inputs=self.object(data.get("inputs"), f"{path}.data.inputs"),
            position=self.position(item.get("position"), path),
            label=label,
            policy=self.policy(data, f"{path}.data"),
            data=data,
        )

    def policy(self, data: Mapping[str, Any], path: str) -> NodePolicy:
        if data.keys().isdisjoint(POLICY_KEYS):
            return _ORDINARY
        on_error: OnError = "fail"
        if data.get("on_error") in ON_ERROR:
            on_error = data["on_error"]
        elif data.get("on_error"):
            self.wrong(f"{path}.on_error", f'must be "fail", "continue" or "output", not {_shown(data["on_error"])}')
        switches = {key: data[key] for key in RECORD_SWITCHES if data.get(key) is not None}
        read = {key: value for key, value in switches.items() if isinstance(value, bool)}
        return NodePolicy(
            timeout_s=self.number(data.get("timeout_s"), f"{path}.timeout_s", 0.001, 86_400, None),
            retries=int(self.number(data.get("retries"), f"{path}.retries", 0, 20, 0) or 0),
            backoff_s=self.number(data.get("backoff_s"), f"{path}.backoff_s", 0, 86_400, 1.0) or 0.0,
            jitter=self.flag(data, "jitter", path, True),
            on_error=on_error,
            retry_on=self.codes(data.get("retry_on"), f"{path}.retry_on"),
            disabled=self.flag(data, "disabled", path, False),
            record_inputs=read.get("record_inputs"),
            record_outputs=read.get("record_outputs"),
            unread=tuple(key for key in switches if key not in read),
            charge_on_failure=self.flag(data, "charge_on_failure", path, True),
            cache_ttl_s=self.number(data.get("cache_ttl_s"), f"{path}.cache_ttl_s", 0, LONGEST_CACHE_S, 0) or 0.0,
        )

    def edge(self, item: Any, index: int) -> Edge | None:
        path = f"edges[{index}]"
        if not isinstance(item, Mapping):
            self.wrong(path, f"an edge is an object, this is {_kind(item)}")
            return None
        ends: tuple[Any, ...] = tuple(map(item.get, EDGE_KEYS))
        source, target, source_handle, target_handle = ends
        for value in ends:
            if not value or not isinstance(value, str):
                for key in EDGE_KEYS:
                    self.text(item, key, path)
                return None
        edge_id = item.get("id")
        if edge_id:
            edge_id = edge_id if isinstance(edge_id, str) else str(edge_id)
            self.name(edge_id, f"{path}.id")
        else:
            edge_id = f"{source}:{source_handle}-{target}:{target_handle}"
        return Edge(edge_id, source, target, source_handle, target_handle)

    def position(self, value: Any, path: str) -> tuple[float, float]:
        if value is None:
            return (0.0, 0.0)
        if not isinstance(value, Mapping):
            self.wrong(f"{path}.position", f'must be {{"x": .., "y": ..}}, not {_kind(value)}')
            return (0.0, 0.0)
        x, y = (self.number(value.get(axis), f"{path}.position.{axis}", -1e9, 1e9, 0.0) or 0.0 for axis in "xy")
        return (x, y)

    def codes(self, value: Any, path: str) -> tuple[str, ...]:
        """Return a list of error codes; a text may hold several, separated by commas."""
        if value is None:
            return ()
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            self.wrong(path, 'must be a list of error codes such as ["network", "timeout"]')
            return ()
        return tuple(code for item in items if (code := item.strip()))

    def number(self, value: Any, path: str, low: float, high: float, default: float | None) -> float | None:
        """Return ``value`` if it is a number in the range, else ``default``, and note it unless nothing was given."""
        if value is None:
            return default
        if not isinstance(value, bool) and isinstance(value, int | float) and low <= value <= high:
            return float(value)
        self.wrong(path, f"must be a number from {low:g} to {high:g}, not {_shown(value)}")
        return default

    def flag(self, data: Mapping[str, Any], key: str, path: str, default: bool) -> bool:
        value = data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(f"{path}.{key}", f"must be true or false, not {_shown(value)}")
            return default
        return value

    def text(self, item: Mapping[str, Any], key: str, path: str) -> str:
        value = item.get(key)
        if isinstance(value, str) and value:
            return value
        self.wrong(f"{path}.{key}", NO_TEXT)
        return ""

    def name(self, value: Any, path: str) -> None:
        if isinstance(value, str) and (problem := name_problem(value)):
            self.wrong(path, problem)

    def object(self, value: Any, path: str) -> Mapping[str, Any]:
        if not value:
            return {}
        if not isinstance(value, Mapping):
            self.wrong(path, f"must be an object, not {_kind(value)}")
            return {}
        return value

    def list(self, data: Mapping[str, Any], key: str) -> Iterable[Any]:
        value = data.get(key)
        if isinstance(value, list):
            return value
        if value is not None:
            self.wrong(key, f"must be a list, not {_kind(value)}")
        elif key == "nodes":
            self.wrong(key, "the list of nodes is missing")
        return []


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "missing"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    """Return a value as JSON, cut to one short line."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."
