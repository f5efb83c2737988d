"""The recorder that code finds inside a node: what it records goes into the recording of the execution itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from recordings.errors import RecordingError
from recordings.events import RecordingEventType, RecordingMetadata
from recordings.recorder import ExecutionRecorder, OpensWriters

Forward = Callable[[RecordingEventType, str | None, dict[str, Any]], None]
"""``(event type, node or team id, data) -> None``: write an event of the execution."""


class ForwardingRecorder(ExecutionRecorder):
    """Takes every ``record_*`` call and hands its event on; keeps none, and has nothing to save.

    The engine says itself when nodes start and end, so it, not this class, decides what becomes of such events.
    """

    def __init__(self, workflow_name: str, workflow_id: str, forward: Forward) -> None:
        super().__init__(workflow_name, workflow_id)
        self._forward = forward

    def record_state_snapshot(
        self, state: dict[str, Any], node_id: str | None = None, execution_stack: Sequence[str] | None = None
    ) -> None:
        """Record a state that the code of a node has."""
        data = {"state": self._copy(state), "execution_stack": list(execution_stack or [])}
        self._add_deep(RecordingEventType.STATE_SNAPSHOT, node_id, data, {})

    def tag(self, *tags: str) -> None:
        """Tag the recording of the execution."""
        super().tag(*tags)
        self._forward(RecordingEventType.TAG, None, {"tags": list(tags)})

    def _add_deep(
        self, kind: RecordingEventType, node_id: str | None, data: dict[str, Any], metadata: dict[str, Any]
    ) -> float:
        self._forward(kind, node_id, data)
        return 0.0

    def write_ahead(self, target: str | os.PathLike[str] | OpensWriters, flush_seconds: float = 1.0) -> NoReturn:
        """Refuse.

        Raises:
            RecordingError: always.
        """
        raise RecordingError("inside a node the execution is recorded by Flow Builder; there is nothing to write ahead")

    def save_sync(self, filepath: str | os.PathLike[str]) -> RecordingMetadata:
        """Refuse.

        Raises:
            RecordingError: always.
        """
        raise RecordingError(
            f'the recording of this execution has not ended; "./flow recordings export {self.workflow_id}" saves it later'
        )
