"""Credentials are written in the admin and never read there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from tests.admin.conftest import SECRET, logged_in
from tests.conftest import graph, node
from tests.workflows.conftest import just_before
from workflows import credentials
from workflows.kinds import KINDS
from workflows.models import AuditEntry, Credential, Workflow

ADD = "/admin/workflows/credential/add/"


def stored(user: Any, name: str, field: str) -> str:
    return credentials.resolve(user.pk, name, field)


def test_a_login_is_encrypted_and_belongs_to_who_stores_it(bob: Any) -> None:
    logged_in(bob).post(
        ADD, {"name": "shop", "kind": "password", "password__username": "bob", "password__password": SECRET}
    )

    row = Credential.objects.get()
    assert row.owner == bob
    assert SECRET.encode() not in bytes(row.data)
    assert (stored(bob, "shop", "username"), stored(bob, "shop", "password")) == ("bob", SECRET)


def test_a_credential_that_somebody_stored_meanwhile_is_not_changed_by_adding_one(bob: Any) -> None:
    def faster() -> None:
        credentials.save(bob, "shop", "password", {"password": "the first"})

    with just_before('SELECT "workflows_credential"."id"', faster):
        page = logged_in(bob).post(
            ADD, {"name": "shop", "kind": "password", "password__password": SECRET}, follow=True
        )  # fmt: skip

    assert "already a credential" in page.content.decode()
    assert not Credential.objects.exists()  # what was stored here meanwhile went back with the page


def test_tokens_and_own_fields_are_stored(bob: Any) -> None:
    client = logged_in(bob)

    client.post(ADD, {"name": "api", "kind": "bearer", "bearer__token": SECRET})
    client.post(ADD, {"name": "own", "kind": "custom", "custom__fields": '{"client_id": "7", "client_secret": "s"}'})

    assert stored(bob, "api", "token") == SECRET
    assert stored(bob, "own", "client_secret") == "s"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": "password", "password__username": "bob"}, "Fill in what is to be stored"),
        ({"kind": "bearer"}, "Fill in what is to be stored"),
        ({"kind": "custom", "custom__fields": '{"a": 1}'}, "whose values are texts"),
        ({"kind": "custom", "custom__fields": "nonsense"}, "valid JSON"),
        ({"kind": "custom"}, "Fill in what is to be stored"),
        (
            {"kind": "custom", "custom__fields": '{"client id": "7"}'},
            "Field &quot;client id&quot; has a name that is not of",
        ),
        ({"kind": "custom", "custom__fields": '{"client_id": ""}'}, "Needs at least one field"),
        ({"kind": "smtp", "smtp__host": "mail.example.com", "smtp__port": "none"}, "It is a port"),
    ],
)
def test_what_is_missing_is_named(fields: dict[str, str], reason: str, bob: Any) -> None:
    response = logged_in(bob).post(ADD, {"name": "shop", **fields})

    assert reason in response.content.decode()
    assert not Credential.objects.exists()


def test_own_fields_that_nobody_has_filled_in_are_an_empty_form(bob: Any) -> None:
    client = logged_in(bob)
    asked = client.get(ADD), client.post(ADD, {"name": "own", "kind": "custom", "custom__fields": ""})

    for page in asked:
        assert page.context["adminform"].form["custom__fields"].value() == ""


def test_what_is_stored_is_never_shown(alice: Any, bob: Any, make_world: Any) -> None:
    credential = make_world(bob, "shop").credential

    for user in (alice, bob):
        for page in ("change", "history", "delete"):
            answer = logged_in(user).get(reverse(f"admin:workflows_credential_{page}", args=(credential.pk,)))
            assert SECRET not in answer.content.decode()
            assert credential.data.hex() not in answer.content.decode()
        assert SECRET not in logged_in(user).get("/admin/workflows/credential/").content.decode()


def test_a_refused_form_does_not_send_the_secret_back(bob: Any, make_world: Any) -> None:
    make_world(bob, "shop")

    response = logged_in(bob).post(
        ADD, {"name": "shop login", "kind": "password", "password__username": "u", "password__password": "typed in"}
    )

    assert "There is already a credential named" in response.content.decode()
    assert "typed in" not in response.content.decode()


def test_a_new_name_keeps_the_secret_and_new_fields_replace_it(bob: Any, make_world: Any) -> None:
    credential = make_world(bob, "shop").credential
    url = reverse("admin:workflows_credential_change", args=(credential.pk,))
    client = logged_in(bob)

    client.post(url, {"name": "renamed", "kind": "password"})
    kept = stored(bob, "renamed", "password")
    client.post(url, {"name": "renamed", "kind": "password", "password__username": "v", "password__password": "other"})

    assert kept == SECRET
    assert stored(bob, "renamed", "password") == "other"
    assert Credential.objects.get().pk == credential.pk


def test_another_kind_needs_its_secret(bob: Any, make_world: Any) -> None:
    credential = make_world(bob, "shop").credential
    url = reverse("admin:workflows_credential_change", args=(credential.pk,))

    response = logged_in(bob).post(url, {"name": "shop login", "kind": "bearer"})

    credential.refresh_from_db()
    assert "Fill in what is to be stored" in response.content.decode()
    assert credential.kind == "password"


def test_a_superuser_who_edits_a_credential_does_not_take_it_over(alice: Any, bob: Any, make_world: Any) -> None:
    credential = make_world(bob, "shop").credential
    url = reverse("admin:workflows_credential_change", args=(credential.pk,))

    logged_in(alice).post(
        url, {"name": "shop login", "kind": "password", "password__username": "v", "password__password": "other"}
    )

    credential.refresh_from_db()
    assert credential.owner == bob
    assert stored(bob, "shop login", "password") == "other"


def test_the_log_of_changes_names_fields_only(bob: Any) -> None:
    logged_in(bob).post(
        ADD, {"name": "shop", "kind": "password", "password__username": "bob", "password__password": SECRET}
    )

    assert LogEntry.objects.count() == 1
    assert SECRET not in "".join(LogEntry.objects.values_list("change_message", flat=True))


FILLED = {
    "password": {"password": SECRET},
    "api_key": {"api_key": SECRET},
    "basic": {"username": "bob", "password": SECRET},
    "bearer": {"token": SECRET},
    "smtp": {"host": "smtp.example.com", "username": "bob", "password": SECRET, "security": "ssl"},
    "twilio": {"account_sid": "AC123", "auth_token": SECRET},
    "openai": {"api_key": SECRET, "model": "small"},
    "proxy": {"server": "http://proxy.example.com:3128"},
    "browser_state": {"state": '{"cookies": [], "origins": []}'},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_stored_by_its_own_fields(kind: str, bob: Any) -> None:
    fields = FILLED.get(kind, {})
    sent = {f"{kind}__{name}": value for name, value in fields.items()} or {"custom__fields": '{"a": "b"}'}

    logged_in(bob).post(ADD, {"name": "it", "kind": kind, "smtp__security": "starttls", **sent})

    assert Credential.objects.get().kind == kind
    for name, value in (fields or {"a": "b"}).items():
        assert stored(bob, "it", name) == value


def test_the_style_sheet_shows_the_fields_of_each_kind() -> None:
    css = Path("flowbuilder/static/flowbuilder/admin.css").read_text()

    missing = [
        kind for kind in KINDS if f'option[value="{kind}"]:checked) .form-row[class*="field-{kind}__"]' not in css
    ]
    assert missing == []


def test_what_is_no_secret_is_shown_again_and_a_secret_that_is_left_empty_stays(bob: Any) -> None:
    client, end = logged_in(bob), timezone.now() + timedelta(days=3)
    fields = {"host": "smtp.example.com", "port": "587", "username": "bob", "password": SECRET}
    credential = credentials.save(bob, "mail", "smtp", fields)
    url = reverse("admin:workflows_credential_change", args=(credential.pk,))

    page = client.get(url).content.decode()
    changed = {f"smtp__{name}": value for name, value in fields.items()} | {
        "smtp__host": "mx.example.com",
        "smtp__password": "",
    }
    client.post(
        url, {"name": "mail", "kind": "smtp", "smtp__security": "ssl", **changed, "expires_at_0": str(end.date()), "expires_at_1": "12:00:00"}
    )  # fmt: skip

    assert 'value="smtp.example.com"' in page
    assert "stored – leave empty to keep it" in page
    assert (stored(bob, "mail", "host"), stored(bob, "mail", "password")) == ("mx.example.com", SECRET)
    credential.refresh_from_db()
    assert credential.expires_at is not None
    listed = client.get("/admin/workflows/credential/").content.decode()
    assert "Expires soon" in listed


def test_a_value_that_does_not_fit_is_explained_at_its_field(bob: Any) -> None:
    sent = {"smtp__host": "https://smtp.example.com", "smtp__port": "99999", "smtp__security": "ssl"}

    response = logged_in(bob).post(ADD, {"name": "mail", "kind": "smtp", **sent})

    errors = response.context["adminform"].form.errors
    assert set(errors) == {"smtp__host", "smtp__port"}
    assert "whole number from 1 to 65535" in str(errors)


def test_the_page_names_who_uses_it_and_deleting_says_who_will_miss_it(bob: Any) -> None:
    credential = credentials.save(bob, "shop", "password", {"password": SECRET})
    workflow = Workflow.objects.create(owner=bob, name="prices")
    workflow.save_version(graph([node("a", "http_request", Authorization={"$credential": "shop"})]), author=bob)
    client = logged_in(bob)

    assert (
        ">prices</a>"
        in client.get(reverse("admin:workflows_credential_change", args=(credential.pk,))).content.decode()
    )
    delete = reverse("admin:workflows_credential_delete", args=(credential.pk,))
    assert "will fail: prices" in client.get(delete).content.decode()
    client.post(delete, {"post": "yes"})

    assert not Credential.objects.exists()
    assert AuditEntry.objects.filter(verb="delete", kind="credential", actor=bob).count() == 1
