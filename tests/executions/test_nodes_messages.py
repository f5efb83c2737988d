"""The nodes that write to people, against a real mail server and real HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from executions.egress import EgressPolicy
from executions.errors import NetworkError, NodeFailed, NodeInputError, NotAllowed
from executions.models import NodeRun
from recordings.models import Event
from tests.conftest import node
from tests.executions.conftest import Site, TestEnvironment
from tests.executions.smtp import MakeServer, mail_server
from workflows import credentials

# The mail server of the tests says so when it takes logins without encryption.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

MAIL = {"From_Email": "Shop <shop@example.com>", "To_Email": "ann@example.com", "Subject": "Prices", "Body": "9 €"}

MAIL_INPUTS: dict[str, Any] = {name.replace("_", " "): value for name, value in MAIL.items()}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MakeServer]:
    """Start mail servers on loopback."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(mail_server(tmp_path, *args, **options))


def env_for(port: int) -> TestEnvironment:
    return TestEnvironment(EgressPolicy([f"127.0.0.1:{port}"]))


async def send(port: int, **inputs: Any) -> dict[str, Any]:
    given = {"SMTP_Server": "127.0.0.1", "SMTP_Port": port, "Use_TLS": False, **MAIL, **inputs}
    return await env_for(port).run("email_delivery", **given)


# --------------------------------------------------------------------------- mail


@pytest.mark.row("S2-05b")
async def test_a_mail_arrives_with_everything_that_was_given(server: MakeServer) -> None:
    port, box = server()

    outputs = await send(
        port, To_Email="ann@example.com, Bob <bob@example.com>", CC_Email="carl@example.com", Reply_To="help@example.com",
        BCC_Email="boss@example.com", Subject="Preise für März", Body="<b>9 €</b>", Body_Type="html",
        Attachments=[
            {"filename": "data.json", "content": {"price": 9}, "content_type": "application/json"},
            {"filename": "../a\r\nb.bin", "content": base64.b64encode(b"\x00\xff").decode(), "encoding": "base64"},
        ],
    )  # fmt: skip

    message, envelope = box.messages[0], box.envelopes[0]
    assert envelope.rcpt_tos == ["ann@example.com", "bob@example.com", "carl@example.com", "boss@example.com"]
    assert envelope.mail_from == "shop@example.com"
    assert (message["To"], message["Cc"]) == ("ann@example.com, Bob <bob@example.com>", "carl@example.com")
    assert message["Bcc"] is None
    assert b"boss@example.com" not in (envelope.content or b"")
    assert (message["Subject"], message["Reply-To"]) == ("Preise für März", "help@example.com")
    assert message["From"] == "Shop <shop@example.com>"
    body = message.get_body(("html",))
    assert body is not None
    assert body.get_content().strip() == "<b>9 €</b>"
    files = [(part.get_filename(), part.get_content_type(), part.get_content()) for part in message.iter_attachments()]
    assert files == [
        ("data.json", "application/json", b'{"price": 9}'), (".._a__b.bin", "application/octet-stream", b"\x00\xff"),
    ]  # fmt: skip
    assert outputs == {"Delivery Status": "sent", "Message ID": message["Message-ID"], "Refused": {}}


async def test_every_attempt_has_the_same_message_id(server: MakeServer) -> None:
    port, box = server()

    await send(port)
    await send(port)

    first, second = (message["Message-ID"] for message in box.messages)
    assert first == second
    assert first.endswith("@example.com>")


@pytest.mark.parametrize("security", ["starttls", "ssl"])
async def test_login_and_mail_are_encrypted(
    server: MakeServer, security: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port, box = server(security, with_login=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "mail.pem"))
    monkeypatch.setattr("executions.nodes.messages.SSL_PORT", port if security == "ssl" else 465)

    await send(port, Use_TLS=True, Username="shop", Password="s3cret-word")

    assert box.messages[0]["Subject"] == "Prices"


