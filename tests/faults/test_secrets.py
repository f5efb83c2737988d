"""Secrets: nowhere but where they are used, and readable all through a change of keys."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import secrets
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
import redis
import zstandard
from cryptography.fernet import Fernet
from django.conf import settings
from django.db import connection
from django.test import Client
from pytest_httpserver import HTTPServer
from websockets.asyncio.client import connect
from websockets.typing import Origin

from executions import states
from executions.local import execute_sync
from executions.models import Execution, NodeRun, WorkerLease
from executions.triggers import start_execution
from flowbuilder.stack import free_port
from monitoring.alerts import channels, rules
from monitoring.models import Alert, AlertChannel, AlertRule
from recordings.export import to_json, to_summary
from recordings.finding import open_replayer
from recordings.har import to_har
from recordings.models import Recording
from recordings.packing import seal
from tests.conftest import graph, node, wait_for, wire
from tests.environment import HOME
from tests.executions.smtp import Mailbox, mail_server
from tests.faults.canary_app import APP
from tests.monitoring.conftest import login_cookie
from tests.workflows.test_kinds import GOOD
from workflows import credentials, kinds
from workflows.models import Credential
from workflows.registry import NODE_REGISTRY

pytestmark = [pytest.mark.worker, pytest.mark.redis]

CONTROL = "Control" + secrets.token_hex(8)
"""Written wherever the secrets are, but no secret: where this is not found, nothing is shown by finding no secret."""
TAIL = "/+é&<\"'>\\ %"
"""What is written differently in JSON, addresses, pages and base64."""


class Canaries:
    """A credential of every kind, whose secrets hold a word that is easily found."""

    def __init__(self, owner: Any) -> None:
        self.words: dict[str, str] = {}
        for kind, good in GOOD.items():
            fields = {name: self._value(kind, name, value) for name, value in good.items()}
            credentials.save(owner, f"canary {kind}", kind, fields)

    def _value(self, kind: str, name: str, value: str) -> str:
        if not kinds.is_secret(kind, name):
            return value
        word = self.new(f"{kind}.{name}")
        if kind == "browser_state":
            return value.replace("cookie-value-1", word).replace("stored-value-1", word)
        if kind in ("password", "basic", "smtp", "proxy"):
            return word + TAIL
        return f"-----BEGIN KEY-----\n{word}\n-----END KEY-----" if "\n" in value else f"{word}+/=="

    def new(self, what: str) -> str:
        """Return one more word that nobody may read anywhere."""
        word = "Canary" + secrets.token_hex(8)
        self.words[word] = what
        return word

    def of(self, kind: str, field: str = "") -> dict[str, str]:
        """Return a reference to a credential."""
        return {"$credential": f"canary {kind}", **({"field": field} if field else {})}


def spellings(word: str) -> list[bytes]:
    """Return how a word may be written. Not what the product looks for, so that a mistake there shows here."""
    found = {word.lower().encode(), word.encode().hex().encode(), word.lower().encode("utf-16-le")}
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + word.encode())
        found.add(encoded[4 if before else 0 : -4].lower())
    return sorted(found)


def places(content: bytes, words: Any) -> dict[str, str]:
    """Return the words that occur in ``content``, with what is around them."""
    low, found = content.lower(), {}
    for word in words:
        for spelling in spellings(word):
            place = low.find(spelling)
            if place >= 0:
                found[word] = repr(content[max(0, place - 200) : place + 80])
    return found


def test_the_search_finds_a_word_however_it_is_written():
    texts = [f"x{CONTROL}y", quote(CONTROL.lower()), CONTROL.encode().hex().upper()]
    texts += [base64.b64encode(f"{user}:{CONTROL}!".encode()).decode() for user in ("a", "ab", "abc")]

    assert all(places(text.encode(), [CONTROL]) for text in texts)
    assert places(CONTROL.encode("utf-16-le"), [CONTROL])
    assert not places(CONTROL[:-4].encode(), [CONTROL])


# ---------------------------------------------------------------------- what the nodes talk to


class Echo(BaseHTTPRequestHandler):
    """Gives back whatever it is sent, and fails or dawdles where it is told to."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer with everything that came."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("utf-8", "replace")
        path = urlsplit(self.path).path
        sent = {"path": self.path, "headers": dict(self.headers), "body": body, "control": CONTROL}
        answer: dict[str, Any] = sent
        if path == "/slow":
            time.sleep(2)
        if path.endswith("/chat/completions"):
            answer = {"choices": [{"message": {"content": json.dumps(sent)}}], "usage": {"total_tokens": 1}}
        content = json.dumps(answer).encode()
        kind = "application/json"
        if path == "/page":
            kind, content = "text/html; charset=utf-8", PAGE.encode()
        self.send_response(500 if path == "/fails" else 200)
        self.send_header("Content-Type", kind)
        self.send_header("X-Echo", quote(str(self.headers.get("Authorization"))))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            self.wfile.write(content)

    do_GET = do_PUT = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test output readable."""


PAGE = """<!doctype html><title>page</title><input id=field oninput="
  document.title = value; out.textContent = value; out.dataset.form = encodeURIComponent(value) + btoa(encodeURIComponent(value));
  console.log('typed ' + value); localStorage.setItem('typed', value); history.replaceState(0, '', '#' + value);
  setTimeout(() => { throw new Error('page: ' + value) });
  fetch('/echo?typed=' + encodeURIComponent(value), {method: 'POST', body: value})"><p id=out></p>"""


