"""The documents say what is so: every setting, every command, every link."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from flowbuilder.api import api

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
CODE = [
    path
    for room in ("flowbuilder", "monitoring", "executions", "recordings", "workflows")
    for path in (ROOT / room).rglob("*.py")
]
OWN_VERBS = {"test", "check", "fix", "bench", "help"}
LIBRARY_SETTINGS = {"DJANGO_SETTINGS_MODULE"}


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    """Give every fenced block of a language, with its document."""
    for document in DOCUMENTS:
        for found in re.finditer(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
            yield document, found[1]


def described_settings() -> set[str]:
    """Return the first column of the table in docs/operations.md."""
    return set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))


def test_the_settings_table_lists_exactly_what_the_code_reads() -> None:
    read = set()
    for path in CODE:
        text = path.read_text()
        read |= set(re.findall(r"\bFLOWBUILDER_[A-Z_]+\b", text))
        read |= set(re.findall(r"""\bvariables\.\w+\(\s*"([A-Z_]+)\"""", text))

    assert described_settings() == read - LIBRARY_SETTINGS


def test_every_default_in_the_settings_table_is_the_one_in_the_code() -> None:
    table = dict(
        re.findall(r"^\| `([A-Z_]+)` \| `?([^|`]*?)`? \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    )
    source = (ROOT / "flowbuilder" / "settings.py").read_text()

    found = re.findall(r"""variables\.(?:whole|number)\(\s*"([A-Z_]+)", ([\d.]+)""", source)
    assert len(found) > 10
    for name, default in found:
        assert table[name].replace(",", "") == default.removesuffix(".0"), name


def test_the_table_of_recovery_lists_exactly_the_rules_of_the_reconciler() -> None:
    from executions.reconcile import RULES

    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("\n## Recovery\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\|[^|]+\|[^|]+\| `(\w+)` \|$", section, re.MULTILINE)

    assert set(named) == set(RULES)


def commands() -> list[tuple[str, str]]:
    """Return document and line of every ``./flow …`` in a shell block or in a line of code."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text()
        for line in re.findall(r"(?:^|`)(?:\$ )?(\./flow(?: [^`\n#]*)?)", text, re.MULTILINE):
            found.append((document.name, line.strip()))
    return found


@pytest.mark.parametrize(("document", "line"), commands())
def test_every_command_exists_and_has_its_options(document: str, line: str) -> None:
    words = shlex.split(line.partition(" | ")[0].partition(" > ")[0].partition(" && ")[0])[1:]
    if not words or words[0].startswith("-") or words[0] in OWN_VERBS or words[0] in {"X", "…"} or "|" in words[0]:
        return
    available = get_commands()
    assert words[0] in available, f"{document}: {line}"

    parser = load_command_class(available[words[0]], words[0]).create_parser("./flow", words[0])
    verbs = [action.choices for action in parser._actions if action.dest == "verb"]
    if verbs and verbs[0] and len(words) > 1 and "|" not in words[1]:
        assert words[1] in verbs[0], f"{document}: {line}"
        parser = dict(verbs[0])[words[1]]
    known = {option for action in parser._actions for option in action.option_strings}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, f"{document}: {line}"


def test_the_table_of_modules_lists_exactly_those_of_executions() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("### Inside `executions`")[2].partition("\n## ")[0]
    listed = [
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)/?`", row)
    ]

    found = {
        path.stem for path in (ROOT / "executions").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(listed) == sorted(found - {"__init__", "apps", "migrations", "management"})


def test_shell_blocks_are_shell() -> None:
    checked = 0
    for document, text in blocks("sh"):
        result = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
        assert result.returncode == 0, f"{document.name}: {result.stderr}\n{text}"
        checked += 1

    assert checked > 5


@pytest.mark.parametrize(("document", "text"), [(document.name, text) for document, text in blocks("python")])
def test_python_blocks_run(document: str, text: str, tmp_path: Path) -> None:
    code = f"import django\ndjango.setup()\n{text}"
    env = os.environ | {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "flowbuilder.settings"}

    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, text=True, capture_output=True)

    assert result.returncode == 0, f"{document}: {result.stderr}"


def test_workflows_in_the_documents_are_valid() -> None:
    from workflows.definition import Definition
    from workflows.validation import validate

    checked = 0
    for document, text in blocks("json"):
        data = json.loads(text)
        if "nodes" in data:
            errors = [
                finding.message for finding in validate(Definition.from_json(data)) if finding.severity == "error"
            ]
            assert errors == [], document.name
            checked += 1

    assert checked >= 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (document.parent / target.partition("#")[0]).exists(), target


def test_the_table_of_node_types_is_the_registry() -> None:
    path = ROOT / "docs" / "nodes.md"
    text = path.read_text()
    head, _start, rest = text.partition("<!-- table:")
    comment, _end, rest = rest.partition("-->\n")
    _old, _mark, tail = rest.partition("<!-- end -->")
    wanted = f"{head}<!-- table:{comment}-->\n{node_tables()}\n<!-- end -->{tail}"
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(wanted)

    assert path.read_text() == wanted


def node_tables() -> str:
    """Return one table per group of the palette, in its order; node types that only tests have are left out."""
    from workflows.registry import NODE_REGISTRY, PALETTE_GROUPS

    lines = []
    executors = [executor for executor in NODE_REGISTRY.values() if executor.__module__.startswith("executions.")]
    descriptions = [executor.description for executor in executors]
    for group in PALETTE_GROUPS:
        rows = sorted((item for item in descriptions if item.group == group), key=lambda item: item.label)
        if not rows:
            continue
        lines += [
            "",
            f"## {group}",
            "",
            "| node | type | what it does | inputs | outputs | credits |",
            "|---|---|---|---|---|---|",
        ]
        for item in rows:
            inputs = ", ".join(f"**{port.name}**" if port.required else port.name for port in item.inputs)
            outputs = ", ".join(port.name for port in item.outputs)
            start = "" if item.start else " Cannot start a workflow."
            lines.append(
                f"| {item.label} | `{item.type}` | {item.summary}{start} | {inputs} | {outputs} | {item.credits} |"
            )
    return "\n".join(lines)


def test_the_table_of_addresses_is_that_of_the_api() -> None:
    paths = api.get_openapi_schema(path_prefix="/api/v1/")["paths"]
    known = {
        f"{method.upper()} {path.removeprefix('/api/v1')}" for path, methods in paths.items() for method in methods
    }

    assert set(re.findall(r"^\| `([A-Z]+ /\S+)` \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)) == known
