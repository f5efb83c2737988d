"""Each kind of rule fires once, stays one, and is over once; what is said about it, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import current_app
from django.utils import timezone
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from executions import letters, store
from executions.models import DeadLetter, Execution, LostWorker, NodeRun, WorkerLease
from executions.triggers import start_execution
from monitoring import history
from monitoring.alerts import channels, evaluation, inbox, measures, outbox, rules
from monitoring.alerts.courier import carry
from monitoring.alerts.evaluation import Evaluator
from monitoring.models import Alert, AlertChannel, AlertMessage, AlertRule, Total
from tests.conftest import flush_redis, graph, node
from tests.executions.smtp import Mailbox
from workflows.models import Schedule

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
SECOND = 1_000_000


@pytest.fixture(autouse=True)
def at_once(settings: Any) -> None:
    """Let every rule be due at every look, and be over at the first look that finds it so."""
    settings.ALERT_SECONDS = 0


@pytest.fixture
def channel(alice: Any) -> AlertChannel:
    return channels.save(alice, "ops", "email", "ops@example.com")


@pytest.fixture
def workflow(make_workflow: Callable[..., Any]) -> Any:
    return make_workflow(graph([node("a", "delay", Duration=0)]))


def rule_of(owner: Any, kind: str, channel: AlertChannel | None = None, **fields: Any) -> AlertRule:
    rule = AlertRule(owner=owner, **{"name": f"a {kind}", "kind": kind, "threshold": 1, "window_s": 3600, **fields})
    return rules.save(rule, [channel] if channel else [])


def look(times: int = 2) -> None:
    """Look several times: what fires is raised once, whichever process looks."""
    for _ in range(times):
        assert Evaluator().look() == AlertRule.objects.filter(enabled=True).count()


def firing() -> list[str]:
    return sorted(Alert.objects.filter(status="firing").values_list("message", flat=True))


def over() -> None:
    """Look until what is fine is over."""
    settle()
    look()


def settle() -> None:
    """Let some time pass since the last look that found too much."""
    Alert.objects.update(last_seen_at=timezone.now() - timedelta(hours=1))


def events() -> list[tuple[str, str]]:
    return list(AlertMessage.objects.order_by("created_at", "event").values_list("event", "status"))


def deliver() -> None:
    """Take what is due to its channels."""
    for one in outbox.due(store.database_now_us(), but_channels=(), but_owners=()):
        message = outbox.claim(one.id)
        assert message is not None
        carry(message)


def ended(workflow: Any, status: str, runs: int = 1, credits: int = 0, ago_s: int = 0, owner: Any = None) -> None:
    minute = (store.database_now_us() // SECOND - ago_s) // 60
    row, _ = Total.objects.get_or_create(
        minute=minute, workflow_id=workflow.pk, owner_id=(owner or workflow.owner).pk, status=status, up_to_ms=1000,
        defaults={"runs": 0, "children": 0, "credits": 0, "duration_ms": 0},
    )  # fmt: skip
    row.runs, row.credits = row.runs + runs, row.credits + credits
    row.save()


# ---------------------------------------------------------------------- each kind


@pytest.mark.row("S2-46")
def test_a_failure_rate_fires_once_and_is_over_once(alice: Any, workflow: Any, channel: AlertChannel) -> None:
    rule_of(alice, "failure_rate", channel, threshold=25, minimum_runs=4)
    ended(workflow, "failed", 1)
    ended(workflow, "completed", 2)
    ended(workflow, "cancelled", 9)
    ended(workflow, "failed", 50, ago_s=7200)
    look()
    assert firing() == [], "three runs say nothing yet"

    ended(workflow, "completed_with_errors", 1)
    look()
    assert firing() == ["2 of 4 runs failed within 1 hour (50 %)"]
    assert events() == [("firing", "waiting")]

    ended(workflow, "completed", 6)
    settle()
    look()
    assert (firing(), Alert.objects.count()) == ([], 1)
    assert events() == [("firing", "waiting"), ("resolved", "waiting")]


@pytest.mark.row("S2-49")
def test_cost_counts_what_everybody_spent_only_for_who_may_see_it(
    alice: Any, bob: Any, workflow: Any, make_workflow: Callable[..., Any]
) -> None:
    other = make_workflow(graph([node("a", "delay", Duration=0)]), name="bobs", owner=bob)
    rule_of(alice, "cost", threshold=100, name="mine")
    rule_of(alice, "cost", threshold=100, name="everybody", everyone=True)
    rule_of(alice, "cost", threshold=100, name="that of bob", workflow=other)
    rule_of(bob, "cost", threshold=100, name="bobs own")
    ended(workflow, "completed", credits=90)
    ended(other, "failed", credits=60)
    look()
    assert list(Alert.objects.values_list("rule_name", "message")) == [("everybody", "150 credits spent within 1 hour")]

    ended(other, "failed", credits=40)
    look()
    assert set(Alert.objects.values_list("rule_name", flat=True)) == {"everybody", "that of bob", "bobs own"}
    Total.objects.all().delete()
    over()
    assert firing() == []


@pytest.mark.row("S2-47")
@pytest.mark.redis
def test_a_backlog_is_told_queue_by_queue(alice: Any, settings: Any) -> None:
    flush_redis()
    rule_of(alice, "queue_backlog", threshold=3)
    rule_of(alice, "queue_backlog", threshold=1, subject="browser", name="only browser")
    for _ in range(3):
        current_app.send_task("nobody", queue="default")
    look()
    assert firing() == ['3 messages wait in the queue "default"']

    current_app.send_task("nobody", queue="default", priority=9)
    look()
    assert firing() == ['4 messages wait in the queue "default"'], "one alert that says what is now"
    flush_redis()
    over()
    assert (firing(), Alert.objects.count()) == ([], 1)


def test_what_is_found_once_is_said_in_the_singular() -> None:
    rule = AlertRule(kind="failure_rate", window_s=60, minimum_runs=1)
    ended = history.Sums(completed=0, failed=1)

    said = [
        measures.backlog_reading("default", 1), measures.backlog_reading("default", 0), measures.cost_reading(1, 3600),
        measures.letters_reading(1), measures.workers_reading([("h", 7)], 86_400), measures.failure_reading(ended, rule),
    ]  # fmt: skip

    assert [reading.message for reading in said] == [
        '1 message waits in the queue "default"',
        '0 messages wait in the queue "default"',
        "1 credit spent within 1 hour",
        "1 dead letter not handled yet",
        "1 worker lost within 1 day: h (process 7)",
        "1 of 1 run failed within 1 minute (100 %)",
    ]


@pytest.mark.row("S2-47")
def test_a_broker_that_does_not_answer_neither_raises_nor_resolves(alice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = rule_of(alice, "queue_backlog")
    alert = Alert.objects.create(
        owner=alice, rule=rule, rule_name=rule.name, kind=rule.kind, severity=rule.severity, key="default",
        condition=rule.condition, value=5, threshold=1, message="5 messages", opened_at=timezone.now(),
        last_seen_at=timezone.now() - timedelta(hours=1),
    )  # fmt: skip
    nobody = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(current_app.conf, "broker_read_url", nobody)
    assert Evaluator().look() == 0
    alert.refresh_from_db()
    assert alert.status == "firing"


@pytest.mark.row("S2-48")
def test_what_is_exhausted_is_told_by_name(alice: Any, workflow: Any, settings: Any, tmp_path: Any) -> None:
    rule_of(alice, "resource_exhaustion", threshold=90, subject="slots")
    now = store.database_now_us()
    lease = WorkerLease.objects.create(
        boot="b" * 32, hostname="h", pid=1, queues="default", slots=1, started_at=timezone.now(), beat_at=now
    )
    execution = start_execution(workflow, by=alice)
    NodeRun.objects.create(
        execution=execution, phase_index=0, node_index=0, node_id="a", node_type="delay", status="running",
        claim="c" * 32, worker=lease.boot, lease_until=now + 600 * SECOND,
    )  # fmt: skip
    look()
    assert firing() == ["100 % of the slots of all workers are in use"]

    NodeRun.objects.all().delete()
    over()
    assert firing() == []


def tell(hostname: str, disk: float | None, memory: float | None, *, age_s: float = 0, **fields: Any) -> None:
    """Let a process of a machine say how full it is."""
    WorkerLease.objects.create(
        boot=uuid4().hex, hostname=hostname, pid=1, started_at=timezone.now(), disk_percent=disk, memory_percent=memory,
        beat_at=store.database_now_us() - round(age_s * SECOND), **{"queues": "default", **fields},
    )  # fmt: skip


@pytest.mark.row("S2-48")
def test_disk_and_memory_are_those_of_the_fullest_machine_which_is_named(
    alice: Any, mailbox: Mailbox, loopback: None
) -> None:
    mail = channels.save(alice, "mail", "email", "ops@example.com")
    rule_of(alice, "resource_exhaustion", mail, threshold=90, subject="disk")
    tell("main-host", 20, 30, queues="beat")
    tell("gone-host", 99, 99, age_s=25)
    tell("old-version", None, None)
    look()
    assert firing() == []

    tell("worker-2", 93, 91, queues="isolated")
    tell("worker-3", 92, 95)
    look()
    deliver()

    assert firing() == ["93 % of the disk with the data directory is in use on worker-2"]
    assert firing()[0] in mailbox.messages[0].get_content()
    assert measures.resources()["memory"].message == "95 % of the memory is in use on worker-3"
    WorkerLease.objects.filter(hostname="worker-2").update(disk_percent=40)
    look()
    assert firing() == ["92 % of the disk with the data directory is in use on worker-3"], "it is the same alert"
    assert len(mailbox.messages) == 1
    WorkerLease.objects.filter(hostname="worker-3").update(disk_percent=40)
    over()
    assert firing() == []


@pytest.mark.redis
@pytest.mark.row("S2-48")
def test_fault_19_a_redis_that_fills_up_is_told_until_there_is_room(alice: Any, settings: Any) -> None:
    rule_of(alice, "resource_exhaustion", threshold=90, subject="redis")
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        memory: Any = client.info("memory")
        try:
            look()
            assert firing() == [], "it may take all that there is"
            client.config_set("maxmemory", memory["used_memory"] // 2)
            look()
            assert firing() == ["100 % of the memory that Redis may take is in use"]
            client.config_set("maxmemory", memory["used_memory"] * 10)
            over()
            assert firing() == []
        finally:
            client.config_set("maxmemory", 0)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert "redis" not in measures.resources()


def test_a_schedule_that_nobody_serves_lags_and_one_that_began_late_did(alice: Any, workflow: Any) -> None:
    rule_of(alice, "schedule_lag", threshold=60, workflow=workflow)
    now = timezone.now()
    schedule = Schedule.objects.create(workflow=workflow, cron="0 3 * * *", next_run_at=now - timedelta(seconds=30))
    look()
    assert firing() == []

    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=now - timedelta(seconds=300))
    look()
    (message,) = firing()
    assert message.startswith("scheduled runs begin 30")
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=now + timedelta(hours=1))
    over()
    assert firing() == []

    late = start_execution(workflow, by=alice, trigger="scheduled", scheduled_for=now - timedelta(seconds=120))
    look()
    assert len(firing()) == 1, "it waits in the queue"
    Execution.objects.filter(pk=late.pk).update(status="completed", started_at=now)
    look()
    assert firing() == ["scheduled runs begin 120 s late"]
    Execution.objects.filter(pk=late.pk).update(queued_at=now - timedelta(hours=3))
    over()
    assert firing() == []


def test_dead_letters_are_told_until_somebody_handled_them(alice: Any, bob: Any, workflow: Any) -> None:
    rule_of(alice, "dead_letters", threshold=2)
    rule_of(bob, "dead_letters")
    for number in range(2):
        letters.keep("schedule", "no", {"n": number}, workflow_id=workflow.pk)
    look()
    assert firing() == ["2 dead letters not handled yet"]

    DeadLetter.objects.update(status=DeadLetter.DISCARDED)
    over()
    assert firing() == []


def test_a_lost_worker_is_told_even_when_another_one_is_there_at_once(alice: Any) -> None:
    rule_of(alice, "worker_lost", window_s=600)
    now = store.database_now_us()
    WorkerLease.objects.create(
        boot="n" * 32, hostname="one", pid=8, queues="default", started_at=timezone.now(), beat_at=now
    )
    look()
    assert firing() == []

    LostWorker.objects.create(boot="b" * 32, hostname="one", pid=7, lost_at=now)
    look()
    assert firing() == ["1 worker lost within 10 minutes: one (process 7)"]
    WorkerLease.objects.create(
        boot="s" * 32, hostname="two", pid=9, queues="default", started_at=timezone.now(), beat_at=now - 60 * SECOND
    )
    look()
    assert firing() == ["2 workers lost within 10 minutes: one (process 7), two (process 9)"]
    WorkerLease.objects.filter(boot="s" * 32).delete()
    LostWorker.objects.update(lost_at=now - 601 * SECOND)
    over()
    assert firing() == []


# ---------------------------------------------------------------------- when it is told, and when it is over


def lettered(owner: Any, channel: AlertChannel | None = None, **fields: Any) -> AlertRule:
    """Return a rule that fires at the next look."""
    DeadLetter.objects.create(kind="message", first_failed_at=timezone.now(), last_failed_at=timezone.now())
    return rule_of(owner, "dead_letters", channel, everyone=True, **fields)


def test_what_must_last_is_told_only_when_it_did(alice: Any) -> None:
    rule = lettered(alice, for_s=300)
    look()
    assert firing() == []
    rule.refresh_from_db()
    assert rule.holding["since"].keys() == {""}

    AlertRule.objects.update(holding={**rule.holding, "since": {"": store.database_now_us() - 299 * SECOND}})
    look()
    assert firing() == []
    AlertRule.objects.update(holding={**rule.holding, "since": {"": store.database_now_us() - 301 * SECOND}})
    look()
    assert len(firing()) == 1
    rule.refresh_from_db()
    assert rule.holding == {}


def test_what_was_fine_in_between_begins_to_last_anew(alice: Any) -> None:
    rule = lettered(alice, for_s=300)
    look()
    DeadLetter.objects.update(status="discarded")
    look()
    rule.refresh_from_db()
    assert rule.holding == {}


def test_a_changed_rule_counts_anew_how_long_it_lasts(alice: Any) -> None:
    rule = lettered(alice, for_s=300)
    look()
    rule.refresh_from_db()
    AlertRule.objects.update(holding={**rule.holding, "since": {"": store.database_now_us() - 301 * SECOND}})
    rule.for_s = 200
    rules.save(rule, edited=("for_s",))

    look()

    assert firing() == [], "it has not lasted under the rule as it is now"
    rule.refresh_from_db()
    assert rule.holding["since"][""] > store.database_now_us() - 200 * SECOND


def test_a_rule_that_was_off_counts_anew_how_long_it_lasts(alice: Any) -> None:
    lettered(alice, for_s=300)
    look()
    assert AlertRule.objects.get().holding != {}

    AlertRule.objects.update(enabled=False)
    look()

    assert AlertRule.objects.get().holding == {}


def test_what_lasts_since_a_time_to_come_lasts_since_now(alice: Any) -> None:
    """The database's clock went back, which must not put an alert off until it is that late again."""
    rule = lettered(alice, for_s=300)
    look()
    rule.refresh_from_db()
    AlertRule.objects.update(holding={**rule.holding, "since": {"": store.database_now_us() + 3600 * SECOND}})

    look()

    rule.refresh_from_db()
    assert rule.holding["since"][""] <= store.database_now_us()


