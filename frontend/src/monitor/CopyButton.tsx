import { useEffect, useState } from "react";

import { Icon } from "../icons";

const SAID_MS = 1500;

/** A button that puts text on the clipboard and says so. The text is made when it is pressed. */
export function CopyButton({
  text,
  label,
  title,
  className = "",
  disabled = false,
}: {
  text: () => string;
  label: string;
  title?: string;
  className?: string;
  disabled?: boolean;
}) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), SAID_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <button
      type="button"
      className={`fb-btn ${className}`}
      title={title}
      disabled={disabled}
      onClick={() => void copyText(text()).then(() => setCopied(true))}
    >
      <Icon name={copied ? "check" : "copy"} size={13} /> <span aria-live="polite">{copied ? "Copied" : label}</span>
    </button>
  );
}

/** Put text on the clipboard, also on plain http where the clipboard API is missing. */
async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "fb-offscreen";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
