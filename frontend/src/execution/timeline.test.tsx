import { describe, expect, it } from "vitest";

import type { Bar } from "../contract";
import { ticks } from "./ticks";
import { spans } from "./Timeline";

function bar(part: Partial<Bar>): Bar {
  return {
    node_id: "a", name: "A", type: "delay", phase: 0, status: "completed", attempt: 1, queued_ms: null, started_ms: null,
    finished_ms: null, critical: false, error: null, ...part,
  };
}

describe("spans", () => {
  it("has queue time and run time of a step that ended", () => {
    expect(spans(bar({ queued_ms: 10, started_ms: 30, finished_ms: 90 }), 500)).toEqual({ queued: [10, 30], ran: [30, 90] });
  });

  it("lasts until now while a step is queued or runs", () => {
    expect(spans(bar({ status: "queued", queued_ms: 10 }), 500)).toEqual({ queued: [10, 500], ran: null });
    expect(spans(bar({ status: "running", queued_ms: 10, started_ms: 20 }), 500)).toEqual({ queued: [10, 20], ran: [20, 500] });
  });

  it("has nothing of a step that was skipped, and ends where a cancelled one ended", () => {
    expect(spans(bar({ status: "skipped" }), 500)).toEqual({ queued: null, ran: null });
    expect(spans(bar({ status: "cancelled", queued_ms: 10, finished_ms: 40 }), 500)).toEqual({ queued: [10, 40], ran: null });
  });
});

describe("ticks", () => {
  it.each([0.4, 1, 7, 99, 1500, 61_000, 3_600_000, 86_400_000, 30 * 86_400_000])("are few and round for %d ms", (whole) => {
    const found = ticks(whole);
    expect(found[0]).toBe(0);
    expect(found.length).toBeLessThanOrEqual(7);
    expect(Math.max(...found)).toBeLessThanOrEqual(whole);
    if (whole > 2) expect(found.length).toBeGreaterThanOrEqual(2);
  });
});
