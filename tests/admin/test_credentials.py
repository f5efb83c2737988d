"""Credentials are written in the admin and never read there."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from tests.admin.conftest import SECRET, logged_in
from workflows import credentials
from workflows.models import Credential

ADD = "/admin/workflows/credential/add/"


def stored(user: Any, name: str, field: str) -> str:
    return credentials.resolve(user.pk, name, field)


def test_a_login_is_encrypted_and_belongs_to_who_stores_it(bob: Any) -> None:
    logged_in(bob).post(ADD, {"name": "shop", "kind": "password", "username": "bob", "password": SECRET})

    row = Credential.objects.get()
    assert row.owner == bob
    assert SECRET.encode() not in bytes(row.data)
    assert (stored(bob, "shop", "username"), stored(bob, "shop", "password")) == ("bob", SECRET)


def test_tokens_and_own_fields_are_stored(bob: Any) -> None:
    client = logged_in(bob)

    client.post(ADD, {"name": "api", "kind": "bearer", "token": SECRET})
    client.post(ADD, {"name": "own", "kind": "custom", "custom": '{"client_id": "7", "client_secret": "s"}'})

    assert stored(bob, "api", "token") == SECRET
    assert stored(bob, "own", "client_secret") == "s"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": "password", "username": "bob"}, "Fill in what is to be stored"),
        ({"kind": "bearer"}, "Fill in what is to be stored"),
        ({"kind": "custom", "custom": '{"a": 1}'}, "whose values are texts"),
        ({"kind": "custom", "custom": "nonsense"}, "valid JSON"),
    ],
)
def test_what_is_missing_is_named(fields: dict[str, str], reason: str, bob: Any) -> None:
    response = logged_in(bob).post(ADD, {"name": "shop", **fields})

    assert reason in response.content.decode()
    assert not Credential.objects.exists()


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
        ADD, {"name": "shop login", "kind": "password", "username": "u", "password": "typed in"}
    )

    assert "There is already a credential named" in response.content.decode()
    assert "typed in" not in response.content.decode()


def test_a_new_name_keeps_the_secret_and_new_fields_replace_it(bob: Any, make_world: Any) -> None:
    credential = make_world(bob, "shop").credential
    url = reverse("admin:workflows_credential_change", args=(credential.pk,))
    client = logged_in(bob)

    client.post(url, {"name": "renamed", "kind": "password"})
    kept = stored(bob, "renamed", "password")
    client.post(url, {"name": "renamed", "kind": "password", "username": "v", "password": "other"})

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

    logged_in(alice).post(url, {"name": "shop login", "kind": "password", "username": "v", "password": "other"})

    credential.refresh_from_db()
    assert credential.owner == bob
    assert stored(bob, "shop login", "password") == "other"


def test_the_log_of_changes_names_fields_only(bob: Any) -> None:
    logged_in(bob).post(ADD, {"name": "shop", "kind": "password", "username": "bob", "password": SECRET})

    assert LogEntry.objects.count() == 1
    assert SECRET not in "".join(LogEntry.objects.values_list("change_message", flat=True))
