"""The state of an execution after any of its events, cut so that a page can show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from executions import report
from executions.models import Execution
from recordings.errors import RecordingNotFound
from recordings.events import RecordingEvent
from recordings.finding import replayer_of
from recordings.inspection import entries
from recordings.models import Recording
from recordings.rows import load_rows, states_around
from recordings.state import ERRORS, NODES, SCOPES

ENTRIES_SHOWN: Final = 200
"""How many entries of each part of a state one answer has; those that the event changed come first."""


def moment(execution: Execution, seq: int) -> dict[str, Any]:
    """Return event ``seq`` of ``execution`` and the state after it, in parts: values, nodes, errors, nested runs.

    From the sealed recording it costs a part of one frame; while there is none, a look at all rows up to the event
    (about 20 µs each).

    Raises:
        RecordingNotFound: there is no such event, or none any more.
        RecordingError: the sealed recording is damaged or gone.
    """
    event, before, after = _around(execution, seq)
    names = report.node_names(execution)
    return {
        "seq": seq,
        "last_seq": execution.seq,
        "event_type": event.event_type.value,
        "timestamp": event.timestamp,
        "node_id": event.node_id,
        "node_name": None if event.node_id is None else names.get(event.node_id, event.node_id),
        "parts": [
            {
                "name": name,
                "entries": [
                    {**asdict(entry), "label": names.get(entry.key, entry.key) if of_nodes else entry.key}
                    for entry in entries(was, now, ENTRIES_SHOWN)
                ],
                "count": len(was.keys() | now.keys()),
            }
            for name, of_nodes, was, now in _parts(before, after)
        ],
    }


def _around(execution: Execution, seq: int) -> tuple[RecordingEvent, dict[str, Any], dict[str, Any]]:
    sealed = Recording.objects.filter(execution_id=execution.pk).exclude(sealed="").first()
    if sealed is None:
        event = next(iter(load_rows(execution.pk, seq - 1, 1, references=True, ends=False)), None)
        if event is not None and event.seq == seq:
            return (event, *states_around(execution.pk, seq))
        sealed = Recording.objects.filter(execution_id=execution.pk).exclude(sealed="").first()
    if sealed is not None:
        with replayer_of(sealed) as replayer:
            if seq <= len(replayer.events):
                before = replayer.get_state_at_position(seq - 2) if seq > 1 else {}
                return replayer.events[seq - 1], before, replayer.get_state_at_position(seq - 1)
    raise RecordingNotFound(f"execution {execution.pk} has no event {seq}, or its events were removed")


_Part = tuple[str, bool, dict[str, Any], dict[str, Any]]
"""Name, whether its keys are ids of nodes, and both sides of a part of a state."""
_SECTIONS: Final = {"nodes": NODES, "errors": ERRORS, "nested": SCOPES}


def _parts(before: dict[str, Any], after: dict[str, Any]) -> list[_Part]:
    values: _Part = ("values", False, _values(before), _values(after))
    inside: list[_Part] = [
        (name, key != SCOPES, before.get(key, {}), after.get(key, {})) for name, key in _SECTIONS.items()
    ]
    return [values, *inside]


def _values(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in _SECTIONS.values()}
