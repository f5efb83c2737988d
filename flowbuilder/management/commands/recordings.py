"""``./flow recordings``: look at what runs did, keep it, share it, let it go."""

from __future__ import annotations

import sys
import time as clock
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, time
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser
from django.utils import timezone
from rich.console import Console

from executions import states
from executions.models import Execution
from flowbuilder.management.base import FAILED, OK, USAGE, ProductCommand
from flowbuilder.management.recording_texts import (
    STATE_KEYS,
    print_cleanup,
    print_comparison,
    print_event,
    print_list,
    print_metadata,
    print_state,
    print_stats,
)
from recordings.columns import metadata_of
from recordings.database import DatabaseRecordingStorage
from recordings.drawings import to_trace
from recordings.errors import InvalidRecording, RecordingError, RecordingNotFound
from recordings.events import RecordingEvent, encode_json
from recordings.export import atomic_write, clean, human_bytes, to_json, to_summary
from recordings.finding import find_recording, open_replayer, replayer_of
from recordings.har import to_har
from recordings.keeping import keep
from recordings.recorder import write_recording
from recordings.replayer import ExecutionReplayer
from recordings.retention import RetentionPolicy
from recordings.rows import iter_events
from recordings.sealed import DamagedRange, SealedRecording, write_sealed
from recordings.storage import (
    SHORTEST_PREFIX,
    SORT_ALIASES,
    FileRecordingStorage,
    RecordingQuery,
    RecordingStorage,
    copy_metadata,
)

SORT_KEYS = ("started_at", "completed_at", "duration", "size", "events", "nodes", "workflow", "success", "recording_id")
FORMATS = ("dot", "json", "summary", "fbrec", "html", "svg", "mermaid", "har", "trace")
STEP_HELP = "Enter or n: next   p: previous   j N or j EVENT_ID: jump   s: state   q: quit"
POLL_SECONDS = 0.25


