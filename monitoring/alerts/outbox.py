"""Messages on their way: written with the alert, taken by one process at a time, tried again until they arrive."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from django.conf import settings
from django.db.models import Exists, F, OuterRef

from executions import store
from monitoring.alerts import wording
from monitoring.alerts.measures import counted
from monitoring.models import Alert, AlertChannel, AlertMessage

Event, Status = AlertMessage.Event, AlertMessage.Status
BUDGET_WINDOW: Final = timedelta(hours=1)
CLAIM_US: Final = 120_000_000
"""How long a process that took a message and died keeps others from it; longer than any attempt takes."""
MOST_ATTEMPTS: Final = 8
FIRST_PAUSE_S: Final = 10
LONGEST_PAUSE_S: Final = 3_600
PAGE: Final = 100
ERROR_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Due:
    """A message that may be sent now, and to whom."""

    id: UUID
    channel_id: UUID | None
    owner_id: Any


def write(alert: Alert, event: str, channels: Iterable[AlertChannel], now: int) -> None:
    """Write the messages of ``alert`` to ``channels``, once for each.

    Those beyond the budget of its owner, ``FLOWBUILDER_ALERT_MESSAGES`` an hour, are kept and not sent. Call it in
    the transaction that changes the alert. ``now`` is in microseconds of the database.
    """
    moment = store.us_to_datetime(now)
    sent = AlertMessage.objects.filter(alert__owner=alert.owner_id, created_at__gt=moment - BUDGET_WINDOW)
    left = settings.ALERT_MESSAGES - sent.exclude(status=Status.WITHHELD).count()
    content = wording.content_of(alert, event)
    rows = []
    for place, channel in enumerate(channels):
        row = AlertMessage(
            alert=alert, channel=channel, channel_name=channel.name, event=event, content=content, created_at=moment,
            next_at=now,
        )  # fmt: skip
        if place >= left:
            row.status = Status.WITHHELD
            most = counted(settings.ALERT_MESSAGES, "message")
            row.error = f"more than {most} within an hour (FLOWBUILDER_ALERT_MESSAGES)"
        rows.append(row)
    AlertMessage.objects.bulk_create(rows, ignore_conflicts=True)


def due(now: int, *, but_channels: Collection[UUID | None], but_owners: Collection[Any]) -> list[Due]:
    """Return up to ``PAGE`` messages that may be sent, those that wait longest first. One query.

    That something is over is not said before it was said that it began.
    """
    before = AlertMessage.objects.filter(
        alert=OuterRef("alert"), channel=OuterRef("channel"), event=Event.FIRING, status=Status.WAITING
    )
    rows = (
        AlertMessage.objects.filter(status=Status.WAITING, next_at__lte=now, claimed_until__lte=now)
        .exclude(channel__in=[key for key in but_channels if key])
        .exclude(alert__owner__in=but_owners)
        .exclude(Exists(before), event=Event.RESOLVED)
        .order_by("next_at")
        .values_list("pk", "channel_id", "alert__owner_id")[:PAGE]
    )
    return [Due(*row) for row in rows]


def claim(message_id: UUID) -> AlertMessage | None:
    """Take a message that is due and return it with its channel; None when another process has it."""
    now, claimed = store.database_now_us(), uuid4().hex
    free = AlertMessage.objects.filter(
        pk=message_id, status=Status.WAITING, next_at__lte=now, claimed_until__lte=now
    )  # fmt: skip
    if not free.update(claim=claimed, claimed_until=now + CLAIM_US, attempts=F("attempts") + 1):
        return None
    found: AlertMessage = AlertMessage.objects.select_related("channel").get(pk=message_id)
    return found


def arrived(message: AlertMessage) -> None:
    """Note that ``message`` was taken."""
    now = store.us_to_datetime(store.database_now_us())
    _mine(message).update(status=Status.SENT, sent_at=now, error="")


def missed(message: AlertMessage, error: str, *, final: bool) -> None:
    """Note that ``message`` was not taken: it comes again later, unless it is ``final`` or was the last attempt."""
    values: dict[str, Any] = {"error": store.to_column(error, ERROR_CHARACTERS)}
    if final or message.attempts >= MOST_ATTEMPTS:
        values["status"] = Status.FAILED
    else:
        pause = min(FIRST_PAUSE_S * 3 ** (message.attempts - 1), LONGEST_PAUSE_S)
        values |= {"next_at": store.database_now_us() + pause * 1_000_000, "claimed_until": 0}
    _mine(message).update(**values)


def _mine(message: AlertMessage) -> Any:
    return AlertMessage.objects.filter(pk=message.pk, claim=message.claim, status=Status.WAITING)
