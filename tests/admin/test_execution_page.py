"""The page of an execution in a real Chromium: its tabs, by mouse and keyboard, for runs that are small and large."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from executions.models import Execution
from tests.admin.test_browser import CUT
from tests.admin.test_browser import page as page  # the fixtures
from tests.admin.test_browser import refused as refused
from tests.admin.test_browser import site as site
from tests.conftest import graph, node
from tests.e2e.axe import assert_accessible
from tests.executions.conftest import run as run  # the fixture
from tests.executions.edge_nodes import gives
from tests.executions.test_inside import after, store_runs

PATIENCE_MS = 30_000

pytestmark = [pytest.mark.browser, pytest.mark.redis]


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Wait longer for what a page is to show: the large run is many times as large as others."""
    expect.set_options(timeout=PATIENCE_MS)
    yield
    expect.set_options(timeout=5_000)


def address(execution: Any, tab: str = "") -> str:
    return f"/admin/executions/execution/{execution.pk}/change/{tab and '#'}{tab}"


@pytest.fixture
def failed(run: Any) -> Any:
    """An execution that failed at its third step. Named before ``page``: then this thread cannot use the database."""
    nodes = [
        gives("a", {"x": 1}), node("slow", "delay", Duration=0.2), node("odd", "test_fails", Kind="nul"), gives("never", 1),
        node("file", "test_keeps", Kind="kept text"),
    ]  # fmt: skip
    for number, one in enumerate(nodes):
        one["position"] = {"x": 300 * number, "y": 120 * (number % 2)}
    return run(nodes, after("a", "slow"), after("a", "file"), after("slow", "odd"), after("odd", "never"))


@pytest.mark.timeout(240)
@pytest.mark.row("S2-45")
def test_the_tabs_show_the_inside_of_a_run_by_mouse_and_keyboard(failed: Any, page: Page, refused: list[str]) -> None:
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address(failed, "timeline"))
    try_keys(page)
    for tab, look in (
        ("Timeline", look_at_the_timeline), ("Graph", look_at_the_graph), ("State", look_at_the_state),
        ("Artifacts", look_at_the_files), ("Celery", look_at_the_tasks), ("Raw", look_at_the_text),
    ):  # fmt: skip
        page.get_by_role("tab", name=tab).click()
        look(page, failed)
        assert page.evaluate(CUT) == [], tab
        assert_accessible(page, ".fb-execution")
    assert refused == []


