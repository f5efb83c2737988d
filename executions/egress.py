"""Which addresses nodes may reach, and the two doors that enforce it: an HTTP client and a browser proxy.

A name is resolved once, the addresses it stands for are judged, and a judged address is what is dialled.
Nothing between the judgement and the dial can change its mind. Everything outside the public internet is
refused unless the allow-list (setting ``FLOWBUILDER_EGRESS_ALLOW``) names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore
import httpx

from executions.errors import NetworkError, NotAllowed
from executions.upstream import Upstream

SETTING: Final = "FLOWBUILDER_EGRESS_ALLOW"
RESPONSE_LIMIT_BYTES: Final = 8 * 1024 * 1024
MAX_REDIRECTS: Final = 5
RESOLVE_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 15.0
TUNNEL_PORTS: Final = frozenset({80, 443})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FORBIDDEN_V4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT, and some clouds' metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's wire server
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relay
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_FORBIDDEN_V6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries any IPv4 address
        "3fff::/20",  # documentation
    )
)


def is_forbidden_address(address: str | Address) -> bool:
    """Return whether ``address`` is anything but an ordinary public unicast address.

    Forms of IPv6 that carry an IPv4 address (mapped, NAT64, 6to4, Teredo) are always forbidden: a resolver
    has no reason to hand them out for a public name.

    Raises:
        ValueError: it is not an address.
    """
    if isinstance(address, str):
        address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return any(address in network for network in _FORBIDDEN_V4)
    return address not in _GLOBAL_V6 or any(address in network for network in _FORBIDDEN_V6)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a connection goes: ``host`` as it was asked for, ``addresses`` as they were judged."""

    host: str
    port: int
    addresses: tuple[str, ...]

    @property
    def address(self) -> str:
        """Return the address to dial first."""
        return self.addresses[0]


@dataclass(frozen=True, slots=True)
class _Rule:
    """One entry of the allow-list; ``port`` None means every port."""

    network: Network | None
    name: str
    port: int | None


