"""Loops, subflows, joins, switches, error paths, approvals and delays, run message by message on both databases."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from uuid import UUID, uuid4

import pytest

from executions import engine, reconcile, report, store, tasks, waits
from executions.approvals import link_token, read_token
from executions.models import Execution, NodeRun
from executions.opening import Dispatch
from executions.store import database_now_us
from executions.triggers import decide_approval, pause_execution, resume_execution, start_execution
from recordings.models import Event, Recording
from recordings.rows import iter_events
from tests.conftest import graph, node, outputs, statuses, wire
from tests.executions import edge_nodes, worker_app
from tests.executions.edge_nodes import gives, run_here

pytestmark = [pytest.mark.redis, pytest.mark.postgres]
NODE_TYPES = (worker_app, edge_nodes)  # importing them registers their node types


@pytest.fixture(autouse=True)
def database(transactional_db):
    """Commit for real, as the engine does."""


def events(execution, *kinds):
    return list(
        Event.objects.filter(execution_id=execution.pk, type__in=kinds).order_by("seq").values_list("node_id", "type")
    )


def data_of(execution, kind):
    rows = Event.objects.filter(execution_id=execution.pk, type=kind).order_by("seq")
    return [json.loads(event.data) for event in rows]


# --------------------------------------------------------------------------- loops


def loop(node_id="loop", **inputs):
    return node(node_id, "loop_items", **inputs)


def body(*names):
    """Nodes that give the item and its index back."""
    return [gives(name, {"item": "{{ item }}", "index": "{{ index }}"}) for name in names]


@pytest.mark.row("S2-22")
def test_a_loop_runs_its_body_once_per_item_and_collects_what_it_gives(run):
    execution = run(
        [gives("before", "outside"), loop(Items=["a", "b", "c"]), gives("body", "{{ item }}-{{ index }}-{{ nodes.before.Value }}"),
         gives("after", "{{ nodes.loop.Results }}")],
        wire("loop", "Each", "body", "Execute Condition"), wire("body", "Value", "loop", "Result"),
    )  # fmt: skip

    assert execution.status == "completed", execution.error
    assert statuses(execution) == {"before": "completed", "loop": "completed", "after": "completed"}
    assert outputs(execution, "after")["Value"] == ["a-0-outside", "b-1-outside", "c-2-outside"]
    children = list(execution.children.order_by("child_index"))
    assert [(child.status, child.scope, child.depth, statuses(child)) for child in children] == [
        ("completed", "loop", 1, {"body": "completed"})
    ] * 3
    assert Recording.objects.filter(execution_id__in=[child.pk for child in children]).count() == 3
    assert [kind for _, kind in events(execution, "recursion_enter", "recursion_exit", "node_waiting")] == [
        "recursion_enter", "node_waiting", "recursion_exit", "recursion_enter", "node_waiting",
        "recursion_exit", "recursion_enter", "node_waiting", "recursion_exit",
    ]  # fmt: skip
    assert [event.seq for event in iter_events(execution.pk)] == list(range(1, execution.seq + 1))


def test_without_a_wire_back_a_turn_gives_what_its_last_nodes_give(run):
    execution = run(
        [loop(Items=[1, 2]), *body("one", "two")],
        wire("loop", "Item", "one", "Kind"), wire("loop", "Each", "two", "Execute Condition"),
    )  # fmt: skip

    results = outputs(execution, "loop")["Results"]
    assert [sorted(result) for result in results] == [["one", "two"]] * 2
    assert [result["two"]["Value"] for result in results] == [{"item": 1, "index": 0}, {"item": 2, "index": 1}]
    assert [result["one"]["Value"] for result in results] == [1, 2]


def test_turns_that_wake_a_loop_are_no_deliveries_that_killed_a_worker(run):
    """Else a loop that was woken often could not survive the loss of a single process."""
    execution = run([loop(Items=[1, 2, 3, 4]), *body("one")], wire("loop", "Each", "one", "Execute Condition"))

    node_run = execution.node_runs.get(node_id="loop")
    assert (execution.status, node_run.deliveries, node_run.attempt) == ("completed", 1, 1)


def test_an_empty_list_runs_no_turn(run):
    execution = run([loop(Items=[]), *body("one")], wire("loop", "Each", "one", "Execute Condition"))

    assert execution.status == "completed"
    assert outputs(execution, "loop") == {"Results": [], "Errors": [], "Count": 0, "Done": "execute"}
    assert not execution.children.exists()


def test_batches_and_concurrency(run):
    execution = run(
        [loop(Items=[1, 2, 3, 4, 5], Batch_Size=2, Max_Concurrency=3), gives("one", "{{ item }}")],
        wire("loop", "Each", "one", "Execute Condition"), wire("one", "Value", "loop", "Result"),
    )  # fmt: skip

    assert outputs(execution, "loop")["Results"] == [[1, 2], [3, 4], [5]]
    waiting = data_of(execution, "recursion_enter")
    assert [row["index"] for row in waiting] == [0, 1, 2]
    first = Event.objects.filter(execution_id=execution.pk, type="node_waiting").earliest("seq")
    assert Event.objects.filter(execution_id=execution.pk, type="recursion_enter", seq__lt=first.seq).count() == 3


def test_a_turn_that_ends_in_the_moment_in_which_its_loop_is_set_aside_wakes_it(alice, make_workflow, monkeypatch):
    nodes = [loop(Items=["a", "b"], Max_Concurrency=2), *body("one")]
    execution = start_execution(make_workflow(graph(nodes, wire("loop", "Each", "one", "Execute Condition"))), by=alice)
    engine.advance(execution.pk, 0)
    begun = engine.take(execution.pk, 0, [0])
    assert begun is not None
    first, second = begun.starts
    tell = waits.waiting_events

    def second_ends_meanwhile(*arguments):
        monkeypatch.setattr(waits, "waiting_events", tell)
        assert run_here(second).status == "completed"
        return tell(*arguments)

    monkeypatch.setattr(waits, "waiting_events", second_ends_meanwhile)
    run_here(first)

    execution.refresh_from_db()
    assert execution.status == "completed", "nobody else would ever wake it"


def test_never_more_turns_run_at_once_than_the_loop_allows(alice, make_workflow):
    """One turn is slow, and the others go by, one at a time."""
    nodes = [loop(Items=[1, 2, 3, 4, 5], Max_Items=5, Max_Concurrency=2), *body("one")]
    execution = start_execution(make_workflow(graph(nodes, wire("loop", "Each", "one", "Execute Condition"))), by=alice)
    engine.advance(execution.pk, 0)
    begun = engine.take(execution.pk, 0, [0])
    assert begun is not None
    quick, slow = begun.starts

    run_here(quick)
    assert execution.children.filter(status="completed").count() == 4
    run_here(slow)

    execution.refresh_from_db()
    assert execution.status == "completed", "as many items as allowed are not too many"
    steps = {"recursion_enter": 1, "recursion_exit": -1}
    at_once = list(accumulate(steps[kind] for _, kind in events(execution, *steps)))
    assert (max(at_once), at_once[-1]) == (2, 0)


def test_more_items_than_allowed_fail_the_loop(run):
    execution = run(
        [loop(Items=[1, 2, 3], Max_Items=2), *body("one")], wire("loop", "Each", "one", "Execute Condition")
    )

    assert execution.status == "failed"
    assert '3 items; "Max Items" is 2' in execution.error


def test_a_failed_turn_stops_the_loop_and_names_itself(run):
    execution = run(
        [loop(Items=[1, 2, 3], Max_Concurrency=1), node("check", "branch", Left_Value="{{ item }}", Operator="equals", Right_Value=2),
         node("stop", "stop_and_error", Message="no twos", Code="two")],
        wire("loop", "Each", "check", "Execute Condition"), wire("check", "True Path", "stop", "Execute Condition"),
    )  # fmt: skip

    assert (execution.status, execution.error_node, execution.error_code) == ("failed", "loop", "two")
    assert "turn 2 of 3 failed: no twos" in execution.error
    assert [child.status for child in execution.children.order_by("child_index")] == ["completed", "failed"]


def test_a_loop_that_continues_lists_the_failed_turns(run):
    execution = run(
        [loop(Items=[1, 2, 3], On_Item_Error="continue"),
         node("check", "branch", Left_Value="{{ item }}", Operator="equals", Right_Value=2),
         node("stop", "stop_and_error", Message="no twos", Code="two"), gives("last", "{{ item }}")],
        wire("loop", "Each", "check", "Execute Condition"), wire("check", "True Path", "stop", "Execute Condition"),
        wire("check", "False Path", "last", "Execute Condition"), wire("last", "Value", "loop", "Result"),
    )  # fmt: skip

    assert execution.status == "completed"
    given = outputs(execution, "loop")
    assert given["Results"] == [1, None, 3]
    assert [(error["index"], error["code"]) for error in given["Errors"]] == [(1, "two")]


def test_a_loop_inside_a_loop_reads_both_turns(run):
    execution = run(
        [loop("outer", Items=[[1, 2], [3]]), loop("inner", Items="{{ item }}"),
         gives("cell", "{{ nodes.outer.Index }}/{{ index }}={{ item }}")],
        wire("outer", "Each", "inner", "Execute Condition"), wire("inner", "Each", "cell", "Execute Condition"),
        wire("cell", "Value", "inner", "Result"), wire("inner", "Results", "outer", "Result"),
    )  # fmt: skip

    assert execution.status == "completed", execution.error
    assert outputs(execution, "outer")["Results"] == [["0/0=1", "0/1=2"], ["1/0=3"]]
    assert sorted(Execution.objects.values_list("depth", flat=True)) == [0, 1, 1, 2, 2, 2]


def test_a_body_reads_the_payload_of_the_whole_workflow(run):
    execution = run(
        [loop(Items=[1]), gives("one", "{{ input.who }}")],
        wire("loop", "Each", "one", "Execute Condition"), wire("one", "Value", "loop", "Result"), input={"who": "ada"},
    )  # fmt: skip

    assert outputs(execution, "loop")["Results"] == ["ada"]


def test_a_loop_with_a_condition_hands_each_turn_what_the_one_before_gave(run):
    execution = run(
        [node("loop", "loop_while", Condition="last == null || size(last) < data.most", Data={"most": 4}),
         gives("one", "{{ item | default('') }}x")],
        wire("loop", "Each", "one", "Execute Condition"), wire("one", "Value", "loop", "Result"),
    )  # fmt: skip

    assert execution.status == "completed", execution.error
    given = outputs(execution, "loop")
    assert (given["Final"], given["Count"]) == ("xxxx", 4)


def test_a_condition_that_always_holds_ends_with_its_limit(run):
    execution = run(
        [node("loop", "loop_while", Condition="true", Max_Iterations=3), gives("one", 1)],
        wire("loop", "Each", "one", "Execute Condition"),
    )  # fmt: skip

    assert (execution.status, execution.error_code) == ("failed", "endless")
    assert execution.children.count() == 3


# --------------------------------------------------------------------------- subflows


def test_a_subflow_runs_another_workflow_and_hands_on_what_it_gives(run, make_workflow):
    make_workflow(graph([gives("answer", {"twice": "{{ input.value }}{{ input.value }}"})]), name="double")

    execution = run(
        [node("sub", "subflow", Workflow="double", Inputs={"value": "ab"}), gives("end", "{{ nodes.sub.Output }}")]
    )

    assert execution.status == "completed", execution.error
    assert outputs(execution, "end")["Value"] == {"Value": {"twice": "abab"}}
    child = execution.children.get()
    assert (str(child.pk), child.trigger, child.workflow.name) == (
        outputs(execution, "sub")["Execution Id"],
        "workflow",
        "double",
    )


def test_a_subflow_that_fails_fails_its_node_with_the_reason(run, make_workflow):
    make_workflow(graph([node("bad", "test_fails", Kind="nul")]), name="broken")

    execution = run([node("sub", "subflow", Workflow="broken")])

    assert (execution.status, execution.error_node, execution.error_code) == ("failed", "sub", "odd")
    assert 'workflow "broken"' in execution.error
    assert "page said" in execution.error


def test_a_subflow_that_is_not_waited_for_goes_on_at_once(run, make_workflow):
    make_workflow(graph([node("slow", "delay", Duration=3600)]), name="slow")

    execution = run(
        [node("sub", "subflow", Workflow="slow", Wait=False), gives("end", 1)],
        wire("sub", "Done", "end", "Execute Condition"),
    )

    assert execution.status == "completed", execution.error
    child = run_here(UUID(outputs(execution, "sub")["Execution Id"]))
    assert (child.status, child.parent_id) == ("waiting", None)


def test_a_workflow_that_runs_itself_ends_at_the_limit(run):
    execution = run([node("sub", "subflow", Workflow="self")], name="self")

    assert execution.status == "failed"
    assert "limit is 8" in execution.error
    assert Execution.objects.count() == waits.DEEPEST + 1


@pytest.mark.parametrize(
    ("name", "why"), [("nowhere", "no workflow"), ("bobs", "belongs to somebody else"), ("asleep", "paused")]
)
def test_a_subflow_that_cannot_be_run_fails_its_node(run, make_workflow, bob, name, why):
    make_workflow(graph([gives("one", 1)]), name="bobs", owner=bob)
    asleep = make_workflow(graph([gives("one", 1)]), name="asleep")
    asleep.status = "paused"
    asleep.save()

    execution = run([node("sub", "subflow", Workflow=name)])

    assert (execution.status, execution.error_code) == ("failed", "subflow")
    assert why in execution.error


# --------------------------------------------------------------------------- switch, join, stop, error path


@pytest.mark.parametrize(("value", "taken"), [("b", "two"), (2, "two"), ("z", "other")])
def test_a_switch_takes_the_path_of_the_first_equal_case(run, value, taken):
    execution = run(
        [node("switch", "switch", Value=value, Case_1="a", Case_2="b" if value == "b" else "2.0"), gives("one", 1), gives("two", 2), gives("other", 3)],
        wire("switch", "Case 1", "one", "Execute Condition"), wire("switch", "Case 2", "two", "Execute Condition"),
        wire("switch", "Default", "other", "Execute Condition"),
    )  # fmt: skip

    expected = dict.fromkeys(("one", "two", "other"), "skipped") | {"switch": "completed", taken: "completed"}
    assert statuses(execution) == expected


@pytest.mark.row("S2-22")
@pytest.mark.parametrize(
    ("mode", "status", "data"),
    [("live", "completed", ["left"]), ("any", "completed", "left"), ("all", "skipped", None)],
)
def test_a_join_after_a_branch_goes_by_its_mode(run, mode, status, data):
    execution = run(
        [node("if", "branch", Left_Value=1, Operator="equals", Right_Value=1), gives("yes", "left"), gives("no", "right"),
         node("join", "join", Mode=mode)],
        wire("if", "True Path", "yes", "Execute Condition"), wire("if", "False Path", "no", "Execute Condition"),
        wire("yes", "Value", "join", "Data 1"), wire("no", "Value", "join", "Data 2"),
    )  # fmt: skip

    assert execution.status == "completed"
    assert statuses(execution)["join"] == status
    if status == "completed":
        assert outputs(execution, "join")["Data"] == data


@pytest.mark.row("S2-28")
def test_the_error_output_carries_on_and_the_other_wires_do_not(run):
    execution = run(
        [node("bad", "test_fails", {"on_error": "output"}, Kind="long code"), gives("after", 1), gives("rescue", "{{ nodes.bad['Error Message'] }}")],
        wire("bad", "Done", "after", "Execute Condition"), wire("bad", "Error", "rescue", "Execute Condition"),
    )  # fmt: skip

    assert execution.status == "completed_with_errors"
    assert statuses(execution) == {"bad": "failed", "after": "skipped", "rescue": "completed"}
    assert outputs(execution, "rescue")["Value"] == "no"


@pytest.mark.row("S2-28")
def test_what_a_failed_execution_gave_can_be_downloaded(run, alice, client):
    large = ["x" * 100] * 1000  # above what is stored beside the row
    execution = run(
        [*(gives(f"part{n}", n) for n in range(12)), gives("large", large), node("bad", "test_fails", Kind="code"), gives("never", 1)],
        *(wire(f"part{n}", "Done", "bad", "Execute Condition") for n in range(12)),
        wire("large", "Done", "bad", "Execute Condition"), wire("bad", "Done", "never", "Execute Condition"),
    )  # fmt: skip
    client.force_login(alice)

    page = client.get(f"/admin/executions/execution/{execution.pk}/change/").content.decode()
    address = re.search(r'href="([^"]+)" download>Download outputs', page)
    assert address, page
    answer = client.get(address[1])

    file = json.loads(b"".join(answer))
    assert answer["Content-Disposition"] == f'attachment; filename="{execution.pk}-outputs.json"'
    assert (file["execution_id"], file["status"], file["error_node"]) == (str(execution.pk), "failed", "bad")
    assert {name: given["Value"] for name, given in file["outputs"].items()} == {
        **{f"part{n}": n for n in range(12)}, "large": large,
    }  # fmt: skip


def test_an_execution_that_gave_nothing_offers_no_download(run, alice, client):
    execution = run([node("bad", "test_fails", Kind="code")])
    client.force_login(alice)

    page = client.get(f"/admin/executions/execution/{execution.pk}/change/").content.decode()

    assert "Download outputs" not in page
    assert json.loads(b"".join(client.get(f"/api/v1/executions/{execution.pk}/outputs")))["outputs"] == {}


def test_the_error_output_of_a_node_that_completed_is_dead(run):
    execution = run(
        [gives("good", 1, on_error="output"), gives("rescue", 1), node("tell", "merge_data", Data_2={})],
        wire("good", "Error", "rescue", "Execute Condition"), wire("good", "Error Message", "tell", "Data 1"),
    )  # fmt: skip

    assert execution.status == "completed"
    assert statuses(execution) == {"good": "completed", "rescue": "skipped", "tell": "skipped"}


@pytest.mark.row("S2-26")
@pytest.mark.parametrize(("codes", "attempts"), [(["node_failed"], 3), (["network", "timeout"], 1), ([], 3)])
def test_only_the_named_errors_are_tried_again(run, codes, attempts):
    policy = {"retries": 2, "backoff_s": 0.01, "retry_on": codes}
    execution = run([node("flaky", "test_flaky", policy, Succeeds_On=9)])

    assert execution.status == "failed"
    assert execution.node_runs.get().attempt == attempts


@pytest.mark.row("S2-27")
@pytest.mark.parametrize(
    ("failure", "again_by"),
    [
        ("status", {"http_status", "network"}),
        ("silence", {"network_timeout", "network", "timeout"}),
        ("page", {"element_timeout", "browser", "timeout"}),
        ("quota", {"quota", "node_failed"}),
        ("bug", {"unexpected", "node_failed"}),
        ("wrong", set()),
        ("lost", set()),
    ],
)
def test_errors_are_tried_again_by_their_code_and_by_the_kind_it_belongs_to(run, failure, again_by):
    """Each word is the whole ``retry_on`` of a node of its own; those that do not mean the failure are tried once."""
    words = ["network", "timeout", "browser", "node_failed", "session_lost", "http_status", "network_timeout",
             "element_timeout", "quota", "unexpected"]  # fmt: skip
    policy = {"retries": 1, "backoff_s": 0.001, "on_error": "continue"}

    execution = run([node(word, "test_breaks", {**policy, "retry_on": [word]}, Kind=failure) for word in words])

    attempts = dict(execution.node_runs.values_list("node_id", "attempt"))
    assert {word for word in words if attempts[word] == 2} == again_by


@pytest.mark.row("S2-26")
def test_who_says_when_to_come_back_is_not_asked_before(run):
    policy = {"retries": 1, "backoff_s": 0.001, "jitter": False}

    execution = run([node("asks", "test_breaks", policy, Kind="busy")])

    assert execution.node_runs.get().attempt == 2
    assert execution.duration_ms >= 500


def test_nobody_is_asked_again_later_than_in_an_hour_whatever_they_say(run):
    execution = run([node("asks", "test_breaks", {"retries": 1, "backoff_s": 0.001}, Kind="busy for days")])

    again = execution.node_runs.get()
    assert (again.status, again.claim) == ("retrying", "")
    assert 3_500 < ((again.retry_at or 0) - database_now_us()) / 1_000_000 <= 3_600


# --------------------------------------------------------------------------- waiting


def due(execution):
    """Let the time of everything that waits come."""
    NodeRun.objects.filter(execution=execution, status="waiting").update(wake_at=database_now_us() - 1_000_000)


def go_on(execution, monkeypatch):
    """Run the reconciler's rule, take the messages that it sends here, and return the execution."""
    sent: list[Dispatch] = []
    monkeypatch.setattr(tasks, "publish", sent.append)
    reconcile.wake_due()
    monkeypatch.undo()
    for message in sent:
        run_here(execution.pk, message)
    execution.refresh_from_db()
    return execution


