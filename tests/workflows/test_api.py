"""The HTTP API of workflows, through Django's client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from executions.models import Execution
from tests.conftest import graph, node, wire
from workflows import credentials
from workflows.models import Schedule, Workflow
from workflows.registry import NODE_REGISTRY

pytestmark = pytest.mark.django_db

API = "/api/v1"
GOOD = graph([node("a", "delay", Duration=1)])
BETTER = graph([node("a", "delay", Duration=2)])
BAD = graph([node("a", "get_html")])

Send = Callable[..., tuple[int, Any]]


@pytest.fixture
def send(client: Client, bob: Any) -> Send:
    """Return a function that sends JSON as bob: ``status, body = send("POST", "/workflows", {...})``."""
    client.force_login(bob)

    def call(method: str, path: str, body: Any = None, **headers: Any) -> tuple[int, Any]:
        response = client.generic(
            method,
            API + path,
            b"" if body is None else json.dumps(body),
            content_type="application/json",
            headers=headers,
        )
        return response.status_code, json.loads(response.content) if response.content else None

    return call


@pytest.fixture
def workflow(bob: Any) -> Workflow:
    made = Workflow.objects.create(owner=bob, name="shop")
    made.save_version(GOOD, author=bob)
    return made


@pytest.fixture
def foreign(alice: Any) -> Workflow:
    made = Workflow.objects.create(owner=alice, name="secret")
    made.save_version(GOOD, author=alice)
    return made


# ---------------------------------------------------------------------- access


ROUTES = (
    ("GET", "/node-types", None),
    ("GET", "/workflows", None),
    ("POST", "/workflows", {"name": "n"}),
    ("POST", "/workflows/validate", {"definition": GOOD}),
    ("GET", "/workflows/{id}", None),
    ("PUT", "/workflows/{id}", {"definition": GOOD, "base_version": 1}),
    ("DELETE", "/workflows/{id}", None),
    ("POST", "/workflows/{id}/activate", None),
    ("POST", "/workflows/{id}/pause", None),
    ("POST", "/workflows/{id}/resume", None),
    ("POST", "/workflows/{id}/archive", None),
    ("PUT", "/workflows/{id}/schedule", {"cron": "0 9 * * *"}),
    ("DELETE", "/workflows/{id}/schedule", None),
    ("GET", "/schedules/preview?cron=0+9+*+*+*", None),
    ("GET", "/credentials", None),
)


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_without_a_session_there_is_nothing(
    client: Client, workflow: Workflow, method: str, path: str, body: Any
) -> None:
    response = client.generic(
        method, API + path.format(id=workflow.pk), json.dumps(body), content_type="application/json"
    )

    assert response.status_code == 401
    assert response.json() == {"detail": "Unauthorized"}


@pytest.mark.parametrize(("method", "path", "body"), [route for route in ROUTES if "{id}" in route[1]])
def test_what_belongs_to_others_does_not_exist(
    send: Send, foreign: Workflow, method: str, path: str, body: Any
) -> None:
    assert send(method, path.format(id=foreign.pk), body) == (404, {"detail": "not found"})
    foreign.refresh_from_db()
    assert (foreign.status, foreign.versions.count()) == ("draft", 1)


@pytest.mark.parametrize(("method", "path", "body"), [route for route in ROUTES if route[0] != "GET"])
def test_changes_need_the_csrf_token(bob: Any, workflow: Workflow, method: str, path: str, body: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(bob)

    response = client.generic(
        method, API + path.format(id=workflow.pk), json.dumps(body), content_type="application/json"
    )

    assert response.status_code == 403
    assert "CSRF" in response.json()["detail"]


def test_a_superuser_sees_all(client: Client, alice: Any, workflow: Workflow) -> None:
    client.force_login(alice)

    assert client.get(f"{API}/workflows/{workflow.pk}").json()["name"] == "shop"


# ---------------------------------------------------------------------- node types


@pytest.mark.row("S2-05")
def test_node_types_hold_everything_that_the_builder_needs(send: Send) -> None:
    status, types = send("GET", "/node-types")
    branch = next(found for found in types if found["type"] == "branch")
    operator = next(port for port in branch["inputs"] if port["name"] == "Operator")

    assert status == 200
    assert {found["type"] for found in types} == set(NODE_REGISTRY)
    assert types[0]["group"] == "Browser Automation"
    assert operator["slug"] == "operator"
    assert "equals" in operator["options"]
    assert (operator["type"], operator["required"], operator["handle"], operator["accepts"]) == (
        "SELECT",
        True,
        False,
        [],
    )
    assert branch["inputs"][-1]["name"] == "Execute Condition"
    assert branch["inputs"][-1]["accepts"] == ["CONDITIONAL"]
    assert branch["outputs"][-1] == {"name": "Done", "slug": "done", "type": "CONDITIONAL", "inside": False}


# ---------------------------------------------------------------------- workflows


def test_create_read_list(send: Send, foreign: Workflow) -> None:
    status, made = send("POST", "/workflows", {"name": "shop", "description": "d", "definition": GOOD})
    assert status == 201
    assert (made["status"], made["version"], made["active_version"], made["schedule"]) == ("draft", 1, None, None)

    assert send("GET", f"/workflows/{made['id']}")[1]["definition"] == GOOD
    assert send("POST", "/workflows", {"name": "shop"}) == (409, {"detail": 'you already have a workflow "shop"'})
    assert send("POST", "/workflows", {"name": "empty"})[1]["definition"] == {"nodes": [], "edges": []}
    status, page = send("GET", "/workflows?limit=1&offset=1")
    assert (status, page["count"], [one["name"] for one in page["items"]]) == (200, 2, ["shop"])
    assert "definition" not in page["items"][0]


def test_the_number_of_queries_of_a_list_does_not_depend_on_its_length(send: Send, bob: Any) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            send("GET", "/workflows")
        return len(queries)

    Workflow.objects.create(owner=bob, name="w0").save_version(GOOD, author=bob)
    one = count()
    for number in range(1, 8):
        Workflow.objects.create(owner=bob, name=f"w{number}").save_version(GOOD, author=bob)

    assert count() == one


@pytest.mark.row("S2-11")
def test_saving_makes_a_version_and_reports_findings_and_a_conflict_is_409(send: Send, workflow: Workflow) -> None:
    path = f"/workflows/{workflow.pk}"

    assert send("PUT", path, {"definition": BETTER, "base_version": 1, "message": "m"}) == (
        200,
        {"id": str(workflow.pk), "version": 2, "findings": []},
    )
    status, saved = send("PUT", path, {"name": "renamed", "definition": BAD, "base_version": 2})
    assert (status, saved["version"]) == (200, 3)
    assert {"MISSING_INPUT", "UNREACHABLE"} <= {finding["code"] for finding in saved["findings"]}
    status, refused = send("PUT", path, {"definition": GOOD, "base_version": 1})
    assert status == 409
    assert "version 3 was saved after you began from version 1" in refused["detail"]

    workflow.refresh_from_db()
    assert (workflow.name, workflow.versions.count()) == ("renamed", 3)


def test_a_save_keeps_keys_that_we_do_not_know(send: Send, workflow: Workflow) -> None:
    fancy = {**BETTER, "viewport": {"zoom": 2}, "nodes": [{**BETTER["nodes"][0], "selected": True}]}

    send("PUT", f"/workflows/{workflow.pk}", {"definition": fancy, "base_version": 1})

    assert send("GET", f"/workflows/{workflow.pk}")[1]["definition"] == fancy


def test_the_name_of_another_workflow_is_a_conflict_and_nothing_is_saved(
    send: Send, workflow: Workflow, bob: Any
) -> None:
    Workflow.objects.create(owner=bob, name="taken")

    status, _ = send("PUT", f"/workflows/{workflow.pk}", {"name": "taken", "definition": BETTER, "base_version": 1})

    assert status == 409
    assert workflow.versions.count() == 1


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"definition": {"nodes": [{"id": "a"}]}, "base_version": 1}, 422, "nodes[0].type"),
        ({"definition": GOOD}, 422, "base_version: Field required"),
        ({"definition": [], "base_version": 1}, 422, "definition"),
        ({"definition": GOOD, "base_version": 10**30}, 422, "base_version"),
        ({"definition": GOOD, "base_version": 1, "name": ""}, 422, "name"),
        ({"definition": GOOD, "base_version": 1, "name": "a\x00"}, 422, "NUL"),
        ({"definition": graph([node("a", "delay", Duration="\x00")]), "base_version": 1}, 422, "NUL"),
    ],
)
def test_bad_bodies_are_one_sentence(send: Send, workflow: Workflow, body: Any, status: int, detail: str) -> None:
    code, answer = send("PUT", f"/workflows/{workflow.pk}", body)

    assert code == status
    assert detail in answer["detail"]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "offset=-1", f"offset={10**36}"])
def test_pages_are_bounded(send: Send, query: str) -> None:
    status, answer = send("GET", f"/workflows?{query}")

    assert status == 422
    assert query.split("=")[0] in answer["detail"]


def test_a_body_that_is_not_json_is_400(client: Client, bob: Any) -> None:
    client.force_login(bob)

    response = client.post(f"{API}/workflows", "{", content_type="application/json")

    assert response.status_code == 400
    assert isinstance(response.json()["detail"], str)


def test_validating_saves_nothing_and_knows_my_credentials(send: Send, bob: Any) -> None:
    shape = graph([node("a", "delay", Duration={"$credential": "mine"}), node("b", "nope")])
    credentials.save(bob, "mine", "password", {"password": "x"})

    status, answer = send("POST", "/workflows/validate", {"definition": shape})

    assert status == 200
    assert [finding["code"] for finding in answer["findings"]] == ["UNKNOWN_TYPE"]
    assert Workflow.objects.count() == 0


@pytest.mark.row("S2-02")
def test_activate_pause_resume_archive(send: Send, workflow: Workflow, bob: Any) -> None:
    path = f"/workflows/{workflow.pk}"

    assert send("POST", f"{path}/pause")[0] == 409
    assert send("POST", f"{path}/activate") == (200, {"status": "active", "active_version": 1, "findings": []})
    workflow.save_version(BAD, author=bob)
    status, refused = send("POST", f"{path}/activate")
    assert status == 422
    assert "MISSING_INPUT" in {finding["code"] for finding in refused["findings"]}
    assert send("POST", f"{path}/pause")[1]["status"] == "paused"
    assert send("POST", f"{path}/resume")[1] == {"status": "active", "active_version": 1, "findings": []}
    assert send("POST", f"{path}/archive")[1]["status"] == "archived"
    assert send("POST", f"{path}/activate")[0] == 409
    assert send("PUT", path, {"definition": GOOD, "base_version": 2})[0] == 409


@pytest.mark.row("S2-02")
def test_delete(send: Send, workflow: Workflow, bob: Any) -> None:
    ran = Workflow.objects.create(owner=bob, name="ran")
    version = ran.save_version(GOOD, author=bob)
    Execution.objects.create(workflow=ran, version=version, owner=bob, trigger="manual", queued_at=timezone.now())

    assert send("DELETE", f"/workflows/{workflow.pk}") == (200, {"deleted": True, "status": "deleted"})
    assert send("DELETE", f"/workflows/{ran.pk}") == (200, {"deleted": False, "status": "archived"})
    assert send("GET", f"/workflows/{workflow.pk}")[0] == 404


# ---------------------------------------------------------------------- schedules and credentials


def test_schedules(send: Send, workflow: Workflow) -> None:
    path = f"/workflows/{workflow.pk}/schedule"

    status, draft = send("PUT", path, {"cron": "0 9 * * 1-5", "timezone": "Asia/Kolkata"})
    assert (status, draft["next_run_at"], draft["enabled"]) == (200, None, True)
    send("POST", f"/workflows/{workflow.pk}/activate")
    shown = send("GET", f"/workflows/{workflow.pk}")[1]["schedule"]
    assert shown["next_run_at"].endswith("T03:30:00Z")
    status, refused = send("PUT", path, {"cron": "* * * * *"})
    assert status == 422
    assert "the minimum is 5 minutes" in refused["detail"]
    assert send("PUT", path, {"cron": "0 9 * * *", "timezone": "Mars"})[0] == 422
    assert send("DELETE", path) == (204, None)
    assert send("DELETE", path) == (204, None)
    assert not Schedule.objects.exists()


@pytest.mark.row("S2-12")
def test_preview_says_words_instants_and_what_is_wrong(send: Send) -> None:
    status, good = send("GET", "/schedules/preview?cron=0+9+*+*+1-5&timezone=Asia/Kolkata&count=3")
    _, short = send("GET", "/schedules/preview?cron=*/2+*+*+*+*")
    _, bad = send("GET", "/schedules/preview?cron=0+9+*&timezone=UTC")

    assert (status, good["text"], good["error"], len(good["next"])) == (200, "Monday to Friday at 09:00", None, 3)
    assert good["next"][0].endswith("T03:30:00Z")
    assert "the minimum is 5 minutes" in short["error"]
    assert len(short["next"]) == 5
    assert (bad["text"], bad["next"]) == ("", [])
    assert "needs exactly five" in bad["error"]
    assert send("GET", "/schedules/preview?cron=x&count=51")[0] == 422


def test_credentials_are_names_only_and_only_mine(send: Send, alice: Any, bob: Any) -> None:
    credentials.save(alice, "hers", "password", {"password": "s3cret"})
    mine = credentials.save(bob, "mine", "password", {"password": "s3cret"})

    assert send("GET", "/credentials") == (200, [{"id": str(mine.pk), "name": "mine", "kind": "password"}])


# ---------------------------------------------------------------------- the document


def test_every_operation_declares_its_errors_and_the_document_is_public(client: Client) -> None:
    document = client.get(f"{API}/openapi.json").json()

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert {"400", "401", "403", "404", "422"} <= set(operation["responses"]), (method, path)


def test_addresses_outside_the_api(client: Client) -> None:
    assert client.get("/")["Location"] == "/admin/"
    assert client.get("/monitoring")["Location"] == "/admin/monitoring/"
    assert client.get("/healthz").status_code == 200
    docs = client.get(f"{API}/docs")
    assert docs.status_code == 200
    assert b"cdn" not in docs.content
    assert "default-src 'self'" in docs["Content-Security-Policy"]


def test_an_unexpected_error_is_logged_and_says_nothing(
    send: Send, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_: Any) -> None:
        raise RuntimeError("database password is hunter2")

    monkeypatch.setattr("workflows.api.schedules.preview", explode)

    status, answer = send("GET", "/schedules/preview?cron=x")

    assert status == 500
    assert "hunter2" not in answer["detail"]
    assert "hunter2" in caplog.text


def test_wires_that_dangle_can_be_saved(send: Send, workflow: Workflow) -> None:
    shape = graph([node("a", "delay", Duration=1)], wire("a", "Done", "gone", "Execute Condition"))

    status, saved = send("PUT", f"/workflows/{workflow.pk}", {"definition": shape, "base_version": 1})

    assert status == 200
    assert [finding["code"] for finding in saved["findings"]] == ["DANGLING_EDGE"]
