"""One suite for every storage: files, memory, database (blobs in files and in rows)."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from recordings import (
    ExecutionRecorder,
    ExecutionReplayer,
    FileRecordingStorage,
    InMemoryRecordingStorage,
    InvalidRecording,
    RecordingError,
    RecordingQuery,
    RetentionPolicy,
    SealedRecording,
    SealedWriter,
    StorageBackend,
)
from recordings.errors import RecordingProtected, TooManyTags
from recordings.events import RecordingMetadata
from recordings.retention import DAY_SECONDS
from recordings.sealing import is_being_written
from tests.recordings.conftest import record_run

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def keep(storage: Any, *, days: float = 0, seconds: float | None = 1.0, **options: Any) -> str:
    """Save a run that started ``days`` ago and took ``seconds``, and return its id."""
    success = options.pop("success", True)
    recorder = record_run(options.pop("name", "shop"), **options)
    metadata = recorder.metadata
    metadata.started_at = datetime.now(UTC).timestamp() - days * DAY_SECONDS
    metadata.success = success
    metadata.duration_seconds = seconds
    return str(storage.save_sync(recorder))


@pytest.mark.row("S0-13")
async def test_save_and_load(storage: Any) -> None:
    recorder = record_run()

    recording_id = await storage.save(recorder)
    replayer = await storage.load(recording_id)

    assert recording_id == recorder.metadata.recording_id
    assert list(replayer.events) == recorder.events
    assert replayer.metadata.workflow_name == "shop"
    assert replayer.metadata.checksum == recorder.metadata.checksum
    metadata = await storage.get_metadata(recording_id)
    assert metadata["recording_id"] == recording_id
    assert metadata["file_size_bytes"] > 0
    assert len(metadata["checksum"]) == 64
    replayer.verify()
    assert [item["recording_id"] for item in await storage.list()] == [recording_id]
    assert (await storage.get_storage_stats())["total_recordings"] == 1
    result = await storage.apply_retention_policy(RetentionPolicy(max_count=0))
    assert result["deleted_ids"] == [recording_id]
    assert await storage.delete(recording_id) is False


@pytest.mark.row("S0-13")
async def test_unknown_recordings(storage: Any) -> None:
    for unknown in ("0" * 32, "../../etc/passwd", "no such id", "ab"):
        with pytest.raises(FileNotFoundError, match="no recording"):
            await storage.load(unknown)
        assert await storage.get_metadata(unknown) is None
        assert await storage.delete(unknown) is False


@pytest.mark.row("S0-13")
def test_list(storage: Any) -> None:
    ids = [keep(storage, name=name, days=days) for name, days in (("a", 3), ("b", 1), ("a", 2))]

    assert [item["recording_id"] for item in storage.list_sync()] == [ids[1], ids[2], ids[0]]
    assert [item["recording_id"] for item in storage.list_sync(RecordingQuery(workflow_name="b"))] == [ids[1]]


def test_list_takes_keywords_too(storage: Any) -> None:
    """D8: the reference raised TypeError for what its own documentation shows."""
    keep(storage, name="a")
    keep(storage, name="b")

    assert [item["workflow_name"] for item in storage.list_sync(workflow_name="b")] == ["b"]
    with pytest.raises(TypeError, match="colour"):
        storage.list_sync(colour="blue")
    with pytest.raises(TypeError, match="not both"):
        storage.list_sync(RecordingQuery(), limit=1)


def test_sorting_puts_what_is_not_known_last(storage: Any) -> None:
    """D7: the reference raised TypeError for None."""
    ids = [keep(storage, seconds=seconds) for seconds in (2.0, None, 5.0)]

    def order(direction: str) -> list[int]:
        found = storage.list_sync(sort_by="duration", sort_order=direction)
        return [ids.index(item["recording_id"]) for item in found]

    assert order("asc") == [0, 2, 1]
    assert order("desc") == [2, 0, 1]


@pytest.mark.row("S0-32")
def test_filters(storage: Any) -> None:
    old = keep(storage, days=10, seconds=0.0, tags=["production", "critical"])
    new = keep(storage, days=1, seconds=20.0, tags=["production"], success=False)
    keep(storage, days=1, seconds=None, success=None)

    def found(**filters: Any) -> set[str]:
        return {item["recording_id"] for item in storage.list_sync(**filters)}

    moment = datetime.now(UTC) - timedelta(days=5)
    assert found(end_date=moment) == {old}
    assert new in found(start_date=moment)
    assert old not in found(start_date=moment)
    assert found(success=True) == {old}
    assert found(success=False) == {new}
    assert found(max_duration=0) == {old}
    assert found(min_duration=0) == {old, new}
    assert found(tags=["production"]) == {old, new}
    assert found(tags=["critical", "production"]) == {old}
    assert found(recording_id=old[:8]) == {old}
    assert found(recording_id=old[:7]) == set()
    assert found(recording_id=new) == {new}
    assert len(storage.list_sync(limit=2, offset=1)) == 2
    assert storage.list_sync(limit=0) == []


def test_a_query_checks_its_values() -> None:
    with pytest.raises(ValueError, match='"asc" or "desc"'):
        RecordingQuery(sort_order="up")
    with pytest.raises(ValueError, match="negative"):
        RecordingQuery(limit=-1)


def test_delete(storage: Any) -> None:
    recording_id = keep(storage)
    other = keep(storage)

    assert storage.delete_sync(recording_id) is True
    assert storage.get_metadata_sync(recording_id) is None
    assert storage.delete_sync(recording_id) is False
    assert len((storage.load_sync(other)).events) == 6


@pytest.mark.row("S0-32")
def test_tags_can_be_added_and_removed_later(storage: Any) -> None:
    recording_id = keep(storage, tags=["nightly"])
    other = keep(storage)

    assert async_to_sync(storage.tag)(recording_id, add=["legal-hold", "nightly"]) == ["nightly", "legal-hold"]
    assert storage.tag_sync(recording_id, add=["seen"], remove=["nightly", "no such tag"]) == ["legal-hold", "seen"]

    assert storage.get_metadata_sync(recording_id)["tags"] == ["legal-hold", "seen"]
    assert storage.load_sync(recording_id).metadata.tags == ["legal-hold", "seen"]
    storage.load_sync(recording_id).verify()
    assert [item["recording_id"] for item in storage.list_sync(any_tags=["x", "seen"])] == [recording_id]
    assert storage.list_sync(tags=["x", "seen"]) == []
    assert storage.list_sync(any_tags=["x"]) == []
    assert storage.get_metadata_sync(other)["tags"] == []
    for bad in ([""], [3], "seen"):
        with pytest.raises(ValueError, match="tag"):
            storage.tag_sync(recording_id, add=bad)
    with pytest.raises(FileNotFoundError, match="no recording"):
        storage.tag_sync("0" * 32, add=["a"])
    with pytest.raises(TooManyTags, match="at most 50 tags"):
        storage.tag_sync(recording_id, add=map(str, range(51)))


async def numbers(events: AsyncIterator[Any]) -> list[int]:
    return [event.seq async for event in events]


def test_events_are_iterated_from_any_number_on(storage: Any) -> None:
    recorder = record_run()
    recording_id = storage.save_sync(recorder)

    assert list(storage.iter_events_sync(recording_id, batch=1)) == recorder.events
    assert [event.seq for event in storage.iter_events_sync(recording_id, after_seq=4)] == [5, 6]
    assert async_to_sync(numbers)(storage.iter_events(recording_id, 2, batch=3)) == [3, 4, 5, 6]
    assert list(storage.iter_events_sync(recording_id, after_seq=6)) == []
    with pytest.raises(FileNotFoundError, match="no recording"):
        storage.iter_events_sync("0" * 32)
    with pytest.raises(ValueError, match="batch"):
        storage.iter_events_sync(recording_id, batch=0)


@pytest.mark.row("S0-16")
@pytest.mark.parametrize("name", ["x.json", "x.json.gz", "x.fbrec"])
def test_export_and_import_give_the_same_recording(storage: Any, tmp_path: Path, name: str) -> None:
    recorder = record_run(tags=["a"], record_state_snapshots=True)
    recorder.record_state_snapshot({"total": 3}, "node2")
    recording_id = storage.save_sync(recorder)

    path = async_to_sync(storage.export)(recording_id, tmp_path / name)

    assert path == tmp_path / name
    assert list(ExecutionReplayer.load(path).events) == recorder.events
    assert async_to_sync(storage.import_file)(path) == recording_id
    assert storage.delete_sync(recording_id)
    assert storage.import_file_sync(path) == recording_id
    replayer = storage.load_sync(recording_id)
    replayer.verify()
    assert list(replayer.events) == recorder.events
    assert list(replayer.snapshots) == recorder.snapshots
    assert replayer.metadata.tags == ["a"]
    recorder.record_event("log", message="more")
    recorder.save_sync(path)
    with pytest.raises(RecordingError, match="with other events already"):
        storage.import_file_sync(recorder.path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidRecording, match=name):
        storage.import_file_sync(path)
    assert len(storage.load_sync(recording_id).events) == 7


@pytest.mark.row("S0-27")
def test_stats(storage: Any) -> None:
    """D15: the reference counted what never ended as failed."""
    assert storage.get_storage_stats_sync()["oldest_recording"] is None
    keep(storage, name="a")
    keep(storage, name="a", days=2)
    keep(storage, name="b", success=False)
    keep(storage, name="b", success=None)

    stats = storage.get_storage_stats_sync()

    assert stats["total_recordings"] == 4
    assert (stats["success_count"], stats["failed_count"], stats["unfinished_count"]) == (2, 1, 1)
    assert stats["workflow_counts"] == {"a": 2, "b": 2}
    assert stats["total_duration_seconds"] == 4.0
    assert stats["total_size_bytes"] == sum(item["file_size_bytes"] for item in storage.list_sync())
    assert stats["newest_recording"] - stats["oldest_recording"] == pytest.approx(2 * DAY_SECONDS, abs=60)


@pytest.mark.row("S0-14")
@pytest.mark.row("S0-28")
def test_retention_by_age(storage: Any) -> None:
    """D6 and D12: in memory the reference raised TypeError; its dry run never named anything."""
    ids = [keep(storage, days=days) for days in (0.5, 1.5, 2.5, 3.5, 4.5)]
    policy = RetentionPolicy(max_age_days=2)

    dry = storage.apply_retention_policy_sync(policy, dry_run=True)

    assert dry["to_delete"] == 3
    assert dry["candidate_ids"] == ids[:1:-1]
    assert dry["deleted_ids"] == []
    assert dry["total_size_bytes"] > 0
    assert len(storage.list_sync()) == 5
    done = storage.apply_retention_policy_sync(policy)
    assert done["deleted_ids"] == dry["candidate_ids"]
    assert done["total_recordings"] == 5
    assert {item["recording_id"] for item in storage.list_sync()} == set(ids[:2])


@pytest.mark.row("S0-14")
def test_retention_by_count_and_size(storage: Any) -> None:
    """D5: the reference ignored both."""
    ids = [keep(storage, days=days) for days in range(5)]

    assert storage.apply_retention_policy_sync(RetentionPolicy(max_count=2))["deleted_ids"] == ids[:1:-1]
    left = storage.list_sync()
    assert [item["recording_id"] for item in left] == ids[:2]
    size = left[0]["file_size_bytes"] + left[1]["file_size_bytes"] - 1
    result = storage.apply_retention_policy_sync(RetentionPolicy(max_size_gb=size / (1 << 30)))
    assert result["deleted_ids"] == [ids[1]]


@pytest.mark.row("S0-14")
def test_retention_keeps_tags_and_failures(storage: Any) -> None:
    tagged = keep(storage, days=50, tags=["critical"])
    failed = keep(storage, days=40, success=False)
    old_failure = keep(storage, days=400, success=False)
    unfinished = keep(storage, days=30, success=None)

    policy = RetentionPolicy(max_age_days=7, max_count=0, tags_to_keep=["critical"], max_age_days_failed=90)
    result = storage.apply_retention_policy_sync(policy)

    assert set(result["deleted_ids"]) == {old_failure, unfinished}
    assert result["kept_by_rule"] == {"tag": 1, "failed": 1}
    assert {item["recording_id"] for item in storage.list_sync()} == {tagged, failed}
    assert policy.should_keep(
        {"recording_id": "x", "started_at": NOW.timestamp(), "success": True}, now=NOW.timestamp()
    )


# --------------------------------------------------------------------------- memory


def test_memory_clear() -> None:
    storage = InMemoryRecordingStorage()
    keep(storage)
    assert len(storage._recordings) == 1

    storage.clear()

    assert storage.list_sync() == []


# --------------------------------------------------------------------------- files


def test_file_layout(tmp_path: Path) -> None:
    inside = FileRecordingStorage(tmp_path / "data")
    direct = FileRecordingStorage(tmp_path / "other" / "recordings", compress=False)

    first, second = keep(inside), keep(direct)

    assert (tmp_path / "data" / "recordings" / f"{first}.json.gz").exists()
    assert (tmp_path / "data" / "index.json").exists()
    assert (tmp_path / "other" / "recordings" / f"{second}.json").exists()
    assert (tmp_path / "other" / "index.json").exists()


def test_save_under_a_path_of_your_own(tmp_path: Path) -> None:
    """D1: the reference raised UnboundLocalError."""
    storage = FileRecordingStorage(tmp_path / "data")
    recorder = record_run()

    recording_id = storage.save_sync(recorder, tmp_path / "mine.fbrec")

    assert (tmp_path / "mine.fbrec").exists()
    assert list(storage.load_sync(recording_id).events) == recorder.events
    assert storage.list_sync()[0]["filepath"] == str(tmp_path / "mine.fbrec")
    assert storage.delete_sync(recording_id)
    assert not (tmp_path / "mine.fbrec").exists()


@pytest.mark.parametrize("damage", [None, b"", b"{", b"[]", b'{"recordings": {"x": {}}}'])
def test_the_index_is_only_a_cache(tmp_path: Path, damage: bytes | None) -> None:
    """D14: the reference lost all recordings with its index."""
    storage = FileRecordingStorage(tmp_path / "data")
    ids = {keep(storage), keep(storage)}
    if damage is None:
        storage.index_file.unlink()
    else:
        storage.index_file.write_bytes(damage)

    assert {item["recording_id"] for item in storage.list_sync()} == ids
    assert storage.rebuild_index() == 2
    assert set(json.loads(storage.index_file.read_text())["recordings"]) == ids
    third = keep(storage)
    assert {item["recording_id"] for item in storage.list_sync()} == {*ids, third}


def test_many_writers_share_an_index(tmp_path: Path) -> None:
    """D14: the reference's index lost entries of writers that ran at the same time."""

    def work() -> None:
        storage = FileRecordingStorage(tmp_path / "data")
        for _ in range(10):
            storage.save_sync(ExecutionRecorder("shop"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(FileRecordingStorage(tmp_path / "data").list_sync()) == 40


async def test_cleanup_of_empty_and_damaged_files(tmp_path: Path) -> None:
    storage = FileRecordingStorage(tmp_path / "data")
    good, gone, damaged = (keep(storage) for _ in range(3))
    (storage.recordings_dir / f"{gone}.json.gz").unlink()
    (storage.recordings_dir / f"{damaged}.json.gz").write_bytes(b"\x1f\x8bnonsense")
    (storage.recordings_dir / "stray.json").write_bytes(b"")

    assert await storage.cleanup_empty_files() == 3
    assert [item["recording_id"] for item in storage.list_sync()] == [good]
    assert [path.name for path in storage.recordings_dir.iterdir()] == [f"{good}.json.gz"]


def test_a_recording_that_is_kept_in_another_form_is_there_once_and_gone_after_its_removal(tmp_path: Path) -> None:
    storage, recorder = FileRecordingStorage(tmp_path / "data"), record_run()
    identifier = storage.save_sync(recorder)
    recorder.save_sync(tmp_path / "x.fbrec")
    with ExecutionReplayer.load(tmp_path / "x.fbrec") as sealed:
        storage.keep_sync(sealed.metadata, sealed.events, [], recorder.workflow_id)

    assert [path.name for path in storage.recordings_dir.iterdir()] == [f"{identifier}.fbrec"]
    (storage.recordings_dir / f"{identifier}.json").write_bytes((tmp_path / "x.fbrec").read_bytes())
    assert storage.delete_sync(identifier)
    assert storage.list_sync() == []
    assert list(storage.recordings_dir.iterdir()) == []


LIVING_WRITER = """
import sys
from recordings import SealedWriter
from recordings.events import RecordingMetadata
from tests.recordings.test_killed_writer import written

with SealedWriter.create(sys.argv[1], "w", RecordingMetadata("living", "shop", 1.0)) as writer:
    if sys.argv[2] == "flushed":
        writer.append(written(seq) for seq in range(1, 4))
        writer.flush()
    print("writing", flush=True)
    sys.stdin.readline()
    writer.append(written(seq) for seq in range(4, 6))
    writer.close(RecordingMetadata("living", "shop", 1.0, success=True))
"""


@pytest.mark.parametrize("far", ["begun", "flushed"])
def test_cleanup_keeps_a_file_that_another_process_writes(tmp_path: Path, far: str) -> None:
    storage = FileRecordingStorage(tmp_path / "data")
    path = storage.recordings_dir / "living.fbrec"
    command = [sys.executable, "-c", LIVING_WRITER, str(path), far]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        assert is_being_written(path)
        assert storage.cleanup_empty_files_sync() == 0
        writer.communicate("go on\n", timeout=20)

    assert writer.returncode == 0
    assert not is_being_written(path)
    assert storage.cleanup_empty_files_sync() == 0
    with storage.load_sync("living") as replayer:
        assert [event.seq for event in replayer.events] == list(range(1 if far == "flushed" else 4, 6))


@pytest.mark.parametrize(("far", "gone"), [("begun", 1), ("flushed", 0)])
def test_cleanup_removes_what_a_killed_writer_left_only_when_no_event_is_in_it(
    tmp_path: Path, far: str, gone: int
) -> None:
    storage = FileRecordingStorage(tmp_path / "data")
    path = storage.recordings_dir / "living.fbrec"
    command = [sys.executable, "-c", LIVING_WRITER, str(path), far]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        writer.kill()

    assert storage.cleanup_empty_files_sync() == gone
    assert path.exists() is not bool(gone)
    if not gone:
        with SealedRecording.recover(path) as left:
            assert len(left) == 3


def test_a_writer_begins_again_when_its_new_file_was_removed_before_it_was_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "x.fbrec", fcntl.flock
    removals = iter([True])

    def flock(descriptor: int, operation: int) -> None:
        if next(removals, False):
            path.unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with SealedWriter.create(path, "w") as writer:
        writer.close(RecordingMetadata("r", "shop", 1.0))

    assert len(SealedRecording.open(path)) == 0


def test_backends(tmp_path: Path) -> None:
    assert [backend.value for backend in StorageBackend] == ["file", "database", "postgresql", "mongodb"]
    assert isinstance(StorageBackend.FILE.open(base_path=tmp_path), FileRecordingStorage)
    assert type(StorageBackend.POSTGRESQL.open()).__name__ == "DatabaseRecordingStorage"
    with pytest.raises(NotImplementedError, match="RecordingStorage"):
        StorageBackend.MONGODB.open()


@pytest.mark.row("S0-14")
def test_what_is_protected_counts_towards_the_totals_but_is_never_chosen() -> None:
    """The two oldest are protected; room for three in all leaves room for one other."""
    rows = [
        {"recording_id": f"r{age}", "started_at": -age * 86400.0, "success": age != 5, "file_size_bytes": 1 << 29,
         "tags": ["critical"] if age == 4 else []}
        for age in range(1, 6)
    ]  # fmt: skip

    by_count = RetentionPolicy(max_count=3, tags_to_keep=["critical"]).plan(rows, now=0.0)
    by_size = RetentionPolicy(max_size_gb=1.5, tags_to_keep=["critical"]).plan(rows, now=0.0)

    assert by_count.delete == by_size.delete == ["r3", "r2"]
    assert by_count.kept_by_rule == {"failed": 1, "tag": 1, "fresh": 1}
    assert RetentionPolicy(max_count=1, tags_to_keep=["critical"]).plan(rows, now=0.0).delete == ["r3", "r2", "r1"]


def test_what_is_on_hold_is_not_replaced_either(storage: Any, tmp_path: Path) -> None:
    """A program that saves its recorder again would write other events over what was to stay as it is."""
    recorder = record_run("shop")
    recording_id = storage.save_sync(recorder)
    count = len(recorder.events)
    storage.tag_sync(recording_id, add=["legal-hold"])
    recorder.record_node_start("later")

    for path in (None, tmp_path / "again.fbrec"):
        with pytest.raises(RecordingProtected, match="was not replaced"):
            storage.save_sync(recorder, path)

    assert len(storage.load_sync(recording_id).events) == count
    assert storage.get_metadata_sync(recording_id)["tags"] == ["legal-hold"]
    storage.tag_sync(recording_id, remove=["legal-hold"])
    storage.save_sync(recorder)
    assert len(storage.load_sync(recording_id).events) == count + 1


def test_a_hold_outlives_the_index(tmp_path: Path) -> None:
    storage = FileRecordingStorage(tmp_path / "data")
    recorder = record_run("shop")
    storage.tag_sync(storage.save_sync(recorder), add=["legal-hold"])
    storage.index_file.unlink()

    with pytest.raises(RecordingProtected):
        storage.save_sync(recorder)


@pytest.mark.parametrize("name", ["max_age_days", "max_count", "max_size_gb", "max_age_days_failed"])
@pytest.mark.parametrize("limit", [-1, float("nan"), "3", True])
def test_a_policy_takes_no_limit_that_would_remove_what_nobody_meant(name: str, limit: Any) -> None:
    with pytest.raises(ValueError, match=name):
        RetentionPolicy(**{name: limit})


def test_a_policy_takes_no_text_for_its_tags() -> None:
    """Letter by letter it would protect nothing."""
    with pytest.raises(ValueError, match="as a list"):
        RetentionPolicy(max_count=0, tags_to_keep="critical")  # type: ignore[arg-type]


@pytest.mark.parametrize("foreign", ['{"name": "a page"}', "[1, 2]"])
def test_the_index_of_another_program_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: str) -> None:
    """With the default directory the index would be ``index.json`` where the program was started."""
    monkeypatch.chdir(tmp_path)
    Path("index.json").write_text(foreign)

    elsewhere = FileRecordingStorage().save_sync(record_run("shop"), tmp_path / "mine.fbrec")
    here = keep(FileRecordingStorage())

    assert Path("index.json").read_text() == foreign
    assert {item["recording_id"] for item in FileRecordingStorage().list_sync()} == {elsewhere, here}
    assert FileRecordingStorage().cleanup_empty_files_sync() == 0
    assert FileRecordingStorage().rebuild_index() == 1
