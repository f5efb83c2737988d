import { useMemo, useState } from "react";

import type { NodeType } from "../contract";
import { Dialog } from "./Dialog";
import type { StepNode, TypeIndex } from "./definition";
import { shapeOf } from "./ports";
import { useBuilder, wireProblem, type Doc } from "./store";
import type { ConnectStart } from "./ui";

type Graph = Doc & { types: TypeIndex };

export interface Choice {
  source: string;
  sourceHandle: string;
  target: string;
  targetHandle: string;
}

/** Wire two steps without a mouse: four choices, illegal ones say why. */
export function ConnectDialog({ start, onClose }: { start: ConnectStart; onClose: () => void }) {
  const nodes = useBuilder((state) => state.nodes);
  const edges = useBuilder((state) => state.edges);
  const types = useBuilder((state) => state.types);
  const connect = useBuilder((state) => state.connect);
  const graph = useMemo(() => ({ nodes, edges, types }), [nodes, edges, types]);
  const [choice, setChoice] = useState<Choice>(() => suggest(start, graph));
  const [problem, setProblem] = useState<string | null>(null);

  const nameOf = (node: StepNode) => {
    const label = node.data.step.label || types.get(node.data.type)?.label || node.data.type;
    return `${label} (${node.id})`;
  };
  const typeOf = (id: string): NodeType | undefined => shapeIn(graph, id);
  const outputs = typeOf(choice.source)?.outputs ?? [];
  const inputs = (typeOf(choice.target)?.inputs ?? []).filter((port) => port.handle !== false);
  const change = (part: Partial<Choice>) => {
    setProblem(null);
    setChoice((before) => {
      const next = { ...before, ...part };
      const moved = part.source !== undefined || part.target !== undefined || part.sourceHandle !== undefined;
      return moved ? suggest({ ...next, targetHandle: undefined }, graph, next) : next;
    });
  };
  const reason =
    choice.source && choice.target && choice.sourceHandle && choice.targetHandle
      ? wireProblem(choice, graph)
      : "Choose an output and an input.";

  return (
    <Dialog title="Connect steps" onClose={onClose}>
      <form
        className="fb-form"
        onSubmit={(event) => {
          event.preventDefault();
          const refused = connect(choice);
          if (refused) setProblem(refused);
          else onClose();
        }}
      >
        <div className="fb-connect-grid">
          <label>
            From step
            <select value={choice.source} onChange={(event) => change({ source: event.target.value, sourceHandle: "" })}>
              {nodes.map((node) => (
                <option key={node.id} value={node.id}>
                  {nameOf(node)}
                </option>
              ))}
            </select>
          </label>
          <label>
            Output
            <select
              data-autofocus
              value={choice.sourceHandle}
              onChange={(event) => change({ sourceHandle: event.target.value })}
            >
              {outputs.map((port) => (
                <option key={port.name} value={port.name}>
                  {port.name}
                </option>
              ))}
            </select>
          </label>
          <label>
            To step
            <select value={choice.target} onChange={(event) => change({ target: event.target.value })}>
              {nodes
                .filter((node) => node.id !== choice.source)
                .map((node) => (
                  <option key={node.id} value={node.id}>
                    {nameOf(node)}
                  </option>
                ))}
            </select>
          </label>
          <label>
            Input
            <select value={choice.targetHandle} onChange={(event) => change({ targetHandle: event.target.value })}>
              {inputs.map((port) => {
                const refused = wireProblem({ ...choice, targetHandle: port.name }, graph);
                return (
                  <option key={port.name} value={port.name} disabled={refused !== null} title={refused ?? ""}>
                    {port.name}
                  </option>
                );
              })}
            </select>
          </label>
        </div>
        <p className="fb-form-note" role="status" data-kind={problem || reason ? "error" : "info"}>
          {problem ?? reason ?? "This wire is legal."}
        </p>
        <footer>
          <button type="button" className="fb-btn" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="fb-btn fb-btn-primary" disabled={reason !== null}>
            Connect
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

/**
 * Return the most likely wire: what is fixed stays, the rest is the first legal choice of equal type, else one that
 * only says when to run, else one whose value is converted. An input that was typed in is left alone.
 */
export function suggest(start: Partial<Choice>, graph: Graph, fallback: Partial<Choice> = {}): Choice {
  const last = graph.nodes.at(-1)?.id;
  const ids = graph.nodes.map((node) => node.id);
  const sources = start.source ? [start.source] : ids.filter((id) => id !== start.target).reverse();
  const order = (from: string) => {
    const index = ids.indexOf(from);
    return [...ids.slice(index + 1), ...ids.slice(0, index).reverse()];
  };
  let spare: Choice | null = null;
  let converted: Choice | null = null;
  for (const source of sources) {
    const targets = start.target && start.target !== source ? [start.target] : order(source);
    const from = shapeIn(graph, source);
    for (const target of targets) {
      const data = graph.nodes.find((node) => node.id === target)?.data;
      const to = graph.types.get(data?.type ?? "");
      for (const output of from?.outputs ?? []) {
        if (start.sourceHandle && output.name !== start.sourceHandle) continue;
        for (const input of to?.inputs ?? []) {
          if (start.targetHandle ? input.name !== start.targetHandle : data?.step.inputs?.[input.name] !== undefined) continue;
          const wire = { source, sourceHandle: output.name, target, targetHandle: input.name };
          if (wireProblem(wire, graph)) continue;
          if (output.type !== "CONDITIONAL" && output.type === input.type) return wire;
          if (output.type === input.type) spare ??= wire;
          else converted ??= wire;
        }
      }
    }
  }
  if (spare ?? converted) return (spare ?? converted)!;
  const source = start.source ?? fallback.source ?? last ?? "";
  const type = shapeIn(graph, source);
  return {
    source,
    sourceHandle: start.sourceHandle || type?.outputs[0]?.name || "",
    target: start.target ?? fallback.target ?? ids.find((id) => id !== source) ?? "",
    targetHandle: start.targetHandle ?? "",
  };
}

function shapeIn(graph: Graph, id: string): NodeType | undefined {
  const data = graph.nodes.find((node) => node.id === id)?.data;
  return shapeOf(graph.types.get(data?.type ?? ""), data?.step);
}
