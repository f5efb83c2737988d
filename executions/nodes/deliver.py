"""Nodes that talk to other systems over HTTP: deliver to a webhook, send any request."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import httpx

from executions.errors import NetworkError, NotAllowed
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from executions.nodes.inputs import Inputs, as_text, dump_json, parse_json
from workflows.registry import Effect, NodeDescription, Port, register

JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"
CONTENT_TYPES = (JSON_TYPE, FORM_TYPE, "text/plain")
AUTHORIZATION_TYPES = ("none", "basic", "bearer")
SHOWN_CHARACTERS = 5000
LONGEST_TIMEOUT_SECONDS = 100
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def checked_url(inputs: Inputs, name: str) -> str:
    """Return the URL in input ``name``.

    Raises:
        NotAllowed: its scheme is not http or https.
        NodeInputError: it is not a URL.
    """
    url = inputs.text(name).strip()
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        inputs.refuse(name, f"is not a URL: {error}")
    if parsed.scheme and parsed.scheme not in ("http", "https"):
        raise NotAllowed(
            f'the address "{url[:200]}" of node "{inputs.node_name}" is not allowed: only http and https can be reached'
        )
    if not parsed.scheme or not parsed.host:
        inputs.refuse(name, f'must be a whole address such as https://example.com/hook, not "{url[:200]}"')
    return url


def request_headers(inputs: Inputs, env: Environment, content_type: str | None) -> dict[str, str]:
    """Return the headers of an outgoing request: own ones first, then those that the user set."""
    headers = {"User-Agent": "FlowBuilder", "Idempotency-Key": env.idempotency_key}
    if content_type:
        headers["Content-Type"] = content_type
    for name, value in inputs.json_object("Headers").items():
        text = as_text(value)
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            inputs.refuse("Headers", f'has a header name that HTTP does not allow: "{name[:60]}"')
        if not text.isascii() or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
            inputs.refuse("Headers", f'has characters that HTTP does not allow in the value of "{name}"')
        if name.lower() in ("host", "content-length", "transfer-encoding", "connection", "idempotency-key"):
            inputs.refuse("Headers", f'must not set "{name}"; it is set by Flow Builder')
        for present in [known for known in headers if known.lower() == name.lower()]:
            del headers[present]
        headers[name] = text
    secret = inputs.text("Authorization Value")
    match inputs.choice("Authorization Type"):
        case "basic":
            headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
        case "bearer":
            headers["Authorization"] = f"Bearer {secret}"
    if not headers.get("Authorization", "").isascii() or re.search(r"[\r\n]", headers.get("Authorization", "")):
        inputs.refuse("Authorization Value", "has characters that HTTP does not allow")
    return headers


def request_body(inputs: Inputs, name: str, content_type: str) -> bytes:
    """Return the bytes to send for input ``name``, shaped as ``content_type`` asks."""
    value = inputs.value(name)
    if value is None:
        return b""
    if content_type == JSON_TYPE:
        if not isinstance(value, str):
            return dump_json(value).encode()
        if value.lstrip()[:1] in ("{", "["):
            inputs.json(name)  # refuses a document with a mistake in it before anybody receives it
            return value.encode()
        try:
            parse_json(value)
        except ValueError:
            return dump_json(value).encode()
        return value.encode()
    if content_type == FORM_TYPE:
        fields = value
        if isinstance(value, str) and value.lstrip().startswith("{"):
            fields = inputs.json(name)
        if isinstance(fields, dict):
            return urlencode({key: as_text(item) for key, item in fields.items()}).encode()
    return as_text(value).encode()


async def exchange(
    env: Environment,
    node: NodeCall,
    request: dict[str, Any],
    *,
    timeout_seconds: float,
    follow_redirects: bool,
    cookies: dict[str, str] | None = None,
) -> tuple[httpx.Response, dict[str, str]]:
    """Send one request and return the whole answer and the cookies it left.

    Raises:
        NotAllowed: the address may not be reached.
        NetworkError: there was no answer; ``retryable`` unless trying again cannot help.
    """
    host = httpx.URL(request["url"]).host
    started = time.monotonic()
    try:
        async with env.http_client(
            timeout=timeout_seconds, follow_redirects=follow_redirects, cookies=cookies or {}
        ) as client:
            response: httpx.Response = await client.request(**request)
            left = {cookie.name: cookie.value or "" for cookie in client.cookies.jar}
    except httpx.TimeoutException as error:
        raise NetworkError(f"{host} did not answer within {timeout_seconds:g} s", code="network_timeout") from error
    except httpx.TooManyRedirects as error:
        raise NetworkError(f"{host} redirects in a circle", retryable=False) from error
    except httpx.HTTPError as error:
        raise NetworkError(f"{host} could not be reached: {str(error) or type(error).__name__}") from error
    milliseconds = round((time.monotonic() - started) * 1000)
    env.log(
        f"{request['method']} {host} answered {response.status_code} in {milliseconds} ms",
        status_code=response.status_code,
        duration_ms=milliseconds,
        bytes=len(response.content),
    )
    return response, left


def http_failure(response: httpx.Response, node: NodeCall) -> NetworkError:
    """Return the error that stands for an answer that is not a success."""
    retryable = response.status_code == 429 or response.status_code >= 500
    message = f"{response.request.method} {response.request.url.host} answered {_status_line(response)}"
    if response.has_redirect_location:
        message += f" and points to {response.headers['location'][:200]}; use that address in node “{node.name}”"
    error = NetworkError(message, code="http_status", retryable=retryable)
    error.retry_after_s = _retry_after(response.headers.get("retry-after", ""))
    return error


def _status_line(response: httpx.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}".strip()


def _retry_after(value: str) -> float | None:
    """Return the seconds that a Retry-After header asks for; it may be a number or a date."""
    if value.isascii() and value.strip().isdigit():
        return min(float(value), 86_400.0)
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), 86_400.0)


_COMMON_INPUTS = (
    Port(
        "Authorization Type",
        "SELECT",
        default="none",
        options=AUTHORIZATION_TYPES,
        handle=False,
        help="basic expects user:password, bearer a token.",
    ),
    Port("Authorization Value", "CREDENTIAL", variant="password", help="A credential, or text."),
    Port("Headers", "JSON", variant="json", placeholder='{"X-Source": "flow-builder"}'),
)


@register
class DeliverToWebhook(NodeExecutor):
    """Send a payload to a webhook."""

    description = NodeDescription(
        type="deliver_to_webhook",
        label="Deliver to Webhook",
        group="Deliver Results",
        credits=2,
        start=True,
        effect="write",
        weight="io",
        timeout_s=LONGEST_TIMEOUT_SECONDS + 20,
        summary="Sends a payload to an address; the receiver can tell repeats by the Idempotency-Key header.",
        subtitle="Webhook URL",
        inputs=(
            Port("Webhook URL", required=True, placeholder="https://example.com/hook"),
            Port("Payload", required=True, variant="textarea", placeholder='{"price": {{ nodes.shape.Result.price }}}'),
            Port("Content Type", "SELECT", default=JSON_TYPE, options=CONTENT_TYPES, handle=False),
            *_COMMON_INPUTS,
            Port("Method", "SELECT", default="POST", options=("POST", "PUT", "PATCH", "GET", "DELETE"), handle=False),
            Port("Timeout", "NUMBER", default=15, min=1, max=LONGEST_TIMEOUT_SECONDS, handle=False, help="Seconds."),
            Port(
                "Fail On Error",
                "BOOLEAN",
                default=True,
                handle=False,
                help="Off: an error answer does not fail the node; look at Delivery Status.",
            ),
            Port(
                "Signing Secret",
                "CREDENTIAL",
                variant="password",
                help="Signs “<X-Flowbuilder-Timestamp>.<body>” with HMAC-SHA256 into X-Flowbuilder-Signature.",
            ),
        ),
        outputs=(
            Port("Delivery Status"),
            Port("Response Body", help=f"The first {SHOWN_CHARACTERS} characters.", aliases=("Response",)),
            Port("Status Code", "NUMBER"),
        ),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Send once; the engine's node policy decides about further attempts."""
        inputs = self.inputs(node)
        url = checked_url(inputs, "Webhook URL")
        content_type = inputs.choice("Content Type")
        body = request_body(inputs, "Payload", content_type)
        headers = request_headers(inputs, env, content_type)
        if secret := inputs.text("Signing Secret"):
            timestamp = str(int(time.time()))
            digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
            headers |= {"X-Flowbuilder-Timestamp": timestamp, "X-Flowbuilder-Signature": f"sha256={digest}"}
        request = {"method": inputs.choice("Method"), "url": url, "headers": headers, "content": body}
        fail_on_error = inputs.boolean("Fail On Error")
        try:
            response, _ = await exchange(
                env, node, request, timeout_seconds=inputs.number("Timeout") or 15, follow_redirects=False
            )
        except NetworkError as error:
            if fail_on_error:
                raise
            env.log(str(error), level="error")
            return self._outputs(f"failed: {error}", "", None)
        if response.is_success:
            return self._outputs("success", response.text, response.status_code)
        failure = http_failure(response, node)
        if fail_on_error:
            raise failure
        env.log(str(failure), level="error")
        return self._outputs(f"failed: {_status_line(response)}", response.text, response.status_code)

    @staticmethod
    def _outputs(status: str, body: str, code: int | None) -> dict[str, Any]:
        shown = body[:SHOWN_CHARACTERS]
        return {"Delivery Status": status, "Response Body": shown, "Response": shown, "Status Code": code}


