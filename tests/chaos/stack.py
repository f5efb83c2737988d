"""The processes that are killed, and the supervisor that starts them again: workers, two beats, Redis."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from executions.models import WorkerLease
from flowbuilder.stack import die_with_parent
from flowbuilder.supervisor import HAND_OVER_SECONDS
from tests.chaos.load import again
from tests.environment import HOME, ROOT, redis_server

WORKER = ("worker", "--pool=threads", "-c", "8", "-Q", "control,default,browser", "-l", "INFO",
          "--without-gossip", "--without-mingle")  # fmt: skip
ISOLATED = (
    "worker",
    "--pool=prefork",
    "-c",
    "2",
    "-Q",
    "isolated",
    "-l",
    "INFO",
    "--without-gossip",
    "--without-mingle",
)
BEAT = ("beat", "-l", "INFO", "--pidfile=")
REDIS_OPTIONS = ("--appendonly", "yes", "--appendfsync", "everysec")
DRAIN_SECONDS = 3
"""How long a worker that is told to end lets its nodes run: some end, and some it gives away."""
BOUND_SECONDS = 20 + HAND_OVER_SECONDS
"""After so long ``./flow up`` kills a worker that it told to end, unless settings say otherwise."""
OUTAGE_SECONDS = 30.0
"""By how much longer it may take while the database or Redis is away, or a process of its pool is frozen."""


class Process:
    """One process of the stack, through all its lives. ``boot`` is the id of its present life, once it has a lease."""

    def __init__(self, name: str, arguments: Iterable[str], log_dir: Path) -> None:
        self.name, self._arguments = name, tuple(arguments)
        self._log = log_dir / f"{name}.log"
        self.is_worker = "worker" in self._arguments
        self.is_prefork = "--pool=prefork" in self._arguments
        self.boot = ""
        self.frozen_until = 0.0
        self.start_at = self._told_at = 0.0
        self.drains: list[float] = []
        self.lives = 0
        self.start()

    def start(self) -> None:
        """Start it; what it writes is appended to its log."""
        self.lives += 1
        self.boot, self.start_at, self._told_at = "", 0.0, 0.0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "flowbuilder", *self._arguments],
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1",
                     "FLOWBUILDER_LOG_LEVEL": "INFO", "FLOWBUILDER_DRAIN_SECONDS": str(DRAIN_SECONDS)},
                cwd=ROOT, stdout=log, stderr=log, preexec_fn=die_with_parent(signal.SIGKILL),
                start_new_session=True,  # the end of a shell sends SIGHUP to groups in which something is stopped
            )  # fmt: skip
            log.write(f"=== {self.name} life {self.lives}, pid {self._process.pid}, {time.time():.3f}\n".encode())

    @property
    def pid(self) -> int:
        """Return the number of its present process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Return whether it runs, frozen or not."""
        return self._process.poll() is None

    @property
    def frozen(self) -> bool:
        """Return whether we stopped it."""
        return self.frozen_until > 0

    @property
    def draining(self) -> bool:
        """Return whether it was told to end, and nobody has seen yet that it did."""
        return self._told_at > 0

    def ready(self) -> bool:
        """Return whether it runs, is neither frozen nor about to end, and has its lease: before, signals just end it."""
        if not self.alive or self.frozen or self.draining:
            return False
        if not self.boot:
            pids = self.children() if self.is_prefork else [self.pid]
            self.boot = again(WorkerLease.objects.filter(pid__in=pids).values_list("boot", flat=True).first) or ""
        return bool(self.boot)

    def children(self) -> list[int]:
        """Return the pids of its child processes: of a prefork worker, its pool."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def kill(self, restart_after: float) -> None:
        """Kill it as a crash would; ``keep`` starts it again after so many seconds."""
        self._process.kill()
        self._process.wait()
        self.frozen_until, self._told_at, self.start_at = 0.0, 0.0, time.monotonic() + restart_after

    def freeze(self, seconds: float) -> None:
        """Stop it without ending it; ``keep`` lets it go on after so many seconds."""
        self._process.send_signal(signal.SIGSTOP)
        self.frozen_until = time.monotonic() + seconds

    def drain(self) -> None:
        """Tell it to end, once, as whoever restarts workers in turn does; ``keep`` starts it again when it has."""
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGTERM)
        self.frozen_until, self._told_at = 0.0, time.monotonic()

    def keep(self, *, now: bool = False) -> str:
        """Let it go on, or start it again, when its time has come (or ``now``); return what it did amiss by itself."""
        amiss = ""
        moment = time.monotonic()
        if self.frozen and (now or moment >= self.frozen_until):
            self._process.send_signal(signal.SIGCONT)
            self.frozen_until = 0.0
        if self.draining:
            amiss = self.see_whether_ended(BOUND_SECONDS + OUTAGE_SECONDS)
        if not self.alive:
            if not self.start_at:
                amiss = f"{self.name} (life {self.lives}) ended by itself with status {self._process.returncode}"
                self.start_at = moment + 0.5
            if now or moment >= self.start_at:
                self.start()
        return amiss

    def see_whether_ended(self, bound: float) -> str:
        """Note how long it took to end once it has; end it after ``bound`` seconds. Return a complaint, or nothing."""
        took = time.monotonic() - self._told_at
        if self.alive:
            if took < bound:
                return ""
            self._process.send_signal(signal.SIGABRT)  # its log then says what each of its threads was at
            time.sleep(1)
            self.kill(0)
            return f"{self.name} (life {self.lives}) did not end within {bound:.0f} s of SIGTERM"
        self.drains.append(took)
        self._told_at, self.start_at = 0.0, time.monotonic()
        status = self._process.returncode
        return f"{self.name} (life {self.lives}) ended with status {status} when it was told to end" if status else ""

    def end_now(self) -> None:
        """End it whatever it does."""
        if self.alive:
            self._process.kill()
            self._process.wait()


