"""Where the running stack of an installation is, and how a command gets one.

A stack is what ``./flow up`` starts: Redis, web, workers, beat and the demo site. While it serves,
``run.json`` in the data directory names it, so that a second shell speaks to the same installation.
Settings import this module: at the top it knows the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent
RUN_FILE = "run.json"
ISOLATED_MARK = "isolated.wanted"
"""Touched in the data directory whenever a node goes to the isolated worker, or ends there."""
LOG_FILE = "stack.log"
START_SECONDS = 120
STOP_SECONDS = 60
LEASE_FRESH_MICROSECONDS = 30_000_000

FAILED, MISSING = 1, 3
"""Exit codes: something went wrong; something that is needed is not there."""


class StackError(Exception):
    """The stack cannot start or is not what a command needs; ``exit_code`` is for the shell."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class RunningStack:
    """What ``run.json`` says. ``started`` is the kernel's start time of ``pid``, so a reused pid is not mistaken.

    ``demo_url`` is empty without the demo site. ``processes`` maps names like ``web`` and ``worker1`` to pids.
    """

    pid: int
    started: int
    port: int
    redis_url: str
    demo_url: str
    web: str
    processes: dict[str, int] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, object]:
        """Return what templates read as ``{{ vars.name }}`` because of this stack."""
        found: dict[str, object] = {"base_url": self.web}
        if self.demo_url:
            found["demo_url"] = self.demo_url
        return found


def running_redis_url(data_dir: Path) -> str | None:
    """Return the address of the Redis of the stack that serves ``data_dir`` now, or None."""
    stack = running_stack(data_dir)
    return stack.redis_url if stack else None


def running_stack(data_dir: Path) -> RunningStack | None:
    """Return the stack that serves ``data_dir`` on this machine now, or None. Reads one small file."""
    try:
        data = json.loads((data_dir / RUN_FILE).read_text())
        stack = RunningStack(**data)
    except (OSError, ValueError, TypeError):
        return None
    return stack if kernel_start_time(stack.pid) == stack.started else None


def write_run_file(data_dir: Path, stack: RunningStack) -> None:
    """Say that ``stack`` serves; readers see the old file or the new one, never half of it."""
    temporary = data_dir / f".{RUN_FILE}.{os.getpid()}"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(stack), file)
    temporary.replace(data_dir / RUN_FILE)


def remove_run_file(data_dir: Path) -> None:
    """Say that nothing serves ``data_dir`` any more."""
    (data_dir / RUN_FILE).unlink(missing_ok=True)


def kernel_start_time(pid: int) -> int | None:
    """Return when process ``pid`` started (clock ticks since boot; 0 where /proc is missing), None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return 0
    return None if fields[0] in "ZX" else int(fields[19])


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def die_with_parent(number: int = signal.SIGTERM) -> Callable[[], None] | None:
    """Return a ``preexec_fn`` that sends the child signal ``number`` when its parent dies (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def preexec() -> None:
        prctl(1, number)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return preexec


@contextlib.contextmanager
def ensure_stack(say: Callable[[str], None]) -> Iterator[RunningStack]:
    """Give a running stack: the one of this data directory, else one that lives as long as the block.

    ``say`` gets the messages for people. Afterwards this process speaks to that stack's Redis.

    Raises:
        StackError: it could not be started; the message has the reason.
    """
    from django.conf import settings

    stack = running_stack(settings.DATA_DIR) or _remote_stack()
    if stack is not None:
        _speak_to(stack)
        yield stack
        return
    say("nothing is running here: starting Flow Builder for the time of this command")
    process = _start(settings.DATA_DIR)
    try:
        stack = _wait(process, settings.DATA_DIR)
        _speak_to(stack)
        yield stack
    finally:
        _stop(process)


def _remote_stack() -> RunningStack | None:
    """Return a stack made of processes that nobody supervises here: ``REDIS_URL`` is set and a worker lives."""
    if not os.environ.get("REDIS_URL"):
        return None
    from django.apps import apps
    from django.conf import settings
    from django.db import Error

    lease = apps.get_model("executions", "WorkerLease")
    try:
        alive = lease.objects.filter(beat_at__gte=time.time_ns() // 1000 - LEASE_FRESH_MICROSECONDS).exists()
    except Error:  # no tables yet: the stack that is started makes them
        return None
    if not alive:
        return None
    demo_url = str(settings.WORKFLOW_VARS.get("demo_url", ""))
    web = str(settings.WORKFLOW_VARS.get("base_url", f"http://127.0.0.1:{settings.PORT}"))
    return RunningStack(0, 0, settings.PORT, settings.REDIS_URL, demo_url, web)


def _start(data_dir: Path) -> subprocess.Popen[bytes]:
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / LOG_FILE).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flowbuilder.supervisor", "--port", str(free_port()), "--private"],
            cwd=BASE_DIR,
            env={**os.environ, "FLOWBUILDER_DATA_DIR": str(data_dir)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )


def _wait(process: subprocess.Popen[bytes], data_dir: Path) -> RunningStack:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        stack = running_stack(data_dir)
        if stack is not None and stack.pid == process.pid:
            return stack
        if process.poll() is not None:
            break
        time.sleep(0.05)
    log = data_dir / LOG_FILE
    lines = log.read_text(errors="replace").splitlines()[-12:]
    code = MISSING if process.returncode == MISSING else FAILED
    raise StackError("\n".join([f"Flow Builder did not start ({log}):", *lines]), code)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _speak_to(stack: RunningStack) -> None:
    """Make this process use the stack's Redis and variables; its settings were read before the stack was there."""
    import celery
    from channels.layers import channel_layers
    from django.conf import settings

    settings.WORKFLOW_VARS = stack.variables | settings.WORKFLOW_VARS
    if not os.environ.get("FLOWBUILDER_URL"):
        settings.PUBLIC_URL = stack.web
    if stack.redis_url == settings.REDIS_URL:
        return
    os.environ["REDIS_URL"] = settings.REDIS_URL = stack.redis_url
    broker = stack.redis_url.replace("unix://", "redis+socket://")
    settings.CELERY_BROKER_URL = settings.CELERY_RESULT_BACKEND = broker
    celery.current_app.conf.update(broker_url=broker, result_backend=broker)
    layers: Any = settings.CHANNEL_LAYERS
    layers["default"]["CONFIG"]["hosts"] = [stack.redis_url]
    channel_layers.backends.clear()
