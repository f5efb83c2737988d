import { beforeEach, describe, expect, it } from "vitest";

import { nodeType } from "../testing/make";
import { suggest } from "./ConnectDialog";
import { useBuilder } from "./store";

const TYPES = [
  nodeType("wait", [{ name: "Duration", type: "NUMBER", required: true }], [{ name: "Seconds", type: "NUMBER" }]),
  nodeType(
    "send",
    [
      { name: "Address", type: "STRING", required: true },
      { name: "Payload", type: "STRING", required: true },
    ],
    [{ name: "Answer", type: "STRING" }],
  ),
];

const state = () => useBuilder.getState();

beforeEach(() => {
  state().load(
    { id: "w", name: "", description: "", status: "draft", version: 1, active_version: null, schedule: null, definition: { nodes: [], edges: [] } },
    TYPES,
  );
});

describe("suggest", () => {
  it("says when to run rather than convert a value", () => {
    const wait = state().addNode("wait");
    const send = state().addNode("send");
    expect(suggest({ source: wait, target: send }, state())).toEqual({
      source: wait, sourceHandle: "Done", target: send, targetHandle: "Execute Condition",
    });
  });

  it("passes a value of equal type, but not over one that was typed", () => {
    const first = state().addNode("send");
    const second = state().addNode("send");
    expect(suggest({ source: first, target: second }, state())).toMatchObject({ sourceHandle: "Answer", targetHandle: "Address" });
    state().setInput(second, "Address", "https://example.com");
    expect(suggest({ source: first, target: second }, state())).toMatchObject({ sourceHandle: "Answer", targetHandle: "Payload" });
    expect(suggest({ source: first, target: second, targetHandle: "Address" }, state())).toMatchObject({ targetHandle: "Address" });
  });

  it("converts a value when that is asked for", () => {
    const wait = state().addNode("wait");
    const send = state().addNode("send");
    expect(suggest({ source: wait, sourceHandle: "Seconds", target: send }, state())).toMatchObject({
      sourceHandle: "Seconds", targetHandle: "Address",
    });
  });
});
