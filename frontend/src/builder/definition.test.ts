import { describe, expect, it } from "vitest";

import type { WorkflowDefinition } from "../contract";
import { TYPES } from "../testing/make";
import { costOf, freshId, fromDefinition, idProblem, renameReferences, subtitleOf, toDefinition } from "./definition";

const types = new Map(TYPES.map((type) => [type.type, type]));

const SAMPLE: WorkflowDefinition = {
  name: "Shop",
  status: "active",
  cron: "0 9 * * 1-5",
  vars: { base: "https://example.com" },
  nodes: [
    {
      id: "node-1",
      type: "launch",
      position: { x: 100, y: 100 },
      data: { inputs: { "Website URL": "{{ vars.base }}/login" }, label: "Open", notes: "kept" },
      color: "red",
    },
    {
      id: "node-2",
      type: "fill_input",
      position: { x: 400.5, y: 100 },
      data: { inputs: { Selector: "#user", Value: { $credential: "shop", field: "username" } }, retries: 2 },
    },
    { id: "node-3", type: "from_the_future", position: { x: 0, y: 0 }, data: { inputs: { A: [1, { b: null }] } } },
  ],
  edges: [
    { id: "edge-1", source: "node-1", target: "node-2", sourceHandle: "Web Page", targetHandle: "Web Page", note: "kept" },
    { id: "edge-2", source: "node-2", target: "node-3", sourceHandle: "Done", targetHandle: "Nobody knows" },
  ],
};

describe("round trip", () => {
  it("gives back exactly what it read, unknown keys and types included", () => {
    const loaded = fromDefinition(SAMPLE, types);
    expect(toDefinition(loaded.nodes, loaded.edges, loaded.rest)).toEqual(SAMPLE);
  });

  it("never stores what only the canvas knows", () => {
    const loaded = fromDefinition(SAMPLE, types);
    const touched = loaded.nodes.map((node) => ({ ...node, selected: true, dragging: true, measured: { width: 9, height: 9 } }));
    const wires = loaded.edges.map((edge) => ({ ...edge, selected: true, className: "x" }));
    expect(toDefinition(touched, wires, loaded.rest)).toEqual(SAMPLE);
  });

  it("turns handle slugs into port names", () => {
    const loaded = fromDefinition(
      { ...SAMPLE, edges: [{ id: "e", source: "node-1", target: "node-2", sourceHandle: "web-page", targetHandle: "web-page" }] },
      types,
    );
    expect(loaded.edges[0]).toMatchObject({ sourceHandle: "Web Page", targetHandle: "Web Page" });
  });

  it("says when nodes have no place yet", () => {
    expect(fromDefinition({ nodes: [{ id: "a", type: "launch" }], edges: [] }, types).unplaced).toBe(true);
    expect(fromDefinition(SAMPLE, types).unplaced).toBe(false);
  });

  it("reads a workflow without any definition as an empty canvas", () => {
    expect(fromDefinition(null, types)).toMatchObject({ nodes: [], edges: [] });
  });

  it("gives edges without an id, and with a doubled one, an id of their own", () => {
    const edge = { source: "node-1", target: "node-2", sourceHandle: "Web Page", targetHandle: "Web Page" };
    const loaded = fromDefinition({ ...SAMPLE, edges: [edge, { ...edge, id: "node-1:Web Page-node-2:Web Page" }] }, types);
    expect(new Set(loaded.edges.map((item) => item.id)).size).toBe(2);
  });
});

describe("ids", () => {
  it("are readable and free", () => {
    expect(freshId("fill_input", new Set())).toBe("fill_input_1");
    expect(freshId("fill_input", new Set(["fill_input_1", "fill_input_2"]))).toBe("fill_input_3");
  });

  it("are checked before a rename", () => {
    const taken = new Set(["a", "b"]);
    expect(idProblem("a", "a", taken)).toBeNull();
    expect(idProblem("b", "a", taken)).toMatch(/already used/);
    expect(idProblem("", "a", taken)).toMatch(/needed/);
    expect(idProblem("1x", "a", taken)).toMatch(/beginning with a letter/);
    expect(idProblem("login_form", "a", taken)).toBeNull();
  });
});

describe("renameReferences", () => {
  it("follows a new id in every way of naming it", () => {
    const inputs = {
      a: "{{ nodes.old.Text }} and nodes.old outside",
      b: { deep: ['{{ nodes["old"]["Html Content"] | upper }}'] },
      c: "{{ nodes.older.Text }} {{ nodes.old-2.Text }}",
      d: 5,
    };
    expect(renameReferences(inputs, "old", "fresh")).toEqual({
      a: "{{ nodes.fresh.Text }} and nodes.old outside",
      b: { deep: ['{{ nodes["fresh"]["Html Content"] | upper }}'] },
      c: "{{ nodes.older.Text }} {{ nodes.old-2.Text }}",
      d: 5,
    });
  });

  it("returns the same object when nothing changes", () => {
    const inputs = { a: ["x", { b: 1 }] };
    expect(renameReferences(inputs, "old", "fresh")).toBe(inputs);
  });
});

describe("subtitleOf", () => {
  it("shows the essential parameter on one line", () => {
    const type = types.get("fill_input");
    expect(subtitleOf(type, { inputs: { Selector: " #a\n b " } })).toBe("#a b");
    expect(subtitleOf(type, { inputs: { Selector: { $credential: "x", field: "user" } } })).toBe("credential user");
    expect(subtitleOf(type, {})).toBe("");
  });
});

describe("what a run costs", () => {
  it("counts every step but those that are off", () => {
    const { nodes } = fromDefinition(SAMPLE, types);
    const all = nodes.reduce((sum, node) => sum + (types.get(node.data.type)?.credits ?? 0), 0);
    const off = nodes.map((node, place) =>
      place ? node : { ...node, data: { ...node.data, step: { ...node.data.step, disabled: true } } },
    );

    expect(costOf(nodes, types)).toBe(all);
    expect(costOf(off, types)).toBe(all - (types.get("launch")?.credits ?? 0));
    expect(costOf(off, types)).toBeLessThan(all);
  });
});
