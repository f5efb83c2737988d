"""People and one row of everything, as the product writes them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

import flowbuilder.urls  # noqa: F401  # finds the pages of all apps
from executions.models import BrowserSession, DeadLetter, Execution, NodeRun, Phase, WorkerLease
from monitoring.models import Alert, AlertChannel, AlertMessage, AlertRule
from recordings.models import Blob, BlobRef, Event, Recording, StoredFile
from tests.conftest import graph, node
from workflows import credentials, schedules, webhooks
from workflows.models import (
    ApiToken,
    AuditEntry,
    Credential,
    CreditAccount,
    CreditEntry,
    Plan,
    Schedule,
    Webhook,
    Workflow,
    WorkflowVersion,
)

DEFINITION = graph([node("wait", "delay", Duration=1), node("send", "deliver_to_webhook", Webhook_URL="http://x.test")])
SECRET = "correct horse battery staple"


@dataclass
class World:
    """One row of everything that a user owns."""

    owner: Any
    workflow: Workflow
    version: WorkflowVersion
    schedule: Schedule
    webhook: Webhook
    credential: Credential
    execution: Execution
    phase: Phase
    node_run: NodeRun
    session: BrowserSession
    letter: DeadLetter
    recording: Recording
    event: Event
    blob: Blob
    token: ApiToken
    account: CreditAccount
    entry: CreditEntry
    audit: AuditEntry
    alert: Alert

    def owned(self) -> dict[str, Any]:
        """Return the rows that have pages of their own, by ``app_model``."""
        return {
            "workflows_workflow": self.workflow,
            "workflows_workflowversion": self.version,
            "workflows_webhook": self.webhook,
            "workflows_credential": self.credential,
            "executions_execution": self.execution,
            "executions_phase": self.phase,
            "executions_noderun": self.node_run,
            "executions_browsersession": self.session,
            "executions_deadletter": self.letter,
            "recordings_recording": self.recording,
            "recordings_event": self.event,
            "recordings_blob": self.blob,
            "workflows_apitoken": self.token,
            "workflows_creditaccount": self.account,
            "workflows_creditentry": self.entry,
            "workflows_auditentry": self.audit,
            "monitoring_alert": self.alert,
            "monitoring_alertrule": self.alert.rule,
            "monitoring_alertchannel": self.alert.messages.get().channel,
        }


def make_execution(workflow: Workflow, status: str = "failed", **fields: Any) -> Execution:
    """Store an execution of ``workflow`` with its recording, as the engine leaves them."""
    now = timezone.now()
    ended = status not in ("queued", "running")
    values: dict[str, Any] = {
        "workflow": workflow, "version": workflow.version, "owner": workflow.owner, "trigger": "api",
        "status": status, "queued_at": now - timedelta(seconds=9), "started_at": now - timedelta(seconds=8),
        "finished_at": now if ended else None, "credits": 7, "phase_count": 2, "node_count": 2,
    }  # fmt: skip
    if status == "failed":
        values |= {
            "error_node": "send",
            "error": "POST http://x.test answered 503\nsecond line",
            "error_code": "network",
        }
    execution = Execution.objects.create(**{**values, **fields})
    if ended:
        Recording.objects.create(
            execution_id=execution.pk, workflow_id=workflow.pk, workflow_name=workflow.name, version_number=1,
            user_id=workflow.owner_id, trigger="api", status=status, error=execution.error, started_at=execution.queued_at,
            completed_at=now, duration_seconds=9.0, node_count=2, event_count=2, credits=7,
        )  # fmt: skip
    return execution


def make_alert(owner: Any, workflow: Workflow | None = None, name: str = "", **fields: Any) -> Alert:
    """Store an alert that fires, with its rule, its channel and the message that was sent."""
    now = timezone.now()
    name = name or f"{workflow.name if workflow else 'all'} fails"
    channel, _ = AlertChannel.objects.get_or_create(
        owner=owner, name=f"{name} mail", defaults={"kind": "email", "address": "ops@example.com", "data": b"sealed"}
    )
    rule = AlertRule.objects.create(owner=owner, name=name, kind="failure_rate", workflow=workflow, threshold=20)
    rule.channels.add(channel)
    values: dict[str, Any] = {
        "owner": owner, "rule": rule, "rule_name": name, "kind": rule.kind, "severity": rule.severity,
        "workflow": workflow, "workflow_name": workflow.name if workflow else "", "condition": rule.condition,
        "value": 40, "threshold": 20, "message": "40 % of 10 runs failed in 15 min", "told_at": now,
        "opened_at": now - timedelta(minutes=7), "last_seen_at": now,
    }  # fmt: skip
    alert = Alert.objects.create(**{**values, **fields})
    AlertMessage.objects.create(
        alert=alert, channel=channel, channel_name=channel.name, event="firing", status="sent", attempts=1, next_at=0,
        created_at=now, sent_at=now,
    )  # fmt: skip
    return alert


@pytest.fixture
def make_world(db: None) -> Callable[..., World]:
    """Return a function that stores one row of everything for ``owner``."""

    def make(owner: Any, name: str) -> World:
        workflow = Workflow.objects.create(owner=owner, name=name)
        version = workflow.save_version(DEFINITION, author=owner, message="first")
        workflow.version, workflow.status = version, Workflow.Status.ACTIVE
        workflow.save()
        schedule = schedules.set_schedule(workflow, "*/15 * * * *", "Europe/Berlin")
        webhook, _ = webhooks.create(workflow, f"{name} hook")
        credential = credentials.save(owner, f"{name} login", "password", {"username": "u", "password": SECRET})
        execution = make_execution(workflow)
        now = execution.queued_at
        phase = Phase.objects.create(
            execution=execution,
            index=0,
            status="failed",
            node_count=1,
            open=0,
            failed=1,
            started_at=now,
            finished_at=now,
        )
        run = NodeRun.objects.create(
            execution=execution, phase_index=0, node_index=1, node_id="send", node_type="deliver_to_webhook",
            status="failed", attempt=1, error="answered 503", started_at=now, finished_at=now,
        )  # fmt: skip
        session = BrowserSession.objects.create(
            execution=execution, boot="b" * 32, queue="browser.b", status="closed", opened_at=now - timedelta(days=40),
            closed_at=now - timedelta(days=40),
        )  # fmt: skip
        letter = DeadLetter.objects.create(
            kind="node", execution=execution, node_id="send", error="gave up", first_failed_at=now, last_failed_at=now
        )
        sha = uuid.uuid4().hex * 2
        blob = Blob.objects.create(sha256=sha, size_bytes=12, content_type="image/jpeg")
        BlobRef.objects.create(blob=blob, execution_id=execution.pk)
        Event.objects.create(
            execution_id=execution.pk, seq=1, type="workflow_start", timestamp=int(now.timestamp() * 1e6),
            data=json.dumps({"workflow": name, "version": 1}),
        )  # fmt: skip
        event = Event.objects.create(
            execution_id=execution.pk, seq=2, type="artifact", timestamp=int(now.timestamp() * 1e6), node_id="send",
            data=json.dumps({"kind": "screenshot", "blob": sha, "content_type": "image/jpeg", "size_bytes": 12, "file": "send.jpg"}),
        )  # fmt: skip
        recording = Recording.objects.get(execution_id=execution.pk)
        token = ApiToken.objects.create(
            owner=owner, name=f"{name} token", prefix=uuid.uuid4().hex[:12], digest="d" * 64, scopes=["workflows:read"]
        )
        account, _ = CreditAccount.objects.get_or_create(owner=owner, defaults={"available": 93, "spent": 7})
        entry = CreditEntry.objects.create(
            owner=owner, kind="charge", amount=7, available_after=93, execution_id=execution.pk, workflow=workflow
        )
        noted = AuditEntry.objects.create(
            actor=owner, actor_name=owner.get_username(), door="admin", verb="activate", kind="workflow",
            object_id=str(workflow.pk), object_name=name, owner=owner, detail={"version": 1},
        )  # fmt: skip
        alert = make_alert(owner, workflow)
        return World(
            owner,
            workflow,
            version,
            schedule,
            webhook,
            credential,
            execution,
            phase,
            run,
            session,
            letter,
            recording,
            event,
            blob,
            token,
            account,
            entry,
            noted,
            alert,
        )

    return make


@pytest.fixture
def shared_rows(db: None) -> None:
    """Store what belongs to nobody."""
    WorkerLease.objects.create(
        boot="w" * 32, hostname="host", pid=1, queues="control,default,browser", slots=8, pages=1200, chromium_starts=3,
        started_at=timezone.now() - timedelta(days=40), beat_at=int(timezone.now().timestamp() * 1e6) - 100_000_000,
    )  # fmt: skip
    StoredFile.objects.create(name="file", content=b"bytes")
    Plan.objects.create(name="Small", nodes=20)


@pytest.fixture
def carol(django_user_model: Any) -> Any:
    """A second person who is not a superuser."""
    return django_user_model.objects.create_user("carol", password="carol-password", is_staff=True)


def logged_in(user: Any) -> Client:
    """Return a client of ``user``."""
    client = Client()
    client.force_login(user)
    return client


class Inline(HTMLParser):
    """Collects what a strict policy refuses: inline scripts and styles and event attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.refused: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what is refused in a tag."""
        names = dict(attrs)
        self.refused += [f"<{tag} {name}>" for name in names if name == "style" or name.startswith("on")]
        if tag == "style":
            self.refused.append("<style>")
        self._inside = tag == "script" and "src" not in names and names.get("type") != "application/json"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave a script."""
        self._inside = False

    def handle_data(self, data: str) -> None:
        """Collect the text of a script."""
        if self._inside:
            self.scripts[-1] += data


def inline(html: str) -> Inline:
    """Return what is inline in ``html``."""
    parser = Inline()
    parser.feed(html)
    return parser
