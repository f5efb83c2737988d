"""Run an ended execution again: the whole of it, or only what failed and what follows.

A retry from the failure is a new execution that begins with the results of its predecessor: the rows of
nodes that need not run again are copied (no worker ran them here, so their ``deliveries`` is 0 and they
cost nothing), and the engine passes over them.
"""

from __future__ import annotations

import json
import logging
from uuid import UUID

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction

from executions import states, store, triggers
from executions.context import plan_of
from executions.errors import KeyReused, SessionLost, StartRefused
from executions.models import Execution, NodeRun
from executions.planner import Plan
from recordings.models import BlobRef
from workflows.errors import WorkflowError
from workflows.policy import RESTART_BROWSER_SEGMENT, restart_problem

logger = logging.getLogger(__name__)

RESTARTED_WITHIN_US = 15 * 60 * 1_000_000
"""How long after its end an execution is run again by itself; later nobody expects it any more."""


def retry_execution(
    execution: Execution, by: AbstractBaseUser, from_failed: bool = True, idempotency_key: str | None = None
) -> Execution:
    """Queue a new execution with the version and the input of ``execution`` and return it.

    ``from_failed`` keeps what completed and does not depend on what failed. Nodes of one browser page are
    kept or run again together, because the page itself is gone. ``by`` is who wants it, as for ``start_execution``,
    and the same ``idempotency_key`` of theirs gives the execution that it began first.

    Raises:
        KeyReused: the key began something else.
        StartRefused: it has not ended, is part of another one, nothing in it failed, a node that wrote to the
            outside would do so twice, or ``by`` may not start the workflow.
    """
    known = triggers.started_with(by.pk, idempotency_key)
    if known is not None:
        return _same_retry(known, execution, from_failed)
    _refuse_unfit(execution)
    with transaction.atomic():
        kept = _kept(execution) if from_failed else []
        new = triggers.start_execution(
            execution.workflow, by=by, trigger="retry", input=json.loads(execution.input),
            version=execution.version, idempotency_key=idempotency_key,
        )  # fmt: skip
        if new.retry_of_id is not None:  # the same request, a moment before
            return _same_retry(new, execution, from_failed)
        Execution.objects.filter(pk=new.pk).update(retry_of=execution)
        new.retry_of = execution
        _copy(new, kept)
    logger.info("%s runs execution %s again as %s, %d nodes kept", by.get_username(), execution.pk, new.pk, len(kept))
    return new


def restart_lost_pages() -> int:
    """Run executions again that failed because their page was lost, where the settings of their workflow allow it.

    The new execution keeps what completed without the page and begins with the node that opens it. One for each
    execution, however many processes look, by its idempotency key; none where somebody was faster.
    """
    lost = (
        Execution.objects.filter(
            error_code__one_of=(SessionLost.code,), touched_at__gte=store.database_now_us() - RESTARTED_WITHIN_US,
            status=states.FAILED, parent=None, retries=None,
        )
        .filter(workflow__settings__has_key=RESTART_BROWSER_SEGMENT)
        .select_related("workflow__owner", "version")
        .order_by("touched_at")
    )  # fmt: skip
    found = [execution for execution in lost if execution.pk not in _left]
    _left.intersection_update(execution.pk for execution in lost)
    return sum(_restart(execution) for execution in found)


_left: set[UUID] = set()
"""Executions that cannot be restarted, so that it is said once only."""


def _restart(execution: Execution) -> bool:
    allowed = execution.workflow.settings[RESTART_BROWSER_SEGMENT]
    try:
        if restart_problem(allowed) or _restarts_before(execution) >= allowed:
            raise StartRefused(f"{RESTART_BROWSER_SEGMENT} of its workflow is {allowed!r:.20}")
        retry_execution(execution, execution.workflow.owner, idempotency_key=_restart_key(execution.pk))
    except (StartRefused, WorkflowError) as error:
        _left.add(execution.pk)
        logger.warning("execution %s lost its page and is not run again: %s", execution.pk, error)
        return False
    return True


def _restart_key(lost: UUID | None) -> str:
    return f"{RESTART_BROWSER_SEGMENT}:{lost}"


