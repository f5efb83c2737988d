"""``./flow alerts``, and what docs/alerts.md says of it all."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from monitoring.alerts import inbox, outbox, rules, tryout
from monitoring.alerts.gauges import minute_of
from monitoring.models import Alert, AlertRule, Total
from tests.admin.conftest import carol as carol  # the fixtures
from tests.admin.conftest import make_alert
from tests.environment import ROOT

pytestmark = pytest.mark.django_db


def flow(*arguments: str) -> str:
    """Run a command in this process and return what it printed."""
    out = io.StringIO()
    call_command("alerts", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def names(*arguments: str) -> set[str]:
    return {one["rule"] for one in json.loads(flow("list", "--json", *arguments))}


def test_alerts_are_listed_to_whom_they_concern(alice: Any, bob: Any, carol: Any) -> None:
    mine, over = make_alert(bob, name="mine"), make_alert(bob, name="over")
    make_alert(carol, name="hers")
    Alert.objects.filter(pk=over.pk).update(status="resolved", resolved_at=timezone.now())

    assert names("--user", "bob") == {"mine"}
    assert names("--user", "bob", "--state", "all") == {"mine", "over"}
    assert names() == {"mine", "hers"}
    table = flow("list", "--user", "bob")
    assert "40 % of 10 runs failed" in table
    inbox.acknowledge(mine, bob)
    assert "taken by bob" in flow("list", "--user", "bob")
    assert "There is none" in flow("list", "--user", "bob", "--state", "new")


@pytest.mark.row("S1-34")
def test_an_alert_is_acknowledged_by_the_beginning_of_its_id(bob: Any, carol: Any) -> None:
    alert = make_alert(bob)
    short = str(alert.pk)[:8]

    with pytest.raises(CommandError, match="no alert that fires and is yours"):
        flow("ack", short, "--user", "carol")
    assert "You take care of: all fails" in flow("ack", short, "--user", "bob")
    alert.refresh_from_db()
    assert alert.acknowledged_by == bob
    with pytest.raises(SystemExit):
        flow("ack", short, "--user", "bob")
    with pytest.raises(CommandError, match="no alert"):
        flow("ack", "nonsense", "--user", "bob")


def test_a_rule_is_silenced_and_heard_again(bob: Any, carol: Any) -> None:
    rule = make_alert(bob, name="noisy").rule
    assert rule is not None

    assert "Nobody is told when it fires until" in flow("silence", "noisy", "--hours", "2", "--user", "bob")
    until = AlertRule.objects.get(pk=rule.pk).silenced_until
    assert until is not None
    assert timedelta(minutes=110) < until - timezone.now() <= timedelta(hours=2)
    assert "People are told" in flow("silence", str(rule.pk), "--hours", "0", "--user", "bob")
    for arguments in (
        ("noisy", "--user", "carol"),
        ("other", "--user", "bob"),
        ("noisy", "--hours", "9000", "--user", "bob"),
    ):
        with pytest.raises(CommandError):
            flow("silence", *arguments)


@pytest.mark.row("S2-46")
def test_a_rule_is_tried_and_not_changed(bob: Any) -> None:
    rule = make_alert(bob, name="noisy").rule
    assert rule is not None

    found = json.loads(flow("test", "noisy", "--threshold", "55", "--user", "bob", "--json"))
    assert (found["threshold"], found["count"]) == (55, 0)
    assert "would have fired 0 times in 7 days" in flow("test", "noisy", "--user", "bob")
    AlertRule.objects.filter(pk=rule.pk).update(kind="cost", threshold=1, window_s=3600)
    Total.objects.create(
        minute=minute_of(timezone.now() - timedelta(hours=1)), workflow_id=uuid4(), owner_id=bob.pk, status="completed",
        up_to_ms=1000, runs=1, children=0, credits=1, duration_ms=10,
    )  # fmt: skip
    one = "threshold 1 credit it would have fired 1 time in 1 day; the highest value was 1 credit."
    assert one in " ".join(flow("test", "noisy", "--days", "1", "--user", "bob").split())
    for wrong in (("--days", "8"), ("--threshold", "0")):
        with pytest.raises(CommandError):
            flow("test", "noisy", "--user", "bob", *wrong)
    rule.refresh_from_db()
    assert rule.threshold == 1


def test_the_document_lists_exactly_the_kinds_and_says_their_numbers() -> None:
    text = (ROOT / "docs" / "alerts.md").read_text()

    listed = re.findall(r"^\| `(\w+)` \|.*\| (\w+) \| (\w+) \|$", text, re.MULTILINE)
    assert set(listed) == {
        (name, {"%": "percent", "s": "seconds"}.get(kind.unit, kind.unit), "installation" if kind.installation else "workflows")
        for name, kind in rules.KINDS.items()
    }  # fmt: skip
    assert "five a minute" in text
    assert tryout.MOST == 5
    assert "tried eight times, after 10 seconds" in text
    assert (outbox.MOST_ATTEMPTS, outbox.FIRST_PAUSE_S) == (8, 10)
    for resource in rules.RESOURCES:
        assert f"`{resource}`" in text
