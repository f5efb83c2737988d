"""Nodes that steer a workflow: branch, switch, join, stop and delay."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from executions.errors import NodeFailed, NodeInputError, NodeWaits
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from executions.nodes.inputs import Inputs, as_number, as_text, dump_json, parse_json
from workflows.registry import EXECUTE, NodeDescription, Port, Settled, register

HELD_SECONDS = 60
"""A delay up to this long sleeps in its worker; a longer one is set aside and holds none."""
LONGEST_DELAY_SECONDS = 30 * 86_400
CASES = tuple(range(1, 9))

OPERATORS = (
    "equals",
    "not equals",
    "less than",
    "greater than",
    "less than or equal",
    "greater than or equal",
    "contains",
    "does not contain",
    "starts with",
    "ends with",
    "in",
    "matches",
    "is empty",
    "is not empty",
)
OPERATOR_ALIASES = {
    "==": "equals",
    "=": "equals",
    "!=": "not equals",
    "<": "less than",
    ">": "greater than",
    "<=": "less than or equal",
    ">=": "greater than or equal",
    "includes": "contains",
    "not includes": "does not contain",
    "not contains": "does not contain",
}
UNARY = frozenset({"is empty", "is not empty"})


def operator_name(text: str) -> str | None:
    """Return the canonical name of an operator (any case, symbols and ``_`` accepted), or None."""
    wanted = " ".join(text.lower().replace("_", " ").split())
    wanted = OPERATOR_ALIASES.get(wanted, wanted)
    return wanted if wanted in OPERATORS else None


def compare(left: Any, operator: str, right: Any) -> tuple[bool, str]:
    """Return whether ``left operator right`` holds, and how the two were compared ("numbers", "text" …).

    Two values that both are or spell numbers compare as numbers, everything else as text.

    Raises:
        ValueError: the pattern of ``matches`` is not valid.
    """
    match operator:
        case "is empty":
            return _is_empty(left), "emptiness"
        case "is not empty":
            return not _is_empty(left), "emptiness"
        case "equals":
            return _equal(left, right)
        case "not equals":
            same, how = _equal(left, right)
            return not same, how
        case "less than" | "greater than" | "less than or equal" | "greater than or equal":
            return _ordered(left, operator, right)
        case "contains":
            return _contains(left, right)
        case "does not contain":
            found, how = _contains(left, right)
            return not found, how
        case "in":
            found, how = _contains(_as_list(right), left)
            return found, how
        case "starts with":
            return as_text(left).startswith(as_text(right)), "text"
        case "ends with":
            return as_text(left).endswith(as_text(right)), "text"
        case "matches":
            return _matches(as_text(left), as_text(right)), "pattern"
    raise ValueError(f"there is no operator {operator!r}")


def _numbers(left: Any, right: Any) -> tuple[float, float] | None:
    first, second = as_number(left), as_number(right)
    return None if first is None or second is None else (first, second)


def _equal(left: Any, right: Any) -> tuple[bool, str]:
    if isinstance(left, dict | list) and isinstance(right, dict | list):
        return left == right, "structure"
    if numbers := _numbers(left, right):
        return numbers[0] == numbers[1], "numbers"
    return as_text(left) == as_text(right), "text"


def _ordered(left: Any, operator: str, right: Any) -> tuple[bool, str]:
    numbers = _numbers(left, right)
    first, second = numbers if numbers else (as_text(left), as_text(right))
    holds = {
        "less than": first < second,  # type: ignore[operator]
        "greater than": first > second,  # type: ignore[operator]
        "less than or equal": first <= second,  # type: ignore[operator]
        "greater than or equal": first >= second,  # type: ignore[operator]
    }
    return holds[operator], "numbers" if numbers else "text"


def _contains(container: Any, item: Any) -> tuple[bool, str]:
    if isinstance(container, dict):
        return as_text(item) in container, "keys"
    if isinstance(container, list):
        return any(_equal(entry, item)[0] for entry in container), "list"
    return as_text(item) in as_text(container), "text"


def _as_list(value: Any) -> Any:
    """Return the list that a text spells, as JSON or separated by commas; other values as they are."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return parse_json(value)
        except ValueError:
            pass
    return [part.strip() for part in value.split(",")]


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, dict | list) and not value)


