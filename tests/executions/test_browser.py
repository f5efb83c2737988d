"""The browser host with a real Chromium: pages, isolation, the way out, and what is left after a kill."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Error

from executions import browser
from executions.browser import BrowserHost, BrowserOptions, find_chromium, kill_orphan, remove_orphans, start_time
from executions.errors import BrowserError, NotAllowed, SessionLost
from tests.executions.conftest import Site, Victim, chromium

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parent.parent.parent
MakeHost = Callable[..., BrowserHost]


def processes_naming(text: str) -> list[int]:
    """Return the pids of processes with ``text`` on their command line; zombies have none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


async def eventually(check: Callable[[], Any], seconds: float = 15) -> Any:
    """Return the first true answer of ``check``, or its last one."""
    end = time.monotonic() + seconds
    while not (answer := check()) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return answer


# ------------------------------------------------------------------ pages


async def test_a_page_is_opened_used_and_captured(site: Site, make_host: MakeHost) -> None:
    host = make_host(f"127.0.0.1:{site.port}")
    page = await host.open("e1:main")

    assert await page.goto(f"{site.url}/site/form.html") == "Form"
    assert page.status == 200
    await page.fill("#name", "Ada")
    await page.click("#send", wait_for_navigation=True)
    capture = await host.capture("e1:main")

    assert page.url == f"{site.url}/site/result.html?name=Ada&secret="
    assert await page.html("#done") == '<h1 id="done">Received</h1>'
    assert capture is not None
    assert capture.screenshot.startswith(b"\xff\xd8\xff")
    assert "Received" in capture.html
    assert host.get("e1:main") is page
    assert await host.open("e1:main") is page


async def test_sessions_share_one_chromium_and_nothing_else(site: Site, make_host: MakeHost) -> None:
    host = make_host(f"127.0.0.1:{site.port}")
    first, second = await asyncio.gather(host.open("e1:main"), host.open("e2:main"))
    process = host.processes()
    assert process is not None
    for page in (first, second):
        await page.goto(f"{site.url}/site/result.html")

    await first.page.evaluate("document.cookie = 'who=first'; localStorage.setItem('who', 'first')")

    assert await second.page.evaluate("document.cookie + localStorage.getItem('who')") == "null"
    roots = [pid for pid in processes_naming(process.profile_dir) if os.getpgid(pid) == pid]
    assert roots == [process.pid]


async def test_options_reach_the_page(site: Site, make_host: MakeHost) -> None:
    host = make_host(f"127.0.0.1:{site.port}")
    options = BrowserOptions(
        viewport=(640, 480), locale="de-DE", timezone="Asia/Tokyo", user_agent="Own/1", block_resources=("script",)
    )
    page = await host.open("e1:main", options)

    await page.goto(f"{site.url}/site/form.html")
    await asyncio.sleep(0.5)

    facts = "[innerWidth, navigator.language, Intl.DateTimeFormat().resolvedOptions().timeZone, navigator.userAgent]"
    assert await page.page.evaluate(facts) == [640, "de-DE", "Asia/Tokyo", "Own/1"]


@pytest.mark.parametrize("options", [BrowserOptions(viewport=(1, 1)), BrowserOptions(block_resources=("picture",))])
async def test_options_that_cannot_be_are_refused(make_host: MakeHost, options: BrowserOptions) -> None:
    with pytest.raises(BrowserError) as caught:
        await make_host().open("e1:main", options)

    assert caught.value.retryable is False


