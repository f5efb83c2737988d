"""The admin in a real Chromium: the policy refuses nothing, and nothing is cut."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from flowbuilder.stack import free_port
from tests.admin.test_pages import pages as pages  # the fixture
from tests.conftest import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.redis]

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WATCH = "document.addEventListener('securitypolicyviolation', e => console.error('POLICY ' + e.violatedDirective + ' ' + e.blockedURI))"
CUT = """() => [document.documentElement, ...document.querySelectorAll('.results, .adm-scroll, .adm-card')]
    .filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.className || box.tagName)"""


@pytest.fixture
def site(processes: Any) -> str:
    """Return the address of a real web process on the test database."""
    port = free_port()
    processes.start("-m", "uvicorn", "flowbuilder.asgi:application", "--port", str(port), "--log-level", "warning")
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{address}/admin/login/", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, 40, "the web process", processes.logs)
    return address


@pytest.fixture
def world(processes: Any, alice: Any, make_world: Any) -> Any:
    """Rows of alice. Tests name it before ``page``: once the browser runs, this thread cannot use the database."""
    return make_world(alice, "shop")


@pytest.fixture
def refused() -> list[str]:
    """What the policy refused and what scripts threw, filled while a test runs."""
    return []


@pytest.fixture
def page(site: str, alice: Any, refused: list[str]) -> Iterator[Page]:
    """Return a page of a real browser, logged in as alice."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, base_url=site)
        page.add_init_script(WATCH)
        page.on("console", lambda message: refused.append(f"{page.url}: {message.text}") if _counts(message) else None)
        page.on("pageerror", lambda error: refused.append(f"{page.url}: {error}"))
        page.goto("/admin/")
        page.get_by_label("Username").fill("alice")
        page.get_by_label("Password").fill("alice-password")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
        yield page
        browser.close()


def _counts(message: Any) -> bool:
    return "POLICY" in message.text or "Content Security Policy" in message.text


@pytest.mark.timeout(240)
def test_no_page_is_refused_anything_and_nothing_is_cut_at_1280(
    pages: list[str], page: Page, refused: list[str]
) -> None:
    cut = {}
    for url in pages:
        page.goto(url)
        page.wait_for_load_state("load")
        found = page.evaluate(CUT)
        if found:
            cut[url] = found

    assert refused == []
    assert cut == {}


def test_a_page_that_breaks_the_policy_would_be_seen(page: Page, refused: list[str]) -> None:
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<b onclick=\"x\" style=\"color: red\">bold</b>')")
    page.wait_for_timeout(200)

    assert any("style-src" in line or "default-src" in line for line in refused)


def test_the_theme_can_be_toggled_and_stays(page: Page) -> None:
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator(".theme-toggle").click()
    changed = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.goto("/admin/workflows/workflow/")

    assert changed != dark
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == changed


def test_a_workflow_is_added_paused_and_filtered_by_mouse(world: Any, page: Page) -> None:
    page.goto("/admin/workflows/workflow/")

    page.get_by_role("checkbox", name="Select this object for an action - shop").check()
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text('Workflow "shop" is paused')
    page.locator("summary", has_text="Status").click()
    page.get_by_role("link", name="Active", exact=True).click()
    expect(page.get_by_role("heading", name="No workflows match")).to_be_visible()

    page.get_by_role("link", name="Dashboard").first.click()
    page.get_by_role("link", name="New workflow").click()
    page.get_by_label("Name").fill("drawn by hand")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page).to_have_url(re.compile(r"/builder/$"))
    expect(page.locator("[data-island=builder] *").first).to_be_visible()


def test_the_schedule_is_said_in_words_while_it_is_typed(world: Any, page: Page) -> None:
    page.goto(f"/admin/workflows/workflow/{world.workflow.pk}/change/")
    preview = page.locator(".adm-preview").first
    expect(preview).to_contain_text("Every 15 minutes")

    page.get_by_role("textbox", name="Cron").fill("30 6 * * MON")
    expect(preview).to_contain_text("Monday at 06:30")
    expect(preview.locator("li")).to_have_count(5)
    page.get_by_role("textbox", name="Cron").fill("30 6 * *")
    expect(preview).to_contain_text("exactly five")
