"""``./flow recordings``, as a process would be called."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from executions.triggers import start_execution
from flowbuilder.management.commands.recordings import Command
from recordings import ExecutionRecorder, ExecutionReplayer, FileRecordingStorage, SealedRecording, keeping
from recordings.models import Recording
from recordings.packing import seal
from recordings.sealed import write_sealed
from tests.conftest import graph, node, test_environment, wire
from tests.environment import ROOT
from tests.recordings.conftest import record_run

Make = Callable[..., Any]


class Flow:
    """Calls the command in this process and keeps what it wrote."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.code = 0
        self.error = ""

    def __call__(self, *arguments: str, keys: str = "") -> str:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(keys))
        self._capsys.readouterr()
        try:
            Command().run_from_argv(["flow", "recordings", *arguments])
            self.code = 0
        except SystemExit as end:
            self.code = int(end.code or 0)
        captured = self._capsys.readouterr()
        self.error = captured.err
        return captured.out

    def json(self, *arguments: str) -> Any:
        """Return what ``--json`` prints."""
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Flow:
    """A function that calls ``./flow recordings`` and returns its stdout."""
    return Flow(monkeypatch, capsys)


@pytest.mark.postgres
@pytest.mark.row("S0-22")
def test_list(flow: Flow, make_execution: Make, alice: Any) -> None:
    assert flow("list") == "No recordings found.\n"
    recordings = [
        make_execution(age_days=age, duration_seconds=seconds) for age, seconds in ((3, 9.0), (2, 80.5), (1, 0.5))
    ]
    make_execution(age_days=1, workflow_name="other", success=True, tags=["a", "b"], duration_seconds=None)

    out = flow("list", "--workflow", "shop", "--sort-by", "duration", "--sort-order", "asc")

    lines = out.splitlines()
    assert lines[0] == "Found 3 recording(s):"
    assert lines[2].split() == ["ID", "Workflow", "Status", "Duration", "Size", "Date"]
    assert lines[3] == "-" * 100
    assert [line.split()[0] for line in lines[4:]] == [str(recordings[place].pk)[:8] for place in (2, 0, 1)]
    assert [line.split()[1:4] for line in lines[4:]] == [
        ["shop", "FAILED", "500ms"], ["shop", "FAILED", "9.0s"], ["shop", "FAILED", "1m"],
    ]  # fmt: skip
    assert "\x1b" not in out
    assert len(flow.json("list", "--success", "false")) == 3
    assert [item["workflow_name"] for item in flow.json("list", "--tags", "b,a")] == ["other"]
    assert len(flow.json("list", "--limit", "2", "--offset", "3")) == 1
    assert len(flow.json("list", "--tags", " b , a ")) == 1
    assert flow.json("list", "--tags", "b,c") == []
    assert len(flow.json("list", "--any-tags", "b,c")) == 1
    assert len(flow.json("list", "--max-duration", "9")) == 2
    day = recordings[1].started_at.date().isoformat()
    assert [item["recording_id"] for item in flow.json("list", "--start", day, "--end", day)] == [str(recordings[1].pk)]


def test_a_cancelled_run_is_listed_as_cancelled_and_what_is_kept_can_be_kept_again(
    flow: Flow, make_execution: Make, alice: Any
) -> None:
    recording = make_execution(status="cancelled", success=False, error="cancelled")

    assert flow("list").splitlines()[-1].split()[:3] == [str(recording.pk)[:8], "shop", "CANCELLED"]
    assert "Ended as: cancelled" in flow("inspect", str(recording.pk))
    assert flow("keep", str(recording.pk)) == f"Recording {recording.pk} is kept already\n"
    assert flow.code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sort-by", "colour"), '"colour" is not one of'),
        (("--start", "yesterday"), '"yesterday" is not a date'),
        (("--limit", "-1"), "negative"),
        (("--success", "maybe"), "invalid choice"),
        (("--storage", "/no/such/directory"), "there is no directory"),
    ],
)
def test_list_refuses_nonsense(flow: Flow, alice: Any, arguments: tuple[str, ...], message: str) -> None:
    flow("list", *arguments)

    assert flow.code == 2
    assert message in flow.error


