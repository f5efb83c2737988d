"""Workflows, their immutable versions, schedules, webhooks and credentials; tokens, credits, plans and who did what."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction

from workflows import access, lookups  # noqa: F401 - registers the lookups
from workflows.definition import Definition, content_hash
from workflows.errors import DefinitionError

IMMUTABLE = "a version is immutable; save a new one"
MESSAGE_CHARACTERS = 500
NAME_CHARACTERS = 200


def hashes(workflow: Workflow) -> dict[str, str]:
    """Return a short hash of each of name, description and settings, by which a change of them is seen."""
    texts = {
        field: json.dumps(getattr(workflow, field), sort_keys=True) for field in ("name", "description", "settings")
    }
    return {field: hashlib.sha256(text.encode()).hexdigest()[:16] for field, text in texts.items()}


class OwnedQuerySet(models.QuerySet[Any]):
    """Rows that belong to a user."""

    def visible_to(self, user: Any) -> Self:
        """Return the rows that ``user`` may see: their own, or all with the permission to see everything."""
        return self if access.sees_everything(user) else self.filter(owner=user.pk)

    def changeable_by(self, user: Any) -> Self:
        """Return the rows that ``user`` may change: their own, or all with the permission to change everything."""
        return self if access.changes_everything(user) else self.filter(owner=user.pk)


class VersionQuerySet(models.QuerySet["WorkflowVersion"]):
    """Versions: rows are added, and go only with their workflow."""

    def update(self, **kwargs: Any) -> int:
        """Refuse; a stored version never changes."""
        raise ValidationError(IMMUTABLE)

    def delete(self) -> tuple[int, dict[str, int]]:
        """Refuse; versions are deleted with their workflow."""
        raise ValidationError("a version is deleted only with its workflow")

    def bulk_update(self, *args: Any, **kwargs: Any) -> int:
        """Refuse; a stored version never changes."""
        raise ValidationError(IMMUTABLE)

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """Add versions with their hash; refuses to overwrite any."""
        if kwargs.get("update_conflicts"):
            raise ValidationError(IMMUTABLE)
        versions = list(objs)
        for version in versions:
            version.content_hash = content_hash(version.definition)
        return super().bulk_create(versions, *args, **kwargs)


class Workflow(models.Model):
    """A named automation of one owner.

    ``version`` is what runs; ``draft`` is the newest saved version. Editing an active workflow makes a
    new draft while ``version`` keeps running. ``seen_with_draft`` has hashes of name, description and settings as they
    were when the newest version (or, before the first, the workflow) was made.
    """

    class Status(models.TextChoices):
        """Life of a workflow."""

        DRAFT = "draft", "Draft"
        ACTIVE = "active", "Active"
        PAUSED = "paused", "Paused"
        ARCHIVED = "archived", "Archived"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="workflows")
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.DRAFT)
    status_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When it was last activated, paused, resumed, archived or brought back.",
    )
    status_reason = models.CharField(
        max_length=300, blank=True, editable=False, help_text="Why, when nobody asked for it."
    )
    version = models.ForeignKey(
        "WorkflowVersion",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        verbose_name="active version",
    )
    draft = models.ForeignKey(
        "WorkflowVersion",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        verbose_name="newest version",
    )
    settings = models.JSONField(
        default=dict, blank=True, help_text="deadline_s, tags, recording and more; docs/workflows.md lists them."
    )
    seen_with_draft = models.JSONField(default=dict, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("owner", "name"), name="workflow_name_per_owner"),)
        permissions = (
            ("see_everything", "May see what belongs to other people: workflows, executions, recordings"),
            ("change_everything", "May change, start and stop what belongs to other people"),
        )

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the workflow; that it is new, or which of its name, settings and owner changed, is in the audit log."""
        from workflows import lifecycle

        if self._state.adding:
            self.seen_with_draft = hashes(self)
        with transaction.atomic():
            before = lifecycle.noted_values(self, kwargs.get("update_fields"))
            super().save(*args, **kwargs)
            lifecycle.note_saved(self, before)

    @transaction.atomic
    def save_version(self, definition: dict[str, Any], *, author: Any, message: str = "") -> WorkflowVersion:
        """Return the version that holds ``definition``; unchanged content returns the newest version.

        Raises:
            DefinitionError: ``definition`` is not a workflow or larger than its owner may have, or the message is
                too long.
            TransitionError: the workflow is archived.
        """
        from workflows import lifecycle

        read = Definition.from_json(definition)
        if len(message) > MESSAGE_CHARACTERS:
            raise DefinitionError(f"has {len(message):,} characters; the limit is {MESSAGE_CHARACTERS}", "message")
        locked = lifecycle.lock(self, "edit")
        newest = self.versions.order_by("-number").first()
        if newest is not None and newest.content_hash == content_hash(definition):
            self.draft = newest
        else:
            lifecycle.check_size(self, read, newest)
            number = 1 if newest is None else newest.number + 1
            self.draft = WorkflowVersion.objects.create(
                workflow=self, number=number, definition=definition, author=author, message=message
            )
            self.seen_with_draft = hashes(locked)
            lifecycle.note_version(self, self.draft)
        self.save(update_fields=("draft", "seen_with_draft", "updated_at"))
        return self.draft

    def activate(self) -> None:
        """Make the newest version the one that runs; see ``lifecycle.activate``."""
        from workflows import lifecycle

        lifecycle.activate(self)

    def pause(self) -> None:
        """Stop scheduled and triggered starts; executions that run go on."""
        from workflows import lifecycle

        lifecycle.pause(self)

    def resume(self) -> None:
        """Take starts again after ``pause``."""
        from workflows import lifecycle

        lifecycle.resume(self)

    def archive(self) -> None:
        """Put the workflow away; its history stays readable."""
        from workflows import lifecycle

        lifecycle.archive(self)