@pytest.fixture
def echo() -> Iterator[str]:
    """Serve what gives everything back; return its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class EchoMail(socketserver.StreamRequestHandler):
    """A mail server that takes no login and says what it was given."""

    def handle(self) -> None:
        """Talk SMTP until the other side has had enough."""
        self.wfile.write(b"220 here\r\n")
        with contextlib.suppress(ConnectionError):
            while line := self.rfile.readline().strip():
                known = line.upper().startswith((b"EHLO", b"HELO"))
                self.wfile.write(
                    b"250-here\r\n250 AUTH PLAIN LOGIN\r\n" if known else b"535 not with " + line + b"\r\n"
                )


@pytest.fixture
def mail() -> Iterator[int]:
    """Serve mail; return the port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), EchoMail) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()


class Monitor:
    """Everything that passes through Redis, as its MONITOR command tells it."""

    def __init__(self) -> None:
        self.content = bytearray()
        path = re.sub(r"^unix://", "", settings.REDIS_URL).partition("?")[0]
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.sendall(b"MONITOR\r\n")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while part := self._socket.recv(2**16):
                self.content += part

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class Watcher:
    """A person who watches executions by the socket of the monitor, in a thread of its own."""

    def __init__(self, origin: str, cookie: str) -> None:
        self.content: list[str] = []
        self.ended: set[str] = set()
        self._origin, self._cookie = origin, cookie
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def watch(self, execution_id: Any) -> None:
        """Watch one more."""
        asyncio.run_coroutine_threadsafe(self._read(str(execution_id)), self._loop)

    async def _read(self, execution_id: str) -> None:
        address = f"{self._origin.replace('http', 'ws', 1)}/ws/executions/{execution_id}/logs"
        async with connect(
            address, origin=Origin(self._origin), additional_headers={"Cookie": self._cookie}, proxy=None, max_size=None
        ) as opened:
            async for text in opened:
                self.content.append(str(text))
                if json.loads(text)["type"] == "end":
                    self.ended.add(execution_id)
                    return

    def close(self) -> None:
        """Stop, and hang up where a socket is still open."""
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _hang_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=5)  # the server hangs up after the end
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_asyncgens()
        await asyncio.sleep(0.05)  # a transport that was closed in this instant is gone after the next turn of the loop


