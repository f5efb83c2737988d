"""Turn a definition into phases: lists of nodes that can run at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workflows.definition import Definition, Node
from workflows.errors import DefinitionError, TemplateError
from workflows.registry import EXECUTE_CONDITION, NodeDescription, describe
from workflows.scopes import Link, Scopes
from workflows.templates import CREDENTIAL_KEY, Reference, ShortNames, is_credential, references

HEADER_CAPACITY = 32
"""Weight that one header task carries: 32 light nodes, or 8 that wait for I/O, or one that blocks."""

_WEIGHT = {"light": 1, "io": 4, "blocking": HEADER_CAPACITY, "isolated": HEADER_CAPACITY, "browser": 1}
MAIN_SESSION = "main"


@dataclass(frozen=True, slots=True)
class Wire:
    """An edge into a node: which output of which node feeds which input (display names)."""

    source: int
    output: str
    input: str
    conditional: bool


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node of the plan. ``index`` is its position in the definition; all numbers are such indexes.

    ``needs`` are the nodes whose outputs its inputs read, ``reads`` the template references among them with
    the node that each means; ``session`` names its browser session or is empty. ``scope`` is the index of the
    innermost loop around it, or None; ``join`` says which of its wires must be live ("all", "any", "live" or
    empty: the ordinary rule).
    """

    index: int
    node: Node
    description: NodeDescription
    wires: tuple[Wire, ...]
    reads: tuple[tuple[Reference, int], ...]
    needs: frozenset[int]
    session: str
    scope: int | None = None
    join: str = ""

    @property
    def timeout_s(self) -> float:
        """Return the time limit of one attempt in seconds."""
        return self.node.policy.timeout_s or self.description.timeout_s

    @property
    def feeds(self) -> frozenset[int]:
        """Return the nodes whose outputs become inputs; those that only decide whether it runs are not among them."""
        wires = {wire.source for wire in self.wires if wire.input != EXECUTE_CONDITION}
        return frozenset(wires | {source for _, source in self.reads})

    @property
    def name(self) -> str:
        """Return what people call the node: its label, else the label of its type."""
        return self.node.label or self.description.label


