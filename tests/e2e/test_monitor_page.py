"""The page of all executions: pushed figures, several executions side by side, nothing for strangers."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, Response, expect

from tests.conftest import graph, node
from tests.e2e.axe import assert_accessible
from tests.e2e.canvas import unique
from tests.e2e.conftest import Opener, Site, add_person, log_in
from tests.e2e.test_monitor import slow_workflow

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.worker]


def start(page: Page, name: str) -> str:
    """Start a workflow on the monitor page and return the id of the execution, which is then the only one shown."""
    before = page.url
    page.get_by_label("Workflow to start").select_option(label=name)
    page.get_by_role("button", name="Start New Execution").click()
    expect(page).not_to_have_url(before)
    expect(page.locator(".fb-run h2")).to_have_text(name)
    return page.url.partition("#")[2]


def tile(page: Page, name: str) -> str:
    """Return what a tile says in its large letters."""
    return page.locator(f"[data-tile={name}] .fb-tile-value").inner_text()


@pytest.mark.row("S1-04")
def test_monitoring_is_for_people_who_are_logged_in(site: Site, page: Page, open_context: Opener) -> None:
    stranger = open_context().new_page()
    stranger.goto("/monitoring")
    expect(stranger).to_have_url(re.compile("/admin/login/"))
    expect(stranger.get_by_role("heading", name="Monitor")).to_have_count(0)
    stranger.get_by_label("Username").fill("admin")
    stranger.get_by_label("Password").fill(site.password)
    stranger.get_by_role("button", name="Log in").click()

    for one in (stranger, page):
        one.goto("/monitoring/")
        expect(one).to_have_url(re.compile("/admin/monitoring/$"))
        expect(one.get_by_role("heading", name="Monitor", exact=True)).to_be_visible()
        expect(one.get_by_test_id("connection-status").first).to_have_text("Live")


@pytest.mark.row("S1-27")
@pytest.mark.row("S1-28")
@pytest.mark.row("S1-29")
@pytest.mark.row("S1-37")
def test_executions_are_watched_side_by_side_over_one_socket(
    site: Site, page: Page, trouble: list[str], tmp_path: Path
) -> None:
    first, second = unique("left"), unique("right")
    site.bring(slow_workflow(first, 4, 2, 1.5), tmp_path)
    site.bring(slow_workflow(second, 3, 2, 1.5), tmp_path)
    opened: list[str] = []
    page.on("websocket", lambda socket: opened.append(urlsplit(socket.url).path))
    scripts: list[Response] = []
    page.on("response", lambda answer: scripts.append(answer) if urlsplit(answer.url).path.endswith(".js") else None)
    page.goto("/admin/monitoring/")
    left = start(page, first)
    right = start(page, second)
    page.get_by_role("button", name=f"Show {first} beside the others").click()

    for one, name in ((left, first), (right, second)):
        run = page.get_by_test_id(f"execution-{one}")
        expect(run.get_by_role("heading", name=name)).to_be_visible()
        expect(run.locator("[data-seq]").first).to_be_visible()
    run.get_by_role("button", name="Hide logs").click()
    expect(run.get_by_role("log")).to_have_count(0)
    expect(page.get_by_test_id(f"execution-{left}").get_by_role("log")).to_be_visible()
    run.get_by_role("button", name="Show logs").click()
    expect(run.get_by_role("log")).to_be_visible()

    for one in (left, right):
        expect(page.get_by_test_id(f"execution-{one}")).to_have_attribute("data-status", "completed", timeout=60_000)
        expect(page.locator(f"[aria-label='Recent executions'] [data-execution='{one}']")).to_be_visible()
    assert opened == ["/ws/monitor"]
    sizes = {urlsplit(answer.url).path: len(gzip.compress(answer.body())) for answer in scripts}
    assert any("chunk-react" in path for path in sizes)
    assert sum(sizes.values()) < 100_000, sizes
    page.reload()
    expect(page.locator(".fb-run")).to_have_count(2)
    page.get_by_test_id(f"execution-{left}").get_by_role("button", name=f"Close {first} here").click()
    expect(page.locator(".fb-run")).to_have_count(1)
    page.get_by_role("link", name=f"Open execution of {second}").click()
    expect(page).to_have_url(re.compile(f"/admin/executions/execution/{right}/change/"))
    assert trouble == []


@pytest.mark.row("S1-33")
def test_figures_are_pushed_while_executions_run_wait_and_end(
    site: Site, page: Page, trouble: list[str], tmp_path: Path
) -> None:
    name, failing = unique("figures"), unique("failing")
    site.bring(slow_workflow(name, 2, 1, 3), tmp_path)
    broken = node("broken", "json_transform", Input_JSON="no json", Transform_Rules={"found": "$.a"})
    site.bring({"name": failing, "status": "active", **graph([broken])}, tmp_path)
    page.goto("/admin/monitoring/")
    expect(page.locator("[data-tile=slots]")).to_contain_text("1 worker")
    assert tile(page, "queues").isdigit()
    assert re.fullmatch(r"\d+ / 8", tile(page, "slots"))
    assert re.fullmatch(r"\d+ / 4", tile(page, "browsers"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    start(page, failing)
    expect(page.locator(".fb-run")).to_have_attribute("data-status", "failed")
    start(page, name)
    expect(page.locator("[data-tile=running] .fb-tile-value")).not_to_have_text("0")
    expect(page.locator("[data-tile=slots] .fb-tile-value")).not_to_have_text(re.compile("^0 "))
    expect(page.locator(".fb-run")).to_have_attribute("data-status", "completed", timeout=30_000)

    expect(page.locator("[data-tile=throughput] .fb-tile-value")).not_to_have_text(re.compile("^0 "))
    expect(page.locator("[data-tile=success] .fb-tile-note")).to_contain_text("failed, 1 hour")
    expect(page.locator("[data-tile=success] .fb-tile-value")).not_to_have_text("100%")
    expect(page.locator("[data-tile=p95] .fb-tile-value")).to_contain_text(re.compile(r"\d"))
    expect(page.locator("[data-tile=credits] .fb-tile-value")).not_to_have_text("0")
    lists = [url for url in asked if "/api/v1/executions?" in url]
    assert len(lists) <= 2, "the list is pushed; it is asked for when something was started"
    assert_accessible(page)
    assert trouble == []


@pytest.mark.row("S1-29")
def test_somebody_without_executions_is_told_where_to_begin(
    site: Site, page: Page, open_context: Opener, trouble: list[str]
) -> None:
    user, password = unique("carol").replace(" ", "-"), "carol-has-a-long-password"
    add_person(page, user, password)

    other = open_context().new_page()
    log_in(other, user, password)
    other.goto("/admin/monitoring/")
    expect(other.get_by_text("No executions yet")).to_be_visible()
    expect(other.locator("[data-tile=running] .fb-tile-value")).to_have_text("0")
    expect(other.locator("[data-tile=credits] .fb-tile-value")).to_have_text("0")
    assert_accessible(other)
    expect(other.get_by_role("link", name="Start from an example")).to_have_attribute("href", re.compile("/examples/"))
    other.get_by_role("button", name="Start the Demo").click()
    expect(other.locator(".fb-run")).to_have_attribute("data-status", "completed", timeout=60_000)
    assert trouble == []


HUES = {
    "Running": "blue", "Completed": "green", "Failed": "red", "Pending": "gray",
    "Paused": "yellow", "Waiting": "violet", "Cancelled": "gray",
}  # fmt: skip


def hue(colour: str) -> str:
    """Return what people call a light colour that is written ``rgb(r, g, b)``."""
    r, g, b = (int(part) for part in re.findall(r"\d+", colour)[:3])
    if max(r, g, b) - min(r, g, b) < 9:
        return "gray"
    if b == max(r, g, b):
        return "blue" if g > r else "violet"
    if g == max(r, g, b):
        return "green"
    return "red" if g - b < 6 else "yellow"


@pytest.mark.row("S1-25")
def test_each_status_has_an_icon_a_word_and_a_colour(
    site: Site, page: Page, trouble: list[str], tmp_path: Path
) -> None:
    busy, waiting, failing, quick = unique("busy"), unique("waiting"), unique("fails"), unique("quick")
    site.bring({**slow_workflow(busy, 1, 1, 50), "settings": {"concurrency": 1, "overlap": "queue"}}, tmp_path)
    site.bring(slow_workflow(waiting, 1, 1, 600), tmp_path)
    site.bring(slow_workflow(quick, 1, 1, 0.1), tmp_path)
    broken = node("broken", "json_transform", Input_JSON="no json", Transform_Rules={"found": "$.a"})
    site.bring({"name": failing, "status": "active", **graph([broken])}, tmp_path)
    page.goto("/admin/monitoring/")
    shown: dict[str, str] = {}

    def see(name: str, word: str) -> None:
        look(page.locator(f"[data-execution='{start(page, name)}']"), word)

    def look(row: Locator, word: str) -> None:
        pill = row.locator(".fb-pill")
        expect(pill).to_have_text(word)
        expect(pill.locator("svg.fb-icon")).to_have_count(1)
        shown[word] = hue(pill.evaluate("pill => getComputedStyle(pill).backgroundColor"))

    see(quick, "Completed")
    see(failing, "Failed")
    see(waiting, "Waiting")
    page.get_by_role("button", name="Cancel", exact=True).click()
    look(page.locator(".fb-run"), "Cancelled")
    see(busy, "Running")
    running = page.locator(f"[data-execution='{page.url.partition('#')[2]}']")
    see(busy, "Pending")
    page.get_by_role("button", name="Cancel", exact=True).click()
    running.click()
    page.get_by_role("button", name="Pause", exact=True).click()
    look(running, "Paused")
    page.get_by_role("button", name="Cancel", exact=True).click()
    look(running, "Cancelled")
    assert shown == HUES
    assert trouble == []


MOVING = """() => document.getAnimations().filter(one =>
    one.playState === 'running' && one.effect.getComputedTiming().endTime === Infinity).length"""


@pytest.mark.row("S1-26")
def test_the_duration_of_what_runs_grows_and_nothing_moves_for_who_wants_it_so(
    site: Site, page: Page, trouble: list[str], tmp_path: Path
) -> None:
    name = unique("long")
    site.bring(slow_workflow(name, 1, 1, 50), tmp_path)
    page.goto("/admin/monitoring/")
    start(page, name)
    expect(page.locator(".fb-run")).to_have_attribute("data-status", "running")
    shown = page.get_by_test_id("duration")
    expect(shown).to_have_text(re.compile(r"^\d+\.\d s$"))
    before = float(shown.inner_text().removesuffix(" s"))
    page.wait_for_timeout(1500)
    assert before + 1 <= float(shown.inner_text().removesuffix(" s")) < before + 15

    expect(page.locator(".fb-pill svg.fb-icon").first).to_be_visible()
    assert page.evaluate(MOVING) >= 1
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(MOVING) == 0
    page.emulate_media(reduced_motion=None)
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator(".fb-run")).to_have_attribute("data-status", "cancelled")
    assert trouble == []