def test_a_long_delay_holds_no_worker_and_stops_the_clock(run, monkeypatch):
    execution = run(
        [node("wait", "delay", Duration=3600), gives("end", 1)], wire("wait", "Done", "end", "Execute Condition")
    )

    row = execution.node_runs.get(node_id="wait")
    assert (execution.status, row.status, row.claim, row.worker, row.attempt) == ("waiting", "waiting", "", "", 0)
    left = execution.deadline_at
    Execution.objects.filter(pk=execution.pk).update(
        held_since=database_now_us() - 7_200_000_000, deadline_at=left - 7_200_000_000
    )
    assert go_on(execution, monkeypatch).status == "waiting", "it woke before its time"
    due(execution)

    assert go_on(execution, monkeypatch).status == "completed", execution.error
    assert abs(execution.deadline_at - left) < 60_000_000
    assert statuses(execution) == {"wait": "completed", "end": "completed"}
    assert execution.node_runs.get(node_id="wait").attempt == 1
    assert [kind for _, kind in events(execution, "node_start", "node_waiting", "node_complete")] == [
        "node_start", "node_waiting", "node_start", "node_complete", "node_start", "node_complete",
    ]  # fmt: skip


def test_an_execution_whose_last_nodes_were_set_aside_in_the_same_moment_waits_all_the_same(run):
    """Two transactions that do not see each other leave it running, with nothing to run and its time going on."""
    execution = run([node("one", "delay", Duration=3600), node("two", "delay", Duration=3600)])
    Execution.objects.filter(pk=execution.pk).update(status="running", held_since=None)

    assert reconcile.rest_idle() == 1
    assert reconcile.rest_idle() == 0

    execution.refresh_from_db()
    assert execution.status == "waiting"
    assert execution.held_since is not None


