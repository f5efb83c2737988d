"""What starts often starts cheaply: a process loads what it needs, and lets what it loaded be."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from django.contrib.staticfiles import finders
from django.test import Client

from tests.conftest import test_environment
from tests.environment import POSTGRES

ONLY_OF_PAGES = {"ninja", "pydantic", "flowbuilder.site", "flowbuilder.api", "workflows.admin", "executions.admin"}
START = "import gc, sys, django; usual = gc.get_threshold(); django.setup(); "


def started(question: str) -> str:
    """Return what a process that has just started answers."""
    done = subprocess.run(
        [sys.executable, "-c", START + f"print({question})"],
        env={**test_environment(), "DJANGO_SETTINGS_MODULE": "flowbuilder.settings"},
        text=True, capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_workers_and_commands_load_neither_pages_nor_the_api_nor_the_driver_of_another_database() -> None:
    heavy = ONLY_OF_PAGES | (set() if POSTGRES else {"psycopg"})

    assert started(f"sorted(set(sys.modules) & {heavy!r})") == "[]"


def test_what_a_start_loads_is_no_more_searched_for_garbage_and_all_else_as_usual() -> None:
    assert started("gc.get_threshold() == usual, gc.get_freeze_count() > 100_000") == "True True"


def test_where_the_pages_are_checked_they_are_loaded() -> None:
    """Django checks the pages that are there; without them it would find everything well."""
    check = "__import__('django.core.checks').core.checks.run_checks(tags=['admin'])"

    assert started(f"{check}, 'executions.admin' in sys.modules") == "[] True"


def test_the_page_about_the_api_needs_no_other_server(client: Client, alice: Any) -> None:
    client.force_login(alice)

    page = client.get("/api/v1/docs").content.decode()

    assert "/static/ninja/swagger-ui-bundle.js" in page
    assert "https://" not in page
    assert finders.find("ninja/swagger-ui-bundle.js")
