"""How deep loops may nest."""

from __future__ import annotations

import time
from typing import Any

import pytest

from executions.planner import plan
from tests.conftest import graph, node, wire
from workflows.definition import Definition
from workflows.errors import DefinitionError
from workflows.scopes import DEEPEST
from workflows.validation import Limits, validate

ROOMY = Limits(nodes=100_000, edges=100_000, definition_bytes=100_000_000, depth=100_000)


def nested(count: int) -> dict[str, Any]:
    """Return so many loops inside each other, and a node inside the innermost."""
    names = [f"loop{number}" for number in range(count)]
    loops = [node(name, "loop_items", Items=[1]) for name in names]
    wires = [
        wire(one, "Each", other, "Execute Condition") for one, other in zip(names, [*names[1:], "in"], strict=True)
    ]
    return graph([*loops, node("in", "delay", Duration=0)], *wires)


def test_loops_nest_as_deep_as_executions_run_inside_each_other_and_no_deeper() -> None:
    deep = Definition.from_json(nested(DEEPEST))
    too_deep = Definition.from_json(nested(DEEPEST + 1))

    assert len(plan(deep).bodies) == DEEPEST
    assert [one.code for one in validate(deep)] == []
    with pytest.raises(DefinitionError, match='"in" is inside more than 8 loops; move some'):
        plan(too_deep)
    assert [(one.code, one.node_id) for one in validate(too_deep)] == [("LOOP_SCOPE", "in")]


def test_four_thousand_nested_loops_are_refused_within_seconds() -> None:
    definition = Definition.from_json(nested(4_000))

    began = time.process_time()
    with pytest.raises(DefinitionError, match="inside more than 8 loops"):
        plan(definition)
    codes = {one.code for one in validate(definition, limits=ROOMY)}
    took = time.process_time() - began

    assert "LOOP_SCOPE" in codes
    assert took < 8
