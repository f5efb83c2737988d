"""Which node types exist and what each takes and gives. Executors register themselves here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from workflows.definition import Node
from workflows.errors import UnknownNodeType

PortType = Literal[
    "STRING",
    "NUMBER",
    "BOOLEAN",
    "SELECT",
    "JSON",
    "LIST",
    "FILE",
    "CREDENTIAL",
    "BROWSER_INSTANCE",
    "CONDITIONAL",
    "ANY",
]
Effect = Literal["pure", "read", "write", "browser"]
Weight = Literal["light", "io", "blocking", "isolated", "browser"]

EXECUTE_CONDITION = "Execute Condition"
DONE = "Done"
EXECUTE = "execute"
"""Value of a CONDITIONAL output that was taken; None means not taken."""

ITEM, INDEX, LAST = "Item", "Index", "Last"
"""Outputs of loops inside their bodies, which ``{{ item }}`` and ``{{ index }}`` read, too."""

ERROR, ERROR_MESSAGE = "Error", "Error Message"
"""Outputs of every node whose policy sends errors there: the path that is taken then, and what went wrong."""

PALETTE_GROUPS = (
    "Browser Automation",
    "Data Extraction",
    "Timing Controls",
    "Flow Control",
    "Data Storage",
    "Deliver Results",
)


def slug(name: str) -> str:
    """Return the handle form of a port name: ``Execute Condition`` -> ``execute-condition``."""
    return re.sub(r"[^a-z0-9_-]", "", name.lower().replace(" ", "-"))


@dataclass(frozen=True, slots=True)
class Port:
    """A named, typed input or output.

    ``name`` is the display name and the handle id in stored definitions. ``options`` are the allowed
    values of a SELECT, ``option_aliases`` further texts that it understands (``==`` for ``equals``).
    ``handle`` False means that the input can only be typed in, never wired.
    ``variant`` chooses the form control (text, textarea, json, password). ``aliases`` are further
    names that importers accept.
    """

    name: str
    type: PortType = "STRING"
    required: bool = False
    default: Any = None
    options: tuple[str, ...] = ()
    handle: bool = True
    variant: Literal["text", "textarea", "json", "password"] = "text"
    placeholder: str = ""
    help: str = ""
    min: float | None = None
    max: float | None = None
    aliases: tuple[str, ...] = ()
    option_aliases: tuple[str, ...] = ()
    language: Literal["", "cel"] = ""
    """What the text is written in; it is checked when the workflow is saved."""
    kinds: tuple[str, ...] = ()
    """Which kinds of credentials a CREDENTIAL takes; empty means all of them."""
    whole: bool = False
    """A credential arrives here with all of its fields, as JSON, instead of one of them."""
    returns: bool = False
    """The end of a loop's body: a wire from the body leads back here and names what a turn gives."""

    @property
    def takes_many(self) -> bool:
        """Return whether several wires may lead here: any live path lets a node run."""
        return self.name == EXECUTE_CONDITION


