import { BaseEdge, EdgeLabelRenderer, getBezierPath, getSmoothStepPath, type EdgeProps } from "@xyflow/react";

import { Icon } from "./icons";
import type { StepNode, WireEdge } from "./definition";
import { NODE_WIDTH } from "./layout";
import { useBuilder } from "./store";

const ROUND = 14;
const OUT = 26;
/** How far a wire back to a loop runs under the two ports, so that it passes below the cards. */
const UNDER = 96;

/** A wire; while it is selected it carries a button that removes it. One that leads back turns at right angles. */
export function WireLine(props: EdgeProps<WireEdge>) {
  const lower = useBuilder((state) => (props.data?.returns ? lowest(state.nodes, props) : 0));
  const back = props.targetX < props.sourceX;
  const [path, x, y] = props.data?.returns && back
    ? underPath(props, lower)
    : back
      ? getSmoothStepPath({ ...props, borderRadius: ROUND, offset: 24 })
      : getBezierPath(props);
  return (
    <>
      <BaseEdge id={props.id} path={path} interactionWidth={18} />
      {props.selected ? (
        <EdgeLabelRenderer>
          <button
            type="button"
            className="fb-wire-remove nodrag nopan"
            style={{ transform: `translate(-50%, -50%) translate(${x}px, ${y}px)` }}
            title="Remove this wire"
            onClick={() => useBuilder.getState().disconnect([props.id])}
          >
            <Icon name="close" size={12} />
            <span className="fb-sr">
              Remove the wire from {props.source} to {props.target}
            </span>
          </button>
        </EdgeLabelRenderer>
      ) : null}
    </>
  );
}

type Ends = Pick<EdgeProps, "sourceX" | "sourceY" | "targetX" | "targetY">;

/** Return a way from a step back to its loop, below everything between the two, and the middle of it. */
export function underPath({ sourceX, sourceY, targetX, targetY }: Ends, lower: number): [string, number, number] {
  const y = Math.max(sourceY + UNDER / 2, targetY + UNDER / 2, lower + 28);
  const [right, left] = [sourceX + OUT, targetX - OUT];
  const path = [
    `M${sourceX},${sourceY} H${right - ROUND} Q${right},${sourceY} ${right},${sourceY + ROUND}`,
    `V${y - ROUND} Q${right},${y} ${right - ROUND},${y} H${left + ROUND} Q${left},${y} ${left},${y - ROUND}`,
    `V${targetY + ROUND} Q${left},${targetY} ${left + ROUND},${targetY} H${targetX}`,
  ].join(" ");
  return [path, (sourceX + targetX) / 2, y];
}

/** Return the lower edge of the lowest card that stands between the ends of a wire, near their height. */
function lowest(nodes: readonly StepNode[], { sourceX, sourceY, targetX, targetY }: Ends): number {
  const [top, bottom] = [Math.min(sourceY, targetY) - 240, Math.max(sourceY, targetY) + 160];
  let lower = -Infinity;
  for (const { position, measured } of nodes) {
    const right = position.x + (measured?.width ?? NODE_WIDTH);
    const between = right > targetX - OUT && position.x < sourceX + OUT && position.y > top && position.y < bottom;
    if (between) lower = Math.max(lower, position.y + (measured?.height ?? 0));
  }
  return lower;
}
