"""Real servers, a real browser host and an environment for running single nodes."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import os
from collections.abc import AsyncIterator, Callable, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import pytest_asyncio
import uvicorn
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions import mail
from executions.browser import BrowserHost, BrowserOptions, BrowserPage, find_chromium
from executions.egress import EgressPolicy, guarded_client
from executions.errors import NodeInputError
from executions.mail import MailServer
from executions.nodes.base import NodeCall
from executions.notes import TeamNotes
from executions.triggers import start_execution
from recordings.events import RecordingEventType
from tests.conftest import graph
from tests.executions.edge_nodes import run_here
from workflows.registry import NODE_REGISTRY

pytest.register_assert_rewrite("tests.executions.snapshots")

SITE = Path(__file__).parent.parent / "site"


@pytest.fixture
def periodic_reconcile(transactional_db: None) -> None:
    """The row of the beat admin, which the emptied test database lacks."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    PeriodicTask.objects.get_or_create(name="Reconcile", task="executions.reconcile", interval=interval)


@pytest.fixture
def run(alice: Any, make_workflow: Callable[..., Any], transactional_db: None) -> Callable[..., Any]:
    """Run a workflow of these nodes and edges to its end, in this process, and return the execution."""

    def run_it(nodes: list[Any], *edges: Any, input: Any = None, **fields: Any) -> Any:
        return run_here(start_execution(make_workflow(graph(nodes, *edges), **fields), by=alice, input=input).pk)

    return run_it


class Site:
    """A real HTTP server: the static pages of ``tests/site`` and a few answers made on demand."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[dict[str, Any]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.answers_at: dict[str, tuple[int, bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [request["path"] for request in self.requests]

    def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """Queue the answer to the next request to ``/answer``."""
        self.answers.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, body))

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        self.requests.append(
            {"method": scope["method"], "path": scope["path"], "query": query, "headers": headers, "body": body}
        )
        status, kind, content, extra = 200, "text/plain", b"ok", {}
        path = scope["path"]
        if path.startswith("/site/"):
            file = SITE / path.removeprefix("/site/")
            kind, content = mimetypes.guess_type(file.name)[0] or "text/plain", file.read_bytes()
        elif path == "/redirect":
            status, extra = int(query.get("status", 302)), {"location": query["to"]}
        elif path == "/slow":
            await asyncio.sleep(float(query["seconds"]))
        elif path in self.answers_at:
            status, content = self.answers_at[path]
        elif path == "/answer" and self.answers:
            status, extra, content = self.answers.pop(0)
        raw = [(b"content-type", kind.encode()), *((n.encode(), v.encode()) for n, v in extra.items())]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content})


@contextlib.asynccontextmanager
async def serving(app: Any, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve an ASGI application on a free port of the running loop and yield the port."""
    config = uvicorn.Config(
        app, host=host, port=0, lifespan="off", log_level="error", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A server that the tests' policies allow."""
    app = Site()
    async with serving(app) as port:
        app.port = port
        yield app


class Victim:
    """A listening port that nothing may reach: TCP connections and UDP packets are counted."""

    def __init__(self) -> None:
        self.port = 0
        self.hits: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture
async def victim() -> AsyncIterator[Victim]:
    """A real listening server on loopback that is on no allow-list."""
    found = Victim()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            line = await reader.readline()
            found.hits.append(line.decode("latin-1").strip())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
            await writer.drain()
        writer.close()

    class Packets(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            found.hits.append("UDP")

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Packets, local_addr=("127.0.0.1", found.port)
    )
    yield found
    transport.close()
    server.close()


def chromium() -> str:
    """Return the Chromium of this machine; in CI a missing one is a failure."""
    path = find_chromium(os.environ.get("CHROMIUM", ""))
    if path is None:
        pytest.fail("no Chromium was found. Debian/Ubuntu: apt install chromium")
    return path


@pytest_asyncio.fixture
async def make_host(tmp_path: Path) -> AsyncIterator[Callable[..., BrowserHost]]:
    """Return a maker of real browser hosts: ``make_host("127.0.0.1:80", slots=2)``; all are shut down."""
    hosts: list[BrowserHost] = []

    def make(*allow: str, slots: int = 4, **options: Any) -> BrowserHost:
        host = BrowserHost(chromium(), slots, policy=EgressPolicy(allow), directory=tmp_path / "browser", **options)
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        await host.shutdown()


class TestEnvironment(TeamNotes):
    """The ``Environment`` of nodes, over a real guarded client and a real browser host."""

    __test__ = False

    def __init__(self, policy: EgressPolicy, host: BrowserHost | None = None) -> None:
        self.execution_id, self.workflow_id, self.user_id = "e1", "w1", 1
        self.idempotency_key = "e1:n1:0"
        self.logs: list[tuple[str, str, dict[str, Any]]] = []
        self._policy, self._host = policy, host
        self._variables: dict[str, Any] = {}

    def set_variable(self, key: str, value: Any) -> None:
        self._variables[key] = value

    def get_variable(self, key: str) -> Any:
        return self._variables.get(key)

    def log(self, message: str, *, level: str = "info", **data: Any) -> None:
        self.logs.append((level, message, data))

    def record(self, event_type: str, data: dict[str, Any]) -> None:
        self.logs.append((event_type, "", data))

    def tag(self, *tags: str) -> None:
        self.logs.append(("tag", "", {"tags": list(tags)}))

    def _note_for(self, kind: RecordingEventType, team_id: str, data: dict[str, Any]) -> None:
        self.record(kind.value, {"team_id": team_id, **data})

    async def save_artifact(self, kind: str, content: bytes, *, content_type: str, name: str = "") -> str:
        raise NotImplementedError

    async def page(self) -> BrowserPage:
        page = self._host.get("e1:main") if self._host else None
        if page is None:
            raise NodeInputError("needs a browser; run a launch node before it")
        return page

    async def launch(self, **options: Any) -> BrowserPage:
        assert self._host is not None
        return await self._host.open("e1:main", BrowserOptions(**options))

    def http_client(self, **options: Any) -> httpx.AsyncClient:
        return guarded_client(self._policy, **options)

    async def send_mail(
        self, server: MailServer | None, message: EmailMessage, sender: str, recipients: Sequence[str]
    ) -> dict[str, str]:
        assert server is not None
        return await mail.send(self._policy, server, message, sender, recipients)

    async def run(self, node_type: str, /, **inputs: Any) -> dict[str, Any]:
        """Validate and run one node as the engine does; underscores in input names stand for blanks."""
        named = {name.replace("_", " "): value for name, value in inputs.items()}
        return await self.run_named(node_type, named)

    async def run_named(self, node_type: str, inputs: dict[str, Any]) -> dict[str, Any]:
        executor = NODE_REGISTRY[node_type]()
        call = NodeCall("n1", node_type, "Node one", inputs)
        executor.validate(call, self)
        outputs: dict[str, Any] = await executor.run(call, self)
        return outputs

    def text(self) -> str:
        """Return everything that was logged, as text."""
        return repr(self.logs)


@pytest.fixture
def env() -> TestEnvironment:
    """An environment that may reach nothing but the public internet."""
    return TestEnvironment(EgressPolicy())


@pytest.fixture
def site_env(site: Site) -> TestEnvironment:
    """An environment that may reach the test site."""
    return TestEnvironment(EgressPolicy([f"127.0.0.1:{site.port}"]))