class Told:
    """Everybody whom alerts tell: a mailbox and two hooks, whose addresses and secret are secrets, too."""

    KINDS = ("failure_rate", "cost")

    def __init__(self, hooks: HTTPServer, box: Mailbox) -> None:
        self._hooks, self._box = hooks, box

    def listen(self, owner: Any, canary: Canaries, echo: str) -> None:
        """Make channels of ``owner``, one of which is refused with all that it sent, and rules that find too much here."""
        mail = channels.save(owner, f"mail {CONTROL}", "email", "ops@example.com")
        hook = channels.save(owner, "hook", "webhook", self._address("webhook", canary), canary.new("hook.secret"))
        chat = channels.save(owner, "chat", "slack", self._address("slack", canary))
        broken = channels.save(owner, "broken", "webhook", f"{echo}/fails?key={canary.new('broken address')}")
        for kind in self.KINDS:
            rule = AlertRule(owner=owner, name=f"{kind} {CONTROL}", kind=kind, threshold=0.5, minimum_runs=1)
            rules.save(rule, [mail, hook, chat, broken])

    def _address(self, kind: str, canary: Canaries) -> str:
        path = f"/{kind}/{canary.new(f'{kind} address')}"
        self._hooks.expect_request(path, "POST").respond_with_data("taken")
        return self._hooks.url_for(path)

    def content(self) -> dict[str, bytes]:
        """Return what each was told: mails as they were sent and as they are read, requests with their headers."""
        mails = b"".join(one.as_bytes() + one.get_content().encode() for one in self._box.messages)
        found = {"alert mails": mails, "alert webhooks": b"", "alerts at Slack": b""}
        for request, _ in self._hooks.log:
            place = "alert webhooks" if request.path.startswith("/webhook/") else "alerts at Slack"
            found[place] += repr(list(request.headers)).encode() + request.get_data()
        return found

    def everything(self) -> bool:
        """Return whether every rule has told everybody."""
        return all(content.count(kind.encode()) for content in self.content().values() for kind in self.KINDS)


@pytest.fixture
def told(httpserver: HTTPServer, tmp_path: Path) -> Iterator[tuple[Told, int]]:
    """Run a mail server and hooks; yield what they are told, and the port of the mail server."""
    with mail_server(tmp_path) as (port, box):
        yield Told(httpserver, box), port


# ---------------------------------------------------------------------- what runs


