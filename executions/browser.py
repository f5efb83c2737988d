"""The browser of a worker process: one Chromium, a context per execution session, no way around the proxy.

Everything here runs on one event loop, the node loop of the process. Playwright is imported when the first
page is opened, so a process that opens none does not pay for it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import logging
import os
import random
import re
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast
from urllib.parse import urlsplit

from executions import locks, masks, traffic
from executions.egress import Door, EgressPolicy, EgressProxy, FarDoor
from executions.errors import BrowserError, NotAllowed, SessionLost
from executions.fingerprints import QUIET, user_agent
from executions.upstream import Upstream

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Locator, Page, Playwright, Request, Route, StorageState

logger = logging.getLogger(__name__)

PROFILE_PREFIX: Final = "fb-chromium-"
OWNER_FILE: Final = "owner"
"""A file in a profile's directory that its process keeps locked for as long as it lives."""
LONGEST_PROFILE_PATH: Final = 60
"""Chromium keeps a socket under its profile; a socket path has at most 107 characters."""
LAUNCH_SECONDS: Final = 60.0
CLOSE_SECONDS: Final = 8.0
CAPTURE_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 10.0
SLOT_SECONDS: Final = 30.0
OPEN_SECONDS: Final = 30.0
"""How long Chromium, once it runs, may take to make a page; one whose zygote died never does."""
MOST_PAGES: Final = 8
STALE_SECONDS: Final = 300.0
CAPTURE_LIMIT_CHARACTERS: Final = 2 * 1024 * 1024

CHROMIUM_ARGS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-domain-reliability",
    "--disable-client-side-phishing-detection",
    "--no-pings",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
)
SPINNERS: Final = (
    ":is(.spinner, .loading, .loader, .loading-spinner, .loading-overlay, .spinner-border, .lds-ring, "
    '.skeleton, [aria-busy="true"], [data-loading="true"])'
)
RESOURCE_KINDS: Final = frozenset(
    {"image", "font", "media", "stylesheet", "script", "xhr", "fetch", "eventsource", "websocket", "manifest", "other"}
)

WaitUntil = Literal["commit", "domcontentloaded", "load", "networkidle"]
Button = Literal["left", "middle", "right"]
Result = TypeVar("Result")


def find_chromium(setting: str = "") -> str | None:
    """Return the path of a Chromium that can be started, or None.

    Order: ``setting``, the one that Playwright installed, ``chromium`` or ``google-chrome`` on PATH. A
    setting that names no program is None too: a wrong setting must not quietly use another browser.
    """
    if setting:
        return shutil.which(setting)
    for path in _playwright_chromiums():
        if os.access(path, os.X_OK):
            return str(path)
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    return None


def _playwright_chromiums() -> list[Path]:
    """Return where ``playwright install`` puts browsers, newest first, without starting its driver."""
    root = os.environ.get("PLAYWRIGHT_BROWSERS_PATH", "")
    base = Path(root) if root not in ("", "0") else Path.home() / ".cache" / "ms-playwright"
    patterns = (
        "chromium-*/chrome-linux*/chrome",
        "chromium_headless_shell-*/chrome-linux*/headless_shell",
        "chromium_headless_shell-*/chrome-headless-shell-linux*/chrome-headless-shell",
        "chromium-*/chrome-mac*/Chromium.app/Contents/MacOS/Chromium",
    )
    found = [path for pattern in patterns for path in base.glob(pattern)]
    return sorted(found, key=lambda path: int(re.sub(r"\D", "", path.relative_to(base).parts[0]) or 0), reverse=True)


@dataclass(frozen=True, slots=True)
class BrowserOptions:
    """How a session's page is opened; ``Environment.launch`` takes the same names.

    ``viewport`` is width and height in pixels, ``block_resources`` holds Playwright's resource types
    (image, font, media …). ``human_like`` makes ``fill`` type key by key. ``proxy`` is gone through by everything that
    the page loads, ``storage_state`` (as Playwright gives it) is what the page begins with.
    ``screen`` is the size that the page is told. ``stealth`` hides that a program drives it, and rests a moment before
    each click. ``remote`` is user and password at the browser elsewhere that is used instead of a Chromium here.
    ``record_har`` keeps what the page loads, for ``BrowserPage.traffic``.
    ``bare`` says that the node asked for nothing of this, so that a page which is open will do.
    """

    viewport: tuple[int, int] = (1280, 800)
    locale: str | None = None
    timezone: str | None = None
    user_agent: str | None = None
    block_resources: tuple[str, ...] = ()
    human_like: bool = False
    proxy: Upstream | None = None
    storage_state: dict[str, Any] | None = field(default=None, repr=False)
    screen: tuple[int, int] | None = None
    stealth: bool = False
    remote: tuple[str, str] | None = field(default=None, repr=False)
    record_har: bool = False
    bare: bool = field(default=False, compare=False)

    def suits(self, page: BrowserPage) -> bool:
        """Return whether a page that is open is what these options ask for."""
        same_kind = (self.stealth, self.remote) == (page.options.stealth, page.options.remote)
        return page.options == self or (self.bare and same_kind)


@dataclass(frozen=True, slots=True)
class Capture:
    """What a page looks like now. ``screenshot`` is a JPEG; either part is empty if it could not be had."""

    screenshot: bytes
    html: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """The root process of a Chromium. ``start_time`` is the kernel's (clock ticks since boot)."""

    pid: int
    start_time: int
    profile_dir: str


