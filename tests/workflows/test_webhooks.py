"""Webhooks: signed requests from strangers that start a workflow, each once, and whatever else strangers may send."""

from __future__ import annotations

import gzip
import hmac
import http.client
import io
import json
import re
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import zstandard
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from executions import deliveries
from executions.models import Execution
from flowbuilder import bodies, hooks
from flowbuilder.rates import Rate
from flowbuilder.stack import free_port
from recordings.blobs import save_blob
from recordings.models import Event
from tests.conftest import Processes, flush_redis, graph, node, outputs, test_environment, wait_for
from tests.environment import ROOT
from tests.executions.edge_nodes import run_here
from workflows import credentials, credits, transfer, webhooks
from workflows.errors import CredentialError, WebhookError
from workflows.models import AuditEntry, Webhook, WebhookDelivery, Workflow

KEEP = graph([node("keep", "json_transform", Input_JSON="{{ input.body }}", Transform_Rules={"all": {"path": "$"}})])
ORDER = b'{"order": 4711}'
JSON = "application/json"
DOCUMENT = (ROOT / "docs" / "webhooks.md").read_text()


@dataclass
class Hook:
    """A webhook as its sender knows it."""

    row: Webhook
    secret: str

    @property
    def path(self) -> str:
        """Return its address without the host."""
        return f"/hooks/{self.row.token}"

    def headers(
        self, body: bytes = ORDER, *, at: float | str | None = None, secret: str = "", kind: str = JSON, **more: str
    ) -> dict[str, str]:
        """Return the headers of a signed request; underscores in the names of ``more`` stand for hyphens."""
        stamp = at if isinstance(at, str) else f"{time.time() if at is None else at:.6f}"
        signature = webhooks.sign(secret or self.secret, stamp, body)
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return {"Content-Type": kind, "X-Flow-Signature": f"t={stamp},v1={signature}", **named}

    def post(self, body: bytes = ORDER, headers: dict[str, str] | None = None, *, path: str = "", **how: Any) -> Any:
        """Send a request in this process; signed, unless it has ``headers``."""
        sent = dict(self.headers(body, **how) if headers is None else headers)
        kind = sent.pop("Content-Type", JSON)
        return Client().post(f"{self.path}{path}", body, content_type=kind, headers=sent)


@pytest.fixture
def hook(make_workflow: Any, bob: Any) -> Hook:
    """Return a webhook of a workflow of bob's that keeps what it gets."""
    return Hook(*webhooks.create(make_workflow(KEEP, name="shop", owner=bob), "orders"))


@pytest.fixture(autouse=True)
def empty_buckets() -> None:
    flush_redis()


# ---------------------------------------------------------------------- starting


@pytest.mark.row("S2-36")
@pytest.mark.redis
def test_a_signed_request_starts_the_workflow_with_its_body_and_some_headers(hook: Hook, bob: Any) -> None:
    answer = hook.post(Authorization="Bearer stolen", Cookie="sessionid=x", X_GitHub_Event="push", X_Other="no")

    assert answer.status_code == 202, answer.content
    execution = Execution.objects.get()
    assert answer.json() == {"execution_id": str(execution.pk)}
    assert (execution.trigger, execution.owner, execution.version) == ("webhook", bob, hook.row.workflow.version)
    payload = json.loads(execution.input)
    assert payload["body"] == {"order": 4711}
    assert payload["headers"] == {"content-type": JSON, "x-github-event": "push"}
    assert (payload["method"], payload["webhook"], payload["delivery"]) == ("POST", "orders", None)
    assert "stolen" not in execution.input
    hook.row.refresh_from_db()
    assert (hook.row.accepted, hook.row.refused) == (1, 0)
    assert hook.row.last_received_at is not None
    run_here(execution.pk)
    assert outputs(execution, "keep")["Result"] == {"all": {"order": 4711}}


@pytest.mark.redis
@pytest.mark.parametrize(
    ("kind", "body", "read"),
    [
        (JSON, b'[1, "a"]', [1, "a"]),
        ("application/json; charset=utf-8", "{\"größe\": 1}".encode(), {"größe": 1}),
        ("application/x-www-form-urlencoded", b"a=1&b=2&b=3&c=", {"a": "1", "b": ["2", "3"], "c": ""}),
        ("text/plain", "grüße".encode(), "grüße"),
    ],
)  # fmt: skip
def test_bodies_of_three_kinds_are_read(hook: Hook, kind: str, body: bytes, read: Any) -> None:
    assert hook.post(body, kind=kind).status_code == 202
    assert json.loads(Execution.objects.get().input)["body"] == read


@pytest.mark.redis
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, b"{"), (JSON, b" "), (JSON, b'{"a": NaN}'), (JSON, b'{"a": 1, "a": 2}'), (JSON, b'"\\u0000"'),
        (JSON, b"[" * 200 + b"]" * 200), (JSON, b"[" * 100_000), (JSON, b'"\\ud800"'), (JSON, b"\xff"),
        (JSON, b"9" * 5000),
        ("text/plain", b"\xff"), ("text/plain", b"a\x00"), ("application/x-www-form-urlencoded", b"a=%ff"),
        ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * 1001)),
    ],
)  # fmt: skip
def test_a_signed_body_that_cannot_be_kept_is_400(hook: Hook, kind: str, body: bytes) -> None:
    answer = hook.post(body, kind=kind)

    assert answer.status_code == 400, answer.content
    assert answer.json()["detail"].startswith("the body cannot be read")
    assert not Execution.objects.exists()


