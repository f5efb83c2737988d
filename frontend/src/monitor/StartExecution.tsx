import { useEffect, useState } from "react";

import { Api, idempotencyKey } from "../api";
import type { WorkflowSummary } from "../contract";
import { Icon } from "../icons";

/** A choice of workflows and the button that starts one. */
export function StartExecution({
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

/** Starts the demo, for who has nothing else to look at. */
export function StartDemo({ onStarted }: { onStarted: (id: string) => void }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);

  const start = async () => {
    setBusy(true);
    setProblem(null);
    try {
      onStarted((await new Api("").startDemo()).execution_id);
    } catch (error) {
      setProblem((error as Error).message);
    } finally {
      setBusy(false);
    }
  };

  return (
    <>
      <button type="button" className="fb-btn fb-btn-primary" disabled={busy} onClick={() => void start()}>
        <Icon name="play" size={14} /> {busy ? "Starting" : "Start the Demo"}
      </button>
      {problem ? (
        <span className="fb-start-problem" role="alert">
          {problem}
        </span>
      ) : null}
    </>
  );
}
