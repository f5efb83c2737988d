import { describe, expect, it } from "vitest";

import type { ExecutionLog } from "../contract";
import { log, logs } from "../testing/make";
import { EMPTY_RUN, fold, mergeLogs, percent, total, upperBound } from "./logs";

const seqs = (list: readonly ExecutionLog[]) => list.map((item) => item.seq);

describe("mergeLogs", () => {
  it("appends what is newer", () => {
    expect(seqs(mergeLogs(logs(1, 3), logs(4, 5)))).toEqual([1, 2, 3, 4, 5]);
  });

  it("drops the overlap", () => {
    expect(seqs(mergeLogs(logs(1, 5), logs(3, 8)))).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it("puts older lines in front and into holes", () => {
    expect(seqs(mergeLogs([log(4), log(9)], [log(1), log(4), log(6), log(12)]))).toEqual([1, 4, 6, 9, 12]);
  });

  it("keeps the known object, so that rows do not render again", () => {
    const known = logs(1, 3);
    const merged = mergeLogs(known, logs(2, 4));
    expect(merged[1]).toBe(known[1]);
  });

  it("removes doubles inside one batch", () => {
    expect(seqs(mergeLogs([], [log(1), log(1), log(2)]))).toEqual([1, 2]);
  });

  it("returns the same list when nothing came", () => {
    const known = logs(1, 3);
    expect(mergeLogs(known, [])).toBe(known);
  });

  it("gives the sorted union for any split of any order of arrival", () => {
    let random = 7;
    const next = (n: number) => (random = (random * 1103515245 + 12345) % 2147483648) % n;
    for (let round = 0; round < 200; round++) {
      let merged: ExecutionLog[] = [];
      const sent = new Set<number>();
      for (let batch = 0; batch < 6; batch++) {
        const from = 1 + next(40);
        const part = logs(from, from + next(15));
        for (const item of part) sent.add(item.seq);
        merged = mergeLogs(merged, part);
      }
      expect(seqs(merged)).toEqual([...sent].sort((a, b) => a - b));
    }
  });
});

describe("upperBound", () => {
  it("finds the first newer entry", () => {
    const list = [log(2), log(4), log(6)];
    expect([1, 2, 3, 6, 7].map((seq) => upperBound(list, seq))).toEqual([0, 1, 1, 3, 3]);
  });
});

describe("fold", () => {
  const node = (seq: number, event: string, id: string, part: Partial<ExecutionLog> = {}) =>
    log(seq, { event, node_id: id, step_name: id, ...part });

  it("gives every node the status of its last event", () => {
    const run = fold(EMPTY_RUN, [
      log(1, { event: "workflow_start" }),
      node(2, "node_start", "a"),
      node(3, "node_complete", "a", { duration_ms: 12 }),
      node(4, "node_start", "b"),
      node(5, "node_retry", "b", { error_message: "slow" }),
      node(6, "node_start", "b", { attempt: 2 }),
      node(7, "node_error", "b", { error_message: "gone" }),
      node(8, "node_skipped", "c"),
      log(9, { event: "workflow_error", status: "failed", error_message: "b: gone" }),
    ]);
    expect([...run.nodes].map(([id, state]) => [id, state.status])).toEqual([
      ["a", "completed"],
      ["b", "failed"],
      ["c", "skipped"],
    ]);
    expect(run.done).toBe(3);
    expect(run.status).toBe("failed");
    expect(run.errorNode).toBe("b");
    expect(run.nodes.get("b")?.attempt).toBe(2);
  });

  it("says of a step that was stopped with its execution that it was cancelled, not that it was skipped", () => {
    const run = fold(EMPTY_RUN, [
      log(1, { event: "workflow_start" }),
      node(2, "node_start", "a"),
      node(3, "node_skipped", "a", { status: "cancelled", duration_ms: 3000 }),
    ]);
    expect(run.nodes.get("a")).toMatchObject({ status: "cancelled", durationMs: 3000 });
  });

  it("is the same in one step and line by line", () => {
    const events = [
      log(1, { event: "workflow_start" }),
      node(2, "node_start", "a"),
      node(3, "node_complete", "a"),
      log(4, { event: "workflow_complete", status: "completed_with_errors" }),
    ];
    let state = EMPTY_RUN;
    for (const event of events) state = fold(state, [event]);
    expect(state).toEqual(fold(EMPTY_RUN, events));
    expect(state.status).toBe("completed_with_errors");
  });

  it("counts progress from ended nodes only", () => {
    const run = fold(EMPTY_RUN, [log(1, { event: "workflow_start" }), node(2, "node_start", "a"), node(3, "node_complete", "a"), node(4, "node_start", "b")]);
    expect(percent(run, 4)).toBe(25);
    expect(total(run, { done: 0, total: 4, percent: 0 })).toBe(4);
    expect(percent(EMPTY_RUN, 0)).toBe(0);
  });

  it("adds up what ended nodes cost and how long the run was queued", () => {
    const run = fold(EMPTY_RUN, [
      log(1, { event: "workflow_start", data: { queued_seconds: 0.25 } }),
      log(2, { event: "node_complete", node_id: "a", data: { credits: 5 } }),
      log(3, { event: "node_error", node_id: "b", data: { credits: 1 } }),
    ]);
    expect([run.credits, run.queuedMs]).toEqual([6, 250]);
  });

  it("says 100 only when the run has ended", () => {
    const ended = Array.from({ length: 208 }, (_, index) => node(index + 1, "node_complete", `n${index}`));
    expect(percent(fold(EMPTY_RUN, ended), 209)).toBe(99);
    expect(percent(fold(EMPTY_RUN, ended), 208)).toBe(99);
    expect(percent(fold(EMPTY_RUN, [...ended, log(209, { event: "workflow_complete" })]), 208)).toBe(100);
  });

  it("weighs nodes by how long they are expected to take", () => {
    const run = fold(EMPTY_RUN, [node(1, "node_complete", "quick"), node(2, "node_start", "slow")]);
    expect(percent(run, 2, { quick: 100, slow: 900 })).toBe(10);
    expect(percent(fold(run, [node(3, "node_complete", "slow")]), 2, { quick: 100, slow: 900 })).toBe(99);
    expect(percent(run, 2, {})).toBe(50);
  });

  it("counts what a step that runs has taken of what is expected, up to nine tenths", () => {
    const since = "2026-01-01T12:00:00Z";
    const at = (ms: number) => new Date(since).getTime() + ms;
    const run = fold(EMPTY_RUN, [node(1, "node_start", "only", { timestamp: since })]);
    const after = (ms: number, expected: Record<string, number> = { only: 1000 }) => percent(run, 1, expected, at(ms));
    expect([after(0), after(500), after(900), after(60_000)]).toEqual([0, 50, 90, 90]);
    expect(after(-5000), "a clock that is behind").toBe(0);
    expect(after(500, {}), "nothing is expected").toBe(0);
    expect(after(500, { other: 1000 }), "nothing is expected of this one").toBe(0);
    const held = fold(run, [node(2, "node_waiting", "only"), node(3, "resume", "only")]);
    expect(percent(held, 1, { only: 1000 }, at(700))).toBe(70);
    expect(percent(fold(run, [node(2, "node_retry", "only")]), 1, { only: 1000 }, at(700)), "tried again").toBe(0);
    const stopped = fold(run, [log(2, { event: "workflow_error", status: "failed" })]);
    expect(percent(stopped, 1, { only: 1000 }, at(700))).toBe(0);
  });

  it("gives a node that never ran before the usual weight", () => {
    const run = fold(EMPTY_RUN, [node(1, "node_complete", "a"), node(2, "node_complete", "new")]);
    expect(percent(run, 4, { a: 100, b: 300 })).toBe(37);
    expect(percent(run, 3, { a: 0, b: 0 })).toBe(66);
  });

  it("ends the bar of a failed run of which every step has ended", () => {
    const run = fold(EMPTY_RUN, [node(1, "node_error", "a"), log(2, { event: "workflow_error", status: "failed" })]);
    expect(percent(run, 1)).toBe(100);
  });

  it("leaves a failed run's bar where the run stopped", () => {
    const run = fold(EMPTY_RUN, [node(1, "node_error", "a"), log(2, { event: "workflow_error", status: "failed" })]);
    expect(percent(run, 4)).toBe(25);
  });
});