class EgressPolicy:
    """The judge. ``allow`` holds hosts, addresses and networks, each with an optional ``:port``.

    A bare address means that address alone; an entry with a port allows only that port. IPv6 addresses
    with a port are written in brackets.

    Raises:
        ValueError: an entry cannot be read.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._rules = tuple(_parse_rule(entry) for entry in allow if entry.strip())

    def check(self, host: str, port: int) -> Target:
        """Resolve ``host`` once and return where to connect.

        Raises:
            NotAllowed: no address that it stands for may be reached.
            NetworkError: the name cannot be resolved.
        """
        name = _clean_host(host)
        try:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _unresolved(host, error) from error
        return self._judge(host, name, port, found)

    async def acheck(self, host: str, port: int) -> Target:
        """Do the same as ``check`` without blocking the event loop."""
        name = _clean_host(host)
        try:
            found = await asyncio.wait_for(
                asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM), RESOLVE_SECONDS
            )
        except TimeoutError as error:
            raise NetworkError(f'the name "{host}" was not resolved within {RESOLVE_SECONDS:g} s') from error
        except (OSError, UnicodeError) as error:
            raise _unresolved(host, error) from error
        return self._judge(host, name, port, found)

    def explicitly_allows(self, target: Target) -> bool:
        """Return whether an entry of the allow-list covers the target, rather than its being public."""
        return all(self._allowed(_clean_host(target.host), item, target.port) for item in target.addresses)

    def _judge(self, host: str, name: str, port: int, found: Sequence[Any]) -> Target:
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        bare = _is_address(name)
        good = [
            address
            for address in addresses
            if self._allowed(name, address, port)
            or (not is_forbidden_address(address) and (bare or not _is_local_name(name)))
        ]
        if not good:
            refused = addresses[0] if addresses else "no address"
            what = refused if refused == host.strip("[]") else f"{host} ({refused})"
            raise NotAllowed(
                f"the address {what} port {port} is not allowed: it is not on the public internet; "
                f"add it to {SETTING} if nodes may reach it"
            )
        return Target(host=host, port=port, addresses=tuple(good))

    def _allowed(self, name: str, address: str, port: int) -> bool:
        judged = ipaddress.ip_address(address.partition("%")[0])
        for rule in self._rules:
            if rule.port is not None and rule.port != port:
                continue
            if rule.network is not None:
                if judged.version == rule.network.version and judged in rule.network:
                    return True
            elif rule.name == name:
                return True
        return False


def _parse_rule(entry: str) -> _Rule:
    text = entry.strip()
    host, port = text, None
    if found := re.fullmatch(r"\[([^\]]+)\](?::(\d+))?(/\d+)?", text):
        host, port = found[1] + (found[3] or ""), found[2]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f'{SETTING}: "{entry}" has no valid port')
    number = None if port is None else int(port)
    try:
        return _Rule(ipaddress.ip_network(host, strict=False), "", number)
    except ValueError:
        pass
    if "/" in host or not re.fullmatch(r"[\w.-]+", host):
        raise ValueError(f'{SETTING}: "{entry}" is not a host, an address or a network, with an optional :port')
    return _Rule(None, _clean_host(host), number)


def _clean_host(host: str) -> str:
    """Return the name in the form that is resolved and compared: lower case, no brackets, no last dot."""
    return host.strip().strip("[]").lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_local_name(name: str) -> bool:
    """Return whether a name belongs to a local network whatever it resolves to."""
    return "." not in name or name.endswith((".internal", ".local", ".localhost", ".lan", ".home.arpa"))


def _unresolved(host: str, error: Exception) -> NetworkError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return NetworkError(f'the name "{host}" cannot be resolved: {reason}', code="network_dns")


# ---------------------------------------------------------------------------- the HTTP client


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Dials the judged address; the TLS name and the Host header stay those of the URL."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        target = await self._policy.acheck(host, port)
        failure: Exception | None = None
        for address in target.addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise NotAllowed(f"the socket {path} is not allowed")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _CappedStream(httpx.AsyncByteStream):
    """Decodes gzip and deflate in small steps and stops when the result grows over the limit."""

    def __init__(self, inner: httpx.AsyncByteStream, encoding: str, limit_bytes: int, host: str) -> None:
        self._inner = inner
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32) if encoding in ("gzip", "x-gzip") else None
        self._deflate = encoding == "deflate"
        self._left = self._limit = limit_bytes
        self._host = host

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            if self._deflate and self._decoder is None:
                # Servers send deflate both with and without the zlib header.
                wrapped = len(chunk) > 1 and chunk[0] & 0x0F == 8 and (chunk[0] << 8 | chunk[1]) % 31 == 0
                self._decoder = zlib.decompressobj() if wrapped else zlib.decompressobj(-zlib.MAX_WBITS)
            if self._decoder is None:
                yield self._count(chunk)
                continue
            rest = chunk
            while rest:
                try:
                    plain = self._decoder.decompress(rest, 64 * 1024)
                except zlib.error as error:
                    raise NetworkError(f"{self._host} sent a body that cannot be decompressed") from error
                rest = self._decoder.unconsumed_tail
                if not plain:
                    break
                yield self._count(plain)

    def _count(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise NetworkError(
                f"the answer of {self._host} is larger than {self._limit // 1024} KiB, the limit for one answer",
                code="too_large",
                retryable=False,
            )
        return data

    async def aclose(self) -> None:
        await self._inner.aclose()


class GuardedTransport(httpx.AsyncHTTPTransport):
    """An httpx transport that reaches only what ``policy`` allows and caps what comes back.

    Every connection is judged when it is opened, so every hop of a redirect is.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        limit_bytes: int = RESPONSE_LIMIT_BYTES,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        context = verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify, trust_env=False)
        super().__init__(verify=context, trust_env=False)
        self._limit_bytes = limit_bytes
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=20,
            max_keepalive_connections=5,
            keepalive_expiry=5.0,
            network_backend=_GuardedBackend(policy),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; the body of the answer is decoded and counted while it is read."""
        response = await super().handle_async_request(request)
        host = request.url.host
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            await response.aclose()
            raise NetworkError(
                f'{host} answered with the content encoding "{encoding[:40]}", which was not asked for', retryable=False
            )
        if not isinstance(response.stream, httpx.AsyncByteStream):
            raise TypeError("the answer has no asynchronous stream")
        headers = [
            (name, value)
            for name, value in response.headers.raw
            if not encoding or name.lower() not in (b"content-encoding", b"content-length")
        ]
        return httpx.Response(
            status_code=response.status_code,
            headers=headers,
            stream=_CappedStream(response.stream, encoding, self._limit_bytes, host),
            extensions=response.extensions,
        )


def guarded_transport(policy: EgressPolicy, **options: Any) -> GuardedTransport:
    """Return a transport for any httpx client (also one that a library brings)."""
    return GuardedTransport(policy, **options)


_HARMLESS_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "idempotency-key",
    }
)


async def _strip_credentials(request: httpx.Request) -> None:
    """Drop own headers and cookies when a redirect leaves the origin that they were meant for."""
    origin = (request.url.scheme, request.url.host, request.url.port)
    if request.extensions.setdefault("flowbuilder.origin", origin) == origin:
        return
    for name in [name for name in request.headers if name.lower() not in _HARMLESS_HEADERS]:
        del request.headers[name]


def guarded_client(
    policy: EgressPolicy,
    *,
    timeout: float | httpx.Timeout = 30.0,
    follow_redirects: bool = False,
    limit_bytes: int = RESPONSE_LIMIT_BYTES,
    verify: ssl.SSLContext | bool = True,
    around: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] | None = None,
    **options: Any,
) -> httpx.AsyncClient:
    """Return a client that reaches only what ``policy`` allows.

    ``timeout`` bounds each step in seconds, ``limit_bytes`` the decoded size of one answer. Proxy settings
    of the environment are not used. ``around`` wraps the transport. ``options`` go to ``httpx.AsyncClient``.
    """
    transport = GuardedTransport(policy, limit_bytes=limit_bytes, verify=verify)
    headers = {
        "Accept-Encoding": "gzip, deflate",
        "User-Agent": "FlowBuilder",
        **dict(options.pop("headers", None) or {}),
    }
    return httpx.AsyncClient(
        transport=transport if around is None else around(transport),
        timeout=timeout,
        follow_redirects=follow_redirects,
        max_redirects=MAX_REDIRECTS,
        trust_env=False,
        headers=headers,
        event_hooks={"request": [_strip_credentials]},
        **options,
    )


# ---------------------------------------------------------------------------- the browser proxy


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that a page asked for and did not get. ``at`` is monotonic seconds.

    ``allowed`` False: the policy refused it. True: it may be reached, but could not be.
    """

    host: str
    port: int
    message: str
    at: float
    allowed: bool = False


