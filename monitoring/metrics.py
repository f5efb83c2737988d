"""What Prometheus reads, made from the database and Redis whenever it asks: the same from every process.

The number of queries does not depend on what there is, and no label has more values than ``counting.MAXIMUM_CODES``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import redis
from django.db.models import Count, Sum
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from executions import states, store
from executions.models import DeadLetter, Execution, WorkerLease
from monitoring import clients
from monitoring.health import BEAT_QUEUES, ISOLATED_QUEUES, LIVE_SECONDS
from monitoring.machines import fullest
from monitoring.models import Alert, AlertRule, Counter
from monitoring.tiles import known, of_installation
from recordings.models import Blob, Recording
from workflows import schedules

KNOWN_SECONDS: Final = 3.0
"""How long a process goes by what it found."""
STORED_SECONDS: Final = 300.0
"""The same for stored bytes, for which every recording is looked at."""
DURATIONS_S: Final = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Upper bounds of the histogram; each is one of ``history.BOUNDS_MS``."""
ENDED: Final = (states.COMPLETED, states.COMPLETED_WITH_ERRORS, states.FAILED, states.CANCELLED)

Values = Mapping[str, float]


def text(accept: str) -> tuple[bytes, str]:
    """Return all metrics in the format that ``accept`` (a header) asks for, and their content type.

    They are up to three seconds old, those of stored bytes five minutes. About ten queries and three questions to Redis.

    Raises:
        django.db.Error: the database does not answer. Without Redis only what it knows is missing.
    """
    encoder, content_type = choose_encoder(accept)
    return encoder(_Collector()), content_type


class _Collector:
    """Gives what was found lately; all that an encoder asks for."""

    def collect(self) -> list[Metric]:
        """Return every family."""
        return [
            *known.get(("metrics",), KNOWN_SECONDS, _find),
            *known.get(("metrics", "stored"), STORED_SECONDS, lambda: list(_of_stored())),
        ]


def _find() -> list[Metric]:
    installation = of_installation()
    return [
        *_of_executions(),
        *_of_processes(installation["slots"], installation["browsers"]),
        *_of_redis(installation["queues"]),
        *_of_troubles(),
    ]


def _of_executions() -> Iterator[Metric]:
    rows = Execution.objects.open().filter(parent=None).order_by().values_list("status")
    open_now: dict[str, int] = dict(rows.annotate(Count("pk")))
    yield _gauge(
        "executions", "Executions that have not ended.", "status", {**dict.fromkeys(states.OPEN, 0), **open_now}
    )
    counted: dict[str, dict[str, int]] = defaultdict(dict)
    for name, label, value in Counter.objects.values_list("name", "label", "value"):
        counted[name][label] = value
    ended = {**dict.fromkeys(ENDED, 0), **counted["ended"]}
    yield _counter("executions_ended", "Executions that ended.", "status", ended)
    yield _durations(counted["lasted"], counted["lasted_ms"].get("", 0))
    yield _counter("credits", "Credits that ended executions cost.", "", {"": counted["credits"].get("", 0)})
    yield _counter("node_errors", "Nodes that failed for good.", "code", counted["node_errors"])


def _durations(counted: Mapping[str, int], sum_ms: int) -> Metric:
    by_bound = {int(bound): count for bound, count in counted.items()}
    buckets = [
        (f"{float(bound)}", float(sum(count for upper, count in by_bound.items() if upper <= bound * 1000)))
        for bound in DURATIONS_S
    ]
    buckets.append(("+Inf", float(sum(by_bound.values()))))
    return HistogramMetricFamily(
        "flowbuilder_execution_duration_seconds",
        "Time from queued to ended of executions that ended.",
        buckets=buckets,
        sum_value=sum_ms / 1000,
    )


