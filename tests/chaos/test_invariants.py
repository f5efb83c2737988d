"""The invariant checker finds what it is there to find, and nothing in a sound run; the sink tells repeats."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest

from executions.models import Execution, NodeRun, Phase, WorkerLease
from executions.triggers import start_execution
from recordings.models import Event, Recording
from tests.chaos.invariants import (
    Accepted,
    check_all,
    credits_charged_once,
    nothing_left_behind,
    recordings_tell_the_same,
)
from tests.chaos.sink import running_sink
from tests.conftest import graph, node, wait_for, wire
from tests.executions.edge_nodes import run_here
from tests.executions.test_engine import transform
from workflows import credits
from workflows.models import CreditEntry

pytestmark = [pytest.mark.redis]


@pytest.fixture
def sink(tmp_path):
    with running_sink(tmp_path / "ledger.jsonl") as running:
        yield running


@pytest.fixture
def ended(transactional_db, alice, make_workflow, sink):
    """An execution that computed something, delivered it, and tolerated a failure."""
    deliver = node("deliver", "deliver_to_webhook", Webhook_URL=f"{sink.url}/effect", Payload="{{ nodes.one.a }}")
    deliver["data"]["inputs"]["Payload"] = {"a": 1}
    refused = node(
        "refused",
        "deliver_to_webhook",
        {"on_error": "continue"},
        Webhook_URL=f"{sink.url}/effect?status=400",
        Payload="x",
    )
    workflow = make_workflow(
        graph([transform("one", a=1), deliver, refused], wire("one", "Done", "deliver", "Execute Condition"))
    )
    started = start_execution(workflow, by=alice, idempotency_key="key", input={"n": 1})
    execution = run_here(started.pk)
    assert execution.status == "completed_with_errors", execution.error
    return execution


def findings(sink, *accepted):
    return check_all(sink.ledger, accepted)


def test_a_sound_run_has_no_findings(ended, sink, tmp_path):
    assert findings(sink, Accepted("key", execution_id=ended.pk)) == []
    assert list(recordings_tell_the_same(Execution.objects.all(), sealed=True)) == []
    assert findings(sink) == []
    assert list(nothing_left_behind(tmp_path / "data")) == []


DAMAGE = {
    "an execution that is still open": (2, lambda e: Execution.objects.update(status="running", finished_at=None)),
    "an effect that was never accepted": (3, lambda e: NodeRun.objects.filter(node_id="refused").update(status="completed")),
    "a write that never ran": (3, lambda e: Event.objects.filter(node_id="deliver", type="node_start").delete()),
    "an effect of a skipped node": (3, lambda e: NodeRun.objects.filter(node_id="deliver").update(status="skipped")),
    "a number that is missing": (4, lambda e: Event.objects.filter(seq=3).delete()),
    "an end that comes twice": (4, lambda e: _again(e, "node_complete")),
    "a start after the end": (4, lambda e: _again(e, "node_start")),
    "an event after the last": (4, lambda e: _append(e, "log")),
    "a row that says something else": (4, lambda e: NodeRun.objects.filter(node_id="one").update(status="failed")),
    "a phase that lost count": (4, lambda e: Phase.objects.filter(index=0).update(open=1)),
    "a phase that was opened twice": (4, lambda e: _again(e, "phase_start")),
    "a snapshot that is missing": (4, lambda e: Event.objects.filter(type="state_snapshot").update(type="log")),
    "a snapshot of other nodes": (4, lambda e: Event.objects.filter(type="state_snapshot").update(
        data='{"phase": 0, "nodes": []}')),
    "a last event that says something else": (4, lambda e: Execution.objects.update(status="completed")),
    "a recording that is missing": (5, lambda e: Recording.objects.all().delete()),
    "a recording of another end": (5, lambda e: Recording.objects.update(status="failed")),
    "outputs that were changed": (5, lambda e: NodeRun.objects.filter(node_id="one").update(outputs='{"other": 1}')
                                  and Event.objects.filter(node_id="one", type="node_complete").update(data='{"outputs": {}}')),
    "a lease of a dead worker": (7, lambda e: WorkerLease.objects.create(
        boot="f" * 32, hostname="h", pid=1, started_at=datetime.now(UTC), beat_at=0)),
    "a node held by a dead worker": (7, lambda e: NodeRun.objects.filter(node_id="one").update(
        status="running", claim="c", worker="f" * 32)),
    "credits that were charged twice": (8, lambda e: Execution.objects.update(credits=e.credits * 2)),
}  # fmt: skip


def _append(execution, kind, node_id="", data="{}"):
    execution.refresh_from_db()
    Event.objects.create(
        execution_id=execution.pk, seq=execution.seq + 1, type=kind, timestamp=0, node_id=node_id, data=data
    )
    Execution.objects.update(seq=execution.seq + 1)


def _again(execution, kind):
    event = Event.objects.filter(type=kind).earliest("seq")
    _append(execution, kind, event.node_id, event.data)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(ended, sink, damage):
    number, do = DAMAGE[damage]
    do(ended)

    assert number in {finding.invariant for finding in findings(sink)}


def test_a_trigger_without_execution_and_one_with_another_are_found(ended, sink):
    found = findings(sink, Accepted("lost"), Accepted("key", execution_id=ended.version_id))

    assert [(finding.invariant, finding.id) for finding in found] == [(1, "lost"), (1, "key")]


def test_effects_without_a_node_run_and_repeats_that_differ_are_found(ended, sink):
    post(sink, "nobody", "x")
    post(sink, f"{ended.pk}:deliver:0", "something else")

    assert [finding.what.partition(":")[0] for finding in findings(sink)] == [
        "repeats differ", "an effect that belongs to no node run",
    ]  # fmt: skip


def test_a_process_of_the_installation_that_lives_on_is_found(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()", str(tmp_path)], stdin=subprocess.PIPE) as process:
        wait_for(lambda: list(nothing_left_behind(tmp_path)), 10, "the process")
        assert [finding.id for finding in nothing_left_behind(tmp_path)] == [str(process.pid)]
        assert list(nothing_left_behind(tmp_path, ours=[process.pid])) == []
        process.kill()
    (tmp_path / "browsers" / "fb-x").mkdir(parents=True)

    assert [finding.id for finding in nothing_left_behind(tmp_path)] == ["fb-x"]


def post(sink, key, body, query=""):
    request = urllib.request.Request(
        f"{sink.url}/effect{query}", data=body.encode(), headers={"Idempotency-Key": key}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["ok"]
    except urllib.error.HTTPError as error:
        return error.code


def test_the_sink_accepts_a_key_once_and_refuses_as_often_as_it_is_told(sink):
    assert [post(sink, "a", "1"), post(sink, "a", "1")] == [True, True]
    assert [post(sink, "b", "1", "?refuse=2") for _ in range(4)] == [503, 503, True, True]
    assert post(sink, "c", "1", "?status=500") == 500

    assert sink.ledger.accepted() == {"a": 1, "b": 1}
    assert sink.ledger.repeats() == 2


def test_half_a_request_is_no_arrival(sink):
    with socket.create_connection(("127.0.0.1", int(sink.url.rpartition(":")[2]))) as client:
        client.sendall(b"POST /effect HTTP/1.1\r\nIdempotency-Key: a\r\nContent-Length: 10\r\n\r\nhalf")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b""

    assert sink.ledger.arrivals() == []


def test_the_ledger_survives_a_kill_in_the_middle_of_a_line(sink):
    post(sink, "a", "1")
    with sink.ledger.path.open("a") as file:
        file.write('{"key": "b", "resu')
    sink.stop()

    with running_sink(sink.ledger.path) as again:
        assert post(again, "a", "1") is True
        assert [(arrival.key, arrival.result) for arrival in again.ledger.arrivals()] == [
            ("a", "accepted"), ("a", "repeated"),
        ]  # fmt: skip


@pytest.mark.parametrize("kind", ["reserve", "charge", "refund"])
def test_an_execution_that_was_settled_twice_or_not_at_all_is_found(transactional_db, alice, make_workflow, kind):
    credits.grant(alice, 10)
    pick = node("pick", "branch", Left_Value="1", Right_Value="1")
    skipping = graph([pick, transform("two", a=1)], wire("pick", "False Path", "two", "Execute Condition"))
    execution = run_here(start_execution(make_workflow(skipping), by=alice).pk)
    everything = Execution.objects.all()
    assert list(credits_charged_once(everything)) == []

    CreditEntry.objects.create(owner=alice, kind=kind, amount=2, available_after=0, execution_id=execution.pk)
    assert [finding.invariant for finding in credits_charged_once(everything)] == [8]
    CreditEntry.objects.filter(kind=kind).delete()
    assert [finding.invariant for finding in credits_charged_once(everything)] == [8]