class Redis:
    """The Redis of the run: killed and started again, with what it wrote or without."""

    def __init__(self) -> None:
        self._start_at = 0.0
        redis_server.kill()
        redis_server.start(*REDIS_OPTIONS)

    @property
    def alive(self) -> bool:
        """Return whether it runs."""
        return redis_server.process is not None

    @property
    def pid(self) -> int:
        """Return the number of its process, 0 when it does not run."""
        return redis_server.process.pid if redis_server.process else 0

    def kill(self, restart_after: float, *, lose: bool) -> None:
        """Kill it; ``keep`` starts it again, and with ``lose`` it will have forgotten everything."""
        redis_server.kill()
        self._start_at = time.monotonic() + restart_after
        if lose:
            (HOME / "appendonly.aof").unlink(missing_ok=True)
            shutil.rmtree(HOME / "appendonlydir", ignore_errors=True)

    def keep(self, *, now: bool = False) -> None:
        """Start it again when its time has come."""
        if not self.alive and (now or time.monotonic() >= self._start_at):
            redis_server.start(*REDIS_OPTIONS)


class Stack:
    """Everything that runs beside the harness."""

    def __init__(self, workers: int, log_dir: Path) -> None:
        self.redis = Redis()
        self.workers = [Process(f"worker{n}", WORKER, log_dir) for n in range(1, workers + 1)]
        self.isolated = Process("isolated", (*ISOLATED, "-n", "isolated@%h"), log_dir)
        self.beats = [
            Process(f"beat{n}", (*BEAT, "-s", str(HOME / f"beat{n}-schedule")), log_dir) for n in (1, 2)
        ]  # fmt: skip

    @property
    def processes(self) -> list[Process]:
        """Return workers (the last one is prefork) and beats."""
        return [*self.workers, self.isolated, *self.beats]

    def keep(self, *, now: bool = False) -> list[str]:
        """Do what a supervisor does; return which processes ended by themselves."""
        self.redis.keep(now=now)
        return [died for process in self.processes if (died := process.keep(now=now))]

    def stop(self) -> list[str]:
        """Tell all to end, once; return what did not end well, or not within its bound."""
        for process in self.processes:
            if process.alive and not process.draining:
                process.drain()
        complaints: list[str] = []
        while waiting := [process for process in self.processes if process.draining]:
            complaints += [said for process in waiting if (said := process.see_whether_ended(BOUND_SECONDS))]
            time.sleep(0.02)
        return complaints

    def end_now(self) -> None:
        """End everything at once."""
        for process in self.processes:
            process.end_now()
