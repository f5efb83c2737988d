"""End a worker process in good order: take nothing new, let what runs end, hand over what does not end in time.

SIGTERM or Ctrl-C begins it, and ends periodic work on recordings after the piece that it is at. After
``FLOWBUILDER_DRAIN_SECONDS``, or at once on a second signal or on SIGQUIT, the nodes that still run are
stopped and given to another worker; this does not count as a crash. Then Celery's own shutdown follows, which has nothing left to wait for.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

from celery import signals
from celery.worker import state
from celery.worker.consumer import Consumer
from django.conf import settings
from django.db import connection

from executions import leases, reconcile, recovery, runtime, states, tasks
from executions.leases import WorkerProcess
from executions.models import BrowserSession, NodeRun
from recordings import patience

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
RELEASE_SECONDS = 3.0
"""How long nodes may take to stop before they are given away all the same."""
LOOK_SECONDS = 0.05
REASON = "its worker was stopped"


def _wake_up() -> None:
    """Do nothing, in Celery's loop, so that it looks at what it was told."""


class Drain:
    """The end of one worker process; its thread sleeps until the first signal."""

    def __init__(self, worker: WorkerProcess, consumer: Consumer) -> None:
        self._worker, self._consumer = worker, consumer
        # A signal may interrupt the handler of another one, and then only a queue without a lock does not wait for itself.
        self._signals: SimpleQueue[int] = SimpleQueue()
        self._done = False
        self._then: Any = signal.getsignal(signal.SIGTERM)
        threading.Thread(target=self._run, name="drain", daemon=True).start()
        for number in SIGNALS:
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: Any) -> None:
        if self._done:
            self._then(number, frame)
        else:
            self._signals.put(number)

    def _run(self) -> None:
        first = self._signals.get()
        try:
            self._drain(hurry=first == signal.SIGQUIT)
        except Exception:
            logger.exception("this worker ends without giving away what it runs; the scheduler does that")
        finally:
            connection.close()
            self._done = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            self._consumer.call_soon(_wake_up)

    def _drain(self, *, hurry: bool) -> None:
        logger.info("this worker finishes what it runs and takes nothing new")
        until = time.monotonic() + settings.DRAIN_SECONDS
        self._worker.draining = True
        patience.end()
        for name in list(self._consumer.app.amqp.queues.consume_from):
            if name != self._worker.queue:
                self._consumer.call_soon(self._consumer.cancel_task_queue, name)
        while not self._is_idle() and time.monotonic() < until and not hurry:
            with suppress(Empty):
                hurry = bool(self._signals.get(timeout=LOOK_SECONDS))
        if not self._is_idle():
            logger.warning("this worker gives away what it still runs")
            hand_over(self._worker)

    def _is_idle(self) -> bool:
        return not state.reserved_requests and not self._worker.holds_work and not runtime.sessions()


def hand_over(worker: WorkerProcess) -> int:
    """Stop the nodes of this process and give them to others; return how many rows were given away.

    Pages cannot move: the nodes that need one fail with the reason, unless they were the first on it.
    """
    runtime.release_all()
    worker.wait_until_free(RELEASE_SECONDS)
    held = NodeRun.objects.filter(worker=worker.boot, status__in=(states.RUNNING, states.RETRYING)).exclude(claim="")
    rows = list(held.values_list("execution_id", "phase_index", "node_index", "claim", "session"))
    for row in rows:
        try:
            _give_away(worker, *row)
        except Exception:
            logger.exception("a node of execution %s was not given away; the scheduler does that", row[0])
    for page in BrowserSession.objects.held(worker.boot).filter(execution_id__in=runtime.sessions()):
        reconcile.lose_session(page, REASON)
    return len(rows)


def _give_away(worker: WorkerProcess, execution_id: UUID, phase: int, index: int, claim: str, session: str) -> None:
    if session and reconcile.loses_page(execution_id, worker.boot, claim):
        reconcile.fail_without_session(execution_id, phase, [index], claim, REASON)
    elif session:
        tasks.publish(recovery.reopen(execution_id, phase, claim, worker.boot, REASON, counts=False))
    else:
        tasks.publish(recovery.requeue(execution_id, phase, [index], [claim], REASON, counts=False))


@signals.worker_ready.connect
def _prepare(sender: Consumer, **kwargs: object) -> None:
    """Replace Celery's answer to signals once this worker is ready; in the main thread, as signals need it."""
    if leases.current is not None:
        Drain(leases.current, sender)
