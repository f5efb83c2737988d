import { act, cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import type { ExecutionLog } from "../contract";
import { log } from "../testing/make";
import { playServer, ServerEnd } from "../testing/sockets";
import { WorkflowExecutionMonitor } from "./WorkflowExecutionMonitor";

const DETAIL = {
  id: "run-1",
  workflow_name: "Shop",
  version: 2,
  status: "running",
  trigger: "manual",
  started_at: "2026-01-01T12:00:00Z",
  duration_ms: null,
  credits: 0,
  error: null,
  error_node: null,
  error_node_name: null,
  // Ahead of the events on purpose: the bar must not believe it.
  progress: { done: 2, total: 4 },
  phases: [],
  nodes: [],
  definition: {
    nodes: ["a", "b", "c", "d"].map((id) => ({ id, type: "delay", data: { label: id.toUpperCase() } })),
    edges: [],
  },
};
const ASKS = {
  node_id: "b",
  name: "B",
  node_type: "approval",
  link: "/approvals/signed",
  kind: "approval",
  since: "2026-01-01T12:00:00Z",
  until: null,
  title: "Publish?",
  message: "Three articles",
  done: null,
  total: null,
};
let posted: string[] = [];
let bodies: unknown[] = [];
let waiting: unknown[] = [];
let stored: object = {};

beforeEach(() => {
  playServer();
  posted = [];
  bodies = [];
  waiting = [];
  stored = {};
  vi.stubGlobal("fetch", async (url: string, options: RequestInit) => {
    if (options.method === "POST") posted.push(url);
    if (options.method === "POST") bodies.push(JSON.parse(String(options.body)));
    return new Response(JSON.stringify(options.method === "POST" ? {} : { ...DETAIL, waiting, ...stored }));
  });
});
afterEach(async () => {
  cleanup();
  await vi.waitFor(() => expect(ServerEnd.open).toHaveLength(0));
});

async function watch() {
  render(<WorkflowExecutionMonitor execution={{ id: "run-1" }} />);
  await act(() => vi.waitFor(() => expect(ServerEnd.all).toHaveLength(1)));
  await act(async () => ServerEnd.last.accept());
  await say({ type: "hello", execution_id: "run-1", status: "running", last_seq: 0, progress: { done: 0, total: 4 } });
}

const say = (...frames: unknown[]) =>
  act(async () => {
    ServerEnd.last.say(...frames);
    await new Promise((resolve) => setTimeout(resolve, 60));
  });
const event = (type: string, item: ExecutionLog) => ({ type, ...item });
const bar = () => screen.getByRole("progressbar").getAttribute("aria-valuenow");
const word = (id: string) => document.querySelector(`[data-node="${id}"]`)?.getAttribute("data-status");

describe("WorkflowExecutionMonitor", () => {
  it("moves bar and steps by event rows alone", async () => {
    await watch();
    expect(await screen.findByText("Shop")).toBeTruthy();
    expect(bar()).toBe("0");
    await say(
      event("status", log(1, { event: "workflow_start" })),
      event("node", log(2, { event: "node_start", node_id: "a", step_name: "A" })),
    );
    expect([bar(), word("a"), word("b")]).toEqual(["0", "running", "queued"]);
    await say(event("node", log(3, { event: "node_complete", node_id: "a", step_name: "A" })));
    expect([bar(), word("a")]).toEqual(["25", "completed"]);
    expect(screen.getByTestId("progress").textContent).toBe("1 of 4 steps, 25 %");
  });

  it("shows the end, the error with its step, and no Cancel any more", async () => {
    await watch();
    expect(screen.getByRole("button", { name: "Cancel" })).toBeTruthy();
    await say(
      event("status", log(1, { event: "workflow_start" })),
      event("node", log(2, { event: "node_error", node_id: "a", step_name: "A", error_message: "Timeout" })),
      event("status", log(3, { event: "workflow_error", status: "failed", error_message: "Timeout" })),
      { type: "end", execution_id: "run-1", status: "failed" },
    );
    expect(document.querySelector("article")?.dataset.status).toBe("failed");
    expect(screen.getByRole("alert").textContent).toBe("A: Timeout");
    expect(screen.queryByRole("button", { name: "Cancel" })).toBeNull();
    expect(document.querySelector('[data-node="b"]')?.textContent).toContain("Not run");
  });

  it("says how a run ended while its many lines still arrive", async () => {
    const nodes = ["a", "b", "c", "d"].map((node_id) => ({ node_id, name: "", type: "delay", status: "completed", phase: 0 }));
    stored = { status: "completed", duration_ms: 5700, progress: { done: 4, total: 4, percent: 100 }, nodes };
    await watch();
    await say(
      event("status", log(1, { event: "workflow_start" })),
      event("node", log(2, { event: "node_start", node_id: "a", step_name: "A" })),
    );

    expect(document.querySelector("article")?.dataset.status).toBe("completed");
    expect([bar(), word("a"), word("d")]).toEqual(["100", "completed", "completed"]);
    expect(screen.getByTestId("progress").textContent).toBe("4 of 4 steps, 100 %");
    expect(screen.getByTestId("duration").textContent).toBe("5.7 s");
    expect(screen.queryByRole("button", { name: "Cancel" })).toBeNull();
  });

  it("asks again for what a server that was away did not answer", async () => {
    const answer = globalThis.fetch;
    let away = true;
    vi.stubGlobal("fetch", (url: string, options: RequestInit) => {
      if (away) return Promise.reject(new TypeError("Failed to fetch"));
      return answer(url, options);
    });
    await watch();
    expect(screen.queryByText("Shop")).toBeNull();
    away = false;

    expect(await screen.findByText("Shop", {}, { timeout: 5000 })).toBeTruthy();
    expect(screen.queryByRole("alert")).toBeNull();
  }, 10_000);

  it("says who else watches while the connection stands and others do", async () => {
    await watch();
    const line = () => document.querySelector(".fb-watchers");
    const watchers = (names: string[], count = names.length) => say({ type: "watchers", execution_id: "run-1", names, count });
    expect(line()).toBeNull();

    await watchers(["olive", "oscar.wilde@example.com"]);
    expect(screen.getByText("Also watching: olive, oscar.wilde@example.com")).toBeTruthy();
    const initials = [...document.querySelectorAll(".fb-initials")];
    expect(initials.map((one) => one.textContent)).toEqual(["O", "OW"]);
    expect(initials.every((one) => one.getAttribute("aria-hidden") === "true")).toBe(true);

    await watchers(["a", "b", "c", "d", "<i>e</i>"], 30);
    expect(screen.getByText("Also watching: a, b, c and 27 more")).toBeTruthy();
    expect(line()?.getAttribute("title")).toBe("a, b, c, d, <i>e</i> and 25 more");

    await watchers([]);
    expect(line()).toBeNull();
    await watchers(["olive"]);
    expect(line()).not.toBeNull();
    await act(async () => ServerEnd.last.hangUp(1006));
    expect(line()).toBeNull();
    await act(() => vi.waitFor(() => expect(ServerEnd.all).toHaveLength(2), 2000));
    await act(async () => ServerEnd.last.accept());
    expect(line(), "nobody knows yet whether they are still there").toBeNull();
    await say({ type: "hello", execution_id: "run-1", status: "running", last_seq: 0 });
    expect(line()).toBeNull();
  });

  it("names nobody beside a run that has ended", async () => {
    await watch();
    await say({ type: "watchers", execution_id: "run-1", names: ["olive"], count: 1 });
    await say(
      event("status", log(1, { event: "workflow_complete", status: "completed" })),
      { type: "end", execution_id: "run-1", status: "completed" },
    );
    expect(document.querySelector(".fb-watchers")).toBeNull();
  });

  it("shows the whole name of a step, however long, and leaves it to the page to cut it", async () => {
    await watch();
    const name = "Ask the warehouse again and again";
    await say(event("node", log(1, { event: "node_start", node_id: "a", step_name: name, step_type: "delay" })));
    expect(document.querySelector('[data-node="a"] .fb-step-name')?.getAttribute("title")).toBe(`${name}: delay`);
  });

  it("says no share of what failed, and that a run was cancelled once", async () => {
    await watch();
    await say(event("status", log(1, { event: "workflow_start" })));
    expect(screen.getByTestId("progress").textContent).toBe("0 of 4 steps, 0 %");
    await say(
      event("status", log(2, { event: "workflow_error", status: "cancelled", error_message: "cancelled" })),
      { type: "end", execution_id: "run-1", status: "cancelled" },
    );
    expect(screen.getByTestId("progress").textContent).toBe("0 of 4 steps");
    expect(screen.queryByRole("alert")).toBeNull();
  });

  it("cancels", async () => {
    await watch();
    await act(async () => screen.getByRole("button", { name: "Cancel" }).click());
    expect(posted).toEqual(["/api/v1/executions/run-1/cancel"]);
    expect(screen.getByRole("button", { name: "Cancelling" })).toBeTruthy();
  });

  it("says that a run was cancelled while its many lines still arrive", async () => {
    await watch();
    await say(event("status", log(1, { event: "workflow_start" })));
    await act(async () => screen.getByRole("button", { name: "Cancel" }).click());
    stored = { status: "cancelled" };
    const status = () => document.querySelector("article")?.dataset.status;
    await waitFor(() => expect(status()).toBe("cancelled"), { timeout: 5000 });
    expect(screen.queryByRole("button", { name: "Cancelling" })).toBeNull();
  }, 10_000);

  it("pauses and resumes", async () => {
    await watch();
    await say(event("status", log(1, { event: "workflow_start" })));
    await act(async () => screen.getByRole("button", { name: "Pause" }).click());
    expect(screen.getByRole("button", { name: "Pausing" })).toBeTruthy();
    await say(event("status", log(2, { event: "pause" })));
    expect(document.querySelector(".fb-run-title .fb-pill")?.textContent).toBe("Paused");
    expect(screen.getByText(/No further step starts/)).toBeTruthy();
    await act(async () => screen.getByRole("button", { name: "Resume" }).click());
    await say(event("status", log(3, { event: "resume" })));
    expect(document.querySelector(".fb-run-title .fb-pill")?.textContent).toBe("Running");
    expect(posted).toEqual(["/api/v1/executions/run-1/pause", "/api/v1/executions/run-1/resume"]);
  });

  it("shows what is asked and sends the decision with its comment", async () => {
    await watch();
    waiting = [ASKS];
    await say(
      event("status", log(1, { event: "workflow_start" })),
      event("node", log(2, { event: "node_start", node_id: "b", step_name: "B" })),
      event("node", log(3, { event: "node_waiting", node_id: "b", step_name: "B" })),
    );
    expect(document.querySelector(".fb-run-title .fb-pill")?.textContent).toBe("Waiting");
    const ask = await screen.findByRole("region", { name: "Approval: Publish?" });
    expect(ask.textContent).toContain("Three articles");
    fireEvent.change(screen.getByLabelText("Comment"), { target: { value: "not yet" } });
    await act(async () => screen.getByRole("button", { name: "Reject" }).click());
    expect(posted).toEqual(["/api/v1/executions/run-1/approvals/b"]);
    expect(bodies).toEqual([{ approved: false, comment: "not yet" }]);
  });

  it("hides and shows the log", async () => {
    await watch();
    await act(async () => screen.getByRole("button", { name: "Hide logs" }).click());
    expect(screen.queryByRole("log")).toBeNull();
    await act(async () => screen.getByRole("button", { name: "Show logs" }).click());
    expect(screen.getByRole("log")).toBeTruthy();
  });

  it("lets no button that waits for its answer lock another", async () => {
    await watch();
    await say(event("status", log(1, { event: "workflow_start" })));
    vi.stubGlobal("fetch", (url: string, options: RequestInit) => {
      if (options.method !== "POST") return Promise.resolve(new Response(JSON.stringify(DETAIL)));
      posted.push(url);
      return url.endsWith("pause")
        ? new Promise<Response>(() => undefined)
        : Promise.resolve(new Response('{"detail": "Try later."}', { status: 409 }));
    });
    await act(async () => screen.getByRole("button", { name: "Pause" }).click());
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "Pausing" }).disabled).toBe(true);
    await act(async () => screen.getByRole("button", { name: "Cancel" }).click());
    expect(screen.getByRole("alert").textContent).toContain("Try later.");
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "Cancel" }).disabled).toBe(false);
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "Pausing" }).disabled).toBe(true);
    expect(posted).toEqual(["/api/v1/executions/run-1/pause", "/api/v1/executions/run-1/cancel"]);
  });

  it("believes the news, not an answer that was asked for before them", async () => {
    await watch();
    let answer = (_: Response) => undefined as void;
    vi.stubGlobal("fetch", () => new Promise<Response>((resolve) => (answer = resolve)));
    await say(event("status", log(1, { event: "workflow_start" })));
    const early = answer;
    await say(
      event("node", log(2, { event: "node_complete", node_id: "a", step_name: "A" })),
      event("status", log(3, { event: "workflow_complete", status: "completed" })),
      { type: "end", execution_id: "run-1", status: "completed" },
    );
    await act(async () => early(new Response(JSON.stringify({ ...DETAIL, status: "queued", progress: { done: 0, total: 4 } }))));
    expect(document.querySelector("article")?.dataset.status).toBe("completed");
    expect([bar(), word("a")]).toEqual(["100", "completed"]);
  });

  it("takes the server's word when the events do not tell the end", async () => {
    await watch();
    await say(event("status", log(1, { event: "workflow_start" })), { type: "end", execution_id: "run-1", status: "cancelled" });
    expect(document.querySelector("article")?.dataset.status).toBe("cancelled");
  });

  it("weighs progress by how long steps are expected to take", async () => {
    vi.stubGlobal("fetch", async () => new Response(JSON.stringify({ ...DETAIL, expected_ms: { a: 100, b: 700, c: 100, d: 100 } })));
    await watch();
    await say(event("node", log(1, { event: "node_complete", node_id: "b", step_name: "B" })));
    expect(bar()).toBe("70");
    expect(screen.getByTestId("progress").textContent).toBe("1 of 4 steps, 70 %");
  });

  it("moves the bar while a step runs, by how long it is expected to take", async () => {
    vi.useFakeTimers({ now: new Date("2026-01-01T12:00:00Z"), toFake: ["Date"] });
    try {
      vi.stubGlobal("fetch", async () => new Response(JSON.stringify({ ...DETAIL, expected_ms: { a: 100_000, b: 100_000 } })));
      await watch();
      await say(event("node", log(1, { event: "node_start", node_id: "a", step_name: "A", timestamp: "2026-01-01T12:00:00Z" })));
      expect(bar()).toBe("0");
      vi.setSystemTime(new Date("2026-01-01T12:00:40Z"));
      await vi.waitFor(() => expect(bar()).toBe("10"), 30_000);
      expect(screen.getByTestId("progress").textContent).toBe("0 of 4 steps, 10 %");
    } finally {
      vi.useRealTimers();
    }
  }, 40_000);
});
