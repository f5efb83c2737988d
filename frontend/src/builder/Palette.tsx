import { useMemo, useState } from "react";

import type { NodeType } from "../contract";
import { Icon } from "./icons";
import { useBuilder } from "./store";
import { GROUPS, iconOf, searchTypes } from "./ui";

export const DRAG_TYPE = "application/x-flowbuilder-node";

/** All step types by group. Drag one onto the canvas, or click it, or press Enter on it. */
export function Palette({ onAdd, loading }: { onAdd: (type: string) => void; loading: boolean }) {
  const types = useBuilder((state) => state.types);
  const [text, setText] = useState("");
  const groups = useMemo(() => byGroup(searchTypes(types.values(), text)), [types, text]);

  return (
    <aside className="fb-palette" aria-label="Steps" data-region="palette">
      <div className="fb-palette-head">
        <label className="fb-search">
          <Icon name="search" size={14} />
          <input
            type="search"
            placeholder="Search steps"
            aria-label="Search steps"
            value={text}
            onChange={(event) => setText(event.target.value)}
            onKeyDown={(event) => {
              const first = groups[0]?.[1][0];
              if (event.key === "Enter" && text && first) onAdd(first.type);
              if (event.key === "Escape") setText("");
            }}
          />
        </label>
      </div>
      <div className="fb-palette-list">
        {loading ? (
          <div className="fb-skeleton" aria-hidden="true">
            {Array.from({ length: 9 }, (_, index) => (
              <span key={index} />
            ))}
          </div>
        ) : groups.length === 0 ? (
          <p className="fb-muted fb-palette-none">
            No step matches “{text}”.
            <button type="button" className="fb-link" onClick={() => setText("")}>
              Show all steps
            </button>
          </p>
        ) : (
          groups.map(([group, list]) => (
            <section key={group} data-group={group}>
              <h3>{group}</h3>
              <ul>
                {list.map((type) => (
                  <li key={type.type}>
                    <button
                      type="button"
                      draggable
                      className="fb-palette-item"
                      data-testid={`palette-${type.type}`}
                      title={type.summary}
                      onDragStart={(event) => {
                        event.dataTransfer.setData(DRAG_TYPE, type.type);
                        event.dataTransfer.setData("text/plain", type.label);
                        event.dataTransfer.effectAllowed = "copy";
                      }}
                      onClick={() => onAdd(type.type)}
                    >
                      <span className="fb-node-icon">
                        <Icon name={iconOf(type)} size={15} />
                      </span>
                      <span className="fb-palette-label">{type.label}</span>
                      {type.start ? (
                        <span className="fb-palette-start" title="Entry point: may start a workflow">
                          <Icon name="bolt" size={12} />
                          <span className="fb-sr">Entry point</span>
                        </span>
                      ) : null}
                      <span className="fb-palette-credits" title={`${type.credits} credits`}>
                        {type.credits}
                      </span>
                    </button>
                  </li>
                ))}
              </ul>
            </section>
          ))
        )}
      </div>
    </aside>
  );
}

function byGroup(types: readonly NodeType[]): [string, NodeType[]][] {
  const groups = new Map<string, NodeType[]>(GROUPS.map((group) => [group, []]));
  for (const type of types) {
    const list = groups.get(type.group);
    if (list) list.push(type);
    else groups.set(type.group, [type]);
  }
  return [...groups].filter(([, list]) => list.length > 0);
}
