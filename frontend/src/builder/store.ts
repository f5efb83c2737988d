/** What is on the canvas, with undo. The only place where nodes and edges change. */

import { applyEdgeChanges, applyNodeChanges, type Connection, type EdgeChange, type NodeChange } from "@xyflow/react";
import { temporal } from "zundo";
import { create, useStore as useZustand } from "zustand";

import type { Finding, NodeType, StepData, Workflow, WorkflowDefinition } from "../contract";
import type { TemplateLink } from "../references";
import {
  edgeId,
  freshId,
  fromDefinition,
  linksOf,
  renameReferences,
  toDefinition,
  type StepNode,
  type TypeIndex,
  type WireEdge,
} from "./definition";
import { NODE_WIDTH, snap, tidy } from "./layout";
import { loopBodies } from "./loops";
import { findInput, refusal, type Wire } from "./ports";

export interface Doc {
  nodes: StepNode[];
  edges: WireEdge[];
}

export interface BuilderState extends Doc {
  types: TypeIndex;
  rest: Record<string, unknown>;
  name: string;
  savedName: string;
  /** The newest version that we know, which saving is based on. */
  version: number;
  /** The ETag of what saving is based on, which a name that somebody else gives it changes; null when it is not known. */
  etag: string | null;
  activeVersion: number | null;
  status: string;
  /** The canvas as it was loaded or saved last. */
  saved: Doc;
  findings: Finding[];

  load: (workflow: Workflow & { etag?: string | null }, types: readonly NodeType[]) => { unplaced: boolean };
  markSaved: (version: number, findings: Finding[], snapshot: Doc, name: string, etag?: string | null) => void;
  changeNodes: (changes: NodeChange<StepNode>[]) => void;
  changeEdges: (changes: EdgeChange<WireEdge>[]) => void;
  addNode: (type: string, position?: { x: number; y: number }) => string;
  connect: (wire: Connection) => string | null;
  disconnect: (ids: readonly string[]) => void;
  setStep: (id: string, change: (step: StepData) => StepData, field: string) => void;
  setInput: (id: string, name: string, value: unknown) => void;
  renameNode: (id: string, next: string) => void;
  remove: (ids: ReadonlySet<string>) => void;
  insert: (clip: Clip, offset: { x: number; y: number }) => void;
  select: (ids: readonly string[]) => void;
  layout: () => void;
}

export interface Clip {
  nodes: StepNode[];
  edges: WireEdge[];
}

/** Changes with the same key in quick succession are one undo step: a drag, a word typed into a field. */
let gesture = "";
let lastGesture = "";
let lastTime = 0;
let dragNumber = 0;
const TYPING_MS = 1200;

function as(key: string): void {
  gesture = key;
}

export function beginDrag(): void {
  dragNumber++;
}

function strip({ nodes, edges }: Doc): Doc {
  return { nodes, edges };
}

/** Whether two canvases hold the same workflow. Compares by identity of data, so it costs O(n). */
export function sameDoc(a: Doc, b: Doc): boolean {
  if (a === b) return true;
  if (a.nodes.length !== b.nodes.length || a.edges.length !== b.edges.length) return false;
  return (
    a.nodes.every((node, index) => {
      const other = b.nodes[index]!;
      return (
        node === other ||
        (node.id === other.id &&
          node.data === other.data &&
          node.position.x === other.position.x &&
          node.position.y === other.position.y)
      );
    }) &&
    a.edges.every((edge, index) => {
      const other = b.edges[index]!;
      return (
        edge === other ||
        (edge.id === other.id &&
          edge.source === other.source &&
          edge.target === other.target &&
          edge.sourceHandle === other.sourceHandle &&
          edge.targetHandle === other.targetHandle)
      );
    })
  );
}

