"""Tokens: shown once, stored as a hash, refused when they should not work any more."""

from __future__ import annotations

import io
import json
import threading
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from workflows import audit, tokens
from workflows.errors import TokenError
from workflows.models import ApiToken, AuditEntry


def test_a_token_is_found_by_its_text_which_is_stored_nowhere(alice: Any) -> None:
    token, text = tokens.create(alice, "deploy", ["executions:run"])

    found = tokens.find(text)

    assert found == token
    assert found.owner == alice
    assert text.startswith(f"fb_{token.prefix}_")
    stored = str(ApiToken.objects.values().get())
    assert text not in stored
    assert text.split("_", 2)[2] not in stored


def test_what_is_nearly_the_token_is_not_the_token(alice: Any) -> None:
    _, text = tokens.create(alice, "deploy")
    other = "b" if text[-1] == "a" else "a"

    for wrong in ("", "fb_", text[:-1], text + "a", text[:-1] + other, text.upper(), f" {text}", f"{text}\n", "\ud800"):
        assert tokens.find(wrong) is None, wrong


def test_the_secret_of_one_token_does_not_open_another(alice: Any) -> None:
    first, second = (tokens.create(alice, name)[1] for name in ("first", "second"))

    assert tokens.find("_".join((*first.split("_", 2)[:2], second.split("_", 2)[2]))) is None


def test_a_token_ends_when_it_is_revoked_expires_or_its_owner_is_switched_off(alice: Any) -> None:
    revoked, revoked_text = tokens.create(alice, "revoked")
    expired, expired_text = tokens.create(alice, "expired", expires_at=timezone.now() + timedelta(hours=1))
    _, text = tokens.create(alice, "other")
    assert tokens.find(revoked_text)
    assert tokens.find(expired_text)

    assert tokens.revoke(revoked)
    assert not tokens.revoke(revoked)
    ApiToken.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    assert tokens.find(revoked_text) is None
    assert tokens.find(expired_text) is None

    assert tokens.find(text)
    alice.is_active = False
    alice.save()
    assert tokens.find(text) is None


def test_last_use_is_written_at_most_once_a_minute(alice: Any) -> None:
    _, text = tokens.create(alice, "deploy")
    tokens.find(text)
    first = ApiToken.objects.get().last_used_at
    assert first is not None

    with CaptureQueriesContext(
        connection,
    ) as queries:
        tokens.find(text)
    assert len(queries) == 1
    assert ApiToken.objects.get().last_used_at == first

    ApiToken.objects.update(last_used_at=first - timedelta(seconds=61))
    tokens.find(text)
    newest = ApiToken.objects.get().last_used_at
    assert newest is not None
    assert newest >= first


def test_unknown_scopes_are_refused_with_the_list_of_known_ones(alice: Any) -> None:
    with pytest.raises(TokenError, match=r'no scope "executions:delete"; a token may have: workflows:read'):
        tokens.create(alice, "deploy", ["executions:run", "executions:delete"])
    with pytest.raises(TokenError, match="name a scope"):
        tokens.create(alice, "deploy", [])
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("away", [timedelta(0), timedelta(days=-1), tokens.LONGEST + timedelta(days=1)])
def test_an_end_that_has_passed_or_is_decades_away_is_refused(alice: Any, away: timedelta) -> None:
    with pytest.raises(TokenError, match="the end of the token"):
        tokens.create(alice, "deploy", expires_at=timezone.now() + away)


def test_what_may_be_written_or_run_may_be_read(alice: Any) -> None:
    def allowed(*scopes: str) -> set[str]:
        token, _ = tokens.create(alice, "deploy", scopes)
        return {scope for scope in tokens.SCOPES if tokens.allows(token, scope)}

    assert allowed("executions:run") == {"executions:run", "executions:read"}
    assert allowed("workflows:write") == {"workflows:write", "workflows:read"}
    assert allowed("credentials:read") == {"credentials:read"}
    assert allowed("*") == set(tokens.SCOPES)


