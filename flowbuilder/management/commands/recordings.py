"""``./flow recordings``: list, inspect, replay, compare, export, verify and clean up recordings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, time
from pathlib import Path
from typing import Any
from uuid import UUID

from django.utils import timezone
from rich.console import Console
from rich.text import Text

from flowbuilder.management.base import FAILED, OK, USAGE, ProductCommand
from recordings import database
from recordings.database import DatabaseRecordingStorage, find_recording, open_replayer, replayer_of
from recordings.errors import InvalidRecording, RecordingError, RecordingNotFound
from recordings.events import RecordingEvent, encode_json
from recordings.export import (
    atomic_write,
    human_bytes,
    human_duration,
    human_time,
    to_dot,
    to_json,
    to_summary,
)
from recordings.replayer import ExecutionReplayer
from recordings.retention import RetentionPolicy
from recordings.sealed import write_sealed
from recordings.storage import SORT_ALIASES, FileRecordingStorage, RecordingQuery, RecordingStorage

SORT_KEYS = ("started_at", "completed_at", "duration", "size", "events", "nodes", "workflow", "success", "recording_id")
FORMATS = ("dot", "json", "summary", "fbrec")
RULE = "-" * 100
DATA_WIDTH = 100
STATE_KEYS = 10
LISTED = 10
STATUS_STYLES = {"SUCCESS": "green", "FAILED": "red", "UNFINISHED": "yellow"}
STEP_HELP = "Enter or n: next   p: previous   j N or j EVENT_ID: jump   s: state   q: quit"


class Command(ProductCommand):
    """Look at what runs did: list, inspect, step through, compare, export."""

    help = "Look at what runs did: list, inspect, step through, compare, export."
    examples = (
        "./flow recordings list --success false --sort-by duration --limit 10",
        "./flow recordings inspect 3f2a9c41",
        "./flow recordings replay 3f2a9c41 --step --show-data",
        "./flow recordings compare 3f2a9c41 9b7d0e15",
    )
    user_errors = (*ProductCommand.user_errors, RecordingError)

    def add_verbs(self) -> None:
        """Define the subcommands. A recording is named by its id or that of its execution, or 8 characters of it."""
        listing = self._verb("list", self.list_all, "List recordings, newest first.")
        listing.add_argument("--workflow", metavar="NAME", help="only of this workflow")
        listing.add_argument("--start", metavar="ISO", help="started at this time or later")
        listing.add_argument(
            "--end", metavar="ISO", help="started at this time or earlier; a date means all of that day"
        )
        listing.add_argument("--success", choices=("true", "false"), help="only those that completed, or failed")
        listing.add_argument("--tags", metavar="A,B", help="only those that have all these tags")
        listing.add_argument("--min-duration", type=float, metavar="SECONDS", help="at least so long")
        listing.add_argument("--max-duration", type=float, metavar="SECONDS", help="at most so long")
        listing.add_argument("--limit", type=int, metavar="N", help="at most so many")
        listing.add_argument("--offset", type=int, default=0, metavar="N", help="skip so many (default: 0)")
        listing.add_argument("--sort-by", default="started_at", metavar="KEY", help=f"one of {', '.join(SORT_KEYS)}")
        listing.add_argument("--sort-order", choices=("asc", "desc"), default="desc", help="(default: desc)")

        inspect = self._verb("inspect", self.inspect, "Show what a recording says about itself.")
        inspect.add_argument("recording", metavar="ID")

        replay = self._verb(
            "replay",
            self.replay,
            "Print the events of a recording, or step through them. Runs nothing.",
            examples=(
                "./flow recordings replay 3f2a9c41 --step --show-state",
                "./flow recordings replay 3f2a9c41 --node read_products --show-data",
            ),
        )
        replay.add_argument("recording", metavar="ID")
        replay.add_argument("--step", action="store_true", help=f"wait after each event. {STEP_HELP}")
        replay.add_argument("--show-data", action="store_true", help="print the data of each event")
        replay.add_argument("--show-state", action="store_true", help="print the state after each event")
        replay.add_argument("--from-event", metavar="N|EVENT_ID", help="begin here")
        replay.add_argument("--node", metavar="NODE_ID", help="only events of this node")

        compare = self._verb("compare", self.compare, "Compare two recordings; exit code 1 when they differ.")
        compare.add_argument("first", metavar="ID1")
        compare.add_argument("second", metavar="ID2")

        export = self._verb("export", self.export, "Write a recording as Graphviz, JSON, text or sealed file.")
        export.add_argument("recording", metavar="ID")
        export.add_argument("--format", choices=FORMATS, default="summary", help="(default: summary)")
        export.add_argument("--output", required=True, metavar="FILE", help='where to write; "-" is stdout')

        verify = self._verb("verify", self.verify, "Read a whole recording and compare its checksums.")
        verify.add_argument("recording", metavar="ID")

        self._verb("stats", self.stats, "Show totals.")

        cleanup = self._verb("cleanup", self.cleanup, "Remove recordings by age and number.")
        cleanup.add_argument("--max-age-days", type=float, metavar="N", help="remove those that are older")
        cleanup.add_argument("--max-count", type=int, metavar="N", help="keep only so many, the newest")
        cleanup.add_argument("--delete-failed", action="store_true", help="failed ones go like all others")
        cleanup.add_argument("--dry-run", action="store_true", help="only say what would go")

    def _verb(self, name: str, handler: Any, help: str, *, examples: tuple[str, ...] = ()) -> Any:
        parser = self.verb(name, handler, help, examples=examples, user=True)
        parser.add_argument("--storage", metavar="DIR", help="a directory of recording files instead of the database")
        return parser

    # ------------------------------------------------------------------ finding

    def _storage(self, options: dict[str, Any]) -> RecordingStorage:
        if options["storage"]:
            directory = Path(options["storage"])
            if not directory.is_dir():
                self.fail(f"there is no directory {directory}", USAGE)
            return FileRecordingStorage(directory, auto_create_dir=False)
        return DatabaseRecordingStorage(self.user(options))

    def _open(self, options: dict[str, Any], identifier: str) -> ExecutionReplayer:
        if options["storage"]:
            storage = self._storage(options)
            found = storage.list_sync(RecordingQuery(recording_id=identifier))
            if len(found) > 1:
                raise RecordingError(f'"{identifier}" fits several recordings; give more characters of the id')
            return storage.load_sync(found[0]["recording_id"] if found else identifier)
        user = self.user(options)
        try:
            return replayer_of(find_recording(identifier, user))
        except RecordingNotFound:
            running = _uuid(identifier)
            policy = database.ARTIFACT_POLICY
            if running is None or policy is None or not policy(user, running):
                raise
            return open_replayer(running)

    # ------------------------------------------------------------------ list and inspect

    def list_all(self, options: dict[str, Any]) -> None:
        """List recordings."""
        if options["sort_by"] not in SORT_KEYS and options["sort_by"] not in SORT_ALIASES.values():
            self.fail(f'--sort-by: "{options["sort_by"]}" is not one of {", ".join(SORT_KEYS)}', USAGE)
        try:
            query = RecordingQuery(
                workflow_name=options["workflow"],
                start_date=_moment(options["start"], last=False),
                end_date=_moment(options["end"], last=True),
                success={"true": True, "false": False, None: None}[options["success"]],
                min_duration=options["min_duration"],
                max_duration=options["max_duration"],
                tags=[tag for tag in (options["tags"] or "").split(",") if tag] or None,
                limit=options["limit"],
                offset=options["offset"],
                sort_by=options["sort_by"],
                sort_order=options["sort_order"],
            )
        except ValueError as error:
            self.fail(str(error), USAGE)
        found = self._storage(options).list_sync(query)
        self.emit(found, lambda console: _print_list(console, found))

    def inspect(self, options: dict[str, Any]) -> None:
        """Show metadata."""
        metadata = self._open(options, options["recording"]).metadata.to_dict()
        self.emit(metadata, lambda console: _print_metadata(console, metadata))

    # ------------------------------------------------------------------ replay

    def replay(self, options: dict[str, Any]) -> None:
        """Print events, or step through them."""
        replayer = self._open(options, options["recording"])
        start = 0
        if options["from_event"]:
            found = _position(replayer, options["from_event"])
            if found is None:
                self.fail(f'there is no event "{options["from_event"]}"; there are {len(replayer.events)}')
            start = found
        view = _View(self.console, replayer, data=options["show_data"], state=options["show_state"])
        if options["step"] and not options["json"]:
            self._step(view, start)
            return
        node = options["node"]
        wanted = [p for p in range(start, len(replayer.events)) if node is None or replayer.events[p].node_id == node]
        if options["json"]:
            self._print_json(replayer, wanted, with_state=options["show_state"])
            return
        for position in wanted:
            view.show(position)

    def _print_json(self, replayer: ExecutionReplayer, positions: list[int], *, with_state: bool) -> None:
        """Print one JSON object, an event at a time, so that a long recording needs no memory."""
        write = self.console.file.write
        write('{"metadata": ' + encode_json(replayer.metadata.to_dict()).decode() + ', "events": [')
        for number, position in enumerate(positions):
            event = replayer.events[position]
            shown = {"position": position + 1, "seq": event.seq, **event.to_dict()}
            if with_state:
                shown["state"] = replayer.get_state_at_position(position)
            write((",\n" if number else "\n") + encode_json(shown).decode())
        write("\n]}\n")

    def _step(self, view: _View, start: int) -> None:
        """Show one event after the other as the person asks; the end of the input ends it."""
        position, count = start, len(view.replayer.events)
        if not count:
            self.note("The recording has no events.")
            return
        terminal = sys.stdin.isatty()
        if terminal:
            self.note(STEP_HELP)
        view.show(position)
        for answer in _answers(terminal):
            command, _, argument = answer.strip().partition(" ")
            if command in ("", "n"):
                if position + 1 >= count:
                    self.note("This is the last event.")
                    continue
                position += 1
            elif command == "p":
                if position == 0:
                    self.note("This is the first event.")
                    continue
                position -= 1
            elif command == "j":
                found = _position(view.replayer, argument.strip())
                if found is None:
                    self.note(f'There is no event "{argument.strip()}"; there are 1 to {count}.')
                    continue
                position = found
            elif command == "s":
                view.show_state(position, keys=None)
                continue
            elif command == "q":
                return
            else:
                self.note(STEP_HELP)
                continue
            view.show(position)

    # ------------------------------------------------------------------ compare, export, verify

    def compare(self, options: dict[str, Any]) -> int:
        """Compare two recordings."""
        first, second = (self._open(options, options[name]) for name in ("first", "second"))
        difference = first.compare(second)
        shown = {
            **difference,
            "node_diff": {name: sorted(nodes) for name, nodes in difference["node_diff"].items()},
        }
        self.emit(shown, lambda console: _print_comparison(console, first, second, shown))
        return OK if difference["identical"] else FAILED

    def export(self, options: dict[str, Any]) -> None:
        """Write a recording to a file."""
        replayer, kind, target = self._open(options, options["recording"]), options["format"], options["output"]
        if kind == "fbrec":
            if target == "-":
                self.fail("a sealed file is not text; give --output a file name", USAGE)
            atomic_write(
                Path(target), lambda file: write_sealed(file, replayer.metadata, replayer.events, replayer.snapshots)
            )
        else:
            text = {"dot": to_dot, "json": to_json, "summary": to_summary}[kind](replayer)
            if target == "-":
                self.console.file.write(text)
                return
            atomic_write(Path(target), lambda file: file.write(text.encode("utf-8", "backslashreplace")))
        size = Path(target).stat().st_size

        def say(console: Console) -> None:
            console.print(f"Exported to {target} ({human_bytes(size)})")
            if kind == "dot":
                for output in ("png", "svg"):
                    console.print(f"  dot -T{output} {target} -o {Path(target).with_suffix('.' + output)}")

        self.emit({"output": target, "format": kind, "size_bytes": size}, say)

    def verify(self, options: dict[str, Any]) -> int:
        """Compare checksums."""
        shown: dict[str, Any] = {"recording": options["recording"], "ok": True, "error": None}
        try:
            replayer = self._open(options, options["recording"])
            replayer.verify()
            shown |= {"events": len(replayer.events), "checksum": replayer.metadata.checksum}
        except InvalidRecording as error:
            shown |= {"ok": False, "error": str(error)}

        def say(console: Console) -> None:
            console.print(f"OK: {shown['events']} events" if shown["ok"] else f"DAMAGED: {shown['error']}")

        self.emit(shown, say)
        return OK if shown["ok"] else FAILED

    # ------------------------------------------------------------------ stats and cleanup

    def stats(self, options: dict[str, Any]) -> None:
        """Show totals."""
        totals = self._storage(options).get_storage_stats_sync()
        self.emit(totals, lambda console: _print_stats(console, totals))

    def cleanup(self, options: dict[str, Any]) -> None:
        """Remove recordings."""
        if options["max_age_days"] is None and options["max_count"] is None:
            self.fail("say what may go: --max-age-days N, --max-count N, or both", USAGE)
        if (options["max_age_days"] or 0) < 0 or (options["max_count"] or 0) < 0:
            self.fail("--max-age-days and --max-count must not be negative", USAGE)
        policy = RetentionPolicy(
            max_age_days=options["max_age_days"],
            max_count=options["max_count"],
            keep_failed=not options["delete_failed"],
        )
        result = self._storage(options).apply_retention_policy_sync(policy, dry_run=options["dry_run"])
        self.emit(
            {**result, "dry_run": options["dry_run"]},
            lambda console: _print_cleanup(console, result, dry_run=options["dry_run"]),
        )


class _View:
    """Prints events of one recording."""

    def __init__(self, console: Console, replayer: ExecutionReplayer, *, data: bool, state: bool) -> None:
        self.replayer = replayer
        self._console = console
        self._data = data
        self._state = state

    def show(self, position: int) -> None:
        """Print one event, and its data and state if wanted."""
        event: RecordingEvent = self.replayer.events[position]
        place = f"[{position + 1}/{len(self.replayer.events)}]"
        node = f" @ {_clean(event.node_id)}" if event.node_id else ""
        since = event.timestamp - self.replayer.metadata.started_at
        style = "red" if event.event_type.value.endswith("_error") else ""
        line = Text.assemble((place, "dim"), " ", (event.event_type.value, style), node, (f" (t={since:.3f}s)", "dim"))
        self._console.print(line)
        if self._data:
            for key, value in event.data.items():
                self._console.print(f"    {_clean(key)}: {_short(value)}")
        if self._state:
            self.show_state(position, keys=STATE_KEYS)

    def show_state(self, position: int, *, keys: int | None) -> None:
        """Print the state after an event; at most so many keys."""
        state = self.replayer.get_state_at_position(position)
        self._console.print(f"    state: {len(state)} key{'' if len(state) == 1 else 's'}")
        for number, (key, value) in enumerate(state.items()):
            if keys is not None and number >= keys:
                self._console.print(f"      … and {len(state) - keys} more")
                break
            self._console.print(f"      {_clean(key)} = {_short(value)}")


def _answers(terminal: bool) -> Iterator[str]:
    while True:
        if terminal:
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        yield line


def _position(replayer: ExecutionReplayer, wanted: str) -> int | None:
    """Return the position of an event named by its number from 1, or by its id."""
    if wanted.isdecimal() and len(wanted) < 32:
        return int(wanted) - 1 if 1 <= int(wanted) <= len(replayer.events) else None
    return replayer.position_of(wanted) if wanted else None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _moment(text: str | None, *, last: bool) -> datetime | None:
    """Return the time of an ISO text; a date alone is its first or last moment.

    Raises:
        ValueError: it is neither.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f'"{text}" is not a date; write 2025-01-31 or 2025-01-31T12:30:00+01:00') from error
    if len(text) <= len("2025-01-31") and last:
        moment = datetime.combine(moment.date(), time.max)
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def _clean(text: Any) -> str:
    """Return text without control characters, which a recorded page could use to write on the terminal."""
    return "".join(c if c.isprintable() or c == " " else "�" for c in str(text).replace("\n", "⏎"))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else encode_json(value).decode()
    shown = _clean(text[: DATA_WIDTH + 1])
    return shown if len(shown) <= DATA_WIDTH else f"{shown[:DATA_WIDTH]}…"


