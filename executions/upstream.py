"""Go out through a proxy of the user's: a connection to an address that was judged here, never to a name.

The proxy is given the address, so it cannot resolve a name to something else than what was allowed.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from executions.errors import NetworkError

ANSWER_SECONDS: Final = 15.0
PORTS: Final = {"http": 80, "https": 443, "socks5": 1080}

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[str, int, ssl.SSLContext | None], Awaitable[Stream]]
"""Connect to a host and port that may be reached, with TLS if a context is given."""

_SOCKS_REFUSALS: Final = {
    1: "it failed", 2: "its rules forbid it", 3: "the network cannot be reached", 4: "the host cannot be reached",
    5: "the connection was refused", 6: "it took too long", 7: "it cannot do that", 8: "it does not know such addresses",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Upstream:
    """A proxy: ``scheme`` is http, https (TLS to the proxy itself) or socks5."""

    scheme: str
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def read(cls, server: str, username: str = "", password: str = "") -> Upstream:
        """Return the proxy at an address such as ``http://proxy.example.com:3128``.

        Raises:
            ValueError: it is no such address.
        """
        parts = urlsplit(server.strip())
        if parts.scheme not in PORTS or not parts.hostname:
            raise ValueError('has no server such as "http://proxy.example.com:3128"')
        if parts.scheme == "socks5" and max(len(username.encode()), len(password.encode())) > 255:
            raise ValueError("has a user name or password of more than 255 bytes, which SOCKS cannot send")
        return cls(parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme], username, password)

    @property
    def shown(self) -> str:
        """Return how messages name it; its user and password are not in there."""
        return f"the proxy {self.host}:{self.port}"

    async def connect(self, address: str, port: int, dial: Dial) -> Stream:
        """Return a connection to ``address`` (an IP address) that goes through this proxy.

        Raises:
            NetworkError: the proxy could not be reached, or refused.
            NotAllowed: ``dial`` says that the proxy itself may not be reached.
        """
        context = ssl.create_default_context() if self.scheme == "https" else None
        try:
            reader, writer = await dial(self.host, self.port, context)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", "") or "no answer"
            raise NetworkError(f"{self.shown} could not be reached: {reason}") from error
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                ask = self._socks if self.scheme == "socks5" else self._connect
                await ask(address, port, reader, writer)
        except BaseException as error:
            writer.close()
            if isinstance(error, OSError | asyncio.IncompleteReadError | asyncio.LimitOverrunError):
                raise NetworkError(f"{self.shown} did not answer as a proxy does") from error
            raise
        return reader, writer

    async def _connect(
        self, address: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if self.username or self.password:
            login = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {login}")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        status = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        if len(status) < 2 or not status[0].startswith("HTTP/1.") or not status[1].isdigit():
            raise NetworkError(f"{self.shown} did not answer as a proxy does")
        if status[1] == "407":
            raise NetworkError(f"{self.shown} refused the login", code="proxy_auth", retryable=False)
        if not status[1].startswith("2"):
            raise NetworkError(f"{self.shown} does not connect to {target}: it answered {status[1]}")

    async def _socks(self, address: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        login = bool(self.username or self.password)
        writer.write(b"\x05\x02\x00\x02" if login else b"\x05\x01\x00")
        version, method = await reader.readexactly(2)
        if version != 5:
            raise NetworkError(f"{self.shown} does not speak SOCKS 5")
        if method == 2 and login:
            user, password = self.username.encode(), self.password.encode()
            writer.write(bytes([1, len(user)]) + user + bytes([len(password)]) + password)
            if (await reader.readexactly(2))[1] != 0:
                raise NetworkError(f"{self.shown} refused the login", code="proxy_auth", retryable=False)
        elif method != 0:
            raise NetworkError(f"{self.shown} wants another login", code="proxy_auth", retryable=False)
        packed = ipaddress.ip_address(address).packed
        writer.write(bytes([5, 1, 0, 1 if len(packed) == 4 else 4]) + packed + port.to_bytes(2, "big"))
        _, answer, _, kind = await reader.readexactly(4)
        if answer != 0:
            raise NetworkError(
                f"{self.shown} does not connect to {address} port {port}: {_SOCKS_REFUSALS.get(answer, 'it refused')}"
            )
        lengths = {1: 4, 4: 16}
        length = lengths[kind] if kind in lengths else (await reader.readexactly(1))[0]
        await reader.readexactly(length + 2)
