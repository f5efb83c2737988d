"""Compare two recordings: what happened, in which order, with which values, how long it took.

Events are aligned by the longest common subsequence over (node, type, occurrence). Sealed recordings are read a
frame at a time; frames that are equal by digest at the beginning and at the end are read once, for both. Memory
grows with the path lists and by about 30 bytes an event between the first and the last difference, not with values.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from recordings.differences import Alignment, value_diff
from recordings.events import (
    RecordingEvent,
    RecordingEventType,
    RecordingMetadata,
    StateSnapshot,
    decode_json,
    encode_json,
    plain,
)
from recordings.sealed import SealedRecording
from recordings.snapshots import recorded
from recordings.timing import STATUS_OF, seconds_of

MOST_EVENTS = 1000
MOST_NODE_CHANGES = 1000
MOST_CHANGE_BYTES = 8 << 20
"""How much of the values that differ is told; of what is beyond it, only how many differ."""
WAITING_BYTES = 32 << 20
_PHASE = RecordingEventType.PHASE_START.value
_SNAPSHOT = RecordingEventType.STATE_SNAPSHOT.value
_START = RecordingEventType.WORKFLOW_START.value
_ENDS = (RecordingEventType.WORKFLOW_COMPLETE.value, RecordingEventType.WORKFLOW_ERROR.value)
_INPUT = {
    _START: "initial_context",
    "node_start": "inputs",
    "team_start": "context",
    "team_member_start": "inputs",
}
_OUTPUT = {
    **dict.fromkeys(_ENDS, "final_state"),
    "node_complete": "outputs",
    "node_error": "outputs",
    "team_complete": "final_output",
    "team_member_complete": "outputs",
    "team_communication": "message",
    _SNAPSHOT: "state",
}
_TIMED = frozenset({"node_complete", "node_error"})
_TELLING = frozenset({*_INPUT, *_OUTPUT})
_NODE_STATUS = {kind.value: status for kind, status in STATUS_OF.items()}

Line = tuple[str, str | None, "bytes | dict[str, Any]", dict[str, Any]]
"""Event type, node, data (JSON or decoded), metadata."""


class Comparable(Protocol):
    """What comparing needs of a replayer."""

    metadata: RecordingMetadata
    events: Sequence[RecordingEvent]

    @property
    def snapshots(self) -> Sequence[StateSnapshot]:
        """Return the recorded snapshots."""


class _Data(msgspec.Struct):
    """The part of an event's data that is compared; values stay JSON."""

    initial_context: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()
    context: msgspec.Raw = msgspec.Raw()
    final_state: msgspec.Raw = msgspec.Raw()
    outputs: msgspec.Raw = msgspec.Raw()
    final_output: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    state: msgspec.Raw = msgspec.Raw()
    error: Any = None
    duration_seconds: Any = None


class _Timed(msgspec.Struct):
    duration_seconds: Any = None


_decode_data = msgspec.json.Decoder(_Data).decode
_decode_timed = msgspec.json.Decoder(_Timed).decode


class _Content(msgspec.Struct):
    """What an event says: values as JSON."""

    given: bytes
    result: bytes
    error: Any
    seconds: float

    def digest(self) -> bytes:
        parts = (self.given, self.result, encode_json(self.error))
        return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()


def compare(mine: Comparable, theirs: Comparable) -> dict[str, Any]:
    """Return what differs between two recordings. Numbers are ``mine`` minus ``theirs``.

    ``metadata_diff``     duration_diff, node_count_diff, team_count_diff, event_count_diff
    ``node_diff``         only_in_self, only_in_other, common: sets of node (and team) ids
    ``path_diff``         self_path, other_path: the node of every event that has one; first_difference: None or
                          {position, self_node, other_node}, where the side that ended has None
    ``event_diff``        from self to other: added, removed, moved, each at most 1,000 of
                          {node_id, event_type, occurrence, position}; counts has all of them in numbers.
                          position is that in self (for added: in other); a moved one also has other_position
    ``input_diff``        per node: list of {path (JSON pointer), change, old (self), new (other)}, with
    ``output_diff``       occurrence where it is not the first; events on one side only are in event_diff
    ``context_diff``      the same list for the initial context of the run
    ``final_state_diff``  the same list for its final state
    ``state_diff``        the same list for recorded snapshots, each with the position of its event
    ``left_out``          how many differences of values are not in these lists: a node (and the snapshots together)
                          has at most 1,000, and all of them at most 8 MiB; an event of a node that has 1,000 counts once
    ``error_diff``        run: None or {self, other}; nodes: {node: {self, other}}, the last error of each
    ``status_diff``       run: None or {self, other}, which are metadata's success; nodes: {node: {self, other}}
    ``timing_diff``       per node of both: self, other (seconds of work), seconds (their difference), ratio
                          (self / other; None where other is 0)
    ``version_diff``      None or {self, other}: the versions of the workflow
    ``identical``         nothing that happened differs: the same events with the same inputs, outputs, errors,
                          states and outcome. Order counts, but for events of different nodes inside one phase,
                          which run side by side. Times, ids, versions and the texts of logs do not count.

    Cost: 1,000,000 equal events in about half a second; when all differ, about seven microseconds an event.

    Raises:
        InvalidRecording: one of them is damaged.
    """
    return _Comparison(mine, theirs).result()


