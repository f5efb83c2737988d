"""What Flower needs of our workers: an answer to its broadcast, and the events that it asks for; and what it must not get."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery
from cryptography.fernet import Fernet

from executions.triggers import start_execution
from flowbuilder.celery import app
from flowbuilder.stack import free_port
from tests.conftest import graph, node, wait_for, wait_until_ended
from tests.environment import RedisServer


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_a_worker_tells_of_its_tasks_once_it_was_asked(processes: Any, alice: Any, make_workflow: Any) -> None:
    workflow = make_workflow(graph([node("a", "delay", Duration=0)]))
    processes.worker()
    wait_for(lambda: app.control.ping(timeout=2), 60, "the answer of the worker", processes.logs)
    found: list[dict[str, Any]] = []

    def told(execution: Any) -> list[str]:
        mine = {event["uuid"] for event in found if str(execution.pk) in str(event.get("kwargs"))}
        return [event["type"] for event in found if event.get("uuid") in mine]

    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": found.append})
        listening = threading.Thread(target=receiver.capture, kwargs={"wakeup": False})
        listening.start()
        try:
            wait_for(lambda: found, 60, "a sign of life of the worker", processes.logs)
            quiet = wait_until_ended(start_execution(workflow, by=alice), 60, processes.logs)
            assert app.control.enable_events(reply=True, timeout=10)
            execution = wait_until_ended(start_execution(workflow, by=alice), 60, processes.logs)
            wait_for(lambda: "task-succeeded" in told(execution), 60, "the events", processes.logs)
        finally:
            receiver.should_stop = True
            listening.join(30)

    assert told(execution) == ["task-received", "task-started", "task-succeeded"]
    assert told(quiet) == []


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_flower_itself_shows_the_worker_and_the_task_of_an_execution(
    processes: Any, alice: Any, make_workflow: Any
) -> None:
    workflow, port, word = make_workflow(graph([node("a", "delay", Duration=0)])), free_port(), secrets.token_hex(8)
    ran: list[str] = []
    processes.worker()
    (name,) = wait_for(lambda: app.control.inspect(timeout=2).ping(), 60, "the answer of the worker", processes.logs)
    where = ("--address=127.0.0.1", f"--port={port}", f"--basic-auth=ops:{word}")
    processes.start("-m", "celery", "-A", "flowbuilder", "flower", *where)

    def ask(path: str) -> Any:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/api/{path}", auth=("ops", word), timeout=20)
        except httpx.TransportError:
            return {}
        return answer.json() if answer.status_code == 200 else {}

    def shown() -> list[Any]:
        """Run once more, since workers tell of what they begin after Flower asked them, and return what it shows."""
        ran.append(str(wait_until_ended(start_execution(workflow, by=alice), 60, processes.logs).pk))
        return [
            task
            for task in ask("tasks").values()
            if task["state"] == "SUCCESS" and any(key in f"{task['args']} {task['kwargs']}" for key in ran)
        ]

    wait_for(lambda: ask("workers?refresh=1").get(name), 60, "the worker in Flower", processes.logs)
    (task, *_) = wait_for(shown, 60, "a task in Flower", processes.logs)

    assert task["worker"] == name
    assert task["name"].startswith("executions.")
    assert "default" in {queue["name"] for queue in ask("workers")[name]["active_queues"]}
    assert httpx.get(f"http://127.0.0.1:{port}/api/workers", timeout=20).status_code == 401


class Locked:
    """A Redis with a password, and the environment of an installation that has a secret wherever one can be."""

    def __init__(self, folder: Path) -> None:
        self.words = {
            name: f"Canary{secrets.token_hex(8)}" for name in ("redis", "mail", "key", "metrics", "browser", "var")
        }
        self.fernet = Fernet.generate_key().decode()
        port = free_port()
        self.server = RedisServer(folder / "redis.sock")
        self.server.start("--port", str(port), "--requirepass", self.words["redis"])
        self.url = f"redis://:{self.words['redis']}@127.0.0.1:{port}/0"
        self.env = {
            "REDIS_URL": self.url,
            "FLOWBUILDER_MAIL_URL": f"smtps://ops:{self.words['mail']}@mail.example.com",
            "FLOWBUILDER_SECRET_KEY": self.words["key"] * 3,
            "FLOWBUILDER_CREDENTIAL_KEYS": self.fernet,
            "FLOWBUILDER_METRICS_TOKEN": self.words["metrics"],
            "FLOWBUILDER_REMOTE_BROWSER": f"wss://ops:{self.words['browser']}@browser.example.com",
            "FLOWBUILDER_VARS": json.dumps({"shop": self.words["var"]}),
            "FLOWBUILDER_LOG_LEVEL": "DEBUG",
            "FLOWBUILDER_LOG_FORMAT": "json",
        }

    def shown_in(self, text: str) -> list[str]:
        """Return the names of the secrets that ``text`` shows."""
        return [name for name, word in {**self.words, "fernet": self.fernet}.items() if word in text]


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Locked]:
    """Return an installation full of secrets that serves nothing else."""
    found = Locked(tmp_path)
    yield found
    found.server.kill()


@pytest.mark.worker
@pytest.mark.redis
def test_whoever_asks_the_processes_or_reads_their_lines_learns_no_secret(processes: Any, locked: Locked) -> None:
    port = free_port()
    headers = {"Authorization": f"Bearer {locked.words['metrics']}"}

    def ask(path: str) -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=20).text
        except httpx.TransportError:
            return ""

    processes.beat(**locked.env)
    processes.start("-m", "uvicorn", "flowbuilder.asgi:application", "--port", str(port), **locked.env)
    worker = processes.worker(**locked.env)
    with Celery(broker=locked.url, set_as_current=False) as other:
        other.conf.broker_transport_options = app.conf.broker_transport_options
        inspect = other.control.inspect(timeout=20, limit=1)
        wait_for(inspect.ping, 60, "the answer of the worker", processes.logs)
        told: list[Any] = [inspect.conf(with_defaults=True), inspect.report(), inspect.stats(), inspect.active_queues()]
    wait_for(lambda: "flowbuilder_redis_up 1" in ask("/metrics"), 60, "the web process", processes.logs)
    locked.server.kill()
    wait_for(lambda: "flowbuilder_redis_up 0" in ask("/metrics"), 60, "the loss of Redis", processes.logs)
    wait_for(lambda: "Cannot connect to redis" in processes.log(2), 60, "the worker's loss of Redis", processes.logs)

    assert all(told)
    assert next(iter(told[0].values()))["broker_url"] == locked.url.replace(locked.words["redis"], "*" * 8)
    assert locked.shown_in(locked.url) == ["redis"], "a secret would be found"
    assert locked.shown_in(repr(told)) == []
    assert locked.shown_in(ask("/metrics") + ask("/readyz")) == []
    assert locked.shown_in("".join(map(processes.log, range(3)))) == []
    assert locked.shown_in(Path(f"/proc/{worker.pid}/cmdline").read_text()) == []
