"""Whatever a definition holds, it gives findings or a plan, never an exception."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executions import planner
from tests.conftest import wire
from workflows.definition import Definition
from workflows.errors import DefinitionError
from workflows.registry import EXECUTE_CONDITION, NODE_REGISTRY, NodeDescription, Port, fit
from workflows.strict import read_json
from workflows.validation import Finding, Limits, errors, examine

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 10**30, 1e308, float("nan"), float("inf"), "", " ", "x", "\x00", "\ud800", "\u202e", "é" * 50,
    "{{", "{{ }}", "{{ nodes }}", "{{ nodes.n0 }}", '{{ nodes["n1"].Done | json }}', "{{ item }}", "{{ Done }}", "{{ vars.x | nope }}",
    "}}{{", "[1, 2", '{"a":', [], {}, [[]], {"$credential": "mine"}, {"$credential": 5}, {"$credential": "mine", "field": "pasword"},
    {"$credential": "mine", "field": []}, [{"$credential": None}], {"": ""}, {"nodes": []}, "n0", "n1", "Done", EXECUTE_CONDITION,
    "execute-condition", "0 9 * * *", "* * * * *", "61 * * * *", "active", "output", "continue", -0.0, "1 ==", "index < 3",
]  # fmt: skip
ROOMY = Limits(switches=frozenset({"FLOWBUILDER_CODE_NODES"}))

seen: Counter[str] = Counter()


def descriptions() -> list[NodeDescription]:
    """Return the node types of the product, not those of other tests."""
    found = [executor for executor in NODE_REGISTRY.values() if executor.__module__.startswith("executions.")]
    return [executor.description for executor in found]


def needs_page(description: NodeDescription) -> bool:
    """Return whether the type works on a page that another node opens."""
    return any(port.type == "BROWSER_INSTANCE" and port.required for port in description.inputs)


class Builder:
    """Draws workflows that are good as far as it knows: real types, wires that fit, values of the right kind."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []
        self.outputs: list[tuple[str, Port]] = []
        self.types = descriptions()

    def workflow(self) -> dict[str, Any]:
        if self.dice.random() < 0.4:
            self.add(NODE_REGISTRY["launch_standard_browser"].description)
        else:
            self.add(self.dice.choice([one for one in self.types if one.start]))
        for _ in range(self.dice.randrange(8)):
            self.add(self.dice.choice([one for one in self.types if self.pages or not needs_page(one)]))
        data: dict[str, Any] = {"name": "drawn", "nodes": self.nodes, "edges": self.edges}
        if self.dice.random() < 0.2:
            data |= {"cron": "0 9 * * MON-FRI", "timezone": "Europe/Berlin"}
        return data

    def add(self, description: NodeDescription) -> None:
        node_id = f"n{len(self.nodes)}"
        inputs: dict[str, Any] = {}
        gate = [output for output in self.outputs if output[1].type == "CONDITIONAL"]
        if gate and (not description.start or self.dice.random() < 0.3):
            source, path = self.dice.choice(gate)
            self.connect(source, path.name, node_id, EXECUTE_CONDITION)
        for port in description.inputs:
            if port.returns or not (port.required or self.dice.random() < 0.3):
                continue
            wired = port.type in ("BROWSER_INSTANCE", "CONDITIONAL", "FILE") or self.dice.random() < 0.4
            if not (wired and self.wire(node_id, port)):
                inputs[port.name] = self.value(port)
        data: dict[str, Any] = {"inputs": inputs, "label": f"Step {node_id}"}
        if self.dice.random() < 0.2:
            data |= {"retries": 2, "on_error": self.dice.choice(["fail", "continue", "output"])}
        self.nodes.append({"id": node_id, "type": description.type, "position": {"x": 0, "y": 0}, "data": data})
        self.outputs.extend((node_id, port) for port in description.all_outputs)

    @property
    def pages(self) -> bool:
        return any(port.type == "BROWSER_INSTANCE" for _, port in self.outputs)

    def wire(self, node_id: str, port: Port) -> bool:
        fitting = [(source, output) for source, output in self.outputs if fit(output.type, port.type) != "none"]
        if fitting and port.handle:
            source, output = self.dice.choice(fitting[-12:])
            self.connect(source, output.name, node_id, port.name)
        return bool(fitting and port.handle)

    def connect(self, source: str, output: str, target: str, taken: str) -> None:
        edge = wire(source, output, target, taken)
        self.edges.append({**edge, "id": f"e{len(self.edges)}"})

    def value(self, port: Port) -> Any:
        if port.handle and self.dice.random() < 0.3:
            if self.outputs and self.dice.random() < 0.5:
                source, output = self.dice.choice(self.outputs)
                return f'{{{{ nodes.{source}["{output.name}"] }}}}'
            return '{{ input.order["id"] | default(1) }}'
        if port.type == "CREDENTIAL":
            return {"$credential": "mine"}
        if port.language == "cel":
            return "index < 3"
        low = 1 if port.min is None else port.min
        samples: dict[str, Any] = {
            "NUMBER": low, "BOOLEAN": True, "LIST": [1, 2], "JSON": {"a": "$.a"}, "ANY": "x",
            "BROWSER_INSTANCE": None, "CONDITIONAL": None, "FILE": None,
            "SELECT": self.dice.choice(port.options or ("x",)),
        }  # fmt: skip
        return samples.get(port.type, "x")


