import { useEffect, useId, useMemo, useState } from "react";
import { useShallow } from "zustand/react/shallow";

import { EXECUTE_CONDITION, type Credential, type Finding, type Schedule, type StepData } from "../contract";
import { count, inZone } from "../format";
import { Icon } from "./icons";
import { Field, Switch, useReferences } from "./fields";
import { costOf, idProblem, inWords, type StepNode, type TypeIndex, type WireEdge } from "./definition";
import { Policy } from "./Policy";
import { forward, shapeOf, slug, TYPE_WORDS } from "./ports";
import { nameOf as stepName, onwardLinks, useBuilder } from "./store";
import { iconOf, useUi } from "./ui";

/** The right side: the selected step's parameters and settings, or the workflow itself. */
export function Inspector({
  credentials,
  schedule,
  onDuplicate,
  onLeave,
}: {
  credentials: readonly Credential[];
  schedule: Schedule | null;
  onDuplicate: () => void;
  onLeave: () => void;
}) {
  const selected = useBuilder(useShallow((state) => state.nodes.filter((node) => node.selected).map((node) => node.id)));
  return (
    <aside
      className="fb-inspector"
      aria-label="Properties"
      data-region="inspector"
      onKeyDown={(event) => {
        if (event.key === "Escape") {
          event.stopPropagation();
          onLeave();
        }
      }}
    >
      {selected.length === 1 ? (
        <StepPanel key={selected[0]} id={selected[0]!} credentials={credentials} onDuplicate={onDuplicate} />
      ) : selected.length > 1 ? (
        <ManyPanel ids={selected} onDuplicate={onDuplicate} />
      ) : (
        <WorkflowPanel schedule={schedule} />
      )}
    </aside>
  );
}