@pytest.mark.redis
def test_the_test_address_runs_the_newest_version_as_a_test(hook: Hook, bob: Any) -> None:
    workflow = hook.row.workflow
    draft = workflow.save_version(graph([node("wait", "delay", Duration=1)]), author=bob)
    workflow.pause()

    headers = hook.headers()
    assert hook.post(headers=headers).status_code == 409
    answer = hook.post(headers=headers, path="/test")

    assert answer.status_code == 202, answer.content
    execution = Execution.objects.get()
    assert (execution.trigger, execution.version) == ("test", draft)
    assert hook.post(headers=headers).status_code == 401, "a signature that was used for a test starts nothing else"


@pytest.mark.redis
def test_a_delivery_id_tried_at_the_test_address_is_free_at_the_other(hook: Hook) -> None:
    answers = [hook.post(X_Flow_Delivery="1", path=path).json()["execution_id"] for path in ("/test", "", "/test")]

    assert answers[0] == answers[2] != answers[1]


# ---------------------------------------------------------------------- fault 58: what strangers send


@pytest.mark.redis
def test_fault_58_an_unknown_address_answers_as_one_that_is_switched_off(hook: Hook) -> None:
    def ask(method: str = "POST") -> tuple[Any, ...]:
        with CaptureQueriesContext(connection) as queries:
            answer = Client().generic(method, hook.path, ORDER, JSON, headers=headers)
        flush_redis()
        shapes = [re.sub(r"'[\w-]{43}'", "?", query["sql"]) for query in queries]
        return answer.status_code, answer.content, sorted(answer.headers.items()), shapes

    headers = {k: v for k, v in hook.headers().items() if k != "Content-Type"}
    webhooks.change(hook.row, enabled=False)
    off = [ask(), ask("DELETE")]
    token, hook.row.token = hook.row.token, "A" * 43
    unknown = [ask(), ask("DELETE")]

    assert off == unknown
    assert off[0][:2] == (404, b'{"detail": "not found"}')
    assert len(off[0][3]) == 1, "the same single question to the database"
    hook.row.token = token
    webhooks.change(hook.row, enabled=True)
    assert ask()[0] == 202
    for odd in ("nonsense", "A" * 44, "%00" * 43, "..%2f", "a" * 5000):
        assert Client().post(f"/hooks/{odd}", ORDER, content_type=JSON).status_code == 404, odd


@pytest.mark.row("S2-36")
@pytest.mark.redis
def test_fault_58_absent_wrong_and_old_signatures_are_401_and_start_nothing(hook: Hook, make_workflow: Any) -> None:
    now = time.time()
    other = Hook(*webhooks.create(hook.row.workflow, "other"))
    good = hook.headers()["X-Flow-Signature"]
    stamp, digest = good[2:].split(",v1=")
    wrong = {
        "none": "", "nonsense": "x", "no time": f"v1={digest}", "no digest": f"t={stamp}", "cut": good[:-1],
        "longer": f"{good}0", "upper case": f"t={stamp},v1={digest.upper()}", "twice": f"{good},{good}",
        "zeros": f"t={stamp},v1={'0' * 64}", "another time": f"t={now + 1:.6f},v1={digest}", "spaces": f" t= {stamp}",
        "digits of another script": f"t=١,v1={digest}", "another secret": other.headers()["X-Flow-Signature"],
        "another body": hook.headers(b"{}")["X-Flow-Signature"],
        "the body alone": f"t={stamp},v1={webhooks.sign(hook.secret, '', ORDER)}",
        "too old": hook.headers(at=now - 301)["X-Flow-Signature"],
        "from the future": hook.headers(at=now + 900)["X-Flow-Signature"],
        "the year 5000": hook.headers(at="99999999999")["X-Flow-Signature"],
    }  # fmt: skip
    for what, text in wrong.items():
        flush_redis()
        answer = hook.post(headers={"Content-Type": JSON, "X-Flow-Signature": text})
        assert answer.status_code == 401, (what, answer.status_code)
    assert hook.post(headers={"Content-Type": JSON}).status_code == 401

    assert not Execution.objects.exists()
    hook.row.refresh_from_db()
    assert (hook.row.accepted, hook.row.refused) == (0, len(wrong) + 1)
    for away in (-290, 290, 0):
        assert hook.post(at=f"{time.time() + away:.0f}").status_code == 202, away


def test_fault_58_signatures_are_compared_in_constant_time(hook: Hook, monkeypatch: Any) -> None:
    compared: list[tuple[str, str]] = []
    compare = hmac.compare_digest

    def noted(left: str, right: str) -> bool:
        compared.append((left, right))
        return compare(left, right)

    monkeypatch.setattr("hmac.compare_digest", noted)
    webhooks.rotate(hook.row)
    for header in ("", "nonsense", f"t=1,v1={'0' * 64}", hook.headers()["X-Flow-Signature"]):
        compared.clear()
        webhooks.verify(hook.row, header, ORDER)
        assert len(compared) == 2, "with every secret, whatever the header is"
        assert {len(text) for pair in compared for text in pair} == {64}


