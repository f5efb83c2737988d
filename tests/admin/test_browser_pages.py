"""The pages of versions, files, credentials and credits, used by mouse and keyboard in a real Chromium."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.admin.test_browser import CUT
from tests.admin.test_browser import page as page  # the fixtures
from tests.admin.test_browser import refused as refused
from tests.admin.test_browser import site as site
from tests.admin.test_browser import world as world
from tests.conftest import graph, node

pytestmark = [pytest.mark.browser, pytest.mark.redis]


def test_a_file_is_imported_mended_published_restored_compared_copied_and_exported(
    page: Page, refused: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({**graph([node("wait", "delay", Duration="soon")]), "name": "prices"}))

    page.goto("/admin/workflows/workflow/")
    page.get_by_role("link", name="Start from an example").wait_for()
    page.get_by_role("link", name="Import", exact=True).click()
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("heading", name="Not imported yet: 1 error to mend below")).to_be_visible()
    text = page.get_by_label("Definition")
    text.fill(text.input_value().replace('"soon"', "1"))
    page.get_by_role("button", name="Check only").click()
    expect(page.get_by_role("heading", name="No findings: it can be imported")).to_be_visible()
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("is imported as version 1")

    page.get_by_role("button", name="Activate v1").click()
    expect(page.locator("h1")).to_contain_text("Active")
    page.get_by_role("link", name="Workflows", exact=True).first.click()
    page.get_by_role("link", name="Import", exact=True).click()
    page.get_by_label("Definition").fill(
        json.dumps({**graph([node("wait", "delay", Duration=9), node("more", "delay", Duration=2)]), "name": "prices"})
    )
    page.get_by_role("button", name="Import", exact=True).click()
    page.get_by_role("link", name="Publish v2").click()
    expect(page.locator(".adm-diff-added")).to_contain_text("more")
    expect(page.locator(".adm-diff-changed .adm-old")).to_contain_text("1")
    expect(page.locator(".adm-diff-changed .adm-new")).to_contain_text("9")
    assert page.evaluate(CUT) == []
    page.get_by_role("button", name="Publish v2").click()
    expect(page.locator("tr", has_text="v2")).to_contain_text("Running")

    page.locator("tr", has_text="v1").get_by_role("link", name="Restore").click()
    page.get_by_role("button", name="Restore v1").click()
    expect(page.locator("tr", has_text="v3")).to_contain_text("Newest draft")
    page.get_by_label("Compare version").fill("1")
    page.get_by_label("with").fill("3")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Nothing differs")).to_be_visible()

    page.locator(".breadcrumbs a", has_text="prices").click()
    page.locator("summary", has_text="More").click()
    page.get_by_role("button", name="Duplicate").click()
    expect(page.locator("h1")).to_contain_text("prices (copy)")
    page.locator("summary", has_text="More").click()
    with page.expect_download() as started:
        page.get_by_role("link", name="Export").click()
    assert json.loads(Path(started.value.path()).read_text())["name"] == "prices (copy)"
    assert refused == []


def test_the_form_of_a_credential_shows_the_fields_of_its_kind(page: Page, refused: list[str]) -> None:
    page.goto("/admin/workflows/credential/add/")
    page.get_by_label("Name", exact=True).fill("mail")
    expect(page.get_by_label("Password", exact=True).first).to_be_visible()
    page.get_by_label("Kind").select_option(label="Mail server (SMTP)")
    expect(page.get_by_label("Server", exact=True).first).to_be_visible()
    expect(page.locator(".form-row[class*='field-password__']").first).to_be_hidden()
    page.locator("#id_smtp__host").fill("smtp.example.com")
    page.locator("#id_smtp__password").fill("correct horse")
    page.get_by_role("button", name="Save", exact=True).click()

    page.get_by_role("link", name="mail", exact=True).first.click()
    expect(page.locator("#id_smtp__host")).to_have_value("smtp.example.com")
    expect(page.locator("#id_smtp__password")).to_have_value("")
    assert "correct horse" not in page.content()
    assert page.evaluate(CUT) == []
    assert refused == []


def test_a_secret_that_is_shown_once_is_copied_by_mouse_or_keyboard(world: Any, page: Page, refused: list[str]) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/admin/workflows/apitoken/add/")
    page.get_by_label("Name", exact=True).fill("shop")
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Save", exact=True).click()
    shown = page.locator("[data-copy='the token']")
    token = shown.inner_text()
    button = page.get_by_role("button", name="Copy", exact=True)
    expect(button).to_have_attribute("title", "Copy the token")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert token.startswith("fb_")
    assert page.evaluate("navigator.clipboard.readText()") == token
    assert page.evaluate(CUT) == []

    page.goto(f"/admin/workflows/webhook/{world.webhook.pk}/change/")
    page.get_by_role("button", name="New secret").click()
    expect(page.get_by_role("button", name="Copy", exact=True)).to_have_count(3)
    secret = page.locator("[data-copy='the secret']").inner_text()
    page.get_by_title("Copy the example").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    example = page.evaluate("navigator.clipboard.readText()")
    assert f"SECRET='{secret}'" in example
    assert "X-Flow-Delivery: $DELIVERY" in example
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.get_by_title("Copy the secret").click()
    expect(page.get_by_role("button", name="Copied").first).to_be_visible()
    assert page.evaluate(CUT) == []
    assert refused == []


def test_the_builder_shows_the_whole_name_of_a_credential_and_of_its_field(
    world: Any, page: Page, refused: list[str]
) -> None:
    page.goto(f"/admin/workflows/workflow/{world.workflow.pk}/builder/")
    page.locator('.react-flow__node[data-id="send"]').click()
    page.get_by_test_id("field-webhook-url").wait_for()
    page.locator(".fb-field", has=page.get_by_test_id("field-webhook-url")).get_by_role(
        "button", name="credential"
    ).click()
    page.locator(".fb-credential select").first.select_option(label="shop login · password")
    field = page.get_by_label("Credential field").first
    field.fill("session_cookie_of_the_shop")

    assert field.evaluate("box => box.scrollWidth <= box.clientWidth"), "the name of the field is cut"
    width = "() => document.querySelector('.fb-credential').clientWidth - document.querySelector('.fb-credential select').offsetWidth"
    assert page.evaluate(width) <= 1, "the select has its whole width"
    assert refused == []


def test_credits_are_granted_and_found_in_the_ledger(world: Any, page: Page, refused: list[str]) -> None:
    page.goto("/admin/workflows/creditaccount/")
    page.get_by_role("link", name="alice", exact=True).click()
    expect(page.locator(".adm-tile").first).to_contain_text("93")
    page.get_by_label("Amount").fill("50")
    page.get_by_label("Note").fill("for the autumn")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".messagelist")).to_contain_text("143 credits are now available to alice")
    assert page.evaluate(CUT) == []

    page.get_by_role("link", name="Whole ledger").click()
    page.locator("summary", has_text="Kind").click()
    page.get_by_role("link", name="Grant", exact=True).click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    expect(page.locator("#result_list")).to_contain_text("for the autumn")
    expect(page).to_have_url(re.compile(r"kind__exact=grant"))
    assert refused == []
