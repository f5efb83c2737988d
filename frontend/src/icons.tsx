/** Line icons, 24 units, drawn with the current text colour. Decorative: the word beside them says it. */

import type { ReactNode } from "react";

const PATHS = {
  globe: <><circle cx="12" cy="12" r="9" /><path d="M3 12h18M12 3c2.5 2.7 3.8 5.7 3.8 9s-1.3 6.3-3.8 9c-2.5-2.7-3.8-5.7-3.8-9S9.5 5.7 12 3z" /></>,
  keyboard: <><rect x="2.5" y="6" width="19" height="12" rx="2" /><path d="M6.5 10h.01M10 10h.01M14 10h.01M17.5 10h.01M8 14h8" /></>,
  cursor: <path d="M5 4l6.5 15.5 2.3-6.7 6.7-2.300z" />,
  eye: <><path d="M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z" /><circle cx="12" cy="12" r="2.8" /></>,
  clock: <><circle cx="12" cy="12" r="9" /><path d="M12 7v5l3.2 2" /></>,
  code: <path d="M8.5 7L3.5 12l5 5M15.5 7l5 5-5 5" />,
  text: <path d="M4 6.500V5h16v1.500M12 5v14M9 19h6" />,
  braces: <path d="M8.5 4H8a2 2 0 0 0-2 2v3.500C6 11 5 12 4 12c1 0 2 1 2 2.500V18a2 2 0 0 0 2 2h.5M15.5 4h.5a2 2 0 0 1 2 2v3.500c0 1.5 1 2.5 2 2.5-1 0-2 1-2 2.500V18a2 2 0 0 1-2 2h-.5" />,
  merge: <path d="M6 4v4.500c0 2.5 6 3 6 6.500v5M18 4v4.500c0 2.5-6 3-6 6.500M9 17l3 3 3-3" />,
  branch: <path d="M12 20v-6c0-3.5-6-3.5-6-8V4M12 14c0-3.5 6-3.5 6-8V4M3.5 6.500L6 4l2.5 2.500M15.5 6.500L18 4l2.5 2.5" />,
  send: <path d="M21 3L10 14M21 3l-7 18-4-7-7-4z" />,
  mail: <><rect x="3" y="5" width="18" height="14" rx="2" /><path d="M3.5 7l8.5 6 8.5-6" /></>,
  phone: <><rect x="7" y="2.5" width="10" height="19" rx="2.5" /><path d="M11 18h2" /></>,
  spark: <path d="M12 3l1.9 5.600L19.5 10.500l-5.6 1.900L12 18l-1.9-5.600L4.5 10.500l5.6-1.900zM19 16v4M17 18h4" />,
  box: <path d="M12 3l8 4.500v9L12 21l-8-4.500v-9zM4.3 7.600L12 12l7.7-4.400M12 12v9" />,
  search: <><circle cx="11" cy="11" r="6.5" /><path d="M16 16l4.5 4.5" /></>,
  plus: <path d="M12 5v14M5 12h14" />,
  undo: <path d="M8.5 5L4 9.5 8.5 14M4 9.500h9.500a6 6 0 0 1 0 12H9" />,
  redo: <path d="M15.5 5L20 9.5 15.5 14M20 9.500h-9.500a6 6 0 0 0 0 12H15" />,
  tidy: <><rect x="3" y="9" width="6" height="6" rx="1.5" /><rect x="15" y="3.5" width="6" height="6" rx="1.5" /><rect x="15" y="14.5" width="6" height="6" rx="1.5" /><path d="M9 12h2.500c2 0 1-5.5 3.5-5.500M11.5 12c2 0 1 5.5 3.5 5.5" /></>,
  calendar: <><rect x="3.5" y="5" width="17" height="15.5" rx="2" /><path d="M3.5 10h17M8 3v4M16 3v4" /></>,
  play: <path d="M7 4.500v15l12.5-7.500z" />,
  stop: <rect x="6" y="6" width="12" height="12" rx="2" />,
  close: <path d="M6 6l12 12M18 6L6 18" />,
  check: <path d="M5 12.500l4.5 4.500L19 7.5" />,
  alert: <path d="M12 4L2.8 20h18.400zM12 10v4.500M12 17.400h.01" />,
  circle: <circle cx="12" cy="12" r="8" />,
  spinner: <path d="M12 3.500a8.5 8.5 0 1 0 8.5 8.5" />,
  pause: <path d="M9 5.500v13M15 5.500v13" />,
  skip: <path d="M5 6l8.5 6L5 18zM18 6v12" />,
  ban: <><circle cx="12" cy="12" r="8.5" /><path d="M6 6l12 12" /></>,
  retry: <path d="M20 4.500v5h-5M4 19.500v-5h5M19.4 9.500A8 8 0 0 0 5.5 7M4.6 14.500A8 8 0 0 0 18.5 17" />,
  hourglass: <path d="M6.5 3h11M6.5 21h11M7.5 3c0 5 3.5 6 4.5 9 1-3 4.5-4 4.5-9M7.5 21c0-5 3.5-6 4.5-9 1 3 4.5 4 4.5 9" />,
  chevron: <path d="M9 6l6 6-6 6" />,
  back: <path d="M15 6l-6 6 6 6" />,
  copy: <><rect x="8.5" y="8.5" width="12" height="12" rx="2" /><path d="M15.5 8.500v-3a2 2 0 0 0-2-2h-8a2 2 0 0 0-2 2v8a2 2 0 0 0 2 2h3" /></>,
  trash: <path d="M4 7h16M9.5 7V4.500h5V7M6 7l1 13h10l1-13M10 11v5.500M14 11v5.5" />,
  link: <path d="M9.5 14.500l5-5M11 6.500l2-2a4.2 4.2 0 0 1 6 6l-2 2M13 17.500l-2 2a4.2 4.2 0 0 1-6-6l2-2" />,
  unlink: <path d="M11 6.500l2-2a4.2 4.2 0 0 1 6 6l-2 2M13 17.500l-2 2a4.2 4.2 0 0 1-6-6l2-2M4 4l16 16" />,
  key: <><circle cx="8" cy="15.5" r="4" /><path d="M11 12.500L20 3.500M16.5 7l3 3" /></>,
  external: <path d="M14 4h6v6M20 4l-9 9M18 14v4.500a1.5 1.5 0 0 1-1.5 1.500h-11A1.5 1.5 0 0 1 4 18.500v-11A1.5 1.5 0 0 1 5.5 6H10" />,
  coin: <><circle cx="12" cy="12" r="8.5" /><path d="M14.5 9.300c-.6-.9-1.5-1.3-2.6-1.3-1.6 0-2.7.8-2.7 2 0 2.9 5.6 1.2 5.6 4.1 0 1.2-1.2 2-2.8 2-1.2 0-2.2-.5-2.8-1.400M12 6.500V8M12 16v1.5" /></>,
  bolt: <path d="M13 3L5 13.500h6L10 21l9-11h-6.500z" />,
  help: <><circle cx="12" cy="12" r="9" /><path d="M9.5 9.300c.3-1.3 1.3-2 2.6-2 1.5 0 2.6.9 2.6 2.2 0 2-2.6 2.1-2.6 4M12 16.600h.01" /></>,
  list: <path d="M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01" />,
  down: <path d="M12 4v15M6 13.500l6 6 6-6" />,
} satisfies Record<string, ReactNode>;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16, className = "" }: { name: IconName; size?: number; className?: string }) {
  return (
    <svg
      className={`fb-icon ${className}`}
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.8"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      {PATHS[name]}
    </svg>
  );
}