export const useBuilder = create<BuilderState>()(
  temporal(
    (set, get) => ({
      nodes: [],
      edges: [],
      types: new Map(),
      rest: {},
      name: "",
      savedName: "",
      version: 0,
      etag: null,
      activeVersion: null,
      status: "draft",
      saved: { nodes: [], edges: [] },
      findings: [],

      load(workflow, list) {
        const types = new Map(list.map((type) => [type.type, type]));
        const loaded = fromDefinition(workflow.definition, types);
        set({
          types,
          nodes: loaded.nodes,
          edges: loaded.edges,
          rest: loaded.rest,
          name: workflow.name,
          savedName: workflow.name,
          version: workflow.version,
          etag: workflow.etag ?? null,
          activeVersion: workflow.active_version,
          status: workflow.status,
          saved: { nodes: loaded.nodes, edges: loaded.edges },
          findings: [],
        });
        useBuilder.temporal.getState().clear();
        lastGesture = "";
        return { unplaced: loaded.unplaced };
      },

      markSaved(version, findings, snapshot, name, etag = null) {
        set({ version, findings, saved: snapshot, savedName: name, etag });
      },

      changeNodes(changes) {
        const dragging = changes.some((change) => change.type === "position");
        if (dragging) {
          const pressed = changes.some((change) => change.type === "position" && change.dragging);
          as(pressed || lastGesture === `drag:${dragNumber}` ? `drag:${dragNumber}` : "nudge");
        }
        const removed = new Set(changes.flatMap((change) => (change.type === "remove" ? [change.id] : [])));
        if (removed.size > 0) {
          get().remove(removed);
          const others = changes.filter((change) => change.type !== "remove");
          if (others.length > 0) set((state) => ({ nodes: applyNodeChanges(others, state.nodes) }));
          return;
        }
        set((state) => ({ nodes: applyNodeChanges(changes, state.nodes) }));
      },

      changeEdges(changes) {
        as("edges");
        set((state) => {
          const edges = applyEdgeChanges(changes, state.edges);
          return edges.length === state.edges.length && edges.every((edge, i) => edge === state.edges[i]) ? {} : { edges };
        });
      },

      addNode(type, position) {
        const { nodes } = get();
        const id = freshId(type, new Set(nodes.map((node) => node.id)));
        const place = freeSpot(nodes, position ?? besideSelection(nodes));
        const node: StepNode = {
          id,
          type: "step",
          position: place,
          data: { type, step: { inputs: {} }, extra: {} },
          selected: true,
        };
        as(`add:${id}:${performance.now()}`);
        set({ nodes: [...deselected(nodes), node] });
        return id;
      },

      connect(wire) {
        const state = get();
        const problem = wireProblem(wire, state);
        if (problem) return problem;
        const { source, target } = wire;
        const targetType = state.types.get(state.nodes.find((node) => node.id === target)?.data.type ?? "");
        const sourceHandle = wire.sourceHandle!;
        const targetHandle = findInput(targetType, wire.targetHandle)?.name ?? wire.targetHandle!;
        const edge: WireEdge = {
          id: edgeId(source, sourceHandle, target, targetHandle),
          source,
          target,
          sourceHandle,
          targetHandle,
          data: { extra: {} },
        };
        as(`connect:${edge.id}:${performance.now()}`);
        // A wired input takes its value from the wire: what was typed in there is cleared.
        const nodes = state.nodes.map((node) => {
          if (node.id !== target || !node.data.step.inputs || !(targetHandle in node.data.step.inputs)) return node;
          const { [targetHandle]: _, ...inputs } = node.data.step.inputs;
          return { ...node, data: { ...node.data, step: { ...node.data.step, inputs } } };
        });
        set({ nodes, edges: [...state.edges, edge] });
        return null;
      },

      disconnect(ids) {
        const gone = new Set(ids);
        as(`disconnect:${performance.now()}`);
        set((state) => ({ edges: state.edges.filter((edge) => !gone.has(edge.id)) }));
      },

      setStep(id, change, field) {
        as(`type:${id}:${field}`);
        set((state) => ({
          nodes: state.nodes.map((node) =>
            node.id === id ? { ...node, data: { ...node.data, step: change(node.data.step) } } : node,
          ),
        }));
      },

      setInput(id, name, value) {
        get().setStep(
          id,
          (step) => {
            const { [name]: _, ...others } = step.inputs ?? {};
            return { ...step, inputs: value === undefined ? others : { ...step.inputs, [name]: value } };
          },
          `input:${name}`,
        );
      },

      renameNode(id, next) {
        as(`rename:${performance.now()}`);
        set((state) => ({
          nodes: state.nodes.map((node) => {
            const step = renameReferences(node.data.step, id, next);
            const data = step === node.data.step ? node.data : { ...node.data, step };
            return node.id === id ? { ...node, id: next, data } : data === node.data ? node : { ...node, data };
          }),
          edges: state.edges.map((edge) => {
            if (edge.source !== id && edge.target !== id) return edge;
            const source = edge.source === id ? next : edge.source;
            const target = edge.target === id ? next : edge.target;
            const automatic = edgeId(edge.source, edge.sourceHandle ?? "", edge.target, edge.targetHandle ?? "");
            const own = edge.id === automatic ? edgeId(source, edge.sourceHandle ?? "", target, edge.targetHandle ?? "") : edge.id;
            return { ...edge, id: own, source, target };
          }),
          findings: state.findings.map((finding) => (finding.node_id === id ? { ...finding, node_id: next } : finding)),
        }));
      },

      remove(ids) {
        as(`remove:${performance.now()}`);
        set((state) => ({
          nodes: state.nodes.filter((node) => !ids.has(node.id)),
          edges: state.edges.filter((edge) => !ids.has(edge.source) && !ids.has(edge.target) && !ids.has(edge.id)),
        }));
      },

      insert(clip, offset) {
        const state = get();
        const taken = new Set(state.nodes.map((node) => node.id));
        const names = new Map<string, string>();
        for (const node of clip.nodes) {
          const id = freshId(node.data.type, taken);
          taken.add(id);
          names.set(node.id, id);
        }
        const nodes = clip.nodes.map((node): StepNode => {
          let step = structuredClone(node.data.step);
          // Two passes, so that a copied id that equals a new one is not renamed twice.
          for (const from of names.keys()) step = renameReferences(step, from, `__copied__${from}`);
          for (const [from, to] of names) step = renameReferences(step, `__copied__${from}`, to);
          return {
            id: names.get(node.id)!,
            type: "step",
            position: { x: snap(node.position.x + offset.x), y: snap(node.position.y + offset.y) },
            data: { type: node.data.type, step, extra: structuredClone(node.data.extra) },
            selected: true,
          };
        });
        const edges = clip.edges.flatMap((edge): WireEdge[] => {
          const source = names.get(edge.source);
          const target = names.get(edge.target);
          if (!source || !target) return [];
          const [from, to] = [edge.sourceHandle ?? "", edge.targetHandle ?? ""];
          return [{ id: edgeId(source, from, target, to), source, target, sourceHandle: from, targetHandle: to, data: { extra: {} } }];
        });
        as(`insert:${performance.now()}`);
        set({ nodes: [...deselected(state.nodes), ...nodes], edges: [...state.edges, ...edges] });
      },

      select(ids) {
        const wanted = new Set(ids);
        set((state) => ({
          nodes: state.nodes.map((node) =>
            Boolean(node.selected) === wanted.has(node.id) ? node : { ...node, selected: wanted.has(node.id) },
          ),
          edges: state.edges.map((edge) => (edge.selected ? { ...edge, selected: false } : edge)),
        }));
      },

      layout() {
        as(`layout:${performance.now()}`);
        set((state) => ({ nodes: tidy(state.nodes, state.edges, state.types) }));
      },
    }),
    {
      partialize: (state): Doc => strip(state),
      equality: sameDoc,
      limit: 200,
      handleSet: (push) => (...step) => {
        const now = performance.now();
        const endless = gesture.startsWith("drag:");
        const same = gesture !== "" && gesture === lastGesture && (endless || now - lastTime < TYPING_MS);
        lastGesture = gesture;
        lastTime = now;
        gesture = "";
        // zundo passes past, replace, present and delta; its type names only the first two.
        if (!same) push(...(step as unknown as Parameters<typeof push>));
      },
    },
  ),
);

