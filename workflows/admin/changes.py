"""What differs between two versions, as the page of a comparison draws it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workflows.diff import MISSING, Change, Diff, hidden
from workflows.registry import NODE_REGISTRY

SHOWN_CHARACTERS = 4_000
"""How much of one value the page shows."""
NODES_SHOWN = 200
"""How many nodes of one kind the page shows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One value: where it is, and what it was and is. ``kind`` is added, removed or changed."""

    field: str
    kind: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class NodeBox:
    """One node that came, went or changed."""

    id: str
    name: str
    type: str
    kind: str
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that the page shows. ``more`` counts the nodes that it leaves out."""

    summary: str
    same: bool
    nodes: list[NodeBox]
    more: int
    wires: list[tuple[str, str]]
    fields: list[Row]
    moved: list[str]
    reordered: bool


def comparison(diff: Diff, old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """Return ``diff`` of ``old`` and ``new`` with the names that people gave; literal secrets are hidden."""
    names = {**_names(old), **_names(new)}
    boxes = [
        *(_whole(node, "added") for node in diff.added),
        *(_whole(node, "removed") for node in diff.removed),
        *(
            NodeBox(
                node.id, names.get(node.id, node.id), _type(node.type), "changed", [_row(one) for one in node.changes]
            )
            for node in diff.changed[:NODES_SHOWN]
        ),
    ]
    return Comparison(
        summary=diff.summary(),
        same=not diff,
        nodes=boxes[:NODES_SHOWN],
        more=len(diff.added) + len(diff.removed) + len(diff.changed) - len(boxes[:NODES_SHOWN]),
        wires=[("added", _wire(edge, names)) for edge in diff.edges_added[:NODES_SHOWN]]
        + [("removed", _wire(edge, names)) for edge in diff.edges_removed[:NODES_SHOWN]],
        fields=[_row(change) for change in diff.fields],
        moved=[names.get(move.id, move.id) for move in diff.moved],
        reordered=diff.reordered,
    )


def _row(change: Change) -> Row:
    before, after = (_text(hidden(value, change.path)) for value in (change.before, change.after))
    return Row(change.field, change.kind, before, after)


def _whole(node: Mapping[str, Any], kind: str) -> NodeBox:
    data = node.get("data")
    rows = []
    for path, value in _leaves(data if isinstance(data, Mapping) else {}):
        change = Change(("data", *path), MISSING, value) if kind == "added" else Change(("data", *path), value, MISSING)
        rows.append(_row(change))
    return NodeBox(str(node.get("id")), _name(node), _type(node.get("type")), kind, rows)


def _leaves(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the inputs of a node one by one, then its settings."""
    inputs = data.get("inputs")
    for key, value in inputs.items() if isinstance(inputs, Mapping) else ():
        yield ("inputs", key), value
    for key, value in data.items():
        if key != "inputs":
            yield (key,), value


def _text(value: Any) -> str:
    if value is MISSING:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _names(definition: Mapping[str, Any]) -> dict[str, str]:
    nodes = definition.get("nodes")
    return {str(node.get("id")): _name(node) for node in nodes or () if isinstance(node, Mapping)}


def _name(node: Mapping[str, Any]) -> str:
    data = node.get("data")
    label = data.get("label") if isinstance(data, Mapping) else ""
    return str(label or _type(node.get("type")))


def _type(name: Any) -> str:
    executor = NODE_REGISTRY.get(str(name))
    return executor.description.label if executor else str(name)


def _wire(edge: Mapping[str, Any], names: Mapping[str, str]) -> str:
    source, target = (names.get(str(edge.get(end)), str(edge.get(end))) for end in ("source", "target"))
    return f"{source} ({edge.get('sourceHandle')}) → {target} ({edge.get('targetHandle')})"
