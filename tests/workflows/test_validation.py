"""What validation finds, all at once, and how fast."""

from __future__ import annotations

from time import thread_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import graph, node, wire
from workflows.definition import Definition
from workflows.registry import accepted_types, fit
from workflows.validation import Finding, Limits, errors, validate

pytestmark = pytest.mark.usefixtures("types")


def check(
    nodes: list[dict[str, Any]], *edges: dict[str, Any], extra: dict[str, Any] | None = None, **options: Any
) -> list[Finding]:
    return validate(Definition.from_json({**graph(nodes, *edges), **(extra or {})}), **options)


def found(findings: list[Finding]) -> list[tuple[str, str | None, str | None]]:
    return [(finding.code, finding.node_id, finding.field) for finding in findings]


def test_a_good_workflow_has_no_findings() -> None:
    findings = check(
        [
            node("o", "open", Website_URL="{{ vars.url }}"),
            node("c", "click", Selector="#x"),
            node("s", "step", In="{{ nodes.o.Done }}"),
        ],
        wire("o", "Page", "c", "Page"),
        wire("c", "done", "s", "execute-condition"),
        variables=["url"],
    )

    assert findings == []


@pytest.mark.row("S2-04")
def test_a_dangling_edge_is_a_warning_only() -> None:
    findings = check(
        [node("o", "open", Website_URL="x")], wire("o", "Page", "gone", "Page"), wire("lost", "Out", "o", "x")
    )

    assert [(one.code, one.severity, one.node_id) for one in findings] == [
        ("DANGLING_EDGE", "warning", "o"),
        ("DANGLING_EDGE", "warning", "o"),
    ]
    assert "there is no such node" in findings[0].message
    assert '"gone"' in findings[0].message


# ---------------------------------------------------------------------- connectivity


@pytest.mark.row("S2-06")
def test_an_empty_workflow_has_no_entry_point() -> None:
    assert found(check([])) == [("NO_ENTRY_POINT", None, None)]


@pytest.mark.row("S2-06")
def test_a_node_that_cannot_start_needs_one_before_it() -> None:
    findings = check(
        [node("a", "begin"), node("n", "need", In="x"), node("m", "need", In="x")], wire("n", "Need Out", "m", "In")
    )

    assert found(findings) == [("UNREACHABLE", "n", None), ("UNREACHABLE", "m", None)]
    assert "cannot start" in findings[0].message


@pytest.mark.row("S2-06")
def test_without_a_start_node_there_is_no_entry_point() -> None:
    assert ("NO_ENTRY_POINT", None, None) in found(check([node("n", "need", In="x")]))


@pytest.mark.row("S2-06")
def test_a_cycle_is_named_once_with_its_nodes_in_the_direction_of_the_wires() -> None:
    findings = check(
        [node("s", "begin"), *(node(name, "step") for name in "abcd")],
        wire("s", "Text", "a", "In"),
        wire("a", "Out", "b", "In"),
        wire("b", "Out", "c", "In"),
        wire("c", "Out", "a", "More"),
        wire("c", "Out", "d", "In"),
    )

    assert [(one.code, one.node_id) for one in findings] == [("CYCLE", "a")]
    assert '"a" -> "b" -> "c" wait for each other' in findings[0].message


@pytest.mark.row("S2-06")
def test_templates_close_cycles_too_and_a_node_may_not_wait_for_itself() -> None:
    findings = check(
        [
            node("a", "step", In="{{ nodes.b.Out }}"),
            node("b", "step", In="{{ nodes.a.Out }}"),
            node("c", "step", In="{{ nodes.c.Out }}"),
            node("d", "begin"),
        ]
    )

    assert [(one.code, one.message.split(" wait")[0]) for one in findings] == [
        ("CYCLE", '"a" -> "b"'),
        ("CYCLE", '"c"'),
    ]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=16))
