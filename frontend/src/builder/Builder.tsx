/**
 * The workflow builder.
 *
 * What end-to-end tests may hold on to:
 *
 * - `palette-<type>`: a button in the palette. Click or Enter adds the step, dragging it onto `canvas` as well.
 * - `canvas`: takes the focus; Tab opens the step search (combobox "Find a step", options `search-<type>`).
 * - `node-<id>`: a step. New ids are `<type>_<n>`, n from 1, e.g. `fill_input_1`.
 * - `handle-<id>-in-<slug>`, `handle-<id>-out-<slug>`: the ports. Required, wired and browser inputs are always
 *   there; other optional ones after a click on the step's "+n".
 * - Form fields of the selected step by label: `getByLabel("Selector", exact=True)` or `field-<slug>`;
 *   a wired input shows as `wired-<slug>` instead. "Label" renames the step, "Id" (tab "Settings") its id.
 * - Buttons "Save", "Run", "Undo", "Redo", "Tidy up", "Schedule", "Activate"; "Workflow name" is a text field.
 * - `save-state` says "Saved" or "Unsaved changes"; `version` is the newest stored version, e.g. "v3".
 * - `run-panel` appears when a run starts: its `data-status` is the run's, its `data-execution` the id. While it is
 *   there, `data-status` of every `node-<id>` is the status of that step.
 * - Keys: see Shortcuts.tsx. `c` opens the dialog "Connect steps" (selects "From step", "Output", "To step", "Input").
 */

import {
  Background,
  BackgroundVariant,
  Controls,
  MiniMap,
  Panel as FlowPanel,
  ReactFlow,
  ReactFlowProvider,
  useNodesInitialized,
  useReactFlow,
  type Connection,
  type Edge,
  type ReactFlowInstance,
} from "@xyflow/react";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";

import { Api, ApiError, idempotencyKey } from "../api";
import { DONE, EXECUTE_CONDITION, type Credential, type Schedule } from "../contract";
import { count } from "../format";
import { Icon } from "./icons";
import { ConnectDialog, suggest } from "./ConnectDialog";
import { linksOf, type StepNode, type WireEdge } from "./definition";
import { Dialog } from "./Dialog";
import { Inspector } from "./Inspector";
import { NODE_WIDTH } from "./layout";
import { NodeCard } from "./NodeCard";
import { NodeSearch } from "./NodeSearch";
import { DRAG_TYPE, Palette } from "./Palette";
import { findOutput, isBack, shapes } from "./ports";
import { Problems } from "./Problems";
import { RunPanel } from "./RunPanel";
import { SchedulePanel } from "./SchedulePanel";
import { Shortcuts } from "./Shortcuts";
import {
  beginDrag,
  currentDefinition,
  isDirty,
  redo,
  undo,
  useBuilder,
  useHistory,
  wireProblem,
  type Clip,
} from "./store";
import { useUi } from "./ui";
import { WireLine } from "./WireLine";

export interface BuilderProps {
  workflow_id: string;
  api?: string;
  ws?: string;
  execution_url: string;
  list_url: string;
}

const NODE_TYPES = { step: NodeCard };
const EDGE_TYPES = { default: WireLine };
const CLIPBOARD = "flowbuilder.clipboard";
const SNAP: [number, number] = [8, 8];
const MINIMAP_FROM = 9;
/** Down to here the whole workflow is shown; a larger one is shown from its beginning, at READABLE. */
const FITS = 0.6;
const READABLE = 0.75;
const MINIMAP = { width: 152, height: 92 };

export function Builder(props: BuilderProps) {
  return (
    <ReactFlowProvider>
      <Workbench {...props} />
    </ReactFlowProvider>
  );
}

type Conflict = { newest: number };

