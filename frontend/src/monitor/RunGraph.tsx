import { useEffect, useMemo, useRef } from "react";

import type { WorkflowDefinition } from "../contract";
import { templateLinks } from "../references";
import { statusWord } from "../status";
import { stepWord, type Step } from "./WorkflowExecutionMonitor";

const WIDTH = 224;
const HEIGHT = 88;
const GAP = 28;
const SMALLEST = 0.5;
const LARGEST = 0.66;
const TALLEST = 190;
/** How far below the lowest step a wire back to a loop runs. */
const UNDER = 26;
/** Steps are lower here than the cards of the canvas, so rows move together. */
const ROWS = 0.65;

/** The workflow as it stands on the canvas, each step in the colour of its status. */
export function RunGraph({
  definition,
  steps,
  over,
}: {
  definition: WorkflowDefinition;
  steps: readonly Step[];
  /** The run has ended: what is still pending will never run. */
  over: boolean;
}) {
  const places = useMemo(() => {
    const found = new Map<string, { x: number; y: number }>();
    for (const node of definition?.nodes ?? []) {
      if (node.position) found.set(node.id, { x: node.position.x, y: node.position.y * ROWS });
    }
    return found;
  }, [definition]);
  const box = useRef<HTMLDivElement>(null);
  const current = steps.find((step) => step.status === "running" || step.status === "retrying")?.id;
  useEffect(() => {
    const node = current && box.current?.querySelector(`[data-graph-node="${CSS.escape(current)}"]`);
    if (!node || !box.current) return;
    const frame = box.current.getBoundingClientRect();
    const place = node.getBoundingClientRect();
    box.current.scrollLeft += place.left + place.width / 2 - (frame.left + frame.width / 2);
  }, [current]);
  const wires = useMemo(() => {
    const edges = definition?.edges ?? [];
    const drawn = new Set(edges.map((edge) => `${edge.source}\n${edge.target}`));
    const links = templateLinks((definition?.nodes ?? []).map((node) => ({ id: node.id, inputs: node.data?.inputs })));
    return [
      ...edges.map((edge) => ({ source: edge.source, target: edge.target, template: false })),
      ...links.filter((link) => !drawn.has(`${link.source}\n${link.target}`)).map((link) => ({ ...link, template: true })),
    ];
  }, [definition]);
  const spread = new Set([...places.values()].map((place) => `${place.x},${place.y}`)).size;
  if (places.size < 2 || spread < places.size || places.size > 60) return null;

  const xs = [...places.values()].map((place) => place.x);
  const ys = [...places.values()].map((place) => place.y);
  const left = Math.min(...xs) - GAP;
  const top = Math.min(...ys) - GAP;
  const width = Math.max(...xs) + WIDTH + GAP - left;
  const under = wires.some((wire) => leadsBack(places, wire)) ? UNDER : 0;
  const height = Math.max(...ys) + HEIGHT + GAP + under - top;
  const status = new Map(steps.map((step) => [step.id, step]));

  const scale = Math.max(SMALLEST, Math.min(LARGEST, TALLEST / height));

  return (
    <div className="fb-graph" ref={box} tabIndex={0} role="group" aria-label="Graph of the run">
      <svg
        viewBox={`${left} ${top} ${width} ${height}`}
        width={Math.round(width * scale)}
        height={Math.round(height * scale)}
        role="img"
        aria-label={describe(steps)}
      >
        {wires.map((wire, index) => {
          const a = places.get(wire.source);
          const b = places.get(wire.target);
          if (!a || !b) return null;
          const [x1, y1, x2, y2] = [a.x + WIDTH, a.y + HEIGHT / 2, b.x, b.y + HEIGHT / 2];
          const taken = status.get(wire.source)?.status === "completed" && isTaken(status.get(wire.target)?.status);
          return (
            <path
              key={index}
              className="fb-graph-edge"
              data-taken={taken || undefined}
              data-template={wire.template || undefined}
              d={leadsBack(places, wire) ? underPath(x1, y1, x2, y2, Math.max(...ys) + HEIGHT + UNDER) : wirePath(x1, y1, x2, y2)}
            />
          );
        })}
        {[...places].map(([id, place]) => {
          const step = status.get(id);
          const name = step?.name ?? id;
          const word = stepWord(step, over);
          return (
            <g key={id} className="fb-graph-node" data-graph-node={id} data-status={step?.status ?? "queued"}>
              <title>{`${name}: ${word}`}</title>
              <rect x={place.x} y={place.y} width={WIDTH} height={HEIGHT} rx="14" />
              <foreignObject x={place.x + 18} y={place.y + 18} width={WIDTH - 36} height={26}>
                <div className="fb-graph-name">{name}</div>
              </foreignObject>
              <text className="fb-graph-word" x={place.x + 18} y={place.y + 64}>
                {word}
              </text>
            </g>
          );
        })}
      </svg>
    </div>
  );
}

/** Return the line of a wire: a curve, or with right angles between the rows when it leads back. */
function wirePath(x1: number, y1: number, x2: number, y2: number): string {
  const out = 20;
  const round = 14;
  const down = Math.sign(y2 - y1) * round;
  if (x2 >= x1 || Math.abs(y2 - y1) < 4 * round) {
    const bend = Math.max(30, Math.abs(x2 - x1) / 2);
    return `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
  }
  const [right, left, middle] = [x1 + out, x2 - out, (y1 + y2) / 2];
  return [
    `M${x1},${y1} H${right - round} Q${right},${y1} ${right},${y1 + down} V${middle - down}`,
    `Q${right},${middle} ${right - round},${middle} H${left + round} Q${left},${middle} ${left},${middle + down}`,
    `V${y2 - down} Q${left},${y2} ${left + round},${y2} H${x2}`,
  ].join(" ");
}

type Places = ReadonlyMap<string, { x: number; y: number }>;

/** Whether a wire leads back to a loop beside or above it, where a curve would run through the steps. */
function leadsBack(places: Places, wire: { source: string; target: string }): boolean {
  const a = places.get(wire.source);
  const b = places.get(wire.target);
  return a !== undefined && b !== undefined && b.x < a.x && b.y <= a.y + HEIGHT / 2;
}

function underPath(x1: number, y1: number, x2: number, y2: number, y: number): string {
  const round = 14;
  const [right, left] = [x1 + 20, x2 - 20];
  return [
    `M${x1},${y1} H${right - round} Q${right},${y1} ${right},${y1 + round}`,
    `V${y - round} Q${right},${y} ${right - round},${y} H${left + round} Q${left},${y} ${left},${y - round}`,
    `V${y2 + round} Q${left},${y2} ${left + round},${y2} H${x2}`,
  ].join(" ");
}

function describe(steps: readonly Step[]): string {
  return `Graph of the run: ${steps.map((step) => `${step.name} ${statusWord(step.status)}`).join(", ")}`;
}

function isTaken(status: string | undefined): boolean {
  return status !== undefined && status !== "queued" && status !== "skipped" && status !== "cancelled";
}