function StepPanel({
  id,
  credentials,
  onDuplicate,
}: {
  id: string;
  credentials: readonly Credential[];
  onDuplicate: () => void;
}) {
  const node = useBuilder((state) => state.nodes.find((item) => item.id === id));
  const type = useBuilder((state) => state.types.get(node?.data.type ?? ""));
  const types = useBuilder((state) => state.types);
  const nodes = useBuilder((state) => state.nodes);
  const edges = useBuilder((state) => state.edges);
  const findings = useBuilder(useShallow((state) => state.findings.filter((finding) => finding.node_id === id)));
  const { setInput, setStep, remove, disconnect } = useBuilder.getState();
  const run = useUi((state) => state.run.nodes.get(id));
  const openPanel = useUi((state) => state.openPanel);
  const [tab, setTab] = useState<"parameters" | "settings">("parameters");
  const labelId = useId();

  const earlier = useMemo(() => upstream(id, nodes, edges, types), [id, nodes, edges, types]);
  const references = useReferences(
    useMemo(
      () =>
        earlier.map((item) => ({
          id: item.id,
          label: item.data.step.label || item.id,
          outputs: shapeOf(types.get(item.data.type), item.data.step)?.outputs ?? [],
        })),
      [earlier, types],
    ),
  );
  if (!node) return null;
  const step = node.data.step;
  const inputs = (type?.inputs ?? []).filter((port) => port.name !== EXECUTE_CONDITION);
  const fieldNames = new Set(inputs.flatMap((port) => [port.name, port.slug]));
  const general = findings.filter((finding) => !finding.field || !fieldNames.has(finding.field));
  const unknown = Object.keys(step.inputs ?? {}).filter((name) => !fieldNames.has(name));
  const wires = (name: string) => edges.filter((edge) => edge.target === id && edge.targetHandle === name);
  const essential = inputs.filter((port) => port.required || port.name === type?.subtitle);
  const optional = inputs.filter((port) => !essential.includes(port));
  const sourceLabel = (edge: WireEdge) => {
    const source = nodes.find((item) => item.id === edge.source);
    return source?.data.step.label || types.get(source?.data.type ?? "")?.label || edge.source;
  };

  const row = (port: (typeof inputs)[number]) => {
    const wired = wires(port.name);
    const own = findings.filter((finding) => finding.field === port.name || finding.field === port.slug);
    if (wired.length > 0) {
      return (
        <div className="fb-field" key={port.name} data-testid={`wired-${slug(port.name)}`}>
          <div className="fb-field-head">
            <span className="fb-field-name">{port.name}</span>
          </div>
          {wired.map((edge) => (
            <p className="fb-wired" key={edge.id}>
              <Icon name="link" size={13} />
              <span>
                {sourceLabel(edge)} <span className="fb-muted">· {edge.sourceHandle}</span>
              </span>
              <button type="button" className="fb-field-tool" title="Remove this wire" onClick={() => disconnect([edge.id])}>
                <Icon name="unlink" size={13} />
                <span className="fb-sr">Remove this wire</span>
              </button>
            </p>
          ))}
          <FieldFindings findings={own} />
        </div>
      );
    }
    if (port.type === "BROWSER_INSTANCE" || port.type === "FILE") {
      return (
        <div className="fb-field" key={port.name} data-error={own.length > 0 || undefined}>
          <div className="fb-field-head">
            <span className="fb-field-name">{port.name}</span>
            {port.required ? (
              <span className="fb-required" aria-hidden="true">
                *
              </span>
            ) : null}
          </div>
          <button
            type="button"
            className="fb-wire-button"
            disabled={nodes.length < 2}
            onClick={() => openPanel("connect", { connect: { target: id, targetHandle: port.name } })}
          >
            <Icon name="link" size={13} /> Connect {TYPE_WORDS[port.type]}
          </button>
          <FieldFindings findings={own} />
        </div>
      );
    }
    return (
      <Field
        key={port.name}
        port={port}
        value={step.inputs?.[port.name] ?? step.inputs?.[port.slug]}
        findings={own}
        credentials={credentials}
        references={port.handle === false && port.type !== "STRING" ? [] : references}
        onChange={(value) => setInput(id, port.name, value)}
      />
    );
  };

  return (
    <>
      <header className="fb-inspector-head" data-group={type?.group}>
        <span className="fb-node-icon">
          <Icon name={iconOf(type)} size={18} />
        </span>
        <div className="fb-inspector-title">
          <label className="fb-sr" htmlFor={labelId}>
            Label
          </label>
          <input
            id={labelId}
            className="fb-title-input"
            value={step.label ?? ""}
            placeholder={type?.label ?? node.data.type}
            onChange={(event) => {
              const label = event.target.value;
              setStep(
                id,
                ({ label: _, ...rest }) => (label ? { ...rest, label } : rest),
                "label",
              );
            }}
          />
          <span className="fb-muted">{type?.label ?? `Unknown type ${node.data.type}`}</span>
        </div>
        <button type="button" className="fb-btn fb-btn-ghost fb-btn-icon" title="Duplicate (Ctrl+D)" onClick={onDuplicate}>
          <Icon name="copy" size={15} />
          <span className="fb-sr">Duplicate</span>
        </button>
        <button
          type="button"
          className="fb-btn fb-btn-ghost fb-btn-icon"
          title="Delete (Del)"
          onClick={() => remove(new Set([id]))}
        >
          <Icon name="trash" size={15} />
          <span className="fb-sr">Delete</span>
        </button>
      </header>
      <div className="fb-tabs" role="tablist">
        {(["parameters", "settings"] as const).map((name) => (
          <button
            key={name}
            type="button"
            role="tab"
            id={`${labelId}-${name}`}
            aria-selected={tab === name}
            aria-controls={`${labelId}-panel`}
            onClick={() => setTab(name)}
          >
            {name === "parameters" ? "Parameters" : "Settings"}
          </button>
        ))}
      </div>
      <div className="fb-inspector-body" role="tabpanel" id={`${labelId}-panel`} aria-labelledby={`${labelId}-${tab}`}>
        {run?.error ? (
          <p className="fb-note" data-kind="error">
            <Icon name="alert" size={14} /> {run.error}
          </p>
        ) : null}
        {tab === "parameters" ? (
          <>
            {type?.summary ? <p className="fb-summary">{type.summary}</p> : null}
            {general.map((finding) => (
              <p key={finding.code + finding.message} className="fb-note" data-kind={finding.severity}>
                <Icon name="alert" size={14} />
                <span>
                  {finding.message}
                  {finding.hint ? <span className="fb-hint fb-muted">{finding.hint}</span> : null}
                </span>
              </p>
            ))}
            {essential.map(row)}
            {optional.length > 0 && essential.length > 0 ? <h4 className="fb-section">Optional</h4> : null}
            {optional.map(row)}
            {inputs.length === 0 && type ? <p className="fb-muted">This step takes no parameters.</p> : null}
            {unknown.length > 0 ? (
              <>
                <h4 className="fb-section">Also stored</h4>
                {unknown.map((name) => (
                  <p className="fb-wired" key={name}>
                    <span>
                      {name} <span className="fb-muted">{inWords(step.inputs?.[name])}</span>
                    </span>
                    <button
                      type="button"
                      className="fb-field-tool"
                      title="Remove this value"
                      onClick={() => setInput(id, name, undefined)}
                    >
                      <Icon name="close" size={13} />
                      <span className="fb-sr">Remove this value</span>
                    </button>
                  </p>
                ))}
              </>
            ) : null}
            <Wires node={node} edges={edges} labelOf={nameOf} />
          </>
        ) : (
          <Settings node={node} step={step} onChange={(change, field) => setStep(id, change, field)} />
        )}
      </div>
    </>
  );
}

