"""A person finds two failed runs among the recordings, steps to the failure, takes its files and keeps what matters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import graph, node, wire
from tests.e2e.canvas import unique
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.worker]


@pytest.mark.row("S0-06")
@pytest.mark.row("S0-08")
def test_a_failure_is_found_stepped_through_compared_taken_away_and_kept(
    site: Site, page: Page, trouble: list[str], tmp_path: Path
) -> None:
    name = unique("nothing there")
    look: dict[str, Any] = {"Selector": "#nowhere", "Visibility": "visible", "Timeout (seconds)": 1}
    nodes = [
        node("open", "launch_standard_browser", Website_URL="{{ vars.demo_url }}/login"),
        node("look", "wait_for_element", **look),
    ]
    site.bring(
        {"name": name, "status": "active", **graph(nodes, wire("open", "Web Page", "look", "Web Page"))}, tmp_path
    )
    for _ in range(2):
        run(page, name)

    short = find(page, name)
    step(page)
    take(page)
    compare(page, short)
    keep(page)
    assert trouble == []


def run(page: Page, name: str) -> None:
    """Run the workflow from the list, and see it fail."""
    page.goto("/admin/workflows/workflow/")
    page.get_by_role("row", name=name).get_by_role("button", name="Run").click()
    expect(page.locator(".fb-run")).to_have_attribute("data-status", "failed", timeout=60_000)


def find(page: Page, name: str) -> str:
    """Filter the list down to the two runs, and open the newest; return the start of the other's id."""
    page.get_by_role("link", name="Recordings", exact=True).first.click()
    page.locator("summary", has_text="Status").click()
    page.get_by_role("link", name="Failed", exact=True).click()
    page.locator("summary", has_text="Workflow").click()
    page.get_by_role("link", name=name, exact=True).click()
    rows = page.locator("#result_list tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("#nowhere")
    short = rows.nth(1).locator(".adm-mono").inner_text()
    rows.first.get_by_role("link").first.click()
    return short


def step(page: Page) -> None:
    """The page opens at the failure; keys lead to the start, links back, and the state is that of the event."""
    text, state = page.locator(".adm-event-text"), page.locator(".adm-event-state")
    expect(text).to_contain_text("#nowhere")
    expect(state.locator(".adm-errors .adm-added")).to_contain_text("#nowhere")
    page.keyboard.press("Home")
    expect(text).to_contain_text("Execution started")
    expect(state.locator(".adm-errors")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    expect(text).to_have_text("Phase 1 started: 1 node")
    expect(page.get_by_role("status")).to_have_text("Event 2: Phase 1 started: 1 node")
    page.get_by_role("link", name="Go to the failure").click()
    expect(text).to_contain_text("#nowhere")
    page.get_by_role("link", name="as JSON").click()
    expect(page.locator("body")).to_contain_text('"$errors"')
    page.go_back()


def take(page: Page) -> None:
    """Save the screenshot of the failure, and a copy of the recording."""
    shot = page.get_by_role("link", name=re.compile("[.]jpg$"))
    with page.expect_download() as started:
        shot.click()
    assert started.value.path().read_bytes().startswith(b"\xff\xd8\xff")
    page.get_by_text("Download", exact=True).click()
    with page.expect_download() as started:
        page.get_by_role("link", name="Sealed file (.fbrec)").click()
    assert b"FBREC" in started.value.path().read_bytes()[:16]


def compare(page: Page, short: str) -> None:
    """Put the other run beside this one, and come back."""
    page.get_by_role("link", name="Compare").click()
    page.get_by_role("link", name=short).click()
    expect(page.locator("h1")).to_contain_text(f" and {short}")
    expect(page.get_by_text("The paths are the same.")).to_be_visible()
    page.get_by_role("table").first.get_by_role("link").first.click()


def keep(page: Page) -> None:
    """Tag it and hold it; the list finds it by its tag."""
    page.get_by_label("Add tags, separated by commas").fill("look at me")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("button", name="Put on legal hold").click()
    expect(page.get_by_text("On legal hold: nothing removes this recording.")).to_be_visible()
    page.get_by_role("link", name="Recordings", exact=True).first.click()
    page.locator("summary", has_text="Tag").click()
    page.get_by_role("link", name="look at me", exact=True).click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
