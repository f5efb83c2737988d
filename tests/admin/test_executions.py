"""Executions and recordings, to look at and to stop."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.urls import reverse

from recordings.models import Event
from tests.admin.conftest import logged_in, make_execution

LIST = "/admin/executions/execution/"


def page(user: Any, execution: Any) -> str:
    return logged_in(user).get(reverse("admin:executions_execution_change", args=(execution.pk,))).content.decode()


def test_the_list_names_failed_node_and_cause(bob: Any, make_world: Any) -> None:
    make_world(bob, "shop")

    shown = logged_in(bob).get(LIST).content.decode()

    assert "<b>Deliver to Webhook</b>: POST http://x.test answered 503</span>" in shown
    assert "second line" not in shown
    assert re.search(r'field-length[^>]*><span class="adm-number">9\.0 s', shown)
    assert "API" in shown


def test_hostile_error_text_stays_text(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    execution = make_execution(world.workflow, error="<img src=x onerror=alert(1)>", error_node="<b>")

    for html in (
        logged_in(bob).get(LIST).content.decode(),
        logged_in(bob).get("/admin/").content.decode(),
        page(bob, execution),
    ):
        assert "<img src=x" not in html


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"status__exact": "failed"}, 1),
        ({"status__exact": "completed"}, 2),
        ({"trigger__exact": "manual"}, 1),
        ({"q": "answered 503"}, 1),
        ({"q": "no such thing"}, 0),
    ],
)
def test_filters_and_search(query: dict[str, str], count: int, bob: Any, make_world: Any) -> None:
    workflow = make_world(bob, "shop").workflow
    make_execution(workflow, "completed")
    make_execution(workflow, "completed", trigger="manual")

    assert logged_in(bob).get(LIST, query).context["cl"].result_count == count


def test_an_execution_is_found_by_the_start_of_its_id(bob: Any, make_world: Any) -> None:
    execution = make_world(bob, "shop").execution

    assert logged_in(bob).get(LIST, {"q": str(execution.pk)[:8]}).context["cl"].result_count == 1
    assert logged_in(bob).get(LIST, {"q": str(execution.pk)}).context["cl"].result_count == 1


def test_the_page_hands_its_addresses_to_the_island(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")

    found = re.search(r'<script id="monitor-props" type="application/json">(.*?)</script>', page(bob, world.execution))

    assert found is not None
    assert json.loads(found[1]) == {
        "api": "/api/v1",
        "ws": "/ws",
        "execution_id": str(world.execution.pk),
        "execution_url": "/admin/executions/execution/{id}/change/",
        "workflow_id": str(world.workflow.pk),
    }


def test_the_page_shows_rows_artifacts_and_the_recording(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")

    html = page(bob, world.execution)

    assert "Deliver to Webhook" in html
    assert "answered 503" in html
    address = f"/api/v1/recordings/artifacts/{world.blob.pk}?execution={world.execution.pk}"
    assert f'<img src="{address}"' in html
    assert reverse("admin:recordings_recording_change", args=(world.recording.pk,)) in html


def test_cancel_asks_running_executions_to_stop_and_tells_of_ended_ones(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    running = make_execution(world.workflow, "running")
    data = {"action": "cancel", "_selected_action": [str(running.pk), str(world.execution.pk)], "index": "0"}

    response = logged_in(bob).post(LIST, data, follow=True)

    running.refresh_from_db()
    assert running.cancel_requested
    assert [str(message) for message in response.context["messages"]] == [
        "1 execution will stop within seconds.",
        "1 execution had already ended.",
    ]


def test_the_page_of_a_recording_pages_through_its_events(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    Event.objects.bulk_create(
        Event(
            execution_id=world.execution.pk,
            seq=seq,
            type="log",
            timestamp=1,
            data=json.dumps({"message": f"line {seq}"}),
        )
        for seq in range(3, 251)
    )
    type(world.recording).objects.filter(pk=world.recording.pk).update(event_count=250)
    url = reverse("admin:recordings_recording_change", args=(world.recording.pk,))
    client = logged_in(bob)

    shown = [
        (answer.context["events"][0]["seq"], answer.context["events"][-1]["seq"], answer.context["next"])
        for answer in (client.get(url, {"after": after}) for after in ("0", "100", "200"))
    ]

    assert shown == [(1, 100, 100), (101, 200, 200), (201, 250, None)]
    assert client.get(url, {"after": "-1"}).context["events"][0]["seq"] == 1
    assert client.get(url, {"after": "x" * 50}).status_code == 200


def test_the_monitor_page_hands_its_addresses_to_the_island(bob: Any) -> None:
    html = logged_in(bob).get("/admin/monitoring/").content.decode()

    found = re.search(r'<script id="monitor-props" type="application/json">(.*?)</script>', html)
    assert found is not None
    assert json.loads(found[1])["execution_id"] is None
