"""``./flow workflows webhooks``: the addresses by which other systems start a workflow."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from flowbuilder.management.base import USAGE, ProductCommand
from workflows import access, lifecycle, webhooks
from workflows.models import Webhook, Workflow

ACTIONS = ("list", "create", "rotate", "enable", "disable", "delete")


class WebhookVerb(ProductCommand):
    """A command with the subcommand ``webhooks``."""

    def add_webhooks(self) -> None:
        """Define the subcommand."""
        parser = self.verb(
            "webhooks",
            self.webhooks,
            "Make, list, rotate, switch and delete the addresses by which other systems start a workflow.",
            examples=(
                "./flow workflows webhooks list shop",
                "./flow workflows webhooks create shop orders",
                "./flow workflows webhooks rotate shop orders --grace-hours 48",
                "./flow workflows webhooks disable shop orders",
            ),
            user=True,
        )
        parser.add_argument("action", metavar="ACTION", choices=ACTIONS, help=", ".join(ACTIONS))
        parser.add_argument("workflow", metavar="NAME|ID", help="the workflow")
        parser.add_argument("webhook", metavar="WEBHOOK", nargs="?", help="name or id of the webhook")
        parser.add_argument(
            "--methods", default="POST", metavar="M,M", help="what a new one takes: POST, PUT, PATCH (default: POST)"
        )
        parser.add_argument(
            "--grace-hours", type=int, default=webhooks.GRACE_HOURS, metavar="N",
            help=f"how long the secret before a rotation stays good (default: {webhooks.GRACE_HOURS}; 0 ends it now)",
        )  # fmt: skip

    def webhooks(self, options: dict[str, Any]) -> None:
        """Do one of the actions."""
        user, action = self.user(options), options["action"]
        workflow = lifecycle.find_workflow(user, options["workflow"])
        if action == "list":
            self._list_webhooks(workflow)
            return
        if not access.can(user, "change", workflow):
            self.fail(f'workflow "{workflow.name}" belongs to {workflow.owner}; you may see it, not change it')
        if not options["webhook"]:
            self.fail(f"name the webhook: ./flow workflows webhooks {action} {workflow.name} WEBHOOK", USAGE)
        if action == "create":
            methods = [part.strip() for part in options["methods"].split(",") if part.strip()]
            self._tell_secret(*webhooks.create(workflow, options["webhook"], methods))
            return
        webhook = self._webhook(workflow, options["webhook"])
        if action == "rotate":
            self._tell_secret(webhook, webhooks.rotate(webhook, options["grace_hours"]))
            return
        if action == "delete":
            webhooks.delete(webhook)
            word = "deleted"
        else:
            webhooks.change(webhook, enabled=action == "enable")
            word = "on" if webhook.enabled else "off"
        self.emit(webhooks.public(webhook), lambda console: console.print(f'Webhook "{webhook.name}" is {word}.'))

    def _list_webhooks(self, workflow: Workflow) -> None:
        shown = [webhooks.public(one) for one in workflow.webhooks.all()]

        def table(console: Console) -> None:
            if not shown:
                console.print(f'Workflow "{workflow.name}" has no webhook.')
                return
            grid = Table("Name", "State", "Methods", "Last request (UTC)", "Accepted", "Refused", "Address", box=None)
            for one in shown:
                last = f"{one['last_received_at']:%Y-%m-%d %H:%M}" if one["last_received_at"] else "never"
                state, methods = "on" if one["enabled"] else "off", ", ".join(one["methods"])
                grid.add_row(one["name"], state, methods, last, str(one["accepted"]), str(one["refused"]), one["url"])
            console.print(grid)

        self.emit(shown, table)

    def _tell_secret(self, webhook: Webhook, secret: str) -> None:
        def page(console: Console) -> None:
            self.note(f'The secret of webhook "{webhook.name}" is shown only now.')
            console.print(
                f"secret   {secret}\naddress  {webhooks.url_of(webhook)}\n\n{webhooks.example(webhook, secret)}"
            )

        self.emit({**webhooks.public(webhook), "secret": secret}, page)

    def _webhook(self, workflow: Workflow, name_or_id: str) -> Webhook:
        found = [one for one in workflow.webhooks.all() if name_or_id in (one.name, str(one.pk))]
        if not found:
            self.fail(
                f'workflow "{workflow.name}" has no webhook "{name_or_id}"; ./flow workflows webhooks list shows them'
            )
        webhook: Webhook = found[0]
        return webhook
