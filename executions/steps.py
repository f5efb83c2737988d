"""The engine's three steps as data, so that PostgreSQL writes those of many threads in one statement each.

A step is also a job (``careful``): the ordinary statements, one after another, which know every case. The
statements here know only the usual one. They count what they changed; whenever a count is not what the
steps expect (a lost claim, a cancellation, a duplicate), the statement divides by zero, nothing of it
stays, and every step goes the careful way by itself.

A statement in which all nodes are pure or only read does not wait for the disk: were the database server
to crash in that moment, they would run again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db import connection

from executions import states
from executions.models import Execution, NodeRun, Phase
from executions.store import TAG, EventDraft, Job, NodeEnd, PhaseRow, Transaction, as_json, prepared, to_json
from recordings.models import Event, NotRecorded, Recording

Result = TypeVar("Result")

_EXECUTION = Execution._meta.db_table
_PHASE = Phase._meta.db_table
_NODE_RUN = NodeRun._meta.db_table
_EVENT = Event._meta.db_table
_RECORDING = Recording._meta.db_table
_NOT_RECORDED = NotRecorded._meta.db_table
_NOW = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"


Moved = tuple[int, list[EventDraft]]
"""A move that was written: the number before its first event, and its events."""

Written = tuple[int | None, int | None, list[EventDraft]]
"""Ends that were written: how many nodes of the phase are left (None: no end counted), the number before, the events."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Node runs that were taken: the number before their events, and how many of the phase are open."""

    base: int
    attempts: dict[int, int]
    drafts: list[EventDraft]
    open: int


@dataclass(frozen=True, slots=True)
class Step(Generic[Result]):
    """What every step has. ``relaxed`` says that losing it in a crash of the server only repeats its nodes."""

    careful: Job[Result]
    execution_id: UUID
    phase: int
    drafts: list[EventDraft]
    depth: int
    relaxed: bool

    def __call__(self, tx: Transaction) -> Result:
        """Write the step by the ordinary statements."""
        return self.careful(tx)


@dataclass(frozen=True, slots=True)
class Move(Step[Moved | None]):
    """End the last nodes of ``phase`` (-1: the execution is queued), and open ``target`` or finish.

    ``recording`` is there when it finishes; ``dropped`` says why it is not kept.
    """

    target: int
    status: str
    now: int
    claim: str
    ends: Sequence[NodeEnd]
    credits: int
    deadline_us: int
    lease_us: int
    phases: Sequence[PhaseRow]
    completed: int
    recording: dict[str, Any] | None
    dropped: str = ""

    @staticmethod
    def together(cursor: Any, steps: Sequence[Move]) -> list[Moved | None]:
        """Write all of ``steps``, each of another execution, and return what became of each."""
        moves, phases, rows, recordings, dropped = [], [], [], [], []
        columns: tuple[str, ...] = ()
        for step in steps:
            x, at = step.execution_id.hex, step.now / 1_000_000
            moves.append({
                "x": x, "k": step.phase, "f": states.QUEUED if step.phase < 0 else states.RUNNING, "n": len(step.ends),
                "tk": step.target, "t": step.status, "ne": len(step.drafts), "cr": step.credits,
                "dl": step.deadline_us, "at": at,
            })  # fmt: skip
            for phase in step.phases:
                phases.append({
                    "x": x, "k": phase.index, "st": phase.status, "n": phase.node_count, "h": phase.header_count,
                    "o": phase.open, "at": at,
                })  # fmt: skip
                for row in phase.rows:
                    began, ended = row.began_us(step.now), row.finished_us(step.now)
                    rows.append({
                        "x": x, "k": phase.index, "i": row.node_index, "id": row.node_id, "ty": row.node_type,
                        "st": row.status, "r": int(row.ran), "c": row.claim, "w": row.worker,
                        "l": step.lease_us if row.status == states.RUNNING else 0, "se": row.session, "q": row.queue,
                        "o": row.outputs, "b": row.outputs_blob, "cr": row.credits, "cs": row.cpu_seconds,
                        "sa": None if began is None else began / 1_000_000,
                        "fa": None if ended is None else ended / 1_000_000,
                    })  # fmt: skip
            if step.recording is not None:
                values, ends_now = as_json(step.recording), len(step.ends) + step.completed
                if step.dropped:
                    dropped.append({"x": x, "re": step.dropped, "at": at, "rec": to_json(values), "ends": ends_now})
                else:
                    columns = tuple(step.recording)
                    recordings.append({**values, "id": uuid.uuid4().hex, "ends": ends_now})
        ends = _ends((step.execution_id, step.claim, step.ends) for step in steps)
        written = _run(
            cursor, _move_sql(columns, bool(dropped)), steps,
            (to_json(moves), to_json(ends), to_json(phases), to_json(rows), _events(steps, _no_offsets(steps)),
             *((to_json(recordings),) if columns else ()), *((to_json(dropped),) if dropped else ())),
            (len(ends), sum(bool(step.ends) for step in steps), len(steps)),
        )  # fmt: skip
        return [(written[step.execution_id.hex][0], step.drafts) for step in steps]


