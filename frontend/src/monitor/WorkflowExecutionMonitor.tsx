import { useEffect, useMemo, useState, type ReactNode } from "react";

import { Api, ApiError } from "../api";
import { useServerNow } from "../clock";
import {
  isTerminal,
  type ExecutionDetail,
  type ExecutionSummary,
  type NodeRunSummary,
  type Status,
  type StoredNode,
  type WorkflowDefinition,
} from "../contract";
import { count, dateTime, duration, triggerWord } from "../format";
import { Icon } from "../icons";
import { pageOf } from "../islands";
import { StatusIcon, StatusPill, statusWord } from "../status";
import { ExecutionLogViewer, Skeleton } from "./ExecutionLogViewer";
import { percent, statusOf, total, type RunState } from "./logs";
import { RunGraph } from "./RunGraph";
import { useWebSocketLogs } from "./useWebSocketLogs";
import { Waits } from "./Waits";
import { WatcherNames } from "./WatcherNames";
import { placeOf } from "./waiting";

type Action = "cancel" | "pause" | "resume";

/** How often an execution that waits for others is looked at. */
const LOOK_MS = 3000;
/** How often the progress of what runs is looked at. */
const PERCENT_MS = 500;
/** How many steps are listed beside the log. */
const STEPS_SHOWN = 500;

/** What a page around the monitor knows of the run that it shows. */
export interface RunView {
  id: string;
  status: Status;
  over: boolean;
  detail: ExecutionDetail | null;
  steps: readonly Step[];
  /** The number of the newest event that arrived. */
  seq: number;
}

export interface WorkflowExecutionMonitorProps {
  execution: Pick<ExecutionSummary, "id"> & Partial<ExecutionSummary>;
  api?: string;
  ws?: string;
  /** Address of an execution's page with `{id}`; shown as a link when given. */
  executionUrl?: string;
  /** How many lines are kept in memory; older ones are loaded on demand. */
  bufferSize?: number;
  /** Further buttons of the head. */
  actions?: (view: RunView) => ReactNode;
  /** What is shown below the head; `log` is what is shown without it: graph, steps and log. */
  children?: (view: RunView, log: ReactNode) => ReactNode;
  /** Takes it off the page; a button does so when given. */
  onClose?: () => void;
}

