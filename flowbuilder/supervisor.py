"""The parent of all processes that ``./flow up`` starts: it starts, watches, restarts and stops them.

Standard library only: it lives as long as the stack and should cost little memory.

Order up: Redis, then the database (``flowbuilder.installation``) beside the demo site, then worker, web and
beat. Order down: web and beat, worker (warm: running nodes may end), demo site, Redis. Nothing outlives it:
children are told when it dies, and what they leave behind is adopted and ended.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from flowbuilder.redis import HOW_TO_GET, EmbeddedRedis, embedded_redis, find_redis_server, wait_until_silent
from flowbuilder.stack import (
    BASE_DIR,
    ISOLATED_MARK,
    MISSING,
    RunningStack,
    StackError,
    die_with_parent,
    free_port,
    kernel_start_time,
    remove_run_file,
    running_stack,
    write_run_file,
)

READY_SECONDS = 90
QUICK_STOP_SECONDS = 10
HAND_OVER_SECONDS = 10
STEADY_SECONDS = 60
ISOLATED_IDLE_SECONDS = 900
"""No node runs longer, so a worker that heard nothing for this time runs none."""
LONGEST_BACKOFF_SECONDS = 30
ISOLATED_SLOTS = 2
COLOURS = {"isolated": 31, "redis": 35, "setup": 37, "demo": 36, "web": 32, "worker": 34, "beat": 33}


class Stopping(Exception):
    """Somebody asked us to end before everything was ready."""


def drain_seconds() -> float:
    """Return how long workers let their nodes run when they are told to end; settings name a text that is no number."""
    try:
        return float(os.environ.get("FLOWBUILDER_DRAIN_SECONDS") or 20)
    except ValueError:
        return 20.0


def say(message: str) -> None:
    """Print a message for the person on stderr."""
    print(f"flow: {message}", file=sys.stderr, flush=True)


class Child:
    """One process of the stack and the thread that prints its output behind its name."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: dict[str, str],
        *,
        stop_seconds: float = QUICK_STOP_SECONDS,
        configuration: str | None = None,
        talks: bool = False,
        quiet: bool = False,
        orphan_signal: int = signal.SIGTERM,
    ) -> None:
        self.name, self.command, self.env, self.stop_seconds, self.quiet = name, command, env, stop_seconds, quiet
        self.configuration, self.talks, self.orphan_signal = configuration, talks, orphan_signal
        self.last_lines: deque[str] = deque(maxlen=15)
        self.restarts, self.restart_at, self.retires = 0, 0.0, False
        self.start()

    def start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches only the supervisor."""
        self.process = subprocess.Popen(
            self.command,
            cwd=BASE_DIR,
            env=self.env,
            stdin=subprocess.PIPE if self.configuration is not None or self.talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if self.talks else subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(self.orphan_signal),
        )
        self.started = time.monotonic()
        if self.configuration is not None and self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(self.configuration.encode())
                self.process.stdin.close()
        output = self.process.stderr if self.talks else self.process.stdout
        self._pump = threading.Thread(target=self._print, args=(output,), daemon=True)
        self._pump.start()

    def _print(self, output: Any) -> None:
        prefix = f"{self.name:<8}| "
        if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
            prefix = f"\033[{COLOURS[self.name.rstrip('0123456789')]}m{prefix}\033[0m"
        for raw in output:
            line = raw.decode(errors="replace").rstrip()
            self.last_lines.append(line)
            if self.quiet:
                continue
            with contextlib.suppress(OSError):  # the terminal is gone; the process must not block on us
                sys.stderr.write(f"{prefix}{line}\n")
                sys.stderr.flush()

    @property
    def code(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self.process.poll()

    def report(self) -> str:
        """Return how it ended and its last lines."""
        self._pump.join(1)
        end = f"ended with status {self.code}" if self.code is not None else "is not ready"
        return "\n".join([f"{self.name} {end}; its last lines:", *(f"  {line}" for line in self.last_lines)])


class Supervisor:
    """See the module. ``run`` returns the exit code."""

    def __init__(self, options: argparse.Namespace, data_dir: Path) -> None:
        self.options, self.data_dir = options, data_dir
        self.port: int = options.port
        self.demo_port = 0 if options.no_demo else free_port()
        self.web_url = f"http://127.0.0.1:{self.port}"
        self.demo_url = f"http://127.0.0.1:{self.demo_port}" if self.demo_port else ""
        self.children: list[Child] = []
        self.signals = 0
        self._isolated_since = time.time()
        self._wake: SimpleQueue[int] = SimpleQueue()  # unlike an Event, a handler that is interrupted may put into it

    def run(self) -> int:
        """Start everything, serve until told to stop, stop everything."""
        with lock(self.data_dir):
            check_port(self.port)
            redis, program = self._find_redis()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, self._signalled)
            adopt_orphans()
            say(f"starting on port {self.port}, data in {self.data_dir}")
            try:
                self._start(redis, program)
                self._watch()
            except Stopping:
                pass
            finally:
                remove_run_file(self.data_dir)
                self._stop()
        return 0

    # ------------------------------------------------------------------ up

    def _find_redis(self) -> tuple[EmbeddedRedis | None, str]:
        if os.environ.get("REDIS_URL"):
            return None, ""
        program = find_redis_server()
        if program is None:
            raise StackError(HOW_TO_GET, MISSING)
        return embedded_redis(self.data_dir), program

    def _start(self, redis: EmbeddedRedis | None, program: str) -> None:
        env = self._environment(redis.url if redis else os.environ["REDIS_URL"])
        if redis is not None:
            if not wait_until_silent(redis, QUICK_STOP_SECONDS):
                raise StackError(f"another Redis serves {redis.address}; end it first")
            child = self._child("redis", [program, "-"], env, configuration=redis.configuration, quiet=True)
            self._until(redis.answers, child)
        uvicorn = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--log-level", "warning"]
        uvicorn += ["--no-proxy-headers", "--timeout-graceful-shutdown", "5"]
        sockets = ["--ws-per-message-deflate", "false", "--ws-max-size", "65536"]
        if self.demo_port:
            self._child("demo", [*uvicorn, "--port", str(self.demo_port), "flowbuilder.demo.site:application"], env)

        flags = ["--demo"] if self.demo_port else []
        flags += ["--private"] if self.options.private else []
        setup = self._child(
            "setup", [sys.executable, "-m", "flowbuilder.installation", *flags], env, talks=True, quiet=True
        )
        account = self._answer(setup)
        if account["password"]:
            self._show_account(account)
        if not account["chromium"]:
            say("no Chromium was found: browser nodes will fail, the rest works. ./flow doctor says how to get one")
        if os.geteuid() == 0:
            say("running as root: Chromium has no sandbox then; an ordinary user is better")
            env["PYTHONWARNINGS"] = "ignore:You're running the worker with superuser privileges"

        self._env = env
        celery = [sys.executable, "-m", "celery", "-A", "flowbuilder", "--quiet"]
        workers = [
            self._child(
                f"worker{number}" if self.options.workers > 1 else "worker",
                [*celery, "worker", "--pool=threads", "-Q", "control,default,browser",
                 "-l", "WARNING", "--without-gossip", "--without-mingle", "-n", f"worker{number}-{os.getpid()}@%h"],
                env, stop_seconds=drain_seconds() + HAND_OVER_SECONDS, orphan_signal=signal.SIGKILL,  # a warm end may take minutes
            )
            for number in range(1, self.options.workers + 1)
        ]  # fmt: skip
        web = self._child("web", [*uvicorn, *sockets, "--port", str(self.port), "flowbuilder.asgi:application"], env)
        if not self.options.no_beat:
            workers.append(self._child("beat", [*celery, "beat", "-l", "WARNING"], env))
        self._until(self._ask(setup, [worker.process.pid for worker in workers]), *workers)
        self.children.remove(setup)
        setup.process.wait()
        self._until(self._web_serves, web)
        if self.demo_url:
            self._until(lambda: answers(self.demo_port), next(c for c in self.children if c.name == "demo"))
        self._redis_url = env["REDIS_URL"]
        self._write_run_file()
        if not self.options.private:
            print(f"\nFlow Builder is ready: {self.web_url}/admin/   (user {account['user']}; Ctrl-C stops it)\n")
            sys.stdout.flush()

    def _environment(self, redis_url: str) -> dict[str, str]:
        """Return what the children get: the caller's environment plus the addresses of this stack."""
        env = dict(os.environ)

        def add(name: str, *values: str) -> None:
            env[name] = ",".join([*filter(None, [env.get(name, "").strip()]), *values])

        own = [f"127.0.0.1:{port}" for port in (self.demo_port, self.port) if port]
        add("FLOWBUILDER_EGRESS_ALLOW", *own)
        if env.get("FLOWBUILDER_ALLOWED_HOSTS"):
            add("FLOWBUILDER_ALLOWED_HOSTS", "127.0.0.1")
        variables = {"base_url": self.web_url} | ({"demo_url": self.demo_url} if self.demo_url else {})
        with contextlib.suppress(ValueError):  # settings name a text that is not JSON
            env["FLOWBUILDER_VARS"] = json.dumps(variables | json.loads(env.get("FLOWBUILDER_VARS") or "{}"))
        env.setdefault("FLOWBUILDER_DEMO_LEDGER", str(self.data_dir / "demo-deliveries.jsonl"))
        return env | {
            "REDIS_URL": redis_url,
            "FLOWBUILDER_DATA_DIR": str(self.data_dir),
            "FLOWBUILDER_PORT": str(self.port),
            "FLOWBUILDER_NO_BEAT": "1" if self.options.no_beat else "0",
            "DJANGO_SETTINGS_MODULE": "flowbuilder.settings",
            "PYTHONUNBUFFERED": "1",
        }

    def _child(self, name: str, command: Sequence[str], env: dict[str, str], **options: Any) -> Child:
        child = Child(name, command, env, **options)
        self.children.append(child)
        return child

    def _answer(self, setup: Child) -> dict[str, Any]:
        """Return the one line of JSON that the preparation prints when the database is ready."""
        lines: list[bytes] = []
        output: Any = setup.process.stdout
        reader = threading.Thread(target=lambda: lines.append(output.readline()), daemon=True)
        reader.start()
        end = time.monotonic() + READY_SECONDS * 4  # a big database may migrate for a while
        while reader.is_alive():
            self._pause()
            if time.monotonic() > end:
                raise StackError(setup.report())
        if not lines or not lines[0].strip():
            setup.process.wait(QUICK_STOP_SECONDS)
            if setup.code == MISSING:  # it said which thing in one line
                setup.report()
                raise StackError(setup.last_lines[-1] if setup.last_lines else setup.report(), MISSING)
            raise StackError(setup.report())
        answer: dict[str, Any] = json.loads(lines[0])
        return answer

    @staticmethod
    def _ask(setup: Child, pids: list[int]) -> Callable[[], bool]:
        """Tell the preparation which processes to wait for; it ends with status 0 when all hold a lease."""
        stdin: Any = setup.process.stdin
        stdin.write(json.dumps(pids).encode() + b"\n")
        stdin.close()

        def ready() -> bool:
            if setup.code not in (None, 0):
                raise StackError(setup.report())
            return setup.code == 0

        return ready

    def _until(self, ready: Callable[[], bool], *needed: Child) -> None:
        """Wait for ``ready``; a child that ends before, or takes too long, stops everything."""
        end = time.monotonic() + READY_SECONDS
        while not ready():
            for child in self.children:
                if child.code is not None and not child.talks:
                    raise StackError(child.report())
            if time.monotonic() > end:
                raise StackError("\n".join(child.report() for child in needed))
            self._pause()

    def _web_serves(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _write_run_file(self) -> None:
        processes = {child.name: child.process.pid for child in self.children}
        started = kernel_start_time(os.getpid()) or 0
        write_run_file(
            self.data_dir,
            RunningStack(os.getpid(), started, self.port, self._redis_url, self.demo_url, self.web_url, processes),
        )

    @staticmethod
    def _show_account(account: dict[str, Any]) -> None:
        print(
            f"\n  user      {account['user']}\n  password  {account['password']}   (shown only this once)\n", flush=True
        )

    # ------------------------------------------------------------------ serve

    def _watch(self) -> None:
        """Restart children that end, each time a little later, until somebody asks us to stop."""
        while True:
            self._pause(0.5)
            reap_adopted({child.process.pid for child in self.children})
            self._mind_isolated()
            for child in self.children:
                now = time.monotonic()
                if child.retires:
                    continue
                if child.restart_at:
                    if now >= child.restart_at:
                        child.restart_at = 0.0
                        child.start()
                        self._write_run_file()
                elif child.code is not None:
                    child.restarts = 0 if now - child.started > STEADY_SECONDS else child.restarts + 1
                    wait = min(2 ** max(child.restarts - 1, 0), LONGEST_BACKOFF_SECONDS)
                    say(f"{child.name} ended with status {child.code}; starting it again in {wait} s")
                    child.restart_at = now + wait

    def _mind_isolated(self) -> None:
        """Start the worker for isolated nodes when one is under way, end it after it had nothing to do for a while.

        Whoever sends such a node touches a file (``executions.tasks``), and so does the worker after each.
        """
        wanted = _modified(self.data_dir / ISOLATED_MARK)
        child = next((child for child in self.children if child.name == "isolated"), None)
        if child is None:
            if wanted > self._isolated_since:
                self._start_isolated()
        elif child.retires:
            if child.code is not None:
                self.children.remove(child)
                self._write_run_file()
        elif wanted > self._isolated_since and time.time() - wanted > self._isolated_idle:
            child.retires, self._isolated_since = True, time.time()
            child.process.terminate()

    def _start_isolated(self) -> None:
        say("a workflow has isolated nodes: starting the worker for them")
        self._isolated_since = time.time()
        self._child(
            "isolated",
            [sys.executable, "-m", "celery", "-A", "flowbuilder", "--quiet", "worker", "--pool=prefork",
             "-c", str(ISOLATED_SLOTS), "-Q", "isolated", "-l", "WARNING", "--without-gossip", "--without-mingle",
             "-n", f"isolated-{os.getpid()}@%h"],
            self._env, stop_seconds=drain_seconds() + HAND_OVER_SECONDS, orphan_signal=signal.SIGKILL,
        )  # fmt: skip
        self._write_run_file()

    @property
    def _isolated_idle(self) -> float:
        return float(os.environ.get("FLOWBUILDER_ISOLATED_IDLE_SECONDS") or ISOLATED_IDLE_SECONDS)

    def _pause(self, seconds: float = 0.1) -> None:
        with contextlib.suppress(Empty):
            self._wake.get(timeout=seconds)
            raise Stopping

    def _signalled(self, number: int, _frame: object) -> None:
        self.signals += 1
        self._wake.put(number)

    # ------------------------------------------------------------------ down

    def _stop(self) -> None:
        """Stop in order; a second signal, or too long a wait, kills."""
        if any(child.name.startswith("worker") and child.code is None for child in self.children) and self.signals:
            say("stopping; running nodes get a moment to end (Ctrl-C again stops at once)")
        patience = max(self.signals, 1)
        for names in (("setup", "web", "beat"), ("worker", "isolated"), ("demo",), ("redis",)):
            group = [child for child in self.children if child.name.rstrip("0123456789") in names]
            for child in group:
                if child.code is None:
                    child.process.terminate()
            for child in group:
                end = time.monotonic() + child.stop_seconds
                while child.code is None and time.monotonic() < end and self.signals <= patience:
                    time.sleep(0.02)
                if child.code is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.process.pid, signal.SIGKILL)
                    child.process.wait()
        kill_adopted()


