"""Whose word about the address of a client is believed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from flowbuilder.proxies import ClientAddresses
from tests.environment import ROOT


async def says_who(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the address of the client, and the scheme."""
    if scope["type"] == "http":
        body = json.dumps([scope["client"][0], scope["scheme"]]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def served(trusted: list[str]) -> Iterator[str]:
    """Serve as `./flow up` does; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            ClientAddresses(says_who, trusted), proxy_headers=False, lifespan="off", log_level="error"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.mark.parametrize(
    ("trusted", "given", "expected"),
    [
        ([], "192.0.2.7", ["127.0.0.1", "http"]),
        (["10.0.0.0/8"], "192.0.2.7", ["127.0.0.1", "http"]),
        (["127.0.0.1"], "192.0.2.7", ["192.0.2.7", "https"]),
        (["127.0.0.0/8", "10.0.0.0/8"], "198.51.100.9, 192.0.2.7, 10.1.1.1", ["192.0.2.7", "https"]),
        (["127.0.0.1"], "", ["127.0.0.1", "https"]),
    ],
)
def test_only_the_proxies_that_are_named_say_who_asks(trusted: list[str], given: str, expected: list[str]) -> None:
    headers = {"X-Forwarded-Proto": "https", **({"X-Forwarded-For": given} if given else {})}
    with served(trusted) as url, urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        assert json.load(answer) == expected


def test_the_product_believes_those_of_its_setting() -> None:
    """The whole application, in a process of its own; it tells whom it takes a client for at the door of its pages."""
    script = """
import asyncio
from flowbuilder.asgi import application

async def pages(scope, receive, send):
    print(scope["client"][0])

application.app.app = pages
headers = [(b"x-forwarded-for", b"192.0.2.7")]
scope = {"type": "http", "client": ("127.0.0.1", 1), "scheme": "http", "path": "/", "headers": headers}
asyncio.run(application(scope, None, None))
"""
    env = {**os.environ, "FLOWBUILDER_TRUSTED_PROXIES": "127.0.0.1", "DJANGO_SETTINGS_MODULE": "flowbuilder.settings"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )

    assert done.stdout.strip() == "192.0.2.7", done.stderr


@pytest.mark.parametrize(
    "path", ["Dockerfile", "docker-compose.yml", "docs/operations.md", "flowbuilder/supervisor.py"]
)
def test_no_server_of_ours_believes_programs_on_its_machine_by_itself(path: str) -> None:
    text = (ROOT / path).read_text()

    assert "flowbuilder.asgi:application" in text
    assert "--no-proxy-headers" in text
