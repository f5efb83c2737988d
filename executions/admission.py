"""Which starts may go now: limits per workflow, and a fair share of the queue for every owner.

A start that may not go yet is stored with ``held_by`` and is not sent; nothing here ever loses one. It is let
go in steps. ``admit`` applies the limits of one workflow, one process at a time by a lock on its row, and
decides what becomes of a start that finds the workflow at its limit. ``admit_owner`` applies those of a user whose
plan has any, by a lock on the user. ``drain`` keeps at most START_WINDOW
unbegun starts in the broker; what comes beyond waits here and goes round-robin between the owners.

All are called when something ends or begins, and by the reconciler for what a killed process left behind.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from celery import current_app
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from kombu.exceptions import OperationalError

from executions import ending, events, states, store
from executions.context import Context, plan_of
from executions.failpoints import failpoint
from executions.models import Execution
from executions.opening import CONTROL_QUEUE
from executions.store import EventDraft, Transaction, marks, now_us
from executions.waits import ChildRow
from recordings.events import RecordingEventType as Kind
from workflows.errors import WorkflowError
from workflows.limits import UserLimits, known_limits, limits_of
from workflows.models import Workflow
from workflows.policy import (
    BUFFER_ONE,
    CANCEL_OTHER,
    PRIORITIES,
    QUEUE,
    SKIP,
    StartPolicy,
    start_policy,
)

logger = logging.getLogger(__name__)

BY_CONCURRENCY, BY_KEY, BY_RATE, BY_QUEUE, BY_USER = "concurrency", "key", "rate", "queue", "user"
OVERLAP = "overlap"
"""The error code of a start that another one of its workflow made void."""

RESEND_HEADER = "resend"
"""The header of a start message that says how often it was sent again."""
PUBLISH_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2}
LOOK_SECONDS, LOOK_SECONDS_UNDER_PRESSURE = 0.25, 0.05
TRUST_SECONDS = 0.2
BATCH = 500
MOST_BATCHES = 20
"""How many times so many waiting starts of one user are looked at in one transaction."""

_TABLE = Execution._meta.db_table
# Written out as the partial index ``execution_admitted`` says it, which is how SQLite knows that it may use it.
_HELD = "held_by > '' AND held_by NOT IN ('queue', 'user')"
"""Waits for a limit of its workflow."""
_ADMITTED = "held_by IN ('', 'queue', 'user')"
"""The limits of its workflow let it go."""
_OPEN = "parent_id IS NULL AND status IN ('queued', 'running', 'paused', 'waiting')"


# --------------------------------------------------------------------------- starting and sending


def place(execution: Execution, workflow_settings: Any, payload: Any, priority: str | None = None) -> None:
    """Set priority, key and ``held_by`` of an execution that is about to be stored. At most one small query.

    A start of a workflow without limits may be sent at once unless the broker holds enough of them.
    """
    policy = start_policy(workflow_settings)
    execution.priority = policy.priority if priority is None else PRIORITIES[priority]
    execution.concurrency_key = policy.key_of(payload)
    execution.held_by = _hold(policy, execution.owner_id)
    if execution.held_by:
        execution.published_at = None


def place_child(row: ChildRow, owner_id: int) -> ChildRow:
    """Return a detached child that is about to be stored with its place: it starts as its workflow's limits say."""
    policy = start_policy(Workflow.objects.values_list("settings", flat=True).get(pk=row.workflow_id))
    key = policy.key_of(msgspec.json.decode(row.input)) if policy.key else ""
    return replace(row, priority=policy.priority, concurrency_key=key, held_by=_hold(policy, owner_id))


def _hold(policy: StartPolicy, owner_id: int) -> str:
    """Return what a new start waits for, or an empty text if it may be sent at once."""
    if policy.limited:
        return BY_CONCURRENCY if policy.concurrency else BY_KEY if policy.key else BY_RATE
    if known_limits(owner_id).holds_starts:
        return BY_USER
    return "" if _window.open() else BY_QUEUE


