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
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import django
import msgspec
from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")
if not apps.ready:
    django.setup()

from executions import opening, outcomes, runtime, states, store
from executions.context import LONGEST_SECONDS, Context
from executions.drafts import End, end_events, phase_event, start_event, started_event
from executions.ending import DEADLINE
from executions.errors import StartRefused
from executions.events import to_event
from executions.planner import Plan, plan
from executions.runtime import Finished, Item, Noted, Ready, Resumed, Retrying, SessionOpened
from executions.store import EventDraft, NodeEnd, NodeRow, now_us
from recordings.context import get_current_recorder
from recordings.events import RecordingEventType as Kind
from recordings.recorder import ExecutionRecorder
from recordings.state import State
from workflows import credentials as vault
from workflows.definition import Definition
from workflows.errors import CredentialError
from workflows.models import Workflow, WorkflowVersion

Source = Definition | Mapping[str, Any] | Workflow | WorkflowVersion
Credentials = Mapping[str, str | Mapping[str, str]]

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
    error_node: str = ""
    files: dict[str, bytes] = field(default_factory=dict)

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
    timeout_s: float | None = None,
) -> LocalResult:
    """Run ``workflow`` in this process and return what it gave; a node that fails is no exception.

    ``workflow`` is a definition, its JSON, or a stored workflow (its active version, else the newest) or
    version. ``initial_context`` is what ``{{ input }}`` reads; ``variables`` are added to what ``{{ vars }}``
    reads. ``credentials`` maps names to fields, ``{"shop": {"password": "…"}}``; those that it does not name
    are looked up for the owner of a stored workflow. ``timeout_s`` ends the whole run as failed.

    With ``record_workflow(…)`` around it every event is recorded. Cancelling the awaiting task cancels the
    nodes, closes the browser page, and records the end.

    Raises:
        StartRefused: there is nothing to run, or the input is not JSON.
        WorkflowError: the definition cannot be planned.
    """
    wanted = (workflow, initial_context, variables, credentials, timeout_s)
    if isinstance(workflow, Workflow | WorkflowVersion):
        run: _Run = await sync_to_async(_prepare)(*wanted)
    else:
        run = _prepare(*wanted)
    thread = ThreadPoolExecutor(1, thread_name_prefix="local")
    work = asyncio.get_running_loop().run_in_executor(thread, contextvars.copy_context().run, run.drive)
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
    timeout_s: float | None = None,
) -> LocalResult:
    """Do what ``execute`` does and return when the execution has ended; Ctrl-C cancels it."""
    return _prepare(workflow, initial_context, variables, credentials, timeout_s).drive()


_CANCELLED = End(states.CANCELLED, "cancelled", "cancelled")


# --------------------------------------------------------------------------- what an execution knows


@dataclass(slots=True)
class _LocalContext(Context):
    """The context of an execution that no database knows."""

    extra: dict[str, Any] = field(default_factory=dict)
    opened: dict[tuple[str, str], str | CredentialError] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        return {**self.plan.definition.vars, **settings.WORKFLOW_VARS, **self.extra, **self.set_by_nodes}

    def keep(self, content: bytes, content_type: str) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        self.files[sha256] = content
        return sha256

    def _secret(self, reference: str, name: str) -> str:
        found = self.opened[reference, name]
        if isinstance(found, CredentialError):
            raise found
        return found


def _prepare(
    source: Source,
    initial_context: Any,
    variables: Mapping[str, Any] | None,
    credentials: Credentials | None,
    timeout_s: float | None,
) -> _Run:
    """Read everything that the run needs, so that the run itself asks no database."""
    version, definition = _definition(source)
    the_plan = plan(definition)
    if not the_plan.nodes:
        raise StartRefused("the workflow has no nodes")
    try:
        payload = msgspec.json.decode(store.encode_json({} if initial_context is None else initial_context))
    except (TypeError, ValueError, RecursionError) as error:
        raise StartRefused(f"the initial context is not JSON: {error}") from error
    recorder = get_current_recorder()
    own = dict(version.workflow.settings or {}) if version else {}
    if timeout_s is not None:
        if not 0 < timeout_s <= LONGEST_SECONDS:
            raise ValueError(f"timeout_s must be more than 0 and at most {LONGEST_SECONDS}, not {timeout_s}")
        own["deadline_s"] = timeout_s
    context = _LocalContext(
        id=_execution_id(recorder),
        workflow_id=version.workflow_id if version else uuid4(),
        workflow_name=version.workflow.name if version else str(definition.raw.get("name") or "workflow"),
        version_id=version.pk if version else uuid4(),
        version_number=version.number if version else 1,
        owner_id=version.workflow.owner_id if version else 0,
        trigger="manual", depth=0, payload=payload, settings=own, plan=the_plan, status=states.RUNNING,
        phase_index=-1, cancel_requested=False, queued_us=now_us(), knows_failures=True,
        extra=dict(variables or {}),
        opened=_open_credentials(the_plan, credentials or {}, version.workflow.owner_id if version else None),
    )  # fmt: skip
    context.secrets.update(value for value in context.opened.values() if isinstance(value, str))
    return _Run(context, recorder)


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


