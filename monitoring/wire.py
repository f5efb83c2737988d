"""What travels over the sockets: entries, frames of them, control messages, and what clients may say.

An entry is one ``ExecutionLog`` as JSON text. It is encoded once, whoever watches, and so is every frame that
holds several of them. No frame is longer than ``FRAME_BYTES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, Literal

import msgspec

from recordings.events import preview

FRAME_BYTES: Final = 64 * 1024
"""The longest frame that is sent, in bytes of UTF-8."""
KEPT_CHARACTERS: Final = {"message": 4000}
"""What is left of the texts of an entry that would not fit into a frame, by key; 1,000 of all others."""
STATUS_EVENTS: Final = frozenset({"cancel_requested", "recovered", "pause", "resume", "state_snapshot"})


def frame_type(event: str) -> str:
    """Return which kind of message an event is to clients: ``node``, ``status`` or ``log``."""
    if event.startswith("node_"):
        return "node"
    if event.startswith(("workflow_", "phase_")) or event in STATUS_EVENTS:
        return "status"
    return "log"


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as it is sent. ``size`` is the number of bytes of ``text`` in UTF-8."""

    seq: int
    text: str
    size: int


def entry(log: dict[str, Any]) -> Entry:
    """Return the entry of one ``ExecutionLog``; one that would not fit into a frame is cut and says so."""
    content = {"type": frame_type(log["event"]), **log}
    data = msgspec.json.encode(content)
    if len(data) > FRAME_BYTES - 2:  # an array around it has two brackets
        data = msgspec.json.encode(_shortened(content))
    return Entry(int(log["seq"]), data.decode(), len(data))


def _shortened(content: dict[str, Any]) -> dict[str, Any]:
    short = {key: _short(value, KEPT_CHARACTERS.get(key, 1000)) for key, value in content.items()}
    return {**short, "input_data": {}, "output_data": {}, "data": {"cut": True}}


def _short(value: Any, limit: int) -> Any:
    return value if value is None or isinstance(value, int | float) else preview(str(value), limit)


class Batch:
    """Entries that follow each other without a gap and fit into one frame. ``size`` is in bytes."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.first, self.last = entries[0].seq, entries[-1].seq
        self.size = sum(item.size + 1 for item in entries) + 1

    @cached_property
    def text(self) -> str:
        """Return the frame, a JSON array; made once for all watchers."""
        return f"[{','.join(item.text for item in self.entries)}]"

    def after(self, seq: int) -> Batch:
        """Return the part behind ``seq``, which is before ``last``."""
        return self if seq < self.first else Batch(self.entries[seq + 1 - self.first :])


def batches(entries: Iterable[Entry]) -> list[Batch]:
    """Return ``entries``, which are in order, as batches; a new one begins wherever a number is missing."""
    found: list[Batch] = []
    held: list[Entry] = []
    size = 1
    for item in entries:
        if held and (item.seq != held[-1].seq + 1 or size + item.size + 1 > FRAME_BYTES):
            found.append(Batch(held))
            held, size = [], 1
        held.append(item)
        size += item.size + 1
    return [*found, Batch(held)] if held else found


def message(kind: str, **content: Any) -> str:
    """Return a control message."""
    return msgspec.json.encode({"type": kind, **content}).decode()


# --------------------------------------------------------------------------- what clients say


Id = Annotated[str, msgspec.Meta(max_length=64)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Subscribe(msgspec.Struct, tag="subscribe"):
    """Follow an execution: every entry after ``after``, or its status only. Once more starts anew."""

    execution_id: Id
    after: Seq = 0
    what: Literal["logs", "status"] = "logs"


class Unsubscribe(msgspec.Struct, tag="unsubscribe"):
    """Follow an execution no longer."""

    execution_id: Id


class Overview(msgspec.Struct, tag="overview"):
    """Tell of all executions, or no longer."""

    on: bool


class Ping(msgspec.Struct, tag="ping"):
    """Answer ``pong``."""


Said = Subscribe | Unsubscribe | Overview | Ping
_decoder: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)


def said(text: str) -> Said:
    """Return what a client said.

    Raises:
        ValueError: it is none of the messages that clients may send.
    """
    if text.strip() == "ping":
        return Ping()
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a message that is known here: {error}") from None