@pytest.mark.row("S0-23")
def test_inspect(flow: Flow, make_execution: Make, alice: Any) -> None:
    recording = make_execution(tags=["critical"])
    seal(recording)
    recording.refresh_from_db()

    out = flow("inspect", str(recording.execution_id)[:8])

    for line in (
        f"Recording: {recording.pk}", "Workflow: shop", "  Success: False", "  Error: node2 failed",
        "  Started: 2026-01-15 10:30:00", "  Duration: 4.0s", "  Nodes executed: 3", "  Total events: 11",
        f"  Checksum: {recording.checksum}", "Tags: critical",
    ):  # fmt: skip
        assert line in out.splitlines()
    assert flow.json("inspect", str(recording.pk))["checksum"] == recording.checksum


def test_others_recordings_do_not_exist(flow: Flow, make_execution: Make, alice: Any, bob: Any) -> None:
    recording = make_execution(user=alice)

    for arguments in (("inspect",), ("replay",), ("export", "--output", "-"), ("verify",)):
        flow(*arguments, str(recording.pk), "--user", "bob")
        assert flow.code == 1
        assert "no recording or execution" in flow.error
    assert flow.json("list", "--user", "bob") == []
    flow("list", "--user", "nobody")
    assert (flow.code, "there is no user" in flow.error) == (1, True)


def test_unknown_ids(flow: Flow, make_execution: Make, alice: Any) -> None:
    for identifier, message in (
        ("abc", "too short"),
        ("xyzxyzxyz", "not the id"),
        ("0" * 32, "./flow recordings list"),
    ):
        flow("inspect", identifier)
        assert flow.code == 1
        assert message in flow.error


@pytest.mark.row("S0-24")
def test_replay(flow: Flow, make_execution: Make, alice: Any) -> None:
    recording = make_execution()

    out = flow("replay", str(recording.pk)[:8])

    lines = out.splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("[1/11] workflow_start (t=0.001s)")
    assert lines[3].startswith("[4/11] node_complete @ node1 (t=")
    shown = flow("replay", str(recording.pk), "--node", "node1", "--show-data", "--show-state")
    assert '    outputs: {"Html":"page 1","Done":true}' in shown
    assert "      region = eu" in shown
    assert len([line for line in shown.splitlines() if line.startswith("[")]) == 2
    assert flow("replay", str(recording.pk), "--from-event", "11").startswith("[11/11] workflow_error")
    events = flow.json("replay", str(recording.pk), "--show-state")["events"]
    assert [event["position"] for event in events] == list(range(1, 12))
    assert events[3]["state"]["$nodes"] == {"node1": {"Html": "page 1", "Done": True}}
    assert flow("replay", str(recording.pk), "--from-event", events[10]["event_id"]).startswith("[11/11]")
    flow("replay", str(recording.pk), "--from-event", "99")
    assert flow.code == 1


def test_a_node_that_the_recording_does_not_know_is_an_error_that_names_those_it_does(
    flow: Flow, make_execution: Make, alice: Any
) -> None:
    recording = make_execution()

    assert flow("replay", str(recording.pk), "--node", "node9") == ""

    assert flow.code == 1
    assert flow.error.strip() == 'error: no event is of a node "node9"; its nodes are node1, node2, node3'


@pytest.mark.row("S0-24")
def test_stepping(flow: Flow, make_execution: Make, alice: Any) -> None:
    recording = make_execution()
    keys = "\nn\np\nj 4\ns\nj 99\nj\nx\nj 11\nn\nj 1\np\nq\nn\n"

    out = flow("replay", str(recording.pk), "--step", keys=keys)

    shown = [line.split()[0] for line in out.splitlines() if line.startswith("[")]
    assert shown == [f"[{place}/11]" for place in (1, 2, 3, 2, 4, 11, 1)]
    assert "    state: 4 keys" in out
    assert "      Html = page 1" in out
    assert "This is the last event." in flow.error
    assert "This is the first event." in flow.error
    assert 'There is no event "99"' in flow.error
    assert flow.code == 0