def test_a_change_of_a_rule_leaves_what_beat_and_others_wrote_meanwhile(alice: Any) -> None:
    lettered(alice, for_s=300)
    edited, switched = AlertRule.objects.get(), AlertRule.objects.get()

    look()
    inbox.silence(AlertRule.objects.get(), timedelta(hours=1))
    since = AlertRule.objects.get().holding["since"]
    edited.name, switched.severity = "renamed", "critical"
    rules.save(edited, edited=("name",))
    rules.save(switched, edited=("severity",))

    rule = AlertRule.objects.get()
    assert since
    assert rule.holding["since"] == since, "it has lasted since then"
    assert rule.silenced_until is not None
    assert (rule.name, rule.severity) == ("renamed", "critical")


def test_a_value_that_swings_is_one_alert(alice: Any, settings: Any) -> None:
    settings.ALERT_SECONDS = 100
    lettered(alice)
    look()
    DeadLetter.objects.update(status="discarded")
    look()
    assert len(firing()) == 1, "once fine is not over yet"
    DeadLetter.objects.update(status="open")
    look()
    assert (len(firing()), Alert.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rule: rules.delete(rule), evaluation.DELETED),
        (lambda rule: AlertRule.objects.update(enabled=False), evaluation.OFF),
        (lambda rule: AlertRule.objects.update(threshold=5), evaluation.CHANGED),
        (lambda rule: rule.owner.__class__.objects.update(is_superuser=False), evaluation.FORBIDDEN),
    ],
    ids=["deleted", "off", "changed", "forbidden"],
)  # fmt: skip
def test_what_a_rule_raised_is_over_when_the_rule_is(
    alice: Any, channel: AlertChannel, change: Callable[[AlertRule], None], reason: str
) -> None:
    rule = lettered(alice, channel)
    look()
    change(rule)
    Evaluator().look()

    alert = Alert.objects.get()
    assert (alert.status, alert.reason) == ("resolved", reason)
    assert events() == [("firing", "waiting"), ("resolved", "waiting")]
    assert reason in AlertMessage.objects.get(event="resolved").content["text"]


