import dagre from "@dagrejs/dagre";

import { linksOf, type StepNode, type TypeIndex, type WireEdge } from "./definition";
import { forward } from "./ports";

export const NODE_WIDTH = 224;
const NODE_HEIGHT = 120;
const GRID = 8;

/** Return the nodes placed left to right in the order of their wires; a loop stands left of its body. */
export function tidy(nodes: readonly StepNode[], edges: readonly WireEdge[], types: TypeIndex): StepNode[] {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 40, ranksep: 76, marginx: 0, marginy: 0 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) {
    graph.setNode(node.id, {
      width: node.measured?.width ?? NODE_WIDTH,
      height: node.measured?.height ?? NODE_HEIGHT,
    });
  }
  const kind = new Map(nodes.map((node) => [node.id, types.get(node.data.type)]));
  const links = linksOf(nodes).map(({ source, target, input }) => ({ source, target, targetHandle: input }));
  for (const wire of forward([...edges, ...links], (id) => kind.get(id))) graph.setEdge(wire.source, wire.target);
  dagre.layout(graph);
  return nodes.map((node) => {
    const place = graph.node(node.id);
    return {
      ...node,
      position: {
        x: snap(place.x - (place.width ?? NODE_WIDTH) / 2),
        y: snap(place.y - (place.height ?? NODE_HEIGHT) / 2),
      },
    };
  });
}

export function snap(value: number): number {
  return Math.round(value / GRID) * GRID;
}