@pytest.mark.redis
def test_fault_58_a_replayed_request_is_401_and_a_repeated_delivery_answers_its_execution(hook: Hook) -> None:
    headers = hook.headers()
    first = hook.post(headers=headers)
    flush_redis()  # what Redis knew of it is gone
    again = hook.post(headers=headers)
    claimed = hook.post(headers={**headers, "X-Flow-Delivery": "new"})
    assert [answer.status_code for answer in (first, again, claimed)] == [202, 401, 401]
    assert "accepted before" in again.json()["detail"]

    named = hook.headers(X_Flow_Delivery="order-4711")
    started = hook.post(headers=named).json()
    assert hook.post(headers=named).json() == started, "the sender got no answer and sends the same again"
    assert hook.post(X_Flow_Delivery="order-4711").json() == started, "or signs it anew"
    stolen = {**named, "X-Flow-Delivery": "order-4712"}
    assert hook.post(headers=stolen).status_code == 401
    other = hook.post(b"{}", X_Flow_Delivery="order-4711")
    assert other.status_code == 409
    assert "another body" in other.json()["detail"]
    for odd in ("x" * 201, "NUL\x00"):
        assert hook.post(X_Flow_Delivery=odd).status_code == 409

    assert Execution.objects.count() == 2
    assert WebhookDelivery.objects.count() == 2


@pytest.mark.redis
def test_deliveries_are_remembered_for_days_and_then_forgotten(hook: Hook) -> None:
    headers = hook.headers(X_Flow_Delivery="1")
    hook.post(headers=headers)
    row = WebhookDelivery.objects.get()
    assert timedelta(seconds=webhooks.TOLERANCE_SECONDS) * 10 < deliveries.KEPT

    WebhookDelivery.objects.update(received_at=timezone.now() - deliveries.KEPT + timedelta(hours=1))
    hook.post()
    assert WebhookDelivery.objects.filter(pk=row.pk).exists()
    WebhookDelivery.objects.update(received_at=timezone.now() - deliveries.KEPT)
    hook.post()
    assert not WebhookDelivery.objects.filter(pk=row.pk).exists()


@pytest.mark.redis
def test_fault_58_wrong_methods_are_405_and_other_contents_415(hook: Hook) -> None:
    webhooks.change(hook.row, methods=["post", "put"])
    for method in ("GET", "HEAD", "PATCH", "DELETE", "OPTIONS"):
        answer = Client().generic(method, hook.path, ORDER, JSON)
        assert (answer.status_code, answer["Allow"]) == (405, "POST, PUT"), method
    sent = hook.headers()
    kind = sent.pop("Content-Type")
    assert Client().put(hook.path, ORDER, content_type=kind, headers=sent).status_code == 202

    kinds = ("", "multipart/form-data; boundary=x", "text/html", "application/xml", "application/json+x", "text/json")
    for kind in (*kinds, "application/json; charset=utf-16", "application/octet-stream", "APPLICATION"):
        assert hook.post(kind=kind).status_code == 415, kind
    for packed in ("gzip", "deflate", "br", "zstd", "identity, gzip"):
        assert hook.post(Content_Encoding=packed).status_code == 415, packed
    assert Execution.objects.count() == 1


@pytest.mark.redis
def test_fault_54_compressed_bodies_are_refused_and_never_unpacked(hook: Hook, monkeypatch: Any) -> None:
    bomb = b" " * 50_000_000
    packed = {"gzip": gzip.compress(bomb), "deflate": zlib.compress(bomb), "zstd": zstandard.compress(bomb)}
    for name, body in packed.items():
        assert len(body) < bodies.LARGEST_BYTES
        assert hook.post(body, Content_Encoding=name).status_code == 415
        assert hook.post(body).status_code == 400, "without the header it is no JSON"
    assert not Execution.objects.exists()


HOSTILE = {
    "files": [{"filename": "passwd", "filepath": "/etc/passwd", "mimetype": "text/plain"}],
    "$files": {"data": "/etc/passwd"}, "file": "file:///etc/passwd",
    "$credential": "login", "deep": [{"$credential": "login", "field": "password"}],
    "$outputs": True, "$removed": True, "$secret": "login", "$event": "1", "$state": True, "$edges": True,
    "$written": True, "$type": "bytes", "$more": 1, "$omitted": {"sha256": "0"}, "$nodes": {}, "$blobs": ["x"],
    "template": "{{ vars.secret }} {{ nodes.keep.Result }}", "__proto__": {"admin": True}, "__class__": "os",
    "constructor": {"prototype": {}}, "trigger": "manual", "owner": 1, "workflow_id": "x", "version": "draft",
}  # fmt: skip


@pytest.mark.row("S2-36")
@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_fault_58_keys_that_look_like_files_credentials_or_blobs_are_plain_data(hook: Hook, bob: Any) -> None:
    secret, private = "correct horse battery staple", "what is in the blob of another execution"
    credentials.save(bob, "login", "password", {"password": secret})
    other = hook.post()
    sha = save_blob(private.encode(), "application/json", UUID(other.json()["execution_id"]))
    hostile = HOSTILE | {"$blob": sha, "value": {"$blob": sha, "size_bytes": 3}, "outputs": {"$blob": sha}}

    answer = hook.post(json.dumps(hostile).encode())
    execution = run_here(UUID(answer.json()["execution_id"]))

    assert execution.status == "completed"
    assert json.loads(execution.input)["body"] == hostile
    assert outputs(execution, "keep")["Result"] == {"all": hostile}
    client = Client()
    client.force_login(bob)
    urls = [f"executions/{execution.pk}", f"executions/{execution.pk}/nodes/keep", f"executions/{execution.pk}/logs",
            f"recordings/{execution.pk}/events", f"recordings/{execution.pk}/state?event=3",
            f"recordings/{execution.pk}/download"]  # fmt: skip
    shown = ""
    for url in urls:
        page = client.get(f"/api/v1/{url}")
        assert page.status_code == 200, (url, page.content[:300])
        shown += b"".join(page).decode("utf-8", "replace") if page.streaming else page.content.decode()
    shown += "".join(Event.objects.values_list("data", flat=True))
    assert "/etc/passwd" in shown
    for forbidden in (secret, private, "root:x:", "daemon:"):
        assert forbidden not in shown
    assert credentials.public(bob.credentials.get())["last_used_at"] is None, "nobody opened it"