class BrowserPage:
    """The page of one execution session. Errors are NodeFailed with a message for the user.

    ``page`` is the Playwright page, for nodes that need more than the methods here.
    """

    def __init__(self, page: Page, context: BrowserContext, door: Door, options: BrowserOptions) -> None:
        self.page = page
        self.context = context
        self.options = options
        self._door = door
        self._lost = ""
        self._last_navigation = ""
        self._since = time.monotonic()
        self._reported = 0
        self.har: Path | None = None
        """Where the browser writes what the page loads, if that is recorded."""
        self._har_lock = asyncio.Lock()
        self.typed: set[str] = set()
        """What nodes typed into password fields."""
        self.status = 0
        """HTTP status of the last ``goto``."""
        self._asked: dict[str, None] = {}
        context.on("request", lambda request: self._note_host(request.url))
        page.on("websocket", lambda socket: self._note_host(socket.url))
        page.on("request", self._note_navigation)
        page.on("crash", lambda _: self.lose("the browser page crashed"))
        page.on("close", lambda _: self.lose("the browser page was closed"))

    @property
    def url(self) -> str:
        """Return the address of the page now."""
        return self.page.url

    @property
    def lost(self) -> str:
        """Return why the page can no longer be used, "" while it can."""
        return self._lost

    def lose(self, reason: str, *, final: bool = False) -> None:
        """Mark the page as gone; every later operation raises SessionLost with the first (or a final) reason."""
        self._lost = reason if final else self._lost or reason

    def new_refusals(self) -> list[str]:
        """Return messages of what the page was refused since the last call, each target once.

        What Chromium asks for by itself (its field completion, say) is refused too, but is not the page's doing.
        """
        fresh = self._door.refusal_count - self._reported
        self._reported = self._door.refusal_count
        recent = list(self._door.refusals)[-fresh:] if fresh else []
        return list(dict.fromkeys(refusal.message for refusal in recent if refusal.host.lower() in self._asked))

    async def goto(self, url: str, *, wait_until: WaitUntil = "domcontentloaded", timeout_seconds: float = 60.0) -> str:
        """Go to ``url``, wait until the page has settled (at most ten seconds more), return its title.

        Raises:
            NotAllowed: the address, or one that it redirects to, may not be reached.
            BrowserError: the address cannot be opened.
            SessionLost: the browser is gone.
        """
        scheme = urlsplit(url).scheme.lower()
        if scheme not in ("http", "https"):
            raise NotAllowed(f'the address "{url[:200]}" is not allowed: only http and https can be opened')
        self._last_navigation, self._since = "", time.monotonic()
        await self._door.admit(url)
        async with self._operation(f"Could not open {url}"):
            end = time.monotonic() + timeout_seconds
            while True:
                try:
                    response = await self.page.goto(
                        url, wait_until=wait_until, timeout=max(1.0, (end - time.monotonic()) * 1000)
                    )
                    break
                except Exception as error:
                    await self._raise_if_blocked()
                    # The error page of the navigation before may still be on its way.
                    if "is interrupted by another navigation" in str(error) and time.monotonic() < end:
                        await asyncio.sleep(0.05)
                        continue
                    raise _navigation_error(url, error, timeout_seconds) or error from error
            await self._raise_if_blocked()
            self.status = response.status if response else 0
            await self._settle()
            try:
                return await asyncio.wait_for(self.page.title(), CAPTURE_SECONDS)
            except TimeoutError:
                return ""  # a page whose script never rests has no title to tell

    async def fill(self, selector: str, value: str, *, human: bool = False, timeout_seconds: float = 10.0) -> None:
        """Put ``value`` into the first field that matches. The value is in no message."""
        what = f"Could not fill input '{selector}'"
        async with self._operation(what, selector):
            element = await self._awaited(selector, "visible", what, timeout_seconds)
            if (await element.get_attribute("type", timeout=timeout_seconds * 1000) or "").lower() == "password":
                self.typed.add(value)
            if not human:
                await self._act(element.fill(value, timeout=timeout_seconds * 1000), what, timeout_seconds, hide=value)
                return
            await self._act(element.fill("", timeout=timeout_seconds * 1000), what, timeout_seconds)
            pause = min(60.0, 2000.0 / max(1, len(value)))
            typing = element.press_sequentially(value, delay=pause, timeout=(timeout_seconds + 5) * 1000)
            await self._act(typing, what, timeout_seconds, hide=value)

    async def click(
        self,
        selector: str,
        *,
        button: Button = "left",
        click_count: int = 1,
        force: bool = False,
        wait_for_navigation: bool = False,
        timeout_seconds: float = 10.0,
    ) -> None:
        """Click the first element that matches, once it is visible."""
        what = f"Could not click element '{selector}'"
        async with self._operation(what, selector):
            element = await self._awaited(selector, "attached" if force else "visible", what, timeout_seconds)
            if self.options.stealth:
                await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - as people do
            click = element.click(button=button, click_count=click_count, force=force, timeout=timeout_seconds * 1000)
            if not wait_for_navigation:
                await self._act(click, what, timeout_seconds)
            else:
                await self._click_and_follow(click, what, timeout_seconds)
            await self._raise_if_blocked()

    async def wait_for(self, selector: str, *, visible: bool = True, timeout_seconds: float = 30.0) -> None:
        """Wait until the first element that matches is visible (or nothing that matches is)."""
        state: Literal["visible", "hidden"] = "visible" if visible else "hidden"
        what = f"Element '{selector}' did not become {state}"
        async with self._operation(what, selector):
            await self._awaited(selector, state, what, timeout_seconds)

    async def html(self, selector: str | None = None, *, timeout_seconds: float = 10.0) -> str:
        """Return the HTML of the page, or the outer HTML of the first element that matches."""
        what = f"Could not read '{selector}'" if selector else "Could not read the page"
        async with self._operation(what, selector or ""):
            if not selector:
                try:
                    return await asyncio.wait_for(self.page.content(), timeout_seconds)
                except TimeoutError as error:
                    raise BrowserError(f"{what}: it did not answer within {timeout_seconds:g} s") from error
            element = await self._awaited(selector, "attached", what, timeout_seconds)
            html: str = await element.evaluate("element => element.outerHTML", timeout=timeout_seconds * 1000)
            return html

    async def capture(self, secrets: Collection[str] = ()) -> Capture | None:
        """Return a screenshot and the HTML, as far as they can be had quickly; None if the page is gone.

        Password fields, and whatever shows one of ``secrets``, are covered in the picture; without that there is none.
        """
        if self._lost:
            return None
        screenshot, html = b"", ""
        end = time.monotonic() + CAPTURE_SECONDS
        while not screenshot and (left := end - time.monotonic()) > 0:
            try:
                screenshot = await self._picture(masks.selector({*secrets, *self.typed}), left)
            except Exception as error:
                if "detached" not in str(error):  # else a frame went while it was looked at
                    break
        with contextlib.suppress(Exception):
            html = await asyncio.wait_for(self.page.content(), CAPTURE_SECONDS)
        if not screenshot and not html:
            return None
        return Capture(screenshot, html[:CAPTURE_LIMIT_CHARACTERS], self.page.url)

    async def record_traffic(self, file: Path) -> None:
        """Let the browser write into ``file`` what the page loads from now on."""
        await self.context.tracing.start_har(file, content="omit", mode="full")
        self.har = file

    async def traffic(self) -> bytes:
        """Return as HAR what the page has loaded since the last call, without logins; empty if that is not recorded.

        Raises:
            BrowserError: there is too much of it.
        """
        if self.har is None or self._lost:
            return b""
        async with self._har_lock:
            file = self.har
            await self.context.tracing.stop_har()
            try:
                size = file.stat().st_size
                raw = file.read_bytes() if size <= traffic.READ_BYTES else b""
            finally:
                file.unlink(missing_ok=True)
                await self.record_traffic(file)
        if not raw:
            raise BrowserError(f"what the page loaded takes {size // 1024 // 1024} MiB to tell, and is not kept")
        return await asyncio.to_thread(traffic.cleaned, raw, frozenset(self.typed))

    # ------------------------------------------------------------------ inside

    async def _picture(self, secret: str, seconds: float) -> bytes:
        """Return a JPEG in which password fields, and what matches ``secret``, are covered in every frame."""
        covered = [masks.PASSWORDS, *([secret] if secret else [])]
        mask = [frame.locator(selector) for frame in self.page.frames for selector in covered]
        return await self.page.screenshot(
            type="jpeg", quality=60, timeout=seconds * 1000, mask=mask, mask_color=masks.COLOUR
        )

    @contextlib.asynccontextmanager
    async def _operation(self, what: str, selector: str = "") -> AsyncIterator[None]:
        """Turn what Playwright raises into our errors, and refuse to work on a page that is gone."""
        if self._lost:
            raise SessionLost(f"{what}: {self._lost}")
        await self._raise_if_blocked()
        try:
            yield
        except Exception as error:
            if not _is_playwright_error(error):
                raise
            message = _first_line(error)
            if self.lost or _is_gone(message):
                self.lose("the browser is gone")
                raise SessionLost(f"{what}: {self._lost}") from error
            if selector and _is_bad_selector(str(error)):
                raise BrowserError(
                    f"{what}: it is not a selector that Playwright understands", code="bad_selector", retryable=False
                ) from error
            raise BrowserError(f"{what}: {message}") from error

    async def _awaited(
        self, selector: str, state: Literal["attached", "detached", "hidden", "visible"], what: str, seconds: float
    ) -> Locator:
        from playwright.async_api import TimeoutError as PlaywrightTimeout

        element = self.page.locator(selector).first
        try:
            await element.wait_for(state=state, timeout=seconds * 1000)
        except PlaywrightTimeout as error:
            await self._raise_if_blocked()
            raise BrowserError(
                f"{what}: {await self._why(selector, state, seconds)}", code="element_timeout"
            ) from error
        return element

    async def _why(self, selector: str, state: str, seconds: float) -> str:
        count = 0
        with contextlib.suppress(Exception):
            count = await asyncio.wait_for(self.page.locator(selector).count(), 2)
        where = f" on {self.page.url}"
        if state == "hidden":
            return f"it was still visible after {seconds:g} s{where}"
        if not count:
            return f"nothing matched within {seconds:g} s{where}"
        return f"the element exists but stayed hidden for {seconds:g} s{where}"

    async def _act(self, action: Awaitable[Any], what: str, seconds: float, *, hide: str = "") -> None:
        """Run an action on an element; a timeout means that the element could not take it."""
        from playwright.async_api import Error
        from playwright.async_api import TimeoutError as PlaywrightTimeout

        try:
            await action
        except PlaywrightTimeout as error:
            await self._raise_if_blocked()
            reason = f"the element was not ready within {seconds:g} s"
            if "intercepts pointer events" in error.message:
                reason = f"another element covered it for {seconds:g} s"
            elif "not enabled" in error.message:
                reason = f"the element stayed disabled for {seconds:g} s"
            elif "not editable" in error.message:
                reason = f"the element stayed read-only for {seconds:g} s"
            raise BrowserError(f"{what}: {reason}", code="element_timeout") from (None if hide else error)
        except Error as error:
            if not hide or _is_gone(error.message):
                raise
            wrong = "not an <input>" in error.message
            reason = "the element is not an input field" if wrong else "the field does not take this value"
            raise BrowserError(f"{what}: {reason}", code="not_fillable", retryable=False) from None

    async def _click_and_follow(self, click: Awaitable[Any], what: str, seconds: float) -> None:
        from playwright.async_api import TimeoutError as PlaywrightTimeout

        try:
            async with self.page.expect_navigation(wait_until="domcontentloaded", timeout=30_000):
                await self._act(click, what, seconds)
        except PlaywrightTimeout as error:
            await self._raise_if_blocked()
            raise BrowserError(
                f"{what}: no new page came within 30 s of the click", code="navigation_timeout"
            ) from error
        except Exception:
            await self._raise_if_blocked()
            raise
        await self._settle()

    async def _settle(self) -> None:
        """Wait, at most ten seconds in all, until the page is loaded and shows no spinner."""
        from playwright.async_api import Error

        end = time.monotonic() + SETTLE_SECONDS
        try:
            await self.page.wait_for_load_state("load", timeout=SETTLE_SECONDS * 1000)
            spinners = self.page.locator(SPINNERS).locator("visible=true")
            while time.monotonic() < end and await spinners.count():
                await asyncio.sleep(0.1)
        except Error as error:
            if _is_gone(error.message):
                raise

    def _note_host(self, url: str) -> None:
        """Remember that the page itself asked for a host; the newest thousand count."""
        self._asked[(urlsplit(url).hostname or "").lower()] = None
        if len(self._asked) > 1000:
            del self._asked[next(iter(self._asked))]

    def _note_navigation(self, request: Request) -> None:
        with contextlib.suppress(Exception):
            if request.is_navigation_request() and request.frame == self.page.main_frame:
                self._last_navigation = request.url
                self._door.look(request.url)
                if request.redirected_from is None:
                    # The proxy may have seen this navigation a moment before we hear of it here.
                    self._since = max(self._since, time.monotonic() - 1.0)

    async def _raise_if_blocked(self) -> None:
        """Raise if the page itself (not a part of it) was last sent to an address that it did not reach.

        Raises:
            NotAllowed: the address was refused.
            BrowserError: the address is allowed, but it could not be reached.
        """
        if not self._last_navigation:
            return
        await self._door.looked()
        parsed = urlsplit(self._last_navigation)
        try:
            port = parsed.port or (443 if parsed.scheme in ("https", "wss") else 80)
        except ValueError:
            return
        refusal = self._door.refused(parsed.hostname or "", port, self._since)
        if refusal is None:
            return
        if refusal.allowed:
            raise BrowserError(f"Could not open {self._last_navigation}: {refusal.message}", code="navigation")
        raise NotAllowed(refusal.message)


