"""Files of every format version open for ever, and say what they said when they were written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recordings import ExecutionReplayer, SealedRecording
from recordings.errors import UnsupportedVersion
from tests.recordings.golden import make

HERE = Path(make.__file__).parent
FILES = {
    "version-2.fbrec": "recording",
    "version-2-odd.fbrec": "odd",
    "recording.json": "recording",
    "recording.json.gz": "recording",
}


def what_it_must_say(name: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((HERE / f"{name}.expected.json").read_text())
    return said


def opened(name: str) -> ExecutionReplayer:
    if name != "version-2-odd.fbrec":
        return ExecutionReplayer.load(HERE / name)
    blobs = {make.BLOB_NAME: make.BLOB}
    return ExecutionReplayer.from_sealed(SealedRecording.open(HERE / name, read_blob=blobs.__getitem__))


def test_every_golden_file_is_tested() -> None:
    here = {path.name for path in HERE.iterdir() if path.suffix in (".fbrec", ".json", ".gz")}

    assert here == {
        *FILES, "version-1.fbrec", "version-2-unfinished.fbrec",
        "recording.expected.json", "odd.expected.json", "unfinished.expected.json",
    }  # fmt: skip


@pytest.mark.row("S0-41")
@pytest.mark.parametrize("name", FILES)
def test_a_golden_file_says_what_it_said(name: str) -> None:
    said, replayer = what_it_must_say(FILES[name]), opened(name)

    replayer.verify()
    assert [event.to_dict() for event in replayer.events] == [
        {key: value for key, value in event.items() if key != "seq"} for event in said["events"]
    ]
    assert [event.seq for event in replayer.events] == [event["seq"] for event in said["events"]]
    assert [snapshot.to_dict() for snapshot in replayer.snapshots] == said["snapshots"]
    assert {**replayer.metadata.to_dict(), "checksum": None, "file_size_bytes": None} == said["metadata"]
    assert replayer.metadata.checksum is not None
    assert said["states"]
    for position, state in said["states"].items():
        assert replayer.get_state_at_position(int(position)) == state, position
    for event in said["events"]:
        found = replayer.get_event(event["event_id"])
        assert found is not None
        assert found.seq == event["seq"]


def test_a_golden_file_that_was_never_closed_gives_what_was_flushed() -> None:
    said = what_it_must_say("unfinished")
    recording = SealedRecording.recover(HERE / "version-2-unfinished.fbrec")

    assert [{**event.to_dict(), "seq": event.seq} for event in recording] == said["events"]
    for position, state in said["states"].items():
        assert recording.state_at(int(position)) == state
    assert recording.metadata.workflow_name == "shop"
    assert recording.metadata.event_count == 16
    assert recording.metadata.extra["recovered"] is True
    assert [(item.first_seq, item.last_seq) for item in recording.damaged] == [(18, 20), (21, None)]


def test_the_first_layout_is_refused_with_a_way_out() -> None:
    with pytest.raises(
        UnsupportedVersion, match=r"version-1\.fbrec: format version 1 was never released.* record the run"
    ):
        ExecutionReplayer.load(HERE / "version-1.fbrec")
    with pytest.raises(UnsupportedVersion, match="version 1 was never released"):
        SealedRecording.recover(HERE / "version-1.fbrec")
