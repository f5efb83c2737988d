"""Rules and channels are made, changed and deleted by those to whom they belong; secrets are never shown."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from monitoring.alerts import channels
from monitoring.alerts.gauges import minute_of
from monitoring.models import AlertChannel, AlertRule, Total
from tests.admin.conftest import logged_in, make_alert
from tests.admin.test_alerts import said, verbs
from workflows.models import AuditEntry

RULES, CHANNELS = "/admin/monitoring/alertrule/", "/admin/monitoring/alertchannel/"
RULE = {
    "name": "too many fail", "kind": "failure_rate", "threshold": "20", "window_minutes": "15", "minimum_runs": "3",
    "for_minutes": "5", "severity": "critical", "enabled": "on",
}  # fmt: skip


def page(thing: Any) -> str:
    return reverse(f"admin:{thing._meta.app_label}_{thing._meta.model_name}_change", args=(thing.pk,))


def stored(user: Any, url: str, **data: Any) -> list[str]:
    """Return what is wrong with a form, empty when it was stored."""
    answer = logged_in(user).post(url, data)
    if answer.status_code == 302:
        return []
    errors: dict[str, list[str]] = answer.context["adminform"].form.errors
    return [f"{name}: {text}" for name, texts in errors.items() for text in texts]


@pytest.mark.row("S2-46")
def test_a_rule_is_made_changed_and_deleted(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    channel = channels.save(bob, "ops", "email", "ops@example.com")

    assert stored(bob, f"{RULES}add/", **RULE, workflow=str(world.workflow.pk), channels=[str(channel.pk)]) == []

    rule = AlertRule.objects.get(name="too many fail")
    assert (rule.owner, rule.workflow, rule.threshold) == (bob, world.workflow, 20)
    assert (rule.window_s, rule.for_s, rule.severity, rule.enabled) == (900, 300, "critical", True)
    assert list(rule.channels.all()) == [channel]
    html = logged_in(bob).get(RULES).content.decode()
    assert "Failure rate ≥ 20 % within 15 minutes" in html
    assert "of at least 3 runs, for 5 minutes" in html
    form = logged_in(bob).get(page(rule)).content.decode()
    assert re.search(r'name="threshold" value="20"', form)
    assert '<option value="">All workflows of the owner</option>' in form
    assert stored(bob, page(rule), **RULE | {"threshold": "30", "for_minutes": "0", "enabled": ""}) == []
    rule.refresh_from_db()
    assert (rule.threshold, rule.for_s, rule.enabled, rule.workflow) == (30, 0, False, None)
    assert logged_in(bob).post(f"{RULES}{rule.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not AlertRule.objects.filter(pk=rule.pk).exists()
    noted = AuditEntry.objects.filter(kind="alert rule", object_name="too many fail").order_by("id")
    assert list(noted.values_list("verb", flat=True)) == ["create", "change", "delete"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"threshold": "101"}, "threshold: It is a number above 0 to 100, in %."),
        ({"threshold": "0"}, "threshold: It is a number above 0 to 100, in %."),
        ({"window_minutes": "0"}, "window_minutes: It is whole minutes in seconds, 60 to 604,800."),
        ({"for_minutes": "-1"}, "for_minutes: It is 0 to 86,400 seconds."),
        ({"name": " "}, "name: This field is required."),
        ({"name": "shop fails"}, 'name: There is already a rule named "shop fails". Choose another name.'),
    ],
)
def test_what_does_not_fit_is_said_beside_the_field(bob: Any, make_world: Any, data: Any, said: str) -> None:
    make_world(bob, "shop")

    assert stored(bob, f"{RULES}add/", **RULE | data) == [said]


@pytest.mark.row("S2-53")
def test_workflows_and_channels_of_others_and_the_installation_are_not_offered(
    bob: Any, carol: Any, make_world: Any
) -> None:
    hers = make_world(carol, "hers")
    channel = channels.save(carol, "her mail", "email", "carol@example.com")
    html = logged_in(bob).get(f"{RULES}add/").content.decode()
    assert "her mail" not in html
    assert "hers" not in html
    assert "Queue backlog" not in html
    assert 'name="everyone"' not in html

    assert "workflow: " in stored(bob, f"{RULES}add/", **RULE, workflow=str(hers.workflow.pk))[0]
    assert "channels: " in stored(bob, f"{RULES}add/", **RULE, channels=[str(channel.pk)])[0]
    for kind in ("queue_backlog", "resource_exhaustion", "worker_lost"):
        assert "kind: " in stored(bob, f"{RULES}add/", **RULE | {"kind": kind})[0]
    stored(bob, f"{RULES}add/", **RULE, everyone="on")
    assert not AlertRule.objects.get(name="too many fail").everyone


@pytest.mark.row("S2-47")
def test_who_sees_everything_may_watch_the_installation_and_everybody(django_user_model: Any) -> None:
    seer = django_user_model.objects.create(username="seer", is_staff=True)
    seer.user_permissions.set(Permission.objects.filter(codename="see_everything"))

    # What another kind needs is left over in the form, and is no reason to refuse.
    queue = RULE | {"name": "queue", "kind": "queue_backlog", "everyone": "on", "subject": "default"}
    assert stored(seer, f"{RULES}add/", **queue) == []
    assert stored(seer, f"{RULES}add/", **RULE, everyone="on", subject="left over") == []

    rule = AlertRule.objects.get(name="queue")
    assert (rule.subject, rule.everyone) == ("default", False)
    rule = AlertRule.objects.get(name="too many fail")
    assert (rule.subject, rule.everyone) == ("", True)


def tried(user: Any, url: str, **data: Any) -> str:
    """Return the page that says what a form which is not stored would have done."""
    answer = logged_in(user).post(url, data)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_rule_is_tried_before_it_is_stored(bob: Any, carol: Any, make_world: Any) -> None:
    Total.objects.create(
        minute=minute_of(timezone.now() - timedelta(days=2)), workflow_id=uuid4(), owner_id=bob.pk, status="failed",
        up_to_ms=1000, runs=9, children=0, credits=0, duration_ms=10,
    )  # fmt: skip
    url = f"{RULES}test/"
    assert url in logged_in(bob).get(f"{RULES}add/").content.decode()

    html = tried(bob, url, **RULE)
    assert "It would have fired 1 time" in html
    assert "Failure rate ≥ 20 % within 15 minutes" in html
    assert "It would have fired 1 time" in tried(bob, url, **RULE | {"name": ""}), "its name makes no difference"
    assert "It would not have fired" in tried(bob, url, **RULE | {"minimum_runs": "10"})
    assert "It would not have fired" in tried(bob, url, **RULE, days="1")
    assert "Threshold: It is a number above 0 to 100" in tried(bob, url, **RULE | {"threshold": "101"})
    assert "Kind: " in tried(bob, url, **RULE | {"kind": "queue_backlog"}), "it is not theirs to watch"
    hers = make_world(carol, "hers")
    assert "Workflow: " in tried(bob, url, **RULE, workflow=str(hers.workflow.pk))
    assert not AlertRule.objects.filter(owner=bob).exists()
    assert logged_in(bob).get(url).status_code == 405


def test_what_is_edited_of_a_stored_rule_is_tried_and_not_stored(bob: Any, carol: Any) -> None:
    Total.objects.create(
        minute=minute_of(timezone.now() - timedelta(days=2)), workflow_id=uuid4(), owner_id=bob.pk, status="failed",
        up_to_ms=1000, runs=9, children=0, credits=0, duration_ms=10,
    )  # fmt: skip
    assert stored(bob, f"{RULES}add/", **RULE) == []
    rule = AlertRule.objects.get(name="too many fail")
    url = reverse("admin:monitoring_alertrule_test", args=(rule.pk,))
    assert f'formaction="{url}"' in logged_in(bob).get(page(rule)).content.decode()

    assert "It would not have fired" in tried(bob, url, **RULE | {"minimum_runs": "10"})

    rule.refresh_from_db()
    assert rule.minimum_runs == 3
    assert logged_in(carol).post(url, RULE).status_code == 404


@pytest.mark.parametrize("form", [RULES, CHANNELS])
def test_no_help_text_only_repeats_its_label(form: str, django_user_model: Any) -> None:
    seer = django_user_model.objects.create(username="seer", is_staff=True, is_superuser=True)
    fields = logged_in(seer).get(f"{form}add/").context["adminform"].form

    def words(text: Any) -> set[str]:
        return set(re.findall(r"[a-z]+", str(text).lower())) - {"the", "a", "of", "in", "it", "that", "is"}

    repeated = [field.label for field in fields if field.help_text and words(field.help_text) <= words(field.label)]
    assert repeated == []


def test_the_list_says_which_rules_fire_rest_or_are_off(bob: Any) -> None:
    fires, rests = make_alert(bob, name="fires").rule, make_alert(bob, name="rests", status="resolved").rule
    assert fires is not None
    assert rests is not None

    html = logged_in(bob).get(RULES).content.decode()
    assert "1 firing" in html
    assert "Quiet" in html
    data = {"action": "disable", "_selected_action": [str(fires.pk), str(rests.pk)], "index": "0"}
    assert len(said(logged_in(bob).post(RULES, data, follow=True))) == 2
    html = logged_in(bob).get(RULES).content.decode()
    assert "firing" not in html
    assert not AlertRule.objects.filter(enabled=True).exists()


def test_a_rule_is_silenced_on_its_page_which_lists_its_alerts(bob: Any) -> None:
    alert = make_alert(bob)
    rule = alert.rule
    assert rule is not None

    html = logged_in(bob).get(page(rule)).content.decode()
    assert page(alert) in html
    assert "silence-1h" in html
    url = reverse("admin:monitoring_alertrule_handle", args=(rule.pk, "silence-1h"))
    assert "Nobody is told" in said(logged_in(bob).post(url, follow=True))[0]
    assert "silence ends" in logged_in(bob).get(page(rule)).content.decode()
    assert verbs(bob, alert)[0] == "unsilence"


# ---------------------------------------------------------------------- channels

HOOK = {"name": "hook", "kind": "webhook", "address": "https://example.com/very-private", "secret": "s3cret", "enabled": "on"}  # fmt: skip


@pytest.mark.row("S2-58")
def test_the_address_of_a_hook_and_its_secret_are_never_shown(bob: Any) -> None:
    assert stored(bob, f"{CHANNELS}add/", **HOOK) == []

    channel = AlertChannel.objects.get(name="hook")
    assert channels.opened(channel) == channels.Opened("https://example.com/very-private", "s3cret")
    for url in (CHANNELS, page(channel)):
        html = logged_in(bob).get(url).content.decode()
        assert "https://example.com/…" in html
        assert "very-private" not in html
        assert "s3cret" not in html


def test_what_is_left_empty_stays_and_what_is_filled_in_replaces_it(bob: Any) -> None:
    stored(bob, f"{CHANNELS}add/", **HOOK)
    channel = AlertChannel.objects.get(name="hook")

    assert stored(bob, page(channel), **HOOK | {"address": "", "secret": "", "name": "renamed"}) == []
    channel.refresh_from_db()
    assert channel.name == "renamed"
    assert channels.opened(channel) == channels.Opened("https://example.com/very-private", "s3cret")
    assert (
        stored(bob, page(channel), **HOOK | {"address": "https://example.org/b", "secret": "", "forget_secret": "on"})
        == []
    )
    channel.refresh_from_db()
    assert channels.opened(channel) == channels.Opened("https://example.org/b", "")
    errors = stored(bob, page(channel), **HOOK | {"kind": "email", "address": ""})
    assert errors == ["address: It is an address such as ann@example.com."]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"kind": "email"}, "address: It is an address such as ann@example.com."),
        ({"address": "ftp://example.com/"}, "address: It is an address such as https://example.com/hook."),
        ({"address": ""}, "address: It is an address such as https://example.com/hook."),
        ({"address": "https://me:pw@example.com/"}, "address: It must not hold a user or a password; sign it with a secret instead."),
        ({"secret": "x" * 201}, "secret: It is a text of at most 200 characters on one line."),
    ],
)  # fmt: skip
def test_an_address_that_does_not_fit_is_refused(bob: Any, data: Any, said: str) -> None:
    assert stored(bob, f"{CHANNELS}add/", **HOOK | data) == [said]
    assert not AlertChannel.objects.exists()


def test_a_channel_is_deleted_and_its_name_is_taken_once_per_owner(bob: Any, carol: Any) -> None:
    for user in (bob, carol):
        assert stored(user, f"{CHANNELS}add/", **HOOK) == []
    assert "already a channel" in stored(bob, f"{CHANNELS}add/", **HOOK)[0]
    channel = AlertChannel.objects.get(owner=bob)

    assert logged_in(bob).post(f"{CHANNELS}{channel.pk}/delete/", {"post": "yes"}).status_code == 302

    assert list(AlertChannel.objects.all()) == [AlertChannel.objects.get(owner=carol)]


def test_a_channel_that_no_key_opens_is_stored_with_a_new_address_only(bob: Any) -> None:
    channel = channels.save(bob, "hook", "webhook", "https://example.com/a")
    AlertChannel.objects.filter(pk=channel.pk).update(data=b"unreadable")

    answer = logged_in(bob).post(page(channel), HOOK | {"address": "", "secret": ""}, follow=True)
    assert "hook" in said(answer)[0]
    assert stored(bob, page(channel), **HOOK) == []
    channel.refresh_from_db()
    assert channels.opened(channel).secret == "s3cret"