@register
class HttpRequest(NodeExecutor):
    """Send any HTTP request and hand on the answer."""

    description = NodeDescription(
        type="http_request",
        label="HTTP Request",
        group="Data Extraction",
        credits=1,
        start=True,
        effect="write",
        weight="io",
        timeout_s=LONGEST_TIMEOUT_SECONDS + 20,
        summary="Sends an HTTP request and hands on status, headers, cookies and body.",
        subtitle="URL",
        inputs=(
            Port("URL", required=True, placeholder="https://example.com/api/items"),
            Port(
                "Method",
                "SELECT",
                default="GET",
                options=("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"),
                handle=False,
            ),
            Port("Query", "JSON", variant="json", placeholder='{"page": 1}', help="Added to the URL."),
            Port("Body", "ANY", variant="textarea"),
            Port("Content Type", "SELECT", default=JSON_TYPE, options=CONTENT_TYPES, handle=False),
            *_COMMON_INPUTS,
            Port(
                "Cookies",
                "JSON",
                variant="json",
                help="Name and value of each cookie; or the Cookies of a node before.",
            ),
            Port("Timeout", "NUMBER", default=30, min=1, max=LONGEST_TIMEOUT_SECONDS, handle=False, help="Seconds."),
            Port("Follow Redirects", "BOOLEAN", default=True, handle=False),
            Port("Fail On Error", "BOOLEAN", default=True, handle=False, help="Off: error answers are outputs too."),
        ),
        outputs=(
            Port("Status Code", "NUMBER"),
            Port("Body"),
            Port("JSON", "JSON", help="The body as a value; nothing if it is not JSON."),
            Port("Headers", "JSON"),
            Port("Cookies", "JSON"),
            Port("URL", help="Where the answer came from, after redirects."),
        ),
    )

    def effect(self, node: NodeCall) -> Effect:
        """Return ``read`` for methods that change nothing on the other side."""
        return "read" if self.inputs(node).text("Method").upper() in READING_METHODS else "write"

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Send the request."""
        inputs = self.inputs(node)
        url = checked_url(inputs, "URL")
        method = inputs.choice("Method")
        has_body = inputs.value("Body") not in (None, "") and method not in READING_METHODS
        content_type = inputs.choice("Content Type")
        body = request_body(inputs, "Body", content_type) if has_body else b""
        headers = request_headers(inputs, env, content_type if has_body else None)
        if method in READING_METHODS:
            del headers["Idempotency-Key"]
        cookies = {name: as_text(value) for name, value in inputs.json_object("Cookies").items()}
        query = {name: as_text(value) for name, value in inputs.json_object("Query").items()}
        request: dict[str, Any] = {"method": method, "url": url, "headers": headers, "content": body}
        if query:
            request["url"] = str(httpx.URL(url).copy_merge_params(query))
        response, left = await exchange(
            env,
            node,
            request,
            timeout_seconds=inputs.number("Timeout") or 30,
            follow_redirects=inputs.boolean("Follow Redirects"),
            cookies=cookies,
        )
        if inputs.boolean("Fail On Error") and response.is_error:
            raise http_failure(response, node)
        text = response.text
        try:
            value = parse_json(text) if text.strip() else None
        except ValueError:
            value = None
        return {
            "Status Code": response.status_code,
            "Body": text,
            "JSON": value,
            "Headers": dict(response.headers),
            "Cookies": left,
            "URL": str(response.url),
        }
