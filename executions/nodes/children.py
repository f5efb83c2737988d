"""Nodes that run other executions: loops over items, loops with a condition, and other workflows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from executions.errors import Child, NodeFailed, NodeInputError, NodeWaits
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from workflows import conditions
from workflows.errors import TemplateError
from workflows.registry import NodeDescription, Port, Settled, register

MOST_TURNS = 10_000
MOST_AT_ONCE = 50

_EACH = Port("Each", "CONDITIONAL", help="Inside the loop: taken in every turn.")
_RESULT = Port(
    "Result", "ANY", returns=True, help="The end of the body: wire here what a turn gives. Without it, what its last nodes give."
)  # fmt: skip


def _failure(node: NodeCall, turn: Mapping[str, Any], what: str) -> NodeFailed:
    return NodeFailed(f'"{node.name}": {what} failed: {turn["error"]}', code=str(turn["code"]), retryable=False)


@register
class LoopItems(NodeExecutor):
    """Run the body once per item, or once per batch of items."""

    description = NodeDescription(
        type="loop_items",
        label="Loop Over Items",
        group="Flow Control",
        credits=1,
        start=True,
        waits=True,
        inside=("Each", "Item", "Index", "Is Last"),
        summary="Runs the nodes of its body once per item and collects what they give.",
        subtitle="Items",
        inputs=(
            Port("Items", "LIST", required=True, variant="json"),
            Port("Batch Size", "NUMBER", default=1, min=1, max=MOST_TURNS, help="Above 1, Item is a list of that many."),
            Port(
                "Max Concurrency", "NUMBER", default=1, min=1, max=MOST_AT_ONCE, help="How many turns run at the same time."
            ),
            Port("On Item Error", "SELECT", default="stop", options=("stop", "continue"), handle=False),
            Port("Max Items", "NUMBER", default=1000, min=1, max=MOST_TURNS, help="More items than this fail the node."),
            _RESULT,
        ),
        outputs=(
            _EACH,
            Port("Item", "ANY", help="Inside the loop: the item of this turn."),
            Port("Index", "NUMBER", help="Inside the loop: the number of this turn, from 0."),
            Port("Is Last", "BOOLEAN", help="Inside the loop: whether this is the last turn."),
            Port("Results", "LIST", help="What each turn gave, in order; null for one that failed."),
            Port("Errors", "LIST", help="The turns that failed: index, error, code."),
            Port("Count", "NUMBER", help="How many turns ran."),
        ),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Start turns, as many at once as allowed, until all have ended."""
        inputs = self.inputs(node)
        turns = self._turns(node)
        resume = node.resume or {"ended": 0, "failed": [], "active": []}
        failed = resume["failed"]
        if failed and inputs.choice("On Item Error") == "stop":
            raise _failure(node, failed[0], f"turn {failed[0]['index'] + 1} of {len(turns)}")
        if resume["ended"] == len(turns):
            results = {result["index"]: result["value"] for result in resume.get("results", ())}
            bad = {turn["index"] for turn in failed}
            return {
                "Results": [None if index in bad else results.get(index) for index in range(len(turns))],
                "Errors": failed,
                "Count": len(turns),
            }
        started = 0 if node.state is None else int(node.state["started"])
        room = int(inputs.number("Max Concurrency") or 1) - len(resume["active"])
        until = min(len(turns), started + max(0, room))
        children = [Child(index, item=turns[index], last=index == len(turns) - 1) for index in range(started, until)]
        state = {"started": until, "turns": len(turns)}
        raise NodeWaits("children", state=state, children=children, collect="all" if until == len(turns) else "none")

    def _turns(self, node: NodeCall) -> list[Any]:
        inputs = self.inputs(node)
        items = inputs.json("Items")
        if not isinstance(items, list):
            inputs.refuse("Items", "must be a list")
        most = int(inputs.number("Max Items") or MOST_TURNS)
        if len(items) > most:
            inputs.refuse("Items", f'has {len(items):,} items; "Max Items" is {most:,}')
        size = int(inputs.number("Batch Size") or 1)
        return items if size == 1 else [items[start : start + size] for start in range(0, len(items), size)]


