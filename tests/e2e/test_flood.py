"""A node that logs as fast as it can, before somebody who looks at it: the page answers, and holds no more than it shows."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.answers import answers, most_rows, watch_answers, watch_rows
from tests.e2e.canvas import unique
from tests.e2e.chatter import talk
from tests.e2e.conftest import Site, until
from tests.e2e.test_viewer import lines_there, run, skip_where_time_tells_nothing, wait_for_lines

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.worker]

ENDLESS = 10_000_000
ALL_IN_DOM = 400
"""Up to so many lines all are in the document; of more, those that can be seen."""
WORDS = "line 12345 at"
ANSWER_MS = 500
"""How long a key or a click may take while lines flood in; two processors have enough to do then."""


WATCH_HEAD = """word => {
    window.wordShown = false;
    const look = () => [...document.querySelectorAll('.fb-run-head button')].some(button => button.innerText.trim() === word);
    new MutationObserver((_, observer) => {
        if (!look()) return;
        window.wordShown = true;
        observer.disconnect();
    }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""
"""Notes that a button of the head said a word, however soon it goes again: the run may end before anybody looks."""


@pytest.mark.timeout(240)
@pytest.mark.row("S1-16")
def test_fault_39_a_page_answers_while_a_node_logs_as_fast_as_it_can(
    site: Site, page: Page, trouble: list[str], tmp_path: Path
) -> None:
    execution_id = run(site, page, talk(unique("flood"), Lines=ENDLESS), tmp_path)
    wait_for_lines(page, 2_000)
    watch_rows(page)
    watch_answers(page)
    lines, began = lines_there(page), time.monotonic()

    page.get_by_label("Search log").press_sequentially(WORDS, delay=60)
    page.get_by_role("tab", name="Timeline").click()
    expect(page.get_by_role("table", name="Timeline of the steps")).to_be_visible()
    page.get_by_role("tab", name="Logs").click()
    page.get_by_role("button", name="Follow").click()
    page.get_by_role("button", name="Follow").click()
    came, took = lines_there(page) - lines, time.monotonic() - began
    page.evaluate(WATCH_HEAD, "Cancelling")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.wait_for_function("window.wordShown", timeout=30_000)
    found = answers(page, len(WORDS) + 5)
    until(lambda: _status(site, execution_id) == "cancelled", page, 60, "the end of the flood")
    ended = time.monotonic()
    expect(page.locator('article[data-status="cancelled"]')).to_be_visible(timeout=10_000)
    told = time.monotonic() - ended

    print(
        f"{came:,} lines in {took:.1f} s; {len(found)} keys and clicks answered after {statistics.median(found):.0f} ms,"
        f" {found[-1]:.0f} at most; {most_rows(page)} rows; cancelled {ended - began - took:.1f} s later, and the page said so {told:.1f} s after that"
    )
    assert came > 1_000, "no flood"
    assert most_rows(page) <= ALL_IN_DOM
    assert trouble == []
    skip_where_time_tells_nothing()
    assert found[-1] <= ANSWER_MS


def _status(site: Site, execution_id: str) -> str:
    status: str = site.ask("executions", "show", execution_id, "--json")["status"]
    return status
