"""Many clients of ``/ws/monitor`` in one process: ``python -m tests.monitoring.crowd HOST COOKIE EXECUTION COUNT``.

Speaks just enough WebSocket to be no bottleneck. Prints ``ready`` once everybody follows the execution, and at its end
one line of JSON: how many got every number once and in order, and how old entries were on arrival (milliseconds).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import socket
import sys
import time
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

import msgspec


class Message(msgspec.Struct):
    """What is looked at in an entry or control message."""

    type: str
    seq: int = 0
    timestamp: str = ""
    execution_id: str = ""


BUFFER_BYTES = 64 * 1024
"""What a client that reads slowly takes at once: about one frame."""
_decoder = msgspec.json.Decoder(list[Message] | Message)


class Client(asyncio.Protocol):
    """Somebody who follows the execution, over one socket after the other when they break."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.last = self.wrong = self.resyncs = self.sockets = 0
        self.transport: asyncio.Transport | None = None
        self._pause: float | None = 0.0

    async def connect(self) -> None:
        """Open a socket; a server that is away is tried again."""
        host, port = self.crowd.host.split(":")
        while True:
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, host, int(port))
                return
            except OSError:
                await asyncio.sleep(random.uniform(0.2, 1))

    def read(self, *, never: bool = False, every: float = 0.0) -> None:
        """Read from now on all that comes, nothing, or what a small buffer holds ``every`` so many seconds."""
        assert self.transport is not None
        self._pause = None if never else every
        if never:
            self.transport.pause_reading()
        elif every:
            sock: socket.socket = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        else:
            self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask to be let in."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer, self.shaken = transport, b"", False
        self.sockets += 1
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (
            "GET /ws/monitor HTTP/1.1", f"Host: {self.crowd.host}", f"Origin: http://{self.crowd.host}",
            f"Cookie: {self.crowd.cookie}", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13", "", "",
        )  # fmt: skip
        transport.write("\r\n".join(lines).encode())

    def data_received(self, data: bytes) -> None:
        """Take whole frames."""
        if self._pause and self.transport is not None:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(self._pause, self.transport.resume_reading)
        self.buffer += data
        if not self.shaken:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 101 " in head.split(b"\r\n")[0], head
            self.shaken, self.buffer = True, rest
            wish = {"type": "subscribe", "execution_id": self.crowd.execution_id, "after": self.last}
            self._say(1, json.dumps(wish).encode())
        while (frame := self._frame()) is not None:
            if frame[0] == 1:
                self._hear(frame[1])
            elif frame[0] == 9:  # ping
                self._say(10, frame[1])

    def connection_lost(self, error: Exception | None) -> None:
        """Come back, unless all is told."""
        if self not in self.crowd.ended:
            self.crowd.later(self.connect())

    def _say(self, kind: int, data: bytes) -> None:
        assert self.transport is not None
        length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
        self.transport.write(bytes([0x80 | kind]) + length + bytes(4) + data)

    def _frame(self) -> tuple[int, bytes] | None:
        buffer = self.buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1] & 127, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + length:
            return None
        self.buffer = buffer[start + length :]
        return buffer[0] & 15, buffer[start : start + length]

    def _hear(self, data: bytes) -> None:
        content = _decoder.decode(data)
        now = time.time()
        for message in content if isinstance(content, list) else [content]:
            if message.seq:
                self.wrong += message.seq != self.last + 1
                self.last = message.seq
                self.crowd.note(message, now)
            elif message.type == "end":
                self.crowd.end(self)
            elif message.type == "resync":
                self.resyncs += 1
            elif message.type == "hello" and message.execution_id and self.sockets == 1:
                self.crowd.ready += 1


class Crowd:
    """All clients and what they saw."""

    def __init__(self, host: str, cookie: str, execution_id: str, count: int) -> None:
        self.host, self.cookie, self.execution_id = host, cookie, execution_id
        self.ready = 0
        self.ages: list[float] = []
        self.clients = [Client(self) for _ in range(count)]
        self.ended: set[Client] = set()
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, message: Message, now: float) -> None:
        """Keep the age of an entry."""
        self.ages.append((now - datetime.fromisoformat(message.timestamp).timestamp()) * 1000)

    def end(self, client: Client) -> None:
        """Note that a client was told the end."""
        self.ended.add(client)
        if len(self.ended) == len(self.clients):
            self._done.set()

    def later(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Do something beside."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def connect(self) -> None:
        """Return when everybody follows the execution; they come a few at a time."""
        for start in range(0, len(self.clients), 20):
            await asyncio.gather(*(client.connect() for client in self.clients[start : start + 20]))
        while self.ready < len(self.clients):
            await asyncio.sleep(0.05)

    async def wait(self) -> dict[str, Any]:
        """Return what was seen, when everybody was told the end."""
        await self._done.wait()
        self.ages.sort()
        for client in self.clients:
            if client.transport is not None:
                client.transport.close()
        return {
            "complete": sum(not client.wrong for client in self.clients),
            "last": sorted({client.last for client in self.clients}),
            "sockets": sum(client.sockets for client in self.clients),
            "p50_ms": self.ages[len(self.ages) // 2],
            "p95_ms": self.ages[len(self.ages) * 95 // 100],
        }


async def _main(host: str, cookie: str, execution_id: str, count: int) -> None:
    crowd = Crowd(host, cookie, execution_id, count)
    await crowd.connect()
    print("ready", flush=True)
    print(json.dumps(await crowd.wait()), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
