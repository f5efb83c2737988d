"""What runs while things are killed: small workflows of every shape, and the thread that triggers and cancels them."""

from __future__ import annotations

import heapq
import json
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone

from executions import states
from executions.models import DeadLetter, Execution, NodeRun
from executions.triggers import cancel_execution, pause_execution, resume_execution, start_execution
from tests.chaos.invariants import Accepted, Finding
from tests.chaos.sink import Ledger
from workflows.models import Schedule, Workflow

Result = TypeVar("Result")
Graph = tuple[list[dict[str, Any]], list[dict[str, Any]]]

EXECUTIONS_PER_SECOND = 8.0
MOST_OPEN = 40
MOST_BROWSERS = 2
SCHEDULED = 6
SCHEDULE_SECONDS = 2.0
PATIENCE_SECONDS = 90.0
NEVER = "0 0 29 2 1"
WEIGHTS = {
    "chain": 24, "wide": 12, "deliver": 20, "flaky": 10, "branch": 12, "wait": 12, "tolerant": 5, "failing": 3,
    "browser": 6, "loop": 6, "code": 6,
}  # fmt: skip
BROWSER_LOST = (
    "session_lost", "browser", "browser_closed", "browser_crashed", "browser_slots", "poison",
    "navigation",  # an attempt that lost its claim still navigates the page when the next one begins
)  # fmt: skip


