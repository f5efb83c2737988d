"""What people do about alerts: look at those that fire, take one on, hear nothing of a rule for a while."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from monitoring.models import Alert, AlertRule
from workflows import audit

STATES: Final[dict[str, Q]] = {
    "firing": Q(status=Alert.Status.FIRING),
    "new": Q(status=Alert.Status.FIRING, acknowledged_at=None),
    "acknowledged": Q(status=Alert.Status.FIRING, acknowledged_at__isnull=False),
    "resolved": Q(status=Alert.Status.RESOLVED),
}
"""How far alerts are. What fires is new until somebody acknowledges it."""
COUNTED: Final = 99
"""New alerts are counted no further."""
LONGEST_SILENCE: Final = timedelta(days=366)


def new_count(user: Any) -> int:
    """Return how many alerts that ``user`` may see fire and were acknowledged by nobody, at most ``COUNTED + 1``.

    One query, over open alerts only.
    """
    rows = Alert.objects.visible_to(user).filter(STATES["new"]).order_by()
    return int(rows.values("pk")[: COUNTED + 1].count())


def newest(user: Any, limit: int) -> QuerySet[Alert]:
    """Return the newest alerts that fire, of those that ``user`` may see."""
    rows: QuerySet[Alert] = Alert.objects.visible_to(user).filter(STATES["firing"])
    return rows.order_by("-opened_at", "-pk")[:limit]


def firing_of_rule() -> Coalesce:
    """Return how many alerts of a rule fire, for a query of rules: counted without a look at those that are over."""
    rows = Alert.objects.filter(STATES["firing"], rule=OuterRef("pk")).order_by().values("rule")
    return Coalesce(Subquery(rows.annotate(count=Count("pk")).values("count")), 0)


def is_new(alert: Alert) -> bool:
    """Return whether it fires and nobody takes care of it."""
    return alert.status == Alert.Status.FIRING and alert.acknowledged_at is None


def is_silenced(rule: AlertRule) -> bool:
    """Return whether nobody is told of ``rule`` now."""
    return rule.silenced_until is not None and rule.silenced_until > timezone.now()


def acknowledge(alert: Alert, user: Any) -> bool:
    """Note that ``user`` takes care of what fires; return False when it is over, or somebody does already."""
    with transaction.atomic():
        now = timezone.now()
        open_alert = Alert.objects.filter(STATES["new"], pk=alert.pk)
        if not open_alert.update(acknowledged_at=now, acknowledged_by=user):
            return False
        audit.note("acknowledge", "alert", alert, name=alert.rule_name)
    alert.acknowledged_at, alert.acknowledged_by = now, user
    return True


def silence(rule: AlertRule, length: timedelta) -> None:
    """Let nobody be told when ``rule`` fires, from now on for a while; a silence that there is ends then, too.

    Its alerts are still listed, and who was told of one before hears that it is over. The caller keeps ``length`` between 0 and ``LONGEST_SILENCE``.
    """
    _silence(rule, timezone.now() + length, "silence")


def end_silence(rule: AlertRule) -> None:
    """Let people be told of ``rule`` again."""
    _silence(rule, None, "unsilence")


def _silence(rule: AlertRule, until: datetime | None, verb: str) -> None:
    rule.silenced_until = until
    with transaction.atomic():
        rule.save(update_fields=["silenced_until"])
        audit.note(verb, "alert rule", rule, **({"until": until.isoformat()} if until else {}))
