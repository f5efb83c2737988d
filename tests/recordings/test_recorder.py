"""Recording a run in Python."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from recordings import (
    ExecutionRecorder,
    ExecutionReplayer,
    InMemoryRecordingStorage,
    InvalidRecording,
    RecordingEventType,
    Redactor,
    SealedRecording,
)
from recordings.events import (
    RecordingEvent,
    RecordingMetadata,
    describe,
    encode_json,
    event_id,
    event_seq,
    plain,
    restore,
)
from recordings.frames import VERSION
from recordings.timing import outline
from tests.recordings.conftest import record_run


def test_recorder_initialization() -> None:
    recorder = ExecutionRecorder("shop", tags=["production"])

    assert len(recorder.workflow_id) == 32
    assert recorder.workflow_name == "shop"
    assert recorder.events == []
    assert recorder.snapshots == []
    assert recorder.config == {
        "record_inputs": True, "record_outputs": True, "record_state_snapshots": False, "compress": True,
    }  # fmt: skip
    assert recorder.metadata.tags == ["production"]
    assert recorder.metadata.recording_id != ExecutionRecorder("shop").metadata.recording_id


@pytest.mark.row("S0-01")
def test_recorder_workflow_lifecycle() -> None:
    recorder = record_run()

    metadata = recorder.finalize()

    assert [event.event_type.value for event in recorder.events] == [
        "workflow_start", "node_start", "node_complete", "node_start", "node_complete", "workflow_complete",
    ]  # fmt: skip
    assert metadata.node_count == 2
    assert metadata.event_count == 6
    assert metadata.success is True
    assert metadata.duration_seconds is not None
    assert recorder.events[1].data == {"inputs": {"url": "https://example.com/1"}, "node_type": "get_html"}
    assert recorder.events[2].data == {
        "outputs": {"Html": "page 1", "key1": 1}, "duration_seconds": 0.25, "error": None,
    }  # fmt: skip
    assert recorder.events[2].metadata == {"recursion_depth": 0}
    assert [event.seq for event in recorder.events] == [1, 2, 3, 4, 5, 6]


def test_a_failed_node_and_run_have_their_own_event_types() -> None:
    recorder = ExecutionRecorder("shop")
    recorder.record_node_complete("a", error="no such selector")
    recorder.record_workflow_complete({}, False, "a failed")

    assert [event.event_type.value for event in recorder.events] == ["node_error", "workflow_error"]
    assert recorder.finalize().error == "a failed"
    assert recorder.finalize().node_count == 1


@pytest.mark.row("S0-03")
def test_recorder_recursion_tracking() -> None:
    recorder = ExecutionRecorder("shop")
    recorder.record_recursion_enter("workflow", "outer")
    recorder.record_recursion_enter("loop", "inner")
    recorder.record_recursion_exit("loop", "inner")
    recorder.record_recursion_exit("workflow", "outer")

    assert [event.data["depth"] for event in recorder.events] == [1, 2, 2, 1]
    assert [event.metadata["recursion_depth"] for event in recorder.events] == [1, 2, 2, 1]
    assert recorder._recursion_depth == 0
    assert recorder._recursion_max_depth == 2
    assert recorder.finalize().recursion_max_depth == 2

    recorder.record_recursion_exit("workflow", "outer")

    assert recorder._recursion_depth == 0


@pytest.mark.row("S0-02")
def test_recorder_team_execution() -> None:
    recorder = ExecutionRecorder("shop")
    recorder.record_team_start("review", "parallel", 3, {"task": "review code"})
    recorder.record_team_member_communication("review", "security", "quality", "Found 3 issues")
    recorder.record_team_complete("review", {"issues": 3}, 1.5)

    start, message, end = recorder.events
    assert start.data == {"formation": "parallel", "member_count": 3, "context": {"task": "review code"}}
    assert message.data == {"from_member": "security", "to_member": "quality", "message": "Found 3 issues"}
    assert end.data == {"final_output": {"issues": 3}, "duration_seconds": 1.5, "success": True}
    assert {event.node_id for event in recorder.events} == {"review"}
    assert recorder.finalize().team_count == 1


@pytest.mark.row("S0-02")
def test_members_of_a_team_are_recorded() -> None:
    recorder = ExecutionRecorder("shop", redactor=Redactor({"hunter22": "1"}))
    recorder.record_team_start("review", "sequential", 1)
    recorder.record_team_member_start("review", "security", {"diff": "a + b"})
    recorder.record_team_member_complete("review", "security", {"issues": 3}, 0.5)
    recorder.record_team_member_complete("review", "quality", error="no hunter22")
    recorder.record_team_complete("review", success=False)

    _, start, good, bad, _ = recorder.events
    assert start.event_type is RecordingEventType.TEAM_MEMBER_START
    assert start.data == {"member_id": "security", "inputs": {"diff": "a + b"}}
    assert good.event_type is bad.event_type is RecordingEventType.TEAM_MEMBER_COMPLETE
    assert good.data == {
        "member_id": "security", "outputs": {"issues": 3}, "duration_seconds": 0.5, "error": None,
    }  # fmt: skip
    assert "hunter22" not in str(bad.data)
    assert {event.node_id for event in recorder.events} == {"review"}
    assert {event.metadata["recursion_depth"] for event in recorder.events} == {0}


@pytest.mark.row("S0-03")
def test_every_event_says_its_depth_and_checkpoints_are_recorded() -> None:
    recorder = ExecutionRecorder("shop", record_state_snapshots=True)
    recorder.record_workflow_start({})
    recorder.record_recursion_enter("loop", "x")
    recorder.record_checkpoint("after login", {"sha256": "ab" * 32}, "login")
    recorder.record_state_snapshot({"a": 1})
    recorder.record_event("external_call", "login", url="https://example.com")
    recorder.record_recursion_exit("loop", "x")
    recorder.record_workflow_complete({}, True)

    assert [event.metadata["recursion_depth"] for event in recorder.events] == [0, 1, 1, 1, 1, 1, 0]
    assert recorder.events[2].event_type is RecordingEventType.CHECKPOINT
    assert recorder.events[2].node_id == "login"
    assert recorder.events[2].data == {"name": "after login", "state_ref": {"sha256": "ab" * 32}}


def test_errors_and_names_that_are_no_text_become_text(tmp_path: Path) -> None:
    recorder = ExecutionRecorder("shop")
    recorder.record_node_complete(5, error=KeyError("price"))  # type: ignore[arg-type]
    recorder.record_workflow_complete({}, False, ValueError("no price"))  # type: ignore[arg-type]
    recorder.save_sync(tmp_path / "x.json")

    replayer = ExecutionReplayer.load(tmp_path / "x.json")
    assert [event.node_id for event in replayer.events] == ["5", None]
    assert replayer.events[0].data["error"] == "'price'"
    assert replayer.metadata.error == "no price"


@pytest.mark.parametrize(
    ("name", "codec"), [("x.json", "json"), ("x.json.gz", "gzip"), ("x.fbrec", "zstd")]
)  # fmt: skip
def test_a_recording_says_what_made_it_and_how_it_is_stored(tmp_path: Path, name: str, codec: str) -> None:
    record_run().save_sync(tmp_path / name)

    metadata = ExecutionReplayer.load(tmp_path / name).metadata

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert metadata.engine_version == project["version"]
    assert (metadata.codec, metadata.format_version) == (codec, 1 if codec != "zstd" else VERSION)
    assert platform.python_version() in (metadata.env_fingerprint or "")


@pytest.mark.row("S0-41")
@pytest.mark.parametrize("name", ["y.json", "y.json.gz", "y.fbrec"])
def test_keys_of_a_newer_version_survive_every_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.json"
    record_run().save_sync(path)
    whole = json.loads(path.read_text())
    whole["metadata"] |= {"mood": "good", "checksum": None}
    whole["events"][1]["colour"] = {"red": 1}
    whole["annotations"] = [1, 2]
    path.write_text(json.dumps(whole))

    storage = InMemoryRecordingStorage()
    recording_id = storage.import_file_sync(path)
    replayer = ExecutionReplayer.load(storage.export_sync(recording_id, tmp_path / name))

    assert replayer.metadata.extra["mood"] == "good"
    assert replayer.metadata.extra["$more"] == {"annotations": [1, 2]}
    assert replayer.events[1].to_dict()["colour"] == {"red": 1}
    assert replayer.events[1].to_dict() == whole["events"][1]


def test_recorder_state_snapshots() -> None:
    recorder = ExecutionRecorder("shop", record_state_snapshots=True)
    state = {"count": 1}
    recorder.record_state_snapshot(state, "node1", ["main"])
    state["count"] = 2
    recorder.record_state_snapshot(state)

    assert [snapshot.state for snapshot in recorder.snapshots] == [{"count": 1}, {"count": 2}]
    assert [event.timestamp for event in recorder.events] == [snapshot.timestamp for snapshot in recorder.snapshots]
    assert recorder.events[0].data == {"snapshot_id": recorder.snapshots[0].snapshot_id}
    assert recorder.events[0].node_id == "node1"


def test_snapshots_are_off_by_default() -> None:
    recorder = ExecutionRecorder("shop")
    recorder.record_state_snapshot({"count": 1})

    assert recorder.events == []
    assert recorder.snapshots == []


def test_values_are_copied_when_they_are_recorded() -> None:
    recorder = ExecutionRecorder("shop")
    outputs = {"items": [1]}
    recorder.record_node_complete("a", outputs)
    outputs["items"].append(2)

    assert recorder.events[0].data["outputs"] == {"items": [1]}


@pytest.mark.row("S0-16")
async def test_recorder_save_and_load(tmp_path: Path) -> None:
    recorder = record_run(nodes=1, compress=False)

    metadata = await recorder.save(tmp_path / "run.json")

    assert metadata.file_size_bytes == (tmp_path / "run.json").stat().st_size
    assert metadata.checksum is not None
    replayer = ExecutionReplayer.load(tmp_path / "run.json")
    assert len(replayer.events) == 4
    assert replayer.metadata.success is True
    assert list(replayer.events) == recorder.events


@pytest.mark.row("S0-12")
async def test_recorder_compressed_save(tmp_path: Path) -> None:
    recorder = record_run(nodes=50, compress=True)

    metadata = await recorder.save(tmp_path / "x.json")

    assert not (tmp_path / "x.json").exists()
    assert recorder.path == tmp_path / "x.json.gz"
    assert metadata.file_size_bytes == (tmp_path / "x.json.gz").stat().st_size
    record_run(nodes=50, compress=False).save_sync(tmp_path / "plain.json")
    assert (tmp_path / "plain.json").stat().st_size > 5 * metadata.file_size_bytes
    assert list(ExecutionReplayer.load(tmp_path / "x.json").events) == recorder.events


@pytest.mark.parametrize("name", ["x.json", "x.json.gz", "x.fbrec"])
def test_the_name_chooses_the_format(tmp_path: Path, name: str) -> None:
    recorder = record_run(record_state_snapshots=True)
    recorder.record_state_snapshot({"a": 1})

    metadata = recorder.save_sync(tmp_path / name)

    content = (tmp_path / name).read_bytes()
    beginning = {"x.json": b'{"metadata"', "x.json.gz": b"\x1f\x8b", "x.fbrec": b"FBREC"}[name]
    assert content.startswith(beginning)
    replayer = ExecutionReplayer.load(tmp_path / name)
    assert list(replayer.events) == recorder.events
    assert list(replayer.snapshots) == recorder.snapshots
    assert replayer.metadata == metadata
    assert replayer.metadata.file_size_bytes == len(content)


def test_checksum_and_size_are_in_the_saved_file(tmp_path: Path) -> None:
    """D3: the reference stored neither."""
    record_run().save_sync(tmp_path / "x.json")

    stored = json.loads((tmp_path / "x.json").read_text())["metadata"]

    assert len(stored["checksum"]) == 64
    assert stored["file_size_bytes"] == (tmp_path / "x.json").stat().st_size


@pytest.mark.row("S0-40")
def test_a_changed_json_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    record_run().save_sync(path)
    path.write_text(path.read_text().replace("page 1", "page 7"))

    with pytest.raises(ValueError, match="changed after it was saved"):
        ExecutionReplayer.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"\x1f\x8b\x08garbage", "gzip data is damaged"),
        (b"[1, 2]", "must be a JSON object"),
        (b'{"metadata": {}, "events": []}', "not a recording"),
        (
            b'{"metadata": {"recording_id": "a", "workflow_name": "b", "started_at": 1}, "events": [{}]}',
            "event 1: Object missing required field `event_id`",
        ),
        (
            b'{"metadata": {"recording_id": "a", "workflow_name": "b", "started_at": 1}, "events": 3}',
            "events: Expected `array | null`, got `int`",
        ),
    ],
)
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=message) as caught:
        ExecutionReplayer.load(path)

    assert str(path) in str(caught.value)


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no recording at .*nothing\.json"):
        ExecutionReplayer.load(tmp_path / "nothing.json")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    record_run("old").save_sync(path)

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        record_run("new").save_sync(path)

    assert ExecutionReplayer.load(path).metadata.workflow_name == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.row("S0-33")
def test_without_inputs_and_outputs_their_hashes_stay() -> None:
    recorder = ExecutionRecorder("shop", record_inputs=False, record_outputs=False)
    recorder.record_node_start("a", {"url": "x"})
    recorder.record_node_complete("a", {"Html": "y"})

    start, end = recorder.events
    assert start.data["inputs"] == {}
    assert end.data["outputs"] == {}
    assert start.metadata["inputs_bytes"] == len('{"url":"x"}')
    assert len(end.metadata["outputs_sha256"]) == 64


def test_secrets_never_enter_a_recording() -> None:
    recorder = ExecutionRecorder("shop", redactor=Redactor({"hunter2-hunter2": "cred-1"}))
    recorder.record_node_start("a", {"password": "hunter2-hunter2", "url": "https://x/?p=hunter2-hunter2"})
    recorder.record_node_complete("a", error="login hunter2-hunter2 refused")

    assert "hunter2" not in str(recorder.events)
    assert recorder.events[0].data["inputs"] == {"password": {"$secret": "cred-1"}, "url": "https://x/?p=***"}
    assert recorder.finalize().redaction_count == 3


def test_threads_share_a_recorder_without_losing_events() -> None:
    recorder = ExecutionRecorder("shop")

    def work(name: str) -> None:
        for number in range(500):
            recorder.record_node_complete(name, {"n": number})

    threads = [threading.Thread(target=work, args=(f"node{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    events = recorder.events
    assert recorder.finalize().event_count == recorder.finalize().node_count == len(events) == 4000
    assert len({event.event_id for event in events}) == 4000
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)
    for number in range(8):
        assert [e.data["outputs"]["n"] for e in events if e.node_id == f"node{number}"] == list(range(500))


# --------------------------------------------------------------------------- values


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


def test_values_that_json_does_not_have_come_back() -> None:
    value = {
        "when": datetime(2026, 1, 15, 10, 30, tzinfo=UTC), "id": UUID(int=7), "price": Decimal("1.10"), "raw": b"\0\xff",
        "path": Path("some/file"), "tags": {"a", "b"}, "pair": (1, 2), 3: "three", "nested": [{"d": Decimal(2)}],
    }  # fmt: skip

    copy = plain(value)

    assert json.loads(encode_json(copy)) == copy
    assert plain(copy) == copy
    assert restore(copy) == {**{k: v for k, v in value.items() if k not in ("pair", 3)}, "pair": [1, 2], "3": "three"}


def test_nan_enums_dataclasses_and_strangers_are_valid_json() -> None:
    copy = plain({"nan": float("nan"), "colour": Colour.RED, "point": Point(1, 2), "odd": object})

    assert json.loads(encode_json(copy)) == copy
    assert copy["nan"] == {"$type": "float", "value": "nan"}
    assert restore(copy["colour"]) == "red"
    assert restore(copy["point"]) == {"x": 1, "y": 2}
    assert copy["odd"] == "<class 'object'>"


def test_cycles_and_deep_values_are_cut() -> None:
    cycle: dict[str, object] = {"name": "a"}
    cycle["self"] = cycle
    cycle["list"] = [cycle, cycle]
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]

    assert plain(cycle) == {"name": "a", "self": "… (contains itself)", "list": ["… (contains itself)"] * 2}
    assert "more than 100 levels" in str(plain(deep))


def test_a_broken_str_does_not_break_the_run() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert "RuntimeError" in plain(Broken())


def test_half_a_surrogate_can_be_saved(tmp_path: Path) -> None:
    recorder = ExecutionRecorder("shop")
    recorder.record_node_complete("a", {"Html": "x\ud800y"})

    for name in ("x.json", "x.fbrec"):
        recorder.save_sync(tmp_path / name)
        assert ExecutionReplayer.load(tmp_path / name).events[0].data["outputs"] == {"Html": "x\\ud800y"}


@pytest.mark.parametrize("tags", ["critical", [None], ["a", 1], [" "]])
def test_tags_that_could_not_be_read_again_are_refused(tags: Any) -> None:
    with pytest.raises(ValueError, match="tag"):
        ExecutionRecorder("shop", tags=tags)


@pytest.mark.parametrize("name", ["x.json", "x.json.gz", "x.fbrec"])
def test_a_name_and_an_id_of_another_kind_are_saved_as_text(tmp_path: Path, name: str) -> None:
    recorder = ExecutionRecorder(Path("shop"), workflow_id=5)  # type: ignore[arg-type]
    recorder.record_node_start("a")
    recorder.save_sync(tmp_path / name)

    replayer = ExecutionReplayer.load(tmp_path / name)
    assert (replayer.metadata.workflow_name, replayer.events[0].workflow_id) == ("shop", "5")


def test_event_ids_are_derived_from_execution_and_seq() -> None:
    identifier = event_id("execution-1", 77)

    assert identifier == event_id("execution-1", 77)
    assert len(identifier) == 32
    assert event_seq("execution-1", identifier) == 77
    assert event_seq("execution-2", identifier) is None
    assert event_seq("execution-1", "x" * 32) is None


@pytest.mark.row("S0-41")
def test_unknown_event_types_and_metadata_keys_are_kept(tmp_path: Path) -> None:
    recorder = ExecutionRecorder("shop")
    recorder.record_event("quantum_leap", "a", where="here")
    recorder.save_sync(tmp_path / "x.fbrec")

    event = ExecutionReplayer.load(tmp_path / "x.fbrec").events[0]
    metadata = RecordingMetadata.from_dict({**recorder.finalize().to_dict(), "mood": "good"})

    assert event.event_type.value == "quantum_leap"
    assert event.event_type is RecordingEventType("quantum_leap")
    assert "quantum_leap" not in [kind.value for kind in RecordingEventType]
    assert event.data == {"where": "here"}
    assert metadata.to_dict()["mood"] == "good"


def test_an_event_has_exactly_the_seven_keys() -> None:
    event = RecordingEvent("1", RecordingEventType.LOG, 1.0, "w", data={"x": (1, b"2")})

    assert list(event.to_dict()) == [
        "event_id", "event_type", "timestamp", "workflow_id", "node_id", "data", "metadata",
    ]  # fmt: skip
    assert event.to_dict()["data"]["x"][0] == 1
    assert RecordingEvent.from_dict(event.to_dict()).event_type is RecordingEventType.LOG


def test_recordings_can_be_imported_without_django_settings(tmp_path: Path) -> None:
    code = (
        "import sys, recordings\n"
        "from recordings import *\n"
        "import asyncio, tempfile\n"
        "for storage in (FileRecordingStorage(tempfile.mkdtemp()), InMemoryRecordingStorage()):\n"
        "    with record_workflow('y', tags=['a']) as kept: record_node_execution_start('n')\n"
        "    asyncio.run(save_workflow_recording(kept, storage=storage))\n"
        "    assert storage.list_sync(RecordingQuery(any_tags=['a']))\n"
        "    storage.tag_sync(kept.metadata.recording_id, add=['b'])\n"
        "    assert storage.apply_retention_policy_sync(RetentionPolicy(max_count=0))['to_delete'] == 1\n"
        "assert RecordingConfig(enabled=True).keeps(False, 'x')\n"
        "recorder = ExecutionRecorder('x'); recorder.record_node_complete('a', {'b': 1})\n"
        f"recorder.save_sync({str(tmp_path / 'x.fbrec')!r})\n"
        f"replayer = ExecutionReplayer.load({str(tmp_path / 'x.fbrec')!r})\n"
        "assert replayer.get_state_at_event(replayer.events[0].event_id)['b'] == 1\n"
        "assert 'django' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[2]

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_a_line_of_a_node_is_described_by_its_own_words() -> None:
    line = RecordingEvent(
        event_id=event_id("0" * 32, 1), event_type=RecordingEventType.LOG, timestamp=0.0, workflow_id="0" * 32,
        node_id="open", data={"message": "Opened http://example.com"},
    )  # fmt: skip

    assert describe(line) == "Opened http://example.com"


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("recursion_enter", {"name": "Loop", "index": 0}, "Loop: execution 1 started"),
        ("recursion_exit", {"name": "Loop", "index": 9, "status": "completed_with_errors"},
         "Loop: execution 10 completed with errors"),
        ("recursion_enter", {"description": "by hand"}, "recursion enter"),
        ("recursion_enter", {"operation_type": "workflow", "identifier": "prices", "depth": 1},
         "Workflow prices entered"),
        ("recursion_exit", {"operation_type": "loop", "identifier": "rows", "depth": 1}, "Loop rows left"),
        ("workflow_start", {"initial_context": {}}, "Execution started"),
        ("workflow_start", {"workflow": "shop", "version": 3}, "Execution started: shop v3"),
        ("team_start", {"formation": "parallel", "member_count": 3}, "Team desk started: 3 members, parallel"),
        ("team_start", {}, "Team desk started"),
        ("team_complete", {"success": True}, "Team desk completed"),
        ("team_complete", {"success": False}, "Team desk failed"),
        ("team_member_start", {"member_id": "ada"}, "ada of desk started"),
        ("team_member_complete", {"member_id": "ada", "error": None}, "ada of desk completed"),
        ("team_member_complete", {"member_id": "ada", "error": "gone"}, "ada of desk failed: gone"),
        ("team_communication", {"from_member": "ada", "to_member": "bob", "message": "Done."}, "ada to bob: Done."),
        ("team_communication", {"from_member": "ada", "to_member": "bob", "message": {"n": 1}}, 'ada to bob: {"n":1}'),
        ("team_communication", {"from_member": "ada", "to_member": "bob"}, "ada to bob"),
        ("external_call", {"method": "GET", "url": "http://a.example/x", "status": 200}, "GET http://a.example/x: 200"),
        ("external_call", {"method": "GET", "url": "http://a.example/x", "status": None, "error": "timed out"},
         "GET http://a.example/x failed: timed out"),
        ("external_call", {"method": "SEND", "url": "smtp://a.example:25", "status": None}, "SEND smtp://a.example:25"),
        ("external_call", {"by": "hand"}, "external call"),
        ("workflow_error", {"status": "cancelled", "error": "cancelled"}, "Execution cancelled"),
        ("workflow_error", {"status": "failed", "error": "a: gone"}, "Execution failed: a: gone"),
        ("node_skipped", {"name": "A", "status": "cancelled", "reason": "the execution was cancelled"},
         "A cancelled: the execution was cancelled"),
        ("node_skipped", {"name": "A", "reason": "its path was not taken"}, "A skipped: its path was not taken"),
        ("approval", {"approved": True, "comment": "fine", "by": "ada"}, "Approved by ada: fine"),
        ("approval", {"approved": False, "comment": "", "by": "link"}, "Rejected by link"),
    ],
)  # fmt: skip
def test_children_calls_and_decisions_are_said_in_words(kind: str, data: dict[str, Any], text: str) -> None:
    event = RecordingEvent(
        event_id=event_id("0" * 32, 1), event_type=RecordingEventType(kind), timestamp=0.0, workflow_id="0" * 32,
        node_id="desk" if kind.startswith("team") else None, data=data,
    )  # fmt: skip

    assert describe(event) == text


def test_a_node_that_was_stopped_with_its_execution_is_no_skipped_one() -> None:
    kinds: tuple[tuple[str, dict[str, str]], ...] = (
        ("node_start", {}),
        ("node_skipped", {"status": "cancelled", "reason": "the execution was cancelled"}),
    )
    events = [
        RecordingEvent(
            event_id=event_id("0" * 32, number), event_type=RecordingEventType(kind), timestamp=0.0,
            workflow_id="0" * 32, node_id="a", data=data,
        )
        for number, (kind, data) in enumerate(kinds)
    ]  # fmt: skip

    assert outline(events).nodes["a"].status == "cancelled"


def test_a_very_long_text_becomes_a_reference(tmp_path: Path) -> None:
    page = "ü" * 1001
    kept: dict[str, tuple[bytes, str, str]] = {}

    def save_blob(content: bytes, content_type: str, recording_id: str) -> str:
        name = hashlib.sha256(content).hexdigest()
        kept[name] = (content, content_type, recording_id)
        return name

    recorder = ExecutionRecorder("shop", max_text=1000, save_blob=save_blob)
    recorder.record_node_complete("a", {"pages": ["x" * 1000, page]})
    recorder.record_event("log", message=page)
    recorder.save_sync(tmp_path / "x.fbrec")

    name = hashlib.sha256(page.encode()).hexdigest()
    reference = {"$blob": name, "bytes": 2002, "preview": page[:1000]}
    assert kept == {name: (page.encode(), "text/plain", recorder.metadata.recording_id)}
    first, second = ExecutionReplayer.load(tmp_path / "x.fbrec").events
    assert first.data["outputs"]["pages"] == ["x" * 1000, reference]
    assert second.data["message"] == reference
    plainly = ExecutionRecorder("shop", max_text=1000)
    plainly.record_node_start("a", {"page": page})
    assert plainly.events[0].data["inputs"]["page"] == reference


@pytest.mark.row("S0-43")
def test_a_killed_program_leaves_what_it_wrote_ahead(tmp_path: Path) -> None:
    path = tmp_path / "x.fbrec"
    code = (
        "import time\n"
        "from recordings import ExecutionRecorder\n"
        "recorder = ExecutionRecorder('killed', tags=['a'], record_state_snapshots=True)\n"
        f"recorder.write_ahead({str(path)!r}, flush_seconds=0.05)\n"
        "for number in range(99): recorder.record_node_complete(f'n{number}', {'number': number})\n"
        "recorder.record_state_snapshot({'all': 99})\n"
        "print('recorded', flush=True)\n"
        "time.sleep(600)\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "recorded\n"
            deadline = time.monotonic() + 60
            while _recovered(path) < 100 and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            process.kill()

    with SealedRecording.recover(path) as left:
        replayer = ExecutionReplayer.from_sealed(left)
        assert [event.seq for event in replayer.events] == list(range(1, 101))
        assert (replayer.metadata.workflow_name, replayer.metadata.tags) == ("killed", ["a"])
        assert replayer.get_state_at_position(98)["number"] == 98
        assert replayer.get_state_at_position(99) == {"all": 99}


def _recovered(path: Path) -> int:
    try:
        with SealedRecording.recover(path) as left:
            return len(left)
    except InvalidRecording:
        return 0


def test_what_is_written_ahead_is_complete_at_the_end(tmp_path: Path) -> None:
    recorder = record_run(nodes=1)
    recorder.write_ahead(tmp_path / "x.fbrec", flush_seconds=60)
    recorder.record_node_start("late")
    with pytest.raises(RuntimeError, match="already"):
        recorder.write_ahead(tmp_path / "y.fbrec")

    metadata = recorder.finalize()

    with ExecutionReplayer.load(tmp_path / "x.fbrec") as replayer:
        replayer.verify()
        assert list(replayer.events) == recorder.events
        assert replayer.metadata.event_count == metadata.event_count == 5
    with pytest.raises(FileExistsError):
        recorder.write_ahead(tmp_path / "x.fbrec")
