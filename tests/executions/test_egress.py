"""What nodes may reach: the judge, the HTTP client and the browser proxy, each against real sockets."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from executions.egress import EgressPolicy, EgressProxy, guarded_client, is_forbidden_address
from executions.errors import NetworkError, NotAllowed
from tests.executions.conftest import Site, Victim, serving

FORBIDDEN = (
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "100::1",
    "2001::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fe80::1%lo", "fec0::1", "ff02::1", "5f00::1",
)  # fmt: skip
PUBLIC = (
    "8.8.8.8",
    "1.1.1.1",
    "93.184.216.34",
    "172.32.0.1",
    "100.128.0.1",
    "198.20.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
)


@pytest.mark.row("S2-53")
@pytest.mark.parametrize("address", FORBIDDEN)
def test_addresses_that_are_not_public_are_forbidden(address: str) -> None:
    assert is_forbidden_address(address)


@pytest.mark.row("S2-53")
@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert not is_forbidden_address(address)


@pytest.mark.row("S2-53")
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "localhost.", "LOCALHOST", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1",
        "0", "[::1]", "::1", "[::ffff:127.0.0.1]", "１２７.０.０.１", "127。0。0。1", "169.254.169.254",
    ],
)  # fmt: skip
async def test_every_spelling_of_a_forbidden_address_is_refused_after_resolution(host: str) -> None:
    policy = EgressPolicy()

    with pytest.raises(NotAllowed, match=r"is not allowed.*FLOWBUILDER_EGRESS_ALLOW"):
        await policy.acheck(host, 80)
    with pytest.raises(NotAllowed, match="is not allowed"):
        policy.check(host, 80)


@pytest.mark.parametrize(
    ("entry", "host", "port", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1", "127.0.0.1", 9999, True),
        ("127.0.0.1", "127.0.0.2", 80, False),
        ("127.0.0.1:8611", "127.0.0.1", 8611, True),
        ("127.0.0.1:8611", "127.0.0.1", 8612, False),
        ("127.0.0.1:8611", "2130706433", 8611, True),
        ("10.0.0.0/8", "10.200.0.1", 443, True),
        ("10.0.0.0/8", "11.0.0.1", 443, True),
        ("10.0.0.0/8", "192.168.0.1", 443, False),
        ("10.0.0.0/8:443", "10.200.0.1", 443, True),
        ("10.0.0.0/8:443", "10.200.0.1", 80, False),
        ("::1", "::1", 80, True),
        ("[::1]:80", "[::1]", 80, True),
        ("[::1]:80", "[::1]", 81, False),
        ("fd00::/8", "fd00::5", 80, True),
        ("localhost", "localhost", 80, True),
        ("localhost:81", "localhost", 80, False),
        ("LocalHost.", "localhost", 80, True),
        ("localhost", "127.0.0.2", 80, False),
    ],
)
def test_each_form_of_an_allow_list_entry(entry: str, host: str, port: int, allowed: bool) -> None:
    policy = EgressPolicy([entry])

    if allowed:
        assert policy.check(host, port).port == port
    else:
        with pytest.raises(NotAllowed):
            policy.check(host, port)


@pytest.mark.parametrize(
    "entry", ["http://x", "1.2.3.4/99", "host:0", "host:99999", "host:port", "a b", "10.0.0.0/8/8"]
)
def test_an_entry_that_cannot_be_read_is_an_error_and_not_ignored(entry: str) -> None:
    with pytest.raises(ValueError, match="FLOWBUILDER_EGRESS_ALLOW"):
        EgressPolicy([entry])


async def test_a_name_that_does_not_resolve_is_a_network_error_and_no_refusal() -> None:
    with pytest.raises(NetworkError, match=r'"nothing\.invalid" cannot be resolved'):
        await EgressPolicy().acheck("nothing.invalid", 80)


# ------------------------------------------------------------------ the HTTP client


async def test_the_client_reaches_what_is_allowed_and_keeps_the_host_header(site: Site) -> None:
    async with guarded_client(EgressPolicy([f"127.0.0.1:{site.port}"])) as client:
        response = await client.get(f"http://localhost:{site.port}/here")

    assert response.text == "ok"
    assert site.requests[0]["headers"]["host"] == f"localhost:{site.port}"


@pytest.mark.row("S2-53")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_a_forbidden_address_is_refused(site: Site, victim: Victim, status: int) -> None:
    async with guarded_client(EgressPolicy([f"127.0.0.1:{site.port}"]), follow_redirects=True) as client:
        with pytest.raises(NotAllowed, match=f"127.0.0.1 port {victim.port} is not allowed"):
            await client.post(
                f"{site.url}/redirect",
                params={"to": f"http://{victim.address}/x", "status": status},
                content=b"payload",
            )

    assert victim.hits == []


@pytest.mark.row("S2-53")
async def test_a_name_is_resolved_once_and_the_judged_address_is_dialled(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebinding resolver: the first answer is allowed, every later one is not."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebind.example.com":
            return real(host, port, *args, **kwargs)
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    policy = EgressPolicy([f"127.0.0.1:{site.port}"])
    async with guarded_client(policy) as client:
        first = await client.get(f"http://rebind.example.com:{site.port}/")

    assert first.text == "ok"
    assert asked == ["rebind.example.com"], "the name was looked up again between the judgement and the dial"
    async with guarded_client(policy) as client:
        with pytest.raises(NotAllowed, match=r"127\.0\.0\.2"):
            await client.get(f"http://rebind.example.com:{site.port}/")


async def test_of_mixed_addresses_only_the_allowed_one_is_dialled(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("10.0.0.1", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", mixed)

    target = EgressPolicy([f"127.0.0.1:{site.port}"]).check("both.example.com", site.port)

    assert target.addresses == ("127.0.0.1",)


@pytest.mark.row("S2-53")
async def test_credentials_do_not_follow_a_redirect_to_another_origin(site: Site) -> None:
    other = Site()
    async with serving(other) as port:
        policy = EgressPolicy([f"127.0.0.1:{site.port}", f"127.0.0.1:{port}"])
        async with guarded_client(policy, follow_redirects=True) as client:
            await client.get(
                f"{site.url}/redirect",
                params={"to": f"http://127.0.0.1:{port}/other"},
                headers={"Authorization": "Bearer t", "X-Api-Key": "k", "Cookie": "c=1", "Idempotency-Key": "i"},
            )

    sent, arrived = site.requests[0]["headers"], other.requests[0]["headers"]
    assert {"authorization", "x-api-key", "cookie"} <= set(sent)
    assert not {"authorization", "x-api-key", "cookie"} & set(arrived)
    assert arrived["idempotency-key"] == "i"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("", b"x" * 200_000), ("gzip", gzip.compress(b"\0" * 50_000_000)), ("deflate", zlib.compress(b"\0" * 50_000_000))],
)
async def test_an_answer_over_the_limit_is_cut_off_while_it_streams(site: Site, encoding: str, body: bytes) -> None:
    headers: dict[str, Any] = {"content_encoding": encoding} if encoding else {}
    site.answer(body=body, **headers)

    async with guarded_client(EgressPolicy(["127.0.0.1"]), limit_bytes=100_000) as client:
        with pytest.raises(NetworkError, match="larger than 97 KiB") as caught:
            await client.get(f"{site.url}/answer")

    assert caught.value.retryable is False


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"hello" * 9, mtime=0)),
        ("deflate", zlib.compress(b"hello" * 9)),
        ("deflate", zlib.compress(b"hello" * 9)[2:-4]),
        ("", b"hello" * 9),
    ],
)
async def test_compressed_answers_are_read(site: Site, encoding: str, body: bytes) -> None:
    headers: dict[str, Any] = {"content_encoding": encoding} if encoding else {}
    site.answer(body=body, **headers)

    async with guarded_client(EgressPolicy(["127.0.0.1"])) as client:
        response = await client.get(f"{site.url}/answer")

    assert response.text == "hello" * 9


async def test_an_encoding_that_was_not_asked_for_is_refused(site: Site) -> None:
    site.answer(body=b"\x28\xb5\x2f\xfd", content_encoding="zstd")

    async with guarded_client(EgressPolicy(["127.0.0.1"])) as client:
        with pytest.raises(NetworkError, match='content encoding "zstd"'):
            await client.get(f"{site.url}/answer")


async def test_proxy_settings_of_the_environment_are_not_used(
    site: Site, victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{victim.address}")

    async with guarded_client(EgressPolicy(["127.0.0.1"])) as client:
        await client.get(site.url)

    assert victim.hits == []


# ------------------------------------------------------------------ the browser proxy


@pytest.fixture
async def proxy(site: Site) -> AsyncIterator[EgressProxy]:
    found = EgressProxy(EgressPolicy([f"127.0.0.1:{site.port}"]))
    await found.start()
    yield found
    await found.close()


async def speak(proxy: EgressProxy, data: bytes) -> bytes:
    """Send bytes to the proxy and return everything that it answers until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


