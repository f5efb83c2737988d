"""Versions never change, come back as new ones, and are copied; what people do to workflows is noted."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import transaction

from tests.conftest import graph, node, wire
from tests.workflows.conftest import just_before
from workflows import audit, credentials, lifecycle, schedules
from workflows.errors import ActivationRefused, DefinitionError, TransitionError, UnknownWorkflow
from workflows.models import AuditEntry, Plan, Workflow, WorkflowVersion

pytestmark = pytest.mark.django_db

ONE, TWO, THREE = (graph([node("a", "delay", Duration=seconds)]) for seconds in (1, 2, 3))
BAD = graph([node("a", "get_html")])


@pytest.fixture
def workflow(alice: Any) -> Workflow:
    """A workflow with three versions, of which the first runs."""
    made = Workflow.objects.create(owner=alice, name="shop", description="sells", settings={"concurrency": 2})
    made.save_version(ONE, author=alice, message="first")
    lifecycle.activate(made)
    made.save_version(TWO, author=alice)
    made.save_version(THREE, author=alice)
    return made


def entries(workflow: Workflow) -> list[tuple[str, dict[str, Any]]]:
    """Return verb and detail of what was noted of a workflow, oldest first."""
    return [
        (entry.verb, entry.detail)
        for entry in AuditEntry.objects.filter(kind="workflow", object_id=str(workflow.pk)).order_by("id")
    ]


# ---------------------------------------------------------------------- nothing changes a version


@pytest.mark.row("S2-11")
@pytest.mark.parametrize(
    "change",
    [
        lambda rows, one: rows.update(message="better"),
        lambda rows, one: rows.filter(pk=one.pk).update(definition=TWO),
        lambda rows, one: rows.bulk_update([one], ["definition"]),
        lambda rows, one: rows.delete(),
        lambda rows, one: rows.filter(pk=one.pk).delete(),
        lambda rows, one: rows.update_or_create(pk=one.pk, defaults={"message": "better"}),
        lambda rows, one: rows.bulk_create(
            [WorkflowVersion(pk=one.pk, workflow=one.workflow, number=1, definition=TWO)],
            update_conflicts=True, unique_fields=["id"], update_fields=["definition"],
        ),
        lambda rows, one: one.save(),
        lambda rows, one: one.delete(),
        lambda rows, one: one.workflow.versions.update(number=9),
        lambda rows, one: one.workflow.versions.all().delete(),
    ],
)  # fmt: skip
def test_a_version_cannot_be_changed_or_deleted_by_any_way_that_the_models_have(
    workflow: Workflow, change: Any
) -> None:
    before = list(WorkflowVersion.objects.values())

    with pytest.raises(ValidationError, match=r"immutable|only with its workflow"), transaction.atomic():
        change(WorkflowVersion.objects.all(), workflow.versions.get(number=1))

    assert list(WorkflowVersion.objects.values()) == before


@pytest.mark.row("S2-11")
def test_many_versions_at_once_get_their_hashes(workflow: Workflow) -> None:
    WorkflowVersion.objects.bulk_create([WorkflowVersion(workflow=workflow, number=4, definition=ONE)])

    assert workflow.versions.get(number=4).content_hash == workflow.versions.get(number=1).content_hash


def test_versions_go_with_their_workflow_and_outlive_their_author(
    workflow: Workflow, bob: Any, django_user_model: Any
) -> None:
    carol = django_user_model.objects.create_user("carol")
    workflow.save_version(ONE, author=carol, message="by carol")
    carol.delete()
    assert workflow.versions.get(number=4).author is None

    assert lifecycle.delete(workflow)
    assert not WorkflowVersion.objects.exists()


def test_a_message_is_as_long_as_the_column(workflow: Workflow, alice: Any) -> None:
    assert workflow.save_version(ONE, author=alice, message="x" * 500).message == "x" * 500
    with pytest.raises(DefinitionError, match="message: has 501 characters; the limit is 500"):
        workflow.save_version(TWO, author=alice, message="x" * 501)
    assert workflow.versions.count() == 4


def test_stored_versions_get_the_hash_that_knows_no_order_of_edges(workflow: Workflow) -> None:
    migration = importlib.import_module("workflows.migrations.0004_status_since")
    whole = {
        **graph([node("a", "delay", Duration=4.0), node("b", "delay", Duration=[{"x": 1.5}])], wire("a", "Done", "b", "In")),
        "cron": "0 9 * * *", "timezone": "Asia/Kolkata", "vars": {"x": 2.0}, "settings": {"concurrency": 2}, "tags": ["t"],
    }  # fmt: skip
    workflow.save_version(whole, author=workflow.owner)
    right = dict(WorkflowVersion.objects.values_list("pk", "content_hash"))
    table = WorkflowVersion._base_manager
    table.update(content_hash="old")
    broken = table.filter(number=2)
    broken.update(definition={"nodes": [], "edges": [3]})

    class Historic:
        """The models as a migration sees them: with plain managers."""

        def get_model(self, app: str, name: str) -> Any:
            model = apps.get_model(app, name)
            return type("Plain", (), {"objects": model._base_manager})

    migration.rehash(Historic(), None)

    assert broken.get().content_hash == "old"
    for version in table.exclude(number=2):
        assert version.content_hash == right[version.pk]


# ---------------------------------------------------------------------- which version runs


@pytest.mark.row("S2-02")
@pytest.mark.parametrize("status", ["draft", "active", "paused"])
def test_publish_decides_which_version_runs_and_leaves_the_status(workflow: Workflow, status: str) -> None:
    Workflow.objects.filter(pk=workflow.pk).update(status=status)
    for number, runs in ((None, 3), (2, 2), (1, 1)):
        assert lifecycle.publish(workflow, number) == []
        stored = Workflow.objects.select_related("version", "draft").get(pk=workflow.pk)
        assert stored.version is not None
        assert stored.draft is not None
        assert (stored.version.number, stored.draft.number, stored.status) == (runs, 3, status)
        assert workflow.version == stored.version

    assert [detail["version_before"] for verb, detail in entries(workflow) if verb == "publish"] == [1, 3, 2]


@pytest.mark.row("S2-02")
def test_a_version_with_errors_is_not_published_and_what_runs_goes_on(workflow: Workflow, alice: Any) -> None:
    workflow.save_version(BAD, author=alice)

    with pytest.raises(ActivationRefused, match='version 4 of workflow "shop" cannot be published; 3 errors'):
        lifecycle.publish(workflow)
    with pytest.raises(TransitionError, match="has no version 9"):
        lifecycle.publish(workflow, 9)

    stored = Workflow.objects.select_related("version").get(pk=workflow.pk)
    assert stored.version is not None
    assert stored.version.number == 1
    assert "publish" not in dict(entries(workflow))


@pytest.mark.row("S2-02")
def test_an_archived_workflow_comes_back_as_a_draft_and_is_checked_anew(workflow: Workflow, alice: Any) -> None:
    schedules.set_schedule(workflow, "0 9 * * *")
    lifecycle.archive(workflow)
    with pytest.raises(TransitionError, match="archived; it cannot be edited"):
        workflow.save_version(ONE, author=alice)

    lifecycle.unarchive(workflow)

    assert (workflow.status, workflow.schedule.next_run_at) == ("draft", None)
    lifecycle.activate(workflow)
    assert workflow.schedule.next_run_at is not None


def test_what_was_deleted_meanwhile_is_named(workflow: Workflow, alice: Any) -> None:
    stale = Workflow.objects.get(pk=workflow.pk)
    lifecycle.delete(workflow)

    with pytest.raises(UnknownWorkflow, match='"shop" was deleted'):
        lifecycle.pause(stale)
    with pytest.raises(UnknownWorkflow, match='"shop" was deleted'):
        stale.save_version(ONE, author=alice)


# ---------------------------------------------------------------------- restoring and copying


@pytest.mark.row("S2-11")
def test_restoring_makes_a_new_version_that_equals_the_old_one(workflow: Workflow, bob: Any) -> None:
    version = lifecycle.restore(workflow, 1, bob)

    old = workflow.versions.get(number=1)
    assert (version.number, version.definition, version.content_hash) == (4, ONE, old.content_hash)
    assert (version.message, version.author) == ("restored from version 1", bob)
    stored = Workflow.objects.select_related("version", "draft").get(pk=workflow.pk)
    assert (stored.draft, stored.version) == (version, old)
    assert entries(workflow)[-1] == ("save", {"version": 4, "message": "restored from version 1"})


def test_there_is_nothing_to_restore_from_what_is_the_same_or_not_there(workflow: Workflow, alice: Any) -> None:
    with pytest.raises(TransitionError, match="already holds what 3 does"):
        lifecycle.restore(workflow, 3, alice)
    with pytest.raises(TransitionError, match="has no version 7"):
        lifecycle.restore(workflow, 7, alice)
    lifecycle.archive(workflow)
    with pytest.raises(TransitionError, match="it cannot be edited"):
        lifecycle.restore(workflow, 1, alice)

    assert workflow.versions.count() == 3


@pytest.mark.row("S2-02")
def test_a_copy_is_a_draft_of_its_own_with_the_schedule_switched_off(workflow: Workflow, bob: Any) -> None:
    schedules.set_schedule(workflow, "0 9 * * *", "Asia/Kolkata")

    copy = lifecycle.clone(workflow, bob)

    assert (copy.name, copy.owner, copy.status, copy.version) == ("shop (copy)", bob, "draft", None)
    assert (copy.description, copy.settings) == ("sells", {"concurrency": 2})
    version = copy.versions.get()
    assert version.definition == {**THREE, "name": "shop (copy)"}
    assert (version.author, version.message) == (bob, "copy of shop, version 3")
    schedule = copy.schedule
    assert (schedule.cron, schedule.timezone, schedule.enabled) == ("0 9 * * *", "Asia/Kolkata", False)
    lifecycle.activate(copy)
    copy.refresh_from_db()
    assert copy.schedule.next_run_at is None
    assert ("clone", {"source": str(workflow.pk), "source_name": "shop"}) in entries(copy)


def test_copies_get_free_names_and_a_taken_one_is_refused(workflow: Workflow, alice: Any) -> None:
    assert [lifecycle.clone(workflow, alice).name for _ in range(3)] == [
        "shop (copy)",
        "shop (copy 2)",
        "shop (copy 3)",
    ]
    assert lifecycle.clone(workflow, alice, "stall", number=1).versions.get().definition["nodes"] == ONE["nodes"]
    with pytest.raises(TransitionError, match='already a workflow "stall"; choose another name'):
        lifecycle.clone(workflow, alice, "stall")
    long = Workflow.objects.create(owner=alice, name="x" * 200)
    long.save_version(ONE, author=alice)
    assert lifecycle.clone(long, alice).name == "x" * 193 + " (copy)"


def test_a_copy_for_who_may_not_run_so_often_has_the_schedule_switched_off(workflow: Workflow, bob: Any) -> None:
    schedules.set_schedule(workflow, "*/10 * * * *")
    slow = Plan.objects.create(name="slow", minimum_interval_s=3600)
    slow.users.add(bob)

    schedule = lifecycle.clone(workflow, bob).schedule

    assert (schedule.cron, schedule.enabled, schedule.next_run_at) == ("*/10 * * * *", False, None)
    with pytest.raises(ValueError, match="the minimum is 60 minutes"):
        schedules.set_schedule(schedule.workflow, schedule.cron)


@pytest.mark.parametrize("name", [None, "stall"])
def test_a_name_that_is_taken_while_a_copy_is_made_is_refused(workflow: Workflow, alice: Any, name: str | None) -> None:
    taken = name or "shop (copy)"

    with (
        just_before('INSERT INTO "workflows_workflow"', lambda: Workflow.objects.create(owner=alice, name=taken)),
        pytest.raises(TransitionError, match=re.escape(f'already a workflow "{taken}"; choose another name')),
    ):
        lifecycle.clone(workflow, alice, name)


# ---------------------------------------------------------------------- the audit log


@pytest.mark.row("S2-02")
def test_what_starts_depend_on_is_noted_with_who_and_what_was_before(alice: Any, bob: Any) -> None:
    with audit.acting(bob, audit.Door.API):
        made = Workflow.objects.create(owner=alice, name="shop")
        made.save_version(ONE, author=bob, message="first")
        made.save_version(ONE, author=bob, message="the same again")
        made.name, made.settings, made.description = "store", {"concurrency": 1}, "not noted"
        made.save()
        made.save()
        schedules.set_schedule(made, "0 9 * * *")
        schedules.set_schedule(made, "0 9 * * *")
        schedules.clear_schedule(made)
        schedules.clear_schedule(made)

    schedule = {"cron": "0 9 * * *", "timezone": "UTC", "enabled": True}
    assert entries(made) == [
        ("create", {}),
        ("save", {"version": 1, "message": "first"}),
        ("rename", {"before": "shop", "after": "store"}),
        ("settings", {"before": {}, "after": {"concurrency": 1}}),
        ("schedule", {**schedule, "before": None}),
        ("unschedule", {"before": schedule}),
    ]
    assert {(entry.actor, entry.owner, entry.door) for entry in AuditEntry.objects.all()} == {(bob, alice, "api")}


def test_what_is_taken_back_is_not_noted(workflow: Workflow, alice: Any) -> None:
    before = entries(workflow)

    with transaction.atomic():
        lifecycle.pause(workflow)
        lifecycle.restore(workflow, 1, alice)
        schedules.set_schedule(workflow, "0 9 * * *")
        transaction.set_rollback(True)

    assert entries(workflow) == before


def test_a_deletion_stays_in_the_log(workflow: Workflow, alice: Any) -> None:
    pk = str(workflow.pk)
    assert lifecycle.delete(workflow)

    entry = AuditEntry.objects.get(verb="delete")
    assert (entry.object_id, entry.object_name, entry.owner, entry.detail) == (pk, "shop", alice, {"status": "active"})


def test_a_copy_for_somebody_else_looks_for_their_credentials(alice: Any, bob: Any) -> None:
    credentials.save(alice, "key", "password", {"password": "x"})
    made = Workflow.objects.create(owner=alice, name="deliver")
    payload = {"p": {"$credential": "key", "field": "password"}}
    made.save_version(
        graph([node("a", "deliver_to_webhook", Webhook_URL="https://example.com", Payload=payload)]), author=alice
    )
    assert lifecycle.activate(made) == []

    with pytest.raises(ActivationRefused, match='no credential "key"'):
        lifecycle.activate(lifecycle.clone(made, bob))
