import { BaseEdge, EdgeLabelRenderer, getBezierPath, getSmoothStepPath, type EdgeProps } from "@xyflow/react";

import { Icon } from "./icons";
import type { WireEdge } from "./definition";
import { useBuilder } from "./store";

/** A wire; while it is selected it carries a button that removes it. One that leads back turns at right angles. */
export function WireLine(props: EdgeProps<WireEdge>) {
  const back = props.targetX < props.sourceX;
  const [path, x, y] = back ? getSmoothStepPath({ ...props, borderRadius: 14, offset: 24 }) : getBezierPath(props);
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
