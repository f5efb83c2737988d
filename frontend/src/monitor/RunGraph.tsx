import { useMemo } from "react";

import { isTerminal, type WorkflowDefinition } from "../contract";
import { statusWord } from "../status";
import type { Step } from "./WorkflowExecutionMonitor";

const WIDTH = 232;
const HEIGHT = 88;
const GAP = 28;

/** The workflow as it stands on the canvas, each step in the colour of its status. */
export function RunGraph({ definition, steps }: { definition: WorkflowDefinition; steps: readonly Step[] }) {
  const places = useMemo(() => {
    const found = new Map<string, { x: number; y: number }>();
    for (const node of definition?.nodes ?? []) {
      if (node.position) found.set(node.id, { x: node.position.x, y: node.position.y });
    }
    return found;
  }, [definition]);
  const spread = new Set([...places.values()].map((place) => `${place.x},${place.y}`)).size;
  if (places.size < 2 || spread < places.size || places.size > 60) return null;

  const xs = [...places.values()].map((place) => place.x);
  const ys = [...places.values()].map((place) => place.y);
  const left = Math.min(...xs) - GAP;
  const top = Math.min(...ys) - GAP;
  const width = Math.max(...xs) + WIDTH + GAP - left;
  const height = Math.max(...ys) + HEIGHT + GAP - top;
  const status = new Map(steps.map((step) => [step.id, step]));

  return (
    <div className="fb-graph">
      <svg viewBox={`${left} ${top} ${width} ${height}`} role="img" aria-label={describe(steps)}>
        {definition.edges.map((edge) => {
          const a = places.get(edge.source);
          const b = places.get(edge.target);
          if (!a || !b) return null;
          const [x1, y1, x2, y2] = [a.x + WIDTH, a.y + HEIGHT / 2, b.x, b.y + HEIGHT / 2];
          const bend = Math.max(30, Math.abs(x2 - x1) / 2);
          const taken = isTerminal(status.get(edge.source)?.status) && status.get(edge.target)?.status !== "skipped";
          return (
            <path
              key={edge.id ?? `${edge.source}:${edge.sourceHandle}-${edge.target}:${edge.targetHandle}`}
              className="fb-graph-edge"
              data-taken={taken || undefined}
              d={`M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`}
            />
          );
        })}
        {[...places].map(([id, place]) => {
          const step = status.get(id);
          const name = step?.name ?? id;
          return (
            <g key={id} className="fb-graph-node" data-status={step?.status ?? "queued"}>
              <title>{`${name}: ${statusWord(step?.status ?? "queued")}`}</title>
              <rect x={place.x} y={place.y} width={WIDTH} height={HEIGHT} rx="14" />
              <text x={place.x + 18} y={place.y + 38}>
                {name.length > 22 ? `${name.slice(0, 21)}…` : name}
              </text>
              <text className="fb-graph-word" x={place.x + 18} y={place.y + 64}>
                {statusWord(step?.status ?? "queued")}
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
