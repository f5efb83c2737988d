/** A status is always an icon, a word and a colour. */

import type { Status } from "./contract";
import { Icon, type IconName } from "./icons";

/** What a node can show: the status of its run, or that the execution ended before it began. */
export type Shown = Status | "not_run";

const LOOK: Record<Shown, { icon: IconName; word: string }> = {
  queued: { icon: "circle", word: "Pending" },
  running: { icon: "spinner", word: "Running" },
  retrying: { icon: "retry", word: "Retrying" },
  waiting: { icon: "hourglass", word: "Waiting" },
  paused: { icon: "pause", word: "Paused" },
  completed: { icon: "check", word: "Completed" },
  completed_with_errors: { icon: "alert", word: "Completed with errors" },
  failed: { icon: "close", word: "Failed" },
  skipped: { icon: "skip", word: "Skipped" },
  cancelled: { icon: "ban", word: "Cancelled" },
  not_run: { icon: "circle", word: "Not run" },
};

/** Return the word that people read for a status. */
export function statusWord(status: string): string {
  return LOOK[status as Shown]?.word ?? status.replaceAll("_", " ");
}

export function StatusIcon({ status, size = 14 }: { status: Shown; size?: number }) {
  return <Icon name={LOOK[status]?.icon ?? "circle"} size={size} className={status === "running" ? "fb-spin" : ""} />;
}

export function StatusPill({ status, live = false }: { status: Status; live?: boolean }) {
  return (
    <span className="fb-pill" data-status={status} role={live ? "status" : undefined}>
      <StatusIcon status={status} />
      <span>{statusWord(status)}</span>
    </span>
  );
}
