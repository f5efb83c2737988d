"""What every storage must do alike: files, memory and the database, on SQLite and on PostgreSQL.

First the tests of the reference by their names, then its defects, then what must survive a storage.
"""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import recordings
from executions.local import Executor
from recordings import (
    ExecutionRecorder,
    ExecutionReplayer,
    FileRecordingStorage,
    InMemoryRecordingStorage,
    InvalidRecording,
    RecordingError,
    RecordingEventType,
    RecordingMetadata,
    RecordingQuery,
    RecordingStorage,
    RetentionPolicy,
    disable_workflow_recording,
    enable_workflow_recording,
    export,
    get_current_recorder,
    record_node_execution_complete,
    record_node_execution_start,
    record_workflow,
    save_workflow_recording_sync,
)
from recordings.database import DatabaseRecordingStorage
from recordings.retention import DAY_SECONDS
from tests.conftest import graph, node
from tests.recordings.conftest import blob_storage, record_run

DATABASE = pytest.param("database", marks=(pytest.mark.django_db, pytest.mark.postgres))


@pytest.fixture(params=["file", "file-plain", "memory", DATABASE])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RecordingStorage]:
    """Each kind of storage in turn."""
    if request.param == "memory":
        yield InMemoryRecordingStorage()
    elif request.param == "database":
        from recordings.database import DatabaseRecordingStorage

        with blob_storage("files", tmp_path):
            yield DatabaseRecordingStorage()
    else:
        yield FileRecordingStorage(tmp_path / "storage", compress=request.param == "file")


Through = Callable[[ExecutionRecorder], ExecutionReplayer]


@pytest.fixture
def through(storage: RecordingStorage) -> Through:
    """Save a recorder and return what comes back."""
    return lambda recorder: storage.load_sync(storage.save_sync(recorder))


def seven() -> ExecutionRecorder:
    """Return the run of the reference's replayer tests: 7 events, 1 snapshot."""
    recorder = ExecutionRecorder("test_workflow", record_state_snapshots=True)
    recorder.record_workflow_start({"input": "test"})
    recorder.record_node_start("node1", {"x": 1})
    recorder.record_node_complete("node1", {"y": 2}, 0.1)
    recorder.record_state_snapshot({"y": 2, "step": 1}, "node1")
    recorder.record_node_start("node2", {"y": 2})
    recorder.record_node_complete("node2", {"z": 3}, 0.2)
    recorder.record_workflow_complete({"z": 3}, True)
    return recorder


def aged(storage: RecordingStorage, *days: float, success: bool | None = True, **options: Any) -> list[str]:
    """Save a run for each age and return their ids."""
    ids = []
    for age in days:
        recorder = record_run(**options)
        recorder.metadata.started_at -= age * DAY_SECONDS
        recorder.metadata.success = success
        ids.append(storage.save_sync(recorder))
    return ids


def ids_of(storage: RecordingStorage, **filters: Any) -> list[str]:
    return [item["recording_id"] for item in storage.list_sync(**filters)]


# --------------------------------------------------------------------------- the reference's tests: recorder


@pytest.mark.row("S0-13")
def test_recorder_initialization(through: Through) -> None:
    replayer = through(ExecutionRecorder("test_workflow", tags=["a"]))

    assert list(replayer.events) == []
    assert list(replayer.snapshots) == []
    assert (replayer.metadata.workflow_name, replayer.metadata.tags) == ("test_workflow", ["a"])
    assert replayer.metadata.success is None


def test_recorder_workflow_lifecycle(through: Through) -> None:
    replayer = through(record_run(nodes=2))

    assert len(replayer.events) == replayer.metadata.event_count == 6
    assert replayer.metadata.node_count == 2
    assert replayer.metadata.success is True
    assert replayer.events[1].data == {"inputs": {"url": "https://example.com/1"}, "node_type": "get_html"}


