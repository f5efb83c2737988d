"""The stealth browser, which contradicts itself nowhere, and a browser elsewhere, here a Chromium behind a login."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from executions import fingerprints
from executions.browser import BrowserHost, BrowserPage
from executions.egress import EgressPolicy
from executions.errors import BrowserError, NodeInputError, NotAllowed, SessionLost
from tests.executions.conftest import Site, TestEnvironment, Victim, chromium
from tests.executions.proxies import join

pytestmark = pytest.mark.browser
MakeHost = Callable[..., BrowserHost]

# ------------------------------------------------------------------ stealth

FACTS = """async () => {
  const seen = () => [navigator.userAgent, navigator.platform, navigator.language, Intl.DateTimeFormat().resolvedOptions().timeZone];
  const code = 'postMessage((' + seen + ')())';
  const worker = new Worker(URL.createObjectURL(new Blob([code])));
  const inWorker = await new Promise((done) => { worker.onmessage = (event) => done(event.data); });
  const frame = document.body.appendChild(document.createElement('iframe'));
  const data = navigator.userAgentData;
  return {
    here: seen(), worker: inWorker, languages: navigator.languages, driven: [navigator.webdriver, frame.contentWindow.navigator.webdriver],
    brands: data.brands.map((one) => one.brand + ' ' + one.version), system: data.platform, mobile: data.mobile,
    page: [innerWidth, innerHeight], screen: [screen.width, screen.height], chrome: typeof chrome, plugins: navigator.plugins.length,
  };
}"""


async def stealth(site: Site, host: BrowserHost, **inputs: Any) -> tuple[dict[str, Any], TestEnvironment]:
    env = TestEnvironment(EgressPolicy([f"127.0.0.1:{site.port}"]), host)
    await env.run("launch_stealth_browser", Website_URL=f"{site.url}/site/form.html", **inputs)
    return await (await env.page()).page.evaluate(FACTS), env


async def test_a_stealth_browser_contradicts_itself_nowhere(site: Site, make_host: MakeHost) -> None:
    seen, env = await stealth(site, make_host(f"127.0.0.1:{site.port}"), Seed="one")

    agent, platform, language, zone = seen["here"]
    sent = site.requests[0]["headers"]
    assert seen["worker"] == seen["here"]
    assert "Headless" not in str([seen, sent])
    assert seen["driven"] == [False, False]
    version = re.search(r"Chrome/(\d+)\.", agent)
    assert version is not None
    assert any(brand.endswith(f" {version[1]}") for brand in seen["brands"])
    assert all(brand.split(" ")[0] in sent["sec-ch-ua"] for brand in seen["brands"])
    assert sent["user-agent"] == agent
    assert ("Linux" in agent, "Linux" in platform, sent["sec-ch-ua-platform"]) == (True, True, '"Linux"')
    assert seen["system"] == "Linux"
    assert seen["mobile"] is False
    assert (language, zone) in fingerprints.PLACES
    assert seen["languages"][0] == language == sent["accept-language"].split(",")[0]
    assert tuple(seen["screen"]) in fingerprints.SCREENS
    assert seen["page"] == [seen["screen"][0], seen["screen"][1] - fingerprints.FRAME]
    assert (seen["chrome"], seen["plugins"]) == ("object", 5)
    noted = next(data for _, message, data in env.logs if message == "Looks of the seed one")
    assert noted == {"seed": "one", "viewport": "{}x{}".format(*seen["page"]), "locale": language, "timezone": zone}


async def test_the_web_security_of_a_stealth_browser_is_on(site: Site, make_host: MakeHost) -> None:
    _, env = await stealth(site, make_host("127.0.0.1", "localhost"))
    page = await env.page()

    read = await page.page.evaluate(
        "url => fetch(url).then((answer) => answer.text(), (error) => 'refused: ' + error)",
        f"http://localhost:{site.port}/site/result.html",
    )
    assert read.startswith("refused: ")


async def test_a_seed_draws_the_same_looks_again_and_what_is_given_stays(site: Site, make_host: MakeHost) -> None:
    drawn = {seed: fingerprints.draw(seed) for seed in map(str, range(60))}

    assert drawn == {seed: fingerprints.draw(seed) for seed in drawn}
    assert {one.screen for one in drawn.values()} == set(fingerprints.SCREENS)
    assert {(one.locale, one.timezone) for one in drawn.values()} == set(fingerprints.PLACES)
    assert fingerprints.draw("x", locale="de-DE").timezone == "Europe/Berlin"
    assert fingerprints.draw("x", timezone="Europe/Paris").locale == "fr-FR"
    assert fingerprints.draw("x", locale="de-AT").timezone == "Europe/Berlin"
    assert "Macintosh" in fingerprints.user_agent("156.0.1", "darwin")

    seen, env = await stealth(site, make_host(f"127.0.0.1:{site.port}"), Locale="de-DE", Viewport="800x600")
    assert seen["here"][2:] == ["de-DE", "Europe/Berlin"]
    assert seen["page"] == [800, 600]
    page = await env.page()
    await page.page.evaluate("window.keys = 0; document.getElementById('name').onkeydown = () => { window.keys++; }")
    await env.run("fill_input", Selector="#name", Value="Ada", Web_Page=True)
    assert await page.page.evaluate("window.keys") >= 3, "it types as a person does"
    await env.run("launch_stealth_browser", Website_URL=f"{site.url}/site/result.html")
    assert await env.page() is page
    await env.run("launch_standard_browser", Website_URL=f"{site.url}/site/result.html")
    assert await env.page() is not page, "a launch of another kind opens a page of its own"


# ------------------------------------------------------------------ a browser elsewhere

USER, PASSWORD = "brd-customer-1-zone-x", "s3cret:pass/word@elsewhere"


class Far:
    """A Chromium with its debugging port behind a gate that asks for a login."""

    def __init__(self, port: int, path: str) -> None:
        self.gate = 0
        self.logins: list[str] = []
        self._port, self._path = port, path
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.gate}{self._path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            login = head.decode("latin-1").partition("Authorization: Basic ")[2].partition("\r\n")[0]
            self.logins.append(base64.b64decode(login).decode())
            if self.logins[-1] != f"{USER}:{PASSWORD}":
                writer.write(f"HTTP/1.1 401 Not as {login}\r\nContent-Length: 0\r\n\r\n".encode())
                writer.close()
                return
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._port)
            self._writers += [far, writer]
            far.write(head)

            await join((reader, writer), (far_reader, far))

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()


@pytest_asyncio.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    """Start a Chromium that is driven from elsewhere."""
    with tempfile.TemporaryDirectory(prefix="fb-far-", ignore_cleanup_errors=True) as profile:
        arguments = [
            f"--user-data-dir={profile}",
            "--remote-debugging-port=0",
            "--headless",
            "--disable-gpu",
            "--no-first-run",
        ]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        process = await asyncio.create_subprocess_exec(
            chromium(), *arguments, "about:blank", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        told = Path(profile) / "DevToolsActivePort"
        async with asyncio.timeout(60):
            while not told.exists() or len(told.read_text().splitlines()) < 2:
                await asyncio.sleep(0.05)
        port, path = told.read_text().splitlines()[:2]
        found = Far(int(port), path)
        server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
        found.gate = server.sockets[0].getsockname()[1]
        yield found
        server.close()
        found.hang_up()
        process.terminate()
        await process.wait()


async def remote(env: TestEnvironment, url: str, password: str = PASSWORD) -> BrowserPage:
    await env.run(
        "launch_bright_data_browser",
        Website_URL=url,
        Bright_Data_Browser_Username=USER,
        Bright_Data_Browser_Password=password,
    )
    return await env.page()


async def test_a_page_in_a_browser_elsewhere_is_used_like_one_here(site: Site, far: Far, make_host: MakeHost) -> None:
    allow = f"127.0.0.1:{site.port}"
    host = make_host(allow, remote=far.address)
    env = TestEnvironment(EgressPolicy([allow]), host)

    page = await remote(env, f"{site.url}/site/form.html")
    await env.run("wait_for_element", Selector=".item", Visibility="visible", Web_Page=True)
    await env.run("fill_input", Selector="#name", Value="Ada", Web_Page=True)
    await env.run("click_element", Selector="#send", Web_Page=True, Wait_For_Navigation=True)
    html = (await env.run("get_html", Web_Page=True))["Html Content"]
    capture = await host.capture("e1:main", ["Received"])

    assert "Received" in html
    assert capture is not None
    assert capture.screenshot.startswith(b"\xff\xd8\xff")
    assert set(far.logins) == {f"{USER}:{PASSWORD}"}
    assert host.processes() is None, "no Chromium is started here"
    assert await remote(env, f"{site.url}/site/result.html") is page
    for text in (PASSWORD, "s3cret", base64.b64encode(PASSWORD.encode()).decode()[:12]):
        assert text not in env.text() + repr(page.options)

    far.hang_up()
    async with asyncio.timeout(30):
        while "hung up" not in page.lost:
            await asyncio.sleep(0.05)
    with pytest.raises(SessionLost, match="the remote browser hung up"):
        await page.html()


@pytest.mark.row("S2-53")
async def test_where_pages_may_not_go_they_may_not_go_from_elsewhere(
    site: Site, victim: Victim, far: Far, make_host: MakeHost
) -> None:
    allow = f"127.0.0.1:{site.port}"
    env = TestEnvironment(EgressPolicy([allow]), make_host(allow, remote=far.address))

    for url in (f"http://{victim.address}/", f"http://localhost:{victim.port}/", "file:///etc/hostname"):
        with pytest.raises(NotAllowed):
            await remote(env, url)
    assert victim.hits == []
    for lead in (f"{site.url}/redirect?to=http://{victim.address}/",):
        with pytest.raises(NotAllowed, match=f"127.0.0.1 port {victim.port} is not allowed"):
            await remote(env, lead)
        with pytest.raises(NotAllowed):
            await env.run("get_html", Web_Page=True)
    page = await remote(env, f"{site.url}/site/result.html")
    await page.page.evaluate(f"document.body.innerHTML = '<a id=out href=\"http://{victim.address}/\">out</a>'")
    with pytest.raises(NotAllowed):
        await page.click("#out", wait_for_navigation=True)
    with pytest.raises(NotAllowed):
        await page.html()


async def test_a_browser_elsewhere_that_cannot_be_had_is_an_error_without_the_password(
    site: Site, far: Far, make_host: MakeHost
) -> None:
    allow = f"127.0.0.1:{site.port}"
    env = TestEnvironment(EgressPolicy([allow]), make_host(allow, remote=f"{far.address}?key=in-the-address"))
    with pytest.raises(BrowserError, match=f"the remote browser at 127.0.0.1:{far.gate} refused the login") as refused:
        await remote(env, site.url, "wr0ng-password")
    gone = TestEnvironment(EgressPolicy([allow]), make_host(allow, remote="ws://127.0.0.1:9/x?key=in-the-address"))
    with pytest.raises(
        BrowserError, match=r"the remote browser at 127\.0\.0\.1:9 is not there: nothing answers"
    ) as nobody:
        await remote(gone, site.url)
    other = TestEnvironment(EgressPolicy([allow]), make_host(allow, remote=f"{site.url}/x?key=in-the-address"))
    with pytest.raises(BrowserError, match="did not answer as a browser does") as nonsense:
        await remote(other, site.url)
    with pytest.raises(NodeInputError, match="Bright Data Browser Password"):
        await remote(gone, site.url, "")

    assert refused.value.retryable is False
    for caught in (refused, nobody, nonsense):
        shown = str(caught.value) + repr(caught.value.__cause__) + str(caught.value.__suppress_context__)
        for text in ("wr0ng", PASSWORD, "in-the-address", base64.b64encode(f"{USER}:wr0ng-password".encode()).decode()):
            assert text not in shown
        assert "True" in shown