def cases(canary: Canaries, url: str, mail: int) -> dict[str, dict[str, Any]]:
    """Return a workflow for every node type, by that type: the secrets go in wherever something may go in."""
    bearer, key, login, both = (
        canary.of("bearer"),
        canary.of("api_key"),
        canary.of("password"),
        canary.of("basic", "user_password"),
    )
    mixed = {"a": login, "list": [bearer, key], "control": CONTROL}
    once = {"retries": 1, "backoff_s": 0.05, "jitter": False}
    found = {
        "http_request": [
            node("a", "http_request", URL=f"{url}/echo", Method="POST", Body=mixed, Query={"q": login, "c": CONTROL},
                 Authorization_Type="basic", Authorization_Value=both, Headers={"X-Key": key, "X-C": CONTROL}, Cookies={"c": key}),
            node("b", "http_request", once, URL=f"{url}/fails", Authorization_Type="bearer", Authorization_Value=bearer),
            node("c", "http_request", URL=f"{url}/slow", Timeout=1, Method="POST", Body=login),
            node("d", "http_request", URL=login),
            node("e", "http_request", URL=f"{url}/echo", Method="POST", Content_Type="application/x-www-form-urlencoded", Body=mixed),
        ],
        "deliver_to_webhook": [
            node("a", "deliver_to_webhook", Webhook_URL=f"{url}/echo", Payload=mixed, Authorization_Type="bearer",
                 Authorization_Value=bearer, Signing_Secret=login),
            node("b", "deliver_to_webhook", once, Webhook_URL=f"{url}/fails", Payload=login, Fail_On_Error=True),
        ],
        "agent_team": [
            node("a", "agent_team", Task=login, Context=mixed, Endpoint=f"{url}/v1", API_Key=canary.of("openai"), Model="m",
                 Members=[{"name": "one", "role": CONTROL}, {"name": "two", "role": "reads"}]),
        ],
        "extract_data_openai": [
            node("a", "extract_data_openai", Prompt=login, Content=mixed, API_Key=canary.of("openai"), Endpoint=f"{url}/v1"),
        ],
        "send_sms": [
            node("a", "send_sms", Twilio_Account_SID=canary.of("twilio", "account_sid"), Twilio_Auth_Token=canary.of("twilio"),
                 From_Number="+491701234567", To_Number="+491701234568", Message_Content=login, Address=url),
            node("b", "send_sms", Provider="http", Twilio_Auth_Token=canary.of("twilio"), From_Number="12345", To_Number=login,
                 Message_Content=key, Address=f"{url}/fails"),
            node("c", "send_sms", Provider="log", From_Number="+491701234567", To_Number="+491701234568", Message_Content=login),
        ],
        "email_delivery": [
            node("a", "email_delivery", SMTP_Server="127.0.0.1", SMTP_Port=mail, Use_TLS=False, Username=canary.of("smtp", "username"),
                 Password=canary.of("smtp"), From_Email="a@example.com", To_Email="b@example.com", Subject=login, Body=key),
            node("b", "email_delivery", SMTP_Server="127.0.0.1", SMTP_Port=mail, Use_TLS=False, From_Email=login,
                 To_Email="b@example.com", Subject="x", Body=login),
        ],
        "get_text_from_html": [node("a", "get_text_from_html", Html=login, Selector="p"), node("b", "get_text_from_html", Html="<p>x", Selector=login)],
        "condense_html": [node("a", "condense_html", Html=login)],
        "delay": [node("a", "delay", Duration=0.05), node("b", "delay", Duration=login)],
        "approval": [node("a", "approval", Title=login, Message=canary.of("smtp", "password"), Timeout=1, On_Timeout="approve", Notify_URL=f"{url}/echo")],
        "code": [
            node("a", "code", Language="python", Code="print(data)\ndata", Data=mixed),
            node("b", "code", Language="javascript", Code="throw new Error(JSON.stringify(data))", Data=mixed),
        ],
        "branch": [node("a", "branch", Left_Value=login, Operator="equals", Right_Value=key), node("b", "branch", Left_Value="x", Operator="matches", Right_Value=login)],
        "switch": [node("a", "switch", Value=login, Case_1=key, Case_2=login)],
        "json_transform": [node("a", "json_transform", Input_JSON=mixed, Transform_Rules={"x": "$.a"}), node("b", "json_transform", Input_JSON=login, Transform_Rules=login)],
        # kept longer than the test may take: this is what is left in Redis
        "merge_data": [node("a", "merge_data", {"cache_ttl_s": 3600}, Data_1=mixed, Data_2={"b": canary.of("custom", "key")})],
        "read_property_from_json": [node("a", "read_property_from_json", JSON=mixed, Property_Name="a"), node("b", "read_property_from_json", JSON=mixed, Property_Name=login)],
        "write_property_to_json": [node("a", "write_property_to_json", JSON={}, Property_Name="x.y", Property_Value=login)],
        "stop_and_error": [node("a", "stop_and_error", Message=login, Code=key)],
        "join": [node("a", "join", Data_1=login, Mode="any")],
        "test_careless": [
            node("a", "test_careless", Value=login), node("b", "test_careless", Value=canary.of("custom", "key"), Fails=True),
            node("c", "test_careless", Value=canary.of("browser_state")), node("d", "test_careless", Value=CONTROL),
            node("e", "test_careless", once, Value=canary.of("twilio"), Fails=True), node("f", "test_careless", Value=canary.of("proxy")),
        ],
        "test_careless_apart": [node("a", "test_careless_apart", Value=login), node("b", "test_careless_apart", Value=CONTROL)],
    }  # fmt: skip
    flows = {name: independent(nodes) for name, nodes in found.items()}
    flows["loop_items"] = graph(
        [node("loop", "loop_items", Items=[login, key, CONTROL]), node("in", "test_careless"), node("also", "merge_data", Data_1=mixed, Data_2={"i": "{{ loop.Item }}"})],
        wire("loop", "Item", "in", "Value"), wire("loop", "Each", "also", "Execute Condition"),
    )  # fmt: skip
    flows["loop_while"] = graph(
        [node("loop", "loop_while", Condition="index < 2", Data=mixed), node("in", "merge_data", Data_1=mixed, Data_2={})],
        wire("loop", "Each", "in", "Execute Condition"),
    )  # fmt: skip
    flows["subflow"] = independent([
        node("a", "subflow", Workflow="canary child", Inputs={**mixed, "x": login}),
        node("b", "subflow", Workflow="canary child", Inputs=mixed, Wait=False),
        node("c", "subflow", Workflow=login),
    ])  # fmt: skip
    return flows


