import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { playServer, ServerEnd } from "../testing/sockets";
import { Connection, connectionTo, type Follower } from "./socket";

beforeEach(() => {
  vi.useFakeTimers();
  playServer();
});

afterEach(() => vi.useRealTimers());

const follower = (executionId: string): Follower => ({
  executionId,
  lastSeq: 0,
  subscribed: vi.fn(),
  receive: vi.fn(),
  doubt: vi.fn(),
});
const event = { type: "log", execution_id: "a", seq: 1 };

describe("connectionTo", () => {
  it("gives everybody who asks alike the same connection", () => {
    expect(connectionTo("/ws", 500)).toBe(connectionTo());
    expect(connectionTo("/other")).not.toBe(connectionTo());
  });
});

describe("attempts", () => {
  const pauses = async (between: () => void): Promise<number[]> => {
    vi.spyOn(Math, "random").mockReturnValue(0.5);
    new Connection("/ws", 500).follow(follower("a"));
    const found: number[] = [];
    for (let n = 0; n < 9; n++) {
      between();
      ServerEnd.last.hangUp(1006);
      const before = ServerEnd.all.length;
      let ms = 0;
      for (; ServerEnd.all.length === before; ms += 100) await vi.advanceTimersByTimeAsync(100);
      found.push(ms);
    }
    return found;
  };

  it("are made after pauses that double from half a second to half a minute", async () => {
    expect(await pauses(() => undefined)).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  });

  it("are as slow when the server opens and says nothing of use", async () => {
    const greet = () => {
      ServerEnd.last.accept();
      ServerEnd.last.say({ type: "hello" });
    };
    expect((await pauses(greet)).at(-1)).toBe(30_000);
  });

  it("begin with half a second again after an event came through", async () => {
    const work = () => {
      ServerEnd.last.accept();
      ServerEnd.last.say(event);
    };
    expect(new Set(await pauses(work))).toEqual(new Set([500]));
  });

  it("of many pages do not come at the same moment", async () => {
    for (let n = 0; n < 20; n++) new Connection("/ws", 1000).follow(follower("a"));
    for (const end of [...ServerEnd.all]) end.hangUp(1012);
    await vi.advanceTimersByTimeAsync(700);
    expect(ServerEnd.all).toHaveLength(20);
    await vi.advanceTimersByTimeAsync(300);
    expect(ServerEnd.all.length).toBeGreaterThan(20);
    expect(ServerEnd.all.length).toBeLessThan(40);
    await vi.advanceTimersByTimeAsync(300);
    expect(ServerEnd.all).toHaveLength(40);
  });

  it("are made at once when the network is back", async () => {
    new Connection("/ws", 500).follow(follower("a"));
    for (let n = 0; n < 6; n++) {
      ServerEnd.last.hangUp(1006);
      if (n < 5) await vi.advanceTimersByTimeAsync(30_000);
    }
    const before = ServerEnd.all.length;
    window.dispatchEvent(new Event("online"));
    expect(ServerEnd.all.length).toBe(before + 1);
  });

  it("give up a socket that does not open", async () => {
    new Connection("/ws", 500).follow(follower("a"));
    await vi.advanceTimersByTimeAsync(12_000);
    expect(ServerEnd.all).toHaveLength(2);
  });
});

describe("the line", () => {
  it("is pinged, and opened anew when the other side fell silent", async () => {
    new Connection("/ws", 500).follow(follower("a"));
    ServerEnd.last.accept();
    await vi.advanceTimersByTimeAsync(26_000);
    expect(ServerEnd.last.asked.at(-1)).toEqual({ type: "ping" });
    ServerEnd.last.say({ type: "pong" });
    await vi.advanceTimersByTimeAsync(70_000);
    expect(ServerEnd.all).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(40_000);
    expect(ServerEnd.all.length).toBeGreaterThan(1);
  });

  it("takes an error that is about no execution", () => {
    const connection = new Connection("/ws", 500);
    connection.follow(follower("a"));
    ServerEnd.last.accept();
    ServerEnd.last.say({ type: "error", code: 1003, reason: "unknown type" });
    expect(connection.state).toEqual({ status: "connected", error: "unknown type", failures: 0 });
  });
});

describe("the overview", () => {
  const all = { type: "overview", full: true, executions: [], removed: [], tiles: { running: 1 } };

  it("is asked for once, again after a loss, and ended with the last who uses it", async () => {
    const connection = new Connection("/ws", 500);
    const [one, two] = [vi.fn(), vi.fn()];
    const stop = connection.overview(one);
    ServerEnd.last.accept();
    ServerEnd.last.say(all);
    expect(one).toHaveBeenCalledWith(all);
    expect(ServerEnd.last.asked).toEqual([{ type: "overview", on: true }]);
    const stopTwo = connection.overview(two);
    expect(ServerEnd.last.asked.slice(1)).toEqual([
      { type: "overview", on: false },
      { type: "overview", on: true },
    ]);
    ServerEnd.last.hangUp(1006);
    await vi.advanceTimersByTimeAsync(1000);
    ServerEnd.last.accept();
    expect(ServerEnd.last.asked).toEqual([{ type: "overview", on: true }]);
    stop();
    expect(ServerEnd.last.asked).toHaveLength(1);
    stopTwo();
    stopTwo();
    expect(ServerEnd.last.asked.slice(1)).toEqual([{ type: "overview", on: false }]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(ServerEnd.open).toHaveLength(0);
    expect(connection.state.status).toBe("disconnected");
  });
});
