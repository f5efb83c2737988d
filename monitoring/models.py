"""What ended, minute by minute; alert rules, where they tell somebody, what they raised, and the messages about it.

``counting`` writes the totals and ``history`` reads them. They name workflows and owners by plain keys, because what
happened stays when those go. Minutes are whole minutes since 1970 by the clock of the database.
"""

from __future__ import annotations

import uuid
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from workflows import access
from workflows.models import NAME_CHARACTERS, OwnedQuerySet


class Total(models.Model):
    """The executions of one workflow and owner that ended in one minute, in one status and after about as long.

    ``up_to_ms`` is the upper bound of their time from queued to ended, one of ``history.BOUNDS_MS``. Turns of loops and
    subflows are no runs: their row has ``up_to_ms`` 0 and says how many ``children`` there were; what they cost is in
    ``credits``. After ``counting.MINUTE_DAYS`` the rows of an hour are added up in that of its first minute.
    """

    minute = models.IntegerField()
    workflow_id = models.UUIDField()
    owner_id = models.BigIntegerField()
    status = models.CharField(max_length=24)
    up_to_ms = models.BigIntegerField()
    runs = models.BigIntegerField()
    children = models.BigIntegerField()
    credits = models.BigIntegerField()
    duration_ms = models.BigIntegerField(help_text="Of all runs together.")

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("workflow_id", "minute", "owner_id", "status", "up_to_ms"), name="total_once"
            ),
        )
        indexes = (
            models.Index(fields=("minute",), name="total_by_minute"),
            models.Index(fields=("owner_id", "minute"), name="total_by_owner"),
        )

    def __str__(self) -> str:
        return f"{self.runs} {self.status} of {self.workflow_id}"


class NodeErrors(models.Model):
    """How many nodes of one workflow and owner failed for good with one error code, by when their execution ended."""

    minute = models.IntegerField()
    workflow_id = models.UUIDField()
    owner_id = models.BigIntegerField()
    code = models.CharField(max_length=40)
    count = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "node errors"
        constraints = (
            models.UniqueConstraint(fields=("workflow_id", "minute", "owner_id", "code"), name="node_errors_once"),
        )
        indexes = (
            models.Index(fields=("minute",), name="node_errors_by_minute"),
            models.Index(fields=("owner_id", "minute"), name="node_errors_by_owner"),
        )

    def __str__(self) -> str:
        return f"{self.count} {self.code} of {self.workflow_id}"


class Counter(models.Model):
    """A number that only grows, for all workflows together since the counting began; ``label`` tells its parts apart."""

    name = models.CharField(max_length=40)
    label = models.CharField(max_length=80, blank=True, default="")
    value = models.BigIntegerField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("name", "label"), name="counter_once"),)

    def __str__(self) -> str:
        return f"{self.name} {self.label} {self.value}"


class Counted(models.Model):
    """How far the counting has come, in one row: everything that ended up to this execution is in the totals.

    ``touched_at`` and ``execution_id`` are those of the last execution that was counted.
    """

    ONLY = 1

    id = models.SmallIntegerField(primary_key=True, default=ONLY)
    touched_at = models.BigIntegerField()
    execution_id = models.UUIDField(default=uuid.UUID(int=0))

    def __str__(self) -> str:
        return f"counted up to {self.touched_at}"


class AlertChannel(models.Model):
    """Where somebody is told: a mail address, or an address that is sent JSON.

    ``address`` is what people may see of it. ``data`` is ciphertext of the whole address, which for Slack is the
    secret itself, and of the secret with which webhooks are signed.
    """

    class Kind(models.TextChoices):
        """By what it is told."""

        EMAIL = "email", "Email"
        WEBHOOK = "webhook", "Webhook"
        SLACK = "slack", "Slack"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="alert_channels")
    name = models.CharField(max_length=NAME_CHARACTERS)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    address = models.CharField(max_length=300, editable=False)
    data = models.BinaryField(editable=False)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("owner", "name"), name="alert_channel_name_per_owner"),)

    def __str__(self) -> str:
        return self.name


