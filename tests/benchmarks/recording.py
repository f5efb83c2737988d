"""What recording costs and gives: on beside off in the engine, time per event, sizes, and reading.

The engine runs the same workflow in turns: kept and sealed; not kept (no recording, no sealing, the events are
rows until the grace period is over); and, only here, without any event rows at all.

Kept and not kept are neighbours, each first in every other pair, and follow the third as often as each other, so
neither order nor what others do on the machine favours one. Before that, all are run until the database server has
planned the statements of every connection for good: it plans a statement five times, and the two that are not kept
share theirs. Told are medians of the ratios of neighbours, with the bounds within which they are 19 times of 20; of
wall time and, less noisy, of the processor time of the worker and its database sessions. Sealing waits until the end.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.engine import WORKLOADS, definition, worker
from tests.measuring import Ratio, processor_ns, processor_ns_since, ratio_of_pairs

SIZES = (10, 100, 1_000, 10_000, 1_000_000)
TEXT = "A calm page about chairs, tables and lamps for small rooms. Nothing here is hurried. "
BYTES = 200
MODES = ("on", "off", "no_events")
ROUNDS = (("no_events", "on", "off"), ("no_events", "off", "on"))
"""In turns: which modes follow each other."""
WARM_UP_ROUNDS = 40
BUDGET = 1.01
"""What keeping a recording may take of what the same run takes that is not kept."""


def run(args: argparse.Namespace) -> int:
    """Measure and print a table or JSON."""
    started = os.getloadavg()[0]
    result: dict[str, Any] = {
        "load_before": round(started, 1),
        "engine": [_part("engine", database, str(args.repeat)) for database in _databases(args.database)],
        "recorder": _part("recorder"),
        "sizes": _part("sizes", str(args.events)),
        "reading": _part("reading", str(args.events)),
    }
    result["load_after"] = round(os.getloadavg()[0], 1)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 0


def _databases(name: str) -> list[str]:
    return ["sqlite", "postgres"] if name == "both" else [name]


def _part(name: str, *arguments: str) -> Any:
    """Return what one part measured, in a process of its own."""
    env = {**os.environ, "FLOWBUILDER_TEST_DATABASE": "postgres" if "postgres" in arguments else ""}
    command = [sys.executable, "-m", "tests.benchmarks.recording", name, *arguments]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"the measurement of {name} {' '.join(arguments)} failed")
    return json.loads(done.stdout)


# --------------------------------------------------------------------------- the engine, on and off


def measure_engine(database: str, repeat: str) -> dict[str, Any]:
    """Run W1 ``repeat`` times in each mode, in turns; return medians in milliseconds and ratios of neighbours."""
    from tests import environment  # noqa: F401 - a database and a Redis of this run, before Django reads its settings

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")
    import django

    django.setup()
    import redis
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connection

    from executions.triggers import start_execution
    from recordings.models import Event, NotRecorded, Recording
    from recordings.packing import seal
    from tests.benchmarks.app import DONE_KEY, write_events
    from workflows.models import Workflow

    call_command("migrate", verbosity=0)
    owner = get_user_model().objects.create_superuser("bench", "", "bench")
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=120)
    workload = WORKLOADS["W1"]
    workflows = {}
    for mode in MODES:
        workflow = Workflow.objects.create(
            owner=owner, name=mode, settings={"recording": "all" if mode == "on" else "off"}
        )
        workflow.save_version(definition(workload.phases), author=owner)
        workflow.version, workflow.status = workflow.draft, "active"
        workflow.save()
        workflows[mode] = workflow
    rounds = max(6, int(repeat))
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    computed: dict[str, list[float]] = {mode: [] for mode in MODES}
    sealing: list[float] = []
    computing: list[float] = []

    def processes(worker_pid: int) -> list[int]:
        """Return the worker and, on PostgreSQL, the server's processes for all sessions but this one."""
        if connection.vendor == "sqlite":
            return [worker_pid]
        sessions = "SELECT pid FROM pg_stat_activity WHERE backend_type='client backend' AND pid<>pg_backend_pid()"
        with connection.cursor() as cursor:
            cursor.execute(sessions)
            return [worker_pid, *(row[0] for row in cursor.fetchall())]

    def once(mode: str, worker_pid: int) -> None:
        write_events.delay(mode != "no_events")
        client.blpop([DONE_KEY], timeout=60)
        used = processor_ns(processes(worker_pid))
        began = time.perf_counter()
        execution = start_execution(workflows[mode], by=owner)
        if client.blpop([DONE_KEY], timeout=60) is None:
            raise SystemExit(f"{mode} did not finish")
        seconds[mode].append(time.perf_counter() - began)
        events = Event.objects.filter(execution_id=execution.pk).count()
        recording = Recording.objects.filter(execution_id=execution.pk).first()
        kept = (recording is not None, NotRecorded.objects.filter(pk=execution.pk).exists())
        computed[mode].append(processor_ns_since(used, processes(worker_pid)) / 1e9)
        if events != (0 if mode == "no_events" else workload.events) or kept != (mode == "on", mode != "on"):
            raise SystemExit(f"{mode}: {events} events, recording and reason are {kept}")

    def seal_all() -> None:
        for recording in Recording.objects.filter(sealed=""):
            began, used = time.perf_counter(), time.process_time()
            seal(recording)
            sealing.append(time.perf_counter() - began)
            computing.append(time.process_time() - used)

    with worker() as pid:
        for number in range(WARM_UP_ROUNDS + rounds):
            if number == WARM_UP_ROUNDS:
                for times in (*seconds.values(), *computed.values()):
                    times.clear()
            for mode in ROUNDS[number % 2]:
                once(mode, pid)
        seal_all()
    medians = {mode: statistics.median(times) for mode, times in seconds.items()}
    return {
        "database": database,
        "workload": workload.title,
        "events": workload.events,
        "repeats": rounds,
        **{f"{mode}_ms": round(value * 1000, 1) for mode, value in medians.items()},
        "fastest_ms": {mode: round(min(times) * 1000, 1) for mode, times in seconds.items()},
        "cpu_ms": {mode: round(statistics.median(times) * 1000, 2) for mode, times in computed.items()},
        "seal_ms": round(statistics.median(sealing) * 1000, 2),
        "seal_cpu_ms": round(statistics.median(computing) * 1000, 2),
        "on_of_off": ratio_of_pairs(seconds["on"], seconds["off"]),
        "on_of_off_cpu": ratio_of_pairs(computed["on"], computed["off"]),
        "on_of_no_events": ratio_of_pairs(seconds["on"], seconds["no_events"]),
        "on_of_no_events_cpu": ratio_of_pairs(computed["on"], computed["no_events"]),
    }


