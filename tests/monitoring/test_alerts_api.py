"""Alerts for programs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from monitoring.alerts import inbox
from monitoring.models import Alert
from tests.admin.conftest import carol as carol  # the fixtures
from tests.admin.conftest import make_alert
from tests.admin.conftest import make_world as make_world
from workflows import tokens


def program(owner: Any, *scopes: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {tokens.create(owner, 'program', scopes or ['*'])[1]}"})


def asked(client: Client, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    content = "" if body is None else json.dumps(body)
    answer = client.generic(method, f"/api/v1/{path}", content, "application/json")
    return answer.status_code, json.loads(answer.content) if answer.content else None


@pytest.mark.row("S1-34")
def test_alerts_are_listed_by_what_they_are(bob: Any, carol: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    known, over = make_alert(bob, name="known"), make_alert(bob, name="over", severity="critical")
    make_alert(carol, name="hers")
    inbox.acknowledge(known, bob)
    Alert.objects.filter(pk=over.pk).update(status="resolved", resolved_at=timezone.now())
    client = program(bob, "alerts:read")

    def names(query: str) -> list[str]:
        status, found = asked(client, "GET", f"alerts{query}")
        assert status == 200
        assert found["count"] == len(found["items"])
        return [one["rule_name"] for one in found["items"]]

    assert names("") == ["over", "known", "shop fails"]
    assert names("?state=firing") == ["known", "shop fails"]
    assert names("?state=new") == ["shop fails"]
    assert names("?state=acknowledged") == ["known"]
    assert names("?state=resolved") == ["over"]
    assert names("?severity=critical") == ["over"]
    assert names(f"?workflow_id={world.workflow.pk}") == ["shop fails"]
    assert names(f"?rule_id={known.rule_id}") == ["known"]
    assert names("?kind=cost") == []
    status, page = asked(client, "GET", "alerts?limit=1&offset=1")
    assert (status, page["count"], [one["rule_name"] for one in page["items"]]) == (200, 3, ["known"])


def test_an_alert_is_shown_with_what_was_said_about_it(bob: Any) -> None:
    alert = make_alert(bob)

    status, found = asked(program(bob, "alerts:read"), "GET", f"alerts/{alert.pk}")

    assert status == 200
    assert (found["status"], found["value"], found["threshold"]) == ("firing", 40, 20)
    assert [(one["event"], one["status"], one["channel_name"]) for one in found["messages"]] == [
        ("firing", "sent", "all fails mail")
    ]


@pytest.mark.row("S1-34")
def test_a_program_acknowledges_once_and_only_with_the_scope(bob: Any, carol: Any) -> None:
    alert = make_alert(bob)
    path = f"alerts/{alert.pk}/acknowledge"

    assert asked(program(bob, "alerts:read"), "POST", path)[0] == 403
    assert asked(program(carol), "POST", path)[0] == 404
    status, found = asked(program(bob, "alerts:write"), "POST", path)
    assert (status, found["acknowledged_by"], found["status"]) == (200, "bob", "firing")
    status, found = asked(program(bob), "POST", path)
    assert status == 409
    assert "takes care of it already" in found["detail"]
