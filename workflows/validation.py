"""Find everything that is wrong with a workflow before it runs, in one pass.

``validate`` returns all findings at once; each names the node and the input it belongs to, so that the
builder can show it in place. Every walk is O(nodes + edges).
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cached_property, reduce
from typing import Any
from uuid import UUID

from workflows import conditions, cron, kinds, policy
from workflows.definition import POLICY_KEYS, Definition, Edge, Node, Problem
from workflows.errors import TemplateError
from workflows.findings import Finding, KnownCredential, Limits, Severity, errors
from workflows.paths import Paths, Wire
from workflows.registry import ERROR_PORTS, NODE_REGISTRY, NodeDescription, Port, cost_of, fit
from workflows.scopes import Link, Scopes
from workflows.strict import step
from workflows.templates import CREDENTIAL_KEY, Expression, Reference, ShortNames, filled, is_credential, parse, texts

STAND_INS: tuple[Callable[[int], str], ...] = (
    lambda size: f'"{"x" * (size - 2)}"',
    lambda size: "1" * size,
    lambda size: " " * size,
)
"""What stands for a template in a text that should become JSON: a text, a number, nothing; each of the same length."""
NAMED = 8
"""How many nodes of a cycle a message names."""
MOST = 1_000
"""How many findings are told; who has more mends some of them first."""


def examine(data: Any, **options: Any) -> list[Finding]:
    """Return everything that is wrong with the JSON of a workflow, problems of its structure included.

    Takes the options of ``validate``. What is larger than the limits is told at once, without a further look at it.
    O(nodes + edges).
    """
    limits: Limits = options.get("limits") or Limits()
    counts = [len(data[key]) if isinstance(data, Mapping) and isinstance(data.get(key), list) else 0 for key in _LISTS]
    if too_large := list(_oversize(counts[0], counts[1], 0, limits)):
        return too_large
    definition, problems = Definition.read(data)
    return validate(definition, problems=problems, **options)


def validate(
    definition: Definition,
    *,
    problems: Collection[Problem] = (),
    credentials: Mapping[str, KnownCredential] | Collection[str] | None = (),
    variables: Collection[str] | None = None,
    limits: Limits | None = None,
) -> list[Finding]:
    """Return everything that is wrong with ``definition``, in canvas order.

    ``problems`` are those of its structure. ``credentials`` are what the owner has by id and by name (names alone
    say only that they exist), ``variables`` the names under ``vars`` that the installation gives besides the
    definition's own; None skips the check. Of a definition that is larger than ``limits`` only that is told.
    O(nodes + edges).
    """
    limits = limits or Limits()
    if too_large := oversize(definition, limits):
        return too_large
    found = [_shape(problem) for problem in problems]
    if found and not definition.raw:
        return found
    found.extend(_Pass(definition, credentials, variables, limits).findings())
    if len(found) <= MOST:
        return found
    found.sort(key=lambda finding: finding.severity != "error")
    left = f"there are {len(found) - MOST:,} more findings; mend some of these first"
    return [*found[:MOST], Finding("MORE", found[MOST].severity, left)]


_LISTS = ("nodes", "edges")
_TOP = frozenset(
    {"id", "name", "description", "nodes", "edges", "vars", "settings", "cron", "timezone", "status", "tags"}
)
"""What a definition has; further keys are kept, and only one that looks like a slip is told."""
_STATUSES = frozenset({"draft", "active", "executing", "completed", "failed", "paused", "archived"})
_NODE_DATA = POLICY_KEYS | {"inputs", "label", "notes", "description", "type", "ui", "meta", "color", "icon"}
"""What ``data`` of a node may hold: what has an effect, and what is kept for people and editors."""
_INSTEAD = {
    "sensitive_inputs": '"record_inputs": false keeps the inputs of a node out of recordings',
    "sensitive_outputs": '"record_outputs": false keeps the outputs of a node out of recordings',
    "timeout": "the setting is timeout_s, in seconds",
    "backoff": "the setting is backoff_s, in seconds",
}


def _oversize(nodes: int, edges: int, size_bytes: int, limits: Limits) -> Iterator[Finding]:
    if nodes > limits.nodes:
        yield Finding(
            "LIMIT_NODES", "error", f"the workflow has {nodes:,} nodes; the limit is {limits.nodes:,}",
            hint="move a part of it into a workflow of its own and start that with Run Workflow",
        )  # fmt: skip
    if edges > limits.edges:
        yield Finding("LIMIT_EDGES", "error", f"the workflow has {edges:,} wires; the limit is {limits.edges:,}")
    if size_bytes > limits.definition_bytes:
        yield Finding(
            "LIMIT_SIZE", "error",
            f"the definition has {size_bytes:,} bytes; the limit is {limits.definition_bytes:,}",
            hint="large values belong into the input of an execution, or into a file that a node reads",
        )  # fmt: skip


def oversize(definition: Definition, limits: Limits, least: Definition | None = None) -> list[Finding]:
    """Return in what ``definition`` is larger than ``limits``; as large as ``least`` it may always be. O(1)."""
    size, allowed = _size(definition), (0, 0, 0) if least is None else _size(least)
    nodes, edges, size_bytes = (one if one > other else 0 for one, other in zip(size, allowed, strict=True))
    return list(_oversize(nodes, edges, size_bytes, limits))


def overpriced(definition: Definition, limits: Limits) -> Iterator[Finding]:
    """Yield a finding when one run is expected to cost more than ``limits`` allow. O(nodes)."""
    known = ((node, NODE_REGISTRY.get(node.type)) for node in definition.nodes)
    cost = cost_of((node, executor.description) for node, executor in known if executor)
    if limits.credits and cost > limits.credits:
        yield Finding(
            "LIMIT_CREDITS", "error", f"one run costs about {cost:,} credits; the limit is {limits.credits:,}"
        )


def _size(definition: Definition) -> tuple[int, int, int]:
    return len(definition.nodes), len(definition.edges) + len(definition.dangling), definition.size_bytes


def _shape(problem: Problem) -> Finding:
    """Return a problem of the structure as a finding; below ``data`` of a node the field is that setting."""
    _, below, setting = problem.path.partition(".data.")
    text = f"{problem.path}: {problem.message}" if problem.path else problem.message
    field = setting if below and problem.node_id else problem.path
    return Finding("BAD_SHAPE", "error", text, node_id=problem.node_id, field=field or None, path=problem.path or None)


@dataclass(frozen=True, slots=True)
class _Spot:
    """A text in the inputs of a node. ``key`` is as stored, ``field`` the name of the input, ``inner`` the path in it."""

    node: Node
    key: str
    field: str
    inner: str
    text: str

    @property
    def name(self) -> str:
        """Return how a message names the text."""
        joint = "." if self.inner and not self.inner.startswith("[") else ""
        return f'input "{self.field}{joint}{self.inner}"'


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _character(text: str, position: int) -> str:
    """Return a place in a text as people count it."""
    if "\n" not in text:
        return f"character {position + 1}"
    return f"line {_line(text, position)}, character {position - text.rfind(chr(10), 0, position)}"


class _Pass:
    """One validation: the indexes that several checks share."""

    def __init__(
        self,
        definition: Definition,
        credentials: Mapping[str, KnownCredential] | Collection[str] | None,
        variables: Collection[str] | None,
        limits: Limits,
    ) -> None:
        self.definition = definition
        self.credentials = credentials if credentials is None or isinstance(credentials, Mapping) else {
            name: KnownCredential("", None) for name in credentials
        }  # fmt: skip
        self.variables = None if variables is None else frozenset(variables) | frozenset(definition.vars)
        self.limits = limits
        self.nodes = {node.id: node for node in definition.nodes}
        self.types: dict[str, NodeDescription] = {
            node.id: NODE_REGISTRY[node.type].description for node in definition.nodes if node.type in NODE_REGISTRY
        }
        self.short = ShortNames(definition)
        self.sources: dict[str, set[str]] = {node.id: set() for node in definition.nodes}
        self.links: list[Link] = []
        self.turns: list[tuple[_Spot, Reference]] = []
        """Where templates name the item or index of a loop."""
        self.wires = [self.ends(edge) for edge in definition.edges]
        self.wired: dict[str, set[str]] = defaultdict(set)
        for edge, output, port in self.wires:
            if port is None or not port.returns:
                self.sources[edge.target].add(edge.source)
                self.links.append(Link(edge.source, output.name if output else edge.source_handle, edge.target))
            if port is not None:
                self.wired[edge.target].add(port.name)

    def ends(self, edge: Edge) -> Wire:
        """Return a wire with its ports; None where the type or the port does not exist."""
        source, target = self.types.get(edge.source), self.types.get(edge.target)
        return Wire(
            edge,
            source.output(edge.source_handle) if source else None,
            target.input(edge.target_handle) if target else None,
        )

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
        yield from self.paths()

    # ------------------------------------------------------------------ the whole

    def size(self) -> Iterator[Finding]:
        limits = self.limits
        launches = Counter(
            str(node.inputs.get("Session") or "main") for node in self.definition.nodes if self.launches(node)
        )
        if len(launches) > limits.browser_sessions:
            yield Finding(
                "LIMIT_BROWSERS",
                "error",
                f"the workflow opens {len(launches)} browser sessions; the limit is {limits.browser_sessions}",
            )
        yield from overpriced(self.definition, limits)

    def schedule(self) -> Iterator[Finding]:
        text, place = self.definition.cron, self.definition.timezone
        try:
            cron.zone(place)
        except ValueError as error:
            yield Finding("BAD_CRON", "error", str(error), field="timezone", path="timezone")
            place = "UTC"
        if text is None:
            return
        try:
            cron.check(text, place, self.limits.minimum_interval_seconds)
        except cron.IntervalTooShort as error:
            yield Finding("INTERVAL_TOO_SHORT", "error", str(error), field="cron", path="cron")
        except ValueError as error:
            yield Finding("BAD_CRON", "error", str(error), field="cron", path="cron")

    def settings(self) -> Iterator[Finding]:
        for key, problem in policy.problems(self.definition.raw.get("settings")):
            place = f"settings.{key}" if key else "settings"
            yield Finding("BAD_SETTING", "error", problem, field=place, path=place)
        settings = self.definition.raw.get("settings")
        for key in settings.keys() - policy.known() if isinstance(settings, Mapping) else ():
            yield Finding(
                "UNKNOWN_FIELD", "warning", f'the settings have "{key}", which has no effect',
                field=step("settings", key), path=step("settings", key), hint=_meant(key, policy.known()),
            )  # fmt: skip
        for key in self.definition.raw.keys() - _TOP:
            if near := _meant(key, _TOP - self.definition.raw.keys()):
                yield Finding(
                    "UNKNOWN_FIELD", "warning", f'the workflow has "{key}", which has no effect', field=str(key),
                    path=step("", key), hint=near,
                )  # fmt: skip
        status = self.definition.raw.get("status")
        if status and str(status).lower() not in _STATUSES:
            yield Finding(
                "UNKNOWN_FIELD", "warning", f'the status "{status}" does not exist; the workflow stays a draft',
                field="status", path="status", hint=_meant(str(status).lower(), _STATUSES),
            )  # fmt: skip

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
            if not node.type:  # told as a problem of the structure
                return
            yield Finding(
                "UNKNOWN_TYPE",
                "error",
                f'node "{node.id}" has the type "{node.type}", which does not exist',
                node_id=node.id,
                hint=_meant(node.type, NODE_REGISTRY) or "./flow nodes list shows what exists",
                path=f"{self.entry(node)}.type",
            )
            return
        yield from self.unknown_settings(node)
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
        given: dict[str, str] = {}
        for key, value in node.inputs.items():
            port = description.input(key)
            if port is None:
                yield Finding(
                    "UNKNOWN_INPUT",
                    "warning",
                    f'"{self.name(node)}" has no input "{key}"; it is ignored',
                    node_id=node.id,
                    field=key,
                    hint=_meant(key, [one.name for one in description.all_inputs])
                    or f"it has {', '.join(one.name for one in description.inputs) or 'none'}",
                    path=self.path(node, key),
                )
                continue
            other = given.setdefault(port.name, key)
            if other != key:
                yield Finding(
                    "DUPLICATE_INPUT",
                    "warning",
                    f'"{self.name(node)}" has the input "{port.name}" twice, as "{other}" and as "{key}"; '
                    "the last one counts",
                    node_id=node.id,
                    field=port.name,
                    hint="keep one of them",
                    path=self.path(node, key),
                )
            yield from self.value(node, key, port, value)

    def unknown_settings(self, node: Node) -> Iterator[Finding]:
        """Warn about keys beside the inputs that have no effect."""
        for key in node.data.keys() - _NODE_DATA:
            near = _meant(key, POLICY_KEYS | {"inputs", "label", "notes"})
            yield Finding(
                "UNKNOWN_FIELD", "warning", f'"{self.name(node)}" has the setting "{key}", which has no effect',
                node_id=node.id, field=key, path=step(f"{self.entry(node)}.data", key),
                hint=near or _INSTEAD.get(key, "remove it, or keep notes of your own under ui or meta"),
            )  # fmt: skip

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

    def value(self, node: Node, key: str, port: Port, value: Any) -> Iterator[Finding]:
        for inner, reference in _credentials(value):
            found = self.credential(reference, port)
            if found is not None:
                code, severity, problem, hint = found
                yield Finding(
                    code, severity, f'input "{port.name}" of "{self.name(node)}": {problem}', node_id=node.id,
                    field=port.name, hint=hint, path=self.path(node, key, inner),
                )  # fmt: skip
        if self.definition.size_bytes > self.limits.payload_bytes:
            yield from self.payload(node, key, port, value)
        if is_credential(value) or port.name in self.wired[node.id]:
            return
        if port.language == "cel" and isinstance(value, str) and value and "{{" not in value:
            try:
                conditions.check(value)
            except TemplateError as error:
                yield self.in_text("BAD_CONDITION", _Spot(node, key, port.name, "", value), str(error), error.position)
        elif reason := literal_problem(value, port):
            yield Finding(
                "INVALID_INPUTS", "error", f'input "{port.name}" of "{self.name(node)}" {reason}', node_id=node.id,
                field=port.name, path=self.path(node, key),
            )  # fmt: skip
        elif isinstance(value, str) and (broken := _broken_json(value, port)) is not None:
            problem = f"this begins like JSON and is none: {broken.msg[0].lower()}{broken.msg[1:]}"
            spot = _Spot(node, key, port.name, "", value)
            yield self.in_text("BROKEN_JSON", spot, problem, broken.pos, "warning")

    def payload(self, node: Node, key: str, port: Port, value: Any) -> Iterator[Finding]:
        """Report a value that is larger than the limit; only asked when the whole definition is."""
        size = len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        if size > self.limits.payload_bytes:
            yield Finding(
                "LIMIT_PAYLOAD", "error",
                f'input "{port.name}" of "{self.name(node)}" has {size:,} bytes; '
                f"the limit is {self.limits.payload_bytes:,}",
                node_id=node.id, field=port.name, path=self.path(node, key),
                hint="large values belong into the input of an execution, or into a file that a node reads",
            )  # fmt: skip

    def credential(self, reference: Mapping[str, Any], port: Port) -> tuple[str, Severity, str, str] | None:
        """Return code, severity, problem and hint about a reference to a credential, or None."""
        name, field = reference[CREDENTIAL_KEY], reference.get("field") or "password"
        if not isinstance(name, str) or not name:
            return "INVALID_INPUTS", "error", "choose a credential", ""
        if not isinstance(field, str):
            return "INVALID_INPUTS", "error", "the field of a credential is a text", ""
        if self.credentials is None:
            return None
        known = self.credentials.get(name)
        if known is None:
            hint = _meant(name, self.credentials) or "add it under Credentials"
            return "MISSING_CREDENTIAL", "error", f'there is no credential "{name}" of yours', hint
        if known.expires_at is not None and known.expires_at <= datetime.now(UTC):
            text = f'the credential "{name}" expired on {known.expires_at:%Y-%m-%d %H:%M} UTC'
            return "CREDENTIAL_EXPIRED", "error", text, "store it again with a new secret"
        kind = known.kind and kinds.kind_of(known.kind).name
        if kind and port.kinds and kind not in port.kinds:
            text = f'the credential "{name}" is of the kind {kind}; this input takes {_either(port.kinds)}'
            return "CREDENTIAL_KIND", "error", text, self.of_kinds(port.kinds)
        if port.whole:
            return None
        if known.fields is not None and kinds.field_name(known.kind, known.fields, field) is None:
            has = ", ".join(f'"{one}"' for one in sorted(known.fields))
            text = f'the credential "{name}" ({known.kind}) has no field "{field}"; it has {has}'
            return "CREDENTIAL_FIELD", "error", text, _meant(field, known.fields)
        return None

    def of_kinds(self, wanted: Collection[str]) -> str:
        """Return which credentials to choose where one of another kind was named."""
        names = {
            f'"{name}"'
            for name, known in (self.credentials or {}).items()
            if known.kind and kinds.kind_of(known.kind).name in wanted and not _is_id(name)
        }
        if not names:
            return f"add one of the kind {_either(wanted)} under Credentials"
        return f"choose {_either(sorted(names)[:NAMED])}"

    # ------------------------------------------------------------------ templates

    def templates(self, node: Node) -> Iterator[Finding]:
        """Report bad templates and note what the good ones wait for."""
        description = self.types.get(node.id)
        for key, value in node.inputs.items():
            for inner, text in texts(value):
                port = description.input(key) if description else None
                spot = _Spot(node, key, port.name if port else key, inner, text)
                try:
                    parts = parse(text).parts
                except TemplateError as error:
                    yield self.bad_template(spot, str(error), error.position)
                    continue
                for part in parts:
                    if isinstance(part, Expression) and part.reference is not None:
                        yield from self.reference(spot, part.reference)

    def reference(self, spot: _Spot, reference: Reference) -> Iterator[Finding]:
        problem, node = "", spot.node
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
            self.turns.append((spot, reference))
        elif reference.kind == "vars" and self.is_unknown(reference):
            yield Finding(
                "UNKNOWN_VARIABLE",
                "warning",
                f'{spot.name} of "{self.name(node)}" names vars.{reference.path[0]}, which is not set',
                node_id=node.id,
                field=spot.field,
                hint='set it under "vars" of the workflow or give a default',
                path=self.path(node, spot.key, spot.inner),
                position=reference.position,
                line=_line(spot.text, reference.position),
            )
        if problem:
            yield self.bad_template(spot, problem, reference.position)

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

    def bad_template(self, spot: _Spot, problem: str, position: int) -> Finding:
        return self.in_text("BAD_TEMPLATE", spot, problem, position)

    def in_text(self, code: str, spot: _Spot, problem: str, position: int, severity: Severity = "error") -> Finding:
        """Return what is wrong with one character of a text that is typed in."""
        return Finding(
            code,
            severity,
            f'{spot.name} of "{self.name(spot.node)}", {_character(spot.text, position)}: {problem}',
            node_id=spot.node.id,
            field=spot.field,
            path=self.path(spot.node, spot.key, spot.inner),
            position=position,
            line=_line(spot.text, position),
        )

    def path(self, node: Node, key: str, inner: str = "") -> str:
        """Return where an input stands in the JSON; ``inner`` is the place within its value."""
        within = step(f"{self.entry(node)}.data.inputs", key)
        return f"{within}{inner}" if not inner or inner.startswith("[") else f"{within}.{inner}"

    def entry(self, node: Node) -> str:
        """Return where a node stands in the JSON."""
        number = self.numbers.get(node.id)
        return node.id if number is None else f"nodes[{number}]"  # a node without an id is called by its place

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Return the number of each node in the JSON."""
        listed = self.definition.raw.get("nodes") or []
        ids = [item.get("id") if isinstance(item, Mapping) else None for item in listed]
        return {one: number for number, one in reversed(list(enumerate(ids))) if isinstance(one, str)}

    # ------------------------------------------------------------------ wires

    def edges(self) -> Iterator[Finding]:
        taken: set[tuple[str, str]] = set()
        ids: set[str] = set()
        for edge, output, port in self.wires:
            if edge.id in ids:
                yield Finding(
                    "DUPLICATE_EDGE", "warning", f'two wires have the id "{edge.id}"', node_id=edge.target,
                    edge_id=edge.id, hint="remove one of them, or give it an id of its own",
                )  # fmt: skip
            ids.add(edge.id)
            if output is None and (source := self.types.get(edge.source)):
                yield self.no_handle(edge, edge.source, "output", edge.source_handle, source.all_outputs)
            if port is None:
                if target := self.types.get(edge.target):
                    yield self.no_handle(edge, edge.target, "input", edge.target_handle, target.all_inputs)
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
        is_error = output is ERROR_PORTS[0] or output is ERROR_PORTS[1]
        if is_error and self.nodes[edge.source].policy.on_error != "output":
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
        if deep := scopes.too_deep:
            yield Finding("LOOP_SCOPE", "error", deep.message, node_id=deep.node_id)
            return
        for problem in scopes.problems():
            yield Finding("LOOP_SCOPE", "error", problem.message, node_id=problem.node_id)
        for edge, _, port in self.wires:
            if port is not None and port.returns and edge.source not in scopes.bodies[edge.target]:
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
        yield from self.late(scopes)
        for spot, reference in self.turns:
            if not scopes.scope(spot.node.id):
                outside = f'"{reference.kind}" exists only inside a loop'
                yield self.bad_template(spot, outside, reference.position)

    def late(self, scopes: Scopes) -> Iterator[Finding]:
        """Report bodies that read what runs only after their loop: a loop waits for all that its body reads outside."""
        order: dict[str, set[str]] = {}
        for loop, body in scopes.bodies.items():
            order[loop] = {source for node_id in body for source in self.sources[node_id]} - body - {loop}
        if self.cycles or not any(order.values()):
            return
        whole = {node_id: before | order.get(node_id, set()) for node_id, before in self.sources.items()}
        for members in _cycles(whole):
            for loop in members:
                for late in sorted(order.get(loop, set()).intersection(members)):
                    text = f'the body of the loop "{self.title(loop)}" reads "{self.title(late)}"'
                    yield Finding(
                        "LOOP_SCOPE", "error", f"{text}, which waits for the end of the loop", node_id=loop,
                        hint="let the body read what runs before the loop, or what it does itself",
                    )  # fmt: skip

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
        cycles = self.cycles
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
        followers = self.followers
        depth = 0 if cycles else _longest(self.sources, followers)
        if depth > self.limits.depth:
            yield Finding(
                "LIMIT_DEPTH", "error",
                f"the longest path has {depth:,} nodes one after another; the limit is {self.limits.depth:,}",
                hint="let nodes that do not need each other run side by side, or use a loop",
            )  # fmt: skip
        roots = [node_id for node_id, sources in self.sources.items() if not sources]
        entries = [node_id for node_id in roots if node_id not in self.types or self.types[node_id].start]
        if not entries and isinstance(self.definition.raw.get("nodes"), list):
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
        return _reach([node.id for node in self.definition.nodes if self.launches(node)], self.followers)

    @cached_property
    def followers(self) -> Mapping[str, list[str]]:
        """Return who waits for each node; complete when the templates were read."""
        found: dict[str, list[str]] = defaultdict(list)
        for node_id, sources in self.sources.items():
            for source in sources:
                found[source].append(node_id)
        return found

    @cached_property
    def cycles(self) -> list[list[str]]:
        """Return the nodes of every circle; complete when the templates were read."""
        return list(_cycles(self.sources))

    def paths(self) -> Iterator[Finding]:
        """Warn about paths that are never taken, and what follows from that."""
        used: dict[str, set[str | None]] = defaultdict(set)
        for link in self.links:
            used[link.source].add(link.output)
        for edge, output, _ in self.wires:
            if output is not None:
                used[edge.source].add(output.name)
        yield from Paths(self.definition, self.types, self.wires, used).findings()

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
    if port.type == "CREDENTIAL":
        return "takes a stored credential; a secret is never written into a workflow"
    if port.type in ("BROWSER_INSTANCE", "CONDITIONAL") and isinstance(value, dict | list):
        return f"cannot be {_short(value)}; connect a wire"
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