def send(execution: Execution) -> None:
    """Send the start of an execution that was just stored, as soon as its limits let it go."""
    if not execution.held_by:
        publish_start(execution)
    elif execution.held_by != BY_QUEUE:
        if execution.held_by == BY_USER:
            _safely(admit_owner, execution.owner_id, execution.pk)
        else:
            _safely(admit, execution.workflow_id, execution.pk)
        execution.refresh_from_db(fields=("status", "held_by", "published_at", "admitted_at", "error", "error_code"))


def start_message(execution: Execution) -> dict[str, str]:
    """Return what the start message of an execution says: these six keys."""
    return {
        "execution_id": str(execution.id),
        "workflow_id": str(execution.workflow_id),
        "user_id": str(execution.owner_id),
        "trigger": execution.trigger,
        "status": "queued",
        "queued_at": execution.queued_at.isoformat(),
    }


def publish_start(execution: Execution) -> bool:
    """Send the start message; return whether the broker took it. The reconciler sends what it did not."""
    headers = {RESEND_HEADER: str(execution.publish_count)} if execution.publish_count else {}
    try:
        current_app.send_task(
            "executions.start",
            kwargs=start_message(execution),
            headers=headers,
            queue=CONTROL_QUEUE,
            priority=settings.MESSAGE_PRIORITIES[execution.priority],
            ignore_result=True,
            retry=True,
            retry_policy=PUBLISH_POLICY,
            expires=14 * 86400,
        )
    except (OperationalError, OSError) as error:
        logger.warning("execution %s is stored but was not sent (%s); it will be sent again", execution.id, error)
        Execution.objects.filter(pk=execution.pk).update(published_at=None)
        return False
    return True


# --------------------------------------------------------------------------- when to look


def began() -> None:
    """Note that this process takes a start from the broker: others may follow."""
    _look()


def ended(context: Context) -> None:
    """Let others go after an execution has ended. No query for a workflow without limits, but for a rare look."""
    if start_policy(context.settings).limited:
        _safely(admit, context.workflow_id)
    if context.parent is None and known_limits(context.owner_id).holds_starts:
        _safely(admit_owner, context.owner_id)
    _look()


def look_again() -> None:
    """Look once more if nobody has looked since the last start or end, which may have made room."""
    if _missed:
        _look()


def admit_waiting() -> int:
    """Let go everything that may go; return how many starts were let go."""
    by_workflow = sum(_safely(admit, UUID(str(key))) for key in _that_wait("workflow_id", _HELD))
    by_owner = sum(_safely(admit_owner, key) for key in _that_wait("owner_id", "held_by='user'"))
    return by_workflow + by_owner + drain()


def admit_due() -> float | None:
    """Let go what had to wait for a rate until now; return seconds until the next such moment, or None.

    Knows only the workflows that this process has looked at before.
    """
    now = time.monotonic()
    for workflow_id in [known for known, moment in list(_due.items()) if moment <= now]:
        _due.pop(workflow_id, None)
        _safely(admit, workflow_id)
    return max(0.0, min(_due.values()) - time.monotonic()) if _due else None


_due: dict[UUID, float] = {}
"""When the rate of a workflow lets another start go (monotonic seconds)."""
_next_look = 0.0
_missed = False


def _look() -> None:
    """Admit and drain now and then: four times a second, more often while starts wait for the queue."""
    global _next_look, _missed
    begun = time.monotonic()
    if begun < _next_look:
        _missed = True
        return
    _missed = False
    _next_look = begun + LOOK_SECONDS
    try:
        admit_due()
        if drain():
            spent = time.monotonic() - begun
            _next_look = begun + max(LOOK_SECONDS_UNDER_PRESSURE, 5 * spent)
    except Exception:
        logger.exception("waiting starts could not be let go now; the reconciler does it")


