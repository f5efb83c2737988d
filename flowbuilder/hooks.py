"""Where webhooks come in: no login, no cookie, nothing but the signature counts.

Answers are JSON. Until the signature is right, they say nothing about the workflow.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Final
from urllib.parse import parse_qsl

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from executions import store
from executions.deliveries import note_accepted, note_refused, start_once
from executions.errors import Replayed, StartRefused
from executions.triggers import MAXIMUM_INPUT_BYTES
from flowbuilder import throttle
from flowbuilder.bodies import LARGEST_BYTES
from flowbuilder.rates import Rate, read_rate
from workflows import webhooks
from workflows.errors import DefinitionError, InsufficientCredits, WebhookError, WorkflowError
from workflows.models import Webhook
from workflows.strict import read_json, refuse_nul
from workflows.webhooks import DELIVERY_HEADER, SIGNATURE_HEADER, Signed

logger = logging.getLogger(__name__)

BAD_REQUESTS: Final = Rate(30, 60)
"""Requests without a right signature, per address, before the answer is 429."""
JSON, FORM, TEXT = "application/json", "application/x-www-form-urlencoded", "text/plain"
CONTENT_TYPES: Final = (JSON, FORM, TEXT)
SHOWN_HEADERS: Final = (
    "Content-Type", "User-Agent", "X-Request-Id", "X-Event-Type", "X-GitHub-Event", "X-Gitlab-Event",
)  # fmt: skip
"""The headers that workflows get to see. They are not signed."""
LONGEST_HEADER: Final = 500
MOST_FIELDS: Final = 1000


class Refused(Exception):
    """The answer to a request that starts nothing."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers
        self.code = ""


@csrf_exempt
def receive(request: HttpRequest, token: str, test: bool = False) -> HttpResponse:
    """Start the workflow of a webhook: 202 with the execution, or why not.

    400 a body that cannot be read, 401 the signature, 404 no such webhook, 405 the method, 409 the workflow takes no
    starts, 413 and 415 the body, 429 too often, 503 the database is away.
    """
    try:
        return _received(request, token, test)
    except Refused as refusal:
        body = {"detail": refusal.detail, **({"code": refusal.code} if refusal.code else {})}
        return _answer(refusal.status, body, **refusal.headers)
    except DatabaseError:
        logger.exception("a webhook could not be taken; its sender is told to come again")
        return _answer(503, {"detail": "not now; come again"}, Retry_After="5")


def _received(request: HttpRequest, token: str, test: bool) -> HttpResponse:
    webhook = webhooks.find(token)
    if webhook is None:
        raise _bad(request, Refused(404, "not found"))
    if request.method not in webhook.methods:
        raise Refused(405, "this webhook does not take that method", Allow=", ".join(webhook.methods))
    kind = _content_type(request)
    body = _body(request)
    signed = _verified(request, webhook, body)
    if wait := throttle.take(f"webhook:{webhook.pk}", read_rate(settings.WEBHOOK_RATE)):
        raise _too_many(wait)
    payload = {
        "body": _read(kind, body),
        "headers": {
            name.lower(): request.headers[name][:LONGEST_HEADER] for name in SHOWN_HEADERS if name in request.headers
        },
        "method": request.method,
        "webhook": webhook.name,
        "timestamp": signed.timestamp,
        "delivery": request.headers.get(DELIVERY_HEADER),
    }
    return _start(request, webhook, signed, payload, test)


def _content_type(request: HttpRequest) -> str:
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Refused(415, "compressed bodies are not taken; send it as it is")
    if request.content_type not in CONTENT_TYPES:
        raise Refused(415, f"the content type is one of {', '.join(CONTENT_TYPES)}")
    if (request.content_params or {}).get("charset", "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Refused(415, "the body is UTF-8; name no other charset")
    return str(request.content_type)


def _body(request: HttpRequest) -> bytes:
    with contextlib.suppress(RequestDataTooBig):
        if len(request.body) <= LARGEST_BYTES:
            return request.body
    raise Refused(413, f"the body is larger than {LARGEST_BYTES:,} bytes")


def _verified(request: HttpRequest, webhook: Webhook, body: bytes) -> Signed:
    try:
        signed = webhooks.verify(webhook, request.headers.get(SIGNATURE_HEADER, ""), body)
    except WebhookError as error:
        raise _bad(request, Refused(401, str(error)), webhook) from error
    except WorkflowError as error:  # its secret cannot be opened: told to whoever runs this, not to senders
        logger.error("webhook %s: %s", webhook.pk, error)
        raise Refused(503, "not now; come again", Retry_After="60") from error
    if signed is None:
        detail = f"the signature is absent or wrong; the header {SIGNATURE_HEADER} is t=<seconds>,v1=<hex>"
        raise _bad(request, Refused(401, detail), webhook)
    return signed


def _bad(request: HttpRequest, refusal: Refused, webhook: Webhook | None = None) -> Refused:
    """Return ``refusal``, or that its address has had too many of them."""
    wait = throttle.take(f"bad-webhook:{throttle.address_of(request)}", BAD_REQUESTS)
    if wait:
        return _too_many(wait)
    if webhook is not None:
        note_refused(webhook)
    return refusal


def _too_many(seconds: int) -> Refused:
    refusal = Refused(429, f"too many requests; come again in {seconds} s", Retry_After=str(seconds))
    refusal.code = "rate_limited"
    return refusal


def _read(kind: str, body: bytes) -> Any:
    """Return a body as JSON; whatever its keys are called, it is nothing but data."""
    try:
        if kind == JSON:
            value = read_json(body)
        elif kind == TEXT:
            value = body.decode()
        else:
            value = _form(body.decode())
        refuse_nul(value)
    except (DefinitionError, ValueError) as error:
        what = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise Refused(400, f"the body cannot be read: {what}") from error
    return value


def _form(text: str) -> dict[str, Any]:
    """Return the fields of a form: texts, and lists of texts where a name is there more than once."""
    fields: dict[str, list[str]] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS):
        fields.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _start(request: HttpRequest, webhook: Webhook, signed: Signed, payload: Any, test: bool) -> HttpResponse:
    workflow = webhook.workflow
    if len(store.to_json(payload)) > MAXIMUM_INPUT_BYTES:
        raise Refused(413, f"as JSON with its headers the request is larger than {MAXIMUM_INPUT_BYTES:,} bytes")
    if not workflow.owner.is_active:
        raise Refused(409, "the owner of the workflow is switched off")
    try:
        execution_id = start_once(webhook, signed, payload, delivery=payload["delivery"], test=test)
    except Replayed as error:
        raise _bad(request, Refused(401, str(error)), webhook) from error
    except InsufficientCredits as error:
        refusal = Refused(409, "the owner of the workflow has too few credits")
        refusal.code = error.code
        raise refusal from error
    except (StartRefused, WorkflowError) as error:
        raise Refused(409, str(error)) from error
    try:
        note_accepted(webhook)
    except DatabaseError:  # it is started: that it is not counted is no reason to be sent again
        logger.exception("a request to webhook %s started execution %s and was not counted", webhook.pk, execution_id)
    return _answer(202, {"execution_id": str(execution_id)})


def _answer(status: int, body: dict[str, Any], **headers: str) -> HttpResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JsonResponse(body, status=status, headers={"Cache-Control": "no-store", **named})
