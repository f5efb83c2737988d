"""Sinks that are really spoken to: a web server, a mail server, and one that talks for ever."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from tests.executions.smtp import Mailbox, mail_server


@pytest.fixture
def loopback(settings: Any) -> None:
    """Let messages go to servers of the tests."""
    settings.EGRESS_ALLOW = ["127.0.0.1", "localhost"]


@pytest.fixture
def mailbox(settings: Any, tmp_path: Any) -> Iterator[Mailbox]:
    """Make a real mail server that of the installation; return what it takes."""
    with mail_server(tmp_path) as (port, box):
        settings.MAIL_SERVER = {"host": "127.0.0.1", "port": port, "security": "none"}
        yield box


@pytest.fixture
def endless() -> Iterator[Callable[[bytes], int]]:
    """Return a function that starts a server and returns its port: it greets, and then says byte after byte for ever."""
    with ExitStack() as servers:
        yield lambda greeting: servers.enter_context(_endless(greeting))


@contextmanager
def _endless(greeting: bytes) -> Iterator[int]:
    stop = threading.Event()
    talks: list[threading.Thread] = []

    def talk(line: socket.socket) -> None:
        with line, suppress(OSError):
            line.sendall(greeting)
            while not stop.wait(0.05):
                line.sendall(b"2")

    def serve() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                talks.append(threading.Thread(target=talk, args=(server.accept()[0],)))
                talks[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        listener = threading.Thread(target=serve)
        listener.start()
        yield server.getsockname()[1]
        stop.set()
        for thread in (listener, *talks):
            thread.join()
