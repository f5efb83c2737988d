"""What an execution looks like to people and programs: one description for API, command line and sockets.

Reads rows and changes nothing. The number of queries of each function does not grow with the execution.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID

from django.db.models import Count, IntegerField, OuterRef, Prefetch, QuerySet, Subquery
from django.db.models.functions import Coalesce

from executions import states
from executions.approvals import link_token
from executions.events import load_events, outputs_of
from executions.expected import Far, durations, percents
from executions.models import Execution, NodeRun
from executions.store import us_to_datetime
from recordings.events import RecordingEventType as EventType
from recordings.finding import replayer_of
from recordings.models import Event, NotRecorded, Recording
from workflows import access
from workflows.errors import WorkflowError
from workflows.models import WorkflowVersion
from workflows.policy import start_policy
from workflows.registry import NODE_REGISTRY

ENDED = states.TERMINAL
"""Statuses after which nothing more happens."""
PAUSABLE: Final = frozenset({states.RUNNING, states.WAITING})
"""Statuses in which an execution may be paused."""
QUESTIONS_SHOWN: Final = 20
"""How many approvals one answer names."""
OUTPUTS_AT_ONCE: Final = 10
"""Of how many nodes the outputs are in memory together; each has at most ``OUTPUT_LIMIT_BYTES``."""
CHILDREN_SHOWN: Final = 100
"""How many child executions one answer names; their number is always complete."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far an execution is. ``seq`` numbers its last event; ``done`` of ``total`` node runs have ended.

    ``percent`` is the share of its time that it is likely to have behind it (``expected.percents``).
    """

    status: str
    seq: int
    done: int
    total: int
    percent: int | None

    @property
    def ended(self) -> bool:
        """Return whether the status is final."""
        return self.status in ENDED

    @property
    def progress(self) -> dict[str, int | None]:
        """Return ``{"done", "total", "percent"}`` as it is sent to clients."""
        return {"done": self.done, "total": self.total, "percent": self.percent}


def for_summary(executions: QuerySet[Execution]) -> QuerySet[Any]:
    """Return ``executions`` with all that ``summaries`` reads of them, in three queries.

    Workflows and versions are read by their keys afterwards: joined, PostgreSQL began with the workflows when it did not
    know how many there are, and read all executions once for each.
    """
    versions = Prefetch("version", WorkflowVersion.objects.defer("definition"))
    return executions.prefetch_related("workflow", versions).defer("input")


def heads(execution_ids: Iterable[UUID | str]) -> dict[str, Head]:
    """Return how far each execution is, by id as text; unknown ids are left out. At most six queries, often two."""
    ended = (
        NodeRun.objects.filter(execution=OuterRef("pk"), status__in=states.TERMINAL)
        .order_by()
        .values("execution")
        .annotate(count=Count("pk"))
        .values("count")
    )
    rows = (
        Execution.objects.filter(pk__in=list(execution_ids))
        .order_by()
        .annotate(done=Coalesce(Subquery(ended, output_field=IntegerField()), 0))
        .values_list("pk", "workflow_id", "version_id", "scope", "status", "done", "node_count", "seq")
    )
    found = [
        (Far(pk, workflow, version, scope, status, done, max(total, done)), seq)
        for pk, workflow, version, scope, status, done, total, seq in rows
    ]
    shares = percents(far for far, _ in found)
    return {str(far.id): Head(far.status, seq, far.done, far.total, shares[far.id]) for far, seq in found}


def head(execution_id: UUID | str) -> Head | None:
    """Return how far one execution is, or None when there is none. At most six queries, often two."""
    return heads([execution_id]).get(str(execution_id))


def summaries(executions: Iterable[Execution], decider: Any = None) -> list[dict[str, Any]]:
    """Return the short form of each of ``executions``, which must come from ``for_summary``. At most eleven queries.

    ``decider`` is the user who gets the links of those approvals that they may decide.
    """
    page = list(executions)
    done = _done(execution.pk for execution in page)
    found = _waits((execution.pk for execution in page if not execution.is_terminal), decider)
    named = {execution.version_id for execution in page if execution.error_node or execution.pk in found}
    rows = WorkflowVersion.objects.filter(pk__in=named).values_list("pk", "definition") if named else ()
    names = {pk: names_in(definition) for pk, definition in rows}
    fars = [_far(execution, done.get(execution.pk, 0)) for execution in page]
    shares = percents(fars)
    return [
        summary(execution, _progress(far, shares), names.get(execution.version_id), found.get(execution.pk, ()))
        for execution, far in zip(page, fars, strict=True)
    ]


def _far(execution: Execution, done: int) -> Far:
    return Far(
        execution.pk, execution.workflow_id, execution.version_id, execution.scope, execution.status, done,
        max(execution.node_count, done),
    )  # fmt: skip


def _progress(far: Far, shares: Mapping[UUID, int | None]) -> dict[str, int | None]:
    return {"done": far.done, "total": far.total, "percent": shares[far.id]}


def _done(execution_ids: Iterable[UUID]) -> dict[UUID, int]:
    """Return how many node runs have ended, by execution. One query, for none without ids.

    Counted for the rows of a page, not in the query that finds them: PostgreSQL would count for every row that it
    passes over as well.
    """
    rows = NodeRun.objects.filter(execution__in=list(execution_ids), status__in=states.TERMINAL).order_by()
    return dict(rows.values_list("execution").annotate(Count("pk")))


def summary(
    execution: Execution,
    progress: dict[str, int | None],
    names: Mapping[str, str] | None = None,
    found: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return the short form of ``execution``, which is as far as ``progress`` says. No query.

    ``names`` are what people call its nodes, without them they are called by their ids; ``found`` is what
    ``_waits`` says of it.
    """
    return {
        "id": str(execution.pk),
        "workflow_id": str(execution.workflow_id),
        "workflow_name": execution.workflow.name,
        "version": execution.version.number,
        "status": execution.status,
        "trigger": execution.trigger,
        "queued_at": _iso(execution.queued_at),
        "started_at": _iso(execution.started_at),
        "finished_at": _iso(execution.finished_at),
        "duration_ms": execution.duration_ms,
        "credits": execution.credits,
        "error": execution.error or None,
        "error_node": execution.error_node or None,
        "error_node_name": (names or {}).get(execution.error_node, execution.error_node) or None,
        "progress": progress,
        "last_seq": execution.seq,
        "held_by": execution.held_by or None,
        "held_reason": held_reason(execution) or None,
        "parent_id": None if execution.parent_id is None else str(execution.parent_id),
        "retry_of_id": None if execution.retry_of_id is None else str(execution.retry_of_id),
        "waiting": [{**wait, "name": (names or {}).get(wait["node_id"], wait["node_id"])} for wait in found],
    }


