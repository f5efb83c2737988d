"""Events that a program writes into the database while it runs: what was flushed is there, whatever happens."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.utils import timezone

from recordings import DatabaseRecordingStorage, ExecutionRecorder, RetentionPolicy, record_workflow, tasks
from recordings.errors import RecordingError, RecordingNotFound
from recordings.events import RecordingEvent, RecordingEventType, RecordingMetadata, StateSnapshot
from recordings.models import Event, Recording
from recordings.packing import purge_rows, seal
from recordings.removing import delete_recording
from tests.conftest import test_environment, wait_for
from tests.environment import ROOT
from tests.recordings.conftest import blob_storage, record_run


@pytest.fixture(autouse=True)
def database(transactional_db: None, tmp_path: Path) -> Iterator[None]:
    """The database, with blobs in files."""
    with blob_storage("files", tmp_path):
        yield


PROGRAM = """
import sys, time
import django
django.setup()
from recordings import DatabaseRecordingStorage, record_workflow

with record_workflow("killed", tags=["a"], record_state_snapshots=True, write_ahead=DatabaseRecordingStorage()) as recorder:
    recorder.record_workflow_start({"region": "eu"})
    for number in range(1200):
        recorder.record_node_complete(f"n{number}", {"number": number})
    recorder.record_state_snapshot({"all": 1200})
    print(recorder.metadata.recording_id, flush=True)
    time.sleep(600)