def _safely(act: Callable[..., int], *arguments: object) -> int:
    try:
        return act(*arguments)
    except Exception:
        logger.exception(
            "waiting starts could not be let go now (%s of %s); the reconciler does it", act.__name__, arguments[0]
        )
        return 0


def _that_wait(column: str, held: str) -> list[Any]:
    """Return the workflows, or the owners, of the starts that wait for a limit."""
    with store.statements() as tx:
        rows = tx.run(f"SELECT DISTINCT {column} FROM {_TABLE} WHERE status='queued' AND {held}").fetchall()
    return [row[0] for row in rows]


# --------------------------------------------------------------------------- the limits of one workflow


@dataclass(slots=True)
class _Waiting:
    id: UUID
    key: str
    queued_at: Any


@dataclass(slots=True)
class _Decision:
    """What one look at a workflow came to. ``losers`` were waiting and are void, ``victims`` make room."""

    go: list[UUID] = field(default_factory=list)
    losers: list[UUID] = field(default_factory=list)
    victims: list[UUID] = field(default_factory=list)
    why: str = ""


_admitting = threading.local()


def admit(workflow_id: UUID, fresh: UUID | None = None) -> int:
    """Let go the waiting starts of a workflow that its limits allow, best priority and oldest first.

    ``fresh`` is a start that was stored just now and so did not wait. Returns how many were let go.
    """
    busy: set[UUID] = _admitting.__dict__.setdefault("busy", set())
    if workflow_id in busy:
        return 0  # an execution that we ended below; the loop looks again
    busy.add(workflow_id)
    try:
        count = 0
        while True:
            decision = _decide(workflow_id, fresh)
            count += len(decision.go)
            for execution_id in (*decision.losers, *decision.victims):
                ending.request_cancel(execution_id, "the overlap rule", code=OVERLAP, error=decision.why)
            if not decision.losers and not decision.victims and len(decision.go) < BATCH:
                return count
    finally:
        busy.discard(workflow_id)


def _decide(workflow_id: UUID, fresh: UUID | None) -> _Decision:
    """Look at one workflow under its lock, and let go what may go."""
    with transaction.atomic(), store.statements() as tx:
        locked = Workflow.objects.select_for_update(no_key=True).filter(pk=workflow_id).values_list("name", "settings")
        name, workflow_settings = locked.get()
        policy = start_policy(workflow_settings)
        running = _running(tx, workflow_id) if policy.concurrency or policy.key_concurrency else Counter()
        room = BATCH if policy.concurrency is None else max(0, policy.concurrency - running.total())
        rate_room, rate_wait_s = _rate_room(tx, workflow_id, policy)
        waiting = _waiting(tx, workflow_id, policy, min(room, rate_room))
        go, stay = _choose(waiting, policy, running, min(room, rate_room))
        decision = _Decision(_let_go(tx, go, fresh, _reason(name, policy)))
        full = policy.concurrency is not None and room <= len(go)
        if stay and policy.overlap != QUEUE:
            _apply_overlap(tx, workflow_id, name, policy, running, stay, decision, full=full)
        if policy.kinds > 1:
            _name_reason(tx, workflow_id, BY_CONCURRENCY if full else BY_RATE if rate_room <= len(go) else BY_KEY)
        if rate_wait_s is not None:
            _due[workflow_id] = time.monotonic() + rate_wait_s
    return decision


def _running(tx: Transaction, workflow_id: UUID) -> Counter[str]:
    """Count the admitted executions of a workflow that have not ended, by key."""
    cursor = tx.run(
        f"SELECT concurrency_key, count(*) FROM {_TABLE} WHERE {_OPEN} AND {_ADMITTED} AND workflow_id=?"
        " GROUP BY concurrency_key",
        (tx.id(workflow_id),),
    )
    return Counter(dict(cursor.fetchall()))


