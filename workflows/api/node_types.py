"""Which node types exist."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from workflows.api.common import ERRORS
from workflows.registry import NODE_REGISTRY, PALETTE_GROUPS, NodeDescription, Port, PortType, accepted_types, slug

router = Router(tags=["node types"])


class PortOut(Schema):
    """A port of a node type."""

    name: str
    slug: str
    type: PortType


class OutputOut(PortOut):
    """An output. One that is ``inside`` exists once per turn of a loop: what it leads to is the loop's body."""

    inside: bool


class InputOut(PortOut):
    """An input. ``accepts`` are the output types that may be wired into it, ``kinds`` those of a credential (all if empty).

    A wire into one that ``returns`` leads from the body of a loop back to the loop, and is no circle.
    """

    required: bool
    default: Any
    options: list[str]
    handle: bool
    variant: str
    placeholder: str
    help: str
    min: float | None
    max: float | None
    accepts: list[PortType]
    takes_many: bool
    returns: bool
    kinds: list[str]
    whole: bool


class NodeTypeOut(Schema):
    """What a node type takes and gives; ``credits`` is the cost of one finished run."""

    type: str
    label: str
    group: str
    credits: int
    summary: str
    effect: str
    start: bool
    subtitle: str
    inputs: list[InputOut]
    outputs: list[OutputOut]


def node_type_json(description: NodeDescription) -> dict[str, Any]:
    """Return a node type as the API and ``./flow nodes`` show it, implicit ports included."""
    return {
        "type": description.type,
        "label": description.label,
        "group": description.group,
        "credits": description.credits,
        "summary": description.summary,
        "effect": description.effect,
        "start": description.start,
        "subtitle": description.subtitle,
        "inputs": [_input_json(port) for port in description.all_inputs],
        "outputs": [
            {**_port_json(port), "inside": port.name in description.inside} for port in description.all_outputs
        ],
    }


def node_types() -> list[NodeDescription]:
    """Return all node types in the order of the palette."""
    order = {group: index for index, group in enumerate(PALETTE_GROUPS)}
    descriptions: list[NodeDescription] = [executor.description for executor in NODE_REGISTRY.values()]
    return sorted(descriptions, key=lambda found: order.get(found.group, len(order)))


def _port_json(port: Port) -> dict[str, Any]:
    return {"name": port.name, "slug": slug(port.name), "type": port.type}


def _input_json(port: Port) -> dict[str, Any]:
    return {
        **_port_json(port),
        "required": port.required,
        "default": port.default,
        "options": list(port.options),
        "handle": port.handle,
        "variant": port.variant,
        "placeholder": port.placeholder,
        "help": port.help,
        "min": port.min,
        "max": port.max,
        "accepts": list(accepted_types(port.type)) if port.handle else [],
        "takes_many": port.takes_many,
        "returns": port.returns,
        "kinds": list(port.kinds),
        "whole": port.whole,
    }


@router.get("/node-types", response={200: list[NodeTypeOut], **ERRORS})
def list_node_types(request: HttpRequest) -> Any:
    """List every node type with its inputs and outputs, in palette order."""
    return [node_type_json(description) for description in node_types()]
