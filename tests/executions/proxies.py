"""A forward proxy for tests: CONNECT or SOCKS 5, with a login, that tells what it was asked for."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator

USER, PASSWORD = "proxy-user", "Pr0xy:p@ss wörd"


class ForwardProxy:
    """``asked`` are the targets of connections, ``logins`` what users gave."""

    def __init__(self, *, socks: bool = False) -> None:
        self.port = 0
        self.asked: list[str] = []
        self.logins: list[tuple[str, str]] = []
        self._socks = socks

    @property
    def url(self) -> str:
        return f"{'socks5' if self._socks else 'http'}://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            target = await (self._read_socks if self._socks else self._read_connect)(reader, writer)
            if target is not None:
                self.asked.append("{}:{}".format(*target))
                await self._pipe(target, reader, writer)
        writer.close()

    def _knows(self, user: str, password: str) -> bool:
        self.logins.append((user, password))
        return (user, password) == (USER, PASSWORD)

    async def _read_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int] | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split("\r\n")[0].split(" ")
        login = head.partition("Proxy-Authorization: Basic ")[2].partition("\r\n")[0]
        user, _, password = base64.b64decode(login).decode().partition(":")
        if not self._knows(user, password):
            writer.write(f"HTTP/1.1 407 Not with {login}\r\nContent-Length: 0\r\n\r\n".encode())
            return None
        if method != "CONNECT":
            writer.write(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")
            return None
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        host, _, port = target.rpartition(":")
        return host, int(port)

    async def _read_socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int] | None:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        if 2 not in methods:
            writer.write(b"\x05\xff")
            return None
        writer.write(b"\x05\x02")
        user = (await reader.readexactly((await reader.readexactly(2))[1])).decode()
        password = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        if not self._knows(user, password):
            writer.write(b"\x01\x01")
            return None
        writer.write(b"\x01\x00")
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            packed = await reader.readexactly(4 if kind == 1 else 16)
            host = socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, packed)
        port = int.from_bytes(await reader.readexactly(2), "big")
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        return host, port

    async def _pipe(self, target: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection(*target)

        await join((reader, writer), (far_reader, far))


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def join(one: Connection, other: Connection) -> None:
    """Hand on what either connection sends to the other one, until both have ended."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    await asyncio.gather(pump(one[0], other[1]), pump(other[0], one[1]))


@contextlib.asynccontextmanager
async def forward_proxy(*, socks: bool = False) -> AsyncIterator[ForwardProxy]:
    """Serve a proxy on a free port of loopback."""
    proxy = ForwardProxy(socks=socks)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
