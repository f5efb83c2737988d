"""Redis that dies, forgets, is away or is full: the database knows everything, so nothing is lost."""

from __future__ import annotations

import random
import time

import httpx
import pytest
import redis
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions import states
from executions.broker import broker as messages
from executions.models import Execution, WorkerLease
from executions.store import now_us
from flowbuilder.stack import free_port
from monitoring.health import REDIS_FULL, REDIS_SILENT
from tests.chaos.invariants import Accepted, one_execution_per_trigger
from tests.conftest import wait_for
from tests.faults.conftest import check_invariants, recovered, redis_client, since
from tests.monitoring.conftest import login_cookie

pytestmark = [pytest.mark.worker, pytest.mark.redis]

PERSISTENT = ("--appendonly", "yes", "--appendfsync", "always")
SEED = 20260
TOKEN = "t" * 32


def die(stack, broker, seconds, options=()):
    """Kill Redis and start it again ``seconds`` later."""
    broker.kill()
    time.sleep(seconds)
    broker.start(*options)


def rounds_of_restarts(stack, broker, rounds, seed):
    """Kill and restart a persistent Redis at random points of running executions."""
    dice = random.Random(seed)
    print(f"seed {seed}")
    broker.kill()
    broker.start(*PERSISTENT)
    workflow = stack.workflow(seconds=0.3)
    stack.beat()
    stack.worker(wait=False)
    stack.worker()
    for number in range(rounds):
        executions = [stack.start(workflow) for _ in range(3)]
        time.sleep(dice.uniform(0, 1.2))
        die(stack, broker, 2 if number % 5 == 0 else 0.5, PERSISTENT)
        open_ones = Execution.objects.exclude(status="completed").exists()
        back = time.monotonic()
        stack.wait_ended(executions, 40)
        if open_ones:
            recovered(f"15 Redis with AOF killed, round {number}", since(back), 10)
    check_invariants(stack)


def test_fault_15_a_persistent_redis_killed_at_random_points_costs_nothing(stack, broker):
    rounds_of_restarts(stack, broker, 3, SEED)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fault_15_fifty_rounds(stack, broker):
    rounds_of_restarts(stack, broker, 50, SEED + 1)


def forgets(stack, broker, seconds):
    """Kill a Redis that keeps nothing while executions run, and start it empty ``seconds`` later."""
    workflow = stack.workflow(seconds=0.5)
    stack.beat()
    stack.worker(wait=False)
    stack.worker()
    executions = [stack.start(workflow) for _ in range(4)]
    with stack.held_at("before-commit") as reached:
        reached()
        broker.kill()
    executions.append(stack.start(workflow))  # accepted meanwhile
    time.sleep(seconds)
    broker.start()
    back = time.monotonic()
    stack.wait_ended(executions, 60)
    recovered(f"16 Redis without persistence away for {seconds} s", since(back))


def test_fault_16_and_17_a_redis_that_forgets_everything_or_a_part_costs_nothing(stack, broker):
    forgets(stack, broker, 2)
    for what, forget in FORGETTING.items():
        executions = [stack.start(stack.workflow(f"{what} {number}", seconds=0.5)) for number in range(8)]
        with stack.held_at("in-node") as reached:
            reached()
            with redis_client() as client:
                assert forget(client), f"there was nothing to forget by {what}"
        gone = time.monotonic()
        stack.wait_ended(executions, 60)
        recovered(f"17 {what}", since(gone))
    check_invariants(stack)


def delete(client, pattern):
    names = list(client.scan_iter(pattern))
    return client.delete(*names) if names else 0


FORGETTING = {
    "FLUSHALL mid-phase": lambda client: client.flushall(),
    "DEL of unacked": lambda client: delete(client, "*unacked*"),
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fault_16_a_redis_that_forgets_everything_for_a_minute(stack, broker):
    forgets(stack, broker, 60)
    check_invariants(stack)


def test_fault_17_a_deleted_queue_costs_nothing(stack, broker):
    workflow = stack.workflow()
    executions = [stack.start(workflow) for _ in range(3)]
    with redis_client() as client:
        assert delete(client, "flowbuilder:control*")
    stack.beat()
    stack.worker()
    up = time.monotonic()
    stack.wait_ended(executions, 30)
    recovered("17 DEL of a queue", since(up))
    check_invariants(stack)


class Web:
    """A real web process and a person who is logged in to it."""

    def __init__(self, stack, **env):
        self.port = free_port()
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Cookie": f"{login_cookie('alice')}; csrftoken={TOKEN}", "X-CSRFToken": TOKEN},
            timeout=30,
        )
        arguments = ("--port", str(self.port), "--log-level", "warning", "tests.faults.asgi:application")
        stack.processes.start(
            "-m", "uvicorn", *arguments, **{**stack.env, "DJANGO_SETTINGS_MODULE": "flowbuilder.settings", **env}
        )
        wait_for(self._answers, 40, "the web process", stack.logs)

    def _answers(self):
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def start(self, workflow, key):
        """Start an execution as a browser does; returns its id."""
        answer = self.client.post(
            "/api/v1/executions", json={"workflow_id": str(workflow.pk)}, headers={"Idempotency-Key": key}
        )
        assert answer.status_code == 202, answer.text
        return answer.json()["execution_id"]

    def pages(self):
        """See that the pages that people look at come, each within three seconds."""
        for path in ("/admin/", "/admin/monitoring/", "/admin/executions/execution/", "/api/v1/executions", "/healthz"):
            begun = time.monotonic()
            answer = self.client.get(path)
            assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:2000]}"
            assert since(begun) < 3, f"{path} took {since(begun):.1f} s"

    def says(self, what):
        """Return whether a page of the admin says ``what`` at its top."""
        return what in self.client.get("/admin/executions/execution/").text


