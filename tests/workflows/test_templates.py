"""``{{ }}``: reading, rendering, and what depends on what."""

from __future__ import annotations

import json
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import graph, node, wire
from workflows.definition import Definition
from workflows.errors import MissingValue, TemplateError
from workflows.templates import TEXT_LIMIT, Reference, Scope, ShortNames, dependencies, parse, references, render

NEAREST = {"Html Content": "<p>near</p>", "Rows": [{"a": 1}]}


def nearest(name: str) -> Any:
    try:
        return NEAREST[name]
    except KeyError:
        raise MissingValue(f'no upstream node has the output "{name}"') from None


SCOPE = Scope(
    nodes={"n1": {"Html Content": "<b>", "Rows": [{"name": "x"}, {"name": "y"}], "Json": '{"a": [1, {"b": 2}]}'}, "node-2": {"Ok": True}},
    input={"name": "  Ada ", "n": 3, "list": [1, "b", None], "empty": "", "none": None, "items": {"keys": 1}},
    vars={"url": "http://shop", "deep": {"x y": 1}},
    nearest=nearest,
)  # fmt: skip


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ('{{ nodes.n1["Html Content"] }}', "<b>"),
        ("{{ nodes.n1['Html Content'] }}", "<b>"),
        ('{{nodes["n1"]["Html Content"]}}', "<b>"),
        ("{{ nodes.n1.html-content }}", "<b>"),
        ("{{ nodes.node-2.Ok }}", True),
        ("{{ nodes.n1.Rows }}", [{"name": "x"}, {"name": "y"}]),
        ("{{ nodes.n1.Rows[0].name }}", "x"),
        ("{{ nodes.n1.Rows[-1]['name'] }}", "y"),
        ("{{ nodes.n1.Json.a[1].b }}", 2),
        ("{{ Html Content }}", "<p>near</p>"),
        ("{{ Rows[0].a }}", 1),
        ("{{ input }}", SCOPE.input),
        ("{{ input.n }}", 3),
        ("{{ input.items.keys }}", 1),
        ("{{ vars.url }}/login", "http://shop/login"),
        ('{{ vars.deep["x y"] }}', 1),
        ("n={{ input.n }}; {{ nodes.node-2.Ok }}; {{ input.none }}; {{ input.list }}", 'n=3; true; ; [1,"b",null]'),
        ("{{ input.list }}\n", [1, "b", None]),
        (" {{ input.name }}", "   Ada "),
        ("{{ input.name | trim | upper }}", "ADA"),
        ("{{ input.name|trim|lower }}!", "ada!"),
        ('{{ input.nobody | default("x") }}', "x"),
        ('{{ input.none | default("x") }}', "x"),
        ('{{ input.empty | default("x") }}', ""),
        ('{{ nodes.gone.Out | default("x") | upper }}', "X"),
        ('{{ nodes.gone.Out | upper | default("x") }}', "x"),
        ('{{ Nothing | default("}}") }}', "}}"),
        ("{{ input.nobody | default([1, 2]) | length }}", 2),
        ('{{ input.nobody | default({"a": {"b": 1}}) }}', {"a": {"b": 1}}),
        ("{{ input.list | length }}", 3),
        ("{{ input.list | first }}", 1),
        ("{{ input.list | last }}", None),
        ('{{ nodes.n1.Rows | length }} rows"', '2 rows"'),
        ('{{ input.list | join("-") }}', "1-b-"),
        ("{{ input.list | json }}", '[1,"b",null]'),
        ("{{ '3.70' | number }}", 3.7),
        ("{{ '42' | number }}", 42),
        ("{{ '2.346' | round(2) }}", 2.35),
        ("{{ '2.6' | round }}", 3),
        ('{{ "a,b" | split | last }}', "b"),
        ('{{ "a b" | urlencode }}', "a%20b"),
        ('{{ "aXb" | replace("X", "-") }}', "a-b"),
        ("{{ \"[1,1,2]\" | parse | unique }}", [1, 2]),
        ('{{ input.items | keys | first }}', "keys"),
        ('{{ "{{" }} stays', "{{ stays"),
        ('{{ "say \\"hi\\"" }}', 'say "hi"'),
        ("no template }} here", "no template }} here"),
    ],
)  # fmt: skip
def test_a_template_gives(template: str, value: Any) -> None:
    assert render(template, SCOPE) == value


