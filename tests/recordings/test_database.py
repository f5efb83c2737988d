"""Event rows, sealing, purging, blobs: what readers see never changes."""

from __future__ import annotations

import hashlib
import random
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import storages
from django.db import connection, transaction
from django.utils import timezone

from recordings import (
    DatabaseRecordingStorage,
    ExecutionRecorder,
    ExecutionReplayer,
    RetentionPolicy,
    keeping,
    packing,
    rows,
    sources,
    tasks,
)
from recordings.blobs import drop_references, read_blob, remove_blobs, save_blob
from recordings.errors import BlobMissing, DamagedRecording, RecordingError, RecordingNotFound
from recordings.events import encode_json
from recordings.finding import find_recording, open_replayer, replayer_of
from recordings.models import Blob, BlobRef, Event, Recording, StoredFile
from recordings.packing import purge_rows, seal
from recordings.rows import iter_events, load_rows, open_sealed
from tests.recordings.conftest import record_run

Make = Callable[..., Any]


def everything(recording: Any) -> tuple[Any, ...]:
    """Return all that a reader can ask for: events and the state at each of them."""
    replayer = open_replayer(recording.execution_id or recording.pk)
    states = [replayer.get_state_at_event(event.event_id) for event in replayer.events]
    return list(iter_events(recording.execution_id or recording.pk)), list(replayer.events), states


@pytest.mark.postgres
@pytest.mark.row("S0-29")
def test_readers_do_not_notice_sealing_and_purging(make_execution: Make) -> None:
    recording = make_execution()
    before = everything(recording)

    assert seal(recording)
    recording.refresh_from_db()
    sealed = everything(recording)
    assert purge_rows(recording, 1000) == recording.event_count
    recording.refresh_from_db()
    purged = everything(recording)

    assert Event.objects.filter(execution_id=recording.execution_id).count() == 0
    assert recording.events_removed_at is not None
    assert before == sealed == purged
    assert [event.seq for event in before[0]] == list(range(1, recording.event_count + 1))
    assert before[2][-1] == {
        "region": "eu", "Html": "page 3", "Done": True, "$errors": {"node2": "still too slow"},
        "$nodes": {"node1": {"Html": "page 1", "Done": True}, "node3": {"Html": "page 3", "Done": True}},
    }  # fmt: skip


def test_sealing_fills_the_row(make_execution: Make) -> None:
    recording = make_execution()

    seal(recording)

    recording.refresh_from_db()
    assert recording.sealed_at is not None
    assert len(recording.checksum) == 64
    content = read_blob(recording.sealed)
    assert recording.file_size_bytes == len(content)
    assert hashlib.sha256(content).hexdigest() == recording.sealed
    assert BlobRef.objects.get().execution_id == recording.execution_id
    with open_sealed(recording) as sealed:
        assert sealed.checksum == recording.checksum
        assert sealed.metadata.recording_id == str(recording.pk)
        sealed.verify().check()