def _of_processes(slots: Values, browsers: Values) -> Iterator[Metric]:
    now = store.database_now_us()
    leases = list(WorkerLease.objects.values_list("queues", "beat_at"))
    live = [lease for lease in leases if lease[1] >= now - LIVE_SECONDS * 1_000_000]
    kinds = dict.fromkeys(("worker", "isolated", "beat"), 0)
    for names, _ in live:
        kinds[_kind(names)] += 1
    oldest = max((now - beat_at for _, beat_at in live), default=0)
    yield _gauge("workers", "Processes that gave a sign of life within 20 seconds.", "kind", kinds)
    yield _gauge(
        "workers_silent",
        "Processes that left their lease behind and give no sign of life.",
        "",
        {"": len(leases) - len(live)},
    )
    yield _gauge(
        "worker_lease_age_seconds",
        "Time since the oldest last sign of life of a living process.",
        "",
        {"": oldest / 1e6},
    )
    yield _gauge("worker_slots", "Tasks that living workers can run at the same time.", "", {"": slots["total"]})
    yield _gauge("worker_slots_busy", "Tasks that they run.", "", {"": slots["busy"]})
    yield _gauge("browser_slots", "Browser pages that living workers can hold.", "", {"": browsers["limit"]})
    yield _gauge("browser_slots_busy", "Browser pages that they hold.", "", {"": browsers["open"]})
    for name, one in fullest().items():
        yield _gauge(
            f"{name}_used_ratio", f"The {name} in use where most of it is, of the machines of workers and beat; 1 is all.",
            "", {"": one.percent / 100},
        )  # fmt: skip
    due = schedules.next_instant()
    yield _gauge(
        "schedule_lag_seconds", "Since when the oldest due schedule waits; 0 when none does.", "", {"": _late(due, now)}
    )


def _kind(names: str) -> str:
    return {BEAT_QUEUES: "beat", ISOLATED_QUEUES: "isolated"}.get(names, "worker")


def _late(due: datetime | None, now: int) -> float:
    return 0.0 if due is None else max(0.0, now / 1e6 - due.timestamp())


def _of_redis(depths: Values) -> Iterator[Metric]:
    """Give what the broker and Redis know, and whether Redis answered."""
    if depths:
        yield _gauge("queue_messages", "Messages that wait for a worker.", "queue", depths)
    answers = True
    try:
        yield _gauge("socket_clients", "Open sockets of all web processes.", "", {"": clients.total()})
    except (redis.RedisError, OSError):
        answers = False
    yield _gauge(
        "redis_up", "Whether Redis answered; without it queues and sockets are missing here.", "", {"": answers}
    )


def _of_troubles() -> Iterator[Metric]:
    letters = DeadLetter.objects.filter(status=DeadLetter.OPEN).count()
    yield _gauge("dead_letters", "Dead letters that wait for a person.", "", {"": letters})
    firing = Alert.objects.filter(status=Alert.Status.FIRING).order_by().values_list("severity")
    severities = dict.fromkeys(AlertRule.Severity.values, 0)
    yield _gauge("alerts_firing", "Alerts that fire.", "severity", {**severities, **dict(firing.annotate(Count("pk")))})


def _of_stored() -> Iterator[Metric]:
    recordings = Recording.objects.aggregate(count=Count("pk"), size=Sum("file_size_bytes"))
    blobs = Blob.objects.aggregate(size=Sum("size_bytes"))
    yield _gauge("recordings", "Recordings that are kept.", "", {"": recordings["count"]})
    yield _gauge("recording_bytes", "Size of their sealed files.", "", {"": recordings["size"] or 0})
    yield _gauge(
        "blob_bytes",
        "Size of all stored files: sealed recordings, screenshots and large values.",
        "",
        {"": blobs["size"] or 0},
    )


def _gauge(name: str, says: str, label: str, values: Values) -> Metric:
    return _filled(GaugeMetricFamily(f"flowbuilder_{name}", says, labels=_labels(label)), label, values)


def _counter(name: str, says: str, label: str, values: Values) -> Metric:
    return _filled(CounterMetricFamily(f"flowbuilder_{name}", says, labels=_labels(label)), label, values)


def _labels(label: str) -> list[str]:
    return [label] if label else []


def _filled(family: Any, label: str, values: Values) -> Metric:
    for text, value in values.items():
        family.add_metric([text] if label else [], float(value))
    metric: Metric = family
    return metric
