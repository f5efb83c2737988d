"""Read the inputs of a node as the kind of value that it works with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from executions.errors import NodeInputError
from workflows.registry import NodeDescription, Port, slug

TRUE_TEXTS = frozenset({"true", "yes", "on", "1"})
FALSE_TEXTS = frozenset({"false", "no", "off", "0", ""})


def parse_json(text: str) -> Any:
    """Return the value of a JSON text. Stricter than ``json.loads``: NaN and Infinity are refused.

    Raises:
        ValueError: saying what is wrong and at which line and column.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a JSON value")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def dump_json(value: Any) -> str:
    """Return ``value`` as JSON text, letters of all languages kept as they are."""
    return json.dumps(value, ensure_ascii=False)


def as_text(value: Any) -> str:
    """Return ``value`` as people would type it: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else dump_json(value)


def as_number(value: Any) -> int | float | None:
    """Return the number that ``value`` is or spells, or None. True and false are not numbers."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    if not isinstance(value, str) or len(value) > 400:
        return None
    text = value.strip()
    if not text or not text.isascii() or "_" in text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class Inputs:
    """The inputs of one node: aliases accepted, defaults filled in, values converted.

    Every method takes the display name of a port and raises NodeInputError, naming node and input,
    when the value is not of the wanted kind.
    """

    def __init__(self, node_name: str, description: NodeDescription, values: Mapping[str, Any]) -> None:
        self.node_name = node_name
        self.description = description
        self.values = values

    def value(self, name: str) -> Any:
        """Return the value as it came in, the port's default if there is none, or None."""
        port = self.description.input(name)
        if port is None:
            return self.values.get(name)
        for spelling in (port.name, *port.aliases, slug(port.name)):
            if self.values.get(spelling) is not None:
                return self.values[spelling]
        return port.default

    def missing(self) -> list[Port]:
        """Return the required inputs that have neither a value nor a default."""
        return [
            port
            for port in self.description.inputs
            if port.required and port.type != "BROWSER_INSTANCE" and self.value(port.name) is None
        ]

    def text(self, name: str) -> str:
        """Return the value as text, "" when there is none."""
        value = self.value(name)
        return "" if value is None else as_text(value)

    def number(self, name: str) -> float | None:
        """Return the value as a number between the port's ``min`` and ``max``, or None when there is none."""
        value = self.value(name)
        if value is None or value == "":
            return None
        number = as_number(value)
        if number is None:
            self.refuse(name, f"must be a number, not {_short(value)}")
        port = self.description.input(name)
        if port is not None and port.min is not None and number < port.min:
            self.refuse(name, f"is {number:g}; the least is {port.min:g}")
        if port is not None and port.max is not None and number > port.max:
            self.refuse(name, f"is {number:g}; the most is {port.max:g}")
        return float(number)

    def boolean(self, name: str) -> bool:
        """Return the value as true or false; texts such as "yes" and "off" are understood."""
        value = self.value(name)
        if value is None:
            return False
        if isinstance(value, str):
            text = value.strip().lower()
            if text not in TRUE_TEXTS | FALSE_TEXTS:
                self.refuse(name, f"must be true or false, not {_short(value)}")
            return text in TRUE_TEXTS
        return bool(value)

    def choice(self, name: str) -> str:
        """Return the option of a SELECT that the value names, whatever its case."""
        value = self.text(name).strip()
        port = self.description.input(name)
        options = port.options if port else ()
        option = next((option for option in options if option.lower() == value.lower()), None)
        if option is None:
            self.refuse(name, f"must be one of {', '.join(options)}; not {_short(value)}")
        return option

    def json(self, name: str) -> Any:
        """Return the value; a text is parsed as JSON. None when there is none."""
        value = self.value(name)
        if not isinstance(value, str):
            return value
        if not value.strip():
            return None
        try:
            return parse_json(value)
        except ValueError as error:
            self.refuse(name, f"is not valid JSON: {error}")

    def json_object(self, name: str) -> dict[str, Any]:
        """Return the value as a JSON object, {} when there is none."""
        value = self.json(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.refuse(name, f"must be a JSON object, not {_short(value)}")
        return value

    def refuse(self, name: str, reason: str) -> NoReturn:
        """Raise NodeInputError: ``name`` of this node ``reason``."""
        raise NodeInputError(f'input "{name}" of node "{self.node_name}" {reason}')


def _short(value: Any) -> str:
    text = as_text(value)
    return f'"{text[:60]}…"' if len(text) > 60 else f'"{text}"'