function Workbench({ workflow_id, api: apiBase = "/api/v1", ws = "/ws", execution_url, list_url }: BuilderProps) {
  const api = useMemo(() => new Api(apiBase), [apiBase]);
  const [loading, setLoading] = useState(true);
  const [failure, setFailure] = useState<string | null>(null);
  const [credentials, setCredentials] = useState<Credential[]>([]);
  const [schedule, setSchedule] = useState<Schedule | null>(null);
  const [busy, setBusy] = useState<"save" | "run" | "activate" | null>(null);
  const [conflict, setConflict] = useState<Conflict | null>(null);
  const unplaced = useRef(false);
  const root = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLDivElement>(null);
  const flow = useReactFlow<StepNode, WireEdge>();

  const nodes = useBuilder((state) => state.nodes);
  const name = useBuilder((state) => state.name);
  const version = useBuilder((state) => state.version);
  const activeVersion = useBuilder((state) => state.activeVersion);
  const types = useBuilder((state) => state.types);
  const dirty = useBuilder(isDirty);
  const { canUndo, canRedo } = useHistory();
  const ui = useUi();
  const { openPanel, say, watch } = ui;

  useFullHeight(root);

  const load = useCallback(async () => {
    setLoading(true);
    try {
      const [list, workflow, keys] = await Promise.all([
        api.nodeTypes(),
        api.workflow(workflow_id),
        api.credentials().catch(() => []),
      ]);
      unplaced.current = useBuilder.getState().load(workflow, list).unplaced;
      setCredentials(keys);
      setSchedule(workflow.schedule);
      setFailure(null);
    } catch (error) {
      setFailure((error as Error).message);
    } finally {
      setLoading(false);
    }
  }, [api, workflow_id]);

  useEffect(() => void load(), [load]);
  useValidation(api, !loading && !failure);

  useEffect(() => {
    if (!dirty) return;
    const guard = (event: BeforeUnloadEvent) => event.preventDefault();
    addEventListener("beforeunload", guard);
    return () => removeEventListener("beforeunload", guard);
  }, [dirty]);

  /** Store the canvas as a new version. Returns whether it is stored. */
  const save = useCallback(
    async (base?: number): Promise<boolean> => {
      const state = useBuilder.getState();
      setBusy("save");
      try {
        const snapshot = { nodes: state.nodes, edges: state.edges };
        const body = {
          name: state.name.trim() || "Untitled workflow",
          definition: currentDefinition(state),
          base_version: base ?? state.version,
        };
        const result = await api.save(workflow_id, body, base === undefined ? state.etag : "*");
        useBuilder.getState().markSaved(result.version, result.findings ?? [], snapshot, state.name, result.etag);
        setConflict(null);
        say(`Saved as version ${result.version}`);
        return true;
      } catch (error) {
        if (error instanceof ApiError && error.status === 409) {
          const newest = await api.workflow(workflow_id).then(
            (body) => body.version,
            () => state.version,
          );
          setConflict({ newest });
        } else {
          say((error as Error).message, "error");
        }
        return false;
      } finally {
        setBusy(null);
      }
    },
    [api, workflow_id, say],
  );

  const run = useCallback(
    async (input?: unknown) => {
      if (useBuilder.getState().nodes.length === 0) {
        say("Add a step first: there is nothing to run.", "error");
        return;
      }
      if (isDirty(useBuilder.getState()) && !(await save())) return;
      setBusy("run");
      try {
        const started = await api.start(
          { workflow_id, trigger: "test", version: "draft", ...(input === undefined ? {} : { input }) },
          idempotencyKey(),
        );
        watch(started.execution_id);
      } catch (error) {
        say((error as Error).message, "error");
      } finally {
        setBusy(null);
      }
    },
    [api, workflow_id, save, say, watch],
  );

  const activate = useCallback(async () => {
    if (isDirty(useBuilder.getState()) && !(await save())) return;
    setBusy("activate");
    try {
      const result = await api.activate(workflow_id);
      useBuilder.setState({ status: result.status, activeVersion: result.active_version });
      say(`Version ${result.active_version ?? ""} is active`);
    } catch (error) {
      say((error as Error).message, "error");
    } finally {
      setBusy(null);
    }
  }, [api, workflow_id, save, say]);

  /** Bring a node into view when it lies outside; never move what is already visible. */
  const reveal = useCallback(
    (id: string) => {
      requestAnimationFrame(() => {
        const node = flow.getNode(id);
        const box = canvas.current?.getBoundingClientRect();
        if (!node || !box) return;
        const { x, y, zoom } = flow.getViewport();
        const left = node.position.x * zoom + x;
        const top = node.position.y * zoom + y;
        const right = left + (node.measured?.width ?? NODE_WIDTH) * zoom;
        const bottom = top + (node.measured?.height ?? 120) * zoom;
        if (left >= 0 && top >= 0 && right <= box.width && bottom <= box.height) return;
        const dx = left < 0 ? 40 - left : right > box.width ? box.width - 40 - right : 0;
        const dy = top < 0 ? 40 - top : bottom > box.height ? box.height - 40 - bottom : 0;
        void flow.setViewport({ x: x + dx, y: y + dy, zoom });
      });
    },
    [flow],
  );

  const add = useCallback(
    (type: string, position?: { x: number; y: number }) => {
      const state = useBuilder.getState();
      let place = position;
      if (!place && state.nodes.length === 0) {
        const box = canvas.current?.getBoundingClientRect();
        if (box) {
          const middle = flow.screenToFlowPosition({ x: box.left + box.width / 2, y: box.top + box.height / 2 });
          place = { x: middle.x - NODE_WIDTH / 2, y: middle.y - 70 };
        }
      }
      const id = state.addNode(type, place);
      reveal(id);
      return id;
    },
    [flow, reveal],
  );

  const addFromSearch = useCallback(
    (type: string) => {
      const after = useUi.getState().after;
      if (after) useBuilder.getState().select([after]);
      const id = add(type);
      if (after) {
        const wire = suggest({ source: after, target: id }, useBuilder.getState());
        if (wire.targetHandle) useBuilder.getState().connect(wire);
      }
      openPanel(null);
      requestAnimationFrame(() => canvas.current?.focus());
    },
    [add, openPanel],
  );

  const selection = useCallback((): Clip => {
    const state = useBuilder.getState();
    const chosen = state.nodes.filter((node) => node.selected);
    const ids = new Set(chosen.map((node) => node.id));
    return { nodes: chosen, edges: state.edges.filter((edge) => ids.has(edge.source) && ids.has(edge.target)) };
  }, []);

  const duplicate = useCallback(() => {
    const clip = selection();
    if (clip.nodes.length > 0) useBuilder.getState().insert(clip, { x: 48, y: 64 });
  }, [selection]);

  const removeSelection = useCallback(() => {
    const state = useBuilder.getState();
    const ids = new Set([
      ...state.nodes.filter((node) => node.selected).map((node) => node.id),
      ...state.edges.filter((edge) => edge.selected).map((edge) => edge.id),
    ]);
    if (ids.size > 0) state.remove(ids);
    return ids.size > 0;
  }, []);

  const tidyUp = useCallback(() => {
    useBuilder.getState().layout();
    requestAnimationFrame(() => showAll(flow));
  }, [flow]);

  useKeyboard({ root, canvas, save, run, duplicate, selection, removeSelection, tidyUp, reveal });

  const isValid = useCallback((wire: Connection | Edge) => wireProblem(wire, useBuilder.getState()) === null, []);
  const onConnect = useCallback(
    (wire: Connection) => {
      const problem = useBuilder.getState().connect(wire);
      if (problem) say(problem, "error");
    },
    [say],
  );

  const credits = nodes.reduce((sum, node) => sum + (types.get(node.data.type)?.credits ?? 0), 0);
  const styledEdges = useStyledEdges();

  if (failure) {
    return (
      <div className="fb fb-builder" ref={root}>
        <div className="fb-empty fb-empty-page" role="alert">
          <Icon name="alert" size={26} />
          <strong>The workflow could not be loaded</strong>
          <span>{failure}</span>
          <button type="button" className="fb-btn fb-btn-primary" onClick={() => void load()}>
            Try Again
          </button>
        </div>
      </div>
    );
  }

  return (
    <div className="fb fb-builder" ref={root} aria-busy={loading}>
      <header className="fb-toolbar" data-region="toolbar">
        <a className="fb-btn fb-btn-ghost fb-btn-icon" href={list_url} title="All workflows">
          <Icon name="back" size={17} />
          <span className="fb-sr">All workflows</span>
        </a>
        <input
          className="fb-title-input fb-name"
          aria-label="Workflow name"
          value={name}
          placeholder={loading ? "Loading" : "Untitled workflow"}
          disabled={loading}
          maxLength={200}
          onChange={(event) => useBuilder.setState({ name: event.target.value })}
        />
        <span className="fb-tag" data-testid="version">
          {version > 0 ? `v${version}` : "new"}
        </span>
        <span className="fb-save-state" data-testid="save-state" data-dirty={dirty || undefined} role="status">
          {loading ? "" : dirty ? "Unsaved changes" : version > 0 ? "Saved" : "Not saved yet"}
        </span>
        <span className="fb-spacer" />
        <span className="fb-cost" title="What one run of all steps costs">
          <Icon name="coin" size={14} /> {count(credits, "credit")}
        </span>
        <span className="fb-divider" />
        <ToolButton icon="undo" label="Undo" hint="Ctrl+Z" disabled={!canUndo} onClick={undo} />
        <ToolButton icon="redo" label="Redo" hint="Ctrl+Shift+Z" disabled={!canRedo} onClick={redo} />
        <ToolButton icon="tidy" label="Tidy up" hint="Shift+T" disabled={nodes.length === 0} onClick={tidyUp} />
        <ToolButton icon="calendar" label="Schedule" onClick={() => openPanel("schedule")} />
        <ToolButton icon="help" label="Shortcuts" hint="?" onClick={() => openPanel("shortcuts")} />
        <span className="fb-divider" />
        {!loading && nodes.length > 0 && (activeVersion !== version || dirty) ? (
          <button
            type="button"
            className="fb-btn"
            disabled={busy !== null}
            title="Schedules and triggers run the active version"
            onClick={() => void activate()}
          >
            Activate
          </button>
        ) : !loading && activeVersion === version && version > 0 ? (
          <span className="fb-active" title={`Version ${version} is what schedules and triggers run`}>
            <span className="fb-dot" aria-hidden="true" /> Active
          </span>
        ) : null}
        <button
          type="button"
          className="fb-btn"
          disabled={loading || busy !== null || !dirty}
          title="Save as a new version (Ctrl+S)"
          onClick={() => void save()}
        >
          Save
        </button>
        <span className="fb-split">
          <button
            type="button"
            className="fb-btn fb-btn-primary"
            disabled={loading || busy !== null}
            title="Save and run this version (Ctrl+Enter)"
            onClick={() => void run()}
          >
            <Icon name="play" size={13} /> Run
          </button>
          <button
            type="button"
            className="fb-btn fb-btn-primary fb-btn-icon"
            disabled={loading || busy !== null}
            title="Start with input"
            onClick={() => openPanel("run-input")}
          >
            <Icon name="chevron" size={13} className="fb-icon-down" />
            <span className="fb-sr">Start with input</span>
          </button>
        </span>
      </header>

      <div className="fb-workbench">
        <Palette loading={loading} onAdd={(type) => add(type)} />
        <div className="fb-center">
          <div
            ref={canvas}
            className="fb-canvas"
            data-testid="canvas"
            data-region="canvas"
            tabIndex={0}
            role="group"
            aria-label="Canvas. Press Tab to add a step, c to connect the selected step, arrow keys to move between steps, F6 to leave."
            onDragOver={(event) => {
              if (!event.dataTransfer.types.includes(DRAG_TYPE)) return;
              event.preventDefault();
              event.dataTransfer.dropEffect = "copy";
            }}
            onDrop={(event) => {
              const type = event.dataTransfer.getData(DRAG_TYPE);
              if (!type) return;
              event.preventDefault();
              const point = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY });
              useBuilder.getState().addNode(type, { x: point.x - NODE_WIDTH / 2, y: point.y - 24 });
              canvas.current?.focus();
            }}
          >
            <ReactFlow<StepNode, WireEdge>
              nodes={nodes}
              edges={styledEdges}
              nodeTypes={NODE_TYPES}
              edgeTypes={EDGE_TYPES}
              onNodesChange={useBuilder.getState().changeNodes}
              onEdgesChange={useBuilder.getState().changeEdges}
              onNodeDragStart={beginDrag}
              onNodeDragStop={beginDrag}
              onSelectionDragStart={beginDrag}
              onSelectionDragStop={beginDrag}
              onConnect={onConnect}
              isValidConnection={isValid}
              onConnectEnd={(_, state) => {
                if (state.isValid !== false || !state.fromHandle || !state.toHandle) return;
                const out = state.fromHandle.type === "source";
                const [from, to] = out ? [state.fromHandle, state.toHandle] : [state.toHandle, state.fromHandle];
                const problem =
                  from.type === to.type
                    ? "Wires go from an output to an input."
                    : wireProblem(
                        { source: from.nodeId, sourceHandle: from.id, target: to.nodeId, targetHandle: to.id },
                        useBuilder.getState(),
                      );
                if (problem) say(problem, "error");
              }}
              deleteKeyCode={null}
              multiSelectionKeyCode={["Shift", "Control", "Meta"]}
              connectionRadius={22}
              connectOnClick={false}
              snapToGrid
              snapGrid={SNAP}
              minZoom={0.2}
              maxZoom={2}
              panOnScroll
              zoomOnDoubleClick={false}
              elevateEdgesOnSelect
              onlyRenderVisibleElements={nodes.length > 200}
              ariaLabelConfig={ARIA}
            >
              <Background variant={BackgroundVariant.Dots} gap={24} size={1.4} />
              <Controls showInteractive={false} position="bottom-left" />
              {nodes.length > MINIMAP_FROM ? <MiniMap pannable zoomable position="bottom-right" style={MINIMAP} /> : null}
              <FirstLook loading={loading} unplaced={unplaced} />
              {!loading && nodes.length === 0 ? (
                <FlowPanel position="top-center" className="fb-first">
                  <button type="button" onClick={() => openPanel("search")}>
                    <Icon name="plus" size={26} />
                    <strong>Add first step</strong>
                  </button>
                  <p>
                    or drag one from the left, or press <kbd>Tab</kbd>
                  </p>
                </FlowPanel>
              ) : null}
            </ReactFlow>
            {loading ? (
              <div className="fb-canvas-skeleton" aria-hidden="true">
                <span />
                <span />
                <span />
              </div>
            ) : null}
            {ui.toast ? (
              <div className="fb-toast" data-kind={ui.toast.kind} role={ui.toast.kind === "error" ? "alert" : "status"}>
                <Icon name={ui.toast.kind === "error" ? "alert" : "check"} size={15} />
                <span>{ui.toast.text}</span>
                <button type="button" aria-label="Dismiss" onClick={ui.hush}>
                  <Icon name="close" size={13} />
                </button>
              </div>
            ) : null}
            <Problems
              onPick={(id) => {
                useBuilder.getState().select([id]);
                reveal(id);
              }}
            />
          </div>
          {ui.executionId ? (
            <RunPanel
              key={ui.executionId}
              api={api}
              apiBase={apiBase}
              ws={ws}
              executionId={ui.executionId}
              executionUrl={execution_url}
              onClose={() => watch(null)}
            />
          ) : null}
        </div>
        <Inspector
          credentials={credentials}
          schedule={schedule}
          onDuplicate={duplicate}
          onLeave={() => canvas.current?.focus()}
        />
      </div>

      {ui.panel === "search" ? (
        <NodeSearch startsOnly={nodes.length === 0} onAdd={addFromSearch} onClose={() => openPanel(null)} />
      ) : null}
      {ui.panel === "connect" ? <ConnectDialog start={ui.connect} onClose={() => openPanel(null)} /> : null}
      {ui.panel === "shortcuts" ? <Shortcuts onClose={() => openPanel(null)} /> : null}
      {ui.panel === "schedule" ? (
        <SchedulePanel
          api={api}
          workflowId={workflow_id}
          schedule={schedule}
          onClose={() => openPanel(null)}
          onChange={(next) => {
            setSchedule(next);
            say(next ? "Schedule saved" : "Schedule removed");
          }}
        />
      ) : null}
      {ui.panel === "run-input" ? (
        <RunInput
          onClose={() => openPanel(null)}
          onRun={(input) => {
            openPanel(null);
            void run(input);
          }}
        />
      ) : null}
      {conflict ? (
        <Dialog title="Somebody saved before you" onClose={() => setConflict(null)}>
          <div className="fb-form">
            <p>
              {conflict.newest === version
                ? `Name, description or settings were changed after you began. If you save yours on top, your name replaces theirs; `
                : `You edited version ${version}, but version ${conflict.newest} was saved meanwhile. If you save yours on top, both stay in the history; `}
              if you load theirs, your unsaved changes are dropped.
            </p>
            <footer>
              <button type="button" className="fb-btn" onClick={() => setConflict(null)}>
                Keep editing
              </button>
              <span className="fb-spacer" />
              <button
                type="button"
                className="fb-btn"
                onClick={() => {
                  setConflict(null);
                  void load().then(() => say(`Version ${conflict.newest} loaded`));
                }}
              >
                Load version {conflict.newest}
              </button>
              <button
                type="button"
                className="fb-btn fb-btn-primary"
                data-autofocus
                onClick={() => void save(conflict.newest)}
              >
                Save mine as version {conflict.newest + 1}
              </button>
            </footer>
          </div>
        </Dialog>
      ) : null}
    </div>
  );
}

