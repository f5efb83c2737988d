"""Find everything that is wrong with a workflow before it runs, in one pass.

``validate`` returns all findings at once; each names the node and the input it belongs to, so that the
builder can show it in place. Every walk is O(nodes + edges).
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from workflows import conditions, cron, policy
from workflows.definition import Definition, Edge, Node
from workflows.errors import TemplateError
from workflows.registry import ERROR_PORTS, NODE_REGISTRY, NodeDescription, Port, fit, leads_back
from workflows.scopes import Link, Scopes
from workflows.templates import CREDENTIAL_KEY, Expression, Reference, ShortNames, is_credential, parse, texts

Severity = Literal["error", "warning"]

NAMED = 8
"""How many nodes of a cycle a message names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``field`` is the input, ``edge_id`` the wire; an error forbids activation."""

    code: str
    severity: Severity
    message: str
    node_id: str | None = None
    field: str | None = None
    hint: str = ""
    edge_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON for the builder and the API."""
        return asdict(self)

    def __str__(self) -> str:
        """Return one line for a terminal."""
        return f"{self.severity} {self.code}: {self.message}{f' ({self.hint})' if self.hint else ''}"


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a workflow may be. ``timeout_s`` is of one node; ``credits`` 0 means no limit."""

    nodes: int = 500
    edges: int = 2000
    definition_bytes: int = 1024 * 1024
    timeout_s: float = 900
    browser_sessions: int = 10
    credits: int = 0
    minimum_interval_seconds: int = 300
    switches: frozenset[str] = frozenset()
    """Settings that are on, among those that node types ask for."""


@dataclass(frozen=True, slots=True)
class KnownCredential:
    """What may be known of a credential before a run: its kind, the names of its fields, and when it ends.

    ``fields`` is None when no key opens it.
    """

    kind: str
    fields: frozenset[str] | None
    expires_at: datetime | None = None


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that forbid activation."""
    return [finding for finding in findings if finding.severity == "error"]


def validate(
    definition: Definition,
    *,
    credentials: Collection[str] | None = (),
    variables: Collection[str] | None = None,
    limits: Limits | None = None,
) -> list[Finding]:
    """Return everything that is wrong with ``definition``, in canvas order.

    ``credentials`` are the ids and names that the owner has, ``variables`` the names under ``vars`` that
    the installation gives besides the definition's own; None skips the check. O(nodes + edges).
    """
    return list(_Pass(definition, credentials, variables, limits or Limits()).findings())


