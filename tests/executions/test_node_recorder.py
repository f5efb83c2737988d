"""Code of a node that records as any Python code does: its events are in the recording of its execution."""

from __future__ import annotations

import re

import pytest

from executions import runtime
from executions.local import execute
from executions.triggers import start_execution
from recordings import RecordingError, get_current_recorder
from recordings.forwarding import ForwardingRecorder
from recordings.rows import iter_events
from tests.conftest import graph, node, outputs, wait_until_ended
from tests.executions import worker_app

pytestmark = [pytest.mark.redis]
NODE_TYPES = worker_app  # importing it registers its node types
APP = "tests.executions.worker_app"
KINDS = {"custom.node_start": 4, "custom.node_complete": 4, "mine": 4, "team_start": 1, "custom.state_snapshot": 1}


def nodes_of(tag):
    return [node("slow", "test_records", Tag=tag), node("quick", "test_records_at_once", Tag=tag)]


def told(events):
    """Return (type, node) and tag of all that the nodes recorded."""
    found = []
    for event in events:
        if event.event_type.value in KINDS:
            (tag,) = re.findall(r"run \d+ \w+", str(event.data))
            found.append((event.event_type.value, event.node_id, tag))
    return found


def assert_own(events, tag):
    """The execution has all events of its own nodes, and none of others."""
    found = told(events)
    assert {tag_.rpartition(" ")[0] for _, _, tag_ in found} == {tag}
    kinds = [kind for kind, _, _ in found]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == KINDS
    wanted = {"light": "quick", "team": "crew"}
    assert all(name == wanted.get(tag_.rpartition(" ")[2], "slow") for _, name, tag_ in found)


def test_what_node_code_records_is_an_event_of_its_execution(run):
    execution = run(nodes_of("run 1"))

    assert execution.status == "completed", execution.error
    events = list(iter_events(execution.pk))
    assert_own(events, "run 1")
    (started, *_) = [event for event in events if event.event_type.value == "custom.node_start"]
    assert started.data["inputs"]["tag"].startswith("run 1")
    assert started.data["node_id"] == "fetch"
    assert started.data["node_type"] == "step"
    (team,) = [event for event in events if event.node_id == "crew"]
    assert team.data["recorded_by"] == "slow"
    assert outputs(execution, "slow")["Active"] is False
    assert len([event for event in events if event.event_type.value == "node_complete"]) == 2


async def test_a_run_in_this_process_has_the_events_of_its_nodes_too(db):
    result = await execute(graph(nodes_of("run 2")))

    assert result.status == "completed", result.error
    assert result.recorder is not None
    assert_own(result.recorder.events, "run 2")
    assert get_current_recorder() is result.recorder


@pytest.mark.worker
@pytest.mark.postgres
@pytest.mark.row("S0-42")
def test_twenty_executions_at_once_on_a_worker_never_cross(processes, alice, make_workflow):
    workflows = [make_workflow(graph(nodes_of(f"run {number}")), name=f"w{number}") for number in range(20)]
    processes.worker(APP)
    executions = [start_execution(workflow, by=alice) for workflow in workflows]

    for number, execution in enumerate(executions):
        wait_until_ended(execution, 60, processes.logs)
        assert execution.status == "completed", processes.logs()
        assert_own(list(iter_events(execution.pk)), f"run {number}")


def test_there_is_nothing_to_save_inside_a_node(tmp_path):
    recorder = ForwardingRecorder("a", "w", lambda kind, node_id, data: None)

    with pytest.raises(RecordingError, match="recordings export w"):
        recorder.save_sync(tmp_path / "x.json")
    with pytest.raises(RecordingError, match="inside a node"):
        recorder.write_ahead(tmp_path / "x.fbrec")
    assert list(tmp_path.iterdir()) == []
    assert runtime.never_waits("test_records_at_once")
    assert not runtime.never_waits("test_records")
