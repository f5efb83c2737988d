import { useCallback, useEffect, useRef, useState } from "react";

import type { Api } from "../api";
import { isTerminal, type Bar, type Status, type Timeline as Times, type Turn } from "../contract";
import { count, duration } from "../format";
import { pageOf } from "../islands";
import type { RunView } from "../monitor/WorkflowExecutionMonitor";
import { StatusIcon, statusWord } from "../status";
import { Answer, Empty } from "./Answer";
import { ticks } from "./ticks";
import { useFresh } from "./useFresh";

const ROW_PX = 30;
const SHOWN_PX = 540;
/** Rows around the visible ones, so that scrolling meets no gap. */
const MARGIN = 6;
/** Rows are asked for in pages of this many, two at a time: what is visible is always within them. */
const PAGE = 200;
const CHAIN_SHOWN = 12;
const TICK_MS = 250;

interface Links {
  /** Address of an execution's page with `{id}`. */
  executionUrl: string;
  /** Address of the list of an execution's child executions with `{id}`. */
  childrenUrl?: string | undefined;
}

/** When each step was queued and ran, as bars, the chain of steps that took longest, and the turns of loops. */
export function Timeline({ client, view, ...links }: { client: Api; view: RunView } & Links) {
  const [top, setTop] = useState(0);
  const first = Math.floor(top / ROW_PX);
  const offset = Math.floor(first / PAGE) * PAGE;
  const load = useCallback(
    async (signal: AbortSignal) => ({ ...(await client.timeline(view.id, offset, 2 * PAGE, signal)), offset, at: performance.now() }),
    [client, view.id, offset],
  );
  const answer = useFresh(load, view.seq);
  const now = useNow(!view.over);

  return (
    <Answer of={answer}>
      {(data) => {
        if (data.count === 0 && view.over) return <Empty title="No step began">The execution ended before any was queued.</Empty>;
        if (data.count === 0) return <Empty title="No step has begun yet">Each step appears here as soon as it is queued.</Empty>;
        const whole = data.finished_ms ?? data.now_ms + Math.max(0, now - data.at);
        const rows = Array.from(
          { length: Math.max(0, Math.min(data.count, first + Math.ceil(SHOWN_PX / ROW_PX) + MARGIN) - Math.max(0, first - MARGIN)) },
          (_, index) => Math.max(0, first - MARGIN) + index,
        );
        return (
          <div className="fb-timeline">
            <Chain times={data} whole={whole} />
            <div className="fb-times" role="table" aria-label="Timeline of the steps" aria-rowcount={data.count + 1}>
              <div className="fb-times-head" role="row" aria-rowindex={1}>
                <span role="columnheader">Step</span>
                <span role="columnheader" className="fb-axis">
                  <span className="fb-sr">When it ran</span>
                  {ticks(whole).map((at) => (
                    <i key={at} aria-hidden="true" style={{ left: `${(at / whole) * 100}%` }}>
                      {at === 0 ? "0" : duration(at)}
                    </i>
                  ))}
                </span>
                <span role="columnheader">Queued</span>
                <span role="columnheader">Took</span>
              </div>
              <div
                className="fb-times-rows"
                role="rowgroup"
                tabIndex={0}
                aria-label="Steps in the order in which they run"
                style={{ maxHeight: SHOWN_PX }}
                onScroll={(event) => setTop(event.currentTarget.scrollTop)}
              >
                <div role="presentation" style={{ height: data.count * ROW_PX }}>
                  {rows.map((index) => (
                    <Row key={index} index={index} bar={data.items[index - data.offset]} whole={whole} />
                  ))}
                </div>
              </div>
            </div>
            <Turns times={data} whole={whole} listed={links.childrenUrl && pageOf(links.childrenUrl, view.id)} {...links} />
            <p className="fb-legend">
              <span data-kind="queued">Queued: sent to a worker, not taken yet</span>
              <span data-kind="ran">Ran</span>
              <span data-kind="critical">On the critical path</span>
            </p>
          </div>
        );
      }}
    </Answer>
  );
}

/** One step. What is not loaded yet keeps its place. */
function Row({ index, bar, whole }: { index: number; bar: Bar | undefined; whole: number }) {
  const style = { top: index * ROW_PX, height: ROW_PX };
  if (!bar) return <div className="fb-times-row" role="row" aria-rowindex={index + 2} style={style} />;
  const { queued, ran } = spans(bar, whole);
  return (
    <div
      className="fb-times-row"
      role="row"
      aria-rowindex={index + 2}
      data-node={bar.node_id}
      data-status={bar.status}
      data-critical={bar.critical || undefined}
      style={style}
    >
      <span role="cell" className="fb-times-name" title={bar.error ?? `${bar.name} (${bar.type}), phase ${bar.phase + 1}`}>
        <StatusIcon status={bar.status} size={13} />
        <span>{bar.name}</span>
        {bar.attempt > 1 ? <span className="fb-tag">attempt {bar.attempt}</span> : null}
      </span>
      <span role="cell" className="fb-times-bar">
        <span className="fb-sr">
          {statusWord(bar.status)}
          {bar.started_ms == null ? "" : `, began after ${duration(bar.started_ms) || "0 ms"}`}
          {bar.critical ? ", on the critical path" : ""}
        </span>
        {queued ? <i data-kind="queued" style={place(queued, whole)} /> : null}
        {ran ? <i data-kind="ran" style={place(ran, whole)} /> : null}
      </span>
      <span role="cell">{queued ? exact(queued[1] - queued[0]) : ""}</span>
      <span role="cell">{ran ? exact(ran[1] - ran[0]) : bar.status === "skipped" ? "skipped" : ""}</span>
    </div>
  );
}

