"""Data nodes: reshape, merge, read and write JSON."""

from __future__ import annotations

import asyncio
import copy
import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from executions.errors import NodeInputError
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from executions.nodes.inputs import FALSE_TEXTS, as_number, as_text, dump_json, parse_json
from workflows.registry import NodeDescription, Port, register

MISSING: Any = object()
LONGEST_PATH = 500
LARGE_TEXT = 64 * 1024


@register
class JsonTransform(NodeExecutor):
    """Build a new object from an old one, one JSONPath rule per key."""

    description = NodeDescription(
        type="json_transform",
        label="JSON Transform",
        group="Data Storage",
        credits=2,
        start=True,
        summary="Builds a new JSON object from another one with JSONPath rules.",
        inputs=(
            Port(
                "Input JSON",
                "JSON",
                required=True,
                variant="textarea",
                placeholder='{"names": {{ nodes.names.Texts | json }}}',
                help="JSON text or a value from another node.",
            ),
            Port(
                "Transform Rules",
                "JSON",
                required=True,
                variant="json",
                placeholder='{"first": "$.names[0]"}',
                help=(
                    'One rule per key: a text that starts with $ is a JSONPath (first match); {"path", "type", "default", '
                    '"all"} converts; {"value"} is a literal; {"zip": {…}} pairs lists into a list of objects.'
                ),
            ),
        ),
        outputs=(
            Port("Transformed JSON", "STRING", help="JSON text."),
            Port("Result", "JSON", help="The same as a value."),
        ),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Apply every rule to the input."""
        inputs = self.inputs(node)
        source = inputs.json("Input JSON")
        rules = inputs.json_object("Transform Rules")

        def apply() -> dict[str, Any]:
            return {key: _apply_rule(key, rule, source) for key, rule in rules.items()}

        large = isinstance(node.inputs.get("Input JSON"), str) and len(node.inputs["Input JSON"]) > LARGE_TEXT
        result = await asyncio.to_thread(apply) if large else apply()
        env.log(f"Built {len(result)} key{'' if len(result) == 1 else 's'}", keys=list(result)[:50])
        return {"Transformed JSON": dump_json(result), "Result": result}


def _apply_rule(key: str, rule: Any, source: Any) -> Any:
    if isinstance(rule, str) and rule.startswith("$"):
        found = _matches(key, rule, source)
        return found[0] if found else None
    if not isinstance(rule, Mapping):
        return rule
    if "zip" in rule:
        return _zip_columns(key, rule["zip"], source)
    if "path" in rule:
        return _path_rule(key, rule, source)
    return rule["value"] if "value" in rule else dict(rule)


def _path_rule(key: str, rule: Mapping[str, Any], source: Any) -> Any:
    kind = rule.get("type")
    found = _matches(key, str(rule["path"]), source)
    if rule.get("all"):
        return [_convert(key, item, kind) for item in found]
    if not found:
        return rule.get("default")
    return _convert(key, found[0], kind)


def _zip_columns(key: str, columns: Any, source: Any) -> list[dict[str, Any]]:
    """Turn ``{"name": "$.names[*]", "price": "$.prices[*]"}`` into one object per position."""
    if not isinstance(columns, Mapping) or not columns:
        raise NodeInputError(f'rule "{key}": "zip" must be an object of column name and path')
    lists: dict[str, list[Any]] = {}
    for name, rule in columns.items():
        given = rule if isinstance(rule, Mapping) else {"path": rule}
        if "path" not in given:
            raise NodeInputError(f'rule "{key}": column "{name}" of "zip" has no path')
        lists[name] = _path_rule(f"{key}.{name}", {**given, "all": True}, source)
    return [dict(zip(lists, row, strict=True)) for row in itertools.zip_longest(*lists.values())]


def _matches(key: str, path: str, source: Any) -> list[Any]:
    try:
        return [match.value for match in _compiled(path).find(source)]
    except NodeInputError as error:
        raise NodeInputError(f'rule "{key}": {error}') from None
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise NodeInputError(f'rule "{key}": the path {path} cannot be applied to this input: {error}') from error


@functools.lru_cache(maxsize=512)
def _compiled(path: str) -> Any:
    """Return the parsed path. Its regex functions are refused: they would run without a time limit."""
    from jsonpath_ng.exceptions import JSONPathError
    from jsonpath_ng.ext.parser import parse

    if len(path) > LONGEST_PATH or path.count("..") > 2:
        raise NodeInputError(f"the path {path[:40]}… is too long or has more than two “..”")
    if re.search(r"=~|`\s*(sub|split)\s*\(", path):
        raise NodeInputError(f"the path {path} uses a regular expression; use the Branch node's “matches” instead")
    try:
        return parse(path)
    except (JSONPathError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise NodeInputError(f"{path} is not a JSONPath: {error}") from error


def _convert(key: str, value: Any, kind: Any) -> Any:
    match kind:
        case None | "":
            return value
        case "string":
            return "" if value is None else as_text(value)
        case "number":
            number = as_number(value)
            if number is None:
                raise NodeInputError(f'rule "{key}": {as_text(value)[:60]!r} is not a number')
            return number
        case "boolean":
            return value.strip().lower() not in FALSE_TEXTS if isinstance(value, str) else bool(value)
        case "array":
            return value if isinstance(value, list) else [] if value is None else [value]
    raise NodeInputError(f'rule "{key}": type must be string, number, boolean or array; not {kind!r}')


@register
class MergeData(NodeExecutor):
    """Merge several JSON values into one."""

    description = NodeDescription(
        type="merge_data",
        label="Merge Data",
        group="Data Storage",
        credits=1,
        start=True,
        summary="Merges two or more JSON values into one.",
        subtitle="Merge Strategy",
        inputs=(
            Port("Data 1", "JSON", required=True, variant="textarea"),
            Port("Data 2", "JSON", required=True, variant="textarea"),
            Port("Data 3", "JSON", variant="textarea"),
            Port("Data 4", "JSON", variant="textarea"),
            Port(
                "Merge Strategy",
                "SELECT",
                default="overwrite",
                options=("overwrite", "append", "deep", "keep_first", "zip"),
                handle=False,
                help=(
                    "overwrite: later values win. append: lists under the same key are joined. deep: objects are merged "
                    "level by level. keep_first: earlier values win. zip: lists are joined position by position."
                ),
            ),
        ),
        outputs=(Port("Merged Data", "STRING", help="JSON text."), Port("Result", "JSON", help="The same as a value.")),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Merge the values in the order of their numbers."""
        inputs = self.inputs(node)
        numbers = sorted(
            {1, 2, 3, 4} | {int(found[1]) for name in node.inputs if (found := re.fullmatch(r"Data (\d{1,3})", name))}
        )
        given = [(number, inputs.value(f"Data {number}")) for number in numbers]
        values = [(number, _parsed(value)) for number, value in given if value is not None]
        strategy = inputs.choice("Merge Strategy")
        if strategy == "zip" and values and all(isinstance(value, list) for _, value in values):
            merged: Any = _zip_lists([value for _, value in values])
        else:
            merged = {}
            for number, value in values:
                _merge_into(merged, value if isinstance(value, dict) else {f"input_{number}": value}, strategy)
        env.log(f"Merged {len(values)} values by {strategy}")
        return {"Merged Data": dump_json(merged), "Result": merged}


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return copy.deepcopy(value)
    try:
        return parse_json(value)
    except ValueError:
        return value


def _merge_into(target: dict[str, Any], source: Mapping[str, Any], strategy: str) -> None:
    for key, value in source.items():
        present = target.get(key, MISSING)
        if present is MISSING:
            target[key] = value
        elif strategy == "keep_first":
            continue
        elif strategy == "append" and isinstance(present, list) and isinstance(value, list):
            target[key] = present + value
        elif strategy == "deep" and isinstance(present, dict) and isinstance(value, dict):
            _merge_into(present, value, strategy)
        elif strategy == "zip" and isinstance(present, list) and isinstance(value, list):
            target[key] = _zip_lists([present, value])
        else:
            target[key] = value


def _zip_lists(lists: Iterable[list[Any]]) -> list[Any]:
    """Join lists position by position: objects are merged, other items become a list of their own."""
    rows: list[Any] = []
    for row in itertools.zip_longest(*lists, fillvalue=MISSING):
        present = [item for item in row if item is not MISSING]
        if all(isinstance(item, dict) for item in present):
            rows.append({key: value for item in present for key, value in item.items()})
        else:
            rows.append([None if item is MISSING else item for item in row])
    return rows


def split_path(path: str) -> list[str | int]:
    """Return the steps of ``a.b[0].c``. A step in brackets is a position, or a quoted name.

    Raises:
        ValueError: the path cannot be read.
    """
    steps: list[str | int] = []
    position = 0
    pattern = re.compile(r"""\.?([^.\[\]]+)|\[(-?\d{1,9})\]|\["([^"]*)"\]|\['([^']*)'\]""")
    while position < len(path):
        found = pattern.match(path, position)
        if found is None or (found[1] and position and path[position] != "."):
            raise ValueError(f'"{path}" cannot be read at character {position + 1}')
        name = found[1] or found[3] or found[4]
        steps.append(int(found[2]) if found[2] is not None else name or "")
        position = found.end()
    if not steps:
        raise ValueError("it is empty")
    return steps


@register
class ReadPropertyFromJson(NodeExecutor):
    """Read one value out of a JSON document."""

    description = NodeDescription(
        type="read_property_from_json",
        label="Read Property From JSON",
        group="Data Storage",
        credits=1,
        start=True,
        summary="Reads one property, by name or by a path such as items[0].price.",
        subtitle="Property Name",
        inputs=(
            Port("JSON", "JSON", required=True, variant="textarea"),
            Port("Property Name", required=True, placeholder="items[0].price"),
            Port("Default", "ANY", help="Used when the property is missing; without it the node fails."),
        ),
        outputs=(Port("Property Value", "ANY"),),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Walk the path; a key that contains dots is tried as a whole first."""
        inputs = self.inputs(node)
        document, path = inputs.json("JSON"), inputs.text("Property Name")
        value = document.get(path, MISSING) if isinstance(document, dict) else MISSING
        if value is MISSING:
            try:
                steps = split_path(path)
            except ValueError as error:
                inputs.refuse("Property Name", f"is not a path: {error}")
            value = document
            for step in steps:
                value = _step(value, step)
        if value is MISSING or value is None:
            default = inputs.value("Default")
            if default is None:
                raise NodeInputError(f'node "{node.name}": the JSON has no property "{path}"')
            value = default
        return {"Property Value": value}


def _step(value: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return value[step] if isinstance(value, list) and -len(value) <= step < len(value) else MISSING
    return value.get(step, MISSING) if isinstance(value, dict) else MISSING


@register
class WritePropertyToJson(NodeExecutor):
    """Set one value in a JSON object."""

    description = NodeDescription(
        type="write_property_to_json",
        label="Write Property to JSON",
        group="Data Storage",
        credits=1,
        start=True,
        summary="Sets one property; dots make nested objects.",
        subtitle="Property Name",
        inputs=(
            Port("JSON", "JSON", required=True, variant="textarea"),
            Port("Property Name", required=True, placeholder="customer.address.city"),
            Port("Property Value", "ANY", required=True),
            Port(
                "Parse Value",
                "BOOLEAN",
                default=False,
                handle=False,
                help="Read a text value as JSON when it is valid JSON.",
            ),
        ),
        outputs=(
            Port("Updated JSON", "STRING", help="JSON text."),
            Port("Result", "JSON", help="The same as a value."),
        ),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return a changed copy; objects on the way are created, other values on the way replaced."""
        inputs = self.inputs(node)
        document = copy.deepcopy(inputs.json("JSON"))
        if not isinstance(document, dict):
            inputs.refuse("JSON", "must be a JSON object")
        value = inputs.value("Property Value")
        if inputs.boolean("Parse Value"):
            value = _parsed(value)
        *parents, last = inputs.text("Property Name").split(".")
        if not last or not all(parents):
            inputs.refuse("Property Name", "has an empty step")
        target = document
        for name in parents:
            child = target.get(name)
            if not isinstance(child, dict):
                child = target[name] = {}
            target = child
        target[last] = value
        return {"Updated JSON": dump_json(document), "Result": document}