def _matches(text: str, pattern: str) -> bool:
    """Search with RE2, whose time is linear in the text whatever the pattern."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options).search(text) is not None
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise ValueError(f"{pattern!r} is not a pattern (RE2): {reason}") from None


@register
class Branch(NodeExecutor):
    """Compare two values and take one of two paths."""

    description = NodeDescription(
        type="branch",
        label="Branch",
        group="Flow Control",
        credits=1,
        start=True,
        summary="Compares two values and takes the true or the false path.",
        subtitle="Operator",
        inputs=(
            Port("Left Value", "ANY", required=True),
            Port(
                "Operator",
                "SELECT",
                required=True,
                default="equals",
                options=OPERATORS,
                option_aliases=tuple(OPERATOR_ALIASES),
                handle=False,
                aliases=("Comparison",),
            ),
            Port("Right Value", "ANY", help="Not needed for “is empty” and “is not empty”."),
        ),
        outputs=(
            Port("True Path", "CONDITIONAL"),
            Port("False Path", "CONDITIONAL"),
            Port("Result", "BOOLEAN"),
            Port("Data", "ANY", help="The left value.", aliases=("Left Value",)),
        ),
    )

    def validate(self, node: NodeCall, env: Environment) -> None:
        """Check the operator, and that the values it needs are there; an empty left value is a value."""
        inputs = self.inputs(node)
        operator = _operator(inputs)
        if operator in UNARY:
            return
        for name in ("Left Value", "Right Value"):
            if inputs.value(name) is None and name not in node.inputs:
                raise NodeInputError(
                    f'node "{node.name}" needs the input "{name}" for the operator "{operator}"; '
                    "type a value or connect a wire"
                )

    @staticmethod
    def settled(known: Mapping[str, Any]) -> Settled:
        """Tell which path is taken when both values are typed in."""
        operator = operator_name(str(known.get("Operator") or ""))
        left, right = known.get("Left Value"), known.get("Right Value")
        if operator is None or left is None or (right is None and operator not in UNARY):
            return Settled()
        try:
            result, _ = compare(left, operator, right)
        except ValueError:
            return Settled()
        values = shown(left) if operator in UNARY else f"{shown(left)}, {shown(right)}"
        reason = f"{operator} ({values}) is {str(result).lower()}"
        return Settled(reason, {"False Path" if result else "True Path": reason}, field="Left Value")

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Compare and open one path."""
        inputs = self.inputs(node)
        operator = _operator(inputs)
        left, right = inputs.value("Left Value"), inputs.value("Right Value")
        try:
            result, how = compare(left, operator, right)
        except ValueError as error:
            raise NodeInputError(f'node "{node.name}": {error}') from error
        env.log(f"Compared by {how}: {operator} is {str(result).lower()}", operator=operator, result=result)
        return {
            "True Path": EXECUTE if result else None,
            "False Path": None if result else EXECUTE,
            "Result": result,
            "Data": left,
            "Left Value": left,
        }


def _operator(inputs: Inputs) -> str:
    given = inputs.text("Operator")
    operator = operator_name(given)
    if operator is None:
        inputs.refuse("Operator", f'must be one of {", ".join(OPERATORS)}; not "{given}"')
    return operator


