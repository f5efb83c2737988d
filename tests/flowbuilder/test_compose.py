"""``docker-compose.yml`` says only what the product understands."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}


def environment_of_settings() -> set[str]:
    """Return every variable that settings.py reads."""
    return set(re.findall(r"""variables\.\w+\(\s*"([A-Z_]+)\"""", (ROOT / "flowbuilder" / "settings.py").read_text()))


def test_the_file_is_what_compose_understands() -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "docker-compose.yml",
    ]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert result.returncode == 0, result.stdout


def test_the_services_are_those_of_the_operations_guide() -> None:
    assert set(COMPOSE["services"]) == {
        "postgres",
        "redis",
        "migrate",
        "web",
        "worker",
        "browser-worker",
        "isolated-worker",
        "beat",
    }


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_real(name: str) -> None:
    program, *arguments = OURS[name]["command"]
    help_text = ""
    match program:
        case "python":
            assert arguments[0] == "manage.py"
            assert arguments[1] in get_commands()
            return
        case "uvicorn":
            module, _colon, attribute = arguments.pop(0).partition(":")
            assert hasattr(importlib.import_module(module), attribute)
        case "celery":
            flag, module, arguments = arguments[0], arguments[1], arguments[2:]
            assert flag == "-A"
            importlib.import_module(f"{module}.celery")
            help_text = _help("celery", "-A", module, arguments[0])
    help_text = help_text or _help(program)
    for argument in arguments:
        if argument.startswith("-"):
            assert argument.partition("=")[0] in help_text


def _help(program: str, *arguments: str) -> str:
    command = [sys.executable, "-m", program, *arguments, "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", OURS)
def test_every_variable_exists_in_the_settings(name: str) -> None:
    assert set(OURS[name]["environment"]) <= environment_of_settings()


def test_every_queue_of_a_worker_has_one_that_serves_it() -> None:
    served = {
        queue
        for service in OURS.values()
        if "worker" in service["command"]
        for queue in service["command"][service["command"].index("-Q") + 1].split(",")
    }

    assert served == {"control", "default", "browser", "isolated"}


def test_what_a_service_waits_for_exists_and_volumes_are_declared() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
        assert {volume.partition(":")[0] for volume in service.get("volumes", [])} <= set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", OURS)
def test_every_image_is_built_by_the_dockerfile(name: str) -> None:
    stages = re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert OURS[name]["build"]["target"] in stages
