/** Which wires are legal. The server says what each input takes; here the reason of a refusal becomes a sentence. */

import { ERROR_OUTPUTS, type InputPort, type NodeType, type OutputPort, type PortType, type StepData } from "../contract";

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
  nodes: readonly { id: string; data: { type: string; step?: StepData } }[];
  edges: readonly Wire[];
  types: ReadonlyMap<string, NodeType>;
  /** Which steps read which by template: as good as a wire when it comes to order. */
  links?: readonly Wire[];
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

const withErrors = new WeakMap<NodeType, NodeType>();

/** Return what one step takes and gives: its type, and the error outputs while it hands on its errors. */
export function shapeOf(type: NodeType, step: StepData | undefined): NodeType;
export function shapeOf(type: NodeType | undefined, step: StepData | undefined): NodeType | undefined;
export function shapeOf(type: NodeType | undefined, step: StepData | undefined): NodeType | undefined {
  if (!type || step?.on_error !== "output") return type;
  let shape = withErrors.get(type);
  if (!shape) {
    const own = new Set(type.outputs.map((port) => port.name));
    shape = { ...type, outputs: [...type.outputs, ...ERROR_OUTPUTS.filter((port) => !own.has(port.name))] };
    withErrors.set(type, shape);
  }
  return shape;
}

/** Return what each step takes and gives, by id. */
export function shapes({ nodes, types }: Pick<Graph, "nodes" | "types">): Map<string, NodeType | undefined> {
  return new Map(nodes.map((node) => [node.id, shapeOf(types.get(node.data.type), node.data.step)]));
}

/** Whether a wire leads from the body of a loop back to it. */
export function isBack(wire: Wire, shape: NodeType | undefined): boolean {
  return findInput(shape, wire.targetHandle)?.returns === true;
}

/** Return the wires that say what comes after what: all but those that lead back to a loop. */
export function forward<W extends Wire>(edges: readonly W[], shape: (id: string) => NodeType | undefined): W[] {
  return edges.filter((edge) => !isBack(edge, shape(edge.target)));
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
export function refusal(wire: Wire, { nodes, edges, types, links = [] }: Graph): string | null {
  if (wire.source === wire.target) return "A step cannot be wired to itself.";
  const source = nodes.find((node) => node.id === wire.source);
  const target = nodes.find((node) => node.id === wire.target);
  const output = findOutput(shapeOf(types.get(source?.data.type ?? ""), source?.data.step), wire.sourceHandle);
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
  const kind = new Map(nodes.map((node) => [node.id, types.get(node.data.type)]));
  const onward = forward(edges, (id) => kind.get(id));
  const wired = reaches(onward, wire.target, wire.source);
  const circle = wired || (links.length > 0 && reaches([...onward, ...links], wire.target, wire.source));
  if (input.returns) {
    return circle ? null : `${input.name} takes what comes back from the loop: wire it from a step that the loop leads to.`;
  }
  if (!circle) return null;
  return `This wire would close a circle${wired ? "" : ": a template already reads the other way"}.`;
}
