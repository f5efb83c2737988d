/** The shapes that the HTTP API and the socket carry. One place; the islands import from here only. */

export type PortType =
  | "STRING"
  | "NUMBER"
  | "BOOLEAN"
  | "SELECT"
  | "JSON"
  | "LIST"
  | "FILE"
  | "CREDENTIAL"
  | "BROWSER_INSTANCE"
  | "CONDITIONAL"
  | "ANY";

export interface OutputPort {
  name: string;
  slug: string;
  type: PortType;
  /** An output of a loop that exists once per turn: what it leads to is the body. */
  inside?: boolean;
}

export interface InputPort extends OutputPort {
  required?: boolean;
  default?: unknown;
  options?: string[];
  /** false: the value can only be typed in, never wired. */
  handle?: boolean;
  variant?: "text" | "textarea" | "json" | "password";
  placeholder?: string;
  help?: string;
  min?: number | null;
  max?: number | null;
  /** Output types that may be wired into it. */
  accepts: PortType[];
  /** Several wires may lead here. */
  takes_many: boolean;
  /** A wire from the body of a loop comes back here; such a wire is no circle. */
  returns?: boolean;
}

export interface NodeType {
  type: string;
  label: string;
  group: string;
  credits: number;
  summary: string;
  effect: string;
  start: boolean;
  /** Name of the input whose value the canvas shows under the label. */
  subtitle: string;
  inputs: InputPort[];
  outputs: OutputPort[];
}

export const EXECUTE_CONDITION = "Execute Condition";
export const DONE = "Done";

/** Outputs that a step has only while its errors are handed on. */
export const ERROR_OUTPUTS: readonly OutputPort[] = [
  { name: "Error", slug: "error", type: "CONDITIONAL" },
  { name: "Error Message", slug: "error-message", type: "STRING" },
];

/** A node as it is stored. Keys that we do not know are kept. */
export interface StoredNode {
  id: string;
  type: string;
  position?: { x: number; y: number };
  data?: StepData;
  [key: string]: unknown;
}

export type OnError = "fail" | "continue" | "output";

export interface StepData {
  inputs?: Record<string, unknown>;
  label?: string;
  retries?: number;
  timeout_s?: number;
  backoff_s?: number;
  jitter?: boolean;
  /** Error codes that are tried again; empty means all that may pass by themselves. */
  retry_on?: string[];
  on_error?: OnError;
  /** Whether recordings hold the values, or only their hash and size; absent means what the workflow says. */
  record_inputs?: boolean;
  record_outputs?: boolean;
  /** Seconds for which runs with the same inputs take over the result of this step. */
  cache_ttl_s?: number;
  disabled?: boolean;
  [key: string]: unknown;
}

export interface StoredEdge {
  id?: string;
  source: string;
  target: string;
  sourceHandle: string;
  targetHandle: string;
  [key: string]: unknown;
}

export interface WorkflowDefinition {
  nodes: StoredNode[];
  edges: StoredEdge[];
  [key: string]: unknown;
}

export interface Schedule {
  cron: string;
  timezone: string;
  enabled: boolean;
  next_run_at: string | null;
  last_run_at: string | null;
}

export interface SchedulePreview {
  text: string;
  next: string[];
  error: string | null;
}

export interface Workflow {
  id: string;
  name: string;
  description: string;
  status: string;
  definition: WorkflowDefinition;
  version: number;
  active_version: number | null;
  schedule: Schedule | null;
}

export interface WorkflowSummary {
  id: string;
  name: string;
  status: string;
  active_version?: number | null;
}

export interface Finding {
  code: string;
  severity: "error" | "warning";
  message: string;
  node_id: string | null;
  field: string | null;
  hint: string | null;
  edge_id?: string | null;
  /** The exact place in the JSON, the offset in the text there (from 0) and its line (from 1). */
  path?: string | null;
  position?: number | null;
  line?: number | null;
}

export interface Credential {
  id: string;
  name: string;
  kind: string;
}

export type Status =
  | "queued"
  | "running"
  | "retrying"
  | "waiting"
  | "paused"
  | "completed"
  | "completed_with_errors"
  | "failed"
  | "skipped"
  | "cancelled";

export interface Progress {
  done: number;
  total: number;
}

/** Something that an execution waits for. Times are ISO 8601; `until` is null when nothing ends the wait by itself. */
export interface Wait {
  node_id: string;
  name: string;
  kind: "timer" | "approval" | "children";
  since: string | null;
  until: string | null;
  node_type: string;
  /** Where an approval can be given without a login. */
  link: string | null;
  title: string;
  message: string;
  /** Child executions that have ended, of all; null where there are none. */
  done: number | null;
  total: number | null;
}

export interface ExecutionSummary {
  id: string;
  workflow_id: string;
  workflow_name: string;
  version: number | null;
  status: Status;
  trigger: string;
  queued_at: string | null;
  started_at: string | null;
  finished_at: string | null;
  duration_ms: number | null;
  credits: number;
  error: string | null;
  error_node: string | null;
  error_node_name: string | null;
  progress: Progress;
  last_seq: number;
  /** The limit that keeps a pending execution from starting. */
  held_by: string | null;
  parent_id: string | null;
  waiting: Wait[];
}

export interface NodeRunSummary {
  node_id: string;
  name: string;
  type: string;
  status: Status;
  attempt: number;
  phase: number;
  duration_ms: number | null;
  error: string | null;
  credits: number;
}

export interface PhaseSummary {
  index: number;
  status: Status;
  node_count: number;
  duration_ms: number | null;
}

export interface ExecutionDetail extends ExecutionSummary {
  phases: PhaseSummary[];
  nodes: NodeRunSummary[];
  /** What people call each node, by id; also those that have not run. */
  node_names: Record<string, string>;
  definition: WorkflowDefinition;
  recording_id: string | null;
  /** The id of the loop whose body this execution is one turn of. */
  scope: string | null;
  /** The loop around each node that is inside of one, by id. */
  loops: Record<string, string>;
}

export type LogLevel = "debug" | "info" | "warning" | "error";

export interface ExecutionLog {
  id: string;
  execution_id: string;
  seq: number;
  event: string;
  node_id: string | null;
  step_name: string;
  step_type: string;
  input_data: unknown;
  output_data: unknown;
  duration_ms: number;
  timestamp: string;
  error_message?: string | null;
  level: LogLevel;
  message: string;
  attempt?: number | null;
  status?: string | null;
  data?: Record<string, unknown>;
}

export interface LogPage {
  logs: ExecutionLog[];
  last_seq: number;
  status: Status;
}

export type Frame =
  | { type: "hello"; execution_id: string; status: Status; last_seq: number; progress?: Progress }
  | ({ type: "log" | "node" | "status" } & ExecutionLog)
  | { type: "heartbeat" | "pong" | "resync" }
  | { type: "end"; status: Status };

const TERMINAL: ReadonlySet<string> = new Set([
  "completed",
  "completed_with_errors",
  "failed",
  "skipped",
  "cancelled",
]);

/** Whether a status has no way out. */
export function isTerminal(status: string | null | undefined): boolean {
  return status != null && TERMINAL.has(status);
}
