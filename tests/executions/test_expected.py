"""How long nodes are likely to run, and progress by it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from executions import expected, report
from executions.models import Execution, NodeRun
from tests.conftest import graph, node, wire
from workflows.models import Workflow

pytestmark = [pytest.mark.django_db, pytest.mark.row("S1-26")]

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def workflow(make_workflow: Any) -> Workflow:
    made: Workflow = make_workflow(chain())
    return made


def chain() -> dict[str, Any]:
    """Four nodes, one after another."""
    wires = [wire(*pair) for pair in (("a", "Done", "b", "Execute Condition"), ("b", "Done", "c", "Execute Condition"),
             ("c", "Done", "d", "Execute Condition"))]  # fmt: skip
    return graph([node(name, "delay", Duration=1) for name in NAMES], *wires)


def stored(workflow: Workflow, status: str = "completed", ago: float = 0, **fields: Any) -> Execution:
    """Store an execution of ``workflow``, ended ``ago`` minutes ago if it has."""
    assert workflow.version is not None
    end = timezone.now() - timedelta(minutes=ago)
    ended = end if status in ("completed", "failed", "cancelled", "completed_with_errors") else None
    values = {"trigger": "api", "queued_at": end, "finished_at": ended, "node_count": len(NAMES)}
    values |= {"version": workflow.version, "status": status, **fields}
    return Execution.objects.create(workflow=workflow, owner=workflow.owner, **values)


def ended(execution: Execution, kind: str = "delay", status: str = "completed", **milliseconds: Any) -> Execution:
    """Store that nodes of ``execution`` ended after so many milliseconds."""
    now = timezone.now()
    NodeRun.objects.bulk_create(
        NodeRun(
            execution=execution, phase_index=NAMES.index(name), node_index=NAMES.index(name), node_id=name,
            node_type=kind, status=status, started_at=now, finished_at=now + timedelta(milliseconds=took),
        )
        for name, took in milliseconds.items()
    )  # fmt: skip
    return execution


def percent(execution: Execution) -> int | None:
    head = report.head(execution.pk)
    assert head is not None
    assert head.progress == {"done": head.done, "total": head.total, "percent": head.percent}
    return head.percent


def likely(workflow: Workflow, scope: str = "") -> dict[tuple[str, str], int]:
    return dict(expected.durations([(workflow.pk, scope)])[workflow.pk, scope])


def test_likely_is_the_middle_of_the_last_completed_runs(workflow: Workflow) -> None:
    for ago, took in enumerate((10, 900, 20)):
        ended(stored(workflow, ago=ago), a=took, b=0)
    for ago in range(expected.RUNS):
        ended(stored(workflow, ago=1000 + ago), a=5000)
    for status in ("failed", "cancelled", "completed_with_errors"):
        ended(stored(workflow, status), a=9000)
    ended(stored(workflow), status="failed", c=7000)

    # 16 of the 20 newest are old ones
    assert likely(workflow) == {("a", "delay"): 5000, ("b", "delay"): 1}


def test_three_runs_have_the_second_longest_for_their_middle(workflow: Workflow) -> None:
    for ago, took in enumerate((10, 900, 20)):
        ended(stored(workflow, ago=ago), a=took)

    assert likely(workflow) == {("a", "delay"): 20}


def test_turns_of_a_loop_are_measured_by_themselves(workflow: Workflow) -> None:
    parent = ended(stored(workflow), a=100)
    ended(stored(workflow, parent=parent, parent_node=0, child_index=0, scope="a"), b=50)

    assert likely(workflow) == {("a", "delay"): 100}
    assert likely(workflow, "a") == {("b", "delay"): 50}


def test_of_large_executions_fewer_are_read(workflow: Workflow) -> None:
    for ago in range(4):
        ended(stored(workflow, ago=ago, node_count=expected.ROWS // 2), a=10 if ago < 2 else 1000)
    ended(stored(workflow, ago=4), a=1000)

    with CaptureQueriesContext(connection) as queries:
        assert likely(workflow) == {("a", "delay"): 10}
    assert len(queries) <= 2


def test_progress_is_by_the_time_that_nodes_take_not_by_their_number(workflow: Workflow) -> None:
    ended(stored(workflow, ago=5), a=1000, b=7000, c=1000, d=1000)
    execution = stored(workflow, "running")

    assert percent(execution) == 0
    assert percent(ended(execution, a=1)) == 10
    assert percent(ended(execution, b=1)) == 80
    assert percent(ended(execution, c=1)) == 90
    assert percent(ended(execution, d=1)) == 99
    Execution.objects.filter(pk=execution.pk).update(status="completed", finished_at=timezone.now())
    assert percent(execution) == 100


def began(execution: Execution, name: str, seconds: float, status: str = "running", kind: str = "delay") -> Execution:
    """Store that a node of ``execution`` has run for so many seconds."""
    NodeRun.objects.create(
        execution=execution, phase_index=NAMES.index(name), node_index=NAMES.index(name), node_id=name, node_type=kind,
        status=status, started_at=timezone.now() - timedelta(seconds=seconds),
    )  # fmt: skip
    return execution


def test_a_node_that_runs_counts_what_it_has_taken_of_what_is_likely(workflow: Workflow) -> None:
    ended(stored(workflow), a=10_000_000, b=10_000_000, c=10_000_000, d=10_000_000)
    execution = began(stored(workflow, "running"), "a", 4_050)

    assert percent(execution) == 10

    NodeRun.objects.filter(execution=execution).update(started_at=timezone.now() - timedelta(seconds=8_050))
    assert percent(execution) == 20
    assert percent(began(execution, "b", 4_050, "waiting")) == 30
    assert percent(began(execution, "c", 4_050, "retrying")) == 30, "one that is tried again begins anew"


def test_a_node_that_runs_longer_than_ever_counts_nine_tenths(workflow: Workflow) -> None:
    ended(stored(workflow), a=1000, b=1000, c=1000, d=1000)
    execution = ended(stored(workflow, "running"), a=1, b=1, c=1)

    assert percent(began(execution, "d", 3600)) == 97
    NodeRun.objects.filter(execution=execution, node_id="d").update(started_at=timezone.now())
    assert percent(execution) == 97, "progress does not go back"


def test_a_node_of_which_nothing_is_likely_counts_when_it_has_ended(workflow: Workflow) -> None:
    never = began(stored(workflow, "running"), "a", 3600)
    assert percent(never) == 0

    ended(stored(workflow), b=1000, c=1000, d=1000)
    other = began(stored(workflow, "running"), "a", 3600)
    assert percent(other) == 0


def test_without_earlier_runs_every_node_counts_the_same(workflow: Workflow) -> None:
    execution = ended(stored(workflow, "running"), a=5)
    assert percent(execution) == 25

    ended(stored(workflow), a=1000, b=7000, c=1000, d=1000)
    ended(execution, b=5)
    assert percent(execution) == 50, "an execution is measured by one rule as long as it runs"


def test_a_node_that_never_ran_counts_as_much_as_the_mean_of_the_others(workflow: Workflow) -> None:
    ended(stored(workflow), a=100, b=300, c=200)
    execution = ended(stored(workflow, "running"), d=1)

    assert percent(execution) == 25


def test_a_node_of_another_type_is_another_node(workflow: Workflow) -> None:
    ended(stored(workflow), kind="wait", a=1, b=9000)
    execution = ended(stored(workflow, "running"), a=1)

    assert percent(execution) == 25
    assert report.expected_ms(execution) == {}


def test_progress_does_not_go_back_when_other_runs_change_what_is_likely(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(stored(workflow), a=7000, b=1000, c=1000, d=1000)
    execution = ended(stored(workflow, "running"), a=1)
    assert percent(execution) == 70

    for _ in range(3):
        ended(stored(workflow), a=10, b=9000, c=9000, d=9000)
    later = ended(stored(workflow, "running"), a=1)
    assert percent(later) == 70, "kept for a minute"
    monkeypatch.setattr(expected, "_lately", expected._Kept(60))
    later = ended(stored(workflow, "running"), a=1)
    assert percent(later) == 0
    ended(execution, b=1)
    assert percent(execution) == 80


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("queued", 0),
        ("paused", 25),
        ("waiting", 25),
        ("failed", None),
        ("cancelled", None),
        ("completed_with_errors", 100),
    ],
)
def test_100_is_the_end_and_what_failed_has_no_percent(workflow: Workflow, status: str, shown: int | None) -> None:
    execution = stored(workflow, status)
    if shown != 0:
        ended(execution, a=1)

    assert percent(execution) == shown


def test_an_execution_of_very_many_nodes_counts_them(workflow: Workflow) -> None:
    ended(stored(workflow), a=1000, b=7000, c=1000, d=1000)
    execution = ended(stored(workflow, "running", node_count=expected.WEIGHED_NODES + 1), a=1, b=1)

    with CaptureQueriesContext(connection) as queries:
        assert percent(execution) == 0
    assert len(queries) == 1


def test_an_execution_whose_version_cannot_be_planned_counts_its_nodes(workflow: Workflow) -> None:
    ended(stored(workflow), a=1000, b=7000)
    odd = chain()
    odd["nodes"][0]["type"] = "gone"
    assert workflow.version is not None
    version = workflow.versions.create(number=7, definition=odd)
    execution = ended(stored(workflow, "running", version=version), a=1)

    assert percent(execution) == 25


def test_many_executions_take_few_queries_and_two_when_nothing_moved(make_workflow: Callable[..., Any]) -> None:
    running = []
    for number in range(30):
        workflow = make_workflow(chain(), name=f"number {number}")
        ended(stored(workflow), a=8000, b=1000, c=500, d=500)
        running.append(ended(stored(workflow, "running"), a=1))

    with CaptureQueriesContext(connection) as first:
        heads = report.heads([execution.pk for execution in running])
    with CaptureQueriesContext(connection) as second:
        again = report.heads([execution.pk for execution in running])

    assert {head.percent for head in heads.values()} == {80}
    assert again == heads
    assert (len(first), len(second)) == (5, 2)


def test_a_process_remembers_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "MOST", 3)
    kept = expected._Kept[int, str](60)
    for number in range(3):
        kept.put(number, str(number))
    assert kept.get(0) == "0"
    kept.put(3, "3")

    assert [kept.get(number) for number in range(4)] == ["0", None, "2", "3"]
    stale = expected._Kept[int, str](0)
    stale.put(1, "1")
    assert stale.get(1) is None


def test_the_api_says_percent_and_how_long_each_node_is_likely_to_take(client: Any, workflow: Workflow) -> None:
    ended(stored(workflow), a=1000, b=7000, c=1000)
    execution = ended(stored(workflow, "running"), a=1, b=1)
    client.force_login(workflow.owner)

    found = client.get(f"/api/v1/executions/{execution.pk}").json()
    listed = client.get("/api/v1/executions", {"status": "running"}).json()["items"]

    assert found["expected_ms"] == {"a": 1000, "b": 7000, "c": 1000}
    assert found["progress"] == {"done": 2, "total": 4, "percent": 66}
    assert [item["progress"] for item in listed] == [found["progress"]]


@pytest.mark.django_db(transaction=True)
def test_what_ran_is_what_is_likely(run: Callable[..., Any]) -> None:
    first = run(
        [
            node("pause", "delay", Duration=0.2),
            node("end", "json_transform", Input_JSON={}, Transform_Rules={"a": {"value": 1}}),
        ]
    )
    assert first.status == "completed", first.error

    likely = report.expected_ms(first)

    assert set(likely) == {"pause", "end"}
    assert likely["pause"] >= 200
    assert likely["end"] >= 1
