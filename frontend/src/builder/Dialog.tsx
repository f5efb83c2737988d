import { useEffect, useRef, type ReactNode } from "react";

import { Icon } from "./icons";

/** A modal window: focus stays inside, Escape closes, focus goes back to where it was. */
export function Dialog({
  title,
  onClose,
  children,
  wide = false,
  bare = false,
}: {
  title: string;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
  bare?: boolean;
}) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = box.current;
    const before = document.activeElement as HTMLElement | null;
    if (dialog && !dialog.open) {
      if (typeof dialog.showModal === "function") dialog.showModal();
      else dialog.setAttribute("open", "");
    }
    dialog?.querySelector<HTMLElement>("[data-autofocus]")?.focus();
    return () => {
      if (before?.isConnected) before.focus({ preventScroll: true });
    };
  }, []);
  return (
    <dialog
      ref={box}
      className="fb-dialog"
      data-wide={wide || undefined}
      data-bare={bare || undefined}
      aria-label={title}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onMouseDown={(event) => {
        if (event.target === box.current) onClose();
      }}
      onKeyDown={(event) => event.stopPropagation()}
    >
      <div className="fb-dialog-box">
        {bare ? null : (
          <header>
            <h2>{title}</h2>
            <button type="button" className="fb-btn fb-btn-ghost fb-btn-icon" aria-label="Close" onClick={onClose}>
              <Icon name="close" size={16} />
            </button>
          </header>
        )}
        {children}
      </div>
    </dialog>
  );
}
