"""The admin in a real Chromium: the policy refuses nothing, and nothing is cut."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.db import models
from django.db.models import Value
from django.db.models.functions import Concat
from django.urls import reverse
from playwright.sync_api import Dialog, Page, expect, sync_playwright

from executions.models import Execution
from flowbuilder.stack import free_port
from monitoring.models import AlertMessage
from recordings.models import Blob, Event, Recording
from recordings.packing import seal
from tests.admin.conftest import DEFINITION
from tests.admin.test_pages import OURS
from tests.admin.test_pages import pages as pages  # the fixture
from tests.conftest import wait_for
from tests.recordings.conftest import make_execution as make_recording  # the fixture
from tests.recordings.test_compare import node as recorded_node
from tests.recordings.test_compare import replay
from tests.recordings.test_drawings import graphviz
from workflows import schedules
from workflows.models import AuditEntry, WorkflowVersion

pytestmark = [pytest.mark.browser, pytest.mark.redis]

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WATCH = "document.addEventListener('securitypolicyviolation', e => console.error('POLICY ' + e.violatedDirective + ' ' + e.blockedURI))"
CUT = """() => [document.documentElement, ...document.querySelectorAll('.results, .adm-scroll, .adm-card')]
    .filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.className || box.tagName)"""
HOSTILE = """javascript:alert(1)//'"></script><img data-harm src=x onerror=alert(1)>"""
"""Something that a page must only ever show: where it is an address, an attribute, a script or markup, it does harm."""
SHOWN = HOSTILE.partition('"')[2]
HARM = """() => [...document.querySelectorAll('[data-harm], [href^="javascript:"], [src^="javascript:"], [action^="javascript:"]')]
    .map(element => element.outerHTML)"""
TABS = ("logs", "graph", "timeline", "state", "artifacts", "celery", "raw")
MEANT = {
    "Schedule": {"cron", "timezone"}, "Credential": {"kind"}, "AuditEntry": {"verb", "kind", "object_id"},
    "Execution": {"scope", "held_by"}, "NodeRun": {"node_id", "wait_state", "resume"}, "Event": {"type", "node_id"},
    "Recording": {"trigger", "status", "sealed", "details"}, "NotRecorded": {"recording"},
}  # fmt: skip
"""Texts that the product alone writes, and reads again to find or to do something."""
STORED_JSON = {"input", "item", "variables", "outputs", "payload", "data"}
"""Text fields that hold JSON."""


def spoiled(value: Any, *kept: str) -> Any:
    """Return ``value`` with ``HOSTILE`` in the place of each text in it, but for what stands under the names ``kept``."""
    if isinstance(value, dict):
        return {key: part if key in kept else spoiled(part, *kept) for key, part in value.items()}
    if isinstance(value, list):
        return [spoiled(part, *kept) for part in value]
    return HOSTILE if isinstance(value, str) else value


def spoil() -> None:
    """Put ``HOSTILE`` into every row of ours, wherever somebody, a page or a program may have written a text."""
    for model in (model for app in OURS for model in apps.get_app_config(app).get_models()):
        rows: Any = model._base_manager
        texts = [
            field
            for field in model._meta.concrete_fields
            if isinstance(field, models.CharField | models.TextField)
            and not (field.choices or field.unique or field.name in MEANT.get(model.__name__, ()))
        ]
        rows.update(**{
            field.name: json.dumps({HOSTILE: HOSTILE}) if field.name in STORED_JSON else HOSTILE[: field.max_length]
            for field in texts
        })  # fmt: skip
    definition = spoiled(DEFINITION, "id", "type")
    for one in definition["nodes"]:
        one["data"]["label"] = HOSTILE
    models.QuerySet(WorkflowVersion).update(definition=definition)
    Recording.objects.update(tags=[HOSTILE])
    AuditEntry.objects.update(detail={HOSTILE: HOSTILE})
    AlertMessage.objects.update(content={"title": HOSTILE, "text": HOSTILE})
    saved = Event.objects.get(type="artifact")
    others = {key: getattr(saved, key) for key in ("execution_id", "timestamp", "node_id")}
    file = {"kind": HOSTILE, "content_type": "text/html", "size_bytes": 12, "file": HOSTILE}
    Event.objects.filter(pk=saved.pk).update(data=json.dumps({**file, "blob": Blob.objects.get().sha256}))
    for kind, data in (("log", {"message": HOSTILE, "level": "error"}), ("node_error", {"error": HOSTILE})):
        Event.objects.create(seq=Event.objects.count() + 1, type=kind, data=json.dumps(data), **others)


