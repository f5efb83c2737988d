"""The current recorder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import recordings
from recordings import (
    ExecutionRecorder,
    ExecutionReplayer,
    FileRecordingStorage,
    InMemoryRecordingStorage,
    RecordingConfig,
    carry_recording,
    disable_workflow_recording,
    enable_workflow_recording,
    get_current_recorder,
    record_node_execution_complete,
    record_node_execution_start,
    record_workflow,
    save_workflow_recording,
    save_workflow_recording_sync,
)


@pytest.mark.row("S0-15")
def test_context_manager() -> None:
    with record_workflow("shop", tags=["a"]) as recorder:
        assert get_current_recorder() is recorder
        record_node_execution_start("n1", {"x": 1}, "delay")
        record_node_execution_complete("n1", {"y": 2}, 0.1)

    assert get_current_recorder() is None
    assert recorder.metadata.event_count == 2
    assert recorder.metadata.tags == ["a"]
    assert recorder.metadata.completed_at is not None


@pytest.mark.row("S0-15")
async def test_async_context_manager() -> None:
    async with record_workflow("shop") as recorder:
        await asyncio.sleep(0)
        assert get_current_recorder() is recorder

    assert get_current_recorder() is None


def test_enable_and_disable_recording() -> None:
    recorder = enable_workflow_recording("shop", tags=["auto"])
    assert get_current_recorder() is recorder

    disable_workflow_recording()

    assert get_current_recorder() is None
    record_node_execution_start("n1")
    recordings.record_recursion_enter("loop", "x")
    recordings.record_recursion_exit("loop", "x")
    recordings.record_state_snapshot({})
    assert recorder.events == []


@pytest.mark.row("S0-15")
def test_an_exception_is_recorded_and_raised() -> None:
    with pytest.raises(KeyError), record_workflow("shop") as recorder:
        raise KeyError("price")

    event = recorder.events[-1]
    assert event.event_type.value == "workflow_error"
    assert event.data["error"] == "KeyError: 'price'"
    assert event.data["error_type"] == "KeyError"
    assert "test_context.py" in event.data["traceback"]
    assert recorder.metadata.success is False
    assert get_current_recorder() is None


def test_an_end_that_was_recorded_is_not_recorded_twice() -> None:
    def fail(recorder: ExecutionRecorder) -> None:
        recorder.record_workflow_complete({}, False, "known")
        raise RuntimeError("known")

    with pytest.raises(RuntimeError), record_workflow("shop") as recorder:
        fail(recorder)

    assert len(recorder.events) == 1
    assert recorder.metadata.error == "known"


def test_nested_blocks_bring_the_outer_recorder_back() -> None:
    with record_workflow("outer") as outer:
        with record_workflow("inner") as inner:
            record_node_execution_start("n1")
        record_node_execution_start("n2")

        assert get_current_recorder() is outer

    assert [event.node_id for event in inner.events] == ["n1"]
    assert [event.node_id for event in outer.events] == ["n2"]


async def test_decorators_record_every_call_by_itself() -> None:
    recorders = []

    @record_workflow("plain")
    def plain(value: int) -> int:
        recorders.append(get_current_recorder())
        return value + 1

    @record_workflow("coroutine")
    async def coroutine(value: int) -> int:
        recorders.append(get_current_recorder())
        return value + 1

    assert plain(1) == plain(1) == await coroutine(1) == 2
    assert len({id(recorder) for recorder in recorders}) == 3
    assert [recorder.workflow_name for recorder in recorders if recorder] == ["plain", "plain", "coroutine"]
    assert get_current_recorder() is None


@pytest.mark.row("S0-42")
def test_a_generator_is_refused_as_a_call_of_it_runs_nothing() -> None:
    def items() -> Iterator[int]:
        yield 1

    async def later() -> AsyncIterator[int]:
        yield 1

    for function in (items, later):
        with pytest.raises(TypeError, match="generator"):
            record_workflow("shop")(function)


async def test_concurrent_recordings_do_not_mix() -> None:
    """D9: in the reference an event of one task went into the recorder of the other."""

    async def run(name: str) -> list[str | None]:
        async with record_workflow(name) as recorder:
            for number in range(20):
                record_node_execution_start(f"{name}-{number}")
                await asyncio.sleep(0)
        return [event.node_id for event in recorder.events]

    results = await asyncio.gather(*(run(f"w{number}") for number in range(10)))

    assert results == [[f"w{number}-{step}" for step in range(20)] for number in range(10)]


@pytest.mark.row("S0-42")
def test_threads_do_not_mix() -> None:
    barrier, seen = threading.Barrier(4), {}

    def run(name: str) -> None:
        with record_workflow(name) as recorder:
            barrier.wait()
            for _ in range(50):
                record_node_execution_start(name)
        seen[name] = {event.node_id for event in recorder.events}

    threads = [threading.Thread(target=run, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == {f"t{number}": {f"t{number}"} for number in range(4)}


@pytest.mark.row("S0-16")
async def test_save_workflow_recording_to_a_storage_and_to_a_file(tmp_path: Path) -> None:
    """D2: the reference raised AttributeError with a storage."""
    with record_workflow("shop") as recorder:
        record_node_execution_start("n1")
    storage = InMemoryRecordingStorage()

    kept = await save_workflow_recording(recorder, None, storage=storage)
    saved = await save_workflow_recording(recorder, tmp_path / "x.json")

    assert kept["recording_id"] == saved["recording_id"] == recorder.metadata.recording_id
    assert kept["checksum"]
    assert len((await storage.load(kept["recording_id"])).events) == 1
    with pytest.raises(ValueError, match="file path or a storage"):
        await save_workflow_recording(recorder, None)


@pytest.mark.row("S0-17")
@pytest.mark.row("S0-18")
async def test_the_quick_start_works_as_written(tmp_path: Path) -> None:
    with record_workflow("my_workflow", tags=["production", "critical"]) as recorder:
        recorder.record_node_start("n1", {"a": 1})
        recorder.record_node_complete("n1", {"b": 2})
    await recorder.save(str(tmp_path / "recording.json"))
    storage = FileRecordingStorage(base_path=str(tmp_path / "recordings"))
    recording_id = await storage.save(recorder)

    replayer = ExecutionReplayer.load(str(tmp_path / "recording.json.gz"))
    seen = []
    for event in replayer.step_forward():
        seen.append((event.event_type.value, event.node_id, replayer.get_state_at_event(event.event_id)))

    assert seen == [("node_start", "n1", {}), ("node_complete", "n1", {"b": 2, "$nodes": {"n1": {"b": 2}}})]
    assert (await storage.get_metadata(recording_id) or {})["tags"] == ["production", "critical"]


@pytest.mark.row("S0-20")
def test_sampling_keeps_the_asked_share_and_always_the_same_runs() -> None:
    config = RecordingConfig(enabled=True, sampling_rate=0.1)

    kept = [config.keeps(True, f"execution-{number}") for number in range(1000)]

    assert 60 <= sum(kept) <= 140
    assert kept == [config.keeps(True, f"execution-{number}") for number in range(1000)]


@pytest.mark.row("S0-19")
def test_only_failures_are_kept_on_request() -> None:
    config = RecordingConfig(enabled=True, record_on_failure=True, sampling_rate=-3)

    assert config.sampling_rate == 0.0
    assert config.retention_policy == {}
    assert config.keeps(False, "x")
    assert not config.keeps(True, "x")
    assert not RecordingConfig(enabled=False).keeps(False, "x")


def test_a_thread_gets_the_recorder_by_carry_recording() -> None:
    done = []

    def work(name: str) -> None:
        record_node_execution_start(name)
        done.append(get_current_recorder())

    with record_workflow("shop") as recorder:
        for target in (work, carry_recording(work)):
            thread = threading.Thread(target=target, args=("n",))
            thread.start()
            thread.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(carry_recording(work), "pooled").result()
            pool.submit(work, "not carried").result()

    assert done == [None, recorder, recorder, None]
    assert [event.node_id for event in recorder.events] == ["n", "pooled"]


async def test_tasks_and_to_thread_carry_the_recorder_themselves() -> None:
    async with record_workflow("shop") as recorder:
        await asyncio.to_thread(record_node_execution_start, "in a thread")
        await asyncio.create_task(asyncio.to_thread(record_node_execution_start, "in a task"))

    assert [event.node_id for event in recorder.events] == ["in a thread", "in a task"]


def test_save_workflow_recording_without_async(tmp_path: Path) -> None:
    with record_workflow("shop") as recorder:
        record_node_execution_start("n1")
    storage = InMemoryRecordingStorage()

    kept = save_workflow_recording_sync(recorder, storage=storage)
    saved = save_workflow_recording_sync(recorder, tmp_path / "x.json")

    assert kept["recording_id"] == saved["recording_id"] == storage.list_sync()[0]["recording_id"]
    assert (tmp_path / "x.json").stat().st_size == saved["file_size_bytes"]
    with pytest.raises(ValueError, match="file path or a storage"):
        save_workflow_recording_sync(recorder)
