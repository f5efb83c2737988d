import { useCallback, useState } from "react";

import type { Api } from "../api";
import type { Celery, CeleryTask, Chord } from "../contract";
import { count, duration } from "../format";
import { Icon } from "../icons";
import type { RunView } from "../monitor/WorkflowExecutionMonitor";
import { StatusIcon, StatusPill } from "../status";
import { Answer, Empty, Pager } from "./Answer";
import { useFresh } from "./useFresh";

const PAGE = 20;
const WAYS: Record<CeleryTask["way"], { word: string; why: string }> = {
  message: { word: "Message", why: "Sent to a queue and taken by a worker" },
  kept: { word: "Kept", why: "Stayed with the process that opened the phase" },
  at_once: { word: "At once", why: "Ran in the process that opened the phase, before anything was written" },
  taken_over: { word: "Taken over", why: "Completed in the execution that this one is a retry of" },
};

const AGAIN = "A message followed after somebody had taken it: a process died, or the step had to wait";

/** What Celery was given for each phase: the start, header tasks with claim and worker, and the callback of the chord. */
export function Chords({ client, view }: { client: Api; view: RunView }) {
  const [offset, setOffset] = useState(0);
  const load = useCallback((signal: AbortSignal) => client.celery(view.id, offset, PAGE, signal), [client, view.id, offset]);
  return (
    <Answer of={useFresh(load, view.seq)}>
      {(page) => (
        <div className="fb-celery">
          <Start start={page.start} />
          {page.count === 0 ? <Empty title="No phase was opened yet">A worker opens the first one when it takes the start message.</Empty> : null}
          {page.items.map((chord) => (
            <Phase key={chord.index} chord={chord} />
          ))}
          <Pager noun="phases" offset={offset} size={PAGE} count={page.count} onMove={setOffset} />
        </div>
      )}
    </Answer>
  );
}

function Start({ start }: { start: Celery["start"] }) {
  return (
    <p className="fb-start-message">
      <code>{start.task}</code>
      <span className="fb-muted">
        {start.sent_ms === null ? "no message was sent" : `sent after ${time(start.sent_ms)}`}
        {start.sent_again > 0 ? `, sent again ${count(start.sent_again, "time")}` : ""}
        {start.deliveries > 0 ? `, taken ${count(start.deliveries, "time")}` : ""}
      </span>
    </p>
  );
}

function Phase({ chord }: { chord: Chord }) {
  return (
    <section className="fb-phase" aria-label={`Phase ${chord.index + 1}`} data-phase={chord.index}>
      <header>
        <h3>Phase {chord.index + 1}</h3>
        <StatusPill status={chord.status} />
        <span className="fb-tag">{shape(chord)}</span>
        <span className="fb-spacer" />
        <span className="fb-muted">
          {count(chord.node_count, "step")}
          {chord.started_ms !== null && chord.finished_ms !== null ? `, ${time(chord.finished_ms - chord.started_ms)}` : ""}
        </span>
      </header>
      {chord.tasks.length > 0 ? (
        <div className="fb-scroll">
          <table>
            <thead>
              <tr>
                <th scope="col">Header</th>
                <th scope="col">Steps</th>
                <th scope="col">Queue</th>
                <th scope="col">Claim</th>
                <th scope="col">Worker</th>
                <th scope="col">Deliveries</th>
                <th scope="col">Waited</th>
                <th scope="col">Ran</th>
              </tr>
            </thead>
            <tbody>
              {chord.tasks.map((task, index) => (
                <Task key={index} task={task} />
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <p className="fb-muted">Every step was skipped: nothing was sent.</p>
      )}
      {chord.task_count > chord.tasks.length ? (
        <p className="fb-muted">and {count(chord.task_count - chord.tasks.length, "more task")}</p>
      ) : null}
      {chord.callback ? (
        <p className="fb-callback" data-done={chord.callback.done}>
          <Icon name={chord.callback.done ? "check" : "hourglass"} size={14} />
          <span>
            Callback <code>{chord.callback.task}</code> of phase {chord.callback.phase + 1}, queue {chord.callback.queue}:{" "}
            {chord.callback.done ? "the phase is closed" : "waits for the headers"}
          </span>
        </p>
      ) : null}
    </section>
  );
}

function Task({ task }: { task: CeleryTask }) {
  const more = task.node_count - task.nodes.length;
  return (
    <tr data-way={task.way}>
      <td title={task.sent_again ? AGAIN : WAYS[task.way].why}>{task.sent_again ? "Sent again" : WAYS[task.way].word}</td>
      <td>
        <ul>
          {task.nodes.map((node) => (
            <li key={node.node_id} data-status={node.status} title={node.attempt > 1 ? `attempt ${node.attempt}` : undefined}>
              <StatusIcon status={node.status} size={12} /> {node.name}
            </li>
          ))}
          {more > 0 ? <li>and {more} more</li> : null}
        </ul>
      </td>
      <td>{task.queue ?? ""}</td>
      <td>{task.claim ? <code title={task.claim}>{task.claim.slice(0, 8)}</code> : <span className="fb-muted">nobody</span>}</td>
      <td>{task.worker ? (task.worker_name ?? <code title={task.worker}>{task.worker.slice(0, 8)}</code>) : ""}</td>
      <td>
        {task.deliveries}
        {task.attempts > 1 ? <span className="fb-tag">{task.attempts} attempts</span> : null}
      </td>
      <td>{task.sent_ms !== null && task.started_ms !== null ? time(task.started_ms - task.sent_ms) : ""}</td>
      <td>{task.started_ms !== null && task.finished_ms !== null ? time(task.finished_ms - task.started_ms) : ""}</td>
    </tr>
  );
}

/**
 * Return what became of a phase: "chord of 3 messages", "1 message", "no message". What was sent again later, after a
 * process died or a step had waited, is no further message of the chord: "3 headers, 1 sent again".
 */
export function shape(chord: Pick<Chord, "header_count" | "message_count" | "sent_again">): string {
  if (chord.sent_again > 0) return `${count(chord.header_count, "header")}, ${chord.sent_again} sent again`;
  if (chord.message_count > 1) return `chord of ${chord.message_count} messages`;
  return chord.message_count === 1 ? "1 message" : "no message";
}

function time(ms: number): string {
  return duration(Math.max(0, ms));
}
