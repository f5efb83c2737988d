/** Which wires are legal. The same rules as the server's validation, with the reason as a sentence. */

import { EXECUTE_CONDITION, type InputPort, type NodeType, type OutputPort, type PortType } from "../contract";

/** What an input takes besides its own type. */
const COERCIBLE: Partial<Record<PortType, readonly PortType[]>> = {
  STRING: ["JSON", "NUMBER"],
  JSON: ["STRING"],
};

/** A running thing or a control signal: never turned into anything else. */
const EXCLUSIVE: ReadonlySet<PortType> = new Set(["BROWSER_INSTANCE", "CONDITIONAL"]);

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

/** Whether an output may be wired into an input. The server's own list decides where it gives one. */
export function fits(output: OutputPort, input: InputPort): boolean {
  return input.accepts ? input.accepts.includes(output.type) : compatible(output.type, input.type);
}

/** Whether a value of `source` may flow into an input of `target`. */
export function compatible(source: PortType, target: PortType): boolean {
  if (source === target) return true;
  if (EXCLUSIVE.has(source) || EXCLUSIVE.has(target)) return false;
  if (target === "ANY") return true;
  return COERCIBLE[target]?.includes(source) ?? false;
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

/** Whether an input may take several wires. */
function takesMany(input: InputPort): boolean {
  return input.takes_many ?? input.name === EXECUTE_CONDITION;
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
  if (!fits(output, input)) {
    return `${output.name} gives ${TYPE_WORDS[output.type]}, ${input.name} takes ${TYPE_WORDS[input.type]}.`;
  }
  for (const edge of edges) {
    if (edge.target !== wire.target || edge.targetHandle !== input.name) continue;
    if (edge.source === wire.source && edge.sourceHandle === output.name) return "These two are already wired.";
    if (!takesMany(input)) return `${input.name} already has a wire. Remove it first.`;
  }
  if (reaches(edges, wire.target, wire.source)) return "This wire would close a circle.";
  return null;
}
