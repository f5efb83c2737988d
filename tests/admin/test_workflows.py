"""Adding, scheduling, moving, running and deleting workflows by hand."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.urls import reverse

from executions.models import Execution
from tests.admin.conftest import DEFINITION, logged_in, make_execution
from workflows import lifecycle
from workflows.admin.workflows import WorkflowForm
from workflows.models import Schedule, Workflow

ADD = "/admin/workflows/workflow/add/"


def change(workflow: Workflow) -> str:
    return reverse("admin:workflows_workflow_change", args=(workflow.pk,))


def form(name: str, cron: str = "", zone: str = "UTC", schedule: Schedule | None = None, **more: str) -> dict[str, str]:
    """Return what a browser sends from the page of a workflow."""
    data = {
        "name": name, "description": "", "settings": "{}",
        "schedule-TOTAL_FORMS": "1" if cron or schedule else "0", "schedule-INITIAL_FORMS": "1" if schedule else "0",
    }  # fmt: skip
    if cron or schedule:
        data |= {"schedule-0-cron": cron, "schedule-0-timezone": zone, "schedule-0-enabled": "on"}
    if schedule:
        data |= {"schedule-0-id": str(schedule.pk), "schedule-0-workflow": str(schedule.workflow_id)}
    return {**data, **more}


def messages(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


@pytest.fixture
def workflow(bob: Any, db: None) -> Workflow:
    """A draft of bob's that can be activated."""
    made = Workflow.objects.create(owner=bob, name="shop")
    made.save_version(
        {
            "nodes": [{"id": "a", "type": "delay", "position": {"x": 0, "y": 0}, "data": {"inputs": {"Duration": 1}}}],
            "edges": [],
        },
        author=bob,
    )
    return made


# ------------------------------------------------------------------ adding
def test_adding_asks_for_name_and_description_and_opens_the_builder(bob: Any) -> None:
    client = logged_in(bob)
    page = client.get(ADD).content.decode()
    asked = set(re.findall(r'<(?:input|textarea|select)[^>]* name="([a-z_-]+)"', page)) - {"csrfmiddlewaretoken"}

    response = client.post(ADD, {"name": "shop", "description": "prices"})

    made = Workflow.objects.get(name="shop")
    assert {name for name in asked if not name.startswith("_")} == {"name", "description"}
    assert made.owner == bob
    assert response.headers["Location"] == f"/admin/workflows/workflow/{made.pk}/builder/"


def test_a_second_workflow_of_the_same_name_is_refused_with_a_reason(bob: Any, workflow: Workflow) -> None:
    response = logged_in(bob).post(ADD, {"name": "shop"})

    assert "There is already a workflow named" in response.content.decode()
    assert Workflow.objects.count() == 1


def test_the_builder_page_hands_its_addresses_to_the_island(bob: Any, workflow: Workflow) -> None:
    page = logged_in(bob).get(f"/admin/workflows/workflow/{workflow.pk}/builder/").content.decode()

    found = re.search(r'<script id="builder-props" type="application/json">(.*?)</script>', page)
    assert found is not None
    assert json.loads(found[1]) == {
        "workflow_id": str(workflow.pk),
        "api": "/api/v1",
        "execution_url": "/admin/executions/execution/{id}/change/",
        "list_url": "/admin/workflows/workflow/",
    }
    assert 'data-island="builder" data-props="builder-props"' in page


