"""Read a recording: step through it, look at any state, compare it with another."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from recordings import timing
from recordings.compare import compare
from recordings.drawings import draw
from recordings.errors import RecordingNotFound
from recordings.events import RecordingEvent, RecordingMetadata, StateSnapshot, event_seq
from recordings.export import atomic_write, read_json
from recordings.sealed import SealedRecording, is_sealed
from recordings.snapshots import Snapshots
from recordings.state import CHANGES_STATE, State

KEYFRAME_EVENTS = 256
MOST_KEYFRAMES = 257
"""States kept of a recording that has none of its own; of more than 65,536 events they lie further apart."""


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

    ``events`` may be any sequence; sealed recordings and rows of a database are read as they are needed. A state
    of a sealed recording costs at most a part of one frame. Of others the first one reads all events before it, and
    later ones start from the nearest of at most 257 states that are kept on the way.
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
        self._recorded = snapshots
        self._snapshots: Snapshots | None = None
        self._positions: dict[str, int] | None = None
        self._nodes: dict[str, list[int]] | None = None
        self._keyframes: list[State] = [State()]
        self._keyframe_events = KEYFRAME_EVENTS

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

    def close(self) -> None:
        """Close the file that events are read from; ``with`` does so at its end. Twice does no harm."""
        if isinstance(self.events, SealedRecording):
            self.events.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    @property
    def snapshots(self) -> Sequence[StateSnapshot]:
        """Return the recorded snapshots; where no whole states were recorded, those that are worked out.

        The latter are at the end of each phase of an execution, and wherever 256 events have none. They cost nothing
        until one is read; its state is that of ``get_state_at_event``.
        """
        if recorded := self._whole_states():
            return recorded
        if self._snapshots is None:
            self._snapshots = Snapshots(self.events, self.get_state_at_position)
        return self._snapshots

    def _whole_states(self) -> Sequence[StateSnapshot]:
        if self._recorded is None:
            self._recorded = self.events.snapshots if isinstance(self.events, _Seekable) else ()
        return self._recorded

    # ------------------------------------------------------------------ finding

    def position_of(self, event_id: str) -> int | None:
        """Return the position of an event, or None."""
        if isinstance(self.events, _Indexed):
            return self.events.position_of(event_id)
        if len(self.events):
            seq = event_seq(self.events[0].workflow_id, event_id)
            if seq is not None and 1 <= seq <= len(self.events) and self.events[seq - 1].event_id == event_id:
                return seq - 1
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
        by_id = {snapshot.snapshot_id: snapshot for snapshot in self._whole_states()}
        while len(self._keyframes) <= (position + 1) // self._keyframe_events:
            start = (len(self._keyframes) - 1) * self._keyframe_events
            state = self._keyframes[-1].copy()
            self._advance(state, start, start + self._keyframe_events, by_id)
            self._keyframes.append(state)
            if len(self._keyframes) > MOST_KEYFRAMES:
                self._keyframes = self._keyframes[::2]
                self._keyframe_events *= 2
        nearest = (position + 1) // self._keyframe_events
        state = self._keyframes[nearest].copy()
        self._advance(state, nearest * self._keyframe_events, position + 1, by_id)
        return state.to_dict()

    def _advance(self, state: State, start: int, stop: int, by_id: dict[str, StateSnapshot]) -> None:
        for event in self._range(start, stop):
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
        """Return what differs; see ``recordings.compare.compare``. Numbers are self minus other."""
        return compare(self, other)

    # ------------------------------------------------------------------ understanding

    def durations(self) -> dict[str, float]:
        """Return the seconds of work of each node, the longest first; all its runs, failed ones too."""
        return timing.durations(self.events)

    def critical_path(self) -> list[tuple[str, float]]:
        """Return the nodes that decided how long the run took, with their seconds; see ``recordings.timing``."""
        return timing.critical_path(self.events)

    def path(self) -> list[str]:
        """Return the ids of the nodes in the order in which they started, once for every start."""
        return timing.path(self.events)

    def first_error(self) -> RecordingEvent | None:
        """Return the event of the first node that failed, else of the run; None where nothing failed."""
        return timing.first_error(self.events)

    def visualize(self, output_path: str | os.PathLike[str] | None = None, format: str = "dot") -> str:
        """Return the run as a drawing: ``dot`` (Graphviz), ``svg``, ``html`` or ``mermaid``.

        With ``output_path`` it is also written there, as UTF-8.

        Raises:
            ValueError: there is no such format.
        """
        text = draw(self, format)
        if output_path is not None:
            atomic_write(Path(output_path), lambda file: file.write(text.encode("utf-8", "backslashreplace")))
        return text

    def verify(self) -> None:
        """Read everything and compare checksums.

        Raises:
            InvalidRecording: something was changed or lost.
        """
        if isinstance(self.events, SealedRecording):
            self.events.verify().check()
        elif self.recording_path is not None:
            read_json(self.recording_path)


def _existing(path: Path) -> Path:
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    for candidate in (path, other):
        if candidate.is_file():
            return candidate
    raise RecordingNotFound(f"no recording at {path}")
