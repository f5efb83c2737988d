import { useCallback } from "react";

import { ApiError, type Api } from "../api";
import { bytes, dateTime, duration } from "../format";
import { Icon } from "../icons";
import { stepWord, type RunView } from "../monitor/WorkflowExecutionMonitor";
import { Answer } from "./Answer";
import { useFresh } from "./useFresh";

const SHOWN_CHARACTERS = 20_000;

/** What one step was given and what it gave. */
export function NodeFacts({ client, view, nodeId, onClose }: { client: Api; view: RunView; nodeId: string; onClose: () => void }) {
  const step = view.steps.find((one) => one.id === nodeId);
  const load = useCallback(
    async (signal: AbortSignal) => {
      try {
        return { run: await client.node(view.id, nodeId, signal) };
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return { run: null };
        throw error;
      }
    },
    [client, view.id, nodeId],
  );
  const answer = useFresh(load, view.seq);
  return (
    <aside className="fb-node-facts" aria-label={`Step ${step?.name ?? nodeId}`}>
      <header>
        <strong>{step?.name ?? nodeId}</strong>
        <span className="fb-spacer" />
        <button type="button" className="fb-btn fb-btn-icon fb-btn-small fb-btn-ghost" aria-label="Close" onClick={onClose}>
          <Icon name="close" size={14} />
        </button>
      </header>
      <Answer of={answer}>
        {({ run }) =>
          run === null ? (
            <p className="fb-muted">{stepWord(step, view.over)}: it has not begun.</p>
          ) : (
            <>
              <dl className="fb-facts">
                <Fact name="Status" value={stepWord(step, view.over)} />
                <Fact name="Type" value={run.type} />
                <Fact name="Attempt" value={String(run.attempt)} />
                <Fact name="Took" value={duration(run.duration_ms) || "Not yet"} />
                <Fact name="Began" value={dateTime(run.started_at) || "Not yet"} />
                <Fact name="Credits" value={String(run.credits)} />
                {run.cpu_seconds == null ? null : <Fact name="Processor time" value={duration(run.cpu_seconds * 1000)} />}
                {run.peak_memory_bytes == null ? null : <Fact name="Peak memory" value={bytes(run.peak_memory_bytes)} />}
              </dl>
              {run.error ? (
                <p className="fb-note" data-kind="error">
                  <Icon name="alert" size={15} /> {run.error}
                </p>
              ) : null}
              <Value name="Inputs" value={run.inputs} />
              <Value name="Outputs" value={run.outputs} />
            </>
          )
        }
      </Answer>
    </aside>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Value({ name, value }: { name: string; value: unknown }) {
  const text = value == null ? "" : JSON.stringify(value, null, 2);
  return (
    <section>
      <h3>{name}</h3>
      {text ? (
        <pre tabIndex={0} aria-label={name}>
          {text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text}
        </pre>
      ) : (
        <p className="fb-muted">None</p>
      )}
    </section>
  );
}