@register
class LoopWhile(NodeExecutor):
    """Run the body as long as a condition holds."""

    description = NodeDescription(
        type="loop_while",
        label="Loop While",
        group="Flow Control",
        credits=1,
        start=True,
        waits=True,
        inside=("Each", "Index", "Last"),
        summary="Runs the nodes of its body again and again, as long as a condition holds.",
        subtitle="Condition",
        inputs=(
            Port(
                "Condition", "STRING", required=True, language="cel", placeholder="index == 0 || last.more == true",
                help="CEL over last (what the turn before gave, null at first), index and data. Asked before every turn.",
            ),
            Port("Data", "JSON", variant="json", help="Further values for the condition, as data."),
            Port("Max Iterations", "NUMBER", default=100, min=1, max=MOST_TURNS, help="More turns than this fail the node."),
            _RESULT,
        ),
        outputs=(
            _EACH,
            Port("Index", "NUMBER", help="Inside the loop: the number of this turn, from 0."),
            Port("Last", "ANY", help="Inside the loop: what the turn before gave, null at first."),
            Port("Final", "ANY", help="What the last turn gave."),
            Port("Count", "NUMBER", help="How many turns ran."),
        ),
    )  # fmt: skip

    @staticmethod
    def settled(known: Mapping[str, Any]) -> Settled:
        """Tell whether the condition is the same for every turn."""
        text = known.get("Condition")
        result = conditions.constant(text) if isinstance(text, str) and text else None
        if result is None:
            return Settled()
        if result:
            return Settled("its condition is always true, so it fails after Max Iterations", field="Condition")
        reason = "its condition is never true"
        return Settled(reason, dict.fromkeys(("Each", "Index", "Last"), reason), field="Condition")

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Ask the condition; start one more turn or end."""
        inputs = self.inputs(node)
        resume = node.resume or {"ended": 0, "failed": [], "active": []}
        index = resume["ended"]
        if resume["failed"]:
            raise _failure(node, resume["failed"][0], f"turn {index}")
        results = resume.get("results") or [{"value": None}]
        last = results[-1]["value"]
        if resume["active"]:
            raise NodeWaits("children", collect="last")
        try:
            goes_on = conditions.holds(
                inputs.text("Condition"), {"last": last, "index": index, "data": inputs.json("Data")}
            )
        except TemplateError as error:
            raise NodeInputError(f'input "Condition" of node "{node.name}": {error}') from error
        if not goes_on:
            return {"Final": last, "Count": index}
        most = int(inputs.number("Max Iterations") or 1)
        if index >= most:
            raise NodeFailed(
                f'"{node.name}" still goes on after {most} turns, its "Max Iterations"', code="endless", retryable=False
            )
        raise NodeWaits("children", children=[Child(index, item=last)], collect="last")


@register
class Subflow(NodeExecutor):
    """Run another workflow."""

    description = NodeDescription(
        type="subflow",
        label="Run Workflow",
        group="Flow Control",
        credits=1,
        start=True,
        waits=True,
        effect="write",
        summary="Runs another of your active workflows and hands on what it gives.",
        subtitle="Workflow",
        inputs=(
            Port("Workflow", "STRING", required=True, help="Name or id of an active workflow."),
            Port("Inputs", "JSON", variant="json", help="What the workflow reads as input."),
            Port("Wait", "BOOLEAN", default=True, help="Off: start it and go on at once."),
        ),
        outputs=(
            Port("Output", "ANY", help="What the nodes give that nothing follows; by node id if there are several."),
            Port("Status", "STRING"),
            Port("Execution Id", "STRING"),
        ),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Start the workflow; go on when it has ended, or at once."""
        inputs = self.inputs(node)
        name, waits = inputs.text("Workflow"), inputs.boolean("Wait")
        if node.resume is None:
            child = Child(0, workflow=name, input=inputs.json("Inputs") or {}, detached=not waits)
            raise NodeWaits("children", children=[child], collect="all" if waits else "none")
        child_id = str(Child.id(UUID(env.execution_id), node.index, 0))
        if not waits:
            return {"Output": None, "Status": "queued", "Execution Id": child_id}
        if node.resume["failed"]:
            raise _failure(node, node.resume["failed"][0], f'workflow "{name}" (execution {child_id})')
        if node.resume["active"]:
            raise NodeWaits("children", collect="all")
        result = node.resume["results"][0]
        return {"Output": result["value"], "Status": result["status"], "Execution Id": child_id}
