import { useMemo, useState } from "react";

import { Icon } from "./icons";
import { Dialog } from "./Dialog";
import { useBuilder } from "./store";
import { iconOf, searchTypes } from "./ui";

/** Type a few letters, Enter adds the marked step. Opened by Tab on the canvas. */
export function NodeSearch({
  startsOnly,
  onAdd,
  onClose,
}: {
  /** The canvas is empty: entry points come first. */
  startsOnly: boolean;
  onAdd: (type: string) => void;
  onClose: () => void;
}) {
  const types = useBuilder((state) => state.types);
  const [text, setText] = useState("");
  const [marked, setMarked] = useState(0);
  const found = useMemo(() => {
    const list = searchTypes(types.values(), text);
    return startsOnly ? [...list.filter((type) => type.start), ...list.filter((type) => !type.start)] : list;
  }, [types, text, startsOnly]);
  const current = Math.min(marked, Math.max(0, found.length - 1));

  return (
    <Dialog title="Add a step" onClose={onClose} bare>
      <div className="fb-finder">
        <label className="fb-finder-input">
          <Icon name="search" size={17} />
          <input
            data-autofocus
            type="text"
            role="combobox"
            aria-expanded="true"
            aria-controls="fb-finder-list"
            aria-activedescendant={found[current] ? `fb-finder-${found[current].type}` : undefined}
            aria-label="Find a step"
            placeholder={startsOnly ? "How does the workflow begin?" : "What happens next?"}
            autoComplete="off"
            value={text}
            onChange={(event) => {
              setText(event.target.value);
              setMarked(0);
            }}
            onKeyDown={(event) => {
              if (event.key === "ArrowDown") setMarked(Math.min(current + 1, found.length - 1));
              else if (event.key === "ArrowUp") setMarked(Math.max(current - 1, 0));
              else if (event.key === "Enter" && found[current]) onAdd(found[current].type);
              else if (event.key !== "Tab") return;
              event.preventDefault();
            }}
          />
          <kbd>Esc</kbd>
        </label>
        <ul id="fb-finder-list" role="listbox" aria-label="Steps">
          {found.map((type, index) => (
            <li
              key={type.type}
              id={`fb-finder-${type.type}`}
              role="option"
              aria-selected={index === current}
              data-testid={`search-${type.type}`}
              data-group={type.group}
              ref={(item) => {
                if (index === current) item?.scrollIntoView?.({ block: "nearest" });
              }}
              onMouseMove={() => setMarked(index)}
              onClick={() => onAdd(type.type)}
            >
              <span className="fb-node-icon">
                <Icon name={iconOf(type)} size={16} />
              </span>
              <span className="fb-finder-text">
                <strong>{type.label}</strong>
                <span>{type.summary || type.group}</span>
              </span>
              {type.start ? <span className="fb-badge fb-badge-start">Entry Point</span> : null}
            </li>
          ))}
          {found.length === 0 ? <li className="fb-muted fb-finder-none">No step matches “{text}”.</li> : null}
        </ul>
      </div>
    </Dialog>
  );
}