@settings(max_examples=80, deadline=None)
def test_cycles_are_found_exactly_where_a_walk_comes_back(pairs: list[tuple[int, int]]) -> None:
    edges = [{**wire(f"n{a}", "Out", f"n{b}", "Execute Condition"), "id": f"e{i}"} for i, (a, b) in enumerate(pairs)]
    findings = check([node(f"n{i}", "step") for i in range(8)], *edges)
    reach = {i: {i_ for a, i_ in pairs if a == i} for i in range(8)}
    for _ in range(8):
        reach = {i: targets.union(*(reach[t] for t in targets)) for i, targets in reach.items()}
    components = {frozenset(j for j in reach[i] if i in reach[j]) for i in range(8) if i in reach[i]}

    assert sum(one.code == "CYCLE" for one in findings) == len(components)


# ---------------------------------------------------------------------- wires


@pytest.mark.row("S2-07")
def test_incompatible_types_are_refused_with_both_names() -> None:
    findings = check([node("a", "begin"), node("c", "click", Selector="x")], wire("a", "Text", "c", "Page"))

    assert found(findings) == [("TYPE_MISMATCH", "c", "Page")]
    assert findings[0].message == '"Text" of "a" gives STRING; "Page" of "c" takes BROWSER_INSTANCE'


@pytest.mark.row("S2-07")
@pytest.mark.parametrize(
    ("source", "target", "how"),
    [
        ("STRING", "STRING", "exact"),
        ("STRING", "JSON", "coerced"),
        ("JSON", "STRING", "coerced"),
        ("NUMBER", "STRING", "coerced"),
        ("STRING", "ANY", "coerced"),
        ("ANY", "NUMBER", "loose"),
        ("JSON", "LIST", "loose"),
        ("STRING", "NUMBER", "none"),
        ("STRING", "BOOLEAN", "none"),
        ("BROWSER_INSTANCE", "ANY", "none"),
        ("ANY", "BROWSER_INSTANCE", "none"),
        ("CONDITIONAL", "ANY", "none"),
        ("BOOLEAN", "CONDITIONAL", "none"),
        ("CONDITIONAL", "CONDITIONAL", "exact"),
        ("STRING", "CREDENTIAL", "none"),
        ("STRING", "FILE", "none"),
    ],
)
def test_the_table_of_types(source: Any, target: Any, how: str) -> None:
    assert fit(source, target) == how
    assert (source in accepted_types(target)) == (how != "none")


@pytest.mark.row("S2-07")
def test_other_bad_wires() -> None:
    findings = check(
        [node("a", "begin"), node("b", "begin"), node("n", "need"), node("o", "open", Website_URL="x")],
        wire("a", "Nope", "n", "In"),
        wire("a", "Text", "n", "Nope"),
        wire("b", "Text", "n", "in"),
        wire("b", "Text", "o", "Website URL"),
        wire("a", "Done", "n", "Execute Condition"),
        wire("b", "Done", "n", "Execute Condition"),
    )

    assert found(findings) == [
        ("UNKNOWN_HANDLE", "a", "Nope"),
        ("UNKNOWN_HANDLE", "n", "Nope"),
        ("DUPLICATE_TARGET", "n", "In"),
        ("NOT_WIREABLE", "o", "Website URL"),
    ]
    assert "it has Text, Html Content, Count, Done" in findings[0].message


def test_a_wire_that_may_fail_is_a_warning() -> None:
    findings = check([node("s", "step"), node("f", "form")], wire("s", "Out", "f", "Number"))

    assert [(one.code, one.severity, one.edge_id) for one in findings] == [("LOOSE_TYPE", "warning", "s.Out-f.Number")]


# ---------------------------------------------------------------------- inputs


def test_unknown_types_and_inputs() -> None:
    findings = check([node("x", "nope"), node("a", "begin", Colour="red")])

    assert [(one.code, one.severity, one.node_id) for one in findings] == [
        ("UNKNOWN_TYPE", "error", "x"),
        ("UNKNOWN_INPUT", "warning", "a"),
    ]


