"""Executions and recordings, to look at and to stop."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from executions.admin import cause, execution_url, wait_text
from executions.models import Execution, NodeRun
from recordings.models import Event, Recording
from tests.admin.conftest import logged_in, make_execution
from tests.conftest import graph, node, wire
from workflows.admin.cells import BLANK, EMPTY, due, duration, moment

LIST = "/admin/executions/execution/"


@pytest.fixture
def asks(make_workflow: Any) -> Any:
    """Return a function that stores an execution which waits: for an approval, or for ``turns`` of a loop."""

    def store(owner: Any, turns: int = 0, **inputs: Any) -> Execution:
        ask = node("ask", "approval", Title="Ship it?", **inputs)
        loop = node("loop", "loop_items", Items=list(range(turns)))
        nodes, edges = ([loop, ask], [wire("loop", "Each", "ask", "Execute Condition")]) if turns else ([ask], [])
        workflow = make_workflow(graph(nodes, *edges), owner=owner)
        execution = make_execution(workflow, "waiting", finished_at=None)
        now = timezone.now()
        state: dict[str, Any] = {"started": turns, "turns": turns}
        if not turns:
            approvers = [name.strip() for name in inputs.get("Approvers", "").split(",")]
            state = {"title": "Ship it?", "message": "", "approvers": approvers}
        NodeRun.objects.create(
            execution=execution, phase_index=0, node_index=0, node_id="loop" if turns else "ask",
            node_type="loop_items" if turns else "approval", status="waiting", started_at=now,
            wait_kind="children" if turns else "approval", wait_state=json.dumps({"state": state}),
            wake_at=None if turns else int((now.timestamp() + 3600) * 1e6),
        )  # fmt: skip
        for turn in range(turns):
            make_execution(
                workflow,
                "running",
                parent=execution,
                parent_node=0,
                child_index=turn,
                scope="loop",
                depth=1,
                trigger="workflow",
            )
        return execution

    return store


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

    found = re.search(
        r'<script id="execution-props" type="application/json">(.*?)</script>', page(bob, world.execution)
    )

    assert found is not None
    assert json.loads(found[1]) == {
        "api": "/api/v1",
        "ws": "/ws",
        "execution_id": str(world.execution.pk),
        "execution_url": "/admin/executions/execution/{id}/change/",
        "children_url": "/admin/executions/execution/?started={id}",
        "workflow_id": str(world.workflow.pk),
    }


def test_the_page_shows_rows_and_leads_to_the_recording(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")

    html = page(bob, world.execution)

    assert "Deliver to Webhook" in html
    assert "answered 503" in html
    assert reverse("admin:recordings_recording_change", args=(world.recording.pk,)) in html
    assert ">Run workflow</button>" in html, "to do this run again is Retry all"


def test_a_retry_and_what_it_is_a_retry_of_lead_to_each_other(bob: Any, make_world: Any) -> None:
    first = make_world(bob, "shop").execution
    again, last = (make_execution(first.workflow, trigger="retry", retry_of=first) for _ in range(2))

    before, after = page(bob, first), page(bob, last)

    assert f'<a href="{execution_url(last)}">Execution {str(last.pk)[:8]}</a>' in before
    assert execution_url(again) not in before
    assert f'<a href="{execution_url(first)}">Execution {str(first.pk)[:8]}</a>' in after


def test_the_page_says_what_each_node_used_of_processor_and_memory(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    NodeRun.objects.filter(execution=world.execution).update(cpu_seconds=1.25, peak_memory_bytes=150 * 2**20)
    NodeRun.objects.create(execution=world.execution, phase_index=0, node_index=2, node_id="third", node_type="delay")

    rows = logged_in(bob).get(execution_url(world.execution)).context["node_runs"]
    html = page(bob, world.execution)

    assert [(row["processor"], row["memory"]) for row in rows] == [("1.2 s", "150.0\xa0MB"), (EMPTY, EMPTY)]
    for shown in (">Processor</th>", ">Memory</th>", "1.2 s</td>", "150.0\xa0MB</td>"):
        assert shown in html


def test_that_somebody_cancelled_is_said_by_the_status_alone(bob: Any, make_world: Any) -> None:
    workflow = make_world(bob, "shop").workflow
    plain = make_execution(workflow, "cancelled", error="cancelled", error_code="cancelled")
    told = make_execution(workflow, "cancelled", error="the worker was told to end", error_code="drained")

    assert cause(plain) == BLANK
    assert "the worker was told to end" in cause(told)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-10, "due now"), (0, "due now"), (1, "in less than a minute"), (35, "in less than a minute"), (60, "in 1 min")],
)
def test_a_run_that_is_due_soon_is_not_said_to_be_now(seconds: int, text: str) -> None:
    now = timezone.now()

    assert f"{text}" in due(now + timedelta(seconds=seconds), "UTC", now)
    assert "just now" in moment(now - timedelta(seconds=30), now)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, EMPTY), (999, "999 ms"), (14_674, "14.6 s"), (59_999, "59.9 s"), (60_000, "1 min"), (125_900, "2 min 5 s"),
        (3_600_000, "1 h"), (5_400_000, "1 h 30 min"),
    ],
)  # fmt: skip
def test_durations_are_written_as_the_live_pages_write_them(milliseconds: int | None, text: str) -> None:
    assert duration(milliseconds) == text


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

    pages = [client.get(url, {"after": after}).context["page"] for after in ("0", "100", "200")]

    shown = [(page["events"][0]["seq"], page["events"][-1]["seq"], page["earlier"]) for page in pages]
    assert shown == [(1, 50, None), (101, 150, 50), (201, 250, 150)]
    assert client.get(url, {"after": "-1"}).context["page"]["events"][0]["seq"] == 1
    assert client.get(url, {"after": "x" * 50}).status_code == 200


def test_the_monitor_page_hands_its_addresses_to_the_island(bob: Any) -> None:
    html = logged_in(bob).get("/admin/monitoring/").content.decode()

    found = re.search(r'<script id="monitor-props" type="application/json">(.*?)</script>', html)
    assert found is not None
    props = json.loads(found[1])
    assert (props["api"], props["ws"], props["workflow_id"]) == ("/api/v1", "/ws", None)
    assert props["execution_url"] == "/admin/executions/execution/{id}/change/"


# ------------------------------------------------------------------ what waits, and what can be done about it


def test_an_approval_is_shown_with_its_times_in_list_page_and_dashboard(bob: Any, asks: Any) -> None:
    execution = asks(bob)
    client = logged_in(bob)
    since = timezone.localtime(execution.node_runs.get().started_at).strftime("%H:%M")

    assert f"Waits for approval since {since}, until " in client.get(LIST).content.decode()
    dashboard = client.get("/admin/").content.decode()
    assert "Waiting for your decision" in dashboard
    link = re.search(r'href="(/approvals/[^"]+)">Ship it\?<', dashboard)
    assert link is not None
    assert Client().get(link[1]).status_code == 200


def test_the_dashboard_asks_those_that_an_approval_names_and_nobody_else(
    bob: Any, carol: Any, asks: Any, django_user_model: Any
) -> None:
    asks(bob, Approvers="dora, carol")
    stranger = django_user_model.objects.create_user("car", is_staff=True)

    assert "Ship it?" in logged_in(carol).get("/admin/").content.decode()
    assert "Ship it?" not in logged_in(stranger).get("/admin/").content.decode()


def test_recordings_of_children_are_in_no_list_but_those_that_ask_for_them(bob: Any, asks: Any) -> None:
    def recorded(execution: Any) -> Any:
        tags = [f"trigger:{execution.trigger}"]
        found, _ = Recording.objects.update_or_create(
            execution_id=execution.pk,
            defaults={"trigger": execution.trigger, "tags": tags},
            create_defaults={
                "trigger": execution.trigger, "tags": tags, "workflow_name": "shop", "user_id": bob.pk,
                "status": "completed", "success": True, "started_at": execution.queued_at, "duration_seconds": 1,
            },
        )  # fmt: skip
        return found.pk

    parent = asks(bob, turns=3)
    other = make_execution(parent.workflow)
    stranger = recorded(make_execution(parent.workflow, parent=other, parent_node=0, depth=1, trigger="workflow"))
    turns = {recorded(child) for child in parent.children.all()}
    runs = {recorded(parent), recorded(other)}
    client, recordings = logged_in(bob), reverse("admin:recordings_recording_changelist")
    shown = lambda **query: {row.pk for row in client.get(recordings, query).context["cl"].result_list}  # noqa: E731

    assert shown() == runs
    assert client.get(recordings).context["totals"]["total"] == "2"
    assert shown(started="all") == {*runs, *turns, stranger}
    assert shown(started="executions") == shown(trigger__exact="workflow") == shown(tag="trigger:workflow")
    assert shown(started="executions") == {*turns, stranger}
    assert shown(started=str(parent.pk)) == turns
    assert client.get(recordings, {"started": "nonsense"}).status_code == 404

    way = f'href="{recordings}?started={parent.pk}">Turns and subflows<'
    page_of = lambda key: client.get(reverse("admin:recordings_recording_change", args=(key,))).content.decode()  # noqa: E731
    assert way in page_of(Recording.objects.get(execution_id=parent.pk).pk)
    assert "Turns and subflows" not in page_of(next(iter(turns)))


def test_children_are_in_no_list_but_on_the_page_of_their_parent(bob: Any, asks: Any) -> None:
    parent = asks(bob, turns=3)
    client = logged_in(bob)
    child = parent.children.get(child_index=1)
    shown = lambda **query: {row.pk for row in client.get(LIST, query).context["cl"].result_list}  # noqa: E731

    assert shown() == {parent.pk}
    assert len(shown(started="all")) == 4
    assert shown(started="executions") == shown(started=str(parent.pk)) == {row.pk for row in parent.children.all()}
    assert client.get(LIST, {"started": "nonsense"}).status_code == 404
    html = page(bob, parent)
    assert f'href="{reverse("admin:executions_execution_change", args=(child.pk,))}">Turn 2<' in html
    assert "Waits for 3 of 3 turns" in client.get(LIST).content.decode()
    assert f"Execution {str(parent.pk)[:8]}</a>, turn 2 of loop" in page(bob, child)
    assert client.get("/admin/").context["chart_total"] == 1
    workflows = client.get("/admin/workflows/workflow/").context["cl"].result_list
    assert [row.last.pk for row in workflows] == [parent.pk]


@pytest.mark.parametrize(
    ("status", "verbs"),
    [
        ("queued", ["cancel"]),
        ("running", ["pause", "cancel"]),
        ("waiting", ["pause", "cancel"]),
        ("paused", ["resume", "cancel"]),
        ("failed", []),
    ],
)
def test_a_row_has_the_buttons_that_are_legal(status: str, verbs: list[str], bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    world.execution.delete()
    execution = make_execution(world.workflow, status, finished_at=None)

    html = logged_in(bob).get(LIST).content.decode()

    assert re.findall(rf'formaction="{LIST}{execution.pk}/(\w+)/"', html) == verbs
    assert f"adm-status-{status}" in html


def test_pause_and_resume_by_button_and_by_action(bob: Any, asks: Any) -> None:
    execution = asks(bob)
    client = logged_in(bob)
    url = reverse("admin:executions_execution_change", args=(execution.pk,))

    def status_after(address: str, data: dict[str, Any] | None = None) -> tuple[str, str]:
        answer = client.post(address, data or {}, follow=True)
        execution.refresh_from_db()
        return execution.status, " ".join(str(message) for message in answer.context["messages"])

    pause, resume = (
        reverse(f"admin:executions_execution_{verb}", args=(execution.pk,)) for verb in ("pause", "resume")
    )
    assert status_after(pause) == ("paused", "1 execution paused.")
    assert status_after(pause) == ("paused", "1 execution is not running.")
    assert status_after(resume) == ("waiting", "1 execution resumed.")
    chosen = {"_selected_action": [str(execution.pk)]}
    assert status_after(LIST, {"action": "pause", **chosen}) == ("paused", "1 execution paused.")
    assert status_after(LIST, {"action": "resume", **chosen}) == ("waiting", "1 execution resumed.")
    assert client.get(pause).status_code == 405
    assert client.get(url).status_code == 200


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_nobody_else_pauses_or_resumes(verb: str, bob: Any, carol: Any, asks: Any) -> None:
    execution = asks(bob)

    answer = logged_in(carol).post(reverse(f"admin:executions_execution_{verb}", args=(execution.pk,)))

    execution.refresh_from_db()
    assert (answer.status_code, execution.status) == (404, "waiting")


@pytest.mark.parametrize(
    ("wait", "text"),
    [
        ({"kind": "timer"}, "Waits until 14:05"),
        ({"kind": "timer", "until": None}, "Waits for its time"),
        ({"kind": "approval"}, "Waits for approval since 13:05, until 14:05"),
        ({"kind": "approval", "until": None}, "Waits for approval since 13:05"),
        ({"kind": "children", "node_type": "loop_items", "done": 7, "total": 10}, "Waits for 3 of 10 turns"),
        ({"kind": "children", "node_type": "subflow", "done": 0, "total": 1}, "Waits for 1 of 1 execution"),
        ({"kind": "children", "node_type": "loop_items", "done": 0, "total": 0}, "Waits for its turns"),
    ],
)
def test_what_is_waited_for_is_said_in_words(wait: dict[str, Any], text: str, settings: Any) -> None:
    settings.TIME_ZONE = "UTC"
    today = timezone.now().replace(minute=5, second=0, microsecond=0)
    times = {"since": today.replace(hour=13).isoformat(), "until": today.replace(hour=14).isoformat()}

    assert wait_text({"node_type": "delay", **times, **wait}) == text
