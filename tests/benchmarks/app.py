"""The worker application of the benchmarks: the product plus a node that does nothing and raw chords."""

from __future__ import annotations

from typing import Any

import redis
from celery import chord, shared_task
from django.conf import settings

from executions.nodes.base import Environment, NodeCall, NodeExecutor
from flowbuilder.celery import app
from workflows.registry import NodeDescription, register

__all__ = ["app"]
DONE_KEY = "bench:done"


@register
class NoOp(NodeExecutor):
    """Do nothing, so that only the engine is measured."""

    description = NodeDescription(type="bench_noop", label="No-op", group="Flow Control", credits=0, start=True)

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return no outputs."""
        return {}


@shared_task(name="bench.noop", ignore_result=False)
def noop() -> None:
    """Do nothing."""


@shared_task(name="bench.next_phase", ignore_result=False)
def next_phase(results: object, left: list[int]) -> None:
    """Send the chord of the next phase, or say that all are done."""
    if not left:
        client = redis.Redis.from_url(settings.REDIS_URL)
        client.rpush(DONE_KEY, 1)
        client.close()
        return
    chord([noop.s() for _ in range(left[0])])(next_phase.s(left[1:]))
