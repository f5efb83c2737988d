"""Who is let in: tokens before sessions, scopes, rates, and the log of who came by which door."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.utils import timezone

from flowbuilder import policy, throttle
from flowbuilder.rates import Rate, read_rate
from tests.conftest import graph, node
from workflows import tokens
from workflows.models import ApiToken, AuditEntry

DELAY = graph([node("wait", "delay", Duration=1)])


class Program:
    """A program that calls the API with a token, and with nothing else."""

    def __init__(self, text: str, client: Client | None = None) -> None:
        self.client = client or Client(enforce_csrf_checks=True)
        self.headers = {"Authorization": f"Bearer {text}"}

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        data = "" if body is None else json.dumps(body)
        return self.client.generic(method, f"/api/v1{path}", data, "application/json", headers=self.headers | headers)


def program(owner: Any, *scopes: str) -> Program:
    """Return a program with a token of ``owner``."""
    return Program(tokens.create(owner, "program", scopes or ("*",))[1])


def test_a_token_needs_neither_a_login_nor_a_csrf_token(bob: Any) -> None:
    answer = program(bob)("POST", "/workflows", {"name": "mine"})

    assert answer.status_code == 201, answer.content
    assert bob.workflows.get().name == "mine"


def test_a_request_that_is_too_large_is_413_with_the_limit_and_the_way_out(bob: Any, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.MAX_DEFINITION_BYTES = 2 * 1024**2, 1024**2
    large = graph([node("wait", "delay", Duration="x" * 3 * 1024**2)])
    client = Client(enforce_csrf_checks=True)
    client.force_login(bob)
    client.get("/admin/workflows/workflow/import/")
    sent: Any = {"headers": {"X-CSRFToken": client.cookies["csrftoken"].value}}
    reason = (
        "he request is larger than 2 MB, the most that is taken; send less at once. A workflow may have "
        "1 MB as JSON (FLOWBUILDER_MAX_DEFINITION_BYTES): divide a larger one into subflows"
    )

    by_token = program(bob)("POST", "/workflows", {"name": "mine", "definition": large})
    by_builder = client.post("/api/v1/workflows", {"definition": large}, content_type="application/json", **sent)
    by_form = client.post("/api/v1/workflows", {"definition": json.dumps(large)}, **sent)
    page = client.post("/admin/workflows/workflow/import/", {"text": json.dumps(large), "import": "Import"}, **sent)

    assert (by_token.status_code, by_token.json()) == (413, {"detail": f"t{reason}"})
    assert (by_builder.status_code, by_builder.json()) == (413, {"detail": f"t{reason}"})
    assert (by_form.status_code, by_form.json()) == (413, {"detail": f"t{reason}"})
    assert page.status_code == 413
    assert f"T{reason}." in page.content.decode()
    assert not bob.workflows.exists()


def test_a_session_needs_a_csrf_token_to_change_something(bob: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(bob)

    assert client.get("/api/v1/workflows").status_code == 200
    answer = client.post("/api/v1/workflows", {"name": "mine"}, content_type="application/json")
    assert (answer.status_code, answer.json()) == (403, {"detail": "CSRF check Failed"})


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "bearer nonsense", "Bearer fb_aaaaaaaaaa_" + "a" * 43])
def test_a_token_that_does_not_work_is_401_even_with_a_good_session(bob: Any, header: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(bob)

    answer = client.get("/api/v1/workflows", headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.json() == {"detail": "the token does not work: it is mistyped, revoked or expired"}
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_token_wins_over_the_session_that_comes_with_it(alice: Any, bob: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    asked = Program(tokens.create(bob, "program", ["*"])[1], client)

    assert asked("GET", "/users/me").json()["username"] == "bob"


def test_answers_are_for_the_one_who_asked_only(bob: Any) -> None:
    for answer in (
        program(bob)("GET", "/users/me"),
        Client().get("/api/v1/users/me"),
        program(bob)("GET", "/nonsense"),
    ):
        assert {"Authorization", "Cookie"} <= set(answer["Vary"].split(", "))
        assert answer["Cache-Control"].startswith("private")


def test_nobody_is_401(db: None) -> None:
    answer = Client().get("/api/v1/workflows")

    assert (answer.status_code, list(answer.json())) == (401, ["detail"])


def test_a_token_without_the_scope_is_told_which_one_it_lacks(bob: Any) -> None:
    answer = program(bob, "workflows:read")("POST", "/workflows", {"name": "mine"})

    assert answer.status_code == 403
    assert answer.json() == {"detail": 'the token "program" lacks the scope "workflows:write"', "code": "scope"}


def test_a_token_opens_no_page_of_the_admin(alice: Any) -> None:
    asked = program(alice)

    answer = asked.client.get("/admin/workflows/workflow/", headers=asked.headers)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


def test_an_operation_without_a_rule_is_refused(alice: Any, monkeypatch: Any) -> None:
    monkeypatch.delitem(policy.OPERATIONS, "GET /node-types")

    for answer in (program(alice)("GET", "/node-types"), _logged_in(alice).get("/api/v1/node-types")):
        assert answer.status_code == 403
        assert "no rule" in answer.json()["detail"]


def test_every_error_of_the_api_has_the_one_shape(bob: Any) -> None:
    asked = program(bob)

    for method, path, body, status in (
        ("GET", "/nonsense", None, 404),
        ("DELETE", "/node-types", None, 405),
        ("GET", "/workflows/nonsense", None, 422),
        ("GET", "/workflows/7a0a2a4e-0000-4000-8000-000000000000", None, 404),
        ("POST", "/workflows", {"name": ""}, 422),
    ):
        answer = asked(method, path, body)
        assert answer.status_code == status, (method, path, answer.content)
        assert isinstance(answer.json()["detail"], str), (method, path)


def test_the_document_names_scope_and_answers_of_every_operation(db: None) -> None:
    document = Client().get("/api/v1/openapi.json").json()

    shown = {
        f"{method.upper()} {path.removeprefix('/api/v1')}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert {name: operation["x-scope"] for name, operation in shown.items()} == policy.OPERATIONS
    for name, operation in shown.items():
        assert operation["security"] == [{"Token": [policy.OPERATIONS[name]]}, {"SessionAuth": []}], name
        assert {"401", "403", "429"} <= operation["responses"].keys(), name
    assert document["components"]["securitySchemes"]["Token"] == {"type": "http", "scheme": "bearer"}


# ---------------------------------------------------------------------- account and tokens


def test_users_me_says_who_the_token_is_and_what_it_may(bob: Any) -> None:
    answer = program(bob, "account:read")("GET", "/users/me").json()

    assert answer["username"] == "bob"
    assert answer["token"]["scopes"] == ["account:read"]
    assert answer["limits"]["nodes"] == django_settings.MAX_NODES
    assert answer["credits"] is None
    assert (answer["see_everything"], answer["change_everything"]) == (False, False)
    assert "digest" not in str(answer)


def test_tokens_are_made_listed_and_revoked_over_the_api(bob: Any, carol: Any) -> None:
    asked = program(bob)
    other, _ = tokens.create(carol, "foreign")

    made = asked("POST", "/tokens", {"name": "new", "scopes": ["executions:run"]})
    assert made.status_code == 201
    text, pk = made.json()["token"], made.json()["id"]
    assert Program(text)("GET", "/executions").status_code == 200
    listed = asked("GET", "/tokens")
    assert [row["name"] for row in listed.json()] == ["new", "program"]
    assert text.split("_", 2)[2] not in listed.content.decode()

    assert asked("DELETE", f"/tokens/{pk}").status_code == 204
    assert Program(text)("GET", "/executions").status_code == 401
    assert asked("DELETE", f"/tokens/{other.pk}").status_code == 404
    assert ApiToken.objects.get(pk=other.pk).revoked_at is None


def test_a_token_cannot_make_one_that_may_more_or_lives_longer(bob: Any) -> None:
    soon = timezone.now() + timedelta(hours=1)
    asked = Program(tokens.create(bob, "small", ["account:write", "executions:read"], soon)[1])
    body = {"name": "new", "scopes": ["executions:read"], "expires_at": soon.isoformat()}

    assert asked("POST", "/tokens", body).status_code == 201
    for wrong in (
        {"scopes": ["*"]},
        {"scopes": ["executions:read", "executions:run"]},
        {"expires_at": None},
        {"expires_at": (soon + timedelta(seconds=1)).isoformat()},
    ):
        assert asked("POST", "/tokens", body | wrong).status_code == 403, wrong
    assert asked("POST", "/tokens", body | {"scopes": ["nonsense"]}).status_code == 422
    for end in (
        "2020-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
        "2099-01-01T00:00:00",
    ):
        assert _session(bob).post("/api/v1/tokens", body | {"expires_at": end}, "application/json").status_code == 422


def _session(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


_logged_in = _session


@pytest.fixture
def carol(django_user_model: Any) -> Any:
    """A second person who is not a superuser."""
    return django_user_model.objects.create_user("carol", password="carol-password", is_staff=True)


# ---------------------------------------------------------------------- who did it


def test_what_a_request_changes_is_noted_with_the_door_and_the_token(bob: Any) -> None:
    asked = program(bob)
    asked("POST", "/tokens", {"name": "by token", "scopes": ["*"]})
    _session(bob).post("/api/v1/tokens", {"name": "by session", "scopes": ["*"]}, "application/json")

    by_token, by_session = AuditEntry.objects.order_by("id")[1:]
    assert (by_token.actor, by_token.door, by_token.detail["via"]) == (bob, "api", bob.api_tokens.last().prefix)
    assert (by_session.actor, by_session.door, "via" in by_session.detail) == (bob, "api", False)


# ---------------------------------------------------------------------- rates


@pytest.mark.parametrize("text", ["600/min", "10/s", "100/h", "off", " 7 / min "])
def test_rates_are_read(text: str) -> None:
    assert text == "off" or read_rate(text).count == int(text.partition("/")[0])  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["", "0/min", "600", "-1/s", "1/day", "1.5/s", "many", "600/min/min"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 600/min"):
        read_rate(text)


@pytest.mark.redis
def test_a_bucket_gives_exactly_as_many_as_it_holds_to_many_at_once(rates: Any) -> None:
    given: list[int] = []

    def ask() -> None:
        given.extend(throttle.take("many", Rate(50, 3600)) for _ in range(25))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert given.count(0) == 50
    assert all(0 <= wait <= 73 for wait in given)


@pytest.mark.redis
def test_a_bucket_fills_again(rates: Any) -> None:
    rate, taken = Rate(2, 1), 0
    while not throttle.take("again", rate):
        taken += 1
        assert taken < 50, "it never gets empty"
    assert taken >= 2

    end = time.monotonic() + 60
    while throttle.take("again", rate) and time.monotonic() < end:
        time.sleep(0.05)
    assert time.monotonic() < end


@pytest.mark.redis
def test_who_asks_too_often_is_told_when_to_come_again_and_others_are_not(rates: Any, alice: Any, bob: Any) -> None:
    rates.API_RATE = "2/h"
    asked = program(bob)

    assert [asked("GET", "/node-types").status_code for _ in range(3)] == [200, 200, 429]
    refused = asked("GET", "/node-types")
    assert refused.json()["code"] == "rate_limited"
    assert 0 < int(refused["Retry-After"]) <= 1800
    assert program(alice)("GET", "/node-types").status_code == 200
    assert _session(bob).get("/api/v1/node-types").status_code == 200
    assert [Client().get("/api/v1/node-types").status_code for _ in range(3)] == [401, 401, 429]


@pytest.mark.redis
def test_starts_have_a_rate_of_their_own(rates: Any, bob: Any, make_workflow: Any) -> None:
    rates.START_RATE = "1/h"
    workflow = make_workflow(DELAY, owner=bob)
    asked = program(bob)

    statuses = [asked("POST", "/executions", {"workflow_id": str(workflow.pk)}).status_code for _ in range(2)]
    assert statuses == [202, 429]
    assert asked("GET", "/executions").json()["count"] == 1


@pytest.mark.redis
def test_without_redis_the_api_answers(rates: Any, bob: Any) -> None:
    rates.API_RATE = rates.LOGIN_RATE = "1/h"
    rates.REDIS_URL = "unix:///nowhere.sock"
    asked = program(bob)

    assert [asked("GET", "/node-types").status_code for _ in range(3)] == [200, 200, 200]


@pytest.mark.redis
def test_one_answer_that_redis_owes_lifts_no_limit_for_long(rates: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there, now = rates.REDIS_URL, [1000.0]
    monkeypatch.setattr(throttle, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def pause() -> float:
        """Return for how long nothing is asked after Redis does not answer now."""
        rates.REDIS_URL = "unix:///nowhere.sock"
        throttle.take("door", Rate(1, 60))
        began = now[0]
        while throttle.silence.lasts:
            now[0] += 0.25
        return now[0] - began

    assert [pause() for _ in range(6)] == [0.5, 1, 2, 4, 5, 5]
    rates.REDIS_URL = there
    assert (throttle.take("door", Rate(1, 60)), throttle.take("door", Rate(1, 60)) > 0) == (0, True)
    assert pause() == 0.5
    throttle.silence.begin(OSError())
    throttle.silence.begin(OSError())  # of who asked at the same time
    assert [pause(), pause()] == [1, 2]


@pytest.mark.redis
def test_fault_73_guessing_tokens_ends_in_429_and_good_tokens_go_on(rates: Any, bob: Any) -> None:
    good = program(bob)
    bad = Program("fb_aaaaaaaaaa_" + "a" * 43)

    statuses = [bad("GET", "/node-types").status_code for _ in range(60)]
    assert statuses[:30] == [401] * 30
    assert statuses[-20:] == [429] * 20
    assert good("GET", "/node-types").status_code == 200


@pytest.mark.redis
def test_fault_73_guessing_passwords_ends_in_429_for_that_name_and_address_only(rates: Any, bob: Any) -> None:
    rates.LOGIN_RATE = "3/h"

    def login(password: str, name: str = "bob", address: str = "198.51.100.7") -> int:
        form = {"username": name, "password": password}
        return Client(REMOTE_ADDR=address).post("/admin/login/", form).status_code

    assert [login("bob-password") for _ in range(5)] == [302] * 5, "a login that succeeds does not count"
    assert [login("guess") for _ in range(5)] == [200, 200, 200, 429, 429]
    assert login("bob-password") == 429
    assert login("guess", name=" BOB ") == 429
    assert login("guess", name="\uff42\uff4f\uff42") == 429, "the form reads fullwidth letters as plain ones"
    assert login("bob-password", address="198.51.100.8") == 302
    assert login("alice", name="alice") == 200

    assert [login("guess", name=f"name {number}") for number in range(40)][-1] == 429, "one address, many names"
    answer = Client(REMOTE_ADDR="198.51.100.7").post("/admin/login/", {"username": "bob", "password": "guess"})
    assert int(answer["Retry-After"]) > 0
    assert "then try again" in answer.content.decode()


@pytest.mark.redis
def test_fault_73_a_session_of_ones_own_does_not_lift_the_limit_of_guesses(rates: Any, bob: Any, alice: Any) -> None:
    rates.LOGIN_RATE = "3/h"
    client = _session(bob)

    def login(password: str, name: str) -> int:
        return client.post("/admin/login/", {"username": name, "password": password}).status_code

    assert [login("guess", "alice") for _ in range(5)] == [200, 200, 200, 429, 429]
    assert login("bob-password", "bob") == 302, "another name goes on"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("", "unknown"),
    ],
)
def test_addresses_are_told_apart_by_what_one_machine_has(text: str, address: str) -> None:
    class Request:
        META = {"REMOTE_ADDR": text}

    assert throttle.address_of(Request()) == address
