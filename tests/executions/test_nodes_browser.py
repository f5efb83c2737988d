"""The browser nodes, on a real page in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from executions.browser import BrowserHost
from executions.egress import EgressPolicy
from executions.errors import BrowserError, NodeInputError, NotAllowed
from tests.executions.conftest import Site, TestEnvironment, Victim, serving

pytestmark = pytest.mark.browser


@pytest.fixture
def page_env(site: Site, make_host: Callable[..., BrowserHost]) -> TestEnvironment:
    """An environment with a browser that may reach the test site."""
    allow = f"127.0.0.1:{site.port}"
    return TestEnvironment(EgressPolicy([allow]), make_host(allow))


@pytest.mark.row("S2-05")
async def test_launch_fill_click_wait_and_read(site: Site, page_env: TestEnvironment) -> None:
    opened = await page_env.run("launch_standard_browser", Website_URL=f"{site.url}/site/form.html", Viewport="800x600")
    appeared = await page_env.run("wait_for_element", Selector=".item", Visibility="visible", Web_Page=True)
    gone = await page_env.run("wait_for_element", Selector="#leaves", Visibility="Hidden", Web_Page=True)
    listed = await page_env.run("get_html", Web_Page=True, Selector="#list")
    filled = await page_env.run("fill_input", Selector="#name", Value="Ada", Web_Page=True)
    clicked = await page_env.run("click_element", Selector="text=Send", Web_Page=True, Wait_For_Navigation=True)
    whole = await page_env.run("get_html", Web_Page=True)

    assert opened == filled == clicked == {"Web Page": True}
    assert appeared == gone == {"Web Page": True, "element_appeared": True}
    assert listed["Html Content"].count("<li") == 2
    assert "Received" in whole["Html Content"]
    sent = next(request for request in site.requests if request["path"] == "/site/result.html")
    assert sent["query"] == {
        "name": "Ada",
    }


@pytest.mark.row("S2-53")
async def test_the_value_of_a_field_is_never_logged(site: Site, page_env: TestEnvironment) -> None:
    await page_env.run("launch_standard_browser", Website_URL=f"{site.url}/site/form.html")
    await page_env.run("fill_input", Selector="#secret", Value="hunter2-hunter2", Web_Page=True)
    with pytest.raises(BrowserError) as caught:
        await page_env.run("fill_input", Selector="h1, #send", Value="hunter2-hunter2", Web_Page=True)

    assert "hunter2" not in page_env.text() + str(caught.value)


async def test_a_second_launch_reuses_the_page(site: Site, page_env: TestEnvironment) -> None:
    await page_env.run("launch_standard_browser", Website_URL=f"{site.url}/site/form.html")
    first = await page_env.page()
    await page_env.run("launch_standard_browser", Website_URL=f"{site.url}/site/result.html")

    assert await page_env.page() is first
    assert first.url.endswith("/site/result.html")


@pytest.mark.row("S2-27")
async def test_a_node_without_a_browser_says_to_launch_one(env: TestEnvironment) -> None:
    with pytest.raises(NodeInputError, match="launch"):
        await env.run("click_element", Selector="#a", Web_Page=True)


@pytest.mark.row("S2-53")
async def test_a_forbidden_address_is_not_allowed(page_env: TestEnvironment, victim: Victim) -> None:
    with pytest.raises(NotAllowed, match=r"is not allowed.*FLOWBUILDER_EGRESS_ALLOW"):
        await page_env.run("launch_standard_browser", Website_URL=f"http://{victim.address}/")
    with pytest.raises(NotAllowed, match="only http and https"):
        await page_env.run("launch_standard_browser", Website_URL="file:///etc/passwd")

    assert victim.hits == []


@pytest.mark.parametrize(
    ("node_type", "inputs", "message"),
    [
        ("launch_standard_browser", {"Website_URL": "example.com"}, "must be a whole address"),
        ("launch_standard_browser", {"Website_URL": "http://x.com", "Viewport": "big"}, "width x height"),
        ("launch_standard_browser", {"Website_URL": "http://x.com", "Wait_Until": "never"}, "must be one of"),
        ("wait_for_element", {"Selector": "#a", "Visibility": "seen"}, "must be one of visible, hidden"),
    ],
)
async def test_bad_inputs_are_refused_before_a_browser_is_started(
    env: TestEnvironment, node_type: str, inputs: dict[str, str], message: str
) -> None:
    with pytest.raises(NodeInputError, match=message):
        await env.run(node_type, **inputs)


async def test_an_error_page_is_opened_with_a_warning(site: Site, page_env: TestEnvironment) -> None:
    site.answer(500, b"<h1>broken</h1>")

    await page_env.run("launch_standard_browser", Website_URL=f"{site.url}/answer")

    assert ("warning", f"{site.url}/answer answered 500", {"status_code": 500}) in page_env.logs


async def test_refused_parts_of_a_page_are_logged(site: Site, page_env: TestEnvironment, victim: Victim) -> None:
    await page_env.run(
        "launch_standard_browser",
        Website_URL=f"{site.url}/site/hostile.html?victim={victim.address}",
        Wait_Until="load",
    )

    assert any(level == "warning" and "is blocked" in message for level, message, _ in page_env.logs)


@pytest.mark.row("S2-54")
async def test_the_demo_shop_gives_its_products_to_a_browser(make_host: Callable[..., BrowserHost]) -> None:
    from flowbuilder.demo.site import PRODUCTS, DemoSite, Ledger

    async with serving(DemoSite(Ledger())) as port:
        allow = f"127.0.0.1:{port}"
        env = TestEnvironment(EgressPolicy([allow]), make_host(allow))
        await env.run("launch_standard_browser", Website_URL=f"http://{allow}/login")
        await env.run("fill_input", Selector="#username", Value="demo")
        await env.run("fill_input", Selector="#password", Value="demo-password")
        await env.run("click_element", Selector="button[type=submit]")
        await env.run("wait_for_element", Selector=".product", Visibility="visible")
        html = (await env.run("get_html", Selector="#products"))["Html Content"]
        names = await env.run("get_text_from_html", Html=html, Selector=".product .name", Multiple=True)

    assert names["Texts"] == [product["name"] for product in PRODUCTS]
