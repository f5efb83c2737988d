"""The credits of users: a ledger of transfers, and an account with what they come to.

Every transfer is one row of ``CreditEntry`` and one UPDATE of the account in the same transaction, so that at any
moment grants minus corrections are what is available, reserved and spent together. What runs reserves before it
starts (``reserve``, one conditional UPDATE, so that no balance is ever negative) and settles when it ends
(``settle``). Both take the statements of a transaction that the caller has open: the engine's, or that of a start.

Who has no account is not metered. An account begins with the first grant, or with ``FLOWBUILDER_DEFAULT_CREDITS``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Max, Sum
from django.db.models.functions import TruncDate

from workflows import audit
from workflows.errors import InsufficientCredits, WorkflowError
from workflows.models import CreditAccount, CreditEntry, Workflow

__all__ = ["InsufficientCredits", "Line", "account", "correct", "grant", "report", "reserve", "settle"]

_ACCOUNT = CreditAccount._meta.db_table
_ENTRY = CreditEntry._meta.db_table
Kind = CreditEntry.Kind
MOST = 10**15
"""How many credits one transfer may move."""


class Statements(Protocol):
    """Statements of an open transaction, written with ``?``; ``executions.store.Transaction`` is one."""

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Execute one statement and return the cursor."""

    def id(self, value: UUID) -> Any:
        """Return a key as the database stores it."""

    def time(self, microseconds: int | None) -> Any:
        """Return a moment as the database stores it."""


# --------------------------------------------------------------------------- by hand


def account(user: Any) -> CreditAccount | None:
    """Return the account of a user (or of a user's id), or None for one who is not metered. One query."""
    return CreditAccount.objects.filter(owner_id=getattr(user, "pk", user)).first()


@transaction.atomic
def grant(user: Any, amount: int, note: str = "", *, actor: Any = None) -> CreditAccount:
    """Give ``amount`` credits to ``user`` and return the account; the first grant opens it. Audited.

    Raises:
        WorkflowError: the amount is not a whole number above 0.
    """
    _check(amount)
    CreditAccount.objects.get_or_create(owner=user)
    return _by_hand(user, Kind.GRANT, amount, note, actor)


@transaction.atomic
def correct(user: Any, amount: int, note: str = "", *, actor: Any = None) -> CreditAccount:
    """Take ``amount`` credits from what ``user`` has available and return the account. Audited.

    Raises:
        InsufficientCredits: so many are not available; what is reserved cannot be taken.
        WorkflowError: the user has no account, or the amount is not a whole number above 0.
    """
    _check(amount)
    return _by_hand(user, Kind.CORRECTION, amount, note, actor)


def _check(amount: Any) -> None:
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 < amount <= MOST:
        raise WorkflowError(f"an amount is a whole number of credits from 1 to {MOST:,}, not {amount!r}")


def _by_hand(user: Any, kind: str, amount: int, note: str, actor: Any) -> CreditAccount:
    change = amount if kind == Kind.GRANT else -amount
    rows = CreditAccount.objects.filter(owner=user, available__gte=-change)
    if not rows.update(available=F("available") + change):
        found = account(user)
        if found is None:
            raise WorkflowError(f"{user} has no credit account and is not metered; a grant opens one")
        raise InsufficientCredits("the correction", amount, found.available)
    found = CreditAccount.objects.get(owner=user)
    CreditEntry.objects.create(
        owner=user, kind=kind, amount=amount, available_after=found.available, actor=actor, note=note[:200]
    )
    audit.note(
        str(kind), "credits", user, owner=user, amount=amount,
        available=found.available, note=note[:200],
    )  # fmt: skip
    return found


# --------------------------------------------------------------------------- what runs


def in_use() -> bool:
    """Return whether anybody may be metered, as of a second ago at most; without accounts, one query a second."""
    if settings.DEFAULT_CREDITS is not None:
        return True
    now = time.monotonic()
    if now >= _seen.until:
        _seen.any, _seen.until = CreditAccount.objects.exists(), now + KNOWN_SECONDS
    return _seen.any


class _Seen:
    """Whether there was an account when this process looked last, and until when that counts."""

    any = False
    until = 0.0

    def forget(self, **kwargs: object) -> None:
        """Look again at the next use (a receiver of signals)."""
        self.until = 0.0


KNOWN_SECONDS = 1.0
_seen = _Seen()
forget = _seen.forget


def balance(tx: Statements, owner_id: int, now: int) -> tuple[int, int] | None:
    """Return what is available and reserved, or None for a user who is not metered. One query by primary key.

    ``FLOWBUILDER_DEFAULT_CREDITS`` opens an account for a user without one; ``now`` is microseconds.
    """
    row = tx.run(f"SELECT available, reserved FROM {_ACCOUNT} WHERE owner_id=?", (owner_id,)).fetchone()
    if row is None and settings.DEFAULT_CREDITS is not None:
        first = settings.DEFAULT_CREDITS
        opened = tx.run(
            f"INSERT INTO {_ACCOUNT}(owner_id, available, reserved, spent) VALUES(?,?,0,0) ON CONFLICT DO NOTHING",
            (owner_id, first),
        ).rowcount
        if opened and first:
            _write(tx, owner_id, Kind.GRANT, first, first, now, None, None, "FLOWBUILDER_DEFAULT_CREDITS")
        return balance(tx, owner_id, now)
    return None if row is None else (int(row[0]), int(row[1]))