class BrowserHost:
    """The browser sessions of this process. All methods run on the process's node loop.

    ``slots`` bounds the sessions that are open at once; ``directory`` is where profiles live (a private
    directory of the system's temporary one if its path is too long for Chromium). ``policy`` judges what
    pages may reach. ``remote`` is the CDP address of the browser elsewhere.
    """

    def __init__(
        self,
        chromium_path: str | None,
        slots: int,
        *,
        policy: EgressPolicy,
        directory: str | Path,
        remote: str = "",
        slot_seconds: float = SLOT_SECONDS,
    ) -> None:
        self.chromium_path = chromium_path
        self.slots = slots
        self._policy = policy
        self._directory = Path(directory)
        self._remote = remote
        self._slot_seconds = slot_seconds
        self._free = asyncio.Semaphore(slots)
        self._sessions: dict[str, _Session] = {}
        self._launching = asyncio.Lock()
        self._chromium: _Chromium | None = None
        self._given_up: set[_Chromium] = set()
        self._closed = False
        self.pages_opened = 0
        self.chromium_starts = 0

    async def open(self, session_id: str, options: BrowserOptions | None = None) -> BrowserPage:
        """Return the page of ``session_id``, opened if it is not open yet.

        Waits for a free slot and starts Chromium when needed. A session that was lost, or was opened with other
        options than are asked for now, is opened anew.

        Raises:
            BrowserError: no Chromium, none could be started, or no slot became free in time.
        """
        options = options or BrowserOptions()
        _check_options(options)
        if self._chromium is not None and not self._chromium.alive:
            self._lost(self._chromium)
        present = self._sessions.get(session_id)
        if present is not None:
            async with present.opening:
                if present.page is not None and not present.page.lost and options.suits(present.page):
                    return present.page
            await self.close(session_id)
        try:
            await asyncio.wait_for(self._free.acquire(), self._slot_seconds)
        except TimeoutError as error:
            raise BrowserError(
                f"all {self.slots} browser slots of this worker were in use for {self._slot_seconds:g} s; "
                "raise FLOWBUILDER_BROWSER_SLOTS or add a worker",
                code="browser_slots",
            ) from error
        session = self._sessions[session_id] = _Session()
        async with session.opening:
            try:
                if options.remote is None:
                    await self._open_here(session, options)
                else:
                    await session.open_remote(self._remote, self._policy, options)
                self.pages_opened += 1
            except BaseException as error:
                await self.close(session_id)
                if isinstance(error, Exception) and _is_playwright_error(error):
                    raise BrowserError(f"The browser could not be started: {_first_line(error)}") from error
                raise
        if session.page is None:
            raise SessionLost("the browser session was closed while it was being opened")
        return session.page

    async def _open_here(self, session: _Session, options: BrowserOptions) -> None:
        chromium = await self._running()
        try:
            await asyncio.wait_for(session.open(chromium, self._policy, options), OPEN_SECONDS)
        except TimeoutError as error:
            if self._chromium is chromium:
                self._chromium = None  # the next session gets another; this one ends with its last page
                self._given_up.add(chromium)
            raise BrowserError(f"Chromium did not make a page within {OPEN_SECONDS:g} s") from error

    def get(self, session_id: str) -> BrowserPage | None:
        """Return the page of an open session, or None. A page that was lost raises when it is used."""
        session = self._sessions.get(session_id)
        return session.page if session else None

    async def close(self, session_id: str) -> None:
        """Close a session and free its slot; a session that is not open is ignored."""
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        try:
            await session.close()
        finally:
            self._free.release()
        await self._end_given_up()

    async def _end_given_up(self) -> None:
        """End every Chromium that gets no sessions any more and has none left."""
        for chromium in self._given_up - {session.chromium for session in self._sessions.values()}:
            self._given_up.discard(chromium)
            await chromium.close()

    async def capture(self, session_id: str, secrets: Collection[str] = ()) -> Capture | None:
        """Return what the page of a session shows now without ``secrets``, or None if there is no page to look at."""
        page = self.get(session_id)
        return await page.capture(secrets) if page else None

    def processes(self) -> ProcessInfo | None:
        """Return the root process of the Chromium that runs now, or None."""
        return self._chromium.process if self._chromium is not None and self._chromium.alive else None

    def sessions(self) -> list[str]:
        """Return the ids of open sessions."""
        return list(self._sessions)

    async def shutdown(self) -> None:
        """Close every session and end Chromium; no process and no profile is left."""
        self._closed = True
        await asyncio.gather(*(self.close(name) for name in list(self._sessions)), return_exceptions=True)
        async with self._launching:
            chromium, self._chromium = self._chromium, None
            if chromium is not None:
                await chromium.close()

    async def rest(self) -> None:
        """End Chromium while no session is open; the next ``open`` starts it again."""
        async with self._launching:
            if self._chromium is not None and not self._sessions:
                chromium, self._chromium = self._chromium, None
                await chromium.close()

    async def _running(self) -> _Chromium:
        """Return the live Chromium, starting one if there is none or the last one died."""
        async with self._launching:
            if self._closed:
                raise BrowserError("the browser host of this worker is shutting down", code="browser_closed")
            if self._chromium is not None and self._chromium.alive:
                return self._chromium
            if self._chromium is not None:
                await self._chromium.close()
                self._chromium = None
            if self.chromium_path is None:
                raise BrowserError(
                    "no Chromium was found on this machine; `./flow doctor` says how to install one",
                    code="no_browser",
                    retryable=False,
                )
            self._chromium = await _Chromium.launch(self.chromium_path, self._directory, self._lost)
            self.chromium_starts += 1
            return self._chromium

    def _lost(self, chromium: _Chromium) -> None:
        """Chromium died: every session in it is lost, the next ``open`` starts another."""
        for session in self._sessions.values():
            if session.chromium is chromium and session.page is not None:
                session.page.lose("the browser process ended", final=True)


