"""A worker application with node types that only tests need."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from typing import Any

from executions.errors import NodeFailed
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from flowbuilder.celery import app
from recordings import (
    carry_recording,
    get_current_recorder,
    record_node_execution_complete,
    record_node_execution_start,
    record_state_snapshot,
)
from recordings.context import active_recorder
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
class Tags(NodeExecutor):
    """Tag with the given words; fail at the first attempt on ``again``, always on ``fail``."""

    description = NodeDescription(
        type="test_tags", label="Tags", group="Flow Control", credits=1, start=True,
        inputs=(Port("Words", "ANY", required=True),),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return nothing."""
        words = node.inputs["Words"]
        env.tag(*words)
        if "fail" in words or ("again" in words and node.attempt == 1):
            raise NodeFailed("on purpose", retryable="again" in words)
        return {}


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


def _records(tag: str) -> None:
    """Record as a library would that knows nothing of nodes."""
    record_node_execution_start("fetch", {"tag": tag}, "step")
    record_node_execution_complete("fetch", {"tag": tag}, 0.5)
    recorder = get_current_recorder()
    assert recorder is not None
    recorder.record_event("mine", tag=tag)


@register
class Records(NodeExecutor):
    """Record with the functions of ``recordings``: on the loop, in a thread, and in a thread of its own."""

    description = NodeDescription(
        type="test_records", label="Records", group="Flow Control", credits=1, start=True,
        inputs=(Port("Tag", "STRING", required=True),), outputs=(Port("Active", "BOOLEAN"),),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Record thrice, letting others run in between."""
        tag = node.inputs["Tag"]
        _records(f"{tag} loop")
        await asyncio.sleep(0.05)
        await asyncio.to_thread(_records, f"{tag} pool")
        thread = threading.Thread(target=carry_recording(_records), args=(f"{tag} thread",))
        thread.start()
        await asyncio.to_thread(thread.join)
        recorder = get_current_recorder()
        assert recorder is not None
        recorder.record_team_start("crew", "sequential", 1, {"tag": f"{tag} team"})
        record_state_snapshot({"tag": f"{tag} state"})
        return {"Active": active_recorder() is not None}


@register
class RecordsAtOnce(NodeExecutor):
    """Record in a node that never waits, so that the thread of its header runs it."""

    description = NodeDescription(
        type="test_records_at_once", label="Records at once", group="Flow Control", credits=1, start=True,
        inputs=(Port("Tag", "STRING", required=True),),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Record once."""
        _records(f"{node.inputs['Tag']} light")
        return {}


@register
class Logs(NodeExecutor):
    """Log by the standard library, from a step of its own and from a thread."""

    description = NodeDescription(type="test_logs", label="Logs", group="Flow Control", credits=0, start=True)

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Say two things."""
        logging.getLogger("somebody.else").warning("said by a step")
        await asyncio.to_thread(logging.getLogger("somebody.else").warning, "said by a thread")
        return {}