def approval(**inputs):
    nodes = [
        node("ask", "approval", Title="Ship it?", **inputs),
        gives("yes", "{{ nodes.ask.Comment }}"),
        gives("no", 0),
    ]
    return nodes, (
        wire("ask", "Approved", "yes", "Execute Condition"),
        wire("ask", "Rejected", "no", "Execute Condition"),
    )


@pytest.mark.parametrize(("approved", "taken", "other"), [(True, "yes", "no"), (False, "no", "yes")])
def test_an_approval_waits_for_a_person_and_takes_the_path_of_the_answer(run, approved, taken, other):
    nodes, edges = approval()
    execution = run(nodes, *edges)
    assert execution.status == "waiting"
    index = execution.node_runs.get(node_id="ask").node_index
    [wait] = report.waiting(execution, execution.owner)
    assert read_token(wait["link"].rpartition("/")[2]) == (execution.pk, index)
    assert "/approvals/" not in str(data_of(execution, "log")), "whoever may read a log may not decide by that"

    assert decide_approval(execution.pk, index, approved, "looks good", "ada")
    assert not decide_approval(execution.pk, index, not approved, "too late", "bob")
    run_here(execution.pk, Dispatch(execution.pk, 0, (((index,), "default"),)))

    execution.refresh_from_db()
    assert execution.status == "completed", execution.error
    assert statuses(execution) == {"ask": "completed", taken: "completed", other: "skipped"}
    assert data_of(execution, "approval")[0] == {"approved": approved, "comment": "looks good", "by": "ada"}


