"""Who is alive: one lease per worker process, renewed together with the node runs that it holds.

Death of a process is seen at once, because the kernel (a locked file) or the server (an advisory lock)
frees its lock; the lease itself is for processes that are frozen but not dead.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from executions import locks, states, store
from executions.machine import gauge as machine_gauge
from executions.models import Execution, WorkerLease

logger = logging.getLogger(__name__)

CANCEL_POLL_SECONDS = 1.0
SURE_SECONDS = 10.0
"""For how long a lock that was found free twice is not looked at twice again."""
PAGE_QUEUE = "browser."
"""What the name of the queue of a process's own pages begins with; its boot id follows."""


class WorkerProcess:
    """This process as a worker: its boot id, what it holds, and the thread that keeps it alive."""

    def __init__(
        self, *, queues: str, slots: int, on_cancel: Callable[[UUID], None],
        kept: Callable[[], set[UUID]], on_end: Callable[[UUID], object], on_lost: Callable[[str], None],
        isolated: bool = False, each_second: Callable[[], None] = lambda: None,
        browser_use: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:  # fmt: skip
        self.boot = uuid.uuid4().hex
        self.queue = f"{PAGE_QUEUE}{self.boot}"
        self.isolated = isolated
        self._queues, self._slots, self._on_cancel = queues, slots, on_cancel
        self._kept, self._on_end, self._on_lost = kept, on_end, on_lost
        self._each_second, self._browser_use = each_second, browser_use
        self.draining = False
        """Whether this process is about to end and begins nothing that another one can do."""
        self._stale = 0
        self._claims: dict[str, UUID] = {}
        self._lock = threading.Lock()
        self._let_go = threading.Condition(self._lock)
        self._stop = threading.Event()
        self._alive = LivenessLock(self.boot)
        self._started = datetime.now(UTC)
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Take the liveness lock, write the lease row and begin to renew it."""
        self._alive.acquire()
        self._write_lease(0)
        self._thread.start()

    def stop(self) -> None:
        """Give up the lease; the process is about to end cleanly."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        try:
            # The connection of this thread was idle for long and may have been cut meanwhile.
            if not self._try(self._delete_lease):
                self._try(self._delete_lease, last=True)
        finally:
            self._alive.release()

    def _delete_lease(self) -> None:
        WorkerLease.objects.filter(boot=self.boot).delete()

    @property
    def holds_work(self) -> bool:
        """Return whether this process runs nodes."""
        with self._lock:
            return bool(self._claims)

    def wait_until_free(self, seconds: float) -> bool:
        """Wait until this process runs no nodes, for at most so long; return whether it runs none."""
        with self._let_go:
            return self._let_go.wait_for(lambda: not self._claims, seconds)

    def note_stale(self) -> None:
        """Count a message that found nothing to do; the next heartbeat writes the number."""
        with self._lock:
            self._stale += 1

    @contextmanager
    def holding(self, claim: str, execution_id: UUID) -> Iterator[None]:
        """Renew ``claim`` and watch for a cancellation of its execution while the block runs."""
        with self._lock:
            self._claims[claim] = execution_id
        try:
            yield
        finally:
            with self._let_go:
                self._claims.pop(claim, None)
                self._let_go.notify_all()

    def _run(self) -> None:
        renewed = time.monotonic()
        while not self._stop.wait(CANCEL_POLL_SECONDS):
            with self._lock:
                claims = dict(self._claims)
            self._try(self._alive.keep)
            if time.monotonic() - renewed >= settings.HEARTBEAT_SECONDS and self._try(self._renew, list(claims)):
                renewed = time.monotonic()
            self._try(self._look_for_cancellations, set(claims.values()))
            self._try(self._release_ended)
            self._try(self._each_second)
        connection.close()

    def _try(self, act: Callable[..., None], *arguments: object, last: bool = False) -> bool:
        """Return whether ``act`` worked; nothing may end this thread, for all that this process runs depends on it."""
        try:
            act(*arguments)
        except DatabaseError as error:
            then = "its lease runs out by itself" if last else "tries again"
            logger.warning("this worker could not reach the database and %s: %s", then, error)
            connection.close()
        except Exception:
            logger.exception("this worker goes on after an error in its own upkeep")
        else:
            return True
        return False

    def _look_for_cancellations(self, executions: set[UUID]) -> None:
        if not executions:
            return
        wanted = Execution.objects.filter(pk__in=executions, cancel_requested=True).values_list("pk", flat=True)
        for execution_id in wanted:
            self._on_cancel(execution_id)

    def _release_ended(self) -> None:
        """Give back what is kept for executions that ended in another process, or that are gone."""
        held = self._kept()
        if not held:
            return
        going_on = set(
            Execution.objects.filter(pk__in=held).exclude(status__in=states.TERMINAL).values_list("pk", flat=True)
        )
        for execution_id in held - going_on:
            self._on_end(execution_id)

    def _renew(self, claims: list[str]) -> None:
        if claims:
            store.committer.run(lambda tx: store.renew_leases(tx, claims, settings.LEASE_SECONDS * 1_000_000))
            for lost in set(claims) - store.committer.run(lambda tx: store.held_claims(tx, claims)):
                self._on_lost(lost)  # or all of its nodes ended just now, and there is nothing to stop
        alive = WorkerLease.objects.filter(boot=self.boot)
        if not alive.update(beat_at=store.database_now_us(), busy=len(claims), **self._tells()):
            self._write_lease(len(claims))  # somebody took this process for dead

    def _tells(self) -> dict[str, Any]:
        """Return what a lease says of this process and its machine now."""
        pages, starts = self._browser_use()
        machine = machine_gauge.read(Path(settings.DATA_DIR))
        return {"stale": self._stale, "pages": pages, "chromium_starts": starts, **asdict(machine)}

    def _write_lease(self, busy: int) -> None:
        WorkerLease.objects.create(
            boot=self.boot,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            queues=self._queues,
            slots=self._slots,
            busy=busy,
            started_at=self._started,
            beat_at=store.database_now_us(),
            **self._tells(),
        )


class LivenessLock:
    """A lock that its process holds until it dies, in a file (SQLite) or on the server (PostgreSQL)."""

    def __init__(self, boot: str) -> None:
        self._boot = boot
        self._file: int | None = None
        self._connection: BaseDatabaseWrapper | None = None
        self._held = False

    def acquire(self) -> None:
        """Hold the lock from now on."""
        if connection.vendor == "postgresql":
            private = connection.copy()
            private.inc_thread_sharing()
            self._connection, self._held = private, False
            self.keep()
            return
        path = _lock_file(self._boot)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def keep(self) -> None:
        """Take the lock again if the connection that held it was cut."""
        if self._connection is None:
            return
        try:
            with self._connection.cursor() as cursor:
                if self._held:
                    cursor.execute("SELECT true")
                else:  # never waits: a connection that the server does not yet know to be cut holds it, too
                    cursor.execute("SELECT pg_try_advisory_lock(%s)", (_lock_number(self._boot),))
                self._held = bool(cursor.fetchone()[0])
        except DatabaseError:
            was_held, self._held = self._held, False
            self._connection.close()
            if not was_held:
                raise
            self._retake()

    def _retake(self) -> None:
        """Connect and lock at once, for half a second: until it is held again, others take this process for dead.

        The server may need a moment to see that the connection which held it is gone.
        """
        for _ in range(10):
            self.keep()
            if self._held:
                return
            time.sleep(0.05)

    def release(self) -> None:
        """Let the lock go."""
        if self._file is not None:
            _lock_file(self._boot).unlink(missing_ok=True)
            os.close(self._file)
            self._file = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def is_dead(boot: str) -> bool:
    """Return whether the process with this boot id certainly ended: its lock is free.

    On PostgreSQL a lock is also free for a moment when the connection of a living process was cut, so the first
    answer takes somewhat longer than a process needs to take its lock again. A server that just started knows no
    locks yet, so for ten seconds it says nothing about anybody.
    """
    if connection.vendor != "postgresql":
        return _is_free(boot)
    if not _is_free(boot):
        return False
    if time.monotonic() - _found_free.get(boot, -SURE_SECONDS) >= SURE_SECONDS:
        for pause in LOOK_AGAIN_SECONDS:
            time.sleep(pause)
            if not _is_free(boot):
                return False
        _found_free[boot] = time.monotonic()
    return True


LOOK_AGAIN_SECONDS = (CANCEL_POLL_SECONDS + 0.2, 0.8)
"""Pauses before a free lock is looked at again; its process, if it lives, tries every second to lock it again."""
_found_free: dict[str, float] = {}
"""When (monotonic) the lock of a process was found free again and again."""


def _is_free(boot: str) -> bool:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT CASE WHEN pg_try_advisory_lock(%s) THEN pg_advisory_unlock(%s) ELSE false END"
                " AND pg_postmaster_start_time() < now() - interval '10 seconds'",
                (_lock_number(boot), _lock_number(boot)),
            )
            return bool(cursor.fetchone()[0])
    try:
        return locks.is_free(_lock_file(boot))
    except FileNotFoundError:
        return True


