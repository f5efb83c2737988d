/** Where the wires of a drawn graph run: from port to port, and around the steps that stand in the way. */

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Route {
  /** The line as the `d` of a path. */
  path: string;
  /** The middle of it. */
  x: number;
  y: number;
  /** The height at which it passes the steps between its ends; null where nothing stands in its way. */
  lane: number | null;
}

export interface Point {
  x: number;
  y: number;
}

/** How far a wire runs straight out of a port before it turns. */
const OUT = 24;
/** How far from the steps that it passes. */
const BESIDE = 20;
const ROUND = 14;
/** At so many places a curve is looked at. */
const LOOKS = 24;
/** Farther from the steps is not better. */
const WIDE = 80;
/** A turn within a step is worse than any detour. */
const THROUGH = 100_000;

/**
 * Return the way of a wire from an output at `start` to an input at `end`: a curve, or with right angles below or above
 * the steps where it leads back or the curve would run under one. O(boxes²) at worst.
 */
export function route(start: Point, end: Point, boxes: readonly Box[]): Route {
  const onward = end.x >= start.x;
  if (onward && !boxes.some((box) => curveMeets(start, end, box))) return curve(start, end);
  return around(start, end, laneOf(start, end, boxes));
}

function curve(start: Point, end: Point): Route {
  const bend = bendOf(start, end);
  const path = `M${start.x},${start.y} C${start.x + bend},${start.y} ${end.x - bend},${end.y} ${end.x},${end.y}`;
  return { path, x: (start.x + end.x) / 2, y: (start.y + end.y) / 2, lane: null };
}

function bendOf(start: Point, end: Point): number {
  return Math.max(30, (end.x - start.x) / 2);
}

function around(start: Point, end: Point, lane: number): Route {
  const [right, left] = [start.x + OUT, end.x - OUT];
  const corners = [start, { x: right, y: start.y }, { x: right, y: lane }, { x: left, y: lane }, { x: left, y: end.y }, end];
  return { path: rounded(corners), x: (start.x + end.x) / 2, y: lane, lane };
}

/** Return a line through `points` that turns in arcs, smaller ones where there is no room. */
function rounded(points: readonly Point[]): string {
  const parts = [`M${points[0]!.x},${points[0]!.y}`];
  for (let index = 1; index < points.length - 1; index++) {
    const [before, at, after] = [points[index - 1]!, points[index]!, points[index + 1]!];
    const radius = Math.min(ROUND, distance(before, at) / 2, distance(at, after) / 2);
    const [from, to] = [towards(at, before, radius), towards(at, after, radius)];
    parts.push(`L${from.x},${from.y} Q${at.x},${at.y} ${to.x},${to.y}`);
  }
  const last = points.at(-1)!;
  return [...parts, `L${last.x},${last.y}`].join(" ");
}

function distance(a: Point, b: Point): number {
  return Math.abs(a.x - b.x) + Math.abs(a.y - b.y);
}

/** Return the place `by` away from `from` on the way to `to`, which is straight beside, above or below it. */
function towards(from: Point, to: Point, by: number): Point {
  return { x: from.x + Math.sign(to.x - from.x) * by, y: from.y + Math.sign(to.y - from.y) * by };
}

/** Return the height, near to both ends and far from steps, at which a wire meets no step, on its way there neither. */
function laneOf(start: Point, end: Point, boxes: readonly Box[]): number {
  const [right, left] = [start.x + OUT, end.x - OUT];
  const [from, to] = [Math.min(left, right), Math.max(left, right)];
  const between = boxes.filter((box) => box.x < to && box.x + box.width > from);
  const cost = (y: number) =>
    Math.abs(y - start.y) +
    Math.abs(y - end.y) -
    Math.min(WIDE, ...between.map((box) => Math.max(box.y - y, y - box.y - box.height))) +
    THROUGH * between.filter((box) => meets(box, from, y, to, y)).length +
    THROUGH * boxes.filter((box) => meets(box, right, start.y, right, y) || meets(box, left, end.y, left, y)).length;
  return lanesBeside(between, (start.y + end.y) / 2).reduce((best, y) => (cost(y) < cost(best) ? y : best));
}

/** Return where a wire may pass steps, the lowest first: beside each, half way between the edges of two, and at `middle`. */
function lanesBeside(boxes: readonly Box[], middle: number): number[] {
  const edges = boxes.flatMap((box) => [box.y, box.y + box.height]).sort((a, b) => a - b);
  const halves = edges.slice(1).map((edge, index) => (edge + edges[index]!) / 2);
  const beside = boxes.flatMap((box) => [box.y - BESIDE, box.y + box.height + BESIDE]);
  return [middle, ...halves, ...beside].sort((a, b) => b - a);
}

/** Whether a straight line, level or upright, comes nearer to a box than half of what a wire keeps. */
function meets({ x, y, width, height }: Box, x1: number, y1: number, x2: number, y2: number): boolean {
  const near = BESIDE / 2;
  return (
    Math.max(x1, x2) > x - near / 2 &&
    Math.min(x1, x2) < x + width + near / 2 &&
    Math.max(y1, y2) > y - near &&
    Math.min(y1, y2) < y + height + near
  );
}

function curveMeets(start: Point, end: Point, box: Box): boolean {
  const bend = bendOf(start, end);
  if (box.x >= end.x || box.x + box.width <= start.x) return false;
  for (let look = 1; look < LOOKS; look++) {
    const t = look / LOOKS;
    const x = bezier(t, start.x, start.x + bend, end.x - bend, end.x);
    const y = bezier(t, start.y, start.y, end.y, end.y);
    if (x > box.x && x < box.x + box.width && y > box.y && y < box.y + box.height) return true;
  }
  return false;
}

function bezier(t: number, a: number, b: number, c: number, d: number): number {
  const u = 1 - t;
  return u * u * u * a + 3 * u * u * t * b + 3 * u * t * t * c + t * t * t * d;
}
