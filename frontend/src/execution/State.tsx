import { useCallback, useEffect, useRef, useState } from "react";

import type { Api } from "../api";
import type { Moment } from "../contract";
import { clock, count } from "../format";
import { Icon } from "../icons";
import type { RunView } from "../monitor/WorkflowExecutionMonitor";
import { Answer, Empty } from "./Answer";
import { useFresh } from "./useFresh";

/** How long the slider must rest before its event is asked for. */
const REST_MS = 150;
const TITLES = { values: "Values", nodes: "Outputs by step", errors: "Errors", nested: "Nested runs" } as const;
const MARKS = { added: "New", changed: "Changed", removed: "Gone" } as const;

/** The state after any event: a slider over the events, and what each of them changed. */
export function State({ client, view }: { client: Api; view: RunView }) {
  if (view.seq === 0) return <Empty title="No event yet">The state appears with the first event of the run.</Empty>;
  return <Moments client={client} view={view} />;
}

/** The slider and its answer. It begins once it is known how many events there are, so that it asks for the newest at once. */
function Moments({ client, view }: { client: Api; view: RunView }) {
  const [picked, setPicked] = useState<number | null>(null);
  const last = view.seq;
  const seq = picked === null ? last : Math.min(picked, last);
  const newest = useRef(last);
  useEffect(() => {
    newest.current = last;
  }, [last]);
  const rested = useRested(picked);
  const load = useCallback(
    (signal: AbortSignal) => client.state(view.id, rested ?? newest.current, signal),
    [client, view.id, rested],
  );
  const answer = useFresh(load, rested === null ? last : 0);
  return (
    <div className="fb-state">
      <div className="fb-slider">
        <button
          type="button"
          className="fb-btn fb-btn-icon fb-btn-small"
          aria-label="Event before"
          disabled={seq <= 1}
          onClick={() => setPicked(seq - 1)}
        >
          <Icon name="chevron" size={14} className="fb-icon-back" />
        </button>
        <input
          type="range"
          min={1}
          max={last}
          value={seq}
          aria-label="Event"
          aria-valuetext={`Event ${seq} of ${last}`}
          onChange={(event) => setPicked(Number(event.target.value))}
        />
        <button
          type="button"
          className="fb-btn fb-btn-icon fb-btn-small"
          aria-label="Event after"
          disabled={seq >= last}
          onClick={() => setPicked(seq + 1)}
        >
          <Icon name="chevron" size={14} />
        </button>
        <span className="fb-muted" data-testid="event-number">
          {seq.toLocaleString("en")} of {count(last, "event")}
        </span>
        {view.over ? null : (
          <button type="button" className="fb-btn fb-btn-small" aria-pressed={picked === null} onClick={() => setPicked(null)}>
            Newest
          </button>
        )}
      </div>
      <Answer of={answer}>{(moment) => <StateAfter moment={moment} />}</Answer>
    </div>
  );
}

function StateAfter({ moment }: { moment: Moment }) {
  const parts = moment.parts.filter((part) => part.count > 0);
  return (
    <>
      <p className="fb-event" data-testid="event" data-seq={moment.seq}>
        <strong>{moment.event_type.replaceAll("_", " ")}</strong>
        {moment.node_name ? <span>{moment.node_name}</span> : null}
        <span className="fb-muted">{clock(new Date(moment.timestamp * 1000).toISOString())}</span>
      </p>
      {parts.length === 0 ? <p className="fb-muted">Nothing is set after this event.</p> : null}
      {parts.map((part) => (
        <section key={part.name} aria-label={TITLES[part.name]}>
          <h3>
            {TITLES[part.name]} <span>{part.count.toLocaleString("en")}</span>
          </h3>
          <table className="fb-entries">
            <colgroup>
              <col />
              <col />
              <col />
            </colgroup>
            <thead className="fb-sr">
              <tr>
                <th scope="col">Name</th>
                <th scope="col">Change</th>
                <th scope="col">Value</th>
              </tr>
            </thead>
            <tbody>
              {part.entries.map((entry) => (
                <tr key={entry.key} data-key={entry.key} data-change={entry.change || undefined}>
                  <th scope="row" title={entry.key}>
                    {entry.label}
                  </th>
                  <td>{entry.change ? <span className="fb-tag">{MARKS[entry.change]}</span> : null}</td>
                  <td>
                    {entry.was ? <del>{entry.was}</del> : null}
                    {entry.change === "removed" ? null : <span>{entry.text}</span>}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
          {part.count > part.entries.length ? (
            <p className="fb-muted">and {(part.count - part.entries.length).toLocaleString("en")} more that this event did not change</p>
          ) : null}
        </section>
      ))}
    </>
  );
}

/** Return `value` once it has not changed for a moment. */
function useRested<T>(value: T): T {
  const [rested, setRested] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setRested(value), REST_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return rested;
}