class _Run:
    """One of the two: its events by position, and what was learned about it."""

    def __init__(self, recording: Comparable) -> None:
        self.recording = recording
        self.events = recording.events
        self.path: list[str] = []
        self.status: dict[str, str] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.errors: defaultdict[str, list[Any]] = defaultdict(list)
        self._states: dict[str, StateSnapshot] | None = None

    def outline(self, start: int, stop: int) -> Iterator[tuple[str, str | None]]:
        if isinstance(self.events, SealedRecording):
            for kinds, nodes, _ in self.events.iter_outlines(start, stop):
                yield from zip(kinds, nodes, strict=True)
            return
        for position in range(start, stop):
            event = self.events[position]
            yield event.event_type._value_, event.node_id

    def lines(self, start: int, stop: int) -> Iterator[Line]:
        if isinstance(self.events, SealedRecording):
            yield from self.events.iter_lines(start, stop)
            return
        for position in range(start, stop):
            event = self.events[position]
            yield event.event_type._value_, event.node_id, event.data, event.metadata

    def content(self, line: Line, position: int) -> _Content:
        """Return what the event at ``position`` says."""
        kind, _, data, metadata = line
        given, result = _INPUT.get(kind, ""), _OUTPUT.get(kind, "")
        if isinstance(data, bytes):
            try:
                decoded = _decode_data(data)
            except (msgspec.DecodeError, RecursionError):
                return _Content(b"", data, None, 0.0)
            content = _Content(
                bytes(getattr(decoded, given)) if given else b"",
                bytes(getattr(decoded, result)) if result else b"",
                decoded.error,
                seconds_of(decoded.duration_seconds),
            )
        else:
            content = _Content(
                encode_json(plain(data[given])) if given in data else b"",
                encode_json(plain(data[result])) if result in data else b"",
                plain(data.get("error")),
                seconds_of(data.get("duration_seconds")),
            )
        if kind == _SNAPSHOT:
            content.result = self._state(position) or content.result
        elif metadata:
            content.given = _hidden(metadata, given) or content.given
            content.result = _hidden(metadata, result) or content.result
        return content

    def _state(self, position: int) -> bytes:
        if isinstance(self.events, SealedRecording):
            found = self.events.snapshot_at(position)
        else:
            if self._states is None:
                self._states = {item.snapshot_id: item for item in recorded(self.recording.snapshots)}
            found = self._states.get(str(self.events[position].data.get("snapshot_id")))
        return b"" if found is None else encode_json(plain(found.state))

    def learn(self, kind: str, node: str | None, content: _Content) -> None:
        if node is None:
            return
        if kind in _TIMED:
            self.seconds[node] += content.seconds
        if content.error not in (None, ""):
            self.errors[node].append(content.error)


def _hidden(metadata: dict[str, Any], name: str) -> bytes:
    """Return the hash that was recorded in the place of a value."""
    found = metadata.get(f"{name}_sha256") if name else None
    return b"" if found is None else encode_json({"sha256": found})


