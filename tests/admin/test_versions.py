"""Versions of a workflow: the list, comparisons, restoring and publishing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from django.urls import reverse

from tests.admin.conftest import logged_in
from tests.conftest import graph, node, wire
from workflows import lifecycle
from workflows.models import Workflow

FIRST = graph([node("wait", "delay", Duration=1), node("old", "json_transform", Input_JSON="{}")])


@pytest.fixture
def workflow(bob: Any, db: None) -> Workflow:
    """Three versions of bob's: the second runs, the third is a draft."""
    made = Workflow.objects.create(owner=bob, name="shop")
    made.save_version(FIRST, author=bob, message="first draft")
    second = copy.deepcopy(FIRST)
    second["nodes"][0]["data"]["inputs"]["Duration"] = 5
    second["nodes"][0]["data"]["label"] = "Wait for the shop"
    second["nodes"][1] = node("new", "delay", Duration=9)
    second["edges"] = [wire("wait", "Done", "new", "Execute Condition")]
    made.save_version(second, author=bob, message="another node")
    lifecycle.activate(made)
    third = copy.deepcopy(second)
    third["nodes"][0]["position"] = {"x": 40, "y": 0}
    made.save_version(third, author=bob, message="tidied up")
    return made


def address(workflow: Workflow, page: str, *rest: Any) -> str:
    return reverse(f"admin:workflows_workflow_{page}", args=(workflow.pk, *rest))


def test_the_list_says_which_version_runs_which_is_newest_and_how_often_each_ran(bob: Any, workflow: Workflow) -> None:
    from tests.admin.conftest import make_execution

    make_execution(workflow, "completed")

    page = logged_in(bob).get(address(workflow, "versions"))

    rows = {row["version"].number: row for row in page.context["rows"]}
    assert list(rows) == [3, 2, 1]
    assert ["Running" in row["badges"] for row in rows.values()] == [False, True, False]
    assert ["Newest draft" in row["badges"] for row in rows.values()] == [True, False, False]
    assert [row["runs"] for row in rows.values()] == [0, 1, 0]
    shown = logged_in(bob).get(rows[2]["runs_url"])
    assert [execution.version_id for execution in shown.context["cl"].result_list] == [workflow.version_id]
    assert "shop v2" in shown.content.decode()


def test_a_comparison_names_what_came_went_changed_and_moved(bob: Any, workflow: Workflow) -> None:
    page = logged_in(bob).get(address(workflow, "diff"), {"from": "1", "to": "3"})

    found = page.context["found"]
    assert [(box.kind, box.id) for box in found.nodes] == [("added", "new"), ("removed", "old"), ("changed", "wait")]
    assert [(row.field, row.before, row.after) for row in found.nodes[2].rows] == [
        ("Duration", "1", "5"), ("label", "", "Wait for the shop"),
    ]  # fmt: skip
    assert found.wires == [("added", "Wait for the shop (Done) → Delay (Execute Condition)")]
    assert found.moved == ["Wait for the shop"]
    html = page.content.decode()
    for word in ("Added", "Removed", "Changed", "1 node moved on the canvas"):
        assert word in html


def test_a_comparison_hides_what_looks_like_a_secret(bob: Any, workflow: Workflow) -> None:
    definition = graph([node("wait", "delay", Duration=1, Password="correct horse")])
    workflow.save_version(definition, author=bob)

    html = logged_in(bob).get(address(workflow, "diff"), {"from": "3", "to": "4"}).content.decode()

    assert "Password" in html
    assert "correct horse" not in html


def test_without_numbers_the_running_version_is_compared_with_the_newest(bob: Any, workflow: Workflow) -> None:
    page = logged_in(bob).get(address(workflow, "diff"))

    assert (page.context["old"].number, page.context["new"].number) == (2, 3)
    lost = logged_in(bob).get(address(workflow, "diff"), {"from": "1", "to": "77"}, follow=True)
    assert "There is no version 77" in lost.content.decode()