/** One execution, live: status, progress, steps and log. Everything that moves comes from event rows. */
export function WorkflowExecutionMonitor({
  execution,
  api = "/api/v1",
  ws = "/ws",
  executionUrl,
  bufferSize = 100_000,
  actions,
  children,
  onClose,
}: WorkflowExecutionMonitorProps) {
  const client = useMemo(() => new Api(api), [api]);
  const [detail, setDetail] = useState<ExecutionDetail | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [attempt, setAttempt] = useState(0);
  const [unread, setUnread] = useState(false);
  const [showLogs, setShowLogs] = useState(true);
  const [asked, setAsked] = useState<ReadonlySet<Action>>(new Set());
  const live = useWebSocketLogs(execution.id, { api, ws, bufferSize });

  const told = live.ended ? live.serverStatus : (statusOf(live.run) ?? live.serverStatus);
  // What is stored of an execution that has ended holds, while the events of a long one are still on their way.
  const settled = detail && isTerminal(detail.status) ? detail : null;
  const status: Status = settled?.status ?? told ?? detail?.status ?? execution.status ?? "queued";
  const over = isTerminal(status);
  const waits = useMemo(() => waitingNodes(live.run), [live.run]);

  // Names and phases are read once, once more when something waits or goes on, and at the end for what nodes that
  // never started became. Now and then it is looked up while it waits, for how many child executions have ended; after
  // Cancel, because many lines may come before the end; and where a server that was away did not answer.
  useEffect(() => {
    const abort = new AbortController();
    client
      .execution(execution.id, abort.signal)
      .then((body) => {
        setDetail(body);
        setProblem(null);
        setUnread(false);
      })
      .catch((error: Error) => {
        if (error.name === "AbortError") return;
        setProblem(error.message);
        setUnread(!(error instanceof ApiError) || error.status === 0 || error.status >= 500);
      });
    return () => abort.abort();
  }, [client, execution.id, status, waits, attempt]);
  const counts = !over && Boolean(detail?.waiting?.some((wait) => wait.kind === "children"));
  const looks = counts || unread || (!over && asked.has("cancel"));
  useEffect(() => {
    if (!looks) return;
    const timer = setInterval(() => setAttempt((n) => n + 1), LOOK_MS);
    return () => clearInterval(timer);
  }, [looks]);
  useEffect(() => setAsked((before) => new Set([...before].filter((what) => isOpen(what, status)))), [status]);

  const ask = async (what: Action) => {
    setAsked((before) => new Set(before).add(what));
    setProblem(null);
    try {
      await client[what](execution.id);
      setAttempt((n) => n + 1);
    } catch (error) {
      setProblem((error as ApiError).message);
      setAsked((before) => new Set([...before].filter((other) => other !== what)));
    }
  };

  const steps = useMemo(() => stepsOf(detail, live.run, over), [detail, live.run, over]);
  const nodeTotal = Math.max(total(live.run, live.progress ?? detail?.progress ?? execution.progress), 0);
  const arriving = settled !== null && !isTerminal(live.run.status);
  const steady = arriving ? settled.progress : null;
  const far = { run: live.run, total: nodeTotal, expected: detail?.expected_ms, settled: steady?.percent ?? null, over };
  const name = detail?.workflow_name ?? execution.workflow_name;
  const version = detail?.version ?? execution.version;
  const said = live.run.error ?? (over ? (detail?.error ?? null) : null);
  const error = status === said ? null : said; // "cancelled" is no error, and the pill says it
  const errorNode = live.run.errorNode ?? detail?.error_node ?? null;

  const view: RunView = { id: execution.id, status, over, detail, steps, seq: live.logs.at(-1)?.seq ?? 0 };

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
        {onClose ? (
          <button type="button" className="fb-link" onClick={onClose}>
            Close it here
          </button>
        ) : null}
      </div>
    );
  }

  const log = (
    <>
      {detail ? <RunGraph definition={partOf(detail)} steps={steps} over={over} /> : null}
      <div className="fb-run-body" data-logs={showLogs}>
        <section className="fb-steps" aria-label="Steps">
          <h3>Steps</h3>
          {steps.length === 0 ? (
            <Skeleton rows={4} />
          ) : (
            <ol>
              {steps.slice(0, STEPS_SHOWN).map((step) => (
                <li key={step.id} data-node={step.id} data-status={step.status}>
                  <span className="fb-step-icon" data-status={step.status}>
                    <StatusIcon status={step.status} />
                  </span>
                  <span className="fb-step-name" title={`${step.name}: ${step.error ?? step.type}`}>
                    {step.name}
                    {step.attempt > 1 ? <span className="fb-tag">attempt {step.attempt}</span> : null}
                  </span>
                  <span className="fb-step-end">
                    {step.durationMs != null && step.durationMs > 0 ? <span>{duration(step.durationMs)}</span> : null}
                    <span className="fb-word" data-status={step.status}>
                      {stepWord(step, over)}
                    </span>
                  </span>
                </li>
              ))}
              {steps.length > STEPS_SHOWN ? <li className="fb-muted">and {count(steps.length - STEPS_SHOWN, "more step")}</li> : null}
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
            older={live.older}
            onReconnect={live.reconnect}
            onClear={live.clearLogs}
            onRefresh={live.reconnect}
            onLoadOlder={live.loadOlder}
          />
        ) : null}
      </div>
    </>
  );

  return (
    <article className="fb-run" data-status={status} data-testid={`execution-${execution.id}`}>
      <header className="fb-run-head">
        <div className="fb-run-title">
          <h2>{name ?? <span className="fb-ghost">Loading the workflow</span>}</h2>
          {version ? <span className="fb-tag">v{version}</span> : null}
          <StatusPill status={status} live />
          <WatcherNames watchers={live.watchers} />
          <span className="fb-spacer" />
          {executionUrl ? (
            <a className="fb-btn" href={pageOf(executionUrl, execution.id)}>
              <Icon name="external" size={14} /> Open
            </a>
          ) : null}
          {children ? null : (
            <button type="button" className="fb-btn" aria-expanded={showLogs} onClick={() => setShowLogs((on) => !on)}>
              <Icon name="list" size={14} /> {showLogs ? "Hide logs" : "Show logs"}
            </button>
          )}
          {isOpen("pause", status) ? (
            <button type="button" className="fb-btn" disabled={asked.has("pause")} onClick={() => void ask("pause")}>
              <Icon name="pause" size={14} /> {asked.has("pause") ? "Pausing" : "Pause"}
            </button>
          ) : null}
          {isOpen("resume", status) ? (
            <button type="button" className="fb-btn fb-btn-primary" disabled={asked.has("resume")} onClick={() => void ask("resume")}>
              <Icon name="play" size={14} /> {asked.has("resume") ? "Resuming" : "Resume"}
            </button>
          ) : null}
          {isOpen("cancel", status) ? (
            <button type="button" className="fb-btn fb-btn-danger" disabled={asked.has("cancel")} onClick={() => void ask("cancel")}>
              <Icon name="stop" size={14} /> {asked.has("cancel") ? "Cancelling" : "Cancel"}
            </button>
          ) : null}
          {actions?.(view)}
          {onClose ? (
            <button type="button" className="fb-btn fb-btn-icon fb-btn-ghost fb-close" aria-label={`Close ${name ?? "it"} here`} onClick={onClose}>
              <Icon name="close" size={14} />
            </button>
          ) : null}
        </div>
        <ProgressBar label={`Progress of ${name ?? "the execution"}`} status={status} far={far} />
        <dl className="fb-facts">
          <div>
            <dt>Progress</dt>
            <dd data-testid="progress">
              {steady?.done ?? live.run.done} of {count(nodeTotal, "step")}
              {status === "failed" || status === "cancelled" ? null : <Percent far={far} />}
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
        {over ? null : (
          <Waits
            waits={detail?.waiting ?? []}
            status={status}
            onDecide={(nodeId, body) => client.decide(execution.id, nodeId, body).then(() => setAttempt((n) => n + 1))}
          />
        )}
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
      {children ? children(view, log) : log}
    </article>
  );
}

