"""A worker application with node types that only tests need."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from executions.errors import NodeFailed
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from flowbuilder.celery import app
from workflows.registry import NodeDescription, Port, register

__all__ = ["app"]


@register
class KillWorker(NodeExecutor):
    """Kill the process that runs it, every time."""

    description = NodeDescription(type="test_kill_worker", label="Kill", group="Flow Control", credits=0, start=True)

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Never return."""
        os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(60)
        return {}


@register
class Flaky(NodeExecutor):
    """Fail until a given attempt."""

    description = NodeDescription(
        type="test_flaky", label="Flaky", group="Flow Control", credits=1, start=True,
        inputs=(Port("Succeeds On", "NUMBER", required=True),), outputs=(Port("Attempt", "NUMBER"),),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return the number of the attempt that succeeded."""
        env.log(f"attempt {node.attempt}")
        if node.attempt < node.inputs["Succeeds On"]:
            raise NodeFailed(f"not yet, attempt {node.attempt}")
        return {"Attempt": node.attempt}


@register
class Nap(NodeExecutor):
    """Sleep so many seconds; light, so that 32 share a header."""

    description = NodeDescription(
        type="test_nap", label="Nap", group="Flow Control", credits=1, start=True,
        inputs=(Port("Seconds", "NUMBER", required=True),),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Sleep."""
        await asyncio.sleep(node.inputs["Seconds"])
        return {}


@register
class Heavy(NodeExecutor):
    """Block, so that it is alone in its header; give much, and say what arrived of what others gave."""

    description = NodeDescription(
        type="test_heavy", label="Heavy", group="Flow Control", credits=1, start=True, weight="blocking",
        inputs=(Port("Read", "STRING"), Port("Size", "NUMBER", default=0)),
        outputs=(Port("Text", "STRING"), Port("Length", "NUMBER")),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Take half a second; return as many letters as asked for, and how many came in."""
        await asyncio.sleep(0.5)
        return {"Text": "x" * int(node.inputs.get("Size") or 0), "Length": len(node.inputs.get("Read") or "")}
