"""A worker application with isolated nodes that do what people's code may do."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from pathlib import Path
from typing import Any

from django.db.backends.signals import connection_created

from executions.nodes.base import Environment, NodeCall, NodeExecutor
from flowbuilder.celery import app
from workflows.registry import NodeDescription, Port, Weight, register

__all__ = ["app"]

APP = "tests.executions.isolated_app"


class Isolated(NodeExecutor):
    """A node of weight ``isolated`` with one input, ``Value``; it writes the process that runs it into a ledger."""

    def __init_subclass__(cls, type: str, timeout_s: float = 60.0) -> None:
        cls.description = NodeDescription(
            type=type, label=type, group="Flow Control", credits=1, start=True, weight="isolated", timeout_s=timeout_s,
            inputs=(Port("Value", "ANY"),), outputs=(Port("Pid", "NUMBER"),),
        )  # fmt: skip
        register(cls)

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Note who runs it, do the deed."""
        if ledger := os.environ.get("ISOLATED_LEDGER"):
            with Path(ledger).open("a") as file:
                file.write(f"{node.id} {os.getpid()} {node.attempt}\n")
        await self.act(node.inputs.get("Value"))
        return {"Pid": os.getpid()}

    async def act(self, value: Any) -> None:
        """Do what this type does."""


class Sleeps(Isolated, type="test_isolated"):
    """Wait so many seconds."""

    async def act(self, value: Any) -> None:
        """Wait without holding anything."""
        await asyncio.sleep(value or 0)


_opened: list[object] = []
connection_created.connect(lambda connection, **_: _opened.append(connection.alias), weak=False)


class Connections(NodeExecutor):
    """Say how many connections to the database this process has opened since it began."""

    def __init_subclass__(cls, weight: Weight) -> None:
        cls.description = NodeDescription(
            type=f"test_connections_{weight}", label="Connections", group="Flow Control", credits=1, start=True,
            weight=weight, outputs=(Port("Pid", "NUMBER"), Port("Opened", "NUMBER")),
        )  # fmt: skip
        register(cls)

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return both."""
        return {"Pid": os.getpid(), "Opened": len(_opened)}


class ConnectionsOfThreads(Connections, weight="light"):
    """In the worker of threads."""


class ConnectionsOfProcesses(Connections, weight="isolated"):
    """In a child of the worker of processes."""


class Allocates(Isolated, type="test_allocates"):
    """Take all the memory that there is."""

    async def act(self, value: Any) -> None:
        """Allocate 8 MiB blocks, for ever."""
        blocks = []
        while True:
            blocks.append(bytearray(8 * 2**20))


class Freezes(Isolated, type="test_freezes", timeout_s=1):
    """Keep the loop, and with it everything of this process that could stop it."""

    async def act(self, value: Any) -> None:
        """Block for a minute."""
        time.sleep(60)


class Spins(Isolated, type="test_spins", timeout_s=50):
    """Use up processor time beside the loop."""

    async def act(self, value: Any) -> None:
        """Count in a thread for a minute."""

        def count() -> None:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                pass

        await asyncio.to_thread(count)


class Uses(Isolated, type="test_uses"):
    """Use so many MiB of memory and, in a thread, a quarter of a second of processor time."""

    async def act(self, value: Any) -> None:
        """Write into every page of the memory, then count."""
        memory = bytearray(int(value) * 2**20)
        memory[:: resource.getpagesize()] = b"1" * len(memory[:: resource.getpagesize()])

        def count() -> None:
            until = time.thread_time() + 0.25
            while time.thread_time() < until:
                pass

        await asyncio.to_thread(count)
