"""Nodes that take over results which were computed before."""

from __future__ import annotations

import itertools
import json
import re
import time
from typing import Any

import pytest
import redis

from executions import report, reuse
from executions.events import load_events
from executions.local import execute_sync
from executions.models import NodeRun
from executions.nodes.base import Environment, NodeCall
from executions.triggers import start_execution
from tests.conftest import flush_redis, graph, node, wire
from tests.executions.edge_nodes import EdgeNode, gives, run_here
from workflows import credentials
from workflows.definition import Definition
from workflows.registry import Effect
from workflows.validation import validate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis, pytest.mark.row("S2-50")]

ran: list[Any] = []


class Counts(EdgeNode, type="test_counts"):
    """Say how often such nodes ran."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return the number of runs, and set a variable."""
        ran.append(node.inputs["Kind"])
        env.set_variable("last", len(ran))
        return {"Value": [len(ran), node.inputs["Kind"]]}


class Sends(Counts, type="test_sends"):
    """The same, but with an effect that its input decides."""

    def effect(self, node: NodeCall) -> Effect:
        """Return what a run changes."""
        return "read" if node.inputs["Kind"] == "GET" else "write"


class Tags(EdgeNode, type="test_tags_with"):
    """Tag the recording."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Tag it with the input."""
        env.tag(node.inputs["Kind"])
        return {}


@pytest.fixture(autouse=True)
def nothing_ran(monkeypatch):
    monkeypatch.setattr(reuse, "REDIS_SECONDS", 30)  # a node whose results are not found in time runs
    reuse._client.cache_clear()
    ran.clear()
    flush_redis()


@pytest.fixture
def run(run):
    """Run a workflow of its own in this process."""
    numbers = itertools.count()
    return lambda nodes, *edges: run(nodes, *edges, name=f"workflow {next(numbers)}")


def counts(value: Any, seconds: float = 60, node_type: str = "test_counts") -> dict[str, Any]:
    return node("count", node_type, {"cache_ttl_s": seconds}, Kind=value)


def result(execution: Any) -> Any:
    assert execution.status == "completed", execution.error
    return json.loads(NodeRun.objects.get(execution=execution, node_id="count").outputs)["Value"]


def test_a_second_run_takes_over_the_result_for_no_credits_and_says_so(run):
    first, second = run([counts(1)]), run([counts(1)])

    assert result(first) == result(second) == [1, 1]
    assert (first.credits, second.credits) == (1, 0)
    events = load_events(second.pk)
    (said,) = [event.data["message"] for event in events if event.event_type.value == "log"]
    assert re.fullmatch(r"took over the result of \d+ s ago; 0 credits", said)
    (complete,) = [event for event in events if event.event_type.value == "node_complete"]
    assert (complete.data["cached"], complete.data["credits"], complete.data["outputs"]["Value"]) == (True, 0, [1, 1])
    assert not any("cached" in event.data for event in load_events(first.pk))
    assert report.result(second)["credits"] == 0
    assert json.loads(second.variables) == {"last": 1}


def test_without_the_setting_every_run_computes(run):
    plain = node("count", "test_counts", Kind=1)

    assert [result(run([plain])) for _ in range(2)] == [[1, 1], [2, 1]]


def test_other_inputs_owners_variables_and_code_compute_again(run, bob, make_workflow, settings, monkeypatch):
    assert result(run([counts(1)])) == [1, 1]
    assert result(run([counts(2)])) == [2, 2]
    theirs = make_workflow(graph([counts(1)]), owner=bob)
    assert result(run_here(start_execution(theirs, by=bob).pk)) == [3, 1]
    settings.WORKFLOW_VARS = {"rate": 2}
    assert result(run([counts(1)])) == [4, 1]
    settings.WORKFLOW_VARS = {}
    monkeypatch.setattr(reuse, "_code_of", lambda node_type: "changed")
    assert result(run([counts(1)])) == [5, 1]
    monkeypatch.undo()
    assert result(run([counts(1)])) == [1, 1]