def test_a_changed_rule_raises_anew(alice: Any) -> None:
    rule = lettered(alice, threshold=1)
    look()
    DeadLetter.objects.create(kind="message", first_failed_at=timezone.now(), last_failed_at=timezone.now())
    rule.threshold = 2
    rules.save(rule)
    look()
    assert sorted(Alert.objects.values_list("status", "threshold")) == [("firing", 2), ("resolved", 1)]


def test_nobody_is_told_of_a_silenced_rule_until_the_silence_is_over(alice: Any, channel: AlertChannel) -> None:
    lettered(alice, channel, silenced_until=timezone.now() + timedelta(hours=1))
    look()
    assert (len(firing()), events()) == (1, [])

    AlertRule.objects.update(silenced_until=timezone.now() - timedelta(seconds=1))
    look()
    assert events() == [("firing", "waiting")]
    assert Alert.objects.get().told_at is not None

    AlertRule.objects.update(silenced_until=timezone.now() + timedelta(hours=1))
    DeadLetter.objects.all().delete()
    over()
    assert (firing(), events()) == ([], [("firing", "waiting"), ("resolved", "waiting")])


def test_what_begins_and_ends_in_a_silence_is_told_to_nobody(alice: Any, channel: AlertChannel) -> None:
    lettered(alice, channel, silenced_until=timezone.now() + timedelta(hours=1))
    look()
    DeadLetter.objects.all().delete()
    over()
    AlertRule.objects.update(silenced_until=None)
    look()
    assert (firing(), events()) == ([], [])


