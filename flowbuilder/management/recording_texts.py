"""How ``./flow recordings`` shows recordings to a person."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from recordings.compare import of_the_run
from recordings.events import RecordingEvent, encode_json, omissions
from recordings.export import clean, human_bytes, human_duration, human_time
from recordings.replayer import ExecutionReplayer
from recordings.retention import HOLD_TAG

RULE = "-" * 100
SHORT_RULE = "-" * 50
DATA_WIDTH = 100
STATE_KEYS = 10
LISTED = 10
STATUS_STYLES = {"SUCCESS": "green", "FAILED": "red", "CANCELLED": "", "INTERRUPTED": "yellow", "UNFINISHED": "yellow"}
KEPT_RULES = {
    "tag": "protected by a tag",
    HOLD_TAG: "on legal hold",
    "failed": "failed",
    "fresh": "within the limits",
}


def short(value: Any) -> str:
    """Return a value in one line of at most 100 characters."""
    text = value if isinstance(value, str) else encode_json(value).decode()
    shown = clean(text[: DATA_WIDTH + 1])
    return shown if len(shown) <= DATA_WIDTH else f"{shown[:DATA_WIDTH]}…"


def print_event(console: Console, event: RecordingEvent, place: str, since: float, *, data: bool) -> None:
    """Print one event, ``since`` seconds after the start, and with ``data`` what it carries."""
    node = f" @ {clean(event.node_id)}" if event.node_id else ""
    style = "red" if event.event_type.value.endswith("_error") else ""
    console.print(
        Text.assemble((place, "dim"), " ", (event.event_type.value, style), node, (f" (t={since:.3f}s)", "dim"))
    )
    for key, value in (event.data | omissions(event)).items() if data else ():
        console.print(f"    {clean(key)}: {short(value)}")


def print_state(console: Console, state: dict[str, Any], keys: int | None) -> None:
    """Print a state; at most so many keys."""
    console.print(f"    state: {len(state)} key{'' if len(state) == 1 else 's'}")
    for number, (key, value) in enumerate(state.items()):
        if keys is not None and number >= keys:
            console.print(f"      … and {len(state) - keys} more")
            break
        console.print(f"      {clean(key)} = {short(value)}")


def status_word(metadata: dict[str, Any]) -> str:
    """Return SUCCESS, FAILED, CANCELLED, INTERRUPTED or UNFINISHED."""
    if metadata.get("status") in ("cancelled", "interrupted"):
        return str(metadata["status"]).upper()
    return {True: "SUCCESS", False: "FAILED", None: "UNFINISHED"}[metadata.get("success")]


def print_list(console: Console, found: list[dict[str, Any]]) -> None:
    """Print one line per recording."""
    if not found:
        console.print("No recordings found.")
        return
    console.print(f"Found {len(found)} recording(s):\n")
    console.print(f"{'ID':<10}{'Workflow':<22}{'Status':<12}{'Duration':<12}{'Size':<12}Date", style="bold")
    console.print(RULE)
    for item in found:
        status, name = status_word(item), clean(item["workflow_name"])
        line = Text(f"{item['recording_id'][:8]:<10}{name if len(name) <= 20 else name[:19] + '…':<22}")
        line.append(f"{status:<12}", STATUS_STYLES[status])
        line.append(f"{human_duration(item['duration_seconds']):<12}{human_bytes(item['file_size_bytes']):<12}")
        line.append(human_time(item["started_at"])[:16])
        console.print(line)


def print_metadata(console: Console, item: dict[str, Any]) -> None:
    """Print what a recording says about itself."""
    console.print(f"Recording: {item['recording_id']}", style="bold")
    console.print(f"Workflow: {clean(item['workflow_name'])}")
    if item.get("workflow_version"):
        console.print(f"Version: {item['workflow_version']}")
    if item.get("execution_id"):
        console.print(f"Execution: {item['execution_id']}")
    console.print(SHORT_RULE)
    blocks = {
        "Status": {
            "Success": item["success"],
            "Error": clean(item["error"]) if item["error"] else None,
            **({"Ended as": clean(item["status"]).replace("_", " ")} if item.get("status") else {}),
        },
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
        console.print(f"\nTags: {', '.join(clean(tag) for tag in item['tags'])}")


# --------------------------------------------------------------------------- comparing


def print_comparison(
    console: Console, first: ExecutionReplayer, second: ExecutionReplayer, shown: dict[str, Any]
) -> None:
    """Print how two recordings differ."""
    a, b = first.metadata, second.metadata
    console.print("Comparing recordings:")
    for number, item in ((1, a), (2, b)):
        console.print(f"  {number}: {clean(item.workflow_name)} ({item.recording_id[:8]})")
    console.print("\nMetadata differences:")
    console.print(f"  Duration: {human_duration(a.duration_seconds)} vs {human_duration(b.duration_seconds)}")
    console.print(f"  Nodes: {a.node_count} vs {b.node_count}")
    console.print(f"  Teams: {a.team_count} vs {b.team_count}")
    console.print(f"  Events: {len(first.events)} vs {len(second.events)}")
    if shown["version_diff"]:
        console.print(f"  Version: {shown['version_diff']['self']} vs {shown['version_diff']['other']}")
    if a.success != b.success:
        console.print(f"  Status: {status_word(a.to_dict())} vs {status_word(b.to_dict())}")
    nodes = shown["node_diff"]
    console.print("\nNode differences:")
    console.print(f"  Only in 1: {', '.join(map(clean, nodes['only_in_self'])) or 'none'}")
    console.print(f"  Only in 2: {', '.join(map(clean, nodes['only_in_other'])) or 'none'}")
    console.print(f"  Common: {len(nodes['common'])} nodes")
    _print_path(console, shown["path_diff"]["first_difference"])
    _print_events(console, shown["event_diff"]["counts"])
    for title, changed in (
        ("Run", of_the_run(shown)), ("Input", shown["input_diff"]), ("Output", shown["output_diff"]),
    ):  # fmt: skip
        _print_changes(console, title, changed)
    if shown["left_out"]:
        console.print(f"\n{shown['left_out']:,} more differences of values are left out, because they are too many")
    _print_pairs(console, "Status", shown["status_diff"]["nodes"])
    errors = shown["error_diff"]
    _print_pairs(console, "Error", {**({"(run)": errors["run"]} if errors["run"] else {}), **errors["nodes"]})
    _print_timing(console, shown["timing_diff"])
    console.print(f"\n{'The recordings are the same.' if shown['identical'] else 'The recordings differ.'}")


def _print_path(console: Console, difference: dict[str, Any] | None) -> None:
    if difference is None:
        console.print("\nExecution paths are identical")
        return
    console.print("\nFirst path difference:")
    console.print(f"  Position: {difference['position'] + 1}")
    console.print(f"  Recording 1: {clean(difference['self_node'] or '(ended)')}")
    console.print(f"  Recording 2: {clean(difference['other_node'] or '(ended)')}")


def _print_events(console: Console, counts: dict[str, int]) -> None:
    if not any(counts.values()):
        return
    console.print("\nEvent differences:")
    console.print(f"  Only in 1: {counts['removed']:,}")
    console.print(f"  Only in 2: {counts['added']:,}")
    console.print(f"  In another order: {counts['moved']:,}")


def _print_changes(console: Console, title: str, changed: dict[str, list[dict[str, Any]]]) -> None:
    if not changed:
        return
    console.print(f"\n{title} differences:")
    for node, changes in changed.items():
        console.print(f"  {clean(node)}:")
        for change in changes[:LISTED]:
            old = "(not there)" if change["change"] == "added" else short(change["old"])
            new = "(not there)" if change["change"] == "removed" else short(change["new"])
            console.print(f"    {clean(change['path'] or '/')}: {old} -> {new}")
        if len(changes) > LISTED:
            console.print(f"    … and {len(changes) - LISTED} more")


def _print_pairs(console: Console, title: str, pairs: dict[str, Any]) -> None:
    if not pairs:
        return
    console.print(f"\n{title} differences:")
    for node, pair in pairs.items():
        sides = (short(pair[name]) if pair.get(name) is not None else "none" for name in ("self", "other"))
        console.print(f"  {clean(node)}: {' vs '.join(sides)}")


def _print_timing(console: Console, timing: dict[str, dict[str, Any]]) -> None:
    timing = {node: pair for node, pair in timing.items() if pair["self"] != pair["other"]}
    if not timing:
        return
    console.print("\nTiming differences:")
    slowest = sorted(timing.items(), key=lambda item: -abs((item[1]["self"] or 0) - (item[1]["other"] or 0)))
    for node, pair in slowest[:LISTED]:
        ratio = f" (x{(pair['other'] or 0.0) / pair['self']:.2f})" if pair["self"] else ""
        console.print(f"  {clean(node)}: {human_duration(pair['self'])} vs {human_duration(pair['other'])}{ratio}")
    if len(timing) > LISTED:
        console.print(f"  … and {len(timing) - LISTED} more")


# --------------------------------------------------------------------------- totals


def print_stats(console: Console, totals: dict[str, Any], place: str) -> None:
    """Print totals of a storage."""
    console.print(f"Storage Statistics: {place}", style="bold")
    console.print(SHORT_RULE)
    console.print("\nRecordings:", style="bold")
    console.print(f"  Total: {totals['total_recordings']}")
    console.print(f"  Successful: {totals['success_count']}")
    console.print(f"  Failed: {totals['failed_count']}")
    console.print(f"  Unfinished: {totals['unfinished_count']}")
    rate = totals["success_rate"]
    console.print(f"  Success rate: {'N/A' if rate is None else f'{rate:.1%}'}")
    console.print("\nStorage:", style="bold")
    console.print(f"  Total size: {human_bytes(totals['total_size_bytes'])}")
    console.print(f"  Total duration: {human_duration(totals['total_duration_seconds'])}")
    console.print("\nTime range:", style="bold")
    console.print(f"  Oldest: {human_time(totals['oldest_recording'])}")
    console.print(f"  Newest: {human_time(totals['newest_recording'])}")
    if totals["workflow_counts"]:
        console.print("\nWorkflows:", style="bold")
        sizes = totals.get("workflow_sizes", {})
        for name, count in totals["workflow_counts"].items():
            console.print(f"  {clean(name)}: {count} ({human_bytes(sizes.get(name))})")


def print_cleanup(console: Console, result: dict[str, Any], *, dry_run: bool) -> None:
    """Print what went, or would go, and why the others stay."""
    console.print(f"Total recordings: {result['total_recordings']}")
    verb = "To delete" if dry_run else "Deleted"
    console.print(f"{verb}: {result['to_delete']} ({human_bytes(result['total_size_bytes'])})")
    candidates = result["candidate_ids"]
    for identifier in candidates[:LISTED]:
        console.print(f"  {identifier}")
    if len(candidates) > LISTED:
        console.print(f"  … and {len(candidates) - LISTED} more")
    if result["kept_by_rule"]:
        console.print(f"Kept: {sum(result['kept_by_rule'].values())}")
        for rule, count in result["kept_by_rule"].items():
            console.print(f"  {KEPT_RULES.get(rule, rule.replace('_', ' '))}: {count}")
    if dry_run:
        console.print("Dry run: nothing was deleted.")