@pytest.mark.redis
def test_fault_58_nobody_is_logged_in_by_a_cookie_and_none_is_set(hook: Hook, alice: Any, bob: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    headers = hook.headers()
    kind = headers.pop("Content-Type")

    with CaptureQueriesContext(connection) as queries:
        answer = client.post(hook.path, ORDER, content_type=kind, headers=headers)

    assert answer.status_code == 202
    assert Execution.objects.get().owner == bob
    assert not answer.cookies
    assert not [query for query in queries if "django_session" in query["sql"]]
    assert answer["Cache-Control"] == "no-store"


# ---------------------------------------------------------------------- when it does not start


@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_a_request_that_started_is_202_even_if_it_cannot_be_counted(hook: Hook) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the trigger is SQLite's")
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER no_count BEFORE UPDATE ON workflows_webhook BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )
    try:
        answer = hook.post()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER no_count")

    assert answer.status_code == 202
    assert answer.json()["execution_id"] == str(Execution.objects.get().pk)


@pytest.mark.redis
@pytest.mark.parametrize("move", ["pause", "archive"])
def test_a_workflow_that_is_not_active_is_409_and_the_same_request_works_later(hook: Hook, move: str) -> None:
    workflow = hook.row.workflow
    getattr(workflow, move)()
    headers = hook.headers()

    answer = hook.post(headers=headers)

    assert answer.status_code == 409
    assert f"is {workflow.status}" in answer.json()["detail"]
    assert not WebhookDelivery.objects.exists()
    Workflow.objects.update(status="active")
    assert hook.post(headers=headers).status_code == 202


@pytest.mark.redis
def test_a_draft_without_version_and_an_owner_who_is_switched_off_are_409(hook: Hook, bob: Any) -> None:
    empty = Hook(*webhooks.create(Workflow.objects.create(owner=bob, name="empty"), "a"))
    assert empty.post().status_code == empty.post(path="/test").status_code == 409

    bob.is_active = False
    bob.save()
    assert hook.post().status_code == 409
    assert not Execution.objects.exists()


@pytest.mark.redis
def test_credits_that_do_not_suffice_are_409_without_their_numbers(hook: Hook, bob: Any) -> None:
    credits.grant(bob, 1)
    Workflow.objects.get(pk=hook.row.workflow.pk)
    answers = [hook.post() for _ in range(3)]

    assert 409 in {answer.status_code for answer in answers}
    refused = answers[-1]
    assert refused.json() == {"detail": "the owner of the workflow has too few credits", "code": "insufficient_credits"}
    started = Counter(answer.status_code for answer in answers)[202]
    assert Execution.objects.count() == WebhookDelivery.objects.count() == started


@pytest.mark.redis
def test_a_start_that_its_workflow_holds_back_is_accepted(hook: Hook) -> None:
    Workflow.objects.update(settings={"concurrency": 1})

    assert [hook.post().status_code for _ in range(3)] == [202] * 3
    assert Execution.objects.count() == 3


@pytest.mark.redis
def test_a_secret_that_no_key_opens_is_503_and_a_rotation_mends_it(hook: Hook, settings: Any) -> None:
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    assert hook.post().status_code == 503
    assert hook.post()["Retry-After"]

    with pytest.raises(CredentialError):
        webhooks.rotate(hook.row)
    hook.secret = webhooks.rotate(hook.row, 0)
    assert hook.post().status_code == 202


# ---------------------------------------------------------------------- fault 73: floods


@pytest.mark.redis
@pytest.mark.row("S2-36")
def test_fault_73_a_webhook_flood_ends_in_429_and_others_are_served(rates: Any, hook: Hook, bob: Any) -> None:
    rates.WEBHOOK_RATE = "5/h"
    other = Hook(*webhooks.create(hook.row.workflow, "other"))

    answers = [hook.post() for _ in range(12)]

    assert [answer.status_code for answer in answers] == [202] * 5 + [429] * 7
    assert 0 < int(answers[-1]["Retry-After"]) <= 720
    assert answers[-1].json()["code"] == "rate_limited"
    assert Execution.objects.count() == WebhookDelivery.objects.count() == 5
    assert other.post().status_code == 202
    page = Client()
    page.force_login(bob)
    assert page.get("/api/v1/workflows").status_code == 200


@pytest.mark.redis
def test_fault_73_a_flood_without_a_signature_ends_in_429_and_signed_requests_go_on(
    rates: Any, hook: Hook, monkeypatch: Any
) -> None:
    monkeypatch.setattr(hooks, "BAD_REQUESTS", Rate(30, 3600))  # as many, but none comes back while this runs
    bad = {"Content-Type": JSON, "X-Flow-Signature": f"t=1,v1={'0' * 64}"}

    statuses = [hook.post(headers=bad).status_code for _ in range(50)]

    assert statuses == [401] * 30 + [429] * 20
    hook.row.refresh_from_db()
    assert hook.row.refused == statuses.count(401), "what is thrown away costs no write"
    assert Client().post(f"/hooks/{'A' * 43}", ORDER, content_type=JSON).status_code == 429
    assert hook.post().status_code == 202, "from the same address, but signed"


