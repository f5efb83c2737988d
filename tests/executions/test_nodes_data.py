"""The data, flow and HTML nodes: each with its rules, its odd inputs and its errors."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from executions.errors import NodeInputError
from tests.executions.conftest import TestEnvironment
from workflows.registry import NODE_REGISTRY, PALETTE_GROUPS

CATALOGUE = {
    "launch_standard_browser": (5, "Browser Automation", True),
    "launch_stealth_browser": (6, "Browser Automation", True),
    "launch_bright_data_browser": (7, "Browser Automation", True),
    "fill_input": (1, "Browser Automation", False),
    "click_element": (1, "Browser Automation", False),
    "wait_for_element": (1, "Timing Controls", False),
    "delay": (1, "Timing Controls", True),
    "get_html": (2, "Data Extraction", False),
    "get_text_from_html": (2, "Data Extraction", True),
    "condense_html": (2, "Data Extraction", True),
    "json_transform": (2, "Data Storage", True),
    "merge_data": (1, "Data Storage", True),
    "read_property_from_json": (1, "Data Storage", True),
    "write_property_to_json": (1, "Data Storage", True),
    "code": (1, "Data Storage", True),
    "branch": (1, "Flow Control", True),
    "deliver_to_webhook": (2, "Deliver Results", True),
    "http_request": (1, "Data Extraction", True),
}


@pytest.mark.row("S2-05")
@pytest.mark.parametrize("node_type", CATALOGUE)
def test_every_node_type_has_the_cost_group_and_start_flag_of_the_catalogue(node_type: str) -> None:
    description = NODE_REGISTRY[node_type].description

    assert (description.credits, description.group, description.start) == CATALOGUE[node_type]
    assert description.group in PALETTE_GROUPS
    assert description.summary


@pytest.mark.row("S2-05")
def test_only_nodes_that_need_an_open_page_cannot_start_a_workflow() -> None:
    own = {kind for kind, executor in NODE_REGISTRY.items() if executor.__module__.startswith("executions.nodes.")}
    cannot = {kind for kind in own if not NODE_REGISTRY[kind].description.start}

    assert cannot == {"fill_input", "click_element", "wait_for_element", "get_html"}


@pytest.mark.row("S2-23")
def test_required_inputs_outputs_and_start_flag_come_from_the_description() -> None:
    executor = NODE_REGISTRY["fill_input"]()

    assert executor.required_input_keys == ["Selector", "Value", "Web Page"]
    assert executor.output_keys == ["Web Page"]
    assert executor.can_be_start_node is False


async def test_a_missing_required_input_is_named_with_its_type(env: TestEnvironment) -> None:
    with pytest.raises(NodeInputError, match=r'node "Node one" needs the input "Transform Rules" \(JSON\)'):
        await env.run("json_transform", Input_JSON="{}")


# ------------------------------------------------------------------ json_transform


@pytest.mark.row("S2-05")
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("$.a.b", 1),
        ("$.missing", None),
        ("hello", "hello"),
        (7, 7),
        ({"value": "$.a"}, "$.a"),
        ({"path": "$.text", "type": "number"}, 24.5),
        ({"path": "$.a.b", "type": "string"}, "1"),
        ({"path": "$.off", "type": "boolean"}, False),
        ({"path": "$.zero", "type": "boolean"}, False),
        ({"path": "$.a.b", "type": "array"}, [1]),
        ({"path": "$.missing", "default": "none", "type": "number"}, "none"),
        ({"path": "$.list[*].n", "all": True}, [1, 2]),
        ("$.list[?(@.n > 1)].n", 2),
        ({"plain": "object"}, {"plain": "object"}),
    ],
)
async def test_each_rule_of_json_transform(env: TestEnvironment, rule: Any, expected: Any) -> None:
    source = {"a": {"b": 1}, "text": " 24.5 ", "off": "false", "zero": "0", "list": [{"n": 1}, {"n": 2}]}

    outputs = await env.run("json_transform", Input_JSON=json.dumps(source), Transform_Rules={"out": rule})

    assert outputs["Result"] == {"out": expected}
    assert json.loads(outputs["Transformed JSON"]) == {"out": expected}


async def test_zip_pairs_lists_into_objects(env: TestEnvironment) -> None:
    outputs = await env.run(
        "json_transform",
        Input_JSON={"names": ["Mug", "Lamp"], "prices": ["9.50", "89"]},
        Transform_Rules={
            "products": {"zip": {"name": "$.names[*]", "price": {"path": "$.prices[*]", "type": "number"}}}
        },
    )

    assert outputs["Result"] == {"products": [{"name": "Mug", "price": 9.5}, {"name": "Lamp", "price": 89}]}


@pytest.mark.row("S2-27")
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"Input JSON": "{oops", "Transform Rules": {}},
            'input "Input JSON" of node "Node one" is not valid JSON: .*line 1',
        ),
        ({"Input JSON": "NaN", "Transform Rules": {}}, "NaN is not a JSON value"),
        ({"Input JSON": "[" * 100_000, "Transform Rules": {}}, "is not valid JSON"),
        ({"Input JSON": "{}", "Transform Rules": "[1]"}, "must be a JSON object"),
        ({"Input JSON": "{}", "Transform Rules": {"x": "$.["}}, r"rule \"x\": \$\.\[ is not a JSONPath"),
        (
            {"Input JSON": '{"a": "b"}', "Transform Rules": {"x": {"path": "$.a", "type": "number"}}},
            "'b' is not a number",
        ),
        ({"Input JSON": "{}", "Transform Rules": {"x": {"path": "$", "type": "date"}}}, "type must be string, number"),
        ({"Input JSON": "{}", "Transform Rules": {"x": "$..a..b..c"}}, "more than two"),
        ({"Input JSON": "{}", "Transform Rules": {"x": "$.a[?(@ =~ '(a+)+$')]"}}, "regular expression"),
    ],
)
async def test_json_transform_names_what_is_wrong(env: TestEnvironment, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(NodeInputError, match=message) as caught:
        await env.run_named("json_transform", inputs)

    assert caught.value.retryable is False


# ------------------------------------------------------------------ merge_data


@pytest.mark.row("S2-05")
@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("overwrite", {"a": 2, "list": [3], "deep": {"y": 2}, "b": 1}),
        ("append", {"a": 2, "list": [1, 2, 3], "deep": {"y": 2}, "b": 1}),
        ("deep", {"a": 2, "list": [3], "deep": {"x": 1, "y": 2}, "b": 1}),
        ("keep_first", {"a": 1, "list": [1, 2], "deep": {"x": 1}, "b": 1}),
        ("zip", {"a": 2, "list": [[1, 3], [2, None]], "deep": {"y": 2}, "b": 1}),
    ],
)
async def test_each_merge_strategy(env: TestEnvironment, strategy: str, expected: Any) -> None:
    first = {"a": 1, "list": [1, 2], "deep": {"x": 1}}
    second = {"a": 2, "list": [3], "deep": {"y": 2}, "b": 1}

    outputs = await env.run("merge_data", Data_1=first, Data_2=json.dumps(second), Merge_Strategy=strategy)

    assert outputs["Result"] == expected
    assert json.loads(outputs["Merged Data"]) == expected
    assert first == {"a": 1, "list": [1, 2], "deep": {"x": 1}}, "the input of another node was changed"


async def test_values_that_are_no_objects_get_numbered_keys_and_any_number_is_taken(env: TestEnvironment) -> None:
    outputs = await env.run_named("merge_data", {"Data 1": "plain", "Data 2": [1], "Data 12": {"k": "v"}})

    assert outputs["Result"] == {"input_1": "plain", "input_2": [1], "k": "v"}


async def test_zip_of_two_lists_of_objects_joins_them_row_by_row(env: TestEnvironment) -> None:
    outputs = await env.run(
        "merge_data", Data_1=[{"n": 1}, {"n": 2}], Data_2=[{"p": 3}, {"p": 4}], Merge_Strategy="zip"
    )

    assert outputs["Result"] == [{"n": 1, "p": 3}, {"n": 2, "p": 4}]


async def test_an_unknown_strategy_is_refused_with_the_list(env: TestEnvironment) -> None:
    with pytest.raises(NodeInputError, match="must be one of overwrite, append, deep, keep_first, zip"):
        await env.run("merge_data", Data_1={}, Data_2={}, Merge_Strategy="blend")


# ------------------------------------------------------------------ properties


@pytest.mark.row("S2-05")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("name", "x"),
        ("items[1].price", 5),
        ("items[-1].price", 5),
        ('["odd.key"]', 1),
        ("odd.key", 1),
        ("items[0]", {"price": 3}),
    ],
)
async def test_reading_a_property(env: TestEnvironment, path: str, expected: Any) -> None:
    document = {"name": "x", "items": [{"price": 3}, {"price": 5}], "odd.key": 1}

    outputs = await env.run("read_property_from_json", JSON=json.dumps(document), Property_Name=path)

    assert outputs == {"Property Value": expected}


async def test_a_missing_property_fails_unless_there_is_a_default(env: TestEnvironment) -> None:
    with pytest.raises(NodeInputError, match='has no property "items\\[7\\]"'):
        await env.run("read_property_from_json", JSON={"items": []}, Property_Name="items[7]")

    outputs = await env.run("read_property_from_json", JSON={}, Property_Name="a", Default="d")
    assert outputs == {"Property Value": "d"}


async def test_writing_a_property_nests_and_replaces_what_is_no_object(env: TestEnvironment) -> None:
    original = {"a": 1, "keep": True}

    outputs = await env.run("write_property_to_json", JSON=original, Property_Name="a.b.c", Property_Value="2")
    parsed = await env.run(
        "write_property_to_json", JSON=original, Property_Name="n", Property_Value="2", Parse_Value=True
    )

    assert json.loads(outputs["Updated JSON"]) == {"a": {"b": {"c": "2"}}, "keep": True}
    assert parsed["Result"]["n"] == 2
    assert original == {"a": 1, "keep": True}


# ------------------------------------------------------------------ branch


@pytest.mark.row("S2-22")
@pytest.mark.parametrize(
    ("left", "operator", "right", "expected"),
    [
        ("1.0", "equals", 1, True),
        ("a", "==", "A", False),
        ("a", "Not Equals", "b", True),
        ("9", "<", "10", True),
        ("abc", "less than", 5, False),
        (3, ">=", "3", True),
        (3, "less_than_or_equal", 2, False),
        ("hello", "contains", "ell", True),
        ([1, "2"], "includes", 2, True),
        ({"k": 1}, "contains", "k", True),
        ("hello", "not includes", "z", True),
        ("", "is empty", None, True),
        ([], "is empty", None, True),
        (None, "is empty", None, True),
        (0, "is not empty", None, True),
        ("abc-12", "matches", r"\d+$", True),
        ("prefix", "starts with", "pre", True),
        ("name.txt", "ends with", ".txt", True),
        ("b", "in", "a, b, c", True),
        (2, "in", "[1, 2]", True),
        ("d", "in", ["a"], False),
        ({"a": [1]}, "equals", {"a": [1]}, True),
        (True, "equals", "true", True),
    ],
)
async def test_each_operator_of_branch(
    env: TestEnvironment, left: Any, operator: str, right: Any, expected: bool
) -> None:
    outputs = await env.run("branch", Left_Value=left, Operator=operator, Right_Value=right)

    assert outputs["Result"] is expected
    assert outputs["True Path"] == ("execute" if expected else None)
    assert outputs["False Path"] == (None if expected else "execute")
    assert outputs["Data"] == outputs["Left Value"] == left


async def test_branch_accepts_the_documented_name_comparison(env: TestEnvironment) -> None:
    outputs = await env.run("branch", Left_Value=2, Comparison="greater than", Right_Value=1)

    assert outputs["Result"] is True


async def test_branch_says_how_it_compared(env: TestEnvironment) -> None:
    await env.run("branch", Left_Value="10", Operator=">", Right_Value="9")
    await env.run("branch", Left_Value="10", Operator=">", Right_Value="nine")

    assert "by numbers" in env.logs[0][1]
    assert "by text" in env.logs[1][1]


@pytest.mark.row("S2-27")
async def test_branch_refuses_what_it_cannot_do(env: TestEnvironment) -> None:
    with pytest.raises(NodeInputError, match=r'must be one of equals, .*; not "resembles"'):
        await env.run("branch", Left_Value=1, Operator="resembles", Right_Value=1)
    with pytest.raises(NodeInputError, match='needs the input "Right Value" for the operator "equals"'):
        await env.run("branch", Left_Value=1, Operator="equals")
    with pytest.raises(NodeInputError, match="is not a pattern"):
        await env.run("branch", Left_Value="a", Operator="matches", Right_Value="(")


async def test_a_regex_bomb_is_harmless(env: TestEnvironment) -> None:
    started = time.process_time()

    await env.run("branch", Left_Value="a" * 5000 + "!", Operator="matches", Right_Value="(a+)+$")

    assert time.process_time() - started < 1


# ------------------------------------------------------------------ delay


async def test_delay_waits_and_passes_the_page_on(env: TestEnvironment) -> None:
    started = time.monotonic()

    outputs = await env.run_named("delay", {"Delay (seconds)": "0.2", "Web Page": True})

    assert time.monotonic() - started >= 0.2
    assert outputs == {"Web Page": True, "Completed": True, "waited": True}


@pytest.mark.parametrize(
    ("seconds", "message"), [(30 * 86_400 + 1, "the most is"), (-1, "the least is 0"), ("soon", "must be a number")]
)
async def test_a_delay_that_cannot_be_is_refused_at_once(env: TestEnvironment, seconds: Any, message: str) -> None:
    with pytest.raises(NodeInputError, match=message):
        await asyncio.wait_for(env.run("delay", Duration=seconds), 60)


# ------------------------------------------------------------------ HTML

PAGE = """<html><body><!-- secret --><script>var x = 1</script><style>p {}</style>
<ul><li class="p" data-price="9.50"> Mug <b>big</b></li><li class="p">Lamp</li></ul><a href="/x">x</a></body></html>"""


@pytest.mark.row("S2-05")
async def test_text_of_all_matches_is_stripped_and_joined(env: TestEnvironment) -> None:
    outputs = await env.run("get_text_from_html", Html=PAGE, Selector="li.p")
    listed = await env.run("get_text_from_html", Html=PAGE, Selector="li.p", Multiple=True, Separator=" | ")
    attribute = await env.run("get_text_from_html", Html=PAGE, Selector="li.p", Attribute="data-price", Multiple="yes")

    assert outputs == {"Text": "Mug big Lamp"}
    assert listed == {"Text": "Mug big | Lamp", "Texts": ["Mug big", "Lamp"]}
    assert attribute == {"Text": "9.50", "Texts": ["9.50"]}


@pytest.mark.row("S2-27")
async def test_no_match_fails_unless_empty_is_wanted(env: TestEnvironment) -> None:
    with pytest.raises(NodeInputError, match=r'nothing in the HTML .* matches "\.none"'):
        await env.run("get_text_from_html", Html=PAGE, Selector=".none")
    with pytest.raises(NodeInputError, match='"li\\[" is not a CSS selector'):
        await env.run("get_text_from_html", Html=PAGE, Selector="li[")

    outputs = await env.run("get_text_from_html", Html=PAGE, Selector=".none", If_Missing="empty", Multiple=True)
    assert outputs == {"Text": "", "Texts": []}


@pytest.mark.row("S2-05")
async def test_condensing_drops_scripts_styles_and_comments(env: TestEnvironment) -> None:
    whole = await env.run("condense_html", Html=PAGE)
    part = await env.run("condense_html", Html=PAGE, Selector="a", Max_Length="nonsense")
    cut = await env.run("condense_html", Html=PAGE, Selector="a", Max_Length=5)
    none = await env.run("condense_html", Html=PAGE, Selector=".none")

    assert "Mug" in whole["Reduced Html"]
    for gone in ("secret", "var x", "p {}"):
        assert gone not in whole["Reduced Html"]
    assert whole["Condensed Html"] == whole["Reduced Html"]
    assert part["Reduced Html"] == '<a href="/x">x</a>'
    assert cut["Reduced Html"] == "<a hr..."
    assert none["Reduced Html"] == ""
