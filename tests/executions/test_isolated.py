"""Isolated nodes: their worker's children are killed, starved, frozen and orphaned; nothing else notices."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from executions.models import DeadLetter, NodeRun, WorkerLease
from executions.triggers import cancel_execution, start_execution
from flowbuilder.stack import kernel_start_time
from recordings.models import Event
from tests.conftest import graph, node, outputs, wait_for, wait_until_ended, wire
from tests.environment import ROOT, RedisServer
from tests.executions.isolated_app import APP
from tests.executions.test_engine import assert_numbered, transform
from tests.executions.test_reconcile import periodic_reconcile

__all__ = ["periodic_reconcile"]

pytestmark = [pytest.mark.worker, pytest.mark.redis]

STAGES = ("before-claim", "after-claim", "mid-node", "before-commit", "after-commit", "opened")
RESUMED_SECONDS = 3.0


@pytest.fixture
def points(tmp_path):
    """A directory in which a test arms failpoints of the isolated worker."""
    folder = tmp_path / "points"
    folder.mkdir()
    return folder


@pytest.fixture
def ledger(tmp_path):
    """The file in which isolated nodes note who runs them."""
    file = tmp_path / "ledger"
    file.touch()
    return file


@pytest.fixture
def isolated(processes, points, ledger):
    """Return a starter of isolated workers with two children, on a threads worker that is there already."""

    def start(**env: str):
        main = processes.start(
            "-m", "celery", "-A", APP, "worker", "--pool=prefork", "-c", "2", "-Q", "isolated", "-l", "INFO",
            "--without-gossip", "--without-mingle", "-n", f"isolated{time.monotonic_ns()}@%h",
            FLOWBUILDER_FAILPOINT=f"*:{points}", ISOLATED_LEDGER=str(ledger), **env,
        )  # fmt: skip
        wait_for(lambda: len(children(main)) == 2, 40, "the leases of two children", processes.logs)
        return main

    processes.worker(APP)
    return start


def children(main) -> list[int]:
    """Return the pids of the living children of a worker that hold a lease."""
    below = Path(f"/proc/{main.pid}/task/{main.pid}/children")
    living = [int(pid) for pid in below.read_text().split()] if below.exists() else []
    return sorted(WorkerLease.objects.filter(queues="isolated", pid__in=living).values_list("pid", flat=True))


def around(*nodes):
    """A workflow: a light node, isolated ones beside each other, a light node."""
    edges = [wire("first", "Done", item["id"], "Execute Condition") for item in nodes]
    edges += [wire(item["id"], "Done", "last", "Execute Condition") for item in nodes]
    return graph([transform("first", a=1), *nodes, transform("last", b=2)], *edges)


def runs(ledger: Path, node_id: str) -> list[int]:
    """Return which processes ran a node."""
    return [int(line.split()[1]) for line in ledger.read_text().splitlines() if line.startswith(f"{node_id} ")]


def completions(execution) -> list[str]:
    """Return the nodes that completed, one entry per event."""
    found = Event.objects.filter(execution_id=execution.pk, type="node_complete").values_list("node_id", flat=True)
    return sorted(found)


@pytest.mark.row("S2-43")
def test_what_a_node_used_of_its_process_is_its_own(processes, isolated, alice, make_workflow):
    isolated()

    def used(mebibytes: int) -> tuple[float, int]:
        workflow = make_workflow(graph([node("uses", "test_uses", Value=mebibytes)]), name=uuid4().hex)
        execution = wait_until_ended(start_execution(workflow, by=alice), 30, processes.logs)
        assert execution.status == "completed", processes.logs()
        run = NodeRun.objects.get(execution=execution)
        assert run.cpu_seconds is not None
        assert run.peak_memory_bytes is not None
        return run.cpu_seconds, run.peak_memory_bytes

    large, *small = used(150), used(1), used(1), used(1)  # two processes: one of them runs again

    assert all(0.25 <= seconds < 5 for seconds, _ in (large, *small))
    assert large[1] > 150 * 2**20
    assert max(memory for _, memory in small) < large[1] - 100 * 2**20


def test_a_child_killed_while_the_worker_waits_for_redis_is_replaced(processes, tmp_path):
    redis = RedisServer(tmp_path / "late.sock")
    try:
        main = processes.start(
            "-m", "celery", "-A", APP, "worker", "--pool=prefork", "-c", "2", "-Q", "isolated", "-l", "INFO",
            "--without-gossip", "--without-mingle", REDIS_URL=f"unix://{redis.socket}",
        )  # fmt: skip
        before = wait_for(lambda: len(children(main)) == 2 and children(main), 40, "two children", processes.logs)
        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda: "Cannot connect" in processes.logs(), 20, "a try to reach Redis", processes.logs)
        redis.start()

        def both() -> list[int]:
            assert main.poll() is None, processes.logs()
            return [pid for pid in children(main) if pid != before[0]]

        wait_for(lambda: " ready." in processes.logs() and len(both()) == 2, 40, "two living children", processes.logs)
        assert before[1] in both()
    finally:
        redis.kill()


def test_a_confined_process_writes_no_large_file_and_keeps_limits_that_are_lower_already(tmp_path):
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from executions.confinement import Limits, confine
confine(Limits(1024, 60, file_mb=1), print)
try:
    with open(sys.argv[1], "wb", buffering=0) as file:
        for _ in range(8):
            file.write(bytes(2**18))
except OSError as error:
    print(error.strerror, *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    file = tmp_path / "large"

    said = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    ).stdout

    assert said.split() == ["File", "too", "large", "64", "64"]
    assert file.stat().st_size == 2**20


def test_isolated_nodes_run_in_children_of_their_own_and_nothing_else_does(
    processes, isolated, alice, make_workflow, ledger
):
    main = isolated()
    workflow = make_workflow(around(node("one", "test_isolated"), node("two", "test_isolated", Value=0.2)))

    execution = wait_until_ended(start_execution(workflow, by=alice), 30, processes.logs)

    assert execution.status == "completed", processes.logs()
    ran = {outputs(execution, "one")["Pid"], outputs(execution, "two")["Pid"]}
    assert ran <= set(children(main))
    workers = dict(NodeRun.objects.values_list("node_id", "worker"))
    assert workers["one"] != workers["last"]
    assert WorkerLease.objects.get(boot=workers["one"]).pid in ran
    assert WorkerLease.objects.get(boot=workers["last"]).queues == "control,default,browser"
    child = children(main)[0]
    assert resource.prlimit(child, resource.RLIMIT_CORE) == (0, 0)
    assert resource.prlimit(child, resource.RLIMIT_NOFILE) == (256, 256)
    assert 256 * 2**20 <= resource.prlimit(child, resource.RLIMIT_DATA)[0] < 1024 * 2**20

    endless = start_execution(make_workflow(around(node("spin", "test_spins")), name="endless"), by=alice)
    wait_for(lambda: runs(ledger, "spin"), 15, "the running node", processes.logs)
    asked = time.monotonic()
    assert cancel_execution(endless, by="alice")
    wait_until_ended(endless, 10, processes.logs)
    assert time.monotonic() - asked <= 2
    assert endless.status == "cancelled"
    [spinning] = runs(ledger, "spin")
    wait_for(lambda: not kernel_start_time(spinning), 10, "the end of the process that still counts", processes.logs)
    assert wait_until_ended(start_execution(workflow, by=alice), 15, processes.logs).status == "completed"

    main.terminate()
    main.wait(20)
    left = WorkerLease.objects.filter(queues="isolated").values_list("pid", flat=True)
    assert set(left) <= {spinning}  # killed, so the scheduler is to remove it


@pytest.mark.postgres
@pytest.mark.parametrize("weight", ["light", "isolated"])
def test_a_worker_keeps_its_database_connections_from_task_to_task(isolated, alice, make_workflow, processes, weight):
    if weight == "isolated":
        isolated()
    workflow = make_workflow(graph([node("says", f"test_connections_{weight}")]))

    def opened() -> dict[int, int]:
        """Return by process how many connections it had opened after as many tasks as it takes to meet every thread."""
        executions = [start_execution(workflow, by=alice) for _ in range(30)]
        said = [outputs(wait_until_ended(execution, 30, processes.logs), "says") for execution in executions]
        return {pid: max(one["Opened"] for one in said if one["Pid"] == pid) for pid in {one["Pid"] for one in said}}

    before, after = opened(), opened()

    print(f"connections that each process opened, after 30 tasks and after 60: {before}, {after}")
    assert before.keys() <= after.keys()
    assert sum(after.values()) - sum(before.values()) <= 10, "at most one for a thread that had none yet"


@pytest.mark.postgres
def test_fault_01_a_killed_child_is_seen_at_once_and_its_node_resumes_within_three_seconds(
    processes, isolated, alice, make_workflow, points, ledger
):
    isolated()
    workflow = make_workflow(around(node("iso", "test_isolated", Value=0.1)))
    took = {}

    for stage in STAGES:
        (points / stage).touch()
        execution = start_execution(workflow, by=alice)
        reached = points / f"{stage}.reached"
        wait_for(reached.exists, 15, f"the death at {stage}", processes.logs)
        died = time.monotonic()
        wait_until_ended(execution, 15, processes.logs)
        took[stage] = time.monotonic() - died

        assert execution.status == "completed", f"{stage}: {execution.error}"
        assert completions(execution) == ["first", "iso", "last"], stage
        again = "before-commit" in took  # the only stage at which the node had run, and nobody knew
        assert len(runs(ledger, "iso")) == len(took) + again, ledger.read_text()
        assert_numbered(execution)

    print(took)
    assert max(took.values()) <= RESUMED_SECONDS, took  # no beat runs here: the message itself brings it back


@pytest.mark.postgres
def test_fault_04_when_only_the_main_process_is_killed_its_children_end_and_nothing_is_written_twice(
    processes, isolated, alice, make_workflow, ledger
):
    main = isolated()
    orphans = children(main)
    workflow = make_workflow(around(node("iso", "test_isolated", Value=3)))
    execution = start_execution(workflow, by=alice)
    wait_for(lambda: runs(ledger, "iso"), 15, "the running node", processes.logs)

    os.kill(main.pid, signal.SIGKILL)
    main.wait()
    wait_for(lambda: not any(kernel_start_time(pid) for pid in orphans), 2, "the end of the orphans", processes.logs)
    isolated()
    processes.beat(APP)
    wait_until_ended(execution, 20, processes.logs)

    assert execution.status == "completed", execution.error
    assert completions(execution) == ["first", "iso", "last"]
    assert len(set(runs(ledger, "iso"))) == 2
    assert_numbered(execution)


def test_fault_11_a_node_that_takes_all_memory_fails_as_resource_and_the_worker_lives(
    processes, isolated, alice, make_workflow
):
    main = isolated(FLOWBUILDER_ISOLATED_MEMORY_MB="128")
    processes.beat(APP)
    hungry = make_workflow(around(node("iso", "test_allocates", {"retries": 2})), name="hungry")
    modest = make_workflow(around(node("iso", "test_isolated")), name="modest")

    failed = wait_until_ended(start_execution(hungry, by=alice), 20, processes.logs)
    after = wait_until_ended(start_execution(modest, by=alice), 20, processes.logs)

    assert (failed.status, failed.error_code, failed.error_node) == ("failed", "resource", "iso"), processes.logs()
    assert "128 MiB" in failed.error
    assert failed.node_runs.get(node_id="iso").attempt == 1
    assert after.status == "completed"
    assert main.poll() is None
    assert_numbered(failed)


def test_a_frozen_node_fails_as_timeout_and_one_that_uses_up_its_processor_time_as_resource(
    processes, isolated, alice, make_workflow, ledger
):
    main = isolated(FLOWBUILDER_ISOLATED_CPU_SECONDS="1")
    tolerant = {"retries": 2, "on_error": "continue"}
    workflow = make_workflow(
        graph([node("frozen", "test_freezes", tolerant), node("busy", "test_spins", {"on_error": "continue"})])
    )

    execution = wait_until_ended(start_execution(workflow, by=alice), 20, processes.logs)

    runs_by_node = {row.node_id: row for row in execution.node_runs.all()}
    assert (runs_by_node["frozen"].status, runs_by_node["frozen"].error_code) == ("failed", "timeout"), processes.logs()
    assert "within 1 s" in runs_by_node["frozen"].error
    assert (runs_by_node["busy"].status, runs_by_node["busy"].error_code) == ("failed", "resource")
    assert "FLOWBUILDER_ISOLATED_CPU_SECONDS" in runs_by_node["busy"].error
    assert len(runs(ledger, "frozen")) == 1  # its process was killed, and nobody runs it again
    assert not DeadLetter.objects.exists()
    assert main.poll() is None
    assert_numbered(execution)


def test_an_execution_without_an_isolated_worker_says_what_it_waits_for(processes, alice, make_workflow):
    from executions import reconcile
    from executions.models import Phase

    processes.worker(APP)
    execution = start_execution(make_workflow(around(node("iso", "test_isolated"))), by=alice)
    wait_for(lambda: execution.node_runs.filter(status="queued").exists(), 10, "the queued node", processes.logs)

    assert reconcile.tell_missing_workers() == 0  # it has only just begun to wait
    Phase.objects.update(started_at="2020-01-01T00:00:00Z")
    assert reconcile.tell_missing_workers() == 1
    assert reconcile.tell_missing_workers() == 0

    line = Event.objects.get(execution_id=execution.pk, type="log", node_id="iso")
    assert "--pool=prefork -Q isolated" in line.data
    assert_numbered(execution)


def test_threads_may_not_run_isolated_nodes(processes):
    worker = processes.start("-m", "celery", "-A", APP, "worker", "--pool=threads", "-Q", "default,isolated")

    assert worker.wait(30) != 0
    assert "needs --pool=prefork" in processes.logs()
