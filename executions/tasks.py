"""Celery's door: fetch by id, call the engine, send the messages that it answers with."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from celery import chord, current_app, shared_task, signals
from celery.worker import WorkController
from django.conf import settings
from django.db import close_old_connections
from kombu import Exchange, Queue

from executions import admission, confinement, ending, engine, leases, runtime, store
from executions.failpoints import failpoint
from executions.opening import BROWSER_QUEUE, CONTROL_QUEUE, ISOLATED_QUEUE, Dispatch

logger = logging.getLogger(__name__)

PRIVATE_QUEUE_SECONDS = 3600
ending.AFTER_END.append(admission.ended)

PATIENCE_SECONDS = 60.0
"""How long a worker waits for a row of its execution that somebody else holds, before it gives up the work."""


@shared_task(name="executions.start")
def start(execution_id: str, workflow_id: str, user_id: str, trigger: str, status: str, queued_at: str) -> None:
    """Begin a queued execution. The message carries what a consumer of the queue may want to know; we need the id."""
    admission.began()
    _go_on(engine.advance(UUID(execution_id), 0))


@shared_task(name="executions.advance")
def advance(execution_id: str, phase: int) -> None:
    """Open ``phase`` once the one before it is closed: the body of every phase's chord."""
    _go_on(engine.advance(UUID(execution_id), phase))


@shared_task(name="executions.run_nodes")
def run_nodes(execution_id: str, phase: int, node_indexes: Sequence[int]) -> None:
    """Run nodes of one phase: a header of its chord. Never raises for a node that fails."""
    try:
        _go_on(engine.take(UUID(execution_id), phase, list(node_indexes)))
    except MemoryError:
        if confinement.limits() is None:
            raise
        # Celery's main process would end, too. This child dies instead, and its message comes back.
        raise SystemExit("out of memory outside of the node") from None


def _go_on(dispatch: Dispatch | None) -> None:
    """Go on here, for a while, with the one child that a node waits for or the node that a child woke; send the rest."""
    stays = leases.current is None or not leases.current.isolated
    until = time.monotonic() + engine.LOCAL_SECONDS if stays else 0.0
    while dispatch is not None and time.monotonic() < until:
        if dispatch.starts and not dispatch.headers:
            publish(replace(dispatch, starts=dispatch.starts[1:]))
            dispatch = engine.advance(dispatch.starts[0], 0)
        elif dispatch.wakes and not dispatch.starts:
            ((indexes, _),) = dispatch.headers
            dispatch = engine.take(dispatch.execution_id, dispatch.phase, list(indexes))
        else:
            break
    publish(dispatch)


def publish(dispatch: Dispatch | None) -> None:
    """Send the headers of a phase (one message, or a chord whose body opens the next phase) and starts of children."""
    if dispatch is None:
        return
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
    headers = [
        run_nodes.si(execution_id, dispatch.phase, list(indexes)).set(queue=queue, priority=priority)
        for indexes, queue in dispatch.headers
    ]
    if len(headers) == 1:
        headers[0].apply_async()
        return
    failpoint("before-publish-headers")
    body = advance.si(execution_id, dispatch.phase + 1).set(queue=CONTROL_QUEUE, priority=priority)
    chord(headers)(body)


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
        kept=runtime.kept,
        on_end=partial(ending.release, wait=False),
    )
    if BROWSER_QUEUE in names:
        instance.app.amqp.queues.select_add(_private(worker.queue))


@signals.task_prerun.connect
def _check_connection(**kwargs: object) -> None:
    """Drop this thread's database connection if it broke or is old; Celery keeps it whatever happened to it."""
    close_old_connections()


@signals.worker_ready.connect
def _start_worker(**kwargs: object) -> None:
    if leases.current is not None:
        leases.current.start()


@signals.worker_shutting_down.connect
def _announce_shutdown(**kwargs: object) -> None:
    logger.info("this worker finishes what it runs and takes nothing new")


@signals.worker_shutdown.connect
def _stop_worker(**kwargs: object) -> None:
    try:
        runtime.shut_down()
    finally:
        if leases.current is not None:
            leases.current.stop()