class WorkflowVersion(models.Model):
    """One immutable saved definition, numbered from 1 in its workflow."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    definition = models.JSONField()
    content_hash = models.CharField(max_length=64, editable=False)
    message = models.CharField(max_length=500, blank=True)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = VersionQuerySet.as_manager()

    class Meta:
        ordering = ("workflow", "-number")
        constraints = (models.UniqueConstraint(fields=("workflow", "number"), name="version_number_per_workflow"),)

    def __str__(self) -> str:
        return f"{self.workflow.name} v{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store a new version; a stored one never changes."""
        if not self._state.adding:
            raise ValidationError(IMMUTABLE)
        self.content_hash = content_hash(self.definition)
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refuse; versions are deleted with their workflow."""
        raise ValidationError("a version is deleted only with its workflow")


class Schedule(models.Model):
    """When a workflow starts by itself: a cron text and the IANA zone that it is read in, as typed.

    ``next_run_at`` is the next instant (UTC), or empty when nothing is due again.
    """

    workflow = models.OneToOneField(Workflow, on_delete=models.CASCADE, related_name="schedule")
    cron = models.CharField(max_length=120, help_text="Five fields: minute hour day month weekday.")
    timezone = models.CharField(max_length=64, default="UTC", help_text="IANA name, for example Europe/Berlin.")
    enabled = models.BooleanField(default=True)
    next_run_at = models.DateTimeField(null=True, blank=True, db_index=True)
    last_run_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.cron} ({self.timezone})"


class WebhookQuerySet(models.QuerySet[Any]):
    """Webhooks, which belong to the owner of their workflow."""

    def visible_to(self, user: Any) -> Self:
        """Return the rows that ``user`` may see: those of their workflows, or all with the permission to."""
        return self if access.sees_everything(user) else self.filter(workflow__owner=user.pk)

    def changeable_by(self, user: Any) -> Self:
        """Return the rows that ``user`` may change: those of their workflows, or all with the permission to."""
        return self if access.changes_everything(user) else self.filter(workflow__owner=user.pk)


class Webhook(models.Model):
    """An address by which another system starts a workflow, with requests that it signs.

    ``token`` is the unguessable end of the address. ``data`` is ciphertext of the signing secret, and of the one before
    it, which is good until ``old_until``. ``accepted`` and ``refused`` count requests.
    """

    METHODS = ("POST", "PUT", "PATCH")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="webhooks")
    name = models.CharField(max_length=NAME_CHARACTERS)
    token = models.CharField(max_length=64, unique=True, editable=False)
    data = models.BinaryField(editable=False)
    old_until = models.DateTimeField(null=True, blank=True, editable=False)
    enabled = models.BooleanField(default=True, help_text="Switched off, its address answers like one that never was.")
    methods = models.JSONField(default=list, help_text="The HTTP methods that it takes.")
    created_at = models.DateTimeField(auto_now_add=True)
    last_received_at = models.DateTimeField(null=True, blank=True, editable=False)
    accepted = models.PositiveBigIntegerField(default=0, editable=False)
    refused = models.PositiveBigIntegerField(default=0, editable=False)

    objects = WebhookQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("workflow", "name"), name="webhook_name_per_workflow"),)

    def __str__(self) -> str:
        return self.name

    @property
    def owner_id(self) -> Any:
        """Return the key of the user to whom its workflow belongs."""
        return self.workflow.owner_id


class WebhookDelivery(models.Model):
    """One request that a webhook accepted; its constraints are what makes each start once.

    ``nonce`` is the request's signature, ``delivery`` the id that the sender gave it, ``body_hash`` a SHA-256.
    """

    id = models.BigAutoField(primary_key=True)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    nonce = models.CharField(max_length=64)
    delivery = models.CharField(max_length=220, null=True)  # noqa: DJ001 - NULLs are never equal
    body_hash = models.CharField(max_length=64)
    execution_id = models.UUIDField()
    received_at = models.DateTimeField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("webhook", "nonce"), name="webhook_signature_once"),
            models.UniqueConstraint(fields=("webhook", "delivery"), name="webhook_delivery_once"),
        )
        indexes = (models.Index(fields=("webhook", "received_at"), name="webhook_delivery_by_age"),)

    def __str__(self) -> str:
        return f"{self.webhook_id} {self.delivery or self.nonce[:8]}"


class Credential(models.Model):
    """A named, encrypted secret of one owner. ``data`` is ciphertext of a JSON object of fields."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="credentials")
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=40, default="password")
    data = models.BinaryField(editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="After this instant no node gets it any more.")

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("owner", "name"), name="credential_name_per_owner"),)

    def __str__(self) -> str:
        return self.name