@register
class Switch(NodeExecutor):
    """Compare one value with several and take the path of the first that is equal."""

    description = NodeDescription(
        type="switch",
        label="Switch",
        group="Flow Control",
        credits=1,
        start=True,
        summary="Takes the path of the first case that equals the value, else the default path.",
        subtitle="Value",
        inputs=(
            Port("Value", "ANY", required=True),
            *(Port(f"Case {number}", "ANY", help="Empty cases are never taken.") for number in CASES),
        ),
        outputs=(
            *(Port(f"Case {number}", "CONDITIONAL") for number in CASES),
            Port("Default", "CONDITIONAL", help="Taken when no case equals the value."),
            Port("Matched", "STRING", help="The name of the path that was taken."),
            Port("Data", "ANY", help="The value."),
        ),
    )

    @staticmethod
    def settled(known: Mapping[str, Any]) -> Settled:
        """Tell which cases are empty, which equal an earlier one, and which is taken when all is typed in."""
        names = [f"Case {number}" for number in CASES]
        never = {name: "the case has no value" for name in names if name in known and known[name] in (None, "")}
        twice: dict[str, str] = {}
        given = [name for name in names if name in known and name not in never]
        for at, name in enumerate(given):
            equal = next((other for other in given[:at] if _is_case(known[other], known[name])), None)
            if equal is not None:
                twice[name] = equal
        always, value = "", known.get("Value")
        if value is not None and len(given) + len(never) == len(names):
            taken = next((name for name in given if _is_case(known[name], value)), "Default")
            always = f"the value is {shown(value)}, which takes {taken}"
            never = {name: always for name in (*names, "Default") if name != taken}
        return Settled(always, never | {name: f'it equals "{other}"' for name, other in twice.items()}, twice, "Value")

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Open one path."""
        inputs = self.inputs(node)
        value = inputs.value("Value")
        names = [f"Case {number}" for number in CASES]
        taken = next((name for name in names if _is_case(inputs.value(name), value)), "Default")
        env.log(f"Takes {taken}", value=value)
        paths = {name: EXECUTE if name == taken else None for name in (*names, "Default")}
        return {**paths, "Matched": taken, "Data": value}


def shown(value: Any) -> str:
    """Return a value as JSON, cut to a few words."""
    text = dump_json(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _is_case(case: Any, value: Any) -> bool:
    return case is not None and case != "" and compare(value, "equals", case)[0]


@register
class Join(NodeExecutor):
    """Bring paths together."""

    description = NodeDescription(
        type="join",
        label="Join",
        group="Flow Control",
        credits=0,
        join_input="Mode",
        start=True,
        summary="Goes on after several paths, with what arrived.",
        subtitle="Mode",
        inputs=(
            Port(
                "Mode",
                "SELECT",
                default="live",
                options=("live", "all", "any"),
                handle=False,
                help=(
                    "live: after the paths that were taken, with all that arrived. all: only when every path was taken. "
                    "any: with the first that arrived, in the order of the inputs."
                ),
            ),
            *(Port(f"Data {number}", "ANY") for number in CASES),
        ),
        outputs=(
            Port("Data", "ANY", help="A list of what arrived; for “any” the first of it alone."),
            Port("Count", "NUMBER", help="How many values arrived."),
        ),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Pass on what arrived."""
        arrived = [node.inputs[name] for number in CASES if (name := f"Data {number}") in node.inputs]
        if self.inputs(node).choice("Mode") == "any":
            return {"Data": arrived[0] if arrived else None, "Count": min(1, len(arrived))}
        return {"Data": arrived, "Count": len(arrived)}


@register
class StopAndError(NodeExecutor):
    """End the execution as failed."""

    description = NodeDescription(
        type="stop_and_error",
        label="Stop and Error",
        group="Flow Control",
        credits=0,
        start=True,
        summary="Ends the execution as failed, with a message of your own.",
        subtitle="Message",
        inputs=(
            Port("Message", "STRING", required=True, variant="textarea"),
            Port("Code", "STRING", default="stopped", help="A short name of the reason, for alerts and filters."),
        ),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Fail with the message."""
        inputs = self.inputs(node)
        raise NodeFailed(inputs.text("Message"), code=inputs.text("Code") or "stopped", retryable=False)


@register
class Delay(NodeExecutor):
    """Wait a while."""

    description = NodeDescription(
        type="delay",
        label="Delay",
        group="Timing Controls",
        credits=1,
        start=True,
        weight="io",
        timeout_s=HELD_SECONDS + 30,
        waits=True,
        summary="Waits a number of seconds before the next nodes run.",
        subtitle="Duration",
        inputs=(
            Port(
                "Duration",
                "NUMBER",
                required=True,
                min=0,
                max=LONGEST_DELAY_SECONDS,
                help=f"Seconds; above {HELD_SECONDS} no worker is held meanwhile.",
                aliases=("Delay (seconds)",),
            ),
            Port(
                "Random Max",
                "NUMBER",
                min=0,
                max=LONGEST_DELAY_SECONDS,
                help="Wait a random time between Duration and this many seconds.",
            ),
            Port("Web Page", "BROWSER_INSTANCE"),
        ),
        outputs=(
            Port("Web Page", "BROWSER_INSTANCE"),
            Port("Completed", "BOOLEAN", aliases=("waited",)),
        ),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Sleep; when it is long, be set aside instead and end when woken."""
        waited = {"Web Page": node.inputs.get("Web Page"), "Completed": True, "waited": True}
        if node.resume is not None:
            return waited
        inputs = self.inputs(node)
        seconds = inputs.number("Duration") or 0.0
        longest = inputs.number("Random Max")
        if longest is not None and longest > seconds:
            seconds = random.uniform(seconds, longest)  # noqa: S311 - a pause, not a secret
        env.log(f"Waiting {seconds:g} s")
        if seconds > HELD_SECONDS:
            raise NodeWaits("timer", wake_s=seconds)
        await asyncio.sleep(seconds)
        return waited
