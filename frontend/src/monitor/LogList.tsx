import { useEffect, useLayoutEffect, useReducer, useRef, useState, type ReactNode } from "react";

import type { ExecutionLog } from "../contract";
import { Heights } from "./heights";
import { upperBound } from "./logs";

/** Up to this many lines all of them are in the document: the browser's own search and screen readers find them. */
export const ALL_IN_DOM = 400;
/** Height of a line that does not wrap, as monitor.css has it. */
const ROW_PX = 27;
/** Rows beyond the visible ones, at either end. */
const SPARE = 2;
/** So near to the end is at the end. */
const BOTTOM_PX = 10;
const UPWARDS = ["PageUp", "ArrowUp", "Home"];

/**
 * A list of lines that stays at its end while `following`, and where the reader put it otherwise, whatever comes, goes
 * or is measured above. Of a long one only what is visible is in the document.
 */
export function LogList({
  logs,
  following,
  onFollow,
  row,
}: {
  logs: readonly ExecutionLog[];
  following: boolean;
  /** The reader left the end, or came back to it. */
  onFollow: (following: boolean) => void;
  row: (log: ExecutionLog) => ReactNode;
}) {
  const box = useRef<HTMLDivElement>(null);
  const inner = useRef<HTMLDivElement>(null);
  const [heights] = useState(() => new Heights(ROW_PX));
  const [, again] = useReducer((n: number) => n + 1, 0);
  const view = useRef({ top: 0, height: 0, width: 0, seq: 0, seqTop: 0 });
  const virtual = logs.length > ALL_IN_DOM;

  heights.place(logs);
  const top = following ? heights.total - view.current.height : view.current.top;
  const first = virtual ? Math.max(0, heights.at(top) - SPARE) : 0;
  const last = virtual ? Math.min(logs.length, heights.at(top + view.current.height) + 1 + SPARE) : logs.length;
  const newest = logs.at(-1)?.seq ?? 0;

  /** Note which line is at the top of the window and where it is in the list, for when something above it changes. */
  const note = () => {
    const list = box.current!;
    const now = view.current;
    now.top = list.scrollTop;
    if (virtual) {
      const index = heights.at(list.scrollTop);
      now.seq = logs[index]!.seq;
      now.seqTop = heights.top(index);
    } else {
      const edge = list.getBoundingClientRect().top;
      const row = rowsOf(inner.current!).findLast((child) => child.getBoundingClientRect().top <= edge);
      now.seq = Number(row?.dataset.seq ?? 0);
      now.seqTop = row ? list.scrollTop + row.getBoundingClientRect().top - edge : 0;
    }
  };

  useLayoutEffect(() => {
    if (!virtual) return;
    const list = box.current!;
    const now = view.current;
    let news = list.clientHeight !== now.height;
    now.height = list.clientHeight;
    for (const child of rowsOf(inner.current!)) {
      news = heights.measured(Number(child.dataset.seq), child.getBoundingClientRect().height) || news;
    }
    if (news) return again();
    if (following) {
      const end = heights.total - list.clientHeight;
      if (Math.abs(list.scrollTop - end) >= 1) list.scrollTop = end;
      note();
      return;
    }
    // Only by what the line moved: the reader may have scrolled on since it was noted.
    const index = Math.min(logs.length - 1, upperBound(logs, now.seq - 1));
    const moved = heights.top(index) - now.seqTop;
    if (Math.abs(moved) < 0.5) return;
    now.seq = logs[index]!.seq;
    now.seqTop += moved;
    list.scrollTop += moved;
    now.top = list.scrollTop;
    again();
  });

  // A short list is scrolled smoothly, and only by what is new.
  useEffect(() => {
    const list = box.current!;
    if (virtual || !following || newest === 0) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches || distance(list) > list.clientHeight;
    list.scrollTo({ top: list.scrollHeight, behavior: calm ? "instant" : "smooth" });
  }, [virtual, following, newest]);

  useEffect(() => {
    const list = box.current!;
    const seen = new ResizeObserver(() => {
      if (list.clientWidth !== view.current.width) heights.forget();
      view.current.width = list.clientWidth;
      if (virtual) again();
      else if (following) list.scrollTop = list.scrollHeight;
    });
    seen.observe(list);
    if (virtual) seen.observe(inner.current!);
    return () => seen.disconnect();
  }, [heights, virtual, following]);

  const leave = () => {
    if (following && box.current!.scrollHeight > box.current!.clientHeight + BOTTOM_PX) {
      note();
      onFollow(false);
    }
  };

  return (
    <div
      className="fb-logs-list"
      ref={box}
      tabIndex={0}
      data-virtual={virtual}
      role="group"
      aria-label="Lines"
      onScroll={() => {
        const list = box.current!;
        const up = list.scrollTop < view.current.top;
        note();
        if (distance(list) > BOTTOM_PX) {
          if (up && following) onFollow(false);
        } else if (!following && list.scrollHeight > list.clientHeight) onFollow(true);
        if (virtual) again();
      }}
      onWheel={(event) => {
        if (event.deltaY < 0) leave();
      }}
      onTouchMove={leave}
      onKeyDown={(event) => {
        if (UPWARDS.includes(event.key)) leave();
      }}
    >
      <div style={virtual ? { height: heights.total } : undefined}>
        <div ref={inner} style={virtual ? { transform: `translateY(${heights.top(first)}px)` } : undefined}>
          {logs.slice(first, last).map(row)}
        </div>
      </div>
    </div>
  );
}

function rowsOf(inner: HTMLElement): HTMLElement[] {
  return [...inner.children] as HTMLElement[];
}

function distance(list: HTMLElement): number {
  return list.scrollHeight - list.clientHeight - list.scrollTop;
}