@pytest.mark.usefixtures("loopback")
def test_who_was_told_before_a_silence_hears_in_it_that_it_is_over(
    alice: Any, mailbox: Mailbox, httpserver: HTTPServer
) -> None:
    came: list[str] = []

    def take(request: Request) -> Response:
        came.append(request.get_json()["event"])
        return Response("taken")

    httpserver.expect_request("/hook", "POST").respond_with_handler(take)
    mail = channels.save(alice, "mail", "email", "ops@example.com")
    hook = channels.save(alice, "hook", "webhook", httpserver.url_for("/hook"))
    rule = rules.save(lettered(alice), [mail, hook])
    look()
    deliver()
    inbox.silence(rule, timedelta(hours=1))
    DeadLetter.objects.all().delete()
    over()
    deliver()

    assert came == ["firing", "resolved"]
    assert [message["Subject"] for message in mailbox.messages] == [
        "[Flow Builder] Warning: a dead_letters", "[Flow Builder] Resolved: a dead_letters",
    ]  # fmt: skip


def test_who_acknowledged_in_the_silence_is_not_told_after_it(alice: Any, channel: AlertChannel) -> None:
    lettered(alice, channel, silenced_until=timezone.now() + timedelta(hours=1))
    look()
    Alert.objects.update(acknowledged_at=timezone.now(), acknowledged_by=alice)
    AlertRule.objects.update(silenced_until=None)
    look()
    assert events() == []