function FieldFindings({ findings }: { findings: readonly Finding[] }) {
  return findings.map((finding) => (
    <p key={finding.code + finding.message} className="fb-field-problem" data-kind={finding.severity}>
      {finding.message}
    </p>
  ));
}

/** Return what people call a step. */
function nameOf(id: string): string {
  return stepName(useBuilder.getState(), id);
}

function Wires({ node, edges, labelOf }: { node: StepNode; edges: readonly WireEdge[]; labelOf: (id: string) => string }) {
  const { disconnect } = useBuilder.getState();
  const openPanel = useUi((state) => state.openPanel);
  const several = useBuilder((state) => state.nodes.length > 1);
  const gates = edges.filter((edge) => edge.target === node.id && edge.targetHandle === EXECUTE_CONDITION);
  const out = edges.filter((edge) => edge.source === node.id);
  return (
    <>
      <h4 className="fb-section">Wires</h4>
      {gates.map((edge) => (
        <p className="fb-wired" key={edge.id}>
          <Icon name="branch" size={13} />
          <span>
            Runs when {labelOf(edge.source)} <span className="fb-muted">· {edge.sourceHandle}</span>
          </span>
          <button type="button" className="fb-field-tool" title="Remove this wire" onClick={() => disconnect([edge.id])}>
            <Icon name="unlink" size={13} />
            <span className="fb-sr">Remove this wire</span>
          </button>
        </p>
      ))}
      {out.map((edge) => (
        <p className="fb-wired" key={edge.id}>
          <span>
            {edge.sourceHandle} <span className="fb-muted">to</span> {labelOf(edge.target)}{" "}
            <span className="fb-muted">· {edge.targetHandle}</span>
          </span>
          <button type="button" className="fb-field-tool" title="Remove this wire" onClick={() => disconnect([edge.id])}>
            <Icon name="unlink" size={13} />
            <span className="fb-sr">Remove this wire</span>
          </button>
        </p>
      ))}
      <button
        type="button"
        className="fb-wire-button"
        disabled={!several}
        onClick={() => openPanel("connect", { connect: { source: node.id } })}
      >
        <Icon name="link" size={13} /> Connect to another step <kbd>c</kbd>
      </button>
    </>
  );
}

function Settings({
  node,
  step,
  onChange,
}: {
  node: StepNode;
  step: StepData;
  onChange: (change: (step: StepData) => StepData, field: string) => void;
}) {
  const ids = useId();
  const nodes = useBuilder((state) => state.nodes);
  const rename = useBuilder((state) => state.renameNode);
  const [id, setId] = useState(node.id);
  useEffect(() => setId(node.id), [node.id]);
  const problem = idProblem(id, node.id, new Set(nodes.map((item) => item.id)));
  const commit = () => {
    if (problem || id === node.id) setId(node.id);
    else rename(node.id, id);
  };
  const put = (key: keyof StepData, value: unknown) =>
    onChange(({ [key]: _, ...rest }) => (value === undefined ? rest : { ...rest, [key]: value }), String(key));

  return (
    <>
      <div className="fb-field" data-error={problem !== null || undefined}>
        <div className="fb-field-head">
          <label htmlFor={`${ids}-id`}>Id</label>
        </div>
        <input
          id={`${ids}-id`}
          className="fb-code"
          value={id}
          spellCheck={false}
          autoComplete="off"
          aria-invalid={problem !== null}
          onChange={(event) => setId(event.target.value)}
          onBlur={commit}
          onKeyDown={(event) => {
            if (event.key === "Enter") commit();
          }}
        />
        {problem ? (
          <p className="fb-field-problem" data-kind="error">
            {problem}
          </p>
        ) : (
          <p className="fb-help">Templates name the step by it; wires and templates follow a new id.</p>
        )}
      </div>
      <Policy step={step} put={put} />
      <div className="fb-field">
        <div className="fb-field-head">
          <label htmlFor={`${ids}-off`}>Switched off</label>
        </div>
        <Switch id={`${ids}-off`} checked={step.disabled === true} onChange={(on) => put("disabled", on || undefined)} />
        <p className="fb-help">A step that is off is skipped.</p>
      </div>
    </>
  );
}

