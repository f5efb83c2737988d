import { beforeEach, describe, expect, it, vi } from "vitest";

import type { Workflow } from "../contract";
import { TYPES } from "../testing/make";
import { beginDrag, currentDefinition, isDirty, redo, undo, useBuilder } from "./store";

const WORKFLOW: Workflow = {
  id: "w",
  name: "Shop",
  description: "",
  status: "draft",
  version: 3,
  active_version: null,
  schedule: null,
  definition: { nodes: [], edges: [] },
};

const state = () => useBuilder.getState();
const history = () => useBuilder.temporal.getState().pastStates.length;
const input = (id: string, name: string) => state().nodes.find((node) => node.id === id)?.data.step.inputs?.[name];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
  state().load(structuredClone(WORKFLOW), TYPES);
  return () => vi.useRealTimers();
});

describe("building", () => {
  it("stores what was built and nothing else", () => {
    state().addNode("launch", { x: 0, y: 0 });
    state().addNode("fill_input", { x: 304, y: 0 });
    expect(
      state().connect({ source: "launch_1", sourceHandle: "Web Page", target: "fill_input_1", targetHandle: "Web Page" }),
    ).toBeNull();
    state().setInput("launch_1", "Website URL", "https://example.com");
    expect(currentDefinition(state())).toEqual({
      nodes: [
        { id: "launch_1", type: "launch", position: { x: 0, y: 0 }, data: { inputs: { "Website URL": "https://example.com" } } },
        { id: "fill_input_1", type: "fill_input", position: { x: 304, y: 0 }, data: { inputs: {} } },
      ],
      edges: [
        {
          id: "launch_1:Web Page-fill_input_1:Web Page",
          source: "launch_1",
          target: "fill_input_1",
          sourceHandle: "Web Page",
          targetHandle: "Web Page",
        },
      ],
    });
  });

  it("never puts a new node on top of another", () => {
    for (let n = 0; n < 4; n++) state().addNode("launch", { x: 0, y: 0 });
    expect(new Set(state().nodes.map((node) => node.position.y)).size).toBe(4);
  });

  it("clears the typed value when the input is wired", () => {
    state().addNode("get_html");
    state().addNode("transform");
    state().setInput("transform_1", "Input JSON", "typed");
    state().connect({ source: "get_html_1", sourceHandle: "Html Content", target: "transform_1", targetHandle: "Input JSON" });
    expect(input("transform_1", "Input JSON")).toBeUndefined();
  });

  it("refuses a circle that is closed by a template", () => {
    state().addNode("transform");
    state().addNode("transform");
    state().setInput("transform_1", "Input JSON", "{{ nodes.transform_2.Result }}");
    const wire = { source: "transform_1", sourceHandle: "Done", target: "transform_2", targetHandle: "Execute Condition" };
    expect(state().connect(wire)).toMatch(/circle/);
    expect(state().edges).toEqual([]);
  });

  it("renames a node everywhere", () => {
    state().addNode("launch");
    state().addNode("fill_input");
    state().connect({ source: "launch_1", sourceHandle: "Web Page", target: "fill_input_1", targetHandle: "Web Page" });
    state().setInput("fill_input_1", "Value", "{{ nodes.launch_1.Done }}");
    state().renameNode("launch_1", "open");
    expect(state().edges[0]).toMatchObject({ id: "open:Web Page-fill_input_1:Web Page", source: "open" });
    expect(input("fill_input_1", "Value")).toBe("{{ nodes.open.Done }}");
  });

  it("copies nodes with their wires and references under new ids", () => {
    state().addNode("launch", { x: 0, y: 0 });
    state().addNode("fill_input", { x: 304, y: 0 });
    state().connect({ source: "launch_1", sourceHandle: "Web Page", target: "fill_input_1", targetHandle: "Web Page" });
    state().setInput("fill_input_1", "Value", "{{ nodes.launch_1.Done }}");
    state().insert({ nodes: state().nodes, edges: state().edges }, { x: 40, y: 200 });
    expect(state().nodes.map((node) => node.id)).toEqual(["launch_1", "fill_input_1", "launch_2", "fill_input_2"]);
    expect(state().edges[1]).toMatchObject({ source: "launch_2", target: "fill_input_2" });
    expect(input("fill_input_2", "Value")).toBe("{{ nodes.launch_2.Done }}");
    expect(state().nodes.filter((node) => node.selected).map((node) => node.id)).toEqual(["launch_2", "fill_input_2"]);
  });

  it("removes the wires of a removed node", () => {
    state().addNode("launch");
    state().addNode("fill_input");
    state().connect({ source: "launch_1", sourceHandle: "Web Page", target: "fill_input_1", targetHandle: "Web Page" });
    state().remove(new Set(["launch_1"]));
    expect(state().edges).toEqual([]);
  });
});

