/** Times at which an axis says what time it is. */

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000];
const MOST = 6;

/** Return round times from 0 to below `whole` milliseconds, at most seven. */
export function ticks(whole: number): number[] {
  const step = STEPS.find((size) => whole / size <= MOST) ?? 3_600_000 * Math.ceil(whole / MOST / 3_600_000);
  const found: number[] = [];
  for (let at = 0; at < whole * 0.97; at += step) found.push(at);
  return found.length > 0 ? found : [0];
}
