"""The group committer: every job runs once for good, whatever its neighbours do."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import uuid4

import pytest
from django.db import connection, transaction

from executions import store
from executions.models import DeadLetter
from executions.store import Committer, NodeEnd, Transaction

pytestmark = pytest.mark.postgres

TABLE = DeadLetter._meta.db_table


def insert(tx: Transaction, node_id: str) -> str:
    now = tx.time(store.now_us())
    tx.run(
        f"INSERT INTO {TABLE}(kind, node_id, payload, error, deliveries, status, first_failed_at, last_failed_at)"
        " VALUES('node',?,'{}','',0,'open',?,?)",
        (node_id, now, now),
    )
    return node_id


def written() -> list[str]:
    return sorted(DeadLetter.objects.values_list("node_id", flat=True))


def in_threads(count, act):
    """Run ``act(n)`` in ``count`` threads that begin together; return results and errors by number."""
    barrier = threading.Barrier(count)

    def one(number):
        try:
            barrier.wait()
            return act(number)
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_jobs_of_many_threads_are_all_written_once(transactional_db):
    committer = Committer()

    def act(number):
        return [committer.run(partial(insert, node_id=f"{number}-{n}"), str(number)) for n in range(20)]

    results = in_threads(8, act)

    assert results == [[f"{number}-{n}" for n in range(20)] for number in range(8)]
    assert written() == sorted(f"{number}-{n}" for number in range(8) for n in range(20))
    assert committer.run(lambda tx: insert(tx, "later")) == "later"


def test_a_job_that_fails_hurts_nobody_else(transactional_db):
    committer = Committer()

    def act(number):
        def job(tx):
            insert(tx, str(number))
            if number % 3 == 0:
                raise LookupError(number)
            return number

        return committer.run(job)

    results = in_threads(9, act)

    assert [isinstance(result, LookupError) for result in results] == [n % 3 == 0 for n in range(9)]
    assert written() == ["1", "2", "4", "5", "7", "8"]


def test_a_job_inside_a_transaction_belongs_to_it(transactional_db):
    """It may be rolled back with it, and it neither waits for others nor carries them along."""
    committer = Committer()
    inside, outside = threading.Event(), threading.Event()

    def act(number):
        if number:
            inside.wait(60)
            result = committer.run(lambda tx: insert(tx, "other")) if connection.vendor == "postgresql" else None
            outside.set()
            return result
        with transaction.atomic():
            committer.run(lambda tx: insert(tx, "mine"))
            inside.set()
            outside.wait(60)
            transaction.set_rollback(True)
        return None

    in_threads(2, act)

    assert written() == (["other"] if connection.vendor == "postgresql" else [])


def test_a_job_in_a_transaction_does_not_wait_for_a_leader_that_needs_its_lock(transactional_db):
    committer = Committer()
    begun = threading.Event()

    def act(number):
        if number:
            begun.wait(60)
            return committer.run(lambda tx: insert(tx, "leader"))
        with transaction.atomic():
            DeadLetter.objects.filter(node_id="none").update(error="x")  # holds SQLite's only write lock
            begun.set()
            threading.Event().wait(0.3)
            return committer.run(lambda tx: insert(tx, "inside"))

    assert in_threads(2, act) == ["inside", "leader"]
    assert written() == ["inside", "leader"]


def test_a_deadlock_is_tried_again(transactional_db):
    from django.db import OperationalError

    tries = []

    def job(tx):
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("deadlock detected")
        return insert(tx, "second")

    assert Committer().run(job) == "second"


def test_a_connection_that_was_lost_is_opened_again(transactional_db):
    committer = Committer()

    def act(number):
        committer.run(lambda tx: insert(tx, "before"))
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                pid = cursor.fetchone()[0]
            killer = connection.copy()
            with killer.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s)", (pid,))
            killer.close()
        return committer.run(lambda tx: insert(tx, "after"))

    assert in_threads(1, act) == ["after"]
    assert written() == ["after", "before"]


def test_an_end_of_a_claim_that_was_lost_is_not_written(transactional_db):
    execution_id = uuid4()

    assert (
        store.committer.run(lambda tx: store.end_nodes(tx, execution_id, "claim", [NodeEnd(0, "completed", 1, 2)]))
        == []
    )