def test_recorder_recursion_tracking(through: Through) -> None:
    recorder = ExecutionRecorder("test_workflow")
    recorder.record_recursion_enter("workflow", "outer")
    recorder.record_recursion_enter("team", "inner")
    recorder.record_recursion_exit("team", "inner")
    recorder.record_recursion_exit("workflow", "outer")

    replayer = through(recorder)

    assert [event.data["depth"] for event in replayer.events] == [1, 2, 2, 1]
    assert replayer.metadata.recursion_max_depth == 2


def test_recorder_team_execution(through: Through) -> None:
    recorder = ExecutionRecorder("test_workflow")
    recorder.record_team_start("team1", "parallel", 3, {"task": "review"})
    recorder.record_team_member_communication("team1", "a", "b", "3 issues")
    recorder.record_team_complete("team1", {"issues": 3}, 1.0)

    replayer = through(recorder)

    assert len(replayer.get_node_events("team1")) == 3
    assert replayer.metadata.team_count == 1


def test_recorder_state_snapshots(through: Through) -> None:
    recorder = ExecutionRecorder("test_workflow", record_state_snapshots=True)
    recorder.record_state_snapshot({"step": 1}, "node1", ["main"])
    recorder.record_state_snapshot({"step": 2})

    replayer = through(recorder)

    assert list(replayer.snapshots) == recorder.snapshots
    assert [snapshot.state for snapshot in replayer.snapshots] == [{"step": 1}, {"step": 2}]
    assert replayer.get_state_at_position(1) == {"step": 2}


@pytest.mark.parametrize("name", ["x.json", "x.json.gz", "x.fbrec"])
def test_recorder_save_and_load(storage: RecordingStorage, tmp_path: Path, name: str) -> None:
    recorder = record_run(nodes=1)

    recording_id = storage.save_sync(recorder, tmp_path / name)

    metadata = ExecutionReplayer.load(tmp_path / name).metadata
    assert metadata.file_size_bytes == (tmp_path / name).stat().st_size
    assert metadata.checksum is not None
    assert (metadata.event_count, metadata.success) == (4, True)
    assert list(storage.load_sync(recording_id).events) == recorder.events


