/**
 * The connection of a page to `/ws/monitor`. There is one per address, whatever the number of executions and lists on
 * the page: it is opened when somebody first watches, and closed when nobody does any more.
 */

import type { ExecutionFrame, MonitorFrame, OverviewFrame } from "../contract";

export type ConnectionStatus = "connecting" | "connected" | "disconnected" | "error";

/** What is known about the connection itself. */
export interface ConnectionState {
  readonly status: ConnectionStatus;
  readonly error: string | null;
  /** How often it was lost, or could not be opened, since it stood last. */
  readonly failures: number;
}

/** Something that wants every event of one execution. */
export interface Follower {
  readonly executionId: string;
  /** The newest seq that it has with nothing missing before it: the next subscription begins behind it. */
  readonly lastSeq: number;
  /** A subscription was asked for; what comes before its `hello` belongs to an older one. */
  subscribed(): void;
  receive(frame: ExecutionFrame): void;
  /** A message was lost, perhaps one for it. */
  doubt(): void;
}

/** Close codes after which a new attempt is useless, with what to say. */
const FINAL_CODES: Readonly<Record<number, string | null>> = {
  1000: null,
  1001: null,
  1003: "The server did not understand this page. Reload it.",
  1008: "You may not watch this. Reload the page and sign in.",
  4403: "You are not signed in any more. Reload the page and sign in.",
};
const REASONS: Readonly<Record<number, string>> = {
  4429: "Too many live pages are open. Close some of them; this one tries again.",
};
const NO_ANSWER = "The server does not answer. Trying again.";
const NOT_JSON = "The server sent a message that is not JSON; what it left out is read again.";

const LONGEST_PAUSE_MS = 30_000;
const OPEN_MS = 10_000;
const PING_MS = 25_000;
const SILENCE_MS = 75_000;
/** How long a connection that nobody needs is kept, for whoever comes next. */
const IDLE_MS = 250;

const CLOSED: ConnectionState = { status: "disconnected", error: null, failures: 0 };

export class Connection {
  state: ConnectionState = CLOSED;
  private readonly followers = new Map<string, Follower>();
  private readonly lists = new Set<(frame: OverviewFrame) => void>();
  private readonly listeners = new Set<() => void>();
  private socket: WebSocket | null = null;
  private pauses = 0;
  private heardAt = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private idle: ReturnType<typeof setTimeout> | undefined;
  private opening: ReturnType<typeof setTimeout> | undefined;
  private pulse: ReturnType<typeof setInterval> | undefined;

  /** `base` is the path of the sockets, `interval` the milliseconds before the first new attempt; they double up to 30 s. */
  constructor(
    private readonly base: string,
    private readonly interval: number,
  ) {
    // The network is back, or somebody looks at the page again: no need to wait for the next attempt.
    const hurry = () => {
      if (this.retry === undefined || document.visibilityState === "hidden") return;
      clearTimeout(this.retry);
      this.open();
    };
    window.addEventListener("online", hurry);
    document.addEventListener("visibilitychange", hurry);
  }

  /** Subscribe to the events of an execution, now and after every loss of the connection. One follower per execution. */
  follow(follower: Follower): void {
    this.followers.set(follower.executionId, follower);
    this.need();
    this.subscribe(follower);
  }

  /** End a subscription; one that the server ended itself needs no word to it. */
  unfollow(follower: Follower, ended = false): void {
    if (this.followers.get(follower.executionId) !== follower) return;
    this.followers.delete(follower.executionId);
    if (!ended) this.send({ type: "unsubscribe", execution_id: follower.executionId });
    this.release();
  }

  /** Ask for everything behind `follower.lastSeq`; what was asked for before ends with it. */
  subscribe(follower: Follower): void {
    const asked = { type: "subscribe", execution_id: follower.executionId, after: follower.lastSeq, what: "logs" };
    if (this.send(asked)) follower.subscribed();
  }

  /** Give the list of executions and the tiles to `use`: all of it at first, then what changes. Returns a function that ends it. */
  overview(use: (frame: OverviewFrame) => void): () => void {
    if (this.lists.size > 0) this.send({ type: "overview", on: false });
    this.lists.add(use);
    this.need();
    this.send({ type: "overview", on: true });
    return () => {
      if (!this.lists.delete(use)) return;
      if (this.lists.size === 0) this.send({ type: "overview", on: false });
      this.release();
    };
  }

