"""A worker application whose nodes leave traces outside the database, and which can be killed before it acknowledges."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from celery import signals

from executions.errors import NodeFailed
from executions.failpoints import failpoint
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from flowbuilder.celery import app
from workflows.registry import NodeDescription, Port, register

__all__ = ["app"]

LEDGER = "FAULTS_LEDGER"


def note(what: str, key: str) -> None:
    """Append one line to the ledger, which survives the death of this process."""
    line = f"{what} {key} {os.getpid()} {time.time():.6f}\n"
    handle = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)


@register
class Effect(NodeExecutor):
    """Begin, wait, have an effect that others see, and end."""

    description = NodeDescription(
        type="test_effect", label="Effect", group="Flow Control", credits=1, start=True, effect="write",
        weight="blocking", timeout_s=600, inputs=(Port("Seconds", "NUMBER", default=0.1),),
        outputs=(Port("Key", "STRING"),),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return the key under which the effect can be found."""
        note("begin", env.idempotency_key)
        await asyncio.sleep(float(node.inputs.get("Seconds") or 0.1))
        failpoint("in-node")
        note("effect", env.idempotency_key)
        return {"Key": env.idempotency_key}


@register
class Flood(NodeExecutor):
    """Log as fast as it can for some seconds, an error among a thousand lines, and then end in some way."""

    description = NodeDescription(
        type="test_flood", label="Flood", group="Flow Control", credits=1, start=True, weight="light", timeout_s=600,
        inputs=(Port("Seconds", "NUMBER", default=1.0), Port("End", "STRING", default="completed")),
        outputs=(Port("Done", "BOOLEAN"),),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Log; the ledger says how much it was."""
        until = time.monotonic() + float(node.inputs["Seconds"])
        lines = 0
        try:
            while time.monotonic() < until:
                for _ in range(999):
                    env.log("GET https://shop.example.com/products/12345 answered 200 after 0.118 s", product=12345)
                env.log("something went wrong", level="error")
                lines += 1000
                await asyncio.sleep(0)
            if node.inputs["End"] == "failed":
                raise NodeFailed("has logged enough", retryable=False)
            if node.inputs["End"] == "cancelled":
                await asyncio.sleep(600)
        finally:
            note(f"logged-{lines}", env.idempotency_key)
        return {"Done": True}


@signals.task_postrun.connect
def _before_acknowledging(task: Any = None, **kwargs: object) -> None:
    if task is not None and task.name == "executions.run_nodes":
        failpoint("before-ack")


if COPIES := int(os.environ.get("FAULTS_COPIES", 0)):
    send_task_message = app.amqp.send_task_message

    def send_copies(*args: Any, **kwargs: Any) -> Any:
        """Send a message as often as the test wants it."""
        for _ in range(COPIES - 1):
            send_task_message(*args, **kwargs)
            note("copy", "sent")
        return send_task_message(*args, **kwargs)

    app.amqp.__dict__["send_task_message"] = send_copies
