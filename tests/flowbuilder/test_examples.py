"""The examples that need neither Chromium nor another person, each executed on a real stack."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from flowbuilder.demo.site import PRODUCTS
from flowbuilder.stack import running_stack
from tests.flowbuilder.conftest import ROOT, Up, get

pytestmark = [pytest.mark.redis, pytest.mark.worker]

EXAMPLES = ROOT / "flowbuilder" / "demo" / "workflows"
INPUTS = {
    "demo-poll": {}, "demo-merge": {"first": "Grace", "net": 12}, "demo-batch": {}, "demo-deadline": {"seconds": 1},
    "demo-fan-out": {}, "demo-alert": {"level": "critical"},
}  # fmt: skip
ENDED = ("completed", "completed_with_errors", "failed", "cancelled")
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def runs(up: Up) -> dict[str, dict[str, Any]]:
    """Start every example at once by the API and return each as it is when it has ended."""
    made = up.manage("tokens", "create", "--user", "admin", "--name", "examples", "--json")
    assert made.returncode == 0, made.stderr
    headers = {"Authorization": f"Bearer {json.loads(made.stdout)['token']}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{up.port}/api/v1", headers=headers, timeout=30) as api:
        rows = api.get("/workflows", params={"limit": 100}).json()["items"]
        known = {row["name"]: row["id"] for row in rows}
        started = {
            name: api.post("/executions", json={"workflow_id": known[name], "input": value}).json()["execution_id"]
            for name, value in INPUTS.items()
        }
        end = time.monotonic() + PATIENCE_SECONDS
        found: dict[str, dict[str, Any]] = {}
        while len(found) < len(started):
            assert time.monotonic() < end, f"only {sorted(found)} ended"
            for name in started.keys() - found.keys():
                execution = api.get(f"/executions/{started[name]}").json()
                if execution["status"] in ENDED:
                    found[name] = execution | {"outputs": _outputs(api, started[name])}
            time.sleep(0.1)
    return found


def _outputs(api: httpx.Client, execution_id: str) -> dict[str, Any]:
    nodes = api.get(f"/executions/{execution_id}/nodes", params={"limit": 100}).json()["items"]
    done = [node["node_id"] for node in nodes if node["status"] == "completed"]
    return {node: api.get(f"/executions/{execution_id}/nodes/{node}").json()["outputs"] for node in done}


def deliveries(up: Up, execution_id: str) -> list[Any]:
    """Return what the webhook of the demo site got from an execution."""
    stack = running_stack(up.data_dir)
    assert stack is not None
    _, body = get(int(stack.demo_url.rpartition(":")[2]), f"/sink?execution={execution_id}")
    return [entry["body"] for entry in json.loads(body)]


@pytest.mark.row("S2-54")
def test_there_are_eleven_examples_with_names_and_descriptions() -> None:
    files = sorted(EXAMPLES.glob("*.json"))

    described = [json.loads(file.read_text()) for file in files]
    assert len(files) == 11
    assert [data["name"] for data in described] == [file.stem for file in files]
    assert min(len(data["description"]) for data in described) > 60
    assert all(node["data"].get("label") for data in described for node in data["nodes"])


@pytest.mark.row("S2-54")
def test_every_example_is_executed_by_some_test() -> None:
    tests = "".join(Path(__file__).with_name(name).read_text() for name in ("test_demo.py", "test_examples.py"))

    assert [
        file.stem for file in EXAMPLES.glob("*.json") if f'"{file.stem}"' not in tests and file.stem not in RUN_BY
    ] == []


RUN_BY = {"demo-prices": "demo-order runs it"}


@pytest.mark.row("S2-54")
def test_each_example_completes(runs: dict[str, dict[str, Any]]) -> None:
    assert {name: (run["status"], run["error"]) for name, run in runs.items()} == dict.fromkeys(
        INPUTS, ("completed", None)
    )


def test_what_was_polled_is_delivered_once(up: Up, runs: dict[str, dict[str, Any]]) -> None:
    assert deliveries(up, runs["demo-poll"]["id"]) == [{"cheapest": PRODUCTS[0]["name"]}]


def test_two_objects_become_one(runs: dict[str, dict[str, Any]]) -> None:
    assert runs["demo-merge"]["outputs"]["total"]["Result"] == {
        "number": "A-100", "net": 12, "customer": "Grace", "family": "Lovelace", "price": {"currency": "EUR"},
    }  # fmt: skip


def test_batches_keep_their_order(runs: dict[str, dict[str, Any]]) -> None:
    assert runs["demo-batch"]["outputs"]["report"]["Result"] == {
        "batches": ["ADA, GRACE", "LINUS, MARGARET", "ALAN"], "turns": 3,
    }  # fmt: skip


def test_nobody_answers_and_a_reminder_is_sent(up: Up, runs: dict[str, dict[str, Any]]) -> None:
    run = runs["demo-deadline"]

    assert "published" not in json.dumps(sorted(run["outputs"]))
    assert deliveries(up, run["id"]) == [{"reminder": "Nobody answered in time."}]


def test_every_item_is_a_run_of_its_own(runs: dict[str, dict[str, Any]]) -> None:
    answers = runs["demo-fan-out"]["outputs"]["answers"]["Result"]

    assert answers["numbers"] == ["A-100"] * 3
    assert [answer["Result"]["customer"] for answer in answers["runs"]] == ["Ada", "Grace", "Alan"]


def test_the_switch_takes_one_way(up: Up, runs: dict[str, dict[str, Any]]) -> None:
    assert deliveries(up, runs["demo-alert"]["id"]) == [{"alert": "critical", "wake": True}]
