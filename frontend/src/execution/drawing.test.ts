import { describe, expect, it } from "vitest";

import type { WorkflowDefinition } from "../contract";
import { arrange, wiresOf } from "./drawing";

function definition(positions: ({ x: number; y: number } | undefined)[]): WorkflowDefinition {
  const nodes = positions.map((position, index) => ({
    id: `n${index}`,
    type: "delay",
    position,
    data: { inputs: index === 2 ? { URL: "{{ nodes.n0.Value }}" } : {} },
  }));
  return { nodes, edges: [{ source: "n0", target: "n1", sourceHandle: "Done", targetHandle: "Execute Condition" }] };
}

describe("wires", () => {
  it("are the edges and the references in templates", () => {
    expect(wiresOf(definition([undefined, undefined, undefined]))).toEqual([
      { source: "n0", target: "n1", template: false },
      { source: "n0", target: "n2", template: true },
    ]);
  });
});

describe("places", () => {
  it("are the author's where every step has its own", () => {
    const part = definition([{ x: 0, y: 0 }, { x: 300, y: 0 }, { x: 0, y: 200 }]);
    expect([...arrange(part, wiresOf(part)).values()]).toEqual([{ x: 0, y: 0 }, { x: 300, y: 0 }, { x: 0, y: 200 }]);
  });

  it("follow the wires where steps lie on each other or nowhere", () => {
    const part = definition([{ x: 0, y: 0 }, { x: 0, y: 0 }, undefined]);
    const places = arrange(part, wiresOf(part));
    expect(new Set([...places.values()].map(({ x, y }) => `${x},${y}`)).size).toBe(3);
    expect(places.get("n1")!.x).toBeGreaterThan(places.get("n0")!.x + 216);
  });
});
