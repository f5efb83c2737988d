/** One function per endpoint; every failure is an ApiError with the server's own sentence. */

import type {
  ArtifactPage,
  Celery,
  Credential,
  ExecutionDetail,
  ExecutionSummary,
  Finding,
  LogPage,
  Moment,
  NodeDetail,
  NodeType,
  Schedule,
  SchedulePreview,
  Status,
  Timeline,
  Workflow,
  WorkflowDefinition,
  WorkflowSummary,
} from "./contract";

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly body: unknown = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** Return the value of a cookie, or "". */
export function cookie(name: string): string {
  for (const part of document.cookie.split("; ")) {
    if (part.startsWith(`${name}=`)) return decodeURIComponent(part.slice(name.length + 1));
  }
  return "";
}

/** By how much the clock of the server is ahead of ours, in milliseconds. */
let ahead = 0;

/** The header has whole seconds and the answer was on its way: less than two seconds tell nothing. */
function compareClocks(date: string | null): void {
  const difference = date ? Date.parse(date) + 500 - Date.now() : 0;
  ahead = Math.abs(difference) > 2000 ? difference : 0;
}

/** Return what the clock of the server says now, in milliseconds since 1970, as far as its last answer tells. */
export function serverNow(): number {
  return Date.now() + ahead;
}

function sentence(body: unknown, status: number): string {
  const detail = (body as { detail?: unknown } | null)?.detail;
  if (typeof detail === "string" && detail) return detail;
  if (Array.isArray(detail) && detail.length > 0) {
    return detail
      .map((item: { msg?: string; loc?: unknown[] }) => [item.loc?.at(-1), item.msg].filter(Boolean).join(": "))
      .join("; ");
  }
  if (status === 401 || status === 403) return "You are not signed in any more. Reload the page and sign in.";
  return `The server answered ${status}.`;
}

export type Tagged<T> = T & { etag: string | null };

export class Api {
  constructor(private readonly base: string) {}

