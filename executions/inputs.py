"""Decide whether a node runs, and with which inputs, from what its sources gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from executions import states
from executions.errors import NodeInputError
from executions.planner import Plan, PlannedNode, Wire
from workflows.errors import CredentialError, MissingValue, TemplateError
from workflows.registry import DONE, EXECUTE, EXECUTE_CONDITION
from workflows.templates import CREDENTIAL_KEY, Scope, output_value, render


@dataclass(frozen=True, slots=True)
class NodeResult:
    """How a node ended. ``outputs`` are keyed by display name; None when they were not loaded."""

    status: str
    outputs: Mapping[str, Any] | None = None
    tolerated: bool = False
    """It failed and its policy lets the execution go on."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that inputs may come from. ``secret`` turns a credential reference into its value."""

    plan: Plan
    results: Mapping[int, NodeResult]
    payload: Any
    variables: Mapping[str, Any]
    secret: Callable[[str, str], str]


def skip_reason(node: PlannedNode, sources: Sources) -> str:
    """Return why ``node`` does not run, or an empty text when it runs.

    A wire is live when its source completed and, for a path, when that path was taken. A node is skipped
    when it is disabled, when none of its wires is live, when every wire into Execute Condition is dead (or,
    without a wire, the value stored there is not "execute"), or when a required input (or a template) reads
    a node that gave nothing.
    """
    if node.node.policy.disabled:
        return "it is disabled"
    live = [wire for wire in node.wires if _is_live(wire, sources)]
    if node.wires and not live:
        return _dead_reason(node, sources)
    conditions = [wire for wire in node.wires if wire.input == EXECUTE_CONDITION]
    if conditions and not any(wire in live for wire in conditions):
        return "its path was not taken"
    if not conditions and not _stored_condition_holds(node, sources):
        return f'its {EXECUTE_CONDITION} is not "{EXECUTE}"'
    if node.description.join == "any":
        return ""
    for wire in node.wires:
        port = node.description.input(wire.input)
        if port is not None and port.required and wire.input != EXECUTE_CONDITION and wire not in live:
            if any(other in live for other in node.wires if other.input == wire.input):
                continue
            return f'"{_name(wire.source, sources)}" gave no value for "{wire.input}"'
    for reference, source in node.reads:
        if reference.has_default:
            continue
        if sources.results[source].status != states.COMPLETED:
            return f'"{_name(source, sources)}", which a template reads, did not complete'
    return ""


def resolve(node: PlannedNode, sources: Sources) -> dict[str, Any]:
    """Return the inputs of ``node`` keyed by display name: stored values (rendered), then wires, then defaults.

    Raises:
        NodeInputError: a template has no value, or a credential cannot be read.
    """
    scope = _scope(node, sources)
    inputs: dict[str, Any] = {}
    for name, value in node.node.inputs.items():
        port = node.description.input(name)
        key = port.name if port else name
        try:
            inputs[key] = render(value, scope, lambda stored: _secret(stored, sources))
        except (TemplateError, CredentialError) as error:
            raise NodeInputError(f'input "{key}" of "{node.name}": {error}') from error
    for wire in node.wires:
        if wire.input == EXECUTE_CONDITION or not _is_live(wire, sources):
            continue
        outputs = sources.results[wire.source].outputs or {}
        inputs[wire.input] = outputs.get(wire.output)
    for port in node.description.inputs:
        if inputs.get(port.name) is None and port.default is not None:
            inputs[port.name] = port.default
    return inputs


def _scope(node: PlannedNode, sources: Sources) -> Scope:
    return Scope(
        nodes=_Outputs(sources),
        input=sources.payload,
        vars=sources.variables,
        nearest=lambda name: _nearest(node, name, sources),
    )


def _stored_condition_holds(node: PlannedNode, sources: Sources) -> bool:
    """Return whether the value typed into Execute Condition, if there is one, lets the node run.

    A template that cannot be read lets it run too, so that it fails with the reason, unless the reason is a
    node that did not complete.
    """
    for name, value in node.node.inputs.items():
        port = node.description.input(name)
        if port is None or port.name != EXECUTE_CONDITION:
            continue
        try:
            return _is_taken(render(value, _scope(node, sources)))
        except MissingValue:
            return all(sources.results[source].status == states.COMPLETED for _, source in node.reads)
        except TemplateError:
            return True
    return True


def _is_taken(value: Any) -> bool:
    return value == EXECUTE or value is True


def _secret(stored: Mapping[str, Any], sources: Sources) -> str:
    return sources.secret(str(stored[CREDENTIAL_KEY]), str(stored.get("field") or "password"))


def _is_live(wire: Wire, sources: Sources) -> bool:
    result = sources.results[wire.source]
    if result.status == states.FAILED and result.tolerated:
        return wire.output == DONE
    if result.status != states.COMPLETED:
        return False
    if wire.output == DONE or not wire.conditional:
        return True
    return _is_taken((result.outputs or {}).get(wire.output))


def _dead_reason(node: PlannedNode, sources: Sources) -> str:
    wire = node.wires[0]
    status = sources.results[wire.source].status
    if status == states.COMPLETED:
        return f'"{_name(wire.source, sources)}" did not take the path "{wire.output}"'
    return f'"{_name(wire.source, sources)}" was {status}'


def _name(index: int, sources: Sources) -> str:
    return sources.plan.nodes[index].name


def _nearest(node: PlannedNode, output: str, sources: Sources) -> Any:
    for reference, source in node.reads:
        if reference.kind == "output" and reference.output == output:
            source_id = sources.plan.nodes[source].node.id
            try:
                return output_value(_Outputs(sources)[source_id], output, source_id, reference.position)
            except KeyError:
                break
    raise MissingValue(f'no node before "{node.node.id}" gave the output "{output}"')


class _Outputs(Mapping[str, Mapping[str, Any]]):
    """Outputs of completed nodes by node id; every accepted spelling of an output name works."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._index = {node.node.id: node.index for node in sources.plan.nodes}

    def __getitem__(self, node_id: str) -> Mapping[str, Any]:
        index = self._index[node_id]
        result = self._sources.results.get(index)
        if result is None or result.status != states.COMPLETED:
            raise KeyError(node_id)
        return _Named(result.outputs or {}, self._sources.plan.nodes[index])

    def __iter__(self) -> Any:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)


class _Named(Mapping[str, Any]):
    """One node's outputs, found by display name, alias or slug."""

    def __init__(self, outputs: Mapping[str, Any], node: PlannedNode) -> None:
        self._outputs, self._node = outputs, node

    def __getitem__(self, name: str) -> Any:
        if name in self._outputs:
            return self._outputs[name]
        port = self._node.description.output(name)
        if port is None:
            raise KeyError(name)
        return self._outputs[port.name]

    def __iter__(self) -> Any:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)