class _Comparison:
    def __init__(self, mine: Comparable, theirs: Comparable) -> None:
        self.mine, self.theirs = _Run(mine), _Run(theirs)
        self.inputs: dict[str, list[dict[str, Any]]] = {}
        self.outputs: dict[str, list[dict[str, Any]]] = {}
        self.context: list[dict[str, Any]] = []
        self.final: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []
        self.room_bytes = MOST_CHANGE_BYTES
        self.left_out = 0
        self.seen: Counter[tuple[str, str | None]] = Counter()
        self.phases = 0
        self.read()

    # ------------------------------------------------------------------ reading

    def read(self) -> None:
        """Read both: the equal beginning, what lies between, the equal end."""
        first, last = _equal_frames(self.mine.events, self.theirs.events)
        self.start = first
        stop, other_stop = len(self.mine.events) - last, len(self.theirs.events) - last
        between = first < stop or first < other_stop
        self._read_equal(0, first, count=between)
        self.same_path = len(self.mine.path)
        numbers: dict[tuple[str, str | None], int] = {}
        mine = self._read_keys(self.mine, first, stop, numbers)
        theirs = self._read_keys(self.theirs, first, other_stop, numbers)
        self.names = list(numbers)
        self.keys = (mine, theirs)
        self.alignment = Alignment(mine, theirs)
        self._read_values(stop, other_stop)
        self._read_equal(stop, len(self.mine.events), count=False)

    def _read_equal(self, start: int, stop: int, *, count: bool) -> None:
        """Read events that both have, from one. Only sealed recordings have such."""
        events = self.mine.events
        if start >= stop or not isinstance(events, SealedRecording):
            return
        seconds: defaultdict[str, float] = defaultdict(float)
        for kinds, nodes, lines in events.iter_outlines(start, stop, lines=True):
            path = [node for node in nodes if node is not None]
            self.mine.path += path
            self.theirs.path += path
            changes = {
                node: _NODE_STATUS[kind]
                for kind, node in zip(kinds, nodes, strict=True)
                if kind in _NODE_STATUS and node is not None
            }
            self.mine.status.update(changes)
            self.theirs.status.update(changes)
            for kind, node, line in zip(kinds, nodes, lines, strict=True):
                if kind in _TIMED and node is not None:
                    value = _decode_timed(line).duration_seconds
                    seconds[node] += value if type(value) is float else seconds_of(value)
            if count:
                self.seen.update(zip(kinds, nodes, strict=True))
                self.phases += kinds.count(_PHASE)
        for node, value in seconds.items():
            self.mine.seconds[node] += value
            self.theirs.seconds[node] += value

    def _read_keys(self, run: _Run, start: int, stop: int, numbers: dict[tuple[str, str | None], int]) -> array[int]:
        keys: array[int] = array("q")
        for key in run.outline(start, stop):
            keys.append(numbers.setdefault(key, len(numbers)))
            kind, node = key
            if node is not None:
                run.path.append(node)
                if kind in _NODE_STATUS:
                    run.status[node] = _NODE_STATUS[kind]
        return keys

    def _read_values(self, stop: int, other_stop: int) -> None:
        """Walk through both between the equal ends, and compare what belongs together."""
        mates, lone = self.alignment.mates, frozenset(self.alignment.added)
        theirs = enumerate(self.theirs.lines(self.start, other_stop))
        reached = 0
        waiting: dict[int, _Content | bytes] = {}
        waiting_bytes = 0
        self.counts: Counter[tuple[str, str | None]] = Counter(self.seen)

        def take() -> Line:
            nonlocal reached
            reached += 1
            return next(theirs)[1]

        def pull_until(place: int) -> None:
            nonlocal waiting_bytes
            while reached < place:
                line = take()
                if line[0] not in _TELLING:
                    continue
                content = self.theirs.content(line, self.start + reached - 1)
                self.theirs.learn(line[0], line[1], content)
                if reached - 1 in lone:
                    continue
                size = len(content.given) + len(content.result)
                waiting[reached - 1] = content if waiting_bytes + size <= WAITING_BYTES else content.digest()
                waiting_bytes += size if waiting_bytes + size <= WAITING_BYTES else 0

        for place, line in enumerate(self.mine.lines(self.start, stop)):
            kind, node = line[:2]
            self.counts[kind, node] += 1
            mate = mates[place]
            if kind not in _TELLING:
                continue
            if mate > reached:
                pull_until(mate)
            if mate == reached:
                other = take()
                content = self.mine.content(line, self.start + place)
                self.mine.learn(kind, node, content)
                if kind == _SNAPSHOT or other[2] != line[2] or other[3] != line[3]:
                    found = self.theirs.content(other, self.start + mate)
                    self.theirs.learn(kind, node, found)
                    self._judge(kind, node, content, found, place)
                else:
                    self.theirs.learn(kind, node, content)
                continue
            content = self.mine.content(line, self.start + place)
            self.mine.learn(kind, node, content)
            if mate < 0:
                continue
            kept = waiting.pop(mate)
            if isinstance(kept, _Content):
                waiting_bytes -= len(kept.given) + len(kept.result)
                self._judge(kind, node, content, kept, place)
            elif kept != content.digest():
                self._judge(kind, node, content, self._again(mate), place)
        pull_until(other_stop - self.start)

    def _again(self, mate: int) -> _Content:
        position = self.start + mate
        return self.theirs.content(next(self.theirs.lines(position, position + 1)), position)

    def _judge(self, kind: str, node: str | None, mine: _Content, theirs: _Content, place: int) -> None:
        """Note what differs between two events that belong together."""
        for old, new, into in ((mine.given, theirs.given, self.inputs), (mine.result, theirs.result, self.outputs)):
            if old == new:
                continue
            if self._is_full(kind, into.get(node or "", ())):
                self.left_out += 1
                continue
            found = value_diff(_value(old), _value(new))
            if kind == _START:
                self._tell(found, self.context)
            elif kind in _ENDS:
                self._tell(found, self.final)
            elif kind == _SNAPSHOT:
                self._tell(found, self.states, position=self.start + place)
            elif found:
                number = self.counts[kind, node]
                self._tell(found, into.setdefault(node or "", []), **({} if number == 1 else {"occurrence": number}))

    def _tell(self, found: list[dict[str, Any]], told: list[dict[str, Any]], **where: int) -> None:
        """Add what was found to what is told, as long as there is room."""
        for number, change in enumerate(found):
            size = len(encode_json(change))
            if len(told) >= MOST_NODE_CHANGES or size > self.room_bytes:
                self.left_out += len(found) - number
                return
            told.append({**change, **where})
            self.room_bytes -= size

    def _is_full(self, kind: str, changes: Sequence[Any]) -> bool:
        """Return whether there is no room for another difference; that there are some is known then."""
        if kind == _START or kind in _ENDS:
            return False
        return len(self.states if kind == _SNAPSHOT else changes) >= MOST_NODE_CHANGES

    # ------------------------------------------------------------------ telling

    def result(self) -> dict[str, Any]:
        a, b = self.mine.recording.metadata, self.theirs.recording.metadata
        nodes, other_nodes = set(self.mine.path), set(self.theirs.path)
        status = {
            "run": _sides(a.success, b.success),
            "nodes": _node_sides(self.mine.status, self.theirs.status, nodes & other_nodes),
        }
        errors = {
            "run": _sides(a.error or None, b.error or None),
            "nodes": {
                node: {"self": _last(self.mine.errors, node), "other": _last(self.theirs.errors, node)}
                for node in sorted(self.mine.errors.keys() | self.theirs.errors.keys())
                if self.mine.errors.get(node) != self.theirs.errors.get(node)
            },
        }
        values = (self.inputs, self.outputs, self.context, self.final, self.states)
        same = not (self.alignment.added or self.alignment.removed or any(values) or self.left_out)
        same = same and not any((*status.values(), *errors.values())) and self._same_order()
        return {
            "metadata_diff": {
                "duration_diff": seconds_of(a.duration_seconds) - seconds_of(b.duration_seconds),
                "node_count_diff": a.node_count - b.node_count,
                "team_count_diff": a.team_count - b.team_count,
                "event_count_diff": len(self.mine.events) - len(self.theirs.events),
            },
            "node_diff": {
                "only_in_self": nodes - other_nodes,
                "only_in_other": other_nodes - nodes,
                "common": nodes & other_nodes,
            },
            "path_diff": {
                "self_path": self.mine.path,
                "other_path": self.theirs.path,
                "first_difference": _first_difference(self.mine.path, self.theirs.path, self.same_path),
            },
            "event_diff": self._events(),
            "input_diff": dict(sorted(self.inputs.items())),
            "output_diff": dict(sorted(self.outputs.items())),
            "context_diff": self.context,
            "final_state_diff": self.final,
            "state_diff": self.states,
            "left_out": self.left_out,
            "error_diff": errors,
            "status_diff": status,
            "timing_diff": _timing(self.mine.seconds, self.theirs.seconds),
            "version_diff": _sides(a.workflow_version, b.workflow_version),
            "identical": same,
        }

    def _events(self) -> dict[str, Any]:
        found = self.alignment
        mine, theirs = self.keys
        moved = self._described(mine, found.moved)
        for entry in moved:
            entry["other_position"] = self.start + found.mates[entry["position"] - self.start]
        return {
            "added": self._described(theirs, found.added),
            "removed": self._described(mine, found.removed),
            "moved": moved,
            "counts": {"added": len(found.added), "removed": len(found.removed), "moved": len(found.moved)},
        }

    def _described(self, keys: array[int], places: list[int]) -> list[dict[str, Any]]:
        places = places[:MOST_EVENTS]
        wanted, counts, found = set(places), Counter(self.seen), []
        for place in range(places[-1] + 1 if places else 0):
            key = self.names[keys[place]]
            counts[key] += 1
            if place in wanted:
                kind, node = key
                found.append(
                    {"node_id": node, "event_type": kind, "occurrence": counts[key], "position": self.start + place}
                )
        return found

    def _same_order(self) -> bool:
        """Return whether what moved only moved past other nodes of its phase."""
        if not self.alignment.moved:
            return True
        mine, theirs = (self._by_phase(keys) for keys in self.keys)
        return mine == theirs

    def _by_phase(self, keys: array[int]) -> dict[tuple[int, str | None], array[int]]:
        """Return the order that counts: that of each node in a phase, and of all where there is no phase."""
        phase = self.phases
        found: defaultdict[tuple[int, str | None], array[int]] = defaultdict(lambda: array("q"))
        for key in keys:
            kind, node = self.names[key]
            phase += kind == _PHASE
            found[phase, node if phase else None].append(key)
        return found


