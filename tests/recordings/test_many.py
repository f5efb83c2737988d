"""Many recordings: what lists, filters, totals and cleanup ask of the database does not grow with their number."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from recordings import DatabaseRecordingStorage, RecordingQuery, RetentionPolicy
from recordings.models import Recording
from recordings.retention import DAY_SECONDS

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
ROWS = 2_000


def add(count: int, **fields: Any) -> None:
    """Add recordings of the last days, one a minute, each with two tags."""
    now, chance = timezone.now(), random.Random(1)
    Recording.objects.bulk_create(
        (
            Recording(
                **{
                    "execution_id": uuid.uuid4(), "workflow_name": f"w{number % 7}", "success": number % 10 > 0,
                    "tags": ["trigger:manual", f"t{number % 100}"], "started_at": now - timedelta(minutes=number),
                    "duration_seconds": chance.random() * 100, "file_size_bytes": 1000 + number, "sealed": "a" * 64,
                    "details": f'{{"codec":"zstd","redaction_count":{number % 50}}}', **fields,
                }
            )
            for number in range(count)
        ),
        batch_size=500,
    )  # fmt: skip


QUERIES: dict[str, dict[str, Any]] = {
    "newest": {},
    "far page": {"offset": 100},
    "workflow": {"workflow_name": "w3"},
    "failed": {"success": False},
    "tag": {"tags": ["t7"]},
    "tags": {"tags": ["trigger:manual", "t7"]},
    "any tag": {"any_tags": ["t7", "t8"]},
    "no such tag": {"tags": ["t"]},
    "size": {"sort_by": "size"},
    "execution": {"sort_by": "execution_id"},
    "duration": {"min_duration": 50.0, "sort_by": "duration", "sort_order": "asc"},
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_page_is_one_query_that_reads_only_its_rows(name: str) -> None:
    add(ROWS)
    storage, query = DatabaseRecordingStorage(), RecordingQuery(limit=20, **QUERIES[name])
    with CaptureQueriesContext(connection) as queries:
        found = storage.list_sync(query)

    assert len(queries) == 1
    assert "LIMIT 20" in queries[0]["sql"]
    wanted = RecordingQuery(limit=20, **QUERIES[name]).select(storage.all_sync())
    assert [item["recording_id"] for item in found] == [item["recording_id"] for item in wanted]
    assert bool(found) is (name != "no such tag")


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_key_of_the_details_sorts_by_two_queries(order: str) -> None:
    add(300)
    storage = DatabaseRecordingStorage()
    query = RecordingQuery(limit=20, offset=5, sort_by="redaction_count", sort_order=order, success=True)
    with CaptureQueriesContext(connection) as queries:
        found = storage.list_sync(query)

    assert len(queries) == 2
    assert [item["recording_id"] for item in found] == [
        item["recording_id"] for item in query.select(storage.all_sync())
    ]


def test_tags_are_whole_words_whatever_they_hold() -> None:
    odd = ['a"b', "a%b", "a_b", "é", "[]", "a'b", "\0", "t", "T"]
    for tag in odd:
        Recording.objects.create(workflow_name="x", started_at=timezone.now(), tags=[tag.replace("\0", "\\0"), "all"])
    storage = DatabaseRecordingStorage()

    for tag in odd:
        found = storage.list_sync(tags=[tag])
        assert [item["tags"][0] for item in found] == [tag.replace("\0", "\\0")]
    assert len(storage.list_sync(tags=["all"])) == len(odd)
    assert len(storage.list_sync(any_tags=["é", "[]", "none"])) == 2


def plan_of(query: str, parameters: tuple[Any, ...]) -> str:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {query}", parameters)
        else:
            cursor.execute("ANALYZE recordings_recording")  # it may have been looked at while it was empty
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {query}", parameters)
        return "\n".join(str(row) for row in cursor.fetchall())


@pytest.mark.parametrize(
    ("rows", "index"),
    [
        (lambda: Recording.objects.order_by("-started_at"), "recording_newest"),
        (lambda: Recording.objects.filter(workflow_name="rare"), "recording_of_workflow"),
        (lambda: Recording.objects.filter(user_id=3), "recordings_recording_user_id"),
        (lambda: Recording.objects.filter(sealed="").order_by("completed_at"), "recording_unsealed"),
    ],
)
def test_lists_use_an_index(rows: Callable[[], Any], index: str) -> None:
    add(2000, user_id=1)
    add(1, user_id=2, workflow_name="rare", sealed="")
    assert index in plan_of(*rows()[:20].query.sql_with_params())


def test_totals_and_a_dry_run_take_the_same_queries_for_many() -> None:
    storage, policy = DatabaseRecordingStorage(), RetentionPolicy(max_age_days=0.5, max_count=900)

    def count() -> list[int]:
        counts = []
        for ask in (storage.get_storage_stats_sync, lambda: storage.apply_retention_policy_sync(policy, dry_run=True)):
            with CaptureQueriesContext(connection) as queries:
                ask()
            counts.append(len(queries))
        return counts

    add(1)
    few = count()
    add(ROWS)
    assert count() == few == [4, 2]


def test_a_cleanup_takes_as_many_queries_for_each_recording_whatever_their_number() -> None:
    storage, counts = DatabaseRecordingStorage(), []
    for rows in (20, 400):
        Recording.objects.all().delete()
        add(rows)
        with CaptureQueriesContext(connection) as queries:
            done = storage.apply_retention_policy_sync(RetentionPolicy(max_count=rows - 10))
        assert len(done["deleted_ids"]) == 10
        counts.append(len(queries))
    assert counts[0] == counts[1] < 40


def test_planning_takes_little_time() -> None:
    now = time.time()
    recordings = [
        {
            "recording_id": str(number), "started_at": now - number * DAY_SECONDS / 100, "success": True, "tags": [],
            "file_size_bytes": 1000,
        }
        for number in range(20_000)
    ]  # fmt: skip
    started = time.process_time()
    plan = RetentionPolicy(max_age_days=100, max_count=9_000, max_size_gb=0.005).plan(recordings)
    assert time.process_time() - started < 1.0
    assert len(plan.delete) > 11_000