class Command(ProductCommand):
    """Look at what runs did: list, inspect, step through, compare, export, keep."""

    help = "Look at what runs did: list, inspect, step through, compare, export, keep."
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
        listing.add_argument("--any-tags", metavar="A,B", help="only those that have at least one of these tags")
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

        export = self._verb(
            "export",
            self.export,
            "Write a recording as text, JSON, sealed file, drawing, report, HTTP archive or trace.",
        )
        export.add_argument("recording", metavar="ID")
        export.add_argument("--format", choices=FORMATS, default="summary", help="(default: summary)")
        export.add_argument("--output", required=True, metavar="FILE", help='where to write; "-" is stdout')

        verify = self._verb("verify", self.verify, "Read a whole recording and compare its checksums.")
        verify.add_argument("recording", metavar="ID")

        recover = self._verb(
            "recover",
            self.recover,
            "Write the events that a sealed file still has, cut off or damaged as it is, to a new file.",
            examples=("./flow recordings recover run.fbrec --output whole.fbrec",),
        )
        recover.add_argument("file", metavar="FILE")
        recover.add_argument("--output", required=True, metavar="FILE", help="a new .fbrec, .json or .json.gz file")

        bring = self._verb("import", self.bring, "Bring recording files (.json, .json.gz, .fbrec) in.")
        bring.add_argument("files", nargs="+", metavar="FILE")
        bring.add_argument("--tags", metavar="A,B", help="give them these tags, too")

        tag = self._verb(
            "tag",
            self.tag,
            "Add and remove tags. A recording with the tag legal-hold is never removed.",
            examples=(
                "./flow recordings tag 3f2a9c41 --add legal-hold",
                "./flow recordings tag 3f2a9c41 --remove draft",
            ),
        )
        tag.add_argument("recording", metavar="ID")
        tag.add_argument("--add", metavar="A,B", help="tags to add")
        tag.add_argument("--remove", metavar="A,B", help="tags to remove")

        keep = self._verb("keep", self.keep, "Keep an execution that its strategy would let go.")
        keep.add_argument("recording", metavar="ID")

        tail = self._verb("tail", self.tail, "Print the events of an execution as they happen, until it ends.")
        tail.add_argument("recording", metavar="ID")
        tail.add_argument("--after", type=int, default=0, metavar="SEQ", help="begin after this event (default: 0)")
        tail.add_argument("--show-data", action="store_true", help="print the data of each event")

        self._verb("stats", self.stats, "Show totals.")

        cleanup = self._verb(
            "cleanup",
            self.cleanup,
            "Remove recordings by age, number and size.",
            examples=("./flow recordings cleanup --max-age-days 30 --keep-tags production --dry-run",),
        )
        cleanup.add_argument("--max-age-days", type=float, metavar="N", help="remove those that are older")
        cleanup.add_argument("--max-count", type=int, metavar="N", help="keep only so many, the newest")
        cleanup.add_argument("--max-size-gb", type=float, metavar="GB", help="keep no more than this, the newest")
        cleanup.add_argument("--keep-tags", metavar="A,B", help="never remove those that have one of these tags")
        cleanup.add_argument("--delete-failed", action="store_true", help="failed ones go like all others")
        cleanup.add_argument(
            "--max-age-days-failed", type=float, metavar="N", help="remove failed ones that are older than this"
        )
        cleanup.add_argument("--dry-run", action="store_true", help="only say what would go")

    def add_arguments(self, parser: CommandParser) -> None:
        """Take ``--storage`` before the verb, too."""
        super().add_arguments(parser)
        parser.add_argument(
            "--storage", dest="storage_before", metavar="DIR", help="a directory of recording files, not the database"
        )

    def _verb(self, name: str, handler: Any, help: str, *, examples: tuple[str, ...] = ()) -> Any:
        parser = self.verb(name, handler, help, examples=examples, user=True)
        parser.add_argument("--storage", metavar="DIR", help="a directory of recording files instead of the database")
        return parser

    # ------------------------------------------------------------------ finding

    def _directory(self, options: dict[str, Any]) -> Path | None:
        named = options["storage"] or options.get("storage_before")
        if not named:
            return None
        if not Path(named).is_dir():
            self.fail(f"there is no directory {named}", USAGE)
        return Path(named)

    def _storage(self, options: dict[str, Any]) -> RecordingStorage:
        directory = self._directory(options)
        if directory is not None:
            return FileRecordingStorage(directory, auto_create_dir=False)
        return DatabaseRecordingStorage(self.user(options))

    def _open(self, options: dict[str, Any], identifier: str) -> ExecutionReplayer:
        if self._directory(options) is not None:
            return self._storage(options).load_sync(self._named(options, identifier))
        user = self.user(options)
        try:
            return replayer_of(find_recording(identifier, user))
        except RecordingNotFound:
            running = _execution(identifier, user)
            if running is None:
                raise
            return open_replayer(running.pk)

    def _named(self, options: dict[str, Any], identifier: str) -> str:
        """Return the whole id of the recording that the storage has under ``identifier``."""
        if self._directory(options) is None:
            return str(find_recording(identifier, self.user(options)).pk)
        found = self._storage(options).list_sync(RecordingQuery(recording_id=identifier))
        if len(found) > 1:
            raise RecordingError(f'"{identifier}" fits several recordings; give more characters of the id')
        return str(found[0]["recording_id"]) if found else identifier

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
                tags=_tags(options["tags"]) or None,
                any_tags=_tags(options["any_tags"]) or None,
                limit=options["limit"],
                offset=options["offset"],
                sort_by=options["sort_by"],
                sort_order=options["sort_order"],
            )
        except ValueError as error:
            self.fail(str(error), USAGE)
        found = self._storage(options).list_sync(query)
        self.emit(found, lambda console: print_list(console, found))

    def inspect(self, options: dict[str, Any]) -> None:
        """Show metadata."""
        metadata = self._open(options, options["recording"]).metadata.to_dict()
        self.emit(metadata, lambda console: print_metadata(console, metadata))

    # ------------------------------------------------------------------ replay and tail

    def replay(self, options: dict[str, Any]) -> None:
        """Print events, or step through them."""
        replayer = self._open(options, options["recording"])
        start = 0
        if options["from_event"]:
            found = _position(replayer, options["from_event"])
            if found is None:
                self.fail(f'there is no event "{options["from_event"]}"; there are {len(replayer.events)}')
            start = found
        wanted = _positions(replayer, options["node"])
        if options["node"] is not None and not wanted:
            self.fail(f'no event is of a node "{options["node"]}"; {_nodes_of(replayer)}')
        view = _View(self.console, replayer, options)
        if options["step"]:
            self._step(view, wanted, bisect_left(wanted, start))
            return
        wanted = wanted[bisect_left(wanted, start) :]
        if options["json"]:
            self._print_json(view, wanted)
            return
        if not wanted:
            self.note("There are no events to show.")
        for position in wanted:
            view.show(position)

    def _print_json(self, view: _View, positions: Sequence[int]) -> None:
        """Print one JSON object, an event at a time, so that a long recording needs no memory."""
        write = self.console.file.write
        write('{"metadata": ' + encode_json(view.replayer.metadata.to_dict()).decode() + ', "events": [')
        for number, position in enumerate(positions):
            write((",\n" if number else "\n") + view.as_json(position))
        write("\n]}\n")

    def _step(self, view: _View, wanted: Sequence[int], cursor: int) -> None:
        """Show one event after the other as the person asks; the end of the input ends it.

        With ``--json`` every answer is one JSON object in a line.
        """
        if cursor >= len(wanted):
            self.note("There are no events to show.")
            return
        terminal = sys.stdin.isatty()
        if terminal:
            self.note(STEP_HELP)
        view.show(wanted[cursor])
        for answer in _answers(terminal):
            command, _, argument = answer.strip().partition(" ")
            if command == "q":
                return
            if command == "s":
                view.show_state(wanted[cursor])
                continue
            moved = self._moved(view.replayer, wanted, cursor, command, argument.strip())
            if moved is not None:
                cursor = moved
                view.show(wanted[cursor])

    def _moved(
        self, replayer: ExecutionReplayer, wanted: Sequence[int], cursor: int, command: str, argument: str
    ) -> int | None:
        """Return where a command leads; None, after a word to the person, when it leads nowhere."""
        if command in ("", "n"):
            if cursor + 1 < len(wanted):
                return cursor + 1
            self.note("This is the last event.")
        elif command == "p":
            if cursor:
                return cursor - 1
            self.note("This is the first event.")
        elif command == "j":
            found = _position(replayer, argument)
            if found is None:
                self.note(f'There is no event "{argument}"; there are 1 to {len(replayer.events)}.')
                return None
            place = bisect_left(wanted, found)
            if place < len(wanted) and wanted[place] == found:
                return place
            self.note(f"Event {found + 1} is not of this node.")
        else:
            self.note(STEP_HELP)
        return None

    def tail(self, options: dict[str, Any]) -> None:
        """Print events of an execution until it ends."""
        if self._directory(options) is not None:
            self.fail("tail follows executions of this installation; it takes no --storage", USAGE)
        if options["after"] < 0:
            self.fail("--after must not be negative", USAGE)
        user = self.user(options)
        execution = _execution(options["recording"], user)
        if execution is None:
            recording = find_recording(options["recording"], user)
            if recording.execution_id is None:
                self.fail(f"recording {str(recording.pk)[:8]} was not made by an execution; use replay")
            key = recording.execution_id
        else:
            key = execution.pk
        after, start = options["after"], None
        while True:
            rows = Execution.objects.filter(pk=key).values_list("status", flat=True)
            ended = (rows.first() or states.FAILED) in states.TERMINAL
            for event in iter_events(key, after):
                start = next(iter_events(key, 0, 1), event).timestamp if start is None else start
                after = event.seq
                self._tell(event, event.timestamp - start, options)
            self.console.file.flush()
            if ended:
                return
            clock.sleep(POLL_SECONDS)

    def _tell(self, event: RecordingEvent, since: float, options: dict[str, Any]) -> None:
        if options["json"]:
            self.console.file.write(encode_json({"seq": event.seq, **event.to_dict()}).decode() + "\n")
        else:
            print_event(self.console, event, f"[{event.seq}]", since, data=options["show_data"])

    # ------------------------------------------------------------------ compare, export, verify

    def compare(self, options: dict[str, Any]) -> int:
        """Compare two recordings."""
        first, second = (self._open(options, options[name]) for name in ("first", "second"))
        difference = first.compare(second)
        shown = {
            **difference,
            "node_diff": {name: sorted(nodes) for name, nodes in difference["node_diff"].items()},
        }
        self.emit(shown, lambda console: print_comparison(console, first, second, shown))
        return OK if difference["identical"] else FAILED

    def export(self, options: dict[str, Any]) -> None:
        """Write a recording to a file, or its text to stdout."""
        replayer, kind, target = self._open(options, options["recording"]), options["format"], options["output"]
        if target == "-":
            if kind == "fbrec":
                self.fail("a sealed file is not text; give --output a file name", USAGE)
            self.console.file.write(_as_text(replayer, kind))
            return
        try:
            _write_to(Path(target), replayer, kind)
        except OSError as error:
            self.fail(f"cannot write {target}: {error.strerror or error}")
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
            shown |= {"ok": False, "error": str(error), **_ranges(getattr(error, "damaged", ()))}
            shown["intact"] = [{"first_seq": a, "last_seq": b} for a, b in getattr(error, "intact", ())]

        def say(console: Console) -> None:
            console.print(f"OK: {shown['events']} events" if shown["ok"] else f"DAMAGED: {shown['error']}")

        self.emit(shown, say)
        return OK if shown["ok"] else FAILED

    def recover(self, options: dict[str, Any]) -> None:
        """Write what is left of a file to another one."""
        target = Path(options["output"])
        if target.exists():
            self.fail(f"{target} exists already; give --output the name of a new file", USAGE)
        with SealedRecording.recover(options["file"]) as left:
            metadata = copy_metadata(left.metadata)
            write_recording(target, metadata, left, left.snapshots, left.workflow_id)
            shown = {"output": str(target), "events": len(left), **_ranges(left.damaged)}

        def say(console: Console) -> None:
            console.print(f"Recovered {shown['events']} events to {target}")
            for item in left.damaged:
                console.print(f"  {item}")

        self.emit(shown, say)

    # ------------------------------------------------------------------ import, tag, stats and cleanup

    def bring(self, options: dict[str, Any]) -> int:
        """Bring files in; those that are no recordings do not hold up the others."""
        storage, tags = self._storage(options), _tags(options["tags"])
        done: list[dict[str, Any]] = []
        for name in options["files"]:
            try:
                identifier = storage.import_file_sync(name)
            except (RecordingError, OSError) as error:
                done.append({"file": name, "recording_id": None, "error": str(error)})
                continue
            if tags:
                storage.tag_sync(identifier, add=tags)
            done.append({"file": name, "recording_id": identifier, "error": None})

        def say(console: Console) -> None:
            for item in done:
                if item["error"] is None:
                    console.print(f"Imported {item['file']} as {item['recording_id']}")

        self.emit(done, say)
        failed = [item for item in done if item["error"] is not None]
        for item in failed:
            named = item["error"].startswith(f"{item['file']}:")
            self.note(f"error: {item['error']}" if named else f"error: {item['file']}: {item['error']}")
        return FAILED if failed else OK

    def tag(self, options: dict[str, Any]) -> None:
        """Change tags."""
        add, remove = _tags(options["add"]), _tags(options["remove"])
        if not add and not remove:
            self.fail("say what to change: --add A,B, --remove A,B, or both", USAGE)
        identifier = self._named(options, options["recording"])
        tags = self._storage(options).tag_sync(identifier, add=add, remove=remove)
        self.emit(
            {"recording_id": identifier, "tags": tags},
            lambda console: console.print(f"Tags of {identifier}: {', '.join(map(clean, tags)) or 'none'}"),
        )

    def keep(self, options: dict[str, Any]) -> None:
        """Keep what would be forgotten."""
        if self._directory(options) is not None:
            self.fail("keep works on executions of this installation; it takes no --storage", USAGE)
        user = self.user(options)
        execution = _execution(options["recording"], user)
        if execution is None:
            recording = find_recording(options["recording"], user)
            said = f"Recording {recording.pk} is kept already"
        else:
            recording = keep(execution.pk)
            said = f"Kept execution {execution.pk} as recording {recording.pk}"
        self.emit(metadata_of(recording).to_dict(), lambda console: console.print(said))

    def stats(self, options: dict[str, Any]) -> None:
        """Show totals."""
        totals = self._storage(options).get_storage_stats_sync()
        ended = totals["success_count"] + totals["failed_count"]
        totals["success_rate"] = totals["success_count"] / ended if ended else None
        place = str(self._directory(options) or "database")
        self.emit(totals, lambda console: print_stats(console, totals, place))

    def cleanup(self, options: dict[str, Any]) -> None:
        """Remove recordings."""
        limits = {name: options[name] for name in ("max_age_days", "max_count", "max_size_gb", "max_age_days_failed")}
        if all(limit is None for limit in limits.values()):
            self.fail("say what may go: --max-age-days N, --max-count N, --max-size-gb GB or several", USAGE)
        if any(limit is not None and not limit >= 0 for limit in limits.values()):
            self.fail("ages, counts and sizes must not be negative", USAGE)
        policy = RetentionPolicy(
            **limits, keep_failed=not options["delete_failed"], tags_to_keep=_tags(options["keep_tags"])
        )
        result = self._storage(options).apply_retention_policy_sync(policy, dry_run=options["dry_run"])
        self.emit(
            {**result, "dry_run": options["dry_run"]},
            lambda console: print_cleanup(console, result, dry_run=options["dry_run"]),
        )


