"""The state of an execution: what its variables are after an event.

The one rule book, used by everything that answers "what was the state at this event": start from
``initial_context``; a snapshot replaces all; a completed node merges its outputs under their flat names
and under ``$nodes``, where they also are when they have no names; a failed node adds to ``$errors``.

What happens between ``recursion_enter`` and ``recursion_exit`` belongs to a scope of its own, so that a nested
node never overwrites an outer node of the same id. Scopes are under ``$scopes``, each by
``"<operation_type>:<identifier>"``, and each has the form of a state: flat keys, ``$nodes``, ``$errors`` and
its own ``$scopes``::

    {"total": 3, "$nodes": {"sum": {"total": 3}},
     "$scopes": {"workflow:prices": {"total": 9, "$nodes": {"sum": {"total": 9}}}}}

A scope that is entered again begins anew, so that the last round of a loop is what is there. Subflows of the
engine are executions with recordings of their own and make no scope. A snapshot is always of the whole state.
"""

from __future__ import annotations

from typing import Any

from recordings.events import RecordingEvent, RecordingEventType, StateSnapshot, copy_json

NODES, ERRORS, SCOPES = "$nodes", "$errors", "$scopes"
CHANGES_STATE = frozenset(
    {
        RecordingEventType.WORKFLOW_START,
        RecordingEventType.NODE_COMPLETE,
        RecordingEventType.NODE_ERROR,
        RecordingEventType.STATE_SNAPSHOT,
        RecordingEventType.RECURSION_ENTER,
        RecordingEventType.RECURSION_EXIT,
    }
)


class State:
    """A state, or the difference between two states: ``reset`` says that it replaces what was before.

    ``scopes`` are the states of nested runs. ``stack`` names the scopes that are open, outermost first, each with
    its depth; it is never a difference. Values are shared with the events they come from; ``to_dict`` copies.
    """

    __slots__ = ("errors", "nodes", "reset", "scopes", "stack", "values")

    def __init__(self, stack: tuple[tuple[int, str], ...] = ()) -> None:
        self.values: dict[str, Any] = {}
        self.nodes: dict[str, Any] = {}
        self.errors: dict[str, Any] = {}
        self.scopes: dict[str, State] = {}
        self.stack = stack
        self.reset = False

    def __len__(self) -> int:
        """Return how many entries there are."""
        inside = sum(len(scope) + 1 for scope in self.scopes.values()) if self.scopes else 0
        return len(self.values) + len(self.nodes) + len(self.errors) + inside

    def copy(self) -> State:
        """Return an independent state that shares the values."""
        other = State(self.stack)
        other.values = dict(self.values)
        other.nodes = dict(self.nodes)
        other.errors = dict(self.errors)
        other.scopes = {name: scope.copy() for name, scope in self.scopes.items()}
        other.reset = self.reset
        return other

    def apply(self, event: RecordingEvent, snapshot: StateSnapshot | None = None, *, instead: Any = None) -> None:
        """Move to the state after ``event``. With ``instead`` that is stored in the place of every value."""
        kind = event.event_type
        if kind is RecordingEventType.NODE_COMPLETE:
            if event.node_id is not None:
                outputs = None if event.data.get("outputs_missing") else event.data.get("outputs")
                self._scope_of(event).complete(event.node_id, outputs, instead=instead)
        elif kind is RecordingEventType.NODE_ERROR:
            if event.node_id is not None:
                self._scope_of(event).errors[event.node_id] = event.data.get("error")
        elif kind is RecordingEventType.WORKFLOW_START:
            scope = self._scope_of(event)
            scope.values.update(_with(_mapping(event.data.get("initial_context")), instead))
        elif kind is RecordingEventType.STATE_SNAPSHOT:
            whole = snapshot.state if snapshot is not None else event.data.get("state")
            if isinstance(whole, dict):
                self.replace(whole, instead=instead)
        elif kind is RecordingEventType.RECURSION_ENTER:
            self._enter(event.data)
        elif kind is RecordingEventType.RECURSION_EXIT:
            self._leave(event.data)

    def complete(self, node_id: str, outputs: Any, *, instead: Any = None) -> None:
        """Move to the state after a node gave its outputs, in this scope."""
        self.values.update(_with(_mapping(outputs), instead))
        self.nodes[node_id] = (outputs or {}) if instead is None else instead

    def _scope_of(self, event: RecordingEvent) -> State:
        """Return the scope of an event: by its depth, the innermost where it has none."""
        if not self.stack:
            return self
        depth = event.metadata.get("recursion_depth")
        scope = self
        for level, name in self.stack:
            if type(depth) is int and level > depth:
                break
            scope = scope._inner(name)
        return scope

    def _inner(self, name: str) -> State:
        found = self.scopes.get(name)
        if found is None:
            found = self.scopes[name] = State()
        return found

    def _enter(self, data: dict[str, Any]) -> None:
        if data.get("execution_id"):
            return
        depth = data.get("depth")
        level = depth if type(depth) is int else len(self.stack) + 1
        self.stack = tuple(entry for entry in self.stack if entry[0] < level)
        scope = self
        for _, name in self.stack:
            scope = scope._inner(name)
        name = f"{data.get('operation_type') or 'workflow'}:{data.get('identifier') or ''}"
        scope.scopes[name] = State()
        scope.scopes[name].reset = True
        self.stack = (*self.stack, (level, name))

    def _leave(self, data: dict[str, Any]) -> None:
        if data.get("execution_id"):
            return
        depth = data.get("depth")
        if type(depth) is int:
            self.stack = tuple(entry for entry in self.stack if entry[0] < depth)
        else:
            self.stack = self.stack[:-1]

    def replace(self, whole: dict[str, Any], *, instead: Any = None) -> None:
        """Become the state ``whole``, in the form of ``to_dict``."""
        self.reset = True
        self.values = _with({key: item for key, item in whole.items() if key not in _SECTIONS}, instead)
        self.nodes = dict(_with(_mapping(whole.get(NODES)), instead))
        self.errors = dict(_mapping(whole.get(ERRORS)))
        self.scopes = {}
        for name, inner in _mapping(whole.get(SCOPES)).items():
            self._inner(name).replace(_mapping(inner))

    def merge(self, later: State) -> None:
        """Apply a difference."""
        self.stack = later.stack
        if later.reset:
            self.values, self.nodes, self.errors = dict(later.values), dict(later.nodes), dict(later.errors)
            self.scopes = {name: scope.copy() for name, scope in later.scopes.items()}
            self.reset = True
            return
        self.values.update(later.values)
        self.nodes.update(later.nodes)
        self.errors.update(later.errors)
        for name, scope in later.scopes.items():
            if name in self.scopes:
                self.scopes[name].merge(scope)
            else:
                self.scopes[name] = scope.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return a deep copy: flat keys, then ``$nodes``, ``$errors`` and ``$scopes`` where there are any."""
        result: dict[str, Any] = copy_json(self.values)
        if self.nodes:
            result[NODES] = copy_json(self.nodes)
        if self.errors:
            result[ERRORS] = copy_json(self.errors)
        if self.scopes:
            result[SCOPES] = {name: scope.to_dict() for name, scope in self.scopes.items()}
        return result


_SECTIONS = frozenset({NODES, ERRORS, SCOPES})


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _with(values: dict[str, Any], instead: Any) -> dict[str, Any]:
    return values if instead is None else dict.fromkeys(values, instead)
