import { act, cleanup, renderHook } from "@testing-library/react";
import { StrictMode } from "react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import type { ExecutionLog } from "../contract";
import { log, logs } from "../testing/make";
import { playServer, ServerEnd } from "../testing/sockets";
import { useWebSocketLogs, type WebSocketLogs, type WebSocketLogsOptions } from "./useWebSocketLogs";

const frame = (item: ExecutionLog) => ({ type: "log", ...item });
const hello = (part = {}) => ({ type: "hello", execution_id: "run-1", status: "running", last_seq: 0, progress: { done: 0, total: 3 }, ...part });
const end = (part = {}) => ({ type: "end", execution_id: "run-1", status: "completed", ...part });
let rows: ExecutionLog[] = [];
let fetched: string[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  playServer();
  fetched = [];
  rows = [];
  vi.stubGlobal("fetch", async (url: string) => {
    fetched.push(url);
    const query = new URL(url, "http://x").searchParams;
    const after = Number(query.get("after"));
    const page = rows.filter((row) => row.seq > after).slice(0, Number(query.get("limit")));
    return new Response(JSON.stringify({ logs: page, last_seq: rows.at(-1)?.seq ?? 0, status: "running" }));
  });
});

afterEach(async () => {
  cleanup();
  await vi.advanceTimersByTimeAsync(1000);
  expect(ServerEnd.open).toHaveLength(0);
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

const settle = (ms = 50) => act(() => vi.advanceTimersByTimeAsync(ms));
const say = async (...frames: unknown[]) => {
  act(() => ServerEnd.last.say(...frames));
  await settle();
};

async function start(options?: WebSocketLogsOptions, id: string | null = "run-1") {
  const hook = renderHook((props: { id: string | null }) => useWebSocketLogs(props.id, options), {
    initialProps: { id },
  });
  await settle();
  return hook;
}

async function live(options?: WebSocketLogsOptions) {
  const hook = await start(options);
  act(() => ServerEnd.last.accept());
  await say({ type: "hello" }, hello());
  return hook;
}

const seqs = (hook: { result: { current: WebSocketLogs } }) => hook.result.current.logs.map((item) => item.seq);
const subscriptions = () => ServerEnd.last.asked.filter((asked) => asked.type === "subscribe");

describe("connection", () => {
  it("is connecting first, connected when the socket opens", async () => {
    const hook = await start();
    expect(hook.result.current.connectionStatus).toBe("connecting");
    expect(ServerEnd.last.url).toBe("ws://localhost:3000/ws/monitor");
    act(() => ServerEnd.last.accept());
    expect(hook.result.current.connectionStatus).toBe("connected");
    expect(ServerEnd.last.asked).toEqual([{ type: "subscribe", execution_id: "run-1", after: 0, what: "logs" }]);
  });

  it("opens nothing while disabled or without an id", async () => {
    const off = await start({ enabled: false });
    const none = await start(undefined, null);
    expect(ServerEnd.all).toHaveLength(0);
    expect(off.result.current.connectionStatus).toBe("disconnected");
    expect(none.result.current.connectionStatus).toBe("disconnected");
  });

  it("comes back after a loss and resumes after the last line", async () => {
    const hook = await live();
    await say(...logs(1, 3).map(frame));
    act(() => ServerEnd.last.hangUp(1006));
    expect(hook.result.current.connectionStatus).toBe("connecting");
    await settle(2000);
    expect(ServerEnd.all).toHaveLength(2);
    act(() => ServerEnd.last.accept());
    expect(subscriptions()).toEqual([{ type: "subscribe", execution_id: "run-1", after: 3, what: "logs" }]);
    await say(hello(), ...logs(3, 5).map(frame));
    expect(hook.result.current.connectionStatus).toBe("connected");
    expect(seqs(hook)).toEqual([1, 2, 3, 4, 5]);
  });

  it("says error when a new attempt fails too, and goes on trying", async () => {
    const hook = await live();
    act(() => ServerEnd.last.hangUp(1012));
    await settle(2000);
    act(() => ServerEnd.last.hangUp(1006));
    expect(hook.result.current.connectionStatus).toBe("error");
    expect(hook.result.current.error).toMatch(/Trying again/);
    await settle(5000);
    expect(ServerEnd.all).toHaveLength(3);
    act(() => ServerEnd.last.accept());
    expect(hook.result.current.connectionStatus).toBe("connected");
    expect(hook.result.current.error).toBeNull();
  });

  it.each([1000, 1001])("does not come back after close code %i", async (code) => {
    const hook = await live();
    act(() => ServerEnd.last.hangUp(code));
    await settle(60_000);
    expect(ServerEnd.all).toHaveLength(1);
    expect(hook.result.current.connectionStatus).toBe("disconnected");
    expect(hook.result.current.error).toBeNull();
  });

  it.each([
    [1003, /did not understand/],
    [1008, /may not watch/],
    [4403, /not signed in any more/],
  ])("says why after close code %i and stays away", async (code, reason) => {
    const hook = await live();
    act(() => ServerEnd.last.hangUp(code));
    await settle(60_000);
    expect(ServerEnd.all).toHaveLength(1);
    expect(hook.result.current.connectionStatus).toBe("error");
    expect(hook.result.current.error).toMatch(reason);
  });

  it.each([1011, 4429])("comes back after close code %i", async (code) => {
    await live();
    act(() => ServerEnd.last.hangUp(code));
    await settle(2000);
    expect(ServerEnd.all).toHaveLength(2);
  });

  it("gives up after reconnectAttempts, and tries again when asked", async () => {
    const hook = await live({ reconnectAttempts: 2, reconnectInterval: 100 });
    for (let n = 0; n < 3; n++) {
      act(() => ServerEnd.last.hangUp(1006));
      await settle(2000);
    }
    expect(ServerEnd.all).toHaveLength(3);
    expect(hook.result.current.connectionStatus).toBe("error");
    expect(hook.result.current.error).toMatch(/could not be opened again/);
    act(() => hook.result.current.reconnect());
    await settle();
    expect(ServerEnd.all).toHaveLength(4);
    act(() => ServerEnd.last.accept());
    expect(hook.result.current.connectionStatus).toBe("connected");
  });

  it("reconnects by hand, also after the end", async () => {
    const hook = await live();
    act(() => ServerEnd.last.hangUp(1000));
    act(() => hook.result.current.reconnect());
    await settle();
    expect(ServerEnd.all).toHaveLength(2);
    expect(hook.result.current.connectionStatus).toBe("connecting");
    act(() => ServerEnd.last.accept());
    await say(hello(), frame(log(1)), end());
    expect(hook.result.current).toMatchObject({ ended: true, connectionStatus: "disconnected" });
    act(() => hook.result.current.reconnect());
    await settle();
    expect(subscriptions().at(-1)).toMatchObject({ execution_id: "run-1", after: 0 });
    expect(hook.result.current).toMatchObject({ ended: false, connectionStatus: "connected" });
  });

  it("disconnects by hand, keeps its lines and stays so", async () => {
    const hook = await live();
    await say(frame(log(1)));
    act(() => hook.result.current.disconnect());
    await settle(60_000);
    expect(ServerEnd.all).toHaveLength(1);
    expect(ServerEnd.last.readyState).toBe(ServerEnd.CLOSED);
    expect(hook.result.current.connectionStatus).toBe("disconnected");
    expect(seqs(hook)).toEqual([1]);
    act(() => hook.result.current.reconnect());
    await settle();
    act(() => ServerEnd.last.accept());
    await say(hello(), frame(log(1)), frame(log(2)));
    expect(hook.result.current.connectionStatus).toBe("connected");
    expect(seqs(hook)).toEqual([1, 2]);
  });

  it("follows another execution over the same connection when the id changes", async () => {
    const hook = await live();
    await say(frame(log(1)));
    hook.rerender({ id: "run-2" });
    await settle(1000);
    expect(ServerEnd.all).toHaveLength(1);
    expect(ServerEnd.last.asked.slice(1)).toEqual([
      { type: "unsubscribe", execution_id: "run-1" },
      { type: "subscribe", execution_id: "run-2", after: 0, what: "logs" },
    ]);
    expect(seqs(hook)).toEqual([]);
  });

  it("says why one execution is refused, while the connection stands", async () => {
    const refused = await start(undefined, "no-id");
    const fine = await live();
    await say({ type: "error", execution_id: "no-id", code: 1008, reason: "no such execution for this login" });
    expect(refused.result.current).toMatchObject({ connectionStatus: "error" });
    expect(refused.result.current.error).toMatch(/does not exist/);
    expect(fine.result.current.connectionStatus).toBe("connected");
    act(() => refused.result.current.reconnect());
    expect(subscriptions().at(-1)).toMatchObject({ execution_id: "no-id" });
    expect(refused.result.current.connectionStatus).toBe("connected");
  });
});

describe("one connection for all", () => {
  it("carries several executions, each with its own lines", async () => {
    const one = await live();
    const two = await start(undefined, "run-2");
    const again = await start(undefined, "run-1");
    expect(ServerEnd.all).toHaveLength(1);
    expect(subscriptions().map((asked) => asked.execution_id)).toEqual(["run-1", "run-2"]);
    await say(hello({ execution_id: "run-2" }), [frame(log(1)), frame(log(1, { execution_id: "run-2" })), frame(log(2))]);
    expect([seqs(one), seqs(two), seqs(again)]).toEqual([[1, 2], [1], [1, 2]]);
  });

  it("ends a subscription with the last who looks, the connection with the last subscription", async () => {
    const one = await live();
    const again = await start();
    one.unmount();
    await settle(1000);
    expect(ServerEnd.last.asked).toHaveLength(1);
    again.unmount();
    await settle(1000);
    expect(ServerEnd.last.asked.at(-1)).toEqual({ type: "unsubscribe", execution_id: "run-1" });
    expect(ServerEnd.last.readyState).toBe(ServerEnd.CLOSED);
  });

  it("opens one socket in a hundred cycles of mounting and unmounting, and leaves no listener", async () => {
    const added = vi.spyOn(window, "addEventListener");
    const keeper = await live();
    const before = added.mock.calls.length;
    for (let n = 0; n < 100; n++) {
      const hook = renderHook(() => useWebSocketLogs("run-1"), { wrapper: StrictMode });
      hook.unmount();
    }
    await settle(1000);
    expect(ServerEnd.all).toHaveLength(1);
    expect(added.mock.calls.length).toBe(before);
    expect(subscriptions()).toHaveLength(1);
    keeper.unmount();
    for (let n = 0; n < 100; n++) renderHook(() => useWebSocketLogs("run-1"), { wrapper: StrictMode }).unmount();
    await settle(1000);
    expect(ServerEnd.all).toHaveLength(1);
    expect(ServerEnd.open).toHaveLength(0);
  });
});

describe("lines", () => {
  it("shows history and live lines once and in order", async () => {
    const hook = await live();
    await say(...logs(1, 4).map(frame), ...logs(2, 6).map(frame));
    expect(seqs(hook)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(hook.result.current.lastSeq).toBe(6);
  });

  it("takes a frame that holds many", async () => {
    const hook = await live();
    await say(logs(1, 500).map(frame));
    expect(hook.result.current.logs).toHaveLength(500);
  });

  it("asks again for what the socket left out, and believes only the answer", async () => {
    const hook = await live();
    await say(...logs(1, 2).map(frame), frame(log(5)), frame(log(6)));
    expect(seqs(hook)).toEqual([1, 2]);
    expect(subscriptions().map((asked) => asked.after)).toEqual([0, 2]);
    await say(frame(log(7)), hello(), ...logs(3, 7).map(frame));
    expect(seqs(hook)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  it("goes on behind a number that was never used", async () => {
    const hook = await live();
    await say(...logs(1, 2).map(frame), frame(log(4)));
    await say(hello(), frame(log(4)), frame(log(5)));
    expect(seqs(hook)).toEqual([1, 2, 4, 5]);
    expect(subscriptions()).toHaveLength(2);
  });

  it("keeps heartbeats, pongs, greetings and resync out of the list", async () => {
    const hook = await live();
    await say({ type: "heartbeat" }, { type: "pong" }, { type: "resync", execution_id: "run-1" }, { type: "from_the_future", seq: 9 });
    expect(hook.result.current.logs).toEqual([]);
  });

  it("survives a message that is not JSON, says so and reads again what it left out", async () => {
    const hook = await live();
    await say(frame(log(1)), "{broken", null, 7, frame(log(3)));
    expect(hook.result.current.error).toMatch(/not JSON/);
    expect(hook.result.current.connectionStatus).toBe("connected");
    expect(subscriptions().at(-1)).toMatchObject({ after: 1 });
    await say(hello(), frame(log(2)), frame(log(3)));
    expect(seqs(hook)).toEqual([1, 2, 3]);
  });

  it("does not ask for ever when the server cannot say a line", async () => {
    const hook = await live();
    await say(frame(log(1)), "{broken");
    for (let n = 0; n < 5; n++) await say(hello(), "{broken", frame(log(3)));
    expect(subscriptions().map((asked) => asked.after)).toEqual([0, 1, 3]);
    expect(seqs(hook)).toEqual([1, 3]);
  });

  it("keeps the newest bufferSize lines, the state of all", async () => {
    const hook = await live({ bufferSize: 3 });
    await say(
      frame(log(1, { event: "node_start", node_id: "a" })),
      frame(log(2, { event: "node_complete", node_id: "a" })),
      ...logs(3, 6).map(frame),
    );
    expect(seqs(hook)).toEqual([4, 5, 6]);
    expect(hook.result.current.older).toBe(3);
    expect(hook.result.current.run.nodes.get("a")?.status).toBe("completed");
  });

  it("keeps a thousand lines unless told otherwise", async () => {
    const hook = await live();
    await say(logs(1, 1200).map(frame));
    expect(hook.result.current.logs).toHaveLength(1000);
    expect(hook.result.current.older).toBe(200);
  });

  it("loads older lines in front and keeps them", async () => {
    const hook = await live({ bufferSize: 100 });
    rows = logs(1, 2500);
    await say(rows.map(frame));
    await act(() => hook.result.current.loadOlder());
    expect(fetched).toEqual(["/api/v1/executions/run-1/logs?after=1400&limit=1000"]);
    expect(seqs(hook)).toEqual(Array.from({ length: 1100 }, (_, n) => n + 1401));
    await say(frame(log(2501)));
    expect(hook.result.current.logs).toHaveLength(1100);
    await act(() => hook.result.current.loadOlder());
    await act(() => hook.result.current.loadOlder());
    expect(hook.result.current.older).toBe(0);
    expect(seqs(hook)[0]).toBe(1);
  });

  it("says when older lines cannot be loaded", async () => {
    const hook = await live({ bufferSize: 2 });
    await say(logs(1, 5).map(frame));
    vi.stubGlobal("fetch", async () => new Response('{"detail": "Gone."}', { status: 410 }));
    await act(() => hook.result.current.loadOlder());
    expect(hook.result.current.error).toBe("Older lines could not be loaded: Gone.");
    expect(seqs(hook)).toEqual([4, 5]);
  });

  it("clears the list, then shows only what is new", async () => {
    const hook = await live();
    await say(...logs(1, 3).map(frame));
    act(() => hook.result.current.clearLogs());
    expect(hook.result.current.logs).toEqual([]);
    expect(hook.result.current.older).toBe(3);
    await say(frame(log(4)));
    expect(seqs(hook)).toEqual([4]);
  });

  it("knows the end, and lets the connection go", async () => {
    const hook = await live();
    await say(frame(log(1)), end());
    await settle(60_000);
    expect(hook.result.current).toMatchObject({ ended: true, serverStatus: "completed", connectionStatus: "disconnected" });
    expect(seqs(hook)).toEqual([1]);
    expect(ServerEnd.all).toHaveLength(1);
    expect(ServerEnd.last.readyState).toBe(ServerEnd.CLOSED);
  });
});
