"""Run a workflow in this process: no Celery, no Redis, no database.

The rules are the engine's own: ``planner`` orders, ``opening`` decides what runs and what is skipped,
``runtime`` runs, ``outcomes`` turns what happened into events. Only where things are kept differs: in
memory, and in the current recorder when there is one.

    result = await execute(definition, {"name": "Ada"})
    print(result.status, result.outputs["greet"]["Transformed JSON"])

Importing this module sets Django up (``DJANGO_SETTINGS_MODULE``, by default ``flowbuilder.settings``).
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import hashlib
import heapq
import inspect
import itertools
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import django
import msgspec
from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")
if not apps.ready:
    django.setup()

from executions import opening, outcomes, reuse, runtime, states, store, waits
from executions.context import LONGEST_SECONDS, Around, Context
from executions.drafts import End, cleanup_event, end_events, left_event, phase_event, start_event, started_event
from executions.ending import CLEAN_UP_SECONDS, DEADLINE
from executions.errors import ExecutionError, NodeFailed, NodeWaits, StartRefused
from executions.events import to_event
from executions.inputs import NodeResult
from executions.planner import Plan, PlannedNode, plan
from executions.runtime import Finished, Item, Noted, Ready, Resumed, Retrying, SessionOpened, Waiting
from executions.store import EventDraft, NodeEnd, NodeRow, now_us
from executions.waits import ChildEnd, ChildRow, Memory
from recordings.context import active_recorder, keep_last, record_into
from recordings.events import OMITTED
from recordings.events import RecordingEventType as Kind
from recordings.recorder import ExecutionRecorder
from recordings.rows import STATE_ELSEWHERE
from recordings.state import State
from workflows import credentials as vault
from workflows.credentials import Opened
from workflows.definition import Definition
from workflows.errors import CredentialError, WorkflowError
from workflows.models import Workflow, WorkflowVersion

Source = Definition | Mapping[str, Any] | Workflow | WorkflowVersion
Credentials = Mapping[str, str | Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Question:
    """What an approval node asks. ``inputs`` are those of the node, Message and Approvers among them."""

    execution_id: UUID
    node_id: str
    title: str
    inputs: Mapping[str, Any]


Answer = bool | tuple[bool, str]
"""Approved or not, and a comment."""
Approve = Callable[[Question], Answer | Awaitable[Answer]]
CANCEL_AGAIN_SECONDS = 0.05

atexit.register(runtime.end_chromium)  # a script leaves no Chromium behind


# --------------------------------------------------------------------------- what comes out


@dataclass(frozen=True, slots=True)
class NodeOutcome:
    """How one node ended. ``attempt`` is the number of its last attempt, 0 for one that never began."""

    node_id: str
    name: str
    type: str
    status: str
    attempt: int
    phase: int
    duration_s: float
    credits: int
    error: str = ""
    error_code: str = ""


@dataclass(frozen=True, slots=True)
class LocalResult:
    """What an execution in this process gave.

    ``outputs`` holds the outputs of completed nodes by node id and ``errors`` the messages of failed
    ones; values are JSON, without the secrets that credentials gave. ``files`` are the artifacts of nodes
    (screenshots, pages) by SHA-256. ``duration_s`` is seconds from the call to the end.
    """

    execution_id: UUID
    workflow_name: str
    status: str
    outputs: dict[str, dict[str, Any]]
    errors: dict[str, str]
    nodes: tuple[NodeOutcome, ...]
    phases: int
    credits: int
    duration_s: float
    error: str = ""
    error_code: str = ""
    error_node: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    children: tuple[LocalResult, ...] = ()
    """The turns of loops and the workflows that ran inside, in the order in which they ended."""
    recorder: ExecutionRecorder | None = field(default=None, repr=False)
    """The recording: that of ``record_workflow``, else one of its own; children have one inside ``record_workflow``."""

    @property
    def success(self) -> bool:
        """Return whether it completed, with or without errors that a node's policy tolerates."""
        return self.status in (states.COMPLETED, states.COMPLETED_WITH_ERRORS)

    def node(self, node_id: str) -> NodeOutcome:
        """Return how the node ``node_id`` ended.

        Raises:
            KeyError: it is not part of the workflow, or its phase was never reached.
        """
        for outcome in self.nodes:
            if outcome.node_id == node_id:
                return outcome
        raise KeyError(node_id)


# --------------------------------------------------------------------------- doors


