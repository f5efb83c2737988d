"""Alerts for programs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from monitoring.alerts import channels, inbox
from monitoring.models import Alert, AlertChannel
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


# ---------------------------------------------------------------------- rules and channels

NEW = {"name": "too many fail", "kind": "failure_rate", "threshold": 20, "window_s": 600}


@pytest.mark.row("S2-46")
def test_a_program_makes_changes_silences_and_deletes_a_rule(bob: Any, make_world: Any) -> None:
    world, client = make_world(bob, "shop"), program(bob, "alerts:write")
    status, channel = asked(
        client, "POST", "alert-channels", {"name": "ops", "kind": "email", "address": "ops@example.com"}
    )
    assert status == 201

    status, made = asked(
        client, "POST", "alert-rules", NEW | {"workflow_id": str(world.workflow.pk), "channel_ids": [channel["id"]]}
    )
    assert status == 201
    assert (made["unit"], made["window_s"], made["firing"], made["channel_ids"]) == ("%", 600, 0, [channel["id"]])
    path = f"alert-rules/{made['id']}"
    status, changed = asked(client, "PUT", path, {"threshold": 35.5, "channel_ids": []})
    assert (status, changed["threshold"], changed["channel_ids"]) == (200, 35.5, [])
    assert changed["workflow_id"] == str(world.workflow.pk)
    assert asked(client, "PUT", path, {"workflow_id": None})[1]["workflow_id"] is None
    assert asked(client, "GET", path)[1] == asked(client, "PUT", path, {})[1]
    until = asked(client, "POST", f"{path}/silence", {"hours": 2})[1]["silenced_until"]
    assert 7100 < (parse_datetime(until) - timezone.now()).total_seconds() <= 7200  # type: ignore[operator]
    assert asked(client, "POST", f"{path}/silence", {"hours": 0})[1]["silenced_until"] is None
    assert [one["name"] for one in asked(client, "GET", "alert-rules")[1]["items"]] == ["shop fails", "too many fail"]
    assert asked(client, "DELETE", path)[0] == 204
    assert asked(client, "GET", path)[0] == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"threshold": 200}, 'field "threshold" is a number above 0 to 100, in %'),
        ({"window_s": 61}, 'field "window_s" is whole minutes in seconds'),
        ({"kind": "queue_backlog"}, 'field "kind" needs the permission to see everything'),
        ({"everyone": True}, 'field "everyone" needs the permission to see everything'),
        ({"subject": "disk"}, 'field "subject" is for queues and resources'),
        ({"name": "shop fails"}, 'field "name" is that of another rule'),
    ],
)
def test_a_rule_that_does_not_fit_is_refused_by_field(bob: Any, make_world: Any, body: Any, said: str) -> None:
    make_world(bob, "shop")

    status, found = asked(program(bob), "POST", "alert-rules", NEW | body)

    assert status == 422
    assert said in found["detail"]


@pytest.mark.row("S2-53")
def test_a_rule_reaches_neither_workflows_nor_channels_of_others(bob: Any, carol: Any, make_world: Any) -> None:
    hers = make_world(carol, "hers")
    theirs = AlertChannel.objects.get(owner=carol)
    own = make_alert(bob).rule_id

    for method, path, body in (("POST", "alert-rules", NEW), ("PUT", f"alert-rules/{own}", {})):
        for extra in ({"workflow_id": str(hers.workflow.pk)}, {"channel_ids": [str(theirs.pk)]}):
            assert asked(program(bob), method, path, body | extra)[0] == 422
    assert asked(program(bob), "PUT", f"alert-rules/{hers.alert.rule_id}", {"name": "mine"})[0] == 404
    assert asked(program(bob), "PUT", f"alert-channels/{theirs.pk}", {"name": "mine"})[0] == 404


@pytest.mark.row("S2-58")
def test_the_address_and_secret_of_a_hook_are_written_only(bob: Any) -> None:
    client = program(bob)
    body = {"name": "hook", "kind": "webhook", "address": "https://example.com/very-private", "secret": "s3cret"}

    status, made = asked(client, "POST", "alert-channels", body)
    assert (status, made["address"]) == (201, "https://example.com/…")
    assert (
        asked(client, "PUT", f"alert-channels/{made['id']}", {"enabled": False, "name": "off"})[1]["enabled"] is False
    )
    channel = AlertChannel.objects.get()
    assert (channel.name, channels.opened(channel)) == (
        "off",
        channels.Opened("https://example.com/very-private", "s3cret"),
    )
    shown = json.dumps(
        [made, asked(client, "GET", "alert-channels"), asked(client, "GET", f"alert-channels/{made['id']}")]
    )
    assert "private" not in shown
    assert "s3cret" not in shown
    status, found = asked(client, "PUT", f"alert-channels/{made['id']}", {"kind": "email"})
    assert (status, "is an address such as ann@example.com" in found["detail"]) == (422, True)
    assert asked(client, "DELETE", f"alert-channels/{made['id']}")[0] == 204
    assert not AlertChannel.objects.exists()
