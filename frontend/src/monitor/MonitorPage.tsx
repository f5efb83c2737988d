import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import { Api, idempotencyKey } from "../api";
import { isTerminal, type ExecutionSummary, type WorkflowSummary } from "../contract";
import { count, duration, triggerWord } from "../format";
import { Icon } from "../icons";
import { pageOf } from "../islands";
import { StatusPill } from "../status";
import { Skeleton } from "./ExecutionLogViewer";
import { waitText } from "./waiting";
import { when, WorkflowExecutionMonitor } from "./WorkflowExecutionMonitor";

export interface MonitorProps {
  api?: string;
  ws?: string;
  /** null: the list of running and recent executions. */
  execution_id?: string | null;
  execution_url?: string;
  /** Restrict the list to one workflow. */
  workflow_id?: string;
}

const REFRESH_MS = 3000;
const SHOWN = 40;

export function MonitorPage({ api = "/api/v1", ws = "/ws", execution_id, execution_url, workflow_id }: MonitorProps) {
  return (
    <div className="fb fb-monitor">
      {execution_id ? (
        <WorkflowExecutionMonitor execution={{ id: execution_id }} api={api} ws={ws} />
      ) : (
        <Executions api={api} ws={ws} executionUrl={execution_url} workflowId={workflow_id} />
      )}
    </div>
  );
}

function Executions({
  api,
  ws,
  executionUrl,
  workflowId,
}: {
  api: string;
  ws: string;
  executionUrl?: string;
  workflowId?: string;
}) {
  const client = useMemo(() => new Api(api), [api]);
  const [items, setItems] = useState<ExecutionSummary[] | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [selected, setSelected] = useState<string | null>(null);
  const chosen = useRef(false);

  const load = useCallback(
    async (signal?: AbortSignal) => {
      try {
        const query: Record<string, string> = { limit: String(SHOWN) };
        if (workflowId) query.workflow_id = workflowId;
        const page = await client.executions(query, signal);
        setItems(page.items);
        setProblem(null);
        if (!chosen.current) {
          const first = page.items.find((item) => !isTerminal(item.status)) ?? page.items[0];
          if (first) setSelected((before) => before ?? first.id);
        }
      } catch (error) {
        if ((error as Error).name !== "AbortError") setProblem((error as Error).message);
      }
    },
    [client, workflowId],
  );

  useEffect(() => {
    const abort = new AbortController();
    void load(abort.signal);
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") void load(abort.signal);
    }, REFRESH_MS);
    return () => {
      abort.abort();
      clearInterval(timer);
    };
  }, [load]);

  const running = items?.filter((item) => !isTerminal(item.status)) ?? [];
  const recent = items?.filter((item) => isTerminal(item.status)) ?? [];
  const current = items?.find((item) => item.id === selected);

  const pick = (id: string) => {
    chosen.current = true;
    setSelected(id);
  };

  return (
    <>
      <header className="fb-monitor-head">
        <h1>Monitor</h1>
        <span className="fb-muted" role="status">
          {items ? (running.length ? activity(running) : "Nothing is running") : "Loading executions"}
        </span>
        <span className="fb-spacer" />
        <StartExecution
          client={client}
          workflowId={workflowId}
          onStarted={(id) => {
            pick(id);
            void load();
          }}
        />
      </header>
      {problem ? (
        <p className="fb-note" data-kind="error" role="alert">
          <Icon name="alert" size={15} /> {problem}
          <button type="button" className="fb-btn fb-btn-small" onClick={() => void load()}>
            Try Again
          </button>
        </p>
      ) : null}
      {items?.length === 0 ? (
        <div className="fb-empty fb-card fb-empty-page">
          <Icon name="play" size={26} />
          <strong>No executions yet</strong>
          <span>Choose a workflow above and start it. It appears here and you watch every step live.</span>
        </div>
      ) : (
        <div className="fb-monitor-grid">
          <nav className="fb-runs" aria-label="Executions">
            {items === null ? (
              <Skeleton rows={6} />
            ) : (
              <>
                <RunList title="Running" items={running} selected={selected} onPick={pick} url={executionUrl} />
                <RunList title="Recent" items={recent} selected={selected} onPick={pick} url={executionUrl} />
              </>
            )}
          </nav>
          <div className="fb-monitor-detail">
            {selected ? (
              <WorkflowExecutionMonitor
                key={selected}
                execution={current ?? { id: selected }}
                api={api}
                ws={ws}
                executionUrl={executionUrl}
              />
            ) : (
              <Skeleton rows={8} />
            )}
          </div>
        </div>
      )}
    </>
  );
}