# --------------------------------------------------------------------------- the recorder


def measure_recorder(events: int = 10_000) -> dict[str, Any]:
    """Return microseconds per event of a recorder in this process, with payloads of 200 bytes; best of seven."""
    from recordings import ExecutionRecorder

    def once(payload: dict[str, Any]) -> float:
        recorder = ExecutionRecorder("bench")
        gc.collect()
        began = time.perf_counter()
        for _ in range(events // 2):
            recorder.record_node_start("node", payload, "http_request")
            recorder.record_node_complete("node", payload, 0.1)
        return (time.perf_counter() - began) / events * 1e6

    big = {f"key{number}": TEXT for number in range(100)}
    return {
        "us_per_event": round(min(once({"text": _text(0)}) for _ in range(7)), 2),
        "us_per_event_8_kB": round(min(once(big) for _ in range(3)), 2),
    }


# --------------------------------------------------------------------------- sizes


def _text(number: int) -> str:
    """Return 200 characters that differ from event to event only a little, as pages do."""
    return f"https://example.com/products/{number} {TEXT * 2}"[:BYTES]


def _noise(number: int) -> str:
    """Return 200 characters that nothing can pack: hexadecimal noise would still halve, this does not."""
    import base64

    return base64.b85encode(random.Random(number).randbytes(BYTES * 4 // 5)).decode()


def events_of(count: int, payload: Callable[[int], str]) -> Iterator[Any]:
    """Give the events of a run of 100 nodes, as the engine writes them."""
    from recordings.events import RecordingEvent, RecordingEventType, event_id

    name = "0b1e6f2c-7d43-4f0e-9b51-3a5c8f7e2d10"
    for seq in range(1, count + 1):
        node, half = f"node{seq // 2 % 100}", seq % 2
        data: dict[str, Any] = (
            {"inputs": {"text": payload(seq)}, "attempt": 1}
            if half
            else {"outputs": {"Html": payload(seq)}, "duration_seconds": 0.25, "error": None}
        )
        yield RecordingEvent(
            event_id(name, seq), RecordingEventType("node_start" if half else "node_complete"),
            1_760_000_000 + seq * 0.0125, name, node, data, {"recursion_depth": 0}, seq=seq,
        )  # fmt: skip


def _seal(path: Path, count: int, payload: Callable[[int], str]) -> None:
    from recordings import RecordingMetadata
    from recordings.sealed import write_sealed

    metadata = RecordingMetadata("bench", "bench", 1_760_000_000.0, event_count=count)
    with path.open("wb") as file:
        write_sealed(file, metadata, events_of(count, payload))


def measure_sizes(most: str) -> list[dict[str, Any]]:
    """Return bytes as plain JSON, gzip JSON (level 6) and sealed, with similar payloads and with noise."""
    from recordings.events import encode_json

    rows = []
    for count in [size for size in SIZES if size <= int(most)]:
        row: dict[str, Any] = {"events": count}
        for name, payload in (("similar", _text), ("noise", _noise)):
            with tempfile.TemporaryDirectory() as directory:
                packed, sealed = Path(directory) / "a.json.gz", Path(directory) / "a.fbrec"
                raw = 2
                with gzip.open(packed, "wb", compresslevel=6) as file:
                    file.write(b"[")
                    for event in events_of(count, payload):
                        line = encode_json(event.to_dict())
                        raw += len(line) + 1
                        file.write(line + b",")
                    file.write(b"]")
                _seal(sealed, count, payload)
                row[name] = {"json": raw, "json_gz": packed.stat().st_size, "sealed": sealed.stat().st_size}
        rows.append(row)
    return rows


# --------------------------------------------------------------------------- reading


def measure_reading(most: str, saved: int = 20_000) -> dict[str, Any]:
    """Return what reading a sealed recording of ``most`` events takes, and saving and comparing."""
    from recordings import ExecutionRecorder, ExecutionReplayer

    count, result = int(most), dict[str, Any]()
    with tempfile.TemporaryDirectory() as directory:
        path, twin = Path(directory) / "a.fbrec", Path(directory) / "b.fbrec"
        began = time.perf_counter()
        _seal(path, count, _text)
        result["events"], result["seal_s"] = count, round(time.perf_counter() - began, 2)
        _seal(twin, count, lambda number: _text(number if number != count // 2 else 0))
        ExecutionReplayer.load(path)
        gc.collect()
        before = _rss()
        result["open_ms"] = _ms(lambda: ExecutionReplayer.load(path), 20)
        replayer = ExecutionReplayer.load(path)
        chance = random.Random(7)
        seeks = []
        for _ in range(300):
            position = chance.randrange(count)
            began = time.perf_counter()
            replayer.get_state_at_position(position)
            seeks.append((time.perf_counter() - began) * 1000)
        seeks.sort()
        result["seek_p50_ms"], result["seek_p99_ms"] = round(seeks[150], 2), round(seeks[296], 2)
        replayer.jump_to_position(count // 2)
        result["steps_1000_ms"] = _ms(lambda: _steps(replayer, count // 2), 5)
        began = time.perf_counter()
        read = sum(1 for _ in replayer.events)
        result["read_all_s"] = round(time.perf_counter() - began, 2)
        if read != count:
            raise SystemExit(f"{read} of {count} events were read")
        result["rss_growth_mb"] = round((_rss() - before) / 1024, 1)
        began = time.perf_counter()
        differs = not ExecutionReplayer.load(path).compare(ExecutionReplayer.load(twin))["identical"]
        result["compare_one_difference_s"] = round(time.perf_counter() - began, 3)
        began = time.perf_counter()
        same = ExecutionReplayer.load(path).compare(ExecutionReplayer.load(path))["identical"]
        result["compare_equal_s"] = round(time.perf_counter() - began, 3)
        if not differs or not same:
            raise SystemExit("compare says what is not so")
        recorder = ExecutionRecorder("bench")
        for number in range(saved // 2):
            recorder.record_node_start(f"node{number % 100}", {"text": _text(number)}, "http_request")
            recorder.record_node_complete(f"node{number % 100}", {"Html": _text(number)}, 0.1)
        for kind in ("fbrec", "json.gz", "json"):
            target = Path(directory) / f"saved.{kind}"
            began = time.perf_counter()
            recorder.save_sync(target)
            result[f"save_{saved}_{kind}_ms"] = round((time.perf_counter() - began) * 1000)
            began = time.perf_counter()
            next(iter(ExecutionReplayer.load(target).step_forward(1)))
            result[f"load_{saved}_{kind}_ms"] = round((time.perf_counter() - began) * 1000, 1)
    return result


def _steps(replayer: Any, start: int) -> None:
    replayer.jump_to_position(start)
    for _ in replayer.step_forward(1000):
        pass


def _ms(work: Callable[[], object], times: int) -> float:
    """Return the median of some runs in milliseconds, the first left out."""
    taken = []
    for _ in range(times + 1):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(taken[1:]), 2)


def _rss() -> int:
    """Return the resident memory of this process in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


# --------------------------------------------------------------------------- printing


def _print(result: dict[str, Any]) -> None:
    print(f"load {result['load_before']} before, {result['load_after']} after")
    for row in result["engine"]:
        _print_engine(row)
    for name, value in result["recorder"].items():
        print(f"recorder {name.replace('_', ' ')}: {value}")
    print(
        f"{'events':>10}"
        + "".join(f"{head:>16}" for head in ("JSON", "gzip", "sealed", "noise JSON", "gzip", "sealed"))
    )
    for row in result["sizes"]:
        values = [row[kind][form] for kind in ("similar", "noise") for form in ("json", "json_gz", "sealed")]
        print(f"{row['events']:>10,}" + "".join(f"{value:>16,}" for value in values))
    for name, value in result["reading"].items():
        print(f"{name.replace('_', ' ')}: {value:,}")


def _print_engine(row: dict[str, Any]) -> None:
    print(
        f"engine on {row['database']}, {row['workload']} ({row['events']} events), medians of {row['repeats']}:"
        f" kept {row['on_ms']} ms, not kept (the setting off) {row['off_ms']} ms, no event rows {row['no_events_ms']} ms;"
        f" sealing afterwards, in the background, {row['seal_ms']} ms ({row['seal_cpu_ms']} ms of processor time)"
    )
    for name, what in (("on_of_off", "kept to not kept"), ("on_of_no_events", "kept to no event rows")):
        for suffix, kind in (("", "wall time"), ("_cpu", "processor time")):
            ratio = Ratio(*row[name + suffix])
            judged = f"; the budget of {BUDGET} is {ratio.verdict(BUDGET)}" if name == "on_of_off" else ""
            print(f"  {what}, {kind}: {ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f}){judged}")


def main() -> None:
    """Measure one part in this process and print JSON: ``python -m tests.benchmarks.recording PART ARGUMENT...``."""
    parts: dict[str, Callable[..., Any]] = {
        "engine": measure_engine, "recorder": measure_recorder, "sizes": measure_sizes, "reading": measure_reading,
    }  # fmt: skip
    json.dump(parts[sys.argv[1]](*sys.argv[2:]), sys.stdout)


if __name__ == "__main__":
    main()
