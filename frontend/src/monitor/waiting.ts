/** What an execution waits for, in words, and which nodes belong to it. */

import type { ExecutionDetail, Wait } from "../contract";
import { count, hour } from "../format";

/** Return what a wait is for: "Waits for approval", "Waits until 14:05", "Waits for 3 of 10 turns". */
export function waitText(wait: Wait): string {
  const until = hour(wait.until);
  switch (wait.kind) {
    case "approval":
      return `Waits for approval since ${hour(wait.since)}${until ? `, until ${until}` : ""}`;
    case "timer":
      return until ? `Waits until ${until}` : "Waits for its time";
    case "children": {
      const noun = wait.node_type.startsWith("loop_") ? "turn" : "execution";
      if (!wait.total) return `Waits for its ${noun}s`;
      return `Waits for ${wait.total - (wait.done ?? 0)} of ${count(wait.total, noun)}`;
    }
  }
}

/** Where a node of the definition is, seen from one execution: in it, in turns that it starts, or elsewhere. */
export function placeOf(id: string, detail: Pick<ExecutionDetail, "loops" | "scope"> | null): "here" | "turns" | "elsewhere" {
  const scope = detail?.scope || undefined;
  const seen = new Set<string>();
  let around = detail?.loops?.[id];
  if (around === scope) return "here";
  while (around !== undefined && !seen.has(around)) {
    if (around === scope) return "turns";
    seen.add(around);
    around = detail?.loops?.[around];
  }
  return scope === undefined ? "turns" : "elsewhere";
}
