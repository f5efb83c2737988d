"""The engine with RabbitMQ as its broker: messages, chords, queues of one process, and what is lost."""

from __future__ import annotations

import os
import signal
from typing import Any
from uuid import uuid4

import pytest

from executions.models import NodeRun, WorkerLease
from tests.conftest import Processes, graph, node, wait_for, wait_until_ended, wire

AMQP_URL = os.environ.get("FLOWBUILDER_TEST_AMQP_URL", "")

pytestmark = [
    pytest.mark.worker,
    pytest.mark.redis,
    pytest.mark.usefixtures("periodic_reconcile"),
    pytest.mark.skipif(not AMQP_URL, reason="FLOWBUILDER_TEST_AMQP_URL names no RabbitMQ"),
]

START = """
import sys, django; django.setup()
from executions.triggers import start_execution
from workflows.models import Workflow
workflow = Workflow.objects.get(name=sys.argv[1])
for _ in range(int(sys.argv[2])):
    start_execution(workflow, by=workflow.owner)
"""


class Stack:
    """Workers and beat on RabbitMQ."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.env = {"CELERY_BROKER_URL": AMQP_URL, "DJANGO_SETTINGS_MODULE": "flowbuilder.settings"}

    def worker(self) -> Any:
        """Start a worker with one slot, so that work spreads."""
        child = self.processes.start(
            "-m", "celery", "-A", "flowbuilder", "worker", "--pool=threads", "-c", "2", "-l", "INFO",
            "-Q", "control,default,browser", "-n", f"w{uuid4().hex[:8]}@%h", **self.env,
        )  # fmt: skip
        leases = WorkerLease.objects.filter(pid=child.pid)
        wait_for(leases.exists, 40, "the worker's lease", self.processes.logs)
        return child

    def run(self, name: str, count: int = 1) -> list[Any]:
        """Start executions from a process of their own and return them once they have ended."""
        from executions.models import Execution

        known = set(Execution.objects.values_list("pk", flat=True))
        self.processes.start("-c", START, name, str(count), **self.env)
        fresh = Execution.objects.exclude(pk__in=known).filter(parent=None)
        wait_for(lambda: fresh.count() == count, 30, "the start", self.processes.logs)
        return [wait_until_ended(execution, 60, self.processes.logs) for execution in list(fresh)]


def wide(seconds: float) -> dict[str, Any]:
    """Return the JSON of a page that is opened, twenty waiting nodes (three headers), and the page read."""
    return graph(
        [
            *(node(f"n{i}", "delay", Duration=seconds) for i in range(20)),
            node("end", "merge_data", Data_1={"a": 1}, Data_2={}),
        ],
        *(wire(f"n{i}", "Done", "end", "Execute Condition") for i in range(20)),
    )


@pytest.mark.browser
def test_phases_of_many_headers_and_queues_of_one_process_work(processes, alice, make_workflow, site_url):
    opened = node("open", "launch_standard_browser", Website_URL=f"{site_url}/form.html")
    read = node("read", "get_html", Selector="form")
    both = wide(0.2)
    first = [wire("open", "Done", f"n{i}", "Execute Condition") for i in range(20)]
    make_workflow(
        graph([opened, *both["nodes"], read], *both["edges"], *first, wire("open", "Web Page", "read", "Web Page"),
              wire("end", "Done", "read", "Execute Condition")), name="page",
    )  # fmt: skip
    stack = Stack(processes)
    workers = {stack.worker().pid for _ in range(2)}

    ended = stack.run("page", 6)

    assert {execution.status for execution in ended} == {"completed"}, processes.logs()
    boots = WorkerLease.objects.filter(pid__in=workers).values_list("boot", flat=True)
    assert set(NodeRun.objects.exclude(worker="").values_list("worker", flat=True)) <= set(boots)
    assert set(NodeRun.objects.values_list("deliveries", flat=True)) == {1}
    assert "PRECONDITION" not in processes.logs()


def test_the_work_of_a_killed_worker_is_done_by_another(processes, alice, make_workflow):
    make_workflow(wide(1), name="wide")
    stack = Stack(processes)
    victim = stack.worker()
    processes.beat(**stack.env)
    stack.worker()
    running = NodeRun.objects.filter(status="running", worker=WorkerLease.objects.get(pid=victim.pid).boot)

    def kill() -> bool:
        if running.exists():
            victim.send_signal(signal.SIGKILL)
            return True
        return False

    import threading

    threading.Thread(target=lambda: wait_for(kill, 40, "a node to kill"), daemon=True).start()
    (execution,) = stack.run("wide")

    assert execution.status == "completed", processes.logs()
    assert victim.wait(5) == -signal.SIGKILL
    assert NodeRun.objects.filter(deliveries__gte=2).exists()