def attach_waits(executions: Iterable[Any]) -> None:
    """Set ``waits`` on each execution: what ``waiting`` says of it, with nodes called by their ids. At most two queries."""
    page = list(executions)
    found = _waits(execution.pk for execution in page if not execution.is_terminal)
    for execution in page:
        execution.waits = found.get(execution.pk, [])


def waiting(execution: Execution, decider: Any = None) -> list[dict[str, Any]]:
    """Return what ``execution`` waits for, in canvas order, with the names of the nodes. At most two queries.

    ``kind`` is "timer", "approval" or "children"; ``until`` is when the wait ends by itself. Of children,
    ``done`` of ``total`` have ended. ``link`` is where an approval can be given without a login; it is None unless
    the user ``decider`` may decide.
    """
    if execution.is_terminal:
        return []
    names = names_in(execution.version.definition)
    found = _waits([execution.pk], decider).get(execution.pk, ())
    return [{**wait, "name": names.get(wait["node_id"], wait["node_id"])} for wait in found]


def _waits(execution_ids: Iterable[UUID], decider: Any = None) -> dict[UUID, list[dict[str, Any]]]:
    """Return the waiting node runs of each execution. At most two queries."""
    rows = list(
        NodeRun.objects.filter(execution__in=list(execution_ids), status=states.WAITING)
        .order_by("node_index", "iteration")
        .select_related("execution")
        .only(
            "execution__owner_id", "node_index", "node_id", "node_type", "wait_kind", "wake_at", "wait_state",
            "children_ended", "started_at",
        )
    )  # fmt: skip
    parents = {run.execution_id for run in rows if run.wait_kind == NodeRun.CHILDREN}
    started = _children_counts(parents) if parents else {}
    found: dict[UUID, list[dict[str, Any]]] = {}
    for run in rows:
        count = started.get((run.execution_id, run.node_index), 0)
        found.setdefault(run.execution_id, []).append(_wait(run, count, decider))
    return found


def _children_counts(parents: Iterable[UUID]) -> dict[tuple[UUID, int], int]:
    rows = Execution.objects.filter(parent__in=parents).order_by().values_list("parent_id", "parent_node")
    return {(parent, node): count for parent, node, count in rows.annotate(count=Count("pk"))}


