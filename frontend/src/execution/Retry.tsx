import { useState } from "react";

import type { Api } from "../api";
import { Icon } from "../icons";
import { pageOf } from "../islands";
import type { RunView } from "../monitor/WorkflowExecutionMonitor";

/** Runs an execution that has ended again: all of it, or what failed and what follows. Leads to the new one. */
export function Retry({ client, view, executionUrl }: { client: Api; view: RunView; executionUrl: string }) {
  const [asked, setAsked] = useState<"all" | "failed" | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  if (!view.over) return null;
  const failed = view.status !== "completed";
  const ask = async (what: "all" | "failed") => {
    setAsked(what);
    setProblem(null);
    try {
      const started = await client.retry(view.id, what === "failed");
      location.assign(pageOf(executionUrl, started.execution_id));
    } catch (error) {
      setProblem((error as Error).message);
      setAsked(null);
    }
  };
  return (
    <>
      {failed ? (
        <button
          type="button"
          className="fb-btn fb-btn-primary"
          disabled={asked !== null}
          title="A new execution that takes over what completed"
          onClick={() => void ask("failed")}
        >
          <Icon name="retry" size={14} /> {asked === "failed" ? "Starting" : "Retry from failure"}
        </button>
      ) : null}
      <button
        type="button"
        className="fb-btn"
        disabled={asked !== null}
        title="A new execution of the same version with the same input"
        onClick={() => void ask("all")}
      >
        <Icon name="retry" size={14} /> {asked === "all" ? "Starting" : "Retry all"}
      </button>
      {problem ? (
        <p className="fb-note fb-wide" data-kind="error" role="alert">
          <Icon name="alert" size={15} /> {problem}
        </p>
      ) : null}
    </>
  );
}
