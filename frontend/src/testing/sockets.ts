/** The far end of a WebSocket, played by the test: jsdom has no server to talk to. */

import { vi } from "vitest";

export class ServerEnd extends EventTarget {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSING = 2;
  static readonly CLOSED = 3;
  static all: ServerEnd[] = [];

  readyState = ServerEnd.CONNECTING;
  binaryType = "blob";
  sent: string[] = [];
  readonly url: string;

  constructor(url: string | URL) {
    super();
    this.url = String(url);
    ServerEnd.all.push(this);
  }

  static get last(): ServerEnd {
    return ServerEnd.all.at(-1)!;
  }

  accept(): void {
    this.readyState = ServerEnd.OPEN;
    this.dispatchEvent(new Event("open"));
  }

  say(...frames: unknown[]): void {
    for (const frame of frames) {
      const data = typeof frame === "string" ? frame : JSON.stringify(frame);
      this.dispatchEvent(new MessageEvent("message", { data }));
    }
  }

  hangUp(code: number): void {
    if (this.readyState === ServerEnd.CLOSED) return;
    this.readyState = ServerEnd.CLOSED;
    this.dispatchEvent(new CloseEvent("close", { code, wasClean: code !== 1006 }));
  }

  send(text: string): void {
    this.sent.push(text);
  }

  /** What the page said, newest last. */
  get asked(): Record<string, unknown>[] {
    return this.sent.map((text) => JSON.parse(text) as Record<string, unknown>);
  }

  static get open(): ServerEnd[] {
    return ServerEnd.all.filter((end) => end.readyState === ServerEnd.OPEN);
  }

  close(code = 1000): void {
    queueMicrotask(() => this.hangUp(code));
  }
}

/** Put `ServerEnd` in the place of the browser's WebSocket for one test. */
export function playServer(): void {
  ServerEnd.all = [];
  vi.stubGlobal("WebSocket", ServerEnd);
}
