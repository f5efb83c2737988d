"""Every Python example of the specification of recording and replay, run as it is written; only imports are ours.

Each example finds what its prose takes for granted: an ``executor``, a ``workflow`` and its ``context``, a
``recorder`` of a run, recording files in the current directory.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import recordings
from executions.local import Executor, WorkflowFailed
from recordings import (
    ExecutionReplayer,
    FileRecordingStorage,
    InMemoryRecordingStorage,
    RecordingEventType,
    disable_workflow_recording,
    get_current_recorder,
)
from recordings.context import keep_last
from recordings.retention import DAY_SECONDS
from tests.conftest import graph, node, wire
from tests.recordings.conftest import record_run

GOOD = graph(
    [
        node("fetch", "json_transform", Input_JSON={}, Transform_Rules={"page": {"value": "chairs"}}),
        node("count", "merge_data", Data_2={"pages": 1}),
    ],
    wire("fetch", "Transformed JSON", "count", "Data 1"),
)
BAD = graph([node("shop", "merge_data", Data_1={"key": {"$credential": "no such credential"}}, Data_2={})])
Run = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the text of an example, with more names than the usual ones, and return all names at its end."""
    monkeypatch.chdir(tmp_path)
    record_run(nodes=5).save_sync("recording.json.gz")
    names: dict[str, Any] = {name: getattr(recordings, name) for name in recordings.__all__}
    names |= {
        "executor": Executor(), "workflow": GOOD, "context": {"region": "eu"}, "initial_context": {"region": "eu"},
        "time": time, "logger": logging.getLogger("specification"), "recorder": record_run(),
        "replayer": ExecutionReplayer.load("recording.json.gz"), "storage": FileRecordingStorage(),
    }  # fmt: skip

    async def execute(text: str, **more: Any) -> dict[str, Any]:
        names.update(more)
        disable_workflow_recording()  # what ran before in this process may have left a recorder
        keep_last(None)
        code = compile(inspect.cleandoc(text), "<example>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        try:
            result = eval(code, names)
            if inspect.isawaitable(result):
                await result
        finally:
            names["current"] = get_current_recorder()
            disable_workflow_recording()
        return names

    return execute


# --------------------------------------------------------------------------- quick start


@pytest.mark.row("S0-17")
async def test_recording_a_workflow_execution(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = await run("""
        from recordings.context import record_workflow
        from executions.local import Executor

        # Automatically record workflow execution
        with record_workflow("my_workflow") as recorder:
            executor = Executor()
            result = await executor.execute(workflow, initial_context)

        # Recording is automatically finalized
        print(f"Recorded {recorder.metadata.event_count} events")
    """)

    assert json.loads(names["result"].outputs["count"]["Merged Data"]) == {"page": "chairs", "pages": 1}
    assert capsys.readouterr().out == f"Recorded {len(names['recorder'].events)} events\n"
    assert names["recorder"].metadata.node_count == 2
    assert names["recorder"].metadata.completed_at is not None


@pytest.mark.row("S0-17")
async def test_saving_recordings(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = await run("""
        from recordings.storage import FileRecordingStorage

        # Save to file
        await recorder.save("saved.json")

        # Or use storage backend
        storage = FileRecordingStorage(base_path="./recordings")
        recording_id = await storage.save(recorder)
        print(f"Saved recording: {recording_id}")
    """)

    assert capsys.readouterr().out == f"Saved recording: {names['recorder'].metadata.recording_id}\n"
    assert Path("saved.json").is_file()
    assert Path(f"recordings/{names['recording_id']}.json.gz").is_file()


@pytest.mark.row("S0-17")
async def test_replaying_a_recording(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    await run("""
        from recordings.replayer import ExecutionReplayer

        # Load recording
        replayer = ExecutionReplayer.load("recording.json.gz")

        # Step through execution
        for event in replayer.step_forward():
            print(f"[{event.timestamp}] {event.event_type.value} @ {event.node_id}")

            # Inspect state at this point
            state = replayer.get_state_at_event(event.event_id)
            if state:
                print(f"  State: {list(state.keys())}")
    """)

    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("[")]) == 12
    assert lines[-1].startswith("  State: ['region', 'Html', 'key1', 'key2', 'key3', 'key4', 'key5'")


# --------------------------------------------------------------------------- strategies


@pytest.mark.row("S0-18")
async def test_strategy_1_manual_recording(run: Run) -> None:
    await run("""
        with record_workflow("important_workflow", tags=["production", "critical"]) as recorder:
            result = await executor.execute(workflow, context)

        await recorder.save("important_execution.json")
    """)

    saved = ExecutionReplayer.load("important_execution.json").metadata
    assert (saved.workflow_name, saved.tags, saved.success) == ("important_workflow", ["production", "critical"], True)


ON_FAILURE = """
    from recordings.context import enable_workflow_recording

    recorder = enable_workflow_recording(
        workflow_name="my_workflow",
        tags=["auto-failure"]
    )

    try:
        result = await executor.execute(workflow, context)
    except Exception as e:
        # Recording will have captured the failure
        await recorder.save(f"failure_{int(time.time())}.json")
        raise
"""


@pytest.mark.row("S0-18")
async def test_strategy_2_on_failure_recording(run: Run) -> None:
    with pytest.raises(WorkflowFailed, match='failed at node "shop"'):
        await run(ON_FAILURE, workflow=BAD)

    (path,) = Path().glob("failure_*.json")
    replayer = ExecutionReplayer.load(path)
    assert replayer.metadata.success is False
    assert replayer.metadata.tags == ["auto-failure"]
    assert replayer.events[0].event_type is RecordingEventType.WORKFLOW_START
    assert [event.node_id for event in replayer.events if event.event_type is RecordingEventType.NODE_ERROR] == ["shop"]
    assert replayer.events[0].data["initial_context"] == {"region": "eu"}
    path.unlink()

    await run(ON_FAILURE, workflow=GOOD)

    assert list(Path().glob("failure_*")) == []


@pytest.mark.row("S0-18")
@pytest.mark.parametrize(("drawn", "kept"), [(0.05, 1), (0.5, 0)])
async def test_strategy_3_sampling(run: Run, monkeypatch: pytest.MonkeyPatch, drawn: float, kept: int) -> None:
    monkeypatch.setattr("random.random", lambda: drawn)

    await run("""
        import random

        if random.random() < 0.1:  # 10% sampling rate
            with record_workflow("sampled_workflow") as recorder:
                result = await executor.execute(workflow, context)
            await recorder.save(f"sample_{recorder.metadata.recording_id}.json")
    """)

    saved = [ExecutionReplayer.load(path).metadata.workflow_name for path in Path().glob("sample_*.json")]
    assert saved == ["sampled_workflow"] * kept


@pytest.mark.row("S0-18")
@pytest.mark.parametrize(("seconds", "kept"), [(61, ["long_running_61s.json"]), (59, [])])
async def test_strategy_4_conditional_recording(run: Run, seconds: int, kept: list[str]) -> None:
    clock = itertools.count(1000, seconds)

    await run("""
        # Record only long-running workflows
        start = time.time()
        result = await executor.execute(workflow, context)
        duration = time.time() - start

        if duration > 60:  # Longer than 60 seconds
            recorder = get_current_recorder()
            if recorder:
                await recorder.save(f"long_running_{int(duration)}s.json")
    """, time=SimpleNamespace(time=lambda: next(clock)))  # fmt: skip

    assert [path.name for path in Path().glob("long_running_*")] == kept
    for name in kept:
        assert ExecutionReplayer.load(name).metadata.node_count == 2


# --------------------------------------------------------------------------- storage


@pytest.mark.row("S0-17")
async def test_file_based_storage(run: Run) -> None:
    names = await run("""
        from recordings.storage import FileRecordingStorage

        storage = FileRecordingStorage(
            base_path="./recordings",
            compress=True,  # Use gzip compression
        )

        # Save
        recording_id = await storage.save(recorder)

        # Load
        replayer = await storage.load(recording_id)

        # List
        recordings = await storage.list()

        # Search with query
        from recordings.storage import RecordingQuery

        query = RecordingQuery(
            workflow_name="my_workflow",
            success=True,
            min_duration=10.0,
        )
        results = await storage.list(query)
    """)

    assert list(names["replayer"].events) == names["recorder"].events
    assert [item["recording_id"] for item in names["recordings"]] == [names["recording_id"]]
    assert names["results"] == []


async def test_in_memory_storage(run: Run) -> None:
    names = await run("""
        from recordings.storage import InMemoryRecordingStorage

        storage = InMemoryRecordingStorage()

        # Use same API as FileRecordingStorage
        recording_id = await storage.save(recorder)
        replayer = await storage.load(recording_id)

        # Clear all recordings
        storage.clear()
    """)

    assert list(names["replayer"].events) == names["recorder"].events
    assert await names["storage"].list() == []


@pytest.mark.row("S0-14")
async def test_retention_policies(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    storage = InMemoryRecordingStorage()
    for days, tags in ((40, []), (40, ["critical"]), (1, [])):
        recorder = record_run(tags=tags)
        recorder.metadata.started_at -= days * DAY_SECONDS
        await storage.save(recorder)
    size = next(item["file_size_bytes"] for item in await storage.list(max_duration=None, sort_order="asc"))

    await run("""
        from recordings.storage import RetentionPolicy

        # Keep recordings for 30 days
        policy = RetentionPolicy(max_age_days=30)

        # Keep only the most recent 100 recordings
        policy = RetentionPolicy(max_count=100)

        # Keep recordings under 1GB total
        policy = RetentionPolicy(max_size_gb=1.0)

        # Keep failed recordings for debugging
        policy = RetentionPolicy(
            max_age_days=7,
            keep_failed=True,  # Keep failures longer
        )

        # Always keep recordings with specific tags
        policy = RetentionPolicy(
            max_age_days=30,
            tags_to_keep=["critical", "production"],
        )

        # Apply policy
        result = await storage.apply_retention_policy(policy, dry_run=False)
        print(f"Deleted {result['to_delete']} recordings")
        print(f"Freed {result['total_size_bytes']} bytes")
    """, storage=storage)  # fmt: skip

    first, second = capsys.readouterr().out.splitlines()
    assert first == "Deleted 1 recordings"
    assert int(second.split()[1]) == pytest.approx(size, rel=0.2)
    assert len(await storage.list()) == 2


# --------------------------------------------------------------------------- advanced


@pytest.mark.row("S0-29")
async def test_state_inspection(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = await run("""
        # Load recording
        replayer = ExecutionReplayer.load("recording.json.gz")

        # Get state at a specific event
        event_id = replayer.events[5].event_id
        state = replayer.get_state_at_event(event_id)

        print(f"State keys: {list(state.keys())}")
        print(f"Values: {state}")
    """)

    assert names["state"]["key2"] == 2
    assert "key3" not in names["state"]
    assert "State keys: ['region', 'Html', 'key1', 'key2'" in capsys.readouterr().out


@pytest.mark.row("S0-30")
async def test_navigation(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = await run("""
        replayer = ExecutionReplayer.load("recording.json.gz")

        # Jump to specific event
        replayer.jump_to_event(event_id="abc123")

        # Jump to position
        replayer.jump_to_position(10)

        # Step forward
        for event in replayer.step_forward(steps=5):
            print(event.event_type)

        # Step backward
        for event in replayer.step_backward(steps=3):
            print(event.event_type)

        # Reset to beginning
        replayer.reset()
    """)

    kinds = [line.partition(".")[2] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["NODE_COMPLETE", "WORKFLOW_COMPLETE", "WORKFLOW_COMPLETE", "NODE_COMPLETE", "NODE_START"]
    assert names["replayer"].current_position == 0


@pytest.mark.row("S0-09")
async def test_comparison_and_diffing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    record_run(nodes=3).save_sync("recording1.json.gz")
    record_run(nodes=2).save_sync("recording2.json.gz")

    names = await run("""
        replayer1 = ExecutionReplayer.load("recording1.json.gz")
        replayer2 = ExecutionReplayer.load("recording2.json.gz")

        diff = replayer1.compare(replayer2)

        # Check metadata differences
        print(f"Duration diff: {diff['metadata_diff']['duration_diff']}s")

        # Check node differences
        print(f"Only in 1: {diff['node_diff']['only_in_self']}")
        print(f"Only in 2: {diff['node_diff']['only_in_other']}")

        # Check execution path differences
        if diff['path_diff']['first_difference']:
            fd = diff['path_diff']['first_difference']
            print(f"Paths diverge at position {fd['position']}")
            print(f"  1: {fd['self_node']}")
            print(f"  2: {fd['other_node']}")
    """)

    assert names["diff"]["metadata_diff"]["node_count_diff"] == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "Only in 1: {'node3'}", "Only in 2: set()", "Paths diverge at position 4", "  1: node3", "  2: None",
    ]  # fmt: skip


@pytest.mark.row("S0-02")
async def test_custom_event_recording(run: Run) -> None:
    names = await run("""
        from recordings.events import RecordingEventType

        recorder.record_recursion_enter("workflow", "nested_workflow")
        recorder.record_recursion_exit("workflow", "nested_workflow")

        # Record team execution
        recorder.record_team_start(
            team_id="review_team",
            formation="parallel",
            member_count=3,
            context={"task": "review code"},
        )

        # Record team communication
        recorder.record_team_member_communication(
            team_id="review_team",
            from_member="security_reviewer",
            to_member="quality_reviewer",
            message="Found 3 security issues",
        )
    """)

    assert [event.event_type.value for event in names["recorder"].events][-4:] == [
        "recursion_enter", "recursion_exit", "team_start", "team_communication",
    ]  # fmt: skip
    assert names["recorder"].finalize().team_count == 1
    assert names["recorder"].finalize().recursion_max_depth == 1


# --------------------------------------------------------------------------- best practices


@pytest.mark.row("S0-32")
async def test_practice_1_tag_your_recordings(run: Run) -> None:
    names = await run("""
        tags = ["production", "critical", "security-scan"]
        with record_workflow("security_scan", tags=tags) as recorder:
            result = await executor.execute(workflow, context)
    """)

    await names["storage"].save(names["recorder"])
    found = await names["storage"].list(tags=["security-scan", "critical"])
    assert [item["workflow_name"] for item in found] == ["security_scan"]


@pytest.mark.row("S0-12")
async def test_practice_2_compress_large_recordings(run: Run) -> None:
    names = await run("""
        recorder = ExecutionRecorder(
            workflow_name="large_workflow",
            compress=True,  # Reduces size by 5-10x
        )
    """)

    recorder = names["recorder"]
    for number in range(500):
        recorder.record_node_complete(f"node{number}", {"text": "a calm page about chairs"}, 0.1)
    await recorder.save("large.json")
    plain = len(json.dumps([event.to_dict() for event in recorder.events]))
    assert plain > 5 * Path("large.json.gz").stat().st_size


@pytest.mark.row("S0-33")
async def test_practice_3_selective_recording(run: Run) -> None:
    names = await run("""
        recorder = ExecutionRecorder(
            workflow_name="my_workflow",
            record_inputs=True,   # Record node inputs
            record_outputs=True,  # Record node outputs
            record_state_snapshots=False,  # Skip state snapshots (saves space)
        )
    """)

    recorder = names["recorder"]
    recorder.record_state_snapshot({"a": 1})
    recorder.record_node_start("n", {"in": 1})
    recorder.record_node_complete("n", {"out": 2})
    assert [event.data.get("inputs") or event.data.get("outputs") for event in recorder.events] == [
        {"in": 1}, {"out": 2},
    ]  # fmt: skip


@pytest.mark.row("S0-14")
async def test_practice_4_automatic_cleanup(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    names = await run("""
        # Daily cleanup task
        async def cleanup_recordings():
            storage = FileRecordingStorage(base_path="./recordings")

            # Delete recordings older than 30 days
            policy = RetentionPolicy(max_age_days=30)
            result = await storage.apply_retention_policy(policy)

            logger.info(f"Cleaned up {result['to_delete']} recordings")
    """)
    recorder = record_run()
    recorder.metadata.started_at -= 31 * DAY_SECONDS
    await names["storage"].save(recorder)
    await names["storage"].save(record_run())

    await names["cleanup_recordings"]()

    assert "Cleaned up 1 recordings" in caplog.messages
    assert len(await names["storage"].list()) == 1


@pytest.mark.row("S0-18")
async def test_practice_5_debug_failed_executions(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(WorkflowFailed):
        await run("""
            recorder = enable_workflow_recording(
                workflow_name="critical_workflow",
                tags=["auto-record"],
            )

            try:
                result = await executor.execute(workflow, context)
            except Exception as e:
                # Save recording with error context
                await recorder.save(f"failure_{time.time()}.json")
                logger.error(f"Workflow failed, recording saved: {e}")
                raise
        """, workflow=BAD)  # fmt: skip

    (path,) = Path().glob("failure_*.json")
    assert "no such credential" in (ExecutionReplayer.load(path).metadata.error or "")
    assert any(message.startswith("Workflow failed, recording saved: workflow ") for message in caplog.messages)


@pytest.mark.row("S0-08")
async def test_practice_6_performance_analysis(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    await run("""
        replayer = ExecutionReplayer.load("recording.json.gz")

        # Calculate node durations
        node_durations = {}
        for event in replayer.events:
            if event.event_type == RecordingEventType.NODE_COMPLETE:
                node_id = event.node_id
                duration = event.data.get("duration_seconds", 0)
                node_durations[node_id] = node_durations.get(node_id, 0) + duration

        # Sort by duration
        for node_id, duration in sorted(node_durations.items(), key=lambda x: -x[1]):
            print(f"{node_id}: {duration:.2f}s")
    """)

    assert capsys.readouterr().out.splitlines() == [f"node{number}: 0.25s" for number in range(1, 6)]


# --------------------------------------------------------------------------- troubleshooting


async def test_recording_not_created(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    await run("""
        from recordings.context import get_current_recorder

        recorder = get_current_recorder()
        if recorder is None:
            print("Recording not enabled!")
    """)

    assert capsys.readouterr().out == "Recording not enabled!\n"


async def test_large_file_sizes(run: Run) -> None:
    names = await run("""
        recorder = ExecutionRecorder(
            workflow_name="my_workflow",
            compress=True,
            record_state_snapshots=False,  # Disable snapshots
        )
    """)

    assert names["recorder"].config == {
        "record_inputs": True, "record_outputs": True, "record_state_snapshots": False, "compress": True,
    }  # fmt: skip


async def test_out_of_memory_during_replay(run: Run) -> None:
    seen: list[Any] = []
    record_run(nodes=150).save_sync("large.fbrec")

    names = await run("""
        # Instead of loading all events, use step_forward
        for event in replayer.step_forward(steps=100):
            process_event(event)
    """, replayer=ExecutionReplayer.load("large.fbrec"), process_event=seen.append)  # fmt: skip

    assert [event.seq for event in seen] == list(range(1, 101))
    assert names["replayer"].current_position == 100
