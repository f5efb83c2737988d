import { describe, expect, it } from "vitest";

import { logs } from "../testing/make";
import { Heights } from "./heights";

const list = (from: number, to: number) => {
  const heights = new Heights(10);
  heights.place(logs(from, to));
  return heights;
};

describe("Heights", () => {
  it("are all as usual before anything was measured", () => {
    const heights = list(1, 100_000);
    expect([heights.total, heights.top(0), heights.top(99_999)]).toEqual([1_000_000, 0, 999_990]);
    expect([heights.at(0), heights.at(9), heights.at(10), heights.at(999_999), heights.at(-50), heights.at(9e9)]).toEqual([
      0, 0, 1, 99_999, 0, 99_999,
    ]);
  });

  it("move what is below a row of another height", () => {
    const heights = list(1, 10);
    expect(heights.measured(3, 45)).toBe(true);
    expect(heights.measured(3, 45.2)).toBe(false);
    expect([heights.top(2), heights.top(3), heights.total]).toEqual([20, 65, 135]);
    expect([heights.at(20), heights.at(64), heights.at(65)]).toEqual([2, 2, 3]);
    expect(heights.measured(3, 10)).toBe(true);
    expect(heights.total).toBe(100);
  });

  it("stay with their rows when rows go, come and are left out", () => {
    const heights = list(1, 10);
    heights.measured(3, 30);
    heights.measured(8, 15);
    heights.place(logs(5, 12));
    expect([heights.total, heights.top(4)]).toEqual([85, 45]);
    heights.place(logs(1, 12));
    expect(heights.total).toBe(145);
    heights.place(logs(1, 12).filter((log) => log.seq !== 3));
    expect(heights.total).toBe(115);
    heights.forget();
    expect(heights.total).toBe(110);
  });

  it("agree with adding up one by one", () => {
    let random = 5;
    const next = (n: number) => (random = (random * 1103515245 + 12345) % 2147483648) % n;
    const rows = logs(1, 500).filter(() => next(3) > 0);
    const heights = new Heights(10);
    heights.place(rows);
    const real = new Map<number, number>();
    for (let n = 0; n < 200; n++) {
      const seq = rows[next(rows.length)]!.seq;
      real.set(seq, 1 + next(60));
      heights.measured(seq, real.get(seq)!);
    }
    let top = 0;
    rows.forEach((row, index) => {
      const height = real.get(row.seq) ?? 10;
      expect(heights.top(index)).toBe(top);
      expect(heights.at(top)).toBe(index);
      expect(heights.at(top + height - 0.5)).toBe(index);
      top += height;
    });
    expect(heights.total).toBe(top);
  });

  it("are none without rows", () => {
    expect([list(1, 0).total, list(1, 0).at(50)]).toEqual([0, 0]);
  });
});