def test_a_required_input_is_typed_or_wired_and_a_page_comes_from_anywhere_before() -> None:
    findings = check(
        [
            node("o", "open", Website_URL=""),
            node("c", "click", Selector="x"),
            node("d", "click", Selector=""),
            node("n", "need", In="x", policy={"disabled": True}),
            node("m", "need", policy={"disabled": True}),
        ],
        wire("o", "Done", "c", "Execute Condition"),
        wire("o", "Done", "n", "Execute Condition"),
        wire("o", "Done", "m", "Execute Condition"),
    )

    assert found(findings) == [
        ("MISSING_INPUT", "o", "Website URL"),
        ("MISSING_INPUT", "d", "Selector"),
        ("MISSING_INPUT", "d", "Page"),
        ("UNREACHABLE", "d", None),
    ]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("Number", 5, None),
        ("Number", "5", None),
        ("Number", "{{ input.n }}", None),
        ("Number", "", None),
        ("Number", "five", "must be a number"),
        ("Number", True, "must be a number"),
        ("Number", "nan", "must be a number"),
        ("Number", [5], "must be a number"),
        ("Number", 0, "at least 1"),
        ("Number", 11, "at most 10"),
        ("Flag", True, None),
        ("Flag", "False", None),
        ("Flag", "maybe", "true or false"),
        ("Choice", "EQUALS", None),
        ("Choice", "==", None),
        ("Comparison", "contains", None),
        ("Choice", "like", "one of equals, contains"),
        ("List", [1], None),
        ("List", "[1]", None),
        ("List", "1", "must be a list"),
        ("Json", "anything", None),
        ("Secret", "hunter2", "never written into a workflow"),
        ("Secret", {"$credential": "mine"}, None),
        ("Secret", {"$credential": ""}, "choose a credential"),
        ("Json", {"deep": [{"$credential": "theirs", "field": "password"}]}, 'no credential "theirs"'),
    ],
)
def test_typed_values(name: str, value: Any, problem: str | None) -> None:
    findings = check([{**node("f", "form"), "data": {"inputs": {name: value}}}], credentials={"mine"})

    if problem is None:
        assert findings == []
    else:
        assert len(findings) == 1
        assert problem in findings[0].message
        assert findings[0].severity == "error"


@pytest.mark.row("S2-08")
def test_a_missing_credential_is_an_error_and_none_skips_the_check() -> None:
    nodes = [node("f", "form", Secret={"$credential": "gone", "field": "password"})]

    assert found(check(nodes)) == [("MISSING_CREDENTIAL", "f", "Secret")]
    assert check(nodes, credentials=["gone"]) == []
    assert check(nodes, credentials=None) == []


# ---------------------------------------------------------------------- templates


def test_bad_templates_say_where() -> None:
    findings = check(
        [
            node("a", "begin"),
            node("b", "begin"),
            node("s", "step", In="x {{ nodes.gone.Out }}", More={"k": ["{{ nodes.a.Nope }}", "{{ oops"]}),
            node("t", "step", In="{{ Html Content }}", More="{{ item }}"),
            node(
                "u", "step", In="{{ Need Out }}", More="{{ vars.gone }} {{ vars.here }} {{ vars.other | default(1) }}"
            ),
        ],
        wire("a", "Text", "t", "Execute Condition"),
        wire("b", "Text", "t", "Execute Condition"),
        variables=["here"],
    )
    texts = {finding.message for finding in findings if finding.code == "BAD_TEMPLATE"}

    assert 'input "In" of "s", character 6: there is no node "gone"' in texts
    assert any('"More.k[0]" of "s"' in text and 'has no output "Nope"' in text for text in texts)
    assert any('"More.k[1]" of "s", character 1' in text for text in texts)
    assert any('may mean the output of "a" or of "b"' in text for text in texts)
    assert any("only inside a loop" in text for text in texts)
    assert any('no node before "u"' in text for text in texts)
    assert [one.message for one in findings if one.code == "UNKNOWN_VARIABLE"] == [
        'input "More" of "u" names vars.gone, which is not set'
    ]


# ---------------------------------------------------------------------- schedule and limits


@pytest.mark.row("S2-09")
@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ({"cron": "0 9 * * 1-5"}, None),
        ({"cron": ""}, None),
        ({"cron": "0 9 * *"}, "BAD_CRON"),
        ({"cron": "0 0 31 2 *"}, "BAD_CRON"),
        ({"cron": "0 9 * * *", "timezone": "Mars/Base"}, "BAD_CRON"),
        ({"cron": "*/2 * * * *"}, "INTERVAL_TOO_SHORT"),
    ],
)
def test_the_schedule_in_the_definition(extra: dict[str, Any], code: str | None) -> None:
    assert [one.code for one in check([node("a", "begin")], extra=extra)] == ([code] if code else [])


