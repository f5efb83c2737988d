"""The sealed file: complete, small, seekable, and honest about damage."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from recordings import ExecutionRecorder, ExecutionReplayer, SealedRecording, SealedWriter
from recordings.errors import DamagedRecording, InvalidRecording, UnsupportedVersion
from recordings.events import RecordingEvent, RecordingEventType, RecordingMetadata, event_id
from recordings.frames import HEADER, MAGIC, _closed
from recordings.sealed import write_sealed
from tests.recordings.conftest import record_long, record_run


def seal(recorder: ExecutionRecorder, frame_events: int = 2048) -> bytes:
    """Return the sealed bytes of what was recorded."""
    file = io.BytesIO()
    write_sealed(
        file, recorder.finalize(), recorder.events, recorder.snapshots, workflow_id=recorder.workflow_id,
        frame_events=frame_events,
    )  # fmt: skip
    return file.getvalue()


def busy(seed: int, events: int = 400, *, big: bool = False) -> ExecutionRecorder:
    """Return a run with everything in it, in an order that ``seed`` decides."""
    chance = random.Random(seed)
    recorder = ExecutionRecorder("busy", record_state_snapshots=True)
    recorder.record_workflow_start({"region": "eu", "big": "r" * 5000 if big else "", "shared": 0})
    for number in range(events):
        node = f"node{chance.randrange(12)}"
        match chance.randrange(12):
            case 0:
                recorder.record_node_complete(node, error=f"error {number}")
            case 1:
                recorder.record_node_start(node, {"n": number})
            case 2:
                recorder.record_recursion_enter("loop", node)
            case 3:
                recorder.record_recursion_exit("loop", node)
            case 4 if chance.random() < 0.2:
                state = {"shared": number, "text": "s" * (6000 if big else 3), "$nodes": {"kept": {"n": number}}}
                recorder.record_state_snapshot({**state, "$errors": {"old": "x"}}, node)
            case 5:
                recorder.record_event("quantum", node, n=number)
            case _:
                html = f"{number}" * (chance.choice([1, 3000]) if big else 1)
                recorder.record_node_complete(node, {"shared": number, f"key{number % 30}": html})
    recorder.record_workflow_complete({}, True)
    return recorder


@pytest.mark.row("S0-29")
@pytest.mark.parametrize("frame_events", [1, 2, 7, 50, 2048])
@pytest.mark.parametrize("big", [False, True])
def test_the_state_at_every_event_is_the_same_before_and_after_sealing(frame_events: int, big: bool) -> None:
    recorder = busy(frame_events, big=big)
    before = ExecutionReplayer(None, recorder.finalize(), recorder.events, recorder.snapshots)

    sealed = SealedRecording.open(seal(recorder, frame_events))

    assert list(sealed) == recorder.events
    assert sealed.snapshots == recorder.snapshots
    for position in range(len(sealed)):
        assert sealed.state_at(position) == before.get_state_at_position(position), position
    for position in random.Random(1).sample(range(len(sealed)), 50):
        assert sealed.state_at(position) == before.get_state_at_position(position), position


def test_a_seek_reads_few_frames() -> None:
    recorder = record_long(4000, nodes=3000)
    content = seal(recorder, frame_events=16)
    sealed = SealedRecording.open(content)
    reads: list[int] = []
    read = sealed._source.read

    def counted(offset: int, length: int) -> bytes:
        reads.append(length)
        return read(offset, length)

    sealed._source.read = counted  # type: ignore[method-assign]

    state = sealed.state_at(2500)

    assert len(state["$nodes"]) == 1250
    assert len(reads) <= 10 + 2  # keyframes: log2 of 250 frames; one frame: columns and data
    assert sum(reads) < len(content) / 4


def test_reading_starts_at_any_event() -> None:
    recorder = record_long(500)
    sealed = SealedRecording.open(seal(recorder, frame_events=32))

    assert [event.seq for event in sealed.iter_events(after_seq=490)] == list(range(491, 501))
    assert list(sealed.iter_events(500)) == []
    assert sealed[-1].seq == 500
    assert [event.seq for event in sealed[10:13]] == [11, 12, 13]
    assert sealed.position_of(recorder.events[321].event_id) == 321
    assert sealed.position_of(event_id(recorder.workflow_id, 501)) is None
    assert sealed.positions_of_node("node7") == [
        place for place, event in enumerate(recorder.events) if event.node_id == "node7"
    ]
    with pytest.raises(IndexError):
        sealed[500]


def test_numbers_with_gaps_and_foreign_ids_are_kept() -> None:
    events = [
        RecordingEvent(f"id-{seq}", RecordingEventType.LOG, seq + 0.00000049, "w", None, {"seq": seq}, {"a": 1}, seq)
        for seq in (3, 7, 8, 20)
    ]
    file = io.BytesIO()

    write_sealed(file, RecordingMetadata("r", "w", 0.0), events, frame_events=3)

    sealed = SealedRecording.open(file.getvalue())
    assert list(sealed) == events
    assert [event.seq for event in sealed.iter_events(7)] == [8, 20]
    assert sealed.position_of("id-20") == 3
    assert sealed.position_of_seq(5) is None


def test_events_must_come_in_order() -> None:
    writer = SealedWriter(io.BytesIO(), "w")
    writer.write(RecordingEvent("a", RecordingEventType.LOG, 0.0, "w", seq=2))

    with pytest.raises(ValueError, match="sealed in order"):
        writer.write(RecordingEvent("b", RecordingEventType.LOG, 0.0, "w", seq=2))


def test_an_empty_recording_can_be_sealed() -> None:
    sealed = SealedRecording.open(seal(ExecutionRecorder("empty")))

    assert list(sealed) == []
    assert sealed.snapshots == []
    sealed.verify().check()


def test_the_same_recording_gives_the_same_bytes() -> None:
    recorder = busy(3)

    assert seal(recorder) == seal(recorder)


# --------------------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def content() -> bytes:
    return seal(busy(5, events=60), frame_events=16)


def read_all(content: bytes) -> None:
    sealed = SealedRecording.open(content, "run 42")
    for position in range(len(sealed)):
        _ = sealed[position]
        sealed.state_at(position)
    sealed.verify().check()


@pytest.mark.row("S0-40")
def test_every_flipped_byte_is_found(content: bytes) -> None:
    for place in range(0, len(content), 1 if len(content) < 1000 else 3):
        damaged = bytearray(content)
        damaged[place] ^= 0x40
        with pytest.raises(InvalidRecording, match="run 42"):
            read_all(bytes(damaged))


@pytest.mark.row("S0-40")
def test_damage_names_the_events_that_are_lost(content: bytes) -> None:
    sealed = SealedRecording.open(content)
    frame = sealed._frames[1]
    damaged = bytearray(content)
    damaged[frame.parts[1][1] + 3] ^= 1

    broken = SealedRecording.open(bytes(damaged))

    assert [event.seq for event in broken[:16]] == list(range(1, 17))
    with pytest.raises(DamagedRecording, match=r"events 17 to 32 are damaged") as caught:
        _ = broken[20]
    assert (caught.value.first_seq, caught.value.last_seq) == (17, 32)
    assert broken[40].seq == 41


@pytest.mark.row("S0-40")
def test_every_truncation_is_found(content: bytes) -> None:
    for size in range(len(content)):
        with pytest.raises(InvalidRecording):
            SealedRecording.open(content[:size])
    with pytest.raises(DamagedRecording, match="cut short, or never closed: the end of the file"):
        SealedRecording.open(content[:-10])
    with pytest.raises(DamagedRecording):
        SealedRecording.open(content + b"more")


@pytest.mark.parametrize("garbage", [b"", b"FB", b"\0" * 500, b'{"metadata": {}}', bytes(range(256)) * 8])
def test_garbage_is_not_a_recording(garbage: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecording, match="not a sealed recording"):
        SealedRecording.open(garbage)
    (tmp_path / "x.fbrec").write_bytes(garbage)
    with pytest.raises(InvalidRecording, match=r"x\.fbrec"):
        ExecutionReplayer.load(tmp_path / "x.fbrec")


def test_a_newer_version_says_what_to_do(content: bytes) -> None:
    newer = _closed(HEADER.pack(MAGIC, 3, 0)) + content[HEADER.size :]

    with pytest.raises(UnsupportedVersion, match="format version 3; this program reads version 2: update"):
        SealedRecording.open(newer)


def test_a_bomb_is_refused(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recordings.frames.DECODED_LIMIT_BYTES", 10)

    with pytest.raises(DamagedRecording, match="would grow"):
        SealedRecording.open(content)


# --------------------------------------------------------------------------- size and speed


@pytest.mark.row("S0-36")
@pytest.mark.parametrize(("events", "limit"), [(10, 1_000), (1_000, 15_000), (10_000, 250_000)])
def test_sealed_recordings_are_small(events: int, limit: int) -> None:
    assert len(seal(record_long(events))) <= limit


def test_verify_of_a_replayer_covers_json_and_sealed(tmp_path: Path) -> None:
    for name in ("x.json.gz", "x.fbrec"):
        record_run().save_sync(tmp_path / name)
        replayer = ExecutionReplayer.load(tmp_path / name)
        replayer.verify()
        content = bytearray((tmp_path / name).read_bytes())
        content[len(content) // 3] ^= 0x10
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidRecording):
            replayer.verify()