/** Return why a wire is refused, or null: the rules of the ports, and no circle through a template either. */
export function wireProblem(wire: Wire, state: Doc & { types: TypeIndex }): string | null {
  return refusal(wire, { ...state, links: onwardLinks(state) });
}

/** Return which steps read which by template, but for what a loop reads from its own body. */
export function onwardLinks({ nodes, types }: Pick<BuilderState, "nodes" | "types">): (TemplateLink & Wire)[] {
  const kind = new Map(nodes.map((node) => [node.id, types.get(node.data.type)]));
  return linksOf(nodes)
    .filter((link) => !findInput(kind.get(link.target), link.input)?.returns)
    .map((link) => ({ ...link, sourceHandle: link.output }));
}

/** Return what people call a step. */
export function nameOf({ nodes, types }: Pick<BuilderState, "nodes" | "types">, id: string): string {
  const data = nodes.find((node) => node.id === id)?.data;
  return data ? data.step.label || types.get(data.type)?.label || id : id;
}

const bodies = new WeakMap<readonly WireEdge[], { data: readonly unknown[]; found: ReadonlyMap<string, string> }>();

/** Return the id of the loop in whose body a step stands, or undefined. Found once per graph, not per step. */
export function loopOf(state: BuilderState, id: string): string | undefined {
  const data = state.nodes.map((node) => node.data);
  let known = bodies.get(state.edges);
  if (!known || known.data.length !== data.length || data.some((item, index) => item !== known!.data[index])) {
    known = { data, found: loopBodies(state.nodes, [...state.edges, ...onwardLinks(state)], state.types) };
    bodies.set(state.edges, known);
  }
  return known.found.get(id);
}

