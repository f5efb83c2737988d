"""Make the golden files of a format version, once: ``python -m tests.recordings.golden.make``.

They must open for ever, so nothing that is there is written again. After a new format version, run it once and
commit what it made. Beside each file lies what it must say, from the events before they were saved.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recordings.events import (
    BlobReference,
    RecordingEvent,
    RecordingEventType,
    RecordingMetadata,
    StateSnapshot,
    event_id,
)
from recordings.export import write_json
from recordings.replayer import ExecutionReplayer
from recordings.sealed import VERSION, SealedWriter, write_sealed

HERE = Path(__file__).resolve().parent
RUN = "6a4f1c1e-2a63-4f5e-9f58-0d5b7f0f7a11"
START = 1_768_473_000.25
BLOB = json.dumps({"Html": "<p>outside</p>" * 200, "Title": "kept apart"}).encode()
BLOB_NAME = hashlib.sha256(BLOB).hexdigest()
Parts = tuple[RecordingMetadata, list[RecordingEvent], list[StateSnapshot]]


def events_of(said: list[tuple[str, str | None, dict[str, Any], dict[str, Any]]]) -> list[RecordingEvent]:
    """Return events with numbers, times and ids for what is said."""
    return [
        RecordingEvent(event_id(RUN, seq), RecordingEventType(kind), START + seq / 8, RUN, node, data, metadata, seq)
        for seq, (kind, node, data, metadata) in enumerate(said, 1)
    ]


def recording() -> Parts:
    """Return a recording with everything in it that every format can hold."""
    flat = {"recursion_depth": 0}
    snapshot = StateSnapshot(
        "snap-1", START + 2, RUN, "page2", {"total": 9, "$nodes": {"page1": {"total": 9}}}, 0, ["a"]
    )
    said: list[tuple[str, str | None, dict[str, Any], dict[str, Any]]] = [
        ("workflow_start", None, {"workflow": "shop", "initial_context": {"region": "eu", "long": "L" * 5_000}}, {}),
        ("phase_start", None, {"phase": 0, "node_count": 3}, flat),
        ("node_start", "page1", {"inputs": {"url": "https://example.com/ä/☃"}, "node_type": "get_html"}, flat),
        ("node_complete", "page1", {"outputs": {"Html": "x" * 6_000, "total": 1}, "duration_seconds": 0.5}, flat),
        ("recursion_enter", None, {"operation_type": "workflow", "identifier": "prices", "depth": 1}, {}),
        ("node_complete", "page1", {"outputs": {"total": 7}}, {"recursion_depth": 1}),
        ("recursion_exit", None, {"operation_type": "workflow", "identifier": "prices", "depth": 1}, {}),
        ("node_error", "page2", {"error": "too slow", "duration_seconds": 2.0}, {"recursion_depth": 0, "host": "w1"}),
        ("state_snapshot", "page2", {"snapshot_id": "snap-1"}, flat),
        ("quantum", None, {"from": "a later version", "list": [1, 2.5, None, True, {"deep": []}]}, {}),
        *(
            ("node_complete", f"page{number % 4}", {"outputs": {"total": number, f"key{number % 5}": [number]}}, flat)
            for number in range(20)
        ),
        ("workflow_complete", None, {"final_state": {"done": True}, "success": True, "error": None}, {}),
    ]
    events = events_of(said)
    metadata = RecordingMetadata(
        "5f0c6d0e9be14b0b8a2c7d1e3f4a5b6c", "shop", START, START + 5, 5.0, True, None, 22, 0, 1, len(events),
        tags=["golden", "eu"], workflow_version=3, trigger="manual", extra={"from_the_future": {"kept": [1, 2]}},
    )  # fmt: skip
    return metadata, events, [snapshot]


def odd() -> Parts:
    """Return what only a sealed file holds: gaps, foreign ids, a value outside, a snapshot that no event names."""
    events = [
        RecordingEvent(
            f"id-{seq}" if seq % 2 else event_id(RUN, seq), RecordingEventType.NODE_COMPLETE, START + seq + 0.00000049,
            "another run" if seq == 9 else RUN, f"node{seq % 3}", {"outputs": {"seq": seq}}, {"a": 1}, seq,
        )
        for seq in (3, 4, 9, 12, 20, 21)
    ]  # fmt: skip
    events.append(
        RecordingEvent(
            event_id(RUN, 30),
            RecordingEventType.NODE_COMPLETE,
            START + 30,
            RUN,
            "big",
            {"outputs": json.loads(BLOB)},
            {},
            30,
        )
    )
    orphan = StateSnapshot("nobody", START, RUN, None, {"x": 1})
    return RecordingMetadata("0" * 31 + "1", "odd", START, event_count=len(events)), events, [orphan]


def expected(parts: Parts) -> dict[str, Any]:
    """Return what a reader must say of these parts."""
    metadata, events, snapshots = parts
    replayer = ExecutionReplayer(None, metadata, events, snapshots)
    return {
        "metadata": {**metadata.to_dict(), "checksum": None, "file_size_bytes": None},
        "events": [{**event.to_dict(), "seq": event.seq} for event in events],
        "snapshots": [snapshot.to_dict() for snapshot in snapshots],
        "states": {
            str(position): replayer.get_state_at_position(position)
            for position in sorted({*range(0, len(events), 6), len(events) - 1})
        },
    }


def make(name: str, says: str, parts: Parts, write: Callable[[Path], object]) -> None:
    """Write a golden file, and in ``<says>.expected.json`` what it must say, unless they are there."""
    path = HERE / name
    if path.exists():
        return
    text = json.dumps(expected(parts), indent=1, ensure_ascii=False) + "\n"
    beside = HERE / f"{says}.expected.json"
    if beside.exists() and beside.read_text() != text:
        raise SystemExit(f"{beside} says something else; golden files are not changed: give the new ones another name")
    write(path)
    beside.write_text(text)


def write_odd(path: Path) -> None:
    """Write the odd recording, its last value as a reference."""
    metadata, events, orphans = odd()
    file = io.BytesIO()
    writer = SealedWriter(file, RUN, metadata, frame_events=2, read_blob=lambda name: BLOB)
    writer.append(events[:-1])
    writer.write(events[-1].with_data({"outputs": BlobReference(BLOB_NAME)}))
    writer.close(metadata, orphans)
    path.write_bytes(file.getvalue())


def write_unfinished(path: Path) -> None:
    """Write a file as a killed process leaves it: flushed, never closed, the last frame half there."""
    metadata, events, _ = recording()
    file = io.BytesIO()
    writer = SealedWriter(file, RUN, metadata, frame_events=8)
    writer.append(events[:8])
    writer.flush()
    writer.append(events[9:20])
    writer.flush()
    path.write_bytes(file.getvalue()[:-40])


def sealed_to(path: Path) -> None:
    """Write the recording sealed, in several frames."""
    with path.open("wb") as file:
        write_sealed(file, *recording(), workflow_id=RUN, frame_events=8)


def main() -> None:
    """Make what is missing."""
    metadata, events, _ = recording()
    make(f"version-{VERSION}.fbrec", "recording", recording(), sealed_to)
    make(f"version-{VERSION}-odd.fbrec", "odd", odd(), write_odd)
    make(
        f"version-{VERSION}-unfinished.fbrec",
        "unfinished",
        (metadata, [*events[:8], *events[9:17]], []),
        write_unfinished,
    )
    make("recording.json", "recording", recording(), lambda path: write_json(path, *recording(), compress=False))
    make("recording.json.gz", "recording", recording(), lambda path: write_json(path, *recording(), compress=True))


if __name__ == "__main__":
    main()
