"""Read and render ``{{ }}`` in inputs: a small grammar over plain JSON, without evaluation or attribute access.

An expression is a name and any number of filters::

    {{ nodes.<node id>.<Output>.path[0] }}      an output of a node; names with spaces are quoted:
    {{ nodes.n1["Html Content"] }}
    {{ input.order.id }}                        the trigger payload
    {{ vars.demo_url }}                         variables of the definition and the installation
    {{ item.name }}  {{ index }}                inside a loop
    {{ Html Content }}                          short form: that output of the nearest upstream node
    {{ "{{" }}                                  a literal
    {{ input.name | trim | default("nobody") }}

A text that is exactly one expression keeps the JSON type of its value; inside a longer text values are
written as text. What an expression returns is never read as a template again.
"""

from __future__ import annotations

import json
import math
import re
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from typing import Any, Literal

from workflows.definition import Definition, Node
from workflows.errors import MissingValue, TemplateError
from workflows.registry import NODE_REGISTRY, leads_back, slug
from workflows.strict import step

ReferenceKind = Literal["node", "output", "input", "vars", "item", "index"]

TEXT_LIMIT = 16 * 1024 * 1024
"""Longest text, in characters, that a template may render to."""
CACHED_TEXT = 8192
"""Texts up to this length are parsed once and remembered."""
CREDENTIAL_KEY = "$credential"

_MISSING: Any = object()
_WORD = re.compile(r"[\w-]+")
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"-?\d+")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Reference:
    """What an expression names. ``position`` is its offset in the text, ``path`` what follows the name.

    ``kind`` "node" is ``nodes.<node_id>.<output>``; "output" is the short form, of which only ``output``
    is known until it is resolved.
    """

    kind: ReferenceKind
    node_id: str | None = None
    output: str | None = None
    path: tuple[str | int, ...] = ()
    has_default: bool = False
    position: int = 0

    def __str__(self) -> str:
        """Return the reference as it may be written in a template."""
        if self.kind == "node":
            head = f"nodes{_step(self.node_id or '')}{_step(self.output or '') if self.output is not None else ''}"
        else:
            head = self.output or "" if self.kind == "output" else self.kind
        return head + "".join(_step(key) for key in self.path)


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter call: its name in ``FILTERS`` and its literal arguments."""

    name: str
    arguments: tuple[Any, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Expression:
    """One ``{{ }}``: a reference, or a literal, and the filters that it passes through."""

    reference: Reference | None
    literal: Any
    filters: tuple[Filter, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed text: literal pieces and expressions in order."""

    parts: tuple[str | Expression, ...]


def _no_nearest(name: str) -> Any:
    raise MissingValue(f'no upstream node has the output "{name}"')


@dataclass(frozen=True, slots=True)
class Scope:
    """The values that templates may name.

    ``nodes`` maps node ids to outputs keyed by display name; ``nearest`` returns the value of the short
    form and raises MissingValue when there is none. ``item`` and ``index`` exist only inside a loop.
    """

    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    input: Any = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    item: Any = _MISSING
    index: Any = _MISSING
    nearest: Callable[[str], Any] = _no_nearest


# ---------------------------------------------------------------------- reading


def parse(text: str) -> Template:
    """Return ``text`` cut into literal pieces and expressions. O(length); short texts are cached.

    Raises:
        TemplateError: naming what is wrong and, as ``position``, the offset in ``text``.
    """
    return _parse_cached(text) if len(text) <= CACHED_TEXT else _parse(text)


def _parse(text: str) -> Template:
    parts: list[str | Expression] = []
    at = 0
    while True:
        start = text.find("{{", at)
        if start < 0:
            break
        if start > at:
            parts.append(text[at:start])
        expression, at = _Parser(text, start).expression()
        parts.append(expression)
    if at < len(text):
        parts.append(text[at:])
    return Template(tuple(parts))


def filled(text: str, stand_in: Callable[[int], str]) -> str:
    """Return ``text`` with what ``stand_in`` makes of its length in the place of every expression; plain letters inside quotes.

    Raises:
        TemplateError: as ``parse``.
    """
    pieces, at, quoted = [], 0, False
    while (start := text.find("{{", at)) >= 0:
        literal = text[at:start]
        quoted ^= _ESCAPED.sub("", literal).count('"') % 2 == 1
        _, at = _Parser(text, start).expression()
        pieces += [literal, "x" * (at - start) if quoted else stand_in(at - start)]
    return "".join((*pieces, text[at:]))


