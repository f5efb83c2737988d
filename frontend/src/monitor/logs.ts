/** Order and what the events add up to. No React, no network: everything here is tested on its own. */

import { isTerminal, type ExecutionLog, type LogLevel, type Progress, type Status } from "../contract";

/** Return the index of the first entry whose seq is greater than `seq`. `logs` is sorted by seq. */
export function upperBound(logs: readonly { readonly seq: number }[], seq: number): number {
  let low = 0;
  let high = logs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (logs[middle]!.seq <= seq) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Merge `incoming` (sorted) behind or into `existing` (sorted): every seq once, in order.
 *
 * The common case, new lines at the end with some overlap, costs O(log n + new lines).
 */
export function mergeLogs(existing: readonly ExecutionLog[], incoming: readonly ExecutionLog[]): ExecutionLog[] {
  if (incoming.length === 0) return existing as ExecutionLog[];
  const last = existing.at(-1);
  if (!last) return dedupe(incoming);
  if (incoming[0]!.seq > last.seq) return [...existing, ...dedupe(incoming)];
  const start = upperBound(existing, incoming[0]!.seq - 1);
  const merged = existing.slice(0, start);
  let a = start;
  let b = 0;
  while (a < existing.length || b < incoming.length) {
    const left = existing[a];
    const right = incoming[b];
    const next = !right || (left && left.seq <= right.seq) ? left! : right;
    if (next === left) a++;
    else b++;
    if (merged.at(-1)?.seq !== next.seq) merged.push(next);
  }
  return merged;
}

function dedupe(sorted: readonly ExecutionLog[]): ExecutionLog[] {
  return sorted.filter((log, index) => index === 0 || log.seq !== sorted[index - 1]!.seq);
}

export interface NodeState {
  status: Status;
  name: string;
  type: string;
  attempt: number;
  startedAt: string | null;
  durationMs: number | null;
  error: string | null;
}

/** What the event rows of an execution add up to. Nothing in here comes from anywhere else. */
export interface RunState {
  status: Status | null;
  nodes: ReadonlyMap<string, NodeState>;
  done: number;
  /** What the ended node runs cost. */
  credits: number;
  startedAt: string | null;
  /** Milliseconds in the queue before `startedAt`; the duration of an execution counts from there. */
  queuedMs: number;
  finishedAt: string | null;
  error: string | null;
  errorNode: string | null;
}

export const EMPTY_RUN: RunState = {
  status: null,
  nodes: new Map(),
  done: 0,
  credits: 0,
  startedAt: null,
  queuedMs: 0,
  finishedAt: null,
  error: null,
  errorNode: null,
};

const NODE_STATUS: Record<string, Status> = {
  node_start: "running",
  node_complete: "completed",
  node_error: "failed",
  node_retry: "retrying",
  node_skipped: "skipped",
  node_waiting: "waiting",
};

/** Return the state after `logs`, which follow directly on what made `state`. */
export function fold(state: RunState, logs: readonly ExecutionLog[]): RunState {
  if (logs.length === 0) return state;
  const next: RunState = { ...state };
  let nodes: Map<string, NodeState> | null = null;
  for (const log of logs) {
    next.credits += Number(log.data?.credits ?? 0);
    const wanted = nodeStatus(log);
    if (wanted && log.node_id) {
      nodes ??= new Map(state.nodes);
      const before = nodes.get(log.node_id);
      const status = settled(log, wanted);
      nodes.set(log.node_id, {
        status,
        name: log.step_name || before?.name || log.node_id,
        type: log.step_type || before?.type || "",
        attempt: log.attempt ?? before?.attempt ?? 1,
        startedAt: log.event === "node_start" ? log.timestamp : (before?.startedAt ?? null),
        durationMs: isTerminal(status) ? log.duration_ms : null,
        error: log.error_message ?? (status === "completed" ? null : (before?.error ?? null)),
      });
      if (status === "failed") next.errorNode = log.node_id;
    } else if (log.event === "workflow_start") {
      next.status = "running";
      next.startedAt = log.timestamp;
      next.queuedMs = Number(log.data?.queued_seconds ?? 0) * 1000;
    } else if (log.event === "workflow_complete" || log.event === "workflow_error") {
      const fallback: Status = log.event === "workflow_error" ? "failed" : "completed";
      next.status = isTerminal(log.status) ? (log.status as Status) : fallback;
      next.finishedAt = log.timestamp;
      next.error = log.error_message ?? null;
    } else if (log.event === "pause" && !log.node_id) {
      next.status = "paused";
    } else if (log.event === "resume" && !log.node_id) {
      next.status = "running";
    }
  }
  if (nodes) {
    next.nodes = nodes;
    next.done = 0;
    for (const node of nodes.values()) if (isTerminal(node.status)) next.done++;
  }
  return next;
}

/** Return what an event makes of its node, or undefined. A node that waits is held by nobody until it goes on. */
function nodeStatus(log: ExecutionLog): Status | undefined {
  if (log.event === "resume" && log.node_id) return "running";
  return NODE_STATUS[log.event];
}

/** Return the status of an execution: it waits while nodes of it wait and none runs. */
export function statusOf(run: RunState): Status | null {
  if (run.status !== "running") return run.status;
  let waits = false;
  for (const { status } of run.nodes.values()) {
    if (status === "running" || status === "retrying") return "running";
    if (status === "waiting") waits = true;
  }
  return waits ? "waiting" : "running";
}

/** An error that will be tried again is not the node's end; an event may name its status itself. */
function settled(log: ExecutionLog, wanted: Status): Status {
  if (log.event === "node_skipped" && log.status === "cancelled") return "cancelled";
  if (log.event !== "node_error") return wanted;
  if (log.data?.will_retry === true || log.status === "retrying") return "retrying";
  return log.status === "cancelled" ? "cancelled" : "failed";
}

/** The most of its weight that a step counts before it has ended. The server counts the same (`RUNNING_SHARE`). */
const RUNNING_SHARE = 0.9;

/**
 * Return the progress in percent: what nodes have behind them of the time that all are expected to take, from event rows only.
 * `expected` is in milliseconds by node id; without it every node weighs the same. A node that runs at `now` counts by what it has
 * taken of what is expected of it, and not at all where nothing is. 100 is the end, never "nearly"; what failed or was cancelled
 * stays where it stopped.
 */
export function percent(run: RunState, total: number, expected: Readonly<Record<string, number>> = {}, now = 0): number {
  const over = isTerminal(run.status);
  if (over && run.status !== "failed" && run.status !== "cancelled") return 100;
  const known = Object.values(expected);
  const usual = known.reduce((sum, ms) => sum + ms, 0) / known.length || 1;
  let [all, behind, count] = [0, 0, 0];
  for (const id of new Set([...Object.keys(expected), ...run.nodes.keys()])) {
    const weight = Math.max(1, expected[id] ?? usual);
    const node = run.nodes.get(id);
    all += weight;
    count++;
    if (isTerminal(node?.status)) behind += weight;
    else if (!over && node && expected[id]) behind += Math.min(taken(node, now), expected[id] * RUNNING_SHARE);
  }
  all += Math.max(0, total - count) * usual;
  return all > 0 ? Math.min(over ? 100 : 99, Math.floor((behind / all) * 100)) : 0;
}

/** Return the milliseconds since a node that has not ended began; none for one that will be tried again. */
function taken(node: NodeState, now: number): number {
  if ((node.status !== "running" && node.status !== "waiting") || !node.startedAt) return 0;
  return Math.max(0, now - new Date(node.startedAt).getTime());
}

/** Return the total that progress counts against, never less than the nodes already seen. */
export function total(run: RunState, hello: Progress | null | undefined): number {
  return Math.max(hello?.total ?? 0, run.nodes.size);
}

export type LevelFilter = LogLevel | "all";

/** Return a line as plain text, for the clipboard. */
export function asText(log: ExecutionLog): string {
  return `${log.timestamp}  ${log.level.toUpperCase().padEnd(7)}  ${log.step_name}  ${log.message}`;
}
