"""Log lines for programs: one JSON object each, about an execution, a node or a request, without secrets."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import httpx
import pytest

from executions import logs
from executions.triggers import start_execution
from flowbuilder.json_lines import JsonLines
from flowbuilder.stack import free_port
from tests.conftest import graph, node, wait_for, wait_until_ended
from tests.executions import worker_app

NODE_TYPES = worker_app  # importing it registers its node types

EXECUTION = "0f9b7c1e-0000-4000-8000-1234567890ab"


def line_of(message: str, *args: Any, error: Any = None) -> dict[str, Any]:
    """Return the JSON of one record, read back."""
    record = logging.getLogRecordFactory()("a.b", logging.WARNING, __file__, 1, message, args, error)
    text = JsonLines().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def objects(text: str) -> list[dict[str, Any]]:
    """Return the lines that are JSON objects."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.fixture(autouse=True)
def _about_nothing() -> Any:
    logs.forget()
    yield
    logs.forget()


def test_a_line_says_when_who_what_and_about_what() -> None:
    logs.about(execution_id="e")
    logs.about(node_id="n")
    found = line_of("got %s\nof %s", "ä", 2)

    assert found.pop("timestamp").endswith("Z")
    assert found.pop("process") > 0
    assert found == {
        "event": "got ä\nof 2", "level": "warning", "logger": "a.b", "execution_id": "e", "node_id": "n",
    }  # fmt: skip


def test_a_line_that_names_an_execution_is_about_it() -> None:
    assert line_of("execution %s is late", EXECUTION)["execution_id"] == EXECUTION
    assert "execution_id" not in line_of("execution of %s", "x")
    logs.about(execution_id="the one that we work on")
    assert line_of("started by execution %s", EXECUTION)["execution_id"] == "the one that we work on"


def test_an_error_is_in_the_line_and_a_secret_is_not() -> None:
    logs.remember(["s3cret-of-the-json-lines"])
    try:
        raise ValueError("wrong: s3cret-of-the-json-lines")
    except ValueError:
        found = line_of("refused s3cret-of-the-json-lines", error=sys.exc_info())

    assert "ValueError: wrong: ***" in found["exception"]
    assert found["event"] == "refused ***"


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_a_worker_names_execution_and_node_in_what_is_logged_meanwhile(
    processes: Any, alice: Any, make_workflow: Any
) -> None:
    processes.worker("tests.executions.worker_app", FLOWBUILDER_LOG_FORMAT="json", FLOWBUILDER_LOG_LEVEL="INFO")
    logs_twice = graph([node("one", "test_logs"), node("two", "test_logs")])

    execution = wait_until_ended(start_execution(make_workflow(logs_twice), by=alice), 60, processes.logs)

    assert execution.status == "completed", processes.logs()
    found = objects(processes.log(0))
    said = {(line["execution_id"], line["node_id"]) for line in found if line["event"].startswith("said by")}
    assert said == {(str(execution.pk), "one"), (str(execution.pk), "two")}
    tasks = [line for line in found if "Task executions." in line["event"]]
    assert {line["execution_id"] for line in tasks} == {str(execution.pk)}
    assert {word for line in tasks for word in ("received", "succeeded") if word in line["event"]} == {
        "received",
        "succeeded",
    }
    assert {"timestamp", "level", "logger", "event", "process"} <= set.intersection(*map(set, found))
    assert " INFO " not in processes.log(0)


@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_an_answer_carries_the_id_that_its_lines_name(processes: Any) -> None:
    port = free_port()
    processes.start(
        "-m", "uvicorn", "flowbuilder.asgi:application", "--port", str(port), FLOWBUILDER_LOG_FORMAT="json",
        FLOWBUILDER_LOG_LEVEL="INFO",
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}/healthz"

    def get(given: str) -> str | None:
        try:
            return httpx.get(address, headers={"X-Request-ID": given}, timeout=10).headers["x-request-id"]
        except httpx.TransportError:
            return None

    made = wait_for(lambda: get("not a plain word"), 60, "the web server", processes.logs)
    assert len(made) == 32
    assert get("of-the-proxy.1") == "of-the-proxy.1"
    assert len(get("x" * 65) or "") == 32

    def asked() -> list[str]:
        return [line["request_id"] for line in objects(processes.log(0)) if "GET /healthz" in line["event"]]

    wait_for(lambda: len(asked()) == 3, 20, "the lines of three requests", processes.logs)
    assert asked()[:2] == [made, "of-the-proxy.1"]