const ARIA = {
  "node.a11yDescription.default": "Press Enter to select this step, Delete to remove it, c to connect it.",
  "node.a11yDescription.keyboardDisabled": "Press Enter to select this step, arrow keys to move it, c to connect it.",
  "edge.a11yDescription.default": "Press Enter to select this wire, Delete to remove it.",
};

function ToolButton({
  icon,
  label,
  hint,
  disabled = false,
  onClick,
}: {
  icon: Parameters<typeof Icon>[0]["name"];
  label: string;
  hint?: string;
  disabled?: boolean;
  onClick: () => void;
}) {
  return (
    <button
      type="button"
      className="fb-btn fb-btn-ghost fb-btn-icon"
      aria-label={label}
      title={hint ? `${label} (${hint})` : label}
      disabled={disabled}
      onClick={onClick}
    >
      <Icon name={icon} size={16} />
    </button>
  );
}

function RunInput({ onRun, onClose }: { onRun: (input: unknown) => void; onClose: () => void }) {
  const [text, setText] = useState("{\n  \n}");
  let value: unknown;
  let problem = "";
  try {
    value = JSON.parse(text);
  } catch (error) {
    problem = (error as Error).message;
  }
  return (
    <Dialog title="Start with input" onClose={onClose}>
      <form
        className="fb-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (!problem) onRun(value);
        }}
      >
        <label className="fb-stack">
          Input (JSON)
          <textarea
            data-autofocus
            className="fb-code"
            rows={8}
            spellCheck={false}
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        </label>
        <p className="fb-form-note" role="status" data-kind={problem ? "error" : "info"}>
          {problem || "Steps read it as {{ input.name }}."}
        </p>
        <footer>
          <button type="button" className="fb-btn" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="fb-btn fb-btn-primary" disabled={Boolean(problem)}>
            Start
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

