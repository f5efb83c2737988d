/** Where the steps of a run stand and which lead to which. */

import dagre from "@dagrejs/dagre";

import type { WorkflowDefinition } from "../contract";
import { templateLinks } from "../references";
import type { Box } from "../wires";

const WIDTH = 216;
const HEIGHT = 68;

export interface Wire {
  source: string;
  target: string;
  /** Not drawn by hand: the target reads the source by template. */
  template: boolean;
}

export type Places = ReadonlyMap<string, { x: number; y: number }>;

/** Return which step leads to which, by wire or else by template; each pair once. */
export function wiresOf({ nodes, edges }: WorkflowDefinition): Wire[] {
  const found = new Map<string, Wire>();
  const add = (source: string, target: string, template: boolean) => {
    const key = `${source}\n${target}`;
    if (!found.has(key)) found.set(key, { source, target, template });
  };
  for (const edge of edges) add(edge.source, edge.target, false);
  for (const link of templateLinks(nodes.map((node) => ({ id: node.id, inputs: node.data?.inputs })))) {
    add(link.source, link.target, true);
  }
  return [...found.values()];
}

/** Return the places that the author gave the steps; where these lie on each other, places by the wires. */
export function arrange({ nodes }: WorkflowDefinition, wires: readonly Wire[]): Places {
  const given = new Map(nodes.flatMap((node) => (node.position ? [[node.id, node.position] as const] : [])));
  const spread = new Set([...given.values()].map(({ x, y }) => `${x},${y}`));
  return spread.size === nodes.length ? given : byWires(nodes, wires);
}

/** Return the places with the size of a step. */
export function boxesOf(places: Places): Box[] {
  return [...places.values()].map((place) => ({ ...place, width: WIDTH, height: HEIGHT }));
}

function byWires(nodes: WorkflowDefinition["nodes"], wires: readonly Wire[]): Places {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 24, ranksep: 64 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) graph.setNode(node.id, { width: WIDTH, height: HEIGHT });
  for (const wire of wires) if (graph.hasNode(wire.source) && graph.hasNode(wire.target)) graph.setEdge(wire.source, wire.target);
  dagre.layout(graph);
  return new Map(nodes.map((node) => [node.id, { x: graph.node(node.id).x - WIDTH / 2, y: graph.node(node.id).y - HEIGHT / 2 }]));
}
