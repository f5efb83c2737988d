"""Credits of runs: reserved before they start, settled exactly once however they end, and never below zero."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import Sum

from executions import admission, ending, reconcile
from executions.beat import start_due
from executions.models import Execution, NodeRun
from executions.retry import retry_execution
from executions.store import database_now_us
from executions.triggers import cancel_execution, start_execution
from tests.chaos.invariants import credits_charged_once
from tests.conftest import flush_redis, graph, node, test_environment, wait_for, wire
from tests.environment import ROOT
from tests.executions import edge_nodes, worker_app
from tests.executions.edge_nodes import gives, run_here
from tests.executions.test_engine import transform
from workflows import credits, schedules
from workflows.errors import InsufficientCredits
from workflows.models import AuditEntry, CreditAccount, CreditEntry, Schedule

pytestmark = [pytest.mark.redis, pytest.mark.postgres]
NODE_TYPES = (worker_app, edge_nodes)  # importing them registers their node types

ONE = graph([gives("one", 1)])
"""A workflow that costs one credit."""


@pytest.fixture(autouse=True)
def database(transactional_db):
    """Commit for real, and forget what other tests sent."""
    admission._window = admission._Window()
    flush_redis()
    yield
    flush_redis()


def balances(user):
    found = CreditAccount.objects.get(owner=user)
    return (found.available, found.reserved, found.spent)


def moved(user, kind):
    return CreditEntry.objects.filter(owner=user, kind=kind).aggregate(sum=Sum("amount"))["sum"] or 0


def assert_settled(user, granted):
    """Everything has ended: nothing is reserved, what was spent is what node runs cost, and the entries add up."""
    available, reserved, spent = balances(user)
    cost = NodeRun.objects.filter(execution__owner=user).aggregate(sum=Sum("credits"))["sum"] or 0
    assert (reserved, spent, available + spent) == (0, cost, granted)
    assert moved(user, "grant") - moved(user, "correction") == granted
    assert moved(user, "reserve") == moved(user, "charge") + moved(user, "refund")
    assert moved(user, "charge") == spent
    assert list(credits_charged_once(Execution.objects.filter(owner=user))) == []


# --------------------------------------------------------------------------- starting and ending


@pytest.mark.row("S2-55")
def test_nodes_that_do_not_run_are_refunded(alice, make_workflow):
    workflow = make_workflow(
        graph(
            [
                node("ask", "branch", Left_Value="a", Operator="equals", Right_Value="a"),
                gives("yes", 1),
                gives("no", 2),
                gives("disabled", 3, disabled=True),
            ],
            wire("ask", "True Path", "yes", "Execute Condition"), wire("ask", "False Path", "no", "Execute Condition"),
        )
    )  # fmt: skip
    credits.grant(alice, 10)
    execution = start_execution(workflow, by=alice)
    assert (execution.reserved, balances(alice)) == (3, (7, 3, 0))

    execution = run_here(execution.pk)

    assert (execution.status, execution.credits) == ("completed", 2)
    assert balances(alice) == (8, 0, 2)
    assert_settled(alice, 10)


@pytest.mark.row("S2-55")
def test_a_start_that_the_balance_does_not_cover_is_refused_with_the_numbers(alice, make_workflow):
    workflow = make_workflow(graph([gives("one", 1), gives("two", 2), gives("three", 3)]), name="dear")
    credits.grant(alice, 7)
    first = start_execution(workflow, by=alice)
    start_execution(workflow, by=alice)

    with pytest.raises(InsufficientCredits) as refused:
        start_execution(workflow, by=alice)

    assert str(refused.value).startswith(
        'workflow "dear" needs 3 credits, 1 available, 6 reserved by 2 running executions;'
    )
    assert (refused.value.code, refused.value.needs, refused.value.available) == ("insufficient_credits", 3, 1)
    assert Execution.objects.count() == 2
    run_here(first.pk)
    with pytest.raises(InsufficientCredits, match="3 reserved by 1 running execution;"):
        start_execution(workflow, by=alice)


def test_who_has_no_account_is_not_metered(alice, bob, make_workflow):
    credits.grant(bob, 5)
    execution = run_here(start_execution(make_workflow(ONE), by=alice).pk)

    assert (execution.status, execution.credits, execution.reserved) == ("completed", 1, None)
    assert CreditEntry.objects.get().kind == "grant"


def test_the_first_account_of_an_installation_is_seen_at_once_and_nobody_asks_again_meanwhile(
    alice, make_workflow, django_assert_num_queries, monkeypatch
):
    monkeypatch.setattr(credits, "KNOWN_SECONDS", 3600)
    credits.forget()
    workflow = make_workflow(ONE)
    assert start_execution(workflow, by=alice).reserved is None
    with django_assert_num_queries(0):
        assert not credits.in_use()

    credits.grant(alice, 1)

    assert credits.in_use()
    assert start_execution(workflow, by=alice).reserved == 1


def test_an_account_that_comes_while_an_execution_runs_does_not_pay_for_it(alice, make_workflow):
    execution = start_execution(make_workflow(ONE), by=alice)
    credits.grant(alice, 10)

    run_here(execution.pk)

    assert balances(alice) == (10, 0, 0)


def test_the_setting_opens_an_account_with_the_first_start(alice, make_workflow, settings):
    settings.DEFAULT_CREDITS = 1
    workflow = make_workflow(ONE)
    run_here(start_execution(workflow, by=alice).pk)

    with pytest.raises(InsufficientCredits):
        start_execution(workflow, by=alice)

    assert_settled(alice, 1)


def test_the_same_key_gives_the_execution_that_is_there_though_no_credits_are_left(alice, make_workflow):
    workflow = make_workflow(ONE)
    credits.grant(alice, 1)
    first = start_execution(workflow, by=alice, idempotency_key="k")

    assert start_execution(workflow, by=alice, idempotency_key="k") == first
    credits.grant(alice, 1)
    assert start_execution(workflow, by=alice, idempotency_key="k") == first

    assert balances(alice) == (1, 1, 0)


@pytest.mark.parametrize(("charged", "cost"), [(True, 2), (False, 1)])
def test_a_failed_node_costs_its_credits_unless_its_policy_says_otherwise(alice, make_workflow, charged, cost):
    policy = {"retries": 1, "backoff_s": 0, "charge_on_failure": charged}
    nodes = [gives("good", 1), node("bad", "test_fails", policy, Kind="nul"), gives("never", 1)]
    workflow = make_workflow(graph(nodes, wire("bad", "Done", "never", "Execute Condition")))
    credits.grant(alice, 10)

    execution = run_here(start_execution(workflow, by=alice).pk)

    assert (execution.status, execution.credits) == ("failed", cost)
    assert_settled(alice, 10)


def test_further_attempts_are_free(alice, make_workflow):
    again = node("again", "test_flaky", {"retries": 2, "backoff_s": 0, "jitter": False}, Succeeds_On=3)
    credits.grant(alice, 10)

    execution = run_here(start_execution(make_workflow(graph([again])), by=alice).pk)

    assert (execution.status, NodeRun.objects.get().attempt) == ("completed", 3)
    assert balances(alice) == (9, 0, 1)


def test_a_result_that_is_taken_over_is_free(alice, make_workflow):
    workflow = make_workflow(graph([gives("one", 1, cache_ttl_s=60)]))
    credits.grant(alice, 10)
    for _ in range(2):
        run_here(start_execution(workflow, by=alice).pk)

    assert_settled(alice, 10)
    assert balances(alice) == (9, 0, 1)


def _cancel(execution):
    cancel_execution(execution, "alice")


def _late(execution):
    Execution.objects.filter(pk=execution.pk, status="queued").update(
        status="running", phase_index=0, started_at=datetime.now(UTC), deadline_at=database_now_us() - 60_000_000
    )
    reconcile.enforce_deadlines()


def _give_up(execution):
    ending.give_up(execution.pk, InsufficientCredits("a plan that is gone", 1, 0))


def _unseen(execution):
    ending.fail_unseen(execution.pk, "it kills processes", "killer")


def _bury(execution):
    Execution.objects.filter(pk=execution.pk, status="queued").update(deliveries=3, published_at=None)
    reconcile.resend_starts()


def _delete(execution):
    Execution.objects.filter(pk=execution.pk).delete()


@pytest.mark.parametrize("end", [_cancel, _late, _give_up, _unseen, _bury, _delete])
def test_an_execution_that_never_ran_gets_everything_back_once(alice, make_workflow, end):
    credits.grant(alice, 10)
    execution = start_execution(make_workflow(ONE), by=alice)
    assert balances(alice) == (9, 1, 0)

    end(execution)
    end(execution)

    assert not Execution.objects.exclude(status__in=("failed", "cancelled")).exists()
    assert_settled(alice, 10)
    assert balances(alice) == (10, 0, 0)


def test_a_start_that_an_overlap_rule_makes_void_gives_back_what_it_reserved(alice, make_workflow):
    workflow = make_workflow(ONE, settings={"overlap": "skip"})
    credits.grant(alice, 10)
    start_execution(workflow, by=alice)

    assert start_execution(workflow, by=alice).status == "cancelled"

    assert balances(alice) == (9, 1, 0)


def test_deleting_what_has_ended_changes_no_balance(alice, make_workflow):
    credits.grant(alice, 10)
    execution = run_here(start_execution(make_workflow(ONE), by=alice).pk)

    execution.delete()

    assert balances(alice) == (9, 0, 1)


def test_a_retry_pays_only_for_what_runs_again(alice, make_workflow):
    nodes = [gives("good", 1), node("bad", "test_fails", Kind="nul")]
    credits.grant(alice, 10)
    failed = run_here(
        start_execution(make_workflow(graph(nodes, wire("good", "Done", "bad", "Execute Condition"))), by=alice).pk
    )

    again = run_here(retry_execution(failed, failed.owner).pk)

    assert (failed.credits, again.credits) == (2, 1)
    assert_settled(alice, 10)


# --------------------------------------------------------------------------- loops and workflows inside


def turns(count, **inputs):
    nodes = [node("loop", "loop_items", Items=list(range(count)), **inputs), gives("body", "{{ item }}")]
    return graph(nodes, wire("loop", "Each", "body", "Execute Condition"))


def test_every_turn_of_a_loop_reserves_and_settles_for_itself(alice, make_workflow):
    credits.grant(alice, 10)
    execution = start_execution(make_workflow(turns(3)), by=alice)
    assert balances(alice) == (9, 1, 0)

    execution = run_here(execution.pk)

    assert execution.status == "completed"
    assert [child.reserved for child in execution.children.all()] == [1, 1, 1]
    assert balances(alice) == (6, 0, 4)
    assert_settled(alice, 10)


def test_a_loop_that_can_reserve_no_further_turn_fails_with_the_numbers_and_the_node(alice, make_workflow):
    credits.grant(alice, 4)

    execution = run_here(start_execution(make_workflow(turns(9, Max_Concurrency=2)), by=alice).pk)

    assert (execution.status, execution.error_code, execution.error_node) == ("failed", "insufficient_credits", "loop")
    assert (
        '"Loop Over Items": the next turn needs 1 credit, 0 available, 2 reserved by 2 running executions;'
        in execution.error
    )
    assert not Execution.objects.filter(status__in=("queued", "running", "waiting")).exists()
    assert_settled(alice, 4)
    assert balances(alice)[0] >= 0


def test_a_start_needs_what_one_turn_costs_though_it_does_not_reserve_it(alice, make_workflow):
    credits.grant(alice, 1)

    with pytest.raises(InsufficientCredits, match="needs 2 credits, 1 available"):
        start_execution(make_workflow(turns(9)), by=alice)


@pytest.mark.parametrize("wait", [True, False])
def test_a_workflow_that_runs_another_pays_for_it(alice, make_workflow, wait):
    make_workflow(ONE, name="inner")
    caller = make_workflow(graph([node("call", "subflow", Workflow="inner", Wait=wait)]), name="caller")
    credits.grant(alice, 2)

    execution = run_here(start_execution(caller, by=alice).pk)
    for waiting in Execution.objects.filter(status="queued"):
        run_here(waiting.pk)

    assert execution.status == "completed", execution.error
    assert set(Execution.objects.values_list("status", "reserved")) == {("completed", 1)}
    assert_settled(alice, 2)
    assert balances(alice) == (0, 0, 2)
    with pytest.raises(InsufficientCredits):
        start_execution(caller, by=alice)


@pytest.mark.parametrize("wait", [True, False])
def test_a_workflow_inside_that_cannot_be_paid_fails_the_node_that_runs_it(alice, make_workflow, wait):
    make_workflow(ONE, name="inner")
    caller = make_workflow(graph([node("call", "subflow", Workflow="inner", Wait=wait)]), name="caller")
    credits.grant(alice, 1)

    execution = run_here(start_execution(caller, by=alice).pk)

    assert (execution.status, execution.error_code, execution.error_node) == ("failed", "insufficient_credits", "call")
    assert Execution.objects.count() == 1
    assert_settled(alice, 1)


# --------------------------------------------------------------------------- schedules


def test_a_schedule_goes_on_past_an_instant_that_nobody_can_pay_and_the_audit_log_says_so(alice, make_workflow):
    workflow = make_workflow(ONE)
    schedules.set_schedule(workflow, "*/5 * * * *", "UTC")
    due = datetime.now(UTC) - timedelta(minutes=1)
    Schedule.objects.update(next_run_at=due)
    credits.grant(alice, 1)
    credits.correct(alice, 1)

    assert start_due() == 0

    skipped = AuditEntry.objects.get(verb="skipped")
    assert (skipped.object_id, skipped.owner_id) == (str(workflow.pk), alice.pk)
    assert skipped.detail["due"] == due.isoformat()
    assert "needs 1 credit, 0 available" in skipped.detail["reason"]
    assert Schedule.objects.filter(next_run_at__gt=datetime.now(UTC)).exists()
    credits.grant(alice, 1)
    Schedule.objects.update(next_run_at=due)
    assert start_due() == 1


# --------------------------------------------------------------------------- many at once, and killed processes


def pause(name):
    """Return a node that every worker knows; it costs one credit."""
    return node(name, "delay", Duration=0)


def quick(name):
    """Return a node that never waits, so that ends of several executions may share a statement; it costs two."""
    return transform(name, a=1)


@pytest.mark.row("S2-55")
def test_of_a_hundred_starts_at_once_against_a_balance_for_ten_exactly_ten_run(processes, alice, make_workflow):
    workflow = make_workflow(graph([quick(name) for name in ("one", "two", "three")]))
    credits.grant(alice, 69)
    credits.correct(alice, 9)
    answers: list[str] = []
    together = threading.Barrier(100)

    def start():
        together.wait(60)
        try:
            start_execution(workflow, by=alice)
            answers.append("started")
        except InsufficientCredits:
            answers.append("refused")
        except Exception as error:
            answers.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=start) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert Counter(answers) == {"started": 10, "refused": 90}
    assert balances(alice) == (0, 60, 0)
    assert moved(alice, "grant") - moved(alice, "correction") == sum(balances(alice))
    processes.worker()
    wait_for(lambda: Execution.objects.filter(status="completed").count() == 10, 40, "ten ends", processes.logs)
    assert Execution.objects.count() == 10
    assert_settled(alice, 60)
    assert balances(alice) == (0, 0, 60)


@pytest.mark.worker
def test_ends_that_are_written_by_two_workers_at_once_settle_every_execution_once(processes, alice, bob, make_workflow):
    mine = make_workflow(graph([quick("one")]), "mine")
    yours = make_workflow(graph([quick("one")]), "yours", owner=bob)
    credits.grant(alice, 100)
    credits.grant(bob, 100)
    for _ in range(25):
        start_execution(mine, by=alice)
        start_execution(yours, by=bob)
    processes.worker()
    processes.worker()

    wait_for(lambda: Execution.objects.filter(status="completed").count() == 50, 40, "all ends", processes.logs)

    assert_settled(alice, 100)
    assert_settled(bob, 100)
    assert balances(alice) == balances(bob) == (50, 0, 50)


@pytest.fixture
def fail_at(tmp_path):
    """Return environment variables that kill the first process which reaches a failpoint."""

    def arm(name: str) -> dict[str, str]:
        flag = tmp_path / f"failpoint-{name}"
        flag.touch()
        return {"FLOWBUILDER_FAILPOINT": f"{name}:{flag}"}

    return arm


@pytest.mark.worker
def test_a_starter_killed_before_it_sends_and_a_worker_killed_in_the_middle_settle_once(
    processes, alice, make_workflow, fail_at
):
    make_workflow(graph([pause("one"), pause("two")], wire("one", "Done", "two", "Execute Condition")), name="doomed")
    credits.grant(alice, 10)
    code = (
        "from workflows.models import Workflow; from executions.triggers import start_execution;"
        "w = Workflow.objects.get(name='doomed'); start_execution(w, by=w.owner)"
    )
    env = {**test_environment(), **fail_at("start-committed")}
    starter = subprocess.Popen([sys.executable, "manage.py", "shell", "-v", "0", "-c", code], env=env, cwd=ROOT)
    assert starter.wait(timeout=40) == -signal.SIGKILL
    assert balances(alice) == (8, 2, 0)
    doomed = processes.worker(**fail_at("before-commit"))
    processes.beat()
    wait_for(lambda: doomed.poll() is not None, 30, "the death of the worker", processes.logs)
    assert balances(alice) == (8, 2, 0)
    processes.worker()

    wait_for(lambda: Execution.objects.filter(status="completed").exists(), 40, "the end", processes.logs)

    assert_settled(alice, 10)
    assert balances(alice) == (8, 0, 2)


def test_an_execution_that_is_ended_twice_is_settled_once(alice, make_workflow):
    credits.grant(alice, 10)
    execution = run_here(start_execution(make_workflow(ONE), by=alice).pk)
    before = list(CreditEntry.objects.values_list("kind", "amount"))

    cancel_execution(execution, "alice")
    ending.settle(execution.pk)
    ending.fail_unseen(execution.pk, "again", "again")
    ending.give_up(uuid4(), InsufficientCredits("nobody", 1, 0))

    assert list(CreditEntry.objects.values_list("kind", "amount")) == before


def test_a_node_that_is_disabled_is_neither_reserved_nor_asked_for(alice, make_workflow):
    credits.grant(alice, 1)
    disabled = node("off", "delay", {"disabled": True}, Duration=0)
    inside = [
        node("loop", "loop_items", {"disabled": True}, Items=[1]),
        node("in", "delay", {"disabled": True}, Duration=0),
    ]
    definition = graph([gives("one", 1), disabled, *inside], wire("loop", "Each", "in", "Execute Condition"))

    execution = start_execution(make_workflow(definition), by=alice)

    assert execution.reserved == 1
    assert balances(alice) == (0, 1, 0)
    assert run_here(execution.pk).status == "completed"
    assert_settled(alice, 1)
    assert balances(alice) == (0, 0, 1)
