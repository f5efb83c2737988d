"""More of everything: workers, hosts, messages, nodes and phases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db.models import Count, Max, Min

from executions import engine, states, tasks
from executions.models import BrowserSession, Execution, NodeRun, WorkerLease
from executions.triggers import decide_approval, start_execution
from recordings.blobs import read_blob
from recordings.models import Event, Recording
from tests.conftest import WORKER, Processes, graph, node, outputs, wait_for, wait_until_ended, wire
from tests.environment import POSTGRES
from tests.executions import worker_app
from workflows import credentials

pytestmark = [pytest.mark.worker, pytest.mark.redis]

SMALL_WORKER = (
    "-m", "celery", "-A", "flowbuilder", "worker", "--pool=threads", "-Q", "control,default,browser", "-l", "INFO",
    "--without-gossip", "--without-mingle",
)  # fmt: skip


def start_workers(processes: Processes, count: int, slots: int, **env: str) -> list[int]:
    """Start workers with ``slots`` threads each and return their pids once all have written their leases."""
    pids = [processes.start(*SMALL_WORKER, "-c", str(slots), **env).pid for _ in range(count)]
    wait_for(lambda: WorkerLease.objects.filter(pid__in=pids).count() == count, 40, "the workers", processes.logs)
    return pids


def memory_mb(pid: int) -> float:
    """Return the most memory that a process ever had in RAM, in MB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def fan(width: int) -> dict[str, Any]:
    """Return one node, ``width`` nodes after it, and one that waits for them all."""
    first, last = node("first", "merge_data", Data_1={"a": 1}, Data_2={}), node("last", "merge_data", Data_2={"z": 1})
    middle = [node(f"n{i}", "merge_data", Data_1={"i": i}, Data_2={}) for i in range(width)]
    out = [wire("first", "Done", f"n{i}", "Execute Condition") for i in range(width)]
    back = [wire(f"n{i}", "Done", "last", "Execute Condition") for i in range(width)]
    return graph([first, *middle, last | {"data": {"inputs": {"Data 1": {"x": 1}, "Data 2": {"z": 1}}}}], *out, *back)


def chain(length: int) -> dict[str, Any]:
    nodes = [node(f"n{i}", "merge_data", Data_1={"i": i}, Data_2={}) for i in range(length)]
    return graph(nodes, *(wire(f"n{i}", "Done", f"n{i + 1}", "Execute Condition") for i in range(length - 1)))


def ended(executions: list[Execution], seconds: float, processes: Processes) -> float:
    """Return how many seconds it took from the first start to the last end; all must have completed."""
    ids = [execution.pk for execution in executions]
    rows = Execution.objects.filter(pk__in=ids)
    left = rows.exclude(status__in=states.TERMINAL)
    wait_for(lambda: not left.exists(), seconds, "the end of all executions", processes.logs)
    assert set(rows.values_list("status", flat=True)) == {states.COMPLETED}, processes.logs()
    times = rows.aggregate(first=Min("queued_at"), last=Max("finished_at"))
    return float((times["last"] - times["first"]).total_seconds())


@pytest.mark.postgres
@pytest.mark.row("S2-52")
@pytest.mark.row("S2-21")
def test_four_workers_do_three_times_as_much_as_one(processes, alice, make_workflow):
    """Sixteen runs of eight waiting nodes; a worker of two slots can have two such headers at a time."""
    wide = make_workflow(graph([node(f"n{i}", "delay", Duration=1) for i in range(8)]), name="wide")
    three = make_workflow(graph([node(f"n{i}", "delay", Duration=1) for i in range(3)]), name="three")
    start_workers(processes, 1, 2)

    phase = min(ended([start_execution(three, by=alice)], 20, processes) for _ in ("cold", "warm"))
    one = ended([start_execution(wide, by=alice) for _ in range(16)], 40, processes)
    start_workers(processes, 3, 2)
    four = min(ended([start_execution(wide, by=alice) for _ in range(16)], 40, processes) for _ in ("cold", "warm"))

    print(f"one phase of three nodes of 1 s took {phase:.3f} s")
    print(
        f"16 runs of 8 nodes of 1 s: one worker {one:.2f} s, four workers {four:.2f} s, {one / four:.2f} times as fast"
    )
    assert phase < 1.3
    assert one / four >= 3


