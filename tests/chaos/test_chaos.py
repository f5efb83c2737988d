"""A short run of the chaos harness in every test run; ``./flow test --chaos 600 --seed N`` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from tests.chaos.harness import WEIGHTS, schedule
from tests.environment import POSTGRES, ROOT

SECONDS, SEED = 90, 23
POSTGRES_SECONDS, POSTGRES_SEED = 30, 60
ONLY_THERE = frozenset({"postgres cut", "postgres frozen"})
"""What can only be done to PostgreSQL."""


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.skipif(POSTGRES, reason="runs on SQLite; PostgreSQL has a shorter run of its own")
@pytest.mark.timeout(600)
def test_chaos_for_ninety_seconds_loses_doubles_and_leaks_nothing(capsys, tmp_path):
    survives_chaos(SECONDS, SEED, tmp_path, capsys)


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.postgres
@pytest.mark.skipif(not POSTGRES, reason="about PostgreSQL; ./flow test runs it in its second part")
@pytest.mark.timeout(420)
def test_chaos_on_postgres_loses_doubles_and_leaks_nothing(capsys, tmp_path):
    faults = survives_chaos(POSTGRES_SECONDS, POSTGRES_SEED, tmp_path, capsys, "--database", "postgres")

    assert faults["postgres cut"] >= 1


def survives_chaos(
    seconds: int, seed: int, folder: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> dict[str, int]:
    """Run the harness in a process of its own, see that every invariant held, and return how often it did what."""
    written = folder / "report.json"
    command = ["-m", "tests.chaos", str(seconds), "--seed", str(seed), "--json", str(written), *options]
    run = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    with capsys.disabled():
        print(f"\n{run.stdout}")

    assert run.returncode == 0, run.stdout + run.stderr
    assert "every invariant held" in run.stdout
    report = json.loads(written.read_text())
    assert report["database"] == connection.vendor
    faults: dict[str, int] = report["faults"]
    assert sum(faults.values()) >= seconds / 10, "hardly anything was broken"
    return faults


def test_the_short_runs_meet_every_kind_of_fault():
    anywhere = [kind for kind in WEIGHTS if kind not in ONLY_THERE]

    assert {fault.kind for fault in schedule(SEED, SECONDS, anywhere)} == set(anywhere)
    assert {fault.kind for fault in schedule(POSTGRES_SEED, POSTGRES_SECONDS, list(WEIGHTS))} > ONLY_THERE


def test_a_seed_draws_the_same_faults_again_one_every_two_seconds():
    kinds = list(WEIGHTS)

    faults = schedule(7, 600, kinds)

    assert faults == schedule(7, 600, kinds)
    assert faults != schedule(8, 600, kinds)
    assert 240 < len(faults) < 360
    assert {fault.kind for fault in faults} == set(kinds)