@dataclass(frozen=True, slots=True)
class Claim(Step[Claimed | None]):
    """Take queued node runs of ``phase`` for their first attempt."""

    indexes: Sequence[int]
    claim: str
    worker: str
    now: int
    lease_us: int

    @staticmethod
    def together(cursor: Any, steps: Sequence[Claim]) -> list[Claimed | None]:
        """Write all of ``steps`` and return what became of each."""
        claims = [
            {"x": step.execution_id.hex, "i": index, "c": step.claim, "w": step.worker, "l": step.lease_us,
             "at": step.now / 1_000_000}
            for step in steps
            for index in step.indexes
        ]  # fmt: skip
        offsets, totals = _offsets(steps)
        sums = [{"x": x, "k": phase, "ne": count} for (x, phase), count in totals.items()]
        written = _run(
            cursor, _CLAIM, steps, (to_json(sums), to_json(claims), _events(steps, offsets)), (len(claims), len(sums))
        )
        return [
            Claimed(
                written[step.execution_id.hex][0] + offset, dict.fromkeys(step.indexes, 1), step.drafts,
                written[step.execution_id.hex][1],
            )
            for step, offset in zip(steps, offsets, strict=True)
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part(Step[Written]):
    """End nodes of ``phase``; when they turn out to be its last, ``closing`` is written, too."""

    claim: str
    ends: Sequence[NodeEnd]
    credits: int
    now: int
    closing: EventDraft

    @staticmethod
    def together(cursor: Any, steps: Sequence[Part]) -> list[Written]:
        """Write all of ``steps`` and return what became of each; the last of a phase is told that it closed it."""
        offsets, totals = _offsets(steps)
        sums: dict[str, dict[str, Any]] = {}
        for step in steps:
            x = step.execution_id.hex
            entry = sums.setdefault(x, {"x": x, "k": step.phase, "n": 0, "cr": 0, "ne": totals[x, step.phase]})
            entry["n"] += len(step.ends)
            entry["cr"] += step.credits
            entry |= {
                "at": step.now / 1_000_000, "d": step.depth, "ts": step.closing.timestamp,
                "da": to_json(step.closing.data),
            }  # fmt: skip
        ends = _ends((step.execution_id, step.claim, step.ends) for step in steps)
        written = _run(
            cursor, _PART, steps,
            (to_json(list(sums.values())), to_json(ends), _events(steps, offsets)), (len(ends), len(sums), len(sums)),
        )  # fmt: skip
        last = {step.execution_id: step for step in steps}
        results: list[Written] = []
        for step, offset in zip(steps, offsets, strict=True):
            base, left = written[step.execution_id.hex]
            closes = left == 0 and last[step.execution_id] is step
            drafts = [*step.drafts, step.closing] if closes else step.drafts
            results.append((left if closes else max(left, 1), base + offset, drafts))
        return results


def _offsets(steps: Sequence[Step[Any]]) -> tuple[list[int], dict[tuple[str, int], int]]:
    """Return where the events of each step begin within those of its execution, and how many each phase has."""
    totals: dict[tuple[str, int], int] = {}
    offsets = []
    for step in steps:
        key = (step.execution_id.hex, step.phase)
        offsets.append(totals.get(key, 0))
        totals[key] = offsets[-1] + len(step.drafts)
    return offsets, totals


def _no_offsets(steps: Sequence[Step[Any]]) -> list[int]:
    return [0] * len(steps)


def _events(steps: Sequence[Step[Any]], offsets: Sequence[int]) -> str:
    return to_json([
        {"x": step.execution_id.hex, "j": number, "ty": draft.type, "ts": draft.timestamp, "nd": draft.node_id,
         "d": step.depth, "da": to_json(draft.data)}
        for step, offset in zip(steps, offsets, strict=True)
        for number, draft in enumerate(step.drafts, offset + 1)
    ])  # fmt: skip


def _ends(groups: Iterable[tuple[UUID, str, Sequence[NodeEnd]]]) -> list[dict[str, Any]]:
    return [
        {"x": execution_id.hex, "i": end.node_index, "c": claim, "o": end.outputs, "b": end.outputs_blob,
         "cr": end.credits, "a": end.attempt, "cs": end.cpu_seconds, "pm": end.peak_memory_bytes, "sa": end.started_us / 1_000_000, "fa": end.ended_us / 1_000_000}
        for execution_id, claim, ends in groups
        for end in ends
    ]  # fmt: skip


def _run(
    cursor: Any, sql: str, steps: Sequence[Step[Any]], documents: Sequence[str], counts: Sequence[int]
) -> dict[str, tuple[int, int]]:
    """Execute one prepared statement and return ``(base, open)`` by execution."""
    relaxed = all(step.relaxed for step in steps)
    prepared(cursor, sql, (*documents, relaxed, *counts))
    return {row[1].hex: (row[2], row[3]) for row in cursor.fetchall()}


# --------------------------------------------------------------------------- statements

_FEW = "LIMIT (SELECT 1000000)"
"""Lets the planner expect a tenth of the rows: ten instead of a hundred, so that it looks them up by index."""


def _per_step(columns: str) -> str:
    """Return a table with a row for each step, of which the planner expects one.

    A prepared statement keeps its plan until its tables are analyzed. For ten rows the plan reads the whole table of
    executions while that has less than about 2,000, and goes on doing so as it grows; for one it uses the index.
    """
    return f"""(SELECT * FROM (SELECT * FROM json_to_recordset(%s::json)
 AS t({columns}) {_FEW}) AS few {_FEW})"""


_ENDS = f"""ends AS (UPDATE {_NODE_RUN} r SET status='completed', outputs=e.o, outputs_blob=e.b, error='', error_code='',
 credits=e.cr, attempt=e.a, cpu_seconds=e.cs, peak_memory_bytes=e.pm, started_at=to_timestamp(e.sa), finished_at=to_timestamp(e.fa), lease_until=0
 FROM (SELECT * FROM json_to_recordset(%s::json)
 AS t(x uuid, i int, c text, o text, b text, cr int, a int, cs float8, pm bigint, sa float8, fa float8) {_FEW}) e
 WHERE r.execution_id=e.x AND r.node_index=e.i AND r.claim=e.c AND r.status IN ('running','retrying') RETURNING 1)"""

_EVENTS = f"""ev AS (INSERT INTO {_EVENT}(execution_id, seq, type, timestamp, node_id, depth, data)
 SELECT q.x, ex.base+q.j, q.ty, q.ts, q.nd, q.d, q.da FROM json_to_recordset(%s::json)
 AS q(x uuid, j int, ty text, ts bigint, nd text, d int, da text) JOIN ex ON ex.x=q.x)"""

_RELAX = "CASE WHEN %s THEN set_config('synchronous_commit','off',true) END"


def _check(*counts: str) -> str:
    """Return a one-row table that cannot be read unless each of ``counts`` has as many rows as was expected."""
    equal = " AND ".join(f"(SELECT count(*) FROM {name})=%s" for name in counts)
    return f"(SELECT 1/(CASE WHEN {equal} THEN 1 ELSE 0 END) AS ok) c"


@lru_cache(maxsize=8)
def _move_sql(recording: tuple[str, ...], dropped: bool) -> str:
    """Return the statement of moves; with ``recording``, the columns of the recordings of those that finish.

    With ``dropped`` some of them finish without one. The columns are named with their types, because
    ``(json_populate_record(...)).a, .b`` reads the JSON once for each of them.
    """
    typed = [f"{name} {Recording._meta.get_field(name).db_type(connection)}" for name in ("id", *recording)]
    insert = f""",
 rec AS (INSERT INTO {_RECORDING}(id, {", ".join(recording)}, node_count, event_count, credits)
 SELECT p.id, {", ".join(f"p.{name}" for name in recording)}, p.ends + (SELECT
 count(*) FROM {_NODE_RUN} r WHERE r.execution_id=ex.x AND r.status IN ('completed','failed')), ex.seq, ex.credits
 FROM json_to_recordset(%s::json) AS p({", ".join(typed)}, ends int) JOIN ex ON ex.x=p.execution_id
 ON CONFLICT(execution_id) DO NOTHING)"""
    drop = f""",
 dr AS (INSERT INTO {_NOT_RECORDED}(execution_id, reason, ended_at, recording, node_count, event_count, credits)
 SELECT ex.x, d.re, to_timestamp(d.at), d.rec, d.ends + (SELECT
 count(*) FROM {_NODE_RUN} r WHERE r.execution_id=ex.x AND r.status IN ('completed','failed')), ex.seq, ex.credits
 FROM json_to_recordset(%s::json) AS d(x uuid, re text, at float8, rec text, ends int) JOIN ex ON ex.x=d.x
 ON CONFLICT(execution_id) DO NOTHING)"""
    each = _per_step("x uuid, k int, f text, n int, tk int, t text, ne int, cr int, dl bigint, at float8")
    return f"""WITH s AS {each},
 {_ENDS},
 ph AS (UPDATE {_PHASE} p SET open=0, status='completed', finished_at=to_timestamp(s.at) FROM s
 WHERE s.n>0 AND p.execution_id=s.x AND p."index"=s.k AND p.open=s.n AND p.failed=0 RETURNING 1),
 ex AS (UPDATE {_EXECUTION} e SET phase_index=s.tk, status=s.t, touched_at={_NOW}, seq=e.seq+s.ne,
 credits=e.credits+s.cr, started_at=CASE WHEN s.f='queued' THEN to_timestamp(s.at) ELSE e.started_at END,
 deadline_at=CASE WHEN s.f='queued' THEN {_NOW}+s.dl ELSE e.deadline_at END,
 finished_at=CASE WHEN s.t<>'running' THEN to_timestamp(s.at) END FROM s
 WHERE e.id=s.x AND e.phase_index=s.k AND e.status=s.f AND NOT e.cancel_requested
 AND (s.t='running' OR strpos(e.variables, '{TAG}')=0)
 RETURNING e.id AS x, e.seq-s.ne AS base, e.seq, e.credits),
 np AS (INSERT INTO {_PHASE}(execution_id, "index", status, node_count, header_count, open, failed, started_at,
 finished_at) SELECT x, k, st, n, h, o, 0, to_timestamp(at), CASE WHEN st<>'running' THEN to_timestamp(at) END
 FROM json_to_recordset(%s::json) AS p(x uuid, k int, st text, n int, h int, o int, at float8)),
 nr AS (INSERT INTO {_NODE_RUN}(execution_id, phase_index, node_index, iteration, node_id, node_type, status, attempt,
 deliveries, claim, worker, lease_until, session, queue, dispatched_at, outputs, outputs_blob, error, error_code,
 credits, cpu_seconds, started_at, finished_at) SELECT x, k, i, 0, id, ty, st, r, r, c, w, CASE WHEN l>0 THEN {_NOW}+l ELSE 0 END, se, q,
 CASE WHEN st='queued' THEN {_NOW} ELSE 0 END, o, b, '', '', cr, cs,
 to_timestamp(sa), to_timestamp(fa) FROM json_to_recordset(%s::json) AS n(x uuid, k int, i int, id text, ty text,
 st text, r int, c text, w text, l bigint, se text, q text, o text, b text, cr int, cs float8, sa float8, fa float8)),
 {_EVENTS}{insert if recording else ""}{drop if dropped else ""}
 SELECT c.ok, ex.x, ex.base, 0, {_RELAX} FROM {_check("ends", "ph", "ex")} LEFT JOIN ex ON true"""


_CLAIM = f"""WITH s AS {_per_step("x uuid, k int, ne int")},
 cl AS (UPDATE {_NODE_RUN} r SET status='running', claim=v.c, worker=v.w, lease_until={_NOW}+v.l,
 started_at=to_timestamp(v.at), deliveries=r.deliveries+1, attempt=1, retry_at=NULL
 FROM (SELECT * FROM json_to_recordset(%s::json)
 AS t(x uuid, i int, c text, w text, l bigint, at float8) {_FEW}) v
 WHERE r.execution_id=v.x AND r.node_index=v.i AND r.claim='' AND r.status='queued' AND r.attempt=0 AND r.resume=''
 RETURNING 1),
 ex AS (UPDATE {_EXECUTION} e SET seq=e.seq+s.ne, touched_at={_NOW} FROM s
 WHERE e.id=s.x AND e.status='running' AND NOT e.cancel_requested RETURNING e.id AS x, e.seq-s.ne AS base, s.k),
 {_EVENTS}
 SELECT c.ok, ex.x, ex.base, (SELECT p.open FROM {_PHASE} p WHERE p.execution_id=ex.x AND p."index"=ex.k), {_RELAX}
 FROM {_check("cl", "ex")} LEFT JOIN ex ON true"""

_PART = f"""WITH g AS {_per_step("x uuid, k int, n int, ne int, cr int, at float8, d int, ts bigint, da text")},
 {_ENDS},
 ph AS (UPDATE {_PHASE} p SET open=p.open-g.n, status=CASE WHEN p.open=g.n THEN 'completed' ELSE p.status END,
 finished_at=CASE WHEN p.open=g.n THEN to_timestamp(g.at) END FROM g
 WHERE p.execution_id=g.x AND p."index"=g.k AND p.open>=g.n AND p.failed=0
 RETURNING p.execution_id AS x, p.open, (p.open=0)::int AS closed),
 ex AS (UPDATE {_EXECUTION} e SET seq=e.seq+g.ne+ph.closed, credits=e.credits+g.cr, touched_at={_NOW}
 FROM g JOIN ph ON ph.x=g.x WHERE e.id=g.x AND e.status IN ('running','queued','paused','waiting')
 RETURNING e.id AS x, e.seq-g.ne-ph.closed AS base, ph.open),
 {_EVENTS},
 cv AS (INSERT INTO {_EVENT}(execution_id, seq, type, timestamp, node_id, depth, data)
 SELECT g.x, ex.base+g.ne+1, 'phase_complete', g.ts, '', g.d, g.da FROM g JOIN ex ON ex.x=g.x WHERE ex.open=0)
 SELECT c.ok, ex.x, ex.base, ex.open, {_RELAX} FROM {_check("ends", "ph", "ex")} LEFT JOIN ex ON true"""
