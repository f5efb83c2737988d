"""The builder as a person with a mouse uses it."""

from __future__ import annotations

import re
import secrets
from typing import Any

from playwright.sync_api import Locator, Page, expect


def unique(name: str) -> str:
    """Return a name that no workflow of this installation has."""
    return f"{name} {secrets.token_hex(2)}"


def new_workflow(page: Page, name: str) -> Canvas:
    """Go from the list of workflows to an empty canvas, by mouse."""
    page.goto("/admin/workflows/workflow/")
    page.get_by_role("link", name=re.compile("(Add|New) workflow", re.I)).first.click()
    page.get_by_label("Name", exact=True).click()
    page.keyboard.type(name)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page).to_have_url(re.compile(r"/builder/$"))
    canvas = Canvas(page)
    expect(page.get_by_role("button", name="Add first step")).to_be_visible()
    return canvas


class Canvas:
    """Palette, canvas and inspector of the page that shows a builder."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.box = page.get_by_test_id("canvas")

    def node(self, node_id: str) -> Locator:
        """Return a step."""
        return self.page.get_by_test_id(f"node-{node_id}")

    def handle(self, node_id: str, side: str, slug: str) -> Locator:
        """Return a port."""
        return self.page.get_by_test_id(f"handle-{node_id}-{side}-{slug}")

    def drop(self, node_type: str, x: float, y: float) -> Locator:
        """Drag a step from the palette to a place on the canvas."""
        self.page.get_by_test_id(f"palette-{node_type}").drag_to(self.box, target_position={"x": x, "y": y})
        return self.page.locator(".fb-node[data-selected]")

    def click_in(self, node_type: str) -> Locator:
        """Add a step by a click in the palette."""
        self.page.get_by_test_id(f"palette-{node_type}").click()
        return self.page.locator(".fb-node[data-selected]")

    def select(self, node_id: str) -> None:
        """Click on a step."""
        self.node(node_id).locator(".fb-node-names").click()
        expect(self.node(node_id)).to_have_attribute("data-selected", "true")

    def drag(self, start: Locator, end: Locator) -> None:
        """Pull the mouse from the middle of one thing to the middle of another, wherever that is by then.

        Pressing the button leaves the field that was written in last, which may draw the page anew.
        """
        start.hover()
        mouse = self.page.mouse
        mouse.down()
        (x1, y1), (x2, y2) = middle(start), middle(end)
        mouse.move((x1 + x2) / 2, (y1 + y2) / 2, steps=4)
        end.hover()
        mouse.up()

    def drag_to(self, step: Locator, x: float, y: float) -> None:
        """Pull a step by its name until its upper left corner is at a place of the canvas.

        It must rest first: a step just added opens its fields, which makes the canvas smaller. And the mouse must keep
        40 px from the edges, where the canvas moves along for as long as it is there.
        """
        grip, canvas = step.locator(".fb-node-names"), self.box.bounding_box()
        assert canvas is not None
        goal = canvas["x"] + x, canvas["y"] + y
        grip.hover()
        mouse, (grip_x, grip_y), (left, top) = self.page.mouse, middle(grip), corner(step)
        mouse.down()
        mouse.move(grip_x - 2, grip_y - 2)  # what is dragged follows from its first movement on
        mouse.move(grip_x + goal[0] - left, grip_y + goal[1] - top, steps=8)
        mouse.up()
        assert max(abs(there - wanted) for there, wanted in zip(corner(step), goal, strict=True)) < 10

    def expect_no_findings(self) -> None:
        """Wait until nothing is wrong with what is drawn; says what is, if that does not come."""
        findings = self.page.get_by_test_id("problems")
        try:
            expect(findings).to_have_text([])
        except AssertionError as error:
            findings.click()
            raise AssertionError(self.page.get_by_label("Findings").inner_text()) from error

    def wire(self, source: str, output: str, target: str, taken: str) -> None:
        """Draw a wire from an output to an input."""
        count = self.wires.count()
        self.drag(self.handle(source, "out", output), self.handle(target, "in", taken))
        expect(self.wires).to_have_count(count + 1)

    @property
    def wires(self) -> Locator:
        """Return the wires; dotted lines of templates are none."""
        return self.page.locator(".react-flow__edge.fb-wire")

    def rename(self, node_id: str) -> None:
        """Give the selected step another id."""
        self.page.get_by_role("tab", name="Settings").click()
        self.put(self.page.get_by_label("Id", exact=True), node_id)
        self.page.get_by_role("tab", name="Parameters").click()  # leaving the field stores it
        expect(self.node(node_id)).to_be_visible()

    def put(self, field: Locator, text: str) -> None:
        """Click into a field and type over what is in it."""
        field.click(click_count=3)
        self.page.keyboard.type(text)

    def field(self, slug: str) -> Locator:
        """Return the field of an input of the selected step."""
        return self.page.get_by_test_id(f"field-{slug}")

    def fill(self, slug: str, value: Any) -> None:
        """Set an input of the selected step: type, choose or switch."""
        field = self.field(slug)
        if isinstance(value, bool):
            if field.is_checked() != value:
                field.click()
        elif field.evaluate("element => element.tagName") == "SELECT":
            field.click()
            field.select_option(value)
        else:
            self.put(field, value)

    def save(self) -> None:
        """Click on Save and wait until it is stored."""
        self.page.get_by_role("button", name="Save", exact=True).click()
        expect(self.page.get_by_test_id("save-state")).to_have_text("Saved")

    @property
    def run_panel(self) -> Locator:
        """Return the strip that shows the run."""
        return self.page.get_by_test_id("run-panel")


def middle(thing: Locator) -> tuple[float, float]:
    """Return the point in the middle of a visible thing."""
    expect(thing).to_be_visible()
    box = thing.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def corner(thing: Locator) -> tuple[float, float]:
    """Return the upper left corner of a visible thing."""
    box = thing.bounding_box()
    assert box is not None
    return box["x"], box["y"]
