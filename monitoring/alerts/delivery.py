"""Sending one message to one channel, once, within a time that the other side cannot stretch."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from dataclasses import replace
from typing import Any, Final
from uuid import UUID, uuid4

import httpx

from executions import mail
from executions.egress import guarded_client
from executions.errors import NodeFailed
from executions.runtime import egress_policy, own_mail_server
from monitoring.alerts import channels, wording
from monitoring.alerts.errors import Undelivered
from monitoring.models import AlertChannel
from workflows.errors import CredentialError

SECONDS: Final = 20.0
"""How long one attempt may take."""
STEP_SECONDS: Final = 10.0
"""How long one step of it may take: to connect, to hear something."""
_AGAIN: Final = frozenset({408, 425, 429})
"""Answers below 500 that ask to come again."""


def send(channel: AlertChannel, content: dict[str, Any], message_id: UUID) -> None:
    """Send ``content``; returns when it was taken. Takes up to ``SECONDS``, and what resolving a name takes.

    Raises:
        Undelivered: it was not taken; the message says why, and never shows the address.
    """
    try:
        opened = channels.opened(channel)
        if channel.kind == AlertChannel.Kind.EMAIL:
            _send_mail(opened.address, content, message_id)
        else:
            asyncio.run(_post(channel.kind, opened, content, message_id))
    except NodeFailed as error:
        raise Undelivered(str(error), final=not error.retryable) from None
    except CredentialError as error:
        raise Undelivered(str(error), final=True) from None


def send_test(channel: AlertChannel) -> None:
    """Send a message that says that it is a test; as ``send``, and not again when it is not taken."""
    send(channel, wording.test_content(channel.name), uuid4())


def _send_mail(address: str, content: dict[str, Any], message_id: UUID) -> None:
    server = own_mail_server()
    if server is None:
        raise Undelivered("this installation has no mail server (FLOWBUILDER_MAIL_URL)", final=True)
    message = wording.mail(content, address, message_id)
    sender = message["From"].addresses[0].addr_spec
    bounded = replace(server, timeout_s=STEP_SECONDS, limit_s=SECONDS)
    mail.hand_in(None, bounded, message, sender, [address])  # of one recipient, a refusal is an error


async def _post(kind: str, opened: channels.Opened, content: dict[str, Any], message_id: UUID) -> None:
    body = json.dumps(wording.slack(content) if kind == AlertChannel.Kind.SLACK else content).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(message_id)}
    if opened.secret:
        timestamp = str(int(time.time()))
        digest = hmac.new(opened.secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers |= {"X-Flowbuilder-Timestamp": timestamp, "X-Flowbuilder-Signature": f"sha256={digest}"}
    host = httpx.URL(opened.address).host
    try:
        async with (
            asyncio.timeout(SECONDS),
            guarded_client(egress_policy(), timeout=STEP_SECONDS) as client,
            # The body of the answer says nothing to us, so it is not read.
            client.stream("POST", opened.address, headers=headers, content=body) as response,
        ):
            _judge(host, response)
    except (TimeoutError, httpx.TimeoutException):
        raise Undelivered(f"{host} did not answer within {SECONDS:g} s") from None
    except httpx.HTTPError as error:
        raise Undelivered(f"{host} could not be reached: {type(error).__name__}") from None


def _judge(host: str, response: httpx.Response) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    hint = " and points elsewhere; use that address" if response.has_redirect_location else ""
    raise Undelivered(f"{host} answered {status}{hint}", final=status < 500 and status not in _AGAIN)
