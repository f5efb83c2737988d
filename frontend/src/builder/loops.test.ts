import { describe, expect, it } from "vitest";

import { LOOP, nodeType, TYPES } from "../testing/make";
import type { StepNode, WireEdge } from "./definition";
import { loopBodies } from "./loops";
import { tidy } from "./layout";
import { visiblePorts } from "./NodeCard";
import { refusal, shapeOf, type Graph, type Wire } from "./ports";

const types = new Map([...TYPES, LOOP].map((type) => [type.type, type]));
const wire = (source: string, sourceHandle: string, target: string, targetHandle: string): Wire => ({
  source,
  sourceHandle,
  target,
  targetHandle,
});
const STEPS = { loop: "loop_items", one: "transform", two: "transform", after: "transform", apart: "transform" };
const WIRES = [
  wire("loop", "Item", "one", "Input JSON"),
  wire("one", "Result", "two", "Input JSON"),
  wire("loop", "Results", "after", "Input JSON"),
];
const BACK = wire("two", "Result", "loop", "Result");

function graph(steps: Record<string, string>, edges: Wire[]): Graph {
  return { nodes: Object.entries(steps).map(([id, type]) => ({ id, data: { type } })), edges, types };
}

describe("wires back to a loop", () => {
  it("takes one from the body, refuses one from a step that the loop does not lead to", () => {
    expect(refusal(BACK, graph(STEPS, WIRES))).toBeNull();
    expect(refusal({ ...BACK, source: "apart" }, graph(STEPS, WIRES))).toMatch(/comes back from the loop/);
  });

  it("takes one from a step that only reads the loop by template", () => {
    const apart = { ...BACK, source: "apart" };

    expect(refusal(apart, { ...graph(STEPS, WIRES), links: [wire("loop", "Item", "apart", "Input JSON")] })).toBeNull();
  });

  it("still refuses every other circle, also behind a loop that is closed", () => {
    expect(refusal(wire("two", "Result", "loop", "Items"), graph(STEPS, WIRES))).toMatch(/takes a list/);
    expect(refusal(wire("two", "Done", "one", "Execute Condition"), graph(STEPS, [...WIRES, BACK]))).toBe(
      "This wire would close a circle.",
    );
    expect(refusal(wire("after", "Done", "apart", "Execute Condition"), graph(STEPS, [...WIRES, BACK]))).toBeNull();
  });
});

describe("loopBodies", () => {
  const bodies = (edges: Wire[], steps: Record<string, string> = STEPS) =>
    Object.fromEntries(loopBodies(graph(steps, edges).nodes, edges, types));

  it("holds what the outputs of one turn lead to, not what comes after the loop", () => {
    expect(bodies([...WIRES, BACK])).toEqual({ one: "loop", two: "loop" });
  });

  it("gives the innermost loop", () => {
    const steps = { ...STEPS, inner: "loop_items", deep: "transform" };
    const edges = [
      ...WIRES,
      BACK,
      wire("one", "Result", "inner", "Items"),
      wire("inner", "Item", "deep", "Input JSON"),
      wire("deep", "Result", "inner", "Result"),
    ];

    expect(bodies(edges, steps)).toEqual({ one: "loop", two: "loop", inner: "loop", deep: "inner" });
  });
});

describe("tidy", () => {
  it("keeps a loop left of its body and the body in the order of its wires", () => {
    const nodes = Object.entries(STEPS).map(
      ([id, type]): StepNode => ({ id, type: "step", position: { x: 0, y: 0 }, data: { type, step: {}, extra: {} } }),
    );
    const edges = [...WIRES, BACK].map((item, index): WireEdge => ({ id: `e${index}`, ...item }));

    const x = Object.fromEntries(tidy(nodes, edges, types).map((node) => [node.id, node.position.x]));

    expect(x.loop).toBeLessThan(x.one!);
    expect(x.one).toBeLessThan(x.two!);
  });
});

describe("shapeOf", () => {
  const names = (step: Parameters<typeof shapeOf>[1]) => shapeOf(types.get("transform"), step)!.outputs.map((port) => port.name);

  it("has error outputs only while errors are handed on", () => {
    expect(names({ on_error: "continue" })).toEqual(["Result", "Count", "Done"]);
    expect(names({ on_error: "output" })).toEqual(["Result", "Count", "Done", "Error", "Error Message"]);
  });

  it("lets the error output be wired only then", () => {
    const caught = wire("one", "Error", "two", "Execute Condition");
    const nodes = (on_error: "output" | "fail") => [
      { id: "one", data: { type: "transform", step: { on_error } } },
      { id: "two", data: { type: "transform" } },
    ];

    expect(refusal(caught, { nodes: nodes("output"), edges: [], types })).toBeNull();
    expect(refusal(caught, { nodes: nodes("fail"), edges: [], types })).toBe("There is no such port.");
  });
});

describe("visiblePorts", () => {
  const SWITCH = nodeType(
    "switch",
    [{ name: "Value", type: "ANY", required: true }, ...[1, 2, 3].map((n) => ({ name: `Case ${n}`, type: "ANY" as const }))],
    [...[1, 2, 3].map((n) => ({ name: `Case ${n}`, type: "CONDITIONAL" as const })), { name: "Default", type: "CONDITIONAL" }],
  );
  const JOIN = nodeType("join", [1, 2, 3].map((n) => ({ name: `Data ${n}`, type: "ANY" as const })), [{ name: "Data", type: "ANY" }]);
  const names = (ports: { name: string }[]) => ports.map((port) => port.name);

  it("shows the cases of a switch that are in use, and all of them when it is unfolded", () => {
    const step = { inputs: { "Case 1": "EUR" } };

    expect(names(visiblePorts(SWITCH, step, [], ["Case 3"], false).outputs)).toEqual(["Case 1", "Case 3", "Default"]);
    expect(names(visiblePorts(SWITCH, step, [], [], true).outputs)).toHaveLength(4);
  });

  it("shows the next free input of a join", () => {
    expect(names(visiblePorts(JOIN, {}, [], [], false).inputs)).toEqual(["Data 1"]);
    expect(names(visiblePorts(JOIN, {}, ["Data 1", "Data 2"], [], false).inputs)).toEqual(["Data 1", "Data 2", "Data 3"]);
  });
});
