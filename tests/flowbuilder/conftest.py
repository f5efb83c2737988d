"""Real stacks, each with its own data directory and port."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbuilder.stack import RunningStack, free_port, kernel_start_time, running_stack

ROOT = Path(__file__).resolve().parents[2]
INHERITED = ("PATH", "HOME", "LANG", "FLOWBUILDER_CHROMIUM")


class Up:
    """One ``./flow up`` as a process; its output goes to a file."""

    def __init__(self, data_dir: Path, *flags: str, **env: str) -> None:
        self.data_dir, self.port = data_dir, free_port()
        self.output = data_dir.parent / f"{data_dir.name}.log"
        self.env = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self.env |= {"FLOWBUILDER_DATA_DIR": str(data_dir), "FLOWBUILDER_PORT": str(self.port)} | env
        with self.output.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", *flags],
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        """Return all that it printed."""
        return self.output.read_text()

    def ready(self, seconds: float = 90) -> RunningStack:
        """Wait until it serves; fails with its output when it does not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            stack = running_stack(self.data_dir)
            if stack is not None:
                return stack
            time.sleep(0.1)
        pytest.fail(f"the stack did not start (exit code {self.process.returncode}):\n{self.text}")

    def ended(self, seconds: float = 60) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(seconds)

    def manage(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a second shell does: same data directory and port, nothing else."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.env | env, capture_output=True, text=True, timeout=100)

    def processes(self) -> dict[int, str]:
        """Return the processes that belong to this data directory."""
        return self.processes_of(self.data_dir)

    @staticmethod
    def processes_of(data_dir: Path) -> dict[int, str]:
        """Return the processes that belong to a data directory, wherever they hang in the tree.

        They have it in their environment, as their directory (Redis overwrites its environment), or on
        their command line (Chromium's profile).
        """
        found = {}
        mark = f"FLOWBUILDER_DATA_DIR={data_dir}\0".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                if (
                    mark in (folder / "environ").read_bytes() + b"\0"
                    or f"{os.readlink(folder / 'cwd')}/".startswith(f"{data_dir}/")
                    or f"{data_dir}/".encode() in command
                ):
                    found[int(folder.name)] = command.decode(errors="replace").replace("\0", " ")
        return found

    def tree(self) -> dict[int, int]:
        """Return pid and start time of every process below this one, whatever it calls itself."""
        parents = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        below, last = {self.process.pid}, 0
        while len(below) != last:
            last = len(below)
            below |= {pid for pid, parent in parents.items() if parent in below}
        return {pid: start for pid in below if (start := kernel_start_time(pid)) is not None}

    def gone(self, seconds: float = 15, *, seen: dict[int, int] | None = None) -> dict[int, str]:
        """Wait until no process is left, also none of those in ``seen``; return those that still are."""
        end = time.monotonic() + seconds
        while True:
            left = self.processes()
            for pid, start in (seen or {}).items():
                if kernel_start_time(pid) == start:
                    left[pid] = "seen before"
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.1)

    def close(self) -> None:
        """End whatever is left."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(60)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def get(port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of an address on this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return a data directory that does not exist yet."""
    return tmp_path / "var"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Give a stack with the demo that serves all tests of a module."""
    quick = {"FLOWBUILDER_CODE_NODES": "on", "FLOWBUILDER_ISOLATED_IDLE_SECONDS": "3"}
    stack = Up(tmp_path_factory.mktemp("up") / "var", **quick)
    try:
        stack.ready()
        yield stack
    finally:
        stack.close()