def _status(metadata: dict[str, Any]) -> str:
    return {True: "SUCCESS", False: "FAILED", None: "UNFINISHED"}[metadata.get("success")]


def _print_list(console: Console, found: list[dict[str, Any]]) -> None:
    if not found:
        console.print("No recordings found.")
        return
    console.print(f"Found {len(found)} recording(s):\n")
    console.print(f"{'ID':<10}{'Workflow':<22}{'Status':<12}{'Duration':<12}{'Size':<12}Date", style="bold")
    console.print(RULE)
    for item in found:
        status, name = _status(item), _clean(item["workflow_name"])
        line = Text(f"{item['recording_id'][:8]:<10}{name if len(name) <= 20 else name[:19] + '…':<22}")
        line.append(f"{status:<12}", STATUS_STYLES[status])
        line.append(f"{human_duration(item['duration_seconds']):<12}{human_bytes(item['file_size_bytes']):<12}")
        line.append(human_time(item["started_at"])[:16])
        console.print(line)


def _print_metadata(console: Console, item: dict[str, Any]) -> None:
    console.print(f"Recording: {item['recording_id']}", style="bold")
    console.print(f"Workflow: {_clean(item['workflow_name'])}")
    if item.get("execution_id"):
        console.print(f"Execution: {item['execution_id']}")
    console.print("-" * 50)
    blocks = {
        "Status": {"Success": item["success"], "Error": _clean(item["error"]) if item["error"] else None},
        "Timing": {
            "Started": human_time(item["started_at"]),
            "Completed": human_time(item["completed_at"]),
            "Duration": human_duration(item["duration_seconds"]),
        },
        "Execution": {
            "Nodes executed": item["node_count"],
            "Teams spawned": item["team_count"],
            "Max recursion depth": item["recursion_max_depth"],
            "Total events": item["event_count"],
        },
        "Storage": {
            "File size": human_bytes(item["file_size_bytes"]),
            "Checksum": item["checksum"] or "N/A (not sealed yet)",
        },
    }
    for title, rows in blocks.items():
        console.print(f"\n{title}:", style="bold")
        for name, value in rows.items():
            console.print(f"  {name}: {value}")
    if item["tags"]:
        console.print(f"\nTags: {', '.join(_clean(tag) for tag in item['tags'])}")


