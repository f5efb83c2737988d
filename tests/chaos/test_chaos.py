"""A short run of the chaos harness in every test run; ``./flow test --chaos 600 --seed N`` is the long one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.harness import WEIGHTS, schedule
from tests.environment import ROOT

SECONDS = 40
SEED = 4


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.timeout(420)
def test_chaos_for_a_minute_loses_doubles_and_leaks_nothing(capsys):
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", str(SECONDS), "--seed", str(SEED)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    with capsys.disabled():
        print(f"\n{run.stdout}")

    assert run.returncode == 0, run.stdout + run.stderr
    assert "every invariant held" in run.stdout


def test_a_seed_draws_the_same_faults_again_one_every_two_seconds():
    kinds = list(WEIGHTS)

    faults = schedule(7, 600, kinds)

    assert faults == schedule(7, 600, kinds)
    assert faults != schedule(8, 600, kinds)
    assert 240 < len(faults) < 360
    assert {fault.kind for fault in faults} == set(kinds)
