"""Every way to start an execution ends here."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from kombu.exceptions import OperationalError

from executions import admission, ending, engine, metering, store, tasks, waits
from executions.admission import publish_start
from executions.context import plan_of
from executions.errors import KeyReused, StartRefused
from executions.failpoints import failpoint
from executions.models import Execution, NodeRun
from executions.opening import DEFAULT_QUEUE, Dispatch
from workflows import access, audit
from workflows.definition import Definition
from workflows.errors import InsufficientCredits
from workflows.lifecycle import told
from workflows.limits import limits
from workflows.models import Workflow, WorkflowVersion
from workflows.policy import PRIORITIES
from workflows.validation import overpriced, oversize

logger = logging.getLogger(__name__)

__all__ = [
    "cancel_execution", "decide_approval", "pause_execution", "publish_start", "resume_execution", "start_execution",
]  # fmt: skip

MAXIMUM_INPUT_BYTES = 1024 * 1024
LONGEST_KEY = 200
LONGEST_COMMENT = 2_000


def start_execution(
    workflow: Workflow,
    *,
    by: AbstractBaseUser | None,
    trigger: str = "manual",
    input: Any = None,
    version: WorkflowVersion | None = None,
    scheduled_for: datetime | None = None,
    idempotency_key: str | None = None,
    priority: str | None = None,
) -> Execution:
    """Queue an execution of ``version`` (default: the active one) and return it; its message goes out on commit.

    A start that the limits of its workflow do not let go yet waits (``held_by``); their overlap rule may end it
    at once as cancelled. ``priority`` is high, normal or low instead of the workflow's own.

    It belongs to the owner of the workflow, and uses their credentials, credits and limits, whoever starts it. ``by`` is
    who does, None for the product itself; they must be one who may change the workflow. A paused workflow runs by hand
    (``trigger`` "manual") and by nothing else.

    The same ``idempotency_key`` of one who starts, and the same ``scheduled_for`` of one workflow, give the
    execution that exists already, whatever became of the workflow since. When the broker is down the row stays
    queued and is sent later.

    Raises:
        StartRefused: the workflow cannot run, or not for ``by``; the message says why and what to do.
        KeyReused: the key was used for another workflow, input or (if one is named) version.
        InsufficientCredits: the owner is metered, and the balance does not cover what one run costs.
        DefinitionError: the version cannot be planned.
    """
    try:
        payload = store.to_json({} if input is None else input)
    except (TypeError, ValueError, RecursionError) as error:
        raise StartRefused(f"the input is not JSON: {error}") from error
    if by is not None and not access.can(by, "change", workflow):
        raise StartRefused(f'workflow "{workflow.name}" belongs to somebody else, and {by} may not start it')
    starter: Any = None if by is None else by.pk
    known = started_with(starter, idempotency_key)
    if known is not None:
        return _same_start(known, workflow, version, payload, trigger)
    chosen = version or workflow.version
    if chosen is None:
        raise StartRefused(f'workflow "{workflow.name}" has no active version; activate it, or run its draft')
    if workflow.status == Workflow.Status.ARCHIVED:
        raise StartRefused(f'workflow "{workflow.name}" is archived')
    if version is None and workflow.status != Workflow.Status.ACTIVE:
        _refuse_unless_by_hand(workflow, trigger)
    if chosen.pk != workflow.version_id:
        _refuse_too_large(workflow, chosen)
    plan, _ = plan_of(chosen.pk)
    if not plan.nodes:
        raise StartRefused(f'workflow "{workflow.name}" has no nodes; add one in the builder')
    if len(payload) > MAXIMUM_INPUT_BYTES:
        raise StartRefused(f"the input has {len(payload):,} bytes; the limit is {MAXIMUM_INPUT_BYTES:,}")
    if priority is not None and priority not in PRIORITIES:
        raise StartRefused(f'the priority is one of {", ".join(PRIORITIES)}, not "{priority}"')
    execution = Execution(
        id=uuid4(), workflow=workflow, version=chosen, owner_id=workflow.owner_id, started_by_id=starter,
        trigger=trigger, input=payload, phase_count=len(plan.phases), node_count=plan.node_count,
        queued_at=datetime.now(UTC), scheduled_for=scheduled_for, published_at=store.now_us(),
        touched_at=store.now_us(), idempotency_key=idempotency_key,
    )  # fmt: skip
    admission.place(execution, workflow.settings, input, priority)
    try:
        with transaction.atomic():
            metering.reserve_start(execution, workflow.name, plan)
            execution.save(force_insert=True)
            if starter not in (None, workflow.owner_id):
                audit.note("start", "workflow", workflow, execution=str(execution.pk), trigger=trigger)
    except (IntegrityError, InsufficientCredits) as problem:
        found = _existing(execution)
        if found is None and isinstance(problem, InsufficientCredits):
            raise
        if found is None:
            raise StartRefused("the execution could not be stored; try again") from problem
        return found if idempotency_key is None else _same_start(found, workflow, version, payload, trigger)
    failpoint("start-committed")
    transaction.on_commit(partial(admission.send, execution))
    return execution


def _refuse_unless_by_hand(workflow: Workflow, trigger: str) -> None:
    """Refuse to start ``workflow``, which is not active; a paused one is still run by hand."""
    if workflow.status != Workflow.Status.PAUSED:
        raise StartRefused(f'workflow "{workflow.name}" is {workflow.status}; only active workflows are started')
    if trigger != "manual":
        raise StartRefused(
            f'workflow "{workflow.name}" is paused; schedules, webhooks and programs do not start it. '
            "Resume it, or run it by hand"
        )


def _refuse_too_large(workflow: Workflow, version: WorkflowVersion) -> None:
    """Refuse a version that the owner of ``workflow`` could not make the active one, because of its size or cost."""
    own, definition = limits(workflow.owner_id), Definition.from_json(version.definition)
    if found := oversize(definition, own) or list(overpriced(definition, own)):
        raise StartRefused(f'version {version.number} of workflow "{workflow.name}" is not run: {told(found)}')


def started_with(by: Any, key: str | None) -> Execution | None:
    """Return the execution that user ``by`` (an id) began with ``key``. One query by a unique index, none without a key."""
    if by is None or key is None:
        return None
    if store.to_column(key, LONGEST_KEY) != key:
        raise StartRefused(f"an idempotency key is a text of at most {LONGEST_KEY} characters, without NUL")
    found: Execution | None = Execution.objects.filter(started_by=by, idempotency_key=key).first()
    return found


def _same_start(
    found: Execution, workflow: Workflow, version: WorkflowVersion | None, payload: str, trigger: str
) -> Execution:
    """Return ``found`` if this is the start that made it.

    Raises:
        KeyReused: it is another one.
    """
    differs = [
        name
        for name, other in (
            ("workflow", found.workflow_id != workflow.pk),
            ("version", version is not None and found.version_id != version.pk),
            ("input", found.input != payload and json.loads(found.input) != json.loads(payload)),
            ("trigger", (found.trigger == "retry") != (trigger == "retry")),
        )
        if other
    ]
    if differs:
        raise KeyReused(
            f'the idempotency key "{found.idempotency_key}" began execution {found.pk} with another '
            f"{' and '.join(differs)}; use a new key for a new start"
        )
    return found


def _existing(wanted: Execution) -> Execution | None:
    """Return the execution that took the key or the instant before."""
    stored: QuerySet[Execution] = Execution.objects.all()
    if wanted.idempotency_key is not None:
        found = started_with(wanted.started_by_id, wanted.idempotency_key)
        if found is not None:
            return found
    if wanted.scheduled_for is not None:
        found = stored.filter(workflow_id=wanted.workflow_id, scheduled_for=wanted.scheduled_for).first()
        if found is not None:
            return found
    return None


def pause_execution(execution: Execution | UUID, by: str) -> bool:
    """Let an execution (and what runs for it) start no further node; return whether it was running or waiting.

    Nodes that run now finish. A paused execution keeps its browser page, and its time limit stands still.
    """
    key = execution if isinstance(execution, UUID) else execution.pk
    if not ending.pause(key, by):
        return False
    for child in waits.open_children(key):
        pause_execution(child, by)
    return True


def resume_execution(execution: Execution | UUID, by: str) -> bool:
    """Let a paused execution go on; return whether it was paused."""
    key = execution if isinstance(execution, UUID) else execution.pk
    if not ending.resume(key, by):
        return False
    for child in waits.open_children(key):
        resume_execution(child, by)
    for dispatch in engine.to_resume(key):
        _publish(dispatch)
    return True


def decide_approval(execution_id: UUID, node_index: int, approved: bool, comment: str, by: str) -> bool:
    """Answer an approval that an execution waits for; return False when nothing waits for it (any more)."""
    found = (
        NodeRun.objects.filter(execution_id=execution_id, node_index=node_index)
        .values_list("phase_index", "execution__priority")
        .first()
    )
    answer = {
        "reason": "approval", "approved": approved, "comment": store.to_column(comment, LONGEST_COMMENT), "by": by,
    }  # fmt: skip
    if found is None or not ending.answer(execution_id, node_index, answer):
        return False
    phase, priority = found
    _publish(Dispatch(execution_id, phase, (((node_index,), DEFAULT_QUEUE),), priority=priority))
    return True


def _publish(dispatch: Dispatch) -> None:
    """Send messages; the reconciler sends what the broker does not take now."""
    try:
        tasks.publish(dispatch)
    except (OperationalError, OSError) as error:
        logger.warning("execution %s goes on when the broker is back: %s", dispatch.execution_id, error)


def cancel_execution(execution: Execution | UUID, by: str) -> bool:
    """Ask an execution to stop; return whether it was still running. It ends within about two seconds."""
    return ending.request_cancel(execution if isinstance(execution, UUID) else execution.pk, by)