def reserve(
    tx: Statements, owner_id: int, amount: int, *, execution_id: UUID, workflow_id: UUID, now: int, needs: int | None = None
) -> bool:  # fmt: skip
    """Move ``amount`` from available to reserved for an execution; return whether the balance covers it.

    ``needs`` is how much must be available, when that is more. One conditional UPDATE and one INSERT.
    """
    row = tx.run(
        f"UPDATE {_ACCOUNT} SET available=available-?, reserved=reserved+? WHERE owner_id=? AND available>=?"
        " RETURNING available",
        (amount, amount, owner_id, amount if needs is None else max(amount, needs)),
    ).fetchone()
    if row is None:
        return False
    if amount:
        _write(tx, owner_id, Kind.RESERVE, amount, int(row[0]), now, execution_id, workflow_id)
    return True


def settle(
    tx: Statements, owner_id: int, reserved: int, cost: int, *, execution_id: UUID, workflow_id: UUID, now: int
) -> None:
    """Charge what an execution cost and give the rest of its reservation back.

    Call it once, in the transaction that ends the execution. It never pays more than was reserved for it.
    """
    charge = min(cost, reserved)
    if not reserved:
        return
    row = tx.run(
        f"UPDATE {_ACCOUNT} SET reserved=reserved-?, spent=spent+?, available=available+? WHERE owner_id=?"
        " RETURNING available",
        (reserved, charge, reserved - charge, owner_id),
    ).fetchone()
    if row is None:
        return  # the account is gone
    for kind, amount in ((Kind.CHARGE, charge), (Kind.REFUND, reserved - charge)):
        if amount:
            _write(tx, owner_id, kind, amount, int(row[0]), now, execution_id, workflow_id)


def _write(
    tx: Statements, owner_id: int, kind: str, amount: int, after: int, now: int, execution_id: UUID | None,
    workflow_id: UUID | None, note: str = "",
) -> None:  # fmt: skip
    tx.run(
        f"INSERT INTO {_ENTRY}(owner_id, at, kind, amount, available_after, execution_id, workflow_id, note)"
        " VALUES(?,?,?,?,?,?,?,?)",
        (owner_id, tx.time(now), str(kind), amount, after,
         None if execution_id is None else tx.id(execution_id), None if workflow_id is None else tx.id(workflow_id), note),
    )  # fmt: skip


# --------------------------------------------------------------------------- reports


@dataclass(frozen=True, slots=True)
class Line:
    """What was spent on one day, by one workflow or by one execution. ``key`` is a date or an id."""

    key: str
    name: str
    executions: int
    credits: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)


BY = ("day", "workflow", "execution")


def report(
    user: Any = None, by: str = "day", *, since: date | None = None, until: date | None = None, limit: int = 1000
) -> list[Line]:
    """Return what was charged by day (UTC, newest first), workflow (most first) or execution (newest first).

    ``user`` (or a user's id) narrows it to one account, ``since`` and ``until`` to days, both included. One query,
    with the names of workflows a second one; at most ``limit`` lines.
    """
    if by not in BY:
        raise WorkflowError(f'a report is by {", by ".join(BY)}, not by "{by}"')
    rows = CreditEntry.objects.filter(kind=Kind.CHARGE)
    if user is not None:
        rows = rows.filter(owner_id=getattr(user, "pk", user))
    if since is not None:
        rows = rows.filter(at__gte=datetime.combine(since, datetime.min.time(), UTC))
    if until is not None and until < date.max:
        rows = rows.filter(at__lt=datetime.combine(until, datetime.min.time(), UTC) + timedelta(days=1))
    field = {"day": "day", "workflow": "workflow_id", "execution": "execution_id"}[by]
    if by == "day":
        rows = rows.annotate(day=TruncDate("at", tzinfo=UTC))
    order = {"day": ("-day",), "workflow": ("-total", "workflow_id"), "execution": ("-last",)}[by]
    found = (
        rows.order_by()
        .values(field, *(("workflow_id",) if by == "execution" else ()))
        .annotate(total=Sum("amount"), runs=Count("execution_id", distinct=True), last=Max("at"))
        .order_by(*order)[:limit]
    )
    lines = list(found)
    names = {} if by == "day" else _names(line["workflow_id"] for line in lines)
    return [
        Line(str(line[field] or ""), names.get(line.get("workflow_id"), ""), line["runs"], line["total"])
        for line in lines
    ]


def entries(user: Any) -> Any:
    """Return the ledger of a user (or of a user's id), newest first, as a query set with workflow and actor."""
    return CreditEntry.objects.filter(owner_id=getattr(user, "pk", user)).select_related("workflow", "actor")


def _names(keys: Any) -> dict[Any, str]:
    wanted = {key for key in keys if key is not None}
    return dict(Workflow.objects.filter(pk__in=wanted).values_list("pk", "name"))
