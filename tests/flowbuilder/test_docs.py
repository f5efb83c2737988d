"""The documents say what is so: every setting, every command, every link."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

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
        read |= set(re.findall(r"""\benv\.?\w*\(\s*"([A-Z_]+)\"""", text))

    assert described_settings() == read - LIBRARY_SETTINGS


def test_every_default_in_the_settings_table_is_the_one_in_the_code() -> None:
    table = dict(
        re.findall(r"^\| `([A-Z_]+)` \| `?([^|`]*?)`? \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    )
    source = (ROOT / "flowbuilder" / "settings.py").read_text()

    for name, default in re.findall(r"""env\.int\(\s*"([A-Z_]+)", default=(\d+)\)""", source):
        assert table[name].replace(",", "") == default, name


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


def test_shell_blocks_are_shell() -> None:
    checked = 0
    for document, text in blocks("sh"):
        result = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
        assert result.returncode == 0, f"{document.name}: {result.stderr}\n{text}"
        checked += 1

    assert checked > 5


def test_python_blocks_are_python() -> None:
    for document, text in blocks("python"):
        compile(text, str(document), "exec")


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


def test_every_node_type_is_described() -> None:
    from workflows.registry import NODE_REGISTRY

    text = (ROOT / "docs" / "nodes.md").read_text()

    assert [name for name in NODE_REGISTRY if f"`{name}`" not in text] == []
