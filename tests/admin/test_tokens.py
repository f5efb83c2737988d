"""API tokens in the admin: made, shown once, revoked; nobody else's."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from tests.admin.conftest import logged_in
from workflows import tokens
from workflows.models import ApiToken, AuditEntry

LIST, ADD = reverse("admin:workflows_apitoken_changelist"), reverse("admin:workflows_apitoken_add")
FORM = {"name": "deploy", "scopes": ["executions:run"], "expires_at_0": "", "expires_at_1": ""}


def test_a_token_is_made_in_the_admin_and_shown_once(bob: Any) -> None:
    client = logged_in(bob)
    assert client.get(ADD).status_code == 200

    answer = client.post(ADD, FORM)

    found = re.search(r"fb_[a-z0-9]{10}_[\w-]{43}", answer.content.decode())
    assert found
    token = tokens.find(found[0])
    assert token is not None
    assert (token.owner, token.name, token.scopes) == (bob, "deploy", ["executions:run"])
    assert "no-store" in answer["Cache-Control"]
    assert f'<a class="adm-crumb" href="{LIST}">API tokens</a>' in answer.content.decode()
    assert ApiToken.objects.count() == 1
    assert [(entry.verb, entry.door) for entry in AuditEntry.objects.all()] == [("create", "admin")]
    for url in (LIST, reverse("admin:workflows_apitoken_change", args=(token.pk,))):
        page = client.get(url).content.decode()
        assert token.prefix in page or url == LIST
        assert found[0] not in page
        assert token.digest not in page


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"scopes": []}, "This field is required"),
        ({"scopes": ["everything"]}, "is not one of the available choices"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}, "must be after now"),
    ],
)
def test_what_is_wrong_with_a_new_token_is_said(bob: Any, wrong: dict[str, Any], reason: str) -> None:
    answer = logged_in(bob).post(ADD, FORM | wrong)

    assert reason in answer.content.decode()
    assert not ApiToken.objects.exists()


def test_fault_60_revoking_ends_own_tokens_only(bob: Any, carol: Any) -> None:
    (mine, text), (other, foreign) = tokens.create(bob, "mine"), tokens.create(carol, "foreign")
    client = logged_in(bob)
    assert "foreign" not in client.get(LIST).content.decode()

    client.post(LIST, {"action": "revoke", "_selected_action": [str(mine.pk), str(other.pk)]})

    assert tokens.find(text) is None
    assert tokens.find(foreign) == other


def test_the_status_says_whether_a_token_opens_anything(alice: Any, bob: Any) -> None:
    now = timezone.now()
    ended = {"revoked": {"revoked_at": now}, "expired": {"expires_at": now}, "good": {}}
    for name, values in ended.items():
        ApiToken.objects.filter(pk=tokens.create(alice, name)[0].pk).update(**values)
    tokens.create(bob, "of bob")
    bob.is_active = False
    bob.save()

    page = logged_in(alice).get(LIST).content.decode()

    rows = {name: row for row in page.split("<tr") for name in (*ended, "of bob") if f">{name}<" in row}
    words = {"revoked": "Revoked", "expired": "Expired", "good": "Valid", "of bob": "Owner may not log in"}
    assert rows.keys() == words.keys()
    assert all(word in rows[name] for name, word in words.items()), rows
