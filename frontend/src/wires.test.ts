import { describe, expect, it } from "vitest";

import { route, type Box, type Point } from "./wires";

const step = (x: number, y: number): Box => ({ x, y, width: 216, height: 68 });
const out = (box: Box): Point => ({ x: box.x + box.width, y: box.y + box.height / 2 });
const into = (box: Box): Point => ({ x: box.x, y: box.y + box.height / 2 });

/** Return the places that a path names; its arcs lie between them. */
function places(path: string): Point[] {
  return [...path.matchAll(/(-?[\d.]+),(-?[\d.]+)/g)].map(([, x, y]) => ({ x: Number(x), y: Number(y) }));
}

/** Return places all along a path of straight lines and curves. */
function along(path: string): Point[] {
  const given = places(path);
  return given.slice(1).flatMap((to, index) => {
    const from = given[index]!;
    return Array.from({ length: 41 }, (_, n) => ({ x: from.x + ((to.x - from.x) * n) / 40, y: from.y + ((to.y - from.y) * n) / 40 }));
  });
}

function within(point: Point, box: Box): boolean {
  return point.x > box.x && point.x < box.x + box.width && point.y > box.y && point.y < box.y + box.height;
}

function crossed(path: string, boxes: readonly Box[]): Box[] {
  return boxes.filter((box) => along(path).some((point) => within(point, box)));
}

describe("a wire", () => {
  it("is a curve where nothing stands in its way", () => {
    const [a, b] = [step(0, 0), step(304, 120)];
    const wire = route(out(a), into(b), [a, b]);
    expect(wire.lane).toBeNull();
    expect(wire.path).toMatch(/^M216,34 C/);
    expect(wire.path).toMatch(/304,154$/);
  });

  it("goes around a step that stands between its ends", () => {
    const boxes = [step(0, 0), step(304, 0), step(608, 0)];
    const wire = route(out(boxes[0]!), into(boxes[2]!), boxes);
    expect(wire.lane).toBe(88);
    expect(crossed(wire.path, boxes)).toEqual([]);
  });

  it("leads back between two rows, past the steps of both", () => {
    const first = [0, 304, 608, 912, 1216].map((x) => step(x, 0));
    const second = [step(0, 420), step(304, 300), step(304, 540), step(608, 420)];
    const boxes = [...first, ...second];
    const wire = route(out(first[4]!), into(second[0]!), boxes);
    expect(crossed(wire.path, boxes)).toEqual([]);
    expect(wire.lane).toBeGreaterThan(68);
    expect(wire.lane).toBeLessThan(300);
  });

  it("leads back below the body of a loop, not through it", () => {
    const [loop, one, two] = [step(0, 0), step(304, 0), step(608, 0)];
    const wire = route(out(two), into(loop), [loop, one, two]);
    expect(wire.lane).toBe(88);
    expect(crossed(wire.path, [loop, one, two])).toEqual([]);
  });

  it("takes the way above where below is much farther", () => {
    const [loop, body] = [step(0, 0), step(304, 0)];
    const below = [step(0, 80), step(304, 80), step(0, 160), step(304, 160), step(0, 240), step(304, 240)];
    const boxes = [loop, body, ...below];
    const wire = route(out(body), into(loop), boxes);
    expect(wire.lane).toBe(-20);
    expect(crossed(wire.path, boxes)).toEqual([]);
  });

  it("leads from a step back into itself", () => {
    const only = step(0, 0);
    expect(crossed(route(out(only), into(only), [only]).path, [only])).toEqual([]);
  });

  it("has round corners also where rows are near to each other", () => {
    const wire = route({ x: 216, y: 34 }, { x: 0, y: 50 }, []);
    expect(wire.lane).toBe(42);
    expect(wire.path).not.toContain("NaN");
    for (const { y } of places(wire.path)) expect(y).toBeGreaterThanOrEqual(34);
    for (const { y } of places(wire.path)) expect(y).toBeLessThanOrEqual(50);
  });
});
