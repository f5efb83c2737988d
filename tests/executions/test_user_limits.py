"""Limits of one user over all of their workflows: starts wait for each other, and none is ever lost."""

from __future__ import annotations

import json
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions import admission, engine, reconcile, report
from executions.errors import StartRefused
from executions.models import Execution
from executions.store import database_now_us
from executions.triggers import cancel_execution, start_execution
from recordings import keeping
from recordings.models import Event, Recording
from tests.conftest import flush_redis, graph, node, wait_for
from tests.executions.edge_nodes import run_here
from tests.executions.test_admission import begin, calls, finish, held, most_at_once, slow, wait_for_all
from workflows import limits
from workflows.models import Plan

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

QUICK = graph([node("one", "delay", Duration=0)])
PAGE = graph([node("open", "launch_standard_browser", Website_URL="http://127.0.0.1/")])


@pytest.fixture(autouse=True)
def fresh(transactional_db):
    """The row of the beat admin, which the emptied test database lacks; and no memory of other tests."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    PeriodicTask.objects.get_or_create(name="Reconcile", task="executions.reconcile", interval=interval)
    admission._window = admission._Window()
    limits.forget()
    flush_redis()
    yield
    limits.forget()
    flush_redis()


def plan(user, **values):
    made = Plan.objects.create(name=f"plan of {user}", **values)
    made.users.add(user)
    return made


def waiting(execution):
    execution.refresh_from_db()
    return execution.held_by


def test_starts_beyond_the_limit_wait_and_follow_in_their_order_over_all_workflows(alice, bob, make_workflow):
    plan(bob, concurrent_executions=2)
    workflows = [make_workflow(QUICK, f"w{number}", owner=bob) for number in range(4)]
    executions = [start_execution(workflow, by=bob) for workflow in workflows]
    urgent = start_execution(workflows[0], by=bob, priority="high")
    other = start_execution(make_workflow(QUICK, owner=alice), by=alice)

    assert [e.held_by for e in (*executions, urgent, other)] == ["", "", "user", "user", "user", ""]
    assert report.held_reason(urgent) == "waits for other executions of the same user"
    run_here(executions[0].pk)
    assert [waiting(e) for e in (executions[2], executions[3], urgent)] == ["user", "user", ""]
    cancel_execution(executions[1], "bob")
    assert [waiting(e) for e in executions[2:]] == ["", "user"]
    run_here(urgent.pk)
    run_here(executions[2].pk)
    assert waiting(executions[3]) == ""
    run_here(executions[3].pk)
    assert Counter(Execution.objects.filter(owner=bob).values_list("status", flat=True)) == {
        "completed": 4, "cancelled": 1,
    }  # fmt: skip
    said = Event.objects.filter(execution_id=executions[3].pk, type="log").earliest("seq")
    assert json.loads(said.data)["message"] == "Waited for other executions of the same user (limit: 2 at once)"


def test_the_setting_limits_everybody_without_a_plan(alice, bob, make_workflow, settings):
    settings.USER_EXECUTIONS = 1
    plan(alice, concurrent_executions=5)
    for user, expected in ((bob, ["", "user"]), (alice, ["", ""])):
        workflow = make_workflow(QUICK, owner=user)
        assert [start_execution(workflow, by=user).held_by for _ in range(2)] == expected


def test_an_execution_with_a_browser_waits_for_a_slot_and_holds_up_nobody_else(bob, make_workflow):
    plan(bob, browser_slots=1)
    page, quick = make_workflow(PAGE, "page", owner=bob), make_workflow(QUICK, "quick", owner=bob)
    first, second = start_execution(page, by=bob), start_execution(page, by=bob)
    third = start_execution(quick, by=bob)

    assert [e.held_by for e in (first, second, third)] == ["", "user", ""]
    cancel_execution(first, "bob")
    assert waiting(second) == ""


def test_a_start_that_its_workflow_lets_go_still_waits_for_its_user(bob, make_workflow):
    plan(bob, concurrent_executions=1)
    limited = make_workflow(QUICK, "limited", owner=bob, settings={"concurrency": 1})
    quick = make_workflow(QUICK, "quick", owner=bob)
    running, first = start_execution(quick, by=bob), start_execution(limited, by=bob)
    second = start_execution(limited, by=bob)

    assert [e.held_by for e in (running, first, second)] == ["", "user", "concurrency"]
    run_here(running.pk)
    assert [waiting(e) for e in (first, second)] == ["", "concurrency"]
    run_here(first.pk)
    assert waiting(second) == ""


def test_workflows_inside_are_part_of_their_execution_and_those_started_with_wait_off_are_not(bob, make_workflow):
    plan(bob, concurrent_executions=1)
    make_workflow(QUICK, "inner", owner=bob)
    inside = make_workflow(calls("inner"), "inside", owner=bob)
    beside = make_workflow(calls("inner", Wait=False), "beside", owner=bob)

    assert run_here(start_execution(inside, by=bob).pk).status == "completed"
    assert run_here(start_execution(beside, by=bob).pk).status == "completed"
    detached = Execution.objects.get(trigger="workflow", parent=None)
    assert (detached.status, detached.held_by) == ("queued", "")


def test_a_larger_plan_lets_waiting_starts_go_and_so_does_none(bob, make_workflow):
    own = plan(bob, concurrent_executions=1)
    workflow = make_workflow(QUICK, owner=bob)
    executions = [start_execution(workflow, by=bob) for _ in range(5)]
    own.concurrent_executions = 3
    own.save()

    assert admission.admit_waiting() == 2
    assert held() == {("queued", ""): 3, ("queued", "user"): 2}
    own.delete()
    assert reconcile.admit_held() == 2
    assert [waiting(e) for e in executions] == [""] * 5


def test_a_full_queue_and_the_limit_of_a_user_hold_both(bob, make_workflow, settings):
    settings.START_WINDOW = 1
    plan(bob, concurrent_executions=2)
    workflow = make_workflow(QUICK, owner=bob)
    executions = [start_execution(workflow, by=bob) for _ in range(3)]

    assert [e.held_by for e in executions] == ["", "queue", "user"]
    begin(executions[0])
    assert admission.admit_waiting() == 1
    assert [waiting(e) for e in executions] == ["", "", "user"]
    finish(executions[0])
    admission.admit_waiting()
    assert waiting(executions[2]) == "queue"
    begin(executions[1])
    admission.admit_waiting()
    assert waiting(executions[2]) == ""


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"nodes": 2}, "the workflow has 3 nodes; the limit is 2"),
        ({"credits": 1}, "one run costs about 2 credits; the limit is 1"),
    ],
)
def test_a_draft_that_is_larger_than_the_plan_is_not_run_either(bob, make_workflow, values, told):
    workflow = make_workflow(QUICK, owner=bob)
    disabled = node("off", "delay", {"disabled": True}, Duration=0)
    draft = workflow.save_version(graph([node("a", "delay"), node("b", "delay"), disabled]), author=bob)
    own = plan(bob, **values)

    with pytest.raises(StartRefused, match=f'version 2 of workflow "test" is not run: {told}'):
        start_execution(workflow, by=bob, version=draft)
    start_execution(workflow, by=bob, version=workflow.version)
    for name, value in values.items():
        setattr(own, name, value + 1)
    own.save()
    start_execution(workflow, by=bob, version=draft)


@pytest.mark.worker
def test_the_limit_of_a_user_holds_and_nothing_is_lost_when_the_worker_is_killed(
    processes, bob, make_workflow, tmp_path
):
    plan(bob, concurrent_executions=2)
    workflows = [make_workflow(slow(0.2), f"w{number}", owner=bob) for number in range(3)]
    for number in range(9):
        start_execution(workflows[number % 3], by=bob)
    flag = tmp_path / "armed"
    flag.touch()
    doomed = processes.worker(FLOWBUILDER_FAILPOINT=f"admitted:{flag}")
    wait_for(lambda: doomed.poll() is not None, 30, "the death of the worker", processes.logs)
    assert doomed.returncode == -signal.SIGKILL
    processes.worker()
    processes.beat()

    wait_for_all(processes)

    assert Counter(Execution.objects.values_list("status", flat=True)) == {"completed": 9}
    assert most_at_once() <= 2


def test_no_execution_runs_longer_than_the_plan_allows_whatever_its_workflow_says(bob, make_workflow):
    plan(bob, maximum_duration_s=5)
    for name, own in (("long", {"deadline_s": 3600}), ("short", {"deadline_s": 2}), ("none", {})):
        workflow = make_workflow(graph([node("one", "delay", Duration=60)]), name, owner=bob, settings=own)
        engine.advance(start_execution(workflow, by=bob).pk, 0)

    left = {
        e.workflow.name: round((e.deadline_at - e.started_at.timestamp() * 1e6) / 1e6)
        for e in Execution.objects.select_related("workflow")
    }
    assert left == {"long": 5, "short": 2, "none": 5}
    late = Execution.objects.get(workflow__name="long")
    Execution.objects.filter(pk=late.pk).update(status="running", deadline_at=database_now_us() - 60_000_000)
    reconcile.enforce_deadlines()
    late.refresh_from_db()
    assert (late.status, late.error_code) == ("failed", "deadline")


def test_only_so_many_recordings_are_kept_of_a_user_failures_among_them(alice, bob, make_workflow):
    plan(bob, recordings_kept=2)
    mine = make_workflow(QUICK, owner=alice)
    yours = make_workflow(QUICK, owner=bob)
    kept = [run_here(start_execution(mine, by=alice).pk).pk for _ in range(3)]
    yours_all = [run_here(start_execution(yours, by=bob).pk).pk for _ in range(4)]
    begun = datetime.now(UTC) - timedelta(hours=1)
    Recording.objects.filter(execution_id=yours_all[0]).update(success=False, status="failed")
    for number, key in enumerate(yours_all):
        Recording.objects.filter(execution_id=key).update(started_at=begun + timedelta(minutes=number))
    Recording.objects.filter(execution_id=yours_all[1]).update(tags=["legal-hold"])

    assert keeping.apply_retention(dry_run=True)["to_delete"] == 2
    assert len(keeping.apply_retention()["deleted_ids"]) == 2

    left = set(Recording.objects.values_list("execution_id", flat=True))
    assert left == {*kept, yours_all[1], yours_all[3]}


def test_what_is_kept_for_its_tag_stays_though_a_user_has_too_many_and_each_is_counted_once(
    bob, make_workflow, settings
):
    plan(bob, recordings_kept=1)
    settings.RETENTION = {"tags_to_keep": ["audit"], "max_count": 2}
    workflow = make_workflow(QUICK, owner=bob)
    made = [run_here(start_execution(workflow, by=bob).pk).pk for _ in range(4)]
    begun = datetime.now(UTC) - timedelta(hours=1)
    for number, key in enumerate(made):
        Recording.objects.filter(execution_id=key).update(started_at=begun + timedelta(minutes=number))
    Recording.objects.filter(execution_id=made[0]).update(tags=["audit"])

    said = keeping.apply_retention(dry_run=True)

    assert (said["to_delete"], len(said["candidate_ids"]), len(set(said["candidate_ids"]))) == (3, 3, 3)
    assert len(keeping.apply_retention()["deleted_ids"]) == 3
    assert list(Recording.objects.values_list("execution_id", flat=True)) == [made[0]]


def test_what_needs_no_browser_goes_though_more_starts_than_a_batch_wait_for_one_before_it(
    bob, make_workflow, monkeypatch
):
    monkeypatch.setattr(admission, "BATCH", 3)
    own = plan(bob, browser_slots=1, concurrent_executions=1)
    page, quick = make_workflow(PAGE, "page", owner=bob), make_workflow(QUICK, "quick", owner=bob)
    pages = [start_execution(page, by=bob) for _ in range(8)]
    quicks = [start_execution(quick, by=bob) for _ in range(5)]
    assert {waiting(e) for e in (*pages[1:], *quicks)} == {"user"}

    own.concurrent_executions = 4
    own.save()

    assert admission.admit_waiting() == 3
    assert [waiting(e) for e in pages] == ["", *["user"] * 7]
    assert [waiting(e) for e in quicks] == ["", "", "", "user", "user"]