class _Pass:
    """One validation: the indexes that several checks share."""

    def __init__(
        self,
        definition: Definition,
        credentials: Collection[str] | None,
        variables: Collection[str] | None,
        limits: Limits,
    ) -> None:
        self.definition = definition
        self.credentials = None if credentials is None else frozenset(credentials)
        self.variables = None if variables is None else frozenset(variables) | frozenset(definition.vars)
        self.limits = limits
        self.nodes = {node.id: node for node in definition.nodes}
        self.types: dict[str, NodeDescription] = {
            node.id: NODE_REGISTRY[node.type].description for node in definition.nodes if node.type in NODE_REGISTRY
        }
        self.short = ShortNames(definition)
        self.sources: dict[str, set[str]] = {node.id: set() for node in definition.nodes}
        self.links: list[Link] = []
        self.turns: list[tuple[Node, str, str, Reference]] = []
        """Where templates name the item or index of a loop."""
        for edge in definition.edges:
            if not leads_back(self.nodes[edge.target].type, edge.target_handle):
                self.sources[edge.target].add(edge.source)
                self.links.append(self.link(edge.source, edge.source_handle, edge.target))
        self.wired: dict[str, set[str]] = defaultdict(set)
        for edge in definition.edges:
            if edge.target in self.types:
                port = self.types[edge.target].input(edge.target_handle)
                if port is not None:
                    self.wired[edge.target].add(port.name)

    def findings(self) -> Iterator[Finding]:
        """Yield all findings."""
        yield from self.size()
        yield from self.schedule()
        yield from self.settings()
        for edge in self.definition.dangling:
            yield self.dangling(edge)
        templates = [finding for node in self.definition.nodes for finding in self.templates(node)]
        with_page = self.with_page()
        for node in self.definition.nodes:
            yield from self.node(node, with_page)
        yield from templates
        yield from self.edges()
        yield from self.loops()
        yield from self.graph()

    # ------------------------------------------------------------------ the whole

    def size(self) -> Iterator[Finding]:
        count, limits = len(self.definition.nodes), self.limits
        if count > limits.nodes:
            yield Finding("LIMIT_NODES", "error", f"the workflow has {count:,} nodes; the limit is {limits.nodes:,}")
        count = len(self.definition.edges)
        if count > limits.edges:
            yield Finding("LIMIT_EDGES", "error", f"the workflow has {count:,} wires; the limit is {limits.edges:,}")
        length = len(json.dumps(self.definition.raw, separators=(",", ":")))
        if length > limits.definition_bytes:
            yield Finding(
                "LIMIT_SIZE", "error", f"the definition has {length:,} bytes; the limit is {limits.definition_bytes:,}"
            )
        launches = Counter(
            str(node.inputs.get("Session") or "main") for node in self.definition.nodes if self.launches(node)
        )
        if len(launches) > limits.browser_sessions:
            yield Finding(
                "LIMIT_BROWSERS",
                "error",
                f"the workflow opens {len(launches)} browser sessions; the limit is {limits.browser_sessions}",
            )
        cost = sum(description.credits for description in self.types.values())
        if limits.credits and cost > limits.credits:
            yield Finding("LIMIT_CREDITS", "error", f"one run costs {cost} credits; the limit is {limits.credits}")

    def schedule(self) -> Iterator[Finding]:
        text, place = self.definition.cron, self.definition.timezone
        if text is None:
            return
        try:
            cron.check(text, place, self.limits.minimum_interval_seconds)
        except cron.IntervalTooShort as error:
            yield Finding("INTERVAL_TOO_SHORT", "error", str(error), field="cron")
        except ValueError as error:
            yield Finding("BAD_CRON", "error", str(error), field="cron")

    def settings(self) -> Iterator[Finding]:
        for key, problem in policy.problems(self.definition.raw.get("settings")):
            yield Finding("BAD_SETTING", "error", problem, field=f"settings.{key}" if key else "settings")

    def dangling(self, edge: Edge) -> Finding:
        missing = edge.target if edge.target not in self.nodes else edge.source
        present = edge.source if edge.source in self.nodes else edge.target
        return Finding(
            "DANGLING_EDGE",
            "warning",
            f'the wire "{edge.id}" leads to "{missing}", and there is no such node; it is ignored',
            node_id=present if present in self.nodes else None,
            hint="remove the wire or add the node",
            edge_id=edge.id,
        )

    # ------------------------------------------------------------------ one node

    def node(self, node: Node, with_page: set[str]) -> Iterator[Finding]:
        description = self.types.get(node.id)
        if description is None:
            yield Finding(
                "UNKNOWN_TYPE",
                "error",
                f'node "{node.id}" has the type "{node.type}", which does not exist',
                node_id=node.id,
                hint="./flow nodes list shows what exists",
            )
            return
        if description.switch and description.switch not in self.limits.switches and not node.policy.disabled:
            yield Finding(
                "SWITCHED_OFF",
                "error",
                f'"{self.name(node)}" cannot run here: {description.label} nodes are off',
                node_id=node.id,
                hint=f"whoever runs this installation can set {description.switch}=on",
            )
        if (node.policy.timeout_s or 0) > self.limits.timeout_s:
            yield Finding(
                "LIMIT_TIMEOUT",
                "error",
                f'node "{self.name(node)}" may run {node.policy.timeout_s:g} s; the limit is {self.limits.timeout_s:g} s',
                node_id=node.id,
                field="timeout_s",
            )
        for key in node.policy.unread:
            yield Finding(
                "BAD_SETTING",
                "error",
                f'{key} of "{self.name(node)}" must be true or false',
                node_id=node.id,
                field=key,
                hint="false keeps the values out of recordings; without it the node does what its workflow says",
            )
        if node.policy.cache_ttl_s and _acts_every_time(description):
            yield Finding(
                "CACHE_NEVER",
                "warning",
                f'"{self.name(node)}" keeps no result: {description.label} nodes do something each time they run',
                node_id=node.id,
                field="cache_ttl_s",
                hint="remove cache_ttl_s",
            )
        if not node.policy.disabled:
            yield from self.missing(node, description, with_page)
        for key, value in node.inputs.items():
            port = description.input(key)
            if port is None:
                yield Finding(
                    "UNKNOWN_INPUT",
                    "warning",
                    f'"{self.name(node)}" has no input "{key}"; it is ignored',
                    node_id=node.id,
                    field=key,
                )
                continue
            yield from self.value(node, port, value)

    def missing(self, node: Node, description: NodeDescription, with_page: set[str]) -> Iterator[Finding]:
        given = {port.name for key, value in node.inputs.items() if _given(value) and (port := description.input(key))}
        for port in description.inputs:
            if not port.required or port.default is not None:
                continue
            if port.name in given or port.name in self.wired[node.id]:
                continue
            if port.type == "BROWSER_INSTANCE":
                if self.sources[node.id] & with_page:
                    continue
                hint = "wire it from a node that launches a browser"
            else:
                hint = "type a value or connect a wire" if port.handle else "type a value"
            yield Finding(
                "MISSING_INPUT",
                "error",
                f'"{self.name(node)}" needs the input "{port.name}" ({port.type})',
                node_id=node.id,
                field=port.name,
                hint=hint,
            )

    def value(self, node: Node, port: Port, value: Any) -> Iterator[Finding]:
        for reference in _credentials(value):
            problem = self.credential(reference)
            if problem is not None:
                code, message = problem
                yield Finding(
                    code,
                    "error",
                    f'input "{port.name}" of "{self.name(node)}": {message}',
                    node_id=node.id,
                    field=port.name,
                )
        if not is_credential(value) and port.name not in self.wired[node.id]:
            reason = literal_problem(value, port)
            if reason:
                yield Finding(
                    "INVALID_INPUTS",
                    "error",
                    f'input "{port.name}" of "{self.name(node)}" {reason}',
                    node_id=node.id,
                    field=port.name,
                )

    def credential(self, reference: Mapping[str, Any]) -> tuple[str, str] | None:
        name = reference[CREDENTIAL_KEY]
        if not isinstance(name, str) or not name:
            return "INVALID_INPUTS", "choose a credential"
        if not isinstance(reference.get("field", "password"), str):
            return "INVALID_INPUTS", "the field of a credential is a text"
        if self.credentials is not None and name not in self.credentials:
            return "MISSING_CREDENTIAL", f'there is no credential "{name}" of yours'
        return None

    # ------------------------------------------------------------------ templates

    def templates(self, node: Node) -> Iterator[Finding]:
        """Report bad templates and note what the good ones wait for."""
        description = self.types.get(node.id)
        for key, value in node.inputs.items():
            port = description.input(key) if description else None
            field = port.name if port else key
            for path, text in texts(value):
                place = f'input "{field}{path if path.startswith("[") else f".{path}" if path else ""}"'
                try:
                    parts = parse(text).parts
                except TemplateError as error:
                    yield self.bad_template(node, field, place, str(error), error.position)
                    continue
                for part in parts:
                    if isinstance(part, Expression) and part.reference is not None:
                        yield from self.reference(node, field, place, part.reference)

    def reference(self, node: Node, field: str, place: str, reference: Reference) -> Iterator[Finding]:
        problem = ""
        if reference.kind == "node":
            problem = self.node_problem(reference)
            if not problem and reference.node_id is not None:
                self.sources[node.id].add(reference.node_id)
                self.links.append(self.link(reference.node_id, reference.output, node.id))
        elif reference.kind == "output":
            try:
                source = self.short.nearest(node.id, reference.output or "")
                self.sources[node.id].add(source)
                self.links.append(self.link(source, reference.output, node.id))
            except TemplateError as error:
                problem = str(error)
        elif reference.kind in ("item", "index"):
            self.turns.append((node, field, place, reference))
        elif reference.kind == "vars" and self.is_unknown(reference):
            yield Finding(
                "UNKNOWN_VARIABLE",
                "warning",
                f'{place} of "{self.name(node)}" names vars.{reference.path[0]}, which is not set',
                node_id=node.id,
                field=field,
                hint='set it under "vars" of the workflow or give a default',
            )
        if problem:
            yield self.bad_template(node, field, place, problem, reference.position)

    def is_unknown(self, reference: Reference) -> bool:
        if self.variables is None or not reference.path or reference.has_default:
            return False
        return reference.path[0] not in self.variables

    def node_problem(self, reference: Reference) -> str:
        node_id, output = reference.node_id or "", reference.output
        if node_id not in self.nodes:
            return f'there is no node "{node_id}"'
        description = self.types.get(node_id)
        if description is None or output is None or description.output(output) is not None:
            return ""
        names = ", ".join(port.name for port in description.all_outputs)
        return f'node "{node_id}" has no output "{output}"; it has {names}'

    def bad_template(self, node: Node, field: str, place: str, problem: str, position: int) -> Finding:
        return Finding(
            "BAD_TEMPLATE",
            "error",
            f'{place} of "{self.name(node)}", character {position + 1}: {problem}',
            node_id=node.id,
            field=field,
        )

    # ------------------------------------------------------------------ wires

    def edges(self) -> Iterator[Finding]:
        taken: set[tuple[str, str]] = set()
        for edge in self.definition.edges:
            source, target = self.types.get(edge.source), self.types.get(edge.target)
            output = source.output(edge.source_handle) if source else None
            port = target.input(edge.target_handle) if target else None
            if source is not None and output is None:
                yield self.no_handle(edge, edge.source, "output", edge.source_handle, source.all_outputs)
            if target is not None and port is None:
                yield self.no_handle(edge, edge.target, "input", edge.target_handle, target.all_inputs)
            if port is None:
                continue
            if not port.handle:
                yield self.wire(
                    "NOT_WIREABLE",
                    edge,
                    port.name,
                    f'"{port.name}" of "{self.title(edge.target)}" takes no wire; type a value',
                )
            key = (edge.target, port.name)
            if key in taken and not port.takes_many:
                yield self.wire(
                    "DUPLICATE_TARGET",
                    edge,
                    port.name,
                    f'"{port.name}" of "{self.title(edge.target)}" has two wires; keep one',
                )
            taken.add(key)
            if output is not None:
                yield from self.fit(edge, output, port)
                yield from self.error_path(edge, output)

    def error_path(self, edge: Edge, output: Port) -> Iterator[Finding]:
        """Warn about a wire from the error output of a node whose errors do not go there."""
        if output in ERROR_PORTS and self.nodes[edge.source].policy.on_error != "output":
            yield Finding(
                "ERROR_PATH", "warning",
                f'the wire from "{output.name}" of "{self.title(edge.source)}" is never taken',
                node_id=edge.source, edge_id=edge.id, hint='set "On error" of that node to "output"',
            )  # fmt: skip

    def link(self, source: str, output: str | None, target: str) -> Link:
        """Return a dependency with the display name of the output."""
        port = self.types[source].output(output) if output is not None and source in self.types else None
        return Link(source, port.name if port else output, target)

    def loops(self) -> Iterator[Finding]:
        """Report bodies that cannot run, wires back from outside, and turns named outside of any loop."""
        loops = {node_id: described.inside for node_id, described in self.types.items() if described.inside}
        scopes = Scopes(self.links, loops)
        for problem in scopes.problems():
            yield Finding("LOOP_SCOPE", "error", problem.message, node_id=problem.node_id)
        for edge in self.definition.edges:
            back = edge.target in loops and leads_back(self.nodes[edge.target].type, edge.target_handle)
            if back and edge.source not in scopes.bodies[edge.target]:
                text = f'"{self.title(edge.source)}" is not inside the loop "{self.title(edge.target)}"'
                yield self.wire(
                    "LOOP_RESULT", edge, edge.target_handle, f"{text}, so it cannot give the result of a turn"
                )
        for loop, body in scopes.bodies.items():
            if not body:
                yield Finding(
                    "LOOP_EMPTY", "warning", f'the loop "{self.title(loop)}" has no body', node_id=loop,
                    hint=f"wire its {' or '.join(loops[loop][:2])} to the nodes that run in every turn",
                )  # fmt: skip
        for node, field, place, reference in self.turns:
            if not scopes.scope(node.id):
                outside = f'"{reference.kind}" exists only inside a loop'
                yield self.bad_template(node, field, place, outside, reference.position)

    def fit(self, edge: Edge, output: Port, port: Port) -> Iterator[Finding]:
        how = fit(output.type, port.type)
        text = f'"{output.name}" of "{self.title(edge.source)}" gives {output.type}'
        if how == "none":
            yield self.wire(
                "TYPE_MISMATCH",
                edge,
                port.name,
                f'{text}; "{port.name}" of "{self.title(edge.target)}" takes {port.type}',
            )
        elif how == "loose":
            yield Finding(
                "LOOSE_TYPE",
                "warning",
                f'{text}; the run fails if that is not a {port.type} for "{port.name}" of "{self.title(edge.target)}"',
                node_id=edge.target,
                field=port.name,
                edge_id=edge.id,
            )

    def wire(self, code: str, edge: Edge, field: str, message: str) -> Finding:
        return Finding(code, "error", message, node_id=edge.target, field=field, edge_id=edge.id)

    def no_handle(self, edge: Edge, node_id: str, kind: str, handle: str, ports: Iterable[Port]) -> Finding:
        names = ", ".join(port.name for port in ports)
        return Finding(
            "UNKNOWN_HANDLE",
            "error",
            f'"{self.title(node_id)}" has no {kind} "{handle}"; it has {names}',
            node_id=node_id,
            field=handle,
            edge_id=edge.id,
        )

    # ------------------------------------------------------------------ the graph

    def graph(self) -> Iterator[Finding]:
        """Report cycles, a missing entry point, and nodes that no entry point leads to."""
        cycles = list(_cycles(self.sources))
        for members in cycles:
            names = [f'"{self.title(node_id)}"' for node_id in members]
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            text = "waits for itself" if len(names) == 1 else "wait for each other"
            yield Finding(
                "CYCLE",
                "error",
                f"{' -> '.join(names[:NAMED])}{more} {text}",
                node_id=members[0],
                hint="remove one of the wires or template references between them",
            )
        followers: dict[str, list[str]] = defaultdict(list)
        for node_id, sources in self.sources.items():
            for source in sources:
                followers[source].append(node_id)
        roots = [node_id for node_id, sources in self.sources.items() if not sources]
        entries = [node_id for node_id in roots if node_id not in self.types or self.types[node_id].start]
        if not entries:
            what = "the workflow has no nodes" if not self.nodes else "no node can start the workflow"
            yield Finding(
                "NO_ENTRY_POINT", "error", what, hint="add a node with the Entry Point badge, such as Standard Browser"
            )
        reached = _reach(entries, followers)
        excused = _reach([node_id for members in cycles for node_id in members], followers)
        for node in self.definition.nodes:
            if node.id in reached or node.id in excused:
                continue
            if node.id in roots:
                message = f'"{self.name(node)}" cannot start a workflow, and nothing leads to it'
            else:
                message = f'nothing that can start leads to "{self.name(node)}"'
            yield Finding(
                "UNREACHABLE", "error", message, node_id=node.id, hint="wire it to a node that runs before it"
            )

    def with_page(self) -> set[str]:
        """Return the nodes after which a page is open: those that launch a browser and all behind them."""
        followers: dict[str, list[str]] = defaultdict(list)
        for node_id, sources in self.sources.items():
            for source in sources:
                followers[source].append(node_id)
        return _reach([node.id for node in self.definition.nodes if self.launches(node)], followers)

    def launches(self, node: Node) -> bool:
        description = self.types.get(node.id)
        return (
            description is not None
            and any(port.type == "BROWSER_INSTANCE" for port in description.outputs)
            and not any(port.type == "BROWSER_INSTANCE" for port in description.inputs)
        )

    def name(self, node: Node) -> str:
        """Return what people call the node: its label, else its id."""
        return node.label or node.id

    def title(self, node_id: str) -> str:
        return self.name(self.nodes[node_id])


