"""Send committed events to whoever watches, and read them back."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec
from channels.layers import get_channel_layer

from executions import runtime, states
from executions.context import plan_of
from executions.models import Execution, NodeRun
from executions.store import EventDraft
from recordings.blobs import read_blob
from recordings.errors import BlobMissing
from recordings.events import OMITTED, RecordingEvent, RecordingEventType, encode_json, event_id, execution_log
from recordings.rows import iter_events
from workflows.errors import WorkflowError
from workflows.keeping import retention_problem
from workflows.models import Workflow

logger = logging.getLogger(__name__)

SEND_SECONDS = 5.0
PAGE_BYTES = 16 << 20
PUSH_SECONDS = 0.03
"""Events of one execution that follow each other within this time travel in one message."""
PUSHED_TOGETHER = 500
"""Events that one message brings, with at most ``PUSHED_CHARACTERS`` of lines; of more only the newest is pushed."""
PUSHED_CHARACTERS = 1024 * 1024


def group_name(execution_id: UUID | str) -> str:
    """Return the channel-layer group of an execution."""
    return f"execution.{UUID(str(execution_id)).hex}"


def push(execution_id: UUID, base: int, drafts: Sequence[EventDraft], status: str, depth: int = 0) -> None:
    """Send events that were just committed with the numbers after ``base``; never waits, never raises.

    The message is only a hint: whoever misses it reads the rows. After very many events watchers read them anyway.
    """
    first = len(drafts) if len(drafts) > PUSHED_TOGETHER else 1
    logs = [
        execution_log(to_event(execution_id, base + number, draft, depth))
        for number, draft in enumerate(drafts[first - 1 :], first)
    ]
    _pusher.add(execution_id, logs, status)


def to_event(execution_id: UUID, seq: int, draft: EventDraft, depth: int = 0) -> RecordingEvent:
    """Return a committed draft as the event that its row will be read as."""
    name = str(execution_id)
    data = draft.shown if draft.shown is not None else draft.data
    metadata: dict[str, Any] = {"recursion_depth": depth}
    if OMITTED in data:
        metadata |= data[OMITTED]
        data = {key: value for key, value in data.items() if key != OMITTED}
    return RecordingEvent(
        event_id=event_id(name, seq),
        event_type=RecordingEventType(draft.type),
        timestamp=draft.timestamp / 1_000_000,
        workflow_id=name,
        node_id=draft.node_id or None,
        data=data,
        metadata=metadata,
        seq=seq,
    )


class _Pusher:
    """Collects messages per execution and sends them from the loop of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[UUID, tuple[list[dict[str, Any]], str]] = {}
        self._scheduled = False
        self._sending: set[asyncio.Task[None]] = set()

    def add(self, execution_id: UUID, logs: list[dict[str, Any]], status: str) -> None:
        """Queue ``logs`` and see to it that they are sent."""
        with self._lock:
            known, _ = self._pending.get(execution_id, ([], ""))
            self._pending[execution_id] = (_bounded([*known, *logs]), status)
            if self._scheduled:
                return
            self._scheduled = True
        loop = runtime.loop()
        loop.call_soon_threadsafe(lambda: loop.call_later(PUSH_SECONDS, self._flush))

    def _flush(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
            self._scheduled = False
        task = asyncio.get_running_loop().create_task(self._send(pending))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, pending: dict[UUID, tuple[list[dict[str, Any]], str]]) -> None:
        layer = get_channel_layer()
        for execution_id, (logs, status) in pending.items():
            logs.sort(key=lambda log: log["seq"])
            message = {
                "type": "execution.events", "execution_id": str(execution_id), "logs": logs, "status": status,
            }  # fmt: skip
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await layer.group_send(group_name(execution_id), message)
            except Exception as error:
                logger.warning("events of %s were not pushed (watchers will read the rows): %s", execution_id, error)


