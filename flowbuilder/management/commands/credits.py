"""``./flow credits``: balances, grants and corrections, and what was spent on what."""

from __future__ import annotations

import argparse
from datetime import date
from typing import Any

from rich.console import Console
from rich.table import Table

from flowbuilder.management.base import ProductCommand
from workflows import credits
from workflows.models import CreditAccount

SHOWN = 20
"""How many transfers ``show`` prints."""


class Command(ProductCommand):
    """Look after the credits of users."""

    help = "Show balances, grant and correct credits, and report what was spent."
    examples = (
        "./flow credits show --user alice",
        "./flow credits grant alice 500 --note 'November'",
        "./flow credits report --by workflow",
    )

    def add_verbs(self) -> None:
        """Add show, grant, correct and report."""
        show = self.verb("show", self.show, "Show all accounts, or the account of one user and its latest transfers.")
        show.add_argument("--user", metavar="NAME", help="only this user's")
        for name, handler, help in (
            ("grant", self.grant, "Give credits to a user; the first grant opens the account."),
            ("correct", self.correct, "Take credits from what a user has available."),
        ):
            parser = self.verb(name, handler, help, examples=(f"./flow credits {name} alice 100 --note 'why'",))
            parser.add_argument("who", metavar="USER", help="whose account")
            parser.add_argument("amount", type=_amount, metavar="N", help="how many credits, above 0")
            parser.add_argument("--note", default="", metavar="TEXT", help="why; it stays in the ledger")
            parser.add_argument("--as", dest="actor", metavar="NAME", help="who does it (default: the first superuser)")
        report = self.verb(
            "report",
            self.report,
            "Say what was charged, by day, workflow or execution.",
            examples=("./flow credits report --by day --since 2026-11-01 --json",),
        )
        report.add_argument("--by", choices=credits.BY, default="day", help="one line for each of these (default: day)")
        report.add_argument("--user", metavar="NAME", help="only what this user paid (default: everybody)")
        report.add_argument("--since", type=_day, metavar="DATE", help="from this day on (UTC), such as 2026-11-01")
        report.add_argument("--until", type=_day, metavar="DATE", help="up to this day, included")
        report.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many lines (default 100)")

    def show(self, options: dict[str, Any]) -> None:
        """Show accounts."""
        rows = CreditAccount.objects.select_related("owner").order_by("owner__username")
        if options["user"]:
            rows = rows.filter(owner=self.find_user(options["user"]))
            if not rows:
                self.fail(f"{options['user']} has no credit account and is not metered; ./flow credits grant opens one")
        shown = [_account_json(row) for row in rows]
        latest = [_entry_json(entry) for entry in credits.entries(rows[0].owner)[:SHOWN]] if options["user"] else []
        if options["user"]:
            shown[0]["entries"] = latest

        def table(console: Console) -> None:
            if not shown:
                console.print("Nobody is metered. ./flow credits grant USER N opens an account.")
                return
            grid = Table("User", "Available", "Reserved", "Spent", box=None)
            for one in shown:
                grid.add_row(one["user"], *(f"{one[key]:,}" for key in ("available", "reserved", "spent")))
            console.print(grid)
            if not latest:
                return
            grid = Table("When (UTC)", "What", "Amount", "Available after", "Workflow", "By", "Note", box=None)
            for one in latest:
                numbers = (f"{one['amount']:,}", f"{one['available_after']:,}")
                when = f"{one['at']:%Y-%m-%d %H:%M:%S}"
                grid.add_row(when, one["kind"], *numbers, one["workflow"] or "", one["actor"] or "", one["note"])
            console.print(grid)

        self.emit(shown, table)

    def grant(self, options: dict[str, Any]) -> None:
        """Give credits."""
        self._by_hand(credits.grant, options)

    def correct(self, options: dict[str, Any]) -> None:
        """Take credits."""
        self._by_hand(credits.correct, options)

    def _by_hand(self, act: Any, options: dict[str, Any]) -> None:
        owner, actor = self.find_user(options["who"]), self.user({"user": options["actor"]})
        found = act(owner, options["amount"], options["note"], actor=actor)
        self.emit(_account_json(found), lambda console: console.print(f"{owner} has {found.available:,} credits."))

    def report(self, options: dict[str, Any]) -> None:
        """Report what was spent."""
        user = self.find_user(options["user"]) if options["user"] else None
        lines = credits.report(
            user, options["by"], since=options["since"], until=options["until"], limit=max(1, options["limit"])
        )

        def table(console: Console) -> None:
            if not lines:
                console.print("Nothing was charged.")
                return
            grid = Table(options["by"].capitalize(), "", "Executions", "Credits", box=None)
            for line in lines:
                grid.add_row(line.key or "deleted", line.name, f"{line.executions:,}", f"{line.credits:,}")
            console.print(grid)

        self.emit([line.to_json() for line in lines], table)


def _amount(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number above 0')
    return int(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is not a date such as 2026-11-01') from None


def _account_json(row: CreditAccount) -> dict[str, Any]:
    return {
        "user": row.owner.get_username(),
        "available": row.available,
        "reserved": row.reserved,
        "spent": row.spent,
    }


def _entry_json(entry: Any) -> dict[str, Any]:
    return {
        "at": entry.at,
        "kind": entry.kind,
        "amount": entry.amount,
        "available_after": entry.available_after,
        "execution_id": entry.execution_id,
        "workflow": entry.workflow.name if entry.workflow else None,
        "actor": entry.actor.get_username() if entry.actor else None,
        "note": entry.note,
    }
