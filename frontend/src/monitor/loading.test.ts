import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { keepLoading } from "./loading";

describe("keepLoading", () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it("gives what was loaded, once", async () => {
    const use = vi.fn();
    keepLoading(() => Promise.resolve("list"), use);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(use.mock.calls).toEqual([["list"]]);
  });

  it("tries again after longer and longer pauses until the server is back", async () => {
    const use = vi.fn();
    const load = vi.fn(() => (load.mock.calls.length < 4 ? Promise.reject(new Error("no server")) : Promise.resolve(7)));
    keepLoading(load, use);
    await vi.advanceTimersByTimeAsync(400);
    expect(load).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(200);
    expect(load).toHaveBeenCalledTimes(2);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(load).toHaveBeenCalledTimes(3);
    expect(use).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(2_000);
    expect(use.mock.calls).toEqual([[7]]);
  });

  it("gives up when it is told to, in a pause and while it loads", async () => {
    const use = vi.fn();
    const load = vi.fn(() => Promise.reject(new Error("no server")));
    const stop = keepLoading(load, use);
    await vi.advanceTimersByTimeAsync(100);
    stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(load).toHaveBeenCalledTimes(1);

    keepLoading(() => Promise.resolve(1), use)();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(use).not.toHaveBeenCalled();
  });
});
