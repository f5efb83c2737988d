import { describe, expect, it } from "vitest";

import type { InputPort, OutputPort, PortType } from "../contract";
import { TYPES } from "../testing/make";
import { compatible, reaches, refusal, slug, type Graph, type Wire } from "./ports";

const types = new Map(TYPES.map((type) => [type.type, type]));

function graph(nodes: Record<string, string>, edges: Wire[] = []): Graph {
  return { nodes: Object.entries(nodes).map(([id, type]) => ({ id, data: { type } })), edges, types };
}

const wire = (source: string, sourceHandle: string, target: string, targetHandle: string): Wire => ({
  source,
  sourceHandle,
  target,
  targetHandle,
});

describe("compatible", () => {
  const output = (kind: PortType): OutputPort => ({ name: "Out", slug: "out", type: kind });
  const input = (kind: PortType, accepts: PortType[]): InputPort => ({
    name: "In",
    slug: "in",
    type: kind,
    accepts,
    takes_many: false,
    kinds: [],
    whole: false,
  });

  it.each<[PortType, PortType, PortType[], boolean]>([
    ["STRING", "JSON", ["JSON", "STRING"], true],
    ["NUMBER", "STRING", ["STRING", "NUMBER"], true],
    ["JSON", "JSON", ["LIST"], false],
    ["BROWSER_INSTANCE", "ANY", ["ANY", "STRING"], false],
    ["STRING", "STRING", [], false],
  ])("%s into %s that accepts %j: %s", (source, target, accepts, legal) => {
    expect(compatible(output(source), input(target, accepts))).toBe(legal);
  });
});

describe("refusal", () => {
  const two = { open: "launch", fill: "fill_input", html: "get_html", json: "transform", fork: "branch" };

  it("accepts a page into a page", () => {
    expect(refusal(wire("open", "Web Page", "fill", "Web Page"), graph(two))).toBeNull();
  });

  it("names both types when they do not fit", () => {
    expect(refusal(wire("open", "Web Page", "json", "Input JSON"), graph(two))).toBe(
      "Web Page gives a web page, Input JSON takes JSON.",
    );
  });

  it("refuses a wire to itself", () => {
    expect(refusal(wire("fill", "Web Page", "fill", "Web Page"), graph(two))).toMatch(/itself/);
  });

  it("refuses a second wire into the same input", () => {
    const edges = [wire("open", "Web Page", "fill", "Web Page")];
    expect(refusal(wire("html", "Web Page", "fill", "Web Page"), graph(two, edges))).toMatch(/already has a wire/);
  });

  it("lets Execute Condition take several wires, but not the same twice", () => {
    const edges = [wire("fork", "True Path", "json", "Execute Condition")];
    expect(refusal(wire("html", "Done", "json", "Execute Condition"), graph(two, edges))).toBeNull();
    expect(refusal(wire("fork", "False Path", "json", "Execute Condition"), graph(two, edges))).toBeNull();
    expect(refusal(wire("fork", "True Path", "json", "Execute Condition"), graph(two, edges))).toMatch(/already wired/);
  });

  it("refuses a circle of any length", () => {
    const edges = [wire("open", "Web Page", "fill", "Web Page"), wire("fill", "Web Page", "html", "Web Page")];
    expect(refusal(wire("html", "Done", "open", "Execute Condition"), graph(two, edges))).toMatch(/circle/);
  });

  it("refuses an input that is only typed in", () => {
    expect(refusal(wire("html", "Html Content", "open", "Website URL"), graph(two))).toMatch(/takes no wire/);
  });

  it("refuses ports that do not exist", () => {
    expect(refusal(wire("open", "Nothing", "fill", "Web Page"), graph(two))).toMatch(/no such port/);
  });

  it("lets the server say which inputs take several wires", () => {
    const open = structuredClone(types.get("transform")!);
    open.inputs[0]!.takes_many = true;
    const edges = [wire("html", "Html Content", "json", "Input JSON")];
    const set = { ...graph({ ...two, more: "get_html" }, edges), types: new Map(types).set("transform", open) };
    expect(refusal(wire("more", "Html Content", "json", "Input JSON"), set)).toBeNull();
  });
});

describe("reaches", () => {
  it("visits each node once: 10 stages of 10 are no 10^10 paths", () => {
    const edges: Wire[] = [];
    for (let stage = 0; stage < 10; stage++) {
      for (let a = 0; a < 10; a++) {
        for (let b = 0; b < 10; b++) edges.push({ source: `${stage}.${a}`, target: `${stage + 1}.${b}` });
      }
    }
    const start = performance.now();
    expect(reaches(edges, "0.0", "nowhere")).toBe(false);
    expect(reaches(edges, "0.0", "10.9")).toBe(true);
    expect(performance.now() - start).toBeLessThan(200);
  });
});

describe("slug", () => {
  it("makes handle ids as the server does", () => {
    expect(slug("Execute Condition")).toBe("execute-condition");
    expect(slug("Delay (seconds)")).toBe("delay-seconds");
    expect(slug("element_appeared")).toBe("element_appeared");
  });
});