class _View:
    """Prints events of one recording."""

    def __init__(self, console: Console, replayer: ExecutionReplayer, options: dict[str, Any]) -> None:
        self.replayer = replayer
        self._console = console
        self._json: bool = options["json"]
        self._data: bool = options["show_data"]
        self._state: bool = options["show_state"]

    def show(self, position: int) -> None:
        """Print one event, and its data and state if wanted."""
        if self._json:
            self._console.file.write(self.as_json(position) + "\n")
            return
        event: RecordingEvent = self.replayer.events[position]
        place = f"[{position + 1}/{len(self.replayer.events)}]"
        since = event.timestamp - self.replayer.metadata.started_at
        print_event(self._console, event, place, since, data=self._data)
        if self._state:
            print_state(self._console, self.replayer.get_state_at_position(position), STATE_KEYS)

    def show_state(self, position: int) -> None:
        """Print the whole state after an event."""
        state = self.replayer.get_state_at_position(position)
        if self._json:
            self._console.file.write(encode_json({"position": position + 1, "state": state}).decode() + "\n")
        else:
            print_state(self._console, state, keys=None)

    def as_json(self, position: int) -> str:
        """Return one event in a line."""
        event: RecordingEvent = self.replayer.events[position]
        shown = {"position": position + 1, "seq": event.seq, **event.to_dict()}
        if self._state:
            shown["state"] = self.replayer.get_state_at_position(position)
        return encode_json(shown).decode()


