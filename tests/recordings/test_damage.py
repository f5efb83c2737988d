"""Whatever happens to a sealed file: what can be read is right, and what cannot is named."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.management import call_command

from recordings import ExecutionReplayer, FileRecordingStorage, SealedRecording, SealedWriter
from recordings.errors import DamagedRecording, InvalidRecording, UnsupportedVersion
from recordings.events import RecordingEvent, RecordingMetadata
from recordings.frames import HEADER, MAGIC, _closed
from tests.recordings.test_sealed import busy, seal

CASES = 1_000


class Whole(NamedTuple):
    """An undamaged file and what it says."""

    content: bytes
    events: dict[int, RecordingEvent]
    states: dict[int, dict[str, Any]]
    frames: tuple[Any, ...]


class Damage(NamedTuple):
    """What was done to a file: bytes ``start`` to ``stop`` of it are not what and where they were."""

    kind: str
    content: bytes
    start: int
    stop: int


@pytest.fixture(scope="module", params=[7, 16, 200])
def whole(request: pytest.FixtureRequest) -> Whole:
    content = seal(busy(request.param, events=150), frame_events=request.param)
    sealed = SealedRecording.open(content)
    events = {event.seq: event for event in sealed}
    states = {event.seq: sealed.state_at(position) for position, event in enumerate(sealed)}
    return Whole(content, events, states, tuple(sealed.frames))


def flip(content: bytes, chance: random.Random) -> Damage:
    place = chance.randrange(len(content))
    changed = bytearray(content)
    changed[place] ^= 1 << chance.randrange(8)
    return Damage("flip", bytes(changed), place, place + 1)


def cut(content: bytes, chance: random.Random) -> Damage:
    size = chance.randrange(len(content))
    return Damage("cut", content[:size], size, len(content))


def overwrite(content: bytes, chance: random.Random) -> Damage:
    start = chance.randrange(len(content))
    stop = min(start + chance.randrange(1, 400), len(content))
    filling = chance.choice([chance.randbytes(stop - start), bytes(stop - start), b"\xffFBe" * 100])[: stop - start]
    return Damage("overwrite", content[:start] + filling + content[stop:], start, stop)


def insert(content: bytes, chance: random.Random) -> Damage:
    place = chance.randrange(1, len(content))
    filling = chance.randbytes(chance.randrange(1, 90))
    return Damage("insert", content[:place] + filling + content[place:], place - 1, place + 1)


def remove(content: bytes, chance: random.Random) -> Damage:
    start = chance.randrange(len(content))
    stop = min(start + chance.randrange(1, 90), len(content))
    return Damage("remove", content[:start] + content[stop:], start, stop)


def repeat(content: bytes, chance: random.Random) -> Damage:
    start = chance.randrange(len(content))
    stop = min(start + chance.randrange(100, 2_000), len(content))
    return Damage("repeat", content[:stop] + content[start:], stop - 1, stop + 1)


KINDS: list[tuple[Callable[[bytes, random.Random], Damage], int]] = [
    (flip, 45), (cut, 20), (overwrite, 15), (insert, 8), (remove, 8), (repeat, 4),
]  # fmt: skip


def damages(whole: Whole, count: int) -> list[Damage]:
    chance = random.Random(len(whole.content))
    kinds, weights = zip(*KINDS, strict=True)
    made = [chance.choices(kinds, weights)[0](whole.content, chance) for _ in range(count)]
    return [damage for damage in made if damage.content != whole.content]


def read_what_there_is(sealed: SealedRecording, whole: Whole) -> set[int]:
    """Read every event and state; return the numbers of the events that came. What comes must be right."""
    came = set()
    for position in range(len(sealed)):
        with contextlib.suppress(DamagedRecording):
            event = sealed[position]
            assert event == whole.events[event.seq]
            came.add(event.seq)
            if position % 5 == 0:
                assert sealed.state_at(position) == whole.states[event.seq]
    return came


@pytest.mark.row("S0-40")
def test_a_thousand_damages_give_no_wrong_event_and_no_traceback(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "hurt.fbrec"
    for damage in damages(whole, CASES // 3 + 2):
        path.write_bytes(damage.content)
        shown = (damage.kind, damage.start)
        with pytest.raises(InvalidRecording, match=r"(?s)hurt\.fbrec: .*(byte|event)"):
            ExecutionReplayer.load(path).verify()
        with contextlib.suppress(InvalidRecording):
            opened = SealedRecording.open(path)
            came = read_what_there_is(opened, whole)
            report = opened.verify()  # all of it is in the cache by now
            assert not report.ok, shown
            assert came == {seq for first, last in report.intact for seq in range(first, last + 1)}, shown

        untouched = [
            frame
            for frame in whole.frames
            if frame.end <= damage.start or (damage.kind != "cut" and frame.offset >= damage.stop)
        ]
        wanted = {seq for frame in untouched for seq in range(frame.first_seq, frame.last_seq + 1)}
        try:
            recovered = SealedRecording.recover(path)
        except InvalidRecording:
            assert not wanted, shown
            continue
        came = read_what_there_is(recovered, whole)
        assert wanted <= came, shown
        report = recovered.verify()
        assert not report.ok or damage.start < whole.frames[0].offset or damage.start >= whole.frames[-1].end, shown
        assert came == {seq for first, last in report.intact for seq in range(first, last + 1)}, shown
        assert report.event_count == len(came) == len(recovered)
        lost = [item for item in report.damaged if item.first_seq is not None]
        for seq in whole.events.keys() - came:
            assert any(item.first_seq <= seq <= (item.last_seq or seq) for item in lost), (shown, seq)  # type: ignore[operator]


@pytest.mark.django_db
def test_the_command_names_the_place_of_each_damage(tmp_path: Path) -> None:
    path = tmp_path / "hurt.fbrec"
    identifier = FileRecordingStorage(tmp_path / "storage").save_sync(busy(16, events=150), path)
    content, chance = path.read_bytes(), random.Random(3)
    for kind in (flip, cut, overwrite, insert, remove, repeat) * 3:
        path.write_bytes(kind(content, chance).content)
        out = io.StringIO()
        with pytest.raises(SystemExit) as left:
            call_command(
                "recordings", "--storage", str(tmp_path / "storage"), "verify", identifier, "--json", stdout=out
            )
        said = json.loads(out.getvalue())
        assert left.value.code == 1
        assert said["ok"] is False
        assert "byte" in said["error"] or "event" in said["error"]


def test_all_damaged_ranges_are_named_and_so_is_what_is_intact() -> None:
    content = bytearray(seal(busy(16, events=150), frame_events=16))
    sealed = SealedRecording.open(bytes(content), "run 42")
    for number in (1, 4, 5):
        content[sealed.frames[number].parts[1][1] + 5] ^= 1
    content[sealed.frames[7].parts[2][1] + 5] ^= 1  # the state before frame 8

    report = SealedRecording.open(bytes(content), "run 42").verify()

    assert [(item.first_seq, item.last_seq) for item in report.damaged] == [(17, 32), (65, 80), (81, 96), (None, None)]
    assert report.intact == ((1, 16), (33, 64), (97, 152))
    assert report.event_count == 152 - 48
    with pytest.raises(
        DamagedRecording, match=r"run 42: events 17 to 32 .* events 65 to 80 .* intact events: 1 to 16, 33 to 64"
    ):
        report.check()


def test_damage_that_comes_after_reading_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.fbrec"
    path.write_bytes(seal(busy(3, events=30)))
    sealed = SealedRecording.open(path)
    assert sealed.verify().ok
    events = list(sealed)
    with path.open("r+b") as file:
        file.seek(sealed.frames[0].parts[1][1] + 9)
        file.write(b"\0\0\0")

    report = sealed.verify()

    assert list(sealed) == events  # from the cache
    assert [(item.first_seq, item.last_seq) for item in report.damaged] == [(1, 32)]
    assert report.intact == ()


def test_a_damaged_keyframe_costs_no_state() -> None:
    content = bytearray(seal(busy(16, events=300), frame_events=16))
    whole = SealedRecording.open(bytes(content))
    states = [whole.state_at(position) for position in range(len(whole))]
    for frame in whole.frames[1:]:
        if frame.number % 3 == 0:
            content[frame.parts[2][1] + 3] ^= 1

    hurt = SealedRecording.open(bytes(content))

    for position in random.Random(1).sample(range(len(hurt)), len(hurt)):
        assert hurt.state_at(position) == states[position], position
    assert all(item.first_seq is None for item in hurt.verify().damaged)


@pytest.mark.parametrize("version", [0, 1, 3, 4, 99, 65_535])
def test_another_version_is_refused_everywhere(version: int, tmp_path: Path) -> None:
    content = seal(busy(3, events=30))
    path = tmp_path / "x.fbrec"
    path.write_bytes(_closed(HEADER.pack(MAGIC, version, 0)) + content[HEADER.size :])

    for read in (SealedRecording.open, SealedRecording.recover, ExecutionReplayer.load):
        with pytest.raises(UnsupportedVersion, match=rf"x\.fbrec: format version {version}\b") as caught:
            read(path)
        assert ("update Flow Builder" in str(caught.value)) is (version > 2)


def test_a_flipped_version_is_damage_and_not_a_version() -> None:
    content = bytearray(seal(busy(3, events=30)))
    content[6] ^= 0x40

    with pytest.raises(DamagedRecording, match=r"the header is damaged \(bytes 0 to 12\)"):
        SealedRecording.open(bytes(content))
    assert len(SealedRecording.recover(bytes(content))) == 32


def test_without_an_index_the_numbers_of_frames_tell_what_is_missing() -> None:
    content = seal(busy(5, events=100), frame_events=16)
    frames = SealedRecording.open(content).frames
    start, inside = frames[1].offset, frames[3].parts[1][1] + 4
    headless = content[:start] + b"\0" * 30 + content[start + 30 : frames[-1].end]
    shorter = headless[:inside] + headless[inside + 7 :]

    recovered = SealedRecording.recover(shorter)

    assert [event.seq for event in recovered] == [*range(1, 17), *range(33, 49), *range(65, 103)]
    assert [(item.first_seq, item.last_seq) for item in recovered.damaged] == [(17, 32), (49, 64), (103, None)]


def test_a_file_says_what_it_is_before_its_first_event(tmp_path: Path) -> None:
    writer = SealedWriter.create(tmp_path / "x.fbrec", "w", RecordingMetadata("r", "begun", 1.0))
    writer.append(busy(3, events=5).events)

    with SealedRecording.recover(tmp_path / "x.fbrec") as recording:
        assert (len(recording), recording.metadata.workflow_name) == (0, "begun")
    with writer:
        pass
    with SealedRecording.recover(tmp_path / "x.fbrec") as recording:
        assert [event.seq for event in recording] == list(range(1, 8))
    with pytest.raises(FileExistsError):
        SealedWriter.create(tmp_path / "x.fbrec", "w")


def test_a_frame_of_another_run_is_not_taken_for_ours() -> None:
    mine, other = (seal(busy(seed, events=60), frame_events=16) for seed in (5, 6))
    frames, foreign = SealedRecording.open(mine).frames, SealedRecording.open(other).frames

    mixed = mine[: frames[1].offset] + other[foreign[1].offset : foreign[1].end] + mine[frames[2].offset :]

    recovered = SealedRecording.recover(mixed)
    assert [event.seq for event in recovered] == [*range(1, 17), *range(33, 63)]


def test_an_index_that_contradicts_the_file_is_refused() -> None:
    file = io.BytesIO()
    writer = SealedWriter(file, "w", frame_events=4)
    writer.append(busy(5, events=20).events)
    writer.event_count += 1
    writer.close(RecordingMetadata("r", "w", 0.0))

    with pytest.raises(DamagedRecording, match=r"the index at byte [\d,]+ cannot be read: its frames have 22 events"):
        SealedRecording.open(file.getvalue())
