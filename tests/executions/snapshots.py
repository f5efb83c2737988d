"""What is true of the snapshots of every ended execution."""

from __future__ import annotations

from itertools import pairwise

from executions.models import Execution
from recordings.events import snapshot_id
from recordings.export import to_json
from recordings.finding import open_replayer
from recordings.models import Recording
from recordings.packing import seal
from recordings.replayer import ExecutionReplayer
from tests.conftest import outputs


def assert_snapshots(execution: Execution, path=None) -> None:
    """Each phase has one, at its end, of the state that the node runs tell; rows, sealed file and JSON agree."""
    recording = Recording.objects.get(execution_id=execution.pk)
    replayer = open_replayer(str(execution.pk))
    assert_places(execution, list(replayer.events))
    assert_states(execution, replayer)
    shown = [snapshot.to_dict() for snapshot in replayer.snapshots]
    if not recording.sealed:
        seal(recording)
    with open_replayer(str(recording.pk)) as sealed:
        assert type(sealed.events).__name__ == "SealedRecording"
        assert [snapshot.to_dict() for snapshot in sealed.snapshots] == shown
        if path is not None:
            path.write_text(to_json(sealed), encoding="utf-8")
            assert [snapshot.to_dict() for snapshot in ExecutionReplayer.load(path).snapshots] == shown


def assert_places(execution, events):
    """The snapshots stand at the ends of the phases that were opened, each once."""
    runs = list(execution.node_runs.order_by("node_index"))
    opened = [event.data["phase"] for event in events if event.event_type.value == "phase_start"]
    taken = [event for event in events if event.event_type.value == "state_snapshot"]
    assert [event.data["phase"] for event in taken] == opened == list(range(len(opened)))
    assert [event.data["snapshot_id"] for event in taken] == [snapshot_id(str(execution.pk), n) for n in opened]
    for event, phase in zip(taken, opened, strict=True):
        ended = [run for run in runs if run.phase_index == phase and run.status in ("completed", "failed")]
        assert event.data["nodes"] == [run.node_id for run in ended], f"phase {phase}"
        assert "outputs" not in event.data
    places = [-1, *(events.index(event) for event in taken)]
    for phase, (before, at) in enumerate(pairwise(places)):
        inside = events[before + 1 : at]
        assert [event.data["phase"] for event in inside if event.event_type.value == "phase_start"] == [phase]
        changed = {e.node_id for e in inside if e.event_type.value in ("node_complete", "node_error")}
        assert changed == set(events[at].data["nodes"])


def assert_states(execution, replayer):
    """The state of each snapshot is that of its event, and holds what the nodes gave until then."""
    given = {run.node_id: run for run in execution.node_runs.all()}
    reached: list[str] = []
    named = [event for event in replayer.events if event.event_type.value == "state_snapshot"]
    found = {snapshot.snapshot_id: snapshot for snapshot in replayer.snapshots}
    for event in named:
        snapshot = found[event.data["snapshot_id"]]
        assert (snapshot.timestamp, snapshot.workflow_id) == (event.timestamp, str(execution.pk))
        assert snapshot.state == replayer.get_state_at_event(event.event_id)
        reached += event.data["nodes"]
        completed = [name for name in reached if given[name].status == "completed"]
        assert snapshot.state.get("$nodes", {}) == {name: outputs(execution, name) for name in completed}
        assert set(snapshot.state.get("$errors", {})) == set(reached) - set(completed)
