"""How a stealth browser looks: drawn by a seed, and free of contradictions.

What it says about itself is true (its engine, version and system), except that it does not say that a program drives it.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from typing import Final

SCREENS: Final = ((1920, 1080), (1536, 864), (1440, 900), (1366, 768))
"""Sizes of screens that many people have."""
FRAME: Final = 131
"""How many of a screen's pixels from top to bottom the window's own bars take."""
PLACES: Final = (
    ("en-US", "America/New_York"),
    ("en-US", "America/Chicago"),
    ("en-US", "America/Los_Angeles"),
    ("en-GB", "Europe/London"),
    ("de-DE", "Europe/Berlin"),
    ("fr-FR", "Europe/Paris"),
    ("es-ES", "Europe/Madrid"),
)
QUIET: Final = (
    "Object.defineProperty(Navigator.prototype, 'webdriver', {get: () => false, enumerable: true, configurable: true})"
)
"""Runs in every page and frame before its own scripts."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a page can see of the place and the screen of a browser; the viewport is what is left of the screen."""

    screen: tuple[int, int]
    locale: str
    timezone: str

    @property
    def viewport(self) -> tuple[int, int]:
        """Return width and height of the page."""
        return self.screen[0], self.screen[1] - FRAME


def draw(seed: str, *, locale: str = "", timezone: str = "") -> Fingerprint:
    """Return the fingerprint of a seed, the same each time; what is given stays, and the rest suits it."""
    dice = random.Random(seed)  # noqa: S311 - it is to be drawn again
    screen = dice.choice(SCREENS)
    suiting = [place for place in PLACES if locale in ("", place[0]) and timezone in ("", place[1])]
    near = [place for place in PLACES if locale.partition("-")[0] == place[0].partition("-")[0]]
    place = dice.choice(suiting or near or PLACES)
    return Fingerprint(screen, locale or place[0], timezone or place[1])


def user_agent(version: str, system: str = sys.platform) -> str:
    """Return what a Chrome of ``version`` that people look at calls itself on a system; browsers tell no more of it."""
    machine = "Macintosh; Intel Mac OS X 10_15_7" if system == "darwin" else "X11; Linux x86_64"
    major = version.partition(".")[0]
    return f"Mozilla/5.0 ({machine}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major}.0.0.0 Safari/537.36"
