"""The page on which an approval is given by link."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from executions.approvals import link_token
from executions.models import Execution, NodeRun
from executions.triggers import cancel_execution, pause_execution, start_execution
from tests.admin.conftest import inline
from tests.conftest import graph, node, wire
from tests.executions.edge_nodes import run_here

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis, pytest.mark.row("S2-22")]

QUESTION = node(
    "ask", "approval", Title="Publish <b>3</b> articles?", Message="First line\n\nSecond line", Timeout=3600
)


@pytest.fixture
def waiting(alice: Any, make_workflow: Any) -> Execution:
    """Return an execution that waits for an approval."""
    definition = graph(
        [QUESTION, node("yes", "delay", Duration=0)], wire("ask", "Approved", "yes", "Execute Condition")
    )
    execution = run_here(start_execution(make_workflow(definition, name="Newsletter"), by=alice).pk)
    assert execution.status == "waiting", execution.error
    return execution


def address(execution: Execution) -> str:
    return f"/approvals/{link_token(execution.pk, 0)}"


def answer(execution: Execution, **data: str) -> Any:
    return Client().post(address(execution), data)


def stored_answer(execution: Execution) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(NodeRun.objects.get(execution=execution, node_id="ask").resume or "{}")
    return found


def test_anybody_with_the_link_sees_the_question_and_nothing_inline(waiting: Execution) -> None:
    shown = Client().get(address(waiting))
    html = shown.content.decode()

    assert shown.status_code == 200
    assert "no-store" in shown["Cache-Control"]
    assert "default-src 'self'" in shown["Content-Security-Policy"]
    assert (inline(html).scripts, inline(html).refused) == ([], [])
    for text in ("Publish &lt;b&gt;3&lt;/b&gt; articles?", "First line", "Newsletter", "alice", "Approve", "Reject"):
        assert text in html
    assert "/admin/executions" not in html


@pytest.mark.parametrize(("decision", "approved"), [("approve", True), ("reject", False)])
def test_the_answer_is_stored_once_with_its_comment(waiting: Execution, decision: str, approved: bool) -> None:
    first = answer(waiting, decision=decision, comment="as discussed")
    stored = stored_answer(waiting)

    assert (first.status_code, f"{decision.rstrip('e')}ed".capitalize() in first.content.decode()) == (200, True)
    assert (stored["approved"], stored["comment"], stored["by"]) == (approved, "as discussed", "link")

    again = answer(waiting, decision="reject" if approved else "approve")
    assert (again.status_code, "The first decision counts" in again.content.decode()) == (410, True)
    assert Client().get(address(waiting)).status_code == 410
    assert stored_answer(waiting) == stored


def test_a_person_who_is_logged_in_is_recorded_by_name(waiting: Execution, bob: Any) -> None:
    client = Client()
    client.force_login(bob)
    client.post(address(waiting), {"decision": "approve"})

    assert stored_answer(waiting)["by"] == bob.get_username()


def test_the_answer_needs_the_csrf_token_of_the_page(waiting: Execution) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post(address(waiting), {"decision": "approve"}).status_code == 403

    token = client.get(address(waiting)).content.decode().partition('csrfmiddlewaretoken" value="')[2].partition('"')[0]
    assert stored_answer(waiting) == {}
    body = {"decision": "approve", "csrfmiddlewaretoken": token}
    assert client.post(address(waiting), body).status_code == 200


@pytest.mark.parametrize("data", [{}, {"decision": "maybe"}, {"decision": "approve", "comment": "x" * 2001}])
def test_an_answer_that_makes_no_sense_is_400_and_the_question_stays(waiting: Execution, data: dict[str, str]) -> None:
    refused = answer(waiting, **data)

    assert (refused.status_code, "Approve" in refused.content.decode()) == (400, True)
    assert stored_answer(waiting) == {}


def test_a_link_that_we_did_not_sign_or_that_names_nothing_is_404(waiting: Execution) -> None:
    good = link_token(waiting.pk, 0)
    for token in ("nonsense", good[:-1], f"{good}x", link_token(waiting.pk, 7)):
        for shown in (
            Client().get(f"/approvals/{token}"),
            Client().post(f"/approvals/{token}", {"decision": "approve"}),
        ):
            assert (shown.status_code, "no such approval" in shown.content.decode()) == (404, True)
    assert stored_answer(waiting) == {}


def test_a_link_to_a_node_that_asks_nothing_decides_nothing(waiting: Execution) -> None:
    NodeRun.objects.filter(execution=waiting).update(wait_kind=NodeRun.TIMER)

    assert answer(waiting, decision="approve").status_code == 410
    assert NodeRun.objects.get(execution=waiting, node_id="ask").status == "waiting"


def test_nothing_can_be_decided_when_the_execution_has_ended(waiting: Execution) -> None:
    assert cancel_execution(waiting, by="alice")

    shown = Client().get(address(waiting))

    assert (shown.status_code, "No longer needed" in shown.content.decode()) == (410, True)


def test_a_late_visitor_reads_that_the_time_has_passed(waiting: Execution) -> None:
    NodeRun.objects.filter(execution=waiting).update(status="completed", resume='{"reason": "timer"}')

    shown = Client().get(address(waiting))

    assert (shown.status_code, "Too late" in shown.content.decode()) == (410, True)


def test_a_paused_execution_can_still_be_answered(waiting: Execution) -> None:
    assert pause_execution(waiting, by="alice")

    assert answer(waiting, decision="approve").status_code == 200


def test_other_methods_are_refused(waiting: Execution) -> None:
    assert Client().put(address(waiting)).status_code == 405
