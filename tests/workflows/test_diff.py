"""What differs between two definitions: whole, without noise, without secrets, and fast."""

from __future__ import annotations

import copy
import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import graph, node, wire
from workflows.definition import content_hash, settings_of
from workflows.diff import MISSING, Change, Diff, compare

# ---------------------------------------------------------------------- definitions of any shape

SCALARS: Any = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab\n{}.", max_size=4)
VALUES: Any = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc.", max_size=2), inner, max_size=3)
)
NODES: Any = st.fixed_dictionaries(
    {
        "id": st.sampled_from("abcdef"),
        "type": st.sampled_from(["delay", "branch"]),
        "data": st.fixed_dictionaries({"inputs": st.dictionaries(st.sampled_from(["Value", "Left"]), VALUES)}),
    },
    optional={
        "position": st.fixed_dictionaries({"x": st.integers(0, 3), "y": st.integers(0, 3)}),
        "notes": VALUES,
    },
)
EDGES: Any = st.fixed_dictionaries(
    {
        "id": st.text("xyz", min_size=1, max_size=2),
        "source": st.sampled_from("abc"),
        "sourceHandle": st.sampled_from(["Done", "done", "Result"]),
        "target": st.sampled_from("abc"),
        "targetHandle": st.sampled_from(["Value", "Left"]),
    },
    optional={"animated": st.booleans()},
)
DEFINITIONS: Any = st.fixed_dictionaries(
    {
        "nodes": st.lists(NODES, max_size=5, unique_by=lambda one: one["id"]),
        "edges": st.lists(EDGES, max_size=5),
    },
    optional={
        "name": st.text("ab", max_size=2),
        "cron": st.sampled_from(["0 9 * * *", "0 8 * * *"]),
        "timezone": st.sampled_from(["UTC", "Asia/Kolkata"]),
        "settings": st.dictionaries(st.sampled_from(["concurrency", "tags"]), VALUES, max_size=2),
        "vars": st.dictionaries(st.text("ab", max_size=2), VALUES, max_size=2),
        "tags": st.lists(st.text("ab", max_size=1), max_size=2),
        "unknown": VALUES,
    },
)


def meaning(definition: dict[str, Any]) -> Any:
    """Return a definition without what does not count: order of nodes and edges, ids of edges, forms of handles."""
    nodes = {one["id"]: {"position": None, **one} for one in definition["nodes"]}
    edges = sorted(
        json.dumps({**edge, "id": None, "sourceHandle": edge["sourceHandle"].lower()}, sort_keys=True)
        for edge in definition["edges"]
    )
    rest = {key: value for key, value in definition.items() if key not in ("nodes", "edges", "tags")}
    rest["settings"] = settings_of(definition)
    rest = {
        key: value
        for key, value in rest.items()
        if value not in (None, "", [], {}) and (key, value) != ("timezone", "UTC")
    }
    return exact([nodes, edges, rest])


def exact(value: Any) -> Any:
    """Return a JSON value in which true is not 1, but 1.0 is."""
    if isinstance(value, dict):
        return {key: exact(child) for key, child in value.items()}
    if isinstance(value, list):
        return [exact(child) for child in value]
    return (isinstance(value, bool), value)


def put(thing: Any, change: Change) -> None:
    """Carry out one change inside ``thing``."""
    *way, last = change.path
    for key in way:
        thing = thing[key]
    if change.after is MISSING:
        del thing[last]
    else:
        thing[last] = copy.deepcopy(change.after)


def apply(diff: Diff, old: dict[str, Any]) -> dict[str, Any]:
    """Return what ``old`` becomes by ``diff``."""
    new = copy.deepcopy(old)
    new["settings"] = settings_of(new)
    new.pop("tags", None)
    for key in [key for key, value in new.items() if key not in ("nodes", "edges") and value in (None, "", [], {})]:
        del new[key]
    if new.get("timezone") == "UTC":
        del new["timezone"]
    nodes = {one["id"]: one for one in new["nodes"]}
    for gone in diff.removed:
        del nodes[gone["id"]]
    for changed in diff.changed:
        for change in changed.changes:
            put(nodes[changed.id], change)
    for move in diff.moved:
        nodes[move.id]["position"] = move.after
    nodes |= {one["id"]: dict(one) for one in diff.added}
    new["nodes"] = list(nodes.values())
    for edge in diff.edges_removed:
        new["edges"].remove(edge)
    new["edges"] += diff.edges_added
    for change in diff.fields:
        put(new, change)
    return new


