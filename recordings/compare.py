"""Compare two recordings: what happened, in which order, with which values, how long it took.

Events are aligned by the longest common subsequence over (node, type, occurrence). Sealed recordings are read a
frame at a time, values stay JSON until one differs from the other and there is room to tell it; frames that are equal
by digest at the beginning and at the end are read once, for both. Memory grows with the path lists and by about 30 bytes an event between the first and the last difference, not with values.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
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
_SAID = {**_INPUT, **_OUTPUT}
_BEYOND = (b'"b"', b'"m"', b'"s"')
"""What a further line has when its event says more than its own line: blobs, metadata, a state."""
_CHUNK = 2048
_NODE_STATUS = {kind.value: status for kind, status in STATUS_OF.items()}


class Comparable(Protocol):
    """What comparing needs of a replayer."""

    metadata: RecordingMetadata
    events: Sequence[RecordingEvent]

    @property
    def snapshots(self) -> Sequence[StateSnapshot]:
        """Return the recorded snapshots."""


class _Said(msgspec.Struct, gc=False):
    """The part of an event's data that is compared; values stay JSON. Each type of event has one of them."""

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


class _Timed(msgspec.Struct, gc=False):
    duration_seconds: Any = None


class _Numbers(dict[tuple[str, str | None], int]):
    """Numbers of keys, given as they are met."""

    def __missing__(self, key: tuple[str, str | None]) -> int:
        number = self[key] = len(self)
        return number


_decode_said = msgspec.json.Decoder(_Said)
_decode_timed = msgspec.json.Decoder(_Timed).decode_lines


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
                          has at most 1,000, and all of them at most 8 MiB; an event behind either limit counts once
    ``error_diff``        run: None or {self, other}; nodes: {node: {self, other}}, the last error of each
    ``status_diff``       run: None or {self, other}, which are metadata's success; nodes: {node: {self, other}}
    ``timing_diff``       per node of both: self, other (seconds of work), seconds (their difference), ratio
                          (self / other; None where other is 0)
    ``version_diff``      None or {self, other}: the versions of the workflow
    ``identical``         nothing that happened differs: the same events with the same inputs, outputs, errors,
                          states and outcome. Order counts, but for events of different nodes inside one phase,
                          which run side by side. Times, ids, versions and the texts of logs do not count.

    Cost: 1,000,000 equal events in about half a second; when all differ, about two seconds.

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
        self._shapes: dict[int, tuple[int, array[int]]] = {}
        self._states: dict[str, StateSnapshot] | None = None

    def outlines(self, start: int, stop: int) -> Iterator[tuple[list[str], list[str | None]]]:
        """Iterate over event types and nodes, many at once."""
        if isinstance(self.events, SealedRecording):
            for number, places in self.events.frames_between(start, stop):
                kinds, nodes, further = self.events.outline_of(number)
                self._shapes[number] = len(kinds), array("q", further)
                yield kinds[places], nodes[places]
            return
        for first in range(start, stop, _CHUNK):
            events = [self.events[position] for position in range(first, min(first + _CHUNK, stop))]
            yield [event.event_type._value_ for event in events], [event.node_id for event in events]

    def said(self, start: int, stop: int) -> Iterator[list[_Said]]:
        """Iterate over what the events say, many at once; ``outlines`` were read before."""
        if not isinstance(self.events, SealedRecording):
            for first in range(start, stop, _CHUNK):
                yield [self.at(position) for position in range(first, min(first + _CHUNK, stop))]
            return
        for number, places in self.events.frames_between(start, stop):
            yield self._frame(self.events.data_of(number), *self._shapes[number], places, start)
            start += places.stop - places.start

    def _frame(self, data: bytes, count: int, further: array[int], places: slice, start: int) -> list[_Said]:
        """Return what the events at some places of a frame say; ``start`` is the position of the first of them."""
        try:
            found = _decode_said.decode_lines(data)
        except (msgspec.DecodeError, RecursionError):
            found = []
        if len(found) != count + len(further):
            return [self.at(start + number) for number in range(places.stop - places.start)]
        chosen = found[places]
        for place, line in zip(further, data.rsplit(b"\n", len(further))[1:], strict=True) if further else ():
            if places.start <= place < places.stop and any(mark in line for mark in _BEYOND):
                chosen[place - places.start] = self.at(start + place - places.start)
        return chosen

    def at(self, position: int) -> _Said:
        """Return what one event says, with what is told elsewhere: blobs, hashes of what is left out, a state."""
        if not isinstance(self.events, SealedRecording):
            event = self.events[position]
            kind, metadata, said = event.event_type._value_, event.metadata, _said_of(event)
        else:
            kind, _, data, metadata = next(self.events.iter_lines(position, position + 1))
            said = _said_in(kind, data)
        name = _SAID.get(kind, "")
        hidden = metadata.get(f"{name}_sha256") if name and metadata else None
        if kind == _SNAPSHOT:
            said.state = msgspec.Raw(self._state(position) or bytes(said.state))
        elif hidden is not None:
            setattr(said, name, msgspec.Raw(encode_json({"sha256": hidden})))
        return said

    def _state(self, position: int) -> bytes:
        if isinstance(self.events, SealedRecording):
            found = self.events.snapshot_at(position)
        else:
            if self._states is None:
                self._states = {item.snapshot_id: item for item in recorded(self.recording.snapshots)}
            found = self._states.get(str(self.events[position].data.get("snapshot_id")))
        return b"" if found is None else encode_json(plain(found.state))

    def learn(self, kind: str, node: str | None, said: _Said) -> None:
        """Note how long a node took, and its error."""
        if node is None:
            return
        if kind in _TIMED:
            self.seconds[node] += seconds_of(said.duration_seconds)
        if said.error not in (None, ""):
            self.errors[node].append(said.error)


