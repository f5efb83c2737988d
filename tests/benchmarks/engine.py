"""The engine beside raw Celery chords on the same worker, and beside the same plan in one process."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class Workload:
    """``count`` executions of phases with these node types."""

    title: str
    phases: list[list[str]]
    count: int = 1

    @property
    def widths(self) -> list[int]:
        """Return how many nodes each phase has."""
        return [len(phase) for phase in self.phases]

    @property
    def nodes(self) -> int:
        """Return how many nodes run in all."""
        return sum(self.widths) * self.count

    @property
    def events(self) -> int:
        """Return how many events one execution writes: begin and end of itself, its phases and nodes, and snapshots."""
        return 2 * (1 + sum(self.widths)) + 3 * len(self.phases)


LIGHT, IO, BLOCKING = "bench_noop", "bench_io", "bench_blocking"
WORKLOADS = {
    "W1": Workload("10 phases of 10 nodes", [[LIGHT] * 10] * 10),
    "W1H": Workload("the same, 3 headers per phase", [[IO] * 8 + [BLOCKING] * 2] * 10),
    "W2": Workload("a chain of 50 nodes", [[LIGHT]] * 50),
    "W3": Workload("1, then 200, then 1", [[LIGHT], [LIGHT] * 200, [LIGHT]]),
    "W4": Workload("200 executions of a chain of 5", [[LIGHT]] * 5, 200),
}
WORKER = (
    "worker", "--pool=threads", "-c", "8", "-Q", "control,default,browser", "-l", "WARNING",
    "--without-gossip", "--without-mingle",
)  # fmt: skip


def definition(phases: list[list[str]]) -> dict[str, Any]:
    """Return phases of nodes of these types; every node waits for all nodes of the phase before."""
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    before: list[str] = []
    for number, types in enumerate(phases):
        current = [f"p{number}n{index}" for index in range(len(types))]
        nodes += [{"id": name, "type": kind, "data": {"inputs": {}}} for name, kind in zip(current, types, strict=True)]
        edges += [
            {"source": source, "target": name, "sourceHandle": "Done", "targetHandle": "Execute Condition"}
            for name in current
            for source in before
        ]
        before = current
    return {"nodes": nodes, "edges": edges}


def run(args: argparse.Namespace) -> int:
    """Measure on the wanted databases, each in a process of its own, and print a table or JSON."""
    databases = ["sqlite", "postgres"] if args.database == "both" else [args.database]
    results = [_in_process(args, database) for database in databases]
    if args.json:
        print(json.dumps(results[0] if len(results) == 1 else results, indent=2))
    else:
        for result in results:
            _print_table(result)
    return 0


def _in_process(args: argparse.Namespace, database: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.engine", str(args.repeat), *(args.workload or WORKLOADS)]
    env = {**os.environ, "FLOWBUILDER_TEST_DATABASE": "postgres" if database == "postgres" else ""}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"the measurement on {database} failed")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(repeat: int, names: list[str]) -> dict[str, Any]:
    """Run every workload ``repeat`` times, ours and raw in turns; return medians by workload."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connection

    from tests.benchmarks import counting

    call_command("migrate", verbosity=0)
    counting.install()
    owner = get_user_model().objects.create_superuser("bench", "", "bench")
    load = os.getloadavg()[0]
    with worker(), Pushes() as pushes:
        bench = Bench(owner, pushes)
        results = {name: bench.measure(name, WORKLOADS[name], repeat) for name in names}
    return {"database": connection.vendor, "repeats": repeat, "load": round(load, 1), "workloads": results}


@contextmanager
def worker() -> Iterator[int]:
    """Run one worker, for both sides, and give its process id; it has the installation's settings."""
    from executions.models import WorkerLease
    from tests import environment

    with tempfile.TemporaryDirectory() as logs, open(Path(logs) / "worker.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tests.benchmarks.app", *WORKER],
            stdout=log, stderr=log, cwd=environment.ROOT,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 30
            while not WorkerLease.objects.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the worker did not start:\n{(Path(logs) / 'worker.log').read_text()}")
                time.sleep(0.1)
            yield process.pid
        except BaseException:
            sys.stderr.write((Path(logs) / "worker.log").read_text()[-4000:])
            raise
        finally:
            process.terminate()
            process.wait(timeout=30)


