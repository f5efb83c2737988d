"""Generated requests over the whole OpenAPI document: every answer is a documented one, and none is a 5xx.

Half of them come with a login, half with a token. Ids in addresses and bodies are those of things that exist most of
the time, because a request about nothing only shows the 404.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as effort
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from executions import letters
from executions.models import Execution, NodeRun
from executions.triggers import start_execution
from flowbuilder.api import api
from monitoring.alerts import channels
from recordings.blobs import save_blob
from recordings.database import DatabaseRecordingStorage
from tests.admin.conftest import make_alert
from tests.conftest import graph, node
from tests.executions.edge_nodes import run_here
from tests.recordings.conftest import record_run
from workflows import credentials, credits, schedules, tokens, webhooks

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # the client closes no downloads
]

ONLY_OF = {"before": "executions", "kind": "credentials"}
"""Names that mean something else in other addresses than these."""
FEW, MANY = 14, 80
"""Requests per operation in the suite, and with ``--slow``."""

schema = schemathesis.openapi.from_dict(json.loads(json.dumps(api.get_openapi_schema(path_prefix="/api/v1/"))))
schema.app = get_wsgi_application()
seen: Counter[int] = Counter()
answered: Counter[str] = Counter()
tried: set[str] = set()
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATIONS = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]


class World:
    """A user with one of everything, and the two ways to come in."""

    def __init__(self, owner: Any, make_workflow: Any) -> None:
        self.owner = owner
        login = {"cookies": {"sessionid": _session(owner), "csrftoken": "a" * 32}, "headers": {"X-CSRFToken": "a" * 32}}
        token = {"headers": {"Authorization": f"Bearer {tokens.create(owner, 'fuzz', ['*'])[1]}"}}
        self.ways: tuple[dict[str, Any], ...] = (login, token)
        shape = graph([node("ask", "approval", Title="Send it?")])
        self.workflow = make_workflow(shape, name="asks", owner=owner)
        self.workflow.save_version(graph([node("ask", "approval", Title="Really?")]), author=owner)
        schedules.set_schedule(self.workflow, "0 9 * * *", "UTC")
        self.webhook, _ = webhooks.create(self.workflow, "orders")
        self.execution = run_here(start_execution(self.workflow, by=owner).pk)
        ended = Execution.objects.create(
            workflow=self.workflow, version=self.workflow.version, owner=owner, trigger="manual", status="failed",
            node_count=1, queued_at=timezone.now(), finished_at=timezone.now(), error_node="ask",
        )  # fmt: skip
        NodeRun.objects.create(
            execution=ended, phase_index=0, node_index=0, node_id="ask", node_type="approval", status="failed"
        )
        self.letter = letters.keep("start", "the worker died", {"n": 1}, execution_id=ended.pk)
        self.credential = credentials.save(owner, "shop", "password", {"password": "hunter2!"})
        self.token = tokens.create(owner, "other", ["workflows:read"])[0]
        credits.grant(owner, 1_000_000)
        self.recording = DatabaseRecordingStorage(owner).save_sync(record_run())
        blob = save_blob(b"a page", "text/html", self.execution.pk)
        alert = make_alert(owner, self.workflow)
        channel = channels.save(owner, "hook", "webhook", "http://10.9.9.9/hook")  # which is refused
        self.values: dict[str, list[Any]] = {
            "workflow_id": [self.workflow.pk],
            "webhook_id": [self.webhook.pk],
            "execution_id": [self.execution.pk, ended.pk],
            "execution": [self.execution.pk],
            "before": [ended.pk],
            "recording_id": [UUID(self.recording)],
            "other_id": [UUID(self.recording)],
            "credential_id": [self.credential.pk],
            "token_id": [self.token.pk],
            "letter_id": [self.letter.pk],
            "alert_id": [alert.pk],
            "rule_id": [alert.rule_id],
            "channel_id": [channel.pk],
            "node_id": ["ask"],
            "number": [1, 2],
            "sha256": [blob],
            "event": ["1"],
        }
        self.bodies: dict[str, list[Any]] = {
            "workflow_id": [self.workflow.pk],
            "version": [None, 1],
            "scopes": [["workflows:read"]],
            "cron": ["0 9 * * *"],
            "timezone": ["UTC"],
            "kind": ["password"],
            "fields": [{"username": "u", "password": "hunter2!"}],
            "channel_ids": [[str(channel.pk)]],
            "window_s": [900],
            "address": ["https://example.com/hook"],
        }

    def put_in(self, case: Any, draw: int) -> None:
        """Let a generated request be about things that exist, four times of five."""
        if draw % 5 == 0:
            return
        for place, known in ((case.path_parameters, self.values), (case.query, self.values), (case.body, self.bodies)):
            if isinstance(place, dict):
                for name in place.keys() & known.keys():
                    if ONLY_OF.get(name, "") in case.path:
                        place[name] = _plain(known[name][draw % len(known[name])])
        if isinstance(case.body, dict) and "definition" in case.body and draw % 3:
            case.body["definition"] = graph([node("wait", "delay", Duration=draw % 7)])
            case.body.pop("credentials", None)
            case.headers.pop("If-Match", None)
            if "base_version" in case.body:
                case.body["base_version"] = self.workflow.versions.count()
            if "name" in case.body:
                case.body["name"] = f"name {draw}"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def _session(owner: Any) -> str:
    client = Client()
    client.force_login(owner)
    return client.cookies["sessionid"].value


@pytest.fixture
def world(bob: Any, make_workflow: Any, settings: Any) -> World:
    settings.ALLOWED_HOSTS = ["localhost"]
    return World(bob, make_workflow)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_fault_51_every_answer_is_a_documented_one(operation: Any, world: World, pytestconfig: pytest.Config) -> None:
    cases = MANY if pytestconfig.getoption("--slow") else FEW

    @seed(zlib.crc32(operation.label.encode()))
    @given(case=operation.as_strategy())
    @effort(
        max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck), database=None,
        phases=(Phase.explicit, Phase.generate),
    )  # fmt: skip
    def check(case: Any) -> None:
        draw = sum(seen.values())
        world.put_in(case, draw)
        case.headers.pop("Authorization", None)  # generated ones; who may come in is what other tests are about
        case.cookies.clear()
        answer = case.call(base_url="http://localhost", **world.ways[draw % 2])
        case.validate_response(answer, checks=CHECKS)

        assert answer.status_code not in (401, 429), answer.content
        seen[answer.status_code] += 1
        tried.add(operation.label)
        if answer.status_code < 400:
            answered[operation.label] += 1

    check()


def test_the_requests_before_reached_what_they_were_about(capsys: pytest.CaptureFixture[str]) -> None:
    if len(tried) < len(OPERATIONS):
        pytest.skip("counts only when every operation was asked")
    with capsys.disabled():
        counts = ", ".join(f"{count:,} x {status}" for status, count in sorted(seen.items()))
        print(f"\n{sum(seen.values()):,} requests to {len(OPERATIONS)} operations: {counts}")

    # Some need a thing in a state that an earlier request may have ended, or more luck than a few tries bring.
    assert len(tried - set(answered)) <= len(OPERATIONS) // 5, tried - set(answered)
    assert sum(count for status, count in seen.items() if status < 400) > sum(seen.values()) / 3
