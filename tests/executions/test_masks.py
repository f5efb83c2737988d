"""Pictures of pages: what a run knows to be secret is covered, wherever and however a page shows it."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from executions import browser, masks
from executions.browser import BrowserHost, BrowserPage
from executions.local import execute_sync
from recordings import record_workflow
from tests.conftest import graph, node, wire
from tests.executions.conftest import Site

pytestmark = pytest.mark.browser
MakeHost = Callable[..., BrowserHost]
SECRET = "C0rrect-horse/42"
LOOK = "color:#f00;background:#fff;font:bold 20px monospace;-webkit-text-fill-color:#f00;border:0"

PIXELS = """async ([image, boxes]) => {
  const answer = await fetch('data:image/jpeg;base64,' + image);
  const bitmap = await createImageBitmap(await answer.blob());
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const draw = canvas.getContext('2d');
  draw.drawImage(bitmap, 0, 0);
  const count = (x, y, w, h, wanted) => {
    const data = draw.getImageData(x, y, w, h).data;
    let found = 0;
    for (let i = 0; i < data.length; i += 4) if (wanted(data[i], data[i + 1], data[i + 2])) found++;
    return found / (w * h);
  };
  const red = (r, g, b) => r > 120 && g < 110 && b < 110;
  const black = (r, g, b) => r < 40 && g < 40 && b < 40;
  return [Math.round(count(0, 0, bitmap.width, bitmap.height, red) * bitmap.width * bitmap.height),
          boxes.map(([x, y, w, h]) => count(x + 3, y + 3, Math.max(1, w - 6), Math.max(1, h - 6), black))];
}"""


async def look(page: BrowserPage, picture: bytes, boxes: list[list[int]]) -> tuple[int, list[float]]:
    """Return how many red pixels a picture has, and which part of each box is black."""
    blank = await page.context.new_page()
    try:
        red, black = await blank.evaluate(PIXELS, [base64.b64encode(picture).decode(), boxes])
    finally:
        await blank.close()
    return int(red), list(black)


SHOWN = {
    "text": "<p id=it>it is {secret} indeed</p>",
    "parts": "<p id=it>{half}<b>{rest}</b></p>",
    "line break": "<p id=it>{half}<br>{rest}</p>",
    "field": "<input id=it value='{secret}'>",
    "placeholder": "<input id=it placeholder='{secret}'><style>::placeholder {{ color: #f00; opacity: 1 }}</style>",
    "password field": "<input id=it type=password value='something else'>",
    "area": "<textarea id=it>{secret}</textarea>",
    "choice": "<select id=it><option>no<option selected>{secret}</select>",
    "encoded": "<p id=it>{quoted}</p>",
    "base64": "<p id=it>{base64}</p>",
    "before": "<p id=it data-x='{secret}'></p><style>#it::before {{ content: attr(data-x) }}</style>",
    "no box": "<div id=it><span style='display:contents'>{secret}</span></div>",
    "over its box": "<div style='width:400px' id=it><span style='display:block;width:1px;white-space:nowrap'>{secret}</span></div>",
    "shadow": "<div id=it></div><script>it.attachShadow({{mode: 'open'}}).innerHTML = '<b>{secret}</b>'</script>",
    "frame": "<iframe id=it srcdoc=\"<p style='{look}'>{secret}</p>\"></iframe>",
}


async def shown(page: BrowserPage, site: Site, way: str) -> list[list[int]]:
    """Show the secret on a page in some way, in red; return the box where it stands."""
    body = SHOWN[way].format(
        secret=SECRET, half=SECRET[:7], rest=SECRET[7:], quoted=quote(SECRET, safe=""),
        base64=base64.b64encode(f"user:{SECRET}".encode()).decode(), look=LOOK,
    )  # fmt: skip
    style = f"<style>*:not(style):not(script):not(head) {{ {LOOK} }}</style>"
    await page.goto(f"{site.url}/site/result.html")
    await page.page.set_content(f"<!doctype html>{style}<body>{body}", wait_until="load")
    return [
        await page.page.evaluate(
            "(() => { const b = it.getBoundingClientRect(); return [b.x, b.y, b.width, b.height].map(Math.round) })()"
        )
    ]


@pytest.mark.row("S2-08")
@pytest.mark.row("S2-53")
async def test_nothing_of_a_secret_can_be_read_in_a_picture(
    site: Site, make_host: MakeHost, subtests: pytest.Subtests
) -> None:
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main")
    for way in SHOWN:
        with subtests.test(way):
            boxes = await shown(page, site, way)
            bare = await page.page.screenshot(type="jpeg", quality=60)
            assert (await look(page, bare, boxes))[0] > 50, "the page shows nothing that could be covered"

            capture = await page.capture([SECRET])

            assert capture is not None
            red, black = await look(page, capture.screenshot, boxes)
            assert red == 0
            assert black[0] > 0.02, "nothing stands in its place"  # boxes are wider than the text


async def test_the_rest_of_the_page_stays_readable(site: Site, make_host: MakeHost) -> None:
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main")
    boxes = await shown(page, site, "text")

    capture = await page.capture(["something else", "abc", ""])

    assert capture is not None
    red, black = await look(page, capture.screenshot, boxes)
    assert red > 50
    assert black[0] < 0.01


async def test_what_a_node_typed_as_a_password_is_covered_where_the_page_repeats_it(
    site: Site, make_host: MakeHost
) -> None:
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main")
    await page.goto(f"{site.url}/site/form.html")
    await page.fill("#secret", "typed-by-a-node")
    await page.page.evaluate(f"document.body.innerHTML = `<p id=it style='{LOOK}'>typed-by-a-node</p>`")

    capture = await page.capture()

    assert capture is not None
    assert (await look(page, capture.screenshot, []))[0] == 0


async def test_scripts_of_the_page_learn_nothing_of_what_is_looked_for(site: Site, make_host: MakeHost) -> None:
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main")
    await page.goto(f"{site.url}/site/result.html")
    await page.page.evaluate(
        """() => { window.heard = [];
          for (const [where, name] of [[String.prototype, 'includes'], [String.prototype, 'split'], [JSON, 'parse'], [window, 'atob'],
                                       [Array.prototype, 'some'], [Array.prototype, 'includes']]) {
            const real = where[name];
            where[name] = function (...given) { window.heard.push(String(given[0])); return real.apply(this, given); };
          }
          new MutationObserver((changes) => changes.forEach((one) => window.heard.push(one.target.outerHTML || ''))).observe(
            document, {subtree: true, childList: true, attributes: true, characterData: true}); }"""
    )

    assert await page.capture([SECRET])

    heard = str(await page.page.evaluate("window.heard"))
    assert SECRET not in heard
    assert base64.b64encode(SECRET.encode()).decode()[:12] not in heard


async def test_a_page_that_hangs_has_no_picture_and_costs_no_more_time(
    site: Site, make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "CAPTURE_SECONDS", 1.0)
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main")
    await page.goto(f"{site.url}/site/result.html")
    await page.page.evaluate("setTimeout(() => { while (true) {} }, 0)")
    await asyncio.sleep(0.1)

    began = time.monotonic()
    capture = await page.capture([SECRET])

    assert capture is None
    assert time.monotonic() - began < 6


def test_the_picture_of_a_failed_node_covers_what_its_credentials_hold(site_url: str) -> None:
    failing: dict[str, Any] = {"timeout_s": 2}
    flow = graph(
        [node("open", "launch_standard_browser", Website_URL=f"{site_url}/form.html"),
         node("fill", "fill_input", Selector="#name", Value={"$credential": "shop"}),
         node("miss", "click_element", failing, Selector="#nowhere")],
        wire("open", "Web Page", "fill", "Web Page"), wire("fill", "Web Page", "miss", "Web Page"),
    )  # fmt: skip
    asked: list[Any] = []
    real = BrowserPage.capture

    async def capture(self: BrowserPage, secrets: Any = ()) -> Any:
        asked.append(set(secrets))
        return await real(self, secrets)

    with pytest.MonkeyPatch.context() as patch, record_workflow("page") as recorder:
        patch.setattr(BrowserPage, "capture", capture)
        result = execute_sync(flow, credentials={"shop": {"password": SECRET}})

    assert result.status == "failed"
    assert asked == [{SECRET}]
    kinds = [event.data["kind"] for event in recorder.events if event.event_type.value == "artifact"]
    assert kinds == ["screenshot", "page"]


def test_the_selector_holds_what_is_looked_for_and_nothing_where_there_is_nothing() -> None:
    assert masks.selector([]) == masks.selector(["", "  "]) == ""
    name, _, body = masks.selector([SECRET, "abc"]).partition("=")
    assert name == masks.ENGINE
    assert SECRET.encode() in base64.b64decode(body)
    assert base64.b64decode(body).endswith(b'["abc"]]')
