"""The lists of workflows, executions and alerts stay fast with 100,000 executions and alerts."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from executions import statistics
from tests.admin.conftest import logged_in
from tests.many import Many
from tests.measuring import reference_us

pytestmark = pytest.mark.django_db

SLOWEST_MS = 300
MOST_QUERIES = 12
PAGES = (
    "workflows/workflow/",
    "workflows/workflow/?o=6",
    "executions/execution/",
    "executions/execution/?p=900",
    "executions/execution/?status__exact=failed",
    "executions/execution/?workflow=WORKFLOW",
    "executions/execution/?q=workflow+07",
    "executions/execution/?q=no-such-word",
    "executions/execution/?started=all",
    "monitoring/alert/",
    "monitoring/alert/?state=new",
    "monitoring/alert/?state=all",
    "monitoring/alert/?state=all&p=900",
    "monitoring/alert/?state=resolved&workflow=WORKFLOW",
    "monitoring/alert/?state=all&q=no-such-word",
    "monitoring/alertrule/",
    "monitoring/alertchannel/",
)


@pytest.mark.row("S2-52b")
@pytest.mark.parametrize("page", PAGES)
def test_a_list_takes_less_than_300_ms_and_few_queries(many_executions: Many, alice: Any, page: str) -> None:
    url = f"/admin/{page}".replace("WORKFLOW", str(many_executions.workflows[0].pk))
    for user in (many_executions.owner, alice):
        client = logged_in(user)
        assert client.get(url).status_code == 200
        look, taken = partial(client.get, url), []
        for _ in range(3):
            began = time.process_time()  # SQLite is part of the process; what others do with the machine is not
            look()
            taken.append(1000 * (time.process_time() - began))
        took = min(taken)
        if took >= SLOWEST_MS:  # in the time of the machine that the documents name
            took = reference_us(look, rounds=10) / 1000
        assert took < SLOWEST_MS, (user, taken)
        with CaptureQueriesContext(connection) as queries:
            client.get(url)
        assert len(queries) <= MOST_QUERIES, [query["sql"][:120] for query in queries]


@pytest.mark.row("S2-11b")
def test_the_numbers_of_a_workflow_are_those_of_its_executions(many_executions: Many) -> None:
    found = statistics.of_workflows([workflow.pk for workflow in many_executions.workflows])

    assert sum(numbers.runs for numbers in found.values()) == many_executions.executions
    assert sum(numbers.failed for numbers in found.values()) == 98  # one of each person is the row that was copied
    assert {numbers.success_rate for numbers in found.values()} <= {98, 99, 100}