def again(act: Callable[[], Result], patience: float = PATIENCE_SECONDS) -> Result:
    """Return what ``act`` returns; while the database does not answer, try again, as a caller of the API would."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return act()
        except DatabaseError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


# --------------------------------------------------------------------------- the workflows


def _node(node_id: str, node_type: str, policy: dict[str, Any] | None = None, **inputs: Any) -> dict[str, Any]:
    named = {key.replace("_", " "): value for key, value in inputs.items()}
    return {"id": node_id, "type": node_type, "data": {"inputs": named, **(policy or {})}}


def _edge(source: str, target: str, output: str = "Done") -> dict[str, Any]:
    return {"source": source, "sourceHandle": output, "target": target, "targetHandle": "Execute Condition"}


def _note(node_id: str, value: Any) -> dict[str, Any]:
    return _node(node_id, "json_transform", Input_JSON={}, Transform_Rules={"value": {"value": value}})


def _deliver(node_id: str, url: str, policy: dict[str, Any] | None = None) -> dict[str, Any]:
    return _node(node_id, "deliver_to_webhook", policy, Webhook_URL=url, Payload='{"n": {{ input.n }}}')


def _line(*nodes: dict[str, Any]) -> Graph:
    ids = [node["id"] for node in nodes]
    return list(nodes), [_edge(a, b) for a, b in pairwise(ids)]


def definitions(sink: str) -> dict[str, Graph]:
    """Return the workflows by kind; ``sink`` is the address of the effect ledger. All stay on loopback."""
    effect = f"{sink}/effect"
    leaves = [_note(f"leaf{n}", n) for n in range(6)]
    waits = [_node(f"wait{n}", "delay", Duration=0.2, Random_Max=1.5) for n in range(9)]
    wide = [_note("first", 0), *leaves, *waits, _deliver("send", effect), _note("last", 1)]
    wide_edges = [
        *(_edge("first", node["id"]) for node in (*leaves, *waits)),
        *(_edge(node["id"], "send") for node in (*leaves, *waits)),
        _edge("send", "last"),
    ]
    retries = {"retries": 4, "backoff_s": 0.2}
    steps = [_note(f"step{n}", n) for n in range(7)]
    return {
        "chain": _line(*steps, _node("pause", "delay", Duration=0.3), _note("end", 1), _deliver("send", effect)),
        "wide": (wide, wide_edges),
        "deliver": _line(_deliver("one", effect), _deliver("two", f"{effect}?slow=0.4"), _deliver("three", effect)),
        "flaky": _line(_note("first", 0), _deliver("send", f"{effect}?refuse=2", retries), _deliver("then", effect)),
        "branch": (
            [
                _node("if", "branch", Left_Value="{{ input.n }}", Operator="in", Right_Value=list(range(0, 10**4, 2))),
                _deliver("even", effect), _deliver("odd", f"{effect}?slow=0.2"), _note("join", 1),
            ],
            [
                _edge("if", "even", "True Path"), _edge("if", "odd", "False Path"), _edge("even", "join"),
                _edge("odd", "join"),
            ],
        ),
        "wait": _line(_note("first", 0), _node("pause", "delay", Duration=1, Random_Max=4), _deliver("send", effect)),
        "loop": (
            [
                _node("loop", "loop_items", Items=[1, 2, 3, 4], Max_Concurrency=2), _deliver("turn", effect),
                _note("after", 1), _deliver("send", effect),
            ],
            [
                {"source": "loop", "sourceHandle": "Each", "target": "turn", "targetHandle": "Execute Condition"},
                {"source": "turn", "sourceHandle": "Delivery Status", "target": "loop", "targetHandle": "Result"},
                _edge("loop", "after"), _edge("after", "send"),
            ],
        ),
        "code": _line(_node("work", "code", Code="sum(range(10**6))", Data="1"), _deliver("send", effect)),
        "tolerant": _line(_deliver("bad", f"{effect}?status=400", {"on_error": "continue"}), _note("next", 1)),
        "failing": _line(_deliver("bad", f"{effect}?status=500", {"retries": 1, "backoff_s": 0.2}), _note("next", 1)),
        "browser": (
            [
                _node("open", "launch_standard_browser", Website_URL=f"{sink}/form.html"),
                _node("look", "wait_for_element", Selector=".item", Visibility="visible"),
                _node("read", "get_html", Selector="#list"), _deliver("send", effect),
            ],
            [
                {"source": a, "sourceHandle": "Web Page", "target": b, "targetHandle": "Web Page"}
                for a, b in (("open", "look"), ("look", "read"))
            ] + [_edge("read", "send")],
        ),
    }  # fmt: skip


# --------------------------------------------------------------------------- the traffic


@dataclass(slots=True)
class Traffic:
    """What was asked for: which trigger gave which execution of which kind, and what was to be cancelled."""

    accepted: list[Accepted] = field(default_factory=list)
    kinds: dict[UUID, tuple[str, int]] = field(default_factory=dict)
    cancelled: set[UUID] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


class Load:
    """Starts executions at a bounded rate, some twice, cancels a few, and lets schedules come due."""

    def __init__(self, sink: str, owner: Any, seed: int, *, browser: bool, say: Callable[[str], None]) -> None:
        self.traffic = Traffic()
        self._owner, self._say = owner, say
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._later: list[tuple[float, UUID, str]] = []
        self._number = 0
        shapes = definitions(sink)
        if not browser:
            del shapes["browser"]
        self._workflows = {kind: self._store(kind, shape) for kind, shape in shapes.items()}
        self._scheduled = [self._store(f"scheduled {n}", shapes["deliver"], input=False) for n in range(SCHEDULED)]
        for workflow in self._scheduled:
            Schedule.objects.create(workflow=workflow, cron=NEVER)

    def _store(self, name: str, shape: Graph, *, input: bool = True) -> Workflow:
        nodes, edges = shape
        definition = json.dumps({"nodes": nodes, "edges": edges})
        if not input:  # a schedule gives none
            definition = definition.replace("{{ input.n }}", "0")
        workflow = Workflow.objects.create(owner=self._owner, name=name)
        workflow.save_version(json.loads(definition), author=self._owner)
        workflow.version, workflow.status = workflow.draft, Workflow.Status.ACTIVE
        workflow.save()
        return workflow

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Start nothing more; what runs goes on."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due_at = 0.0
        while not self._stop.wait(self._random.expovariate(EXECUTIONS_PER_SECOND)):
            try:
                self._act_on_due()
                if time.monotonic() > due_at:
                    due_at = time.monotonic() + SCHEDULE_SECONDS
                    again(self._come_due)
                if again(lambda: Execution.objects.exclude(status__in=states.TERMINAL).count()) < MOST_OPEN:
                    self._start_one()
            except Exception as error:  # a caller's call must not fail either
                self.traffic.problems.append(repr(error))
                self._say(f"the load met {error!r}")
        try:
            self._act_on_due(all_of_them=True)
        except Exception as error:
            self.traffic.problems.append(repr(error))
        connection.close()

    def _start_one(self) -> None:
        kinds = list(self._workflows)
        kind = self._random.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
        twice, cancelled, paused = (self._random.random() < share for share in (0.05, 0.07, 0.05))
        pause = self._random.random()
        workflow = self._workflows[kind]
        if kind == "browser":
            busy = Execution.objects.filter(workflow=workflow).exclude(status__in=states.TERMINAL)
            if again(busy.count) >= MOST_BROWSERS:
                return
        self._number += 1
        number, key = self._number, f"chaos-{self._number}"

        def start() -> Execution:
            return start_execution(workflow, by=self._owner, trigger="api", input={"n": number}, idempotency_key=key)

        execution = again(start)
        if paused:
            heapq.heappush(self._later, (time.monotonic() + pause, execution.pk, "pause"))
            heapq.heappush(self._later, (time.monotonic() + 3 * pause, execution.pk, "resume"))
        if twice and again(start).pk != execution.pk:
            self.traffic.problems.append(f"{key} gave two executions")
        self.traffic.accepted.append(Accepted(key, execution_id=execution.pk))
        self.traffic.kinds[execution.pk] = (kind, number)
        if cancelled:
            heapq.heappush(self._later, (time.monotonic() + 2 * pause, execution.pk, "cancel"))

    def _act_on_due(self, *, all_of_them: bool = False) -> None:
        """Cancel, pause and resume what is due for it."""
        while self._later and (all_of_them or self._later[0][0] <= time.monotonic()):
            _, execution_id, what = heapq.heappop(self._later)
            if what == "cancel":
                self.traffic.cancelled.add(execution_id)
                again(partial(cancel_execution, execution_id, "chaos"))
            elif what == "pause":
                again(partial(pause_execution, execution_id, "chaos"))
            else:
                again(partial(resume_execution, execution_id, "chaos"))

    def _come_due(self) -> None:
        """Let the next schedule that has nothing due come due now."""
        now = timezone.now()
        schedule = Schedule.objects.exclude(next_run_at__lte=now).filter(workflow__in=self._scheduled).first()
        if schedule is None:
            return
        pending = Accepted(workflow_id=schedule.workflow_id, instant=now)
        if pending not in self.traffic.accepted and Schedule.objects.filter(
            pk=schedule.pk, next_run_at=schedule.next_run_at
        ).update(next_run_at=now):
            self.traffic.accepted.append(pending)


# --------------------------------------------------------------------------- how it should have ended


def unexpected_ends(traffic: Traffic, ledger: Ledger, stalled: Collection[str]) -> Iterable[Finding]:
    """Yield executions that did not end as without faults; what is allowed to show is named here (invariant 9).

    A node that was on the hands of three processes when they died is given up with a dead letter ("poison"); a page
    dies with its worker ("session_lost"). A request whose time ran out while its worker, one of the boots ``stalled``,
    stood still has failed ("network_timeout"), unless others took the node before the worker went on.
    """
    overdue = set(
        NodeRun.objects.filter(worker__in=stalled, error_code="network_timeout").values_list("execution_id", flat=True)
    )
    bodies = {key: came[0].body for key, came in ledger.by_key().items()}
    letters = set(DeadLetter.objects.filter(kind="node").values_list("execution_id", flat=True))
    rows = {
        row[0]: row[1:]
        for row in Execution.objects.values_list("pk", "status", "error_code", "error", "cancel_requested")
    }
    for execution_id, (kind, number) in traffic.kinds.items():
        if execution_id not in rows:
            yield Finding(9, str(execution_id), f"a {kind} execution that was accepted is not stored")
            continue
        status, code, error, cancel = rows[execution_id]
        wanted = {"tolerant": states.COMPLETED_WITH_ERRORS, "failing": states.FAILED}.get(kind, states.COMPLETED)
        fine = (
            status == wanted
            or (status == states.CANCELLED and cancel and execution_id in traffic.cancelled)
            or (code == "poison" and execution_id in letters)
            or (kind == "browser" and code in BROWSER_LOST)
            or (code == "network_timeout" and execution_id in overdue)
        )
        if not fine:
            yield Finding(9, str(execution_id), f"{kind} ended {status} {code}: {error}")
        for key in (f"{execution_id}:{name}:0" for name in ("send", "one", "two", "three", "even", "odd", "then")):
            if key in bodies and bodies[key] != f'{{"n": {number}}}':
                yield Finding(9, str(execution_id), f"{key} delivered {bodies[key]}, not n={number}")
    for execution_id, node_id in NodeRun.objects.filter(status=states.COMPLETED, attempt=0).values_list(
        "execution_id", "node_id"
    ):
        yield Finding(9, str(execution_id), f"node {node_id} completed without an attempt")
