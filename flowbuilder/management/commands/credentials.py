"""``./flow credentials``: what is stored, without ever showing a secret; changing it, and changing the keys."""

from __future__ import annotations

import getpass
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.utils.dateparse import parse_date, parse_datetime
from rich.console import Console
from rich.table import Table

from flowbuilder.management.base import FAILED, OK, USAGE, ProductCommand
from workflows import credentials, kinds
from workflows.models import Credential


class Command(ProductCommand):
    """Look at credentials, store them, and encrypt them anew."""

    help = "List, store and delete credentials, and encrypt them with a new key. A secret is never shown."
    examples = (
        "./flow credentials list",
        "./flow credentials set mail --kind smtp --field host=smtp.example.com --field password=@-",
        "./flow credentials rotate",
    )

    def add_verbs(self) -> None:
        """Define the subcommands."""
        self.verb("list", self.list_all, "List your credentials: kind, last use, end.", user=True)
        self.verb("kinds", self.list_kinds, "List the kinds of credentials and the fields of each.")
        parser = self.verb("show", self.show, "Show a credential without its secrets, and who uses it.", user=True)
        parser.add_argument("name", metavar="NAME", help="name or id")
        parser = self.verb(
            "set",
            self.set,
            "Store a credential, or change fields of one. Secrets come from a file, standard input or a prompt.",
            user=True,
            examples=(
                "./flow credentials set shop --field username=ada     (asks for the password)",
                "./flow credentials set api --kind bearer --field token=@token.txt --expires 2030-01-31",
                "pass show mail | ./flow credentials set mail --field password=@-",
            ),
        )
        parser.add_argument("name", metavar="NAME", help="name; an existing one is changed")
        parser.add_argument(
            "--kind", default="", metavar="KIND", help="see ./flow credentials kinds (default: password)"
        )
        parser.add_argument(
            "--field", action="append", default=[], metavar="NAME=VALUE",
            help="VALUE is a text, @FILE, @- for standard input, or empty to take the field away; "
            "a secret is never given as text",
        )  # fmt: skip
        parser.add_argument("--expires", metavar="WHEN", help="date or date and time (UTC); never: without an end")
        parser.add_argument("--rename", metavar="NAME", default="", help="its new name")
        parser = self.verb("delete", self.delete, "Delete a credential that no workflow names.", user=True)
        parser.add_argument("name", metavar="NAME", help="name or id")
        parser.add_argument("--force", action="store_true", help="also if workflows name it; their nodes will fail")
        self.verb(
            "rotate",
            self.rotate,
            "Encrypt everybody's credentials with the first key of FLOWBUILDER_CREDENTIAL_KEYS, while everything runs; "
            "exit code 1 if older keys are still needed.",
        )

    # ------------------------------------------------------------------ looking

    def list_all(self, options: dict[str, Any]) -> None:
        """List credentials."""
        rows = Credential.objects.filter(owner=self.user(options)).order_by("name")
        shown = [credentials.public(row) for row in rows]

        def table(console: Console) -> None:
            if not shown:
                console.print("No credential is stored.")
                return
            grid = Table("Name", "Kind", "Shown fields", "Last used (UTC)", "Ends (UTC)", "", box=None)
            for one in shown:
                fields = ", ".join(f"{name}={value}" for name, value in one["fields"].items())
                used, ends = (
                    f"{one[key]:%Y-%m-%d %H:%M}" if one[key] else "" for key in ("last_used_at", "expires_at")
                )
                state = "expired" if one["expired"] else "cannot be opened" if one["problem"] else ""
                grid.add_row(one["name"], one["kind_label"], fields, used, ends, state)
            console.print(grid)

        self.emit(shown, table)

    def list_kinds(self, options: dict[str, Any]) -> None:
        """List kinds."""
        shown = [
            {
                "kind": kind.name, "label": kind.label, "help": kind.help,
                "fields": [
                    {
                        "name": one.name, "label": one.label, "secret": one.secret, "required": one.required,
                        "default": one.default, "options": list(one.options), "help": one.help,
                    }
                    for one in kind.fields
                ],
            }
            for kind in kinds.KINDS.values()
        ]  # fmt: skip

        def table(console: Console) -> None:
            grid = Table("Kind", "Label", "Fields (* needed, ! secret)", box=None)
            for kind in kinds.KINDS.values():
                fields = (one.name + "*" * one.required + "!" * one.secret for one in kind.fields)
                grid.add_row(kind.name, kind.label, ", ".join(fields) or "any, all of them secret")
            console.print(grid)

        self.emit(shown, table)

    def show(self, options: dict[str, Any]) -> None:
        """Show one credential."""
        row = self.find(options)
        shown = {**credentials.public(row), "used_by": [workflow.name for workflow in credentials.used_by(row)]}

        def page(console: Console) -> None:
            console.print(f"{shown['name']} ({shown['id']})")
            console.print(f"kind {shown['kind_label']} ({shown['kind']})")
            for name, value in shown["fields"].items():
                console.print(f"{name}: {value}")
            for name in shown["secrets"]:
                console.print(f"{name}: stored, never shown")
            if shown["expires_at"]:
                console.print(f"ends {shown['expires_at']:%Y-%m-%d %H:%M} UTC")
            if shown["problem"]:
                console.print(f"problem: {shown['problem']}")
            console.print(f"used by: {', '.join(shown['used_by']) or 'no workflow'}")

        self.emit(shown, page)

    # ------------------------------------------------------------------ changing

    def set(self, options: dict[str, Any]) -> None:
        """Store or change one credential."""
        user = self.user(options)
        row = Credential.objects.filter(owner=user, name=options["name"].strip()).first()
        if options["rename"] and row is None:
            self.fail(f'there is no credential "{options["name"]}" of yours; ./flow credentials list shows them')
        kind = options["kind"] or (row.kind if row else "password")
        fields = self.fields(kind, options["field"])
        if row is None or kinds.kind_of(row.kind) != kinds.kind_of(kind):
            self.ask_for_missing(kind, fields)
        expires = self.moment(options["expires"]) if options["expires"] else credentials.KEEP
        stored = credentials.save(
            user, options["rename"] or options["name"], options["kind"], fields, expires, credential=row
        )
        shown = credentials.public(stored)
        self.emit(shown, lambda console: console.print(f'"{stored.name}" is stored ({shown["kind_label"]}).'))

    def fields(self, kind: str, given: list[str]) -> dict[str, str]:
        """Return the fields on the command line, with the content of the files that they name."""
        fields: dict[str, str] = {}
        for item in given:
            name, separator, value = item.partition("=")
            if not separator or not name:
                self.fail(f'--field takes NAME=VALUE, such as "host=smtp.example.com", not "{name[:40]}"', USAGE)
            if name in fields:
                self.fail(f'--field "{name}" is given twice', USAGE)
            if value.startswith("@"):
                value = self.read(name, value[1:])
            elif value and kinds.is_secret(kind, name):
                self.fail(
                    f'field "{name}" is secret, and others see the command line (shell history, ps): give '
                    f"{name}=@FILE, {name}=@- for standard input, or leave it away to be asked",
                    USAGE,
                )
            fields[name] = value
        return fields

    def read(self, name: str, source: str) -> str:
        """Return a file or standard input, without the line end at its end."""
        try:
            text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            self.fail(f'field "{name}": {source or "@"} cannot be read: {reason}')
        return text.removesuffix("\n").removesuffix("\r")

    def ask_for_missing(self, kind: str, fields: dict[str, str]) -> None:
        """Ask at the terminal for needed secrets that were not given; without a terminal they stay missing."""
        if not sys.stdin.isatty():
            return
        for one in kinds.kind_of(kind).fields:
            if one.secret and one.required and one.name not in fields:
                fields[one.name] = getpass.getpass(f"{one.label} (not shown): ")

    def moment(self, text: str) -> datetime | None:
        """Return an end as typed, read in UTC."""
        if text == "never":
            return None
        try:
            day = parse_date(text)
            found = datetime(day.year, day.month, day.day, tzinfo=UTC) if day else parse_datetime(text)
        except ValueError:
            found = None
        if found is None:
            self.fail(f'--expires takes "2030-01-31", "2030-01-31T18:00" or "never", not "{text[:40]}"', USAGE)
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def delete(self, options: dict[str, Any]) -> None:
        """Delete one credential."""
        row = self.find(options)
        shown = {"id": str(row.pk), "name": row.name, "used_by": [one.name for one in credentials.used_by(row)]}
        credentials.delete(row, force=options["force"])
        self.emit(shown, lambda console: console.print(f'"{shown["name"]}" is deleted.'))

    def find(self, options: dict[str, Any]) -> Credential:
        """Return the credential of the user that is named; fails if there is none."""
        found = credentials.find(self.user(options), options["name"])
        if found is None:
            self.fail(f'there is no credential "{options["name"]}" of yours; ./flow credentials list shows them')
        return found

    def rotate(self, options: dict[str, Any]) -> int:
        """Encrypt all credentials anew."""
        done = credentials.rotate()
        shown = {
            "rotated": done.rotated, "current": done.current, "unreadable": list(done.unreadable), "late": done.late,
            "finished": done.finished,
        }  # fmt: skip

        def page(console: Console) -> None:
            console.print(f"{done.rotated} encrypted anew; {done.current} have the first key now.")
            if done.finished:
                console.print("The keys behind the first one are not needed any more.")

        self.emit(shown, page)
        if done.unreadable:
            self.note(
                f"error: no key in FLOWBUILDER_CREDENTIAL_KEYS opens {len(done.unreadable)} of them: "
                f"{', '.join(done.unreadable[:10])}; add the key that they were stored with at the end, or store them again"
            )
        if done.late:
            self.note(
                "error: some process still writes with an older key; restart web, workers and scheduler with the same "
                "FLOWBUILDER_CREDENTIAL_KEYS, then rotate again"
            )
        return OK if done.finished else FAILED
