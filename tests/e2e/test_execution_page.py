"""A run that is looked at from inside while it goes on: the graph, the timeline and the tasks move with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import graph, node, wire
from tests.e2e.canvas import unique
from tests.e2e.conftest import Opener, Site, add_person, log_in

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.worker]

PATIENCE_MS = 60_000


@pytest.mark.row("S1-32")
@pytest.mark.row("S1-35")
@pytest.mark.timeout(240)
def test_the_tabs_of_a_run_move_with_it_until_it_is_cancelled_and_run_again(
    site: Site, page: Page, open_context: Opener, trouble: list[str], tmp_path: Path
) -> None:
    name, olive, password = unique("inside"), unique("olive").replace(" ", "-"), "olive-has-a-long-password"
    add_person(page, olive, password, everything=True)
    waits = [node(f"wait{number}", "delay", Duration=1) for number in range(20)]
    first = node("first", "delay", Duration=3)
    last = node("last", "delay", Duration=900)
    edges = [wire("first", "Done", one["id"], "Execute Condition") for one in waits]
    edges += [wire(one["id"], "Done", "last", "Execute Condition") for one in waits]
    site.bring({"name": name, "status": "active", **graph([first, *waits, last], *edges)}, tmp_path)
    page.goto("/admin/workflows/workflow/")
    page.get_by_role("row", name=name).get_by_role("button", name="Run").click()
    expect(page).to_have_url(re.compile("/executions/execution/"))

    page.get_by_role("tab", name="Graph").click()
    cards = page.get_by_test_id("graph")
    expect(cards.get_by_test_id("node-first")).to_have_attribute(
        "data-status", re.compile("running|completed"), timeout=PATIENCE_MS
    )
    expect(cards.get_by_test_id("node-wait0")).to_have_attribute("data-status", "completed", timeout=PATIENCE_MS)
    expect(cards.get_by_test_id("node-last")).to_have_attribute("data-status", "waiting", timeout=PATIENCE_MS)

    page.get_by_role("tab", name="Timeline").click()
    table = page.get_by_role("table", name="Timeline of the steps")
    expect(table.locator("[data-node=first]")).to_have_attribute("data-critical", "true")
    going = table.locator("[data-node=last] [data-kind=ran]")
    expect(going).to_be_visible(timeout=PATIENCE_MS)

    page.get_by_role("tab", name="Celery").click()
    chord = page.get_by_role("region", name="Phase 2")
    expect(chord).to_contain_text("chord of 2 messages")
    expect(chord.get_by_role("row")).to_have_count(4)
    expect(chord).to_contain_text("Callback executions.advance of phase 3")

    watchers = page.get_by_text("Also watching: ")
    expect(watchers).to_have_count(0)
    other = open_context().new_page()
    log_in(other, olive, password)
    other.goto(page.url)
    expect(other.get_by_text("Also watching: admin", exact=True)).to_be_visible()
    expect(watchers).to_have_text(f"Also watching: {olive}")
    other.close()
    expect(watchers).to_have_count(0)

    page.get_by_role("button", name="Cancel", exact=True).click()
    run = page.locator(".fb-run")
    expect(run).to_have_attribute("data-status", "cancelled", timeout=PATIENCE_MS)
    expect(page.get_by_role("region", name="Phase 3")).to_contain_text("Cancelled", timeout=PATIENCE_MS)
    before = page.url
    page.get_by_role("button", name="Retry from failure").click()
    page.wait_for_url(lambda url: url.partition("#")[0] != before.partition("#")[0])
    expect(run).to_have_attribute("data-status", re.compile("running|waiting"), timeout=PATIENCE_MS)
    expect(page.locator("li[data-node=wait0]")).to_have_attribute("data-status", "completed")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(run).to_have_attribute("data-status", "cancelled", timeout=PATIENCE_MS)
    assert trouble == []
