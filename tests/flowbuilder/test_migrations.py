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
APPS = ("executions", "monitoring", "recordings", "workflows")


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


MOVES = """
import django
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

django.setup()
call_command("migrate", verbosity=0)
for app in APPS:
    call_command("migrate", app, "zero", verbosity=0)
left = [row for row in MigrationRecorder(connection).applied_migrations() if row[0] in APPS]
assert not left, left
call_command("migrate", verbosity=0)
call_command("migrate", check_unapplied=True, verbosity=0)
"""


def test_every_migration_is_reversible(empty_database: str) -> None:
    script = f"APPS = {APPS!r}\n{MOVES}"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**test_environment(), "DATABASE_URL": empty_database},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
