"""Celery's door: fetch by id, call the engine, send the messages that it answers with."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from celery import Task, current_app, shared_task, signals, uuid
from celery.exceptions import Reject
from celery.worker import WorkController
from django.conf import settings
from django.db import close_old_connections
from django.db.models import F
from django.db.models.functions import Greatest
from kombu import Exchange, Queue
from redis.exceptions import RedisError

from executions import admission, confinement, ending, engine, leases, letters, logs, runtime, states, store
from executions.failpoints import failpoint
from executions.models import Execution
from executions.opening import BROWSER_QUEUE, CONTROL_QUEUE, ISOLATED_QUEUE, Dispatch
from executions.store import now_us

logger = logging.getLogger(__name__)

PRIVATE_QUEUE_SECONDS = 3600
ending.AFTER_END.append(admission.ended)

PATIENCE_SECONDS = 60.0
"""How long a worker waits for a row of its execution that somebody else holds, before it gives up the work."""


@shared_task(name="executions.start", bind=True)
def start(
    self: Task[..., Any], execution_id: str, workflow_id: str, user_id: str, trigger: str, status: str, queued_at: str
) -> None:
    """Begin a queued execution. The message carries what a consumer of the queue may want to know; we need the id.

    A message that was sent again says so in its headers, and only then is its delivery counted: that costs a
    statement, and the first delivery is known to have been lost.
    """
    resend = (self.request.headers or {}).get(admission.RESEND_HEADER)
    counted = resend is not None and _count_delivery(execution_id, int(resend))
    failpoint("start-taken")
    admission.began()
    with logs.clean_errors():
        _go_on(engine.advance(UUID(execution_id), 0))
    if counted:
        Execution.objects.filter(pk=execution_id).update(deliveries=0)  # the worker lives


def _count_delivery(execution_id: str, resend: int) -> bool:
    """Note that a worker took the newest message of a queued start; an older one may still be under way, too."""
    newest = Execution.objects.filter(pk=execution_id, status=states.QUEUED, publish_count=resend)
    return bool(newest.update(deliveries=Greatest(F("deliveries"), 1) + 1))


@shared_task(name="executions.purge_dead_letters")
def purge_dead_letters() -> int:
    """Remove old dead letters; return how many."""
    return letters.purge()


@shared_task(name="executions.advance")
def advance(execution_id: str, phase: int) -> None:
    """Open ``phase`` once the one before it is closed: the body of every phase's chord."""
    if phase > 0 and engine.closed_here(UUID(execution_id), phase - 1):
        return  # the callback of a chord comes late as a rule
    with logs.clean_errors():
        _go_on(engine.advance(UUID(execution_id), phase))


@shared_task(name="executions.run_nodes", bind=True)
def run_nodes(
    self: Task[..., Any],
    execution_id: str,
    phase: int,
    node_indexes: Sequence[int],
    apart: bool = False,
    sent_us: int = 0,
) -> None:
    """Run nodes of one phase: a header of its chord. Never raises for a node that fails.

    ``apart``: the nodes ran in a process that died, see ``Dispatch``. ``sent_us``: when this message was sent.
    """
    worker = leases.current
    queue = (self.request.delivery_info or {}).get("routing_key")
    if worker is not None and worker.draining and queue != worker.queue:
        raise Reject("this worker is about to end; another one takes the nodes", requeue=True)
    work = partial(_take, UUID(execution_id), phase, list(node_indexes), sent_us)
    if apart:
        _one_by_one.run(work)
        return
    work()
    if self.request.chord and engine.closed_here(UUID(execution_id), phase):
        _leave_chord(self)


def _take(execution_id: UUID, phase: int, indexes: list[int], sent_us: int) -> None:
    try:
        with logs.clean_errors():
            _go_on(engine.take(execution_id, phase, indexes, sent_us))
    except MemoryError:
        if confinement.limits() is None:
            raise
        # Celery's main process would end, too. This child dies instead, and its message comes back.
        raise SystemExit("out of memory outside of the node") from None