/** Whether an execution can be asked for something: a button that waits for one answer locks no other. */
function isOpen(what: Action, status: Status): boolean {
  if (what === "pause") return status === "running" || status === "waiting";
  return what === "resume" ? status === "paused" : !isTerminal(status);
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
  /** It runs in the turns of a loop, each an execution of its own. */
  turns: boolean;
}

/** Return the word that people read for a step. */
export function stepWord(step: Pick<Step, "status" | "turns"> | undefined, over: boolean): string {
  const status = step?.status ?? "queued";
  if (status !== "queued") return statusWord(status);
  if (step?.turns) return "In each turn";
  return over ? "Not run" : statusWord(status);
}

/** Return the part of the definition that one execution runs: all of it, or the body of a loop. */
export function partOf(detail: ExecutionDetail): WorkflowDefinition {
  if (!detail.scope) return detail.definition;
  const inside = (id: string) => placeOf(id, detail) !== "elsewhere";
  const { nodes, edges } = detail.definition;
  return {
    ...detail.definition,
    nodes: nodes.filter((node) => inside(node.id)),
    edges: edges.filter((edge) => inside(edge.source) && inside(edge.target)),
  };
}

function waitingNodes(run: RunState): string {
  return [...run.nodes].flatMap(([id, node]) => (node.status === "waiting" ? [id] : [])).join();
}

/** Return every node of the workflow in the order of its phases with the status that the events gave it. */
export function stepsOf(detail: ExecutionDetail | null, run: RunState, over: boolean): Step[] {
  const steps = new Map<string, Step>();
  const runs = new Map<string, NodeRunSummary>((detail?.nodes ?? []).map((node) => [node.node_id, node]));
  const known: (StoredNode | { id: string; type: string })[] = [...(detail?.definition?.nodes ?? [])];
  const ids = new Set(known.map((node) => node.id));
  for (const id of run.nodes.keys()) if (!ids.has(id)) known.push({ id, type: "" });
  for (const node of known) {
    const place = placeOf(node.id, detail);
    if (place === "elsewhere" && !run.nodes.has(node.id)) continue;
    const row = runs.get(node.id);
    const event = run.nodes.get(node.id);
    const label = "data" in node ? (node.data as { label?: string } | undefined)?.label : undefined;
    steps.set(node.id, {
      id: node.id,
      name: event?.name || row?.name || label || detail?.node_names[node.id] || node.id,
      type: event?.type || row?.type || node.type,
      status: shownOf(event?.status, row?.status, over),
      phase: row?.phase ?? Number.MAX_SAFE_INTEGER,
      attempt: event?.attempt ?? 1,
      durationMs: event?.durationMs ?? null,
      error: event?.error ?? null,
      turns: place === "turns",
    });
  }
  const started = new Map([...run.nodes.keys()].map((id, index) => [id, index]));
  const order = (step: Step) => started.get(step.id) ?? Number.MAX_SAFE_INTEGER;
  return [...steps.values()].sort((a, b) => a.phase - b.phase || order(a) - order(b));
}

/** Return the status of a step: what events say, but what is stored where it waits, or has ended while they still arrive. */
function shownOf(event: Status | undefined, row: Status | undefined, over: boolean): Status {
  if (event && (!over || isTerminal(event))) return event;
  if (row && (over ? isTerminal(row) : row === "waiting")) return row;
  return event ?? "queued";
}

function LiveDuration({ run, over, fallback }: { run: RunState; over: boolean; fallback: number | null }) {
  const now = useServerNow(run.startedAt != null && run.finishedAt == null && !over, 100);
  if (run.startedAt == null) return <>{fallback == null ? "–" : duration(fallback)}</>;
  const start = new Date(run.startedAt).getTime() - run.queuedMs;
  if (run.finishedAt != null) return <>{duration(new Date(run.finishedAt).getTime() - start)}</>;
  return <>{over && fallback != null ? duration(fallback) : duration(Math.max(0, now - start))}</>;
}

/** What the progress of a run depends on; `settled` is what the server says of one that has ended. */
interface Far {
  run: RunState;
  total: number;
  expected: Readonly<Record<string, number>> | undefined;
  settled: number | null;
  over: boolean;
}

/** Return the percent of a run, as time passes. */
function usePercent({ run, total, expected, settled, over }: Far): number {
  const now = useServerNow(!over, PERCENT_MS);
  return settled ?? percent(run, total, expected, now);
}

function ProgressBar({ label, status, far }: { label: string; status: Status; far: Far }) {
  const done = usePercent(far);
  return (
    <div className="fb-progress" role="progressbar" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={done} data-status={status}>
      <span style={{ width: `${done}%` }} />
    </div>
  );
}

function Percent({ far }: { far: Far }) {
  return <>{`, ${usePercent(far)} %`}</>;
}
