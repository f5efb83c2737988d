import { useEffect, useMemo, useState } from "react";

import { Api, ApiError } from "../api";
import {
  isTerminal,
  type ExecutionDetail,
  type ExecutionSummary,
  type NodeRunSummary,
  type Status,
  type StoredNode,
} from "../contract";
import { ago, count, dateTime, duration, triggerWord } from "../format";
import { Icon } from "../icons";
import { pageOf } from "../islands";
import { StatusIcon, StatusPill, statusWord } from "../status";
import { ExecutionLogViewer, Skeleton } from "./ExecutionLogViewer";
import { percent, total, type RunState } from "./logs";
import { RunGraph } from "./RunGraph";
import { useWebSocketLogs } from "./useWebSocketLogs";

export interface WorkflowExecutionMonitorProps {
  execution: Pick<ExecutionSummary, "id"> & Partial<ExecutionSummary>;
  api?: string;
  ws?: string;
  /** Address of an execution's page with `{id}`; shown as a link when given. */
  executionUrl?: string;
}

/** One execution, live: status, progress, steps and log. Everything that moves comes from event rows. */
export function WorkflowExecutionMonitor({
  execution,
  api = "/api/v1",
  ws = "/ws",
  executionUrl,
}: WorkflowExecutionMonitorProps) {
  const client = useMemo(() => new Api(api), [api]);
  const [detail, setDetail] = useState<ExecutionDetail | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [attempt, setAttempt] = useState(0);
  const [showLogs, setShowLogs] = useState(true);
  const [cancelling, setCancelling] = useState(false);
  const live = useWebSocketLogs(execution.id, { api, ws, bufferSize: 100_000 });

  const status: Status = live.run.status ?? live.serverStatus ?? detail?.status ?? execution.status ?? "queued";
  const over = isTerminal(status);

  // Names and phases are read once, and once more at the end for what nodes that never started became.
  useEffect(() => {
    const abort = new AbortController();
    client
      .execution(execution.id, abort.signal)
      .then((body) => {
        setDetail(body);
        setProblem(null);
      })
      .catch((error: Error) => {
        if (error.name !== "AbortError") setProblem(error.message);
      });
    return () => abort.abort();
  }, [client, execution.id, over, attempt]);

  const cancel = async () => {
    setCancelling(true);
    try {
      await client.cancel(execution.id);
    } catch (error) {
      setProblem((error as ApiError).message);
      setCancelling(false);
    }
  };

  const steps = useMemo(() => stepsOf(detail, live.run, over), [detail, live.run, over]);
  const nodeTotal = Math.max(total(live.run, live.progress ?? detail?.progress ?? execution.progress), 0);
  const done = percent(live.run, nodeTotal);
  const name = detail?.workflow_name ?? execution.workflow_name;
  const version = detail?.version ?? execution.version;
  const error = live.run.error ?? (over ? (detail?.error ?? null) : null);
  const errorNode = live.run.errorNode ?? detail?.error_node ?? null;

  if (problem && !detail && live.connectionStatus === "error") {
    return (
      <div className="fb-empty fb-card" role="alert">
        <Icon name="alert" size={22} />
        <strong>{problem}</strong>
        <button
          type="button"
          className="fb-btn"
          onClick={() => {
            setAttempt((n) => n + 1);
            live.reconnect();
          }}
        >
          Try Again
        </button>
      </div>
    );
  }

  return (
    <article className="fb-run" data-status={status} data-testid={`execution-${execution.id}`}>
      <header className="fb-run-head">
        <div className="fb-run-title">
          <h2>{name ?? <span className="fb-ghost">Loading the workflow</span>}</h2>
          {version ? <span className="fb-tag">v{version}</span> : null}
          <StatusPill status={status} live />
          <span className="fb-spacer" />
          {executionUrl ? (
            <a className="fb-btn" href={pageOf(executionUrl, execution.id)}>
              <Icon name="external" size={14} /> Open
            </a>
          ) : null}
          <button type="button" className="fb-btn" aria-expanded={showLogs} onClick={() => setShowLogs((on) => !on)}>
            <Icon name="list" size={14} /> {showLogs ? "Hide logs" : "Show logs"}
          </button>
          {over ? null : (
            <button type="button" className="fb-btn fb-btn-danger" disabled={cancelling} onClick={() => void cancel()}>
              <Icon name="stop" size={14} /> {cancelling ? "Cancelling" : "Cancel"}
            </button>
          )}
        </div>
        <div
          className="fb-progress"
          role="progressbar"
          aria-label={`Progress of ${name ?? "the execution"}`}
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={done}
          data-status={status}
        >
          <span style={{ width: `${done}%` }} />
        </div>
        <dl className="fb-facts">
          <div>
            <dt>Progress</dt>
            <dd data-testid="progress">
              {live.run.done} of {count(nodeTotal, "step")}, {done} %
            </dd>
          </div>
          <div>
            <dt>Duration</dt>
            <dd data-testid="duration">
              <LiveDuration run={live.run} over={over} fallback={detail?.duration_ms ?? null} />
            </dd>
          </div>
          <div>
            <dt>Started</dt>
            <dd title={dateTime(live.run.startedAt ?? detail?.started_at)}>
              {dateTime(live.run.startedAt ?? detail?.started_at) || "Not yet"}
            </dd>
          </div>
          {detail ? (
            <>
              <div>
                <dt>Trigger</dt>
                <dd>{triggerWord(detail.trigger)}</dd>
              </div>
              <div>
                <dt>Credits</dt>
                <dd data-testid="credits">{Math.max(detail.credits, live.run.credits)}</dd>
              </div>
            </>
          ) : null}
        </dl>
        {error ? (
          <p className="fb-note" data-kind="error" role="alert">
            <Icon name="alert" size={15} />
            <span>
              {errorNode ? <strong>{steps.find((step) => step.id === errorNode)?.name ?? errorNode}: </strong> : null}
              {error}
            </span>
          </p>
        ) : null}
        {problem && detail ? (
          <p className="fb-note" data-kind="error" role="alert">
            <Icon name="alert" size={15} /> {problem}
          </p>
        ) : null}
      </header>
      {detail ? <RunGraph definition={detail.definition} steps={steps} over={over} /> : null}
      <div className="fb-run-body" data-logs={showLogs}>
        <section className="fb-steps" aria-label="Steps">
          <h3>Steps</h3>
          {steps.length === 0 ? (
            <Skeleton rows={4} />
          ) : (
            <ol>
              {steps.map((step) => (
                <li key={step.id} data-node={step.id} data-status={step.status}>
                  <span className="fb-step-icon" data-status={step.status}>
                    <StatusIcon status={step.status} />
                  </span>
                  <span className="fb-step-name" title={step.error ?? step.type}>
                    {step.name}
                    {step.attempt > 1 ? <span className="fb-tag">attempt {step.attempt}</span> : null}
                  </span>
                  <span className="fb-step-end">
                    {step.durationMs != null && step.durationMs > 0 ? <span>{duration(step.durationMs)}</span> : null}
                    <span className="fb-word" data-status={step.status}>
                      {over && step.status === "queued" ? "Not run" : statusWord(step.status)}
                    </span>
                  </span>
                </li>
              ))}
            </ol>
          )}
        </section>
        {showLogs ? (
          <ExecutionLogViewer
            logs={live.logs}
            connectionStatus={live.connectionStatus}
            ended={live.ended}
            error={live.error}
            loading={live.connectionStatus === "connecting" && live.logs.length === 0}
            dropped={live.dropped}
            onReconnect={live.reconnect}
            onClear={live.clearLogs}
          />
        ) : null}
      </div>
    </article>
  );
}

