"""Looking at every rule: raising what is too much, once, and resolving it when it is over.

Everything that changes is a row that expects what it found, so that two processes which look at once raise nothing
twice; the lock ``alerts`` only saves the work.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import QuerySet

from executions import store
from executions.alone import only_one
from monitoring.alerts import outbox
from monitoring.alerts.measures import Look, Reading, Readings
from monitoring.alerts.rules import KINDS, may_watch
from monitoring.models import Alert, AlertChannel, AlertMessage, AlertRule

logger = logging.getLogger(__name__)

Status, Event = Alert.Status, AlertMessage.Event
QUIET_LOOKS: Final = 3
"""For how many looks a value must be fine before it is over, so that one that swings is told once."""
LOOKS_PER_WINDOW: Final = 1000
"""A rule that looks far back is looked at less often: what happens in a thousandth of its window changes little."""
PAGE: Final = 200
DELETED, OFF, CHANGED, FORBIDDEN = (
    "its rule was deleted", "its rule was switched off", "its rule was changed", "its owner may not see that any more",
)  # fmt: skip


class Evaluator:
    """Looks at rules again and again; knows when each is due again."""

    def __init__(self) -> None:
        self._due: dict[tuple[UUID, str], float] = {}

    def look(self) -> int:
        """Look at every rule that is due and return how many were; 0 when another process is at it.

        One query for the rules and one for what fires, and those of ``Look.readings`` for each rule that is due.
        """
        with only_one("alerts") as ours:
            return self._look() if ours else 0

    def _look(self) -> int:
        now = store.database_now_us()
        open_alerts: dict[UUID | None, list[Alert]] = defaultdict(list)
        for alert in Alert.objects.filter(status=Status.FIRING).order_by("opened_at"):
            open_alerts[alert.rule_id].append(alert)
        look, looked = Look(now), 0
        due: dict[tuple[UUID, str], float] = {}
        for rule in _all_rules():
            key = (rule.pk, rule.condition)
            due[key] = self._due.get(key, 0.0)
            found = _end_stale(rule, open_alerts.pop(rule.pk, []), now)
            if rule.enabled and time.monotonic() >= due[key]:
                due[key] = time.monotonic() + period_s(rule) * 0.9
                looked += _safely(rule, look, found, now)
        self._due = due
        for alerts in open_alerts.values():
            _resolve_all(alerts, now, DELETED)
        return looked


def _all_rules() -> Iterator[AlertRule]:
    """Yield every rule, page by page: no query stays open while its rules are looked at and written."""
    page = list(_in_order()[:PAGE])
    while page:
        yield from page
        page = list(_in_order().filter(pk__gt=page[-1].pk)[:PAGE])


def _in_order() -> QuerySet[AlertRule]:
    return AlertRule.objects.select_related("owner", "workflow").order_by("pk")


def period_s(rule: AlertRule) -> float:
    """Return seconds between two looks at ``rule``."""
    kind = KINDS.get(rule.kind)
    return max(settings.ALERT_SECONDS, rule.window_s / LOOKS_PER_WINDOW if kind and kind.counts else 0)


def _safely(rule: AlertRule, look: Look, found: list[Alert], now: int) -> bool:
    try:
        readings = look.readings(rule) if may_watch(rule) else None
        if readings is None:
            return False
        _apply(rule, readings, {alert.key: alert for alert in found}, now)
    except (OperationalError, InterfaceError):
        raise  # the database does not answer
    except Exception:
        logger.exception('rule "%s" could not be looked at; the others go on', rule.name)
        return False
    return True


def _end_stale(rule: AlertRule, alerts: list[Alert], now: int) -> list[Alert]:
    """Resolve what ``rule`` no longer stands for and return the rest."""
    if not rule.enabled and rule.holding:
        AlertRule.objects.filter(pk=rule.pk).update(holding={})
    if not alerts:
        return []
    if not rule.enabled:
        return _resolve_all(alerts, now, OFF)
    if not may_watch(rule):
        return _resolve_all(alerts, now, FORBIDDEN)
    stale = [alert for alert in alerts if alert.condition != rule.condition]
    _resolve_all(stale, now, CHANGED)
    return [alert for alert in alerts if alert.condition == rule.condition]


def _apply(rule: AlertRule, readings: Readings, found: dict[str, Alert], now: int) -> None:
    over = {key: reading for key, reading in readings.items() if reading.value >= rule.threshold}
    lasting = _lasting(rule, over, found, now)
    for key, reading in over.items():
        if key in found:
            _see_again(found[key], reading, now)
        elif key in lasting:
            alert = _raise(rule, key, reading, now)
            if alert is not None:
                found[key] = alert
    quiet = timedelta(seconds=QUIET_LOOKS * period_s(rule))
    for key, alert in found.items():
        if key in over:
            _tell(rule, alert, now)
        elif store.us_to_datetime(now) - alert.last_seen_at > quiet:
            _resolve(alert, now)


def _lasting(rule: AlertRule, over: Iterable[str], found: Iterable[str], now: int) -> set[str]:
    """Return what has been too much for as long as ``rule`` asks, and note since when the others are."""
    before = rule.holding if rule.holding.get("condition") == rule.condition else {"since": {}}
    since = {key: min(before["since"].get(key, now), now) for key in over if key not in found}
    lasting = {key for key, began in since.items() if now - began >= rule.for_s * 1_000_000}
    kept = {key: began for key, began in since.items() if key not in lasting}
    if kept != before["since"]:
        holding = {"condition": rule.condition, "since": kept} if kept else {}
        AlertRule.objects.filter(pk=rule.pk).update(holding=holding)
    return lasting


def _raise(rule: AlertRule, key: str, reading: Reading, now: int) -> Alert | None:
    """Store a new alert and return it; None when another process was faster, or the rule is gone."""
    moment = store.us_to_datetime(now)
    try:
        with transaction.atomic():
            alert: Alert = Alert.objects.create(
                owner=rule.owner, rule=rule, rule_name=rule.name, kind=rule.kind, severity=rule.severity,
                workflow=rule.workflow, workflow_name=rule.workflow.name if rule.workflow else "", key=key,
                condition=rule.condition, value=reading.value, threshold=rule.threshold, message=reading.message,
                opened_at=moment, last_seen_at=moment,
            )  # fmt: skip
    except IntegrityError:
        return None
    logger.warning('alert: rule "%s": %s', rule.name, reading.message)
    return alert


def _see_again(alert: Alert, reading: Reading, now: int) -> None:
    alert.last_seen_at, alert.value, alert.message = store.us_to_datetime(now), reading.value, reading.message
    _open(alert).update(last_seen_at=alert.last_seen_at, value=alert.value, message=alert.message)


def _tell(rule: AlertRule, alert: Alert, now: int) -> None:
    """Write the messages about ``alert``, once; not while its rule is silenced, nor when somebody knows already."""
    moment = store.us_to_datetime(now)
    known = alert.told_at or alert.acknowledged_at
    if known or _is_silenced(rule, moment):
        return
    with transaction.atomic():
        if _open(alert).filter(told_at=None, acknowledged_at=None).update(told_at=moment):
            outbox.write(alert, Event.FIRING, rule.channels.filter(enabled=True), now)


def _resolve_all(alerts: Iterable[Alert], now: int, reason: str) -> list[Alert]:
    """Resolve ``alerts``; return an empty list, which is what is left of them."""
    for alert in alerts:
        _resolve(alert, now, reason)
    return []


def _resolve(alert: Alert, now: int, reason: str = "") -> None:
    """Note that it is over, and tell those who were told that it began, in a silence, too."""
    alert.status, alert.resolved_at, alert.reason = Status.RESOLVED, store.us_to_datetime(now), reason
    with transaction.atomic():
        if not _open(alert).update(status=Status.RESOLVED, resolved_at=alert.resolved_at, reason=reason):
            return
        outbox.write(alert, Event.RESOLVED, _told(alert), now)
    logger.warning('alert is over: rule "%s": %s', alert.rule_name, alert.message)


def _is_silenced(rule: AlertRule, moment: datetime) -> bool:
    return rule.silenced_until is not None and rule.silenced_until > moment


def _told(alert: Alert) -> Any:
    heard = (outbox.Status.SENT, outbox.Status.WAITING)
    return AlertChannel.objects.filter(
        messages__alert=alert, messages__event=Event.FIRING, messages__status__in=heard, enabled=True
    )


def _open(alert: Alert) -> Any:
    return Alert.objects.filter(pk=alert.pk, status=Status.FIRING)
