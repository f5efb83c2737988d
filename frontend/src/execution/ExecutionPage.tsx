import { lazy, Suspense, useMemo, type ReactNode } from "react";

import { Api } from "../api";
import { Skeleton } from "../monitor/ExecutionLogViewer";
import { WorkflowExecutionMonitor, type RunView } from "../monitor/WorkflowExecutionMonitor";
import { Chords } from "./Chords";
import { Files } from "./Files";
import { Raw } from "./Raw";
import { Retry } from "./Retry";
import { State } from "./State";
import { Tabs, type Tab } from "./Tabs";
import { Timeline } from "./Timeline";

export interface ExecutionProps {
  api?: string;
  ws?: string;
  execution_id: string;
  /** Address of an execution's page with `{id}`. */
  execution_url: string;
  /** Address of the list of an execution's child executions with `{id}`. */
  children_url?: string;
}

// The canvas is half of what the page needs; it is loaded when somebody opens it.
const Graph = lazy(() => import("./Graph"));

/** The page of one execution: its live head, and its inside in tabs. */
export function ExecutionPage({ api = "/api/v1", ws = "/ws", execution_id, execution_url, children_url }: ExecutionProps) {
  const client = useMemo(() => new Api(api), [api]);
  return (
    <div className="fb fb-monitor fb-execution">
      <WorkflowExecutionMonitor
        execution={{ id: execution_id }}
        api={api}
        ws={ws}
        actions={(view) => <Retry client={client} view={view} executionUrl={execution_url} />}
      >
        {(view, log) => <Tabs label="Inside this execution" tabs={tabsOf(api, client, view, log, { executionUrl: execution_url, childrenUrl: children_url })} />}
      </WorkflowExecutionMonitor>
    </div>
  );
}

interface Links {
  executionUrl: string;
  childrenUrl: string | undefined;
}

function tabsOf(api: string, client: Api, view: RunView, log: ReactNode, links: Links): Tab[] {
  return [
    { id: "logs", label: "Logs", panel: () => log },
    {
      id: "graph",
      label: "Graph",
      panel: () => (
        <Suspense fallback={<Skeleton rows={6} />}>
          <Graph client={client} view={view} />
        </Suspense>
      ),
    },
    { id: "timeline", label: "Timeline", panel: () => <Timeline client={client} view={view} {...links} /> },
    { id: "state", label: "State", panel: () => <State client={client} view={view} /> },
    { id: "artifacts", label: "Artifacts", panel: () => <Files client={client} view={view} /> },
    { id: "celery", label: "Celery", panel: () => <Chords client={client} view={view} /> },
    { id: "raw", label: "Raw", panel: () => <Raw api={api} client={client} view={view} /> },
  ];
}