def literal_problem(value: Any, port: Port) -> str:
    """Return why a typed-in value cannot be one of this port's type, or an empty text; templates pass."""
    if value is None or value == "" or (isinstance(value, str) and "{{" in value):
        return ""
    if port.type == "NUMBER":
        return _number_problem(value, port)
    if port.type == "BOOLEAN":
        allowed = ("true", "false", "yes", "no", "on", "off", "1", "0")
        return "" if str(value).strip().lower() in allowed else f"must be true or false, not {_short(value)}"
    if port.type == "SELECT" and port.options:
        known = {option.lower() for option in (*port.options, *port.option_aliases)}
        text = json.dumps(value) if isinstance(value, bool) else str(value)
        return "" if text.strip().lower() in known else f"must be one of {', '.join(port.options)}; not {_short(value)}"
    if port.type == "LIST":
        return "" if isinstance(_parsed(value), list) else f"must be a list, not {_short(value)}"
    if port.language == "cel":
        return _condition_problem(str(value))
    if port.type == "CREDENTIAL":
        return "takes a stored credential; a secret is never written into a workflow"
    if port.type in ("BROWSER_INSTANCE", "CONDITIONAL") and isinstance(value, dict | list):
        return f"cannot be {_short(value)}; connect a wire"
    return ""