class Pushes:
    """Everything that is pushed to watchers of executions, as a browser's socket would get it."""

    def __init__(self) -> None:
        import redis
        from django.conf import settings

        self._client = redis.Redis.from_url(settings.REDIS_URL)
        self._messages: list[bytes] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Pushes:
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe("flowbuilder__group__execution.*")
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stop.set()
        self._thread.join()
        self._pubsub.close()

    def _listen(self) -> None:
        while not self._stop.is_set():
            message = self._pubsub.get_message(timeout=0.2)
            if message is not None:
                self._messages.append(message["data"])

    def wait_for(self, ids: list[UUID], count: int) -> None:
        """Return once the events 1 to ``count`` of every execution were pushed, each once."""
        import msgpack  # type: ignore[import-untyped]

        wanted = {str(execution_id): list(range(1, count + 1)) for execution_id in ids}
        deadline = time.monotonic() + 10
        while True:
            got: dict[str, list[int]] = defaultdict(list)
            for data in list(self._messages):
                message = msgpack.unpackb(data)
                got[message["execution_id"]] += [log["seq"] for log in message["logs"]]
            if all(sorted(got[name]) == seqs for name, seqs in wanted.items()):
                self._messages.clear()
                return
            if time.monotonic() > deadline:
                missing = {name: set(seqs) ^ set(got[name]) for name, seqs in wanted.items() if got[name] != seqs}
                raise SystemExit(f"not every event was pushed once: {missing}")
            time.sleep(0.05)


@dataclass
class Side:
    """What the runs of one side took."""

    seconds: list[float] = field(default_factory=list)
    statements: list[int] = field(default_factory=list)
    redis_commands: list[int] = field(default_factory=list)


class Bench:
    """The two sides of the comparison, from one client."""

    def __init__(self, owner: Any, pushes: Pushes) -> None:
        import redis
        from django.conf import settings

        self._owner, self._pushes = owner, pushes
        self._redis = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=120)

    def measure(self, name: str, workload: Workload, repeat: int) -> dict[str, Any]:
        """Run both sides in turns after a warm-up and return their medians."""
        ours_once, raw_once = self._ours(name, workload), self._raw(workload)
        ours_once(), raw_once()
        ours, raw = Side(), Side()
        for _ in range(max(5, repeat)):
            self._take(ours, ours_once)
            self._take(raw, raw_once)
        mine, theirs = statistics.median(ours.seconds), statistics.median(raw.seconds)
        limit = _limit(workload)
        nodes = workload.nodes
        return {
            "title": workload.title,
            "nodes": nodes,
            "ms_per_node": round(mine / nodes * 1000, 3),
            "raw_ms_per_node": round(theirs / nodes * 1000, 3),
            "ratio": round(mine / theirs, 3),
            "executions_per_second": round(workload.count / mine, 1),
            "raw_executions_per_second": round(workload.count / theirs, 1),
            "gain": round(theirs / mine, 2),
            "limit_ms_per_node": round(limit / nodes * 1000, 4),
            "statements_per_node": round(statistics.median(ours.statements) / nodes, 2),
            "redis_commands_per_node": round(statistics.median(ours.redis_commands) / nodes, 2),
            "raw_redis_commands_per_node": round(statistics.median(raw.redis_commands) / nodes, 2),
        }

    def _take(self, side: Side, once: Callable[[], float]) -> None:
        statements, commands = self._statements(), self._commands()
        side.seconds.append(once())
        side.redis_commands.append(self._commands() - commands)
        side.statements.append(self._statements() - statements)

    def _commands(self) -> int:
        stats: Any = self._redis.info("stats")
        return int(stats["total_commands_processed"])

    def _statements(self) -> int:
        """Return how many calls to the database this process and the worker have made."""
        from tests.benchmarks import counting
        from tests.benchmarks.app import CALLS_KEY, report_calls

        report_calls.delay()
        answer: Any = self._redis.blpop([CALLS_KEY], timeout=50)
        if answer is None:
            raise SystemExit("the worker does not answer")
        return counting.calls() + int(answer[1])

    def _ours(self, name: str, workload: Workload) -> Callable[[], float]:
        from executions.triggers import start_execution
        from workflows.models import Workflow

        workflow = Workflow.objects.create(owner=self._owner, name=name)
        workflow.save_version(definition(workload.phases), author=self._owner)
        workflow.version, workflow.status = workflow.draft, "active"
        workflow.save()

        def once() -> float:
            started = time.perf_counter()
            ids = [start_execution(workflow, by=self._owner).pk for _ in range(workload.count)]
            self._wait(workload.count, f"{name} did not finish")
            seconds = time.perf_counter() - started
            self._check(ids, workload)
            return seconds

        return once

    def _raw(self, workload: Workload) -> Callable[[], float]:
        from tests.benchmarks.app import next_phase

        def once() -> float:
            started = time.perf_counter()
            for _ in range(workload.count):
                next_phase.delay(None, workload.widths)
            self._wait(workload.count, "the raw chords did not finish")
            return time.perf_counter() - started

        return once

    def _wait(self, count: int, problem: str) -> None:
        from tests.benchmarks.app import DONE_KEY

        for _ in range(count):
            if self._redis.blpop([DONE_KEY], timeout=100) is None:
                raise SystemExit(problem)

    def _check(self, ids: list[UUID], workload: Workload) -> None:
        """Stop unless every row, every event and every push of these executions is there."""
        from django.db.models import Count, Max

        from executions.models import Execution, NodeRun, Phase
        from recordings.models import Event, Recording

        def expect(what: str, found: object, wanted: object) -> None:
            if found != wanted:
                raise SystemExit(f"{what}: {found} instead of {wanted}")

        many = len(ids)
        expect("completed executions", Execution.objects.filter(pk__in=ids, status="completed").count(), many)
        nodes = NodeRun.objects.filter(execution__in=ids, status="completed", attempt=1, deliveries=1)
        expect("completed node runs", nodes.count(), workload.nodes)
        phases = Phase.objects.filter(execution__in=ids, status="completed", open=0)
        expect("completed phases", phases.count(), many * len(workload.phases))
        expect("recordings", Recording.objects.filter(execution_id__in=ids).count(), many)
        numbers = Event.objects.filter(execution_id__in=ids).values_list("execution_id")
        found = set(numbers.annotate(Count("seq"), Max("seq")).values_list("seq__count", "seq__max"))
        expect("events and their last number", found, {(workload.events, workload.events)})
        self._pushes.wait_for(ids, workload.events)