/** Fit the workflow into the canvas; one that would become too small to read is shown from its beginning. */
function showAll(flow: ReactFlowInstance<StepNode, WireEdge>): void {
  const box = document.querySelector(".fb-canvas")?.getBoundingClientRect();
  const nodes = flow.getNodes();
  if (!box || nodes.length === 0) return;
  const bounds = flow.getNodesBounds(nodes);
  const margin = 48;
  const zoom = Math.min((box.width - 2 * margin) / bounds.width, (box.height - 2 * margin) / bounds.height);
  if (zoom >= FITS) {
    void flow.fitView({ padding: 0.1, maxZoom: 1 });
    return;
  }
  const first = nodes.reduce((best, node) => (node.position.x < best.position.x ? node : best));
  // In height all of it when that fits, else what stands around the first step.
  const fits = bounds.height * READABLE <= box.height - 2 * margin;
  const middle = fits ? bounds.y + bounds.height / 2 : first.position.y + (first.measured?.height ?? 120) / 2;
  void flow.setViewport({ x: margin - bounds.x * READABLE, y: box.height / 2 - middle * READABLE, zoom: READABLE });
}

/** Show the whole workflow once, after it is loaded and measured; never again by itself. */
function FirstLook({ loading, unplaced }: { loading: boolean; unplaced: { current: boolean } }) {
  const ready = useNodesInitialized();
  const flow = useReactFlow<StepNode, WireEdge>();
  const done = useRef(false);
  useEffect(() => {
    if (loading) done.current = false;
    // On an empty canvas the view stays where it is, or the first dropped step would jump away under the mouse.
    else if (useBuilder.getState().nodes.length === 0) done.current = true;
    if (loading || !ready || done.current) return;
    done.current = true;
    if (unplaced.current) {
      useBuilder.getState().layout();
      useBuilder.setState((state) => ({ saved: { nodes: state.nodes, edges: state.edges } }));
      useBuilder.temporal.getState().clear();
    }
    requestAnimationFrame(() => showAll(flow));
  }, [loading, ready, flow, unplaced]);
  return null;
}

