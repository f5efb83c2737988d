"""Kill anything: a seeded schedule of faults against real processes under load, then every invariant.

The schedule (when, what, which one, for how long) is drawn from the seed before anything starts; what a fault
hits also depends on timing, so that a replay repeats the schedule, not the microseconds.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.db import connection

from executions import states, store
from executions.models import DeadLetter, Execution, NodeRun, WorkerLease
from recordings.models import Event
from tests.chaos import invariants
from tests.chaos.invariants import Finding, processes_of
from tests.chaos.load import Load, again, unexpected_ends
from tests.chaos.sink import Sink
from tests.chaos.stack import Process, Stack

MEAN_SECONDS = 2.0
WORKERS = 3
READY_SECONDS = 90.0
STUCK_SECONDS = 160.0
"""Longer than any node of the load may take."""
LONGEST_REST_SECONDS = 300.0
LEAK_SECONDS = 20.0
PROGRESS = ("workflow_start", "node_start", "node_retry", "node_complete", "node_error", "node_skipped")

WEIGHTS = {
    "worker killed": 30, "worker frozen": 8, "worker drained": 12, "beat killed": 10, "beat frozen": 3, "redis killed": 7, "redis lost": 6,
    "redis frozen": 5, "redis emptied": 6, "postgres cut": 16, "postgres frozen": 6, "chromium killed": 10,
    "chromium frozen": 5, "pool child killed": 8, "pool child frozen": 5,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of the schedule: seconds from the start, what, and two numbers in [0, 1) for which one and how long."""

    at: float
    kind: str
    which: float
    span: float


def schedule(seed: int, seconds: float, kinds: Sequence[str]) -> list[Fault]:
    """Return the faults of a run: on average one every two seconds; the same seed gives the same list."""
    drawn = random.Random(seed)
    faults: list[Fault] = []
    at = 1.0
    while (at := at + drawn.expovariate(1 / MEAN_SECONDS)) < seconds:
        kind = drawn.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
        faults.append(Fault(at, kind, drawn.random(), drawn.random()))
    return faults


def _lease_or_longer(fault: Fault) -> float:
    """Return for how many seconds something is frozen that holds a lease: mostly shorter than that, else longer."""
    return 0.5 + 5 * fault.span if fault.span < 0.6 else 10 + 15 * fault.span


class Frozen:
    """Processes that nobody keeps alive one by one, stopped for a while.

    A timer lets each go on: our own next query may wait for it.
    """

    def __init__(self) -> None:
        self._timers: list[tuple[int, threading.Timer]] = []

    def freeze(self, pid: int, seconds: float) -> bool:
        """Stop a process for so many seconds; return whether there was one. 0 is none."""
        if not pid or not _signal(pid, signal.SIGSTOP):
            return False
        timer = threading.Timer(seconds, _signal, (pid, signal.SIGCONT))
        timer.daemon = True
        timer.start()
        self._timers.append((pid, timer))
        return True

    def holds(self, pid: int) -> bool:
        """Return whether a process is still to go on."""
        return any(held == pid and timer.is_alive() for held, timer in self._timers)

    def thaw(self) -> None:
        """Let all go on."""
        for pid, timer in self._timers:
            timer.cancel()
            _signal(pid, signal.SIGCONT)
        self._timers.clear()


