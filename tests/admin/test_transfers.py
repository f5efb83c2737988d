"""Workflows come in and go out as files, copies and examples."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from tests.admin.conftest import logged_in
from tests.conftest import graph, node
from workflows import credentials, schedules
from workflows.models import Plan, Workflow
from workflows.transfer import examples

IMPORT = "/admin/workflows/workflow/import/"
EXAMPLES = "/admin/workflows/workflow/examples/"
GOOD = {**graph([node("wait", "delay", Duration=1)]), "name": "brought in", "of_its_own": {"kept": True}}
LOGIN = {"$credential": "shop", "field": "password"}


def text(definition: Any) -> str:
    return json.dumps(definition)


def test_a_file_is_imported_as_a_draft_with_every_key(bob: Any) -> None:
    file = SimpleUploadedFile("flow.json", text({**GOOD, "status": "active"}).encode())

    answer = logged_in(bob).post(IMPORT, {"file": file, "import": "Import"}, follow=True)

    workflow = Workflow.objects.get(owner=bob, name="brought in")
    assert workflow.status == "draft"
    assert workflow.draft is not None
    assert workflow.draft.definition["of_its_own"] == {"kept": True}
    assert "is imported as version 1" in answer.content.decode()


def test_findings_are_shown_beside_the_text_and_nothing_is_stored(bob: Any) -> None:
    broken = {**GOOD, "nodes": [node("a", "no_such_type"), node("b", "delay", Duration="soon")]}

    answer = logged_in(bob).post(IMPORT, {"text": text(broken), "name": "mine", "import": "Import"})

    html = answer.content.decode()
    assert not Workflow.objects.exists()
    assert "Not imported yet: 2 errors to mend below" in html
    assert "no_such_type" in html
    assert answer.context["form"]["text"].value() == text(broken)
    assert answer.context["form"]["name"].value() == "mine"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"text": "{nonsense"}, "This is no definition"),
        ({"text": "[1]"}, "a workflow is a JSON object"),
        ({"text": '{"nodes": [], "nodes": []}'}, "This is no definition"),
        ({"text": "  "}, "Choose a file, or paste a definition"),
        ({"file": SimpleUploadedFile("x.json", b"\xff\xfe\x00")}, "The file is no text"),
    ],
)
def test_what_is_no_definition_is_refused_with_the_reason(bob: Any, sent: dict[str, Any], reason: str) -> None:
    assert reason in logged_in(bob).post(IMPORT, {**sent, "import": "Import"}).content.decode()
    assert not Workflow.objects.exists()


def test_a_file_that_is_too_large_is_refused_with_the_limit(bob: Any, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 2_000_000
    file = SimpleUploadedFile("flow.json", text({**GOOD, "of_its_own": "x" * 1_000_000}).encode())

    html = logged_in(bob).post(IMPORT, {"file": file, "import": "Import"}).content.decode()

    assert "The file is larger than 0.954 MB; divide it into subflows." in html
    assert not Workflow.objects.exists()


def test_checking_stores_nothing(bob: Any) -> None:
    answer = logged_in(bob).post(IMPORT, {"text": text(GOOD), "check": "Check only"})

    assert "No findings: it can be imported" in answer.content.decode()
    assert not Workflow.objects.exists()


def test_a_credential_that_is_missing_is_replaced_by_one_of_ones_own(bob: Any, carol: Any) -> None:
    send: dict[str, Any] = {"Webhook URL": "http://x.test", "Payload": "{}", "Signing Secret": LOGIN}
    needy = text({**GOOD, "nodes": [node("send", "deliver_to_webhook", **send)]})
    credentials.save(bob, "my shop", "password", {"password": "secret"})
    credentials.save(carol, "hers", "password", {"password": "secret"})
    client = logged_in(bob)

    asked = client.post(IMPORT, {"text": needy, "check": "Check only"})
    client.post(IMPORT, {"text": needy, "credential-0": "my shop", "import": "Import", "activate": "on"})

    [need] = asked.context["needs"]
    assert (need["placeholder"], need["there"], need["own"]) == ("shop", False, ["my shop"])
    stored = Workflow.objects.get(owner=bob).draft
    assert stored is not None
    assert stored.definition["nodes"][0]["data"]["inputs"]["Signing Secret"]["$credential"] == "my shop"
    client.post(IMPORT, {"text": needy, "name": "other", "credential-0": "hers", "import": "Import"})
    kept = Workflow.objects.get(owner=bob, name="other").draft
    assert kept is not None
    assert kept.definition["nodes"][0]["data"]["inputs"]["Signing Secret"] == LOGIN


def test_an_exported_file_can_be_imported_by_somebody_else(bob: Any, carol: Any, make_world: Any) -> None:
    workflow = Workflow.objects.create(owner=bob, name="Prices & more")
    workflow.save_version({**GOOD, "name": "old name"}, author=bob)
    schedules.set_schedule(workflow, "*/15 * * * *", "Europe/Berlin")

    answer = logged_in(bob).get(reverse("admin:workflows_workflow_export", args=(workflow.pk,)))
    logged_in(carol).post(IMPORT, {"text": answer.content.decode(), "import": "Import"})

    assert answer.headers["Content-Disposition"] == 'attachment; filename="prices-more.json"'
    copy = Workflow.objects.get(owner=carol)
    assert (copy.name, copy.schedule.cron) == ("Prices & more", "*/15 * * * *")


def test_a_duplicate_is_a_draft_of_who_made_it(alice: Any, bob: Any, make_world: Any) -> None:
    workflow = make_world(bob, "shop").workflow
    url = reverse("admin:workflows_workflow_duplicate", args=(workflow.pk,))

    assert logged_in(bob).get(url).status_code == 405
    answer = logged_in(alice).post(url)

    copy = Workflow.objects.get(owner=alice)
    assert (copy.name, copy.status, copy.schedule.enabled) == ("shop (copy)", "draft", False)
    assert answer.headers["Location"].endswith(f"/{copy.pk}/change/")


def test_every_example_becomes_a_draft_and_again_a_copy(bob: Any) -> None:
    client = logged_in(bob)
    known = examples()
    page = client.get(EXAMPLES).content.decode()

    for key, data in known.items():
        assert data["name"] in page
        client.post(EXAMPLES, {"example": key})
    made = set(Workflow.objects.filter(owner=bob).values_list("name", flat=True))
    client.post(EXAMPLES, {"example": "demo-shop-http"})

    assert {data["name"] for data in known.values()} <= made
    assert Workflow.objects.filter(owner=bob, name="demo-shop-http 2", status="draft").exists()
    assert "There is no such example" in client.post(EXAMPLES, {"example": "../settings"}).content.decode()


def test_an_example_that_cannot_be_stored_leaves_none_of_its_subflows(bob: Any) -> None:
    Plan.objects.create(name="small", nodes=5).users.add(bob)

    page = logged_in(bob).post(EXAMPLES, {"example": "demo-order"}, follow=True)

    assert "demo-order" in page.content.decode()
    assert "is not imported" in page.content.decode()
    assert not Workflow.objects.exists()


def test_a_version_that_is_no_number_exports_the_newest(bob: Any, make_world: Any) -> None:
    workflow = make_world(bob, "shop").workflow

    answer = logged_in(bob).get(reverse("admin:workflows_workflow_export", args=(workflow.pk,)), {"version": "²"})

    assert (answer.status_code, answer.json()["name"]) == (200, "shop")


def test_an_owner_that_is_no_number_filters_nothing(alice: Any, make_world: Any) -> None:
    make_world(alice, "shop")

    page = logged_in(alice).get("/admin/workflows/workflow/", {"owner": "²"})

    assert page.status_code == 200
    assert [workflow.name for workflow in page.context["cl"].result_list] == ["shop"]


def test_values_that_are_nested_deeply_are_told_where_a_credential_is_chosen(bob: Any) -> None:
    credentials.save(bob, "my shop", "password", {"password": "secret"})
    deep: Any = LOGIN
    for _ in range(700):
        deep = [deep]

    for button in ("check", "import"):
        sent = {"text": text({**GOOD, "vars": {"deep": deep}}), "credential-0": "my shop", button: "on"}
        answer = logged_in(bob).post(IMPORT, sent)
        assert (answer.status_code, "nested deeper" in answer.content.decode()) == (200, True)
    assert not Workflow.objects.exists()
