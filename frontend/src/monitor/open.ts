/** Which executions the monitor shows side by side. The address keeps it, so that a reload shows the same. */

import { useCallback, useEffect, useState } from "react";

/** How many are shown at once; the oldest goes when one more is opened. */
export const MOST_OPEN = 6;
const ID = /^[0-9a-f-]{36}$/;

/** Return the ids that the fragment of an address names. */
export function idsIn(hash: string): string[] {
  return [...new Set(hash.replace(/^#/, "").split(","))].filter((id) => ID.test(id)).slice(0, MOST_OPEN);
}

/** Return `open` with `id` closed if it was open, else opened at the end. */
export function toggled(open: readonly string[], id: string): string[] {
  return open.includes(id) ? open.filter((other) => other !== id) : [...open, id].slice(-MOST_OPEN);
}

export interface OpenExecutions {
  open: readonly string[];
  /** Show only this one. */
  pick: (id: string) => void;
  toggle: (id: string) => void;
}

/** Return what is shown; `proposed` as long as nobody chose. */
export function useOpenExecutions(proposed: string | undefined): OpenExecutions {
  const [chosen, setChosen] = useState(() => (location.hash ? idsIn(location.hash) : null));
  const [first, setFirst] = useState<string>();
  if (first === undefined && proposed !== undefined) setFirst(proposed);
  const open = chosen ?? (first === undefined ? [] : [first]);

  const choose = useCallback((ids: string[]) => {
    setChosen(ids);
    history.replaceState(history.state, "", `#${ids.join(",")}`);
  }, []);
  useEffect(() => {
    const moved = () => setChosen(idsIn(location.hash));
    window.addEventListener("hashchange", moved);
    return () => window.removeEventListener("hashchange", moved);
  }, []);

  return {
    open,
    pick: (id) => choose([id]),
    toggle: (id) => choose(toggled(open, id)),
  };
}
