"""Every page of the admin answers, under the strict policy."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from executions.models import LostWorker
from monitoring.models import AlertMessage, Counted, Counter, Gauge, NodeErrors, Total
from recordings.models import BlobRef, NotRecorded
from tests.admin.conftest import inline, logged_in
from workflows.models import Schedule, WebhookDelivery

OURS = ("workflows", "executions", "recordings", "monitoring", "flowbuilder")
INLINES = {LostWorker, Schedule, WebhookDelivery, BlobRef, NotRecorded, AlertMessage}
"""Models that are seen on the page of another one; lost workers in the alert about them."""
NUMBERS = {Counted, Counter, Gauge, NodeErrors, Total}
"""Rows that are added up for tiles, metrics and alerts; nobody looks at one of them."""


@pytest.fixture
def pages(alice: Any, make_world: Any, shared_rows: None) -> list[str]:
    """Return the address of every page of the admin, with rows behind all of them."""
    from django.contrib.auth.models import Group
    from django_celery_beat.models import (
        ClockedSchedule,
        CrontabSchedule,
        IntervalSchedule,
        PeriodicTask,
        SolarSchedule,
    )

    world = make_world(alice, "shop")
    Group.objects.create(name="readers")
    interval, _ = IntervalSchedule.objects.get_or_create(every=3, period="minutes")
    CrontabSchedule.objects.create(minute="7")
    ClockedSchedule.objects.create(clocked_time="2030-01-01T00:00:00Z")
    SolarSchedule.objects.create(event="sunrise", latitude=1, longitude=2)
    PeriodicTask.objects.create(name="beat form", task="executions.reconcile", interval=interval)
    found = ["/admin/", "/admin/monitoring/", "/admin/password_change/"]
    found.append(reverse("admin:workflows_workflow_builder", args=(world.workflow.pk,)))
    for model, pages_of in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        row = model._default_manager.first()
        assert row is not None, f"no row of {model.__name__}"
        found.append(reverse(f"{name}_changelist"))
        found.append(reverse(f"{name}_change", args=(row.pk,)))
        found.append(reverse(f"{name}_history", args=(row.pk,)))
        request = type("Request", (), {"user": alice})()
        if pages_of.has_add_permission(request):
            found.append(reverse(f"{name}_add"))
        if pages_of.has_delete_permission(request, row):
            found.append(reverse(f"{name}_delete", args=(row.pk,)))
    return found


def test_every_model_of_the_product_has_pages() -> None:
    missing = [
        model.__name__
        for app in OURS
        for model in apps.get_app_config(app).get_models()
        if model not in admin.site._registry and model not in INLINES | NUMBERS
    ]

    assert missing == []


def test_every_page_answers_with_the_policy_and_without_inline_code(alice: Any, pages: list[str]) -> None:
    client = logged_in(alice)
    allowed = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]["script-src"]

    for url in pages:
        response = client.get(url, follow=url.endswith("/delete/"))
        assert response.status_code == 200, url
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy, url
        assert "unsafe" not in policy, url
        found = inline(response.content.decode())
        assert found.refused == [], url
        assert [f"'{_hash(script)}'" for script in found.scripts if f"'{_hash(script)}'" not in allowed] == [], url


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def test_the_policy_names_the_scripts_of_the_beat_form_and_no_other(alice: Any, django_user_model: Any) -> None:
    from django.contrib.auth.models import Permission
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    crontab = CrontabSchedule.objects.create(minute="7")
    task = PeriodicTask.objects.create(name="form", task="executions.reconcile", crontab=crontab)
    viewer = django_user_model.objects.create_user("viewer", password="x", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename="view_periodictask"))
    url = reverse("admin:django_celery_beat_periodictask_change", args=(task.pk,))

    scripts = {
        _hash(script)
        for user in (alice, viewer)
        for script in inline(logged_in(user).get(url).content.decode()).scripts
    }

    policy = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]["script-src"]
    assert {source.strip("'") for source in policy} - {"self"} == scripts


def test_strangers_are_sent_to_the_login_page(pages: list[str]) -> None:
    for url in pages:
        response = Client().get(url)
        assert response.status_code == 302, url
        assert response.headers["Location"].startswith("/admin/login/"), url


def test_the_login_page_has_nothing_inline(db: None) -> None:
    response = Client().get("/admin/login/")

    found = inline(response.content.decode())
    assert (found.refused, found.scripts) == ([], [])
    assert "unsafe" not in response.headers["Content-Security-Policy"]


def test_lists_say_what_to_do_when_they_are_empty(bob: Any) -> None:
    page = logged_in(bob).get(reverse("admin:workflows_workflow_changelist")).content.decode()

    assert "No workflows yet" in page
    assert "New workflow" in page


def test_a_search_without_a_match_offers_the_way_back(alice: Any, make_world: Any) -> None:
    make_world(alice, "shop")

    page = (
        logged_in(alice).get(reverse("admin:workflows_workflow_changelist"), {"q": "nothing like it"}).content.decode()
    )

    assert "No workflows match" in page
    assert "Show all" in page