_parse_cached = lru_cache(maxsize=4096)(_parse)


class _Parser:
    """Reads one expression from ``text``; ``at`` is the offset of the next character."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.start = start
        self.at = start + 2

    def expression(self) -> tuple[Expression, int]:
        """Return the expression that begins at ``start`` and the offset behind it."""
        self.skip()
        if self.peek() in ('"', "'"):
            head: Reference | None = None
            literal = self.quoted()
        else:
            head, literal = self.reference(), None
        filters: list[Filter] = []
        self.skip()
        while self.peek() == "|":
            self.at += 1
            filters.append(self.filter())
            self.skip()
        if not self.text.startswith("}}", self.at):
            raise self.unexpected()
        if head is not None and any(item.name == "default" for item in filters):
            head = Reference(head.kind, head.node_id, head.output, head.path, True, head.position)
        return Expression(head, literal, tuple(filters), self.start), self.at + 2

    def reference(self) -> Reference:
        """Read a name and its path."""
        position = self.at
        words = [self.word("a name")]
        while True:
            self.skip()
            match = _WORD.match(self.text, self.at)
            if match is None:
                break
            words.append(match.group())
            self.at = match.end()
        if len(words) > 1:
            return Reference("output", output=" ".join(words), path=self.path(), position=position)
        name = words[0]
        if name == "nodes":
            path = self.path()
            if not path:
                raise TemplateError('name a node and its output: nodes.<node id>["Output"]', position)
            output = str(path[1]) if len(path) > 1 else None
            return Reference("node", node_id=str(path[0]), output=output, path=path[2:], position=position)
        if name == "input":
            return Reference("input", path=self.path(), position=position)
        if name == "vars":
            return Reference("vars", path=self.path(), position=position)
        if name == "item":
            return Reference("item", path=self.path(), position=position)
        if name == "index":
            return Reference("index", path=self.path(), position=position)
        return Reference("output", output=name, path=self.path(), position=position)

    def path(self) -> tuple[str | int, ...]:
        """Read any number of ``.key``, ``[0]`` and ``["key"]``."""
        keys: list[str | int] = []
        while True:
            self.skip()
            if self.peek() == ".":
                self.at += 1
                self.skip()
                keys.append(self.quoted() if self.peek() in ('"', "'") else self.word("a key after the dot"))
            elif self.peek() == "[":
                keys.append(self.bracket())
            else:
                break
        rest = _WORD.match(self.text, self.at)
        if keys and rest is not None:
            key = keys[-1]
            raise TemplateError(f'a name with spaces is quoted, like ["{key} {rest.group()}"]', self.at)
        return tuple(keys)

    def bracket(self) -> str | int:
        opening = self.at
        self.at += 1
        self.skip()
        number = _NUMBER.match(self.text, self.at)
        if self.peek() in ('"', "'"):
            key: str | int = self.quoted()
        elif number is not None and len(number.group()) <= 10:
            self.at = number.end()
            key = int(number.group())
        else:
            raise TemplateError('expected a number or a quoted key, like [0] or ["key"]', self.at)
        self.skip()
        if self.peek() != "]":
            raise TemplateError('the "[" is not closed', opening)
        self.at += 1
        return key

    def filter(self) -> Filter:
        """Read ``name`` or ``name(argument, ...)``."""
        self.skip()
        position = self.at
        name = self.word("the name of a filter")
        if name not in FILTERS:
            raise TemplateError(f'no filter "{name}"; there are {", ".join(sorted(FILTERS))}', position)
        arguments: list[Any] = []
        self.skip()
        if self.peek() == "(":
            self.at += 1
            self.skip()
            while self.peek() != ")":
                arguments.append(self.argument())
                self.skip()
                if self.peek() == ",":
                    self.at += 1
                    self.skip()
                elif self.peek() != ")":
                    raise TemplateError(f'the arguments of "{name}" are not closed by ")"', position)
            self.at += 1
        _, least, most = FILTERS[name]
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise TemplateError(f'filter "{name}" takes {wanted} argument(s), not {len(arguments)}', position)
        return Filter(name, tuple(arguments), position)

    def argument(self) -> Any:
        """Read a JSON literal; a text may also stand in single quotes."""
        if self.peek() in ('"', "'"):
            return self.quoted()
        try:
            value, self.at = _DECODER.raw_decode(self.text, self.at)
        except (ValueError, RecursionError):
            raise TemplateError("expected a literal: a quoted text, a number, true, false or null", self.at) from None
        return value

    def quoted(self) -> str:
        """Read a text in double or single quotes; a backslash keeps the next character."""
        quote, opening = self.text[self.at], self.at
        letters: list[str] = []
        at = opening + 1
        while at < len(self.text) and self.text[at] != quote:
            if self.text[at] == "\\" and at + 1 < len(self.text):
                at += 1
                letters.append({"n": "\n", "t": "\t"}.get(self.text[at], self.text[at]))
            else:
                letters.append(self.text[at])
            at += 1
        if at >= len(self.text):
            raise TemplateError(f"the quote {quote} is not closed", opening)
        self.at = at + 1
        return "".join(letters)

    def word(self, wanted: str) -> str:
        match = _WORD.match(self.text, self.at)
        if match is None:
            if self.text.startswith("}}", self.at) or self.at >= len(self.text):
                raise TemplateError(f"expected {wanted}", self.at)
            raise TemplateError(f'expected {wanted}, not "{self.text[self.at]}"', self.at)
        self.at = match.end()
        return match.group()

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def unexpected(self) -> TemplateError:
        if "}}" not in self.text[self.at :]:
            return TemplateError('the "{{" is not closed by "}}"; write {{ "{{" }} for the characters', self.start)
        return TemplateError(f'unexpected "{self.peek()}"; only names and filters may stand here', self.at)


def _step(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if _WORD.fullmatch(key) else f'["{key}"]'


# ---------------------------------------------------------------------- walking


def is_credential(value: Any) -> bool:
    """Return whether ``value`` is a stored reference to a credential."""
    return isinstance(value, Mapping) and CREDENTIAL_KEY in value


def texts(value: Any) -> Iterator[tuple[str, str]]:
    """Yield ``(path, text)`` for every text in a JSON value that holds an expression."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while stack:
        keys, item = stack.pop()
        if isinstance(item, str):
            if "{{" in item:
                yield reduce(step, keys, ""), item
        elif isinstance(item, dict | Mapping):
            if CREDENTIAL_KEY not in item:
                stack.extend([((*keys, key), child) for key, child in item.items()])
        elif isinstance(item, list | tuple):
            stack.extend([((*keys, i), child) for i, child in enumerate(item)])


