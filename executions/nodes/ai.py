"""Let a language model take data out of a text."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs

from executions.errors import NodeFailed
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from executions.nodes.chat import ENDPOINT, KEY_KINDS, Chat, Completion
from executions.nodes.inputs import Inputs, dump_json, parse_json
from workflows.registry import NodeDescription, Port, register

TASK = (
    "You take data out of the content that the user gives you. Answer with JSON only: no words around it and no code"
    " fence. If the content does not have what is asked for, answer with an empty array."
)
FENCE = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
SHOWN_CHARACTERS = 200


@register
class ExtractDataOpenai(NodeExecutor):
    """Ask a language model for data in a text, as JSON."""

    description = NodeDescription(
        type="extract_data_openai",
        label="Use OpenAI to Extract Data",
        group="Data Extraction",
        credits=4,
        start=True,
        effect="read",
        weight="io",
        timeout_s=600,
        summary="Asks a language model for the data in a text; an answer that does not fit is asked for once more.",
        subtitle="Prompt",
        inputs=(
            Port("Prompt", required=True, variant="textarea", placeholder="The name and the price of every product"),
            Port("Content", required=True, variant="textarea"),
            Port("API Key", "CREDENTIAL", variant="password", required=True, handle=False, kinds=KEY_KINDS),
            ENDPOINT,
            Port("Model", default="gpt-4o-mini"),
            Port("Temperature", "NUMBER", default=0.5, min=0, max=2, handle=False),
            Port(
                "JSON Schema", "JSON", variant="json", handle=False,
                placeholder='{"type": "array", "items": {"type": "object", "required": ["name", "price"]}}',
                help="The data must fit it.",
            ),
            Port(
                "Max Content Characters", "NUMBER", default=100_000, min=100, max=2_000_000, handle=False,
                help="What is longer is cut off, with a warning in the log.",
            ),
            Port("Timeout", "NUMBER", default=60, min=1, max=280, handle=False, help="Seconds for one answer."),
        ),
        outputs=(
            Port("Extracted Data", help="The data as JSON text."),
            Port("JSON", "JSON", help="The data as a value."),
            Port("Prompt Tokens", "NUMBER"),
            Port("Completion Tokens", "NUMBER"),
        ),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Ask, and once more with what was wrong when the answer does not fit."""
        inputs = self.inputs(node)
        schema = inputs.json("JSON Schema")
        validator = _validator(inputs, schema)
        chat, model = Chat.of(node, env, inputs), inputs.text("Model")
        messages = [
            {"role": "system", "content": TASK},
            {"role": "user", "content": _content(inputs, env)},
            {"role": "user", "content": inputs.text("Prompt")},
        ]
        options = {"temperature": inputs.number("Temperature"), **_format(schema)}
        first = await chat.ask(model, messages, 1, options)
        value, problem = _read(first.text, validator)
        asked = [first]
        if problem:
            env.log(f"the answer does not fit and is asked for once more: {problem}", level="warning")
            messages += [
                {"role": "assistant", "content": first.text},
                {"role": "user", "content": f"That does not fit: {problem}. Answer again, with JSON only."},
            ]
            second = await chat.ask(model, messages, 2, options)
            asked.append(second)
            value, problem = _read(second.text, validator)
            if problem:
                shown = second.text[:SHOWN_CHARACTERS]
                raise NodeFailed(f"{model} gave no fitting data: {problem}; its answer begins {shown!r}", code="model")
        return {"Extracted Data": dump_json(value), "JSON": value, **_tokens(asked)}


def _validator(inputs: Inputs, schema: Any) -> jsonschema_rs.Validator | None:
    if schema is None:
        return None
    try:
        return jsonschema_rs.validator_for(schema)
    except ValueError as error:
        inputs.refuse("JSON Schema", f"is not a JSON schema: {str(error)[:300]}")


def _format(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):
        return {}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "data", "schema": schema}}}


def _content(inputs: Inputs, env: Environment) -> str:
    content = inputs.text("Content")
    most = int(inputs.number("Max Content Characters") or 100_000)
    if len(content) > most:
        env.log(f"the content has {len(content):,} characters; only the first {most:,} are sent", level="warning")
    return content[:most]


def _read(text: str, validator: jsonschema_rs.Validator | None) -> tuple[Any, str]:
    """Return the data in an answer, and what is wrong with it."""
    fenced = FENCE.match(text)
    try:
        value = parse_json(fenced[1] if fenced else text)
    except ValueError as error:
        return None, f"it is not JSON: {error}"
    if validator is not None:
        for problem in validator.iter_errors(value):
            place = "".join(f"[{part!r}]" for part in problem.instance_path)
            return value, f"{place or 'the whole'}: {problem.message[:300]}"
    return value, ""


def _tokens(asked: list[Completion]) -> dict[str, int]:
    return {
        "Prompt Tokens": sum(one.prompt_tokens for one in asked),
        "Completion Tokens": sum(one.completion_tokens for one in asked),
    }