async def test_plain_http_is_forwarded_with_its_body(site: Site, proxy: EgressProxy) -> None:
    async with httpx.AsyncClient(proxy=proxy.url, trust_env=False) as client:
        first = await client.post(f"{site.url}/a?x=1", content=b"body")
        second = await client.get(f"{site.url}/b")

    assert (first.text, second.text) == ("ok", "ok")
    assert [(request["path"], request["body"]) for request in site.requests] == [("/a", b"body"), ("/b", b"")]
    assert "proxy-connection" not in site.requests[0]["headers"]


@pytest.mark.row("S2-53")
async def test_a_refused_address_is_a_403_that_names_address_and_setting(proxy: EgressProxy, victim: Victim) -> None:
    async with httpx.AsyncClient(proxy=proxy.url, trust_env=False) as client:
        response = await client.get(f"http://{victim.address}/")

    assert response.status_code == 403
    for text in (response.text, response.headers["x-flowbuilder-refused"]):
        assert f"127.0.0.1 port {victim.port} is not allowed" in text
        assert "FLOWBUILDER_EGRESS_ALLOW" in text
    assert proxy.refused("127.0.0.1", victim.port) is not None
    assert victim.hits == []


@pytest.mark.row("S2-53")
async def test_a_second_request_on_a_connection_is_not_carried_along(
    site: Site, proxy: EgressProxy, victim: Victim
) -> None:
    first = f"GET {site.url}/one HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nConnection: keep-alive\r\n\r\n"
    second = f"GET http://{victim.address}/two HTTP/1.1\r\nHost: {victim.address}\r\n\r\n"

    answer = await speak(proxy, (first + second).encode())

    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in answer.lower()
    assert site.paths() == ["/one"]
    assert victim.hits == []