@pytest.mark.parametrize(
    ("choice", "status", "taken"),
    [("reject", "completed", "no"), ("approve", "completed", "yes"), ("fail", "failed", None)],
)
def test_an_approval_that_nobody_gives_ends_as_it_says(run, monkeypatch, choice, status, taken):
    nodes, edges = approval(On_Timeout=choice, Timeout=60)
    execution = run(nodes, *edges)
    due(execution)

    assert go_on(execution, monkeypatch).status == status
    if taken:
        assert statuses(execution)[taken] == "completed"
        assert outputs(execution, "ask")["Timed Out"] is True
    else:
        assert "nobody decided" in execution.error


def test_the_link_to_an_approval_stays_the_same(monkeypatch):
    execution_id = uuid4()
    first = link_token(execution_id, 3)
    monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)
    assert link_token(execution_id, 3) == first


@pytest.mark.parametrize("token", ["", "abc", link_token.__name__, "WyJhIiwxXQ:1tabc:xyz"])
def test_a_link_that_we_did_not_sign_names_nothing(token):
    assert read_token(token) is None


# --------------------------------------------------------------------------- pause


def test_a_paused_execution_starts_nothing_until_it_is_resumed(alice, make_workflow):
    nodes = [gives("one", 1), gives("two", 2)]
    execution = start_execution(make_workflow(graph(nodes, wire("one", "Done", "two", "Execute Condition"))), by=alice)
    dispatch = engine.advance(execution.pk, 0)
    assert pause_execution(execution, "ada")
    assert not pause_execution(execution, "ada")

    assert run_here(execution.pk, dispatch).status == "paused"
    assert statuses(execution) == {"one": "queued"}
    execution.refresh_from_db()
    left = execution.deadline_at or 0
    Execution.objects.filter(pk=execution.pk).update(
        held_since=database_now_us() - 7_200_000_000, deadline_at=left - 7_200_000_000
    )

    assert resume_execution(execution, "ada")
    assert not resume_execution(execution, "ada")
    execution.refresh_from_db()
    assert abs((execution.deadline_at or 0) - left) < 60_000_000, "its time limit did not stand still"
    sent = engine.to_resume(execution.pk)
    for message in sent:
        run_here(execution.pk, message)
    execution.refresh_from_db()
    assert execution.status == "completed"
    assert [row["by"] for kind in ("pause", "resume") for row in data_of(execution, kind)] == ["ada", "ada"]


