"""Nodes that write to people: mail and text messages."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import getaddresses, localtime
from typing import Any, NoReturn

import httpx

from executions.errors import NodeFailed
from executions.mail import MailServer, Security
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from executions.nodes.deliver import checked_url, exchange, http_failure
from executions.nodes.inputs import Inputs, as_text, dump_json
from workflows.kinds import ACCOUNT_SID, PHONE, SHORTEST_TOKEN, is_sender
from workflows.registry import NodeDescription, Port, register

MOST_RECIPIENTS = 100
MOST_ATTACHMENT_BYTES = 10 * 1024 * 1024
SSL_PORT = 465
TWILIO = "https://api.twilio.com"


@register
class EmailDelivery(NodeExecutor):
    """Send a mail."""

    description = NodeDescription(
        type="email_delivery",
        label="Send Email",
        group="Deliver Results",
        credits=3,
        start=True,
        effect="write",
        weight="io",
        timeout_s=150,
        summary="Sends a mail by SMTP; its Message-ID is the same on every retry.",
        subtitle="To Email",
        inputs=(
            Port(
                "SMTP Server", placeholder="smtp.example.com",
                help="Empty: the mail server of this installation (FLOWBUILDER_MAIL_URL).",
            ),
            Port("SMTP Port", "NUMBER", default=587, min=1, max=65535, handle=False, help="465 means SSL at once."),
            Port("Username"),
            Port(
                "Password", "CREDENTIAL", variant="password", handle=False,
                kinds=("smtp", "password", "basic", "api_key", "custom"),
            ),
            Port("From Email", required=True, placeholder="Shop <shop@example.com>"),
            Port("To Email", required=True, help="One or more addresses with commas between them."),
            Port("Subject", required=True),
            Port("Body", required=True, variant="textarea"),
            Port("Body Type", "SELECT", default="plain", options=("plain", "html"), handle=False),
            Port("CC Email", help="Addresses with commas between them."),
            Port("BCC Email", help="Addresses that no recipient sees."),
            Port("Reply To"),
            Port(
                "Attachments", "LIST", variant="json",
                placeholder='[{"filename": "data.json", "content": "{{ nodes.shape.Result | json }}"}]',
                help='Each has a "filename" and a "content", and may have a "content_type", and "encoding": "base64".',
            ),
            Port("Use TLS", "BOOLEAN", default=True, handle=False, help="Off: the mail and the login go as plain text."),
            Port("Timeout", "NUMBER", default=30, min=1, max=120, handle=False, help="Seconds for one step."),
        ),
        outputs=(
            Port("Delivery Status"),
            Port("Message ID"),
            Port("Refused", "JSON", help="Recipients that the server did not take, with its reasons."),
        ),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Send once; the node's policy decides about further attempts."""
        inputs = self.inputs(node)
        senders = _addresses(inputs, "From Email", most=1)
        to, copies, hidden = (_addresses(inputs, name) for name in ("To Email", "CC Email", "BCC Email"))
        recipients = list(dict.fromkeys(address.addr_spec for address in (*to, *copies, *hidden)))
        for name, given in (("From Email", senders), ("To Email", to)):
            if not given:
                inputs.refuse(name, "must be an address such as ann@example.com")
        sender = senders[0]
        if len(recipients) > MOST_RECIPIENTS:
            inputs.refuse("To Email", f"and its copies have {len(recipients)} addresses; the most is {MOST_RECIPIENTS}")
        message = _message(inputs, env, sender, to, copies)
        refused = await env.send_mail(_server(inputs), message, sender.addr_spec, recipients)
        for address, reason in refused.items():
            env.log(f"the server does not take mail for {address}: {reason}", level="warning")
        taken = len(recipients) - len(refused)
        whole = f"{len(recipients)} recipient{'' if len(recipients) == 1 else 's'}"
        env.log(f"sent to {taken} of {whole}" if refused else f"sent to {whole}")
        status = "partly sent" if refused else "sent"
        return {"Delivery Status": status, "Message ID": str(message["Message-ID"]), "Refused": refused}


def _server(inputs: Inputs) -> MailServer | None:
    """Return the server that the inputs name, or None for that of the installation."""
    host = inputs.text("SMTP Server").strip()
    if not host:
        return None
    if re.search(r"[\s/@]", host):
        inputs.refuse("SMTP Server", f'must be a host such as smtp.example.com, not "{host[:100]}"')
    port = int(inputs.number("SMTP Port") or 587)
    encrypted: Security = "ssl" if port == SSL_PORT else "starttls"
    return MailServer(
        host, port, inputs.text("Username"), inputs.text("Password"),
        encrypted if inputs.boolean("Use TLS") else "none", inputs.number("Timeout") or 30,
    )  # fmt: skip