class _Stream:
    """What a run says, from its first event on, taken in pieces."""

    def __init__(self, chunks: Iterator[list[_Said]]) -> None:
        self.reached = 0
        self._chunks = chunks
        self._chunk: list[_Said] = []
        self._place = 0

    def ready(self) -> int:
        """Return how many can be taken at once."""
        if self._place == len(self._chunk):
            self._chunk, self._place = next(self._chunks, []), 0
        return len(self._chunk) - self._place

    def take(self, count: int) -> list[_Said]:
        """Return the next ``count``, which are ready."""
        start = self._place
        self._place += count
        self.reached += count
        return self._chunk[start : self._place]

    def next(self) -> _Said:
        """Return the next one."""
        self.ready()
        return self.take(1)[0]


def _said_of(event: RecordingEvent) -> _Said:
    said, data = _Said(error=plain(event.data.get("error"))), event.data
    said.duration_seconds = data.get("duration_seconds")
    name = _SAID.get(event.event_type._value_)
    if name in data:
        setattr(said, name, msgspec.Raw(encode_json(plain(data[name]))))
    return said


def _said_in(kind: str, data: bytes) -> _Said:
    try:
        return _decode_said.decode(data)
    except (msgspec.DecodeError, RecursionError):
        said = _Said()
        if kind in _SAID:
            setattr(said, _SAID[kind], msgspec.Raw(data))
        return said


