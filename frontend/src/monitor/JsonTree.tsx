import { useState } from "react";

import { count } from "../format";
import { Icon } from "../icons";

/** So many entries of one object or list, and characters of one text, are shown at once. */
const ENTRIES = 100;
const CHARACTERS = 2000;
/** Objects and lists this deep are closed at first. */
const CLOSED_DEPTH = 2;

/** A value as a tree: objects and lists open and close, long ones show more on demand. */
export function JsonTree({ value }: { value: unknown }) {
  return (
    <div className="fb-tree" data-testid="json-tree">
      <Entry name={null} value={value} depth={0} />
    </div>
  );
}

function Entry({ name, value, depth }: { name: string | null; value: unknown; depth: number }) {
  if (value !== null && typeof value === "object") return <Branch name={name} value={value} depth={depth} />;
  return (
    <div className="fb-tree-leaf">
      <Name name={name} />
      {typeof value === "string" ? <Text text={value} /> : <span data-kind={typeof value}>{String(value)}</span>}
    </div>
  );
}

function Branch({ name, value, depth }: { name: string | null; value: object; depth: number }) {
  const entries = Object.entries(value);
  const list = Array.isArray(value);
  const [open, setOpen] = useState(depth < CLOSED_DEPTH && entries.length > 0);
  const [shown, setShown] = useState(ENTRIES);
  const size = list ? `[${entries.length}]` : `{${entries.length}}`;
  return (
    <div className="fb-tree-branch">
      <button
        type="button"
        aria-expanded={open}
        aria-label={`${name ?? "Value"}, ${list ? count(entries.length, "item") : count(entries.length, "key")}`}
        disabled={entries.length === 0}
        onClick={() => setOpen(!open)}
      >
        <Icon name="chevron" size={11} />
        <Name name={name} />
        <span className="fb-muted">{size}</span>
      </button>
      {open ? (
        <div className="fb-tree-inside">
          {entries.slice(0, shown).map(([key, inside]) => (
            <Entry key={key} name={key} value={inside} depth={depth + 1} />
          ))}
          {entries.length > shown ? (
            <button type="button" className="fb-link" onClick={() => setShown(shown + ENTRIES)}>
              {(entries.length - shown).toLocaleString("en")} more, show {Math.min(ENTRIES, entries.length - shown)}
            </button>
          ) : null}
        </div>
      ) : null}
    </div>
  );
}

function Name({ name }: { name: string | null }) {
  return name === null ? null : <span className="fb-tree-name">{name}:</span>;
}

function Text({ text }: { text: string }) {
  const [whole, setWhole] = useState(text.length <= CHARACTERS);
  return (
    <span data-kind="string">
      "{whole ? text : `${text.slice(0, CHARACTERS)}…`}"
      {whole ? null : (
        <button type="button" className="fb-link" onClick={() => setWhole(true)}>
          Show all {text.length.toLocaleString("en")} characters
        </button>
      )}
    </span>
  );
}
