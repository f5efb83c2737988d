import type { ConnectionStatus } from "./useWebSocketLogs";

const WORDS: Record<ConnectionStatus, string> = {
  connecting: "Connecting...",
  connected: "Live",
  disconnected: "Disconnected",
  error: "Error",
};

/** Whether the live connection stands: a dot and a word. */
export function ConnectionDot({ status, ended = false }: { status: ConnectionStatus; ended?: boolean }) {
  const word = ended && status === "disconnected" ? "Run ended" : WORDS[status];
  return (
    <span className="fb-connection" role="status" data-status={status} data-testid="connection-status">
      <span className="fb-dot" aria-hidden="true" />
      {word}
    </span>
  );
}
