import { act, renderHook } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { EVERY_MS, useFresh } from "./useFresh";

beforeEach(() => vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }));
afterEach(() => vi.useRealTimers());

const pass = (ms: number) => act(() => vi.advanceTimersByTimeAsync(ms));

describe("useFresh", () => {
  it("asks again for newer events, but not more often than it may", async () => {
    let asked = 0;
    const load = async () => ++asked;
    const { result, rerender } = renderHook(({ seq }) => useFresh(load, seq), { initialProps: { seq: 0 } });
    await pass(0);
    expect(result.current.data).toBe(1);
    for (let seq = 1; seq <= 100; seq++) {
      rerender({ seq });
      await pass(EVERY_MS / 50);
    }
    expect(asked).toBeGreaterThanOrEqual(2);
    expect(asked).toBeLessThanOrEqual(4);
  });

  it("does not give up an answer that is slower than the events", async () => {
    const load = () => new Promise<string>((answer) => setTimeout(() => answer("there"), 3 * EVERY_MS));
    const { result, rerender } = renderHook(({ seq }) => useFresh(load, seq), { initialProps: { seq: 0 } });
    for (let seq = 1; seq <= 31; seq++) {
      rerender({ seq });
      await pass(EVERY_MS / 10);
    }
    expect(result.current.data).toBe("there");
  });

  it("shows what went wrong, and the answer once there is one", async () => {
    let fails = true;
    const load = async () => {
      if (fails) throw new Error("no");
      return "yes";
    };
    const { result } = renderHook(() => useFresh(load, 0));
    await pass(0);
    expect(result.current).toMatchObject({ data: null, problem: "no" });
    fails = false;
    act(() => result.current.again());
    await pass(EVERY_MS);
    expect(result.current).toMatchObject({ data: "yes", problem: null });
  });

  it("does not show the answer to an old question", async () => {
    const slow = () => new Promise<string>((answer) => setTimeout(() => answer("old"), 1000));
    const quick = async () => "new";
    const { result, rerender } = renderHook(({ load }) => useFresh(load, 0), { initialProps: { load: slow } });
    rerender({ load: quick });
    await pass(2000);
    expect(result.current.data).toBe("new");
  });
});
