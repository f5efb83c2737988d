"""Staff see their own rows everywhere, and nothing of anybody else."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.urls import reverse

from executions.models import WorkerLease
from tests.admin.conftest import logged_in
from workflows.models import Workflow

WRITTEN_BY_THE_PRODUCT = (
    "workflows_workflowversion", "executions_execution", "executions_phase", "executions_noderun",
    "executions_browsersession", "executions_deadletter", "recordings_recording", "recordings_event", "recordings_blob",
    "workflows_creditaccount", "workflows_creditentry", "workflows_auditentry",
)  # fmt: skip


@pytest.fixture
def worlds(bob: Any, carol: Any, make_world: Any) -> tuple[Any, Any]:
    """Return the rows of bob and those of carol."""
    return make_world(bob, "bobs"), make_world(carol, "carols")


def test_lists_show_own_rows_only(bob: Any, worlds: Any) -> None:
    mine, foreign = worlds
    client = logged_in(bob)

    for name, row in mine.owned().items():
        response = client.get(reverse(f"admin:{name}_changelist"))
        shown = [found.pk for found in response.context["cl"].result_list]
        assert row.pk in shown, name
        assert foreign.owned()[name].pk not in shown, name
        assert "carols" not in response.content.decode(), name


def test_foreign_pages_do_not_exist(bob: Any, worlds: Any) -> None:
    _, foreign = worlds
    client = logged_in(bob)

    for name, row in foreign.owned().items():
        for page in ("change", "history", "delete"):
            response = client.get(reverse(f"admin:{name}_{page}", args=(row.pk,)))
            assert response.status_code in (302, 403, 404), (name, page)
            assert "carols" not in response.content.decode(), (name, page)
    assert client.get(reverse("admin:workflows_workflow_builder", args=(foreign.workflow.pk,))).status_code == 404


def test_own_pages_are_shown_and_those_of_the_product_cannot_be_edited(bob: Any, worlds: Any) -> None:
    mine, _ = worlds
    client = logged_in(bob)

    for name, row in mine.owned().items():
        url = reverse(f"admin:{name}_change", args=(row.pk,))
        assert client.get(url).status_code == 200, name
        if name in WRITTEN_BY_THE_PRODUCT:
            assert client.post(url, {"status": "completed"}).status_code in (200, 403), name
            assert client.post(reverse(f"admin:{name}_delete", args=(row.pk,)), {"post": "yes"}).status_code == 403, (
                name
            )
            assert client.get(reverse(f"admin:{name}_add")).status_code == 403, name
            before = row.__dict__.copy()
            row.refresh_from_db()
            assert {key: value for key, value in row.__dict__.items() if key in before and key != "_state"} == {
                key: value for key, value in before.items() if key in row.__dict__ and key != "_state"
            }, name


def test_superusers_cannot_edit_what_the_product_writes_either(alice: Any, worlds: Any) -> None:
    mine, _ = worlds
    client = logged_in(alice)

    for name in WRITTEN_BY_THE_PRODUCT:
        assert client.get(reverse(f"admin:{name}_add")).status_code == 403, name
        url = reverse(f"admin:{name}_delete", args=(mine.owned()[name].pk,))
        assert client.post(url, {"post": "yes"}).status_code == 403, name


def test_superusers_see_the_rows_of_everybody(alice: Any, worlds: Any) -> None:
    client = logged_in(alice)

    for name in worlds[0].owned():
        response = client.get(reverse(f"admin:{name}_changelist"))
        shown = {found.pk for found in response.context["cl"].result_list}
        assert {world.owned()[name].pk for world in worlds} <= shown, name


def test_filters_offer_no_foreign_names(bob: Any, worlds: Any) -> None:
    _, foreign = worlds
    client = logged_in(bob)

    for name in ("executions_execution", "workflows_workflowversion"):
        page = client.get(reverse(f"admin:{name}_changelist"), {"workflow": str(foreign.workflow.pk)}).content.decode()
        assert "carols" not in page
        assert client.get(reverse(f"admin:{name}_changelist"), {"workflow": "nonsense"}).status_code == 404


def test_foreign_workflows_cannot_be_moved_run_or_cancelled(bob: Any, worlds: Any) -> None:
    _, foreign = worlds
    client = logged_in(bob)
    pk = foreign.workflow.pk

    assert client.post(reverse("admin:workflows_workflow_run", args=(pk,))).status_code == 404
    assert client.post(reverse("admin:workflows_workflow_transition", args=(pk, "pause"))).status_code == 404
    assert client.post(reverse("admin:executions_execution_cancel", args=(foreign.execution.pk,))).status_code == 404
    client.post(reverse("admin:workflows_workflow_changelist"), {"action": "pause", "_selected_action": [str(pk)]})

    assert Workflow.objects.get(pk=pk).status == "active"
    assert foreign.workflow.executions.count() == 1


def test_a_foreign_schedule_cannot_be_changed_through_the_own_page(bob: Any, worlds: Any) -> None:
    mine, foreign = worlds
    data = {
        "name": "bobs", "description": "", "settings": "{}", "schedule-TOTAL_FORMS": "1", "schedule-INITIAL_FORMS": "1",
        "schedule-0-id": str(foreign.schedule.pk), "schedule-0-workflow": str(mine.workflow.pk),
        "schedule-0-cron": "0 3 * * *", "schedule-0-timezone": "UTC", "schedule-0-enabled": "on",
    }  # fmt: skip

    logged_in(bob).post(reverse("admin:workflows_workflow_change", args=(mine.workflow.pk,)), data)

    foreign.schedule.refresh_from_db()
    assert foreign.schedule.cron == "*/15 * * * *"
    assert foreign.schedule.workflow_id == foreign.workflow.pk


def test_workers_and_stored_files_are_for_superusers(alice: Any, bob: Any, shared_rows: None) -> None:
    for name in ("executions_workerlease", "recordings_storedfile"):
        url = reverse(f"admin:{name}_changelist")
        assert logged_in(alice).get(url).context["cl"].result_count == 1, name
        answer = logged_in(bob).get(url)
        assert answer.status_code == 403 or answer.context["cl"].result_count == 0, name
    assert WorkerLease.objects.count() == 1


def test_a_page_that_one_may_not_open_says_so_and_leads_back(bob: Any) -> None:
    answer = logged_in(bob).get(reverse("admin:auth_user_changelist"))

    assert answer.status_code == 403
    assert "You may not open this" in answer.content.decode()
    assert '<a href="/admin/">Dashboard</a>' in answer.content.decode()


def test_people_without_staff_status_see_nothing(django_user_model: Any, worlds: Any) -> None:
    guest = django_user_model.objects.create_user("guest", password="guest-password")
    client = logged_in(guest)

    for name, row in worlds[0].owned().items():
        assert client.get(reverse(f"admin:{name}_change", args=(row.pk,))).status_code == 302, name


def test_the_navigation_leads_only_to_pages_that_open(bob: Any, worlds: Any) -> None:
    client = logged_in(bob)
    groups = client.get("/admin/").context["available_apps"]

    urls = [model["admin_url"] for group in groups for model in group["models"]]

    assert "/admin/workflows/workflow/" in urls
    assert "/admin/auth/user/" not in urls
    assert [url for url in urls if client.get(url).status_code != 200] == []


def test_every_registered_model_is_in_the_navigation_of_a_superuser(alice: Any) -> None:
    groups = logged_in(alice).get("/admin/").context["available_apps"]

    listed = {model["object_name"] for group in groups for model in group["models"]}

    assert listed == {model.__name__ for model in admin.site._registry}