def _print_comparison(
    console: Console, first: ExecutionReplayer, second: ExecutionReplayer, shown: dict[str, Any]
) -> None:
    a, b = first.metadata, second.metadata
    console.print("Comparing recordings:")
    for number, item in ((1, a), (2, b)):
        console.print(f"  {number}: {_clean(item.workflow_name)} ({item.recording_id[:8]})")
    console.print("\nMetadata differences:")
    console.print(f"  Duration: {human_duration(a.duration_seconds)} vs {human_duration(b.duration_seconds)}")
    console.print(f"  Nodes: {a.node_count} vs {b.node_count}")
    console.print(f"  Teams: {a.team_count} vs {b.team_count}")
    console.print(f"  Events: {len(first.events)} vs {len(second.events)}")
    nodes = shown["node_diff"]
    console.print("\nNode differences:")
    console.print(f"  Only in 1: {', '.join(map(_clean, nodes['only_in_self'])) or 'none'}")
    console.print(f"  Only in 2: {', '.join(map(_clean, nodes['only_in_other'])) or 'none'}")
    console.print(f"  Common: {len(nodes['common'])} nodes")
    difference = shown["path_diff"]["first_difference"]
    if difference is None:
        console.print("\nExecution paths are identical")
    else:
        console.print("\nFirst path difference:")
        console.print(f"  Position: {difference['position'] + 1}")
        console.print(f"  Recording 1: {_clean(difference['self_node'] or '(ended)')}")
        console.print(f"  Recording 2: {_clean(difference['other_node'] or '(ended)')}")
    if shown["output_diff"]:
        console.print("\nOutput differences:")
        for node, changes in shown["output_diff"].items():
            console.print(f"  {_clean(node)}:")
            for change in changes[:LISTED]:
                console.print(
                    f"    {_clean(change['path'] or '/')}: {_short(change['old'])} -> {_short(change['new'])}"
                )
            if len(changes) > LISTED:
                console.print(f"    … and {len(changes) - LISTED} more")


