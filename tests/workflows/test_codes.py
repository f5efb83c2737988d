"""The documents name what the code says: every code of a finding, every other name of a port."""

from __future__ import annotations

import ast
import os
import re
from typing import Any, get_args

import pytest

from executions.local import execute_sync
from tests.conftest import graph, node, wire
from tests.environment import ROOT
from workflows.definition import Definition
from workflows.registry import NODE_REGISTRY, PortType, describe
from workflows.validation import errors, validate

CODE = re.compile(r"[A-Z]+(?:_[A-Z]+)+|CYCLE|UNREACHABLE|MORE")
SOURCES = ("validation", "paths", "findings")


def codes() -> set[str]:
    """Return every code in the source; the types of ports look like codes and are none."""
    found = set()
    for name in SOURCES:
        for item in ast.walk(ast.parse((ROOT / "workflows" / f"{name}.py").read_text())):
            if isinstance(item, ast.Constant) and isinstance(item.value, str) and CODE.fullmatch(item.value):
                found.add(item.value)
    return found - set(get_args(PortType))


def rows(document: str, heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    section = (ROOT / "docs" / document).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_every_code_of_a_finding_is_in_the_documents_and_the_other_way_round() -> None:
    documented = [row[0] for row in rows("workflows.md", "What is checked")]

    assert len(documented) > 40
    assert sorted(documented) == sorted(codes())


def test_every_other_name_of_a_port_is_in_the_documents() -> None:
    path = ROOT / "docs" / "nodes.md"
    head, mark, _old = path.read_text().partition("| node | other name | name |\n|---|---|---|\n")
    table = [
        f"| `{node_type}` | {kind} {alias} | {port.name} |\n"
        for node_type, executor in sorted(NODE_REGISTRY.items())
        if executor.__module__.startswith("executions.")
        for kind, ports in (("input", executor.description.inputs), ("output", executor.description.outputs))
        for port in ports
        for alias in port.aliases
    ]
    wanted = f"{head}{mark}{''.join(table)}"
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(wanted)

    assert path.read_text() == wanted


@pytest.mark.row("S2-05")
@pytest.mark.parametrize(
    ("node_type", "kind", "alias", "name"),
    [
        ("delay", "input", "Delay (seconds)", "Duration"),
        ("delay", "input", "delay-seconds", "Duration"),
        ("delay", "output", "Completed", "Completed"),
        ("delay", "output", "waited", "Completed"),
        ("condense_html", "output", "Condensed Html", "Reduced Html"),
        ("condense_html", "output", "reduced-html", "Reduced Html"),
        ("branch", "input", "Comparison", "Operator"),
        ("branch", "output", "Left Value", "Data"),
        ("deliver_to_webhook", "output", "Response", "Response Body"),
        ("send_sms", "input", "Account SID", "Twilio Account SID"),
        ("send_sms", "input", "Auth Token", "Twilio Auth Token"),
        ("send_sms", "input", "From Phone", "From Number"),
        ("send_sms", "input", "To Phone", "To Number"),
        ("send_sms", "input", "Message", "Message Content"),
        ("send_sms", "output", "Delivery Status", "SMS Status"),
        ("launch_standard_browser", "input", "website-url", "Website URL"),
        ("get_html", "output", "html-content", "Html Content"),
        ("click_element", "input", "execute-condition", "Execute Condition"),
    ],
)
def test_names_of_files_from_elsewhere_are_read(node_type: str, kind: str, alias: str, name: str) -> None:
    port = getattr(describe(node_type), kind)(alias)

    assert port is not None
    assert port.name == name


@pytest.mark.row("S2-05")
def test_a_workflow_in_other_names_runs() -> None:
    elsewhere: dict[str, Any] = {"left-value": 1, "Comparison": "==", "Right Value": 1}
    seconds: dict[str, Any] = {"Delay (seconds)": 0.01}
    keep: dict[str, Any] = {"waited": "$.waited", "left": "$.left", "html": "$.html"}
    data = graph(
        [
            node("d", "delay", **seconds),
            node("h", "condense_html", html="<b>x</b><script>y</script>"),
            node("b", "branch", **elsewhere),
            node(
                "t",
                "json_transform",
                Input_JSON={
                    "waited": "{{ nodes.d.waited }}",
                    "left": '{{ nodes.b["Left Value"] }}',
                    "html": "{{ Condensed Html }}",
                },
                Transform_Rules=keep,
            ),
        ],
        wire("d", "waited", "t", "execute-condition") | {"sourceHandle": "done"},
        wire("h", "Done", "t", "Execute Condition"),
    )

    assert errors(validate(Definition.from_json(data))) == []
    result = execute_sync(data)

    assert result.success, result.error
    assert result.outputs["t"]["Result"] == {"waited": True, "left": 1, "html": "<body><b>x</b></body>"}
