"""The ``flow`` script: finds a Python, makes the environment once, hands over to manage.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("dirname", "cat", "cksum", "rm")

Run = Callable[..., subprocess.CompletedProcess[str]]


def program(folder: Path, name: str, text: str) -> None:
    """Write an executable shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a checkout that has only what the script reads; its manage.py prints what it was given."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    shutil.copy(ROOT / "flow", folder / "flow")
    (folder / "requirements.txt").write_text("")
    (folder / "requirements-dev.txt").write_text("")
    (folder / "manage.py").write_text("import os, sys; print('manage', os.getcwd(), *sys.argv[1:]); sys.exit(7)\n")
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return an otherwise empty PATH directory with the few tools that the script calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    return folder


@pytest.fixture
def flow(clone: Path, path: Path) -> Run:
    """Return a function that runs the clone's script with only ``path`` on PATH."""

    def run(*arguments: str, cwd: Path = clone, **env: str) -> subprocess.CompletedProcess[str]:
        command = ["/bin/sh", str(clone / "flow"), *arguments]
        return subprocess.run(
            command, cwd=cwd, env={"PATH": str(path), **env}, capture_output=True, text=True, timeout=60
        )

    return run


def ready_environment(clone: Path) -> None:
    """Make ``.venv`` look as after an install: this test's Python and the stamps of both files."""
    (clone / ".venv" / "bin").mkdir(parents=True)
    program(clone / ".venv" / "bin", "python", f'exec "{sys.executable}" "$@"')
    program(clone / ".venv" / "bin", "uv", "exit 0")
    for name in ("requirements.txt", "requirements-dev.txt"):
        content = (clone / name).read_bytes()
        stamp = subprocess.run(["cksum"], input=content, capture_output=True, check=True).stdout
        (clone / ".venv" / f"{name}.cksum").write_bytes(stamp)


def test_without_arguments_it_prints_a_short_help_and_makes_nothing(flow: Run, clone: Path) -> None:
    result = flow()

    assert result.returncode == 0
    assert "./flow up" in result.stdout
    assert not (clone / ".venv").exists()


def test_no_python_is_one_line_and_exit_code_3(flow: Run) -> None:
    result = flow("up")

    assert result.returncode == 3
    assert result.stderr.splitlines() == [
        "flow: Python 3.11 or newer was not found. Debian/Ubuntu: apt install python3 python3-venv"
    ]


def test_shims_and_old_pythons_are_passed_over_in_silence(flow: Run, path: Path, clone: Path) -> None:
    program(path, "python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127")
    program(path, "python3.12", "exit 1")  # answers as one that is too old
    program(path, "python3", 'case $* in *ensurepip*) exit 0;; *venv*) echo "$*" >../used; exit 1;; *) exit 0;; esac')

    result = flow("up")

    assert result.returncode == 3
    assert "pyenv" not in result.stderr
    assert "-m venv" in (clone.parent / "used").read_text()


def test_a_python_without_venv_module_names_the_package(flow: Run, path: Path) -> None:
    program(path, "python3", "case $* in *ensurepip*) exit 1;; *) exit 0;; esac")

    result = flow("up")

    assert result.returncode == 3
    assert result.stderr.splitlines() == ["flow: python3 has no venv module. Debian/Ubuntu: apt install python3-venv"]


def test_no_network_is_named_and_the_next_try_installs_again(flow: Run, clone: Path) -> None:
    ready_environment(clone)
    (clone / "requirements.txt").write_text("httpx==0.28.1\n")
    program(clone / ".venv" / "bin", "uv", "echo 'error: dns error' >&2; exit 2")

    first, second = flow("up"), flow("up")

    for result in (first, second):
        assert result.returncode == 3
        assert "could not be installed; is the network there?" in result.stderr
        assert "dns error" not in result.stderr
    assert "dns error" in (clone / ".venv" / "install.log").read_text()


def test_packages_are_installed_once_per_content_of_the_file(flow: Run, clone: Path) -> None:
    ready_environment(clone)
    program(clone / ".venv" / "bin", "uv", f'echo "$*" >>"{clone}/installs"')
    installs = clone / "installs"

    flow("up")
    assert not installs.exists()

    (clone / "requirements.txt").write_text("httpx\n")
    flow("up")
    flow("up")
    assert len(installs.read_text().splitlines()) == 1


def test_every_other_word_goes_to_manage_py_in_the_callers_directory(flow: Run, clone: Path, tmp_path: Path) -> None:
    ready_environment(clone)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    result = flow("workflows", "import", "my file.json", cwd=elsewhere)

    assert result.stdout == f"manage {elsewhere} workflows import my file.json\n"
    assert result.returncode == 7


def test_a_start_with_everything_in_place_costs_less_than_a_second(flow: Run, clone: Path) -> None:
    ready_environment(clone)

    before = os.times()
    flow("up")
    after = os.times()

    assert after.children_user + after.children_system - before.children_user - before.children_system < 1


def test_what_runs_is_a_subset_of_what_is_tested() -> None:
    run = set((ROOT / "requirements.txt").read_text().splitlines())
    develop = set((ROOT / "requirements-dev.txt").read_text().splitlines())

    assert run <= develop
    assert all("==" in line for line in develop)


def test_the_script_is_executable_and_plain_sh() -> None:
    assert os.access(ROOT / "flow", os.X_OK)
    assert (ROOT / "flow").read_text().startswith("#!/bin/sh\n")
    subprocess.run([shutil.which("dash") or "sh", "-n", str(ROOT / "flow")], check=True)


def manage(*arguments: str, data: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "FLOWBUILDER_DATA_DIR": str(data)}
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def test_help_names_the_commands_of_the_product_first(tmp_path: Path) -> None:
    done = manage("help", data=tmp_path)

    own, _, others = done.stdout.partition("Django's commands")
    assert done.returncode == 0
    assert all(f"  {verb} " in own for verb in ("up", "demo", "doctor", "workflows", "executions", "recordings"))
    assert "migrate" in others
    assert "migrate" not in own


def test_a_command_that_does_not_exist_is_wrong_usage(tmp_path: Path) -> None:
    done = manage("exections", data=tmp_path)

    assert done.returncode == 2
    assert "Did you mean executions?" in done.stderr
    assert "./flow help" in done.stderr


def test_test_with_chaos_runs_the_harness_and_other_arguments_go_to_pytest(flow: Run, clone: Path) -> None:
    ready_environment(clone)
    for package, name in (
        ("tests", "__init__"),
        ("tests/chaos", "__init__"),
        ("tests/chaos", "__main__"),
        (".", "pytest"),
    ):
        (clone / package).mkdir(exist_ok=True)
        (clone / package / f"{name}.py").write_text("import sys; print(*sys.argv[1:])\n" if name != "__init__" else "")

    chaos, others = flow("test", "--chaos", "5", "--seed", "3"), flow("test", "tests/x", "--slow")

    assert (chaos.returncode, chaos.stdout) == (0, "5 --seed 3\n")
    assert (others.returncode, others.stdout) == (0, "tests/x --slow\n")
