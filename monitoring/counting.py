"""Adds every execution that ended to the totals of its minute, once, however often processes die.

The totals and how far they go are written in one transaction, under the lock of the one row that says so. Executions are
taken in the order of ``touched_at``, the moment of the database at which they ended; what ended is counted only when no
transaction that began before is still open, so that nothing comes to light behind the place that was reached.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, F, QuerySet, Sum

from executions import states, store
from executions.failpoints import failpoint
from executions.models import Execution, NodeRun
from monitoring.history import BEYOND_MS, BOUNDS_MS
from monitoring.models import Counted, Counter, NodeErrors, Total

logger = logging.getLogger(__name__)

BATCH: Final = 500
"""Executions counted in one transaction: some 10 ms, for which SQLite lets nobody else write."""
SECONDS: Final = 0.2
"""How long one call goes on with batches."""
LAG_US: Final = 1_000_000
"""What ended later than this before now is left for the next time."""
LONGEST_TRANSACTION_US: Final = 60_000_000
"""Open transactions that are older are not waited for: those of the engine are cut off after a lease."""
FIRST_DAYS: Final = 8
"""How far back the very first counting goes."""
MINUTE_DAYS: Final = 8
"""How long totals are kept by the minute, after that by the hour."""
HOUR_DAYS: Final = 400
MAXIMUM_CODES: Final = 200
"""Error codes that are told apart; programs can make up as many as they like."""
OTHER_CODE: Final = "other"

KEYS: Final[dict[type[Total] | type[NodeErrors], tuple[str, ...]]] = {
    Total: ("workflow_id", "owner_id", "status", "up_to_ms"),
    NodeErrors: ("workflow_id", "owner_id", "code"),
}
"""What one row is about, besides its minute."""

_MINUTE_US = 60_000_000
_DAY_MINUTES = 24 * 60
_CLOCK_WENT_BACK_US = 5_000_000

_FIELDS = (
    "touched_at", "id", "workflow_id", "owner_id", "status", "parent_id", "credits", "queued_at", "finished_at",
)  # fmt: skip


def count_ended() -> int:
    """Count what ended since the last time, for up to ``SECONDS``; return how many executions. Three queries when none did."""
    counted, deadline = 0, time.monotonic() + SECONDS
    while _anything_new() and time.monotonic() < deadline:
        batch = _count_batch()
        counted += batch
        if batch < BATCH:
            break
    return counted


def _anything_new() -> bool:
    place = Counted.objects.first()
    return place is None or place.touched_at > store.now_us() or any(rows.exists() for rows in _after(place))


def _count_batch() -> int:
    with transaction.atomic():
        place = _locked_place()
        if place is None:
            return 0
        now, until = _horizon()
        if place.touched_at > now + _CLOCK_WENT_BACK_US:
            _begin_again(place, now)
        rows: list[Any] = []
        for following in _after(place):
            rows += following.filter(touched_at__lt=until).values_list(*_FIELDS)[: BATCH - len(rows)]
        if rows:
            _add(rows)
            place.touched_at, place.execution_id = rows[-1][0], rows[-1][1]
            place.save()
            failpoint("counting")
    return len(rows)


def _after(place: Counted) -> tuple[QuerySet[Execution], QuerySet[Execution]]:
    """Return what ended in the moment of ``place`` and was not counted, and what ended later, both in order.

    They are two ranges of the index ``execution_counted``; one condition for both would read the first from its start.
    """
    ends = Execution.objects.filter(finished_at__isnull=False).order_by("touched_at", "id")
    return (
        ends.filter(touched_at=place.touched_at, id__gt=place.execution_id),
        ends.filter(touched_at__gt=place.touched_at),
    )


def _locked_place() -> Counted | None:
    """Return the row that says how far the counting has come, locked; None when another process is at it."""
    locked = Counted.objects.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)
    place = locked.filter(pk=Counted.ONLY).first()
    if place is not None or Counted.objects.exists():
        return place
    start = store.database_now_us() - FIRST_DAYS * _DAY_MINUTES * _MINUTE_US
    Counted.objects.bulk_create([Counted(touched_at=start)], ignore_conflicts=True)
    return locked.filter(pk=Counted.ONLY).first()


def _horizon() -> tuple[int, int]:
    """Return the time of the database, and the moment before which nothing can come to light any more.

    On SQLite our own transaction is the only one that writes. On PostgreSQL an open one that has written
    may hold ends that are as old as itself.
    """
    now = store.database_now_us()
    oldest = now
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT (extract(epoch FROM min(xact_start)) * 1000000)::bigint FROM pg_stat_activity"
                " WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
            )
            oldest = max(cursor.fetchone()[0] or now, now - LONGEST_TRANSACTION_US)
    return now, min(oldest, now) - LAG_US


def _begin_again(place: Counted, now: int) -> None:
    """Count the minutes from ``now`` on anew when they come: the clock of the database went back behind them.

    One minute more, because the clock may have gone back before that of ``now`` began.
    """
    minute = now // _MINUTE_US - 1
    logger.warning("the database's clock went back by %.0f s; totals follow", (place.touched_at - now) / 1_000_000)
    Total.objects.filter(minute__gte=minute).delete()
    NodeErrors.objects.filter(minute__gte=minute).delete()
    place.touched_at, place.execution_id = minute * _MINUTE_US, UUID(int=0)
    place.save()


# --------------------------------------------------------------------------- adding up


@dataclass(slots=True)
class _Sum:
    runs: int = 0
    children: int = 0
    credits: int = 0
    duration_ms: int = 0


@dataclass(slots=True)
class _Sums:
    """What a batch adds to each table, by the key of the row."""

    totals: dict[tuple[int, UUID, int, str, int], _Sum] = field(default_factory=lambda: defaultdict(_Sum))
    errors: dict[tuple[int, UUID, int, str], int] = field(default_factory=lambda: defaultdict(int))
    counters: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))


def _add(rows: Sequence[Any]) -> None:
    sums = _Sums()
    for row in rows:
        _add_execution(sums, *row)
    _add_errors(sums, rows)
    with store.statements() as tx:
        _write(tx, Total, ("minute", *KEYS[Total]), [
            ((minute, tx.id(workflow), *rest), (one.runs, one.children, one.credits, one.duration_ms))
            for (minute, workflow, *rest), one in sums.totals.items()
        ])  # fmt: skip
        _write(tx, NodeErrors, ("minute", *KEYS[NodeErrors]), [
            ((minute, tx.id(workflow), *rest), (count,)) for (minute, workflow, *rest), count in sums.errors.items()
        ])  # fmt: skip
        _write(tx, Counter, ("name", "label"), [(key, (value,)) for key, value in sums.counters.items()])


def _add_execution(
    sums: _Sums, touched_at: int, _id: UUID, workflow: UUID, owner: int, status: str, parent: UUID | None, credits: int,
    queued_at: datetime, finished_at: datetime,
) -> None:  # fmt: skip
    minute, up_to, counters = touched_at // _MINUTE_US, 0, sums.counters
    if parent is None:
        duration = max(0, round((finished_at - queued_at).total_seconds() * 1000))
        up_to = bound_of(duration)
        counters["ended", status] += 1
        counters["lasted", str(up_to)] += 1
        counters["lasted_ms", ""] += duration
    one = sums.totals[minute, workflow, owner, status, up_to]
    one.credits += credits
    counters["credits", ""] += credits
    if parent is None:
        one.runs += 1
        one.duration_ms += duration
    else:
        one.children += 1


def bound_of(duration_ms: int) -> int:
    """Return the least of ``BOUNDS_MS`` that is not below ``duration_ms``."""
    place = bisect_left(BOUNDS_MS, duration_ms)
    return BOUNDS_MS[place] if place < len(BOUNDS_MS) else BEYOND_MS


def _add_errors(sums: _Sums, rows: Iterable[Any]) -> None:
    """Count the nodes that failed; one query. An execution that completed has none."""
    found = {row[1]: (row[0] // _MINUTE_US, row[2], row[3]) for row in rows if row[4] != states.COMPLETED}
    failed = (
        NodeRun.objects.filter(execution__in=list(found), status=states.FAILED)
        .order_by()
        .values_list("execution_id", "error_code")
        .annotate(count=Count("id"))
    )
    known = set(Counter.objects.filter(name="node_errors").values_list("label", flat=True)) if found else set()
    for execution_id, code, count in failed:
        label = code or OTHER_CODE
        if label not in known and len(known) >= MAXIMUM_CODES:
            label = OTHER_CODE
        known.add(label)
        sums.errors[*found[execution_id], label] += count
        sums.counters["node_errors", label] += count


def _write(tx: store.Transaction, model: Any, key: Sequence[str], rows: list[tuple[Any, Any]]) -> None:
    """Add to the rows of ``model`` that have one of the keys, or insert them."""
    table = model._meta.db_table
    columns = [name for name in _columns(model) if name not in key]
    tx.many(
        f"INSERT INTO {table}({','.join((*key, *columns))}) VALUES({store.marks((*key, *columns))})"
        f" ON CONFLICT({','.join(key)}) DO UPDATE SET "
        + ", ".join(f"{name}={table}.{name}+excluded.{name}" for name in columns),
        [(*keys, *values) for keys, values in rows],
    )


def _columns(model: Any) -> list[str]:
    return [column.name for column in model._meta.concrete_fields if column.name != "id"]


# --------------------------------------------------------------------------- thinning


def thin(now: int | None = None) -> int:
    """Add up old minutes by the hour and remove what is older than ``HOUR_DAYS``; return how many rows went.

    ``now`` is in microseconds. Each hour is one transaction, so that nobody waits long.
    """
    minute = (store.database_now_us() if now is None else now) // _MINUTE_US
    before = (minute - MINUTE_DAYS * _DAY_MINUTES) // 60 * 60
    removed = 0
    for model, key in KEYS.items():
        rows: QuerySet[Any] = model.objects.all()
        removed += rows.filter(minute__lt=minute - HOUR_DAYS * _DAY_MINUTES).delete()[0]
        old = rows.filter(minute__lt=before).annotate(past_hour=F("minute") % 60).exclude(past_hour=0)
        for hour in sorted({found // 60 * 60 for found in old.values_list("minute", flat=True).distinct()}):
            removed += _add_up_hour(rows.filter(minute__gte=hour, minute__lt=hour + 60), key, hour)
    return removed


@transaction.atomic
def _add_up_hour(rows: QuerySet[Any], key: Sequence[str], hour: int) -> int:
    sums = [name for name in _columns(rows.model) if name not in (*key, "minute")]
    added = rows.order_by().values_list(*key).annotate(*(Sum(name) for name in sums))
    hours = [rows.model(minute=hour, **dict(zip((*key, *sums), row, strict=True))) for row in added]
    removed = rows.delete()[0]
    rows.bulk_create(hours)
    return removed - len(hours)
