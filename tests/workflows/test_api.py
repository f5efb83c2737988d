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
from tests.workflows.conftest import just_before
from workflows import credentials, credits, lifecycle, schedules
from workflows.models import AuditEntry, CreditEntry, Schedule, Workflow
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


ROUTES: tuple[tuple[str, str, Any], ...] = (
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
    ("POST", "/workflows/{id}/publish", None),
    ("POST", "/workflows/{id}/unarchive", None),
    ("GET", "/workflows/{id}/versions", None),
    ("GET", "/workflows/{id}/versions/1", None),
    ("GET", "/workflows/{id}/diff?old=1", None),
    ("POST", "/workflows/{id}/restore", {"version": 1}),
    ("POST", "/workflows/{id}/clone", {}),
    ("GET", "/workflows/{id}/export", None),
    ("GET", "/workflows/{id}/schedule", None),
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
    assert "send the header Authorization: Bearer TOKEN" in response.json()["detail"]


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
    assert "version 3 was saved by bob after you began from version 1" in refused["detail"]

    workflow.refresh_from_db()
    assert (workflow.name, workflow.versions.count()) == ("renamed", 3)


def test_a_save_that_is_too_large_is_refused_with_the_numbers(send: Send, workflow: Workflow, settings: Any) -> None:
    settings.MAX_NODES = 1
    large = graph([node(name, "delay", Duration=1) for name in "ab"])

    for method, path, body in (
        ("PUT", f"/workflows/{workflow.pk}", {"definition": large, "base_version": 1}),
        ("POST", "/workflows", {"name": "new", "definition": large}),
    ):
        status, answer = send(method, path, body)
        assert (status, "the workflow has 2 nodes; the limit is 1" in answer["detail"]) == (422, True)

    assert (workflow.versions.count(), Workflow.objects.count()) == (1, 1)


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
    assert send("PUT", path, {"cron": "* * * * *", "enabled": False})[1]["enabled"] is False
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


def test_credentials_are_written_and_their_secrets_never_come_back(send: Send, alice: Any, bob: Any) -> None:
    hers = credentials.save(alice, "hers", "password", {"password": "s3cret"})
    body = {"name": "mail", "kind": "smtp", "fields": {"host": "smtp.example.com", "password": "hunter2!"}}

    status, made = send("POST", "/credentials", body)
    path = f"/credentials/{made['id']}"
    assert (status, made["fields"]["host"], made["secrets"]) == (201, "smtp.example.com", ["password"])
    assert send("POST", "/credentials", body)[0] == 409
    status, refused = send("POST", "/credentials", {**body, "name": "other", "fields": {"hosst": "x"}})
    assert status == 422
    assert "host" in refused["detail"]
    status, changed = send(
        "PUT", path, {"name": "post", "fields": {"username": "u"}, "expires_at": "2020-01-01T00:00:00Z"}
    )
    assert (status, changed["name"], changed["fields"]["username"], changed["secrets"]) == (
        200,
        "post",
        "u",
        ["password"],
    )
    assert "expired" in changed["problem"]
    assert send("PUT", path, {})[1]["expired"]
    assert not send("PUT", path, {"expires_at": None})[1]["expired"]
    assert [one["name"] for one in send("GET", "/credentials")[1]] == ["post"]
    assert credentials.resolve(bob.pk, "post") == "hunter2!"
    assert all("hunter2" not in json.dumps(send("GET", place)) for place in ("/credentials", path))

    for method in ("GET", "PUT", "DELETE"):
        assert send(method, f"/credentials/{hers.pk}", {})[0] == 404
    assert send("DELETE", path) == (204, None)
    assert send("GET", path)[0] == 404


def test_of_two_who_store_a_credential_of_one_name_at_once_the_second_changes_nothing(send: Send, bob: Any) -> None:
    def faster() -> None:
        credentials.save(bob, "mail", "password", {"password": "the first"})

    with just_before("SAVEPOINT", faster):
        status, refused = send("POST", "/credentials", {"name": " mail ", "fields": {"password": "the second"}})

    assert (status, refused["detail"]) == (
        409, 'there is already a credential "mail"; change it, or choose another name'
    )  # fmt: skip
    assert credentials.resolve(bob.pk, "mail") == "the first"


def test_a_credential_that_workflows_name_is_deleted_only_by_force(send: Send, bob: Any, workflow: Workflow) -> None:
    row = credentials.save(bob, "shop", "password", {"password": "s3cret"})
    workflow.save_version(graph([node("a", "delay", Duration={"$credential": "shop"})]), author=bob)

    status, refused = send("DELETE", f"/credentials/{row.pk}")

    assert status == 409
    assert 'used by "shop"' in refused["detail"]
    assert send("DELETE", f"/credentials/{row.pk}?force=true") == (204, None)


def test_kinds_of_credentials_say_which_fields_are_secret(send: Send) -> None:
    kinds = {kind["name"]: kind for kind in send("GET", "/credentials/kinds")[1]}

    assert kinds["smtp"]["main"] == "password"
    assert {field["name"] for field in kinds["smtp"]["fields"] if field["secret"]} == {"password"}


# ---------------------------------------------------------------------- lists, conflicts, versions


def test_workflows_are_found_by_status_text_and_tag_and_sorted(send: Send, bob: Any, foreign: Workflow) -> None:
    for name, settings in (("Shop", {"tags": ["nightly"]}), ("Mail 100%", {"tags": "nightly"}), ("Old", {})):
        made = Workflow.objects.create(owner=bob, name=name, description=f"about {name}", settings=settings)
        made.save_version(GOOD, author=bob)
    made.archive()

    def names(query: str) -> list[str]:
        return [one["name"] for one in send("GET", f"/workflows?{query}")[1]["items"]]

    assert names("status=archived") == ["Old"]
    assert names("search=MAIL") == ["Mail 100%"]
    assert names("search=about&status=draft") == ["Mail 100%", "Shop"]
    assert names("search=%25") == ["Mail 100%"]
    assert "Shop" in names("tag=nightly")
    assert names("tag=night") == names("tag=nightly%27)") == []
    assert names("sort=-created_at") == ["Old", "Mail 100%", "Shop"]
    assert send("GET", "/workflows?sort=owner")[0] == 422
    assert send("GET", "/workflows?tag=%00")[0] == 422


@pytest.mark.row("S2-11")
def test_an_etag_spares_what_is_known_and_tells_who_was_faster(
    send: Send, client: Client, workflow: Workflow, bob: Any, alice: Any
) -> None:
    path = f"/workflows/{workflow.pk}"
    tag = client.get(API + path)["ETag"]

    assert tag.startswith('"1.')
    assert send("GET", path, None, **{"If-None-Match": f'"other", W/{tag}'}) == (304, None)
    assert send("PUT", path, {"definition": BETTER}, **{"If-Match": tag})[1]["version"] == 2
    assert send("GET", path, None, **{"If-None-Match": tag})[0] == 200
    workflow.save_version(GOOD, author=alice)

    status, refused = send("PUT", path, {"definition": BAD}, **{"If-Match": tag})
    assert (status, refused["version"], refused["author"]) == (409, 3, "alice")
    assert "version 3 was saved by alice after you began from version 1" in refused["detail"]
    assert refused["changes"]["same"] is True
    status, refused = send("PUT", path, {"definition": BAD, "base_version": 2})
    [change] = refused["changes"]["changed"][0]["changes"]
    assert (status, change["field"], change["before"], change["after"]) == (409, "Duration", 2, 1)
    assert send("PUT", path, {"definition": BAD}, **{"If-Match": '"nonsense"'})[0] == 409
    assert send("PUT", path, {"definition": BAD}, **{"If-Match": "*"})[1]["version"] == 4
    status, refused = send("PUT", path, {"definition": GOOD})
    assert status == 422
    assert "If-Match" in refused["detail"]


def test_a_save_does_not_overwrite_a_name_that_was_changed_without_a_new_version(
    send: Send, client: Client, workflow: Workflow, bob: Any
) -> None:
    path = f"/workflows/{workflow.pk}"
    tag = client.get(API + path)["ETag"]
    workflow.name = "changed elsewhere"
    workflow.save()

    status, refused = send("PUT", path, {"definition": BETTER, "name": "mine"}, **{"If-Match": tag})

    assert (status, "name, description or settings were changed after you began" in refused["detail"]) == (409, True)
    workflow.refresh_from_db()
    assert (workflow.name, workflow.versions.count()) == ("changed elsewhere", 1)


def test_what_a_save_does_not_replace_may_change_meanwhile(send: Send, client: Client, workflow: Workflow) -> None:
    path = f"/workflows/{workflow.pk}"
    tag = client.get(API + path)["ETag"]
    workflow.activate()
    schedules.set_schedule(workflow, "0 9 * * *")

    assert client.get(API + path)["ETag"] != tag
    assert send("PUT", path, {"definition": BETTER}, **{"If-Match": f'"other", {tag}'})[1]["version"] == 2


def test_a_save_replaces_the_settings_when_they_are_given(send: Send, client: Client, workflow: Workflow) -> None:
    path = f"/workflows/{workflow.pk}"
    first, tag = {"concurrency": 2, "tags": ["night"]}, client.get(API + path)["ETag"]

    assert send("PUT", path, {"definition": GOOD, "base_version": 1, "settings": first})[0] == 200
    assert send("PUT", path, {"definition": BETTER, "base_version": 1})[1]["version"] == 2

    assert send("GET", path)[1]["settings"] == first
    assert [one["name"] for one in send("GET", "/workflows?tag=night")[1]["items"]] == ["shop"]
    [entry] = AuditEntry.objects.filter(verb="settings", object_id=str(workflow.pk))
    assert entry.detail == {"before": {}, "after": first}
    assert send("PUT", path, {"definition": BETTER, "settings": {}}, **{"If-Match": tag})[0] == 409
    assert send("PUT", path, {"definition": BETTER, "base_version": 2, "settings": {}})[0] == 200
    assert send("GET", path)[1]["settings"] == {}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"concurrency": 0, "tags": "night"}, "settings: concurrency must be a whole number"),
        ({"concurrency": 0, "tags": "night"}, "tags must be a list"),
        ({"overlap": ["skip"]}, "overlap must be one of"),
        ({"note": "\x00"}, "settings.note: text must not contain a NUL"),
        ([], "settings"),
    ],
)
def test_settings_that_mean_nothing_are_not_stored(send: Send, workflow: Workflow, settings: Any, reason: str) -> None:
    body = {"definition": BETTER, "base_version": 1, "settings": settings}

    status, refused = send("PUT", f"/workflows/{workflow.pk}", body)

    assert (status, reason in refused["detail"]) == (422, True), refused
    workflow.refresh_from_db()
    assert (workflow.settings, workflow.versions.count()) == ({}, 1)


