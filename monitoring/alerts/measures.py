"""What each kind of rule finds now: a value for each thing that it watches, and how to say it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

from django.db.models import F, Max, Min, Q, QuerySet
from kombu.exceptions import OperationalError as BrokerError

from executions import states, store
from executions.machine import share
from executions.models import DeadLetter, Execution, LostWorker, WorkerLease
from monitoring import history, queues
from monitoring.health import BEAT_QUEUES, ISOLATED_QUEUES, redis_percent
from monitoring.machines import fullest
from monitoring.models import AlertRule
from monitoring.tiles import of_installation
from workflows.models import Schedule, Workflow

logger = logging.getLogger(__name__)

Kind = AlertRule.Kind
Rows = TypeVar("Rows", bound=QuerySet[Any])
SILENT: Final = timedelta(seconds=30)
"""A worker that gives no sign of life for longer counts as lost."""
COUNTED: Final = 1_000
"""How many are counted at most."""
NAMED: Final = 3
"""How many workers a message names."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value, in the unit of its kind, and the sentence that says it."""

    value: float
    message: str


Readings = dict[str, Reading]


class Look:
    """What rules find at one moment (microseconds of the database); what several ask for is found once."""

    def __init__(self, now: int) -> None:
        self.now = store.us_to_datetime(now)
        self._now_us = now
        self._found: dict[Any, Any] = {}

    def readings(self, rule: AlertRule) -> Readings | None:
        """Return a reading for each thing that ``rule`` watches, by its key; None when it cannot be known now.

        A few queries on indexes, fewer when another rule asked for the same.
        """
        asked = (rule.kind, rule.workflow_id, rule.everyone, rule.owner_id, rule.window_s, rule.minimum_runs)
        found: Readings | None = self._once(asked, lambda: _MEASURES[rule.kind](self, rule))
        if found is None or not rule.subject:
            return found
        return {key: reading for key, reading in found.items() if key == rule.subject}

    def _once(self, key: Any, find: Callable[[], Any]) -> Any:
        if key not in self._found:
            self._found[key] = find()
        return self._found[key]

    # ------------------------------------------------------------------ of workflows

    def _failures(self, rule: AlertRule) -> Readings:
        return {"": failure_reading(self._ended(rule), rule)}

    def _cost(self, rule: AlertRule) -> Readings:
        return {"": cost_reading(self._ended(rule).credits, rule.window_s)}

    def _ended(self, rule: AlertRule) -> history.Sums:
        everybody = rule.everyone or rule.workflow_id is not None
        scope = (rule.workflow_id, None if everybody else rule.owner_id, rule.window_s)
        since = self.now - timedelta(seconds=rule.window_s)
        found: history.Sums = self._once(
            ("ended", *scope), lambda: history.ended(since, self.now, owner=scope[1], workflow=scope[0])
        )
        return found

    def _schedule_lag(self, rule: AlertRule) -> Readings:
        """Look at instants that nobody took, at executions that nobody began, and at those that began lately."""
        missed = of_rule(Schedule.objects.all(), rule, "workflow__").filter(
            next_run_at__lte=self.now, enabled=True, workflow__status=Workflow.Status.ACTIVE
        )
        planned = of_rule(Execution.objects.filter(scheduled_for__isnull=False), rule)
        waiting = planned.filter(status=states.QUEUED)
        began = planned.filter(queued_at__gte=self.now - timedelta(seconds=rule.window_s))
        oldest = [
            missed.aggregate(value=Min("next_run_at"))["value"],
            waiting.aggregate(value=Min("scheduled_for"))["value"],
        ]
        late = began.aggregate(value=Max(F("started_at") - F("scheduled_for")))["value"]
        lags = [late, *(self.now - moment for moment in oldest if moment)]
        return {"": lag_reading(max((lag.total_seconds() for lag in lags if lag), default=0.0))}

    def _dead_letters(self, rule: AlertRule) -> Readings:
        return {"": letters_reading(letters_of(rule).filter(status=DeadLetter.OPEN).count())}

    # ------------------------------------------------------------------ of the installation

    def depths(self) -> dict[str, int] | None:
        """Return how many messages wait in each queue; None when the broker does not answer."""
        found: dict[str, int] | None = self._once("depths", _depths)
        return found

    def resources(self) -> Readings:
        """Return how much is in use, by the names of ``rules.RESOURCES``; without what there is none of."""
        found: Readings = self._once("resources", resources)
        return found

    def _backlog(self, rule: AlertRule) -> Readings | None:
        depths = self.depths()
        return None if depths is None else {name: backlog_reading(name, depth) for name, depth in depths.items()}

    def _resources(self, rule: AlertRule) -> Readings:
        return self.resources()

    def _lost_workers(self, rule: AlertRule) -> Readings:
        since = self._now_us - rule.window_s * 1_000_000
        before = self._now_us - SILENT // timedelta(microseconds=1)
        lost = LostWorker.objects.filter(lost_at__gt=since).order_by("-lost_at")
        silent = WorkerLease.objects.filter(beat_at__lt=before).exclude(queues__in=(BEAT_QUEUES, ISOLATED_QUEUES))
        names = [
            name
            for rows in (lost, silent.order_by("-beat_at"))
            for name in rows.values_list("hostname", "pid")[:COUNTED]
        ]
        return {"": workers_reading(names, rule.window_s)}