@pytest.fixture
def web(stack, alice):
    found = Web(stack)
    yield found
    found.client.close()


def works_without_redis(stack, web, what, trouble, seconds, take_away, give_back):
    """Start executions by the web while Redis is of no use: they are accepted, pages come, and all end afterwards.

    Pages say what the ``trouble`` is, until it is over.
    """
    workflow = stack.workflow(seconds=0.3)
    stack.beat()
    stack.worker(wait=False)
    stack.worker()
    executions = [Execution.objects.get(pk=web.start(workflow, "before"))]
    take_away()
    gone = time.monotonic()
    number = 0
    while number == 0 or since(gone) < seconds:
        begun = time.monotonic()
        executions.append(Execution.objects.get(pk=web.start(workflow, f"meanwhile {number}")))
        assert since(begun) < 3, f"accepting a trigger took {since(begun):.1f} s"
        web.pages()
        number += 1
        time.sleep(min(1.0, seconds / 10))
    ready = web.client.get("/readyz")
    wait_for(lambda: web.says(trouble.what), 5, "the words at the top of a page", stack.logs)
    give_back()
    back = time.monotonic()
    kept = Execution.objects.filter(pk__in=[execution.pk for execution in executions[1:]])
    wait_for(kept.filter(status__in=states.TERMINAL).exists, 60, "the first one that was accepted", stack.logs)
    recovered(what, since(back))
    stack.wait_ended(executions, 60)  # after a long time there are hundreds, and they fill every slot
    wait_for(lambda: web.client.get("/readyz").status_code == 200, 10, "a ready web", stack.logs)
    wait_for(lambda: not web.says("adm-troubles"), 10, "a page without them", stack.logs)
    assert [worker.poll() for worker in stack.workers] == [None, None], stack.logs()
    accepted = [Accepted(f"meanwhile {n}", execution_id=executions[n + 1].pk) for n in range(number)]
    assert not list(one_execution_per_trigger(accepted))
    check_invariants(stack)
    return ready


def test_fault_18_without_redis_triggers_are_accepted_and_pages_come(stack, broker, web):
    ready = works_without_redis(stack, web, "18 Redis away for 8 s", REDIS_SILENT, 8, broker.kill, broker.start)

    assert ready.status_code == 503
    assert not ready.json()["checks"]["redis"]["ok"]


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_fault_18_without_redis_for_five_minutes(stack, broker, web):
    works_without_redis(stack, web, "18 Redis away for 5 min", REDIS_SILENT, 300, broker.kill, broker.start)


def test_a_beat_that_is_started_without_redis_does_its_work_and_sends_once_it_is_back(stack, broker):
    broker.kill()
    beat = stack.beat()
    begun = wait_for(beats(beat), 60, "the first tick of beat", stack.logs)
    wait_for(lambda: beats(beat)() > begun, 60, "another tick of beat, without Redis", stack.logs)
    execution = stack.start(stack.single())  # its message cannot be sent, so beat sends it

    broker.start()
    stack.worker()

    stack.wait_ended([execution], 60)
    assert beat.poll() is None, stack.logs()
    check_invariants(stack)


def test_who_looks_for_lost_messages_does_not_wait_for_a_redis_that_is_away(stack, broker):
    """Beat looks several times a tick, and starts nothing meanwhile."""
    broker.kill()

    begun = time.monotonic()
    assert messages.lost_before("control") <= now_us()

    assert since(begun) < 5


def beats(beat):
    """Return what says when the process ``beat`` was last alive, 0 before the first time."""
    return lambda: WorkerLease.objects.filter(pid=beat.pid).values_list("beat_at", flat=True).first() or 0


def test_a_beat_that_waits_for_redis_ends_when_it_is_told_to(stack, broker):
    every, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
    PeriodicTask.objects.create(name="Sent", task="recordings.seal", interval=every)
    broker.kill()
    beat = stack.beat()
    wait_for(lambda: "Sending due task Sent" in stack.processes.log(0), 60, "beat to wait for Redis", stack.logs)

    told = time.monotonic()
    beat.terminate()
    beat.wait(timeout=12)

    assert since(told) < 2.5, stack.logs()
    assert beat.returncode == 0, stack.logs()


def test_fault_19_with_a_full_redis_triggers_are_accepted_and_pages_come(stack, broker, web):
    def fill():
        with redis_client() as client:
            client.set("ballast", b"x" * 4_000_000)
            client.config_set("maxmemory", 2_000_000)
            client.config_set("maxmemory-policy", "noeviction")
            with pytest.raises(redis.ResponseError, match="maxmemory"):
                client.set("more", b"x")

    def drain():
        with redis_client() as client:
            client.config_set("maxmemory", 0)
            client.delete("ballast")

    ready = works_without_redis(stack, web, "19 Redis full for 8 s", REDIS_FULL, 8, fill, drain)

    assert ready.status_code == 503
    assert "full" in ready.json()["checks"]["redis"]["detail"]
