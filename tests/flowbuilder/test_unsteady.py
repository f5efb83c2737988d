"""A test that fails beside the others is tried again; the run says so, and takes few of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import ROOT

REAL = "@pytest.mark.worker"
FAILS_FIRST = """
    from pathlib import Path
    def fails_first(name, times=1):
        file = Path({folder!r}) / name
        tries = len(file.read_bytes()) if file.exists() else 0
        file.write_bytes(bytes(tries + 1))
        assert tries >= times, f"{{name}} met something in its way"
"""


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    lines = ["import pytest", *(line[4:] for line in FAILS_FIRST.format(folder=str(folder)).splitlines())]
    (folder / "test_such.py").write_text("\n".join([*lines, *tests]) + "\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.environment", "-p", "tests.conftest", "-n", "1"]
    return subprocess.run(
        [*command, "-o", f"cache_dir={folder / 'cache'}", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"),
         str(folder / "test_such.py")],
        cwd=ROOT, env={**os.environ, "PYTEST_XDIST_WORKER": ""}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def text_of(name: str, marker: str = "", times: int = 1) -> str:
    """Return the text of a test that fails at its first tries only."""
    return f"{marker}\ndef test_{name}(): fails_first({name!r}, {times})"


def test_a_test_has_two_tries_and_three_where_it_races_with_real_processes(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        text_of("real", REAL, times=2),
        text_of("plain"),
        text_of("plain_and_twice", times=2),
        f"{REAL}\ndef test_broken(): assert False",
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 2 passed, 6 rerun" in done.stdout
    assert "UNSTEADY" in done.stdout
    for name in ("real", "plain"):
        assert done.stdout.count(f"{name} met something in its way") >= 1


@pytest.mark.parametrize(("tests", "status"), [(3, 0), (4, 1)])
def test_a_run_takes_three_unsteady_tests_and_no_more(tmp_path: Path, tests: int, status: int) -> None:
    done = run(tmp_path, *(text_of(f"number_{number}", REAL) for number in range(tests)))

    assert done.returncode == status, done.stdout + done.stderr
    assert f"{tests} passed" in done.stdout
    assert f"{tests} tests were tried again (at most 3 may be)" in done.stdout
