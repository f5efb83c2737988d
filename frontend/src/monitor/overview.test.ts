import { describe, expect, it } from "vitest";

import type { ExecutionSummary, OverviewFrame } from "../contract";
import { idsIn, MOST_OPEN, toggled } from "./open";
import { asked, NOTHING, pushed, RECENT, type Tiles } from "./overview";

const TILES = { running: 1, pending: 0 } as Tiles;

function run(id: string, more: Partial<ExecutionSummary> = {}): ExecutionSummary {
  return {
    id,
    workflow_id: "w1",
    workflow_name: "Shop",
    status: "running",
    queued_at: "2026-01-01T12:00:00.000Z",
    last_seq: 1,
    progress: { done: 0, total: 2 },
    ...more,
  } as ExecutionSummary;
}

function frame(executions: ExecutionSummary[], more: Partial<OverviewFrame> = {}): OverviewFrame {
  return { type: "overview", executions, removed: [], tiles: {}, ...more };
}

const ids = (items: readonly ExecutionSummary[] | null) => items?.map((item) => item.id);

describe("the overview", () => {
  it("is what a full frame says, the newest first", () => {
    const later = run("b", { queued_at: "2026-01-01T12:00:05.000Z" });
    const known = pushed(NOTHING, frame([run("a"), later], { full: true, tiles: { ...TILES } }));

    expect(ids(known.executions)).toEqual(["b", "a"]);
    expect(known.tiles).toEqual(TILES);
    expect(ids(pushed(known, frame([run("c")], { full: true })).executions)).toEqual(["c"]);
  });

  it("takes changes, new executions and what is gone", () => {
    const before = pushed(NOTHING, frame([run("a"), run("b")], { full: true, tiles: { ...TILES } }));
    const after = pushed(before, frame([run("a", { status: "completed", last_seq: 9 }), run("c")], { removed: ["b"] }));

    expect(ids(after.executions)).toEqual(["c", "a"]);
    expect(after.executions?.find((item) => item.id === "a")?.status).toBe("completed");
    expect(after.tiles).toEqual(TILES);
  });

  it("knows nothing of the list from a change alone, but its tiles", () => {
    expect(pushed(NOTHING, frame([run("a")], { tiles: { ...TILES } }))).toEqual({ executions: null, tiles: TILES });
  });

  it("does not go back when an answer was slow", () => {
    const live = pushed(NOTHING, frame([run("a", { status: "completed", last_seq: 9 })], { full: true }));
    const after = asked(live, [run("a", { last_seq: 4 }), run("b")]);

    expect(after.executions?.find((item) => item.id === "a")?.status).toBe("completed");
    expect(ids(after.executions)).toEqual(["b", "a"]);
  });

  it("keeps all that run and the newest of those that ended", () => {
    const ended = Array.from({ length: RECENT + 5 }, (_, i) =>
      run(`e${i}`, { status: "completed", queued_at: `2026-01-01T12:00:${String(i).padStart(2, "0")}.000Z` }),
    );
    const known = pushed(NOTHING, frame([...ended, run("old", { queued_at: "2025-01-01T12:00:00.000Z" })], { full: true }));

    expect(known.executions).toHaveLength(RECENT + 1);
    expect(ids(known.executions)?.[0]).toBe(`e${RECENT + 4}`);
    expect(ids(known.executions)?.at(-1)).toBe("old");
  });

  it("shows one workflow only, and keeps of it what a full frame leaves out", () => {
    const listed = asked(NOTHING, [run("a", { status: "completed" })]);
    const known = pushed(listed, frame([run("b"), run("x", { workflow_id: "w2" })], { full: true }), "w1");

    expect(ids(known.executions)).toEqual(["b", "a"]);
  });
});

describe("what is shown side by side", () => {
  const id = (n: number) => `00000000-0000-0000-0000-00000000000${n}`;

  it("is read from the address, each once, and nothing else", () => {
    expect(idsIn(`#${id(1)},${id(2)},${id(1)},javascript:x`)).toEqual([id(1), id(2)]);
    expect(idsIn("")).toEqual([]);
  });

  it("is bounded: the oldest makes room", () => {
    const open = Array.from({ length: MOST_OPEN }, (_, n) => id(n));

    expect(toggled(open, "new")).toEqual([...open.slice(1), "new"]);
    expect(toggled(open, id(2))).not.toContain(id(2));
  });
});
