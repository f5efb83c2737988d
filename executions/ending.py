"""How executions end: finished, cancelled or past their deadline; each with its recording in one transaction."""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError

from executions import events, leases, metering, runtime, states, store, waits
from executions.context import Context, load
from executions.drafts import End, cleanup_event, end_events, node_event, snapshot_event, started_event
from executions.models import BrowserSession, Execution, NodeRun
from executions.store import EventDraft, Transaction, now_us
from recordings.context import FAILED, RecordingConfig
from recordings.events import ENGINE_VERSION, environment
from recordings.events import RecordingEventType as Kind
from workflows import audit, lifecycle
from workflows.errors import WorkflowError
from workflows.keeping import recording_problem, recording_rules
from workflows.models import Workflow
from workflows.policy import PAUSE_AFTER_FAILURES, pause_problem
from workflows.registry import NODE_REGISTRY

logger = logging.getLogger(__name__)

DEADLINE = "deadline"
FAILURE_TAG = "auto-failure"
"""Tag of recordings that were kept because their execution failed."""

CLEAN_UP_SECONDS = 2.0
"""How long the end of an execution waits for its page to close; what takes longer goes on closing."""

AFTER_END: list[Callable[[Context], None]] = []
"""What else is to happen when an execution has ended and that is committed; upper modules append theirs."""


def finish(
    tx: Transaction, context: Context, end: End, events_count: int, credits: int, now: int, source: int | None = None,
    at: int | None = None,
) -> int | None:  # fmt: skip
    """End an execution, settle its credits, and tell the one that waits for it; return the number before its last events, or None."""
    base = store.finish_execution(
        tx, context.id, status=end.status, error=end.error, error_code=end.code, error_node=end.node_id,
        events=events_count, credits=credits, now=now, source=source, at=at,
    )  # fmt: skip
    if base is not None:
        waits.count_child(tx, context)
        metering.settle(tx, context)
    return base


def insert_recording(tx: Transaction, context: Context, end: End, now: int) -> None:
    """Insert the recording of an execution that ends in this transaction, or why there is none.

    Its counts come from its rows.
    """
    nodes, credits, count, tags = store.totals(tx, context.id)
    counts = {"node_count": nodes, "event_count": count, "credits": credits}
    root = context.id
    if context.parent is not None and recording_config(context.settings)[0].sampling_rate > 0:
        root = store.root_of(tx, context.id)
    values, dropped = keep_or_drop(context, end, now, root)
    values["tags"] = list(dict.fromkeys([*values["tags"], *tags]))
    if context.plan.may_wait or not context.plan.nodes:
        values["recursion_max_depth"] = store.deepest_inside(tx, context.id, context.depth)
    if dropped:
        store.insert_not_recorded(tx, context.id, dropped, store.to_json(store.as_json(values)), counts, now)
        return
    store.insert_recording(tx, uuid.uuid4(), {**values, "tags": store.to_json(values["tags"]), **counts})


def keep_or_drop(context: Context, end: End, now: int, root: UUID | None = None) -> tuple[dict[str, Any], str]:
    """Return the columns of the recording of an execution that ends, and why it is not kept; empty when it is.

    A sample is drawn by ``root``, the execution inside which this one runs, so that families stay together.
    """
    values = recording_of(context, end, now)
    config, source = recording_config(context.settings)
    success = end.status != states.FAILED  # whoever cancels a run does not want to hear that it failed
    because = config.reason(success, str(root or context.id), values["duration_seconds"])
    if because == FAILED and FAILURE_TAG not in values["tags"]:
        values["tags"] = [*values["tags"], FAILURE_TAG]
    values["kept_because"] = because
    return values, "" if because else f"{source}, and this execution is not one of them"


def recording_config(own: dict[str, Any]) -> tuple[RecordingConfig, str]:
    """Return which recordings are kept under the settings ``own`` of a workflow, and who says so.

    What cannot be read there is left out, so that a slip in the settings never loses a recording.
    """
    text = own.get("recording")
    if isinstance(text, str) and not recording_problem(text):
        return _config(text), f"the workflow keeps the recordings {text!r}"[:140]
    return _config(settings.RECORDING), f"this installation keeps the recordings {settings.RECORDING!r}"[:140]