def _go_on(dispatch: Dispatch | None) -> None:
    """Go on here, for a while, with the one child that a node waits for or the node that a child woke; send the rest."""
    stays = leases.current is None or not leases.current.isolated
    until = time.monotonic() + engine.LOCAL_SECONDS if stays else 0.0
    while dispatch is not None and time.monotonic() < until and not _is_draining():
        if dispatch.starts and not dispatch.headers:
            publish(replace(dispatch, starts=dispatch.starts[1:]))
            dispatch = engine.advance(dispatch.starts[0], 0)
        elif dispatch.wakes and not dispatch.starts:
            ((indexes, _),) = dispatch.headers
            dispatch = engine.take(dispatch.execution_id, dispatch.phase, list(indexes))
        elif dispatch.here is not None:
            dispatch = _send_and_stay(dispatch)
        else:
            break
    publish(dispatch)


def _is_draining() -> bool:
    return leases.current is not None and leases.current.draining


class _OneByOne:
    """Runs what may kill this process one after another; it never makes a thread wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._busy = False

    def run(self, work: Callable[[], None]) -> None:
        """Do ``work`` now, or leave it to the thread that is at it; what this loses, the reconciler sends again."""
        with self._lock:
            self._waiting.append(work)
            if self._busy:
                return
            self._busy = True
        while (following := self._next()) is not None:
            try:
                following()
            except Exception:
                logger.exception("nodes that were to run apart could not be run; they are sent again")

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            if self._waiting and not _is_draining():
                return self._waiting.popleft()
            self._waiting.clear()
            self._busy = False
        return None


_one_by_one = _OneByOne()


def publish(dispatch: Dispatch | None) -> None:
    """Send messages, and run what the process that opened a phase keeps of it for itself."""
    while dispatch is not None:
        dispatch = _send_and_stay(dispatch)


def _send_and_stay(dispatch: Dispatch) -> Dispatch | None:
    """Send messages, then run the header that stays here; return what follows. What was claimed runs in any case."""
    following: Dispatch | None = None
    try:
        _send(dispatch)
    finally:
        if dispatch.here is not None:
            following = engine.drive(dispatch.here)
    return following


def _send(dispatch: Dispatch) -> None:
    """Send the headers of a phase (one message, or a chord whose body opens the next phase) and starts of children."""
    failpoint("before-publish")
    priority = settings.MESSAGE_PRIORITIES[dispatch.priority]
    for child in dispatch.starts:
        advance.apply_async((str(child), 0), queue=CONTROL_QUEUE, priority=priority)
    if not dispatch.headers:
        return
    if any(queue == ISOLATED_QUEUE for _indexes, queue in dispatch.headers):
        want_isolated_worker()
    _introduce(queue for _indexes, queue in dispatch.headers)
    execution_id = str(dispatch.execution_id)
    more = {"sent_us": now_us(), **({"apart": True} if dispatch.apart else {})}
    many = len(dispatch.headers) > 1 and not dispatch.apart
    of_chord: dict[str, Any] = {}
    if many:
        failpoint("before-publish-headers")
        body = advance.si(execution_id, dispatch.phase + 1).set(queue=CONTROL_QUEUE, priority=priority)
        of_chord = {"group_id": uuid(), "chord": body}
    with current_app.producer_or_acquire() as producer:
        for number, (indexes, queue) in enumerate(dispatch.headers, 1):
            if many and number == len(dispatch.headers):
                _set_chord_size(of_chord["group_id"], number)
            run_nodes.apply_async(
                (execution_id, dispatch.phase, list(indexes)), more,
                queue=queue, priority=priority, producer=producer, **of_chord,
            )  # fmt: skip


def _set_chord_size(group: str, size: int) -> None:
    """Let Celery send the callback of a chord once so many of its headers have ended; to be called before the last one.

    Celery's own ``chord`` also subscribes to the result of each header, which it never ends, and holds this thread for
    twenty seconds while Redis is away.
    """
    backend: Any = current_app.backend
    backend.client.set(backend.get_key_for_group(group, ".s"), size, ex=settings.CELERY_RESULT_EXPIRES)


_CHORD_KEYS = (".s", ".j", ".t", ".d")
"""What Celery's Redis backend keeps of a chord: its size and the results, counts and ids of its headers."""