@pytest.mark.row("S2-11")
@settings(max_examples=60, deadline=None)
@given(DEFINITIONS, DEFINITIONS)
def test_what_differs_leads_from_the_old_to_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    diff = compare(old, new)

    assert meaning(apply(diff, old)) == meaning(new)
    json.dumps(diff.to_json(), allow_nan=False)
    assert bool(list(diff.lines())) == bool(diff)


def shuffled(value: Any, chance: random.Random) -> Any:
    """Return the same JSON with its keys in another order."""
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: shuffled(value[key], chance) for key in keys}
    return [shuffled(child, chance) for child in value] if isinstance(value, list) else value


@pytest.mark.row("S2-11")
@settings(max_examples=50, deadline=None)
@given(DEFINITIONS, st.randoms())
def test_order_of_keys_and_edges_and_ids_of_edges_are_no_difference(one: dict[str, Any], chance: random.Random) -> None:
    other = shuffled(copy.deepcopy(one), chance)
    chance.shuffle(other["edges"])
    for edge in other["edges"]:
        edge["id"] = f"drawn again {chance.random()}"

    assert not compare(one, one)
    assert not compare(one, other)
    assert content_hash(one) == content_hash(other)


SHOP = {
    "name": "shop",
    **graph([node("a", "delay", Duration=1), node("b", "branch", Left="{{ input.x }}"), node("gone", "delay", Duration=9)],
            wire("a", "Done", "b", "Execute Condition"), wire("b", "True Path", "gone", "Execute Condition")),
}  # fmt: skip


def edited() -> dict[str, Any]:
    """Return ``SHOP`` after an afternoon of work."""
    new = copy.deepcopy(SHOP)
    new["nodes"] = [new["nodes"][0], new["nodes"][1], node("new", "deliver", URL="https://x.example")]
    new["nodes"][0]["data"]["inputs"]["Duration"] = 2
    new["nodes"][0]["data"]["retries"] = 3
    new["nodes"][1]["position"] = {"x": 500, "y": 7}
    new["edges"] = [new["edges"][0], wire("b", "False Path", "new", "Execute Condition")]
    new |= {"cron": "0 9 * * *", "settings": {"concurrency": 2}, "name": "store"}
    return new


@pytest.mark.row("S2-11")
def test_every_kind_of_change_is_told_apart() -> None:
    told = compare(SHOP, edited()).to_json()

    assert [one["id"] for one in told["added"]] == ["new"]
    assert [one["id"] for one in told["removed"]] == ["gone"]
    assert told["changed"] == [
        {"id": "a", "type": "delay", "label": "", "changes": [
            {"path": ["data", "inputs", "Duration"], "field": "Duration", "change": "changed", "before": 1, "after": 2},
            {"path": ["data", "retries"], "field": "retries", "change": "added", "after": 3},
        ]},
    ]  # fmt: skip
    assert [(one["id"], one["after"]) for one in told["moved"]] == [("b", {"x": 500, "y": 7})]
    assert [(one["sourceHandle"], one["target"]) for one in told["edges_added"]] == [("False Path", "new")]
    assert [(one["sourceHandle"], one["target"]) for one in told["edges_removed"]] == [("True Path", "gone")]
    assert [(one["field"], one["change"]) for one in told["fields"]] == [
        ("name", "changed"), ("cron", "added"), ("settings", "added")
    ]  # fmt: skip
    assert told["summary"] == (
        "1 node added, 1 removed, 1 changed, 1 moved; 1 wire added, 1 removed; 3 settings changed"
    )
    assert (told["same"], told["reordered"]) == (False, False)


def test_the_lines_for_a_terminal_say_the_same() -> None:
    lines = [(line.kind, line.text) for line in compare(SHOP, edited()).lines()]

    assert ("changed", '~ name: "shop" -> "store"') in lines
    assert ("added", '+ cron: "0 9 * * *"') in lines
    assert ("removed", "- node gone  delay") in lines
    assert ("added", "+ node new  deliver") in lines
    assert ("added", '    URL: "https://x.example"') in lines
    assert ("changed", "    ~ Duration: 1 -> 2") in lines
    assert ("added", "+ wire b (False Path) -> new (Execute Condition)") in lines
    assert ("moved", "  moved on the canvas: b") in lines


