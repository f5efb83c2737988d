import { Handle, Position, useUpdateNodeInternals, type NodeProps } from "@xyflow/react";
import { memo, useEffect } from "react";
import { useShallow } from "zustand/react/shallow";

import { DONE, ERROR_OUTPUTS, EXECUTE_CONDITION, type InputPort, type NodeType, type OutputPort, type PortType, type StepData } from "../contract";
import { duration } from "../format";
import { Icon } from "./icons";
import { StatusIcon, statusWord } from "../status";
import { inWords, subtitleOf, type StepNode } from "./definition";
import { shapeOf, slug, TYPE_WORDS } from "./ports";
import { loopOf, nameOf, readsOthers, useBuilder, wiredInputs, wiredOutputs } from "./store";
import { iconOf, useUi } from "./ui";

/** One step on the canvas: what it is, what it works on, its ports, its problems, and how its run goes. */
export const NodeCard = memo(function NodeCard({ id, data, selected }: NodeProps<StepNode>) {
  const type = useBuilder((state) => shapeOf(state.types.get(data.type), data.step));
  const wiredIn = useBuilder(useShallow((state) => wiredInputs(state, id)));
  const wiredOut = useBuilder(useShallow((state) => wiredOutputs(state, id)));
  const reads = useBuilder((state) => readsOthers(state, id));
  const findings = useBuilder(useShallow((state) => state.findings.filter((finding) => finding.node_id === id)));
  const loop = useBuilder((state) => {
    const around = loopOf(state, id);
    return around === undefined ? undefined : nameOf(state, around);
  });
  const expanded = useUi((state) => state.expanded.has(id));
  const watching = useUi((state) => state.executionId !== null);
  const over = useUi((state) => state.runEnded);
  const run = useUi((state) => state.run.nodes.get(id));
  const toggleExpanded = useUi((state) => state.toggleExpanded);
  const openPanel = useUi((state) => state.openPanel);
  const refresh = useUpdateNodeInternals();

  const { inputs, outputs, hidden } = visiblePorts(type, data.step, wiredIn, wiredOut, expanded);
  const shape = [...inputs, "|", ...outputs].map((port) => (typeof port === "string" ? port : port.name)).join();
  useEffect(() => refresh(id), [refresh, id, shape]);

  const step = data.step;
  const subtitle = subtitleOf(type, step);
  const errors = findings.filter((finding) => finding.severity === "error");
  // A step inside a loop runs in the turns, which are executions of their own.
  const status = watching ? (run?.status ?? (loop !== undefined ? null : over ? "not_run" : "queued")) : null;
  const rows = Math.max(inputs.length, outputs.length);

  return (
    <div
      className="fb-node"
      data-group={type?.group}
      data-selected={selected || undefined}
      data-problem={errors.length > 0 ? "error" : findings.length > 0 ? "warning" : undefined}
      data-status={status ?? undefined}
      data-disabled={step.disabled || undefined}
      data-loop={loop !== undefined || undefined}
      data-testid={`node-${id}`}
    >
      <div className="fb-node-head">
        <PortHandle nodeId={id} side="in" name={EXECUTE_CONDITION} type="CONDITIONAL" wired={wiredIn.includes(EXECUTE_CONDITION)} />
        <span className="fb-node-icon">
          <Icon name={iconOf(type)} size={17} />
        </span>
        <span className="fb-node-names">
          <span className="fb-node-label">{step.label || type?.label || data.type}</span>
          <span className="fb-node-subtitle">
            {type ? subtitle || id : "Unknown step type"}
          </span>
        </span>
        {findings.length > 0 && !status ? (
          <span
            className="fb-node-mark"
            data-kind={errors.length > 0 ? "error" : "warning"}
            title={findings.map((finding) => finding.message).join("\n")}
          >
            <Icon name="alert" size={13} />
            <span className="fb-sr">{errors.length > 0 ? "has errors" : "has warnings"}</span>
          </span>
        ) : null}
        <PortHandle nodeId={id} side="out" name={DONE} type="CONDITIONAL" wired={wiredOut.includes(DONE)} />
      </div>
      {rows > 0 ? (
        <div className="fb-node-ports">
          <div>
            {inputs.map((port) => (
              <div key={port.name} className="fb-port" data-side="in" data-set={isSet(step.inputs?.[port.name]) || undefined}>
                <PortHandle nodeId={id} side="in" name={port.name} type={port.type} wired={wiredIn.includes(port.name)} />
                <span>{port.name}</span>
              </div>
            ))}
          </div>
          <div>
            {outputs.map((port) => (
              <div
                key={port.name}
                className="fb-port"
                data-side="out"
                data-inside={port.inside || undefined}
                data-error={isErrorPort(port.name, step) || undefined}
              >
                <span>{caseText(port, type, step)}</span>
                <PortHandle nodeId={id} side="out" name={port.name} type={port.type} wired={wiredOut.includes(port.name)} />
              </div>
            ))}
          </div>
        </div>
      ) : null}
      <div className="fb-node-foot">
        {status ? (
          <span className="fb-node-status" data-status={status}>
            <StatusIcon status={status} size={13} />
            {statusWord(status)}
            {run?.durationMs ? <span className="fb-node-time">{duration(run.durationMs)}</span> : null}
          </span>
        ) : (
          <>
            {type?.start && wiredIn.length === 0 && !reads ? (
              <span className="fb-badge fb-badge-start">
                <Icon name="bolt" size={11} /> Entry Point
              </span>
            ) : null}
            {step.disabled ? <span className="fb-badge">Off</span> : null}
            {step.retries ? <span className="fb-badge">{step.retries}× retry</span> : null}
            {loop !== undefined ? (
              <span className="fb-badge fb-badge-loop" title={`Runs once for each turn of ${loop}`}>
                <Icon name="repeat" size={11} /> <span className="fb-badge-text">{loop}</span>
              </span>
            ) : null}
          </>
        )}
        <span className="fb-spacer" />
        {hidden > 0 || expanded ? (
          <button
            type="button"
            className="fb-node-more nodrag"
            aria-expanded={expanded}
            title={expanded ? "Show only the ports in use" : "Show the optional ports"}
            onClick={(event) => {
              event.stopPropagation();
              toggleExpanded(id);
            }}
          >
            {expanded ? "less" : `+${hidden}`}
          </button>
        ) : null}
        <span className="fb-badge" title={`${type?.credits ?? 0} credits for each run of this step`}>
          <Icon name="coin" size={11} /> {type?.credits ?? 0}
        </span>
      </div>
      <button
        type="button"
        className="fb-node-add nodrag nopan"
        tabIndex={-1}
        title="Add the next step"
        onClick={(event) => {
          event.stopPropagation();
          openPanel("search", { after: id });
        }}
      >
        <Icon name="plus" size={14} />
        <span className="fb-sr">Add a step after {step.label || type?.label || id}</span>
      </button>
    </div>
  );
});