export interface Step {
  id: string;
  name: string;
  type: string;
  status: Status;
  phase: number;
  attempt: number;
  durationMs: number | null;
  error: string | null;
}

/** Return every node of the workflow in the order of its phases with the status that the events gave it. */
export function stepsOf(detail: ExecutionDetail | null, run: RunState, over: boolean): Step[] {
  const steps = new Map<string, Step>();
  const runs = new Map<string, NodeRunSummary>((detail?.nodes ?? []).map((node) => [node.node_id, node]));
  const known: (StoredNode | { id: string; type: string })[] = [...(detail?.definition?.nodes ?? [])];
  for (const id of run.nodes.keys()) if (!known.some((node) => node.id === id)) known.push({ id, type: "" });
  for (const node of known) {
    const row = runs.get(node.id);
    const event = run.nodes.get(node.id);
    const label = "data" in node ? (node.data as { label?: string } | undefined)?.label : undefined;
    steps.set(node.id, {
      id: node.id,
      name: event?.name || row?.name || label || detail?.node_names[node.id] || node.id,
      type: event?.type || row?.type || node.type,
      status: event?.status ?? (over && row && isTerminal(row.status) ? row.status : "queued"),
      phase: row?.phase ?? Number.MAX_SAFE_INTEGER,
      attempt: event?.attempt ?? 1,
      durationMs: event?.durationMs ?? null,
      error: event?.error ?? null,
    });
  }
  const started = new Map([...run.nodes.keys()].map((id, index) => [id, index]));
  const order = (step: Step) => started.get(step.id) ?? Number.MAX_SAFE_INTEGER;
  return [...steps.values()].sort((a, b) => a.phase - b.phase || order(a) - order(b));
}

function LiveDuration({ run, over, fallback }: { run: RunState; over: boolean; fallback: number | null }) {
  const [now, setNow] = useState(() => Date.now());
  const ticking = run.startedAt != null && run.finishedAt == null && !over;
  useEffect(() => {
    if (!ticking) return;
    const timer = setInterval(() => setNow(Date.now()), 100);
    return () => clearInterval(timer);
  }, [ticking]);
  if (run.startedAt == null) return <>{fallback == null ? "0 ms" : duration(fallback)}</>;
  const start = new Date(run.startedAt).getTime() - run.queuedMs;
  if (run.finishedAt != null) return <>{duration(new Date(run.finishedAt).getTime() - start)}</>;
  return <>{over && fallback != null ? duration(fallback) : duration(Math.max(0, now - start))}</>;
}

/** Return "2 min. ago" and the like, for lists. */
export function when(summary: ExecutionSummary): string {
  return ago(summary.finished_at ?? summary.started_at ?? summary.queued_at);
}
