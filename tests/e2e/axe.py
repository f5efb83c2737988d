"""What axe-core finds wrong with a page for people who cannot see it, or see it badly."""

from __future__ import annotations

import os
from functools import cache
from typing import Final, Literal

import pytest
from playwright.sync_api import Page

from tests.environment import ROOT

SCRIPT: Final = ROOT / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
RUN: Final = """async within => {
    const moving = document.getAnimations().filter(one => Number.isFinite(one.effect?.getComputedTiming().endTime))
    await Promise.allSettled(moving.map(one => one.finished))
    const {violations} = await axe.run(within, {resultTypes: ['violations']})
    return violations.filter(found => ['serious', 'critical'].includes(found.impact)).flatMap(found => found.nodes.map(
        node => `${found.impact} ${found.id}: ${node.target.join(' ')}: ${node.failureSummary.replace(/\\s+/g, ' ')}`))
}"""


def assert_accessible(page: Page, within: str = "body") -> None:
    """Fail with every serious or critical finding inside of ``within``, in light and in dark colours.

    The page must show what is to be judged. Costs about a second.
    """
    found: list[str] = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.evaluate(_script())
        found += [f"{scheme}: {line}" for line in page.evaluate(RUN, within)]
    page.emulate_media(color_scheme=None)
    assert not found, f"axe finds {len(found)} problems on {page.url}:\n" + "\n".join(found)


@cache
def _script() -> str:
    """Return the source of axe-core; without it the test is skipped, and fails in CI."""
    if SCRIPT.exists():
        return SCRIPT.read_text()
    missing = f"{SCRIPT.relative_to(ROOT)} is missing: cd frontend && npm ci"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