def references(value: Any) -> list[Reference]:
    """Return what the templates in any JSON value name, in no particular order.

    Raises:
        TemplateError: a template in ``value`` cannot be read.
    """
    found: list[Reference] = []
    for _, text in texts(value):
        for part in parse(text).parts:
            if isinstance(part, Expression) and part.reference is not None:
                found.append(part.reference)
    return found


def credential_references(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every reference to a credential in a JSON value, in the order of the text."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            if CREDENTIAL_KEY in item:
                yield item
            else:
                stack.extend(reversed(list(item.values())))
        elif isinstance(item, list):
            stack.extend(reversed(item))


# ---------------------------------------------------------------------- rendering


def render(value: Any, scope: Scope, credential: Callable[[Mapping[str, Any]], Any] | None = None) -> Any:
    """Return ``value`` with every template replaced by what it names.

    A stored ``{"$credential": ...}`` is passed to ``credential`` (left alone without one). Only stored
    references are: an object of this form that comes out of a template is plain data.

    Raises:
        MissingValue: a named value is not there and the expression has no ``default``.
        TemplateError: a template cannot be read, a filter cannot take the value, or the text is too long.
    """
    if isinstance(value, str):
        return render_text(value, scope) if "{{" in value else value
    if isinstance(value, Mapping):
        if CREDENTIAL_KEY in value:
            return value if credential is None else credential(value)
        return {key: render(child, scope, credential) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [render(child, scope, credential) for child in value]
    return value


def render_text(text: str, scope: Scope) -> Any:
    """Return the value of a text.

    It keeps its JSON type if the text is exactly one expression, blanks around it aside; else it is a text.
    """
    parts = parse(text).parts
    if len(parts) == 1 and isinstance(parts[0], Expression):
        return evaluate(parts[0], scope)
    pieces: list[str] = []
    size = 0
    alone = sum(isinstance(part, Expression) or not part.isspace() for part in parts) == 1
    for part in parts:
        value = part if isinstance(part, str) else evaluate(part, scope)
        if alone and isinstance(part, Expression) and not isinstance(value, str):
            return value
        piece = as_text(value)
        size += len(piece)
        if size > TEXT_LIMIT:
            raise TemplateError(f"the rendered text is longer than {TEXT_LIMIT} characters")
        pieces.append(piece)
    return "".join(pieces)


def evaluate(expression: Expression, scope: Scope) -> Any:
    """Return the value of one expression."""
    missing: MissingValue | None = None
    value: Any = None
    if expression.reference is None:
        value = expression.literal
    else:
        try:
            value = lookup(expression.reference, scope)
        except MissingValue as error:
            missing = error
    for call in expression.filters:
        if call.name == "default":
            if missing is not None or value is None:
                value, missing = call.arguments[0], None
            continue
        if missing is not None:
            continue
        try:
            value = FILTERS[call.name][0](value, *call.arguments)
        except TemplateError as error:
            raise TemplateError(str(error), call.position) from None
        except (TypeError, ValueError, OverflowError) as error:
            raise TemplateError(f'filter "{call.name}" cannot take {_kind(value)}: {error}', call.position) from error
    if missing is not None:
        raise missing
    return value


def lookup(reference: Reference, scope: Scope) -> Any:
    """Return the value that ``reference`` names.

    Raises:
        MissingValue: it is not there; the message says which part is missing.
    """
    if reference.kind == "node":
        value = _node_value(reference, scope)
    elif reference.kind == "output":
        value = scope.nearest(reference.output or "")
    elif reference.kind == "input":
        value = scope.input
    elif reference.kind == "vars":
        value = scope.vars
    else:
        value = scope.item if reference.kind == "item" else scope.index
        if value is _MISSING:
            raise MissingValue(f'"{reference.kind}" exists only inside a loop', reference.position)
    for key in reference.path:
        value = _child(value, key, reference)
    return value


def _node_value(reference: Reference, scope: Scope) -> Any:
    node_id = reference.node_id or ""
    outputs = scope.nodes.get(node_id)
    if outputs is None:
        raise MissingValue(f'node "{node_id}" has no outputs (it was skipped or has not run)', reference.position)
    if reference.output is None:
        return dict(outputs)
    return output_value(outputs, reference.output, node_id, reference.position)


def output_value(outputs: Mapping[str, Any], name: str, node_id: str, position: int = 0) -> Any:
    """Return the output called ``name`` (display name or slug).

    Raises:
        MissingValue: the node gave no such output.
    """
    if name in outputs:
        return outputs[name]
    wanted = slug(name)
    for key, value in outputs.items():
        if slug(key) == wanted:
            return value
    raise MissingValue(f'node "{node_id}" gave no output "{name}"; it gave {_names(outputs)}', position)


def _child(value: Any, key: str | int, reference: Reference) -> Any:
    """Return one step of a path; a text that is a JSON object or list is read as such."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise MissingValue(f'"{reference}": the text before {_step(key)} is not JSON', reference.position) from None
    if isinstance(key, int):
        if isinstance(value, list) and -len(value) <= key < len(value):
            return value[key]
        size = f"a list of {len(value)}" if isinstance(value, list) else _kind(value)
        raise MissingValue(f'"{reference}": there is no [{key}] in {size}', reference.position)
    if isinstance(value, Mapping) and key in value:
        return value[key]
    names = _names(value) if isinstance(value, Mapping) else _kind(value)
    raise MissingValue(f'"{reference}": there is no "{key}" in {names}', reference.position)


def _names(mapping: Mapping[str, Any]) -> str:
    names = [f'"{key}"' for key in list(mapping)[:10]]
    return ", ".join(names) + (", ..." if len(mapping) > 10 else "") if names else "nothing"


def as_text(value: Any) -> str:
    """Return a value as it is written inside a longer text: null is empty, objects and lists are JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Mapping):
        return "an object"
    names = {list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), "a number")