ERROR_PORTS = (
    Port(ERROR, "CONDITIONAL", help="Taken when the node failed and its errors are sent to this output."),
    Port(ERROR_MESSAGE, "STRING", help="What went wrong."),
)


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """What a node type takes and gives.

    ``credits`` is the cost of one finished run. ``effect`` says what a re-execution may do with it,
    ``weight`` how header tasks are filled. ``join`` "any" runs the node when any wire is live, "all"
    skips it when a required wired input comes from a skipped node. ``timeout_s`` is the default time
    limit of one attempt in seconds. ``join_input`` names the SELECT input whose value decides the join
    instead ("all", "any" or "live"). ``inside`` are the outputs of a loop that exist once per turn.
    ``waits`` says that a run may be set aside, held by no worker, until something wakes it.
    """

    type: str
    label: str
    group: str
    credits: int
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    start: bool = False
    effect: Effect = "pure"
    weight: Weight = "light"
    join: Literal["all", "any"] = "all"
    timeout_s: float = 60.0
    join_input: str = ""
    inside: tuple[str, ...] = ()
    waits: bool = False
    summary: str = ""
    subtitle: str = ""
    """Name of the input whose value the canvas shows under the label."""
    switch: str = ""
    """Name of the setting that must be on before a workflow with this node can be activated."""

    _inputs: dict[str, Port] = field(init=False, repr=False, compare=False, default_factory=dict)
    _outputs: dict[str, Port] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Index every accepted spelling of every port once; each node also gets the implicit ports."""
        implicit_in = Port(EXECUTE_CONDITION, "CONDITIONAL", help="Runs only when this path was taken.")
        implicit_out = Port(DONE, "CONDITIONAL", help="Taken when the node has finished.")
        for index, ports, extra in (
            (self._inputs, self.inputs, (implicit_in,)),
            (self._outputs, self.outputs, (implicit_out, *ERROR_PORTS)),
        ):
            for port in (*ports, *extra):
                for name in (port.name, *port.aliases):
                    index.setdefault(name, port)
                    index.setdefault(slug(name), port)

    def input(self, name: str) -> Port | None:
        """Return the input called ``name`` (display name, alias or slug), or None."""
        return self._inputs.get(name)

    def output(self, name: str) -> Port | None:
        """Return the output called ``name`` (display name, alias or slug), or None."""
        return self._outputs.get(name)

    @property
    def all_inputs(self) -> tuple[Port, ...]:
        """Return the declared inputs and the implicit ``Execute Condition``."""
        return (*self.inputs, self._inputs[EXECUTE_CONDITION])

    @property
    def all_outputs(self) -> tuple[Port, ...]:
        """Return the declared outputs and the implicit ``Done``."""
        return (*self.outputs, self._outputs[DONE])


@dataclass(frozen=True, slots=True)
class Settled:
    """What is known about the paths of a node before it runs; a node type may tell it by ``settled(known)``.

    ``known`` holds the inputs that are typed in, and the defaults, by display name; what comes by a wire, a template
    or a credential is not in it. ``always`` says in words what every run decides and ``field`` where that comes from;
    ``never`` are outputs that are never taken, with the reason; ``twice`` those of them whose case equals an earlier one.
    """

    always: str = ""
    never: Mapping[str, str] = field(default_factory=dict)
    twice: Mapping[str, str] = field(default_factory=dict)
    field: str = ""


_ACCEPTED: dict[PortType, tuple[PortType, ...]] = {
    "STRING": ("JSON", "NUMBER", "BOOLEAN", "SELECT", "LIST", "ANY"),
    "NUMBER": ("ANY",),
    "BOOLEAN": ("ANY",),
    "SELECT": ("ANY",),
    "JSON": ("STRING", "LIST", "NUMBER", "BOOLEAN", "SELECT", "ANY"),
    "LIST": ("JSON", "STRING", "ANY"),
    "FILE": ("ANY",),
    "ANY": ("STRING", "NUMBER", "BOOLEAN", "SELECT", "JSON", "LIST", "FILE"),
}
"""What an input takes besides its own type. Pages, paths and credentials are never turned into anything else."""

_MAY_FAIL: frozenset[tuple[PortType, PortType]] = frozenset(
    {
        ("JSON", "LIST"),
        ("STRING", "LIST"),
        ("ANY", "NUMBER"),
        ("ANY", "BOOLEAN"),
        ("ANY", "SELECT"),
        ("ANY", "LIST"),
        ("ANY", "FILE"),
    }
)


def accepted_types(target: PortType) -> tuple[PortType, ...]:
    """Return the output types that may be wired into an input of type ``target``, its own first."""
    return (target, *_ACCEPTED.get(target, ()))


def fit(source: PortType, target: PortType) -> Literal["exact", "coerced", "loose", "none"]:
    """Return how an output fits an input: as it is, converted, converted if the value allows it, or not at all."""
    if source == target:
        return "exact"
    if source not in _ACCEPTED.get(target, ()):
        return "none"
    return "loose" if (source, target) in _MAY_FAIL else "coerced"


NODE_REGISTRY: dict[str, type[Any]] = {}
"""Node type -> executor class; each class has ``description: NodeDescription``."""

ExecutorType = TypeVar("ExecutorType", bound=type[Any])


def register(executor: ExecutorType) -> ExecutorType:
    """Class decorator: make ``executor`` the implementation of its ``description.type``."""
    NODE_REGISTRY[executor.description.type] = executor
    return executor


def set_costs(costs: Mapping[str, int]) -> None:
    """Let these node types cost so many credits instead of their own; the one place where costs are changed.

    Raises:
        UnknownNodeType: one of them is not registered; then none is changed.
    """
    for node_type in costs:
        describe(node_type)
    for node_type, cost in costs.items():
        executor = NODE_REGISTRY[node_type]
        executor.description = replace(executor.description, credits=cost)


def leads_back(node_type: str, handle: str) -> bool:
    """Return whether a wire into ``handle`` of a node of this type ends a loop's body; it is no dependency."""
    executor = NODE_REGISTRY.get(node_type)
    port = executor.description.input(handle) if executor is not None else None
    return port is not None and port.returns


def describe(node_type: str) -> NodeDescription:
    """Return the description of ``node_type``.

    Raises:
        UnknownNodeType: nothing of that name is registered.
    """
    try:
        description: NodeDescription = NODE_REGISTRY[node_type].description
    except KeyError:
        raise UnknownNodeType(f'no node type "{node_type}"; `./flow nodes list` shows what exists') from None
    return description


def cost_of(nodes: Iterable[tuple[Node, NodeDescription]]) -> int:
    """Return what ``nodes`` cost together when each runs once; one that is disabled never runs."""
    return sum(description.credits for node, description in nodes if not node.policy.disabled)