def test_a_version_that_is_not_there_is_no_base_of_an_edit(send: Send, workflow: Workflow, bob: Any) -> None:
    empty = Workflow.objects.create(owner=bob, name="empty")

    answers = [
        send("PUT", f"/workflows/{one.pk}", {"definition": BETTER, "base_version": 3}) for one in (workflow, empty)
    ]

    assert [(status, answer["detail"]) for status, answer in answers] == [
        (409, f"there is no version 3 to begin from; the newest is {newest}; reload the workflow") for newest in (1, 0)
    ]


def test_what_is_deleted_during_a_save_is_not_found(send: Send, workflow: Workflow, bob: Any) -> None:
    with just_before("SAVEPOINT", lambda: lifecycle.delete(workflow)):
        status, answer = send("PUT", f"/workflows/{workflow.pk}", {"definition": BETTER, "base_version": 1})

    assert (status, answer["detail"]) == (404, 'workflow "shop" was deleted')


def test_a_save_that_names_only_a_version_does_not_undo_what_somebody_changed_meanwhile(
    send: Send, client: Client, workflow: Workflow
) -> None:
    path = f"/workflows/{workflow.pk}"
    other = Workflow.objects.get(pk=workflow.pk)
    other.name, other.settings = "theirs", {"tags": ["theirs"]}
    other.save()

    edits: list[dict[str, Any]] = [{"name": "shop"}, {"settings": {}}, {"name": "mine", "description": "new"}]
    for mine in edits:
        status, refused = send("PUT", path, {"definition": BETTER, "base_version": 1, **mine})
        assert (status, "changed since version 1" in refused["detail"]) == (409, True), mine
    assert send("PUT", path, {"definition": BETTER, "base_version": 1, "description": "new"})[0] == 200
    assert send("PUT", path, {"definition": GOOD, "base_version": 2, "name": "mine"})[0] == 200
    assert send("GET", path)[1]["settings"] == {"tags": ["theirs"]}

    assert send("PUT", path, {"definition": GOOD, "base_version": 3, "name": "renamed"})[1]["version"] == 3
    assert send("PUT", path, {"definition": GOOD, "base_version": 3, "name": "again"})[0] == 409
    tag = client.get(API + path)["ETag"]
    assert send("PUT", path, {"definition": GOOD, "name": "again"}, **{"If-Match": tag})[0] == 200
    workflow.refresh_from_db()
    assert (workflow.name, workflow.versions.count()) == ("again", 3)