# ---------------------------------------------------------------------- filters


def _default(value: Any, other: Any) -> Any:
    return other if value is None else value


def _sequence(value: Any) -> list[Any]:
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        value = json.loads(value)
    if not isinstance(value, list | tuple):
        raise TemplateError(f"needs a list, not {_kind(value)}")
    return list(value)


def _length(value: Any) -> int:
    if isinstance(value, str | list | tuple | Mapping):
        return len(value)
    raise TemplateError(f"length needs a text, a list or an object, not {_kind(value)}")


def _end(position: int) -> Callable[[Any], Any]:
    def pick(value: Any) -> Any:
        items = value if isinstance(value, str) and value.lstrip()[:1] != "[" else _sequence(value)
        return items[position] if items else None

    return pick


def _number(value: Any) -> int | float:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    text = str(value).strip().replace("_", "x")
    if len(text) > 400:
        raise ValueError("the text is too long for a number")
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f'"{text}" is not a number') from None
        return number


def _round(value: Any, digits: Any = 0) -> int | float:
    if isinstance(digits, bool) or not isinstance(digits, int) or not -15 <= digits <= 15:
        raise TemplateError("round takes a whole number of digits from -15 to 15")
    number = round(float(_number(value)), digits)
    return int(number) if digits <= 0 else number


