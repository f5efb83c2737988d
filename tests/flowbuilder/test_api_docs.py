"""The examples of docs/api.md work, as they are written, against a real server and a real worker."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest

from executions.models import Execution
from flowbuilder.stack import free_port
from tests.conftest import graph, node, test_environment, wait_for
from tests.environment import ROOT
from workflows import tokens

DOCUMENT = ROOT / "docs" / "api.md"


def test_the_table_of_scopes_is_the_one_of_the_code() -> None:
    rows = re.findall(r"^\| `([a-z:*]+)` \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)

    assert dict(rows) == tokens.SCOPES


@pytest.mark.worker
@pytest.mark.redis
def test_the_examples_start_follow_and_cancel_a_workflow(processes: Any, make_workflow: Any) -> None:
    make_workflow(graph([node("wait", "delay", Duration=2)]), "orders")
    port = free_port()
    processes.start("-m", "uvicorn", "--port", str(port), "--log-level", "warning", "flowbuilder.asgi:application")
    processes.worker()
    wait_for(lambda: _answers(port), 60, "the web process", processes.logs)
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    script = "\n".join(["set -euo pipefail", *blocks, "echo; start order-4711"])
    script = script.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("./flow", f"{sys.executable} manage.py")

    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=test_environment(), text=True, capture_output=True, timeout=90
    )

    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}\n{processes.logs()}"
    assert '"username": "alice"' in done.stdout
    assert re.search(r"^\d+ workflow_start ", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^\d+ workflow_complete", done.stdout, re.MULTILINE), done.stdout
    first, second = Execution.objects.order_by("queued_at")
    assert first.status == "completed"
    wait_for(lambda: Execution.objects.get(pk=second.pk).status == "cancelled", 30, "the cancellation")
    assert str(first.pk) in done.stdout.splitlines()[-1], "the same key answers the same execution"


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