@dataclass
class _Session:
    """A context with its own way out. ``opening`` is held while it is being made."""

    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    page: BrowserPage | None = None
    chromium: _Chromium | None = None
    door: Door | None = None
    context: BrowserContext | None = None
    remote: RemoteBrowser | None = None

    async def open(self, chromium: _Chromium, policy: EgressPolicy, options: BrowserOptions) -> None:
        """Make the context and its first page."""
        self.chromium = chromium
        self.door = proxy = EgressProxy(policy, upstream=options.proxy)
        await proxy.start()
        width, height = options.viewport
        agent = user_agent(chromium.browser.version) if options.stealth else None
        self.context = await chromium.browser.new_context(
            viewport={"width": width, "height": height},
            locale=options.locale,
            timezone_id=options.timezone,
            screen={"width": options.screen[0], "height": options.screen[1]} if options.screen else None,
            user_agent=options.user_agent or agent,
            storage_state=cast("StorageState | None", options.storage_state),
            service_workers="block",
            accept_downloads=False,
            proxy={"server": proxy.url},
        )
        if options.stealth:
            await self.context.add_init_script(QUIET)
        await self._open_page(self.context, proxy, options)
        if options.record_har and self.page is not None:
            await self.page.record_traffic(chromium.root / f"{secrets.token_hex(8)}.har")

    async def open_remote(self, address: str, policy: EgressPolicy, options: BrowserOptions) -> None:
        """Make a context and its first page in a browser elsewhere."""
        user, password = options.remote or ("", "")
        self.remote = await RemoteBrowser.connect(address, user, password)
        self.remote.browser.on("disconnected", lambda _: self._hung_up())
        self.door = door = FarDoor(policy)
        self.context = await self.remote.browser.new_context(service_workers="block", accept_downloads=False)
        await self._open_page(self.context, door, options)

    async def _open_page(self, context: BrowserContext, door: Door, options: BrowserOptions) -> None:
        context.on("page", self._limit_pages)
        if options.block_resources:
            await context.route("**/*", _blocker(frozenset(options.block_resources)))
        self.page = BrowserPage(await context.new_page(), context, door, options)

    async def close(self) -> None:
        """Close context and proxy; what hangs is left to Chromium's end."""
        if self.page is not None:
            self.page.lose("the browser session was closed")
        if self.context is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self.context.close(), CLOSE_SECONDS)
        if self.remote is not None:
            await self.remote.close()
        if self.door is not None:
            await self.door.close()

    def _hung_up(self) -> None:
        if self.page is not None:
            self.page.lose("the remote browser hung up", final=True)

    def _limit_pages(self, page: Page) -> None:
        if self.context is not None and len(self.context.pages) > MOST_PAGES:
            closing = asyncio.ensure_future(page.close())
            closing.add_done_callback(lambda done: done.cancelled() or done.exception())


