"""What is asked every second or two reads what is open, and not everything that ever ran."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from executions.models import Execution
from executions.reconcile import reconcile
from monitoring.counting import count_ended
from monitoring.tiles import known, tiles_for

pytestmark = [pytest.mark.redis, pytest.mark.django_db]

_WHOLE = re.compile(
    r"SCAN (executions_execution|executions_noderun|executions_phase|executions_browsersession|recordings_event|monitoring_total)\b"
    r"(?! USING (COVERING )?INDEX (execution_open|execution_admitted|node_run_(queued|leased|waiting)|browser_session_open)\b)"
)
"""A growing table from end to end; the indexes that are named hold only what is open."""


def scans(work: Callable[[], Any]) -> list[str]:
    """Return the statements of ``work`` that SQLite answers by reading a whole table that grows."""
    asked: list[tuple[str, Any]] = []

    def keep(execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Any) -> Any:
        asked.append((sql, parameters))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(keep):
        work()
    bad = []
    for sql, parameters in asked:
        if re.match(r"(SELECT|UPDATE|DELETE|WITH)\b", sql):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
                steps = [row[3] for row in cursor.fetchall()]
            bad += [f"{step}: {sql}" for step in steps if _WHOLE.match(step)]
    assert asked
    return bad


@pytest.fixture(autouse=True)
def fresh() -> None:
    known.forget()


def test_the_reconciler_scans_nothing() -> None:
    assert scans(reconcile) == []


def test_counting_scans_nothing() -> None:
    count_ended()
    assert scans(count_ended) == []


def test_metrics_and_tiles_scan_nothing(alice: Any) -> None:
    assert scans(lambda: Client().get("/metrics")) == []
    known.forget()
    assert scans(lambda: tiles_for(alice)) == []


def test_a_status_in_the_sql_is_a_plain_name() -> None:
    with pytest.raises(ValueError, match="names of statuses"):
        list(Execution.objects.filter(status__one_of=("x') OR ('1'='1",)))
