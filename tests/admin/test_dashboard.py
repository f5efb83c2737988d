"""The index of the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flowbuilder.dashboard import DAYS, dashboard
from tests.admin.conftest import DEFINITION, logged_in, make_execution
from workflows.models import Workflow


def test_counters_come_from_the_rows_of_the_user(bob: Any, carol: Any, make_world: Any) -> None:
    mine = make_world(bob, "mine").workflow
    other = make_world(carol, "other").workflow
    make_execution(mine, "completed")
    make_execution(mine, "completed")
    make_execution(mine, "running")
    make_execution(other, "completed")
    make_execution(mine, "completed", queued_at=timezone.now() - timedelta(days=DAYS + 1))

    shown = dashboard(bob, timezone.now())

    assert shown["today"].total == 4
    assert shown["today"].success_rate == 66
    assert shown["today"].credits == 28
    assert shown["running"] == 1
    assert shown["chart_total"] == 4
    assert shown["recordings"]["count"] == 4
    assert shown["workflow_count"] == {"all": 1, "active": 1}
    assert [row["schedule"].workflow.name for row in shown["upcoming"]] == ["mine"]


def test_what_runs_and_what_went_well_are_counted_as_in_the_monitor(bob: Any, make_world: Any) -> None:
    workflow = make_world(bob, "mine").workflow  # with an execution that failed
    for status in ("completed", "cancelled", "running", "queued", "waiting", "paused"):
        make_execution(workflow, status)

    shown = dashboard(bob, timezone.now())
    page = logged_in(bob).get("/admin/").content.decode()

    assert (shown["running"], shown["open_note"]) == (1, "1 pending, 2 waiting or paused")
    assert shown["today"].success_rate == 50
    assert "1 pending, 2 waiting or paused" in page
    assert 'class="adm-tiles-foot" href="/admin/monitoring/"' in page


def test_the_failed_node_and_its_cause_are_in_the_row(bob: Any, carol: Any, make_world: Any) -> None:
    make_world(bob, "mine")
    make_world(carol, "other")

    page = logged_in(bob).get("/admin/").content.decode()

    assert "<b>Deliver to Webhook</b>: POST http://x.test answered 503</span>" in page
    assert "second line" not in page
    assert "mine" in page
    assert "other" not in page


def test_superusers_see_the_rows_of_everybody(alice: Any, bob: Any, carol: Any, make_world: Any) -> None:
    make_world(bob, "mine")
    make_world(carol, "other")

    page = logged_in(alice).get("/admin/").content.decode()

    assert "mine" in page
    assert "other" in page


def test_a_new_user_is_shown_the_first_step(bob: Any) -> None:
    page = logged_in(bob).get("/admin/").content.decode()

    assert "Draw your first workflow" in page
    assert 'href="/admin/workflows/workflow/add/"' in page


def test_the_chart_fills_its_box_and_no_more(bob: Any, make_world: Any) -> None:
    workflow = make_world(bob, "mine").workflow
    for ago in range(DAYS):
        for _ in range(ago + 1):
            make_execution(workflow, "completed", queued_at=timezone.now() - timedelta(days=ago))

    columns = dashboard(bob, timezone.now())["chart"]

    assert len(columns) == DAYS
    assert columns[-1]["x"] + columns[-1]["width"] == pytest.approx(1000, abs=0.1)
    assert all(rect["y"] >= 0 and rect["y"] + rect["height"] <= 100 for column in columns for rect in column["rects"])


def test_the_number_of_queries_does_not_grow(bob: Any, make_world: Any) -> None:
    client = logged_in(bob)
    first = make_world(bob, "first").workflow
    with CaptureQueriesContext(
        connection,
    ) as few:
        client.get("/admin/")
    for index in range(30):
        workflow = Workflow.objects.create(owner=bob, name=f"more {index}")
        workflow.version = workflow.save_version(DEFINITION, author=bob)
        workflow.status = Workflow.Status.ACTIVE
        workflow.save()
        make_execution(workflow)
        make_execution(first, "completed")

    with CaptureQueriesContext(connection) as many:
        client.get("/admin/")

    assert len(many) == len(few)