def independent(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a workflow in which the nodes, none of whose failures ends it, run beside each other after a first one."""
    for one in nodes:
        one["data"]["on_error"] = "continue"
    return graph(
        [node("first", "delay", Duration=0), *nodes],
        *[wire("first", "Done", one["id"], "Execute Condition") for one in nodes],
    )


def hostile(canary: Canaries) -> dict[str, Any]:
    """Return a workflow in which every input of every type is a secret, which most of them cannot be."""
    login, nodes = canary.of("password"), []
    for name in sorted(product_types() - BROWSER):
        for place, port in enumerate(NODE_REGISTRY[name].description.inputs):
            if port.type not in ("CONDITIONAL", "BROWSER_INSTANCE"):
                needed = {other.name: CONTROL for other in NODE_REGISTRY[name].description.inputs if other.required}
                item = node(f"{name}-{place}", name, {"timeout_s": 5})
                item["data"]["inputs"] = {**needed, port.name: login}
                nodes.append(item)
    return independent([item for item in nodes if item["type"] not in ("loop_items", "loop_while", "approval")])


def browser_flow(canary: Canaries, url: str) -> dict[str, Any]:
    """Return a workflow that types a secret into a page which shows it everywhere, and then fails."""
    login = canary.of("password")
    steps = [
        node("open", "launch_standard_browser", Website_URL=f"{url}/page", Storage_State=canary.of("browser_state"),
             Record_HAR=True),
        node("fill", "fill_input", Selector="#field", Value=login),
        node("read", "get_html"),
        node("wait", "wait_for_element", {"on_error": "continue"}, Selector=login, Visibility="visible", **{"Timeout (seconds)": 1}),
        node("missing", "fill_input", {"on_error": "continue", "timeout_s": 1}, Selector="#nothing", Value=login),
        node("click", "click_element", {"timeout_s": 1}, Selector=canary.of("api_key")),
    ]  # fmt: skip
    before = {"fill": "open", "read": "fill"}
    wires = [wire(before.get(one["id"], "read"), "Web Page", one["id"], "Web Page") for one in steps[1:]]
    return graph(steps, *wires)


def proxy_flow(canary: Canaries, url: str) -> dict[str, Any]:
    """Return a workflow whose browser cannot reach the proxy that it is given."""
    return graph([node("open", "launch_standard_browser", Website_URL=f"{url}/page", Proxy=canary.of("proxy"))])


def other_browsers(canary: Canaries, url: str) -> dict[str, dict[str, Any]]:
    """Return workflows with the other launch nodes; the browser elsewhere is none, and repeats what it is sent."""
    login, state = canary.of("password"), canary.of("browser_state")
    stealth = node("open", "launch_stealth_browser", Website_URL=f"{url}/page", Seed=login, Storage_State=state)
    names = {"Bright Data Browser Username": login, "Bright Data Browser Password": canary.of("api_key")}
    far = node("open", "launch_bright_data_browser", Website_URL=f"{url}/page", **names)
    return {"stealth": graph([stealth]), "elsewhere": graph([far])}


BROWSER = {
    "launch_standard_browser",
    "launch_stealth_browser",
    "launch_bright_data_browser",
    "fill_input",
    "click_element",
    "get_html",
    "wait_for_element",
}


def product_types() -> set[str]:
    """Return the node types of the product."""
    return {name for name, executor in NODE_REGISTRY.items() if executor.__module__.startswith("executions.")}


# ---------------------------------------------------------------------- what is left of it


def database() -> bytes:
    """Return every value of every row of every table, and the files of an SQLite database."""
    found = bytearray()
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            for row in cursor.fetchall():
                for value in row:
                    raw = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                    found += unpacked(raw) + b"\n"
    if connection.vendor == "sqlite":
        path = Path(connection.settings_dict["NAME"])
        for file in (path, Path(f"{path}-wal")):
            found += file.read_bytes() if file.exists() else b""
    return bytes(found)


def unpacked(content: bytes) -> bytes:
    """Return bytes with what is compressed in them by zstandard."""
    found, place = bytearray(content), content.find(b"\x28\xb5\x2f\xfd")
    while place >= 0:
        with contextlib.suppress(zstandard.ZstdError):
            found += zstandard.ZstdDecompressor().decompressobj().decompress(content[place:])
        place = content.find(b"\x28\xb5\x2f\xfd", place + 4)
    return bytes(found)


def redis_content() -> bytes:
    """Return every key and value that is in Redis."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    found = bytearray()
    read: dict[bytes, Any] = {
        b"string": client.get, b"hash": client.hgetall, b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1), b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }  # fmt: skip
    for key in client.scan_iter():
        kind: Any = client.type(key)
        if kind in read:  # else its time was over meanwhile
            found += key + b" " + repr(read[kind](key)).encode() + b"\n"
    client.close()
    return bytes(found)