class AlertRule(models.Model):
    """When somebody is told: ``kind`` says what is measured, ``threshold`` from where on it is too much.

    The units of ``threshold`` are those of the kind: percent for failure rates and resources, messages for queues,
    credits for cost, seconds for schedule lag, letters and workers. ``window_s`` is how far back is counted, where
    the kind counts; ``for_s`` how long it must be too much before somebody is told, in seconds.

    Without a workflow a rule is about all of its owner, or of ``everyone``, for which its owner needs the permission to
    see everything, as for what concerns the installation. ``holding`` notes since when (microseconds) each
    thing is too much that is not yet told.
    """

    class Kind(models.TextChoices):
        """What is measured."""

        FAILURE_RATE = "failure_rate", "Failure rate"
        QUEUE_BACKLOG = "queue_backlog", "Queue backlog"
        RESOURCES = "resource_exhaustion", "Resource exhaustion"
        COST = "cost", "Cost"
        SCHEDULE_LAG = "schedule_lag", "Schedule lag"
        DEAD_LETTERS = "dead_letters", "Dead letters"
        WORKER_LOST = "worker_lost", "Worker lost"

    class Severity(models.TextChoices):
        """How bad it is."""

        INFO = "info", "Info"
        WARNING = "warning", "Warning"
        CRITICAL = "critical", "Critical"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="alert_rules")
    name = models.CharField(max_length=NAME_CHARACTERS)
    kind = models.CharField(max_length=20, choices=Kind.choices)
    workflow = models.ForeignKey(
        "workflows.Workflow", null=True, blank=True, on_delete=models.CASCADE, related_name="alert_rules",
        help_text="Empty: all workflows of the owner of the rule.",
    )  # fmt: skip
    everyone = models.BooleanField(default=False, help_text="Off: only those of the owner of the rule.")
    subject = models.CharField(
        max_length=100,
        blank=True,
        default="",
        help_text="One queue, or one of slots, browsers, disk, memory and redis; empty: each of them.",
    )
    threshold = models.FloatField()
    minimum_runs = models.PositiveIntegerField(
        default=3, help_text="While fewer runs have ended in that time, nothing fires, however many failed."
    )
    window_s = models.PositiveIntegerField(default=900, verbose_name="window in seconds")
    for_s = models.PositiveIntegerField(default=0, verbose_name="seconds that it must last")
    severity = models.CharField(max_length=8, choices=Severity.choices, default=Severity.WARNING)
    channels = models.ManyToManyField(AlertChannel, blank=True, related_name="rules")
    enabled = models.BooleanField(default=True)
    silenced_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then nobody is told when it fires; what fires is still listed."
    )
    holding = models.JSONField(default=dict, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(fields=("owner", "name"), name="alert_rule_name_per_owner"),
            models.CheckConstraint(
                condition=Q(workflow=None) | Q(everyone=False), name="alert_rule_one_workflow_or_everyone"
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def condition(self) -> str:
        """Return what makes it fire as one text; an alert of a rule whose text changed is over."""
        about = str(self.workflow_id or ("everyone" if self.everyone else "own"))
        numbers = f"{self.threshold:g}:{self.minimum_runs}:{self.window_s}:{self.for_s}"
        return f"{self.kind}:{about}:{self.subject}:{numbers}"


class Alert(models.Model):
    """Something that a rule found to be too much, until it was not any more; there is one open alert for each thing.

    ``key`` names the thing where a rule watches several (the queue, the resource). What it says of its rule and
    workflow stays when they go. ``value`` is the newest one, ``told_at`` when messages were written, null while the
    rule is silenced. ``reason`` says why it was resolved when it was not because the value fell.
    """

    class Status(models.TextChoices):
        """Whether it goes on."""

        FIRING = "firing", "Firing"
        RESOLVED = "resolved", "Resolved"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="alerts")
    rule = models.ForeignKey(AlertRule, null=True, blank=True, on_delete=models.SET_NULL, related_name="alerts")
    rule_name = models.CharField(max_length=NAME_CHARACTERS)
    kind = models.CharField(max_length=20, choices=AlertRule.Kind.choices)
    severity = models.CharField(max_length=8, choices=AlertRule.Severity.choices)
    workflow = models.ForeignKey(
        "workflows.Workflow", null=True, blank=True, on_delete=models.SET_NULL, related_name="alerts"
    )
    workflow_name = models.CharField(max_length=NAME_CHARACTERS, blank=True, default="")
    key = models.CharField(max_length=100, blank=True, default="")
    condition = models.CharField(max_length=300)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.FIRING)
    value = models.FloatField()
    threshold = models.FloatField()
    message = models.CharField(max_length=1000)
    opened_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=100, blank=True, default="")
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("-opened_at", "-id")
        constraints = (
            models.UniqueConstraint(fields=("rule", "key"), condition=Q(status="firing"), name="alert_open_once"),
        )
        indexes = (
            models.Index(fields=("owner", "-opened_at"), name="alert_by_owner"),
            models.Index(fields=("-opened_at", "-id"), name="alert_newest"),
            models.Index(fields=("owner",), name="alert_open", condition=Q(status="firing")),
        )

    def __str__(self) -> str:
        return f"{self.rule_name}: {self.message}"


