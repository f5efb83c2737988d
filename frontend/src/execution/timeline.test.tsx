import { cleanup, render, screen } from "@testing-library/react";
import { afterEach, describe, expect, it } from "vitest";

import type { Bar } from "../contract";
import { shape } from "./Chords";
import { ticks } from "./ticks";
import { spans, Turns } from "./Timeline";

afterEach(cleanup);

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

describe("turns", () => {
  const turn = (number: number, status: "completed" | "running") => ({
    id: `child-${number}`, node_id: "loop", name: "Each order", what: `Turn ${number}`, status, queued_ms: 10 * number,
    started_ms: 10 * number, finished_ms: status === "completed" ? 10 * number + 5 : null,
  });
  const times = { turns: [turn(1, "completed"), turn(2, "running")], turn_count: 150, turns_ended: 148, turns_failed: 3 };
  const links = { executionUrl: "/executions/{id}/", listed: "/executions/?started=parent" };

  it("have a bar and a link each, and say how many there are", () => {
    render(<Turns times={times} whole={100} {...links} />);
    expect(screen.getByRole("heading").textContent).toContain("150 in all, the first 2 shown, 3 failed, 2 not ended");
    expect(screen.getByRole("link", { name: "Turn 2" }).getAttribute("href")).toBe("/executions/child-2/");
    expect(screen.getByRole("link", { name: "Show them in the list" }).getAttribute("href")).toBe("/executions/?started=parent");
    const bars = [...document.querySelectorAll<HTMLElement>("[data-turn] [data-kind=ran]")];
    expect(bars.map((bar) => [bar.style.left, bar.style.width])).toEqual([["10%", "5%"], ["20%", "80%"]]);
  });

  it("are not mentioned where there are none", () => {
    render(<Turns times={{ turns: [], turn_count: 0, turns_ended: 0, turns_failed: 0 }} whole={100} {...links} />);
    expect(document.querySelector("section")).toBeNull();
  });
});

describe("words", () => {
  it.each([
    [3, 3, 0, "chord of 3 messages"],
    [2, 1, 0, "1 message"],
    [1, 0, 0, "no message"],
    [3, 2, 1, "3 headers, 1 sent again"],
    [1, 0, 1, "1 header, 1 sent again"],
  ])("of %i headers, %i messages, %i of them again", (header_count, message_count, sent_again, text) => {
    expect(shape({ header_count, message_count, sent_again })).toBe(text);
  });
});
