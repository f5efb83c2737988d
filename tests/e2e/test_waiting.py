"""Executions that wait for people or are paused, and loops in the builder, by mouse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import graph, node, wire
from tests.e2e.canvas import Canvas, new_workflow, unique
from tests.e2e.conftest import Opener, Site

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.worker]

RUN_MS = 60_000


def placed(definition: dict[str, Any], width: int) -> dict[str, Any]:
    """Return the definition with its nodes in rows of ``width``."""
    for index, step in enumerate(definition["nodes"]):
        step["position"] = {"x": 304 * (index % width), "y": 200 * (index // width)}
    return definition


def open_run(page: Page, name: str) -> None:
    """Press Run in the list of workflows; the page of the execution opens."""
    page.goto("/admin/workflows/workflow/")
    page.get_by_role("row", name=name).get_by_role("button", name="Run").click()
    expect(page).to_have_url(re.compile("/executions/execution/"))


@pytest.mark.timeout(120)
@pytest.mark.row("S2-22")
def test_a_run_waits_and_goes_on_when_a_stranger_approves_by_the_link(
    site: Site, page: Page, open_context: Opener, trouble: list[str], tmp_path: Path
) -> None:
    name = unique("newsletter")
    nodes = [
        node("ask", "approval", {"label": "Ask the editor"}, Title="Publish three articles?", Message="Out at noon."),
        node("send", "delay", {"label": "Send"}, Duration=0),
        node("drop", "delay", {"label": "Drop"}, Duration=0),
    ]
    edges = (wire("ask", "Approved", "send", "Execute Condition"), wire("ask", "Rejected", "drop", "Execute Condition"))
    site.bring({"name": name, "status": "active", **placed(graph(nodes, *edges), 3)}, tmp_path)
    open_run(page, name)
    run = page.locator(".fb-run")
    expect(run).to_have_attribute("data-status", "waiting", timeout=RUN_MS)
    expect(run.locator("li[data-node=ask]")).to_have_attribute("data-status", "waiting")
    question = run.get_by_role("region", name="Approval: Publish three articles?")
    expect(question).to_contain_text(re.compile(r"Waits for approval since \d\d:\d\d, until "))

    run.get_by_role("button", name="Pause").click()
    expect(run).to_have_attribute("data-status", "paused")
    expect(run.get_by_test_id("waits")).to_contain_text("Paused.")
    run.get_by_role("button", name="Resume").click()
    expect(run).to_have_attribute("data-status", "waiting")

    link = question.get_by_role("link", name="Page for approvers").get_attribute("href")
    stranger = open_context().new_page()
    stranger.goto(str(link))
    expect(stranger.get_by_role("heading", name="Publish three articles?")).to_be_visible()
    stranger.get_by_label("Comment").fill("go ahead")
    stranger.get_by_role("button", name="Approve").click()
    expect(stranger.get_by_role("heading", name="Approved")).to_be_visible()

    expect(run).to_have_attribute("data-status", "completed", timeout=RUN_MS)
    expect(run.locator("li[data-node=send]")).to_have_attribute("data-status", "completed")
    expect(run.locator("li[data-node=drop]")).to_have_attribute("data-status", "skipped")
    expect(question).to_have_count(0)
    stored = site.ask("executions", "show", page.url.rstrip("/").split("/")[-2], "--json")
    assert (stored["outputs"]["ask"]["Comment"], stored["outputs"]["ask"]["Decided By"]) == ("go ahead", "link")
    assert trouble == []
    stranger.goto(str(link))  # the browser notes every 410 on its console
    expect(stranger.get_by_role("heading", name="Already approved")).to_be_visible()


@pytest.mark.timeout(120)
def test_a_run_is_paused_in_the_monitor_and_rejected_there(
    site: Site, page: Page, trouble: list[str], tmp_path: Path
) -> None:
    name = unique("two steps")
    nodes = [node("slow", "delay", Duration=3), node("ask", "approval", Title="Sure?"), node("no", "delay", Duration=0)]
    edges = (wire("slow", "Done", "ask", "Execute Condition"), wire("ask", "Rejected", "no", "Execute Condition"))
    site.bring({"name": name, "status": "active", **placed(graph(nodes, *edges), 3)}, tmp_path)
    open_run(page, name)
    page.goto("/admin/monitoring/")
    page.locator("[data-execution]", has_text=name).click()
    run = page.locator(".fb-run")
    expect(run.locator("li[data-node=slow]")).to_have_attribute("data-status", "running", timeout=RUN_MS)

    run.get_by_role("button", name="Pause").click()
    expect(run).to_have_attribute("data-status", "paused")
    expect(run.locator("li[data-node=slow]")).to_have_attribute("data-status", "completed")
    expect(run.locator("li[data-node=ask]")).to_have_attribute("data-status", "queued")
    expect(page.locator("[data-execution][aria-current=true]")).to_contain_text("Paused")
    run.get_by_role("button", name="Resume").click()
    expect(run).to_have_attribute("data-status", "waiting", timeout=RUN_MS)
    run.get_by_role("region", name="Approval: Sure?").get_by_role("button", name="Reject").click()

    expect(run).to_have_attribute("data-status", "completed", timeout=RUN_MS)
    expect(run.locator("li[data-node=no]")).to_have_attribute("data-status", "completed")
    assert trouble == []


@pytest.mark.timeout(150)
@pytest.mark.row("S2-22")
@pytest.mark.row("S2-28")
def test_a_loop_and_an_error_path_are_drawn_by_mouse_and_run(site: Site, page: Page, trouble: list[str]) -> None:
    name = unique("loop by mouse")
    canvas = new_workflow(page, name)
    canvas.drop("loop_items", 130, 120)
    canvas.fill("items", '["a", "b", "c"]')
    canvas.drop("http_request", 460, 120)
    canvas.fill("url", "http://127.0.0.1:9/{{ item }}")
    page.get_by_role("tab", name="Settings").click()
    expect(canvas.handle("http_request_1", "out", "error")).to_have_count(0)
    page.get_by_label("On error").select_option("output")
    page.get_by_label("Retries").fill("1")
    page.get_by_label("First pause (seconds)").fill("0")
    page.get_by_label(re.compile("^network")).check()
    canvas.drop("delay", 740, 440)
    canvas.fill("duration", "0")
    canvas.wire("loop_items_1", "each", "http_request_1", "execute-condition")
    canvas.wire("http_request_1", "error", "delay_1", "execute-condition")
    canvas.wire("http_request_1", "error-message", "loop_items_1", "result")
    for step in ("http_request_1", "delay_1"):
        expect(canvas.node(step)).to_contain_text("Loop Over Items")
    canvas.drag(canvas.handle("delay_1", "out", "done"), canvas.handle("loop_items_1", "in", "execute-condition"))
    expect(canvas.wires).to_have_count(3)
    expect(page.get_by_text("This wire would close a circle.")).to_be_visible()
    page.get_by_role("button", name="Tidy up").click()
    canvas.save()
    assert left(canvas, "loop_items_1") < left(canvas, "http_request_1") < left(canvas, "delay_1")

    page.get_by_role("button", name="Run", exact=True).click()
    expect(canvas.run_panel).to_have_attribute("data-status", re.compile("completed"), timeout=RUN_MS)

    stored = site.ask("executions", "show", str(canvas.run_panel.get_attribute("data-execution")), "--json")
    assert stored["outputs"]["loop_items_1"]["Count"] == 3
    assert all("127.0.0.1 port 9 is not allowed" in text for text in stored["outputs"]["loop_items_1"]["Results"])
    assert [(child["node_id"], child["index"]) for child in stored["children"]] == [
        ("loop_items_1", n) for n in range(3)
    ]
    policy = site.ask("workflows", "export", name)["nodes"][1]["data"]
    assert (policy["on_error"], policy["retries"], policy["backoff_s"], policy["retry_on"]) == (
        "output", 1, 0, ["network"],
    )  # fmt: skip
    assert trouble == []


def left(canvas: Canvas, step: str) -> float:
    """Return where a step begins."""
    box = canvas.node(step).bounding_box()
    assert box is not None
    return box["x"]