# ---------------------------------------------------------------------- secrets


@pytest.mark.redis
def test_after_a_rotation_the_old_secret_is_good_for_its_grace_only(hook: Hook) -> None:
    old = hook.secret
    new = webhooks.rotate(hook.row, 2)
    assert new != old
    assert hook.post(secret=old).status_code == hook.post(secret=new).status_code == 202
    shown = webhooks.public(hook.row)["old_secret_until"]
    assert timedelta(hours=1.9) < shown - timezone.now() <= timedelta(hours=2)

    Webhook.objects.update(old_until=timezone.now() - timedelta(seconds=1))
    assert hook.post(secret=old).status_code == 401
    assert hook.post(secret=new).status_code == 202

    newest = webhooks.rotate(hook.row, 0)
    assert [hook.post(secret=one).status_code for one in (old, new, newest)] == [401, 401, 202]
    for hours in (-1, webhooks.LONGEST_GRACE_HOURS + 1):
        with pytest.raises(WebhookError, match="the grace is from 0 to 168 hours"):
            webhooks.rotate(hook.row, hours)


def test_when_a_workflow_gets_another_owner_the_secrets_that_the_former_one_knows_end(hook: Hook, alice: Any) -> None:
    workflow = hook.row.workflow
    old = webhooks.rotate(hook.row, 0)
    workflow.owner = alice
    workflow.save()
    hook.row.refresh_from_db()

    assert hook.post(secret=old).status_code == 202, "what sends goes on for a day"
    shown = webhooks.public(hook.row)["old_secret_until"]
    assert timedelta(hours=23.9) < shown - timezone.now() <= timedelta(hours=24)
    [entry] = AuditEntry.objects.filter(kind="webhook", verb="end secret")
    assert (entry.owner, entry.detail["grace_hours"]) == (alice, 24)

    new = webhooks.rotate(hook.row, webhooks.LONGEST_GRACE_HOURS)
    assert hook.post(secret=old).status_code == hook.post(secret=new).status_code == 202
    assert webhooks.public(hook.row)["old_secret_until"] == shown, "a rotation does not make it last longer"
    Webhook.objects.update(old_until=timezone.now() - timedelta(seconds=1))
    assert [hook.post(secret=one).status_code for one in (old, new)] == [401, 202]


def test_after_its_grace_a_webhook_of_another_owner_takes_nothing_until_it_is_rotated(hook: Hook, alice: Any) -> None:
    hook.row.workflow.owner = alice
    hook.row.workflow.save()
    Webhook.objects.update(old_until=timezone.now() - timedelta(seconds=1))
    hook.row.refresh_from_db()

    assert hook.post().status_code == 401
    new = webhooks.rotate(hook.row)
    assert [hook.post(secret=one).status_code for one in (hook.secret, new)] == [401, 202]


def test_secrets_are_stored_encrypted_bound_to_their_webhook_and_change_keys_with_credentials(
    hook: Hook, settings: Any, bob: Any
) -> None:
    credentials.save(bob, "login", "password", {"password": "hunter2!"})
    old_key, new_key = settings.CREDENTIAL_KEYS[0], Fernet.generate_key().decode()
    other = Hook(*webhooks.create(hook.row.workflow, "other"))
    assert hook.secret.encode() not in bytes(Webhook.objects.get(pk=hook.row.pk).data)
    settings.CREDENTIAL_KEYS = [new_key, old_key]
    assert credentials.rotate().rotated == 3
    settings.CREDENTIAL_KEYS = [new_key]
    hook.row.refresh_from_db()
    assert webhooks.verify(hook.row, hook.headers()["X-Flow-Signature"], ORDER) is not None

    hook.row.data = Webhook.objects.get(pk=other.row.pk).data  # a row that was copied to another one
    with pytest.raises(CredentialError):
        webhooks.verify(hook.row, other.headers()["X-Flow-Signature"], ORDER)


def test_files_copies_and_the_audit_log_hold_neither_secret_nor_address(hook: Hook, bob: Any) -> None:
    from workflows import lifecycle

    webhooks.rotate(hook.row)
    webhooks.change(hook.row, enabled=False)
    webhooks.change(hook.row, name="sales", methods=["PUT"])
    webhooks.change(hook.row, name="sales")
    copy = lifecycle.clone(hook.row.workflow, bob)
    texts = json.dumps(transfer.export(hook.row.workflow)) + str(list(AuditEntry.objects.values()))
    webhooks.delete(hook.row)

    assert hook.secret not in texts
    assert hook.row.token not in texts
    assert not copy.webhooks.exists()
    noted = AuditEntry.objects.filter(kind="webhook").order_by("id")
    assert [entry.verb for entry in noted] == ["create", "rotate", "disable", "change", "delete"]
    assert {entry.owner for entry in noted} == {bob}
    assert noted[3].detail["methods"] == ["PUT"]


@pytest.mark.parametrize(
    ("name", "methods", "reason"),
    [("", ["POST"], "needs a name"), ("x" * 201, ["POST"], "needs a name"), ("a\nb", ["POST"], "needs a name"),
     ("ok", [], "name a method"), ("ok", ["GET"], "not \"GET\""), ("orders", ["POST"], "already")],
)  # fmt: skip
def test_what_is_wrong_with_a_webhook_is_said(hook: Hook, name: str, methods: list[str], reason: str) -> None:
    with pytest.raises(WebhookError, match=reason):
        webhooks.create(hook.row.workflow, name, methods)


