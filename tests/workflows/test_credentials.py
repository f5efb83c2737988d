"""Secrets: encrypted, bound to their owner, rotated."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from workflows import credentials
from workflows.errors import CredentialError
from workflows.models import Credential

pytestmark = pytest.mark.django_db

SECRET = "correct horse battery staple"


def test_a_secret_comes_back_by_id_and_by_name_and_is_not_stored_in_clear(alice: Any) -> None:
    stored = credentials.store(alice, "site", {"username": "ada", "password": SECRET})

    assert credentials.resolve(alice.pk, str(stored.pk)) == SECRET
    assert credentials.resolve(alice.pk, "site", "password") == SECRET
    assert credentials.resolve(alice.pk, "site", "username") == "ada"
    raw = bytes(Credential.objects.get().data)
    assert SECRET.encode() not in raw
    assert b"ada" not in raw
    assert SECRET not in repr(stored.__dict__)


def test_storing_again_replaces(alice: Any) -> None:
    first = credentials.store(alice, "site", {"password": "old"})
    second = credentials.store(alice, "site", {"token": "new"}, "token")

    assert first.pk == second.pk
    assert second.kind == "token"
    assert credentials.resolve(alice.pk, "site", "token") == "new"


@pytest.mark.row("S2-08")
def test_what_is_foreign_missing_or_has_no_such_field_is_refused_without_the_secret(alice: Any, bob: Any) -> None:
    stored = credentials.store(alice, "site", {"password": SECRET})

    for owner, reference, field, reason in (
        (bob.pk, "site", "password", 'no credential "site"'),
        (bob.pk, str(stored.pk), "password", "no credential"),
        (alice.pk, "gone", "password", 'no credential "gone"'),
        (alice.pk, "site", "token", 'has no field "token"; it has "password"'),
    ):
        with pytest.raises(CredentialError, match=reason) as caught:
            credentials.resolve(owner, reference, field)
        assert SECRET not in str(caught.value)


def test_a_row_that_was_moved_to_another_owner_does_not_open(alice: Any, bob: Any) -> None:
    stored = credentials.store(alice, "site", {"password": SECRET})
    Credential.objects.filter(pk=stored.pk).update(owner=bob)

    with pytest.raises(CredentialError, match="another user"):
        credentials.resolve(bob.pk, "site")


def test_rotation_moves_everything_to_the_first_key(alice: Any, settings: Any) -> None:
    credentials.store(alice, "site", {"password": SECRET})
    old, new = settings.CREDENTIAL_KEYS, Fernet.generate_key().decode()

    settings.CREDENTIAL_KEYS = [new, *old]
    assert credentials.resolve(alice.pk, "site") == SECRET
    assert credentials.rotate() == 1
    settings.CREDENTIAL_KEYS = [new]
    assert credentials.resolve(alice.pk, "site") == SECRET

    settings.CREDENTIAL_KEYS = old
    with pytest.raises(CredentialError, match="FLOWBUILDER_CREDENTIAL_KEYS"):
        credentials.resolve(alice.pk, "site")
    with pytest.raises(CredentialError, match="cannot be opened"):
        credentials.rotate()


def test_keys_that_are_none_are_named(alice: Any, settings: Any) -> None:
    settings.CREDENTIAL_KEYS = ["not a key"]

    with pytest.raises(ImproperlyConfigured, match="FLOWBUILDER_CREDENTIAL_KEYS"):
        credentials.store(alice, "site", {"password": SECRET})


def test_the_last_use_is_noted_but_not_at_every_node(alice: Any) -> None:
    stored = credentials.store(alice, "site", {"password": SECRET})
    assert stored.last_used_at is None

    credentials.resolve(alice.pk, "site")
    first = Credential.objects.get().last_used_at
    credentials.resolve(alice.pk, "site")
    assert first is not None
    assert Credential.objects.get().last_used_at == first

    Credential.objects.update(last_used_at=timezone.now() - timedelta(hours=1))
    credentials.resolve(alice.pk, "site")
    again = Credential.objects.get().last_used_at
    assert again is not None
    assert again > first


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("", {"p": "x"}),
        ("  ", {"p": "x"}),
        ("n" * 201, {"p": "x"}),
        ("n", {}),
        ("n", {"p": 5}),
        ("n", {"p": "x" * 200_000}),
    ],
)
def test_what_cannot_be_stored_is_refused(alice: Any, name: str, fields: Any) -> None:
    with pytest.raises(CredentialError):
        credentials.store(alice, name, fields)

    assert Credential.objects.count() == 0


def test_available_names_everything_of_one_owner(alice: Any, bob: Any) -> None:
    stored = credentials.store(alice, "site", {"password": "x"})
    credentials.store(bob, "other", {"password": "x"})

    assert credentials.available(alice.pk) == {"site", str(stored.pk)}