# ------------------------------------------------------------------ the list
@pytest.mark.row("S2-11b")
def test_the_list_says_how_often_a_workflow_succeeded_and_what_it_cost(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    for _ in range(3):
        make_execution(world.workflow, "completed")

    page = logged_in(bob).get("/admin/workflows/workflow/").content.decode()

    assert "<b>75 %</b> of 4" in page
    assert 'title="3 completed, 1 failed, 0 cancelled"' in page
    assert "28 credits" in page


def test_the_list_is_filtered_by_tag_and_for_superusers_by_owner(alice: Any, bob: Any, make_world: Any) -> None:
    tagged, other = make_world(bob, "tagged").workflow, make_world(alice, "other").workflow
    Workflow.objects.filter(pk=tagged.pk).update(settings={"tags": ["shop"]})
    Workflow.objects.filter(pk=other.pk).update(settings={"tags": "no list"})
    client = logged_in(alice)

    def shown(**query: str) -> list[str]:
        rows = client.get("/admin/workflows/workflow/", query).context["cl"].result_list
        return [workflow.name for workflow in rows]

    assert shown() == ["other", "tagged"]
    assert shown(tag="shop") == ["tagged"]
    assert shown(tag="none of them") == []
    assert shown(owner=str(alice.pk)) == ["other"]
    own = logged_in(bob).get("/admin/workflows/workflow/").context["cl"].filter_specs
    assert [spec.title for spec in own if spec.title in ("tag", "owner")] == ["tag"]


# ------------------------------------------------------------------ scheduling
def test_a_schedule_is_stored_with_its_next_run(bob: Any, workflow: Workflow) -> None:
    workflow.activate()

    response = logged_in(bob).post(change(workflow), form("shop", "30 6 * * MON", "Europe/Berlin"))

    assert response.status_code == 302
    schedule = Schedule.objects.get(workflow=workflow)
    assert (schedule.cron, schedule.timezone, schedule.enabled) == ("30 6 * * MON", "Europe/Berlin", True)
    assert schedule.next_run_at is not None
    page = logged_in(bob).get(change(workflow)).content.decode()
    assert "Monday at 06:30" in page
    assert page.count("06:30 Europe/Berlin</time></li>") == 5


@pytest.mark.parametrize(
    ("cron", "zone", "reason"),
    [
        ("* * * *", "UTC", "exactly five"),
        ("61 * * * *", "UTC", "61"),
        ("*/2 * * * *", "UTC", "minimum"),
        ("0 0 30 2 *", "UTC", "never"),
        ("0 7 * * *", "Mars/Olympus", "not one of the available choices"),
    ],
)
def test_a_wrong_schedule_is_explained_on_the_form(
    cron: str, zone: str, reason: str, bob: Any, workflow: Workflow
) -> None:
    response = logged_in(bob).post(change(workflow), form("shop", cron, zone))

    errors = " ".join(re.findall(r'<ul class="errorlist"[^>]*>(.*?)</ul>', response.content.decode(), re.S))
    assert response.status_code == 200
    assert reason in errors
    assert not Schedule.objects.exists()


def test_a_schedule_can_be_changed_and_removed(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    client = logged_in(bob)

    client.post(change(world.workflow), form("shop", "0 3 * * *", "UTC", world.schedule))
    world.schedule.refresh_from_db()
    changed = world.schedule.cron
    client.post(change(world.workflow), form("shop", "0 3 * * *", "UTC", world.schedule, **{"schedule-0-DELETE": "on"}))

    assert changed == "0 3 * * *"
    assert not Schedule.objects.exists()


def test_the_list_says_the_schedule_its_zone_and_the_next_run(bob: Any, make_world: Any) -> None:
    make_world(bob, "shop")

    page = logged_in(bob).get("/admin/workflows/workflow/").content.decode()

    assert "Every 15 minutes</span>" in page
    assert "Europe/Berlin" in page
    assert re.search(r"field-next_run[^>]*><time[^>]*>(in \d+ min|in less than a minute)<", page)
    assert re.search(r'data-zone="Europe/Berlin">\w{3} \d+ \w{3}, \d\d:\d\d</time>', page)
    assert "adm-status-failed" in page


def test_settings_must_be_an_object(bob: Any, workflow: Workflow) -> None:
    response = logged_in(bob).post(change(workflow), form("shop", settings="[1]"))

    assert "The settings are a JSON object" in response.content.decode()


# ------------------------------------------------------------------ statuses
def test_actions_move_workflows_and_say_so(bob: Any, workflow: Workflow) -> None:
    client = logged_in(bob)
    seen = []
    for action in ("activate", "pause", "archive", "pause"):
        data = {"action": action, "_selected_action": [str(workflow.pk)], "index": "0"}
        response = client.post("/admin/workflows/workflow/", data, follow=True)
        workflow.refresh_from_db()
        seen.append((workflow.status, *messages(response)))

    assert seen == [
        ("active", 'Workflow "shop" is active.'),
        ("paused", 'Workflow "shop" is paused; executions that run go on.'),
        ("archived", 'Workflow "shop" is archived; its history stays readable.'),
        ("archived", 'workflow "shop" is archived; it cannot be paused. Possible now: unarchive, delete'),
    ]


def test_the_page_offers_the_moves_that_are_possible(bob: Any, workflow: Workflow) -> None:
    client = logged_in(bob)
    draft = client.get(change(workflow)).content.decode()
    client.post(reverse("admin:workflows_workflow_transition", args=(workflow.pk, "activate")))
    active = client.get(change(workflow)).content.decode()
    client.post(reverse("admin:workflows_workflow_transition", args=(workflow.pk, "pause")))
    paused = client.get(change(workflow)).content.decode()

    assert "Activate v1" in draft
    assert "move/pause/" in active
    assert "Activate v1" not in active
    assert "move/resume/" in paused


def test_a_workflow_with_errors_is_not_activated_and_the_errors_are_named(bob: Any) -> None:
    broken = Workflow.objects.create(owner=bob, name="broken")
    broken.save_version(
        {"nodes": [{"id": "x", "type": "no_such_type", "position": {"x": 0, "y": 0}}], "edges": []}, author=bob
    )

    response = logged_in(bob).post(
        reverse("admin:workflows_workflow_transition", args=(broken.pk, "activate")), follow=True
    )

    broken.refresh_from_db()
    assert broken.status == "draft"
    assert any("no_such_type" in message for message in messages(response))


def test_moves_and_runs_need_a_post(bob: Any, workflow: Workflow) -> None:
    client = logged_in(bob)

    for name, args in (("workflows_workflow_run", ()), ("workflows_workflow_transition", ("pause",))):
        assert client.get(reverse(f"admin:{name}", args=(workflow.pk, *args))).status_code == 405


# ------------------------------------------------------------------ running
def test_run_starts_the_active_version_and_opens_the_execution(bob: Any, workflow: Workflow) -> None:
    workflow.activate()

    response = logged_in(bob).post(reverse("admin:workflows_workflow_run", args=(workflow.pk,)), follow=True)

    execution = Execution.objects.get(workflow=workflow)
    assert (execution.owner, execution.trigger, execution.version.number) == (bob, "manual", 1)
    assert response.redirect_chain[-1][0] == f"/admin/executions/execution/{execution.pk}/change/"
    assert 'Started "shop" v1' in response.content.decode()


def test_run_of_a_draft_is_a_test(bob: Any, workflow: Workflow) -> None:
    logged_in(bob).post(reverse("admin:workflows_workflow_run", args=(workflow.pk,)))

    assert Execution.objects.get(workflow=workflow).trigger == "test"


def test_a_paused_workflow_is_run_by_hand_and_its_page_says_what_does_not_start_it(
    bob: Any, workflow: Workflow
) -> None:
    client, url = logged_in(bob), f"/admin/workflows/workflow/{workflow.pk}/change/"
    workflow.activate()
    assert "while it is paused" not in client.get(url).content.decode()
    workflow.pause()

    page = client.get(url).content.decode()
    client.post(reverse("admin:workflows_workflow_run", args=(workflow.pk,)))

    assert "Schedules, webhooks and programs do not start it while it is paused. “Run” starts it by hand." in page
    execution = Execution.objects.get(workflow=workflow)
    assert (execution.trigger, execution.version) == ("manual", workflow.version)


def test_run_from_the_list_starts_each_chosen_workflow(bob: Any, workflow: Workflow) -> None:
    empty = Workflow.objects.create(owner=bob, name="empty")
    data = {"action": "run", "_selected_action": [str(workflow.pk), str(empty.pk)], "index": "0"}

    response = logged_in(bob).post("/admin/workflows/workflow/", data, follow=True)

    assert Execution.objects.filter(workflow=workflow).count() == 1
    assert any('"empty" has no version yet' in message for message in messages(response))


# ------------------------------------------------------------------ deleting
def test_a_workflow_without_history_is_deleted(bob: Any, workflow: Workflow) -> None:
    url = reverse("admin:workflows_workflow_delete", args=(workflow.pk,))
    page = logged_in(bob).get(url).content.decode()

    logged_in(bob).post(url, {"post": "yes"})

    assert "deleted with its versions" in page
    assert "cannot be undone" in page
    assert not Workflow.objects.exists()


def test_a_workflow_with_history_is_archived(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    url = reverse("admin:workflows_workflow_delete", args=(world.workflow.pk,))
    page = logged_in(bob).get(url).content.decode()

    response = logged_in(bob).post(url, {"post": "yes"}, follow=True)

    world.workflow.refresh_from_db()
    assert "archived, because it has executions" in page
    assert world.workflow.status == "archived"
    assert any("archived" in message for message in messages(response))
    assert Execution.objects.count() == 1


def test_versions_show_the_stored_graph(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")

    page = (
        logged_in(bob).get(reverse("admin:workflows_workflowversion_change", args=(world.version.pk,))).content.decode()
    )

    assert "deliver_to_webhook" in page
    assert DEFINITION["nodes"][0]["type"] in page


def test_the_page_says_why_a_workflow_was_paused_by_itself(bob: Any, workflow: Workflow) -> None:
    lifecycle.activate(workflow)
    lifecycle.pause(workflow, "3 runs in a row failed; the last error: <closed>")

    page = logged_in(bob).get(f"/admin/workflows/workflow/{workflow.pk}/change/").content.decode()
    assert "3 runs in a row failed; the last error: &lt;closed&gt;" in page
    lifecycle.resume(workflow)
    assert (
        "in a row failed" not in logged_in(bob).get(f"/admin/workflows/workflow/{workflow.pk}/change/").content.decode()
    )


def test_what_happens_to_a_workflow_while_its_form_is_stored_stays(
    make_workflow: Any, bob: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = make_workflow(DEFINITION, "shop", owner=bob)
    clean = WorkflowForm.clean_settings

    def paused_meanwhile(form: Any) -> Any:
        lifecycle.pause(Workflow.objects.get(pk=workflow.pk))
        return clean(form)

    monkeypatch.setattr(WorkflowForm, "clean_settings", paused_meanwhile)
    bob.is_superuser = bob.is_staff = True
    bob.save()

    logged_in(bob).post(change(workflow), form("renamed"))

    workflow.refresh_from_db()
    assert (workflow.name, workflow.status) == ("renamed", "paused")
