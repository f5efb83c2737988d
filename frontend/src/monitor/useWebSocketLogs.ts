import ReconnectingWebSocket from "partysocket/ws";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import { Api } from "../api";
import type { ExecutionLog, Frame, Progress, Status } from "../contract";
import { EMPTY_RUN, fold, mergeLogs, Sequencer, type RunState } from "./logs";

export type ConnectionStatus = "connecting" | "connected" | "disconnected" | "error";

export interface WebSocketLogsOptions {
  /** false: no socket. */
  enabled?: boolean;
  /** How often a lost connection is tried again before giving up. */
  reconnectAttempts?: number;
  /** Milliseconds before the first new attempt; doubles up to 30 s. */
  reconnectInterval?: number;
  /** How many of the newest lines are kept in memory. */
  bufferSize?: number;
  /** Where the HTTP API is, for what the socket left out. */
  api?: string;
  /** Where the sockets are. */
  ws?: string;
}

export interface WebSocketLogs {
  logs: readonly ExecutionLog[];
  connectionStatus: ConnectionStatus;
  error: string | null;
  reconnect: () => void;
  clearLogs: () => void;
  disconnect: () => void;
  /** What the events say so far: status of the run and of every node. */
  run: RunState;
  /** The newest seq with nothing missing before it. */
  lastSeq: number;
  /** What the server said at the start and at the end. */
  serverStatus: Status | null;
  progress: Progress | null;
  /** The server said that nothing will follow. */
  ended: boolean;
  /** Lines that the buffer let go. */
  dropped: number;
}

/** Close codes after which a new attempt is useless: normal end, going away, bad id, not permitted. */
const FINAL_CODES = new Set([1000, 1001, 1003, 1008]);
const CLOSE_REASONS: Record<number, string> = {
  1003: "This is not the id of an execution.",
  1008: "This execution does not exist, or it belongs to somebody else.",
};
const SILENCE_MS = 75_000;
const PING_MS = 25_000;
const PAGE = 1000;

interface View {
  logs: readonly ExecutionLog[];
  run: RunState;
  lastSeq: number;
  serverStatus: Status | null;
  progress: Progress | null;
  ended: boolean;
  dropped: number;
}

const BLANK: View = {
  logs: [],
  run: EMPTY_RUN,
  lastSeq: 0,
  serverStatus: null,
  progress: null,
  ended: false,
  dropped: 0,
};