def _addresses(inputs: Inputs, name: str, most: int = MOST_RECIPIENTS) -> list[Address]:
    """Return the addresses in an input, which may be a list, or a text with commas."""
    value = inputs.value(name)
    texts = [as_text(one) for one in value] if isinstance(value, list) else [inputs.text(name)]
    if any(re.search(r"[\x00-\x1f\x7f]", text.strip()) for text in texts):
        inputs.refuse(name, "must be one line of addresses such as ann@example.com")
    found = []
    for shown, spec in getaddresses([text for text in texts if text.strip()]):
        try:
            address = Address(shown, addr_spec=spec)
        except (ValueError, IndexError):
            address = Address()
        if not address.username or "." not in f"{address.domain}.":
            inputs.refuse(name, f'must hold addresses such as ann@example.com, not "{(spec or texts[0])[:100]}"')
        found.append(address)
    if len(found) > most:
        inputs.refuse(name, f"has {len(found)} addresses; the most is {most}")
    return found


def _message(
    inputs: Inputs, env: Environment, sender: Address, to: list[Address], copies: list[Address]
) -> EmailMessage:
    message = EmailMessage()
    subject = inputs.text("Subject")
    if re.search(r"[\r\n\x00]", subject):
        inputs.refuse("Subject", "must be one line")
    message["Subject"], message["From"], message["To"] = subject, sender, to
    if copies:
        message["Cc"] = copies
    if answers := _addresses(inputs, "Reply To"):
        message["Reply-To"] = answers
    message["Date"] = localtime()
    identity = hashlib.sha256(env.idempotency_key.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{identity}@{sender.domain}>"
    message.set_content(inputs.text("Body").replace("\x00", ""), subtype=inputs.choice("Body Type"))
    for content, (maintype, subtype), name in _files(inputs):
        message.add_attachment(content, maintype=maintype, subtype=subtype, filename=name)
    return message


def _files(inputs: Inputs) -> list[tuple[bytes, tuple[str, str], str]]:
    given = inputs.json("Attachments") or []
    if not isinstance(given, list):
        inputs.refuse("Attachments", "must be a list")
    files: list[tuple[bytes, tuple[str, str], str]] = []
    size = 0
    for number, one in enumerate(given, 1):
        if not isinstance(one, dict) or not as_text(one.get("filename") or "").strip() or "content" not in one:
            inputs.refuse("Attachments", f'has no "filename" or no "content" in file {number}')
        content = _content(inputs, number, one)
        size += len(content)
        kind = as_text(one.get("content_type") or "application/octet-stream").lower()
        if not re.fullmatch(r"[a-z0-9.+-]+/[a-z0-9.+-]+", kind):
            inputs.refuse("Attachments", f'has no content type such as "text/csv" in file {number}')
        name = re.sub(r"[\x00-\x1f\x7f/\\]", "_", as_text(one["filename"]))[:200]
        maintype, subtype = kind.split("/")
        if maintype in ("multipart", "message"):
            maintype, subtype = "application", "octet-stream"
        files.append((content, (maintype, subtype), name))
    if size > MOST_ATTACHMENT_BYTES:
        inputs.refuse("Attachments", f"has {size:,} bytes; the most is {MOST_ATTACHMENT_BYTES:,}")
    return files


def _content(inputs: Inputs, number: int, one: dict[str, Any]) -> bytes:
    if as_text(one.get("encoding") or "").lower() != "base64":
        return as_text(one["content"]).encode()
    try:
        return base64.b64decode(as_text(one["content"]), validate=True)
    except (binascii.Error, ValueError):
        inputs.refuse("Attachments", f"is no base64 in file {number}")


@register
class SendSms(NodeExecutor):
    """Send a text message to a phone."""

    description = NodeDescription(
        type="send_sms",
        label="Send SMS",
        group="Deliver Results",
        credits=2,
        start=True,
        effect="write",
        weight="io",
        timeout_s=90,
        summary="Sends a text message through Twilio, a gateway that takes JSON, or only into the log.",
        subtitle="To Number",
        inputs=(
            Port(
                "Provider", "SELECT", default="twilio", options=("twilio", "http", "log"), handle=False,
                help="http: POST of from, to and text as JSON to Address; log: nothing is sent.",
            ),
            Port("Twilio Account SID", aliases=("Account SID",), handle=False, placeholder="AC…"),
            Port(
                "Twilio Auth Token", "CREDENTIAL", variant="password", aliases=("Auth Token",), handle=False,
                kinds=("twilio", "api_key", "bearer", "password", "custom"),
                help="With the provider http: sent as a bearer token.",
            ),
            Port("From Number", aliases=("From Phone",), required=True, placeholder="+491701234567"),
            Port("To Number", aliases=("To Phone",), required=True, placeholder="+491701234567"),
            Port("Message Content", aliases=("Message",), required=True, variant="textarea"),
            Port(
                "Address", placeholder=TWILIO, handle=False,
                help="Of the provider; http needs one, twilio has its own.",
            ),
            Port("Timeout", "NUMBER", default=20, min=1, max=60, handle=False, help="Seconds."),
        ),
        outputs=(Port("SMS Status", aliases=("Delivery Status",)), Port("Message SID")),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Send once; the node's policy decides about further attempts."""
        inputs = self.inputs(node)
        sender, to = inputs.text("From Number").strip(), inputs.text("To Number").strip()
        if not is_sender(sender):
            inputs.refuse("From Number", _phone_wanted(sender))
        if not PHONE.fullmatch(to):
            inputs.refuse("To Number", _phone_wanted(to))
        text = inputs.text("Message Content")
        if not text.strip() or len(text) > 1600:
            inputs.refuse("Message Content", f"must have 1 to 1600 characters, not {len(text)}")
        match inputs.choice("Provider"):
            case "twilio":
                status, sid = await _twilio(inputs, node, env, {"From": sender, "To": to, "Body": text})
            case "http":
                status, sid = await _gateway(inputs, node, env, {"from": sender, "to": to, "text": text})
            case _:
                env.log(f"not sent, only logged: to {to} from {sender}: {text}")
                status, sid = "logged", env.idempotency_key
        return {"SMS Status": status, "Delivery Status": status, "Message SID": sid}


def _phone_wanted(given: str) -> str:
    return f'must be a number with its country such as +491701234567 (E.164), not "{given[:40]}"'


async def _twilio(inputs: Inputs, node: NodeCall, env: Environment, form: dict[str, str]) -> tuple[str, str]:
    account, token = inputs.text("Twilio Account SID").strip(), inputs.text("Twilio Auth Token").strip()
    if not ACCOUNT_SID.fullmatch(account):
        inputs.refuse("Twilio Account SID", 'must begin with "AC"; it is on the first page of Twilio')
    if len(token) < SHORTEST_TOKEN:
        inputs.refuse("Twilio Auth Token", f"must have at least {SHORTEST_TOKEN} characters")
    address = checked_url(inputs, "Address").rstrip("/") if inputs.text("Address").strip() else TWILIO
    url = f"{address}/2010-04-01/Accounts/{account}/Messages.json"
    secret = base64.b64encode(f"{account}:{token}".encode()).decode()
    headers = {"Authorization": f"Basic {secret}", "Idempotency-Key": env.idempotency_key}
    request = {"method": "POST", "url": url, "headers": headers, "data": form}
    response, _ = await exchange(
        env, node, request, timeout_seconds=inputs.number("Timeout") or 20, follow_redirects=False
    )
    answer = _object(response)
    if not response.is_success:
        _refuse_twilio(response, node, answer)
    return str(answer.get("status") or "sent"), str(answer.get("sid") or "")


def _refuse_twilio(response: httpx.Response, node: NodeCall, answer: dict[str, Any]) -> NoReturn:
    said = f": {answer['message']}" if isinstance(answer.get("message"), str) else ""
    hints = {
        401: "Twilio does not know this account SID with this auth token",
        400: "Twilio refuses the message; numbers need their country (E.164)",
    }
    hint = hints.get(response.status_code)
    if hint is None:
        raise http_failure(response, node)
    raise NodeFailed(f"{hint}{said}", code="http_status", retryable=False)


async def _gateway(inputs: Inputs, node: NodeCall, env: Environment, message: dict[str, str]) -> tuple[str, str]:
    headers = {"Content-Type": "application/json", "Idempotency-Key": env.idempotency_key}
    if token := inputs.text("Twilio Auth Token").strip():
        headers["Authorization"] = f"Bearer {token}"
    request = {
        "method": "POST", "url": checked_url(inputs, "Address"), "headers": headers,
        "content": dump_json(message).encode(),
    }  # fmt: skip
    response, _ = await exchange(
        env, node, request, timeout_seconds=inputs.number("Timeout") or 20, follow_redirects=False
    )
    if not response.is_success:
        raise http_failure(response, node)
    answer = _object(response)
    return str(answer.get("status") or "sent"), str(answer.get("id") or "")


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
