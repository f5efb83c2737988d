"""Snapshots that are worked out: where they are, what they hold, and that nothing is done before somebody asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from recordings import ExecutionRecorder, ExecutionReplayer
from recordings.compare import compare
from recordings.events import RecordingEvent, RecordingEventType, RecordingMetadata, event_id
from recordings.export import to_json
from recordings.sealed import SealedRecording, write_sealed
from recordings.snapshots import Snapshots

NODES = 500


def events(snapshots: tuple[int, ...] = (40,), run: str = "w") -> Iterator[RecordingEvent]:
    """A run of 500 nodes, with snapshot events at some numbers."""
    for seq in range(1, NODES + len(snapshots) + 1):
        if seq in snapshots:
            kind, node, data = "state_snapshot", None, {"snapshot_id": f"{run}{seq}", "phase": 0, "nodes": []}
        else:
            kind, node, data = "node_complete", f"n{seq}", {"outputs": {"last": seq}}
        yield RecordingEvent(
            event_id(run, seq), RecordingEventType(kind), float(seq), run, node, data, {"recursion_depth": 0}, seq
        )


def metadata() -> RecordingMetadata:
    return RecordingMetadata("r", "long", 0.0, event_count=NODES)


def in_memory(**options: Any) -> ExecutionReplayer:
    return ExecutionReplayer(None, metadata(), list(events(**options)))


def sealed(**options: Any) -> ExecutionReplayer:
    file = BytesIO()
    write_sealed(file, metadata(), events(**options), in_memory(**options).snapshots, frame_events=64)
    return ExecutionReplayer.from_sealed(SealedRecording.open(file.getvalue()))


@pytest.mark.row("S0-04")
@pytest.mark.parametrize("form", [in_memory, sealed])
def test_they_are_at_their_events_and_never_more_than_256_events_apart(form) -> None:
    replayer = form(snapshots=(40,))

    assert [replayer.events.index(event) for event in replayer.events if event.node_id is None] == [39]
    assert isinstance(replayer.snapshots, Snapshots)
    assert replayer.snapshots.positions == [39, 295]
    assert replayer.snapshots is replayer.snapshots
    assert [item.snapshot_id for item in replayer.snapshots] == ["w40", replayer.events[295].event_id]
    for item, position in zip(replayer.snapshots, (39, 295), strict=True):
        event = replayer.events[position]
        assert (item.timestamp, item.workflow_id, item.node_id) == (event.timestamp, "w", None)
        assert item.state == replayer.get_state_at_event(event.event_id)
        assert item.state["last"] == (39 if position == 39 else 296)
    assert replayer.snapshots[-1] == replayer.snapshots[1] == replayer.snapshots[0:2][1]
    with pytest.raises(IndexError):
        replayer.snapshots[2]


def test_without_any_event_of_a_snapshot_there_is_one_every_256_events() -> None:
    replayer = in_memory(snapshots=())
    assert [item.snapshot_id for item in replayer.snapshots] == [replayer.events[255].event_id]
    short = ExecutionRecorder("short")
    short.record_node_complete("a", {"x": 1})
    assert list(ExecutionReplayer(None, short.finalize(), short.events).snapshots) == []


def test_opening_and_counting_work_out_no_state() -> None:
    asked: list[int] = []

    def state_at(position: int) -> dict[str, Any]:
        asked.append(position)
        return {}

    found = Snapshots(list(events((40, 300))), state_at)
    assert len(found) == 3
    assert asked == []
    assert found[1].state == {}
    assert asked == [295]


@pytest.mark.parametrize("form", [in_memory, sealed])
def test_a_copy_in_json_holds_no_whole_states_and_gives_the_same_snapshots(form, tmp_path: Path) -> None:
    replayer, path = form(snapshots=(40,)), tmp_path / "copy.json"
    path.write_text(to_json(replayer))

    assert json.loads(path.read_text())["snapshots"] == []
    assert list(ExecutionReplayer.load(path).snapshots) == list(replayer.snapshots)


@pytest.mark.parametrize("form", [in_memory, sealed])
def test_runs_whose_snapshots_have_other_ids_are_compared_as_equal(form) -> None:
    assert compare(form(run="w"), form(run="v"))["identical"]
