"""Migrations can be taken back and applied again, on both databases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from tests.conftest import test_environment
from tests.environment import ROOT

pytestmark = pytest.mark.postgres
APPS = ("executions", "recordings", "workflows")


@pytest.fixture
def empty_database(transactional_db: None, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database of its own, beside the one of the tests."""
    if connection.vendor == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite3'}"
        return
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE reversible")
    yield test_environment()["DATABASE_URL"].replace(f"/{connection.settings_dict['NAME']}?", "/reversible?")
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE reversible")


def test_every_migration_is_reversible(empty_database: str) -> None:
    def manage(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
            env={**test_environment(), "DATABASE_URL": empty_database},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    manage("migrate", "-v", "0")
    for app in APPS:
        manage("migrate", app, "zero", "-v", "0")
    assert "[X]" not in manage("showmigrations", *APPS)
    manage("migrate", "-v", "0")

    assert "[ ]" not in manage("showmigrations", *APPS)
