"""Paths that are never taken and nodes that never run, found without running anything."""

from __future__ import annotations

from typing import Any

import pytest

from executions.planner import plan
from tests.conftest import graph, node, wire
from workflows.definition import Definition
from workflows.errors import DefinitionError
from workflows.validation import Finding, errors, validate

GATE = "Execute Condition"


def check(nodes: list[dict[str, Any]], *edges: dict[str, Any]) -> list[Finding]:
    return validate(Definition.from_json(graph(nodes, *edges)))


def found(findings: list[Finding]) -> list[tuple[str, str | None, str | None]]:
    assert errors(findings) == []
    return [(finding.code, finding.node_id, finding.field) for finding in findings]


def branch(left: Any, operator: str = "equals", right: Any = "x", **policy: Any) -> dict[str, Any]:
    return node("b", "branch", policy or None, Left_Value=left, Operator=operator, Right_Value=right)


def pause(node_id: str, **inputs: Any) -> dict[str, Any]:
    return node(node_id, "delay", Duration=1, **inputs)


# ---------------------------------------------------------------------- branch


@pytest.mark.parametrize(
    ("left", "operator", "right", "text", "dead"),
    [
        (5, "less than", 6, "less than (5, 6) is true", "no"),
        ("a", "==", "b", 'equals ("a", "b") is false', "yes"),
        ("", "is empty", None, 'is empty ("") is true', "no"),
        ([1], "contains", 2, "contains ([1], 2) is false", "yes"),
    ],
)
def test_a_branch_over_typed_values_decides_the_same_every_time(
    left: Any, operator: str, right: Any, text: str, dead: str
) -> None:
    findings = check(
        [branch(left, operator, right), pause("yes"), pause("no")],
        wire("b", "True Path", "yes", GATE),
        wire("b", "False Path", "no", GATE),
    )

    if left == "":
        findings = [finding for finding in findings if finding.code != "MISSING_INPUT"]
    assert found(findings) == [("CONSTANT_CONDITION", "b", "Left Value"), ("NEVER_RUNS", dead, None)]
    assert text in findings[0].message


@pytest.mark.parametrize(
    "b",
    [
        branch("{{ input.x }}"),
        branch("x", right="{{ input.x }}"),
        branch({"deep": ["{{ input.x }}"]}),
        branch("x", "matches", "("),
        branch("x", disabled=True),
    ],
)
def test_what_a_run_decides_is_not_guessed(b: dict[str, Any]) -> None:
    assert found(check([b, pause("no")], wire("b", "False Path", "no", GATE))) == []


def test_a_wired_value_is_not_guessed() -> None:
    nodes = [node("t", "json_transform", Input_JSON={}, Transform_Rules={}), branch("x"), pause("no")]

    assert found(check(nodes, wire("t", "Result", "b", "Left Value"), wire("b", "False Path", "no", GATE))) == []


def test_a_branch_may_have_one_path_and_a_branch_without_any_is_told() -> None:
    b = branch("{{ input.x }}")

    assert found(check([b, pause("yes")], wire("b", "True Path", "yes", GATE))) == []
    assert found(check([b])) == [("DEAD_BRANCH", "b", None)]
    assert found(check([b, node("t", "json_transform", Input_JSON="{{ nodes.b.Result }}", Transform_Rules={})])) == []


def test_an_approval_that_nothing_follows_is_told() -> None:
    ask = node("ask", "approval", Title="Send?")

    assert found(check([ask])) == [("DEAD_BRANCH", "ask", None)]
    assert found(check([ask, pause("go")], wire("ask", "Approved", "go", GATE))) == []


# ---------------------------------------------------------------------- switch


def switch(value: Any, **cases: Any) -> dict[str, Any]:
    return node("s", "switch", Value=value, **cases)


def test_a_case_that_equals_an_earlier_one_is_never_taken() -> None:
    findings = check(
        [switch("{{ input.x }}", Case_1="a", Case_2=1, Case_3="1"), pause("p"), pause("q")],
        wire("s", "Case 1", "p", GATE),
        wire("s", "Case 2", "p", GATE),
        wire("s", "Case 3", "q", GATE),
    )

    assert found(findings) == [("DUPLICATE_CASE", "s", "Case 3"), ("NEVER_RUNS", "q", None)]
    assert 'equals "Case 2"' in findings[0].message


def test_a_case_without_a_value_is_never_taken_and_one_without_a_wire_leads_nowhere() -> None:
    findings = check(
        [switch("{{ input.x }}", Case_1="a", Case_2="b"), pause("p"), pause("q")],
        wire("s", "Case 1", "p", GATE),
        wire("s", "Case 5", "q", GATE),
    )

    assert found(findings) == [
        ("NEVER_TAKEN", "s", "Case 5"),
        ("DEAD_BRANCH", "s", "Case 2"),
        ("NEVER_RUNS", "q", None),
    ]


def test_a_case_that_comes_by_a_template_may_be_taken() -> None:
    nodes = [switch("b", Case_1="{{ input.x }}", Case_2="b"), pause("p"), pause("q"), pause("d")]

    wires = [wire("s", "Case 1", "p", GATE), wire("s", "Case 2", "q", GATE), wire("s", "Default", "d", GATE)]
    assert found(check(nodes, *wires)) == []