describe("undo", () => {
  it("goes back and forth over adding, wiring and removing", () => {
    state().addNode("launch");
    state().addNode("fill_input");
    state().connect({ source: "launch_1", sourceHandle: "Web Page", target: "fill_input_1", targetHandle: "Web Page" });
    state().remove(new Set(["launch_1"]));
    expect(history()).toBe(4);
    undo();
    expect(state().nodes).toHaveLength(2);
    expect(state().edges).toHaveLength(1);
    undo();
    expect(state().edges).toHaveLength(0);
    redo();
    expect(state().edges).toHaveLength(1);
  });

  it("takes a whole drag as one step", () => {
    state().addNode("launch", { x: 0, y: 0 });
    const before = history();
    beginDrag();
    for (let x = 8; x <= 80; x += 8) {
      vi.advanceTimersByTime(500);
      state().changeNodes([{ type: "position", id: "launch_1", position: { x, y: 0 }, dragging: true }]);
    }
    state().changeNodes([{ type: "position", id: "launch_1", position: { x: 80, y: 0 }, dragging: false }]);
    beginDrag();
    expect(history()).toBe(before + 1);
    undo();
    expect(state().nodes[0]!.position.x).toBe(0);
  });

  it("takes a word typed into a field as one step, a pause makes two", () => {
    state().addNode("fill_input");
    const before = history();
    for (const text of ["a", "ab", "abc"]) {
      vi.advanceTimersByTime(200);
      state().setInput("fill_input_1", "Value", text);
    }
    expect(history()).toBe(before + 1);
    vi.advanceTimersByTime(5000);
    state().setInput("fill_input_1", "Value", "abcd");
    expect(history()).toBe(before + 2);
    undo();
    expect(input("fill_input_1", "Value")).toBe("abc");
  });

  it("does not count selecting and measuring", () => {
    state().addNode("launch");
    const before = history();
    state().changeNodes([{ type: "select", id: "launch_1", selected: false }]);
    state().changeNodes([{ type: "dimensions", id: "launch_1", dimensions: { width: 224, height: 100 } }]);
    state().select(["launch_1"]);
    expect(history()).toBe(before);
  });

  it("keeps measured sizes, so that nothing flickers", () => {
    state().addNode("launch");
    state().changeNodes([{ type: "dimensions", id: "launch_1", dimensions: { width: 224, height: 100 } }]);
    state().addNode("fill_input");
    undo();
    expect(state().nodes[0]!.measured).toEqual({ width: 224, height: 100 });
  });
});

describe("dirty", () => {
  it("is clean again after undoing every change", () => {
    expect(isDirty(state())).toBe(false);
    state().addNode("launch");
    expect(isDirty(state())).toBe(true);
    undo();
    expect(isDirty(state())).toBe(false);
  });

  it("is clean after saving, also when editing went on meanwhile only if it did not", () => {
    state().addNode("launch");
    const snapshot = { nodes: state().nodes, edges: state().edges };
    state().setInput("launch_1", "Website URL", "typed while saving");
    state().markSaved(4, [], snapshot, "Shop");
    expect(isDirty(state())).toBe(true);
    state().markSaved(5, [], { nodes: state().nodes, edges: state().edges }, "Shop");
    expect(isDirty(state())).toBe(false);
    expect(state().version).toBe(5);
  });

  it("knows a new name", () => {
    useBuilder.setState({ name: "Other" });
    expect(isDirty(state())).toBe(true);
  });
});