def recordings_of(executions: Any) -> bytes:
    """Seal the recordings and return them as they are exported."""
    found = bytearray()
    for recording in Recording.objects.filter(execution_id__in=executions):
        if not recording.sealed:
            seal(recording)
            recording.refresh_from_db()
        replayer = open_replayer(recording.pk)
        for written in (to_json, to_summary, to_har):
            found += str(written(replayer)).encode("utf-8", "backslashreplace")
    return bytes(found)


def files() -> bytes:
    """Return all files of the data directory, with what is compressed in them."""
    return b"\n".join(unpacked(path.read_bytes()) for path in (HOME / "data").rglob("*") if path.is_file())


def pages(alice: Any, executions: list[Any]) -> bytes:
    """Return what the admin and the API show of executions and credentials."""
    client, found = Client(), bytearray()
    client.force_login(alice)
    addresses = [
        "/admin/workflows/credential/",
        "/api/v1/credentials",
        "/admin/executions/deadletter/",
        "/admin/workflows/auditentry/",
        "/admin/monitoring/alert/",
        "/api/v1/alerts",
        "/api/v1/alert-channels",
    ]
    addresses += [f"/admin/monitoring/alert/{row.pk}/change/" for row in Alert.objects.all()]
    addresses += [f"/admin/monitoring/alertchannel/{row.pk}/change/" for row in AlertChannel.objects.all()]
    addresses += [f"/admin/workflows/credential/{row.pk}/change/" for row in Credential.objects.all()]
    for key in executions:
        addresses += [
            f"/api/v1/executions/{key}",
            f"/api/v1/executions/{key}/logs",
            f"/admin/executions/execution/{key}/change/",
        ]
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200, f"{address}: {answer.status_code}"
        found += answer.getvalue()
    return bytes(found)


