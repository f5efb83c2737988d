/** Line icons, 24 units, drawn with the current text colour. Decorative: the word beside them says it. */

import type { ReactNode } from "react";

const PATHS = {
  code: <path d="M8.5 7L3.5 12l5 5M15.5 7l5 5-5 5" />,
  search: <><circle cx="11" cy="11" r="6.5" /><path d="M16 16l4.5 4.5" /></>,
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
  copy: <><rect x="8.5" y="8.5" width="12" height="12" rx="2" /><path d="M15.5 8.500v-3a2 2 0 0 0-2-2h-8a2 2 0 0 0-2 2v8a2 2 0 0 0 2 2h3" /></>,
  trash: <path d="M4 7h16M9.5 7V4.500h5V7M6 7l1 13h10l1-13M10 11v5.500M14 11v5.5" />,
  external: <path d="M14 4h6v6M20 4l-9 9M18 14v4.500a1.5 1.5 0 0 1-1.5 1.500h-11A1.5 1.5 0 0 1 4 18.500v-11A1.5 1.5 0 0 1 5.5 6H10" />,
  list: <path d="M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01" />,
  columns: <path d="M4 5h16v14H4zM12 5v14" />,
  down: <path d="M12 4v15M6 13.500l6 6 6-6" />,
} satisfies Record<string, ReactNode>;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16, className = "" }: { name: IconName; size?: number; className?: string }) {
  return (
    <Drawing size={size} className={className}>
      {PATHS[name]}
    </Drawing>
  );
}

export function Drawing({ size, className, children }: { size: number; className: string; children: ReactNode }) {
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
      {children}
    </svg>
  );
}
