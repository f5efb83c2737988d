"""A worker of processes: each child has its own lease, and children that run isolated nodes have limits.

The threads worker is one process with one lease (``tasks``). In a prefork worker the main process only hands
messages on; every child takes nodes, so every child has the liveness lock, the heartbeat and the connections of
its own. When a child dies its message comes back at once, and whoever gets it mends the execution first.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any
from uuid import UUID

from celery import signals
from django.conf import settings

from executions import confinement, ending, leases, reconcile, runtime
from executions.errors import NodeFailed
from executions.opening import ISOLATED_QUEUE
from executions.tasks import prefork_queues, want_isolated_worker

logger = logging.getLogger(__name__)


LOOK_SECONDS = 0.25
"""How often the main process looks for dead children. Celery is told of a death a moment before it can see it, and
then looks again after five seconds."""


@signals.worker_ready.connect
def _watch_children(sender: Any, **kwargs: object) -> None:
    if prefork_queues() and sender.hub is not None:
        # A child that died while Redis was away is replaced now: Celery, which looks next, would end the whole worker.
        sender.pool.maintain_pool()
        sender.hub.call_repeatedly(LOOK_SECONDS, sender.pool.maintain_pool)


@signals.worker_process_init.connect
def _begin_child(**kwargs: object) -> None:
    """Make this child a worker with a lease, after it was forked."""
    names = prefork_queues()
    isolated = ISOLATED_QUEUE in names
    worker = leases.start_worker(
        queues=",".join(names), slots=1, isolated=isolated,
        on_cancel=runtime.cancel, kept=ending.kept,
        on_lost=runtime.abandon, on_end=partial(ending.release, wait_s=0),
    )  # fmt: skip
    if isolated:
        confinement.confine(
            confinement.Limits(
                settings.ISOLATED_MEMORY_MB,
                settings.ISOLATED_CPU_SECONDS,
                # The database of SQLite is a file, and it grows.
                file_mb=None if settings.SQLITE else settings.ISOLATED_FILE_MB,
            ),
            _out_of_processor_time,
        )
    worker.start()
    if isolated:
        want_isolated_worker()  # it is there; from now on its idle time counts


@signals.worker_process_shutdown.connect
def _end_child(**kwargs: object) -> None:
    if leases.current is not None:
        leases.current.stop()


@signals.task_prerun.connect
def _before(task: Any, args: Any, **kwargs: object) -> None:
    """Mend the execution of a message that comes again because its process died; give the node its time."""
    if leases.current is None or not leases.current.isolated:
        return
    confinement.begin()
    if task.name == "executions.run_nodes" and task.request.delivery_info.get("redelivered"):
        reconcile.mend(UUID(args[0]))


@signals.task_postrun.connect
def _after(**kwargs: object) -> None:
    if leases.current is not None and leases.current.isolated:
        want_isolated_worker()


def _out_of_processor_time() -> None:
    runtime.stop_all(
        NodeFailed(
            f"used more than {settings.ISOLATED_CPU_SECONDS} s of processor time "
            "(FLOWBUILDER_ISOLATED_CPU_SECONDS), so it was stopped",
            code="resource",
            retryable=False,
        )
    )
