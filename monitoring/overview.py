"""All executions at a glance, for everyone in this process who looks: in full at first, then what changed.

People who may see the same share one scene. It is looked at once a second while anybody watches it, and every message
is encoded once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec

from executions import expected, report, states
from executions.models import Execution
from monitoring.doorway import Sight
from monitoring.feed import Room
from monitoring.rows import read
from monitoring.tiles import tiles_for
from monitoring.wire import FRAME_BYTES

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""Time between two looks."""
OPEN_SHOWN: Final = 200
"""How many executions that have not ended are shown, the newest first."""
ENDED_SHOWN: Final = 50
"""The same for those that have."""
NEWEST: Final = 500
"""Among how many of the newest executions each look finds what is new; what began and ended between two looks, too."""
SUMMARY_BYTES: Final = 8 * 1024
"""A longer summary is sent without what makes it long."""

Row = tuple[str, int, str]
"""What of its row changes: status, number of the last event, which limit holds it."""
Mark = tuple[str, int, str, int]
"""What of an execution changes: its row, and the percent that passing time gives it."""


Text = tuple[str, int]
"""A message and its size in bytes."""


class Viewer:
    """One socket that looks; ``wake`` is called when there is something to send."""

    def __init__(self, room: Room, wake: Callable[[], None]) -> None:
        self._room = room
        self._wake = wake
        self._texts: deque[Text] = deque()
        self._behind = True

    def begin(self) -> None:
        """Take the next scene in full."""
        self._behind = True

    def offer(self, scene: Scene, changes: Sequence[Text]) -> None:
        """Queue the changes, or the whole scene when it was not sent yet or changes were dropped."""
        texts = scene.whole() if self._behind else changes
        size = sum(size for _text, size in texts)
        self._behind = bool(self._room.held) and self._room.held + size > self._room.limit
        if self._behind:
            self.drop()
        elif texts:
            self._texts.extend(texts)
            self._room.held += size
            self._wake()

    def next(self) -> str | None:
        """Return and forget the oldest message that waits, if any."""
        if not self._texts:
            return None
        text, size = self._texts.popleft()
        self._room.held -= size
        return text

    def drop(self) -> None:
        """Forget all that waits."""
        self._room.held -= sum(size for _text, size in self._texts)
        self._texts.clear()


class Scene:
    """What some people may see: the executions that are shown, newest first, and the numbers above them."""

    def __init__(self, user: Any) -> None:
        self.viewers: set[Viewer] = set()
        self.looked = False
        self._user = user
        self._marks: dict[UUID, Mark] = {}
        self._newest: frozenset[UUID] | None = None
        self._shown: dict[UUID, msgspec.Raw] = {}
        self._tiles: dict[str, Any] = {}
        self._whole: list[Text] = []

    async def look(self) -> None:
        """Find what changed and give it to all viewers."""
        found = await read(find, self._user, dict(self._marks), self._newest)
        self._newest = found.newest
        for execution_id in found.removed:
            del self._marks[execution_id], self._shown[execution_id]
        changes: list[Text] = []
        if found.changed or found.removed or found.tiles != self._tiles:
            self._tiles, self._whole = found.tiles, []
            for summary, mark in found.changed:
                execution_id = UUID(summary["id"])
                self._marks[execution_id] = mark
                self._shown[execution_id] = _encoded(summary)
            changed = [self._shown[UUID(summary["id"])] for summary, _mark in found.changed]
            changes = _messages(changed, found.removed, found.tiles, full=False)
        self.looked = True
        for viewer in self.viewers:
            viewer.offer(self, changes)

    def whole(self) -> list[Text]:
        """Return everything that is shown; made once for all who come before it changes."""
        if not self._whole:
            self._whole = _messages(self._shown.values(), (), self._tiles, full=True)
        return self._whole


@dataclass(frozen=True, slots=True)
class Found:
    """What a look found. ``changed`` is newest first; ``newest`` are the executions among which the next look finds new ones."""

    changed: list[tuple[dict[str, Any], Mark]]
    removed: list[UUID]
    newest: frozenset[UUID]
    tiles: dict[str, Any]