def _lock_file(boot: str) -> Path:
    return Path(settings.DATA_DIR) / "locks" / boot


def _lock_number(boot: str) -> int:
    return int.from_bytes(hashlib.blake2b(boot.encode(), digest_size=8).digest(), "big", signed=True)


current: WorkerProcess | None = None
"""This process as a worker, or None in web, beat and command processes."""


def start_worker(
    *, queues: str, slots: int, on_cancel: Callable[[UUID], None],
    kept: Callable[[], set[UUID]], on_end: Callable[[UUID], object], on_lost: Callable[[str], None],
    isolated: bool = False, each_second: Callable[[], None] = lambda: None,
    browser_use: Callable[[], tuple[int, int]] = lambda: (0, 0),
) -> WorkerProcess:  # fmt: skip
    """Make this process a worker and return it.

    ``on_cancel`` stops the nodes of an execution here, ``on_lost`` those under a claim that somebody took over;
    ``kept`` names the executions whose page this process holds, ``on_end`` gives back that of one that has ended,
    without waiting.
    ``isolated`` means that it runs isolated nodes and nothing else. ``each_second`` is called by the thread that keeps
    the process alive. ``browser_use`` says how many pages it has opened, and how often it started Chromium.
    """
    global current
    current = WorkerProcess(
        queues=queues,
        slots=slots,
        on_cancel=on_cancel,
        kept=kept,
        on_end=on_end,
        on_lost=on_lost,
        isolated=isolated, each_second=each_second, browser_use=browser_use,
    )  # fmt: skip
    return current


def this_boot() -> str:
    """Return the boot id of this worker process, or an empty text elsewhere."""
    return current.boot if current else ""


def note_stale() -> None:
    """Count a message that found nothing to do, in a worker process."""
    if current is not None:
        current.note_stale()


@contextmanager
def holding(claim: str, execution_id: UUID) -> Iterator[None]:
    """Keep ``claim`` alive while the block runs; does nothing outside a worker process."""
    if current is None:
        yield
        return
    with current.holding(claim, execution_id):
        yield
