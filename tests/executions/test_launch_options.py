"""What a launch node may be told: a proxy, a login that is there already, and how the page looks to others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from executions.browser import BrowserHost, BrowserOptions, BrowserPage
from executions.egress import EgressPolicy, EgressProxy
from executions.errors import BrowserError, NetworkError, NodeInputError, NotAllowed
from executions.local import execute_sync
from executions.upstream import Upstream
from flowbuilder.demo.site import PRODUCTS, DemoSite, Ledger
from recordings import record_workflow
from tests.conftest import graph, node
from tests.executions.conftest import Site, TestEnvironment, Victim, serving
from tests.executions.proxies import PASSWORD, USER, ForwardProxy, forward_proxy
from workflows import credentials

MakeHost = Callable[..., BrowserHost]


def login(proxy: ForwardProxy, password: str = PASSWORD) -> str:
    """Return the fields of a proxy credential as a node gets them."""
    return json.dumps({"server": proxy.url, "username": USER, "password": password})


def upstream(proxy: ForwardProxy, password: str = PASSWORD) -> Upstream:
    return Upstream.read(proxy.url, USER, password)


# ------------------------------------------------------------------ the proxy


@pytest.mark.browser
@pytest.mark.parametrize("socks", [False, True], ids=["http", "socks5"])
async def test_a_page_goes_out_through_the_proxy_with_its_login(site: Site, make_host: MakeHost, socks: bool) -> None:
    async with forward_proxy(socks=socks) as proxy:
        allow = [f"127.0.0.1:{site.port}", f"127.0.0.1:{proxy.port}"]
        env = TestEnvironment(EgressPolicy(allow), make_host(*allow))
        await env.run("launch_standard_browser", Website_URL=f"{site.url}/site/form.html", Proxy=login(proxy))

        assert set(proxy.asked) == {f"127.0.0.1:{site.port}"}
        assert set(proxy.logins) == {(USER, PASSWORD)}
        assert "/site/form.html" in site.paths()
        assert len(proxy.asked) >= len(site.paths()), "something went past the proxy"
        page = await env.page()
        assert (await page.html("title")) == "<title>Form</title>"


@pytest.mark.browser
async def test_a_proxy_that_refuses_the_login_is_an_error_without_the_password(site: Site, make_host: MakeHost) -> None:
    async with forward_proxy() as proxy:
        allow = [f"127.0.0.1:{site.port}", f"127.0.0.1:{proxy.port}"]
        env = TestEnvironment(EgressPolicy(allow), make_host(*allow))
        with pytest.raises(BrowserError, match=f"the proxy 127.0.0.1:{proxy.port} refused the login") as caught:
            await env.run(
                "launch_standard_browser", Website_URL=f"{site.url}/site/form.html", Proxy=login(proxy, "wr0ng")
            )

        assert site.requests == []
        assert "wr0ng" not in str(caught.value) + env.text()


@pytest.mark.browser
@pytest.mark.row("S2-53")
async def test_a_proxy_is_no_way_around_the_egress_guard(site: Site, victim: Victim, make_host: MakeHost) -> None:
    async with forward_proxy() as proxy:
        allow = [f"127.0.0.1:{site.port}", f"127.0.0.1:{proxy.port}"]
        page = await make_host(*allow).open("e1:main", BrowserOptions(proxy=upstream(proxy)))
        for url in (
            f"http://{victim.address}/",
            f"https://{victim.address}/",
            f"http://localhost:{victim.port}/",
            f"{site.url}/redirect?to=http://{victim.address}/",
        ):
            with pytest.raises(NotAllowed, match=r"is not allowed.*FLOWBUILDER_EGRESS_ALLOW"):
                await page.goto(url)
        await page.goto(f"{site.url}/site/result.html")
        await page.page.evaluate(f"fetch('http://{victim.address}/').catch(() => 0)")

        assert set(proxy.asked) == {f"127.0.0.1:{site.port}"}, "the proxy was asked for what is not allowed"
        assert victim.hits == []


@pytest.mark.browser
@pytest.mark.row("S2-53")
async def test_the_proxy_itself_has_to_be_allowed(site: Site, victim: Victim, make_host: MakeHost) -> None:
    proxy = Upstream("http", "127.0.0.1", victim.port)
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main", BrowserOptions(proxy=proxy))

    with pytest.raises(NotAllowed, match=f"127.0.0.1 port {victim.port} is not allowed"):
        await page.goto(f"{site.url}/site/form.html")

    assert victim.hits == []
    assert site.requests == []


async def through(policy: EgressPolicy, way: Upstream, url: str) -> httpx.Response:
    """Ask for an address through our proxy, which goes through another one."""
    ours = EgressProxy(policy, upstream=way)
    await ours.start()
    try:
        async with httpx.AsyncClient(proxy=ours.url, trust_env=False) as client:
            return await client.get(url)
    finally:
        await ours.close()


@pytest.mark.row("S2-53")
@pytest.mark.parametrize("socks", [False, True], ids=["http", "socks5"])
async def test_the_proxy_gets_the_address_that_was_judged_and_no_name(site: Site, socks: bool) -> None:
    async with forward_proxy(socks=socks) as proxy:
        policy = EgressPolicy([f"localhost:{site.port}", f"127.0.0.1:{proxy.port}"])
        answer = await through(policy, upstream(proxy), f"http://localhost:{site.port}/named")

        assert answer.text == "ok"
        assert proxy.asked == [f"127.0.0.1:{site.port}"]
        assert site.requests[0]["headers"]["host"] == f"localhost:{site.port}"


@pytest.mark.parametrize("socks", [False, True], ids=["http", "socks5"])
async def test_a_login_that_the_proxy_refuses_is_told_without_it(site: Site, socks: bool) -> None:
    async with forward_proxy(socks=socks) as proxy:
        policy = EgressPolicy(["127.0.0.1"])
        answer = await through(policy, upstream(proxy, "wr0ng-password"), site.url)

    assert answer.status_code == 502
    assert f"the proxy 127.0.0.1:{proxy.port} refused the login" in answer.text
    assert "wr0ng" not in answer.text
    assert site.requests == []


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 403 No\r\n\r\n", b"\x05\xff", b"\x05\x00\x05\x02\x00\x01"]
)
@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_what_is_no_proxy_or_does_not_want_to_is_an_error_in_words(scheme: str, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def dial(host: str, port: int, tls: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(host, port)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NetworkError, match=f"the proxy 127.0.0.1:{port} "):
            await Upstream(scheme, "127.0.0.1", port).connect("93.184.216.34", 443, dial)


async def test_an_https_proxy_is_spoken_to_with_tls_under_its_own_name() -> None:
    seen: list[Any] = []

    async def dial(host: str, port: int, tls: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        seen.append((host, port, tls.check_hostname))
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(
        NetworkError, match=r"the proxy proxy\.example\.com:443 could not be reached: Connection refused"
    ):
        await Upstream.read("https://proxy.example.com").connect("93.184.216.34", 443, dial)
    assert seen == [("proxy.example.com", 443, True)]


@pytest.mark.parametrize("given", ["http://p:1", '{"password": "x"}', '{"server": "ftp://p"}', "[]", '{"server": 1}'])
async def test_what_is_no_proxy_credential_is_refused_and_not_repeated(env: TestEnvironment, given: str) -> None:
    with pytest.raises(NodeInputError, match=r'input "Proxy".*must be a credential of the kind proxy') as caught:
        await env.run("launch_standard_browser", Website_URL="http://x.com", Proxy=given)

    assert given not in str(caught.value)


# ------------------------------------------------------------------ the storage state


async def session_of(address: str) -> dict[str, Any]:
    """Log in to the demo shop and return what a browser would remember of it."""
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
        await client.post("/login", data={"username": "demo", "password": "demo-password"})
        token = client.cookies["session"]
    host = address.partition(":")[0]
    cookie = {
        "name": "session", "value": token, "domain": host, "path": "/", "expires": -1, "httpOnly": True,
        "secure": False, "sameSite": "Lax",
    }  # fmt: skip
    return {
        "cookies": [cookie],
        "origins": [{"origin": f"http://{address}", "localStorage": [{"name": "currency", "value": "EUR"}]}],
    }


@pytest.mark.browser
async def test_a_storage_state_is_a_login_that_is_there_already(make_host: MakeHost) -> None:
    async with serving(DemoSite(Ledger())) as port:
        allow = f"127.0.0.1:{port}"
        env = TestEnvironment(EgressPolicy([allow]), make_host(allow))
        state = json.dumps(await session_of(allow))
        await env.run("launch_standard_browser", Website_URL=f"http://{allow}/shop", Storage_State=state)
        await env.run("wait_for_element", Selector=".product", Visibility="visible")
        page = await env.page()

        assert page.url == f"http://{allow}/shop"
        assert await page.page.locator(".product").count() == len(PRODUCTS)
        assert await page.page.evaluate("localStorage.getItem('currency')") == "EUR"

        fresh = TestEnvironment(EgressPolicy([allow]), make_host(allow))
        await fresh.run("launch_standard_browser", Website_URL=f"http://{allow}/shop")
        assert (await fresh.page()).url == f"http://{allow}/login", "without the state the shop asks for a login"


async def test_what_is_no_storage_state_is_refused_and_not_repeated(env: TestEnvironment) -> None:
    with pytest.raises(NodeInputError, match=r'input "Storage State".*browser_state.*is no storage state') as caught:
        await env.run("launch_standard_browser", Website_URL="http://x.com", Storage_State='{"secret": "t0ken"}')

    assert "t0ken" not in str(caught.value)


@pytest.mark.browser
@pytest.mark.row("S2-08")
def test_both_come_from_stored_credentials_and_show_nowhere(
    alice: Any, make_workflow: Callable[..., Any], transactional_db: None, site_url: str
) -> None:
    state = {"cookies": [{"name": "s", "value": "cookie-secret-1", "url": site_url}], "origins": []}
    fields = {"server": "http://127.0.0.1:9", "username": "someone", "password": "way-secret-1"}
    credentials.save(alice, "way", "proxy", fields)
    credentials.save(alice, "state", "browser_state", {"state": json.dumps(state)})
    opens = node(
        "open", "launch_standard_browser", Website_URL=f"{site_url}/form.html",
        Proxy={"$credential": "way"}, Storage_State={"$credential": "state"},
    )  # fmt: skip
    with record_workflow("both") as recorder:
        result = execute_sync(make_workflow(graph([opens])))

    assert result.status == "failed"
    assert "the proxy 127.0.0.1:9 could not be reached" in result.errors["open"]
    everything = str([event.to_dict() for event in recorder.events]) + str(result)
    assert "someone" in everything
    assert "cookie-secret-1" not in everything
    assert "way-secret-1" not in everything


# ------------------------------------------------------------------ how the page looks


@pytest.mark.browser
async def test_every_option_of_a_launch_node_has_its_effect(site: Site, make_host: MakeHost) -> None:
    site.answers_at["/dot.png"] = (200, b"png")
    allow = f"127.0.0.1:{site.port}"
    host = make_host(allow, slots=1)

    async def opened(name: str, **inputs: Any) -> BrowserPage:
        env = TestEnvironment(EgressPolicy([allow]), host)
        await env.run("launch_standard_browser", Website_URL=f"{site.url}/site/{name}", **inputs)
        return await env.page()

    look = {"Viewport": "640 x 480", "Locale": "de-DE", "Timezone": "Asia/Tokyo", "User_Agent": "Own/1"}
    page = await opened("form.html", **look)
    facts = "[innerWidth, innerHeight, navigator.language, Intl.DateTimeFormat().resolvedOptions().timeZone, navigator.userAgent]"
    assert await page.page.evaluate(facts) == [640, 480, "de-DE", "Asia/Tokyo", "Own/1"]
    sent = site.requests[0]["headers"]
    assert (sent["accept-language"].split(",")[0], sent["user-agent"]) == ("de-DE", "Own/1")

    await opened("late.html", Timeout=1, Wait_Until="commit")
    assert "/dot.png" in site.paths()
    with pytest.raises(BrowserError, match="did not answer within 1 s"):
        await opened("late.html", Timeout=1, Wait_Until="load")
    site.requests.clear()
    await opened("late.html", Block_Resources="image, Script")
    assert site.paths() == ["/site/late.html"]


@pytest.mark.browser
async def test_a_launch_with_other_settings_opens_another_page_and_a_bare_one_keeps_it(
    site: Site, make_host: MakeHost
) -> None:
    allow = f"127.0.0.1:{site.port}"
    env = TestEnvironment(EgressPolicy([allow]), make_host(allow, slots=1))

    async def opened(**inputs: Any) -> BrowserPage:
        await env.run("launch_standard_browser", Website_URL=f"{site.url}/site/result.html", **inputs)
        return await env.page()

    first = await opened(Locale="de-DE")
    await first.page.evaluate("document.cookie = 'here=1'")
    assert await opened(Locale="de-DE") is first
    assert await opened() is first
    other = await opened(Locale="fr-FR")
    assert other is not first
    assert await other.page.evaluate("[navigator.language, document.cookie]") == ["fr-FR", ""]