class ApiToken(models.Model):
    """What a program shows instead of a login. Only ``prefix`` and a SHA-256 of the token are stored."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=16, unique=True, editable=False, help_text="The part that people may see.")
    digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(default=list, help_text="What the token may do; nothing else.")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class CreditAccount(models.Model):
    """The credits of one user. Who has no account is not metered; ``reserved`` is held for what runs now."""

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="credit_account"
    )
    available = models.BigIntegerField(default=0)
    reserved = models.BigIntegerField(default=0)
    spent = models.BigIntegerField(default=0)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        constraints = (
            models.CheckConstraint(condition=models.Q(available__gte=0), name="credits_available_not_negative"),
            models.CheckConstraint(condition=models.Q(reserved__gte=0), name="credits_reserved_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.owner}: {self.available} credits"


class CreditEntry(models.Model):
    """One transfer of credits of a user; append-only, so that the entries explain every balance.

    ``kind`` says between what: a grant fills ``available``, a reservation moves to ``reserved``, a charge from there
    to ``spent``, a refund back to ``available``, and a correction takes from ``available``. Grants
    minus corrections are what is available, reserved and spent together.
    """

    class Kind(models.TextChoices):
        """From where to where."""

        GRANT = "grant", "Grant"
        RESERVE = "reserve", "Reservation"
        CHARGE = "charge", "Charge"
        REFUND = "refund", "Refund"
        CORRECTION = "correction", "Correction"

    id = models.BigAutoField(primary_key=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="credit_entries")
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    amount = models.PositiveBigIntegerField()
    available_after = models.BigIntegerField()
    execution_id = models.UUIDField(null=True, blank=True, db_index=True)
    workflow = models.ForeignKey(Workflow, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    note = models.CharField(max_length=200, blank=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "credit entries"

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.amount}"


class Plan(models.Model):
    """How much the users and groups of a plan may do; an empty field is the limit of the installation."""

    name = models.CharField(max_length=100, unique=True)
    users = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="plans")
    groups = models.ManyToManyField("auth.Group", blank=True, related_name="plans")
    nodes = models.PositiveIntegerField(null=True, blank=True, verbose_name="nodes per workflow")
    active_workflows = models.PositiveIntegerField(null=True, blank=True)
    concurrent_executions = models.PositiveIntegerField(null=True, blank=True)
    browser_slots = models.PositiveIntegerField(null=True, blank=True, verbose_name="browsers at once")
    minimum_interval_s = models.PositiveIntegerField(null=True, blank=True, verbose_name="seconds between runs")
    maximum_duration_s = models.PositiveIntegerField(null=True, blank=True, verbose_name="seconds per execution")
    recordings_kept = models.PositiveIntegerField(null=True, blank=True)
    credits = models.PositiveIntegerField(null=True, blank=True, verbose_name="estimated credits per execution")

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class AuditEntry(models.Model):
    """Who did what to what, and by which door; append-only.

    ``owner`` is whose thing it was. Names are kept as text, so that an entry says the same after a deletion.
    """

    class Door(models.TextChoices):
        """Where somebody came in."""

        ADMIN = "admin", "Admin"
        API = "api", "API"
        COMMAND = "command", "Command line"
        SYSTEM = "system", "Flow Builder"

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    actor_name = models.CharField(max_length=200, blank=True)
    door = models.CharField(max_length=8, choices=Door.choices)
    verb = models.CharField(max_length=40)
    kind = models.CharField(max_length=40, help_text="What it was done to: workflow, credential, token, …")
    object_id = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=200, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    detail = models.JSONField(default=dict, blank=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "audit log"
        indexes = (models.Index(fields=("kind", "object_id"), name="audit_by_object"),)

    def __str__(self) -> str:
        return f"{self.actor_name or 'Flow Builder'}: {self.verb} {self.kind} {self.object_name}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store a new entry; a stored one never changes."""
        if not self._state.adding:
            raise ValidationError("an entry of the audit log is immutable")
        super().save(*args, **kwargs)
