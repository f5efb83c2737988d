"""The statements that move executions, in plain SQL, and the group committer that runs them.

Everything the engine writes on its fast path is here; all other access is ORM. A *job* is a function
of a transaction. Jobs of several threads that arrive together share one transaction; a job must have
no effect outside it, because it runs again by itself when the shared transaction fails. The
statements follow one rule: a status changes in one UPDATE that names the status it expects, and the
number of rows says who won.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Generic, TypeVar, cast
from uuid import UUID, uuid4

import msgspec
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections
from django.db.models import Model
from django.db.utils import DatabaseError

from executions import states
from executions.models import BrowserSession, Execution, NodeRun, Phase
from recordings.events import encode_json as surrogate_safe
from recordings.models import Event, NotRecorded, Recording

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Job = Callable[["Transaction"], Result]

_EXECUTION = Execution._meta.db_table
_PHASE = Phase._meta.db_table
_NODE_RUN = NodeRun._meta.db_table
_PAGE = BrowserSession._meta.db_table
_EVENT = Event._meta.db_table
_RECORDING = Recording._meta.db_table
_NOT_RECORDED = NotRecorded._meta.db_table
_LOCKED_RETRIES = 3
_ROW_SECONDS = 1
"""How long one statement of the engine waits for a row that another session holds."""
_SUSPECT_US = 5_000_000
_ROWS_TOGETHER = 32
_LOCK_NOT_AVAILABLE = "55P03"

_encode = msgspec.json.Encoder(decimal_format="number").encode


def encode_json(value: Any) -> bytes:
    """Return compact JSON of plain values; half a surrogate pair, which UTF-8 cannot hold, becomes text.

    Raises:
        TypeError, ValueError, RecursionError: it is no JSON.
    """
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return surrogate_safe(value)


def to_json(value: Any) -> str:
    """Return compact JSON text of plain values."""
    return encode_json(value).decode()


def to_column(text: str, limit: int | None = None) -> str:
    """Return ``text`` as every database stores it: without NUL and half surrogates, at most ``limit`` characters."""
    if "\0" in text:
        text = text.replace("\0", "\N{SYMBOL FOR NULL}")
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text if limit is None or len(text) <= limit else f"{text[: limit - 1]}…"


def now_us() -> int:
    """Return the time of this machine in microseconds since the epoch."""
    return time.time_ns() // 1000


def database_now_us() -> int:
    """Return the time of the database, in which leases, retries and deadlines are written."""
    with connection.cursor() as cursor:
        _limit_waiting()
        cursor.execute(_adapt("SELECT {now}", on_postgres()))
        return int(cursor.fetchone()[0])


def us_to_datetime(microseconds: int) -> datetime:
    """Return the aware UTC datetime of an event time."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def datetime_to_us(value: datetime | str) -> int:
    """Return a moment as events have it; SQLite gives a DateTimeField as text, in UTC."""
    moment = datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value
    return round(moment.timestamp() * 1_000_000)


