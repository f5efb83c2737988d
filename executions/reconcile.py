"""Find what a lost process or a lost message left behind and set it going again.

Beat runs ``reconcile`` every two seconds, one at a time by a lock of the database. Each rule is a
function of its own; a rule reads, then acts through the engine's compare-and-set moves, so that it
may be late or run twice.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from executions import (
    admission,
    ending,
    engine,
    leases,
    letters,
    opening,
    recovery,
    retry,
    runtime,
    states,
    store,
    tasks,
    triggers,
    waits,
)
from executions.alone import only_one
from executions.broker import LOST_MESSAGE_US, broker
from executions.browser import kill_orphan
from executions.context import load
from executions.drafts import node_event
from executions.failpoints import failpoint
from executions.models import BrowserSession, Execution, LostWorker, NodeRun, WorkerLease
from recordings.events import RecordingEventType as Kind
from recordings.models import Event
from workflows.errors import WorkflowError

logger = logging.getLogger(__name__)

MAXIMUM_DELIVERIES = 3
BATCH = 200
AHEAD_US = 5_000_000
"""By how much the clock of another process may be ahead of the database's before its word is doubted."""
_SECOND = 1_000_000
CLOCK_JUMP_US = 5 * _SECOND
"""By how much two clocks must differ more than at the last look to be told that one of them jumped."""
SILENT_US = 30 * _SECOND
UNSERVED_US = 15 * _SECOND
"""How long a node is queued before its log says that there is no worker for it."""
LOST_KEPT_DAYS = 30
"""How long it is known which workers were lost."""
UNSERVED = "unserved_queue"
HOW_TO_SERVE = {
    opening.DEFAULT_QUEUE: "celery -A flowbuilder worker --pool=threads -Q control,default",
    opening.BROWSER_QUEUE: "celery -A flowbuilder worker --pool=threads -Q browser",
    opening.ISOLATED_QUEUE: "celery -A flowbuilder worker --pool=prefork -Q isolated",
}


def reconcile() -> dict[str, int]:
    """Apply every rule once and return how many rows each one acted on; empty when another process is at it."""
    with only_one("reconcile") as ours:
        if not ours:
            return {}
        failpoint("reconciling")
        return {name: _apply(name, rule) for name, rule in RULES.items() if name not in settings.RECONCILE_OFF}


def admit_due() -> float | None:
    """Let go the starts whose rate has room now; return seconds until the next one may go, None for nobody."""
    return None if "admit_held" in settings.RECONCILE_OFF else admission.admit_due()


def _apply(name: str, rule: Callable[[], int]) -> int:
    try:
        count = rule()
    except Exception:
        logger.exception("rule %s of reconcile failed; the others go on", name)
        return 0
    if count:
        logger.info("reconcile: %s acted on %d", name, count)
    return count


# --------------------------------------------------------------------------- rules


_clock: tuple[int, int] | None = None
"""The database's time and the time since this machine started, both in microseconds, at the last look."""


