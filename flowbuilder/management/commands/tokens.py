"""``./flow tokens``: what programs log in to the API with."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from flowbuilder.management.base import USAGE, ProductCommand
from workflows import tokens
from workflows.models import ApiToken

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Command(ProductCommand):
    """Make, list and revoke tokens."""

    help = "Make, list and revoke API tokens."
    examples = (
        "./flow tokens create --name deploy --scopes executions:run,workflows:read --expires-in 90d",
        "./flow tokens list --all",
        "./flow tokens revoke deploy",
    )

    def add_verbs(self) -> None:
        """Define the subcommands."""
        scopes = "\n".join(f"  {scope:<18} {meaning}" for scope, meaning in tokens.SCOPES.items())
        create = self.verb(
            "create",
            self.create,
            "Make a token and print it; it is never shown again.",
            examples=(
                "./flow tokens create --name deploy --scopes executions:run --expires-in 90d",
                "TOKEN=$(./flow tokens create --name ci)",
            ),
            user=True,
        )
        create.epilog = f"scopes:\n{scopes}\n\n{create.epilog}"
        create.add_argument("--name", required=True, help="what it is for, so that people recognize it")
        create.add_argument(
            "--scopes",
            default=tokens.EVERYTHING,
            metavar="S,S",
            help="what it may do, with commas between (default: *)",
        )
        create.add_argument(
            "--expires-in", metavar="TIME", help="when it ends, such as 90d, 12h or 30m (default: when it is revoked)"
        )
        listing = self.verb("list", self.list_all, "List the tokens that work, newest first.", user=True)
        listing.add_argument("--all", action="store_true", help="also those that were revoked or have expired")
        revoke = self.verb("revoke", self.revoke, "End a token now.", user=True)
        revoke.add_argument("token", metavar="TOKEN", help="its name, prefix, id or text")

    def create(self, options: dict[str, Any]) -> None:
        """Make a token."""
        owner = self.user(options)
        if not owner.is_active:
            self.fail(f'the user "{owner}" may not log in, so a token of theirs opens nothing')
        wanted = [scope.strip() for scope in options["scopes"].split(",") if scope.strip()]
        token, text = tokens.create(owner, options["name"], wanted, self._end(options["expires_in"]))

        def human(console: Console) -> None:
            self.note(f'Token "{token.name}" of {owner}: {", ".join(token.scopes)}. It is shown only now.')
            console.print(text)

        self.emit({"token": text, **_shown(token)}, human)

    def list_all(self, options: dict[str, Any]) -> None:
        """List tokens of the acting user; a superuser sees all."""
        rows = ApiToken.objects.visible_to(self.user(options)).select_related("owner")
        found = [row for row in rows if options["all"] or tokens.is_working(row)]

        def table(console: Console) -> None:
            if not found:
                console.print("There is no token. Make one: ./flow tokens create --name NAME")
                return
            grid = Table("Name", "Prefix", "User", "Scopes", "Expires (UTC)", "Last used (UTC)", "State", box=None)
            for row in found:
                expires, used = (f"{at:%Y-%m-%d %H:%M}" if at else "never" for at in (row.expires_at, row.last_used_at))
                grid.add_row(row.name, row.prefix, str(row.owner), ", ".join(row.scopes), expires, used, _state(row))
            console.print(grid)

        self.emit([_shown(row) for row in found], table)

    def revoke(self, options: dict[str, Any]) -> None:
        """End a token."""
        token = self._find(self.user(options), options["token"].strip())
        tokens.revoke(token)
        self.emit(_shown(token), lambda console: console.print(f'Token "{token.name}" ({token.prefix}) is revoked.'))

    def _find(self, user: Any, text: str) -> ApiToken:
        prefix = text.split("_")[1] if text.startswith("fb_") and "_" in text[3:] else text
        named = Q(prefix=prefix)
        try:
            named |= Q(pk=UUID(text))
        except ValueError:
            named |= Q(name=text, revoked_at=None)
        found = list(ApiToken.objects.changeable_by(user).select_related("owner").filter(named)[:2])
        if not found:
            self.fail("there is no such token; ./flow tokens list --all shows what there is")
        if len(found) > 1:
            self.fail(f'several tokens are named "{text}"; use the prefix that ./flow tokens list shows')
        token: ApiToken = found[0]
        return token

    def _end(self, text: str | None) -> datetime | None:
        if text is None:
            return None
        found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text, re.ASCII)
        if not found:
            self.fail(f'--expires-in takes a number and m, h or d, such as 90d, not "{text}"', USAGE)
        return timezone.now() + timedelta(**{UNITS[found[2]]: int(found[1])})


def _state(token: ApiToken) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "works" if tokens.is_working(token) else "ended"


def _shown(token: ApiToken) -> dict[str, Any]:
    def text(at: datetime | None) -> str | None:
        return at.astimezone(UTC).isoformat() if at else None

    return {
        "id": str(token.pk),
        "name": token.name,
        "prefix": token.prefix,
        "user": str(token.owner),
        "scopes": token.scopes,
        "state": _state(token),
        "created_at": text(token.created_at),
        "expires_at": text(token.expires_at),
        "last_used_at": text(token.last_used_at),
        "revoked_at": text(token.revoked_at),
    }