def _restarts_before(execution: Execution) -> int:
    """Return how many executions in a row, this one last, were begun because the one before lost its page."""
    count, current = 0, execution
    while current.retry_of is not None and current.idempotency_key == _restart_key(current.retry_of_id):
        count, current = count + 1, current.retry_of
    return count


def _same_retry(found: Execution, execution: Execution, from_failed: bool) -> Execution:
    """Return ``found`` if this is the retry that made it.

    Raises:
        KeyReused: it is another one, or no retry.
    """
    took_over = NodeRun.objects.filter(execution=found, deliveries=0, started_at__lt=found.queued_at).exists()
    if found.retry_of_id != execution.pk or (took_over != from_failed and (took_over or _kept(execution))):
        raise KeyReused(
            f'the idempotency key "{found.idempotency_key}" began execution {found.pk} in another way; '
            "use a new key for a new start"
        )
    return found


def _refuse_unfit(execution: Execution) -> None:
    if execution.parent_id is not None:
        raise StartRefused(f"execution {execution.pk} is part of execution {execution.parent_id}; run that one again")
    if not execution.is_terminal:
        raise StartRefused(f"execution {execution.pk} is still {execution.status}; cancel it, or wait for its end")


def _kept(execution: Execution) -> list[NodeRun]:
    """Return the node runs that a retry from the failure begins with.

    Raises:
        StartRefused: see ``retry_execution``.
    """
    plan, _ = plan_of(execution.version_id)
    runs = {run.node_index: run for run in NodeRun.objects.filter(execution=execution, iteration=0)}
    completed = {index for index, run in runs.items() if run.status == states.COMPLETED}
    removed = {index for index in completed if runs[index].outputs == NodeRun.REMOVED}
    ended_well = completed | {index for index, run in runs.items() if run.status == states.SKIPPED}
    again = _again(plan, ended_well)
    if not again:
        raise StartRefused(f"nothing failed in execution {execution.pk}; run the whole of it again")
    again = _again(plan, ended_well - removed)
    doubled = [plan.nodes[i].name for i in sorted(again & completed) if plan.nodes[i].description.effect == "write"]
    if doubled:
        names = ", ".join(f'"{name}"' for name in doubled)
        raise StartRefused(
            f"{names} completed, but would have to run again and write to the outside a second time, because what"
            " leads to it runs again; if that is what you want, run the whole execution again (--whole)"
        )
    return [run for index, run in runs.items() if index in completed - again]


def _again(plan: Plan, ended_well: set[int]) -> set[int]:
    """Return the nodes that run again: what did not end well, what depends on it, and all of a page together."""
    members = [index for phase in plan.phases for index in phase]
    again = _with_followers(plan, members, set(members) - ended_well)
    pages = plan.page_users()
    return _with_followers(plan, members, again | pages) if again & pages else again


def _with_followers(plan: Plan, members: list[int], start: set[int]) -> set[int]:
    needs: dict[int, set[int]] = {index: set() for index in members}
    for node in plan.nodes:
        inside = _in_scope(plan, node.index)
        if inside in needs:
            needs[inside] |= {_in_scope(plan, source) for source in node.needs}
    found = set(start)
    for index in members:  # in the order in which they run
        if needs[index] & found:
            found.add(index)
    return found


def _in_scope(plan: Plan, index: int) -> int:
    """Return the node itself, or the loop of this scope that it turns in."""
    while plan.nodes[index].scope != plan.scope:
        outer = plan.nodes[index].scope
        if outer is None:
            return index
        index = outer
    return index


def _copy(new: Execution, runs: list[NodeRun]) -> None:
    NodeRun.objects.bulk_create(
        NodeRun(
            execution=new, phase_index=run.phase_index, node_index=run.node_index, node_id=run.node_id,
            node_type=run.node_type, status=run.status, attempt=run.attempt, outputs=run.outputs,
            outputs_blob=run.outputs_blob, started_at=run.started_at, finished_at=run.finished_at,
            cpu_seconds=run.cpu_seconds, peak_memory_bytes=run.peak_memory_bytes,
        )
        for run in runs
    )  # fmt: skip
    blobs = {run.outputs_blob for run in runs if run.outputs_blob}
    BlobRef.objects.bulk_create(BlobRef(blob_id=sha256, execution_id=new.pk) for sha256 in blobs)
