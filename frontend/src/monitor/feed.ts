/** What the page knows of one execution: the newest lines, and what all of them add up to. Shared by all who look at it. */

import type { Api } from "../api";
import type { ExecutionFrame, ExecutionLog, Progress, Status, Watchers } from "../contract";
import { EMPTY_RUN, fold, mergeLogs, type RunState } from "./logs";
import { connectionTo, type Connection, type ConnectionStatus, type Follower } from "./socket";

export interface FeedView {
  readonly logs: readonly ExecutionLog[];
  /** How many events there are before the first of `logs`. */
  readonly older: number;
  /** What the events say so far: status of the run and of every node. */
  readonly run: RunState;
  /** The newest seq with nothing missing before it. */
  readonly lastSeq: number;
  /** What the server said at the start and at the end. */
  readonly serverStatus: Status | null;
  readonly progress: Progress | null;
  /** Who else watches, as far as the connection stands. */
  readonly watchers: Watchers;
  /** The server said that nothing will follow. */
  readonly ended: boolean;
  readonly connectionStatus: ConnectionStatus;
  readonly error: string | null;
}

export const ALONE: Watchers = { names: [], count: 0 };

export const BLANK: FeedView = {
  logs: [],
  older: 0,
  run: EMPTY_RUN,
  lastSeq: 0,
  serverStatus: null,
  progress: null,
  watchers: ALONE,
  ended: false,
  connectionStatus: "disconnected",
  error: null,
};

/** Lines that are loaded at once. */
const PAGE = 1000;

const REASONS: Readonly<Record<number, string>> = {
  1003: "This is not the id of an execution.",
  1008: "This execution does not exist, or it belongs to somebody else.",
  4403: "You may not watch this execution any more.",
};

export class Feed implements Follower {
  view: FeedView = BLANK;
  lastSeq = 0;
  private waiting: ExecutionLog[] = [];
  private readonly listeners = new Map<() => void, number>();
  private loaded = 0;
  private awaitsHello = true;
  private doubted = -1;
  private refused: string | null = null;
  private problem: string | null = null;
  private frame = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private silence: (() => void) | null = null;

  constructor(
    readonly connection: Connection,
    readonly executionId: string,
    private readonly key: string,
  ) {}

  /**
   * Call `changed` with every new `view`, at most once per frame of the screen. Of those who listen, the one that wants
   * the most lines (`size`) decides how many are kept. Returns a function that ends it; with the last listener ends the
   * subscription.
   */
  listen(changed: () => void, size: number): () => void {
    this.listeners.set(changed, size);
    if (this.listeners.size === 1) {
      feeds.set(this.key, this);
      this.begin();
    }
    return () => {
      this.listeners.delete(changed);
      if (this.listeners.size > 0) return;
      feeds.delete(this.key);
      this.stop();
    };
  }

  /** Open the connection again; begin anew with an execution that has ended or was refused. */
  reconnect(): void {
    const anew = this.view.ended || this.refused !== null;
    if (anew) {
      this.stop();
      this.begin();
    }
    if (!anew || this.connection.state.status === "error") this.connection.reconnect();
  }

  /** Let go of the lines; what they add up to stays. */
  clear(): void {
    this.flush();
    this.loaded = 0;
    this.show({ logs: [] });
  }

  /** Put up to 1,000 older lines in front; they stay. What went wrong is in `view.error`. */
  async loadOlder(api: Api): Promise<void> {
    const first = this.firstSeq;
    this.loaded += PAGE;
    try {
      const logs = await this.read(api, Math.max(0, first - 1 - PAGE), first);
      this.flush();
      this.problem = null;
      // More than a page of new lines has pushed out the place where these belong: there is nothing to join them to.
      this.show(first === this.firstSeq ? { logs: mergeLogs(logs, this.view.logs) } : {});
    } catch (error) {
      this.problem = `Older lines could not be loaded: ${(error as Error).message}`;
      this.show({});
    }
  }

  subscribed(): void {
    this.awaitsHello = true;
  }

  doubt(): void {
    if (this.doubted === this.lastSeq) return;
    this.doubted = this.lastSeq;
    this.connection.subscribe(this);
  }

