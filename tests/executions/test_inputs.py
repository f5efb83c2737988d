"""Which nodes run, and with which inputs, given how their sources ended."""

from __future__ import annotations

import pytest

from executions import states
from executions.errors import NodeInputError
from executions.inputs import NodeResult, Sources, resolve, skip_reason
from executions.nodes.base import NodeExecutor
from executions.planner import plan
from tests.conftest import graph, node, wire
from workflows.definition import Definition
from workflows.registry import NodeDescription, Port, register

EXECUTE = "Execute Condition"


@register
class JoinAny(NodeExecutor):
    """Runs when any of its wires is live."""

    description = NodeDescription(
        type="test_join_any", label="Any", group="Flow Control", credits=0, join="any",
        inputs=(Port("A", "ANY", required=True), Port("B", "ANY", required=True)), outputs=(Port("Value", "ANY"),),
    )  # fmt: skip

    async def run(self, node, env):
        """Return the first input."""
        return {"Value": node.inputs.get("A")}


def completed(**outputs):
    named = {name.replace("_", " "): value for name, value in outputs.items()}
    return NodeResult(states.COMPLETED, {**named, "Done": "execute"})


SKIPPED, FAILED = NodeResult(states.SKIPPED), NodeResult(states.FAILED)
TOLERATED = NodeResult(states.FAILED, tolerated=True)
TRUE = completed(True_Path="execute", False_Path=None)
FALSE = completed(True_Path=None, False_Path="execute")


def decide(target, *edges, payload=None, variables=None, **results):
    """Return why ``target`` is skipped, or its inputs. Sources are branches or constants by the name of their result."""
    kinds = {name: "branch" if name.startswith("branch") else "merge_data" for name in results}
    nodes = [node(name, kind) for name, kind in kinds.items()]
    the_plan = plan(Definition.from_json(graph([*nodes, target], *edges)))
    numbered = {the_plan.nodes[i].index: results[name] for i, name in enumerate(results)}
    sources = Sources(the_plan, numbered, payload or {}, variables or {}, lambda reference, field: "secret")
    reason = skip_reason(the_plan.nodes[-1], sources)
    return reason or resolve(the_plan.nodes[-1], sources)


def target(kind="merge_data", policy=None, **inputs):
    return node("target", kind, policy, **inputs)


def ran(decision):
    return isinstance(decision, dict)


def test_a_node_without_sources_runs():
    assert ran(decide(target(Data_1={"a": 1})))


def test_a_disabled_node_is_skipped():
    assert decide(target(policy={"disabled": True})) == "it is disabled"


@pytest.mark.parametrize(
    ("output", "result", "runs"),
    [
        ("True Path", TRUE, True),
        ("True Path", FALSE, False),
        ("False Path", FALSE, True),
        ("Done", FALSE, True),
        ("True Path", SKIPPED, False),
        ("Done", SKIPPED, False),
        ("Done", FAILED, False),
        ("Done", TOLERATED, True),
        ("True Path", TOLERATED, False),
    ],
)
def test_a_path_lets_a_node_run_only_when_it_was_taken(output, result, runs):
    assert ran(decide(target(), wire("branch", output, "target", EXECUTE), branch=result)) is runs


def test_one_taken_path_of_several_is_enough():
    edges = [wire("branch1", "True Path", "target", EXECUTE), wire("branch2", "True Path", "target", EXECUTE)]

    assert ran(decide(target(), *edges, branch1=FALSE, branch2=TRUE))
    assert not ran(decide(target(), *edges, branch1=FALSE, branch2=FALSE))


def test_data_alone_does_not_open_a_path_that_was_not_taken():
    edges = [wire("branch", "True Path", "target", EXECUTE), wire("data", "Merged Data", "target", "Data 1")]

    assert not ran(decide(target(), *edges, branch=FALSE, data=completed(Merged_Data={})))


