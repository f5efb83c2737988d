"""Ask a language model behind an OpenAI-compatible chat API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from executions.errors import NodeFailed
from executions.nodes.base import Environment, NodeCall
from executions.nodes.deliver import checked_url, exchange, http_failure
from executions.nodes.inputs import Inputs, dump_json
from workflows.registry import Port

PATH = "/chat/completions"
ENDPOINT = Port(
    "Endpoint", default="https://api.openai.com/v1", help="Of any service with an OpenAI-compatible chat API."
)

KEY_KINDS = ("openai", "api_key", "bearer", "password", "custom")
"""Credentials that may hold the key of such a service."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered, and the tokens that the service counted."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat API as the inputs ``Endpoint``, ``API Key`` and ``Timeout`` of a node describe it."""

    node: NodeCall
    env: Environment
    address: str
    key: str
    timeout_s: float

    @classmethod
    def of(cls, node: NodeCall, env: Environment, inputs: Inputs) -> Chat:
        """Return the API that the inputs name.

        Raises:
            NodeInputError: ``Endpoint`` is not an address.
        """
        address = checked_url(inputs, "Endpoint").rstrip("/") + PATH
        return cls(node, env, address, inputs.text("API Key"), inputs.number("Timeout") or 60)

    async def ask(
        self, model: str, messages: Sequence[Mapping[str, str]], number: int, options: Mapping[str, Any] | None = None
    ) -> Completion:
        """Return the answer to ``messages``; ``number`` tells the requests of one node run apart.

        Raises:
            NetworkError: no answer, or one that is no success.
            NodeFailed: the answer is no chat completion, or has no text (code ``model``).
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"{self.env.idempotency_key}:{number}"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        body = {"model": model, "messages": list(messages), **(options or {})}
        sent = {"method": "POST", "url": self.address, "headers": headers, "content": dump_json(body).encode()}
        response, _ = await exchange(self.env, self.node, sent, timeout_seconds=self.timeout_s, follow_redirects=False)
        if not response.is_success:
            raise http_failure(response, self.node)
        try:
            answer = response.json()
            text = answer["choices"][0]["message"]["content"]
            usage = answer.get("usage") or {}
            counts = [int(usage.get(f"{name}_tokens") or 0) for name in ("prompt", "completion", "total")]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise NodeFailed(
                f"the answer of {model} is no chat completion: {response.text[:200]!r}", code="model"
            ) from error
        if not isinstance(text, str) or not text.strip():
            raise NodeFailed(f"{model} answered without a text", code="model")
        self.env.log(
            f"{model} used {counts[0]} prompt and {counts[1]} completion tokens",
            prompt_tokens=counts[0], completion_tokens=counts[1], model=model,
        )  # fmt: skip
        return Completion(text, *counts)