def test_a_workflow_without_a_version_keeps_a_name_that_somebody_gave_it_meanwhile(
    send: Send, client: Client, bob: Any
) -> None:
    made = Workflow.objects.create(owner=bob, name="shop")
    body = {"definition": GOOD, "base_version": 0, "name": "mine"}
    Workflow.objects.filter(pk=made.pk).update(name="theirs")

    assert send("PUT", f"/workflows/{made.pk}", body)[0] == 409
    Workflow.objects.filter(pk=made.pk).update(name="shop")
    assert send("PUT", f"/workflows/{made.pk}", body)[0] == 200


def test_the_etag_of_a_save_is_that_of_the_next_read(send: Send, client: Client, workflow: Workflow) -> None:
    body = json.dumps({"definition": BETTER, "base_version": 1, "name": "renamed"})
    saved = client.put(f"{API}/workflows/{workflow.pk}", body, content_type="application/json")

    assert saved["ETag"] == client.get(f"{API}/workflows/{workflow.pk}")["ETag"]


def test_versions_are_listed_compared_and_restored(send: Send, workflow: Workflow, bob: Any) -> None:
    path = f"/workflows/{workflow.pk}"
    workflow.activate()
    workflow.save_version(BETTER, author=bob, message="longer")

    page = send("GET", f"{path}/versions?limit=1")[1]
    assert (page["count"], page["items"][0]["number"], page["items"][0]["author"]) == (2, 2, "bob")
    assert (page["items"][0]["newest"], page["items"][0]["active"], page["items"][0]["message"]) == (
        True,
        False,
        "longer",
    )
    assert send("GET", f"{path}/versions/1")[1]["definition"] == GOOD
    assert send("GET", f"{path}/versions/9")[0] == 404
    [changed] = send("GET", f"{path}/diff")[1]["changed"]
    assert changed["changes"][0]["field"] == "Duration"
    assert send("GET", f"{path}/diff?old=1&new=1")[1]["same"] is True
    assert send("GET", f"{path}/diff?old=9")[0] == 404
    status, restored = send("POST", f"{path}/restore", {"version": 1})
    assert (status, restored["number"], restored["message"]) == (201, 3, "restored from version 1")
    assert send("GET", path)[1]["definition"] == GOOD
    assert send("POST", f"{path}/restore", {"version": 9})[0] == 404
    assert send("POST", f"{path}/restore", {"version": 1})[0] == 409