def _wait(run: NodeRun, started: int, decider: Any) -> dict[str, Any]:
    asks = run.wait_kind == NodeRun.APPROVAL
    children = run.wait_kind == NodeRun.CHILDREN
    return {
        "node_id": run.node_id,
        "node_type": run.node_type,
        "kind": run.wait_kind,
        "since": _iso(run.started_at),
        "until": None if run.wake_at is None else _iso(us_to_datetime(run.wake_at)),
        "link": _link(run) if asks and decider is not None and may_decide(decider, run) else None,
        "title": _text(run, "title"),
        "message": _text(run, "message"),
        "done": run.children_ended if children else None,
        "total": max(started, _turns(run)) if children else None,
    }


def _link(run: NodeRun) -> str:
    return f"/approvals/{link_token(run.execution_id, run.node_index)}"


def _state(run: NodeRun) -> dict[str, Any]:
    """Return what the node keeps while it waits."""
    try:
        state = json.loads(run.wait_state or "{}").get("state")
    except (ValueError, AttributeError):
        return {}
    return state if isinstance(state, dict) else {}


def _text(run: NodeRun, name: str) -> str:
    return str(_state(run).get(name) or "")


def _turns(run: NodeRun) -> int:
    turns = _state(run).get("turns")
    return turns if isinstance(turns, int) else 0


def asked(execution_id: UUID, node_id: str) -> NodeRun | None:
    """Return the node run that waits for an approval under ``node_id``, or None. One query."""
    rows = NodeRun.objects.filter(
        execution=execution_id, node_id=node_id, status=states.WAITING, wait_kind=NodeRun.APPROVAL
    )
    return rows.first()


def approvers(run: NodeRun) -> tuple[str, ...]:
    """Return the user names that may decide besides the owner."""
    named = _state(run).get("approvers")
    return tuple(str(name) for name in named) if isinstance(named, list) else ()


def may_decide(user: Any, run: NodeRun) -> bool:
    """Return whether ``user`` may answer the approval: who may change the execution, and whom the node names."""
    return access.can(user, "change", run.execution) or user.get_username() in approvers(run)


def questions(user: Any) -> list[dict[str, Any]]:
    """Return the oldest approvals that ``user`` may decide: 20 of their executions, 20 of others. Two queries.

    Of others are those that name them, or all for whoever may change every execution.
    """
    waits = NodeRun.objects.filter(status=states.WAITING, wait_kind=NodeRun.APPROVAL)
    waits = waits.exclude(execution__status__in=ENDED).order_by("started_at", "pk")
    waits = waits.select_related("execution__workflow").defer("outputs", "execution__input")
    others: Iterable[NodeRun] = waits.exclude(execution__owner=user)[:QUESTIONS_SHOWN]
    if not access.changes_everything(user):
        name = json.dumps(user.get_username(), ensure_ascii=False)
        named = waits.exclude(execution__owner=user).filter(wait_state__contains=name).iterator(chunk_size=100)
        # The text finds the name in titles, too, so what is counted are approvals and not rows.
        others = islice((run for run in named if may_decide(user, run)), QUESTIONS_SHOWN)
    found = [*waits.filter(execution__owner=user)[:QUESTIONS_SHOWN], *others]
    return [
        {
            "execution": run.execution,
            "node_id": run.node_id,
            "link": _link(run),
            "since": run.started_at,
            "title": _text(run, "title"),
            "message": _text(run, "message"),
        }
        for run in sorted(found, key=lambda run: (run.started_at is None, run.started_at, run.pk))
    ]


def children(execution: Execution) -> list[dict[str, Any]]:
    """Return the first child executions of ``execution``, in the order of nodes and turns. One query."""
    rows = execution.children.select_related("workflow").defer("input", "item", "workflow__settings")
    nodes = [str(node.get("id")) for node in execution.version.definition.get("nodes", ())]
    return [
        {
            "id": str(child.pk),
            "node_id": nodes[child.parent_node] if child.parent_node in range(len(nodes)) else "",
            "index": child.child_index,
            "workflow_name": child.workflow.name,
            "scope": child.scope or None,
            "status": child.status,
            "duration_ms": child.duration_ms,
            "error": child.error or None,
        }
        for child in rows.order_by("parent_node", "child_index")[:CHILDREN_SHOWN]
    ]


