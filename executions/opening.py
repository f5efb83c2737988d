"""What to open next: the runnable nodes of a phase, their messages, or the end of the execution.

Reads the outputs of sources and writes nothing; ``engine`` writes what is decided here.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from executions import inputs, leases, runtime, states
from executions.context import Context, load_results
from executions.drafts import End, kept_event, left_event, node_event, phase_event, set_apart, start_event
from executions.errors import NodeInputError
from executions.inputs import NodeResult
from executions.planner import Header, PlannedNode, headers
from executions.runtime import Ready
from executions.store import EventDraft, NodeRow, PhaseRow
from recordings.events import RecordingEventType as Kind

CONTROL_QUEUE, DEFAULT_QUEUE, BROWSER_QUEUE, ISOLATED_QUEUE = "control", "default", "browser", "isolated"

BURST_SECONDS = 0.02
"""How long phases of nodes that cannot wait run before what they did is written."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Messages to send: headers of one phase, each with its queue, and starts of child executions.

    ``apart`` says that their nodes ran in a process that died: a worker runs such nodes one after another,
    so that the one that kills processes does not take the others with it.
    """

    execution_id: UUID
    phase: int
    headers: tuple[tuple[tuple[int, ...], str], ...] = ()
    starts: tuple[UUID, ...] = ()
    priority: int = 5
    wakes: bool = False
    """The one header is a node that waited; any process may go on with it."""
    apart: bool = False
    here: Work | None = None
    """One more header of the phase: the process that opened it runs that itself, once the messages are sent."""

    def and_also(self, other: Dispatch | None) -> Dispatch:
        """Return both as one; of two with headers this one's count, the reconciler sends the others."""
        if other is None:
            return self
        if not self.headers:
            return replace(other, starts=(*self.starts, *other.starts))
        return replace(self, starts=(*self.starts, *other.starts))


@dataclass(slots=True)
class Work:
    """Claimed nodes to run in this task. ``whole`` means that they are all open nodes of the phase.

    The task goes on with the phases after it until ``local_until`` (monotonic seconds).
    """

    context: Context
    phase: int
    claim: str
    nodes: list[Ready]
    whole: bool
    local_until: float


@dataclass(frozen=True, slots=True)
class Burst:
    """The nodes of a phase that ran and completed before anything of it was written."""

    rows: tuple[NodeRow, ...]
    events: tuple[EventDraft, ...]
    credits: int


@dataclass(slots=True)
class Opening:
    """What follows a phase: further phases (all but the last have ended), or the end.

    ``completed`` counts the nodes among them that have run already, ``credits`` is what these cost.
    """

    target: int
    phases: list[PhaseRow]
    events: list[EventDraft]
    work: Work | None = None
    dispatch: Dispatch | None = None
    end: End | None = None
    completed: int = 0
    credits: int = 0

    @property
    def begun(self) -> list[Ready]:
        """Return the nodes that begin with this move, in this process."""
        work = self.dispatch.here if self.dispatch else self.work
        return work.nodes if work else []

    def reached(self, before: int) -> int:
        """Return the last phase that is opened, or ``before`` when none is."""
        return self.phases[-1].index if self.phases else before


def dispatch_of(context: Context, phase: int, indexes: Sequence[int], *, apart: bool = False) -> Dispatch:
    """Return the messages for queued node runs of one phase.

    ``apart`` gives each node a message of its own, but for those of one page, which stay together.
    """
    on_page = [index for index in indexes if context.plan.nodes[index].session]
    alone = [[index] for index in indexes if index not in on_page]
    parts: Sequence[Sequence[int]] = [on_page, *alone] if apart else [indexes]
    groups = [group for part in parts for group in headers(context.plan, part)]
    messages = tuple((group.indexes, queue_of(context, group)) for group in groups)
    return Dispatch(context.id, phase, messages, priority=context.priority, apart=apart)


def prepare(
    context: Context, phase: int, *, local_until: float,
    at_once: Callable[[Context, Sequence[PlannedNode]], Burst | None] = lambda context, nodes: None,
) -> Opening:  # fmt: skip
    """Decide what to open from ``phase`` on. Reads outputs of sources, writes nothing.

    Phases whose nodes are all skipped are passed over, and those that ``at_once`` runs here, for 20 ms. Of the
    phase to run, the first header that this process may run is claimed at once, before ``local_until``
    (monotonic seconds).
    """
    phases, drafts = context.plan.phases, []
    rows: list[PhaseRow] = []
    completed, credits = 0, 0
    burst_until = time.monotonic() + BURST_SECONDS
    failed = _critical_failure(context)
    while failed is None and phase < len(phases):
        runnable, skipped, skip_events = _sift(context, phases[phase])
        drafts.append(phase_event(Kind.PHASE_START, phase, len(phases[phase])))
        drafts.extend(skip_events)
        burst = at_once(context, runnable) if runnable and time.monotonic() < burst_until else None
        if runnable and burst is None:
            opening = _open(context, phase, runnable, skipped, rows, drafts, local_until)
            opening.completed, opening.credits = completed, credits
            return opening
        ran = burst.rows if burst else ()
        if burst:
            drafts.extend(burst.events)
            completed, credits = completed + len(ran), credits + burst.credits
        kept = len(phases[phase]) - len(skipped) - len(ran)
        rows.append(PhaseRow(phase, states.COMPLETED, len(ran[:1]), (*skipped, *ran), kept))
        drafts.append(phase_event(Kind.PHASE_COMPLETE, phase, len(phases[phase]), status=states.COMPLETED))
        drafts.append(left_event(context, phase))
        phase += 1
    return Opening(phase, rows, drafts, end=_outcome(context, failed), completed=completed, credits=credits)