def _signal(pid: int, number: signal.Signals) -> bool:
    """Send a signal; return whether there was somebody to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@dataclass(slots=True)
class Held:
    """Work that a fault took away: a node run in the hands of a process, or (without node) a queued execution."""

    kind: str
    execution_id: UUID
    node_id: str
    at_us: int


@dataclass(slots=True)
class Report:
    """What a run did and found."""

    seed: int
    seconds: float
    database: str
    logs: str
    faults: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)
    executions: Counter[str] = field(default_factory=Counter)
    node_runs: int = 0
    nodes_recovered: int = 0
    recovery: dict[str, dict[str, float]] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)
    drains: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    arrivals: int = 0
    repeats: int = 0
    unexplained_repeats: int = 0
    given_up: int = 0
    lives: int = 0
    load: float = 0.0
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Return whether every invariant held."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        names = [name for name in self.__slots__ if name != "findings"]
        return {
            "ok": self.ok, **{name: getattr(self, name) for name in names},
            "findings": [{"invariant": f.invariant, "id": f.id, "what": f.what} for f in self.findings],
        }  # fmt: skip

    def text(self) -> str:
        """Return the report for people."""
        lines = [
            f"chaos on {self.database}, seed {self.seed}, {self.seconds:.0f} s of faults",
            f"  faults        {sum(self.faults.values())}: " + _counts(self.faults),
            f"  passed over   {_counts(self.passed_over) or 'none'}",
            f"  executions    {sum(self.executions.values())}: " + _counts(self.executions),
            f"  node runs     {self.node_runs}, taken back {self.nodes_recovered}, given up {self.given_up}",
            "  end to end    " + _times(self.durations),
            *(f"  recovery      {kind}: " + _times(times) for kind, times in self.recovery.items()),
            "  told to end   " + _times(self.drains),
            "  took          " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.stages.items()),
            f"  sink          {self.arrivals} arrivals, {self.repeats} repeats of an accepted key"
            f" ({self.unexplained_repeats} that no started attempt accounts for)",
            f"  processes     {self.lives} started; load of the machine {self.load:.1f} on {os.cpu_count()} cores",
            *(f"  note          {note}" for note in self.notes),
        ]
        if self.ok:
            return "\n".join([*lines, "  every invariant held"])
        shown = [f"  {finding}" for finding in self.findings[:50]]
        return "\n".join(
            [
                *lines, f"  {len(self.findings)} VIOLATIONS (at most 50 shown)", *shown, f"  logs          {self.logs}",
                f"  replay        ./flow test --chaos {self.seconds:.0f} --seed {self.seed}"
                + (" --database postgres" if self.database == "postgresql" else ""),
            ]
        )  # fmt: skip


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))


def _times(times: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}{'' if name == 'count' else ' s'}" for name, value in times.items())


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return count, median, 99th percentile and maximum."""
    if not values:
        return {"count": 0}
    cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
    rounded = {"p50": cuts[49], "p99": cuts[98], "max": max(values)}
    return {"count": len(values), **{name: round(value, 2) for name, value in rounded.items()}}