def test_every_json_value_is_walked_and_keys_are_left_alone() -> None:
    value = {"{{ key }}": ["{{ input.n }}", {"x": "{{ vars.url }}"}, 5, None]}

    assert render(value, SCOPE) == {"{{ key }}": [3, {"x": "http://shop"}, 5, None]}


@pytest.mark.parametrize(
    ("template", "position", "message"),
    [
        ("{{ }}", 3, "expected a name"),
        ("abc {{ input.n", 4, "not closed"),
        ("{{ input.n }", 0, "not closed"),
        ("{{ 1 + 1 }}", 5, 'unexpected "+"'),
        ("{{ input.n() }}", 10, 'unexpected "("'),
        ("{{ nodes.n1.Html Content }}", 17, 'like ["Html Content"]'),
        ("{{ nodes }}", 3, "name a node"),
        ("{{ input[ }}", 10, "expected a number or a quoted key"),
        ("{{ input[0 }}", 8, "not closed"),
        ("{{ input.x | }}", 13, "the name of a filter"),
        ("{{ input.x | shell }}", 13, 'no filter "shell"'),
        ("{{ input.x | default }}", 13, "takes 1 argument(s), not 0"),
        ("{{ input.x | upper(1) }}", 13, "takes 0 argument(s), not 1"),
        ("{{ input.x | default(y) }}", 21, "expected a literal"),
        ('{{ input["x }}', 9, "quote"),
    ],
)
def test_errors_say_what_and_where(template: str, position: int, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(template)

    assert message in str(caught.value)
    assert caught.value.position == position


@pytest.mark.parametrize(
    "template",
    [
        "{{ input.name.__class__ }}",
        "{{ input.__class__.__mro__ }}",
        "{{ nodes.n1.__len__ }}",
        "{{ input.list.append }}",
        "{{ input.gone }}",
        "{{ input.list[3] }}",
        "{{ input.list.x }}",
        "{{ input.n[0] }}",
        "{{ nodes.gone.Out }}",
        "{{ nodes.n1.Gone }}",
        "{{ item }}",
        "{{ index }}",
        "{{ Gone }}",
        "{{ vars.__init__ }}",
    ],
)
def test_what_is_not_in_the_data_does_not_exist(template: str) -> None:
    with pytest.raises(MissingValue):
        render(template, SCOPE)


def test_a_filter_that_cannot_take_the_value_says_so() -> None:
    with pytest.raises(TemplateError, match='"number" cannot take a text'):
        render("{{ input.name | number }}", SCOPE)
    with pytest.raises(TemplateError, match="needs a list"):
        render("{{ input.n | join }}", SCOPE)


def test_what_comes_out_of_a_template_is_not_read_again() -> None:
    scope = Scope(input={"evil": "{{ vars.secret }}", "ref": {"$credential": "admin"}}, vars={"secret": "s3cret"})
    opened: list[Any] = []

    shown = render(
        {"a": "{{ input.evil }}", "b": "{{ input.ref }}", "c": {"$credential": "mine"}}, scope, opened.append
    )

    assert shown == {"a": "{{ vars.secret }}", "b": {"$credential": "admin"}, "c": None}
    assert opened == [{"$credential": "mine"}]


def test_text_cannot_grow_without_limit() -> None:
    bomb = '{{ "aaaaaaaaaa"' + ' | replace("a", "aaaaaaaaaa")' * 9 + " }}"

    with pytest.raises(TemplateError, match="longer than"):
        render(bomb, Scope())
    with pytest.raises(TemplateError, match="longer than"):
        render("{{ input }}{{ input }}.", Scope(input="x" * (TEXT_LIMIT // 2)))


@given(st.text(alphabet="{}|.[]\"'\\ abnodesiput0123456789(),-", max_size=60))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    found = TemplateError("", 0)
    try:
        render(text, Scope(input={"a": 1}))
    except TemplateError as error:
        found = error

    assert 0 <= found.position <= len(text)


def test_long_texts_are_read_in_linear_time() -> None:
    text = "{{ input.a }} and " * 20_000

    start = thread_time()
    render(text, Scope(input={"a": 1}))

    assert thread_time() - start < 5


def test_references_name_everything() -> None:
    value = {
        "a": ['{{ nodes.n1["Html Content"].x }} {{ Rows | default(1) }}', "{{ input.q }}"],
        "b": {"$credential": "{{ no }}"},
    }

    assert {
        (found.kind, found.node_id, found.output, found.path, found.has_default) for found in references(value)
    } == {
        ("node", "n1", "Html Content", ("x",), False),
        ("output", None, "Rows", (), True),
        ("input", None, None, ("q",), False),
    }
    assert str(Reference("node", "n 1", "Html", (0, "a b"))) == 'nodes["n 1"].Html[0]["a b"]'


# ---------------------------------------------------------------------- dependencies


def definition(nodes: list[dict[str, Any]], *edges: dict[str, Any]) -> Definition:
    return Definition.from_json(graph(nodes, *edges))


def test_edges_and_references_are_dependencies_alike(types: None) -> None:
    shape = definition(
        [
            node("a", "begin"),
            node("b", "step", In="{{ nodes.a.Text }}"),
            node("c", "step", In="{{ Html Content }}", More="{{ nodes.gone.X }} {{ broken"),
            node("d", "step", In="{{ Need Out }}"),
        ],
        wire("b", "Out", "c", "In"),
        wire("c", "Out", "d", "In"),
    )

    assert dependencies(shape) == {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"c"}}


def test_the_short_form_means_the_nearest_upstream_node(types: None) -> None:
    shape = definition(
        [node("a", "begin"), node("b", "begin"), node("c", "step"), node("d", "step"), node("e", "step")],
        wire("a", "Text", "b", "Done"),
        wire("b", "Text", "c", "In"),
        wire("c", "Out", "d", "In"),
        wire("a", "Text", "e", "In"),
        wire("b", "Text", "e", "More"),
    )

    nearest = ShortNames(shape).nearest
    assert nearest("d", "Html Content") == "b"
    assert nearest("d", "html-content") == "b"
    assert nearest("b", "Html Content") == "a"
    with pytest.raises(TemplateError, match='of "a" or of "b"'):
        nearest("e", "Html Content")
    with pytest.raises(TemplateError, match='no node before "a"'):
        nearest("a", "Html Content")


def test_the_short_form_in_a_cycle_does_not_hang(types: None) -> None:
    shape = definition(
        [node("a", "step", In="{{ Text }}"), node("b", "step", In="{{ Text }}")],
        wire("a", "Out", "b", "In"),
        wire("b", "Out", "a", "In"),
    )

    assert dependencies(shape) == {"a": {"b"}, "b": {"a"}}


def test_a_thousand_short_names_cost_one_walk(types: None) -> None:
    nodes = [node("n0", "begin"), *(node(f"n{i}", "need", In="{{ Html Content }}") for i in range(1, 1000))]
    shape = definition(
        nodes, *(wire(f"n{i}", "Need Out", f"n{i + 1}", "In") for i in range(1, 999)), wire("n0", "Text", "n1", "In")
    )

    start = thread_time()
    found = dependencies(shape)

    assert found["n999"] == {"n998", "n0"}
    assert thread_time() - start < 0.2
    assert json.dumps(sorted(found["n1"])) == '["n0"]'