def _rate_room(tx: Transaction, workflow_id: UUID, policy: StartPolicy) -> tuple[int, float | None]:
    """Return how many starts the rate allows now, and seconds until it allows another one (None: not known).

    What was admitted but has not begun counts as if it began now, so that starts which pile up in the broker
    while no worker runs do not all begin at once later.
    """
    if policy.rate is None:
        return BATCH, None
    count, seconds = policy.rate
    unbegun = tx.run(
        f"SELECT count(*) FROM {_TABLE} WHERE {_OPEN} AND {_ADMITTED} AND status='queued'"
        " AND workflow_id=? AND admitted_at IS NOT NULL",
        (tx.id(workflow_id),),
    ).fetchone()[0]
    now = store.database_now_us()
    since = store.us_to_datetime(now - int(seconds * 1_000_000))
    begun = list(
        Execution.objects.filter(workflow_id=workflow_id, admitted_at__isnull=False, started_at__gte=since)
        .order_by("-started_at")
        .values_list("started_at", flat=True)[:count]
    )
    room = count - unbegun - len(begun)
    if room > 0:
        return room, None
    if -room >= len(begun):
        return 0, None  # first some must begin
    leaves_us = begun[::-1][-room].timestamp() * 1_000_000 + seconds * 1_000_000
    return 0, max(0.0, (leaves_us - now) / 1_000_000 + 0.002)


def _waiting(tx: Transaction, workflow_id: UUID, policy: StartPolicy, room: int) -> list[_Waiting]:
    """Return the waiting starts that matter, best first: all for an overlap rule, else those that may go."""
    where = f"workflow_id=? AND status='queued' AND {_HELD} AND NOT cancel_requested"
    best = "priority, queued_at, id"
    if policy.overlap != QUEUE:
        sql = f"SELECT id, concurrency_key, queued_at FROM {_TABLE} WHERE {where} ORDER BY {best}"
    elif room <= 0:
        return []
    elif policy.key_concurrency is None:
        sql = f"SELECT id, concurrency_key, queued_at FROM {_TABLE} WHERE {where} ORDER BY {best} LIMIT {int(room)}"
    else:  # a key that is full must not hide the others
        sql = (
            f"SELECT id, concurrency_key, queued_at FROM (SELECT id, concurrency_key, priority, queued_at,"
            f" ROW_NUMBER() OVER (PARTITION BY concurrency_key ORDER BY {best}) AS turn FROM {_TABLE} WHERE {where})"
            f" waiting WHERE concurrency_key='' OR turn <= {int(policy.key_concurrency)} ORDER BY {best}"
        )
    rows = tx.run(sql, (tx.id(workflow_id),)).fetchall()
    return [_Waiting(UUID(str(pk)), key, queued_at) for pk, key, queued_at in rows]


def _choose(
    waiting: Iterable[_Waiting], policy: StartPolicy, running: Counter[str], room: int
) -> tuple[list[UUID], list[_Waiting]]:
    """Split ``waiting`` into those that go and those that stay; count those that go as running."""
    go: list[UUID] = []
    stay: list[_Waiting] = []
    for one in waiting:
        if len(go) >= room or _key_is_full(one.key, policy, running):
            stay.append(one)
            continue
        running[one.key] += 1
        go.append(one.id)
    return go, stay


def _key_is_full(key: str, policy: StartPolicy, running: Counter[str]) -> bool:
    return policy.key_concurrency is not None and key != "" and running[key] >= policy.key_concurrency


def _let_go(tx: Transaction, chosen: Sequence[UUID], fresh: UUID | None, why: str) -> list[UUID]:
    """Admit ``chosen``; those whose owners have a limit of their own wait for that, the others go to the broker."""
    owners = _limited_owners(tx, chosen)
    held = _release(tx, [key for key in chosen if key in owners], BY_USER)
    for execution_id in held:
        if execution_id != fresh:
            _note_waited(tx, execution_id, why)
    for owner_id in {owners[key] for key in held}:
        transaction.on_commit(partial(_safely, admit_owner, owner_id))
    return [*held, *_to_broker(tx, [key for key in chosen if key not in owners], fresh, why)]