class RemoteBrowser:
    """A browser elsewhere, driven by CDP. Neither its address nor its password are in any message."""

    def __init__(self, playwright: Playwright, browser: Browser) -> None:
        self.browser = browser
        self._playwright = playwright

    @classmethod
    async def connect(cls, address: str, user: str, password: str) -> RemoteBrowser:
        """Return the browser at ``address`` (ws, wss, http or https), which asks for a login.

        Raises:
            BrowserError: it cannot be reached, or refuses the login.
        """
        from playwright.async_api import async_playwright

        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        playwright = await asyncio.wait_for(async_playwright().start(), LAUNCH_SECONDS)
        try:
            await playwright.selectors.register(masks.ENGINE, masks.SCRIPT, content_script=True)
            browser = await playwright.chromium.connect_over_cdp(
                address, headers={"Authorization": f"Basic {login}"}, timeout=LAUNCH_SECONDS * 1000
            )
        except BaseException as error:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(playwright.stop(), CLOSE_SECONDS)
            if isinstance(error, Exception) and _is_playwright_error(error):
                raise _remote_error(address, str(error)) from None
            raise
        return cls(playwright, browser)

    async def close(self) -> None:
        """Hang up; the provider ends the browser."""
        for ending in (self.browser.close(), self._playwright.stop()):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(ending, CLOSE_SECONDS)