def _equal_frames(mine: Sequence[RecordingEvent], theirs: Sequence[RecordingEvent]) -> tuple[int, int]:
    """Return how many events at the beginning, and at the end of the rest, are in frames of equal digest."""
    if not (isinstance(mine, SealedRecording) and isinstance(theirs, SealedRecording)):
        return 0, 0
    a, b = mine.frames, theirs.frames
    shorter, first, last = min(len(a), len(b)), 0, 0
    while first < shorter and a[first].digest == b[first].digest:
        first += 1
    while last < shorter - first and a[-1 - last].digest == b[-1 - last].digest:
        last += 1
    return sum(frame.event_count for frame in a[:first]), sum(frame.event_count for frame in a[len(a) - last :])


def _first_difference(mine: list[str], theirs: list[str], start: int) -> dict[str, Any] | None:
    shorter = min(len(mine), len(theirs))
    position = next((place for place in range(start, shorter) if mine[place] != theirs[place]), shorter)
    if position == len(mine) == len(theirs):
        return None
    return {
        "position": position,
        "self_node": mine[position] if position < len(mine) else None,
        "other_node": theirs[position] if position < len(theirs) else None,
    }


def _sides(mine: Any, theirs: Any) -> dict[str, Any] | None:
    return None if mine == theirs else {"self": mine, "other": theirs}


def _node_sides(mine: dict[str, str], theirs: dict[str, str], common: set[str]) -> dict[str, dict[str, Any]]:
    found = {node: _sides(mine.get(node), theirs.get(node)) for node in sorted(common)}
    return {node: sides for node, sides in found.items() if sides is not None}


def _last(errors: dict[str, list[Any]], node: str) -> Any:
    found = errors.get(node)
    return found[-1] if found else None


def _timing(mine: dict[str, float], theirs: dict[str, float]) -> dict[str, dict[str, Any]]:
    return {
        node: {
            "self": mine[node],
            "other": theirs[node],
            "seconds": mine[node] - theirs[node],
            "ratio": mine[node] / theirs[node] if theirs[node] else None,
        }
        for node in sorted(mine.keys() & theirs.keys())
    }


def _value(text: bytes) -> Any:
    if not text:
        return None
    try:
        return decode_json(text)
    except (msgspec.DecodeError, RecursionError):
        return {"sha256": hashlib.sha256(text).hexdigest()}
