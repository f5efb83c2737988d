import { describe, expect, it } from "vitest";

import { ago, bytes, clock, count, duration, triggerWord } from "./format";

describe("duration", () => {
  it.each([
    [0, "0 ms"],
    [999, "999 ms"],
    [1000, "1.0 s"],
    [1500, "1.5 s"],
    [59_999, "59.9 s"],
    [999.7, "999 ms"],
    [60_000, "1 min"],
    [125_900, "2 min 5 s"],
    [3_599_999, "59 min 59 s"],
    [3_600_000, "1 h"],
    [5_400_000, "1 h 30 min"],
  ])("%i ms is %s", (ms, text) => {
    expect(duration(ms)).toBe(text);
  });

  it("is nothing for nothing", () => {
    expect(duration(null)).toBe("");
  });
});

describe("ago", () => {
  const now = Date.UTC(2026, 0, 1, 12);

  it.each([
    [-2, "just now"],
    [2, "now"],
    [-5 * 60, "5 min ago"],
    [-59.6 * 60, "1 h ago"],
    [2 * 3600, "in 2 h"],
    [-30 * 3600, "yesterday"],
    [3 * 86_400, "in 3 days"],
  ])("says %s seconds as %s", (seconds, words) => {
    expect(ago(new Date(now + seconds * 1000).toISOString(), now)).toBe(words);
  });

  it("is nothing for nothing and nonsense", () => {
    expect(ago(null, now)).toBe("");
    expect(ago("never", now)).toBe("");
  });
});

it("writes one and many", () => {
  expect([count(1, "step"), count(2, "step"), count(1200, "line")]).toEqual(["1 step", "2 steps", "1,200 lines"]);
});

it("writes the clock with milliseconds", () => {
  expect(clock("2026-01-01T12:00:00.007+00:00")).toMatch(/^\d\d:\d\d:\d\d\.007$/);
  expect(clock("")).toBe("");
});

it("writes triggers as people do", () => {
  expect(["api", "one_time", "manual"].map(triggerWord)).toEqual(["API", "One-time", "Manual"]);
});

it.each([
  [1, "1 byte"],
  [900, "900 bytes"],
  [1536, "1.5 KB"],
  [2_621_440, "2.5 MB"],
])("writes %i bytes as %s", (n, words) => {
  expect(bytes(n)).toBe(words);
});