def test_a_channel_that_was_switched_off_meanwhile_is_not_told_that_it_is_over(
    alice: Any, channel: AlertChannel
) -> None:
    lettered(alice, channel)
    look()
    AlertChannel.objects.filter(pk=channel.pk).update(enabled=False)
    DeadLetter.objects.all().delete()
    over()
    assert (firing(), events()) == ([], [("firing", "waiting")])


def test_a_person_gets_so_many_messages_an_hour_and_no_more(alice: Any, settings: Any) -> None:
    settings.ALERT_MESSAGES = 3
    own = [channels.save(alice, f"c{number}", "email", "ops@example.com") for number in range(2)]
    for number in range(2):
        rules.save(lettered(alice, name=f"rule {number}"), own)
    look()
    assert sorted(status for _, status in events()) == ["waiting", "waiting", "waiting", "withheld"]
    error = AlertMessage.objects.get(status="withheld").error
    assert error == "more than 3 messages within an hour (FLOWBUILDER_ALERT_MESSAGES)"

    AlertMessage.objects.update(created_at=timezone.now() - timedelta(minutes=61))
    DeadLetter.objects.all().delete()
    over()
    resolved = AlertMessage.objects.filter(event="resolved")
    assert resolved.count() == 3, "who did not hear that it began does not hear that it is over"
    assert set(resolved.values_list("status", flat=True)) == {"waiting"}


