"""Workflows are drawn by hand in the builder, saved and run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Dialog, Locator, Page, expect

from tests.e2e.canvas import Canvas, new_workflow, unique
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.worker]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = json.loads((ROOT / "flowbuilder" / "demo" / "workflows" / "demo-shop.json").read_text())
RUN_MS = 60_000


def slug(name: str) -> str:
    """Return a port's name as test ids have it."""
    return name.lower().replace(" ", "-")


def meaning(definition: dict[str, Any]) -> dict[str, Any]:
    """Return what a definition says: everything but places and the ids of wires."""
    return {
        "nodes": {
            node["id"]: {"type": node["type"], **{key: value for key, value in node["data"].items() if value != {}}}
            for node in definition["nodes"]
        },
        "edges": sorted(
            (edge["source"], edge["sourceHandle"], edge["target"], edge["targetHandle"]) for edge in definition["edges"]
        ),
    }


@pytest.mark.timeout(180)
@pytest.mark.row("S1-32")
@pytest.mark.row("S2-03")
def test_the_example_is_drawn_by_mouse_from_an_empty_canvas_and_runs(
    site: Site, page: Page, trouble: list[str]
) -> None:
    name = unique("drawn by mouse")
    canvas = new_workflow(page, name)
    for index, node in enumerate(EXAMPLE["nodes"]):
        x, y = 124 + index % 4 * 240, 80 + index // 4 * 230
        if index == 0:
            step = canvas.click_in(node["type"])
            canvas.drag_to(step, x - 108, y - 24)
        else:
            canvas.drop(node["type"], x, y)
        canvas.rename(node["id"])
        canvas.put(page.get_by_label("Label", exact=True), node["data"]["label"])
        for title, value in node["data"]["inputs"].items():
            canvas.fill(slug(title), json.dumps(value) if isinstance(value, dict | list) else value)
        expect(canvas.node(node["id"])).to_contain_text(node["data"]["label"])
    for edge in EXAMPLE["edges"]:
        canvas.wire(edge["source"], slug(edge["sourceHandle"]), edge["target"], slug(edge["targetHandle"]))
    canvas.expect_no_findings()
    canvas.save()

    page.get_by_role("button", name="Run", exact=True).click()
    expect(canvas.run_panel).to_have_attribute("data-status", "completed", timeout=RUN_MS)

    for node in EXAMPLE["nodes"]:
        expected = "skipped" if node["id"] == "full" else "completed"
        expect(canvas.node(node["id"])).to_have_attribute("data-status", expected)
    assert meaning(site.ask("workflows", "export", name)) == meaning(EXAMPLE)
    assert trouble == []


@pytest.mark.row("S2-03")
def test_two_steps_are_built_saved_and_run_by_keyboard_only(site: Site, page: Page, trouble: list[str]) -> None:
    name, keys = unique("typed"), page.keyboard
    page.goto("/admin/workflows/workflow/add/")
    tab_to(page, page.get_by_label("Name", exact=True))
    keys.type(name)
    keys.press("Enter")
    expect(page.get_by_role("button", name="Add first step")).to_be_visible()
    canvas = Canvas(page)

    keys.press("?")
    listed = page.get_by_role("dialog", name="Keyboard shortcuts")
    for used in ("Tab or N", "C", "Enter", "Esc", "Arrow keys", "Ctrl S", "Ctrl Enter"):
        expect(listed.locator("dt", has_text=re.compile(f"^{used.replace(' ', ' ?')}$"))).to_have_count(1)
    keys.press("Escape")
    expect(listed).to_have_count(0)

    add_by_key(page, "delay")
    keys.press("Enter")
    expect(canvas.field("duration")).to_be_focused()
    keys.type("0.2")
    keys.press("Escape")
    expect(canvas.box).to_be_focused()
    add_by_key(page, "webhook")
    keys.press("Enter")
    expect(canvas.field("webhook-url")).to_be_focused()
    keys.type("{{ vars.demo_url }}/sink")
    tab_to(page, canvas.field("payload"))
    keys.type("typed")
    keys.press("Escape")
    keys.press("ArrowLeft")
    expect(canvas.node("delay_1")).to_have_attribute("data-selected", "true")
    keys.press("c")
    dialog = page.get_by_role("dialog", name="Connect steps")
    expect(dialog.get_by_label("From step")).to_have_value("delay_1")
    expect(dialog.get_by_label("To step")).to_have_value("deliver_to_webhook_1")
    tab_to(page, dialog.get_by_role("button", name="Connect", exact=True))
    keys.press("Enter")
    expect(canvas.wires).to_have_count(1)
    keys.press("Control+s")
    expect(page.get_by_test_id("save-state")).to_have_text("Saved")
    keys.press("Control+Enter")

    expect(canvas.run_panel).to_have_attribute("data-status", "completed", timeout=RUN_MS)
    expect(canvas.node("delay_1")).to_have_attribute("data-status", "completed")
    expect(canvas.node("deliver_to_webhook_1")).to_have_attribute("data-status", "completed")
    stored = site.ask("workflows", "export", name)
    assert [(edge["source"], edge["target"]) for edge in stored["edges"]] == [("delay_1", "deliver_to_webhook_1")]
    assert stored["nodes"][0]["data"]["inputs"] == {"Duration": 0.2}
    assert trouble == []


