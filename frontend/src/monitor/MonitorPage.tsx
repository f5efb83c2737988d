import { useMemo } from "react";

import { Api } from "../api";
import { isTerminal, type ExecutionSummary } from "../contract";
import { count } from "../format";
import { Icon } from "../icons";
import { ConnectionDot } from "./ConnectionDot";
import { Skeleton } from "./ExecutionLogViewer";
import { useOpenExecutions } from "./open";
import { useOverview } from "./overview";
import { RunList } from "./RunList";
import { StartDemo, StartExecution } from "./StartExecution";
import { TileRow } from "./TileRow";
import { WorkflowExecutionMonitor } from "./WorkflowExecutionMonitor";

export interface MonitorProps {
  api?: string;
  ws?: string;
  /** Address of an execution's page with `{id}`. */
  execution_url?: string;
  /** Restrict the list to one workflow. */
  workflow_id?: string;
  /** Where a first workflow is made, for who has none. */
  examples_url?: string;
}

export function MonitorPage({ api = "/api/v1", ws = "/ws", execution_url, workflow_id, examples_url }: MonitorProps) {
  const client = useMemo(() => new Api(api), [api]);
  const { executions, tiles, connection, problem, reload, reconnect } = useOverview(api, ws, workflow_id);
  const running = executions?.filter((item) => !isTerminal(item.status)) ?? [];
  const recent = executions?.filter((item) => isTerminal(item.status)) ?? [];
  const { open, pick, toggle } = useOpenExecutions((running[0] ?? recent[0])?.id);
  const lists = { open, onPick: pick, onToggle: toggle, url: execution_url };

  const show = (id: string) => {
    pick(id);
    reload();
  };

  return (
    <div className="fb fb-monitor">
      <header className="fb-monitor-head">
        <h1>Monitor</h1>
        <ConnectionDot status={connection.status} />
        {connection.status === "error" || connection.status === "disconnected" ? (
          <button type="button" className="fb-btn fb-btn-small" onClick={reconnect}>
            <Icon name="retry" size={13} /> Reconnect
          </button>
        ) : null}
        <span className="fb-muted" role="status" data-testid="activity">
          {executions ? activity(running) : "Loading executions"}
        </span>
        <span className="fb-spacer" />
        <StartExecution client={client} workflowId={workflow_id} onStarted={show} />
      </header>
      <TileRow tiles={tiles} stale={connection.status !== "connected"} />
      {problem ? (
        <p className="fb-note" data-kind="error" role="alert">
          <Icon name="alert" size={15} /> {problem}
          <button type="button" className="fb-btn fb-btn-small" onClick={reload}>
            Try Again
          </button>
        </p>
      ) : null}
      {executions?.length === 0 && open.length === 0 ? (
        <div className="fb-empty fb-card fb-empty-page">
          <Icon name="play" size={26} />
          <strong>No executions yet</strong>
          <span>What you start appears here, and you watch every step live.</span>
          <span className="fb-empty-actions">
            <StartDemo onStarted={show} />
            {examples_url ? (
              <a className="fb-btn" href={examples_url}>
                Start from an example
              </a>
            ) : null}
          </span>
        </div>
      ) : (
        <div className="fb-monitor-grid">
          <nav className="fb-runs" aria-label="Executions">
            {executions === null ? (
              <Skeleton rows={6} />
            ) : (
              <>
                <RunList title="Running" items={running} {...lists} />
                <RunList title="Recent" items={recent} {...lists} />
              </>
            )}
          </nav>
          <div className="fb-monitor-detail" data-open={open.length}>
            {open.map((id) => (
              <WorkflowExecutionMonitor
                key={id}
                execution={executions?.find((item) => item.id === id) ?? { id }}
                api={api}
                ws={ws}
                executionUrl={execution_url}
                onClose={open.length > 1 ? () => toggle(id) : undefined}
              />
            ))}
            {open.length === 0 ? (
              executions === null ? (
                <Skeleton rows={8} />
              ) : (
                <p className="fb-empty fb-card">Choose an execution on the left to watch it.</p>
              )
            ) : null}
          </div>
        </div>
      )}
    </div>
  );
}

/** Return "2 executions running, 1 waiting or paused": those that are held need no worker. */
function activity(open: readonly ExecutionSummary[]): string {
  const held = open.filter((item) => item.status === "waiting" || item.status === "paused").length;
  const words = [
    open.length > held ? `${count(open.length - held, "execution")} running` : "",
    held ? `${held} waiting or paused` : "",
  ];
  return words.filter(Boolean).join(", ") || "Nothing is running";
}
