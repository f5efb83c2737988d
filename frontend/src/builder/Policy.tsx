import { useEffect, useId, useState, type ReactNode } from "react";

import type { OnError, StepData } from "../contract";
import { Switch } from "./fields";

/** Error codes that the engine gives, with what they mean; others may be typed in. */
export const ERROR_CODES: readonly [string, string][] = [
  ["network", "network and server errors"],
  ["timeout", "time limit passed"],
  ["browser", "the page did not do it"],
  ["node_failed", "any other failure"],
];

const ON_ERROR: readonly [OnError, string, string][] = [
  ["fail", "Fail the run", "The run ends as failed. What does not need this step still counts as not run."],
  ["continue", "Go on without this step", "Steps that need its result are skipped; the run ends with errors."],
  ["output", "Go on along “Error”", "The step gets the outputs Error and Error Message; wire what should happen then."],
];

const LONGEST_S = 86_400;
const LONGEST_CACHE_S = 30 * LONGEST_S;

interface PolicyProps {
  step: StepData;
  put: (key: keyof StepData, value: unknown) => void;
}

/** How one step is run: how often it is tried, how long it may take, and what its failure does. */
export function Policy({ step, put }: PolicyProps) {
  const ids = useId();
  const chosen = ON_ERROR.find(([value]) => value === step.on_error) ?? ON_ERROR[0]!;
  const tries = (step.retries ?? 0) > 0;
  return (
    <>
      <Row id={`${ids}-error`} label="On error" help={chosen[2]}>
        <select
          id={`${ids}-error`}
          value={chosen[0]}
          onChange={(event) => put("on_error", event.target.value === "fail" ? undefined : event.target.value)}
        >
          {ON_ERROR.map(([value, text]) => (
            <option key={value} value={value}>
              {value === "fail" ? `${text} (default)` : text}
            </option>
          ))}
        </select>
      </Row>
      <Row id={`${ids}-timeout`} label="Timeout (seconds)">
        <Amount
          id={`${ids}-timeout`}
          value={step.timeout_s}
          max={LONGEST_S}
          placeholder="Default of this step type"
          onChange={(value) => put("timeout_s", value === 0 ? undefined : value)}
        />
      </Row>
      <Row
        id={`${ids}-cache`}
        label="Reuse results for (seconds)"
        help="Runs with the same inputs take over the result for no credits. Steps that change something or work on a page always run."
      >
        <Amount
          id={`${ids}-cache`}
          value={step.cache_ttl_s}
          max={LONGEST_CACHE_S}
          placeholder="0"
          onChange={(value) => put("cache_ttl_s", value === 0 ? undefined : value)}
        />
      </Row>
      <Row id={`${ids}-retries`} label="Retries" help="How often a failed attempt is tried again.">
        <Amount id={`${ids}-retries`} value={step.retries} whole max={20} placeholder="0" onChange={(value) => put("retries", value)} />
      </Row>
      {tries ? (
        <>
          <Row id={`${ids}-backoff`} label="First pause (seconds)" help="Each further pause is twice as long.">
            <Amount
              id={`${ids}-backoff`}
              value={step.backoff_s}
              max={LONGEST_S}
              placeholder="1"
              onChange={(value) => put("backoff_s", value)}
            />
          </Row>
          <Row id={`${ids}-jitter`} label="Vary the pauses" help="So that many runs do not try again at the same instant.">
            <Switch
              id={`${ids}-jitter`}
              checked={step.jitter !== false}
              onChange={(on) => put("jitter", on ? undefined : false)}
            />
          </Row>
          <RetryOn codes={step.retry_on} onChange={(codes) => put("retry_on", codes)} />
        </>
      ) : null}
      <Recorded id={`${ids}-inputs`} label="Record inputs" value={step.record_inputs} onChange={(value) => put("record_inputs", value)} />
      <Recorded
        id={`${ids}-outputs`}
        label="Record outputs"
        help="What is left out of recordings is there as its hash and size. Steps and templates get the values as ever."
        value={step.record_outputs}
        onChange={(value) => put("record_outputs", value)}
      />
    </>
  );
}

interface RecordedProps {
  id: string;
  label: string;
  help?: string;
  value: boolean | undefined;
  onChange: (value: boolean | undefined) => void;
}

