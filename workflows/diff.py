"""What differs between two definitions, for people who look at a change and for pages that draw it.

The order of edges and of keys does not count, nor do ids of edges or empty settings. A ``Diff`` holds the values
as they are; ``to_json`` and ``lines`` show them without what looks like a typed-in secret.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from workflows.definition import settings_of
from workflows.registry import slug
from workflows.templates import CREDENTIAL_KEY

Path = tuple[str | int, ...]


class _Missing:
    """What stands for a value that is not there."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
HIDDEN: Final = "••••••"
SHOWN_CHARACTERS: Final = 200
TEXT_LINES: Final = 400
"""How many lines two texts may have, so that they are compared line by line."""

NOT_CONTENT: Final = frozenset({"nodes", "edges", "id", "status", "requires", "schedule_enabled", "tags"})
"""Keys of a definition that are compared apart, or are not part of what it does."""

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase|code)|\bpwd|secret|token(?!s)|api[ _-]?key|authori[sz]ation|cookie|private[ _-]?key", re.I
)
_SECRET_TEXT = re.compile(r"(?<=\bbearer )\S+|(?<=\bbasic )\S{6,}|(?<=://)[^/@\s:]*:[^/@\s]+(?=@)", re.I)


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs. ``path`` leads to it; ``before`` or ``after`` is ``MISSING`` where it is not there."""

    path: Path
    before: Any
    after: Any

    @property
    def field(self) -> str:
        """Return the place as people call it: an input by its name, and the path into its value."""
        path = self.path[1:] if self.path[:1] == ("data",) and len(self.path) > 1 else self.path
        path = path[1:] if path[:1] == ("inputs",) and len(path) > 1 else path
        words = [f"[{key}]" if isinstance(key, int) else f".{key}" for key in path]
        return "".join(words).removeprefix(".")

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """Return whether the value came, went or became another."""
        return "added" if self.before is MISSING else "removed" if self.after is MISSING else "changed"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: path, field, change, and before and after where there is one."""
        shown: dict[str, Any] = {"path": list(self.path), "field": self.field, "change": self.kind}
        if self.before is not MISSING:
            shown["before"] = hidden(self.before, self.path)
        if self.after is not MISSING:
            shown["after"] = hidden(self.after, self.path)
        return shown


@dataclass(frozen=True, slots=True)
class ChangedNode:
    """A node that both have, with every value of it that differs except its position."""

    id: str
    type: str
    label: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A node that lies elsewhere on the canvas; it does the same there."""

    id: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a diff for a terminal; ``kind`` gives the colour."""

    kind: Literal["added", "removed", "changed", "moved"]
    text: str