class Gauge(models.Model):
    """How much of something there was in one minute, for rules that look back: see ``alerts.gauges``."""

    minute = models.IntegerField()
    name = models.CharField(max_length=100)
    value = models.FloatField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("minute", "name"), name="gauge_once"),)

    def __str__(self) -> str:
        return f"{self.name} {self.value:g}"


class MessageQuerySet(models.QuerySet[Any]):
    """Messages, which belong to the owner of their alert."""

    def visible_to(self, user: Any) -> Self:
        """Return the rows that ``user`` may see: those of their alerts, or all with the permission to."""
        return self if access.sees_everything(user) else self.filter(alert__owner=user.pk)


class AlertMessage(models.Model):
    """One message about an alert on its way to a channel; written with the alert, delivered until it arrived.

    ``content`` is fixed when it is written, so that every attempt says the same. ``next_at`` is when the next
    attempt is due, ``claim`` who is at it until ``claimed_until`` (both times in microseconds of the database).
    """

    class Status(models.TextChoices):
        """What became of it."""

        WAITING = "waiting", "Waiting"
        SENT = "sent", "Sent"
        FAILED = "failed", "Failed"
        WITHHELD = "withheld", "Withheld"

    class Event(models.TextChoices):
        """What it says."""

        FIRING = "firing", "Firing"
        RESOLVED = "resolved", "Resolved"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="messages")
    channel = models.ForeignKey(AlertChannel, null=True, on_delete=models.SET_NULL, related_name="messages")
    channel_name = models.CharField(max_length=NAME_CHARACTERS)
    event = models.CharField(max_length=8, choices=Event.choices)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.WAITING)
    content = models.JSONField(default=dict)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.BigIntegerField()
    claim = models.CharField(max_length=32, blank=True, default="")
    claimed_until = models.BigIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        ordering = ("created_at", "event")
        constraints = (
            models.UniqueConstraint(fields=("alert", "channel", "event"), name="alert_message_once_per_channel"),
        )
        indexes = (
            models.Index(fields=("next_at",), name="alert_message_due", condition=Q(status="waiting")),
            models.Index(fields=("created_at",), name="alert_message_by_age"),
        )

    def __str__(self) -> str:
        return f"{self.event} to {self.channel_name}"

    @property
    def owner_id(self) -> Any:
        """Return the key of the user to whom its alert belongs."""
        return self.alert.owner_id
