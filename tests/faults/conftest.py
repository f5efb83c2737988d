"""Servers and processes that a test may kill, a ledger of what nodes did, and how long every recovery took."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions import states
from executions.models import Execution, NodeRun
from executions.triggers import start_execution
from tests.chaos.invariants import check_all, nothing_held_by_the_dead
from tests.conftest import P99_SECONDS, Processes, flush_redis, graph, node, wait_for, wire
from tests.environment import redis_server
from tests.faults import worker_app

APP = "tests.faults.worker_app"
LEASE = {"FLOWBUILDER_LEASE_SECONDS": "3"}


_note: Callable[[str, object], None]


@pytest.fixture(autouse=True)
def note_recoveries(record_property: Callable[[str, object], None]) -> None:
    """Let ``recovered`` write into the report of the test that runs."""
    global _note
    _note = record_property


def recovered(what: str, seconds: float, limit: float = P99_SECONDS) -> None:
    """Note that an execution went on ``seconds`` after a fault, and see that it was within ``limit``."""
    _note("recovery", (what, seconds))
    assert seconds <= limit, f"{what}: took {seconds:.1f} s, the limit is {limit} s"


@dataclass(frozen=True, slots=True)
class Trace:
    """A line of the ledger. ``key`` is ``<execution>:<node>:0``."""

    what: str
    key: str
    pid: int
    at: float


class Stack:
    """Workers and beats on killable servers, with failpoints to arm and a ledger to read."""

    def __init__(self, processes: Processes, folder: Path, alice: Any, make_workflow: Callable[..., Any]) -> None:
        self.processes, self.alice, self._make_workflow = processes, alice, make_workflow
        self.points = folder / "failpoints"
        self.points.mkdir()
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def env(self) -> dict[str, str]:
        """Return what every process of the stack gets."""
        return {
            worker_app.LEDGER: str(self.ledger), "FLOWBUILDER_FAILPOINT": f"*:{self.points}",
            "FLOWBUILDER_LOG_LEVEL": "INFO", **LEASE,
        }  # fmt: skip

    def worker(self, wait: bool = True, **env: str) -> subprocess.Popen[bytes]:
        """Start a worker; return it once it has a lease, or at once."""
        arguments = {**self.env, **env}
        start = self.processes.worker if wait else self.processes.booting_worker
        child = start(APP, **arguments)
        self.workers.append(child)
        return child

    def beat(self, **env: str) -> subprocess.Popen[bytes]:
        """Start a beat."""
        return self.processes.beat(APP, **{**self.env, **env})

    def logs(self) -> str:
        """Return what the processes wrote."""
        return self.processes.logs()

    # ------------------------------------------------------------------ failpoints

    def kill_at(self, point: str) -> None:
        """Kill the first process that reaches ``point``."""
        (self.points / point).touch()

    @contextlib.contextmanager
    def held_at(self, point: str) -> Iterator[Callable[[], None]]:
        """Hold the first thread that reaches ``point``; yields a function that waits for that. Let go at the end."""
        (self.points / point).write_text("hold")
        reached = self.points / f"{point}.reached"
        try:
            yield lambda: wait_for(reached.exists, 20, f"the point {point}", self.logs)
        finally:
            (self.points / point).unlink(missing_ok=True)
            reached.unlink(missing_ok=True)

    def dead_worker(self, seconds: float = 20) -> subprocess.Popen[bytes]:
        """Wait until a worker has been killed, take it off the list and return it."""

        def look() -> subprocess.Popen[bytes] | None:
            return next((child for child in self.workers if child.poll() is not None), None)

        child: subprocess.Popen[bytes] = wait_for(look, seconds, "the death of a worker", self.logs)
        assert child.returncode == -signal.SIGKILL, self.logs()
        self.workers.remove(child)
        return child

    # ------------------------------------------------------------------ executions

    def workflow(self, name: str = "faults", seconds: float = 0.1, settings: Any = None) -> Any:
        """Return a workflow of three phases whose middle one is a chord of three headers; every node has an effect."""
        middle = [node(f"middle{n}", "test_effect", Seconds=seconds) for n in range(3)]
        wires = [
            *[wire("first", "Done", item["id"], "Execute Condition") for item in middle],
            *[wire(item["id"], "Done", "last", "Execute Condition") for item in middle],
        ]
        nodes = [node("first", "test_effect"), *middle, node("last", "test_effect")]
        return self._make_workflow(graph(nodes, *wires), name=name, settings=settings or {})

    def single(self, name: str = "single", seconds: float = 0.1) -> Any:
        """Return a workflow of one node with an effect."""
        return self._make_workflow(graph([node("only", "test_effect", Seconds=seconds)]), name=name)

    def start(self, workflow: Any) -> Execution:
        """Start an execution."""
        return start_execution(workflow, by=self.alice)

    def traces(self, what: str, execution: Execution | None = None) -> list[Trace]:
        """Return the lines of the ledger."""
        lines = [line.split() for line in self.ledger.read_text().splitlines()]
        found = [Trace(kind, key, int(pid), float(at)) for kind, key, pid, at in lines]
        return [
            trace
            for trace in found
            if trace.what == what and (execution is None or trace.key.startswith(str(execution.pk)))
        ]

    def wait_ended(self, executions: list[Execution], seconds: float = 30) -> None:
        """Wait until all have ended."""
        keys = [execution.pk for execution in executions]

        def ended() -> bool:
            return not Execution.objects.filter(pk__in=keys).exclude(status__in=states.TERMINAL).exists()

        def detail() -> str:
            rows = NodeRun.objects.filter(execution_id__in=keys).exclude(status__in=states.TERMINAL)
            stuck = Execution.objects.filter(pk__in=keys).exclude(status__in=states.TERMINAL)
            fields = ("execution_id", "node_id", "status", "claim", "worker", "deliveries", "lease_until")
            held = "\n".join(map(str, rows.values(*fields)))
            codes = [child.poll() for child in self.workers]
            return f"exit codes {codes} {list(stuck.values('pk', 'status', 'phase_index', 'published_at'))}\n{held}\n{self.logs()}"

        wait_for(ended, seconds, "the end of the executions", detail)
        for execution in executions:
            execution.refresh_from_db()


def check_invariants(stack: Stack, status: str = states.COMPLETED, *, without: Sequence[Execution] = ()) -> None:
    """See that nothing was lost, doubled or left open by the executions of this test, which all ended with ``status``.

    ``without`` ended otherwise.
    """
    wait_for(
        lambda: not list(nothing_held_by_the_dead(Execution.objects.all())), 10, "the end of dead leases", stack.logs
    )
    findings = check_all()
    assert not findings, "\n".join(map(str, findings)) + stack.logs()
    for execution in Execution.objects.exclude(pk__in=[other.pk for other in without]):
        assert execution.status == status, f"{execution.pk} is {execution.status}: {execution.error}\n{stack.logs()}"
    effects = {trace.key for trace in stack.traces("effect")}
    completed = NodeRun.objects.filter(node_type="test_effect", status=states.COMPLETED)
    wanted = {
        f"{execution_id}:{node_id}:0" for execution_id, node_id in completed.values_list("execution_id", "node_id")
    }
    assert wanted <= effects, f"completed without an effect: {wanted - effects}"


@pytest.fixture
def reconcile_row(transactional_db: None) -> None:
    """The row of the beat admin, which the emptied test database lacks."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    PeriodicTask.objects.get_or_create(name="Reconcile", task="executions.reconcile", interval=interval)


@pytest.fixture
def stack(
    processes: Processes, reconcile_row: None, tmp_path: Path, alice: Any, make_workflow: Callable[..., Any]
) -> Stack:
    """Return a stack without any process yet."""
    return Stack(processes, tmp_path, alice, make_workflow)


@pytest.fixture
def broker(stack: Stack) -> Iterator[Any]:
    """Return the Redis of this run; whatever a test does to it, it serves as before afterwards."""
    yield redis_server
    stack.processes.stop()
    redis_server.kill()
    for file in redis_server.socket.parent.glob("appendonly.aof*"):
        file.unlink()
    redis_server.start()
    flush_redis()


def redis_client() -> redis.Redis:
    """Return a client of the Redis of this run."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5)


def since(begun: float) -> float:
    """Return seconds since ``begun`` (monotonic)."""
    return time.monotonic() - begun
