"""Nodes that drive the browser page of an execution. All of it goes through ``BrowserPage``."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal, cast

from executions.errors import NotAllowed
from executions.fingerprints import draw
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from executions.nodes.deliver import checked_url
from executions.nodes.inputs import Inputs
from executions.upstream import Upstream
from workflows.kinds import load_state
from workflows.registry import NodeDescription, Port, register

if TYPE_CHECKING:
    from executions.browser import BrowserPage

GROUP = "Browser Automation"
PAGE_IN = Port("Web Page", "BROWSER_INSTANCE", required=True)
PAGE_OUT = Port("Web Page", "BROWSER_INSTANCE")
SELECTOR = Port("Selector", required=True, placeholder="#login", help="A CSS, text= or xpath= selector of Playwright.")
ELEMENT_SECONDS = 10.0
READ_SECONDS = 30.0
LONGEST_SECONDS = 110


URL = Port("Website URL", required=True, handle=False, placeholder="https://example.com")
WAIT_UNTIL = Port(
    "Wait Until",
    "SELECT",
    default="domcontentloaded",
    options=("domcontentloaded", "load", "networkidle", "commit"),
    handle=False,
)
TIMEOUT = Port("Timeout", "NUMBER", default=60, min=1, max=LONGEST_SECONDS, handle=False, help="Seconds.")
PAGE_OPTIONS = (
    Port("Viewport", handle=False, placeholder="1280x720", help="Width x height in pixels."),
    Port("Locale", handle=False, placeholder="en-US"),
    Port("Timezone", handle=False, placeholder="Europe/Berlin"),
    Port("User Agent", handle=False),
    Port(
        "Proxy",
        "CREDENTIAL",
        kinds=("proxy",),
        whole=True,
        handle=False,
        help="Everything that the page loads goes through it, as far as nodes may reach it.",
    ),
    Port(
        "Storage State",
        "CREDENTIAL",
        kinds=("browser_state",),
        handle=False,
        help="Cookies and local storage that the page begins with, so that it is logged in.",
    ),
    Port(
        "Block Resources",
        handle=False,
        placeholder="image, font, media",
        help="Kinds of resources that are not loaded, separated by commas.",
    ),
    Port(
        "Record HAR",
        "BOOLEAN",
        default=False,
        handle=False,
        help="Keeps what the page loads during each browser node, as a file of the recording.",
    ),
)


def page_options(inputs: Inputs) -> dict[str, Any]:
    """Return the fields of ``BrowserOptions`` that the inputs of a launch node name."""
    options: dict[str, Any] = {
        "locale": inputs.text("Locale").strip() or None,
        "timezone": inputs.text("Timezone").strip() or None,
        "user_agent": inputs.text("User Agent").strip() or None,
        "block_resources": tuple(
            part.strip().lower() for part in inputs.text("Block Resources").split(",") if part.strip()
        ),
        "proxy": _proxy(inputs),
        "storage_state": _storage_state(inputs),
        "record_har": inputs.boolean("Record HAR"),
    }
    if viewport := inputs.text("Viewport").strip():
        size = re.fullmatch(r"(\d{2,4})\s*[x×]\s*(\d{2,4})", viewport)
        if size is None:
            inputs.refuse("Viewport", f'must be width x height such as 1280x720, not "{viewport[:40]}"')
        options["viewport"] = (int(size[1]), int(size[2]))
    return {name: value for name, value in options.items() if value}


def _proxy(inputs: Inputs) -> Upstream | None:
    given = inputs.text("Proxy")
    if not given:
        return None
    try:
        fields = json.loads(given)
        return Upstream.read(fields["server"], fields.get("username", ""), fields.get("password", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        inputs.refuse(
            "Proxy", "must be a credential of the kind proxy, with a server such as http://proxy.example.com:3128"
        )


def _storage_state(inputs: Inputs) -> dict[str, Any] | None:
    given = inputs.text("Storage State")
    if not given:
        return None
    try:
        return load_state(given)
    except ValueError as error:
        inputs.refuse("Storage State", f"must be a credential of the kind browser_state; what it holds {error}")


async def visit(env: Environment, page: BrowserPage, inputs: Inputs, url: str) -> None:
    """Go to the address, and log where the page is and what it was refused."""
    wait_until = cast(Literal["commit", "domcontentloaded", "load", "networkidle"], inputs.choice("Wait Until"))
    try:
        title = await page.goto(url, wait_until=wait_until, timeout_seconds=inputs.number("Timeout") or 60)
    except NotAllowed as error:
        env.log(str(error), level="error")
        raise
    for refusal in page.new_refusals():
        env.log(f"The page asked for something that is blocked: {refusal}", level="warning")
    if page.status >= 400:
        env.log(f"{page.url} answered {page.status}", level="warning", status_code=page.status)
    env.log(f"Opened {page.url}", url=page.url, title=title)


@register
class LaunchStandardBrowser(NodeExecutor):
    """Open a browser page at an address."""

    description = NodeDescription(
        type="launch_standard_browser",
        label="Standard Browser",
        group=GROUP,
        credits=5,
        start=True,
        effect="browser",
        weight="browser",
        timeout_s=LONGEST_SECONDS + 40,
        summary="Opens a browser page; later browser nodes of the execution use the same page.",
        subtitle="Website URL",
        inputs=(URL, *PAGE_OPTIONS, WAIT_UNTIL, TIMEOUT),
        outputs=(PAGE_OUT,),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Open (or reuse) the page of this execution and go to the address."""
        inputs = self.inputs(node)
        url = checked_url(inputs, "Website URL")
        inputs.choice("Wait Until")
        options = page_options(inputs)
        page = await env.launch(**options, bare=not options)
        await visit(env, page, inputs, url)
        return {"Web Page": True}


