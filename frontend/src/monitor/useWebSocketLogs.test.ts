import { act, cleanup, renderHook } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import type { ExecutionLog } from "../contract";
import { log, logs } from "../testing/make";
import { playServer, ServerEnd } from "../testing/sockets";
import { useWebSocketLogs, type WebSocketLogsOptions } from "./useWebSocketLogs";

const frame = (item: ExecutionLog) => ({ type: "log", ...item });
const hello = (part = {}) => ({ type: "hello", execution_id: "run-1", status: "running", last_seq: 0, progress: { done: 0, total: 3 }, ...part });
const pages: Record<string, { logs: ExecutionLog[]; last_seq: number; status: string }> = {};
let fetched: string[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  playServer();
  fetched = [];
  for (const key of Object.keys(pages)) delete pages[key];
  vi.stubGlobal("fetch", async (url: string) => {
    fetched.push(url);
    const after = new URL(url, "http://x").searchParams.get("after")!;
    return new Response(JSON.stringify(pages[after] ?? { logs: [], last_seq: Number(after), status: "running" }));
  });
});

afterEach(() => {
  cleanup();
  vi.useRealTimers();
});

const settle = (ms = 50) => act(() => vi.advanceTimersByTimeAsync(ms));

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
  return hook;
}

const seqs = (hook: { result: { current: { logs: readonly ExecutionLog[] } } }) => hook.result.current.logs.map((item) => item.seq);

