"""A worker application with nodes that are careless with what they are given, as a library might be."""

from __future__ import annotations

import logging
from typing import Any

from executions.nodes.base import Environment, NodeCall, NodeExecutor
from flowbuilder.celery import app
from workflows.registry import NodeDescription, Port, register

__all__ = ["app"]

APP = "tests.faults.canary_app"
library = logging.getLogger("some.library")


class Careless(NodeExecutor):
    """Writes its input everywhere a node can write to."""

    def __init_subclass__(cls, type: str, weight: Any) -> None:
        cls.description = NodeDescription(
            type=type, label=type, group="Flow Control", credits=1, start=True, weight=weight,
            inputs=(Port("Value", "ANY"), Port("Fails", "BOOLEAN")), outputs=(Port("Value", "ANY"), Port("Form", "ANY")),
        )  # fmt: skip
        register(cls)

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Log, record, tag and store the value; fail with it if that is wanted."""
        value = str(node.inputs["Value"])
        library.warning("connecting with %s", value)
        try:
            raise ConnectionError(f"refused: {value}")
        except ConnectionError:
            library.exception("cannot connect")
        env.log(f"used {value}", detail={value: [value.encode().hex()]})
        env.record("careless", {"value": value})
        env.record(value[:60], {})
        env.tag(value[:100])
        env.record_team_start(value[:40], "sequential", 1, {"value": value})
        await env.save_artifact("download", f"<p>{value}</p>".encode(), content_type="text/html", name=f"{value}.html")
        await env.save_artifact("download", value.encode(), content_type="application/octet-stream", name=value)
        env.set_variable(value[:60], {"value": value})
        if node.inputs.get("Fails"):
            raise RuntimeError(f"it broke with {value}")
        return {
            "Value": value,
            "Form": {"repr": repr(value), "bytes": repr(value.encode()), "hex": value.encode().hex()},
        }


class CarelessHere(Careless, type="test_careless", weight="light"):
    """In the worker."""


class CarelessApart(Careless, type="test_careless_apart", weight="isolated"):
    """In a process of its own."""