def find(user: Any, marks: Mapping[UUID, Mark], newest_before: Set[UUID] | None) -> Found:
    """Return what changed for ``user`` since ``marks``, which are of the executions that are shown.

    The number of queries does not depend on that of executions.
    """
    rows = Execution.objects.visible_to(user).filter(parent=None).order_by("-queued_at", "-pk")
    columns = ("pk", "status", "seq", "held_by")
    newest = _rows(rows.values_list(*columns)[:NEWEST])
    open_now = _rows(rows.open().values_list(*columns)[:OPEN_SHOWN])
    gone = marks.keys() - newest.keys() - open_now.keys()
    found_now = newest | open_now | (_rows(rows.filter(pk__in=gone).values_list(*columns)) if gone else {})
    percents = expected.moved(key for key, row in found_now.items() if row[0] not in states.TERMINAL)
    now: dict[UUID, Mark] = {key: (*row, percents.get(key, 0)) for key, row in found_now.items()}

    ended = [key for key, row in newest.items() if row[0] in states.TERMINAL]
    news = set() if newest_before is None else newest.keys() - newest_before
    just_ended = {key for key, mark in marks.items() if mark[0] not in states.TERMINAL and key in now}
    shown = {*open_now, *ended[:ENDED_SHOWN], *news, *just_ended}
    changed = [key for key in shown if marks.get(key) != now[key]]
    found = report.summaries(report.for_summary(rows.filter(pk__in=changed))) if changed else []
    return Found(
        [(summary, now[UUID(summary["id"])]) for summary in found],
        [key for key in marks if key not in shown],
        frozenset(newest),
        tiles_for(user),
    )


def _rows(rows: Iterable[tuple[UUID, str, int, str]]) -> dict[UUID, Row]:
    return {key: (status, seq, held_by) for key, status, seq, held_by in rows}


def _encoded(summary: dict[str, Any]) -> msgspec.Raw:
    data = msgspec.json.encode(summary)
    if len(data) > SUMMARY_BYTES:
        error = summary["error"] and summary["error"][:500] + "…"
        data = msgspec.json.encode({**summary, "error": error, "waiting": []})
    return msgspec.Raw(data)


def _messages(
    executions: Iterable[msgspec.Raw], removed: Sequence[UUID], tiles: dict[str, Any], *, full: bool
) -> list[Text]:
    """Return messages of up to 64 kB; what does not fit into the first follows as changes."""
    parts: list[list[msgspec.Raw]] = [[]]
    size = 0
    room = FRAME_BYTES - 4096 - 40 * len(removed)
    for execution in executions:
        length = len(memoryview(execution)) + 1
        if parts[-1] and size + length > room:
            parts.append([])
            size = 0
        parts[-1].append(execution)
        size += length
    found = []
    for number, part in enumerate(parts):
        first = number == 0
        data = msgspec.json.encode(
            {
                "type": "overview",
                "full": full and first,
                "executions": part,
                "removed": removed if first else (),
                "tiles": tiles,
            }
        )
        found.append((data.decode(), len(data)))
    return found


class Overview:
    """All scenes of one process (of one event loop, to be exact). Does nothing while nobody looks."""

    def __init__(self) -> None:
        self._scenes: dict[tuple[Any, bool], Scene] = {}
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def join(self, sight: Sight, viewer: Viewer) -> None:
        """Show ``viewer`` what ``sight`` allows, from now on; somebody who looked at another scene leaves it."""
        key = (None if sight.everything else sight.user.pk, sight.user.is_staff)
        scene = self._scenes.get(key)
        if scene is not None and viewer in scene.viewers:
            return
        self.leave(viewer)
        scene = self._scenes.setdefault(key, Scene(sight.user))
        scene.viewers.add(viewer)
        viewer.begin()
        if scene.looked:
            viewer.offer(scene, ())
        self._hurry.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())

    def leave(self, viewer: Viewer) -> None:
        """Show ``viewer`` nothing more."""
        viewer.drop()
        for key, scene in list(self._scenes.items()):
            scene.viewers.discard(viewer)
            if not scene.viewers:
                del self._scenes[key]
        self._hurry.set()

    @property
    def viewers(self) -> int:
        """Return how many sockets look."""
        return sum(len(scene.viewers) for scene in self._scenes.values())

    async def _look(self) -> None:
        """Look at every scene once a second, and at a new one at once, as long as there is any."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._scenes:
            self._hurry.clear()
            all_due = loop.time() >= due
            if all_due:
                due = loop.time() + LOOK_SECONDS
            for scene in list(self._scenes.values()):
                if all_due or not scene.looked:
                    try:
                        await scene.look()
                    except Exception:
                        logger.exception("the overview could not be looked at; it is tried again in a second")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), max(due - loop.time(), 0.05))


_overviews: WeakKeyDictionary[asyncio.AbstractEventLoop, Overview] = WeakKeyDictionary()


def current_overview() -> Overview:
    """Return the overview of the running event loop; a web process has exactly one."""
    loop = asyncio.get_running_loop()
    if loop not in _overviews:
        _overviews[loop] = Overview()
    return _overviews[loop]