def _open_credentials(
    the_plan: Plan, given: Credentials, owner_id: int | None
) -> dict[tuple[str, str], str | CredentialError]:
    """Return every credential that the plan names, in plain text, or the problem that the node will meet."""
    return {key: _open_credential(*key, given, owner_id) for key in the_plan.credentials}


def _open_credential(reference: str, name: str, given: Credentials, owner_id: int | None) -> str | CredentialError:
    entry = given.get(reference)
    fields = {"password": entry} if isinstance(entry, str) else entry or {}
    if name in fields:
        return fields[name]
    if entry is None and owner_id is not None:
        try:
            return vault.resolve(owner_id, reference, name)
        except CredentialError as error:
            return error
    return CredentialError(f'credentials= gives no field "{name}" of "{reference}"')


# --------------------------------------------------------------------------- running


class _Run:
    """One execution. Only the thread in ``drive`` touches the context and the recorder."""

    def __init__(self, context: _LocalContext, recorder: ExecutionRecorder | None) -> None:
        self._context, self._recorder = context, recorder
        self._inbox: queue.SimpleQueue[Sequence[Item | Ready] | BaseException] = queue.SimpleQueue()
        self._stop: tuple[End, str] | None = None
        self._noted_stop = False
        self._ended = threading.Event()
        self._nodes: list[NodeOutcome] = []
        self._artifacts: set[str] = set()
        self._seq = 0
        self._state = State() if recorder is not None and recorder.config["record_state_snapshots"] else None
        self._phases = 0

    def halt(self, end: End, by: str) -> None:
        """Cancel what runs, again and again until the execution has ended: a node may be about to begin."""
        if self._stop is None:
            self._stop = end, by
        self._inbox.put(())
        while not self._ended.wait(CANCEL_AGAIN_SECONDS):
            runtime.cancel(self._context.id)

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
        pool = ThreadPoolExecutor(settings.WORKER_SLOTS, thread_name_prefix="local-header")
        try:
            return self._result(self._run_phases(pool))
        except BaseException:
            threading.Thread(target=self.halt, args=(_CANCELLED, "an exception"), daemon=True).start()
            raise
        finally:
            pool.shutdown()
            self._ended.set()
            timer.cancel()
            runtime.close_session(context.id)

    def _run_phases(self, pool: ThreadPoolExecutor) -> End:
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
                self._run_phase(pool, step.target, step.dispatch)
            phase = step.target + 1
            end = self._stopped() or step.end
        self._phases = step.target + (step.dispatch is not None)
        self._emit(end_events(context, end, now_us()))
        return end

    def _run_phase(self, pool: ThreadPoolExecutor, phase: int, dispatch: opening.Dispatch) -> None:
        context = self._context
        ready = {
            index: opening.make_ready(context, context.plan.nodes[index])
            for indexes, _ in dispatch.headers
            for index in indexes
        }
        for indexes, _ in dispatch.headers:
            self._submit(pool, [ready[index] for index in indexes])
        self._collect(pool, phase, ready)
        results = [context.results[index].status for index in context.plan.phases[phase]]
        failed = any(self._is_critical(index) for index in context.plan.phases[phase])
        status = states.FAILED if failed else states.CANCELLED if states.CANCELLED in results else states.COMPLETED
        self._emit([phase_event(Kind.PHASE_COMPLETE, phase, len(results), status=status)])
        self._snapshot()

    def _collect(self, pool: ThreadPoolExecutor, phase: int, ready: dict[int, Ready]) -> None:
        """Take what the nodes of a phase do until each has ended; start what waits for a late attempt."""
        left = set(ready)
        due: list[tuple[float, int, int]] = []
        while left:
            while due and due[0][0] <= time.monotonic():
                _, index, attempt = heapq.heappop(due)
                self._submit(pool, [ready[index].with_attempt(attempt)])
            try:
                items = self._inbox.get(timeout=max(0.0, due[0][0] - time.monotonic()) if due else None)
            except queue.Empty:
                continue
            if isinstance(items, BaseException):
                raise items
            if self._stopped():
                items = [*items, *(_never_began(index, attempt) for _, index, attempt in due)]
                due.clear()
            for item in items:
                self._take(item, phase, ready, left, due)

    def _take(
        self, item: Item | Ready, phase: int, ready: dict[int, Ready], left: set[int],
        due: list[tuple[float, int, int]],
    ) -> None:  # fmt: skip
        context = self._context
        match item:
            case Ready():
                self._emit([start_event(context, item)])
            case Finished():
                end, event = outcomes.ended(context, ready[item.index].planned, item)
                self._emit([event])
                self._nodes.append(self._outcome(end, phase))
                left.discard(item.index)
            case Noted():
                event = outcomes.noted(context, item)
                if item.content is not None:
                    self._artifacts.add(str(event.data["blob"]))
                self._emit([event])
            case Retrying():
                self._emit([outcomes.retry_event(context, ready[item.index].planned, item)])
                if not item.in_place:
                    delay_s = 0.0 if self._stop else item.delay_s
                    heapq.heappush(due, (time.monotonic() + delay_s, item.index, item.attempt + 1))
            case Resumed():
                self._emit([start_event(context, ready[item.index].with_attempt(item.attempt))])
            case SessionOpened():
                context.session_boot = context.session_queue = "local"

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

    def _submit(self, pool: ThreadPoolExecutor, nodes: list[Ready]) -> None:
        pool.submit(contextvars.copy_context().run, self._header, nodes)

    def _header(self, nodes: list[Ready]) -> None:
        """Run the nodes of one header in a thread of the pool."""
        if self._stop is not None:
            self._inbox.put([_never_began(node.planned.index, node.attempt) for node in nodes])
            return
        self._inbox.put(nodes)
        try:
            for items in runtime.run_header(self._context.facts(), nodes):
                self._inbox.put(items)
        except BaseException as error:
            self._inbox.put(error)

    # ------------------------------------------------------------------ what is remembered

    def _emit(self, drafts: Sequence[EventDraft]) -> None:
        if self._recorder is None:
            return
        for draft in drafts:
            data = draft.shown if draft.shown is not None else draft.data
            self._recorder.record_as(draft.type, draft.timestamp, draft.node_id or None, data)
            self._seq += 1
            if self._state is not None:
                self._state.apply(to_event(self._context.id, self._seq, draft))

    def _snapshot(self) -> None:
        if self._recorder is not None and self._state is not None:
            self._recorder.record_state_snapshot(self._state.to_dict())

    def _is_critical(self, index: int) -> bool:
        return index in self._context.errors and not self._context.results[index].tolerated

    def _outcome(self, end: NodeEnd, phase: int) -> NodeOutcome:
        planned = self._context.plan.nodes[end.node_index]
        return NodeOutcome(
            planned.node.id, planned.name, planned.node.type, end.status, end.attempt, phase,
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
        return LocalResult(
            execution_id=context.id,
            workflow_name=context.workflow_name,
            status=end.status,
            outputs={
                ids[index]: dict(result.outputs or {})
                for index, result in sorted(context.results.items())
                if result.status == states.COMPLETED
            },
            errors={ids[index]: text for index, (text, _) in sorted(context.errors.items())},
            nodes=tuple(sorted(self._nodes, key=lambda outcome: (outcome.phase, order[outcome.node_id]))),
            phases=self._phases,
            credits=credits,
            duration_s=(now_us() - context.queued_us) / 1_000_000,
            error=end.error,
            error_node=end.node_id,
            files={sha256: context.files[sha256] for sha256 in sorted(self._artifacts)},
        )


def _never_began(index: int, attempt: int) -> Finished:
    """Return the end of a node whose execution was cancelled before its turn."""
    now = now_us()
    return Finished(index, states.CANCELLED, attempt, now, now, error="cancelled", error_code="cancelled")
