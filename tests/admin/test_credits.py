"""Accounts, what is granted by hand, the ledger, and the audit log."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from tests.admin.conftest import logged_in
from workflows import audit, credits
from workflows.models import CreditAccount, CreditEntry

GRANT = "/admin/workflows/creditaccount/grant/"


def account_url(user: Any) -> str:
    return reverse("admin:workflows_creditaccount_change", args=(user.pk,))


@pytest.mark.row("S2-55")
def test_credits_are_granted_and_taken_back_by_who_is_permitted(alice: Any, bob: Any) -> None:
    client = logged_in(alice)

    client.post(GRANT, {"owner": bob.pk, "verb": "grant", "amount": "100", "note": "trial"})
    page = client.post(GRANT, {"owner": bob.pk, "verb": "correct", "amount": "30", "note": "too many"}, follow=True)
    refused = client.post(GRANT, {"owner": bob.pk, "verb": "correct", "amount": "71"})

    assert CreditAccount.objects.get(owner=bob).available == 70
    assert "70 credits are now available to bob" in page.content.decode()
    assert "70" in str(refused.context["form"].errors)
    assert [(entry.kind, entry.amount, entry.actor) for entry in CreditEntry.objects.order_by("id")] == [
        ("grant", 100, alice), ("correction", 30, alice),
    ]  # fmt: skip


def test_who_is_not_permitted_sees_the_own_account_only_and_grants_nothing(bob: Any, carol: Any) -> None:
    credits.grant(bob, 5)
    credits.grant(carol, 7)
    client = logged_in(bob)

    told = client.post(GRANT, {"owner": bob.pk, "verb": "grant", "amount": "100"}, follow=True)
    own = client.get(account_url(bob)).content.decode()

    assert "You may not grant credits" in told.content.decode()
    assert CreditAccount.objects.get(owner=bob).available == 5
    assert "Grant or take back" not in own
    assert client.get(account_url(carol)).status_code == 404
    bob.user_permissions.add(Permission.objects.get(codename="add_creditentry"))
    logged_in(type(bob).objects.get(pk=bob.pk)).post(GRANT, {"owner": bob.pk, "verb": "grant", "amount": "1"})
    assert CreditAccount.objects.get(owner=bob).available == 6


def test_an_account_shows_what_was_spent_by_day_and_workflow(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")

    page = logged_in(bob).get(account_url(bob))

    html = page.content.decode()
    assert page.context["total"] == 7
    assert [line.name for line, _ in page.context["workflows"]] == ["shop"]
    assert "7 in 1 run" in html
    assert reverse("admin:executions_execution_change", args=(world.execution.pk,)) in html


def test_the_ledger_is_filtered_by_kind_and_workflow(bob: Any, make_world: Any) -> None:
    world, other = make_world(bob, "shop"), make_world(bob, "other")
    credits.grant(bob, 10, "more")
    client = logged_in(bob)

    def shown(**query: str) -> set[Any]:
        return {row.pk for row in client.get("/admin/workflows/creditentry/", query).context["cl"].result_list}

    assert len(shown()) == 3
    assert shown(workflow=str(world.workflow.pk)) == {world.entry.pk}
    assert shown(kind__exact="charge") == {world.entry.pk, other.entry.pk}


def test_people_find_in_the_audit_log_what_they_did_and_what_was_done_to_their_things(
    alice: Any, bob: Any, carol: Any
) -> None:
    with audit.acting(alice, audit.Door.ADMIN):
        audit.note("archive", "workflow", "1", owner=bob, name="bobs")
        audit.note("archive", "workflow", "2", owner=carol, name="carols")
    with audit.acting(bob, audit.Door.API):
        audit.note("approve", "execution", "3", owner=carol, name="asked of bob")

    def shown(user: Any, **query: str) -> set[str]:
        rows = logged_in(user).get("/admin/workflows/auditentry/", query).context["cl"].result_list
        return {row.object_name for row in rows if row.verb in ("archive", "approve")}

    assert shown(bob) == {"bobs", "asked of bob"}
    assert shown(carol) == {"carols", "asked of bob"}
    assert shown(alice) == {"bobs", "carols", "asked of bob"}
    assert shown(alice, verb="approve") == {"asked of bob"}
    assert shown(alice, actor_name="alice") == {"bobs", "carols"}
