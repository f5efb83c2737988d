"""What the pages in the browser are made of: how large it is, and which tests of its own prove a row."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from tests.environment import ROOT

ISLANDS = ROOT / "flowbuilder" / "static" / "flowbuilder" / "islands"
FRONTEND = ROOT / "frontend"
FILES = ("useWebSocketLogs.test.ts", "socket.test.ts", "ExecutionLogViewer.test.tsx", "LogList.test.tsx")
ROWS = {
    "S1-11": ("does not come back after close code %i",),
    "S1-16": ("keeps a thousand lines unless told otherwise", "loads older lines in front and keeps them"),
    "S1-17b": ("keeps the line that is read in its place when others come, go or turn out higher",),
    "S1-23": ("says level, step, type and duration of a line",),
    "S1-24": (
        "shows grey bars while loading, five of them",
        "offers to try again when nothing could be loaded",
        "says what will come when there is nothing yet",
    ),
    "S1-30": (
        "opens nothing while disabled or without an id",
        "gives up after reconnectAttempts, and tries again when asked",
        "keeps the newest bufferSize lines, the state of all",
        "clears the list, then shows only what is new",
        "disconnects by hand, keeps its lines and stays so",
        "reconnects by hand, also after the end",
        "are made after pauses that double from half a second to half a minute",
    ),
    "S1-36b": ("opens one socket in a hundred cycles of mounting and unmounting, and leaves no listener",),
}


def loaded_with(name: str) -> set[Path]:
    """Return a script and everything that it imports at once."""
    found, open_ = set(), [ISLANDS / name]
    while open_:
        file = open_.pop()
        if file not in found:
            found.add(file)
            open_ += [ISLANDS / other for other in re.findall(r'(?:from|import)"\./([\w.-]+\.js)"', file.read_text())]
    return found


@pytest.mark.row("S1-37")
def test_the_monitor_is_smaller_than_a_hundred_kilobytes() -> None:
    files = loaded_with("monitor.js")

    size = sum(len(gzip.compress(file.read_bytes())) for file in files)

    assert ISLANDS / "chunk-react.js" in files
    assert size < 100_000, f"{size:,} bytes: {sorted(file.name for file in files)}"


def titles_of(name: str) -> list[str]:
    """Return the titles of the tests in a file of the front end; none may be left out of its runs."""
    (file,) = (FRONTEND / "src").rglob(name)
    text = file.read_text()
    assert not re.search(r"\b(?:it|test|describe)\.(?:skip|only|todo)|\bx(?:it|describe)\b", text), name
    return re.findall(r"\b(?:it|test)(?:\.each\(.*?\))?\(\s*[\"'`](.+?)[\"'`],", text)


@pytest.mark.row("S1-11")
@pytest.mark.row("S1-16")
@pytest.mark.row("S1-17b")
@pytest.mark.row("S1-23")
@pytest.mark.row("S1-24")
@pytest.mark.row("S1-30")
@pytest.mark.row("S1-36")
@pytest.mark.row("S1-36b")
def test_hook_and_viewer_have_the_tests_of_their_rows() -> None:
    """``./flow check`` runs them."""
    found = [title for name in FILES for title in titles_of(name)]

    assert len(found) >= 12 + 29
    for row, titles in ROWS.items():
        assert set(titles) <= set(found), row


def test_the_look_of_the_canvas_stands_in_one_place() -> None:
    told = [file.name for file in FRONTEND.glob("src/**/*.css") if "react-flow__controls-button" in file.read_text()]

    assert told == ["canvas.css"]