class _BadRequest(Exception):
    """The client of the proxy does not speak HTTP as we read it."""


class Door:
    """The way out of a page, and what it was refused: the last hundred targets, newest last."""

    def __init__(self) -> None:
        self.refusals: deque[Refusal] = deque(maxlen=100)
        self.refusal_count = 0

    def refused(self, host: str, port: int, since: float = 0.0) -> Refusal | None:
        """Return the newest refusal of ``host:port`` at or after ``since``, or None."""
        wanted = _clean_host(host)
        for refusal in reversed(self.refusals):
            if refusal.at < since:
                break
            if refusal.port == port and _clean_host(refusal.host) == wanted:
                return refusal
        return None

    async def admit(self, url: str) -> None:
        """Judge an address before the page is sent there, where nothing on the way does."""

    def look(self, url: str) -> None:
        """Take note that the page is on its way to an address."""

    async def looked(self) -> None:
        """Wait until all that was taken note of is judged."""

    async def close(self) -> None:
        """Let nothing pass any more."""


class FarDoor(Door):
    """The door of a page in a browser elsewhere, which connects from there, not through us.

    Judged is where the page itself goes: before it is sent there, and after it was led there, so that what it shows
    is not read. What parts of the page load is not seen here.
    """

    def __init__(self, policy: EgressPolicy) -> None:
        super().__init__()
        self._policy = policy
        self._open: set[asyncio.Task[None]] = set()

    async def admit(self, url: str) -> None:
        """Judge an address by what its name stands for here; a name that is unknown here is left to the browser.

        Raises:
            NotAllowed: it may not be reached.
        """
        parsed = urlsplit(url)
        if parsed.scheme not in ("http", "https"):
            return
        host, port = _split_authority(url, 443 if parsed.scheme == "https" else 80)
        try:
            await self._policy.acheck(host, port)
        except NotAllowed as error:
            self.refusal_count += 1
            self.refusals.append(Refusal(host, port, str(error), time.monotonic()))
            raise
        except NetworkError:
            return

    def look(self, url: str) -> None:
        """Judge an address in the background."""
        task = asyncio.get_running_loop().create_task(self._look(url))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _look(self, url: str) -> None:
        with contextlib.suppress(NotAllowed, _BadRequest):
            await self.admit(url)

    async def looked(self) -> None:
        """Wait until all addresses are judged."""
        while self._open:
            await asyncio.wait(self._open)

    async def close(self) -> None:
        """Judge no more."""
        for task in self._open:
            task.cancel()


