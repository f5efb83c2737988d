"""The state of an execution: what its variables are after an event.

The one rule book, used by everything that answers "what was the state at this event": start from
``initial_context``; a snapshot replaces all; a completed node merges its outputs under their flat names
and under ``$nodes``; a failed node adds to ``$errors``.
"""

from __future__ import annotations

from typing import Any

from recordings.events import RecordingEvent, RecordingEventType, StateSnapshot, copy_json

NODES, ERRORS = "$nodes", "$errors"
CHANGES_STATE = frozenset(
    {
        RecordingEventType.WORKFLOW_START,
        RecordingEventType.NODE_COMPLETE,
        RecordingEventType.NODE_ERROR,
        RecordingEventType.STATE_SNAPSHOT,
    }
)


class State:
    """A state, or the difference between two states: ``reset`` says that it replaces what was before.

    Values are shared with the events they come from; ``to_dict`` copies.
    """

    __slots__ = ("errors", "nodes", "reset", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.nodes: dict[str, Any] = {}
        self.errors: dict[str, Any] = {}
        self.reset = False

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self.values) + len(self.nodes) + len(self.errors)

    def copy(self) -> State:
        """Return an independent state that shares the values."""
        other = State()
        other.values = dict(self.values)
        other.nodes = dict(self.nodes)
        other.errors = dict(self.errors)
        other.reset = self.reset
        return other

    def apply(self, event: RecordingEvent, snapshot: StateSnapshot | None = None, *, instead: Any = None) -> None:
        """Move to the state after ``event``. With ``instead`` that is stored in the place of every value."""
        kind = event.event_type
        if kind is RecordingEventType.NODE_COMPLETE:
            if event.node_id is not None:
                self.complete(event.node_id, event.data.get("outputs"), instead=instead)
        elif kind is RecordingEventType.NODE_ERROR:
            if event.node_id is not None:
                self.errors[event.node_id] = event.data.get("error")
        elif kind is RecordingEventType.WORKFLOW_START:
            self.values.update(_with(_mapping(event.data.get("initial_context")), instead))
        elif kind is RecordingEventType.STATE_SNAPSHOT:
            whole = snapshot.state if snapshot is not None else event.data.get("state")
            if isinstance(whole, dict):
                self.replace(whole, instead=instead)

    def complete(self, node_id: str, outputs: Any, *, instead: Any = None) -> None:
        """Move to the state after a node gave its outputs."""
        given = _mapping(outputs)
        self.values.update(_with(given, instead))
        self.nodes[node_id] = given if instead is None else instead

    def replace(self, whole: dict[str, Any], *, instead: Any = None) -> None:
        """Become the state ``whole``, in the form of ``to_dict``."""
        self.reset = True
        self.values = _with({key: item for key, item in whole.items() if key not in (NODES, ERRORS)}, instead)
        self.nodes = dict(_with(_mapping(whole.get(NODES)), instead))
        self.errors = dict(_mapping(whole.get(ERRORS)))

    def merge(self, later: State) -> None:
        """Apply a difference."""
        if later.reset:
            self.values, self.nodes, self.errors = dict(later.values), dict(later.nodes), dict(later.errors)
            self.reset = True
            return
        self.values.update(later.values)
        self.nodes.update(later.nodes)
        self.errors.update(later.errors)

    def to_dict(self) -> dict[str, Any]:
        """Return a deep copy: flat keys, then ``$nodes`` and ``$errors`` where there are any."""
        result: dict[str, Any] = copy_json(self.values)
        if self.nodes:
            result[NODES] = copy_json(self.nodes)
        if self.errors:
            result[ERRORS] = copy_json(self.errors)
        return result


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _with(values: dict[str, Any], instead: Any) -> dict[str, Any]:
    return values if instead is None else dict.fromkeys(values, instead)
