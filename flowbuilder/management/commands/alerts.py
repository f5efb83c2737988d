"""``./flow alerts``: what fires; acknowledging it, silencing its rule, trying a rule on last week."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q
from rich.console import Console
from rich.table import Table

from flowbuilder.management.base import FAILED, OK, USAGE, ProductCommand
from monitoring.alerts import inbox, rules, trial
from monitoring.alerts.measures import counted
from monitoring.models import Alert, AlertRule

SHOWN = 200
LONGEST_HOURS = inbox.LONGEST_SILENCE // timedelta(hours=1)


class Command(ProductCommand):
    """Look at alerts and handle them."""

    help = "List alerts, acknowledge them, silence their rules, and try a rule on last week."
    examples = (
        "./flow alerts list",
        "./flow alerts ack 5f3c1a",
        './flow alerts silence "too many fail" --hours 8',
        './flow alerts test "too many fail" --threshold 30',
    )

    def add_verbs(self) -> None:
        """Define the subcommands."""
        parser = self.verb("list", self.list_all, f"List what fires, the newest {SHOWN}.", user=True)
        parser.add_argument("--state", choices=[*inbox.STATES, "all"], default="firing", help="which (default: firing)")
        parser = self.verb("ack", self.acknowledge, "Say that you take care of an alert.", user=True)
        parser.add_argument("alert", metavar="ALERT", help="its id, or the beginning of it")
        parser = self.verb("silence", self.silence, "Let nobody be told of a rule for a while.", user=True)
        parser.add_argument("rule", metavar="RULE", help="its name or id")
        parser.add_argument("--hours", type=float, default=1.0, help="for how long (default: 1); 0: tell people again")
        parser = self.verb("test", self.test, "Say what a rule would have done; nothing is changed or sent.", user=True)
        parser.add_argument("rule", metavar="RULE", help="its name or id")
        parser.add_argument("--days", type=int, default=trial.LONGEST_DAYS, help="how far back (default: 7, the most)")
        parser.add_argument("--threshold", type=float, help="another one than that of the rule")

    def list_all(self, options: dict[str, Any]) -> None:
        """List alerts."""
        rows = Alert.objects.visible_to(self.user(options)).select_related("acknowledged_by")
        if options["state"] != "all":
            rows = rows.filter(inbox.STATES[options["state"]])
        shown = [_shown(alert) for alert in rows[:SHOWN]]

        def table(console: Console) -> None:
            if not shown:
                console.print("Nothing fires." if options["state"] == "firing" else "There is none.")
                return
            grid = Table("Alert", "Rule", "Status", "Severity", "Since (UTC)", "What", box=None)
            for one in shown:
                status = f"taken by {one['acknowledged_by']}" if one["acknowledged_by"] else one["status"]
                grid.add_row(
                    one["id"][:8], one["rule"], status, one["severity"], f"{one['opened_at']:%Y-%m-%d %H:%M}", one["message"]
                )  # fmt: skip
            console.print(grid)

        self.emit(shown, table)

    def acknowledge(self, options: dict[str, Any]) -> int:
        """Take care of one alert."""
        user, wanted = self.user(options), options["alert"].lower()
        rows = Alert.objects.changeable_by(user).filter(inbox.STATES["firing"]).select_related("acknowledged_by")
        found = [alert for alert in rows if str(alert.pk).startswith(wanted)]
        if len(found) != 1:
            count = (
                f"{len(found)} alerts that fire begin" if found else "no alert that fires and is yours to handle begins"
            )
            self.fail(f'{count} with "{options["alert"][:40]}"; ./flow alerts list shows them')
        (alert,) = found
        taken = inbox.acknowledge(alert, user)
        self.emit(_shown(alert), lambda console: console.print(f"You take care of: {alert}") if taken else None)
        if not taken:
            self.note(f"error: somebody takes care of it already: {alert.acknowledged_by or 'somebody'}")
        return OK if taken else FAILED

    def silence(self, options: dict[str, Any]) -> None:
        """Silence one rule."""
        hours = options["hours"]
        if not 0 <= hours <= LONGEST_HOURS:
            self.fail(f"--hours is 0 to {LONGEST_HOURS:,}", USAGE)
        rule = self.rule(AlertRule.objects.changeable_by(self.user(options)), options["rule"])
        if hours:
            inbox.silence(rule, timedelta(hours=hours))
        else:
            inbox.end_silence(rule)
        until = rule.silenced_until
        told = f"Nobody is told when it fires until {until:%Y-%m-%d %H:%M} UTC." if until else "People are told of it."
        self.emit({"rule": rule.name, "silenced_until": until}, lambda console: console.print(f"{rule.name}: {told}"))

    def test(self, options: dict[str, Any]) -> None:
        """Try one rule."""
        if not 1 <= options["days"] <= trial.LONGEST_DAYS:
            self.fail(f"--days is 1 to {trial.LONGEST_DAYS}", USAGE)
        rule = self.rule(AlertRule.objects.visible_to(self.user(options)), options["rule"])
        if options["threshold"] is not None:
            if not 0 < options["threshold"] <= 1e15:
                self.fail("--threshold is a number above 0", USAGE)
            rule.threshold = options["threshold"]
        found = trial.rule_test(rule, options["days"])
        kind = rules.KINDS[rule.kind]
        shown = {
            "rule": rule.name, "threshold": rule.threshold, "since": found.since, "until": found.until, "count": found.count,
            "highest": found.highest, "known_since": found.known_since,
            "firings": [
                {"key": one.key, "began_at": one.began_at, "ended_at": one.ended_at, "worst": one.worst, "message": one.message}
                for one in found.firings
            ],
        }  # fmt: skip

        def page(console: Console) -> None:
            if found.known_since is None or found.highest is None:
                console.print(f"{rule.name}: nothing is known of the last {counted(options['days'], 'day')}.")
                return
            console.print(
                f"{rule.name}: with the threshold {rule.threshold:g} {kind.unit_of(rule.threshold)} it would have fired "
                f"{counted(found.count, 'time')} in {counted(options['days'], 'day')}; "
                f"the highest value was {found.highest:g} {kind.unit_of(found.highest)}."
            )
            grid = Table("Since (UTC)", "Until (UTC)", "At its worst", box=None)
            for one in found.firings:
                ended = f"{one.ended_at:%Y-%m-%d %H:%M}" if one.ended_at else "now"
                grid.add_row(f"{one.began_at:%Y-%m-%d %H:%M}", ended, one.message)
            if found.firings:
                console.print(grid)

        self.emit(shown, page)

    def rule(self, rows: Any, wanted: str) -> AlertRule:
        """Return the one rule of ``rows`` that is named; fails if there is none, or several of different owners."""
        named = Q(name=wanted)
        with suppress(ValueError):
            named |= Q(pk=UUID(wanted))
        found = list(rows.filter(named).select_related("owner", "workflow")[:2])
        if not found:
            self.fail(f'there is no rule "{wanted[:80]}" that you may use; the page "Alert rules" lists them')
        if len(found) > 1:
            self.fail(f'several people have a rule "{wanted[:80]}"; name it by its id')
        chosen: AlertRule = found[0]
        return chosen


def _shown(alert: Alert) -> dict[str, Any]:
    return {
        "id": str(alert.pk), "rule": alert.rule_name, "kind": alert.kind, "severity": alert.severity, "status": alert.status,
        "workflow": alert.workflow_name or None, "key": alert.key, "value": alert.value, "threshold": alert.threshold,
        "message": alert.message, "opened_at": alert.opened_at, "resolved_at": alert.resolved_at,
        "acknowledged_by": alert.acknowledged_by.get_username() if alert.acknowledged_by else None,
    }  # fmt: skip
