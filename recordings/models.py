"""Event rows (the write-ahead log of every execution), finished recordings, and blobs.

Nothing here points at an execution by foreign key: a recording outlives the tables that made it.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler

if TYPE_CHECKING:
    _Lookup = models.Lookup[Any]
else:
    _Lookup = models.Lookup
_Sql = tuple[str, list[Any]]


@models.JSONField.register_lookup
class HasElement(_Lookup):
    """``tags__has_element="text"``: whether a JSON list has this text."""

    lookup_name = "has_element"
    prepare_rhs = False

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> _Sql:
        """Return SQL for SQLite."""
        column, values = self.process_lhs(compiler, connection)
        found = f"EXISTS (SELECT 1 FROM json_each({column}) WHERE value = %s)"  # noqa: S608 - the text is a parameter
        return found, [*values, self.rhs]

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> _Sql:
        """Return SQL for PostgreSQL."""
        column, values = self.process_lhs(compiler, connection)
        return f"{column} @> %s::jsonb", [*values, json.dumps([self.rhs])]


SEE_EVERYTHING = "workflows.see_everything"
CHANGE_EVERYTHING = "workflows.change_everything"
"""The permissions to see, and besides to change, what belongs to others."""


class RecordingQuerySet(models.QuerySet[Any]):
    """Recordings that a user may see."""

    def visible_to(self, user: Any) -> Self:
        """Return the rows that ``user`` may see: their own, or all with the permission to see everything."""
        return self if user.has_perm(SEE_EVERYTHING) else self._of(user)

    def changeable_by(self, user: Any) -> Self:
        """Return the rows that ``user`` may change: their own, or all with the permission to change everything."""
        return self if user.has_perms((SEE_EVERYTHING, CHANGE_EVERYTHING)) else self._of(user)

    def _of(self, user: Any) -> Self:
        return self.none() if user.pk is None else self.filter(user_id=user.pk)


class Event(models.Model):
    """One thing that happened. Key is ``(execution_id, seq)``; ``seq`` starts at 1 and has no gaps.

    ``timestamp`` is microseconds since the epoch. ``data`` is JSON text; a ``node_complete`` row holds
    ``{"$outputs": true}`` instead of outputs that its node run stores.
    """

    execution_id = models.UUIDField()
    seq = models.IntegerField()
    type = models.CharField(max_length=32)
    timestamp = models.BigIntegerField()
    node_id = models.CharField(max_length=200, blank=True, default="")
    depth = models.SmallIntegerField(default=0)
    data = models.TextField(default="{}")

    class Meta:
        ordering = ("execution_id", "seq")
        constraints = (models.UniqueConstraint(fields=("execution_id", "seq"), name="event_once_per_seq"),)

    def __str__(self) -> str:
        return f"{self.seq} {self.type}"


class Recording(models.Model):
    """The saved, ordered events of one execution: the index row; the events are rows, then a sealed blob.

    ``sealed`` is the SHA-256 of the sealed file, empty until it is sealed. ``events_removed_at`` is when
    the event rows went. ``written_at`` is when a program that still writes added events last. ``details`` is JSON text of what the metadata says beyond the columns, or ``""``.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    execution_id = models.UUIDField(null=True, blank=True, unique=True)
    workflow_id = models.UUIDField(null=True, blank=True, db_index=True)
    workflow_name = models.CharField(max_length=200)
    version_number = models.IntegerField(null=True, blank=True)
    user_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    trigger = models.CharField(max_length=16, blank=True, default="")
    status = models.CharField(max_length=24, blank=True, default="")
    success = models.BooleanField(null=True, blank=True)
    error = models.TextField(blank=True, default="")
    tags = models.JSONField(default=list, blank=True)
    started_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True, blank=True)
    duration_seconds = models.FloatField(null=True, blank=True)
    node_count = models.IntegerField(default=0)
    team_count = models.IntegerField(default=0)
    recursion_max_depth = models.IntegerField(default=0)
    event_count = models.IntegerField(default=0)
    credits = models.IntegerField(default=0)
    file_size_bytes = models.BigIntegerField(null=True, blank=True)
    checksum = models.CharField(max_length=64, blank=True, default="")
    sealed = models.CharField(max_length=64, blank=True, default="")
    sealed_at = models.DateTimeField(null=True, blank=True)
    written_at = models.DateTimeField(null=True, blank=True)
    events_removed_at = models.DateTimeField(null=True, blank=True)
    kept_because = models.CharField(max_length=120, blank=True, default="", db_default="")
    details = models.TextField(blank=True, default="", db_default="")

    objects = RecordingQuerySet.as_manager()

    class Meta:
        ordering = ("-started_at",)
        indexes = (
            models.Index(fields=("-started_at",), name="recording_newest"),
            models.Index(fields=("workflow_name",), name="recording_of_workflow"),
            models.Index(fields=("completed_at",), name="recording_unsealed", condition=models.Q(sealed="")),
        )

    def __str__(self) -> str:
        return f"{self.workflow_name} {str(self.id)[:8]}"

    @property
    def run_id(self) -> uuid.UUID:
        """The id under which its event rows and blobs are kept: of the execution, its own where there was none."""
        return self.execution_id or self.id


class NotRecorded(models.Model):
    """Why an ended execution has no recording, and what still has to be removed of it.

    ``recording`` is JSON text with the columns that its recording would have; while it is there, the
    execution may still be kept. ``events_removed_at`` is when its events and blobs were gone.
    """

    execution_id = models.UUIDField(primary_key=True)
    reason = models.CharField(max_length=200)
    ended_at = models.DateTimeField()
    recording = models.TextField(blank=True, default="")
    node_count = models.IntegerField(default=0)
    event_count = models.IntegerField(default=0)
    credits = models.IntegerField(default=0)
    events_removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "executions without recording"
        indexes = (
            models.Index(fields=("ended_at",), name="not_recorded_events", condition=models.Q(events_removed_at=None)),
        )

    def __str__(self) -> str:
        return f"{str(self.execution_id)[:8]} {self.reason}"


class Blob(models.Model):
    """Bytes named by their SHA-256, stored once. ``content`` is used only by the database storage."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    size_bytes = models.BigIntegerField()
    content_type = models.CharField(max_length=100, default="application/octet-stream")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.sha256[:12]


class BlobRef(models.Model):
    """Which execution uses which blob, so that unused ones can be removed."""

    blob = models.ForeignKey(Blob, on_delete=models.CASCADE, related_name="refs")
    execution_id = models.UUIDField(db_index=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("blob", "execution_id"), name="blob_ref_once"),)

    def __str__(self) -> str:
        return f"{self.blob_id} {self.execution_id}"


class StoredFile(models.Model):
    """A file of the ``blobs`` storage kept in the database, for installations with several hosts."""

    name = models.CharField(primary_key=True, max_length=200)
    content = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name
