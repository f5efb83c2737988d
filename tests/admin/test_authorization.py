"""Who may do what at every address: generated from the resolver, held against the table of ``flowbuilder.policy``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.http import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from django_celery_beat import models as beat

from executions.models import WorkerLease
from flowbuilder import policy
from flowbuilder.api import api
from flowbuilder.policy import ANYONE, API, MADE, OPERATIONS, PERMITTED, PERSON, SUPERUSER, WATCHED
from recordings.models import StoredFile
from tests.admin.conftest import World
from workflows import tokens
from workflows.models import ApiToken, Plan

OWN_ONLY = frozenset({"credential_id"})
"""What the API shows to nobody but its owner, whatever others may see."""
PLAIN_NAMES = frozenset({"node_id", "sha256", "number"})
"""Names in addresses of the API that are no things of their own."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
IN, LOGIN, FORBIDDEN, GONE, METHOD = "let in", "log in", "forbidden", "not there", "wrong method"
WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass
class Actor:
    """Somebody who asks, and what the table grants them."""

    name: str
    client: Client
    headers: dict[str, str] = field(default_factory=dict)
    person: bool = True
    staff: bool = False
    superuser: bool = False
    owner: bool = False
    sees: bool = False
    changes: bool = False
    scopes: tuple[str, ...] | None = None
    """Of a token; None for people."""
    dead: bool = False
    asked: int = 0

    def ask(self, method: str, url: str, body: Any = None, *, keep: bool = False) -> HttpResponseBase:
        """Ask, and take back whatever it changed unless that is to ``keep``."""
        self.asked += 1
        # Tokens that do not work have a rate for each address.
        address = f"10.0.{self.asked % 250}.1" if self.dead else "127.0.0.1"
        content = "" if body is None else json.dumps(body)
        kind = "application/json"
        if url.startswith("/admin/") and method == "POST":
            content, kind = "post=yes", "application/x-www-form-urlencoded"
        with transaction.atomic():
            answer = self.client.generic(method, url, content, kind, headers=self.headers, REMOTE_ADDR=address)
            transaction.set_rollback(not keep)
        for close in answer._resource_closers:  # type: ignore[attr-defined]  # close() would also end the database connection of the test
            close()
        return answer


@pytest.fixture
def worlds(bob: Any, carol: Any, make_world: Any) -> tuple[World, World]:
    """Return what bob owns, and what carol does."""
    return make_world(bob, "bobs"), make_world(carol, "carols")


@pytest.fixture
def actors(worlds: Any, alice: Any, bob: Any, carol: Any, django_user_model: Any) -> list[Actor]:
    """Return everybody of the matrix. What is asked for belongs to bob."""

    def person(name: str, *permissions: str, staff: bool = True) -> Any:
        user = django_user_model.objects.create(username=name, is_staff=staff)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        return user

    def client(user: Any = None) -> Client:
        made = Client(raise_request_exception=False)
        if user is not None:
            made.force_login(user)
        return made

    def token(owner: Any, *scopes: str, **values: Any) -> dict[str, str]:
        row, text = tokens.create(owner, "matrix", scopes)
        ApiToken.objects.filter(pk=row.pk).update(**values)
        return {"Authorization": f"Bearer {text}"}

    now = timezone.now()
    found = [
        Actor("anonymous", client(), person=False),
        Actor("guest", client(person("guest", staff=False))),
        Actor("owner", client(bob), staff=True, owner=True),
        Actor("other", client(carol), staff=True),
        Actor("observer", client(person("observer", "see_everything")), staff=True, sees=True),
        Actor("half", client(person("half", "change_everything")), staff=True),
        Actor(
            "manager",
            client(person("manager", "see_everything", "change_everything")),
            staff=True,
            sees=True,
            changes=True,
        ),
        Actor("superuser", client(alice), staff=True, superuser=True, sees=True, changes=True),
        Actor("foreign token", client(), token(carol, "*"), scopes=("*",)),
        Actor("expired token", client(bob), token(bob, "*", expires_at=now - timedelta(seconds=1)), dead=True),
        Actor("revoked token", client(bob), token(bob, "*", revoked_at=now), dead=True),
    ]
    found += [
        Actor(f"token {scope}", client(), token(bob, scope), owner=True, scopes=(scope,)) for scope in tokens.SCOPES
    ]
    return found


def routes() -> Iterator[str]:
    """Return every route that the resolver has."""

    def walk(patterns: list[Any], before: str) -> Iterator[str]:
        for pattern in patterns:
            route = before + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, route)
            else:
                assert isinstance(pattern, URLPattern)
                yield route

    return iter(dict.fromkeys(walk(get_resolver().url_patterns, "")))