@dataclass(frozen=True, slots=True)
class Diff:
    """Everything that differs. Nodes and edges are as they are written in their definition.

    ``fields`` are the changes outside the graph: name, description, cron, timezone, settings, variables and keys
    that nobody knows. ``reordered`` says that nodes which both have are written in another order.
    """

    added: tuple[Mapping[str, Any], ...] = ()
    removed: tuple[Mapping[str, Any], ...] = ()
    changed: tuple[ChangedNode, ...] = ()
    moved: tuple[Move, ...] = ()
    edges_added: tuple[Mapping[str, Any], ...] = ()
    edges_removed: tuple[Mapping[str, Any], ...] = ()
    fields: tuple[Change, ...] = ()
    reordered: bool = False

    def __bool__(self) -> bool:
        """Return whether anything differs."""
        return self != Diff()

    def summary(self) -> str:
        """Return one line, for example "1 node added, 2 changed; 1 wire removed"; "nothing differs" when so."""
        groups = (
            ("node", (("added", self.added), ("removed", self.removed), ("changed", self.changed), ("moved", self.moved))),
            ("wire", (("added", self.edges_added), ("removed", self.edges_removed))),
            ("setting", (("changed", self.fields),)),
        )  # fmt: skip
        parts = []
        for noun, counts in groups:
            words = [f"{len(items)} {word}" for word, items in counts if items]
            if words:
                number, _, rest = words[0].partition(" ")
                words[0] = f"{number} {noun}{'' if number == '1' else 's'} {rest}"
                parts.append(", ".join(words))
        if self.reordered:
            parts.append("nodes in another order")
        return "; ".join(parts) or "nothing differs"

    def to_json(self) -> dict[str, Any]:
        """Return the whole diff as plain JSON, for pages that draw it; literal secrets are hidden."""
        return {
            "same": not self,
            "summary": self.summary(),
            "added": [_node_json(node) for node in self.added],
            "removed": [_node_json(node) for node in self.removed],
            "changed": [
                {
                    "id": node.id,
                    "type": node.type,
                    "label": node.label,
                    "changes": [change.to_json() for change in node.changes],
                }
                for node in self.changed
            ],
            "moved": [{"id": move.id, "before": move.before, "after": move.after} for move in self.moved],
            "edges_added": [hidden(dict(edge)) for edge in self.edges_added],
            "edges_removed": [hidden(dict(edge)) for edge in self.edges_removed],
            "fields": [change.to_json() for change in self.fields],
            "reordered": self.reordered,
        }

    def lines(self) -> Iterator[Line]:
        """Yield the diff line by line for a terminal; literal secrets are hidden and long values cut."""
        for change in self.fields:
            yield from _change_lines(change, "")
        for node in self.removed:
            yield Line("removed", f"- node {_named(node)}")
        for node in self.added:
            yield Line("added", f"+ node {_named(node)}")
            for path, value in _inputs(node):
                yield Line("added", f"    {path}: {_short(value)}")
        for changed in self.changed:
            name = f"{changed.id}  {changed.type}" + (f'  "{changed.label}"' if changed.label else "")
            yield Line("changed", f"~ node {name}")
            for change in changed.changes:
                yield from _change_lines(change, "    ")
        for edge in self.edges_removed:
            yield Line("removed", f"- wire {_wire(edge)}")
        for edge in self.edges_added:
            yield Line("added", f"+ wire {_wire(edge)}")
        if self.moved:
            yield Line("moved", f"  moved on the canvas: {_listed([move.id for move in self.moved])}")
        if self.reordered:
            yield Line("moved", "  the nodes are written in another order")


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Diff:
    """Return what has to change in ``old`` to get ``new``, both the JSON of a workflow.

    What is not a node or an edge is left out, so that no definition raises. O(size of both); 10,000 nodes take well
    below a second.
    """
    mine, theirs = _nodes(old), _nodes(new)
    changed, moved = [], []
    for node_id, node in mine.items():
        other = theirs.get(node_id)
        if other is None:
            continue
        if not _same(node.get("position"), other.get("position")):
            moved.append(Move(node_id, node.get("position"), other.get("position")))
        changes = tuple(_changes(node, other, (), skip="position"))
        if changes:
            changed.append(ChangedNode(node_id, str(other.get("type") or ""), _label(other), changes))
    gone, came = _edges(old, new)
    return Diff(
        added=tuple(node for node_id, node in theirs.items() if node_id not in mine),
        removed=tuple(node for node_id, node in mine.items() if node_id not in theirs),
        changed=tuple(changed),
        moved=tuple(moved),
        edges_added=came,
        edges_removed=gone,
        fields=tuple(_changes(_fields(old), _fields(new), ())),
        reordered=[one for one in mine if one in theirs] != [one for one in theirs if one in mine],
    )


# ---------------------------------------------------------------------- comparing


