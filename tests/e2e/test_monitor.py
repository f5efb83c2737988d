"""Runs are watched in the browser while connections and the web process die."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, StorageState, expect

from flowbuilder.stack import running_stack
from tests.conftest import graph, node, wire
from tests.e2e.canvas import unique
from tests.e2e.conftest import Opener, Site, add_person, log_in
from tests.e2e.line import Line

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.worker]

PHASES, WIDTH = 18, 12
NODE_ENDS = {"node_complete", "node_error", "node_skipped"}
RECORD = """() => {
    window.seen = []
    const text = id => document.querySelector(`[data-testid=${id}]`)?.textContent ?? ''
    const note = () => {
        const now = [text('connection-status'), text('progress'), text('log-count')]
        if (JSON.stringify(now) !== JSON.stringify(window.seen.at(-1))) window.seen.push(now)
    }
    new MutationObserver(note).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true})
    note()
}"""
LINES = """async () => {
    const list = document.querySelector('.fb-logs-list')
    const found = []
    for (list.scrollTop = 0; ; list.scrollTop += list.clientHeight * 0.7) {
        let rows, box, covered = false
        while (!covered) {
            await new Promise(requestAnimationFrame)
            rows = [...list.querySelectorAll('[data-seq]')]
            box = list.getBoundingClientRect()
            covered = rows[0].getBoundingClientRect().top < box.top + 2
                && rows.at(-1).getBoundingClientRect().bottom > Math.min(box.bottom, box.top + list.scrollHeight) - 2
        }
        const seqs = rows.map(row => Number(row.dataset.seq))
        const known = found.findIndex(([seq]) => seq === seqs[0])
        const again = known < 0 ? [] : found.slice(known)
        if (again.some(([seq], index) => seq !== seqs[index])) return ['not the lines that were here before', ...seqs]
        found.push(...rows.slice(again.length).map(row => [Number(row.dataset.seq), row.dataset.event]))
        if (list.scrollTop + list.clientHeight >= list.scrollHeight - 1) return found
    }
}"""
LOST = re.compile(r"WebSocket connection to .* failed|Failed to load resource: net::ERR_")


def slow_workflow(name: str, phases: int, width: int, seconds: float) -> dict[str, Any]:
    """Return a workflow that needs ``phases`` times ``seconds``; every phase has ``width`` nodes."""
    nodes, edges = [], []
    for phase in range(phases):
        nodes.append(node(f"wait{phase}", "delay", Duration=seconds))
        for column in range(1, width):
            rules = {"found": "$.a"}
            nodes.append(node(f"n{phase}x{column}", "json_transform", Input_JSON='{"a": 1}', Transform_Rules=rules))
        if phase:
            names = [f"wait{phase}", *(f"n{phase}x{column}" for column in range(1, width))]
            edges += [wire(f"wait{phase - 1}", "Done", target, "Execute Condition") for target in names]
    return {"name": name, "status": "active", **graph(nodes, *edges)}


def numbers(text: str) -> list[int]:
    """Return the whole numbers in a text."""
    return [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*", text)]


def kill_web(site: Site) -> int:
    """Kill the web process as the kernel does when memory ends; return its pid."""
    running = running_stack(site.stack.data_dir)
    assert running is not None
    pid = running.processes["web"]
    assert "flowbuilder.asgi" in site.stack.processes()[pid]
    os.kill(pid, signal.SIGKILL)
    return pid


@pytest.fixture
def line(site: Site) -> Iterator[Line]:
    """Return the wire between the browser and the web process."""
    opened = Line(site.stack.port)
    yield opened
    opened.close()


@pytest.mark.timeout(150)
@pytest.mark.row("S1-08")
@pytest.mark.row("S1-15")
def test_every_row_is_shown_once_although_socket_and_web_process_die(
    site: Site, line: Line, open_context: Opener, session: StorageState, trouble: list[str], tmp_path: Path
) -> None:
    name = unique("watched")
    page = open_context(storage_state=session, base_url=line.address).new_page()
    site.bring(slow_workflow(name, PHASES, WIDTH, 1.2), tmp_path)
    page.goto("/admin/workflows/workflow/")
    page.get_by_role("row", name=name).get_by_role("button", name="Run").click()
    expect(page).to_have_url(re.compile("/executions/execution/"))
    page.goto("/admin/")
    page.wait_for_timeout(2500)

    page.get_by_role("link", name=name).first.click()  # in the middle of the run
    expect(page.get_by_test_id("connection-status")).to_have_text("Live")
    execution_id = page.url.rstrip("/").split("/")[-2]
    expect(page.get_by_test_id("progress")).to_have_text(re.compile("^[1-9]"))
    page.evaluate(RECORD)
    before = numbers(page.get_by_test_id("progress").inner_text())
    assert 0 < before[0] < before[1] == PHASES * WIDTH
    line.cut()
    expect(page.get_by_test_id("connection-status")).not_to_have_text("Live")
    page.wait_for_timeout(1500)
    line.mend()
    expect(page.get_by_test_id("connection-status")).to_have_text("Live")
    killed = kill_web(site)
    expect(page.get_by_test_id("connection-status")).not_to_have_text("Live")
    expect(page.get_by_test_id("connection-status")).to_have_text("Live", timeout=30_000)
    run = page.get_by_test_id(f"execution-{execution_id}")
    expect(run).to_have_attribute("data-status", "running")
    expect(run).to_have_attribute("data-status", "completed", timeout=60_000)
    expect(page.get_by_test_id("connection-status")).to_have_text("Run ended")

    running = running_stack(site.stack.data_dir)
    assert running is not None
    assert running.processes["web"] != killed
    rows = site.rows(execution_id)
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert lines_of(page) == [[row["seq"], row["event_type"]] for row in rows]
    check_progress(page.evaluate("window.seen"), rows)
    assert [line for line in trouble if not LOST.search(line)] == []


def lines_of(page: Page) -> list[list[Any]]:
    """Return seq and event of all lines of the log, read by scrolling through it from the top."""
    found: list[list[Any]] = page.evaluate(LINES)
    return found


def check_progress(seen: list[list[str]], rows: list[dict[str, Any]]) -> None:
    """Compare every progress that was shown with the rows that were shown at the same time."""
    ends = [0]
    for row in rows:
        ends.append(ends[-1] + (row["event_type"] in NODE_ENDS))
    dots = [dot for index, (dot, _, _) in enumerate(seen) if index == 0 or dot != seen[index - 1][0]]
    assert dots[0] == "Live"
    assert dots[-1] == "Run ended"
    assert dots.count("Live") >= 3, dots
    assert set(dots[1:-1]) - {"Live"} <= {"Connecting...", "Error"}, dots
    percents = []
    for _, progress, count in seen:
        done, total, percent = numbers(progress)
        shown, of = numbers(count)
        assert shown == of
        assert total == ends[-1]
        assert done == ends[of], f"{progress} after {count}"
        assert percent < 100 or done == total, progress
        percents.append(percent)
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert len(set(percents)) > 3, "progress moves in steps"


@pytest.mark.row("S1-08")
def test_the_monitor_starts_an_execution_and_shows_it_until_its_end(
    site: Site, page: Page, open_context: Opener, session: StorageState, trouble: list[str], tmp_path: Path
) -> None:
    name = unique("monitored")
    site.bring(slow_workflow(name, 3, 1, 3), tmp_path)
    other = open_context(storage_state=session).new_page()
    other.goto("/admin/monitoring/")
    page.goto("/admin/monitoring/")
    page.get_by_label("Workflow to start").select_option(label=name)
    page.get_by_role("button", name="Start New Execution").click()

    row = page.locator(".fb-run-row", has_text=name)
    expect(row).to_have_attribute("data-status", "running")
    expect(row).to_contain_text(re.compile("[0-2]/3"))
    expect(page.get_by_role("heading", name=re.compile("Running"))).to_be_visible()
    execution_id = row.get_attribute("data-execution")
    expect(other.locator(f"[data-execution='{execution_id}']")).to_have_attribute("data-status", "running")
    run = page.get_by_test_id(f"execution-{execution_id}")
    expect(run.get_by_test_id("progress")).to_have_text(re.compile("1 of 3 steps, 33 %|2 of 3 steps, 66 %"))
    expect(row).to_contain_text(re.compile("[12]/3"))
    expect(run).to_have_attribute("data-status", "completed", timeout=30_000)
    expect(run.get_by_test_id("progress")).to_have_text("3 of 3 steps, 100 %")
    for one in (page, other):
        expect(one.locator(f"[data-execution='{execution_id}']")).to_have_attribute("data-status", "completed")
    assert trouble == []


def test_somebody_else_sees_nothing_of_it(
    site: Site, page: Page, open_context: Opener, trouble: list[str], tmp_path: Path
) -> None:
    name, user, password = unique("private"), unique("bob").replace(" ", "-"), "bob-has-a-long-password"
    site.bring(slow_workflow(name, 1, 1, 0.1), tmp_path)
    page.goto("/admin/workflows/workflow/")
    page.get_by_role("row", name=name).get_by_role("button", name="Run").click()
    expect(page.locator(".fb-run")).to_have_attribute("data-status", "completed", timeout=30_000)
    address = page.url
    add_person(page, user, password)

    other = open_context().new_page()
    log_in(other, user, password)
    other.goto("/admin/monitoring/")
    expect(other.get_by_text("No executions yet")).to_be_visible()
    expect(other.get_by_text(name)).to_have_count(0)
    expect(other.get_by_label("Workflow to start")).to_contain_text("No workflows yet")
    other.goto(address)
    expect(other.get_by_text(name)).to_have_count(0)
    expect(other.locator(".fb-run")).to_have_count(0)
    assert {line.partition(": ")[2] for line in trouble} == {
        "Failed to load resource: the server responded with a status of 404 (Not Found)"
    }
