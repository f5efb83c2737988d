"""The log of a process never shows a secret that the process has opened."""

from __future__ import annotations

import base64
import io
import logging
import time
from urllib.parse import quote

import pytest

from executions import logs

SECRET = "correct horse/battery+staple"


@pytest.fixture
def known(monkeypatch):
    """Return what the records of this process know from here on."""
    fresh = logs.Known()
    monkeypatch.setattr(logs, "known", fresh)
    return fresh


@pytest.fixture
def log():
    """Return a logger with a handler and formatter of its own, and what it wrote."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("tests.logs")
    logger.addHandler(handler)
    yield logger, out.getvalue
    logger.removeHandler(handler)


def test_messages_arguments_tracebacks_and_stacks_are_without_it(known, log):
    logger, written = log
    known.remember([SECRET])

    logger.warning("with %s", SECRET, stack_info=True)
    logger.warning("with %s", {"auth": base64.b64encode(f"ada:{SECRET}".encode())})
    logger.warning("at https://example.com/?key=%s", quote(SECRET, safe=""))
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise RuntimeError(f"{SECRET} again") from error
    except RuntimeError:
        logger.exception("it broke")

    text = written()
    assert text.count("***") >= 5
    assert "RuntimeError: *** again" in text
    for part in ("horse", "battery", base64.b64encode(b"correct horse").decode()[:12]):
        assert part not in text


def test_an_error_that_leaves_a_task_is_without_it(known):
    known.remember([SECRET])

    def fail() -> None:
        with logs.clean_errors():
            try:
                raise KeyError(SECRET, 1)
            except KeyError as error:
                raise RuntimeError(f"{SECRET} is no key") from error

    with pytest.raises(RuntimeError, match=r"^\*\*\* is no key$") as caught:
        fail()
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.args == ("***", 1)


def test_nothing_is_taken_away_while_nothing_is_known(known, log):
    logger, written = log

    logger.warning("%s", SECRET)

    assert written() == f"WARNING {SECRET}\n"


def test_a_very_short_secret_is_taken_only_as_a_whole_message(known, log):
    logger, written = log
    known.remember(["abc"])

    logger.warning("abc")
    logger.warning("abcdef")

    assert written() == "WARNING ***\nWARNING abcdef\n"


def test_what_was_not_used_for_longest_is_forgotten_first():
    known = logs.Known(most=2)
    known.remember(["secret-one", "secret-two"])
    known.remember(["secret-one"])
    known.remember(["secret-three"])

    assert known.clean("secret-one secret-two secret-three") == "*** secret-two ***"


def test_a_thousand_secrets_cost_a_line_next_to_nothing():
    known = logs.Known()
    known.remember(f"secret-number-{n:06}" for n in range(1_000))
    line = "executions.run_nodes[0f8fad5b-d9cb-469f-a165-70867728950e] succeeded in 0.01 s: None " * 2

    begun = time.process_time()
    for _ in range(200):
        assert known.clean(line) == line

    assert (time.process_time() - begun) / 200 < 0.001
    assert known.clean("a secret-number-000999.") == "a ***."