async def test_the_host_header_cannot_differ_from_the_judged_host(site: Site, proxy: EgressProxy) -> None:
    await speak(proxy, f"GET {site.url}/ HTTP/1.1\r\nHost: internal.example\r\n\r\n".encode())

    assert site.requests[0]["headers"]["host"] == f"127.0.0.1:{site.port}"


async def test_connect_tunnels_to_an_allowed_port_only(site: Site, proxy: EgressProxy, victim: Victim) -> None:
    request = "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    good = await speak(proxy, f"CONNECT 127.0.0.1:{site.port} HTTP/1.1\r\n\r\n{request}".encode())
    bad = await speak(proxy, f"CONNECT 127.0.0.1:{victim.port} HTTP/1.1\r\n\r\n{request}".encode())

    assert good.startswith(b"HTTP/1.1 200 Connection established")
    assert site.paths() == ["/tunnel"]
    assert bad.startswith(b"HTTP/1.1 403")
    assert victim.hits == []


async def test_connect_to_a_public_host_is_limited_to_the_web_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    def public(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]

    proxy = EgressProxy(EgressPolicy())
    await proxy.start()
    monkeypatch.setattr(socket, "getaddrinfo", public)

    answer = await speak(proxy, b"CONNECT mail.example.com:25 HTTP/1.1\r\n\r\n")
    await proxy.close()

    assert answer.startswith(b"HTTP/1.1 403")
    assert b"add mail.example.com:25 to FLOWBUILDER_EGRESS_ALLOW" in answer


async def test_a_host_that_does_not_answer_is_a_502_and_no_refusal(proxy: EgressProxy, site: Site) -> None:
    async with httpx.AsyncClient(proxy=proxy.url, trust_env=False) as client:
        response = await client.get("http://nothing.invalid/")

    assert response.status_code == 502
    failure = proxy.refused("nothing.invalid", 80)
    assert failure is not None
    assert failure.allowed


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET ftp://127.0.0.1/ HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"CONNECT nowhere HTTP/1.1\r\n\r\n",
        b"POST http://127.0.0.1:1/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST http://127.0.0.1:1/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST http://127.0.0.1:1/ HTTP/1.1\r\nContent-Length: \xb2\r\n\r\nxx",
        b"GET http://127.0.0.1:99999/ HTTP/1.1\r\n\r\n",
        b"GET http://127.0.0.1:1/ HTTP/1.1\r\nbad header\r\n\r\n",
    ],
)
async def test_what_is_no_proxy_request_is_a_400(proxy: EgressProxy, data: bytes) -> None:
    assert (await speak(proxy, data)).startswith(b"HTTP/1.1 400")


async def test_closing_the_proxy_cuts_open_connections(proxy: EgressProxy, site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    writer.write(f"CONNECT 127.0.0.1:{site.port} HTTP/1.1\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")

    await proxy.close()

    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()