@contextlib.contextmanager
def lock(data_dir: Path) -> Iterator[None]:
    """Hold the data directory: one stack each. The kernel frees it however we end."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stack = running_stack(data_dir)
            where = f"at {stack.web} (process {stack.pid})" if stack else "and is just starting or stopping"
            raise StackError(
                f"Flow Builder already runs for {data_dir} {where}. "
                "Stop it first, or set FLOWBUILDER_DATA_DIR to another directory.",
                MISSING,
            ) from None
        yield


def check_port(port: int) -> None:
    """Raise StackError when somebody else listens on ``port``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackError(
                f"port {port} cannot be used ({error.strerror}); choose another: ./flow up --port {port + 1}", MISSING
            ) from error


def answers(port: int) -> bool:
    """Return whether somebody listens on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def adopt_orphans() -> None:
    """Become the parent of what our children leave behind (Linux), so that it can be ended."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def reap_adopted(own: set[int]) -> None:
    """Collect adopted processes that have ended."""
    for pid in _direct_children() - own:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def kill_adopted() -> None:
    """End every process that is still below us; all of them came from our children."""
    for _round in range(50):
        rest = _direct_children()
        if not rest:
            return
        for pid in rest:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _modified(path: Path) -> float:
    """Return when a file was last touched (seconds since the epoch), 0 when there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _direct_children() -> set[int]:
    pids: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            pids.update(map(int, path.read_text().split()))
    return pids


def parser() -> argparse.ArgumentParser:
    """Return the options that ``./flow up`` shares."""
    options = argparse.ArgumentParser(prog="./flow up", add_help=False)
    add_options(options)
    options.add_argument("--private", action="store_true", help=argparse.SUPPRESS)
    return options


def add_options(options: argparse.ArgumentParser) -> None:
    """Add the options of ``./flow up``."""
    port = int(os.environ.get("FLOWBUILDER_PORT") or 8000)
    options.add_argument("--port", type=int, default=port, metavar="N", help=f"port of the web pages (default {port})")
    options.add_argument("--workers", type=int, default=1, metavar="N", help="number of worker processes (default 1)")
    options.add_argument("--no-beat", action="store_true", help="without the scheduler")
    options.add_argument("--no-demo", action="store_true", help="without demo site and example workflows")


def main(arguments: Sequence[str]) -> int:
    """Run the stack for ``FLOWBUILDER_DATA_DIR``; return the exit code."""
    options = parser().parse_args(arguments)
    if options.workers < 1 or not 0 < options.port < 65536:
        parser().error("--workers must be at least 1 and --port between 1 and 65535")
    try:
        return Supervisor(options, Path(os.environ.get("FLOWBUILDER_DATA_DIR") or BASE_DIR / "var")).run()
    except StackError as error:
        say(str(error))
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
