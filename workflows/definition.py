"""The graph of a workflow as frozen values, read from and written to the JSON of the builder."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workflows.errors import DefinitionError

OnError = Literal["fail", "continue", "output"]

DEPTH_LIMIT = 100
"""How deep values in a definition may be nested."""

LONGEST_ID = 200
LONGEST_CACHE_S = 30 * 86_400
"""How many characters the id of a node may have."""

RECORD_SWITCHES = ("record_inputs", "record_outputs")
"""Settings of a node and of a workflow: whether recordings hold the values, or only their hash and size."""

_SURROGATE = re.compile("[\ud800-\udfff]")


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


@dataclass(frozen=True, slots=True)
class Node:
    """One step on the canvas. ``inputs`` are as stored: literals, templates or credential references."""

    id: str
    type: str
    inputs: Mapping[str, Any]
    position: tuple[float, float] = (0.0, 0.0)
    label: str = ""
    policy: NodePolicy = NodePolicy()


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
        """Return the graph that ``data`` describes.

        Raises:
            DefinitionError: naming the first place where ``data`` is not a workflow.
        """
        if not isinstance(data, Mapping):
            raise DefinitionError(f"a workflow is a JSON object, this is {_kind(data)}")
        refuse_nul(data)
        nodes = tuple(_node(item, f"nodes[{i}]") for i, item in enumerate(_list(data, "nodes")))
        seen: set[str] = set()
        for index, node in enumerate(nodes):
            if node.id in seen:
                raise DefinitionError(f'the id "{node.id}" is used twice', f"nodes[{index}].id")
            seen.add(node.id)
        drawn = tuple(_edge(item, f"edges[{i}]") for i, item in enumerate(_list(data, "edges")))
        edges = tuple(edge for edge in drawn if edge.source in seen and edge.target in seen)
        dangling = tuple(edge for edge in drawn if edge.source not in seen or edge.target not in seen)
        variables = data.get("vars") or {}
        if not isinstance(variables, Mapping):
            raise DefinitionError(f"must be an object, not {_kind(variables)}", "vars")
        for key in ("name", "description", "cron", "timezone", "status"):
            if data.get(key) is not None and not isinstance(data[key], str):
                raise DefinitionError(f"must be a text, not {_kind(data[key])}", key)
        return cls(nodes=nodes, edges=edges, vars=variables, raw=data, dangling=dangling)

    def content_hash(self) -> str:
        """Return the SHA-256 (hex) of what the graph does: nodes, edges and vars, in canonical JSON."""
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


def refuse_nul(value: Any, path: str = "") -> None:
    """Check that ``value`` is JSON that every database stores.

    Raises:
        DefinitionError: a NUL character or half a surrogate pair in a text, a number that is not finite,
            or values nested deeper than ``DEPTH_LIMIT``.
    """
    stack: list[tuple[Any, str, int]] = [(value, path, 0)]
    while stack:
        item, where, depth = stack.pop()
        if isinstance(item, str):
            if "\x00" in item:
                raise DefinitionError("text must not contain a NUL character", where)
            if not item.isascii() and _SURROGATE.search(item):
                raise DefinitionError("text must not contain half of a surrogate pair", where)
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise DefinitionError(f"must be a finite number, not {item}", where)
        elif isinstance(item, Mapping | list | tuple):
            if depth >= DEPTH_LIMIT:
                raise DefinitionError(f"values are nested deeper than {DEPTH_LIMIT}", where[:200])
            if isinstance(item, Mapping):
                for key, child in item.items():
                    stack.append((key, where, depth + 1))
                    stack.append((child, f"{where}.{key}" if where else str(key), depth + 1))
            else:
                stack.extend((child, f"{where}[{i}]", depth + 1) for i, child in enumerate(item))


def _node(item: Any, path: str) -> Node:
    if not isinstance(item, Mapping):
        raise DefinitionError(f"a node is an object, this is {_kind(item)}", path)
    data = item.get("data") or {}
    if not isinstance(data, Mapping):
        raise DefinitionError(f"must be an object, not {_kind(data)}", f"{path}.data")
    inputs = data.get("inputs") or {}
    if not isinstance(inputs, Mapping):
        raise DefinitionError(f"must be an object, not {_kind(inputs)}", f"{path}.data.inputs")
    node_id = _text(item, "id", path)
    if len(node_id) > LONGEST_ID:
        raise DefinitionError(f"has {len(node_id):,} characters; the limit is {LONGEST_ID}", f"{path}.id")
    return Node(
        id=node_id,
        type=_text(item, "type", path),
        inputs=inputs,
        position=_position(item.get("position"), path),
        label=str(data.get("label") or ""),
        policy=_policy(data, f"{path}.data"),
    )


def _policy(data: Mapping[str, Any], path: str) -> NodePolicy:
    on_error = data.get("on_error", "fail")
    if on_error not in ("fail", "continue", "output"):
        raise DefinitionError(f'must be "fail", "continue" or "output", not {on_error!r}', f"{path}.on_error")
    timeout = data.get("timeout_s")
    switches = {key: data[key] for key in RECORD_SWITCHES if data.get(key) is not None}
    read = {key: value for key, value in switches.items() if isinstance(value, bool)}
    return NodePolicy(
        timeout_s=None if timeout is None else _number(timeout, f"{path}.timeout_s", 0.001, 86_400),
        retries=int(_number(data.get("retries", 0), f"{path}.retries", 0, 20)),
        backoff_s=_number(data.get("backoff_s", 1.0), f"{path}.backoff_s", 0, 86_400),
        jitter=bool(data.get("jitter", True)),
        on_error=on_error,
        retry_on=_codes(data.get("retry_on"), f"{path}.retry_on"),
        disabled=bool(data.get("disabled", False)),
        record_inputs=read.get("record_inputs"),
        record_outputs=read.get("record_outputs"),
        unread=tuple(key for key in switches if key not in read),
        charge_on_failure=data.get("charge_on_failure") is not False,
        cache_ttl_s=_number(data.get("cache_ttl_s", 0), f"{path}.cache_ttl_s", 0, LONGEST_CACHE_S),
    )


def _codes(value: Any, path: str) -> tuple[str, ...]:
    """Return a list of error codes; a text may hold several, separated by commas."""
    if value is None:
        return ()
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise DefinitionError('must be a list of error codes such as ["network", "timeout"]', path)
    return tuple(code for item in items if (code := item.strip()))


def _edge(item: Any, path: str) -> Edge:
    if not isinstance(item, Mapping):
        raise DefinitionError(f"an edge is an object, this is {_kind(item)}", path)
    source, target = _text(item, "source", path), _text(item, "target", path)
    source_handle = _text(item, "sourceHandle", path)
    target_handle = _text(item, "targetHandle", path)
    edge_id = str(item.get("id") or f"{source}:{source_handle}-{target}:{target_handle}")
    return Edge(edge_id, source, target, source_handle, target_handle)


def _position(value: Any, path: str) -> tuple[float, float]:
    if value is None:
        return (0.0, 0.0)
    if not isinstance(value, Mapping):
        raise DefinitionError(f'must be {{"x": .., "y": ..}}, not {_kind(value)}', f"{path}.position")
    x, y = (_number(value.get(axis, 0), f"{path}.position.{axis}", -1e9, 1e9) for axis in "xy")
    return (x, y)


def _number(value: Any, path: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DefinitionError(f"must be a number from {low:g} to {high:g}, not {value!r}", path)
    return float(value)


def _text(item: Mapping[str, Any], key: str, path: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise DefinitionError("must be a text that is not empty", f"{path}.{key}")
    return value


def _list(data: Mapping[str, Any], key: str) -> Iterable[Any]:
    value = data.get(key)
    if value is None and key == "edges":
        return []
    if not isinstance(value, list):
        raise DefinitionError(f"must be a list, not {_kind(value)}", key)
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "missing"}
    return names.get(type(value), "a number")