def test_before_anything_runs_the_newest_is_compared_with_the_one_before(bob: Any, workflow: Workflow) -> None:
    Workflow.objects.filter(pk=workflow.pk).update(version=None)
    page = logged_in(bob).get(address(workflow, "diff"))
    assert (page.context["old"].number, page.context["new"].number) == (2, 3)

    alone = Workflow.objects.create(owner=bob, name="alone")
    alone.save_version(FIRST, author=bob)
    page = logged_in(bob).get(address(alone, "diff"), follow=True)
    assert "There is no version before the first to compare with." in page.content.decode()


def test_restoring_asks_shows_what_changes_and_saves_a_new_version(bob: Any, workflow: Workflow) -> None:
    client, url = logged_in(bob), address(workflow, "version_restore", 1)

    asked = client.get(url)
    assert asked.context["other"].number == 3
    assert workflow.versions.count() == 3
    client.post(url)

    workflow.refresh_from_db()
    assert workflow.draft is not None
    assert workflow.version is not None
    assert (workflow.draft.number, workflow.version.number) == (4, 2)
    assert workflow.draft.definition["nodes"] == FIRST["nodes"]


def test_publishing_changes_what_runs_and_a_refusal_says_why(bob: Any, workflow: Workflow) -> None:
    client = logged_in(bob)
    client.post(address(workflow, "version_publish", 3))
    workflow.refresh_from_db()
    assert workflow.version == workflow.draft

    refused = client.post(address(workflow, "version_publish", 1), follow=True)

    workflow.refresh_from_db()
    assert workflow.version == workflow.draft
    assert "cannot be published" in refused.content.decode()


def test_the_page_to_publish_a_version_with_errors_shows_them_and_has_no_button(bob: Any, workflow: Workflow) -> None:
    client = logged_in(bob)

    wrong = client.get(address(workflow, "version_publish", 1)).content.decode()
    right = client.get(address(workflow, "version_publish", 3)).content.decode()

    assert "It cannot be published: 1 error." in wrong
    assert "Transform Rules" in wrong
    assert '<button type="submit" class="button default">Publish v1</button>' not in wrong
    assert '<button type="submit" class="button default">Publish v3</button>' in right
    assert "cannot be published" not in right


def test_other_people_have_no_such_pages_and_who_may_only_see_changes_nothing(
    bob: Any, carol: Any, workflow: Workflow
) -> None:
    from django.contrib.auth.models import Permission

    move = address(workflow, "version_restore", 1)
    client = logged_in(carol)
    for url in (address(workflow, "versions"), address(workflow, "diff"), address(workflow, "export"), move):
        assert client.get(url).status_code == 404, url
    carol.user_permissions.add(Permission.objects.get(codename="see_everything"))
    client = logged_in(type(carol).objects.get(pk=carol.pk))

    page = client.get(address(workflow, "versions"))

    assert page.status_code == 200
    assert "Restore" not in page.content.decode()
    assert '<button type="submit" class="button default"' not in client.get(move).content.decode()
    assert client.post(move).status_code == 404
    assert client.post(reverse("admin:workflows_workflow_transition", args=(workflow.pk, "pause"))).status_code == 404
    assert workflow.versions.count() == 3


def test_an_archived_workflow_comes_back_as_a_draft(bob: Any, workflow: Workflow) -> None:
    client = logged_in(bob)

    client.post(reverse("admin:workflows_workflow_transition", args=(workflow.pk, "archive")))
    offered = client.get(reverse("admin:workflows_workflow_change", args=(workflow.pk,))).content.decode()
    client.post(reverse("admin:workflows_workflow_transition", args=(workflow.pk, "unarchive")))

    workflow.refresh_from_db()
    assert "/move/unarchive/" in offered
    assert "/move/archive/" not in offered
    assert workflow.status == "draft"
