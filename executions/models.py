"""Executions, their phases and node runs, and who is working on them.

``store`` writes most of these rows by plain SQL; what it writes are integers for leases (microseconds
since the epoch), aware datetimes for what people read, and JSON text for payloads.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler

from executions import states
from workflows import access

if TYPE_CHECKING:
    _Lookup = models.Lookup[Any]
else:
    _Lookup = models.Lookup


@models.CharField.register_lookup
class OneOf(_Lookup):
    """``status__one_of=…``: like ``in``, with the values in the SQL itself and in their order.

    SQLite takes a partial index only when the query says the condition of that index word for word.
    """

    lookup_name = "one_of"
    prepare_rhs = False

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        """Return SQL for either database.

        Raises:
            ValueError: a value is no plain name.
        """
        column, parameters = self.process_lhs(compiler, connection)
        if not all(value.isidentifier() for value in self.rhs):
            raise ValueError(f"one_of takes names of statuses, not {self.rhs!r}")
        values = ", ".join(f"'{value}'" for value in self.rhs)
        return f"{column} IN ({values})", tuple(parameters)


class ExecutionQuerySet(models.QuerySet[Any]):
    """Executions that a user may see."""

    def open(self) -> Self:
        """Return those that have not ended: few among all, and found by an index."""
        return self.filter(status__one_of=states.OPEN)

    def visible_to(self, user: Any) -> Self:
        """Return the rows that ``user`` may see: their own, or all with the permission to see everything."""
        return self if access.sees_everything(user) else self.filter(owner=user.pk)

    def changeable_by(self, user: Any) -> Self:
        """Return the rows that ``user`` may change: their own, or all with the permission to change everything."""
        return self if access.changes_everything(user) else self.filter(owner=user.pk)


def _choices(names: tuple[str, ...]) -> list[tuple[str, str]]:
    words = {states.QUEUED: "Pending", "api": "API", "one_time": "One-time"}
    return [(name, words.get(name, name.replace("_", " ").capitalize())) for name in names]


class Execution(models.Model):
    """One run of one version, from start to a terminal status.

    ``phase_index`` is the phase that is open (-1 before the first). ``seq`` is the number of the last
    event written; it is raised in the same UPDATE that moves the row, so numbers have no gaps.
    ``owner`` is the owner of the workflow when it started: theirs are the credentials that it uses, the credits that it
    costs and the limits that it keeps. ``started_by`` is who asked for it, null when the product did itself.
    ``published_at`` is when the start message was last sent (microseconds), null when it was not;
    ``deliveries`` counts how often a worker took it. ``held_by`` names the limit that keeps a queued
    execution from being sent, ``admitted_at`` is when it let go (microseconds).

    A child runs for one node of its ``parent`` (``parent_node``, an index of the plan): a subflow, or one turn
    of a loop, whose body is then its ``scope`` (the id of the loop node) and whose turn is in ``item``.
    ``reserved`` are the credits that were held for it at its start, null when its owner is not metered.
    ``held_since`` is since when a paused or waiting execution does not use up its time (microseconds).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workflow = models.ForeignKey("workflows.Workflow", on_delete=models.PROTECT, related_name="executions")
    version = models.ForeignKey("workflows.WorkflowVersion", on_delete=models.PROTECT, related_name="executions")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="executions")
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,  # one_execution_per_key begins with it
    )
    trigger = models.CharField(max_length=16, choices=_choices(states.TRIGGERS))
    status = models.CharField(max_length=24, choices=_choices(states.EXECUTION_STATUSES), default=states.QUEUED)
    input = models.TextField(default="{}", help_text="Trigger payload, JSON text.")
    phase_index = models.IntegerField(default=-1)
    phase_count = models.IntegerField(default=0)
    node_count = models.IntegerField(default=0)
    seq = models.IntegerField(default=0)
    depth = models.SmallIntegerField(default=0)
    cancel_requested = models.BooleanField(default=False)
    credits = models.IntegerField(default=0)
    reserved = models.BigIntegerField(null=True, blank=True)
    error = models.TextField(blank=True, default="")
    error_code = models.CharField(max_length=40, blank=True, default="")
    error_node = models.CharField(max_length=200, blank=True, default="")
    queued_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    scheduled_for = models.DateTimeField(null=True, blank=True)
    published_at = models.BigIntegerField(null=True, blank=True)
    publish_count = models.SmallIntegerField(default=0)
    touched_at = models.BigIntegerField(default=0)
    deadline_at = models.BigIntegerField(null=True, blank=True)
    idempotency_key = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001 - NULLs are never equal
    deliveries = models.SmallIntegerField(default=0)
    priority = models.SmallIntegerField(default=5, choices=[(0, "High"), (5, "Normal"), (9, "Low")])
    held_by = models.CharField(max_length=16, blank=True, default="")
    held_since = models.BigIntegerField(null=True, blank=True)
    admitted_at = models.BigIntegerField(null=True, blank=True)
    concurrency_key = models.CharField(max_length=200, blank=True, default="")
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.CASCADE, related_name="children")
    parent_node = models.IntegerField(null=True, blank=True)
    child_index = models.IntegerField(null=True, blank=True)
    scope = models.CharField(max_length=200, blank=True, default="")
    item = models.TextField(blank=True, default="", help_text="The turn of a loop, JSON text.")
    variables = models.TextField(blank=True, default="", db_default="", help_text="What nodes set, JSON text.")
    retry_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries")

    objects = ExecutionQuerySet.as_manager()

    class Meta:
        ordering = ("-queued_at",)
        constraints = (
            models.UniqueConstraint(fields=("workflow", "scheduled_for"), name="one_execution_per_due_instant"),
            models.UniqueConstraint(fields=("started_by", "idempotency_key"), name="one_execution_per_key"),
            models.UniqueConstraint(fields=("parent", "parent_node", "child_index"), name="one_child_per_turn"),
        )
        indexes = (
            models.Index(fields=("workflow", "-queued_at"), name="execution_by_workflow"),
            models.Index(fields=("owner", "-queued_at"), name="execution_by_owner"),
            models.Index(fields=("-queued_at",), name="execution_newest"),
            models.Index(
                fields=("status", "touched_at"),
                name="execution_open",
                condition=models.Q(status__in=states.OPEN),
            ),
            models.Index(
                fields=("held_by", "status", "workflow"),
                name="execution_admitted",
                condition=models.Q(parent=None, status__in=states.OPEN),
            ),
            models.Index(
                fields=("workflow", "priority", "queued_at"),
                name="execution_held",
                condition=models.Q(status=states.QUEUED, held_by__gt=""),
            ),
            models.Index(
                fields=("workflow", "started_at"),
                name="execution_by_rate",
                condition=models.Q(admitted_at__isnull=False),
            ),
            models.Index(fields=("-queued_at", "-id"), name="execution_roots", condition=models.Q(parent=None)),
            models.Index(
                fields=("owner", "-queued_at", "-id"), name="execution_roots_by_owner", condition=models.Q(parent=None)
            ),
            models.Index(
                fields=("workflow", "finished_at", "status", "parent", "credits"),
                name="execution_ended",
                condition=models.Q(finished_at__isnull=False),
            ),
            models.Index(
                fields=("workflow", "scope", "-finished_at"),
                name="execution_completed",
                condition=models.Q(status=states.COMPLETED),
            ),
            models.Index(
                fields=("touched_at", "id"),
                name="execution_counted",
                condition=models.Q(finished_at__isnull=False),
            ),
            models.Index(
                fields=("touched_at",),
                name="execution_page_lost",
                condition=models.Q(error_code__in=("session_lost",)),
            ),
        )

    def __str__(self) -> str:
        return f"{str(self.id)[:8]} {self.status}"

    @property
    def is_terminal(self) -> bool:
        """Return whether the execution has ended."""
        return self.status in states.TERMINAL

    @property
    def duration_ms(self) -> int | None:
        """Return milliseconds from queued to terminal, or None while it runs."""
        if self.finished_at is None:
            return None
        return round((self.finished_at - self.queued_at).total_seconds() * 1000)