async def execute(
    workflow: Source,
    initial_context: Any = None,
    *,
    variables: Mapping[str, Any] | None = None,
    credentials: Credentials | None = None,
    workflows: Mapping[str, Source] | None = None,
    approve: Approve | None = None,
    timeout_s: float | None = None,
) -> LocalResult:
    """Run ``workflow`` in this process and return what it gave; a node that fails is no exception.

    ``workflow`` is a definition, its JSON, or a stored workflow (its active version, else the newest) or
    version. ``initial_context`` is what ``{{ input }}`` reads; ``variables`` are added to what ``{{ vars }}``
    reads. ``credentials`` maps names to fields, ``{"shop": {"password": "…"}}``; those that it does not name
    are looked up for the owner of a stored workflow. ``workflows`` are those that Run Workflow nodes start, by
    name; those that it does not name are looked up likewise. ``approve`` decides approvals; without it they
    fail. ``timeout_s`` ends the whole run as failed.

    Every event is recorded, by the recorder of ``record_workflow(…)`` around it or one of its own, which
    ``get_current_recorder()`` returns afterwards until the next run. Cancelling the awaiting task cancels the
    nodes, closes the browser page, and records the end.

    Raises:
        StartRefused: there is nothing to run, or the input is not JSON.
        WorkflowError: the definition cannot be planned.
    """
    given = _Given(dict(variables or {}), credentials or {}, workflows or {}, approve)
    wanted = (workflow, initial_context, given, timeout_s)
    if isinstance(workflow, Workflow | WorkflowVersion):
        run: _Run = await sync_to_async(_prepare)(*wanted)
    else:
        run = _prepare(*wanted)
    thread = ThreadPoolExecutor(1, thread_name_prefix="local")
    inside = _inside_recording(run)
    work = asyncio.get_running_loop().run_in_executor(thread, inside.run, run.drive_alone)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        threading.Thread(target=run.halt, args=(_CANCELLED, "the caller"), daemon=True).start()
        await asyncio.wait((work,))
        raise
    finally:
        thread.shutdown(wait=False)


def execute_sync(
    workflow: Source,
    initial_context: Any = None,
    *,
    variables: Mapping[str, Any] | None = None,
    credentials: Credentials | None = None,
    workflows: Mapping[str, Source] | None = None,
    approve: Approve | None = None,
    timeout_s: float | None = None,
) -> LocalResult:
    """Do what ``execute`` does and return when the execution has ended; Ctrl-C cancels it."""
    given = _Given(dict(variables or {}), credentials or {}, workflows or {}, approve)
    run = _prepare(workflow, initial_context, given, timeout_s)
    return _inside_recording(run).run(run.drive)