@pytest.mark.parametrize("security", ["starttls", "ssl"])
async def test_a_server_that_nobody_vouches_for_gets_nothing(
    server: MakeServer, security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, box = server(security, with_login=True)
    monkeypatch.setattr("executions.nodes.messages.SSL_PORT", port if security == "ssl" else 465)

    with pytest.raises(NodeFailed, match=r"could not be trusted.*self-signed") as caught:
        await send(port, Use_TLS=True, Username="shop", Password="s3cret-word")

    assert (caught.value.code, caught.value.retryable) == ("mail_tls", False)
    assert not box.envelopes


async def test_a_server_without_encryption_is_not_spoken_to_in_plain_text_by_itself(server: MakeServer) -> None:
    port, box = server()

    with pytest.raises(NodeFailed, match="STARTTLS") as caught:
        await send(port, Use_TLS=True)

    assert caught.value.code == "mail_tls"
    assert not box.envelopes


async def test_a_wrong_password_is_told_and_not_tried_again(server: MakeServer) -> None:
    port, _ = server(with_login=True)

    with pytest.raises(NodeFailed, match='refused the login of "shop"') as caught:
        await send(port, Username="shop", Password="wrong-password")

    assert (caught.value.code, caught.value.retryable) == ("mail_auth", False)


async def test_who_is_refused_is_told_and_the_others_get_the_mail(server: MakeServer) -> None:
    port, box = server()

    outputs = await send(port, To_Email="ann@example.com, unknown@example.com")

    assert outputs["Delivery Status"] == "partly sent"
    assert outputs["Refused"] == {"unknown@example.com": "550 5.1.1 no such mailbox"}
    assert box.envelopes[0].rcpt_tos == ["ann@example.com"]


@pytest.mark.parametrize(("to", "retryable"), [("unknown@example.com", False), ("full@example.com", True)])
async def test_a_mail_for_nobody_fails_and_may_be_tried_again_when_the_server_says_so(
    server: MakeServer, to: str, retryable: bool
) -> None:
    port, _ = server()

    with pytest.raises(NodeFailed, match=to) as caught:
        await send(port, To_Email=to)

    assert (caught.value.code, caught.value.retryable) == ("mail_refused", retryable)


async def test_a_busy_server_is_asked_again(server: MakeServer) -> None:
    port, box = server()
    box.busy = "451 4.3.0 come again later"

    with pytest.raises(NodeFailed, match="come again later") as caught:
        await send(port)

    assert caught.value.retryable


async def test_a_server_that_is_away_is_named(unused_tcp_port: int) -> None:
    with pytest.raises(NetworkError, match=f"127.0.0.1:{unused_tcp_port} could not be reached"):
        await send(unused_tcp_port)


async def test_mail_goes_only_where_nodes_may_go(server: MakeServer) -> None:
    port, box = server()

    with pytest.raises(NotAllowed, match="FLOWBUILDER_EGRESS_ALLOW"):
        await TestEnvironment(EgressPolicy()).run(
            "email_delivery", SMTP_Server="localhost", SMTP_Port=port, Use_TLS=False, **MAIL
        )

    assert not box.envelopes


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("To_Email", "nobody", "addresses such as"),
        ("To_Email", "", "address"),
        ("To_Email", "a@example.com\r\nBcc: b@example.com", "one line"),
        ("To_Email", ",".join(f"a{n}@example.com" for n in range(101)), "the most is 100"),
        ("From_Email", "a@example.com, b@example.com", "the most is 1"),
        ("From_Email", " ", '"From Email".* must be an address'),
        ("From_Email", [], '"From Email".* must be an address'),
        ("Subject", "Prices\r\nBcc: b@example.com", "one line"),
        ("SMTP_Server", "smtp://example.com", "must be a host"),
        ("Attachments", {"filename": "a"}, "must be a list"),
        ("Attachments", [{"filename": "a"}], "in file 1"),
        ("Attachments", [{"filename": "a", "content": "%", "encoding": "base64"}], "no base64"),
        ("Attachments", [{"filename": "a", "content": "", "content_type": "text"}], "content type"),
        ("Attachments", [{"filename": "a", "content": "x" * (10 * 1024 * 1024 + 1)}], "the most is 10,485,760"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anybody_is_asked(
    unused_tcp_port: int, name: str, value: Any, message: str
) -> None:
    with pytest.raises(NodeInputError, match=message):
        await send(unused_tcp_port, **{name: value})


@pytest.fixture
def installed(server: MakeServer, settings: Any) -> Any:
    """The installation's own mail server, which no list of nodes allows."""
    port, box = server(with_login=True)
    settings.MAIL_SERVER = {
        "host": "127.0.0.1", "port": port, "username": "shop", "password": "s3cret-word", "security": "none",
    }  # fmt: skip
    settings.EGRESS_ALLOW = []
    return box


def test_a_node_that_names_no_server_uses_that_of_the_installation(run: Callable[..., Any], installed: Any) -> None:
    execution = run([node("mail", "email_delivery", **MAIL_INPUTS)])

    assert execution.status == "completed", execution.error
    assert installed.messages[0]["Subject"] == "Prices"
    call = json.loads(Event.objects.get(execution_id=execution.pk, type="external_call").data)
    assert (call["method"], call["error"]) == ("SEND", None)
    assert call["url"].startswith("smtp://127.0.0.1:")
    assert call["bytes"] > 100
    lines = Event.objects.filter(execution_id=execution.pk, type="log")
    assert "sent to 1 recipient" in [json.loads(line.data)["message"] for line in lines]


def test_the_password_of_the_installation_is_not_told_even_when_its_server_tells_it(
    run: Callable[..., Any], installed: Any, settings: Any
) -> None:
    settings.MAIL_SERVER = {**settings.MAIL_SERVER, "password": "old-s3cret"}

    execution = run([node("mail", "email_delivery", **MAIL_INPUTS)])

    assert (execution.error_code, execution.status) == ("mail_auth", "failed")
    stored = [execution.error, *Event.objects.values_list("data", flat=True)]
    assert not [text for text in stored if "old-s3cret" in text]
    assert any("refused the login" in text for text in stored)


def test_without_any_server_the_node_says_what_to_do(run: Callable[..., Any], settings: Any) -> None:
    settings.MAIL_SERVER = None

    execution = run([node("mail", "email_delivery", **MAIL_INPUTS)])

    assert execution.error_code == "invalid_input"
    assert "FLOWBUILDER_MAIL_URL" in execution.error


def test_a_stored_mail_account_is_used_and_never_shown(
    run: Callable[..., Any], server: MakeServer, settings: Any, alice: Any
) -> None:
    port, box = server(with_login=True)
    settings.EGRESS_ALLOW = [f"127.0.0.1:{port}"]
    fields = {"host": "127.0.0.1", "port": str(port), "username": "shop", "password": "s3cret-word"}
    credentials.save(alice, "mail", "smtp", fields)
    account: dict[str, Any] = {
        "SMTP Server": {"$credential": "mail", "field": "host"}, "SMTP Port": {"$credential": "mail", "field": "port"},
        "Username": {"$credential": "mail", "field": "username"}, "Password": {"$credential": "mail"}, "Use TLS": False,
    }  # fmt: skip

    execution = run([node("mail", "email_delivery", **{**account, **MAIL_INPUTS})])

    assert execution.status == "completed", execution.error
    assert len(box.messages) == 1
    stored = [*Event.objects.values_list("data", flat=True), *NodeRun.objects.values_list("outputs", flat=True)]
    assert not [text for text in stored if "s3cret-word" in text]


# --------------------------------------------------------------------------- text messages

SMS = {
    "Twilio_Account_SID": "AC0123456789", "Twilio_Auth_Token": "0123456789abcdef", "From_Number": "+491701234567",
    "To_Number": "+491707654321", "Message_Content": "9 € only",
}  # fmt: skip


class Twilio:
    """Twilio's address for messages on the test site."""

    def __init__(self, site: Site) -> None:
        self.site, self.path = site, "/2010-04-01/Accounts/AC0123456789/Messages.json"

    def answer(self, status: int, content: Any) -> None:
        self.site.answers_at[self.path] = (status, json.dumps(content).encode())


@pytest.fixture
def twilio(site: Site) -> Twilio:
    return Twilio(site)


@pytest.mark.row("S2-05b")
async def test_a_text_message_goes_to_twilio_as_it_asks_for_it(twilio: Twilio, site_env: TestEnvironment) -> None:
    twilio.answer(201, {"sid": "SM1", "status": "queued"})

    outputs = await site_env.run("send_sms", Address=twilio.site.url, **SMS)

    request = twilio.site.requests[0]
    assert (request["method"], request["path"]) == ("POST", twilio.path)
    assert parse_qs(request["body"].decode()) == {
        "From": ["+491701234567"], "To": ["+491707654321"], "Body": ["9 € only"],
    }  # fmt: skip
    secret = base64.b64encode(b"AC0123456789:0123456789abcdef").decode()
    assert request["headers"]["authorization"] == f"Basic {secret}"
    assert request["headers"]["idempotency-key"] == "e1:n1:0"
    assert outputs == {"SMS Status": "queued", "Delivery Status": "queued", "Message SID": "SM1"}
    assert "0123456789abcdef" not in site_env.text()


async def test_names_of_the_documentation_are_read_too(twilio: Twilio, site_env: TestEnvironment) -> None:
    twilio.answer(201, {"sid": "SM1", "status": "queued"})
    named = {
        "Account SID": "AC0123456789", "Auth Token": "0123456789abcdef", "From Phone": "+491701234567",
        "To Phone": "+491707654321", "Message": "9 € only", "Address": twilio.site.url,
    }  # fmt: skip

    assert (await site_env.run_named("send_sms", named))["Message SID"] == "SM1"


@pytest.mark.parametrize(
    ("status", "message", "retryable"),
    [
        (401, "does not know this account SID", False),
        (400, r"E\.164.*number is not valid", False),
        (429, "answered 429", True),
        (503, "answered 503", True),
    ],
)
async def test_what_twilio_says_is_told(
    twilio: Twilio, site_env: TestEnvironment, status: int, message: str, retryable: bool
) -> None:
    twilio.answer(status, {"message": "number is not valid"})

    with pytest.raises(NodeFailed, match=message) as caught:
        await site_env.run("send_sms", Address=twilio.site.url, **SMS)

    assert caught.value.retryable is retryable
    assert "0123456789abcdef" not in str(caught.value)


async def test_another_gateway_gets_json_with_a_bearer_token(site: Site, site_env: TestEnvironment) -> None:
    site.answer(200, b'{"id": 7, "status": "accepted"}')

    outputs = await site_env.run("send_sms", Provider="http", **{**SMS, "Address": f"{site.url}/answer"})

    request = site.requests[0]
    assert json.loads(request["body"]) == {"from": "+491701234567", "to": "+491707654321", "text": "9 € only"}
    assert request["headers"]["authorization"] == "Bearer 0123456789abcdef"
    assert (outputs["SMS Status"], outputs["Message SID"]) == ("accepted", "7")


@pytest.mark.parametrize("address", [None, " "])
async def test_another_gateway_without_an_address_is_refused_and_twilio_gets_nothing(
    env: TestEnvironment, address: str | None
) -> None:
    with pytest.raises(NodeInputError, match=r'"Address".* must be a whole address'):
        await env.run("send_sms", Provider="http", Address=address, **SMS)


class Nowhere(EgressPolicy):
    """Lets nothing out, and says where it was to go."""

    async def acheck(self, host: str, port: int) -> Any:
        raise NotAllowed(f"{host}:{port}")


@pytest.mark.parametrize("address", [None, ""])
async def test_twilio_needs_no_address(address: str | None) -> None:
    with pytest.raises(NotAllowed, match=r"api\.twilio\.com:443"):
        await TestEnvironment(Nowhere()).run("send_sms", Address=address, **SMS)


async def test_the_log_takes_messages_that_nobody_is_to_get(site: Site, site_env: TestEnvironment) -> None:
    outputs = await site_env.run("send_sms", Provider="log", Address=site.url, **SMS)

    assert outputs["SMS Status"] == "logged"
    assert "9 € only" in site_env.text()
    assert not site.requests


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("To_Number", "0170 1234567", "E.164"),
        ("From_Number", "not a number at all", "E.164"),
        ("From_Number", "0170", "E.164"),
        ("Message_Content", "x" * 1601, "1 to 1600"),
        ("Twilio_Account_SID", "0123", 'begin with "AC"'),
        ("Twilio_Account_SID", "AC12/../x", 'begin with "AC"'),
        ("Twilio_Auth_Token", "short", "at least 10"),
    ],
)
async def test_a_message_that_cannot_go_is_refused_before_anybody_is_asked(
    site: Site, site_env: TestEnvironment, name: str, value: str, message: str
) -> None:
    with pytest.raises(NodeInputError, match=message):
        await site_env.run("send_sms", **{"Address": site.url, **SMS, name: value})

    assert not site.requests


async def test_messages_go_only_where_nodes_may_go(env: TestEnvironment, site: Site) -> None:
    with pytest.raises(NotAllowed):
        await env.run("send_sms", Address=site.url, **SMS)

    assert not site.requests