@pytest.mark.row("S0-24")
def test_stepping_through_one_node(flow: Flow, make_execution: Make, alice: Any) -> None:
    recording = make_execution()

    out = flow("replay", str(recording.pk), "--step", "--node", "node2", "--show-data", keys="n\nn\nn\nj 4\nj 5\np\n")

    shown = [line.split()[0] for line in out.splitlines() if line.startswith("[")]
    assert shown == ["[5/11]", "[6/11]", "[7/11]", "[5/11]"]
    assert "    error: still too slow" in out
    assert "This is the last event." in flow.error
    assert "Event 4 is not of this node." in flow.error
    assert "This is the first event." in flow.error
    begun = flow("replay", str(recording.pk), "--step", "--node", "node2", "--from-event", "6", keys="p\n")
    assert [line.split()[0] for line in begun.splitlines()] == ["[6/11]", "[5/11]"]
    flow("replay", str(recording.pk), "--step", "--node", "nobody", keys="n\n")
    assert flow.code == 1


@pytest.mark.row("S0-24")
def test_stepping_for_scripts_prints_one_object_per_line(flow: Flow, make_execution: Make, alice: Any) -> None:
    recording = make_execution()

    out = flow(
        "replay", str(recording.pk), "--step", "--json", "--show-state", "--from-event", "4", keys="s\nn\nq\nn\n"
    )

    first, state, second = map(json.loads, out.splitlines())
    assert (first["position"], first["event_type"], second["position"]) == (4, "node_complete", 5)
    assert first["state"] == state["state"] == second["state"]
    assert state["state"]["$nodes"] == {"node1": {"Html": "page 1", "Done": True}}


def test_without_a_verb_the_help_is_shown(flow: Flow) -> None:
    out = flow()

    assert flow.code == 0
    assert all(f"    {verb} " in out for verb in ("list", "replay", "tail", "tag", "import", "cleanup"))


def test_the_storage_may_be_named_before_the_verb(flow: Flow, tmp_path: Path, alice: Any) -> None:
    identifier = FileRecordingStorage(tmp_path).save_sync(record_run())

    before = flow("--storage", str(tmp_path), "list")

    assert identifier[:8] in before
    assert before == flow("list", "--storage", str(tmp_path))
    assert flow("--storage", str(tmp_path), "verify", identifier[:8]) == "OK: 6 events\n"
    flow("--storage", str(tmp_path / "missing"), "list")
    assert (flow.code, "there is no directory" in flow.error) == (2, True)


def test_stepping_ends_with_its_input(flow: Flow, make_execution: Make, alice: Any) -> None:
    recording = make_execution()

    out = flow("replay", str(recording.pk), "--step", "--show-data", keys="n\n")

    assert len([line for line in out.splitlines() if line.startswith("[")]) == 2
    assert flow.code == 0


def test_recorded_text_cannot_write_on_the_terminal(flow: Flow, tmp_path: Path, alice: Any) -> None:
    recorder = record_run("evil\x1b[31m\x07name")
    recorder.record_node_complete("n\x1b]0;title\x07", {"Html\r": "\x1b[2J" + "x" * 300})
    FileRecordingStorage(tmp_path).save_sync(recorder)

    identifier, storage = recorder.metadata.recording_id, ("--storage", str(tmp_path))
    out = flow("list", *storage)
    for arguments in (("inspect",), ("replay", "--show-data", "--show-state")):
        out += flow(*arguments, identifier, *storage)

    assert not {"\x1b", "\x07", "\r"} & set(out)
    assert "…" in out


@pytest.mark.row("S0-25")
def test_compare(flow: Flow, make_execution: Make, alice: Any) -> None:
    first, same, longer = make_execution(), make_execution(), make_execution(nodes=4)

    out = flow("compare", str(first.pk), str(same.pk))
    assert flow.code == 0
    assert "Execution paths are identical" in out
    out = flow("compare", str(first.pk), str(longer.pk))
    assert flow.code == 1
    assert "  Only in 2: node4" in out
    assert "  Position: 8\n  Recording 1: last\n  Recording 2: node4" in out
    result = flow.json("compare", str(first.pk), str(longer.pk))
    assert flow.code == 1
    assert result["node_diff"]["only_in_other"] == ["node4"]