def test_a_pause_holds_what_runs_inside_and_a_resume_lets_it_go_on(alice, make_workflow):
    nodes = [loop(Items=[1, 2]), *body("one")]
    execution = start_execution(make_workflow(graph(nodes, wire("loop", "Each", "one", "Execute Condition"))), by=alice)
    engine.advance(execution.pk, 0)
    begun = engine.take(execution.pk, 0, [0])
    assert begun is not None
    (turn,) = begun.starts
    dispatch = engine.advance(turn, 0)

    assert pause_execution(execution, "ada")
    inside = run_here(turn, dispatch)
    assert (inside.status, statuses(inside)) == ("paused", {"one": "queued"})

    assert resume_execution(execution, "ada")
    for message in engine.to_resume(turn):
        run_here(turn, message)
    execution.refresh_from_db()
    assert execution.status == "completed"
    assert [row["by"] for kind in ("pause", "resume") for row in data_of(inside, kind)] == ["ada", "ada"]


def test_an_execution_that_is_paused_while_it_waits_gets_back_all_the_time_that_it_waited(run):
    execution = run([node("sleep", "delay", Duration=36_000)])
    assert execution.status == "waiting"
    left = execution.deadline_at or 0
    two_hours = 7_200_000_000
    Execution.objects.filter(pk=execution.pk).update(
        held_since=database_now_us() - two_hours, deadline_at=left - two_hours
    )

    assert pause_execution(execution, "ada")
    assert resume_execution(execution, "ada")

    execution.refresh_from_db()
    assert execution.status == "waiting", "its only node still does"
    assert execution.held_since is not None
    assert abs((execution.deadline_at or 0) + database_now_us() - execution.held_since - left) < 60_000_000