@dataclass(frozen=True, slots=True)
class Header:
    """Nodes that one header task runs. ``kind`` is ``default``, ``browser`` or ``isolated``."""

    indexes: tuple[int, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A definition, or the body of one of its loops, in the order in which it runs.

    ``nodes`` are always those of the whole definition, ``phases`` those of this ``scope`` (the index of a
    loop, or None for what is inside no loop).
    """

    definition: Definition
    nodes: tuple[PlannedNode, ...]
    phases: tuple[tuple[int, ...], ...]
    uses_browser: bool
    credentials: tuple[tuple[str, str], ...]
    """Every credential that an input names: its id or name, and the field."""
    bodies: Mapping[int, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """The phases of every loop's body."""
    results: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    """Which output of which node of its body is the result of a loop's turn, where a wire says so."""
    scope: int | None = None
    positions: Mapping[str, int] = field(default_factory=dict)
    """The index of every node by its id."""

    @property
    def node_count(self) -> int:
        """Return how many nodes run here; those inside of loops are not counted outside."""
        return sum(map(len, self.phases))

    @property
    def launches_browser(self) -> bool:
        """Return whether a node of this scope opens a page; otherwise a body works on that of its surroundings."""
        return any(launches(self.nodes[index].description) for phase in self.phases for index in phase)

    def last_on_page(self, phase: int, indexes: Iterable[int]) -> bool:
        """Return whether nothing can work on the page once the nodes ``indexes`` of ``phase`` have ended. O(nodes)."""
        users = self.page_users()
        later = (index for members in self.phases[phase + 1 :] for index in members)
        return users.isdisjoint(later) and users.intersection(self.phases[phase]) <= set(indexes)

    def keeps_page(self, phase: int) -> bool:
        """Return whether no node of ``phase`` works on the page itself, so that none can have opened it anew."""
        return not any(self.nodes[index].session for index in self.phases[phase])

    def page_users(self) -> set[int]:
        """Return the nodes of this scope that work on its page: themselves, or in turns that open none of their own. O(nodes)."""
        apart = {loop for loop in self.bodies if self.body(loop).launches_browser}
        found = set()
        for node in self.nodes:
            index: int | None = node.index if node.session else None
            while index is not None and self.nodes[index].scope != self.scope:
                index = self.nodes[index].scope
                index = None if index in apart else index
            found.add(index)
        return {index for index in found if index is not None}

    @property
    def may_wait(self) -> bool:
        """Return whether a node of this scope may be set aside, and so may start executions. O(nodes)."""
        return any(self.nodes[index].description.waits for phase in self.phases for index in phase)

    def edges(self) -> dict[tuple[str, str], None]:
        """Return who needs whose outputs inside this scope, by wire or template: ids (source, target). O(nodes).

        In canvas order, each pair once.
        """
        members = {index for phase in self.phases for index in phase}
        return {
            (self.nodes[source].node.id, self.nodes[index].node.id): None
            for index in sorted(members)
            for source in sorted(self.nodes[index].needs & members)
        }

    def body(self, loop: int) -> Plan:
        """Return the plan of one turn of the loop ``loop`` (an index)."""
        phases = self.bodies[loop]
        browser = any(self.nodes[index].session for phase in phases for index in phase)
        return replace(self, phases=phases, uses_browser=browser, scope=loop)

    def leaves(self) -> list[PlannedNode]:
        """Return the nodes of this scope that no other node of it waits for, in canvas order."""
        members = {index for phase in self.phases for index in phase}
        needed = {source for index in members for source in self.nodes[index].needs}
        return [self.nodes[index] for index in sorted(members - needed)]


def launches(description: NodeDescription) -> bool:
    """Return whether a node of this type opens a page instead of working on one."""
    gives = any(port.type == "BROWSER_INSTANCE" for port in description.outputs)
    return gives and not any(port.type == "BROWSER_INSTANCE" for port in description.inputs)


def plan(definition: Definition) -> Plan:
    """Return the nodes grouped by phase; every wire and reference points from an earlier phase to a later one.

    A node lands in the first phase after all that it depends on, so the number of phases is the length
    of the longest chain. Nodes keep canvas order within a phase. O(nodes + edges).

    Raises:
        DefinitionError: the graph has a cycle, a wire names a port that does not exist, or bodies of loops overlap.
        UnknownNodeType: a node type is not registered.
    """
    index_of = {node.id: index for index, node in enumerate(definition.nodes)}
    wires: list[list[Wire]] = [[] for _ in definition.nodes]
    results: dict[int, tuple[int, str]] = {}
    descriptions = [describe(node.type) for node in definition.nodes]
    for edge in definition.edges:
        source, target = index_of[edge.source], index_of[edge.target]
        output = descriptions[source].output(edge.source_handle)
        taken = descriptions[target].input(edge.target_handle)
        if output is None or taken is None:
            handle, node = (edge.source_handle, edge.source) if output is None else (edge.target_handle, edge.target)
            raise DefinitionError(f'node "{node}" has no port "{handle}"', f"edges[{edge.id}]")
        if taken.returns:
            results[target] = (source, output.name)
            continue
        conditional = output.type == "CONDITIONAL" or taken.name == EXECUTE_CONDITION
        wires[target].append(Wire(source, output.name, taken.name, conditional))
    short = ShortNames(definition)
    nodes = tuple(
        _planned(short, index, node, descriptions[index], tuple(wires[index]), index_of)
        for index, node in enumerate(definition.nodes)
    )
    nodes, order = _scoped(nodes)
    phases = {scope: _levels(nodes, members, order) for scope, members in _members(nodes).items()}
    _check_results(nodes, results)
    credentials = {found for node in definition.nodes for found in _credentials(node.inputs)}
    loops = {node.index: phases.get(node.index, ()) for node in nodes if node.description.inside}
    return Plan(
        definition, nodes, phases.get(None, ()), any(nodes[i].session for phase in phases.get(None, ()) for i in phase),
        tuple(sorted(credentials)), loops, results, positions=index_of,
    )  # fmt: skip


def _scoped(nodes: tuple[PlannedNode, ...]) -> tuple[tuple[PlannedNode, ...], list[frozenset[int]]]:
    """Return the nodes with their scopes, and what each waits for; a loop waits for all that its body reads outside."""
    order = [node.needs for node in nodes]
    loops = {node.node.id: node.description.inside for node in nodes if node.description.inside}
    if not loops:
        return nodes, order
    scopes = Scopes(_links(nodes), loops)
    scopes.check()
    index_of = {node.node.id: node.index for node in nodes}
    scoped = tuple(
        replace(node, scope=index_of[scope]) if (scope := scopes.scope(node.node.id)) else node for node in nodes
    )
    for loop, body in scopes.bodies.items():
        inside = {index_of[node_id] for node_id in body} | {index_of[loop]}
        outside = {source for index in inside for source in nodes[index].needs} - inside
        order[index_of[loop]] = frozenset(outside)
    return scoped, order


def _links(nodes: Sequence[PlannedNode]) -> Iterable[Link]:
    for node in nodes:
        for wire in node.wires:
            yield Link(nodes[wire.source].node.id, wire.output, node.node.id)
        for reference, source in node.reads:
            port = nodes[source].description.output(reference.output or "")
            yield Link(nodes[source].node.id, port.name if port else None, node.node.id)


def _members(nodes: Iterable[PlannedNode]) -> dict[int | None, list[int]]:
    """Return the nodes directly inside each loop; those inside none are under None."""
    members: dict[int | None, list[int]] = {}
    for node in nodes:
        members.setdefault(node.scope, []).append(node.index)
    return members


def _check_results(nodes: Sequence[PlannedNode], results: Mapping[int, tuple[int, str]]) -> None:
    for loop, (source, _) in results.items():
        if nodes[source].scope != loop:
            raise DefinitionError(
                f'"{nodes[source].node.id}" is not directly inside the loop "{nodes[loop].node.id}", '
                "so it cannot give the result of a turn"
            )


def _credentials(value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        if is_credential(value):
            yield str(value[CREDENTIAL_KEY]), str(value.get("field") or "password")
        else:
            for child in value.values():
                yield from _credentials(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _credentials(child)


def _planned(
    short: ShortNames,
    index: int,
    node: Node,
    description: NodeDescription,
    wires: tuple[Wire, ...],
    index_of: Mapping[str, int],
) -> PlannedNode:
    reads = tuple(_reads(short, node, index_of))
    needs = frozenset(wire.source for wire in wires) | {source for _, source in reads}
    session = MAIN_SESSION if description.weight == "browser" else ""
    return PlannedNode(index, node, description, wires, reads, needs, session, join=_join(node, description))


def _join(node: Node, description: NodeDescription) -> str:
    if not description.join_input:
        return ""
    port = description.input(description.join_input)
    if port is None:
        return ""
    given = next((value for key, value in node.inputs.items() if description.input(key) is port), port.default)
    wanted = str(given).strip().lower()
    return wanted if wanted in port.options else str(port.default)


def _reads(short: ShortNames, node: Node, index_of: Mapping[str, int]) -> Iterable[tuple[Reference, int]]:
    """Yield the template references to other nodes; what cannot be read or found fails when the node runs."""
    try:
        found = references(node.inputs)
    except TemplateError:
        return
    for reference in found:
        source = reference.node_id or ""
        if reference.kind == "output":
            try:
                source = short.nearest(node.id, reference.output or "")
            except TemplateError:
                continue
        if source in index_of:
            yield reference, index_of[source]


def _levels(
    nodes: Sequence[PlannedNode], members: Sequence[int], order: Sequence[frozenset[int]]
) -> tuple[tuple[int, ...], ...]:
    """Kahn's algorithm over the nodes of one scope, level by level, in canvas order."""
    here = set(members)
    waiting: dict[int, int] = {}
    followers: dict[int, list[int]] = {index: [] for index in members}
    for index in members:
        sources = order[index] & here
        waiting[index] = len(sources)
        for source in sources:
            followers[source].append(index)
    level = [index for index in members if waiting[index] == 0]
    phases: list[tuple[int, ...]] = []
    done = 0
    while level:
        phases.append(tuple(level))
        done += len(level)
        following: list[int] = []
        for index in level:
            for follower in followers[index]:
                waiting[follower] -= 1
                if waiting[follower] == 0:
                    following.append(follower)
        level = sorted(following)
    if done < len(members):
        stuck = next(nodes[index].node.id for index in members if waiting[index] > 0)
        raise DefinitionError(f'node "{stuck}" is part of a cycle, so it could never start')
    return tuple(phases)


def headers(plan: Plan, indexes: Iterable[int]) -> list[Header]:
    """Return how ``indexes`` of one phase are spread over header tasks.

    Nodes of one browser session share a header, blocking and isolated nodes get one each, and what
    is light fills the headers that exist before it opens another. O(nodes).
    """
    browser: dict[str, list[int]] = {}
    alone: list[Header] = []
    packs: list[tuple[int, list[int]]] = []
    light: list[int] = []
    for index in indexes:
        node = plan.nodes[index]
        weight = node.description.weight
        if node.session:
            browser.setdefault(node.session, []).append(index)
        elif weight == "isolated":
            alone.append(Header((index,), "isolated"))
        elif weight == "blocking":
            alone.append(Header((index,), "default"))
        elif weight == "light":
            light.append(index)
        elif packs and packs[-1][0] + _WEIGHT[weight] <= HEADER_CAPACITY:
            packs[-1] = (packs[-1][0] + _WEIGHT[weight], [*packs[-1][1], index])
        else:
            packs.append((_WEIGHT[weight], [index]))
    sessions = list(browser.values())
    for pack in (*sessions, *(members for _, members in packs)):
        room = HEADER_CAPACITY - sum(_WEIGHT[plan.nodes[index].description.weight] for index in pack)
        if room > 0:
            pack.extend(light[:room])
            del light[:room]
    groups = [Header(tuple(pack), "browser") for pack in sessions]
    groups += [Header(tuple(pack), "default") for _, pack in packs]
    groups += [
        Header(tuple(light[start : start + HEADER_CAPACITY]), "default")
        for start in range(0, len(light), HEADER_CAPACITY)
    ]
    return groups + alone
