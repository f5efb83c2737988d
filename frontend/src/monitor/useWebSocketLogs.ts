import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import { Api } from "../api";
import { BLANK, feedOf, type Feed, type FeedView } from "./feed";
import { connectionTo } from "./socket";

export type { ConnectionStatus } from "./socket";

export interface WebSocketLogsOptions {
  /** false: not subscribed. */
  enabled?: boolean;
  /** How often a lost connection is tried again before giving up. */
  reconnectAttempts?: number;
  /** Milliseconds before the first new attempt; doubles up to 30 s. */
  reconnectInterval?: number;
  /** How many of the newest lines are kept in memory. */
  bufferSize?: number;
  /** Where the HTTP API is, for lines that are no longer in memory. */
  api?: string;
  /** Where the sockets are. */
  ws?: string;
}

export interface WebSocketLogs extends FeedView {
  reconnect: () => void;
  clearLogs: () => void;
  disconnect: () => void;
  /** Load up to 1,000 lines before the first one; they stay in memory. */
  loadOlder: () => Promise<void>;
}

const CONNECTING: FeedView = { ...BLANK, connectionStatus: "connecting" };
const GAVE_UP = "The connection was lost and could not be opened again.";

/**
 * Follow the log of an execution live: history first, then every new line once and in order.
 *
 * All on a page share one connection, and all who follow the same execution share its lines. A lost connection resumes
 * after the last line that arrived.
 */
export function useWebSocketLogs(
  executionId: string | null | undefined,
  {
    enabled = true,
    reconnectAttempts = Number.POSITIVE_INFINITY,
    reconnectInterval = 500,
    bufferSize = 1000,
    api = "/api/v1",
    ws = "/ws",
  }: WebSocketLogsOptions = {},
): WebSocketLogs {
  const client = useMemo(() => new Api(api), [api]);
  const feed = useRef<Feed | null>(null);
  const [seen, setSeen] = useState<{ id: string; view: FeedView } | null>(null);
  /** The execution that was left by hand or given up, and why. It is not asked for until somebody reconnects. */
  const [left, setLeft] = useState<{ id: string; error: string | null } | null>(null);
  const wanted = enabled && executionId ? executionId : null;
  const gone = left !== null && left.id === wanted;

  useEffect(() => {
    if (wanted === null || gone) return;
    const current = feedOf(wanted, ws, reconnectInterval);
    const stop = current.listen(() => {
      setSeen({ id: wanted, view: current.view });
      if (current.connection.state.failures > reconnectAttempts) setLeft({ id: wanted, error: GAVE_UP });
    }, bufferSize);
    feed.current = current;
    setSeen({ id: wanted, view: current.view });
    return () => {
      feed.current = null;
      stop();
    };
  }, [wanted, gone, ws, reconnectInterval, reconnectAttempts, bufferSize]);

  const reconnect = useCallback(() => {
    setLeft(null);
    if (feed.current) feed.current.reconnect();
    else if (gone) connectionTo(ws, reconnectInterval).reconnect();
  }, [gone, ws, reconnectInterval]);
  const disconnect = useCallback(() => setLeft(wanted === null ? null : { id: wanted, error: null }), [wanted]);
  const clearLogs = useCallback(() => feed.current?.clear(), []);
  const loadOlder = useCallback(async () => feed.current?.loadOlder(client), [client]);

  const view = wanted === null ? BLANK : seen?.id === wanted ? seen.view : CONNECTING;
  const shown: FeedView = gone ? { ...view, connectionStatus: left.error ? "error" : "disconnected", error: left.error } : view;
  return { ...shown, reconnect, disconnect, clearLogs, loadOlder };
}
