"""A channel is tried from its page and by a program, and says at once what became of it; a rule is tried on last week."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_httpserver import HTTPServer

from monitoring.admin.words import condition_text
from monitoring.alerts import channels, tryout
from monitoring.alerts.gauges import minute_of
from monitoring.models import AlertMessage, AlertRule, Total
from tests.admin.conftest import carol as carol  # the fixtures
from tests.admin.conftest import logged_in
from tests.admin.conftest import make_world as make_world
from tests.executions.smtp import Mailbox
from tests.monitoring.test_alerts_api import asked, program
from workflows.models import AuditEntry

pytestmark = pytest.mark.django_db


def tried(user: Any, channel: Any) -> str:
    """Try ``channel`` from its page and return what the page says."""
    url = reverse("admin:monitoring_alertchannel_test", args=(channel.pk,))
    page = logged_in(user).post(url, follow=True)
    return str(next(iter(page.context["messages"])))


@pytest.mark.row("S2-58")
@pytest.mark.usefixtures("loopback")
def test_a_hook_is_tried_from_its_page(bob: Any, httpserver: HTTPServer) -> None:
    httpserver.expect_ordered_request("/hook", "POST").respond_with_data("taken")
    httpserver.expect_ordered_request("/hook", "POST").respond_with_data("no", 403)
    channel = channels.save(bob, "hook", "webhook", httpserver.url_for("/hook"))
    html = logged_in(bob).get(reverse("admin:monitoring_alertchannel_change", args=(channel.pk,))).content.decode()
    assert "Send a test message" in html

    assert tried(bob, channel) == f"The test message was taken by {channel.address}."
    assert json.loads(httpserver.log[0][0].get_data())["event"] == "test"
    assert "answered 403" in tried(bob, channel)
    assert not AlertMessage.objects.exists()


@pytest.mark.row("S2-58")
def test_a_mail_address_is_tried_by_a_program(bob: Any, mailbox: Mailbox) -> None:
    channel = channels.save(bob, "mail", "email", "ops@example.com")

    found = asked(program(bob, "alerts:write"), "POST", f"alert-channels/{channel.pk}/test")

    assert found == (200, {"taken": True, "error": ""})
    (taken,) = mailbox.messages
    assert "Test message" in taken["Subject"]
    assert asked(program(bob, "alerts:read"), "POST", f"alert-channels/{channel.pk}/test")[0] == 403


def test_what_may_not_be_reached_is_said(bob: Any) -> None:
    channel = channels.save(bob, "hook", "webhook", "http://10.9.9.9/hook")

    status, found = asked(program(bob), "POST", f"alert-channels/{channel.pk}/test")

    assert (status, found["taken"]) == (200, False)
    assert "not allowed" in found["error"]


def test_channels_of_one_person_are_tried_so_often_a_minute(bob: Any, carol: Any) -> None:
    mine = [channels.save(bob, name, "webhook", "http://10.9.9.9/hook") for name in ("a", "b")]
    hers = channels.save(carol, "hers", "webhook", "http://10.9.9.9/hook")
    for number in range(tryout.MOST):
        assert "not allowed" in tried(bob, mine[number % 2])

    assert "tried too often" in tried(bob, mine[0])
    assert asked(program(bob), "POST", f"alert-channels/{mine[1].pk}/test")[0] == 422
    assert "not allowed" in tried(carol, hers)
    tries = AuditEntry.objects.filter(verb="test", owner=bob)
    assert tries.count() == tryout.MOST
    tries.update(at=timezone.now() - tryout.WITHIN)
    assert "not allowed" in tried(bob, mine[0])


def test_channels_of_others_are_tried_by_nobody(bob: Any, carol: Any) -> None:
    channel = channels.save(bob, "hook", "webhook", "http://10.9.9.9/hook")
    url = reverse("admin:monitoring_alertchannel_test", args=(channel.pk,))

    assert logged_in(carol).post(url).status_code == 404
    assert logged_in(bob).get(url).status_code == 405
    assert asked(program(carol), "POST", f"alert-channels/{channel.pk}/test")[0] == 404


# ---------------------------------------------------------------------- rules


@pytest.fixture
def rule(bob: Any, make_world: Any) -> AlertRule:
    """A rule of bob's, whose workflow failed half of its runs an hour ago."""
    world = make_world(bob, "shop")
    Total.objects.bulk_create(
        Total(
            minute=minute_of(timezone.now() - timedelta(hours=1)), workflow_id=world.workflow.pk, owner_id=bob.pk,
            status=status, up_to_ms=1000, runs=5, children=0, credits=0, duration_ms=10,
        )
        for status in ("completed", "failed")
    )  # fmt: skip
    found: AlertRule = world.alert.rule
    return found


def trial_page(user: Any, rule: AlertRule, **query: Any) -> str:
    url = reverse("admin:monitoring_alertrule_test", args=(rule.pk,))
    return logged_in(user).get(url, query).content.decode()


@pytest.mark.row("S2-46")
def test_the_page_of_a_rule_says_what_it_would_have_done(bob: Any, rule: AlertRule) -> None:
    page = logged_in(bob).get(reverse("admin:monitoring_alertrule_change", args=(rule.pk,))).content.decode()
    assert reverse("admin:monitoring_alertrule_test", args=(rule.pk,)) in page

    html = trial_page(bob, rule)
    assert "It would have fired 1 time<" in html
    assert "highest value 50 %" in html
    assert "5 of 10 runs failed within 15 minutes" in html
    assert html.count('class="adm-bar-failed"') == 1
    assert "It would not have fired" in trial_page(bob, rule, threshold=60, days=7)
    assert ">of at least 1 run<" in condition_text(AlertRule(kind="failure_rate", threshold=1, minimum_runs=1))
    rule.refresh_from_db()
    assert rule.threshold == 20


