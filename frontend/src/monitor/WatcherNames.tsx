import type { Watchers } from "../contract";

/** How many people have their initials and names in the line. */
const IN_LINE = 3;

/** Who else watches: initials, and the same as words. Nothing when nobody does. */
export function WatcherNames({ watchers: { names, count } }: { watchers: Watchers }) {
  if (count === 0) return null;
  const shown = names.slice(0, IN_LINE);
  return (
    <p className="fb-watchers" title={listed(names, count)}>
      {shown.map((name) => (
        <span key={name} className="fb-initials" aria-hidden="true">
          {initials(name)}
        </span>
      ))}
      <span>Also watching: {listed(shown, count)}</span>
    </p>
  );
}

function listed(names: readonly string[], count: number): string {
  const more = count - names.length;
  return names.join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** Return the first letters of up to two words of a name; a mail address counts up to its @. */
function initials(name: string): string {
  const words = name.split("@")[0]!.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const letters = words.slice(0, 2).map((word) => [...word][0]);
  return letters.join("").toUpperCase() || "?";
}
