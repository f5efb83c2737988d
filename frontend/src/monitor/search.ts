/** Which lines of a log fit, found piece by piece: a hundred thousand lines must not hold up the key that was pressed. */

import { useEffect, useMemo, useReducer } from "react";

import type { ExecutionLog } from "../contract";
import { upperBound, type LevelFilter } from "./logs";

/** How long one piece may take, in milliseconds. */
const PIECE_MS = 8;
/** Lines between two looks at the clock. */
const STRIDE = 500;

/** Looks for lines of a level that hold a text in name, type, message or error. Each line is looked at once. */
export class Search {
  found: readonly ExecutionLog[] = [];
  private readonly pattern: RegExp | null;
  private first = 0;
  private last = 0;

  constructor(
    private readonly level: LevelFilter,
    text: string,
  ) {
    const wanted = text.trim().replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
    this.pattern = wanted ? new RegExp(wanted, "i") : null;
  }

  /** Look on in `logs`, which may have lost lines at its begin and got new ones at both ends; return whether all are done. */
  look(logs: readonly ExecutionLog[], clock: () => number = () => performance.now()): boolean {
    if (this.level === "all" && !this.pattern) {
      this.found = logs;
      return true;
    }
    const first = logs[0]?.seq ?? 0;
    if (first < this.first || first > this.last) {
      this.found = [];
      this.last = 0;
    } else if (first > this.first) {
      this.found = this.found.slice(upperBound(this.found, first - 1));
    }
    this.first = first;
    const end = clock() + PIECE_MS;
    const fresh: ExecutionLog[] = [];
    let index = upperBound(logs, this.last);
    while (index < logs.length) {
      const log = logs[index++]!;
      if (this.fits(log)) fresh.push(log);
      this.last = log.seq;
      if (index % STRIDE === 0 && clock() >= end) break;
    }
    if (fresh.length > 0) this.found = [...this.found, ...fresh];
    return index === logs.length;
  }

  private fits(log: ExecutionLog): boolean {
    if (this.level !== "all" && log.level !== this.level) return false;
    const pattern = this.pattern;
    return (
      !pattern ||
      pattern.test(log.message) ||
      pattern.test(log.step_name) ||
      pattern.test(log.step_type) ||
      pattern.test(log.node_id ?? "") ||
      pattern.test(log.error_message ?? "")
    );
  }
}

/** Return the lines of `logs` that fit so far, and whether all were looked at. */
export function useSearch(
  logs: readonly ExecutionLog[],
  level: LevelFilter,
  text: string,
): { shown: readonly ExecutionLog[]; done: boolean } {
  const search = useMemo(() => new Search(level, text), [level, text]);
  const [, again] = useReducer((n: number) => n + 1, 0);
  const done = search.look(logs);
  useEffect(() => {
    if (done) return;
    const timer = setTimeout(again, 0);
    return () => clearTimeout(timer);
  });
  return { shown: search.found, done };
}