class Chaos:
    """One run: ``run`` returns its report."""

    def __init__(
        self, seed: int, seconds: float, owner: Any, data_dir: Path, logs: Path, *, browser: bool,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.report = Report(seed, seconds, connection.vendor, str(logs))
        self._owner, self._data_dir, self._logs, self._browser, self._say = owner, data_dir, logs, browser, say
        self._held: list[Held] = []
        self._frozen = Frozen()
        self._stalled: set[str] = set()
        self._journal = (logs / "faults.log").open("w")

    def run(self) -> Report:
        """Start everything, break it for the time given, let it come to rest, and judge."""
        sink = Sink(self._logs / "ledger.jsonl")
        stack = Stack(WORKERS, self._logs)
        load = Load(sink.url, self._owner, self.report.seed, browser=self._browser, say=self._note)
        try:
            with self._stage("to start"):
                self._wait_until_ready(stack)
            load.start()
            try:
                with self._stage("faults"):
                    self._break_things(stack)
            finally:
                with self._stage("last starts"):
                    load.stop()
            with self._stage("to rest"):
                self._come_to_rest(stack)
            self.report.load = os.getloadavg()[0]
            self.report.lives = sum(process.lives for process in stack.processes)
            with self._stage("to stop"):
                self._amiss(stack.stop())
                self.report.findings += self._leaks()
                self.report.findings += self._leases()
            self.report.drains = _spread(
                [seconds for process in (*stack.workers, stack.isolated) for seconds in process.drains]
            )
        finally:
            self._frozen.thaw()
            stack.end_now()
            sink.stop()
        with self._stage("to judge"):
            self._judge(load, sink)
        return self.report

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Note how long a part of the run takes."""
        begun = time.monotonic()
        yield
        self.report.stages[name] = round(time.monotonic() - begun, 2)
        self._note(f"{name}: {self.report.stages[name]} s")

    def _note(self, what: str) -> None:
        moment = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
        self._journal.write(f"{moment} {what}\n")
        self._journal.flush()

    def _wait_until_ready(self, stack: Stack) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not all(process.ready() for process in stack.processes):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the workers did not start within {READY_SECONDS:.0f} s; see {self._logs}")
            stack.keep(now=True)
            time.sleep(0.1)

    # ------------------------------------------------------------------ faults

    def _break_things(self, stack: Stack) -> None:
        kinds = [kind for kind in WEIGHTS if self._possible(kind)]
        faults = schedule(self.report.seed, self.report.seconds, kinds)
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < self.report.seconds:
            self._amiss(stack.keep())
            if faults and faults[0].at <= passed:
                fault = faults.pop(0)
                hit = self._apply(fault, stack)
                (self.report.faults if hit else self.report.passed_over)[fault.kind] += 1
                self._note(f"{fault.kind}: {hit or 'nothing to hit'}")
            time.sleep(0.02)

    def _possible(self, kind: str) -> bool:
        if kind.startswith("postgres"):
            return connection.vendor == "postgresql"
        if kind.startswith("chromium"):
            return self._browser
        return True

    def _amiss(self, complaints: Sequence[str]) -> None:
        for complaint in complaints:
            self.report.findings.append(Finding(10, "process", complaint))
            self._note(complaint)

    def _apply(self, fault: Fault, stack: Stack) -> str:
        """Do it; return what was hit, empty when there was nothing to hit."""
        match fault.kind:
            case "worker killed" | "worker frozen":
                return self._hit_worker(fault, stack)
            case "worker drained":
                return self._drain_worker(fault, stack)
            case "beat killed":
                return self._hit_beat(fault, stack)
            case "beat frozen":
                return self._freeze(fault, [beat for beat in stack.beats if beat.ready()], 1 + 9 * fault.span)
            case "redis killed" | "redis lost" if stack.redis.alive:
                self._remember_queued(fault.kind)
                stack.redis.kill(3 * fault.span, lose=fault.kind == "redis lost")
                return f"for {3 * fault.span:.1f} s"
            case "redis frozen" if stack.redis.alive:
                self._remember_queued(fault.kind)
                return self._freeze_pid(stack.redis.pid, 0.5 + 9.5 * fault.span)
            case "redis emptied" if stack.redis.alive and not self._frozen.holds(stack.redis.pid):
                self._remember_queued(fault.kind)
                client = redis.Redis.from_url(settings.REDIS_URL)
                client.flushall()
                client.close()
                return "FLUSHALL"
            case "pool child killed":
                return self._hit_pool(fault, stack.isolated)
            case "pool child frozen":
                return self._freeze_pool_child(fault, stack.isolated)
            case "postgres cut":
                return again(lambda: _cut_connections(fault))
            case "postgres frozen":
                return self._freeze_pid(
                    again(lambda: _a_backend(fault)), 0.5 + 5 * fault.span if fault.span < 0.8 else 18
                )
            case "chromium killed":
                return _kill_chromium(fault, self._data_dir)
            case "chromium frozen":
                return self._freeze_chromium(fault)
        return ""

    def _hit_worker(self, fault: Fault, stack: Stack) -> str:
        """Kill or freeze a worker. Mostly another one is ready, so that a slow machine gets its breath."""
        ready = [worker for worker in stack.workers if worker.ready()]
        frozen = [worker for worker in stack.workers if worker.frozen and worker.alive]
        if len(ready) < 2 and fault.span > 0.25:
            return ""
        if fault.kind == "worker frozen":
            return self._freeze(fault, ready, _lease_or_longer(fault))
        candidates = [*ready, *frozen, *(worker for worker in stack.workers if worker.draining)]
        if not candidates:
            return ""
        victim = candidates[int(fault.which * len(candidates))]
        pid, was_frozen = victim.pid, victim.frozen
        victim.kill(0.2 + 2.8 * fault.span)
        self._remember_held("worker killed", victim.boot)
        return f"{victim.name} pid {pid}{' while frozen' if was_frozen else ''}"

    def _drain_worker(self, fault: Fault, stack: Stack) -> str:
        """Tell a worker, now and then the one of processes, to end as in a restart of one after the other."""
        ready = [worker for worker in stack.workers if worker.ready()]
        if len(ready) < 2 and fault.span > 0.25:
            return ""
        candidates = [*ready, *([stack.isolated] if stack.isolated.ready() else [])]
        if not candidates:
            return ""
        victim = candidates[int(fault.which * len(candidates))]
        held = again(NodeRun.objects.filter(worker=victim.boot, status__in=(states.RUNNING, states.RETRYING)).count)
        victim.drain()
        return f"{victim.name} pid {victim.pid} with {held} nodes"

    def _hit_pool(self, fault: Fault, isolated: Process) -> str:
        """Kill a child of the prefork pool, or now and then its main process, whose children are then orphans."""
        if not isolated.ready():
            return ""
        children = isolated.children()
        if fault.span < 0.25 or not children:
            pid = isolated.pid
            isolated.kill(0.2 + 2.8 * fault.which)
            return f"its main process, pid {pid}"
        pid = children[int(fault.which * len(children))]
        boots: list[str] = again(partial(list, WorkerLease.objects.filter(pid=pid).values_list("boot", flat=True)))
        os.kill(pid, signal.SIGKILL)
        for boot in boots:
            self._remember_held("pool child killed", boot)
        return f"pid {pid}"

    def _freeze_pool_child(self, fault: Fault, isolated: Process) -> str:
        children = isolated.children() if isolated.ready() else []
        if not children:
            return ""
        pid = children[int(fault.which * len(children))]
        boots: list[str] = again(partial(list, WorkerLease.objects.filter(pid=pid).values_list("boot", flat=True)))
        hit = self._freeze_pid(pid, _lease_or_longer(fault))
        for boot in boots:
            self._remember_held(fault.kind, boot)
        self._stalled.update(boots)
        return hit

    def _freeze_chromium(self, fault: Fault) -> str:
        found = _chromium(fault, self._data_dir)
        if not found:
            return ""
        pid, kind = found
        hit = self._freeze_pid(pid, 0.5 + 7 * fault.span)
        return hit and f"{kind}, {hit}"

    def _freeze_pid(self, pid: int, seconds: float) -> str:
        return f"pid {pid} for {seconds:.1f} s" if self._frozen.freeze(pid, seconds) else ""

    def _hit_beat(self, fault: Fault, stack: Stack) -> str:
        running = [beat for beat in stack.beats if beat.alive]
        if not running:
            return ""
        victim = running[int(fault.which * len(running))]
        pid = victim.pid
        victim.kill(0.2 + 2.8 * fault.span)
        return f"{victim.name} pid {pid}"

    def _freeze(self, fault: Fault, candidates: Sequence[Process], seconds: float) -> str:
        if not candidates:
            return ""
        victim = candidates[int(fault.which * len(candidates))]
        victim.freeze(seconds)
        if victim.is_worker:
            self._remember_held("worker frozen", victim.boot)
            self._stalled.add(victim.boot)
        return f"{victim.name} pid {victim.pid} for {seconds:.1f} s"

    # ------------------------------------------------------------------ recovery

    def _remember_held(self, kind: str, boot: str) -> None:
        now = store.now_us()
        rows = NodeRun.objects.filter(worker=boot, status__in=(states.RUNNING, states.RETRYING))
        for execution_id, node_id in again(lambda: list(rows.values_list("execution_id", "node_id"))):
            self._held.append(Held(kind, execution_id, node_id, now))

    def _remember_queued(self, kind: str) -> None:
        now = store.now_us()
        queued = Execution.objects.filter(status=states.QUEUED).values_list("pk", flat=True)
        for execution_id in again(lambda: list(queued)):
            self._held.append(Held(kind, execution_id, "", now))
        nodes = NodeRun.objects.filter(status=states.QUEUED).values_list("execution_id", "node_id")
        for execution_id, node_id in again(lambda: list(nodes)):
            self._held.append(Held(kind, execution_id, node_id, now))

    def _recoveries(self) -> Iterator[tuple[str, float]]:
        """Yield for every piece of work that a fault took away the seconds until it ran again, or had ended."""
        for held in self._held:
            after = Event.objects.filter(execution_id=held.execution_id, timestamp__gt=held.at_us, type__in=PROGRESS)
            if held.node_id:
                after = after.filter(node_id=held.node_id)
            moment = after.order_by("seq").values_list("timestamp", flat=True).first()
            if moment is not None:
                yield held.kind, (moment - held.at_us) / 1_000_000

    # ------------------------------------------------------------------ afterwards

    def _come_to_rest(self, stack: Stack) -> None:
        """Let everything run undisturbed until nothing is open, or nothing has moved for a long time."""
        self._frozen.thaw()
        stack.keep(now=True)
        begun = moved = time.monotonic()
        before: object = None
        while time.monotonic() - begun < LONGEST_REST_SECONDS:
            self._amiss(stack.keep())
            open_now = again(lambda: Execution.objects.exclude(status__in=states.TERMINAL).count())
            late = again(lambda: list(invariants.nothing_held_by_the_dead(Execution.objects.all())))
            if not open_now and not late and all(process.ready() for process in stack.processes):
                break
            seqs = Execution.objects.exclude(status__in=states.TERMINAL).values_list("pk", "seq").order_by("pk")
            now: object = (again(partial(list, seqs)), len(late))
            if now != before:
                before, moved = now, time.monotonic()
            elif time.monotonic() - moved > STUCK_SECONDS:
                break
            time.sleep(0.2)
        everything = Execution.objects.all()
        # Now, for workers that end give away what they hold.
        self.report.findings += [*invariants.nothing_held_by_the_dead(everything), *invariants.nothing_open(everything)]

    def _leaks(self) -> list[Finding]:
        deadline = time.monotonic() + LEAK_SECONDS
        while (left := list(invariants.nothing_left_behind(self._data_dir))) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left

    def _leases(self) -> list[Finding]:
        """Workers that ended in good order have taken their leases with them."""
        return [
            Finding(7, lease.boot, f"pid {lease.pid} was told to end and left its lease behind")
            for lease in WorkerLease.objects.exclude(queues="beat")
        ]

    def _judge(self, load: Load, sink: Sink) -> None:
        report, everything = self.report, Execution.objects.all()
        report.findings += [
            *invariants.check_all(sink.ledger, load.traffic.accepted),
            *invariants.recordings_tell_the_same(everything, sealed=True),
            *unexpected_ends(load.traffic, sink.ledger, self._stalled),
        ]
        report.notes += load.traffic.problems
        report.notes += [
            f"given up: node {letter.node_id} of {letter.execution_id} after {letter.deliveries} deliveries"
            for letter in DeadLetter.objects.filter(kind="node")
        ]
        report.executions = Counter(everything.values_list("status", flat=True))
        report.node_runs = NodeRun.objects.count()
        report.nodes_recovered = Event.objects.filter(type="recovered").count()
        report.given_up = DeadLetter.objects.filter(kind="node").count()
        report.arrivals, report.repeats = len(sink.ledger.arrivals()), sink.ledger.repeats()
        report.unexplained_repeats = invariants.unexplained_repeats(sink.ledger, everything)
        report.durations = _spread(
            [e.duration_ms / 1000 for e in everything.filter(finished_at__isnull=False) if e.duration_ms is not None]
        )
        recoveries: dict[str, list[float]] = {}
        for kind, seconds in self._recoveries():
            recoveries.setdefault(kind, []).append(seconds)
        report.recovery = {kind: _spread(values) for kind, values in sorted(recoveries.items())}


def _cut_connections(fault: Fault) -> str:
    """Cut every database connection but this one, or a single one."""
    pids = _backends()
    if not pids:
        return ""
    chosen = pids if fault.span < 0.4 else [pids[int(fault.which * len(pids))]]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(pg_terminate_backend(pid)) FROM unnest(%s::int[]) AS pid", (chosen,))
    return f"{len(chosen)} of {len(pids)} connections"


def _a_backend(fault: Fault) -> int:
    """Return the server's process of some connection but this one, 0 when there is none."""
    pids = _backends()
    return pids[int(fault.which * len(pids))] if pids else 0


def _backends() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend' ORDER BY pid"
        )
        return [row[0] for row in cursor.fetchall()]


def _kill_chromium(fault: Fault, data_dir: Path) -> str:
    """Kill one process of some Chromium: its root, a renderer, whatever is there, or its Playwright driver."""
    found = _chromium(fault, data_dir)
    if not found or not _signal(found[0], signal.SIGKILL):
        return ""
    return f"{found[1]}, pid {found[0]}"


def _chromium(fault: Fault, data_dir: Path) -> tuple[int, str] | None:
    """Return the pid of some process of some Chromium and what it is, its Playwright driver included."""
    found = [
        (pid, command)
        for pid, command in processes_of(data_dir).items()
        if "run-driver" in command or "chrom" in command
    ]
    if not found:
        return None
    pid, command = found[int(fault.which * len(found))]
    kind = command.partition("--type=")[2].partition(" ")[0]
    return pid, "driver" if "run-driver" in command else kind or "root"