@pytest.mark.row("S0-12")
def test_recorder_compressed_save(storage: RecordingStorage, tmp_path: Path) -> None:
    recorder = record_run(nodes=1, compress=True)

    recording_id = storage.save_sync(recorder, tmp_path / "x.json")

    assert recorder.path == tmp_path / "x.json.gz"
    assert (tmp_path / "x.json.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert list(storage.load_sync(recording_id).events) == recorder.events


# --------------------------------------------------------------------------- replayer


def test_replayer_load(through: Through) -> None:
    replayer = through(seven())

    assert (len(replayer.events), len(replayer.snapshots), replayer.current_position) == (7, 1, 0)
    assert replayer.metadata.workflow_name == "test_workflow"
    replayer.verify()


def test_a_replayer_can_be_closed(storage: RecordingStorage) -> None:
    recording_id = storage.save_sync(seven())

    with storage.load_sync(recording_id) as replayer:
        assert replayer.events[6].seq == 7
    replayer.close()

    assert len(storage.load_sync(recording_id).events) == 7


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_nothing_stays_open_that_was_closed(tmp_path: Path) -> None:
    storage = FileRecordingStorage(tmp_path / "data")
    recorder = seven()
    recorder.save_sync(tmp_path / "x.fbrec")
    before = len(list(Path("/proc/self/fd").iterdir()))

    recording_id = storage.import_file_sync(tmp_path / "x.fbrec")
    storage.tag_sync(recording_id, add=["a"])
    storage.export_sync(recording_id, tmp_path / "y.json")
    kept = [ExecutionReplayer.load(tmp_path / "x.fbrec") for _ in range(3)]
    opened = len(list(Path("/proc/self/fd").iterdir()))
    for replayer in kept:
        replayer.close()

    assert list(storage.recordings_dir.iterdir()) == [storage.recordings_dir / f"{recording_id}.fbrec"]
    assert opened == before + 3
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.row("S0-30")
def test_replayer_step_forward(through: Through) -> None:
    replayer = through(seven())

    assert [event.seq for event in replayer.step_forward(2)] == [1, 2]
    assert replayer.current_position == 2


@pytest.mark.row("S0-30")
def test_replayer_step_backward(through: Through) -> None:
    replayer = through(seven())
    replayer.current_position = 4

    assert list(replayer.step_backward(2)) == [replayer.events[3], replayer.events[2]]
    assert replayer.current_position == 2


def test_replayer_get_event(through: Through) -> None:
    recorder = seven()
    replayer = through(recorder)

    assert replayer.get_event(recorder.events[2].event_id) == recorder.events[2]
    assert replayer.get_event("no such event") is None


def test_replayer_get_node_events(through: Through) -> None:
    replayer = through(seven())

    assert len(replayer.get_node_events("node1")) == 3
    assert replayer.get_node_events("no such node") == []


def test_replayer_jump_to_event(through: Through) -> None:
    replayer = through(seven())

    assert replayer.jump_to_event(replayer.events[3].event_id)
    assert replayer.current_position == 3
    assert not replayer.jump_to_event("no such event")
    with replayer.replay_from_event(replayer.events[5].event_id) as events:
        assert [event.seq for event in events] == [6, 7]
    assert replayer.current_position == 3


@pytest.mark.row("S0-09")
def test_replayer_compare(through: Through) -> None:
    two, one = through(record_run(nodes=2)), through(record_run(nodes=1))

    assert two.compare(one)["node_diff"] == {"only_in_self": {"node2"}, "only_in_other": set(), "common": {"node1"}}


def test_replayer_visualize(through: Through, tmp_path: Path) -> None:
    dot = through(seven()).visualize(tmp_path / "x.dot")

    assert "digraph workflow_execution" in dot
    assert (tmp_path / "x.dot").read_text() == dot


# --------------------------------------------------------------------------- storage and integration


def test_storage_save_and_load(storage: RecordingStorage) -> None:
    recorder = seven()

    recording_id = storage.save_sync(recorder)

    replayer = storage.load_sync(recording_id)
    assert list(replayer.events) == recorder.events
    assert replayer.metadata.recording_id == recording_id


def test_storage_list(storage: RecordingStorage) -> None:
    for name in ("a", "b", "c"):
        storage.save_sync(record_run(name))

    assert len(storage.list_sync()) == 3
    assert len(storage.list_sync(RecordingQuery(workflow_name="b"))) == 1


def test_storage_delete(storage: RecordingStorage) -> None:
    recording_id = storage.save_sync(record_run())

    assert storage.delete_sync(recording_id) is True
    assert storage.get_metadata_sync(recording_id) is None
    assert storage.delete_sync(recording_id) is False


def test_storage_stats(storage: RecordingStorage) -> None:
    for success in (True, True, False):
        storage.save_sync(record_run(success=success))

    stats = storage.get_storage_stats_sync()

    assert (stats["total_recordings"], stats["success_count"], stats["failed_count"]) == (3, 2, 1)


@pytest.mark.row("S0-14")
def test_storage_retention(storage: RecordingStorage) -> None:
    ids = aged(storage, 0, 1, 2, 3, 4)

    result = storage.apply_retention_policy_sync(RetentionPolicy(max_age_days=2))

    assert result["to_delete"] == 3
    assert sorted(result["deleted_ids"]) == sorted(ids[2:])


@pytest.mark.row("S0-15")
def test_integration_context_manager(through: Through) -> None:
    with record_workflow("test_workflow") as recorder:
        record_node_execution_start("node1", {"x": 1})
        record_node_execution_complete("node1", {"y": 2})

    assert [event.node_id for event in through(recorder).events] == ["node1", "node1"]


def test_integration_enable_and_disable(through: Through) -> None:
    recorder = enable_workflow_recording("test_workflow")
    record_node_execution_start("node1")
    disable_workflow_recording()
    record_node_execution_start("node2")

    assert get_current_recorder() is None
    assert [event.node_id for event in through(recorder).events] == ["node1"]


def test_end_to_end_simple_workflow(storage: RecordingStorage) -> None:
    with record_workflow("simple", tags=["e2e"]) as recorder:
        Executor().execute_sync(graph([node("a", "merge_data", Data_1={"x": 1}, Data_2={"y": 2})]), {"k": 1})

    replayer = storage.load_sync(save_workflow_recording_sync(recorder, storage=storage)["recording_id"])

    assert [event.event_type for event in replayer.events][-1] is RecordingEventType.WORKFLOW_COMPLETE
    assert replayer.metadata.success is True
    assert ids_of(storage, tags=["e2e"]) == [replayer.metadata.recording_id]


def test_end_to_end_replay_with_state_inspection(through: Through) -> None:
    recorder = seven()
    replayer = through(recorder)

    states = [replayer.get_state_at_event(event.event_id) for event in replayer.step_forward()]

    assert None not in states
    assert states[0] == {"input": "test"}
    assert states[-1] is not None
    assert states[-1]["z"] == 3


# --------------------------------------------------------------------------- the reference's defects


def test_d1_a_path_of_your_own_is_saved_and_known(storage: RecordingStorage, tmp_path: Path) -> None:
    recording_id = storage.save_sync(record_run(), tmp_path / "mine.json")

    assert (tmp_path / "mine.json").is_file()
    assert ids_of(storage) == [recording_id]


@pytest.mark.row("S0-16")
def test_d2_save_workflow_recording_takes_a_storage(storage: RecordingStorage) -> None:
    recorder = record_run()

    metadata = save_workflow_recording_sync(recorder, None, storage=storage)

    assert metadata["recording_id"] == recorder.metadata.recording_id
    assert metadata == storage.get_metadata_sync(metadata["recording_id"])


def test_d3_checksum_and_size_are_stored_and_can_be_verified(storage: RecordingStorage) -> None:
    recording_id = storage.save_sync(record_run())

    metadata = storage.get_metadata_sync(recording_id)
    assert metadata is not None
    assert len(metadata["checksum"]) == 64
    assert metadata["file_size_bytes"] > 100
    storage.load_sync(recording_id).verify()


@pytest.mark.row("S0-29")
def test_d4_the_state_goes_on_after_a_snapshot_and_needs_none(through: Through) -> None:
    with_snapshot, without = through(seven()), through(record_run(nodes=2))

    assert with_snapshot.get_state_at_position(5)["z"] == 3
    assert with_snapshot.get_state_at_position(5)["step"] == 1
    assert "z" not in with_snapshot.get_state_at_position(4)
    assert without.get_state_at_position(4)["key2"] == 2


def test_d5_count_and_size_limit_retention(storage: RecordingStorage) -> None:
    ids = aged(storage, 0, 1, 2, 3, 4)

    assert storage.apply_retention_policy_sync(RetentionPolicy(max_count=2))["deleted_ids"] == ids[:1:-1]
    small = 1.5 * storage.list_sync()[0]["file_size_bytes"] / (1 << 30)
    assert storage.apply_retention_policy_sync(RetentionPolicy(max_size_gb=small))["deleted_ids"] == [ids[1]]


def test_d6_d12_a_dry_run_names_what_a_real_one_removes(storage: RecordingStorage) -> None:
    ids = aged(storage, 1, 40)

    dry = storage.apply_retention_policy_sync(RetentionPolicy(max_age_days=30), dry_run=True)
    assert (dry["candidate_ids"], dry["deleted_ids"]) == ([ids[1]], [])
    assert len(ids_of(storage)) == 2
    assert storage.apply_retention_policy_sync(RetentionPolicy(max_age_days=30))["deleted_ids"] == [ids[1]]


def test_d7_what_is_not_known_sorts_last(storage: RecordingStorage) -> None:
    recorders = [record_run() for _ in range(3)]
    for recorder, seconds in zip(recorders, (2.0, None, 5.0), strict=True):
        recorder.metadata.duration_seconds = seconds
    ids = [storage.save_sync(recorder) for recorder in recorders]

    assert ids_of(storage, sort_by="duration", sort_order="asc") == [ids[0], ids[2], ids[1]]
    assert ids_of(storage, sort_by="duration") == [ids[2], ids[0], ids[1]]


def test_d8_list_takes_keywords(storage: RecordingStorage) -> None:
    storage.save_sync(record_run("x"))
    storage.save_sync(record_run("y"))

    assert [item["workflow_name"] for item in storage.list_sync(workflow_name="x")] == ["x"]


@pytest.mark.row("S0-42")
def test_d9_recordings_of_threads_at_the_same_time_do_not_mix(storage: RecordingStorage) -> None:
    recorders: dict[str, ExecutionRecorder] = {}
    barrier = threading.Barrier(4)

    def run(name: str) -> None:
        with record_workflow(name) as recorder:
            barrier.wait(60)
            for number in range(30):
                record_node_execution_start(f"{name}-{number}")
        recorders[name] = recorder

    threads = [threading.Thread(target=run, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for name, recorder in recorders.items():
        replayer = storage.load_sync(storage.save_sync(recorder))
        assert [event.node_id for event in replayer.events] == [f"{name}-{number}" for number in range(30)]


def test_d10_a_node_without_duration_can_be_drawn(through: Through) -> None:
    recorder = ExecutionRecorder("x")
    recorder.record_node_start("a")
    recorder.record_node_complete("a", duration_seconds=None)

    assert "0.00s" in through(recorder).visualize()


def test_d11_a_path_that_is_the_beginning_of_the_other_differs(through: Through) -> None:
    difference = through(record_run(nodes=2)).compare(through(record_run(nodes=1)))

    assert difference["path_diff"]["first_difference"] == {"position": 2, "self_node": "node2", "other_node": None}
    assert difference["identical"] is False


def test_d13_step_forward_goes_to_the_end(through: Through) -> None:
    replayer = through(seven())

    assert len(list(replayer.step_forward())) == 7
    assert list(replayer.step_forward()) == []


def test_d14_saving_at_the_same_time_loses_nothing(storage: RecordingStorage, request: pytest.FixtureRequest) -> None:
    """In the database that is the matter of the database; test_database has its races."""
    if "database" in request.node.callspec.id:
        ids = {storage.save_sync(ExecutionRecorder("x")) for _ in range(8)}
    else:
        ids = set()
        threads = [
            threading.Thread(target=lambda: ids.add(storage.save_sync(ExecutionRecorder("x")))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(ids) == 8
    assert set(ids_of(storage)) == ids


def test_d15_what_never_ended_is_not_a_failure(storage: RecordingStorage) -> None:
    assert storage.get_storage_stats_sync()["oldest_recording"] is None
    aged(storage, 0, success=None)
    aged(storage, 0, success=False)

    stats = storage.get_storage_stats_sync()

    assert (stats["success_count"], stats["failed_count"], stats["unfinished_count"]) == (0, 1, 1)


# --------------------------------------------------------------------------- what must survive

FULL: dict[str, Any] = {
    "workflow_name": "Ünïcode \u202e\0 and long " * 20, "started_at": 1736937000.1234567,
    "completed_at": 1736937012.7654321, "duration_seconds": 12.641975308641, "success": False,
    "error": "no \0 such page", "node_count": 3, "team_count": 2, "recursion_max_depth": 4, "event_count": 7,
    "tags": ["a", "b c", "ü"], "execution_id": "0d5b2f0e-7b5f-4f3a-9d3c-0123456789ab",
    "workflow_uuid": "1d5b2f0e-7b5f-4f3a-9d3c-0123456789ab", "workflow_version": 5, "trigger": "webhook",
    "status": "failed", "user_id": 77, "credits_consumed": 9, "parent_recording_id": "ab" * 16,
    "fork_event_id": "cd" * 16, "engine_version": "0.0.9", "env_fingerprint": "elsewhere", "redaction_count": 6,
    "mood": {"good": [1, None]}, "a key of tomorrow": 3.5,
}  # fmt: skip
OF_THE_STORED_FORM = {"checksum", "file_size_bytes", "format_version", "codec"}


@pytest.mark.row("S0-41")
def test_every_key_of_the_metadata_survives_also_unknown_ones(storage: RecordingStorage) -> None:
    given = RecordingMetadata.from_dict({"recording_id": "f" * 32, **FULL})
    assert {item.name for item in dataclasses.fields(given)} - {"extra"} == (
        set(FULL) - {"mood", "a key of tomorrow"} | OF_THE_STORED_FORM | {"recording_id"}
    )

    recording_id = storage.keep_sync(given, seven().events, seven().snapshots, "x")

    for found in (
        storage.get_metadata_sync(recording_id), storage.load_sync(recording_id).metadata.to_dict(),
        *storage.list_sync(), *storage.all_sync(),
    ):  # fmt: skip
        assert found is not None
        rest = {key: value for key, value in found.items() if key not in (OF_THE_STORED_FORM | {"filepath"})}
        assert rest == {"recording_id": "f" * 32, **FULL}


@pytest.mark.row("S0-41")
def test_a_recording_travels_from_any_storage_to_any_other(storage: RecordingStorage, tmp_path: Path) -> None:
    recorder = seven()
    recorder.metadata.extra["mood"] = "good"
    recorder.metadata.execution_id, recorder.metadata.user_id = FULL["execution_id"], 77
    first = InMemoryRecordingStorage()
    before = first.get_metadata_sync(first.save_sync(recorder))

    recording_id = storage.import_file_sync(first.export_sync(recorder.metadata.recording_id, tmp_path / "a.json.gz"))
    path = storage.export_sync(recording_id, tmp_path / "b.fbrec")
    last = FileRecordingStorage(tmp_path / "last")
    replayer = last.load_sync(last.import_file_sync(path))

    assert before is not None
    after = replayer.metadata.to_dict()
    left_out = OF_THE_STORED_FORM | (set() if storage.takes_owners else {"user_id"})
    assert {key: after.get(key) for key in before if key not in left_out} == {
        key: value for key, value in before.items() if key not in left_out
    }
    assert [event.to_dict() for event in replayer.events] == [event.to_dict() for event in recorder.events]
    assert list(replayer.snapshots) == recorder.snapshots
    replayer.verify()


def test_exported_json_text_can_be_loaded(through: Through, tmp_path: Path) -> None:
    replayer = through(seven())
    (tmp_path / "x.json").write_text(export.to_json(replayer))

    again = ExecutionReplayer.load(tmp_path / "x.json")

    assert [event.to_dict() for event in again.events] == [event.to_dict() for event in replayer.events]
    assert list(again.snapshots) == list(replayer.snapshots)


def test_an_import_never_replaces_another_recording(storage: RecordingStorage, tmp_path: Path) -> None:
    recorder = record_run()
    recording_id = storage.save_sync(recorder)
    other = record_run(nodes=5)
    other.metadata.recording_id = recording_id
    other.save_sync(tmp_path / "x.json")

    with pytest.raises(RecordingError, match="with other events already"):
        storage.import_file_sync(tmp_path / "x.json")

    assert len(storage.load_sync(recording_id).events) == 6


def test_an_id_that_is_no_uuid_or_a_path(storage: RecordingStorage, tmp_path: Path) -> None:
    recorder = record_run()
    recorder.metadata.recording_id = "demo-1"
    recorder.save_sync(tmp_path / "x.json")

    recording_id = storage.import_file_sync(tmp_path / "x.json")

    assert recording_id == "demo-1"
    assert storage.load_sync("demo-1").metadata.recording_id == "demo-1"
    assert storage.delete_sync("demo-1")
    if isinstance(storage, FileRecordingStorage):
        recorder.metadata.recording_id = "../../x"
        with pytest.raises(InvalidRecording, match="cannot be an id"):
            storage.save_sync(recorder)
        assert not list(tmp_path.glob("*.json.gz"))


def test_dates_prefixes_and_keys_mean_the_same_everywhere(storage: RecordingStorage) -> None:
    recorders = [record_run(tags=[str(number)]) for number in range(3)]
    noon = datetime.now().astimezone().replace(hour=12, minute=0, second=0, microsecond=0)
    for number, recorder in enumerate(recorders):
        recorder.metadata.recording_id = "abcdef01" + f"{number:024x}"
        recorder.metadata.started_at = (noon - timedelta(days=number)).timestamp()
        recorder.metadata.parent_recording_id = f"parent {2 - number}"
        storage.save_sync(recorder)
    ids = [recorder.metadata.recording_id for recorder in recorders]
    today = noon.astimezone(UTC).date()

    assert ids_of(storage, recording_id="abcdef01") == ids
    assert ids_of(storage, recording_id=ids[1]) == [ids[1]]
    assert ids_of(storage, recording_id="abcdef0") == []
    assert ids_of(storage, start_date=today, end_date=today) == [ids[0]]
    assert ids_of(storage, end_date=today - timedelta(days=1)) == ids[1:]
    assert ids_of(storage, sort_by="parent_recording_id", sort_order="asc") == ids[::-1]
    assert ids_of(storage, sort_by="checksum", limit=1) != []
    assert ids_of(storage, any_tags=["0", "2"]) == [ids[0], ids[2]]
    assert isinstance(today, date)
    with pytest.raises(ValueError, match='cannot sort by "colour"'):
        storage.list_sync(sort_by="colour")


def test_compress_of_a_storage_wins_over_that_of_a_recorder(tmp_path: Path) -> None:
    storage = FileRecordingStorage(tmp_path / "data", compress=False)
    recording_id = storage.save_sync(record_run(compress=True))

    assert [path.name for path in storage.recordings_dir.iterdir()] == [f"{recording_id}.json"]


def test_an_entry_without_its_file_is_not_listed_and_a_file_without_entry_is(tmp_path: Path) -> None:
    storage = FileRecordingStorage(tmp_path / "data")
    gone, moved = storage.save_sync(record_run()), storage.save_sync(record_run())
    other = FileRecordingStorage(tmp_path / "other")
    (storage.recordings_dir / f"{gone}.json.gz").unlink()
    (storage.recordings_dir / f"{moved}.json.gz").rename(other.recordings_dir / f"{moved}.json.gz")

    assert storage.list_sync() == []
    assert storage.get_metadata_sync(gone) is None
    assert storage.get_storage_stats_sync()["total_recordings"] == 0
    assert ids_of(other) == [moved]


def test_every_method_that_waits_has_a_twin_that_does_not() -> None:
    classes = [found for found in vars(recordings).values() if inspect.isclass(found)]
    waiting = [
        (owner, name)
        for owner in (recordings, DatabaseRecordingStorage, *classes)
        for name, found in inspect.getmembers(owner)
        if not name.startswith("_") and (inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found))
    ]

    assert {"save", "load", "list", "delete", "iter_events", "save_workflow_recording"} <= {name for _, name in waiting}
    for owner, name in waiting:
        twin = getattr(owner, f"{name}_sync", None)
        assert callable(twin), f"{owner}.{name}"
        assert not inspect.iscoroutinefunction(twin), f"{owner}.{name}_sync"