def _condition_problem(text: str) -> str:
    try:
        conditions.check(text)
    except TemplateError as error:
        return f"cannot be read: {error}"
    return ""


def _number_problem(value: Any, port: Port) -> str:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        return f"must be a number, not {_short(value)}"
    if port.min is not None and number < port.min:
        return f"must be at least {port.min:g}, not {number:g}"
    if port.max is not None and number > port.max:
        return f"must be at most {port.max:g}, not {number:g}"
    return ""


def _parsed(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value


def _given(value: Any) -> bool:
    return value is not None and value != ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _acts_every_time(description: NodeDescription) -> bool:
    """Return whether every run of a type does something outside, whatever its inputs."""
    decides_by_inputs = "effect" in vars(NODE_REGISTRY[description.type])
    return (
        description.waits
        or description.effect == "browser"
        or (description.effect == "write" and not decides_by_inputs)
    )


def _credentials(value: Any) -> Iterator[Mapping[str, Any]]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            if CREDENTIAL_KEY in item:
                yield item
            else:
                stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)


def _reach(starts: Iterable[str], followers: Mapping[str, Collection[str]]) -> set[str]:
    """Return the nodes that can be reached from ``starts``, those included."""
    seen = set(starts)
    queue = deque(seen)
    while queue:
        for node_id in followers.get(queue.popleft(), ()):
            if node_id not in seen:
                seen.add(node_id)
                queue.append(node_id)
    return seen