def outcome(answer: HttpResponseBase) -> str:
    """Return what became of a request."""
    location = answer.headers.get("Location", "")
    if answer.status_code == 401 or location.startswith("/admin/login/"):
        return LOGIN
    if answer.status_code == 404 or location == "/admin/":
        return GONE
    return {403: FORBIDDEN, 405: METHOD}.get(answer.status_code, IN)


# ---------------------------------------------------------------------- the API


def things(world: World) -> dict[str, str]:
    """Return a value for every name in an address of the API."""
    return {
        "workflow_id": str(world.workflow.pk),
        "webhook_id": str(world.webhook.pk),
        "execution_id": str(world.execution.pk),
        "recording_id": str(world.recording.pk),
        "other_id": str(world.recording.pk),
        "token_id": str(ApiToken.objects.filter(owner=world.owner).order_by("created_at")[0].pk),
        "credential_id": str(world.credential.pk),
        "letter_id": str(world.letter.pk),
        "alert_id": str(world.alert.pk),
        "rule_id": str(world.alert.rule_id),
        "channel_id": str(world.alert.messages.get().channel_id),
        "node_id": "send",
        "sha256": world.blob.pk,
        "number": "1",
    }


QUERIES = {"cron": "0 9 * * *", "event": "1"}


def example(schema: dict[str, Any], definitions: dict[str, Any], values: dict[str, str], name: str = "") -> Any:
    """Return the least value that a schema of the API's document takes."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], definitions, values, name)
    if "enum" in schema:
        return schema["enum"][0]
    if name == "definition":
        return {"nodes": [], "edges": []}
    if schema.get("type") == "object":
        required = [key for key in schema.get("properties", ()) if key in (*schema.get("required", ()), "base_version")]
        return {key: example(schema["properties"][key], definitions, values, key) for key in required}
    if schema.get("type") == "array":
        return [example(schema["items"], definitions, values, name)] if schema.get("minItems") else []
    if schema.get("format") == "uuid":
        return values.get(name, str(uuid.uuid4()))
    return {"integer": 1, "number": 1, "boolean": True, "string": QUERIES.get(name, "account:read")}.get(
        schema.get("type", ""), "account:read"
    )


@dataclass
class Call:
    """An operation of the API with everything that it needs filled in."""

    name: str
    method: str
    url: str
    body: Any
    names: tuple[str, ...]


def calls(values: dict[str, str]) -> Iterator[Call]:
    """Return every operation of the API about the things in ``values``."""
    document = json.loads(json.dumps(api.get_openapi_schema(), default=str))
    definitions = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            named = {
                one["name"]: one["schema"]
                for one in operation.get("parameters", ())
                if one["in"] == "query" and one["required"]
            }
            query = {
                key: values["execution_id"] if key == "execution" else example(schema, definitions, values, key)
                for key, schema in named.items()
            }
            names = tuple(one["name"] for one in operation.get("parameters", ()) if one["in"] == "path")
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            url = path.format(**values) + (f"?{'&'.join(f'{k}={v}' for k, v in query.items())}" if query else "")
            yield Call(
                f"{method.upper()} {path.removeprefix(API)}",
                method.upper(),
                url.replace(" ", "%20"),
                None if body is None else example(body, definitions, values),
                names,
            )


def test_every_name_in_an_address_of_the_api_is_declared() -> None:
    for route in routes():
        if route.startswith("api/v1/"):
            for name in policy.operation(route, "").split("{")[1:]:
                assert name.partition("}")[0] in policy.THINGS.keys() | PLAIN_NAMES, route


def expected_of(call: Call, actor: Actor) -> set[str]:
    """Return what the table says about an operation on a thing of bob."""
    about = [name for name in call.names if name in policy.THINGS or name == "sha256"]
    changes = call.method in WRITES and call.name not in policy.READING_POSTS
    if actor.dead or not actor.person:
        return {LOGIN}
    if actor.scopes is not None:
        scope = OPERATIONS[call.name]
        read = {f"{scope.partition(':')[0]}:{verb}" for verb in ("write", "run")} if scope.endswith(":read") else set()
        if not {"*", scope, *read} & set(actor.scopes):
            return {FORBIDDEN}
    mine_in_body = call.name == "POST /executions"
    if actor.owner or not (about or mine_in_body):
        return {IN}
    if not actor.sees or set(about) & OWN_ONLY:
        return {FORBIDDEN, GONE} if actor.sees and not actor.changes and changes else {GONE}
    if actor.changes or not (changes or mine_in_body):
        return {IN}
    return {FORBIDDEN}


NOT_STORED = {"GET /recordings/artifacts/{sha256}", "GET /recordings/{recording_id}/state"}
"""What the rows of these tests have no file for: 404 for everybody."""


@pytest.mark.row("S2-53")
@pytest.mark.timeout(400)
def test_fault_55_every_operation_of_the_api_lets_in_whom_the_table_names(worlds: Any, actors: list[Actor]) -> None:
    values = things(worlds[0])
    wrong, asked = [], 0
    for call in calls(values):
        for actor in actors:
            answer = actor.ask(call.method, call.url, call.body)
            asked += 1
            allowed = expected_of(call, actor)
            if IN in allowed and call.name in NOT_STORED:
                allowed = {IN, GONE}
            found = outcome(answer) if answer.status_code < 500 else "crashed"
            if found not in allowed:
                wrong.append(
                    (call.name, actor.name, answer.status_code, getattr(answer, "content", b"")[:200], allowed)
                )

    assert wrong == [], "\n".join(map(str, wrong))
    assert asked > 700


def test_fault_55_a_method_that_an_address_does_not_take_is_405_for_everybody(worlds: Any, actors: list[Actor]) -> None:
    values = things(worlds[0])
    some = [actor for actor in actors if actor.name in ("anonymous", "other", "superuser", "token *")]
    asked = 0
    for route in routes():
        if not policy.has_operations(route):
            continue
        url = "/api/v1" + policy.operation(route, "").strip().format(**values)
        for method in METHODS:
            if policy.operation(route, method) not in OPERATIONS:
                for actor in some:
                    asked += 1
                    answer = actor.ask(method, url, {})
                    assert outcome(answer) == METHOD, (method, url, actor.name, answer.status_code)
                    assert json.loads(answer.content).keys() == {"detail"}  # type: ignore[attr-defined]
    assert asked > 300


def test_fault_55_foreign_things_answer_as_things_that_never_were(worlds: Any, actors: list[Actor]) -> None:
    foreign, nothing = things(worlds[0]), {**things(worlds[0]), **{name: str(uuid.uuid4()) for name in policy.THINGS}}
    nothing |= {"sha256": "0" * 64, "letter_id": "999999"}
    others = [actor for actor in actors if actor.name in ("other", "foreign token", "half")]
    for mine, none in zip(calls(foreign), calls(nothing), strict=True):
        if mine.names:
            for actor in others:
                found, missing = (
                    actor.ask(mine.method, mine.url, mine.body),
                    actor.ask(none.method, none.url, none.body),
                )
                shown = [
                    (answer.status_code, answer.content.decode())  # type: ignore[attr-defined]
                    for answer, values in ((found, foreign), (missing, nothing))
                ]
                assert shown[0] == shown[1], (mine.name, actor.name)


# ---------------------------------------------------------------------- pages


@pytest.fixture
def unrendered(monkeypatch: Any) -> None:
    """Decide who may see a page without writing its HTML, which other tests look at."""
    monkeypatch.setattr(SimpleTemplateResponse, "rendered_content", property(lambda page: ""))


@pytest.fixture
def rows(worlds: Any, alice: Any, db: None) -> dict[str, Any]:
    """Return a row of every model of the admin; what has an owner is bob's."""
    interval = beat.IntervalSchedule.objects.create(every=1, period="hours")
    return {key.replace("_", "/", 1): row for key, row in worlds[0].owned().items()} | {
        "executions/workerlease": WorkerLease.objects.create(
            boot="w" * 32, hostname="h", pid=1, started_at=timezone.now(), beat_at=1
        ),
        "recordings/storedfile": StoredFile.objects.create(name="file", content=b"bytes"),
        "workflows/plan": Plan.objects.create(name="plan"),
        "auth/user": alice,
        "auth/group": Group.objects.create(name="group"),
        "django_celery_beat/intervalschedule": interval,
        "django_celery_beat/periodictask": beat.PeriodicTask.objects.create(name="t", task="t", interval=interval),
        "django_celery_beat/clockedschedule": beat.ClockedSchedule.objects.create(clocked_time=timezone.now()),
        "django_celery_beat/crontabschedule": beat.CrontabSchedule.objects.create(),
        "django_celery_beat/solarschedule": beat.SolarSchedule.objects.create(
            event="dusk_civil", latitude=1, longitude=1
        ),
    }