def _print_stats(console: Console, totals: dict[str, Any]) -> None:
    console.print("Recordings:", style="bold")
    console.print(f"  Total: {totals['total_recordings']}")
    console.print(f"  Successful: {totals['success_count']}")
    console.print(f"  Failed: {totals['failed_count']}")
    console.print(f"  Unfinished: {totals['unfinished_count']}")
    console.print("\nStorage:", style="bold")
    console.print(f"  Total size: {human_bytes(totals['total_size_bytes'])}")
    console.print(f"  Total duration: {human_duration(totals['total_duration_seconds'])}")
    console.print("\nTime range:", style="bold")
    console.print(f"  Oldest: {human_time(totals['oldest_recording'])}")
    console.print(f"  Newest: {human_time(totals['newest_recording'])}")
    if totals["workflow_counts"]:
        console.print("\nWorkflows:", style="bold")
        for name, count in totals["workflow_counts"].items():
            console.print(f"  {_clean(name)}: {count}")


def _print_cleanup(console: Console, result: dict[str, Any], *, dry_run: bool) -> None:
    console.print(f"Total recordings: {result['total_recordings']}")
    verb = "To delete" if dry_run else "Deleted"
    console.print(f"{verb}: {result['to_delete']} ({human_bytes(result['total_size_bytes'])})")
    candidates = result["candidate_ids"]
    for identifier in candidates[:LISTED]:
        console.print(f"  {identifier}")
    if len(candidates) > LISTED:
        console.print(f"  … and {len(candidates) - LISTED} more")
    if dry_run:
        console.print("Dry run: nothing was deleted.")
