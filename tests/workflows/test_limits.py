"""What plans allow: which plan counts, and the limits that are checked when something is saved or activated."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection

from tests.conftest import graph, node, wire
from workflows import lifecycle, limits, schedules
from workflows.cron import IntervalTooShort
from workflows.errors import ActivationRefused, DefinitionError, TransitionError
from workflows.models import Plan, Workflow

TWO = graph([node("one", "delay", Duration=0), node("two", "delay", Duration=0)])
HOURLY, EVERY_MINUTE = "0 * * * *", "* * * * *"


@pytest.fixture(autouse=True)
def forget():
    """Plans that a test left in the memory of this process are not those of the next."""
    limits.forget()
    yield
    limits.forget()


def plan(name, *who, **values):
    made = Plan.objects.create(name=name, **values)
    for one in who:
        (made.groups if isinstance(one, Group) else made.users).add(one)
    return made


@pytest.fixture
def group(bob, db):
    made = Group.objects.create(name="staff")
    bob.groups.add(made)
    return made


# --------------------------------------------------------------------------- which plan counts


@pytest.mark.django_db
def test_without_a_plan_the_installation_decides(bob, settings):
    settings.USER_EXECUTIONS = 3
    own = limits.limits_of(bob.pk)

    assert (own.nodes, own.concurrent_executions, own.browser_slots) == (500, 3, None)
    assert own == limits.installation() == limits.known_limits(bob.pk)


@pytest.mark.django_db
def test_a_plan_of_ones_own_wins_over_those_of_groups_and_an_empty_field_is_the_installations(bob, group, settings):
    settings.USER_EXECUTIONS = 7
    plan("large", group, nodes=5000, concurrent_executions=100, credits=1000)
    assert limits.limits_of(bob.pk).nodes == 5000
    plan("small", bob, nodes=10)

    own = limits.limits_of(bob.pk)

    assert (own.nodes, own.concurrent_executions, own.credits) == (10, 7, None)


@pytest.mark.django_db
def test_of_several_plans_of_one_rank_the_most_generous_value_counts(bob, alice, group):
    plan("wide", group, nodes=900, minimum_interval_s=600, browser_slots=1)
    plan("fast", group, nodes=50, minimum_interval_s=60, browser_slots=4, recordings_kept=3)

    own = limits.limits_of(bob.pk)

    assert (own.nodes, own.minimum_interval_s, own.browser_slots, own.recordings_kept) == (900, 60, 4, None)
    assert limits.limits_of(alice.pk) == limits.installation()


@pytest.mark.django_db
def test_how_many_recordings_are_kept_is_asked_once_for_all_users(
    bob, alice, group, settings, django_assert_num_queries
):
    settings.USER_RECORDINGS = 9
    users = get_user_model().objects
    many = [users.create_user(f"user{number}") for number in range(20)]
    for one in (*many[:5], bob):
        one.groups.add(group)
    plan("staff", group, recordings_kept=5)
    plan("more", group, recordings_kept=6)
    plan("own", bob, many[7], recordings_kept=2)

    with django_assert_num_queries(4):
        found = limits.recordings_kept()

    assert found == {one.pk: limits.limits_of(one.pk).recordings_kept for one in users.all()}
    assert [found[one.pk] for one in (bob, alice, many[0], many[7], many[8])] == [2, 9, 6, 2, 9]
    settings.USER_RECORDINGS = None
    assert limits.recordings_kept() == {bob.pk: 2, many[7].pk: 2, **{one.pk: 6 for one in many[:5]}}


@pytest.mark.django_db
def test_what_this_process_knows_follows_its_changes_and_needs_no_query_meanwhile(
    bob, group, django_assert_num_queries, monkeypatch
):
    monkeypatch.setattr(limits, "KNOWN_SECONDS", 3600)
    limits.known_limits(bob.pk)
    with django_assert_num_queries(0):
        assert limits.known_limits(bob.pk).nodes == 500
    made = plan("large", group, nodes=600)
    assert limits.known_limits(bob.pk).nodes == 600
    with django_assert_num_queries(0):
        limits.known_limits(bob.pk)
    bob.groups.clear()
    assert limits.known_limits(bob.pk).nodes == 500
    bob.groups.add(group)
    made.nodes = 700
    made.save()
    assert limits.known_limits(bob.pk).nodes == 700
    made.delete()
    assert limits.known_limits(bob.pk).nodes == 500


# --------------------------------------------------------------------------- what validation says


@pytest.mark.row("S2-10")
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "code"),
    [({"nodes": 1}, "LIMIT_NODES"), ({"credits": 1}, "LIMIT_CREDITS"), ({"nodes": 2, "credits": 2}, None)],
)
def test_nodes_and_estimated_credits_are_those_of_the_owners_plan(bob, make_workflow, values, code):
    workflow = make_workflow(TWO, owner=bob, status=Workflow.Status.DRAFT)
    plan("small", bob, **values)

    if code is None:
        lifecycle.activate(workflow)
        return
    with pytest.raises(ActivationRefused, match=code) as refused:
        lifecycle.activate(workflow)

    assert [finding.code for finding in refused.value.findings] == [code]


@pytest.mark.row("S2-10")
@pytest.mark.django_db
def test_the_installation_limits_estimated_credits_too(bob, make_workflow, settings):
    settings.MAX_CREDITS = 1

    with pytest.raises(ActivationRefused, match="one run costs about 2 credits; the limit is 1"):
        lifecycle.activate(make_workflow(TWO, owner=bob))


@pytest.mark.django_db
def test_the_shortest_interval_is_that_of_the_owners_plan(alice, bob, make_workflow):
    plan("fast", bob, minimum_interval_s=60)
    plan("slow", alice, minimum_interval_s=7200)
    fast, slow = make_workflow(TWO, "fast", owner=bob), make_workflow(TWO, "slow", owner=alice)

    assert schedules.set_schedule(fast, EVERY_MINUTE, "UTC").next_run_at
    with pytest.raises(IntervalTooShort):
        schedules.set_schedule(slow, HOURLY, "UTC")
    with_cron = {**TWO, "cron": EVERY_MINUTE}
    fast.save_version(with_cron, author=bob)
    lifecycle.activate(fast)
    slow.save_version(with_cron, author=alice)
    with pytest.raises(ActivationRefused, match="INTERVAL_TOO_SHORT"):
        lifecycle.activate(slow)


# --------------------------------------------------------------------------- what is saved


def sized(nodes, edges=0, text=""):
    names = [f"n{number}" for number in range(nodes)]
    return graph(
        [node(name, "delay", Duration=0, Unit=text) for name in names],
        *(wire(names[0], "Done", names[-1], "Execute Condition") for _ in range(edges)),
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("setting", "limit", "definition", "told"),
    [
        ("MAX_NODES", 3, sized(4), "the workflow has 4 nodes; the limit is 3"),
        ("MAX_EDGES", 2, sized(2, 3), "the workflow has 3 wires; the limit is 2"),
        ("MAX_EDGES", 2, graph([], *[wire("a", "Done", "b", "In")] * 3), "the workflow has 3 wires; the limit is 2"),
        ("MAX_DEFINITION_BYTES", 1000, sized(1, text="x" * 1000), "bytes; the limit is 1,000"),
    ],
)
def test_a_version_larger_than_the_limits_is_not_stored(bob, settings, setting, limit, definition, told):
    setattr(settings, setting, limit)
    workflow = Workflow.objects.create(owner=bob, name="large")

    with pytest.raises(DefinitionError, match=told):
        workflow.save_version(definition, author=bob)

    assert workflow.versions.count() == 0
    assert workflow.save_version(sized(1), author=bob).number == 1


@pytest.mark.django_db
def test_who_has_a_smaller_plan_now_can_still_mend_what_there_is_but_not_make_it_larger(bob, make_workflow):
    workflow = make_workflow(sized(4), owner=bob)
    plan("small", bob, nodes=2)

    assert workflow.save_version(sized(4, text="new"), author=bob).number == 2
    with pytest.raises(DefinitionError, match="the workflow has 5 nodes; the limit is 2"):
        workflow.save_version(sized(5), author=bob)
    assert workflow.save_version(sized(3), author=bob).number == 3
    with pytest.raises(DefinitionError, match="the workflow has 4 nodes; the limit is 2"):
        lifecycle.restore(workflow, 1, bob)


# --------------------------------------------------------------------------- active workflows


@pytest.mark.django_db
def test_one_active_workflow_more_than_allowed_is_refused_with_the_numbers(bob, make_workflow):
    first, second, third = (make_workflow(TWO, name, owner=bob) for name in ("first", "second", "third"))
    for workflow in (second, third):
        lifecycle.pause(workflow)
    plan("two", bob, active_workflows=2)

    lifecycle.resume(second)
    for move in (lifecycle.resume, lifecycle.activate):
        with pytest.raises(TransitionError, match="bob has 2 active workflows, and the limit is 2; pause or archive"):
            move(third)
    third.refresh_from_db()
    assert third.status == "paused"
    lifecycle.activate(first)  # it is active already
    lifecycle.publish(third)
    lifecycle.archive(first)
    lifecycle.resume(third)


@pytest.mark.postgres
def test_workflows_that_are_activated_at_once_never_exceed_the_limit(transactional_db, bob, make_workflow):
    made = [make_workflow(TWO, f"w{number}", owner=bob) for number in range(8)]
    for workflow in made:
        lifecycle.pause(workflow)
    plan("three", bob, active_workflows=3)
    answers: list[str] = []
    together = threading.Barrier(len(made))

    def resume(workflow):
        together.wait(30)
        try:
            lifecycle.resume(workflow)
            answers.append("active")
        except TransitionError:
            answers.append("refused")
        except Exception as error:
            answers.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=resume, args=(workflow,)) for workflow in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(answers) == ["active"] * 3 + ["refused"] * 5
    assert Workflow.objects.filter(status="active").count() == 3


def test_plans_that_another_thread_reads_anew_meanwhile_do_not_disturb_a_look(db, bob):
    plan("three", bob, active_workflows=3)
    known = limits._Known()

    class Disturbed(dict):
        def __contains__(self, key: object) -> bool:
            found = super().__contains__(key)
            known.forget()
            known.of(None)  # what another thread does between the question and the answer
            return found

    known.of(bob.pk)
    known._plans = Disturbed(known._plans)

    assert [one.name for one in known.of(bob.pk)] == ["three"]
