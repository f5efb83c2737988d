import { useState } from "react";

import { count } from "../format";
import { Icon } from "./icons";
import { useBuilder } from "./store";

/** What stands in the way of a run; a click goes to the step. */
export function Problems({ onPick }: { onPick: (nodeId: string) => void }) {
  const findings = useBuilder((state) => state.findings);
  const [open, setOpen] = useState(false);
  if (findings.length === 0) return null;
  const errors = findings.filter((finding) => finding.severity === "error").length;
  return (
    <section className="fb-problems" aria-label="Findings" data-kind={errors > 0 ? "error" : "warning"}>
      <button
        type="button"
        className="fb-problems-toggle"
        aria-expanded={open}
        data-testid="problems"
        onClick={() => setOpen((on) => !on)}
      >
        <Icon name="alert" size={14} />
        {errors > 0 ? count(errors, "problem") : count(findings.length, "hint")}
        {errors > 0 && findings.length > errors ? `, ${count(findings.length - errors, "hint")}` : ""}
        <Icon name="chevron" size={13} className={open ? "fb-icon-down" : "fb-icon-up"} />
      </button>
      {open ? (
        <ul>
          {findings.map((finding, index) => (
            <li key={`${finding.code}-${finding.node_id}-${index}`} data-kind={finding.severity}>
              <button
                type="button"
                disabled={!finding.node_id}
                onClick={() => finding.node_id && onPick(finding.node_id)}
              >
                <Icon name="alert" size={13} />
                <span>
                  {finding.message}
                  {finding.hint ? <span className="fb-hint fb-muted">{finding.hint}</span> : null}
                </span>
              </button>
            </li>
          ))}
        </ul>
      ) : null}
    </section>
  );
}