  receive(frame: ExecutionFrame): void {
    switch (frame.type) {
      case "hello":
        this.awaitsHello = false;
        this.later({ serverStatus: frame.status, progress: frame.progress ?? this.view.progress, watchers: ALONE });
        break;
      case "log":
      case "node":
      case "status":
        this.take(frame);
        break;
      case "watchers":
        if (!this.awaitsHello) this.later({ watchers: { names: frame.names, count: frame.count } });
        break;
      case "end":
        if (this.awaitsHello) break;
        this.connection.unfollow(this, true);
        this.later({ serverStatus: frame.status, ended: true });
        break;
      case "error":
        this.connection.unfollow(this, true);
        this.refused = REASONS[frame.code] ?? frame.reason;
        this.flush();
        break;
    }
  }

  private get firstSeq(): number {
    return this.view.logs[0]?.seq ?? this.view.lastSeq + 1;
  }

  /** Return the lines behind `after` and before `end`; the server may give them in several pages. */
  private async read(api: Api, after: number, end: number): Promise<ExecutionLog[]> {
    const found: ExecutionLog[] = [];
    for (let last = after; last < end - 1; last = found.at(-1)!.seq) {
      const page = await api.logs(this.executionId, last, end - 1 - last);
      const logs = page.logs.filter((log) => log.seq < end);
      if (logs.length === 0) break;
      found.push(...logs);
    }
    return found;
  }

  private begin(): void {
    this.view = BLANK;
    this.lastSeq = 0;
    this.loaded = 0;
    this.doubted = -1;
    this.refused = null;
    this.problem = null;
    this.silence = this.connection.listen(() => this.flush());
    this.connection.follow(this);
    this.show({});
  }

  private stop(): void {
    this.silence?.();
    this.connection.unfollow(this);
    this.unschedule();
    this.waiting = [];
  }

  /** A number that is missing is asked for once more: rows have holes where an event was never written. */
  private take(log: ExecutionLog): void {
    if (this.awaitsHello || log.seq <= this.lastSeq) return;
    if (log.seq > this.lastSeq + 1 && this.doubted !== this.lastSeq) {
      this.doubt();
      return;
    }
    this.lastSeq = log.seq;
    log.execution_id = this.executionId;
    this.waiting.push(log);
    this.schedule();
  }

  private later(part: Partial<FeedView>): void {
    this.view = { ...this.view, ...part };
    this.schedule();
  }

  /** One view per frame of the screen; a hidden page gets no frames, so a timer stands in. */
  private schedule(): void {
    if (this.frame || this.timer) return;
    if (document.visibilityState === "hidden") this.timer = setTimeout(() => this.flush(), 100);
    else this.frame = requestAnimationFrame(() => this.flush());
  }

  private unschedule(): void {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
    this.frame = 0;
    this.timer = undefined;
  }

  private flush(): void {
    this.unschedule();
    const fresh = this.waiting;
    if (fresh.length === 0) return this.show({});
    this.waiting = [];
    const logs = mergeLogs(this.view.logs, fresh);
    const surplus = logs.length - this.loaded - Math.max(...this.listeners.values());
    this.show({ logs: surplus > 0 ? logs.slice(surplus) : logs, run: fold(this.view.run, fresh), lastSeq: this.lastSeq });
  }

  private show(part: Partial<FeedView>): void {
    this.view = { ...this.view, ...part };
    this.view = { ...this.view, ...this.connected(), older: this.firstSeq - 1 };
    if (this.view.connectionStatus !== "connected") this.view = { ...this.view, watchers: ALONE };
    for (const changed of [...this.listeners.keys()]) changed();
  }

  private connected(): Pick<FeedView, "connectionStatus" | "error"> {
    if (this.refused !== null) return { connectionStatus: "error", error: this.refused };
    if (this.view.ended) return { connectionStatus: "disconnected", error: this.problem };
    const { status, error } = this.connection.state;
    return { connectionStatus: status, error: this.problem ?? error };
  }
}

const feeds = new Map<string, Feed>();

/** Return the feed of an execution over the connection to the sockets under `ws`, the same for all who look at it. */
export function feedOf(executionId: string, ws: string, interval: number): Feed {
  const key = `${executionId} ${interval} ${ws}`;
  return feeds.get(key) ?? new Feed(connectionTo(ws, interval), executionId, key);
}
