"""``./flow schedules``: what starts by itself, and when a cron would fire."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from flowbuilder.management.base import FAILED, OK, USAGE, ProductCommand
from workflows.limits import installation
from workflows.models import Schedule, Workflow
from workflows.shown import preview, schedule_json

MOST_RUNS = 50


class Command(ProductCommand):
    """Look at schedules and try cron expressions."""

    help = "List schedules, and preview a cron expression."
    examples = (
        "./flow schedules list",
        "./flow schedules preview '0 9 * * 1-5' --tz Europe/Berlin",
    )

    def add_verbs(self) -> None:
        """Define the subcommands."""
        self.verb("list", self.list_all, "List the schedules of workflows, next run first.", user=True)
        parser = self.verb(
            "preview",
            self.preview,
            "Say a cron expression in words and show when it fires next; exit code 1 if it is not valid.",
            examples=(
                "./flow schedules preview '*/15 * * * *'",
                "./flow schedules preview '30 2 * * *' --tz Asia/Kolkata",
            ),
        )
        parser.add_argument("cron", metavar="CRON", help="five fields in quotes: minute hour day month weekday")
        parser.add_argument("--tz", default="UTC", metavar="ZONE", help="IANA time zone (default: UTC)")
        parser.add_argument("--count", type=int, default=5, help=f"how many runs, 1 to {MOST_RUNS} (default: 5)")

    def list_all(self, options: dict[str, Any]) -> None:
        """List schedules."""
        rows = Schedule.objects.filter(workflow__in=Workflow.objects.visible_to(self.user(options)))
        found = sorted(
            rows.select_related("workflow"),
            key=lambda one: (one.next_run_at is None, one.next_run_at, one.workflow.name),
        )
        shown = [
            {"workflow_id": str(one.workflow_id), "workflow": one.workflow.name, "status": one.workflow.status}
            | schedule_json(one)
            for one in found
        ]

        def table(console: Console) -> None:
            if not shown:
                console.print("No workflow has a schedule.")
                return
            grid = Table("Workflow", "Cron", "Zone", "Enabled", "Status", "Next run (UTC)", "Last run (UTC)", box=None)
            for one in shown:
                next_run, last_run = (
                    f"{one[key]:%Y-%m-%d %H:%M}" if one[key] else "" for key in ("next_run_at", "last_run_at")
                )
                enabled = "yes" if one["enabled"] else "no"
                grid.add_row(one["workflow"], one["cron"], one["timezone"], enabled, one["status"], next_run, last_run)
            console.print(grid)

        self.emit(shown, table)

    def preview(self, options: dict[str, Any]) -> int:
        """Show what a cron would do."""
        if not 1 <= options["count"] <= MOST_RUNS:
            self.fail(f"--count must be from 1 to {MOST_RUNS}", USAGE)
        shown = preview(options["cron"], options["tz"], options["count"], installation().minimum_interval_s)

        def page(console: Console) -> None:
            if shown["text"]:
                console.print(shown["text"])
            zone = ZoneInfo(options["tz"]) if shown["next"] else None
            for run in shown["next"]:
                there = "" if options["tz"] == "UTC" else f"   {run.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"
                console.print(f"{run:%Y-%m-%d %H:%M} UTC{there}")

        self.emit(shown, page)
        if shown["error"]:
            if not options["json"]:
                self.note(f"error: {shown['error']}")
            return FAILED
        return OK