@lru_cache(maxsize=256)
def _config(text: str) -> RecordingConfig:
    return RecordingConfig(**recording_rules(text))


def recording_of(context: Context, end: End, now: int) -> dict[str, Any]:
    """Return the columns of the recording of an execution that ends, without its counts."""
    tags = context.settings.get("tags")
    own = tags if isinstance(tags, list) else []
    return {
        "execution_id": context.id,
        "workflow_id": context.workflow_id,
        "workflow_name": context.workflow_name,
        "version_number": context.version_number,
        "user_id": context.owner_id,
        "trigger": context.trigger,
        "status": end.status,
        "success": end.success,
        "error": end.error,
        "tags": [*own, f"trigger:{context.trigger}"],
        "started_at": context.queued_us,
        "completed_at": now,
        "duration_seconds": (now - context.queued_us) / 1_000_000,
        "team_count": 0,
        "recursion_max_depth": context.depth,
        "details": _made_by(),
        "checksum": "",
        "sealed": "",
    }


@cache
def _made_by() -> str:
    """Return, as JSON, what recordings say of the program that wrote the end of their execution.

    The fingerprint ends with (``n``) a digest of what all node types take, give and cost.
    """
    nodes = sorted(repr(executor.description) for executor in NODE_REGISTRY.values())
    where = f"{environment()}-n{hashlib.sha256(''.join(nodes).encode()).hexdigest()[:8]}"
    return store.to_json({"engine_version": ENGINE_VERSION, "env_fingerprint": where})


def ended(context: Context) -> None:
    """Do what follows the end of an execution, once it is committed."""
    release(context.id)
    pause_after_failures(context)
    for act in AFTER_END:
        act(context)


def pause_after_failures(context: Context) -> None:
    """Pause the workflow of an ended execution if its setting says so: its last runs by themselves all failed.

    A run that completed with errors has failed, too, as in the statistics.
    Runs count since the workflow was activated or resumed; cancelled ones do not, nor do those that people started.
    No query without the setting.
    """
    most = context.settings.get(PAUSE_AFTER_FAILURES)
    if most is None or pause_problem(most) or context.parent is not None or context.trigger not in states.BY_ITSELF:
        return
    try:
        workflow = Workflow.objects.get(pk=context.workflow_id)
        runs = Execution.objects.filter(
            workflow=workflow,
            parent=None,
            trigger__in=states.BY_ITSELF,
            status__in=(states.COMPLETED, *states.FAILURES),
        )
        if workflow.status_at is not None:
            runs = runs.filter(queued_at__gte=workflow.status_at)
        last = list(runs.order_by("-queued_at").values_list("status", "error")[:most])
        if len(last) == most and all(status in states.FAILURES for status, _ in last):
            reason = f"{most} runs in a row failed" if most > 1 else "a run failed"
            error = last[0][1] or "the run completed, but nodes of it failed"
            with audit.acting(None, audit.Door.SYSTEM):
                lifecycle.pause(workflow, f"{reason}; the last error: {error}")
    except (WorkflowError, DatabaseError) as error:  # it was paused, or the next failure looks again
        logger.info("workflow %s is not paused after failures: %s", context.workflow_id, error)


def clean_up(context: Context) -> list[EventDraft]:
    """Close the page of an execution that needs it no more; return the event of it, none where this process has no page.

    To be called before the end is written, outside a transaction, so that the recording has what it took.
    """
    if not runtime.holds_session(context.id):
        return []
    began = time.perf_counter()
    closed = release(context.id, wait_s=CLEAN_UP_SECONDS)
    context.since_us = now_us()
    return [cleanup_event(time.perf_counter() - began, closed, context.since_us)]


_to_note: set[UUID] = set()
"""Executions whose page this process closes, until the database knows."""


def kept() -> set[UUID]:
    """Return the executions whose page this process holds, or of which the database does not know yet that it is closed."""
    return runtime.sessions() | _to_note


