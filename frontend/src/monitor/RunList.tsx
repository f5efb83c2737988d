import { isTerminal, type ExecutionSummary } from "../contract";
import { ago, duration, triggerWord } from "../format";
import { Icon } from "../icons";
import { pageOf } from "../islands";
import { StatusPill } from "../status";
import { waitText } from "./waiting";

/** A group of executions; each row opens one, its button sets it beside those that are open. */
export function RunList({
  title,
  items,
  open,
  onPick,
  onToggle,
  url,
}: {
  title: string;
  items: readonly ExecutionSummary[];
  open: readonly string[];
  onPick: (id: string) => void;
  onToggle: (id: string) => void;
  url?: string;
}) {
  if (items.length === 0) return null;
  return (
    <section aria-label={`${title} executions`}>
      <h2>
        {title} <span>{items.length}</span>
      </h2>
      <ul>
        {items.map((item) => (
          <RunRow
            key={item.id}
            item={item}
            shown={open.includes(item.id)}
            alone={open.length === 1 && open[0] === item.id}
            onPick={onPick}
            onToggle={onToggle}
            url={url}
          />
        ))}
      </ul>
    </section>
  );
}

function RunRow({
  item,
  shown,
  alone,
  onPick,
  onToggle,
  url,
}: {
  item: ExecutionSummary;
  shown: boolean;
  alone: boolean;
  onPick: (id: string) => void;
  onToggle: (id: string) => void;
  url?: string;
}) {
  const over = isTerminal(item.status);
  return (
    <li>
      <button
        type="button"
        className="fb-run-row"
        data-execution={item.id}
        data-status={item.status}
        aria-current={shown}
        onClick={() => onPick(item.id)}
      >
        <span className="fb-run-row-top">
          <strong>{item.workflow_name}</strong>
          <StatusPill status={item.status} />
        </span>
        <span className="fb-run-row-facts">
          <span>{ago(item.finished_at ?? item.started_at ?? item.queued_at)}</span>
          <span>{triggerWord(item.trigger)}</span>
          {item.version ? <span>v{item.version}</span> : null}
          <span className="fb-spacer" />
          <span>{over ? duration(item.duration_ms) : `${item.progress.done}/${item.progress.total}`}</span>
        </span>
        {item.error && item.error !== item.status ? (
          <span className="fb-run-row-error">
            {item.error_node ? `${item.error_node_name ?? item.error_node}: ` : ""}
            {item.error}
          </span>
        ) : null}
        {!over && item.waiting?.[0] ? (
          <span className="fb-run-row-wait">
            {item.waiting[0].name}: {waitText(item.waiting[0])}
            {item.waiting.length > 1 ? ` and ${item.waiting.length - 1} more` : ""}
          </span>
        ) : null}
        {over ? null : (
          <span className="fb-progress" data-status={item.status} aria-hidden="true">
            <span style={{ width: `${share(item)}%` }} />
          </span>
        )}
      </button>
      <span className="fb-run-row-tools">
        {alone ? null : (
          <button
            type="button"
            aria-pressed={shown}
            aria-label={`Show ${item.workflow_name} beside the others`}
            title={shown ? "Close it here" : "Show it beside the others"}
            onClick={() => onToggle(item.id)}
          >
            <Icon name={shown ? "close" : "columns"} size={13} />
          </button>
        )}
        {url ? (
          <a href={pageOf(url, item.id)} title="Open its page" aria-label={`Open execution of ${item.workflow_name}`}>
            <Icon name="external" size={13} />
          </a>
        ) : null}
      </span>
    </li>
  );
}

function share(item: ExecutionSummary): number {
  if (item.progress.percent != null) return item.progress.percent;
  return item.progress.total > 0 ? Math.floor((item.progress.done / item.progress.total) * 100) : 0;
}