/** Wires in the colour of what they carry, and dotted lines where a template reads another step. */
function useStyledEdges(): WireEdge[] {
  const edges = useBuilder((state) => state.edges);
  const types = useBuilder((state) => state.types);
  const nodes = useBuilder((state) => state.nodes);
  const stable = useStable(nodes.map((node) => node.data));
  const run = useUi((state) => (state.executionId ? state.run : null));
  return useMemo(() => {
    const typeOf = shapes({ nodes: useBuilder.getState().nodes, types });
    const flow = (source: string, target: string) => {
      if (!run) return "";
      const from = run.nodes.get(source)?.status;
      const to = run.nodes.get(target)?.status;
      if (from !== "completed" || !to || to === "skipped") return "fb-flow-idle";
      return to === "running" ? "fb-flow-now" : "fb-flow-done";
    };
    const wires = edges.map((edge) => {
      const carries = findOutput(typeOf.get(edge.source), edge.sourceHandle)?.type ?? "ANY";
      const className = `fb-wire fb-wire-${carries.toLowerCase()} ${flow(edge.source, edge.target)}`;
      if (!isBack(edge, typeOf.get(edge.target))) return { ...edge, className };
      return { ...edge, className: `${className} fb-wire-back`, data: { ...edge.data!, returns: true } };
    });
    const wired = new Set(edges.map((edge) => `${edge.source}\n${edge.target}`));
    const seen = new Set<string>();
    for (const link of linksOf(useBuilder.getState().nodes)) {
      const pair = `${link.source}\n${link.target}`;
      if (wired.has(pair) || seen.has(pair)) continue;
      seen.add(pair);
      wires.push({
        id: `template:${link.source}-${link.target}`,
        source: link.source,
        target: link.target,
        sourceHandle: findOutput(typeOf.get(link.source), link.output)?.name ?? DONE,
        targetHandle: EXECUTE_CONDITION,
        selectable: false,
        focusable: false,
        deletable: false,
        reconnectable: false,
        className: `fb-template ${flow(link.source, link.target)}`,
      });
    }
    return wires;
    // `stable` is new exactly when the data of some node is: dragging does not come here.
  }, [edges, types, stable, run]);
}