def test_a_rule_about_which_nothing_is_known_says_so(alice: Any) -> None:
    rule = AlertRule.objects.create(owner=alice, name="queue", kind="queue_backlog", threshold=5)

    assert "Nothing is known of this time" in trial_page(alice, rule)


@pytest.mark.parametrize(("query", "said"), [({"threshold": "x"}, "Enter a number"), ({"threshold": 1, "days": 8}, "less than or equal to 7")])  # fmt: skip
def test_what_a_rule_cannot_be_tried_with_is_said(bob: Any, rule: AlertRule, query: Any, said: str) -> None:
    html = trial_page(bob, rule, **{"days": 7, **query})

    assert said in html
    assert "fired" not in html


@pytest.mark.row("S2-53")
def test_a_rule_whose_owner_may_not_see_what_it_is_about_any_more_says_nothing(
    bob: Any, alice: Any, rule: AlertRule
) -> None:
    AlertRule.objects.filter(pk=rule.pk).update(workflow=None, everyone=True)

    for user in (bob, alice):
        html = trial_page(user, rule)
        assert "may not see any more" in html
        assert "5 of 10" not in html
    assert asked(program(bob), "GET", f"alert-rules/{rule.pk}/test")[0] == 422


@pytest.mark.row("S2-46")
def test_a_program_tries_a_rule_with_another_threshold(bob: Any, carol: Any, rule: AlertRule) -> None:
    path = f"alert-rules/{rule.pk}/test"
    client = program(bob, "alerts:read")

    status, found = asked(client, "GET", path)
    assert (status, found["count"], found["highest"], found["threshold"]) == (200, 1, 50, 20)
    assert found["firings"][0]["worst"] == 50
    assert asked(client, "GET", f"{path}?threshold=60")[1]["count"] == 0
    assert asked(client, "GET", f"{path}?days=8")[0] == 422
    assert asked(program(carol), "GET", path)[0] == 404


@pytest.mark.row("S2-46")
def test_a_program_tries_a_rule_that_is_not_stored(bob: Any, carol: Any, rule: AlertRule) -> None:
    new = {"name": rule.name, "kind": "failure_rate", "threshold": 40}

    def there() -> tuple[int, int, int]:
        return AlertRule.objects.count(), AuditEntry.objects.exclude(kind="token").count(), AlertMessage.objects.count()

    before = there()

    def tried(owner: Any, path: str = "alert-rules/test", **changed: Any) -> tuple[int, Any]:
        return asked(program(owner, "alerts:write"), "POST", path, new | changed)

    status, found = tried(bob)
    assert (status, found["count"], found["highest"], found["threshold"]) == (200, 1, 50, 40)
    assert found["firings"][0]["message"] == "5 of 10 runs failed within 15 minutes (50 %)"
    assert found == tried(bob, workflow_id=str(rule.workflow_id))[1] | {"until": found["until"]}
    assert tried(bob, threshold=60)[1]["count"] == 0
    assert tried(bob, minimum_runs=11)[1]["count"] == 0
    assert tried(bob, for_s=3600)[1]["count"] == 0
    assert tried(bob, "alert-rules/test?days=1")[1]["count"] == 1
    assert tried(carol)[1]["highest"] == 0, "of hers"

    assert there() == before


def test_who_may_not_make_a_rule_may_not_try_it(bob: Any, alice: Any, make_world: Any, rule: AlertRule) -> None:
    """It would tell of what its maker may not see."""
    new = {"name": "new", "kind": "failure_rate", "threshold": 40}
    theirs = make_world(alice, "theirs")
    channel = channels.save(alice, "hook", "webhook", "https://hooks.example.com/hook")

    assert asked(program(bob, "alerts:read"), "POST", "alert-rules/test", new)[0] == 403
    assert Client().post("/api/v1/alert-rules/test", new, "application/json").status_code == 401
    for reach in (
        {"workflow_id": str(theirs.workflow.pk)}, {"workflow_id": str(uuid4())}, {"everyone": True},
        {"kind": "worker_lost"}, {"channel_ids": [str(channel.pk)]},
    ):  # fmt: skip
        status, found = asked(program(bob), "POST", "alert-rules/test", new | reach)
        assert status == 422, reach
        assert "firings" not in found
    assert asked(program(alice), "POST", "alert-rules/test", new | {"everyone": True})[1]["highest"] == 50


@pytest.mark.parametrize(
    ("body", "query", "said"),
    [
        ({"threshold": 101}, "", 'field "threshold" is a number above 0 to 100'),
        ({"threshold": "much"}, "", "threshold"),
        ({"kind": "moon_phase"}, "", "kind"),
        ({"window_s": 61}, "", 'field "window_s" is whole minutes'),
        ({"subject": "disk"}, "", 'field "subject" is for queues and resources'),
        ({"name": " "}, "", 'field "name" is a text of 1'),
        ({}, "?days=8", "days"),
        ({}, "?days=0", "days"),
    ],
)
def test_a_new_rule_that_could_not_be_stored_is_not_tried(bob: Any, body: Any, query: str, said: str) -> None:
    new = {"name": "new", "kind": "failure_rate", "threshold": 40}

    status, found = asked(program(bob), "POST", f"alert-rules/test{query}", new | body)

    assert status == 422
    assert said in json.dumps(found).replace('\\"', '"')
