"""``./flow bench engine [--json] [--repeat N]``: the engine beside raw Celery chords, in one run."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import environment

WORKLOADS: dict[str, tuple[str, list[int], int]] = {
    "W1": ("10 phases of 10 nodes", [10] * 10, 1),
    "W2": ("a chain of 50 nodes", [1] * 50, 1),
    "W3": ("1, then 200, then 1", [1, 200, 1], 1),
    "W4": ("200 executions of a chain of 5", [1] * 5, 200),
}


def definition(widths: list[int]) -> dict[str, Any]:
    """Return phases of no-op nodes; every node waits for all nodes of the phase before."""
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    before: list[str] = []
    for phase, width in enumerate(widths):
        current = [f"p{phase}n{index}" for index in range(width)]
        nodes += [{"id": name, "type": "bench_noop", "data": {"inputs": {}}} for name in current]
        edges += [
            {"source": source, "target": name, "sourceHandle": "Done", "targetHandle": "Execute Condition"}
            for name in current
            for source in before
        ]
        before = current
    return {"nodes": nodes, "edges": edges}


def engine(args: argparse.Namespace) -> int:
    """Run every workload ``repeat`` times, ours and raw in turns; print medians and their ratio."""
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    owner = get_user_model().objects.create_superuser("bench", "", "bench")
    with tempfile.TemporaryDirectory() as logs, open(Path(logs) / "worker.log", "wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tests.benchmarks.app", "worker", "--pool=threads", "-c", "8",
             "-Q", "control,default,browser", "-l", "WARNING", "--without-gossip", "--without-mingle"],
            stdout=log, stderr=log, cwd=environment.ROOT,
        )  # fmt: skip
        try:
            _wait_for_worker(worker, Path(logs) / "worker.log")
            results = {name: _measure(owner, name, args) for name in args.workload or WORKLOADS}
        finally:
            worker.terminate()
            worker.wait(timeout=30)
    if args.json:
        print(json.dumps({"database": connection.vendor, **results}, indent=2))
    else:
        _print_table(connection.vendor, results, args.repeat)
    return 0


def _wait_for_worker(worker: subprocess.Popen[bytes], log: Path) -> None:
    from executions.models import WorkerLease

    deadline = time.monotonic() + 30
    while not WorkerLease.objects.exists():
        if worker.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the worker did not start:\n{log.read_text()}")
        time.sleep(0.1)


def _measure(owner: Any, name: str, args: argparse.Namespace) -> dict[str, Any]:
    _, widths, count = WORKLOADS[name]
    repeat = args.repeat if count == 1 else max(3, args.repeat // 2)
    ours_once, raw_once = _ours(owner, name, widths, count), _raw(widths, count)
    ours_once(), raw_once()
    ours, raw = [], []
    for _ in range(repeat):
        ours.append(ours_once())
        raw.append(raw_once())
    nodes = sum(widths) * count
    mine, theirs = statistics.median(ours), statistics.median(raw)
    return {
        "nodes": nodes,
        "repeats": repeat,
        "ms_per_node": round(mine / nodes * 1000, 3),
        "raw_ms_per_node": round(theirs / nodes * 1000, 3),
        "ratio": round(mine / theirs, 3),
        "executions_per_second": round(count / mine, 1),
        "raw_executions_per_second": round(count / theirs, 1),
    }


def _ours(owner: Any, name: str, widths: list[int], count: int) -> Callable[[], float]:
    from executions.models import Execution
    from executions.triggers import start_execution
    from tests.benchmarks import app  # noqa: F401 - registers the no-op node here too
    from workflows.models import Workflow

    workflow = Workflow.objects.create(owner=owner, name=name)
    workflow.save_version(definition(widths), author=owner)
    workflow.version, workflow.status = workflow.draft, "active"
    workflow.save()

    def once() -> float:
        started = time.time()
        ids = [start_execution(workflow, owner=owner).pk for _ in range(count)]
        deadline = time.monotonic() + 120
        while Execution.objects.filter(pk__in=ids).exclude(status="completed").exists():
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} did not finish: {set(Execution.objects.values_list('status', 'error'))}")
            time.sleep(0.02)
        ended = max(Execution.objects.filter(pk__in=ids).values_list("finished_at", flat=True))
        return float(ended.timestamp() - started)

    return once


def _raw(widths: list[int], count: int) -> Callable[[], float]:
    import redis
    from django.conf import settings

    from tests.benchmarks.app import DONE_KEY, next_phase

    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=60)

    def once() -> float:
        started = time.time()
        for _ in range(count):
            next_phase.delay(None, widths)
        for _ in range(count):
            if client.blpop([DONE_KEY], timeout=50) is None:
                raise SystemExit("the raw chords did not finish")
        return time.time() - started

    return once


def _print_table(vendor: str, results: dict[str, dict[str, Any]], repeat: int) -> None:
    load = os.getloadavg()[0]
    print(f"engine on {vendor} beside raw Celery chords on the same worker; medians of {repeat}; load {load:.1f}")
    print(f"{'':4}{'workload':34}{'ms/node':>9}{'raw':>9}{'ratio':>8}{'exec/s':>9}{'raw':>8}")
    for name, row in results.items():
        print(
            f"{name:4}{WORKLOADS[name][0]:34}{row['ms_per_node']:>9}{row['raw_ms_per_node']:>9}{row['ratio']:>7}x"
            f"{row['executions_per_second']:>9}{row['raw_executions_per_second']:>8}"
        )


def main() -> int:
    """Run the chosen benchmark."""
    parser = argparse.ArgumentParser(prog="./flow bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("engine", help="the engine beside raw Celery chords")
    command.add_argument("--json", action="store_true", help="one JSON object on standard output")
    command.add_argument("--repeat", type=int, default=7, metavar="N", help="runs of each side (default 7)")
    command.add_argument("--workload", action="append", choices=list(WORKLOADS), help="only this one")
    command.set_defaults(run=engine)
    args = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
