/** Between the stored JSON and what the canvas needs. Reading and writing again gives the same JSON. */

import type { Edge, Node } from "@xyflow/react";

import type { NodeType, StepData, StoredEdge, StoredNode, WorkflowDefinition } from "../contract";
import { templateLinks, type TemplateLink } from "../references";
import { findInput, findOutput, shapeOf } from "./ports";

export interface StepNodeData extends Record<string, unknown> {
  /** The node type, e.g. `fill_input`. */
  type: string;
  /** The stored `data`: inputs, label, policy and keys that we do not know. */
  step: StepData;
  /** Stored keys of the node besides id, type, position and data. */
  extra: Record<string, unknown>;
}

export interface WireData extends Record<string, unknown> {
  extra: Record<string, unknown>;
  /** It leads from the body of a loop back to it. Only while it is drawn. */
  returns?: boolean;
}

export type StepNode = Node<StepNodeData, "step">;
export type WireEdge = Edge<WireData>;

export type TypeIndex = ReadonlyMap<string, NodeType>;

export interface Loaded {
  nodes: StepNode[];
  edges: WireEdge[];
  /** Top-level keys besides nodes and edges. */
  rest: Record<string, unknown>;
  /** Some node had no position, so the canvas should be laid out. */
  unplaced: boolean;
}

/** Return which steps read which by template. */
export function linksOf(nodes: readonly StepNode[]): TemplateLink[] {
  return templateLinks(nodes.map((node) => ({ id: node.id, inputs: node.data.step.inputs })));
}

/** What one run is expected to cost: every step once, those that are off not at all. */
export function costOf(nodes: readonly StepNode[], types: TypeIndex): number {
  return nodes.reduce((sum, { data }) => sum + (data.step.disabled ? 0 : (types.get(data.type)?.credits ?? 0)), 0);
}

/** Return the id of a wire. */
export function edgeId(source: string, sourceHandle: string, target: string, targetHandle: string): string {
  return `${source}:${sourceHandle}-${target}:${targetHandle}`;
}

/** Turn a stored definition into nodes and edges of the canvas. Handle slugs become port names. */
export function fromDefinition(definition: WorkflowDefinition | null | undefined, types: TypeIndex): Loaded {
  const { nodes: storedNodes = [], edges: storedEdges = [], ...rest } = definition ?? { nodes: [], edges: [] };
  let unplaced = false;
  const typeOf = new Map<string, NodeType | undefined>();
  const nodes = storedNodes.map((node: StoredNode): StepNode => {
    const { id, type, position, data, ...extra } = node;
    typeOf.set(id, shapeOf(types.get(type), data));
    if (!position) unplaced = true;
    return {
      id,
      type: "step",
      position: { x: position?.x ?? 0, y: position?.y ?? 0 },
      data: { type, step: data ?? {}, extra },
    };
  });
  const taken = new Set<string>();
  const edges = storedEdges.map((edge: StoredEdge): WireEdge => {
    const { id, source, target, sourceHandle, targetHandle, ...extra } = edge;
    const from = findOutput(typeOf.get(source), sourceHandle)?.name ?? sourceHandle;
    const to = findInput(typeOf.get(target), targetHandle)?.name ?? targetHandle;
    let unique = id || edgeId(source, from, target, to);
    while (taken.has(unique)) unique = `${unique}'`;
    taken.add(unique);
    return { id: unique, source, target, sourceHandle: from, targetHandle: to, data: { extra } };
  });
  return { nodes, edges, rest, unplaced };
}

/** Return the JSON that is stored: nothing of the canvas's own state. */
export function toDefinition(
  nodes: readonly StepNode[],
  edges: readonly WireEdge[],
  rest: Record<string, unknown>,
): WorkflowDefinition {
  return {
    ...rest,
    nodes: nodes.map((node) => ({
      id: node.id,
      type: node.data.type,
      position: { x: round(node.position.x), y: round(node.position.y) },
      data: node.data.step,
      ...node.data.extra,
    })),
    edges: edges.map((edge) => ({
      id: edge.id,
      source: edge.source,
      target: edge.target,
      sourceHandle: edge.sourceHandle ?? "",
      targetHandle: edge.targetHandle ?? "",
      ...edge.data?.extra,
    })),
  };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

/** Return a free id like `fill_input_2`. */
export function freshId(type: string, taken: ReadonlySet<string>): string {
  for (let n = 1; ; n++) {
    const id = `${type}_${n}`;
    if (!taken.has(id)) return id;
  }
}

const ID = /^[A-Za-z_][A-Za-z0-9_-]*$/;

/** Return why `id` cannot be the id of a node, or null. */
export function idProblem(id: string, current: string, taken: ReadonlySet<string>): string | null {
  if (id === current) return null;
  if (!id) return "An id is needed.";
  if (!ID.test(id)) return "Letters, digits, _ and - only, beginning with a letter.";
  if (id.length > 100) return "At most 100 characters.";
  if (taken.has(id)) return `The id "${id}" is already used.`;
  return null;
}

/** Return any JSON value with `{{ nodes.<from>… }}` references pointing at `to`. */
export function renameReferences<T>(value: T, from: string, to: string): T {
  if (typeof value === "string") return renameInText(value, from, to) as T;
  if (Array.isArray(value)) {
    const next = value.map((item) => renameReferences(item as unknown, from, to));
    return (next.some((item, index) => item !== value[index]) ? next : value) as T;
  }
  if (value && typeof value === "object") {
    let changed = false;
    const next: Record<string, unknown> = {};
    for (const [key, item] of Object.entries(value)) {
      next[key] = renameReferences(item, from, to);
      if (next[key] !== item) changed = true;
    }
    return (changed ? next : value) as T;
  }
  return value;
}

function renameInText(text: string, from: string, to: string): string {
  if (!text.includes("{{") || !text.includes(from)) return text;
  const name = from.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const dotted = new RegExp(`(\\bnodes\\s*\\.\\s*)${name}(?![\\w-])`, "g");
  const quoted = new RegExp(`(\\bnodes\\s*\\[\\s*)(["'])${name}\\2`, "g");
  return text.replace(/\{\{[\s\S]*?\}\}/g, (part) =>
    part.replace(dotted, (_, head: string) => head + to).replace(quoted, (_, head: string, q: string) => head + q + to + q),
  );
}

/** Return the text that the canvas shows under the label: the value of the essential input. */
export function subtitleOf(type: NodeType | undefined, step: StepData): string {
  if (!type?.subtitle) return "";
  const value = step.inputs?.[type.subtitle];
  return inWords(value);
}

/** Return one line for any input value. */
export function inWords(value: unknown): string {
  if (value == null) return "";
  if (typeof value === "string") return value.replace(/\s+/g, " ").trim();
  if (isCredential(value)) return `credential ${value.field ?? ""}`.trim();
  return JSON.stringify(value);
}

export interface CredentialReference {
  $credential: string;
  field?: string;
}

export function isCredential(value: unknown): value is CredentialReference {
  return typeof value === "object" && value !== null && "$credential" in value;
}

/** Whether a value holds a template. */
export function isTemplate(value: unknown): value is string {
  return typeof value === "string" && value.includes("{{");
}
