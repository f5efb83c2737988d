"""The pages of the admin are judged by axe-core."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.axe import assert_accessible

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.worker]


@pytest.mark.parametrize("address", ["/admin/", "/admin/monitoring/"])
def test_nothing_serious_is_wrong_with(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_be_visible()

    assert_accessible(page)


def test_something_serious_would_be_found(page: Page) -> None:
    page.goto("/admin/")
    page.evaluate("document.querySelector('main, #content').insertAdjacentHTML('beforeend', '<button></button>')")

    with pytest.raises(AssertionError, match="button-name"):
        assert_accessible(page)
