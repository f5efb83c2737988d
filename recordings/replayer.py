"""Read a recording: step through it, look at any state, compare it with another."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from recordings.errors import RecordingNotFound
from recordings.events import RecordingEvent, RecordingEventType, RecordingMetadata, StateSnapshot
from recordings.export import atomic_write, read_json, to_dot
from recordings.sealed import SealedRecording, is_sealed
from recordings.state import CHANGES_STATE, State

KEYFRAME_EVENTS = 256
_DIFFERENCES_PER_NODE = 1000


@runtime_checkable
class _Indexed(Protocol):
    """A sequence of events that finds its own way."""

    def position_of(self, identifier: str) -> int | None: ...


@runtime_checkable
class _Seekable(Protocol):
    """A sequence of events that knows its states, nodes and path."""

    snapshots: Sequence[StateSnapshot]

    def state_at(self, position: int) -> dict[str, Any]: ...

    def positions_of_node(self, node_id: str) -> list[int]: ...

    def iter_path(self) -> Iterator[tuple[str, str | None]]: ...


class ExecutionReplayer:
    """A position in a recording, and questions about it. Executes nothing.

    ``events`` may be any sequence; sealed recordings and rows of a database are read as they are needed.
    """

    DEFAULT_STEPS: ClassVar[int | None] = None
    """What ``step_forward()`` without a number means: None is to the end."""

    def __init__(
        self,
        recording_path: str | os.PathLike[str] | None,
        metadata: RecordingMetadata,
        events: Sequence[RecordingEvent],
        snapshots: Sequence[StateSnapshot] | None = None,
    ) -> None:
        self.recording_path = None if recording_path is None else Path(recording_path)
        self.metadata = metadata
        self.events = events
        self.current_position = 0
        self._given_snapshots = snapshots
        self._positions: dict[str, int] | None = None
        self._nodes: dict[str, list[int]] | None = None
        self._keyframes: list[State] = [State()]

    @classmethod
    def load(cls, filepath: str | os.PathLike[str]) -> ExecutionReplayer:
        """Open a recording file of any format; what it is is seen from its content.

        A name without its ``.gz``, or with one too many, finds its neighbour.

        Raises:
            RecordingNotFound: there is no such file (a ``FileNotFoundError``).
            InvalidRecording: it is not a recording, or it is damaged (a ``ValueError``).
        """
        path = _existing(Path(filepath))
        if is_sealed(path):
            return cls.from_sealed(SealedRecording.open(path), path)
        metadata, events, snapshots = read_json(path)
        return cls(path, metadata, events, snapshots)

    @classmethod
    def from_sealed(cls, sealed: SealedRecording, path: Path | None = None) -> ExecutionReplayer:
        """Return a replayer that reads ``sealed`` as it goes."""
        return cls(path, sealed.metadata, sealed)

    @property
    def snapshots(self) -> Sequence[StateSnapshot]:
        """Return the recorded snapshots."""
        if self._given_snapshots is None:
            self._given_snapshots = self.events.snapshots if isinstance(self.events, _Seekable) else []
        return self._given_snapshots

    # ------------------------------------------------------------------ finding

    def position_of(self, event_id: str) -> int | None:
        """Return the position of an event, or None."""
        if isinstance(self.events, _Indexed):
            return self.events.position_of(event_id)
        if self._positions is None:
            self._positions = {}
            for position, event in enumerate(self.events):
                self._positions.setdefault(event.event_id, position)
        return self._positions.get(event_id)

    def get_event(self, event_id: str) -> RecordingEvent | None:
        """Return the event with this id, or None."""
        position = self.position_of(event_id)
        return None if position is None else self.events[position]

    def get_node_events(self, node_id: str) -> list[RecordingEvent]:
        """Return the events of a node (or team) in order; empty for an unknown one."""
        if isinstance(self.events, _Seekable):
            return [self.events[position] for position in self.events.positions_of_node(node_id)]
        if self._nodes is None:
            nodes: dict[str, list[int]] = defaultdict(list)
            for position, event in enumerate(self.events):
                if event.node_id is not None:
                    nodes[event.node_id].append(position)
            self._nodes = dict(nodes)
        return [self.events[position] for position in self._nodes.get(node_id, ())]

    # ------------------------------------------------------------------ state

    def get_state_at_event(self, event_id: str) -> dict[str, Any] | None:
        """Return a copy of the state after an event; None for an unknown id, ``{}`` when nothing was set yet.

        Flat keys are outputs by name; ``$nodes`` has them by node, ``$errors`` the errors by node.
        """
        position = self.position_of(event_id)
        return None if position is None else self.get_state_at_position(position)

    def get_state_at_position(self, position: int) -> dict[str, Any]:
        """Return a copy of the state after the event at ``position``.

        Raises:
            IndexError: there is no such position.
        """
        if not 0 <= position < len(self.events):
            raise IndexError(f"the recording has {len(self.events)} events; there is none at {position}")
        if isinstance(self.events, _Seekable):
            return self.events.state_at(position)
        by_id = {snapshot.snapshot_id: snapshot for snapshot in self.snapshots}
        wanted = (position + 1) // KEYFRAME_EVENTS
        while len(self._keyframes) <= wanted:
            number = len(self._keyframes) - 1
            state = self._keyframes[number].copy()
            self._advance(state, number * KEYFRAME_EVENTS, (number + 1) * KEYFRAME_EVENTS, by_id)
            self._keyframes.append(state)
        state = self._keyframes[wanted].copy()
        self._advance(state, wanted * KEYFRAME_EVENTS, position + 1, by_id)
        return state.to_dict()

    def _advance(self, state: State, start: int, stop: int, by_id: dict[str, StateSnapshot]) -> None:
        for event in self.events[start:stop]:
            if event.event_type in CHANGES_STATE:
                state.apply(event, by_id.get(str(event.data.get("snapshot_id"))))

    # ------------------------------------------------------------------ stepping

    def step_forward(self, steps: int | None = None) -> Iterator[RecordingEvent]:
        """Yield the next ``steps`` events, all of them by default; the position moves as each is yielded."""
        wanted = self.DEFAULT_STEPS if steps is None else steps
        end = len(self.events) if wanted is None else min(self.current_position + wanted, len(self.events))
        start = self.current_position
        for position, event in enumerate(self._range(start, end), start + 1):
            self.current_position = position
            yield event

    def _range(self, start: int, end: int) -> Iterator[RecordingEvent]:
        if isinstance(self.events, SealedRecording):
            return self.events.iter_range(start, end)
        return map(self.events.__getitem__, range(start, end))

    def step_backward(self, steps: int = 1) -> Iterator[RecordingEvent]:
        """Yield the ``steps`` events before the position, the nearest first."""
        position, end = self.current_position, max(self.current_position - steps, 0)
        while position > end:
            start = max(end, position - KEYFRAME_EVENTS)
            for event in reversed(list(self._range(start, position))):
                position -= 1
                self.current_position = position
                yield event

    def reset(self) -> None:
        """Go to the beginning."""
        self.current_position = 0

    def jump_to_event(self, event_id: str) -> bool:
        """Go to an event, so that the next step yields it; return whether it exists."""
        position = self.position_of(event_id)
        if position is None:
            return False
        self.current_position = position
        return True

    def jump_to_position(self, position: int) -> bool:
        """Go to a position; return whether it exists."""
        if not 0 <= position < len(self.events):
            return False
        self.current_position = position
        return True

    @contextmanager
    def replay_from_event(self, event_id: str) -> Iterator[Iterator[RecordingEvent]]:
        """Give an iterator from an event to the end, empty for an unknown id; afterwards the position is as before."""
        before = self.current_position
        try:
            yield self.step_forward(len(self.events)) if self.jump_to_event(event_id) else iter(())
        finally:
            self.current_position = before

    # ------------------------------------------------------------------ comparing

    def compare(self, other: ExecutionReplayer) -> dict[str, Any]:
        """Return what differs. Differences of numbers are self minus other; ``node_diff`` holds sets.

        ``output_diff`` has, per node that both ran, the values that differ, each with a JSON pointer.
        ``identical`` says that path, outputs and success are equal; durations may differ.
        """
        mine, theirs = _Outline(self), _Outline(other)
        a, b = self.metadata, other.metadata
        difference = _first_difference(mine.path, theirs.path)
        outputs = _output_diff(mine.outputs, theirs.outputs)
        return {
            "metadata_diff": {
                "duration_diff": (a.duration_seconds or 0.0) - (b.duration_seconds or 0.0),
                "node_count_diff": a.node_count - b.node_count,
                "team_count_diff": a.team_count - b.team_count,
                "event_count_diff": len(self.events) - len(other.events),
            },
            "node_diff": {
                "only_in_self": mine.nodes - theirs.nodes,
                "only_in_other": theirs.nodes - mine.nodes,
                "common": mine.nodes & theirs.nodes,
            },
            "path_diff": {"self_path": mine.path, "other_path": theirs.path, "first_difference": difference},
            "output_diff": outputs,
            "timing_diff": {
                node: {"self": mine.seconds[node], "other": theirs.seconds[node]}
                for node in sorted(mine.seconds.keys() & theirs.seconds.keys())
            },
            "status_diff": None if a.success == b.success else {"self": a.success, "other": b.success},
            "version_diff": None
            if a.workflow_version == b.workflow_version
            else {"self": a.workflow_version, "other": b.workflow_version},
            "identical": difference is None and not outputs and a.success == b.success,
        }

    def visualize(self, output_path: str | os.PathLike[str] | None = None) -> str:
        """Return the run as Graphviz DOT; also write it where a path is given."""
        dot = to_dot(self)
        if output_path is not None:
            atomic_write(Path(output_path), lambda file: file.write(dot.encode()))
        return dot

    def verify(self) -> None:
        """Read everything and compare checksums.

        Raises:
            InvalidRecording: something was changed or lost.
        """
        if isinstance(self.events, SealedRecording):
            self.events.verify().check()
        elif self.recording_path is not None:
            read_json(self.recording_path)


class _Outline:
    """The parts of a run that ``compare`` looks at."""

    def __init__(self, replayer: ExecutionReplayer) -> None:
        events = replayer.events
        self.path: list[str]
        if isinstance(events, _Seekable):
            self.path = [node for _, node in events.iter_path() if node is not None]
        else:
            self.path = [event.node_id for event in events if event.node_id is not None]
        self.nodes = set(self.path)
        self.outputs: dict[str, list[Any]] = defaultdict(list)
        self.seconds: dict[str, float] = defaultdict(float)
        for event in events:
            if event.event_type is RecordingEventType.NODE_COMPLETE and event.node_id is not None:
                hidden = event.metadata.get("outputs_sha256")
                self.outputs[event.node_id].append(event.data.get("outputs") if hidden is None else {"sha256": hidden})
                self.seconds[event.node_id] += event.data.get("duration_seconds") or 0.0


def _first_difference(mine: list[str], theirs: list[str]) -> dict[str, Any] | None:
    for position, (a, b) in enumerate(zip(mine, theirs, strict=False)):
        if a != b:
            return {"position": position, "self_node": a, "other_node": b}
    if len(mine) == len(theirs):
        return None
    position = min(len(mine), len(theirs))
    return {
        "position": position,
        "self_node": mine[position] if position < len(mine) else None,
        "other_node": theirs[position] if position < len(theirs) else None,
    }


def _output_diff(mine: dict[str, list[Any]], theirs: dict[str, list[Any]]) -> dict[str, list[dict[str, Any]]]:
    result: dict[str, list[dict[str, Any]]] = {}
    for node in sorted(mine.keys() & theirs.keys()):
        found: list[dict[str, Any]] = []
        for number in range(max(len(mine[node]), len(theirs[node]))):
            missing = number >= len(mine[node]) or number >= len(theirs[node])
            old = mine[node][number] if number < len(mine[node]) else None
            new = theirs[node][number] if number < len(theirs[node]) else None
            start = len(found)
            if missing:
                found.append({"path": "", "change": "added" if old is None else "removed", "old": old, "new": new})
            else:
                _value_diff(old, new, "", found)
            for change in found[start:] if number else ():
                change["occurrence"] = number + 1
        if found:
            result[node] = found
    return result


def _value_diff(old: Any, new: Any, path: str, found: list[dict[str, Any]]) -> None:
    if len(found) >= _DIFFERENCES_PER_NODE or (old == new and type(old) is type(new)):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            pointer = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in new:
                found.append({"path": pointer, "change": "removed", "old": old[key], "new": None})
            elif key not in old:
                found.append({"path": pointer, "change": "added", "old": None, "new": new[key]})
            else:
                _value_diff(old[key], new[key], pointer, found)
    elif isinstance(old, list) and isinstance(new, list):
        for place in range(max(len(old), len(new))):
            pointer = f"{path}/{place}"
            if place >= len(new):
                found.append({"path": pointer, "change": "removed", "old": old[place], "new": None})
            elif place >= len(old):
                found.append({"path": pointer, "change": "added", "old": None, "new": new[place]})
            else:
                _value_diff(old[place], new[place], pointer, found)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        found.append({"path": path, "change": "changed", "old": old, "new": new})


def _existing(path: Path) -> Path:
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    for candidate in (path, other):
        if candidate.is_file():
            return candidate
    raise RecordingNotFound(f"no recording at {path}")
