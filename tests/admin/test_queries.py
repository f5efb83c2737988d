"""Lists and pages take the same number of queries whatever the number of rows."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from executions.models import NodeRun, Phase
from tests.admin.conftest import DEFINITION, logged_in, make_execution
from workflows.models import Workflow

ROWS = 200
ONE_PAGE = 50
"""A list of more rows than one page asks for the keys of the page first."""
LISTS = (
    "workflows_workflow", "workflows_workflowversion", "workflows_credential", "executions_execution", "executions_phase",
    "executions_noderun", "executions_browsersession", "executions_deadletter", "recordings_recording", "recordings_event",
    "recordings_blob", "workflows_apitoken", "workflows_creditaccount", "workflows_creditentry", "workflows_auditentry",
    "monitoring_alert", "monitoring_alertrule", "monitoring_alertchannel",
)  # fmt: skip


@pytest.mark.parametrize("superuser", [False, True])
def test_lists_take_as_many_queries_for_200_rows_as_for_few(
    superuser: bool, alice: Any, bob: Any, make_world: Any
) -> None:
    client = logged_in(alice if superuser else bob)
    first = make_world(bob, "first")
    for _ in range(ONE_PAGE):
        make_execution(first.workflow)
    urls = [reverse(f"admin:{name}_changelist") for name in LISTS]
    few = {url: _queries(client, url) for url in urls}
    for index in range(ROWS // 10):
        world = make_world(bob, f"more {index}")
        for _ in range(9):
            make_execution(world.workflow)

    many = {url: _queries(client, url) for url in urls}

    assert many == few


def test_the_page_of_an_execution_takes_as_many_queries_for_200_node_runs(bob: Any, make_world: Any) -> None:
    client = logged_in(bob)
    execution = make_world(bob, "first").execution
    url = reverse("admin:executions_execution_change", args=(execution.pk,))
    few = _queries(client, url)
    now = timezone.now()
    NodeRun.objects.bulk_create(
        NodeRun(execution=execution, phase_index=1, node_index=index + 10, node_id=f"n{index}", node_type="delay")
        for index in range(ROWS)
    )
    Phase.objects.bulk_create(
        Phase(execution=execution, index=index + 1, node_count=1, open=0, started_at=now) for index in range(ROWS)
    )

    assert _queries(client, url) == few


def test_the_page_of_a_workflow_takes_as_many_queries_for_200_versions(bob: Any, make_world: Any) -> None:
    client = logged_in(bob)
    workflow = make_world(bob, "first").workflow
    url = reverse("admin:workflows_workflow_change", args=(workflow.pk,))
    client.get(url)  # what a process asks only once is asked here
    few = _queries(client, url)
    for index in range(ROWS):
        workflow.save_version({**DEFINITION, "vars": {"index": index}}, author=bob)

    assert _queries(client, url) == few


def test_lists_do_not_load_graphs(bob: Any, make_world: Any) -> None:
    make_world(bob, "first")
    client = logged_in(bob)

    for name in ("workflows_workflow", "workflows_workflowversion"):
        with CaptureQueriesContext(connection) as queries:
            client.get(reverse(f"admin:{name}_changelist"))
        assert [query["sql"] for query in queries if '"definition"' in query["sql"]] == [], name


def _queries(client: Any, url: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        response = client.get(url)
    assert response.status_code == 200, url
    return len(queries)


def test_the_workflow_filter_offers_a_bounded_number_of_names(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "zz last")
    Workflow.objects.bulk_create(Workflow(owner=bob, name=f"a{index:03}") for index in range(ROWS))

    page = logged_in(bob).get(reverse("admin:executions_execution_changelist"), {"workflow": str(world.workflow.pk)})

    offered = next(spec for spec in page.context["cl"].filter_specs if spec.title == "workflow")
    assert len(offered.lookup_choices) == 51
    assert (str(world.workflow.pk), "zz last") in offered.lookup_choices
    assert page.context["cl"].result_count == 1
