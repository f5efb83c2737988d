"""The code node: a person's own Python or JavaScript, in an interpreter without a way out."""

from __future__ import annotations

import asyncio
from typing import Any

from django.conf import settings

from executions import interpreters
from executions.errors import NotAllowed
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from executions.nodes.inputs import Inputs, parse_json
from workflows.registry import NodeDescription, Port, register

LONGEST_SECONDS = 60
SWITCH = "FLOWBUILDER_CODE_NODES"


@register
class RunCode(NodeExecutor):
    """Run a program over a value."""

    description = NodeDescription(
        type="code",
        label="Code",
        group="Data Storage",
        credits=1,
        start=True,
        weight="isolated",
        timeout_s=LONGEST_SECONDS + 15,
        switch=SWITCH,
        summary="Runs your own Python or JavaScript over a value, in a sandbox without files, network or packages.",
        subtitle="Language",
        inputs=(
            Port("Language", "SELECT", required=True, default="python", options=("python", "javascript"), handle=False),
            Port(
                "Code",
                "STRING",
                required=True,
                handle=False,
                variant="textarea",
                placeholder='[row for row in data["rows"] if row["price"] < 10]',
                help="The value of the last expression, or of the variable result, is the result. "
                "Give values through Data, not by templates in the code.",
            ),
            Port("Data", "ANY", variant="textarea", help="What the code knows as data (and inputs): JSON or text."),
            Port("Timeout (seconds)", "NUMBER", default=10, min=0.1, max=LONGEST_SECONDS, handle=False),
        ),
        outputs=(
            Port("Result", "ANY", help="The value of the last expression, else of the variable result."),
            Port("Printed", "STRING", help="What the code printed."),
        ),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Run the program in a thread; its interpreter keeps no lock and stops by itself."""
        if not settings.CODE_NODES:
            raise NotAllowed(f'node "{node.name}" is not allowed to run: code nodes are off; set {SWITCH}=on')
        inputs = self.inputs(node)
        language = inputs.choice("Language")
        code = interpreters.Code(
            source=inputs.text("Code"),
            data=_data(inputs),
            seconds=inputs.number("Timeout (seconds)") or 10.0,
            memory=settings.ISOLATED_MEMORY_MB * 2**20 // 2,
        )
        ran = await asyncio.to_thread(interpreters.run, language, code)
        if ran.text:
            env.log(f"Printed: {ran.text[:2000]}")
        return {"Result": ran.value, "Printed": ran.text}


def _data(inputs: Inputs) -> Any:
    """Return the data: a text that holds a JSON object or list as such, everything else as it came."""
    value = inputs.value("Data")
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return parse_json(value)
        except ValueError:
            return value
    return value
