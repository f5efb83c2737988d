"""The executions part of the HTTP API: who may do what, pages, logs, starting and cancelling."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from executions import letters
from executions.models import Execution, NodeRun, Phase
from executions.triggers import start_execution
from recordings.models import Event, Recording
from recordings.packing import seal
from tests.conftest import graph, node, wire
from tests.executions.edge_nodes import run_here
from workflows import credentials, tokens
from workflows.definition import Definition
from workflows.models import AuditEntry

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.row("S1-31")]

EXECUTIONS = "/api/v1/executions"


@pytest.fixture
def as_alice(alice: Any) -> Client:
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def as_bob(bob: Any) -> Client:
    client = Client()
    client.force_login(bob)
    return client


@pytest.fixture
def delay(make_workflow: Any) -> Any:
    return make_workflow(graph([node("wait", "delay", Duration=0)]), name="Wait a little")


def post(client: Client, path: str, body: Any = None, **headers: str) -> Any:
    return client.post(path, json.dumps({} if body is None else body), content_type="application/json", headers=headers)


def stored(workflow: Any, *, minutes_ago: int = 0, status: str = "completed", owner: Any = None) -> Execution:
    """Store an execution that has ended, or is in ``status``."""
    queued = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    execution: Execution = Execution.objects.create(
        workflow=workflow,
        version=workflow.version,
        owner=owner or workflow.owner,
        trigger="manual",
        status=status,
        node_count=1,
        queued_at=queued,
        finished_at=queued + timedelta(seconds=2),
    )
    return execution


def started(workflow: Any) -> Any:
    """Start an execution of ``workflow`` and return its id."""
    return start_execution(workflow, by=workflow.owner).pk


def write_events(execution: Execution, *events: tuple[str, dict[str, Any]]) -> None:
    """Store events, numbered from 1."""
    now = time.time_ns() // 1000
    Event.objects.bulk_create(
        Event(execution_id=execution.pk, seq=seq, type=kind, timestamp=now, node_id="n", data=json.dumps(data))
        for seq, (kind, data) in enumerate(events, 1)
    )
    Execution.objects.filter(pk=execution.pk).update(seq=len(events))


# ------------------------------------------------------------------ start


def test_a_start_answers_202_and_the_execution_is_there(as_alice, delay):
    answer = post(as_alice, EXECUTIONS, {"workflow_id": str(delay.pk), "input": {"limit": 3}})

    assert answer.status_code == 202
    execution = Execution.objects.get(pk=answer.json()["execution_id"])
    assert (execution.trigger, json.loads(execution.input), execution.version) == ("api", {"limit": 3}, delay.version)
    assert as_alice.get(f"{EXECUTIONS}/{execution.pk}").json()["status"] == answer.json()["status"] == "queued"


def test_the_same_idempotency_key_answers_the_same_execution(as_alice, delay):
    body = {"workflow_id": str(delay.pk)}

    first = post(as_alice, EXECUTIONS, body, **{"Idempotency-Key": "order-1"})
    again = post(as_alice, EXECUTIONS, body, **{"Idempotency-Key": "order-1"})
    other = post(as_alice, EXECUTIONS, body, **{"Idempotency-Key": "order-2"})

    assert first.json()["execution_id"] == again.json()["execution_id"] != other.json()["execution_id"]
    assert Execution.objects.count() == 2


def test_a_known_idempotency_key_answers_its_execution_when_the_workflow_is_paused_since(as_alice, delay):
    body = {"workflow_id": str(delay.pk), "input": {"b": 1, "a": [1.5]}}
    first = post(as_alice, EXECUTIONS, body, **{"Idempotency-Key": "order-1"})
    delay.pause()
    reordered = {**body, "input": {"a": [1.5], "b": 1}}

    again = post(as_alice, EXECUTIONS, reordered, **{"Idempotency-Key": "order-1"})

    assert (again.status_code, again.json()["execution_id"]) == (202, first.json()["execution_id"])


@pytest.mark.parametrize("change", ["input", "workflow", "version"])
def test_a_known_idempotency_key_with_another_start_is_refused(as_alice, delay, make_workflow, change):
    body = {"workflow_id": str(delay.pk), "input": {"n": 1}}
    first = post(as_alice, EXECUTIONS, body, **{"Idempotency-Key": "order-1"}).json()["execution_id"]
    delay.save_version(graph([node("wait", "delay", Duration=1)]), author=delay.owner)
    other = make_workflow(graph([node("wait", "delay", Duration=0)]), name="other")
    changed: dict[str, dict[str, Any]] = {
        "input": {"input": {"n": 2}},
        "workflow": {"workflow_id": str(other.pk)},
        "version": {"version": 2},
    }

    refused = post(as_alice, EXECUTIONS, {**body, **changed[change]}, **{"Idempotency-Key": "order-1"})

    assert refused.status_code == 422
    assert f"execution {first} with another {change};" in refused.json()["detail"]
    assert Execution.objects.count() == 1


def by_api(client: Client, workflow: Any) -> Any:
    return post(client, EXECUTIONS, {"workflow_id": str(workflow.pk)})


def by_page(client: Client, workflow: Any) -> Any:
    return client.post(f"/admin/workflows/workflow/{workflow.pk}/run/")


@pytest.mark.parametrize("start", [by_api, by_page])
def test_a_workflow_uses_credentials_and_workflows_of_its_owner_whoever_starts_it(
    as_alice, as_bob, alice, bob, make_workflow, start
):
    credentials.save(alice, "smtp", "password", {"password": "of alice"})
    make_workflow(graph([node("a", "delay", Duration=0)]), name="inner", owner=alice)
    theirs = make_workflow(graph([node("a", "delay", Duration=0)]), name="inner", owner=bob)
    reads = graph([node("a", "merge_data", Data_1={"$credential": "smtp"}, Data_2={})])
    calls = make_workflow(graph([node("call", "subflow", Workflow="inner")]), name="calls", owner=bob)

    start(as_alice, make_workflow(reads, name="reads", owner=bob))
    read = run_here(Execution.objects.get(workflow__name="reads").pk)
    start(as_alice, calls)
    called = run_here(Execution.objects.get(workflow=calls).pk)

    assert (read.status, "smtp" in read.error) == ("failed", True), "alice's secret went into bob's workflow"
    assert (read.owner, read.started_by, called.status) == (bob, alice, "completed")
    child = Execution.objects.get(parent=called)
    assert (child.workflow, child.owner, child.started_by) == (theirs, bob, None)
    assert as_bob.get(f"{EXECUTIONS}/{read.pk}").status_code == 200
    page = as_bob.get(f"/admin/executions/execution/{read.pk}/change/").content.decode()
    assert "Started by" in page
    noted = AuditEntry.objects.filter(verb="start").values_list("owner", "actor", "object_id", "detail__execution")
    assert (bob.pk, alice.pk, str(calls.pk), str(called.pk)) in noted


def test_a_retry_uses_what_the_owner_of_the_workflow_has_now_and_is_for_who_may_start_it(
    as_alice, as_bob, alice, bob, make_workflow
):
    workflow = make_workflow(graph([node("a", "delay", Duration=0)]), owner=bob)
    execution = stored(workflow)
    again = post(as_alice, f"{EXECUTIONS}/{execution.pk}/retry").json()["execution_id"]
    assert Execution.objects.values_list("owner", "started_by").get(pk=again) == (bob.pk, alice.pk)

    workflow.owner = alice
    workflow.save()
    refused = post(as_bob, f"{EXECUTIONS}/{execution.pk}/retry")

    assert refused.status_code == 409
    assert "belongs to somebody else, and bob may not start it" in refused.json()["detail"]
    assert Execution.objects.count() == 2


def test_idempotency_keys_are_of_who_starts_and_not_of_who_owns(as_alice, as_bob, delay, bob, make_workflow):
    theirs = {"workflow_id": str(make_workflow(graph([node("a", "delay", Duration=0)]), owner=bob).pk)}
    keyed = {"Idempotency-Key": "order-1"}

    of_bob = post(as_bob, EXECUTIONS, {**theirs, "input": {"n": 1}}, **keyed)
    of_alice = [post(as_alice, EXECUTIONS, {**theirs, "input": {"n": 2}}, **keyed) for _ in range(2)]

    assert [answer.status_code for answer in (of_bob, *of_alice)] == [202, 202, 202]
    assert of_alice[0].json() == of_alice[1].json() != of_bob.json()
    assert post(as_alice, EXECUTIONS, {"workflow_id": str(delay.pk)}, **keyed).status_code == 422
    assert Execution.objects.count() == 2


def test_a_version_may_be_named_by_number_or_be_the_draft(as_alice, delay):
    delay.save_version(graph([node("wait", "delay", Duration=1)]), author=delay.owner)

    for wanted, number in ((None, 1), (1, 1), (2, 2), ("draft", 2)):
        answer = post(as_alice, EXECUTIONS, {"workflow_id": str(delay.pk), "version": wanted})
        assert as_alice.get(f"{EXECUTIONS}/{answer.json()['execution_id']}").json()["version"] == number


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"workflow_id": "nonsense"}, 422),
        ({"workflow_id": "00000000-0000-4000-8000-000000000000"}, 404),
        ({"workflow_id": "DELAY", "version": 99}, 404),
        ({"workflow_id": "DELAY", "version": "newest"}, 422),
        ({"workflow_id": "DELAY", "input": [1, 2]}, 422),
    ],
)
def test_a_bad_start_says_why_and_stores_nothing(as_alice, delay, body, status):
    if body.get("workflow_id") == "DELAY":
        body = {**body, "workflow_id": str(delay.pk)}

    answer = post(as_alice, EXECUTIONS, body)

    assert answer.status_code == status
    assert answer.json()["detail"]
    assert not Execution.objects.exists()


def test_a_paused_workflow_is_not_started(as_alice, delay):
    delay.pause()

    answer = post(as_alice, EXECUTIONS, {"workflow_id": str(delay.pk)})

    assert answer.status_code == 409
    assert "paused" in answer.json()["detail"]


def test_a_paused_workflow_is_run_by_hand_and_by_nothing_else(as_alice, delay):
    delay.pause()

    started = post(as_alice, EXECUTIONS, {"workflow_id": str(delay.pk), "trigger": "manual"})
    refused = post(as_alice, EXECUTIONS, {"workflow_id": str(delay.pk), "trigger": "api"})

    assert started.status_code == 202, started.json()
    assert Execution.objects.get().trigger == "manual"
    assert Execution.objects.get().version == delay.version
    assert refused.status_code == 409
    assert "run it by hand" in refused.json()["detail"]


def test_broken_json_is_400(as_alice):
    assert as_alice.post(EXECUTIONS, "{", content_type="application/json").status_code == 400


# ------------------------------------------------------------------ who


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", ""),
        ("post", ""),
        ("get", "/ID"),
        ("get", "/ID/logs"),
        ("post", "/ID/cancel"),
        ("post", "/ID/pause"),
        ("post", "/ID/resume"),
        ("post", "/ID/approvals/n"),
        ("post", "/ID/start-streaming"),
    ],
)
def test_nothing_without_a_login(delay, method, path):
    execution = stored(delay)
    answer = getattr(Client(), method)(EXECUTIONS + path.replace("ID", str(execution.pk)))
    assert answer.status_code in (401, 403)


@pytest.mark.parametrize("path", ["", "/logs"])
def test_a_foreign_execution_does_not_exist_for_bob(as_bob, delay, path):
    assert as_bob.get(f"{EXECUTIONS}/{stored(delay).pk}{path}").status_code == 404


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "start-streaming"])
def test_bob_cannot_act_on_a_foreign_execution(as_bob, delay, verb):
    execution = stored(delay, status="running")

    assert post(as_bob, f"{EXECUTIONS}/{execution.pk}/{verb}").status_code == 404

    execution.refresh_from_db()
    assert not execution.cancel_requested


def test_bob_cannot_start_a_foreign_workflow(as_bob, delay):
    assert post(as_bob, EXECUTIONS, {"workflow_id": str(delay.pk)}).status_code == 404


def test_a_list_holds_only_what_one_may_see(as_bob, as_alice, delay, bob):
    stored(delay)
    own = stored(delay, owner=bob)

    assert [item["id"] for item in as_bob.get(EXECUTIONS).json()["items"]] == [str(own.pk)]
    assert as_alice.get(EXECUTIONS).json()["count"] == 2


def test_a_post_needs_the_csrf_token(alice, delay):
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)

    assert post(client, EXECUTIONS, {"workflow_id": str(delay.pk)}).status_code == 403
    assert not Execution.objects.exists()


# ------------------------------------------------------------------ list and detail


def test_pages_are_newest_first_and_bounded(as_alice, delay):
    made = [stored(delay, minutes_ago=minutes) for minutes in range(5)]

    page = as_alice.get(EXECUTIONS, {"limit": 2, "offset": 1}).json()

    assert page["count"] == 5
    assert [item["id"] for item in page["items"]] == [str(made[1].pk), str(made[2].pk)]
    for bad in ({"limit": 0}, {"limit": 201}, {"offset": -1}, {"offset": 10**36}, {"status": "nonsense"}):
        assert as_alice.get(EXECUTIONS, bad).status_code == 422


def test_a_list_is_filtered_by_workflow_and_status(as_alice, delay, make_workflow):
    other = make_workflow(graph([node("wait", "delay", Duration=0)]), name="other")
    failed = stored(delay, status="failed")
    stored(delay)
    stored(other, status="failed")

    found = as_alice.get(EXECUTIONS, {"workflow_id": str(delay.pk), "status": "failed"}).json()

    assert [item["id"] for item in found["items"]] == [str(failed.pk)]
    assert found["count"] == 1


def test_a_list_calls_a_failed_node_what_people_call_it(as_alice, delay, make_workflow):
    named = {**node("wait", "delay", Duration=0), "data": {"label": "Have a rest", "inputs": {"Duration": 0}}}
    for workflow in (delay, make_workflow(graph([named]), name="named")):
        Execution.objects.filter(pk=stored(workflow, status="failed").pk).update(error_node="wait")
    stored(delay)

    items = as_alice.get(EXECUTIONS).json()["items"]

    assert {item["error_node_name"] for item in items} == {"Have a rest", "Delay", None}


def test_every_execution_comes_once_when_each_page_asks_for_those_before_its_last(as_alice, delay, bob, as_bob):
    same = datetime.now(UTC)
    made = {str(stored(delay, minutes_ago=minutes).pk) for minutes in range(3)}
    for _ in range(4):
        tie = stored(delay)
        Execution.objects.filter(pk=tie.pk).update(queued_at=same)
        made.add(str(tie.pk))

    seen: list[str] = []
    before: str | None = ""
    while before is not None:
        page = as_alice.get(EXECUTIONS, {"limit": 2} | ({"before": before} if before else {})).json()
        assert page["count"] == 7
        seen += [item["id"] for item in page["items"]]
        before = page["next"]

    assert len(seen) == 7
    assert set(seen) == made
    assert as_bob.get(EXECUTIONS, {"before": seen[0]}).status_code == 404


def test_the_number_of_queries_does_not_grow_with_the_page(as_alice, delay):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert as_alice.get(EXECUTIONS).status_code == 200
        return len(captured)

    stored(delay)
    queries()
    few = queries()
    for minutes in range(20):
        stored(delay, minutes_ago=minutes)

    assert queries() == few


def test_a_detail_has_phases_nodes_definition_and_recording(as_alice, delay):
    execution = stored(delay)
    now = execution.queued_at
    Phase.objects.create(
        execution=execution, index=0, status="completed", node_count=1, open=0, started_at=now,
        finished_at=now + timedelta(milliseconds=40),
    )  # fmt: skip
    NodeRun.objects.create(
        execution=execution, phase_index=0, node_index=0, node_id="wait", node_type="delay", status="completed",
        attempt=2, credits=1, started_at=now, finished_at=now + timedelta(milliseconds=30), cpu_seconds=0.25,
    )  # fmt: skip
    recording = Recording.objects.create(execution_id=execution.pk, workflow_name="x", started_at=now)

    found = as_alice.get(f"{EXECUTIONS}/{execution.pk}").json()

    assert found["phases"] == [{"index": 0, "status": "completed", "node_count": 1, "duration_ms": 40}]
    assert found["nodes"] == [
        {
            "node_id": "wait", "name": "Delay", "type": "delay", "status": "completed", "attempt": 2, "phase": 0,
            "iteration": 0, "duration_ms": 30, "error": None, "error_code": None, "credits": 1,
            "cpu_seconds": 0.25, "peak_memory_bytes": None,
        }
    ]  # fmt: skip
    assert found["definition"] == delay.version.definition
    assert found["recording_id"] == str(recording.pk)
    assert found["progress"] == {"done": 1, "total": 1, "percent": 100}
    assert (found["workflow_name"], found["version"], found["duration_ms"]) == ("Wait a little", 1, 2000)


@pytest.mark.parametrize("execution_id", ["00000000-0000-4000-8000-000000000000"])
def test_an_unknown_execution_is_404(as_alice, execution_id):
    assert as_alice.get(f"{EXECUTIONS}/{execution_id}").status_code == 404
    assert as_alice.get(f"{EXECUTIONS}/{execution_id}/logs").status_code == 404
    assert post(as_alice, f"{EXECUTIONS}/{execution_id}/cancel").status_code == 404


def test_phases_and_node_runs_are_listed_and_a_node_has_its_values(as_alice, as_bob, make_workflow):
    workflow = make_workflow(
        graph([node("make", "json_transform", Input_JSON={"a": 1}, Transform_Rules={"b": "$.a"})]), name="values"
    )
    execution = run_here(started(workflow))
    path = f"{EXECUTIONS}/{execution.pk}"

    phases = as_alice.get(f"{path}/phases").json()
    nodes = as_alice.get(f"{path}/nodes", {"status": "completed"}).json()
    value = as_alice.get(f"{path}/nodes/make").json()

    assert [(phase["index"], phase["status"]) for phase in phases] == [(0, "completed")]
    assert (nodes["count"], [run["node_id"] for run in nodes["items"]]) == (1, ["make"])
    assert as_alice.get(f"{path}/nodes", {"status": "failed"}).json() == {"items": [], "count": 0}
    assert value["inputs"]["Input JSON"] == {"a": 1}
    assert value["outputs"]["Result"] == {"b": 1}
    assert seal(Recording.objects.get(execution_id=execution.pk))
    Event.objects.filter(execution_id=execution.pk).delete()
    assert as_alice.get(f"{path}/nodes/make").json() == value
    assert as_alice.get(f"{path}/nodes/none").status_code == 404
    for part in ("phases", "nodes", "nodes/make"):
        assert as_bob.get(f"{path}/{part}").status_code == 404


def test_what_has_ended_is_started_again_with_its_version_and_input(as_alice, as_bob, delay):
    execution = stored(delay)
    Execution.objects.filter(pk=execution.pk).update(input='{"n": 3}')
    NodeRun.objects.create(
        execution=execution, phase_index=0, node_index=0, node_id="wait", node_type="delay", status="completed"
    )
    delay.save_version(graph([node("wait", "delay", Duration=1)]), author=delay.owner)
    delay.activate()

    assert post(as_bob, f"{EXECUTIONS}/{execution.pk}/retry").status_code == 404
    answer = post(as_alice, f"{EXECUTIONS}/{execution.pk}/retry")
    refused = post(as_alice, f"{EXECUTIONS}/{execution.pk}/retry", {"from_failed": True})
    running = post(as_alice, f"{EXECUTIONS}/{stored(delay, status='running').pk}/retry")

    new = Execution.objects.get(pk=answer.json()["execution_id"])
    assert (answer.status_code, new.version_id, json.loads(new.input)) == (202, execution.version_id, {"n": 3})
    assert (new.retry_of_id, new.trigger) == (execution.pk, "retry")
    assert as_alice.get(f"{EXECUTIONS}/{new.pk}").json()["retry_of_id"] == str(execution.pk)
    assert (refused.status_code, running.status_code) == (409, 409)
    assert "nothing failed" in refused.json()["detail"]
    assert "still running" in running.json()["detail"]


def test_a_retry_is_begun_once_by_a_key(as_alice, delay):
    first, other = (stored(delay, status="failed") for _ in range(2))
    again = f"{EXECUTIONS}/{first.pk}/retry"
    key = {"HTTP_IDEMPOTENCY_KEY": "k"}

    began = as_alice.post(again, {}, "application/json", **key)
    assert as_alice.post(again, {}, "application/json", **key).json() == began.json()
    elsewhere = as_alice.post(f"{EXECUTIONS}/{other.pk}/retry", {}, "application/json", **key)
    start = as_alice.post(EXECUTIONS, {"workflow_id": str(delay.pk)}, "application/json", **key)

    assert (began.status_code, elsewhere.status_code, start.status_code) == (202, 422, 422)
    assert Execution.objects.filter(retry_of=first).count() == Execution.objects.filter(trigger="retry").count() == 1


def test_a_key_that_began_a_retry_of_the_whole_does_not_answer_for_one_from_the_failure(as_alice, make_workflow):
    nodes = [node("a", "delay", Duration=0), node("b", "delay", Duration=0)]
    execution = stored(make_workflow(graph(nodes)), status="failed")
    at = datetime.now(UTC) - timedelta(minutes=1)
    for index, status in enumerate(("completed", "failed")):
        NodeRun.objects.create(
            execution=execution, phase_index=0, node_index=index, node_id="ab"[index], node_type="delay",
            status=status, deliveries=1, started_at=at, finished_at=at,
        )  # fmt: skip

    def ask(key, from_failed):
        body, path = {"from_failed": from_failed}, f"{EXECUTIONS}/{execution.pk}/retry"
        return as_alice.post(path, body, "application/json", HTTP_IDEMPOTENCY_KEY=key)

    for key, from_failed in (("whole", False), ("rest", True)):
        began = ask(key, from_failed)
        assert ask(key, from_failed).json() == began.json()
        assert (began.status_code, ask(key, not from_failed).status_code) == (202, 422)
    assert NodeRun.objects.filter(execution__retry_of=execution).count() == 1


# ------------------------------------------------------------------ dead letters and approvals


def test_dead_letters_are_listed_replayed_and_discarded_once(as_alice, as_bob, delay):
    execution = stored(delay, status="failed")
    letter = letters.keep("start", "the worker died", {"n": 1}, execution_id=execution.pk, deliveries=5)
    other = letters.keep("schedule", "late", {}, workflow_id=delay.pk)
    path = "/api/v1/dead-letters"

    page = as_alice.get(path, {"limit": 1}).json()
    assert (page["count"], page["items"][0]["id"], page["next"]) == (2, other.pk, other.pk)
    assert as_alice.get(path, {"before": page["next"]}).json()["items"][0]["error"] == "the worker died"
    assert as_alice.get(path, {"kind": "node"}).json()["items"] == []
    assert as_bob.get(path).json()["items"] == []
    assert as_bob.get(f"{path}/{letter.pk}").status_code == 404
    assert post(as_bob, f"{path}/{letter.pk}/replay").status_code == 404

    replayed = post(as_alice, f"{path}/{letter.pk}/replay")
    assert replayed.status_code == 202
    assert as_alice.get(f"{path}/{letter.pk}").json()["replayed_as"] == replayed.json()["execution_id"]
    assert post(as_alice, f"{path}/{letter.pk}/replay").status_code == 409
    assert post(as_alice, f"{path}/{other.pk}/discard").json()["status"] == "discarded"
    assert post(as_alice, f"{path}/{other.pk}/discard").status_code == 409
    assert as_alice.get(path).json()["items"] == []


def test_the_approvals_that_wait_for_somebody_are_listed(as_alice, as_bob, make_workflow):
    ask = node("ask", "approval", Title="Send it?", Message="To the customer.")
    execution = run_here(started(make_workflow(graph([ask]), name="asks")))

    [question] = as_alice.get("/api/v1/approvals").json()

    assert as_bob.get("/api/v1/approvals").json() == []
    assert (question["execution_id"], question["node_id"]) == (str(execution.pk), "ask")
    assert (question["title"], question["message"]) == ("Send it?", "To the customer.")
    answer = post(as_alice, f"{EXECUTIONS}/{execution.pk}/approvals/{question['node_id']}", {"approved": True})
    assert answer.status_code == 202
    assert as_alice.get("/api/v1/approvals").json() == []


# ------------------------------------------------------------------ logs


def test_logs_come_in_order_after_a_number_and_in_pages(as_alice, delay):
    execution = stored(delay)
    write_events(execution, *[("log", {"message": f"line {n}"}) for n in range(1, 8)])

    page = as_alice.get(f"{EXECUTIONS}/{execution.pk}/logs", {"after": 2, "limit": 3}).json()

    assert [(log["seq"], log["message"]) for log in page["logs"]] == [(3, "line 3"), (4, "line 4"), (5, "line 5")]
    assert (page["last_seq"], page["next_after"], page["status"]) == (7, 5, "completed")
    rest = as_alice.get(f"{EXECUTIONS}/{execution.pk}/logs", {"after": page["next_after"]}).json()
    assert [log["seq"] for log in rest["logs"]] == [6, 7]
    assert rest["next_after"] is None


def test_logs_are_filtered_by_step_level_and_error(as_alice, delay):
    execution = stored(delay)
    write_events(
        execution,
        ("node_start", {"name": "Log in", "node_type": "fill_input"}),
        ("log", {"name": "Log in", "message": "typing", "level": "warning"}),
        ("node_error", {"name": "Log in", "node_type": "fill_input", "error": "no such field"}),
        ("node_start", {"name": "Read", "node_type": "get_html"}),
    )

    def seqs(**filters: str) -> list[int]:
        page = as_alice.get(f"{EXECUTIONS}/{execution.pk}/logs", filters).json()
        return [log["seq"] for log in page["logs"]]

    assert seqs(step_type="fill") == [1, 3]
    assert seqs(step_name="log in") == [1, 2, 3]
    assert seqs(level="warning") == [2]
    assert seqs(errors="true") == [3]
    assert seqs(step_name="read", errors="true") == []


@pytest.mark.parametrize("bad", [{"limit": 0}, {"limit": 1001}, {"after": -1}, {"level": "loud"}])
def test_bad_log_filters_are_422(as_alice, delay, bad):
    assert as_alice.get(f"{EXECUTIONS}/{stored(delay).pk}/logs", bad).status_code == 422


# ------------------------------------------------------------------ cancel and stream


def test_cancelling_answers_202_and_the_wish_is_stored(as_alice, delay):
    execution_id = post(as_alice, EXECUTIONS, {"workflow_id": str(delay.pk)}).json()["execution_id"]

    answer = post(as_alice, f"{EXECUTIONS}/{execution_id}/cancel")

    assert answer.status_code == 202
    assert answer.json()["status"] == "cancelled"
    assert Execution.objects.get(pk=execution_id).cancel_requested


def test_what_has_ended_cannot_be_cancelled(as_alice, delay):
    answer = post(as_alice, f"{EXECUTIONS}/{stored(delay).pk}/cancel")

    assert answer.status_code == 409
    assert "completed" in answer.json()["detail"]


# ------------------------------------------------------------------ pause, resume, approvals, children


@pytest.fixture
def asking(alice, make_workflow):
    """Return an execution that waits for an approval."""
    nodes = [
        node("ask", "approval", {"label": "Ask the boss"}, Title="Ship it?", Message="Soon", Approvers="carol, bob")
    ]
    execution = run_here(start_execution(make_workflow(graph(nodes), name="Asks"), by=alice).pk)
    assert execution.status == "waiting", execution.error
    return execution


def test_pause_and_resume_answer_202_and_say_why_they_cannot(as_alice, delay):
    execution = stored(delay, status="running")
    url = f"{EXECUTIONS}/{execution.pk}"

    assert post(as_alice, f"{url}/resume").status_code == 409
    paused = post(as_alice, f"{url}/pause")
    assert (paused.status_code, paused.json()["status"]) == (202, "paused")
    again = post(as_alice, f"{url}/pause")
    assert (again.status_code, "is paused; only a running or waiting" in again.json()["detail"]) == (409, True)
    resumed = post(as_alice, f"{url}/resume")
    assert (resumed.status_code, resumed.json()["status"]) == (202, "running")


def test_what_is_waited_for_is_told_in_list_and_detail(as_alice, asking):
    detail = as_alice.get(f"{EXECUTIONS}/{asking.pk}").json()
    [wait] = detail["waiting"]

    assert detail["status"] == "waiting"
    assert (wait["node_id"], wait["name"], wait["kind"]) == ("ask", "Ask the boss", "approval")
    assert (wait["title"], wait["message"], wait["done"], wait["total"]) == ("Ship it?", "Soon", None, None)
    assert wait["since"] < wait["until"]
    assert Client().get(wait["link"]).status_code == 200
    assert as_alice.get(EXECUTIONS).json()["items"][0]["waiting"] == [wait]


def test_a_decision_is_taken_once(as_alice, asking):
    url = f"{EXECUTIONS}/{asking.pk}/approvals"

    assert post(as_alice, f"{url}/other", {"approved": True}).status_code == 409
    assert post(as_alice, f"{url}/ask", {"approved": "perhaps"}).status_code == 422
    assert post(as_alice, f"{url}/ask", {"approved": True, "comment": "\x00"}).status_code == 422
    assert post(as_alice, f"{url}/a%00b", {"approved": True}).status_code == 422
    assert post(as_alice, f"{url}/ask", {"approved": False, "comment": "no"}).status_code == 202
    late = post(as_alice, f"{url}/ask", {"approved": True})
    assert (late.status_code, "does not wait for an approval" in late.json()["detail"]) == (409, True)
    answer = json.loads(NodeRun.objects.get(execution=asking).resume)
    assert (answer["approved"], answer["comment"], answer["by"]) == (False, "no", "alice")


def test_approvers_decide_about_an_execution_that_they_do_not_see(as_bob, asking):
    assert as_bob.get(f"{EXECUTIONS}/{asking.pk}").status_code == 404

    assert post(as_bob, f"{EXECUTIONS}/{asking.pk}/approvals/ask", {"approved": True}).status_code == 202


def test_who_is_not_named_cannot_decide(asking, django_user_model):
    client = Client()
    client.force_login(django_user_model.objects.create_user("bo", is_staff=True))

    assert post(client, f"{EXECUTIONS}/{asking.pk}/approvals/ask", {"approved": True}).status_code == 404
    assert NodeRun.objects.get(execution=asking).status == "waiting"


@pytest.fixture
def observer(django_user_model: Any) -> Any:
    """Somebody who sees everything and changes their own."""
    user = django_user_model.objects.create_user("observer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="see_everything"))
    return user


def test_who_only_sees_an_approval_neither_decides_it_nor_gets_its_link(asking, observer, make_workflow):
    client = Client()
    client.force_login(observer)
    url = f"{EXECUTIONS}/{asking.pk}"

    assert post(client, f"{url}/approvals/ask", {"approved": True}).status_code == 403
    assert NodeRun.objects.get(execution=asking).status == "waiting"
    assert client.get(url).json()["waiting"][0]["link"] is None
    assert client.get(EXECUTIONS).json()["items"][0]["waiting"][0]["link"] is None
    assert client.get("/api/v1/approvals").json() == []
    assert "/approvals/" not in client.get("/admin/").content.decode()
    assert "/approvals/" not in client.get(f"{url}/logs").content.decode()

    ask = node("ask", "approval", Title="Ship it?", Approvers="bob, observer")
    named = run_here(started(make_workflow(graph([ask]), name="names")))
    assert client.get(f"{EXECUTIONS}/{named.pk}").json()["waiting"][0]["link"] is not None
    assert post(client, f"{EXECUTIONS}/{named.pk}/approvals/ask", {"approved": True}).status_code == 202


@pytest.mark.parametrize(("scope", "shown"), [("executions:read", False), ("executions:run", True)])
def test_a_token_gets_links_of_approvals_if_it_may_decide(alice, asking, scope, shown):
    headers = {"Authorization": f"Bearer {tokens.create(alice, 'program', [scope])[1]}"}

    found = [Client().get(path, headers=headers).json() for path in (EXECUTIONS, f"{EXECUTIONS}/{asking.pk}")]
    [question] = Client().get("/api/v1/approvals", headers=headers).json()

    links = [found[0]["items"][0]["waiting"][0]["link"], found[1]["waiting"][0]["link"], question["link"]]
    assert [link is not None for link in links] == [shown] * 3


def test_no_number_of_questions_of_others_hides_one_from_who_may_decide(
    asking, as_alice, make_workflow, django_user_model
):
    other = django_user_model.objects.create_user("other")
    juergen = django_user_model.objects.create_user("jürgen", is_staff=True)
    state = {"title": "jürgen", "message": "", "approvers": ["nobody"]}
    flood = make_workflow(graph([node("ask", "approval", Title="jürgen")]), name="flood", owner=other)
    for number in range(25):
        execution = stored(flood, status="waiting", minutes_ago=60 + number)
        NodeRun.objects.create(
            execution=execution, phase_index=0, node_index=0, node_id="ask", node_type="approval", status="waiting",
            wait_kind="approval", wait_state=json.dumps({"state": state}, ensure_ascii=False), started_at=execution.queued_at,
        )  # fmt: skip
    ask = node("ask", "approval", Title="Ship it?", Approvers="jürgen")
    run_here(started(make_workflow(graph([ask]), name="names", owner=other)))
    own = run_here(started(make_workflow(graph([ask]), name="own", owner=juergen)))
    client = Client()
    client.force_login(juergen)

    found = client.get("/api/v1/approvals").json()

    assert [question["workflow_name"] for question in found] == ["names", "own"]
    assert found[1]["execution_id"] == str(own.pk)
    of_alice = as_alice.get("/api/v1/approvals").json()
    assert (len(of_alice), of_alice[-1]["execution_id"]) == (21, str(asking.pk)), "who may change everything has all"


def test_children_are_listed_by_their_parent_only(as_alice, alice, make_workflow):
    nodes = [
        node("loop", "loop_items", Items=[1, 2, 3], Max_Concurrency=2),
        node("ask", "approval", Title="{{ item }}?"),
    ]
    definition = graph(nodes, wire("loop", "Each", "ask", "Execute Condition"))
    parent = run_here(start_execution(make_workflow(definition), by=alice).pk)
    count = lambda **query: as_alice.get(EXECUTIONS, query).json()["count"]  # noqa: E731

    assert (count(), count(children="true"), count(parent_id=str(parent.pk))) == (1, 3, 2)
    detail = as_alice.get(f"{EXECUTIONS}/{parent.pk}").json()
    [wait] = detail["waiting"]
    assert (wait["node_id"], wait["kind"], wait["done"], wait["total"]) == ("loop", "children", 0, 3)
    assert (detail["loops"], detail["scope"], detail["progress"]["total"]) == ({"ask": "loop"}, None, 1)
    child = as_alice.get(EXECUTIONS, {"parent_id": str(parent.pk)}).json()["items"][0]
    assert child["parent_id"] == str(parent.pk)
    assert as_alice.get(f"{EXECUTIONS}/{child['id']}").json()["scope"] == "loop"


def test_the_page_of_an_execution_does_not_parse_what_it_ran(as_alice, make_workflow, monkeypatch):
    """Of 10,000 nodes that took longer than all the rest."""
    parsed = []
    read = Definition.read

    def noted(data):
        parsed.append(data)
        return read(data)

    monkeypatch.setattr(Definition, "read", noted)
    labelled = node("labelled", "delay", Duration=0)
    labelled["data"]["label"] = "Waits"
    flat = stored(make_workflow(graph([labelled, node("plain", "delay", Duration=0)]), name="flat"))
    nodes = [node("loop", "loop_items", Items=[1]), node("inside", "delay", Duration=0)]
    looped = stored(make_workflow(graph(nodes, wire("loop", "Each", "inside", "Execute Condition")), name="looped"))
    as_alice.get(f"{EXECUTIONS}/{looped.pk}")  # which nodes are inside of loops is planned once
    parsed.clear()

    details = [as_alice.get(f"{EXECUTIONS}/{execution.pk}").json() for execution in (flat, looped)]

    assert parsed == []
    assert details[0]["node_names"] == {"labelled": "Waits", "plain": "Delay"}
    assert [detail["loops"] for detail in details] == [{}, {"inside": "loop"}]


@pytest.mark.row("S1-03")
def test_start_streaming_answers_where_to_watch(as_alice, delay):
    execution = stored(delay)
    write_events(execution, ("log", {"message": "hello"}))

    answer = post(as_alice, f"{EXECUTIONS}/{execution.pk}/start-streaming")

    assert answer.status_code == 202
    assert answer.json() == {"streaming": True, "socket": f"/ws/executions/{execution.pk}/logs"}


def test_a_body_that_is_called_a_form_and_is_none_is_400(as_alice):
    client = Client(enforce_csrf_checks=True)
    client.cookies = as_alice.cookies
    client.cookies["csrftoken"] = "a" * 32

    answer = client.post(EXECUTIONS, "{}", content_type="multipart/form-data; boundary=")

    assert answer.status_code == 400
