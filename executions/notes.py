"""What node code may write into the recording, beside logs and artifacts."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx

from executions.errors import NodeInputError
from recordings.events import RecordingEventType as Kind

TEAM_KINDS = frozenset(
    {
        Kind.TEAM_START, Kind.TEAM_COMPLETE, Kind.TEAM_MEMBER_START, Kind.TEAM_MEMBER_COMPLETE, Kind.TEAM_COMMUNICATION,
    }
)  # fmt: skip
_OPEN_TO_NODES = TEAM_KINDS | {Kind.LOG, Kind.CHECKPOINT, Kind.UNKNOWN}
LONGEST_TAG = 100
_RESERVED = frozenset(kind.value for kind in Kind if kind not in _OPEN_TO_NODES)


def refuse_reserved(event_type: str) -> None:
    """Refuse the types of events by which the engine tells what it did; a node that wrote one would forge it.

    Raises:
        NodeInputError: ``event_type`` is one of them.
    """
    if event_type in _RESERVED:
        raise NodeInputError(
            f'env.record("{event_type}", …) is not allowed: only Flow Builder writes events of this type; use a name of your own'
        )


def own_type(kind: Kind) -> str:
    """Return the type under which code of a node records ``kind``: ``custom.node_start`` where it is the engine's."""
    return f"custom.{kind.value}" if kind.value in _RESERVED else kind.value


def checked_tags(tags: Sequence[Any]) -> list[str]:
    """Return tags that node code gives, without blanks around them.

    Raises:
        NodeInputError: one is no text, empty or too long.
    """
    for tag in tags:
        if not isinstance(tag, str) or not 0 < len(tag.strip()) <= LONGEST_TAG:
            raise NodeInputError(f"env.tag takes texts of 1 to {LONGEST_TAG} characters, not {tag!r:.60}")
    return [tag.strip() for tag in tags]


class TeamNotes(ABC):
    """The team events of the recording format, for node code. ``team_id`` may be any name of your choice."""

    @abstractmethod
    def _note_for(self, kind: Kind, team_id: str, data: dict[str, Any]) -> None:
        """Write an event of the team."""

    def record_team_start(
        self, team_id: str, formation: str, member_count: int, context: dict[str, Any] | None = None
    ) -> None:
        """Record that a team begins."""
        data = {"formation": formation, "member_count": member_count, "context": context or {}}
        self._note_for(Kind.TEAM_START, team_id, data)

    def record_team_complete(
        self, team_id: str, final_output: Any = None, duration_seconds: float | None = None, success: bool = True
    ) -> None:
        """Record that a team ended, well or not."""
        data = {"final_output": final_output, "duration_seconds": duration_seconds, "success": success}
        self._note_for(Kind.TEAM_COMPLETE, team_id, data)

    def record_team_member_start(self, team_id: str, member_id: str, inputs: dict[str, Any] | None = None) -> None:
        """Record that a member of a team begins."""
        self._note_for(Kind.TEAM_MEMBER_START, team_id, {"member_id": member_id, "inputs": inputs or {}})

    def record_team_member_complete(
        self, team_id: str, member_id: str, outputs: dict[str, Any] | None = None,
        duration_seconds: float | None = None, error: str | None = None,
    ) -> None:  # fmt: skip
        """Record that a member of a team ended."""
        data = {
            "member_id": member_id, "outputs": outputs or {}, "duration_seconds": duration_seconds, "error": error,
        }  # fmt: skip
        self._note_for(Kind.TEAM_MEMBER_COMPLETE, team_id, data)

    def record_team_member_communication(self, team_id: str, from_member: str, to_member: str, message: Any) -> None:
        """Record a message from one member of a team to another."""
        data = {"from_member": from_member, "to_member": to_member, "message": message}
        self._note_for(Kind.TEAM_COMMUNICATION, team_id, data)


# --------------------------------------------------------------------------- calls to other systems

Note = Callable[[dict[str, Any]], None]


class NotedTransport(httpx.AsyncBaseTransport):
    """A transport that tells of every request, once its answer was read or it failed.

    What is told: method, address without query and user, status, bytes of the answer as they were read, seconds,
    error. A redirect is two requests.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, note: Note) -> None:
        self._inner, self._note = inner, note

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request."""
        url = request.url
        port = f":{url.port}" if url.port else ""
        call = Call(request.method, f"{url.scheme}://{url.host}{port}{url.path}", self._note)
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException as error:
            call.end(error=error)
            raise
        call.status = response.status_code
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _NotedStream(response.stream, call)
        return response

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._inner.aclose()


class Call:
    """A call to another system that is told of when it ends, once. ``size`` is in bytes."""

    def __init__(self, method: str, url: str, note: Note) -> None:
        self._began, self._note = time.monotonic(), note
        self._data = {"method": method, "url": url}
        self.status: int | None = None
        self.size = 0

    def end(self, error: BaseException | None = None) -> None:
        """Tell of the call, and of the ``error`` that ended it."""
        if self._began < 0:
            return
        seconds, self._began = time.monotonic() - self._began, -1.0
        text = None if error is None else str(error) or type(error).__name__
        self._note(
            {**self._data, "status": self.status, "bytes": self.size, "duration_seconds": seconds, "error": text}
        )


class _NotedStream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, call: Call) -> None:
        self._inner, self._call = inner, call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self._call.size += len(chunk)
                yield chunk
        except BaseException as error:
            self._call.end(error)
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()
        self._call.end()
