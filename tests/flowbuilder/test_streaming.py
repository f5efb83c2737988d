"""The address of the first Flow Builder at which streaming is started, on an installation on which nothing ever ran."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client

from executions.events import load_logs
from executions.models import Execution
from executions.triggers import start_execution
from tests.admin.conftest import logged_in
from tests.conftest import graph, node
from tests.executions.edge_nodes import run_here
from workflows.models import Workflow

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]


def stream(client: Client, execution_id: Any, **headers: Any) -> Any:
    return client.post(f"/executions/{execution_id}/start-streaming", **headers)


@pytest.mark.row("S1-03")
def test_on_a_fresh_installation_the_demo_is_started_and_can_be_watched(alice):
    client = logged_in(alice)

    answer = stream(client, "demo")

    assert answer.status_code == 202
    execution = Execution.objects.get()
    assert answer.json() == {
        "streaming": True,
        "execution_id": str(execution.pk),
        "socket": f"/ws/executions/{execution.pk}/logs",
    }
    assert (execution.owner, execution.status) == (alice, "queued")
    run_here(execution.pk)
    assert len(load_logs(execution.pk, 0, 100)[0]) > 3
    again = stream(client, "demo")
    assert again.json()["execution_id"] != str(execution.pk)
    assert Workflow.objects.filter(name="demo-fan-out").count() == 1


@pytest.mark.row("S1-03")
def test_of_an_execution_the_socket_is_told(alice, make_workflow):
    execution = start_execution(make_workflow(graph([node("wait", "delay", Duration=0)])), by=alice)

    answer = stream(logged_in(alice), execution.pk)

    assert answer.status_code == 202
    assert UUID(answer.json()["execution_id"]) == execution.pk
    assert Execution.objects.count() == 1


def test_fault_55_foreign_and_unknown_executions_are_not_there(alice, bob, make_workflow):
    execution = start_execution(make_workflow(graph([node("wait", "delay", Duration=0)])), by=alice)

    answers = [stream(logged_in(bob), key).status_code for key in (execution.pk, uuid4(), "exec-001")]

    assert answers == [404, 404, 404]


def test_without_login_or_token_of_the_form_nothing_is_started(alice):
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(alice)

    assert stream(Client(), "demo").status_code == 401
    assert stream(careful, "demo").status_code == 403
    assert logged_in(alice).get("/executions/demo/start-streaming").status_code == 405
    assert not Execution.objects.exists()


def test_a_demo_that_cannot_run_says_why(alice):
    client = logged_in(alice)
    stream(client, "demo")
    Workflow.objects.filter(name="demo-fan-out").update(status="archived")

    answer = stream(client, "demo")

    assert answer.status_code == 409
    assert "demo-fan-out" in answer.json()["detail"]


def test_starts_of_the_demo_have_the_rate_of_starts(alice, rates):
    rates.START_RATE = "1/h"
    client = logged_in(alice)

    assert [stream(client, "demo").status_code for _ in range(2)] == [202, 429]