class _Comparison:
    def __init__(self, mine: Comparable, theirs: Comparable) -> None:
        self.mine, self.theirs = _Run(mine), _Run(theirs)
        self.inputs: dict[str, list[dict[str, Any]]] = {}
        self.outputs: dict[str, list[dict[str, Any]]] = {}
        self.context: list[dict[str, Any]] = []
        self.final: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []
        self.room_bytes = MOST_CHANGE_BYTES
        self.no_room = False
        self.full: set[int] = set()
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
        numbers = _Numbers()
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
        for number, places in events.frames_between(start, stop):
            kinds, nodes, _ = events.outline_of(number)
            self._note_path(self.mine, kinds, nodes)
            self._note_path(self.theirs, kinds, nodes)
            timed = _decode_timed(events.data_of(number))[places]
            for kind, node, said in zip(kinds, nodes, timed, strict=True):
                if kind in _TIMED and node is not None:
                    value = said.duration_seconds
                    seconds[node] += value if type(value) is float else seconds_of(value)
            if count:
                self.seen.update(zip(kinds, nodes, strict=True))
                self.phases += kinds.count(_PHASE)
        for node, value in seconds.items():
            self.mine.seconds[node] += value
            self.theirs.seconds[node] += value

    def _read_keys(self, run: _Run, start: int, stop: int, numbers: _Numbers) -> array[int]:
        keys: array[int] = array("q")
        for kinds, nodes in run.outlines(start, stop):
            keys.extend(map(numbers.__getitem__, zip(kinds, nodes, strict=True)))
            self._note_path(run, kinds, nodes)
        return keys

    def _note_path(self, run: _Run, kinds: list[str], nodes: list[str | None]) -> None:
        run.path += [node for node in nodes if node is not None]
        run.status |= {
            node: _NODE_STATUS[kind]
            for kind, node in zip(kinds, nodes, strict=True)
            if kind in _NODE_STATUS and node is not None
        }

    def _read_values(self, stop: int, other_stop: int) -> None:
        """Walk through both between the equal ends, and compare what belongs together."""
        self.counts = [self.seen[key] for key in self.names]
        self.parts = [_part(kind, node) for kind, node in self.names]
        mine = _Stream(self.mine.said(self.start, stop))
        theirs = _Stream(self.theirs.said(self.start, other_stop))
        waiting = _Waiting(self, theirs)
        mates, place = self.alignment.mates, 0
        while place < len(mates):
            key, mate = self.keys[0][place], mates[place]
            kind, node = self.names[key]
            if mate == theirs.reached:
                count = self._in_step(place, min(mine.ready(), theirs.ready()))
                self._compare(place, mine.take(count), theirs.take(count))
                place += count
            elif mate > theirs.reached and kind in _SAID:
                waiting.pull(mate)
            else:
                self.counts[key] += 1
                said = mine.next()
                if kind in _SAID:
                    self.mine.learn(kind, node, said)
                    other = waiting.mate_of(kind, said, mate)
                    if other is not None:
                        self._judge(key, said, other, place)
                place += 1
        waiting.pull(other_stop - self.start)

    def _in_step(self, place: int, most: int) -> int:
        """Return how many events from ``place`` on have mates that follow each other as they do."""
        if not (self.alignment.added or self.alignment.removed or self.alignment.moved):
            return most
        mates, ahead, count = self.alignment.mates, self.alignment.mates[place] - place, 1
        most = min(most, len(mates) - place)
        while count < most and mates[place + count] == place + count + ahead:
            count += 1
        return count

    def _compare(self, start: int, mine: list[_Said], theirs: list[_Said]) -> None:
        """Compare events that follow each other in both, with those that they belong to."""
        counts, parts, full = self.counts, self.parts, self.full
        seconds, other_seconds = self.mine.seconds, self.theirs.seconds
        for place, (key, a, b) in enumerate(
            zip(self.keys[0][start : start + len(mine)], mine, theirs, strict=True), start
        ):
            counts[key] += 1
            part = parts[key]
            if part is None:
                continue
            said, timed, node = part
            if timed:
                x, y = a.duration_seconds, b.duration_seconds
                seconds[node] += x if type(x) is float else seconds_of(x)
                other_seconds[node] += y if type(y) is float else seconds_of(y)
            if a.error is not None or b.error is not None:
                self.mine.learn("", node, a)
                self.theirs.learn("", node, b)
            if said(a) != said(b):
                if key in full:
                    self.left_out += 1
                else:
                    self._judge(key, a, b, place)

    def _judge(self, key: int, mine: _Said, theirs: _Said, place: int) -> None:
        """Note what differs between two events that belong together."""
        kind, node = self.names[key]
        old, new = bytes(getattr(mine, _SAID[kind])), bytes(getattr(theirs, _SAID[kind]))
        if old == new:
            return
        if key in self.full:
            self.left_out += 1
            return
        found = value_diff(_value(old), _value(new))
        if kind == _START:
            self._tell(found, self.context)
        elif kind in _ENDS:
            self._tell(found, self.final)
        elif found:
            where = {"position": self.start + place} if kind == _SNAPSHOT else {}
            if kind != _SNAPSHOT and self.counts[key] > 1:
                where = {"occurrence": self.counts[key]}
            by_node = self.inputs if kind in _INPUT else self.outputs
            told = self.states if kind == _SNAPSHOT else by_node.setdefault(node or "", [])
            self._tell(found, told, **where)
            if self.no_room or len(told) >= MOST_NODE_CHANGES:
                self.full.add(key)

    def _tell(self, found: list[dict[str, Any]], told: list[dict[str, Any]], **where: int) -> None:
        """Add what was found to what is told, as long as there is room."""
        for number, change in enumerate(found):
            size = len(encode_json(change))
            if len(told) >= MOST_NODE_CHANGES or size > self.room_bytes:
                self.no_room = self.no_room or size > self.room_bytes
                self.left_out += len(found) - number
                return
            told.append({**change, **where})
            self.room_bytes -= size

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