@pytest.mark.row("S0-25")
def test_compare_says_what_differs_that_is_of_no_node(flow: Flow, tmp_path: Path) -> None:
    """What the run was given, what it came to, a recorded state, the order of events, why the run ended."""
    storage, identifiers = FileRecordingStorage(tmp_path / "recordings"), []
    for region, nodes, error in (("eu", "ab", None), ("us", "ba", "no room")):
        recorder = ExecutionRecorder("shop", record_state_snapshots=True)
        recorder.record_workflow_start({"region": region})
        for name in nodes:
            recorder.record_node_start(name)
        recorder.record_state_snapshot({"place": region})
        recorder.record_workflow_complete({"orders": len(region + nodes[0]), "for": region}, error is None, error)
        identifiers.append(storage.save_sync(recorder))

    out = flow("compare", *identifiers, "--storage", str(tmp_path / "recordings"))

    assert flow.code == 1
    assert "Event differences:\n  Only in 1: 1\n  Only in 2: 1\n  In another order: 1\n" in out
    assert "Run differences:\n  input:\n    /region: eu -> us\n" in out
    assert "  state at event 4:\n    /place: eu -> us\n" in out
    assert "Error differences:\n  (run): none vs no room\n" in out


@pytest.mark.row("S0-25")
def test_compare_says_where_final_states_differ(flow: Flow, tmp_path: Path) -> None:
    storage, identifiers = FileRecordingStorage(tmp_path / "recordings"), []
    for orders in (3, 4):
        recorder = ExecutionRecorder("shop")
        recorder.record_workflow_complete({"orders": orders}, True)
        identifiers.append(storage.save_sync(recorder))

    out = flow("compare", *identifiers, "--storage", str(tmp_path / "recordings"))

    assert "Run differences:\n  final state:\n    /orders: 3 -> 4\n" in out
    assert "Event differences" not in out


@pytest.mark.row("S0-26")
def test_export(flow: Flow, make_execution: Make, alice: Any, tmp_path: Path) -> None:
    identifier = str(make_execution().pk)

    out = flow("export", identifier, "--format", "dot", "--output", str(tmp_path / "x.dot"))
    assert f"dot -Tpng {tmp_path}/x.dot -o {tmp_path}/x.png" in out
    assert (tmp_path / "x.dot").read_text().startswith("digraph workflow_execution {")
    flow("export", identifier, "--format", "json", "--output", str(tmp_path / "x.json"))
    assert len(json.loads((tmp_path / "x.json").read_text())["events"]) == 11
    assert "Timeline:" in flow("export", identifier, "--output", "-")
    for kind, start in (("html", "<!doctype html"), ("svg", "<svg"), ("mermaid", "flowchart"), ("dot", "digraph")):
        assert start in flow("export", identifier, "--format", kind, "--output", "-").lower()[:200], kind
    trace = json.loads(flow("export", identifier, "--format", "trace", "--output", "-"))
    assert len(trace["traceEvents"]) > 3
    flow("export", identifier, "--format", "fbrec", "--output", str(tmp_path / "recordings" / "x.fbrec"))
    copied = flow("replay", identifier, "--storage", str(tmp_path / "recordings"))
    assert copied == flow("replay", identifier)


def test_export_to_where_it_cannot_be_is_one_line(flow: Flow, make_execution: Make, alice: Any, tmp_path: Path) -> None:
    recording = make_execution()

    flow("export", str(recording.pk), "--output", str(tmp_path))

    assert flow.code == 1
    assert flow.error == f"error: cannot write {tmp_path}: Is a directory\n"
    assert list(tmp_path.parent.glob(".*.tmp")) == []