@pytest.mark.row("S2-10")
def test_limits_name_the_number_and_the_limit() -> None:
    nodes = [node(f"n{i}", "begin", policy={"timeout_s": 50}) for i in range(3)]
    edges = [wire("n0", "Done", "n1", "Execute Condition"), wire("n1", "Done", "n2", "Execute Condition")]
    small = Limits(nodes=2, edges=1, definition_bytes=100, timeout_s=10, credits=2)

    findings = check(nodes, *edges, limits=small)

    assert [one.code for one in findings] == ["LIMIT_NODES", "LIMIT_EDGES", "LIMIT_SIZE"]
    assert findings[0].message == "the workflow has 3 nodes; the limit is 2"
    narrow = Limits(timeout_s=10, credits=2, depth=2)
    assert [one.code for one in check(nodes, *edges, limits=narrow)] == [
        "LIMIT_CREDITS",
        *["LIMIT_TIMEOUT"] * 3,
        "LIMIT_DEPTH",
    ]
    assert check(nodes, *edges) == []


@pytest.mark.row("S2-10")
def test_browser_sessions_are_limited() -> None:
    nodes = [{**node(f"o{i}", "open"), "data": {"inputs": {"Website URL": "x", "Session": f"s{i}"}}} for i in range(3)]

    codes = [one.code for one in check(nodes, limits=Limits(browser_sessions=2)) if one.severity == "error"]

    assert codes == ["LIMIT_BROWSERS"]


def test_everything_is_reported_at_once() -> None:
    findings = check(
        [node("x", "nope"), node("n", "need"), node("f", "form", Number="x"), node("s", "step", In="{{")],
        wire("s", "Out", "s", "More"),
        extra={"cron": "bad"},
    )

    assert {one.code for one in findings} == {
        "BAD_CRON", "UNKNOWN_TYPE", "MISSING_INPUT", "INVALID_INPUTS", "BAD_TEMPLATE", "CYCLE", "UNREACHABLE",
    }  # fmt: skip
    assert len(errors(findings)) == len(findings)


def test_a_finding_as_json_has_all_keys() -> None:
    (finding,) = check([node("n", "weather")])

    assert finding.to_json() == {
        "code": "UNKNOWN_TYPE",
        "severity": "error",
        "message": 'node "n" has the type "weather", which does not exist',
        "node_id": "n",
        "field": None,
        "hint": "./flow nodes list shows what exists",
        "edge_id": None,
        "path": "nodes[0].type",
        "position": None,
        "line": None,
    }


# ---------------------------------------------------------------------- speed


def best_ms(definition: Definition, limits: Limits) -> float:
    # Time of this thread alone: other work on the machine does not count.
    times = []
    for _ in range(5):
        start = thread_time()
        assert validate(definition, limits=limits) == []
        times.append((thread_time() - start) * 1000)
    return min(times)


def test_a_ten_by_ten_barrier_graph_is_quick() -> None:
    # Every node of a layer leads to every node of the next: 10^10 paths, 900 wires.
    nodes = [node(f"n{layer}-{i}", "step") for layer in range(10) for i in range(10)]
    edges = [
        {**wire(f"n{layer}-{i}", "Done", f"n{layer + 1}-{j}", "Execute Condition"), "id": f"e{layer}-{i}-{j}"}
        for layer in range(9) for i in range(10) for j in range(10)
    ]  # fmt: skip

    assert best_ms(Definition.from_json(graph(nodes, *edges)), Limits()) < 50


def test_a_thousand_nodes_take_less_than_fifty_milliseconds() -> None:
    nodes = [
        node("n0", "begin"),
        *(node(f"n{i}", "step", In="{{ Html Content }} " + f"{{{{ nodes.n{i - 1}.Out }}}}") for i in range(1, 1000)),
    ]
    nodes[1]["data"]["inputs"]["In"] = "{{ Html Content }}"
    edges = [wire(f"n{i}", "Done", f"n{i + 1}", "Execute Condition") for i in range(999)]

    assert best_ms(Definition.from_json(graph(nodes, *edges)), Limits(nodes=1000, depth=1000)) < 50
