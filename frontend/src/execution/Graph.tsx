import {
  Background,
  BackgroundVariant,
  BaseEdge,
  Controls,
  Handle,
  Position,
  ReactFlow,
  type Edge,
  type EdgeProps,
  type Node,
  type NodeProps,
} from "@xyflow/react";
import { memo, useMemo, useState } from "react";

import type { Api } from "../api";
import { duration } from "../format";
import { partOf, stepWord, type RunView, type Step } from "../monitor/WorkflowExecutionMonitor";
import { StatusIcon } from "../status";
import { route, type Box } from "../wires";
import { Empty } from "./Answer";
import { arrange, boxesOf, wiresOf } from "./drawing";
import { NodeFacts } from "./NodeFacts";

/** From this many steps on only those are drawn that are in sight. */
const MANY = 200;

type RunNode = Node<{ step: Step; over: boolean }, "run">;
type RunWire = Edge<{ boxes: readonly Box[] }, "wire">;
const TYPES = { run: memo(RunCard) };
const WIRES = { wire: memo(Wire) };

/** The workflow as it was drawn, read-only, each step in the colour of its status; a step that is picked says more. */
export default function Graph({ client, view }: { client: Api; view: RunView }) {
  const [picked, setPicked] = useState<string | null>(null);
  const { detail, steps, over } = view;
  const drawn = useMemo(() => {
    if (!detail) return null;
    const part = partOf(detail);
    const wires = wiresOf(part);
    const places = arrange(part, wires);
    return { wires, places, boxes: boxesOf(places) };
  }, [detail]);
  const known = useMemo(() => new Map(steps.map((step) => [step.id, step])), [steps]);
  const nodes = useMemo<RunNode[]>(
    () =>
      [...(drawn?.places ?? [])].flatMap(([id, position]) => {
        const step = known.get(id);
        const label = step ? `${step.name}: ${stepWord(step, over)}` : id;
        return step ? [{ id, type: "run", position, data: { step, over }, ariaLabel: label, selected: id === picked }] : [];
      }),
    [drawn, known, over, picked],
  );
  const edges = useMemo<RunWire[]>(
    () =>
      (drawn?.wires ?? []).map(({ source, target, template }) => ({
        id: `${source}-${target}`,
        type: "wire" as const,
        data: { boxes: drawn?.boxes ?? [] },
        source,
        target,
        focusable: false,
        className: [template ? "fb-dashed" : "", isTaken(known.get(source), known.get(target)) ? "fb-taken" : ""].join(" "),
      })),
    [drawn, known],
  );
  if (drawn && drawn.places.size === 0) return <Empty title="No steps">This workflow has no steps in this part.</Empty>;
  return (
    <div className="fb-canvas">
      <div className="fb-flow" data-testid="graph">
        {drawn ? (
          <ReactFlow<RunNode, RunWire>
            nodes={nodes}
            edges={edges}
            nodeTypes={TYPES}
            edgeTypes={WIRES}
            nodesDraggable={false}
            nodesConnectable={false}
            edgesFocusable={false}
            deleteKeyCode={null}
            onlyRenderVisibleElements={nodes.length > MANY}
            fitView
            fitViewOptions={{ padding: 0.12, maxZoom: 1 }}
            minZoom={0.05}
            onNodeClick={(_, node) => setPicked(node.id)}
            onNodesChange={(changes) => {
              const chosen = changes.find((change) => change.type === "select" && change.selected);
              if (chosen && "id" in chosen) setPicked(chosen.id);
            }}
            onPaneClick={() => setPicked(null)}
          >
            <Background variant={BackgroundVariant.Dots} gap={24} size={1.4} />
            <Controls showInteractive={false} position="bottom-left" />
          </ReactFlow>
        ) : null}
      </div>
      {picked ? <NodeFacts key={picked} client={client} view={view} nodeId={picked} onClose={() => setPicked(null)} /> : null}
    </div>
  );
}

function RunCard({ data: { step, over }, selected }: NodeProps<RunNode>) {
  const word = stepWord(step, over);
  return (
    <div className="fb-run-card" data-status={step.status} data-selected={selected || undefined} data-testid={`node-${step.id}`}>
      <Handle type="target" position={Position.Left} isConnectable={false} />
      <strong title={step.name}>{step.name}</strong>
      <span className="fb-word" data-status={step.status}>
        <StatusIcon status={word === "Not run" ? "not_run" : step.status} size={13} /> {word}
        {step.durationMs ? <span className="fb-muted">{duration(step.durationMs)}</span> : null}
        {step.attempt > 1 ? <span className="fb-tag">attempt {step.attempt}</span> : null}
      </span>
      <Handle type="source" position={Position.Right} isConnectable={false} />
    </div>
  );
}

function Wire({ sourceX, sourceY, targetX, targetY, data }: EdgeProps<RunWire>) {
  const boxes = data?.boxes ?? [];
  const path = useMemo(
    () => route({ x: sourceX, y: sourceY }, { x: targetX, y: targetY }, boxes).path,
    [sourceX, sourceY, targetX, targetY, boxes],
  );
  return <BaseEdge path={path} interactionWidth={0} />;
}

/** Whether the run went along a wire. */
function isTaken(from: Step | undefined, to: Step | undefined): boolean {
  return from?.status === "completed" && to !== undefined && !["queued", "skipped", "cancelled"].includes(to.status);
}