def test_a_workflow_that_goes_takes_its_rule_along_and_leaves_the_alert(alice: Any, workflow: Any) -> None:
    rule_of(alice, "cost", workflow=workflow)
    ended(workflow, "completed", credits=5)
    look()
    workflow.version = workflow.draft = None
    workflow.save()
    workflow.delete()
    assert Evaluator().look() == 0

    alert = Alert.objects.get()
    assert (alert.status, alert.reason, alert.workflow_name) == ("resolved", evaluation.DELETED, "test")


def test_one_rule_that_breaks_does_not_stop_the_others(alice: Any) -> None:
    lettered(alice, name="good")
    AlertRule.objects.bulk_create([AlertRule(id=uuid4(), owner=alice, name="bad", kind="weather", threshold=1)])
    Evaluator().look()
    assert len(firing()) == 1


def test_a_rule_that_looks_far_back_is_looked_at_less_often(alice: Any, settings: Any) -> None:
    settings.ALERT_SECONDS = 0.1
    rule_of(alice, "cost", window_s=7 * 86_400)
    rule_of(alice, "dead_letters", window_s=7 * 86_400)
    evaluator = Evaluator()
    assert evaluator.look() == 2
    assert evaluation.period_s(AlertRule.objects.get(kind="cost")) == pytest.approx(604.8)
    assert evaluation.period_s(AlertRule.objects.get(kind="dead_letters")) == 0.1


def test_a_look_costs_few_queries_however_many_rules_ask_for_the_same(
    alice: Any, workflow: Any, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        rule_of(alice, "cost", threshold=10 + number, name=f"rule {number}")
    with django_assert_max_num_queries(8):
        assert Evaluator().look() == 30


def test_more_rules_than_one_page_are_looked_at_while_others_write(alice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "PAGE", 3)
    for number in range(8):
        lettered(alice, name=f"rule {number}")
    assert Evaluator().look() == 8
    assert len(firing()) == 8