def try_keys(page: Page) -> None:
    tabs = page.get_by_role("tablist", name="Inside this execution")
    expect(tabs.get_by_role("tab", name="Timeline")).to_have_attribute("aria-selected", "true")
    tabs.get_by_role("tab", name="Timeline").focus()
    page.keyboard.press("ArrowLeft")
    expect(tabs.get_by_role("tab", name="Graph")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Graph")).to_be_visible()
    expect(page).to_have_url(re.compile("#graph$"))
    page.keyboard.press("Home")
    expect(tabs.get_by_role("tab", name="Logs")).to_be_focused()
    expect(page.get_by_role("log")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(tabs.get_by_role("tab", name="Raw")).to_be_focused()
    page.go_back()
    expect(tabs.get_by_role("tab", name="Logs")).to_have_attribute("aria-selected", "true")


def look_at_the_timeline(page: Page, execution: Any) -> None:
    table = page.get_by_role("table", name="Timeline of the steps")
    slow = table.locator("[data-node=slow]")
    expect(slow).to_have_attribute("data-status", "completed")
    expect(slow).to_have_attribute("data-critical", "true")
    expect(table.locator("[data-node=file]")).not_to_have_attribute("data-critical", "true")
    expect(table.locator("[data-node=odd]")).to_have_attribute("data-status", "failed")
    expect(page.get_by_test_id("critical-path")).to_contain_text("3 steps")
    bars = {name: table.locator(f"[data-node={name}] [data-kind=ran]").bounding_box() for name in ("file", "slow")}
    assert bars["slow"]["width"] > bars["file"]["width"]  # type: ignore[index]


def look_at_the_graph(page: Page, execution: Any) -> None:
    cards = page.get_by_test_id("graph")
    expect(cards.get_by_test_id("node-a")).to_have_attribute("data-status", "completed")
    expect(cards.get_by_test_id("node-odd")).to_have_attribute("data-status", "failed")
    expect(cards.get_by_test_id("node-never")).to_contain_text("Not run")
    expect(cards.locator(".fb-taken")).to_have_count(3)
    facts = page.get_by_role("complementary", name=re.compile("^Step "))
    cards.get_by_test_id("node-never").click()
    expect(facts).to_contain_text("has not begun")
    cards.get_by_test_id("node-odd").focus()
    cards.get_by_test_id("node-odd").click()
    expect(facts).to_contain_text("page said")
    expect(facts.get_by_label("Inputs")).to_contain_text('"Kind": "nul"')


def look_at_the_state(page: Page, execution: Any) -> None:
    number = page.get_by_test_id("event-number")
    expect(number).to_have_text(f"{execution.seq} of {execution.seq} events")
    errors = page.get_by_role("region", name="Errors")
    expect(errors.locator("[data-key=odd]")).to_contain_text("page said")
    page.get_by_label("Event", exact=True).focus()
    page.keyboard.press("Home")
    expect(page.get_by_test_id("event")).to_contain_text("workflow start")
    expect(errors).to_have_count(0)
    for _ in range(execution.seq):
        if page.get_by_test_id("event").inner_text().startswith("Node complete"):
            break
        seq = int(page.get_by_test_id("event").get_attribute("data-seq") or 0)
        page.get_by_role("button", name="Event after").click()
        expect(page.get_by_test_id("event")).to_have_attribute("data-seq", str(seq + 1))
    first = page.get_by_role("region", name="Outputs by step")
    expect(first.locator("[data-change=added]")).to_contain_text('"Value":{"x":1}')


def look_at_the_files(page: Page, execution: Any) -> None:
    expect(page.get_by_role("listitem").filter(has_text="note.txt")).to_contain_text("9 bytes")
    with page.expect_download() as started:
        page.get_by_role("link", name=re.compile("Download note.txt")).click()
    assert Path(started.value.path()).read_text() == "kept text"


def look_at_the_tasks(page: Page, execution: Any) -> None:
    second = page.get_by_role("region", name="Phase 2")
    expect(second).to_contain_text("Completed")
    expect(second.get_by_role("row")).to_have_count(2)
    expect(second).to_contain_text("1 message")
    expect(second.get_by_role("listitem")).to_have_count(2)
    expect(page.get_by_role("region", name="Phase 3")).to_contain_text("Failed")


def look_at_the_text(page: Page, execution: Any) -> None:
    expect(page.get_by_label("JSON of the execution")).to_contain_text(f'"id": "{execution.pk}"')
    with page.expect_download() as started:
        page.get_by_role("link", name="Download", exact=True).click()
    assert json.loads(Path(started.value.path()).read_text())["id"] == str(execution.pk)


@pytest.fixture
def large(request: Any, make_workflow: Any, large_definitions: None, transactional_db: None) -> Execution:
    """An execution of many nodes."""
    nodes = [node(f"n{number}", "delay", Duration=0) for number in range(request.param)]
    return store_runs(make_workflow(graph(nodes), name="large"), 20, request.param // 20)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("large", [2_000, pytest.param(10_000, marks=pytest.mark.slow)], indirect=True)
def test_a_run_of_thousands_of_steps_stays_usable(large: Execution, page: Page, refused: list[str]) -> None:
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address(large, "timeline"))

    table = page.get_by_role("table", name="Timeline of the steps")
    expect(table.locator("[data-node=n0]")).to_be_visible()
    expect(table).to_have_attribute("aria-rowcount", str(large.node_count + 1))
    assert table.get_by_role("row").count() < 50
    page.get_by_role("rowgroup", name=re.compile("Steps in the order")).evaluate(
        "box => box.scrollTop = box.scrollHeight"
    )
    expect(table.locator(f"[data-node=n{large.node_count - 1}]")).to_be_visible()
    assert table.get_by_role("row").count() < 50
    assert refused == []