class _Chromium:
    """One Chromium process tree with the Playwright driver that owns it."""

    def __init__(
        self, playwright: Playwright, browser: Browser, background: EgressProxy, root: Path, lock: int
    ) -> None:
        self.browser = browser
        self.process: ProcessInfo | None = None
        self._playwright = playwright
        self._background = background
        self._root, self._lock = root, lock
        self._driver: tuple[int, int | None] | None = None
        self._dead = False

    @property
    def root(self) -> Path:
        """Return the private directory that goes when it ends."""
        return self._root

    @property
    def alive(self) -> bool:
        """Return whether it can still be used: a Chromium outlives its driver for a while, and nobody tells of that."""
        if self._dead or not self.browser.is_connected():
            return False
        if self.process is None or self._driver is None:
            return True
        pid, started = self._driver
        return start_time(pid) == started and start_time(self.process.pid) == self.process.start_time

    @classmethod
    async def launch(cls, path: str, directory: Path, on_death: Callable[[_Chromium], None]) -> _Chromium:
        """Start Chromium with a fresh profile.

        Raises:
            BrowserError: it did not start.
        """
        from playwright.async_api import async_playwright

        root, lock = await asyncio.to_thread(_make_profile_root, directory)
        background = EgressProxy(None)
        playwright: Playwright | None = None
        try:
            await background.start()
            playwright = await asyncio.wait_for(async_playwright().start(), LAUNCH_SECONDS)
            await playwright.selectors.register(masks.ENGINE, masks.SCRIPT, content_script=True)
            as_root = os.geteuid() == 0
            context = await playwright.chromium.launch_persistent_context(
                str(root / "profile"),
                artifacts_dir=str(root / "artifacts"),
                executable_path=path,
                headless=True,
                chromium_sandbox=not as_root,
                args=list(CHROMIUM_ARGS),
                env={**_browser_environment(), "TMPDIR": str(root)},
                proxy={"server": background.url},
                handle_sigint=False,
                handle_sigterm=False,
                handle_sighup=False,
                timeout=LAUNCH_SECONDS * 1000,
            )
            browser = context.browser
            if browser is None:
                raise BrowserError("Chromium started without a connection to it")
            chromium = cls(playwright, browser, background, root, lock)
            chromium.process = await asyncio.to_thread(_root_process, root)
            if chromium.process is not None:
                driver = _parent(chromium.process.pid)
                chromium._driver = driver, start_time(driver)
            browser.on("disconnected", lambda _: chromium._died(on_death))
            for page in context.pages:  # sessions have contexts of their own; the first page only costs memory
                await page.close()
        except BaseException as error:
            await background.close()
            if playwright is not None:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(playwright.stop(), CLOSE_SECONDS)
            await asyncio.to_thread(_end_processes_of, root)
            os.close(lock)
            if isinstance(error, TimeoutError | OSError) or (
                isinstance(error, Exception) and _is_playwright_error(error)
            ):
                raise BrowserError(f"Chromium ({path}) could not be started: {_launch_reason(error)}") from error
            raise
        logger.info("Chromium %s started, pid %s", browser.version, chromium.process and chromium.process.pid)
        return chromium

    def _died(self, on_death: Callable[[_Chromium], None]) -> None:
        self._dead = True
        on_death(self)

    async def close(self) -> None:
        """End it: politely, then by force; the profile goes too."""
        self._dead = True
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.browser.close(), CLOSE_SECONDS)
        if self.process is not None:
            _kill_group(self.process.pid, self.process.start_time)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._playwright.stop(), CLOSE_SECONDS)
        await self._background.close()
        await asyncio.to_thread(_end_processes_of, self._root)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


