"""``./flow executions``: run a workflow, look at executions, pause, resume or stop one, decide approvals."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import Error as DatabaseError
from django.db.models import QuerySet
from rich.console import Console
from rich.table import Table
from rich.text import Text

from executions import mailroom, report, states
from executions.errors import StartRefused
from executions.events import load_events
from executions.models import DeadLetter, Execution, WorkerLease
from executions.retry import retry_execution
from executions.store import database_now_us
from executions.triggers import (
    cancel_execution,
    decide_approval,
    pause_execution,
    resume_execution,
    start_execution,
)
from flowbuilder.management.base import FAILED, OK, USAGE, ProductCommand
from flowbuilder.stack import StackError, ensure_stack
from monitoring.feed import Feed, Room, Watch
from monitoring.rows import read
from recordings.events import RecordingEvent, execution_log
from workflows.errors import DefinitionError
from workflows.lifecycle import find_workflow
from workflows.models import Workflow, WorkflowVersion
from workflows.policy import PRIORITIES
from workflows.strict import read_json

INTERRUPTED = 130
PAGE_EVENTS = 500
WORKERS_SHOWN = 1000
LOOK_SECONDS = 1.0
"""How long the command waits for a push before it looks at the row itself."""

STYLES = {
    states.COMPLETED: "green",
    states.COMPLETED_WITH_ERRORS: "yellow",
    states.FAILED: "red",
    states.CANCELLED: "magenta",
    states.SKIPPED: "dim",
    states.RUNNING: "blue",
    states.PAUSED: "yellow",
    states.WAITING: "magenta",
}


EXAMPLE_ID = "0192c7e4-5f0a-7c3e-9b1d-2f6c8a4e1b70"


class Command(ProductCommand):
    """Run workflows and see what they do; list, show, pause, resume, cancel and retry executions; decide approvals; handle what was given up."""

    help = "Run a workflow and see what it does; list, show, pause, resume, cancel, retry executions; decide approvals;"
    help += " handle what was given up."
    examples: Sequence[str] = (
        "./flow executions run demo-shop --follow",
        "./flow executions run demo-shop --input '{\"limit\": 3}' --json",
        "./flow executions list --status failed",
        f"./flow executions show {EXAMPLE_ID}",
        f"./flow executions approve {EXAMPLE_ID} ask --comment 'as discussed'",
    )

    def add_verbs(self) -> None:
        """Add run, list, show, pause, resume, cancel, retry, approve, reject, dead-letters and workers."""
        run = self.verb(
            "run",
            self.run_workflow,
            "Run a workflow and wait for its end. Exit code 0 only when it completed.",
            user=True,
            examples=(
                "./flow executions run demo-shop --follow",
                "./flow executions run demo-shop --input @input.json --version draft --json",
            ),
        )
        run.add_argument("workflow", metavar="NAME|ID", help="the workflow to run")
        run.add_argument("--input", metavar="JSON|@FILE", help="trigger payload, a JSON object; @FILE reads a file")
        run.add_argument("--version", metavar="N|draft", help="this version instead of the active one")
        run.add_argument("--priority", choices=PRIORITIES, help="instead of the workflow's own")
        run.add_argument(
            "--follow", action="store_true", help="print every event as it happens (with --json: on stderr)"
        )

        listing = self.verb("list", self.list_executions, "List executions, newest first.", user=True)
        listing.add_argument("--workflow", metavar="NAME|ID", help="only of this workflow")
        listing.add_argument("--status", choices=states.EXECUTION_STATUSES, help="only with this status")
        listing.add_argument(
            "--children",
            action="store_true",
            help="also those that other executions started (subflows, turns of loops)",
        )
        listing.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many (default 20)")

        show = self.verb(
            "show",
            self.show,
            "Show one execution: its nodes, what it waits for, its child executions, outputs and recording.",
            user=True,
        )
        show.add_argument("execution", metavar="ID")

        self._move("pause", self.pause, "Start no further node of one execution; what runs comes to its end.")
        self._move("resume", self.resume, "Let a paused execution go on.")

        self._move("cancel", self.cancel, "Stop one execution.")
        retry = self.verb(
            "retry",
            self.retry,
            "Queue an execution again that has ended: what failed and what follows, or all of it.",
            user=True,
            examples=(f"./flow executions retry {EXAMPLE_ID}", f"./flow executions retry {EXAMPLE_ID} --whole --json"),
        )
        retry.add_argument("execution", metavar="ID")
        retry.add_argument("--whole", action="store_true", help="every node, not only what failed and follows")
        self._decide("approve", self.approve, "Approve what a node asks; the execution goes on.")
        self._decide("reject", self.reject, "Reject what a node asks; the execution goes on along Rejected.")

        letters = self.verb(
            "dead-letters",
            self.dead_letters,
            "List what was given up; replay it, or discard it.",
            user=True,
            examples=(
                "./flow executions dead-letters",
                "./flow executions dead-letters replay 7",
                "./flow executions dead-letters replay 7 --whole",
                "./flow executions dead-letters discard 7",
            ),
        )
        letters.add_argument("action", nargs="?", choices=("list", "replay", "discard"), default="list")
        letters.add_argument("letter", nargs="?", metavar="ID", help="the letter to replay or discard")
        letters.add_argument("--all", action="store_true", help="list those that were handled, too")
        letters.add_argument("--whole", action="store_true", help="replay every node, not only what failed and follows")

        self.verb("workers", self.workers, "List the processes that run nodes, and the scheduler: what they do now.")

    def _move(self, name: str, action: Callable[[dict[str, Any]], int], text: str) -> None:
        verb = self.verb(name, action, text, user=True, examples=(f"./flow executions {name} {EXAMPLE_ID}",))
        verb.add_argument("execution", metavar="ID")

    def _decide(self, name: str, action: Callable[[dict[str, Any]], int], text: str) -> None:
        examples = (
            f"./flow executions {name} {EXAMPLE_ID} ask",
            f"./flow executions {name} {EXAMPLE_ID} ask --comment 'as discussed' --json",
        )
        verb = self.verb(name, action, text, user=True, examples=examples)
        verb.add_argument("execution", metavar="ID")
        verb.add_argument("node", metavar="NODE", help="the id of the node that asks; see ./flow executions show ID")
        verb.add_argument("--comment", default="", help="why; the workflow can read it")

    # ------------------------------------------------------------------ run

    def run_workflow(self, options: dict[str, Any]) -> int:
        """Start the workflow, wait for its end and print what it gave."""
        payload = self._payload(options["input"])
        wanted = self._wanted_version(options["version"])
        self._refuse_early(options)
        started: list[str] = []

        def say(message: str) -> None:
            started.append(message)
            self.note(message)

        try:
            with ensure_stack(say):
                return self._run(options, payload, wanted, private=bool(started))
        except StackError as error:
            self.fail(str(error), error.exit_code)

    def _run(self, options: dict[str, Any], payload: Any, wanted: int | str | None, *, private: bool) -> int:
        user = self.user(options)
        workflow = find_workflow(user, options["workflow"])
        version = self._version(workflow, wanted)
        if workflow.status == Workflow.Status.PAUSED:
            self.note(f'Workflow "{workflow.name}" is paused: it runs because you ask; nothing else starts it.')
        execution = start_execution(workflow, by=user, input=payload, version=version, priority=options["priority"])
        if options["follow"]:
            self.note(f"execution {execution.pk}")
        try:
            asyncio.run(self._wait(execution, user, self._printer(options) if options["follow"] else None))
        except KeyboardInterrupt:
            return self._interrupted(execution, private=private)
        execution = self._execution(str(execution.pk), user)
        outcome = report.result(execution, user)
        self.emit(outcome, lambda console: self._show(console, outcome))
        return OK if execution.status == states.COMPLETED else FAILED

    async def _wait(self, execution: Execution, user: Any, show: Callable[[RecordingEvent], None] | None) -> None:
        """Return when the execution has ended; give every event to ``show``, once and in order.

        Approvals are told, each once, because nothing goes on without a person; with a link if ``user`` may decide.
        """
        news = asyncio.Event()
        watch = Watch(Room(), news.set, entries=False)
        feed = Feed()
        await feed.join(str(execution.pk), watch)
        try:
            last, asked = 0, set[str]()
            while True:
                head = await read(report.head, execution.pk)
                if head is None:
                    return
                while show is not None and last < head.seq:
                    page = await read(load_events, execution.pk, last, PAGE_EVENTS)
                    for event in page:
                        show(event)
                        last = event.seq
                    if not page:
                        break
                if head.ended:
                    return
                if head.status == states.WAITING:
                    for wait in await read(report.waiting, execution, user):
                        if wait["kind"] == "approval" and wait["node_id"] not in asked:
                            asked.add(wait["node_id"])
                            self.note(f"{wait['name']} {_wait_text(wait)}")
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), LOOK_SECONDS)
                news.clear()
        finally:
            await feed.leave(str(execution.pk), watch)

    def _interrupted(self, execution: Execution, *, private: bool) -> int:
        """Offer to leave the execution running; without a person to ask, it is left."""
        self.note("")
        leave = True
        if sys.stdin.isatty() and not private:
            try:
                leave = input(f"leave execution {execution.pk} running? [Y/n] ").strip().lower() not in ("n", "no")
            except (EOFError, KeyboardInterrupt):
                self.note("")
        if leave and not private:
            self.note(f"it goes on; see it: ./flow executions show {execution.pk}")
            self.note(f"           stop it: ./flow executions cancel {execution.pk}")
        elif cancel_execution(execution, by="the command line"):
            why = "what was started for this command stops with it, so " if private else ""
            self.note(f"{why}execution {execution.pk} is being cancelled")
        return INTERRUPTED

    def _printer(self, options: dict[str, Any]) -> Callable[[RecordingEvent], None]:
        console = self.error_console if options["json"] else self.console
        styles = {"error": "red", "warning": "yellow", "debug": "dim"}

        def show(event: RecordingEvent) -> None:
            log = execution_log(event)
            line = Text(f"{log['timestamp'][11:23]} ", style="dim")
            line.append(f"{log['level']:<7} ", style=styles.get(log["level"], ""))
            line.append(str(log["message"]), style=styles.get(log["level"], ""))
            if log["duration_ms"]:
                line.append(f" ({log['duration_ms']:,} ms)", style="dim")
            console.print(line)
            console.file.flush()  # whoever reads a pipe sees it now, too

        return show

    # ------------------------------------------------------------------ list, show, move, decide

    def list_executions(self, options: dict[str, Any]) -> int:
        """Print a page of executions."""
        if options["limit"] < 1:
            self.fail("--limit must be 1 or more", USAGE)
        user = self.user(options)
        rows = Execution.objects.visible_to(user)
        if not options["children"]:
            rows = rows.filter(parent=None)
        if options["workflow"]:
            rows = rows.filter(workflow=find_workflow(user, options["workflow"]))
        if options["status"]:
            rows = rows.filter(status=options["status"])
        page = report.for_summary(rows.order_by("-queued_at", "-pk"))[: options["limit"]]
        summaries = report.summaries(page)
        self.emit(summaries, lambda console: self._show_list(console, summaries))
        return OK

    def show(self, options: dict[str, Any]) -> int:
        """Print one execution."""
        user = self.user(options)
        outcome = report.result(self._execution(options["execution"], user), user)
        self.emit(outcome, lambda console: self._show(console, outcome))
        return OK

    def pause(self, options: dict[str, Any]) -> int:
        """Let one execution start no further node."""
        return self._moved(options, pause_execution, "paused", "only a running or waiting execution can be paused")

    def resume(self, options: dict[str, Any]) -> int:
        """Let one paused execution go on."""
        return self._moved(options, resume_execution, "resumed", "only a paused execution can be resumed")

    def _moved(self, options: dict[str, Any], act: Callable[..., bool], done: str, why: str) -> int:
        user = self.user(options)
        execution = self._execution(options["execution"], user)
        moved = act(execution, by=user.get_username())
        execution.refresh_from_db(fields=("status",))
        if not moved:
            self.fail(f"execution {execution.pk} is {execution.status}; {why}")
        data = {"execution_id": str(execution.pk), "status": execution.status}
        self.emit(data, lambda console: console.print(f"execution {execution.pk} is {done}"))
        return OK

    def approve(self, options: dict[str, Any]) -> int:
        """Say yes to what a node asks."""
        return self._decided(options, approved=True)

    def reject(self, options: dict[str, Any]) -> int:
        """Say no to what a node asks."""
        return self._decided(options, approved=False)

    def _decided(self, options: dict[str, Any], *, approved: bool) -> int:
        user = self.user(options)
        execution, node_id = self._execution(options["execution"], user), options["node"]
        asked = report.asked(execution.pk, node_id)
        by, comment = user.get_username(), options["comment"]
        if asked is None or not decide_approval(execution.pk, asked.node_index, approved, comment, by):
            asking = [wait["node_id"] for wait in report.waiting(execution) if wait["kind"] == "approval"]
            self.fail(
                f'node "{node_id}" of execution {execution.pk} does not wait for an approval; '
                + (f"those that do: {', '.join(asking)}" if asking else "no node does")
            )
        word = "approved" if approved else "rejected"
        data = {"execution_id": str(execution.pk), "node_id": node_id, "approved": approved}
        self.emit(data, lambda console: console.print(f"{word}; execution {execution.pk} goes on"))
        return OK

    def cancel(self, options: dict[str, Any]) -> int:
        """Ask one execution to stop."""
        user = self.user(options)
        execution = self._execution(options["execution"], user)
        if not cancel_execution(execution, by=user.get_username()):
            self.fail(f"execution {execution.pk} is {execution.status}; there is nothing to cancel")
        execution.refresh_from_db(fields=("status",))
        data = {"execution_id": str(execution.pk), "status": execution.status, "cancel_requested": True}
        self.emit(data, lambda console: console.print(f"execution {execution.pk} is being cancelled"))
        return OK

    # ------------------------------------------------------------------ workers

    def workers(self, options: dict[str, Any]) -> int:
        """List the first processes that hold a lease, oldest first."""
        now = database_now_us()
        found = [
            {
                "boot": lease.boot,
                "hostname": lease.hostname,
                "pid": lease.pid,
                "queues": lease.queues.split(","),
                "busy": lease.busy,
                "slots": lease.slots,
                "pages": lease.pages,
                "chromium_starts": lease.chromium_starts,
                "disk_percent": lease.disk_percent,
                "memory_percent": lease.memory_percent,
                "started_at": lease.started_at.isoformat(timespec="seconds"),
                "silent_seconds": max(0, (now - lease.beat_at) // 1_000_000),
            }
            for lease in WorkerLease.objects.order_by("started_at", "boot")[:WORKERS_SHOWN]
        ]
        self.emit(found, lambda console: self._show_workers(console, found))
        return OK

    def _show_workers(self, console: Console, workers: list[dict[str, Any]]) -> None:
        if not workers:
            console.print("no worker is alive; ./flow up starts one")
            return
        table = Table(box=None, pad_edge=False)
        for name in ("host", "pid", "queues", "busy", "pages", "disk", "memory", "started", "last sign of life"):
            table.add_column(name, no_wrap=name == "pid")
        for item in workers:
            table.add_row(
                item["hostname"],
                str(item["pid"]),
                ", ".join(item["queues"]),
                f"{item['busy']} of {item['slots']}" if item["slots"] else "-",
                str(item["pages"]),
                *(
                    "-" if share is None else f"{share:.0f} %"
                    for share in (item["disk_percent"], item["memory_percent"])
                ),
                item["started_at"][:19].replace("T", " "),
                f"{_age(item['silent_seconds'])} ago",
            )
        console.print(table)

    def retry(self, options: dict[str, Any]) -> int:
        """Queue an execution again."""
        user = self.user(options)
        execution = self._execution(options["execution"], user)
        new = retry_execution(execution, user, from_failed=not options["whole"])
        data = {"execution_id": str(new.pk), "status": new.status, "retry_of_id": str(execution.pk)}
        self.emit(data, lambda console: console.print(f"execution {execution.pk} runs again as {new.pk}"))
        return OK

    # ------------------------------------------------------------------ dead letters

    def dead_letters(self, options: dict[str, Any]) -> int:
        """List dead letters, or handle one."""
        action, user = options["action"], self.user(options)
        if (options["letter"] is None) != (action == "list"):
            self.fail(
                "list takes no ID" if action == "list" else f"{action} needs the ID of a letter; see dead-letters",
                USAGE,
            )
        if options["whole"] and action != "replay":
            self.fail("--whole belongs to replay", USAGE)
        if action == "list":
            return self._list_letters(DeadLetter.objects.visible_to(user), everything=options["all"])
        letter = self._letter(options["letter"], user)
        if action == "discard":
            mailroom.discard(letter, user)
            text = f"dead letter {letter.pk} is discarded"
        else:
            execution = mailroom.replay(letter, user, whole=options["whole"])
            text = f"dead letter {letter.pk} is replayed as execution {execution.pk}"
        self.emit(mailroom.describe(letter), lambda console: console.print(text))
        return OK

    def _list_letters(self, letters: QuerySet[DeadLetter], *, everything: bool) -> int:
        rows = letters.select_related("workflow", "handled_by")
        found = [mailroom.describe(letter) for letter in (rows if everything else rows.filter(status=DeadLetter.OPEN))]
        self.emit(found, lambda console: self._show_letters(console, found))
        return OK

    def _letter(self, text: str, user: Any) -> DeadLetter:
        try:
            letter: DeadLetter = DeadLetter.objects.visible_to(user).select_related("workflow").get(pk=text)
        except (DeadLetter.DoesNotExist, ValueError, OverflowError):
            self.fail(f'there is no dead letter "{text}"; see ./flow executions dead-letters')
        return letter

    # ------------------------------------------------------------------ what the words on the command line mean

    def _payload(self, text: str | None) -> dict[str, Any]:
        if text is None:
            return {}
        source = "--input"
        if text.startswith("@"):
            source = text[1:]
            try:
                text = Path(source).read_text(encoding="utf-8")
            except OSError as error:
                self.fail(f"--input: {source} cannot be read: {error.strerror or error}", USAGE)
            except UnicodeDecodeError:
                self.fail(f"--input: {source} cannot be read: it is not UTF-8 text", USAGE)
        try:
            value = read_json(text)
        except DefinitionError as error:
            self.fail(f"{source}: {error}", USAGE)
        if not isinstance(value, dict):
            self.fail(f'{source} must be a JSON object such as {{"limit": 3}}', USAGE)
        return value

    def _wanted_version(self, text: str | None) -> int | str | None:
        if text is None or text == "draft":
            return text
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            self.fail(f'--version must be a number or "draft", not "{text}"', USAGE)
        return int(text)

    def _refuse_early(self, options: dict[str, Any]) -> None:
        """Fail for an unknown user or workflow before a whole stack is started for nothing."""
        try:
            if not Workflow.objects.exists():
                return
        except DatabaseError:
            return  # no tables yet: the stack makes them, and the example workflows
        find_workflow(self.user(options), options["workflow"])

    def _version(self, workflow: Workflow, wanted: int | str | None) -> WorkflowVersion | None:
        if wanted is None:
            return None
        if wanted == "draft":
            if workflow.draft is None:
                raise StartRefused(f'workflow "{workflow.name}" has no saved version; save it first')
            return workflow.draft
        version = workflow.versions.filter(number=wanted).first()
        if version is None:
            numbers = ", ".join(str(number) for number in workflow.versions.values_list("number", flat=True)[:20])
            self.fail(f'workflow "{workflow.name}" has no version {wanted}; it has: {numbers or "none"}')
        return version

    def _execution(self, text: str, user: Any) -> Execution:
        try:
            found: Execution = Execution.objects.visible_to(user).select_related("workflow", "version").get(pk=text)
        except (Execution.DoesNotExist, ValidationError, ValueError):
            self.fail(f'there is no execution "{text}"; see ./flow executions list')
        return found

    # ------------------------------------------------------------------ tables

    def _show_list(self, console: Console, summaries: list[dict[str, Any]]) -> None:
        if not summaries:
            console.print("no executions; start one with ./flow executions run NAME")
            return
        table = Table(box=None, pad_edge=False)
        for name in ("id", "workflow", "status", "trigger", "queued", "duration", "nodes", "error"):
            table.add_column(name, no_wrap=name in ("id", "status"))
        for item in summaries:
            progress = item["progress"]
            table.add_row(
                item["id"],
                f"{item['workflow_name']} v{item['version']}",
                _status(item["status"]),
                item["trigger"],
                item["queued_at"][:19].replace("T", " "),
                _duration(item["duration_ms"]),
                f"{progress['done']}/{progress['total']}",
                ": ".join(text for text in (item["error_node_name"], item["error"]) if text),
            )
        console.print(table)

    def _show_letters(self, console: Console, letters: list[dict[str, Any]]) -> None:
        if not letters:
            console.print("no dead letters: nothing was given up")
            return
        table = Table(box=None, pad_edge=False)
        for name in ("id", "kind", "workflow", "node", "status", "deliveries", "age", "execution", "error"):
            table.add_column(name, no_wrap=name in ("id", "kind", "status", "execution"))
        for item in letters:
            table.add_row(
                str(item["id"]),
                item["kind"],
                item["workflow"] or "-",
                item["node_id"] or "-",
                item["status"],
                str(item["deliveries"]),
                _age(item["age_seconds"]),
                item["execution_id"] or "-",
                item["error"].partition("\n")[0],
            )
        console.print(table)

    def _show(self, console: Console, outcome: dict[str, Any]) -> None:
        head = Text(f"{outcome['workflow']} v{outcome['version']}  ")
        head.append(_status(outcome["status"]))
        head.append(f"  {_duration(outcome['duration_ms'])}  {outcome['credits']} credits", style="dim")
        console.print(head)
        if outcome["error"]:
            place = f"{outcome['error_node']}: " if outcome["error_node"] else ""
            console.print(Text(f"{place}{outcome['error']}", style="red"))
        if outcome["nodes"]:
            table = Table(box=None, pad_edge=False)
            for name in ("node", "type", "status", "attempt", "duration", "processor", "memory", "error"):
                table.add_column(name)
            for item in outcome["nodes"]:
                table.add_row(
                    item["node_id"],
                    item["type"],
                    _status(item["status"]),
                    str(item["attempt"]),
                    _duration(item["duration_ms"]),
                    *_used(item),
                    item["error"] or "",
                )
            console.print(table)
        for wait in outcome["waiting"]:
            line = Text(f"{wait['node_id']} ", style="bold") + Text(_wait_text(wait), style=STYLES[states.WAITING])
            console.print(line, soft_wrap=True)
        if outcome["children"]:
            console.print(self._children(outcome["children"]))
        for node_id, outputs in outcome["outputs"].items():
            text = json.dumps(outputs, ensure_ascii=False)
            console.print(Text(f"{node_id} → ", style="dim") + Text(text if len(text) <= 400 else f"{text[:400]}…"))
        console.print(f"execution {outcome['execution_id']}")
        if outcome["recording_id"]:
            console.print(f"recording {outcome['recording_id']}")
        elif outcome["recording_note"]:
            console.print(f"recording {outcome['recording_note']}", soft_wrap=True)

    def _children(self, children: list[dict[str, Any]]) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("child execution", "node", "what", "status", "duration"):
            table.add_column(name, no_wrap=name == "child execution")
        for child in children:
            what = f"turn {(child['index'] or 0) + 1}" if child["scope"] else child["workflow_name"]
            status, length = _status(child["status"]), _duration(child["duration_ms"])
            table.add_row(child["id"], child["node_id"], what, status, length)
        return table


def _wait_text(wait: dict[str, Any]) -> str:
    """Return what is waited for, with times in UTC as everywhere in the terminal."""
    until = f" until {wait['until'][:19].replace('T', ' ')} UTC" if wait["until"] else ""
    if wait["kind"] == "approval":
        title = f': "{wait["title"]}"' if wait["title"] else ""
        link = f"  {settings.PUBLIC_URL}{wait['link']}" if wait["link"] else ""
        return f"waits for approval{until}{title}{link}"
    if wait["kind"] == "timer":
        return f"waits{until}"
    return f"waits for {(wait['total'] or 0) - (wait['done'] or 0)} of {wait['total'] or 0} child executions"


def _status(status: str) -> Text:
    return Text(status.replace("_", " "), style=STYLES.get(status, ""))


def _age(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _used(run: dict[str, Any]) -> tuple[str, str]:
    """Return what a node run used of processor and memory, for people."""
    seconds, memory = run["cpu_seconds"], run["peak_memory_bytes"]
    return "-" if seconds is None else f"{seconds:.3f} s", "-" if memory is None else f"{memory / 2**20:.0f} MiB"


def _duration(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    return f"{milliseconds / 1000:.1f} s" if milliseconds < 60_000 else f"{milliseconds / 60_000:.1f} m"
