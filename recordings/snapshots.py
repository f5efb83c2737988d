"""Snapshots that are worked out: a recording keeps where they are, its events what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol, overload, runtime_checkable

from recordings.events import RecordingEvent, RecordingEventType, StateSnapshot

SNAPSHOT_EVENTS = 256
"""After how many events without a snapshot there is one that no event names."""
_KIND = RecordingEventType.STATE_SNAPSHOT


@runtime_checkable
class _Sorted(Protocol):
    """A sequence of events that finds those of one type without reading them."""

    def positions_of_type(self, kind: str) -> list[int]: ...


class Snapshots(Sequence[StateSnapshot]):
    """The snapshots of a recording that holds no whole states: at its ``state_snapshot`` events, and every 256 events.

    Making it costs nothing. The first use finds the events, without reading what they carry, and each snapshot is
    worked out when it is asked for, for the price of one ``state_at``. Those that no event names have the id of the
    event after which they are.
    """

    def __init__(self, events: Sequence[RecordingEvent], state_at: Callable[[int], dict[str, Any]]) -> None:
        self._events, self._state_at = events, state_at

    @cached_property
    def positions(self) -> list[int]:
        """Return the positions of the events after which they are."""
        return list(_closer(_positions(self._events), len(self._events)))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.positions)

    @overload
    def __getitem__(self, index: int) -> StateSnapshot: ...

    @overload
    def __getitem__(self, index: slice) -> list[StateSnapshot]: ...

    def __getitem__(self, index: int | slice) -> StateSnapshot | list[StateSnapshot]:
        """Return one snapshot, or a list for a slice."""
        if isinstance(index, slice):
            return [self._at(position) for position in self.positions[index]]
        return self._at(self.positions[index])

    def _at(self, position: int) -> StateSnapshot:
        event = self._events[position]
        named = event.event_type is _KIND
        depth = event.metadata.get("recursion_depth")
        return StateSnapshot(
            snapshot_id=str((event.data.get("snapshot_id") if named else None) or event.event_id),
            timestamp=event.timestamp,
            workflow_id=event.workflow_id,
            node_id=event.node_id if named else None,
            state=self._state_at(position),
            recursion_depth=depth if type(depth) is int else 0,
            execution_stack=[str(name) for name in event.data.get("execution_stack") or ()] if named else [],
        )


def recorded(snapshots: Iterable[StateSnapshot]) -> Iterable[StateSnapshot]:
    """Return those of ``snapshots`` that hold a state which no events give: none where they are worked out."""
    return () if isinstance(snapshots, Snapshots) else snapshots


def _positions(events: Sequence[RecordingEvent]) -> list[int]:
    if isinstance(events, _Sorted):
        return events.positions_of_type(_KIND.value)
    return [position for position, event in enumerate(events) if event.event_type is _KIND]


def _closer(positions: Iterable[int], count: int) -> Iterator[int]:
    """Put positions between those that lie more than 256 events apart."""
    last = -1
    for position in (*positions, count):
        yield from range(last + SNAPSHOT_EVENTS, position, SNAPSHOT_EVENTS)
        if position < count:
            yield position
        last = position
