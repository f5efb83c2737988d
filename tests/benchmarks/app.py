"""The worker application of the benchmarks: the product plus nodes that do nothing, raw chords, and counters."""

from __future__ import annotations

from typing import Any

import django
import redis
from celery import chord, shared_task, signals
from django.conf import settings

from flowbuilder.celery import app

django.setup()  # what follows needs the models, and Celery imports this module first

from executions import ending, steps, store  # noqa: E402
from executions.nodes.base import Environment, NodeCall, NodeExecutor  # noqa: E402
from tests.benchmarks import counting  # noqa: E402
from workflows.registry import NodeDescription, Weight, register  # noqa: E402

__all__ = ["app"]
DONE_KEY = "bench:done"
CALLS_KEY = "bench:calls"


def _description(node_type: str, weight: Weight) -> NodeDescription:
    return NodeDescription(type=node_type, label="No-op", group="Flow Control", credits=0, start=True, weight=weight)


@register
class NoOp(NodeExecutor):
    """Do nothing, so that only the engine is measured."""

    description = _description("bench_noop", "light")

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return no outputs."""
        return {}


@register
class IoNoOp(NoOp):
    """Do nothing, but fill headers like a node that waits for a server: eight each."""

    description = _description("bench_io", "io")


@register
class BlockingNoOp(NoOp):
    """Do nothing in a header of its own."""

    description = _description("bench_blocking", "blocking")


@shared_task(name="bench.noop", ignore_result=False)
def noop() -> None:
    """Do nothing."""


@shared_task(name="bench.next_phase", ignore_result=False)
def next_phase(results: object, left: list[int]) -> None:
    """Send the chord of the next phase, or say that all are done."""
    if not left:
        say_done()
        return
    chord([noop.s() for _ in range(left[0])])(next_phase.s(left[1:]))


@shared_task(name="bench.report_calls")
def report_calls() -> None:
    """Say how many calls to the database this worker has made."""
    _client().rpush(CALLS_KEY, counting.calls())


@shared_task(name="bench.write_events")
def write_events(wanted: bool) -> None:
    """Let this worker write event rows, or none; only a benchmark can do without."""
    store.insert_events, steps._events = (_INSERT, _EVENTS) if wanted else (lambda *_: None, lambda *_: "[]")
    say_done()


_INSERT, _EVENTS = store.insert_events, steps._events


def say_done() -> None:
    """Tell the client that an execution, or a chain of raw chords, has ended."""
    _client().rpush(DONE_KEY, 1)


def _client() -> redis.Redis:
    global _redis
    if _redis is None:
        _redis = redis.Redis.from_url(settings.REDIS_URL)
    return _redis


_redis: redis.Redis | None = None


@signals.celeryd_after_setup.connect
def _watch(**kwargs: object) -> None:
    """Count in the worker, and say when an execution's last transaction was committed, as the raw chords do."""
    counting.install()
    ending.AFTER_END.append(lambda context: say_done())