@pytest.mark.row("S0-26")
def test_calls_to_other_systems_are_exported_as_har(flow: Flow, tmp_path: Path, alice: Any) -> None:
    recorder = record_run("calls")
    for data in (
        {
            "method": "POST",
            "url": "https://x.test/a",
            "status": 201,
            "bytes": 12,
            "duration_seconds": 0.25,
            "error": None,
        },
        {
            "method": "GET",
            "url": "https://x.test/b",
            "status": None,
            "bytes": 0,
            "duration_seconds": 2.0,
            "error": "refused",
        },
        {"method": None, "status": "odd", "bytes": -3, "duration_seconds": "soon"},
    ):
        recorder.record_event("external_call", "send", **data)
    identifier = FileRecordingStorage(tmp_path).save_sync(recorder)

    archive = json.loads(flow("--storage", str(tmp_path), "export", identifier, "--format", "har", "--output", "-"))

    first, second, strange = archive["log"]["entries"]
    assert archive["log"]["version"] == "1.2"
    assert (first["request"]["method"], first["request"]["url"], first["time"]) == ("POST", "https://x.test/a", 250.0)
    assert (first["response"]["status"], first["response"]["statusText"]) == (201, "Created")
    assert first["response"]["content"]["size"] == 12
    called = recorder.events[-3].timestamp - 0.25
    assert datetime.fromisoformat(first["startedDateTime"]).timestamp() == pytest.approx(called, abs=0.002)
    assert (second["response"]["status"], second["_error"], second["comment"]) == (0, "refused", "node send")
    assert (strange["time"], strange["response"]["status"], strange["response"]["bodySize"]) == (0, 0, 0)


@pytest.mark.row("S0-40")
def test_verify(flow: Flow, tmp_path: Path, alice: Any) -> None:
    storage = FileRecordingStorage(tmp_path)
    identifier = storage.save_sync(record_run())

    assert flow("verify", identifier, "--storage", str(tmp_path)) == "OK: 6 events\n"
    (path,) = (tmp_path / "recordings").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    out = flow("verify", identifier[:8], "--storage", str(tmp_path))

    assert flow.code == 1
    assert out.startswith("DAMAGED:")
    assert flow.json("verify", identifier, "--storage", str(tmp_path))["ok"] is False


def long_file(path: Path) -> list[Any]:
    """Write a sealed file of three frames of 100 events and return the events."""
    recorder = record_run(nodes=149)
    with path.open("wb") as file:
        write_sealed(file, recorder.metadata, recorder.events, frame_events=100)
    return recorder.events


@pytest.mark.row("S0-40")
def test_verify_names_every_damaged_range_in_json(flow: Flow, tmp_path: Path) -> None:
    path = tmp_path / "recordings" / "damaged.fbrec"
    path.parent.mkdir()
    long_file(path)
    with SealedRecording.open(path) as recording:
        second = recording.frames[1]
    content = bytearray(path.read_bytes())
    content[second.parts[1][1] + 5] ^= 0xFF
    path.write_bytes(content)
    (damaged,) = (found := flow.json("verify", "damaged", "--storage", str(tmp_path)))["damaged"]

    assert flow.code == 1
    assert (damaged["first_seq"], damaged["last_seq"], damaged["offset"]) == (101, 200, second.offset)
    assert (damaged["size_bytes"], damaged["part"]) == (second.end - second.offset, "frame 2")
    assert "checksum" in damaged["reason"]
    assert found["intact"] == [{"first_seq": 1, "last_seq": 100}, {"first_seq": 201, "last_seq": 300}]

    path.write_bytes(content[: second.end + 10])
    found = flow.json("verify", "damaged", "--storage", str(tmp_path))
    assert [(item["first_seq"], item["last_seq"]) for item in found["damaged"]] == [(101, 200), (201, None)]
    assert found["intact"] == [{"first_seq": 1, "last_seq": 100}]