@pytest.mark.postgres
@pytest.mark.row("S2-52b")
def test_a_thousand_start_messages_at_once_are_all_done_once(processes, alice, make_workflow):
    workflow = make_workflow(graph([node("n", "merge_data", Data_1={"a": "{{ input.number }}"}, Data_2={})]))
    executions = [start_execution(workflow, by=alice, input={"number": number}) for number in range(1000)]

    start_workers(processes, 2, 8)

    seconds = ended(executions, 60, processes)
    runs = NodeRun.objects.filter(execution__workflow=workflow)
    assert runs.count() == 1000
    assert set(runs.values_list("deliveries", "attempt")) == {(1, 1)}
    assert Event.objects.filter(type="workflow_complete").count() == 1000
    assert Recording.objects.filter(workflow_id=workflow.pk).count() == 1000
    assert sorted(json.loads(text)["Result"]["a"] for text in runs.values_list("outputs", flat=True)) == list(
        range(1000)
    )
    print(f"1,000 start messages were done in {seconds:.1f} s, {1000 / seconds:.0f} executions a second")


WIDTHS = [2_000, pytest.param(10_000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.usefixtures("large_definitions")
def test_fault_34_a_fan_out_of_thousands_of_nodes_completes_in_bounded_memory(processes, alice, make_workflow, width):
    (pid,) = start_workers(processes, 1, 8)
    small = wait_until_ended(start_execution(make_workflow(fan(100), name="small"), by=alice), 60, processes.logs)

    large = wait_until_ended(start_execution(make_workflow(fan(width)), by=alice), 100, processes.logs)

    assert large.status == "completed", processes.logs()
    assert dict(large.node_runs.values_list("status").annotate(Count("pk"))) == {"completed": width + 2}
    each = [execution.duration_ms / nodes for execution, nodes in ((small, 102), (large, width + 2))]
    print(f"{width:,} nodes after one: {large.duration_ms / 1000:.1f} s, {each[1]:.2f} ms a node "
          f"({each[0]:.2f} with 100 nodes); at most {memory_mb(pid):.0f} MB")  # fmt: skip
    assert each[1] < 3 * each[0]
    assert memory_mb(pid) < 400


@pytest.mark.usefixtures("large_definitions")
def test_fault_34_a_thousand_phases_complete(processes, alice, make_workflow):
    (pid,) = start_workers(processes, 1, 8)

    execution = wait_until_ended(start_execution(make_workflow(chain(1000)), by=alice), 60, processes.logs)

    assert execution.status == "completed", processes.logs()
    assert execution.phases.filter(status="completed").count() == 1000
    print(f"1,000 phases: {execution.duration_ms / 1000:.1f} s; at most {memory_mb(pid):.0f} MB")
    assert memory_mb(pid) < 400


# --------------------------------------------------------------------------- two hosts


on_postgres = pytest.mark.skipif(not POSTGRES, reason="SQLite is for one host")


class Hosts:
    """Workers that have nothing in common but database, Redis and the keys; each has a data directory of its own."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._processes, self._folder = processes, folder
        self.boots: list[str] = []

    def add(self, queues: str = "control,default,browser", slots: int = 1) -> str:
        """Start a host with one worker and return the boot id of that."""
        env = {
            "FLOWBUILDER_DATA_DIR": str(self.folder(len(self.boots))),
            "FLOWBUILDER_SECRET_KEY": settings.SECRET_KEY,
            "FLOWBUILDER_CREDENTIAL_KEYS": ",".join(settings.CREDENTIAL_KEYS),
        }
        command = ["-m", "celery", "-A", "tests.executions.worker_app", *WORKER, "-c", str(slots), "-Q", queues]
        child = self._processes.start(*command, **env)
        lease = WorkerLease.objects.filter(pid=child.pid)
        self.boots.append(str(wait_for(lease.first, 40, "the worker", self._processes.logs).boot))
        return self.boots[-1]

    def folder(self, number: int) -> Path:
        return self._folder / f"host{number}"


@pytest.fixture
def hosts(processes, tmp_path):
    """Return hosts to add workers on."""
    return Hosts(processes, tmp_path)


def heavy(name: str, read: Any = "", size: int = 0) -> dict[str, Any]:
    return node(name, worker_app.Heavy.description.type, Read=read, Size=size)


@on_postgres
@pytest.mark.postgres
def test_two_hosts_share_an_execution_with_nothing_in_common_but_database_redis_and_keys(
    hosts, processes, alice, make_workflow
):
    credentials.save(alice, "shop", "password", {"password": "open-sesame"})
    size = settings.INLINE_OUTPUT_BYTES + 8_000
    makers = [heavy(f"maker{n}", {"$credential": "shop", "field": "password"}, size) for n in range(2)]
    readers = [heavy(f"reader{n}", "{{ nodes.maker0.Text }}{{ nodes.maker1.Text }}") for n in range(2)]
    wires = [wire(maker["id"], "Done", reader["id"], "Execute Condition") for maker in makers for reader in readers]
    hosts.add()
    hosts.add()

    execution = start_execution(make_workflow(graph([*makers, *readers], *wires)), by=alice)
    wait_until_ended(execution, 30, processes.logs)

    assert execution.status == "completed", f"{execution.error}\n{processes.logs()}"
    for phase in (0, 1):
        runs = execution.node_runs.filter(phase_index=phase)
        assert set(runs.values_list("worker", flat=True)) == set(hosts.boots), "one host did it all"
    for run in execution.node_runs.filter(phase_index=0):
        given = json.loads(read_blob(run.outputs_blob))
        assert (len(given["Text"]), given["Length"]) == (size, len("open-sesame"))
    for name in ("reader0", "reader1"):
        assert outputs(execution, name)["Length"] == 2 * size


@on_postgres
@pytest.mark.postgres
@pytest.mark.browser
def test_later_browser_nodes_go_to_the_host_that_holds_the_page_while_another_is_idle(
    hosts, processes, alice, make_workflow, site_url
):
    nodes = [
        node("open", "launch_standard_browser", Website_URL=f"{site_url}/form.html"),
        node("ask", "approval", Title="Go on?"), heavy("between"), node("read", "get_html", Selector="form"),
    ]  # fmt: skip
    wires = [
        wire("open", "Done", "ask", "Execute Condition"), wire("ask", "Approved", "between", "Execute Condition"),
        wire("between", "Done", "read", "Execute Condition"), wire("open", "Web Page", "read", "Web Page"),
    ]  # fmt: skip
    execution = start_execution(make_workflow(graph(nodes, *wires)), by=alice)
    holder = hosts.add("browser", slots=2)
    tasks.publish(engine.advance(execution.pk, 0))
    waiting = Execution.objects.filter(pk=execution.pk, status="waiting")
    wait_for(waiting.exists, 30, "the question", processes.logs)
    idle = hosts.add(slots=4)

    assert decide_approval(execution.pk, execution.node_runs.get(node_id="ask").node_index, True, "", "alice")
    wait_until_ended(execution, 30, processes.logs)

    assert execution.status == "completed", f"{execution.error}\n{processes.logs()}"
    ran = dict(execution.node_runs.values_list("node_id", "worker"))
    assert (ran["open"], ran["between"], ran["read"]) == (holder, idle, holder)
    assert BrowserSession.objects.get(execution_id=execution.pk).boot == holder
    assert "<form" in outputs(execution, "read")["Html Content"]