def follow_clock() -> int:
    """When the database's clock jumps (or the machine slept), give leases and deadlines the time that did not pass."""
    global _clock
    before, _clock = _clock, (store.database_now_us(), time.monotonic_ns() // 1000)
    jump = 0 if before is None else (_clock[0] - before[0]) - (_clock[1] - before[1])
    failpoint("clock_followed")
    if abs(jump) < CLOCK_JUMP_US:
        return 0
    logger.warning("the database's clock jumped by %.0f s; leases and deadlines follow", jump / _SECOND)
    held = NodeRun.objects.filter(status__in=(states.RUNNING, states.RETRYING)).exclude(claim="")
    count = held.update(lease_until=_clock[0] + settings.LEASE_SECONDS * _SECOND)
    if jump > 0:  # after a jump back they come later; two schedulers that both see it must not move them too far
        count += Execution.objects.exclude(status__in=states.TERMINAL).update(deadline_at=F("deadline_at") + jump)
    return count


def _now_us() -> int:
    """Return the database's time as it went on since the last look: leases and deadlines do not know of a later jump."""
    return store.database_now_us() if _clock is None else _clock[0] + time.monotonic_ns() // 1000 - _clock[1]


def resend_starts() -> int:
    """Send the start message of queued executions whose message was not sent, or was lost."""
    lost_before = broker.lost_before(opening.CONTROL_QUEUE)
    now = store.database_now_us()  # later than the moment at which the broker was found empty
    unbegun = Execution.objects.open().filter(status=states.QUEUED, held_by="", cancel_requested=False)
    waiting = unbegun.filter(published_at__isnull=True) | unbegun.filter(published_at__lt=lost_before)
    waiting |= unbegun.filter(published_at__gt=now + AHEAD_US)  # by a process whose clock is ahead
    count = 0
    for execution in waiting.order_by(F("published_at").asc(nulls_first=True))[:BATCH]:
        back_off = min(2**execution.publish_count, 64) * _SECOND
        sent = execution.published_at
        if sent is not None and sent >= broker.emptied_at and 0 <= now - sent < back_off:
            continue
        if execution.deliveries >= MAXIMUM_DELIVERIES:
            count += _safely(_bury_start, execution.pk)
            continue
        won = Execution.objects.filter(
            pk=execution.pk, status=states.QUEUED, publish_count=execution.publish_count
        ).update(published_at=now, publish_count=F("publish_count") + 1)
        execution.publish_count += 1
        if won and triggers.publish_start(execution):
            count += 1
    return count


def admit_held() -> int:
    """Let go the starts whose limit has room by now, where nobody did."""
    return admission.admit_waiting()


def advance_closed() -> int:
    """Open the next phase where the last node ended but nobody went on."""
    closed = (
        Execution.objects.open()
        .order_by()
        .filter(
            status=states.RUNNING,
            cancel_requested=False,
            touched_at__lt=store.database_now_us() - LOST_MESSAGE_US,
            phases__index=F("phase_index"),
            phases__open=0,
        )
        .values_list("pk", "phase_index")[:BATCH]
    )
    return sum(_safely(_advance, execution_id, phase + 1) for execution_id, phase in closed)


def resend_queued() -> int:
    """Send the messages of queued node runs that nobody took."""
    rows = (
        NodeRun.objects.filter(
            status=states.QUEUED, execution__status=states.RUNNING, execution__cancel_requested=False,
            dispatched_at__lt=max(store.database_now_us() - LOST_MESSAGE_US, broker.emptied_at),
        )
        .values_list("execution_id", "phase_index", "node_index", "queue", "dispatched_at", "deliveries")
        .order_by("dispatched_at")[:BATCH]
    )  # fmt: skip
    lost_before: dict[str, int] = {}
    lost: dict[tuple[UUID, int, bool], list[int]] = defaultdict(list)
    for execution_id, phase, index, queue, dispatched, deliveries in rows:
        if queue not in lost_before:
            lost_before[queue] = broker.lost_before(queue)
        if dispatched < lost_before[queue]:
            lost[execution_id, phase, deliveries > 0].append(index)
    return sum(_safely(_send_again, *where, indexes) for where, indexes in lost.items())


def requeue_dead(execution_id: UUID | None = None) -> int:
    """Take node runs back from processes that died or froze; give up on those that keep killing workers.

    With ``execution_id`` only those of one execution.
    """
    only = {} if execution_id is None else {"execution_id": execution_id}
    now = _now_us()
    held = (
        NodeRun.objects.filter(status__one_of=(states.RUNNING, states.RETRYING), **only)
        .exclude(claim="")
        .order_by()
        .values_list("execution_id", "phase_index", "node_index", "node_id", "claim", "worker", "lease_until",
                     "deliveries", "session", "queue", "started_at")
    )  # fmt: skip
    dead: dict[str, bool] = {}
    count = 0
    for (execution_id, phase, index, node_id, claim, worker, lease_until,
         deliveries, session, queue, started) in list(held):  # fmt: skip
        gone = dead.setdefault(worker, not worker or leases.is_dead(worker))
        if not gone and lease_until > now:
            continue
        reason = "its worker process died" if gone else "its worker process stopped answering"
        if session and loses_page(execution_id, worker, claim):
            count += _safely(fail_without_session, execution_id, phase, [index], claim, reason)
        elif (
            gone
            and queue == opening.ISOLATED_QUEUE
            and started
            and _safely(_end_late, execution_id, index, claim, started)
        ):
            count += 1
        elif deliveries >= MAXIMUM_DELIVERIES:
            count += _safely(_bury, execution_id, phase, index, node_id, claim, deliveries, reason)
        elif session:
            count += _safely(_reopen, execution_id, phase, claim, worker, gone, reason)
        else:
            count += _safely(_requeue, execution_id, phase, index, claim, reason)
    return count


def tell_missing_workers() -> int:
    """Say in the log of an execution that its nodes wait for a kind of worker of which none is alive."""
    now = store.database_now_us()
    alive = {
        name
        for queues in WorkerLease.objects.filter(beat_at__gte=now - SILENT_US).values_list("queues", flat=True)
        for name in queues.split(",")
    }
    missing = [queue for queue in HOW_TO_SERVE if queue not in alive]
    waiting = (
        NodeRun.objects.filter(
            status=states.QUEUED, queue__in=missing, execution__status=states.RUNNING,
            execution__phases__index=F("phase_index"),
            execution__phases__started_at__lt=store.us_to_datetime(now - UNSERVED_US),
        )
        .values_list("execution_id", "node_index", "node_id", "queue")
        .order_by("dispatched_at")[:BATCH]
    )  # fmt: skip
    count = 0
    for execution_id, index, node_id, queue in waiting:
        told = Event.objects.filter(
            execution_id=execution_id, node_id=node_id, type=Kind.LOG.value, data__contains=UNSERVED
        )
        if not told.exists():
            count += _safely(_tell_missing, execution_id, index, queue)
    return count


def fail_lost_sessions() -> int:
    """Close the books on browser pages whose process died: fail what waits for them, end what is left of Chromium."""
    sessions = BrowserSession.objects.filter(status__one_of=(BrowserSession.OPENING, BrowserSession.LIVE)).order_by()
    dead: dict[str, bool] = {}
    count = 0
    for session in list(sessions):
        if not dead.setdefault(session.boot, leases.is_dead(session.boot)):
            continue
        count += 1
        lose_session(session, "its worker process died")
        _kill_orphan(session)
    return count + _fail_without_page()


def lose_session(session: BrowserSession, reason: str) -> None:
    """Note that the page of ``session`` is gone and fail the node runs that wait for it."""
    held = BrowserSession.objects.held(session.boot).filter(pk=session.pk)  # it may have been opened anew elsewhere
    held.update(status=BrowserSession.LOST, closed_at=datetime.now(UTC))
    turns = Q(execution__parent_id=session.execution_id) & ~Q(execution__scope="")
    waiting = NodeRun.objects.filter(
        Q(execution_id=session.execution_id) | turns, status=states.QUEUED, session=session.name, queue=session.queue
    )
    _fail_waiting(waiting, reason)


def _fail_without_page() -> int:
    """Fail node runs that were queued for a page after it was lost; nobody reads that queue any more."""
    waiting = NodeRun.objects.filter(
        status=states.QUEUED, execution__status=states.RUNNING, queue__startswith=leases.PAGE_QUEUE
    )
    queues = set(waiting.values_list("queue", flat=True))
    unread = [queue for queue in queues if leases.is_dead(queue.removeprefix(leases.PAGE_QUEUE))]
    return _fail_waiting(waiting.filter(queue__in=unread), "its worker process is gone") if unread else 0


def _fail_waiting(waiting: QuerySet[NodeRun], reason: str) -> int:
    by_phase: dict[tuple[UUID, int], list[int]] = defaultdict(list)
    for execution_id, phase, index in waiting.values_list("execution_id", "phase_index", "node_index"):
        by_phase[execution_id, phase].append(index)
    return sum(
        _safely(fail_without_session, execution_id, phase, indexes, "", reason)
        for (execution_id, phase), indexes in by_phase.items()
    )


def enforce_deadlines() -> int:
    """Stop executions that run longer than they may."""
    late = (
        Execution.objects.open()
        .order_by()
        .filter(status=states.RUNNING, cancel_requested=False, deadline_at__lt=_now_us())
        .values_list("pk", "deadline_at", "started_at")[:BATCH]
    )
    count = 0
    for execution_id, deadline, started in late:
        allowed = round(deadline / _SECOND - started.timestamp())
        error = f"the execution did not finish within its limit of {allowed} s (deadline_s)"
        count += _safely(_stop_late, execution_id, error)
    return count


def send_due_retries() -> int:
    """Send node runs whose time for another attempt has come."""
    due = (
        NodeRun.objects.filter(
            status=states.RETRYING,
            status__one_of=(states.RUNNING, states.RETRYING),
            claim="",
            retry_at__lte=store.database_now_us(),
            execution__cancel_requested=False,
        )
        .order_by()
        .values_list("execution_id", "phase_index", "node_index", "dispatched_at", "deliveries")[:BATCH]
    )
    now = store.database_now_us()
    together: dict[tuple[UUID, int, bool], list[int]] = defaultdict(list)
    for execution_id, phase, index, dispatched, deliveries in due:
        if now - dispatched > LOST_MESSAGE_US:
            together[execution_id, phase, deliveries > 0].append(index)
    return sum(_safely(_send_again, *where, sorted(indexes)) for where, indexes in together.items())


def wake_due() -> int:
    """Queue node runs whose waiting time is over: delays, and approvals that nobody gave."""
    due = NodeRun.objects.filter(
        status=states.WAITING, wake_at__lte=store.database_now_us(), execution__cancel_requested=False,
        execution__status__in=(states.RUNNING, states.WAITING),
    ).values_list("execution_id", "phase_index", "node_index", "wait_kind", "execution__priority").order_by("wake_at")[:BATCH]  # fmt: skip
    return sum(_safely(_wake, *row) for row in due)


def rest_idle() -> int:
    """Let executions wait, and their clocks stand still, whose open nodes all do.

    Whoever sets the last node aside says so; two processes that do it in the same moment do not see each other.
    """
    runs = NodeRun.objects.filter(execution=OuterRef("pk"))
    busy = runs.filter(status__in=(states.QUEUED, states.RUNNING, states.RETRYING))
    running = Execution.objects.open().filter(status=states.RUNNING).order_by()
    waiting = running.filter(Exists(runs.filter(status=states.WAITING)), ~Exists(busy))
    idle = list(waiting.values_list("pk", flat=True)[:BATCH])
    for execution_id in idle:
        store.committer.run(partial(waits.rest, execution_id=execution_id), execution_id.hex)
    return len(idle)


def settle_cancelled() -> int:
    """End cancelled executions that no process works on any more."""
    open_ones = Execution.objects.open().filter(cancel_requested=True).order_by()
    return sum(_safely(ending.settle, execution_id) for execution_id in open_ones.values_list("pk", flat=True)[:BATCH])


def forget_dead_workers() -> int:
    """Remove the leases of processes that died, and of those that were silent for an hour."""
    count = 0
    now = store.database_now_us()
    for lease in WorkerLease.objects.all():
        silent = now - lease.beat_at > 3600 * _SECOND
        if lease.queues != "beat" and (silent or leases.is_dead(lease.boot)):
            _forget(lease, now)
            count += 1
    old = now - 60 * _SECOND
    return count + WorkerLease.objects.filter(queues="beat", beat_at__lt=old).delete()[0]


RULES: dict[str, Callable[[], int]] = {
    "follow_clock": follow_clock,
    "admit_held": admit_held,
    "resend_starts": resend_starts,
    "requeue_dead": requeue_dead,
    "fail_lost_sessions": fail_lost_sessions,
    "remove_orphaned_browsers": runtime.remove_orphaned_browsers,
    "restart_lost_pages": retry.restart_lost_pages,
    "advance_closed": advance_closed,
    "resend_queued": resend_queued,
    "send_due_retries": send_due_retries,
    "wake_due": wake_due,
    "rest_idle": rest_idle,
    "enforce_deadlines": enforce_deadlines,
    "settle_cancelled": settle_cancelled,
    "tell_missing_workers": tell_missing_workers,
    "forget_dead_workers": forget_dead_workers,
}


def mend(execution_id: UUID) -> None:
    """Do at once for one execution what the rules would do within seconds: the process of its message died."""
    if requeue_dead(execution_id):
        return
    execution = Execution.objects.filter(pk=execution_id, status=states.RUNNING, cancel_requested=False).first()
    if execution is None:
        return
    if execution.phases.filter(index=execution.phase_index, open=0).exists():
        _safely(_advance, execution_id, execution.phase_index + 1)
        return
    queued = NodeRun.objects.filter(execution_id=execution_id, phase_index=execution.phase_index, status=states.QUEUED)
    indexes = list(queued.values_list("node_index", flat=True))
    if indexes:
        _safely(_send_again, execution_id, execution.phase_index, False, indexes)


# --------------------------------------------------------------------------- parts of rules


def _safely(act: Callable[..., object], execution_id: UUID, *arguments: object) -> bool:
    """Return whether ``act`` did something; one bad row is logged and never blocks the rest."""
    try:
        return act(execution_id, *arguments) is not False
    except WorkflowError as error:
        return ending.give_up(execution_id, error)
    except Exception:
        logger.exception("execution %s could not be repaired; the others go on", execution_id)
        return False


def _stop_late(execution_id: UUID, error: str) -> bool:
    return ending.request_cancel(execution_id, "the deadline", code=ending.DEADLINE, error=error)


def _advance(execution_id: UUID, phase: int) -> None:
    tasks.publish(engine.advance(execution_id, phase))


def _requeue(execution_id: UUID, phase: int, index: int, claim: str, reason: str) -> None:
    tasks.publish(recovery.requeue(execution_id, phase, [index], [claim], reason))


def _reopen(execution_id: UUID, phase: int, claim: str, worker: str, gone: bool, reason: str) -> None:
    """Let others open the page again that a process was opening; end what is left of the Chromium of a dead one."""
    sessions = list(BrowserSession.objects.held(worker).filter(execution_id=execution_id)) if gone else []
    tasks.publish(recovery.reopen(execution_id, phase, claim, worker, reason))
    for session in sessions:
        _kill_orphan(session)


def _wake(execution_id: UUID, phase: int, index: int, kind: str, priority: int) -> bool:
    woken = store.committer.run(
        lambda tx: waits.wake(tx, execution_id, index, kind, {"reason": "timer"}, due=True), execution_id.hex
    )
    if woken:
        tasks.publish(opening.Dispatch(execution_id, phase, (((index,), opening.DEFAULT_QUEUE),), priority=priority))
    return woken


def _end_late(execution_id: UUID, index: int, claim: str, started: datetime) -> bool:
    """Fail an isolated node whose process was ended because the time of the attempt was over."""
    context = load(execution_id)
    if context is None:
        return False
    node = context.plan.nodes[index]
    elapsed = store.database_now_us() / _SECOND - started.timestamp()
    if elapsed < node.timeout_s + runtime.GRACE_SECONDS:
        return False
    phase = next(number for number, members in enumerate(context.plan.phases) if index in members)
    error = f"did not finish within {node.timeout_s:g} s, its time limit; its process was ended"
    tasks.publish(recovery.fail_lost(execution_id, phase, [index], [claim], error=error, code="timeout"))
    return True


def _tell_missing(execution_id: UUID, index: int, queue: str) -> bool:
    context = load(execution_id)
    if context is None:
        return False
    message = f"waits for a worker that serves the queue {queue}, and none is alive: {HOW_TO_SERVE[queue]}"
    data = {"message": message, "level": "warning", UNSERVED: queue}
    return recovery.note(context, [node_event(Kind.LOG, context.plan.nodes[index], data)])


def _send_again(execution_id: UUID, phase: int, apart: bool, indexes: list[int]) -> None:
    context = load(execution_id)
    if context is None:
        return
    store.committer.run(lambda tx: store.touch_dispatched(tx, execution_id, indexes), execution_id.hex)
    tasks.publish(opening.dispatch_of(context, phase, indexes, apart=apart))


def loses_page(execution_id: UUID, worker: str, claim: str) -> bool:
    """Return whether nodes that ``worker`` holds under ``claim`` cannot go on elsewhere: their page has been worked on."""
    return has_session(execution_id, worker) and not _safely(recovery.first_on_page, execution_id, claim)


def has_session(execution_id: UUID, worker: str) -> bool:
    """Return whether the page of an execution, or of what its turn of a loop works on, was held by ``worker``."""
    around = [execution_id]
    row = Execution.objects.filter(pk=execution_id).values_list("scope", "parent_id").first()
    while row is not None and row[0] and row[1] is not None:
        around.append(row[1])
        row = Execution.objects.filter(pk=row[1]).values_list("scope", "parent_id").first()
    return BrowserSession.objects.filter(execution_id__in=around, boot=worker).exists()


def fail_without_session(execution_id: UUID, phase: int, indexes: list[int], claim: str, reason: str) -> None:
    """Fail node runs, held under ``claim`` or by nobody, whose page is gone for ``reason``; go on with the execution."""
    error = f"the browser page of this execution is gone ({reason}); a page cannot move to another process"
    tasks.publish(recovery.fail_lost(execution_id, phase, indexes, [claim], error=error, code="session_lost"))


def _bury_start(execution_id: UUID) -> bool:
    execution = Execution.objects.get(pk=execution_id)
    error = (
        f"{execution.deliveries} workers took the start message of this execution and none got as far as its first"
        " phase: each time the process died or broke off; it is not tried again"
    )
    letters.keep(
        "start", error, admission.start_message(execution),
        workflow_id=execution.workflow_id, execution_id=execution_id, deliveries=execution.deliveries,
    )  # fmt: skip
    return ending.fail_unseen(execution_id, error, "poison")


def _bury(execution_id: UUID, phase: int, index: int, node_id: str, claim: str, deliveries: int, reason: str) -> None:
    error = f"{deliveries} worker processes died while they ran this node ({reason}); it is not tried again"
    letters.keep(
        "node", error, {"execution_id": str(execution_id), "phase": phase, "node_indexes": [index]},
        workflow_id=Execution.objects.values_list("workflow_id", flat=True).get(pk=execution_id),
        execution_id=execution_id, node_id=node_id, deliveries=deliveries,
    )  # fmt: skip
    tasks.publish(recovery.fail_lost(execution_id, phase, [index], [claim], error=error, code="poison"))


def _forget(lease: WorkerLease, now: int) -> None:
    """Remove the lease of a process that is gone, and note the loss.

    Not that of a process for isolated nodes, which is ended whenever a program takes too much of something.
    """
    with transaction.atomic():
        gone, _ = WorkerLease.objects.filter(boot=lease.boot).delete()
        if gone and lease.queues != opening.ISOLATED_QUEUE:
            LostWorker.objects.filter(lost_at__lt=now - LOST_KEPT_DAYS * 86_400 * _SECOND).delete()
            LostWorker.objects.update_or_create(
                boot=lease.boot,
                defaults={"hostname": lease.hostname, "pid": lease.pid, "queues": lease.queues, "lost_at": now},
            )


def _kill_orphan(session: BrowserSession) -> None:
    lease = WorkerLease.objects.filter(boot=session.boot).first()
    here = lease is None or lease.hostname == socket.gethostname()
    if here and session.chromium_pid and session.chromium_started:
        kill_orphan(session.chromium_pid, session.chromium_started, session.profile_dir)
