"""The examples on a real stack: Chromium, workers, the demo shop and its webhook."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from flowbuilder.demo.site import PRODUCTS
from flowbuilder.stack import running_stack
from tests.flowbuilder.conftest import ROOT, Up, get

pytestmark = [pytest.mark.redis, pytest.mark.worker, pytest.mark.browser]

SHOP = [{"name": product["name"], "price": product["price"]} for product in PRODUCTS]


def deliveries(up: Up, execution_id: str) -> list[Any]:
    """Return what the webhook got from an execution."""
    stack = running_stack(up.data_dir)
    assert stack is not None
    status, body = get(int(stack.demo_url.rpartition(":")[2]), f"/sink?execution={execution_id}")
    assert status == 200
    found: list[Any] = json.loads(body)
    return found


def check_result(text: str, browser: str) -> dict[str, Any]:
    """Return the JSON of ``demo --json`` after a look at all of it."""
    result: dict[str, Any] = json.loads(text)
    assert set(result) == {"status", "browser", "products", "execution_id", "recording_id", "duration_ms"}
    assert result["status"] == "completed"
    assert result["browser"] == browser
    assert result["products"] == SHOP
    for key in ("execution_id", "recording_id"):
        assert str(uuid.UUID(result[key])) == result[key]
    assert 0 < result["duration_ms"] < 60_000
    return result


def alone(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command where nothing runs."""
    env = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "DATABASE_URL")}
    command = [sys.executable, "manage.py", *arguments]
    env["FLOWBUILDER_DATA_DIR"] = str(data_dir)
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


def test_where_nothing_runs_a_command_starts_everything_and_leaves_nothing(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"

    result = alone(data_dir, "demo", "--json")

    assert result.returncode == 0, result.stderr
    check_result(result.stdout, "chromium")
    assert "nothing is running here: starting Flow Builder for the time of this command" in result.stderr
    assert "Execution completed" in result.stderr
    assert Up.processes_of(data_dir) == {}
    assert not (data_dir / "run.json").exists()

    result = alone(data_dir, "executions", "run", "demo-shop-http", "--json")

    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert {"execution_id", "status", "duration_ms", "credits", "phases", "nodes", "outputs", "recording_id"} <= set(
        outcome
    )
    assert outcome["outputs"]["shape"]["Result"]["products"] == SHOP
    assert "nothing is running here" in result.stderr
    assert Up.processes_of(data_dir) == {}


def test_demo_uses_the_stack_that_runs_and_delivers_once(up: Up) -> None:
    result = up.manage("demo", "--json")

    assert result.returncode == 0, result.stderr
    execution_id = check_result(result.stdout, "chromium")["execution_id"]
    assert "nothing is running here" not in result.stderr
    [delivery] = deliveries(up, execution_id)
    assert delivery["body"]["products"] == SHOP


def test_demo_for_people_prints_products_execution_and_recording(up: Up) -> None:
    result = up.manage("demo")

    assert result.returncode == 0, result.stderr
    for product in SHOP:
        assert product["name"] in result.stdout
    assert "execution  " in result.stdout
    assert "recording  " in result.stdout


def test_demo_without_chromium_runs_the_variant_for_http_and_says_so(up: Up) -> None:
    result = up.manage("demo", "--json", FLOWBUILDER_CHROMIUM="/nowhere/chromium")

    assert result.returncode == 0, result.stderr
    check_result(result.stdout, "http")
    assert "no Chromium was found: running the variant without a browser" in result.stderr


def test_the_second_example_reads_the_products_own_admin_with_a_stored_credential(up: Up) -> None:
    result = up.manage("executions", "run", "admin-tasks", "--json")

    outcome = json.loads(result.stdout)
    assert result.returncode == 0, outcome["error"]
    query = "from django_celery_beat.models import PeriodicTask as P; print(*P.objects.values_list('name', flat=True), sep='|')"
    names = up.manage("shell", "-v", "0", "-c", query).stdout.strip().split("|")
    rows = outcome["outputs"]["rows"]["Result"]["rows"]
    assert names
    assert sorted(row["name"] for row in rows) == sorted(names)
    assert {row["enabled"] for row in rows} <= {True, False}


def test_the_order_reads_loops_branches_asks_and_orders_what_was_approved(up: Up) -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "executions", "run", "demo-order", "--input", '{"budget": 13}', "--json"],
        cwd=ROOT, env=up.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None

    link = next(line for line in process.stderr if '"Order 2 products?"' in line).split()[-1]
    assert link.startswith(f"http://127.0.0.1:{up.port}/approvals/")
    with httpx.Client() as person:
        person.get(link)
        answer = person.post(link, data={"decision": "approve", "csrfmiddlewaretoken": person.cookies["csrftoken"]})
    assert answer.status_code == 200
    output, errors = process.communicate(timeout=60)

    outcome = json.loads(output)
    assert (process.returncode, outcome["status"]) == (0, "completed"), errors
    assert outcome["outputs"]["each"]["Results"] == [*SHOP[:2], None, None, None, None]
    assert [child["status"] for child in outcome["children"]] == ["completed"] * 7
    assert {node["node_id"]: node["status"] for node in outcome["nodes"]}["leave"] == "skipped"
    [delivery] = deliveries(up, outcome["execution_id"])
    assert delivery["body"]["order"] == SHOP[:2]


def test_a_worker_killed_in_the_middle_ends_the_run_with_a_reason_and_one_delivery_at_most(up: Up) -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "executions", "run", "demo-shop", "--follow", "--json"],
        cwd=ROOT, env=up.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    stack = running_stack(up.data_dir)
    assert stack is not None

    for line in process.stderr:
        if "Log in started" in line:
            os.kill(stack.processes["worker"], signal.SIGKILL)
            break
    output, errors = process.communicate(timeout=100)

    outcome = json.loads(output)
    assert outcome["status"] in ("completed", "failed"), errors
    assert (process.returncode == 0) == (outcome["status"] == "completed")
    if outcome["status"] == "failed":
        assert "gone" in outcome["error"] or "died" in outcome["error"]
    assert len(deliveries(up, outcome["execution_id"])) <= 1
