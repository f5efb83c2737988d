"""A node type that talks as much as a test wants, in a package of its own as anybody may install one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import graph, node

MODULE = """
import asyncio
import time
from pathlib import Path

from executions.nodes.base import NodeExecutor
from workflows.registry import NodeDescription, Port, register

LEVELS = ("info", "info", "debug", "warning", "error")


@register
class Chatter(NodeExecutor):
    description = NodeDescription(
        type="acme_chatter", label="Chatter", group="Flow Control", credits=0, start=True, timeout_s=900,
        inputs=(Port("Texts", "ANY"), Port("Lines", "NUMBER"), Port("Pause", "NUMBER"), Port("Gate")),
        outputs=(Port("Said", "JSON"),),
    )

    async def run(self, node, env):
        inputs = self.inputs(node)
        texts, gate = list(inputs.value("Texts") or []), inputs.text("Gate")
        for text in texts:
            env.log(text, level=LEVELS[texts.index(text) % len(LEVELS)])
        pause = inputs.number("Pause") or 0
        for n in range(1, int(inputs.number("Lines") or 0) + 1):
            while gate and n > int(Path(gate).read_text() or 0):
                await asyncio.sleep(0.02)
            env.log(f"line {n} at {time.time() * 1000:.1f}")
            if pause or n % 100 == 0:
                await asyncio.sleep(pause)
        return {"Said": {"texts": texts, "deep": {"er": [1, None, True]}}}
"""


def install(folder: Path) -> dict[str, str]:
    """Put the package into ``folder``; return the environment that has it on its path."""
    about = folder / "acme_chatter-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "acme_chatter.py").write_text(MODULE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-chatter\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[flowbuilder.nodes]\nchatter = acme_chatter\n")
    return {"PYTHONPATH": str(folder)}


def talk(name: str, **inputs: Any) -> dict[str, Any]:
    """Return a workflow of one step that says ``Texts``, then ``Lines`` lines.

    There are ``Pause`` seconds after each line; not more lines are said than the number in the file ``Gate``.
    """
    return {"name": name, "status": "active", **graph([node("talk", "acme_chatter", **inputs)])}
