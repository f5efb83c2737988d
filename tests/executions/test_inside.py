"""The inside of an execution over the API: when nodes ran, which tasks ran them, what the state was, which files there are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from executions import store
from executions.models import Execution, NodeRun, Phase, WorkerLease
from executions.retry import retry_execution
from executions.triggers import start_execution
from recordings.finding import open_replayer
from recordings.models import Event, Recording
from recordings.packing import purge_rows, seal
from recordings.rows import iter_events
from tests.conftest import graph, node, wait_until_ended, wire
from tests.executions.edge_nodes import gives, run_here
from tests.executions.test_engine import transform

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(alice: Any) -> Client:
    found = Client()
    found.force_login(alice)
    return found


def ask(client: Client, execution: Any, what: str, **query: Any) -> Any:
    """Return the JSON of one of the addresses below an execution."""
    answer = client.get(f"/api/v1/executions/{execution.pk}/{what}", query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def seal_and_purge(execution: Any) -> None:
    """Leave nothing of the events of an execution but its sealed recording."""
    recording = Recording.objects.get(execution_id=execution.pk)
    seal(recording)
    recording.refresh_from_db()
    purge_rows(recording, 100_000)
    assert not Event.objects.filter(execution_id=execution.pk).exists()


def after(source: str, target: str) -> dict[str, Any]:
    return wire(source, "Done", target, "Execute Condition")


def wide(width: int) -> dict[str, Any]:
    """Return a workflow of one node, ``width`` nodes that wait for a moment, and a last one."""
    waits = [node(f"wait{number}", "delay", Duration=0.01) for number in range(width)]
    edges = [after("first", one["id"]) for one in waits] + [after(one["id"], "last") for one in waits]
    return graph([transform("first", a=1), *waits, transform("last", b=2)], *edges)


# ------------------------------------------------------------------ timeline


def test_the_timeline_has_every_node_and_the_chain_that_took_longest(client: Client, run: Any) -> None:
    nodes = [gives("a", 1), node("slow", "delay", Duration=0.3), node("fast", "delay", Duration=0.01), gives("end", 2)]
    execution = run(nodes, after("a", "slow"), after("a", "fast"), after("slow", "end"), after("fast", "end"))

    found = ask(client, execution, "timeline")

    bars = {bar["node_id"]: bar for bar in found["items"]}
    assert [bar["node_id"] for bar in found["items"]] == ["a", "slow", "fast", "end"]
    assert [bar["phase"] for bar in found["items"]] == [0, 1, 1, 2]
    for bar in found["items"]:
        assert 0 <= bar["queued_ms"] <= bar["started_ms"] <= bar["finished_ms"] <= found["now_ms"]
    assert bars["slow"]["finished_ms"] - bars["slow"]["started_ms"] >= 300
    assert [one["node_id"] for one in found["critical"]] == ["a", "slow", "end"]
    assert {name for name, bar in bars.items() if bar["critical"]} == {"a", "slow", "end"}
    assert found["critical_count"] == 3
    assert found["critical_ms"] == pytest.approx(sum(one["duration_ms"] for one in found["critical"]), abs=0.01)
    assert found["now_ms"] == found["finished_ms"] == pytest.approx(execution.duration_ms, abs=1)


def test_the_timeline_comes_in_pages(client: Client, run: Any) -> None:
    execution = run([gives(f"n{number}", number) for number in range(5)])

    pages = [ask(client, execution, "timeline", limit=2, offset=offset) for offset in (0, 2, 4, 6)]

    assert [[bar["node_id"] for bar in page["items"]] for page in pages] == [["n0", "n1"], ["n2", "n3"], ["n4"], []]
    assert {page["count"] for page in pages} == {5}


def test_a_failed_node_says_why_and_skipped_ones_have_no_times(client: Client, run: Any) -> None:
    nodes = [node("odd", "test_fails", Kind="nul"), gives("never", 1)]
    execution = run(nodes, after("odd", "never"))

    (bar,) = ask(client, execution, "timeline")["items"]

    assert (bar["node_id"], bar["status"]) == ("odd", "failed")
    assert bar["error"].startswith("page said")


def test_what_a_retry_took_over_has_no_times_and_is_not_on_the_path(client: Client, alice: Any, run: Any) -> None:
    nodes = [node("before", "delay", Duration=0.05), node("odd", "test_fails", Kind="nul")]
    failed = run(nodes, after("before", "odd"))
    again = run_here(retry_execution(failed, alice, from_failed=True).pk)

    found = ask(client, again, "timeline")
    celery = ask(client, again, "celery")

    bars = {bar["node_id"]: bar for bar in found["items"]}
    assert [bars["before"][key] for key in ("queued_ms", "started_ms", "finished_ms")] == [None] * 3
    assert [one["node_id"] for one in found["critical"]] == ["odd"]
    assert celery["items"][0]["tasks"][0]["way"] == "taken_over"


def test_a_timeline_of_an_execution_that_has_not_begun_is_empty(client: Client, alice: Any, make_workflow: Any) -> None:
    execution = start_execution(make_workflow(graph([gives("a", 1)])), by=alice)

    found = ask(client, execution, "timeline")

    assert (found["items"], found["count"], found["critical"]) == ([], 0, [])
    assert found["started_ms"] is found["finished_ms"] is None


@pytest.mark.postgres
def test_turns_of_a_loop_are_in_the_timeline_of_its_parent_with_a_bound(
    client: Client, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executions.timeline.TURNS_SHOWN", 3)
    nodes = [
        node("loop", "loop_items", {"label": "Each"}, Items=[1, 2, 3, 4, 5], Max_Concurrency=2),
        node("body", "delay", Duration=0.01),
    ]
    execution = run(nodes, wire("loop", "Each", "body", "Execute Condition"))

    with CaptureQueriesContext(connection) as queries:
        found = ask(client, execution, "timeline")

    assert [(turn["node_id"], turn["name"], turn["what"], turn["status"]) for turn in found["turns"]] == [
        ("loop", "Each", f"Turn {number}", "completed") for number in (1, 2, 3)
    ]
    assert (found["turn_count"], found["turns_ended"], found["turns_failed"]) == (5, 5, 0)
    children = {str(child.pk) for child in execution.children.all()}
    for turn in found["turns"]:
        assert turn["id"] in children
        assert 0 <= turn["queued_ms"] <= turn["started_ms"] <= turn["finished_ms"] <= found["now_ms"]
    assert len([query for query in queries if '"parent_id" = ' in query["sql"]]) == 2


# ------------------------------------------------------------------ tasks


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.postgres
def test_a_phase_of_several_headers_is_a_chord_whose_tasks_name_claim_and_worker(
    client: Client, alice: Any, make_workflow: Any, processes: Any
) -> None:
    worker = processes.worker()
    execution = wait_until_ended(start_execution(make_workflow(wide(20)), by=alice), 60, processes.logs)
    lease = WorkerLease.objects.get(pid=worker.pid)

    found = ask(client, execution, "celery")

    first, middle, last = found["items"]
    assert found["start"]["task"] == "executions.start"
    assert found["start"]["sent_ms"] >= 0
    assert (middle["header_count"], middle["message_count"], middle["node_count"]) == (3, 2, 20)
    assert middle["callback"] == {"task": "executions.advance", "phase": 2, "queue": "control", "done": True}
    assert sorted(task["way"] for task in middle["tasks"]) == ["kept", "message", "message"]
    assert len({task["claim"] for task in middle["tasks"]}) == 3
    assert (
        sum(task["node_count"] for task in middle["tasks"]) == sum(len(task["nodes"]) for task in middle["tasks"]) == 20
    )
    for task in middle["tasks"]:
        assert (task["worker"], task["worker_name"]) == (lease.boot, f"{lease.hostname}:{lease.pid}")
        assert (task["deliveries"], task["attempts"], task["failed"]) == (1, 1, 0)
        assert task["ended"] == task["node_count"]
        assert task["started_ms"] <= task["finished_ms"]
        assert (task["sent_ms"] is None) == (task["way"] == "kept")
    assert first["callback"] is last["callback"] is None


def test_phases_come_in_pages_and_what_nobody_took_yet_is_named(client: Client, alice: Any, make_workflow: Any) -> None:
    workflow = make_workflow(wide(3))
    execution = start_execution(workflow, by=alice)
    now = datetime.now(UTC)
    for index in range(3):
        Phase.objects.create(execution=execution, index=index, node_count=1, open=1, started_at=now, status="running")
        NodeRun.objects.create(
            execution=execution, phase_index=index, node_index=index, node_id=f"n{index}", node_type="delay",
            queue="default", dispatched_at=int(now.timestamp() * 1e6),
        )  # fmt: skip

    page = ask(client, execution, "celery", limit=1, offset=1)

    assert page["count"] == 3
    (phase,) = page["items"]
    (task,) = phase["tasks"]
    assert (phase["index"], phase["message_count"], task["way"], task["claim"]) == (1, 1, "message", None)
    assert (task["queue"], task["deliveries"], task["started_ms"]) == ("default", 0, None)
    assert [one["status"] for one in task["nodes"]] == ["queued"]


@pytest.mark.postgres
def test_a_kept_header_that_was_sent_again_after_a_death_is_no_further_message(
    client: Client, alice: Any, make_workflow: Any
) -> None:
    execution = start_execution(make_workflow(wide(3)), by=alice)
    now = datetime.now(UTC)
    Phase.objects.create(
        execution=execution, index=0, node_count=3, header_count=3, open=1, started_at=now, status="running"
    )
    for index, (dispatched, deliveries, status) in enumerate(
        [(0, 1, "running"), (9, 1, "completed"), (9, 1, "completed")]
    ):
        NodeRun.objects.create(
            execution=execution, phase_index=0, node_index=index, node_id=f"n{index}", node_type="delay", queue="default",
            status=status, dispatched_at=dispatched, deliveries=deliveries, claim=f"{index:032x}", worker=f"{index:032x}",
        )  # fmt: skip

    def header() -> Any:
        return ask(client, execution, "celery")["items"][0]

    before = header()
    assert (before["message_count"], before["sent_again"]) == (2, 0)
    store.committer.run(lambda tx: store.requeue_nodes(tx, execution.pk, [0], claims=["0" * 32]), execution.pk.hex)
    NodeRun.objects.filter(execution=execution, node_index=0).update(
        deliveries=2, claim="f" * 32, worker="f" * 32, status="completed"
    )

    after_death = header()

    assert (after_death["message_count"], after_death["sent_again"]) == (2, 1)
    assert [task["sent_again"] for task in after_death["tasks"]] == [True, False, False]
    assert after_death["callback"] == {**before["callback"], "done": False}


def test_workers_are_named_by_host_only_for_those_who_see_everything(bob: Any, make_workflow: Any) -> None:
    execution = start_execution(make_workflow(wide(1), owner=bob), by=bob)
    now = datetime.now(UTC)
    WorkerLease.objects.create(boot="b" * 32, hostname="secret-host", pid=1, started_at=now, beat_at=0)
    Phase.objects.create(execution=execution, index=0, node_count=1, open=0, started_at=now)
    NodeRun.objects.create(
        execution=execution, phase_index=0, node_index=0, node_id="first", node_type="test_gives", worker="b" * 32,
        claim="c" * 32, status="completed",
    )  # fmt: skip
    client = Client()
    client.force_login(bob)

    (task,) = ask(client, execution, "celery")["items"][0]["tasks"]

    assert (task["worker"], task["worker_name"]) == ("b" * 32, None)


# ------------------------------------------------------------------ state


def parts(found: Any) -> dict[str, dict[str, str]]:
    """Return the texts of each part of a state by key; what is there no more is left out."""
    return {
        part["name"]: {one["key"]: one["text"] for one in part["entries"] if one["change"] != "removed"}
        for part in found["parts"]
    }


def expected(state: dict[str, Any]) -> dict[str, dict[str, str]]:
    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    inside = {"nodes": "$nodes", "errors": "$errors", "nested": "$scopes"}
    values = {key: text(value) for key, value in state.items() if key not in inside.values()}
    return {"values": values} | {
        name: {key: text(value) for key, value in state.get(section, {}).items()} for name, section in inside.items()
    }


@pytest.mark.row("S0-29")
def test_the_state_after_every_event_is_that_of_the_replayer_from_rows_and_from_the_sealed_file(
    client: Client, run: Any
) -> None:
    nodes = [gives("a", {"x": 1}), gives("b", "two"), node("odd", "test_fails", Kind="nul")]
    execution = run(nodes, after("a", "b"), after("b", "odd"), input={"limit": 3})
    replayer = open_replayer(execution.pk)
    states = [replayer.get_state_at_position(place) for place in range(len(replayer.events))]
    kinds = [event.event_type.value for event in replayer.events]

    from_rows = [ask(client, execution, "state", seq=seq) for seq in range(1, len(states) + 1)]
    seal_and_purge(execution)
    from_sealed = [ask(client, execution, "state", seq=seq) for seq in range(1, len(states) + 1)]

    assert [parts(found) for found in from_rows] == [expected(state) for state in states]
    assert [found["event_type"] for found in from_rows] == kinds
    assert from_sealed == from_rows
    completed = next(found for found in from_rows if found["event_type"] == "node_complete")
    changes = {part["name"]: [(one["key"], one["change"]) for one in part["entries"]] for part in completed["parts"]}
    assert changes["values"][0] == ("Value", "added")
    assert changes["nodes"] == [("a", "added")]


def test_a_state_is_cut_to_what_a_page_can_show(client: Client, run: Any) -> None:
    execution = run([gives("a", "big"), *(gives(f"n{number}", number) for number in range(230))])
    last = iter_events(execution.pk)
    seq = max(event.seq for event in last if event.event_type.value == "node_complete")

    found = ask(client, execution, "state", seq=seq)

    nodes = next(part for part in found["parts"] if part["name"] == "nodes")
    assert nodes["count"] == 231
    assert len(nodes["entries"]) == 200
    assert nodes["entries"][0]["change"] == "added"
    assert all(len(one["text"]) < 2100 for part in found["parts"] for one in part["entries"])


@pytest.mark.parametrize(("seq", "status"), [("0", 422), ("-1", 422), ("99999", 404), ("2147483648", 422), ("x", 422)])
def test_an_event_that_is_not_there_is_404(client: Client, run: Any, seq: str, status: int) -> None:
    execution = run([gives("a", 1)])

    assert client.get(f"/api/v1/executions/{execution.pk}/state", {"seq": seq}).status_code == status


# ------------------------------------------------------------------ files


@pytest.mark.row("S2-45")
def test_files_come_in_pages_can_be_downloaded_and_outlive_the_rows(client: Client, run: Any) -> None:
    execution = run([node(f"n{number}", "test_keeps", Kind=f"text {number}") for number in range(3)])

    before = ask(client, execution, "artifacts")
    seal_and_purge(execution)
    page = ask(client, execution, "artifacts", limit=2, offset=1)

    assert before["count"] == page["count"] == 3
    assert page["items"] == before["items"][1:]
    assert sorted(one["node_id"] for one in before["items"]) == ["n0", "n1", "n2"]
    for one in before["items"]:
        answer: Any = client.get(one["url"])
        assert b"".join(answer.streaming_content) == f"text {one['node_id'][1:]}".encode()
        assert (one["kind"], one["name"], one["image"], one["size_bytes"]) == ("note", "note.txt", False, 6)
        assert answer["Content-Disposition"].startswith("attachment")


# ------------------------------------------------------------------ everybody


@pytest.mark.parametrize("what", ["timeline", "celery", "state?seq=1", "artifacts"])
def test_what_belongs_to_somebody_else_is_404(bob: Any, run: Any, what: str) -> None:
    execution = run([gives("a", 1)])
    stranger = Client()
    stranger.force_login(bob)

    assert stranger.get(f"/api/v1/executions/{execution.pk}/{what}").status_code == 404
    assert Client().get(f"/api/v1/executions/{execution.pk}/{what}").status_code == 401


def store_runs(workflow: Any, phases: int, width: int) -> Execution:
    """Store an execution that ended, with ``phases`` times ``width`` node runs."""
    now = datetime.now(UTC)
    execution: Execution = Execution.objects.create(
        workflow=workflow, version=workflow.version, owner=workflow.owner, trigger="manual", status="completed",
        node_count=phases * width, queued_at=now - timedelta(seconds=60), finished_at=now, started_at=now - timedelta(seconds=59),
    )  # fmt: skip
    Phase.objects.bulk_create(
        Phase(execution=execution, index=index, node_count=width, header_count=width, open=0, status="completed",
              started_at=now, finished_at=now)
        for index in range(phases)
    )  # fmt: skip
    NodeRun.objects.bulk_create(
        NodeRun(
            execution=execution, phase_index=index // width, node_index=index, node_id=f"n{index}", node_type="delay",
            status="completed", claim=f"{index:032x}", worker="w" * 32, queue="default", dispatched_at=1,
            started_at=now - timedelta(seconds=2), finished_at=now,
        )
        for index in range(phases * width)
    )  # fmt: skip
    return execution


@pytest.mark.parametrize(("what", "largest"), [("timeline", 120_000), ("celery", 700_000), ("artifacts", 1_000)])
def test_answers_about_ten_thousand_nodes_are_as_large_as_a_page_and_ask_the_database_as_often_as_for_few(
    client: Client, make_workflow: Any, large_definitions: None, what: str, largest: int
) -> None:
    few = store_runs(make_workflow(graph([node("n0", "delay", Duration=0)]), name="few"), 1, 1)
    nodes = [node(f"n{number}", "delay", Duration=0) for number in range(10_000)]
    many = store_runs(make_workflow(graph(nodes), name="many"), 20, 500)
    asked = []
    for execution in (few, many):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            answer = client.get(f"/api/v1/executions/{execution.pk}/{what}")
        asked.append(len(queries))

    assert len(answer.content) < largest
    assert asked[0] == asked[1]
