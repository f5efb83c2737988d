/** Which wires are legal. The server says what each input takes; here the reason of a refusal becomes a sentence. */

import type { InputPort, NodeType, OutputPort, PortType } from "../contract";

export const TYPE_WORDS: Record<PortType, string> = {
  STRING: "text",
  NUMBER: "a number",
  BOOLEAN: "true or false",
  SELECT: "a choice",
  JSON: "JSON",
  LIST: "a list",
  FILE: "a file",
  CREDENTIAL: "a credential",
  BROWSER_INSTANCE: "a web page",
  CONDITIONAL: "a path",
  ANY: "anything",
};

/** Whether an output may be wired into an input: the server's list of the input says so. */
export function compatible(output: OutputPort, input: InputPort): boolean {
  return input.accepts.includes(output.type);
}

export interface Wire {
  source: string;
  target: string;
  sourceHandle?: string | null;
  targetHandle?: string | null;
}

export interface Graph {
  nodes: readonly { id: string; data: { type: string } }[];
  edges: readonly Wire[];
  types: ReadonlyMap<string, NodeType>;
}

/** Return the handle form of a port name, as the server makes it. */
export function slug(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(" ", "-")
    .replace(/[^a-z0-9_-]/g, "");
}

export function findOutput(type: NodeType | undefined, name: string | null | undefined): OutputPort | undefined {
  return type?.outputs.find((port) => port.name === name || port.slug === name);
}

export function findInput(type: NodeType | undefined, name: string | null | undefined): InputPort | undefined {
  return type?.inputs.find((port) => port.name === name || port.slug === name);
}

/** Whether `to` can be reached from `from` along the wires. Visits each node once. */
export function reaches(edges: readonly Wire[], from: string, to: string): boolean {
  const next = new Map<string, string[]>();
  for (const edge of edges) {
    const targets = next.get(edge.source);
    if (targets) targets.push(edge.target);
    else next.set(edge.source, [edge.target]);
  }
  const seen = new Set<string>([from]);
  const stack = [from];
  while (stack.length > 0) {
    const id = stack.pop()!;
    if (id === to) return true;
    for (const target of next.get(id) ?? []) {
      if (!seen.has(target)) {
        seen.add(target);
        stack.push(target);
      }
    }
  }
  return false;
}

/** Return why the wire is refused, or null when it is legal. */
export function refusal(wire: Wire, { nodes, edges, types }: Graph): string | null {
  if (wire.source === wire.target) return "A step cannot be wired to itself.";
  const source = nodes.find((node) => node.id === wire.source);
  const target = nodes.find((node) => node.id === wire.target);
  const output = findOutput(types.get(source?.data.type ?? ""), wire.sourceHandle);
  const input = findInput(types.get(target?.data.type ?? ""), wire.targetHandle);
  if (!output || !input) return "There is no such port.";
  if (input.handle === false) return `${input.name} is typed in, it takes no wire.`;
  if (!compatible(output, input)) {
    return `${output.name} gives ${TYPE_WORDS[output.type]}, ${input.name} takes ${TYPE_WORDS[input.type]}.`;
  }
  for (const edge of edges) {
    if (edge.target !== wire.target || edge.targetHandle !== input.name) continue;
    if (edge.source === wire.source && edge.sourceHandle === output.name) return "These two are already wired.";
    if (!input.takes_many) return `${input.name} already has a wire. Remove it first.`;
  }
  if (reaches(edges, wire.target, wire.source)) return "This wire would close a circle.";
  return null;
}