/** Ask the server for findings a moment after the last change. */
function useValidation(api: Api, ready: boolean): void {
  const nodes = useBuilder((state) => state.nodes);
  const edges = useBuilder((state) => state.edges);
  const rest = useBuilder((state) => state.rest);
  // Selecting and measuring make new node objects; only what would be stored counts.
  const key = useMemo(() => nodes.map((node) => node.data), [nodes]);
  const stable = useStable(key);
  useEffect(() => {
    if (!ready) return;
    const abort = new AbortController();
    let timer = setTimeout(ask, 400);
    function ask() {
      const state = useBuilder.getState();
      if (state.nodes.length === 0) {
        useBuilder.setState({ findings: [] });
        return;
      }
      api.validate(currentDefinition(state), abort.signal).then(
        (body) => useBuilder.setState({ findings: body.findings }),
        () => {
          if (!abort.signal.aborted) timer = setTimeout(ask, 3000); // what is shown is of an older state
        },
      );
    }
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [api, ready, stable, edges, rest]);
}

function useStable<T>(list: T[]): T[] {
  const kept = useRef(list);
  if (list.length !== kept.current.length || list.some((item, index) => item !== kept.current[index])) kept.current = list;
  return kept.current;
}

/** Fill the window below the page's header, whatever its height is. */
function useFullHeight(root: React.RefObject<HTMLDivElement | null>): void {
  useLayoutEffect(() => {
    const fit = () => {
      const box = root.current;
      if (!box) return;
      const top = box.getBoundingClientRect().top + scrollY;
      box.style.height = `${Math.max(520, innerHeight - top)}px`;
    };
    fit();
    addEventListener("resize", fit);
    return () => removeEventListener("resize", fit);
  });
}

function editable(target: EventTarget | null): boolean {
  const element = target as HTMLElement | null;
  return Boolean(element?.closest?.("input, textarea, select, [contenteditable='true']"));
}

interface KeyboardDeps {
  root: React.RefObject<HTMLDivElement | null>;
  canvas: React.RefObject<HTMLDivElement | null>;
  save: () => Promise<boolean>;
  run: () => Promise<void>;
  duplicate: () => void;
  selection: () => Clip;
  removeSelection: () => boolean;
  tidyUp: () => void;
  reveal: (id: string) => void;
}

function useKeyboard(deps: KeyboardDeps): void {
  const latest = useRef(deps);
  latest.current = deps;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const { root, canvas, save, run, duplicate, selection, removeSelection, tidyUp, reveal } = latest.current;
      const ui = useUi.getState();
      const state = useBuilder.getState();
      const key = event.key.toLowerCase();
      const command = event.ctrlKey || event.metaKey;
      if (command && key === "s") {
        event.preventDefault();
        if (isDirty(state)) void save();
        else ui.say("Nothing to save: all changes are stored.");
        return;
      }
      if (ui.panel !== null || document.querySelector("dialog[open]")) return;
      if (event.key === "F6") {
        event.preventDefault();
        nextRegion(root.current, event.shiftKey);
        return;
      }
      if (command && event.key === "Enter") {
        event.preventDefault();
        void run();
        return;
      }
      if (editable(event.target)) return;
      const target = event.target as HTMLElement;
      const inCanvas = canvas.current?.contains(target) ?? false;
      const onCanvas = target === canvas.current || target === document.body;
      const act = (work: () => void) => {
        event.preventDefault();
        work();
      };
      if (command && key === "z") return act(event.shiftKey ? redo : undo);
      if (command && key === "y") return act(redo);
      if (command && key === "d") return act(duplicate);
      if (command && key === "a" && (inCanvas || onCanvas)) return act(() => state.select(state.nodes.map((node) => node.id)));
      if (command && (key === "c" || key === "x") && !String(getSelection() ?? "")) {
        const clip = selection();
        if (clip.nodes.length === 0) return;
        return act(() => {
          localStorage.setItem(CLIPBOARD, JSON.stringify(clip));
          if (key === "x") removeSelection();
          else ui.say(`${count(clip.nodes.length, "step")} copied`);
        });
      }
      if (command && key === "v") {
        const text = localStorage.getItem(CLIPBOARD);
        if (!text) return;
        return act(() => state.insert(JSON.parse(text) as Clip, { x: 48, y: 64 }));
      }
      if (command || event.altKey) return;
      if (event.key === "?") return act(() => ui.openPanel("shortcuts"));
      if (event.shiftKey && key === "t") return act(tidyUp);
      if (event.key === "Delete" || event.key === "Backspace") {
        if (inCanvas || onCanvas) act(() => void (removeSelection() && canvas.current?.focus()));
        return;
      }
      if (event.key === "Tab" && !event.shiftKey && onCanvas) return act(() => ui.openPanel("search"));
      if (!inCanvas && !onCanvas) return;
      const focusedNode = target.closest<HTMLElement>(".react-flow__node")?.dataset.id;
      const selected = state.nodes.filter((node) => node.selected);
      if (key === "c") {
        const source = focusedNode ?? selected[0]?.id;
        if (state.nodes.length < 2) return ui.say("Add a second step, then connect the two.");
        return act(() => ui.openPanel("connect", { connect: source ? { source } : {} }));
      }
      if (key === "n" || key === "a") return act(() => ui.openPanel("search", { after: null }));
      if (event.key === "Enter" && (focusedNode ?? selected[0])) {
        if (focusedNode) state.select([focusedNode]);
        return act(() =>
          requestAnimationFrame(() =>
            root.current
              ?.querySelector<HTMLElement>(".fb-inspector-body input, .fb-inspector-body select, .fb-inspector-body textarea")
              ?.focus(),
          ),
        );
      }
      if (event.key === "Escape") {
        if (selected.length > 0) state.select([]);
        canvas.current?.focus();
        return;
      }
      if (event.key.startsWith("Arrow") && onCanvas) {
        const next = neighbour(state.nodes, selected.at(-1), event.key);
        if (next) act(() => (state.select([next.id]), reveal(next.id)));
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

/** Move the focus to the next of palette, canvas, inspector and toolbar. */
function nextRegion(root: HTMLElement | null, back: boolean): void {
  const regions = [...(root?.querySelectorAll<HTMLElement>("[data-region]") ?? [])];
  if (regions.length === 0) return;
  const here = regions.findIndex((region) => region.contains(document.activeElement));
  const next = regions[(here + (back ? -1 : 1) + regions.length) % regions.length]!;
  if (next.tabIndex >= 0) next.focus();
  else next.querySelector<HTMLElement>("button:not(:disabled), input, select, textarea, a")?.focus();
}

/** Return the nearest step in the direction of an arrow key, or the first one when nothing is selected. */
function neighbour(nodes: readonly StepNode[], from: StepNode | undefined, key: string): StepNode | undefined {
  if (!from) return nodes[0];
  const [dx, dy] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key] ?? [0, 0];
  let best: StepNode | undefined;
  let bestScore = Number.POSITIVE_INFINITY;
  for (const node of nodes) {
    const x = node.position.x - from.position.x;
    const y = node.position.y - from.position.y;
    const along = x * dx! + y * dy!;
    const across = Math.abs(x * dy!) + Math.abs(y * dx!);
    if (node.id === from.id || along <= 0) continue;
    const score = along + across * 2;
    if (score < bestScore) {
      best = node;
      bestScore = score;
    }
  }
  return best;
}