@pytest.mark.parametrize("name", ["whole.fbrec", "whole.json", "whole.json.gz"])
def test_recover_writes_what_a_file_that_was_cut_off_still_has(flow: Flow, tmp_path: Path, name: str) -> None:
    path, target = tmp_path / "cut.fbrec", tmp_path / name
    events = long_file(path)
    with SealedRecording.open(path) as recording:
        end = recording.frames[1].end
    path.write_bytes(path.read_bytes()[: end + 30])

    out = flow("recover", str(path), "--output", str(target))

    assert (flow.code, out.splitlines()[0]) == (0, f"Recovered 200 events to {target}")
    assert "events from 201 on are lost" in out
    with ExecutionReplayer.load(target) as replayer:
        replayer.verify()
        assert list(replayer.events) == events[:200]
        assert replayer.metadata.extra["recovered"] is True
    assert flow("recover", str(path), "--output", str(path)) == ""
    assert (flow.code, path.stat().st_size) == (2, end + 30)
    found = flow.json("recover", str(path), "--output", str(tmp_path / "again.fbrec"))
    assert (found["events"], found["damaged"][0]["first_seq"]) == (200, 201)


def test_recover_refuses_what_holds_no_event(flow: Flow, tmp_path: Path) -> None:
    (tmp_path / "no.fbrec").write_bytes(b"nothing of ours")

    for file in ("no.fbrec", "absent.fbrec"):
        flow("recover", str(tmp_path / file), "--output", str(tmp_path / "x.json"))
        assert flow.code == 1
        assert file in flow.error
    assert not (tmp_path / "x.json").exists()


@pytest.mark.postgres
@pytest.mark.row("S0-27")
def test_stats(flow: Flow, make_execution: Make, alice: Any) -> None:
    make_execution()
    make_execution(success=True, workflow_name="other")

    out = flow("stats")

    assert out.splitlines()[:2] == ["Storage Statistics: database", "-" * 50]
    for line in (
        "  Success rate: 50.0%",
        "  Total: 2",
        "  Successful: 1",
        "  Failed: 1",
        "  Unfinished: 0",
        "  Total duration: 8.0s",
        "  other: 1 (1.2KB)",
    ):
        assert line in out.splitlines()
    assert flow.json("stats")["total_recordings"] == 2


@pytest.mark.row("S0-27")
def test_stats_say_how_much_each_workflow_takes(flow: Flow, make_execution: Make, alice: Any, tmp_path: Path) -> None:
    recording = make_execution(finished=True)
    seal(recording)
    recording.refresh_from_db()
    young = make_execution(success=None, workflow_name="other")
    waiting = keeping.sizes_by_workflow()[0]["bytes"]
    storage = FileRecordingStorage(tmp_path)
    storage.save_sync(record_run("filed"))

    assert flow.json("stats")["workflow_sizes"] == {"shop": recording.file_size_bytes, "other": waiting}
    assert waiting > 60 * young.event_count
    assert "  Unfinished: 1" in flow("stats").splitlines()
    assert flow.json("stats")["success_rate"] == 0.0
    totals = flow.json("stats", "--storage", str(tmp_path))
    assert totals["workflow_sizes"] == {"filed": totals["total_size_bytes"]}
    assert totals["success_rate"] == 1.0
    assert flow("--storage", str(tmp_path), "stats").startswith(f"Storage Statistics: {tmp_path}\n")
    (tmp_path / "empty").mkdir()
    assert "  Success rate: N/A" in flow("--storage", str(tmp_path / "empty"), "stats").splitlines()


@pytest.mark.row("S0-28")
def test_cleanup(flow: Flow, make_execution: Make, alice: Any) -> None:
    failed, good = make_execution(age_days=40), make_execution(age_days=40, success=True)
    new = make_execution(success=True, age_days=1)

    out = flow("cleanup", "--max-age-days", "30", "--dry-run")
    assert f"To delete: 1 (1.2KB)\n  {good.pk}\n" in out
    assert out.endswith("\nDry run: nothing was deleted.\n")
    assert Recording.objects.count() == 3
    assert flow.json("cleanup", "--max-age-days", "30", "--delete-failed")["to_delete"] == 2
    assert [recording.pk for recording in Recording.objects.all()] == [new.pk]
    flow("cleanup")
    assert (flow.code, "--max-count" in flow.error) == (2, True)
    assert failed.pk != good.pk


