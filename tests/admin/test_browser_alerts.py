"""The pages of alerts, used by mouse in a real Chromium."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from monitoring.alerts import channels, inbox
from monitoring.alerts.gauges import minute_of
from monitoring.models import Total
from tests.admin.conftest import make_alert
from tests.admin.test_browser import CUT
from tests.admin.test_browser import page as page  # the fixtures
from tests.admin.test_browser import refused as refused
from tests.admin.test_browser import site as site
from tests.e2e.axe import assert_accessible

pytestmark = [pytest.mark.browser, pytest.mark.redis]


@pytest.fixture
def firing(processes: Any, alice: Any) -> None:
    """Three alerts that fire. Tests name it before ``page``: once the browser runs, this thread has no database."""
    for name in ("shop fails", "queue is long", "disk is full"):
        make_alert(alice, name=name)


@pytest.fixture
def failing(processes: Any, alice: Any) -> None:
    """A rule that would have fired twice, and a channel that leads to where nothing may go."""
    make_alert(alice, name="shop fails")
    channels.save(alice, "hook", "webhook", "http://10.9.9.9/hook")
    Total.objects.bulk_create(
        Total(
            minute=minute_of(timezone.now() - timedelta(days=days)), workflow_id=uuid4(), owner_id=alice.pk, status=status,
            up_to_ms=1000, runs=runs, children=0, credits=0, duration_ms=10,
        )
        for days, status, runs in ((1, "failed", 9), (1, "completed", 1), (3, "failed", 5), (3, "completed", 5))
    )  # fmt: skip


def judge(page: Page, refused: list[str]) -> None:
    """Fail when something is cut, refused by the policy, or hard to use without eyes or hands."""
    assert page.evaluate(CUT) == []
    assert refused == []
    assert_accessible(page)
    refused.clear()  # axe-core tries inline styles


@pytest.mark.row("S1-34")
def test_an_alert_is_found_acknowledged_and_silenced(firing: None, page: Page, refused: list[str]) -> None:
    expect(page.get_by_role("heading", name="Firing now")).to_be_visible()
    expect(page.locator(".adm-badge")).to_contain_text("3")
    page.get_by_role("link", name="Alerts", exact=False).first.click()
    expect(page.locator("#result_list tbody tr")).to_have_count(3)
    judge(page, refused)

    page.locator("tr", has_text="disk is full").get_by_role("button", name="Acknowledge").click()
    expect(page.locator("h1")).to_contain_text("Acknowledged")
    expect(page.locator(".adm-badge")).to_contain_text("2")
    page.locator("summary", has_text="Silence").click()
    page.get_by_role("button", name="For 8 hours").click()
    expect(page.locator(".messagelist")).to_contain_text('Nobody is told when "disk is full" fires')
    expect(page.get_by_role("button", name="End silence")).to_be_visible()
    judge(page, refused)

    page.get_by_role("link", name="disk is full", exact=True).click()
    expect(page.locator("h1")).to_contain_text("1 firing")
    page.get_by_role("button", name="End silence").click()
    expect(page.locator(".messagelist")).to_contain_text("People are told")
    page.get_by_role("link", name="Alerts", exact=False).first.click()
    page.locator("summary", has_text="State").click()
    page.get_by_role("link", name="Acknowledged", exact=True).click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    assert refused == []


@pytest.fixture
def silenced(processes: Any, alice: Any) -> None:
    """A rule that nobody is told of for a while."""
    rule = make_alert(alice, name="a rule whose name takes all the room that there is in its list").rule
    assert rule is not None
    inbox.silence(rule, timedelta(hours=8, minutes=1))


def test_the_end_of_a_silence_stays_on_one_line(silenced: None, page: Page) -> None:
    page.set_viewport_size({"width": 1000, "height": 700})
    page.goto("/admin/monitoring/alertrule/")

    second = page.locator("td.field-state .adm-second")
    expect(second).to_have_text("silence ends in 8 h")
    assert second.evaluate("one => one.getClientRects()[0].height") < 20  # a line is 17 pixels high


@pytest.mark.row("S2-46")
def test_a_rule_and_a_channel_are_tried_with_a_click(failing: None, page: Page, refused: list[str]) -> None:
    page.goto("/admin/monitoring/alertrule/")
    page.get_by_role("link", name="Test", exact=True).click()
    expect(page.get_by_role("heading", name="It would have fired 2 times")).to_be_visible()
    expect(page.locator(".adm-trial .adm-bar-failed")).to_have_count(2)
    judge(page, refused)
    page.get_by_label("With the threshold").fill("70")
    page.get_by_role("button", name="Try").click()
    expect(page.get_by_role("heading", name="It would have fired 1 time")).to_be_visible()

    page.goto("/admin/monitoring/alertchannel/")
    page.get_by_role("link", name="hook", exact=True).click()
    page.get_by_role("button", name="Send a test message").click()
    expect(page.locator(".messagelist")).to_contain_text("not allowed")
    judge(page, refused)


@pytest.mark.row("S2-46")
def test_a_channel_and_a_rule_are_made_whose_form_shows_what_its_kind_has(page: Page, refused: list[str]) -> None:
    page.goto("/admin/monitoring/alertchannel/")
    page.get_by_role("link", name="New alert channel").click()
    page.get_by_label("Name", exact=True).fill("ops room")
    page.get_by_label("Kind").select_option(label="Webhook")
    expect(page.get_by_label("Secret")).to_be_visible()
    page.get_by_label("Kind").select_option(label="Slack")
    expect(page.get_by_label("Secret")).to_be_hidden()
    page.get_by_label("Address").fill("https://hooks.example.com/services/T0/B0/private")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#result_list")).to_contain_text("https://hooks.example.com/…")

    page.goto("/admin/monitoring/alert/")
    expect(page.get_by_role("heading", name="Nothing fires")).to_be_visible()
    judge(page, refused)
    page.get_by_role("link", name="make a rule").click()
    page.get_by_label("Name", exact=True).fill("too many fail")
    kind, window = page.get_by_label("Kind"), page.get_by_label("Looks back, in minutes")
    only, runs, workflow = page.get_by_label("Only"), page.get_by_label("From so many runs on"), page.get_by_label("Workflow", exact=True)  # fmt: skip
    kind.select_option(label="Resource exhaustion")
    for field, shown in ((only, True), (window, False), (runs, False), (workflow, False)):
        expect(field).to_be_visible(visible=shown)
    kind.select_option(label="Failure rate")
    for field, shown in ((only, False), (window, True), (runs, True), (workflow, True)):
        expect(field).to_be_visible(visible=shown)
    expect(page.locator(".adm-kind-failure_rate")).to_be_visible()
    expect(page.locator(".adm-kind-cost")).to_be_hidden()
    page.get_by_label("Threshold").fill("120")
    page.get_by_label("ops room").check()
    judge(page, refused)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".errorlist").first).to_contain_text("above 0 to 100")
    page.get_by_label("Threshold").fill("20")
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Test before saving").click()
    trial = opened.value
    expect(trial.get_by_role("heading", name="What “too many fail” would have done")).to_be_visible()
    trial.get_by_label("With the threshold").fill("70")
    trial.get_by_role("button", name="Try").click()
    expect(trial.get_by_label("With the threshold")).to_have_value("70")
    expect(trial.get_by_text("Failure rate ≥ 70 % within 15 minutes")).to_be_visible()
    judge(trial, refused)
    trial.close()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#result_list")).to_contain_text("Failure rate ≥ 20 % within 15 minutes")
    expect(page.locator("#result_list")).to_contain_text("ops room")
    judge(page, refused)
