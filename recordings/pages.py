"""What the recording pages of the admin show: the player, the path, the timing, files, a comparison."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.safestring import mark_safe

from recordings import inspection
from recordings.compare import of_the_run
from recordings.events import RecordingEvent, RecordingEventType, describe, omissions
from recordings.inspection import DOWNLOADS, shown
from recordings.models import Recording
from recordings.replayer import ExecutionReplayer
from recordings.state import ERRORS, NODES
from recordings.timing import Outline, critical_path_of, outline

EMPTY = mark_safe('<span class="adm-muted">–</span>')
EVENTS_PER_PAGE = 50
MEASURED_EVENTS = 50_000
"""Longer recordings are not read whole for a page, which says so: no timing, path and graph."""
STATE_ENTRIES = 200
TEXT_CHARACTERS = 400
"""Longer texts of events are cut; the whole one is among their data."""
PATH_STEPS = 60
ARTIFACTS = 100
CHANGES = 50
DOWNLOAD_LABELS = (
    ("fbrec", "Sealed file (.fbrec)"),
    ("json.gz", "JSON (.json.gz)"),
    ("html", "Report (.html)"),
    ("summary", "Summary (.txt)"),
    ("svg", "Drawing (.svg)"),
    ("dot", "Graphviz (.dot)"),
)


def seconds_text(seconds: float | None) -> str:
    """Return a length of time as people write it."""
    if seconds is None:
        return EMPTY
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


# --------------------------------------------------------------------------- events and states


def event_row(event: RecordingEvent) -> dict[str, Any]:
    """Return what the event table shows."""
    data = {key: value for key, value in event.data.items() if key not in ("name", "node_type")} | omissions(event)
    text = describe(event)
    return {
        "seq": event.seq,
        "time": datetime.fromtimestamp(event.timestamp, UTC),
        "type": event.event_type.value.replace("_", " "),
        "failed": event.event_type in inspection.FAILURES,
        "text": text if len(text) <= TEXT_CHARACTERS else f"{text[:TEXT_CHARACTERS]}…",
        "data": shown(data) if data else "",
    }


def events_page(replayer: ExecutionReplayer, start: int) -> dict[str, Any]:
    """Return the events from position ``start`` on, and where the pages before and after begin."""
    count = len(replayer.events)
    found = [event_row(replayer.events[place]) for place in range(start, min(start + EVENTS_PER_PAGE, count))]
    end = start + len(found)
    return {
        "events": found,
        "first": start + 1 if found else 0,
        "last": end,
        "count": count,
        "earlier": max(0, start - EVENTS_PER_PAGE) if start else None,
        "later": end if end < count else None,
    }


def player(replayer: ExecutionReplayer, number: int) -> dict[str, Any]:
    """Return event ``number``, counted from 1, and the state after it, with what it changed."""
    place = number - 1
    event = replayer.events[place]
    after = replayer.get_state_at_position(place)
    before = replayer.get_state_at_position(place - 1) if place else {}
    start = replayer.metadata.started_at
    return {
        "number": number,
        "count": len(replayer.events),
        "event": event_row(event),
        "since": seconds_text(max(0.0, event.timestamp - start)),
        "node": event.node_id or "",
        "data": [(key, shown(value)) for key, value in (event.data | omissions(event)).items()],
        "groups": [
            group
            for group in (
                _group("Variables", _flat(before), _flat(after), opened=True),
                _group("Errors", before.get(ERRORS) or {}, after.get(ERRORS) or {}, opened=True),
                _group("Outputs by node", before.get(NODES) or {}, after.get(NODES) or {}, opened=False),
            )
            if group["count"]
        ],
    }


def _flat(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in (NODES, ERRORS)}


def _group(title: str, before: dict[str, Any], after: dict[str, Any], *, opened: bool) -> dict[str, Any]:
    found = inspection.entries(before, after)
    return {
        "title": title,
        "opened": opened,
        "count": len(found),
        "entries": found[:STATE_ENTRIES],
        "more": max(0, len(found) - STATE_ENTRIES),
    }


# --------------------------------------------------------------------------- path, timing, files


def course(recording: Recording, replayer: ExecutionReplayer) -> dict[str, Any]:
    """Return the path and the timing of a run, which takes one reading of its events."""
    run = outline(replayer.events)
    return {"path": path_steps(recording, replayer, run), "timing": timing(run)}


def path_steps(recording: Recording, replayer: ExecutionReplayer, run: Outline) -> dict[str, Any]:
    """Return the first nodes in the order in which they started, each with how it ended."""
    kinds = (RecordingEventType.NODE_START, RecordingEventType.NODE_SKIPPED)
    places = inspection.positions_of(recording, replayer, kinds)
    steps: list[dict[str, Any]] = []
    seen: set[str] = set()
    read = 0
    for place in places:
        if len(steps) == PATH_STEPS:
            break
        read += 1
        event = replayer.events[place]
        node = event.node_id or ""
        if event.data.get("resumed") or (event.event_type is RecordingEventType.NODE_SKIPPED and node in seen):
            continue
        seen.add(node)
        status = run.nodes[node].status if node in run.nodes else "running"
        steps.append({"name": event.data.get("name") or node, "number": place + 1, "status": status})
    return {"steps": steps, "more": f"{len(places) - read:,}" if read < len(places) else ""}


def timing(run: Outline) -> dict[str, Any]:
    """Return the nodes by the time that they took, longest first, and the critical path."""
    nodes = sorted((node for node in run.nodes.values() if node.runs), key=lambda node: (-node.seconds, node.node_id))
    chain = critical_path_of(run)
    critical = {node for node, _ in chain}
    longest = max((node.seconds for node in nodes), default=0.0)
    return {
        "rows": [
            {
                "node": node.node_id,
                "name": node.name or node.node_id,
                "text": seconds_text(node.seconds),
                "width": round(100 * node.seconds / longest, 2) if longest else 0,
                "critical": node.node_id in critical,
            }
            for node in nodes[:PATH_STEPS]
        ],
        "more": max(0, len(nodes) - PATH_STEPS),
        "critical": [
            {"name": run.nodes[node].name or node, "text": seconds_text(seconds)}
            for node, seconds in chain[:PATH_STEPS]
        ],
        "critical_more": max(0, len(chain) - PATH_STEPS),
        "critical_text": seconds_text(sum(seconds for _, seconds in chain)) if chain else "",
    }


def artifacts(recording: Recording, replayer: ExecutionReplayer) -> list[dict[str, Any]]:
    """Return the files that nodes saved, oldest first."""
    if recording.execution_id is None:
        return []
    url = reverse("api:artifact", args=("0" * 64,))
    return [
        {
            "url": f"{url.replace('0' * 64, str(event.data['blob']))}?execution={recording.execution_id}",
            "image": str(event.data.get("content_type", "")).startswith("image/"),
            "name": event.data.get("file") or event.data.get("kind") or "file",
            "kind": str(event.data.get("kind") or "file").replace("_", " ").capitalize(),
            "node": event.data.get("name") or event.node_id or "",
            "number": event.seq,
            "size": filesizeformat(event.data.get("size_bytes") or 0),
        }
        for event in islice(inspection.artifact_events(recording, replayer), ARTIFACTS)
    ]


def downloads(recording: Recording) -> list[dict[str, str]]:
    """Return the copies that can be taken away."""
    url = reverse("api:recording_download", args=(recording.pk,))
    return [{"label": label, "url": f"{url}?format={kind}"} for kind, label in DOWNLOAD_LABELS if kind in DOWNLOADS]


# --------------------------------------------------------------------------- comparing


def comparison(first: ExecutionReplayer, second: ExecutionReplayer) -> dict[str, Any]:
    """Return what the comparison page shows."""
    found = inspection.plain_comparison(first.compare(second))
    difference = found["path_diff"]["first_difference"]
    return {
        "identical": found["identical"],
        "metadata": _metadata_rows(first, second),
        "nodes": found["node_diff"],
        "common": len(found["node_diff"]["common"]),
        "difference": difference and {**difference, "position": difference["position"] + 1},
        "changes": [
            {"title": title, "nodes": _changes(changed)}
            for title, changed in (
                ("Run", of_the_run(found)),
                ("Inputs", found["input_diff"]),
                ("Outputs", found["output_diff"]),
            )
        ],
        "events": found["event_diff"]["counts"],
        "left_out": found["left_out"],
        "pairs": [
            {"title": "Status", "nodes": _pairs(found["status_diff"]["nodes"])},
            {"title": "Errors", "nodes": _pairs({"(run)": found["error_diff"]["run"], **found["error_diff"]["nodes"]})},
        ],
        "timing": _timing_rows(found["timing_diff"]),
    }


def _metadata_rows(first: ExecutionReplayer, second: ExecutionReplayer) -> list[dict[str, Any]]:
    a, b = first.metadata, second.metadata
    rows = [
        ("Status", status_text(a.status, a.success), status_text(b.status, b.success)),
        ("Version", version_text(a.workflow_version), version_text(b.workflow_version)),
        ("Started", _moment(a.started_at), _moment(b.started_at)),
        ("Duration", seconds_text(a.duration_seconds), seconds_text(b.duration_seconds)),
        ("Nodes", a.node_count, b.node_count),
        ("Teams", a.team_count, b.team_count),
        ("Events", len(first.events), len(second.events)),
        ("Size", _size(a.file_size_bytes), _size(b.file_size_bytes)),
        ("Trigger", trigger_text(a.trigger or "") or EMPTY, trigger_text(b.trigger or "") or EMPTY),
    ]
    marked = ("Status", "Version", "Nodes", "Teams", "Events")
    return [{"name": name, "first": x, "second": y, "differs": name in marked and x != y} for name, x, y in rows]


def status_text(status: str | None, success: bool | None) -> str:
    """Return how a run ended, in words: "Completed with errors", "Unfinished"."""
    word = status or {True: "completed", False: "failed", None: "unfinished"}[success]
    return "Pending" if word == "queued" else word.replace("_", " ").capitalize()


def trigger_text(trigger: str) -> str:
    """Return what started a run, as people write it."""
    return {"api": "API"}.get(trigger, trigger.replace("_", " ").capitalize())


def version_text(number: int | None) -> str:
    """Return the number of a version as pages show it."""
    return EMPTY if number is None else f"v{number}"


def _moment(seconds: float) -> str:
    return date_format(timezone.localtime(datetime.fromtimestamp(seconds, UTC)), "j M Y, H:i:s")


def _size(size: int | None) -> str:
    return EMPTY if size is None else filesizeformat(size)


def _changes(nodes: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {
            "node": node,
            "changes": [
                {
                    "path": change["path"] or "/",
                    "old": EMPTY if change["change"] == "added" else shown(change["old"]),
                    "new": EMPTY if change["change"] == "removed" else shown(change["new"]),
                }
                for change in changes[:CHANGES]
            ],
            "more": max(0, len(changes) - CHANGES),
        }
        for node, changes in islice(nodes.items(), CHANGES)
    ]


def _pairs(nodes: dict[str, Any]) -> list[dict[str, Any]]:
    sides = (("first", "self"), ("second", "other"))
    return [
        {"node": node, **{name: shown(pair[key]) if pair.get(key) is not None else EMPTY for name, key in sides}}
        for node, pair in islice(nodes.items(), CHANGES)
        if isinstance(pair, dict)
    ]


def _timing_rows(timing: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what changed most, first."""
    rows = []
    for node, pair in sorted(timing.items(), key=lambda item: -abs(_change(item[1])))[:CHANGES]:
        change = _change(pair)
        rows.append(
            {
                "node": node,
                "first": seconds_text(pair["self"]),
                "second": seconds_text(pair["other"]),
                "text": _signed(change),
                "ratio": float(pair["other"] or 0.0) / pair["self"] if pair["self"] else None,
            }
        )
    return rows


def _signed(seconds: float) -> str:
    sign = "" if abs(seconds) < 0.0005 else "+" if seconds > 0 else "−"
    return sign + seconds_text(abs(seconds))


def _change(pair: dict[str, Any]) -> float:
    return float(pair["other"] or 0.0) - float(pair["self"] or 0.0)