def held_reason(execution: Execution) -> str:
    """Return which limit keeps a pending execution from being sent, for people; empty when none does. No query."""
    if execution.status != states.QUEUED or not execution.held_by:
        return ""
    if execution.held_by == "queue":
        return "waits for its turn in the queue"
    if execution.held_by == "user":
        return "waits for other executions of the same user"
    limit = start_policy(execution.workflow.settings).describe(execution.held_by)
    return f"waits for {limit} of workflow {execution.workflow.name}"


def detail(execution: Execution, decider: Any = None) -> dict[str, Any]:
    """Return the long form of ``execution``: summary, phases, node runs, definition, recording. At most thirteen queries.

    ``decider`` as for ``waiting``.
    """
    definition = execution.version.definition
    names = names_in(definition)
    runs = list(execution.node_runs.order_by("phase_index", "node_index", "iteration").defer("outputs"))
    far = _far(execution, sum(run.status in states.TERMINAL for run in runs))
    found = {} if execution.is_terminal else _waits([execution.pk], decider)
    return {
        **summary(execution, _progress(far, percents([far])), names, found.get(execution.pk, ())),
        "phases": phases(execution),
        "nodes": [_node(run, names) for run in runs],
        "node_names": names,
        "expected_ms": expected_ms(execution),
        "definition": definition,
        **recording_facts(execution),
        "scope": execution.scope or None,
        "loops": loops(execution),
    }


def expected_ms(execution: Execution) -> dict[str, int]:
    """Return how many milliseconds each node is likely to run, by id; of those that ran before. At most two queries."""
    place = (execution.workflow_id, execution.scope)
    types = {node.get("id"): node.get("type") for node in execution.version.definition.get("nodes", ())}
    return {node: ms for (node, kind), ms in durations([place])[place].items() if types.get(node) == kind}


def loops(execution: Execution) -> dict[str, str]:
    """Return the innermost loop around each node that is inside of one, by id; empty when it cannot be planned."""
    from executions.context import plan_of  # loads what runs nodes, which commands that only list do not need

    if not any(_is_loop(node) for node in execution.version.definition.get("nodes") or ()):
        return {}
    try:
        nodes = plan_of(execution.version_id)[0].nodes
    except WorkflowError:
        return {}
    return {node.node.id: nodes[node.scope].node.id for node in nodes if node.scope is not None}


def _is_loop(node: Mapping[str, Any]) -> bool:
    executor = NODE_REGISTRY.get(str(node.get("type")))
    return executor is not None and bool(executor.description.inside)


def result(execution: Execution, decider: Any = None) -> dict[str, Any]:
    """Return what an execution gave so far, as ``executions run --json`` prints it. Outputs are complete.

    ``waiting`` is what it waits for (``decider`` as there), ``children`` the executions that it started (the first of them).
    """
    definition = execution.version.definition
    names = names_in(definition)
    runs = list(execution.node_runs.order_by("phase_index", "node_index", "iteration").defer("outputs"))
    return {
        "execution_id": str(execution.pk),
        "workflow": execution.workflow.name,
        "version": execution.version.number,
        "status": execution.status,
        "duration_ms": execution.duration_ms,
        "credits": execution.credits,
        "error": execution.error or None,
        "error_node": execution.error_node or None,
        "phases": len(phases(execution)),
        "nodes": [_node(run, names) for run in runs],
        "outputs": outputs_of(execution.pk, {run.node_id for run in runs}),
        **recording_facts(execution),
        "parent_id": None if execution.parent_id is None else str(execution.parent_id),
        "retry_of_id": None if execution.retry_of_id is None else str(execution.retry_of_id),
        "waiting": waiting(execution, decider),
        "children": children(execution),
    }


def phases(execution: Execution) -> list[dict[str, Any]]:
    """Return the phases of ``execution`` that were opened, in order. One query."""
    return [
        {
            "index": phase.index,
            "status": phase.status,
            "node_count": phase.node_count,
            "duration_ms": _milliseconds(phase.started_at, phase.finished_at),
        }
        for phase in execution.phases.order_by("index")
    ]


def node_names(execution: Execution) -> dict[str, str]:
    """Return what people call the nodes of what ``execution`` runs, by id. No query with its version loaded."""
    return names_in(execution.version.definition)


def node_runs(execution: Execution, runs: Iterable[NodeRun]) -> list[dict[str, Any]]:
    """Return the short form of ``runs``, which are of ``execution``. No query but that of ``runs``."""
    names = names_in(execution.version.definition)
    return [_node(run, names) for run in runs]


