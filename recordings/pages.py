"""What the recording pages of the admin show: the player, the path, the timing, files, a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.urls import reverse

from recordings import inspection
from recordings.events import RecordingEvent, RecordingEventType, describe, omissions
from recordings.export import human_bytes, human_duration, human_time
from recordings.inspection import DOWNLOADS, shown
from recordings.models import Recording
from recordings.replayer import ExecutionReplayer
from recordings.state import ERRORS, NODES

EVENTS_PER_PAGE = 50
MEASURED_EVENTS = 20_000
"""Longer recordings are not read whole for a page: no timing, path and graph."""
STATE_ENTRIES = 200
PATH_STEPS = 60
ARTIFACTS = 100
CHANGES = 50
DOWNLOAD_LABELS = (
    ("fbrec", "Sealed file (.fbrec)"),
    ("json.gz", "JSON (.json.gz)"),
    ("html", "Report (.html)"),
    ("dot", "Graphviz (.dot)"),
)
_STATUS = {
    RecordingEventType.NODE_START: "running",
    RecordingEventType.NODE_COMPLETE: "completed",
    RecordingEventType.NODE_ERROR: "failed",
    RecordingEventType.NODE_SKIPPED: "skipped",
    RecordingEventType.NODE_WAITING: "waiting",
    RecordingEventType.NODE_RETRY: "retrying",
}


# --------------------------------------------------------------------------- events and states


def event_row(event: RecordingEvent) -> dict[str, Any]:
    """Return what the event table shows."""
    data = {key: value for key, value in event.data.items() if key not in ("name", "node_type")} | omissions(event)
    return {
        "seq": event.seq,
        "time": datetime.fromtimestamp(event.timestamp, UTC),
        "type": event.event_type.value.replace("_", " "),
        "failed": event.event_type in inspection.FAILURES,
        "text": describe(event),
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
        "since": human_duration(max(0.0, event.timestamp - start)),
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


def path_steps(recording: Recording, replayer: ExecutionReplayer) -> dict[str, Any]:
    """Return the first nodes in the order in which they started, each with how it ended."""
    status: dict[str, str] = {}
    starts: list[int] = []
    for place, event in _node_events(recording, replayer):
        begins = event.event_type is RecordingEventType.NODE_START and not event.data.get("resumed")
        if begins or event.event_type is RecordingEventType.NODE_SKIPPED:
            starts.append(place)
        status[event.node_id or ""] = _STATUS[event.event_type]
    steps = []
    for place in starts[:PATH_STEPS]:
        event = replayer.events[place]
        steps.append(
            {
                "name": event.data.get("name") or event.node_id,
                "number": place + 1,
                "status": status[event.node_id or ""],
            }
        )
    return {"steps": steps, "more": max(0, len(starts) - PATH_STEPS)}


def _node_events(recording: Recording, replayer: ExecutionReplayer) -> Iterator[tuple[int, RecordingEvent]]:
    for place in inspection.positions_of(recording, replayer, tuple(_STATUS)):
        yield place, replayer.events[place]


def timing(replayer: ExecutionReplayer) -> dict[str, Any]:
    """Return the nodes by the time that they took, longest first, and the critical path."""
    durations = replayer.durations()
    path = replayer.critical_path()
    critical = {node for node, _ in path}
    longest = max(durations.values(), default=0.0)
    total = sum(seconds for _, seconds in path)
    return {
        "rows": [
            {
                "node": node,
                "text": human_duration(seconds),
                "width": round(100 * seconds / longest, 2) if longest else 0,
                "critical": node in critical,
            }
            for node, seconds in islice(durations.items(), PATH_STEPS)
        ],
        "more": max(0, len(durations) - PATH_STEPS),
        "critical": [{"node": node, "text": human_duration(seconds)} for node, seconds in path[:PATH_STEPS]],
        "critical_text": human_duration(total) if path else "",
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
            {"title": title, "nodes": _changes(found.get(key) or {})}
            for title, key in (("Inputs", "input_diff"), ("Outputs", "output_diff"))
        ],
        "pairs": [
            {"title": title, "nodes": _pairs(found.get(key))}
            for title, key in (("Status", "status_diff"), ("Errors", "error_diff"))
        ],
        "timing": _timing_rows(found["timing_diff"]),
    }


def _metadata_rows(first: ExecutionReplayer, second: ExecutionReplayer) -> list[dict[str, Any]]:
    a, b = first.metadata, second.metadata
    rows = [
        ("Status", a.status or a.success, b.status or b.success),
        ("Version", a.workflow_version, b.workflow_version),
        ("Started", human_time(a.started_at), human_time(b.started_at)),
        ("Duration", human_duration(a.duration_seconds), human_duration(b.duration_seconds)),
        ("Nodes", a.node_count, b.node_count),
        ("Teams", a.team_count, b.team_count),
        ("Events", len(first.events), len(second.events)),
        ("Size", human_bytes(a.file_size_bytes), human_bytes(b.file_size_bytes)),
        ("Trigger", a.trigger, b.trigger),
    ]
    marked = ("Status", "Version", "Nodes", "Teams", "Events")
    return [{"name": name, "first": x, "second": y, "differs": name in marked and x != y} for name, x, y in rows]


def _changes(nodes: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {
            "node": node,
            "changes": [
                {"path": change["path"] or "/", "old": shown(change["old"]), "new": shown(change["new"])}
                for change in changes[:CHANGES]
            ],
            "more": max(0, len(changes) - CHANGES),
        }
        for node, changes in islice(nodes.items(), CHANGES)
    ]


def _pairs(difference: Any) -> list[dict[str, Any]]:
    nodes = difference.get("nodes", difference) if isinstance(difference, dict) else {}
    return [
        {"node": node, "first": shown(pair.get("self")), "second": shown(pair.get("other"))}
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
                "first": human_duration(pair["self"]),
                "second": human_duration(pair["other"]),
                "text": _signed(change),
                "ratio": float(pair["other"] or 0.0) / pair["self"] if pair["self"] else None,
            }
        )
    return rows


def _signed(seconds: float) -> str:
    sign = "" if abs(seconds) < 0.0005 else "+" if seconds > 0 else "−"
    return sign + human_duration(abs(seconds))


def _change(pair: dict[str, Any]) -> float:
    return float(pair["other"] or 0.0) - float(pair["self"] or 0.0)
