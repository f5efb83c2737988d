/** How times, durations and sizes are written for people. */

/** Return 999 ms as "999 ms", 1500 as "1.5 s", 125000 as "2 min 5 s", 5400000 as "1 h 30 min", as the lists of the admin do. */
export function duration(ms: number | null | undefined): string {
  if (ms == null || Number.isNaN(ms)) return "";
  if (ms < 1000) return `${Math.min(999, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  const seconds = Math.floor(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min${seconds % 60 ? ` ${seconds % 60} s` : ""}`;
  return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

const clockFormat = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});

/** Return the local wall clock with milliseconds, "" for nothing. */
export function clock(iso: string | null | undefined): string {
  const date = iso ? new Date(iso) : null;
  if (!date || Number.isNaN(date.getTime())) return "";
  return `${clockFormat.format(date)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

const todayFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const dayFormat = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  hour12: false,
});

/** Return an instant in the reader's zone: "14:05" today, "22 Nov, 14:05" on another day. */
export function hour(iso: string | null | undefined, now = new Date()): string {
  const date = iso ? new Date(iso) : null;
  if (!date || Number.isNaN(date.getTime())) return "";
  return (date.toDateString() === now.toDateString() ? todayFormat : dayFormat).format(date);
}

const fullFormat = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
  timeZoneName: "short",
});

/** Return date and time in the reader's zone, and which that is. */
export function dateTime(iso: string | null | undefined): string {
  const date = iso ? new Date(iso) : null;
  return date && !Number.isNaN(date.getTime()) ? fullFormat.format(date) : "";
}

const days = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** Return how long ago or how far ahead an instant is, in the words of the admin: "5 min ago", "in 2 h", "yesterday". */
export function ago(iso: string | null | undefined, now = Date.now()): string {
  if (!iso) return "";
  const delta = new Date(iso).getTime() - now;
  if (Number.isNaN(delta)) return "";
  const seconds = Math.abs(delta) / 1000;
  if (seconds < 45) return delta > 0 ? "now" : "just now";
  if (seconds >= 86_400) return days.format(Math.trunc(delta / 86_400_000), "day");
  const text = seconds < 3570 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
  return delta > 0 ? `in ${text}` : `${text} ago`;
}

/** Return an instant as it reads on a clock in `zone`. */
export function inZone(iso: string, zone: string): string {
  try {
    return new Intl.DateTimeFormat(undefined, {
      weekday: "short",
      day: "2-digit",
      month: "short",
      year: "numeric",
      hour: "2-digit",
      minute: "2-digit",
      hour12: false,
      timeZone: zone,
    }).format(new Date(iso));
  } catch {
    return dateTime(iso);
  }
}

/** Return what people read for a trigger: "api" is "API", "one_time" is "One-time". */
export function triggerWord(trigger: string): string {
  if (trigger === "api") return "API";
  if (trigger === "one_time") return "One-time";
  return (trigger.charAt(0).toUpperCase() + trigger.slice(1)).replaceAll("_", " ");
}

/** Return 900 as "900 bytes", 1536 as "1.5 KB", 2621440 as "2.5 MB": units of 1,024, as in the admin. */
export function bytes(n: number): string {
  if (n < 1024) return count(n, "byte");
  return n < 1_048_576 ? `${(n / 1024).toFixed(1)} KB` : `${(n / 1_048_576).toFixed(1)} MB`;
}

/** Return "1 step", "2 steps". */
export function count(n: number, word: string): string {
  return `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
}