def test_publishing_leaves_the_status_and_archived_workflows_come_back(
    send: Send, workflow: Workflow, bob: Any
) -> None:
    path = f"/workflows/{workflow.pk}"

    assert send("GET", f"{path}/diff")[0] == 409  # nothing is active yet
    assert send("POST", f"{path}/publish")[1] == {"status": "draft", "active_version": 1, "findings": []}
    workflow.save_version(BETTER, author=bob)
    assert send("POST", f"{path}/activate", {"version": 1})[1] == {
        "status": "active", "active_version": 1, "findings": [],
    }  # fmt: skip
    assert send("POST", f"{path}/publish", {"version": 2})[1]["active_version"] == 2
    assert send("POST", f"{path}/publish", {"version": 9})[0] == 404
    assert send("POST", f"{path}/unarchive")[0] == 409
    send("POST", f"{path}/archive")
    assert send("POST", f"{path}/unarchive")[1]["status"] == "draft"


def test_workflows_are_copied_written_out_and_read_back(send: Send, workflow: Workflow, bob: Any) -> None:
    path = f"/workflows/{workflow.pk}"
    workflow.save_version(graph([node("a", "delay", Duration=1), node("b", "nope")]), author=bob)

    status, copy = send("POST", f"{path}/clone", {"version": 1})
    assert (status, copy["name"], copy["status"]) == (201, "shop (copy)", "draft")
    assert copy["definition"]["nodes"] == GOOD["nodes"]
    assert send("POST", f"{path}/clone", {"name": "shop"})[0] == 409
    file = send("GET", f"{path}/export?version=1")[1]
    assert (file["name"], file["nodes"]) == ("shop", GOOD["nodes"])
    assert send("GET", f"{path}/export?version=9")[0] == 404
    status, read = send("POST", "/workflows/import", {"definition": file, "name": "again"})
    assert (status, read["version"], read["status"], read["findings"]) == (200, 1, "draft", [])
    assert send("POST", "/workflows/import", {"definition": file, "name": "again"})[1]["version"] == 1
    status, refused = send("POST", "/workflows/import", {"definition": send("GET", f"{path}/export")[1], "name": "new"})
    assert (status, "UNKNOWN_TYPE" in {finding["code"] for finding in refused["findings"]}) == (422, True)
    assert not Workflow.objects.filter(name="new").exists()


