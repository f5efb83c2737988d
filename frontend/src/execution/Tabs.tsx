import { useEffect, useId, useRef, useState, type KeyboardEvent, type ReactNode } from "react";

export interface Tab {
  /** Also the hash of the address at which the tab is open. */
  id: string;
  label: string;
  panel: () => ReactNode;
}

/** Tabs that are links: the one that the hash of the address names is open, else the first. Arrow keys move. */
export function Tabs({ tabs, label }: { tabs: readonly Tab[]; label: string }) {
  const prefix = useId();
  const list = useRef<HTMLDivElement>(null);
  const open = useHash(tabs.map((tab) => tab.id));

  const onKeyDown = (event: KeyboardEvent) => {
    const now = tabs.findIndex((tab) => tab.id === open);
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs[to % tabs.length]!;
    location.hash = next.id;
    list.current?.querySelector<HTMLElement>(`[href="#${next.id}"]`)?.focus();
  };

  return (
    <>
      <div className="fb-tabs" role="tablist" aria-label={label} ref={list} onKeyDown={onKeyDown}>
        {tabs.map((tab) => (
          <a
            key={tab.id}
            id={`${prefix}${tab.id}`}
            role="tab"
            href={`#${tab.id}`}
            aria-selected={tab.id === open}
            aria-controls={tab.id === open ? `${prefix}panel` : undefined}
            tabIndex={tab.id === open ? 0 : -1}
          >
            {tab.label}
          </a>
        ))}
      </div>
      <div className="fb-panel" role="tabpanel" id={`${prefix}panel`} aria-labelledby={`${prefix}${open}`} data-tab={open}>
        {tabs.find((tab) => tab.id === open)?.panel()}
      </div>
    </>
  );
}

function useHash(ids: readonly string[]): string {
  const [hash, setHash] = useState(() => location.hash.slice(1));
  useEffect(() => {
    const note = () => setHash(location.hash.slice(1));
    addEventListener("hashchange", note);
    return () => removeEventListener("hashchange", note);
  }, []);
  return ids.includes(hash) ? hash : ids[0]!;
}
