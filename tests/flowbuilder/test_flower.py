"""What Flower needs of our workers: an answer to its broadcast, and the events that it asks for."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from executions.triggers import start_execution
from flowbuilder.celery import app
from tests.conftest import graph, node, wait_for, wait_until_ended


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