# ---------------------------------------------------------------------------- processes


def start_time(pid: int) -> int | None:
    """Return when the kernel started ``pid`` (clock ticks since boot), or None if there is no such process.

    A zombie counts as none: it holds nothing any more.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def kill_orphan(pid: int, started: int, profile_dir: str) -> bool:
    """End the Chromium whose worker is gone, whatever state it is in, and remove its profile.

    Nothing happens to a process that merely got the same number: the kernel's start time must match, and
    a profile is only removed if it is one of ours. Returns whether anything was there.
    """
    root = Path(profile_dir)
    if not root.name.startswith(PROFILE_PREFIX):
        return _kill_group(pid, started)
    driver = _parent(pid) if start_time(pid) == started else 0
    found = root.exists()
    found = _kill_group(pid, started) or found
    if driver > 1 and _is_driver(driver):
        with contextlib.suppress(OSError):
            os.kill(driver, signal.SIGKILL)
    _end_processes_of(root)
    return found


def _kill_group(pid: int, started: int) -> bool:
    """SIGKILL the process group of ``pid`` if it is still the process that started at ``started``."""
    if start_time(pid) != started:
        return False
    try:
        group = os.getpgid(pid)
        if group == os.getpgid(0):
            os.kill(pid, signal.SIGKILL)
        else:
            os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _end_processes_of(root: Path, patience_seconds: float = 5.0) -> None:
    """Kill what still names the profile on its command line, driver included, and remove the directory."""
    end = time.monotonic() + patience_seconds
    while True:
        left = [pid for pid in _processes_naming(root) if pid != os.getpid()]
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)
        if (not left and not root.exists()) or time.monotonic() > end:
            return
        time.sleep(0.05)


def _processes_naming(root: Path) -> list[int]:
    """Return processes that have ``root`` on their command line, and the Playwright drivers above them."""
    needle = os.fsencode(str(root))
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if needle not in command or start_time(pid) is None:
            continue
        found.append(pid)
        parent = _parent(pid)
        if parent > 1 and _is_driver(parent):
            found.append(parent)
    return list(dict.fromkeys(found))


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _is_driver(pid: int) -> bool:
    """Return whether ``pid`` is a Playwright driver. Each drives one Chromium."""
    try:
        return b"run-driver" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _root_process(root: Path) -> ProcessInfo | None:
    """Return the Chromium process that was given ``root`` as its profile and leads its group."""
    for pid in _processes_naming(root):
        started = start_time(pid)
        with contextlib.suppress(OSError):
            if started is not None and os.getpgid(pid) == pid:
                return ProcessInfo(pid, started, str(root))
    return None


def remove_orphans(directory: Path) -> int:
    """End what is left of Chromiums whose process is gone, remove their profiles and return how many there were.

    ``directory`` is that of a ``BrowserHost``, of this process or of others on this machine.
    """
    count = 0
    for root in _base_of(directory).glob(f"{PROFILE_PREFIX}*"):
        with contextlib.suppress(OSError):
            if root.stat().st_uid == os.geteuid() and _is_orphan(root):
                _end_processes_of(root)
                count += 1
    return count


def _is_orphan(root: Path) -> bool:
    """Return whether nobody holds the lock of a profile; one without a lock is judged by its age."""
    try:
        return locks.is_free(root / OWNER_FILE)
    except FileNotFoundError:
        return time.time() - root.stat().st_mtime > STALE_SECONDS and not _processes_naming(root)


def _base_of(directory: Path) -> Path:
    base = directory.absolute()
    longest = base / f"{PROFILE_PREFIX}12345678"
    return base if len(str(longest)) <= LONGEST_PROFILE_PATH else Path(tempfile.gettempdir())


def _make_profile_root(directory: Path) -> tuple[Path, int]:
    """Make a private directory for one Chromium; return it and its lock, which ends with this process."""
    base = _base_of(directory)
    base.mkdir(parents=True, exist_ok=True)
    remove_orphans(directory)
    root = base / (PROFILE_PREFIX + secrets.token_hex(4))
    root.mkdir(mode=0o700)
    lock = os.open(root / f"{OWNER_FILE}.new", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (root / f"{OWNER_FILE}.new").rename(root / OWNER_FILE)  # it has its name only once it is locked
    return root, lock


def _browser_environment() -> dict[str, str | float | bool]:
    """Return the few variables that Chromium needs; keys and addresses of the product are not among them."""
    keep = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME", "FONTCONFIG_PATH", "XDG_CONFIG_HOME")
    return {name: os.environ[name] for name in keep if name in os.environ}


# ---------------------------------------------------------------------------- messages


def _check_options(options: BrowserOptions) -> None:
    if unknown := sorted(set(options.block_resources) - RESOURCE_KINDS):
        raise BrowserError(
            f"there is no kind of resource called {', '.join(unknown)}; there are {', '.join(sorted(RESOURCE_KINDS))}",
            code="invalid_input",
            retryable=False,
        )
    width, height = options.viewport
    if not (50 <= width <= 4000 and 50 <= height <= 4000):
        raise BrowserError(
            f"a viewport is 50 to 4000 pixels each way, not {width}x{height}", code="invalid_input", retryable=False
        )


def _blocker(kinds: frozenset[str]) -> Callable[[Route], Awaitable[None]]:
    async def decide(route: Route) -> None:
        if route.request.resource_type in kinds:
            await route.abort()
        else:
            await route.continue_()

    return decide


def _is_playwright_error(error: Exception) -> bool:
    """Return whether Playwright raised it; the death of its driver is a bare ``Exception``."""
    return type(error).__module__.startswith("playwright") or (type(error) is Exception and _is_gone(str(error)))


def _first_line(error: Exception) -> str:
    """Return the readable part of a Playwright message: its first line without the method's name."""
    text = str(getattr(error, "message", error)).strip().splitlines()
    return re.sub(r"^[A-Z]\w*\.\w+: ", "", text[0])[:300] if text else type(error).__name__


