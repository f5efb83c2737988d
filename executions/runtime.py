"""Run nodes: one asyncio loop per process, inputs in, outcomes out; nothing here touches the database.

The Celery thread that owns a header reads what happens from a queue and writes it. Node code and
Playwright live on the loop thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import dis
import hashlib
import inspect
import logging
import queue
import random
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings

from executions import confinement, logs, mail, samples, states, traffic
from executions.browser import BrowserHost, BrowserOptions, find_chromium, kill_orphan, remove_orphans
from executions.egress import EgressPolicy, guarded_client
from executions.errors import NodeFailed, NodeInputError, NodeTimeout, NodeWaits, SessionLost
from executions.log_limits import Limits, Lines
from executions.nodes.base import NodeCall, NodeExecutor
from executions.notes import TEAM_KINDS, Call, NotedTransport, TeamNotes, checked_tags, own_type, refuse_reserved
from executions.planner import MAIN_SESSION, PlannedNode
from executions.samples import Used
from executions.store import EventDraft, now_us
from executions.usage import usage
from recordings.context import record_into
from recordings.events import RecordingEventType as Kind
from recordings.forwarding import ForwardingRecorder
from recordings.recorder import ExecutionRecorder
from workflows.registry import DONE, EXECUTE, NODE_REGISTRY, Effect

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.02
ITEMS_TOGETHER = 1000
"""The most that is written in one transaction, in which all others of the process wait."""
IN_PLACE_RETRY_SECONDS = 60.0
MAXIMUM_BACKOFF_SECONDS = 3600.0
BROWSER_IDLE_SECONDS = 10.0
TRAFFIC_SECONDS = 5.0
MEMORY_SECONDS = 0.5
"""How often the memory of Chromium is looked at while a node works with its page."""
GRACE_SECONDS = 5.0
"""How long a node that was cancelled, or is out of time, may take to stop before it is left behind."""
WATCHDOG_SECONDS = 2.0
"""How much later the kernel ends a confined process whose node keeps everything else in it from running."""


RECORDED_BY = "recorded_by"
"""In the data of a team event: the node that wrote it; the event itself carries the id of the team."""


# --------------------------------------------------------------------------- what comes out


@dataclass(frozen=True, slots=True)
class Finished:
    """A node ended. ``outputs`` is set only when it completed."""

    index: int
    status: str
    attempt: int
    started_us: int
    ended_us: int
    outputs: dict[str, Any] | None = None
    error: str = ""
    error_code: str = ""
    traceback: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    process: dict[str, float] | None = None
    """What the process had used when the node failed."""
    used: Used | None = None
    cached: bool = False
    """Whether the outputs are those of an earlier run, so that they cost nothing."""


@dataclass(frozen=True, slots=True)
class Noted:
    """Something happened inside a running node. ``content`` is a blob to store with the event.

    ``lines`` counts it, if it is one of those that may be left out; it weighs ``weight`` there.
    """

    index: int
    event: EventDraft
    content: bytes | None = None
    content_type: str = ""
    lines: Lines | None = None
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Retrying:
    """An attempt failed and another will follow after ``delay_s``; not ``in_place`` means that we let go."""

    index: int
    attempt: int
    delay_s: float
    error: str
    error_code: str
    in_place: bool


@dataclass(frozen=True, slots=True)
class Resumed:
    """The next attempt of a node begins."""

    index: int
    attempt: int


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A browser session was opened by this process, for the node ``index``."""

    index: int
    name: str
    chromium_pid: int | None
    chromium_started: int | None
    profile_dir: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A node asked to be set aside; this process lets go of it."""

    index: int
    attempt: int
    wait: NodeWaits


@dataclass(frozen=True, slots=True)
class Released:
    """A node was stopped because this process ends; another one is to run it."""

    index: int


Item = Finished | Noted | Retrying | Resumed | SessionOpened | Waiting | Released


@dataclass(frozen=True, slots=True)
class Ready:
    """A node that runs now: its resolved inputs, or the problem that resolving them met.

    ``resume``, ``state`` and ``started_us`` are set when it was set aside before; ``memory`` and ``exits`` belong to
    ``executions.waits``: how far its children are, and the events of those that ended.
    """

    planned: PlannedNode
    inputs: dict[str, Any]
    attempt: int = 1
    problem: NodeFailed | None = None
    raised: Exception | None = None
    """What this attempt ended with, if it ran already."""
    started_us: int = 0
    state: Any = None
    resume: dict[str, Any] | None = None
    memory: Any = None
    exits: tuple[EventDraft, ...] = ()
    used: Used | None = None
    """What it has used of this process so far, if it ran already."""
    large: dict[str, Any] | None = None
    """What its first event holds in the place of inputs that are too large for a row."""

    def with_attempt(self, attempt: int) -> Ready:
        """Return the same node with the number of its attempt."""
        return replace(self, attempt=attempt)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the nodes of one execution may know about it.

    ``session_known`` says that a browser was launched, ``session_owner`` by which execution: this one, or
    the one whose page the turn of a loop works on.
    """

    execution_id: UUID
    workflow_id: UUID
    owner_id: int
    session_owner: UUID
    session_known: bool = False
    variables: dict[str, Any] = field(default_factory=dict)
    clean: Callable[[bytes, str], bytes] = lambda content, content_type: content
    """Takes the secrets out of the content of a file of some type."""
    secrets: Callable[[], Collection[str]] = tuple
    """What must not be read in a picture of the page."""
    captures: Callable[[PlannedNode], bool] = lambda node: True
    """Whether the page of a node may be kept when it failed."""
    claim: str = ""
    """The claim under which this process holds the nodes; set where one of them works on a page."""


