"""A person logs in, runs the example from the list, and finds out why another workflow fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import graph, node, wire
from tests.e2e.canvas import new_workflow, unique
from tests.e2e.conftest import Opener, Site, log_in

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.worker]


@pytest.mark.row("S1-08")
def test_the_example_runs_from_the_list_of_workflows(site: Site, open_context: Opener, trouble: list[str]) -> None:
    page = open_context().new_page()
    log_in(page, "admin", site.password)
    page.get_by_role("link", name="Workflows", exact=True).first.click()
    page.get_by_role("checkbox", name="Select this object for an action - demo-shop", exact=True).check()
    page.get_by_role("button", name="Run", exact=True).first.click()
    expect(page.locator(".messagelist")).to_contain_text("demo-shop")
    page.locator(".messagelist").get_by_role("link").first.click()

    expect(page).to_have_url(re.compile(r"/executions/execution/[-0-9a-f]{36}/change/"))
    run = page.locator(".fb-run")
    expect(run).to_have_attribute("data-status", "completed", timeout=60_000)
    expect(run.get_by_test_id("progress")).to_have_text("12 of 12 steps, 100 %")
    expect(run.locator("li[data-node=full]")).to_have_attribute("data-status", "skipped")
    page.reload()
    expect(page.get_by_role("table").first).to_contain_text("Wait for the products")
    page.get_by_role("link", name="Recording", exact=True).click()
    expect(page.get_by_role("heading", name="Events")).to_be_visible()
    expect(page.get_by_role("cell", name=re.compile("^Opened http"))).to_be_visible()
    page.get_by_role("link", name="Dashboard").first.click()
    expect(page.get_by_role("link", name="demo-shop").first).to_be_visible()
    assert trouble == []


def test_a_failed_click_shows_its_error_and_its_screenshot(
    site: Site, page: Page, trouble: list[str], tmp_path: Path
) -> None:
    name = unique("dead selector")
    site.bring(
        {
            "name": name,
            "status": "active",
            **graph(
                [
                    node("open", "launch_standard_browser", Website_URL="{{ vars.demo_url }}/login"),
                    node("press", "click_element", Selector="#nowhere"),
                    node("after", "get_html"),
                ],
                wire("open", "Web Page", "press", "Web Page"),
                wire("press", "Web Page", "after", "Web Page"),
            ),
        },
        tmp_path,
    )
    page.goto("/admin/workflows/workflow/")
    page.get_by_role("row", name=name).get_by_role("button", name="Run").click()

    run = page.locator(".fb-run")
    expect(run).to_have_attribute("data-status", "failed", timeout=60_000)
    expect(run.get_by_role("alert")).to_contain_text("#nowhere")
    expect(run.locator("li[data-node=press]")).to_have_attribute("data-status", "failed")
    expect(run.locator("li[data-node=after]")).to_contain_text("Not run")
    page.get_by_role("tab", name="Artifacts").click()
    screenshot = page.get_by_role("img", name=re.compile("screenshot of (Click Element|press)", re.I))
    screenshot.scroll_into_view_if_needed()
    expect(screenshot).to_be_visible()
    page.wait_for_function("document.querySelector('.fb-file img').naturalWidth > 300")
    page.reload()
    expect(page.get_by_role("row", name=re.compile("Click Element|press")).first).to_contain_text("#nowhere")
    assert trouble == []


def test_the_narrow_menu_beside_the_canvas_keeps_its_names(page: Page, trouble: list[str]) -> None:
    new_workflow(page, unique("menu"))

    page.get_by_role("navigation").get_by_role("link", name="Executions", exact=True).click()

    expect(page).to_have_url(re.compile("/executions/execution/$"))
    assert trouble == []
