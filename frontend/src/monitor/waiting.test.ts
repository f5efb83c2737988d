import { describe, expect, it } from "vitest";

import type { Wait } from "../contract";
import { hour } from "../format";
import { log } from "../testing/make";
import { EMPTY_RUN, fold, statusOf } from "./logs";
import { placeOf, waitText } from "./waiting";

const NOON = "2026-01-01T12:00:00Z";
const wait = (part: Partial<Wait>): Wait => ({
  node_id: "n",
  name: "Ask",
  node_type: "approval",
  link: null,
  kind: "approval",
  since: NOON,
  until: null,
  title: "",
  message: "",
  done: null,
  total: null,
  ...part,
});

describe("waitText", () => {
  it.each<[Partial<Wait>, string]>([
    [{}, `Waits for approval since ${hour(NOON)}`],
    [{ until: NOON }, `Waits for approval since ${hour(NOON)}, until ${hour(NOON)}`],
    [{ kind: "timer", until: NOON }, `Waits until ${hour(NOON)}`],
    [{ kind: "children", node_type: "loop_items", done: 7, total: 10 }, "Waits for 3 of 10 turns"],
    [{ kind: "children", node_type: "subflow", done: 0, total: 1 }, "Waits for 1 of 1 execution"],
  ])("%j: %s", (part, text) => {
    expect(waitText(wait(part))).toBe(text);
  });
});

describe("placeOf", () => {
  const loops = { one: "outer", inner: "outer", deep: "inner" };

  it.each([
    ["outer", "", "here"],
    ["one", "", "turns"],
    ["deep", "", "turns"],
    ["one", "outer", "here"],
    ["deep", "outer", "turns"],
    ["after", "outer", "elsewhere"],
    ["deep", "inner", "here"],
    ["one", "inner", "elsewhere"],
  ])("%s seen from %j is %s", (id, scope, place) => {
    expect(placeOf(id, { loops, scope })).toBe(place);
  });
});

describe("statusOf", () => {
  const started = fold(EMPTY_RUN, [
    log(1, { event: "workflow_start" }),
    log(2, { event: "node_start", node_id: "ask" }),
    log(3, { event: "node_start", node_id: "fetch" }),
  ]);
  const asks = fold(started, [log(4, { event: "node_waiting", node_id: "ask" })]);

  it("is running while a step runs, waiting when only steps that wait are left", () => {
    expect([statusOf(started), statusOf(asks)]).toEqual(["running", "running"]);
    expect(statusOf(fold(asks, [log(5, { event: "node_complete", node_id: "fetch" })]))).toBe("waiting");
  });

  it("goes on when a step does", () => {
    const waits = fold(asks, [log(5, { event: "node_complete", node_id: "fetch" })]);

    expect(statusOf(fold(waits, [log(6, { event: "resume", node_id: "ask" })]))).toBe("running");
  });

  it("is paused by the execution, not by a step", () => {
    const paused = fold(started, [log(4, { event: "pause" })]);

    expect(statusOf(paused)).toBe("paused");
    expect(statusOf(fold(paused, [log(5, { event: "resume" })]))).toBe("running");
  });
});
