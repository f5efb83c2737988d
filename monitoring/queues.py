"""How much work waits for a worker, queue by queue."""

from __future__ import annotations

from typing import Final

from executions import broker
from executions.leases import PAGE_QUEUE
from executions.models import WorkerLease
from executions.opening import BROWSER_QUEUE, CONTROL_QUEUE, DEFAULT_QUEUE, ISOLATED_QUEUE

QUEUES: Final = (CONTROL_QUEUE, DEFAULT_QUEUE, BROWSER_QUEUE, ISOLATED_QUEUE)


def depths() -> dict[str, int]:
    """Return how many messages wait in each of ``QUEUES``; those for one worker's own pages count as ``browser``.

    Costs one query and a connection to the broker, some milliseconds.

    Raises:
        kombu.exceptions.OperationalError: the broker does not answer within two seconds.
    """
    of_pages = [f"{PAGE_QUEUE}{boot}" for boot in WorkerLease.objects.values_list("boot", flat=True)]
    waiting = broker.depths((*QUEUES, *of_pages))
    found = {queue: waiting[queue] for queue in QUEUES}
    found[BROWSER_QUEUE] += sum(waiting[queue] for queue in of_pages)
    return found