def test_a_question_for_problems_that_got_lost_is_asked_again(page: Page) -> None:
    canvas = new_workflow(page, unique("lost answer"))
    canvas.click_in("deliver_to_webhook")
    canvas.fill("payload", "anything")
    expect(page.get_by_test_id("problems")).to_have_count(1)
    page.route("**/workflows/validate", lambda route: route.abort())

    with page.expect_event("requestfailed"):
        canvas.fill("webhook-url", "{{ vars.demo_url }}/sink")
    page.wait_for_timeout(1000)
    page.unroute("**/workflows/validate")

    canvas.expect_no_findings()


def add_by_key(page: Page, words: str) -> None:
    """Add the first step that the search finds for ``words``."""
    page.keyboard.press("Tab")
    expect(page.get_by_role("combobox", name="Find a step")).to_be_focused()
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("canvas")).to_be_focused()


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until ``wanted`` has the focus."""
    for _ in range(60):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {wanted}")


@pytest.mark.row("S2-07")
def test_illegal_wires_are_refused_with_the_reason(page: Page, trouble: list[str]) -> None:
    canvas = new_workflow(page, unique("illegal wires"))
    canvas.drop("launch_standard_browser", 150, 80)
    canvas.drop("fill_input", 450, 80)
    canvas.drop("delay", 750, 80)

    canvas.drag(
        canvas.handle("launch_standard_browser_1", "out", "web-page"), canvas.handle("fill_input_1", "in", "selector")
    )
    expect(page.get_by_role("alert")).to_contain_text("Web Page gives a web page, Selector takes text.")
    canvas.drag(canvas.handle("delay_1", "out", "web-page"), canvas.handle("delay_1", "in", "web-page"))
    expect(page.get_by_role("alert")).to_contain_text("A step cannot be wired to itself.")
    expect(canvas.wires).to_have_count(0)
    canvas.wire("fill_input_1", "web-page", "delay_1", "web-page")
    canvas.drag(canvas.handle("delay_1", "out", "web-page"), canvas.handle("fill_input_1", "in", "web-page"))
    expect(page.get_by_role("alert")).to_contain_text("This wire would close a circle.")
    expect(canvas.wires).to_have_count(1)

    assert trouble == []


@pytest.mark.row("S2-07")
def test_a_missing_input_is_found_on_its_step_until_it_is_there(page: Page, trouble: list[str]) -> None:
    canvas = new_workflow(page, unique("findings"))
    canvas.drop("delay", 300, 100)
    node, field = canvas.node("delay_1"), canvas.field("duration")
    expect(node).to_have_attribute("data-problem", "error")
    expect(page.locator(".fb-field", has=field).locator(".fb-field-problem")).to_contain_text("Duration")
    expect(page.get_by_test_id("problems")).to_contain_text("1 problem")

    canvas.fill("duration", "1")

    expect(node).not_to_have_attribute("data-problem", re.compile("."))
    expect(page.locator(".fb-field-problem")).to_have_count(0)
    canvas.expect_no_findings()
    assert trouble == []


@pytest.mark.row("S2-03")
def test_steps_and_wires_are_undone_and_redone(page: Page, trouble: list[str]) -> None:
    canvas = new_workflow(page, unique("undo"))
    undo, redo = (page.get_by_role("button", name=name, exact=True) for name in ("Undo", "Redo"))
    expect(undo).to_be_disabled()
    canvas.drop("delay", 150, 80)
    canvas.fill("duration", "2")
    canvas.drop("delay", 550, 80)
    canvas.wire("delay_1", "done", "delay_2", "execute-condition")

    undo.click()
    expect(canvas.wires).to_have_count(0)
    undo.click()
    expect(canvas.node("delay_2")).to_have_count(0)
    undo.click()
    canvas.select("delay_1")
    expect(canvas.field("duration")).to_have_value("")
    for _ in range(3):
        redo.click()
    expect(redo).to_be_disabled()
    expect(canvas.wires).to_have_count(1)
    canvas.select("delay_1")
    expect(canvas.field("duration")).to_have_value("2")
    assert trouble == []


@pytest.mark.row("S2-03")
def test_leaving_with_unsaved_changes_asks_first(page: Page, trouble: list[str]) -> None:
    canvas = new_workflow(page, unique("unsaved"))
    canvas.drop("delay", 300, 100)
    canvas.fill("duration", "1")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.once("dialog", stay)
    page.get_by_role("link", name="All workflows").click()
    expect(page.get_by_test_id("save-state")).to_have_text("Unsaved changes")
    expect(page).to_have_url(re.compile("/builder/$"))
    assert asked == ["beforeunload"]

    canvas.save()
    page.get_by_role("link", name="All workflows").click()
    expect(page).to_have_url(re.compile("/workflow/$"))
    assert asked == ["beforeunload"]
    assert trouble == []


@pytest.mark.row("S2-03")
def test_two_people_who_save_the_same_version_are_told(
    site: Site, page: Page, context: BrowserContext, trouble: list[str]
) -> None:
    name = unique("conflict")
    mine = new_workflow(page, name)
    other = Canvas(context.new_page())
    other.page.goto(page.url)
    mine.drop("delay", 300, 100)
    mine.fill("duration", "1")
    mine.save()
    other.drop("delay", 300, 100)
    other.fill("duration", "7")

    other.page.get_by_role("button", name="Save", exact=True).click()

    dialog = other.page.get_by_role("dialog", name="Somebody saved before you")
    expect(dialog).to_contain_text("version 1 was saved meanwhile")
    edges = "buttons => buttons.map(button => button.getBoundingClientRect().left)"
    left = dialog.evaluate("window => window.getBoundingClientRect().left")
    assert min(dialog.get_by_role("button").evaluate_all(edges)) > left, "no button is cut off"
    dialog.get_by_role("button", name="Keep editing").click()
    expect(dialog).to_have_count(0)
    assert site.ask("workflows", "export", name)["nodes"][0]["data"]["inputs"] == {"Duration": 1}
    other.page.get_by_role("button", name="Save", exact=True).click()
    dialog.get_by_role("button", name=re.compile("Save mine as version")).click()
    expect(other.page.get_by_test_id("save-state")).to_have_text("Saved")
    assert site.ask("workflows", "export", name)["nodes"][0]["data"]["inputs"] == {"Duration": 7}
    assert len(trouble) == 2, "the browser writes each answer 409 to the console, and nothing else"
    assert all("409" in line for line in trouble)


@pytest.mark.row("S2-03")
def test_a_name_that_another_person_gave_meanwhile_is_replaced_only_by_who_wants_that(
    page: Page, context: BrowserContext, trouble: list[str]
) -> None:
    mine = new_workflow(page, unique("named"))
    mine.drop("delay", 300, 100)
    mine.fill("duration", "1")
    mine.save()
    other = context.new_page()
    other.goto(page.url)
    theirs = unique("theirs")
    other.get_by_label("Workflow name").fill(theirs)
    Canvas(other).save()
    mine.fill("duration", "2")

    page.get_by_role("button", name="Save", exact=True).click()

    dialog = page.get_by_role("dialog", name="Somebody saved before you")
    expect(dialog).to_contain_text("Name, description or settings were changed")
    dialog.get_by_role("button", name=re.compile("Load")).click()
    expect(page.get_by_label("Workflow name")).to_have_value(theirs)
    assert len(trouble) == 1, "the answer 409"


@pytest.mark.row("S2-03")
def test_a_wide_workflow_is_shown_in_its_whole_height(page: Page, trouble: list[str]) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto("/admin/workflows/workflow/")
    page.get_by_role("row", name="demo-shop admin", exact=False).get_by_role("link", name="Builder").first.click()
    canvas = Canvas(page)
    for node_id in ("open", "deal", "full"):
        expect(canvas.node(node_id)).to_be_attached()

    frame = canvas.box.bounding_box()
    assert frame is not None
    page.wait_for_function(
        """([top, bottom]) => [...document.querySelectorAll('.fb-node')].every(node => {
            const box = node.getBoundingClientRect()
            return top <= box.top && box.bottom <= bottom
        })""",
        arg=[frame["y"], frame["y"] + frame["height"]],
    )
    assert trouble == []


STEPS_THAT_FAIL = [
    ("wait", "delay", {"Duration": 0.15}),
    ("stop", "stop_and_error", {"Message": "No price was found in the list that the shop gave. " * 6}),
]
CUT_LINES = """element => {
    const lines = document.createRange()
    lines.selectNodeContents(element)
    const bottom = element.getBoundingClientRect().bottom
    return [...lines.getClientRects()].filter(line => line.top < bottom - 1 && line.bottom > bottom + 2).length
}"""


@pytest.mark.row("S2-03")
def test_the_end_of_a_run_is_told_in_whole_lines(site: Site, page: Page, tmp_path: Path, trouble: list[str]) -> None:
    name = unique("ends")
    nodes = [
        {"id": node_id, "type": node_type, "position": {"x": 300 * place, "y": 0}, "data": {"inputs": inputs}}
        for place, (node_id, node_type, inputs) in enumerate(STEPS_THAT_FAIL)
    ]
    edge = {
        "id": "e1",
        "source": "wait",
        "sourceHandle": "Done",
        "target": "stop",
        "targetHandle": "Execute Condition",
    }
    site.bring({"name": name, "nodes": nodes, "edges": [edge]}, tmp_path)
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto("/admin/workflows/workflow/")
    page.get_by_role("row", name=f"{name} admin", exact=False).get_by_role("link", name="Builder").first.click()
    canvas = Canvas(page)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(canvas.run_panel).to_have_attribute("data-status", "failed", timeout=RUN_MS)

    told = canvas.run_panel.get_by_text("No price was found").first
    assert told.evaluate(CUT_LINES) == 0
    chip = canvas.node("wait").locator(".fb-node-status")
    expect(chip).to_contain_text(re.compile(r"Completed.*ms"))
    assert chip.evaluate("element => element.offsetHeight") < 24
    assert trouble == []