def _limited_owners(tx: Transaction, chosen: Sequence[UUID]) -> dict[UUID, int]:
    """Return, of those among ``chosen``, whose owner has a limit of executions or browsers."""
    if not chosen:
        return {}
    rows = []
    for first in range(0, len(chosen), BATCH):
        batch = [tx.id(pk) for pk in chosen[first : first + BATCH]]
        rows += tx.run(f"SELECT id, owner_id FROM {_TABLE} WHERE id IN ({marks(batch)})", batch).fetchall()
    return {UUID(str(pk)): owner for pk, owner in rows if known_limits(owner).holds_starts}


def _to_broker(tx: Transaction, chosen: Sequence[UUID], fresh: UUID | None, why: str) -> list[UUID]:
    """Let ``chosen`` go; those for which the broker has room are sent on commit, the others wait for the queue."""
    if not chosen:
        return []
    space = 0 if _somebody_queues(tx) else max(0, settings.START_WINDOW - _count_unbegun(tx))
    gone = [*_release(tx, chosen[:space], ""), *_release(tx, chosen[space:], BY_QUEUE)]
    sent = set(gone) & set(chosen[:space])
    for execution_id in gone:
        if execution_id != fresh:
            _note_waited(tx, execution_id, why)
    _send_on_commit([execution_id for execution_id in chosen if execution_id in sent])
    return gone


def _release(tx: Transaction, chosen: Sequence[UUID], held_by: str) -> list[UUID]:
    """Move waiting starts on, as one compare-and-set; return those that we moved."""
    moved: list[UUID] = []
    sent = "" if held_by else ", published_at={now}"
    for first in range(0, len(chosen), BATCH):
        batch = chosen[first : first + BATCH]
        cursor = tx.run(
            f"UPDATE {_TABLE} SET held_by=?, admitted_at=COALESCE(admitted_at, {{now}}){sent}"
            f" WHERE id IN ({marks(batch)}) AND status='queued' AND held_by > '' AND NOT cancel_requested"
            " RETURNING id",
            (held_by, *(tx.id(pk) for pk in batch)),
        )
        moved += [UUID(str(row[0])) for row in cursor.fetchall()]
    return moved


def _note_waited(tx: Transaction, execution_id: UUID, why: str) -> None:
    """Say in the recording of an execution what it waited for."""
    draft = EventDraft(Kind.LOG.value, now_us(), "", {"message": f"Waited for {why}", "level": "info"})
    base = store.bump(tx, execution_id, events=1)
    if base is not None:
        depth = store.depth_of(tx, execution_id)
        store.insert_events(tx, execution_id, base, [draft], depth)
        transaction.on_commit(partial(events.push, execution_id, base, [draft], states.QUEUED, depth))


def _name_reason(tx: Transaction, workflow_id: UUID, reason: str) -> None:
    """Note which of several limits the starts that are left wait for."""
    tx.run(
        f"UPDATE {_TABLE} SET held_by=? WHERE workflow_id=? AND status='queued' AND {_HELD} AND held_by <> ?",
        (reason, tx.id(workflow_id), reason),
    )


