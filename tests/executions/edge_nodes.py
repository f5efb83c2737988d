"""Node types that misbehave, for tests that run executions in the process of the test."""

from __future__ import annotations

import asyncio
import decimal
import sys
import time
from collections import deque
from typing import Any
from uuid import UUID

from executions import engine, opening
from executions.errors import BrowserError, NetworkError, NodeFailed, NodeInputError, SessionLost
from executions.models import Execution
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from recordings.events import LINE_CHARACTERS
from tests.conftest import node
from workflows.registry import NodeDescription, Port, register

DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]

VALUES: dict[str, Any] = {
    "nul": "a\0b",
    "half a surrogate": "a\ud800b",
    "nan": [float("nan"), float("inf")],
    "keys": {1: "one"},
    "tuple": (1, 2),
    "decimal": decimal.Decimal("1.50"),
    "object": object(),
    "deep": DEEP,
    "big": "x" * 200_000,
    "huge": "x" * (17 * 1024 * 1024),
}

FAILURES: dict[str, tuple[str, str]] = {
    "nul": ("page said \0 nothing", "odd"),
    "half a surrogate": ("page said \ud800", "odd"),
    "huge": ("x" * 3_000_000, "odd"),
    "long code": ("no", "c" * 300),
}


class EdgeNode(NodeExecutor):
    """A node that starts a workflow and has one input, ``Kind``."""

    def __init_subclass__(cls, type: str, timeout_s: float = 60.0) -> None:
        cls.description = NodeDescription(
            type=type, label=type, group="Flow Control", credits=1, start=True, timeout_s=timeout_s,
            inputs=(Port("Kind", "ANY"),), outputs=(Port("Value", "ANY"),),
        )  # fmt: skip
        register(cls)


class Gives(EdgeNode, type="test_gives"):
    """Return an odd value."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return the value of that name, or the input itself."""
        kind = node.inputs["Kind"]
        return {"Value": VALUES.get(kind, kind) if isinstance(kind, str) else kind}


class Fails(EdgeNode, type="test_fails"):
    """Fail with an odd message."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Raise."""
        message, code = FAILURES[node.inputs["Kind"]]
        raise NodeFailed(message, code=code, retryable=False)


class Breaks(EdgeNode, type="test_breaks"):
    """Fail as nodes do, with the failure that ``Kind`` names."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Raise."""
        busy = NetworkError("answered 429 and said when to come back", code="http_status")
        busy.retry_after_s = 0.5 if node.inputs["Kind"] == "busy" else 400_000.0
        raise {
            "busy": busy,
            "busy for days": busy,
            "status": NetworkError("answered 503", code="http_status"),
            "silence": NetworkError("did not answer", code="network_timeout"),
            "page": BrowserError("nothing came", code="element_timeout"),
            "quota": NodeFailed("used up", code="quota"),
            "wrong": NodeInputError("not a number"),
            "lost": SessionLost("gone"),
            "bug": ZeroDivisionError("oops"),
        }[node.inputs["Kind"]]


class Talks(EdgeNode, type="test_talks"):
    """Write odd events."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Log and record what no JSON can hold."""
        env.log("nul \0 and half \ud800", value=object(), number=float("nan"), nested=DEEP)
        odd: Any = {"set": {1}, (1, 2): b"bytes"}
        env.record("a kind of event whose name is longer than any column " * 3, odd)
        return {"Value": "said"}


class Teams(EdgeNode, type="test_teams"):
    """Record a team of its own."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Record what two members say to each other."""
        env.record_team_start("crew", "sequential", 2, {"task": node.inputs["Kind"]})
        for member in ("ann", "ben"):
            env.record_team_member_start("crew", member, {"said": node.inputs["Kind"]})
            env.record_team_member_complete("crew", member, {"heard": True}, 0.5)
        env.record_team_member_communication("crew", "ann", "ben", "hello")
        env.record_team_complete("crew", {"said": "hello"}, 1.5, success=True)
        env.record("checkpoint", {"name": "half way"})
        env.record("gauge", {"level": 7})
        return {"Value": "done"}


class Forges(EdgeNode, type="test_forges"):
    """Write an event of the type in ``Kind``."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Pretend that the engine wrote it."""
        env.record(node.inputs["Kind"], {"outputs": {"Value": "forged"}, "final_state": {"a": "forged"}})
        return {"Value": "said"}


class Loud(EdgeNode, type="test_loud"):
    """Log and record much, and try to name blobs of others."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Write events that are too large for a row, and one that pretends to be."""
        env.log("x" * 50_000, numbers=list(range(20_000)))
        env.record("mine", {"text": node.inputs["Kind"], "few": 1})
        env.record("forged", {"text": {"$blob": "0" * 64}, "$blobs": ["text"]})
        return {"Value": "said"}


class Rambles(EdgeNode, type="test_rambles"):
    """Log a line of 24 MB with ``Kind`` where it is cut, and record texts that are too long to show."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Write them."""
        line = "x" * (LINE_CHARACTERS - 30) + str(node.inputs["Kind"])
        env.log(line + "y" * (24_000_000 - len(line)))
        env.record("mine", {"message": "z" * 100_000, "error": "e" * 100_000})
        return {"Value": "said"}


class Keeps(EdgeNode, type="test_keeps"):
    """Save what ``Kind`` says as a file."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return the id of the file."""
        content = str(node.inputs["Kind"]).encode()
        return {"Value": await env.save_artifact("note", content, content_type="text/plain", name="note.txt")}


class Stubborn(EdgeNode, type="test_stubborn"):
    """Go on when cancelled."""

    goes_on = True
    """What a test takes back at its end."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Sleep so many seconds, whoever asks to stop."""
        until = time.monotonic() + node.inputs["Kind"]
        while self.goes_on and time.monotonic() < until:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        return {"Value": "late"}


class Interrupted(EdgeNode, type="test_interrupted"):
    """End like something that was cancelled, though nobody cancelled it."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Raise CancelledError, or leave the interpreter."""
        if node.inputs.get("Kind") == "exit":
            sys.exit(3)
        raise asyncio.CancelledError


def gives(node_id: str, value: Any, **policy: Any) -> dict[str, Any]:
    """Return a node whose output is ``VALUES[value]``, or ``value`` itself."""
    return node(node_id, "test_gives", policy, Kind=value)


def run_here(execution_id: UUID, dispatch: opening.Dispatch | None = None) -> Execution:
    """Run an execution to its end in this process, message by message, and return it."""
    messages = deque([dispatch or engine.advance(execution_id, 0)])
    while messages:
        message = messages.popleft()
        if message is not None:
            messages.extend(engine.advance(child, 0) for child in message.starts)
            messages.extend(engine.take(message.execution_id, message.phase, indexes) for indexes, _ in message.headers)
            messages.append(engine.drive(message.here) if message.here else None)
    found: Execution = Execution.objects.get(pk=execution_id)
    return found
