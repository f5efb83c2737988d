"""Node types that come with an installed package: nothing but its installation makes them known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from executions.models import Execution
from flowbuilder.stack import free_port
from tests.conftest import graph, node, test_environment, wait_for
from tests.environment import ROOT
from workflows import tokens

MODULE = """
from executions.nodes.base import NodeExecutor
from workflows.registry import NodeDescription, Port, register


@register
class Shout(NodeExecutor):
    description = NodeDescription(
        type="{type}", label="Shout", group="Data Extraction", credits=1, start=True,
        inputs=(Port("Text", required=True),), outputs=(Port("Loud Text"),), summary="Turns a text into capitals.",
    )

    async def run(self, node, env):
        return {{"Loud Text": self.inputs(node).text("Text").upper()}}
"""


def install(folder: Path, module: str) -> dict[str, str]:
    """Install a package with that module into a directory of its own; return the environment that has it on its path."""
    folder.mkdir()
    wheel = folder / "acme_shout-1.0-py3-none-any.whl"
    about = "acme_shout-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("acme_shout.py", module)
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: acme-shout\nVersion: 1.0\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/entry_points.txt", "[flowbuilder.nodes]\nshout = acme_shout\n")
        archive.writestr(f"{about}/RECORD", "")
    target = folder / "packages"
    uv = Path(sys.executable).with_name("uv")
    installer = [str(uv), "pip"] if uv.exists() else [sys.executable, "-m", "pip"]
    subprocess.run(
        [*installer, "install", "-q", "--no-index", "--no-deps", "--target", str(target), str(wheel)],
        check=True, cwd=folder, timeout=60,
    )  # fmt: skip
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(target), os.environ.get("PYTHONPATH", ""))))}


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.row("S2-23")
def test_a_node_of_an_installed_package_is_in_the_palette_is_validated_and_runs(
    processes: Any, alice: Any, tmp_path: Path
) -> None:
    env = install(tmp_path / "acme", MODULE.format(type="acme_shout"))
    port = free_port()
    processes.start(
        "-m", "uvicorn", "flowbuilder.asgi:application", "--port", str(port), "--log-level", "warning", **env
    )
    processes.worker(**env)
    text = tokens.create(alice, "test")[1]
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}/api/v1", headers={"Authorization": f"Bearer {text}"}, timeout=30
    ) as api:
        wait_for(lambda: _answers(api), 40, "the web process", processes.logs)

        palette = {item["type"]: item for item in api.get("/node-types").json()}
        unfit = api.post("/workflows/validate", json={"definition": graph([node("loud", "acme_shout")])}).json()
        whole = graph([node("loud", "acme_shout", Text="hello")])
        made = api.post("/workflows", json={"name": "loud", "definition": whole}).json()
        assert api.post(f"/workflows/{made['id']}/activate").status_code == 200
        begun = api.post("/executions", json={"workflow_id": made["id"]}).json()
        wait_for(lambda: Execution.objects.get().is_terminal, 20, "the end", processes.logs)
        run = api.get(f"/executions/{begun['execution_id']}/nodes/loud").json()

    assert palette["acme_shout"]["label"] == "Shout"
    assert any("Text" in finding["message"] for finding in unfit["findings"]), unfit
    assert run["status"] == "completed", run
    assert run["outputs"]["Loud Text"] == "HELLO"
    listed = subprocess.run(
        [sys.executable, "manage.py", "nodes", "list", "--json"],
        cwd=ROOT, env={**test_environment(), **env}, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert "acme_shout" in {item["type"] for item in json.loads(listed.stdout)}


@pytest.mark.row("S2-23")
@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (MODULE.format(type="branch"), 'the package "acme-shout" brings a node type branch, which there is already'),
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
    ],
)
def test_a_package_that_cannot_be_used_stops_the_start_and_is_named(module: str, problem: str, tmp_path: Path) -> None:
    env = install(tmp_path / "acme", module)

    answer = subprocess.run(
        [sys.executable, "manage.py", "nodes", "list"],
        cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert answer.returncode != 0
    assert problem in answer.stderr
    assert "acme-shout" in answer.stderr


def _answers(api: httpx.Client) -> bool:
    try:
        return api.get("/node-types").status_code == 200
    except httpx.TransportError:
        return False
