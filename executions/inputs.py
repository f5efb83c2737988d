"""Decide whether a node runs, and with which inputs, from what its sources gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from executions import states
from executions.errors import NodeInputError
from executions.planner import Plan, PlannedNode, Wire
from workflows.errors import CredentialError, MissingValue, TemplateError
from workflows.kinds import WHOLE
from workflows.registry import DONE, ERROR, ERROR_MESSAGE, EXECUTE, EXECUTE_CONDITION, INDEX, ITEM, LAST
from workflows.templates import CREDENTIAL_KEY, Scope, output_value, render


@dataclass(frozen=True, slots=True)
class NodeResult:
    """How a node ended. ``outputs`` are keyed by display name; None when they were not loaded.

    A tolerated failure with outputs goes on along the Error output.
    """

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
    turn: Mapping[str, Any] | None = None
    """Outputs of the innermost loop around in this turn (Item, Index …), or None outside of loops."""


def skip_reason(node: PlannedNode, sources: Sources) -> str:
    """Return why ``node`` does not run, or an empty text when it runs.

    A wire is live when its source completed and, for a path, when that path was taken. A node is skipped
    when it is disabled, when none of its wires is live, when every wire into Execute Condition is dead (or,
    without a wire, the value stored there is not "execute"), or when a required input (or a template) reads
    a node that gave nothing. A node whose plan names a join goes by that alone: all of its wires, or any.
    """
    if node.node.policy.disabled:
        return "it is disabled"
    live = [wire for wire in node.wires if _is_live(wire, sources)]
    if node.wires and not live:
        return _dead_reason(node, sources)
    if node.join:
        dead = next((wire for wire in node.wires if not _is_live(wire, sources)), None)
        return _wire_reason(dead, sources) if node.join == "all" and dead is not None else ""
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
        if not _gave_outputs(sources.results[source]):
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
            whole = port is not None and port.whole
            inputs[key] = render(value, scope, partial(_secret, sources=sources, whole=whole))
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
    turn = {} if sources.turn is None else _turn(sources.turn)
    return Scope(
        nodes=_Outputs(sources),
        input=sources.payload,
        vars=sources.variables,
        nearest=lambda name: _nearest(node, name, sources),
        **turn,
    )


def _turn(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``{{ item }}`` (in a loop with a condition: what the turn before gave) and ``{{ index }}`` read."""
    return {"item": outputs.get(ITEM, outputs.get(LAST)), "index": outputs.get(INDEX)}


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
            return all(_gave_outputs(sources.results[source]) for _, source in node.reads)
        except TemplateError:
            return True
    return True


def _is_taken(value: Any) -> bool:
    return value == EXECUTE or value is True


def _secret(stored: Mapping[str, Any], sources: Sources, *, whole: bool) -> str:
    return sources.secret(str(stored[CREDENTIAL_KEY]), WHOLE if whole else str(stored.get("field") or "password"))


def _is_live(wire: Wire, sources: Sources) -> bool:
    result = sources.results[wire.source]
    if result.status == states.FAILED and result.tolerated:
        return wire.output in result.outputs if result.outputs is not None else wire.output == DONE
    if result.status != states.COMPLETED:
        return False
    if wire.output in (ERROR, ERROR_MESSAGE) and wire.output not in (result.outputs or {}):
        return False
    if wire.output == DONE or not wire.conditional:
        return True
    return _is_taken((result.outputs or {}).get(wire.output))


def _dead_reason(node: PlannedNode, sources: Sources) -> str:
    return _wire_reason(node.wires[0], sources)


def _gave_outputs(result: NodeResult) -> bool:
    return result.status == states.COMPLETED or (result.tolerated and result.outputs is not None)


def _wire_reason(wire: Wire, sources: Sources) -> str:
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
        self._index = sources.plan.positions

    def __getitem__(self, node_id: str) -> Mapping[str, Any]:
        index = self._index[node_id]
        result = self._sources.results.get(index)
        if result is None or not _gave_outputs(result):
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
