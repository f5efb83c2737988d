"""What a rule would have done last week, from what is known about it, minute by minute."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final

from django.db.models import F, Q

from executions import store
from executions.models import DeadLetter, Execution, LostWorker
from monitoring import history
from monitoring.alerts import gauges
from monitoring.alerts.errors import AlertRefused
from monitoring.alerts.gauges import minute_of
from monitoring.alerts.measures import (
    Reading,
    backlog_reading,
    cost_reading,
    failure_reading,
    lag_reading,
    letters_of,
    letters_reading,
    of_rule,
    resource_reading,
    workers_reading,
)
from monitoring.alerts.rules import may_watch
from monitoring.models import AlertRule, Gauge
from workflows.kinds import Problem

Kind = AlertRule.Kind
SHOWN: Final = 100
"""How many firings are described; the others are counted."""
LONGEST_DAYS: Final = 7
MOST_ROWS: Final = 50_000
"""How many late runs or letters are looked at, the newest."""


@dataclass(frozen=True, slots=True)
class Firing:
    """A time for which the rule would have fired. ``ended_at`` is None where it still would.

    ``worst`` is the highest value, and ``message`` what was said of it; ``key`` names the thing, as in an alert.
    """

    key: str
    began_at: datetime
    ended_at: datetime | None
    worst: float
    message: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What a rule would have done from ``since`` to ``until``.

    ``firings`` are the newest ``SHOWN`` of ``count``, the newest first. ``highest`` is the highest value of all, also
    where it would not have fired, None when nothing is known. ``known_since`` is since when there are numbers.
    """

    since: datetime
    until: datetime
    firings: tuple[Firing, ...]
    count: int
    highest: float | None
    known_since: datetime | None


@dataclass(frozen=True, slots=True)
class _Series:
    """A value for each minute, None where it is not known, and what to say of one."""

    values: Sequence[float | None]
    say: Callable[[int], Reading]


@dataclass(frozen=True, slots=True)
class _Span:
    """The minutes that are looked at: from ``first``, of which the window reaches back ``window``, up to ``last``."""

    first: int
    last: int
    window: int

    @property
    def start(self) -> int:
        """Return the first minute that counts for the first value."""
        return self.first - self.window + 1

    def __len__(self) -> int:
        return self.last - self.first + 1

    def sums(self, found: dict[int, int]) -> list[int]:
        """Return for each minute what was found within the window that ends with it."""
        total = list(accumulate((found.get(minute, 0) for minute in range(self.start, self.last + 1)), initial=0))
        return [total[place + self.window] - total[place] for place in range(len(self))]

    def highest(self, found: dict[int, float]) -> list[float]:
        """Return for each minute the highest of what was found within the window that ends with it."""
        best: deque[tuple[int, float]] = deque()
        highest = []
        for minute in range(self.start, self.last + 1):
            value = found.get(minute, 0.0)
            while best and best[-1][1] <= value:
                best.pop()
            best.append((minute, value))
            while best[0][0] <= minute - self.window:
                best.popleft()
            if minute >= self.first:
                highest.append(best[0][1])
        return highest


