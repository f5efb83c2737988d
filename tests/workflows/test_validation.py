"""What validation finds, all at once, and how fast."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import process_time, thread_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import graph, node, wire
from workflows.definition import Definition
from workflows.registry import accepted_types, fit
from workflows.validation import Finding, KnownCredential, Limits, errors, examine, validate

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


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"a": {{ input.x }}', "character 20: this begins like JSON and is none: expecting ',' delimiter"),
        ('{\n "a": {{ input.x }}\n "b": 1}', "line 3, character 2: this begins like JSON and is none"),
        ('["{{ input.x }}", {{ input.y }}', "this begins like JSON and is none"),
        ('{"a": 1', "character 8: this begins like JSON and is none: expecting ',' delimiter"),
        ('{"a": {{ input.x }}}', ""),
        ('{"a": "{{ input.x }} and {{ input.y }}", {{ input.name }}: [{{ input.z }}]}', ""),
        ('{"a\\"b": "{{ input.x }}"}', ""),
        ('[1{{ input.more }}]', ""),
        ('{"price": -{{ input.whole }}.{{ input.cents }}}', ""),
        ("{{ input.x }}", ""),
        ("plain", ""),
        (' {"a": {"b": 1}} ', ""),
    ],
)  # fmt: skip
def test_a_text_that_begins_like_json_and_is_none_gets_a_warning(text: str, where: str) -> None:
    findings = check([node("f", "form", Json=text)])
    broken = [finding for finding in findings if finding.field == "Json"]

    assert [(finding.code, finding.severity) for finding in broken] == ([("BROKEN_JSON", "warning")] if where else [])
    assert where in "".join(finding.message for finding in broken)


def test_broken_json_is_told_before_what_is_wrong_with_its_template() -> None:
    findings = check([node("f", "form", Json='{"a": {{ x }}')])

    assert [one.code for one in findings if one.field == "Json"] == ["BROKEN_JSON", "BAD_TEMPLATE"]


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


def test_two_wires_of_one_id_are_told() -> None:
    wires = [{**wire("a", "Done", target, "Execute Condition"), "id": "e"} for target in ("n", "m")]

    findings = check([node("a", "begin"), node("n", "step"), node("m", "step")], *wires)

    assert [(one.code, one.severity, one.edge_id, one.node_id) for one in findings] == [
        ("DUPLICATE_EDGE", "warning", "e", "m")
    ]


def test_a_wrong_zone_does_not_hide_a_wrong_cron() -> None:
    findings = check([node("a", "begin")], extra={"cron": "*/2 * * * *", "timezone": "Europe/Berln"})

    assert [(one.code, one.field) for one in findings] == [("BAD_CRON", "timezone"), ("INTERVAL_TOO_SHORT", "cron")]


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


SHOP = KnownCredential("password", frozenset({"username", "password"}))


@pytest.mark.row("S2-08")
def test_a_credential_of_another_kind_is_an_error_that_names_one_that_fits() -> None:
    proxy = KnownCredential("proxy", frozenset({"server"}))
    known = {
        "shop": SHOP,
        "way": proxy,
        "5b0a6f6a-6f7c-4c7e-9d2a-0e1f6f1d2c3b": proxy,
        "old": KnownCredential("token", None),
    }

    def problem(reference: str, **stored: KnownCredential) -> tuple[str, str, str | None, str | None, str] | None:
        nodes = [node("f", "form", Way={"$credential": reference})]
        findings = check(nodes, credentials=stored or known)
        return next(((f.code, f.message, f.node_id, f.field, f.hint) for f in findings), None)

    assert problem("way") is None
    text = 'input "Way" of "f": the credential "shop" is of the kind password; this input takes proxy or bearer'
    assert problem("shop") == ("CREDENTIAL_KIND", text, "f", "Way", 'choose "old" or "way"')
    assert problem("shop", shop=SHOP) == (
        "CREDENTIAL_KIND", text, "f", "Way", "add one of the kind proxy or bearer under Credentials",
    )  # fmt: skip
    assert problem("old") is None, "a kind by its older name"
    assert check([node("f", "form", Way={"$credential": "way"})], credentials=["way"]) == []


@pytest.mark.row("S2-08")
@pytest.mark.parametrize(
    ("reference", "code", "text"),
    [
        ({"$credential": "shop"}, None, ""),
        ({"$credential": "shop", "field": "username"}, None, ""),
        ({"$credential": "shop", "field": "pasword"}, "CREDENTIAL_FIELD", 'it has "password", "username"'),
        ({"$credential": "shpo"}, "MISSING_CREDENTIAL", 'no credential "shpo" of yours'),
        ({"$credential": "closed", "field": "any"}, None, ""),
        ({"$credential": "old"}, "CREDENTIAL_EXPIRED", "expired on 2020-01-02 03:04 UTC"),
        ({"$credential": "fresh", "field": ""}, None, ""),
        ({"$credential": "bearer"}, None, ""),
        ({"$credential": "bearer", "field": "username"}, "CREDENTIAL_FIELD", '(bearer) has no field "username"'),
    ],
)
def test_a_reference_to_a_credential_is_checked_against_what_is_stored(
    reference: dict[str, Any], code: str | None, text: str
) -> None:
    known = {
        "shop": SHOP,
        "closed": KnownCredential("custom", None),
        "old": replace(SHOP, expires_at=datetime(2020, 1, 2, 3, 4, tzinfo=UTC)),
        "fresh": replace(SHOP, expires_at=datetime.now(UTC) + timedelta(hours=1)),
        "bearer": KnownCredential("bearer", frozenset({"token"})),
    }

    findings = check([node("f", "form", Json={"deep one": [reference]})], credentials=known)

    assert [finding.code for finding in findings] == ([code] if code else [])
    if code:
        assert text in findings[0].message
        assert findings[0].path == 'nodes[0].data.inputs.Json["deep one"][0]'
        assert findings[0].severity == "error"


def test_the_credential_that_is_meant_is_offered() -> None:
    reference = {"$credential": "shpo", "field": "pasword"}

    missing = check([node("f", "form", Secret=reference)], credentials={"shop": SHOP})
    slip = check([node("f", "form", Secret={**reference, "$credential": "shop"})], credentials={"shop": SHOP})

    assert missing[0].hint == 'did you mean "shop"?'
    assert slip[0].hint == 'did you mean "password"?'


# ---------------------------------------------------------------------- templates


def test_a_finding_in_a_text_has_its_place_in_numbers() -> None:
    findings = check(
        [
            node("a", "begin"),
            node("s", "step", In="{{ oops", More={"k": [{"a b": "one\ntwo {{ nodes.gone.Out }}"}]}),
            node("c", "judge", Condition="index <\n  )"),
        ]
    )

    assert [(one.code, one.path, one.position, one.line) for one in findings if one.position is not None] == [
        ("BAD_CONDITION", "nodes[2].data.inputs.Condition", 10, 2),
        ("BAD_TEMPLATE", "nodes[1].data.inputs.In", 0, 1),
        ("BAD_TEMPLATE", 'nodes[1].data.inputs.More.k[0]["a b"]', 11, 2),
    ]
    assert "line 2, character 8: there is no node" in findings[-1].message
    assert "line 2, character 3: is no condition (CEL): unexpected ')'" in findings[0].message


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


# ---------------------------------------------------------------------- structure and slips


def test_problems_of_the_structure_are_findings_beside_all_others() -> None:
    findings = examine(
        {
            "nodes": [
                {"id": "a", "type": "begin", "data": {"retries": "x"}},
                {"id": "n", "type": "need"},
                {"id": "n", "type": "begin"},
                {"id": "t"},
                5,
            ],
            "edges": [{"source": "a"}],
            "cron": "bad",
        }
    )

    assert [(one.code, one.node_id, one.field) for one in findings] == [
        ("BAD_SHAPE", "a", "retries"),
        ("BAD_SHAPE", "n", "nodes[2].id"),
        ("BAD_SHAPE", "t", "nodes[3].type"),
        ("BAD_SHAPE", None, "nodes[4]"),
        ("BAD_SHAPE", None, "edges[0].target"),
        ("BAD_SHAPE", None, "edges[0].sourceHandle"),
        ("BAD_SHAPE", None, "edges[0].targetHandle"),
        ("BAD_CRON", None, "cron"),
        ("MISSING_INPUT", "n", "In"),
        ("UNREACHABLE", "n", None),
    ]
    assert findings[0].path == "nodes[0].data.retries"


@pytest.mark.parametrize("data", [None, [], 5, {"nodes": None}])
def test_what_is_no_workflow_at_all_is_one_finding(data: Any) -> None:
    assert [finding.code for finding in examine(data)] == ["BAD_SHAPE"]


@pytest.mark.parametrize(
    ("change", "field", "hint"),
    [
        ({"data": {"retrys": 3}}, "retrys", 'did you mean "retries"?'),
        ({"data": {"sensitive_inputs": ["x"]}}, "sensitive_inputs", "record_inputs"),
        ({"data": {"execute_once": True}}, "execute_once", "ui or meta"),
        ({"data": {"inputs": {"Colour": "red"}}}, "Colour", ""),
        (
            {"data": {"notes": "why", "ui": {"x": 1}, "meta": {}, "color": "red", "icon": "x", "description": "d"}},
            "",
            "",
        ),
    ],
)
def test_a_setting_of_a_node_without_effect_is_told(change: dict[str, Any], field: str, hint: str) -> None:
    findings = check([{**node("a", "begin"), **change}])

    assert [finding.field for finding in findings] == ([field] if field else [])
    assert all(finding.severity == "warning" and hint in finding.hint for finding in findings)


@pytest.mark.parametrize(
    ("extra", "field", "hint"),
    [
        ({"setings": {}}, "setings", 'did you mean "settings"?'),
        ({"viewport": {"x": 1}, "author": "me"}, "", ""),
        ({"settings": {"concurency": 1}}, "settings.concurency", 'did you mean "concurrency"?'),
        ({"settings": {"tags": ["a"], "deadline_s": 5}}, "", ""),
        ({"status": "activ"}, "status", 'did you mean "active"?'),
        ({"status": "Completed"}, "", ""),
    ],
)
def test_a_slip_at_the_top_is_told(extra: dict[str, Any], field: str, hint: str) -> None:
    findings = check([node("a", "begin")], extra=extra)

    assert [(finding.code, finding.field) for finding in findings] == ([("UNKNOWN_FIELD", field)] if field else [])
    assert [finding.hint for finding in findings] == ([hint] if field else [])


@pytest.mark.parametrize("settings", [{"deadline_s": 0}, {"deadline_s": "1"}, {"tags": "a"}, {"tags": [""]}])
def test_a_setting_that_cannot_be_is_an_error(settings: dict[str, Any]) -> None:
    assert [finding.code for finding in check([node("a", "begin")], extra={"settings": settings})] == ["BAD_SETTING"]


def test_an_input_under_two_names_is_told() -> None:
    findings = check([node("f", "form", Choice="equals", Comparison="contains")])

    assert found(findings) == [("DUPLICATE_INPUT", "f", "Choice")]


# ---------------------------------------------------------------------- schedule and limits


@pytest.mark.row("S2-10")
def test_a_graph_over_the_limits_is_answered_without_a_look_at_the_rest() -> None:
    nodes = [{"id": "n", "type": 5, "data": {"inputs": {"x": object()}}}] * 3  # nothing that could be read

    findings = examine({"nodes": nodes, "edges": [None] * 4}, limits=Limits(nodes=2, edges=3))

    assert [finding.code for finding in findings] == ["LIMIT_NODES", "LIMIT_EDGES"]


@pytest.mark.row("S2-10")
def test_a_value_may_be_only_so_large_and_a_path_only_so_long() -> None:
    chain = [node(f"n{i}", "step", In="x" * 600) for i in range(4)]
    wires = [wire(f"n{i}", "Out", f"n{i + 1}", "More") for i in range(3)]

    assert check(chain, *wires, limits=Limits(payload_bytes=602, depth=4)) == []
    assert found(check(chain[:1], limits=Limits(payload_bytes=601))) == [("LIMIT_PAYLOAD", "n0", "In")]
    assert found(check(chain, *wires, limits=Limits(depth=3))) == [("LIMIT_DEPTH", None, None)]


@pytest.mark.row("S2-10")
def test_a_disabled_node_costs_nothing() -> None:
    nodes = [node("a", "begin"), node("b", "begin", {"disabled": True})]

    assert check(nodes, limits=Limits(credits=1)) == []
    assert found(check(nodes[:1] * 1 + [node("c", "begin")], limits=Limits(credits=1))) == [
        ("LIMIT_CREDITS", None, None)
    ]


def test_only_so_many_findings_are_told_errors_first() -> None:
    nodes = [node("s", "step", In=[f"{{{{ vars.v{i} }}}}" for i in range(1500)], More="{{")]

    findings = check(nodes, variables=[])

    assert len(findings) == 1001
    assert (findings[0].code, findings[-1].code, findings[-1].severity) == ("BAD_TEMPLATE", "MORE", "warning")
    assert "501 more" in findings[-1].message


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


@pytest.mark.row("S2-10")
def test_fault_47_ten_thousand_nodes_and_fifty_thousand_edges_take_less_than_two_seconds() -> None:
    count, each = 10_000, 5
    nodes = [
        node("n0", "begin"),
        *(node(f"n{i}", "step", In=f"{{{{ nodes.n{i // 2}.Text }}}}") for i in range(1, count)),
    ]
    edges = [
        {**wire(f"n{i}", "Done", f"n{min(i + 1 + j * 7, count - 1)}", "Execute Condition"), "id": f"e{i}-{j}"}
        for i in range(count - 1)
        for j in range(each)
    ]
    edges += [{**wire("n0", "Done", f"n{i}", "Execute Condition"), "id": f"x{i}"} for i in range(2, 7)]
    data = graph(nodes, *edges)
    assert (len(nodes), len(edges)) == (10_000, 50_000)
    roomy = Limits(nodes=10_000, edges=50_000, depth=10_000, definition_bytes=100_000_000, payload_bytes=100_000_000)

    def seconds(limits: Limits, codes: list[str]) -> float:
        # Time of this process alone, the best of three: other work on the machine does not count.
        times = []
        for _ in range(3):
            start = process_time()
            assert [finding.code for finding in examine(data, limits=limits)] == codes
            times.append(process_time() - start)
        return min(times)

    assert seconds(roomy, []) < 2
    assert seconds(Limits(), ["LIMIT_NODES", "LIMIT_EDGES"]) < 0.01