def test_the_deadline_of_a_paused_execution_stands_still(alice, make_workflow):
    execution = start_execution(make_workflow(graph([gives("one", 1)])), by=alice)
    engine.advance(execution.pk, 0)
    assert pause_execution(execution, "ada")
    Execution.objects.filter(pk=execution.pk).update(deadline_at=database_now_us() - 60_000_000)

    assert reconcile.enforce_deadlines() == 0

    execution.refresh_from_db()
    assert execution.status == "paused"


@pytest.mark.parametrize("stopped", [{"status": "paused"}, {"cancel_requested": True}])
def test_no_timer_wakes_a_node_of_an_execution_that_is_paused_or_to_be_cancelled(run, stopped):
    execution = run([node("sleep", "delay", Duration=36_000)])
    due(execution)
    Execution.objects.filter(pk=execution.pk).update(**stopped)

    assert reconcile.wake_due() == 0

    assert statuses(execution) == {"sleep": "waiting"}


def test_only_what_a_node_waits_for_wakes_it_and_not_before_its_time(run):
    execution = run([node("sleep", "delay", Duration=36_000)])

    def woken(kind, **when):
        return store.committer.run(lambda tx: waits.wake(tx, execution.pk, 0, kind, {}, **when))

    assert not decide_approval(execution.pk, 0, True, "", "ada")
    assert not woken(NodeRun.APPROVAL, due=False)
    assert not woken(NodeRun.TIMER, due=True), "it was set aside again meanwhile"
    assert statuses(execution) == {"sleep": "waiting"}
    assert woken(NodeRun.TIMER, due=False)


def test_what_a_turn_gives_may_be_the_error_of_a_node(run):
    execution = run(
        [loop(Items=["a", "b"]), node("fail", "stop_and_error", {"on_error": "output"}, Message="no {{ item }}"),
         gives("after", "{{ nodes.loop.Results }}")],
        wire("loop", "Each", "fail", "Execute Condition"), wire("fail", "Error Message", "loop", "Result"),
    )  # fmt: skip

    assert outputs(execution, "after")["Value"] == ["no a", "no b"]


def test_a_failure_that_is_only_tolerated_gives_nothing(run):
    execution = run(
        [loop(Items=["a"]), node("fail", "stop_and_error", {"on_error": "continue"}, Message="no"),
         gives("after", "{{ nodes.loop.Results }}")],
        wire("loop", "Each", "fail", "Execute Condition"),
    )  # fmt: skip

    assert outputs(execution, "after")["Value"] == [{}]