class Phase(models.Model):
    """The nodes of an execution that run at the same time. ``open`` counts those that have not ended."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="phases")
    index = models.IntegerField()
    status = models.CharField(max_length=16, choices=_choices(states.PHASE_STATUSES), default=states.RUNNING)
    node_count = models.IntegerField()
    header_count = models.IntegerField(default=1)
    open = models.IntegerField()
    failed = models.IntegerField(default=0)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("execution", "index")
        constraints = (models.UniqueConstraint(fields=("execution", "index"), name="phase_once_per_execution"),)

    def __str__(self) -> str:
        return f"phase {self.index + 1} {self.status}"


class NodeRun(models.Model):
    """One node's run inside an execution.

    ``claim`` is a fresh id per delivery: only its holder may end the row. ``lease_until`` and
    ``retry_at`` are microseconds since the epoch in database time, as is ``dispatched_at``: when a message for the
    row was last sent, 0 for one that stayed with the process that opened its phase. ``attempt`` counts tries from 1,
    ``deliveries`` how often a worker took the row. ``outputs`` is JSON text, or empty with
    ``outputs_blob`` naming the blob that holds it.

    A waiting row is held by no process: ``wait_kind`` says what it waits for, ``wake_at`` (microseconds) when it
    wakes at the latest, ``wait_state`` (JSON text) is what the node keeps until then, ``resume`` (JSON text) what
    woke it. ``children_ended`` counts the ends of its child executions.

    ``cpu_seconds`` and ``peak_memory_bytes`` are what it used since a worker last took it, null where that cannot be told
    (``executions.samples``).
    """

    TIMER, APPROVAL, CHILDREN = "timer", "approval", "children"
    REMOVED = '{"$removed":true}'
    """What ``outputs`` says once the blob with them went, together with the recording."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="node_runs")
    phase_index = models.IntegerField()
    node_index = models.IntegerField()
    iteration = models.IntegerField(default=0)
    node_id = models.CharField(max_length=200)
    node_type = models.CharField(max_length=100)
    status = models.CharField(max_length=16, choices=_choices(states.NODE_RUN_STATUSES), default=states.QUEUED)
    attempt = models.IntegerField(default=0)
    deliveries = models.IntegerField(default=0)
    claim = models.CharField(max_length=32, blank=True, default="")
    worker = models.CharField(max_length=32, blank=True, default="")
    lease_until = models.BigIntegerField(default=0)
    retry_at = models.BigIntegerField(null=True, blank=True)
    session = models.CharField(max_length=100, blank=True, default="")
    queue = models.CharField(max_length=100, blank=True, default="")
    dispatched_at = models.BigIntegerField(default=0)
    outputs = models.TextField(default="", blank=True)
    outputs_blob = models.CharField(max_length=64, blank=True, default="")
    error = models.TextField(blank=True, default="")
    error_code = models.CharField(max_length=40, blank=True, default="")
    credits = models.IntegerField(default=0)
    wait_kind = models.CharField(
        max_length=8, blank=True, default="", db_default="",
        choices=[(k, k.capitalize()) for k in (TIMER, APPROVAL, CHILDREN)],
    )  # fmt: skip
    wake_at = models.BigIntegerField(null=True, blank=True)
    wait_state = models.TextField(blank=True, default="", db_default="")
    resume = models.TextField(blank=True, default="", db_default="")
    children_ended = models.IntegerField(default=0, db_default=0)
    cpu_seconds = models.FloatField(null=True, blank=True)
    peak_memory_bytes = models.BigIntegerField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("execution", "phase_index", "node_index", "iteration")
        constraints = (
            models.UniqueConstraint(
                fields=("execution", "node_index", "iteration"), name="node_run_once_per_iteration"
            ),
        )
        indexes = (
            models.Index(
                fields=("lease_until",),
                name="node_run_leased",
                condition=models.Q(status__in=(states.RUNNING, states.RETRYING)),
            ),
            models.Index(fields=("dispatched_at",), name="node_run_queued", condition=models.Q(status=states.QUEUED)),
            models.Index(fields=("wake_at",), name="node_run_waiting", condition=models.Q(status=states.WAITING)),
        )

    def __str__(self) -> str:
        return f"{self.node_id} {self.status}"

    @property
    def duration_ms(self) -> int | None:
        """Return milliseconds from start to end, or None while it runs or when it never started."""
        if self.started_at is None or self.finished_at is None:
            return None
        return round((self.finished_at - self.started_at).total_seconds() * 1000)


