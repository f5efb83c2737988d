/**
 * The names that the islands use for what the HTTP API and the socket carry; they import from here only.
 *
 * The shapes themselves are written by the server into api-types.ts. By hand are what the API keeps as free JSON (a
 * definition), and what only the socket sends.
 */

import type { components } from "./api-types";

type Schemas = components["schemas"];
/** What the islands need of a shape, and the rest where it is known: they make some of these themselves. */
type Known<T, K extends keyof T> = Pick<T, K> & Partial<T>;

export type PortType = Schemas["OutputOut"]["type"];
/** An output; `inside` of a loop it exists once per turn: what it leads to is the body. */
export type OutputPort = Known<Schemas["OutputOut"], "name" | "slug" | "type">;
/** An input. Without a `handle` the value can only be typed in; one that `returns` closes the body of a loop. */
export type InputPort = Known<Schemas["InputOut"], "name" | "slug" | "type" | "accepts" | "takes_many" | "kinds" | "whole">;
export type NodeType = Omit<Schemas["NodeTypeOut"], "inputs" | "outputs"> & {
  inputs: InputPort[];
  outputs: OutputPort[];
};

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

export type Schedule = Schemas["ScheduleOut"];
export type SchedulePreview = Schemas["Preview"];
export type Workflow = Known<
  Omit<Schemas["WorkflowOut"], "definition">,
  "id" | "name" | "description" | "status" | "version" | "active_version" | "schedule"
> & { definition: WorkflowDefinition };
export type WorkflowSummary = Known<Schemas["WorkflowSummary"], "id" | "name" | "status">;
export type Finding = Known<Schemas["FindingOut"], "code" | "severity" | "message" | "node_id" | "field" | "hint">;
export type Conflict = Schemas["Conflict"];
export type Credential = Known<Schemas["CredentialOut"], "id" | "name" | "kind">;

export type Status = Schemas["Summary"]["status"] | Schemas["NodeOut"]["status"] | Schemas["PhaseOut"]["status"];
export type Progress = Schemas["Progress"];
/** Something that an execution waits for. Times are ISO 8601; `until` is null when nothing ends the wait by itself. */
export type Wait = Schemas["Wait"];
export type ExecutionSummary = Omit<Schemas["Summary"], "status" | "version" | "queued_at" | "held_reason"> & {
  status: Status;
  version: number | null;
  queued_at: string | null;
};
export type NodeRunSummary = Known<
  Schemas["NodeOut"],
  "node_id" | "name" | "type" | "status" | "attempt" | "phase" | "duration_ms" | "error" | "credits"
>;
export type PhaseSummary = Schemas["PhaseOut"];
export type ExecutionDetail = ExecutionSummary &
  Omit<Schemas["Detail"], keyof Schemas["Summary"] | "nodes" | "definition" | "recording_note"> & {
    nodes: NodeRunSummary[];
    definition: WorkflowDefinition;
  };

export type Timeline = Schemas["TimelineOut"];
export type Bar = Schemas["Bar"];
export type Turn = Schemas["Turn"];
export type Celery = Schemas["CeleryOut"];
export type Chord = Schemas["ChordOut"];
export type CeleryTask = Schemas["TaskOut"];
export type Moment = Schemas["MomentOut"];
export type ArtifactPage = Schemas["ArtifactPage"];
export type Artifact = Schemas["ArtifactOut"];
export type NodeDetail = Schemas["NodeDetail"];

export type LogLevel = "debug" | "info" | "warning" | "error";

type Log = Schemas["LogOut"];
/** One event, as the API and the socket carry it. */
export type ExecutionLog = Omit<Log, "level" | "error_message" | "attempt" | "status" | "data"> & { level: LogLevel } & Partial<
    Pick<Log, "error_message" | "attempt" | "status" | "data">
  >;

export type LogPage = Omit<Schemas["LogPage"], "logs" | "next_after" | "status"> & {
  logs: ExecutionLog[];
  status: Status;
};

/** Who else watches an execution: up to 20 names, and how many there are. */
export interface Watchers {
  names: readonly string[];
  count: number;
}

/** What the socket says about one execution; events come in the order of their seq. */
export type ExecutionFrame =
  | { type: "hello"; execution_id: string; status: Status; last_seq: number; progress?: Progress }
  | ({ type: "log" | "node" | "status" } & ExecutionLog)
  | { type: "resync"; execution_id: string }
  | ({ type: "watchers"; execution_id: string } & Watchers)
  | { type: "error"; execution_id: string; code: number; reason: string }
  | { type: "end"; execution_id: string; status: Status };

/** Executions that are running or recent, and the tiles: all of them when `full`, else what changed. */
export interface OverviewFrame {
  type: "overview";
  full?: boolean;
  executions: ExecutionSummary[];
  removed: string[];
  tiles: Record<string, unknown>;
}

export type MonitorFrame =
  | ExecutionFrame
  | OverviewFrame
  | { type: "hello" | "heartbeat" | "pong" }
  | { type: "error"; code: number; reason: string };

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
