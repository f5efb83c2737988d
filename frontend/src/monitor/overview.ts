/** What the monitor page knows of all executions: a list and the tiles, pushed by the server while it is looked at. */

import { useCallback, useEffect, useMemo, useReducer, useState, useSyncExternalStore } from "react";

import { Api } from "../api";
import { isTerminal, type ExecutionSummary, type OverviewFrame } from "../contract";
import { connectionTo, type ConnectionState } from "./socket";

/** How many ended executions the list shows. */
export const RECENT = 40;
/** How often the list is asked for while nothing is pushed. */
const POLL_MS = 3000;

/** The numbers above the list. Those of the installation are null, and `queues` is empty, for who may not see them. */
export interface Tiles {
  readonly throughput_per_minute: number;
  /** Of the last hour, 0 to 1; null when nothing ended. */
  readonly success_rate: number | null;
  readonly p95_ms: number | null;
  readonly running: number;
  readonly pending: number;
  readonly held: number;
  readonly credits_today: number;
  readonly queues: Readonly<Record<string, number>>;
  readonly slots: { readonly busy: number; readonly total: number } | null;
  readonly browsers: { readonly open: number; readonly limit: number } | null;
  readonly workers: number | null;
}

export interface Overview {
  /** The newest first; null until something is known. */
  readonly executions: readonly ExecutionSummary[] | null;
  readonly tiles: Tiles | null;
}

export const NOTHING: Overview = { executions: null, tiles: null };

/**
 * Return what is known after a pushed frame. With `workflowId` the list is of that workflow only, of which the server's
 * list for everything may show less than the one that was asked for: nothing is taken away then.
 */
export function pushed(before: Overview, frame: OverviewFrame, workflowId?: string): Overview {
  const wanted = frame.executions.filter((item) => !workflowId || item.workflow_id === workflowId);
  const removed = new Set(workflowId ? [] : frame.removed);
  const kept = frame.full && !workflowId ? [] : (before.executions ?? []).filter((item) => !removed.has(item.id));
  return {
    executions: before.executions || frame.full ? merged(kept, wanted) : null,
    tiles: Object.keys(frame.tiles).length > 0 ? (frame.tiles as unknown as Tiles) : before.tiles,
  };
}

/** Return what is known after the list was asked for: an answer that was slow does not undo what was pushed meanwhile. */
export function asked(before: Overview, items: readonly ExecutionSummary[]): Overview {
  return { ...before, executions: merged(before.executions ?? [], items) };
}

function merged(old: readonly ExecutionSummary[], fresh: readonly ExecutionSummary[]): ExecutionSummary[] {
  const known = new Map(old.map((item) => [item.id, item]));
  for (const item of fresh) {
    const there = known.get(item.id);
    if (!there || item.last_seq >= there.last_seq) known.set(item.id, item);
  }
  let ended = 0;
  return [...known.values()]
    .sort((a, b) => (b.queued_at ?? "").localeCompare(a.queued_at ?? "") || b.id.localeCompare(a.id))
    .filter((item) => !isTerminal(item.status) || ++ended <= RECENT);
}

type News = { frame: OverviewFrame; workflowId?: string } | { items: readonly ExecutionSummary[] };

function told(before: Overview, news: News): Overview {
  return "frame" in news ? pushed(before, news.frame, news.workflowId) : asked(before, news.items);
}

export interface LiveOverview extends Overview {
  connection: ConnectionState;
  /** Why the list could not be asked for. */
  problem: string | null;
  reload: () => void;
  reconnect: () => void;
}

/** Return the list and the tiles, live. While there is no connection the list is asked for every three seconds. */
export function useOverview(api: string, ws: string, workflowId?: string): LiveOverview {
  const client = useMemo(() => new Api(api), [api]);
  const line = useMemo(() => connectionTo(ws), [ws]);
  const connection = useSyncExternalStore(
    useCallback((changed) => line.listen(changed), [line]),
    () => line.state,
  );
  const [known, tell] = useReducer(told, NOTHING);
  const [problem, setProblem] = useState<string | null>(null);
  const connected = connection.status === "connected";

  const load = useCallback(
    async (signal?: AbortSignal) => {
      try {
        const query = { limit: String(RECENT), ...(workflowId ? { workflow_id: workflowId } : {}) };
        tell({ items: (await client.executions(query, signal)).items });
        setProblem(null);
      } catch (error) {
        if ((error as Error).name !== "AbortError") setProblem((error as Error).message);
      }
    },
    [client, workflowId],
  );

  useEffect(() => line.overview((frame) => tell({ frame, workflowId })), [line, workflowId]);

  // Asked once in any case, and again after every loss, for what the connection does not tell.
  useEffect(() => {
    const abort = new AbortController();
    void load(abort.signal);
    const timer = setInterval(() => {
      if (!connected && document.visibilityState === "visible") void load(abort.signal);
    }, POLL_MS);
    return () => {
      abort.abort();
      clearInterval(timer);
    };
  }, [load, connected]);

  return {
    ...known,
    connection,
    problem,
    reload: useCallback(() => void load(), [load]),
    reconnect: useCallback(() => line.reconnect(), [line]),
  };
}
