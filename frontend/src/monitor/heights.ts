/** Where the rows of a long list are. Nearly all are as high as usual; only those that are not are remembered. */

import { upperBound } from "./logs";

interface Keyed {
  readonly seq: number;
}

export class Heights {
  private readonly others = new Map<number, number>();
  private rows: readonly Keyed[] = [];
  private stale = true;
  /** Indexes of rows of another height, in order, and by how much those up to each are higher together. */
  private marks: number[] = [];
  private sums: number[] = [];

  /** `usual` is the height of a row in pixels until it was measured. */
  constructor(private readonly usual: number) {}

  /** Take the rows that there are, in the order of their seq. */
  place(rows: readonly Keyed[]): void {
    this.stale ||= rows !== this.rows;
    this.rows = rows;
  }

  /** Remember how high a row is; return whether that is news. */
  measured(seq: number, height: number): boolean {
    const difference = height - this.usual;
    const before = this.others.get(seq) ?? 0;
    if (Math.abs(difference - before) < 0.5) return false;
    if (Math.abs(difference) < 0.5) this.others.delete(seq);
    else this.others.set(seq, difference);
    this.stale = true;
    return true;
  }

  /** Forget what was measured: the list has another width now. */
  forget(): void {
    this.others.clear();
    this.stale = true;
  }

  /** Return how far below the top of the list a row begins. */
  top(index: number): number {
    this.count();
    const marks = below(this.marks, index);
    return index * this.usual + (marks > 0 ? this.sums[marks - 1]! : 0);
  }

  get total(): number {
    return this.top(this.rows.length);
  }

  /** Return the index of the row at `offset` pixels from the top, the first or the last one outside of the list. */
  at(offset: number): number {
    let low = 0;
    let high = Math.max(0, this.rows.length - 1);
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.top(middle) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  private count(): void {
    if (!this.stale) return;
    this.stale = false;
    this.marks = [];
    this.sums = [];
    let sum = 0;
    for (const seq of [...this.others.keys()].sort((a, b) => a - b)) {
      const index = upperBound(this.rows, seq) - 1;
      if (this.rows[index]?.seq !== seq) continue;
      sum += this.others.get(seq)!;
      this.marks.push(index);
      this.sums.push(sum);
    }
  }
}

/** Return how many of the sorted `numbers` are less than `limit`. */
function below(numbers: readonly number[], limit: number): number {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (numbers[middle]! < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}