def test_a_workflow_has_so_many_webhooks(hook: Hook, monkeypatch: Any) -> None:
    monkeypatch.setattr(webhooks, "MOST_WEBHOOKS", 2)
    webhooks.create(hook.row.workflow, "second")
    with pytest.raises(WebhookError, match="delete one first"):
        webhooks.create(hook.row.workflow, "third")


# ---------------------------------------------------------------------- the API, the command, the admin


def test_owners_make_change_rotate_and_delete_webhooks_over_the_api(hook: Hook, bob: Any, alice: Any) -> None:
    client = Client()
    client.force_login(bob)
    base = f"/api/v1/workflows/{hook.row.workflow.pk}/webhooks"

    made = client.post(base, {"name": "new", "methods": ["PUT", "POST"]}, content_type=JSON)
    assert made.status_code == 201, made.content
    new, secret = made.json(), made.json()["secret"]
    listed = client.get(base)
    assert [one["name"] for one in listed.json()] == ["new", "orders"]
    assert secret not in listed.content.decode()
    one = f"{base}/{new['id']}"
    changed = client.put(one, {"enabled": False}, content_type=JSON).json()
    assert (changed["name"], changed["methods"], changed["enabled"]) == ("new", ["POST", "PUT"], False)
    rotated = client.post(f"{one}/rotate", {"grace_hours": 3}, content_type=JSON).json()
    assert rotated["secret"] not in (secret, "")
    assert rotated["old_secret_until"]
    assert client.generic("POST", f"{one}/rotate").status_code == 200
    assert client.post(base, {"name": "new"}, content_type=JSON).status_code == 422
    assert client.delete(one).status_code == 204
    assert client.delete(one).status_code == 404


def test_fault_59_a_webhook_of_another_workflow_is_not_there(hook: Hook, alice: Any, make_workflow: Any) -> None:
    mine = Hook(*webhooks.create(make_workflow(KEEP, name="mine"), "a"))
    client = Client()
    client.force_login(hook.row.workflow.owner)
    ours, foreign = hook.row.workflow.pk, mine.row.workflow.pk

    for url in (
        f"{ours}/webhooks/{mine.row.pk}",
        f"{foreign}/webhooks/{mine.row.pk}",
        f"{foreign}/webhooks/{hook.row.pk}",
    ):
        for method, path, body in (("PUT", "", {"enabled": False}), ("DELETE", "", None), ("POST", "/rotate", None)):
            data = "" if body is None else json.dumps(body)
            answer = client.generic(method, f"/api/v1/workflows/{url}{path}", data, JSON)
            assert answer.status_code == 404, (method, url)
    assert Webhook.objects.filter(enabled=True).count() == 2


