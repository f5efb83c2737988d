import { useEffect, useMemo, useRef } from "react";

import type { WorkflowDefinition } from "../contract";
import { templateLinks } from "../references";
import { statusWord } from "../status";
import { route } from "../wires";
import { stepWord, type Step } from "./WorkflowExecutionMonitor";

const WIDTH = 224;
const HEIGHT = 88;
const GAP = 28;
const SMALLEST = 0.5;
const LARGEST = 0.66;
const TALLEST = 190;
/** Of more steps nothing would be read. */
const MOST = 60;
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
    const all = [
      ...edges.map((edge) => ({ source: edge.source, target: edge.target, template: false })),
      ...links.filter((link) => !drawn.has(`${link.source}\n${link.target}`)).map((link) => ({ ...link, template: true })),
    ];
    const boxes = [...places.values()].map((place) => ({ ...place, width: WIDTH, height: HEIGHT }));
    return all.flatMap((wire) => {
      const [a, b] = [places.get(wire.source), places.get(wire.target)];
      if (!a || !b || places.size > MOST) return [];
      const [start, end] = [{ x: a.x + WIDTH, y: a.y + HEIGHT / 2 }, { x: b.x, y: b.y + HEIGHT / 2 }];
      return [{ ...wire, ...route(start, end, boxes) }];
    });
  }, [definition, places]);
  const spread = new Set([...places.values()].map((place) => `${place.x},${place.y}`)).size;
  if (places.size < 2 || spread < places.size || places.size > MOST) return null;

  const xs = [...places.values()].map((place) => place.x);
  const ys = [...places.values()].map((place) => place.y);
  const left = Math.min(...xs) - GAP;
  const lanes = wires.flatMap((wire) => wire.lane ?? []);
  const top = Math.min(...ys, ...lanes) - GAP;
  const width = Math.max(...xs) + WIDTH + GAP - left;
  const height = Math.max(...ys.map((y) => y + HEIGHT), ...lanes) + GAP - top;
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
          const taken = status.get(wire.source)?.status === "completed" && isTaken(status.get(wire.target)?.status);
          return (
            <path
              key={index}
              className="fb-graph-edge"
              data-taken={taken || undefined}
              data-template={wire.template || undefined}
              d={wire.path}
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

function describe(steps: readonly Step[]): string {
  return `Graph of the run: ${steps.map((step) => `${step.name} ${statusWord(step.status)}`).join(", ")}`;
}

function isTaken(status: string | undefined): boolean {
  return status !== undefined && status !== "queued" && status !== "skipped" && status !== "cancelled";
}
