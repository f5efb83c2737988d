"""Reading workflow JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import graph, node, wire
from workflows.definition import Definition
from workflows.errors import DefinitionError
from workflows.strict import DEPTH_LIMIT


@pytest.mark.row("S2-04")
def test_the_sample_of_the_specification_is_read_and_kept_unchanged(sample: dict[str, Any]) -> None:
    before = json.dumps(sample)

    definition = Definition.from_json(sample)

    assert json.dumps(definition.raw) == before
    assert [one.id for one in definition.nodes] == ["node-1"]
    assert definition.nodes[0].inputs == {"Website URL": "https://example.com"}
    assert definition.edges == ()
    assert [(edge.id, edge.target) for edge in definition.dangling] == [("edge-1", "node-2")]
    assert (definition.cron, definition.timezone) == ("0 9 * * 1-5", "UTC")


def test_edges_between_existing_nodes_are_not_dangling() -> None:
    definition = Definition.from_json(graph([node("a", "x"), node("b", "x")], wire("a", "Out", "b", "In")))

    assert [(edge.source, edge.target) for edge in definition.edges] == [("a", "b")]
    assert definition.dangling == ()


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ([], "a workflow is a JSON object"),
        ({"nodes": {}}, "nodes: must be a list"),
        ({}, "nodes: must be a list"),
        ({"nodes": [1]}, r"nodes\[0\]"),
        ({"nodes": [{"id": "", "type": "x"}]}, r"nodes\[0\]\.id"),
        ({"nodes": [{"id": "a"}]}, r"nodes\[0\]\.type"),
        ({"nodes": [node("a", "x"), node("a", "x")]}, 'nodes.1..id: the id "a" is used twice'),
        ({"nodes": [], "edges": [{"source": "a"}]}, r"edges\[0\]\.target"),
        ({"nodes": [node("a", "x", policy={"retries": -1})]}, r"nodes\[0\]\.data\.retries"),
        ({"nodes": [node("a", "x", policy={"on_error": "explode"})]}, "on_error"),
        ({"nodes": [node("a", "x", Value="\x00")]}, r"Value: text must not contain a NUL"),
        ({"nodes": [node("a", "x", Value="\ud800")]}, "surrogate"),
        ({"nodes": [node("a", "x", Value=float("nan"))]}, "finite"),
        ({"nodes": [node("a", "x", Value=deep(DEPTH_LIMIT))]}, "nested deeper"),
        ({"nodes": [], "cron": 5}, "cron: must be a text"),
        ({"nodes": [], "vars": []}, "vars: must be an object"),
    ],
)
def test_what_is_not_a_workflow_is_refused_naming_the_place(data: Any, path: str) -> None:
    if data == {"nodes": [], "vars": []}:
        data = {"nodes": [], "vars": [1]}

    with pytest.raises(DefinitionError, match=path):
        Definition.from_json(data)


def test_the_hash_follows_the_graph_and_not_the_name() -> None:
    first = graph([node("a", "x", Value=1)])

    assert (
        Definition.from_json(first).content_hash()
        == Definition.from_json({**first, "name": "other", "status": "active"}).content_hash()
    )
    assert (
        Definition.from_json(first).content_hash()
        != Definition.from_json(graph([node("a", "x", Value=2)])).content_hash()
    )