def release(execution_id: UUID, *, wait_s: float = 10.0) -> bool:
    """Give back what this process keeps for an execution: its browser page; return whether it closed within ``wait_s``.

    Another process that holds the page of an ended execution does the same within a second, and so does this one
    where the database was away when the page was closed.
    """
    if not runtime.holds_session(execution_id) and execution_id not in _to_note:
        return True
    _to_note.add(execution_id)
    closed = runtime.close_session(execution_id, wait_s=wait_s)
    boot = leases.this_boot()
    store.committer.run(
        lambda tx: store.end_page(tx, execution_id, boot, BrowserSession.CLOSED, now_us()), execution_id.hex
    )
    _to_note.discard(execution_id)
    return closed


def request_cancel(execution_id: UUID, by: str, *, code: str = "", error: str = "") -> bool:
    """Ask an execution to stop; return whether it was still possible. ``code`` "deadline" ends it as failed."""

    data = {"by": by, "error": error or None}

    def job(tx: Transaction) -> _NotedOne | None:
        base = store.mark_cancelled(tx, execution_id, code=code, error=error)
        return None if base is None else _insert_one(tx, execution_id, base, Kind.CANCEL_REQUESTED, data)

    won = store.committer.run(job, execution_id.hex)
    if won is None:
        return False
    base, depth, draft = won
    events.push(execution_id, base, [draft], states.RUNNING, depth)
    settle(execution_id)
    cancel_children(execution_id, None, by)
    return True


def cancel_children(execution_id: UUID, index: int | None, by: str) -> None:
    """Ask the executions to stop that run for an execution, or for one node of it."""
    for child in waits.open_children(execution_id, index):
        request_cancel(child, by)


def settle(execution_id: UUID) -> bool:
    """End an execution whose cancellation was requested, once no live process runs its nodes.

    Returns whether it ended now.
    """
    context = _load_anyhow(execution_id)
    if context is None or not context.cancel_requested or context.status in states.TERMINAL:
        return False
    code, reason = Execution.objects.filter(pk=execution_id).values_list("error_code", "error").get()
    status = states.FAILED if code == DEADLINE else states.CANCELLED
    end = End(status, reason or "cancelled", code or "cancelled")
    drafts: list[EventDraft] = []
    cleaned = [] if _page_is_used(execution_id) else clean_up(context)

    def job(tx: Transaction) -> int | None:
        return None if store.count_held(tx, execution_id) else _end_all(tx, context, drafts, end, cleaned)

    return _finish_now(context, job, drafts, status)


def _page_is_used(execution_id: UUID) -> bool:
    """Return whether this process has a page of the execution while nodes are in somebody's hands."""
    return runtime.holds_session(execution_id) and bool(
        store.committer.run(lambda tx: store.count_held(tx, execution_id), execution_id.hex)
    )


def _finish_now(context: Context, job: store.Job[int | None], drafts: list[EventDraft], status: str) -> bool:
    base = store.committer.run(job, context.turn_of_commit)
    if base is None:
        return False
    events.push(context.id, base, drafts, status, context.depth)
    ended(context)
    return True


def pause(execution_id: UUID, by: str) -> bool:
    """Pause one execution; return whether it was running or waiting."""
    return _note_move(execution_id, waits.pause, Kind.PAUSE, {"by": by}, states.PAUSED)


def resume(execution_id: UUID, by: str) -> bool:
    """Let one paused execution go on; return whether it was paused."""
    return _note_move(execution_id, waits.unpause, Kind.RESUME, {"by": by}, states.RUNNING)


def answer(execution_id: UUID, index: int, decision: dict[str, Any]) -> bool:
    """Wake a node that waits for an approval; return whether it did."""

    def move(tx: Transaction, key: UUID) -> bool:
        return waits.wake(tx, key, index, NodeRun.APPROVAL, decision, due=False)

    data = {name: value for name, value in decision.items() if name != "reason"}
    return _note_move(execution_id, move, Kind.APPROVAL, data, states.RUNNING)