def spoil(data: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """Return a copy of a workflow that something is wrong with: the JSON, a value, or the wires."""
    kind = dice.randrange(3)
    if kind == 0:
        spoilt: dict[str, Any] = broken(data, dice)
        return spoilt
    spoilt = copy.deepcopy(data)
    for _ in range(dice.randrange(1, 4)):
        source, target = dice.choice(spoilt["nodes"]), dice.choice(spoilt["nodes"])
        if kind == 1:
            names = [port.name for port in NODE_REGISTRY[target["type"]].description.inputs] or ["x"]
            reference = f"{{{{ nodes.{source['id']}.Done }}}}"
            target["data"]["inputs"][dice.choice(names)] = copy.deepcopy(dice.choice([*HOSTILE, reference, reference]))
            continue
        outputs = [port.name for port in NODE_REGISTRY[source["type"]].description.all_outputs]
        inputs = [port.name for port in NODE_REGISTRY[target["type"]].description.all_inputs]
        handles = dice.choice([*outputs, "nowhere"]), dice.choice([*inputs, EXECUTE_CONDITION, "nowhere"])
        spoilt["edges"].append({**wire(source["id"], handles[0], target["id"], handles[1]), "id": f"w{dice.random()}"})
    return spoilt


def broken(value: Any, dice: random.Random) -> Any:
    """Return a copy in which some places hold what does not belong there, or nothing."""
    spoilt = copy.deepcopy(value)
    for _ in range(dice.randrange(1, 4)):
        item = spoilt
        while True:
            keys = list(item) if isinstance(item, dict) else list(range(len(item))) if isinstance(item, list) else []
            if not keys:
                break
            key = dice.choice(keys)
            if isinstance(item[key], dict | list) and item[key] and dice.random() < 0.75:
                item = item[key]
                continue
            change = dice.randrange(4)
            if change == 0:
                del item[key]
            elif change == 1 and isinstance(item, list):
                item.append(copy.deepcopy(item[key]))
            elif change == 1 and isinstance(item, dict):
                item[str(dice.choice(HOSTILE))] = item.pop(key)
            else:
                item[key] = copy.deepcopy(dice.choice(HOSTILE))
            break
    return spoilt


def findings_or_plan(data: Any) -> list[Finding]:
    """Check ``data``, and plan it if nothing forbids that; count what came of it."""
    findings = examine(data, credentials=["mine"], variables=[], limits=ROOMY)
    for finding in findings:
        json.dumps(finding.to_json())
        assert finding.message, finding
        assert "Traceback" not in str(finding)
        seen[finding.code] += 1
    if errors(findings):
        seen["refused"] += 1
        return findings
    plan = planner.plan(Definition.from_json(data))
    phases = [index for phase in plan.phases for index in phase]
    bodies = [index for body in plan.bodies.values() for phase in body for index in phase]
    assert sorted(phases + bodies) == list(range(len(data["nodes"])))
    for phase in plan.phases:
        assert sorted(index for header in planner.headers(plan, phase) for index in header.indexes) == sorted(phase)
    seen["planned"] += 1
    return findings


def fuzz(seed: int, good: bool) -> None:
    dice = random.Random(seed)
    data = Builder(dice).workflow()
    findings_or_plan(data if good else spoil(data, dice))


@pytest.mark.row("S2-06")
@pytest.mark.row("S2-07")
def test_fault_46_five_thousand_definitions_give_findings_or_a_plan() -> None:
    seen.clear()

    @given(seed=st.integers(0, 2**32), good=st.booleans())
    @settings(
        max_examples=5000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )
    def check(seed: int, good: bool) -> None:
        fuzz(seed, good)

    check()

    # They were worth it: many were good, many were not, for many reasons.
    assert seen["planned"] > 1500, seen
    assert seen["refused"] > 1500, seen
    assert len(seen) > 25, seen


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["nodes", "edges", "id", "type", "data", "inputs", "source", "settings", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_fault_46_any_json_at_all_gives_findings(data: Any) -> None:
    findings_or_plan(data)


@given(st.text(alphabet='{}[]",:\\ \n0123456789.eE-+truefalsnNaIity\x00\ud800é', max_size=60))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_fault_48_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = read_json(text)
    except DefinitionError:
        return
    assert json.loads(text) == value