def node_run(execution: Execution, run: NodeRun) -> dict[str, Any]:
    """Return a node run of ``execution`` with the inputs of its last attempt and its outputs. At most four queries."""
    return {
        **_node(run, names_in(execution.version.definition)),
        "started_at": _iso(run.started_at),
        "finished_at": _iso(run.finished_at),
        "inputs": recorded_inputs(execution.pk, run.node_id),
        "outputs": outputs_of(execution.pk, [run.node_id]).get(run.node_id),
    }


def outputs_by_part(execution: Execution) -> Iterator[dict[str, dict[str, Any]]]:
    """Give the outputs of ``execution`` by node id, in the order in which nodes ran, few nodes at a time.

    Whatever became of the execution: those of every node that completed are there. One or two queries per part.
    """
    runs = execution.node_runs.filter(status=states.COMPLETED).order_by("phase_index", "node_index", "iteration")
    ids = list(runs.values_list("node_id", flat=True))
    for start in range(0, len(ids), OUTPUTS_AT_ONCE):
        part = ids[start : start + OUTPUTS_AT_ONCE]
        found = outputs_of(execution.pk, part)
        yield {node_id: found[node_id] for node_id in part if node_id in found}


def recorded_inputs(execution_id: UUID, node_id: str) -> dict[str, Any] | None:
    """Return the inputs of the last attempt of a node as they were recorded, or None. At most three queries.

    Raises:
        RecordingError: the sealed recording is damaged or gone.
    """
    begins = Event.objects.filter(execution_id=execution_id, node_id=node_id, type=EventType.NODE_START.value)
    seq = begins.order_by("-seq").values_list("seq", flat=True).first()
    if seq is not None:
        events = load_events(execution_id, after=seq - 1, limit=1)
    else:
        recording = Recording.objects.filter(execution_id=execution_id).exclude(sealed="").first()
        if recording is None:
            return None
        with replayer_of(recording) as replayer:
            events = [event for event in replayer.get_node_events(node_id) if event.event_type is EventType.NODE_START]
    inputs = events[-1].data.get("inputs") if events else None
    return inputs if isinstance(inputs, dict) else None


def recording_facts(execution: Execution) -> dict[str, str | None]:
    """Return ``recording_id`` of ``execution`` (None while it has none) and ``recording_note``. At most two queries.

    The note says why the recording was kept, or why there is none; None while the execution runs.
    """
    found = Recording.objects.filter(execution_id=execution.pk).values_list("pk", "kept_because").first()
    note = recording_note(execution, None if found is None else found[1])
    return {"recording_id": None if found is None else str(found[0]), "recording_note": note}


def recording_note(execution: Execution, kept_because: str | None) -> str | None:
    """Return why the recording was kept, or why there is none (``kept_because`` None), if that is known."""
    if kept_because is not None:
        return f"kept: {kept_because}" if kept_because else None
    if not execution.is_terminal:
        return None
    reason = NotRecorded.objects.filter(pk=execution.pk).values_list("reason", flat=True).first()
    return None if reason is None else f"none: {reason}"


def _node(run: NodeRun, names: dict[str, str]) -> dict[str, Any]:
    return {
        "node_id": run.node_id,
        "name": names.get(run.node_id, run.node_id),
        "type": run.node_type,
        "status": run.status,
        "attempt": run.attempt,
        "phase": run.phase_index,
        "iteration": run.iteration,
        "duration_ms": run.duration_ms,
        "error": run.error or None,
        "error_code": run.error_code or None,
        "credits": run.credits,
        "cpu_seconds": run.cpu_seconds,
        "peak_memory_bytes": run.peak_memory_bytes,
    }


def names_in(definition: Mapping[str, Any]) -> dict[str, str]:
    """Return the name that people read for each node of a stored definition: its own label, else that of its type.

    What is stored was looked at when it was saved, and is not parsed for it: of 10,000 nodes that took most of a second.
    """
    types = {kind: executor.description.label for kind, executor in NODE_REGISTRY.items()}
    names = {}
    for node in definition.get("nodes") or ():
        label = (node.get("data") or {}).get("label")
        names[str(node.get("id"))] = str(label or types.get(str(node.get("type")), node.get("id")))
    return names


def after_ms(since: datetime, at: datetime | None) -> float | None:
    """Return how many milliseconds ``at`` is after ``since``: 0 when clocks differ and it is before, None without it."""
    return None if at is None else round(max(0.0, (at - since).total_seconds()) * 1000, 3)


def _iso(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="milliseconds")


def _milliseconds(start: datetime | None, end: datetime | None) -> int | None:
    return None if start is None or end is None else round((end - start).total_seconds() * 1000)