def _bounded(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ``logs``, or the newest only where a message would be too large; the rows have what is before it."""
    few = len(logs) <= PUSHED_TOGETHER and sum(len(log["message"]) for log in logs) <= PUSHED_CHARACTERS
    return logs if few else [max(logs, key=lambda log: int(log["seq"]))]


_pusher = _Pusher()


def load_events(execution_id: UUID | str, after: int = 0, limit: int | None = None) -> list[RecordingEvent]:
    """Return the events after ``after`` in order, outputs filled in, from rows or from the sealed recording."""
    return list(islice(iter_events(UUID(str(execution_id)), after), limit))


def load_logs(execution_id: UUID | str, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Return the logs after ``after`` in order, at most ``limit``, and whether there may be more.

    The whole values of one event at a time are in memory, and a page ends after 16 MiB of them were read.
    """
    logs: list[dict[str, Any]] = []
    read_bytes = 0
    for log, size in iter_logs(execution_id, after):
        logs.append(log)
        read_bytes += size
        if len(logs) == limit or read_bytes > PAGE_BYTES:
            return logs, True
    return logs, False


def iter_logs(execution_id: UUID | str, after: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Give the logs after ``after`` in order, each with the bytes of the whole values that were read for it."""
    for event in iter_events(UUID(str(execution_id)), after):
        yield execution_log(event), len(encode_json(event.data))


def outputs_needed(execution_ids: Collection[UUID]) -> set[UUID]:
    """Return those of ``execution_ids`` that run for an execution which has not ended. One query per depth."""
    needed: set[UUID] = set()
    level = {key: {key} for key in execution_ids}
    while level:
        above: dict[UUID, set[UUID]] = {}
        parents = Execution.objects.filter(pk__in=list(level), parent__isnull=False)
        for key, parent, status in parents.values_list("pk", "parent_id", "parent__status"):
            if status in states.TERMINAL:
                above.setdefault(parent, set()).update(level[key])
            else:
                needed |= level[key]
        level = above
    return needed


def release_outputs(execution_ids: Collection[UUID]) -> None:
    """Let no node run of ended executions name a blob; those say from then on that their outputs were removed."""
    runs = NodeRun.objects.filter(execution_id__in=execution_ids).exclude(outputs_blob="")
    runs.update(outputs=NodeRun.REMOVED, outputs_blob="")


def workflow_retention() -> dict[UUID, dict[str, Any]]:
    """Return the ``retention`` setting of the workflows that have one which can be read."""
    rows = Workflow.objects.filter(settings__has_key="retention").values_list("pk", "settings")
    return {key: own["retention"] for key, own in rows if not retention_problem(own["retention"])}


def output_blobs_of(execution_id: UUID, node_ids: Iterable[str]) -> dict[str, str]:
    """Return the blobs that hold the outputs of completed nodes, by node id; none for outputs up to 32 KiB."""
    rows = NodeRun.objects.filter(execution_id=execution_id, node_id__in=list(node_ids), status=states.COMPLETED)
    return dict(rows.exclude(outputs_blob="").values_list("node_id", "outputs_blob"))


def edges_of(execution_id: UUID) -> list[tuple[str, str]] | None:
    """Return the wires of what an execution runs as (source, target), or None when it cannot be planned any more."""
    row = Execution.objects.filter(pk=execution_id).values_list("version_id", "scope").first()
    try:
        return None if row is None else list(plan_of(*row)[0].edges())
    except WorkflowError:
        return None


def outputs_of(execution_id: UUID, node_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the stored outputs of completed nodes by node id. Reads blobs for outputs above 32 KiB.

    Those whose blob is gone are left out.
    """
    rows = NodeRun.objects.filter(
        execution_id=execution_id, node_id__in=list(node_ids), status=states.COMPLETED
    ).values_list("node_id", "outputs", "outputs_blob")
    found = {}
    for node_id, text, blob in rows:
        try:
            found[node_id] = msgspec.json.decode(read_blob(blob) if blob else text)
        except BlobMissing:
            logger.error("the outputs of node %s of execution %s are lost: their blob is gone", node_id, execution_id)
    return found
