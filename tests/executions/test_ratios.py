"""The engine beside raw Celery chords on the same worker, in one run: the ratios that it is held to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from django.db import connection

from tests.environment import POSTGRES, ROOT

pytestmark = [pytest.mark.worker, pytest.mark.redis, pytest.mark.timeout(500)]

LARGEST = {"W1": (0.15, 0.25), "W2": (0.15, 0.35), "W1H": (0.5, 0.8)}
"""The largest time beside raw chords, on SQLite and on PostgreSQL."""
LEAST_GAIN = {"W4": (6, 4)}
"""How many times as many executions per second, on SQLite and on PostgreSQL."""


def check_ratios(*names: str) -> None:
    """Run ``./flow bench engine``, which ends with an error unless every row, event and push is there."""
    chosen = [option for name in names for option in ("--workload", name)]
    command = [sys.executable, "-m", "tests.benchmarks", "engine", "--json", "--repeat", "5"]
    command += ["--database", "postgres" if POSTGRES else "sqlite"]
    done = subprocess.run([*command, *chosen], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    workloads: dict[str, dict[str, Any]] = found["workloads"]
    print({name: (row["ratio"], row["gain"]) for name, row in workloads.items()}, "load", found["load"])

    assert (found["database"], found["repeats"], [*workloads]) == (connection.vendor, 5, [*names])
    for name, row in workloads.items():
        if name in LARGEST:
            assert row["ratio"] <= LARGEST[name][POSTGRES], row
        else:
            assert row["gain"] >= LEAST_GAIN[name][POSTGRES], row
        assert min(row["limit_ms_per_node"], row["statements_per_node"], row["redis_commands_per_node"]) > 0
        assert row["redis_commands_per_node"] < row["raw_redis_commands_per_node"] / 5


@pytest.mark.slow
@pytest.mark.skipif(POSTGRES, reason="on PostgreSQL the ratios depend on what else the machine does: with --slow")
def test_phases_and_chains_take_a_fraction_of_raw_chords() -> None:
    check_ratios("W1", "W2")


@pytest.mark.slow
@pytest.mark.postgres
def test_every_workload_keeps_its_distance_to_raw_chords() -> None:
    """On a machine that does nothing else: what others take of it hurts few large steps more than many small ones."""
    if os.getloadavg()[0] > (os.cpu_count() or 1):
        pytest.skip(f"a load of {os.getloadavg()[0]:.1f}: ratios tell nothing while others want this machine")
    check_ratios("W1", "W2", "W1H", "W4")
