"""A great many rows in seconds: one row is written as the product writes it, and the database copies it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.utils import timezone

from executions.models import Execution, NodeRun
from monitoring.models import Alert, AlertChannel, AlertMessage, AlertRule
from recordings.models import Recording
from tests.conftest import graph, node
from workflows.models import AuditEntry, CreditEntry, Workflow

EXECUTIONS = 100_000
WORKFLOWS = 50
FAILED_EVERY = 1_000
FIRING_EVERY = 500
PEOPLE = ("olive", "oscar")
WRITTEN = (AlertMessage, Alert, AlertRule, AlertChannel, AuditEntry, CreditEntry, Recording, NodeRun, Execution)


@dataclass(frozen=True)
class Many:
    """What there is: ``owner`` has a half of ``workflows`` and of ``executions``, ``other`` has the rest.

    The newest execution began a second ago, every other a second before the one after it; one in 1,000 failed. There are
    as many alerts, one raised when each began, with a message each; one in 500 fires and was told and taken on by nobody.
    """

    owner: Any
    other: Any
    workflows: list[Any]
    executions: int


def copies(row: Any, source: str, values: list[Any], **columns: str) -> None:
    """Store a row like ``row`` for each row of ``source``, which is SQL; ``columns`` are SQL of what differs."""
    table, key = row._meta.db_table, row._meta.pk.column
    names = [field.column for field in row._meta.concrete_fields if field.column != key or key in columns]
    taken = ", ".join(columns.get(name, f't."{name}"') for name in names)
    quoted = ", ".join(f'"{name}"' for name in names)
    insert = f"INSERT INTO {table} ({quoted}) SELECT {taken} FROM {table} t CROSS JOIN {source} WHERE t.{key} = %s"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":  # which would check each reference of each row
            cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(insert, [*values, _stored(row, row.pk)])
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL session_replication_role = origin")


def _stored(row: Any, value: Any) -> Any:
    return row._meta.pk.get_db_prep_value(value, connection)


def _counted(count: int) -> str:
    if connection.vendor == "postgresql":
        return f"generate_series(1, {count}) s(n)"
    return f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) SELECT n FROM c) s"


def _any_id() -> str:
    return "lower(hex(randomblob(16)))" if connection.vendor == "sqlite" else "gen_random_uuid()"


def _earlier(column: str) -> str:
    """Return SQL of ``column``, n seconds earlier."""
    if connection.vendor == "sqlite":
        return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f000', t.{column}, '-' || n || ' seconds')"
    return f"t.{column} - n * interval '1 second'"


def _one_of(row: Any, keys: list[Any]) -> str:
    shown = " ".join(f"WHEN {place} THEN '{_stored(row, key)}'" for place, key in enumerate(keys))
    return f"(CASE n %% {len(keys)} {shown} END)" + ("::uuid" if connection.vendor == "postgresql" else "")


def remove() -> None:
    """Empty every table that ``fill`` wrote to, and those that point at them."""
    between = [relation.m2m_db_table() for model in WRITTEN for relation in model._meta.many_to_many]
    tables = [*between, *(model._meta.db_table for model in WRITTEN)]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"TRUNCATE {', '.join(tables)} CASCADE")
        else:
            with connection.constraint_checks_disabled():
                for table in tables:
                    cursor.execute(f"DELETE FROM {table}")
    Workflow.objects.update(version=None, draft=None)
    Workflow.objects.all().delete()
    get_user_model().objects.filter(username__in=PEOPLE).delete()


@transaction.atomic
def fill(executions: int = EXECUTIONS) -> Many:
    """Store ``executions`` executions, each with a node run, a recording, a credit entry, an audit entry and an alert."""
    people = [get_user_model().objects.create(username=name, is_staff=True) for name in PEOPLE]
    workflows = []
    for number in range(WORKFLOWS):
        workflow = Workflow.objects.create(owner=people[number % 2], name=f"workflow {number:02}", status="active")
        workflow.version = workflow.save_version(graph([node("wait", "delay", Duration=0)]), author=workflow.owner)
        workflow.save()
        workflows.append(workflow)
    for person in people:
        _history(person, [workflow for workflow in workflows if workflow.owner == person], executions // 2)
    if connection.vendor == "postgresql":  # as autovacuum does within a minute
        with connection.cursor() as cursor:
            for model in WRITTEN:
                cursor.execute(f"ANALYZE {model._meta.db_table}")
    return Many(people[0], people[1], workflows, executions)


def _history(owner: Any, workflows: list[Any], count: int) -> None:
    now, first = timezone.now(), workflows[0]
    done = {"status": "completed", "started_at": now, "finished_at": now}
    execution = Execution.objects.create(
        workflow=first, version=first.version, owner=owner, trigger="manual", node_count=1, queued_at=now, **done
    )
    copies(
        execution, _counted(count - 1), [], id=_any_id(), queued_at=_earlier("queued_at"),
        finished_at=_earlier("finished_at"), started_at=_earlier("started_at"),
        workflow_id=_one_of(execution, [workflow.pk for workflow in workflows]),
        version_id=_one_of(execution, [workflow.version_id for workflow in workflows]),
        status=f"CASE n %% {FAILED_EVERY} WHEN 0 THEN 'failed' ELSE 'completed' END",
    )  # fmt: skip
    run = NodeRun.objects.create(
        execution=execution, phase_index=0, node_index=0, node_id="wait", node_type="delay", attempt=1, **done
    )
    recording = Recording.objects.create(
        execution_id=execution.pk, workflow_id=first.pk, workflow_name=first.name, user_id=owner.pk, status="completed",
        success=True, started_at=now, completed_at=now, event_count=6, node_count=1,
    )  # fmt: skip
    entry = CreditEntry.objects.create(
        owner=owner, kind="charge", amount=1, available_after=0, execution_id=execution.pk, workflow=first
    )
    note = AuditEntry.objects.create(
        actor=owner, actor_name=owner.username, door="api", verb="start", kind="execution", owner=owner,
        object_id=str(execution.pk),
    )  # fmt: skip
    others = f"(SELECT * FROM {Execution._meta.db_table} WHERE owner_id = %s AND id <> %s) e"
    whose = [owner.pk, _stored(execution, execution.pk)]
    copies(run, others, whose, execution_id="e.id")
    same = {"execution_id": "e.id", "workflow_id": "e.workflow_id"}
    copies(recording, others, whose, id=_any_id(), started_at="e.queued_at", **same)
    copies(entry, others, whose, at="e.queued_at", **same)
    copies(note, others, whose, at="e.queued_at", object_id="CAST(e.id AS TEXT)")
    _alerts(owner, first, others, [*whose])


def _alerts(owner: Any, workflow: Any, others: str, whose: list[Any]) -> None:
    """Store an alert of one rule for each of ``others``, and a message about each alert."""
    now = timezone.now()
    rule = AlertRule.objects.create(owner=owner, name="many fail", kind="failure_rate", threshold=20)
    channel = AlertChannel.objects.create(owner=owner, name="ops", kind="email", address="ops@example.com", data=b"x")
    rule.channels.set([channel])
    alert = Alert.objects.create(
        owner=owner, rule=rule, rule_name=rule.name, kind=rule.kind, severity="warning", workflow=workflow,
        workflow_name=workflow.name, condition=rule.condition, status="resolved", value=30, threshold=20,
        message="3 of 10 runs failed within 15 minutes (30 %)", opened_at=now, last_seen_at=now, told_at=now, resolved_at=now,
    )  # fmt: skip
    fires = f"e.number %% {FIRING_EVERY} = 0"
    copies(
        alert, others.replace("SELECT *", "SELECT *, row_number() OVER (ORDER BY queued_at) AS number"), whose, id=_any_id(),
        opened_at="e.queued_at", last_seen_at="e.queued_at", workflow_id="e.workflow_id",
        key="CAST(e.id AS TEXT)", status=f"CASE WHEN {fires} THEN 'firing' ELSE 'resolved' END",
        resolved_at=f"CASE WHEN {fires} THEN NULL ELSE e.queued_at END",
    )  # fmt: skip
    message = AlertMessage.objects.create(
        alert=alert, channel=channel, channel_name=channel.name, event="firing", status="sent", attempts=1, next_at=0,
        content={"event": "firing", "text": alert.message}, created_at=now, sent_at=now,
    )  # fmt: skip
    raised = f"(SELECT * FROM {Alert._meta.db_table} WHERE owner_id = %s AND id <> %s) a"
    copies(
        message, raised, [owner.pk, _stored(alert, alert.pk)], id=_any_id(), alert_id="a.id", created_at="a.opened_at",
        sent_at="a.opened_at",
    )  # fmt: skip
