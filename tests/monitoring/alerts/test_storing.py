"""What rules and channels may be, and whose."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet

from monitoring.alerts import channels, rules
from monitoring.alerts.errors import AlertRefused
from monitoring.models import AlertChannel, AlertRule
from tests.conftest import graph, node
from workflows import credentials
from workflows.models import AuditEntry

pytestmark = pytest.mark.django_db
HOOK = "https://hooks.example.com/services/T0/s3cret-path"


def rule_of(owner: Any, kind: str = "dead_letters", **fields: Any) -> AlertRule:
    return AlertRule(owner=owner, **{"name": f"a {kind}", "kind": kind, "threshold": 5, **fields})


def refused(act: Any, *arguments: Any, **named: Any) -> set[str]:
    with pytest.raises(AlertRefused) as caught:
        act(*arguments, **named)
    return {problem.field for problem in caught.value.problems}


def test_a_channel_keeps_its_address_and_secret_where_nobody_reads_them(alice: Any) -> None:
    channel = channels.save(alice, " ops ", "webhook", HOOK, "sign-with-this")

    stored = AlertChannel.objects.get()
    assert (stored.name, stored.address) == ("ops", "https://hooks.example.com/…")
    assert b"s3cret-path" not in bytes(stored.data)
    assert b"sign-with" not in bytes(stored.data)
    assert channels.opened(stored) == channels.Opened(HOOK, "sign-with-this")
    assert "s3cret" not in repr(channels.opened(stored))
    notes = AuditEntry.objects.filter(kind="alert channel")
    assert [(note.verb, note.detail["address"]) for note in notes] == [("create", "https://hooks.example.com/…")]

    channels.save(alice, "ops 2", "webhook", channel=channel, enabled=False)
    assert channels.opened(AlertChannel.objects.get()) == channels.Opened(HOOK, "sign-with-this")
    channels.save(alice, "ops 2", "webhook", secret="", channel=channel)
    assert channels.opened(channel) == channels.Opened(HOOK, "")


def test_a_channel_of_another_kind_needs_an_address_of_that_kind(alice: Any) -> None:
    channel = channels.save(alice, "ops", "webhook", HOOK, "secret")

    assert refused(channels.save, alice, "ops", "email", channel=channel) == {"address"}
    channels.save(alice, "ops", "email", "ops@example.com", channel=channel)
    assert channels.opened(channel) == channels.Opened("ops@example.com", "")


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("email", "nobody"), ("email", "a@b.example, c@d.example"), ("email", "a@b.example\r\nBcc: c@d.example"),
        ("webhook", "ftp://example.com/"), ("webhook", "https://"), ("webhook", "https://u:p@example.com/"),
        ("slack", "javascript:alert(1)"), ("slack", "https://example.com/\r\nX: y"), ("webhook", "http://[::1"),
        ("webhook", "https://example.com:99999/"), ("email", "x" * 250 + "@example.com"),
    ],
)  # fmt: skip
def test_addresses_that_are_none_are_refused(alice: Any, kind: str, address: str) -> None:
    assert refused(channels.save, alice, "ops", kind, address) == {"address"}


def test_a_channel_needs_a_name_of_its_own_and_a_known_kind(alice: Any, bob: Any) -> None:
    channels.save(alice, "ops", "email", "ops@example.com")
    channels.save(bob, "ops", "email", "bob@example.com")

    assert refused(channels.save, alice, "ops", "email", "ops@example.com") == {"name"}
    assert refused(channels.save, alice, "two\nlines", "pigeon", "x") == {"name", "kind"}
    assert refused(channels.save, alice, "mail", "email", "ops@example.com", "a secret") == {"secret"}
    AlertChannel.objects.bulk_create(
        AlertChannel(owner=bob, name=str(number), kind="email", data=b"") for number in range(channels.MOST_CHANNELS)
    )
    assert refused(channels.save, bob, "more", "email", "b@example.com") == {""}


def test_a_rotation_of_the_keys_takes_channels_along(alice: Any, settings: Any) -> None:
    channel = channels.save(alice, "ops", "slack", HOOK)
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode(), *settings.CREDENTIAL_KEYS]

    assert credentials.rotate().rotated == 1
    settings.CREDENTIAL_KEYS = settings.CREDENTIAL_KEYS[:1]
    channel.refresh_from_db()
    assert channels.opened(channel).address == HOOK


def test_a_rule_is_stored_with_its_channels_and_noted(alice: Any) -> None:
    channel = channels.save(alice, "ops", "email", "ops@example.com")
    rule = rules.save(rule_of(alice, "queue_backlog", subject="default"), [channel])

    assert list(rule.channels.all()) == [channel]
    rule.threshold = 7
    rules.save(rule)
    assert list(rule.channels.all()) == [channel]
    rules.delete(rule)
    verbs = AuditEntry.objects.filter(kind="alert rule").order_by("id").values_list("verb", flat=True)
    assert list(verbs) == ["create", "change", "delete"]


def test_what_does_not_fit_a_rule_is_named_by_field(alice: Any) -> None:
    def wrong(kind: str = "dead_letters", **fields: Any) -> set[str]:
        return refused(rules.save, rule_of(alice, kind, **fields))

    assert wrong(name="") == {"name"}
    assert wrong("weather") == {"kind"}
    assert wrong(threshold=0) == wrong(threshold=float("nan")) == wrong("failure_rate", threshold=101) == {"threshold"}
    assert wrong(window_s=90) == wrong(window_s=0) == wrong(window_s=8 * 86_400) == {"window_s"}
    assert wrong(for_s=86_401) == {"for_s"}
    assert wrong(minimum_runs=0) == {"minimum_runs"}
    assert wrong(subject="default") == wrong("resource_exhaustion", subject="water") == {"subject"}
    assert wrong("queue_backlog", subject="a b") == {"subject"}
    assert wrong(severity="awful") == {"severity"}


def test_rules_reach_no_further_than_their_owner(alice: Any, bob: Any, make_workflow: Any) -> None:
    foreign = make_workflow(graph([node("a", "delay", Seconds=0)]), name="foreign")
    own = make_workflow(graph([node("a", "delay", Seconds=0)]), name="own", owner=bob)
    channel = channels.save(alice, "ops", "email", "ops@example.com")

    assert refused(rules.save, rule_of(bob, workflow=foreign)) == {"workflow"}
    assert refused(rules.save, rule_of(bob, everyone=True)) == {"everyone"}
    for kind in ("queue_backlog", "resource_exhaustion", "worker_lost"):
        assert refused(rules.save, rule_of(bob, kind)) == {"kind"}
    assert refused(rules.save, rule_of(bob, workflow=own), [channel]) == {"channels"}
    assert refused(rules.save, rule_of(alice, "worker_lost", workflow=foreign)) == {"workflow"}
    assert refused(rules.save, rule_of(alice, workflow=foreign, everyone=True)) == {"everyone"}

    mine = rules.save(rule_of(bob, workflow=own))
    assert rules.may_watch(mine)
    assert rules.may_watch(rules.save(rule_of(alice, everyone=True)))
    assert not rules.may_watch(rule_of(bob, workflow=foreign))
    assert not rules.may_watch(rule_of(bob, "worker_lost"))
    bob.is_active = False
    assert not rules.may_watch(rule_of(bob, workflow=own))


def test_a_rule_of_one_workflow_goes_with_it(alice: Any, make_workflow: Any) -> None:
    workflow = make_workflow(graph([node("a", "delay", Seconds=0)]))
    rules.save(rule_of(alice, "cost", workflow=workflow))
    workflow.version = workflow.draft = None
    workflow.save()

    workflow.delete()
    assert not AlertRule.objects.exists()


def test_two_changes_at_once_fit_together_or_the_second_is_refused(alice: Any, make_workflow: Any) -> None:
    workflow = make_workflow(graph([node("a", "delay", Duration=0)]))
    rules.save(rule_of(alice))
    first, second, third = (AlertRule.objects.get() for _ in range(3))
    first.everyone = True
    rules.save(first, edited=("everyone",))

    second.workflow = workflow
    assert refused(rules.save, second, edited=("workflow",)) == {"everyone"}
    rules.delete(first)
    assert refused(rules.save, third, edited=("name",)) == {""}
