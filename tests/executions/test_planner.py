"""Phases and headers of a definition."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from executions.planner import HEADER_CAPACITY, headers, plan
from tests.conftest import graph, node, wire
from workflows.definition import Definition
from workflows.errors import DefinitionError, UnknownNodeType


def planned(nodes, *edges):
    return plan(Definition.from_json(graph(nodes, *edges)))


def ids(the_plan):
    return [[the_plan.nodes[index].node.id for index in phase] for phase in the_plan.phases]


def light(node_id, **inputs):
    return node(node_id, "merge_data", **inputs)


def follows(source, target):
    return wire(source, "Done", target, "Execute Condition")


def barrier(phases, width):
    """Every node of a phase waits for every node of the one before it."""
    nodes = [light(f"{phase}-{n}") for phase in range(phases) for n in range(width)]
    edges = [
        follows(f"{phase - 1}-{a}", f"{phase}-{b}")
        for phase in range(1, phases)
        for a in range(width)
        for b in range(width)
    ]
    return nodes, edges


def test_nodes_land_in_the_first_phase_after_all_that_they_wait_for():
    edges = [follows("a", "c"), follows("b", "c"), follows("a", "d"), follows("c", "e"), follows("a", "e")]

    assert ids(planned([light(name) for name in "abcde"], *edges)) == [["a", "b"], ["c", "d"], ["e"]]


def test_a_template_is_a_dependency_like_a_wire():
    nodes = [light("b", Data_1='{{ nodes.a["Merged Data"] }}'), light("a")]

    assert ids(planned(nodes)) == [["a"], ["b"]]
    assert list(planned(nodes).edges()) == [("a", "b")]


def test_the_short_form_of_a_template_is_one_too():
    nodes = [light("c", Data_1="{{ Merged Data }}"), light("a")]

    the_plan = planned(nodes, follows("a", "c"))

    assert ids(the_plan) == [["a"], ["c"]]
    assert [source for _, source in the_plan.nodes[0].reads] == [1]


def test_the_order_is_that_of_the_canvas_whatever_the_order_of_the_edges():
    nodes, edges = barrier(3, 5)
    wanted = ids(planned(nodes, *edges))
    for seed in range(5):
        random.Random(seed).shuffle(edges)
        assert ids(planned(nodes, *edges)) == wanted == [[f"{p}-{n}" for n in range(5)] for p in range(3)]


def test_ten_phases_of_ten_that_all_wait_for_each_other_are_planned_at_once():
    definition = Definition.from_json(graph(*barrier(10, 10)[:1], *barrier(10, 10)[1]))
    durations = []
    for _ in range(3):
        begun = time.thread_time()
        the_plan = plan(definition)
        durations.append(time.thread_time() - begun)

    assert [len(phase) for phase in the_plan.phases] == [10] * 10
    assert min(durations) < 0.05


def test_a_chain_of_a_thousand_nodes_is_planned_at_once():
    names = [f"n{n}" for n in range(1000)]
    nodes = [light(name) for name in names]
    definition = Definition.from_json(graph(nodes, *map(follows, names, names[1:])))
    seconds = []
    for _ in range(3):  # the collector may walk everything that a long test run has made
        begun = time.thread_time()
        the_plan = plan(definition)
        seconds.append(time.thread_time() - begun)

    assert len(the_plan.phases) == 1000
    assert min(seconds) < 0.2


def test_a_cycle_is_named():
    with pytest.raises(DefinitionError, match='"b" is part of a cycle'):
        planned([light("a"), light("b"), light("c")], follows("b", "c"), follows("c", "b"))


def test_a_cycle_of_a_wire_and_a_template_is_named():
    with pytest.raises(DefinitionError, match="cycle"):
        planned([light("a", Data_1="{{ nodes.b.Done }}"), light("b")], follows("a", "b"))


def test_a_node_that_waits_for_itself_is_a_cycle():
    with pytest.raises(DefinitionError, match="cycle"):
        planned([light("a")], follows("a", "a"))


def test_an_unknown_type_is_named():
    with pytest.raises(UnknownNodeType, match="no_such_type"):
        planned([node("a", "no_such_type")])


@pytest.mark.parametrize(
    ("edge", "place"), [(wire("a", "Nothing", "b", "Data 1"), '"a"'), (wire("a", "Done", "b", "Nothing"), '"b"')]
)
def test_a_wire_at_a_port_that_does_not_exist_is_named(edge, place):
    with pytest.raises(DefinitionError, match=f'node {place} has no port "Nothing"'):
        planned([light("a"), light("b")], edge)


def packed(*kinds):
    nodes = [node(f"n{n}", kind) for n, kind in enumerate(kinds)]
    the_plan = planned(nodes)
    return [(group.kind, len(group.indexes)) for group in headers(the_plan, range(len(nodes)))], headers(
        the_plan, range(len(nodes))
    )


def test_light_nodes_fill_headers():
    assert packed(*["merge_data"] * 70)[0] == [("default", 32), ("default", 32), ("default", 6)]


def test_nodes_that_wait_spread_over_headers():
    assert packed(*["delay"] * 20)[0] == [("default", 8), ("default", 8), ("default", 4)]


def test_light_nodes_go_where_there_is_room():
    assert packed(*["delay"] * 6, *["merge_data"] * 10)[0] == [("default", 14), ("default", 2)]


def test_the_nodes_of_one_page_stay_together_in_canvas_order():
    counts, groups = packed("get_html", "merge_data", "get_html", "delay")

    assert counts == [("browser", 3), ("default", 1)]
    assert groups[0].indexes[:2] == (0, 2)


def test_a_page_is_used_by_its_nodes_and_by_loops_whose_turns_open_none():
    opens: dict[str, Any] = {"Website_URL": "http://a.test"}
    nodes = [
        node("open", "launch_standard_browser", **opens),
        node("around", "loop_items", Items=[1]), node("inner", "loop_items", Items=[1]), node("read", "get_html"),
        node("apart", "loop_items", Items=[1]), node("own", "launch_standard_browser", **opens), node("see", "get_html"),
        light("after"),
    ]  # fmt: skip
    the_plan = planned(
        nodes, follows("open", "around"), wire("around", "Each", "inner", "Execute Condition"),
        wire("inner", "Each", "read", "Execute Condition"), wire("open", "Web Page", "read", "Web Page"),
        follows("around", "apart"), wire("apart", "Each", "own", "Execute Condition"),
        wire("own", "Web Page", "see", "Web Page"), follows("apart", "after"),
    )  # fmt: skip
    position = the_plan.positions

    assert ids(the_plan) == [["open"], ["around"], ["apart"], ["after"]]
    assert the_plan.page_users() == {position["open"], position["around"]}
    assert not the_plan.last_on_page(0, [position["open"]])
    assert the_plan.last_on_page(1, [position["around"]])
    assert not the_plan.last_on_page(1, [])
    assert the_plan.last_on_page(2, [])
    assert the_plan.body(position["around"]).page_users() == {position["inner"]}
    assert the_plan.body(position["apart"]).page_users() == {position["own"], position["see"]}


def test_every_node_is_in_exactly_one_header():
    kinds = ["merge_data", "delay", "get_html"]
    for seed in range(20):
        spread = random.Random(seed)
        chosen = spread.choices(kinds, k=spread.randint(1, 3 * HEADER_CAPACITY))
        _, groups = packed(*chosen)
        assert sorted(index for group in groups for index in group.indexes) == list(range(len(chosen)))