def _nodes(data: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    nodes = data.get("nodes")
    found = nodes if isinstance(nodes, list) else []
    return {str(node.get("id")): node for node in found if isinstance(node, Mapping)}


def _fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is outside the graph, without what says nothing: empty values, and the zone that is the default."""
    found = {key: value for key, value in data.items() if key not in NOT_CONTENT and value not in (None, "", [], {})}
    if settings := settings_of(data):
        found["settings"] = settings
    if found.get("timezone") == "UTC":
        del found["timezone"]
    return found


def _edges(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]]:
    """Return the edges that only the one has and those that only the other has; ports count by name or short form."""
    kept: dict[Any, deque[Mapping[str, Any]]] = defaultdict(deque)
    for edge in _edge_list(old):
        kept[_edge_key(edge)].append(edge)
    came = []
    for edge in _edge_list(new):
        same = kept.get(_edge_key(edge))
        if same:
            same.popleft()
        else:
            came.append(edge)
    return tuple(edge for rest in kept.values() for edge in rest), tuple(came)


def _edge_list(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    edges = data.get("edges")
    return [edge for edge in edges if isinstance(edge, Mapping)] if isinstance(edges, list) else []


def _edge_key(edge: Mapping[str, Any]) -> tuple[str, ...]:
    ends = ("source", "sourceHandle", "target", "targetHandle")
    rest = {key: value for key, value in edge.items() if key not in ends and key != "id" and value is not None}
    return (
        str(edge.get("source")),
        slug(str(edge.get("sourceHandle"))),
        str(edge.get("target")),
        slug(str(edge.get("targetHandle"))),
        json.dumps(rest, sort_keys=True, default=str) if rest else "",
    )


def _changes(old: Any, new: Any, path: Path, skip: str = "") -> Iterator[Change]:
    """Yield the innermost values that differ. Lists of one length are compared item by item, others as a whole."""
    stack = [(old, new, path)]
    while stack:
        before, after, where = stack.pop()
        if isinstance(before, Mapping) and isinstance(after, Mapping) and not _references(before, after):
            keys = [*before, *(key for key in after if key not in before)]
            for key in reversed(keys):
                if where or key != skip:
                    stack.append((before.get(key, MISSING), after.get(key, MISSING), (*where, key)))
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            stack.extend((before[i], after[i], (*where, i)) for i in reversed(range(len(before))))
        elif not _same(before, after):
            yield Change(where, before, after)


def _references(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether one of two values names a credential; it is shown as one value."""
    return CREDENTIAL_KEY in before or CREDENTIAL_KEY in after


def _same(before: Any, after: Any) -> bool:
    """Return whether two JSON values are equal; ``True`` is not ``1``, and ``1`` is ``1.0``."""
    stack = [(before, after)]
    while stack:
        one, other = stack.pop()
        if one is other:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            if one.keys() != other.keys():
                return False
            stack.extend((value, other[key]) for key, value in one.items())
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            stack.extend(zip(one, other, strict=True))
        elif one != other or isinstance(one, bool) != isinstance(other, bool):
            return False
    return True


# ---------------------------------------------------------------------- showing


def hidden(value: Any, path: Path = ()) -> Any:
    """Return a JSON value without what looks like a secret that somebody typed in.

    Texts under a name such as "Password" are hidden, so are the secrets in ``Bearer ...`` and in addresses with a
    login. References to credentials and templates stay: they hold none.
    """
    if isinstance(value, str):
        named = any(isinstance(key, str) and _SECRET_NAME.search(key) for key in path)
        if named and value and "{{" not in value:
            return HIDDEN
        return _SECRET_TEXT.sub(HIDDEN, value)
    if isinstance(value, Mapping):
        if CREDENTIAL_KEY in value:
            return dict(value)
        return {key: hidden(child, (*path, key)) for key, child in value.items()}
    if isinstance(value, list):
        return [hidden(child, path) for child in value]
    return value


def _node_json(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": node.get("id"), "type": node.get("type"), "label": _label(node), "node": hidden(dict(node))}


def _label(node: Mapping[str, Any]) -> str:
    data = node.get("data")
    return str(data.get("label") or "") if isinstance(data, Mapping) else ""


def _named(node: Mapping[str, Any]) -> str:
    label = _label(node)
    return f"{node.get('id')}  {node.get('type')}" + (f'  "{label}"' if label else "")


def _inputs(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    data = node.get("data")
    inputs = data.get("inputs") if isinstance(data, Mapping) else None
    for key, value in inputs.items() if isinstance(inputs, Mapping) else ():
        yield key, hidden(value, (key,))


def _wire(edge: Mapping[str, Any]) -> str:
    return f"{edge.get('source')} ({edge.get('sourceHandle')}) -> {edge.get('target')} ({edge.get('targetHandle')})"


def _change_lines(change: Change, indent: str) -> Iterator[Line]:
    before, after = hidden(change.before, change.path), hidden(change.after, change.path)
    if before == after and before == HIDDEN:
        after = f"{HIDDEN} (another one)"
    if change.kind == "added":
        yield Line("added", f"{indent}+ {change.field}: {_short(after)}")
    elif change.kind == "removed":
        yield Line("removed", f"{indent}- {change.field}: {_short(before)}")
    elif _by_lines(before, after):
        yield Line("changed", f"{indent}~ {change.field}:")
        found = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
        for text in list(found)[2:]:
            if not text.startswith("@@"):
                yield Line("added" if text[0] == "+" else "removed", f"{indent}    {_cut(text)}")
    else:
        yield Line("changed", f"{indent}~ {change.field}: {_short(before)} -> {_short(after)}")


def _by_lines(before: Any, after: Any) -> bool:
    both = (before, after)
    return all(isinstance(text, str) and text.count("\n") < TEXT_LINES for text in both) and any(
        "\n" in text for text in both
    )


def _short(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False, default=str))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _listed(ids: list[str]) -> str:
    return ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