@pytest.mark.row("S0-28")
def test_cleanup_says_by_which_rule_the_others_stay(flow: Flow, make_execution: Make, alice: Any) -> None:
    make_execution(age_days=40)
    make_execution(age_days=40, success=True, tags=["critical"])
    make_execution(age_days=40, success=True, tags=["legal-hold"])
    old, new = make_execution(age_days=40, success=True), make_execution(age_days=1, success=True)

    out = flow("cleanup", "--max-age-days", "30", "--keep-tags", "other, critical", "--dry-run")

    assert f"To delete: 1 (1.2KB)\n  {old.pk}\nKept: 4\n" in out
    for line in ("  on legal hold: 1", "  protected by a tag: 1", "  failed: 1", "  within the limits: 1"):
        assert line in out.splitlines()
    assert flow.json("cleanup", "--max-age-days-failed", "30", "--dry-run")["to_delete"] == 1
    assert flow.json("cleanup", "--max-size-gb", "0", "--delete-failed", "--dry-run")["to_delete"] == 4
    Recording.objects.filter(pk__in=[old.pk, new.pk]).update(file_size_bytes=600 << 20)
    held = ("--max-size-gb", "1", "--keep-tags", "critical")
    assert flow.json("cleanup", *held)["deleted_ids"] == [str(old.pk)]
    flow("cleanup", "--max-size-gb", "-1")
    assert flow.code == 2


def test_tail_from_the_middle_counts_the_time_from_the_start(flow: Flow, make_execution: Make, alice: Any) -> None:
    recording = make_execution()

    whole = flow("tail", str(recording.pk)).splitlines()

    assert not whole[8].endswith("(t=0.000s)")
    assert flow("tail", str(recording.pk), "--after", "8").splitlines() == whole[8:]


def test_compare_tells_what_is_not_there_from_null(flow: Flow, tmp_path: Path) -> None:
    storage = FileRecordingStorage(tmp_path)
    keys = []
    for outputs in ({"gone": None}, {"came": None}):
        recorder = ExecutionRecorder("shop")
        recorder.record_node_complete("fetch", outputs)
        keys.append(storage.save_sync(recorder))

    out = flow("compare", *keys, "--storage", str(tmp_path))

    assert "/gone: null -> (not there)" in out
    assert "/came: (not there) -> null" in out


def test_replay_of_nothing_says_so(flow: Flow, tmp_path: Path) -> None:
    identifier = FileRecordingStorage(tmp_path).save_sync(ExecutionRecorder("empty"))

    assert flow("replay", identifier, "--storage", str(tmp_path)) == ""
    assert flow.error == "There are no events to show.\n"


def test_a_summary_holds_nothing_that_writes_on_the_terminal(flow: Flow, tmp_path: Path) -> None:
    recorder = ExecutionRecorder("shop\x1b[31m\nStatus: SUCCESS")
    recorder.record_node_start("a\x1b[2J")
    recorder.record_workflow_complete({}, False, "gone\x07")
    identifier = FileRecordingStorage(tmp_path).save_sync(recorder)

    out = flow("export", identifier, "--output", "-", "--storage", str(tmp_path))

    assert not set(out) & {"\x1b", "\x07"}
    assert [line.split(":")[0] for line in out.splitlines()].count("Status") == 1


@pytest.mark.parametrize("suffix", [".json", ".json.gz", ".fbrec"])
def test_import(flow: Flow, alice: Any, blobs: str, tmp_path: Path, suffix: str) -> None:
    recorder = record_run("brought")
    file = tmp_path / f"run{suffix}"
    recorder.save_sync(file)
    broken = tmp_path / f"broken{suffix}"
    broken.write_bytes(file.read_bytes()[:-30])

    out = flow("import", str(file), str(broken), "--tags", "brought,here")

    assert flow.code == 1
    assert str(broken) in flow.error
    (recording,) = Recording.objects.all()
    assert out == f"Imported {file} as {recorder.metadata.recording_id}\n"
    assert sorted(recording.tags) == ["brought", "here"]
    assert flow("verify", str(recording.pk)) == "OK: 6 events\n"
    assert recording.user_id == alice.pk
    flow("import", str(tmp_path / "missing.json"))
    assert flow.code == 1


