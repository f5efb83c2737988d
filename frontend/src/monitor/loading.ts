/** Pauses between attempts, in milliseconds; the last one is repeated. */
const PAUSES_MS = [500, 1_000, 2_000, 5_000, 10_000];

/**
 * Gives what `load` brings to `use`, and tries again for as long as it fails: a server that restarts is back within
 * seconds, and until then the page goes on without it. Returns a function that gives up.
 */
export function keepLoading<Loaded>(load: () => Promise<Loaded>, use: (loaded: Loaded) => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stopped = false;

  const attempt = (failures: number) => {
    load().then(
      (loaded) => {
        if (!stopped) use(loaded);
      },
      () => {
        if (stopped) return;
        timer = setTimeout(() => attempt(failures + 1), PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]);
      },
    );
  };

  attempt(0);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
