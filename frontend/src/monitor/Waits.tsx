import { useState } from "react";

import type { Status, Wait } from "../contract";
import { Icon } from "../icons";
import { waitText } from "./waiting";

type Decision = { approved: boolean; comment: string };

/** What an execution waits for; an approval can be given right here. */
export function Waits({
  waits,
  status,
  onDecide,
}: {
  waits: readonly Wait[];
  status: Status;
  onDecide: (nodeId: string, decision: Decision) => Promise<unknown>;
}) {
  if (waits.length === 0 && status !== "paused") return null;
  return (
    <div className="fb-waits" data-testid="waits">
      {status === "paused" ? (
        <p className="fb-wait" data-status="paused">
          <Icon name="pause" size={15} />
          <span>
            <strong>Paused.</strong> No further step starts until it is resumed.
          </span>
        </p>
      ) : null}
      {waits.map((wait) =>
        wait.kind === "approval" ? (
          <Approval key={wait.node_id} wait={wait} onDecide={(decision) => onDecide(wait.node_id, decision)} />
        ) : (
          <p className="fb-wait" data-status="waiting" key={wait.node_id}>
            <Icon name="hourglass" size={15} />
            <span>
              <strong>{wait.name}:</strong> {waitText(wait)}
            </span>
          </p>
        ),
      )}
    </div>
  );
}

function Approval({ wait, onDecide }: { wait: Wait; onDecide: (decision: Decision) => Promise<unknown> }) {
  const [comment, setComment] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const decide = async (approved: boolean) => {
    setBusy(true);
    setProblem(null);
    try {
      await onDecide({ approved, comment });
    } catch (error) {
      setProblem((error as Error).message);
      setBusy(false);
    }
  };
  return (
    <section className="fb-wait fb-approval" data-status="waiting" aria-label={`Approval: ${wait.title || wait.name}`}>
      <Icon name="hourglass" size={15} />
      <div>
        <strong>{wait.title || wait.name}</strong>
        <span className="fb-muted">{waitText(wait)}</span>
        {wait.message ? <p>{wait.message}</p> : null}
        {wait.link ? (
          <>
            <div className="fb-approval-form">
              <input
                aria-label="Comment"
                placeholder="Comment (optional)"
                maxLength={2000}
                value={comment}
                onChange={(event) => setComment(event.target.value)}
              />
              <button type="button" className="fb-btn fb-btn-primary" disabled={busy} onClick={() => void decide(true)}>
                <Icon name="check" size={14} /> Approve
              </button>
              <button type="button" className="fb-btn fb-btn-danger" disabled={busy} onClick={() => void decide(false)}>
                <Icon name="close" size={14} /> Reject
              </button>
            </div>
            <a className="fb-approval-link" href={wait.link}>
              <Icon name="external" size={13} /> Page for approvers, no login needed
            </a>
          </>
        ) : (
          <p className="fb-muted">Its owner decides, or somebody whom it names.</p>
        )}
        {problem ? (
          <p className="fb-field-problem" data-kind="error" role="alert">
            {problem}
          </p>
        ) : null}
      </div>
    </section>
  );
}