def test_two_branches_that_meet_in_one_input_give_the_value_of_the_one_that_ran():
    edges = [wire("left", "Merged Data", "target", "Data 1"), wire("right", "Merged Data", "target", "Data 1")]

    for first, second in ((completed(Merged_Data="x"), SKIPPED), (SKIPPED, completed(Merged_Data="x"))):
        assert decide(target(), *edges, left=first, right=second)["Data 1"] == "x"
    assert not ran(decide(target(), *edges, left=SKIPPED, right=SKIPPED))


def test_a_required_input_whose_source_was_skipped_skips_the_node_beside_live_wires():
    edges = [wire("left", "Merged Data", "target", "Input JSON"), wire("right", "Done", "target", EXECUTE)]
    needs = target("json_transform", Transform_Rules={"a": "b"})

    reason = decide(needs, *edges, left=SKIPPED, right=completed())

    assert "Input JSON" in reason


def test_a_join_of_any_runs_with_what_there_is():
    edges = [wire("left", "Merged Data", "target", "A"), wire("right", "Merged Data", "target", "B")]

    inputs = decide(target("test_join_any"), *edges, left=completed(Merged_Data=1), right=SKIPPED)

    assert inputs == {"A": 1}
    assert not ran(decide(target("test_join_any"), *edges, left=SKIPPED, right=SKIPPED))


@pytest.mark.parametrize(
    "template", ['{{ nodes.left["Merged Data"] }}', "price: {{ nodes.left.Done }}", "{{ Merged Data }}"]
)
@pytest.mark.parametrize("result", [SKIPPED, FAILED, TOLERATED])
def test_a_template_that_reads_a_node_which_did_not_complete_skips(template, result):
    edges = [wire("left", "Done", "target", EXECUTE)] if template == "{{ Merged Data }}" else []

    assert not ran(decide(target(Data_1=template), *edges, left=result))


def test_a_template_with_a_default_does_without_its_node():
    inputs = decide(target(Data_1='{{ nodes.left["Merged Data"] | default("none") }}'), left=SKIPPED)

    assert inputs["Data 1"] == "none"


@pytest.mark.parametrize("spelling", ["Execute Condition", "execute-condition"])
@pytest.mark.parametrize(
    ("value", "runs"),
    [("execute", True), (True, True), ("skip", False), ("", False), (None, False), (False, False), (1, False)],
)
def test_a_typed_execute_condition_gates_the_node(spelling, value, runs):
    gated = target()
    gated["data"]["inputs"][spelling] = value

    assert ran(decide(gated)) is runs


@pytest.mark.parametrize(
    ("template", "results", "runs"),
    [
        ('{{ nodes.branch["True Path"] }}', {"branch": TRUE}, True),
        ('{{ nodes.branch["True Path"] }}', {"branch": FALSE}, False),
        ('{{ nodes.branch["True Path"] }}', {"branch": SKIPPED}, False),
        ("{{ input.go }}", {}, True),
        ("{{ vars.go }}", {}, False),
    ],
)
@pytest.mark.parametrize("kind", ["merge_data", "test_join_any"])
def test_a_template_in_execute_condition_gates_the_node(kind, template, results, runs):
    gated = target(kind, Execute_Condition=template)

    assert ran(decide(gated, payload={"go": "execute"}, variables={"go": "stay"}, **results)) is runs


def test_a_wire_into_execute_condition_wins_over_the_typed_value():
    gated, edge = target(Execute_Condition="skip"), wire("branch", "True Path", "target", EXECUTE)

    assert ran(decide(gated, edge, branch=TRUE))


def test_a_condition_that_cannot_be_read_lets_the_node_fail_with_the_reason():
    with pytest.raises(NodeInputError, match="Execute Condition"):
        decide(target(Execute_Condition="{{ input.missing }}"))


def test_a_wire_wins_over_a_typed_value_and_the_typed_value_over_a_dead_wire():
    edges = [wire("left", "Merged Data", "target", "Data 2"), wire("right", "Done", "target", EXECUTE)]
    typed = target(Data_1={}, Data_2="typed")

    assert decide(typed, *edges, left=completed(Merged_Data="wired"), right=completed())["Data 2"] == "wired"