def test_tags_of_the_recording_are_no_variables_on_which_a_result_depends(run):
    for order in ("order 1", "order 2"):
        tags = node("tags", "test_tags_with", Kind=order)
        assert result(run([tags, counts(1)], wire("tags", "Done", "count", "Execute Condition"))) == [1, 1]


def test_a_result_is_forgotten_when_its_time_is_over(run):
    assert result(run([counts(1, 0.2)])) == [1, 1]
    until = time.monotonic() + 5
    while result(run([counts(1, 0.2)])) == [1, 1]:
        assert time.monotonic() < until, "the result is kept for ever"
    assert len(ran) == 2


def test_what_a_run_changes_outside_is_never_skipped(run):
    assert [result(run([counts(method, node_type="test_sends")])) for method in ("POST", "POST", "GET", "GET")] == [
        [1, "POST"], [2, "POST"], [3, "GET"], [3, "GET"],
    ]  # fmt: skip


def test_a_phase_ends_with_results_taken_over_and_computed(run):
    run([counts(1)])
    both = [
        counts(1),
        node("other", "test_counts", Kind=7),
        gives("end", "{{ nodes.count.Value[1] }} {{ nodes.other.Value[1] }}"),
    ]
    into = "Execute Condition"

    execution = run(both, wire("count", "Done", "end", into), wire("other", "Done", "end", into))

    assert (execution.status, execution.credits, ran) == ("completed", 2, [1, 7]), execution.error
    assert json.loads(NodeRun.objects.get(execution=execution, node_id="end").outputs)["Value"] == "1 7"


def test_an_execution_takes_over_what_a_run_of_python_computed(run, alice, make_workflow):
    local = execute_sync(make_workflow(graph([counts(1)]), name="local"))

    assert (local.status, local.credits) == ("completed", 1)
    assert result(run([counts(1)])) == [1, 1]
    again = execute_sync(make_workflow(graph([counts(1)]), name="local again"))
    assert (again.status, again.credits, again.outputs["count"]["Value"]) == ("completed", 0, [1, 1])


def test_results_that_are_kept_hold_no_secret(run, alice, settings):
    credentials.save(alice, "shop", "password", {"password": "open-sesame"})
    secret = {"$credential": "shop", "field": "password"}

    first, second = result(run([counts(secret)])), result(run([counts(secret)]))

    assert first == second
    assert len(ran) == 1
    client = redis.Redis.from_url(settings.REDIS_URL)
    (kept,) = client.scan_iter(f"{reuse.PREFIX}*")
    assert "open-sesame" not in str(client.get(kept))
    credentials.save(alice, "shop", "password", {"password": "changed"})
    run([counts(secret)])
    assert ran == ["open-sesame", "changed"]


def test_without_redis_the_nodes_run(run, settings, monkeypatch):
    run([counts(1)])
    unreachable = redis.Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=1, retry=None)
    monkeypatch.setattr(reuse, "_client", lambda: unreachable)

    assert result(run([counts(1)])) == [2, 1]


@pytest.mark.usefixtures("large_definitions")
def test_a_large_result_is_not_kept(run):
    for _ in range(2):
        assert run([counts("x" * (reuse.LARGEST_BYTES + 1))]).status == "completed"
    assert len(ran) == 2


@pytest.mark.parametrize(
    ("node_type", "finds"),
    [
        ("test_counts", False),
        ("http_request", False),
        ("deliver_to_webhook", True),
        ("click_element", True),
        ("delay", True),
    ],
)
def test_the_setting_on_a_type_that_acts_each_time_is_a_warning(node_type, finds):
    definition = Definition.from_json({"name": "x", **graph([counts(1, node_type=node_type)])})

    found = [finding for finding in validate(definition) if finding.code == "CACHE_NEVER"]

    assert [(finding.node_id, finding.field, finding.severity) for finding in found] == (
        [("count", "cache_ttl_s", "warning")] if finds else []
    )