def _join(value: Any, separator: Any = ",") -> str:
    pieces = [as_text(item) for item in _sequence(value)]
    between = as_text(separator)
    _refuse_long(sum(map(len, pieces)) + len(between) * len(pieces))
    return between.join(pieces)


def _replace(value: Any, old: Any, new: Any) -> str:
    text, before, after = as_text(value), as_text(old), as_text(new)
    if not before:
        raise TemplateError("replace needs a text to look for")
    _refuse_long(len(text) + text.count(before) * max(0, len(after) - len(before)))
    return text.replace(before, after)


def _refuse_long(length: int) -> None:
    if length > TEXT_LIMIT:
        raise TemplateError(f"the text would be longer than {TEXT_LIMIT} characters")


def _split(value: Any, separator: Any = ",") -> list[str]:
    between = as_text(separator)
    return [piece.strip() for piece in as_text(value).split(between)] if between else list(as_text(value))


def _fields(kind: Literal["keys", "values"]) -> Callable[[Any], list[Any]]:
    def pick(value: Any) -> list[Any]:
        if not isinstance(value, Mapping):
            raise TemplateError(f"{kind} needs an object, not {_kind(value)}")
        return list(value.keys() if kind == "keys" else value.values())

    return pick


def _unique(value: Any) -> list[Any]:
    return list({_json(item): item for item in _sequence(value)}.values())


def _parse_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


FILTERS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "default": (_default, 1, 1),
    "first": (_end(0), 0, 0),
    "join": (_join, 0, 1),
    "json": (_json, 0, 0),
    "keys": (_fields("keys"), 0, 0),
    "last": (_end(-1), 0, 0),
    "length": (_length, 0, 0),
    "lower": (lambda value: as_text(value).lower(), 0, 0),
    "number": (_number, 0, 0),
    "parse": (_parse_json, 0, 0),
    "replace": (_replace, 2, 2),
    "round": (_round, 0, 1),
    "split": (_split, 0, 1),
    "text": (as_text, 0, 0),
    "trim": (lambda value: as_text(value).strip(), 0, 0),
    "unique": (_unique, 0, 0),
    "upper": (lambda value: as_text(value).upper(), 0, 0),
    "urlencode": (lambda value: urllib.parse.quote(as_text(value), safe=""), 0, 0),
    "values": (_fields("values"), 0, 0),
}
"""Filter name -> function, least and most arguments."""


# ---------------------------------------------------------------------- short form and dependencies