def _answers(terminal: bool) -> Iterator[str]:
    while True:
        if terminal:
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        yield line


def _ranges(damaged: Sequence[DamagedRange]) -> dict[str, Any]:
    return {"damaged": [asdict(item) for item in damaged]}


def _position(replayer: ExecutionReplayer, wanted: str) -> int | None:
    """Return the position of an event named by its number from 1, or by its id."""
    if wanted.isdecimal() and len(wanted) < 32:
        return int(wanted) - 1 if 1 <= int(wanted) <= len(replayer.events) else None
    return replayer.position_of(wanted) if wanted else None


def _positions(replayer: ExecutionReplayer, node: str | None) -> Sequence[int]:
    """Return the positions of the events of a node, or of all."""
    events = replayer.events
    if node is None:
        return range(len(events))
    known = getattr(events, "positions_of_node", None)  # a sealed recording has an index
    if known is not None:
        return list(known(node))
    return [position for position, event in enumerate(events) if event.node_id == node]


def _nodes_of(replayer: ExecutionReplayer) -> str:
    """Return the beginning of a sentence that names the nodes of a recording, at most 20."""
    nodes = list(dict.fromkeys(replayer.path()))
    more = f", and {len(nodes) - 20} more" if len(nodes) > 20 else ""
    return f"its nodes are {', '.join(map(clean, nodes[:20]))}{more}" if nodes else "no node has started"


