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
        ({}, "nodes: the list of nodes is missing"),
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


def test_every_problem_is_found_in_one_pass_and_the_rest_is_read() -> None:
    no_node: Any = "node"
    data = {
        **graph(
            [
                node(
                    "a", "x", {"retries": "five", "on_error": "explode", "timeout_s": 0, "jitter": "no"}, Value="\x00"
                ),
                node("a", "x"),
                {"type": "x"},
                {"id": "b", "data": [1]},
                no_node,
                node("c", "x", {"retries": 2, "cache_ttl_s": None}),
            ],
            {"source": "a", "target": "c"},
            wire("a", "Out", "c", "In"),
        ),
        "vars": 5,
        "timezone": 1,
    }

    definition, problems = Definition.read(data)

    assert [problem.path for problem in problems] == [
        "nodes[0].data.inputs.Value",
        "nodes[0].data.on_error",
        "nodes[0].data.timeout_s",
        "nodes[0].data.retries",
        "nodes[0].data.jitter",
        "nodes[1].id",
        "nodes[2].id",
        "nodes[3].data",
        "nodes[3].type",
        "nodes[4]",
        "edges[0].sourceHandle",
        "edges[0].targetHandle",
        "vars",
        "timezone",
    ]
    assert [problem.node_id for problem in problems[:6]] == [None, *["a"] * 5]
    assert [one.id for one in definition.nodes] == ["a", "nodes[2]", "b", "nodes[4]", "c"]
    assert definition.nodes[0].policy == definition.nodes[1].policy  # what cannot be read stands at its default
    assert definition.nodes[4].policy.retries == 2
    assert [edge.source for edge in definition.edges] == ["a"]
    with pytest.raises(DefinitionError, match=r"nodes\[0\].data.inputs.Value: .* \(and 13 more\)$"):
        Definition.from_json(data)


@pytest.mark.parametrize("data", [None, 5, [], "x"])
def test_what_is_no_object_has_one_problem(data: Any) -> None:
    definition, problems = Definition.read(data)

    assert definition.nodes == ()
    assert ["a workflow is a JSON object" in problem.message for problem in problems] == [True]


def test_the_size_is_that_of_the_compact_text() -> None:
    data = graph([node("\u00e9", "x")])

    assert Definition.from_json(data).size_bytes == len(
        json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
    )


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
