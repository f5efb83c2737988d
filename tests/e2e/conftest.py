"""One real stack and one real Chromium for all end-to-end tests.

The tests click and type; none of them calls the API or writes a row. What was stored is read through commands
of a second shell.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, expect, sync_playwright

from executions.browser import find_chromium
from tests.e2e import chatter
from tests.flowbuilder.conftest import Up

FLAGS = [
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", *(["--no-sandbox"] if os.geteuid() == 0 else []),
]  # fmt: skip
WATCH = "document.addEventListener('securitypolicyviolation', e => console.error('POLICY ' + e.violatedDirective + ' ' + e.blockedURI))"
PATIENCE_MS = 15_000
"""How long a page may take on a busy machine with two cores."""


class Site:
    """The running product, as a person at the browser and at a second shell sees it."""

    def __init__(self, stack: Up) -> None:
        self.stack = stack
        self.address = f"http://127.0.0.1:{stack.port}"
        found = re.search(r"password\s+(\S+)", stack.text)
        assert found, f"no password was printed:\n{stack.text}"
        self.password = found.group(1)

    def ask(self, *arguments: str) -> Any:
        """Return the JSON that a command of a second shell prints."""
        answer = self.stack.manage(*arguments)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def rows(self, execution_id: str) -> list[dict[str, Any]]:
        """Return the event rows of an execution."""
        rows: list[dict[str, Any]] = self.ask("recordings", "replay", execution_id, "--json")["events"]
        return rows

    def bring(self, definition: dict[str, Any], folder: Path) -> None:
        """Import a workflow with the command."""
        file = folder / f"{definition['name']}.json"
        file.write_text(json.dumps(definition))
        answer = self.stack.manage("workflows", "import", str(file))
        assert answer.returncode == 0, answer.stderr


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start ``./flow up`` with the demo site and one more node type, which may log as fast as it can."""
    folder = tmp_path_factory.mktemp("e2e")
    stack = Up(folder / "var", FLOWBUILDER_NODE_LOG_RATE="off", **chatter.install(folder / "packages"))
    try:
        stack.ready()
        yield Site(stack)
    finally:
        stack.close()


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Start the browser in which the product is looked at."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        expect.set_options(timeout=5_000)
        browser.close()


def log_in(page: Page, user: str, password: str) -> None:
    """Log in through the form."""
    page.goto("/admin/")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()


def add_person(page: Page, user: str, password: str, *, everything: bool = False) -> None:
    """Add somebody who may use the admin, or do everything, and has nothing yet: by the forms, as the superuser of ``page``."""
    page.goto("/admin/auth/user/add/")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_label("Password confirmation").fill(password)
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_label("Staff status").check()
    if everything:
        page.get_by_label("Superuser status").check()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text(user)


@pytest.fixture(scope="package")
def session(site: Site, chromium: Browser) -> StorageState:
    """Log in as the first user, once, with the password that the stack printed."""
    context = chromium.new_context(base_url=site.address)
    log_in(context.new_page(), "admin", site.password)
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def trouble() -> list[str]:
    """What the policy refused, scripts threw and pages wrote to the console as an error, while a test runs."""
    return []


Opener = Callable[..., BrowserContext]


@pytest.fixture
def open_context(site: Site, chromium: Browser, trouble: list[str]) -> Iterator[Opener]:
    """Return a function that opens a watched browser context: ``open_context(storage_state=…, viewport=…)``."""
    contexts: list[BrowserContext] = []

    def watch(page: Page) -> None:
        page.on(
            "console",
            lambda message: trouble.append(f"{page.url}: {message.text}") if message.type == "error" else None,
        )
        page.on("pageerror", lambda error: trouble.append(f"{page.url}: {error}"))

    def start(**options: Any) -> BrowserContext:
        options = {"base_url": site.address, "viewport": {"width": 1600, "height": 1000}} | options
        context = chromium.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(WATCH)
        context.on("page", watch)
        contexts.append(context)
        return context

    yield start
    for context in contexts:
        with suppress(Exception):
            context.close()


@pytest.fixture
def context(open_context: Opener, session: StorageState) -> BrowserContext:
    """Return a context in which the first user is logged in."""
    return open_context(storage_state=session)


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """Return a page of the first user."""
    return context.new_page()


def until(check: Callable[[], Any], page: Page, seconds: float, what: str) -> Any:
    """Return the first true answer of ``check`` while the page goes on living."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := check():
            return answer
        page.wait_for_timeout(100)
    raise AssertionError(f"{what} did not come within {seconds} s")
