"""How long a page takes to answer keys and clicks: from the moment of the input to the frame that shows what became of it."""

from __future__ import annotations

from playwright.sync_api import Page

WATCH = """() => {
    window.answers = []
    const answer = event => requestAnimationFrame(() => {
        const shown = new MessageChannel()
        shown.port1.onmessage = () => window.answers.push(performance.now() - event.timeStamp)
        shown.port2.postMessage(null)
    })
    for (const kind of ['keydown', 'click']) addEventListener(kind, answer, {capture: true})
}"""
"""An input has the time at which the browser got it, so that what the page did before it looked at it counts."""
ROWS = """() => {
    window.mostRows = 0
    const look = () => {
        window.mostRows = Math.max(window.mostRows, document.querySelectorAll('[data-seq]').length)
        requestAnimationFrame(look)
    }
    look()
}"""


def watch_answers(page: Page) -> None:
    """Measure from now on."""
    page.evaluate(WATCH)


def answers(page: Page, inputs: int) -> list[float]:
    """Return how many milliseconds each of the ``inputs`` took since ``watch_answers``, the longest last."""
    page.wait_for_function("wanted => window.answers.length >= wanted", arg=inputs)
    found: list[float] = page.evaluate("window.answers")
    assert len(found) == inputs
    assert min(found) > 0, "measures nothing"
    return sorted(found)


def watch_rows(page: Page) -> None:
    """Count the lines that are in the document, in every frame from now on."""
    page.evaluate(ROWS)


def most_rows(page: Page) -> int:
    """Return how many lines were in the document at most since ``watch_rows``."""
    most: int = page.evaluate("window.mostRows")
    assert most > 0, "counts nothing"
    return most