def test_schedules_are_listed_with_the_next_one_first(send: Send, workflow: Workflow, foreign: Workflow) -> None:
    send("PUT", f"/workflows/{workflow.pk}/schedule", {"cron": "0 9 * * *"})
    schedules.set_schedule(foreign, "0 9 * * *", "UTC")

    [item] = send("GET", "/schedules")[1]["items"]

    assert (item["workflow_name"], item["cron"]) == ("shop", "0 9 * * *")
    assert send("GET", "/schedules?enabled=false")[1] == {"items": [], "count": 0}
    assert send("GET", f"/workflows/{workflow.pk}/schedule")[1]["cron"] == "0 9 * * *"
    send("DELETE", f"/workflows/{workflow.pk}/schedule")
    assert send("GET", f"/workflows/{workflow.pk}/schedule")[0] == 404


# ---------------------------------------------------------------------- credits and the audit log


def test_credits_are_shown_with_their_ledger_and_a_report(send: Send, workflow: Workflow, bob: Any, alice: Any) -> None:
    assert send("GET", "/credits") == (200, None)
    for amount in (10, 5):
        credits.grant(bob, amount, "hello", actor=alice)
    credits.grant(alice, 99)
    CreditEntry.objects.create(owner=bob, kind="charge", amount=3, available_after=12, workflow=workflow)

    assert send("GET", "/credits")[1] == {"available": 15, "reserved": 0, "spent": 0}
    page = send("GET", "/credits/entries?limit=2")[1]
    rest = send("GET", f"/credits/entries?before={page['next']}")[1]
    assert (page["count"], [one["amount"] for one in page["items"]]) == (3, [3, 5])
    assert ([one["amount"] for one in rest["items"]], rest["next"]) == ([10], None)
    assert (rest["items"][0]["actor"], rest["items"][0]["note"]) == ("alice", "hello")
    assert send("GET", "/credits/entries?kind=charge")[1]["count"] == 1
    report = send("GET", "/credits/report?by=workflow")[1]
    assert (report["credits"], report["items"][0]["name"]) == (3, "shop")
    assert send("GET", "/credits/report?until=2020-01-01")[1] == {"items": [], "credits": 0}
    assert send("GET", "/credits/report?by=owner")[0] == 422


def test_the_audit_log_shows_what_was_done_to_my_things(send: Send, workflow: Workflow, foreign: Workflow) -> None:
    send("POST", f"/workflows/{workflow.pk}/activate")
    foreign.activate()

    page = send("GET", "/audit?verb=activate")[1]

    [entry] = page["items"]
    assert (entry["actor"], entry["door"], entry["kind"], entry["object_id"]) == (
        "bob",
        "api",
        "workflow",
        str(workflow.pk),
    )
    assert (page["count"], page["next"]) == (1, None)
    assert send("GET", "/audit?kind=token")[1]["items"] == []


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


def test_dates_at_the_end_of_time_are_answered(send: Send) -> None:
    assert send("GET", "/credits/report?since=0001-01-01&until=9999-12-31")[0] == 200
    body = {"name": "site", "fields": {"password": "x"}, "expires_at": "9999-12-31T23:59:59-12:00"}
    status, answer = send("POST", "/credentials", body)
    assert (status, "the years 1970 to 9998" in answer["detail"]) == (422, True)


def test_values_that_are_nested_deeply_are_refused_where_credentials_are_chosen(send: Send) -> None:
    deep: Any = {"$credential": "theirs"}
    for _ in range(700):
        deep = {"in": deep}
    body = {"definition": {"name": "deep", "nodes": [], "vars": deep}, "credentials": {"theirs": "mine"}}

    status, answer = send("POST", "/workflows/import", body)

    assert (status, "nested deeper" in answer["detail"]) == (422, True)
