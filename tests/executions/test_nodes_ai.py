"""The node that takes data out of a text, against an OpenAI-compatible API over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from executions.errors import NetworkError, NodeFailed, NodeInputError, NotAllowed
from recordings.models import Event
from tests.conftest import node
from tests.executions.conftest import Site, TestEnvironment
from workflows import credentials

KEY = "sk-0123456789abcdef"
PRICES = {"type": "array", "items": {"type": "object", "required": ["name"], "additionalProperties": False,
          "properties": {"name": {"type": "string"}, "price": {"type": "number", "minimum": 0}}}}  # fmt: skip


def says(site: Site, *texts: str, tokens: tuple[int, int] = (100, 20)) -> None:
    """Let the model answer with these texts, one after another."""
    for text in texts:
        usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
        answer = {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}
        site.answer(200, json.dumps(answer).encode())


@pytest.fixture
def asked(site: Site) -> Callable[[], list[dict[str, Any]]]:
    """Return what the model was asked."""
    return lambda: [json.loads(request["body"]) for request in site.requests]


@pytest.fixture
def extract(site: Site, site_env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Extract data by the model on the test site."""
    monkeypatch.setattr("executions.nodes.chat.PATH", "/answer")

    async def run(**inputs: Any) -> dict[str, Any]:
        given = {"Endpoint": site.url, "API_Key": KEY, "Content": "A pen for 9", "Prompt": "the prices", **inputs}
        return await site_env.run("extract_data_openai", **given)

    return run


@pytest.mark.row("S2-05")
async def test_data_comes_as_text_and_as_a_value(
    extract: Callable[..., Any], site: Site, asked: Callable[[], list[dict[str, Any]]], site_env: TestEnvironment
) -> None:
    says(site, '[{"name": "Stift", "price": 9}]')

    outputs = await extract(Model="small", Temperature=0)

    assert outputs == {
        "Extracted Data": '[{"name": "Stift", "price": 9}]', "JSON": [{"name": "Stift", "price": 9}],
        "Prompt Tokens": 100, "Completion Tokens": 20,
    }  # fmt: skip
    body = asked()[0]
    assert (body["model"], body["temperature"]) == ("small", 0)
    assert [message["content"] for message in body["messages"][1:]] == ["A pen for 9", "the prices"]
    assert "JSON" in body["messages"][0]["content"]
    assert site.requests[0]["headers"]["authorization"] == f"Bearer {KEY}"
    assert "100 prompt and 20 completion tokens" in site_env.text()


async def test_a_fence_around_the_data_is_taken_off(extract: Callable[..., Any], site: Site) -> None:
    says(site, '```json\n{"a": [1]}\n```\n')

    assert (await extract())["JSON"] == {"a": [1]}


async def test_an_answer_that_does_not_fit_is_asked_for_once_more(
    extract: Callable[..., Any], site: Site, asked: Callable[[], list[dict[str, Any]]]
) -> None:
    says(site, '[{"name": "pen", "price": -9}]', '[{"name": "pen", "price": 9}]')

    outputs = await extract(JSON_Schema=PRICES)

    assert outputs["JSON"] == [{"name": "pen", "price": 9}]
    assert (outputs["Prompt Tokens"], outputs["Completion Tokens"]) == (200, 40)
    first, second = asked()
    assert first["response_format"]["json_schema"]["schema"] == PRICES
    repair = second["messages"][-2:]
    assert repair[0] == {"role": "assistant", "content": '[{"name": "pen", "price": -9}]'}
    assert "[0]['price']" in repair[1]["content"]
    keys = [request["headers"]["idempotency-key"] for request in site.requests]
    assert keys == ["e1:n1:0:1", "e1:n1:0:2"]


async def test_a_second_answer_that_does_not_fit_fails_and_shows_its_beginning(
    extract: Callable[..., Any], site: Site
) -> None:
    says(site, "I am sorry.", "I cannot do that.")

    with pytest.raises(NodeFailed, match=r"not JSON.*'I cannot do that") as caught:
        await extract()

    assert caught.value.code == "model"
    assert len(site.requests) == 2


@pytest.mark.parametrize("answer", [b"no json", b'{"choices": []}', b'{"choices": [{"message": {"content": null}}]}'])
async def test_an_answer_without_a_text_is_told(extract: Callable[..., Any], site: Site, answer: bytes) -> None:
    site.answer(200, answer)

    with pytest.raises(NodeFailed, match=r"no chat completion|without a text"):
        await extract()


async def test_a_service_that_is_busy_says_when_to_come_again(extract: Callable[..., Any], site: Site) -> None:
    site.answer(429, b'{"error": {"message": "rate limit"}}', retry_after="7")

    with pytest.raises(NetworkError) as caught:
        await extract()

    assert (caught.value.retryable, caught.value.retry_after_s) == (True, 7)


async def test_content_that_is_too_long_is_cut_with_a_warning(
    extract: Callable[..., Any], site: Site, asked: Callable[[], list[dict[str, Any]]], site_env: TestEnvironment
) -> None:
    says(site, "[]")

    await extract(Content="x" * 1000, Max_Content_Characters=100)

    assert asked()[0]["messages"][1]["content"] == "x" * 100
    assert any(level == "warning" and "1,000 characters" in message for level, message, _ in site_env.logs)


@pytest.mark.parametrize(
    ("name", "value"), [("JSON_Schema", {"type": "no such type"}), ("JSON_Schema", "{"), ("Endpoint", "nowhere")]
)
async def test_what_cannot_be_asked_is_refused(extract: Callable[..., Any], site: Site, name: str, value: Any) -> None:
    with pytest.raises(NodeInputError, match=name.replace("_", " ")):
        await extract(**{name: value})

    assert not site.requests


async def test_a_model_is_asked_only_where_nodes_may_go(env: TestEnvironment, site: Site) -> None:
    with pytest.raises(NotAllowed):
        await env.run("extract_data_openai", Endpoint=site.url, API_Key=KEY, Content="a", Prompt="b")

    assert not site.requests


def test_a_pattern_of_a_schema_cannot_hold_up_the_worker(
    run: Callable[..., Any], httpserver: Any, settings: Any, alice: Any
) -> None:
    settings.EGRESS_ALLOW = [f"127.0.0.1:{httpserver.port}"]
    credentials.save(alice, "model", "openai", {"api_key": KEY})
    text = json.dumps("a" * 40 + "!")
    httpserver.expect_request("/v1/chat/completions").respond_with_json(
        {"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    )
    inputs = {
        "Prompt": "p", "Content": "c", "API Key": {"$credential": "model"}, "Endpoint": httpserver.url_for("/v1"),
        "JSON Schema": {"type": "string", "pattern": "^(a+)+$"},
    }  # fmt: skip

    start = node("start", "json_transform", Input_JSON={}, Transform_Rules={"a": {"value": 1}})
    wires = [
        {"id": "w", "source": "start", "sourceHandle": "Done", "target": "ask", "targetHandle": "Execute Condition"}
    ]
    execution = run([start, node("ask", "extract_data_openai", **inputs)], *wires)

    assert (execution.status, execution.error_code) == ("failed", "model")
    assert (execution.finished_at - execution.queued_at).total_seconds() < 20
    stored = list(Event.objects.values_list("data", flat=True))
    assert not [one for one in stored if KEY in one]