def _note_move(
    execution_id: UUID, move: Callable[[Transaction, UUID], bool], kind: Kind, data: dict[str, Any], status: str
) -> bool:
    """Make a move and write its event in one transaction; return whether it could be made."""

    def job(tx: Transaction) -> _NotedOne | None:
        if not move(tx, execution_id):
            return None
        base = store.bump(tx, execution_id, events=1)
        return None if base is None else _insert_one(tx, execution_id, base, kind, data)

    won = store.committer.run(job, execution_id.hex)
    if won is None:
        return False
    base, depth, draft = won
    events.push(execution_id, base, [draft], status, depth)
    return True


_NotedOne = tuple[int, int, EventDraft]
"""The number before an event, the depth of its execution, and the event."""


def _insert_one(tx: Transaction, execution_id: UUID, base: int, kind: Kind, data: dict[str, Any]) -> _NotedOne:
    """Insert an event of an execution of which no more is known than its id, and whose row this transaction holds.

    Its time is now: who waited for the row must not write an earlier one than who had it.
    """
    depth = store.depth_of(tx, execution_id)
    draft = EventDraft(kind.value, now_us(), "", data)
    store.insert_events(tx, execution_id, base, [draft], depth)
    return base, depth, draft


def load_or_give_up(execution_id: UUID) -> Context | None:
    """Return what is known about an execution, or None. One whose version cannot be planned any more fails here."""
    try:
        return load(execution_id)
    except WorkflowError as error:
        give_up(execution_id, error)
        return None


def give_up(execution_id: UUID, problem: WorkflowError) -> bool:
    """Fail an execution that nobody can go on with; return whether it ended now."""
    context = _load_anyhow(execution_id)
    if context is None or context.status in states.TERMINAL:
        return False
    drafts: list[EventDraft] = []
    end = End(states.FAILED, context.error_text(f"the workflow cannot be run any more: {problem}"), "definition")
    cleaned = clean_up(context)
    return _finish_now(context, lambda tx: _end_all(tx, context, drafts, end, cleaned), drafts, states.FAILED)


def fail_unseen(execution_id: UUID, error: str, code: str) -> bool:
    """Fail an execution without a look at its plan, which may be what kills processes; return whether it ended now."""
    context = load(execution_id, planned=False)
    if context is None or context.status in states.TERMINAL:
        return False
    drafts: list[EventDraft] = []
    end = End(states.FAILED, context.error_text(error), code)
    return _finish_now(context, lambda tx: _end_all(tx, context, drafts, end), drafts, states.FAILED)


def _load_anyhow(execution_id: UUID) -> Context | None:
    try:
        return load(execution_id)
    except WorkflowError:
        return load(execution_id, planned=False)


def _end_all(
    tx: Transaction, context: Context, drafts: list[EventDraft], end: End, cleaned: Sequence[EventDraft] = ()
) -> int | None:
    """Cancel what is open and end the execution; fill ``drafts`` and return the number before them.

    ``cleaned`` are the events of the clean-up before it.
    """
    drafts[:] = cleaned
    now = now_us()
    by_id = {node.node.id: node for node in context.plan.nodes}
    exits = waits.exits_of_open_nodes(tx, context)
    ended = store.end_open_nodes(tx, context.id, status=states.CANCELLED, error=end.error, error_code=end.code, now=now)
    for node_id in ended:
        drafts.extend(exits.get(node_id, ()))
        data = {"reason": end.error, "status": states.CANCELLED}
        node = by_id.get(node_id)
        drafts.append(
            node_event(Kind.NODE_SKIPPED, node, data, now)
            if node
            else EventDraft(Kind.NODE_SKIPPED.value, now, node_id, data)
        )
    phase = store.phase_of(tx, context.id)
    if phase >= 0:
        drafts.append(snapshot_event(context.id, phase, store.ended_nodes(tx, context.id, phase), now))
    elif not ended:
        drafts.append(started_event(context, now))
    drafts.extend(end_events(context, end, now, context.since_us))
    base = finish(tx, context, end, len(drafts), 0, now)
    if base is not None:
        store.insert_events(tx, context.id, base, drafts, context.depth)
        insert_recording(tx, context, end, now)
    return base
