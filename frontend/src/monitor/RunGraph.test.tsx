import { cleanup, render } from "@testing-library/react";
import { afterEach, expect, it } from "vitest";

import { RunGraph } from "./RunGraph";

afterEach(cleanup);

it("has the whole name of every step, which the page cuts where its letters do not fit", () => {
  const names = ["Reshape the customer", "Reshape the customs"];
  const nodes = names.map((label, index) => ({ id: label, type: "delay", position: { x: index * 300, y: 0 }, data: { label } }));
  const steps = names.map((name) => ({ id: name, name, type: "delay", status: "completed" as const, attempt: 1, durationMs: 1, error: null }));

  render(<RunGraph definition={{ nodes, edges: [] } as never} steps={steps as never} over />);

  expect([...document.querySelectorAll(".fb-graph-name")].map((name) => name.textContent)).toEqual(names);
});
