"""Files of workflows: complete, without secrets, and the same after a journey."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import graph, node
from tests.workflows.conftest import just_before
from workflows import credentials, lifecycle, schedules, transfer
from workflows.errors import ActivationRefused, DefinitionError, TransitionError
from workflows.models import AuditEntry, Plan, Workflow

pytestmark = pytest.mark.django_db

SECRET = "s3cr3t-of-alice"
REFERENCE = {"$credential": "shop-login", "field": "password"}
DELIVER = graph(
    [
        node("a", "deliver_to_webhook", Webhook_URL="https://example.com",
             Payload={"who": {"$credential": "shop-login", "field": "username"}, "deep": [REFERENCE]}),
    ]
)  # fmt: skip
WHOLE = {
    "id": "from elsewhere",
    "name": "shop",
    "description": "sells",
    **DELIVER,
    "vars": {"x": 1},
    "cron": "0 9 * * *",
    "timezone": "Asia/Kolkata",
    "settings": {"concurrency": 2},
    "tags": ["first", "second"],
    "made_with": {"unknown": ["to", "us"]},
}


@pytest.fixture
def login(alice: Any) -> Any:
    return credentials.save(alice, "shop-login", "password", {"username": "a", "password": SECRET})


@pytest.mark.row("S2-04")
def test_a_file_makes_the_journey_there_and_back_unchanged(alice: Any, bob: Any, login: Any) -> None:
    workflow, version, _ = transfer.import_definition(alice, WHOLE)
    file = transfer.export(workflow)
    again, same, _ = transfer.import_definition(alice, json.loads(json.dumps(file)))
    there, abroad, _ = transfer.import_definition(bob, json.loads(json.dumps(file)))

    assert {key: value for key, value in file.items() if key != "requires"} == WHOLE
    assert list(file) == [*WHOLE, "requires"]
    assert (again.pk, same.pk) == (workflow.pk, version.pk)
    assert abroad.content_hash == version.content_hash
    assert {**transfer.export(there), "requires": None} == {**file, "requires": None}
    assert workflow.versions.count() == 1


@pytest.mark.row("S2-04")
def test_a_file_holds_what_the_workflow_is_now_not_what_it_was_when_it_was_saved(alice: Any, login: Any) -> None:
    workflow, version, _ = transfer.import_definition(alice, {**WHOLE, "status": "draft"})
    lifecycle.activate(workflow)
    workflow.name, workflow.description, workflow.settings = "store", "sells more", {"deadline_s": 60, "tags": ["new"]}
    workflow.save()
    schedules.set_schedule(workflow, "30 8 * * 1", "UTC")
    workflow.save_version({**version.definition, "vars": {"x": 2}}, author=alice)

    now, before = transfer.export(workflow), transfer.export(workflow, 1)

    for file in (now, before):
        assert (file["name"], file["description"], file["status"]) == ("store", "sells more", "active")
        assert (file["cron"], file["timezone"]) == ("30 8 * * 1", "UTC")
        assert (file["settings"], file["tags"]) == ({"deadline_s": 60}, ["new"])
    assert (now["vars"], before["vars"]) == ({"x": 2}, {"x": 1})
    with pytest.raises(TransitionError, match="has no version 5"):
        transfer.export(workflow, 5)


def test_a_schedule_that_is_off_or_gone_is_so_in_the_file_and_after_it(alice: Any, bob: Any, login: Any) -> None:
    workflow, _, _ = transfer.import_definition(alice, WHOLE)
    schedules.set_schedule(workflow, "0 9 * * *", "Asia/Kolkata", enabled=False)

    copy, version, _ = transfer.import_definition(bob, transfer.export(workflow))

    assert (copy.schedule.cron, copy.schedule.enabled) == ("0 9 * * *", False)
    assert "schedule_enabled" not in version.definition
    schedules.clear_schedule(workflow)
    assert not {"cron", "timezone", "schedule_enabled"} & set(transfer.export(workflow))


def test_a_file_says_which_credentials_it_needs_and_holds_no_secret(alice: Any, login: Any) -> None:
    by_id = json.loads(json.dumps(WHOLE).replace('"shop-login"', f'"{login.pk}"'))
    by_name, _, _ = transfer.import_definition(alice, WHOLE)
    same, _, _ = transfer.import_definition(alice, by_id, name="by id")

    for workflow in (by_name, same):
        file = transfer.export(workflow)
        text = json.dumps(file)
        assert file["requires"] == [{"name": "shop-login", "kind": "password", "fields": ["username", "password"]}]
        assert SECRET not in text
        assert str(login.pk) not in text


def test_placeholders_become_the_credentials_of_who_imports(alice: Any, bob: Any, login: Any) -> None:
    workflow, _, _ = transfer.import_definition(alice, WHOLE)
    credentials.save(bob, "mine", "password", {"username": "b", "password": "y"})
    file = {**transfer.export(workflow), "status": "active"}

    _, _, missing = transfer.import_definition(bob, file, draft=True, name="later")
    with pytest.raises(ActivationRefused, match='no credential "shop-login"'):
        transfer.import_definition(bob, file)
    imported, version, findings = transfer.import_definition(bob, file, credentials={"shop-login": "mine"})

    assert {finding.code for finding in missing} == {"MISSING_CREDENTIAL"}
    assert (imported.status, findings) == ("active", [])
    assert list(transfer.needs(version.definition)) == ["mine"]
    assert "requires" not in version.definition
    assert file["nodes"][0]["data"]["inputs"]["Payload"]["deep"] == [REFERENCE]


def test_a_placeholder_that_the_file_does_not_have_is_refused_with_those_that_it_has(alice: Any) -> None:
    with pytest.raises(DefinitionError, match='needs no credential "sho"; it needs "shop-login"'):
        transfer.import_definition(alice, WHOLE, credentials={"sho": "mine"})
    assert not Workflow.objects.exists()


@pytest.mark.row("S2-04")
def test_tags_of_a_file_are_tags_of_its_recordings(alice: Any, login: Any) -> None:
    first, version, _ = transfer.import_definition(alice, WHOLE)
    second, _, _ = transfer.import_definition(alice, {**WHOLE, "settings": {"tags": ["own"]}}, name="own")

    assert first.settings == {"concurrency": 2, "tags": ["first", "second"]}
    assert version.definition["made_with"] == WHOLE["made_with"]
    assert second.settings == {"tags": ["own"]}


def test_settings_of_a_file_replace_those_that_are_there_and_tags_alone_join_them(alice: Any, login: Any) -> None:
    workflow, _, _ = transfer.import_definition(alice, {**WHOLE, "tags": []})
    no_settings = {key: value for key, value in WHOLE.items() if key != "settings"}

    transfer.import_definition(alice, {**no_settings, "description": ""})
    workflow.refresh_from_db()
    assert (workflow.settings, workflow.description) == ({"concurrency": 2, "tags": ["first", "second"]}, "sells")
    transfer.import_definition(alice, {**WHOLE, "settings": {"deadline_s": 5}, "tags": []})
    workflow.refresh_from_db()
    assert workflow.settings == {"deadline_s": 5}
    assert AuditEntry.objects.filter(verb="import", object_id=str(workflow.pk)).count() == 3


def test_a_new_name_is_the_name_in_the_version_too(alice: Any, login: Any) -> None:
    workflow, version, _ = transfer.import_definition(alice, WHOLE, name="stall")

    assert (workflow.name, version.definition["name"], transfer.export(workflow)["name"]) == ("stall",) * 3


def test_a_file_that_is_larger_than_the_plan_of_its_owner_allows_is_refused(alice: Any) -> None:
    Plan.objects.create(name="small", nodes=1).users.add(alice)
    two = {"name": "two", **graph([node("a", "delay", Duration=1), node("b", "delay", Duration=1)])}

    with pytest.raises(ActivationRefused, match="LIMIT_NODES"):
        transfer.import_definition(alice, two)
    assert not Workflow.objects.exists()


def test_a_file_is_merged_into_the_settings_that_are_there_when_it_is_stored(alice: Any) -> None:
    workflow, _, _ = transfer.import_definition(alice, WHOLE)
    plain = {key: value for key, value in WHOLE.items() if key not in ("settings", "tags")}

    def faster() -> None:
        other = Workflow.objects.get(pk=workflow.pk)
        other.settings = {**other.settings, "priority": "high"}
        other.save()

    with just_before('WHERE "workflows_workflow"."id" =', faster):
        transfer.import_definition(alice, {**plain, "tags": ["third"]})

    workflow.refresh_from_db()
    assert workflow.settings == {"concurrency": 2, "priority": "high", "tags": ["third"]}
