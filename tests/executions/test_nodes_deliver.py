"""The nodes that send HTTP requests, against a real server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from executions.errors import NetworkError, NodeInputError, NotAllowed
from tests.executions.conftest import Site, TestEnvironment, Victim


@pytest.mark.row("S2-05")
async def test_a_delivery_carries_payload_type_and_idempotency_key(site: Site, site_env: TestEnvironment) -> None:
    site.answer(200, b"thanks")

    outputs = await site_env.run("deliver_to_webhook", Webhook_URL=f"{site.url}/answer", Payload='{"a": 1}')

    request = site.requests[0]
    assert (request["method"], request["body"]) == ("POST", b'{"a": 1}')
    assert request["headers"]["content-type"] == "application/json"
    assert request["headers"]["idempotency-key"] == "e1:n1:0"
    assert outputs == {
        "Delivery Status": "success", "Response Body": "thanks", "Response": "thanks", "Status Code": 200,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content_type", "payload", "body"),
    [
        ("application/json", {"a": ["ü"]}, '{"a": ["ü"]}'.encode()),
        ("application/json", "plain words", b'"plain words"'),
        ("application/json", " [1] ", b" [1] "),
        ("application/x-www-form-urlencoded", {"a": "b c", "n": 1}, b"a=b+c&n=1"),
        ("application/x-www-form-urlencoded", '{"a": "&"}', b"a=%26"),
        ("application/x-www-form-urlencoded", "a=1&b=2", b"a=1&b=2"),
        ("text/plain", {"a": 1}, b'{"a": 1}'),
    ],
)
async def test_the_payload_is_shaped_as_the_content_type_asks(
    site: Site, site_env: TestEnvironment, content_type: str, payload: Any, body: bytes
) -> None:
    await site_env.run("deliver_to_webhook", Webhook_URL=site.url, Payload=payload, Content_Type=content_type)

    assert site.requests[0]["body"] == body


async def test_basic_bearer_and_signature(site: Site, site_env: TestEnvironment) -> None:
    await site_env.run(
        "deliver_to_webhook", Webhook_URL=site.url, Payload="{}", Authorization_Type="basic", Authorization_Value="u:p"
    )
    await site_env.run(
        "deliver_to_webhook",
        Webhook_URL=site.url, Payload="{}", Authorization_Type="bearer", Authorization_Value="t0ken", Signing_Secret="s",
        Headers={"X-Own": "1"}, Method="PUT",
    )  # fmt: skip

    basic, bearer = (request["headers"] for request in site.requests)
    assert basic["authorization"] == "Basic " + base64.b64encode(b"u:p").decode()
    assert (bearer["authorization"], bearer["x-own"], site.requests[1]["method"]) == ("Bearer t0ken", "1", "PUT")
    signed = bearer["x-flowbuilder-timestamp"].encode() + b".{}"
    assert bearer["x-flowbuilder-signature"] == "sha256=" + hmac.new(b"s", signed, hashlib.sha256).hexdigest()
    assert "t0ken" not in site_env.text()


@pytest.mark.row("S2-26")
@pytest.mark.parametrize(
    ("status", "retryable"), [(400, False), (404, False), (429, True), (500, True), (503, True), (302, False)]
)
async def test_an_error_answer_fails_the_node_and_says_whether_to_retry(
    site: Site, site_env: TestEnvironment, status: int, retryable: bool
) -> None:
    site.answer(status, b"no", Retry_After="7", Location="/elsewhere")

    with pytest.raises(NetworkError, match=f"POST 127.0.0.1 answered {status}") as caught:
        await site_env.run("deliver_to_webhook", Webhook_URL=f"{site.url}/answer", Payload="{}")

    assert caught.value.retryable is retryable
    assert caught.value.retry_after_s == 7
    assert len(site.requests) == 1


async def test_a_time_to_come_again_that_is_no_number_is_none(site: Site, site_env: TestEnvironment) -> None:
    site.answer(503, b"no", Retry_After="²")

    with pytest.raises(NetworkError, match="answered 503") as caught:
        await site_env.run("deliver_to_webhook", Webhook_URL=f"{site.url}/answer", Payload="{}")

    assert caught.value.retry_after_s is None


async def test_without_fail_on_error_the_failure_is_an_output(site: Site, site_env: TestEnvironment) -> None:
    site.answer(503, b"x" * 6000)
    inputs = {"Payload": "{}", "Fail_On_Error": False}

    answered = await site_env.run("deliver_to_webhook", Webhook_URL=f"{site.url}/answer", **inputs)
    closed = await TestEnvironment(_everything()).run("deliver_to_webhook", Webhook_URL="http://127.0.0.1:1/", **inputs)

    assert answered["Delivery Status"] == "failed: 503 Service Unavailable"
    assert (len(answered["Response Body"]), answered["Status Code"]) == (5000, 503)
    assert closed["Delivery Status"].startswith("failed: 127.0.0.1 could not be reached")
    assert closed["Status Code"] is None


@pytest.mark.row("S2-27")
async def test_a_closed_port_and_a_slow_server_are_retryable_network_errors(site: Site) -> None:
    env = TestEnvironment(_everything())

    with pytest.raises(NetworkError, match="could not be reached") as refused:
        await env.run("deliver_to_webhook", Webhook_URL="http://127.0.0.1:1/", Payload="{}")
    with pytest.raises(NetworkError, match="did not answer within 1 s") as slow:
        await env.run("deliver_to_webhook", Webhook_URL=f"{site.url}/slow?seconds=5", Payload="{}", Timeout=1)

    assert refused.value.retryable
    assert slow.value.retryable


@pytest.mark.row("S2-53")
@pytest.mark.parametrize("fail_on_error", [True, False])
async def test_a_forbidden_address_is_not_allowed_whatever_fail_on_error_says(
    site_env: TestEnvironment, victim: Victim, fail_on_error: bool
) -> None:
    with pytest.raises(NotAllowed, match=r"is not allowed.*FLOWBUILDER_EGRESS_ALLOW"):
        await site_env.run(
            "deliver_to_webhook", Webhook_URL=f"http://{victim.address}/", Payload="{}", Fail_On_Error=fail_on_error
        )

    assert victim.hits == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.com/", "gopher://x/", "javascript:alert(1)", "data:,x"]
)
async def test_other_schemes_are_not_allowed(site_env: TestEnvironment, url: str) -> None:
    with pytest.raises(NotAllowed, match="only http and https"):
        await site_env.run("deliver_to_webhook", Webhook_URL=url, Payload="{}")
    with pytest.raises(NotAllowed, match="only http and https"):
        await site_env.run("http_request", URL=url)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"Webhook_URL": "example.com"}, "must be a whole address"),
        ({"Payload": '{"a": 1,}'}, 'input "Payload" of node "Node one" is not valid JSON'),
        ({"Method": "BREW"}, "must be one of POST"),
        ({"Headers": {"Bad Name": "x"}}, "header name that HTTP does not allow"),
        ({"Headers": {"X": "a\r\nY: b"}}, "characters that HTTP does not allow"),
        ({"Headers": {"Idempotency-Key": "x"}}, 'must not set "Idempotency-Key"'),
        ({"Timeout": 1000}, "the most is 100"),
        ({"Authorization_Type": "bearer", "Authorization_Value": "a\nb"}, "characters that HTTP does not allow"),
    ],
)
async def test_bad_inputs_are_refused_before_anything_is_sent(
    site: Site, site_env: TestEnvironment, inputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(NodeInputError, match=message):
        await site_env.run("deliver_to_webhook", **{"Webhook_URL": site.url, "Payload": "{}", **inputs})

    assert site.requests == []


# ------------------------------------------------------------------ http_request


async def test_a_request_hands_on_status_body_json_headers_and_cookies(site: Site, site_env: TestEnvironment) -> None:
    site.answer(200, b'{"n": 1}', Set_Cookie="s=1; Path=/", X_Seen="yes")

    outputs = await site_env.run("http_request", URL=f"{site.url}/answer?a=1", Query={"b": "ü"}, Cookies={"c": "2"})

    request = site.requests[0]
    assert (request["method"], request["query"]) == ("GET", {"a": "1", "b": "ü"})
    assert request["headers"]["cookie"] == "c=2"
    assert "idempotency-key" not in request["headers"]
    assert (outputs["Status Code"], outputs["JSON"], outputs["Headers"]["x-seen"]) == (200, {"n": 1}, "yes")
    assert outputs["Cookies"] == {"c": "2", "s": "1"}


async def test_redirects_are_followed_or_handed_on(site: Site, site_env: TestEnvironment) -> None:
    followed = await site_env.run("http_request", URL=f"{site.url}/redirect?to=/end")
    stopped = await site_env.run("http_request", URL=f"{site.url}/redirect?to=/end", Follow_Redirects=False)

    assert (followed["Status Code"], followed["URL"]) == (200, f"{site.url}/end")
    assert (stopped["Status Code"], stopped["Headers"]["location"]) == (302, "/end")


async def test_writing_methods_carry_body_and_idempotency_key(site: Site, site_env: TestEnvironment) -> None:
    outputs = await site_env.run("http_request", URL=site.url, Method="PATCH", Body={"a": 1})

    assert json.loads(site.requests[0]["body"]) == {"a": 1}
    assert site.requests[0]["headers"]["idempotency-key"] == "e1:n1:0"
    assert (outputs["Body"], outputs["JSON"]) == ("ok", None)


async def test_an_error_status_fails_or_is_an_output(site: Site, site_env: TestEnvironment) -> None:
    site.answer(404, b"gone")
    site.answer(404, b"gone")

    with pytest.raises(NetworkError, match="answered 404"):
        await site_env.run("http_request", URL=f"{site.url}/answer")
    outputs = await site_env.run("http_request", URL=f"{site.url}/answer", Fail_On_Error=False)

    assert (outputs["Status Code"], outputs["Body"]) == (404, "gone")


def test_only_reading_methods_may_be_repeated_by_a_re_execution() -> None:
    from executions.nodes.base import NodeCall
    from executions.nodes.deliver import HttpRequest

    def effect(method: str) -> str:
        return HttpRequest().effect(NodeCall("n", "http_request", "n", {"URL": "http://x", "Method": method}))

    assert [effect(method) for method in ("GET", "head", "POST", "DELETE")] == ["read", "read", "write", "write"]


def _everything() -> Any:
    from executions.egress import EgressPolicy

    return EgressPolicy(["127.0.0.1"])
