"""What the environment may say, and what a start that it spoils tells the person."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db.utils import ConnectionHandler

from tests.flowbuilder.conftest import ROOT


def settings_of() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "flowbuilder" / "settings.py"))


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("FLOWBUILDER_PORT", "abc", 'must be a number of at least 1 and at most 65535, not "abc"'),
        ("FLOWBUILDER_PORT", "65536", "at most 65535"),
        ("FLOWBUILDER_WORKER_SLOTS", "0", "at least 1"),
        ("FLOWBUILDER_BROWSER_SLOTS", "-1", "at least 1"),
        ("FLOWBUILDER_MAX_NODES", "1.5", "must be a whole number"),
        ("FLOWBUILDER_MAX_NODES", "inf", "must be a number"),
        ("FLOWBUILDER_LEASE_SECONDS", "2", "at least 3"),
        ("FLOWBUILDER_DRAIN_SECONDS", "nan", "must be a number"),
        ("FLOWBUILDER_ISOLATED_IDLE_SECONDS", "soon", "must be a number"),
        ("FLOWBUILDER_CODE_NODES", "perhaps", 'must be on or off, not "perhaps"'),
        ("FLOWBUILDER_LOG_LEVEL", "loud", "must be one of DEBUG, INFO"),
        ("FLOWBUILDER_URL", "flow.example", "must begin with http:// or https://"),
        ("FLOWBUILDER_VARS", "[1]", "must be a JSON object"),
        ("FLOWBUILDER_VARS", "{x", "must be a JSON object: Expecting property name"),
        ("FLOWBUILDER_CREDIT_COSTS", "get_html=-1", 'must give "get_html" a whole number of at least 0'),
        ("FLOWBUILDER_CREDIT_COSTS", '{"get_html": true}', 'must give "get_html" a whole number of at least 0'),
        ("FLOWBUILDER_CREDIT_COSTS", "get_html", 'must give "get_html" a whole number of at least 0'),
        ("FLOWBUILDER_DEFAULT_CREDITS", "-5", "at least 0"),
        ("FLOWBUILDER_MAIL_FROM", "Flow <a@b.example>", "must be an address such as flow@example.com"),
        ("FLOWBUILDER_ALERT_SECONDS", "0", "at least 0.1"),
        ("DATABASE_URL", "nonsense", "it looks like postgres://"),
        ("FLOWBUILDER_DATABASE_CONNECT_SECONDS", "1", "at least 2"),
        ("FLOWBUILDER_TRUSTED_PROXIES", "10.0.0.5, *", '"*" is none'),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ImproperlyConfigured, match=rf"^{name} ") as raised:
        settings_of()

    assert complaint in str(raised.value)


def test_a_wrong_key_is_refused_by_its_place_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWBUILDER_CREDENTIAL_KEYS", f"{'A' * 43}=,my-secret")

    with pytest.raises(ImproperlyConfigured, match="key 2 is no Fernet key") as raised:
        settings_of()

    assert "my-secret" not in str(raised.value)


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLOWBUILDER_PORT", "FLOWBUILDER_ALLOWED_HOSTS", "FLOWBUILDER_HTTPS", "FLOWBUILDER_LOG_LEVEL"):
        monkeypatch.setenv(name, " ")

    found = settings_of()

    assert (found["PORT"], found["ALLOWED_HOSTS"][0], found["SESSION_COOKIE_SECURE"]) == (8000, "127.0.0.1", False)


@pytest.mark.parametrize(("word", "on"), [("on", True), ("TRUE", True), ("1", True), ("no", False), ("0", False)])
def test_on_and_off_are_understood_in_the_usual_words(monkeypatch: pytest.MonkeyPatch, word: str, on: bool) -> None:
    monkeypatch.setenv("FLOWBUILDER_CODE_NODES", word)

    assert settings_of()["CODE_NODES"] is on


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("FLOWBUILDER_PORT", "abc", "flow: FLOWBUILDER_PORT must be a number"),
        ("FLOWBUILDER_DATA_DIR", "/proc", "flow: /proc cannot be written ("),
        ("FLOWBUILDER_DATA_DIR", str(Path(__file__) / "var"), "cannot be written (Not a directory); mend that, or set"),
    ],
)
def test_what_spoils_the_start_is_one_line_and_exit_code_3(name: str, value: str, line: str) -> None:
    result = subprocess.run(
        [sys.executable, "manage.py", "doctor"], cwd=ROOT, env={**os.environ, name: value},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (result.returncode, result.stdout) == (3, "")
    [only] = result.stderr.splitlines()
    assert line in only


def test_a_database_that_takes_connections_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        monkeypatch.setenv("DATABASE_URL", f"postgres://nobody@127.0.0.1:{hole.getsockname()[1]}/none")
        monkeypatch.setenv("FLOWBUILDER_DATABASE_CONNECT_SECONDS", "2")
        database = ConnectionHandler({"default": settings_of()["DATABASES"]["default"]})["default"]
        began = time.monotonic()

        with pytest.raises(psycopg.OperationalError, match="timeout"):
            database.get_new_connection(database.get_connection_params())

        assert 1.5 < time.monotonic() - began < 30


def test_what_the_address_of_the_database_says_goes_before_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for query, seconds in (("", 10), ("?connect_timeout=3", 3)):
        monkeypatch.setenv("DATABASE_URL", f"postgres://nobody@127.0.0.1/none{query}")
        assert int(settings_of()["DATABASES"]["default"]["OPTIONS"]["connect_timeout"]) == seconds
