import { useCallback, useEffect, useRef, useState } from "react";

/** How long an answer is good while the run goes on. */
export const EVERY_MS = 1500;

export interface Fresh<T> {
  data: T | null;
  problem: string | null;
  again: () => void;
}

/**
 * Return what `load` answers, asked again when `seq` grew, at most every 1.5 s; the newest answer stays until the next
 * one is there. A request that is under way is never given up for newer events, so a busy run starves nobody.
 */
export function useFresh<T>(load: (signal: AbortSignal) => Promise<T>, seq: number): Fresh<T> {
  const [data, setData] = useState<T | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const wanted = useRef<() => void>(() => {});

  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let asked = -Infinity;
    let busy = false;
    let stale = false;
    const go = async () => {
      timer = undefined;
      busy = true;
      asked = performance.now();
      try {
        const answer = await load(abort.signal);
        if (abort.signal.aborted) return;
        setData(answer);
        setProblem(null);
      } catch (error) {
        if (abort.signal.aborted) return;
        setProblem((error as Error).message);
      }
      busy = false;
      if (stale) {
        stale = false;
        wanted.current();
      }
    };
    wanted.current = () => {
      if (busy) stale = true;
      else timer ??= setTimeout(() => void go(), Math.max(0, asked + EVERY_MS - performance.now()));
    };
    void go();
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [load]);

  const first = useRef(seq);
  useEffect(() => {
    if (seq === first.current) return;
    first.current = seq;
    wanted.current();
  }, [seq]);

  return { data, problem, again: useCallback(() => wanted.current(), []) };
}
