import { memo, useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { Virtuoso as VirtuosoList, VirtuosoHandle } from "react-virtuoso";

import type { ExecutionLog, LogLevel } from "../contract";
import { clock, count, dateTime, duration } from "../format";
import { Icon, type IconName } from "../icons";
import { ConnectionDot } from "./ConnectionDot";
import { keepLoading } from "./loading";
import { asText, filterLogs, type LevelFilter } from "./logs";
import type { ConnectionStatus } from "./useWebSocketLogs";

export interface ExecutionLogViewerProps {
  logs: readonly ExecutionLog[];
  connectionStatus?: ConnectionStatus;
  /** The run has ended and the log is whole: nothing to reconnect to. */
  ended?: boolean;
  error?: string | null;
  loading?: boolean;
  /** Lines that are no longer in memory. */
  dropped?: number;
  onReconnect?: () => void;
  onClear?: () => void;
}

const LEVEL_ICONS: Record<LogLevel, IconName> = { debug: "code", info: "circle", warning: "alert", error: "close" };

/**
 * Up to this many lines all of them are in the document: the browser's own search finds them, and the code of the
 * virtual list is not even loaded.
 */
const ALL_IN_DOM = 400;
const BOTTOM_PX = 10;

export function ExecutionLogViewer({
  logs,
  connectionStatus = "disconnected",
  ended = false,
  error = null,
  loading = false,
  dropped = 0,
  onReconnect,
  onClear,
}: ExecutionLogViewerProps) {
  const [level, setLevel] = useState<LevelFilter>("all");
  const [text, setText] = useState("");
  const [open, setOpen] = useState<ReadonlySet<number>>(new Set());
  const [following, setFollowing] = useState(true);
  const [copied, setCopied] = useState(false);
  const [Virtual, setVirtual] = useState<typeof VirtuosoList | null>(null);
  const follow = useRef(true);
  const list = useRef<VirtuosoHandle>(null);
  const scroller = useRef<HTMLElement | null>(null);
  const lastTop = useRef(0);

  const shown = useMemo(() => filterLogs(logs, level, text), [logs, level, text]);
  const lastSeq = shown.at(-1)?.seq ?? 0;

  const large = shown.length > ALL_IN_DOM;
  useEffect(() => {
    if (!large || Virtual) return;
    return keepLoading(
      () => import("react-virtuoso"),
      (module) => setVirtual(() => module.Virtuoso),
    );
  }, [large, Virtual]);

  const toBottom = useCallback(() => {
    if (list.current) list.current.scrollToIndex({ index: "LAST", align: "end" });
    else if (scroller.current) scroller.current.scrollTop = scroller.current.scrollHeight;
  }, []);

  // virtuoso's followOutput loses the bottom when two large batches arrive in a row, so the wish to follow
  // is ours: only the reader's own scrolling ends it, reaching the bottom renews it.
  useEffect(() => {
    if (!follow.current || lastSeq === 0) return;
    const frame = requestAnimationFrame(toBottom);
    return () => cancelAnimationFrame(frame);
  }, [lastSeq, toBottom, Virtual]);

  const setFollow = useCallback(
    (wanted: boolean) => {
      follow.current = wanted;
      setFollowing(wanted);
      if (wanted) toBottom();
    },
    [toBottom],
  );

  const leave = useCallback(() => {
    const box = scroller.current;
    if (box && box.scrollHeight <= box.clientHeight + BOTTOM_PX) return;
    if (follow.current) setFollow(false);
  }, [setFollow]);

  const toggle = useCallback((seq: number) => {
    setOpen((before) => {
      const after = new Set(before);
      if (!after.delete(seq)) after.add(seq);
      return after;
    });
  }, []);

  const copy = async () => {
    await copyText(shown.map(asText).join("\n"));
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };

  const lost = connectionStatus === "error" || (connectionStatus === "disconnected" && !ended);
  return (
    <section className="fb-logs" aria-label="Execution log">
      <div className="fb-logs-bar">
        <ConnectionDot status={connectionStatus} ended={ended} />
        {lost && onReconnect ? (
          <button type="button" className="fb-btn fb-btn-small fb-reconnect" onClick={onReconnect}>
            <Icon name="retry" size={13} /> Reconnect
          </button>
        ) : null}
        <span className="fb-spacer" />
        <label className="fb-search">
          <Icon name="search" size={14} />
          <input
            type="search"
            value={text}
            placeholder="Search log"
            aria-label="Search log"
            onChange={(event) => setText(event.target.value)}
          />
        </label>
        <select aria-label="Level" value={level} onChange={(event) => setLevel(event.target.value as LevelFilter)}>
          <option value="all">All levels</option>
          <option value="debug">Debug</option>
          <option value="info">Info</option>
          <option value="warning">Warning</option>
          <option value="error">Error</option>
        </select>
        <button
          type="button"
          className="fb-btn fb-btn-small"
          aria-pressed={following}
          title="Follow: scroll to new lines as they arrive"
          onClick={() => setFollow(!following)}
        >
          <Icon name="down" size={13} /> <span>Follow</span>
        </button>
        <button type="button" className="fb-btn fb-btn-small" title="Copy the lines shown" onClick={() => void copy()} disabled={shown.length === 0}>
          <Icon name={copied ? "check" : "copy"} size={13} /> <span>{copied ? "Copied" : "Copy"}</span>
        </button>
        {onClear ? (
          <button type="button" className="fb-btn fb-btn-small" title="Clear the list" onClick={onClear} disabled={logs.length === 0}>
            <Icon name="trash" size={13} /> <span>Clear</span>
          </button>
        ) : null}
      </div>
      {error ? (
        <p className="fb-note" data-kind="error" role="alert">
          <Icon name="alert" size={14} /> {error}
        </p>
      ) : null}
      <div
        className="fb-logs-body"
        role="log"
        aria-label="Log lines"
        aria-busy={loading}
        onWheel={(event) => {
          if (event.deltaY < 0) leave();
        }}
        onTouchMove={leave}
        onKeyDown={(event) => {
          if (["PageUp", "ArrowUp", "Home"].includes(event.key)) leave();
        }}
      >
        {loading && logs.length === 0 ? (
          <Skeleton rows={5} />
        ) : shown.length === 0 ? (
          <div className="fb-empty">
            <Icon name={logs.length > 0 ? "search" : "list"} size={22} />
            <strong>No Logs Found</strong>
            {logs.length > 0 ? (
              <button
                type="button"
                className="fb-btn"
                onClick={() => {
                  setText("");
                  setLevel("all");
                }}
              >
                Show all {count(logs.length, "line")}
              </button>
            ) : (
              <span>{ended ? "This run wrote no lines." : "Lines appear here as the workflow runs."}</span>
            )}
          </div>
        ) : Virtual && large ? (
            <Virtual
              ref={list}
              scrollerRef={(box) => {
                scroller.current = box as HTMLElement | null;
              }}
              data={shown as ExecutionLog[]}
              computeItemKey={(_, log) => (log as ExecutionLog).seq}
              initialTopMostItemIndex={{ index: "LAST", align: "end" }}
              increaseViewportBy={600}
              atBottomThreshold={BOTTOM_PX}
              atBottomStateChange={(bottom) => {
                if (bottom && !follow.current) setFollow(true);
              }}
              itemContent={(_, log) => <Row log={log as ExecutionLog} open={open.has((log as ExecutionLog).seq)} onToggle={toggle} />}
            />
        ) : (
            <div
              className="fb-logs-plain"
              ref={(box) => {
                scroller.current = box;
              }}
              onScroll={(event) => {
                const box = event.currentTarget;
                const distance = box.scrollHeight - box.clientHeight - box.scrollTop;
                if (distance <= BOTTOM_PX) {
                  if (!follow.current) setFollow(true);
                } else if (box.scrollTop < lastTop.current && follow.current) {
                  setFollow(false);
                }
                lastTop.current = box.scrollTop;
              }}
            >
              {shown.map((log) => (
                <Row key={log.seq} log={log} open={open.has(log.seq)} onToggle={toggle} />
              ))}
            </div>
        )}
      </div>
      <div className="fb-logs-foot">
        <span data-testid="log-count">
          {shown.length.toLocaleString("en")} of {count(logs.length, "log")}
        </span>
        {dropped > 0 ? <span>{dropped.toLocaleString("en")} older lines are not in memory</span> : null}
        {!following && shown.length > 0 ? (
          <button type="button" className="fb-link" onClick={() => setFollow(true)}>
            Scrolling paused. Go to the newest line
          </button>
        ) : null}
      </div>
    </section>
  );
}

const Row = memo(function Row({
  log,
  open,
  onToggle,
}: {
  log: ExecutionLog;
  open: boolean;
  onToggle: (seq: number) => void;
}) {
  const details = hasContent(log.input_data) || hasContent(log.output_data) || Boolean(log.error_message);
  const phase = log.event.startsWith("phase_") || log.event.startsWith("workflow_");
  return (
    <div className="fb-log" data-seq={log.seq} data-level={log.level} data-event={log.event} data-frame={phase || undefined}>
      <div className="fb-log-line">
        {details ? (
          <button
            type="button"
            className="fb-log-toggle"
            aria-expanded={open}
            aria-label={`Details of line ${log.seq}`}
            onClick={() => onToggle(log.seq)}
          >
            <Icon name="chevron" size={13} />
          </button>
        ) : (
          <span className="fb-log-toggle" />
        )}
        <time dateTime={log.timestamp} title={dateTime(log.timestamp)}>
          {clock(log.timestamp)}
        </time>
        <span className="fb-level" title={log.level}>
          <Icon name={LEVEL_ICONS[log.level] ?? "circle"} size={11} />
          <span>{log.level}</span>
        </span>
        <span className="fb-log-step" title={log.step_type}>
          {log.node_id ? log.step_name : ""}
        </span>
        <span className="fb-log-message">{log.message}</span>
        <span className="fb-log-duration">{log.duration_ms > 0 ? duration(log.duration_ms) : ""}</span>
      </div>
      {open ? (
        <div className="fb-log-details">
          {log.error_message ? <Json title="Error" value={log.error_message} /> : null}
          {hasContent(log.input_data) ? <Json title="Input" value={log.input_data} /> : null}
          {hasContent(log.output_data) ? <Json title="Output" value={log.output_data} /> : null}
        </div>
      ) : null}
    </div>
  );
});

function Json({ title, value }: { title: string; value: unknown }) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  const [copied, setCopied] = useState(false);
  return (
    <figure className="fb-json">
      <figcaption>
        {title}
        <button
          type="button"
          className="fb-btn fb-btn-small fb-btn-ghost"
          onClick={() => {
            void copyText(text);
            setCopied(true);
            setTimeout(() => setCopied(false), 1500);
          }}
        >
          <Icon name={copied ? "check" : "copy"} size={12} /> {copied ? "Copied" : `Copy ${title.toLowerCase()}`}
        </button>
      </figcaption>
      <pre tabIndex={0}>{text}</pre>
    </figure>
  );
}

/** Grey bars in the shape of what is coming. */
export function Skeleton({ rows }: { rows: number }) {
  return (
    <div className="fb-skeleton" data-testid="skeleton" aria-hidden="true">
      {Array.from({ length: rows }, (_, index) => (
        <span key={index} />
      ))}
    </div>
  );
}

function hasContent(value: unknown): boolean {
  if (value == null || value === "") return false;
  return typeof value !== "object" || Object.keys(value).length > 0;
}

/** Put text on the clipboard, also on plain http where the clipboard API is missing. */
export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "fb-offscreen";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
