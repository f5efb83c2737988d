import { act, cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { playServer, ServerEnd } from "../testing/sockets";
import { MonitorPage } from "./MonitorPage";

const TILES = {
  throughput_per_minute: 2.25,
  success_rate: 0.925,
  p95_ms: 1500,
  running: 3,
  pending: 4,
  held: 1,
  credits_today: 1234,
  queues: { control: 0, default: 2, browser: 7, isolated: 0 },
  slots: { busy: 3, total: 8 },
  browsers: { open: 1, limit: 4 },
  workers: 2,
};
const A = "00000000-0000-0000-0000-00000000000a";
const B = "00000000-0000-0000-0000-00000000000b";

function run(id: string, more: object = {}) {
  return {
    id,
    workflow_id: "w1",
    workflow_name: id === A ? "Shop" : "News",
    version: 1,
    status: "running",
    trigger: "manual",
    queued_at: id === A ? "2026-01-01T12:00:00.000Z" : "2026-01-01T12:00:01.000Z",
    started_at: null,
    finished_at: null,
    duration_ms: null,
    credits: 0,
    error: null,
    error_node: null,
    error_node_name: null,
    progress: { done: 1, total: 4 },
    last_seq: 1,
    waiting: [],
    ...more,
  };
}

let listed: unknown[] = [];
let asked: string[] = [];
let tests = 0;

beforeEach(() => {
  tests += 1; // each has sockets of its own: a page keeps its connection for a moment
  playServer();
  listed = [];
  asked = [];
  history.replaceState(null, "", "/admin/monitoring/");
  vi.stubGlobal("fetch", async (url: string, options: RequestInit = {}) => {
    asked.push(`${options.method} ${url}`);
    if (options.method === "POST") return new Response(JSON.stringify({ execution_id: A, status: "queued" }));
    if (url.startsWith("/api/v1/workflows")) {
      return new Response(JSON.stringify([{ id: "w1", name: "Shop", status: "active" }]));
    }
    if (url.startsWith("/api/v1/executions?")) return new Response(JSON.stringify({ items: listed, count: listed.length }));
    return new Response(JSON.stringify({ ...run(A), nodes: [], phases: [], node_names: {}, definition: { nodes: [], edges: [] } }));
  });
});
afterEach(async () => {
  cleanup();
  await vi.waitFor(() => expect(ServerEnd.open).toHaveLength(0));
});

const sockets = () => ServerEnd.all.filter((end) => end.url.endsWith(`/ws${tests}/monitor`));

async function show() {
  await act(async () => void render(<MonitorPage ws={`/ws${tests}`} examples_url="/examples/" execution_url="/x/{id}/" />));
  await act(async () => sockets()[0]!.accept());
}

async function push(...frames: object[]) {
  await act(async () => sockets()[0]!.say({ type: "hello" }, ...frames));
}

const full = (executions: object[], tiles: object = TILES) => ({ type: "overview", full: true, executions, removed: [], tiles });
const tile = (id: string) => document.querySelector(`[data-tile=${id}]`)?.textContent;

describe("the monitor page", () => {
  it("shows the numbers that are pushed", async () => {
    await show();
    await push(full([]));

    expect(tile("running")).toBe("Running now34 pending, 1 waiting or paused");
    expect(tile("throughput")).toBe("Throughput2.3 / minLast 5 minutes");
    expect(tile("success")).toBe("Success rate92.5%7.5% failed, 1 hour");
    expect(tile("p95")).toBe("p95 duration1.5 sLast hour");
    expect(tile("credits")).toBe("Credits today1,234Since midnight");
    expect(tile("queues")).toBe("Queue depth9browser 7, default 2");
    expect(tile("slots")).toBe("Busy slots3 / 82 workers");
    expect(tile("browsers")).toBe("Browsers1 / 4Pages open");
  });

  it("shows who is no staff nothing of the installation", async () => {
    await show();
    await push(full([], { ...TILES, success_rate: null, p95_ms: null, queues: {}, slots: null, browsers: null, workers: null }));

    expect(tile("success")).toBe("Success rate–None ended, 1 hour");
    expect(tile("p95")).toContain("–");
    for (const id of ["queues", "slots", "browsers"]) expect(tile(id)).toBeUndefined();
  });

  it("says what to do when nothing has run", async () => {
    await show();
    await push(full([]));

    expect(screen.getByText("No executions yet")).toBeTruthy();
    expect(screen.getByRole("link", { name: "Start from an example" }).getAttribute("href")).toBe("/examples/");
  });

  it("starts the demo for who has nothing to look at", async () => {
    await show();
    await push(full([]));
    await act(async () => void fireEvent.click(screen.getByRole("button", { name: "Start the Demo" })));

    expect(asked).toContain("POST /executions/demo/start-streaming");
    expect(screen.getByTestId(`execution-${A}`)).toBeTruthy();
  });

  it("moves an execution from running to recent when it ends", async () => {
    await show();
    await push(full([run(A)]));
    const row = () => document.querySelector(`[data-execution="${A}"]`)!;
    expect(row().closest("section")?.getAttribute("aria-label")).toBe("Running executions");

    await push({ type: "overview", executions: [run(A, { status: "completed", last_seq: 9 })], removed: [], tiles: TILES });

    expect(row().closest("section")?.getAttribute("aria-label")).toBe("Recent executions");
    expect(row().getAttribute("data-status")).toBe("completed");
  });

  it("sets executions side by side over one connection, and takes them away again", async () => {
    await show();
    await push(full([run(A), run(B)]));
    expect(screen.getByTestId(`execution-${B}`)).toBeTruthy();
    await act(async () => void fireEvent.click(screen.getByRole("button", { name: "Show Shop beside the others" })));

    expect(screen.getByTestId(`execution-${A}`)).toBeTruthy();
    expect(screen.getByTestId(`execution-${B}`)).toBeTruthy();
    expect(sockets()).toHaveLength(1);
    expect(location.hash).toBe(`#${B},${A}`);

    const first = screen.getByTestId(`execution-${B}`);
    await act(async () => void fireEvent.click(within(first).getByRole("button", { name: /^Close/ })));
    expect(screen.queryByTestId(`execution-${B}`)).toBeNull();
    expect(location.hash).toBe(`#${A}`);
  });

  it("shows what the address names", async () => {
    history.replaceState(null, "", `/admin/monitoring/#${A},${B}`);
    await show();

    expect(screen.getByTestId(`execution-${A}`)).toBeTruthy();
    expect(screen.getByTestId(`execution-${B}`)).toBeTruthy();
  });

  it("shows what it starts", async () => {
    await show();
    await push(full([run(B)]));
    await act(async () => void fireEvent.click(screen.getByRole("button", { name: "Start New Execution" })));

    expect(asked).toContain("POST /api/v1/executions");
    expect(screen.getByTestId(`execution-${A}`)).toBeTruthy();
    expect(screen.queryByTestId(`execution-${B}`)).toBeNull();
  });

  it("says that the numbers are old when the connection is lost", async () => {
    await show();
    await push(full([]));
    expect(screen.getByRole("region", { name: "Live figures" })).toBeTruthy();
    await act(async () => sockets()[0]!.hangUp(1006));

    expect(screen.getByRole("region", { name: "Last known figures" }).textContent).toContain("1,234");
  });

  it("asks for the list when nothing is pushed", async () => {
    listed = [run(A)];
    await act(async () => void render(<MonitorPage ws={`/ws${tests}`} />));

    expect(document.querySelector(`[data-execution="${A}"]`)).not.toBeNull();
    expect(document.querySelector("[data-tile]")).toBeNull();
  });
});
