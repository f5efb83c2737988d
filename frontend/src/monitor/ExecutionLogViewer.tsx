import { memo, useCallback, useState, type ReactNode } from "react";

import type { ExecutionLog, LogLevel } from "../contract";
import { clock, count, dateTime, duration } from "../format";
import { Icon, type IconName } from "../icons";
import { ConnectionDot } from "./ConnectionDot";
import { CopyButton } from "./CopyButton";
import { JsonTree } from "./JsonTree";
import { ALL_IN_DOM, LogList } from "./LogList";
import { asText, type LevelFilter } from "./logs";
import { useSearch } from "./search";
import type { ConnectionStatus } from "./useWebSocketLogs";

export interface ExecutionLogViewerProps {
  logs: readonly ExecutionLog[];
  connectionStatus?: ConnectionStatus;
  /** The run has ended and the log is whole: nothing to reconnect to. */
  ended?: boolean;
  error?: string | null;
  loading?: boolean;
  /** How many lines there are before the first one. */
  older?: number;
  onReconnect?: () => void;
  /** Empties the list while lines come. */
  onClear?: () => void;
  /** Reads the lines again once none come any more. */
  onRefresh?: () => void;
  onLoadOlder?: () => Promise<void>;
}

const LEVEL_ICONS: Record<LogLevel, IconName> = { debug: "code", info: "circle", warning: "alert", error: "close" };

/** The lines of a log with search, filter, details and the state of the connection that brings them. */
export function ExecutionLogViewer({
  logs,
  connectionStatus = "disconnected",
  ended = false,
  error = null,
  loading = false,
  older = 0,
  onReconnect,
  onClear,
  onRefresh,
  onLoadOlder,
}: ExecutionLogViewerProps) {
  const [level, setLevel] = useState<LevelFilter>("all");
  const [text, setText] = useState("");
  const [open, setOpen] = useState<ReadonlySet<number>>(new Set());
  const [following, setFollowing] = useState(true);
  const { shown, done } = useSearch(logs, level, text);

  // Who opens a line wants to read it: new ones do not push it away.
  const toggle = useCallback((seq: number) => {
    setFollowing(false);
    setOpen((before) => {
      const after = new Set(before);
      if (!after.delete(seq)) after.add(seq);
      return after;
    });
  }, []);
  const showAll = () => {
    setText("");
    setLevel("all");
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
          onClick={() => setFollowing(!following)}
        >
          <Icon name="down" size={13} /> <span>Follow</span>
        </button>
        <CopyButton className="fb-btn-small" label="Copy" title="Copy the lines shown" text={() => shown.map(asText).join("\n")} disabled={shown.length === 0} />
        {onClear && !ended ? (
          <button type="button" className="fb-btn fb-btn-small" title="Clear the list" onClick={onClear} disabled={logs.length === 0}>
            <Icon name="trash" size={13} /> <span>Clear</span>
          </button>
        ) : null}
        {onRefresh && ended ? (
          <button type="button" className="fb-btn fb-btn-small" title="Read the log again" onClick={onRefresh}>
            <Icon name="retry" size={13} /> <span>Refresh</span>
          </button>
        ) : null}
      </div>
      {error && logs.length > 0 ? (
        <p className="fb-note" data-kind="error" role="alert">
          <Icon name="alert" size={14} /> {error}
        </p>
      ) : null}
      <div
        className="fb-logs-body"
        role="log"
        aria-label="Log lines"
        aria-busy={loading}
        aria-live={shown.length > ALL_IN_DOM ? "off" : "polite"}
      >
        {shown.length > 0 ? (
          <LogList
            logs={shown}
            following={following}
            onFollow={setFollowing}
            row={(log) => <Row key={log.seq} log={log} open={open.has(log.seq)} onToggle={toggle} />}
          />
        ) : loading || !done ? (
          <Skeleton rows={5} />
        ) : logs.length > 0 ? (
          <Nothing icon="search">
            <button type="button" className="fb-btn" onClick={showAll}>
              Show all {count(logs.length, "line")}
            </button>
          </Nothing>
        ) : error ? (
          <div className="fb-empty" role="alert">
            <Icon name="alert" size={22} />
            <strong>The log could not be loaded</strong>
            <span>{error}</span>
            {onReconnect ? (
              <button type="button" className="fb-btn" onClick={onReconnect}>
                Try Again
              </button>
            ) : null}
          </div>
        ) : (
          <Nothing icon="list">
            <span>{ended ? "This run wrote no lines." : "Lines appear here as the workflow runs."}</span>
          </Nothing>
        )}
      </div>
      <div className="fb-logs-foot">
        <span data-testid="log-count">
          {shown.length.toLocaleString("en")} of {count(logs.length, "log")}
        </span>
        {done ? null : <span>Searching</span>}
        {older > 0 ? <Older count={older} onLoad={onLoadOlder} /> : null}
        {!following && shown.length > 0 ? (
          <button type="button" className="fb-link fb-newest" onClick={() => setFollowing(true)}>
            Scrolling paused. Go to the newest line
          </button>
        ) : null}
      </div>
    </section>
  );
}

function Nothing({ icon, children }: { icon: IconName; children: ReactNode }) {
  return (
    <div className="fb-empty">
      <Icon name={icon} size={22} />
      <strong>No Logs Found</strong>
      {children}
    </div>
  );
}

function Older({ count: older, onLoad }: { count: number; onLoad?: () => Promise<void> }) {
  const [busy, setBusy] = useState(false);
  const words = `${older.toLocaleString("en")} older`;
  if (!onLoad) return <span>{words}</span>;
  const load = async () => {
    setBusy(true);
    await onLoad();
    setBusy(false);
  };
  return (
    <button type="button" className="fb-link" disabled={busy} onClick={() => void load()}>
      {words}, {busy ? "loading" : "load"}
    </button>
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
  const text = () => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
  return (
    <figure className="fb-json">
      <figcaption>
        {title}
        <CopyButton className="fb-btn-small fb-btn-ghost" label={`Copy ${title.toLowerCase()}`} text={text} />
      </figcaption>
      {typeof value === "string" ? <pre tabIndex={0}>{value}</pre> : <JsonTree value={value} />}
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