def test_a_switch_over_a_typed_value_decides_the_same_every_time() -> None:
    findings = check(
        [switch("b", Case_1="a", Case_2="b"), pause("p"), pause("q"), pause("d")],
        wire("s", "Case 1", "p", GATE),
        wire("s", "Case 2", "q", GATE),
        wire("s", "Default", "d", GATE),
    )

    assert found(findings) == [
        ("CONSTANT_CONDITION", "s", "Value"),
        ("NEVER_RUNS", "p", None),
        ("NEVER_RUNS", "d", None),
    ]
    assert "takes Case 2" in findings[0].message


# ---------------------------------------------------------------------- loops


@pytest.mark.parametrize(
    ("condition", "codes"),
    [
        ("false", [("CONSTANT_CONDITION", "l", "Condition"), ("NEVER_RUNS", "p", None)]),
        ("1 > 2 && true", [("CONSTANT_CONDITION", "l", "Condition"), ("NEVER_RUNS", "p", None)]),
        ("true", [("CONSTANT_CONDITION", "l", "Condition")]),
        ("index < 3", []),
        ("{{ input.x }}", []),
    ],
)
def test_a_loop_whose_condition_is_constant(condition: str, codes: list[Any]) -> None:
    findings = check([node("l", "loop_while", Condition=condition), pause("p")], wire("l", "Each", "p", GATE))

    assert found(findings) == codes


def test_a_body_cannot_read_what_waits_for_the_end_of_its_loop() -> None:
    nodes = [
        node("l", "loop_items", Items=[1]),
        pause("after"),
        pause("later"),
        node("t", "json_transform", Input_JSON="{{ nodes.later.Completed }}", Transform_Rules={}),
        pause("before"),
    ]
    inside, done = wire("l", "Each", "t", GATE), wire("l", "Done", "after", GATE)

    bad = check(nodes, inside, done, wire("after", "Done", "later", GATE))
    good = check(nodes, inside, done, wire("before", "Done", "later", GATE))

    assert [(finding.code, finding.node_id) for finding in errors(bad)] == [("LOOP_SCOPE", "l")]
    assert 'the loop "l" reads "later", which waits for the end' in bad[0].message
    assert errors(good) == []
    plan(Definition.from_json(graph(nodes, inside, done, wire("before", "Done", "later", GATE))))
    with pytest.raises(DefinitionError, match="cycle"):
        plan(Definition.from_json(graph(nodes, inside, done, wire("after", "Done", "later", GATE))))


# ---------------------------------------------------------------------- what follows


def test_only_the_first_node_of_a_dead_path_is_told() -> None:
    findings = check(
        [branch(1, "equals", 2), pause("p"), pause("q"), pause("r")],
        wire("b", "True Path", "p", GATE),
        wire("p", "Done", "q", GATE),
        wire("q", "Done", "r", GATE),
    )

    assert found(findings)[1:] == [("NEVER_RUNS", "p", None)]


def test_one_live_path_is_enough() -> None:
    findings = check(
        [branch(1, "equals", 2), pause("p"), pause("start")],
        wire("b", "True Path", "p", GATE),
        wire("start", "Done", "p", GATE),
    )

    assert found(findings) == [("CONSTANT_CONDITION", "b", "Left Value")]


@pytest.mark.parametrize(("mode", "dead"), [("live", False), ("any", False), ("all", True)])
def test_a_join_goes_by_its_mode(mode: str, dead: bool) -> None:
    findings = check(
        [branch(1, "equals", 2), pause("start"), pause("p"), node("j", "join", Mode=mode)],
        wire("b", "True Path", "p", GATE),
        wire("p", "Done", "j", GATE),
        wire("start", "Completed", "j", "Data 1"),
    )

    dead_nodes = [finding.node_id for finding in findings if finding.code == "NEVER_RUNS"]
    assert dead_nodes == ["p"]  # of a path, the first one
    alone = check(
        [branch(1, "equals", 2), pause("start"), node("j", "join", Mode=mode)],
        wire("b", "True Path", "j", GATE),
        wire("start", "Completed", "j", "Data 1"),
    )
    assert [finding.node_id for finding in alone if finding.code == "NEVER_RUNS"] == (["j"] if dead else [])


def test_a_required_input_needs_a_live_wire() -> None:
    nodes = [switch("b", Case_1="a"), node("t", "json_transform", Transform_Rules={}), pause("start")]

    # Case 1 feeds a gate, which another path opens; then the rest decides.
    wires = [
        wire("s", "Case 1", "t", GATE),
        wire("start", "Done", "t", GATE),
        wire("start", "Completed", "t", "Input JSON"),
    ]
    assert [finding.code for finding in check(nodes, *wires) if finding.node_id == "t"] == []
    assert [finding.code for finding in check(nodes, wires[0], wires[2]) if finding.node_id == "t"] == ["NEVER_RUNS"]


def test_a_node_that_is_switched_off_by_a_typed_condition_is_told() -> None:
    assert found(check([pause("p", Execute_Condition="no"), pause("q")], wire("p", "Done", "q", GATE))) == [
        ("NEVER_RUNS", "p", None)
    ]
    assert found(check([pause("p", Execute_Condition="execute")])) == []
    assert found(check([pause("p", Execute_Condition="{{ input.go }}")])) == []


# ---------------------------------------------------------------------- errors


def test_an_error_output_that_leads_nowhere_is_told() -> None:
    p = node("p", "delay", {"on_error": "output"}, Duration=1)

    assert found(check([p])) == [("ERROR_UNWIRED", "p", "on_error")]
    assert found(check([p, pause("q")], wire("p", "Error", "q", GATE))) == []
    reader = node("t", "json_transform", Input_JSON='{{ nodes.p["Error Message"] }}', Transform_Rules={})
    assert found(check([p, reader])) == []