def test_only_so_many_tokens_work_at_the_same_time(alice: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(tokens, "MOST_TOKENS", 2)
    first, _ = tokens.create(alice, "1")
    tokens.create(alice, "2")

    with pytest.raises(TokenError, match="revoke one first"):
        tokens.create(alice, "3")
    tokens.revoke(first)
    tokens.create(alice, "3")


def test_making_and_revoking_a_token_is_noted_without_its_secret(alice: Any) -> None:
    with audit.acting(alice, "command"):
        token, text = tokens.create(alice, "deploy", ["*"])
        tokens.revoke(token)

    assert [(row.verb, row.object_name.split()[0], row.owner) for row in AuditEntry.objects.order_by("id")] == [
        ("create", "deploy", alice), ("revoke", "deploy", alice),
    ]  # fmt: skip
    assert text.split("_", 2)[2] not in str(list(AuditEntry.objects.values()))


# ---------------------------------------------------------------------- ./flow tokens


def flow(*arguments: str) -> str:
    """Run a command in this process and return what it printed."""
    out = io.StringIO()
    call_command("tokens", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_the_command_makes_lists_and_revokes_tokens(alice: Any, bob: Any) -> None:
    made = json.loads(
        flow("create", "--user", "bob", "--name", "ci", "--scopes", "executions:run, workflows:read",
             "--expires-in", "90d", "--json")
    )  # fmt: skip
    found = tokens.find(made["token"])
    assert found is not None
    assert (found.owner, found.scopes) == (bob, ["executions:run", "workflows:read"])
    assert found.expires_at is not None
    assert timedelta(days=89) < found.expires_at - timezone.now() <= timedelta(days=90)
    assert [entry.door for entry in AuditEntry.objects.all()] == ["command"]

    tokens.create(alice, "foreign")
    listed = flow("list", "--user", "bob", "--json")
    assert [row["name"] for row in json.loads(listed)] == ["ci"]
    assert made["token"] not in listed
    assert {row["name"] for row in json.loads(flow("list", "--json"))} == {"ci", "foreign"}

    with pytest.raises(CommandError, match="no such token"):
        flow("revoke", "foreign", "--user", "bob")
    assert json.loads(flow("revoke", "ci", "--user", "bob", "--json"))["state"] == "revoked"
    assert tokens.find(made["token"]) is None
    assert json.loads(flow("list", "--user", "bob", "--json")) == []
    assert [row["state"] for row in json.loads(flow("list", "--user", "bob", "--all", "--json"))] == ["revoked"]


def test_the_command_prints_the_text_alone_so_that_a_script_can_take_it(alice: Any) -> None:
    text = flow("create", "--name", "ci").strip()

    found = tokens.find(text)
    assert found is not None
    assert found.scopes == ["*"]
    flow("revoke", text)
    assert tokens.find(text) is None


def test_the_command_says_what_is_wrong(alice: Any, bob: Any) -> None:
    for arguments, reason in (
        (("--scopes", "everything"), "there is no scope"),
        (("--expires-in", "soon"), "takes a number and m, h or d"),
        (("--expires-in", "99999d"), "within 3,653 days"),
        (("--user", "nobody"), 'no user "nobody"'),
    ):
        with pytest.raises(CommandError, match=reason):
            flow("create", "--name", "ci", *arguments)
    bob.is_active = False
    bob.save()
    with pytest.raises(CommandError, match="may not log in"):
        flow("create", "--name", "ci", "--user", "bob")
    assert not ApiToken.objects.exists()


@pytest.mark.postgres
def test_tokens_that_are_made_at_once_never_exceed_the_limit(
    transactional_db: None, bob: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(tokens, "MOST_TOKENS", 1)
    together, real, answers = threading.Barrier(2), tokens.check, []

    def check(*args: Any) -> None:
        real(*args)
        with suppress(threading.BrokenBarrierError):
            together.wait(0.5)  # both have counted, if the second one did not have to wait for the first

    def make() -> None:
        try:
            tokens.create(bob, "program")
            answers.append("made")
        except TokenError:
            answers.append("refused")
        finally:
            connection.close()

    monkeypatch.setattr(tokens, "check", check)
    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(answers) == ["made", "refused"]
    assert ApiToken.objects.count() == 1