def _apply_overlap(
    tx: Transaction, workflow_id: UUID, name: str, policy: StartPolicy, running: Counter[str],
    stay: list[_Waiting], decision: _Decision, *, full: bool,
) -> None:  # fmt: skip
    """Decide what becomes of starts that find the workflow, or their key, at its limit."""
    groups: dict[str, list[_Waiting]] = {}
    for one in stay:
        if full or _key_is_full(one.key, policy, running):
            groups.setdefault(one.key if policy.key_concurrency else "", []).append(one)
    decision.why = f"{_reason(name, policy)} (overlap: {policy.overlap})"
    for key, group in groups.items():
        group.sort(key=lambda one: (one.queued_at, one.id))
        at_most = policy.key_concurrency if key else policy.concurrency
        keep = {SKIP: 0, BUFFER_ONE: 1, CANCEL_OTHER: at_most or 1}[policy.overlap]
        decision.losers += [one.id for one in group[: max(0, len(group) - keep)]]
        if policy.overlap == CANCEL_OTHER:
            of_key = key if key and _key_is_full(key, policy, running) else None
            decision.victims += _victims(tx, workflow_id, of_key, min(keep, len(group)))


def _victims(tx: Transaction, workflow_id: UUID, key: str | None, count: int) -> list[UUID]:
    """Return admitted executions to cancel, oldest first, so that ``count`` in all are on their way out."""
    where, extra = ("", ()) if key is None else (" AND concurrency_key=?", (key,))
    rows = tx.run(
        f"SELECT id, cancel_requested FROM {_TABLE} WHERE {_OPEN} AND {_ADMITTED} AND workflow_id=?{where}"
        " ORDER BY queued_at, id",
        (tx.id(workflow_id), *extra),
    ).fetchall()
    leaving = sum(bool(asked) for _, asked in rows)
    return [UUID(str(pk)) for pk, asked in rows if not asked][: max(0, count - leaving)]


def _reason(name: str, policy: StartPolicy) -> str:
    return f"{policy.describe()} of workflow {name}"


# --------------------------------------------------------------------------- the limits of one user


def admit_owner(owner_id: int, fresh: UUID | None = None) -> int:
    """Let go the waiting starts of a user that their own limits allow, best priority and oldest first.

    An execution counts until it has ended, paused ones, too; what runs inside of another is part of that. One that
    needs a browser must not hold up those that do not. ``fresh`` is a start that was stored just now. Returns how
    many were let go.
    """
    own = limits_of(owner_id)
    with transaction.atomic(), store.statements() as tx:
        get_user_model()._default_manager.select_for_update(no_key=True).values_list("pk").get(pk=owner_id)
        # The plus keeps the database from reading the whole history of the user.
        versions = [row[0] for row in tx.run(
            f"SELECT version_id FROM {_TABLE} WHERE {_OPEN} AND held_by IN ('', 'queue') AND +owner_id=?", (owner_id,)
        ).fetchall()]  # fmt: skip
        room = BATCH if own.concurrent_executions is None else max(0, own.concurrent_executions - len(versions))
        browsers: int | None = None
        chosen: list[UUID] = []
        for execution_id, version in _waiting_of(tx, owner_id) if room else ():
            if own.browser_slots is not None and _needs_browser(version):
                if browsers is None:
                    browsers = own.browser_slots - sum(map(_needs_browser, versions))
                if browsers <= 0:
                    continue
                browsers -= 1
            chosen.append(UUID(str(execution_id)))
            if len(chosen) >= room:
                break
        return len(_to_broker(tx, chosen, fresh, _reason_of_owner(own)))


def _waiting_of(tx: Transaction, owner_id: int) -> Iterator[tuple[Any, Any]]:
    """Yield the starts that wait for their owner's limits, and their versions; a query for every ``BATCH`` of them."""
    for batch in range(MOST_BATCHES):
        rows = tx.run(
            f"SELECT id, version_id FROM {_TABLE} WHERE status='queued' AND held_by='user' AND +owner_id=?"
            f" AND NOT cancel_requested ORDER BY priority, queued_at, id LIMIT {BATCH} OFFSET {batch * BATCH}",
            (owner_id,),
        ).fetchall()
        yield from rows
        if len(rows) < BATCH:
            return


def _needs_browser(version: Any) -> bool:
    """Return whether a version has nodes that work on a page; not those of other workflows that it runs."""
    try:
        plan, _ = plan_of(UUID(str(version)))
    except WorkflowError:
        return False
    return any(node.session for node in plan.nodes)