def _is_gone(message: str) -> bool:
    return any(
        part in message
        for part in (
            "has been closed",
            "Target crashed",
            "Page crashed",
            "Connection closed",
            "browser has disconnected",
        )
    )


def _is_bad_selector(message: str) -> bool:
    return any(
        part in message
        for part in (
            "is not a valid selector",
            "is not a valid XPath",
            "Unknown engine",
            "Unexpected token",
            "while parsing",
            "Malformed selector",
            "Selector cannot be empty",
            "Unsupported token",
            "Error while parsing selector",
        )
    )


def _navigation_error(url: str, error: Exception, seconds: float) -> BrowserError | None:
    """Return a readable error for a navigation that failed, or None if it is none."""
    message = str(getattr(error, "message", error))
    if "Timeout" in message and "exceeded" in message:
        return BrowserError(f"Could not open {url}: it did not answer within {seconds:g} s", code="navigation_timeout")
    reasons = {
        "ERR_NAME_NOT_RESOLVED": "there is no such host",
        "ERR_CONNECTION_REFUSED": "nothing answers there",
        "ERR_TUNNEL_CONNECTION_FAILED": "the host cannot be reached",
        "ERR_CONNECTION_RESET": "the connection was cut",
        "ERR_EMPTY_RESPONSE": "the server closed the connection without an answer",
        "ERR_TOO_MANY_REDIRECTS": "it redirects in a circle",
        "ERR_CERT": "its certificate is not valid",
        "ERR_INVALID_URL": "it is not an address",
        "ERR_UNSAFE_PORT": "browsers do not use that port",
    }
    for part, reason in reasons.items():
        if part in message:
            return BrowserError(f"Could not open {url}: {reason}", code="navigation")
    if "net::" in message:
        code = message.partition("net::")[2].split()[0]
        return BrowserError(f"Could not open {url}: {code}", code="navigation")
    return None


def _remote_error(address: str, text: str) -> BrowserError:
    """Return a readable error for a remote browser that cannot be had; what Playwright says holds the address."""
    parts = urlsplit(address)
    where = f"the remote browser at {parts.hostname}" + (f":{parts.port}" if parts.port else "")
    reasons = {
        "401": "refused the login", "403": "refused the login", "407": "refused the login",
        "ECONNREFUSED": "is not there: nothing answers", "ENOTFOUND": "is not there: there is no such host",
        "EAI_AGAIN": "is not there: its name cannot be resolved", "Timeout": "did not answer in time",
    }  # fmt: skip
    for part, reason in reasons.items():
        if re.search(rf"\b{part}\b", text):
            refused = reason == "refused the login"
            return BrowserError(
                f"{where} {reason}", code="browser_auth" if refused else "browser_remote", retryable=not refused
            )
    return BrowserError(f"{where} did not answer as a browser does", code="browser_remote")


def _launch_reason(error: Exception) -> str:
    text = str(getattr(error, "message", error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = next((line for line in lines if "FATAL" in line or "cannot open shared object" in line), "")
    return (fatal.rpartition("[err]")[2].strip() or _first_line(error))[:300]