# --------------------------------------------------------------------------- the loop of this process


class _Loop:
    """One asyncio loop in a thread of its own, started at the first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """Return the running loop."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                samples.install(self._loop)
                threading.Thread(target=self._run, args=(self._loop,), name="nodes", daemon=True).start()
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()


_loop = _Loop()
_tasks: dict[UUID, set[asyncio.Task[None]]] = {}
_claimed: dict[str, set[asyncio.Task[None]]] = {}
_works: set[asyncio.Future[dict[str, Any]]] = set()
_verdicts: dict[asyncio.Future[dict[str, Any]], NodeFailed] = {}
_host: BrowserHost | None = None
_openers: dict[str, str] = {}
"""Under which claim every page of this process was opened last, by the name of its session."""
_releasing = False


def loop() -> asyncio.AbstractEventLoop:
    """Return the loop on which this process runs nodes."""
    return _loop.get()


def cancel(execution_id: UUID) -> None:
    """Cancel the running nodes of an execution in this process; they end as cancelled."""

    def on_loop() -> None:
        for task in _tasks.get(execution_id, ()):
            task.cancel()

    loop().call_soon_threadsafe(on_loop)


def abandon(claim: str) -> None:
    """Stop the nodes that run under a claim which this process lost; what they do would count for nothing."""

    def on_loop() -> None:
        for task in _claimed.get(claim, ()):
            task.cancel()

    loop().call_soon_threadsafe(on_loop)


def stop_all(failure: NodeFailed) -> None:
    """Stop every node that runs in this process; each ends with ``failure``."""

    def on_loop() -> None:
        for work in _works:
            _verdicts[work] = failure
            work.cancel()

    confinement.spoil(str(failure))
    loop().call_soon_threadsafe(on_loop)


def release_all() -> None:
    """Stop every node of this process, and every one that begins from now on; each ends as ``Released``."""
    global _releasing
    _releasing = True

    def on_loop() -> None:
        for tasks in list(_tasks.values()):
            for task in tasks:
                task.cancel()

    loop().call_soon_threadsafe(on_loop)


def run_header(facts: Facts, nodes: Sequence[Ready], claim: str = "") -> Iterator[list[Item]]:
    """Run ``nodes``, held under ``claim``, and yield what happens in batches, at most 20 ms after the first of a batch.

    Nodes of one browser session run one after another, all others at the same time. Ends when every node
    has ended or was let go for a later retry. Nodes that cannot wait run in this thread, first.
    """
    inbox: queue.SimpleQueue[Item] = queue.SimpleQueue()
    tried = [_run_at_once(facts, node, inbox) if never_waits(node.planned.node.type) else node for node in nodes]
    left = [node for node in tried if node is not None]
    if any(node.planned.session for node in left):
        facts = replace(facts, claim=claim)
    running = asyncio.run_coroutine_threadsafe(_run_all(facts, left, inbox, claim), loop()) if left else None
    open_nodes = len(nodes)
    try:
        while open_nodes:
            items = [inbox.get()]
            open_nodes -= _ends(items[0])
            until = time.monotonic() + FLUSH_SECONDS
            while open_nodes and len(items) < ITEMS_TOGETHER:
                try:
                    item = inbox.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                items.append(item)
                open_nodes -= _ends(item)
            yield items
    except BaseException:
        if running is not None:
            running.cancel()  # nobody writes what they do; they would only run beside their second delivery
        raise