describe("connection", () => {
  it("is connecting first, connected when the socket opens", async () => {
    const hook = await start();
    expect(hook.result.current.connectionStatus).toBe("connecting");
    expect(ServerEnd.last.url).toBe("ws://localhost:3000/ws/executions/run-1/logs?after=0");
    act(() => ServerEnd.last.accept());
    expect(hook.result.current.connectionStatus).toBe("connected");
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
    act(() => ServerEnd.last.say(hello(), ...logs(1, 3).map(frame)));
    await settle();
    act(() => ServerEnd.last.hangUp(1006));
    expect(hook.result.current.connectionStatus).toBe("connecting");
    await settle(2000);
    expect(ServerEnd.all).toHaveLength(2);
    expect(ServerEnd.last.url).toMatch(/after=3$/);
    act(() => ServerEnd.last.accept());
    act(() => ServerEnd.last.say(hello(), ...logs(3, 5).map(frame)));
    await settle();
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
    [1003, /not the id/],
    [1008, /does not exist/],
  ])("says why after close code %i and stays away", async (code, reason) => {
    const hook = await live();
    act(() => ServerEnd.last.hangUp(code));
    await settle(60_000);
    expect(ServerEnd.all).toHaveLength(1);
    expect(hook.result.current.connectionStatus).toBe("error");
    expect(hook.result.current.error).toMatch(reason);
  });

  it("comes back after a server error, 1011", async () => {
    await live();
    act(() => ServerEnd.last.hangUp(1011));
    await settle(2000);
    expect(ServerEnd.all).toHaveLength(2);
  });

  it("gives up after reconnectAttempts", async () => {
    const hook = await live({ reconnectAttempts: 2, reconnectInterval: 100 });
    for (let n = 0; n < 3; n++) {
      act(() => ServerEnd.last.hangUp(1006));
      await settle(2000);
    }
    expect(ServerEnd.all).toHaveLength(3);
    expect(hook.result.current.connectionStatus).toBe("error");
    expect(hook.result.current.error).toMatch(/could not be opened again/);
  });

  it("reconnects by hand, also after the end", async () => {
    const hook = await live();
    act(() => ServerEnd.last.hangUp(1000));
    act(() => hook.result.current.reconnect());
    await settle();
    expect(ServerEnd.all).toHaveLength(2);
    expect(hook.result.current.connectionStatus).toBe("connecting");
    act(() => ServerEnd.last.accept());
    expect(hook.result.current.connectionStatus).toBe("connected");
  });

  it("disconnects by hand and stays so", async () => {
    const hook = await live();
    act(() => hook.result.current.disconnect());
    await settle(60_000);
    expect(ServerEnd.all).toHaveLength(1);
    expect(ServerEnd.last.readyState).toBe(ServerEnd.CLOSED);
    expect(hook.result.current.connectionStatus).toBe("disconnected");
  });

  it("leaves nothing behind when it is unmounted", async () => {
    const hook = await live();
    hook.unmount();
    await vi.advanceTimersByTimeAsync(120_000);
    expect(ServerEnd.all).toHaveLength(1);
    expect(ServerEnd.last.readyState).toBe(ServerEnd.CLOSED);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("follows another execution when the id changes", async () => {
    const hook = await live();
    act(() => ServerEnd.last.say(frame(log(1))));
    await settle();
    hook.rerender({ id: "run-2" });
    await settle();
    expect(ServerEnd.last.url).toContain("/run-2/logs?after=0");
    expect(seqs(hook)).toEqual([]);
  });

  it("pings, and opens a new socket when the other side fell silent", async () => {
    await live();
    await settle(26_000);
    expect(ServerEnd.last.sent).toEqual(["ping"]);
    await settle(80_000);
    expect(ServerEnd.all.length).toBeGreaterThan(1);
  });
});

describe("lines", () => {
  it("shows history and live lines once and in order", async () => {
    const hook = await live();
    act(() => ServerEnd.last.say(hello(), ...logs(1, 4).map(frame), ...logs(2, 6).map(frame)));
    await settle();
    expect(seqs(hook)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(hook.result.current.lastSeq).toBe(6);
  });

  it("fetches what the socket left out", async () => {
    const hook = await live();
    pages["2"] = { logs: logs(3, 5), last_seq: 5, status: "running" };
    act(() => ServerEnd.last.say(...logs(1, 2).map(frame), frame(log(5))));
    await settle();
    expect(fetched).toEqual(["/api/v1/executions/run-1/logs?after=2&limit=1000"]);
    expect(seqs(hook)).toEqual([1, 2, 3, 4, 5]);
  });

  it("goes on behind a number that was never used", async () => {
    const hook = await live();
    pages["2"] = { logs: [], last_seq: 4, status: "running" };
    act(() => ServerEnd.last.say(...logs(1, 2).map(frame), frame(log(4))));
    await settle();
    expect(seqs(hook)).toEqual([1, 2, 4]);
  });

  it("fetches everything new on resync", async () => {
    const hook = await live();
    act(() => ServerEnd.last.say(frame(log(1))));
    pages["1"] = { logs: logs(2, 4), last_seq: 4, status: "running" };
    act(() => ServerEnd.last.say({ type: "resync" }));
    await settle();
    expect(seqs(hook)).toEqual([1, 2, 3, 4]);
  });

  it("keeps heartbeats, pongs and greetings out of the list", async () => {
    const hook = await live();
    act(() => ServerEnd.last.say(hello(), { type: "heartbeat" }, { type: "pong" }, { type: "from_the_future", seq: 9 }));
    await settle();
    expect(hook.result.current.logs).toEqual([]);
  });

  it("survives a message that is not JSON and says so", async () => {
    const hook = await live();
    act(() => ServerEnd.last.say("{broken", frame(log(1))));
    await settle();
    expect(hook.result.current.error).toMatch(/not JSON/);
    expect(hook.result.current.connectionStatus).toBe("connected");
    expect(seqs(hook)).toEqual([1]);
  });

  it("keeps the newest bufferSize lines, the state of all", async () => {
    const hook = await live({ bufferSize: 3 });
    act(() =>
      ServerEnd.last.say(
        frame(log(1, { event: "node_start", node_id: "a" })),
        frame(log(2, { event: "node_complete", node_id: "a" })),
        ...logs(3, 6).map(frame),
      ),
    );
    await settle();
    expect(seqs(hook)).toEqual([4, 5, 6]);
    expect(hook.result.current.dropped).toBe(3);
    expect(hook.result.current.run.nodes.get("a")?.status).toBe("completed");
  });

  it("clears the list, then shows only what is new", async () => {
    const hook = await live();
    act(() => ServerEnd.last.say(...logs(1, 3).map(frame)));
    await settle();
    act(() => hook.result.current.clearLogs());
    expect(hook.result.current.logs).toEqual([]);
    act(() => ServerEnd.last.say(frame(log(4))));
    await settle();
    expect(seqs(hook)).toEqual([4]);
  });

  it("knows the end and stays disconnected", async () => {
    const hook = await live();
    act(() => {
      ServerEnd.last.say(hello(), frame(log(1)), { type: "end", status: "completed" });
      ServerEnd.last.hangUp(1000);
    });
    await settle(60_000);
    expect(hook.result.current).toMatchObject({ ended: true, serverStatus: "completed", connectionStatus: "disconnected" });
    expect(seqs(hook)).toEqual([1]);
    expect(ServerEnd.all).toHaveLength(1);
  });
});
