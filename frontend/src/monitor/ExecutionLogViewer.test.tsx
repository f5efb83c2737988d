import { act, cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";

import { log, logs } from "../testing/make";
import { ExecutionLogViewer, type ExecutionLogViewerProps } from "./ExecutionLogViewer";

afterEach(cleanup);

const view = (part: Partial<ExecutionLogViewerProps> = {}) =>
  render(<ExecutionLogViewer logs={logs(1, 5)} connectionStatus="connected" {...part} />);
const shown = () => [...document.querySelectorAll("[data-seq]")].map((row) => Number((row as HTMLElement).dataset.seq));

describe("ExecutionLogViewer", () => {
  it.each([
    ["connecting", "Connecting..."],
    ["connected", "Live"],
    ["disconnected", "Disconnected"],
    ["error", "Error"],
  ] as const)("shows the connection: %s as %s", (status, word) => {
    view({ connectionStatus: status });
    const dot = screen.getByTestId("connection-status");
    expect(dot.textContent).toBe(word);
    expect(dot.dataset.status).toBe(status);
  });

  it("says that the run ended instead of that the line is dead", () => {
    view({ connectionStatus: "disconnected", ended: true, onReconnect: () => undefined });
    expect(screen.getByTestId("connection-status").textContent).toBe("Run ended");
    expect(screen.queryByRole("button", { name: "Reconnect" })).toBeNull();
  });

  it.each(["error", "disconnected"] as const)("offers Reconnect when %s", (status) => {
    const reconnect = vi.fn();
    view({ connectionStatus: status, onReconnect: reconnect });
    fireEvent.click(screen.getByRole("button", { name: "Reconnect" }));
    expect(reconnect).toHaveBeenCalledOnce();
  });

  it.each(["connected", "connecting"] as const)("hides Reconnect when %s", (status) => {
    view({ connectionStatus: status, onReconnect: () => undefined });
    expect(screen.queryByRole("button", { name: "Reconnect" })).toBeNull();
  });

  it("has every line in order with its seq", () => {
    view();
    expect(shown()).toEqual([1, 2, 3, 4, 5]);
    expect(screen.getByTestId("log-count").textContent).toBe("5 of 5 logs");
  });

  it("filters by level and counts", () => {
    view({ logs: [...logs(1, 3), log(4, { level: "error" })] });
    fireEvent.change(screen.getByLabelText("Level"), { target: { value: "error" } });
    expect(shown()).toEqual([4]);
    expect(screen.getByTestId("log-count").textContent).toBe("1 of 4 logs");
  });

  it("searches, and leads back when nothing is found", () => {
    view();
    fireEvent.change(screen.getByLabelText("Search log"), { target: { value: "line 4" } });
    expect(shown()).toEqual([4]);
    fireEvent.change(screen.getByLabelText("Search log"), { target: { value: "nowhere" } });
    expect(screen.getByText("No Logs Found")).toBeTruthy();
    fireEvent.click(screen.getByRole("button", { name: "Show all 5 lines" }));
    expect(shown()).toEqual([1, 2, 3, 4, 5]);
  });

  it("expands and collapses input and output", () => {
    view({ logs: [log(1, { input_data: { a: 1 }, output_data: { b: [2] } })] });
    const toggle = screen.getByRole("button", { name: "Details of line 1" });
    expect(toggle.getAttribute("aria-expanded")).toBe("false");
    fireEvent.click(toggle);
    const row = document.querySelector<HTMLElement>("[data-seq='1']")!;
    expect(within(row).getAllByTestId("json-tree").map((tree) => tree.textContent)).toEqual(["{1}a:1", "{1}b:[1]0:2"]);
    fireEvent.click(toggle);
    expect(within(row).queryByTestId("json-tree")).toBeNull();
  });

  it("offers no details where there are none", () => {
    view({ logs: [log(1)] });
    expect(screen.queryByRole("button", { name: "Details of line 1" })).toBeNull();
  });

  it("copies what is shown", async () => {
    const writeText = vi.fn().mockResolvedValue(undefined);
    vi.stubGlobal("navigator", { ...navigator, clipboard: { writeText } });
    view({ logs: [log(1, { message: "hello", step_name: "Open" })] });
    fireEvent.click(screen.getByRole("button", { name: "Copy" }));
    expect(await screen.findByText("Copied")).toBeTruthy();
    expect(writeText.mock.calls[0]![0]).toMatch(/INFO\s+Open\s+hello$/);
  });

  it("clears", () => {
    const clear = vi.fn();
    view({ onClear: clear });
    fireEvent.click(screen.getByRole("button", { name: "Clear" }));
    expect(clear).toHaveBeenCalledOnce();
  });

  it("shows grey bars while loading, five of them", () => {
    view({ logs: [], loading: true });
    expect(screen.getByTestId("skeleton").children).toHaveLength(5);
  });

  it("says what will come when there is nothing yet", () => {
    view({ logs: [] });
    expect(screen.getByText("No Logs Found")).toBeTruthy();
    expect(screen.getByText("Lines appear here as the workflow runs.")).toBeTruthy();
  });

  it("shows an error without hiding the lines", () => {
    view({ error: "Some lines are missing" });
    expect(screen.getByRole("alert").textContent).toContain("Some lines are missing");
    expect(shown()).toHaveLength(5);
  });

  it("tells how many older lines there are, and loads them", async () => {
    let loaded = () => undefined as void;
    view({ older: 1200, onLoadOlder: () => new Promise((resolve) => (loaded = resolve)) });
    fireEvent.click(screen.getByRole("button", { name: "1,200 older, load" }));
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "1,200 older, loading" }).disabled).toBe(true);
    await act(async () => loaded());
    expect(screen.getByRole("button", { name: "1,200 older, load" })).toBeTruthy();
  });

  it("follows new lines until the reader scrolls up, and again from the bottom", () => {
    const { rerender } = view();
    const box = document.querySelector<HTMLElement>(".fb-logs-list")!;
    let height = 1000;
    Object.defineProperty(box, "scrollHeight", { get: () => height });
    Object.defineProperty(box, "clientHeight", { get: () => 200 });
    const follow = () => screen.getByRole("button", { name: "Follow" }).getAttribute("aria-pressed");
    box.scrollTop = 800;
    fireEvent.scroll(box);
    expect(follow()).toBe("true");
    box.scrollTop = 700;
    fireEvent.scroll(box);
    expect(follow()).toBe("false");
    height = 1200;
    rerender(<ExecutionLogViewer logs={logs(1, 9)} connectionStatus="connected" />);
    expect(box.scrollTop).toBe(700);
    fireEvent.click(screen.getByRole("button", { name: /newest line/ }));
    expect(box.scrollTop).toBe(1200);
    expect(follow()).toBe("true");
  });

  it("is a log for screen readers", () => {
    view();
    expect(screen.getByRole("log").getAttribute("aria-label")).toBe("Log lines");
  });

  it("offers to try again when nothing could be loaded", () => {
    const reconnect = vi.fn();
    view({ logs: [], connectionStatus: "error", error: "The server does not answer.", onReconnect: reconnect });
    expect(screen.getByRole("alert").textContent).toContain("The server does not answer.");
    fireEvent.click(screen.getByRole("button", { name: "Try Again" }));
    expect(reconnect).toHaveBeenCalledOnce();
  });

  it("clears what is live, refreshes what has ended", () => {
    const refresh = vi.fn();
    const buttons = { onClear: () => undefined, onRefresh: refresh };
    const { rerender } = view(buttons);
    expect(screen.queryByRole("button", { name: "Refresh" })).toBeNull();
    rerender(<ExecutionLogViewer logs={logs(1, 5)} connectionStatus="disconnected" ended {...buttons} />);
    expect(screen.queryByRole("button", { name: "Clear" })).toBeNull();
    fireEvent.click(screen.getByRole("button", { name: "Refresh" }));
    expect(refresh).toHaveBeenCalledOnce();
  });

  it("says that a run that ended wrote nothing", () => {
    view({ logs: [], ended: true });
    expect(screen.getByText("This run wrote no lines.")).toBeTruthy();
  });

  it("stops following when a line is opened, so that it stays where it is", () => {
    view({ logs: [log(1, { output_data: { a: 1 } })] });
    fireEvent.click(screen.getByRole("button", { name: "Details of line 1" }));
    expect(screen.getByRole("button", { name: "Follow" }).getAttribute("aria-pressed")).toBe("false");
  });

  it("keeps open lines open while others come", () => {
    const { rerender } = view({ logs: [log(1, { output_data: { a: 1 } })] });
    fireEvent.click(screen.getByRole("button", { name: "Details of line 1" }));
    rerender(<ExecutionLogViewer logs={[log(1, { output_data: { a: 1 } }), ...logs(2, 9)]} />);
    expect(screen.getByTestId("json-tree")).toBeTruthy();
  });

  it("says level, step, type and duration of a line", () => {
    view({ logs: [log(1, { level: "warning", node_id: "n", step_name: "Open", step_type: "launch", duration_ms: 1500 })] });
    const row = document.querySelector<HTMLElement>("[data-seq='1']")!;
    expect(row.dataset.level).toBe("warning");
    expect(within(row).getByText("warning")).toBeTruthy();
    expect(within(row).getByText("Open").title).toBe("launch");
    expect(within(row).getByText("1.5 s")).toBeTruthy();
  });

  it("shows the whole error of a line", () => {
    view({ logs: [log(1, { level: "error", error_message: "Timeout\n  at step 4" })] });
    fireEvent.click(screen.getByRole("button", { name: "Details of line 1" }));
    expect(document.querySelector(".fb-json pre")!.textContent).toBe("Timeout\n  at step 4");
  });

  it("never makes markup of a line", () => {
    view({ logs: [log(1, { message: "<img src=x onerror=alert(1)>", step_name: "<b>x</b>", node_id: "n" })] });
    expect(document.querySelector("img, b")).toBeNull();
    expect(screen.getByText("<img src=x onerror=alert(1)>")).toBeTruthy();
  });
});
