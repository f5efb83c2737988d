import { useEffect, useState } from "react";

import type { Api } from "../api";
import { useServerNow } from "../clock";
import { isTerminal, type Status } from "../contract";
import { count, duration } from "../format";
import { Icon } from "./icons";
import { pageOf } from "../islands";
import { ConnectionDot } from "../monitor/ConnectionDot";
import { percent, statusOf, total } from "../monitor/logs";
import { useWebSocketLogs } from "../monitor/useWebSocketLogs";
import { StatusPill } from "../status";
import { useUi } from "./ui";

/** The strip under the canvas while a run is watched: the nodes above it take their colours from here. */
export function RunPanel({
  api,
  apiBase,
  ws,
  executionId,
  executionUrl,
  onClose,
}: {
  api: Api;
  apiBase: string;
  ws: string;
  executionId: string;
  executionUrl: string;
  onClose: () => void;
}) {
  const live = useWebSocketLogs(executionId, { api: apiBase, ws, bufferSize: 500 });
  const setRun = useUi((state) => state.setRun);
  const say = useUi((state) => state.say);
  const status: Status = statusOf(live.run) ?? live.serverStatus ?? "queued";
  const over = isTerminal(status);
  const now = useServerNow(!over, 100);
  const [expected, setExpected] = useState<Readonly<Record<string, number>>>({});

  useEffect(() => setRun(live.run, over), [setRun, live.run, over]);
  useEffect(() => {
    const abort = new AbortController();
    setExpected({});
    api
      .execution(executionId, abort.signal)
      .then((detail) => setExpected(detail.expected_ms ?? {}))
      .catch(() => undefined); // every step weighs the same then
    return () => abort.abort();
  }, [api, executionId]);

  const nodeTotal = total(live.run, live.progress);
  const done = percent(live.run, nodeTotal, expected, now);
  const start = live.run.startedAt ? new Date(live.run.startedAt).getTime() - live.run.queuedMs : null;
  const end = live.run.finishedAt ? new Date(live.run.finishedAt).getTime() : now;
  const last = live.logs.at(-1);
  const nodeName = live.run.errorNode ? live.run.nodes.get(live.run.errorNode)?.name : null;
  const failed = live.run.error ? [nodeName, live.run.error].filter(Boolean).join(": ") : live.error;

  return (
    <section className="fb-runbar" aria-label="Run" data-status={status} data-testid="run-panel" data-execution={executionId}>
      <div className="fb-progress" role="progressbar" aria-label="Progress of the run" aria-valuemin={0} aria-valuemax={100} aria-valuenow={done} data-status={status}>
        <span style={{ width: `${done}%` }} />
      </div>
      <div className="fb-runbar-line">
        <StatusPill status={status} live />
        <span className="fb-runbar-facts">
          {live.run.done} of {count(nodeTotal, "step")}
          {start ? ` · ${duration(Math.max(0, end - start))}` : ""}
        </span>
        <span className="fb-runbar-last" data-kind={failed ? "error" : undefined} title={failed ?? undefined} role="log" aria-label="Newest line">
          {failed ?? last?.message ?? "Waiting for a worker"}
        </span>
        {over ? null : <ConnectionDot status={live.connectionStatus} />}
        {over ? null : (
          <button
            type="button"
            className="fb-btn fb-btn-small"
            onClick={() => api.cancel(executionId).catch((error: Error) => say(error.message, "error"))}
          >
            <Icon name="stop" size={13} /> Cancel
          </button>
        )}
        <a className="fb-btn fb-btn-small" href={pageOf(executionUrl, executionId)}>
          <Icon name="external" size={13} /> Open execution
        </a>
        <button type="button" className="fb-btn fb-btn-small fb-btn-ghost fb-btn-icon" title="Back to editing" onClick={onClose}>
          <Icon name="close" size={14} />
          <span className="fb-sr">Close the run</span>
        </button>
      </div>
    </section>
  );
}