def run_at_once(facts: Facts, node: Ready) -> list[Item] | None:
    """Run a node that never waits and return what happened, or None when it did not complete."""
    inbox: queue.SimpleQueue[Item] = queue.SimpleQueue()
    if _run_at_once(facts, node, inbox) is not None:
        return None
    return [inbox.get() for _ in range(inbox.qsize())]


@cache
def never_waits(node_type: str) -> bool:
    """Return whether a node type is light and its ``run`` holds no ``await``, so that the loop could not help it."""
    executor = NODE_REGISTRY[node_type]
    description, run = executor.description, executor.run
    if description.weight != "light" or description.effect != "pure" or not inspect.iscoroutinefunction(run):
        return False
    return not any(instruction.opname in _WAITING for instruction in dis.get_instructions(run))


_WAITING = frozenset({"GET_AWAITABLE", "GET_AITER", "GET_ANEXT", "BEFORE_ASYNC_WITH", "YIELD_VALUE"})


def _run_at_once(facts: Facts, node: Ready, inbox: queue.SimpleQueue[Item]) -> Ready | None:
    """Run a node that never waits; return it with what it raised, for the loop to judge, or None when it completed."""
    started, used = node.started_us or now_us(), Used()
    try:
        if node.problem is not None:
            raise node.problem
        executor, call, env = _prepared(facts, node, node.attempt, inbox, Lines(_limits()))
        began = time.thread_time_ns()
        try:
            env.inside().run(_step, executor.run, call, env)
        except StopIteration as end:
            outputs = _outputs(node.planned, end.value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _wanted_to_exit(node.planned) from error
        except asyncio.CancelledError as error:
            raise _interrupted(node.planned) from error
        finally:
            used.cpu_ns = time.thread_time_ns() - began
            env.close()
    except Exception as error:
        return replace(node, raised=error, started_us=started, used=used)
    inbox.put(
        Finished(
            node.planned.index, states.COMPLETED, node.attempt, started, now_us(), outputs=outputs,
            variables=env.variables, used=used,
        )
    )  # fmt: skip
    return None


def _ends(item: Item) -> bool:
    return isinstance(item, Finished | Waiting | Released) or (isinstance(item, Retrying) and not item.in_place)


async def _run_all(facts: Facts, nodes: Sequence[Ready], inbox: queue.SimpleQueue[Item], claim: str) -> None:
    sessions: dict[str, list[Ready]] = {}
    chains: list[list[Ready]] = []
    for node in nodes:
        if node.planned.session:
            sessions.setdefault(node.planned.session, []).append(node)
        else:
            chains.append([node])
    chains.extend(sessions.values())
    if _releasing:
        for node in nodes:
            inbox.put(Released(node.planned.index))
        return
    begun = [(asyncio.create_task(_run_chain(facts, chain, inbox)), chain) for chain in chains]
    tasks = {task for task, _ in begun}
    known = _tasks.setdefault(facts.execution_id, set())
    known.update(tasks)
    _claimed[claim] = tasks
    try:
        await asyncio.gather(*tasks, return_exceptions=True)
        for task, chain in begun:
            if task.cancelled():  # before its first step, so that nothing in it could say so
                for node in chain:
                    inbox.put(_cancelled(node, node.attempt, now_us()))
    finally:
        _claimed.pop(claim, None)
        known.difference_update(tasks)
        if not known:
            _tasks.pop(facts.execution_id, None)


async def _run_chain(facts: Facts, chain: Sequence[Ready], inbox: queue.SimpleQueue[Item]) -> None:
    cancelled = False
    for node in chain:
        if cancelled:
            inbox.put(_cancelled(node, node.attempt, now_us()))
            continue
        logs.about(execution_id=str(facts.execution_id), node_id=node.planned.node.id)
        try:
            cancelled = await _run_node(facts, node, inbox)
        except asyncio.CancelledError:  # while the page of a failed node was captured
            inbox.put(_cancelled(node, node.attempt, now_us()))
            cancelled = True
        except BaseException as error:
            logger.exception("node %s of execution %s broke the runtime", node.planned.node.id, facts.execution_id)
            now = now_us()
            inbox.put(
                Finished(
                    node.planned.index, states.FAILED, node.attempt, now, now, error=repr(error), error_code="internal"
                )
            )


async def _run_node(facts: Facts, node: Ready, inbox: queue.SimpleQueue[Item]) -> bool:
    """Run one node with its attempts; return whether it was cancelled."""
    planned, attempt = node.planned, node.attempt
    started, used, lines = node.started_us or now_us(), node.used or Used(), Lines(_limits())
    while True:
        try:
            outputs, variables = await _attempt(facts, node, attempt, inbox, used, lines)
            await _keep_traffic(facts, planned, inbox)
            inbox.put(
                Finished(
                    planned.index, states.COMPLETED, attempt, started, now_us(), outputs=outputs,
                    variables=variables, used=used,
                )
            )  # fmt: skip
            return False
        except asyncio.CancelledError:
            inbox.put(_cancelled(node, attempt, started))
            return True
        except NodeWaits as wait:
            inbox.put(Waiting(planned.index, attempt, wait))
            return False
        except Exception as error:
            failure = _failure(error, planned)
        delay = _retry_delay(planned, attempt, failure) if failure.retryable else None
        if delay is None:
            await _keep_traffic(facts, planned, inbox)
            await _capture(facts, planned, inbox)
            inbox.put(
                Finished(
                    planned.index, states.FAILED, attempt, started, now_us(),
                    error=str(failure), error_code=failure.code, traceback=_traceback(failure), process=usage(),
                    used=used,
                )
            )  # fmt: skip
            return False
        # A confined process runs one attempt per delivery, so that the time of a row is the time of its attempt.
        in_place = delay <= IN_PLACE_RETRY_SECONDS and confinement.limits() is None
        inbox.put(Retrying(planned.index, attempt, delay, str(failure), failure.code, in_place))
        if not in_place:
            return False
        try:
            await asyncio.sleep(delay)
        except asyncio.CancelledError:
            inbox.put(_cancelled(node, attempt, started))
            return True
        attempt += 1
        inbox.put(Resumed(planned.index, attempt))


async def _attempt(
    facts: Facts, node: Ready, attempt: int, inbox: queue.SimpleQueue[Item], used: Used, lines: Lines
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a node once and return its outputs and the variables that it set; add to ``used`` and ``lines`` what it took."""
    planned = node.planned
    if node.raised is not None and attempt == node.attempt:
        raise node.raised
    if node.problem is not None:
        raise node.problem
    executor, call, env = _prepared(facts, node, attempt, inbox, lines)
    async with _counted(facts, planned, used):
        work = _begun(_guarded(executor, call, env, planned), env.inside(), used)
        _works.add(work)
        try:
            await asyncio.wait((work,), timeout=planned.timeout_s)
        except asyncio.CancelledError:
            confinement.spoil("a node was cancelled")
            await _stop(work, planned)
            raise
        else:
            if not work.done():
                confinement.spoil("a node ran out of time")
                await _stop(work, planned)
                raise NodeTimeout(f"did not finish within {planned.timeout_s:g} s, its time limit")
        finally:
            env.close()
            _works.discard(work)
            verdict = _verdicts.pop(work, None)
    if verdict is not None:
        raise verdict
    if work.cancelled():
        raise _interrupted(planned)
    return _outputs(planned, work.result()), env.variables


def _begun(
    work: Coroutine[Any, Any, dict[str, Any]], context: contextvars.Context, used: Used
) -> asyncio.Task[dict[str, Any]]:
    context.run(samples.count_for, used)
    return asyncio.get_running_loop().create_task(samples.measured(work, used), context=context)


def _counted(facts: Facts, planned: PlannedNode, used: Used) -> AbstractAsyncContextManager[None]:
    """Return what counts, around an attempt, that which the steps of the loop do not show."""
    if confinement.limits() is not None:
        return _confined(planned, used)
    return _chromium_counted(session_id(facts.session_owner), used) if planned.session else nullcontext()


@asynccontextmanager
async def _confined(planned: PlannedNode, used: Used) -> AsyncIterator[None]:
    with confinement.watched(planned.timeout_s + GRACE_SECONDS + WATCHDOG_SECONDS), samples.whole_process(used):
        yield


def _prepared(
    facts: Facts, node: Ready, attempt: int, inbox: queue.SimpleQueue[Item], lines: Lines
) -> tuple[NodeExecutor, NodeCall, NodeEnvironment]:
    """Return what runs a node, with inputs that it accepted."""
    planned = node.planned
    call = NodeCall(
        planned.node.id,
        planned.node.type,
        planned.name,
        node.inputs,
        attempt,
        index=planned.index,
        state=node.state,
        resume=node.resume,
    )
    env = NodeEnvironment(facts, planned, inbox, lines)
    executor = _executor(planned.node.type)
    executor.validate(call, env)
    return executor, call, env


def _outputs(planned: PlannedNode, outputs: Any) -> dict[str, Any]:
    if not isinstance(outputs, dict):
        raise NodeFailed(f"node type {planned.node.type} returned {type(outputs).__name__} instead of outputs")
    return {**outputs, DONE: EXECUTE}


def _limits() -> Limits:
    """Return what one node run may write into its log."""
    return _limits_of(settings.NODE_LOG_LINES, settings.NODE_LOG_MB, settings.NODE_LOG_RATE)


@cache
def _limits_of(lines: int, megabytes: float, rate: Any) -> Limits:
    count, seconds = (0, 1) if rate is None else (rate.count, rate.seconds)
    return Limits(lines, int(megabytes * 2**20), count, seconds)


def _step(run: Callable[[NodeCall, NodeEnvironment], Any], call: NodeCall, env: NodeEnvironment) -> None:
    run(call, env).send(None)


async def _guarded(
    executor: NodeExecutor, call: NodeCall, env: NodeEnvironment, planned: PlannedNode
) -> dict[str, Any]:
    """Run a node; none may end the process, or the loop that all nodes share."""
    try:
        return await executor.run(call, env)
    except (SystemExit, KeyboardInterrupt) as error:
        raise _wanted_to_exit(planned) from error


def _wanted_to_exit(planned: PlannedNode) -> NodeFailed:
    return NodeFailed(f'node "{planned.name}" tried to end its process', retryable=False)


def _interrupted(planned: PlannedNode) -> NodeFailed:
    return NodeFailed(f'something that node "{planned.name}" waited for was cancelled', code="interrupted")


async def _stop(work: asyncio.Future[dict[str, Any]], planned: PlannedNode) -> None:
    """Cancel a node and wait for its end; one that goes on all the same is left behind."""
    until = time.monotonic() + GRACE_SECONDS
    work.cancel()
    while not work.done() and (left := until - time.monotonic()) > 0:
        try:
            await asyncio.wait((work,), timeout=left)
        except asyncio.CancelledError:
            work.cancel()
    if not work.done():
        logger.error("node %s (%s) does not stop; it is left behind", planned.node.id, planned.node.type)
        _background.add(work)
    work.add_done_callback(_forget_work)


def _forget_work(work: asyncio.Future[Any]) -> None:
    _background.discard(work)
    if not work.cancelled():
        work.exception()  # so that asyncio does not report it as never looked at


@cache
def _executor(node_type: str) -> NodeExecutor:
    executor: NodeExecutor = NODE_REGISTRY[node_type]()
    return executor


def effect_of(node: Ready) -> Effect:
    """Return what a run of ``node`` may change outside."""
    planned = node.planned
    call = NodeCall(planned.node.id, planned.node.type, planned.name, node.inputs, node.attempt)
    return _executor(planned.node.type).effect(call)


def _failure(error: Exception, planned: PlannedNode) -> NodeFailed:
    if isinstance(error, NodeFailed):
        return error
    if isinstance(error, MemoryError):
        return _out_of_memory(error)
    failure = NodeFailed(f"{type(error).__name__}: {error}", code="unexpected", retryable=True)
    failure.__cause__ = error
    failure.__traceback__ = error.__traceback__
    return failure


def _out_of_memory(error: MemoryError) -> NodeFailed:
    """Return the failure of a node that asked for too much memory, and let go of what it had."""
    traceback.clear_frames(error.__traceback__)
    confinement.spoil("a node ran out of memory")
    limits = confinement.limits()
    size = f"; it may use {limits.memory_mb} MiB (FLOWBUILDER_ISOLATED_MEMORY_MB)" if limits else ""
    return NodeFailed(f"ran out of memory{size}", code="resource", retryable=False)


def _traceback(failure: NodeFailed) -> str:
    return "".join(traceback.format_exception(failure))


def _retry_delay(planned: PlannedNode, attempt: int, failure: NodeFailed) -> float | None:
    """Return seconds until the next attempt (exponential, with jitter of a half), or None when none is left.

    An answer that says when to come back (Retry-After) is not asked again before.
    """
    policy = planned.node.policy
    if attempt > policy.retries or (policy.retry_on and failure.kinds.isdisjoint(policy.retry_on)):
        return None
    delay = min(policy.backoff_s * 2.0 ** (attempt - 1), MAXIMUM_BACKOFF_SECONDS)
    asked = getattr(failure, "retry_after_s", None) or 0.0
    spread = delay * random.uniform(0.5, 1.5) if policy.jitter else delay  # noqa: S311 - spreads load, guards nothing
    return max(spread, min(asked, MAXIMUM_BACKOFF_SECONDS))


def _cancelled(node: Ready, attempt: int, started: int) -> Finished | Released:
    if _releasing:
        return Released(node.planned.index)
    return Finished(
        node.planned.index, states.CANCELLED, attempt, started, now_us(), error="cancelled", error_code="cancelled"
    )


# --------------------------------------------------------------------------- what a node may touch


class NodeEnvironment(TeamNotes):
    """The ``Environment`` of one attempt."""

    def __init__(
        self, facts: Facts, planned: PlannedNode, inbox: queue.SimpleQueue[Item], lines: Lines | None = None
    ) -> None:
        self.execution_id = str(facts.execution_id)
        self.workflow_id = str(facts.workflow_id)
        self.user_id = facts.owner_id
        self.idempotency_key = f"{facts.execution_id}:{planned.node.id}:0"
        self._facts, self._planned, self._inbox = facts, planned, inbox
        self._lines = lines or Lines(_limits())
        self.variables: dict[str, Any] = {}
        self._open = True
        self._made_recorder: ExecutionRecorder | None = None

    def close(self) -> None:
        """Stop taking events, and say how many were left out: the attempt is over."""
        self._open = False
        if told := self._lines.left_out():
            self._put(Kind.LOG.value, told)

    def inside(self) -> contextvars.Context:
        """Return a context in which ``recordings.get_current_recorder()`` writes into this execution."""
        context = contextvars.copy_context()
        context.run(record_into, self._recorder)
        context.run(logs.about, execution_id=self.execution_id, node_id=self._planned.node.id)
        return context

    def _recorder(self) -> ExecutionRecorder:
        if self._made_recorder is None:
            self._made_recorder = ForwardingRecorder(self._planned.name, self.execution_id, self._forward)
        return self._made_recorder

    def _forward(self, kind: Kind, node_id: str | None, data: dict[str, Any]) -> None:
        if kind in TEAM_KINDS and node_id is not None:
            self._note_for(kind, node_id, data)
            return
        if kind is Kind.TAG:
            self.tag(*data["tags"])
            return
        kept = data if node_id is None else {**data, "node_id": node_id}
        self._note(own_type(kind), {key: value for key, value in kept.items() if value is not None})

    def set_variable(self, key: str, value: Any) -> None:
        """Store a variable for later nodes of this execution; it counts when this node completes."""
        self.variables[key] = value

    def get_variable(self, key: str) -> Any:
        """Return a variable set before or a variable of the workflow, or None."""
        return self.variables.get(key, self._facts.variables.get(key))

    def log(self, message: str, *, level: str = "info", **data: Any) -> None:
        """Write one log line."""
        self._note(Kind.LOG.value, {"message": message, "level": level, **data})

    def record(self, event_type: str, data: dict[str, Any]) -> None:
        """Write an event of this node; the types of the engine's own events are refused."""
        refuse_reserved(event_type)
        self._note(event_type, data)

    def tag(self, *tags: str) -> None:
        """Tag the recording of this execution, whether or not this node completes."""
        self._note(Kind.TAG.value, {"tags": checked_tags(tags)})

    def _note_for(self, kind: Kind, team_id: str, data: dict[str, Any]) -> None:
        self._note(kind.value, {**data, RECORDED_BY: self._planned.node.id}, node_id=str(team_id))

    async def save_artifact(self, kind: str, content: bytes, *, content_type: str, name: str = "") -> str:
        """Store bytes beside the recording and return their SHA-256."""
        return self._artifact(kind, content, content_type, name)

    async def page(self) -> Any:
        """Return the page of this execution's browser."""
        host = _host
        page = host.get(self._session_id) if host else None
        if page is not None:
            return page
        if self._facts.session_known:
            raise SessionLost(
                f'the browser of this execution is gone; "{self._planned.name}" cannot go on with its page'
            )
        raise NodeInputError(f'"{self._planned.name}" needs a browser; run a launch node before it')

    async def launch(self, **options: Any) -> Any:
        """Open (or reuse) the browser session of this execution and return its page."""
        host = browser_host()
        _openers[self._session_id] = self._facts.claim
        page = await host.open(self._session_id, BrowserOptions(**options))
        process = host.processes()
        self._inbox.put(
            SessionOpened(
                self._planned.index,
                MAIN_SESSION,
                process.pid if process else None,
                process.start_time if process else None,
                str(process.profile_dir) if process else "",
            )
        )
        return page

    def http_client(self, **options: Any) -> Any:
        """Return an ``httpx.AsyncClient`` that reaches only allowed addresses."""
        return guarded_client(egress_policy(), around=lambda inner: NotedTransport(inner, self._note_call), **options)

    async def send_mail(
        self, server: mail.MailServer | None, message: EmailMessage, sender: str, recipients: Sequence[str]
    ) -> dict[str, str]:
        """Hand a mail in at ``server``, where nodes may go, or at that of the installation; return who was refused."""
        used = server or own_mail_server()
        if used is None:
            raise NodeInputError(
                f'"{self._planned.name}" names no SMTP Server, and this installation has none (FLOWBUILDER_MAIL_URL)'
            )
        call = Call("SEND", f"smtp://{used.host}:{used.port}", self._note_call)
        try:
            with logs.clean_errors():
                refused = await mail.send(egress_policy() if server else None, used, message, sender, recipients)
        except BaseException as error:
            call.end(error)
            raise
        call.size = len(bytes(message))
        call.end()
        return refused

    def _note_call(self, data: dict[str, Any]) -> None:
        self._note(Kind.EXTERNAL_CALL.value, data)

    @property
    def _session_id(self) -> str:
        return session_id(self._facts.session_owner)

    def _artifact(self, kind: str, content: bytes, content_type: str, name: str) -> str:
        content = self._facts.clean(content, content_type)
        sha256 = hashlib.sha256(content).hexdigest()
        data = {"kind": kind, "blob": sha256, "content_type": content_type, "size_bytes": len(content), "file": name}
        self._note(Kind.ARTIFACT.value, data, content, content_type)
        return sha256

    def _note(
        self, event_type: str, data: dict[str, Any], content: bytes | None = None, content_type: str = "",
        node_id: str = "",
    ) -> None:  # fmt: skip
        """Take an event, unless it is one line too many; files and tags, which are no lines, are always taken."""
        if not self._open:
            return
        if content is not None or event_type == Kind.TAG.value:
            self._put(event_type, data, content=content, content_type=content_type)
            return
        weight, told = self._lines.take(data)
        if told is not None:
            self._put(Kind.LOG.value, told)
        if weight:
            self._put(event_type, data, node_id, lines=self._lines, weight=weight)

    def _put(self, event_type: str, data: dict[str, Any], node_id: str = "", **more: Any) -> None:
        planned = self._planned
        full = {"name": planned.name, "node_type": planned.node.type, **data}
        event = EventDraft(event_type, now_us(), node_id or planned.node.id, full)
        self._inbox.put(Noted(planned.index, event, **more))


async def _capture(facts: Facts, planned: PlannedNode, inbox: queue.SimpleQueue[Item]) -> None:
    """Save what the page showed when a browser node failed."""
    name = session_id(facts.session_owner)
    if not planned.session or _host is None or _host.get(name) is None or not facts.captures(planned):
        return
    try:
        capture = await asyncio.wait_for(_host.capture(name, facts.secrets()), timeout=10)
    except Exception as error:
        logger.warning("no screenshot of the failed node %s: %s", planned.node.id, error)
        return
    if capture is not None:
        env = NodeEnvironment(facts, planned, inbox)
        if capture.screenshot:
            env._artifact("screenshot", capture.screenshot, "image/jpeg", f"{planned.node.id}.jpg")
        env._artifact("page", capture.html.encode(), "text/html", f"{planned.node.id}.html")


async def _keep_traffic(facts: Facts, planned: PlannedNode, inbox: queue.SimpleQueue[Item]) -> None:
    """Save what the page loaded while a browser node ran, if its launch node asked for that."""
    page = _host.get(session_id(facts.session_owner)) if planned.session and _host is not None else None
    if page is None or page.har is None:
        return
    env = NodeEnvironment(facts, planned, inbox)
    try:
        content = await asyncio.wait_for(page.traffic(), timeout=TRAFFIC_SECONDS)
    except Exception as error:
        logger.warning("no HAR of the node %s: %s", planned.node.id, error)
        env.log("What the page loaded could not be kept", level="warning")
        return
    if content and facts.captures(planned):
        env._artifact("har", content, traffic.CONTENT_TYPE, f"{planned.node.id}.har")


# --------------------------------------------------------------------------- the browser of this process


@dataclass(frozen=True, slots=True)
class _Look:
    """Chromium at one moment. ``alone`` says that no page but that of one session is open in it."""

    alone: bool
    open: bool
    opened: int
    leader: int | None
    group: samples.Group | None


async def _look(name: str) -> _Look:
    """Look at Chromium on behalf of the session ``name``."""
    if _host is None:
        return _Look(alone=True, open=False, opened=0, leader=None, group=None)
    process, page, alone = _host.processes(), _host.get(name), set(_host.sessions()) <= {name}
    here = page is None or page.options.remote is None
    group = await asyncio.to_thread(samples.group, process.pid) if process and alone and here else None
    return _Look(alone, page is not None, _host.pages_opened, process.pid if process and group else None, group)


@asynccontextmanager
async def _chromium_counted(name: str, used: Used) -> AsyncIterator[None]:
    """Count what Chromium uses in the block, while it has the page of session ``name`` only; else nothing is known."""
    before = await _look(name)
    watching = asyncio.get_running_loop().create_task(_watch_memory(name, used))
    try:
        yield
    finally:
        watching.cancel()
        after = await _look(name)
        began = before.group.cpu_ns if before.group is not None and before.leader == after.leader else 0
        strange = after.opened - before.opened - (not before.open)
        if after.group is None or not before.alone or strange > 0:
            used.whole, used.peak_memory_bytes = False, None
        else:
            used.cpu_ns += after.group.cpu_ns - began
            used.reach(after.group.memory_bytes)


async def _watch_memory(name: str, used: Used) -> None:
    while True:
        await asyncio.sleep(MEMORY_SECONDS)
        look = await _look(name)
        if look.group is not None:
            used.reach(look.group.memory_bytes)


def session_id(execution_id: UUID) -> str:
    """Return the name of an execution's browser session in the host."""
    return f"{execution_id}:{MAIN_SESSION}"


def own_mail_server() -> mail.MailServer | None:
    """Return the mail server of this installation, if it has one."""
    fields: dict[str, Any] | None = settings.MAIL_SERVER
    if fields is None:
        return None
    server = mail.MailServer(**fields)
    logs.remember([server.password] if server.password else [])
    return server


def egress_policy() -> EgressPolicy:
    """Return which addresses nodes may reach."""
    return EgressPolicy(settings.EGRESS_ALLOW)


def browser_host() -> BrowserHost:
    """Return the browser host of this process; it starts Chromium at the first session."""
    global _host
    if _host is None:
        _host = BrowserHost(
            find_chromium(settings.CHROMIUM),
            settings.BROWSER_SLOTS,
            policy=egress_policy(),
            directory=_browser_directory(),
            remote=settings.REMOTE_BROWSER,
        )
    return _host


def remove_orphaned_browsers() -> int:
    """End and remove what processes of this machine that died left of their browsers; return how many there were."""
    return remove_orphans(_browser_directory())


def _browser_directory() -> Path:
    return Path(settings.DATA_DIR) / "browsers"


def holds_session(execution_id: UUID) -> bool:
    """Return whether this process has a page of the execution."""
    return _host is not None and _host.get(session_id(execution_id)) is not None


def sessions() -> set[UUID]:
    """Return the executions whose page this process holds."""
    return set() if _host is None else {UUID(name.partition(":")[0]) for name in _host.sessions()}


def browser_use() -> tuple[int, int]:
    """Return how many pages this process has opened, and how often it started Chromium for them."""
    return (0, 0) if _host is None else (_host.pages_opened, _host.chromium_starts)


def close_session(execution_id: UUID, *, wait_s: float = 10.0, claim: str | None = None) -> bool:
    """Close the browser session of an execution, if this process holds it; return whether it closed within ``wait_s``.

    One that takes longer goes on closing. With ``claim`` only one that was opened under it, and not again since.
    """
    if _host is None or not holds_session(execution_id):
        return True
    closing = asyncio.run_coroutine_threadsafe(_close(_host, session_id(execution_id), claim), loop())
    if not wait_s:
        return False
    try:
        closing.result(timeout=wait_s)
    except Exception as error:
        logger.warning("the page of execution %s did not close within %g s: %r", execution_id, wait_s, error)
        return False
    return True


async def _close(host: BrowserHost, name: str, claim: str | None) -> None:
    if claim is not None and _openers.get(name) != claim:
        return
    _openers.pop(name, None)
    await host.close(name)
    if not host.sessions():
        asyncio.get_running_loop().call_later(BROWSER_IDLE_SECONDS, _shut_down_if_idle, host)


def _shut_down_if_idle(host: BrowserHost) -> None:
    task = asyncio.get_running_loop().create_task(host.rest())
    _background.add(task)
    task.add_done_callback(_background.discard)


_background: set[asyncio.Future[Any]] = set()


def shut_down() -> None:
    """Close the browser of this process; called when the worker ends."""
    if _host is not None:
        asyncio.run_coroutine_threadsafe(_host.shutdown(), loop()).result(timeout=15)


def end_chromium() -> None:
    """End the browser of this process at once, profile included; for the exit of a program without a worker."""
    process = None if _host is None else _host.processes()
    if process is not None:
        kill_orphan(process.pid, process.start_time, str(process.profile_dir))