def _reason_of_owner(own: UserLimits) -> str:
    words = []
    if own.concurrent_executions is not None:
        words.append(f"{own.concurrent_executions} at once")
    if own.browser_slots is not None:
        words.append(f"{own.browser_slots} with a browser")
    return f"other executions of the same user (limit: {', '.join(words) or 'gone now'})"


# --------------------------------------------------------------------------- a fair share of the queue


class _Window:
    """Whether one more start may go to the broker. Asks the database now and then, never for every start of many."""

    def __init__(self) -> None:
        self._left = 0
        self._until = 0.0

    def open(self) -> bool:
        """Return whether a start may be sent at once."""
        now = time.monotonic()
        if self._left > 0 and now < self._until:
            self._left -= 1
            return True
        with store.statements() as tx:
            space = 0 if _somebody_queues(tx) else settings.START_WINDOW - _count_unbegun(tx)
        self._left, self._until = space // 8, now + TRUST_SECONDS
        return space > 0


_window = _Window()


def drain() -> int:
    """Send starts that wait for the queue while the broker has room, in turns between owners; return how many.

    What the turns leave over goes to whoever has least in the broker; an owner's own starts go by priority and age.
    """
    with store.statements() as tx:
        if not _somebody_queues(tx):
            return 0
    with transaction.atomic(), store.statements() as tx:
        if tx.postgres and not tx.run("SELECT pg_try_advisory_xact_lock(?)", (_DRAIN_LOCK,)).fetchone()[0]:
            return 0
        space = settings.START_WINDOW - _count_unbegun(tx)
        if space <= 0:
            return 0
        rows = tx.run(
            f"SELECT w.id FROM (SELECT id, owner_id, priority, queued_at, ROW_NUMBER() OVER"
            f" (PARTITION BY owner_id ORDER BY priority, queued_at, id) AS turn FROM {_TABLE} WHERE {_OPEN}"
            " AND held_by='queue' AND status='queued' AND NOT cancel_requested) w"
            f" LEFT JOIN (SELECT owner_id, count(*) AS unbegun FROM {_TABLE} WHERE {_OPEN}"
            " AND held_by='' AND status='queued' GROUP BY owner_id) s ON s.owner_id=w.owner_id"
            f" ORDER BY turn, COALESCE(unbegun, 0), queued_at, w.id LIMIT {int(space)}"
        ).fetchall()
        chosen = [UUID(str(row[0])) for row in rows]
        gone = set(_release(tx, chosen, ""))
        _send_on_commit([execution_id for execution_id in chosen if execution_id in gone])
    return len(gone)


_DRAIN_LOCK = 0x466C6F78


def _somebody_queues(tx: Transaction) -> bool:
    sql = f"SELECT 1 FROM {_TABLE} WHERE {_OPEN} AND held_by='queue' AND status='queued' LIMIT 1"
    return tx.run(sql).fetchone() is not None


def _count_unbegun(tx: Transaction) -> int:
    """Return how many starts lie in the broker, or a little more than the window holds."""
    sql = (
        f"SELECT count(*) FROM (SELECT 1 FROM {_TABLE} WHERE {_OPEN} AND held_by='' AND status='queued'"
        f" LIMIT {settings.START_WINDOW + 1}) unbegun"
    )
    return int(tx.run(sql).fetchone()[0])


# --------------------------------------------------------------------------- parts


def _send_on_commit(execution_ids: list[UUID]) -> None:
    if execution_ids:
        transaction.on_commit(partial(_send, execution_ids))


def _send(execution_ids: list[UUID]) -> None:
    failpoint("admitted")
    rows = Execution.objects.defer("input").in_bulk(execution_ids)
    for execution_id in execution_ids:
        if execution_id in rows:
            publish_start(rows[execution_id])
