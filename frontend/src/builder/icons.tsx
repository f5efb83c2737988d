/** The icons that only the builder needs, beside the shared ones. */

import type { ReactNode } from "react";

import { Drawing, Icon as SharedIcon, type IconName as SharedName } from "../icons";

const PATHS = {
  globe: <><circle cx="12" cy="12" r="9" /><path d="M3 12h18M12 3c2.5 2.7 3.8 5.7 3.8 9s-1.3 6.3-3.8 9c-2.5-2.7-3.8-5.7-3.8-9S9.5 5.7 12 3z" /></>,
  keyboard: <><rect x="2.5" y="6" width="19" height="12" rx="2" /><path d="M6.5 10h.01M10 10h.01M14 10h.01M17.5 10h.01M8 14h8" /></>,
  cursor: <path d="M5 4l6.5 15.5 2.3-6.7 6.7-2.300z" />,
  eye: <><path d="M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z" /><circle cx="12" cy="12" r="2.8" /></>,
  clock: <><circle cx="12" cy="12" r="9" /><path d="M12 7v5l3.2 2" /></>,
  text: <path d="M4 6.500V5h16v1.500M12 5v14M9 19h6" />,
  braces: <path d="M8.5 4H8a2 2 0 0 0-2 2v3.500C6 11 5 12 4 12c1 0 2 1 2 2.500V18a2 2 0 0 0 2 2h.5M15.5 4h.5a2 2 0 0 1 2 2v3.500c0 1.5 1 2.5 2 2.5-1 0-2 1-2 2.500V18a2 2 0 0 1-2 2h-.5" />,
  merge: <path d="M6 4v4.500c0 2.5 6 3 6 6.500v5M18 4v4.500c0 2.5-6 3-6 6.500M9 17l3 3 3-3" />,
  branch: <path d="M12 20v-6c0-3.5-6-3.5-6-8V4M12 14c0-3.5 6-3.5 6-8V4M3.5 6.500L6 4l2.5 2.500M15.5 6.500L18 4l2.5 2.5" />,
  send: <path d="M21 3L10 14M21 3l-7 18-4-7-7-4z" />,
  mail: <><rect x="3" y="5" width="18" height="14" rx="2" /><path d="M3.5 7l8.5 6 8.5-6" /></>,
  phone: <><rect x="7" y="2.5" width="10" height="19" rx="2.5" /><path d="M11 18h2" /></>,
  spark: <path d="M12 3l1.9 5.600L19.5 10.500l-5.6 1.900L12 18l-1.9-5.600L4.5 10.500l5.6-1.900zM19 16v4M17 18h4" />,
  box: <path d="M12 3l8 4.500v9L12 21l-8-4.500v-9zM4.3 7.600L12 12l7.7-4.400M12 12v9" />,
  plus: <path d="M12 5v14M5 12h14" />,
  undo: <path d="M8.5 5L4 9.5 8.5 14M4 9.500h9.500a6 6 0 0 1 0 12H9" />,
  redo: <path d="M15.5 5L20 9.5 15.5 14M20 9.500h-9.500a6 6 0 0 0 0 12H15" />,
  tidy: <><rect x="3" y="9" width="6" height="6" rx="1.5" /><rect x="15" y="3.5" width="6" height="6" rx="1.5" /><rect x="15" y="14.5" width="6" height="6" rx="1.5" /><path d="M9 12h2.500c2 0 1-5.5 3.5-5.500M11.5 12c2 0 1 5.5 3.5 5.5" /></>,
  calendar: <><rect x="3.5" y="5" width="17" height="15.5" rx="2" /><path d="M3.5 10h17M8 3v4M16 3v4" /></>,
  back: <path d="M15 6l-6 6 6 6" />,
  link: <path d="M9.5 14.500l5-5M11 6.500l2-2a4.2 4.2 0 0 1 6 6l-2 2M13 17.500l-2 2a4.2 4.2 0 0 1-6-6l2-2" />,
  unlink: <path d="M11 6.500l2-2a4.2 4.2 0 0 1 6 6l-2 2M13 17.500l-2 2a4.2 4.2 0 0 1-6-6l2-2M4 4l16 16" />,
  key: <><circle cx="8" cy="15.5" r="4" /><path d="M11 12.500L20 3.500M16.5 7l3 3" /></>,
  coin: <><circle cx="12" cy="12" r="8.5" /><path d="M14.5 9.300c-.6-.9-1.5-1.3-2.6-1.3-1.6 0-2.7.8-2.7 2 0 2.9 5.6 1.2 5.6 4.1 0 1.2-1.2 2-2.8 2-1.2 0-2.2-.5-2.8-1.400M12 6.500V8M12 16v1.5" /></>,
  repeat: <path d="M17 3.500l3 3-3 3M4 11.500V9.500a3 3 0 0 1 3-3h13M7 20.500l-3-3 3-3M20 12.500v2a3 3 0 0 1-3 3H4" />,
  person: <><circle cx="10" cy="8" r="4" /><path d="M3 20a7 7 0 0 1 11-5.700M14.5 18l2.3 2.300L21 16" /></>,
  layers: <path d="M12 3.500l8.5 4.300L12 12 3.5 7.800zM3.5 12l8.5 4.200 8.5-4.200M3.5 16.200l8.5 4.300 8.5-4.300" />,
  bolt: <path d="M13 3L5 13.500h6L10 21l9-11h-6.500z" />,
  help: <><circle cx="12" cy="12" r="9" /><path d="M9.5 9.300c.3-1.3 1.3-2 2.6-2 1.5 0 2.6.9 2.6 2.2 0 2-2.6 2.1-2.6 4M12 16.600h.01" /></>,
} satisfies Record<string, ReactNode>;

export type IconName = SharedName | keyof typeof PATHS;

export function Icon({ name, size = 16, className = "" }: { name: IconName; size?: number; className?: string }) {
  if (!(name in PATHS)) return <SharedIcon name={name as SharedName} size={size} className={className} />;
  return (
    <Drawing size={size} className={className}>
      {PATHS[name as keyof typeof PATHS]}
    </Drawing>
  );
}