function RunList({
  title,
  items,
  selected,
  onPick,
  url,
}: {
  title: string;
  items: ExecutionSummary[];
  selected: string | null;
  onPick: (id: string) => void;
  url?: string;
}) {
  if (items.length === 0) return null;
  return (
    <section>
      <h2>
        {title} <span>{items.length}</span>
      </h2>
      <ul>
        {items.map((item) => (
          <li key={item.id}>
            <button
              type="button"
              className="fb-run-row"
              data-execution={item.id}
              data-status={item.status}
              aria-current={item.id === selected}
              onClick={() => onPick(item.id)}
            >
              <span className="fb-run-row-top">
                <strong>{item.workflow_name}</strong>
                <StatusPill status={item.status} />
              </span>
              <span className="fb-run-row-facts">
                <span>{when(item)}</span>
                <span>{triggerWord(item.trigger)}</span>
                {item.version ? <span>v{item.version}</span> : null}
                <span className="fb-spacer" />
                <span>
                  {isTerminal(item.status) ? duration(item.duration_ms) : `${item.progress.done}/${item.progress.total}`}
                </span>
              </span>
              {item.error ? (
                <span className="fb-run-row-error">
                  {item.error_node ? `${item.error_node_name ?? item.error_node}: ` : ""}
                  {item.error}
                </span>
              ) : null}
              {!isTerminal(item.status) && item.waiting?.[0] ? (
                <span className="fb-run-row-wait">
                  {item.waiting[0].name}: {waitText(item.waiting[0])}
                  {item.waiting.length > 1 ? ` and ${item.waiting.length - 1} more` : ""}
                </span>
              ) : null}
              {isTerminal(item.status) ? null : (
                <span className="fb-progress" data-status={item.status} aria-hidden="true">
                  <span style={{ width: `${share(item)}%` }} />
                </span>
              )}
            </button>
            {url ? (
              <a className="fb-run-row-link" href={pageOf(url, item.id)} aria-label={`Open execution of ${item.workflow_name}`}>
                <Icon name="external" size={13} />
              </a>
            ) : null}
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Return "2 executions running, 1 held": those that wait or are paused need no worker. */
function activity(open: readonly ExecutionSummary[]): string {
  const held = open.filter((item) => item.status === "waiting" || item.status === "paused").length;
  const words = [open.length > held ? `${count(open.length - held, "execution")} running` : "", held ? `${held} waiting or paused` : ""];
  return words.filter(Boolean).join(", ");
}

function share(item: ExecutionSummary): number {
  return item.progress.total > 0 ? Math.floor((item.progress.done / item.progress.total) * 100) : 0;
}

function StartExecution({
  client,
  workflowId,
  onStarted,
}: {
  client: Api;
  workflowId?: string;
  onStarted: (id: string) => void;
}) {
  const [workflows, setWorkflows] = useState<WorkflowSummary[] | null>(null);
  const [choice, setChoice] = useState(workflowId ?? "");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);

  useEffect(() => {
    client.workflows().then(
      (list) => {
        setWorkflows(list);
        setChoice((before) => before || (list.find((item) => item.status === "active") ?? list[0])?.id || "");
      },
      (error: Error) => setProblem(error.message),
    );
  }, [client]);

  const start = async () => {
    setBusy(true);
    setProblem(null);
    try {
      const workflow = workflows?.find((item) => item.id === choice);
      const draft = workflow?.status === "draft";
      const body = await client.start({ workflow_id: choice, trigger: "manual", ...(draft ? { version: "draft" as const } : {}) }, idempotencyKey());
      onStarted(body.execution_id);
    } catch (error) {
      setProblem((error as Error).message);
    } finally {
      setBusy(false);
    }
  };

  return (
    <div className="fb-start">
      {problem ? (
        <span className="fb-start-problem" role="alert">
          {problem}
        </span>
      ) : null}
      <select
        aria-label="Workflow to start"
        value={choice}
        disabled={!workflows?.length}
        onChange={(event) => setChoice(event.target.value)}
      >
        {workflows?.length ? null : <option value="">{workflows ? "No workflows yet" : "Loading"}</option>}
        {workflows?.map((workflow) => (
          <option key={workflow.id} value={workflow.id}>
            {workflow.name}
          </option>
        ))}
      </select>
      <button type="button" className="fb-btn fb-btn-primary" disabled={busy || !choice} onClick={() => void start()}>
        <Icon name="play" size={14} /> {busy ? "Starting" : "Start New Execution"}
      </button>
    </div>
  );
}