def _cycles(sources: Mapping[str, Collection[str]]) -> Iterator[list[str]]:
    """Yield the nodes of every cycle, one list per strongly connected component (Tarjan, without recursion)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    for root in sources:
        if root in order:
            continue
        work: list[tuple[str, Iterator[str]]] = []

        def enter(node_id: str, work: list[tuple[str, Iterator[str]]] = work) -> None:
            order[node_id] = lowest[node_id] = len(order)
            path.append(node_id)
            on_path.add(node_id)
            work.append((node_id, iter(sorted(sources[node_id]))))

        enter(root)
        while work:
            node_id, rest = work[-1]
            for source in rest:
                if source not in order:
                    enter(source)
                    break
                if source in on_path:
                    lowest[node_id] = min(lowest[node_id], order[source])
            else:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[node_id])
                if lowest[node_id] == order[node_id]:
                    start = _last_index(path, node_id)
                    members = path[start:]
                    del path[start:]
                    on_path.difference_update(members)
                    if len(members) > 1 or node_id in sources[node_id]:
                        # ``path`` follows sources, so reversed it reads in the direction of the wires.
                        yield [node_id, *reversed(members[1:])]


def _last_index(items: list[str], item: str) -> int:
    index = len(items) - 1
    while items[index] != item:
        index -= 1
    return index


__all__ = ["Finding", "Limits", "errors", "literal_problem", "validate"]
