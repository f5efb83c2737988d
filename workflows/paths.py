"""Find paths that are never taken and nodes that therefore never run, without running anything.

A node type tells by ``settled`` what is known about its paths when some of its inputs are typed in. What follows
from that goes by the same rules as a run: a node needs one live wire into Execute Condition and live wires into
its required inputs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, NamedTuple

from workflows.definition import Definition, Edge, Node
from workflows.findings import Finding
from workflows.registry import ERROR_PORTS, EXECUTE, EXECUTE_CONDITION, NODE_REGISTRY, NodeDescription, Port, Settled
from workflows.templates import CREDENTIAL_KEY

_ERRORS = frozenset(port.name for port in ERROR_PORTS)


class Wire(NamedTuple):
    """An edge and its ports; None where there is no such port."""

    edge: Edge
    output: Port | None
    input: Port | None


class Paths:
    """The paths of one definition. O(nodes + edges)."""

    def __init__(
        self,
        definition: Definition,
        types: Mapping[str, NodeDescription],
        wires: Iterable[Wire],
        used: Mapping[str, Set[str | None]],
    ) -> None:
        """``used`` says which outputs of a node are read; None stands for all of them."""
        self._nodes = {node.id: node for node in definition.nodes}
        self._types = types
        self._used = used
        self._into: dict[str, list[tuple[str, str, Port]]] = defaultdict(list)
        for edge, output, port in wires:
            if output is not None and port is not None and not port.returns:
                self._into[edge.target].append((edge.source, output.name, port))
        self._settled = {node.id: found for node in definition.nodes if (found := self._ask(node)) is not None}

    def findings(self) -> Iterator[Finding]:
        """Yield all warnings; of a path that is never taken, its first nodes are named."""
        for node_id, settled in self._settled.items():
            yield from self._decided(self._nodes[node_id], settled)
        for node_id, description in self._types.items():
            yield from self._unused(self._nodes[node_id], description)
        for node_id, description in self._types.items():
            if reason := self._off(node_id, description):
                yield Finding(
                    "NEVER_RUNS", "warning", f'"{self._name(node_id)}" never runs: {reason}', node_id=node_id,
                    hint="wire it to a path that is taken, or remove it with all that follows",
                )  # fmt: skip

    # ------------------------------------------------------------------ one node

    def _ask(self, node: Node) -> Settled | None:
        """Return what the node type knows about its paths before it runs, if it has a say in that."""
        executor = NODE_REGISTRY.get(node.type)
        ask = getattr(executor, "settled", None)
        if ask is None or node.policy.disabled:
            return None
        description = self._types[node.id]
        known: dict[str, Any] = {port.name: port.default for port in description.inputs}
        for key, value in node.inputs.items():
            port = description.input(key)
            if port is not None and not (value in (None, "") and port.default is not None):
                known[port.name] = value
        for name in [name for name, value in known.items() if _is_open(value)]:
            del known[name]
        for _, _, port in self._into.get(node.id, ()):
            known.pop(port.name, None)
        answer: Settled = ask(known)
        return answer

    def _decided(self, node: Node, settled: Settled) -> Iterator[Finding]:
        name = self._name(node.id)
        if settled.always:
            yield Finding(
                "CONSTANT_CONDITION", "warning", f'"{name}" decides the same in every run: {settled.always}',
                node_id=node.id, field=settled.field or None, hint="use a wire or a template for what it should depend on",
            )  # fmt: skip
        for field, other in settled.twice.items():
            yield Finding(
                "DUPLICATE_CASE", "warning", f'"{field}" of "{name}" is never taken: it equals "{other}"',
                node_id=node.id, field=field, hint="change or empty one of them",
            )  # fmt: skip
        if settled.always:
            return
        for output in settled.never.keys() - settled.twice.keys():
            if output in self._used.get(node.id, ()):
                yield Finding(
                    "NEVER_TAKEN", "warning", f'"{output}" of "{name}" is never taken: {settled.never[output]}',
                    node_id=node.id, field=output, hint="give it a value or remove its wire",
                )  # fmt: skip

    def _unused(self, node: Node, description: NodeDescription) -> Iterator[Finding]:
        """Warn about errors that go nowhere, decisions that nothing follows, and cases without a wire."""
        used: Set[str | None] = self._used.get(node.id, frozenset())
        if node.policy.on_error == "output" and None not in used and used.isdisjoint(_ERRORS):
            yield Finding(
                "ERROR_UNWIRED", "warning", f'errors of "{self._name(node.id)}" go to its Error output, which leads nowhere',
                node_id=node.id, field="on_error", hint='wire Error, or set "On error" to "continue" or "fail"',
            )  # fmt: skip
        forks = [
            port.name
            for port in description.outputs
            if port.type == "CONDITIONAL" and port.name not in description.inside
        ]
        if len(forks) < 2 or None in used or node.policy.disabled:
            return
        if not used:
            yield Finding(
                "DEAD_BRANCH", "warning", f'"{self._name(node.id)}" decides, and nothing follows', node_id=node.id,
                hint=f"wire {' or '.join(forks[:2])} to what should happen then",
            )  # fmt: skip
        elif not used.isdisjoint(forks):
            given = {
                port.name
                for key, value in node.inputs.items()
                if value not in (None, "") and (port := description.input(key))
            }
            settled = self._settled.get(node.id, Settled())
            for fork in forks:
                if fork in given and fork not in used and fork not in settled.twice:
                    yield Finding(
                        "DEAD_BRANCH", "warning", f'"{fork}" of "{self._name(node.id)}" leads nowhere',
                        node_id=node.id, field=fork, hint="wire it, or empty the case to let Default take it",
                    )  # fmt: skip

    # ------------------------------------------------------------------ what never runs

    def _off(self, node_id: str, description: NodeDescription) -> str:
        """Return why a node never runs though what it waits for does, or an empty text."""
        wires = [(port, self._closed(source, output)) for source, output, port in self._into.get(node_id, ())]
        first = next((reason for _, reason in wires if reason), "")
        gates = [reason for port, reason in wires if port.name == EXECUTE_CONDITION]
        if not first:
            off = not gates and not description.join_input and self._switched_off(node_id, description)
            return f'its {EXECUTE_CONDITION} is not "{EXECUTE}"' if off else ""
        if all(reason for _, reason in wires):
            return first
        if description.join_input:
            return first if self._mode(node_id, description) == "all" else ""
        if gates and all(gates):
            return gates[0]
        if description.join == "any":
            return ""
        alive = {port.name for port, reason in wires if not reason}
        return next((reason for port, reason in wires if port.required and port.name not in alive), "")

    def _closed(self, source: str, output: str) -> str:
        """Return why a path is never taken, or an empty text."""
        settled = self._settled.get(source)
        if settled is not None and output in settled.never:
            return f'"{output}" of "{self._name(source)}" is never taken'
        return ""

    def _mode(self, node_id: str, description: NodeDescription) -> str:
        port = description.input(description.join_input)
        found = [value for key, value in self._nodes[node_id].inputs.items() if description.input(key) is port]
        return str(found[0] if found else port.default if port else "").strip().lower()

    def _switched_off(self, node_id: str, description: NodeDescription) -> bool:
        for key, value in self._nodes[node_id].inputs.items():
            port = description.input(key)
            if port is not None and port.name == EXECUTE_CONDITION and not _is_open(value):
                return not (value == EXECUTE or value is True)
        return False

    def _name(self, node_id: str) -> str:
        return self._nodes[node_id].label or node_id


def _is_open(value: Any) -> bool:
    """Return whether a value is known only in a run: it holds a template or names a credential."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if "{{" in item:
                return True
        elif isinstance(item, Mapping):
            if CREDENTIAL_KEY in item:
                return True
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
    return False
