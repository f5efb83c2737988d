"""``./flow doctor``: what works on this machine, what is missing, and how to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import redis
from django.conf import settings
from django.core.management.base import CommandParser
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from rich.console import Console

from executions.browser import find_chromium
from flowbuilder.management.base import OK, PREREQUISITE, ProductCommand
from flowbuilder.redis import HOW_TO_GET as HOW_TO_GET_REDIS
from flowbuilder.redis import find_redis_server
from flowbuilder.stack import running_stack
from monitoring.health import NotReady, check_beat, check_worker

LOW_DISK_BYTES, NO_DISK_BYTES = 2_000_000_000, 200_000_000
GOOD, WARNING, MISSING, OFF = "ok", "warning", "missing", "off"
HOW_TO_GET_CHROMIUM = (
    "Install one: apt install chromium (Debian, Ubuntu), or .venv/bin/playwright install chromium, "
    "or set FLOWBUILDER_CHROMIUM to the path of a Chromium or Chrome"
)
MARKS = {GOOD: "✓", WARNING: "!", MISSING: "✗", OFF: "·"}
STYLES = {GOOD: "green", WARNING: "yellow", MISSING: "red", OFF: "dim"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``off`` means not started, which is no defect. ``remedy`` says what to do."""

    name: str
    status: str
    detail: str
    remedy: str = ""


def check_python() -> Finding:
    """Return the Python that runs; one that is too old never gets here (``flow`` looks for another)."""
    return Finding("python", GOOD, f"{platform.python_version()} ({sys.executable})")


def check_redis() -> Finding:
    """Return the Redis that answers, or the one that ``./flow up`` would start."""
    stack = running_stack(settings.DATA_DIR)
    if stack or os.environ.get("REDIS_URL"):
        try:
            with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=3, socket_connect_timeout=3) as client:
                version = client.info("server")["redis_version"]
        except (redis.RedisError, ValueError, OSError) as error:
            remedy = "Restart ./flow up" if stack else "Check REDIS_URL and that this Redis runs"
            return Finding("redis", MISSING, f"does not answer: {error}", remedy)
        return Finding("redis", GOOD, f"{version} answers")
    program = find_redis_server()
    if program is None:
        return Finding("redis", MISSING, "no REDIS_URL and no redis-server", HOW_TO_GET_REDIS)
    return Finding("redis", GOOD, f"./flow up starts {program}")


def check_database() -> Finding:
    """Return whether the database answers and has all tables."""
    try:
        migrations = MigrationExecutor(connection)
        waiting = migrations.migration_plan(migrations.loader.graph.leaf_nodes())
    except DatabaseError as error:
        reason = " ".join(str(error).split())
        return Finding("database", MISSING, reason, "Check DATABASE_URL, or that the data directory can be written")
    if waiting:
        return Finding(
            "database",
            WARNING,
            f"{connection.vendor}: {len(waiting)} migrations to apply",
            "./flow up or ./flow migrate",
        )
    return Finding("database", GOOD, f"{connection.vendor}, up to date")


def check_chromium() -> Finding:
    """Return the Chromium of browser nodes, really asked for its version."""
    program = find_chromium(settings.CHROMIUM)
    if program is None:
        detail = f"{settings.CHROMIUM} is not a program" if settings.CHROMIUM else "none found: browser nodes will fail"
        return Finding("chromium", MISSING, detail, HOW_TO_GET_CHROMIUM)
    version = chromium_version(program)
    if version is None:
        return Finding("chromium", MISSING, f"{program} does not run", HOW_TO_GET_CHROMIUM)
    return Finding("chromium", GOOD, f"{version} ({program})")


def chromium_version(program: str) -> str | None:
    """Return what ``program --version`` says, or None when it does not run."""
    try:
        result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None


def check_process(name: str, check: Callable[[], str]) -> Finding:
    """Return whether a process of this kind gives signs of life; nothing running at all is no defect."""
    try:
        return Finding(name, GOOD, check())
    except NotReady as error:
        if running_stack(settings.DATA_DIR) is None and not os.environ.get("REDIS_URL"):
            return Finding(name, OFF, "not running", "./flow up")
        if name == "beat" and settings.NO_BEAT:
            return Finding(name, OFF, "switched off")
        return Finding(name, MISSING, str(error), f"Restart ./flow up, or start a {name} (docs/operations.md)")
    except DatabaseError:
        return Finding(name, OFF, "unknown without the database's tables", "./flow up")


def check_disk() -> Finding:
    """Return how much the data directory may still grow, and whether it can be written."""
    folder = settings.DATA_DIR
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        return Finding("disk", MISSING, f"{folder} cannot be written", "Change its owner, or set FLOWBUILDER_DATA_DIR")
    free = shutil.disk_usage(folder).free
    status = GOOD if free > LOW_DISK_BYTES else WARNING if free > NO_DISK_BYTES else MISSING
    remedy = "" if status == GOOD else "Free some space, or set FLOWBUILDER_DATA_DIR to another disk"
    return Finding("disk", status, f"{free / 1e9:.1f} GB free in {folder}", remedy)


class Command(ProductCommand):
    """Look at everything that the product needs; change nothing."""

    help = (
        "Check Python, Redis, database, Chromium, worker, beat and disk, and say how to mend what is missing. "
        "Exit code 0 when nothing is missing, else 3."
    )
    examples = ("./flow doctor", "./flow doctor --json")

    def add_options(self, parser: CommandParser) -> None:
        """Add ``--json``."""
        self.add_json(parser)

    def run(self, options: dict[str, Any]) -> int | None:
        """Print the findings."""
        findings = [
            check_python(),
            check_redis(),
            check_database(),
            check_chromium(),
            check_process("worker", check_worker),
            check_process("beat", check_beat),
            check_disk(),
        ]
        good = all(finding.status != MISSING for finding in findings)

        def human(console: Console) -> None:
            for finding in findings:
                mark = MARKS[finding.status]
                console.print(f"{mark} {finding.name:<9} {finding.detail}", style=STYLES[finding.status])
                if finding.remedy:
                    console.print(f"  {'':<9} → {finding.remedy}")

        self.emit({"ok": good, "checks": [asdict(finding) for finding in findings]}, human)
        return OK if good else PREREQUISITE
