"""``./flow demo``: run the example workflow on the bundled shop and print what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from rich.console import Console
from rich.table import Table

from executions import report, states
from executions.browser import find_chromium
from executions.triggers import start_execution
from flowbuilder.installation import DEMO, DEMO_WITHOUT_BROWSER, add_examples
from flowbuilder.management.base import FAILED, OK, PREREQUISITE
from flowbuilder.management.commands import executions
from flowbuilder.stack import RunningStack, StackError, ensure_stack
from workflows.lifecycle import find_workflow


class Command(executions.Command):
    """Run the example workflow, follow it, print its result."""

    help = (
        "Run the example workflow against the bundled demo shop, in Chromium where there is one, follow it live, and "
        "print the products. Uses what runs here, else starts it for the time of the command. Exit code 0 only when "
        "the execution completed."
    )
    examples: Sequence[str] = ("./flow demo", "./flow demo --json")

    def add_verbs(self) -> None:
        """Add none: the command does one thing."""

    def add_options(self, parser: CommandParser) -> None:
        """Add ``--json`` and ``--user``."""
        self.add_json(parser)
        self.add_user(parser)

    def run(self, options: dict[str, Any]) -> int:
        """Find or start a stack and run the example on it."""
        try:
            with ensure_stack(self.note) as stack:
                return self._demo(options, stack)
        except StackError as error:
            self.fail(str(error), error.exit_code)

    def _demo(self, options: dict[str, Any], stack: RunningStack) -> int:
        if not stack.demo_url:
            self.fail("the running stack has no demo site; start it without --no-demo", PREREQUISITE)
        user = self.user(options)
        browser, name = "chromium", DEMO
        if find_chromium(settings.CHROMIUM) is None:
            browser, name = "http", DEMO_WITHOUT_BROWSER
            self.note("no Chromium was found: running the variant without a browser. ./flow doctor says how to get one")
        add_examples(user, (name,))
        execution = start_execution(find_workflow(user, name), by=user)
        self.note(f"running {name} on {stack.demo_url}")
        self.note(f"watch it: {stack.web}/admin/executions/execution/{execution.pk}/change/")
        asyncio.run(self._wait(execution, user, self._printer(options | {"json": True})))

        outcome = report.result(self._execution(str(execution.pk), user))
        result = {
            "status": outcome["status"],
            "browser": browser,
            "products": products(outcome["outputs"]),
            "execution_id": outcome["execution_id"],
            "recording_id": outcome["recording_id"],
            "duration_ms": outcome["duration_ms"],
        }
        self.emit(result, lambda console: self._show_demo(console, result))
        if outcome["status"] == states.COMPLETED:
            return OK
        if outcome["error"]:
            self.note(f"error in {outcome['error_node'] or 'the execution'}: {outcome['error']}")
        return FAILED

    @staticmethod
    def _show_demo(console: Console, result: dict[str, Any]) -> None:
        rows = result["products"]
        if rows:
            table = Table(*rows[0])
            for row in rows:
                table.add_row(*(str(value) for value in row.values()))
            console.print(table)
        console.print(f"status     {result['status']} in {result['duration_ms']:,} ms, in {result['browser']}")
        console.print(f"execution  {result['execution_id']}")
        console.print(f"recording  {result['recording_id']}   (./flow recordings inspect {result['recording_id']})")


def products(outputs: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the products among the outputs of the example, none when it did not get that far."""
    result: list[dict[str, Any]] = outputs.get("shape", {}).get("Result", {}).get("products", [])
    return result