def _leave_chord(task: Task[..., Any]) -> None:
    """Take a header out of its chord, and end that: the phase is closed, so nobody needs the callback any more."""
    backend: Any = current_app.backend
    group = task.request.group
    task.request.chord = None
    try:
        backend.client.delete(*(backend.get_key_for_group(group, key) for key in _CHORD_KEYS))
    except RedisError as error:
        logger.debug("what Redis keeps of chord %s goes by itself in an hour: %s", group, error)


def _private(name: str) -> Queue:
    """Return the queue of one process, which goes when nobody has listened to it for an hour.

    Without an exchange of its own it would also get a copy of every message to the default queue.
    """
    return Queue(name, Exchange(name, auto_delete=True), routing_key=name, expires=PRIVATE_QUEUE_SECONDS)


def _introduce(names: Iterable[str]) -> None:
    """Let this process declare the queues of others as they did; RabbitMQ refuses any other way."""
    known = current_app.amqp.queues
    for name in names:
        if name.startswith(f"{BROWSER_QUEUE}.") and name not in known:
            known.add(_private(name))


def want_isolated_worker() -> None:
    """Leave a mark in the data directory: a node for the isolated worker is under way. ``./flow up`` looks for it."""
    try:
        settings.ISOLATED_MARK.touch()
    except OSError as error:
        logger.warning("the mark for the isolated worker was not written: %s", error)


# --------------------------------------------------------------------------- the worker process


_prefork_queues: list[str] = []


def prefork_queues() -> list[str]:
    """Return the queues of the prefork worker that this process belongs to; empty elsewhere."""
    return _prefork_queues


@signals.celeryd_after_setup.connect
def _prepare_worker(sender: str, instance: WorkController, **kwargs: object) -> None:
    """Make this process a worker with a lease and a queue of its own for the pages that it holds."""
    store.committer.patience_s = PATIENCE_SECONDS
    names = list(instance.app.amqp.queues.consume_from)
    if getattr(instance, "pool_cls", object).__module__ == "celery.concurrency.prefork":
        if BROWSER_QUEUE in names:
            raise SystemExit("the queue browser needs --pool=threads: one process keeps the pages")
        _prefork_queues[:] = names
        return  # every child is a worker of its own (executions.prefork)
    if ISOLATED_QUEUE in names:
        raise SystemExit("the queue isolated needs --pool=prefork: its nodes need processes with limits")
    worker = leases.start_worker(
        queues=",".join(names),
        slots=getattr(instance, "concurrency", None) or 0,
        on_cancel=runtime.cancel,
        kept=ending.kept,
        on_lost=runtime.abandon,
        each_second=admission.look_again,
        browser_use=runtime.browser_use,
        on_end=partial(ending.release, wait_s=0),
    )
    if BROWSER_QUEUE in names:
        instance.app.amqp.queues.select_add(_private(worker.queue))


@signals.task_prerun.connect
def _check_connection(**kwargs: object) -> None:
    """Drop this thread's database connection if it broke or is old; Celery keeps it whatever happened to it."""
    close_old_connections()


@signals.task_prerun.connect
def _name_execution(
    task: Task[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **more: object
) -> None:
    """Let what this thread logs be about the execution of the message."""
    logs.forget()
    if task.name in (start.name, advance.name, run_nodes.name):
        logs.about(execution_id=str(args[0] if args else (kwargs or {}).get("execution_id", "")))


@signals.task_postrun.connect
def _forget_execution(**kwargs: object) -> None:
    logs.forget()


@signals.worker_ready.connect
def _start_worker(**kwargs: object) -> None:
    if leases.current is not None:
        leases.current.start()


@signals.worker_shutdown.connect
def _stop_worker(**kwargs: object) -> None:
    try:
        runtime.shut_down()
    finally:
        if leases.current is not None:
            leases.current.stop()