@dataclass(slots=True)
class Transaction:
    """An open transaction. SQL is written with ``?`` for both databases."""

    cursor: Any
    postgres: bool

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Execute one statement and return the cursor."""
        self.cursor.execute(_adapt(sql, self.postgres), parameters)
        return self.cursor

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Execute one statement per row and return how many rows it changed in all."""
        if not rows:
            return 0
        self.cursor.executemany(_adapt(sql, self.postgres), rows)
        return cast(int, self.cursor.rowcount)

    def insert(self, into: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows. SQLite notes its last id once per statement, so 32 rows in one take two thirds of the time."""
        head, one = f"INSERT INTO {into}({','.join(columns)}) VALUES", f"({marks(columns)})"
        together = 0 if self.postgres else len(rows) - len(rows) % _ROWS_TOGETHER
        for start in range(0, together, _ROWS_TOGETHER):
            some = rows[start : start + _ROWS_TOGETHER]
            self.cursor.execute(head + ",".join([one] * _ROWS_TOGETHER), list(chain.from_iterable(some)))
        if together < len(rows):
            self.cursor.executemany(_adapt(head + one, self.postgres), rows[together:])

    def id(self, value: UUID) -> Any:
        """Return ``value`` as this database stores it."""
        return value if self.postgres else value.hex

    def time(self, microseconds: int | None) -> Any:
        """Return a moment as this database stores a DateTimeField."""
        if microseconds is None:
            return None
        moment = us_to_datetime(microseconds)
        return moment if self.postgres else moment.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")


@lru_cache(maxsize=512)
def _adapt(sql: str, postgres: bool) -> str:
    if not postgres:
        return sql.replace("{now}", "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)")
    return sql.replace("?", "%s").replace("{now}", "(extract(epoch from clock_timestamp()) * 1000000)::bigint")


def on_postgres() -> bool:
    """Return whether the database is PostgreSQL, where each statement is a round trip; else it is SQLite."""
    return not settings.SQLITE


def marks(values: Sequence[Any]) -> str:
    """Return the parameter list for ``IN (...)``."""
    return ",".join("?" * len(values))


# --------------------------------------------------------------------------- group commit


@dataclass(slots=True, eq=False)
class _Entry(Generic[Result]):
    job: Job[Result]
    key: str
    ready: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    result: Any = None
    error: BaseException | None = None


class Committer:
    """Runs jobs, one transaction for all that wait. Idle means immediate; there is no extra thread.

    A job that waits for a row that another session holds leaves the others after a second and waits in its own
    thread, up to ``patience_s`` seconds in all.
    """

    patience_s = 5.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Entry[Any]] = []
        self._busy = False

    def run(self, job: Job[Result], key: str = "") -> Result:
        """Return what ``job`` returned, after its transaction was committed.

        ``key`` orders jobs within a batch, so that two processes lock rows in the same order. Inside a
        transaction the job is part of it, alone: it must neither wait for others nor carry them along.
        """
        if connection.in_atomic_block:
            return cast(Result, _transact([job])[0])
        entry = _Entry(job, key)
        with self._lock:
            self._waiting.append(entry)
            entry.leads = not self._busy
            self._busy = True
        if not entry.leads:
            entry.ready.wait()
        if entry.leads:
            self._lead()
        if entry.error is not None and _is_held_up(entry.error):
            return self._alone(job, time.monotonic() + self.patience_s)
        if entry.error is not None:
            raise entry.error
        return cast(Result, entry.result)

    def _alone(self, job: Job[Result], until: float) -> Result:
        while True:
            try:
                return cast(Result, _in_transaction([job])[0])
            except OperationalError as error:
                if not _is_held_up(error) or time.monotonic() > until:
                    raise
                logger.warning("a row that this process needs is held by another session; it tries again")

    def _lead(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        batch.sort(key=lambda entry: entry.key)
        _run_batch(batch)
        with self._lock:
            if self._waiting:
                successor = self._waiting[0]
                successor.leads = True
                successor.ready.set()
            else:
                self._busy = False
        for entry in batch:
            if not entry.leads:
                entry.ready.set()


def _run_batch(batch: list[_Entry[Any]]) -> None:
    if on_postgres():
        batch = _write_together(batch)
    if batch:
        _run_jobs(batch)


def _write_together(batch: list[_Entry[Any]]) -> list[_Entry[Any]]:
    """Write the steps of a batch in one statement for each kind and return the entries that are left.

    A statement that fails leaves nothing behind; its steps then go one by one, each in its own transaction.
    """
    kinds: dict[Any, list[_Entry[Any]]] = {}
    rest = []
    for entry in batch:
        if hasattr(entry.job, "together"):
            kinds.setdefault(type(entry.job), []).append(entry)
        else:
            rest.append(entry)
    for kind, entries in kinds.items():
        try:
            with _cursor(True) as cursor:
                results = kind.together(cursor, [entry.job for entry in entries])
        except Exception as error:
            logger.debug("%d steps are written one by one: %s", len(entries), error)
            _run_each(entries, error)
            continue
        for entry, result in zip(entries, results, strict=True):
            entry.result = result
    return rest


def _run_jobs(batch: list[_Entry[Any]]) -> None:
    try:
        results = _in_transaction([entry.job for entry in batch])
    except BaseException as error:
        if len(batch) == 1:
            batch[0].error = error
        else:
            _run_each(batch, error)
        return
    for entry, result in zip(batch, results, strict=True):
        entry.result = result


def _run_each(batch: list[_Entry[Any]], error: BaseException) -> None:
    """Run the jobs of a batch that failed one by one, or leave each to its own thread where one waits for a row."""
    for entry in batch:
        if _is_held_up(error):
            entry.error = error
        else:
            _run_jobs([entry])


def _in_transaction(jobs: Sequence[Job[Any]]) -> list[Any]:
    for attempt in range(_LOCKED_RETRIES):
        try:
            return _transact(jobs)
        except (OperationalError, DatabaseError) as error:
            if not _is_transient(error) or attempt == _LOCKED_RETRIES - 1:
                raise
            time.sleep(0.05 * (attempt + 1))  # another process holds the lock, or won a deadlock
    raise AssertionError("unreachable")


def _is_transient(error: Exception) -> bool:
    """Return whether another process was in the way: SQLite's only write lock, or a deadlock."""
    return "locked" in str(error) or "deadlock" in str(error)


def _is_held_up(error: BaseException) -> bool:
    """Return whether a statement gave up waiting for a row of PostgreSQL that another session holds."""
    return any(getattr(one, "sqlstate", None) == _LOCK_NOT_AVAILABLE for one in (error, error.__cause__))


def _transact(jobs: Sequence[Job[Any]]) -> list[Any]:
    postgres = on_postgres()
    database = connections[DEFAULT_DB_ALIAS]  # the proxy looks this up at every use
    with database.wrap_database_errors:
        if database.in_atomic_block:
            cursor = _cursor(postgres)
            return [job(Transaction(cursor, postgres)) for job in jobs]
        cursor = _begin(postgres)
        try:
            results = [job(Transaction(cursor, postgres)) for job in jobs]
            cursor.execute("COMMIT")
        except BaseException:
            _roll_back(cursor)
            raise
        finally:
            cursor.close()
    return results


@contextmanager
def statements() -> Iterator[Transaction]:
    """Yield a way to run statements of this module's kind in whatever transaction the caller has opened, if any."""
    postgres = connection.vendor == "postgresql"
    with connection.wrap_database_errors:
        yield Transaction(_cursor(postgres), postgres)


def _cursor(postgres: bool) -> Any:
    _limit_waiting()
    raw: Any = connections[DEFAULT_DB_ALIAS].connection
    return _driver().Cursor(raw) if postgres else raw.cursor()


def _driver() -> Any:
    """Return the module of the database's driver; that of another database is not even loaded."""
    database: Any = connections[DEFAULT_DB_ALIAS]
    return database.Database


_limited = threading.local()


def _limit_waiting() -> None:
    """Connect, and let no statement wait for a row for ever, and no frozen process keep rows of its transaction."""
    database = connections[DEFAULT_DB_ALIAS]
    if database.connection is None:
        database.ensure_connection()
    raw: Any = database.connection
    if not on_postgres() or getattr(_limited, "connection", None) is raw:
        return
    with _driver().Cursor(raw) as cursor:
        cursor.execute(
            f"SET lock_timeout = '{_ROW_SECONDS}s';"
            f" SET idle_in_transaction_session_timeout = '{settings.LEASE_SECONDS}s'"
        )
    _limited.connection = raw


def _begin(postgres: bool) -> Any:
    """Return the cursor of a transaction that begins; a connection that was cut while idle is opened anew."""
    cursor = _cursor(postgres)
    try:
        cursor.execute("BEGIN" if postgres else "BEGIN IMMEDIATE")
    except _driver().Error:
        if not postgres or not cursor.connection.closed:
            raise
        connection.close()
        cursor = _cursor(postgres)
        cursor.execute("BEGIN")
    return cursor


def _roll_back(cursor: Any) -> None:
    try:
        cursor.execute("ROLLBACK")
    except Exception:
        connection.close()


committer = Committer()


# --------------------------------------------------------------------------- reading


def read(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a query, written with ``?``; values are as the database gives them.

    A connection that was cut while idle is opened anew.
    """
    postgres = on_postgres()
    with connections[DEFAULT_DB_ALIAS].wrap_database_errors:
        try:
            return _read(_adapt(sql, postgres), parameters, postgres)
        except _driver().Error:
            if not postgres or connection.in_atomic_block or not connection.connection.closed:
                raise
            connection.close()
            return _read(_adapt(sql, postgres), parameters, postgres)


def _read(sql: str, parameters: Sequence[Any], postgres: bool) -> list[tuple[Any, ...]]:
    cursor = _cursor(postgres)
    try:
        if postgres:
            prepared(cursor, sql, parameters)
        else:
            cursor.execute(sql, parameters)
        return cast(list[tuple[Any, ...]], cursor.fetchall())
    finally:
        cursor.close()


def prepared(cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
    """Execute a statement that the PostgreSQL server plans once per connection."""
    cursor.connection.prepare_threshold = _NEVER  # Django switches prepared statements off altogether
    cursor.execute(sql, parameters, prepare=True)


_NEVER = 1_000_000_000
"""After how many uses a statement is prepared that does not ask for it."""


class Query:
    """A query by one primary key that Django compiles only once; ``values`` are its ``values_list``."""

    def __init__(self, model: type[Model], *values: str) -> None:
        self._model, self._values = model, values
        self._sql = ""
        self._converters: Any = None

    def get(self, key: UUID) -> tuple[Any, ...] | None:
        """Return the values of the row with ``key``, or None."""
        if not self._sql:
            query = self._model._default_manager.filter(pk=key).order_by().values_list(*self._values).query
            compiler = query.get_compiler(connection=connection)
            sql, _ = compiler.as_sql()
            self._converters = compiler.get_converters([column for column, _, _ in compiler.select])
            self._sql = sql.replace("%s", "?")
        rows = read(self._sql, (key if on_postgres() else key.hex,))
        if not rows:
            return None
        values = list(rows[0])
        for position, (converters, expression) in self._converters.items():
            for convert in converters:
                values[position] = convert(values[position], expression, connection)
        return tuple(values)


def results_of(execution_id: UUID, indexes: Sequence[int]) -> list[tuple[Any, ...]]:
    """Return index, status, outputs, outputs_blob, error and error_code of node runs."""
    return read(
        f"SELECT node_index, status, outputs, outputs_blob, error, error_code FROM {_NODE_RUN}"
        f" WHERE execution_id=? AND node_index IN ({marks(indexes)})",
        (key(execution_id), *indexes),
    )


def failures_of(execution_id: UUID, before: int) -> list[tuple[Any, ...]]:
    """Return index, error and error_code of the node runs that failed in the phases before ``before``."""
    return read(
        f"SELECT node_index, error, error_code FROM {_NODE_RUN}"
        " WHERE execution_id=? AND phase_index<? AND status='failed'",
        (key(execution_id), before),
    )


def key(value: UUID) -> Any:
    """Return an id as a parameter of ``read``."""
    return value if on_postgres() else value.hex


# --------------------------------------------------------------------------- what the engine writes


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event that has no number yet. ``timestamp`` is microseconds; ``shown`` is ``data`` with outputs."""

    type: str
    timestamp: int
    node_id: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    shown: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NodeEnd:
    """How a node run ended, from ``started_us`` to ``ended_us``.

    ``outputs`` is JSON text, or empty when ``outputs_blob`` names it. What it used is None where that is not known.
    """

    node_index: int
    status: str
    started_us: int
    ended_us: int
    outputs: str = ""
    outputs_blob: str = ""
    error: str = ""
    error_code: str = ""
    credits: int = 0
    attempt: int = 1
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Variables that the node set."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node run to insert: queued for ``queue``, already claimed, skipped, or completed with its outputs."""

    node_index: int
    node_id: str
    node_type: str
    status: str
    claim: str = ""
    worker: str = ""
    session: str = ""
    queue: str = ""
    outputs: str = ""
    outputs_blob: str = ""
    credits: int = 0
    started_us: int = 0
    ended_us: int = 0
    cpu_seconds: float | None = None

    @property
    def ran(self) -> bool:
        """Return whether it is at its first attempt, or has ended with it."""
        return self.status in (states.RUNNING, states.COMPLETED)

    def began_us(self, now: int) -> int | None:
        """Return when it began, or None when it has not."""
        return (self.started_us or now) if self.ran else None

    def finished_us(self, now: int) -> int | None:
        """Return when it ended, or None when it has not."""
        return (self.ended_us or now) if self.status in states.TERMINAL else None


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """A phase to insert with its node runs."""

    index: int
    status: str
    header_count: int
    rows: tuple[NodeRow, ...]
    kept: int = 0
    """How many more nodes it has, whose rows are there already."""

    @property
    def node_count(self) -> int:
        """Return how many nodes it has in all."""
        return len(self.rows) + self.kept

    @property
    def open(self) -> int:
        """Return how many of its nodes have not ended."""
        return sum(row.status not in states.TERMINAL for row in self.rows)


def claim_nodes(
    tx: Transaction, execution_id: UUID, indexes: Sequence[int], *, claim: str, worker: str, lease_us: int, now: int
) -> dict[int, int]:
    """Take the node runs that are free and return ``{node_index: attempt}`` of those that we got.

    Free means queued, or retrying with its time come; a lease that ran out is the reconciler's to judge.
    """
    cursor = tx.run(
        f"UPDATE {_NODE_RUN} SET status='running', claim=?, worker=?, lease_until={{now}}+?,"
        " started_at=CASE WHEN wait_kind='' THEN ? ELSE started_at END, deliveries=deliveries+1, attempt=attempt+1, retry_at=NULL"
        f" WHERE execution_id=? AND node_index IN ({marks(indexes)}) AND claim=''"
        " AND (status='queued' OR status='retrying' AND retry_at<={now})"
        f" AND EXISTS(SELECT 1 FROM {_EXECUTION} x WHERE x.id=? AND x.status='running' AND NOT x.cancel_requested)"
        " RETURNING node_index, attempt",
        (claim, worker, lease_us, tx.time(now), tx.id(execution_id), *indexes, tx.id(execution_id)),
    )
    return dict(cursor.fetchall())


def open_nodes(tx: Transaction, execution_id: UUID, phase: int) -> int:
    """Return how many nodes of a phase have not ended."""
    cursor = tx.run(f'SELECT open FROM {_PHASE} WHERE execution_id=? AND "index"=?', (tx.id(execution_id), phase))
    return int(cursor.fetchone()[0])


def end_nodes(tx: Transaction, execution_id: UUID, claim: str, ends: Sequence[NodeEnd]) -> list[NodeEnd]:
    """End node runs that ``claim`` still holds and return the ends that counted."""
    rows = [
        (e.status, e.outputs, e.outputs_blob, e.error, e.error_code, e.credits, e.attempt, e.cpu_seconds,
         e.peak_memory_bytes, tx.time(e.started_us), tx.time(e.ended_us), tx.id(execution_id), e.node_index, claim)
        for e in ends
    ]  # fmt: skip
    changed = tx.many(
        f"UPDATE {_NODE_RUN} SET status=?, outputs=?, outputs_blob=?, error=?, error_code=?, credits=?, attempt=?,"
        " cpu_seconds=?, peak_memory_bytes=?, started_at=?, finished_at=?, lease_until=0 WHERE execution_id=? AND node_index=? AND claim=?"
        " AND status IN ('running','retrying')",
        rows,
    )
    if changed == len(ends):
        return list(ends)
    indexes = [end.node_index for end in ends]
    cursor = tx.run(
        f"SELECT node_index FROM {_NODE_RUN} WHERE execution_id=? AND claim=? AND lease_until=0"
        f" AND node_index IN ({marks(indexes)})",
        (tx.id(execution_id), claim, *indexes),
    )
    counted = {row[0] for row in cursor.fetchall()}
    return [end for end in ends if end.node_index in counted]


TAG = "$tag "
"""With it begin the variables that stand for a tag of the recording, so that parallel nodes add to each other's."""


def add_tags(tx: Transaction, execution_id: UUID, tags: Iterable[str]) -> None:
    """Remember tags for the recording of an execution; no statement without any. May be called again."""
    if tags:
        set_variables(tx, execution_id, {f"{TAG}{tag}": True for tag in sorted(tags)})


def set_variables(tx: Transaction, execution_id: UUID, changes: Mapping[str, Any]) -> None:
    """Add variables to those of an execution."""
    key = tx.id(execution_id)
    lock = " FOR UPDATE" if tx.postgres else ""
    stored = tx.run(f"SELECT variables FROM {_EXECUTION} WHERE id=?{lock}", (key,)).fetchone()
    before = msgspec.json.decode(stored[0]) if stored and stored[0] else {}
    tx.run(f"UPDATE {_EXECUTION} SET variables=? WHERE id=?", (to_json({**before, **changes}), key))


def count_ends(
    tx: Transaction, execution_id: UUID, phase: int, ended: int, failed: int, now: int, *, cancelled: bool = False
) -> tuple[int, int] | None:
    """Take ``ended`` nodes off the open count of a phase; ``cancelled`` says that some of them were cancelled.

    Returns how many are left and how many of the phase failed in all; None without such a phase.
    """
    cursor = tx.run(
        f"UPDATE {_PHASE} SET open=open-?, failed=failed+?,"
        " status=CASE WHEN open-? > 0 THEN status WHEN failed+? > 0 THEN 'failed' ELSE ? END,"
        " finished_at=CASE WHEN open-? > 0 THEN NULL ELSE ? END"
        ' WHERE execution_id=? AND "index"=? RETURNING open, failed',
        (
            ended,
            failed,
            ended,
            failed,
            states.CANCELLED if cancelled else states.COMPLETED,
            ended,
            tx.time(now),
            tx.id(execution_id),
            phase,
        ),
    )
    row = cursor.fetchone()
    return None if row is None else (int(row[0]), int(row[1]))


def open_execution(
    tx: Transaction, execution_id: UUID, *, phase: int, events: int, credits: int, now: int, deadline_us: int
) -> int | None:
    """Start a queued execution and return the number before its first event, or None if we may not."""
    return _number(
        tx.run(
            f"UPDATE {_EXECUTION} SET status='running', phase_index=?, started_at=?, touched_at={{now}},"
            " deadline_at={now}+?, seq=seq+?, credits=credits+?"
            " WHERE id=? AND phase_index=-1 AND status='queued' AND NOT cancel_requested RETURNING seq",
            (phase, tx.time(now), deadline_us, events, credits, tx.id(execution_id)),
        ),
        events,
    )


def move_execution(
    tx: Transaction, execution_id: UUID, *, source: int, target: int, events: int, credits: int
) -> int | None:
    """Move a running execution from phase ``source`` to ``target``; return the number before its events, or None."""
    return _number(
        tx.run(
            f"UPDATE {_EXECUTION} SET phase_index=?, touched_at={{now}}, seq=seq+?, credits=credits+?"
            " WHERE id=? AND phase_index=? AND status='running' AND NOT cancel_requested RETURNING seq",
            (target, events, credits, tx.id(execution_id), source),
        ),
        events,
    )


def bump(tx: Transaction, execution_id: UUID, *, events: int, credits: int = 0) -> int | None:
    """Reserve numbers for ``events`` of an execution that has not ended; return the number before them, or None."""
    return _number(
        tx.run(
            f"UPDATE {_EXECUTION} SET seq=seq+?, credits=credits+?, touched_at={{now}}"
            " WHERE id=? AND status IN ('running','queued','paused','waiting') RETURNING seq",
            (events, credits, tx.id(execution_id)),
        ),
        events,
    )


def finish_execution(
    tx: Transaction, execution_id: UUID, *, status: str, error: str, error_code: str, error_node: str,
    events: int, credits: int, now: int, source: int | None = None, at: int | None = None,
) -> int | None:  # fmt: skip
    """End an execution; return the number before its last events, or None when it has ended before.

    With ``source`` it must be running in that phase: a pause holds it, and a requested cancellation wins. ``at`` is the
    last phase that was opened, when this move opened more.
    """
    guard, extra = (
        ("", ()) if source is None else (" AND phase_index=? AND status='running' AND NOT cancel_requested", (source,))
    )
    return _number(
        tx.run(
            f"UPDATE {_EXECUTION} SET status=?, error=?, error_code=?, error_node=?, finished_at=?,"
            " touched_at={now}, seq=seq+?, credits=credits+?, phase_index=COALESCE(?, phase_index)"
            f" WHERE id=? AND status IN ('queued','running','paused','waiting'){guard} RETURNING seq",
            (status, error, error_code, error_node, tx.time(now), events, credits, at, tx.id(execution_id), *extra),
        ),
        events,
    )


def _number(cursor: Any, events: int) -> int | None:
    row = cursor.fetchone()
    return None if row is None else int(row[0]) - events


def insert_phase(tx: Transaction, execution_id: UUID, phase: PhaseRow, now: int, lease_us: int) -> None:
    """Insert a phase and its node runs."""
    started = tx.time(now)
    key = tx.id(execution_id)
    ended = phase.status != states.RUNNING
    tx.run(
        f'INSERT INTO {_PHASE}(execution_id, "index", status, node_count, header_count, open, failed, started_at, finished_at)'
        " VALUES(?,?,?,?,?,?,0,?,?)",
        (key, phase.index, phase.status, phase.node_count, phase.header_count, phase.open, started,
         started if ended else None),
    )  # fmt: skip
    rows = []
    for row in phase.rows:
        rows.append(
            (key, phase.index, row.node_index, row.node_id, row.node_type, row.status, int(row.ran), int(row.ran),
             row.claim, row.worker, *(2 * [lease_us if row.status == states.RUNNING else 0]), row.session, row.queue,
             row.status == states.QUEUED, row.outputs, row.outputs_blob, row.credits, row.cpu_seconds,
             tx.time(row.began_us(now)), tx.time(row.finished_us(now)))
        )  # fmt: skip
    tx.many(
        f"INSERT INTO {_NODE_RUN}(execution_id, phase_index, node_index, iteration, node_id, node_type, status, attempt,"
        " deliveries, claim, worker, lease_until, session, queue, dispatched_at, outputs, outputs_blob, error, error_code,"
        " credits, cpu_seconds, started_at, finished_at) VALUES(?,?,?,0,?,?,?,?,?,?,?,CASE WHEN ?>0 THEN {now}+? ELSE 0 END,"
        "?,?,CASE WHEN ? THEN {now} ELSE 0 END,?,?,'','',?,?,?,?)",
        rows,
    )


def depth_of(tx: Transaction, execution_id: UUID) -> int:
    """Return how many executions are around an execution."""
    return int(tx.run(f"SELECT depth FROM {_EXECUTION} WHERE id=?", (tx.id(execution_id),)).fetchone()[0])


def phase_of(tx: Transaction, execution_id: UUID) -> int:
    """Return the phase that an execution is in; -1 before it has opened its first."""
    return int(tx.run(f"SELECT phase_index FROM {_EXECUTION} WHERE id=?", (tx.id(execution_id),)).fetchone()[0])


def ended_nodes(tx: Transaction, execution_id: UUID, phase: int) -> list[str]:
    """Return the ids of the nodes of a phase that completed or failed."""
    cursor = tx.run(
        f"SELECT node_id FROM {_NODE_RUN} WHERE execution_id=? AND phase_index=? AND status IN ('completed','failed')"
        " ORDER BY node_index",
        (tx.id(execution_id), phase),
    )
    return [row[0] for row in cursor.fetchall()]


def deepest_inside(tx: Transaction, execution_id: UUID, depth: int) -> int:
    """Return how deep the executions went that an execution started and those inside them; ``depth`` without any."""
    key = tx.id(execution_id)
    row = tx.run(
        f"WITH RECURSIVE inside(id, depth) AS (SELECT id, depth FROM {_EXECUTION} WHERE parent_id=?"
        f" UNION ALL SELECT e.id, e.depth FROM {_EXECUTION} e JOIN inside i ON e.parent_id=i.id)"
        " SELECT max(depth) FROM inside",
        (key,),
    ).fetchone()
    if row[0] is not None:
        return max(depth, int(row[0]))
    entered = tx.run(f"SELECT 1 FROM {_EVENT} WHERE execution_id=? AND type='recursion_enter' LIMIT 1", (key,))
    return depth + 1 if entered.fetchone() else depth


def insert_events(tx: Transaction, execution_id: UUID, base: int, events: Sequence[EventDraft], depth: int = 0) -> None:
    """Insert events with the numbers after ``base``."""
    key = tx.id(execution_id)
    tx.insert(
        _EVENT,
        ("execution_id", "seq", "type", "timestamp", "node_id", "depth", "data"),
        [
            (key, base + number, event.type, event.timestamp, event.node_id, depth, to_json(event.data))
            for number, event in enumerate(events, 1)
        ],
    )


def root_of(tx: Transaction, execution_id: UUID) -> UUID:
    """Return the execution inside which an execution runs, however deep; itself when it runs inside none."""
    row = tx.run(
        f"WITH RECURSIVE above(id, parent_id) AS (SELECT id, parent_id FROM {_EXECUTION} WHERE id=?"
        f" UNION ALL SELECT e.id, e.parent_id FROM {_EXECUTION} e JOIN above a ON e.id=a.parent_id)"
        " SELECT id FROM above WHERE parent_id IS NULL",
        (tx.id(execution_id),),
    ).fetchone()
    return UUID(str(row[0]))


def retry_node(
    tx: Transaction, execution_id: UUID, index: int, claim: str, *, attempt: int, retry_us: int | None, error: str
) -> bool:
    """Put a claimed node run between two attempts; with ``retry_us`` (from now) its claim is given back."""
    if retry_us is None:
        cursor = tx.run(
            f"UPDATE {_NODE_RUN} SET status='retrying', attempt=?, error=?"
            " WHERE execution_id=? AND node_index=? AND claim=? AND status='running'",
            (attempt, error, tx.id(execution_id), index, claim),
        )
    else:
        cursor = tx.run(
            f"UPDATE {_NODE_RUN} SET status='retrying', attempt=?, error=?, claim='', worker='', lease_until=0,"
            " deliveries=deliveries-1, retry_at={now}+?"
            " WHERE execution_id=? AND node_index=? AND claim=? AND status='running'",
            (attempt, error, retry_us, tx.id(execution_id), index, claim),
        )
    return bool(cursor.rowcount == 1)


def resume_node(tx: Transaction, execution_id: UUID, index: int, claim: str, attempt: int) -> bool:
    """Start the next attempt of a node run that we still hold."""
    cursor = tx.run(
        f"UPDATE {_NODE_RUN} SET status='running', attempt=?"
        " WHERE execution_id=? AND node_index=? AND claim=? AND status='retrying'",
        (attempt, tx.id(execution_id), index, claim),
    )
    return bool(cursor.rowcount == 1)


def requeue_nodes(
    tx: Transaction, execution_id: UUID, indexes: Iterable[int], *, claims: Sequence[str], counts: bool = True
) -> dict[int, bool]:
    """Free node runs that a process held under one of ``claims``; return which, and whether they may run at once.

    ``counts`` says that the process was lost; else this delivery is forgotten. What lost two processes waits for
    a few seconds, so that it does not meet the last worker while the others still start.
    """
    wanted = list(indexes)
    again = "deliveries>=2" if counts else "deliveries<0"
    cursor = tx.run(
        f"UPDATE {_NODE_RUN} SET status=CASE WHEN {again} THEN 'retrying' ELSE 'queued' END, claim='', worker='',"
        f" retry_at=CASE WHEN {again} THEN {{now}}+{_SUSPECT_US} ELSE NULL END, lease_until=0,"
        " attempt=attempt-CASE WHEN status='running' THEN 1 ELSE 0 END, dispatched_at={now}, deliveries=deliveries-?"
        f" WHERE execution_id=? AND node_index IN ({marks(wanted)}) AND claim IN ({marks(claims)})"
        " AND status IN ('running','retrying') RETURNING node_index, status",
        (0 if counts else 1, tx.id(execution_id), *wanted, *claims),
    )
    return {index: status == states.QUEUED for index, status in cursor.fetchall()}


def end_open_nodes(
    tx: Transaction, execution_id: UUID, *, status: str, error: str, error_code: str, now: int
) -> list[str]:
    """End every node run of an execution that has not ended, and its open phase; return their node ids."""
    cursor = tx.run(
        f"UPDATE {_NODE_RUN} SET status=?, error=?, error_code=?, finished_at=?, lease_until=0, claim=''"
        " WHERE execution_id=? AND status IN ('queued','running','retrying','waiting') RETURNING node_id",
        (status, error, error_code, tx.time(now), tx.id(execution_id)),
    )
    ids = [row[0] for row in cursor.fetchall()]
    phase_status = states.FAILED if status == states.FAILED else states.CANCELLED
    tx.run(
        f"UPDATE {_PHASE} SET status=?, finished_at=?, open=0 WHERE execution_id=? AND status='running'",
        (phase_status, tx.time(now), tx.id(execution_id)),
    )
    return ids


def fail_nodes(
    tx: Transaction, execution_id: UUID, phase: int, indexes: Sequence[int], claims: Sequence[str], *,
    error: str, error_code: str, now: int,
) -> list[int]:  # fmt: skip
    """Fail node runs that are held under one of ``claims`` (empty: by nobody) and return the indexes that counted."""
    cursor = tx.run(
        f"UPDATE {_NODE_RUN} SET status='failed', error=?, error_code=?, finished_at=?, lease_until=0, claim=''"
        f" WHERE execution_id=? AND phase_index=? AND node_index IN ({marks(indexes)}) AND claim IN ({marks(claims)})"
        " AND status IN ('queued','running','retrying') RETURNING node_index",
        (error, error_code, tx.time(now), tx.id(execution_id), phase, *indexes, *claims),
    )
    return [row[0] for row in cursor.fetchall()]


def save_page(
    tx: Transaction, execution_id: UUID, index: int, claim: str, page: Mapping[str, Any], opened_us: int
) -> bool:
    """Note that a process holds the page which a node run opened under ``claim``, in the place of an older one.

    ``page`` are columns of ``BrowserSession``. Returns False, and notes nothing, when the claim was lost.
    """
    lock = " FOR UPDATE" if tx.postgres else ""
    held = tx.run(
        f"SELECT 1 FROM {_NODE_RUN} WHERE execution_id=? AND node_index=? AND claim=?"
        f" AND status IN ('running','retrying'){lock}",
        (tx.id(execution_id), index, claim),
    )
    if held.fetchone() is None:
        return False
    row = {
        "id": tx.id(uuid4()), "execution_id": tx.id(execution_id), "status": BrowserSession.LIVE, "closed_at": None,
        "opened_at": tx.time(opened_us), **page,
    }  # fmt: skip
    changes = ",".join(f"{column}=excluded.{column}" for column in row if column not in ("id", "execution_id", "name"))
    tx.run(
        f"INSERT INTO {_PAGE}({','.join(row)}) VALUES({marks(list(row))})"
        f" ON CONFLICT(execution_id, name) DO UPDATE SET {changes}",
        list(row.values()),
    )
    return True


def end_page(tx: Transaction, execution_id: UUID, boot: str, status: str, now: int) -> None:
    """Note that the page of an execution which the process ``boot`` holds is closed or lost; nothing if it holds none."""
    tx.run(
        f"UPDATE {_PAGE} SET status=?, closed_at=? WHERE execution_id=? AND boot=? AND status IN ('opening','live')",
        (status, tx.time(now), tx.id(execution_id), boot),
    )


def touch_dispatched(tx: Transaction, execution_id: UUID, indexes: Sequence[int]) -> None:
    """Note that a message for queued node runs was sent again."""
    tx.run(
        f"UPDATE {_NODE_RUN} SET dispatched_at={{now}} WHERE execution_id=? AND node_index IN ({marks(indexes)})",
        (tx.id(execution_id), *indexes),
    )


def insert_recording(tx: Transaction, recording_id: UUID, values: dict[str, Any]) -> None:
    """Insert the index row of a finished execution's recording.

    ``values`` are columns of ``Recording``; keys that end in ``_at`` are microseconds.
    """
    columns = ["id", *values]
    row = [tx.id(recording_id)]
    for key, value in values.items():
        if isinstance(value, UUID):
            row.append(tx.id(value))
        elif key.endswith("_at"):
            row.append(tx.time(value))
        else:
            row.append(value)
    tx.run(
        f"INSERT INTO {_RECORDING}({','.join(columns)}) VALUES({marks(columns)}) ON CONFLICT(execution_id) DO NOTHING",
        row,
    )


def as_json(values: dict[str, Any]) -> dict[str, Any]:
    """Return columns of ``Recording`` as JSON that a database reads back into them."""
    return {
        key: str(value)
        if isinstance(value, UUID)
        else us_to_datetime(value).isoformat()
        if key.endswith("_at")
        else value
        for key, value in values.items()
    }


def insert_not_recorded(
    tx: Transaction, execution_id: UUID, reason: str, recording: str, counts: Mapping[str, int], now: int
) -> None:
    """Insert why an execution has no recording; ``recording`` is JSON text of what it would have been."""
    columns = ["execution_id", "reason", "ended_at", "recording", *counts]
    tx.run(
        f"INSERT INTO {_NOT_RECORDED}({','.join(columns)}) VALUES({marks(columns)}) ON CONFLICT(execution_id) DO NOTHING",
        [tx.id(execution_id), reason, tx.time(now), recording, *counts.values()],
    )


def held_claims(tx: Transaction, claims: Sequence[str]) -> set[str]:
    """Return those of ``claims`` that still hold a node run."""
    cursor = tx.run(
        f"SELECT DISTINCT claim FROM {_NODE_RUN} WHERE claim IN ({marks(claims)}) AND status IN ('running','retrying')",
        claims,
    )
    return {row[0] for row in cursor.fetchall()}


def renew_leases(tx: Transaction, claims: Sequence[str], lease_us: int) -> int:
    """Extend the leases of all node runs under ``claims``; return how many there are."""
    return int(
        tx.run(
            f"UPDATE {_NODE_RUN} SET lease_until={{now}}+? WHERE claim IN ({marks(claims)})"
            " AND status IN ('running','retrying')",
            (lease_us, *claims),
        ).rowcount
    )


def mark_cancelled(tx: Transaction, execution_id: UUID, *, code: str, error: str) -> int | None:
    """Note that an execution is to stop and reserve one event; None when it has ended or was asked before."""
    return _number(
        tx.run(
            f"UPDATE {_EXECUTION} SET cancel_requested=?, error_code=?, error=?, seq=seq+1 WHERE id=?"
            " AND status IN ('queued','running','paused','waiting') AND NOT cancel_requested RETURNING seq",
            (True, code, error, tx.id(execution_id)),
        ),
        1,
    )


def count_held(tx: Transaction, execution_id: UUID) -> int:
    """Return how many node runs of an execution are in the hands of a process."""
    cursor = tx.run(
        f"SELECT count(*) FROM {_NODE_RUN} WHERE execution_id=? AND claim<>'' AND status IN ('running','retrying')",
        (tx.id(execution_id),),
    )
    return int(cursor.fetchone()[0])


def totals(tx: Transaction, execution_id: UUID) -> tuple[int, int, int, list[str]]:
    """Return how many node runs ended (completed or failed), the credits, the number of events, and the tags."""
    row = tx.run(
        f"SELECT (SELECT count(*) FROM {_NODE_RUN} n WHERE n.execution_id=e.id AND n.status IN ('completed','failed')),"
        f" e.credits, e.seq, e.variables FROM {_EXECUTION} e WHERE e.id=?",
        (tx.id(execution_id),),
    ).fetchone()
    variables = msgspec.json.decode(row[3]) if TAG in row[3] else {}
    return int(row[0]), int(row[1]), int(row[2]), [key.removeprefix(TAG) for key in variables if key.startswith(TAG)]