function PortHandle({
  nodeId,
  side,
  name,
  type,
  wired,
}: {
  nodeId: string;
  side: "in" | "out";
  name: string;
  type: PortType;
  wired: boolean;
}) {
  return (
    <Handle
      id={name}
      type={side === "in" ? "target" : "source"}
      position={side === "in" ? Position.Left : Position.Right}
      className="fb-handle"
      data-type={type}
      data-wired={wired || undefined}
      data-testid={`handle-${nodeId}-${side}-${slug(name)}`}
      title={`${name}: ${TYPE_WORDS[type]}`}
    />
  );
}

/**
 * Required, wired and expanded ports show; other optional inputs wait behind "+n". Where nothing is required, the
 * first free input of a numbered row shows, so that there is one to wire. Of the cases of a switch those in use show.
 */
export function visiblePorts(
  type: NodeType | undefined,
  step: StepData,
  wiredIn: readonly string[],
  wiredOut: readonly string[],
  expanded: boolean,
): { inputs: OutputPort[]; outputs: OutputPort[]; hidden: number } {
  const allInputs = type?.inputs ?? [];
  const allOutputs = type?.outputs ?? [];
  const inputs: OutputPort[] = [];
  let hidden = 0;
  const free = allInputs.some((port) => port.required)
    ? undefined
    : allInputs.find((port) => / \d+$/.test(port.name) && port.handle !== false && !wiredIn.includes(port.name));
  for (const port of allInputs) {
    if (port.handle === false || port.name === EXECUTE_CONDITION) continue;
    const shown = port.required || port.returns || port === free || port.type === "BROWSER_INSTANCE" || expanded;
    if (shown || wiredIn.includes(port.name)) inputs.push(port);
    else hidden++;
  }
  const inUse = (port: OutputPort) => {
    const asked = caseOf(port, type);
    return !asked || expanded || isSet(step.inputs?.[asked.name]) || wiredIn.includes(asked.name) || wiredOut.includes(port.name);
  };
  const outputs: OutputPort[] = allOutputs.filter((port) => port.name !== DONE && inUse(port));
  // A wire to a port that this type does not have must stay visible, or nobody could mend it.
  const lost = (wired: readonly string[], ports: readonly OutputPort[], implicit: string) =>
    [...new Set(wired)].filter((name) => name !== implicit && !ports.some((port) => port.name === name));
  for (const name of lost(wiredIn, allInputs, EXECUTE_CONDITION)) inputs.push({ name, slug: slug(name), type: "ANY" });
  for (const name of lost(wiredOut, allOutputs, DONE)) outputs.push({ name, slug: slug(name), type: "ANY" });
  return { inputs, outputs, hidden };
}

/** Return the input that decides whether a path is taken: that of its own name, as a switch has them. */
function caseOf(port: OutputPort, type: NodeType | undefined): InputPort | undefined {
  return port.type === "CONDITIONAL" ? type?.inputs.find((input) => input.name === port.name && !input.required) : undefined;
}

/** Return the name of an output; that of a case is the value that it stands for. */
function caseText(port: OutputPort, type: NodeType | undefined, step: StepData): string {
  const value = caseOf(port, type) ? inWords(step.inputs?.[port.name]) : "";
  return value ? `= ${value}` : port.name;
}

function isErrorPort(name: string, step: StepData): boolean {
  return step.on_error === "output" && ERROR_OUTPUTS.some((port) => port.name === name);
}

function isSet(value: unknown): boolean {
  return value !== undefined && value !== null && value !== "";
}