"""


def begun(**fields: Any) -> RecordingMetadata:
    """Return what is known of a run that begins."""
    return RecordingMetadata(
        **{"recording_id": uuid.uuid4().hex, "workflow_name": "shop", "started_at": 10.0, **fields}
    )


@pytest.mark.postgres
def test_a_killed_program_keeps_in_the_database_what_was_flushed_and_another_finishes_it() -> None:
    storage = DatabaseRecordingStorage()
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**test_environment(), "DJANGO_SETTINGS_MODULE": "flowbuilder.settings"},
    )  # fmt: skip
    with program:
        try:
            assert program.stdout is not None
            recording_id = program.stdout.readline().strip()
            wait_for(lambda: Event.objects.count() == 1202, 60, "the events")
        finally:
            program.kill()

    (row,) = storage.list_sync()
    assert (row["recording_id"], row["success"], row["completed_at"]) == (recording_id, None, None)
    assert (row["workflow_name"], row["tags"], row["event_count"]) == ("killed", ["a"], 1202)
    assert storage.get_storage_stats_sync()["unfinished_count"] == 1
    with storage.load_sync(recording_id) as replayer:
        left = list(replayer.events)
        assert [event.seq for event in left] == list(range(1, 1203))
        before, after = (replayer.get_state_at_event(event.event_id) or {} for event in left[-2:])
        assert (before["number"], after) == (1199, {"all": 1200})
    assert tasks.seal_finished() == 0

    with storage.open_writer_sync(recording_id) as writer:
        end = {"success": False, "error": "it was killed", "final_state": {}}
        writer.write(RecordingEvent("", RecordingEventType.WORKFLOW_ERROR, left[-1].timestamp + 1, "", None, end))
        checksum = writer.close()

    with storage.load_sync(recording_id) as replayer:
        replayer.verify()
        assert list(replayer.events)[:-1] == left
        assert replayer.metadata.checksum == checksum
        assert (replayer.metadata.success, replayer.metadata.error) == (False, "it was killed")
        assert (replayer.metadata.node_count, replayer.metadata.event_count) == (1200, 1203)
        assert [snapshot.state for snapshot in replayer.snapshots] == [{"all": 1200}]


@pytest.mark.postgres
def test_what_nobody_wrote_for_a_day_is_finished_as_interrupted_with_its_state() -> None:
    storage, events = DatabaseRecordingStorage(), record_run(nodes=3).events
    now = timezone.now()

    def leave(hours: float | None, written: list[RecordingEvent]) -> str:
        with storage.open_writer_sync(begun(started_at=now.timestamp() - 90_000)) as writer:  # as a killed program does
            writer.append(written)
        at = None if hours is None else now - timedelta(hours=hours)
        Recording.objects.filter(pk=writer.recording_id).update(written_at=at)
        return writer.recording_id

    quiet, busy, empty, old, ended = (
        leave(hours, written)
        for hours, written in ((25, events[:-1]), (23, events[:5]), (25, []), (None, events[:3]), (25, events))
    )
    rows = Event.objects.count()

    tasks.retention()

    assert {row["recording_id"]: (row.get("status"), row["success"]) for row in storage.list_sync()} == {
        quiet: ("interrupted", None), busy: (None, None), empty: ("interrupted", None), old: ("interrupted", None),
        ended: (None, True),
    }  # fmt: skip
    assert {row.pk.hex: bool(row.sealed) for row in Recording.objects.all()} == {
        quiet: True, busy: False, empty: True, old: True, ended: True,
    }  # fmt: skip
    assert Event.objects.count() == rows, "they stay for the grace period, as those of every recording"
    with storage.load_sync(quiet) as replayer:
        replayer.verify()
        assert list(replayer.events) == events[:-1]
        assert replayer.get_state_at_position(len(events) - 2)["key3"] == 3
        assert replayer.metadata.completed_at == events[-2].timestamp
    with pytest.raises(RecordingError, match="is complete"):
        storage.open_writer_sync(quiet)
    with storage.open_writer_sync(busy) as writer:
        writer.append(events[5:])
        writer.close()
    assert storage.get_storage_stats_sync()["success_count"] == 2


def test_going_on_with_a_recording_keeps_it_open_for_another_day() -> None:
    storage, events = DatabaseRecordingStorage(), record_run().events
    with storage.open_writer_sync(begun(started_at=time.time())) as writer:
        writer.append(events[:2])

    def a_night_passes() -> None:
        Recording.objects.update(written_at=timezone.now() - timedelta(days=2))

    a_night_passes()
    with storage.open_writer_sync(writer.recording_id) as again:
        assert tasks.retention() == 0
        a_night_passes()
        again.append(events[2:4])
        again.flush()
        assert tasks.retention() == 0
        assert not Recording.objects.get().sealed
        a_night_passes()
        assert tasks.retention() == 0
        assert Recording.objects.get().sealed
        again.append(events[4:])
        with pytest.raises(RecordingError, match="finished while its events were written"):
            again.flush()
        again._waiting.clear()
    with storage.load_sync(writer.recording_id) as replayer:
        assert list(replayer.events) == events[:4]


@pytest.mark.postgres
async def test_what_is_written_ahead_is_the_recording_that_saving_would_make() -> None:
    storage = DatabaseRecordingStorage()
    async with record_workflow("shop", tags=["a"], record_state_snapshots=True, write_ahead=storage) as recorder:
        recorder.record_workflow_start({"region": "eu"})
        recorder.record_node_start("a\0b", {"x": 1})
        recorder.record_event("a type that is longer than any column", "n" * 300, key="value")
        recorder.record_recursion_enter("loop", "outer")
        recorder.record_node_complete("a\0b", {"$outputs": True}, 0.5)
        recorder.record_recursion_exit("loop", "outer")
        recorder.record_node_complete("y", None, 0.5)
        recorder.record_workflow_complete({"done": True}, True)

    identifier = recorder.metadata.recording_id
    ahead = await storage.load(identifier)
    events = list(ahead.events)
    states = [ahead.get_state_at_position(place) for place in range(len(events))]
    shown = {**ahead.metadata.to_dict(), "checksum": None, "file_size_bytes": None}
    ahead.close()
    assert events == recorder.events
    assert await storage.save(recorder) == identifier
    saved = await storage.load(identifier)
    assert list(saved.events) == events
    assert [saved.get_state_at_position(place) for place in range(len(events))] == states
    assert {**saved.metadata.to_dict(), "checksum": None, "file_size_bytes": None} == shown
    saved.close()
    assert await Event.objects.acount() == 0


def test_readers_see_the_same_events_before_and_after_sealing() -> None:
    storage, recorder = DatabaseRecordingStorage(), record_run(nodes=300)
    recorder.write_ahead(storage)
    identifier = recorder.metadata.recording_id

    def seen() -> list[Any]:
        with storage.load_sync(identifier) as replayer:
            found = [list(replayer.events), list(storage.iter_events_sync(identifier, 400, 7))]
            places = [replayer.position_of(event.event_id) for event in recorder.events]
            return [*found, places, replayer.get_state_at_position(500)]

    open_ = seen()
    recorder.finalize()
    recording = Recording.objects.get()
    assert open_[0] == recorder.events
    assert open_[2] == list(range(602))
    assert seen() == open_
    assert recording.sealed
    assert purge_rows(recording, 10_000) == 602
    assert seen() == open_


@pytest.mark.parametrize(("options", "written"), [({}, 500), ({"flush_seconds": 0.0}, 502)])
def test_events_are_committed_together_by_number_or_time(options: dict[str, float], written: int) -> None:
    with DatabaseRecordingStorage().open_writer_sync(begun(), **options) as writer:
        writer.append(record_run(nodes=250).events)
        assert Event.objects.count() == written
        assert Recording.objects.get().event_count == written
        writer.flush()
        assert Event.objects.count() == 502 == writer.event_count


def test_many_bytes_are_committed_early() -> None:
    with DatabaseRecordingStorage().open_writer_sync(begun(), flush_seconds=60) as writer:
        writer.write(RecordingEvent("", RecordingEventType.LOG, 1.0, "", None, {"message": "x" * (1 << 20)}))
        assert Event.objects.count() == 1


def test_foreign_ids_times_and_metadata_come_back() -> None:
    storage = DatabaseRecordingStorage()
    event = RecordingEvent(
        "my-id", RecordingEventType.LOG, 1.23456789012, "elsewhere", "", {"$written": 1, "data": 2}, {"mine": [1]}, 1
    )
    deep = replace(event, seq=2, metadata={"recursion_depth": 1 << 20}, event_id="other", node_id=None)
    plain = replace(event, seq=3, metadata={}, event_id="third", timestamp=2.5)
    with storage.open_writer_sync(begun()) as writer:
        writer.append([event, deep, plain])
        writer.flush()
        with storage.load_sync(writer.recording_id) as replayer:
            assert list(replayer.events) == [event, deep, plain]
            assert [replayer.position_of(name) for name in ("my-id", "third", "none")] == [0, 2, None]
        writer.close()
    with storage.load_sync(writer.recording_id) as replayer:
        assert list(replayer.events) == [event, deep, plain]


def test_snapshots_that_no_event_names_are_kept() -> None:
    storage = DatabaseRecordingStorage()
    with storage.open_writer_sync(begun()) as writer:
        writer.close(begun(recording_id=writer.recording_id), [StateSnapshot("s", 3.0, "w", "n", {"k": 1}, 2, ["a"])])

    with storage.load_sync(writer.recording_id) as replayer:
        (snapshot,) = replayer.snapshots
        assert (snapshot.snapshot_id, snapshot.state, snapshot.execution_stack) == ("s", {"k": 1}, ["a"])


@pytest.mark.postgres
def test_two_writers_of_one_recording_do_not_mix() -> None:
    storage, events = DatabaseRecordingStorage(), record_run(nodes=3).events
    with storage.open_writer_sync(begun()) as first:
        first.append(events[:4])
        first.flush()
        with storage.open_writer_sync(first.recording_id) as second:
            second.write(events[4])
        first.write(replace(events[4], node_id="mixed"))
        with pytest.raises(RecordingError, match="somebody else writes it"):
            first.flush()
        first._waiting.clear()
    with storage.load_sync(first.recording_id) as replayer:
        assert list(replayer.events) == events[:5]
    assert Recording.objects.get().event_count == 5


def test_what_cannot_be_written_is_refused() -> None:
    storage, recorder = DatabaseRecordingStorage(), record_run()
    with pytest.raises(RecordingNotFound, match="no recording"):
        storage.open_writer_sync("nothing")
    identifier = storage.save_sync(recorder)
    with pytest.raises(RecordingError, match="is complete"):
        storage.open_writer_sync(identifier)
    with pytest.raises(RecordingError, match="already; give its id"):
        storage.open_writer_sync(recorder.metadata)
    with storage.open_writer_sync(begun()) as writer, pytest.raises(ValueError, match="without gaps"):
        writer.write(recorder.events[1])


def test_a_recording_that_is_removed_while_it_is_written_takes_its_rows_along() -> None:
    recorder = ExecutionRecorder("shop")
    recorder.write_ahead(DatabaseRecordingStorage(), flush_seconds=60)
    recorder.record_workflow_start({})
    recorder._flush_ahead()
    assert Event.objects.count() == 1

    assert delete_recording(Recording.objects.get())

    assert Event.objects.count() == 0
    recorder.record_workflow_complete({}, True)
    assert recorder.finalize().success is True
    assert (Event.objects.count(), Recording.objects.count()) == (0, 0)


def test_a_recording_that_was_finished_but_not_sealed_is_sealed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    storage, recorder = DatabaseRecordingStorage(), record_run()
    with monkeypatch.context() as patch:
        patch.setattr("recordings.packing.seal", lambda recording: False)
        recorder.write_ahead(storage)
        recorder.finalize()
    assert not Recording.objects.get().sealed

    assert tasks.seal_finished() == 1

    with storage.load_sync(recorder.metadata.recording_id) as replayer:
        replayer.verify()
        assert list(replayer.events) == recorder.events


def test_sizes_and_retention_count_what_is_still_written() -> None:
    storage = DatabaseRecordingStorage()
    with storage.open_writer_sync(begun()) as writer:
        writer.append(record_run(nodes=100).events)
        writer.flush()
        stats = storage.get_storage_stats_sync()
        assert stats["total_size_bytes"] == stats["workflow_sizes"]["shop"] > 10_000
        plan = storage.apply_retention_policy_sync(RetentionPolicy(max_size_gb=1e-9), dry_run=True)
        assert plan["total_size_bytes"] == stats["total_size_bytes"]


def test_kept_recordings_do_not_hold_up_the_removal_of_sealed_rows(
    make_execution: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = DatabaseRecordingStorage()
    for _ in range(3):
        storage.save_sync(record_run())
    for sha256 in Recording.objects.values_list("sealed", flat=True):
        storages["blobs"].delete(f"{sha256[:2]}/{sha256}")
    seal(make_execution())
    Recording.objects.update(sealed_at=timezone.now() - timedelta(days=9))
    monkeypatch.setattr(tasks, "PURGE_RECORDINGS", 2)

    removed = [tasks.purge_events() for _ in range(3)]

    assert sum(removed) > 0
    assert Event.objects.count() == 0
    assert len(storage.list_sync()) == 4


def test_a_damaged_file_whose_rows_are_partly_gone_is_not_given_up(
    make_execution: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = make_execution()
    seal(recording)
    recording.refresh_from_db()
    Event.objects.filter(execution_id=recording.execution_id, seq=1).delete()
    monkeypatch.setattr("recordings.packing.open_sealed", _raise)

    assert purge_rows(recording, 100) == 0

    recording.refresh_from_db()
    assert recording.sealed


def _raise(recording: Any) -> Any:
    raise RecordingError("it is damaged")


@pytest.mark.row("S0-11")
def test_writing_ahead_takes_no_time_of_the_run() -> None:
    recorder = ExecutionRecorder("fast")
    recorder.write_ahead(DatabaseRecordingStorage(), flush_seconds=60)
    started = time.process_time()
    for number in range(2_000):
        recorder.record_node_complete("n", {"number": number})
    assert time.process_time() - started < 0.5
    recorder.finalize()
    assert Recording.objects.get().event_count == 2_000
