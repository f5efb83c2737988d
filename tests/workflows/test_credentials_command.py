"""``./flow credentials`` as people and scripts see it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.core.management.base import CommandError

from flowbuilder.management.base import FAILED, USAGE
from tests.conftest import graph, node
from workflows import credentials, kinds
from workflows.models import AuditEntry, Credential

pytestmark = pytest.mark.django_db

SECRET = "correct horse battery staple"


def flow(*arguments: str) -> str:
    """Run a command in this process and return all that it printed."""
    out = io.StringIO()
    call_command("credentials", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_secrets_come_from_a_file_or_standard_input_and_never_back(
    alice: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "token").write_text(SECRET + "\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO(SECRET))

    told = flow("set", "api", "--kind", "bearer", "--field", f"token=@{tmp_path / 'token'}", "--expires", "2035-01-31")
    told += flow("set", "mail", "--kind", "smtp", "--field", "host=smtp.example.com", "--field", "password=@-")
    for arguments in (("list",), ("list", "--json"), ("show", "mail"), ("show", "api", "--json")):
        told += flow(*arguments)

    assert credentials.resolve(alice.pk, "api") == credentials.resolve(alice.pk, "mail") == SECRET
    assert SECRET not in told
    assert "host=smtp.example.com" in told
    assert "2035-01-31 00:00" in told
    assert AuditEntry.objects.filter(door="command", actor=alice, verb="create").count() == 2


def test_at_a_terminal_needed_secrets_are_asked_for(alice: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: SECRET)

    flow("set", "shop", "--field", "username=ada")
    flow("set", "shop", "--field", "username=eve", "--rename", "store")

    assert credentials.resolve(alice.pk, "store") == SECRET
    assert credentials.resolve(alice.pk, "store", "username") == "eve"


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("set", "a", "--field", f"password={SECRET}"), USAGE, "shell history"),
        (("set", "a", "--kind", "custom", "--field", f"x={SECRET}"), USAGE, "shell history"),
        (("set", "a", "--field", "password"), USAGE, "NAME=VALUE"),
        (("set", "a", "--field", "password=@/nowhere/at/all"), FAILED, "No such file"),
        (("set", "a", "--field", "username=a", "--field", "username=b"), USAGE, "twice"),
        (("set", "a", "--expires", "tomorrow"), USAGE, "2030-01-31"),
        (("set", "a", "--expires", "2030-02-31"), USAGE, "2030-01-31"),
        (("set", "a", "--rename", "b"), FAILED, "credentials list"),
        (("show", "a"), FAILED, "credentials list"),
        (("delete", "a"), FAILED, "credentials list"),
    ],
)
def test_a_mistake_names_the_way_out_and_stores_nothing(alice: Any, arguments: Any, code: int, reason: str) -> None:
    with pytest.raises(CommandError, match=reason) as caught:
        flow(*arguments)

    assert caught.value.returncode == code
    assert SECRET not in str(caught.value)
    assert not Credential.objects.exists()


def test_what_does_not_fit_the_kind_is_one_error_with_all_fields(alice: Any) -> None:
    with pytest.raises(CommandError, match='field "host" is missing; field "port" is a port') as caught:
        flow("set", "mail", "--kind", "smtp", "--field", "port=0")

    assert caught.value.returncode == FAILED


def test_a_credential_in_use_is_deleted_by_force_only(alice: Any, bob: Any, make_workflow: Any) -> None:
    credentials.save(alice, "site", "password", {"password": SECRET})
    make_workflow(graph([node("a", "merge_data", Data_1={"$credential": "site"})]), name="shop")

    assert json.loads(flow("show", "site", "--json"))["used_by"] == ["shop"]
    with pytest.raises(CommandError, match='used by "shop"'):
        flow("delete", "site")
    with pytest.raises(CommandError, match="no credential"):
        flow("delete", "site", "--user", "bob")
    flow("delete", "site", "--force")

    assert not Credential.objects.exists()


def test_kinds_are_listed_with_their_fields(alice: Any) -> None:
    assert [kind["kind"] for kind in json.loads(flow("kinds", "--json"))] == list(kinds.KINDS)
    assert "host*, port, username, password!, security" in flow("kinds")


def test_rotation_says_how_many_and_fails_while_older_keys_are_needed(alice: Any, settings: Any) -> None:
    credentials.save(alice, "site", "password", {"password": SECRET})
    old, lost = settings.CREDENTIAL_KEYS, Fernet.generate_key().decode()
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode(), *old]

    assert json.loads(flow("rotate", "--json")) == {
        "rotated": 1, "current": 1, "unreadable": [], "late": 0, "finished": True,
    }  # fmt: skip
    assert "0 encrypted anew; 1 have the first key now.\nThe keys behind" in flow("rotate")

    good, settings.CREDENTIAL_KEYS = settings.CREDENTIAL_KEYS, [lost]
    credentials.save(alice, "other", "password", {"password": SECRET})
    settings.CREDENTIAL_KEYS = good
    with pytest.raises(SystemExit):
        flow("rotate")
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(
        CommandError, match="none of 2 credentials can be opened with the keys in FLOWBUILDER_CREDENTIAL"
    ):
        flow("rotate")
