"""``./flow workflows``: workflows and their versions, from the first file to the archive."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowbuilder.bodies import too_large_text
from flowbuilder.management.base import FAILED, OK, USAGE, Handler
from flowbuilder.management.webhooks import WebhookVerb
from workflows import access, lifecycle, transfer
from workflows.definition import Definition
from workflows.diff import Diff, compare, hidden
from workflows.errors import DefinitionError
from workflows.models import AuditEntry, Workflow, WorkflowVersion
from workflows.shown import detail, findings_json, summary
from workflows.strict import read_json
from workflows.validation import Finding, errors

MOST_ENTRIES = 1000
COLOURS = {"added": "green", "removed": "red", "changed": "yellow", "moved": "dim"}
MINUTES = "%Y-%m-%d %H:%M"


class Command(WebhookVerb):
    """Workflows and their versions."""

    help = (
        "Keep workflows: take them in from files, look at them, compare and restore versions, decide which version "
        "runs and whether it takes starts, and see who changed what."
    )
    examples = (
        "./flow workflows templates",
        "./flow workflows import shop.json",
        "./flow workflows list --json",
        "./flow workflows diff shop",
        "./flow workflows publish shop",
        "./flow workflows pause shop",
        "./flow workflows webhooks create shop orders",
        "./flow workflows export shop > shop.json",
    )

    def add_verbs(self) -> None:
        """Define the subcommands."""
        self._looking()
        self._files()
        self._moving()
        self._versions()
        self.add_webhooks()

    def _looking(self) -> None:
        parser = self.verb(
            "list",
            self.list_all,
            "List workflows by name.",
            examples=("./flow workflows list", "./flow workflows list --status active --json"),
            user=True,
        )
        parser.add_argument("--status", choices=Workflow.Status.values, help="only those of this status")
        self._named(
            "show",
            self.show,
            "Show one workflow with its nodes and what is wrong with it.",
            examples=("./flow workflows show shop", "./flow workflows show shop --json"),
        )
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
            "history",
            self.history,
            "Show who did what to a workflow and by which door, newest first; without a name, to all workflows.",
            examples=("./flow workflows history shop", "./flow workflows history --limit 20 --json"),
            user=True,
        )
        parser.add_argument("workflow", metavar="NAME|ID", nargs="?")
        parser.add_argument(
            "--limit", type=int, default=50, help=f"how many entries, 1 to {MOST_ENTRIES:,} (default: 50)"
        )

    def _files(self) -> None:
        parser = self.verb(
            "import",
            self.import_file,
            "Store a workflow from a JSON file or from a template; the same name again makes a new version.",
            examples=(
                "./flow workflows import shop.json --message 'prices in euro'",
                "./flow workflows import shop.json --credential shop-login=my-login",
                "./flow workflows import --template demo-shop-http --name my-shop",
                "./flow workflows import - --name shop --json < shop.json",
            ),
            user=True,
        )
        parser.add_argument("file", metavar="FILE", nargs="?", help='the JSON file, or "-" for standard input')
        parser.add_argument(
            "--template", metavar="NAME", help="begin from this template; see ./flow workflows templates"
        )
        parser.add_argument("--name", help='the name, instead of "name" in the file')
        parser.add_argument("--message", help="what changed, shown in the list of versions")
        parser.add_argument(
            "--credential", metavar="PLACEHOLDER=NAME", action="append", default=[],
            help='use your credential NAME where the file says PLACEHOLDER (see "requires" in the file); repeatable',
        )  # fmt: skip
        parser.add_argument("--draft", action="store_true", help='do not activate it, even if the file says "active"')
        parser = self._named(
            "export",
            self.export,
            "Print a workflow as JSON, with the name, schedule and settings that it has now and without secrets.",
            examples=("./flow workflows export shop > shop.json", "./flow workflows export shop --number 3"),
        )
        parser.add_argument("--number", type=int, help="the version (default: the newest)")
        self.verb(
            "templates",
            self.templates,
            "List the workflows to begin from.",
            examples=("./flow workflows templates", "./flow workflows import --template demo-shop-http --name my-shop"),
        )

    def _moving(self) -> None:
        for name, help, examples in (
            ("activate", "Make a version run and take starts; errors in it are refused.", ("activate shop", "activate shop 3")),
            ("publish", "Make a version run, without a change of the status; errors in it are refused.", ("publish shop", "publish shop 3")),
        ):  # fmt: skip
            parser = self._named(name, self.run_version, help, examples=[f"./flow workflows {one}" for one in examples])
            parser.add_argument(
                "number", metavar="VERSION", nargs="?", type=int, help="its number (default: the newest)"
            )
        for name, help in (
            ("pause", "Stop scheduled and triggered starts; executions that run go on."),
            ("resume", "Take starts again after a pause."),
            ("archive", "Put a workflow away; its history stays readable."),
            ("unarchive", "Bring an archived workflow back as a draft."),
        ):
            self._named(name, self.move, help, examples=[f"./flow workflows {name} shop"])
        parser = self._named(
            "delete",
            self.delete,
            "Delete a workflow that never ran; archive one that has a history.",
            examples=("./flow workflows delete shop --yes",),
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def _versions(self) -> None:
        self._named(
            "versions",
            self.versions,
            "List the versions of a workflow, newest first.",
            examples=("./flow workflows versions shop",),
        )
        parser = self._named(
            "diff",
            self.diff,
            "Show what differs between two versions, or between a version and a file. Without numbers: between the "
            "version that runs and the newest.",
            examples=(
                "./flow workflows diff shop",
                "./flow workflows diff shop 2",
                "./flow workflows diff shop 2 5 --json",
                "./flow workflows diff shop --file shop.json --exit-code",
            ),
        )
        parser.add_argument("old", metavar="OLD", nargs="?", type=int, help="the version to compare from")
        parser.add_argument(
            "new", metavar="NEW", nargs="?", type=int, help="the one to compare to (default: the newest)"
        )
        parser.add_argument("--file", help='compare to this JSON file, or to standard input with "-"')
        parser.add_argument("--exit-code", action="store_true", help="exit code 1 if something differs")
        parser = self._named(
            "restore",
            self.restore,
            "Save what an older version holds as a new version; what is active keeps running until you publish.",
            examples=("./flow workflows restore shop 2",),
        )
        parser.add_argument("number", metavar="VERSION", type=int)
        parser = self._named(
            "clone",
            self.clone,
            "Make a workflow of your own that does the same: a draft, with its schedule switched off.",
            examples=("./flow workflows clone shop", "./flow workflows clone shop --name shop-test --number 2"),
        )
        parser.add_argument("--name", help='its name (default: "NAME (copy)")')
        parser.add_argument("--number", type=int, help="the version (default: the newest)")

    def _named(self, name: str, handler: Handler, help: str, *, examples: Iterable[str]) -> CommandParser:
        """Add a subcommand about one workflow."""
        parser = self.verb(name, handler, help, examples=tuple(examples), user=True)
        parser.add_argument("workflow", metavar="NAME|ID")
        return parser

    # ------------------------------------------------------------------ files

    def import_file(self, options: dict[str, Any]) -> None:
        """Store a file or a template as a workflow."""
        user = self.user(options)
        data, message = self._source(options, user)
        workflow, version, findings = transfer.import_definition(
            user,
            data,
            name=options["name"],
            message=options["message"] or message,
            credentials=self._credentials(options["credential"]),
            draft=options["draft"] or bool(options["template"]),
        )
        self._tell(workflow, findings, version)

    def _source(self, options: dict[str, Any], user: Any) -> tuple[Any, str]:
        """Return what to import, and the message when none is given."""
        if bool(options["file"]) == bool(options["template"]):
            self.fail("name a FILE or a --template, one of the two", USAGE)
        if options["file"]:
            return self.read(options["file"]), "imported"
        known, template = transfer.examples(), options["template"]
        data = known.get(template)
        if data is None:
            self.fail(f'there is no template "{template}"; there are: {", ".join(known)}')
        name = options["name"] or data["name"]
        if Workflow.objects.filter(owner=user, name=name).exists():
            self.fail(f'you have a workflow "{name}" already; give the new one a --name')
        return data, f"from the template {template}"

    def _credentials(self, pairs: list[str]) -> dict[str, str]:
        found = {}
        for pair in pairs:
            placeholder, equals, name = pair.partition("=")
            if not equals or not placeholder or not name:
                self.fail(f"--credential {pair}: must be PLACEHOLDER=NAME", USAGE)
            found[placeholder] = name
        return found

    def templates(self, options: dict[str, Any]) -> None:
        """List the templates."""
        shown = []
        for template, data in transfer.examples().items():
            needs = list(transfer.needs(data))
            shown.append(
                {"template": template, "description": data.get("description", ""), "nodes": len(data["nodes"])}
                | {"credentials": needs}
            )

        def table(console: Console) -> None:
            grid = Table("Template", "Nodes", "Credentials", "What it does", box=None)
            for one in shown:
                grid.add_row(one["template"], str(one["nodes"]), ", ".join(one["credentials"]), one["description"])
            console.print(grid)

        self.emit(shown, table)

    def export(self, options: dict[str, Any]) -> None:
        """Print a workflow as a file."""
        self.emit(transfer.export(self.find(options), options["number"]))

    # ------------------------------------------------------------------ looking
    def list_all(self, options: dict[str, Any]) -> None:
        """List the workflows that the user may see."""
        rows = (
            Workflow.objects.visible_to(self.user(options))
            .select_related("draft", "version", "schedule")
            .defer("draft__definition", "version__definition")
        )
        if options["status"]:
            rows = rows.filter(status=options["status"])
        shown = [summary(workflow) for workflow in rows]

        def table(console: Console) -> None:
            if not shown:
                none = "No workflows yet. ./flow workflows import FILE adds one."
                console.print(f"No workflow is {options['status']}." if options["status"] else none)
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
        workflow = self.find(options)
        shown = detail(workflow)
        definition = Definition.from_json(shown["definition"])
        findings = lifecycle.check_definition(definition, workflow.owner_id) if definition.nodes else []
        shown["findings"] = findings_json(findings)

        def page(console: Console) -> None:
            console.print(f"{workflow.name} ({workflow.pk})")
            if workflow.description:
                console.print(workflow.description)
            word = "runs" if workflow.status == Workflow.Status.ACTIVE else "is published"
            active = f", version {shown['active_version']} {word}" if shown["active_version"] else ""
            console.print(f"{workflow.status}, newest version {shown['version']}{active}")
            if workflow.status_reason and workflow.status_at:
                console.print(f"{workflow.status} since {workflow.status_at:{MINUTES}} UTC: {workflow.status_reason}")
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

    def history(self, options: dict[str, Any]) -> None:
        """Show entries of the audit log about workflows."""
        if not 1 <= options["limit"] <= MOST_ENTRIES:
            self.fail(f"--limit must be from 1 to {MOST_ENTRIES:,}", USAGE)
        entries = AuditEntry.objects.filter(kind="workflow")
        if options["workflow"]:
            entries = entries.filter(object_id=str(self.find(options).pk))
        else:
            entries = entries.visible_to(self.user(options))
        shown = [
            {
                "at": entry.at, "who": entry.actor_name, "door": entry.door, "verb": entry.verb,
                "workflow_id": entry.object_id, "workflow": entry.object_name, "detail": entry.detail,
            }
            for entry in entries[: options["limit"]]
        ]  # fmt: skip

        def table(console: Console) -> None:
            if not shown:
                console.print("Nothing was noted yet.")
                return
            grid = Table("When (UTC)", "Who", "Door", "What", "Workflow", "Detail", box=None)
            for one in shown:
                detail = ", ".join(
                    f"{key} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
                    for key, value in hidden(one["detail"]).items()
                    if value not in (None, "")
                )
                grid.add_row(
                    f"{one['at']:{MINUTES}}",
                    one["who"] or "Flow Builder",
                    one["door"],
                    one["verb"],
                    one["workflow"],
                    detail,
                )
            console.print(grid)

        self.emit(shown, table)

    # ------------------------------------------------------------------ status

    def run_version(self, options: dict[str, Any]) -> None:
        """Activate or publish a version."""
        workflow = self.find_own(options)
        act = lifecycle.activate if options["verb"] == "activate" else lifecycle.publish
        self._tell(workflow, act(workflow, options["number"]))

    def move(self, options: dict[str, Any]) -> None:
        """Pause, resume, archive or bring back."""
        workflow = self.find_own(options)
        act: dict[str, Callable[[Workflow], None]] = {
            "pause": lifecycle.pause,
            "resume": lifecycle.resume,
            "archive": lifecycle.archive,
            "unarchive": lifecycle.unarchive,
        }
        act[options["verb"]](workflow)
        self._tell(workflow)

    def delete(self, options: dict[str, Any]) -> None:
        """Delete, or archive what has a history."""
        workflow = self.find_own(options)
        if not options["yes"]:
            if not sys.stdin.isatty():
                self.fail("deleting cannot be undone; say --yes", USAGE)
            self.stderr.write(f'Delete workflow "{workflow.name}"? It cannot be undone. [y/N] ', ending="")
            if input().strip().lower() not in ("y", "yes"):
                self.fail("nothing was deleted")
        shown = {"id": str(workflow.pk), "name": workflow.name}
        deleted = lifecycle.delete(workflow)
        outcome = "is deleted" if deleted else "is archived, because it has executions; its history stays readable"
        self.emit(
            shown | {"deleted": deleted, "status": "deleted" if deleted else workflow.status},
            lambda console: console.print(f"{workflow.name} {outcome}"),
        )

    # ------------------------------------------------------------------ versions

    def versions(self, options: dict[str, Any]) -> None:
        """List versions."""
        workflow = self.find(options)
        shown: list[dict[str, Any]] = [
            {
                "number": version.number, "created_at": version.created_at,
                "author": version.author.get_username() if version.author else None,
                "message": version.message, "content_hash": version.content_hash,
                "runs": version.pk == workflow.version_id, "newest": version.pk == workflow.draft_id,
            }
            for version in workflow.versions.select_related("author").defer("definition").order_by("-number")
        ]  # fmt: skip

        def table(console: Console) -> None:
            if not shown:
                console.print(f"{workflow.name} has no version yet.")
                return
            grid = Table("Version", "", "Saved (UTC)", "Author", "Message", "Content", box=None)
            for one in shown:
                runs = "runs" if workflow.status == Workflow.Status.ACTIVE else "published"
                grid.add_row(
                    str(one["number"]), runs if one["runs"] else "", f"{one['created_at']:{MINUTES}}",
                    one["author"] or "", one["message"], one["content_hash"][:8],
                )  # fmt: skip
            console.print(grid)

        self.emit(shown, table)

    def diff(self, options: dict[str, Any]) -> int:
        """Show what differs."""
        workflow = self.find(options)
        old, new, found = self._compared(workflow, options)

        def page(console: Console) -> None:
            console.print(f"{workflow.name}: {old} -> {new}: {found.summary()}")
            for line in found.lines():
                console.print(Text(line.text, style=COLOURS[line.kind]))

        self.emit({"workflow": workflow.name, "old": old, "new": new, **found.to_json()}, page)
        return FAILED if found and options["exit_code"] else OK

    def _compared(self, workflow: Workflow, options: dict[str, Any]) -> tuple[str, str, Diff]:
        """Return the two sides by name, and what differs."""
        if options["file"]:
            if options["new"] is not None:
                self.fail("compare to NEW or to a --file, not to both", USAGE)
            number = lifecycle.find_version(workflow, options["old"]).number
            found = compare(transfer.export(workflow, number), self.read_workflow(options["file"]))
            return f"version {number}", options["file"], found
        new = lifecycle.find_version(workflow, options["new"])
        old = workflow.version if options["old"] is None else lifecycle.find_version(workflow, options["old"])
        if old is None:
            self.fail(
                f'no version of workflow "{workflow.name}" runs yet; name two: ./flow workflows diff NAME OLD NEW'
            )
        return f"version {old.number}", f"version {new.number}", compare(old.definition, new.definition)

    def restore(self, options: dict[str, Any]) -> None:
        """Save an older version anew."""
        workflow = self.find_own(options)
        version = lifecycle.restore(workflow, options["number"], self.user(options))
        self._tell(workflow, (), version)

    def clone(self, options: dict[str, Any]) -> None:
        """Copy a workflow."""
        workflow = lifecycle.clone(self.find(options), self.user(options), options["name"], number=options["number"])
        self._tell(workflow)

    # ------------------------------------------------------------------ shared

    def find(self, options: dict[str, Any]) -> Workflow:
        """Return the workflow that is named, if the user may see it."""
        return lifecycle.find_workflow(self.user(options), options["workflow"])

    def find_own(self, options: dict[str, Any]) -> Workflow:
        """Return the workflow that is named, if the user may change it."""
        workflow = self.find(options)
        if not access.can(self.user(options), "change", workflow):
            self.fail(f'workflow "{workflow.name}" belongs to {workflow.owner}; you may see it, but not change it')
        return workflow

    def _tell(
        self, workflow: Workflow, findings: Iterable[Finding] = (), version: WorkflowVersion | None = None
    ) -> None:
        """Print where a workflow stands after a change, and its findings to stderr."""
        found = list(findings)
        for finding in found:
            self.note(str(finding))
        newest = version or workflow.draft
        shown = {
            "id": str(workflow.pk),
            "name": workflow.name,
            "version": newest.number if newest else 0,
            "status": workflow.status,
            "active_version": workflow.version.number if workflow.version else None,
            "findings": findings_json(found),
        }
        published = shown["active_version"]
        word = "runs" if workflow.status == Workflow.Status.ACTIVE else "is published"
        runs = f", version {published} {word}" if published not in (None, shown["version"]) else ""
        self.emit(
            shown,
            lambda console: console.print(
                f"{workflow.name}: version {shown['version']}, {workflow.status}{runs}, id {workflow.pk}"
            ),
        )

    def read_workflow(self, name: str) -> dict[str, Any]:
        """Return the workflow in a file."""
        data = self.read(name)
        Definition.from_json(data)
        found: dict[str, Any] = data
        return found

    def print_findings(self, console: Console, findings: list[Finding]) -> None:
        """Print findings, or that there are none."""
        if not findings:
            console.print("Nothing is wrong.")
            return
        for finding in findings:
            console.print(f"{finding.node_id or 'workflow'}: {finding}", highlight=False, markup=False)
        wrong = len(errors(findings))
        console.print(f"{wrong} error{'' if wrong == 1 else 's'}, {len(findings) - wrong} to look at")

    def read(self, name: str) -> Any:
        """Return the JSON in a file or on standard input; fails naming the file and the place."""
        shown = "standard input" if name == "-" else name
        try:
            most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            content = sys.stdin.buffer.read(most + 1) if name == "-" else self.read_file(Path(name), most + 1)
            if len(content) > most:
                self.fail(too_large_text(shown))
            return read_json(content)
        except OSError as error:
            self.fail(f"{shown}: {error.strerror}")
        except DefinitionError as error:
            self.fail(f"{shown}: {error}")

    def read_file(self, path: Path, most: int) -> bytes:
        """Return at most so many bytes."""
        with path.open("rb") as file:
            return file.read(most)
