"""A test of real processes that fails beside the others is tried once more; the run says so, and takes few of them."""

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
    def fails_first(name):
        file = Path({folder!r}) / name
        first = not file.exists()
        file.touch()
        assert not first, f"{{name}} met something in its way"
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


def text_of(name: str, marker: str = "") -> str:
    """Return the text of a test that fails at its first try only."""
    return f"{marker}\ndef test_{name}(): fails_first({name!r})"


def test_what_races_with_real_processes_is_tried_again_and_named_and_nothing_else_is(tmp_path: Path) -> None:
    done = run(tmp_path, text_of("first", REAL), text_of("plain"), f"{REAL}\ndef test_broken(): assert False")

    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 1 passed, 2 rerun" in done.stdout
    assert "UNSTEADY" in done.stdout
    assert "first met something in its way" in done.stdout


@pytest.mark.parametrize(("tests", "status"), [(3, 0), (4, 1)])
def test_a_run_takes_three_unsteady_tests_and_no_more(tmp_path: Path, tests: int, status: int) -> None:
    done = run(tmp_path, *(text_of(f"number_{number}", REAL) for number in range(tests)))

    assert done.returncode == status, done.stdout + done.stderr
    assert f"{tests} passed" in done.stdout
    assert f"{tests} tests were tried again (at most 3 may be)" in done.stdout