function ManyPanel({ ids, onDuplicate }: { ids: readonly string[]; onDuplicate: () => void }) {
  const remove = useBuilder((state) => state.remove);
  return (
    <div className="fb-inspector-body">
      <h3>{count(ids.length, "step")} selected</h3>
      <p className="fb-muted">Drag one of them to move all.</p>
      <div className="fb-actions">
        <button type="button" className="fb-btn" onClick={onDuplicate}>
          <Icon name="copy" size={14} /> Duplicate
        </button>
        <button type="button" className="fb-btn fb-btn-danger" onClick={() => remove(new Set(ids))}>
          <Icon name="trash" size={14} /> Delete
        </button>
      </div>
    </div>
  );
}

function WorkflowPanel({ schedule }: { schedule: Schedule | null }) {
  const nodes = useBuilder((state) => state.nodes);
  const edges = useBuilder((state) => state.edges);
  const types = useBuilder((state) => state.types);
  const version = useBuilder((state) => state.version);
  const active = useBuilder((state) => state.activeVersion);
  const openPanel = useUi((state) => state.openPanel);
  const credits = costOf(nodes, types);
  return (
    <>
      <header className="fb-inspector-head">
        <span className="fb-node-icon">
          <Icon name="tidy" size={18} />
        </span>
        <div className="fb-inspector-title">
          <h2>Workflow</h2>
          <span className="fb-muted">Select a step to see its parameters</span>
        </div>
      </header>
      <div className="fb-inspector-body">
        <dl className="fb-props">
          <div>
            <dt>Steps</dt>
            <dd>{nodes.length}</dd>
          </div>
          <div>
            <dt>Wires</dt>
            <dd>{edges.length}</dd>
          </div>
          <div>
            <dt>Cost of a run</dt>
            <dd>{count(credits, "credit")}</dd>
          </div>
          <div>
            <dt>Newest version</dt>
            <dd>{version > 0 ? `v${version}` : "None yet"}</dd>
          </div>
          <div>
            <dt>Active version</dt>
            <dd>{active ? `v${active}` : "None yet"}</dd>
          </div>
        </dl>
        <h4 className="fb-section">Schedule</h4>
        {schedule ? (
          <p className="fb-schedule-summary">
            <code>{schedule.cron}</code> <span className="fb-muted">{schedule.timezone}</span>
            <br />
            <span className="fb-muted">
              {schedule.enabled && schedule.next_run_at
                ? `Next run ${inZone(schedule.next_run_at, schedule.timezone)}`
                : "Switched off"}
            </span>
          </p>
        ) : (
          <p className="fb-muted">Runs only when somebody starts it.</p>
        )}
        <button type="button" className="fb-wire-button" onClick={() => openPanel("schedule")}>
          <Icon name="calendar" size={13} /> {schedule ? "Change the times" : "Set the times"}
        </button>
        <h4 className="fb-section">Keyboard</h4>
        <ul className="fb-keys">
          <li>
            <kbd>Tab</kbd> add a step
          </li>
          <li>
            <kbd>c</kbd> connect the selected step
          </li>
          <li>
            <kbd>Ctrl</kbd> <kbd>S</kbd> save
          </li>
          <li>
            <kbd>?</kbd> all shortcuts
          </li>
        </ul>
      </div>
    </>
  );
}

/** Return the steps that run before `id`, nearest first. */
function upstream(id: string, nodes: StepNode[], edges: readonly WireEdge[], types: TypeIndex): StepNode[] {
  const sources = new Map<string, string[]>();
  const kind = new Map(nodes.map((node) => [node.id, types.get(node.data.type)]));
  for (const edge of [...forward(edges, (step) => kind.get(step)), ...onwardLinks({ nodes, types })]) {
    const list = sources.get(edge.target);
    if (list) list.push(edge.source);
    else sources.set(edge.target, [edge.source]);
  }
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const seen = new Set([id]);
  const queue = [id];
  const found: StepNode[] = [];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    for (const source of sources.get(next) ?? []) {
      if (seen.has(source)) continue;
      seen.add(source);
      queue.push(source);
      const node = byId.get(source);
      if (node) found.push(node);
    }
  }
  return found;
}
