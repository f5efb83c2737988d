/** What the screen shows besides the workflow itself: never stored, never undone. */

import { create } from "zustand";

import type { IconName } from "./icons";
import type { NodeType } from "../contract";
import { EMPTY_RUN, type RunState } from "../monitor/logs";

export type Panel = "search" | "connect" | "schedule" | "shortcuts" | "run-input" | null;

export interface ConnectStart {
  source?: string;
  target?: string;
  targetHandle?: string;
}

interface UiState {
  panel: Panel;
  /** The node that the node search adds a step after, wired. */
  after: string | null;
  connect: ConnectStart;
  expanded: ReadonlySet<string>;
  toast: { text: string; kind: "info" | "error" } | null;
  executionId: string | null;
  run: RunState;
  runEnded: boolean;
  openPanel: (panel: Panel, more?: { after?: string | null; connect?: ConnectStart }) => void;
  toggleExpanded: (id: string) => void;
  say: (text: string, kind?: "info" | "error") => void;
  hush: () => void;
  watch: (executionId: string | null) => void;
  setRun: (run: RunState, ended: boolean) => void;
}

let toastTimer: ReturnType<typeof setTimeout> | undefined;

export const useUi = create<UiState>()((set) => ({
  panel: null,
  after: null,
  connect: {},
  expanded: new Set(),
  toast: null,
  executionId: null,
  run: EMPTY_RUN,
  runEnded: false,
  openPanel: (panel, more = {}) => set({ panel, after: more.after ?? null, connect: more.connect ?? {} }),
  toggleExpanded: (id) =>
    set((state) => {
      const expanded = new Set(state.expanded);
      if (!expanded.delete(id)) expanded.add(id);
      return { expanded };
    }),
  say: (text, kind = "info") => {
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => set({ toast: null }), kind === "error" ? 7000 : 3500);
    set({ toast: { text, kind } });
  },
  hush: () => set({ toast: null }),
  watch: (executionId) => set({ executionId, run: EMPTY_RUN, runEnded: false }),
  setRun: (run, runEnded) => set({ run, runEnded }),
}));

export const GROUPS = [
  "Browser Automation",
  "Data Extraction",
  "Timing Controls",
  "Flow Control",
  "Data Storage",
  "Deliver Results",
];

const BY_TYPE: [RegExp, IconName][] = [
  [/browser/, "globe"],
  [/fill|type|keyboard|press/, "keyboard"],
  [/click|scroll/, "cursor"],
  [/wait_for/, "eye"],
  [/delay|wait|timer/, "clock"],
  [/openai|agent|ai_|llm/, "spark"],
  [/text_from|regex/, "text"],
  [/html|code/, "code"],
  [/merge|join/, "merge"],
  [/loop/, "repeat"],
  [/approval/, "person"],
  [/subflow/, "layers"],
  [/stop_/, "stop"],
  [/branch|switch|if_/, "branch"],
  [/json|property|csv/, "braces"],
  [/http|request|api/, "link"],
  [/mail/, "mail"],
  [/sms|phone/, "phone"],
  [/webhook|deliver/, "send"],
];

const BY_GROUP: Record<string, IconName> = {
  "Browser Automation": "globe",
  "Data Extraction": "text",
  "Timing Controls": "clock",
  "Flow Control": "branch",
  "Data Storage": "braces",
  "Deliver Results": "send",
};

/** Return the picture of a node type. */
export function iconOf(type: NodeType | undefined): IconName {
  if (!type) return "help";
  return BY_TYPE.find(([pattern]) => pattern.test(type.type))?.[1] ?? BY_GROUP[type.group] ?? "box";
}

/** Return the types whose label, type, group or summary holds every word of `text`, best first. */
export function searchTypes(types: Iterable<NodeType>, text: string): NodeType[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const rank = (type: NodeType) => {
    const label = type.label.toLowerCase();
    const first = words[0] ?? "";
    if (label.startsWith(first) || type.type.startsWith(first)) return 0;
    return label.includes(first) || type.type.includes(first) ? 1 : 2;
  };
  const found = [...types].filter((type) => {
    const hay = `${type.label} ${type.type} ${type.group} ${type.summary}`.toLowerCase();
    return words.every((word) => hay.includes(word));
  });
  return words.length === 0 ? found : found.sort((a, b) => rank(a) - rank(b));
}