def rule_test(rule: AlertRule, days: int = LONGEST_DAYS, *, now: datetime | None = None) -> Trial:
    """Return what ``rule``, stored or not, would have done in the last ``days`` (7 at most) before ``now``.

    Nothing is written. Values are looked at once a minute. A few queries; takes less than two seconds for 100 busy
    workflows.

    Raises:
        AlertRefused: its owner may not see what it is about.
    """
    if not may_watch(rule):
        hidden = Problem(
            "", "is about what its owner may not see any more; delete it, or make one about their workflows"
        )
        raise AlertRefused(f'rule "{rule.name}"', [hidden])
    now = now or store.us_to_datetime(store.database_now_us())
    last = minute_of(now)
    window = max(1, rule.window_s // 60)
    span = _Span(last - min(days, LONGEST_DAYS) * 24 * 60 + 1, last, window)
    firings: list[Firing] = []
    values: list[float] = []
    known: list[int] = []
    for key, series in _SERIES[rule.kind](rule, span).items():
        if rule.subject and key != rule.subject:
            continue
        firings += _firings(rule, span, key, series)
        there = [place for place, value in enumerate(series.values) if value is not None]
        known += there[:1]
        values += [value for value in series.values if value is not None]
    firings.sort(key=lambda firing: (firing.began_at, firing.key), reverse=True)
    return Trial(
        since=_moment(span.first),
        until=now,
        firings=tuple(firings[:SHOWN]),
        count=len(firings),
        highest=max(values, default=None),
        known_since=_moment(span.first + min(known)) if known else None,
    )


def _firings(rule: AlertRule, span: _Span, key: str, series: _Series) -> list[Firing]:
    """Return when the values of ``series`` were too much for as long as ``rule`` asks, the oldest first."""
    lasting = -(-rule.for_s // 60)
    found = []
    began: int | None = None
    for place, value in enumerate([*series.values, 0.0]):
        if value is not None and value >= rule.threshold:
            began = place if began is None else began
        elif value is not None and began is not None:
            if place - began > lasting:
                found.append(_firing(span, key, series, began, began + lasting, place))
            began = None
    return found


def _firing(span: _Span, key: str, series: _Series, began: int, raised: int, ended: int) -> Firing:
    worst = max(range(began, ended), key=lambda place: series.values[place] or 0.0)
    reading = series.say(worst)
    over = None if ended == len(span) else _moment(span.first + ended)
    return Firing(key, _moment(span.first + raised), over, reading.value, reading.message)


def _moment(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


# ---------------------------------------------------------------------- what is known of each kind


def _ended(rule: AlertRule, span: _Span) -> list[history.Minute]:
    owner = None if rule.everyone or rule.workflow_id is not None else rule.owner_id
    return history.minutes(_moment(span.start), _moment(span.last + 1), owner=owner, workflow=rule.workflow_id)


def _failures(rule: AlertRule, span: _Span) -> dict[str, _Series]:
    minutes = _ended(rule, span)
    failed = span.sums({minute_of(one.at): one.failed for one in minutes})
    completed = span.sums({minute_of(one.at): one.completed for one in minutes})

    def say(place: int) -> Reading:
        return failure_reading(history.Sums(failed=failed[place], completed=completed[place]), rule)

    return {"": _Series([say(place).value for place in range(len(span))], say)}


def _cost(rule: AlertRule, span: _Span) -> dict[str, _Series]:
    spent = span.sums({minute_of(one.at): one.credits for one in _ended(rule, span)})
    return {"": _Series(spent, lambda place: cost_reading(spent[place], rule.window_s))}


def _lag(rule: AlertRule, span: _Span) -> dict[str, _Series]:
    """Look at runs that began too late, or have not begun: others make no difference."""
    threshold = timedelta(seconds=min(rule.threshold, 10**8))
    late = Q(started_at__gte=F("scheduled_for") + threshold) | Q(started_at=None, finished_at=None)
    planned = Execution.objects.filter(late, scheduled_for__isnull=False, queued_at__gte=_moment(span.start))
    rows = of_rule(planned, rule).order_by("-queued_at").values_list("scheduled_for", "queued_at", "started_at")
    began: dict[int, float] = defaultdict(float)
    waiting: dict[int, float] = {}
    filled = span.first - 1
    for scheduled_for, queued_at, started_at in sorted(rows[:MOST_ROWS]):  # who is planned for longest waits longest
        if started_at is not None:
            minute = minute_of(queued_at)
            began[minute] = max(began[minute], (started_at - scheduled_for).total_seconds())
        end = min(span.last, span.last if started_at is None else minute_of(started_at))
        for minute in range(max(filled + 1, minute_of(scheduled_for)), end + 1):
            waiting[minute] = minute * 60 - scheduled_for.timestamp()
        filled = max(filled, end)
    values = [max(value, waiting.get(span.first + place, 0.0)) for place, value in enumerate(span.highest(began))]
    return {"": _Series(values, lambda place: lag_reading(values[place]))}


def _letters(rule: AlertRule, span: _Span) -> dict[str, _Series]:
    open_then = Q(status=DeadLetter.OPEN) | Q(handled_at__gte=_moment(span.first))
    rows = letters_of(rule).filter(open_then).order_by("-first_failed_at").values_list("first_failed_at", "handled_at")
    change: dict[int, int] = defaultdict(int)
    for kept_at, handled_at in rows[:MOST_ROWS]:
        change[max(span.first, minute_of(kept_at))] += 1
        if handled_at is not None:
            change[max(span.first, minute_of(handled_at))] -= 1
    counts = list(accumulate(change.get(minute, 0) for minute in range(span.first, span.last + 1)))
    return {"": _Series(counts, lambda place: letters_reading(counts[place]))}


def _workers(rule: AlertRule, span: _Span) -> dict[str, _Series]:
    rows = LostWorker.objects.filter(lost_at__gte=span.start * 60_000_000).order_by("-lost_at")
    lost: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for lost_at, hostname, pid in rows.values_list("lost_at", "hostname", "pid")[:MOST_ROWS]:
        lost[lost_at // 60_000_000].append((hostname, pid))

    def say(place: int) -> Reading:
        until = span.first + place
        minutes = range(until, until - span.window, -1)
        return workers_reading([name for minute in minutes for name in lost.get(minute, ())], rule.window_s)

    return {"": _Series(span.sums({minute: len(names) for minute, names in lost.items()}), say)}


def _backlog(rule: AlertRule, span: _Span) -> dict[str, _Series]:
    return _noted(span, Q(name__startswith=gauges.QUEUE), backlog_reading)


def _resources(rule: AlertRule, span: _Span) -> dict[str, _Series]:
    return _noted(span, ~Q(name__startswith=gauges.QUEUE), resource_reading)


def _noted(span: _Span, which: Q, say: Callable[[str, float], Reading]) -> dict[str, _Series]:
    rows = Gauge.objects.filter(which, minute__gte=span.first, minute__lte=span.last)
    found: dict[str, list[float | None]] = {}
    for minute, name, value in rows.values_list("minute", "name", "value"):
        found.setdefault(name.removeprefix(gauges.QUEUE), [None] * len(span))[minute - span.first] = value
    return {name: _Series(values, _sayer(name, values, say)) for name, values in found.items()}


def _sayer(name: str, values: Sequence[float | None], say: Callable[[str, float], Reading]) -> Callable[[int], Reading]:
    return lambda place: say(name, values[place] or 0.0)


_SERIES: Final[dict[str, Callable[[AlertRule, _Span], dict[str, _Series]]]] = {
    Kind.FAILURE_RATE: _failures,
    Kind.COST: _cost,
    Kind.SCHEDULE_LAG: _lag,
    Kind.DEAD_LETTERS: _letters,
    Kind.WORKER_LOST: _workers,
    Kind.QUEUE_BACKLOG: _backlog,
    Kind.RESOURCES: _resources,
}