PLACES = {
    "<path:object_id>": "{pk}", "<uuid:pk>": "{pk}", "<int:pk>": "{pk}", "<id>": "{pk}", "<int:number>": "2",
    "<slug:verb>": "{verb}", "<str:token>": "nonsense", "<path:content_type_id>": "1", "<str:execution_id>": "nonsense",
}  # fmt: skip
VERBS = {"executions/deadletter": "discard", "monitoring/alert": "acknowledge", "monitoring/alertrule": "unsilence"}
"""What is done where a page does more than one thing, by the first words of the address."""


def address(route: str, pk: Any) -> str:
    """Return an address that the route resolves, about the row ``pk``."""
    if route.startswith("admin/^(?P<app_label>"):
        return "/admin/workflows/"
    route = route.replace("(?P<url>.*)$", "nonsense/")
    for place, value in PLACES.items():
        route = route.replace(place, value)
    verb = next((verb for place, verb in VERBS.items() if route.startswith(f"admin/{place}/")), "pause")
    return "/" + route.format(pk=pk, verb=verb)


def expected_at(route: str, method: str, actor: Actor) -> set[str]:
    """Return what the table says about a page of the admin, about a row of bob."""
    rule = policy.rule_of(route, method)
    assert rule is not None, route
    if rule.who == ANYONE:
        return {IN, LOGIN, GONE}  # what is shown does not depend on who asks
    if rule.who == PERSON:
        return {GONE} if actor.person and actor.scopes is None else {LOGIN}
    if not actor.staff:
        return {LOGIN}
    place = route.removeprefix("admin/")
    model = "/".join(place.split("/")[:2])
    page = place.removeprefix(f"{model}/")
    if model not in policy.MODELS:
        nothing = {"(?P<url>.*)$": GONE, "r/<path:content_type_id>/<path:object_id>/": GONE, "autocomplete/": FORBIDDEN}
        return {nothing.get(place, IN)}  # what the matrix asks these for is nothing that they have
    kind = policy.MODELS[model]
    if kind in (PERMITTED, SUPERUSER) and not actor.superuser and page != "<path:object_id>/":
        return {FORBIDDEN, GONE}
    if kind == PERMITTED or page == "<path:object_id>/":  # which leads to the form, whatever the id is
        return {IN}
    allowed = {IN}
    if page == "<path:object_id>/delete/" and kind in (WATCHED, MADE, SUPERUSER):
        return {FORBIDDEN}
    if page == "add/" and kind in (WATCHED, SUPERUSER):
        return {FORBIDDEN}
    if kind in (WATCHED, MADE, SUPERUSER) and page == "<path:object_id>/change/" and method == "POST":
        allowed = {FORBIDDEN, IN}  # some show the page, and change nothing
    if "<" in page and kind != SUPERUSER:
        if not (actor.owner or (actor.changes if method == "POST" else actor.sees)):
            return {GONE, FORBIDDEN} if kind in (WATCHED, MADE) else {GONE}
        if page == "<path:object_id>/delete/" and not (actor.owner or actor.changes):
            return {FORBIDDEN}
    return allowed


