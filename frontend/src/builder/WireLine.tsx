import { BaseEdge, EdgeLabelRenderer, getBezierPath, type EdgeProps } from "@xyflow/react";
import { useMemo } from "react";

import { route } from "../wires";
import { Icon } from "./icons";
import type { StepNode, WireEdge } from "./definition";
import { NODE_WIDTH } from "./layout";
import { useBuilder } from "./store";

const NONE: readonly StepNode[] = [];

/** A wire; while it is selected it carries a button that removes it. One that leads back goes around the steps between. */
export function WireLine(props: EdgeProps<WireEdge>) {
  const { sourceX, sourceY, targetX, targetY } = props;
  const back = targetX < sourceX;
  const nodes = useBuilder((state) => (back ? state.nodes : NONE));
  const around = useMemo(() => {
    if (!back) return null;
    const boxes = nodes.map(({ position, measured }) => ({
      ...position,
      width: measured?.width ?? NODE_WIDTH,
      height: measured?.height ?? 0,
    }));
    return route({ x: sourceX, y: sourceY }, { x: targetX, y: targetY }, boxes);
  }, [back, nodes, sourceX, sourceY, targetX, targetY]);
  const [path, x, y] = around ? [around.path, around.x, around.y] : getBezierPath(props);
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