/**
 * Follow the log of an execution live: history first, then every new line once and in order.
 *
 * A lost connection resumes after the last line that arrived without a gap; a gap or a `resync` is filled
 * from the HTTP API.
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
  const [view, setView] = useState<View>(BLANK);
  const [connectionStatus, setConnectionStatus] = useState<ConnectionStatus>(
    enabled && executionId ? "connecting" : "disconnected",
  );
  const [error, setError] = useState<string | null>(null);
  const client = useMemo(() => new Api(api), [api]);
  const controls = useRef<{ reconnect: () => void; disconnect: () => void; clear: () => void } | null>(null);

  useEffect(() => {
    setView(BLANK);
    setError(null);
    if (!enabled || !executionId) {
      setConnectionStatus("disconnected");
      return;
    }
    setConnectionStatus("connecting");

    const sequencer = new Sequencer();
    const abort = new AbortController();
    let current: View = BLANK;
    let waiting: ExecutionLog[] = [];
    let frame = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let filling = false;
    let over = false;
    let failures = 0;
    let lastFrame = Date.now();
    let live: WebSocket | null = null;

    const flush = () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      frame = 0;
      timer = undefined;
      if (over) return;
      if (waiting.length > 0) {
        const merged = mergeLogs(current.logs, waiting);
        const surplus = Math.max(0, merged.length - bufferSize);
        current = {
          ...current,
          logs: surplus > 0 ? merged.slice(surplus) : merged,
          dropped: current.dropped + surplus,
          run: fold(current.run, waiting),
          lastSeq: sequencer.lastSeq,
        };
        waiting = [];
      }
      setView(current);
    };
    // One render per animation frame; a hidden page gets no frames, so a timer stands in.
    const schedule = () => {
      if (frame || timer) return;
      if (document.visibilityState === "hidden") timer = setTimeout(flush, 100);
      else frame = requestAnimationFrame(flush);
    };
    const deliver = (logs: readonly ExecutionLog[]) => {
      if (logs.length === 0) return;
      waiting.push(...logs);
      schedule();
    };

    /** Fetch what is missing. The rows are the truth: a hole that they have too is no hole. */
    const fillGap = async () => {
      if (filling) return;
      filling = true;
      try {
        for (;;) {
          const page = await client.logs(executionId, sequencer.lastSeq, PAGE, abort.signal);
          if (over) return;
          deliver(sequencer.fill(page.logs));
          if (page.logs.length >= PAGE) continue;
          if (sequencer.hasGap && page.last_seq >= sequencer.firstEarly - 1) {
            deliver(sequencer.settle(sequencer.firstEarly - 1));
          }
          if (!sequencer.hasGap) return;
          await new Promise((resolve) => setTimeout(resolve, 250));
          if (over) return;
        }
      } catch (problem) {
        if (!over && (problem as Error).name !== "AbortError") {
          setError(`Some lines are missing: ${(problem as Error).message}`);
        }
      } finally {
        filling = false;
      }
    };

    const receive = (message: Frame) => {
      switch (message.type) {
        case "hello":
          current = { ...current, serverStatus: message.status, progress: message.progress ?? current.progress };
          schedule();
          break;
        case "log":
        case "node":
        case "status":
          deliver(sequencer.push(message));
          if (sequencer.hasGap) void fillGap();
          break;
        case "resync":
          void fillGap();
          break;
        case "end":
          current = { ...current, serverStatus: message.status, ended: true };
          schedule();
          break;
        default:
          break;
      }
    };

    const onMessage = (event: MessageEvent) => {
      lastFrame = Date.now();
      let parsed: unknown;
      try {
        parsed = JSON.parse(String(event.data));
      } catch {
        setError("The server sent a message that is not JSON; it was left out.");
        return;
      }
      for (const message of Array.isArray(parsed) ? parsed : [parsed]) {
        if (message && typeof message === "object") receive(message as Frame);
      }
    };

    const onClose = (event: CloseEvent) => {
      live = null;
      flush();
      if (current.ended || FINAL_CODES.has(event.code)) {
        socket.close();
        const reason = CLOSE_REASONS[event.code];
        setError(reason ?? null);
        setConnectionStatus(reason ? "error" : "disconnected");
        return;
      }
      failures++;
      if (failures > reconnectAttempts) {
        socket.close();
        setError("The connection was lost and could not be opened again.");
        setConnectionStatus("error");
      } else {
        // The first loss is an interruption; when a new attempt fails as well, say so.
        setConnectionStatus(failures > 1 ? "error" : "connecting");
        if (failures > 1) setError("The server does not answer. Trying again.");
      }
    };

    // partysocket reports its own closes with code 1000, so the true code is read from the socket itself.
    const Base = globalThis.WebSocket;
    class WatchedSocket extends Base {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols);
        live = this;
        this.addEventListener("open", () => {
          if (over || live !== this) return;
          failures = 0;
          lastFrame = Date.now();
          setConnectionStatus("connected");
          setError(null);
        });
        this.addEventListener("close", (event) => {
          if (!over && live === this) onClose(event);
        });
      }
    }

    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const address = () =>
      `${scheme}//${location.host}${ws}/executions/${encodeURIComponent(executionId)}/logs?after=${sequencer.lastSeq}`;
    const socket = new ReconnectingWebSocket(address, undefined, {
      WebSocket: WatchedSocket,
      minReconnectionDelay: reconnectInterval * (0.75 + Math.random() / 2),
      maxReconnectionDelay: 30_000,
      reconnectionDelayGrowFactor: 2,
      connectionTimeout: 10_000,
      minUptime: 2_000,
    });
    socket.addEventListener("message", onMessage);

    const reopen = () => {
      live = null;
      setConnectionStatus("connecting");
      socket.reconnect();
    };
    const pulse = setInterval(() => {
      if (live?.readyState !== Base.OPEN) return;
      if (Date.now() - lastFrame > SILENCE_MS) reopen();
      else socket.send("ping");
    }, PING_MS);

    controls.current = {
      reconnect: () => {
        failures = 0;
        setError(null);
        current = { ...current, ended: false };
        reopen();
      },
      disconnect: () => {
        live = null;
        socket.close(1000);
        setConnectionStatus("disconnected");
      },
      clear: () => {
        flush();
        current = { ...current, logs: [], dropped: 0 };
        setView(current);
      },
    };

    return () => {
      over = true;
      live = null;
      controls.current = null;
      clearInterval(pulse);
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      abort.abort();
      socket.close(1000);
    };
  }, [executionId, enabled, reconnectAttempts, reconnectInterval, bufferSize, client, ws]);

  const reconnect = useCallback(() => controls.current?.reconnect(), []);
  const disconnect = useCallback(() => controls.current?.disconnect(), []);
  const clearLogs = useCallback(() => controls.current?.clear(), []);
  return { ...view, connectionStatus, error, reconnect, clearLogs, disconnect };
}
