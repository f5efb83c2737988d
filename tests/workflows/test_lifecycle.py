"""Status, versions, importing, deleting."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from executions.models import Execution
from tests.conftest import graph, node, wire
from workflows import audit, credentials, lifecycle
from workflows.definition import Definition
from workflows.errors import ActivationRefused, DefinitionError, TransitionError, UnknownWorkflow
from workflows.lifecycle import TRANSITIONS, find_workflow
from workflows.models import AuditEntry, Schedule, Workflow, WorkflowVersion
from workflows.transfer import import_definition
from workflows.validation import Finding

pytestmark = pytest.mark.django_db

GOOD = graph([node("a", "delay", Duration=1)])
BETTER = graph([node("a", "delay", Duration=2)])
BAD = graph([node("a", "get_html")])


@pytest.fixture
def workflow(alice: Any) -> Workflow:
    made = Workflow.objects.create(owner=alice, name="shop")
    made.save_version(GOOD, author=alice)
    return made


# ---------------------------------------------------------------------- transitions


ACT: dict[str, Callable[[Workflow], Any]] = {
    "activate": lifecycle.activate,
    "publish": lifecycle.publish,
    "pause": lifecycle.pause,
    "resume": lifecycle.resume,
    "archive": lifecycle.archive,
    "unarchive": lifecycle.unarchive,
    "edit": lambda workflow: workflow.save_version(BETTER, author=workflow.owner),
    "delete": lifecycle.delete,
}
NOTED = {"edit": "save"}


@pytest.mark.row("S2-01")
@pytest.mark.parametrize(("verb", "status"), list(product(TRANSITIONS, Workflow.Status.values)))
def test_every_transition_of_the_table_works_and_is_noted_and_every_other_raises(
    workflow: Workflow, alice: Any, verb: str, status: str
) -> None:
    Workflow.objects.filter(pk=workflow.pk).update(status=status)
    AuditEntry.objects.all().delete()
    workflow.refresh_from_db()
    pk = workflow.pk
    sources, target = TRANSITIONS[verb]

    with audit.acting(alice, audit.Door.COMMAND):
        if status not in sources:
            with pytest.raises(TransitionError, match=f"is {status}; it cannot be .* Possible now: ") as caught:
                ACT[verb](workflow)
            named = str(caught.value).partition("Possible now: ")[2].split(", ")
            assert named == lifecycle.possible(status) == [one for one in TRANSITIONS if status in TRANSITIONS[one][0]]
            assert Workflow.objects.get(pk=pk).status == status
            assert not AuditEntry.objects.exists()
            return
        ACT[verb](workflow)

    stored = Workflow.objects.filter(pk=pk).first()
    assert (stored.status if stored else "gone") == (target or ("gone" if verb == "delete" else status))
    assert workflow.status == (target or status)
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.kind, entry.object_id, entry.object_name) == (
        NOTED.get(verb, verb), "workflow", str(pk), "shop"
    )  # fmt: skip
    assert (entry.actor, entry.owner, entry.door) == (alice, alice, "command")


@pytest.mark.row("S2-01")
def test_a_stale_object_cannot_win_a_transition_twice(workflow: Workflow) -> None:
    workflow.activate()
    first, second = Workflow.objects.get(pk=workflow.pk), Workflow.objects.get(pk=workflow.pk)

    first.pause()
    with pytest.raises(
        TransitionError, match=r"is paused; it cannot be paused\. Possible now: activate, publish, resume"
    ):
        second.pause()

    assert second.status == "paused"


@pytest.mark.row("S2-02")
def test_editing_an_active_workflow_makes_a_draft_and_what_is_active_keeps_running(
    workflow: Workflow, alice: Any
) -> None:
    workflow.activate()

    second = workflow.save_version(BETTER, author=alice, message="slower")

    workflow.refresh_from_db()
    assert workflow.status == "active"
    assert workflow.version is not None
    assert (workflow.version.number, second.number) == (1, 2)
    assert workflow.draft == second

    workflow.activate()
    assert Workflow.objects.get(pk=workflow.pk).version == second


@pytest.mark.row("S2-11")
def test_versions_are_numbered_immutable_and_unchanged_content_makes_none(workflow: Workflow, alice: Any) -> None:
    first = workflow.versions.get()

    assert workflow.save_version({**GOOD, "name": "other"}, author=alice) == first
    assert workflow.save_version(BETTER, author=alice).number == 2
    assert workflow.save_version(GOOD, author=alice).number == 3

    first.definition = BETTER
    with pytest.raises(ValidationError, match="immutable"):
        first.save()
    assert len(first.content_hash) == 64
    assert (first.author, first.number) == (alice, 1)


@pytest.mark.row("S2-02")
def test_activation_refuses_errors_with_all_findings(workflow: Workflow, alice: Any) -> None:
    workflow.activate()
    workflow.save_version(BAD, author=alice)

    with pytest.raises(ActivationRefused) as caught:
        workflow.activate()

    assert {finding.code for finding in caught.value.findings} == {"MISSING_INPUT", "NO_ENTRY_POINT", "UNREACHABLE"}
    assert "Web Page" in str(caught.value)
    workflow.refresh_from_db()
    assert workflow.version is not None
    assert (workflow.status, workflow.version.number) == ("active", 1)


def test_activation_needs_a_version(alice: Any) -> None:
    with pytest.raises(TransitionError, match="has no version yet"):
        Workflow.objects.create(owner=alice, name="empty").activate()


def test_upper_rooms_can_refuse_an_activation(workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    def gate(asked: Workflow, version: WorkflowVersion) -> list[Finding]:
        return [Finding("REGRESSION", "error", f"{asked.name} v{version.number} changes a result")]

    monkeypatch.setattr(lifecycle, "ACTIVATION_CHECKS", [gate])

    with pytest.raises(ActivationRefused, match="shop v1 changes a result"):
        workflow.activate()


def test_warnings_do_not_stop_an_activation(workflow: Workflow, alice: Any) -> None:
    workflow.save_version(graph([node("a", "delay", Duration=1)], wire("a", "Done", "gone", "x")), author=alice)

    assert [finding.code for finding in lifecycle.activate(workflow)] == ["DANGLING_EDGE"]
    assert workflow.status == "active"


# ---------------------------------------------------------------------- schedules follow the status


@pytest.mark.row("S2-02")
def test_the_next_run_exists_only_while_the_workflow_is_active(alice: Any) -> None:
    workflow, _, _ = import_definition(alice, {**GOOD, "name": "n", "cron": "0 9 * * 1-5", "timezone": "Asia/Kolkata"})

    def next_run() -> Any:
        return Schedule.objects.get(workflow=workflow).next_run_at

    assert next_run() is None
    workflow.activate()
    assert (next_run().hour, next_run().minute) == (3, 30)
    workflow.pause()
    assert next_run() is None
    workflow.resume()
    assert next_run() > timezone.now()
    workflow.archive()
    assert next_run() is None


# ---------------------------------------------------------------------- importing


@pytest.mark.row("S2-04")
def test_the_sample_of_the_specification_imports_unchanged_and_is_active(alice: Any, sample: dict[str, Any]) -> None:
    before = json.dumps(sample)

    workflow, version, findings = import_definition(alice, sample)

    assert json.dumps(WorkflowVersion.objects.get(pk=version.pk).definition) == before
    assert (workflow.name, workflow.description, workflow.status) == ("Workflow Name", "Workflow description", "active")
    assert workflow.version == version
    assert (workflow.schedule.cron, workflow.schedule.timezone) == ("0 9 * * 1-5", "UTC")
    assert workflow.schedule.next_run_at is not None
    assert workflow.schedule.next_run_at.hour == 9
    assert [(finding.code, finding.severity) for finding in findings] == [("DANGLING_EDGE", "warning")]


def test_the_same_name_again_is_a_new_version_of_the_same_workflow(alice: Any, bob: Any) -> None:
    first, _, _ = import_definition(alice, {**GOOD, "name": "shop", "status": "active"})
    second, version, _ = import_definition(alice, {**BETTER, "name": "shop"})
    other, _, _ = import_definition(bob, {**GOOD, "name": "shop"})

    assert second.pk == first.pk
    assert version.number == 2
    assert second.version is not None
    assert (second.version.number, second.status) == (1, "active")
    assert other.pk != first.pk


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        ({"nodes": "x", "name": "n"}, ActivationRefused, "nodes: must be a list"),
        (GOOD, DefinitionError, "no name"),
        ({**BAD, "name": "n"}, ActivationRefused, "Web Page"),
        ({**graph([node("a", "nope")]), "name": "n"}, ActivationRefused, '"nope", which does not exist'),
        (
            {**graph([node("a", "delay", Duration=1)], wire("a", "Done", "a", "Execute Condition")), "name": "n"},
            ActivationRefused,
            "waits for itself",
        ),
        ({**GOOD, "name": "n", "cron": "*/2 * * * *"}, ActivationRefused, "the minimum is 5 minutes"),
        ({**GOOD, "name": "x" * 201}, DefinitionError, "200"),
    ],
)
def test_a_bad_import_stores_nothing(alice: Any, data: dict[str, Any], error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        import_definition(alice, data)

    assert Workflow.objects.count() == Schedule.objects.count() == WorkflowVersion.objects.count() == 0


def test_credentials_may_follow_later_but_not_for_an_active_workflow(alice: Any) -> None:
    data = graph(
        [node("a", "deliver_to_webhook", Webhook_URL="https://example.com", Payload={"p": {"$credential": "key"}})]
    )

    _, _, findings = import_definition(alice, {**data, "name": "later"})
    with pytest.raises(ActivationRefused, match='no credential "key"'):
        import_definition(alice, {**data, "name": "now", "status": "active"})
    credentials.save(alice, "key", "password", {"password": "x"})
    workflow, _, _ = import_definition(alice, {**data, "name": "now", "status": "active"})

    assert [finding.code for finding in findings] == ["MISSING_CREDENTIAL"]
    assert workflow.status == "active"


def test_nothing_is_imported_over_an_archived_workflow(alice: Any) -> None:
    workflow, _, _ = import_definition(alice, {**GOOD, "name": "old"})
    workflow.archive()

    with pytest.raises(TransitionError, match="archived"):
        import_definition(alice, {**BETTER, "name": "old"})
    assert workflow.versions.count() == 1


# ---------------------------------------------------------------------- finding and deleting


def test_a_workflow_is_found_by_name_or_id_and_only_by_who_may_see_it(workflow: Workflow, alice: Any, bob: Any) -> None:
    theirs = Workflow.objects.create(owner=bob, name="shop")
    alone = Workflow.objects.create(owner=bob, name="alone")

    assert find_workflow(alice, "shop") == workflow
    assert find_workflow(alice, str(workflow.pk)) == workflow
    assert find_workflow(bob, "shop") == theirs
    assert find_workflow(alice, "alone") == alone
    with pytest.raises(UnknownWorkflow, match="workflows list"):
        find_workflow(bob, str(workflow.pk))
    with pytest.raises(UnknownWorkflow, match='no workflow "nope"'):
        find_workflow(alice, "nope")


def test_a_name_that_several_other_people_use_needs_an_id(alice: Any, bob: Any, django_user_model: Any) -> None:
    carol = django_user_model.objects.create_user("carol")
    for owner in (bob, carol):
        Workflow.objects.create(owner=owner, name="same")

    with pytest.raises(UnknownWorkflow, match="use an id"):
        find_workflow(alice, "same")


@pytest.mark.row("S2-02")
def test_deleting_removes_what_never_ran_and_archives_what_has_history(workflow: Workflow, alice: Any) -> None:
    other, version, _ = import_definition(alice, {**GOOD, "name": "ran", "status": "active", "cron": "0 9 * * *"})
    Execution.objects.create(workflow=other, version=version, owner=alice, trigger="manual", queued_at=timezone.now())

    assert lifecycle.delete(workflow)
    assert not lifecycle.delete(other)
    assert not lifecycle.delete(other)

    assert list(Workflow.objects.values_list("name", "status")) == [("ran", "archived")]
    other.refresh_from_db()
    assert other.version == version
    assert other.schedule.next_run_at is None


@pytest.mark.row("S2-02b")
def test_a_failed_execution_does_not_disable_the_schedule(alice: Any) -> None:
    workflow, version, _ = import_definition(alice, {**GOOD, "name": "n", "status": "active", "cron": "0 9 * * *"})
    Execution.objects.create(
        workflow=workflow, version=version, owner=alice, trigger="scheduled", status="failed", queued_at=timezone.now()
    )

    schedule = Schedule.objects.get(workflow=workflow)
    assert (schedule.enabled, workflow.status) == (True, "active")
    assert schedule.next_run_at is not None


def test_variables_are_checked_only_where_the_installation_gives_some(alice: Any, settings: Any) -> None:
    definition = Definition.from_json(graph([node("a", "delay", Duration="{{ vars.seconds }}")]))

    settings.WORKFLOW_VARS = {}
    assert lifecycle.check_definition(definition, alice.pk) == []
    settings.WORKFLOW_VARS = {"demo_url": "http://127.0.0.1:1"}
    assert [finding.code for finding in lifecycle.check_definition(definition, alice.pk)] == ["UNKNOWN_VARIABLE"]