class EgressProxy(Door):
    """A forward proxy on loopback that reaches only what ``policy`` allows.

    CONNECT (TLS, WebSockets) goes to ports 80 and 443 and to what the allow-list names; plain HTTP is one
    request per connection, so that every request is judged. ``refusals`` keeps the last hundred refused
    targets. ``policy`` None refuses everything: that is what a browser's own background traffic gets.
    ``upstream`` is a proxy of the user's that everything goes through, after it was judged here; so is the proxy.
    """

    HEAD_LIMIT_BYTES = 256 * 1024

    def __init__(
        self,
        policy: EgressPolicy | None,
        *,
        idle_seconds: float = 300.0,
        limit_bytes: int = 1024 * 1024 * 1024,
        upstream: Upstream | None = None,
    ) -> None:
        super().__init__()
        self._policy = policy
        self._upstream = upstream
        self._idle_seconds = idle_seconds
        self._limit = self._left_bytes = limit_bytes
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Return ``http://127.0.0.1:<port>`` of the running proxy."""
        if self._server is None:
            raise RuntimeError("the proxy is not running")
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=self.HEAD_LIMIT_BYTES)

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            await self._serve(reader, writer)
        except NotAllowed as error:
            await _answer(writer, 403, "Forbidden", str(error))
        except NetworkError as error:
            await _answer(writer, 502, "Bad Gateway", str(error))
        except _BadRequest as error:
            await _answer(writer, 400, "Bad Request", str(error))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            pass  # only ``close`` cancels; the stream's own callback would log it as an error
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self._idle_seconds):
            head = await reader.readuntil(b"\r\n\r\n")
        line, headers = _parse_head(head)
        parts = line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise _BadRequest("this is a proxy; it expects an absolute URL or CONNECT")
        method, address, _ = parts
        if method == "CONNECT":
            await self._tunnel(address, reader, writer)
        else:
            await self._forward(method, address, headers, reader, writer)

    async def _tunnel(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = _split_authority(f"//{address}", None)
        upstream_reader, upstream = await self._dial(host, port, tunnel=True)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            await self._pump_both(reader, writer, upstream_reader, upstream)
        finally:
            upstream.close()

    async def _forward(
        self,
        method: str,
        address: str,
        headers: list[tuple[str, str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        parsed = urlsplit(address)
        if parsed.scheme != "http":
            raise _BadRequest(f'only http addresses are forwarded, not "{address[:100]}"')
        host, port = _split_authority(address, 80)
        length = _body_length(headers)
        upstream_reader, upstream = await self._dial(host, port, tunnel=False)
        try:
            path = (parsed.path or "/") + (f"?{parsed.query}" if parsed.query else "")
            authority = parsed.netloc.rpartition("@")[2]
            lines = [f"{method} {path} HTTP/1.1", f"Host: {authority}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in _end_to_end(headers) if name.lower() != "host"]
            upstream.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            sending = asyncio.create_task(self._send_body(reader, upstream, length))
            try:
                await self._relay_response(upstream_reader, writer)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        finally:
            upstream.close()

    async def _send_body(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, length: int) -> None:
        """Send exactly the body; afterwards the browser's hanging up ends the exchange."""
        left = length
        while left:
            data = await reader.read(min(left, 65536))
            if not data:
                break
            left -= len(data)
            upstream.write(data)
            await upstream.drain()
        while await reader.read(65536):
            pass  # whatever follows on this connection is not forwarded
        upstream.close()

    async def _relay_response(self, upstream_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(self._idle_seconds):
                head = await upstream_reader.readuntil(b"\r\n\r\n")
            line, headers = _parse_head(head)
            parts = line.split(" ", 2)
            if len(parts) < 2 or not parts[1].isdigit():
                raise _BadRequest("the server did not answer with HTTP")
            if not parts[1].startswith("1"):
                break
        lines = [line, "Connection: close", *(f"{name}: {value}" for name, value in _end_to_end(headers))]
        for name, value in headers:
            if name.lower() == "transfer-encoding":
                lines.append(f"{name}: {value}")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        await self._pump(upstream_reader, writer)

    async def _dial(self, host: str, port: int, *, tunnel: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Judge and connect to the judged address."""
        try:
            return await self._judge_and_connect(host, port, tunnel=tunnel)
        except (NotAllowed, NetworkError) as error:
            self.refusal_count += 1
            allowed = isinstance(error, NetworkError)
            self.refusals.append(Refusal(host, port, str(error), time.monotonic(), allowed))
            raise

    async def _judge_and_connect(
        self, host: str, port: int, *, tunnel: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._policy is None:
            raise NotAllowed(f"the address {host} port {port} is not allowed: the browser's own traffic is off")
        target = await self._policy.acheck(host, port)
        if tunnel and port not in TUNNEL_PORTS and not self._policy.explicitly_allows(target):
            raise NotAllowed(
                f"the address {host} ({target.address}) port {port} is not allowed in a browser, which may use the "
                f"ports 80 and 443; add {host}:{port} to {SETTING} if pages may reach it"
            )
        if self._upstream is not None:
            return await self._upstream.connect(target.address, port, self._dial_upstream)
        try:
            return await _open(target)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", "") or "no answer"
            raise NetworkError(f"{host} port {port} could not be reached: {reason}") from error

    async def _dial_upstream(
        self, host: str, port: int, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the proxy that we go through, which has to be allowed as any other address."""
        if self._policy is None:
            raise NotAllowed(f"the address {host} port {port} is not allowed")
        return await _open(await self._policy.acheck(host, port), tls)

    async def _pump_both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> None:
        pumps = {
            asyncio.create_task(self._pump(reader, upstream)),
            asyncio.create_task(self._pump(upstream_reader, writer)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(self._idle_seconds):
                data = await reader.read(65536)
            if not data:
                return
            self._left_bytes -= len(data)
            if self._left_bytes < 0:
                self.refusals.append(
                    Refusal("", 0, f"the page moved more than {self._limit // 1024 // 1024} MiB", time.monotonic())
                )
                return
            writer.write(data)
            await writer.drain()


async def _open(target: Target, tls: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first judged address that answers; TLS checks the name that was asked for."""
    failure: OSError | TimeoutError | None = None
    for address in target.addresses:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_connection(
                    address, target.port, ssl=tls, server_hostname=target.host if tls else None
                )
        except (OSError, TimeoutError) as error:
            failure = error
    raise failure or OSError(f"{target.host} has no address")


def _parse_head(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = []
    for line in rest:
        if not line:
            continue
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
            raise _BadRequest("a header line cannot be read")
        headers.append((name, value.strip()))
    return first, headers


def _split_authority(url: str, default_port: int | None) -> tuple[str, int]:
    try:
        parsed = urlsplit(url)
        host, port = parsed.hostname, parsed.port or default_port
    except ValueError as error:
        raise _BadRequest(f'"{url[:100]}" has no readable host and port') from error
    if not host or not port:
        raise _BadRequest(f'"{url[:100]}" has no host and port')
    return host, port


def _body_length(headers: list[tuple[str, str]]) -> int:
    lengths = {value for name, value in headers if name.lower() == "content-length"}
    if any(name.lower() == "transfer-encoding" for name, _ in headers):
        raise _BadRequest("a request body needs a Content-Length")
    if not lengths:
        return 0
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()):
        raise _BadRequest("the Content-Length cannot be read")
    return int(length)


_HOP_BY_HOP: Final = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


def _end_to_end(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP]


async def _answer(writer: asyncio.StreamWriter, status: int, reason: str, message: str) -> None:
    """Answer instead of the server. The message is plain text and never shown as HTML."""
    body = message.encode()
    header = re.sub(r"[^\x20-\x7e]", "?", message)[:500]
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        f"X-Flowbuilder-Refused: {header}\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    with contextlib.suppress(OSError):
        writer.write(head.encode("latin-1") + body)
        await writer.drain()
