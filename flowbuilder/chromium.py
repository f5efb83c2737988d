"""Which Chromium browser nodes use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW_TO_GET = (
    "Install one: apt install chromium (Debian, Ubuntu), or .venv/bin/playwright install chromium, "
    "or set FLOWBUILDER_CHROMIUM to the path of a Chromium or Chrome."
)


def find_chromium(setting: str = "") -> str | None:
    """Return the program: ``setting`` if given, else the newest that Playwright installed, else one on PATH.

    A setting that names no program gives None: what somebody asked for is not replaced by something else.
    """
    if setting:
        return setting if os.access(setting, os.X_OK) else shutil.which(setting)
    return _installed_by_playwright() or next(filter(None, map(shutil.which, PROGRAMS)), None)


def chromium_version(program: str) -> str | None:
    """Return what ``program --version`` says, or None when it does not run."""
    try:
        result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None


def _installed_by_playwright() -> str | None:
    default = "Library/Caches/ms-playwright" if sys.platform == "darwin" else ".cache/ms-playwright"
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / default)
    names = ("chrome", "headless_shell", "chrome-headless-shell", "Chromium", "Google Chrome for Testing")
    found = [
        program
        for build in folder.glob("chromium*-*")
        for name in names
        for program in (*build.glob(f"*/{name}"), *build.glob(f"*/*.app/Contents/MacOS/{name}"))
        if os.access(program, os.X_OK)
    ]
    return str(max(found, key=_build_number)) if found else None


def _build_number(program: Path) -> int:
    """Return N of ``…/chromium-N/…``."""
    build = next(part for part in reversed(program.parts) if part.startswith("chromium") and "-" in part)
    digits = build.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0