def _broken_json(text: str, port: Port) -> json.JSONDecodeError | None:
    """Return why a text that begins like a JSON object or list is none, with likely values in its templates; None if it is one."""
    begins = text.lstrip()
    if port.type not in ("JSON", "LIST") or not begins.startswith(("{", "[")) or begins.startswith("{{"):
        return None
    broken = None
    for stand_in in STAND_INS:
        try:
            json.loads(filled(text, stand_in), strict=False)
        except json.JSONDecodeError as error:
            broken = broken or error
        except (TemplateError, ValueError, RecursionError):
            return None
        else:
            return None
    return broken


def _parsed(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value


def _given(value: Any) -> bool:
    return value is not None and value != ""


def _either(words: Collection[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _is_id(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False


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


def _credentials(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the path and the reference for every credential that a value names."""
    stack: list[tuple[tuple[Any, ...], Any]] = [((), value)]
    while stack:
        keys, item = stack.pop()
        if isinstance(item, dict | Mapping):
            if CREDENTIAL_KEY in item:
                yield reduce(step, keys, ""), item
            else:
                stack.extend([((*keys, key), child) for key, child in item.items()])
        elif isinstance(item, list | tuple):
            stack.extend([((*keys, number), child) for number, child in enumerate(item)])


def _meant(word: str, known: Iterable[str]) -> str:
    """Return a question that offers the known word that is nearest to ``word``, or an empty text."""
    near = get_close_matches(str(word), list(known), n=1, cutoff=0.7)
    return f'did you mean "{near[0]}"?' if near else ""


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


def _longest(sources: Mapping[str, Collection[str]], followers: Mapping[str, Collection[str]]) -> int:
    """Return how many nodes the longest path of a graph without circles has (Kahn, level by level)."""
    waiting = {node_id: len(before) for node_id, before in sources.items()}
    level = [node_id for node_id, count in waiting.items() if not count]
    length = 0
    while level:
        length += 1
        following: list[str] = []
        for node_id in level:
            for follower in followers.get(node_id, ()):
                waiting[follower] -= 1
                if not waiting[follower]:
                    following.append(follower)
        level = following
    return length


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


__all__ = ["Finding", "KnownCredential", "Limits", "errors", "examine", "literal_problem", "validate"]