def _limit(workload: Workload) -> float:
    """Return the seconds that the same plan takes in this process, without queue and database: the in-process limit."""
    from executions.local import execute

    source = definition(workload.phases)

    async def all_of_them() -> float:
        started = time.perf_counter()
        results = await asyncio.gather(*(execute(source) for _ in range(workload.count)))
        if any(result.status != "completed" for result in results):
            raise SystemExit("the in-process limit did not complete")
        return time.perf_counter() - started

    return statistics.median(asyncio.run(all_of_them()) for _ in range(5))


def _print_table(result: dict[str, Any]) -> None:
    print(
        f"engine on {result['database']} beside raw Celery chords on the same worker;"
        f" medians of {max(5, result['repeats'])}; load {result['load']}"
    )
    heads = ("ms/node", "raw", "ratio", "exec/s", "raw", "gain", "limit", "calls", "redis", "raw")
    print(f"{'':4}{'workload':34}" + "".join(f"{head:>8}" for head in heads))
    for name, row in result["workloads"].items():
        values = (
            row["ms_per_node"], row["raw_ms_per_node"], f"{row['ratio']}x", row["executions_per_second"],
            row["raw_executions_per_second"], f"{row['gain']}x", row["limit_ms_per_node"], row["statements_per_node"],
            row["redis_commands_per_node"], row["raw_redis_commands_per_node"],
        )  # fmt: skip
        print(f"{name:4}{row['title']:34}" + "".join(f"{value:>8}" for value in values))
    print(
        "limit: ms per node of the same rules in one process, without queue and database; calls: to the database, per node; redis: commands per node"
    )


def main() -> None:
    """Measure in this process and print JSON: ``python -m tests.benchmarks.engine REPEAT WORKLOAD...``."""
    from tests import environment  # noqa: F401 - a database and a Redis of this run, before Django reads its settings

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")
    import django

    django.setup()
    from tests.benchmarks import app  # noqa: F401 - registers the no-op nodes here, too

    json.dump(measure(int(sys.argv[1]), sys.argv[2:]), sys.stdout)


if __name__ == "__main__":
    main()
