import { cleanup, fireEvent, render } from "@testing-library/react";
import { useState } from "react";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import type { ExecutionLog } from "../contract";
import { logs } from "../testing/make";
import { LogList } from "./LogList";

const ROW = 27;
const WINDOW = 270;
let tall = new Map<number, number>();

/** jsdom has no layout: rows are as high as the browser would make them, the window holds ten of them. */
beforeEach(() => {
  tall = new Map();
  Object.defineProperty(HTMLElement.prototype, "clientHeight", { configurable: true, get: () => WINDOW });
  Object.defineProperty(HTMLElement.prototype, "scrollHeight", {
    configurable: true,
    get(this: HTMLElement) {
      return parseFloat((this.firstElementChild as HTMLElement).style.height);
    },
  });
  HTMLElement.prototype.getBoundingClientRect = function () {
    return { height: tall.get(Number(this.dataset.seq)) ?? ROW, top: 0 } as DOMRect;
  };
});

afterEach(() => {
  cleanup();
  for (const name of ["clientHeight", "scrollHeight", "getBoundingClientRect"]) {
    delete (HTMLElement.prototype as unknown as Record<string, unknown>)[name];
  }
});

function List({ logs }: { logs: readonly ExecutionLog[] }) {
  const [following, setFollowing] = useState(true);
  return (
    <div data-following={following}>
      <button onClick={() => setFollowing(true)}>end</button>
      <LogList logs={logs} following={following} onFollow={setFollowing} row={(log) => <p key={log.seq} data-seq={log.seq} />} />
    </div>
  );
}

const box = () => document.querySelector<HTMLElement>(".fb-logs-list")!;
const shown = () => [...document.querySelectorAll<HTMLElement>("[data-seq]")].map((row) => Number(row.dataset.seq));
const following = () => document.querySelector<HTMLElement>("[data-following]")!.dataset.following;
const scroll = (top: number) => {
  box().scrollTop = top;
  fireEvent.scroll(box());
};
/** How far below the top of the window a row begins. */
const place = (seq: number) => {
  const inner = box().firstElementChild!.firstElementChild as HTMLElement;
  const start = parseFloat(inner.style.transform.slice("translateY(".length));
  const above = shown().filter((other) => other < seq);
  return start + above.reduce((sum, other) => sum + (tall.get(other) ?? ROW), 0) - box().scrollTop;
};

describe("LogList", () => {
  it("has only what is visible in the document, at the end", () => {
    render(<List logs={logs(1, 100_000)} />);
    expect(shown().at(-1)).toBe(100_000);
    expect(shown().length).toBeLessThanOrEqual(15);
    expect(box().scrollTop).toBe(100_000 * ROW - WINDOW);
  });

  it("has all lines in the document while they are few", () => {
    render(<List logs={logs(1, 400)} />);
    expect(shown()).toHaveLength(400);
  });

  it("follows what comes, also when lines go at the begin", () => {
    const { rerender } = render(<List logs={logs(1, 1000)} />);
    rerender(<List logs={logs(1, 1500)} />);
    expect(shown().at(-1)).toBe(1500);
    rerender(<List logs={logs(600, 1600)} />);
    expect(shown().at(-1)).toBe(1600);
    expect(box().scrollTop).toBe(1001 * ROW - WINDOW);
    expect(following()).toBe("true");
  });

  it("stops when the reader scrolls up by more than ten pixels, and goes on at the end", () => {
    render(<List logs={logs(1, 1000)} />);
    const end = 1000 * ROW - WINDOW;
    scroll(end - 10);
    expect(following()).toBe("true");
    scroll(end - 11);
    expect(following()).toBe("false");
    scroll(end - 9);
    expect(following()).toBe("true");
  });

  it.each([
    ["wheel", (list: HTMLElement) => fireEvent.wheel(list, { deltaY: -1 })],
    ["key", (list: HTMLElement) => fireEvent.keyDown(list, { key: "PageUp" })],
    ["touch", (list: HTMLElement) => fireEvent.touchMove(list)],
  ])("stops at the first sign of a %s upwards", (_, sign) => {
    render(<List logs={logs(1, 1000)} />);
    fireEvent.wheel(box(), { deltaY: 1 });
    expect(following()).toBe("true");
    sign(box());
    expect(following()).toBe("false");
  });

  it("keeps the line that is read in its place when others come, go or turn out higher", () => {
    const { rerender } = render(<List logs={logs(1001, 3000)} />);
    scroll(700 * ROW + 5);
    expect(place(1701)).toBe(-5);
    rerender(<List logs={logs(1001, 3500)} />);
    expect(place(1701)).toBe(-5);
    rerender(<List logs={logs(1501, 3500)} />);
    expect(place(1701)).toBe(-5);
    rerender(<List logs={logs(1, 3500)} />);
    expect(place(1701)).toBe(-5);
    tall.set(1700, 300);
    rerender(<List logs={logs(1, 3501)} />);
    expect(place(1701)).toBe(-5);
    expect(following()).toBe("false");
  });

  it("does not take back how far the reader scrolled before that was noted", () => {
    const { rerender } = render(<List logs={logs(1, 1000)} />);
    scroll(100 * ROW);
    box().scrollTop = 300 * ROW;
    rerender(<List logs={logs(1, 1001)} />);
    expect(box().scrollTop).toBe(300 * ROW);
    fireEvent.scroll(box());
    expect(place(301)).toBe(0);
  });

  it("shows lines of any height without a hole", () => {
    for (let seq = 1; seq <= 450; seq += 3) tall.set(seq, 100);
    render(<List logs={logs(1, 450)} />);
    expect(shown().at(-1)).toBe(450);
    for (let top = box().scrollTop; top > 0; top -= 400) {
      scroll(Math.max(0, top));
      const [first, last] = [shown()[0]!, shown().at(-1)!];
      expect(place(first)).toBeLessThanOrEqual(0);
      expect(place(last) + (tall.get(last) ?? ROW)).toBeGreaterThanOrEqual(WINDOW);
    }
  });

  it("goes to the end when asked", () => {
    render(<List logs={logs(1, 1000)} />);
    scroll(0);
    expect(shown()[0]).toBe(1);
    fireEvent.click(document.querySelector("button")!);
    expect(shown().at(-1)).toBe(1000);
  });
});