@pytest.fixture
def living(
    processes: Any, reconcile_row: None, alice: Any, tmp_path: Path, echo: str, told: tuple[Told, int]
) -> Iterator[tuple[Monitor, Watcher]]:
    """Start a worker, one for isolated nodes, a beat and the web; return who listens to Redis and at the socket."""
    env = {"FLOWBUILDER_LOG_LEVEL": "DEBUG", "FLOWBUILDER_CODE_NODES": "on"}
    env["FLOWBUILDER_REMOTE_BROWSER"] = f"{echo.replace('http', 'ws', 1)}/echo"
    monitor, port = Monitor(), free_port()
    processes.booting_worker(APP, **env)
    processes.start(
        "-m", "celery", "-A", APP, "worker", "--pool=prefork", "-c", "1", "-Q", "isolated", "-l", "DEBUG",
        "--without-gossip", "--without-mingle", "-n", f"canary{time.monotonic_ns()}@%h", **env,
    )  # fmt: skip
    mails = f"smtp://127.0.0.1:{told[1]}?security=none"
    processes.beat(APP, **env, FLOWBUILDER_MAIL_URL=mails, FLOWBUILDER_ALERT_SECONDS="0.5")
    processes.start("-m", "uvicorn", "flowbuilder.asgi:application", "--port", str(port), **env)
    watcher = Watcher(f"http://127.0.0.1:{port}", login_cookie("alice"))
    wait_for(lambda: WorkerLease.objects.count() >= 2, 60, "the workers", processes.logs)
    wait_for(lambda: answers(port), 60, "the web", processes.logs)
    yield monitor, watcher
    watcher.close()
    monitor.close()


def answers(port: int) -> bool:
    """Return whether a server is there."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=5).status_code < 500
    return False


@pytest.mark.browser
@pytest.mark.postgres
@pytest.mark.timeout(300)
@pytest.mark.row("S2-08")
@pytest.mark.row("S2-53")
def test_fault_70_a_secret_is_nowhere_but_where_it_is_used(
    processes, alice, make_workflow, echo, mail, tmp_path, living, told
):
    monitor, watcher = living
    canary = Canaries(alice)
    told[0].listen(alice, canary, echo)
    mixed = {"a": canary.of("bearer"), "control": CONTROL}
    child = [node("a", "test_careless", Value="{{ input.x }}"), node("b", "merge_data", Data_1=mixed, Data_2={})]
    make_workflow(graph(child), name="canary child")
    flows = {**cases(canary, echo, mail), "hostile": hostile(canary), "browser": browser_flow(canary, echo)}
    flows |= {"proxy": proxy_flow(canary, echo), **other_browsers(canary, echo)}
    workflows = {name: make_workflow(flow, name=name) for name, flow in flows.items()}

    def run(*names: str) -> None:
        begun = [start_execution(workflows[name], by=alice, input={"control": CONTROL}) for name in names]
        for execution in begun:
            watcher.watch(execution.pk)
        wait_for(lambda: not Execution.objects.exclude(status__in=states.TERMINAL).exists(), 90, "the ends", detail)
        wait_for(lambda: watcher.ended >= {str(one.pk) for one in begun}, 30, "the ends at the socket", processes.logs)

    def detail() -> str:
        rows = Execution.objects.exclude(status__in=states.TERMINAL).values("workflow__name", "status", "error")
        nodes = NodeRun.objects.exclude(status__in=states.TERMINAL).values("node_id", "node_type", "status")
        return f"{list(rows)}\n{list(nodes)}\n{processes.logs()}"

    run(*workflows)
    run("merge_data", "read_property_from_json")
    wait_for(told[0].everything, 60, "what alerts tell", processes.logs)
    kept = redis_content()
    processes.stop()

    ended = NodeRun.objects.filter(status__in=("completed", "failed"))
    missing = product_types() - set(ended.values_list("node_type", flat=True))
    assert not missing, f"give {sorted(missing)} secrets in cases() of this file, so that they are looked for"
    assert Execution.objects.count() >= 30
    for status in ("completed", "failed", "completed_with_errors"):
        assert Execution.objects.filter(status=status).exists(), status
    everything = list(Execution.objects.values_list("pk", flat=True))
    evidence = {
        "recordings": recordings_of(everything),
        "database": database(),
        "process logs": b"".join(path.read_bytes() for path in tmp_path.glob("*.log")),
        "what passed through Redis": bytes(monitor.content),
        "what is left in Redis": kept,
        "socket": "\n".join(watcher.content).encode(),
        **told[0].content(),
        "pages": pages(
            alice,
            list(
                Execution.objects.filter(workflow__name__in=("test_careless", "hostile", "browser")).values_list(
                    "pk", flat=True
                )
            ),
        ),
    }
    if connection.vendor == "sqlite":  # else all of them are in the database
        evidence["files"] = files()
    leaks = {
        f"{canary.words[word]} in {place}": around
        for place, content in evidence.items()
        for word, around in places(content, canary.words).items()
    }
    assert not leaks, "\n".join(f"{where}: {around}" for where, around in leaks.items())
    blind = [place for place, content in evidence.items() if not places(content, [CONTROL])]
    assert not blind, f"nothing is looked for in {blind}"


# ---------------------------------------------------------------------- a change of keys

READER = """
import os, sys, time
from django.conf import settings
from workflows import credentials
from workflows.models import Credential
owner, stop = int(sys.argv[1]), sys.argv[2]
wanted, done = "secret %s", 0
while not os.path.exists(stop):
    time.sleep(0.01)
    for name, found in credentials.open_all(owner, ["c%d" % n for n in range(120)]).items():
        assert found.field("") == wanted % name[1:], name
        done += 1
    if done == 120:
        print("reading", flush=True)
    if settings.CREDENTIAL_KEYS[0] == sys.argv[3] and os.path.exists(stop + ".write"):
        row = Credential.objects.select_related("owner").get(name="c0")
        credentials.save(row.owner, "late", "password", {"password": "written with the old key"})
        os.unlink(stop + ".write")
