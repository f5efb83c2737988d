"""The inbox: what fires is seen, taken on and silenced, by whom it concerns."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from monitoring.alerts import inbox
from monitoring.models import Alert, AlertRule
from tests.admin.conftest import logged_in, make_alert
from workflows.models import AuditEntry

LIST = "/admin/monitoring/alert/"


def page(alert: Alert) -> str:
    return reverse("admin:monitoring_alert_change", args=(alert.pk,))


def handle(user: Any, alert: Alert, verb: str, method: str = "post") -> Any:
    url = reverse("admin:monitoring_alert_handle", args=(alert.pk, verb))
    return getattr(logged_in(user), method)(url, follow=True)


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def verbs(user: Any, alert: Alert) -> list[str]:
    return re.findall(r'formaction="[^"]*/([a-z0-9-]+)/"', logged_in(user).get(page(alert)).content.decode())


def badge(user: Any) -> str:
    found = re.search(r'class="adm-badge">([^<]*)<', logged_in(user).get("/admin/").content.decode())
    return found[1] if found else ""


def silenced_until(alert: Alert) -> Any:
    return AlertRule.objects.get(alerts=alert).silenced_until


def resolve(alert: Alert) -> None:
    Alert.objects.filter(pk=alert.pk).update(status="resolved", resolved_at=timezone.now())


@pytest.mark.row("S1-34")
def test_what_fires_is_counted_in_the_navigation_and_on_the_dashboard(bob: Any, carol: Any) -> None:
    assert badge(bob) == ""
    first, second = make_alert(bob, name="first"), make_alert(bob, name="second")
    make_alert(carol, name="hers")

    assert badge(bob) == "2"
    dashboard = logged_in(bob).get("/admin/").content.decode()
    assert "Firing now" in dashboard
    assert "hers" not in dashboard
    inbox.acknowledge(first, bob)
    assert badge(bob) == "1"
    resolve(second)
    assert badge(bob) == ""
    resolve(first)
    assert "Firing now" not in logged_in(bob).get("/admin/").content.decode()


def test_the_count_is_bounded(bob: Any) -> None:
    alert = make_alert(bob)
    Alert.objects.bulk_create(
        Alert(
            **{
                field.attname: getattr(alert, field.attname)
                for field in Alert._meta.concrete_fields
                if field.name not in ("id", "key")
            },
            key=str(number),
        )
        for number in range(inbox.COUNTED)
    )

    assert badge(bob) == "99+"


@pytest.mark.row("S1-34")
def test_the_list_shows_what_fires_and_by_choice_what_is_over(bob: Any) -> None:
    new, known, over = (make_alert(bob, name=name) for name in ("new one", "known one", "old one"))
    inbox.acknowledge(known, bob)
    resolve(over)

    def listed(state: str) -> set[str]:
        html = logged_in(bob).get(LIST, {"state": state} if state else {}).content.decode()
        return {name for name in ("new one", "known one", "old one") if f">{name}<" in html}

    assert listed("") == {"new one", "known one"}
    assert listed("new") == {"new one"}
    assert listed("acknowledged") == {"known one"}
    assert listed("resolved") == {"old one"}
    assert listed("all") == {"new one", "known one", "old one"}
    resolve(new)
    resolve(known)
    assert "Nothing fires" in logged_in(bob).get(LIST).content.decode()


def test_the_page_says_what_was_found_and_who_was_told(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    html = logged_in(bob).get(page(world.alert)).content.decode()

    for text in ("shop fails", "40 % of 10 runs failed", "Firing", "shop fails mail", "Sent"):
        assert text in html, text
    assert reverse("admin:workflows_workflow_change", args=(world.workflow.pk,)) in html


@pytest.mark.parametrize(
    ("kind", "value", "threshold", "found"),
    [
        ("queue_backlog", 1, 1, "1 message (default); too much is 1 message"),
        ("queue_backlog", 2, 1, "2 messages (default); too much is 1 message"),
        ("dead_letters", 1, 0.5, "1 letter (default); too much is 0.5 letters"),
        ("schedule_lag", 1, 1, "1 s (default); too much is 1 s"),
    ],
)
def test_one_of_what_was_found_is_in_the_singular(
    bob: Any, kind: str, value: float, threshold: float, found: str
) -> None:
    alert = make_alert(bob, kind=kind, value=value, threshold=threshold, key="default")

    assert found in logged_in(bob).get(page(alert)).content.decode()


@pytest.mark.row("S1-34")
def test_somebody_takes_care_of_an_alert_once(bob: Any, alice: Any) -> None:
    alert = make_alert(bob)
    assert "acknowledge" in verbs(bob, alert)

    assert said(handle(bob, alert, "acknowledge")) == ["You take care of this alert now."]

    alert.refresh_from_db()
    assert (alert.acknowledged_by, alert.status) == (bob, "firing")
    assert "acknowledge" not in verbs(bob, alert)
    assert "takes care of it already" in said(handle(alice, alert, "acknowledge"))[0]
    alert.refresh_from_db()
    assert alert.acknowledged_by == bob
    assert AuditEntry.objects.filter(verb="acknowledge", actor=bob, object_id=str(alert.pk)).count() == 1


def test_many_alerts_are_acknowledged_at_once(bob: Any) -> None:
    rows = [make_alert(bob, name=f"alert {number}") for number in range(3)]
    resolve(rows[2])
    data = {"action": "acknowledge", "_selected_action": [str(row.pk) for row in rows], "index": "0"}

    response = logged_in(bob).post(f"{LIST}?state=all", data, follow=True)

    assert said(response) == ["You take care of 2 alerts now."]
    assert Alert.objects.filter(acknowledged_by=bob).count() == 2


@pytest.mark.row("S1-34")
@pytest.mark.parametrize(("verb", "hours"), [("silence-1h", 1), ("silence-8h", 8), ("silence-1d", 24)])
def test_a_rule_is_silenced_for_a_while_and_heard_again(bob: Any, verb: str, hours: int) -> None:
    alert = make_alert(bob)
    assert verb in verbs(bob, alert)

    handle(bob, alert, verb)

    left = silenced_until(alert) - timezone.now()
    assert timedelta(hours=hours) - timedelta(minutes=5) < left <= timedelta(hours=hours)
    assert "silenced" in logged_in(bob).get(LIST).content.decode()
    assert verbs(bob, alert) == ["unsilence", "acknowledge"]
    handle(bob, alert, "unsilence")
    assert silenced_until(alert) is None
    assert list(AuditEntry.objects.filter(kind="alert rule").order_by("id").values_list("verb", flat=True)) == [
        "silence",
        "unsilence",
    ]


def test_what_is_left_of_a_deleted_rule_can_only_be_looked_at(bob: Any) -> None:
    alert = make_alert(bob)
    assert alert.rule is not None
    alert.rule.delete()
    resolve(alert)

    assert verbs(bob, alert) == []
    assert "nothing to silence" in said(handle(bob, alert, "silence-1h"))[0]


def test_alerts_of_others_do_not_exist_and_only_those_who_change_everything_act(
    bob: Any, carol: Any, alice: Any, django_user_model: Any
) -> None:
    from django.contrib.auth.models import Permission

    alert = make_alert(bob, name="secret thing")
    observer = django_user_model.objects.create(username="observer", is_staff=True)
    observer.user_permissions.set(Permission.objects.filter(codename="see_everything"))

    assert "secret thing" not in logged_in(carol).get(f"{LIST}?state=all").content.decode()
    assert handle(carol, alert, "acknowledge").status_code == 404
    assert "secret thing" in logged_in(observer).get(LIST).content.decode()
    assert verbs(observer, alert) == []
    assert handle(observer, alert, "silence-1h").status_code == 404
    assert said(handle(alice, alert, "acknowledge")) == ["You take care of this alert now."]


def test_alerts_are_handled_by_post_only(bob: Any) -> None:
    alert = make_alert(bob)

    assert handle(bob, alert, "acknowledge", "get").status_code == 405
    assert handle(bob, alert, "burn").status_code == 404