function deselected(nodes: readonly StepNode[]): StepNode[] {
  return nodes.map((node) => (node.selected ? { ...node, selected: false } : node));
}

function besideSelection(nodes: readonly StepNode[]): { x: number; y: number } {
  const anchor = nodes.findLast((node) => node.selected) ?? nodes.reduce<StepNode | null>(
    (best, node) => (!best || node.position.x > best.position.x ? node : best),
    null,
  );
  if (!anchor) return { x: 0, y: 0 };
  return { x: anchor.position.x + (anchor.measured?.width ?? NODE_WIDTH) + 72, y: anchor.position.y };
}

/** Move a place down until no node stands there. */
function freeSpot(nodes: readonly StepNode[], wanted: { x: number; y: number }): { x: number; y: number } {
  const place = { x: snap(wanted.x), y: snap(wanted.y) };
  const hit = () =>
    nodes.find(
      (node) => Math.abs(node.position.x - place.x) < 200 && Math.abs(node.position.y - place.y) < (node.measured?.height ?? 100),
    );
  for (let other = hit(); other; other = hit()) place.y = snap(other.position.y + (other.measured?.height ?? 100) + 32);
  return place;
}

interface EdgeIndex {
  into: ReadonlyMap<string, readonly string[]>;
  out: ReadonlyMap<string, readonly string[]>;
}

const NONE: readonly string[] = [];
const edgeIndexes = new WeakMap<readonly WireEdge[], EdgeIndex>();

function edgeIndex(edges: readonly WireEdge[]): EdgeIndex {
  let index = edgeIndexes.get(edges);
  if (!index) {
    const into = new Map<string, string[]>();
    const out = new Map<string, string[]>();
    const put = (map: Map<string, string[]>, key: string, name: string) => {
      const list = map.get(key);
      if (list) list.push(name);
      else map.set(key, [name]);
    };
    for (const edge of edges) {
      put(into, edge.target, edge.targetHandle ?? "");
      put(out, edge.source, edge.sourceHandle ?? "");
    }
    index = { into, out };
    edgeIndexes.set(edges, index);
  }
  return index;
}

/** Return the names of the inputs of a node that are wired. Indexed once per set of wires. */
export function wiredInputs(state: BuilderState, id: string): readonly string[] {
  return edgeIndex(state.edges).into.get(id) ?? NONE;
}

/** Return the names of the outputs of a node that are wired. */
export function wiredOutputs(state: BuilderState, id: string): readonly string[] {
  return edgeIndex(state.edges).out.get(id) ?? NONE;
}

const readerSets = new WeakMap<readonly StepNode[], ReadonlySet<string>>();

/** Whether a node reads another one by template. */
export function readsOthers(state: BuilderState, id: string): boolean {
  let readers = readerSets.get(state.nodes);
  if (!readers) {
    readers = new Set(linksOf(state.nodes).map((link) => link.target));
    readerSets.set(state.nodes, readers);
  }
  return readers.has(id);
}

/** The definition as it would be stored now. */
export function currentDefinition(state: BuilderState): WorkflowDefinition {
  return toDefinition(state.nodes, state.edges, state.rest);
}

export function isDirty(state: BuilderState): boolean {
  return state.name !== state.savedName || !sameDoc(state, state.saved);
}

/** Step back or forward in the history; sizes that are already measured are kept, so nothing flickers. */
function travel(direction: "undo" | "redo"): void {
  const before = new Map(useBuilder.getState().nodes.map((node) => [node.id, node]));
  lastGesture = "";
  useBuilder.temporal.getState()[direction]();
  useBuilder.temporal.getState().pause();
  useBuilder.setState((state) => ({
    nodes: state.nodes.map(({ dragging: _, ...node }) => ({
      ...node,
      measured: before.get(node.id)?.measured,
      selected: before.get(node.id)?.selected ?? false,
    })),
  }));
  useBuilder.temporal.getState().resume();
}

export const undo = (): void => travel("undo");
export const redo = (): void => travel("redo");

export function useHistory(): { canUndo: boolean; canRedo: boolean } {
  const canUndo = useZustand(useBuilder.temporal, (state) => state.pastStates.length > 0);
  const canRedo = useZustand(useBuilder.temporal, (state) => state.futureStates.length > 0);
  return { canUndo, canRedo };
}
