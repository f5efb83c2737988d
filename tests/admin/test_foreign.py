"""Ids of other people's things, wherever else than in an address they can be put: bodies, queries, actions, choices."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from executions.models import Execution
from flowbuilder import policy
from tests.admin.conftest import World, logged_in
from tests.admin.test_authorization import IN, Actor, calls, outcome, things
from workflows import tokens
from workflows.models import Workflow


@pytest.fixture
def worlds(bob: Any, carol: Any, make_world: Any) -> tuple[World, World]:
    """Return what bob owns, and what carol does."""
    return make_world(bob, "bobs"), make_world(carol, "carols")


def picture(world: World) -> dict[str, Any]:
    """Return everything that somebody has, as it is stored now."""
    rows = {name: type(row)._default_manager.filter(pk=row.pk).values().get() for name, row in world.owned().items()}
    return rows | {
        "schedule": type(world.schedule).objects.filter(pk=world.schedule.pk).values().get(),
        "executions": Execution.objects.filter(workflow__owner=world.owner).count(),
        "workflows": Workflow.objects.filter(owner=world.owner).count(),
    }


def program(owner: Any) -> Actor:
    """Return a program that may do everything of its owner."""
    _, text = tokens.create(owner, "program")
    return Actor("program", Client(raise_request_exception=False), {"Authorization": f"Bearer {text}"})


@pytest.mark.row("S2-53")
def test_fault_59_ids_in_the_body_do_not_reach_other_things_than_the_address(worlds: Any, bob: Any) -> None:
    mine, foreign = worlds
    asked, before = program(bob), picture(foreign)
    ids = things(foreign)
    extra = {name: ids[name] for name in policy.THINGS} | {
        "id": ids["workflow_id"], "pk": ids["workflow_id"], "owner": foreign.owner.pk, "owner_id": foreign.owner.pk,
        "user_id": foreign.owner.pk, "workflow": ids["workflow_id"], "execution": ids["execution_id"],
    }  # fmt: skip
    tried = 0
    for call in calls(things(mine)):
        if isinstance(call.body, dict):
            own = call.body.keys() & policy.THINGS.keys()
            answer = asked.ask(call.method, call.url, extra | call.body, keep=True)
            assert answer.status_code < 500, call.name
            assert picture(foreign) == before, call.name
            for name in own:  # what the operation itself takes by id
                body = call.body | {name: ids[name]}
                assert outcome(asked.ask(call.method, call.url, body)) != IN, (call.name, name)
            tried += 1
    assert tried >= 10
    assert Workflow.objects.get(pk=mine.workflow.pk).owner == bob


def test_fault_59_ids_and_wildcards_in_queries_show_nothing_foreign(worlds: Any, bob: Any) -> None:
    mine, foreign = worlds
    asked, ids = program(bob), things(foreign)
    names = ("workflow_id", "parent_id", "execution_id", "owner", "user_id")
    values = (ids["workflow_id"], str(foreign.owner.pk), "*", "carol")
    for call in calls(things(mine)):
        if call.method == "GET" and not call.names and call.body is None:
            for name in names:
                for value in values:
                    joint = "&" if "?" in call.url else "?"
                    answer: Any = asked.ask("GET", f"{call.url}{joint}{name}={value}")
                    assert answer.status_code in (200, 422), (call.url, name, value)
                    shown = answer.content.decode()
                    assert "carols" not in shown, (call.url, name, value)
                    assert answer.status_code == 422 or ids["workflow_id"] not in shown, (call.url, name, value)


@pytest.mark.parametrize("wild", ["~", "*", "%25", "..", "0", "%00"])
def test_fault_59_wildcards_in_addresses_name_nothing(worlds: Any, bob: Any, wild: str) -> None:
    asked, before = program(bob), picture(worlds[1])
    for call in calls({**things(worlds[0]), **dict.fromkeys(policy.THINGS, wild)}):
        if set(call.names) & policy.THINGS.keys():
            answer = asked.ask(call.method, call.url, call.body, keep=True)
            assert answer.status_code in (404, 405, 422), (call.name, answer.status_code)
    assert picture(worlds[1]) == before


def test_fault_60_actions_of_lists_do_nothing_to_foreign_rows(worlds: Any, bob: Any) -> None:
    _, foreign = worlds
    client, before = logged_in(bob), picture(foreign)
    tried = 0
    for name, row in foreign.owned().items():
        page = admin.site._registry[apps.get_model(name.replace("_", ".", 1))]
        request = client.get(reverse(f"admin:{name}_changelist")).wsgi_request
        for action in page.get_actions(request):
            for across in ("0", "1"):
                data = {"action": action, "_selected_action": [str(row.pk)], "select_across": across, "post": "yes"}
                answer = client.post(reverse(f"admin:{name}_changelist"), data)
                assert answer.status_code in (200, 302), (name, action)
                assert picture(foreign) == before, (name, action, across)
                tried += 1
    assert tried >= 10


def test_fault_60_choices_popups_and_searches_offer_nothing_foreign(worlds: Any, bob: Any) -> None:
    client = logged_in(bob)
    for model, page in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        for query in ("?_popup=1", "?q=carol", "?_to_field=id&_popup=1", "?owner__username=carol", "?o=1"):
            answer = client.get(reverse(f"admin:{name}_changelist") + query)
            assert b"carols" not in answer.content, (name, query)
        for field in page.autocomplete_fields:
            wanted = {
                "app_label": model._meta.app_label,
                "model_name": str(model._meta.model_name),
                "field_name": field,
            }
            answer = client.get(reverse("admin:autocomplete"), {**wanted, "term": ""})
            assert b"carols" not in answer.content, (name, field)