  private async send<T>(
    method: string,
    path: string,
    body?: unknown,
    options: { headers?: Record<string, string>; signal?: AbortSignal; seen?: (headers: Headers) => void } = {},
  ): Promise<T> {
    const headers: Record<string, string> = { Accept: "application/json", ...options.headers };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (method !== "GET") headers["X-CSRFToken"] = cookie("csrftoken");
    let response: Response;
    try {
      response = await fetch(this.base + path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: "same-origin",
        signal: options.signal,
      });
    } catch (error) {
      if ((error as Error).name === "AbortError") throw error;
      throw new ApiError("The server cannot be reached. Check that it is running, then try again.", 0);
    }
    compareClocks(response.headers.get("Date"));
    const text = await response.text();
    let parsed: unknown = null;
    try {
      parsed = text ? JSON.parse(text) : null;
    } catch {
      if (response.ok) throw new ApiError("The server's answer is not JSON.", response.status);
    }
    if (!response.ok) throw new ApiError(sentence(parsed, response.status), response.status, parsed);
    options.seen?.(response.headers);
    return parsed as T;
  }

  /** Send and return the answer with its ETag, null where something on the way took it. */
  private async tagged<T>(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Tagged<T>> {
    let etag: string | null = null;
    const answer = await this.send<T>(method, path, body, { headers, seen: (found) => (etag = found.get("ETag")) });
    return { ...answer, etag };
  }

  nodeTypes(): Promise<NodeType[]> {
    return this.send("GET", "/node-types");
  }

  credentials(): Promise<Credential[]> {
    return this.send<Credential[] | { items: Credential[] }>("GET", "/credentials").then(items);
  }

  workflows(): Promise<WorkflowSummary[]> {
    return this.send<WorkflowSummary[] | { items: WorkflowSummary[] }>("GET", "/workflows?limit=100").then(items);
  }

  workflow(id: string): Promise<Tagged<Workflow>> {
    return this.tagged("GET", `/workflows/${id}`);
  }

  /** Save what was begun from `base_version` and `etag`; "*" replaces a name that somebody else gave it, too. */
  save(
    id: string,
    body: { name: string; description?: string; definition: WorkflowDefinition; base_version: number },
    etag: string | null,
  ): Promise<Tagged<{ id: string; version: number; findings: Finding[] }>> {
    return this.tagged("PUT", `/workflows/${id}`, body, etag === null ? undefined : { "If-Match": etag });
  }

  validate(definition: WorkflowDefinition, signal?: AbortSignal): Promise<{ findings: Finding[] }> {
    return this.send("POST", "/workflows/validate", { definition }, { signal });
  }

  activate(id: string): Promise<{ status: string; active_version: number | null }> {
    return this.send("POST", `/workflows/${id}/activate`, {});
  }

  setSchedule(id: string, body: Pick<Schedule, "cron" | "timezone" | "enabled">): Promise<Schedule> {
    return this.send("PUT", `/workflows/${id}/schedule`, body);
  }

  clearSchedule(id: string): Promise<unknown> {
    return this.send("DELETE", `/workflows/${id}/schedule`);
  }

  previewSchedule(cron: string, timezone: string, signal?: AbortSignal): Promise<SchedulePreview> {
    const query = new URLSearchParams({ cron, timezone, count: "5" });
    return this.send("GET", `/schedules/preview?${query}`, undefined, { signal });
  }

  start(
    body: { workflow_id: string; input?: unknown; version?: number | "draft"; trigger: "manual" | "test" },
    key: string,
  ): Promise<{ execution_id: string; status: Status }> {
    return this.send("POST", "/executions", body, { headers: { "Idempotency-Key": key } });
  }

  /** Start the demo, which needs no workflow of one's own. For an `Api` without a base: its address is not below the API. */
  startDemo(): Promise<{ execution_id: string }> {
    return this.send("POST", "/executions/demo/start-streaming", {});
  }

  executions(query: Record<string, string>, signal?: AbortSignal): Promise<{ items: ExecutionSummary[]; count: number }> {
    return this.send("GET", `/executions?${new URLSearchParams(query)}`, undefined, { signal });
  }

  execution(id: string, signal?: AbortSignal): Promise<ExecutionDetail> {
    return this.send("GET", `/executions/${id}`, undefined, { signal });
  }

  logs(id: string, after: number, limit = 1000, signal?: AbortSignal): Promise<LogPage> {
    return this.send("GET", `/executions/${id}/logs?after=${after}&limit=${limit}`, undefined, { signal });
  }

  timeline(id: string, offset: number, limit: number, signal?: AbortSignal): Promise<Timeline> {
    return this.send("GET", `/executions/${id}/timeline?offset=${offset}&limit=${limit}`, undefined, { signal });
  }

  celery(id: string, offset: number, limit: number, signal?: AbortSignal): Promise<Celery> {
    return this.send("GET", `/executions/${id}/celery?offset=${offset}&limit=${limit}`, undefined, { signal });
  }

  state(id: string, seq: number, signal?: AbortSignal): Promise<Moment> {
    return this.send("GET", `/executions/${id}/state?seq=${seq}`, undefined, { signal });
  }

  artifacts(id: string, offset: number, limit: number, signal?: AbortSignal): Promise<ArtifactPage> {
    return this.send("GET", `/executions/${id}/artifacts?offset=${offset}&limit=${limit}`, undefined, { signal });
  }

  node(id: string, nodeId: string, signal?: AbortSignal): Promise<NodeDetail> {
    return this.send("GET", `/executions/${id}/nodes/${encodeURIComponent(nodeId)}`, undefined, { signal });
  }

  retry(id: string, fromFailed: boolean): Promise<{ execution_id: string; status: Status }> {
    return this.send("POST", `/executions/${id}/retry`, { from_failed: fromFailed });
  }

  cancel(id: string): Promise<unknown> {
    return this.send("POST", `/executions/${id}/cancel`, {});
  }

  pause(id: string): Promise<unknown> {
    return this.send("POST", `/executions/${id}/pause`, {});
  }

  resume(id: string): Promise<unknown> {
    return this.send("POST", `/executions/${id}/resume`, {});
  }

  decide(id: string, nodeId: string, body: { approved: boolean; comment: string }): Promise<unknown> {
    return this.send("POST", `/executions/${id}/approvals/${encodeURIComponent(nodeId)}`, body);
  }
}

function items<T>(body: T[] | { items: T[] }): T[] {
  return Array.isArray(body) ? body : body.items;
}

/** Return a key that makes one press of a button one execution. Works on plain http, unlike randomUUID. */
export function idempotencyKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
