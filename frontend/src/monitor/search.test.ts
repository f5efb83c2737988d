import { act, cleanup, renderHook } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";

import type { ExecutionLog } from "../contract";
import { log, logs } from "../testing/make";
import type { LevelFilter } from "./logs";
import { Search, useSearch } from "./search";

const seqs = (list: readonly ExecutionLog[]) => list.map((item) => item.seq);
const find = (list: readonly ExecutionLog[], level: LevelFilter, text: string) => {
  const search = new Search(level, text);
  expect(search.look(list)).toBe(true);
  return search.found;
};
/** A clock on which every look takes longer than a piece may. */
const slow = () => {
  let now = 0;
  return () => (now += 1000);
};

afterEach(cleanup);

describe("Search", () => {
  const list = [
    log(1, { level: "info", step_name: "Open" }),
    log(2, { level: "error", step_name: "Click", error_message: "Timeout 10000ms" }),
    log(3, { level: "debug", step_type: "fill_input" }),
    log(4, { level: "warning", node_id: "node_7", message: "(a+b)*[c]" }),
  ];

  it.each([
    ["error", [2]],
    ["warning", [4]],
    ["all", [1, 2, 3, 4]],
  ] as const)("finds level %s", (level, found) => {
    expect(seqs(find(list, level, ""))).toEqual(found);
  });

  it.each([
    ["open", [1]],
    ["TIMEOUT", [2]],
    ["fill_", [3]],
    ["line 2", [2]],
    ["node_7", [4]],
    ["(a+b)*[c]", [4]],
    [".*", []],
  ])("finds %s in name, type, error and message", (text, found) => {
    expect(seqs(find(list, "all", text))).toEqual(found);
  });

  it("finds nothing where level and text do not meet", () => {
    expect(find(list, "error", "open")).toEqual([]);
  });

  it("returns the same list without a filter", () => {
    expect(find(list, "all", " ")).toBe(list);
  });

  it("looks at new lines only, and lets go of those that went", () => {
    const search = new Search("all", "line");
    search.look(logs(1, 10));
    const before = search.found;
    search.look(logs(4, 12));
    expect(seqs(search.found)).toEqual(seqs(logs(4, 12)));
    expect(search.found[0]).toBe(before[3]);
  });

  it("looks again when older lines came in front, or all are others", () => {
    const search = new Search("all", "line");
    search.look(logs(50, 60));
    search.look(logs(1, 60));
    expect(search.found).toHaveLength(60);
    search.look(logs(100, 110));
    expect(seqs(search.found)).toEqual(seqs(logs(100, 110)));
  });

  it("stops in time and goes on where it was", () => {
    const all = logs(1, 2200);
    const search = new Search("all", "line");
    const clock = slow();
    const sizes = [];
    for (let pieces = 0; pieces < 20 && !search.look(all, clock); pieces++) sizes.push(search.found.length);
    expect(sizes.length).toBeGreaterThan(2);
    expect(seqs(search.found)).toEqual(seqs(all));
  });
});

describe("useSearch", () => {
  it("gives what it has at once and the rest soon", async () => {
    vi.spyOn(performance, "now").mockImplementation(slow());
    const all = logs(1, 3000);
    const hook = renderHook(({ text }) => useSearch(all, "all", text), { initialProps: { text: "" } });
    expect(hook.result.current).toEqual({ shown: all, done: true });
    hook.rerender({ text: "line 2999" });
    expect(hook.result.current.done).toBe(false);
    for (let piece = 0; piece < 20 && !hook.result.current.done; piece++) {
      await act(() => new Promise((resolve) => setTimeout(resolve, 0)));
    }
    expect(hook.result.current.done).toBe(true);
    expect(seqs(hook.result.current.shown)).toEqual([2999]);
  });
});