/** Whether recordings hold values of this step; by default its workflow decides. */
function Recorded({ id, label, help, value, onChange }: RecordedProps) {
  return (
    <Row id={id} label={label} help={help}>
      <select
        id={id}
        value={typeof value === "boolean" ? String(value) : ""}
        onChange={(event) => onChange(event.target.value === "" ? undefined : event.target.value === "true")}
      >
        <option value="">As the workflow says (default)</option>
        <option value="true">Yes</option>
        <option value="false">Only hash and size</option>
      </select>
    </Row>
  );
}

function Row({ id, label, help, children }: { id: string; label: string; help?: string; children: ReactNode }) {
  return (
    <div className="fb-field">
      <div className="fb-field-head">
        <label htmlFor={id}>{label}</label>
      </div>
      {children}
      {help ? <p className="fb-help">{help}</p> : null}
    </div>
  );
}

interface AmountProps {
  id: string;
  value: number | undefined;
  max: number;
  whole?: boolean;
  placeholder: string;
  onChange: (value: number | undefined) => void;
}

/** A number of at least 0; what is typed but is none is not stored. */
function Amount({ id, value, max, whole = false, placeholder, onChange }: AmountProps) {
  const [text, setText] = useState(() => (value == null ? "" : String(value)));
  useEffect(() => {
    setText((before) => (numberOf(before, whole, max) === value ? before : value == null ? "" : String(value)));
  }, [value, whole, max]);
  const wrong = text !== "" && numberOf(text, whole, max) === undefined;
  return (
    <>
      <input
        id={id}
        inputMode="decimal"
        autoComplete="off"
        value={text}
        placeholder={placeholder}
        aria-invalid={wrong}
        onChange={(event) => {
          setText(event.target.value);
          onChange(numberOf(event.target.value, whole, max));
        }}
      />
      {wrong ? (
        <p className="fb-field-problem" data-kind="error">
          {whole ? "A whole number" : "A number"} from 0 to {max.toLocaleString("en")}.
        </p>
      ) : null}
    </>
  );
}

/** Return the number that a text spells, or undefined when it is none or outside of 0 to `max`. */
export function numberOf(text: string, whole: boolean, max: number): number | undefined {
  const value = Number(text);
  if (!text.trim() || !Number.isFinite(value) || value < 0 || value > max) return undefined;
  return whole && !Number.isInteger(value) ? undefined : value;
}

/** Which failures are tried again: all that may pass by themselves, or only chosen codes. */
function RetryOn({ codes, onChange }: { codes: readonly string[] | string | undefined; onChange: (codes: string[] | undefined) => void }) {
  const ids = useId();
  const chosen = codesOf(codes);
  const offered = [...ERROR_CODES, ...chosen.filter((code) => !ERROR_CODES.some(([known]) => known === code)).map((code) => [code, ""] as [string, string])];
  const set = (next: readonly string[]) => onChange(next.length > 0 ? [...next] : undefined);
  return (
    <fieldset className="fb-field fb-codes">
      <legend>Try again after</legend>
      {offered.map(([code, meaning]) => (
        <label key={code} htmlFor={`${ids}-${code}`}>
          <input
            id={`${ids}-${code}`}
            type="checkbox"
            checked={chosen.includes(code)}
            onChange={(event) => set(event.target.checked ? [...chosen, code] : chosen.filter((item) => item !== code))}
          />
          <code>{code}</code> <span className="fb-muted">{meaning}</span>
        </label>
      ))}
      <input
        aria-label="Another error code"
        className="fb-code"
        placeholder="Another code, then Enter"
        autoComplete="off"
        spellCheck={false}
        onKeyDown={(event) => {
          const code = event.currentTarget.value.trim();
          if (event.key !== "Enter" || !code) return;
          if (!chosen.includes(code)) set([...chosen, code]);
          event.currentTarget.value = "";
        }}
      />
      <p className="fb-help">
        {chosen.length === 0
          ? "None chosen: every failure that may pass by itself."
          : "Other failures end the step at once."}
      </p>
    </fieldset>
  );
}

/** Return the codes of a stored list or of a text with commas. */
export function codesOf(codes: readonly string[] | string | undefined): string[] {
  const list = typeof codes === "string" ? codes.split(",") : (codes ?? []);
  return list.map((code) => String(code).trim()).filter(Boolean);
}