@pytest.mark.row("S2-53")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_fault_55_every_page_lets_in_whom_the_table_names(
    rows: dict[str, Any], actors: list[Actor], unrendered: None, method: str
) -> None:
    names = ("anonymous", "guest", "owner", "other", "observer", "superuser")
    asking = [actor for actor in actors if actor.name in names]
    wrong, asked = [], 0
    for route in routes():
        if route.startswith("api/v1/") or route == "admin/logout/":
            continue
        model = "/".join(route.removeprefix("admin/").split("/")[:2])
        assert model not in policy.MODELS or model in rows, f"give the matrix a row of {model}"
        url = address(route, getattr(rows.get(model), "pk", 1))
        for actor in asking:
            answer = actor.ask(method, url)
            found = outcome(answer) if answer.status_code < 500 or url == "/readyz" else "crashed"
            asked += 1
            if found != METHOD and found not in expected_at(route, method, actor):
                wrong.append((method, url, actor.name, found, expected_at(route, method, actor)))
    assert wrong == [], "\n".join(map(str, wrong))
    assert asked > 800


def test_fault_55_every_address_has_a_rule_and_every_rule_an_address(db: None) -> None:
    found = list(routes())
    without = [route for route in found if not policy.has_operations(route) and policy.rule_of(route, "GET") is None]
    assert without == []

    operations = {
        f"{method.upper()} {path.removeprefix(API)}"
        for path, methods in api.get_openapi_schema()["paths"].items()
        for method in methods
    }
    assert operations == OPERATIONS.keys()
    assert set(policy.PAGES) - set(found) == {"admin/<app_label>/"}
    assert {f"admin/{page}" for page in policy.MODEL_PAGES} <= set(found)
    assert {f"admin/{model}/" for model in policy.MODELS} <= set(found)
    assert OPERATIONS.keys() >= policy.STARTS | policy.READING_POSTS | policy.FOR_NAMED
    assert set(OPERATIONS.values()) <= tokens.SCOPES.keys()


def test_fault_55_an_address_without_a_rule_is_refused_to_a_superuser(actors: Any, monkeypatch: Any) -> None:
    superuser: Actor = next(actor for actor in actors if actor.name == "superuser")
    monkeypatch.delitem(policy.MODELS, "workflows/workflow")

    assert superuser.ask("GET", "/admin/workflows/workflow/").status_code == 403