/** The child executions: turns of loops and subflows, each a bar on the axis of the steps and a link to its page. */
export function Turns({
  times,
  whole,
  executionUrl,
  listed,
}: {
  times: Pick<Times, "turns" | "turn_count" | "turns_ended" | "turns_failed">;
  whole: number;
  listed?: string | undefined;
} & Links) {
  if (times.turn_count === 0) return null;
  return (
    <section className="fb-turns" aria-labelledby="turns" data-testid="turns">
      <h3 id="turns">
        Turns and child executions
        <span className="fb-muted">{turnsText(times)}</span>
        {listed ? <a href={listed}>Show them in the list</a> : null}
      </h3>
      <div className="fb-times">
        <div className="fb-times-rows" role="table" tabIndex={0} aria-label="Timeline of the turns" aria-rowcount={times.turns.length}>
          {times.turns.map((turn) => (
            <TurnRow key={turn.id} turn={turn} whole={whole} url={pageOf(executionUrl, turn.id)} />
          ))}
        </div>
      </div>
    </section>
  );
}

function TurnRow({ turn, whole, url }: { turn: Turn; whole: number; url: string }) {
  const { queued, ran } = spans(turn, whole);
  return (
    <div className="fb-times-row" role="row" data-turn={turn.id} data-status={turn.status}>
      <span role="cell" className="fb-times-name">
        <StatusIcon status={turn.status} size={13} />
        <span title={turn.name}>
          <a href={url}>{turn.what}</a> <span className="fb-muted">{turn.name}</span>
        </span>
      </span>
      <span role="cell" className="fb-times-bar">
        <span className="fb-sr">{statusWord(turn.status)}</span>
        {queued ? <i data-kind="queued" style={place(queued, whole)} /> : null}
        {ran ? <i data-kind="ran" style={place(ran, whole)} /> : null}
      </span>
      <span role="cell">{queued ? exact(queued[1] - queued[0]) : ""}</span>
      <span role="cell">{ran ? exact(ran[1] - ran[0]) : ""}</span>
    </div>
  );
}

/** Return "150 in all, 100 shown, 3 failed, 12 not ended". */
function turnsText(times: Pick<Times, "turns" | "turn_count" | "turns_ended" | "turns_failed">): string {
  const open = times.turn_count - times.turns_ended;
  const number = (value: number) => value.toLocaleString("en");
  return [
    `${number(times.turn_count)} in all`,
    times.turn_count > times.turns.length ? `the first ${number(times.turns.length)} shown` : "",
    times.turns_failed ? `${number(times.turns_failed)} failed` : "",
    open ? `${number(open)} not ended` : "",
  ]
    .filter(Boolean)
    .join(", ");
}

type Span = readonly [number, number];

/** Return from when to when a step was queued, and ran; what goes on lasts until now. */
export function spans(bar: Pick<Bar, "queued_ms" | "started_ms" | "finished_ms"> & { status: Status }, now: number): { queued: Span | null; ran: Span | null } {
  const ended = bar.finished_ms ?? (isTerminal(bar.status) ? null : now);
  const queuedUntil = bar.started_ms ?? ended;
  const queued: Span | null = bar.queued_ms == null || queuedUntil == null ? null : [bar.queued_ms, Math.max(bar.queued_ms, queuedUntil)];
  const ran: Span | null = bar.started_ms == null || ended == null ? null : [bar.started_ms, Math.max(bar.started_ms, ended)];
  return { queued, ran };
}

function place([from, to]: Span, whole: number): { left: string; width: string } {
  return { left: `${(from / whole) * 100}%`, width: `${((to - from) / whole) * 100}%` };
}

/** Return a short time with what matters of it: most steps take less than a millisecond. */
function exact(ms: number): string {
  return ms > 0 && ms < 10 ? `${ms.toFixed(1)} ms` : duration(ms);
}

function Chain({ times, whole }: { times: Times; whole: number }) {
  if (times.critical_count === 0) return null;
  const shown = times.critical.slice(0, CHAIN_SHOWN);
  const more = times.critical_count - shown.length;
  return (
    <div className="fb-chain" data-testid="critical-path">
      <strong>Critical path</strong>
      <span className="fb-muted">
        {count(times.critical_count, "step")}, {exact(times.critical_ms)} of {exact(whole)} ({share(times.critical_ms, whole)} %)
      </span>
      <ol>
        {shown.map((node) => (
          <li key={node.node_id}>
            {node.name} <span>{exact(node.duration_ms)}</span>
          </li>
        ))}
        {more > 0 ? <li>and {count(more, "more step")}</li> : null}
      </ol>
    </div>
  );
}

function share(part: number, whole: number): number {
  return whole > 0 ? Math.min(100, Math.round((part / whole) * 100)) : 0;
}

/** Return a clock that goes while `going`; milliseconds of this page, not of the day. */
function useNow(going: boolean): number {
  const [now, setNow] = useState(() => performance.now());
  const timer = useRef<ReturnType<typeof setInterval>>(undefined);
  useEffect(() => {
    if (!going) return;
    timer.current = setInterval(() => setNow(performance.now()), TICK_MS);
    return () => clearInterval(timer.current);
  }, [going]);
  return now;
}