def _sift(context: Context, indexes: Sequence[int]) -> tuple[list[PlannedNode], list[NodeRow], list[EventDraft]]:
    """Split a phase into nodes that run and rows (with events) of those that are skipped.

    A retry begins with the results of nodes that need not run again; their rows are there already.
    """
    nodes = [context.plan.nodes[index] for index in indexes]
    if context.trigger == "retry" and not context.kept.intersection(indexes):
        known = set(context.results)
        load_results(context, indexes)
        context.kept |= (set(context.results) - known).intersection(indexes)
    load_results(context, {source for node in nodes for source in node.needs})
    sources = context.sources()
    runnable, skipped, drafts = [], [], []
    for node in nodes:
        if node.index in context.kept:
            drafts.append(kept_event(context, node))
            continue
        reason = inputs.skip_reason(node, sources)
        if not reason:
            runnable.append(node)
            continue
        context.results[node.index] = NodeResult(states.SKIPPED)
        skipped.append(NodeRow(node.index, node.node.id, node.node.type, states.SKIPPED))
        drafts.append(node_event(Kind.NODE_SKIPPED, node, {"reason": reason}))
    return runnable, skipped, drafts


def _open(
    context: Context, phase: int, runnable: list[PlannedNode], skipped: list[NodeRow],
    rows: list[PhaseRow], drafts: list[EventDraft], local_until: float,
) -> Opening:  # fmt: skip
    groups = headers(context.plan, [node.index for node in runnable])
    in_time = time.monotonic() < local_until
    mine = next((group for group in groups if in_time and _runs_here(context, group)), None)
    here = mine.indexes if mine else ()
    claim = uuid.uuid4().hex
    queues = {index: queue_of(context, group) for group in groups for index in group.indexes}

    def row(node: PlannedNode) -> NodeRow:
        stays = node.index in here
        return NodeRow(
            node.index, node.node.id, node.node.type, states.RUNNING if stays else states.QUEUED,
            claim=claim if stays else "", worker=leases.this_boot() if stays else "",
            session=node.session, queue=queues[node.index],
        )  # fmt: skip

    node_rows = [row(node) for node in runnable]
    kept = len(context.plan.phases[phase]) - len(skipped) - len(node_rows)
    rows.append(PhaseRow(phase, states.RUNNING, len(groups), (*skipped, *node_rows), kept))
    ready = [make_ready(context, node) for node in runnable if node.index in here]
    drafts.extend(start_event(context, item) for item in ready)
    messages = tuple((group.indexes, queue_of(context, group)) for group in groups if group is not mine)
    work = Work(context, phase, claim, ready, not messages, local_until) if mine else None
    if not messages:
        return Opening(phase, rows, drafts, work=work)
    return Opening(
        phase, rows, drafts, dispatch=Dispatch(context.id, phase, messages, priority=context.priority, here=work)
    )


def _runs_here(context: Context, group: Header) -> bool:
    if leases.current is None or leases.current.isolated or group.kind == "isolated":
        return False
    return runtime.holds_session(context.page_of) if group.kind == "browser" else not leases.current.draining


def queue_of(context: Context, group: Header) -> str:
    if group.kind == "browser":
        return context.session_queue or BROWSER_QUEUE
    return ISOLATED_QUEUE if group.kind == "isolated" else DEFAULT_QUEUE


def make_ready(context: Context, node: PlannedNode, attempt: int = 1) -> Ready:
    problem: NodeInputError | None = None
    try:
        resolved = inputs.resolve(node, context.sources())
    except NodeInputError as error:
        resolved, problem = dict(node.node.inputs), error
    recorded = resolved and context.records("record_inputs", node)
    large = set_apart(context, {"inputs": context.redact(resolved)}) if recorded else None
    return Ready(node, resolved, attempt, problem, large=large)


def _critical_failure(context: Context) -> int | None:
    failed = [index for index in context.errors if not context.results[index].tolerated]
    return min(failed) if failed else None


def _outcome(context: Context, failed: int | None) -> End:
    if failed is None:
        return End(states.COMPLETED_WITH_ERRORS if context.errors else states.COMPLETED)
    error, code = context.errors[failed]
    return End(states.FAILED, error, code, context.plan.nodes[failed].node.id)