def flow(*arguments: str) -> str:
    """Run a command in this process and return what it printed."""
    out = io.StringIO()
    call_command("workflows", "webhooks", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.mark.redis
def test_the_command_makes_lists_rotates_switches_and_deletes(hook: Hook, bob: Any, carol: Any, alice: Any) -> None:
    mine = ("--user", "bob", "--json")
    made = json.loads(flow("create", "shop", "new", "--methods", "put, post", *mine))
    assert (made["methods"], made["enabled"]) == (["POST", "PUT"], True)
    new = Hook(Webhook.objects.get(pk=made["id"]), made["secret"])
    assert new.post().status_code == 202
    shown = json.loads(flow("list", "shop", *mine))
    assert [(one["name"], one["accepted"]) for one in shown] == [("new", 1), ("orders", 0)]
    assert made["url"] in flow("list", "shop", "--user", "bob")
    assert made["secret"] not in str(shown)
    rotated = json.loads(flow("rotate", "shop", "new", "--grace-hours", "0", *mine))
    assert (new.post().status_code, new.post(secret=rotated["secret"]).status_code) == (401, 202)
    assert json.loads(flow("disable", "shop", made["id"], *mine))["enabled"] is False
    assert json.loads(flow("enable", "shop", "new", *mine))["enabled"] is True
    flow("delete", "shop", "new", *mine)
    assert "whsec_" in flow("create", "shop", "by hand", "--user", "bob")
    for arguments, reason in (
        (("delete", "shop", "new", *mine), 'has no webhook "new"'),
        (("rotate", "shop", *mine), "name the webhook"),
        (("list", "shop", "--user", "carol"), "no workflow"),
    ):
        with pytest.raises(CommandError, match=reason):
            flow(*arguments)
    doors = AuditEntry.objects.filter(kind="webhook").values_list("door", "actor__username").distinct()
    assert ("command", "bob") in doors


@pytest.fixture
def carol(django_user_model: Any) -> Any:
    """A stranger with access to the admin."""
    return django_user_model.objects.create(username="carol", is_staff=True)


@pytest.mark.redis
def test_the_admin_makes_shows_rotates_switches_and_deletes(hook: Hook, bob: Any, carol: Any) -> None:
    client, base = Client(), "/admin/workflows/webhook/"
    client.force_login(bob)
    form = {"workflow": str(hook.row.workflow.pk), "name": "new", "methods": ["POST"]}
    assert client.get(f"{base}add/?workflow={hook.row.workflow.pk}").status_code == 200

    page = client.post(f"{base}add/", form).content.decode()

    secret = re.search(r"whsec_[\w-]{43}", page)
    assert secret, page
    new = Hook(Webhook.objects.get(name="new"), secret[0])
    assert webhooks.url_of(new.row) in page
    assert "openssl dgst" in page
    assert f'<a class="adm-crumb" href="{base}">Webhooks</a>' in page
    assert new.post().status_code == 202
    assert "has a webhook" in client.post(f"{base}add/", form).content.decode()

    one = f"{base}{new.row.pk}/change/"
    shown = client.get(one).content.decode()
    assert webhooks.url_of(new.row) in shown
    assert secret[0] not in shown
    assert f"/admin/executions/execution/{Execution.objects.get().pk}/change/" in shown
    listed = client.get(f"{base}?workflow__id__exact={hook.row.workflow.pk}")
    assert listed.status_code == 200
    assert "new" in listed.content.decode()
    assert client.post(one, {"name": "sales", "methods": ["PUT"]}).status_code == 302
    new.row.refresh_from_db()
    assert (new.row.name, new.row.methods, new.row.enabled) == ("sales", ["PUT"], False)
    client.post(base, {"action": "enable", "_selected_action": [str(new.row.pk)]})
    new.row.refresh_from_db()
    assert new.row.enabled
    assert client.get(f"{base}{new.row.pk}/rotate/").status_code == 405
    rotated = client.post(f"{base}{new.row.pk}/rotate/").content.decode()
    again = re.search(r"whsec_[\w-]{43}", rotated)
    assert again
    assert again[0] != secret[0]

    stranger = Client()
    stranger.force_login(carol)
    assert stranger.post(f"{base}{new.row.pk}/rotate/").status_code == 404
    assert "is not one of the available choices" in stranger.post(f"{base}add/", form).content.decode()
    stranger.post(base, {"action": "disable", "_selected_action": [str(new.row.pk)]})
    new.row.refresh_from_db()
    assert new.row.enabled
    assert client.post(f"{base}{new.row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Webhook.objects.filter(pk=new.row.pk).exists()
    verbs = AuditEntry.objects.filter(kind="webhook", door="admin").order_by("id").values_list("verb", flat=True)
    assert list(verbs) == ["create", "change", "enable", "rotate", "delete"]


# ---------------------------------------------------------------------- through real servers


def start_web(**env: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a web process and return it with its port."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "flowbuilder.asgi:application",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    child = subprocess.Popen(command, env={**test_environment(), **env}, cwd=ROOT)
    return child, port


def wait_for_web(child: subprocess.Popen[bytes], port: int) -> None:
    def answers() -> bool:
        assert child.poll() is None
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, 60, "the web process")


@pytest.fixture(scope="module")
def webs(django_db_setup: None) -> Iterator[list[int]]:
    """Return the ports of two web processes."""
    found = [start_web() for _ in range(2)]
    for one in found:
        wait_for_web(*one)
    yield [port for _, port in found]
    for child, _ in found:
        child.terminate()
    for child, _ in found:
        child.wait(20)


def send(port: int, path: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{port}{path}", content=body, headers=headers, timeout=30)


@pytest.mark.redis
@pytest.mark.postgres
@pytest.mark.row("S2-36")
@pytest.mark.django_db(transaction=True)
def test_fault_58_ten_copies_of_a_request_to_two_web_processes_start_once(webs: list[int], hook: Hook) -> None:
    plain, named = hook.headers(), hook.headers(X_Flow_Delivery="7")

    def copies(headers: dict[str, str]) -> list[httpx.Response]:
        with ThreadPoolExecutor(10) as pool:
            return list(pool.map(lambda n: send(webs[n % 2], hook.path, ORDER, headers), range(10)))

    without = copies(plain)
    assert sorted(answer.status_code for answer in without) == [202] + [401] * 9
    with_id = copies(named)
    assert {answer.status_code for answer in with_id} == {202}, [answer.text for answer in with_id]
    assert len({answer.json()["execution_id"] for answer in with_id}) == 1
    assert Execution.objects.count() == WebhookDelivery.objects.count() == 2


@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_fault_58_every_clause_holds_at_the_real_server(webs: list[int], hook: Hook) -> None:
    port = webs[0]
    url, good = f"http://127.0.0.1:{port}{hook.path}", hook.headers()
    files = json.dumps({"files": [{"filepath": "/etc/passwd"}]}).encode()

    assert send(port, hook.path, ORDER, good).status_code == 202
    assert send(webs[1], hook.path, ORDER, good).status_code == 401
    assert send(port, hook.path, ORDER, {"Content-Type": JSON}).status_code == 401
    assert send(port, hook.path, ORDER, hook.headers(b"other")).status_code == 401
    refused = httpx.get(url)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
    assert send(port, hook.path, ORDER, hook.headers(kind="multipart/form-data; boundary=x")).status_code == 415
    assert send(port, hook.path, ORDER, hook.headers(Content_Encoding="gzip")).status_code == 415
    assert send(port, f"/hooks/{'A' * 43}", ORDER, good).status_code == 404
    assert send(port, hook.path, files, hook.headers(files)).status_code == 202
    newest = Execution.objects.order_by("queued_at").last()
    assert newest is not None
    assert json.loads(newest.input)["body"] == json.loads(files)
    exact = b'"' + b"x" * (900 * 1024) + b'"'
    assert send(port, hook.path, exact, hook.headers(exact)).status_code == 202


@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_fault_58_a_body_that_is_too_large_is_413_before_it_was_read(webs: list[int], hook: Hook) -> None:
    for path, most in ((hook.path, bodies.LARGEST_BYTES), ("/api/v1/workflows", bodies.LARGEST_ELSEWHERE_BYTES)):
        announced = begun(webs[0], path, "Content-Length", str(10**12))
        answer = announced.getresponse()
        assert answer.status == 413
        assert answer.getheader("Connection") == "close"

        chunked = begun(webs[0], path, "Transfer-Encoding", "chunked")
        for _ in range(most // 65536 + 1):  # and no end
            chunked.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        answer = chunked.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read()) == {"detail": f"the body is larger than {most:,} bytes"}
        for one in (announced, chunked):
            one.close()
    assert send(webs[0], hook.path, ORDER, hook.headers()).status_code == 202


def begun(port: int, path: str, header: str, value: str) -> http.client.HTTPConnection:
    """Return a request whose body is still to come."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", JSON)
    connection.putheader(header, value)
    connection.endheaders()
    return connection


async def test_who_is_logged_in_may_send_a_workflow_of_any_size_that_may_be_stored(settings: Any) -> None:
    asked: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(len((await receive())["body"]))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 70 * 1024**2, "more_body": False}

    async def send(message: Any) -> None:
        raise AssertionError(f"it was answered: {message}")

    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 80 * 1024**2
    headers = [(b"content-length", str(70 * 1024**2).encode())]
    scope = {"type": "http", "path": "/api/v1/workflows", "headers": headers}
    await bodies.BoundedBodies(app, "/hooks/")(scope, receive, send)

    assert asked == [70 * 1024**2]


async def test_a_body_that_never_ends_is_408(monkeypatch: Any) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    monkeypatch.setattr(bodies, "LINGER_SECONDS", 0.05)
    sent: list[Any] = []
    reached: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not reached:
            reached.append(1)
            return {"type": "http.request", "body": b"{", "more_body": True}
        import asyncio

        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(*arguments: Any) -> None:
        raise AssertionError("the application is not asked")

    await bodies.BoundedBodies(app, "/hooks/")({"type": "http", "path": "/hooks/x", "headers": []}, receive, send)

    assert sent[0]["status"] == 408
    assert sent[-1]["more_body"] is False


@pytest.mark.redis
@pytest.mark.parametrize("point", ["start-committed", "webhook-accepted"])
def test_fault_58_a_web_process_killed_between_accept_and_answer_starts_once(
    processes: Processes, hook: Hook, tmp_path: Path, webs: list[int], point: str
) -> None:
    arm = tmp_path / "point"
    arm.touch()
    child, port = start_web(FLOWBUILDER_FAILPOINT=f"{point}:{arm}")
    wait_for_web(child, port)
    headers = hook.headers(X_Flow_Delivery="order-4711")

    with pytest.raises(httpx.TransportError):
        send(port, hook.path, ORDER, headers)
    assert child.wait(20) == -signal.SIGKILL
    stored = Execution.objects.count()
    assert stored == (point == "webhook-accepted")
    answer = send(webs[0], hook.path, ORDER, headers)

    assert answer.status_code == 202
    assert answer.json()["execution_id"] == str(Execution.objects.get().pk)


# ---------------------------------------------------------------------- the document


def block(language: str, word: str) -> str:
    """Return the block of the document in this language that has this word."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    return next(text for text in found if word in text)


@pytest.mark.redis
@pytest.mark.row("S2-36")
@pytest.mark.django_db(transaction=True)
def test_the_senders_of_the_document_are_accepted(webs: list[int], hook: Hook, settings: Any, tmp_path: Path) -> None:
    settings.PUBLIC_URL = f"http://127.0.0.1:{webs[0]}"
    url = webhooks.url_of(hook.row)
    (tmp_path / "send.py").write_text(block("python", "hmac"))
    shell = block("sh", "openssl").replace("https://flow.example.com/hooks/…", url)
    shell = re.sub(r"^SECRET=.*$", f"SECRET='{hook.secret}'", shell, flags=re.MULTILINE)
    made = webhooks.example(hook.row, hook.secret).replace("4711", "4713")

    for command in (
        [sys.executable, str(tmp_path / "send.py"), url, hook.secret],
        ["sh", "-ec", shell],
        ["sh", "-ec", made],
    ):
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert told.returncode == 0, told.stderr
        assert "execution_id" in told.stdout, told.stdout + told.stderr
    assert Execution.objects.count() == 3

    for script in (shell, made):
        again = subprocess.run(
            ["sh", "-ec", script.replace("date +%s", "date +%s.5")], capture_output=True, text=True, timeout=30
        )
        assert "execution_id" in again.stdout, again.stdout + again.stderr
    assert Execution.objects.count() == 3, "sent again it starts nothing twice"


def test_the_document_names_what_is_so() -> None:
    for text in (
        *hooks.CONTENT_TYPES, *hooks.SHOWN_HEADERS, webhooks.SIGNATURE_HEADER, webhooks.DELIVERY_HEADER,
        f"{webhooks.GRACE_HOURS} hours", f"{webhooks.TOLERANCE_SECONDS // 60} minutes", f"{deliveries.KEPT.days} days",
        f"{bodies.LARGEST_BYTES // 1024**2} MiB", f"{hooks.BAD_REQUESTS.count} a minute",
    ):  # fmt: skip
        assert text.lower() in DOCUMENT.lower(), text