class Executor:
    """Runs workflows in this process, each time with the same options; those of ``execute``.

    A run that does not complete raises ``WorkflowFailed``, so that ``except`` can save its recording;
    with ``raise_on_failure=False`` it is returned like any other.
    """

    def __init__(
        self,
        *,
        raise_on_failure: bool = True,
        variables: Mapping[str, Any] | None = None,
        credentials: Credentials | None = None,
        workflows: Mapping[str, Source] | None = None,
        approve: Approve | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._raise = raise_on_failure
        self._options: dict[str, Any] = {
            "variables": variables, "credentials": credentials, "workflows": workflows, "approve": approve,
            "timeout_s": timeout_s,
        }  # fmt: skip

    async def execute(self, workflow: Source, initial_context: Any = None) -> LocalResult:
        """Run ``workflow`` and return what it gave; see ``execute`` of this module.

        Raises:
            WorkflowFailed: it failed or was cancelled; ``result`` is what it gave until then.
        """
        return self._checked(await execute(workflow, initial_context, **self._options))

    def execute_sync(self, workflow: Source, initial_context: Any = None) -> LocalResult:
        """Do what ``execute`` does and return when the execution has ended."""
        return self._checked(execute_sync(workflow, initial_context, **self._options))

    def _checked(self, result: LocalResult) -> LocalResult:
        if self._raise and not result.success:
            raise WorkflowFailed(result)
        return result


class WorkflowFailed(ExecutionError):
    """A workflow in this process did not complete; ``result`` is what it gave."""

    def __init__(self, result: LocalResult) -> None:
        where = f' at node "{result.error_node}"' if result.error_node else ""
        super().__init__(f'workflow "{result.workflow_name}" {result.status}{where}: {result.error}')
        self.result = result


_CANCELLED = End(states.CANCELLED, "cancelled", "cancelled")


# --------------------------------------------------------------------------- what an execution knows


@dataclass(frozen=True, slots=True)
class _Given:
    """What the caller gave for the execution and all inside of it."""

    variables: dict[str, Any]
    credentials: Credentials
    workflows: Mapping[str, Source]
    approve: Approve | None


@dataclass(slots=True)
class _LocalContext(Context):
    """The context of an execution that no database knows; ``above`` is that of the execution which started it."""

    given: _Given = _Given({}, {}, {}, None)
    stored: bool = False
    """The workflow is a stored one, so its owner's credentials and workflows may be looked up."""
    above: _LocalContext | None = None
    timeout_s: float | None = None
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        return {**self.plan.definition.vars, **settings.WORKFLOW_VARS, **self.given.variables, **self.set_by_nodes}

    @property
    def deadline_us(self) -> int:
        own: int = Context.deadline_us.__get__(self)
        return own if self.timeout_s is None else int(self.timeout_s * 1_000_000)

    def keep(self, content: bytes, content_type: str) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        self.files[sha256] = content
        return sha256

    def open_credentials(self) -> None:
        """Open every credential that the plan names; a problem is kept for the node that will meet it."""
        self.open({reference for reference, _ in self.plan.credentials})

    def look_up(self, references: Iterable[str]) -> dict[str, Opened | CredentialError]:
        """Return the credentials that the caller gave; only a stored workflow's owner is asked for others."""
        wanted, given = set(references), self.given.credentials
        found: dict[str, Opened | CredentialError] = {}
        for name in wanted & given.keys():
            entry = given[name]
            found[name] = Opened(name, "custom", {"password": entry} if isinstance(entry, str) else entry)
        missing = wanted - given.keys()
        if self.stored:
            return found | vault.open_all(self.owner_id, missing)
        return found | {name: CredentialError(f'credentials= gives no "{name}"') for name in missing}

    def find(self, context: Context, node: PlannedNode, name: str) -> tuple[UUID, UUID, Plan]:
        """Return the workflow that a node runs: from ``workflows``, else (for a stored workflow) one of its owner's."""
        source = self.given.workflows.get(name)
        if source is None and self.stored:
            return waits.subflow(context, node, name)
        if source is None:
            raise NodeFailed(
                f'"{node.name}" runs the workflow "{name}"; pass it by workflows={{"{name}": …}}',
                code="subflow", retryable=False,
            )  # fmt: skip
        version, definition = _definition(source)
        known = uuid5(NAMESPACE_OID, name)
        return (version.workflow_id if version else known, version.pk if version else known, plan(definition))


def _prepare(source: Source, initial_context: Any, given: _Given, timeout_s: float | None) -> _Run:
    """Read everything that the run needs, so that it hardly asks a database."""
    began = time.perf_counter()
    version, definition = _definition(source)
    known = time.perf_counter()
    the_plan = plan(definition)
    planning_s = time.perf_counter() - known
    if not the_plan.nodes:
        raise StartRefused("the workflow has no nodes")
    try:
        payload = msgspec.json.decode(store.encode_json({} if initial_context is None else initial_context))
    except (TypeError, ValueError, RecursionError) as error:
        raise StartRefused(f"the initial context is not JSON: {error}") from error
    recorder = active_recorder()
    own = dict(version.workflow.settings or {}) if version else {}
    if timeout_s is not None and not 0 < timeout_s <= LONGEST_SECONDS:
        raise ValueError(f"timeout_s must be more than 0 and at most {LONGEST_SECONDS}, not {timeout_s}")
    context = _LocalContext(
        id=_execution_id(recorder),
        workflow_id=version.workflow_id if version else uuid4(),
        workflow_name=version.workflow.name if version else str(definition.raw.get("name") or "workflow"),
        version_id=version.pk if version else uuid4(),
        version_number=version.number if version else 1,
        owner_id=version.workflow.owner_id if version else 0,
        trigger="manual", depth=0, payload=payload, settings=own, plan=the_plan, status=states.RUNNING,
        phase_index=-1, cancel_requested=False, queued_us=now_us(), knows_failures=True,
        given=given, stored=version is not None, timeout_s=timeout_s, planning_s=planning_s,
    )  # fmt: skip
    context.open_credentials()
    context.setup_s = time.perf_counter() - began - planning_s
    if recorder is not None:
        return _Run(context, recorder)
    return _Run(context, ExecutionRecorder(context.workflow_name, context.id.hex), asked=False)


def _inside_recording(run: _Run) -> contextvars.Context:
    """Return a context in which the recorder of ``run`` is the current one; one of its own is readable outside, too."""
    recorder = run.own_recorder
    keep_last(recorder)
    inside = contextvars.copy_context()
    if recorder is not None:
        inside.run(record_into, recorder)
    return inside


def _definition(source: Source) -> tuple[WorkflowVersion | None, Definition]:
    if isinstance(source, Workflow):
        version = source.version or source.draft
        if version is None:
            raise StartRefused(f'workflow "{source.name}" has no version')
        return version, Definition.from_json(version.definition)
    if isinstance(source, WorkflowVersion):
        return source, Definition.from_json(source.definition)
    return None, source if isinstance(source, Definition) else Definition.from_json(source)


def _execution_id(recorder: ExecutionRecorder | None) -> UUID:
    """Return the id that the recording already has when this is its first run, else a new one."""
    if recorder is not None and not recorder.events:
        try:
            return UUID(recorder.workflow_id)
        except ValueError:
            pass
    return uuid4()


# --------------------------------------------------------------------------- executions inside


def _inside(above: _LocalContext, node: PlannedNode, row: ChildRow) -> _LocalContext:
    """Return the context of an execution that ``node`` starts: a turn of its body, or another workflow."""
    context = _LocalContext(
        id=row.id, workflow_id=row.workflow_id, workflow_name=above.workflow_name, version_id=row.version_id,
        version_number=above.version_number, owner_id=above.owner_id, trigger="workflow", depth=above.depth + 1,
        payload=above.payload, settings=above.settings, plan=row.plan, status=states.RUNNING, phase_index=-1,
        cancel_requested=False, queued_us=now_us(), knows_failures=True, parent=(above.id, node.index),
        given=above.given, stored=above.stored, above=above,
    )  # fmt: skip
    if row.scope:
        turn = msgspec.json.decode(row.item)
        context.around = (Around(node.index, above.id, turn), *above.around)
        context.set_by_nodes = dict(above.set_by_nodes)
        context.results = {**above.results, node.index: NodeResult(states.COMPLETED, turn)}
        if row.plan.uses_browser and not row.plan.launches_browser:
            owner = _launcher(above)
            context.session_owner = owner.page_of
            context.session_boot = context.session_queue = owner.session_boot
    else:
        context.payload = msgspec.json.decode(row.input)
        context.workflow_name = str(row.plan.definition.raw.get("name") or node.node.inputs.get("Workflow"))
    context.open_credentials()
    return context


def _launcher(context: _LocalContext) -> _LocalContext:
    """Return the nearest execution from ``context`` outwards that opens a page."""
    while not context.plan.launches_browser and context.around and context.above is not None:
        context = context.above
    return context


@dataclass(slots=True)
class _Waiter:
    """A node of the open phase that was set aside, and the children of it that ended since it ran."""

    wait: NodeWaits | None = None
    memory: Memory = field(default_factory=Memory)
    ended: list[ChildEnd] = field(default_factory=list)
    results: dict[int, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _ChildEnded:
    node: int
    row: ChildRow
    result: LocalResult
    outputs: dict[int, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Decided:
    node: int
    wait: NodeWaits
    answer: Answer | Exception


_Happening = Item | Ready | _ChildEnded | _Decided


# --------------------------------------------------------------------------- running


class _Run:
    """One execution. Only the thread in ``drive`` touches the context and the recorder."""

    def __init__(self, context: _LocalContext, recorder: ExecutionRecorder | None, *, asked: bool = True) -> None:
        self._context, self._recorder, self._asked = context, recorder, asked
        self._inbox: queue.SimpleQueue[Sequence[_Happening] | BaseException] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(settings.WORKER_SLOTS, thread_name_prefix="local-header")
        self._stop: tuple[End, str] | None = None
        self._noted_stop = False
        self._ended = threading.Event()
        self._ended_us = 0
        self._nodes: list[NodeOutcome] = []
        self._artifacts: set[str] = set()
        self._seq = 0
        self._state = State()
        self._phases = 0
        self._phase = 0
        self._ready: dict[int, Ready] = {}
        self._began: dict[int, int] = {}
        self._left: set[int] = set()
        self._due: list[tuple[float, int, Ready, NodeWaits | None]] = []
        self._numbers = itertools.count()
        self._waiters: dict[int, _Waiter] = {}
        self._running: dict[UUID, tuple[int, _Run]] = {}
        self._children: list[LocalResult] = []

    @property
    def own_recorder(self) -> ExecutionRecorder | None:
        """Return the recorder that was made for this run, because there was none around it."""
        return None if self._asked else self._recorder

    def halt(self, end: End, by: str) -> None:
        """Cancel what runs, again and again until the execution has ended: a node may be about to begin."""
        self._press(end, by)
        while not self._ended.wait(CANCEL_AGAIN_SECONDS):
            self._press(end, by)

    def _press(self, end: End, by: str) -> None:
        if self._stop is None:
            self._stop = end, by
            self._inbox.put(())
        runtime.cancel(self._context.id)
        for _, child in list(self._running.values()):
            child._press(_CANCELLED, by)

    def drive_alone(self) -> LocalResult:
        """Do what ``drive`` does in a thread that exists for this, and leave no database connection to it."""
        try:
            return self.drive()
        finally:
            connections.close_all()

    def drive(self) -> LocalResult:
        """Run from the first phase to the end."""
        context = self._context
        limit_s = context.deadline_us / 1_000_000
        late = End(
            states.FAILED,
            f"the execution did not finish within its limit of {limit_s:g} s (timeout_s or deadline_s)",
            DEADLINE,
        )
        timer = threading.Timer(limit_s, self.halt, (late, "the deadline"))
        timer.daemon = True
        timer.start()
        try:
            end = self._run_phases()
            self._pool.shutdown()
            self._read_late_ends()
            return self._result(end)
        except BaseException:
            threading.Thread(target=self.halt, args=(_CANCELLED, "an exception"), daemon=True).start()
            raise
        finally:
            self._pool.shutdown()
            self._ended.set()
            timer.cancel()
            runtime.close_session(context.id)

    def _run_phases(self) -> End:
        context = self._context
        self._emit([started_event(context, now_us())])
        phase, end = 0, None
        while end is None:
            step = opening.prepare(context, phase, local_until=0.0)
            self._emit(step.events)
            for row in step.phases:
                skipped = (node for node in row.rows if node.status == states.SKIPPED)
                self._nodes.extend(self._skipped(node, row.index) for node in skipped)
            if step.dispatch is not None:
                self._run_phase(step.target, step.dispatch)
            phase = step.target + 1
            end = self._stopped() or step.end
        self._phases = step.target + (step.dispatch is not None)
        self._give_page_back()
        self._ended_us = now_us()
        self._emit(end_events(context, end, self._ended_us, context.since_us))
        return end

    def _give_page_back(self) -> None:
        context = self._context
        if runtime.holds_session(context.id):
            began = time.perf_counter()
            closed = runtime.close_session(context.id, wait_s=CLEAN_UP_SECONDS)
            self._emit([cleanup_event(time.perf_counter() - began, closed, now_us())])
            context.since_us = now_us()

    def _run_phase(self, phase: int, dispatch: opening.Dispatch) -> None:
        context = self._context
        self._phase, self._due = phase, []
        self._ready = {
            index: opening.make_ready(context, context.plan.nodes[index])
            for indexes, _ in dispatch.headers
            for index in indexes
        }
        self._left = set(self._ready)
        for indexes, _ in dispatch.headers:
            self._submit([self._ready[index] for index in indexes])
        while self._left:
            self._collect()
        if context.plan.last_on_page(phase, context.plan.phases[phase]):
            self._give_page_back()
        context.since_us = now_us()
        results = [context.results[index].status for index in context.plan.phases[phase]]
        failed = any(self._is_critical(index) for index in context.plan.phases[phase])
        status = states.FAILED if failed else states.CANCELLED if states.CANCELLED in results else states.COMPLETED
        self._emit([phase_event(Kind.PHASE_COMPLETE, phase, len(results), status=status), left_event(context, phase)])

    def _collect(self) -> None:
        """Take what nodes do next, or let those go on whose time has come."""
        while self._due and self._due[0][0] <= time.monotonic():
            _, _, ready, wait = heapq.heappop(self._due)
            if wait is None:
                self._submit([ready])
            elif self._waiters[ready.planned.index].wait is wait:
                self._wake(ready.planned.index, {"reason": "timer"})
        try:
            items = self._inbox.get(timeout=max(0.0, self._due[0][0] - time.monotonic()) if self._due else None)
        except queue.Empty:
            return
        if isinstance(items, BaseException):
            raise items
        for item in items:
            self._take(item)
        if self._stopped():
            self._cancel_waiting()

    def _take(self, item: _Happening) -> None:
        context = self._context
        match item:
            case Ready():
                self._began.setdefault(item.planned.index, now_us())
                self._emit([start_event(context, item)])
            case Finished():
                self._finish(item)
            case Noted():
                event = outcomes.noted(context, item)
                if item.content is not None:
                    self._artifacts.add(str(event.data["blob"]))
                self._emit([event])
            case Retrying():
                self._emit([outcomes.retry_event(context, self._ready[item.index].planned, item)])
                if not item.in_place:
                    self._later(item.delay_s, self._ready[item.index].with_attempt(item.attempt + 1), None)
            case Resumed():
                self._emit([start_event(context, self._ready[item.index].with_attempt(item.attempt))])
            case SessionOpened():
                context.session_boot = context.session_queue = "local"
            case Waiting():
                self._lay_aside(item)
            case _ChildEnded():
                self._note_child(item)
            case _Decided():
                self._decide(item)

    def _finish(self, item: Finished) -> None:
        ready = self._ready[item.index]
        end, event = outcomes.ended(self._context, ready.planned, item)
        self._emit([*waits.exits_at_end(self._context, ready, item.status), event])
        self._nodes.append(self._outcome(end))
        self._left.discard(item.index)
        for index, child in list(self._running.values()):
            if index == item.index:
                threading.Thread(target=child.halt, args=(_CANCELLED, "the node that started it"), daemon=True).start()

    def _stopped(self) -> End | None:
        """Return how the execution ends if somebody stopped it; that they did is recorded once."""
        if self._stop is None:
            return None
        end, by = self._stop
        if not self._noted_stop:
            self._noted_stop = True
            data = {"by": by, "error": end.error if end.code == DEADLINE else None}
            self._emit([EventDraft(Kind.CANCEL_REQUESTED.value, now_us(), "", data)])
        return end

    def _cancel_waiting(self) -> None:
        """End the nodes of a stopped execution that wait for something."""
        waiting = {ready.planned.index for _, _, ready, wait in self._due if wait is None}
        waiting |= {index for index in self._left if (waiter := self._waiters.get(index)) and waiter.wait}
        self._due.clear()
        for index in sorted(waiting):
            self._take(_never_began(index, self._ready[index].attempt))

    def _later(self, seconds: float, ready: Ready, wait: NodeWaits | None) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), ready, wait))

    def _submit(self, nodes: list[Ready]) -> None:
        self._pool.submit(contextvars.copy_context().run, self._header, nodes)

    def _header(self, nodes: list[Ready]) -> None:
        """Run the nodes of one header in a thread of the pool."""
        if self._stop is not None:
            self._inbox.put([_never_began(node.planned.index, node.attempt) for node in nodes])
            return
        self._inbox.put(nodes)
        try:
            for items in reuse.run_header(self._context, nodes):
                self._inbox.put(items)
        except BaseException as error:
            self._inbox.put(error)

    # ------------------------------------------------------------------ nodes that wait

    def _lay_aside(self, item: Waiting) -> None:
        """Set a node aside; start its children, or ask."""
        context, ready, wait = self._context, self._ready[item.index], item.wait
        node = ready.planned
        try:
            if wait.kind == "approval" and context.given.approve is None:
                raise NodeFailed(
                    f'"{node.name}" asks for an approval; pass approve= to decide it', code="approval", retryable=False
                )
            rows = waits.child_rows(context, node, wait.children, context.find)
            memory = waits.after(ready.memory, wait, rows, context.redact(wait.state))
            memory.encode()
        except (ExecutionError, WorkflowError, TypeError, ValueError, RecursionError) as error:
            self._take(_failed(item.index, item.attempt, self._began[item.index], error))
            return
        waiter = self._waiters.setdefault(item.index, _Waiter())
        waiter.wait, waiter.memory = wait, memory
        self._emit([*ready.exits, *waits.waiting_events(node, wait, rows, context.depth)])
        self._ready[item.index] = replace(ready, exits=(), memory=memory, started_us=self._began[item.index])
        if wait.wake_s is not None:
            self._later(wait.wake_s, self._ready[item.index], wait)
        if wait.kind == "approval" and context.given.approve is not None:
            threading.Thread(target=self._ask, args=(ready, wait, context.given.approve), daemon=True).start()
        for row in rows:
            self._start_child(node, row)
        if waiter.ended or (rows and all(row.detached for row in rows)):
            self._see_children(item.index)

    def _wake(self, index: int, resume: dict[str, Any], exits: tuple[EventDraft, ...] = ()) -> None:
        waiter = self._waiters[index]
        waiter.wait = None
        self._ready[index] = waits.awake(self._ready[index], waiter.memory, resume, exits)
        self._submit([self._ready[index]])

    def _ask(self, ready: Ready, wait: NodeWaits, approve: Approve) -> None:
        """Ask the caller in a thread of its own: they may take their time."""
        node = ready.planned
        question = Question(self._context.id, node.node.id, str(ready.inputs.get("Title", "")), ready.inputs)
        try:
            answer = approve(question)
            if inspect.isawaitable(answer):
                answer = asyncio.run_coroutine_threadsafe(_awaited(answer), runtime.loop()).result()
        except Exception as error:
            self._inbox.put([_Decided(node.index, wait, error)])
        else:
            self._inbox.put([_Decided(node.index, wait, answer)])

    def _decide(self, item: _Decided) -> None:
        if self._waiters[item.node].wait is not item.wait:
            return  # it was answered by the clock, or cancelled
        if isinstance(item.answer, Exception):
            self._waiters[item.node].wait = None
            problem = NodeFailed(f"approve= gave no answer: {item.answer!r}", code="approval", retryable=False)
            self._take(_failed(item.node, self._ready[item.node].attempt, self._began[item.node], problem))
            return
        approved, comment = item.answer if isinstance(item.answer, tuple) else (item.answer, "")
        answer = {"approved": bool(approved), "comment": str(comment), "by": "the caller"}
        self._emit([EventDraft(Kind.APPROVAL.value, now_us(), "", answer)])
        self._wake(item.node, {"reason": "approval", **answer})

    def _start_child(self, node: PlannedNode, row: ChildRow) -> None:
        context = _inside(self._context, node, row)
        recorder = None
        if self._recorder is not None and self._asked:
            on = self._recorder.config
            recorder = ExecutionRecorder(
                context.workflow_name,
                row.id.hex,
                on["record_inputs"],
                on["record_outputs"],
                on["record_state_snapshots"],
                tags=self._recorder.metadata.tags,
            )
            recorder.metadata.parent_recording_id = self._recorder.metadata.recording_id
        child = _Run(context, recorder)
        self._running[row.id] = (-1 if row.detached else node.index, child)
        self._pool.submit(contextvars.copy_context().run, self._run_child, node, row, child)

    def _run_child(self, node: PlannedNode, row: ChildRow, child: _Run) -> None:
        try:
            result = child.drive_alone()
        except BaseException as error:
            self._inbox.put(error)
            return
        self._inbox.put([_ChildEnded(node.index, row, result, child._outputs())])

    def _note_child(self, item: _ChildEnded) -> None:
        row, result = item.row, item.result
        self._children.append(result)
        self._running.pop(row.id, None)
        if row.detached or item.node not in self._left:
            return
        end = ChildEnd(row.id, row.index, result.status, result.error, result.error_code, now_us())
        waiter, node = self._waiters[item.node], self._ready[item.node].planned
        waiter.ended.append(end)
        waiter.results[row.index] = {
            "index": row.index, "id": str(row.id), "status": end.status, "error": end.error, "code": end.code,
            "value": waits.child_value(self._context.plan, node, row.plan, item.outputs),
        }  # fmt: skip
        if waiter.wait is not None and waiter.wait.kind == "children":
            self._see_children(item.node)

    def _see_children(self, index: int) -> None:
        """Let a node go on with the ends of its children."""
        waiter = self._waiters[index]
        waiter.memory, exits = waits.note_ends(
            self._ready[index].planned, waiter.memory, waiter.ended, self._context.depth
        )
        waiter.ended = []
        results = [result for _, result in sorted(waiter.results.items())]
        chosen = {"none": None, "last": results[-1:], "all": results}[waiter.memory.collect]
        self._wake(index, waits.seen(waiter.memory, chosen), exits)

    def _read_late_ends(self) -> None:
        """Take the results of children that ended after everything else."""
        while not self._inbox.empty():
            items = self._inbox.get()
            if not isinstance(items, BaseException):
                self._children.extend(item.result for item in items if isinstance(item, _ChildEnded))

    # ------------------------------------------------------------------ what is remembered

    def _emit(self, drafts: Sequence[EventDraft]) -> None:
        if self._recorder is None:
            return
        for draft in drafts:
            data = dict(draft.shown if draft.shown is not None else draft.data)
            if draft.type == Kind.WORKFLOW_START.value:
                data["edges"] = [list(edge) for edge in self._context.plan.edges()]
            elif data.get("final_state") == STATE_ELSEWHERE:
                data["final_state"] = self._state.to_dict()
            omitted = data.pop(OMITTED, None)
            whole = draft.type == Kind.STATE_SNAPSHOT.value and self._recorder.config["record_state_snapshots"]
            self._recorder.record_as(
                draft.type, draft.timestamp, draft.node_id or None, data, depth=self._context.depth, omitted=omitted,
                state=self._state.to_dict() if whole else None,
            )  # fmt: skip
            self._seq += 1
            self._state.apply(to_event(self._context.id, self._seq, draft))

    def _is_critical(self, index: int) -> bool:
        return index in self._context.errors and not self._context.results[index].tolerated

    def _outputs(self) -> dict[int, dict[str, Any]]:
        """Return the outputs of completed nodes, not those of executions around this one."""
        context = self._context
        own = sorted(index for phase in context.plan.phases for index in phase)
        found = ((index, context.results.get(index)) for index in own)
        return {
            index: dict(result.outputs or {})
            for index, result in found
            if result is not None and result.status == states.COMPLETED
        }

    def _outcome(self, end: NodeEnd) -> NodeOutcome:
        planned = self._context.plan.nodes[end.node_index]
        return NodeOutcome(
            planned.node.id, planned.name, planned.node.type, end.status, end.attempt, self._phase,
            (end.ended_us - end.started_us) / 1_000_000, end.credits, end.error, end.error_code,
        )  # fmt: skip

    def _skipped(self, row: NodeRow, phase: int) -> NodeOutcome:
        planned = self._context.plan.nodes[row.node_index]
        return NodeOutcome(planned.node.id, planned.name, planned.node.type, row.status, 0, phase, 0.0, 0)

    def _result(self, end: End) -> LocalResult:
        context = self._context
        ids = [node.node.id for node in context.plan.nodes]
        order = {node_id: index for index, node_id in enumerate(ids)}
        credits = sum(outcome.credits for outcome in self._nodes)
        if self._recorder is not None:
            metadata = self._recorder.metadata
            metadata.execution_id, metadata.workflow_uuid = str(context.id), str(context.workflow_id)
            metadata.workflow_version, metadata.trigger = context.version_number, context.trigger
            metadata.status, metadata.credits_consumed = end.status, credits
            metadata.user_id = context.owner_id or None
            self._recorder.tag(*sorted(context.tags))
        return LocalResult(
            execution_id=context.id,
            workflow_name=context.workflow_name,
            status=end.status,
            outputs={ids[index]: outputs for index, outputs in self._outputs().items()},
            errors={ids[index]: text for index, (text, _) in sorted(context.errors.items())},
            nodes=tuple(sorted(self._nodes, key=lambda outcome: (outcome.phase, order[outcome.node_id]))),
            phases=self._phases,
            credits=credits,
            duration_s=(self._ended_us - context.queued_us) / 1_000_000,
            error=end.error,
            error_code=end.code,
            error_node=end.node_id,
            files={sha256: context.files[sha256] for sha256 in sorted(self._artifacts)},
            children=tuple(self._children),
            recorder=self._recorder,
        )


def _never_began(index: int, attempt: int) -> Finished:
    """Return the end of a node whose execution was cancelled before its turn."""
    now = now_us()
    return Finished(index, states.CANCELLED, attempt, now, now, error="cancelled", error_code="cancelled")


def _failed(index: int, attempt: int, began: int, error: Exception) -> Finished:
    code = error.code if isinstance(error, NodeFailed) else "output"
    return Finished(index, states.FAILED, attempt, began, now_us(), error=str(error), error_code=code)


async def _awaited(answer: Awaitable[Answer]) -> Answer:
    return await answer
