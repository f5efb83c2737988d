"""Secrets: encrypted, bound to their owner, rotated."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from tests.workflows.test_kinds import GOOD
from workflows import audit, credentials, kinds
from workflows.errors import CredentialError, CredentialInUse, CredentialRefused, CredentialTaken
from workflows.models import AuditEntry, Credential, Workflow

pytestmark = pytest.mark.django_db

SECRET = "correct horse battery staple"


def test_a_secret_comes_back_by_id_and_by_name_and_is_not_stored_in_clear(alice: Any) -> None:
    stored = credentials.save(alice, "site", "password", {"username": "ada lovelace", "password": SECRET})

    assert credentials.resolve(alice.pk, str(stored.pk)) == SECRET
    assert credentials.resolve(alice.pk, "site", "password") == SECRET
    assert credentials.resolve(alice.pk, "site", "username") == "ada lovelace"
    raw = bytes(Credential.objects.get().data)
    assert SECRET.encode() not in raw
    assert b"ada lovelace" not in raw
    assert SECRET not in repr(stored.__dict__)
    assert SECRET not in repr(credentials.open_all(alice.pk, ["site"]))


@pytest.mark.row("S2-08")
def test_every_kind_is_stored_and_comes_back_field_by_field(alice: Any) -> None:
    for kind, fields in GOOD.items():
        credentials.save(alice, kind, kind, fields)

        for name, value in fields.items():
            assert credentials.resolve(alice.pk, kind, name) == value
        if not kinds.KINDS[kind].free:
            assert credentials.resolve(alice.pk, kind) == fields[kinds.KINDS[kind].main]
    assert credentials.resolve(alice.pk, "basic", "user_password") == "ada:colons: are fine here"
    assert credentials.resolve(alice.pk, "twilio", "base_url") == "https://api.twilio.com"


def test_fields_that_are_not_given_stay_and_an_empty_one_goes(alice: Any) -> None:
    first = credentials.save(alice, "mail", "smtp", {"host": "a.example.com", "username": "ada", "password": "old"})
    second = credentials.save(alice, "mail", fields={"password": SECRET, "username": ""})

    assert first.pk == second.pk
    assert credentials.public(second)["fields"] == {"host": "a.example.com"}
    assert credentials.resolve(alice.pk, "mail") == SECRET
    with pytest.raises(CredentialError, match='has no field "username"; it has "host", "password"'):
        credentials.resolve(alice.pk, "mail", "username")


def test_another_kind_keeps_only_what_it_has_and_needs_the_rest(alice: Any) -> None:
    credentials.save(alice, "site", "password", {"username": "ada", "password": "old"})
    with pytest.raises(CredentialRefused, match='field "token" is missing'):
        credentials.save(alice, "site", "token")
    changed = credentials.save(alice, "site", "token", {"token": "new"})

    assert changed.kind == "bearer"
    assert credentials.public(changed)["secrets"] == ["token"]
    assert credentials.save(alice, "site", "custom", {"a": "b"}).kind == "custom"
    assert credentials.resolve(alice.pk, "site") == "b"


def test_a_new_name_must_be_free_and_moves_nothing_else(alice: Any, bob: Any) -> None:
    row = credentials.save(alice, "site", "password", {"password": SECRET})
    credentials.save(alice, "other", "password", {"password": "x"})
    credentials.save(bob, "free", "password", {"password": "x"})

    with pytest.raises(CredentialTaken, match='already a credential "'):
        credentials.save(alice, "other", credential=row)
    assert credentials.save(alice, "free", credential=row).pk == row.pk
    assert credentials.resolve(alice.pk, "free") == SECRET
    with pytest.raises(CredentialError, match="not there any more"):
        credentials.save(bob, "mine", credential=row)


def test_what_is_shown_again_is_never_a_secret(alice: Any, settings: Any) -> None:
    for kind, fields in GOOD.items():
        row = credentials.save(alice, kind, kind, fields)

        shown = str(credentials.public(row))
        for name, value in fields.items():
            assert (value not in shown) if kinds.is_secret(kind, name) else (value in shown)
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    assert "FLOWBUILDER_CREDENTIAL_KEYS" in credentials.public(row)["problem"]


@pytest.mark.row("S2-08")
def test_what_is_foreign_missing_or_has_no_such_field_is_refused_without_the_secret(alice: Any, bob: Any) -> None:
    stored = credentials.save(alice, "site", "password", {"password": SECRET})

    for owner, reference, field, reason in (
        (bob.pk, "site", "password", 'no credential "site"'),
        (bob.pk, str(stored.pk), "password", "no credential"),
        (alice.pk, "gone", "password", 'no credential "gone"'),
        (alice.pk, "site", "token", 'has no field "token"; it has "password"'),
    ):
        with pytest.raises(CredentialError, match=reason) as caught:
            credentials.resolve(owner, reference, field)
        assert SECRET not in str(caught.value)


@pytest.mark.row("S2-53")
def test_nobody_gets_the_credential_of_somebody_else_not_even_a_superuser(alice: Any, bob: Any) -> None:
    theirs = credentials.save(bob, "site", "password", {"password": SECRET})
    assert alice.is_superuser

    for reference in ("site", str(theirs.pk)):
        assert isinstance(credentials.open_all(alice.pk, [reference])[reference], CredentialError)
    assert credentials.available(alice.pk) == {}


@pytest.mark.row("S2-08")
def test_an_expired_credential_is_refused_by_name_with_the_way_out(alice: Any) -> None:
    soon = timezone.now() + timedelta(hours=1)
    credentials.save(alice, "site", "password", {"password": SECRET}, soon)
    assert credentials.resolve(alice.pk, "site") == SECRET
    assert credentials.available(alice.pk)["site"].expires_at == soon

    credentials.save(alice, "site", expires_at=timezone.now())
    with pytest.raises(CredentialError, match=r'"site" expired on .* UTC; store a new secret'):
        credentials.resolve(alice.pk, "site")
    found = credentials.open_all(alice.pk, ["site"])["site"]
    assert isinstance(found, credentials.Opened)
    assert found.secrets == {SECRET}  # what is out there still must not show

    credentials.save(alice, "site", expires_at=None)
    assert credentials.resolve(alice.pk, "site") == SECRET


def test_a_row_that_was_moved_to_another_owner_does_not_open(alice: Any, bob: Any) -> None:
    stored = credentials.save(alice, "site", "password", {"password": SECRET})
    Credential.objects.filter(pk=stored.pk).update(owner=bob)

    with pytest.raises(CredentialError, match="another user"):
        credentials.resolve(bob.pk, "site")


def test_rotation_moves_everything_to_the_first_key(alice: Any, settings: Any) -> None:
    credentials.save(alice, "site", "password", {"password": SECRET})
    old, new = settings.CREDENTIAL_KEYS, Fernet.generate_key().decode()

    settings.CREDENTIAL_KEYS = [new, *old]
    assert credentials.resolve(alice.pk, "site") == SECRET
    credentials.save(alice, "written with the new key", "password", {"password": SECRET})
    assert credentials.rotate() == credentials.Rotation(rotated=1, current=2)
    assert credentials.rotate() == credentials.Rotation(rotated=0, current=2)
    settings.CREDENTIAL_KEYS = [new]
    assert credentials.resolve(alice.pk, "site") == SECRET

    settings.CREDENTIAL_KEYS = old
    with pytest.raises(CredentialError, match="FLOWBUILDER_CREDENTIAL_KEYS"):
        credentials.resolve(alice.pk, "site")
    with pytest.raises(CredentialError, match=r"none of 2 credentials can be opened .* FLOWBUILDER_CREDENTIAL_KEYS"):
        credentials.rotate()


def test_a_rotation_that_was_cut_off_goes_on_where_it_was(alice: Any, settings: Any, monkeypatch: Any) -> None:
    for number in range(5):
        credentials.save(alice, f"c{number}", "password", {"password": f"{SECRET} {number}"})
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode(), *settings.CREDENTIAL_KEYS]
    monkeypatch.setattr(credentials, "ROTATE_BATCH", 2)
    encrypt, calls = credentials._encrypt, []

    def stop_at_the_fourth(owner_id: Any, fields: Any) -> bytes:
        calls.append(owner_id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encrypt(owner_id, fields)

    monkeypatch.setattr(credentials, "_encrypt", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        credentials.rotate()
    monkeypatch.setattr(credentials, "_encrypt", encrypt)

    assert credentials.rotate() == credentials.Rotation(rotated=3, current=5)
    settings.CREDENTIAL_KEYS = settings.CREDENTIAL_KEYS[:1]
    assert [credentials.resolve(alice.pk, f"c{n}") for n in range(5)] == [f"{SECRET} {n}" for n in range(5)]


def test_rotation_leaves_what_no_key_opens_and_names_it(alice: Any, settings: Any) -> None:
    old, new = settings.CREDENTIAL_KEYS, Fernet.generate_key().decode()
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    lost = credentials.save(alice, "lost", "password", {"password": SECRET})
    before = bytes(Credential.objects.get().data)
    settings.CREDENTIAL_KEYS = old
    credentials.save(alice, "site", "password", {"password": SECRET})

    settings.CREDENTIAL_KEYS = [new, *old]
    done = credentials.rotate()

    assert done == credentials.Rotation(rotated=1, current=1, unreadable=(f"lost ({lost.pk})",))
    assert not done.finished
    assert bytes(Credential.objects.get(name="lost").data) == before
    with pytest.raises(CredentialError, match="cannot be opened"):
        credentials.save(alice, "lost", fields={"username": "ada"})
    credentials.save(alice, "lost", fields={"password": "stored again"})
    assert credentials.resolve(alice.pk, "lost") == "stored again"


def test_keys_that_are_none_are_named(alice: Any, settings: Any) -> None:
    settings.CREDENTIAL_KEYS = ["not a key"]

    with pytest.raises(ImproperlyConfigured, match="FLOWBUILDER_CREDENTIAL_KEYS"):
        credentials.save(alice, "site", "password", {"password": SECRET})


def test_the_last_use_is_noted_but_not_at_every_node(alice: Any, django_assert_num_queries: Any) -> None:
    stored = credentials.save(alice, "site", "password", {"password": SECRET})
    credentials.save(alice, "other", "password", {"password": SECRET})
    assert stored.last_used_at is None

    credentials.resolve(alice.pk, "site")
    credentials.resolve(alice.pk, "other")
    first = Credential.objects.get(name="site").last_used_at
    with django_assert_num_queries(1):
        credentials.open_all(alice.pk, ["site", "other", str(stored.pk), "gone"])
    assert first is not None
    assert Credential.objects.get(name="site").last_used_at == first

    Credential.objects.update(last_used_at=timezone.now() - timedelta(hours=1))
    credentials.resolve(alice.pk, "site")
    again = Credential.objects.get(name="site").last_used_at
    assert again is not None
    assert again > first


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("", {"password": "x"}, "1 to 200 characters"),
        (" ", {"password": "x"}, "1 to 200 characters"),
        ("x" * 201, {"password": "x"}, "1 to 200 characters"),
        ("a\nb", {"password": "x"}, "on one line"),
        ("site", {}, 'field "password" is missing'),
        ("site", {"password": 5}, 'field "password" is not a text'),
        ("site", {"token": "x"}, 'field "token" is none of a password credential'),
    ],
)
def test_what_cannot_be_stored_is_refused_by_field(alice: Any, name: str, fields: Any, reason: str) -> None:
    with pytest.raises(CredentialRefused, match=reason) as caught:
        credentials.save(alice, name, "password", fields)

    assert caught.value.problems
    assert not Credential.objects.exists()


def test_own_fields_are_limited_in_size(alice: Any) -> None:
    with pytest.raises(CredentialRefused, match="larger than"):
        credentials.save(alice, "site", "custom", {"a": "x" * 100_000})


def test_everything_is_noted_by_whom_and_without_any_value(alice: Any, settings: Any) -> None:
    with audit.acting(alice, audit.Door.COMMAND):
        row = credentials.save(alice, "site", "password", {"username": "ada-lovelace", "password": SECRET})
        credentials.save(alice, "site", fields={"password": SECRET + "2"})
        settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode(), *settings.CREDENTIAL_KEYS]
        credentials.rotate()
        key = str(row.pk)
        credentials.delete(row)

    entries = list(AuditEntry.objects.order_by("id").values_list("verb", "object_name", "detail"))
    assert [entry[:2] for entry in entries] == [
        ("create", "site"), ("change", "site"), ("rotate", "all credentials"), ("delete", "site"),
    ]  # fmt: skip
    assert entries[0][2]["fields"] == ["password", "username"]
    assert entries[1][2]["fields"] == ["password"]
    assert entries[2][2]["rotated"] == 1
    assert AuditEntry.objects.filter(object_id=key, owner=alice, actor=alice).count() == 3
    assert SECRET not in str(entries)
    assert "ada-lovelace" not in str(entries)


def test_a_credential_in_use_is_deleted_only_when_forced(alice: Any, make_workflow: Any) -> None:
    row = credentials.save(alice, "site", "password", {"password": SECRET})
    by_name = {
        "nodes": [{"id": "a", "type": "delay", "data": {"inputs": {"x": [{"$credential": "site"}]}}}],
        "edges": [],
    }
    by_id = {
        "nodes": [{"id": "a", "type": "delay", "data": {"inputs": {"x": {"$credential": str(row.pk)}}}}],
        "edges": [],
    }
    make_workflow(by_name, name="by name")
    drafted = make_workflow({"nodes": [{"id": "a", "type": "delay"}], "edges": []}, name="only in the draft")
    drafted.save_version(by_id, author=alice)
    make_workflow({"nodes": [{"id": "site", "type": "delay"}], "edges": []}, name="not at all")
    make_workflow(by_name, name="put away")
    Workflow.objects.filter(name="put away").update(status=Workflow.Status.ARCHIVED)

    assert [workflow.name for workflow in credentials.used_by(row)] == ["by name", "only in the draft"]
    with pytest.raises(CredentialInUse, match='used by "by name", "only in the draft"') as caught:
        credentials.delete(row)
    assert [workflow.name for workflow in caught.value.workflows] == ["by name", "only in the draft"]
    assert Credential.objects.exists()

    credentials.delete(row, force=True)
    assert not Credential.objects.exists()
    assert AuditEntry.objects.get(verb="delete").detail["used_by"] == ["by name", "only in the draft"]


def test_the_owner_refers_to_a_credential_by_id_or_by_name(alice: Any, bob: Any, settings: Any) -> None:
    stored = credentials.save(alice, "site", "password", {"password": "x"})
    credentials.save(bob, "other", "password", {"password": "x"})

    known = credentials.available(alice.pk, {"of": [{"$credential": "site"}]})
    assert known.keys() == {"site", str(stored.pk)}
    assert known["site"].kind == "password"
    assert known["site"].fields == frozenset({"password"})
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    assert credentials.available(alice.pk, {"$credential": "site"})["site"].fields is None


def test_validation_opens_only_the_credentials_that_a_workflow_names(
    alice: Any, django_assert_num_queries: Any
) -> None:
    made = [credentials.save(alice, f"site {number}", "password", {"password": "x"}) for number in range(5)]

    with django_assert_num_queries(2):
        known = credentials.available(alice.pk, [{"$credential": "site 1"}, {"x": {"$credential": str(made[2].pk)}}])
    with django_assert_num_queries(1):
        unopened = credentials.available(alice.pk, {"nodes": []})

    assert [known[f"site {number}"].fields is not None for number in range(5)] == [False, True, True, False, False]
    assert {name: one.kind for name, one in unopened.items()} == {name: one.kind for name, one in known.items()}
    assert all(one.fields is None for one in unopened.values())


def test_a_user_has_so_many_credentials_and_no_more(alice: Any, bob: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "MOST_CREDENTIALS", 2)
    for name in ("one", "two"):
        credentials.save(alice, name, "password", {"password": "x"})

    with pytest.raises(CredentialRefused, match="the limit is 2; delete one first"):
        credentials.save(alice, "three", "password", {"password": "x"})
    credentials.save(alice, "two", "password", {"password": "y"})
    credentials.save(bob, "three", "password", {"password": "x"})
    assert Credential.objects.count() == 3


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_an_end_that_no_database_keeps_is_refused(alice: Any, end: str) -> None:
    with pytest.raises(CredentialRefused, match='"expires_at" must lie in the years 1970 to 9998'):
        credentials.save(alice, "site", "password", {"password": "x"}, datetime.fromisoformat(end))
    assert not Credential.objects.exists()