  /** Call `changed` whenever `state` is another one. Returns a function that ends it. */
  listen(changed: () => void): () => void {
    this.listeners.add(changed);
    return () => void this.listeners.delete(changed);
  }

  /** Open a new connection at once, whatever the old one did. */
  reconnect(): void {
    this.pauses = 0;
    this.drop();
    this.set(CLOSED);
    this.open();
  }

  private need(): void {
    clearTimeout(this.idle);
    if (!this.socket && this.retry === undefined) this.open();
  }

  private release(): void {
    if (this.followers.size + this.lists.size > 0) return;
    clearTimeout(this.idle);
    this.idle = setTimeout(() => {
      this.pauses = 0;
      this.drop();
      this.set(CLOSED);
    }, IDLE_MS);
  }

  private open(): void {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${this.base}/monitor`);
    this.socket = socket;
    this.retry = undefined;
    if (this.state.status === "disconnected") this.set({ ...CLOSED, status: "connecting" });
    this.opening = setTimeout(() => this.lost(socket, 1006), OPEN_MS);
    socket.addEventListener("open", () => {
      if (this.socket === socket) this.opened();
    });
    socket.addEventListener("message", (event) => {
      if (this.socket === socket) this.hear(String(event.data));
    });
    socket.addEventListener("close", (event) => this.lost(socket, event.code));
  }

  private opened(): void {
    clearTimeout(this.opening);
    this.heardAt = Date.now();
    this.pulse = setInterval(() => this.beat(), PING_MS);
    this.set({ status: "connected", error: null, failures: 0 });
    for (const follower of this.followers.values()) this.subscribe(follower);
    if (this.lists.size > 0) this.send({ type: "overview", on: true });
  }

  private lost(socket: WebSocket, code: number): void {
    if (this.socket !== socket) return;
    this.drop();
    const final = FINAL_CODES[code];
    if (final !== undefined) {
      this.set({ status: final ? "error" : "disconnected", error: final, failures: 0 });
      return;
    }
    // The first loss is an interruption; when a new attempt fails as well, say so.
    const failures = this.state.failures + 1;
    const error = REASONS[code] ?? (failures > 1 ? NO_ANSWER : null);
    const pause = this.interval * 2 ** this.pauses++ * (0.75 + Math.random() / 2);
    this.retry = setTimeout(() => this.open(), Math.min(LONGEST_PAUSE_MS, pause));
    this.set({ status: error ? "error" : "connecting", error, failures });
  }

  /** Forget the socket and all that waits for it. */
  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    clearTimeout(this.retry);
    this.retry = undefined;
    clearTimeout(this.opening);
    clearInterval(this.pulse);
    socket?.close(1000);
  }

  private beat(): void {
    if (Date.now() - this.heardAt > SILENCE_MS) return this.lost(this.socket!, 1006);
    this.pauses = 0;
    this.send({ type: "ping" });
  }

  private hear(text: string): void {
    this.heardAt = Date.now();
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      this.set({ ...this.state, error: NOT_JSON });
      for (const follower of [...this.followers.values()]) follower.doubt();
      return;
    }
    for (const frame of Array.isArray(parsed) ? parsed : [parsed]) {
      if (frame && typeof frame === "object") this.pass(frame as MonitorFrame);
    }
  }

  private pass(frame: MonitorFrame): void {
    if (frame.type === "overview") {
      this.pauses = 0;
      for (const use of [...this.lists]) use(frame);
    } else if ("execution_id" in frame) {
      if ("seq" in frame) this.pauses = 0;
      this.followers.get(frame.execution_id)?.receive(frame);
    } else if (frame.type === "error") {
      this.set({ ...this.state, error: frame.reason });
    }
  }

  private send(message: object): boolean {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  private set(state: ConnectionState): void {
    this.state = state;
    for (const changed of [...this.listeners]) changed();
  }
}

const connections = new Map<string, Connection>();

/** Return the page's connection to the sockets under `base`, the same for everybody who asks alike. */
export function connectionTo(base = "/ws", interval = 500): Connection {
  const key = `${interval} ${base}`;
  let connection = connections.get(key);
  if (!connection) connections.set(key, (connection = new Connection(base, interval)));
  return connection;
}