def test_outputs_come_from_the_node_run_and_stay_in_the_sealed_file(
    make_execution: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = make_execution(nodes=1)
    (event,) = [event for event in load_rows(str(recording.execution_id)) if event.event_type.value == "node_complete"]
    assert event.data["outputs"] == {"Html": "page 1", "Done": True}
    seal(recording)
    recording.refresh_from_db()
    purge_rows(recording, 1000)

    monkeypatch.setattr(sources, "OUTPUT_SOURCE", None)

    states = open_replayer(recording.pk).get_state_at_position(3)
    assert states["$nodes"] == {"node1": {"Html": "page 1", "Done": True}}


@pytest.mark.row("S0-38")
def test_large_outputs_stay_outside_the_sealed_file_and_are_read_when_they_are_asked_for(
    make_execution: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = make_execution(nodes=4)
    execution_id = recording.execution_id
    noise = random.Random(4).randbytes(40_000).hex()
    content = encode_json({"Html": noise, "Done": True})
    sha256 = save_blob(content, "application/json", execution_id)
    monkeypatch.setattr(sources, "OUTPUT_BLOBS", lambda _, nodes: {name: sha256 for name in nodes if name == "node3"})
    before = open_replayer(execution_id)
    events = [event for event in before.events if event.node_id != "node3"]
    seal(recording)
    recording.refresh_from_db()
    purge_rows(recording, 1000)
    assert recording.file_size_bytes < 3_000

    reads: list[str] = []

    def read(name: str) -> bytes:
        reads.append(name)
        return read_blob(name)

    monkeypatch.setattr(rows, "read_blob", read)
    with open_sealed(recording) as sealed:
        last = len(sealed) - 1
        assert [event for event in sealed if event.node_id != "node3"] == events
        reads.clear()
        assert sealed.verify().ok
        assert [node for _, node in sealed.iter_path()][-3:-1] == ["node4", "last"]
        assert sealed[2].data["attempt"] == 1
        assert reads == []
        state = sealed.state_at(last)
        assert reads == [sha256]
        (event,) = [event for event in sealed if event.node_id == "node3" and "outputs" in event.data]
        assert event.data["outputs"] == {"Html": noise, "Done": True} == state["$nodes"]["node3"]
        assert "outputs_missing" not in event.data
        assert state["Html"] == "page 4"
        assert sealed.state_at(event.seq - 1)["Html"] == noise

    storages["blobs"].delete(f"{sha256[:2]}/{sha256}")
    with open_sealed(recording) as sealed:
        (event,) = [event for event in sealed if event.node_id == "node3" and "outputs" in event.data]
        assert event.data["outputs"] == {"$blob": sha256}
        assert event.data["outputs_missing"] is True
        with pytest.raises(BlobMissing, match=rf"outputs of event {event.seq} are blob {sha256[:12]}"):
            sealed.state_at(last)


def test_lost_outputs_are_named(make_execution: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = make_execution(nodes=1)
    monkeypatch.setattr(sources, "OUTPUT_SOURCE", None)

    (event,) = [event for event in iter_events(recording.execution_id) if event.event_type.value == "node_complete"]

    assert event.data["outputs"] == {}
    assert event.data["outputs_missing"] is True


@pytest.mark.postgres
def test_two_sealers_make_one_recording(make_execution: Make) -> None:
    recording = make_execution(nodes=40)
    barrier, won = threading.Barrier(3), []

    def work() -> None:
        try:
            mine = Recording.objects.get(pk=recording.pk)
            barrier.wait()
            won.append(seal(mine))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(won) == [False, False, True]
    assert Blob.objects.count() == BlobRef.objects.count() == 1
    recording.refresh_from_db()
    assert seal(recording) is False


@pytest.mark.parametrize("place", ["refer", "keep_sealed"])
@pytest.mark.row("S0-43")
def test_a_crash_while_sealing_leaves_the_rows(
    make_execution: Make, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    recording = make_execution()
    before = everything(recording)
    original = getattr(packing, place)

    def crash(*args: Any, **kwargs: Any) -> Any:
        if place == "refer":
            original(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packing, place, crash)
        with pytest.raises(KeyboardInterrupt):
            seal(recording)

    assert Recording.objects.get().sealed == ""
    assert Blob.objects.count() == 0
    assert everything(recording) == before
    assert seal(recording)
    assert everything(Recording.objects.get()) == before


def test_missing_rows_are_never_sealed_away(make_execution: Make) -> None:
    recording = make_execution()
    Event.objects.filter(execution_id=recording.execution_id, seq=4).delete()

    with pytest.raises(RecordingError, match="only 10 of its 11 events"):
        seal(recording)

    assert Recording.objects.get().sealed == ""


def test_rows_stay_when_the_sealed_file_is_damaged(
    make_execution: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recording = make_execution()
    seal(recording)
    recording.refresh_from_db()

    def damaged(self: Any) -> None:
        raise DamagedRecording("recording 42: events 1 to 10 are damaged")

    with monkeypatch.context() as patch:
        patch.setattr("recordings.sealed.SealedRecording.verify", damaged)
        assert purge_rows(recording, 1000) == 0

    assert "will be sealed again" in caplog.text
    recording.refresh_from_db()
    assert recording.sealed == ""
    assert Event.objects.count() == recording.event_count
    assert seal(recording)


def test_a_reader_goes_on_while_rows_go(make_execution: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PAGE_EVENTS", 4)
    recording = make_execution(nodes=8)
    whole = list(iter_events(recording.execution_id))
    reader, sequence = iter_events(recording.execution_id), open_replayer(recording.execution_id)
    seen = [next(reader) for _ in range(3)]
    stepped = list(sequence.step_forward(3))
    seal(recording)
    recording.refresh_from_db()
    monkeypatch.setattr(packing, "PURGE_ROWS", 6)
    assert purge_rows(recording, 6) == 6
    assert list(iter_events(recording.execution_id, 2)) == whole[2:]
    recording.refresh_from_db()
    assert recording.events_removed_at is None
    purge_rows(recording, 1000)

    assert [*seen, *reader] == whole
    assert [*stepped, *sequence.step_forward()] == whole


@pytest.mark.postgres
def test_a_running_execution_can_be_replayed(make_execution: Make) -> None:
    recording = make_execution(finished=False)

    replayer = open_replayer(recording.execution_id)

    assert replayer.metadata.workflow_name == "shop"
    assert replayer.metadata.success is None
    assert len(replayer.events) == 10
    assert replayer.get_state_at_position(8)["$errors"] == {"node2": "still too slow"}
    assert replayer.get_event(replayer.events[4].event_id) == replayer.events[4]
    assert [event.event_type.value for event in replayer.get_node_events("node1")] == ["node_start", "node_complete"]


def test_nothing_recorded(blobs: str) -> None:
    with pytest.raises(RecordingNotFound, match="nothing was recorded"):
        open_replayer(uuid.uuid4())
    with pytest.raises(RecordingNotFound, match="not the id"):
        open_replayer("nonsense")
    assert list(iter_events(uuid.uuid4())) == []


def test_unknown_event_types_of_rows_are_kept(make_execution: Make) -> None:
    recording = make_execution()
    Event.objects.filter(execution_id=recording.execution_id, seq=2).update(type="quantum_leap")

    before = everything(recording)
    seal(recording)

    assert before[0][1].event_type.value == "quantum_leap"
    assert everything(Recording.objects.get()) == before


# --------------------------------------------------------------------------- finding


@pytest.mark.postgres
def test_recordings_are_found_by_unique_prefixes_of_both_ids(make_execution: Make, alice: Any, bob: Any) -> None:
    recording = make_execution(user=alice)
    other = make_execution(user=bob)

    for identifier in (recording.pk, recording.execution_id):
        assert find_recording(identifier).pk == recording.pk
        assert find_recording(str(identifier)[:8]).pk == recording.pk
        assert find_recording(str(identifier)[:13], alice).pk == recording.pk
        assert find_recording(str(identifier).replace("-", "").upper()).pk == recording.pk
        with pytest.raises(RecordingNotFound):
            find_recording(identifier, bob)
    assert find_recording(other.pk, alice).pk == other.pk  # a superuser sees all
    with pytest.raises(RecordingError, match="too short"):
        find_recording(str(recording.pk)[:7])
    with pytest.raises(RecordingNotFound, match="is not the id"):
        find_recording("%' OR 1=1")


def test_an_ambiguous_prefix_is_refused(make_execution: Make) -> None:
    for last in (1, 2):
        make_execution(id=uuid.UUID(f"aaaaaaaa-bbbb-4ccc-8ddd-00000000000{last}"))

    with pytest.raises(RecordingError, match="fits several"):
        find_recording("aaaaaaaa-bbbb")
    assert find_recording("aaaaaaaa-bbbb-4ccc-8ddd-000000000002").pk.int % 16 == 2


# --------------------------------------------------------------------------- tasks


def test_two_sealing_tasks_at_once_do_not_pack_the_same(make_execution: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two beats send two: what the other has sealed meanwhile is not even read."""
    for _ in range(6):
        make_execution()
    packed: list[Any] = []
    inner: list[int] = []

    def packing(recording: Recording) -> bool:
        packed.append(recording.pk)
        if len(packed) == 1:
            inner.append(tasks.seal_finished())
        return seal(recording)

    monkeypatch.setattr(tasks, "seal", packing)

    assert tasks.seal_finished() + inner[0] == 6
    assert len(packed) == 7
    assert len(set(packed)) == 6


@pytest.mark.postgres
def test_tasks_seal_purge_and_expire(make_execution: Make, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.EVENT_GRACE_SECONDS = 3600
    settings.RECORDING_DAYS = 30
    good = [make_execution(age_days=age, success=success) for age, success in ((1, True), (31, True), (31, False))]
    broken = make_execution(age_days=2)
    Event.objects.filter(execution_id=broken.execution_id, seq=1).delete()
    make_execution(finished=False)

    assert tasks.seal_finished() == 3
    assert f"recording {broken.pk}" in caplog.text
    assert tasks.purge_events() == 0
    Recording.objects.exclude(sealed="").update(sealed_at=timezone.now() - timedelta(hours=2))
    assert tasks.purge_events() == sum(recording.event_count for recording in good)
    assert tasks.retention() == 1

    assert set(Recording.objects.values_list("pk", flat=True)) == {good[0].pk, good[2].pk, broken.pk}
    assert Blob.objects.count() == 2
    settings.RECORDING_DAYS = 0
    assert tasks.retention() == 0


def test_the_task_names_are_fixed() -> None:
    assert [task.name for task in (tasks.seal_finished, tasks.purge_events, tasks.retention)] == [
        "recordings.seal", "recordings.purge_events", "recordings.retention",
    ]  # fmt: skip


def test_failures_are_kept_longer() -> None:
    policy = keeping.retention_policy()

    assert policy == RetentionPolicy(max_age_days=30, max_age_days_failed=90)


def test_a_workflow_that_says_how_long_says_it_of_its_failures_too(settings: Any) -> None:
    settings.RETENTION = {"max_age_days_failed": 400, "max_count": 7, "tags_to_keep": ["audit"]}

    assert keeping.retention_policy({"max_age_days": 10}) == RetentionPolicy(
        max_age_days=10, max_age_days_failed=30, tags_to_keep=["audit"]
    )
    assert keeping.retention_policy({"max_count": 3}) == RetentionPolicy(
        max_age_days=30, max_age_days_failed=400, max_count=3, tags_to_keep=["audit"]
    )


# --------------------------------------------------------------------------- blobs


@pytest.mark.row("S0-38")
def test_equal_bytes_are_stored_once(blobs: str) -> None:
    one, two = uuid.uuid4(), uuid.uuid4()

    names = {save_blob(b"page" * 9999, "text/html", owner) for owner in (one, two, str(one))}

    (name,) = names
    assert read_blob(name) == b"page" * 9999
    assert Blob.objects.get().size_bytes == 4 * 9999
    assert BlobRef.objects.count() == 2
    assert StoredFile.objects.count() == (1 if blobs == "rows" else 0)
    assert remove_blobs(drop_references([one])) == 0
    assert read_blob(name)
    assert remove_blobs(drop_references([two])) == 1
    assert Blob.objects.count() == StoredFile.objects.count() == 0
    with pytest.raises(BlobMissing):
        read_blob(name)


@pytest.mark.parametrize("name", ["", "../../../etc/passwd", "a" * 64, "A" * 64, "a" * 63 + "\n"])
def test_unknown_blobs(blobs: str, name: str) -> None:
    with pytest.raises(BlobMissing):
        read_blob(name)


@pytest.mark.postgres
def test_a_rolled_back_blob_can_be_saved_again(blobs: str) -> None:
    owner = uuid.uuid4()
    with transaction.atomic():
        name = save_blob(b"content", "text/plain", owner)
        transaction.set_rollback(True)
    assert Blob.objects.count() == 0

    assert save_blob(b"content", "text/plain", owner) == name
    assert read_blob(name) == b"content"


def test_a_lost_file_is_written_again(blobs: str) -> None:
    name = save_blob(b"content", "text/plain", uuid.uuid4())
    from django.core.files.storage import storages

    storages["blobs"].delete(f"{name[:2]}/{name}")
    with pytest.raises(BlobMissing):
        read_blob(name)

    save_blob(b"content", "text/plain", uuid.uuid4())

    assert read_blob(name) == b"content"


def test_a_changed_blob_is_refused(blobs: str) -> None:
    from django.core.files.storage import storages

    name = save_blob(b"content", "text/plain", uuid.uuid4())
    if blobs == "rows":
        StoredFile.objects.update(content=b"changed")
    else:
        with open(storages["blobs"].path(f"{name[:2]}/{name}"), "wb") as file:
            file.write(b"changed")

    with pytest.raises(DamagedRecording, match="SHA-256 does not fit"):
        read_blob(name)


@pytest.mark.postgres
def test_savers_and_removers_at_the_same_time_lose_nothing(blobs: str) -> None:
    stop, problems = threading.Event(), []

    def save() -> None:
        try:
            for _ in range(25):
                owner = uuid.uuid4()
                name = save_blob(b"shared content", "text/plain", owner)
                if read_blob(name) != b"shared content":
                    problems.append("changed")
                remove_blobs(drop_references([owner]))
        except Exception as error:
            problems.append(repr(error))
        finally:
            stop.set()
            connection.close()

    threads = [threading.Thread(target=save) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert Blob.objects.count() == 0


def test_forgotten_blobs_are_swept(blobs: str) -> None:
    kept = save_blob(b"kept", "text/plain", uuid.uuid4())
    lost = save_blob(b"lost", "text/plain", uuid.uuid4())
    BlobRef.objects.filter(blob_id=lost).delete()

    tasks.retention()
    assert Blob.objects.count() == 2
    Blob.objects.update(created_at=timezone.now() - timedelta(days=2))
    tasks.retention()

    assert list(Blob.objects.values_list("pk", flat=True)) == [kept]


@pytest.mark.postgres
def test_the_database_storage_filters_by_owner(blobs: str, alice: Any, bob: Any) -> None:
    mine = DatabaseRecordingStorage(bob)
    recording_id = mine.save_sync(record_run())

    assert [item["recording_id"] for item in mine.list_sync()] == [recording_id]
    assert len(DatabaseRecordingStorage(alice).list_sync()) == 1
    DatabaseRecordingStorage(alice).save_sync(record_run())
    assert mine.get_storage_stats_sync()["total_recordings"] == 1
    with pytest.raises(ValueError, match="cannot sort by"):
        mine.list_sync(sort_by="tags")


def test_saving_a_recording_again_replaces_it(blobs: str) -> None:
    storage, recorder = DatabaseRecordingStorage(), record_run()
    storage.save_sync(recorder)
    recorder.record_event("log", message="later")

    recording_id = storage.save_sync(recorder)

    assert len(storage.load_sync(recording_id).events) == 7
    assert storage.delete_sync(recording_id)
    assert Blob.objects.count() == 0


def test_the_local_cache_of_sealed_files_is_bounded(
    make_execution: Make, blobs: str, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(rows, "CACHE_BYTES", 1)
    recordings = [make_execution() for _ in range(3)]
    for recording in recordings:
        seal(recording)
        recording.refresh_from_db()
        assert isinstance(replayer_of(recording), ExecutionReplayer)

    directory = settings.DATA_DIR / "cache" / "sealed"
    assert [path.name for path in directory.glob("*")] == ([recordings[-1].sealed] if blobs == "rows" else [])


def test_long_texts_of_a_recorder_are_blobs_that_go_with_their_recording(blobs: str) -> None:
    recorder = ExecutionRecorder("shop", max_text=100, save_blob=save_blob)
    recorder.record_node_complete("a", {"Html": "page " * 100})
    storage = DatabaseRecordingStorage()
    recording_id = storage.save_sync(recorder)

    (event,) = storage.load_sync(recording_id).events
    name = event.data["outputs"]["Html"]["$blob"]

    assert read_blob(name) == b"page " * 100
    assert storage.delete_sync(recording_id)
    with pytest.raises(BlobMissing):
        read_blob(name)