@pytest.mark.row("S2-27")
async def test_errors_say_what_happened_in_words(site: Site, make_host: MakeHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        closed = closing.getsockname()[1]
    page = await make_host("127.0.0.1").open("e1:main")
    await page.goto(f"{site.url}/site/form.html")
    fast: dict[str, Any] = {"timeout_seconds": 0.6}

    for operation, message in (
        (
            lambda: page.click("#missing", **fast),
            f"Could not click element '#missing': nothing matched within 0.6 s on {site.url}",
        ),
        (lambda: page.click("#hidden", **fast), "the element exists but stayed hidden for 0.6 s"),
        (lambda: page.click("#disabled", **fast), "the element stayed disabled for 0.6 s"),
        (lambda: page.click("#covered", **fast), "another element covered it for 0.6 s"),
        (lambda: page.fill("#readonly", "x", **fast), "the element stayed read-only for 0.6 s"),
        (lambda: page.fill("#hidden", "x", **fast), "stayed hidden"),
        (lambda: page.fill("h1, #send", "s3cret", **fast), "the element is not an input field"),
        (lambda: page.click("##", **fast), "it is not a selector that Playwright understands"),
        (lambda: page.wait_for("#name", visible=False, **fast), "did not become hidden: it was still visible"),
        (lambda: page.html("#missing", **fast), "Could not read '#missing': nothing matched"),
        (lambda: page.goto(f"{site.url}/slow?seconds=2", timeout_seconds=0.6), "it did not answer within 0.6 s"),
        (lambda: page.goto("http://nothing.invalid/"), 'the name "nothing.invalid" cannot be resolved'),
        (lambda: page.goto(f"http://127.0.0.1:{closed}/"), f"127.0.0.1 port {closed} could not be reached"),
        (lambda: page.goto(f"https://127.0.0.1:{closed}/"), f"127.0.0.1 port {closed} could not be reached"),
        (lambda: page.goto("http://127.0.0.1:1/"), "browsers do not use that port"),
    ):
        with pytest.raises(BrowserError) as caught:
            await operation()
        assert message in str(caught.value)
        assert "s3cret" not in str(caught.value)

    assert await page.goto(f"{site.url}/site/form.html") == "Form", "the page is usable after all that"


async def test_typing_like_a_person_sends_keys(site: Site, make_host: MakeHost) -> None:
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main", BrowserOptions(human_like=True))
    await page.goto(f"{site.url}/site/form.html")
    await page.page.evaluate("window.keys = 0; document.getElementById('name').onkeydown = () => { window.keys++; }")

    await page.fill("#name", "Ada", human=True)

    assert await page.page.evaluate("[window.keys >= 3, document.getElementById('name').value]") == [True, "Ada"]


# ------------------------------------------------------------------ slots and missing browsers


async def test_slots_are_bounded_and_freed(make_host: MakeHost) -> None:
    host = make_host(slots=1, slot_seconds=0.3)
    await host.open("e1:main")

    with pytest.raises(BrowserError, match=r"all 1 browser slots .* FLOWBUILDER_BROWSER_SLOTS") as caught:
        await host.open("e2:main")
    await host.close("e1:main")
    await host.open("e3:main")

    assert caught.value.retryable
    assert host.sessions() == ["e3:main"]


async def test_waiting_for_a_slot_ends_when_one_is_freed(make_host: MakeHost) -> None:
    host = make_host(slots=1, slot_seconds=20)
    await host.open("e1:main")
    waiting = asyncio.create_task(host.open("e2:main"))
    await asyncio.sleep(0.1)
    assert not waiting.done()

    await host.close("e1:main")

    assert (await waiting).lost == ""


async def test_without_a_chromium_the_error_names_the_doctor(tmp_path: Path) -> None:
    from executions.egress import EgressPolicy

    host = BrowserHost(None, 1, policy=EgressPolicy(), directory=tmp_path)
    with pytest.raises(BrowserError, match="flow doctor") as caught:
        await host.open("e1:main")
    assert caught.value.retryable is False

    broken = BrowserHost("/bin/false", 1, policy=EgressPolicy(), directory=tmp_path)
    for _ in range(2):  # the slot is free again after the first
        with pytest.raises(BrowserError, match="/bin/false"):
            await broken.open("e1:main")
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_names_no_program_is_not_replaced_by_another_browser() -> None:
    assert find_chromium("/nowhere/chromium") is None
    assert find_chromium(chromium()) == chromium()


async def test_a_data_directory_with_a_long_path_still_works(tmp_path: Path) -> None:
    from executions.egress import EgressPolicy

    host = BrowserHost(chromium(), 1, policy=EgressPolicy(), directory=tmp_path / ("long" * 40))
    await host.open("e1:main")
    process = host.processes()
    await host.shutdown()

    assert process is not None
    assert not Path(process.profile_dir).exists()


# ------------------------------------------------------------------ the way out


@pytest.mark.row("S2-53")
async def test_a_page_on_a_forbidden_address_is_not_allowed_and_no_network_error(
    site: Site, victim: Victim, make_host: MakeHost
) -> None:
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main")

    for url in (
        f"http://{victim.address}/",
        f"https://{victim.address}/",
        f"http://2130706433:{victim.port}/",
        f"http://0x7f.1:{victim.port}/",
        f"http://localhost:{victim.port}/",
        f"http://[::ffff:127.0.0.1]:{victim.port}/",
        f"{site.url}/redirect?to=http://{victim.address}/",
        f"{site.url}/redirect?to=https://{victim.address}/",
    ):
        with pytest.raises(NotAllowed, match=r"is not allowed.*FLOWBUILDER_EGRESS_ALLOW"):
            await page.goto(url)

    assert victim.hits == []
    await page.goto(f"{site.url}/site/form.html")


@pytest.mark.row("S2-53")
async def test_other_schemes_never_reach_the_browser(make_host: MakeHost, subtests: pytest.Subtests) -> None:
    page = await make_host().open("e1:main")

    for url in (
        "file:///etc/hostname", "view-source:http://example.com", "chrome://version", "devtools://x",
        "data:text/html,x", "javascript:1", "ftp://example.com/", "about:blank", "FILE:///etc/hostname",
        "chrome-extension://x/y",
    ):  # fmt: skip
        with subtests.test(url):
            with pytest.raises(NotAllowed, match="only http and https"):
                await page.goto(url)
            assert page.url == "about:blank"


async def test_a_page_cannot_lead_itself_to_files_of_the_machine(
    site: Site, make_host: MakeHost, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("top secret")
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main")
    await page.goto(f"{site.url}/site/result.html")

    for way in (
        "location.href = url",
        "window.open(url)",
        "document.body.innerHTML = `<iframe src='${url}'></iframe>`",
    ):
        for url in (f"file://{tmp_path}/secret.txt", "chrome://version", f"view-source:file://{tmp_path}/secret.txt"):
            await page.page.evaluate(f"url => {{ try {{ {way} }} catch (error) {{}} }}", url)
            await asyncio.sleep(0.1)

    for opened in page.context.pages:
        for frame in opened.frames:
            assert frame.url.split(":")[0] in ("http", "about", "chrome-error", "")
            with contextlib.suppress(TimeoutError, Error):
                assert "top secret" not in await asyncio.wait_for(frame.content(), 2)


@pytest.mark.row("S2-53")
async def test_a_click_that_leads_to_a_forbidden_address_is_not_allowed(
    site: Site, victim: Victim, make_host: MakeHost
) -> None:
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main")
    await page.goto(f"{site.url}/site/result.html")
    await page.page.evaluate(f"document.body.innerHTML = '<a id=out href=\"http://{victim.address}/\">out</a>'")

    with pytest.raises(NotAllowed, match=f"127.0.0.1 port {victim.port} is not allowed"):
        await page.click("#out", wait_for_navigation=True)
    with pytest.raises(NotAllowed):
        await page.html()

    assert victim.hits == []


async def hostile_visit(host: BrowserHost, site: Site, victim: Victim) -> int:
    """Open the hostile page, wait until it has tried everything, leave it; return how much it tried."""
    page = await host.open("e1:main")
    await page.goto(f"{site.url}/site/hostile.html?victim={victim.address}", wait_until="commit")
    await eventually(lambda: "/arrived" in site.paths())
    await asyncio.sleep(1.5)
    await host.close("e1:main")
    await asyncio.sleep(0.3)
    arrived = next(request for request in site.requests if request["path"] == "/arrived")
    return int(arrived["query"]["probes"])


@pytest.mark.row("S2-53")
async def test_a_hostile_page_reaches_nothing(site: Site, victim: Victim, make_host: MakeHost) -> None:
    tried = await hostile_visit(make_host(f"127.0.0.1:{site.port}"), site, victim)

    assert tried >= 34
    assert victim.hits == []


async def test_the_same_hostile_page_reaches_what_is_allowed(site: Site, victim: Victim, make_host: MakeHost) -> None:
    """Without this the test above could pass because the page does nothing."""
    await hostile_visit(make_host("127.0.0.1", "localhost"), site, victim)

    reached = {hit.split(" ")[1].strip("/") for hit in victim.hits if hit.startswith(("GET", "POST"))}
    assert len(reached) >= 15, sorted(reached)


async def test_what_parts_of_a_page_are_refused_is_reported_once(
    site: Site, victim: Victim, make_host: MakeHost
) -> None:
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main")
    await page.goto(f"{site.url}/site/result.html")

    await page.page.evaluate(f"Promise.all([1, 2].map(() => fetch('http://{victim.address}/').catch(() => 0)))")

    assert [f"port {victim.port} is not allowed" in message for message in page.new_refusals()] == [True]
    assert page.new_refusals() == []
    assert await page.goto(f"{site.url}/site/form.html") == "Form", "a refused part is not a refused page"


# ------------------------------------------------------------------ death and what is left


@pytest.mark.row("S2-25")
async def test_a_killed_chromium_loses_its_sessions_and_the_next_one_starts_another(
    site: Site, make_host: MakeHost
) -> None:
    host = make_host(f"127.0.0.1:{site.port}")
    page = await host.open("e1:main")
    await page.goto(f"{site.url}/site/form.html")
    before = host.processes()
    assert before is not None
    waiting = asyncio.create_task(page.wait_for("#never", timeout_seconds=30))
    await asyncio.sleep(0.2)

    os.kill(before.pid, signal.SIGKILL)

    with pytest.raises(SessionLost, match=r"gone|ended"):
        await asyncio.wait_for(waiting, 10)
    with pytest.raises(SessionLost, match="the browser process ended"):
        await page.html()
    assert await host.capture("e1:main") is None
    again = await host.open("e1:main")
    assert await again.goto(f"{site.url}/site/form.html") == "Form"
    after = host.processes()
    assert after is not None
    assert after.pid != before.pid
    assert not Path(before.profile_dir).exists()
    assert processes_naming(before.profile_dir) == []


async def test_a_chromium_that_makes_no_page_any_more_is_given_up_and_its_other_pages_go_on(
    site: Site, make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(f"127.0.0.1:{site.port}")
    page = await host.open("e1:main")
    await page.goto(f"{site.url}/site/form.html")
    before = host.processes()
    assert before is not None
    for zygote in processes_naming("--type=zygote"):
        if os.getpgid(zygote) == before.pid:
            os.kill(zygote, signal.SIGKILL)

    with monkeypatch.context() as impatient:
        impatient.setattr(browser, "OPEN_SECONDS", 3)
        with pytest.raises(BrowserError, match="did not make a page within 3 s") as caught:
            await asyncio.wait_for(host.open("e2:main"), 40)

    assert caught.value.retryable
    again = await host.open("e2:main")
    assert await again.goto(f"{site.url}/site/form.html") == "Form"
    assert await page.html("title") == "<title>Form</title>"
    assert host.processes() != before
    await host.close("e1:main")
    assert not Path(before.profile_dir).exists()
    assert processes_naming(before.profile_dir) == []


@pytest.mark.row("S2-25")
async def test_a_killed_driver_loses_the_sessions_too(site: Site, make_host: MakeHost) -> None:
    host = make_host(f"127.0.0.1:{site.port}")
    page = await host.open("e1:main")
    await page.goto(f"{site.url}/site/form.html")
    process = host.processes()
    assert process is not None

    os.kill(browser._parent(process.pid), signal.SIGKILL)
    await asyncio.sleep(0.5)

    with pytest.raises(SessionLost):
        await asyncio.wait_for(page.html(), 10)
    again = await host.open("e1:main")
    assert await again.goto(f"{site.url}/site/form.html") == "Form"


@pytest.mark.row("S2-25")
async def test_a_chromium_that_outlives_its_driver_is_not_used_again(site: Site, make_host: MakeHost) -> None:
    host = make_host(f"127.0.0.1:{site.port}")
    await host.open("e1:main")
    process = host.processes()
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # it cannot notice that its driver is gone

    os.kill(browser._parent(process.pid), signal.SIGKILL)
    await eventually(lambda: host.processes() is None)

    page = await host.open("e1:main")
    assert await page.goto(f"{site.url}/site/form.html") == "Form"
    assert processes_naming(process.profile_dir) == []


@pytest.mark.row("S2-25")
async def test_a_driver_that_dies_while_a_session_is_opened_is_a_browser_error(make_host: MakeHost) -> None:
    host = make_host()
    await host.open("e1:main")
    process = host.processes()
    assert process is not None

    driver = browser._parent(process.pid)

    os.kill(driver, signal.SIGSTOP)
    opening = asyncio.ensure_future(host.open("e2:main"))
    await asyncio.sleep(0.5)
    os.kill(driver, signal.SIGKILL)

    with pytest.raises(BrowserError):
        await opening


async def test_a_crashed_page_is_a_lost_session(site: Site, make_host: MakeHost) -> None:
    host = make_host(f"127.0.0.1:{site.port}")
    page = await host.open("e1:main")
    await page.goto(f"{site.url}/site/form.html")
    process = host.processes()
    assert process is not None

    for pid in processes_naming(process.profile_dir):
        if b"--type=renderer" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    await eventually(lambda: page.lost)

    with pytest.raises(SessionLost, match="crashed"):
        await page.html()


@pytest.mark.row("S2-25")
async def test_shutdown_leaves_no_process_and_no_profile(site: Site, make_host: MakeHost) -> None:
    host = make_host(f"127.0.0.1:{site.port}")
    page = await host.open("e1:main")
    await page.goto(f"{site.url}/site/form.html")
    await page.page.evaluate("setTimeout(() => { while (true) {} }, 0)")
    process = host.processes()
    assert process is not None
    driver = browser._parent(process.pid)

    await host.shutdown()

    assert processes_naming(process.profile_dir) == []
    assert start_time(driver) is None
    assert not Path(process.profile_dir).exists()
    assert host.processes() is None
    with pytest.raises(BrowserError, match="shutting down"):
        await host.open("e2:main")


OWNER = """
import asyncio, dataclasses, json, sys
from executions.browser import BrowserHost
from executions.egress import EgressPolicy

async def main():
    host = BrowserHost(sys.argv[1], 1, policy=EgressPolicy(), directory=sys.argv[2])
    await host.open("e1:main")
    print(json.dumps(dataclasses.asdict(host.processes())), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def own_directory() -> Iterator[Path]:
    """Return a directory short enough to hold profiles; others lie in that of the machine, where any worker cleans up."""
    path = Path(tempfile.mkdtemp(prefix="fb-own-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.row("S2-25")
@pytest.mark.parametrize("frozen", ["nothing", "chromium", "driver"])
async def test_nothing_is_left_of_a_killed_worker_after_kill_orphan(own_directory: Path, frozen: str) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, chromium(), str(own_directory), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    info = json.loads(await asyncio.wait_for(owner.stdout.readline(), 60))
    pid, started, profile = info["pid"], info["start_time"], info["profile_dir"]
    driver = browser._parent(pid)
    if frozen == "chromium":
        os.killpg(pid, signal.SIGSTOP)
    if frozen == "driver":
        os.kill(driver, signal.SIGSTOP)

    owner.kill()
    await owner.wait()
    if frozen != "nothing":
        await asyncio.sleep(1)
        assert start_time(pid) == started, "this test must begin with a leak"
    found = await asyncio.to_thread(kill_orphan, pid, started, profile)

    assert found
    assert processes_naming(profile) == []
    assert start_time(pid) is None
    assert await eventually(lambda: start_time(driver) is None, 5)
    assert not Path(profile).exists()


async def test_nothing_is_left_of_a_killed_worker_that_nobody_has_noted(own_directory: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, chromium(), str(own_directory), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    info = json.loads(await asyncio.wait_for(owner.stdout.readline(), 60))
    driver = browser._parent(info["pid"])
    os.kill(driver, signal.SIGSTOP)
    assert remove_orphans(own_directory) == 0, "its owner lives"
    assert start_time(info["pid"]) == info["start_time"]

    owner.kill()
    await owner.wait()
    found = await asyncio.to_thread(remove_orphans, own_directory)

    assert found == 1
    assert processes_naming(info["profile_dir"]) == []
    assert await eventually(lambda: start_time(driver) is None, 5)
    assert not Path(info["profile_dir"]).exists()


async def test_kill_orphan_spares_a_process_that_only_has_the_same_number(tmp_path: Path) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    keep = tmp_path / "somebody-elses"
    keep.mkdir()

    found = kill_orphan(stranger.pid, 1, str(keep))

    assert found is False
    assert stranger.returncode is None
    assert start_time(stranger.pid) is not None
    assert keep.exists()
    stranger.kill()
    await stranger.wait()


def test_importing_the_host_loads_no_playwright() -> None:
    code = "import executions.browser, executions.nodes, sys; sys.exit('playwright' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