def test_long_texts_are_compared_line_by_line_and_long_values_are_cut() -> None:
    old = graph([node("a", "code", Code="one\ntwo\nthree", Data="x" * 500)])
    new = graph([node("a", "code", Code="one\n2\nthree", Data="y" * 500)])

    text = "\n".join(line.text for line in compare(old, new).lines())

    assert "-two" in text
    assert "+2" in text
    assert "three" not in text
    assert max(len(line) for line in text.splitlines()) < 500


def test_true_is_not_one_and_one_is_one_point_zero() -> None:
    def of(value: Any) -> dict[str, Any]:
        return graph([node("a", "form", Value=[{"deep": value}])])

    assert not compare(of(1), of(1.0))
    assert content_hash(of(1)) == content_hash(of(1.0))
    assert compare(of(1), of(True)).changed[0].changes == (
        Change(("data", "inputs", "Value", 0, "deep"), 1, True),
    )  # fmt: skip
    assert content_hash(of(1)) != content_hash(of(True))


def test_a_schedule_counts_and_the_zone_only_where_it_says_something() -> None:
    base = {**SHOP, "cron": "0 9 * * *"}

    assert content_hash(SHOP) != content_hash(base) != content_hash({**base, "timezone": "Asia/Kolkata"})
    assert content_hash(base) == content_hash({**base, "timezone": "UTC"})
    assert not compare(base, {**base, "timezone": "UTC"})
    assert [one.field for one in compare(base, {**base, "timezone": "Asia/Kolkata"}).fields] == ["timezone"]


def test_what_is_shown_holds_no_secret_that_somebody_typed_in() -> None:
    def of(secret: str) -> dict[str, Any]:
        inputs: dict[str, Any] = {
            "Password": secret,
            "Headers": {"X-Api-Key": secret, "Accept": "text/html"},
            "Note": f"Bearer {secret}",
            "Proxy": f"http://me:{secret}@proxy.example",
            "Max Tokens": "1000",
            "Login": {"$credential": "shop", "field": "password"},
        }
        return graph([node("a", "form", **inputs), node(secret[-1], "form", **inputs)])

    diff = compare(of("hunter2-old-a1"), of("hunter2-new-b2"))
    shown = json.dumps(diff.to_json()) + "\n".join(line.text for line in diff.lines())

    assert "hunter2" not in shown
    assert '"text/html"' in shown
    assert '"1000"' in shown
    assert '"$credential": "shop"' in shown
    assert {change.field for change in diff.changed[0].changes} == {"Password", "Headers.X-Api-Key", "Note", "Proxy"}


@pytest.mark.parametrize("odd", [{}, {"nodes": None}, {"nodes": [1, {"id": []}], "edges": ["x", {}]}, {"settings": 3}])
def test_what_is_no_workflow_is_compared_without_a_fuss(odd: dict[str, Any]) -> None:
    assert not compare(odd, odd)
    list(compare(odd, SHOP).lines())
    json.dumps(compare(SHOP, odd).to_json())


def test_ten_thousand_nodes_take_less_than_a_second() -> None:
    nodes = [node(f"n{i}", "delay", Duration=i, Text="x" * 20) for i in range(10_000)]
    edges = [wire(f"n{i}", "Done", f"n{i + 1}", "Execute Condition") for i in range(9_999)]
    old = graph(nodes, *edges)
    new = json.loads(json.dumps(old))
    for index in range(0, 10_000, 10):
        new["nodes"][index]["data"]["inputs"]["Duration"] = -1

    began = time.process_time()
    diff = compare(old, new)
    took = time.process_time() - began

    assert len(diff.changed) == 1_000
    assert took < 1


def test_the_time_for_equal_wires_grows_with_their_number() -> None:
    same = [wire("a", "Done", "b", "Execute Condition")] * 300_000
    old, new = graph([], *same), graph([], *same[1:], wire("b", "Done", "a", "Execute Condition"))

    began = time.process_time()
    diff = compare(old, new)
    took = time.process_time() - began

    assert (len(diff.edges_removed), len(diff.edges_added)) == (1, 1)
    assert took < 3.5