_MEASURES: Final[dict[str, Callable[[Look, AlertRule], Readings | None]]] = {
    Kind.FAILURE_RATE: Look._failures,
    Kind.COST: Look._cost,
    Kind.SCHEDULE_LAG: Look._schedule_lag,
    Kind.DEAD_LETTERS: Look._dead_letters,
    Kind.QUEUE_BACKLOG: Look._backlog,
    Kind.RESOURCES: Look._resources,
    Kind.WORKER_LOST: Look._lost_workers,
}


def of_rule(rows: Rows, rule: AlertRule, path: str = "") -> Rows:
    """Return the rows that ``rule`` is about; ``path`` leads from a row to its workflow or to what has its owner."""
    if rule.workflow_id is not None:
        return rows.filter(workflow=rule.workflow_id)
    return rows if rule.everyone else rows.filter(**{f"{path}owner": rule.owner_id})


def letters_of(rule: AlertRule) -> QuerySet[DeadLetter]:
    """Return the dead letters that ``rule`` is about."""
    rows = DeadLetter.objects.all()
    if rule.workflow_id is not None:
        return rows.filter(Q(workflow=rule.workflow_id) | Q(execution__workflow=rule.workflow_id))
    return rows if rule.everyone else rows.owned_by(rule.owner)


def _depths() -> dict[str, int] | None:
    try:
        return queues.depths()
    except BrokerError as error:
        logger.warning("the queues cannot be counted, so rules about them stand still: %s", error)
        return None


def resources() -> Readings:
    """Return how much is in use by the names of ``rules.RESOURCES``; what there is none of is left out.

    Of disk and memory it is that of the machine on which most is in use.
    """
    installation = of_installation()
    slots, browsers = installation["slots"], installation["browsers"]
    shares = {
        "slots": share(slots["busy"], slots["total"]),
        "browsers": share(browsers["open"], browsers["limit"]),
        "redis": redis_percent(),
    }
    found = {name: resource_reading(name, percent) for name, percent in shares.items() if percent is not None}
    return found | {name: resource_reading(name, one.percent, one.hostname) for name, one in fullest().items()}


_RESOURCES: Final = {
    "slots": "the slots of all workers are in use", "browsers": "the browser pages of all workers are in use",
    "redis": "the memory that Redis may take is in use",
    "disk": "the disk with the data directory is in use on {}", "memory": "the memory is in use on {}",
}  # fmt: skip


# ---------------------------------------------------------------------- how to say it


def failure_reading(ended: history.Sums | history.Minute, rule: AlertRule) -> Reading:
    """Return the failure rate of what ended; 0 while there are too few runs for ``rule``."""
    runs = ended.completed + ended.failed
    rate = ended.failed * 100 / runs if runs >= rule.minimum_runs else 0.0
    return Reading(
        rate, f"{ended.failed:,} of {counted(runs, 'run')} failed within {span(rule.window_s)} ({rate:.0f} %)"
    )


def cost_reading(credits: int, window_s: int) -> Reading:
    """Return what was spent."""
    return Reading(credits, f"{counted(credits, 'credit')} spent within {span(window_s)}")


def backlog_reading(queue: str, depth: float) -> Reading:
    """Return how much waits in a queue."""
    messages = round(depth)
    verb = "waits" if messages == 1 else "wait"
    return Reading(depth, f'{counted(messages, "message")} {verb} in the queue "{queue}"')


def resource_reading(name: str, percent: float, hostname: str = "") -> Reading:
    """Return how much of a resource is in use, and of disk and memory on which machine, where that is known."""
    return Reading(percent, f"{percent:.0f} % of {_RESOURCES[name].format(hostname or 'the fullest machine')}")


def lag_reading(seconds: float) -> Reading:
    """Return how late schedules are."""
    return Reading(
        seconds, f"scheduled runs begin {seconds:,.0f} s late" if seconds >= 1 else "scheduled runs begin in time"
    )


def letters_reading(count: int) -> Reading:
    """Return how many letters wait for a person."""
    return Reading(count, f"{counted(count, 'dead letter')} not handled yet")


def workers_reading(lost: Iterable[tuple[str, int]], window_s: int) -> Reading:
    """Return how many workers were lost; ``lost`` are their hosts and process ids, the newest first."""
    names = [f"{host} (process {pid})" for host, pid in lost]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    which = f": {', '.join(names[:NAMED])}{more}" if names else ""
    return Reading(len(names), f"{counted(len(names), 'worker')} lost within {span(window_s)}{which}")


def span(seconds: int) -> str:
    """Return a time in its largest whole unit: ``15 minutes``, ``2 days``."""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return counted(seconds // size, unit)
    return counted(seconds, "second")


def counted(number: int, noun: str) -> str:
    """Return so many of something: ``1 run``, ``1,200 runs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