def _as_text(replayer: ExecutionReplayer, kind: str) -> str:
    written = {"json": to_json, "summary": to_summary, "har": to_har, "trace": to_trace}
    return written[kind](replayer) if kind in written else replayer.visualize(format=kind)


def _write_to(path: Path, replayer: ExecutionReplayer, kind: str) -> None:
    if kind == "fbrec":
        atomic_write(path, lambda file: write_sealed(file, replayer.metadata, replayer.events, replayer.snapshots))
    else:
        text = _as_text(replayer, kind)
        atomic_write(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def _execution(identifier: str, user: Any) -> Execution | None:
    """Return the execution of ``user`` with this id, or the only one whose id begins so; None without one."""
    text = identifier.replace("-", "").lower()
    if not SHORTEST_PREFIX <= len(text) <= 32 or set(text) - set("0123456789abcdef"):
        return None
    span = (UUID(text.ljust(32, "0")), UUID(text.ljust(32, "f")))
    found = list(Execution.objects.visible_to(user).filter(pk__range=span)[:2])
    if len(found) > 1:
        raise RecordingError(f'"{identifier}" fits several executions; give more characters of the id')
    return found[0] if found else None


def _tags(text: str | None) -> list[str]:
    return [tag.strip() for tag in (text or "").split(",") if tag.strip()]


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