class WorkerLease(models.Model):
    """One worker process. ``boot`` is new at every start; ``beat_at`` is its last sign of life (microseconds).

    ``stale`` counts the messages that it took and that found nothing to do, ``pages`` the browser pages that it opened
    and ``chromium_starts`` how often it started Chromium for them, all as of its last sign of life. So are
    ``disk_percent`` and ``memory_percent``, which say how full its machine is (``machine``), null when not known.
    """

    boot = models.CharField(primary_key=True, max_length=32)
    hostname = models.CharField(max_length=200)
    pid = models.IntegerField()
    queues = models.CharField(max_length=500, blank=True)
    slots = models.IntegerField(default=0)
    busy = models.IntegerField(default=0)
    stale = models.BigIntegerField(default=0, db_default=0)
    pages = models.BigIntegerField(default=0, db_default=0)
    chromium_starts = models.BigIntegerField(default=0, db_default=0)
    disk_percent = models.FloatField(null=True, blank=True)
    memory_percent = models.FloatField(null=True, blank=True)
    started_at = models.DateTimeField()
    beat_at = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}"

    @property
    def browser_hit_rate(self) -> float | None:
        """Return the share of pages that found Chromium running, 0 to 1; None when no page was opened."""
        return None if not self.pages else max(0.0, 1 - self.chromium_starts / self.pages)


