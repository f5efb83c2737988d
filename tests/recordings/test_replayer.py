"""Reading a recording: every question has the same answer for every form it is kept in."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recordings import ExecutionRecorder, ExecutionReplayer, RecordingEventType
from recordings.export import human_bytes, human_duration, to_json, to_summary
from recordings.sealed import SealedRecording, write_sealed
from tests.recordings.conftest import record_long, record_run


def example() -> ExecutionRecorder:
    """Seven events, one snapshot."""
    recorder = ExecutionRecorder("shop", record_state_snapshots=True)
    recorder.record_workflow_start({"region": "eu"})
    recorder.record_node_start("node1", {"x": 1})
    recorder.record_node_complete("node1", {"a": 1}, 0.5)
    recorder.record_state_snapshot({"a": 99}, "node1")
    recorder.record_node_start("node2", {"y": 2})
    recorder.record_node_complete("node2", {"b": 2}, 1.0)
    recorder.record_workflow_complete({"a": 99, "b": 2}, True)
    return recorder


@pytest.fixture(params=["memory", "x.json", "x.json.gz", "x.fbrec"])
def replayer(request: pytest.FixtureRequest, tmp_path: Path) -> ExecutionReplayer:
    recorder = example()
    if request.param == "memory":
        return ExecutionReplayer(None, recorder.finalize(), recorder.events, recorder.snapshots)
    recorder.save_sync(tmp_path / request.param)
    return ExecutionReplayer.load(tmp_path / request.param)


def test_replayer_load(replayer: ExecutionReplayer) -> None:
    assert len(replayer.events) == 7
    assert len(replayer.snapshots) == 1
    assert replayer.current_position == 0
    assert replayer.metadata.workflow_name == "shop"


@pytest.mark.row("S0-30")
def test_replayer_step_forward(replayer: ExecutionReplayer) -> None:
    assert [event.seq for event in replayer.step_forward(2)] == [1, 2]
    assert replayer.current_position == 2
    assert next(iter(replayer.step_forward())).seq == 3
    assert replayer.current_position == 3


@pytest.mark.row("S0-17")
def test_stepping_without_a_number_goes_to_the_end(replayer: ExecutionReplayer) -> None:
    """D13: the documented loop printed one event."""
    assert len(list(replayer.step_forward())) == 7
    assert list(replayer.step_forward()) == []


@pytest.mark.row("S0-30")
def test_replayer_step_backward(replayer: ExecutionReplayer) -> None:
    replayer.jump_to_position(4)

    assert [event.seq for event in replayer.step_backward(2)] == [4, 3]
    assert replayer.current_position == 2
    assert [event.seq for event in replayer.step_backward(9)] == [2, 1]
    assert replayer.current_position == 0


def test_replayer_get_event(replayer: ExecutionReplayer) -> None:
    event = replayer.events[3]

    assert replayer.get_event(event.event_id) == event
    assert replayer.get_event("nothing") is None
    assert replayer.get_event("f" * 32) is None


def test_replayer_get_node_events(replayer: ExecutionReplayer) -> None:
    kinds = [event.event_type.value for event in replayer.get_node_events("node1")]

    assert kinds == ["node_start", "node_complete", "state_snapshot"]
    assert replayer.get_node_events("nothing") == []


@pytest.mark.row("S0-30")
def test_replayer_jump_to_event(replayer: ExecutionReplayer) -> None:
    event = replayer.events[5]

    assert replayer.jump_to_event(event.event_id)
    assert replayer.current_position == 5
    assert next(iter(replayer.step_forward())) == event
    assert not replayer.jump_to_event("nothing")
    assert not replayer.jump_to_position(7)
    assert not replayer.jump_to_position(-1)
    assert replayer.current_position == 6
    replayer.reset()
    assert replayer.current_position == 0


@pytest.mark.row("S0-30")
def test_replay_from_event_restores_the_position(replayer: ExecutionReplayer) -> None:
    replayer.jump_to_position(1)

    with replayer.replay_from_event(replayer.events[4].event_id) as events:
        assert [event.seq for event in events] == [5, 6, 7]
    assert replayer.current_position == 1
    with replayer.replay_from_event("nothing") as events:
        assert list(events) == []
    assert replayer.current_position == 1


@pytest.mark.row("S0-29")
def test_state_at_every_event(replayer: ExecutionReplayer) -> None:
    """D4: in the reference the state was frozen at the snapshot."""
    states = [replayer.get_state_at_event(event.event_id) for event in replayer.events]

    one = {"region": "eu", "a": 1, "$nodes": {"node1": {"a": 1}}}
    two = {"a": 99, "b": 2, "$nodes": {"node2": {"b": 2}}}
    assert states == [{"region": "eu"}, {"region": "eu"}, one, {"a": 99}, {"a": 99}, two, two]
    assert replayer.get_state_at_event("nothing") is None


@pytest.mark.row("S0-29")
def test_state_without_snapshots_has_outputs_and_errors() -> None:
    recorder = ExecutionRecorder("shop")
    recorder.record_node_start("a")
    recorder.record_node_complete("a", {"x": 1})
    recorder.record_node_complete("b", error="no such selector")
    recorder.record_node_complete("a", {"x": 2, "y": 3})
    replayer = ExecutionReplayer(None, recorder.finalize(), recorder.events, [])

    states = [replayer.get_state_at_position(position) for position in range(4)]

    assert states == [
        {},
        {"x": 1, "$nodes": {"a": {"x": 1}}},
        {"x": 1, "$nodes": {"a": {"x": 1}}, "$errors": {"b": "no such selector"}},
        {"x": 2, "y": 3, "$nodes": {"a": {"x": 2, "y": 3}}, "$errors": {"b": "no such selector"}},
    ]


def nested() -> ExecutionRecorder:
    """A loop of two rounds around a subflow, whose nodes have the ids of outer ones."""
    recorder = ExecutionRecorder("shop")
    recorder.record_workflow_start({"region": "eu"})
    recorder.record_node_complete("sum", {"total": 1})
    for number in (1, 2):
        recorder.record_recursion_enter("loop", "pages")
        recorder.record_node_complete("sum", {"total": 10 * number, f"round{number}": True})
        recorder.record_recursion_enter("workflow", "prices")
        recorder.record_node_complete("sum", {"total": 100 * number})
        recorder.record_node_complete("tax", error="no rate")
        recorder.record_recursion_exit("workflow", "prices")
        recorder.record_node_complete("last", {"n": number})
        recorder.record_recursion_exit("loop", "pages")
    recorder.record_node_complete("tax", {"rate": 0.2})
    recorder.record_workflow_complete({}, True)
    return recorder


@pytest.mark.row("S0-29")
@pytest.mark.parametrize("frame_events", [0, 1, 2, 3, 5, 100])
def test_a_nested_node_does_not_overwrite_the_outer_one_of_the_same_id(frame_events: int) -> None:
    recorder = nested()
    replayer = ExecutionReplayer(None, recorder.finalize(), recorder.events, [])
    if frame_events:
        file = io.BytesIO()
        write_sealed(file, replayer.metadata, replayer.events, frame_events=frame_events)
        replayer = ExecutionReplayer.from_sealed(SealedRecording.open(file.getvalue()))

    states = [replayer.get_state_at_position(position) for position in range(len(replayer.events))]

    outer = {"region": "eu", "total": 1, "$nodes": {"sum": {"total": 1}}}
    assert states[2] == {**outer, "$scopes": {"loop:pages": {}}}
    first = {"total": 10, "round1": True, "$nodes": {"sum": {"total": 10, "round1": True}}}
    assert states[3] == {**outer, "$scopes": {"loop:pages": first}}
    prices = {"total": 100, "$nodes": {"sum": {"total": 100}}, "$errors": {"tax": "no rate"}}
    assert states[7] == {**outer, "$scopes": {"loop:pages": {**first, "$scopes": {"workflow:prices": prices}}}}
    assert states[8]["$scopes"]["loop:pages"]["$nodes"]["last"] == {"n": 1}
    assert states[10] == {**outer, "$scopes": {"loop:pages": {}}}, "the second round begins anew"
    assert "round1" not in states[-1]["$scopes"]["loop:pages"]
    assert {key: value for key, value in states[-1].items() if key != "$scopes"} == {
        "region": "eu", "total": 1, "rate": 0.2, "$nodes": {"sum": {"total": 1}, "tax": {"rate": 0.2}},
    }  # fmt: skip


def test_nested_events_that_do_not_say_how_deep_they_are_belong_to_what_is_open() -> None:
    recorder = nested()
    told = ExecutionReplayer(None, recorder.finalize(), recorder.events, [])
    silent = [replace(event, metadata={}) for event in recorder.events]
    assert any("recursion_depth" in event.metadata for event in recorder.events)

    replayer = ExecutionReplayer(None, recorder.metadata, silent, [])

    for position in range(len(silent)):
        assert replayer.get_state_at_position(position) == told.get_state_at_position(position), position


def test_outputs_that_are_gone_leave_no_trace_of_their_place_in_the_state() -> None:
    recorder = ExecutionRecorder("shop")
    recorder.record_node_complete("page", {"$blob": "0" * 64})
    lost = replace(recorder.events[0], data={**recorder.events[0].data, "outputs_missing": True})

    replayer = ExecutionReplayer(None, recorder.finalize(), [lost], [])

    assert replayer.get_state_at_position(0) == {"$nodes": {"page": {}}}


@pytest.mark.parametrize("most", [2, 3, 5, 257])
def test_states_kept_on_the_way_are_few_and_change_no_answer(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("recordings.replayer.KEYFRAME_EVENTS", 4)
    monkeypatch.setattr("recordings.replayer.MOST_KEYFRAMES", most)
    recorder = record_long(200, nodes=7)
    file = io.BytesIO()
    write_sealed(file, recorder.finalize(), recorder.events)
    sealed = SealedRecording.open(file.getvalue())
    replayer = ExecutionReplayer(None, recorder.metadata, recorder.events, [])

    for position in (*range(0, 200, 9), 199, *range(0, 200, 7)):
        assert replayer.get_state_at_position(position) == sealed.state_at(position), position
        assert len(replayer._keyframes) <= most


def test_an_event_is_found_by_its_id_without_reading_the_others() -> None:
    recorder = record_long(1000)
    read: list[int] = []

    class Noted(list[Any]):
        def __getitem__(self, place: Any) -> Any:
            read.append(place)
            return super().__getitem__(place)

    replayer = ExecutionReplayer(None, recorder.finalize(), Noted(recorder.events), [])

    assert replayer.position_of(recorder.events[700].event_id) == 700
    assert read == [0, 700]
    assert replayer.position_of("foreign") is None


def test_a_snapshot_replaces_scopes_and_brings_its_own() -> None:
    recorder = nested()
    whole = ExecutionReplayer(None, recorder.finalize(), recorder.events, []).get_state_at_position(7)
    again = ExecutionRecorder("shop", record_state_snapshots=True)
    again.record_recursion_enter("loop", "gone")
    again.record_state_snapshot(whole)
    again.record_node_complete("x", {"y": 1})
    file = io.BytesIO()
    write_sealed(file, again.finalize(), again.events, again.snapshots, frame_events=1)
    for replayer in (
        ExecutionReplayer(None, again.metadata, again.events, again.snapshots),
        ExecutionReplayer.from_sealed(SealedRecording.open(file.getvalue())),
    ):
        assert replayer.get_state_at_position(1) == whole
        scopes = {**whole["$scopes"], "loop:gone": {"y": 1, "$nodes": {"x": {"y": 1}}}}
        assert replayer.get_state_at_position(2) == {**whole, "$scopes": scopes}


def test_an_event_belongs_to_the_scope_of_its_own_depth() -> None:
    """An outer node may end while a nested run is still open."""
    recorder = ExecutionRecorder("shop")
    recorder.record_recursion_enter("workflow", "prices")
    recorder.record_as("node_complete", 1_700_000_000_000_000, "outer", {"outputs": {"x": 1}}, depth=0)
    recorder.record_as("node_complete", 1_700_000_000_000_000, "inner", {"outputs": {"x": 2}}, depth=1)
    replayer = ExecutionReplayer(None, recorder.finalize(), recorder.events, [])

    assert replayer.get_state_at_position(2) == {
        "x": 1, "$nodes": {"outer": {"x": 1}},
        "$scopes": {"workflow:prices": {"x": 2, "$nodes": {"inner": {"x": 2}}}},
    }  # fmt: skip


def test_subflows_of_the_engine_are_recordings_of_their_own() -> None:
    """Its ``recursion_enter`` names an execution; many may be open, and nodes after it are not inside."""
    recorder = ExecutionRecorder("shop")
    recorder.record_event("recursion_enter", "each", execution_id="e1", index=0, depth=1)
    recorder.record_event("recursion_enter", "each", execution_id="e2", index=1, depth=1)
    recorder.record_node_complete("each", {"Results": 2})
    replayer = ExecutionReplayer(None, recorder.finalize(), recorder.events, [])

    assert replayer.get_state_at_position(2) == {"Results": 2, "$nodes": {"each": {"Results": 2}}}


def test_a_state_is_a_copy(replayer: ExecutionReplayer) -> None:
    event_id = replayer.events[6].event_id
    state: Any = replayer.get_state_at_event(event_id)
    state["$nodes"]["node2"]["b"] = "changed"
    state["a"] = "changed"

    again: Any = replayer.get_state_at_event(event_id)
    assert again["a"] == 99
    assert again["$nodes"]["node2"] == {"b": 2}


@pytest.mark.row("S0-09")
def test_replayer_compare(replayer: ExecutionReplayer) -> None:
    recorder = ExecutionRecorder("shop")
    recorder.record_node_start("node1", {"x": 1})
    recorder.record_node_complete("node1", {"a": 5}, 0.5)
    recorder.record_workflow_complete({}, True)
    other = ExecutionReplayer(None, recorder.finalize(), recorder.events, [])

    result = replayer.compare(other)

    assert result["node_diff"] == {"only_in_self": {"node2"}, "only_in_other": set(), "common": {"node1"}}
    assert result["metadata_diff"]["node_count_diff"] == 1
    assert result["metadata_diff"]["event_count_diff"] == 4
    assert result["path_diff"]["self_path"] == ["node1", "node1", "node1", "node2", "node2"]
    assert result["path_diff"]["first_difference"] == {"position": 2, "self_node": "node1", "other_node": None}
    assert result["output_diff"] == {"node1": [{"path": "/a", "change": "changed", "old": 1, "new": 5}]}
    assert result["identical"] is False


@pytest.mark.row("S0-09")
def test_a_path_that_ends_earlier_differs_at_its_end() -> None:
    """D11: the reference called a prefix identical."""
    short, long = (
        ExecutionReplayer(None, recorder.finalize(), recorder.events, [])
        for recorder in (record_run(nodes=1), record_run(nodes=2))
    )

    assert short.compare(long)["path_diff"]["first_difference"] == {
        "position": 2, "self_node": None, "other_node": "node2",
    }  # fmt: skip
    assert long.compare(short)["path_diff"]["first_difference"] == {
        "position": 2, "self_node": "node2", "other_node": None,
    }  # fmt: skip
    assert short.compare(short)["path_diff"]["first_difference"] is None
    assert short.compare(short)["identical"] is True


def test_output_differences_are_json_pointers() -> None:
    replayers = []
    for outputs in (
        {"same": 1, "a/b": {"c~d": [1, 2, 3]}, "gone": 1, "flag": True},
        {"same": 1, "a/b": {"c~d": [1, 9]}, "new": 2, "flag": 1},
    ):
        recorder = ExecutionRecorder("shop")
        recorder.record_node_complete("n", outputs)
        replayers.append(ExecutionReplayer(None, recorder.finalize(), recorder.events, []))

    changes = replayers[0].compare(replayers[1])["output_diff"]["n"]

    assert [(change["path"], change["change"]) for change in changes] == [
        ("/a~1b/c~0d/1", "changed"), ("/a~1b/c~0d/2", "removed"), ("/gone", "removed"), ("/flag", "changed"),
        ("/new", "added"),
    ]  # fmt: skip


@pytest.mark.row("S0-33")
def test_hidden_outputs_are_compared_by_hash() -> None:
    def replay(value: int) -> ExecutionReplayer:
        recorder = ExecutionRecorder("shop", record_outputs=False)
        recorder.record_node_complete("n", {"x": value})
        return ExecutionReplayer(None, recorder.finalize(), recorder.events, [])

    assert replay(1).compare(replay(1))["output_diff"] == {}
    assert list(replay(1).compare(replay(2))["output_diff"]) == ["n"]


@pytest.mark.row("S0-10")
def test_replayer_visualize(replayer: ExecutionReplayer, tmp_path: Path) -> None:
    dot = replayer.visualize(tmp_path / "graph.dot")

    assert (tmp_path / "graph.dot").read_text() == dot
    assert dot.startswith("digraph workflow_execution {\n  rankdir=TD;\n  node [shape=box];\n")
    assert '"node1" [label="node1\\n(0.50s)"' in dot
    assert '"node1" -> "node2" [style=dashed];' in dot
    assert dot.endswith("}\n")


@pytest.mark.row("S0-10")
def test_visualize_without_duration_and_with_a_hostile_name() -> None:
    """D10: the reference raised TypeError for a duration of None."""
    recorder = ExecutionRecorder("shop")
    recorder.record_node_start('a"]; evil [label="\n\\')
    recorder.record_node_complete('a"]; evil [label="\n\\')
    replayer = ExecutionReplayer(None, recorder.finalize(), recorder.events, [])

    dot = replayer.visualize()

    assert '"a\\"]; evil [label=\\"\\n\\\\" [label="a\\"]; evil [label=\\"\\n\\\\\\n(0.00s)"' in dot


def test_exports_for_people(replayer: ExecutionReplayer) -> None:
    summary = to_summary(replayer)

    assert "Workflow: shop" in summary
    assert summary.count("\n  +") == 7
    assert '"snapshots"' in to_json(replayer)


@pytest.mark.row("S0-35")
def test_the_documented_timing_loop(replayer: ExecutionReplayer) -> None:
    durations: dict[str | None, float] = {}
    for event in replayer.events:
        if event.event_type == RecordingEventType.NODE_COMPLETE:
            node_id = event.node_id
            duration = event.data.get("duration_seconds", 0)
            durations[node_id] = durations.get(node_id, 0) + duration

    assert durations == {"node1": 0.5, "node2": 1.0}


def test_human_formats() -> None:
    assert [human_bytes(size) for size in (512, 12_595, 2_411_725, 1 << 30, None)] == [
        "512.0B", "12.3KB", "2.3MB", "1.0GB", "N/A",
    ]  # fmt: skip
    assert [human_duration(seconds) for seconds in (0.123, 15.2, 754, None)] == ["123ms", "15.2s", "12m 34.0s", "N/A"]


def test_a_recording_of_the_reference_implementation_is_read(tmp_path: Path) -> None:
    """Its files have random ids, sub-microsecond times, and no checksum."""
    path = tmp_path / "old.json"
    path.write_text(
        '{"metadata": {"recording_id": "r1", "workflow_name": "w", "started_at": 1736937000.1234567, "checksum": null,'
        ' "tags": []}, "events": [{"event_id": "e1", "event_type": "node_complete", "timestamp": 1736937000.1234567,'
        ' "workflow_id": "x", "node_id": "n", "data": {"outputs": {"a": 1}}, "metadata": {"recursion_depth": 0}},'
        ' {"event_id": "e2", "event_type": "state_snapshot", "timestamp": 1736937001, "workflow_id": "y",'
        ' "node_id": null, "data": {"snapshot_id": "s1"}, "metadata": {}}], "snapshots": [{"snapshot_id": "s1",'
        ' "timestamp": 1736937001, "workflow_id": "y", "node_id": null, "state": {"b": 2}, "recursion_depth": 0,'
        ' "execution_stack": []}]}'
    )
    old = ExecutionReplayer.load(path)

    with (tmp_path / "new.fbrec").open("wb") as file:
        write_sealed(file, old.metadata, old.events, old.snapshots)
    new = ExecutionReplayer.from_sealed(SealedRecording.open(tmp_path / "new.fbrec"))

    assert list(new.events) == list(old.events)
    assert new.position_of("e2") == 1
    assert [r.get_state_at_event("e2") for r in (old, new)] == [{"b": 2}, {"b": 2}]


@pytest.mark.row("S0-30")
@pytest.mark.parametrize("name", ["x.json", "x.fbrec"])
def test_a_thousand_steps_take_less_than_a_millisecond_once_warm(tmp_path: Path, name: str) -> None:
    """Process time, the best of a few rounds; both directions cross a frame of the sealed form."""
    record_long(4000).save_sync(tmp_path / name)
    replayer = ExecutionReplayer.load(tmp_path / name)
    seconds: dict[str, list[float]] = {"forward": [], "backward": []}
    for _ in range(8):
        replayer.jump_to_position(1500)
        for direction, step in (("forward", replayer.step_forward), ("backward", replayer.step_backward)):
            began = time.process_time()
            assert sum(1 for _ in step(1000)) == 1000
            seconds[direction].append(time.process_time() - began)

    assert {direction: min(found) < 0.001 for direction, found in seconds.items()} == {
        "forward": True, "backward": True,
    }, seconds  # fmt: skip
    assert replayer.current_position == 1500


def test_stepping_builds_an_event_once(tmp_path: Path) -> None:
    record_long(100).save_sync(tmp_path / "x.fbrec")
    replayer = ExecutionReplayer.load(tmp_path / "x.fbrec")

    forward = list(replayer.step_forward())
    backward = list(replayer.step_backward(100))

    assert [id(event) for event in reversed(backward)] == [id(event) for event in forward]


@pytest.mark.row("S0-29")
@pytest.mark.parametrize("suffix", [".json", ".fbrec", None])
def test_a_state_is_the_callers_own(tmp_path: Path, suffix: str | None) -> None:
    """What a caller does to a state is in no later state and in no event."""
    recorder = ExecutionRecorder("shop")
    recorder.record_workflow_start({"region": {"name": "eu"}})
    recorder.record_node_complete("fetch", {"page": {"links": ["a"]}}, 0.1)
    recorder.record_node_complete("broken", None, 0.1, "no")
    replayer = ExecutionReplayer(None, recorder.metadata, recorder.events, recorder.snapshots)
    if suffix:
        recorder.save_sync(tmp_path / f"run{suffix}")
        replayer = ExecutionReplayer.load(tmp_path / f"run{suffix}")
    wanted = replayer.get_state_at_position(2)

    spoilt = replayer.get_state_at_position(2)
    spoilt["region"]["name"] = spoilt["page"]["links"][0] = "spoilt"
    spoilt["$nodes"]["fetch"]["page"]["links"].append("spoilt")
    spoilt["$errors"].clear()

    assert replayer.get_state_at_position(2) == wanted
    assert "spoilt" not in str([event.to_dict() for event in replayer.events])


@pytest.mark.parametrize("name", ["x.json", "x.fbrec"])
@pytest.mark.parametrize("nodes", [1, 1000])
def test_outputs_without_names_are_in_the_state_of_their_node(tmp_path: Path, name: str, nodes: int) -> None:
    """A program may give a list; the state is the same near its event and far from it."""
    recorder = ExecutionRecorder("shop")
    recorder.record_node_complete("rows", [1, {"a": 2}])  # type: ignore[arg-type]
    for number in range(nodes):
        recorder.record_node_complete("count", {"n": number})
    recorder.save_sync(tmp_path / name)

    replayer = ExecutionReplayer.load(tmp_path / name)
    state = replayer.get_state_at_event(replayer.events[-1].event_id)

    assert state == {"n": nodes - 1, "$nodes": {"rows": [1, {"a": 2}], "count": {"n": nodes - 1}}}