print("read", done, flush=True)
"""


@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_fault_71_keys_change_while_everything_reads_and_the_old_one_can_go(
    processes, alice, make_workflow, tmp_path, monkeypatch
):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    monkeypatch.setattr(settings, "CREDENTIAL_KEYS", [old])
    for number in range(120):
        credentials.save(alice, f"c{number}", "password", {"password": f"secret {number}"})
    stop = tmp_path / "stop"
    before, after = (",".join(keys) for keys in ((old, new), (new, old)))
    shell = ("manage.py", "shell", "-v", "0", "-c")
    readers = [
        processes.start(*shell, f"import sys; sys.argv[1:] = ['{alice.pk}', '{stop}', '{old}']\n{READER}", FLOWBUILDER_CREDENTIAL_KEYS=keys)
        for keys in (before, after)
    ]  # fmt: skip
    wait_for(lambda: processes.logs().count("reading") == 2, 60, "the readers", processes.logs)

    def rotate(**env: str) -> Any:
        child = processes.start("manage.py", "credentials", "rotate", "--json", **env)
        assert child.wait(60) == 0, processes.logs()

    (tmp_path / "stop.write").touch()  # a process that has the old key first writes while, or before, it is changed
    rotate(FLOWBUILDER_CREDENTIAL_KEYS=after)
    wait_for(lambda: not (tmp_path / "stop.write").exists(), 30, "the late row", processes.logs)
    rotate(FLOWBUILDER_CREDENTIAL_KEYS=after)
    stop.touch()
    for reader in readers:
        assert reader.wait(30) == 0, processes.logs()

    monkeypatch.setattr(settings, "CREDENTIAL_KEYS", [new])
    for number in range(120):
        assert credentials.resolve(alice.pk, f"c{number}") == f"secret {number}"
    assert credentials.resolve(alice.pk, "late") == "written with the old key"

    workflow = make_workflow(graph([node("a", "merge_data", Data_1={"$credential": "c1"}, Data_2={})]))
    monkeypatch.setattr(settings, "CREDENTIAL_KEYS", [old])
    result = execute_sync(workflow)
    assert result.status == "failed"
    assert 'credential "c1" cannot be opened with the keys in FLOWBUILDER_CREDENTIAL_KEYS' in result.errors["a"]
    monkeypatch.setattr(settings, "CREDENTIAL_KEYS", [new])
    assert credentials.resolve(alice.pk, "c1") == "secret 1"
