"""``./flow credits``."""

from __future__ import annotations

import json
from html import unescape

import pytest
from django.core.management import CommandError, call_command

from executions.models import Execution
from executions.triggers import start_execution
from tests.conftest import graph
from tests.executions.edge_nodes import gives, run_here
from workflows.models import AuditEntry, CreditEntry
from workflows.registry import NODE_REGISTRY, set_costs

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis]


def flow(capsys, *words):
    call_command("credits", *words)
    return capsys.readouterr().out


def data(capsys, *words):
    return json.loads(flow(capsys, *words, "--json"))


@pytest.mark.row("S2-51")
def test_credits_are_granted_corrected_shown_and_reported(capsys, alice, bob, make_workflow):
    assert "Nobody is metered" in flow(capsys, "show")
    flow(capsys, "grant", "bob", "50", "--note", "welcome")
    assert "bob has 48 credits" in flow(capsys, "correct", "bob", "2", "--note", "a slip")
    workflow = make_workflow(graph([gives("one", 1), gives("two", 2)]), "dear", owner=bob)
    execution = run_here(start_execution(workflow, by=bob).pk)

    assert data(capsys, "show") == [{"user": "bob", "available": 46, "reserved": 0, "spent": 2}]
    entries = data(capsys, "show", "--user", "bob")[0]["entries"]
    assert [(entry["kind"], entry["amount"], entry["note"]) for entry in entries] == [
        ("charge", 2, ""), ("reserve", 2, ""), ("correction", 2, "a slip"), ("grant", 50, "welcome"),
    ]  # fmt: skip
    line = {"key": str(workflow.pk), "name": "dear", "executions": 1, "credits": 2}
    assert data(capsys, "report", "--by", "workflow") == [line]
    assert data(capsys, "report", "--by", "execution", "--user", "bob") == [{**line, "key": str(execution.pk)}]
    assert data(capsys, "report", "--user", "alice") == []
    assert data(capsys, "report", "--until", "2020-01-01") == []
    assert "dear" in flow(capsys, "report", "--by", "workflow")
    assert "welcome" in flow(capsys, "show", "--user", "bob")
    noted = AuditEntry.objects.filter(kind="credits").order_by("id").values_list("verb", "door", "actor_name")
    assert list(noted) == [("grant", "command", "alice"), ("correction", "command", "alice")]
    assert set(CreditEntry.objects.filter(kind="grant").values_list("actor__username", flat=True)) == {"alice"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("grant", "bob", "0"), "whole number above 0"),
        (("grant", "bob", "-3"), "unrecognized|required|whole number"),
        (("grant", "nobody", "3"), 'no user "nobody"'),
        (("correct", "bob", "3"), "has no credit account"),
        (("show", "--user", "bob"), "has no credit account"),
        (("report", "--since", "yesterday"), "is not a date"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(alice, bob, words, complaint):
    with pytest.raises(CommandError, match=complaint):
        call_command("credits", *words)


def test_more_than_is_available_cannot_be_taken(alice, bob):
    call_command("credits", "grant", "bob", "3")

    with pytest.raises(CommandError, match="the correction needs 5 credits, 3 available"):
        call_command("credits", "correct", "bob", "5")


@pytest.mark.row("S2-55")
def test_a_run_that_nobody_can_pay_is_refused_with_the_numbers_at_every_door(alice, make_workflow, client):
    make_workflow(graph([gives("one", 1), gives("two", 2)]), "dear")
    call_command("credits", "grant", "alice", "1")
    says = 'workflow "dear" needs 2 credits, 1 available'

    with pytest.raises(CommandError, match=says) as refused:
        call_command("executions", "run", "dear")
    assert refused.value.returncode == 1
    client.force_login(alice)
    workflow = alice.workflows.get()
    answer = client.post("/api/v1/executions", {"workflow_id": str(workflow.pk)}, content_type="application/json")
    assert answer.status_code == 409
    body = answer.json()
    assert says in body.pop("detail")
    assert body == {"code": "insufficient_credits", "needs": 2, "available": 1, "reserved": 0}
    page = client.post(f"/admin/workflows/workflow/{workflow.pk}/run/", follow=True)
    assert says in unescape(page.content.decode())
    assert not Execution.objects.exists()


@pytest.fixture
def costs():
    """Put the costs of node types back afterwards."""
    before = {name: executor.description.credits for name, executor in NODE_REGISTRY.items()}
    yield set_costs
    set_costs({name: cost for name, cost in before.items() if NODE_REGISTRY[name].description.credits != cost})


@pytest.mark.row("S2-55")
def test_a_cost_that_the_installation_sets_counts_in_lists_estimates_and_runs(
    costs, capsys, alice, make_workflow, settings
):
    from workflows.errors import ActivationRefused

    settings.MAX_CREDITS = 8
    costs({"delay": 9})
    graph_of_one = graph([{"id": "one", "type": "delay", "data": {"inputs": {"Duration": 0}}}])
    call_command("nodes", "show", "delay", "--json")
    assert json.loads(capsys.readouterr().out)["credits"] == 9
    workflow = make_workflow(graph_of_one)

    with pytest.raises(ActivationRefused, match="about 9 credits; the limit is 8"):
        workflow.activate()
    assert run_here(start_execution(workflow, by=alice).pk).credits == 9