@pytest.mark.postgres
def test_tags_are_added_and_removed(flow: Flow, make_execution: Make, alice: Any, bob: Any, tmp_path: Path) -> None:
    recording = make_execution(tags=["old"])

    out = flow("tag", str(recording.pk)[:8], "--add", "legal-hold, new", "--remove", "old")

    assert out == f"Tags of {recording.pk}: legal-hold, new\n"
    recording.refresh_from_db()
    assert recording.tags == ["legal-hold", "new"]
    assert flow.json("tag", str(recording.pk), "--remove", "new")["tags"] == ["legal-hold"]
    flow("tag", str(recording.pk))
    assert flow.code == 2
    flow("tag", str(recording.pk), "--add", "mine", "--user", "bob")
    assert flow.code == 1
    recording.refresh_from_db()
    assert recording.tags == ["legal-hold"]
    identifier = FileRecordingStorage(tmp_path).save_sync(record_run())
    assert flow.json("tag", identifier[:8], "--add", "kept", "--storage", str(tmp_path))["tags"] == ["kept"]
    assert len(flow.json("list", "--tags", "kept", "--storage", str(tmp_path))) == 1


def test_tail_of_what_has_ended_prints_all_and_ends(flow: Flow, make_execution: Make, alice: Any, bob: Any) -> None:
    recording = make_execution()

    out = flow("tail", str(recording.execution_id)[:8])

    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == [f"[{seq}]" for seq in range(1, 12)]
    assert lines[0].endswith("workflow_start (t=0.000s)")
    assert [
        json.loads(line)["seq"] for line in flow("tail", str(recording.pk), "--after", "9", "--json").splitlines()
    ] == [
        10,
        11,
    ]
    flow("tail", str(recording.pk), "--user", "bob")
    assert flow.code == 1


def test_as_a_process(make_execution: Make, alice: Any) -> None:
    recording = make_execution()

    def call(*arguments: str, keys: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", "recordings", *arguments], cwd=ROOT, env={**test_environment(), "NO_COLOR": "1"},
            input=keys, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    stepped = call("replay", str(recording.pk)[:8], "--step", keys="n\nq\n")
    assert stepped.returncode == 0, stepped.stderr
    assert len(stepped.stdout.splitlines()) == 2
    assert call("inspect", "ffffffff").returncode == 1
    assert call("inspect").returncode == 2
    assert os.linesep.join(json.loads(call("list", "--json").stdout)[0]["tags"]) == ""


def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path: Path, alice: Any) -> None:
    storage = FileRecordingStorage(tmp_path)
    recorder = record_run("long")
    for number in range(5_000):
        recorder.record_node_start(f"node{number}", {"text": "x" * 90})
    identifier = storage.save_sync(recorder)

    for flags in ("--show-data", "--json"):
        with subprocess.Popen(
            [sys.executable, "manage.py", "recordings", "replay", identifier, "--storage", str(tmp_path), flags],
            cwd=ROOT, env=test_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(60) == 0


@pytest.mark.redis
@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_tail_follows_a_running_execution_to_its_end(
    flow: Flow, processes: Any, alice: Any, make_workflow: Make
) -> None:
    waits = [node(f"wait{number}", "delay", Duration=1) for number in range(3)]
    wires = [wire(f"wait{number}", "Done", f"wait{number + 1}", "Execute Condition") for number in range(2)]
    execution = start_execution(make_workflow(graph(waits, *wires)), by=alice)
    begun = time.monotonic()
    processes.worker()

    lines = [json.loads(line) for line in flow("tail", str(execution.pk)[:8], "--json").splitlines()]

    execution.refresh_from_db()
    assert time.monotonic() - begun > 3
    assert execution.status == "completed", processes.logs()
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert (lines[0]["event_type"], lines[-1]["event_type"]) == ("workflow_start", "workflow_complete")
    assert [line["node_id"] for line in lines if line["event_type"] == "node_complete"] == ["wait0", "wait1", "wait2"]
    recording = Recording.objects.get(execution_id=execution.pk)
    kept = flow("keep", str(execution.pk)[:8])
    assert kept == f"Kept execution {execution.pk} as recording {recording.pk}\n"
    flow("keep", "f" * 32)
    assert (flow.code, "no recording or execution" in flow.error) == (1, True)
