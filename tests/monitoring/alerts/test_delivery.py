"""Messages arrive at a real mail server and a real web server, and a hostile one costs its time and no more."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from django.urls import reverse
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from monitoring.alerts import channels, delivery, wording
from monitoring.alerts.errors import Undelivered
from monitoring.models import Alert, AlertChannel

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("loopback")]


def channel_of(owner: Any, kind: str, address: str, secret: str | None = None) -> AlertChannel:
    return channels.save(owner, f"to {kind}", kind, address, secret)


def undelivered(channel: AlertChannel) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        delivery.send_test(channel)
    return caught.value


def content(owner: Any, **fields: Any) -> dict[str, Any]:
    alert = Alert(
        id=UUID(int=7), owner=owner, rule_name="a <rule> & more\r\nBcc: eve@example.com", kind="cost",
        severity="critical", value=12, threshold=10, message="12 credits <b>spent</b>", opened_at=datetime.fromtimestamp(0, UTC), **fields,
    )  # fmt: skip
    return wording.content_of(alert, "firing")


@pytest.mark.row("S2-58")
def test_a_webhook_gets_signed_json_with_a_key_that_is_the_same_on_every_attempt(
    alice: Any, httpserver: HTTPServer
) -> None:
    came: list[Request] = []

    def take(request: Request) -> Response:
        came.append(request)
        return Response("taken")

    httpserver.expect_request("/hook", "POST").respond_with_handler(take)
    channel = channel_of(alice, "webhook", httpserver.url_for("/hook"), "shared")
    message_id = uuid4()
    for _ in range(2):
        delivery.send(channel, content(alice), message_id)

    assert [request.headers["Idempotency-Key"] for request in came] == [str(message_id)] * 2
    body = came[0].get_data()
    signed = came[0].headers["X-Flowbuilder-Timestamp"].encode() + b"." + body
    expected = hmac.new(b"shared", signed, hashlib.sha256).hexdigest()
    assert came[0].headers["X-Flowbuilder-Signature"] == f"sha256={expected}"
    got = json.loads(body)
    assert (got["event"], got["alert"]["id"], got["alert"]["value"], got["alert"]["unit"]) == (
        "firing", str(UUID(int=7)), 12, "credits",
    )  # fmt: skip


@pytest.mark.row("S2-58")
def test_slack_gets_its_own_json_in_which_nothing_is_markup(alice: Any, httpserver: HTTPServer) -> None:
    came: list[Any] = []

    def take(request: Request) -> Response:
        came.append(request.get_json())
        return Response("ok")

    httpserver.expect_request("/services/T/B/key", "POST").respond_with_handler(take)
    delivery.send(channel_of(alice, "slack", httpserver.url_for("/services/T/B/key")), content(alice), uuid4())

    (got,) = came
    assert got["text"] == "*Critical: a &lt;rule&gt; &amp; more Bcc: eve@example.com*"
    (attachment,) = got["attachments"]
    assert "12 credits &lt;b&gt;spent&lt;/b&gt;" in attachment["text"]
    assert f"/admin/monitoring/alert/{UUID(int=7)}/change/|Open" in attachment["text"]


@pytest.mark.row("S2-58")
def test_a_mail_arrives_with_one_recipient_whatever_names_hold(alice: Any, mailbox: Any, settings: Any) -> None:
    settings.MAIL_FROM = "flow@example.com"
    message_id = uuid4()
    delivery.send(channel_of(alice, "email", "ops@example.com"), content(alice), message_id)

    (envelope,), (mail,) = mailbox.envelopes, mailbox.messages
    assert (envelope.mail_from, envelope.rcpt_tos) == ("flow@example.com", ["ops@example.com"])
    assert mail["Subject"] == "[Flow Builder] Critical: a <rule> & more Bcc: eve@example.com"
    assert (mail["Bcc"], mail["Auto-Submitted"]) == (None, "auto-generated")
    assert mail["Message-ID"] == f"<{message_id}@example.com>"
    text = mail.get_content()
    assert "12 credits <b>spent</b>" in text
    assert f"{settings.PUBLIC_URL}{reverse('admin:monitoring_alert_change', args=(UUID(int=7),))}" in text.split()


@pytest.mark.parametrize(("status", "final"), [(500, False), (503, False), (429, False), (404, True), (302, True)])
def test_what_a_server_answers_decides_whether_to_try_again(
    alice: Any, httpserver: HTTPServer, status: int, final: bool
) -> None:
    httpserver.expect_request("/secret-path").respond_with_data(status=status, headers={"Location": "/elsewhere"})
    error = undelivered(channel_of(alice, "webhook", httpserver.url_for("/secret-path")))

    assert (f"answered {status}" in str(error), error.final) == (True, final)
    assert "secret-path" not in str(error)
    assert len(httpserver.log) == 1, "it followed the redirect"


def test_addresses_inside_are_not_reached_without_leave(alice: Any, settings: Any, httpserver: HTTPServer) -> None:
    settings.EGRESS_ALLOW = []
    error = undelivered(channel_of(alice, "webhook", httpserver.url_for("/hook")))

    assert error.final
    assert "not allowed" in str(error)
    assert not httpserver.log


def test_mail_needs_a_server_that_takes_it(alice: Any, settings: Any, mailbox: Any) -> None:
    assert undelivered(channel_of(alice, "email", "unknown@example.com")).final
    assert not undelivered(channels.save(alice, "full", "email", "full@example.com")).final
    settings.MAIL_SERVER = None
    error = undelivered(channels.save(alice, "none", "email", "ops@example.com"))
    assert error.final
    assert "FLOWBUILDER_MAIL_URL" in str(error)


def test_a_channel_whose_key_is_lost_says_so(alice: Any, settings: Any) -> None:
    channel = channel_of(alice, "slack", "https://hooks.example.com/x")
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    error = undelivered(channel)
    assert error.final
    assert "FLOWBUILDER_CREDENTIAL_KEYS" in str(error)


@pytest.mark.parametrize(
    ("kind", "greeting"), [("webhook", b"HTTP/1.1 200 OK\r\nX-Slow: "), ("email", b"2"), ("email", b"220 hi\r\n2")]
)
def test_a_server_that_talks_for_ever_is_left_when_the_time_is_over(
    alice: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, endless: Any, kind: str, greeting: bytes
) -> None:
    port = endless(greeting)
    settings.MAIL_SERVER = {"host": "127.0.0.1", "port": port, "security": "none"}
    monkeypatch.setattr(delivery, "SECONDS", 1.0)
    address = "ops@example.com" if kind == "email" else f"http://127.0.0.1:{port}/"
    began = time.monotonic()
    error = undelivered(channel_of(alice, kind, address))

    assert not error.final
    assert "within 1 s" in str(error)
    assert time.monotonic() - began < 30, "each byte began its time anew"