@pytest.fixture
def hostile(pages: list[str]) -> tuple[list[str], str]:
    """Return the addresses of all pages, whose rows are hostile now, and that of an execution."""
    spoil()
    pages = [url for url in pages if "celery_beat" not in url and "/auth/" not in url]
    return pages, f"/admin/executions/execution/{Execution.objects.get().pk}/change/"


@pytest.fixture
def site(processes: Any) -> str:
    """Return the address of a real web process on the test database."""
    port = free_port()
    processes.start("-m", "uvicorn", "flowbuilder.asgi:application", "--port", str(port), "--log-level", "warning")
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{address}/admin/login/", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, 40, "the web process", processes.logs)
    return address


@pytest.fixture
def world(processes: Any, alice: Any, make_world: Any) -> Any:
    """Rows of alice. Tests name it before ``page``: once the browser runs, this thread cannot use the database."""
    return make_world(alice, "shop")


@pytest.fixture
def refused() -> list[str]:
    """What the policy refused and what scripts threw, filled while a test runs."""
    return []


@pytest.fixture
def page(site: str, alice: Any, refused: list[str]) -> Iterator[Page]:
    """Return a page of a real browser, logged in as alice."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)

        def dismiss(dialog: Dialog) -> None:
            refused.append(f"a dialog says {dialog.message}")
            dialog.dismiss()

        page = browser.new_page(viewport={"width": 1280, "height": 900}, base_url=site)
        page.add_init_script(WATCH)
        page.on("console", lambda message: refused.append(f"{page.url}: {message.text}") if _counts(message) else None)
        page.on("pageerror", lambda error: refused.append(f"{page.url}: {error}"))
        page.on("dialog", dismiss)
        page.goto("/admin/")
        page.get_by_label("Username").fill("alice")
        page.get_by_label("Password").fill("alice-password")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
        yield page
        browser.close()


def _counts(message: Any) -> bool:
    return "POLICY" in message.text or "Content Security Policy" in message.text


@pytest.mark.timeout(240)
def test_no_page_is_refused_anything_and_nothing_is_cut_at_1280(
    pages: list[str], page: Page, refused: list[str]
) -> None:
    cut = {}
    for url in pages:
        page.goto(url)
        page.wait_for_load_state("load")
        found = page.evaluate(CUT)
        if found:
            cut[url] = found

    assert refused == []
    assert cut == {}


@pytest.mark.timeout(240)
def test_fault_68_what_people_and_pages_write_is_only_shown(
    hostile: tuple[list[str], str], page: Page, refused: list[str]
) -> None:
    harmed = []
    shown = 0
    pages, execution = hostile

    def look() -> None:
        nonlocal shown
        shown += HOSTILE[:20] in page.content()
        harmed.extend(page.evaluate(HARM))

    for url in pages:
        page.goto(url)
        look()
    page.goto(execution)
    for tab in TABS:
        page.locator(f"[role=tab][href='#{tab}']").click()
        expect(page.locator(f"[data-tab={tab}]")).to_contain_text(SHOWN, timeout=20_000)
        look()
    page.goto(f"/admin/monitoring/#{execution.split('/')[-3]}")
    expect(page.locator(".fb-run")).to_contain_text(SHOWN, timeout=20_000)
    look()

    assert harmed == []
    assert refused == []
    assert shown > len(pages) / 2


@pytest.fixture
def differing(world: Any, make_recording: Any) -> list[str]:
    """Return the addresses of the pages that say how two versions, and two recordings, of hostile texts differ."""
    workflow = world.workflow
    before, after = spoiled(DEFINITION, "id", "type"), spoiled(DEFINITION, "id", "type")
    before["nodes"][0]["data"]["label"], after["nodes"][0]["data"]["label"] = HOSTILE, f"{HOSTILE} now"
    before["nodes"][1]["data"]["inputs"] = {"Webhook_URL": HOSTILE, HOSTILE: HOSTILE}
    after["nodes"][1]["id"] = HOSTILE
    after |= {"variables": {HOSTILE: HOSTILE}}
    numbers = [workflow.draft.number + 1, workflow.draft.number + 2]
    WorkflowVersion.objects.bulk_create(
        WorkflowVersion(workflow=workflow, number=number, definition=definition, message=HOSTILE)
        for number, definition in zip(numbers, (before, after), strict=True)
    )
    made = [
        make_recording(user=world.owner, workflow_name=HOSTILE, error=f"{HOSTILE}{n}", tags=[HOSTILE]) for n in "ab"
    ]
    for recording, end in zip(made, "ab", strict=True):
        rows = Event.objects.filter(execution_id=recording.execution_id)
        rows.exclude(node_id="").update(node_id=Concat(Value(HOSTILE[:100]), "node_id"))
        rows.filter(node_id__endswith="node3").update(node_id=f"{HOSTILE[:100]}{end}")
        for kind, data in spoilt_events(f"{HOSTILE}{end}").items():
            rows.filter(type=kind).update(data=json.dumps(data))
        assert seal(recording)
    versions = reverse("admin:workflows_workflow_diff", args=(workflow.pk,))
    recordings = reverse("admin:recordings_recording_compare", args=(made[0].pk,))
    return [
        f"{versions}?from={numbers[0]}&to={numbers[1]}", f"{versions}?from={numbers[1]}&to={numbers[0]}",
        recordings, f"{recordings}?with={made[1].pk}",
    ]  # fmt: skip


def spoilt_events(text: str) -> dict[str, dict[str, Any]]:
    """Return what events of each type say when every text in them is ``text``."""
    return {
        "workflow_start": {"workflow": text, "version": 1, "initial_context": {text: text}},
        "node_start": {"inputs": {text: text, "url": text}, "attempt": 1},
        "node_complete": {"outputs": {text: text, "Html": text}, "duration_seconds": 0.5},
        "node_error": {"error": text, "duration_seconds": 2.0},
        "node_skipped": {"reason": text},
        "workflow_error": {"success": False, "error": text},
    }


@pytest.mark.timeout(240)
def test_fault_68_what_differs_between_versions_and_between_recordings_is_only_shown(
    differing: list[str], page: Page, refused: list[str]
) -> None:
    for url in differing:
        page.goto(url)
        page.evaluate("document.querySelectorAll('details').forEach(closed => { closed.open = true })")
        expect(page.locator("#content-main, #content").first).to_contain_text(SHOWN)
        assert page.evaluate(HARM) == [], url

    assert refused == []


@pytest.mark.parametrize("form", ["dot", "svg", "html"])
def test_fault_68_drawings_that_are_opened_without_any_policy_of_ours_only_show(
    tmp_path: Path, page: Page, refused: list[str], form: str
) -> None:
    steps = [*recorded_node(HOSTILE, {HOSTILE: HOSTILE}), *recorded_node(f"{HOSTILE}2", error=HOSTILE)]
    start = ("workflow_start", None, {"workflow": HOSTILE, "edges": [[HOSTILE, f"{HOSTILE}2"]]})
    drawn = replay([start, ("phase_start", None, {"phase": 0}), *steps])
    drawn.metadata.workflow_name = HOSTILE
    text = drawn.visualize(format=form)
    name = "svg" if form == "dot" else form
    file = tmp_path / f"run.{name}"
    file.write_text(graphviz(text) if form == "dot" else text)

    page.goto(f"file://{file}")

    shown = page.evaluate("document.documentElement.textContent")
    assert HOSTILE[:20] in shown
    assert page.evaluate(HARM) == []
    assert page.evaluate("document.querySelectorAll('script, [href], [onload], [onerror], foreignObject').length") == 0
    assert refused == []


def test_a_page_that_breaks_the_policy_would_be_seen(page: Page, refused: list[str]) -> None:
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<b onclick=\"x\" style=\"color: red\">bold</b>')")
    page.wait_for_timeout(200)

    assert any("style-src" in line or "default-src" in line for line in refused)


def test_a_page_that_runs_what_somebody_wrote_would_be_seen(page: Page, refused: list[str]) -> None:
    page.evaluate("text => { document.body.insertAdjacentHTML('beforeend', text) }", HOSTILE)
    expect(page.locator("[data-harm]")).to_have_count(1)
    page.evaluate("() => alert(1)")

    assert len(page.evaluate(HARM)) == 1
    assert any("script-src" in line for line in refused)
    assert any("a dialog says 1" in line for line in refused)


def test_the_theme_can_be_toggled_and_stays(page: Page) -> None:
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator(".theme-toggle").click()
    changed = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.goto("/admin/workflows/workflow/")

    assert changed != dark
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == changed


def test_a_workflow_is_added_paused_and_filtered_by_mouse(world: Any, page: Page) -> None:
    page.goto("/admin/workflows/workflow/")

    page.get_by_role("checkbox", name="Select this object for an action - shop").check()
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text('Workflow "shop" is paused')
    page.locator("summary", has_text="Status").click()
    page.get_by_role("link", name="Active", exact=True).click()
    expect(page.get_by_role("heading", name="No workflows match")).to_be_visible()

    page.get_by_role("link", name="Dashboard").first.click()
    page.get_by_role("link", name="New workflow").click()
    page.get_by_label("Name").fill("drawn by hand")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page).to_have_url(re.compile(r"/builder/$"))
    expect(page.locator("[data-island=builder] *").first).to_be_visible()


def test_the_schedule_is_said_in_words_while_it_is_typed(world: Any, page: Page) -> None:
    page.goto(f"/admin/workflows/workflow/{world.workflow.pk}/change/")
    preview = page.locator(".adm-preview").first
    expect(preview).to_contain_text("Every 15 minutes")

    page.get_by_role("textbox", name="Cron").fill("30 6 * * MON")
    expect(preview).to_contain_text("Monday at 06:30")
    expect(preview.locator("li")).to_have_count(5)
    page.get_by_role("textbox", name="Cron").fill("30 6 * *")
    expect(preview).to_contain_text("exactly five")


@pytest.fixture
def mondays(world: Any) -> Any:
    """A workflow that starts on Mondays at 06:30 in Berlin."""
    schedules.set_schedule(world.workflow, "30 6 * * MON", "Europe/Berlin")
    return world.workflow


@pytest.mark.row("S2-13")
@pytest.mark.parametrize(("zone", "own"), [("Asia/Kolkata", r"Mon \d+ \w+, 1[01]:00"), ("Europe/Berlin", "")])
def test_next_runs_are_told_in_the_zone_of_the_schedule_and_in_the_readers(
    mondays: Any, page: Page, refused: list[str], zone: str, own: str
) -> None:
    told = r"Mon \d+ \w+, 06:30 Europe/Berlin" + (f" = {own} your time$" if own else "$")
    browser = page.context.browser
    assert browser is not None
    reader = browser.new_context(
        timezone_id=zone, locale="en-GB", storage_state=page.context.storage_state(), base_url=page.url.partition("/admin")[0]
    )  # fmt: skip
    theirs = reader.new_page()
    theirs.on("console", lambda message: refused.append(message.text) if _counts(message) else None)

    theirs.goto("/admin/workflows/workflow/")
    listed = theirs.locator(".field-next_run")
    expect(listed.locator("time[data-zone]")).to_have_text(re.compile(told.replace(" Europe/Berlin", "")))
    assert "06:30:00 Europe/Berlin = " in (listed.locator("time").first.get_attribute("title") or "")

    theirs.goto(f"/admin/workflows/workflow/{mondays.pk}/change/")
    runs = theirs.locator(".adm-preview").first.locator("li")
    expect(runs).to_have_text([re.compile(told)] * 5)
    theirs.get_by_role("textbox", name="Cron").fill("30 6 1 * MON")  # what is typed is told like that, too
    expect(theirs.locator(".adm-preview").first).to_contain_text("day 1")
    expect(runs.first).to_have_text(re.compile(told.replace("Mon", r"\w+")))
    assert refused == []


@pytest.fixture
def blobs() -> str:
    """The storage of blobs of these tests, which the web process shares."""
    return "files"


@pytest.fixture
def recordings(processes: Any, alice: Any, make_recording: Any) -> list[Any]:
    """Two recordings of alice, which differ. Tests name it before ``page``, as ``world``."""
    made = [make_recording(user=alice), make_recording(user=alice, nodes=30)]
    assert all(map(seal, made))
    return made


@pytest.mark.row("S0-06")
@pytest.mark.row("S0-08")
def test_a_recording_is_stepped_through_tagged_taken_away_and_compared(
    recordings: list[Any], page: Page, refused: list[str]
) -> None:
    page.goto(f"/admin/recordings/recording/{recordings[1].pk}/change/")
    step_through(page)
    set_tags(page)
    compare(page, recordings)
    assert refused == []


def step_through(page: Page) -> None:
    """Move by keys, slider and clicks."""
    player = page.locator("#player")
    text, number, shown = (
        player.locator(".adm-event-text"), player.locator("#player-number"), player.locator(".adm-event"),
    )  # fmt: skip
    expect(text).to_have_text("node2 failed: still too slow")
    expect(player.locator(".adm-event-state")).to_contain_text("page 1")
    expect(page.locator(".adm-durations tbody tr").first).to_contain_text("node2 critical")

    page.keyboard.press("ArrowLeft")
    expect(text).to_contain_text("node2 will be tried again")
    page.keyboard.press("Home")
    expect(text).to_have_text("Execution started: shop v1")
    expect(page).to_have_url(re.compile(r"\?event=1$"))
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    expect(number).to_have_text("21")
    expect(shown).to_have_attribute("data-number", "21")
    player.get_by_role("slider").fill("30")
    expect(shown).to_have_attribute("data-number", "30")
    player.get_by_role("link", name="Next event").click()
    expect(number).to_have_text("31")
    expect(page.locator("tr[aria-current]")).to_have_attribute("data-row", "31")
    around = page.get_by_role("link", name="Show the events around the chosen one")
    expect(around).to_be_hidden()
    player.get_by_role("slider").fill("60")
    around.click()
    expect(page.locator("tr[aria-current]")).to_have_attribute("data-row", "60")
    page.get_by_role("link", name="Earlier").click()
    expect(page.locator("tr[data-row]").first).to_have_attribute("data-row", "1")
    page.locator("tr[data-row='4'] a").click()
    expect(text).to_have_text("node1 completed")
    expect(player.locator(".adm-added dt").first).to_contain_text("Html")
    page.get_by_role("link", name="Go to the failure").click()
    expect(text).to_have_text("node2 failed: still too slow")
    page.get_by_label("Add tags, separated by commas").press_sequentially("left ")
    page.keyboard.press("ArrowLeft")
    expect(number).to_have_text("7")
    page.get_by_text("Graph", exact=True).click()
    graph = page.get_by_role("img", name="Graph of the nodes")
    graph.scroll_into_view_if_needed()
    expect(graph).to_be_visible()
    assert graph.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def set_tags(page: Page) -> None:
    """Add and remove tags, and put the recording on legal hold."""
    page.get_by_label("Add tags, separated by commas").fill("nightly, shop")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("button", name="Remove the tag nightly").click()
    page.get_by_role("button", name="Put on legal hold").click()

    expect(page.get_by_text("On legal hold")).to_be_visible()
    expect(page.locator(".adm-tag-form .adm-tag")).to_have_text(["shop×", "legal-hold×"])
    page.goto("/admin/recordings/recording/?tag=legal-hold")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.locator("#result_list tbody a").first.click()


def compare(page: Page, recordings: list[Any]) -> None:
    """Take a copy away, then compare with the other recording."""
    short, long = (str(recording.pk)[:8] for recording in recordings)
    page.get_by_text("Download", exact=True).click()
    with page.expect_download() as started:
        page.get_by_role("link", name="Sealed file (.fbrec)").click()
    assert started.value.suggested_filename == f"shop-{long}.fbrec"

    page.get_by_role("link", name="Compare").click()
    page.get_by_role("link", name=short).click()

    expect(page.locator("h1")).to_contain_text("Different")
    expect(page.get_by_text("At position 8")).to_be_visible()
    assert page.evaluate(CUT) == []
    page.get_by_role("link", name="Swap").click()
    expect(page.locator("h1")).to_contain_text(f"{short} and {long}")


__all__ = ["make_recording", "pages"]
