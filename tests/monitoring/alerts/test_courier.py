"""Messages on their way: tried again, in order, by one process at a time, and nobody waits for a slow one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from celery import current_app
from django.utils import timezone
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from executions.models import DeadLetter, Execution, LostWorker, NodeRun, WorkerLease
from executions.store import database_now_us
from executions.triggers import start_execution
from monitoring.alerts import channels, delivery, outbox, rules
from monitoring.alerts.courier import Courier
from monitoring.models import Alert, AlertChannel, AlertMessage, AlertRule, Total
from tests.conftest import flush_redis, graph, node, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("loopback"), pytest.mark.postgres]


@pytest.fixture
def courier() -> Iterator[Courier]:
    """Return a courier; nothing of it is on its way after the test."""
    found = Courier()
    yield found
    wait_for(lambda: not found.away, 60, "the end of what is on its way")


def alert_of(owner: Any, *told: AlertChannel, number: int = 0) -> Alert:
    now = timezone.now()
    alert: Alert = Alert.objects.create(
        owner=owner, rule_name=f"rule {number}", kind="cost", severity="info", condition="", value=2, threshold=1,
        message="too much", opened_at=now, last_seen_at=now, told_at=now,
    )  # fmt: skip
    outbox.write(alert, "firing", told, database_now_us())
    return alert


def states(**wanted: Any) -> list[str]:
    return sorted(AlertMessage.objects.filter(**wanted).values_list("status", flat=True))


def send_all(courier: Courier) -> None:
    """Send until nothing is due any more."""

    def idle() -> bool:
        away = courier.away  # what ends after this look may have let another one become due
        return not courier.send_due() and not away

    wait_for(idle, 60, "the end of what is due")


def test_a_message_that_is_not_taken_is_tried_again_and_later_each_time(
    alice: Any, httpserver: HTTPServer, courier: Courier
) -> None:
    httpserver.expect_request("/hook").respond_with_data(status=503)
    alert_of(alice, channels.save(alice, "ops", "webhook", httpserver.url_for("/hook")))
    pauses = []
    for attempt in range(1, outbox.MOST_ATTEMPTS + 1):
        AlertMessage.objects.update(next_at=0)
        began = database_now_us()
        send_all(courier)
        message = AlertMessage.objects.get()
        assert (message.attempts, len(httpserver.log)) == (attempt, attempt)
        pauses.append(round((message.next_at - began) / 1_000_000, -1))
    assert pauses[:5] == [10, 30, 90, 270, 810]
    assert pauses[6] == outbox.LONGEST_PAUSE_S
    assert (message.status, message.error) == ("failed", "localhost answered 503")
    assert len({request.headers["Idempotency-Key"] for request, _ in httpserver.log}) == 1


def test_what_cannot_arrive_is_not_tried_again(alice: Any, httpserver: HTTPServer, courier: Courier) -> None:
    httpserver.expect_request("/gone").respond_with_data(status=410)
    gone = channels.save(alice, "gone", "webhook", httpserver.url_for("/gone"))
    off = channels.save(alice, "off", "webhook", httpserver.url_for("/off"))
    deleted = channels.save(alice, "deleted", "webhook", httpserver.url_for("/deleted"))
    alert_of(alice, gone, off, deleted)
    AlertChannel.objects.filter(pk=off.pk).update(enabled=False)
    channels.delete(deleted)
    send_all(courier)

    assert dict(AlertMessage.objects.values_list("channel_name", "error")) == {
        "gone": "localhost answered 410", "off": "its channel is switched off", "deleted": "its channel was deleted",
    }  # fmt: skip
    assert states() == ["failed"] * 3
    assert len(httpserver.log) == 1


def test_a_server_that_never_ends_delays_nobody_else(
    alice: Any, bob: Any, httpserver: HTTPServer, endless: Any, courier: Courier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "SECONDS", 3.0)
    monkeypatch.setattr(outbox, "PAGE", 20)
    port = endless(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    httpserver.expect_request("/hook").respond_with_data("ok")
    slow = [channels.save(bob, f"slow {n}", "webhook", f"http://127.0.0.1:{port}/") for n in range(40)]
    for number in range(2):
        alert_of(bob, *slow, number=number)
    good = channels.save(alice, "good", "webhook", httpserver.url_for("/hook"))
    alert_of(alice, good)
    arrived = AlertMessage.objects.filter(channel=good, status="sent")

    most = 0

    def taken() -> bool:
        nonlocal most
        courier.send_due()
        most = max(most, courier.away)
        return arrived.exists()

    wait_for(taken, 30, "the message to the good server")
    assert most <= 3, "two of one person, and one of the other"


def test_that_it_is_over_is_said_after_that_it_began(alice: Any, httpserver: HTTPServer, courier: Courier) -> None:
    httpserver.expect_ordered_request("/hook").respond_with_data(status=500)
    channel = channels.save(alice, "ops", "webhook", httpserver.url_for("/hook"))
    alert = alert_of(alice, channel)
    send_all(courier)
    outbox.write(alert, "resolved", [channel], database_now_us())
    send_all(courier)
    assert states(event="resolved", attempts=0) == ["waiting"]

    httpserver.clear()
    httpserver.expect_request("/hook").respond_with_data("ok")
    AlertMessage.objects.update(next_at=0)
    send_all(courier)
    said = [request.get_json()["event"] for request, _ in httpserver.log]
    assert (said, states()) == (["firing", "resolved"], ["sent", "sent"])


def test_two_couriers_send_a_message_once(alice: Any, httpserver: HTTPServer, courier: Courier) -> None:
    httpserver.expect_request("/hook").respond_with_data("ok")
    for number in range(20):
        alert_of(alice, channels.save(alice, f"c{number}", "webhook", httpserver.url_for("/hook")), number=number)
    other = Courier()
    wait_for(lambda: not courier.send_due() + other.send_due() + courier.away + other.away, 60, "the end")

    keys = [request.headers["Idempotency-Key"] for request, _ in httpserver.log]
    assert (len(keys), len(set(keys)), states()) == (20, 20, ["sent"] * 20)


def test_what_a_process_took_along_into_its_death_is_sent_by_another(
    alice: Any, httpserver: HTTPServer, courier: Courier
) -> None:
    httpserver.expect_request("/hook").respond_with_data("ok")
    alert_of(alice, channels.save(alice, "ops", "webhook", httpserver.url_for("/hook")))
    dead = outbox.claim(AlertMessage.objects.get().pk)
    send_all(courier)
    assert (states(), httpserver.log) == (["waiting"], [])

    AlertMessage.objects.update(claimed_until=database_now_us())
    send_all(courier)
    assert (states(), len(httpserver.log)) == (["sent"], 1)
    assert dead is not None
    outbox.missed(dead, "it lives after all", final=True)
    assert AlertMessage.objects.get().error == "", "the late one has no say any more"


def test_who_comes_back_late_has_no_say_about_a_message_that_waits_again(
    alice: Any, httpserver: HTTPServer, courier: Courier
) -> None:
    httpserver.expect_request("/hook").respond_with_data(status=503)
    alert_of(alice, channels.save(alice, "ops", "webhook", httpserver.url_for("/hook")))
    late = outbox.claim(AlertMessage.objects.get().pk)
    assert late is not None
    AlertMessage.objects.update(claimed_until=database_now_us())
    send_all(courier)
    assert (states(), len(httpserver.log)) == (["waiting"], 1)

    outbox.missed(late, "it was all in vain", final=True)
    outbox.arrived(late)

    assert states() == ["waiting"]


def test_the_budget_counts_what_was_sent_within_an_hour_and_not_what_was_withheld(alice: Any, settings: Any) -> None:
    settings.ALERT_MESSAGES = 3
    told = [channels.save(alice, f"c{number}", "email", "ops@example.com") for number in range(3)]
    for number in range(2):
        alert_of(alice, *told[:2], number=number)
    assert states() == ["waiting", "waiting", "waiting", "withheld"]

    AlertMessage.objects.exclude(status="withheld").update(created_at=timezone.now() - timedelta(minutes=61))
    alert_of(alice, *told, number=2)

    assert states(alert__rule_name="rule 2") == ["waiting"] * 3


def test_writing_twice_writes_once(alice: Any) -> None:
    channel = channels.save(alice, "ops", "email", "ops@example.com")
    alert = alert_of(alice, channel)
    outbox.write(alert, "firing", [channel], database_now_us())
    assert AlertMessage.objects.count() == 1


# ---------------------------------------------------------------------- the whole way, in a real beat


class Sink:
    """What a real web server was sent."""

    def __init__(self, server: HTTPServer) -> None:
        self.bodies: list[Any] = []
        self._lock = threading.Lock()
        server.expect_request("/hook", "POST").respond_with_handler(self._take)

    def _take(self, request: Request) -> Response:
        with self._lock:
            self.bodies.append(request.get_json())
        return Response("taken")

    def said(self, rule: AlertRule) -> list[str]:
        with self._lock:
            return [body["event"] for body in self.bodies if body["alert"]["rule_id"] == str(rule.pk)]


@pytest.fixture
def beat(processes: Any, settings: Any, mailbox: Any) -> Callable[..., Any]:
    """Return a starter of a real beat that looks at rules all the time and may reach the sinks."""
    port = settings.MAIL_SERVER["port"]
    return partial(
        processes.beat, FLOWBUILDER_ALERT_SECONDS="0.2", FLOWBUILDER_EGRESS_ALLOW="127.0.0.1,localhost",
        FLOWBUILDER_MAIL_URL=f"smtp://127.0.0.1:{port}?security=none",
    )  # fmt: skip


def rule_of(owner: Any, kind: str, told: list[AlertChannel], **fields: Any) -> AlertRule:
    return rules.save(AlertRule(owner=owner, name=kind, kind=kind, **{"threshold": 1, **fields}), told)


def make_everything_too_much(owner: Any, workflow: Any) -> None:
    """Let a rule of each kind find too much; whose worker is alive for an hour, and busy."""
    now, moment = database_now_us(), timezone.now()
    hour = now + 3_600_000_000
    Total.objects.create(
        minute=now // 60_000_000, workflow_id=workflow.pk, owner_id=owner.pk, status="failed", up_to_ms=10, runs=5,
        children=0, credits=50, duration_ms=10,
    )  # fmt: skip
    current_app.send_task("nobody", queue="browser")
    WorkerLease.objects.create(
        boot="b" * 32, hostname="h", pid=1, queues="default", slots=1, started_at=moment, beat_at=hour
    )
    late = start_execution(workflow, by=owner, trigger="scheduled", scheduled_for=moment - timedelta(seconds=500))
    Execution.objects.filter(pk=late.pk).update(status="running", started_at=moment)
    NodeRun.objects.create(
        execution=late, phase_index=0, node_index=0, node_id="a", node_type="delay", status="running", claim="c" * 32,
        worker="b" * 32, lease_until=hour,
    )  # fmt: skip
    DeadLetter.objects.create(kind="message", first_failed_at=moment, last_failed_at=moment)
    LostWorker.objects.create(boot="l" * 32, hostname="h", pid=2, lost_at=now)


def make_everything_fine() -> None:
    """Take all of that back."""
    Total.objects.all().delete()
    flush_redis()
    NodeRun.objects.all().delete()
    Execution.objects.update(status="completed", queued_at=timezone.now() - timedelta(days=1))
    DeadLetter.objects.update(status=DeadLetter.DISCARDED)
    LostWorker.objects.all().delete()


@pytest.mark.redis
@pytest.mark.row("S2-46")
@pytest.mark.row("S2-47")
@pytest.mark.row("S2-48")
@pytest.mark.row("S2-49")
@pytest.mark.row("S2-58")
def test_two_beats_tell_each_kind_by_mail_and_webhook_once_that_it_began_and_once_that_it_is_over(
    processes: Any, beat: Callable[..., Any], alice: Any, make_workflow: Any, httpserver: HTTPServer, mailbox: Any
) -> None:
    sink = Sink(httpserver)
    told = [
        channels.save(alice, "hook", "webhook", httpserver.url_for("/hook")),
        channels.save(alice, "mail", "email", "ops@example.com"),
    ]
    wanted: dict[str, dict[str, Any]] = {
        "failure_rate": {"threshold": 50}, "cost": {"threshold": 50}, "schedule_lag": {"threshold": 400},
        "queue_backlog": {"subject": "browser"}, "resource_exhaustion": {"subject": "slots", "threshold": 90},
        "dead_letters": {"everyone": True}, "worker_lost": {},
    }  # fmt: skip
    every = [rule_of(alice, kind, told, **fields) for kind, fields in wanted.items()]
    make_everything_too_much(alice, make_workflow(graph([node("a", "delay", Duration=0)])))
    for _ in range(2):
        beat(FLOWBUILDER_RECONCILE_OFF="requeue_dead,forget_dead_workers,advance_closed,resend_starts")

    def all_said(*events: str) -> bool:
        return len(mailbox.envelopes) == 7 * len(events) and all(sink.said(rule) == [*events] for rule in every)

    wait_for(lambda: all_said("firing"), 90, "the messages that it began", processes.logs)
    seen = Alert.objects.order_by("last_seen_at")[0].last_seen_at
    later = Alert.objects.filter(last_seen_at__gt=seen + timedelta(seconds=1))
    wait_for(lambda: later.count() == 7, 60, "more looks", processes.logs)
    assert (all_said("firing"), Alert.objects.count()) == (True, 7)

    make_everything_fine()
    wait_for(lambda: all_said("firing", "resolved"), 90, "the messages that it is over", processes.logs)
    subjects = sorted(mail["Subject"] for mail in mailbox.messages)
    assert subjects == sorted(f"[Flow Builder] {word}: {kind}" for kind in wanted for word in ("Warning", "Resolved"))
    wait_for(lambda: states() == ["sent"] * 28, 30, "the notes that they arrived", processes.logs)
    assert set(Alert.objects.values_list("status", flat=True)) == {"resolved"}


@pytest.mark.redis
@pytest.mark.worker
def test_a_worker_that_is_killed_and_replaced_at_once_is_told(
    processes: Any, beat: Callable[..., Any], alice: Any, httpserver: HTTPServer
) -> None:
    sink = Sink(httpserver)
    rule = rule_of(alice, "worker_lost", [channels.save(alice, "hook", "webhook", httpserver.url_for("/hook"))])
    doomed = processes.worker()
    beat()
    doomed.kill()
    doomed.wait()
    processes.worker()

    wait_for(lambda: sink.said(rule), 60, "the message", processes.logs)
    (body,) = sink.bodies
    assert f"(process {doomed.pid})" in body["text"]
    LostWorker.objects.update(lost_at=0)
    wait_for(lambda: sink.said(rule) == ["firing", "resolved"], 60, "the end", processes.logs)