class LostWorker(models.Model):
    """A worker process that ended without saying so: killed, crashed, or silent for an hour.

    ``lost_at`` is when that was found (microseconds of the database). Kept for ``reconcile.LOST_KEPT_DAYS``.
    """

    boot = models.CharField(primary_key=True, max_length=32)
    hostname = models.CharField(max_length=200)
    pid = models.IntegerField()
    queues = models.CharField(max_length=500, blank=True)
    lost_at = models.BigIntegerField(db_index=True)

    class Meta:
        ordering = ("-lost_at",)

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid}"


class PageQuerySet(models.QuerySet[Any]):
    """Browser sessions by the process that holds them."""

    def held(self, boot: str) -> Self:
        """Return the sessions that the process ``boot`` holds."""
        return self.filter(boot=boot, status__in=(BrowserSession.OPENING, BrowserSession.LIVE))


class BrowserSession(models.Model):
    """A browser context of one execution and the worker process that holds it.

    ``chromium_pid`` and ``chromium_started`` (kernel start time) name the process group to end when its
    worker is gone; ``profile_dir`` is removed with it.
    """

    OPENING, LIVE, CLOSED, LOST = "opening", "live", "closed", "lost"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="browser_sessions")
    name = models.CharField(max_length=100, default="main")
    boot = models.CharField(max_length=32, db_index=True)
    queue = models.CharField(max_length=100)
    status = models.CharField(
        max_length=8, choices=[(s, s.capitalize()) for s in (OPENING, LIVE, CLOSED, LOST)], default=OPENING
    )
    chromium_pid = models.IntegerField(null=True, blank=True)
    chromium_started = models.BigIntegerField(null=True, blank=True)
    profile_dir = models.CharField(max_length=500, blank=True, default="")
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    objects = PageQuerySet.as_manager()

    class Meta:
        ordering = ("-opened_at",)
        constraints = (
            models.UniqueConstraint(fields=("execution", "name"), name="browser_session_once_per_execution"),
        )
        indexes = (
            models.Index(
                fields=("boot",), name="browser_session_open", condition=models.Q(status__in=("opening", "live"))
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.status}"


class LetterQuerySet(models.QuerySet[Any]):
    """Dead letters that a user may see."""

    def visible_to(self, user: Any) -> Self:
        """Return the letters of ``user``'s executions and workflows, or all with the permission to see everything."""
        return self if access.sees_everything(user) else self.owned_by(user)

    def changeable_by(self, user: Any) -> Self:
        """Return the letters of ``user``, or all with the permission to change everything."""
        return self if access.changes_everything(user) else self.owned_by(user)

    def owned_by(self, user: Any) -> Self:
        """Return the letters of ``user``'s executions and workflows."""
        mine = models.Q(execution__owner=user.pk)
        return self.filter(mine | models.Q(execution__isnull=True, workflow__owner=user.pk))


class DeadLetter(models.Model):
    """Something that used up its deliveries and waits for a person; ``replayed_as`` is what became of it."""

    OPEN, REPLAYED, DISCARDED = "open", "replayed", "discarded"

    kind = models.CharField(
        max_length=16, choices=[(k, k.capitalize()) for k in ("start", "node", "schedule", "message")]
    )
    execution = models.ForeignKey(
        Execution, null=True, blank=True, on_delete=models.CASCADE, related_name="dead_letters"
    )
    workflow = models.ForeignKey(
        "workflows.Workflow", null=True, blank=True, on_delete=models.CASCADE, related_name="dead_letters"
    )
    node_id = models.CharField(max_length=200, blank=True, default="")
    payload = models.TextField(default="{}", help_text="What was to be done, JSON text.")
    error = models.TextField(blank=True, default="")
    deliveries = models.IntegerField(default=0)
    status = models.CharField(
        max_length=10, choices=[(s, s.capitalize()) for s in (OPEN, REPLAYED, DISCARDED)], default=OPEN
    )
    first_failed_at = models.DateTimeField()
    last_failed_at = models.DateTimeField()
    replayed_as = models.ForeignKey(Execution, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    handled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    handled_at = models.DateTimeField(null=True, blank=True)

    objects = LetterQuerySet.as_manager()

    class Meta:
        ordering = ("-last_failed_at",)

    def __str__(self) -> str:
        return f"{self.kind} {self.node_id or self.execution_id}"

    @property
    def owner_id(self) -> Any:
        """Return the key of the user whose execution or workflow it is about, None when that is gone."""
        thing = self.execution or self.workflow
        return None if thing is None else thing.owner_id
