"""``./flow workflows``: import, list, show, validate, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flowbuilder.management.base import FAILED, OK, ProductCommand
from workflows import lifecycle, transfer
from workflows.api.common import findings_json
from workflows.api.workflows import detail, summary
from workflows.definition import Definition
from workflows.errors import DefinitionError
from workflows.models import Workflow
from workflows.strict import read_json
from workflows.validation import Finding, errors

SIZE_LIMIT_BYTES = 10 * 1024 * 1024


class Command(ProductCommand):
    """Keep workflows as files: import, list, show, validate, export."""

    help = "Import, list, show, validate and export workflows."
    examples = (
        "./flow workflows import shop.json",
        "./flow workflows list --json",
        "./flow workflows validate shop.json",
        "./flow workflows export shop > shop.json",
    )

    def add_verbs(self) -> None:
        """Define the subcommands."""
        parser = self.verb(
            "import",
            self.import_file,
            "Store a workflow from a JSON file; the same name again makes a new version.",
            examples=("./flow workflows import shop.json", "./flow workflows import - --name shop --json < shop.json"),
            user=True,
        )
        parser.add_argument("file", metavar="FILE", help='the JSON file, or "-" for standard input')
        parser.add_argument("--name", help='the name, instead of "name" in the file')
        self.verb("list", self.list_all, "List workflows by name.", examples=("./flow workflows list",), user=True)
        parser = self.verb(
            "show", self.show, "Show one workflow.", examples=("./flow workflows show shop --json",), user=True
        )
        parser.add_argument("workflow", metavar="NAME|ID")
        parser = self.verb(
            "validate",
            self.validate,
            "Check a file or the newest version of a workflow; exit code 1 if it has errors.",
            examples=("./flow workflows validate shop.json", "./flow workflows validate shop"),
            user=True,
        )
        parser.add_argument(
            "workflow", metavar="FILE|NAME|ID", help='a JSON file, "-" for standard input, or a workflow'
        )
        parser = self.verb(
            "export",
            self.export,
            "Print the definition of a workflow as JSON.",
            examples=("./flow workflows export shop > shop.json", "./flow workflows export shop --number 3"),
            json=False,
            user=True,
        )
        parser.add_argument("workflow", metavar="NAME|ID")
        parser.add_argument("--number", type=int, help="the version (default: the newest)")

    def import_file(self, options: dict[str, Any]) -> None:
        """Store the file as a workflow."""
        data = self.read(options["file"])
        workflow, version, findings = transfer.import_definition(self.user(options), data, name=options["name"])
        for finding in findings:
            self.note(str(finding))
        shown = {
            "id": str(workflow.pk),
            "name": workflow.name,
            "version": version.number,
            "status": workflow.status,
            "active_version": workflow.version.number if workflow.version else None,
            "findings": findings_json(findings),
        }
        self.emit(
            shown,
            lambda console: console.print(
                f"{workflow.name}: version {version.number}, {workflow.status}, id {workflow.pk}"
            ),
        )

    def list_all(self, options: dict[str, Any]) -> None:
        """List the workflows that the user may see."""
        rows = (
            Workflow.objects.visible_to(self.user(options))
            .select_related("draft", "version", "schedule")
            .defer("draft__definition", "version__definition")
        )
        shown = [summary(workflow) for workflow in rows]

        def table(console: Console) -> None:
            if not shown:
                console.print("No workflows yet. ./flow workflows import FILE adds one.")
                return
            grid = Table("Name", "Status", "Version", "Active", "Schedule", "Next run (UTC)", "Id", box=None)
            for one in shown:
                schedule = one["schedule"] or {}
                due = schedule.get("next_run_at")
                grid.add_row(
                    one["name"],
                    one["status"],
                    str(one["version"]),
                    str(one["active_version"] or ""),
                    f"{schedule['cron']} {schedule['timezone']}" if schedule else "",
                    f"{due:%Y-%m-%d %H:%M}" if due else "",
                    str(one["id"]),
                )
            console.print(grid)

        self.emit(shown, table)

    def show(self, options: dict[str, Any]) -> None:
        """Show one workflow with its nodes and what is wrong with it."""
        workflow = lifecycle.find_workflow(self.user(options), options["workflow"])
        shown = detail(workflow)
        definition = Definition.from_json(shown["definition"])
        findings = lifecycle.check_definition(definition, workflow.owner_id) if definition.nodes else []
        shown["findings"] = findings_json(findings)

        def page(console: Console) -> None:
            console.print(f"{workflow.name} ({workflow.pk})")
            if workflow.description:
                console.print(workflow.description)
            active = f", version {shown['active_version']} runs" if shown["active_version"] else ""
            console.print(f"{workflow.status}, newest version {shown['version']}{active}")
            if shown["schedule"]:
                due = shown["schedule"]["next_run_at"]
                next_run = f", next {due:%Y-%m-%d %H:%M} UTC" if due else ""
                console.print(f"schedule {shown['schedule']['cron']} {shown['schedule']['timezone']}{next_run}")
            grid = Table("Node", "Type", "Label", box=None)
            for node in definition.nodes:
                grid.add_row(node.id, node.type, node.label)
            console.print(grid)
            self.print_findings(console, findings)

        self.emit(shown, page)

    def validate(self, options: dict[str, Any]) -> int:
        """Check a file or a stored workflow."""
        user = self.user(options)
        name = options["workflow"]
        if name == "-" or Path(name).is_file():
            data, owner_id = self.read(name), user.pk
        else:
            if name.endswith(".json"):
                self.fail(f"{name}: there is no such file")
            workflow = lifecycle.find_workflow(user, name)
            data, owner_id = detail(workflow)["definition"], workflow.owner_id
        findings = lifecycle.check_json(data, owner_id)
        self.emit({"findings": findings_json(findings)}, lambda console: self.print_findings(console, findings))
        return FAILED if errors(findings) else OK

    def export(self, options: dict[str, Any]) -> None:
        """Print a definition exactly as it was stored."""
        workflow = lifecycle.find_workflow(self.user(options), options["workflow"])
        if options["number"] is None:
            version = workflow.draft
        else:
            version = workflow.versions.filter(number=options["number"]).first()
        if version is None:
            self.fail(f'workflow "{workflow.name}" has no version {options["number"] or "yet"}')
        self.emit(version.definition)

    def print_findings(self, console: Console, findings: list[Finding]) -> None:
        """Print findings, or that there are none."""
        if not findings:
            console.print("Nothing is wrong.")
        for finding in findings:
            console.print(f"{finding.node_id or 'workflow'}: {finding}")

    def read(self, name: str) -> Any:
        """Return the JSON in a file or on standard input; fails naming the file and the place."""
        shown = "standard input" if name == "-" else name
        try:
            content = sys.stdin.buffer.read(SIZE_LIMIT_BYTES + 1) if name == "-" else self.read_file(Path(name))
            if len(content) > SIZE_LIMIT_BYTES:
                self.fail(f"{shown}: larger than {SIZE_LIMIT_BYTES:,} bytes")
            return read_json(content)
        except OSError as error:
            self.fail(f"{shown}: {error.strerror}")
        except DefinitionError as error:
            self.fail(f"{shown}: {error}")

    def read_file(self, path: Path) -> bytes:
        """Return at most one byte more than allowed."""
        with path.open("rb") as file:
            return file.read(SIZE_LIMIT_BYTES + 1)
