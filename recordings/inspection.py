"""What pages and answers need of a recording: where it fails, what an event changed, its files, a copy to take away."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from django.utils.text import slugify

from recordings.database import DatabaseRecordingStorage
from recordings.events import RecordingEvent, RecordingEventType, encode_json
from recordings.export import to_summary
from recordings.finding import replayer_of
from recordings.models import Event, Recording
from recordings.replayer import ExecutionReplayer
from recordings.sealed import SealedRecording

SHOWN_CHARACTERS = 2_000
FAILURES = (RecordingEventType.NODE_ERROR, RecordingEventType.WORKFLOW_ERROR)


# --------------------------------------------------------------------------- events


def positions_of(recording: Recording, replayer: ExecutionReplayer, kinds: Collection[RecordingEventType]) -> list[int]:
    """Return the positions of the events of some types, without reading what the events carry."""
    names = {kind.value for kind in kinds}
    if isinstance(replayer.events, SealedRecording):
        return [place for place, (kind, _) in enumerate(replayer.events.iter_path()) if kind in names]
    rows = Event.objects.filter(execution_id=recording.run_id, type__in=names).order_by("seq")
    return [seq - 1 for seq in rows.values_list("seq", flat=True) if seq <= len(replayer.events)]


def opening_position(recording: Recording, replayer: ExecutionReplayer) -> int:
    """Return where a person wants to begin: at the event that made the run fail, else at the first one."""
    if recording.success is not False:
        return 0
    failures = positions_of(recording, replayer, FAILURES)
    if not failures:
        return 0
    last = replayer.events[failures[-1]]
    named = last.data.get("error_node") or last.data.get("node") if last.node_id is None else None
    of_nodes = [place for place in failures if replayer.events[place].event_type is RecordingEventType.NODE_ERROR]
    guilty = [place for place in of_nodes if named and replayer.events[place].node_id == named]
    return (guilty[-1:] or of_nodes[:1] or failures)[0]


def artifact_events(recording: Recording, replayer: ExecutionReplayer) -> Iterator[RecordingEvent]:
    """Iterate over the events that saved a file."""
    for place in positions_of(recording, replayer, (RecordingEventType.ARTIFACT,)):
        event = replayer.events[place]
        if event.data.get("blob"):
            yield event


# --------------------------------------------------------------------------- states


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a state: ``change`` is "added", "changed", "removed" or empty; texts are cut."""

    key: str
    text: str
    change: str
    was: str


def entries(before: dict[str, Any], after: dict[str, Any], most: int | None = None) -> list[Entry]:
    """Return the entries of the state after an event, those that it changed first; ``most`` of them."""
    keys = [*after, *(key for key in before if key not in after)]
    changes = {key: _change(key, before, after) for key in keys}
    return [
        Entry(
            key,
            shown(after[key]) if key in after else "",
            changes[key],
            shown(before[key]) if changes[key] in ("changed", "removed") else "",
        )
        for key in sorted(keys, key=lambda key: not changes[key])[:most]
    ]


def _change(key: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    if key not in after:
        return "removed"
    if key not in before:
        return "added"
    return "changed" if before[key] != after[key] else ""


def shown(value: Any) -> str:
    """Return a value as text of at most about 2,000 characters."""
    text = value if isinstance(value, str) else encode_json(value).decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… ({len(text):,} characters)"


# --------------------------------------------------------------------------- copies to take away

DOWNLOADS: dict[str, str] = {
    "fbrec": "application/x-flowbuilder-recording",
    "json.gz": "application/gzip",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
    "svg": "image/svg+xml",
    "dot": "text/vnd.graphviz; charset=utf-8",
    "summary": "text/plain; charset=utf-8",
}
"""Formats and their content types; the first three can be imported again."""


_DRAWN = ("html", "svg", "dot")


def copy_of(recording: Recording, kind: str) -> IO[bytes]:
    """Return an open temporary file with the recording in one of the formats of ``DOWNLOADS``.

    Raises:
        BlobMissing: its file is gone.
        InvalidRecording: it is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="recording-") as directory:
        path = Path(directory) / f"copy.{kind}"
        if kind in _DRAWN:
            with replayer_of(recording) as replayer:
                replayer.visualize(path, format=kind)
        elif kind == "summary":
            with replayer_of(recording) as replayer:
                path.write_bytes(to_summary(replayer).encode("utf-8", "backslashreplace"))
        else:
            path = DatabaseRecordingStorage().export_sync(str(recording.pk), path)
        return path.open("rb")


def file_name(recording: Recording, kind: str) -> str:
    """Return what a copy is called: "shop-3f2a9c41.fbrec"."""
    name = slugify(recording.workflow_name)[:60] or "recording"
    return f"{name}-{str(recording.pk)[:8]}.{'txt' if kind == 'summary' else kind}"


def plain_comparison(difference: dict[str, Any], limit: int | None = None) -> dict[str, Any]:
    """Return what ``compare`` gave as JSON: sets as sorted lists, paths cut to ``limit`` nodes."""
    path = difference["path_diff"]
    return {
        **difference,
        "node_diff": {name: sorted(nodes) for name, nodes in difference["node_diff"].items()},
        "path_diff": {
            **path,
            "self_path": path["self_path"][:limit],
            "other_path": path["other_path"][:limit],
        },
    }
