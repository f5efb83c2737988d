/** Which steps stand in the body of which loop. */

import type { StepData } from "../contract";
import { findOutput, forward, type Graph, type Wire } from "./ports";

interface Step {
  id: string;
  data: { type: string; step?: StepData };
}

/**
 * Return the loop of every step in a body, by id: all that the outputs of single turns lead to; the innermost loop
 * where bodies stand in one another. O(loops × wires).
 */
export function loopBodies(nodes: readonly Step[], edges: readonly Wire[], types: Graph["types"]): Map<string, string> {
  const kind = new Map(nodes.map((node) => [node.id, types.get(node.data.type)]));
  const onward = new Map<string, Wire[]>();
  for (const wire of forward(edges, (id) => kind.get(id))) {
    const list = onward.get(wire.source);
    if (list) list.push(wire);
    else onward.set(wire.source, [wire]);
  }
  const bodies: [string, ReadonlySet<string>][] = [];
  for (const [id, type] of kind) {
    if (!type?.outputs.some((port) => port.inside)) continue;
    const body = new Set<string>();
    const queue = (onward.get(id) ?? []).filter((wire) => findOutput(type, wire.sourceHandle)?.inside);
    for (let wire = queue.pop(); wire; wire = queue.pop()) {
      if (body.has(wire.target)) continue;
      body.add(wire.target);
      queue.push(...(onward.get(wire.target) ?? []));
    }
    body.delete(id);
    bodies.push([id, body]);
  }
  const found = new Map<string, string>();
  // The larger body first, so that the inner loop has the last word.
  for (const [loop, body] of bodies.sort((a, b) => b[1].size - a[1].size)) for (const id of body) found.set(id, loop);
  return found;
}