@register
class LaunchStealthBrowser(NodeExecutor):
    """Open a browser page that looks like one that a person uses."""

    description = NodeDescription(
        type="launch_stealth_browser",
        label="Stealth Browser",
        group=GROUP,
        credits=6,
        start=True,
        effect="browser",
        weight="browser",
        timeout_s=LONGEST_SECONDS + 40,
        summary="Opens a browser page that looks like a person's, which reduces accidental blocking.",
        subtitle="Website URL",
        inputs=(
            URL,
            Port("Seed", handle=False, help="The same seed gives the same looks. Empty: one of this execution."),
            *PAGE_OPTIONS,
            WAIT_UNTIL,
            TIMEOUT,
        ),
        outputs=(PAGE_OUT,),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Draw the looks, open (or reuse) the page and go to the address."""
        inputs = self.inputs(node)
        url = checked_url(inputs, "Website URL")
        inputs.choice("Wait Until")
        given = page_options(inputs)
        own_seed = inputs.text("Seed").strip()
        seed = own_seed or env.execution_id
        looks = draw(seed, locale=given.get("locale", ""), timezone=given.get("timezone", ""))
        drawn = {"screen": looks.screen, "viewport": looks.viewport, "locale": looks.locale, "timezone": looks.timezone}
        page = await env.launch(**{**drawn, **given}, stealth=True, human_like=True, bare=not given and not own_seed)
        kept = page.options
        env.log(
            f"Looks of the seed {seed}", seed=seed, viewport="{}x{}".format(*kept.viewport), locale=kept.locale,
            timezone=kept.timezone,
        )  # fmt: skip
        await visit(env, page, inputs, url)
        return {"Web Page": True}


@register
class LaunchBrightDataBrowser(NodeExecutor):
    """Open a page in a browser elsewhere, of Bright Data or of anybody who speaks CDP."""

    description = NodeDescription(
        type="launch_bright_data_browser",
        label="Bright Data Browser",
        group=GROUP,
        credits=7,
        start=True,
        effect="browser",
        weight="browser",
        timeout_s=330,
        summary="Opens a page in a browser of Bright Data, or of another provider that speaks CDP.",
        subtitle="Website URL",
        inputs=(
            URL,
            Port("Bright Data Browser Username", required=True, handle=False, placeholder="brd-customer-…-zone-…"),
            Port(
                "Bright Data Browser Password",
                "CREDENTIAL",
                required=True,
                handle=False,
                variant="password",
                kinds=("password", "basic", "api_key", "bearer", "custom"),
            ),
            WAIT_UNTIL,
            Port("Timeout", "NUMBER", default=120, min=1, max=240, handle=False, help="Seconds."),
        ),
        outputs=(PAGE_OUT,),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Connect to the browser, open (or reuse) a page there and go to the address."""
        inputs = self.inputs(node)
        url = checked_url(inputs, "Website URL")
        inputs.choice("Wait Until")
        login = (inputs.text("Bright Data Browser Username").strip(), inputs.text("Bright Data Browser Password"))
        if not all(login):
            inputs.refuse("Bright Data Browser Password" if login[0] else "Bright Data Browser Username", "is empty")
        page = await env.launch(remote=login)
        await visit(env, page, inputs, url)
        return {"Web Page": True}


@register
class FillInput(NodeExecutor):
    """Put a value into an input field of the page. The value is never logged."""

    description = NodeDescription(
        type="fill_input",
        label="Fill Input on Page",
        group=GROUP,
        credits=1,
        effect="browser",
        weight="browser",
        summary="Puts a value into an input field of the page.",
        subtitle="Selector",
        inputs=(
            SELECTOR,
            Port("Value", required=True),
            PAGE_IN,
            Port(
                "Human-like Typing",
                "BOOLEAN",
                default=True,
                handle=False,
                help="Types key by key in a stealth browser; the standard browser sets the value at once.",
            ),
        ),
        outputs=(PAGE_OUT,),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Wait for the field and fill it."""
        inputs = self.inputs(node)
        selector, value = inputs.text("Selector"), inputs.text("Value")
        page = await env.page()
        human = inputs.boolean("Human-like Typing") and page.options.human_like
        await page.fill(selector, value, human=human, timeout_seconds=ELEMENT_SECONDS)
        env.log(f'Filled "{selector}"', selector=selector)
        return {"Web Page": True}


@register
class ClickElement(NodeExecutor):
    """Click an element of the page."""

    description = NodeDescription(
        type="click_element",
        label="Click Element",
        group=GROUP,
        credits=1,
        effect="browser",
        weight="browser",
        timeout_s=90,
        summary="Clicks an element of the page.",
        subtitle="Selector",
        inputs=(
            SELECTOR,
            PAGE_IN,
            Port("Force Click", "BOOLEAN", default=False, handle=False, help="Click even if something covers it."),
            Port("Button", "SELECT", default="left", options=("left", "right", "middle"), handle=False),
            Port("Click Count", "NUMBER", default=1, min=1, max=3, handle=False),
            Port(
                "Wait For Navigation",
                "BOOLEAN",
                default=False,
                handle=False,
                help="Wait until the page that the click leads to is there.",
            ),
        ),
        outputs=(PAGE_OUT,),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Wait for the element to be visible and click it."""
        inputs = self.inputs(node)
        selector = inputs.text("Selector")
        page = await env.page()
        await page.click(
            selector,
            button=cast(Literal["left", "right", "middle"], inputs.choice("Button")),
            click_count=int(inputs.number("Click Count") or 1),
            force=inputs.boolean("Force Click"),
            wait_for_navigation=inputs.boolean("Wait For Navigation"),
            timeout_seconds=ELEMENT_SECONDS,
        )
        env.log(f'Clicked "{selector}"', selector=selector, url=page.url)
        return {"Web Page": True}


@register
class WaitForElement(NodeExecutor):
    """Wait until an element appears or disappears."""

    description = NodeDescription(
        type="wait_for_element",
        label="Wait For Element",
        group="Timing Controls",
        credits=1,
        effect="browser",
        weight="browser",
        timeout_s=LONGEST_SECONDS + 10,
        summary="Waits until an element of the page is visible or hidden.",
        subtitle="Selector",
        inputs=(
            SELECTOR,
            Port("Visibility", "SELECT", required=True, default="visible", options=("visible", "hidden"), handle=False),
            PAGE_IN,
            Port(
                "Timeout (seconds)",
                "NUMBER",
                default=30,
                min=0.1,
                max=LONGEST_SECONDS,
                handle=False,
                aliases=("Timeout",),
            ),
        ),
        outputs=(PAGE_OUT, Port("element_appeared", "BOOLEAN", help="True when the awaited state was reached.")),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Wait for the state or fail with a message that says what was awaited."""
        inputs = self.inputs(node)
        selector, visibility = inputs.text("Selector"), inputs.choice("Visibility")
        page = await env.page()
        seconds = inputs.number("Timeout (seconds)") or 30
        await page.wait_for(selector, visible=visibility == "visible", timeout_seconds=seconds)
        env.log(f'"{selector}" is {visibility}', selector=selector)
        return {"Web Page": True, "element_appeared": True}


@register
class GetHtml(NodeExecutor):
    """Read the HTML of the page or of one element."""

    description = NodeDescription(
        type="get_html",
        label="Get HTML From Page",
        group="Data Extraction",
        credits=2,
        effect="browser",
        weight="browser",
        summary="Reads the HTML of the page, or of one element, as it is after its scripts ran.",
        inputs=(
            PAGE_IN,
            Port("Selector", placeholder="main", help="Only this element, instead of the whole page."),
        ),
        outputs=(Port("Html Content"), PAGE_OUT),
    )

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return the serialised DOM."""
        selector = self.inputs(node).text("Selector").strip()
        page = await env.page()
        html = await page.html(selector or None, timeout_seconds=ELEMENT_SECONDS if selector else READ_SECONDS)
        env.log(f"Read {len(html)} characters from {page.url}", url=page.url, characters=len(html))
        return {"Html Content": html, "Web Page": True}