class _Waiting:
    """What was read of the other run before its mates were: whole as long as there is room, then by digest."""

    def __init__(self, comparison: _Comparison, stream: _Stream) -> None:
        self._run, self._start = comparison.theirs, comparison.start
        self._names, self._keys = comparison.names, comparison.keys[1]
        self._lone = frozenset(comparison.alignment.added)
        self._stream = stream
        self._said: dict[int, _Said | bytes] = {}
        self._bytes = 0

    def pull(self, stop: int) -> None:
        """Read on until ``stop``."""
        while self._stream.reached < stop:
            place = self._stream.reached
            kind, node = self._names[self._keys[place]]
            said = self._stream.next()
            if kind not in _SAID:
                continue
            self._run.learn(kind, node, said)
            if place in self._lone:
                continue
            size = _size(kind, said)
            whole = self._bytes + size <= WAITING_BYTES
            self._said[place] = said if whole else _digest(kind, said)
            self._bytes += size if whole else 0

    def mate_of(self, kind: str, mine: _Said, mate: int) -> _Said | None:
        """Return what waits for ``mine``, read again where only its digest waits; None when it says the same."""
        kept = self._said.pop(mate, None)
        if isinstance(kept, _Said):
            self._bytes -= _size(kind, kept)
            return kept
        return None if kept is None or kept == _digest(kind, mine) else self._run.at(self._start + mate)


def _part(kind: str, node: str | None) -> tuple[Callable[[_Said], Any], bool, Any] | None:
    """Return what to compare of events of a key: how to get it, and whose seconds to add."""
    name = _SAID.get(kind)
    return None if name is None else (attrgetter(name), kind in _TIMED and node is not None, node)


def _size(kind: str, said: _Said) -> int:
    return len(bytes(getattr(said, _SAID[kind])))


def _digest(kind: str, said: _Said) -> bytes:
    return hashlib.blake2b(bytes(getattr(said, _SAID[kind])), digest_size=16).digest()


def of_the_run(difference: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the changes of values that belong to no node, by what they are changes of; those that there are."""
    parts = {
        "input": difference["context_diff"],
        "final state": difference["final_state_diff"],
        **{f"state at event {change['position'] + 1}": [] for change in difference["state_diff"]},
    }
    for change in difference["state_diff"]:
        parts[f"state at event {change['position'] + 1}"].append(change)
    return {name: changes for name, changes in parts.items() if changes}


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