class ShortNames:
    """Resolves ``{{ Html Content }}`` in one definition: which upstream node is meant.

    Nearest is counted in steps along edges and explicit ``nodes.<id>`` references. One walk of
    O(nodes + edges) per output name, remembered.
    """

    def __init__(self, definition: Definition) -> None:
        self._nodes = {node.id: node for node in definition.nodes}
        self._next: dict[str, set[str]] = defaultdict(set)
        for edge in definition.edges:
            if not leads_back(self._nodes[edge.target].type, edge.target_handle):
                self._next[edge.source].add(edge.target)
        for node in definition.nodes:
            for reference in _readable_references(node):
                if reference.kind == "node" and reference.node_id in self._nodes:
                    self._next[reference.node_id].add(node.id)
        self._of_type: dict[str, list[Node]] = defaultdict(list)
        for node in definition.nodes:
            self._of_type[node.type].append(node)
        self._walks: dict[str, dict[str, tuple[int, tuple[str, ...]]]] = {}

    def nearest(self, node_id: str, output_name: str) -> str:
        """Return the id of the nearest upstream node of ``node_id`` with that output.

        Raises:
            TemplateError: no upstream node has it, or two are equally near.
        """
        if output_name not in self._walks:
            self._walks[output_name] = self._walk(output_name)
        _, producers = self._walks[output_name].get(node_id, (0, ()))
        if not producers:
            raise TemplateError(
                f'no node before "{node_id}" has the output "{output_name}"; connect one, '
                f'or name it: nodes.<node id>["{output_name}"]'
            )
        if len(producers) > 1:
            first, second = producers[:2]
            raise TemplateError(
                f'"{output_name}" may mean the output of "{first}" or of "{second}"; '
                f"write nodes{_step(first)}{_step(output_name)}"
            )
        return producers[0]

    def _walk(self, name: str) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Return, per node, the distance to its nearest producers and up to two of them."""
        producers = {node.id for nodes in self._of_type.values() if gives(nodes[0], name) for node in nodes}
        reached: dict[str, tuple[int, tuple[str, ...]]] = {}
        level: list[tuple[str, tuple[str, ...]]] = [
            (node_id, (node_id,)) for node_id in self._nodes if node_id in producers
        ]
        distance = 0
        while level:
            distance += 1
            fresh: dict[str, tuple[str, ...]] = {}
            for node_id, sources in level:
                for target in self._next.get(node_id, ()):
                    if target in reached:
                        continue
                    known = fresh.get(target, ())
                    if len(known) < 2:
                        fresh[target] = tuple(dict.fromkeys((*known, *(s for s in sources if s != target))))[:2]
            for target, found in fresh.items():
                if found:
                    reached[target] = (distance, found)
            level = [(target, found) for target, found in fresh.items() if found and target not in producers]
        return reached


def gives(node: Node, output_name: str) -> bool:
    """Return whether the type of ``node`` has that output."""
    executor = NODE_REGISTRY.get(node.type)
    return executor is not None and executor.description.output(output_name) is not None


def dependencies(definition: Definition) -> dict[str, set[str]]:
    """Return, for every node id, the ids that it waits for: sources of its edges and of its templates.

    A reference that cannot be read or resolved adds nothing here; ``validation`` reports it and the node
    fails on it. O(nodes + edges) for each output name that is used in the short form.
    """
    sources: dict[str, set[str]] = {node.id: set() for node in definition.nodes}
    types = {node.id: node.type for node in definition.nodes}
    for edge in definition.edges:
        if not leads_back(types[edge.target], edge.target_handle):
            sources[edge.target].add(edge.source)
    short: ShortNames | None = None
    for node in definition.nodes:
        for reference in _readable_references(node):
            if reference.kind == "node":
                if reference.node_id in sources:
                    sources[node.id].add(reference.node_id)
            elif reference.kind == "output":
                short = short or ShortNames(definition)
                try:
                    sources[node.id].add(short.nearest(node.id, reference.output or ""))
                except TemplateError:
                    continue
    return sources


def _readable_references(node: Node) -> list[Reference]:
    found: list[Reference] = []
    for _, text in texts(node.inputs):
        try:
            parts = parse(text).parts
        except TemplateError:
            continue
        found.extend(p.reference for p in parts if isinstance(p, Expression) and p.reference is not None)
    return found
