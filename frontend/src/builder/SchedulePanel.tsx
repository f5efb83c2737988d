import { useEffect, useId, useMemo, useState } from "react";

import type { Api } from "../api";
import type { Schedule, SchedulePreview } from "../contract";
import { inZone } from "../format";
import { Icon } from "./icons";
import { Dialog } from "./Dialog";
import { Switch } from "./fields";

const PRESETS: [string, string][] = [
  ["Every 15 minutes", "*/15 * * * *"],
  ["Every hour", "0 * * * *"],
  ["Weekdays at 9", "0 9 * * 1-5"],
  ["Every Monday", "0 8 * * 1"],
  ["First of the month", "0 0 1 * *"],
];

/** When the workflow runs by itself. What is typed is shown as a sentence and as the next five runs. */
export function SchedulePanel({
  api,
  workflowId,
  schedule,
  onClose,
  onChange,
}: {
  api: Api;
  workflowId: string;
  schedule: Schedule | null;
  onClose: () => void;
  onChange: (schedule: Schedule | null) => void;
}) {
  const ids = useId();
  const [cron, setCron] = useState(schedule?.cron ?? "0 9 * * 1-5");
  const [zone, setZone] = useState(() => schedule?.timezone ?? Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC");
  const [enabled, setEnabled] = useState(schedule?.enabled ?? true);
  const [preview, setPreview] = useState<SchedulePreview | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const zones = useMemo(() => ["UTC", ...(Intl.supportedValuesOf?.("timeZone") ?? [])], []);

  useEffect(() => {
    const abort = new AbortController();
    const timer = setTimeout(() => {
      api.previewSchedule(cron, zone, abort.signal).then(
        (body) => {
          setPreview(body);
          setProblem(null);
        },
        (error: Error) => {
          if (error.name === "AbortError") return;
          setPreview({ text: "", next: [], error: error.message });
        },
      );
    }, 200);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [api, cron, zone]);

  const act = async (work: () => Promise<Schedule | null>) => {
    setBusy(true);
    setProblem(null);
    try {
      onChange(await work());
      onClose();
    } catch (error) {
      setProblem((error as Error).message);
      setBusy(false);
    }
  };

  return (
    <Dialog title="Schedule" onClose={onClose} wide>
      <form
        className="fb-form"
        onSubmit={(event) => {
          event.preventDefault();
          void act(() => api.setSchedule(workflowId, { cron, timezone: zone, enabled }));
        }}
      >
        <div className="fb-presets">
          {PRESETS.map(([label, value]) => (
            <button
              key={value}
              type="button"
              className="fb-chip"
              aria-pressed={cron === value}
              onClick={() => setCron(value)}
            >
              {label}
            </button>
          ))}
        </div>
        <div className="fb-schedule-grid">
          <div className="fb-field" data-error={Boolean(preview?.error) || undefined}>
            <div className="fb-field-head">
              <label htmlFor={`${ids}-cron`}>Cron expression</label>
            </div>
            <input
              id={`${ids}-cron`}
              data-autofocus
              className="fb-code"
              value={cron}
              spellCheck={false}
              autoComplete="off"
              aria-describedby={`${ids}-preview`}
              aria-invalid={Boolean(preview?.error)}
              onChange={(event) => setCron(event.target.value)}
            />
            <p className="fb-help">minute, hour, day of month, month, weekday</p>
          </div>
          <div className="fb-field">
            <div className="fb-field-head">
              <label htmlFor={`${ids}-zone`}>Time zone</label>
            </div>
            <input
              id={`${ids}-zone`}
              list={`${ids}-zones`}
              value={zone}
              spellCheck={false}
              autoComplete="off"
              onChange={(event) => setZone(event.target.value)}
            />
            <datalist id={`${ids}-zones`}>
              {zones.map((name) => (
                <option key={name} value={name} />
              ))}
            </datalist>
            <p className="fb-help">The clock that the expression is read on.</p>
          </div>
        </div>
        <div className="fb-preview" id={`${ids}-preview`} role="status" data-kind={preview?.error ? "error" : "info"}>
          {preview === null ? (
            <div className="fb-skeleton" aria-hidden="true">
              <span />
              <span />
              <span />
            </div>
          ) : preview.error ? (
            <p>
              <Icon name="alert" size={15} /> {preview.error}
            </p>
          ) : (
            <>
              <p className="fb-preview-text">{preview.text}</p>
              <ol>
                {preview.next.map((iso, index) => (
                  <li key={iso}>
                    <span className="fb-muted">{index === 0 ? "Next" : ""}</span>
                    <time dateTime={iso}>{inZone(iso, zone)}</time>
                    <span className="fb-muted">{inZone(iso, "UTC").split(", ").at(-1)} UTC</span>
                  </li>
                ))}
              </ol>
            </>
          )}
        </div>
        <div className="fb-inline">
          <Switch id={`${ids}-on`} checked={enabled} onChange={setEnabled} />
          <label htmlFor={`${ids}-on`}>Run by this schedule</label>
        </div>
        {problem ? (
          <p className="fb-note" data-kind="error" role="alert">
            <Icon name="alert" size={14} /> {problem}
          </p>
        ) : null}
        <footer>
          {schedule ? (
            <button
              type="button"
              className="fb-btn fb-btn-danger"
              disabled={busy}
              onClick={() => void act(() => api.clearSchedule(workflowId).then(() => null))}
            >
              Remove schedule
            </button>
          ) : null}
          <span className="fb-spacer" />
          <button type="button" className="fb-btn" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="fb-btn fb-btn-primary" disabled={busy || Boolean(preview?.error)}>
            Save schedule
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
