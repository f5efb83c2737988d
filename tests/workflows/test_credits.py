"""The ledger: what is granted, taken, reserved and settled always adds up."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.db.models import Sum

from executions import store
from workflows import audit, credits
from workflows.errors import InsufficientCredits, WorkflowError
from workflows.models import AuditEntry, CreditEntry

pytestmark = pytest.mark.django_db

EMPTY: dict[str, list[object]] = {"nodes": [], "edges": []}


def balances(user):
    found = credits.account(user)
    assert found is not None
    return (found.available, found.reserved, found.spent)


def moved(user, kind):
    return CreditEntry.objects.filter(owner=user, kind=kind).aggregate(sum=Sum("amount"))["sum"] or 0


def reserve(user, amount, workflow, execution_id=None, **more):
    with transaction.atomic(), store.statements() as tx:
        return credits.reserve(
            tx, user.pk, amount, execution_id=execution_id or uuid4(), workflow_id=workflow.pk, now=store.now_us(), **more
        )  # fmt: skip


def settle(user, reserved, cost, workflow, execution_id=None):
    with transaction.atomic(), store.statements() as tx:
        credits.settle(
            tx, user.pk, reserved, cost, execution_id=execution_id or uuid4(), workflow_id=workflow.pk,
            now=store.now_us(),
        )  # fmt: skip


@pytest.mark.row("S2-55")
def test_what_is_not_used_comes_back_and_the_entries_come_to_the_balance(alice, make_workflow):
    workflow = make_workflow(EMPTY)
    assert credits.account(alice) is None
    credits.grant(alice, 100, "welcome")
    assert balances(alice) == (100, 0, 0)

    assert reserve(alice, 30, workflow)
    assert balances(alice) == (70, 30, 0)
    settle(alice, 30, 12, workflow)

    assert balances(alice) == (88, 0, 12)
    assert (moved(alice, "reserve"), moved(alice, "charge"), moved(alice, "refund")) == (30, 12, 18)
    assert moved(alice, "grant") - moved(alice, "correction") == sum(balances(alice))


def test_no_reservation_and_no_correction_makes_a_balance_negative(alice, make_workflow):
    workflow = make_workflow(EMPTY)
    credits.grant(alice, 10)

    assert not reserve(alice, 11, workflow)
    assert not reserve(alice, 5, workflow, needs=11)
    assert reserve(alice, 6, workflow)
    with pytest.raises(InsufficientCredits, match="needs 5 credits, 4 available"):
        credits.correct(alice, 5)
    assert balances(alice) == (4, 6, 0)


def test_an_execution_never_pays_more_than_was_reserved_for_it(alice, make_workflow):
    workflow = make_workflow(EMPTY)
    credits.grant(alice, 10)
    reserve(alice, 3, workflow)

    settle(alice, 3, 5, workflow)

    assert balances(alice) == (7, 0, 3)


@pytest.mark.parametrize("amount", [0, -1, 1.5, True, "5", 10**16])
def test_an_amount_is_a_whole_number_above_zero(alice, amount):
    with pytest.raises(WorkflowError, match="an amount is a whole number of credits"):
        credits.grant(alice, amount)
    assert credits.account(alice) is None


def test_who_has_no_account_cannot_be_corrected(alice):
    with pytest.raises(WorkflowError, match="has no credit account"):
        credits.correct(alice, 5)


def test_grants_and_corrections_are_in_the_audit_log_with_who_did_them(alice, bob):
    with audit.acting(bob, audit.Door.COMMAND):
        credits.grant(alice, 10, "welcome", actor=bob)
        credits.correct(alice, 4, "a mistake", actor=bob)

    noted = AuditEntry.objects.filter(kind="credits").order_by("id").values_list("verb", "actor", "owner", "detail")
    assert list(noted) == [
        ("grant", bob.pk, alice.pk, {"amount": 10, "available": 10, "note": "welcome"}),
        ("correction", bob.pk, alice.pk, {"amount": 4, "available": 6, "note": "a mistake"}),
    ]
    assert [(entry.kind, entry.amount, entry.actor) for entry in credits.entries(alice)] == [
        ("correction", 4, bob), ("grant", 10, bob),
    ]  # fmt: skip


def test_an_account_is_opened_with_the_credits_that_the_setting_says(alice, bob, settings):
    credits.grant(bob, 3)
    with transaction.atomic(), store.statements() as tx:
        assert credits.balance(tx, alice.pk, store.now_us()) is None
        settings.DEFAULT_CREDITS = 50
        assert credits.balance(tx, alice.pk, store.now_us()) == (50, 0)
        assert credits.balance(tx, alice.pk, store.now_us()) == (50, 0)
        assert credits.balance(tx, bob.pk, store.now_us()) == (3, 0)
    assert moved(alice, "grant") == 50


@pytest.mark.row("S2-51")
def test_the_report_says_what_was_spent_by_day_workflow_and_execution(alice, bob, make_workflow):
    cheap, dear = make_workflow(EMPTY, "cheap"), make_workflow(EMPTY, "dear")
    credits.grant(alice, 1000)
    credits.grant(bob, 1000)
    first, second, third = uuid4(), uuid4(), uuid4()
    for user, workflow, execution_id, cost in (
        (alice, cheap, first, 2), (alice, dear, second, 50), (alice, dear, third, 60), (bob, dear, uuid4(), 7),
    ):  # fmt: skip
        reserve(user, 100, workflow, execution_id)
        settle(user, 100, cost, workflow, execution_id)
    today = datetime.now(UTC).date()
    CreditEntry.objects.filter(execution_id=first).update(at=datetime.now(UTC) - timedelta(days=2))

    lines = [(line.name, line.executions, line.credits) for line in credits.report(alice, "workflow")]
    assert lines == [("dear", 2, 110), ("cheap", 1, 2)]
    by_day = credits.report(alice, "day")
    assert [(line.key, line.credits) for line in by_day] == [(str(today), 110), (str(today - timedelta(days=2)), 2)]
    assert [line.credits for line in credits.report(alice, "day", since=today)] == [110]
    assert [line.credits for line in credits.report(alice, "day", until=today - timedelta(days=1))] == [2]
    assert credits.report(alice, "day", since=date.min, until=date.max) == by_day
    runs = credits.report(alice, "execution")
    assert [(line.key, line.name, line.credits) for line in runs] == [
        (str(third), "dear", 60), (str(second), "dear", 50), (str(first), "cheap", 2),
    ]  # fmt: skip
    assert sum(line.credits for line in credits.report()) == 119
    with pytest.raises(WorkflowError, match="not by"):
        credits.report(alice, "week")
