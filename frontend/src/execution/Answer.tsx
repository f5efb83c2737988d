import type { ReactNode } from "react";

import { Icon } from "../icons";
import { Skeleton } from "../monitor/ExecutionLogViewer";
import type { Fresh } from "./useFresh";

/** What an answer shows: itself, its problem with a way out, or a skeleton until it is there. */
export function Answer<T>({ of, children }: { of: Fresh<T>; children: (data: T) => ReactNode }) {
  return (
    <>
      {of.problem ? (
        <p className="fb-note" data-kind="error" role="alert">
          <Icon name="alert" size={15} /> {of.problem}
          <button type="button" className="fb-btn fb-btn-small" onClick={of.again}>
            Try Again
          </button>
        </p>
      ) : null}
      {of.data === null ? of.problem ? null : <Skeleton rows={6} /> : children(of.data)}
    </>
  );
}

/** Nothing is there, why, and when something will be. */
export function Empty({ title, children }: { title: string; children: ReactNode }) {
  return (
    <div className="fb-empty">
      <strong>{title}</strong>
      <span>{children}</span>
    </div>
  );
}

/** Leads through pages of `size`; nothing when there is one only. */
export function Pager({
  noun,
  offset,
  size,
  count,
  onMove,
}: {
  noun: string;
  offset: number;
  size: number;
  count: number;
  onMove: (offset: number) => void;
}) {
  if (count <= size && offset === 0) return null;
  const last = Math.min(offset + size, count);
  return (
    <nav className="fb-pager" aria-label={`Pages of ${noun}`}>
      <span className="fb-muted">
        {(offset + 1).toLocaleString("en")} to {last.toLocaleString("en")} of {count.toLocaleString("en")} {noun}
      </span>
      <button type="button" className="fb-btn fb-btn-small" disabled={offset === 0} onClick={() => onMove(Math.max(0, offset - size))}>
        Previous
      </button>
      <button type="button" className="fb-btn fb-btn-small" disabled={last >= count} onClick={() => onMove(offset + size)}>
        Next
      </button>
    </nav>
  );
}
